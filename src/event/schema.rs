//! Kafka Connect's schema model: what JSON schema blocks and Avro schemas are rendered from.

use std::sync::Arc;

use super::datum::Datum;
use super::json;

/// A schema's type, as Kafka Connect names them.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// 8 bit signed.
    Int8,
    /// 16 bit signed.
    Int16,
    /// 32 bit signed.
    Int32,
    /// 64 bit signed.
    Int64,
    /// Single precision.
    Float32,
    /// Double precision.
    Float64,
    /// True or false.
    Boolean,
    /// UTF-8 text.
    String,
    /// Bytes.
    Bytes,
    /// A list of one element type.
    Array(Arc<Schema>),
    /// A map: key type and value type.
    Map(Arc<Schema>, Arc<Schema>),
    /// Named fields in order.
    Struct(Vec<Field>),
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Field name.
    pub name: String,
    /// Field schema.
    pub schema: Arc<Schema>,
}

/// A Kafka Connect schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema {
    /// Type.
    pub kind: Kind,
    /// Whether null is allowed.
    pub optional: bool,
    /// Semantic name.
    pub name: Option<String>,
    /// Version of the semantic type.
    pub version: Option<i32>,
    /// Documentation.
    pub doc: Option<String>,
    /// Parameters in the order they were added.
    pub parameters: Vec<(String, String)>,
    /// Default value.
    pub default: Option<Datum<'static>>,
}

impl Schema {
    /// A required schema without a name.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            optional: false,
            name: None,
            version: None,
            doc: None,
            parameters: Vec::new(),
            default: None,
        }
    }

    /// A required struct of these fields.
    pub fn structure(fields: impl IntoIterator<Item = (impl Into<String>, Schema)>) -> Self {
        Self::new(Kind::Struct(
            fields.into_iter().map(|(n, s)| Field { name: n.into(), schema: Arc::new(s) }).collect(),
        ))
    }

    /// An array of these elements.
    pub fn array(items: Schema) -> Self {
        Self::new(Kind::Array(Arc::new(items)))
    }

    /// Makes it optional.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Sets whether it is optional.
    #[must_use]
    pub fn with_optional(mut self, optional: bool) -> Self {
        self.optional = optional;
        self
    }

    /// Gives it a semantic name of this version.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>, version: i32) -> Self {
        self.name = Some(name.into());
        self.version = Some(version);
        self
    }

    /// Gives it a name without a version.
    #[must_use]
    pub fn titled(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Documents it.
    #[must_use]
    pub fn documented(mut self, doc: impl Into<String>) -> Self {
        self.doc = Some(doc.into());
        self
    }

    /// Adds a parameter.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// Sets the default.
    #[must_use]
    pub fn with_default(mut self, default: Datum<'static>) -> Self {
        self.default = Some(default);
        self
    }

    /// The fields of a struct; empty for other types.
    pub fn fields(&self) -> &[Field] {
        match &self.kind {
            Kind::Struct(fields) => fields,
            _ => &[],
        }
    }

    /// The position of a struct's field.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields().iter().position(|f| f.name == name)
    }

    /// The schema of a struct's field.
    pub fn field(&self, name: &str) -> Option<&Arc<Schema>> {
        self.fields().iter().find(|f| f.name == name).map(|f| &f.schema)
    }

    /// A parameter's value.
    pub fn get_parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Appends the schema as `JsonConverter` writes it: type, fields or items, optional, name, version, doc,
    /// parameters, default, field.
    pub fn write_json(&self, out: &mut Vec<u8>, field: Option<&str>, options: &json::JsonOptions) {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(match &self.kind {
            Kind::Int8 => b"int8",
            Kind::Int16 => b"int16",
            Kind::Int32 => b"int32",
            Kind::Int64 => b"int64",
            Kind::Float32 => b"float",
            Kind::Float64 => b"double",
            Kind::Boolean => b"boolean",
            Kind::String => b"string",
            Kind::Bytes => b"bytes",
            Kind::Array(_) => b"array",
            Kind::Map(..) => b"map",
            Kind::Struct(_) => b"struct",
        });
        out.push(b'"');
        match &self.kind {
            Kind::Array(items) => {
                out.extend_from_slice(b",\"items\":");
                items.write_json(out, None, options);
            }
            Kind::Map(keys, values) => {
                out.extend_from_slice(b",\"keys\":");
                keys.write_json(out, None, options);
                out.extend_from_slice(b",\"values\":");
                values.write_json(out, None, options);
            }
            Kind::Struct(fields) => {
                out.extend_from_slice(b",\"fields\":[");
                for (i, f) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    f.schema.write_json(out, Some(&f.name), options);
                }
                out.push(b']');
            }
            _ => {}
        }
        out.extend_from_slice(if self.optional { b",\"optional\":true" } else { b",\"optional\":false" });
        if let Some(name) = &self.name {
            out.extend_from_slice(b",\"name\":");
            json::write_str(out, name.as_bytes());
        }
        if let Some(version) = self.version {
            out.extend_from_slice(b",\"version\":");
            out.extend_from_slice(itoa::Buffer::new().format(version).as_bytes());
        }
        if let Some(doc) = &self.doc {
            out.extend_from_slice(b",\"doc\":");
            json::write_str(out, doc.as_bytes());
        }
        if !self.parameters.is_empty() {
            out.extend_from_slice(b",\"parameters\":{");
            for (i, (name, value)) in self.parameters.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                json::write_str(out, name.as_bytes());
                out.push(b':');
                json::write_str(out, value.as_bytes());
            }
            out.push(b'}');
        }
        if let Some(default) = &self.default {
            out.extend_from_slice(b",\"default\":");
            json::write(out, self, default, options);
        }
        if let Some(field) = field {
            out.extend_from_slice(b",\"field\":");
            json::write_str(out, field.as_bytes());
        }
        out.push(b'}');
    }
}
