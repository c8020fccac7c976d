//! Dates, times and timestamps: PostgreSQL's ISO text to Debezium's numbers and texts.

use crate::event::datum::{Datum, Inline};
use crate::java;

/// An instant or local date-time: seconds since 1970 and microseconds within the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instant {
    /// Seconds since 1970, may be negative.
    pub seconds: i64,
    /// 0 to 999,999.
    pub micros: u32,
}

/// A timestamp value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamp {
    /// `infinity`.
    Infinity,
    /// `-infinity`.
    NegativeInfinity,
    /// An instant.
    At(Instant),
}

/// pgjdbc's stand-ins for infinite timestamps, which Debezium passes on.
const INFINITY: Instant = Instant { seconds: 9_223_372_036_825, micros: 200_000 };
const NEGATIVE_INFINITY: Instant = Instant { seconds: -9_223_372_036_833, micros: 600_000 };

impl Timestamp {
    /// The instant that Debezium takes it for.
    pub fn instant(self) -> Instant {
        match self {
            Self::Infinity => INFINITY,
            Self::NegativeInfinity => NEGATIVE_INFINITY,
            Self::At(i) => i,
        }
    }
}

impl Instant {
    /// Milliseconds, rounded down.
    pub fn millis(self) -> i64 {
        self.seconds.saturating_mul(1000).wrapping_add(i64::from(self.micros / 1000))
    }

    /// Microseconds; seconds saturate and the rest wraps, as Java's `TimeUnit` and `+` do.
    pub fn micros(self) -> i64 {
        self.seconds.saturating_mul(1_000_000).wrapping_add(i64::from(self.micros))
    }

    /// Microseconds, where they fit.
    pub fn exact_micros(self) -> Option<i64> {
        self.seconds.checked_mul(1_000_000)?.checked_add(i64::from(self.micros))
    }

    /// Nanoseconds, where they fit; the whole second must fit too, as in Java.
    pub fn nanos(self) -> Option<i64> {
        self.seconds.checked_mul(1_000_000_000)?.checked_add(i64::from(self.micros) * 1000)
    }
}

/// Days since 1970 of a proleptic Gregorian date.
pub fn days(year: i64, month: u32, day: u32) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = i64::from((153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Days since 1970 of a date that `java.util.GregorianCalendar` reads: before 15 October 1582 by the Julian calendar.
fn hybrid_days(year: i64, month: u32, day: u32) -> i64 {
    if (year, month, day) >= (1582, 10, 15) {
        return days(year, month, day);
    }
    let (month, day) = (i64::from(month), i64::from(day));
    let early = i64::from(month <= 2);
    let (y, m) = (year + 4800 - early, month + 12 * early - 3);
    day + (153 * m + 2) / 5 + 365 * y + y.div_euclid(4) - 32_083 - 2_440_588
}

/// The proleptic Gregorian date of days since 1970: year, month, day.
pub fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = u32::try_from(doy - (153 * mp + 2) / 5 + 1).unwrap_or(1);
    let month = u32::try_from(if mp < 10 { mp + 3 } else { mp - 9 }).unwrap_or(1);
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

fn number(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    let mut n = 0i64;
    for b in text {
        if !b.is_ascii_digit() {
            return None;
        }
        n = n * 10 + i64::from(b - b'0');
    }
    Some(n)
}

/// `YYYY-MM-DD`; the year may be longer. Gives year (as written), month, day.
fn date_parts(text: &[u8]) -> Option<(i64, u32, u32)> {
    let len = text.len();
    if len < 8 || text[len - 3] != b'-' || text[len - 6] != b'-' {
        return None;
    }
    // the server's own end in 5874897
    let year = number(&text[..len - 6]).filter(|year| *year <= 9_999_999)?;
    let month = u32::try_from(number(&text[len - 5..len - 3])?).ok()?;
    let day = u32::try_from(number(&text[len - 2..])?).ok()?;
    (matches!(month, 1..=12) && matches!(day, 1..=31)).then_some((year, month, day))
}

fn without_era(text: &[u8]) -> (&[u8], bool) {
    match text.strip_suffix(b" BC") {
        Some(rest) => (rest, true),
        None => (text, false),
    }
}

/// Days since 1970 of a `date`. Debezium reads dates of snapshots and in arrays through `java.sql.Date`, which loses
/// the era and overflows infinity differently: `legacy` asks for that; `strict` for neither (infinite dates are then
/// `None`).
pub fn date(text: &[u8], legacy: bool, strict: bool) -> Option<i64> {
    match text {
        b"infinity" | b"-infinity" if strict => return None,
        b"infinity" if legacy => return Some(days(292_278_994, 8, 16)),
        b"-infinity" if legacy => return Some(days(292_269_055, 12, 2)),
        b"infinity" => return Some(-2_147_472_692),
        b"-infinity" => return Some(-2_147_472_691),
        _ => {}
    }
    let (text, bc) = without_era(text);
    let (year, month, day) = date_parts(text)?;
    let year = if bc && (!legacy || strict) { 1 - year } else { year };
    Some(days(year, month, day))
}

/// Microseconds of a `time`, up to 24:00:00.
pub fn time(text: &[u8]) -> Option<i64> {
    if text.len() < 8 || text[2] != b':' || text[5] != b':' {
        return None;
    }
    let hours = number(&text[..2])?;
    let minutes = number(&text[3..5])?;
    let seconds = number(&text[6..8])?;
    let micros = match &text[8..] {
        [] => 0,
        [b'.', digits @ ..] if digits.len() <= 6 => {
            let mut n = number(digits)?;
            for _ in digits.len()..6 {
                n *= 10;
            }
            n
        }
        _ => return None,
    };
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros)
}

/// Splits a zone offset (`+02`, `-05:30`, `+00:00:30`) off; gives the rest and the offset in seconds.
fn zone(text: &[u8]) -> Option<(&[u8], i64)> {
    let at = text.iter().rposition(|b| matches!(b, b'+' | b'-'))?;
    let (rest, zone) = text.split_at(at);
    let mut seconds = 0;
    for (part, unit) in zone[1..].split(|b| *b == b':').zip([3600, 60, 1]) {
        seconds += number(part).filter(|n| *n < 100)? * unit;
    }
    Some((rest, if zone[0] == b'-' { -seconds } else { seconds }))
}

/// A `timestamp` (taken as UTC), or with `zoned` a `timestamptz`.
pub fn timestamp(text: &[u8], zoned: bool) -> Option<Timestamp> {
    read_timestamp(text, zoned, days)
}

/// A `timestamp` in an array, which Debezium reads through `java.sql.Timestamp` and its calendar.
pub fn legacy_timestamp(text: &[u8]) -> Option<Timestamp> {
    read_timestamp(text, false, hybrid_days)
}

/// A `timestamptz` in an array: `java.sql.Timestamp` keeps the fields, but not the era.
pub fn legacy_timestamptz(text: &[u8]) -> Option<Timestamp> {
    let at = match timestamp(text, true)? {
        Timestamp::Infinity => return Some(Timestamp::Infinity),
        Timestamp::NegativeInfinity => {
            // its stand-in's fields, without the era
            return Some(Timestamp::At(Instant {
                seconds: days(292_269_055, 12, 2) * 86_400 + 82_800,
                micros: 0,
            }));
        }
        Timestamp::At(at) => at,
    };
    let (year, month, day) = civil(at.seconds.div_euclid(86_400));
    if year > 0 {
        return Some(Timestamp::At(at));
    }
    let seconds = days(1 - year, month, day) * 86_400 + at.seconds.rem_euclid(86_400);
    Some(Timestamp::At(Instant { seconds, ..at }))
}

fn read_timestamp(text: &[u8], zoned: bool, days: impl Fn(i64, u32, u32) -> i64) -> Option<Timestamp> {
    match text {
        b"infinity" => return Some(Timestamp::Infinity),
        b"-infinity" => return Some(Timestamp::NegativeInfinity),
        _ => {}
    }
    let (text, bc) = without_era(text);
    let space = memchr::memchr(b' ', text)?;
    let (date, clock) = (&text[..space], &text[space + 1..]);
    let (clock, offset) = if zoned { zone(clock)? } else { (clock, 0) };
    let (year, month, day) = date_parts(date)?;
    let year = if bc { 1 - year } else { year };
    let micros = time(clock)?;
    let seconds = days(year, month, day) * 86_400 + micros / 1_000_000 - offset;
    Some(Timestamp::At(Instant { seconds, micros: u32::try_from(micros % 1_000_000).ok()? }))
}

/// Microseconds of a `timetz`, moved to UTC within the day.
pub fn timetz(text: &[u8]) -> Option<i64> {
    let (clock, offset) = zone(text)?;
    Some((time(clock)? - offset * 1_000_000).rem_euclid(86_400_000_000))
}

fn two(out: &mut Inline, n: u32) {
    let n = u8::try_from(n % 100).unwrap_or(0);
    out.push(b'0' + n / 10);
    out.push(b'0' + n % 10);
}

fn push_date(out: &mut Inline, days: i64) {
    let (year, month, day) = civil(days);
    let magnitude = year.unsigned_abs();
    if year < 0 {
        out.push(b'-');
    } else if year > 9999 {
        out.push(b'+');
    }
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(magnitude).as_bytes();
    for _ in text.len()..4 {
        out.push(b'0');
    }
    out.extend_from_slice(text);
    out.push(b'-');
    two(out, month);
    out.push(b'-');
    two(out, day);
}

/// How many digits of a second are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fraction {
    /// As many as the value needs.
    Shortest,
    /// This many, 0 to 6.
    Fixed(u8),
}

fn push_time(out: &mut Inline, micros_of_day: i64, fraction: Fraction) {
    let seconds = u32::try_from(micros_of_day / 1_000_000).unwrap_or(0);
    let micros = u32::try_from(micros_of_day % 1_000_000).unwrap_or(0);
    two(out, seconds / 3600);
    out.push(b':');
    two(out, seconds / 60 % 60);
    out.push(b':');
    two(out, seconds % 60);
    let mut digits = [b'0'; 6];
    let mut rest = micros;
    for d in digits.iter_mut().rev() {
        *d = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    let len = match fraction {
        Fraction::Fixed(n) => usize::from(n.min(6)),
        Fraction::Shortest => digits.iter().rposition(|d| *d != b'0').map_or(0, |p| p + 1),
    };
    if len > 0 {
        out.push(b'.');
        out.extend_from_slice(&digits[..len]);
    }
}

/// `2024-02-29Z`.
pub fn iso_date(days: i64) -> Datum<'static> {
    let mut out = Inline::new();
    push_date(&mut out, days);
    out.push(b'Z');
    Datum::Text(out)
}

/// `12:34:56.789Z`; 24:00 becomes midnight.
pub fn iso_time(micros: i64) -> Datum<'static> {
    let mut out = Inline::new();
    push_time(&mut out, micros.rem_euclid(86_400_000_000), Fraction::Shortest);
    out.push(b'Z');
    Datum::Text(out)
}

/// `2024-02-29T12:34:56.789Z`.
pub fn iso_timestamp(at: Instant, fraction: Fraction) -> Datum<'static> {
    let mut out = Inline::new();
    push_date(&mut out, at.seconds.div_euclid(86_400));
    out.push(b'T');
    push_time(&mut out, at.seconds.rem_euclid(86_400) * 1_000_000 + i64::from(at.micros), fraction);
    out.push(b'Z');
    Datum::Text(out)
}

/// The parts of an `interval` in PostgreSQL's own text form.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Interval {
    /// Years.
    pub years: i64,
    /// Months.
    pub months: i64,
    /// Days.
    pub days: i64,
    /// Hours.
    pub hours: i64,
    /// Minutes.
    pub minutes: i64,
    /// Microseconds of the seconds.
    pub micros: i64,
}

/// `1 year 2 mons -3 days 04:05:06.789`.
pub fn interval(text: &[u8]) -> Option<Interval> {
    let text = std::str::from_utf8(text).ok()?;
    let mut out = Interval::default();
    let mut words = text.split_ascii_whitespace();
    while let Some(word) = words.next() {
        if word.contains(':') {
            let (negative, clock) = match word.as_bytes() {
                [b'-', rest @ ..] => (true, rest),
                [b'+', rest @ ..] => (false, rest),
                rest => (false, rest),
            };
            let sign = if negative { -1 } else { 1 };
            let mut parts = clock.split(|b| *b == b':');
            // Debezium holds the parts as 32-bit integers
            let hours = number(parts.next()?).filter(|h| i32::try_from(*h).is_ok())?;
            out.hours = sign * hours;
            let sexagesimal = |digits: &[u8]| number(digits).filter(|n| (0..=60).contains(n));
            out.minutes = sign * sexagesimal(parts.next()?)?;
            let seconds = parts.next().unwrap_or(b"0");
            let mut halves = seconds.splitn(2, |b| *b == b'.');
            let whole = sexagesimal(halves.next()?)?;
            let fraction = match halves.next() {
                None => 0,
                Some(digits) if digits.len() <= 6 => (digits.len()..6).fold(number(digits)?, |f, _| f * 10),
                Some(_) => return None,
            };
            out.micros = sign * (whole * 1_000_000 + fraction);
        } else {
            let n = i64::from(word.parse::<i32>().ok()?);
            match words.next()? {
                "year" | "years" => out.years = n,
                "mon" | "mons" => out.months = n,
                "day" | "days" => out.days = n,
                _ => return None,
            }
        }
    }
    Some(out)
}

impl Interval {
    /// Microseconds by the average month, in double arithmetic and cut to 64 bit as Java does.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "Java's own conversions: (double) and a saturating (long)"
    )]
    pub fn duration_micros(&self) -> i64 {
        let months = (self.years * 12 + self.months) as f64;
        let days = months * (365.25 / 12.0) + self.days as f64;
        let seconds = self.seconds();
        ((((days * 24.0 + self.hours as f64) * 60.0 + self.minutes as f64) * 60.0 + seconds) * 1_000_000.0)
            as i64
    }

    /// The same without the rounding of doubles, where it fits: the average month has 2,629,800 seconds.
    pub fn exact_micros(&self) -> Option<i64> {
        let months = i128::from(self.years) * 12 + i128::from(self.months);
        let hours = i128::from(self.days) * 24 + i128::from(self.hours);
        let seconds = months * 2_629_800 + hours * 3600 + i128::from(self.minutes) * 60;
        i64::try_from(seconds * 1_000_000 + i128::from(self.micros)).ok()
    }

    /// The seconds as pgjdbc adds them up, which does not always give the nearest double (1.235 is a bit less).
    #[expect(clippy::cast_precision_loss, reason = "seconds of a minute, microseconds of a second")]
    fn seconds(&self) -> f64 {
        (self.micros / 1_000_000) as f64 + (self.micros % 1_000_000) as f64 / 1_000_000.0
    }

    /// `P1Y2M3DT4H5M6.789S`, always with all six parts.
    pub fn iso(&self) -> Datum<'static> {
        let mut out = Inline::new();
        out.push(b'P');
        let mut buffer = itoa::Buffer::new();
        let parts = [
            (self.years, &b"Y"[..]),
            (self.months, b"M"),
            (self.days, b"DT"),
            (self.hours, b"H"),
            (self.minutes, b"M"),
        ];
        for (n, unit) in parts {
            out.extend_from_slice(buffer.format(n).as_bytes());
            out.extend_from_slice(unit);
        }
        if self.micros < 0 {
            out.push(b'-');
        }
        // the double's digits, cut after the ninth decimal
        let (digits, point) = java::float::of_f64(self.seconds());
        let whole = usize::try_from(point).unwrap_or(0);
        if whole == 0 {
            out.push(b'0');
        }
        out.extend((0..whole).map(|i| digits.get(i).copied().unwrap_or(b'0')));
        let zeros = usize::try_from(-point).unwrap_or(0);
        let fraction = std::iter::repeat_n(b'0', zeros).chain(digits.iter().skip(whole).copied());
        let fraction: Inline = fraction.take(9).collect();
        if let Some(last) = fraction.iter().rposition(|d| *d != b'0') {
            out.push(b'.');
            out.extend_from_slice(&fraction[..=last]);
        }
        out.push(b'S');
        Datum::Text(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_server_sends_is_no_time() {
        assert_eq!(timetz(b"00:00:00-8888888888888888"), None);
        assert_eq!(timestamp(b"2024-01-01 00:00:00+999999999999999999", true), None);
        assert_eq!(timestamp(b"999999999999999999-01-01 00:00:00", false), None);
        assert_eq!(date(b"999999999999999999-01-01", false, false), None);
        assert_eq!(timetz(b"00:00:00-15:59:59"), Some(57_599_000_000));
    }

    #[test]
    fn dates() {
        assert_eq!(date(b"2024-02-29", false, false), Some(19_782));
        assert_eq!(date(b"0044-03-15 BC", false, false), Some(-735_160));
        assert_eq!(date(b"0044-03-15 BC", true, false), Some(-703_383));
        assert_eq!(date(b"5874897-12-31", false, false), Some(2_145_042_905));
        for (text, wrapped) in [(&b"infinity"[..], -622_191_234), (b"-infinity", -625_821_272)] {
            let days = date(text, true, false).unwrap();
            assert_eq!(days as i32, wrapped);
        }
        assert_eq!(date(b"2024-02-2x", false, false), None);
        for d in [-2_147_472_692, -735_160, -1, 0, 19_782, 2_145_042_905] {
            let (y, m, dd) = civil(d);
            assert_eq!(days(y, m, dd), d);
        }
    }

    #[test]
    fn timestamps() {
        let Some(Timestamp::At(i)) = timestamp(b"2024-02-29 12:34:56.789+05:30", true) else { panic!() };
        assert_eq!(
            iso_timestamp(i, Fraction::Fixed(3)),
            Datum::Text(Inline::from_slice(b"2024-02-29T07:04:56.789Z"))
        );
        let Some(t) = timestamp(b"294276-12-31 23:59:59.999999", false) else { panic!() };
        assert_eq!(t.instant().micros(), -9_223_372_036_853_775_810);
        assert_eq!(t.instant().millis(), 9_224_318_015_999_999);
        assert_eq!(Timestamp::Infinity.instant().micros(), 9_223_372_036_825_200_000);
        assert_eq!(Timestamp::NegativeInfinity.instant().micros(), -9_223_372_036_832_400_000);
    }

    #[test]
    fn intervals() {
        let i = interval(b"-1 years -2 mons +3 days -04:05:06.789").unwrap();
        assert_eq!(i.duration_micros(), -36_572_706_789_000);
        assert_eq!(i.iso(), Datum::Text(Inline::from_slice(b"P-1Y-2M3DT-4H-5M-6.789S")));
        let odd = interval(b"00:00:01.235").unwrap();
        assert_eq!(odd.duration_micros(), 1_234_999);
        assert_eq!(odd.iso(), Datum::Text(Inline::from_slice(b"P0Y0M0DT0H0M1.234999999S")));
        let small = interval(b"-00:00:00.000001").unwrap();
        assert_eq!(small.iso(), Datum::Text(Inline::from_slice(b"P0Y0M0DT0H0M-0.000001S")));
        assert_eq!(interval(b"00:00:10").unwrap().iso(), Datum::Text(Inline::from_slice(b"P0Y0M0DT0H0M10S")));
        assert_eq!(interval(b"2562047788:00:54.775807"), None);
        for odd in ["00:00:9901773333200", "00:61:00", "00:00:00.0000001", "00", "00:", "1 day 00:00:x"] {
            assert_eq!(interval(odd.as_bytes()), None, "{odd}");
        }
        assert_eq!(interval(b"178000000 years").unwrap().duration_micros(), i64::MAX);
    }
}
