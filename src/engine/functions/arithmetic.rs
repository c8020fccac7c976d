//! Comparison, and arithmetic on numbers, times and intervals.

use std::cmp::Ordering;

use ethnum::I256;

use super::super::error::EvalError;
use super::super::eval::Width;
use super::super::row::{Decimal, Instant, Value};
use super::super::types::TypeKind;
use super::{Call, Scalar, time};

pub(super) fn lookup(name: &str) -> Option<(Scalar, bool)> {
    Some(match name {
        "+" => (add, true),
        "-" => (subtract, true),
        "*" => (multiply, true),
        "/" => (divide, true),
        "%" => (remainder, true),
        "NEGATE" => (negate, true),
        _ => return None,
    })
}

/// 10 to the power of `n`, up to 38.
pub(crate) const POWERS: [i128; 39] = {
    let mut powers = [1; 39];
    let mut at = 1;
    while at < 39 {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// 10 to the power of `n`; `None` above 38.
pub(crate) fn power(n: u32) -> Option<i128> {
    POWERS.get(n as usize).copied()
}

/// 10 to the power of `n`, up to 76.
fn wide_power(n: u32) -> I256 {
    let low = n.min(38);
    I256::from(power(low).unwrap_or(1)) * I256::from(power((n - low).min(38)).unwrap_or(1))
}

/// The order of two values of comparable types; `None` if one is NULL. Whole numbers, decimals and floats
/// compare with each other.
pub(crate) fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    Some(match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return None,
        (Value::Int(l), Value::Int(r)) => l.cmp(r),
        (Value::Str(l), Value::Str(r)) => l.cmp(r),
        (Value::Bool(l), Value::Bool(r)) => l.cmp(r),
        (Value::Decimal(l), Value::Decimal(r)) => compare_decimals(*l, *r),
        (Value::Int(l), Value::Decimal(r)) => compare_decimals(Decimal::new(i128::from(*l), 0), *r),
        (Value::Decimal(l), Value::Int(r)) => compare_decimals(*l, Decimal::new(i128::from(*r), 0)),
        (Value::Timestamp(l) | Value::TimestampLtz(l), Value::Timestamp(r) | Value::TimestampLtz(r)) => {
            l.cmp(r)
        }
        (Value::Date(l), Value::Date(r)) | (Value::Time(l), Value::Time(r)) => l.cmp(r),
        (Value::Interval(l), Value::Interval(r)) => l.cmp(r),
        (Value::Bytes(l), Value::Bytes(r)) => l.cmp(r),
        (Value::Array(l), Value::Array(r)) | (Value::Row(l), Value::Row(r)) => return compare_lists(l, r),
        (Value::Map(l), Value::Map(r)) => compare_maps(l, r),
        (Value::Float(l), Value::Float(r)) => compare_floats(f64::from(*l), f64::from(*r)),
        _ => match (to_f64(left), to_f64(right)) {
            (Some(l), Some(r)) => compare_floats(l, r),
            _ => rank(left).cmp(&rank(right)),
        },
    })
}

/// A total order with NULL first, for sorting.
pub(crate) fn compare_nulls_first(left: &Value, right: &Value) -> Ordering {
    compare(left, right).unwrap_or_else(|| right.is_null().cmp(&left.is_null()))
}

/// What is never equal, less or greater: NaN, and an array that holds a NULL beside another array.
pub(crate) fn incomparable(left: &Value, right: &Value) -> bool {
    let nan = |value: &Value| match value {
        Value::Double(number) => number.is_nan(),
        Value::Float(number) => number.is_nan(),
        _ => false,
    };
    match (left, right) {
        (Value::Null, _) | (_, Value::Null) => false,
        (Value::Double(_) | Value::Float(_), _) => nan(left) || nan(right),
        (Value::Array(l), Value::Array(r)) => {
            !std::sync::Arc::ptr_eq(l, r) && l.len() == r.len() && l.iter().any(Value::is_null)
        }
        _ => false,
    }
}

fn compare_floats(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right).unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
}

fn compare_decimals(left: Decimal, right: Decimal) -> Ordering {
    if left.scale == right.scale {
        return left.unscaled().cmp(&right.unscaled());
    }
    let scale = left.scale.max(right.scale);
    widen(left, scale).cmp(&widen(right, scale))
}

fn compare_lists(left: &[Value], right: &[Value]) -> Option<Ordering> {
    for (l, r) in left.iter().zip(right) {
        let order = compare_nulls_first(l, r);
        if order.is_ne() {
            return Some(order);
        }
    }
    Some(left.len().cmp(&right.len()))
}

fn compare_maps(left: &[(Value, Value)], right: &[(Value, Value)]) -> Ordering {
    let sorted = |map: &[(Value, Value)]| {
        let mut entries = map.to_vec();
        entries.sort_by(|l, r| compare_nulls_first(&l.0, &r.0));
        entries
    };
    let (left, right) = (sorted(left), sorted(right));
    for (l, r) in left.iter().zip(&right) {
        let order = compare_nulls_first(&l.0, &r.0).then_with(|| compare_nulls_first(&l.1, &r.1));
        if order.is_ne() {
            return order;
        }
    }
    left.len().cmp(&right.len())
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Int(_) | Value::Float(_) | Value::Double(_) | Value::Decimal(_) => 2,
        Value::Str(_) => 3,
        Value::Bytes(_) => 4,
        Value::Date(_) => 5,
        Value::Time(_) => 6,
        Value::Timestamp(_) | Value::TimestampLtz(_) => 7,
        Value::Interval(_) => 8,
        Value::Array(_) => 9,
        Value::Map(_) => 10,
        Value::Row(_) => 11,
    }
}

/// A number as DOUBLE.
#[allow(clippy::cast_precision_loss, reason = "that is what a conversion to DOUBLE is")]
pub(crate) fn to_f64(value: &Value) -> Option<f64> {
    Some(match value {
        Value::Int(v) => *v as f64,
        Value::Float(v) => f64::from(*v),
        Value::Double(v) => *v,
        Value::Decimal(d) => decimal_to_f64(*d),
        _ => return None,
    })
}

/// The nearest DOUBLE of a decimal.
#[allow(clippy::cast_precision_loss, reason = "exact below 2^53, else by the parser")]
pub(crate) fn decimal_to_f64(decimal: Decimal) -> f64 {
    let unscaled = decimal.unscaled();
    // Both parts exact in 53 bits: one correctly rounded division.
    if unscaled.unsigned_abs() < 1 << 53 && decimal.scale <= 22 {
        return unscaled as f64 / power(u32::from(decimal.scale)).unwrap_or(1) as f64;
    }
    format!("{unscaled}e-{}", decimal.scale).parse().unwrap_or(f64::NAN)
}

/// A number's whole part as BIGINT.
pub(crate) fn to_i64(value: &Value) -> Option<i64> {
    match value {
        Value::Int(v) => Some(*v),
        Value::Decimal(d) => i64::try_from(truncate(*d)).ok(),
        _ => None,
    }
}

/// A number as a decimal, if it is exact.
pub(crate) fn to_decimal(value: &Value) -> Option<Decimal> {
    match value {
        Value::Decimal(d) => Some(*d),
        Value::Int(v) => Some(Decimal::new(i128::from(*v), 0)),
        _ => None,
    }
}

/// The whole part.
pub(crate) fn truncate(decimal: Decimal) -> i128 {
    decimal.unscaled() / power(u32::from(decimal.scale)).unwrap_or(i128::MAX)
}

fn widen(decimal: Decimal, scale: u8) -> I256 {
    I256::from(decimal.unscaled()) * wide_power(u32::from(scale.saturating_sub(decimal.scale)))
}

/// Divides, rounding half away from zero.
fn divide_half_up(dividend: I256, divisor: I256) -> I256 {
    let quotient = dividend / divisor;
    let rest = dividend % divisor;
    if rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs() {
        let away = if (dividend < I256::ZERO) == (divisor < I256::ZERO) { I256::ONE } else { -I256::ONE };
        return quotient + away;
    }
    quotient
}

/// A whole number of `scale` digits after the point as DECIMAL(`precision`, `to`), rounding HALF_UP; `None` when it
/// does not fit (Flink: NULL).
fn fit_wide(unscaled: I256, scale: u32, precision: u8, to: u8) -> Option<Decimal> {
    let to_scale = u32::from(to);
    let value = if scale > to_scale {
        divide_half_up(unscaled, wide_power(scale - to_scale))
    } else {
        unscaled.checked_mul(wide_power(to_scale - scale))?
    };
    let value = i128::try_from(value).ok()?;
    let limit = power(u32::from(precision))?;
    (value.unsigned_abs() < limit.unsigned_abs()).then(|| Decimal::new(value, to))
}

/// A decimal as DECIMAL(`precision`, `scale`), rounding HALF_UP; `None` when it does not fit.
pub(crate) fn fit(decimal: Decimal, precision: u8, scale: u8) -> Option<Decimal> {
    if decimal.scale == scale {
        let limit = power(u32::from(precision))?;
        return (decimal.unscaled().unsigned_abs() < limit.unsigned_abs()).then_some(decimal);
    }
    fit_wide(I256::from(decimal.unscaled()), u32::from(decimal.scale), precision, scale)
}

fn decimal_or_null(decimal: Option<Decimal>) -> Value {
    decimal.map_or(Value::Null, Value::Decimal)
}

/// Which arithmetic a result type asks for.
enum Mode {
    Whole(Width),
    Float,
    Double,
    Decimal(u8, u8),
    Time,
}

fn mode(call: &Call<'_>) -> Mode {
    match &call.result.kind {
        TypeKind::Float => Mode::Float,
        TypeKind::Double => Mode::Double,
        TypeKind::Decimal(precision, scale) => Mode::Decimal(*precision, *scale),
        kind => Width::of(kind).map_or(Mode::Time, Mode::Whole),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "FLOAT arithmetic is in 32 bits")]
fn floats(call: &Call<'_>, op: fn(f64, f64) -> f64, op32: fn(f32, f32) -> f32) -> Result<Value, EvalError> {
    Ok(match mode(call) {
        Mode::Float => {
            let side = |at| {
                Ok(match call.arg(at) {
                    Value::Float(v) => *v,
                    _ => call.double(at)? as f32,
                })
            };
            Value::Float(op32(side(0)?, side(1)?))
        }
        _ => Value::Double(op(call.double(0)?, call.double(1)?)),
    })
}

fn decimals(call: &Call<'_>) -> Result<(Decimal, Decimal), EvalError> {
    let side = |at| {
        to_decimal(call.arg(at))
            .ok_or_else(|| EvalError::new(format!("argument {} is not an exact number", at + 1)))
    };
    Ok((side(0)?, side(1)?))
}

fn add(call: &Call<'_>) -> Result<Value, EvalError> {
    match mode(call) {
        Mode::Whole(width) => Ok(Value::Int(width.wrap(call.int(0)?.wrapping_add(call.int(1)?)))),
        Mode::Decimal(precision, scale) => {
            let (left, right) = decimals(call)?;
            Ok(decimal_or_null(add_decimals(left, right, precision, scale)))
        }
        Mode::Time => time_plus(call, 1),
        _ => floats(call, |l, r| l + r, |l, r| l + r),
    }
}

/// The sum as DECIMAL(`precision`, `scale`); `None` on overflow.
pub(crate) fn add_decimals(left: Decimal, right: Decimal, precision: u8, scale: u8) -> Option<Decimal> {
    if left.scale == right.scale
        && let Some(sum) = left.unscaled().checked_add(right.unscaled())
    {
        return fit(Decimal::new(sum, left.scale), precision, scale);
    }
    let common = left.scale.max(right.scale);
    fit_wide(widen(left, common) + widen(right, common), u32::from(common), precision, scale)
}

/// The difference as DECIMAL(`precision`, `scale`); `None` on overflow.
pub(crate) fn subtract_decimals(left: Decimal, right: Decimal, precision: u8, scale: u8) -> Option<Decimal> {
    add_decimals(left, Decimal::new(-right.unscaled(), right.scale), precision, scale)
}

/// The quotient as DECIMAL(`precision`, `scale`), HALF_UP; `None` on overflow. `right` is not zero.
pub(crate) fn divide_decimals(left: Decimal, right: Decimal, precision: u8, scale: u8) -> Option<Decimal> {
    // left / 10^ls / (right / 10^rs) with `scale` digits = left * 10^(scale + rs - ls) / right
    let shift = i32::from(scale) + i32::from(right.scale) - i32::from(left.scale);
    let (mut dividend, mut divisor) = (I256::from(left.unscaled()), I256::from(right.unscaled()));
    if shift >= 0 {
        dividend = dividend.checked_mul(wide_power(shift.unsigned_abs()))?;
    } else {
        divisor = divisor.checked_mul(wide_power(shift.unsigned_abs()))?;
    }
    fit_wide(divide_half_up(dividend, divisor), u32::from(scale), precision, scale)
}

fn subtract(call: &Call<'_>) -> Result<Value, EvalError> {
    match mode(call) {
        Mode::Whole(width) => Ok(Value::Int(width.wrap(call.int(0)?.wrapping_sub(call.int(1)?)))),
        Mode::Decimal(precision, scale) => {
            let (left, right) = decimals(call)?;
            Ok(decimal_or_null(subtract_decimals(left, right, precision, scale)))
        }
        Mode::Time => time_plus(call, -1),
        _ => floats(call, |l, r| l - r, |l, r| l - r),
    }
}

fn multiply(call: &Call<'_>) -> Result<Value, EvalError> {
    match mode(call) {
        Mode::Whole(width) => Ok(Value::Int(width.wrap(call.int(0)?.wrapping_mul(call.int(1)?)))),
        Mode::Decimal(precision, scale) => {
            let (left, right) = decimals(call)?;
            let digits = u32::from(left.scale) + u32::from(right.scale);
            Ok(decimal_or_null(match left.unscaled().checked_mul(right.unscaled()) {
                Some(product) if digits == u32::from(scale) => {
                    fit(Decimal::new(product, scale), precision, scale)
                }
                _ => fit_wide(
                    I256::from(left.unscaled()) * I256::from(right.unscaled()),
                    digits,
                    precision,
                    scale,
                ),
            }))
        }
        Mode::Time => {
            // INTERVAL * number
            let (interval, factor) = match (call.arg(0), call.arg(1)) {
                (Value::Interval(v), other) | (other, Value::Interval(v)) => (*v, other.clone()),
                _ => return Err(EvalError::new("* takes numbers, or an interval and a number")),
            };
            let factor = to_i64(&factor).ok_or_else(|| EvalError::new("an interval times a fraction"))?;
            Ok(Value::Interval(interval.wrapping_mul(factor)))
        }
        _ => floats(call, |l, r| l * r, |l, r| l * r),
    }
}

fn divide(call: &Call<'_>) -> Result<Value, EvalError> {
    match mode(call) {
        Mode::Whole(width) => match (call.int(0)?, call.int(1)?) {
            (_, 0) => Err(EvalError::new("/ by zero")),
            (left, right) => Ok(Value::Int(width.wrap(left.wrapping_div(right)))),
        },
        Mode::Decimal(precision, scale) => {
            let (left, right) = decimals(call)?;
            if right.unscaled() == 0 {
                return Err(EvalError::new("Division by zero"));
            }
            Ok(decimal_or_null(divide_decimals(left, right, precision, scale)))
        }
        Mode::Time => Err(EvalError::new("/ takes numbers")),
        _ => floats(call, |l, r| l / r, |l, r| l / r),
    }
}

fn remainder(call: &Call<'_>) -> Result<Value, EvalError> {
    match mode(call) {
        Mode::Whole(width) => match (call.int(0)?, call.int(1)?) {
            (_, 0) => Err(EvalError::new("/ by zero")),
            (left, right) => Ok(Value::Int(width.wrap(left.wrapping_rem(right)))),
        },
        Mode::Decimal(precision, scale) => {
            let (left, right) = decimals(call)?;
            if right.unscaled() == 0 {
                return Err(EvalError::new("Division by zero"));
            }
            let common = left.scale.max(right.scale);
            Ok(decimal_or_null(fit_wide(
                widen(left, common) % widen(right, common),
                u32::from(common),
                precision,
                scale,
            )))
        }
        Mode::Time => Err(EvalError::new("% takes numbers")),
        _ => floats(call, |l, r| l % r, |l, r| l % r),
    }
}

fn negate(call: &Call<'_>) -> Result<Value, EvalError> {
    Ok(match call.arg(0) {
        Value::Int(v) => {
            Value::Int(Width::of(&call.result.kind).unwrap_or(Width::Long).wrap(v.wrapping_neg()))
        }
        Value::Float(v) => Value::Float(-v),
        Value::Double(v) => Value::Double(-v),
        Value::Decimal(d) => Value::decimal(-d.unscaled(), d.scale),
        Value::Interval(v) => Value::Interval(v.wrapping_neg()),
        _ => return Err(EvalError::new("- takes a number")),
    })
}

/// `time ± interval`, `interval ± interval`, `time - time` (an interval).
fn time_plus(call: &Call<'_>, sign: i64) -> Result<Value, EvalError> {
    let (left, right) = (call.arg(0), call.arg(1));
    let months = |at: usize| matches!(call.types.get(at).map(|t| &t.kind), Some(TypeKind::IntervalMonths));
    Ok(match (left, right) {
        (Value::Interval(l), Value::Interval(r)) => Value::Interval(l.wrapping_add(sign.wrapping_mul(*r))),
        (_, Value::Interval(r)) => time::plus(left, sign.wrapping_mul(*r), months(1))?,
        (Value::Interval(l), _) if sign > 0 => time::plus(right, *l, months(0))?,
        _ => {
            let (l, r) = (time_millis(left), time_millis(right));
            let (Some(l), Some(r)) = (l, r) else {
                return Err(EvalError::new("+ and - take numbers or times"));
            };
            if matches!(call.result.kind, TypeKind::IntervalMonths) {
                Value::Interval(time::months_between(r, l))
            } else {
                Value::Interval(l.wrapping_sub(r))
            }
        }
    })
}

/// Milliseconds of a date, time or timestamp.
pub(crate) fn time_millis(value: &Value) -> Option<i64> {
    Some(match value {
        Value::Date(days) => i64::from(*days) * time::DAY,
        Value::Time(millis) => i64::from(*millis),
        Value::Timestamp(Instant { millis, .. }) | Value::TimestampLtz(Instant { millis, .. }) => *millis,
        _ => return None,
    })
}
