//! Kafka's transforms of topics, headers and schema names.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::config::Options;
use super::edit::{self, Derived};
use super::regex::JavaRegex;
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::record::{Header, Record};
use crate::event::schema::{Kind, Schema};

/// `RegexRouter`: the topic by a regular expression.
pub(super) struct RegexRouter {
    regex: JavaRegex,
    replacement: String,
}

impl RegexRouter {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        let replacement =
            own.get("replacement").ok_or_else(|| own.error("replacement", "a value"))?.to_owned();
        Ok(Self { regex: own.regex("regex")?, replacement })
    }
}

impl Transform for RegexRouter {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        if let Some(topic) = self.regex.replace(&record.topic, &self.replacement) {
            record.topic = topic;
        }
        Ok(Some(record))
    }
}

/// `TimestampRouter`: the topic by the record's timestamp.
pub(super) struct TimestampRouter {
    topic: String,
    format: String,
}

impl TimestampRouter {
    pub(super) fn new(own: &Options<'_>) -> Self {
        Self {
            topic: own.text("topic.format", "${topic}-${timestamp}"),
            format: super::kafka_values::chrono_format(&own.text("timestamp.format", "yyyyMMdd")),
        }
    }
}

impl Transform for TimestampRouter {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let ms = record.timestamp.ok_or("the record has no timestamp")?;
        let at = DateTime::<Utc>::from_timestamp_millis(ms).ok_or("the timestamp is out of range")?;
        let time = at.format(&self.format).to_string();
        record.topic = self.topic.replace("${topic}", &record.topic).replace("${timestamp}", &time);
        Ok(Some(record))
    }
}

/// `InsertHeader`: a literal header.
pub(super) struct InsertHeader {
    name: String,
    schema: Arc<Schema>,
    value: Datum<'static>,
}

impl InsertHeader {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        let (schema, value) = literal(own.required("value.literal")?);
        Ok(Self { name: own.required("header")?.to_owned(), schema: Arc::new(schema), value })
    }
}

/// A literal as Kafka Connect's `Values.parseString` reads it: the narrowest number, a boolean, else text.
fn literal(text: &str) -> (Schema, Datum<'static>) {
    if let Ok(n) = text.parse::<i64>() {
        let kind = if i8::try_from(n).is_ok() {
            Kind::Int8
        } else if i16::try_from(n).is_ok() {
            Kind::Int16
        } else if i32::try_from(n).is_ok() {
            Kind::Int32
        } else {
            Kind::Int64
        };
        return (Schema::new(kind), Datum::Int(n));
    }
    match text {
        "true" | "false" => (Schema::new(Kind::Boolean), Datum::Bool(text == "true")),
        _ => match text.parse::<f64>() {
            Ok(n) if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') => {
                (Schema::new(Kind::Float64), Datum::F64(n))
            }
            _ => (Schema::new(Kind::String), Datum::string(text)),
        },
    }
}

impl Transform for InsertHeader {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        record.headers.push(Header {
            name: self.name.clone(),
            schema: Some(Arc::clone(&self.schema)),
            value: self.value.clone(),
        });
        Ok(Some(record))
    }
}

/// `DropHeaders`.
pub(super) struct DropHeaders {
    names: Vec<String>,
}

impl DropHeaders {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        own.required("headers")?;
        Ok(Self { names: own.list("headers") })
    }
}

impl Transform for DropHeaders {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        record.headers.retain(|h| !self.names.contains(&h.name));
        Ok(Some(record))
    }
}

/// `HeaderFrom`: fields to headers.
pub(super) struct HeaderFrom {
    key: bool,
    pairs: Vec<(String, String)>,
    remove: bool,
}

impl HeaderFrom {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        let (fields, headers) = (own.list("fields"), own.list("headers"));
        if fields.is_empty() || fields.len() != headers.len() {
            return Err(own.error("headers", "as many headers as fields"));
        }
        own.required("operation")?;
        let remove = own.choice("operation", false, &[("move", true), ("copy", false)])?;
        Ok(Self { key, pairs: fields.into_iter().zip(headers).collect(), remove })
    }
}

impl Transform for HeaderFrom {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (Some(schema), value) = edit::take_side(&mut record, self.key) else { return Ok(Some(record)) };
        let Datum::Struct(mut values) = value else {
            edit::set_side(&mut record, self.key, Some(schema), value);
            return Ok(Some(record));
        };
        let mut fields = schema.fields().to_vec();
        for (field, header) in &self.pairs {
            let Some(at) = fields.iter().position(|f| f.name == *field) else { continue };
            let Some(value) = values.get(at).cloned() else { continue };
            record.headers.push(Header {
                name: header.clone(),
                schema: Some(Arc::clone(&fields[at].schema)),
                value,
            });
            if self.remove {
                fields.remove(at);
                values.remove(at);
            }
        }
        let schema = if self.remove { Arc::new(edit::with_fields(&schema, fields)) } else { schema };
        edit::set_side(&mut record, self.key, Some(schema), Datum::Struct(values));
        Ok(Some(record))
    }
}

/// `Filter`: drops whatever its predicate lets in.
pub(super) struct Filter;

impl Transform for Filter {
    fn apply<'a>(&mut self, _record: Record<'a>) -> Transformed<'a> {
        Ok(None)
    }
}

/// `SetSchemaMetadata`.
pub(super) struct SetSchemaMetadata {
    key: bool,
    name: Option<String>,
    version: Option<i32>,
    schemas: Derived<Arc<Schema>>,
}

impl SetSchemaMetadata {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        let version = match own.get("schema.version") {
            Some(_) => Some(own.number("schema.version")?),
            None => None,
        };
        Ok(Self { key, name: own.get("schema.name").map(str::to_owned), version, schemas: Derived::new() })
    }
}

impl Transform for SetSchemaMetadata {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (Some(schema), value) = edit::take_side(&mut record, self.key) else { return Ok(Some(record)) };
        let (name, version) = (&self.name, self.version);
        let renamed = self.schemas.get(&schema, "", |schema| {
            let mut schema = schema.clone();
            if name.is_some() {
                schema.name.clone_from(name);
            }
            if version.is_some() {
                schema.version = version;
            }
            Arc::new(schema)
        });
        edit::set_side(&mut record, self.key, Some(renamed), value);
        Ok(Some(record))
    }
}
