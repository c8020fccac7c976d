//! Reads the connector properties that shape events.
//!
//! Names and values are Debezium 3.6's; `capture` validates the whole configuration, here a value that
//! cannot be read is an [`EventError::Option`].

use super::EventError;
use super::json::JsonOptions;
use super::options::{
    Adjustment, BinaryMode, ColumnAction, ColumnRule, Converter, DEFAULT_PLACEHOLDER, DecimalMode,
    EventOptions, HstoreMode, IntervalMode, KeyColumns, KeyIdentity, ProcessingFailure, SkippedOperations,
    TimeMode, TopicNaming, TopicRegex,
};
use super::regex::JavaRegex;
use crate::java::regex_list::RegexList;

fn bad(name: &str, value: &str, expected: &str) -> EventError {
    EventError::Option { name: name.into(), value: value.into(), expected: expected.into() }
}

struct Properties<'p> {
    all: &'p [(&'p str, &'p str)],
}

impl<'p> Properties<'p> {
    fn get(&self, name: &str) -> Option<&'p str> {
        self.all.iter().find(|(n, _)| *n == name).map(|(_, v)| v.trim())
    }

    fn text(&self, name: &str, default: &str) -> String {
        self.get(name).unwrap_or(default).to_owned()
    }

    fn flag(&self, name: &str, default: bool) -> Result<bool, EventError> {
        match self.get(name) {
            None => Ok(default),
            Some(v) if v.eq_ignore_ascii_case("true") => Ok(true),
            Some(v) if v.eq_ignore_ascii_case("false") => Ok(false),
            Some(v) => Err(bad(name, v, "true or false")),
        }
    }

    fn patterns(&self, name: &str) -> Result<Option<RegexList>, EventError> {
        self.get(name).filter(|v| !v.is_empty()).map(|v| patterns(name, v)).transpose()
    }

    fn choice<T: Copy>(&self, name: &str, default: T, values: &[(&str, T)]) -> Result<T, EventError> {
        let Some(v) = self.get(name) else { return Ok(default) };
        values.iter().find(|(n, _)| n.eq_ignore_ascii_case(v)).map(|(_, t)| *t).ok_or_else(|| {
            let names: Vec<&str> = values.iter().map(|(n, _)| *n).collect();
            bad(name, v, &format!("one of {}", names.join(", ")))
        })
    }
}

impl EventOptions {
    /// Reads them from a connector's properties (config providers already resolved). `run_id` is left to the caller.
    pub fn from_properties<'p>(
        properties: impl IntoIterator<Item = (&'p str, &'p str)>,
    ) -> Result<Self, EventError> {
        let all: Vec<(&str, &str)> = properties.into_iter().collect();
        let p = Properties { all: &all };
        let adjustment = [
            ("none", Adjustment::None),
            ("avro", Adjustment::Avro),
            ("avro_unicode", Adjustment::AvroUnicode),
        ];
        let mut skipped = SkippedOperations { create: false, update: false, delete: false, truncate: true };
        if let Some(text) = p.get("skipped.operations") {
            skipped.truncate = false;
            for op in text.split(',').map(str::trim).filter(|o| !o.is_empty()) {
                match op {
                    "c" => skipped.create = true,
                    "u" => skipped.update = true,
                    "d" => skipped.delete = true,
                    "t" => skipped.truncate = true,
                    "none" => {}
                    _ => return Err(bad("skipped.operations", text, "a list of c, u, d, t, or none")),
                }
            }
        }
        let header_json = match p.get("header.converter") {
            Some(class) if class.ends_with("JsonConverter") => Some(json_options(&p, "header.converter")?),
            _ => None,
        };
        let strict_values = p.flag("millstream.strict.values", false)?;
        let money = p.get("money.fraction.digits").unwrap_or("2");
        Ok(Self {
            topic_prefix: p.text("topic.prefix", ""),
            topic_delimiter: p.text("topic.delimiter", "."),
            topic_naming: topic_naming(&p)?,
            topic_transaction: p.text("topic.transaction", "transaction"),
            topic_heartbeat_prefix: p
                .get("topic.heartbeat.prefix")
                .unwrap_or("__debezium-heartbeat")
                .to_owned(),
            topic_heartbeat_name: p.get("topic.heartbeat.name").filter(|n| !n.is_empty()).map(str::to_owned),
            notification_topic: p.get("notification.sink.topic.name").map(str::to_owned),
            database: p.text("database.dbname", ""),
            connector_name: "postgresql".into(),
            task_id: "0".into(),
            run_id: String::new(),
            decimal: p.choice(
                "decimal.handling.mode",
                DecimalMode::Precise,
                &[
                    ("precise", DecimalMode::Precise),
                    ("double", DecimalMode::Double),
                    ("string", DecimalMode::String),
                ],
            )?,
            money_fraction_digits: money
                .parse()
                .map_err(|_| bad("money.fraction.digits", money, "a number of digits"))?,
            time: p.choice(
                "time.precision.mode",
                TimeMode::Adaptive,
                &[
                    ("adaptive", TimeMode::Adaptive),
                    ("adaptive_time_microseconds", TimeMode::AdaptiveTimeMicroseconds),
                    ("connect", TimeMode::Connect),
                    ("isostring", TimeMode::IsoString),
                    ("microseconds", TimeMode::Microseconds),
                    ("nanoseconds", TimeMode::Nanoseconds),
                ],
            )?,
            binary: p.choice(
                "binary.handling.mode",
                BinaryMode::Bytes,
                &[
                    ("bytes", BinaryMode::Bytes),
                    ("base64", BinaryMode::Base64),
                    ("base64-url-safe", BinaryMode::Base64UrlSafe),
                    ("hex", BinaryMode::Hex),
                ],
            )?,
            hstore: p.choice(
                "hstore.handling.mode",
                HstoreMode::Json,
                &[("json", HstoreMode::Json), ("map", HstoreMode::Map)],
            )?,
            interval: p.choice(
                "interval.handling.mode",
                IntervalMode::Numeric,
                &[("numeric", IntervalMode::Numeric), ("string", IntervalMode::String)],
            )?,
            include_unknown: p.flag("include.unknown.datatypes", false)? || strict_values,
            placeholder: placeholder(p.get("unavailable.value.placeholder").unwrap_or(DEFAULT_PLACEHOLDER))?,
            schema_adjustment: p.choice("schema.name.adjustment.mode", Adjustment::None, &adjustment)?,
            field_adjustment: p.choice("field.name.adjustment.mode", Adjustment::None, &adjustment)?,
            column_include: p.patterns("column.include.list")?,
            column_exclude: p.patterns("column.exclude.list")?,
            key_columns: key_columns(&p)?,
            column_rules: column_rules(&p)?,
            include_comments: p.flag("include.schema.comments", false)?,
            skipped,
            skip_unchanged: p.flag("skip.messages.without.change", false)?,
            tombstones: p.flag("tombstones.on.delete", true)?,
            extended_headers: p.flag("extended.headers.enabled", true)?,
            transaction_metadata: p.flag("provide.transaction.metadata", false)?,
            message_include: p.patterns("message.prefix.include.list")?,
            message_exclude: p.patterns("message.prefix.exclude.list")?,
            key_converter: converter(&p, "key.converter")?,
            value_converter: converter(&p, "value.converter")?,
            header_json,
            strict_values,
            converting_fails: p.choice(
                "event.converting.failure.handling.mode",
                false,
                &[("warn", false), ("skip", false), ("fail", true)],
            )?,
            processing_failure: p.choice(
                "event.processing.failure.handling.mode",
                ProcessingFailure::Fail,
                &[
                    ("fail", ProcessingFailure::Fail),
                    ("warn", ProcessingFailure::Warn),
                    ("skip", ProcessingFailure::Skip),
                    ("ignore", ProcessingFailure::Skip),
                ],
            )?,
        })
    }
}

fn placeholder(text: &str) -> Result<Vec<u8>, EventError> {
    match text.strip_prefix("hex:") {
        None => Ok(text.as_bytes().to_vec()),
        Some(hex) if hex.len() % 2 == 0 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Ok(super::datum::unhex(hex.as_bytes()))
        }
        Some(_) => Err(bad("unavailable.value.placeholder", text, "pairs of hexadecimal digits after hex:")),
    }
}

fn json_options(p: &Properties<'_>, prefix: &str) -> Result<JsonOptions, EventError> {
    let format = format!("{prefix}.decimal.format");
    Ok(JsonOptions {
        schemas: p.flag(&format!("{prefix}.schemas.enable"), true)?,
        numeric_decimals: p.choice(&format, false, &[("BASE64", false), ("NUMERIC", true)])?,
        replace_null_with_default: p.flag(&format!("{prefix}.replace.null.with.default"), true)?,
    })
}

fn converter(p: &Properties<'_>, prefix: &str) -> Result<Converter, EventError> {
    match p.get(prefix) {
        None => Ok(Converter::Json(json_options(p, prefix)?)),
        Some(class) if class.ends_with("JsonConverter") => Ok(Converter::Json(json_options(p, prefix)?)),
        Some(class) => Ok(Converter::Other(class.to_owned())),
    }
}

fn key_columns(p: &Properties<'_>) -> Result<Vec<KeyColumns>, EventError> {
    let name = "message.key.columns";
    let Some(text) = p.get(name) else { return Ok(Vec::new()) };
    let mut out = Vec::new();
    for part in text.split(';').map(str::trim).filter(|s| !s.is_empty()) {
        let (tables, columns) =
            part.rsplit_once(':').ok_or_else(|| bad(name, text, "schema.table:column,column;…"))?;
        let columns: Vec<String> =
            columns.split(',').map(|c| c.trim().to_owned()).filter(|c| !c.is_empty()).collect();
        if columns.is_empty() {
            return Err(bad(name, text, "at least one column after each table"));
        }
        out.push(KeyColumns { tables: patterns(name, tables)?, columns });
    }
    Ok(out)
}

/// The list of expressions that the property `name` holds.
fn patterns(name: &str, text: &str) -> Result<RegexList, EventError> {
    RegexList::parse(text).map_err(|e| bad(name, &e.entry, &format!("a regular expression ({})", e.cause)))
}

fn column_rules(p: &Properties<'_>) -> Result<Vec<ColumnRule>, EventError> {
    let mut rules = Vec::new();
    for (name, value) in p.all {
        let Some(rest) = name.strip_prefix("column.truncate.to.") else { continue };
        let Some(n) = rest.strip_suffix(".chars") else { continue };
        let n = n.parse().map_err(|_| bad(name, n, "a number of characters in the name"))?;
        rules.push(ColumnRule { patterns: patterns(name, value)?, action: ColumnAction::Truncate(n) });
    }
    for (name, value) in p.all {
        let Some(rest) = name.strip_prefix("column.mask.with.") else { continue };
        let Some(n) = rest.strip_suffix(".chars") else { continue };
        let n = n.parse().map_err(|_| bad(name, n, "a number of characters in the name"))?;
        rules.push(ColumnRule { patterns: patterns(name, value)?, action: ColumnAction::Mask(n) });
    }
    if let Some(patterns) = p.patterns("column.propagate.source.type")? {
        rules.push(ColumnRule { patterns, action: ColumnAction::Propagate });
    }
    if let Some(patterns) = p.patterns("datatype.propagate.source.type")? {
        rules.push(ColumnRule { patterns, action: ColumnAction::PropagateType });
    }
    for (name, value) in p.all {
        let Some(rest) = name.strip_prefix("column.mask.hash.") else { continue };
        let (rest, v2) = match rest.strip_prefix("v2.") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        // without a salt it is no such property
        let Some((algorithm, salt)) = rest.split_once(".with.salt.").filter(|(_, salt)| !salt.is_empty())
        else {
            continue;
        };
        let action = ColumnAction::Hash { algorithm: algorithm.to_owned(), salt: salt.to_owned(), v2 };
        super::columns::check_hash(name, &action)?;
        rules.push(ColumnRule { patterns: patterns(name, value)?, action });
    }
    Ok(rules)
}

fn topic_naming(p: &Properties<'_>) -> Result<TopicNaming, EventError> {
    let name = "topic.naming.strategy";
    let class = p.get(name).unwrap_or("io.debezium.schema.SchemaTopicNamingStrategy");
    let kind = class.strip_prefix("io.debezium.schema.").unwrap_or(class);
    let kind = kind.strip_suffix("TopicNamingStrategy").unwrap_or_default();
    let (without_schema, unicode, regex) = match kind {
        "Schema" => (false, false, false),
        "SchemaUnicode" => (false, true, false),
        "SchemaRegex" => (false, false, true),
        "Default" => (true, false, false),
        "DefaultUnicode" => (true, true, false),
        "DefaultRegex" => (true, false, true),
        _ => {
            let expected = "io.debezium.schema.SchemaTopicNamingStrategy, or there: SchemaUnicode…, SchemaRegex…, \
                            Default…, DefaultUnicode… or DefaultRegexTopicNamingStrategy";
            return Err(bad(name, class, expected));
        }
    };
    Ok(TopicNaming { without_schema, unicode, regex: regex.then(|| topic_regex(p)).transpose()? })
}

fn topic_regex(p: &Properties<'_>) -> Result<TopicRegex, EventError> {
    let regex = |name: &str, text: &str| JavaRegex::new(text).map_err(|e| bad(name, text, &e));
    let set = |name: &'static str| p.get(name).filter(|v| !v.is_empty());
    // a replacement without its expression, or the other way round, is refused as Debezium does
    let needed = |name: &'static str, by: &str| {
        set(name).ok_or_else(|| bad(name, "", &format!("a value: {by} needs it")))
    };
    let strategy = "the naming strategy";
    let key = if p.flag("topic.key.enforce.uniqueness", true)? {
        let own = match set("topic.key.field.regex") {
            None => None,
            Some(text) => Some((
                regex("topic.key.field.regex", text)?,
                needed("topic.key.field.replacement", "topic.key.field.regex")?.to_owned(),
            )),
        };
        Some(KeyIdentity {
            field: p.text("topic.key.field.name", "__dbz__physicalTableIdentifier"),
            regex: own,
        })
    } else {
        None
    };
    Ok(TopicRegex {
        topic: regex("topic.regex", needed("topic.regex", strategy)?)?,
        replacement: needed("topic.replacement", "topic.regex")?.to_owned(),
        key,
    })
}
