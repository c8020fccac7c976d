//! A value between PostgreSQL's text and a converter's bytes.

use std::borrow::Cow;

use smallvec::SmallVec;

/// Bytes made by a conversion, kept inline where they are short.
pub type Inline = SmallVec<[u8; 32]>;

/// A value of a [`super::schema::Schema`]: borrowed from the wire where the wire already holds it.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum<'a> {
    /// Null.
    Null,
    /// Boolean.
    Bool(bool),
    /// Any of the integer types.
    Int(i64),
    /// Single precision.
    F32(f32),
    /// Double precision.
    F64(f64),
    /// Text from the wire, or owned.
    Str(Cow<'a, str>),
    /// Text made by a conversion; always ASCII or otherwise valid UTF-8.
    Text(Inline),
    /// Bytes from the wire, or owned.
    Bytes(Cow<'a, [u8]>),
    /// Bytes made by a conversion (the unscaled value of a decimal, big-endian two's complement).
    Short(Inline),
    /// Bytes still in hexadecimal, without the `\x`.
    Hex(&'a [u8]),
    /// A list.
    Array(Vec<Datum<'a>>),
    /// A map, in order.
    Map(Vec<(Datum<'a>, Datum<'a>)>),
    /// A struct's fields in the order of its schema.
    Struct(Vec<Datum<'a>>),
}

impl<'a> Datum<'a> {
    /// A borrowed text.
    pub fn str(text: &'a str) -> Self {
        Datum::Str(Cow::Borrowed(text))
    }

    /// An owned text.
    pub fn string(text: impl Into<String>) -> Self {
        Datum::Str(Cow::Owned(text.into()))
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// The text of a text value.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Datum::Str(s) => Some(s),
            Datum::Text(t) => std::str::from_utf8(t).ok(),
            _ => None,
        }
    }

    /// The bytes of a bytes value.
    pub fn to_bytes(&self) -> Option<Cow<'_, [u8]>> {
        match self {
            Datum::Bytes(b) => Some(Cow::Borrowed(b)),
            Datum::Short(b) => Some(Cow::Borrowed(b)),
            Datum::Hex(h) => Some(Cow::Owned(unhex(h))),
            _ => None,
        }
    }

    /// The integer of an integer value.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Datum::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The fields of a struct value.
    pub fn as_struct(&self) -> Option<&[Datum<'a>]> {
        match self {
            Datum::Struct(fields) => Some(fields),
            _ => None,
        }
    }

    /// A copy that borrows nothing.
    pub fn into_owned(self) -> Datum<'static> {
        match self {
            Datum::Null => Datum::Null,
            Datum::Bool(b) => Datum::Bool(b),
            Datum::Int(n) => Datum::Int(n),
            Datum::F32(n) => Datum::F32(n),
            Datum::F64(n) => Datum::F64(n),
            Datum::Str(s) => Datum::Str(Cow::Owned(s.into_owned())),
            Datum::Text(t) => Datum::Text(t),
            Datum::Bytes(b) => Datum::Bytes(Cow::Owned(b.into_owned())),
            Datum::Short(b) => Datum::Short(b),
            Datum::Hex(h) => Datum::Bytes(Cow::Owned(unhex(h))),
            Datum::Array(items) => Datum::Array(items.into_iter().map(Datum::into_owned).collect()),
            Datum::Map(pairs) => {
                Datum::Map(pairs.into_iter().map(|(k, v)| (k.into_owned(), v.into_owned())).collect())
            }
            Datum::Struct(fields) => Datum::Struct(fields.into_iter().map(Datum::into_owned).collect()),
        }
    }
}

/// One hexadecimal digit's value; 0 for anything else.
pub(crate) fn nibble(c: u8) -> u8 {
    match c {
        b'0'..=b'9' => c - b'0',
        b'a'..=b'f' => c - b'a' + 10,
        b'A'..=b'F' => c - b'A' + 10,
        _ => 0,
    }
}

/// Decodes hexadecimal digits in pairs.
pub(crate) fn unhex(hex: &[u8]) -> Vec<u8> {
    hex.chunks_exact(2).map(|p| nibble(p[0]) << 4 | nibble(p[1])).collect()
}
