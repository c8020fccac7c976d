//! Headers on the wire: what Kafka Connect's `SimpleHeaderConverter` (the default) and `JsonConverter` write.

use super::datum::Datum;
use super::json::{self, JsonOptions};
use super::schema::{Kind, Schema};

/// Appends a header's value.
pub fn header(out: &mut Vec<u8>, schema: &Schema, datum: &Datum<'_>, json: Option<&JsonOptions>) {
    match json {
        Some(options) => {
            if let Some(bytes) = super::record::envelope(Some(schema), datum, options) {
                out.extend_from_slice(&bytes);
            }
        }
        None => simple(out, Some(schema), datum, false),
    }
}

/// Appends a value that has no schema: a struct has no field names then, so only scalars, lists and maps occur.
pub fn schemaless(out: &mut Vec<u8>, datum: &Datum<'_>) {
    simple(out, None, datum, true);
}

/// `Values.convertToString`: text as it is at the top, quoted inside.
fn simple(out: &mut Vec<u8>, schema: Option<&Schema>, datum: &Datum<'_>, embedded: bool) {
    match datum {
        Datum::Null => out.extend_from_slice(b"null"),
        Datum::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Datum::Int(n) => match schema.and_then(|s| date_text(s, *n)) {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
        },
        Datum::F32(n) if n.is_finite() => json::write_f32(out, *n),
        Datum::F64(n) if n.is_finite() => json::write_f64(out, *n),
        Datum::F32(n) => special(out, f64::from(*n)),
        Datum::F64(n) => special(out, *n),
        Datum::Str(s) => text(out, s.as_bytes(), embedded),
        Datum::Text(s) => text(out, s, embedded),
        Datum::Bytes(_) | Datum::Short(_) | Datum::Hex(_) => {
            let bytes = datum.to_bytes().unwrap_or_default();
            if let Some(scale) = schema.and_then(decimal_scale) {
                out.extend_from_slice(super::convert::decimal::to_java_string(&bytes, scale).as_bytes());
                return;
            }
            let mut quoted = Vec::new();
            json::write_base64(&mut quoted, &bytes);
            let inner = quoted.get(1..quoted.len() - 1).unwrap_or_default();
            text(out, inner, embedded);
        }
        Datum::Array(items) => {
            let element = schema.and_then(|s| match &s.kind {
                Kind::Array(e) => Some(e.as_ref()),
                _ => None,
            });
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                simple(out, element, item, true);
            }
            out.push(b']');
        }
        Datum::Map(pairs) => {
            out.push(b'{');
            for (i, (k, v)) in pairs.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                simple(out, None, k, true);
                out.push(b':');
                simple(out, None, v, true);
            }
            out.push(b'}');
        }
        Datum::Struct(values) => {
            out.push(b'{');
            let fields = schema.map_or(&[][..], Schema::fields);
            for (i, (field, value)) in fields.iter().zip(values).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                text(out, field.name.as_bytes(), true);
                out.push(b':');
                simple(out, Some(&field.schema), value, true);
            }
            out.push(b'}');
        }
    }
}

/// Milliseconds since 1970 where the schema is one of Connect's dates, times and timestamps.
pub fn date_millis(schema: &Schema, n: i64) -> Option<i64> {
    match schema.name.as_deref()?.strip_prefix("org.apache.kafka.connect.data.")? {
        "Date" => Some(n.saturating_mul(86_400_000)),
        "Time" | "Timestamp" => Some(n),
        _ => None,
    }
}

/// `Values.dateFormatFor`: a time within the first day, a date at midnight, else both; `None` for what is no date.
pub fn date_text(schema: &Schema, n: i64) -> Option<String> {
    let ms = date_millis(schema, n)?;
    let at = chrono::DateTime::<chrono::Utc>::from_timestamp_millis(ms)?;
    let format = if ms < 86_400_000 {
        "%H:%M:%S%.3fZ"
    } else if ms % 86_400_000 == 0 {
        "%Y-%m-%d"
    } else {
        "%Y-%m-%dT%H:%M:%S%.3fZ"
    };
    Some(at.format(format).to_string())
}

fn decimal_scale(schema: &Schema) -> Option<i32> {
    (schema.name.as_deref() == Some("org.apache.kafka.connect.data.Decimal"))
        .then(|| schema.get_parameter("scale").and_then(|s| s.parse().ok()).unwrap_or(0))
}

fn special(out: &mut Vec<u8>, n: f64) {
    out.extend_from_slice(if n.is_nan() {
        b"NaN"
    } else if n > 0.0 {
        b"Infinity"
    } else {
        b"-Infinity"
    });
}

/// Quotes and backslashes are escaped, nothing else.
fn text(out: &mut Vec<u8>, text: &[u8], embedded: bool) {
    if !embedded {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for b in text {
        if matches!(b, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out.push(b'"');
}
