//! PRINTF: the usual part of Java's `String.format`.

use std::fmt::Write as _;

use super::super::error::EvalError;
use super::super::print;
use super::super::row::Value;
use super::super::types::DataType;
use super::{Call, arithmetic};

/// Widest field and longest fraction that are written: a little less than a format of Rust takes.
pub(super) const WIDEST: usize = 65_000;

/// A format that Java refuses gives NULL.
pub(super) fn printf(call: &Call<'_>) -> Result<Value, EvalError> {
    if call.arg(0).is_null() {
        return Ok(Value::Null);
    }
    let mut rest = call.str(0)?;
    let mut out = String::new();
    let mut next = 1;
    while let Some(at) = rest.find('%') {
        out.push_str(rest.get(..at).unwrap_or(""));
        rest = rest.get(at + 1..).unwrap_or("");
        let Some(end) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '%') else {
            return Ok(Value::Null);
        };
        let (spec, tail) = rest.split_at(end);
        let conversion = tail.chars().next().unwrap_or('%');
        rest = tail.get(1..).unwrap_or("");
        // `%2$s` takes the second argument
        let (position, spec) = match spec.split_once('$') {
            Some((number, spec)) => match number.parse::<usize>() {
                Ok(position) => (Some(position), spec),
                Err(_) => return Ok(Value::Null),
            },
            None => (None, spec),
        };
        let flags: String = spec.chars().take_while(|c| "-+0 ,#(".contains(*c)).collect();
        let numbers = spec.get(flags.len()..).unwrap_or("");
        let (width, precision) = numbers.split_once('.').map_or((numbers, None), |(w, p)| (w, Some(p)));
        let width: usize = width.parse().unwrap_or(0);
        let precision: Option<usize> = precision.map(|digits| digits.parse().unwrap_or(0).min(WIDEST));
        let mut text = match conversion {
            '%' => "%".to_owned(),
            'n' => "\n".to_owned(),
            _ => {
                let at = position.unwrap_or(next);
                if position.is_none() {
                    next += 1;
                }
                if at == 0 || at >= call.args.len() {
                    return Ok(Value::Null);
                }
                let data_type = call.types.get(at).unwrap_or(call.result);
                match converted(conversion, call.arg(at), data_type, &flags, precision) {
                    Some(text) => text,
                    None => return Ok(Value::Null),
                }
            }
        };
        let missing = width.min(WIDEST).saturating_sub(text.chars().count());
        if flags.contains('-') {
            text.extend(std::iter::repeat_n(' ', missing));
        } else if flags.contains('0') && "doxXfeEgG".contains(conversion) {
            let sign = usize::from(text.starts_with(['-', '+']));
            text.insert_str(sign, &"0".repeat(missing));
        } else {
            text.insert_str(0, &" ".repeat(missing));
        }
        out.push_str(&text);
    }
    out.push_str(rest);
    Ok(Value::from(out))
}

fn converted(
    conversion: char,
    value: &Value,
    data_type: &DataType,
    flags: &str,
    precision: Option<usize>,
) -> Option<String> {
    let mut text = String::new();
    let digits = precision.unwrap_or(6);
    let number = || arithmetic::to_f64(value);
    let whole = match value {
        Value::Float(_) | Value::Double(_) | Value::Decimal(_) => None,
        Value::Int(v) => Some(*v),
        // times are numbers inside
        Value::Date(v) | Value::Time(v) => Some(i64::from(*v)),
        _ => None,
    };
    match (conversion.to_ascii_lowercase(), value) {
        ('b', Value::Bool(truth)) => text.push_str(if *truth { "true" } else { "false" }),
        ('b', value) => text.push_str(if value.is_null() { "false" } else { "true" }),
        (_, Value::Null) => text.push_str("null"),
        ('s', _) => match whole {
            Some(whole) => {
                let _ = write!(text, "{whole}");
            }
            None => print::value(&mut text, value, data_type),
        },
        ('d', _) => {
            let _ = write!(text, "{}", whole?);
        }
        ('x', _) => {
            let _ = write!(text, "{:x}", whole?);
        }
        ('o', _) => {
            let _ = write!(text, "{:o}", whole?);
        }
        ('c', Value::Str(one)) => text.push(one.chars().next()?),
        ('c', _) => text.push(char::from_u32(u32::try_from(whole?).ok()?)?),
        ('f', Value::Float(_) | Value::Double(_) | Value::Decimal(_)) => {
            let _ = write!(text, "{:.*}", digits, number()?);
        }
        ('e', Value::Float(_) | Value::Double(_) | Value::Decimal(_)) => {
            text = scientific(number()?, digits);
        }
        ('g', Value::Float(_) | Value::Double(_) | Value::Decimal(_)) => {
            let (number, digits) = (number()?, digits.max(1));
            if number != 0.0 && !(1e-4..10_f64.powi(i32::try_from(digits).ok()?)).contains(&number.abs()) {
                text = scientific(number, digits - 1);
            } else {
                let before = if number == 0.0 { 1.0 } else { number.abs().log10().floor() + 1.0 };
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few digits")]
                let after = (digits as f64 - before).max(0.0) as usize;
                let _ = write!(text, "{:.*}", after.min(WIDEST), number);
            }
        }
        _ => return None,
    }
    if flags.contains(',') && matches!(conversion, 'd' | 'f') {
        text = grouped(&text);
    }
    if flags.contains('+') && !text.starts_with('-') && matches!(conversion, 'd' | 'f' | 'e') {
        text.insert(0, '+');
    }
    if let ('s', Some(most)) = (conversion, precision) {
        text = text.chars().take(most).collect();
    }
    Some(if conversion.is_ascii_uppercase() { text.to_uppercase() } else { text })
}

/// `1.234568e+04`.
fn scientific(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
            format!("{mantissa}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

/// A comma before every third digit of the whole part.
fn grouped(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (whole, fraction) = digits.find('.').map_or((digits, ""), |point| digits.split_at(point));
    let mut out = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::types::TypeKind;

    #[test]
    fn the_longest_fraction_can_be_written() {
        for conversion in ['f', 'e', 'g'] {
            let text = converted(
                conversion,
                &Value::Double(1.5),
                &DataType::new(TypeKind::Double),
                "",
                Some(WIDEST),
            );
            assert!(text.is_some_and(|text| text.starts_with("1.5")), "{conversion}");
        }
    }
}
