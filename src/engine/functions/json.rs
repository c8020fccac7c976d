//! JSON functions.

use super::super::error::EvalError;
use super::super::row::Value;
use super::super::types::{DataType, TypeKind};
use super::json_path::{Found, find};
use super::json_tree::Json;
use super::{Call, Scalar, cast};

pub(super) fn lookup(name: &str) -> Option<(Scalar, bool)> {
    Some(match name {
        "JSON_VALUE" => (json_value, false),
        "JSON_QUERY" => (json_query, false),
        "JSON_EXISTS" => (json_exists, false),
        "JSON_OBJECT" => (json_object, false),
        "JSON_ARRAY" => (json_array, false),
        "JSON_STRING" => (json_string, true),
        "JSON" => (
            |call| match Json::parse(call.str(0)?) {
                Ok(json) => {
                    let mut out = String::new();
                    json.write_exact(&mut out);
                    Ok(Value::from(out))
                }
                Err(error) => Err(EvalError::new(error)),
            },
            true,
        ),
        "IS JSON" => (is_json, false),
        "JSON_QUOTE" => (json_quote, true),
        "JSON_UNQUOTE" => (json_unquote, true),
        _ => return None,
    })
}

/// What a path finds in a JSON text, in the path's mode.
struct Lookup {
    /// `None`: nothing there.
    found: Option<Json>,
    /// Strict mode, which is the default: what is missing is an error.
    strict: bool,
}

fn look_up(call: &Call<'_>) -> Result<Lookup, EvalError> {
    let path = call.str(1)?.trim();
    let (strict, path) = match (path.strip_prefix("lax "), path.strip_prefix("strict ")) {
        (Some(path), _) => (false, path),
        (_, Some(path)) => (true, path),
        _ => (true, path),
    };
    let json = match Json::parse_first(call.str(0)?) {
        Ok(json) => json,
        // what is no JSON holds nothing, to a lax path
        Err(_) if !strict => return Ok(Lookup { found: None, strict }),
        Err(error) => return Err(EvalError::new(error)),
    };
    let found = match find(&json, path) {
        Found::Invalid => return Err(EvalError::new(format!("Illegal jsonpath spec: {path}"))),
        Found::One(None) if strict => return Err(EvalError::new(format!("No results for path: {path}"))),
        Found::One(found) => found,
        Found::Many(items) => Some(Json::Array(items)),
    };
    Ok(Lookup { found: found.filter(|found| *found != Json::Null), strict })
}

fn json_value(call: &Call<'_>) -> Result<Value, EvalError> {
    if call.arg(0).is_null() {
        return Ok(Value::Null);
    }
    let on_empty = || match call.str(2)? {
        "DEFAULT" => Ok(call.arg(3).clone()),
        "ERROR" => Err(EvalError::new("Empty result of JSON_VALUE function is not allowed")),
        _ => Ok(Value::Null),
    };
    let on_error = |error: EvalError| match call.str(4)? {
        "DEFAULT" => Ok(call.arg(5).clone()),
        "ERROR" => Err(error),
        _ => Ok(Value::Null),
    };
    let found = match look_up(call) {
        Err(error) => return on_error(error),
        Ok(Lookup { found: None, strict: false }) => return on_empty(),
        // null is no scalar to a strict path
        Ok(Lookup { found: None, strict: true }) => {
            return on_error(EvalError::new(
                "Strict jsonpath mode requires scalar value, and the actual value is: 'null'",
            ));
        }
        Ok(Lookup { found: Some(found), strict }) if !found.is_scalar() => {
            if !strict {
                return on_empty();
            }
            let mut text = String::new();
            found.write(&mut text);
            return on_error(EvalError::new(format!(
                "Strict jsonpath mode requires scalar value, and the actual value is: '{text}'"
            )));
        }
        Ok(Lookup { found: Some(found), .. }) => found,
    };
    let Some(text) = found.scalar_text() else { return Ok(Value::Null) };
    match &call.result.kind {
        TypeKind::Varchar(_) | TypeKind::Char(_) => Ok(Value::from(text)),
        kind => {
            // Flink takes the value as it is, without a conversion
            let whole = !text.contains(['.', 'e', 'E']);
            let fits = match (&found, kind) {
                (Json::Bool(_), TypeKind::Boolean) => true,
                (Json::Number(_), TypeKind::Int) => whole && text.parse::<i32>().is_ok(),
                (Json::Number(_), TypeKind::Double) => !whole,
                _ => false,
            };
            if !fits {
                return Err(EvalError::new(format!("JSON_VALUE: {text} cannot be cast to {kind}")));
            }
            cast::cast(&Value::from(text), &DataType::string().kind, kind, call.context)
        }
    }
}

fn json_query(call: &Call<'_>) -> Result<Value, EvalError> {
    if call.arg(0).is_null() {
        return Ok(Value::Null);
    }
    let instead = |behaviour: &str, error: EvalError| match (behaviour, &call.result.kind) {
        ("ERROR", _) => Err(error),
        ("EMPTY ARRAY", TypeKind::Array(_)) => Ok(Value::Array([].into())),
        ("EMPTY ARRAY", _) => Ok(Value::str("[]")),
        ("EMPTY OBJECT", _) => Ok(Value::str("{}")),
        _ => Ok(Value::Null),
    };
    let empty =
        || instead(call.str(3)?, EvalError::new("Empty result of JSON_QUERY function is not allowed"));
    let (found, strict) = match look_up(call) {
        Err(error) => return instead(call.str(4)?, error),
        Ok(Lookup { found: None, strict: false }) => return empty(),
        Ok(Lookup { found: None, strict: true }) => return instead(call.str(4)?, strict_null()),
        Ok(Lookup { found: Some(found), strict }) => (found, strict),
    };
    let wrapped = match call.str(2)? {
        "UNCONDITIONAL" => Json::Array(vec![found]),
        "CONDITIONAL" if !matches!(found, Json::Array(_)) => Json::Array(vec![found]),
        _ => found,
    };
    if wrapped.is_scalar() {
        return if strict {
            instead(call.str(4)?, EvalError::new("Strict jsonpath mode requires array or object value"))
        } else {
            empty()
        };
    }
    if let (TypeKind::Array(_), Json::Array(items)) = (&call.result.kind, &wrapped) {
        let text = |item: &Json| match item {
            Json::Null => Value::Null,
            item => Value::from(item.scalar_text().unwrap_or_else(|| {
                let mut text = String::new();
                item.write(&mut text);
                text
            })),
        };
        return Ok(Value::Array(items.iter().map(text).collect()));
    }
    if let TypeKind::Array(_) = &call.result.kind {
        return Ok(Value::Null);
    }
    let mut text = String::new();
    wrapped.write(&mut text);
    Ok(Value::from(text))
}

fn strict_null() -> EvalError {
    EvalError::new("Strict jsonpath mode requires a non empty returned value, but is null")
}

fn json_exists(call: &Call<'_>) -> Result<Value, EvalError> {
    if call.arg(0).is_null() {
        return Ok(Value::Null);
    }
    match look_up(call) {
        Ok(Lookup { found: None, strict: true }) if call.str(2)? == "ERROR" => Err(strict_null()),
        Ok(lookup) => Ok(Value::Bool(lookup.found.is_some())),
        Err(error) => match call.str(2)? {
            "TRUE" => Ok(Value::Bool(true)),
            "UNKNOWN" => Ok(Value::Null),
            "ERROR" => Err(error),
            _ => Ok(Value::Bool(false)),
        },
    }
}

/// Appends an argument; one whose type was replaced by NULL's is JSON already.
fn write_argument(out: &mut String, call: &Call<'_>, at: usize) {
    match (call.arg(at), call.types.get(at).map(|t| &t.kind)) {
        (Value::Str(json), Some(TypeKind::Null)) => out.push_str(json),
        (value, kind) => write(out, value, kind.unwrap_or(&TypeKind::Null)),
    }
}

fn json_object(call: &Call<'_>) -> Result<Value, EvalError> {
    let absent = call.str(0)? == "ABSENT";
    // names in order; of one that comes twice the last value counts
    let mut entries = std::collections::BTreeMap::new();
    for at in (1..call.args.len()).step_by(2) {
        if absent && call.arg(at + 1).is_null() {
            continue;
        }
        let name = call.arg(at).as_str().ok_or_else(|| EvalError::new("JSON_OBJECT: a key is NULL"))?;
        entries.insert(name, at + 1);
    }
    let mut out = String::from("{");
    for (name, at) in entries {
        if out.len() > 1 {
            out.push(',');
        }
        write_string(&mut out, name);
        out.push(':');
        write_argument(&mut out, call, at);
    }
    out.push('}');
    Ok(Value::from(out))
}

fn json_array(call: &Call<'_>) -> Result<Value, EvalError> {
    let absent = call.str(0)? == "ABSENT";
    let mut out = String::from("[");
    for at in 1..call.args.len() {
        if absent && call.arg(at).is_null() {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        write_argument(&mut out, call, at);
    }
    out.push(']');
    Ok(Value::from(out))
}

fn json_string(call: &Call<'_>) -> Result<Value, EvalError> {
    let mut out = String::new();
    write(&mut out, call.arg(0), call.types.first().map_or(&TypeKind::Null, |t| &t.kind));
    Ok(Value::from(out))
}

fn is_json(call: &Call<'_>) -> Result<Value, EvalError> {
    let Value::Str(text) = call.arg(0) else { return Ok(Value::Bool(false)) };
    let Ok(json) = Json::parse_first(text) else { return Ok(Value::Bool(false)) };
    Ok(Value::Bool(match call.arg(1).as_str().unwrap_or("VALUE") {
        "SCALAR" => json.is_scalar(),
        "ARRAY" => matches!(json, Json::Array(_)),
        "OBJECT" => matches!(json, Json::Object(_)),
        _ => true,
    }))
}

fn json_quote(call: &Call<'_>) -> Result<Value, EvalError> {
    use std::fmt::Write as _;
    let mut out = String::from("\"");
    for c in call.str(0)?.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // other control characters stay as they are
            '\0'..='~' => out.push(c),
            _ => {
                // beyond the basic plane Flink writes the code point, then the second half of the pair
                let _ = write!(out, "\\u{:04x}", u32::from(c));
                if let [_, low] = c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{low:04x}");
                }
            }
        }
    }
    out.push('"');
    Ok(Value::from(out))
}

fn json_unquote(call: &Call<'_>) -> Result<Value, EvalError> {
    let text = call.str(0)?;
    Ok(match Json::parse(text) {
        Ok(Json::String(inner)) if text.starts_with('"') => Value::from(inner),
        _ => Value::str(text),
    })
}

/// Appends a string as JSON, quoted.
pub(crate) fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 => {
                use std::fmt::Write as _;
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Appends a value as JSON.
pub(crate) fn write(out: &mut String, value: &Value, kind: &TypeKind) {
    let text = DataType::string();
    match (value, kind) {
        (Value::Null, _) => out.push_str("null"),
        (Value::Decimal(number), _) => super::super::print::decimal(out, *number),
        (Value::Float(_) | Value::Double(_), _) => {
            let mut digits = String::new();
            // a FLOAT is written with the digits of the DOUBLE that it is
            let double = match value {
                Value::Float(number) => Value::Double(f64::from(*number)),
                other => other.clone(),
            };
            super::super::print::value(&mut digits, &double, &text);
            out.push_str(&java_exponent(&digits));
        }
        (Value::Bool(_) | Value::Int(_), _) => super::super::print::value(out, value, &text),
        (Value::Timestamp(at), _) => {
            write_string(out, &super::pattern::timestamp_text(*at, 0).replacen(' ', "T", 1));
        }
        (Value::TimestampLtz(at), _) => {
            write_string(out, &(super::pattern::timestamp_text(*at, 0).replacen(' ', "T", 1) + "Z"));
        }
        (Value::Str(text), _) => write_string(out, text),
        (Value::Array(items), TypeKind::Array(element)) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(out, item, &element.kind);
            }
            out.push(']');
        }
        (Value::Map(entries), TypeKind::Map(_, element)) => {
            out.push('{');
            for (at, (key, item)) in entries.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                let mut name = String::new();
                super::super::print::value(&mut name, key, &text);
                write_string(out, &name);
                out.push(':');
                write(out, item, &element.kind);
            }
            out.push('}');
        }
        (Value::Row(values), TypeKind::Row(fields)) => {
            out.push('{');
            for (at, (item, field)) in values.iter().zip(fields).enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_string(out, &field.name);
                out.push(':');
                write(out, item, &field.data_type.kind);
            }
            out.push('}');
        }
        (Value::Bytes(bytes), _) => {
            use base64::Engine as _;
            write_string(out, &base64::engine::general_purpose::STANDARD.encode(bytes));
        }
        _ => {
            let mut shown = String::new();
            super::super::print::value(&mut shown, value, &DataType::new(kind.clone()));
            write_string(out, &shown);
        }
    }
}

/// `1.0E20` as Jackson writes it: `1.0E+20`.
fn java_exponent(digits: &str) -> String {
    match digits.split_once('E') {
        Some((mantissa, exponent)) if !exponent.starts_with('-') => format!("{mantissa}E+{exponent}"),
        _ => digits.to_owned(),
    }
}

/// A JSON object of keys and values.
pub(crate) fn object_of(
    entries: impl Iterator<Item = (Value, Value)>,
    data_type: Option<&DataType>,
    absent_on_null: bool,
) -> Value {
    let string = DataType::string();
    let kind = &data_type.unwrap_or(&string).kind;
    let mut out = String::from("{");
    for (key, value) in entries {
        if value.is_null() && absent_on_null {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        write_string(&mut out, key.as_str().unwrap_or_default());
        out.push(':');
        write(&mut out, &value, kind);
    }
    out.push('}');
    Value::from(out)
}

/// A JSON array of values.
pub(crate) fn array_of(items: &[Value], data_type: Option<&DataType>, absent_on_null: bool) -> Value {
    let string = DataType::string();
    let kind = &data_type.unwrap_or(&string).kind;
    let mut out = String::from("[");
    for item in items.iter().filter(|item| !(absent_on_null && item.is_null())) {
        if out.len() > 1 {
            out.push(',');
        }
        write(&mut out, item, kind);
    }
    out.push(']');
    Value::from(out)
}
