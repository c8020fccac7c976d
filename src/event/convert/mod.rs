//! One column's conversion: PostgreSQL's text to a [`Datum`].
//!
//! Specified by Debezium's `PostgresValueConverter`; a value that cannot be converted is an [`Unconvertible`],
//! which the encoder turns into null (`event.converting.failure.handling.mode=warn`).

pub mod array;
pub mod composite;
pub mod decimal;
pub mod temporal;

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::datum::{Datum, Inline, unhex};
use super::options::{BinaryMode, HstoreMode, IntervalMode};
use temporal::{Fraction, Timestamp};

/// A value its column's converter cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unconvertible;

/// How a timestamp, time or date is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
    /// ISO 8601 text.
    Iso,
    /// Days (dates only).
    Days,
}

/// How a decimal is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decimals {
    /// Unscaled bytes at this scale.
    Scaled(usize),
    /// A struct of scale and unscaled bytes.
    Variable,
    /// Double precision.
    Double,
    /// Plain text, at this scale where there is one.
    Text(Option<usize>),
}

/// A column's converter, chosen once per relation version.
#[derive(Clone, Debug, PartialEq)]
pub enum Conv {
    /// Boolean.
    Bool,
    /// Any integer type.
    Int,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
    /// Text as it is.
    Text,
    /// `uuid`.
    Uuid,
    /// `numeric`.
    Numeric(Decimals),
    /// `numeric` in an array, where NaN and infinities cannot be read.
    FiniteNumeric(Decimals),
    /// `money`, and the digits of its zero (`money.fraction.digits`).
    Money(Decimals, usize),
    /// `bytea`.
    Bytea(BinaryMode),
    /// A type without a mapping: its text, encoded.
    Unknown(BinaryMode),
    /// A geometric type without a mapping: its text as pgjdbc prints it, encoded.
    UnknownGeometric(BinaryMode),
    /// `bit(1)` as a boolean.
    BitBool,
    /// `bit(n)`, `varbit`.
    Bits,
    /// `date`.
    Date {
        /// Days or text.
        unit: Unit,
        /// Read through `java.sql.Date`, as Debezium reads snapshots and arrays.
        legacy: bool,
        /// Refuse what has no right value.
        strict: bool,
    },
    /// `time`.
    Time {
        /// Unit.
        unit: Unit,
        /// Read through `java.sql.Time`, as Debezium reads arrays.
        legacy: bool,
    },
    /// `timestamp`.
    Timestamp {
        /// Unit.
        unit: Unit,
        /// Read through `java.sql.Timestamp`, as Debezium reads arrays.
        legacy: bool,
        /// Refuse what has no right value.
        strict: bool,
    },
    /// `timestamptz`.
    TimestampTz {
        /// Digits of a second.
        fraction: Fraction,
        /// Read through `java.sql.Timestamp`, as Debezium reads arrays.
        legacy: bool,
    },
    /// `timetz`.
    TimeTz {
        /// Read through `java.sql.Time`, as Debezium reads arrays.
        legacy: bool,
    },
    /// `interval`.
    Interval {
        /// Microseconds or text.
        mode: IntervalMode,
        /// Exact microseconds; refuse more than fit.
        strict: bool,
    },
    /// `hstore`.
    Hstore(HstoreMode),
    /// `point`.
    Point,
    /// PostGIS `geometry` and `geography`.
    Geometry,
    /// pgvector's `vector` (`false`) and `halfvec` (`true`).
    Vector(bool),
    /// pgvector's `sparsevec`.
    SparseVector,
    /// An array of these.
    Array {
        /// Element converter.
        element: Box<Conv>,
        /// Between elements.
        delimiter: u8,
        /// What becomes of elements that cannot be held.
        elements: array::Elements,
        /// What stands for an unchanged TOASTed value.
        toast: array::Toast,
    },
    /// `int2vector` and `oidvector`: numbers with spaces between, which Debezium reads as an empty array.
    Vector32 {
        /// Give the numbers.
        strict: bool,
    },
    /// Always null: Debezium has a schema, but cannot convert the value.
    Null,
}

impl Conv {
    /// Converts a value.
    pub fn convert<'a>(&self, text: &'a [u8]) -> Result<Datum<'a>, Unconvertible> {
        let utf8 = |text: &'a [u8]| std::str::from_utf8(text).map_err(|_| Unconvertible);
        Ok(match self {
            Conv::Bool => match text {
                b"t" | b"true" => Datum::Bool(true),
                b"f" | b"false" => Datum::Bool(false),
                _ => return Err(Unconvertible),
            },
            Conv::Int => Datum::Int(utf8(text)?.parse().map_err(|_| Unconvertible)?),
            Conv::F32 => Datum::F32(utf8(text)?.parse().map_err(|_| Unconvertible)?),
            Conv::F64 => Datum::F64(utf8(text)?.parse().map_err(|_| Unconvertible)?),
            Conv::Text | Conv::Uuid => Datum::str(utf8(text)?),
            Conv::Numeric(mode) => numeric(text, *mode)?,
            Conv::FiniteNumeric(mode) => {
                decimal::parse(text).ok_or(Unconvertible)?;
                numeric(text, *mode)?
            }
            Conv::Money(mode, _) => {
                let plain: Inline = money(text);
                numeric(&plain, *mode)?.into_owned()
            }
            Conv::Bytea(mode) => {
                let hex = text.strip_prefix(b"\\x").ok_or(Unconvertible)?;
                match mode {
                    BinaryMode::Bytes => Datum::Hex(hex),
                    BinaryMode::Hex => Datum::str(utf8(hex)?),
                    mode => encode(&unhex(hex), *mode),
                }
            }
            Conv::Unknown(mode) => encode_ref(text, *mode),
            Conv::UnknownGeometric(mode) => encode(&composite::geometric(text), *mode),
            Conv::BitBool => Datum::Bool(text.first() == Some(&b'1')),
            Conv::Bits => bits(text),
            Conv::Date { unit: Unit::Iso, strict: true, .. } if text.ends_with(b"infinity") => {
                Datum::str(utf8(text)?)
            }
            Conv::Date { unit, legacy, strict } => {
                let days = temporal::date(text, *legacy, *strict).ok_or(Unconvertible)?;
                match unit {
                    Unit::Iso => temporal::iso_date(days),
                    _ => Datum::Int(i64::from(truncate(days))),
                }
            }
            Conv::Time { unit, legacy } => {
                let mut micros = temporal::time(text).ok_or(Unconvertible)?;
                if *legacy {
                    // milliseconds within a day
                    micros = (micros - micros % 1000) % 86_400_000_000;
                }
                match unit {
                    Unit::Millis | Unit::Days => Datum::Int(micros / 1000),
                    Unit::Micros => Datum::Int(micros),
                    Unit::Nanos => Datum::Int(micros * 1000),
                    Unit::Iso => temporal::iso_time(micros),
                }
            }
            Conv::Timestamp { unit: Unit::Iso, strict: true, .. } if text.ends_with(b"infinity") => {
                Datum::str(utf8(text)?)
            }
            Conv::Timestamp { unit, legacy, strict } => {
                let at =
                    if *legacy { temporal::legacy_timestamp(text) } else { temporal::timestamp(text, false) };
                timestamp(at.ok_or(Unconvertible)?, *unit, *strict)?
            }
            Conv::TimestampTz { fraction, legacy } => {
                let at = if *legacy {
                    temporal::legacy_timestamptz(text)
                } else {
                    temporal::timestamp(text, true)
                };
                match at.ok_or(Unconvertible)? {
                    Timestamp::Infinity => Datum::str("infinity"),
                    Timestamp::NegativeInfinity => Datum::str("-infinity"),
                    Timestamp::At(at) => temporal::iso_timestamp(at, *fraction),
                }
            }
            Conv::TimeTz { legacy } => {
                let micros = temporal::timetz(text).ok_or(Unconvertible)?;
                temporal::iso_time(if *legacy { micros - micros % 1_000_000 } else { micros })
            }
            Conv::Interval { mode, strict } => {
                let interval = temporal::interval(text).ok_or(Unconvertible)?;
                match mode {
                    IntervalMode::Numeric if *strict => {
                        Datum::Int(interval.exact_micros().ok_or(Unconvertible)?)
                    }
                    IntervalMode::Numeric => Datum::Int(interval.duration_micros()),
                    IntervalMode::String => interval.iso(),
                }
            }
            Conv::Hstore(mode) => composite::hstore(utf8(text)?, *mode).ok_or(Unconvertible)?,
            Conv::Point => composite::point(utf8(text)?).ok_or(Unconvertible)?,
            Conv::Geometry => composite::geometry(text).ok_or(Unconvertible)?,
            Conv::Vector(half) => composite::vector(utf8(text)?, *half).ok_or(Unconvertible)?,
            Conv::SparseVector => composite::sparse_vector(utf8(text)?).ok_or(Unconvertible)?,
            Conv::Array { element, delimiter, elements, .. } => {
                array::convert(text, element, *delimiter, *elements)?
            }
            Conv::Vector32 { strict: false } => Datum::Array(Vec::new()),
            Conv::Vector32 { strict: true } => {
                let numbers = utf8(text)?.split(' ').filter(|n| !n.is_empty());
                let numbers = numbers.map(|n| n.parse().map(Datum::Int).map_err(|_| Unconvertible));
                Datum::Array(numbers.collect::<Result<_, _>>()?)
            }
            Conv::Null => return Err(Unconvertible),
        })
    }

    /// What stands in a required column that has no value (outside the replica identity): Debezium's zero values.
    pub fn fallback(&self) -> Datum<'static> {
        let text = |s: &'static str| Datum::str(s);
        match self {
            Conv::Bool | Conv::BitBool => Datum::Bool(false),
            Conv::Int => Datum::Int(0),
            Conv::F32 => Datum::F32(0.0),
            Conv::F64 | Conv::Numeric(Decimals::Double) | Conv::Money(Decimals::Double, _) => Datum::F64(0.0),
            Conv::Text | Conv::Uuid => text(""),
            Conv::Numeric(Decimals::Scaled(_)) | Conv::Money(Decimals::Scaled(_), _) => {
                Datum::Short(Inline::from_slice(&[0]))
            }
            Conv::Numeric(Decimals::Variable) | Conv::Money(Decimals::Variable, _) => {
                Datum::Struct(vec![Datum::Int(0), Datum::Short(Inline::from_slice(&[0]))])
            }
            Conv::Numeric(Decimals::Text(scale)) => zero_text(scale.unwrap_or(0)),
            Conv::Money(Decimals::Text(_), digits) => zero_text(*digits),
            Conv::Bytea(BinaryMode::Bytes)
            | Conv::Unknown(BinaryMode::Bytes)
            | Conv::UnknownGeometric(BinaryMode::Bytes)
            | Conv::Bits => Datum::Bytes(Cow::Borrowed(b"")),
            Conv::Bytea(_) | Conv::Unknown(_) | Conv::UnknownGeometric(_) => text(""),
            Conv::Date { unit: Unit::Iso, .. } => text("1970-01-01Z"),
            Conv::Time { unit: Unit::Iso, .. } => text("00:00:00Z"),
            Conv::Timestamp { unit: Unit::Iso, .. } => text("1970-01-01T00:00:00Z"),
            Conv::Date { .. } | Conv::Time { .. } | Conv::Timestamp { .. } => Datum::Int(0),
            Conv::TimestampTz { .. } => text("1970-01-01T00:00:00Z"),
            Conv::TimeTz { .. } => text("00:00:00Z"),
            Conv::Interval { mode: IntervalMode::Numeric, .. } => Datum::Int(0),
            Conv::Interval { mode: IntervalMode::String, .. } => text("P0Y0M0DT0H0M0S"),
            Conv::Hstore(HstoreMode::Json) => text("{}"),
            Conv::Hstore(HstoreMode::Map) => Datum::Map(Vec::new()),
            Conv::Point => composite::make_point(0.0, 0.0),
            Conv::Geometry => composite::empty_geometry(),
            Conv::Vector(_) | Conv::Vector32 { .. } | Conv::Array { .. } => Datum::Array(Vec::new()),
            Conv::SparseVector => Datum::Struct(vec![Datum::Int(0), Datum::Map(Vec::new())]),
            Conv::Null | Conv::FiniteNumeric(_) => Datum::Null,
        }
    }

    /// Whether the placeholder of an unchanged TOASTed value says that it is one: the placeholder itself, or a list
    /// of it alone.
    pub fn placeholder_tells(&self) -> bool {
        match self {
            Conv::Array { toast, .. } => *toast == array::Toast::One,
            Conv::UnknownGeometric(mode) => *mode == BinaryMode::Hex,
            conv => conv.placeholder(b"").is_some(),
        }
    }

    /// What stands for an unchanged TOASTed value; `None` where Debezium cannot make one and writes null.
    pub fn placeholder(&self, placeholder: &[u8]) -> Option<Datum<'static>> {
        let text = || Some(Datum::string(String::from_utf8_lossy(placeholder)));
        match self {
            Conv::Text
            | Conv::Uuid
            | Conv::Numeric(Decimals::Text(_))
            | Conv::TimestampTz { .. }
            | Conv::TimeTz { .. } => text(),
            Conv::Bytea(BinaryMode::Bytes) | Conv::Unknown(BinaryMode::Bytes) => {
                Some(Datum::Bytes(Cow::Owned(placeholder.to_vec())))
            }
            Conv::Bytea(BinaryMode::Hex)
            | Conv::Unknown(BinaryMode::Hex)
            | Conv::UnknownGeometric(BinaryMode::Hex) => text(),
            // Debezium has bytes for a column of text then, and leaves it null
            Conv::Bytea(_) | Conv::Unknown(_) => None,
            Conv::UnknownGeometric(mode) => Some(encode(placeholder, *mode)),
            Conv::Hstore(HstoreMode::Json) => {
                let mut out = vec![b'{'];
                super::json::write_inner_str(&mut out, placeholder);
                out.push(b':');
                super::json::write_inner_str(&mut out, placeholder);
                out.push(b'}');
                Some(Datum::string(String::from_utf8_lossy(&out)))
            }
            Conv::Hstore(HstoreMode::Map) => Some(Datum::Map(vec![(text()?, text()?)])),
            Conv::Array { element, toast, .. } => array::placeholder(element, *toast, placeholder),
            _ => None,
        }
    }
}

fn zero_text(scale: usize) -> Datum<'static> {
    Datum::string(decimal::parse(b"0").map(|d| d.plain(scale)).unwrap_or_default())
}

/// Java's `(int)` of a long.
#[expect(clippy::cast_possible_truncation, reason = "Debezium narrows the same way")]
pub(super) fn truncate(days: i64) -> i32 {
    days as i32
}

fn timestamp(value: Timestamp, unit: Unit, strict: bool) -> Result<Datum<'static>, Unconvertible> {
    if strict && !matches!(value, Timestamp::At(_)) {
        return Err(Unconvertible);
    }
    let at = value.instant();
    Ok(match unit {
        Unit::Millis | Unit::Days => Datum::Int(at.millis()),
        Unit::Micros if strict => Datum::Int(at.exact_micros().ok_or(Unconvertible)?),
        Unit::Micros => Datum::Int(at.micros()),
        Unit::Nanos => Datum::Int(match value {
            Timestamp::Infinity => i64::MAX,
            Timestamp::NegativeInfinity => i64::MIN,
            Timestamp::At(at) => at.nanos().ok_or(Unconvertible)?,
        }),
        Unit::Iso => temporal::iso_timestamp(at, Fraction::Shortest),
    })
}

fn numeric(text: &[u8], mode: Decimals) -> Result<Datum<'_>, Unconvertible> {
    match mode {
        Decimals::Scaled(scale) => {
            Ok(Datum::Short(decimal::parse(text).ok_or(Unconvertible)?.unscaled(scale)))
        }
        Decimals::Variable => {
            let (scale, value) = decimal::parse(text).ok_or(Unconvertible)?.stripped();
            Ok(Datum::Struct(vec![Datum::Int(i64::from(scale)), Datum::Short(value)]))
        }
        Decimals::Double => {
            let text = std::str::from_utf8(text).map_err(|_| Unconvertible)?;
            Ok(Datum::F64(text.parse().map_err(|_| Unconvertible)?))
        }
        Decimals::Text(scale) => Ok(match text {
            b"NaN" => Datum::str("NAN"),
            b"Infinity" => Datum::str("POSITIVE_INFINITY"),
            b"-Infinity" => Datum::str("NEGATIVE_INFINITY"),
            text => {
                let parsed = decimal::parse(text).ok_or(Unconvertible)?;
                match scale {
                    Some(scale) => Datum::string(parsed.plain(scale)),
                    None => Datum::str(std::str::from_utf8(text).map_err(|_| Unconvertible)?),
                }
            }
        }),
    }
}

/// `-$1,234.50` or `($1,234.50)` to a plain decimal.
fn money(text: &[u8]) -> Inline {
    let mut out = Inline::new();
    if text.iter().any(|b| matches!(b, b'-' | b'(')) {
        out.push(b'-');
    }
    out.extend(text.iter().copied().filter(|b| b.is_ascii_digit() || *b == b'.'));
    out
}

fn encode_ref(bytes: &[u8], mode: BinaryMode) -> Datum<'_> {
    match mode {
        BinaryMode::Bytes => Datum::Bytes(Cow::Borrowed(bytes)),
        mode => encode(bytes, mode),
    }
}

/// Bytes in the way of `binary.handling.mode`.
pub(crate) fn encode(bytes: &[u8], mode: BinaryMode) -> Datum<'static> {
    match mode {
        BinaryMode::Bytes => Datum::Bytes(Cow::Owned(bytes.to_vec())),
        BinaryMode::Base64 => Datum::string(STANDARD.encode(bytes)),
        BinaryMode::Base64UrlSafe => Datum::string(URL_SAFE.encode(bytes)),
        BinaryMode::Hex => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            let text: Vec<u8> =
                bytes.iter().flat_map(|b| [HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]).collect();
            Datum::string(String::from_utf8(text).unwrap_or_default())
        }
    }
}

/// Bits as Java's `BitSet` gives them: little-endian bytes without leading zero bytes.
fn bits(text: &[u8]) -> Datum<'static> {
    let mut out = Inline::new();
    for chunk in text.rchunks(8) {
        out.push(chunk.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit == b'1')));
    }
    while out.last() == Some(&0) {
        out.pop();
    }
    Datum::Short(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_strings() {
        for (text, bytes) in [
            ("1010101010101", &[0x55, 0x15][..]),
            ("00000", &[]),
            ("", &[]),
            ("10101", &[0x15]),
            ("100000000", &[0, 1]),
        ] {
            assert_eq!(bits(text.as_bytes()).to_bytes().unwrap().as_ref(), bytes);
        }
    }

    #[test]
    fn money_text() {
        assert_eq!(money(b"-$92,233,720,368,547,758.08").as_slice(), b"-92233720368547758.08");
        assert_eq!(money(b"$1.50").as_slice(), b"1.50");
    }
}
