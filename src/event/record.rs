//! A whole record with its schemas: what transforms and converters other than JSON work on.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::EventError;
use super::datum::Datum;
use super::json::{self, JsonOptions};
use super::schema::Schema;
use crate::log::Batch;
use crate::log::batch::{BatchRecord, RecordBuilder};

/// A header of a [`Record`].
#[derive(Clone, Debug, PartialEq)]
pub struct Header<'a> {
    /// Name.
    pub name: Cow<'a, str>,
    /// Schema; `None` for a value without one.
    pub schema: Option<Arc<Schema>>,
    /// Value.
    pub value: Datum<'a>,
}

impl<'a> Header<'a> {
    /// A header whose value a converter has written already: bytes without a schema, which no transform makes.
    pub fn written(name: &'a str, value: Option<&'a [u8]>) -> Self {
        let value = value.map_or(Datum::Null, |bytes| Datum::Bytes(Cow::Borrowed(bytes)));
        Self { name: Cow::Borrowed(name), schema: None, value }
    }

    /// The value of a header that is written already.
    pub fn as_written(&self) -> Option<&[u8]> {
        match (&self.schema, &self.value) {
            (None, Datum::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// A copy that borrows nothing.
    pub fn to_owned(&self) -> Header<'static> {
        let value = self.value.clone().into_owned();
        Header { name: Cow::Owned(self.name.as_ref().to_owned()), schema: self.schema.clone(), value }
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

    /// Takes a record whose key, value and headers are written; `null` says whether its value is a null, which may
    /// have bytes all the same. Only asked for where a [`super::flat::Shortcut`] says so.
    fn forward(
        &mut self,
        record: &BatchRecord<'_>,
        _null: bool,
        batch: &mut Batch,
    ) -> Result<(), EventError> {
        let topic = batch.topic(record.topic);
        let mut out = batch.record(topic);
        copy_content(record, &mut out);
        for (name, value) in record.headers() {
            out.header(name, value);
        }
        out.finish();
        Ok(())
    }

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

/// Copies key and value as they are.
pub fn copy_content(from: &BatchRecord<'_>, out: &mut RecordBuilder<'_>) {
    if let Some(bytes) = from.key {
        out.key(|key| key.extend_from_slice(bytes));
    }
    if let Some(bytes) = from.value {
        out.value(|value| value.extend_from_slice(bytes));
    }
}

/// Appends a record's headers.
pub fn write_headers(record: &Record<'_>, json: Option<&JsonOptions>, out: &mut RecordBuilder<'_>) {
    let mut bytes = Vec::new();
    for header in &record.headers {
        if let Some(written) = header.as_written() {
            out.header(header.name.as_bytes(), Some(written));
            continue;
        }
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
