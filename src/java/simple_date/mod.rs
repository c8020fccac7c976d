//! `java.text.SimpleDateFormat` with English names: lenient, weeks that begin on Sunday (the first of a year is that
//! of 1 January), and Java's calendar, Julian before 15 October 1582. Kafka Connect's transforms and some of Flink's
//! functions work with it.

use std::fmt::Write as _;

use chrono::{Datelike, NaiveDate, NaiveDateTime, Timelike, Utc};

use self::read::Read;
use super::date_pattern::{self, MONTHS, WEEKDAYS};

mod read;

/// Longest run of one letter that is written out in full; `write!` takes no wider fields than a `u16`.
const WIDEST: usize = 65_000;

/// The first day of the Gregorian calendar, in days since 1970.
const CUTOVER: i64 = -141_427;

/// Days from the first of the Julian day numbers to 1970.
const JULIAN_DAYS: i64 = 2_440_588;

#[derive(Clone, Debug)]
enum Part {
    Field(char, usize),
    Text(String),
}

/// A pattern of `SimpleDateFormat`.
#[derive(Clone, Debug)]
pub struct SimpleDateFormat {
    parts: Vec<Part>,
}

/// What a text said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The wall clock.
    pub wall: NaiveDateTime,
    /// Seconds east of UTC, where the text has a zone.
    pub offset: Option<i64>,
}

/// A day as Java's calendar calls it.
struct Day {
    date: NaiveDate,
    /// Of the common era, 0 is 1 BC.
    year: i32,
    month: u32,
    day: u32,
    /// From 1 on.
    ordinal: u32,
}

impl Day {
    fn new(date: NaiveDate) -> Self {
        let days = days(date);
        if days >= CUTOVER {
            let (year, month, day) = (date.year(), date.month(), date.day());
            // ten days of 1582 never were
            let ordinal = if year == 1582 { date.ordinal() - 10 } else { date.ordinal() };
            return Self { date, year, month, day, ordinal };
        }
        let (year, month, day) = julian(days);
        let ordinal = days - from_julian(year, 1, 1) + 1;
        let small = |n: i64| u32::try_from(n).unwrap_or(1);
        Self {
            date,
            year: i32::try_from(year).unwrap_or(date.year()),
            month: small(month),
            day: small(day),
            ordinal: small(ordinal),
        }
    }

    fn since_sunday(&self) -> u32 {
        self.date.weekday().num_days_from_sunday()
    }

    /// Week of the year and the year that it counts to.
    fn week(&self) -> (i32, u32) {
        // the weekday of 1 January, from Sunday
        let first = (self.since_sunday() + 371 - (self.ordinal - 1) % 7) % 7;
        let leap =
            if days(self.date) >= CUTOVER { self.date.leap_year() } else { self.year.rem_euclid(4) == 0 };
        let days_left = (if leap { 366_u32 } else { 365 }).saturating_sub(self.ordinal);
        if days_left < 6 - self.since_sunday() {
            return (self.year + 1, 1);
        }
        (self.year, (self.ordinal - 1 + first) / 7 + 1)
    }
}

fn days(date: NaiveDate) -> i64 {
    date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp().div_euclid(86_400)
}

/// Year (0 is 1 BC), month and day of the Julian calendar, of days since 1970.
fn julian(days: i64) -> (i64, i64, i64) {
    let c = days + JULIAN_DAYS + 32_082;
    let d = (4 * c + 3).div_euclid(1461);
    let e = c - (1461 * d).div_euclid(4);
    let m = (5 * e + 2) / 153;
    (d - 4800 + m / 10, m + 3 - 12 * (m / 10), e - (153 * m + 2) / 5 + 1)
}

/// Days since 1970 of a date of the Julian calendar.
fn from_julian(year: i64, month: i64, day: i64) -> i64 {
    let a = (14 - month) / 12;
    let y = year + 4800 - a;
    day + (153 * (month + 12 * a - 3) + 2) / 5 + 365 * y + y.div_euclid(4) - 32_083 - JULIAN_DAYS
}

impl SimpleDateFormat {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Java's words on a pattern that it does not take.
    pub fn new(pattern: &str) -> Result<Self, String> {
        let parts = date_pattern::parts(pattern).ok_or("Unterminated quote")?;
        let own = |part: &date_pattern::Part<'_>| match *part {
            date_pattern::Part::Text(text) => Ok(Part::Text(text.to_owned())),
            date_pattern::Part::Field(letter, _) if !"GyYMLwWDdFEuaHkKhmsSzZX".contains(letter) => {
                Err(format!("Illegal pattern character '{letter}'"))
            }
            date_pattern::Part::Field('X', count) if count > 3 => {
                Err(format!("invalid ISO 8601 format: length={count}"))
            }
            date_pattern::Part::Field(letter, count) => Ok(Part::Field(letter, count)),
        };
        Ok(Self { parts: parts.iter().map(own).collect::<Result<_, String>>()? })
    }

    /// Whether nothing stands in the pattern.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Writes a wall clock that is `offset` seconds east of UTC; `zone` names the zone, in short or in full.
    pub fn format(&self, at: NaiveDateTime, offset: i64, zone: impl Fn(bool) -> String) -> String {
        let day = Day::new(at.date());
        let mut out = String::with_capacity(32);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field('z', count) => out.push_str(&zone(*count >= 4)),
                Part::Field('Z' | 'X', _) => write_offset(&mut out, part, offset / 60),
                Part::Field(letter, count) => field(&mut out, at, &day, *letter, *count),
            }
        }
        out
    }

    /// Writes an instant, in milliseconds since 1970, as UTC has it; `None` outside of the calendar.
    pub fn format_utc(&self, millis: i64) -> Option<String> {
        let at = chrono::DateTime::<Utc>::from_timestamp_millis(millis)?.naive_utc();
        let name = |full: bool| if full { "Coordinated Universal Time" } else { "UTC" }.to_owned();
        Some(self.format(at, 0, name))
    }

    /// Reads a text that begins as the pattern says; what follows is not looked at, and fields beyond their range
    /// carry over. `None` when the text does not fit.
    pub fn parse(&self, text: &str) -> Option<Parsed> {
        let mut read = Read::new(text);
        for (i, part) in self.parts.iter().enumerate() {
            match part {
                Part::Text(literal) => read.literal(literal)?,
                Part::Field(letter, count) => {
                    // As in `yyyyMMdd`: with a field right behind it, one takes no more than it has letters.
                    let abuts = matches!(self.parts.get(i + 1), Some(Part::Field(..)));
                    read.field(*letter, *count, abuts)?;
                }
            }
        }
        read.resolve()
    }

    /// As [`SimpleDateFormat::parse`], in milliseconds since 1970, where UTC holds unless the text has an offset.
    pub fn parse_utc(&self, text: &str) -> Option<i64> {
        let read = self.parse(text)?;
        read.wall.and_utc().timestamp_millis().checked_sub(read.offset.unwrap_or(0).checked_mul(1000)?)
    }
}

fn padded(out: &mut String, number: impl std::fmt::Display, width: usize) {
    let _ = write!(out, "{number:0width$}", width = width.min(WIDEST));
}

fn write_offset(out: &mut String, part: &Part, minutes: i64) {
    let (sign, hours, rest) = (if minutes < 0 { '-' } else { '+' }, minutes.abs() / 60, minutes.abs() % 60);
    let _ = match part {
        Part::Field('X', _) if minutes == 0 => write!(out, "Z"),
        Part::Field('X', 1) => write!(out, "{sign}{hours:02}"),
        Part::Field('X', 3) => write!(out, "{sign}{hours:02}:{rest:02}"),
        _ => write!(out, "{sign}{hours:02}{rest:02}"),
    };
}

fn field(out: &mut String, at: NaiveDateTime, day: &Day, letter: char, count: usize) {
    let name = |names: &[&'static str], index: u32| {
        let name = usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or("");
        if count >= 4 { name } else { name.get(..3).unwrap_or(name) }
    };
    let number = match letter {
        'G' => return out.push_str(if day.year > 0 { "AD" } else { "BC" }),
        'a' => return out.push_str(if at.hour() < 12 { "AM" } else { "PM" }),
        'E' => return out.push_str(name(&WEEKDAYS, at.weekday().num_days_from_monday())),
        'M' | 'L' if count >= 3 => return out.push_str(name(&MONTHS, day.month - 1)),
        'y' | 'Y' => {
            let year = if letter == 'Y' { day.week().0 } else { day.year };
            let of_era = if year > 0 { year } else { 1 - year };
            return if count == 2 { padded(out, of_era % 100, 2) } else { padded(out, of_era, count) };
        }
        'M' | 'L' => day.month,
        'd' => day.day,
        'D' => day.ordinal,
        'F' => (day.day - 1) / 7 + 1,
        'u' => at.weekday().number_from_monday(),
        'H' => at.hour(),
        'k' => (at.hour() + 23) % 24 + 1,
        'K' => at.hour() % 12,
        'h' => (at.hour() + 11) % 12 + 1,
        'm' => at.minute(),
        's' => at.second(),
        'S' => at.nanosecond() % 1_000_000_000 / 1_000_000,
        'w' => day.week().1,
        // 'W': the week of the month
        _ => (day.day - 1 + (day.since_sunday() + 371 - (day.day - 1) % 7) % 7) / 7 + 1,
    };
    padded(out, number, count);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(pattern: &str) -> SimpleDateFormat {
        SimpleDateFormat::new(pattern).unwrap()
    }

    fn read(text: &str, pattern: &str) -> Option<(String, Option<i64>)> {
        format(pattern).parse(text).map(|read| (read.wall.to_string(), read.offset))
    }

    fn at(text: &str) -> Option<(String, Option<i64>)> {
        Some((text.to_owned(), None))
    }

    #[test]
    fn instants_as_java_writes_them() {
        let ms = 1_719_835_200_123;
        for (pattern, text) in [
            ("yyyyMMdd", "20240701"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "2024-07-01T12:00:00.123Z"),
            ("EEE, d MMM yy h:mm a z", "Mon, 1 Jul 24 12:00 PM UTC"),
            ("''D'' Z zzzz", "'183' +0000 Coordinated Universal Time"),
            ("EEEE 'o''clock' k K u F W w Y", "Monday o'clock 12 0 1 1 1 27 2024"),
        ] {
            assert_eq!(format(pattern).format_utc(ms).as_deref(), Some(text), "{pattern}");
        }
        for (pattern, words) in [
            ("bogus", "Illegal pattern character 'b'"),
            ("'yyyy", "Unterminated quote"),
            ("XXXX", "invalid ISO 8601 format: length=4"),
        ] {
            assert_eq!(SimpleDateFormat::new(pattern).map(|_| ()), Err(words.to_owned()));
        }
        let east = format("XXX X Z").format(NaiveDateTime::default(), 19_800, |_| String::new());
        assert_eq!(east, "+05:30 +05 +0530");
    }

    #[test]
    fn the_julian_calendar_before_1582() {
        let date = format("yyyy-MM-dd");
        // 15 October 1582 follows 4 October
        assert_eq!(date.format_utc(CUTOVER * 86_400_000).as_deref(), Some("1582-10-15"));
        assert_eq!(
            format("yyyy-MM-dd G D").format_utc((CUTOVER - 1) * 86_400_000).as_deref(),
            Some("1582-10-04 AD 277")
        );
        for text in ["1582-10-04", "1582-10-15", "1000-02-29", "0001-01-01", "1969-12-31", "9999-12-31"] {
            assert_eq!(date.format_utc(date.parse_utc(text).unwrap()).as_deref(), Some(text));
        }
        assert_eq!(date.parse_utc("0001-01-01"), Some(-62_135_769_600_000));
        assert_eq!(
            format("yyyy G").format_utc(date.parse_utc("0001-01-01").unwrap() - 1).as_deref(),
            Some("0001 BC")
        );
    }

    #[test]
    fn texts_as_java_reads_them() {
        for (pattern, text, ms) in [
            ("yyyy-MM-dd", "2024-07-01T12:00:00Z", Some(1_719_792_000_000)),
            ("yyyy-MM-dd'T'HH:mm:ssXXX", "2024-07-01T12:00:00+02:00", Some(1_719_828_000_000)),
            ("yyyyMMdd HHmmss", "20240701 120000", Some(1_719_835_200_000)),
            ("H", "25", Some(90_000_000)),
            ("dd.MM.yyyy", "2024-07-01", None),
            ("yyyyMMdd", "20240", None),
            ("yyyyMMdd", "2024071", Some(1_719_792_000_000)),
        ] {
            assert_eq!(format(pattern).parse_utc(text), ms, "{pattern} {text}");
        }
    }

    #[test]
    fn fields_beyond_their_range_and_fields_that_say_the_same() {
        assert_eq!(
            read("1970-13-01 00:00:61 +0100x", "yyyy-MM-dd HH:mm:ss Z"),
            Some(("1971-01-01 00:01:01".to_owned(), Some(3600)))
        );
        assert_eq!(
            read("1970-01-01 CET", "yyyy-MM-dd z"),
            Some(("1970-01-01 00:00:00".to_owned(), Some(3600)))
        );
        assert_eq!(read("2024-060", "yyyy-DDD"), at("2024-02-29 00:00:00"));
        assert_eq!(read("13:04 PM", "hh:mm a"), at("1970-01-02 01:04:00"));
        // an hour of the whole day is not moved by the half
        assert_eq!(read("03:04 PM", "HH:mm a"), at("1970-01-01 03:04:00"));
        assert_eq!(read("1704164645", "s"), at("2024-01-02 03:04:05"));
        assert_eq!(read("2024-05-06", "YYYY-MM-dd"), at("2023-12-31 00:00:00"));
        assert_eq!(read("2024 10", "yyyy w"), at("2024-03-03 00:00:00"));
        assert_eq!(read("69", "yy"), at("1969-01-01 00:00:00"));
        assert_eq!(read("99999999999", "S"), at("1970-01-15 01:42:32.191"));
        assert_eq!(read("1970-01-01 Europe/Rome", "yyyy-MM-dd z"), None);
        assert_eq!(read("+01:00", "Z"), None);
        assert_eq!(read("GMT+1:30", "z"), Some(("1970-01-01 00:00:00".to_owned(), Some(5400))));
    }

    #[test]
    fn no_pattern_and_no_date_panics() {
        let last = NaiveDate::MAX.and_time(chrono::NaiveTime::MIN);
        let first = NaiveDate::MIN.and_time(chrono::NaiveTime::MIN);
        for letter in "GyYMLwWDdFEuaHkKhmsSzZX".chars() {
            let many = String::from(letter).repeat(70_000);
            for pattern in [many, letter.to_string()].iter().filter_map(|p| SimpleDateFormat::new(p).ok()) {
                for end in [last, first] {
                    let _ = pattern.format(end, -3600, |_| String::new());
                }
                for text in ["", "-", "99999999999999999999", "-9999999999999999999", "é", "+é", "GMT-", " "]
                {
                    let _ = pattern.parse(text);
                }
            }
        }
        for text in ["2147483647-2147483647-2147483647", "-2147483647-1-1"] {
            let _ = read(text, "yyyy-MM-dd");
            let _ = read(text, "YYYY-ww-u");
        }
    }
}
