//! Dates by Java's lenient `SimpleDateFormat`, which Flink uses where a text goes in and no TIMESTAMP comes out:
//! UNIX_TIMESTAMP, FROM_UNIXTIME, TO_DATE with a pattern, CONVERT_TZ, DATE_FORMAT of a text.

use std::fmt::Write as _;

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike};

use super::super::error::EvalError;
use super::super::zone::Zone;
use super::pattern::{MONTHS, Part, WEEKDAYS, parts, sunday_week, take_digits};
use super::printf::WIDEST;

/// SQL's own form.
pub(super) const SQL: &str = "yyyy-MM-dd HH:mm:ss";

fn check(pattern: &str) -> Result<Vec<Part<'_>>, EvalError> {
    let parts = parts(pattern);
    for part in &parts {
        if let Part::Field(letter, _) = part
            && !"GyYMLwWDdFEuaHkKhmsSzZX".contains(*letter)
        {
            return Err(EvalError::new(format!("Illegal pattern character '{letter}'")));
        }
    }
    Ok(parts)
}

/// Writes a wall clock; `at_utc` is the same instant in milliseconds, `zone` the zone it is shown in.
pub(super) fn format(at: NaiveDateTime, at_utc: i64, zone: Zone, pattern: &str) -> Result<String, EvalError> {
    let mut text = String::with_capacity(pattern.len() + 8);
    for part in check(pattern)? {
        let (letter, count) = match part {
            Part::Text(other) => {
                text.push_str(other);
                continue;
            }
            Part::Field(letter, count) => (letter, count),
        };
        let name = |names: &[&'static str], index: u32| {
            let name = names.get(index as usize).copied().unwrap_or("");
            if count >= 4 { name } else { name.get(..3).unwrap_or(name) }
        };
        let number = match letter {
            'G' => {
                text.push_str("AD");
                continue;
            }
            'a' => {
                text.push_str(if at.hour() < 12 { "AM" } else { "PM" });
                continue;
            }
            'E' => {
                text.push_str(name(&WEEKDAYS, at.weekday().num_days_from_monday()));
                continue;
            }
            'M' | 'L' if count >= 3 => {
                text.push_str(name(&MONTHS, at.month0()));
                continue;
            }
            'y' | 'Y' => {
                let year = if letter == 'Y' { sunday_week(at).0 } else { at.year() };
                let _ = if count == 2 {
                    write!(text, "{:02}", year.rem_euclid(100))
                } else {
                    write!(text, "{year:0width$}", width = count.min(WIDEST))
                };
                continue;
            }
            'z' => {
                text.push_str(&zone.short_name(at_utc));
                continue;
            }
            'Z' | 'X' => {
                let minutes = (zone.local(at_utc) - at_utc) / 60_000;
                if letter == 'X' && minutes == 0 {
                    text.push('Z');
                    continue;
                }
                let (sign, hours) = (if minutes < 0 { '-' } else { '+' }, minutes.abs() / 60);
                let _ = match (letter, count) {
                    ('X', 1) => write!(text, "{sign}{hours:02}"),
                    ('X', 3) => write!(text, "{sign}{hours:02}:{:02}", minutes.abs() % 60),
                    _ => write!(text, "{sign}{hours:02}{:02}", minutes.abs() % 60),
                };
                continue;
            }
            'M' | 'L' => at.month(),
            'd' => at.day(),
            'D' => at.ordinal(),
            'F' => at.day0() / 7 + 1,
            'u' => at.weekday().number_from_monday(),
            'H' => at.hour(),
            'k' => (at.hour() + 23) % 24 + 1,
            'K' => at.hour() % 12,
            'h' => (at.hour() + 11) % 12 + 1,
            'm' => at.minute(),
            's' => at.second(),
            'S' => at.nanosecond() % 1_000_000_000 / 1_000_000,
            'w' => sunday_week(at).1,
            _ => (at.day0() + at.with_day(1).map_or(0, |d| d.weekday().num_days_from_sunday())) / 7 + 1,
        };
        let _ = write!(text, "{number:0width$}", width = count.min(WIDEST));
    }
    Ok(text)
}

/// Reads a wall clock, and the offset in seconds where the text has one: what follows the pattern is not looked at,
/// and fields beyond their range carry over. `Ok(None)` when the text does not fit.
pub(super) fn parse(text: &str, pattern: &str) -> Result<Option<(NaiveDateTime, Option<i64>)>, EvalError> {
    let parts = check(pattern)?;
    Ok(if parts.is_empty() { None } else { read(text, &parts) })
}

fn read(text: &str, parts: &[Part<'_>]) -> Option<(NaiveDateTime, Option<i64>)> {
    let (mut year, mut month, mut day) = (1970_i64, 1_i64, 1_i64);
    let (mut hour, mut minute, mut second, mut millis) = (0_i64, 0_i64, 0_i64, 0_i64);
    let (mut afternoon, mut offset) = (None, None);
    let mut rest = text;
    for (at, part) in parts.iter().enumerate() {
        let (letter, count) = match part {
            Part::Text(other) => {
                rest = rest.strip_prefix(other)?;
                continue;
            }
            Part::Field(letter, count) => (*letter, *count),
        };
        let name = |names: &[&str], rest: &mut &str| {
            names.iter().position(|name| {
                let short = name.get(..3).unwrap_or(name);
                let fits = [*name, short].into_iter().find(|name| {
                    rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                });
                if let Some(fits) = fits {
                    *rest = rest.get(fits.len()..).unwrap_or("");
                }
                fits.is_some()
            })
        };
        match letter {
            'M' | 'L' if count >= 3 => {
                month = i64::try_from(name(&MONTHS, &mut rest)?).ok()? + 1;
                continue;
            }
            'E' => {
                name(&WEEKDAYS, &mut rest)?;
                continue;
            }
            'G' => {
                rest = ["AD", "BC"].iter().find_map(|era| rest.strip_prefix(era))?;
                continue;
            }
            'a' => {
                let (half, tail) = rest.split_at_checked(2)?;
                afternoon = Some(half.eq_ignore_ascii_case("PM"));
                rest = tail;
                continue;
            }
            'z' if rest.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                let of_zone = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '-' | ':');
                let (zone, tail) = rest.split_at_checked(rest.find(|c| !of_zone(c)).unwrap_or(rest.len()))?;
                offset = Some(Zone::parse(zone)?.local(0) / 1000);
                rest = tail;
                continue;
            }
            'z' | 'Z' | 'X' => {
                if let Some(tail) = rest.strip_prefix('Z') {
                    (offset, rest) = (Some(0), tail);
                    continue;
                }
                let sign = if rest.starts_with('-') { -1 } else { 1 };
                rest = rest.strip_prefix(['+', '-'])?;
                let hours: i64 = take_digits(&mut rest, 2)?.parse().ok()?;
                rest = rest.strip_prefix(':').unwrap_or(rest);
                let minutes: i64 = take_digits(&mut rest, 2).unwrap_or("0").parse().ok()?;
                offset = Some(sign * (hours * 3600 + minutes * 60));
                continue;
            }
            _ => {}
        }
        let adjacent = matches!(parts.get(at + 1), Some(Part::Field(..)));
        let blank = rest.trim_start();
        let (sign, mut digits) = blank.strip_prefix('-').map_or((1, blank), |tail| (-1, tail));
        let taken = take_digits(&mut digits, if adjacent { count } else { 18 })?;
        let number = sign * taken.parse::<i64>().ok()?;
        rest = digits;
        match letter {
            'y' | 'Y' => year = if count <= 2 && taken.len() == 2 { number + 2000 } else { number },
            'M' | 'L' => month = number,
            'd' => day = number,
            'D' => (month, day) = (1, number),
            'H' => hour = number,
            'h' => hour = if number == 12 { 0 } else { number },
            'K' => hour = number,
            'k' => hour = if number == 24 { 0 } else { number },
            'm' => minute = number,
            's' => second = number,
            'S' => millis = number,
            // the number of a day in its week, or of a week: read, and outdone by the date
            _ => {}
        }
    }
    if afternoon == Some(true) {
        hour = hour.checked_add(12)?;
    }
    let months = year.checked_mul(12)?.checked_add(month.checked_sub(1)?)?;
    let first = NaiveDate::from_ymd_opt(
        i32::try_from(months.div_euclid(12)).ok()?,
        u32::try_from(months.rem_euclid(12)).ok()? + 1,
        1,
    )?;
    let minutes = hour.checked_mul(60)?.checked_add(minute)?;
    let seconds = minutes.checked_mul(60)?.checked_add(second)?;
    let seconds = day.checked_sub(1)?.checked_mul(86_400)?.checked_add(seconds)?;
    let shift =
        chrono::Duration::try_seconds(seconds)?.checked_add(&chrono::Duration::try_milliseconds(millis)?)?;
    Some((NaiveDateTime::from(first).checked_add_signed(shift)?, offset))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn lenient_as_java() {
        let read = |text: &str, pattern: &str| {
            parse(text, pattern).unwrap().map(|(at, offset)| (at.to_string(), offset))
        };
        let at = |text: &str| Some((text.to_owned(), None));
        assert_eq!(
            read("1970-13-01 00:00:61 +0100x", "yyyy-MM-dd HH:mm:ss Z"),
            Some(("1971-01-01 00:01:01".to_owned(), Some(3600)))
        );
        assert_eq!(read("2024-060", "yyyy-DDD"), at("2024-02-29 00:00:00"));
        assert_eq!(read("13:04 PM", "hh:mm a"), at("1970-01-02 01:04:00"));
        assert_eq!(read("1704164645", "s"), at("2024-01-02 03:04:05"));
        assert_eq!(read("2024", ""), None);
        assert!(parse("2024", "e").is_err());
        let kolkata = Zone::parse("Asia/Kolkata").unwrap();
        assert_eq!(format(NaiveDateTime::default(), 0, kolkata, "XXX X Z").unwrap(), "+05:30 +05 +0530");
        assert_eq!(format(NaiveDateTime::default(), 0, Zone::UTC, "XXX Z").unwrap(), "Z +0000");
    }

    #[test]
    fn no_pattern_and_no_date_panics() {
        let last = NaiveDate::MAX.and_time(chrono::NaiveTime::MIN);
        for letter in ['y', 'M', 'd', 'H', 'w', 'Y', 'S', 'D'] {
            let pattern = String::from(letter).repeat(70_000);
            assert!(!format(last, 0, Zone::UTC, &pattern).unwrap_or_default().contains(' '));
        }
        assert!(!format(last, 0, Zone::UTC, "w Y").unwrap().is_empty());
    }
}
