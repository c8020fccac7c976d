//! Column defaults: the catalog's expression to a value for the schema.
//!
//! As Debezium's `PostgresDefaultValueConverter`: literals are read, function calls become a zero value,
//! everything else has no default.

use std::borrow::Cow;

use super::convert::{Conv, Decimals, Unit, decimal, temporal, truncate};
use super::datum::Datum;
use super::schema::Kind;
use super::types::Mapped;

/// The default of a column of this PostgreSQL type (`numeric`, `timestamptz`, an enum's name…); `None` for none.
pub fn parse(
    expression: &str,
    type_name: &str,
    is_enum: bool,
    typmod: i32,
    mapped: &Mapped,
) -> Option<Datum<'static>> {
    const SUPPORTED: &[&str] = &[
        "bit",
        "varbit",
        "bool",
        "bpchar",
        "date",
        "float4",
        "float8",
        "int2",
        "int4",
        "int8",
        "interval",
        "json",
        "jsonb",
        "numeric",
        "text",
        "time",
        "timestamp",
        "timestamptz",
        "uuid",
        "varchar",
        "xml",
    ];
    // struct defaults are not emitted (KAFKA-12694)
    if matches!(mapped.schema.kind, Kind::Struct(_) | Kind::Array(_) | Kind::Map(..)) {
        return None;
    }
    if is_enum {
        let literal = expression.get(..expression.rfind("::")?)?;
        let label = literal.strip_prefix('\'')?.strip_suffix('\'')?;
        return Some(Datum::string(label));
    }
    if !SUPPORTED.contains(&type_name) {
        return None;
    }
    let expression = expression.trim();
    if is_function(expression) {
        return zero(type_name, mapped);
    }
    let text = literal(expression)?;
    match (&mapped.conv, type_name) {
        (_, "bool") => Some(Datum::Bool(text.eq_ignore_ascii_case("true"))),
        (Conv::Numeric(mode), _) => numeric(&text, *mode, typmod),
        // what java.time and pgjdbc make of literals differs from what Debezium makes of values
        (Conv::Date { unit, .. }, _) => date(&text, *unit),
        (Conv::Time { unit, .. }, _) if text.starts_with("24:") => Some(end_of_day(*unit)),
        (Conv::Timestamp { unit, .. }, _) if text.ends_with("infinity") => infinite(&text, *unit),
        (Conv::TimestampTz { .. }, _) if text.ends_with("infinity") => None,
        (Conv::BitBool, _) => Some(Datum::Bool(text == "1")),
        (conv, _) => Some(conv.convert(text.as_bytes()).ok()?.into_owned()),
    }
}

fn numeric(text: &str, mode: Decimals, typmod: i32) -> Option<Datum<'static>> {
    let decimal = decimal::parse(text.as_bytes())?;
    let scale = u32::try_from(typmod - 4).ok().and_then(|t| usize::try_from(t & 0xFFFF).ok());
    match mode {
        // Java does not round a default
        _ if scale.is_some_and(|scale| decimal.scale() > scale) => None,
        Decimals::Double => Some(Datum::F64(text.parse().ok()?)),
        mode => Some(Conv::Numeric(mode).convert(text.as_bytes()).ok()?.into_owned()),
    }
}

fn date(text: &str, unit: Unit) -> Option<Datum<'static>> {
    let days = match text {
        "infinity" => LOCAL_DATE_MAX,
        "-infinity" => LOCAL_DATE_MIN,
        text => temporal::date(text.as_bytes(), false, false)?,
    };
    Some(match unit {
        Unit::Iso => temporal::iso_date(days),
        _ => Datum::Int(i64::from(truncate(days))),
    })
}

/// `24:00` is Java's last instant of a day.
fn end_of_day(unit: Unit) -> Datum<'static> {
    match unit {
        Unit::Millis | Unit::Days => Datum::Int(86_399_999),
        Unit::Micros => Datum::Int(86_399_999_999),
        Unit::Nanos => Datum::Int(86_399_999_999_999),
        Unit::Iso => Datum::str("23:59:59.999999999Z"),
    }
}

/// An infinite timestamp is Java's first or last: what fits of it.
fn infinite(text: &str, unit: Unit) -> Option<Datum<'static>> {
    let last = text == "infinity";
    match unit {
        // seconds saturate, the rest of a second wraps
        Unit::Micros => Some(Datum::Int(if last { i64::MAX.wrapping_add(999_999) } else { i64::MIN })),
        Unit::Iso if last => Some(Datum::str("+999999999-12-31T23:59:59.999999999Z")),
        Unit::Iso => Some(Datum::str("-999999999-01-01T00:00:00Z")),
        // milliseconds and nanoseconds do not hold it
        _ => None,
    }
}

/// Days of `LocalDate.MAX`.
const LOCAL_DATE_MAX: i64 = 365_241_780_471;
/// Days of `LocalDate.MIN`.
const LOCAL_DATE_MIN: i64 = -365_243_219_162;

/// A call such as `now()` or `nextval('s'::regclass)`, or `CURRENT_…` alone.
fn is_function(expression: &str) -> bool {
    const MOMENTS: [&str; 5] =
        ["current_timestamp", "current_time", "current_date", "localtime", "localtimestamp"];
    if MOMENTS.iter().any(|m| expression.eq_ignore_ascii_case(m)) {
        return true;
    }
    let body = expression.strip_prefix('(').unwrap_or(expression);
    let name = body.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')).count();
    let arguments = body.get(name..).and_then(|rest| rest.strip_prefix('('));
    name > 0 && arguments.is_some_and(|a| a.lines().next().is_some_and(|line| line.contains(')')))
}

/// The first quoted text of an expression, or the whole where there is none; none for `NULL::…`.
fn literal(expression: &str) -> Option<Cow<'_, str>> {
    let Some((_, quoted)) = expression.split_once('\'') else {
        return (!expression.starts_with("NULL::")).then_some(Cow::Borrowed(expression));
    };
    let mut out = String::new();
    let mut chars = quoted.chars().peekable();
    loop {
        match chars.next()? {
            '\'' if chars.peek() == Some(&'\'') => {
                chars.next();
                out.push('\'');
            }
            '\'' => return Some(Cow::Owned(out)),
            c => out.push(c),
        }
    }
}

fn zero(type_name: &str, mapped: &Mapped) -> Option<Datum<'static>> {
    let text = match type_name {
        "bool" => "false",
        "bit" | "varbit" => "0",
        "int2" | "int4" | "int8" | "float4" | "float8" | "numeric" => "0",
        "date" => "1970-01-01",
        "time" => "00:00:00",
        "timestamp" => "1970-01-01 00:00:00",
        "timestamptz" => "1970-01-01 00:00:00+00",
        "interval" => "00:00:00",
        "json" | "jsonb" => "{}",
        "uuid" => "00000000-0000-0000-0000-000000000000",
        _ => "",
    };
    mapped.conv.convert(text.as_bytes()).ok().map(Datum::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals() {
        for (expression, value) in [
            ("'it''s'::text", Some("it's")),
            ("B'101'::\"bit\"", Some("101")),
            ("7", Some("7")),
            ("'-5'::integer", Some("-5")),
            ("NULL::integer", None),
            ("('a'::text || 'b'::text)", Some("a")),
            ("(10)::smallint", Some("(10)::smallint")),
        ] {
            assert_eq!(literal(expression).as_deref(), value, "{expression}");
        }
        assert!(is_function("nextval('d_id_seq'::regclass)"));
        assert!(is_function("now()"));
        assert!(is_function("CURRENT_TIMESTAMP"));
        assert!(!is_function("(1 + 2)"));
        assert!(!is_function("'now()'::text"));
        assert!(is_function("timezone('utc'::text, now())"));
        assert!(!is_function("(CURRENT_USER)::text"));
    }
}
