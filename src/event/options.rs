//! The connector properties that shape events, typed.
//!
//! Names and values are Debezium 3.6's; `capture` validates the whole configuration, here a value that
//! cannot be read is an [`EventError::Option`].

use super::EventError;
use super::filter::Patterns;
use super::json::JsonOptions;

/// `decimal.handling.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DecimalMode {
    /// Unscaled bytes.
    #[default]
    Precise,
    /// Double precision.
    Double,
    /// Plain text.
    String,
}

/// `time.precision.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimeMode {
    /// By the column's precision.
    #[default]
    Adaptive,
    /// As adaptive, times always in microseconds.
    AdaptiveTimeMicroseconds,
    /// Kafka Connect's logical types.
    Connect,
    /// ISO 8601 text.
    IsoString,
    /// Microseconds.
    Microseconds,
    /// Nanoseconds.
    Nanoseconds,
}

/// `binary.handling.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BinaryMode {
    /// Bytes.
    #[default]
    Bytes,
    /// Base64 text.
    Base64,
    /// URL-safe base64 text.
    Base64UrlSafe,
    /// Lower-case hexadecimal text.
    Hex,
}

/// `hstore.handling.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum HstoreMode {
    /// JSON text.
    #[default]
    Json,
    /// A map.
    Map,
}

/// `interval.handling.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IntervalMode {
    /// Microseconds, by the average month.
    #[default]
    Numeric,
    /// ISO 8601 text.
    String,
}

/// `schema.name.adjustment.mode` and `field.name.adjustment.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Adjustment {
    /// Names stay.
    #[default]
    None,
    /// What Avro does not allow becomes `_`.
    Avro,
    /// What Avro does not allow becomes `_uXXXX`.
    AvroUnicode,
}

/// `topic.naming.strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TopicNaming {
    /// `prefix.schema.table`.
    #[default]
    Schema,
    /// `prefix.schema.table` with `_uXXXX` escapes.
    SchemaUnicode,
    /// `prefix.table`: Debezium's default strategy joins database and table, and has no database for PostgreSQL.
    Default,
    /// As `Default`, with `_uXXXX` escapes.
    DefaultUnicode,
}

/// `skipped.operations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SkippedOperations {
    /// `c`.
    pub create: bool,
    /// `u`.
    pub update: bool,
    /// `d`.
    pub delete: bool,
    /// `t`.
    pub truncate: bool,
}

/// What a column rule does; the first that matches a column wins, in this order.
#[derive(Clone, Debug)]
pub enum ColumnAction {
    /// `column.truncate.to.N.chars`.
    Truncate(usize),
    /// `column.mask.with.N.chars`.
    Mask(usize),
    /// `column.propagate.source.type`.
    Propagate,
    /// `datatype.propagate.source.type`: the patterns are of type names.
    PropagateType,
    /// `column.mask.hash.ALGORITHM.with.salt.SALT`, and `v2`.
    Hash {
        /// `MD5`, `SHA-256`, …, as Java names them.
        algorithm: String,
        /// Salt.
        salt: String,
        /// `hash.v2`: over the plain bytes.
        v2: bool,
    },
}

/// A column rule.
#[derive(Clone, Debug)]
pub struct ColumnRule {
    /// Which columns: `schema.table.column`; `schema.table.type` for [`ColumnAction::PropagateType`].
    pub patterns: Patterns,
    /// What to do.
    pub action: ColumnAction,
}

/// `message.key.columns`: one table pattern with its key columns in order.
#[derive(Clone, Debug)]
pub struct KeyColumns {
    /// Which tables: `schema.table`.
    pub tables: Patterns,
    /// Key columns in order.
    pub columns: Vec<String>,
}

/// A converter, as `key.converter` and `value.converter` name it.
#[derive(Clone, Debug, PartialEq)]
pub enum Converter {
    /// `org.apache.kafka.connect.json.JsonConverter`.
    Json(JsonOptions),
    /// Anything else, by class name: only through a record pipeline.
    Other(String),
}

impl Default for Converter {
    fn default() -> Self {
        Converter::Json(JsonOptions::default())
    }
}

/// Everything of a connector's configuration that shapes events.
#[derive(Clone, Debug)]
pub struct EventOptions {
    /// `topic.prefix`: the logical name.
    pub topic_prefix: String,
    /// `topic.delimiter`.
    pub topic_delimiter: String,
    /// `topic.naming.strategy`.
    pub topic_naming: TopicNaming,
    /// `topic.transaction`.
    pub topic_transaction: String,
    /// `topic.heartbeat.prefix`.
    pub topic_heartbeat_prefix: String,
    /// `topic.heartbeat.name`: replaces the whole name.
    pub topic_heartbeat_name: Option<String>,
    /// `notification.sink.topic.name`.
    pub notification_topic: Option<String>,
    /// `database.dbname`.
    pub database: String,
    /// The connector's plugin name in headers.
    pub connector_name: String,
    /// Task id in headers.
    pub task_id: String,
    /// This run's id in headers: a UUID v7.
    pub run_id: String,
    /// `decimal.handling.mode`.
    pub decimal: DecimalMode,
    /// `money.fraction.digits`.
    pub money_fraction_digits: u16,
    /// `time.precision.mode`.
    pub time: TimeMode,
    /// `binary.handling.mode`.
    pub binary: BinaryMode,
    /// `hstore.handling.mode`.
    pub hstore: HstoreMode,
    /// `interval.handling.mode`.
    pub interval: IntervalMode,
    /// `include.unknown.datatypes`.
    pub include_unknown: bool,
    /// `unavailable.value.placeholder`, decoded where it was `hex:`.
    pub placeholder: Vec<u8>,
    /// `schema.name.adjustment.mode`.
    pub schema_adjustment: Adjustment,
    /// `field.name.adjustment.mode`.
    pub field_adjustment: Adjustment,
    /// `column.include.list`.
    pub column_include: Option<Patterns>,
    /// `column.exclude.list`.
    pub column_exclude: Option<Patterns>,
    /// `message.key.columns`.
    pub key_columns: Vec<KeyColumns>,
    /// Truncation, masks, hashes, propagated types: by precedence.
    pub column_rules: Vec<ColumnRule>,
    /// `include.schema.comments`.
    pub include_comments: bool,
    /// `skipped.operations`.
    pub skipped: SkippedOperations,
    /// `skip.messages.without.change`.
    pub skip_unchanged: bool,
    /// `tombstones.on.delete`.
    pub tombstones: bool,
    /// `extended.headers.enabled`.
    pub extended_headers: bool,
    /// `provide.transaction.metadata`.
    pub transaction_metadata: bool,
    /// `message.prefix.include.list`.
    pub message_include: Option<Patterns>,
    /// `message.prefix.exclude.list`.
    pub message_exclude: Option<Patterns>,
    /// `key.converter`.
    pub key_converter: Converter,
    /// `value.converter`.
    pub value_converter: Converter,
    /// `header.converter` writes JSON (else the simple text form).
    pub header_json: Option<JsonOptions>,
    /// `millstream.strict.values`.
    pub strict_values: bool,
    /// `event.converting.failure.handling.mode` is `fail`: no null for a value that cannot be converted.
    pub converting_fails: bool,
    /// `event.processing.failure.handling.mode`.
    pub processing_failure: ProcessingFailure,
}

/// `event.processing.failure.handling.mode`: what follows a change that cannot be made an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ProcessingFailure {
    /// The connector fails.
    #[default]
    Fail,
    /// It is left out, counted, and logged as a warning.
    Warn,
    /// It is left out and counted.
    Skip,
}

/// The placeholder of Debezium for unchanged TOASTed values.
pub const DEFAULT_PLACEHOLDER: &str = "__debezium_unavailable_value";

impl Default for EventOptions {
    fn default() -> Self {
        Self {
            topic_prefix: String::new(),
            topic_delimiter: ".".into(),
            topic_naming: TopicNaming::Schema,
            topic_transaction: "transaction".into(),
            topic_heartbeat_prefix: "__debezium-heartbeat".into(),
            topic_heartbeat_name: None,
            notification_topic: None,
            database: String::new(),
            connector_name: "postgresql".into(),
            task_id: "0".into(),
            run_id: String::new(),
            decimal: DecimalMode::Precise,
            money_fraction_digits: 2,
            time: TimeMode::Adaptive,
            binary: BinaryMode::Bytes,
            hstore: HstoreMode::Json,
            interval: IntervalMode::Numeric,
            include_unknown: false,
            placeholder: DEFAULT_PLACEHOLDER.as_bytes().to_vec(),
            schema_adjustment: Adjustment::None,
            field_adjustment: Adjustment::None,
            column_include: None,
            column_exclude: None,
            key_columns: Vec::new(),
            column_rules: Vec::new(),
            include_comments: false,
            skipped: SkippedOperations { create: false, update: false, delete: false, truncate: true },
            skip_unchanged: false,
            tombstones: true,
            extended_headers: true,
            transaction_metadata: false,
            message_include: None,
            message_exclude: None,
            key_converter: Converter::default(),
            value_converter: Converter::default(),
            header_json: None,
            strict_values: false,
            converting_fails: false,
            processing_failure: ProcessingFailure::Fail,
        }
    }
}

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

    fn patterns(&self, name: &str) -> Result<Option<Patterns>, EventError> {
        self.get(name).filter(|v| !v.is_empty()).map(|v| Patterns::parse(name, v)).transpose()
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
        let money = p.get("money.fraction.digits").unwrap_or("2");
        Ok(Self {
            topic_prefix: p.text("topic.prefix", ""),
            topic_delimiter: p.text("topic.delimiter", "."),
            topic_naming: match p.get("topic.naming.strategy").map(|c| c.rsplit('.').next().unwrap_or(c)) {
                None | Some("SchemaTopicNamingStrategy") => TopicNaming::Schema,
                Some("SchemaUnicodeTopicNamingStrategy") => TopicNaming::SchemaUnicode,
                Some("DefaultTopicNamingStrategy") => TopicNaming::Default,
                Some("DefaultUnicodeTopicNamingStrategy") => TopicNaming::DefaultUnicode,
                Some(v) => {
                    return Err(bad(
                        "topic.naming.strategy",
                        v,
                        "SchemaTopicNamingStrategy, SchemaUnicodeTopicNamingStrategy, DefaultTopicNamingStrategy or \
                         DefaultUnicodeTopicNamingStrategy",
                    ));
                }
            },
            topic_transaction: p.text("topic.transaction", "transaction"),
            topic_heartbeat_prefix: p
                .get("topic.heartbeat.prefix")
                .or_else(|| p.get("heartbeat.topics.prefix"))
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
            include_unknown: p.flag("include.unknown.datatypes", false)?,
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
            strict_values: p.flag("millstream.strict.values", false)?,
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

    /// The topic of heartbeats.
    pub fn heartbeat_topic(&self) -> String {
        self.topic_heartbeat_name.clone().unwrap_or_else(|| {
            format!("{}{}{}", self.topic_heartbeat_prefix, self.topic_delimiter, self.topic_prefix)
        })
    }

    /// The topic of transaction boundaries.
    pub fn transaction_topic(&self) -> String {
        format!("{}{}{}", self.topic_prefix, self.topic_delimiter, self.topic_transaction)
    }

    /// The topic of logical messages.
    pub fn message_topic(&self) -> String {
        format!("{}{}message", self.topic_prefix, self.topic_delimiter)
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
        out.push(KeyColumns { tables: Patterns::parse(name, tables)?, columns });
    }
    Ok(out)
}

fn column_rules(p: &Properties<'_>) -> Result<Vec<ColumnRule>, EventError> {
    let mut rules = Vec::new();
    for (name, value) in p.all {
        let Some(rest) = name.strip_prefix("column.truncate.to.") else { continue };
        let Some(n) = rest.strip_suffix(".chars") else { continue };
        let n = n.parse().map_err(|_| bad(name, n, "a number of characters in the name"))?;
        rules.push(ColumnRule { patterns: Patterns::parse(name, value)?, action: ColumnAction::Truncate(n) });
    }
    for (name, value) in p.all {
        let Some(rest) = name.strip_prefix("column.mask.with.") else { continue };
        let Some(n) = rest.strip_suffix(".chars") else { continue };
        let n = n.parse().map_err(|_| bad(name, n, "a number of characters in the name"))?;
        rules.push(ColumnRule { patterns: Patterns::parse(name, value)?, action: ColumnAction::Mask(n) });
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
        rules.push(ColumnRule { patterns: Patterns::parse(name, value)?, action });
    }
    Ok(rules)
}
