//! Dates by Java's lenient `SimpleDateFormat`, which Flink uses where a text goes in and no TIMESTAMP comes out:
//! UNIX_TIMESTAMP, FROM_UNIXTIME, TO_DATE with a pattern, CONVERT_TZ, DATE_FORMAT of a text.

use chrono::NaiveDateTime;

use super::super::error::EvalError;
use super::super::zone::Zone;
use crate::java::simple_date::SimpleDateFormat;

/// SQL's own form.
pub(super) const SQL: &str = "yyyy-MM-dd HH:mm:ss";

/// Writes a wall clock; `at_utc` is the same instant in milliseconds, `zone` the zone it is shown in.
pub(super) fn format(at: NaiveDateTime, at_utc: i64, zone: Zone, pattern: &str) -> Result<String, EvalError> {
    let offset = (zone.local_of_calendar(at_utc) - at_utc) / 1000;
    let name = |full: bool| match zone {
        Zone::UTC if full => "Coordinated Universal Time".to_owned(),
        _ => zone.short_name(at_utc),
    };
    Ok(SimpleDateFormat::new(pattern).map_err(EvalError::new)?.format(at, offset, name))
}

/// Reads a wall clock, and the offset in seconds where the text has one: what follows the pattern is not looked at,
/// and fields beyond their range carry over. `Ok(None)` when the text does not fit.
pub(super) fn parse(text: &str, pattern: &str) -> Result<Option<(NaiveDateTime, Option<i64>)>, EvalError> {
    let format = SimpleDateFormat::new(pattern).map_err(EvalError::new)?;
    if format.is_empty() {
        return Ok(None);
    }
    Ok(format.parse(text).map(|read| (read.wall, read.offset)))
}
