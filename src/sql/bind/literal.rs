//! Literals: numbers, dates, intervals.

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use crate::engine::expr::Expr;
use crate::engine::row::{Decimal, Instant, Value};
use crate::engine::types::TypeKind;
use crate::sql::ast::Interval;
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::types::literal;

/// A number: INT, BIGINT or DECIMAL by its size, DECIMAL(p, s) with a point, DOUBLE with an exponent.
pub(super) fn number(text: &str, span: Span) -> SqlResult<Expr> {
    let too_big = || SqlError::plan(span, format!("Numeric literal '{text}' out of range"));
    let digits = text.trim_start_matches('-');
    if digits.contains(['e', 'E']) {
        let value: f64 = text.parse().map_err(|_| too_big())?;
        if !value.is_finite() {
            return Err(too_big());
        }
        return Ok(literal(Value::Double(value), TypeKind::Double));
    }
    if let Some(point) = digits.find('.') {
        let scale = digits.len() - point - 1;
        let plain: String = text.chars().filter(|c| *c != '.').collect();
        let precision = digits.len() - 1;
        if precision > 38 {
            return Err(too_big());
        }
        let unscaled: i128 = if plain.is_empty() { 0 } else { plain.parse().map_err(|_| too_big())? };
        if i64::try_from(unscaled).is_err() {
            return Err(too_big());
        }
        let scale = u8::try_from(scale).map_err(|_| too_big())?;
        let precision = u8::try_from(precision.max(1)).map_err(|_| too_big())?;
        if scale == 0 {
            return integer(unscaled, span);
        }
        return Ok(literal(
            Value::Decimal(Decimal::new(unscaled, scale)),
            TypeKind::Decimal(precision.max(scale), scale),
        ));
    }
    integer(text.parse().map_err(|_| too_big())?, span)
}

fn integer(value: i128, span: Span) -> SqlResult<Expr> {
    if let Ok(small) = i32::try_from(value) {
        return Ok(literal(Value::Int(i64::from(small)), TypeKind::Int));
    }
    if let Ok(wide) = i64::try_from(value) {
        return Ok(literal(Value::Int(wide), TypeKind::BigInt));
    }
    Err(SqlError::plan(span, format!("Numeric literal '{value}' out of range"))
        .help("CAST('…' AS DECIMAL(38, 0)) makes larger numbers"))
}

/// `DATE '…'`, `TIME '…'`, `TIMESTAMP '…'`.
pub(super) fn typed(keyword: &str, text: &str, span: Span) -> SqlResult<Expr> {
    let format = match keyword {
        "DATE" => "yyyy-MM-dd",
        "TIME" => "HH:mm:ss",
        _ => "yyyy-MM-dd HH:mm:ss",
    };
    let illegal =
        || SqlError::plan(span, format!("Illegal {keyword} literal '{text}': not in format '{format}'"));
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if keyword != "DATE" => (whole, fraction),
        _ => (text, ""),
    };
    if fraction.len() > 9 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(illegal());
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().map_err(|_| illegal())?;
    let precision = u8::try_from(fraction.len()).unwrap_or(9);
    Ok(match keyword {
        "DATE" => {
            let date = NaiveDate::parse_from_str(whole, "%Y-%m-%d").map_err(|_| illegal())?;
            literal(Value::Date(date.num_days_from_ce() - 719_163), TypeKind::Date)
        }
        "TIME" => {
            let time = NaiveTime::parse_from_str(whole, "%H:%M:%S").map_err(|_| illegal())?;
            let millis = time.num_seconds_from_midnight() * 1000 + nanos / 1_000_000;
            literal(Value::Time(i32::try_from(millis).unwrap_or(0)), TypeKind::Time(precision.min(3)))
        }
        _ => {
            let time = NaiveDateTime::parse_from_str(whole, "%Y-%m-%d %H:%M:%S")
                .or_else(|_| NaiveDate::parse_from_str(whole, "%Y-%m-%d").map(NaiveDateTime::from))
                .map_err(|_| illegal())?;
            let millis = time.and_utc().timestamp() * 1000 + i64::from(nanos / 1_000_000);
            let instant = Instant { millis, nanos: nanos % 1_000_000 };
            literal(Value::Timestamp(instant), TypeKind::Timestamp(precision))
        }
    })
}

/// `INTERVAL '…' unit [TO unit]` in months or milliseconds.
pub(super) fn interval(interval: &Interval, span: Span) -> SqlResult<Expr> {
    let illegal = || {
        let to = interval.to.as_ref().map(|to| format!(" TO {to}")).unwrap_or_default();
        SqlError::plan(
            span,
            format!("Illegal interval literal format '{}' for INTERVAL {}{to}", interval.text, interval.from),
        )
    };
    let mut text = interval.text.trim();
    let mut negative = interval.negative;
    if let Some(rest) = text.strip_prefix('-') {
        negative = !negative;
        text = rest;
    } else if let Some(rest) = text.strip_prefix('+') {
        text = rest;
    }
    let units = ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"];
    let (from, scale) = match interval.from.as_str() {
        "WEEK" => ("DAY", 7),
        "QUARTER" => ("MONTH", 3),
        other => (other, 1),
    };
    let first = units.iter().position(|u| *u == from).ok_or_else(illegal)?;
    let last = match &interval.to {
        Some(to) => units.iter().position(|u| u == to).filter(|i| *i > first).ok_or_else(illegal)?,
        None => first,
    };
    if first < 2 && last >= 2 {
        return Err(illegal());
    }
    // the text's fields, cut at the separators that stand between units
    let mut rest = text;
    let mut total: i64 = 0;
    for unit in first..=last {
        let separator = match unit {
            0 => Some('-'),
            2 => Some(' '),
            3 | 4 => Some(':'),
            _ => None,
        };
        let field = if unit == last {
            std::mem::take(&mut rest)
        } else {
            let (field, more) = rest.split_once(separator.ok_or_else(illegal)?).ok_or_else(illegal)?;
            rest = more;
            field
        };
        let (whole, fraction) = match field.split_once('.') {
            Some((whole, fraction)) if unit == 5 && !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(illegal()),
            None => (field, ""),
        };
        if whole.is_empty()
            || fraction.len() > 6
            || !whole.bytes().all(|b| b.is_ascii_digit())
            || !fraction.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(illegal());
        }
        let value: i64 = whole.parse().map_err(|_| illegal())?;
        if unit == first {
            let precision = interval.precision.unwrap_or(2);
            if whole.trim_start_matches('0').len() > precision as usize {
                return Err(SqlError::plan(
                    span,
                    format!(
                        "Interval field value {value} exceeds precision of {}({precision}) field",
                        interval.from
                    ),
                )
                .help(format!(
                    "write INTERVAL '{value}' {}({}), or a larger unit",
                    interval.from,
                    whole.len()
                )));
            }
        } else if value >= [i64::MAX, 12, i64::MAX, 24, 60, 60].get(unit).copied().unwrap_or(i64::MAX) {
            return Err(illegal());
        }
        let factor = [12, 1, 86_400_000, 3_600_000, 60_000, 1000].get(unit).copied().unwrap_or(1) * scale;
        total = value.checked_mul(factor).and_then(|v| total.checked_add(v)).ok_or_else(illegal)?;
        if !fraction.is_empty() {
            let millis: i64 =
                format!("{fraction:0<3}").get(..3).unwrap_or("0").parse().map_err(|_| illegal())?;
            total += millis;
        }
    }
    let value = Value::Interval(if negative { -total } else { total });
    Ok(literal(value, if first < 2 { TypeKind::IntervalMonths } else { TypeKind::IntervalMillis }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::expr::ExprNode;

    fn millis(text: &str, from: &str, to: Option<&str>, precision: Option<u32>) -> Result<i64, String> {
        let interval = Interval {
            text: text.into(),
            negative: false,
            from: from.into(),
            precision,
            to: to.map(str::to_owned),
        };
        match super::interval(&interval, Span::default()) {
            Ok(Expr { node: ExprNode::Literal(Value::Interval(v)), .. }) => Ok(v),
            Ok(_) => Err("no interval".into()),
            Err(e) => Err(e.message),
        }
    }

    #[test]
    fn intervals() {
        assert_eq!(millis("1 02:03:04.5", "DAY", Some("SECOND"), None), Ok(93_784_500));
        assert_eq!(millis("1-2", "YEAR", Some("MONTH"), None), Ok(14));
        assert_eq!(millis("90", "MINUTE", None, None), Ok(5_400_000));
        assert_eq!(millis("100", "SECOND", None, Some(3)), Ok(100_000));
        assert_eq!(
            millis("100", "SECOND", None, None).unwrap_err(),
            "Interval field value 100 exceeds precision of SECOND(2) field"
        );
    }

    #[test]
    fn numbers() {
        let kind = |text| number(text, Span::default()).map(|e| e.data_type.kind).ok();
        assert_eq!(kind("1"), Some(TypeKind::Int));
        assert_eq!(kind("2147483648"), Some(TypeKind::BigInt));
        assert_eq!(kind("12.345"), Some(TypeKind::Decimal(5, 3)));
        assert_eq!(kind("-0.5"), Some(TypeKind::Decimal(2, 1)));
        assert_eq!(kind("1e7"), Some(TypeKind::Double));
    }
}
