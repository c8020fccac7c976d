//! Column defaults: the catalog's expression to a value for the schema.
//!
//! As Debezium's `PostgresDefaultValueConverter`: literals are read, function calls become a zero value,
//! everything else has no default.

use std::borrow::Cow;

use super::convert::{Conv, Decimals};
use super::datum::Datum;
use super::schema::Kind;
use super::types::Mapped;

/// The default of a column of this PostgreSQL type (`numeric`, `timestamptz`, an enum's name…); `None` for none.
pub fn parse(expression: &str, type_name: &str, is_enum: bool, mapped: &Mapped) -> Option<Datum<'static>> {
    const SUPPORTED: &[&str] = &[
        "bit",
        "varbit",
        "bool",
        "bpchar",
        "char",
        "citext",
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
        "timetz",
        "uuid",
        "varchar",
    ];
    if !is_enum && !SUPPORTED.contains(&type_name) {
        return None;
    }
    // struct defaults are not emitted (KAFKA-12694)
    if matches!(mapped.schema.kind, Kind::Struct(_) | Kind::Array(_) | Kind::Map(..)) {
        return None;
    }
    let expression = expression.trim();
    if is_function(expression) {
        return zero(type_name, is_enum, mapped);
    }
    let text = literal(expression)?;
    let datum = match (&mapped.conv, type_name) {
        (Conv::Numeric(Decimals::Double), _) => Datum::F64(text.parse().ok()?),
        (conv, _) => conv.convert(text.as_bytes()).ok()?.into_owned(),
    };
    Some(datum)
}

/// A call such as `now()` or `nextval('s'::regclass)`, or `CURRENT_…`.
fn is_function(expression: &str) -> bool {
    let upper = expression.to_ascii_uppercase();
    if upper.starts_with("CURRENT_") || upper.starts_with("LOCALTIME") {
        return true;
    }
    let body = expression.trim_start_matches('(');
    let name = body.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.')).count();
    name > 0 && body.as_bytes().get(name) == Some(&b'(') && body.contains(')')
}

/// `'it''s'::text`, `B'101'::"bit"`, `7`, `(-5)`, `true`; none for `NULL::…` and expressions.
fn literal(expression: &str) -> Option<Cow<'_, str>> {
    let body = expression.strip_prefix('B').filter(|b| b.starts_with('\'')).unwrap_or(expression);
    if let Some(quoted) = body.strip_prefix('\'') {
        let mut out = String::new();
        let mut chars = quoted.chars().peekable();
        loop {
            match chars.next()? {
                '\'' if chars.peek() == Some(&'\'') => {
                    chars.next();
                    out.push('\'');
                }
                '\'' => break,
                c => out.push(c),
            }
        }
        let rest: String = chars.collect();
        return (rest.is_empty() || rest.starts_with("::")).then_some(Cow::Owned(out));
    }
    if body.get(..4).is_some_and(|p| p.eq_ignore_ascii_case("NULL")) {
        return None;
    }
    let plain = match body.split_once("::") {
        Some((value, _)) => value,
        None => body,
    };
    let plain = plain.strip_prefix('(').and_then(|p| p.strip_suffix(')')).unwrap_or(plain);
    (!plain.contains('\'')).then_some(Cow::Borrowed(plain))
}

fn zero(type_name: &str, is_enum: bool, mapped: &Mapped) -> Option<Datum<'static>> {
    let text = match type_name {
        "bool" => "false",
        "bit" | "varbit" => "0",
        "int2" | "int4" | "int8" | "float4" | "float8" | "numeric" => "0",
        "date" => "1970-01-01",
        "time" => "00:00:00",
        "timetz" => "00:00:00+00",
        "timestamp" => "1970-01-01 00:00:00",
        "timestamptz" => "1970-01-01 00:00:00+00",
        "interval" => "00:00:00",
        "json" | "jsonb" => "{}",
        "uuid" => "00000000-0000-0000-0000-000000000000",
        _ if is_enum => "",
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
            ("('a'::text || 'b'::text)", None),
        ] {
            assert_eq!(literal(expression).as_deref(), value, "{expression}");
        }
        assert!(is_function("nextval('d_id_seq'::regclass)"));
        assert!(is_function("now()"));
        assert!(is_function("CURRENT_TIMESTAMP"));
        assert!(!is_function("(1 + 2)"));
        assert!(!is_function("'now()'::text"));
    }
}
