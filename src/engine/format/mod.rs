//! Formats: bytes of a record to rows of a changelog, and back, as Flink's formats read and write them.
//!
//! Sources call [`decoder`] once per table and hand every record to it; sinks call [`encoder`]. Neither knows
//! topics or files: where a record came from stands in [`Input`], for metadata columns only.

mod absent;
pub mod avro;
pub(crate) mod csv;
mod debezium;
mod encode;
mod json;
mod json_decoder;
mod keyed;
pub(crate) mod metadata;
mod parser;
pub mod partitions;
mod raw;
mod schema;
pub mod text;

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::plan::TableRef;
use super::row::Change;

pub use super::zone::Zone;
pub use encode::Encoder;
pub use metadata::FILE_SIZE;

/// A record that cannot be decoded, or a row that cannot be encoded. It never holds a value of the row: the
/// runtime adds topic, partition and offset, by which the record can be looked up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}{}", column.as_ref().map(|c| format!(" (column {c})")).unwrap_or_default())]
pub struct FormatError {
    /// What is wrong.
    pub what: Cow<'static, str>,
    /// The column it is wrong in.
    pub column: Option<String>,
    /// What to do about it, where that is known.
    pub next: Option<Cow<'static, str>>,
    /// It may heal by itself (a schema registry is away): the record is to be tried again.
    pub transient: bool,
}

impl FormatError {
    pub(crate) fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self { what: what.into(), column: None, next: None, transient: false }
    }

    /// What may heal by itself.
    pub(crate) fn unavailable(what: impl Into<Cow<'static, str>>) -> Self {
        Self { transient: true, ..Self::new(what) }
    }

    /// Whether the text is no JSON at all, rather than another value than the column's.
    pub(crate) fn is_syntax(&self) -> bool {
        self.what.starts_with("not valid JSON")
    }

    pub(crate) fn next(mut self, next: impl Into<Cow<'static, str>>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Names the column, unless a nested one is named already.
    pub(crate) fn in_column(mut self, name: &str) -> Self {
        self.column = Some(match self.column {
            Some(inner) => format!("{name}.{inner}"),
            None => name.to_owned(),
        });
        self
    }
}

/// One record of an input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// Topic, or path of the file.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// Offset, or line number from 0.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The partition leader's epoch; `None` where there is none.
    pub leader_epoch: Option<i32>,
    /// Header names and values; empty unless [`Decoder::wants_headers`].
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// Turns records into changes of the source's table.
pub trait Decoder: Send {
    /// Appends the changes of one record; none for a record that the format skips. After an error nothing is
    /// appended.
    ///
    /// # Errors
    /// Where the record is not what the table's format and columns say.
    fn decode(&mut self, input: &Input<'_>, out: &mut Vec<Change>) -> Result<(), FormatError>;

    /// Whether a metadata column reads headers.
    fn wants_headers(&self) -> bool {
        false
    }

    /// Whether records that cannot be read are skipped (`ignore-parse-errors`) instead of failing.
    fn skips(&self) -> bool {
        false
    }

    /// Declared columns that the first records do not have, told once; asked after a fetch, and when no more records
    /// come (`ended`).
    fn take_absent(&mut self, _ended: bool) -> Option<String> {
        None
    }

    /// Why the last record was skipped, if it was; asked after each record where [`Self::skips`].
    fn take_skipped(&mut self) -> Option<FormatError> {
        None
    }
}

/// What a format needs to know besides the table.
#[derive(Clone, Debug)]
pub struct FormatContext {
    /// `table.local-time-zone`.
    pub zone: Zone,
    /// `millstream.compat.strict`: what Flink rejects is rejected.
    pub strict: bool,
    /// How schema registries are reached; without it the formats that need one are refused.
    pub registries: Option<std::sync::Arc<dyn avro::Registries>>,
}

impl FormatContext {
    /// From the options of a plan.
    ///
    /// # Errors
    /// Where the time zone is unknown.
    pub fn new(options: &BTreeMap<String, String>) -> Result<Self, FormatError> {
        let zone = options.get("table.local-time-zone").map_or("UTC", String::as_str);
        let zone = Zone::parse(zone).ok_or_else(|| {
            FormatError::new(format!("'table.local-time-zone': unknown time zone {zone}"))
                .next("use a name like Europe/Rome, or an offset like GMT+03:00")
        })?;
        Ok(Self { zone, strict: crate::engine::options::strict(options), registries: None })
    }
}

/// The decoder of a source table.
///
/// # Errors
/// Where the format or one of its options is not supported.
pub fn decoder(table: &TableRef, context: &FormatContext) -> Result<Box<dyn Decoder>, FormatError> {
    let upsert = table.options.get("connector").is_some_and(|c| c == "upsert-kafka");
    if upsert || FormatOptions::of_key(table).is_some() {
        return Ok(Box::new(keyed::KeyedDecoder::new(table, context, upsert)?));
    }
    value_decoder(table, context, false)
}

/// The decoder of records' values; formats of upsert tables and of keys only insert.
fn value_decoder(
    table: &TableRef,
    context: &FormatContext,
    insert_only: bool,
) -> Result<Box<dyn Decoder>, FormatError> {
    let options = FormatOptions::of_value(table)?;
    match options.name.as_str() {
        "debezium-json" if !insert_only => {
            Ok(Box::new(debezium::DebeziumDecoder::new(table, &options, context)?))
        }
        "debezium-avro-confluent" if !insert_only => {
            Ok(Box::new(avro::DebeziumAvroDecoder::new(table, &options, context)?))
        }
        "avro" | "avro-confluent" => Ok(Box::new(avro::AvroDecoder::new(table, &options, context)?)),
        "json" => Ok(Box::new(json_decoder::JsonDecoder::new(table, &options, context)?)),
        "csv" => Ok(Box::new(csv::CsvDecoder::new(table, &options, context)?)),
        "raw" => Ok(Box::new(raw::RawDecoder::new(table, &options, context)?)),
        name => Err(unsupported(table, name, insert_only)),
    }
}

/// Columns of the record's key, as places in the table: `key.fields`, or an upsert table's primary key.
fn key_columns(
    table: &TableRef,
    physical: &[(usize, super::types::Field)],
) -> Result<Vec<usize>, FormatError> {
    let upsert = table.options.get("connector").is_some_and(|c| c == "upsert-kafka");
    match table.options.get("key.fields") {
        Some(names) => names
            .split(';')
            .map(|name| {
                let found = physical.iter().find(|(_, f)| f.name == name.trim());
                found.map(|(i, _)| *i).ok_or_else(|| {
                    FormatError::new(format!("table {}: 'key.fields' names no column '{name}'", table.name))
                })
            })
            .collect(),
        None if upsert => Ok(table.primary_key.clone()),
        None if table.options.contains_key("key.format") => {
            Err(FormatError::new(format!("table {}: option 'key.fields' is missing", table.name))
                .next("'key.format' is set: say which columns are in the key, 'key.fields' = 'a;b'"))
        }
        None => Ok(Vec::new()),
    }
}

/// A key column under the name that it has in the key.
fn without_prefix(table: &TableRef, mut field: super::types::Field) -> super::types::Field {
    let prefix = table.options.get("key.fields-prefix").map_or("", String::as_str);
    if let Some(short) = field.name.strip_prefix(prefix) {
        field.name = short.to_owned();
    }
    field
}

/// The encoder of a sink table.
///
/// # Errors
/// Where the format or one of its options is not supported.
pub fn encoder(table: &TableRef, context: &FormatContext) -> Result<Encoder, FormatError> {
    Encoder::new(table, context)
}

fn unsupported(table: &TableRef, name: &str, insert_only: bool) -> FormatError {
    let known = if insert_only {
        "json, csv, raw, avro, avro-confluent"
    } else {
        "debezium-json, json, csv, raw, avro, avro-confluent, debezium-avro-confluent"
    };
    FormatError::new(format!("table {}: format '{name}' is not supported here", table.name))
        .next(format!("use one of: {known}"))
}

/// A format's name and its options without their prefix.
#[derive(Clone, Debug)]
pub(crate) struct FormatOptions {
    pub(crate) name: String,
    /// What stands before an option's name in the table's WITH, for messages.
    pub(crate) prefix: String,
    options: BTreeMap<String, String>,
}

impl FormatOptions {
    /// `format` with `NAME.option`, or `value.format` with `value.NAME.option`.
    pub(crate) fn of_value(table: &TableRef) -> Result<Self, FormatError> {
        Self::find(table, "format", "")
            .or_else(|| Self::find(table, "value.format", "value."))
            .ok_or_else(|| FormatError::new(format!("table {}: option 'format' is missing", table.name)))
    }

    /// `key.format` with `key.NAME.option`.
    pub(crate) fn of_key(table: &TableRef) -> Option<Self> {
        Self::find(table, "key.format", "key.")
    }

    fn find(table: &TableRef, option: &str, before: &str) -> Option<Self> {
        let name = table.options.get(option)?.clone();
        let prefix = format!("{before}{name}.");
        let options = table
            .options
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix(&prefix)?.to_owned(), v.clone())))
            .collect();
        Some(Self { name, prefix, options })
    }

    pub(crate) fn all(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    pub(crate) fn get(&self, option: &str) -> Option<&str> {
        self.options.get(option).map(String::as_str)
    }

    pub(crate) fn flag(&self, option: &str) -> Result<bool, FormatError> {
        match self.get(option).map(str::to_ascii_lowercase).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(text) => Err(FormatError::new(format!("Unrecognized option for boolean: {text}. Expected either true or false(case insensitive): option '{}{option}'", self.prefix))
                .next("write 'true' or 'false'")),
        }
    }

    /// `timestamp-format.standard`.
    pub(crate) fn timestamps(&self) -> Result<text::TimestampFormat, FormatError> {
        match self.get("timestamp-format.standard").unwrap_or("SQL") {
            "SQL" => Ok(text::TimestampFormat::Sql),
            "ISO-8601" => Ok(text::TimestampFormat::Iso8601),
            other => Err(FormatError::new(format!(
                "Unsupported value '{other}' for {}timestamp-format.standard. Supported values are [SQL, ISO-8601].",
                self.prefix
            ))),
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
