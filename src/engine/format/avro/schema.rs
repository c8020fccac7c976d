//! Avro schemas, as far as rows need them: parsed from the registry's text, or made of a table's columns.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::engine::format::FormatError;
use crate::engine::types::{DataType, Field, TypeKind};

/// A schema. Named types are by number, so that they may hold themselves.
#[derive(Debug)]
pub(super) struct Schema {
    pub(super) root: Type,
    pub(super) named: Vec<Type>,
}

/// A type.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    Null,
    Boolean,
    Int(Logical),
    Long(Logical),
    Float,
    Double,
    Bytes(Logical),
    String,
    Fixed(usize, Logical),
    Enum(Vec<String>),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    Record(Vec<(String, Type)>),
    Named(usize),
}

/// What a type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logical {
    None,
    Date,
    TimeMillis,
    TimeMicros,
    TimestampMillis,
    TimestampMicros,
    TimestampNanos,
    /// Scale.
    Decimal(u8),
}

impl Schema {
    /// Parses a schema's JSON.
    pub(super) fn parse(text: &str) -> Result<Self, FormatError> {
        let json: Json = serde_json::from_str(text)
            .map_err(|e| FormatError::new(format!("the registry's schema is not JSON: {e}")))?;
        let mut parser = SchemaParser { names: HashMap::new(), named: Vec::new() };
        let root = parser.read(&json, "", 0)?;
        Ok(Self { root, named: parser.named })
    }

    /// The type itself where it is a name.
    pub(super) fn resolve<'a>(&'a self, of: &'a Type) -> &'a Type {
        match of {
            Type::Named(number) => self.named.get(*number).unwrap_or(&Type::Null),
            other => other,
        }
    }
}

struct SchemaParser {
    names: HashMap<String, usize>,
    named: Vec<Type>,
}

fn bad(what: impl std::fmt::Display) -> FormatError {
    FormatError::new(format!("the registry's schema is no Avro schema: {what}"))
}

impl SchemaParser {
    fn read(&mut self, json: &Json, namespace: &str, depth: usize) -> Result<Type, FormatError> {
        if depth > 64 {
            return Err(bad("it is nested too deeply"));
        }
        match json {
            Json::String(name) => self.simple(name, namespace),
            Json::Array(types) => {
                let types = types.iter().map(|t| self.read(t, namespace, depth + 1));
                types.collect::<Result<_, _>>().map(Type::Union)
            }
            Json::Object(object) => {
                let text = |key: &str| object.get(key).and_then(Json::as_str);
                let Some(kind) = object.get("type") else { return Err(bad("a type is missing")) };
                let Json::String(kind) = kind else { return self.read(kind, namespace, depth + 1) };
                let part = |key: &str| object.get(key).ok_or_else(|| bad(format!("{key} is missing")));
                let scale = object.get("scale").and_then(Json::as_u64).unwrap_or(0);
                let logical = match text("logicalType") {
                    Some("date") => Logical::Date,
                    Some("time-millis") => Logical::TimeMillis,
                    Some("time-micros") => Logical::TimeMicros,
                    Some("timestamp-millis" | "local-timestamp-millis") => Logical::TimestampMillis,
                    Some("timestamp-micros" | "local-timestamp-micros") => Logical::TimestampMicros,
                    Some("timestamp-nanos" | "local-timestamp-nanos") => Logical::TimestampNanos,
                    Some("decimal") => Logical::Decimal(u8::try_from(scale).map_err(|_| bad("a scale"))?),
                    _ => Logical::None,
                };
                match kind.as_str() {
                    "int" => Ok(Type::Int(logical)),
                    "long" => Ok(Type::Long(logical)),
                    "bytes" => Ok(Type::Bytes(logical)),
                    "array" => Ok(Type::Array(Box::new(self.read(part("items")?, namespace, depth + 1)?))),
                    "map" => Ok(Type::Map(Box::new(self.read(part("values")?, namespace, depth + 1)?))),
                    "fixed" => {
                        let size = part("size")?.as_u64().and_then(|n| usize::try_from(n).ok());
                        let size = size.ok_or_else(|| bad("a size"))?;
                        let number = self.declare(text("name"), text("namespace"), namespace).0;
                        self.define(number, Type::Fixed(size, logical))
                    }
                    "enum" => {
                        let symbols = part("symbols")?.as_array().cloned().unwrap_or_default();
                        let symbols = symbols.iter().filter_map(|s| s.as_str().map(str::to_owned)).collect();
                        let number = self.declare(text("name"), text("namespace"), namespace).0;
                        self.define(number, Type::Enum(symbols))
                    }
                    "record" | "error" => {
                        let (number, inner) = self.declare(text("name"), text("namespace"), namespace);
                        let mut fields = Vec::new();
                        for field in part("fields")?.as_array().into_iter().flatten() {
                            let name = field.get("name").and_then(Json::as_str);
                            let name = name.ok_or_else(|| bad("a field without a name"))?;
                            let of = field.get("type").ok_or_else(|| bad("a field without a type"))?;
                            fields.push((name.to_owned(), self.read(of, &inner, depth + 1)?));
                        }
                        self.define(number, Type::Record(fields))
                    }
                    simple => self.simple(simple, namespace),
                }
            }
            _ => Err(bad("neither text, list nor object")),
        }
    }

    /// A number for a name, and the namespace within it.
    fn declare(&mut self, name: Option<&str>, space: Option<&str>, outer: &str) -> (usize, String) {
        let name = name.unwrap_or_default();
        let (space, short) = match name.rsplit_once('.') {
            Some((space, short)) => (space.to_owned(), short),
            None => (space.unwrap_or(outer).to_owned(), name),
        };
        let number = self.named.len();
        self.named.push(Type::Null);
        self.names.insert(full(&space, short), number);
        (number, space)
    }

    fn define(&mut self, number: usize, of: Type) -> Result<Type, FormatError> {
        if let Some(place) = self.named.get_mut(number) {
            *place = of;
        }
        Ok(Type::Named(number))
    }

    fn simple(&self, name: &str, namespace: &str) -> Result<Type, FormatError> {
        Ok(match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int(Logical::None),
            "long" => Type::Long(Logical::None),
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes(Logical::None),
            "string" => Type::String,
            name => {
                let found = self.names.get(name).or_else(|| self.names.get(&full(namespace, name)));
                Type::Named(*found.ok_or_else(|| bad(format!("unknown type {name}")))?)
            }
        })
    }
}

fn full(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// The schema of a table's columns as Flink's `AvroSchemaConverter` makes it.
pub(super) fn of_columns(columns: &[Field]) -> Result<String, FormatError> {
    let mut out = String::new();
    record(&mut out, "record", Some("org.apache.flink.avro.generated"), columns)?;
    Ok(out)
}

/// The envelope of debezium-avro-confluent as Flink writes it.
pub(super) fn of_envelope(columns: &[Field]) -> Result<String, FormatError> {
    let row = DataType::new(TypeKind::Row(columns.to_vec()));
    let field = |name: &str, data_type: DataType| Field { name: name.into(), data_type };
    of_columns(&[field("before", row.clone()), field("after", row), field("op", DataType::string())])
}

fn record(
    out: &mut String,
    name: &str,
    namespace: Option<&str>,
    fields: &[Field],
) -> Result<(), FormatError> {
    let _ = write!(out, "{{\"type\":\"record\",\"name\":\"{name}\"");
    if let Some(namespace) = namespace {
        let _ = write!(out, ",\"namespace\":\"{namespace}\"");
    }
    out.push_str(",\"fields\":[");
    for (i, field) in fields.iter().enumerate() {
        let good = |c: char| c == '_' || c.is_ascii_alphanumeric();
        if !field.name.chars().all(good) || field.name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(FormatError::new(format!("'{}' is no name in Avro", field.name))
                .next("use letters, digits and _ in the names of columns that are written as Avro"));
        }
        if i > 0 {
            out.push(',');
        }
        let _ = write!(out, "{{\"name\":\"{}\",\"type\":", field.name);
        of_type(out, &format!("{name}_{}", field.name), &field.data_type)
            .map_err(|e| e.in_column(&field.name))?;
        if field.data_type.nullable {
            out.push_str(",\"default\":null");
        }
        out.push('}');
    }
    out.push_str("]}");
    Ok(())
}

fn of_type(out: &mut String, name: &str, data_type: &DataType) -> Result<(), FormatError> {
    if data_type.nullable {
        out.push_str("[\"null\",");
    }
    let logical =
        |base: &str, logical: &str| format!("{{\"type\":\"{base}\",\"logicalType\":\"{logical}\"}}");
    match &data_type.kind {
        TypeKind::Boolean => out.push_str("\"boolean\""),
        TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int => out.push_str("\"int\""),
        TypeKind::BigInt => out.push_str("\"long\""),
        TypeKind::Float => out.push_str("\"float\""),
        TypeKind::Double => out.push_str("\"double\""),
        TypeKind::Char(_) | TypeKind::Varchar(_) => out.push_str("\"string\""),
        TypeKind::Binary(_) | TypeKind::Varbinary(_) => out.push_str("\"bytes\""),
        TypeKind::Decimal(precision, scale) => {
            let _ = write!(
                out,
                "{{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":{precision},\"scale\":{scale}}}"
            );
        }
        TypeKind::Date => out.push_str(&logical("int", "date")),
        TypeKind::Time(_) => out.push_str(&logical("int", "time-millis")),
        TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p) if *p <= 3 => {
            out.push_str(&logical("long", "timestamp-millis"));
        }
        TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_) => {
            out.push_str(&logical("long", "timestamp-micros"))
        }
        TypeKind::Row(fields) => record(out, name, None, fields)?,
        TypeKind::Array(element) => {
            out.push_str("{\"type\":\"array\",\"items\":");
            of_type(out, name, element)?;
            out.push('}');
        }
        TypeKind::Map(_, value) => {
            out.push_str("{\"type\":\"map\",\"values\":");
            of_type(out, name, value)?;
            out.push('}');
        }
        other => return Err(FormatError::new(format!("type {other} cannot be written as Avro"))),
    }
    if data_type.nullable {
        out.push(']');
    }
    Ok(())
}
