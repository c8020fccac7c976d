//! Avro schemas and bodies of Kafka Connect records, by the rules of Confluent's `AvroData`.

use std::fmt::Write as _;

use super::datum::Datum;
use super::protobuf;
use super::schema::{Kind, Schema};

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
const DEFAULT_NAMESPACE: &str = "io.confluent.connect.avro";
/// Precision of a decimal whose schema names none.
const DEFAULT_PRECISION: &str = "64";

/// What a converter's options change in a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// `connect.meta.data`: what only Connect knows (names, versions, parameters, documentation) is kept.
    pub connect_meta: bool,
    /// `scrub.invalid.names`: characters that no name may have are replaced.
    pub scrub: bool,
    /// `allow.optional.map.keys`: maps stay maps where their keys may be null.
    pub optional_map_keys: bool,
    /// `discard.type.doc.default`: the documentation of a field's type is the field's.
    pub field_docs: bool,
}

impl Default for Options {
    /// The converter's own defaults.
    fn default() -> Self {
        Self { connect_meta: true, scrub: false, optional_map_keys: false, field_docs: false }
    }
}

/// A value that its schema cannot hold, or a schema that Avro cannot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AvroError {
    /// The value of a field.
    #[error("field {field} has a value that its Avro type cannot hold")]
    Value {
        /// Field, with its parents.
        field: String,
    },
    /// A field or record has a name that Avro does not allow.
    #[error(
        "{kind} \"{name}\" cannot be Avro: a name is of letters, digits and _; \
         field.name.adjustment.mode, schema.name.adjustment.mode or scrub.invalid.names=true replaces the others"
    )]
    Name {
        /// Field or record.
        kind: &'static str,
        /// As it is.
        name: String,
    },
}

/// The Avro schema of a Connect schema, as JSON text.
///
/// # Errors
/// [`AvroError::Name`].
pub fn schema_json(schema: &Schema, options: Options) -> Result<String, AvroError> {
    let mut writer = Writer { out: String::new(), named: Vec::new(), options, odd: None };
    match &schema.kind {
        // the top of a record is never a union, unless it is no record
        Kind::Struct(_) => writer.base(schema, ""),
        _ => writer.schema(schema, ""),
    }
    match writer.odd {
        Some(odd) => Err(odd),
        None => Ok(writer.out),
    }
}

struct Writer {
    out: String,
    /// Full names of records that were written: the second time only the name is.
    named: Vec<String>,
    options: Options,
    /// The first name that Avro does not allow.
    odd: Option<AvroError>,
}

/// A name with what `scrub.invalid.names` makes of it: an underscore may stand first, other than in Protobuf.
fn scrubbed(name: &str) -> String {
    match name.strip_prefix('_') {
        Some(rest) => format!("_{}", protobuf::scrub_rest(rest)),
        None => protobuf::scrub(name),
    }
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    super::json::write_inner_str(&mut out, text.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}

impl Writer {
    fn scrub(&self, name: &str) -> String {
        if self.options.scrub { scrubbed(name) } else { name.to_owned() }
    }

    /// Namespace and name of a record.
    fn split_name(&self, schema: &Schema) -> (String, String) {
        let (namespace, name) = match schema.name.as_deref() {
            None => (DEFAULT_NAMESPACE, "ConnectDefault"),
            Some(full) => full.rsplit_once('.').unwrap_or(("", full)),
        };
        let namespace: Vec<String> = namespace.split('.').map(|part| self.scrub(part)).collect();
        (namespace.join("."), self.scrub(name))
    }

    /// Keeps a name that Avro does not allow.
    fn check_name(&mut self, kind: &'static str, name: &str) {
        let mut chars = name.chars();
        let start = chars.next().is_some_and(|c| c.is_alphabetic() || c == '_');
        if self.odd.is_none() && !(start && chars.all(|c| c.is_alphanumeric() || c == '_')) {
            self.odd = Some(AvroError::Name { kind, name: name.to_owned() });
        }
    }

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
            Kind::Int8 | Kind::Int16 if self.options.connect_meta => {
                let kind = if schema.kind == Kind::Int8 { "int8" } else { "int16" };
                let _ = write!(properties, ",\"connect.type\":\"{kind}\"");
                "int"
            }
            Kind::Int8 | Kind::Int16 | Kind::Int32 => "int",
            Kind::Int64 => "long",
            Kind::Float32 => "float",
            Kind::Float64 => "double",
            Kind::Boolean => "boolean",
            Kind::String => "string",
            Kind::Bytes => "bytes",
            Kind::Array(_) | Kind::Map(..) | Kind::Struct(_) => "",
        };
        if let Some(logical) = logical(schema) {
            let _ = write!(properties, ",\"logicalType\":\"{logical}\"");
        }
        if schema.name.as_deref() == Some(DECIMAL) {
            let scale = schema.get_parameter("scale").unwrap_or("0");
            let precision = schema.get_parameter("connect.decimal.precision").unwrap_or(DEFAULT_PRECISION);
            let _ = write!(properties, ",\"scale\":{scale},\"precision\":{precision}");
        }
        if self.options.connect_meta {
            connect_properties(schema, &mut properties);
        }
        match &schema.kind {
            Kind::Struct(_) => self.record(schema, namespace, &properties),
            Kind::Array(items) => {
                self.out.push_str("{\"type\":\"array\",\"items\":");
                self.schema(items, namespace);
                self.out.push_str(&properties);
                self.out.push('}');
            }
            Kind::Map(keys, values)
                if keys.kind == Kind::String && (!keys.optional || self.options.optional_map_keys) =>
            {
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
                self.out.push_str("}]}");
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

    fn record(&mut self, schema: &Schema, enclosing: &str, properties: &str) {
        let (namespace, name) = self.split_name(schema);
        let full = format!("{namespace}.{name}");
        if self.named.contains(&full) {
            let text = if namespace == enclosing { quoted(&name) } else { quoted(&full) };
            return self.out.push_str(&text);
        }
        self.check_name("record", &name);
        self.named.push(full);
        let _ = write!(self.out, "{{\"type\":\"record\",\"name\":{}", quoted(&name));
        if namespace != enclosing {
            let _ = write!(self.out, ",\"namespace\":{}", quoted(&namespace));
        }
        self.out.push_str(",\"fields\":[");
        for (i, field) in schema.fields().iter().enumerate() {
            if i > 0 {
                self.out.push(',');
            }
            let name = self.scrub(&field.name);
            self.check_name("field", &name);
            let _ = write!(self.out, "{{\"name\":{},\"type\":", quoted(&name));
            self.schema(&field.schema, &namespace);
            if let Some(doc) = field.schema.doc.as_deref().filter(|_| self.options.field_docs) {
                let _ = write!(self.out, ",\"doc\":{}", quoted(doc));
            }
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

/// What only Connect knows of a schema.
fn connect_properties(schema: &Schema, out: &mut String) {
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

/// Avro's word for a logical type of Connect's.
fn logical(schema: &Schema) -> Option<&'static str> {
    Some(match schema.name.as_deref()?.strip_prefix("org.apache.kafka.connect.data.")? {
        "Decimal" => "decimal",
        "Date" => "date",
        "Time" => "time-millis",
        "Timestamp" => "timestamp-millis",
        _ => return None,
    })
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
    let written = match (&schema.kind, datum) {
        (Kind::Struct(_), Datum::Struct(_)) => bare(out, schema, datum),
        _ => value(out, schema, datum),
    };
    written.map_err(|mut path| {
        path.reverse();
        AvroError::Value { field: path.join(".") }
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
    bare(out, schema, datum)
}

/// A value that is there, without its place in a union.
fn bare(out: &mut Vec<u8>, schema: &Schema, datum: &Datum<'_>) -> Result<(), Vec<String>> {
    match (&schema.kind, datum) {
        (Kind::Boolean, Datum::Bool(b)) => out.push(u8::from(*b)),
        (Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64, Datum::Int(n)) => zigzag(out, *n),
        (Kind::Float32, Datum::F32(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (Kind::Float64, Datum::F64(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (Kind::String, d) => {
            let text = d.as_str().ok_or_else(Vec::new)?;
            length(out, text.len());
            super::json::make_room(out, text.len());
            out.extend_from_slice(text.as_bytes());
        }
        (Kind::Bytes, d) => {
            let bytes = d.to_bytes().ok_or_else(Vec::new)?;
            length(out, bytes.len());
            super::json::make_room(out, bytes.len());
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
        let schema =
            apache_avro::Schema::parse_str(&schema_json(&envelope, Options::default()).unwrap()).unwrap();
        let read = apache_avro::from_avro_datum(&schema, &mut &out[..], None).unwrap();
        let text = format!("{read:?}");
        assert!(text.contains("Int(7)") && text.contains("String(\"x\")"), "{text}");
    }

    #[test]
    fn names_must_be_avros_unless_they_are_scrubbed() {
        let odd = Schema::structure([("order-id", Schema::new(Kind::Int32))]).titled("odd-srv.1t.Key");
        let refused = schema_json(&odd, Options::default()).unwrap_err();
        assert_eq!(refused, AvroError::Name { kind: "field", name: "order-id".into() });
        let scrub = Options { scrub: true, ..Options::default() };
        let text = schema_json(&odd, scrub).unwrap();
        assert!(text.contains("\"order_id\"") && text.contains("\"namespace\":\"odd_srv.x1t\""), "{text}");
        assert_eq!([scrubbed("_a"), scrubbed("_a b"), scrubbed("9")], ["_a", "_a_b", "x9"]);
    }

    #[test]
    fn an_impossible_value_names_its_field() {
        let schema = Schema::structure([("a", Schema::structure([("b", Schema::new(Kind::Int32))]))]);
        let datum = Datum::Struct(vec![Datum::Struct(vec![Datum::Null])]);
        assert_eq!(write(&mut Vec::new(), &schema, &datum), Err(AvroError::Value { field: "a.b".into() }));
    }
}
