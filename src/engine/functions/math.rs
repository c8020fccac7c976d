//! Functions on numbers.

use std::cmp::Ordering;

use super::super::error::EvalError;
use super::super::eval::Width;
use super::super::row::{Decimal, Value};
use super::super::types::TypeKind;
use super::{Call, Scalar, arithmetic, time};

pub(super) fn lookup(name: &str) -> Option<(Scalar, bool)> {
    Some(match name {
        "ABS" => (abs, true),
        "CEIL" => {
            (|call| if call.args.len() > 1 { time::round_to(call, true) } else { whole(call, true) }, true)
        }
        "FLOOR" => {
            (|call| if call.args.len() > 1 { time::round_to(call, false) } else { whole(call, false) }, true)
        }
        "ROUND" => (|call| round(call, true), true),
        "TRUNCATE" => (|call| round(call, false), true),
        "SIGN" => (sign, true),
        "POWER" => (|call| Ok(Value::Double(call.double(0)?.powf(call.double(1)?))), true),
        "SQRT" => (|call| unary(call, f64::sqrt), true),
        "EXP" => (|call| unary(call, f64::exp), true),
        "LN" => (|call| unary(call, f64::ln), true),
        "LOG" => (log, true),
        "LOG10" => (|call| unary(call, f64::log10), true),
        "LOG2" => (|call| unary(call, |x| x.ln() / 2_f64.ln()), true),
        "PI" => (|_| Ok(Value::Double(std::f64::consts::PI)), true),
        "E" => (|_| Ok(Value::Double(std::f64::consts::E)), true),
        "SIN" => (|call| unary(call, f64::sin), true),
        "COS" => (|call| unary(call, f64::cos), true),
        "TAN" => (|call| unary(call, f64::tan), true),
        "COT" => (|call| unary(call, |x| 1.0 / x.tan()), true),
        "ASIN" => (|call| unary(call, f64::asin), true),
        "ACOS" => (|call| unary(call, f64::acos), true),
        "ATAN" => (|call| unary(call, f64::atan), true),
        "ATAN2" => (|call| Ok(Value::Double(call.double(0)?.atan2(call.double(1)?))), true),
        "SINH" => (|call| unary(call, f64::sinh), true),
        "COSH" => (|call| unary(call, f64::cosh), true),
        "TANH" => (|call| unary(call, f64::tanh), true),
        "DEGREES" => (|call| unary(call, f64::to_degrees), true),
        "RADIANS" => (|call| unary(call, f64::to_radians), true),
        "RAND" => (|_| Ok(Value::Double(rand::random())), true),
        "RAND_INTEGER" => (rand_integer, true),
        "BIN" => (|call| Ok(Value::from(format!("{:b}", call.int(0)?))), true),
        "GREATEST" => (|call| extreme(call, Ordering::Greater), true),
        "LEAST" => (|call| extreme(call, Ordering::Less), true),
        "NULLIF" => (nullif, false),
        "UUID" => (|_| Ok(Value::from(uuid::Uuid::new_v4().to_string())), true),
        _ => return None,
    })
}

fn unary(call: &Call<'_>, function: fn(f64) -> f64) -> Result<Value, EvalError> {
    Ok(Value::Double(function(call.double(0)?)))
}

fn width(call: &Call<'_>) -> Width {
    Width::of(&call.result.kind).unwrap_or(Width::Long)
}

/// A decimal as the result type has it; NULL when it does not fit.
fn decimal(call: &Call<'_>, value: Decimal) -> Value {
    match call.result.kind {
        TypeKind::Decimal(precision, scale) => {
            arithmetic::fit(value, precision, scale).map_or(Value::Null, Value::Decimal)
        }
        _ => Value::Decimal(value),
    }
}

fn abs(call: &Call<'_>) -> Result<Value, EvalError> {
    Ok(match call.arg(0) {
        Value::Int(v) => Value::Int(width(call).wrap(v.wrapping_abs())),
        Value::Float(v) => Value::Float(v.abs()),
        Value::Double(v) => Value::Double(v.abs()),
        Value::Decimal(d) => Value::decimal(d.unscaled().abs(), d.scale),
        Value::Interval(v) => Value::Interval(v.wrapping_abs()),
        _ => return Err(EvalError::new("ABS takes a number")),
    })
}

/// CEIL and FLOOR to a whole number.
fn whole(call: &Call<'_>, up: bool) -> Result<Value, EvalError> {
    Ok(match call.arg(0) {
        Value::Int(v) => Value::Int(*v),
        Value::Float(v) => Value::Float(if up { v.ceil() } else { v.floor() }),
        Value::Double(v) => Value::Double(if up { v.ceil() } else { v.floor() }),
        Value::Decimal(d) => {
            let unit = arithmetic::power(u32::from(d.scale)).unwrap_or(i128::MAX);
            let floor = d.unscaled().div_euclid(unit);
            let more = up && d.unscaled().rem_euclid(unit) != 0;
            decimal(call, Decimal::new(floor + i128::from(more), 0))
        }
        _ => return Err(EvalError::new("CEIL and FLOOR take a number")),
    })
}

/// Drops digits behind `places`, which may be negative; half goes away from zero, or everything is cut.
fn at_places(d: Decimal, places: i64, half_up: bool) -> Decimal {
    let drop = i64::from(d.scale) - places;
    let Some(unit) = u32::try_from(drop).ok().filter(|&drop| drop > 0).and_then(arithmetic::power) else {
        return if drop <= 0 { d } else { Decimal::new(0, d.scale) };
    };
    let (quotient, rest) = (d.unscaled() / unit, d.unscaled() % unit);
    let away = half_up && rest.unsigned_abs() >= unit.unsigned_abs() - rest.unsigned_abs();
    let quotient = quotient + if away { d.unscaled().signum() } else { 0 };
    quotient.checked_mul(unit).map_or(d, |unscaled| Decimal::new(unscaled, d.scale))
}

/// ROUND and TRUNCATE.
fn round(call: &Call<'_>, half_up: bool) -> Result<Value, EvalError> {
    let places = if call.args.len() > 1 { call.int(1)? } else { 0 };
    Ok(match call.arg(0) {
        Value::Decimal(d) => decimal(call, at_places(*d, places, half_up)),
        Value::Int(v) => {
            let rounded = at_places(Decimal::new(i128::from(*v), 0), places, half_up);
            #[allow(clippy::cast_possible_truncation, reason = "wraps, as Java's conversion does")]
            Value::Int(width(call).wrap(rounded.unscaled() as i64))
        }
        Value::Float(v) => {
            let rounded = round_double(f64::from(*v), places, half_up);
            #[allow(clippy::cast_possible_truncation, reason = "a FLOAT result")]
            Value::Float(rounded as f32)
        }
        Value::Double(v) => Value::Double(round_double(*v, places, half_up)),
        _ => return Err(EvalError::new("ROUND and TRUNCATE take a number")),
    })
}

/// As Java's `BigDecimal.valueOf(x).setScale(places, …)`: on the shortest decimal digits of the number.
fn round_double(value: f64, places: i64, half_up: bool) -> f64 {
    if !value.is_finite() || value == 0.0 {
        return value;
    }
    let digits = ryu::Buffer::new().format_finite(value).to_owned();
    // from here on there are whole numbers only: more of their digits have room
    let scale = if value.abs() < 9_007_199_254_740_992.0 { 20 } else { 0 };
    match super::cast::parse_decimal(&digits, 38, scale) {
        Ok(Some(decimal)) => arithmetic::decimal_to_f64(at_places(decimal, places, half_up)),
        _ => value,
    }
}

fn sign(call: &Call<'_>) -> Result<Value, EvalError> {
    Ok(match call.arg(0) {
        Value::Int(v) => Value::Int(v.signum()),
        Value::Float(v) => Value::Float(if *v == 0.0 { *v } else { v.signum() }),
        Value::Double(v) => Value::Double(if *v == 0.0 { *v } else { v.signum() }),
        Value::Decimal(d) => decimal(call, Decimal::new(d.unscaled().signum(), 0)),
        _ => return Err(EvalError::new("SIGN takes a number")),
    })
}

fn log(call: &Call<'_>) -> Result<Value, EvalError> {
    let first = call.double(0)?;
    if call.args.len() == 1 {
        return Ok(Value::Double(first.ln()));
    }
    Ok(Value::Double(call.double(1)?.ln() / first.ln()))
}

fn rand_integer(call: &Call<'_>) -> Result<Value, EvalError> {
    let bound = call.int(call.args.len().saturating_sub(1))?;
    if bound <= 0 {
        return Err(EvalError::new("bound must be positive"));
    }
    Ok(Value::Int(rand::random_range(0..bound)))
}

fn extreme(call: &Call<'_>, wanted: Ordering) -> Result<Value, EvalError> {
    let mut values = call.args.iter();
    let mut best = values.next().ok_or_else(|| EvalError::new("no argument"))?;
    for value in values {
        if arithmetic::compare(value, best) == Some(wanted) {
            best = value;
        }
    }
    Ok(best.clone())
}

fn nullif(call: &Call<'_>) -> Result<Value, EvalError> {
    let same = arithmetic::compare(call.arg(0), call.arg(1)) == Some(Ordering::Equal);
    Ok(if same { Value::Null } else { call.arg(0).clone() })
}
