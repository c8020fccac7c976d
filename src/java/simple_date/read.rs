//! Texts by a pattern of `SimpleDateFormat`: what each letter takes, and how Java's lenient calendar makes an instant
//! of the fields.

use chrono::{Datelike, Duration, NaiveDate, Utc};

use super::super::date_pattern::{MONTHS, WEEKDAYS};
use super::{CUTOVER, Parsed, days, from_julian};

/// Fields that a text gave; where two of them say the same, the later one counts.
#[derive(Default)]
struct Fields {
    before_christ: bool,
    /// Whether the year had two digits.
    of_century: bool,
    year: Option<i64>,
    week_year: Option<i64>,
    /// Whether the year of weeks came last.
    by_weeks: bool,
    month: Option<i64>,
    day: Option<i64>,
    ordinal: Option<i64>,
    /// Whether the day of the year came last.
    by_ordinal: bool,
    week: Option<i64>,
    /// From Sunday, which is 1.
    weekday: Option<i64>,
    hour: Option<i64>,
    half_day_hour: Option<i64>,
    afternoon: Option<bool>,
    /// Whether the hour of half a day, or the half, came last.
    by_half: bool,
    minute: i64,
    second: i64,
    milli: i64,
    offset: Option<i64>,
}

pub(super) struct Read<'a> {
    text: &'a str,
    at: usize,
    fields: Fields,
}

impl<'a> Read<'a> {
    /// Begins at the front of a text.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, fields: Fields::default() }
    }

    /// Takes a text that stands for itself.
    pub(super) fn literal(&mut self, literal: &str) -> Option<()> {
        self.rest().strip_prefix(literal)?;
        self.at += literal.len();
        Some(())
    }

    /// What the fields say together.
    pub(super) fn resolve(&self) -> Option<Parsed> {
        self.fields.resolve()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// The place of the name that stands here, whole or by its first three letters.
    fn name(&mut self, names: &[&str]) -> Option<i64> {
        let rest = self.rest();
        let starts =
            |name: &str| rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        let (place, length) = names.iter().enumerate().find_map(|(place, name)| {
            let short = name.get(..3).unwrap_or(name);
            let fits = if starts(name) { name } else { short };
            starts(fits).then_some((place, fits.len()))
        })?;
        self.at += length;
        i64::try_from(place).ok()
    }

    fn digits(&mut self, most: usize) -> Option<&'a str> {
        let rest = self.rest();
        let count = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        self.at += count;
        rest.get(..count).filter(|digits| !digits.is_empty())
    }

    /// `hh[:]mm` behind a sign; `hours_only` where the pattern has one letter.
    fn offset(&mut self, colon: bool, one_digit: bool, hours_only: bool) -> Option<i64> {
        let sign = if self.rest().starts_with('-') { -1 } else { 1 };
        self.rest().strip_prefix(['+', '-'])?;
        self.at += 1;
        let hours = self.digits(2).filter(|digits| one_digit || digits.len() == 2)?;
        let hours: i64 = hours.parse().ok().filter(|hours| *hours < 24)?;
        let mut minutes = 0;
        if !hours_only {
            if colon {
                self.rest().strip_prefix(':')?;
                self.at += 1;
            }
            let digits = self.digits(2).filter(|digits| digits.len() == 2)?;
            minutes = digits.parse().ok().filter(|minutes| *minutes < 60)?;
        }
        Some(sign * (hours * 3600 + minutes * 60))
    }

    fn zone(&mut self, letter: char, count: usize) -> Option<i64> {
        let rest = self.rest();
        if letter == 'X' {
            if rest.starts_with('Z') {
                self.at += 1;
                return Some(0);
            }
            return self.offset(count == 3, false, count == 1);
        }
        if rest.starts_with(['+', '-']) {
            return self.offset(false, false, false);
        }
        if rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("GMT")) {
            self.at += 3;
            return if self.rest().starts_with(['+', '-']) {
                self.offset(true, true, false)
            } else {
                Some(0)
            };
        }
        let name = rest.get(..rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len()))?;
        self.at += name.len();
        let known = ZONES.iter().find(|(zone, _)| zone.eq_ignore_ascii_case(name));
        known.map(|(_, minutes)| minutes * 60)
    }

    /// Takes a field; one that another follows at once takes no more characters than it has letters.
    pub(super) fn field(&mut self, letter: char, count: usize, abuts: bool) -> Option<()> {
        let from = self.at;
        self.at += self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
        let fields = &mut self.fields;
        match letter {
            'G' => {
                let era = self.name(&["BC", "AD"])?;
                self.fields.before_christ = era == 0;
                return Some(());
            }
            'M' | 'L' if count >= 3 => {
                let month = self.name(&MONTHS)?;
                self.fields.month = Some(month + 1);
                return Some(());
            }
            'E' => {
                let day = self.name(&WEEKDAYS)?;
                self.fields.weekday = Some((day + 1) % 7 + 1);
                return Some(());
            }
            'a' => {
                let half = self.name(&["AM", "PM"])?;
                (self.fields.afternoon, self.fields.by_half) = (Some(half == 1), true);
                return Some(());
            }
            'z' | 'Z' | 'X' => {
                fields.offset = None;
                let offset = self.zone(letter, count)?;
                self.fields.offset = Some(offset);
                return Some(());
            }
            _ => {}
        }
        let start = self.at;
        let negative = self.rest().starts_with('-');
        self.at += usize::from(negative);
        // blanks and the sign are among the letters
        let most = if abuts { (from + count).checked_sub(self.at)? } else { usize::MAX };
        if abuts && from + count > self.text.len() {
            return None;
        }
        let digits = self.digits(most)?;
        let number = int_value(digits, negative);
        let two_digits = count <= 2 && digits.len() == 2 && self.at - start == 2;
        let fields = &mut self.fields;
        match letter {
            'y' | 'Y' => {
                fields.of_century = two_digits;
                let year = if two_digits { century(number) } else { number };
                if letter == 'y' {
                    (fields.year, fields.by_weeks) = (Some(year), false);
                } else {
                    (fields.week_year, fields.by_weeks) = (Some(year), true);
                }
            }
            'M' | 'L' => fields.month = Some(number),
            'd' => (fields.day, fields.by_ordinal) = (Some(number), false),
            'D' => (fields.ordinal, fields.by_ordinal) = (Some(number), true),
            'w' => fields.week = Some(number),
            'u' => fields.weekday = Some(number.rem_euclid(7) + 1),
            'H' => (fields.hour, fields.by_half) = (Some(number), false),
            'k' => (fields.hour, fields.by_half) = (Some(if number == 24 { 0 } else { number }), false),
            'K' => (fields.half_day_hour, fields.by_half) = (Some(number), true),
            'h' => {
                (fields.half_day_hour, fields.by_half) = (Some(if number == 12 { 0 } else { number }), true)
            }
            'm' => fields.minute = number,
            's' => fields.second = number,
            'S' => fields.milli = number,
            // weeks of the month are read, and outdone by the date
            _ => {}
        }
        Some(())
    }
}

/// Names of zones and their minutes east of UTC: those of Java's short display names that stand for one zone.
const ZONES: [(&str, i64); 28] = [
    ("UTC", 0),
    ("WET", 0),
    ("WEST", 60),
    ("BST", 60),
    ("CET", 60),
    ("CEST", 120),
    ("MET", 60),
    ("MEST", 120),
    ("EET", 120),
    ("EEST", 180),
    ("MSK", 180),
    ("IST", 330),
    ("HKT", 480),
    ("JST", 540),
    ("KST", 540),
    ("AEST", 600),
    ("AEDT", 660),
    ("NST", -210),
    ("AST", -240),
    ("ADT", -180),
    ("EST", -300),
    ("EDT", -240),
    ("CST", -360),
    ("CDT", -300),
    ("MST", -420),
    ("MDT", -360),
    ("PST", -480),
    ("PDT", -420),
];

/// As Java's `Number.intValue`: of a `long` the lower bits, of what is larger still the nearest.
fn int_value(digits: &str, negative: bool) -> i64 {
    let number = match (digits.parse::<i64>(), negative) {
        #[allow(clippy::cast_possible_truncation, reason = "the lower bits are what Java takes")]
        (Ok(number), _) => (if negative { -number } else { number }) as i32,
        (Err(_), true) => i32::MIN,
        (Err(_), false) => i32::MAX,
    };
    i64::from(number)
}

/// The year of two digits: from 80 years ago to 20 years ahead.
fn century(two: i64) -> i64 {
    let first = i64::from(Utc::now().year()) - 80;
    let year = first - first.rem_euclid(100) + two;
    if two < first.rem_euclid(100) { year + 100 } else { year }
}

impl Fields {
    fn resolve(&self) -> Option<Parsed> {
        let days = self.days()?;
        let hours = match (self.half_day_hour, self.afternoon) {
            // both parts of the half, or nothing else
            (Some(hour), Some(afternoon)) if self.by_half || self.hour.is_none() => {
                hour.checked_add(if afternoon { 12 } else { 0 })?
            }
            (hour, half) if self.hour.is_none() => {
                hour.unwrap_or(0).checked_add(if half == Some(true) { 12 } else { 0 })?
            }
            _ => self.hour.unwrap_or(0),
        };
        let seconds =
            (days.checked_mul(24)?.checked_add(hours)?.checked_mul(60)?.checked_add(self.minute)?)
                .checked_mul(60)?
                .checked_add(self.second)?;
        let since = Duration::try_seconds(seconds)?.checked_add(&Duration::try_milliseconds(self.milli)?)?;
        let wall = chrono::DateTime::UNIX_EPOCH.naive_utc().checked_add_signed(since)?;
        // of the year that two digits may mean twice, the days 80 years ago and before are those 20 years ahead
        let today = Utc::now().naive_utc();
        let first = today.with_year(today.year() - 80).unwrap_or(today);
        let again = self.of_century && wall.year() == first.year() && wall < first;
        let wall = if again { wall.with_year(wall.year() + 100)? } else { wall };
        Some(Parsed { wall, offset: self.offset })
    }

    /// Days since 1970.
    fn days(&self) -> Option<i64> {
        let of_era = |year: i64| if self.before_christ { 1 - year } else { year };
        if let Some(year) = self.week_year.filter(|_| self.by_weeks) {
            return self.of_week(of_era(year), self.weekday);
        }
        let year = of_era(self.year.unwrap_or(1970));
        match (self.ordinal, self.week) {
            (Some(ordinal), _) if self.by_ordinal => first_of(year, 1)?.checked_add(ordinal - 1),
            (_, Some(_)) if self.day.is_none() && self.month.is_none() => self.of_week(year, self.weekday),
            _ => {
                let months = self.month.unwrap_or(1).checked_sub(1)?;
                let year = year.checked_add(months.div_euclid(12))?;
                let (month, day) = (months.rem_euclid(12) + 1, self.day.unwrap_or(1));
                let gregorian = gregorian(year, month)?.checked_add(day.checked_sub(1)?)?;
                if gregorian >= CUTOVER {
                    return Some(gregorian);
                }
                from_julian(year, month, 1).checked_add(day.checked_sub(1)?)
            }
        }
    }

    /// The day of a week; without a weekday the first one, Sunday.
    fn of_week(&self, year: i64, weekday: Option<i64>) -> Option<i64> {
        let first = first_of(year, 1)?;
        // 1970 began on a Thursday
        let sunday = first - (first + 4).rem_euclid(7);
        let weeks = self.week.unwrap_or(1).checked_sub(1)?;
        sunday.checked_add(weeks.checked_mul(7)?)?.checked_add(weekday.unwrap_or(1).checked_sub(1)?)
    }
}

fn gregorian(year: i64, month: i64) -> Option<i64> {
    NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, u32::try_from(month).ok()?, 1).map(days)
}

/// The first of a month in the calendar that holds then.
fn first_of(year: i64, month: i64) -> Option<i64> {
    let first = gregorian(year, month)?;
    Some(if first >= CUTOVER { first } else { from_julian(year, month, 1) })
}
