//! Protobuf schemas and messages of Kafka Connect records, by the rules of Confluent's `ProtobufConverter`.
//!
//! A Connect schema becomes a [`Plan`]: the text of a proto3 file with one message, and what is written for each
//! field. What the rules lose is lost here too: a null and the zero of its type are one in fields without a label
//! (unless [`Options::optional`] or [`Options::wrapper`] is set), defaults and documentation are not in the text.

mod plan;
mod text;
mod value;

use std::sync::Arc;

use super::schema::Schema;

pub(super) use plan::{scrub, scrub_rest};

/// What a converter's options change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `optional.for.nullables`: fields that may be null have the label `optional`.
    pub optional: bool,
    /// `wrapper.for.nullables`: primitives that may be null are wrapper messages of `google.protobuf`.
    pub wrapper: bool,
    /// `scrub.invalid.names`: characters that no name may have are replaced.
    pub scrub: bool,
}

/// A schema that no Protobuf message can stand for, or a value that its field cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The schema.
    #[error("{what} cannot be Protobuf: {why}")]
    Schema {
        /// Message or field.
        what: String,
        /// The reason, with what helps.
        why: String,
    },
    /// The value.
    #[error("field {field} has {why}")]
    Value {
        /// Field, with its parents.
        field: String,
        /// What the value is.
        why: &'static str,
    },
}

/// What is written for a field's value.
#[derive(Clone, Debug, PartialEq)]
enum Shape {
    /// `int32` of the three smaller integer types.
    Int32,
    Int64,
    Float,
    Double,
    Bool,
    String,
    Bytes,
    /// `confluent.type.Decimal`, with the scale of the schema.
    Decimal(i32),
    /// `google.type.Date`
    Date,
    /// `google.type.TimeOfDay`
    Time,
    /// `google.protobuf.Timestamp`
    Timestamp,
    Message(Arc<Message>),
    /// Messages of a key and a value.
    Map(Arc<Message>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    /// Nothing: the zero of the type is not written.
    None,
    Optional,
    Repeated,
}

#[derive(Clone, Debug, PartialEq)]
struct Field {
    number: u32,
    name: String,
    /// The type as the text names it.
    type_name: String,
    /// `confluent.field_meta` in order.
    params: Vec<(&'static str, String)>,
    label: Label,
    shape: Shape,
    /// Whether a primitive is in a wrapper message.
    wrapped: bool,
    /// Of the field, for its default.
    schema: Arc<Schema>,
}

#[derive(Clone, Debug, PartialEq)]
struct Message {
    name: String,
    fields: Vec<Field>,
    nested: Vec<Arc<Message>>,
}

/// How records of one schema are written.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The schema's text, as it is registered.
    pub text: String,
    /// Full name of the message, for subjects.
    pub name: String,
    /// Which message of the text it is, as the wire format says it.
    index: [u8; 2],
    root: Root,
}

#[derive(Clone, Debug)]
enum Root {
    Message(Arc<Message>),
    /// A wrapper message of `google.protobuf`.
    Wrapper(Shape),
}
