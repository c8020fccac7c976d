//! What the planner must know of connectors and formats: options, changelog modes, metadata.

use crate::engine::types::{DataType, TypeKind};

use super::catalog::{ColumnKind, Table};
use super::error::{Span, SqlError, SqlResult, nearest};

/// Which kinds of row come from a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceMode {
    /// `+I`.
    Append,
    /// `+I -U +U -D`.
    Retract,
    /// `+U -D`, by primary key.
    Upsert,
    /// Looked up or read once; `+I`.
    Lookup,
}

/// Which kinds of row a sink takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkMode {
    /// `+I`.
    Append,
    /// `+I +U -D` by primary key.
    Upsert,
    /// All.
    All,
}

/// Options a connector knows; a name that ends with `.` is a prefix.
fn known_options(connector: &str) -> Option<&'static [&'static str]> {
    Some(match connector {
        "kafka" => &[
            "topic",
            "topic-pattern",
            "properties.",
            "format",
            "value.format",
            "key.format",
            "key.fields",
            "key.fields-prefix",
            "value.fields-include",
            "scan.startup.mode",
            "scan.startup.timestamp-millis",
            "scan.startup.specific-offsets",
            "scan.bounded.mode",
            "scan.bounded.timestamp-millis",
            "scan.bounded.specific-offsets",
            "scan.topic-partition-discovery.interval",
            "scan.watermark.emit.strategy",
            "scan.watermark.idle-timeout",
            "scan.watermark.alignment.group",
            "scan.watermark.alignment.max-drift",
            "scan.watermark.alignment.update-interval",
            "scan.parallelism",
            "sink.partitioner",
            "sink.delivery-guarantee",
            "sink.semantic",
            "sink.transactional-id-prefix",
            "sink.transaction-naming-strategy",
            "millstream.dead-letter.topic",
            "sink.parallelism",
        ],
        "upsert-kafka" => &[
            "topic",
            "properties.",
            "key.format",
            "key.fields-prefix",
            "value.format",
            "value.fields-include",
            "scan.bounded.mode",
            "scan.bounded.timestamp-millis",
            "scan.bounded.specific-offsets",
            "scan.parallelism",
            "sink.parallelism",
            "sink.buffer-flush.max-rows",
            "sink.buffer-flush.interval",
            "sink.delivery-guarantee",
            "sink.transactional-id-prefix",
            "scan.watermark.emit.strategy",
            "scan.watermark.idle-timeout",
            "scan.watermark.alignment.group",
            "scan.watermark.alignment.max-drift",
            "scan.watermark.alignment.update-interval",
            "millstream.dead-letter.topic",
        ],
        "jdbc" => &[
            "url",
            "table-name",
            "driver",
            "username",
            "password",
            "compatible-mode",
            "connection.max-retry-timeout",
            "scan.partition.column",
            "scan.partition.num",
            "scan.partition.lower-bound",
            "scan.partition.upper-bound",
            "scan.fetch-size",
            "scan.auto-commit",
            "lookup.cache",
            "lookup.cache.max-rows",
            "lookup.cache.ttl",
            "lookup.cache.caching-missing-key",
            "lookup.max-retries",
            "lookup.partial-cache.max-rows",
            "lookup.partial-cache.expire-after-write",
            "lookup.partial-cache.expire-after-access",
            "lookup.partial-cache.cache-missing-key",
            "lookup.full-cache.reload-strategy",
            "lookup.full-cache.periodic-reload.interval",
            "lookup.full-cache.periodic-reload.schedule-mode",
            "lookup.full-cache.timed-reload.iso-time",
            "lookup.full-cache.timed-reload.interval-in-days",
            "lookup.async",
            "filter.handling.policy",
            "sink.buffer-flush.max-rows",
            "sink.buffer-flush.interval",
            "sink.max-retries",
            "sink.parallelism",
            "properties.",
            "millstream.create-table",
            "millstream.epoch-table",
            "millstream.lookup.full-cache.max-bytes",
        ],
        "filesystem" => &[
            "path",
            "format",
            "source.monitor-interval",
            "source.path.regex-pattern",
            "source.report-statistics",
            "millstream.dead-letter.topic",
            "sink.rolling-policy.",
            "sink.partition-commit.",
            "auto-compaction",
            "compaction.",
            "sink.parallelism",
            "partition.",
        ],
        "print" => &["print-identifier", "standard-error", "sink.parallelism"],
        "blackhole" => &["sink.parallelism"],
        "datagen" => &["rows-per-second", "number-of-rows", "fields.", "scan.parallelism"],
        _ => return None,
    })
}

const CONNECTORS: &[&str] = &["kafka", "upsert-kafka", "jdbc", "filesystem", "print", "blackhole", "datagen"];
const FORMATS: &[&str] =
    &["json", "debezium-json", "csv", "raw", "avro", "avro-confluent", "debezium-avro-confluent"];

/// Options of a format, without its name in front.
fn format_options(format: &str) -> &'static [&'static str] {
    match format {
        "json" => &[
            "fail-on-missing-field",
            "ignore-parse-errors",
            "timestamp-format.standard",
            "map-null-key.mode",
            "map-null-key.literal",
            "encode.decimal-as-plain-number",
            "encode.ignore-null-fields",
            "decode.json-parser.enabled",
        ],
        "debezium-json" => &[
            "schema-include",
            "ignore-parse-errors",
            "timestamp-format.standard",
            "map-null-key.mode",
            "map-null-key.literal",
            "encode.decimal-as-plain-number",
            "encode.ignore-null-fields",
        ],
        "csv" => &[
            "field-delimiter",
            "disable-quote-character",
            "quote-character",
            "allow-comments",
            "ignore-parse-errors",
            "array-element-delimiter",
            "escape-character",
            "null-literal",
            "empty-string-as-null",
            "trim-spaces",
            "write-bigdecimal-in-scientific-notation",
        ],
        "raw" => &["charset", "endianness"],
        "avro" => &["encoding", "codec", "timestamp_mapping.legacy"],
        "avro-confluent" | "debezium-avro-confluent" => &[
            "url",
            "subject",
            "schema",
            "basic-auth.credentials-source",
            "basic-auth.user-info",
            "bearer-auth.credentials-source",
            "bearer-auth.token",
            "ssl.",
            "properties.",
        ],
        _ => &[],
    }
}

/// Checks a table's options when it is used as a source or a sink.
pub fn check_options(table: &Table, sink: bool, span: Span) -> SqlResult<()> {
    let name = format!("default_catalog.default_database.{}", table.name);
    let what = if sink { ("sink for writing", "sink") } else { ("source for reading", "source") };
    let fail = |message: String| {
        let place = if span.line > 0 { span } else { table.span };
        SqlError::plan(place, format!("Unable to create a {} table '{name}': {message}", what.0))
    };
    let Some(connector) = table.options.get("connector") else {
        return Err(fail(
            "Table options do not contain an option key 'connector' for discovering a connector.".to_owned(),
        )
        .help(format!("WITH ('connector' = '…', …); known: {}", CONNECTORS.join(", "))));
    };
    let Some(known) = known_options(connector) else {
        let error = fail(format!(
            "Could not find any factory for identifier '{connector}' that implements 'org.apache.flink.table.factories.DynamicTableFactory' in the classpath.\nAvailable factory identifiers are: {}",
            CONNECTORS.join(", ")
        ));
        return Err(match nearest(connector, CONNECTORS.iter().copied()) {
            Some(near) => error.help(format!("did you mean '{near}'?")),
            None => error,
        });
    };
    match connector.as_str() {
        "print" | "blackhole" if !sink => {
            return Err(fail(format!(
                "Connector '{connector}' can only be used as a sink. It cannot be used as a source."
            )));
        }
        "datagen" if sink => {
            return Err(fail(
                "Connector 'datagen' can only be used as a source. It cannot be used as a sink.".to_owned(),
            ));
        }
        _ => {}
    }
    let mut formats: Vec<(String, &str)> = Vec::new();
    for (key, prefix) in [("format", ""), ("value.format", "value."), ("key.format", "key.")] {
        if let Some(format) = table.options.get(key) {
            if known.contains(&key) && !FORMATS.contains(&format.as_str()) {
                let error = fail(format!(
                    "Could not find any format factory for identifier '{format}'. Available factory identifiers are: {}",
                    FORMATS.join(", ")
                ));
                return Err(match nearest(format, FORMATS.iter().copied()) {
                    Some(near) => error.help(format!("did you mean '{near}'?")),
                    None => error,
                });
            }
            formats.push((prefix.to_owned(), format));
        }
    }
    let fits =
        |list: &[&str], key: &str| list.iter().any(|k| *k == key || k.ends_with('.') && key.starts_with(k));
    for key in table.options.keys() {
        if key == "connector" || key == "property-version" || fits(known, key) {
            continue;
        }
        let of_format = formats.iter().any(|(prefix, format)| {
            let inner = key
                .strip_prefix(prefix.as_str())
                .and_then(|k| k.strip_prefix(format))
                .and_then(|k| k.strip_prefix('.'));
            inner.is_some_and(|inner| fits(format_options(format), inner))
        });
        if !of_format {
            let mut all: Vec<String> = known.iter().map(|k| (*k).to_owned()).collect();
            for (prefix, format) in &formats {
                all.extend(format_options(format).iter().map(|k| format!("{prefix}{format}.{k}")));
            }
            let near = nearest(key, all.iter().map(String::as_str)).map(str::to_owned);
            let error = fail(format!(
                "Unsupported options found for '{connector}'. Unsupported options: {key}. Supported options: {}",
                all.join(", ")
            ));
            return Err(match near {
                Some(near) => error.help(format!("did you mean '{near}'?")),
                None => error,
            });
        }
    }
    // Watermarks come out with the rows that they are of, which is as often as either value allows.
    if let Some(strategy) = table.options.get("scan.watermark.emit.strategy")
        && !["on-event", "on-periodic"].contains(&strategy.to_ascii_lowercase().as_str())
    {
        return Err(fail(format!(
            "Invalid value for option 'scan.watermark.emit.strategy': Could not parse value '{strategy}'. Expected one of: \
             [on-event, on-periodic]"
        )));
    }
    let required: &[&[&str]] = match connector.as_str() {
        "kafka" => {
            &[&["properties.bootstrap.servers"], &["format", "value.format"], &["topic", "topic-pattern"]]
        }
        "upsert-kafka" => {
            &[&["properties.bootstrap.servers"], &["topic"], &["key.format"], &["value.format"]]
        }
        "jdbc" => &[&["url"], &["table-name"]],
        "filesystem" => &[&["path"], &["format"]],
        _ => &[],
    };
    for alternatives in required {
        if !alternatives.iter().any(|k| table.options.contains_key(*k)) {
            let missing = alternatives.first().copied().unwrap_or("");
            return Err(fail(format!(
                "One or more required options are missing. Missing required options are: {missing}"
            ))
            .help(format!("add '{missing}' = '…' to WITH")));
        }
    }
    for (format, of) in formats.iter().map(|(_, format)| (*format, table)) {
        super::unfit::types(format, of).map_or(Ok(()), |message| Err(fail(message)))?;
    }
    if table.options.contains_key("key.format")
        && connector == "kafka"
        && !table.options.contains_key("key.fields")
    {
        return Err(fail(
            "A key format 'key.format' requires the declaration of one or more of key fields using 'key.fields'."
                .to_owned(),
        )
        .help("'key.fields' = 'column;column' names the columns of the record's key"));
    }
    if let ("upsert-kafka", Some(format)) = (connector.as_str(), table.format())
        && (format.starts_with("debezium") || format == "debezium-avro-confluent")
    {
        return Err(fail(format!(
            "'upsert-kafka' connector doesn't support '{format}' as value format, because it is not in insert-only mode."
        )));
    }
    if connector == "datagen" {
        super::unfit::datagen(table).map_or(Ok(()), |message| Err(fail(message)))?;
    }
    let insert_only = table.format().is_some_and(|f| !f.starts_with("debezium"));
    match connector.as_str() {
        "kafka" if insert_only && !table.primary_key.is_empty() => Err(fail(format!(
            "The Kafka table '{name}' with '{}' format doesn't support defining PRIMARY KEY constraint on the table, because it can't guarantee the semantic of primary key.",
            table.format().unwrap_or("")
        ))
        .help("use 'connector' = 'upsert-kafka', a debezium format, or drop the PRIMARY KEY")),
        "upsert-kafka" if table.primary_key.is_empty() => Err(fail(
            "'upsert-kafka' tables require to define a PRIMARY KEY constraint. The PRIMARY KEY specifies which columns should be read from or write to the Kafka message key. The PRIMARY KEY also defines records in the 'upsert-kafka' table should update or delete on which keys.".to_owned(),
        )
        .help("add PRIMARY KEY (…) NOT ENFORCED")),
        _ => Ok(()),
    }
}

/// What a table gives as a source.
pub fn source_mode(table: &Table) -> SourceMode {
    match table.connector() {
        "upsert-kafka" => SourceMode::Upsert,
        "jdbc" => SourceMode::Lookup,
        _ if table.format().is_some_and(|f| f.starts_with("debezium")) => SourceMode::Retract,
        _ => SourceMode::Append,
    }
}

/// What a table takes as a sink.
pub fn sink_mode(table: &Table) -> SinkMode {
    match table.connector() {
        "upsert-kafka" => SinkMode::Upsert,
        "jdbc" if table.primary_key.is_empty() => SinkMode::Append,
        "jdbc" => SinkMode::Upsert,
        "print" | "blackhole" => SinkMode::All,
        _ if table.format().is_some_and(|f| f.starts_with("debezium")) => SinkMode::All,
        _ => SinkMode::Append,
    }
}

/// The connector's own type of a metadata key; `None` when it has no such key.
pub fn metadata_type(table: &Table, key: &str) -> Option<DataType> {
    let string = DataType::string();
    let ltz = DataType::new(TypeKind::TimestampLtz(3));
    let connector = table.connector();
    if matches!(connector, "kafka" | "upsert-kafka") {
        let found = match key {
            "topic" | "timestamp-type" => Some(string.clone().with_nullable(false)),
            "partition" => Some(DataType::not_null(TypeKind::Int)),
            "offset" => Some(DataType::not_null(TypeKind::BigInt)),
            "leader-epoch" => Some(DataType::new(TypeKind::Int)),
            "timestamp" => Some(ltz.clone().with_nullable(false)),
            "headers" => Some(DataType::not_null(TypeKind::Map(
                Box::new(string.clone().with_nullable(false)),
                Box::new(DataType::not_null(TypeKind::Varbinary(i32::MAX as u32))),
            ))),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    if connector == "filesystem" {
        return match key {
            "file.path" | "file.name" => Some(string.with_nullable(false)),
            "file.size" => Some(DataType::not_null(TypeKind::BigInt)),
            "file.modification-time" => Some(ltz.with_nullable(false)),
            _ => None,
        };
    }
    if !table.format().is_some_and(|f| f.starts_with("debezium")) {
        return None;
    }
    match key.strip_prefix("value.").unwrap_or(key) {
        "schema" | "source.database" | "source.schema" | "source.table" => Some(string),
        "ingestion-timestamp" | "source.timestamp" => Some(ltz),
        "source.properties" => Some(DataType::new(TypeKind::Map(Box::new(string.clone()), Box::new(string)))),
        _ => None,
    }
}

/// Metadata keys of a table, for help.
pub fn metadata_keys(table: &Table) -> Vec<&'static str> {
    let all = [
        "topic",
        "partition",
        "offset",
        "leader-epoch",
        "timestamp",
        "timestamp-type",
        "headers",
        "value.schema",
        "value.ingestion-timestamp",
        "value.source.timestamp",
        "value.source.database",
        "value.source.schema",
        "value.source.table",
        "value.source.properties",
        "file.path",
        "file.name",
        "file.size",
        "file.modification-time",
    ];
    all.into_iter().filter(|key| metadata_type(table, key).is_some()).collect()
}

/// Whether a table's rows come as long as the job runs.
pub fn is_endless(table: &crate::engine::plan::TableRef) -> bool {
    let option = |key: &str| table.options.get(key).map(String::as_str);
    match option("connector") {
        Some("filesystem") => option("source.monitor-interval").is_some(),
        Some("datagen") => option("number-of-rows").is_none(),
        Some("jdbc") => false,
        _ => option("scan.bounded.mode").is_none_or(|mode| mode.eq_ignore_ascii_case("unbounded")),
    }
}

/// Checks metadata columns.
pub fn check_metadata(table: &Table, sink: bool, span: Span) -> SqlResult<()> {
    for column in &table.columns {
        let ColumnKind::Metadata { key, virtual_ } = &column.kind else { continue };
        let writable = matches!(key.as_str(), "headers" | "timestamp");
        if sink && !virtual_ && !writable && table.connector() == "kafka" {
            return Err(SqlError::plan(
                span,
                format!(
                    "Invalid metadata key '{key}' in column '{}' of table 'default_catalog.default_database.{}'. The DynamicTableSink class of the connector supports the following metadata keys for writing:\nheaders\ntimestamp",
                    column.col.name, table.name
                ),
            )
            .help(format!("METADATA FROM '{key}' VIRTUAL is read only")));
        }
        let Some(native) = metadata_type(table, key) else {
            let keys = metadata_keys(table);
            let error = SqlError::plan(
                span,
                format!(
                    "Invalid metadata key '{key}' in column '{}' of table 'default_catalog.default_database.{}'. The DynamicTableSource class of the connector supports the following metadata keys for reading: {}",
                    column.col.name,
                    table.name,
                    keys.join(", ")
                ),
            );
            return Err(match nearest(key, keys.iter().copied()) {
                Some(near) => error.help(format!("did you mean '{near}'?")),
                None => error,
            });
        };
        if !super::types::castable(&native.kind, &column.col.data_type.kind) {
            return Err(SqlError::plan(
                span,
                format!(
                    "Invalid data type for metadata column '{}' with metadata key '{key}' of table 'default_catalog.default_database.{}'. The column cannot be declared as '{}' because the type must be castable from metadata type '{}'.",
                    column.col.name, table.name, column.col.data_type, native
                ),
            ));
        }
    }
    Ok(())
}
