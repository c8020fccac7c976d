//! Dates, times, timestamps, zones: calendar arithmetic and the functions on them.

use chrono::{Datelike, Days, Months, NaiveDate, NaiveDateTime, Timelike};

use super::super::context::Context;
use super::super::error::EvalError;
use super::super::eval::Width;
use super::super::row::{Instant, Value};
use super::super::types::TypeKind;
use super::super::zone::Zone;
use super::{Call, Scalar, pattern, simple_date};

/// Milliseconds of a day.
pub(crate) const DAY: i64 = 86_400_000;

pub(super) fn lookup(name: &str) -> Option<(Scalar, bool)> {
    Some(match name {
        "EXTRACT" => (extract, true),
        "TIMESTAMPDIFF" => (timestamp_diff, true),
        "TIMESTAMPADD" => (timestamp_add, true),
        "DATE_FORMAT" => (date_format, true),
        "TO_TIMESTAMP" => (to_timestamp, true),
        "TO_TIMESTAMP_LTZ" => (to_timestamp_ltz, true),
        "TO_DATE" => (to_date, true),
        "UNIX_TIMESTAMP" => (unix_timestamp, true),
        "FROM_UNIXTIME" => (from_unixtime, true),
        "CONVERT_TZ" => (convert_tz, true),
        "OVERLAPS" => (overlaps, true),
        "CURRENT_TIMESTAMP" | "NOW" | "CURRENT_ROW_TIMESTAMP" | "PROCTIME" => (current_timestamp, true),
        "CURRENT_WATERMARK" => (current_watermark, false),
        "LOCALTIMESTAMP" => (local_timestamp, true),
        "CURRENT_DATE" => (current_date, true),
        "CURRENT_TIME" | "LOCALTIME" => (current_time, true),
        _ => return None,
    })
}

/// Date of a day number since 1970.
pub(crate) fn date(days: i64) -> NaiveDate {
    let base = NaiveDate::default();
    let shifted = if days >= 0 {
        base.checked_add_days(Days::new(days.unsigned_abs()))
    } else {
        base.checked_sub_days(Days::new(days.unsigned_abs()))
    };
    shifted.unwrap_or(base)
}

/// Day number since 1970.
pub(crate) fn days(date: NaiveDate) -> i64 {
    date.signed_duration_since(NaiveDate::default()).num_days()
}

/// Wall clock of milliseconds and nanoseconds.
pub(crate) fn datetime(at: Instant) -> NaiveDateTime {
    chrono::DateTime::from_timestamp_millis(at.millis).map_or_else(NaiveDateTime::default, |time| {
        time.naive_utc() + chrono::Duration::nanoseconds(i64::from(at.nanos))
    })
}

/// Milliseconds and nanoseconds of a wall clock.
pub(crate) fn instant(at: NaiveDateTime) -> Instant {
    Instant { millis: at.and_utc().timestamp_millis(), nanos: at.nanosecond() % 1_000_000 }
}

/// A day number as DATE value.
pub(crate) fn date_value(days: i64) -> Value {
    i32::try_from(days).map_or(Value::Null, Value::Date)
}

/// Milliseconds of a day as TIME value.
pub(crate) fn time_value(millis: i64) -> Value {
    i32::try_from(millis.rem_euclid(DAY)).map_or(Value::Null, Value::Time)
}

fn add_months(date: NaiveDate, months: i64) -> NaiveDate {
    let count = Months::new(u32::try_from(months.unsigned_abs()).unwrap_or(u32::MAX));
    let shifted = if months >= 0 { date.checked_add_months(count) } else { date.checked_sub_months(count) };
    shifted.unwrap_or(date)
}

/// Adds an interval of months, or of milliseconds.
pub(crate) fn plus(value: &Value, interval: i64, months: bool) -> Result<Value, EvalError> {
    let shift = |millis: i64| {
        if months {
            days(add_months(date(millis.div_euclid(DAY)), interval)) * DAY + millis.rem_euclid(DAY)
        } else {
            millis.wrapping_add(interval)
        }
    };
    Ok(match value {
        // of a shorter interval the whole days count, in either direction
        Value::Date(day) if !months => date_value(i64::from(*day).saturating_add(interval / DAY)),
        Value::Date(day) => date_value(shift(i64::from(*day) * DAY).div_euclid(DAY)),
        Value::Time(millis) => {
            time_value(if months { i64::from(*millis) } else { i64::from(*millis) + interval })
        }
        Value::Timestamp(at) => Value::Timestamp(Instant { millis: shift(at.millis), nanos: at.nanos }),
        // Flink shifts the instant itself; months by the UTC calendar, whatever the session's zone
        Value::TimestampLtz(at) => Value::TimestampLtz(Instant { millis: shift(at.millis), nanos: at.nanos }),
        _ => return Err(EvalError::new("an interval is added to a date, time or timestamp")),
    })
}

/// Whole months from `from` to `to` (both milliseconds); an end of month counts as a whole one.
pub(crate) fn months_between(from: i64, to: i64) -> i64 {
    if from > to {
        return -months_between(to, from);
    }
    let (start, end) = (date(from.div_euclid(DAY)), date(to.div_euclid(DAY)));
    let mut months =
        i64::from(end.year() - start.year()) * 12 + i64::from(end.month()) - i64::from(start.month());
    let reached = days(add_months(start, months)) * DAY + from.rem_euclid(DAY);
    if reached > to {
        months -= 1;
    }
    months
}

/// The wall clock of a time value in the session, as milliseconds and nanoseconds.
fn wall(value: &Value, context: &Context) -> Option<Instant> {
    Some(match value {
        Value::Date(day) => Instant::from_millis(i64::from(*day) * DAY),
        Value::Time(millis) => Instant::from_millis(i64::from(*millis)),
        Value::Timestamp(at) => *at,
        Value::TimestampLtz(at) => Instant { millis: context.zone.local(at.millis), nanos: at.nanos },
        _ => return None,
    })
}

fn extract(call: &Call<'_>) -> Result<Value, EvalError> {
    let unit = call.str(0)?;
    let unknown = || EvalError::new(format!("EXTRACT of {unit} is not known"));
    if let Value::Interval(interval) = call.arg(1) {
        if matches!(call.types.get(1).map(|t| &t.kind), Some(TypeKind::IntervalMonths)) {
            return Ok(Value::Int(match unit {
                "YEAR" => interval / 12,
                "QUARTER" => interval % 12 / 3 + 1,
                "MONTH" => interval % 12,
                _ => return Err(unknown()),
            }));
        }
        return Ok(Value::Int(match unit {
            "DAY" => interval / DAY,
            "HOUR" => interval / 3_600_000 % 24,
            "MINUTE" => interval / 60_000 % 60,
            "SECOND" => interval / 1000 % 60,
            "MILLISECOND" => interval % 1000,
            "EPOCH" => interval / 1000,
            _ => return Err(unknown()),
        }));
    }
    let at = wall(call.arg(1), call.context).ok_or_else(unknown)?;
    // Flink divides towards zero here: before 1970 a time of day belongs to the day after
    let day = date(at.millis / DAY);
    let time = match call.arg(1) {
        // of a DATE it takes the day's number for milliseconds
        Value::Date(days) => i64::from(*days),
        _ => at.millis % DAY,
    };
    let year = i64::from(day.year());
    Ok(Value::Int(match unit {
        "YEAR" => year,
        "QUARTER" => i64::from(day.month0() / 3 + 1),
        "MONTH" => i64::from(day.month()),
        "WEEK" => i64::from(day.iso_week().week()),
        "DAY" => i64::from(day.day()),
        "DOY" => i64::from(day.ordinal()),
        "DOW" => i64::from(day.weekday().number_from_sunday()),
        "ISODOW" => i64::from(day.weekday().number_from_monday()),
        "ISOYEAR" => i64::from(day.iso_week().year()),
        "DECADE" => year.div_euclid(10),
        "CENTURY" => (year + 99).div_euclid(100),
        "MILLENNIUM" => (year + 999).div_euclid(1000),
        "HOUR" => time / 3_600_000,
        "MINUTE" => time / 60_000 % 60,
        "SECOND" => time / 1000 % 60,
        "MILLISECOND" => time % 1000,
        "MICROSECOND" => time % 1000 * 1000 + i64::from(at.nanos / 1000),
        "NANOSECOND" => time % 1000 * 1_000_000 + i64::from(at.nanos),
        "EPOCH" => at.millis / 1000,
        _ => return Err(unknown()),
    }))
}

/// FLOOR and CEIL of a time value to a unit.
pub(super) fn round_to(call: &Call<'_>, up: bool) -> Result<Value, EvalError> {
    let unit = call.str(1)?;
    let value = call.arg(0);
    let at =
        wall(value, call.context).ok_or_else(|| EvalError::new("FLOOR and CEIL to a unit take a time"))?;
    // towards zero, as EXTRACT
    let day = date(at.millis / DAY);
    let first = |year: i32, month: u32| NaiveDate::from_ymd_opt(year, month, 1).unwrap_or(day);
    let fixed = |length: i64| at.millis.div_euclid(length) * length;
    let (floor, next) = match unit {
        "MILLISECOND" => (at.millis, at.millis + 1),
        "SECOND" => (fixed(1000), fixed(1000) + 1000),
        "MINUTE" => (fixed(60_000), fixed(60_000) + 60_000),
        "HOUR" => (fixed(3_600_000), fixed(3_600_000) + 3_600_000),
        "DAY" => (fixed(DAY), fixed(DAY) + DAY),
        "WEEK" => {
            let start = (days(day) - i64::from(day.weekday().num_days_from_sunday())) * DAY;
            (start, if days(day) * DAY == start { start } else { start + 7 * DAY })
        }
        _ => {
            let (start, months) = match unit {
                "MONTH" => (first(day.year(), day.month()), 1),
                "QUARTER" => (first(day.year(), day.month0() / 3 * 3 + 1), 3),
                "YEAR" => (first(day.year(), 1), 12),
                "DECADE" => (first(day.year().div_euclid(10) * 10, 1), 120),
                "CENTURY" => (first((day.year() - 1).div_euclid(100) * 100 + 1, 1), 1200),
                "MILLENNIUM" => (first((day.year() - 1).div_euclid(1000) * 1000 + 1, 1), 12_000),
                _ => return Err(EvalError::new(format!("FLOOR and CEIL to {unit} are not known"))),
            };
            // the time of day does not count: CEIL on the first day stays there
            (days(start) * DAY, if start == day { days(day) } else { days(add_months(start, months)) } * DAY)
        }
    };
    // Flink does not look at what an instant has beyond its milliseconds, and a DATE never is at a day's begin
    let above = match value {
        Value::Timestamp(at) => floor != at.millis || at.nanos != 0,
        Value::Date(_) if unit == "DAY" => true,
        _ => floor != at.millis,
    };
    let result = if up && above { next } else { floor };
    Ok(match value {
        Value::Date(_) => date_value(result.div_euclid(DAY)),
        Value::Time(_) => time_value(result),
        // Flink goes back to the instant by the offset of the value, not of the result: a day that a change of
        // the clock shortens begins an hour off.
        Value::TimestampLtz(instant) => {
            Value::TimestampLtz(Instant::from_millis(result - (at.millis - instant.millis)))
        }
        _ => Value::Timestamp(Instant::from_millis(result)),
    })
}

/// A unit's length in milliseconds, or in months.
fn unit_length(unit: &str) -> Option<(i64, bool)> {
    Some(match unit {
        "MILLISECOND" => (1, false),
        "SECOND" => (1000, false),
        "MINUTE" => (60_000, false),
        "HOUR" => (3_600_000, false),
        "DAY" => (DAY, false),
        "WEEK" => (7 * DAY, false),
        "MONTH" => (1, true),
        "QUARTER" => (3, true),
        "YEAR" => (12, true),
        _ => return None,
    })
}

fn timestamp_diff(call: &Call<'_>) -> Result<Value, EvalError> {
    let unit = call.str(0)?;
    // units below a second count whole seconds
    let (length, months, part) = match unit {
        "MILLISECOND" => (1000, false, 1000),
        "MICROSECOND" => (1000, false, 1_000_000),
        "NANOSECOND" => (1000, false, 1_000_000_000),
        _ => {
            let (length, months) = unit_length(unit)
                .ok_or_else(|| EvalError::new(format!("TIMESTAMPDIFF in {unit} is not known")))?;
            (length, months, 1)
        }
    };
    let side = |at: usize| {
        wall(call.arg(at), call.context)
            .map(|at| at.millis)
            .ok_or_else(|| EvalError::new("TIMESTAMPDIFF takes times"))
    };
    let raw = |at: usize| call.arg(at).as_millis().map_or_else(|| side(at), Ok);
    let result = if months {
        months_between(side(1)?, side(2)?) / length
    } else {
        (raw(2)?.wrapping_sub(raw(1)?) / length).wrapping_mul(part)
    };
    Ok(Value::Int(Width::of(&call.result.kind).unwrap_or(Width::Int).wrap(result)))
}

fn timestamp_add(call: &Call<'_>) -> Result<Value, EvalError> {
    let unit = call.str(0)?;
    let (length, months) =
        unit_length(unit).ok_or_else(|| EvalError::new(format!("TIMESTAMPADD in {unit} is not known")))?;
    let value = match (call.arg(2), &call.result.kind) {
        (Value::Date(day), TypeKind::Timestamp(_)) => {
            Value::Timestamp(Instant::from_millis(i64::from(*day) * DAY))
        }
        (other, _) => other.clone(),
    };
    plus(&value, call.int(1)?.wrapping_mul(length), months)
}

fn date_format(call: &Call<'_>) -> Result<Value, EvalError> {
    let at = match call.arg(0) {
        Value::Str(text) => {
            let Some((at, _)) = simple_date::parse(text, simple_date::SQL)? else { return Ok(Value::Null) };
            let text = simple_date::format(at, instant(at).millis, Zone::UTC, call.str(1)?)?;
            return Ok(Value::from(text));
        }
        other => wall(other, call.context).ok_or_else(|| EvalError::new("DATE_FORMAT takes a timestamp"))?,
    };
    Ok(Value::from(pattern::format(datetime(at), call.str(1)?)?))
}

/// A text by a pattern, or, where it does not fit, in the form JDBC has.
fn by_pattern(text: &str, form: &str) -> Option<Instant> {
    if !pattern::is_valid(form) {
        return None;
    }
    pattern::parse(text, form).map(instant).or_else(|| pattern::parse_jdbc(text))
}

fn to_timestamp(call: &Call<'_>) -> Result<Value, EvalError> {
    let text = call.str(0)?;
    let parsed = match call.args.len() {
        1 => pattern::parse_timestamp(text),
        _ => by_pattern(text, call.str(1)?),
    };
    Ok(parsed.map_or(Value::Null, |at| Value::Timestamp(pattern::cut(at, 3))))
}

fn to_timestamp_ltz(call: &Call<'_>) -> Result<Value, EvalError> {
    if let Value::Str(text) = call.arg(0) {
        let parsed = match call.args.len() {
            // without a pattern a text that does not fit is an error
            1 => Some(
                pattern::parse_timestamp(text)
                    .ok_or_else(|| EvalError::new(format!("Text '{text}' could not be parsed")))?,
            ),
            _ => by_pattern(text, call.str(1)?),
        };
        let zone = match call.args.len() {
            3 => Zone::parse(call.str(2)?)
                .ok_or_else(|| EvalError::new("TO_TIMESTAMP_LTZ: the time zone is not known"))?,
            // Without a zone of its own the text is in UTC.
            _ => Zone::UTC,
        };
        return Ok(parsed.map_or(Value::Null, |at| {
            Value::TimestampLtz(pattern::cut(Instant { millis: zone.instant(at.millis), nanos: at.nanos }, 3))
        }));
    }
    let precision = if call.args.len() > 1 { call.int(1)? } else { 3 };
    if let Value::Float(_) | Value::Double(_) | Value::Decimal(_) = call.arg(0) {
        let number = call.double(0)?;
        let number =
            if precision == 0 && matches!(call.arg(0), Value::Decimal(_)) { number.trunc() } else { number };
        let millis = if precision == 0 { number * 1000.0 } else { number };
        #[allow(clippy::cast_possible_truncation, reason = "saturates, as Java's conversion does")]
        return Ok(Value::TimestampLtz(Instant::from_millis(millis as i64)));
    }
    let number = call.int(0)?;
    let at = match precision {
        0 => Instant::from_millis(number.wrapping_mul(1000)),
        3 => Instant::from_millis(number),
        1 | 2 => Instant::from_millis(number.wrapping_mul(if precision == 1 { 100 } else { 10 })),
        4..=9 => {
            let per_milli = 10_i64.pow(u32::try_from(precision - 3).unwrap_or(0));
            let per_unit = 1_000_000 / per_milli;
            let nanos = u32::try_from(number.rem_euclid(per_milli) * per_unit).unwrap_or(0);
            Instant { millis: number.div_euclid(per_milli), nanos }
        }
        _ => {
            return Err(EvalError::new(format!(
                "TO_TIMESTAMP_LTZ: precision {precision} is not between 0 and 9"
            )));
        }
    };
    // years beyond 9999 are no timestamps
    Ok(if at.millis > 253_402_300_799_999 { Value::Null } else { Value::TimestampLtz(at) })
}

/// 5471-09-27: what Flink's TO_DATE makes of the smallest BIGINT, its sign of a text that does not fit the pattern.
const FAR_OFF: i64 = 1_278_983;

fn to_date(call: &Call<'_>) -> Result<Value, EvalError> {
    let text = call.str(0)?;
    let parsed = match call.args.len() {
        1 => pattern::parse_date(text),
        // a text that does not fit becomes a day far off, not NULL
        _ => Some(simple_date::parse(text, call.str(1)?)?.map_or(FAR_OFF, |(at, _)| days(at.date()))),
    };
    Ok(parsed.map_or(Value::Null, date_value))
}

fn unix_timestamp(call: &Call<'_>) -> Result<Value, EvalError> {
    if call.args.is_empty() {
        return Ok(Value::Int(call.context.clock.now().div_euclid(1000)));
    }
    let format = if call.args.len() > 1 { call.str(1)? } else { simple_date::SQL };
    let parsed = simple_date::parse(call.str(0)?, format)?.map(|(at, offset)| match offset {
        Some(offset) => instant(at).millis - offset * 1000,
        // of an hour that comes twice Java's calendar takes the second
        None => call.context.zone.instant_of_calendar(instant(at).millis),
    });
    Ok(Value::Int(parsed.map_or(i64::MIN, |at| at.div_euclid(1000))))
}

fn from_unixtime(call: &Call<'_>) -> Result<Value, EvalError> {
    let format = if call.args.len() > 1 { call.str(1)? } else { simple_date::SQL };
    let zone = call.context.zone;
    let millis = call.int(0)?.wrapping_mul(1000);
    let local = datetime(Instant::from_millis(zone.local_of_calendar(millis)));
    Ok(Value::from(simple_date::format(local, millis, zone, format)?))
}

fn convert_tz(call: &Call<'_>) -> Result<Value, EvalError> {
    let (from, to) = (Zone::parse_java(call.str(1)?), Zone::parse_java(call.str(2)?));
    let Some((local, _)) = simple_date::parse(call.str(0)?, simple_date::SQL)? else {
        return Ok(Value::Null);
    };
    let at = from.instant_of_calendar(instant(local).millis);
    let there = datetime(Instant::from_millis(to.local_of_calendar(at)));
    Ok(Value::from(simple_date::format(there, at, to, simple_date::SQL)?))
}

/// `(start, end or length) OVERLAPS (start, end or length)` with four arguments.
fn overlaps(call: &Call<'_>) -> Result<Value, EvalError> {
    let bound = |at: usize| {
        super::arithmetic::time_millis(call.arg(at)).ok_or_else(|| EvalError::new("OVERLAPS takes times"))
    };
    let end = |start: usize| match call.arg(start + 1) {
        Value::Interval(length) => {
            let months = matches!(call.types.get(start + 1).map(|t| &t.kind), Some(TypeKind::IntervalMonths));
            let at = Value::Timestamp(Instant::from_millis(bound(start)?));
            Ok(plus(&at, *length, months)?.as_millis().unwrap_or_default())
        }
        _ => bound(start + 1),
    };
    let (a, b, c, d) = (bound(0)?, end(0)?, bound(2)?, end(2)?);
    Ok(Value::Bool(a.max(b) >= c.min(d) && c.max(d) >= a.min(b)))
}

fn current_timestamp(call: &Call<'_>) -> Result<Value, EvalError> {
    Ok(Value::TimestampLtz(Instant::from_millis(call.context.clock.now())))
}

/// NULL before the first watermark.
fn current_watermark(call: &Call<'_>) -> Result<Value, EvalError> {
    let at = Instant::from_millis(call.context.watermark.load(std::sync::atomic::Ordering::Relaxed));
    Ok(match &call.result.kind {
        _ if at.millis == i64::MIN => Value::Null,
        TypeKind::TimestampLtz(_) => Value::TimestampLtz(at),
        _ => Value::Timestamp(at),
    })
}

fn local_timestamp(call: &Call<'_>) -> Result<Value, EvalError> {
    Ok(Value::Timestamp(Instant::from_millis(call.context.zone.local(call.context.clock.now()))))
}

fn current_date(call: &Call<'_>) -> Result<Value, EvalError> {
    Ok(date_value(call.context.zone.local(call.context.clock.now()).div_euclid(DAY)))
}

fn current_time(call: &Call<'_>) -> Result<Value, EvalError> {
    Ok(time_value(call.context.zone.local(call.context.clock.now())))
}
