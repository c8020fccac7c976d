//! `io.debezium.transforms.TimezoneConverter`: instants of a row shown in another time zone.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, FixedOffset, MappedLocalTime, NaiveDateTime, Offset, TimeZone, Utc};

use super::config::Options;
use super::edit;
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::record::Record;
use crate::event::schema::Schema;

#[derive(Clone, Copy, Debug)]
enum Zone {
    Fixed(FixedOffset),
    Named(chrono_tz::Tz),
}

impl Zone {
    /// A zone's name, or `±hh:mm`, `±hh:mm:ss`.
    fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let sign = match bytes.first()? {
            b'+' => 1,
            b'-' => -1,
            // names that Java's ZoneId does not take
            _ if matches!(text, "EST" | "MST" | "HST") => return None,
            _ => return text.parse().ok().map(Self::Named),
        };
        let mut seconds = 0;
        let parts: Vec<&str> = text.get(1..)?.split(':').collect();
        if !(2..=3).contains(&parts.len()) {
            return None;
        }
        for (part, unit) in parts.iter().zip([3600, 60, 1]) {
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let n: i32 = part.parse().ok()?;
            if unit < 3600 && n > 59 {
                return None;
            }
            seconds += n * unit;
        }
        // Java's limit
        if seconds > 18 * 3600 {
            return None;
        }
        FixedOffset::east_opt(sign * seconds).map(Self::Fixed)
    }

    /// The offset from UTC at an instant.
    fn at(self, at: DateTime<Utc>) -> FixedOffset {
        match self {
            Self::Fixed(offset) => offset,
            Self::Named(tz) => tz.offset_from_utc_datetime(&at.naive_utc()).fix(),
        }
    }

    /// The offset at a wall clock's time, as Java's `ZoneRules.getOffset(LocalDateTime)`: the one before a change
    /// where the time is twice or not at all.
    fn at_local(self, local: NaiveDateTime) -> FixedOffset {
        match self {
            Self::Fixed(offset) => offset,
            Self::Named(tz) => match tz.offset_from_local_datetime(&local) {
                MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => offset.fix(),
                MappedLocalTime::None => {
                    let before = local - chrono::Duration::hours(3);
                    tz.offset_from_utc_datetime(&before).fix()
                }
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Only,
    Except,
}

/// Fields by table or topic.
type Rules = BTreeMap<String, BTreeSet<String>>;

pub(super) struct TimezoneConverter {
    zone: Zone,
    /// The scope of a rule's fields; `All` where there are no rules.
    scope: Scope,
    topics: Rules,
    tables: Rules,
    either: Rules,
}

const RULES: &str =
    "source:TABLE[:FIELD], topic:TOPIC[:FIELD] or NAME:FIELD, several by comma, the prefix once";

impl TimezoneConverter {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        let text = own.required("converted.timezone")?;
        let zone = Zone::parse(text)
            .ok_or_else(|| own.error("converted.timezone", "a zone (Europe/Berlin) or an offset (+02:00)"))?;
        let (include, exclude) = (own.list("include.list"), own.list("exclude.list"));
        let (name, list, scope) = match (include.is_empty(), exclude.is_empty()) {
            (true, true) => ("include.list", include, Scope::All),
            (false, true) => ("include.list", include, Scope::Only),
            (true, false) => ("exclude.list", exclude, Scope::Except),
            (false, false) => return Err(own.error("exclude.list", "nothing: include.list is set")),
        };
        let mut new = Self { zone, scope, topics: Rules::new(), tables: Rules::new(), either: Rules::new() };
        if !list.is_empty() && !well_formed(&list) {
            return Err(own.error(name, RULES));
        }
        let mut prefix = None;
        for item in &list {
            new.add(item, &mut prefix);
        }
        Ok(new)
    }

    /// Adds a rule. A prefix holds for the rules after it that have none.
    fn add(&mut self, item: &str, prefix: &mut Option<bool>) {
        let parts: Vec<&str> = item.split(':').collect();
        let (name, field) = match parts[..] {
            [kind, name, ..] if kind.eq_ignore_ascii_case("source") || kind.eq_ignore_ascii_case("topic") => {
                *prefix = Some(kind.eq_ignore_ascii_case("topic"));
                (name, parts.get(2))
            }
            [name, ..] => (name, parts.get(1)),
            [] => return,
        };
        let rules = match prefix {
            Some(true) => &mut self.topics,
            Some(false) => &mut self.tables,
            None => &mut self.either,
        };
        rules.entry(name.to_owned()).or_default().extend(field.map(|f| (*f).to_owned()));
    }

    fn rule(&self, table: Option<&str>, topic: &str) -> Option<&BTreeSet<String>> {
        let table =
            |rules: &'_ Rules| table.is_some_and(|t| rules.contains_key(t)).then_some(table).flatten();
        if let Some(fields) = self.topics.get(topic) {
            return Some(fields);
        }
        if let Some(table) = table(&self.tables) {
            return self.tables.get(table);
        }
        if let Some(fields) = self.either.get(topic) {
            return Some(fields);
        }
        table(&self.either).and_then(|t| self.either.get(t))
    }

    fn convert(&self, schema: &Schema, datum: &Datum<'_>) -> Result<Option<Datum<'static>>, String> {
        let wrong = |_| "a value that is not a time with an offset".to_owned();
        // the wall clock in UTC is taken for one of the zone
        let shifted = |n: i64, per_second: i64| -> Result<Option<Datum<'static>>, String> {
            let at = DateTime::<Utc>::from_timestamp(n.div_euclid(per_second), 0)
                .ok_or("a timestamp that is out of range")?;
            let offset = i64::from(self.zone.at_local(at.naive_utc()).local_minus_utc());
            Ok(Some(Datum::Int(n.wrapping_sub(offset.wrapping_mul(per_second)))))
        };
        match (schema.name.as_deref(), datum) {
            (Some("io.debezium.time.ZonedTimestamp"), d) => {
                let at = DateTime::parse_from_rfc3339(d.as_str().unwrap_or("")).map_err(wrong)?;
                let local = at.with_timezone(&self.zone.at_local(at.naive_local()));
                let mut out = local.format("%Y-%m-%dT%H:%M:%S").to_string();
                fraction(&mut out, local.timestamp_subsec_nanos());
                offset(&mut out, *local.offset());
                Ok(Some(Datum::Str(out.into())))
            }
            (Some("io.debezium.time.ZonedTime"), d) => {
                // a day of its own lets the time be read with its offset
                let text = format!("2000-01-02T{}", d.as_str().unwrap_or(""));
                let at = DateTime::parse_from_rfc3339(&text).map_err(wrong)?;
                let local = at.with_timezone(&self.zone.at(Utc::now()));
                let mut out = local.format("%H:%M:%S").to_string();
                fraction(&mut out, local.timestamp_subsec_nanos());
                offset(&mut out, *local.offset());
                Ok(Some(Datum::Str(out.into())))
            }
            (
                Some("io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp"),
                Datum::Int(n),
            ) => shifted(*n, 1000),
            (Some("io.debezium.time.MicroTimestamp"), Datum::Int(n)) => shifted(*n, 1_000_000),
            (Some("io.debezium.time.NanoTimestamp"), Datum::Int(n)) => shifted(*n, 1_000_000_000),
            _ => Ok(None),
        }
    }

    /// `ts_ms`, `ts_us`, `ts_ns` of the source block, moved by the zone's offset.
    fn epoch(&self, name: &str, n: i64) -> Option<i64> {
        let per_second = match name {
            "ts_ms" => 1000,
            "ts_us" => 1_000_000,
            "ts_ns" => 1_000_000_000,
            _ => return None,
        };
        let at = DateTime::<Utc>::from_timestamp(n.div_euclid(per_second), 0)?;
        Some(n.wrapping_add(i64::from(self.zone.at(at).local_minus_utc()) * per_second))
    }

    /// Converts the fields of one struct of the envelope.
    fn block(
        &self,
        name: &str,
        schema: &Schema,
        values: &mut [Datum<'_>],
        scope: Scope,
        fields: &BTreeSet<&str>,
    ) -> Result<(), String> {
        for (field, value) in schema.fields().iter().zip(values) {
            let wanted = match scope {
                Scope::All => true,
                Scope::Only => fields.contains(field.name.as_str()),
                Scope::Except => !fields.contains(field.name.as_str()),
            };
            if !wanted {
                continue;
            }
            if let (Datum::Null, Some(default)) = (&*value, &field.schema.default)
                && self.convert(&field.schema, default)?.is_some()
            {
                *value = default.clone();
            }
            if value.is_null() {
                continue;
            }
            let new = match (&field.schema.name, &*value) {
                (None, Datum::Int(n)) if name == "source" => self.epoch(&field.name, *n).map(Datum::Int),
                (Some(_), v) => {
                    self.convert(&field.schema, v).map_err(|e| format!("field {} holds {e}", field.name))?
                }
                _ => None,
            };
            if let Some(new) = new {
                *value = new;
            }
        }
        Ok(())
    }
}

/// Debezium's own check of a list, which sees it as `[a, b]`.
fn well_formed(list: &[String]) -> bool {
    const NAME: &str = r#"[".A-Za-z0-9_ \t\n\x0B\f\r]+"#;
    let pattern = format!(r"^\[(source|topic|{NAME}):({NAME}(?::{NAME})?(?:,|\]$))+$");
    let text = format!("[{}]", list.join(", "));
    fancy_regex::Regex::new(&pattern).is_ok_and(|r| r.is_match(&text).unwrap_or(false))
}

/// A fraction as long as it needs to be.
fn fraction(out: &mut String, nanos: u32) {
    if nanos > 0 {
        let text = format!(".{nanos:09}");
        out.push_str(text.trim_end_matches('0'));
    }
}

fn offset(out: &mut String, offset: FixedOffset) {
    let seconds = offset.local_minus_utc();
    if seconds == 0 {
        return out.push('Z');
    }
    let (sign, n) = if seconds < 0 { ('-', -seconds) } else { ('+', seconds) };
    out.push_str(&format!("{sign}{:02}:{:02}", n / 3600, n / 60 % 60));
    if n % 60 != 0 {
        out.push_str(&format!(":{:02}", n % 60));
    }
}

impl Transform for TimezoneConverter {
    fn headers(&self) -> super::Headers {
        super::Headers::Kept
    }

    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let Some(schema) = record.value_schema.clone().filter(|s| edit::is_envelope(s)) else {
            return Ok(Some(record));
        };
        let table = edit::get(&schema, &record.value, "source")
            .and_then(|(s, v)| edit::get(s, v, "table"))
            .and_then(|(_, v)| v.as_str());
        let (scope, rule) = match (self.scope, self.rule(table, &record.topic)) {
            (Scope::All, _) | (Scope::Except, None) => (Scope::All, None),
            (Scope::Only, None) => return Ok(Some(record)),
            (Scope::Only, Some(fields)) if fields.is_empty() => (Scope::All, None),
            (Scope::Except, Some(fields)) if fields.is_empty() => return Ok(Some(record)),
            (scope, rule) => (scope, rule),
        };
        let all = ["before", "after", "source"];
        let mut fields: [BTreeSet<&str>; 3] = Default::default();
        for field in rule.into_iter().flatten() {
            let (block, name) = match field.split_once('.') {
                Some((block, name)) if all.contains(&block) => (Some(block), name),
                _ => (None, field.as_str()),
            };
            for (at, candidate) in all.iter().enumerate() {
                let here =
                    block.is_none_or(|b| b == *candidate) && (block.is_some() || *candidate != "source");
                if let Some(set) = fields.get_mut(at).filter(|_| here) {
                    set.insert(name);
                }
            }
        }
        let Datum::Struct(blocks) = &mut record.value else { return Ok(Some(record)) };
        for (name, fields) in all.iter().zip(&fields) {
            if *name == "source" && fields.is_empty() {
                continue;
            }
            let (Some(at), Some(row)) = (schema.position(name), schema.field(name)) else { continue };
            if let Some(Datum::Struct(values)) = blocks.get_mut(at) {
                self.block(name, row, values, scope, fields)?;
            }
        }
        Ok(Some(record))
    }
}
