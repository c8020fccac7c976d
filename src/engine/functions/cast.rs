//! CAST.

use std::fmt::Write as _;
use std::sync::Arc;

use super::super::context::Context;
use super::super::error::EvalError;
use super::super::eval::Width;
use super::super::print;
use super::super::row::{Decimal, Instant, Value};
use super::super::types::{DataType, TypeKind};
use super::{arithmetic, pattern, time};
use crate::java;

/// Whether a cast leaves every value as it is.
pub(crate) fn is_identity(from: &TypeKind, to: &TypeKind) -> bool {
    from == to
        || matches!(from, TypeKind::Null)
        || match (from, to) {
            (TypeKind::Varchar(from) | TypeKind::Char(from), TypeKind::Varchar(to)) => from <= to,
            (TypeKind::Varbinary(from) | TypeKind::Binary(from), TypeKind::Varbinary(to)) => from <= to,
            (TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int, TypeKind::BigInt)
            | (TypeKind::TinyInt | TypeKind::SmallInt, TypeKind::Int)
            | (TypeKind::TinyInt, TypeKind::SmallInt) => true,
            (TypeKind::Timestamp(from), TypeKind::Timestamp(to))
            | (TypeKind::TimestampLtz(from), TypeKind::TimestampLtz(to)) => from <= to,
            (TypeKind::Time(_), TypeKind::Time(_)) => true,
            (TypeKind::Array(from), TypeKind::Array(to))
            | (TypeKind::Multiset(from), TypeKind::Multiset(to)) => is_identity(&from.kind, &to.kind),
            (TypeKind::Map(from_key, from_value), TypeKind::Map(to_key, to_value)) => {
                is_identity(&from_key.kind, &to_key.kind) && is_identity(&from_value.kind, &to_value.kind)
            }
            (TypeKind::Row(from), TypeKind::Row(to)) => {
                from.len() == to.len()
                    && from.iter().zip(to).all(|(f, t)| is_identity(&f.data_type.kind, &t.data_type.kind))
            }
            _ => false,
        }
}

/// Casts a value that is not NULL. NULL comes out where a decimal overflows.
pub(crate) fn cast(
    value: &Value,
    from: &TypeKind,
    to: &TypeKind,
    context: &Context,
) -> Result<Value, EvalError> {
    let unsupported = || EvalError::new(format!("cannot cast {from} to {to}"));
    Ok(match to {
        TypeKind::Boolean => to_boolean(value).ok_or_else(|| {
            let mut text = String::new();
            write(&mut text, value, from, context);
            EvalError::new(format!("Cannot parse '{text}' as BOOLEAN."))
        })??,
        TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int | TypeKind::BigInt => {
            to_integer(value, Width::of(to).unwrap_or(Width::Long)).ok_or_else(unsupported)??
        }
        TypeKind::Float => to_float(value).ok_or_else(unsupported)??,
        TypeKind::Double => to_double(value).ok_or_else(unsupported)??,
        TypeKind::Decimal(precision, scale) => {
            to_decimal(value, *precision, *scale).ok_or_else(unsupported)??
        }
        TypeKind::Char(_) | TypeKind::Varchar(_) => to_string(value, from, to, context),
        TypeKind::Binary(length) | TypeKind::Varbinary(length) => {
            let bytes: &[u8] = match value {
                Value::Bytes(bytes) => bytes,
                Value::Str(text) => text.as_bytes(),
                _ => return Err(unsupported()),
            };
            let length = usize::try_from(*length).unwrap_or(usize::MAX);
            let mut bytes = bytes.get(..length.min(bytes.len())).unwrap_or(bytes).to_vec();
            if matches!(to, TypeKind::Binary(_)) {
                bytes.resize(length, 0);
            }
            Value::Bytes(Arc::from(bytes))
        }
        TypeKind::Date => match value {
            Value::Date(_) => value.clone(),
            Value::Str(text) => time::date_value(parse(pattern::parse_date(text), text)?),
            Value::Timestamp(at) => time::date_value(at.millis.div_euclid(time::DAY)),
            Value::TimestampLtz(at) => time::date_value(context.zone.local(at.millis).div_euclid(time::DAY)),
            _ => return Err(unsupported()),
        },
        TypeKind::Time(precision) => {
            let millis = match value {
                Value::Time(_) => return Ok(value.clone()),
                Value::Str(text) => parse(pattern::parse_time(text), text)?.0,
                Value::Timestamp(at) => at.millis,
                Value::TimestampLtz(at) => context.zone.local(at.millis),
                _ => return Err(unsupported()),
            };
            time::time_value(pattern::cut(Instant::from_millis(millis), *precision).millis)
        }
        TypeKind::Timestamp(precision) => Value::Timestamp(pattern::cut(
            match value {
                Value::Timestamp(at) => *at,
                Value::TimestampLtz(at) => Instant { millis: context.zone.local(at.millis), nanos: at.nanos },
                Value::Date(day) => Instant::from_millis(i64::from(*day) * time::DAY),
                Value::Time(millis) => Instant::from_millis(i64::from(*millis)),
                Value::Str(text) => parse(pattern::parse_timestamp(text), text)?,
                _ => return Err(unsupported()),
            },
            *precision,
        )),
        TypeKind::TimestampLtz(precision) => {
            let local = match value {
                Value::TimestampLtz(at) => return Ok(Value::TimestampLtz(pattern::cut(*at, *precision))),
                Value::Timestamp(at) => *at,
                Value::Date(day) => Instant::from_millis(i64::from(*day) * time::DAY),
                Value::Time(millis) => Instant::from_millis(i64::from(*millis)),
                Value::Str(text) => parse(pattern::parse_timestamp(text), text)?,
                _ => return Err(unsupported()),
            };
            let millis = context.zone.instant(local.millis);
            Value::TimestampLtz(pattern::cut(Instant { millis, nanos: local.nanos }, *precision))
        }
        TypeKind::IntervalMonths | TypeKind::IntervalMillis => match value {
            Value::Interval(_) => value.clone(),
            // months are counted in 32 bits
            Value::Int(number) if *to == TypeKind::IntervalMonths => {
                Value::Interval(Width::Int.wrap(*number))
            }
            Value::Int(number) => Value::Interval(*number),
            _ => return Err(unsupported()),
        },
        TypeKind::Array(to) | TypeKind::Multiset(to) => match (value, from) {
            (Value::Array(items), TypeKind::Array(from)) => Value::Array(
                items.iter().map(|item| nested(item, from, to, context)).collect::<Result<_, _>>()?,
            ),
            (Value::Map(_), _) => value.clone(),
            _ => return Err(unsupported()),
        },
        TypeKind::Map(to_key, to_value) => match (value, from) {
            (Value::Map(entries), TypeKind::Map(from_key, from_value)) => Value::Map(
                entries
                    .iter()
                    .map(|(key, item)| {
                        Ok((
                            nested(key, from_key, to_key, context)?,
                            nested(item, from_value, to_value, context)?,
                        ))
                    })
                    .collect::<Result<_, EvalError>>()?,
            ),
            _ => return Err(unsupported()),
        },
        TypeKind::Row(to) => match (value, from) {
            (Value::Row(fields), TypeKind::Row(from)) => Value::Row(
                fields
                    .iter()
                    .zip(from.iter().zip(to))
                    .map(|(field, (from, to))| nested(field, &from.data_type, &to.data_type, context))
                    .collect::<Result<_, _>>()?,
            ),
            _ => return Err(unsupported()),
        },
        TypeKind::Null => Value::Null,
    })
}

fn nested(value: &Value, from: &DataType, to: &DataType, context: &Context) -> Result<Value, EvalError> {
    if value.is_null() { Ok(Value::Null) } else { cast(value, &from.kind, &to.kind, context) }
}

fn parse<T>(parsed: Option<T>, text: &str) -> Result<T, EvalError> {
    parsed.ok_or_else(|| EvalError::new(format!("Text '{text}' could not be parsed")))
}

fn to_boolean(value: &Value) -> Option<Result<Value, EvalError>> {
    Some(Ok(Value::Bool(match value {
        Value::Bool(v) => *v,
        Value::Int(v) => *v != 0,
        Value::Decimal(d) => d.unscaled() != 0,
        Value::Float(v) => *v != 0.0,
        Value::Double(v) => *v != 0.0,
        Value::Str(text) => match text.to_ascii_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "1" => true,
            "f" | "false" | "n" | "no" | "0" => false,
            _ => return None,
        },
        _ => return None,
    })))
}

fn number_error(text: &str) -> EvalError {
    EvalError::new(format!("For input string: '{text}'. Invalid character found."))
}

/// A whole number from text: blanks around it and digits after a point are dropped.
fn parse_integer(text: &str) -> Option<i64> {
    let text = text.trim_matches(' ');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) || matches!(text, "" | "+" | "-") {
        return None;
    }
    // a point alone is 0
    if matches!(whole, "" | "+" | "-") { Some(0) } else { whole.parse().ok() }
}

#[allow(clippy::cast_possible_truncation, reason = "Java's conversions from floats saturate, as Rust's do")]
fn to_integer(value: &Value, width: Width) -> Option<Result<Value, EvalError>> {
    let saturated = |v: f64| match width {
        Width::Long => v as i64,
        // Java goes through int to the narrower types.
        _ => width.wrap(i64::from(v as i32)),
    };
    Some(Ok(Value::Int(match value {
        Value::Int(v) => width.wrap(*v),
        Value::Bool(v) => i64::from(*v),
        Value::Decimal(d) => width.wrap(arithmetic::truncate(*d) as i64),
        Value::Float(v) => saturated(f64::from(*v)),
        Value::Double(v) => saturated(*v),
        Value::Interval(v) => width.wrap(*v),
        Value::Str(text) => match parse_integer(text) {
            Some(number) if width.wrap(number) == number => number,
            _ => return Some(Err(number_error(text))),
        },
        Value::Date(_) | Value::Time(_) => return None,
        Value::Timestamp(at) | Value::TimestampLtz(at) => width.wrap(at.millis.div_euclid(1000)),
        _ => return None,
    })))
}

/// The text without what Java's `String.trim` takes away: blanks and control characters.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

/// A FLOAT or DOUBLE from text as Java reads it: one letter of its type may follow the digits.
fn parse_float<T: std::str::FromStr>(text: &str) -> Option<T> {
    let text = trimmed(text);
    match text {
        "NaN" | "Infinity" | "+Infinity" | "-Infinity" => text.parse().ok(),
        _ if text.bytes().any(|byte| byte.is_ascii_digit()) => {
            text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text).parse().ok()
        }
        _ => None,
    }
}

#[allow(clippy::cast_possible_truncation, reason = "rounding to FLOAT is what is asked for")]
fn to_float(value: &Value) -> Option<Result<Value, EvalError>> {
    if let Value::Str(text) = value {
        return Some(parse_float(text).map(Value::Float).ok_or_else(|| number_error(text)));
    }
    match to_double(value)? {
        Ok(Value::Double(number)) => Some(Ok(Value::Float(number as f32))),
        other => Some(other),
    }
}

fn to_double(value: &Value) -> Option<Result<Value, EvalError>> {
    Some(match value {
        Value::Str(text) => parse_float(text).map(Value::Double).ok_or_else(|| number_error(text)),
        Value::Bool(v) => Ok(Value::Double(f64::from(u8::from(*v)))),
        _ => Ok(Value::Double(arithmetic::to_f64(value)?)),
    })
}

/// A decimal number from text (with an exponent, too), rounded to `scale` digits; `Ok(None)` when it does not fit.
pub(crate) fn parse_decimal(text: &str, precision: u8, scale: u8) -> Result<Option<Decimal>, EvalError> {
    let trimmed = trimmed(text);
    let error = || number_error(text);
    let (mantissa, exponent) = match trimmed.find(['e', 'E']) {
        Some(at) => {
            let exponent = trimmed.get(at + 1..).unwrap_or("");
            (trimmed.get(..at).unwrap_or(""), exponent.parse::<i32>().map_err(|_| error())?)
        }
        None => (trimmed, 0),
    };
    let negative = mantissa.starts_with('-');
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.strip_prefix(['+', '-']).unwrap_or(whole);
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !is_digits(whole) || !is_digits(fraction) {
        return Err(error());
    }
    // Digits d with value d × 10^-places.
    let digits: String = whole.chars().chain(fraction.chars()).collect();
    let places = i64::try_from(fraction.len()).unwrap_or(i64::MAX).saturating_sub(i64::from(exponent));
    let drop = places - i64::from(scale);
    let digits = digits.trim_start_matches('0');
    let mut unscaled: i128 = 0;
    let kept = i64::try_from(digits.len()).unwrap_or(i64::MAX).saturating_sub(drop.max(0));
    if kept < 0 || digits.is_empty() {
        return Ok(Some(Decimal::new(0, scale)));
    }
    if kept.saturating_add((-drop).max(0)) > i64::from(precision) {
        return Ok(None);
    }
    let kept = usize::try_from(kept).unwrap_or(0);
    for digit in digits.bytes().take(kept) {
        unscaled = unscaled * 10 + i128::from(digit - b'0');
    }
    if drop > 0 && digits.as_bytes().get(kept).is_some_and(|&next| next >= b'5') {
        unscaled += 1;
    }
    for _ in 0..(-drop).max(0) {
        unscaled *= 10;
    }
    Ok(arithmetic::fit(Decimal::new(if negative { -unscaled } else { unscaled }, scale), precision, scale))
}

/// A DOUBLE as DECIMAL by its shortest digits, as Java has it; `None` when it does not fit.
pub(crate) fn decimal_of(value: f64, precision: u8, scale: u8) -> Option<Decimal> {
    let mut text = String::new();
    java::float::push_double(&mut text, value);
    if text.ends_with('y') || text == "NaN" {
        return None;
    }
    parse_decimal(&text, precision, scale).ok().flatten()
}

fn to_decimal(value: &Value, precision: u8, scale: u8) -> Option<Result<Value, EvalError>> {
    let number = match value {
        Value::Decimal(d) => Ok(arithmetic::fit(*d, precision, scale)),
        Value::Int(v) => Ok(arithmetic::fit(Decimal::new(i128::from(*v), 0), precision, scale)),
        Value::Bool(v) => Ok(arithmetic::fit(Decimal::new(i128::from(*v), 0), precision, scale)),
        // of a text that does not fit Flink makes an error, of a number NULL
        Value::Str(text) => match parse_decimal(text, precision, scale) {
            Ok(None) => Err(EvalError::new(format!("For input string: '{text}'. Overflow."))),
            other => other,
        },
        Value::Float(_) | Value::Double(_) => {
            let number = match value {
                Value::Float(v) => f64::from(*v),
                Value::Double(v) => *v,
                _ => 0.0,
            };
            Ok(decimal_of(number, precision, scale))
        }
        _ => return None,
    };
    Some(number.map(|number| number.map_or(Value::Null, Value::Decimal)))
}

fn to_string(value: &Value, from: &TypeKind, to: &TypeKind, context: &Context) -> Value {
    let mut text = String::new();
    let text = match value {
        Value::Str(text) => text.as_ref(),
        _ => {
            write(&mut text, value, from, context);
            text.as_str()
        }
    };
    fit_text(text, to).unwrap_or_else(|| match value {
        Value::Str(_) => value.clone(),
        _ => Value::str(text),
    })
}

/// The text cut, or padded, to CHAR(n) or VARCHAR(n); `None` when it fits as it is.
pub(crate) fn fit_text(text: &str, to: &TypeKind) -> Option<Value> {
    let (limit, pad) = match to {
        TypeKind::Char(limit) => (*limit, true),
        TypeKind::Varchar(limit) => (*limit, false),
        _ => return None,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if text.len() <= limit && !pad {
        return None;
    }
    let count = text.chars().count();
    if count > limit {
        return Some(Value::from(text.chars().take(limit).collect::<String>()));
    }
    (pad && count < limit).then(|| {
        let mut padded = String::with_capacity(text.len() + limit - count);
        padded.push_str(text);
        padded.extend(std::iter::repeat_n(' ', limit - count));
        Value::from(padded)
    })
}

/// A value as CAST to STRING writes it.
pub(crate) fn write(text: &mut String, value: &Value, kind: &TypeKind, context: &Context) {
    let inner = |text: &mut String, value: &Value, kind: &TypeKind| match value {
        Value::Null => text.push_str("NULL"),
        _ => write(text, value, kind, context),
    };
    let separate = |text: &mut String, at: usize| {
        if at > 0 {
            text.push_str(", ");
        }
    };
    match (value, kind) {
        (Value::Decimal(v), _) => print::decimal(text, *v),
        (Value::Bool(v), _) => text.push_str(if *v { "TRUE" } else { "FALSE" }),
        (Value::Bytes(bytes), _) => text.push_str(&String::from_utf8_lossy(bytes)),
        (Value::Time(millis), TypeKind::Time(_)) => {
            pattern::time_text(text, i64::from(*millis), 0, 0);
        }
        (Value::Timestamp(at), TypeKind::Timestamp(precision)) => {
            text.push_str(&pattern::timestamp_text(*at, *precision));
        }
        (Value::TimestampLtz(at), TypeKind::TimestampLtz(precision)) => {
            let local = Instant { millis: context.zone.local(at.millis), nanos: at.nanos };
            text.push_str(&pattern::timestamp_text(local, *precision));
        }
        (Value::Interval(v), TypeKind::IntervalMonths) => {
            let sign = if *v < 0 { '-' } else { '+' };
            let _ = write!(text, "{sign}{}-{:02}", v.abs() / 12, v.abs() % 12);
        }
        (Value::Interval(v), _) => {
            let (sign, v) = (if *v < 0 { '-' } else { '+' }, v.abs());
            let _ = write!(text, "{sign}{} ", v / time::DAY);
            pattern::time_text(text, v % time::DAY, 0, 3);
        }
        (Value::Array(items), TypeKind::Array(element)) => {
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                separate(text, at);
                inner(text, item, &element.kind);
            }
            text.push(']');
        }
        (Value::Map(entries), TypeKind::Map(..) | TypeKind::Multiset(_)) => {
            let (key_kind, value_kind) = match kind {
                TypeKind::Map(key, value) => (&key.kind, &value.kind),
                TypeKind::Multiset(element) => (&element.kind, &TypeKind::Int),
                _ => return,
            };
            text.push('{');
            for (at, (key, item)) in entries.iter().enumerate() {
                separate(text, at);
                inner(text, key, key_kind);
                text.push('=');
                inner(text, item, value_kind);
            }
            text.push('}');
        }
        (Value::Row(fields), TypeKind::Row(types)) => {
            text.push('(');
            for (at, (field, declared)) in fields.iter().zip(types).enumerate() {
                separate(text, at);
                inner(text, field, &declared.data_type.kind);
            }
            text.push(')');
        }
        _ => print::value(text, value, &DataType::new(kind.clone())),
    }
}
