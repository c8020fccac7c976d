//! Topic names and the adjustment of schema and field names.

use super::options::{Adjustment, EventOptions, TopicNaming};

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
pub fn table_topic(options: &EventOptions, schema: &str, table: &str) -> String {
    let d = &options.topic_delimiter;
    let name = match options.topic_naming {
        TopicNaming::Schema | TopicNaming::SchemaUnicode => {
            format!("{}{d}{schema}{d}{table}", options.topic_prefix)
        }
        // a table of PostgreSQL has no database part there
        TopicNaming::Default | TopicNaming::DefaultUnicode => format!("{}{d}{table}", options.topic_prefix),
    };
    let unicode = matches!(options.topic_naming, TopicNaming::SchemaUnicode | TopicNaming::DefaultUnicode);
    sanitize(&name, unicode)
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
