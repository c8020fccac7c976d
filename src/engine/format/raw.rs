//! The raw format: the whole value is one column.

use super::metadata::Layout;
use super::{Decoder, FormatContext, FormatError, FormatOptions, Input};
use crate::engine::plan::TableRef;
use crate::engine::row::{Change, RowKind, Value};
use crate::engine::types::TypeKind;

/// Checks `charset`, and reads `endianness`.
pub(super) fn little_endian(options: &FormatOptions) -> Result<bool, FormatError> {
    if options.get("charset").is_some_and(|c| !c.eq_ignore_ascii_case("utf-8")) {
        return Err(FormatError::new(format!("option '{}charset': only UTF-8 is supported", options.prefix)));
    }
    match options.get("endianness") {
        None | Some("big-endian") => Ok(false),
        Some("little-endian") => Ok(true),
        Some(_) => Err(FormatError::new(format!(
            "option '{}endianness' is neither 'big-endian' nor 'little-endian'",
            options.prefix
        ))),
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

/// Appends a value; `false`: it is NULL, and so are the bytes.
pub(super) fn write(
    value: &Value,
    kind: &TypeKind,
    little_endian: bool,
    out: &mut Vec<u8>,
) -> Result<bool, FormatError> {
    let mut number = |bytes: &[u8]| {
        if little_endian {
            out.extend(bytes.iter().rev());
        } else {
            out.extend_from_slice(bytes);
        }
    };
    match (value, kind) {
        (Value::Null, _) => return Ok(false),
        (Value::Str(text), _) => out.extend_from_slice(text.as_bytes()),
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
    little_endian: bool,
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
            return Err(FormatError::new(format!("table {}: the raw format takes one column", table.name)));
        };
        let little_endian = little_endian(options)?;
        check(&field.data_type.kind)?;
        Ok(Self {
            kind: field.data_type.kind.clone(),
            name: field.name.clone(),
            layout,
            little_endian,
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
                let position = if self.little_endian { 7 - i } else { 8 - length + i };
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
            TypeKind::Varchar(_) | TypeKind::Char(_) => std::str::from_utf8(bytes).ok().map(Value::str),
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
