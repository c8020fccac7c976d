//! Converters of keys and values: JSON, Avro with a schema registry, text, bytes.

use std::sync::Arc;

use super::config::Options;
use super::edit::Derived;
use super::registry::Registry;
use crate::event::datum::Datum;
use crate::event::json::JsonOptions;
use crate::event::options::Converter as Configured;
use crate::event::schema::{Kind, Schema};
use crate::event::{EventError, avro, record, simple};

/// How a subject is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Topic,
    Record,
    TopicRecord,
}

/// One side's converter.
pub(super) enum Converter {
    /// `JsonConverter`.
    Json(JsonOptions),
    /// `AvroConverter` with Confluent's wire format.
    Avro(Box<Avro>),
    /// `StringConverter`.
    Text,
    /// `ByteArrayConverter`.
    Bytes,
}

/// Avro: schema ids by subject and schema.
pub(super) struct Avro {
    registry: Registry,
    subject: Subject,
    key: bool,
    ids: Derived<u32>,
}

impl Converter {
    /// Reads `key.converter` or `value.converter` and its options.
    pub(super) fn new(configured: &Configured, key: bool, all: &[(&str, &str)]) -> Result<Self, EventError> {
        let name = if key { "key.converter" } else { "value.converter" };
        let class = match configured {
            Configured::Json(options) => return Ok(Self::Json(*options)),
            Configured::Other(class) => class.as_str(),
        };
        let prefix = format!("{name}.");
        let own = Options::new(&prefix, all);
        match class.rsplit('.').next().unwrap_or(class) {
            "AvroConverter" => {
                let strategy = if key { "key.subject.name.strategy" } else { "value.subject.name.strategy" };
                let subject = match own.get(strategy).map(|s| s.rsplit('.').next().unwrap_or(s)) {
                    None | Some("TopicNameStrategy") => Subject::Topic,
                    Some("RecordNameStrategy") => Subject::Record,
                    Some("TopicRecordNameStrategy") => Subject::TopicRecord,
                    Some(_) => {
                        return Err(own.error(
                            strategy,
                            "TopicNameStrategy, RecordNameStrategy or TopicRecordNameStrategy",
                        ));
                    }
                };
                let registry = Registry::new(&own)?;
                Ok(Self::Avro(Box::new(Avro { registry, subject, key, ids: Derived::new() })))
            }
            "StringConverter" => Ok(Self::Text),
            "ByteArrayConverter" | "BinaryDataConverter" => Ok(Self::Bytes),
            _ => Err(EventError::Option {
                name: name.into(),
                value: class.into(),
                expected:
                    "org.apache.kafka.connect.json.JsonConverter, io.confluent.connect.avro.AvroConverter, \
                           org.apache.kafka.connect.storage.StringConverter or \
                           org.apache.kafka.connect.converters.ByteArrayConverter"
                        .into(),
            }),
        }
    }

    /// Its class, for messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Json(_) => "JsonConverter",
            Self::Avro(_) => "AvroConverter",
            Self::Text => "StringConverter",
            Self::Bytes => "ByteArrayConverter",
        }
    }

    /// The bytes of a key or value; `None` for a null.
    pub(super) fn write(
        &mut self,
        topic: &str,
        schema: Option<&Arc<Schema>>,
        datum: &Datum<'_>,
    ) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::Json(options) => Ok(record::envelope(schema.map(AsRef::as_ref), datum, options)),
            _ if datum.is_null() => Ok(None),
            Self::Avro(avro) => avro.write(topic, schema, datum).map(Some),
            Self::Text => {
                let mut out = Vec::new();
                java_text(&mut out, schema.map(AsRef::as_ref), datum);
                Ok(Some(out))
            }
            Self::Bytes => match datum.to_bytes() {
                Some(bytes) => Ok(Some(bytes.into_owned())),
                None => Err("the value is not bytes".into()),
            },
        }
    }
}

impl Avro {
    fn write(
        &mut self,
        topic: &str,
        schema: Option<&Arc<Schema>>,
        datum: &Datum<'_>,
    ) -> Result<Vec<u8>, String> {
        let schema = schema.ok_or("a value without a schema cannot be Avro")?;
        let side = if self.key { "key" } else { "value" };
        let record = schema.name.as_deref().unwrap_or("ConnectDefault");
        let subject = match self.subject {
            Subject::Topic => format!("{topic}-{side}"),
            Subject::Record => record.to_owned(),
            Subject::TopicRecord => format!("{topic}-{record}"),
        };
        let mut failed = None;
        let registry = &self.registry;
        let id = match self.ids.find(schema, &subject) {
            Some(id) => id,
            None => {
                // the top of a record is never a union
                let required = Schema { optional: false, ..(**schema).clone() };
                match registry.id(&subject, &avro::schema_json(&required)) {
                    Ok(id) => self.ids.get(schema, &subject, |_| id),
                    Err(e) => {
                        failed = Some(e);
                        0
                    }
                }
            }
        };
        if let Some(e) = failed {
            return Err(e);
        }
        let mut out = vec![0];
        out.extend_from_slice(&id.to_be_bytes());
        if schema.optional {
            let required = Schema { optional: false, ..(**schema).clone() };
            avro::write(&mut out, &required, datum).map_err(|e| e.to_string())?;
        } else {
            avro::write(&mut out, schema, datum).map_err(|e| e.to_string())?;
        }
        Ok(out)
    }
}

/// `toString()` of a Connect value: `Struct{id=1,name=x}`.
fn java_text(out: &mut Vec<u8>, schema: Option<&Schema>, datum: &Datum<'_>) {
    match datum {
        Datum::Struct(values) => {
            out.extend_from_slice(b"Struct{");
            let mut first = true;
            for (field, value) in schema.map_or(&[][..], Schema::fields).iter().zip(values) {
                if value.is_null() {
                    continue;
                }
                if !first {
                    out.push(b',');
                }
                first = false;
                out.extend_from_slice(field.name.as_bytes());
                out.push(b'=');
                java_text(out, Some(&field.schema), value);
            }
            out.push(b'}');
        }
        Datum::Array(items) => {
            let element = schema.and_then(|s| match &s.kind {
                Kind::Array(element) => Some(element.as_ref()),
                _ => None,
            });
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                java_text(out, element, item);
            }
            out.push(b']');
        }
        datum => match datum.as_str() {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => {
                let fallback = Schema::new(Kind::String);
                simple::header(out, schema.unwrap_or(&fallback), datum, None);
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_struct() {
        let schema = Schema::structure([
            ("id", Schema::new(Kind::Int32)),
            ("none", Schema::new(Kind::String).optional()),
            ("name", Schema::new(Kind::String)),
        ]);
        let datum = Datum::Struct(vec![Datum::Int(1), Datum::Null, Datum::str("x y")]);
        let mut out = Vec::new();
        java_text(&mut out, Some(&schema), &datum);
        assert_eq!(out, b"Struct{id=1,name=x y}");
    }
}
