//! Messages and fields of a Connect schema.

use std::fmt::Write as _;
use std::sync::Arc;

use super::super::schema::{self, Kind, Schema};
use super::{Field, Label, Message, Options, Plan, ProtobufError, Root, Shape, text};

const CONNECT: &str = "org.apache.kafka.connect.data.";

/// The wrapper messages in the order of their file.
const WRAPPERS: [&str; 9] =
    ["Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes"];

impl Plan {
    /// Plans the records of a schema.
    ///
    /// # Errors
    /// A schema that is neither a struct nor a primitive at its top, arrays of arrays, names that Protobuf does not
    /// allow (where they are not scrubbed), and two different messages of one name.
    pub fn new(schema: &Schema, options: Options) -> Result<Self, ProtobufError> {
        let mut planner = Planner { options, imports: Vec::new(), unnamed: 0 };
        if !matches!(schema.kind, Kind::Struct(_)) {
            return wrapper(schema);
        }
        let full = planner.name_or_default(schema);
        let mut parts: Vec<String> = full.split('.').map(|part| planner.scrub(part)).collect();
        while parts.len() > 1 && parts.last().is_some_and(String::is_empty) {
            parts.pop();
        }
        let name = parts.pop().unwrap_or_default();
        let package = (!parts.is_empty()).then(|| parts.join("."));
        let root = planner.message(name, schema)?;
        let full =
            package.iter().map(String::as_str).chain([root.name.as_str()]).collect::<Vec<_>>().join(".");
        Ok(Self {
            text: text::file(package.as_deref(), &planner.imports, &root),
            name: full,
            index: [0, 0],
            root: Root::Message(Arc::new(root)),
        })
    }
}

/// A primitive at the top of a record is a wrapper message.
fn wrapper(schema: &Schema) -> Result<Plan, ProtobufError> {
    let what = || schema.name.clone().unwrap_or_else(|| "a key or value that is no struct".into());
    if schema.name.as_deref().is_some_and(|name| name.starts_with(CONNECT)) {
        let why = "a decimal, date or time can only be a field of a message".into();
        return Err(ProtobufError::Schema { what: what(), why });
    }
    let Some((shape, _)) = primitive(&schema.kind) else {
        return Err(ProtobufError::Schema {
            what: what(),
            why: "an array or map can only be a field".into(),
        });
    };
    let word = wrapper_word(&shape);
    let at = WRAPPERS.iter().position(|w| *w == word).and_then(|at| u8::try_from(at).ok()).unwrap_or(0);
    Ok(Plan {
        text: text::WRAPPERS_FILE.to_owned(),
        name: format!("google.protobuf.{word}Value"),
        // zigzag: one index, this one; the first message is one zero
        index: if at == 0 { [0, 0] } else { [2, at << 1] },
        root: Root::Wrapper(shape),
    })
}

fn primitive(kind: &Kind) -> Option<(Shape, &'static str)> {
    Some(match kind {
        Kind::Int8 | Kind::Int16 | Kind::Int32 => (Shape::Int32, "int32"),
        Kind::Int64 => (Shape::Int64, "int64"),
        Kind::Float32 => (Shape::Float, "float"),
        Kind::Float64 => (Shape::Double, "double"),
        Kind::Boolean => (Shape::Bool, "bool"),
        Kind::String => (Shape::String, "string"),
        Kind::Bytes => (Shape::Bytes, "bytes"),
        Kind::Array(_) | Kind::Map(..) | Kind::Struct(_) => return None,
    })
}

fn wrapper_word(shape: &Shape) -> &'static str {
    match shape {
        Shape::Double => "Double",
        Shape::Float => "Float",
        Shape::Int64 => "Int64",
        Shape::Int32 => "Int32",
        Shape::Bool => "Bool",
        Shape::String => "String",
        _ => "Bytes",
    }
}

struct Planner {
    options: Options,
    imports: Vec<&'static str>,
    /// Schemas without a name so far.
    unnamed: usize,
}

/// A field's type: how it is written, its name, its parameters.
struct Type {
    shape: Shape,
    name: String,
    params: Vec<(&'static str, String)>,
    wrapped: bool,
}

impl Type {
    fn plain(shape: Shape, name: impl Into<String>) -> Self {
        Self { shape, name: name.into(), params: Vec::new(), wrapped: false }
    }
}

impl Planner {
    fn name_or_default(&mut self, schema: &Schema) -> String {
        match schema.name.as_deref() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => {
                self.unnamed += 1;
                format!("ConnectDefault{}", self.unnamed)
            }
        }
    }

    /// The last part of a schema's name.
    fn unqualified(&mut self, schema: &Schema) -> String {
        let full = self.name_or_default(schema);
        self.scrub(full.rsplit('.').next().unwrap_or(&full))
    }

    fn scrub(&self, name: &str) -> String {
        if self.options.scrub { scrub(name) } else { name.to_owned() }
    }

    fn import(&mut self, file: &'static str) {
        if !self.imports.contains(&file) {
            self.imports.push(file);
        }
    }

    fn message(&mut self, name: String, schema: &Schema) -> Result<Message, ProtobufError> {
        let mut message = Message { name, fields: Vec::new(), nested: Vec::new() };
        // whose fields the message and its nested messages have
        let mut known: Vec<(String, &[schema::Field])> = vec![(message.name.clone(), schema.fields())];
        for (field, number) in schema.fields().iter().zip(1..) {
            let name = self.scrub(&field.name);
            let (label, of) = match &field.schema.kind {
                Kind::Array(items) => (Label::Repeated, items),
                Kind::Map(..) => (Label::Repeated, &field.schema),
                _ if self.options.optional && field.schema.optional => (Label::Optional, &field.schema),
                _ => (Label::None, &field.schema),
            };
            let ty = self.field_type(&name, of, &mut message.nested, &mut known)?;
            message.fields.push(Field {
                number,
                name,
                type_name: ty.name,
                params: ty.params,
                label,
                shape: ty.shape,
                wrapped: ty.wrapped,
                schema: Arc::clone(&field.schema),
            });
        }
        check_names(&message)?;
        Ok(message)
    }

    fn field_type<'s>(
        &mut self,
        field: &str,
        schema: &'s Schema,
        nested: &mut Vec<Arc<Message>>,
        known: &mut Vec<(String, &'s [schema::Field])>,
    ) -> Result<Type, ProtobufError> {
        if let Some(ty) = self.logical(schema) {
            return Ok(ty);
        }
        if let Some((shape, name)) = primitive(&schema.kind) {
            let wrapped = self.options.wrapper && schema.optional;
            let mut ty = Type { wrapped, ..Type::plain(shape, name) };
            if let Kind::Int8 | Kind::Int16 = schema.kind {
                let kind = if schema.kind == Kind::Int8 { "int8" } else { "int16" };
                ty.params.push(("connect.type", kind.into()));
            }
            if wrapped {
                self.import("google/protobuf/wrappers.proto");
                ty.name = format!("google.protobuf.{}Value", wrapper_word(&ty.shape));
            }
            return Ok(ty);
        }
        match &schema.kind {
            Kind::Map(keys, values) => {
                let name = format!("{}Entry", camel(&self.unqualified(schema)));
                let entry = self.map_entry(name.clone(), keys, values)?;
                nested.push(Arc::clone(&entry));
                Ok(Type::plain(Shape::Map(entry), name))
            }
            Kind::Struct(fields) => {
                let mut name = self.unqualified(schema);
                if name == field {
                    name.push_str("Message");
                }
                match known.iter().find(|(n, _)| *n == name) {
                    Some((_, same)) if *same == fields.as_slice() => {}
                    Some(_) => {
                        let why = "two different structs beside each other have that name".into();
                        return Err(ProtobufError::Schema { what: format!("message {name}"), why });
                    }
                    None => {
                        known.push((name.clone(), fields));
                        nested.push(Arc::new(self.message(name.clone(), schema)?));
                    }
                }
                let Some(message) = nested.iter().find(|m| m.name == name) else {
                    let why = "a struct within itself".to_owned();
                    return Err(ProtobufError::Schema { what: format!("message {name}"), why });
                };
                Ok(Type::plain(Shape::Message(Arc::clone(message)), name))
            }
            _ => Err(ProtobufError::Schema {
                what: format!("field {field}"),
                why: "an array cannot hold arrays".into(),
            }),
        }
    }

    /// The messages that stand for Connect's logical types.
    fn logical(&mut self, schema: &Schema) -> Option<Type> {
        Some(match schema.name.as_deref()?.strip_prefix(CONNECT)? {
            "Decimal" => {
                self.import("confluent/type/decimal.proto");
                let scale = schema.get_parameter("scale");
                let precision = schema.get_parameter("connect.decimal.precision");
                let number = scale.and_then(|s| s.parse().ok()).unwrap_or(0);
                let mut ty = Type::plain(Shape::Decimal(number), "confluent.type.Decimal");
                ty.params.extend(precision.map(|p| ("precision", p.to_owned())));
                ty.params.extend(scale.map(|s| ("scale", s.to_owned())));
                ty
            }
            "Date" => {
                self.import("google/type/date.proto");
                Type::plain(Shape::Date, "google.type.Date")
            }
            "Time" => {
                self.import("google/type/timeofday.proto");
                Type::plain(Shape::Time, "google.type.TimeOfDay")
            }
            "Timestamp" => {
                self.import("google/protobuf/timestamp.proto");
                Type::plain(Shape::Timestamp, "google.protobuf.Timestamp")
            }
            _ => return None,
        })
    }

    fn map_entry(
        &mut self,
        name: String,
        keys: &Arc<Schema>,
        values: &Arc<Schema>,
    ) -> Result<Arc<Message>, ProtobufError> {
        let fields = [("key", keys), ("value", values)]
            .map(|(name, schema)| schema::Field { name: name.into(), schema: Arc::clone(schema) });
        let mut entry = self.message(name, &Schema::new(Kind::Struct(fields.into())))?;
        for field in &mut entry.fields {
            field.params.clear();
            // Confluent's converter says nothing of the entries' fields
            if field.label == Label::Optional {
                field.label = Label::None;
            }
        }
        Ok(Arc::new(entry))
    }
}

/// A map's name as its entries have it: where it has underscores, its words in camel case.
fn camel(name: &str) -> String {
    if !name.contains('_') {
        return name.to_owned();
    }
    let mut out = String::with_capacity(name.len());
    for word in name.split('_') {
        let mut chars = word.chars();
        out.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        out.extend(chars.map(|c| c.to_ascii_lowercase()));
    }
    out
}

/// Names must be identifiers, and no two of a message's fields and nested messages may be the same.
fn check_names(message: &Message) -> Result<(), ProtobufError> {
    let fields = message.fields.iter().map(|f| ("field", f.name.as_str()));
    let nested = message.nested.iter().map(|m| ("message", m.name.as_str()));
    let mut seen = std::collections::HashSet::new();
    for (kind, name) in [("message", message.name.as_str())].into_iter().chain(fields.chain(nested)) {
        let mut chars = name.chars();
        let start = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !start || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(ProtobufError::Schema {
                what: format!("{kind} \"{name}\""),
                why: "only letters, digits and _ are allowed; scrub.invalid.names=true replaces the others"
                    .into(),
            });
        }
    }
    let all = message.fields.iter().map(|f| &f.name).chain(message.nested.iter().map(|m| &m.name));
    for name in all {
        if !seen.insert(name) {
            return Err(ProtobufError::Schema {
                what: format!("message {}", message.name),
                why: format!("two of its fields or messages are named {name}"),
            });
        }
    }
    Ok(())
}

/// A name of letters, digits and underscores, as Confluent's converters make one: [`scrub_rest`], with an `x` before
/// a digit or underscore at the start.
pub(in super::super) fn scrub(name: &str) -> String {
    let digit = name.starts_with(|c: char| c.is_ascii_digit() || c == '_');
    format!("{}{}", if digit { "x" } else { "" }, scrub_rest(name))
}

/// `_` for what URLs do not encode, `_XX` for every other byte that is no letter, digit or underscore.
pub(in super::super) fn scrub_rest(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_ascii_alphanumeric() || c == '_' {
            out.push(c);
        } else if matches!(c, ' ' | '.' | '-' | '*') {
            out.push('_');
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(out, "_{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_scrubbed_as_confluent_does() {
        for (name, scrubbed) in [
            ("order-id", "order_id"),
            ("with space", "with_space"),
            ("1st", "x1st"),
            ("_under", "x_under"),
            ("$dollar", "_24dollar"),
            ("naïve", "na_C3_AFve"),
            ("Straße", "Stra_C3_9Fe"),
            ("plain_1", "plain_1"),
            ("", ""),
        ] {
            assert_eq!(scrub(name), scrubbed);
        }
    }

    #[test]
    fn what_no_message_can_be_is_said_with_its_name() {
        let refused = |schema: &Schema| Plan::new(schema, Options::default()).unwrap_err().to_string();
        let nested = Schema::array(Schema::array(Schema::new(Kind::Int32)));
        let said = refused(&Schema::structure([("m", nested)]).titled("a.V"));
        assert_eq!(said, "field m cannot be Protobuf: an array cannot hold arrays");
        let odd = Schema::structure([("a-b", Schema::new(Kind::Int32))]).titled("a.V");
        assert!(
            refused(&odd).starts_with("field \"a-b\" cannot be Protobuf") && refused(&odd).contains("scrub")
        );
        assert!(Plan::new(&odd, Options { scrub: true, ..Options::default() }).is_ok());
        let one = |kind| Schema::structure([("x", Schema::new(kind))]).titled("n.Same");
        let two = Schema::structure([("a", one(Kind::Int32)), ("b", one(Kind::String))]).titled("a.V");
        assert!(refused(&two).contains("message Same"));
    }
}
