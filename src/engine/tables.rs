//! The WITH options of tables: which connector or format has them, what values they take, whether they say what a
//! table's rows are, and which of Flink's have nothing to do here. Planner and runtime both ask this table.

use super::options;

/// What values an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`, in any case.
    Flag,
    /// A whole number, not smaller than this.
    Whole(i64),
    /// `10 s`.
    Duration,
    /// `64 mb`.
    Size,
    /// One of these, in any case.
    OneOf(&'static [&'static str]),
}

impl Kind {
    /// What a value must be where this one is none.
    pub fn refuses(self, value: &str) -> Option<String> {
        let value = value.trim();
        match self {
            Self::Text => None,
            Self::Flag => (!["true", "false"].iter().any(|known| value.eq_ignore_ascii_case(known))).then(|| {
                format!("Unrecognized option for boolean: {value}. Expected either true or false(case insensitive)")
            }),
            Self::Whole(least) => match value.parse::<i64>() {
                Ok(number) if number >= least => None,
                Ok(_) => Some(format!("it must not be smaller than {least}")),
                Err(_) => Some(format!("For input string: \"{value}\"")),
            },
            Self::Duration => options::millis(value)
                .is_none()
                .then(|| "a duration is written as 500 ms, 10 s, 1 min, 2 h or 1 d".to_owned()),
            Self::Size => {
                options::bytes(value).is_none().then(|| "a size is written as 64 kb, 128 mb or 1 g".to_owned())
            }
            Self::OneOf(known) => (!known.iter().any(|known| value.eq_ignore_ascii_case(known)))
                .then(|| format!("Expected one of: [{}]", known.join(", "))),
        }
    }
}

/// What comes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It says what the table's rows are: with another value, state that was computed from them does not fit.
    Rows,
    /// It says where the table is, how it is reached, or how it is read and written.
    Way,
    /// It tunes what does not stand here, and changes no row: taken without a word.
    Needless,
    /// It has no effect, for this reason, which the user is told.
    Without(&'static str),
}

/// An option; a name that ends with `.` stands for all that begin so.
#[derive(Clone, Copy, Debug)]
pub struct TableOption {
    /// Its name; of a format, without the format's in front.
    pub name: &'static str,
    /// Its values.
    pub kind: Kind,
    /// What comes of it.
    pub effect: Effect,
}

impl TableOption {
    /// Whether an option of this name is meant.
    pub fn is(&self, name: &str) -> bool {
        self.name == name || self.name.ends_with('.') && name.starts_with(self.name)
    }
}

const fn rows(name: &'static str, kind: Kind) -> TableOption {
    TableOption { name, kind, effect: Effect::Rows }
}

const fn way(name: &'static str, kind: Kind) -> TableOption {
    TableOption { name, kind, effect: Effect::Way }
}

const fn needless(name: &'static str, kind: Kind) -> TableOption {
    TableOption { name, kind, effect: Effect::Needless }
}

const fn without(name: &'static str, kind: Kind, why: &'static str) -> TableOption {
    TableOption { name, kind, effect: Effect::Without(why) }
}

use Kind::{Duration, Flag, OneOf, Size, Text, Whole};

const PARALLELISM: Kind = Whole(1);
const GUARANTEES: Kind = OneOf(&["none", "at-least-once", "exactly-once"]);
const FIELDS: Kind = OneOf(&["ALL", "EXCEPT_KEY"]);
const BOUNDED: Kind =
    OneOf(&["unbounded", "latest-offset", "group-offsets", "timestamp", "specific-offsets"]);
/// Watermarks come out with the rows that they are of, which is as often as either value allows.
const EMIT: TableOption = needless("scan.watermark.emit.strategy", OneOf(&["on-event", "on-periodic"]));
const ALIGNMENT: &str = "partitions are read as they come, and what is ahead waits in state";
const COMPACTION: &str = "a file is as large as the rolling policy lets it grow";

const KAFKA: &[TableOption] = &[
    rows("topic", Text),
    rows("topic-pattern", Text),
    way("properties.", Text),
    rows("format", Text),
    rows("value.format", Text),
    rows("key.format", Text),
    rows("key.fields", Text),
    rows("key.fields-prefix", Text),
    rows("value.fields-include", FIELDS),
    way(
        "scan.startup.mode",
        OneOf(&["earliest-offset", "latest-offset", "group-offsets", "timestamp", "specific-offsets"]),
    ),
    way("scan.startup.timestamp-millis", Whole(i64::MIN)),
    way("scan.startup.specific-offsets", Text),
    way("scan.bounded.mode", BOUNDED),
    way("scan.bounded.timestamp-millis", Whole(i64::MIN)),
    way("scan.bounded.specific-offsets", Text),
    way("scan.topic-partition-discovery.interval", Duration),
    EMIT,
    way("scan.watermark.idle-timeout", Duration),
    without("scan.watermark.alignment.group", Text, ALIGNMENT),
    without("scan.watermark.alignment.max-drift", Duration, ALIGNMENT),
    without("scan.watermark.alignment.update-interval", Duration, ALIGNMENT),
    needless("scan.parallelism", PARALLELISM),
    way("sink.partitioner", Text),
    way("sink.delivery-guarantee", GUARANTEES),
    way("sink.semantic", GUARANTEES),
    way("sink.transactional-id-prefix", Text),
    needless("sink.transaction-naming-strategy", OneOf(&["INCREMENTING", "POOLING"])),
    way("millstream.dead-letter.topic", Text),
    needless("sink.parallelism", PARALLELISM),
];

const UPSERT_KAFKA: &[TableOption] = &[
    rows("topic", Text),
    way("properties.", Text),
    rows("key.format", Text),
    rows("key.fields-prefix", Text),
    rows("value.format", Text),
    rows("value.fields-include", FIELDS),
    way("scan.bounded.mode", BOUNDED),
    way("scan.bounded.timestamp-millis", Whole(i64::MIN)),
    way("scan.bounded.specific-offsets", Text),
    needless("scan.parallelism", PARALLELISM),
    needless("sink.parallelism", PARALLELISM),
    way("sink.buffer-flush.max-rows", Whole(0)),
    way("sink.buffer-flush.interval", Duration),
    way("sink.delivery-guarantee", GUARANTEES),
    way("sink.transactional-id-prefix", Text),
    EMIT,
    way("scan.watermark.idle-timeout", Duration),
    without("scan.watermark.alignment.group", Text, ALIGNMENT),
    without("scan.watermark.alignment.max-drift", Duration, ALIGNMENT),
    without("scan.watermark.alignment.update-interval", Duration, ALIGNMENT),
    way("millstream.dead-letter.topic", Text),
];

const JDBC: &[TableOption] = &[
    way("url", Text),
    rows("table-name", Text),
    needless("driver", Text),
    way("username", Text),
    way("password", Text),
    needless("compatible-mode", Text),
    // a database that is away is waited for
    needless("connection.max-retry-timeout", Duration),
    needless("scan.partition.column", Text),
    needless("scan.partition.num", Whole(1)),
    needless("scan.partition.lower-bound", Whole(i64::MIN)),
    needless("scan.partition.upper-bound", Whole(i64::MIN)),
    needless("scan.fetch-size", Whole(0)),
    needless("scan.auto-commit", Flag),
    way("lookup.cache", OneOf(&["NONE", "PARTIAL", "FULL"])),
    way("lookup.cache.max-rows", Whole(0)),
    way("lookup.cache.ttl", Duration),
    way("lookup.cache.caching-missing-key", Flag),
    needless("lookup.max-retries", Whole(0)),
    way("lookup.partial-cache.max-rows", Whole(0)),
    way("lookup.partial-cache.expire-after-write", Duration),
    way("lookup.partial-cache.expire-after-access", Duration),
    way("lookup.partial-cache.cache-missing-key", Flag),
    way("lookup.full-cache.reload-strategy", OneOf(&["PERIODIC", "TIMED"])),
    way("lookup.full-cache.periodic-reload.interval", Duration),
    needless("lookup.full-cache.periodic-reload.schedule-mode", OneOf(&["FIXED_DELAY", "FIXED_RATE"])),
    without(
        "lookup.full-cache.timed-reload.iso-time",
        Text,
        "the whole table is read again at an interval only",
    ),
    without(
        "lookup.full-cache.timed-reload.interval-in-days",
        Whole(1),
        "the whole table is read again at an interval only",
    ),
    needless("lookup.async", Flag),
    needless("filter.handling.policy", OneOf(&["ALWAYS", "NEVER"])),
    needless("sink.buffer-flush.max-rows", Whole(0)),
    needless("sink.buffer-flush.interval", Duration),
    needless("sink.max-retries", Whole(0)),
    needless("sink.parallelism", PARALLELISM),
    way("properties.", Text),
    way("millstream.create-table", Flag),
    way("millstream.epoch-table", Text),
    way("millstream.lookup.full-cache.max-bytes", Size),
];

const FILESYSTEM: &[TableOption] = &[
    rows("path", Text),
    rows("format", Text),
    way("source.monitor-interval", Duration),
    rows("source.path.regex-pattern", Text),
    needless("source.report-statistics", OneOf(&["ALL", "NONE"])),
    way("millstream.dead-letter.topic", Text),
    way("sink.rolling-policy.file-size", Size),
    way("sink.rolling-policy.rollover-interval", Duration),
    needless("sink.rolling-policy.check-interval", Duration),
    without("sink.rolling-policy.inactivity-interval", Duration, "a file ends at its size and its age"),
    way("sink.partition-commit.trigger", OneOf(&["process-time", "partition-time"])),
    way("sink.partition-commit.delay", Duration),
    way("sink.partition-commit.watermark-time-zone", Text),
    way("sink.partition-commit.policy.kind", Text),
    without("sink.partition-commit.policy.class", Text, "there are no Java classes here"),
    without("sink.partition-commit.policy.class.parameters", Text, "there are no Java classes here"),
    way("sink.partition-commit.success-file.name", Text),
    way("partition.default-name", Text),
    way("partition.time-extractor.kind", Text),
    without("partition.time-extractor.class", Text, "there are no Java classes here"),
    way("partition.time-extractor.timestamp-pattern", Text),
    way("partition.time-extractor.timestamp-formatter", Text),
    without("auto-compaction", Flag, COMPACTION),
    without("compaction.file-size", Size, COMPACTION),
    without("compaction.parallelism", PARALLELISM, COMPACTION),
    needless("sink.parallelism", PARALLELISM),
];

const PRINT: &[TableOption] =
    &[way("print-identifier", Text), way("standard-error", Flag), needless("sink.parallelism", PARALLELISM)];

const BLACKHOLE: &[TableOption] = &[needless("sink.parallelism", PARALLELISM)];

const DATAGEN: &[TableOption] = &[
    way("rows-per-second", Whole(i64::MIN)),
    rows("number-of-rows", Whole(i64::MIN)),
    rows("fields.", Text),
    needless("scan.parallelism", PARALLELISM),
];

/// The connectors, and which options they have.
pub const CONNECTORS: [(&str, &[TableOption]); 7] = [
    ("kafka", KAFKA),
    ("upsert-kafka", UPSERT_KAFKA),
    ("jdbc", JDBC),
    ("filesystem", FILESYSTEM),
    ("print", PRINT),
    ("blackhole", BLACKHOLE),
    ("datagen", DATAGEN),
];

// The formats have words of their own, Flink's, for values of these that they do not know.
const TIMESTAMPS: TableOption = rows("timestamp-format.standard", Text);
const NULL_KEY: TableOption = rows("map-null-key.mode", Text);

const JSON: &[TableOption] = &[
    rows("fail-on-missing-field", Flag),
    way("ignore-parse-errors", Flag),
    TIMESTAMPS,
    NULL_KEY,
    rows("map-null-key.literal", Text),
    rows("encode.decimal-as-plain-number", Flag),
    rows("encode.ignore-null-fields", Flag),
    rows("decode.json-parser.enabled", Flag),
];

const DEBEZIUM_JSON: &[TableOption] = &[
    rows("schema-include", Flag),
    way("ignore-parse-errors", Flag),
    TIMESTAMPS,
    NULL_KEY,
    rows("map-null-key.literal", Text),
    rows("encode.decimal-as-plain-number", Flag),
    rows("encode.ignore-null-fields", Flag),
];

const CSV: &[TableOption] = &[
    rows("field-delimiter", Text),
    rows("disable-quote-character", Flag),
    rows("quote-character", Text),
    rows("allow-comments", Flag),
    way("ignore-parse-errors", Flag),
    rows("array-element-delimiter", Text),
    rows("escape-character", Text),
    rows("null-literal", Text),
    rows("empty-string-as-null", Flag),
    rows("trim-spaces", Flag),
    rows("write-bigdecimal-in-scientific-notation", Flag),
];

const RAW: &[TableOption] = &[rows("charset", Text), rows("endianness", Text)];

const AVRO: &[TableOption] = &[
    rows("encoding", OneOf(&["binary", "json"])),
    without("codec", Text, "data is not compressed"),
    without("timestamp_mapping.legacy", Flag, "a TIMESTAMP is a timestamp of Avro, as with 'true'"),
];

const REGISTRY: &[TableOption] = &[
    way("url", Text),
    rows("subject", Text),
    rows("schema", Text),
    way("basic-auth.credentials-source", Text),
    way("basic-auth.user-info", Text),
    way("bearer-auth.credentials-source", Text),
    way("bearer-auth.token", Text),
    way("ssl.", Text),
    way("properties.", Text),
];

/// The formats, and which options they have.
pub const FORMATS: [(&str, &[TableOption]); 7] = [
    ("json", JSON),
    ("debezium-json", DEBEZIUM_JSON),
    ("csv", CSV),
    ("raw", RAW),
    ("avro", AVRO),
    ("avro-confluent", REGISTRY),
    ("debezium-avro-confluent", REGISTRY),
];

/// The options of a connector.
pub fn of_connector(name: &str) -> Option<&'static [TableOption]> {
    CONNECTORS.iter().find(|(connector, _)| *connector == name).map(|(_, options)| *options)
}

/// The options of a format.
pub fn of_format(name: &str) -> Option<&'static [TableOption]> {
    FORMATS.iter().find(|(format, _)| *format == name).map(|(_, options)| *options)
}

/// The option that a table with this connector calls so: its own, or that of one of the formats, with `key.` or
/// `value.` in front or without.
pub fn find(connector: &str, name: &str) -> Option<&'static TableOption> {
    let own = of_connector(connector)?.iter().find(|option| option.is(name));
    own.or_else(|| {
        let bare = name.strip_prefix("key.").or_else(|| name.strip_prefix("value.")).unwrap_or(name);
        let (format, inner) = bare.split_once('.')?;
        of_format(format)?.iter().find(|option| option.is(inner))
    })
}

/// Whether an option says what the rows of such a table are.
pub fn says_rows(connector: &str, name: &str) -> bool {
    name == "connector" || find(connector, name).is_some_and(|option| option.effect == Effect::Rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_of_their_kind() {
        assert!(Kind::Flag.refuses("TRUE").is_none());
        assert!(Kind::Flag.refuses("maybe").is_some());
        assert!(PARALLELISM.refuses("-3").is_some());
        assert!(PARALLELISM.refuses("many").is_some());
        assert!(Kind::Duration.refuses("1 h").is_none());
        assert!(FIELDS.refuses("except_key").is_none());
        assert!(FIELDS.refuses("nonsense").is_some());
    }

    /// An option that is said to be read stands as a literal in what reads it.
    #[test]
    fn what_is_read_is_read_somewhere() {
        fn texts(directory: &std::path::Path, out: &mut String) {
            for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if path.is_dir() {
                    texts(&path, out);
                } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("engine/tables.rs") {
                    out.push_str(&std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        let mut source = String::new();
        for part in ["engine", "sql", "runtime", "sink", "replay"] {
            texts(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(part), &mut source);
        }
        let of_connectors = CONNECTORS.iter().flat_map(|(_, options)| options.iter());
        for option in of_connectors.chain(FORMATS.iter().flat_map(|(_, options)| options.iter())) {
            let literal = format!("\"{}\"", option.name);
            let is_read = matches!(option.effect, Effect::Rows | Effect::Way);
            assert!(!is_read || source.contains(&literal), "nothing reads {}", option.name);
        }
    }

    #[test]
    fn what_needs_nothing_is_documented() {
        let page = include_str!("../../docs/connectors.md");
        for (_, options) in CONNECTORS.iter().chain(FORMATS.iter()) {
            for option in options.iter().filter(|option| option.effect == Effect::Needless) {
                assert!(
                    page.contains(&format!("`{}`", option.name)),
                    "{} is not in docs/connectors.md",
                    option.name
                );
            }
        }
    }
}
