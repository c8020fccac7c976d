//! The connector properties that shape events, typed. [`super::properties`] reads them.

use super::json::JsonOptions;
use super::regex::JavaRegex;
use crate::java::regex_list::RegexList;

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
#[derive(Clone, Debug, Default)]
pub struct TopicNaming {
    /// `prefix.schema.table`, of the `Schema…` strategies. The `Default…` strategies join database and table, and have
    /// no database for PostgreSQL: `prefix.table`.
    pub without_schema: bool,
    /// Of the `…Unicode` strategies: `_uXXXX` for what a topic's name may not hold.
    pub unicode: bool,
    /// Of the `…Regex` strategies.
    pub regex: Option<TopicRegex>,
}

/// How the `…Regex` naming strategies lead several tables into one topic.
#[derive(Clone, Debug)]
pub struct TopicRegex {
    /// `topic.regex`: topics that match it as a whole get another name.
    pub(super) topic: JavaRegex,
    /// `topic.replacement`.
    pub(super) replacement: String,
    /// The key's field that tells the tables of one topic apart; none without `topic.key.enforce.uniqueness`.
    pub(super) key: Option<KeyIdentity>,
}

/// The key's field that tells the tables of one topic apart.
#[derive(Clone, Debug)]
pub(super) struct KeyIdentity {
    /// `topic.key.field.name`.
    pub field: String,
    /// `topic.key.field.regex` and `topic.key.field.replacement`: what it holds instead of the table's own topic.
    pub regex: Option<(JavaRegex, String)>,
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
    pub patterns: RegexList,
    /// What to do.
    pub action: ColumnAction,
}

/// `message.key.columns`: one table pattern with its key columns in order.
#[derive(Clone, Debug)]
pub struct KeyColumns {
    /// Which tables: `schema.table`.
    pub tables: RegexList,
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
    pub column_include: Option<RegexList>,
    /// `column.exclude.list`.
    pub column_exclude: Option<RegexList>,
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
    pub message_include: Option<RegexList>,
    /// `message.prefix.exclude.list`.
    pub message_exclude: Option<RegexList>,
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
            topic_naming: TopicNaming::default(),
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

impl EventOptions {
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

    /// The topic of logical messages; `topic.delimiter` has no part in it.
    pub fn message_topic(&self) -> String {
        format!("{}.message", self.topic_prefix)
    }
}
