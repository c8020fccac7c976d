//! `io.debezium.transforms.TimezoneConverter`: instants of a row shown in another time zone.

use chrono::{DateTime, FixedOffset, Offset, TimeZone, Utc};

use super::config::Options;
use super::edit;
use super::{Transform, Transformed};
use crate::event::datum::Datum;
use crate::event::record::Record;
use crate::event::schema::Schema;
use crate::event::{EventError, EventOptions};

#[derive(Clone, Copy, Debug)]
enum Zone {
    Fixed(FixedOffset),
    Named(chrono_tz::Tz),
}

impl Zone {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(tz) = text.parse::<chrono_tz::Tz>() {
            return Some(Self::Named(tz));
        }
        if text == "Z" {
            return FixedOffset::east_opt(0).map(Self::Fixed);
        }
        let (sign, rest) = match text.as_bytes().first()? {
            b'+' => (1, &text[1..]),
            b'-' => (-1, &text[1..]),
            _ => return None,
        };
        let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
        let seconds = hours.parse::<i32>().ok()? * 3600 + minutes.parse::<i32>().ok()? * 60;
        FixedOffset::east_opt(sign * seconds).map(Self::Fixed)
    }

    /// The offset from UTC at an instant.
    fn offset(self, at: DateTime<Utc>) -> FixedOffset {
        match self {
            Self::Fixed(offset) => offset,
            Self::Named(tz) => tz.offset_from_utc_datetime(&at.naive_utc()).fix(),
        }
    }
}

/// `source:TABLE[:COLUMN]`, `topic:TOPIC[:COLUMN]`, or `NAME[:COLUMN]` for both.
#[derive(Clone, Debug)]
struct Entry {
    source: bool,
    topic: bool,
    name: String,
    column: Option<String>,
}

impl Entry {
    fn parse(text: &str) -> Self {
        let (source, topic, rest) = match text.split_once(':') {
            Some(("source", rest)) => (true, false, rest),
            Some(("topic", rest)) => (false, true, rest),
            _ => (true, true, text),
        };
        let (name, column) = match rest.split_once(':') {
            Some((name, column)) => (name, Some(column.to_owned())),
            None => (rest, None),
        };
        Self { source, topic, name: name.to_owned(), column }
    }
}

pub(super) struct TimezoneConverter {
    zone: Zone,
    include: Vec<Entry>,
    exclude: Vec<Entry>,
}

impl TimezoneConverter {
    pub(super) fn new(own: &Options<'_>, _options: &EventOptions) -> Result<Self, EventError> {
        let text = own.required("converted.timezone")?;
        let zone = Zone::parse(text)
            .ok_or_else(|| own.error("converted.timezone", "a zone (Europe/Berlin) or an offset (+02:00)"))?;
        let entries = |name: &str| own.list(name).iter().map(|t| Entry::parse(t)).collect::<Vec<_>>();
        Ok(Self { zone, include: entries("include.list"), exclude: entries("exclude.list") })
    }

    fn wanted(&self, table: &str, topic: &str, column: &str) -> bool {
        let hit = |e: &Entry| {
            ((e.source && e.name == table) || (e.topic && e.name == topic))
                && e.column.as_deref().is_none_or(|c| c == column)
        };
        if !self.include.is_empty() {
            return self.include.iter().any(hit);
        }
        !self.exclude.iter().any(hit)
    }

    fn convert(&self, schema: &Schema, datum: &mut Datum<'_>) {
        let shifted = |n: i64, per_second: i64| -> Option<i64> {
            let at = DateTime::<Utc>::from_timestamp(n.div_euclid(per_second), 0)?;
            Some(n + i64::from(self.zone.offset(at).local_minus_utc()) * per_second)
        };
        let new = match (schema.name.as_deref(), &*datum) {
            (Some("io.debezium.time.ZonedTimestamp"), d) => {
                d.as_str().and_then(|t| self.text(t)).map(Datum::string)
            }
            (
                Some("io.debezium.time.Timestamp" | "org.apache.kafka.connect.data.Timestamp"),
                Datum::Int(n),
            ) => shifted(*n, 1000).map(Datum::Int),
            (Some("io.debezium.time.MicroTimestamp"), Datum::Int(n)) => {
                shifted(*n, 1_000_000).map(Datum::Int)
            }
            (Some("io.debezium.time.NanoTimestamp"), Datum::Int(n)) => {
                shifted(*n, 1_000_000_000).map(Datum::Int)
            }
            _ => None,
        };
        if let Some(new) = new {
            *datum = new;
        }
    }

    /// An ISO instant in the zone; the fraction as long as needed.
    fn text(&self, text: &str) -> Option<String> {
        let at = DateTime::parse_from_rfc3339(text).ok()?.with_timezone(&Utc);
        let local = at.with_timezone(&self.zone.offset(at));
        let mut out = local.format("%Y-%m-%dT%H:%M:%S").to_string();
        let micros = local.timestamp_subsec_micros();
        if micros > 0 {
            let fraction = format!(".{micros:06}");
            out.push_str(fraction.trim_end_matches('0'));
        }
        let seconds = local.offset().local_minus_utc();
        if seconds == 0 {
            out.push('Z');
        } else {
            out.push_str(&local.format("%:z").to_string());
        }
        Some(out)
    }
}

impl Transform for TimezoneConverter {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let Some(schema) = record.value_schema.clone() else { return Ok(Some(record)) };
        let topic = record.topic.clone();
        if !edit::is_envelope(&schema) {
            if let Datum::Struct(values) = &mut record.value {
                for (f, v) in schema.fields().iter().zip(values) {
                    if self.wanted("", &topic, &f.name) {
                        self.convert(&f.schema, v);
                    }
                }
            }
            return Ok(Some(record));
        }
        let table = edit::get(&schema, &record.value, "source")
            .and_then(|(s, v)| edit::get(s, v, "table"))
            .and_then(|(_, v)| v.as_str())
            .unwrap_or("")
            .to_owned();
        let Datum::Struct(blocks) = &mut record.value else { return Ok(Some(record)) };
        for (block, value) in schema.fields().iter().zip(blocks) {
            if !matches!(block.name.as_str(), "before" | "after") {
                continue;
            }
            if let Datum::Struct(values) = value {
                for (f, v) in block.schema.fields().iter().zip(values) {
                    if self.wanted(&table, &topic, &f.name) {
                        self.convert(&f.schema, v);
                    }
                }
            }
        }
        Ok(Some(record))
    }
}
