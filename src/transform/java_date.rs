//! `java.text.SimpleDateFormat` in UTC and English, as far as its patterns are for instants.

use chrono::{DateTime, Datelike, Duration, NaiveDate, NaiveDateTime, Timelike, Utc};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A pattern letter and how often it stands.
    Field(char, usize),
}

/// A pattern of `SimpleDateFormat`.
#[derive(Clone, Debug)]
pub(super) struct DateFormat {
    parts: Vec<Part>,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

fn index(n: u32) -> usize {
    usize::try_from(n).unwrap_or(0)
}

impl DateFormat {
    /// Reads a pattern.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut chars = pattern.chars().peekable();
        while let Some(c) = chars.next() {
            if c == '\'' {
                if chars.next_if_eq(&'\'').is_some() {
                    text.push('\'');
                    continue;
                }
                loop {
                    match chars.next() {
                        Some('\'') if chars.next_if_eq(&'\'').is_some() => text.push('\''),
                        Some('\'') => break,
                        Some(q) => text.push(q),
                        None => return Err("a SimpleDateFormat pattern whose quotes are closed".into()),
                    }
                }
            } else if !c.is_ascii_alphabetic() {
                text.push(c);
            } else if !"GyYMLwWDdFEuaHkKhmsSzZX".contains(c) {
                return Err(format!("a SimpleDateFormat pattern ('{c}' is no letter of one)"));
            } else {
                let mut count = 1;
                while chars.next_if_eq(&c).is_some() {
                    count += 1;
                }
                if c == 'X' && count > 3 {
                    return Err("a SimpleDateFormat pattern (at most three times X)".into());
                }
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Field(c, count));
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self { parts })
    }

    /// Milliseconds since 1970 as text; `None` outside of the calendar.
    pub(super) fn format(&self, ms: i64) -> Option<String> {
        let at = DateTime::<Utc>::from_timestamp_millis(ms)?.naive_utc();
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(letter, count) => field(&mut out, at, *letter, *count)?,
            }
        }
        Some(out)
    }

    /// Milliseconds since 1970 of a text that begins as the pattern says; what follows is not looked at.
    pub(super) fn parse(&self, text: &str) -> Option<i64> {
        let mut rest = text;
        let mut read = Read::default();
        for (i, part) in self.parts.iter().enumerate() {
            match part {
                Part::Text(literal) => rest = rest.strip_prefix(literal.as_str())?,
                Part::Field(letter, count) => {
                    // As in `yyyyMMdd`: with a field right behind it, one takes no more digits than it has letters.
                    let abuts = matches!(self.parts.get(i + 1), Some(Part::Field(..)));
                    let width = if abuts { Some(*count) } else { None };
                    rest = read.field(rest.trim_start_matches([' ', '\t']), *letter, *count, width)?;
                }
            }
        }
        read.millis()
    }
}

fn padded(out: &mut String, n: impl std::fmt::Display, width: usize) {
    out.push_str(&format!("{n:0width$}"));
}

fn field(out: &mut String, at: NaiveDateTime, letter: char, count: usize) -> Option<()> {
    let era_year = |year: i32| if year > 0 { year } else { 1 - year };
    let weekday = at.weekday().num_days_from_sunday();
    match letter {
        'G' => out.push_str(if at.year() > 0 { "AD" } else { "BC" }),
        'y' if count == 2 => padded(out, era_year(at.year()) % 100, 2),
        'y' => padded(out, era_year(at.year()), count),
        'Y' => {
            let year = week(at.date()).0;
            if count == 2 { padded(out, year % 100, 2) } else { padded(out, year, count) }
        }
        'M' | 'L' if count >= 3 => {
            let name = MONTHS.get(index(at.month0()))?;
            out.push_str(if count == 3 { name.get(..3)? } else { name });
        }
        'M' | 'L' => padded(out, at.month(), count),
        'w' => padded(out, week(at.date()).1, count),
        'W' => {
            let first = at.date().with_day(1)?.weekday().num_days_from_sunday();
            padded(out, (at.day0() + first) / 7 + 1, count);
        }
        'D' => padded(out, at.ordinal(), count),
        'd' => padded(out, at.day(), count),
        'F' => padded(out, at.day0() / 7 + 1, count),
        'E' => {
            let name = DAYS.get(index(weekday))?;
            out.push_str(if count < 4 { name.get(..3)? } else { name });
        }
        'u' => padded(out, at.weekday().number_from_monday(), count),
        'a' => out.push_str(if at.hour() < 12 { "AM" } else { "PM" }),
        'H' => padded(out, at.hour(), count),
        'k' => padded(out, if at.hour() == 0 { 24 } else { at.hour() }, count),
        'K' => padded(out, at.hour() % 12, count),
        'h' => padded(out, if at.hour().is_multiple_of(12) { 12 } else { at.hour() % 12 }, count),
        'm' => padded(out, at.minute(), count),
        's' => padded(out, at.second(), count),
        'S' => padded(out, at.and_utc().timestamp_subsec_millis(), count),
        'z' => out.push_str(if count < 4 { "UTC" } else { "Coordinated Universal Time" }),
        'Z' => out.push_str("+0000"),
        _ => out.push('Z'),
    }
    Some(())
}

/// Week year and week of a date: weeks begin on Sunday, the first is the one with January 1st.
fn week(date: NaiveDate) -> (i32, u32) {
    let first_day = |year: i32| {
        NaiveDate::from_ymd_opt(year, 1, 1)
            .map(|first| first - Duration::days(i64::from(first.weekday().num_days_from_sunday())))
    };
    let mut year = date.year();
    let mut start = first_day(year).unwrap_or(date);
    if let Some(next) = first_day(year + 1).filter(|next| date >= *next) {
        (year, start) = (year + 1, next);
    }
    let days = (date - start).num_days();
    (year, u32::try_from(days / 7).unwrap_or(0) + 1)
}

/// What a text said, lenient as Java is: fields may be beyond their range.
#[derive(Default)]
struct Read {
    year: Option<i64>,
    before_christ: bool,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    hour: i64,
    half_day_hour: Option<i64>,
    afternoon: bool,
    minute: i64,
    second: i64,
    milli: i64,
    /// Seconds east of UTC.
    offset: i64,
}

/// Digits, with a sign, of at most `width` characters.
fn number(text: &str, width: Option<usize>) -> Option<(i64, &str)> {
    let signed = text.strip_prefix('-');
    let digits = signed.unwrap_or(text);
    let mut len = digits.bytes().take_while(u8::is_ascii_digit).count();
    if let Some(width) = width {
        len = len.min(width);
    }
    let n: i64 = digits.get(..len).filter(|d| !d.is_empty())?.parse().ok()?;
    Some((if signed.is_some() { -n } else { n }, digits.get(len..)?))
}

/// The place of the name that the text begins with, whole or by its first three letters.
fn name<'t>(text: &'t str, names: &[&str]) -> Option<(usize, &'t str)> {
    let starts = |n: &str| text.get(..n.len()).is_some_and(|t| t.eq_ignore_ascii_case(n));
    names.iter().enumerate().find_map(|(i, n)| {
        let short = n.get(..3).unwrap_or(n);
        let len = if starts(n) { n.len() } else { short.len() };
        starts(short).then(|| text.get(len..).map(|rest| (i, rest))).flatten()
    })
}

/// An offset as `+hh:mm`, `+hhmm`, `+hh`, `Z`, `UTC` or `GMT`.
fn offset(text: &str) -> Option<(i64, &str)> {
    for zulu in ["UTC", "GMT", "Z"] {
        if let Some(rest) = text.strip_prefix(zulu) {
            return if rest.starts_with(['+', '-']) { offset(rest) } else { Some((0, rest)) };
        }
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let rest = text.strip_prefix(['+', '-'])?;
    let (hours, rest) = number(rest, Some(2))?;
    let rest_minutes = rest.strip_prefix(':').unwrap_or(rest);
    match number(rest_minutes, Some(2)) {
        Some((minutes, rest)) => Some((sign * (hours * 3600 + minutes * 60), rest)),
        None => Some((sign * hours * 3600, rest)),
    }
}

impl Read {
    fn field<'t>(
        &mut self,
        text: &'t str,
        letter: char,
        count: usize,
        width: Option<usize>,
    ) -> Option<&'t str> {
        match letter {
            'G' => {
                let (era, rest) = (text.get(..2)?, text.get(2..)?);
                self.before_christ = era.eq_ignore_ascii_case("BC");
                return (self.before_christ || era.eq_ignore_ascii_case("AD")).then_some(rest);
            }
            'M' | 'L' if count >= 3 => {
                let (month, rest) = name(text, &MONTHS)?;
                self.month = i64::try_from(month + 1).ok();
                return Some(rest);
            }
            'E' => return name(text, &DAYS).map(|(_, rest)| rest),
            'a' => {
                let (half, rest) = (text.get(..2)?, text.get(2..)?);
                self.afternoon = half.eq_ignore_ascii_case("PM");
                return (self.afternoon || half.eq_ignore_ascii_case("AM")).then_some(rest);
            }
            'z' | 'Z' | 'X' => {
                let (seconds, rest) = offset(text)?;
                self.offset = seconds;
                return Some(rest);
            }
            _ => {}
        }
        let before = text.len();
        let (n, rest) = number(text, width)?;
        let digits = before - rest.len();
        match letter {
            'y' | 'Y' if count <= 2 && digits == 2 && !text.starts_with('-') => {
                // two digits: from 80 years ago to 20 years ahead
                let now = i64::from(Utc::now().year());
                let mut year = now - now.rem_euclid(100) + n;
                if year > now + 20 {
                    year -= 100;
                } else if year <= now - 80 {
                    year += 100;
                }
                self.year = Some(year);
            }
            'y' | 'Y' => self.year = Some(n),
            'M' | 'L' => self.month = Some(n),
            'd' => self.day = Some(n),
            'D' => self.day_of_year = Some(n),
            'H' => self.hour = n,
            'k' => self.hour = if n == 24 { 0 } else { n },
            'K' => self.half_day_hour = Some(n),
            'h' => self.half_day_hour = Some(if n == 12 { 0 } else { n }),
            'm' => self.minute = n,
            's' => self.second = n,
            'S' => self.milli = n,
            _ => {}
        }
        Some(rest)
    }

    fn millis(&self) -> Option<i64> {
        let year = match self.year.unwrap_or(1970) {
            year if self.before_christ => 1 - year,
            year => year,
        };
        let months = match (self.month, self.day_of_year) {
            (None, Some(_)) => 0,
            (month, _) => month.unwrap_or(1) - 1,
        };
        let (year, month) = (year + months.div_euclid(12), months.rem_euclid(12) + 1);
        let first = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, u32::try_from(month).ok()?, 1)?;
        let days = match (self.day, self.day_of_year) {
            (None, Some(day)) => day - 1,
            (day, _) => day.unwrap_or(1) - 1,
        };
        let hours = match self.half_day_hour {
            Some(hour) => hour + if self.afternoon { 12 } else { 0 },
            None => self.hour,
        };
        let start = first.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis();
        let seconds = ((days * 24 + hours) * 60 + self.minute) * 60 + self.second - self.offset;
        start.checked_add(seconds.checked_mul(1000)?)?.checked_add(self.milli)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_as_java_writes_them() {
        let ms = 1_719_835_200_123;
        for (pattern, text) in [
            ("yyyyMMdd", "20240701"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "2024-07-01T12:00:00.123Z"),
            ("EEE, d MMM yy h:mm a z", "Mon, 1 Jul 24 12:00 PM UTC"),
            ("''D'' Z", "'183' +0000"),
        ] {
            assert_eq!(DateFormat::new(pattern).unwrap().format(ms).as_deref(), Some(text), "{pattern}");
        }
        assert!(DateFormat::new("bogus").is_err());
    }

    #[test]
    fn texts_as_java_reads_them() {
        for (pattern, text, ms) in [
            ("yyyy-MM-dd", "2024-07-01T12:00:00Z", Some(1_719_792_000_000)),
            ("yyyy-MM-dd'T'HH:mm:ssXXX", "2024-07-01T12:00:00+02:00", Some(1_719_828_000_000)),
            ("yyyyMMdd HHmmss", "20240701 120000", Some(1_719_835_200_000)),
            ("H", "25", Some(90_000_000)),
            ("dd.MM.yyyy", "2024-07-01", None),
        ] {
            assert_eq!(DateFormat::new(pattern).unwrap().parse(text), ms, "{pattern} {text}");
        }
    }
}
