//! Topic names and the adjustment of schema and field names.

use super::EventError;
use super::options::{Adjustment, EventOptions};

/// Adjusts a field name: letters, digits and `_`, no digit first.
pub fn adjust_field(name: &str, mode: Adjustment) -> String {
    adjust(name, mode, false)
}

/// Adjusts a full schema name: as a field name, with `.` between the parts.
pub fn adjust_schema(name: &str, mode: Adjustment) -> String {
    adjust(name, mode, true)
}

fn adjust(name: &str, mode: Adjustment, full: bool) -> String {
    if mode == Adjustment::None {
        return name.to_owned();
    }
    let unicode = mode == Adjustment::AvroUnicode;
    let mut out = String::with_capacity(name.len());
    for (i, c) in name.chars().enumerate() {
        let legal = c.is_ascii_alphabetic()
            || (c == '_' && !unicode)
            || (i > 0 && (c.is_ascii_digit() || (full && c == '.')));
        if legal {
            out.push(c);
        } else if unicode {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("_u{unit:04x}"));
            }
        } else {
            // Java replaces each UTF-16 unit
            for _ in 0..c.len_utf16() {
                out.push('_');
            }
            // a digit that may only not stand first stays
            if c.is_ascii_digit() {
                out.push(c);
            }
        }
    }
    out
}

/// The topic of a table's changes.
///
/// # Errors
/// Where the replacement of a regex naming strategy names a group its expression does not have.
pub fn table_topic(options: &EventOptions, schema: &str, table: &str) -> Result<String, EventError> {
    let naming = &options.topic_naming;
    let origin = sanitize(&origin_topic(options, schema, table), naming.unicode);
    let Some(regex) = &naming.regex else { return Ok(origin) };
    let replaced = regex.topic.replace(&origin, &regex.replacement);
    let new = replaced.map_err(|e| wrong("topic.replacement", &regex.replacement, e))?;
    // Debezium keeps the name rather than lose it
    Ok(new.filter(|n| !n.is_empty()).unwrap_or(origin))
}

/// What tells a table apart from others in its topic, with the key's field that holds it; none unless a regex naming
/// strategy is to keep keys unique.
///
/// # Errors
/// Where the replacement names a group its expression does not have.
pub(super) fn key_identity<'o>(
    options: &'o EventOptions,
    schema: &str,
    table: &str,
) -> Result<Option<(&'o str, String)>, EventError> {
    let Some(key) = options.topic_naming.regex.as_ref().and_then(|r| r.key.as_ref()) else { return Ok(None) };
    let origin = origin_topic(options, schema, table);
    let own = match &key.regex {
        None => None,
        Some((regex, to)) => {
            regex.replace(&origin, to).map_err(|e| wrong("topic.key.field.replacement", to, e))?
        }
    };
    Ok(Some((&key.field, own.unwrap_or(origin))))
}

fn wrong(name: &str, value: &str, expected: String) -> EventError {
    EventError::Option { name: name.into(), value: value.into(), expected }
}

fn origin_topic(options: &EventOptions, schema: &str, table: &str) -> String {
    let (prefix, d) = (&options.topic_prefix, &options.topic_delimiter);
    if options.topic_naming.without_schema {
        format!("{prefix}{d}{table}")
    } else {
        format!("{prefix}{d}{schema}{d}{table}")
    }
}

/// Replaces what Kafka does not allow in a topic name, as Debezium does, and cuts it to 249 characters.
pub fn sanitize(name: &str, unicode: bool) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars() {
        let legal = c.is_ascii_alphanumeric() || matches!(c, '.' | '-') || (c == '_' && !unicode);
        if legal {
            out.push(c);
        } else if unicode {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("_u{unit:04x}"));
            }
        } else {
            for _ in 0..c.len_utf16() {
                out.push('_');
            }
        }
    }
    out.truncate(249);
    match out.as_str() {
        "." => "_".into(),
        ".." => "__".into(),
        _ => out,
    }
}
