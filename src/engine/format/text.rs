//! Text of numbers, dates and times, as Java's and Flink's formatters read and write them.

use std::borrow::Cow;

use crate::engine::row::Instant;

/// `timestamp-format.standard` of the JSON formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampFormat {
    /// `2024-01-01 12:13:14.123`, with zone `2024-01-01 12:13:14.123Z`.
    Sql,
    /// `2024-01-01T12:13:14.123`, with zone `2024-01-01T12:13:14.123Z`.
    Iso8601,
}

/// Text that is not a decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a decimal number")]
pub struct NotANumber;

/// Reads a decimal number (`-12.30`, `1E+3`) as a whole number of `10^-scale`, rounded half up. `Ok(None)`: more
/// than `precision` digits (Flink makes NULL of it).
///
/// # Errors
/// [`NotANumber`].
pub fn decimal(text: &str, precision: u8, scale: u8) -> Result<Option<i128>, NotANumber> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => {
            let exponent = text.get(at + 1..).unwrap_or_default();
            (text.get(..at).unwrap_or_default(), exponent.parse::<i32>().map_err(|_| NotANumber)?)
        }
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.as_bytes().first() {
        Some(b'-') => (true, mantissa.get(1..).unwrap_or_default()),
        Some(b'+') => (false, mantissa.get(1..).unwrap_or_default()),
        _ => (false, mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(NotANumber);
    }
    // The point stands after `point` digits of whole + fraction.
    let length = i64::try_from(whole.len()).map_err(|_| NotANumber)?;
    let point = length.saturating_add(i64::from(exponent));
    let wanted = point.saturating_add(i64::from(scale));
    let mut unscaled: i128 = 0;
    let mut overflow = false;
    let mut position = 0i64;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if !byte.is_ascii_digit() {
            return Err(NotANumber);
        }
        let digit = i128::from(byte - b'0');
        if position < wanted {
            match unscaled.checked_mul(10).and_then(|n| n.checked_add(digit)) {
                Some(next) => unscaled = next,
                None => overflow = true,
            }
        } else if position == wanted && digit >= 5 {
            unscaled = unscaled.saturating_add(1);
        }
        position += 1;
    }
    while position < wanted && unscaled != 0 && !overflow {
        match unscaled.checked_mul(10) {
            Some(next) => unscaled = next,
            None => overflow = true,
        }
        position += 1;
    }
    if overflow || unscaled >= 10i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX) {
        return Ok(None);
    }
    Ok(Some(if negative { -unscaled } else { unscaled }))
}

/// A number's text as Jackson's tree of a JSON document has it: a number with a fraction or an exponent is a
/// `BigDecimal` without trailing zeros (`1.10` is `1.1`, `1.0` is `1`, `1e2` is `1E+2`).
pub fn tree_number(text: &str) -> Cow<'_, str> {
    if !text.contains(['.', 'e', 'E']) {
        return Cow::Borrowed(text);
    }
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let Ok(exponent) = exponent.parse::<i64>() else { return Cow::Borrowed(text) };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |m| ("-", m));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    let digits = significant.trim_end_matches('0');
    let (Ok(cut), Ok(places)) =
        (i64::try_from(significant.len() - digits.len()), i64::try_from(fraction.len()))
    else {
        return Cow::Borrowed(text);
    };
    if digits.is_empty() {
        return Cow::Borrowed("0");
    }
    let mut out = sign.as_bytes().to_vec();
    write_big_decimal(&mut out, digits.as_bytes(), places - exponent - cut, false);
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Reads a number as Java's `Double.parseDouble` does, blanks around it included: `1.5`, `1e3`, `1d`, `NaN`.
pub fn double(text: &str) -> Option<f64> {
    java_float(text)?.parse().ok()
}

/// As [`double`], of `Float.parseFloat`.
pub fn float(text: &str) -> Option<f32> {
    java_float(text)?.parse().ok()
}

/// What both languages read the same.
fn java_float(text: &str) -> Option<&str> {
    let text = text.trim();
    if matches!(text.trim_start_matches(['+', '-']), "NaN" | "Infinity") {
        return Some(text);
    }
    let body = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    // Rust also knows `inf` and other spellings.
    body.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E')).then_some(body)
}

/// Changes the scale of a whole number of `10^-from` to `10^-to`, rounded half up; `None` where it does not fit
/// `precision`.
pub fn rescale(unscaled: i128, from: i32, to: u8, precision: u8) -> Option<i128> {
    let shift = i32::from(to) - from;
    let result = if shift >= 0 {
        unscaled.checked_mul(10i128.checked_pow(shift.unsigned_abs())?)?
    } else {
        match 10i128.checked_pow(shift.unsigned_abs()) {
            None => 0,
            Some(divisor) => {
                let (quotient, rest) = (unscaled / divisor, unscaled % divisor);
                if rest.abs() >= divisor - rest.abs() { quotient + unscaled.signum() } else { quotient }
            }
        }
    };
    (result.unsigned_abs() < 10u128.checked_pow(u32::from(precision))?).then_some(result)
}

/// A decimal number as Jackson writes a `BigDecimal` whose trailing zeros are stripped: `15`, `1.5`, `1E+2`.
pub fn write_stripped_decimal(out: &mut Vec<u8>, unscaled: i128, scale: u8, plain: bool) {
    let mut digits = unscaled.unsigned_abs();
    if digits == 0 {
        out.push(b'0');
        return;
    }
    let mut scale = i64::from(scale);
    while digits.is_multiple_of(10) {
        digits /= 10;
        scale -= 1;
    }
    if unscaled < 0 {
        out.push(b'-');
    }
    write_big_decimal(out, digits.to_string().as_bytes(), scale, plain);
}

/// Digits times `10^-scale` as `BigDecimal.toString`, or plain, as `toPlainString`.
fn write_big_decimal(out: &mut Vec<u8>, text: &[u8], scale: i64, plain: bool) {
    let length = text.len() as i64;
    let exponent = length - 1 - scale;
    if !plain && (scale < 0 || exponent < -6) {
        // BigDecimal.toString: one digit, the rest as fraction, a signed exponent.
        let (first, rest) = text.split_at(1);
        out.extend_from_slice(first);
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest);
        }
        out.push(b'E');
        out.push(if exponent < 0 { b'-' } else { b'+' });
        out.extend_from_slice(exponent.unsigned_abs().to_string().as_bytes());
        return;
    }
    let zeros = |out: &mut Vec<u8>, n: i64| out.resize(out.len() + usize::try_from(n).unwrap_or(0), b'0');
    if scale <= 0 {
        out.extend_from_slice(text);
        zeros(out, -scale);
    } else if length > scale {
        let (whole, fraction) = text.split_at(usize::try_from(length - scale).unwrap_or(0));
        out.extend_from_slice(whole);
        out.push(b'.');
        out.extend_from_slice(fraction);
    } else {
        out.extend_from_slice(b"0.");
        zeros(out, scale - length);
        out.extend_from_slice(text);
    }
}

/// Days from 1970-01-01 to a date of the proleptic Gregorian calendar; `None` where there is no such date.
pub fn days(year: i32, month: u32, day: u32) -> Option<i32> {
    let date = chrono::NaiveDate::from_ymd_opt(year, month, day)?;
    i32::try_from(date.signed_duration_since(chrono::NaiveDate::default()).num_days()).ok()
}

fn fixed(text: &[u8], digits: usize) -> Option<u32> {
    let text = text.get(..digits)?;
    text.iter().try_fold(0u32, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
}

/// Reads `2024-01-31`.
pub fn date(text: &str) -> Option<i32> {
    let (negative, body) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let mut parts = body.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    // More than four digits have a sign.
    let signed = body.len() < text.len();
    if year.len() < 4
        || (year.len() > 4 && !signed)
        || month.len() != 2
        || day.len() != 2
        || !year.bytes().all(|b| b.is_ascii_digit())
    {
        return None;
    }
    let year: i32 = year.parse().ok()?;
    days(if negative { -year } else { year }, fixed(month.as_bytes(), 2)?, fixed(day.as_bytes(), 2)?)
}

/// Reads `12:13:14` with up to nine digits of fraction; seconds may be missing where `short`.
/// Milliseconds and nanoseconds within them.
fn time_of_day(text: &str, short: bool) -> Option<(i64, u32)> {
    let bytes = text.as_bytes();
    let (hour, minute) = (fixed(bytes, 2)?, fixed(bytes.get(3..)?, 2)?);
    if bytes.get(2) != Some(&b':') || hour > 23 || minute > 59 {
        return None;
    }
    let (second, nanos) = match bytes.get(5) {
        None if short => (0, 0),
        Some(b':') => {
            let second = fixed(bytes.get(6..)?, 2)?;
            let nanos = match bytes.get(8) {
                None => 0,
                Some(b'.') => {
                    let digits = bytes.get(9..)?;
                    if digits.len() > 9 || (digits.is_empty()) {
                        return None;
                    }
                    fixed(digits, digits.len())? * 10u32.pow(9 - u32::try_from(digits.len()).ok()?)
                }
                Some(_) => return None,
            };
            (second, nanos)
        }
        _ => return None,
    };
    if second > 59 {
        return None;
    }
    let millis = i64::from((hour * 60 + minute) * 60 + second) * 1000 + i64::from(nanos / 1_000_000);
    Some((millis, nanos % 1_000_000))
}

/// Reads `12:13:14.5`; milliseconds since midnight.
pub fn time(text: &str) -> Option<i32> {
    let (millis, _) = time_of_day(text, false)?;
    i32::try_from(millis).ok()
}

/// Reads `12:13` and `12:13:14.5`, as Java's `LocalTime.parse` does, cut to a number of digits of fraction.
pub fn local_time(text: &str, digits: u8) -> Option<i32> {
    let (millis, _) = time_of_day(text, true)?;
    let unit = 10i64.pow(3u32.saturating_sub(u32::from(digits)));
    i32::try_from(millis - millis % unit).ok()
}

/// Reads `2024-1-31` as Java's `Date.valueOf` does: a day that the month has not goes on into the next.
pub fn sql_date(text: &str) -> Option<i32> {
    let mut parts = text.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let number = |text: &str, longest: usize| {
        let good = (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        good.then(|| text.parse::<u32>().ok()).flatten()
    };
    let (month, day) = (number(month, 2)?, number(day, 2)?);
    if year.len() != 4 || !(1..=31).contains(&day) {
        return None;
    }
    let first = days(i32::try_from(number(year, 4)?).ok()?, month, 1)?;
    i32::try_from(day).ok()?.checked_sub(1)?.checked_add(first)
}

/// Reads a timestamp without zone, in one standard.
pub fn timestamp(text: &str, format: TimestampFormat) -> Option<Instant> {
    let separator = if format == TimestampFormat::Sql { ' ' } else { 'T' };
    let (day, time) = text.split_once(separator)?;
    let days = date(day)?;
    // The end of a day is the beginning of the next.
    let (millis, nanos) = match time {
        "24:00:00" => (86_400_000, 0),
        time => time_of_day(time, format == TimestampFormat::Iso8601)?,
    };
    Some(Instant { millis: i64::from(days) * 86_400_000 + millis, nanos })
}

/// Reads a timestamp with the zone `Z`, in one standard.
pub fn timestamp_ltz(text: &str, format: TimestampFormat) -> Option<Instant> {
    timestamp(text.strip_suffix('Z')?, format)
}

fn push_padded(out: &mut Vec<u8>, number: u32, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(number);
    out.resize(out.len() + width.saturating_sub(text.len()), b'0');
    out.extend_from_slice(text.as_bytes());
}

/// Writes `2024-01-31`.
pub fn write_date(out: &mut Vec<u8>, days: i32) {
    use chrono::Datelike;
    let date = chrono::NaiveDate::default().checked_add_signed(chrono::TimeDelta::days(i64::from(days)));
    let Some(date) = date else { return };
    if date.year() < 0 {
        out.push(b'-');
    } else if date.year() > 9999 {
        out.push(b'+');
    }
    push_padded(out, date.year().unsigned_abs(), 4);
    out.push(b'-');
    push_padded(out, date.month(), 2);
    out.push(b'-');
    push_padded(out, date.day(), 2);
}

/// Writes `12:13:14.5`, with as many digits of fraction as it takes.
pub fn write_time(out: &mut Vec<u8>, millis_of_day: u32, nanos_of_milli: u32) {
    let seconds = millis_of_day / 1000;
    push_padded(out, seconds / 3600, 2);
    out.push(b':');
    push_padded(out, seconds / 60 % 60, 2);
    out.push(b':');
    push_padded(out, seconds % 60, 2);
    let nanos = millis_of_day % 1000 * 1_000_000 + nanos_of_milli;
    if nanos != 0 {
        out.push(b'.');
        push_padded(out, nanos, 9);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// Writes a timestamp in one standard, without zone.
pub fn write_timestamp(out: &mut Vec<u8>, at: Instant, format: TimestampFormat) {
    let days = at.millis.div_euclid(86_400_000);
    write_date(out, i32::try_from(days).unwrap_or_default());
    out.push(if format == TimestampFormat::Sql { b' ' } else { b'T' });
    write_time(out, u32::try_from(at.millis.rem_euclid(86_400_000)).unwrap_or_default(), at.nanos);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_round_half_up_and_overflow_to_null() {
        let cases = [
            ("10.5", 10, 2, Ok(Some(1050))),
            ("-1.005", 10, 2, Ok(Some(-101))),
            ("1.004", 10, 2, Ok(Some(100))),
            ("99.95", 3, 1, Ok(None)),
            ("1E+3", 10, 2, Ok(Some(100_000))),
            ("1.5e-1", 10, 2, Ok(Some(15))),
            ("5e-3", 10, 2, Ok(Some(1))),
            ("0e2000000000", 10, 2, Ok(Some(0))),
            ("1e2000000000", 10, 2, Ok(None)),
            ("1e-2000000000", 10, 2, Ok(Some(0))),
            (".5", 10, 1, Ok(Some(5))),
            ("ZA==", 10, 2, Err(NotANumber)),
            ("", 10, 2, Err(NotANumber)),
            ("-", 10, 2, Err(NotANumber)),
            ("1.2.3", 10, 2, Err(NotANumber)),
            ("99999999999999999999999999999999999999", 38, 0, Ok(Some(10i128.pow(38) - 1))),
            ("999999999999999999999999999999999999999", 38, 0, Ok(None)),
        ];
        for (text, precision, scale, wanted) in cases {
            assert_eq!(decimal(text, precision, scale), wanted, "{text}");
        }
        assert_eq!(rescale(105, 1, 0, 10), Some(11));
        assert_eq!(rescale(-105, 1, 0, 10), Some(-11));
        assert_eq!(rescale(104, 1, 3, 10), Some(10400));
        assert_eq!(rescale(999, 0, 0, 2), None);
    }

    #[test]
    fn decimals_are_written_as_jackson_does() {
        let written = |unscaled, scale, plain| {
            let mut out = Vec::new();
            write_stripped_decimal(&mut out, unscaled, scale, plain);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(1500, 2, false), "15");
        assert_eq!(written(1950, 2, false), "19.5");
        assert_eq!(written(10000, 2, false), "1E+2");
        assert_eq!(written(12000, 2, false), "1.2E+2");
        assert_eq!(written(10000, 2, true), "100");
        assert_eq!(written(-5, 3, false), "-0.005");
        assert_eq!(written(1, 8, false), "1E-8");
        assert_eq!(written(0, 2, false), "0");
    }

    #[test]
    fn timestamps_go_both_ways() {
        let sql = TimestampFormat::Sql;
        let at = timestamp("2024-01-01 10:00:02.123456", sql).unwrap();
        assert_eq!((at.millis, at.nanos), (1_704_103_202_123, 456_000));
        let mut out = Vec::new();
        write_timestamp(&mut out, at, TimestampFormat::Iso8601);
        assert_eq!(String::from_utf8(out).unwrap(), "2024-01-01T10:00:02.123456");
        assert_eq!(timestamp("2024-01-01T10:00:02Z", sql), None);
        assert_eq!(timestamp("2024-02-30 10:00:02", sql), None);
        assert!(timestamp_ltz("2026-11-22T15:39:11.628964Z", TimestampFormat::Iso8601).is_some());
        assert!(timestamp_ltz("2026-11-22 15:39:11", sql).is_none());
        assert_eq!(time("12:13:14.5"), Some(43_994_500));
        assert_eq!(date("1969-12-31"), Some(-1));
        let mut out = Vec::new();
        write_timestamp(&mut out, Instant { millis: -1, nanos: 0 }, sql);
        assert_eq!(String::from_utf8(out).unwrap(), "1969-12-31 23:59:59.999");
    }
}
