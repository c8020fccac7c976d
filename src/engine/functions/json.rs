//! JSON functions.

use super::super::row::Value;
use super::super::types::{DataType, TypeKind};

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
        (Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Double(_) | Value::Decimal(_), _) => {
            super::super::print::value(out, value, &text);
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
