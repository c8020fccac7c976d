//! The raw format: the whole value is one column.

use super::metadata::Layout;
use super::{Decoder, FormatContext, FormatError, FormatOptions, Input};
use crate::engine::plan::TableRef;
use crate::engine::row::{Change, RowKind, Value};
use crate::engine::types::{Field, TypeKind};

/// `charset` and `endianness`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RawOptions {
    charset: Charset,
    little_endian: bool,
}

/// The character sets that every Java has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Charset {
    Utf8,
    Latin1,
    Ascii,
    Utf16 {
        /// What stands where no mark says otherwise.
        little_endian: bool,
        /// The mark is read, and written.
        mark: bool,
    },
}

impl RawOptions {
    pub(super) fn new(options: &FormatOptions) -> Result<Self, FormatError> {
        let charset = options.get("charset").unwrap_or("UTF-8");
        let charset = match charset.to_ascii_uppercase().as_str() {
            "UTF-8" | "UTF8" => Charset::Utf8,
            "ISO-8859-1" | "ISO8859_1" | "LATIN1" => Charset::Latin1,
            "US-ASCII" | "ASCII" => Charset::Ascii,
            "UTF-16" | "UTF16" => Charset::Utf16 { little_endian: false, mark: true },
            "UTF-16BE" => Charset::Utf16 { little_endian: false, mark: false },
            "UTF-16LE" => Charset::Utf16 { little_endian: true, mark: false },
            _ => {
                return Err(FormatError::new(format!(
                    "Unsupported '{}charset' name: {charset}.",
                    options.prefix
                ))
                .next("use UTF-8, ISO-8859-1, US-ASCII, UTF-16, UTF-16BE or UTF-16LE; BYTES takes any"));
            }
        };
        let little_endian = match options.get("endianness") {
            None | Some("big-endian") => false,
            Some("little-endian") => true,
            Some(other) => {
                return Err(FormatError::new(format!(
                    "Unsupported endianness name: {other}. Valid values of '{}endianness' option are 'big-endian' and 'little-endian'",
                    options.prefix
                )));
            }
        };
        Ok(Self { charset, little_endian })
    }
}

impl Charset {
    /// The text of bytes; what is none becomes U+FFFD, as Java has it.
    fn decode(self, bytes: &[u8]) -> String {
        match self {
            Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Latin1 => bytes.iter().copied().map(char::from).collect(),
            Self::Ascii => bytes
                .iter()
                .map(|b| if b.is_ascii() { char::from(*b) } else { char::REPLACEMENT_CHARACTER })
                .collect(),
            Self::Utf16 { little_endian, mark } => {
                let (little_endian, bytes) = match bytes.split_at_checked(2) {
                    Some(([0xFF, 0xFE], rest)) if mark => (true, rest),
                    Some(([0xFE, 0xFF], rest)) if mark => (false, rest),
                    _ => (little_endian, bytes),
                };
                let units = bytes.chunks(2).map(|pair| match *pair {
                    [a, b] if little_endian => u16::from_le_bytes([a, b]),
                    [a, b] => u16::from_be_bytes([a, b]),
                    // Half a character.
                    _ => 0xFFFD,
                });
                char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            }
        }
    }

    /// The bytes of text; what the set has not becomes `?`, as Java has it.
    fn encode(self, text: &str, out: &mut Vec<u8>) {
        let within = |most: u32| {
            text.chars().map(move |c| {
                u8::try_from(u32::from(c)).ok().filter(|b| u32::from(*b) <= most).unwrap_or(b'?')
            })
        };
        match self {
            Self::Utf8 => out.extend_from_slice(text.as_bytes()),
            Self::Latin1 => out.extend(within(0xFF)),
            Self::Ascii => out.extend(within(0x7F)),
            Self::Utf16 { little_endian, mark } => {
                if mark {
                    out.extend_from_slice(&[0xFE, 0xFF]);
                }
                for unit in text.encode_utf16() {
                    out.extend_from_slice(&if little_endian {
                        unit.to_le_bytes()
                    } else {
                        unit.to_be_bytes()
                    });
                }
            }
        }
    }
}

/// Whether the format knows the type.
pub(super) fn check(kind: &TypeKind) -> Result<(), FormatError> {
    match kind {
        TypeKind::Varchar(_)
        | TypeKind::Char(_)
        | TypeKind::Varbinary(_)
        | TypeKind::Binary(_)
        | TypeKind::Boolean
        | TypeKind::TinyInt
        | TypeKind::SmallInt
        | TypeKind::Int
        | TypeKind::BigInt
        | TypeKind::Float
        | TypeKind::Double => Ok(()),
        other => Err(FormatError::new(format!("the 'raw' format doesn't supports '{other}' as column type"))
            .next("use STRING or BYTES and convert it in the query")),
    }
}

/// More columns than one, or none.
pub(super) fn single_column(columns: &[Field]) -> FormatError {
    let columns: Vec<String> = columns.iter().map(|f| format!("`{}` {}", f.name, f.data_type)).collect();
    FormatError::new(format!(
        "The 'raw' format only supports single physical column. However the defined schema contains multiple physical \
         columns: [{}]",
        columns.join(", ")
    ))
}

/// Appends a value; `false`: it is NULL, and so are the bytes.
pub(super) fn write(
    value: &Value,
    kind: &TypeKind,
    options: RawOptions,
    out: &mut Vec<u8>,
) -> Result<bool, FormatError> {
    let mut number = |bytes: &[u8]| {
        if options.little_endian {
            out.extend(bytes.iter().rev());
        } else {
            out.extend_from_slice(bytes);
        }
    };
    match (value, kind) {
        (Value::Null, _) => return Ok(false),
        (Value::Str(text), _) => options.charset.encode(text, out),
        (Value::Bytes(bytes), _) => out.extend_from_slice(bytes),
        (Value::Bool(b), _) => out.push(u8::from(*b)),
        (Value::Float(f), _) => number(&f.to_be_bytes()),
        (Value::Double(d), _) => number(&d.to_be_bytes()),
        (Value::Int(n), kind) => {
            let width = match kind {
                TypeKind::TinyInt => 1,
                TypeKind::SmallInt => 2,
                TypeKind::Int => 4,
                _ => 8,
            };
            // The low bytes hold the number: it is within its type.
            number(n.to_be_bytes().get(8 - width..).unwrap_or_default());
        }
        _ => return Err(FormatError::new("the raw format cannot write this value")),
    }
    Ok(true)
}

pub(super) struct RawDecoder {
    layout: Layout,
    kind: TypeKind,
    name: String,
    options: RawOptions,
    slots: Vec<Value>,
}

impl RawDecoder {
    pub(super) fn new(
        table: &TableRef,
        options: &FormatOptions,
        context: &FormatContext,
    ) -> Result<Self, FormatError> {
        let layout = Layout::new(table, context, false)?;
        let [field] = layout.physical.as_slice() else {
            return Err(single_column(&layout.physical));
        };
        let options = RawOptions::new(options)?;
        check(&field.data_type.kind)?;
        Ok(Self {
            kind: field.data_type.kind.clone(),
            name: field.name.clone(),
            layout,
            options,
            slots: Vec::new(),
        })
    }

    fn read(&self, bytes: &[u8]) -> Option<Value> {
        let number = |length: usize| -> Option<[u8; 8]> {
            if bytes.len() != length {
                return None;
            }
            let mut all = [0; 8];
            for (i, byte) in bytes.iter().enumerate() {
                let position = if self.options.little_endian { 7 - i } else { 8 - length + i };
                *all.get_mut(position)? = *byte;
            }
            Some(all)
        };
        let int = |length: usize, bits: u32| {
            let n = i64::from_be_bytes(number(length)?);
            // Sign extension of what stands in the low bytes.
            Some(Value::Int(n << (64 - bits) >> (64 - bits)))
        };
        match &self.kind {
            TypeKind::Varchar(_) | TypeKind::Char(_) => Some(Value::str(&self.options.charset.decode(bytes))),
            TypeKind::Varbinary(_) | TypeKind::Binary(_) => Some(Value::Bytes(bytes.into())),
            TypeKind::Boolean => bytes.first().filter(|_| bytes.len() == 1).map(|b| Value::Bool(*b != 0)),
            TypeKind::TinyInt => int(1, 8),
            TypeKind::SmallInt => int(2, 16),
            TypeKind::Int => int(4, 32),
            TypeKind::BigInt => int(8, 64),
            TypeKind::Float => {
                let [_, _, _, _, a, b, c, d] = number(4)?;
                Some(Value::Float(f32::from_be_bytes([a, b, c, d])))
            }
            TypeKind::Double => Some(Value::Double(f64::from_be_bytes(number(8)?))),
            _ => None,
        }
    }
}

impl Decoder for RawDecoder {
    fn decode(&mut self, input: &Input<'_>, out: &mut Vec<Change>) -> Result<(), FormatError> {
        let value = match input.value {
            None => Value::Null,
            Some(bytes) => self.read(bytes).ok_or_else(|| {
                FormatError::new(format!("the value is not a raw {}", self.kind)).in_column(&self.name)
            })?,
        };
        self.slots.clear();
        self.slots.push(value);
        out.push(Change { kind: RowKind::Insert, row: self.layout.row(&mut self.slots, input, None) });
        Ok(())
    }

    fn wants_headers(&self) -> bool {
        self.layout.wants_headers()
    }
}
