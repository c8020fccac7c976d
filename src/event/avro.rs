//! Avro schemas and bodies of Kafka Connect records, by the rules of Confluent's `AvroData`.

use std::fmt::Write as _;

use super::datum::Datum;
use super::schema::{Kind, Schema};

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
const DEFAULT_NAMESPACE: &str = "io.confluent.connect.avro";
/// Precision of a decimal whose schema names none.
const DEFAULT_PRECISION: &str = "64";

/// A value that its schema cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field} has a value that its Avro type cannot hold")]
pub struct AvroError {
    /// Field, with its parents.
    pub field: String,
}

/// The Avro schema of a Connect schema, as JSON text.
pub fn schema_json(schema: &Schema) -> String {
    let mut writer = Writer { out: String::new(), named: Vec::new() };
    writer.schema(schema, "");
    writer.out
}

struct Writer {
    out: String,
    /// Full names of records that were written: the second time only the name is.
    named: Vec<String>,
}

/// Namespace and name of a record.
fn split_name(schema: &Schema) -> (&str, &str) {
    match schema.name.as_deref() {
        None => (DEFAULT_NAMESPACE, "ConnectDefault"),
        Some(full) => full.rsplit_once('.').unwrap_or(("", full)),
    }
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    super::json::write_str(&mut out, text.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}

impl Writer {
    /// The schema, a union with null where it is optional.
    fn schema(&mut self, schema: &Schema, namespace: &str) {
        if !schema.optional {
            return self.base(schema, namespace);
        }
        if schema.default.as_ref().is_some_and(|d| !d.is_null()) {
            self.out.push('[');
            self.base(schema, namespace);
            self.out.push_str(",\"null\"]");
        } else {
            self.out.push_str("[\"null\",");
            self.base(schema, namespace);
            self.out.push(']');
        }
    }

    fn base(&mut self, schema: &Schema, namespace: &str) {
        let mut properties = String::new();
        let kind = match &schema.kind {
            Kind::Int8 | Kind::Int16 => {
                let kind = if schema.kind == Kind::Int8 { "int8" } else { "int16" };
                let _ = write!(properties, ",\"connect.type\":\"{kind}\"");
                "int"
            }
            Kind::Int32 => "int",
            Kind::Int64 => "long",
            Kind::Float32 => "float",
            Kind::Float64 => "double",
            Kind::Boolean => "boolean",
            Kind::String => "string",
            Kind::Bytes => "bytes",
            Kind::Array(_) | Kind::Map(..) | Kind::Struct(_) => "",
        };
        if schema.name.as_deref() == Some(DECIMAL) {
            let scale = schema.get_parameter("scale").unwrap_or("0");
            let precision = schema.get_parameter("connect.decimal.precision").unwrap_or(DEFAULT_PRECISION);
            let _ = write!(
                properties,
                ",\"scale\":{scale},\"precision\":{precision},\"logicalType\":\"decimal\""
            );
        }
        self.connect_properties(schema, &mut properties);
        match &schema.kind {
            Kind::Struct(_) => self.record(schema, namespace, &properties),
            Kind::Array(items) => {
                self.out.push_str("{\"type\":\"array\",\"items\":");
                self.schema(items, namespace);
                self.out.push_str(&properties);
                self.out.push('}');
            }
            Kind::Map(keys, values) if keys.kind == Kind::String && !keys.optional => {
                self.out.push_str("{\"type\":\"map\",\"values\":");
                self.schema(values, namespace);
                self.out.push_str(&properties);
                self.out.push('}');
            }
            Kind::Map(keys, values) => {
                let _ = write!(
                    self.out,
                    "{{\"type\":\"array\",\"items\":{{\"type\":\"record\",\"name\":\"MapEntry\",\"namespace\":\
                     \"{DEFAULT_NAMESPACE}\",\"fields\":[{{\"name\":\"key\",\"type\":"
                );
                self.schema(keys, DEFAULT_NAMESPACE);
                self.out.push_str("},{\"name\":\"value\",\"type\":");
                self.schema(values, DEFAULT_NAMESPACE);
                self.out.push_str("}],\"connect.internal.type\":\"MapEntry\"}");
                self.out.push_str(&properties);
                self.out.push('}');
            }
            _ if properties.is_empty() => {
                let _ = write!(self.out, "\"{kind}\"");
            }
            _ => {
                let _ = write!(self.out, "{{\"type\":\"{kind}\"{properties}}}");
            }
        }
    }

    fn connect_properties(&self, schema: &Schema, out: &mut String) {
        if let Some(doc) = &schema.doc {
            let _ = write!(out, ",\"connect.doc\":{}", quoted(doc));
        }
        if let Some(version) = schema.version {
            let _ = write!(out, ",\"connect.version\":{version}");
        }
        if !schema.parameters.is_empty() {
            out.push_str(",\"connect.parameters\":{");
            for (i, (name, value)) in schema.parameters.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                let _ = write!(out, "{comma}{}:{}", quoted(name), quoted(value));
            }
            out.push('}');
        }
        if let Some(default) = schema.default.as_ref().filter(|d| !d.is_null()) {
            out.push_str(",\"connect.default\":");
            default_json(schema, default, out);
        }
        if let Some(name) = &schema.name {
            let _ = write!(out, ",\"connect.name\":{}", quoted(name));
        }
    }

    fn record(&mut self, schema: &Schema, enclosing: &str, properties: &str) {
        let (namespace, name) = split_name(schema);
        let full = format!("{namespace}.{name}");
        if self.named.contains(&full) {
            let text = if namespace == enclosing { quoted(name) } else { quoted(&full) };
            return self.out.push_str(&text);
        }
        self.named.push(full);
        let _ = write!(self.out, "{{\"type\":\"record\",\"name\":{}", quoted(name));
        if namespace != enclosing && !namespace.is_empty() {
            let _ = write!(self.out, ",\"namespace\":{}", quoted(namespace));
        }
        self.out.push_str(",\"fields\":[");
        for (i, field) in schema.fields().iter().enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            let _ = write!(self.out, "{{\"name\":{},\"type\":", quoted(&field.name));
            self.schema(&field.schema, namespace);
            match &field.schema.default {
                Some(default) if !default.is_null() => {
                    self.out.push_str(",\"default\":");
                    default_json(&field.schema, default, &mut self.out);
                }
                _ if field.schema.optional => self.out.push_str(",\"default\":null"),
                _ => {}
            }
            self.out.push('}');
        }
        self.out.push(']');
        self.out.push_str(properties);
        self.out.push('}');
    }
}

/// A default in a schema: JSON, bytes as text of one character a byte.
fn default_json(schema: &Schema, default: &Datum<'_>, out: &mut String) {
    if let Some(bytes) = default.to_bytes() {
        let text: String = bytes.iter().map(|b| char::from(*b)).collect();
        out.push_str(&quoted(&text));
        return;
    }
    let mut json = Vec::new();
    super::json::write(&mut json, schema, default, &super::json::JsonOptions::default());
    out.push_str(&String::from_utf8_lossy(&json));
}

fn zigzag(out: &mut Vec<u8>, n: i64) {
    let mut n = ((n << 1) ^ (n >> 63)).cast_unsigned();
    while n > 0x7F {
        out.push(u8::try_from(n & 0x7F).unwrap_or(0) | 0x80);
        n >>= 7;
    }
    out.push(u8::try_from(n).unwrap_or(0));
}

fn length(out: &mut Vec<u8>, len: usize) {
    zigzag(out, i64::try_from(len).unwrap_or(i64::MAX));
}

/// Appends a value's Avro body.
///
/// # Errors
/// With the field whose value the schema cannot hold.
pub fn write(out: &mut Vec<u8>, schema: &Schema, datum: &Datum<'_>) -> Result<(), AvroError> {
    value(out, schema, datum).map_err(|mut path| {
        path.reverse();
        AvroError { field: path.join(".") }
    })
}

/// The error is the path of the field, innermost first.
fn value(out: &mut Vec<u8>, schema: &Schema, datum: &Datum<'_>) -> Result<(), Vec<String>> {
    let default = schema.default.as_ref().filter(|d| !d.is_null());
    // Struct.get gives the default where the value is null
    let datum = match (datum, default) {
        (Datum::Null, Some(default)) => default,
        _ => datum,
    };
    if schema.optional {
        let null_first = default.is_none();
        if datum.is_null() {
            zigzag(out, i64::from(!null_first));
            return Ok(());
        }
        zigzag(out, i64::from(null_first));
    }
    match (&schema.kind, datum) {
        (Kind::Boolean, Datum::Bool(b)) => out.push(u8::from(*b)),
        (Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64, Datum::Int(n)) => zigzag(out, *n),
        (Kind::Float32, Datum::F32(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (Kind::Float64, Datum::F64(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (Kind::String, d) => {
            let text = d.as_str().ok_or_else(Vec::new)?;
            length(out, text.len());
            out.extend_from_slice(text.as_bytes());
        }
        (Kind::Bytes, d) => {
            let bytes = d.to_bytes().ok_or_else(Vec::new)?;
            length(out, bytes.len());
            out.extend_from_slice(&bytes);
        }
        (Kind::Array(element), Datum::Array(items)) => {
            if !items.is_empty() {
                length(out, items.len());
                for item in items {
                    value(out, element, item)?;
                }
            }
            out.push(0);
        }
        (Kind::Map(keys, values), Datum::Map(pairs)) => {
            if !pairs.is_empty() {
                length(out, pairs.len());
                for (k, v) in pairs {
                    value(out, keys, k)?;
                    value(out, values, v)?;
                }
            }
            out.push(0);
        }
        (Kind::Struct(fields), Datum::Struct(values)) => {
            for (i, field) in fields.iter().enumerate() {
                let datum = values.get(i).unwrap_or(&Datum::Null);
                value(out, &field.schema, datum).map_err(|mut path| {
                    path.push(field.name.clone());
                    path
                })?;
            }
        }
        _ => return Err(Vec::new()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_zigzag_varints() {
        for (n, bytes) in [(0, &[0][..]), (-1, &[1]), (1, &[2]), (-64, &[0x7F]), (64, &[0x80, 1])] {
            let mut out = Vec::new();
            zigzag(&mut out, n);
            assert_eq!(out, bytes);
        }
        let mut out = Vec::new();
        zigzag(&mut out, i64::MIN);
        assert_eq!(out, [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]);
    }

    #[test]
    fn apache_avro_reads_what_is_written() {
        let row = Schema::structure([
            ("id", Schema::new(Kind::Int32)),
            ("note", Schema::new(Kind::String).optional()),
            ("tags", Schema::array(Schema::new(Kind::String).optional())),
        ])
        .optional()
        .titled("a.b.Value");
        let envelope = Schema::structure([("before", row.clone()), ("after", row)]).titled("a.b.Envelope");
        let datum = Datum::Struct(vec![
            Datum::Null,
            Datum::Struct(vec![Datum::Int(7), Datum::Null, Datum::Array(vec![Datum::str("x"), Datum::Null])]),
        ]);
        let mut out = Vec::new();
        write(&mut out, &envelope, &datum).unwrap();
        let schema = apache_avro::Schema::parse_str(&schema_json(&envelope)).unwrap();
        let read = apache_avro::from_avro_datum(&schema, &mut &out[..], None).unwrap();
        let text = format!("{read:?}");
        assert!(text.contains("Int(7)") && text.contains("String(\"x\")"), "{text}");
    }

    #[test]
    fn an_impossible_value_names_its_field() {
        let schema = Schema::structure([("a", Schema::structure([("b", Schema::new(Kind::Int32))]))]);
        let datum = Datum::Struct(vec![Datum::Struct(vec![Datum::Null])]);
        assert_eq!(write(&mut Vec::new(), &schema, &datum), Err(AvroError { field: "a.b".into() }));
    }
}
