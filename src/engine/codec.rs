//! Bytes of rows and keys in the state.
//!
//! Rows: a version byte, the number of columns, then each value as a tag and its content; self-describing, so
//! that state can be read without the plan that wrote it. Keys: memory-comparable, so that a scan of a table
//! goes in the order of the values. Bytes from outside (a damaged store, an outbox) give errors, never panics.

use std::sync::Arc;

use super::row::{Instant, Row, Value};

const VERSION: u8 = 1;
/// Deepest nesting that is read.
const MAX_DEPTH: u32 = 64;

/// Bytes that are not a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// They end too early.
    #[error("the entry is cut short")]
    Short,
    /// A newer version of the program wrote them.
    #[error("the entry has format version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// A tag that does not exist, a length that cannot be, text that is not UTF-8, …
    #[error("the entry is damaged: {0}")]
    Damaged(&'static str),
}

mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const INT: u8 = 3;
    pub(super) const FLOAT: u8 = 4;
    pub(super) const DOUBLE: u8 = 5;
    pub(super) const DECIMAL: u8 = 6;
    pub(super) const STR: u8 = 7;
    pub(super) const BYTES: u8 = 8;
    pub(super) const DATE: u8 = 9;
    pub(super) const TIME: u8 = 10;
    pub(super) const TIMESTAMP: u8 = 11;
    pub(super) const TIMESTAMP_LTZ: u8 = 12;
    pub(super) const INTERVAL: u8 = 13;
    pub(super) const ARRAY: u8 = 14;
    pub(super) const MAP: u8 = 15;
    pub(super) const ROW: u8 = 16;
}

/// Appends a whole number in as few bytes as it needs.
pub fn put_varint(out: &mut Vec<u8>, mut value: u128) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// Appends a signed number; small ones of either sign are short.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, u128::from(((value << 1) ^ (value >> 63)).cast_unsigned()));
}

fn put_signed_wide(out: &mut Vec<u8>, value: i128) {
    put_varint(out, ((value << 1) ^ (value >> 127)).cast_unsigned());
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    put_varint(out, len as u128);
}

/// Appends a row.
pub fn put_row(out: &mut Vec<u8>, row: &[Value]) {
    out.push(VERSION);
    put_len(out, row.len());
    for value in row {
        put_value(out, value);
    }
}

/// Appends a value.
pub fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(tag::NULL),
        Value::Bool(v) => out.push(if *v { tag::TRUE } else { tag::FALSE }),
        Value::Int(v) => {
            out.push(tag::INT);
            put_signed(out, *v);
        }
        Value::Float(v) => {
            out.push(tag::FLOAT);
            out.extend_from_slice(&v.to_bits().to_be_bytes());
        }
        Value::Double(v) => {
            out.push(tag::DOUBLE);
            out.extend_from_slice(&v.to_bits().to_be_bytes());
        }
        Value::Decimal(v) => {
            out.push(tag::DECIMAL);
            out.push(v.scale);
            put_signed_wide(out, v.unscaled());
        }
        Value::Str(v) => {
            out.push(tag::STR);
            put_len(out, v.len());
            out.extend_from_slice(v.as_bytes());
        }
        Value::Bytes(v) => {
            out.push(tag::BYTES);
            put_len(out, v.len());
            out.extend_from_slice(v);
        }
        Value::Date(v) => {
            out.push(tag::DATE);
            put_signed(out, i64::from(*v));
        }
        Value::Time(v) => {
            out.push(tag::TIME);
            put_signed(out, i64::from(*v));
        }
        Value::Timestamp(v) => put_instant(out, tag::TIMESTAMP, *v),
        Value::TimestampLtz(v) => put_instant(out, tag::TIMESTAMP_LTZ, *v),
        Value::Interval(v) => {
            out.push(tag::INTERVAL);
            put_signed(out, *v);
        }
        Value::Array(items) => {
            out.push(tag::ARRAY);
            put_len(out, items.len());
            for item in items.iter() {
                put_value(out, item);
            }
        }
        Value::Map(entries) => {
            out.push(tag::MAP);
            put_len(out, entries.len());
            for (key, item) in entries.iter() {
                put_value(out, key);
                put_value(out, item);
            }
        }
        Value::Row(fields) => {
            out.push(tag::ROW);
            put_len(out, fields.len());
            for field in fields.iter() {
                put_value(out, field);
            }
        }
    }
}

fn put_instant(out: &mut Vec<u8>, tag: u8, at: Instant) {
    out.push(tag);
    put_signed(out, at.millis);
    put_varint(out, u128::from(at.nanos));
}

/// Reads values from bytes.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// From the start of the bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn byte(&mut self) -> Result<u8, CodecError> {
        let (&first, rest) = self.rest.split_first().ok_or(CodecError::Short)?;
        self.rest = rest;
        Ok(first)
    }

    /// The next bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(CodecError::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        self.bytes(N)?.try_into().map_err(|_| CodecError::Short)
    }

    /// A whole number.
    pub fn varint(&mut self) -> Result<u128, CodecError> {
        let mut value: u128 = 0;
        for shift in (0..u128::BITS).step_by(7) {
            let byte = self.byte()?;
            value |= u128::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::Damaged("a number is too long"))
    }

    /// A signed number.
    pub fn signed(&mut self) -> Result<i64, CodecError> {
        i64::try_from(self.signed_wide()?).map_err(|_| CodecError::Damaged("a number is too large"))
    }

    fn signed_wide(&mut self) -> Result<i128, CodecError> {
        let raw = self.varint()?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A length; `unit` is the least number of bytes of one item, so that hostile lengths allocate nothing.
    fn len(&mut self, unit: usize) -> Result<usize, CodecError> {
        let len =
            usize::try_from(self.varint()?).map_err(|_| CodecError::Damaged("a length is too large"))?;
        if len.saturating_mul(unit) > self.rest.len() { Err(CodecError::Short) } else { Ok(len) }
    }

    fn instant(&mut self) -> Result<Instant, CodecError> {
        let millis = self.signed()?;
        let nanos = u32::try_from(self.varint()?).ok().filter(|&nanos| nanos < 1_000_000);
        Ok(Instant { millis, nanos: nanos.ok_or(CodecError::Damaged("nanoseconds"))? })
    }

    /// A row.
    pub fn row(&mut self) -> Result<Row, CodecError> {
        let version = self.byte()?;
        if version != VERSION {
            return Err(CodecError::Version(version));
        }
        self.values(0)
    }

    fn values(&mut self, depth: u32) -> Result<Arc<[Value]>, CodecError> {
        let len = self.len(1)?;
        let mut values = Vec::with_capacity(len);
        for _ in 0..len {
            values.push(self.value_at(depth)?);
        }
        Ok(Arc::from(values))
    }

    /// A value.
    pub fn value(&mut self) -> Result<Value, CodecError> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: u32) -> Result<Value, CodecError> {
        if depth > MAX_DEPTH {
            return Err(CodecError::Damaged("nested too deep"));
        }
        let small = |value: i64| i32::try_from(value).map_err(|_| CodecError::Damaged("a date or time"));
        Ok(match self.byte()? {
            tag::NULL => Value::Null,
            tag::FALSE => Value::Bool(false),
            tag::TRUE => Value::Bool(true),
            tag::INT => Value::Int(self.signed()?),
            tag::FLOAT => Value::Float(f32::from_bits(u32::from_be_bytes(self.array()?))),
            tag::DOUBLE => Value::Double(f64::from_bits(u64::from_be_bytes(self.array()?))),
            tag::DECIMAL => {
                let scale = self.byte()?;
                if scale > 38 {
                    return Err(CodecError::Damaged("the scale of a decimal"));
                }
                Value::decimal(self.signed_wide()?, scale)
            }
            tag::STR => {
                let len = self.len(1)?;
                let text = std::str::from_utf8(self.bytes(len)?).map_err(|_| CodecError::Damaged("text"))?;
                Value::str(text)
            }
            tag::BYTES => {
                let len = self.len(1)?;
                Value::Bytes(Arc::from(self.bytes(len)?))
            }
            tag::DATE => Value::Date(small(self.signed()?)?),
            tag::TIME => Value::Time(small(self.signed()?)?),
            tag::TIMESTAMP => Value::Timestamp(self.instant()?),
            tag::TIMESTAMP_LTZ => Value::TimestampLtz(self.instant()?),
            tag::INTERVAL => Value::Interval(self.signed()?),
            tag::ARRAY => Value::Array(self.values(depth + 1)?),
            tag::MAP => {
                let len = self.len(2)?;
                let mut entries = Vec::with_capacity(len);
                for _ in 0..len {
                    entries.push((self.value_at(depth + 1)?, self.value_at(depth + 1)?));
                }
                Value::Map(Arc::from(entries))
            }
            tag::ROW => Value::Row(self.values(depth + 1)?),
            _ => return Err(CodecError::Damaged("a value's tag")),
        })
    }
}

/// Reads one row that fills the bytes.
pub fn get_row(bytes: &[u8]) -> Result<Row, CodecError> {
    let mut reader = Reader::new(bytes);
    let row = reader.row()?;
    if reader.is_empty() { Ok(row) } else { Err(CodecError::Damaged("bytes behind a row")) }
}

/// Appends the key of some columns of a row.
pub fn put_key(out: &mut Vec<u8>, row: &[Value], columns: &[usize]) {
    for &column in columns {
        put_key_value(out, row.get(column).unwrap_or(&Value::Null));
    }
}

/// Appends a value so that bytes compare as the values of its type do; NULL is the smallest.
pub fn put_key_value(out: &mut Vec<u8>, value: &Value) {
    const SIGN: u64 = 1 << 63;
    let signed = |out: &mut Vec<u8>, v: i64| out.extend_from_slice(&(v.cast_unsigned() ^ SIGN).to_be_bytes());
    out.push(u8::from(!value.is_null()));
    match value {
        Value::Null => {}
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::Int(v) | Value::Interval(v) => signed(out, *v),
        Value::Float(v) => float_key(out, f64::from(*v)),
        Value::Double(v) => float_key(out, *v),
        // One column has one scale.
        Value::Decimal(v) => {
            out.extend_from_slice(&(v.unscaled().cast_unsigned() ^ (1 << 127)).to_be_bytes())
        }
        Value::Str(v) => bytes_key(out, v.as_bytes()),
        Value::Bytes(v) => bytes_key(out, v),
        Value::Date(v) | Value::Time(v) => signed(out, i64::from(*v)),
        Value::Timestamp(v) | Value::TimestampLtz(v) => {
            signed(out, v.millis);
            out.extend_from_slice(&v.nanos.to_be_bytes());
        }
        Value::Array(items) | Value::Row(items) => {
            for item in items.iter() {
                out.push(1);
                put_key_value(out, item);
            }
            out.push(0);
        }
        Value::Map(entries) => {
            // Equal maps have equal keys whatever the order of their entries.
            let mut keys: Vec<Vec<u8>> = entries
                .iter()
                .map(|(key, item)| {
                    let mut bytes = Vec::new();
                    put_key_value(&mut bytes, key);
                    put_key_value(&mut bytes, item);
                    bytes
                })
                .collect();
            keys.sort_unstable();
            for key in keys {
                out.push(1);
                out.extend_from_slice(&key);
            }
            out.push(0);
        }
    }
}

fn float_key(out: &mut Vec<u8>, value: f64) {
    const SIGN: u64 = 1 << 63;
    // All NaNs are one; -0 comes before 0.
    let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
    out.extend_from_slice(&(if bits & SIGN == 0 { bits | SIGN } else { !bits }).to_be_bytes());
}

fn bytes_key(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(at) = memchr::memchr(0, rest) {
        out.extend_from_slice(rest.get(..at).unwrap_or_default());
        out.extend_from_slice(&[0, 0xff]);
        rest = rest.get(at + 1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, 1]);
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::super::functions::arithmetic::compare_nulls_first;
    use super::*;

    fn instants() -> impl Strategy<Value = Instant> {
        (any::<i64>(), 0_u32..1_000_000).prop_map(|(millis, nanos)| Instant { millis, nanos })
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f32>().prop_map(Value::Float),
            any::<f64>().prop_map(Value::Double),
            (any::<i128>(), 0_u8..=38).prop_map(|(unscaled, scale)| Value::decimal(unscaled, scale)),
            ".*".prop_map(|text: String| Value::from(text)),
            any::<Vec<u8>>().prop_map(|bytes| Value::Bytes(Arc::from(bytes))),
            any::<i32>().prop_map(Value::Date),
            any::<i32>().prop_map(Value::Time),
            instants().prop_map(Value::Timestamp),
            instants().prop_map(Value::TimestampLtz),
            any::<i64>().prop_map(Value::Interval),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|items| Value::Array(Arc::from(items))),
                prop::collection::vec((inner.clone(), inner.clone()), 0..4)
                    .prop_map(|items| Value::Map(Arc::from(items))),
                prop::collection::vec(inner, 0..4).prop_map(|items| Value::Row(Arc::from(items))),
            ]
        })
    }

    fn order_by_key(left: &Value, right: &Value) -> Ordering {
        let key = |value| {
            let mut bytes = Vec::new();
            put_key_value(&mut bytes, value);
            bytes
        };
        key(left).cmp(&key(right))
    }

    proptest! {
        #[test]
        fn rows_come_back_as_they_were(row in prop::collection::vec(values(), 0..6)) {
            let mut bytes = Vec::new();
            put_row(&mut bytes, &row);
            let back = get_row(&bytes).unwrap();
            // Through Debug, where NaN equals NaN.
            prop_assert_eq!(format!("{:?}", back.as_ref()), format!("{:?}", row.as_slice()));
            for cut in 0..bytes.len() {
                prop_assert!(get_row(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn hostile_bytes_give_errors_not_panics(bytes in any::<Vec<u8>>()) {
            let _ = get_row(&bytes);
            let mut versioned = vec![VERSION];
            versioned.extend(&bytes);
            let _ = get_row(&versioned);
        }

        #[test]
        fn keys_order_as_values_do(a in any::<i64>(), b in any::<i64>(), s in ".*", t in ".*", x in any::<f64>(), y in any::<f64>(), p in instants(), q in instants()) {
            for (left, right) in [
                (Value::Int(a), Value::Int(b)),
                (Value::from(s.clone()), Value::from(t.clone())),
                (Value::decimal(i128::from(a), 2), Value::decimal(i128::from(b), 2)),
                (Value::Timestamp(p), Value::Timestamp(q)),
                (Value::Null, Value::Int(a)),
            ] {
                prop_assert_eq!(order_by_key(&left, &right), compare_nulls_first(&left, &right));
            }
            if !x.is_nan() && !y.is_nan() {
                // -0.0 is a key of its own
                prop_assert_eq!(order_by_key(&Value::Double(x), &Value::Double(y)), x.total_cmp(&y));
            }
        }

        #[test]
        fn no_key_is_the_start_of_another(left in values(), right in values()) {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            put_key_value(&mut a, &left);
            put_key_value(&mut b, &right);
            if std::mem::discriminant(&left) == std::mem::discriminant(&right) && a != b {
                prop_assert!(!b.starts_with(&a) && !a.starts_with(&b));
            }
        }
    }
}
