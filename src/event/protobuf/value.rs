//! Messages on the wire.

use num_bigint::BigInt;

use super::super::datum::Datum;
use super::super::schema::Schema;
use super::{Field, Label, Message, Plan, ProtobufError, Root, Shape};

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const DELIMITED: u32 = 2;
const FIXED32: u32 = 5;

/// Days from 1970 of the first day of the Gregorian calendar, where Java changes over from the Julian one.
const GREGORIAN: i64 = -141_427;
const DAY_MS: i64 = 86_400_000;
/// The instants that `google.protobuf.Timestamp` allows, in seconds from 1970: years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A value that does not fit: the fields it is in, innermost first, and what it is.
struct Wrong {
    path: Vec<String>,
    why: &'static str,
}

type Written = Result<(), Wrong>;

fn wrong(why: &'static str) -> Written {
    Err(Wrong { path: Vec::new(), why })
}

const OTHER_TYPE: &str = "a value of another type than its schema's";

impl Plan {
    /// Appends the message of a record: which message of the schema it is, and its fields.
    ///
    /// # Errors
    /// With the field whose value Protobuf cannot hold. What was appended by then is to be thrown away.
    pub fn write(&self, out: &mut Vec<u8>, datum: &Datum<'_>) -> Result<(), ProtobufError> {
        match self.index {
            [0, _] => out.push(0),
            index => out.extend_from_slice(&index),
        }
        let written = match &self.root {
            Root::Message(m) => message(out, m, datum),
            Root::Wrapper(shape) => wrapped(out, shape, datum),
        };
        written.map_err(|Wrong { mut path, why }| {
            path.reverse();
            ProtobufError::Value { field: path.join("."), why }
        })
    }
}

fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n > 0x7F {
        out.push(u8::try_from(n & 0x7F).unwrap_or(0) | 0x80);
        n >>= 7;
    }
    out.push(u8::try_from(n).unwrap_or(0));
}

/// A signed number as `int32` and `int64` have it: ten bytes where it is negative.
fn signed(out: &mut Vec<u8>, n: i64) {
    varint(out, n.cast_unsigned());
}

fn tag(out: &mut Vec<u8>, number: u32, wire: u32) {
    varint(out, u64::from(number << 3 | wire));
}

/// Appends what `body` appends, with its length before it.
fn delimited(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>) -> Written) -> Written {
    // one byte for the length is most often enough; a longer one moves the body
    let at = out.len();
    out.push(0);
    body(out)?;
    let len = out.len() - at - 1;
    if let Ok(short @ 0..=0x7F) = u8::try_from(len) {
        if let Some(place) = out.get_mut(at) {
            *place = short;
        }
        return Ok(());
    }
    let mut prefix = Vec::with_capacity(10);
    varint(&mut prefix, u64::try_from(len).unwrap_or(u64::MAX));
    out.splice(at..=at, prefix);
    Ok(())
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(bytes);
}

/// The value, or the schema's default in the place of a null, as `Struct.get` gives it.
fn or_default<'d, 'a>(schema: &'d Schema, datum: &'d Datum<'a>) -> &'d Datum<'a> {
    match (datum, &schema.default) {
        (Datum::Null, Some(default)) => default,
        _ => datum,
    }
}

fn message(out: &mut Vec<u8>, message: &Message, datum: &Datum<'_>) -> Written {
    let Datum::Struct(values) = datum else { return wrong(OTHER_TYPE) };
    for (i, f) in message.fields.iter().enumerate() {
        let datum = or_default(&f.schema, values.get(i).unwrap_or(&Datum::Null));
        field(out, f, datum).map_err(|mut e| {
            e.path.push(f.name.clone());
            e
        })?;
    }
    Ok(())
}

fn field(out: &mut Vec<u8>, f: &Field, datum: &Datum<'_>) -> Written {
    let packed = !f.wrapped
        && matches!(f.shape, Shape::Int32 | Shape::Int64 | Shape::Float | Shape::Double | Shape::Bool);
    match (datum, &f.shape) {
        (Datum::Null, _) => Ok(()),
        (Datum::Map(pairs), Shape::Map(entry)) => pairs.iter().try_for_each(|(key, value)| {
            tag(out, f.number, DELIMITED);
            delimited(out, |out| {
                let [k, v] = entry.fields.as_slice() else { return Ok(()) };
                field(out, k, key)?;
                field(out, v, value)
            })
        }),
        (Datum::Array(items), _) if f.label == Label::Repeated => {
            if items.iter().any(Datum::is_null) {
                return wrong("a null in an array, which Protobuf cannot hold");
            }
            if packed && !items.is_empty() {
                tag(out, f.number, DELIMITED);
                return delimited(out, |out| items.iter().try_for_each(|item| scalar(out, &f.shape, item)));
            }
            items.iter().try_for_each(|item| single(out, f, item))
        }
        _ if f.label == Label::Repeated => wrong(OTHER_TYPE),
        _ if f.label == Label::None && !f.wrapped && is_zero(&f.shape, datum) => Ok(()),
        _ => single(out, f, datum),
    }
}

/// Whether a value is the zero of its type, which is not written.
fn is_zero(shape: &Shape, datum: &Datum<'_>) -> bool {
    match (shape, datum) {
        (Shape::Int32 | Shape::Int64, Datum::Int(0)) | (Shape::Bool, Datum::Bool(false)) => true,
        // a negative zero is written
        (Shape::Float, Datum::F32(n)) => n.to_bits() == 0,
        (Shape::Double, Datum::F64(n)) => n.to_bits() == 0,
        (Shape::String, Datum::Str(text)) => text.is_empty(),
        (Shape::String, Datum::Text(text)) => text.is_empty(),
        (Shape::Bytes, Datum::Bytes(b)) => b.is_empty(),
        (Shape::Bytes, Datum::Short(b)) => b.is_empty(),
        (Shape::Bytes, Datum::Hex(b)) => b.is_empty(),
        _ => false,
    }
}

/// One value with its tag.
fn single(out: &mut Vec<u8>, f: &Field, datum: &Datum<'_>) -> Written {
    if f.wrapped {
        tag(out, f.number, DELIMITED);
        return delimited(out, |out| wrapped(out, &f.shape, datum));
    }
    tag(out, f.number, wire(&f.shape));
    scalar(out, &f.shape, datum)
}

/// The body of a wrapper message: its field `value`.
fn wrapped(out: &mut Vec<u8>, shape: &Shape, datum: &Datum<'_>) -> Written {
    if is_zero(shape, datum) {
        return Ok(());
    }
    tag(out, 1, wire(shape));
    scalar(out, shape, datum)
}

fn wire(shape: &Shape) -> u32 {
    match shape {
        Shape::Int32 | Shape::Int64 | Shape::Bool => VARINT,
        Shape::Float => FIXED32,
        Shape::Double => FIXED64,
        _ => DELIMITED,
    }
}

/// A value without its tag.
fn scalar(out: &mut Vec<u8>, shape: &Shape, datum: &Datum<'_>) -> Written {
    match (shape, datum) {
        (Shape::Int32 | Shape::Int64, Datum::Int(n)) => signed(out, *n),
        (Shape::Bool, Datum::Bool(b)) => out.push(u8::from(*b)),
        (Shape::Float, Datum::F32(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (Shape::Double, Datum::F64(n)) => out.extend_from_slice(&n.to_le_bytes()),
        (Shape::String, d) => match d.as_str() {
            Some(text) => bytes(out, text.as_bytes()),
            None => return wrong(OTHER_TYPE),
        },
        (Shape::Bytes, d) => match d.to_bytes() {
            Some(b) => bytes(out, &b),
            None => return wrong(OTHER_TYPE),
        },
        (Shape::Decimal(scale), d) => match d.to_bytes() {
            Some(unscaled) => return delimited(out, |out| decimal(out, &unscaled, *scale)),
            None => return wrong(OTHER_TYPE),
        },
        (Shape::Date, Datum::Int(days)) => {
            let (year, month, day) = civil(*days);
            return numbers(out, [year, month, day, 0]);
        }
        (Shape::Time, Datum::Int(ms)) => return time(out, *ms),
        (Shape::Timestamp, Datum::Int(ms)) => {
            let seconds = ms.div_euclid(1000);
            if !SECONDS.contains(&seconds) {
                return wrong(
                    "a time before the year 1 or after 9999, which google.protobuf.Timestamp cannot hold",
                );
            }
            return numbers(out, [seconds, ms.rem_euclid(1000) * 1_000_000, 0, 0]);
        }
        (Shape::Message(m), d @ Datum::Struct(_)) => return delimited(out, |out| message(out, m, d)),
        _ => return wrong(OTHER_TYPE),
    }
    Ok(())
}

/// A message of up to four numbers, fields 1 to 4; zeros are not written.
fn numbers(out: &mut Vec<u8>, values: [i64; 4]) -> Written {
    delimited(out, |out| {
        for (number, n) in (1..).zip(values).filter(|(_, n)| *n != 0) {
            tag(out, number, VARINT);
            signed(out, n);
        }
        Ok(())
    })
}

fn time(out: &mut Vec<u8>, ms: i64) -> Written {
    if !(0..=DAY_MS).contains(&ms) {
        return wrong("a time of day below 0 or above 24 h, which google.type.TimeOfDay cannot hold");
    }
    let ms = ms % DAY_MS;
    numbers(out, [ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000 * 1_000_000])
}

/// `confluent.type.Decimal`: the unscaled value, its number of digits, the scale.
fn decimal(out: &mut Vec<u8>, unscaled: &[u8], scale: i32) -> Written {
    let digits = match i128_of(unscaled) {
        Some(n) => n.unsigned_abs().checked_ilog10().unwrap_or(0) + 1,
        None => {
            let text = BigInt::from_signed_bytes_be(unscaled).magnitude().to_string();
            u32::try_from(text.len()).unwrap_or(u32::MAX)
        }
    };
    if !unscaled.is_empty() {
        tag(out, 1, DELIMITED);
        bytes(out, unscaled);
    }
    tag(out, 2, VARINT);
    varint(out, u64::from(digits));
    if scale != 0 {
        tag(out, 3, VARINT);
        signed(out, i64::from(scale));
    }
    Ok(())
}

/// A big-endian two's complement number of at most 16 bytes.
fn i128_of(bytes: &[u8]) -> Option<i128> {
    let mut wide = [if bytes.first().is_some_and(|b| b & 0x80 != 0) { 0xFF } else { 0 }; 16];
    let start = wide.len().checked_sub(bytes.len())?;
    wide.get_mut(start..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(wide))
}

/// Year, month and day of a day from 1970, in Java's calendar: Julian before 15 October 1582, and years before
/// Christ counted from 1 again.
fn civil(days: i64) -> (i64, i64, i64) {
    // days from 1 March of the year 0, of 400 or 4 years each
    let (year, of_year) = if days >= GREGORIAN {
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let of_era = z.rem_euclid(146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        (era * 400 + year, of_era - (365 * year + year / 4 - year / 100))
    } else {
        let z = days + 719_470;
        let era = z.div_euclid(1461);
        let of_era = z.rem_euclid(1461);
        let year = (of_era - of_era / 1460) / 365;
        (era * 4 + year, of_era - 365 * year)
    };
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = if month <= 2 { year + 1 } else { year };
    (if year <= 0 { 1 - year } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::super::super::schema::{Kind, Schema};
    use super::super::Options;
    use super::*;

    #[test]
    fn days_are_those_of_javas_calendar() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (-141_427, (1582, 10, 15)),
            (-141_428, (1582, 10, 4)),
            (-719_162, (1, 1, 3)),
            (-719_164, (1, 1, 1)),
            (-719_165, (1, 12, 31)),
        ] {
            assert_eq!(civil(days), date, "{days}");
        }
    }

    #[test]
    fn lengths_of_more_than_a_byte_and_what_is_not_written() {
        let schema = Schema::structure([
            ("a", Schema::new(Kind::Int32)),
            ("t", Schema::new(Kind::String)),
            ("n", Schema::structure([("b", Schema::new(Kind::Bytes))]).titled("x.N")),
        ])
        .titled("x.V");
        let plan = Plan::new(&schema, Options::default()).unwrap();
        let mut out = Vec::new();
        let long = vec![7u8; 300];
        let datum = Datum::Struct(vec![
            Datum::Int(0),
            Datum::str(""),
            Datum::Struct(vec![Datum::Bytes(long.as_slice().into())]),
        ]);
        plan.write(&mut out, &datum).unwrap();
        assert_eq!(&out[..8], [0, 0x1A, 0xAF, 2, 0x0A, 0xAC, 2, 7]);
        assert_eq!(out.len(), 7 + 300);
    }

    #[test]
    fn a_value_that_cannot_be_held_names_its_field() {
        let inner =
            Schema::structure([("l", Schema::array(Schema::new(Kind::Int32).optional()))]).titled("x.N");
        let plan = Plan::new(&Schema::structure([("n", inner)]).titled("x.V"), Options::default()).unwrap();
        let datum = Datum::Struct(vec![Datum::Struct(vec![Datum::Array(vec![Datum::Null])])]);
        let said = plan.write(&mut Vec::new(), &datum).unwrap_err().to_string();
        assert_eq!(said, "field n.l has a null in an array, which Protobuf cannot hold");
    }
}
