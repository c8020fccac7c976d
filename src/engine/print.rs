//! Rows as Flink's `print` connector writes them, and numbers as Java does: `+I[1, ann, 10.50]`.

use std::fmt::Write as _;

use super::functions::pattern;
use super::functions::time::DAY;
use super::row::{Change, Decimal, Instant, Value};
use super::types::{DataType, Field, TypeKind};
use crate::java;

/// A change: `+I[1, ann, 10.50]`.
pub fn change(text: &mut String, change: &Change, schema: &[Field]) {
    text.push_str(change.kind.symbol());
    text.push('[');
    for (at, value) in change.row.iter().enumerate() {
        if at > 0 {
            text.push_str(", ");
        }
        match schema.get(at) {
            Some(field) => self::value(text, value, &field.data_type),
            None => text.push('?'),
        }
    }
    text.push(']');
}

/// One value: `null`, all digits of a DECIMAL's scale, ISO times, signed bytes, `[a, b]`, `{k=v}`, `+I[...]`.
pub fn value(text: &mut String, value: &Value, data_type: &DataType) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(v) => text.push_str(if *v { "true" } else { "false" }),
        Value::Int(v) => text.push_str(itoa::Buffer::new().format(*v)),
        Value::Float(v) => java::float::push_float(text, *v),
        Value::Double(v) => java::float::push_double(text, *v),
        Value::Decimal(v) => big_decimal(text, *v),
        Value::Str(v) => text.push_str(v),
        Value::Bytes(v) => {
            text.push('[');
            for (at, byte) in v.iter().enumerate() {
                if at > 0 {
                    text.push_str(", ");
                }
                let _ = write!(text, "{}", i8::from_ne_bytes([*byte]));
            }
            text.push(']');
        }
        Value::Date(days) => pattern::date_text(text, i64::from(*days)),
        Value::Time(millis) => iso_time(text, i64::from(*millis), 0, false),
        Value::Timestamp(at) => iso_timestamp(text, *at, false),
        Value::TimestampLtz(at) => {
            iso_timestamp(text, *at, true);
            text.push('Z');
        }
        Value::Interval(v) => interval(text, *v, matches!(data_type.kind, TypeKind::IntervalMonths)),
        Value::Array(items) => {
            let element = match &data_type.kind {
                TypeKind::Array(element) | TypeKind::Multiset(element) => element,
                _ => data_type,
            };
            text.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    text.push_str(", ");
                }
                self::value(text, item, element);
            }
            text.push(']');
        }
        Value::Map(entries) => {
            let count = DataType::not_null(TypeKind::Int);
            let (key_type, value_type) = match &data_type.kind {
                TypeKind::Map(key, value) => (key.as_ref(), value.as_ref()),
                TypeKind::Multiset(element) => (element.as_ref(), &count),
                _ => (data_type, data_type),
            };
            text.push('{');
            for (at, (key, item)) in entries.iter().enumerate() {
                if at > 0 {
                    text.push_str(", ");
                }
                self::value(text, key, key_type);
                text.push('=');
                self::value(text, item, value_type);
            }
            text.push('}');
        }
        Value::Row(fields) => {
            text.push_str("+I[");
            for (at, field) in fields.iter().enumerate() {
                if at > 0 {
                    text.push_str(", ");
                }
                match &data_type.kind {
                    TypeKind::Row(types) => {
                        if let Some(declared) = types.get(at) {
                            self::value(text, field, &declared.data_type);
                        }
                    }
                    _ => self::value(text, field, data_type),
                }
            }
            text.push(']');
        }
    }
}

/// As Java's `BigDecimal.toString`: all digits of the scale, with an exponent where more than six zeros would follow
/// the point.
pub fn big_decimal(text: &mut String, value: Decimal) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unscaled().unsigned_abs());
    let adjusted = i64::try_from(digits.len()).unwrap_or(i64::MAX) - 1 - i64::from(value.scale);
    if adjusted >= -6 {
        return decimal(text, value);
    }
    if value.unscaled() < 0 {
        text.push('-');
    }
    let (first, rest) = digits.split_at(1);
    text.push_str(first);
    if !rest.is_empty() {
        text.push('.');
        text.push_str(rest);
    }
    text.push('E');
    text.push_str(itoa::Buffer::new().format(adjusted));
}

/// All digits of a decimal's scale, never an exponent.
pub fn decimal(text: &mut String, decimal: Decimal) {
    let scale = usize::from(decimal.scale);
    let unscaled = decimal.unscaled();
    if unscaled < 0 {
        text.push('-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs());
    if scale == 0 {
        text.push_str(digits);
        return;
    }
    if digits.len() <= scale {
        text.push_str("0.");
        for _ in digits.len()..scale {
            text.push('0');
        }
        text.push_str(digits);
    } else {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        text.push_str(whole);
        text.push('.');
        text.push_str(fraction);
    }
}

/// `13:14`, `13:14:15`, `13:14:15.678`: seconds and fractions only where they are not zero, fractions by threes.
fn iso_time(text: &mut String, millis: i64, nanos: u32, seconds: bool) {
    let second = millis / 1000;
    let _ = write!(text, "{:02}:{:02}", second / 3600, second / 60 % 60);
    let fraction = millis % 1000 * 1_000_000 + i64::from(nanos);
    if seconds || second % 60 != 0 || fraction != 0 {
        let _ = write!(text, ":{:02}", second % 60);
    }
    if fraction != 0 {
        if fraction % 1_000_000 == 0 {
            let _ = write!(text, ".{:03}", fraction / 1_000_000);
        } else if fraction % 1000 == 0 {
            let _ = write!(text, ".{:06}", fraction / 1000);
        } else {
            let _ = write!(text, ".{fraction:09}");
        }
    }
}

fn iso_timestamp(text: &mut String, at: Instant, seconds: bool) {
    pattern::date_text(text, at.millis.div_euclid(DAY));
    text.push('T');
    iso_time(text, at.millis.rem_euclid(DAY), at.nanos, seconds);
}

/// As Java's `Duration` and `Period` print: `PT1H30M`, `P15M`.
fn interval(text: &mut String, value: i64, months: bool) {
    if months {
        let _ = write!(text, "P{value}M");
        return;
    }
    if value == 0 {
        text.push_str("PT0S");
        return;
    }
    text.push_str("PT");
    let (hours, minutes) = (value / 3_600_000, value / 60_000 % 60);
    if hours != 0 {
        let _ = write!(text, "{hours}H");
    }
    if minutes != 0 {
        let _ = write!(text, "{minutes}M");
    }
    let rest = value % 60_000;
    if rest != 0 {
        let sign = if rest < 0 { "-" } else { "" };
        let _ = write!(text, "{sign}{}", rest.abs() / 1000);
        if rest % 1000 != 0 {
            let fraction = format!("{:03}", rest.abs() % 1000);
            let _ = write!(text, ".{}", fraction.trim_end_matches('0'));
        }
        text.push('S');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_print_as_the_print_connector_prints_them() {
        let schema = [
            Field { name: "id".into(), data_type: DataType::new(TypeKind::Int) },
            Field { name: "name".into(), data_type: DataType::string() },
            Field { name: "price".into(), data_type: DataType::new(TypeKind::Decimal(10, 2)) },
            Field { name: "at".into(), data_type: DataType::new(TypeKind::Timestamp(3)) },
            Field { name: "lz".into(), data_type: DataType::new(TypeKind::TimestampLtz(3)) },
        ];
        let row = Change::new(
            super::super::row::RowKind::Insert,
            vec![
                Value::Int(1),
                Value::str("ann"),
                Value::decimal(1050, 2),
                Value::Timestamp(Instant::from_millis(1_704_067_201_500)),
                Value::TimestampLtz(Instant::from_millis(1_704_067_200_000)),
            ],
        );
        let mut text = String::new();
        change(&mut text, &row, &schema);
        assert_eq!(text, "+I[1, ann, 10.50, 2024-01-01T00:00:01.500, 2024-01-01T00:00:00Z]");
    }
}
