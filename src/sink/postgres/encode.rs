//! Columns of an epoch as PostgreSQL's binary arrays, written straight into the Bind message.

use std::error::Error as StdError;
use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::engine::row::{Decimal, Instant, Row, Value};
use crate::engine::types::{DataType, TypeKind};

/// What a column's values are sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Bytea,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    /// An array as PostgreSQL's text form of it, cast at the server: arrays of arrays have no binary form here.
    ArrayText,
}

impl Wire {
    /// What a type of the SQL schema is sent as; `None` where PostgreSQL has nothing like it.
    pub(crate) fn of(kind: &TypeKind) -> Option<Self> {
        Some(match kind {
            TypeKind::Boolean => Self::Bool,
            TypeKind::TinyInt | TypeKind::SmallInt => Self::Int2,
            TypeKind::Int => Self::Int4,
            TypeKind::BigInt => Self::Int8,
            TypeKind::Float => Self::Float4,
            TypeKind::Double => Self::Float8,
            TypeKind::Decimal(..) => Self::Numeric,
            TypeKind::Char(_) | TypeKind::Varchar(_) => Self::Text,
            TypeKind::Binary(_) | TypeKind::Varbinary(_) => Self::Bytea,
            TypeKind::Date => Self::Date,
            TypeKind::Time(_) => Self::Time,
            TypeKind::Timestamp(_) => Self::Timestamp,
            TypeKind::TimestampLtz(_) => Self::Timestamptz,
            TypeKind::Array(element) if !matches!(element.kind, TypeKind::Array(_)) => {
                Self::of(&element.kind)?;
                Self::ArrayText
            }
            _ => return None,
        })
    }

    /// The type of one value, and of the array that holds a column of them.
    pub(crate) fn types(self) -> (Type, Type) {
        match self {
            Self::Bool => (Type::BOOL, Type::BOOL_ARRAY),
            Self::Int2 => (Type::INT2, Type::INT2_ARRAY),
            Self::Int4 => (Type::INT4, Type::INT4_ARRAY),
            Self::Int8 => (Type::INT8, Type::INT8_ARRAY),
            Self::Float4 => (Type::FLOAT4, Type::FLOAT4_ARRAY),
            Self::Float8 => (Type::FLOAT8, Type::FLOAT8_ARRAY),
            Self::Numeric => (Type::NUMERIC, Type::NUMERIC_ARRAY),
            Self::Text | Self::ArrayText => (Type::TEXT, Type::TEXT_ARRAY),
            Self::Bytea => (Type::BYTEA, Type::BYTEA_ARRAY),
            Self::Date => (Type::DATE, Type::DATE_ARRAY),
            Self::Time => (Type::TIME, Type::TIME_ARRAY),
            Self::Timestamp => (Type::TIMESTAMP, Type::TIMESTAMP_ARRAY),
            Self::Timestamptz => (Type::TIMESTAMPTZ, Type::TIMESTAMPTZ_ARRAY),
        }
    }
}

/// A column of some rows, as the parameter of an `unnest`. It is encoded before anything is sent: an error that the
/// client finds while a statement is on its way does not keep the statements around it from the server.
#[derive(Debug)]
pub(crate) struct ColumnParameter {
    array: BytesMut,
}

/// A value that PostgreSQL's type has no room for, by its column's place; never the value itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value of column {0} is outside of the range of PostgreSQL's type, or not of the column's type")]
pub(crate) struct OutOfRange(pub(crate) usize);

impl ColumnParameter {
    /// Encodes the values of a column, which are of `data_type`.
    pub(crate) fn encode(
        wire: Wire,
        data_type: &DataType,
        column: usize,
        rows: &[&Row],
    ) -> Result<Self, OutOfRange> {
        let values = || rows.iter().map(|row| row.get(column).unwrap_or(&Value::Null));
        let length = |n: usize| i32::try_from(n).map_err(|_| OutOfRange(column));
        let mut out = BytesMut::with_capacity(20 + rows.len() * 12);
        out.put_i32(1);
        out.put_i32(i32::from(values().any(Value::is_null)));
        out.put_u32(wire.types().0.oid());
        out.put_i32(length(rows.len())?);
        out.put_i32(1);
        for value in values() {
            if value.is_null() {
                out.put_i32(-1);
                continue;
            }
            let at = out.len();
            out.put_i32(0);
            put(&mut out, wire, value, data_type).ok_or(OutOfRange(column))?;
            let len = length(out.len() - at - 4)?;
            if let Some(place) = out.get_mut(at..at + 4) {
                place.copy_from_slice(&len.to_be_bytes());
            }
        }
        Ok(Self { array: out })
    }
}

impl ToSql for ColumnParameter {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(&self.array);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// 2000-01-01 in days, milliseconds and microseconds since 1970.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Writes one value that is not NULL; `None` where it does not fit.
fn put(out: &mut BytesMut, wire: Wire, value: &Value, data_type: &DataType) -> Option<()> {
    match (wire, value) {
        (Wire::Bool, Value::Bool(v)) => out.put_u8(u8::from(*v)),
        (Wire::Int2, Value::Int(v)) => out.put_i16(i16::try_from(*v).ok()?),
        (Wire::Int4, Value::Int(v)) => out.put_i32(i32::try_from(*v).ok()?),
        (Wire::Int8, Value::Int(v)) => out.put_i64(*v),
        (Wire::Float4, Value::Float(v)) => out.put_f32(*v),
        (Wire::Float8, Value::Double(v)) => out.put_f64(*v),
        (Wire::Numeric, Value::Decimal(v)) => numeric(out, *v),
        (Wire::Text, Value::Str(v)) => out.put_slice(v.as_bytes()),
        (Wire::Bytea, Value::Bytes(v)) => out.put_slice(v),
        (Wire::Date, Value::Date(days)) => out.put_i32(days.checked_sub(EPOCH_DAYS)?),
        (Wire::Time, Value::Time(millis)) => out.put_i64(i64::from(*millis) * 1000),
        (Wire::Timestamp, Value::Timestamp(at)) | (Wire::Timestamptz, Value::TimestampLtz(at)) => {
            out.put_i64(micros(*at)?.checked_sub(EPOCH_MICROS)?);
        }
        (Wire::ArrayText, Value::Array(items)) => {
            let TypeKind::Array(element) = &data_type.kind else { return None };
            let mut text = String::new();
            array_text(&mut text, items, element);
            out.put_slice(text.as_bytes());
        }
        _ => return None,
    }
    Some(())
}

/// Microseconds since 1970; PostgreSQL keeps no finer time.
fn micros(at: Instant) -> Option<i64> {
    at.millis.checked_mul(1000)?.checked_add(i64::from(at.nanos / 1000))
}

/// PostgreSQL's `numeric`: groups of four digits around the point.
fn numeric(out: &mut BytesMut, value: Decimal) {
    let unscaled = value.unscaled();
    let scale = usize::from(value.scale);
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    // Groups count from the point: zeros are put in front of and behind the digits until all groups are whole.
    let whole_len = digits.len().saturating_sub(scale);
    let front = (4 - whole_len % 4) % 4 + scale.saturating_sub(digits.len());
    let back = (4 - scale % 4) % 4;
    let front = front + (4 - (front + digits.len() + back) % 4) % 4;
    let mut groups = [0i16; 24];
    let mut count = 0;
    let padded = std::iter::repeat_n(&b'0', front).chain(digits).chain(std::iter::repeat_n(&b'0', back));
    for (i, digit) in padded.enumerate() {
        let Some(group) = groups.get_mut(i / 4) else { break };
        *group = *group * 10 + i16::from(digit - b'0');
        count = i / 4 + 1;
    }
    let fraction_groups = scale.div_ceil(4);
    let mut weight = count as i32 - fraction_groups as i32 - 1;
    let mut used = groups.get(..count).unwrap_or_default();
    while let Some((0, rest)) = used.split_first() {
        (used, weight) = (rest, weight - 1);
    }
    while let Some((0, rest)) = used.split_last() {
        used = rest;
    }
    let weight = if used.is_empty() { 0 } else { weight };
    out.put_i16(used.len() as i16);
    out.put_i16(weight as i16);
    out.put_u16(if unscaled < 0 && !used.is_empty() { 0x4000 } else { 0 });
    out.put_u16(u16::from(value.scale));
    for group in used {
        out.put_i16(*group);
    }
}

/// PostgreSQL's text form of an array: `{"a","b\"c",NULL}`.
fn array_text(text: &mut String, items: &[Value], element: &DataType) {
    text.push('{');
    let mut one = String::new();
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        if item.is_null() {
            text.push_str("NULL");
            continue;
        }
        one.clear();
        match item {
            Value::Bytes(bytes) => {
                one.push_str("\\x");
                for byte in bytes.iter() {
                    let _ = write!(one, "{byte:02x}");
                }
            }
            other => crate::engine::print::value(&mut one, other, element),
        }
        text.push('"');
        for c in one.chars() {
            if matches!(c, '"' | '\\') {
                text.push('\\');
            }
            text.push(c);
        }
        text.push('"');
    }
    text.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number as its groups say it, to compare with how it was written.
    fn read_numeric(bytes: &[u8]) -> String {
        let short = |i: usize| i16::from_be_bytes([bytes[i * 2], bytes[i * 2 + 1]]);
        let (count, weight, sign, scale) = (short(0), short(1), short(2), short(3));
        let mut text = String::new();
        for place in (0..=weight.max(0)).rev().map(i32::from).chain((-12..0).rev()) {
            if place == -1 {
                text.push('.');
            }
            let index = i32::from(weight) - place;
            let group = if (0..i32::from(count)).contains(&index) { short(4 + index as usize) } else { 0 };
            text += &format!("{group:04}");
        }
        let (whole, fraction) = text.split_once('.').unwrap();
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let fraction = &fraction[..scale as usize];
        let sign = if sign == 0 { "" } else { "-" };
        if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
    }

    #[test]
    fn numerics() {
        for (unscaled, scale, expected) in [
            (0i128, 0u8, "0"),
            (0, 2, "0.00"),
            (1, 0, "1"),
            (-12345, 2, "-123.45"),
            (5, 3, "0.005"),
            (5, 9, "0.000000005"),
            (10_000, 0, "10000"),
            (100_000_000, 4, "10000.0000"),
            (99_999_999_999_999_999_999_999_999_999_999_999_999, 0, "99999999999999999999999999999999999999"),
            (
                99_999_999_999_999_999_999_999_999_999_999_999_999,
                38,
                "0.99999999999999999999999999999999999999",
            ),
            (
                -99_999_999_999_999_999_999_999_999_999_999_999_999,
                19,
                "-9999999999999999999.9999999999999999999",
            ),
            (i128::MAX, 0, "170141183460469231731687303715884105727"),
            (i128::MIN, 10, "-17014118346046923173168730371.5884105728"),
        ] {
            let mut out = BytesMut::new();
            numeric(&mut out, Decimal::new(unscaled, scale));
            assert_eq!(read_numeric(&out), expected, "{unscaled} scale {scale}: {out:02x?}");
        }
    }

    #[test]
    fn array_texts() {
        let mut text = String::new();
        let items = [Value::str("a\"b\\c"), Value::Null, Value::str("")];
        array_text(&mut text, &items, &DataType::string());
        assert_eq!(text, r#"{"a\"b\\c",NULL,""}"#);
    }
}
