//! A whole record with its schemas: what transforms and converters other than JSON work on.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::EventError;
use super::datum::Datum;
use super::json::{self, JsonOptions};
use super::schema::Schema;
use crate::log::Batch;
use crate::log::batch::RecordBuilder;

/// A header of a [`Record`].
#[derive(Clone, Debug, PartialEq)]
pub struct Header<'a> {
    /// Name.
    pub name: String,
    /// Schema; `None` for a value without one.
    pub schema: Option<Arc<Schema>>,
    /// Value.
    pub value: Datum<'a>,
}

impl Header<'_> {
    /// A copy that borrows nothing.
    pub fn to_owned(&self) -> Header<'static> {
        let value = self.value.clone().into_owned();
        Header { name: self.name.clone(), schema: self.schema.clone(), value }
    }
}

/// A source record before its converters.
#[derive(Clone, Debug, PartialEq)]
pub struct Record<'a> {
    /// Topic.
    pub topic: String,
    /// Partition, where one was chosen.
    pub partition: Option<i32>,
    /// Timestamp in milliseconds since 1970, where one was set.
    pub timestamp: Option<i64>,
    /// Schema of the key; `None` for a null or schemaless key.
    pub key_schema: Option<Arc<Schema>>,
    /// Key.
    pub key: Datum<'a>,
    /// Schema of the value; `None` for a tombstone.
    pub value_schema: Option<Arc<Schema>>,
    /// Value.
    pub value: Datum<'a>,
    /// Headers in order.
    pub headers: Vec<Header<'a>>,
}

/// What happens to records on the slow path: transforms, then converters, then the batch.
pub trait Pipeline: Send {
    /// Takes a record; appends none, one or several to the batch.
    fn process(&mut self, record: Record<'_>, batch: &mut Batch) -> Result<(), EventError>;

    /// Whether what lies outside of the program, and is needed for every record, is there: a schema registry.
    fn ready(&self) -> Result<(), EventError> {
        Ok(())
    }

    /// Has records counted that are left out because they could not be done (`errors.tolerance=all`).
    fn count_skipped(&mut self, _counter: Arc<AtomicU64>) {}
}

/// The JSON converters, for records that come as values.
#[derive(Clone, Copy, Debug)]
pub struct JsonConverters {
    /// `key.converter.*`.
    pub key: JsonOptions,
    /// `value.converter.*`.
    pub value: JsonOptions,
    /// `header.converter.*` where headers are JSON too.
    pub header: Option<JsonOptions>,
}

impl JsonConverters {
    /// Appends the record.
    pub fn write(&self, record: &Record<'_>, batch: &mut Batch) {
        let topic = batch.topic(&record.topic);
        let mut out = batch.record(topic);
        if let Some(bytes) = envelope(record.key_schema.as_deref(), &record.key, &self.key) {
            out.key(|key| key.extend_from_slice(&bytes));
        }
        if let Some(bytes) = envelope(record.value_schema.as_deref(), &record.value, &self.value) {
            out.value(|value| value.extend_from_slice(&bytes));
        }
        write_headers(record, self.header.as_ref(), &mut out);
        if let Some(partition) = record.partition {
            out.partition(partition);
        }
        if let Some(timestamp) = record.timestamp {
            out.timestamp(timestamp);
        }
        out.finish();
    }
}

/// Appends a record's headers.
pub fn write_headers(record: &Record<'_>, json: Option<&JsonOptions>, out: &mut RecordBuilder<'_>) {
    let mut bytes = Vec::new();
    for header in &record.headers {
        bytes.clear();
        if header.value.is_null() && json.is_none() {
            out.header(header.name.as_bytes(), None);
            continue;
        }
        match &header.schema {
            Some(schema) => super::simple::header(&mut bytes, schema, &header.value, json),
            None => super::simple::schemaless(&mut bytes, &header.value),
        }
        out.header(header.name.as_bytes(), Some(&bytes));
    }
}

/// A value as `JsonConverter` writes it: with its schema where schemas are on; `None` for a null without schema.
pub fn envelope(schema: Option<&Schema>, datum: &Datum<'_>, options: &JsonOptions) -> Option<Vec<u8>> {
    if schema.is_none() && datum.is_null() {
        return None;
    }
    let mut out = Vec::new();
    write_envelope(&mut out, schema, datum, options);
    Some(out)
}

/// Appends what [`envelope`] gives; `null` for a null without schema.
pub fn write_envelope(out: &mut Vec<u8>, schema: Option<&Schema>, datum: &Datum<'_>, options: &JsonOptions) {
    if options.schemas {
        out.extend_from_slice(b"{\"schema\":");
        match schema {
            Some(schema) => schema.write_json(out, None, options),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"payload\":");
    }
    match schema {
        Some(schema) => json::write(out, schema, datum, options),
        None => json::write_schemaless(out, datum),
    }
    if options.schemas {
        out.push(b'}');
    }
}
