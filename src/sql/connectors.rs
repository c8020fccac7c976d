//! What the planner must know of connectors and formats: options, changelog modes, metadata.

use crate::engine::format::metadata;
use crate::engine::tables::{self, CONNECTORS, FORMATS, TableOption};
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

/// The names of [`CONNECTORS`] or [`FORMATS`].
fn names(of: &[(&'static str, &[TableOption])]) -> Vec<&'static str> {
    of.iter().map(|(name, _)| *name).collect()
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
        .help(format!("WITH ('connector' = '…', …); known: {}", names(&CONNECTORS).join(", "))));
    };
    let Some(known) = tables::of_connector(connector) else {
        let error = fail(format!(
            "Could not find any factory for identifier '{connector}' that implements 'org.apache.flink.table.factories.DynamicTableFactory' in the classpath.\nAvailable factory identifiers are: {}",
            names(&CONNECTORS).join(", ")
        ));
        return Err(match nearest(connector, names(&CONNECTORS)) {
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
    let mut formats: Vec<(&str, &str)> = Vec::new();
    for (key, prefix) in [("format", ""), ("value.format", "value."), ("key.format", "key.")] {
        if let Some(format) = table.options.get(key) {
            if known.iter().any(|option| option.name == key) && tables::of_format(format).is_none() {
                let error = fail(format!(
                    "Could not find any format factory for identifier '{format}'. Available factory identifiers are: {}",
                    names(&FORMATS).join(", ")
                ));
                return Err(match nearest(format, names(&FORMATS)) {
                    Some(near) => error.help(format!("did you mean '{near}'?")),
                    None => error,
                });
            }
            formats.push((prefix, format));
        }
    }
    for (key, value) in &table.options {
        if key == "connector" || key == "property-version" {
            continue;
        }
        let of_format = || {
            formats.iter().find_map(|(prefix, format)| {
                let inner = key.strip_prefix(prefix)?.strip_prefix(format)?.strip_prefix('.')?;
                tables::of_format(format)?.iter().find(|option| option.is(inner))
            })
        };
        let Some(option) = known.iter().find(|option| option.is(key)).or_else(of_format) else {
            let mut all: Vec<String> = known.iter().map(|option| option.name.to_owned()).collect();
            for (prefix, format) in &formats {
                let inner = tables::of_format(format).unwrap_or_default();
                all.extend(inner.iter().map(|option| format!("{prefix}{format}.{}", option.name)));
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
        };
        if let Some(why) = option.kind.refuses(value) {
            return Err(fail(format!(
                "Invalid value for option '{key}'. Could not parse value '{value}' for key '{key}'. {why}"
            )));
        }
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
        && format.starts_with("debezium")
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
    if table.format() != Some("debezium-json") {
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
    metadata::keys().filter(|key| metadata_type(table, key).is_some()).collect()
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
