//! Texts of dates and times: Java's `DateTimeFormatter` patterns, and SQL's own forms.

use std::fmt::Write as _;

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};

use super::super::error::EvalError;
use super::super::row::Instant;
use super::time;
use crate::java::date_pattern::{self, MONTHS, Part, WEEKDAYS};

/// A wall clock by a Java pattern.
pub(crate) fn format(at: NaiveDateTime, pattern: &str) -> Result<String, EvalError> {
    let Some(parts) = date_pattern::parts(pattern) else {
        return Err(EvalError::new(format!("Pattern ends with an incomplete string literal: {pattern}")));
    };
    let mut text = String::with_capacity(pattern.len() + 8);
    for part in parts {
        match part {
            // an optional section is there when something is written
            Part::Text("[" | "]") => {}
            Part::Text(reserved @ ("{" | "}" | "#")) => {
                let message = format!("Pattern includes reserved character: '{reserved}'");
                return Err(EvalError::new(message));
            }
            Part::Text(other) => text.push_str(other),
            Part::Field(letter, count) if count > most_letters(letter) => {
                return Err(EvalError::new(format!("Too many pattern letters: {letter}")));
            }
            Part::Field(letter, count) => format_field(&mut text, at, letter, count)?,
        }
    }
    Ok(text)
}

/// How often a letter may stand in a row.
fn most_letters(letter: char) -> usize {
    match letter {
        'a' | 'F' | 'W' => 1,
        'd' | 'h' | 'H' | 'k' | 'K' | 'm' | 's' | 'w' => 2,
        'D' => 3,
        'c' | 'e' | 'E' | 'L' | 'M' | 'Q' | 'q' | 'G' => 5,
        'S' => 9,
        _ => 19,
    }
}

/// Whether Java takes the pattern: its letters are known, its quotes closed.
pub(crate) fn is_valid(pattern: &str) -> bool {
    const LETTERS: &str = "GuyDMLdQqYwWEecFaBhKkHmsSAnNVvzOXxZpg";
    let is_known = |part: &Part<'_>| match part {
        Part::Field(letter, _) => LETTERS.contains(*letter),
        Part::Text(_) => true,
    };
    date_pattern::parts(pattern).is_some_and(|parts| parts.iter().all(is_known))
}

/// The week that holds the date, and its year, where weeks begin on Sunday and the first is that of 1 January.
fn sunday_week(at: NaiveDateTime) -> (i32, u32) {
    let week = |date: NaiveDate| {
        let first = date.with_ordinal(1).map_or(0, |first| first.weekday().num_days_from_sunday());
        (date.ordinal0() + first) / 7 + 1
    };
    let days_left = 6 - i64::from(at.weekday().num_days_from_sunday());
    let saturday = at.date().checked_add_signed(chrono::Duration::days(days_left)).unwrap_or(at.date());
    if saturday.year() == at.year() { (at.year(), week(at.date())) } else { (saturday.year(), 1) }
}

fn format_field(text: &mut String, at: NaiveDateTime, letter: char, count: usize) -> Result<(), EvalError> {
    let name = |names: &[&'static str], index: u32, width: usize| {
        let name = names.get(index as usize).copied().unwrap_or("");
        match width {
            5.. => name.get(..1).unwrap_or(name),
            4 => name,
            _ => name.get(..3).unwrap_or(name),
        }
    };
    let number = match letter {
        'y' | 'u' | 'Y' => {
            let year = if letter == 'Y' { sunday_week(at).0 } else { at.year() };
            if count == 2 {
                let _ = write!(text, "{:02}", year.rem_euclid(100));
            } else {
                let _ = write!(text, "{year:0count$}");
            }
            return Ok(());
        }
        'M' | 'L' if count >= 3 => {
            text.push_str(name(&MONTHS, at.month0(), count));
            return Ok(());
        }
        'E' | 'e' | 'c' if letter == 'E' || count >= 3 => {
            text.push_str(name(&WEEKDAYS, at.weekday().num_days_from_monday(), count));
            return Ok(());
        }
        'G' => {
            text.push_str(match count {
                4 => "Anno Domini",
                5 => "A",
                _ => "AD",
            });
            return Ok(());
        }
        'Q' | 'q' if count >= 3 => {
            let quarter = at.month0() / 3 + 1;
            let _ = match (count, quarter) {
                (3, _) => write!(text, "Q{quarter}"),
                (4, 1) => write!(text, "1st quarter"),
                (4, 2) => write!(text, "2nd quarter"),
                (4, 3) => write!(text, "3rd quarter"),
                (4, _) => write!(text, "4th quarter"),
                _ => write!(text, "{quarter}"),
            };
            return Ok(());
        }
        'N' => {
            let nanos = u64::from(at.num_seconds_from_midnight()) * 1_000_000_000
                + u64::from(at.nanosecond() % 1_000_000_000);
            let _ = write!(text, "{nanos:0count$}");
            return Ok(());
        }
        'a' => {
            text.push_str(if at.hour() < 12 { "AM" } else { "PM" });
            return Ok(());
        }
        'S' => {
            let nanos = format!("{:09}", at.nanosecond() % 1_000_000_000);
            text.push_str(nanos.get(..count.min(9)).unwrap_or(&nanos));
            return Ok(());
        }
        'M' | 'L' => at.month(),
        'd' => at.day(),
        'D' => at.ordinal(),
        'H' => at.hour(),
        'h' => (at.hour() + 11) % 12 + 1,
        'k' => (at.hour() + 23) % 24 + 1,
        'K' => at.hour() % 12,
        'm' => at.minute(),
        's' => at.second(),
        'n' => at.nanosecond(),
        'Q' | 'q' => at.month0() / 3 + 1,
        'w' => sunday_week(at).1,
        'W' => (at.day0() + at.with_day(1).map_or(0, |first| first.weekday().num_days_from_sunday())) / 7 + 1,
        'A' => at.num_seconds_from_midnight() * 1000 + at.nanosecond() % 1_000_000_000 / 1_000_000,
        'e' | 'c' => at.weekday().number_from_sunday(),
        'F' => at.day0() % 7 + 1,
        _ => return Err(EvalError::new(format!("date pattern letter '{letter}' is not known"))),
    };
    let _ = write!(text, "{number:0count$}");
    Ok(())
}

/// Takes up to `most` digits from the front.
fn take_digits<'a>(rest: &mut &'a str, most: usize) -> Option<&'a str> {
    let count = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let (digits, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    (count > 0).then_some(digits)
}

/// Parses a text by a Java pattern; what the pattern does not have is 1970-01-01T00:00. `None` when it does not fit.
pub(crate) fn parse(text: &str, pattern: &str) -> Option<NaiveDateTime> {
    let (mut year, mut month, mut day) = (1970, 1, 1);
    let (mut hour, mut minute, mut second, mut nanos) = (0, 0, 0, 0);
    let (mut afternoon, mut half_day, mut day_of_year) = (None, false, None);
    let parts = date_pattern::parts(pattern)?;
    let mut rest = text;
    for (at, part) in parts.iter().enumerate() {
        let (letter, count) = match part {
            Part::Text(other) => {
                rest = rest.strip_prefix(other)?;
                continue;
            }
            Part::Field(letter, count) => (*letter, *count),
        };
        // Fields that touch each other have exactly their width.
        let adjacent = matches!(parts.get(at + 1), Some(Part::Field(..)));
        let width = if adjacent || count >= 2 { count } else { 19 };
        let name = |names: &[&str], rest: &mut &str| {
            names.iter().position(|name| {
                let name = if count >= 4 { name } else { name.get(..3).unwrap_or(name) };
                let found = rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
                if found {
                    *rest = rest.get(name.len()..).unwrap_or("");
                }
                found
            })
        };
        match letter {
            'y' | 'u' => {
                let digits = take_digits(&mut rest, if adjacent { count } else { count.max(4) })?;
                year = digits.parse().ok()?;
                if count == 2 && digits.len() == 2 {
                    year += 2000;
                }
            }
            'M' | 'L' if count >= 3 => month = u32::try_from(name(&MONTHS, &mut rest)?).ok()? + 1,
            'E' => {
                name(&WEEKDAYS, &mut rest)?;
            }
            // the year of weeks says nothing without a week
            'Y' => {
                take_digits(&mut rest, if adjacent { count } else { count.max(4) })?;
            }
            'a' => {
                let (half, tail) = rest.split_at_checked(2)?;
                afternoon = Some(half.eq_ignore_ascii_case("PM"));
                rest = tail;
            }
            'S' => {
                let digits = take_digits(&mut rest, count)?;
                nanos = format!("{digits:0<9}").parse().ok()?;
            }
            'G' => rest = ["AD", "BC"].iter().find_map(|era| rest.strip_prefix(era))?,
            // a zone is read and counts for nothing
            'z' | 'V' => {
                let of_zone = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '+' | '-' | ':');
                let end = rest.find(|c| !of_zone(c)).unwrap_or(rest.len());
                rest = rest.get(end..).filter(|_| end > 0)?;
            }
            // an offset is read and counts for nothing
            'X' | 'x' | 'Z' => {
                if letter == 'X' && rest.starts_with('Z') {
                    rest = rest.get(1..)?;
                } else {
                    rest = rest.strip_prefix(['+', '-'])?;
                    take_digits(&mut rest, 2)?;
                    rest = rest.strip_prefix(':').unwrap_or(rest);
                    take_digits(&mut rest, 2);
                }
            }
            _ => {
                let number: u32 = take_digits(&mut rest, width)?.parse().ok()?;
                match letter {
                    'M' | 'L' => month = number,
                    'd' => day = number,
                    'D' => day_of_year = Some(number),
                    'H' => hour = number,
                    'k' => hour = Some(number).filter(|hour| (1..=24).contains(hour))? % 24,
                    'h' => (hour, half_day) = (Some(number).filter(|hour| (1..=12).contains(hour))?, true),
                    'K' => (hour, half_day) = (Some(number).filter(|hour| *hour < 12)?, true),
                    'm' => minute = number,
                    's' => second = number,
                    _ => return None,
                }
            }
        }
    }
    if !rest.is_empty() {
        return None;
    }
    match afternoon {
        Some(afternoon) => hour = hour % 12 + if afternoon { 12 } else { 0 },
        // an hour of half a day is none
        None if half_day => hour = 0,
        None => {}
    }
    let date = match day_of_year {
        Some(day) => NaiveDate::from_yo_opt(year, day)?,
        None => smart_date(year, month, day)?,
    };
    if (hour, minute, second, nanos) == (24, 0, 0, 0) {
        return date.succ_opt().map(NaiveDateTime::from);
    }
    Some(NaiveDateTime::new(date, NaiveTime::from_hms_nano_opt(hour, minute, second, nanos)?))
}

/// The date, or the last of the month where the month is shorter (Java's `ResolverStyle.SMART`).
fn smart_date(year: i32, month: u32, day: u32) -> Option<NaiveDate> {
    let back = if (29..=31).contains(&day) { 3 } else { 0 };
    (0..=back).find_map(|less| NaiveDate::from_ymd_opt(year, month, day - less))
}

/// A text as `java.sql.Timestamp` and `java.sql.Date` take it, `yyyy-M-d[ H:m:s[.fraction]]`: fields beyond their
/// range carry over. Flink reads so what does not fit a pattern.
pub(crate) fn parse_jdbc(text: &str) -> Option<Instant> {
    let text = text.trim();
    let (date, clock) = text.split_once(' ').map_or((text, None), |(date, clock)| (date, Some(clock)));
    let mut fields = date.split('-');
    let (year, month, day) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() || year.len() != 4 || month.len() > 2 || day.len() > 2 {
        return None;
    }
    let first = NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1)?;
    let day: i64 = day.parse().ok().filter(|day| (1..=31).contains(day))?;
    let start = (time::days(first) + day - 1) * time::DAY;
    let Some(clock) = clock else { return Some(Instant::from_millis(start)) };
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut fields = whole.split(':');
    let mut seconds = 0_i64;
    for _ in 0..3 {
        seconds = seconds * 60 + i64::from(fields.next()?.parse::<i32>().ok()?);
    }
    if fields.next().is_some() || fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Instant { millis: start + seconds * 1000 + i64::from(nanos / 1_000_000), nanos: nanos % 1_000_000 })
}

/// `yyyy[-M[-d]]`, without anything behind it, as a day number.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    // a time of day behind it is not looked at
    let text = text.trim();
    let mut parts = text.split_once(' ').map_or(text, |(date, _)| date).split('-');
    let number = |part: &str| -> Option<u32> {
        if part.bytes().all(|byte| byte.is_ascii_digit()) { part.parse().ok() } else { None }
    };
    let year = i32::try_from(number(parts.next()?)?).ok().filter(|year| *year <= 9999)?;
    let month = parts.next().map_or(Some(1), number)?;
    let day = parts.next().map_or(Some(1), number)?;
    if parts.next().is_some() {
        return None;
    }
    NaiveDate::from_ymd_opt(year, month, day).map(time::days)
}

/// `H:m[:s[.fraction]]` as milliseconds since midnight and nanoseconds.
pub(crate) fn parse_time(text: &str) -> Option<(i64, u32)> {
    let text = text.trim();
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':');
    let mut next = || parts.next().map(|part| part.parse::<u32>().ok().filter(|_| part.len() <= 2));
    let hour = next()??;
    let minute = next().unwrap_or(Some(0))?;
    let second = next().unwrap_or(Some(0))?;
    if next().is_some() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) || fraction.len() > 9 {
        return None;
    }
    let nanos: u32 = if fraction.is_empty() { 0 } else { format!("{fraction:0<9}").parse().ok()? };
    NaiveTime::from_hms_opt(hour, minute, second)?;
    let millis = i64::from(hour * 3600 + minute * 60 + second) * 1000 + i64::from(nanos / 1_000_000);
    Some((millis, nanos % 1_000_000))
}

/// `yyyy-MM-dd[ HH:mm:ss[.fraction]]`; no `T`, no zone, nothing left out of the date.
pub(crate) fn parse_timestamp(text: &str) -> Option<Instant> {
    let text = text.trim();
    let (date, clock) = text.split_once(' ').unwrap_or((text, ""));
    let mut fields = date.splitn(3, '-').map(|field| field.parse::<u32>().ok());
    let (year, month, day) = (fields.next()??, fields.next()??, fields.next()??);
    let year = i32::try_from(year).ok().filter(|year| (1..=9999).contains(year))?;
    let days = time::days(smart_date(year, month, day)?);
    let (millis, nanos) = match clock.trim_end_matches(['0', '.']) {
        _ if clock.is_empty() => (0, 0),
        "24:00:" | "24:" if clock.matches(':').count() == 2 => (time::DAY, 0),
        _ if clock.matches(':').count() < 2 => return None,
        _ => parse_time(clock)?,
    };
    Some(Instant { millis: days * time::DAY + millis, nanos })
}

/// Cuts to `precision` digits after the second's point.
pub(crate) fn cut(at: Instant, precision: u8) -> Instant {
    if precision >= 3 {
        let unit = 10_u32.pow(u32::from(9_u8.saturating_sub(precision.min(9))));
        return Instant { millis: at.millis, nanos: at.nanos / unit * unit };
    }
    let unit = 10_i64.pow(u32::from(3 - precision));
    Instant { millis: at.millis.div_euclid(unit) * unit, nanos: 0 }
}

/// `yyyy-MM-dd`.
pub(crate) fn date_text(text: &mut String, days: i64) {
    let date = time::date(days);
    let _ = write!(text, "{:04}-{:02}-{:02}", date.year(), date.month(), date.day());
}

/// `HH:mm:ss[.fraction]` with at least `digits` digits of fraction.
pub(crate) fn time_text(text: &mut String, millis: i64, nanos: u32, digits: usize) {
    let second = millis / 1000;
    let _ = write!(text, "{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    let fraction = format!("{:09}", millis % 1000 * 1_000_000 + i64::from(nanos));
    let shown = fraction.trim_end_matches('0').len().max(digits.min(9));
    if shown > 0 {
        text.push('.');
        text.push_str(fraction.get(..shown).unwrap_or(&fraction));
    }
}

/// As CAST to STRING writes a wall clock: `yyyy-MM-dd HH:mm:ss` and all digits of the precision.
pub(crate) fn timestamp_text(at: Instant, precision: u8) -> String {
    let mut text = String::with_capacity(26);
    date_text(&mut text, at.millis.div_euclid(time::DAY));
    text.push(' ');
    time_text(&mut text, at.millis.rem_euclid(time::DAY), at.nanos, usize::from(precision));
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn texts_of_dates_are_read_to_their_end() {
        assert_eq!(parse_date("1970-1-2"), Some(1));
        assert_eq!(parse_date("1970-01-02T03:04:05"), None);
        assert_eq!(parse_date("1970-02-30"), None);
        assert_eq!(parse_date("1970-01-02 10:00:00"), Some(1));
        assert_eq!(parse_timestamp("1970-01-01 24:00:00").map(|at| at.millis), Some(86_400_000));
        assert_eq!(parse_timestamp("1970-01-01 10:00"), None);
        assert_eq!(parse_date("1970-01-01-01"), None);
        assert_eq!(parse_date(""), None);
        assert_eq!(parse_timestamp("1970-01-01 00:00:01.5").map(|at| at.millis), Some(1500));
        assert_eq!(parse_timestamp("1970-01-01T00:00:01"), None);
    }

    #[test]
    fn patterns_go_both_ways() {
        for (pattern, text) in [
            ("yyyy-MM-dd HH:mm:ss.SSS", "2024-02-29 13:14:15.678"),
            ("EEE, d MMM yyyy h:mm a", "Thu, 29 Feb 2024 1:14 PM"),
            ("yyyyMMddHHmm", "202402291314"),
            ("dd/MM/yyyy'T'HH", "29/02/2024T13"),
        ] {
            let at = parse(text, pattern).unwrap();
            assert_eq!(format(at, pattern).unwrap(), text);
        }
        assert_eq!(parse("2024-02-30", "yyyy-MM-dd"), parse("2024-02-29", "yyyy-MM-dd"));
        assert_eq!(parse("2024-060", "yyyy-DDD"), parse("2024-02-29", "yyyy-MM-dd"));
        assert!(parse("13:04 PM", "hh:mm a").is_none());
        assert!(format(NaiveDateTime::default(), "HHH").is_err());
        assert_eq!(parse_jdbc("2024-02-30 23:60:00.5").map(|at| at.millis), Some(1_709_337_600_500));
        assert_eq!(parse_jdbc("24-02-03"), None);
        assert!(parse("2024-02-32", "yyyy-MM-dd").is_none());
        assert!(parse("2024-02-03x", "yyyy-MM-dd").is_none());
    }
}
