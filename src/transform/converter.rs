//! Converters of keys, values and headers: JSON, Avro and Protobuf with a schema registry, CloudEvents, text, bytes,
//! numbers.

use std::sync::Arc;

use super::avro_converter::Avro;
use super::check::check;
use super::cloud_events::CloudEvents;
use super::config::Options;
use super::java_text;
use super::protobuf_converter::Protobuf;
use crate::config::AddressMap;
use crate::event::datum::Datum;
use crate::event::json::JsonOptions;
use crate::event::record::Header;
use crate::event::schema::{Kind, Schema};
use crate::event::{EventError, record};

/// One side's converter.
pub(super) enum Converter {
    /// `JsonConverter`.
    Json(JsonOptions),
    /// `AvroConverter` with Confluent's wire format.
    Avro(Box<Avro>),
    /// `ProtobufConverter` with Confluent's wire format.
    Protobuf(Box<Protobuf>),
    /// `StringConverter`.
    Text(Encoding),
    /// `ByteArrayConverter`.
    Bytes,
    /// Debezium's `BinaryDataConverter`: bytes as they are, everything else through another converter.
    Binary(Option<Box<Converter>>),
    /// Debezium's `CloudEventsConverter`.
    CloudEvents(Box<CloudEvents>),
    /// `LongConverter` and the like: a primitive in big-endian bytes.
    Number(Kind),
}

/// A character encoding of `StringConverter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Utf8,
    Ascii,
    Latin1,
    /// With a byte order mark.
    Utf16,
    Utf16Be,
    Utf16Le,
}

impl Encoding {
    fn new(own: &Options<'_>) -> Result<Self, EventError> {
        own.choice(
            "converter.encoding",
            Encoding::Utf8,
            &[
                ("UTF-8", Encoding::Utf8),
                ("UTF8", Encoding::Utf8),
                ("US-ASCII", Encoding::Ascii),
                ("ASCII", Encoding::Ascii),
                ("ISO-8859-1", Encoding::Latin1),
                ("UTF-16", Encoding::Utf16),
                ("UTF-16BE", Encoding::Utf16Be),
                ("UTF-16LE", Encoding::Utf16Le),
            ],
        )
    }

    fn write(self, out: &mut Vec<u8>, text: &[u8]) {
        if self == Encoding::Utf8 {
            return out.extend_from_slice(text);
        }
        if self == Encoding::Utf16 {
            out.extend_from_slice(&[0xFE, 0xFF]);
        }
        for c in String::from_utf8_lossy(text).chars() {
            match self {
                Encoding::Latin1 => out.push(u8::try_from(u32::from(c)).unwrap_or(b'?')),
                Encoding::Ascii => {
                    out.push(if c.is_ascii() { u8::try_from(c).unwrap_or(b'?') } else { b'?' })
                }
                Encoding::Utf16Le => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.extend_from_slice(&unit.to_le_bytes());
                    }
                }
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.extend_from_slice(&unit.to_be_bytes());
                    }
                }
            }
        }
    }
}

impl Converter {
    /// Reads the converter that the property `name` (`key.converter`, …) names, and its options.
    pub(super) fn new(
        name: &str,
        key: bool,
        all: &[(&str, &str)],
        addresses: &AddressMap,
    ) -> Result<Self, EventError> {
        const JSON: &str = "org.apache.kafka.connect.json.JsonConverter";
        let class = all.iter().find(|(n, _)| *n == name).map_or(JSON, |(_, class)| *class);
        let prefix = format!("{name}.");
        let own = Options::new(&prefix, all);
        let simple = class.rsplit('.').next().unwrap_or(class);
        Ok(match simple {
            "JsonConverter" => Self::Json(JsonOptions {
                schemas: own.flag("schemas.enable", true)?,
                numeric_decimals: own.choice(
                    "decimal.format",
                    false,
                    &[("BASE64", false), ("NUMERIC", true)],
                )?,
                replace_null_with_default: own.flag("replace.null.with.default", true)?,
            }),
            "AvroConverter" => Self::Avro(Box::new(Avro::new(&own, key, addresses)?)),
            "ProtobufConverter" => Self::Protobuf(Box::new(Protobuf::new(&own, key, addresses)?)),
            "StringConverter" => Self::Text(Encoding::new(&own)?),
            "BinaryDataConverter" | "ByteArrayConverter" if class.starts_with("io.debezium.") => {
                let delegate = "delegate.converter.type";
                let inner = format!("{prefix}{delegate}");
                let there = own.get(delegate).is_some();
                Self::Binary(there.then(|| Self::new(&inner, key, all, addresses).map(Box::new)).transpose()?)
            }
            "CloudEventsConverter" => {
                Self::CloudEvents(Box::new(CloudEvents::new(&own, &prefix, all, addresses)?))
            }
            "ByteArrayConverter" => Self::Bytes,
            "LongConverter" => Self::Number(Kind::Int64),
            "IntegerConverter" => Self::Number(Kind::Int32),
            "ShortConverter" => Self::Number(Kind::Int16),
            "DoubleConverter" => Self::Number(Kind::Float64),
            "FloatConverter" => Self::Number(Kind::Float32),
            "BooleanConverter" => Self::Number(Kind::Boolean),
            _ => {
                return Err(EventError::Option {
                    name: name.to_owned(),
                    value: class.into(),
                    expected: format!(
                        "{JSON}, io.confluent.connect.avro.AvroConverter, \
                         io.confluent.connect.protobuf.ProtobufConverter, \
                         org.apache.kafka.connect.storage.StringConverter, \
                         org.apache.kafka.connect.converters.ByteArrayConverter (or LongConverter, …), \
                         io.debezium.converters.BinaryDataConverter or CloudEventsConverter"
                    ),
                });
            }
        })
    }

    /// Its class, for messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Json(_) => "JsonConverter",
            Self::Avro(_) => "AvroConverter",
            Self::Protobuf(_) => "ProtobufConverter",
            Self::Text(_) => "StringConverter",
            Self::Bytes => "ByteArrayConverter",
            Self::Binary(_) => "BinaryDataConverter",
            Self::CloudEvents(_) => "CloudEventsConverter",
            Self::Number(_) => "NumberConverter",
        }
    }

    /// Whether its schema registry, where it has one, can be used.
    pub(super) fn ready(&self) -> Result<(), EventError> {
        match self {
            Self::Avro(avro) => avro.ready(),
            Self::Protobuf(protobuf) => protobuf.ready(),
            Self::CloudEvents(events) => events.ready(),
            Self::Binary(Some(inner)) => inner.ready(),
            Self::Json(_) | Self::Text(_) | Self::Bytes | Self::Binary(None) | Self::Number(_) => Ok(()),
        }
    }

    /// Whether a value becomes bytes; `false` where it becomes a null.
    pub(super) fn present(&self, schema: Option<&Schema>, datum: &Datum<'_>, headers: &[Header<'_>]) -> bool {
        match self {
            Self::CloudEvents(events) => events.present(schema, datum, headers),
            Self::Json(_) => schema.is_some() || !datum.is_null(),
            Self::Binary(Some(inner)) if schema.is_some_and(|s| s.kind != Kind::Bytes) => {
                inner.present(schema, datum, headers)
            }
            _ => !datum.is_null(),
        }
    }

    /// Refuses a null that the converter cannot even write as a null.
    pub(super) fn check_null(&self, schema: Option<&Schema>) -> Result<(), String> {
        match (self, schema.map(|s| &s.kind)) {
            (Self::Bytes | Self::Binary(None), Some(kind)) if *kind != Kind::Bytes => {
                Err("the schema's type is not BYTES".into())
            }
            (Self::Number(Kind::Boolean), Some(kind)) if *kind != Kind::Boolean => {
                Err("the schema's type is not BOOLEAN".into())
            }
            _ => Ok(()),
        }
    }

    /// Appends the bytes of a key or value that is [`Converter::present`].
    ///
    /// # Errors
    /// With the cause alone. What was appended by then is to be thrown away.
    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        topic: &str,
        schema: Option<&Arc<Schema>>,
        datum: &Datum<'_>,
        headers: &[Header<'_>],
    ) -> Result<(), String> {
        match self {
            Self::CloudEvents(events) => events.write(out, topic, schema, datum, headers),
            Self::Json(options) => {
                if let Some(schema) = schema {
                    check(schema, datum, options.replace_null_with_default)?;
                }
                record::write_envelope(out, schema.map(AsRef::as_ref), datum, options);
                Ok(())
            }
            Self::Avro(avro) => avro.write(out, topic, schema, datum),
            Self::Protobuf(protobuf) => protobuf.write(out, topic, schema, datum),
            Self::Text(Encoding::Utf8) => {
                java_text::write(out, schema.map(AsRef::as_ref), datum);
                Ok(())
            }
            Self::Text(encoding) => {
                let mut text = Vec::new();
                java_text::write(&mut text, schema.map(AsRef::as_ref), datum);
                encoding.write(out, &text);
                Ok(())
            }
            Self::Binary(Some(inner)) if schema.is_none_or(|s| s.kind != Kind::Bytes) => {
                inner.write(out, topic, schema, datum, headers)
            }
            Self::Bytes | Self::Binary(_) => match datum.to_bytes() {
                Some(bytes) => {
                    out.extend_from_slice(&bytes);
                    Ok(())
                }
                None => Err("the value is not bytes (delegate.converter.type of \
                             io.debezium.converters.BinaryDataConverter takes the rest)"
                    .into()),
            },
            Self::Number(kind) => number(out, kind, schema.map(AsRef::as_ref), datum),
        }
    }
}

/// What Kafka's serializers of primitives write.
fn number(out: &mut Vec<u8>, kind: &Kind, schema: Option<&Schema>, datum: &Datum<'_>) -> Result<(), String> {
    let wrong = || format!("the value cannot be serialised as {kind:?}").to_lowercase();
    let integer = || match (schema.map(|s| &s.kind), datum) {
        (Some(Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64), Datum::Int(n)) => Some(*n),
        _ => None,
    };
    match (kind, datum) {
        (Kind::Boolean, Datum::Bool(b)) => out.push(u8::from(*b)),
        (Kind::Float32, Datum::F32(n)) => out.extend_from_slice(&n.to_be_bytes()),
        (Kind::Float64, Datum::F64(n)) => out.extend_from_slice(&n.to_be_bytes()),
        (Kind::Int16 | Kind::Int32 | Kind::Int64, _) => {
            let n = integer().filter(|_| schema.is_some_and(|s| s.kind == *kind)).ok_or_else(wrong)?;
            let bytes = n.to_be_bytes();
            let width = match kind {
                Kind::Int16 => 2,
                Kind::Int32 => 4,
                _ => 8,
            };
            out.extend_from_slice(bytes.get(8 - width..).unwrap_or(&bytes));
        }
        _ => return Err(wrong()),
    }
    Ok(())
}

/// The converter of headers.
pub(super) enum HeaderConverter {
    /// `SimpleHeaderConverter`.
    Simple,
    /// Another.
    Other(Box<Converter>),
}

impl HeaderConverter {
    /// Whether a connector's `header.converter` is one that needs no chain.
    pub(super) fn is_plain(all: &[(&str, &str)]) -> bool {
        all.iter().filter(|(n, _)| *n == "header.converter").all(|(_, class)| {
            class.is_empty() || class.ends_with("SimpleHeaderConverter") || class.ends_with("JsonConverter")
        })
    }

    pub(super) fn new(all: &[(&str, &str)], addresses: &AddressMap) -> Result<Self, EventError> {
        let name = "header.converter";
        match all.iter().find(|(n, _)| *n == name).map(|(_, class)| *class) {
            None | Some("") => Ok(Self::Simple),
            Some(class) if class.ends_with("SimpleHeaderConverter") => Ok(Self::Simple),
            Some(_) => Ok(Self::Other(Box::new(Converter::new(name, false, all, addresses)?))),
        }
    }
}
