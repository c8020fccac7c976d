//! What Kafka Connect's `JsonConverter` writes, byte for byte (Jackson's escapes, Java's number texts).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::datum::{Datum, nibble};
use super::schema::{Kind, Schema};
use crate::java;

/// Settings of a `JsonConverter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JsonOptions {
    /// `schemas.enable`: `{"schema":…,"payload":…}`.
    pub schemas: bool,
    /// `decimal.format` is NUMERIC.
    pub numeric_decimals: bool,
    /// `replace.null.with.default`.
    pub replace_null_with_default: bool,
}

impl Default for JsonOptions {
    fn default() -> Self {
        Self { schemas: true, numeric_decimals: false, replace_null_with_default: true }
    }
}

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// Appends a value of this schema.
pub fn write(out: &mut Vec<u8>, schema: &Schema, datum: &Datum<'_>, options: &JsonOptions) {
    match datum {
        Datum::Null => match &schema.default {
            Some(default) if options.replace_null_with_default && !default.is_null() => {
                write(out, schema, default, options);
            }
            _ => out.extend_from_slice(b"null"),
        },
        Datum::Bool(true) => out.extend_from_slice(b"true"),
        Datum::Bool(false) => out.extend_from_slice(b"false"),
        Datum::Int(n) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
        Datum::F32(n) => write_f32(out, *n),
        Datum::F64(n) => write_f64(out, *n),
        Datum::Str(s) => write_str(out, s.as_bytes()),
        Datum::Text(s) => write_str(out, s),
        Datum::Bytes(b) => write_bytes(out, schema, b, options),
        Datum::Short(b) => write_bytes(out, schema, b, options),
        Datum::Hex(h) => write_base64_of_hex(out, h),
        Datum::Array(items) => {
            let Kind::Array(element) = &schema.kind else { return out.extend_from_slice(b"null") };
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write(out, element, item, options);
            }
            out.push(b']');
        }
        Datum::Map(pairs) => write_map(out, schema, pairs, options),
        Datum::Struct(values) => {
            out.push(b'{');
            for (i, (field, value)) in schema.fields().iter().zip(values).enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_str(out, field.name.as_bytes());
                out.push(b':');
                write(out, &field.schema, value, options);
            }
            out.push(b'}');
        }
    }
}

/// Appends a value that has no schema: a map is an object, a struct has no field names and becomes a list.
pub fn write_schemaless(out: &mut Vec<u8>, datum: &Datum<'_>) {
    let list = |out: &mut Vec<u8>, items: &[Datum<'_>]| {
        out.push(b'[');
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_schemaless(out, item);
        }
        out.push(b']');
    };
    match datum {
        Datum::Null => out.extend_from_slice(b"null"),
        Datum::Bool(true) => out.extend_from_slice(b"true"),
        Datum::Bool(false) => out.extend_from_slice(b"false"),
        Datum::Int(n) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
        Datum::F32(n) => write_f32(out, *n),
        Datum::F64(n) => write_f64(out, *n),
        Datum::Str(s) => write_str(out, s.as_bytes()),
        Datum::Text(s) => write_str(out, s),
        Datum::Bytes(b) => write_base64(out, b),
        Datum::Short(b) => write_base64(out, b),
        Datum::Hex(h) => write_base64_of_hex(out, h),
        Datum::Array(items) | Datum::Struct(items) => list(out, items),
        Datum::Map(pairs) if pairs.iter().all(|(k, _)| k.as_str().is_some()) => {
            out.push(b'{');
            for (i, (k, v)) in pairs.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_schemaless(out, k);
                out.push(b':');
                write_schemaless(out, v);
            }
            out.push(b'}');
        }
        Datum::Map(pairs) => {
            out.push(b'[');
            for (i, (k, v)) in pairs.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                out.push(b'[');
                write_schemaless(out, k);
                out.push(b',');
                write_schemaless(out, v);
                out.push(b']');
            }
            out.push(b']');
        }
    }
}

fn write_map(out: &mut Vec<u8>, schema: &Schema, pairs: &[(Datum<'_>, Datum<'_>)], options: &JsonOptions) {
    let Kind::Map(keys, values) = &schema.kind else { return out.extend_from_slice(b"null") };
    // JsonConverter: an object where the keys are required strings, else pairs
    let object = keys.kind == Kind::String && !keys.optional;
    out.push(if object { b'{' } else { b'[' });
    for (i, (k, v)) in pairs.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if object {
            write(out, keys, k, options);
            out.push(b':');
            write(out, values, v, options);
        } else {
            out.push(b'[');
            write(out, keys, k, options);
            out.push(b',');
            write(out, values, v, options);
            out.push(b']');
        }
    }
    out.push(if object { b'}' } else { b']' });
}

fn write_bytes(out: &mut Vec<u8>, schema: &Schema, bytes: &[u8], options: &JsonOptions) {
    if options.numeric_decimals && schema.name.as_deref() == Some(DECIMAL) {
        let scale = schema.get_parameter("scale").and_then(|s| s.parse().ok()).unwrap_or(0);
        let text = super::convert::decimal::to_java_string(bytes, scale);
        out.extend_from_slice(text.as_bytes());
        return;
    }
    write_base64(out, bytes);
}

/// Appends bytes as a base64 string.
pub fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    let Some(len) = base64::encoded_len(bytes.len(), true) else { return out.push(b'"') };
    make_room(out, len);
    out.resize(start + len, 0);
    // the slice has exactly the encoded length, so this cannot fail
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

/// Appends bytes given in hexadecimal as a base64 string, without an intermediate copy.
pub fn write_base64_of_hex(out: &mut Vec<u8>, hex: &[u8]) {
    const TABLE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let pick = |n: u8| TABLE[usize::from(n & 63)];
    make_room(out, hex.len() * 2 / 3 + 6);
    out.push(b'"');
    let mut groups = hex.chunks_exact(6);
    for g in &mut groups {
        let a = nibble(g[0]) << 4 | nibble(g[1]);
        let b = nibble(g[2]) << 4 | nibble(g[3]);
        let c = nibble(g[4]) << 4 | nibble(g[5]);
        out.extend_from_slice(&[pick(a >> 2), pick(a << 4 | b >> 4), pick(b << 2 | c >> 6), pick(c)]);
    }
    let rest = super::datum::unhex(groups.remainder());
    match rest[..] {
        [a] => out.extend_from_slice(&[pick(a >> 2), pick(a << 4), b'=', b'=']),
        [a, b] => out.extend_from_slice(&[pick(a >> 2), pick(a << 4 | b >> 4), pick(b << 2), b'=']),
        _ => {}
    }
    out.push(b'"');
}

/// Marks the first byte of a character of four.
const BEYOND: u8 = 1;

/// What follows the backslash; 0 for bytes that stay, [`BEYOND`], and `u` for four digits.
const fn escapes() -> [u8; 256] {
    let mut table = [0u8; 256];
    let mut i = 0xF0;
    while i <= 0xF4 {
        table[i] = BEYOND;
        i += 1;
    }
    i = 0;
    while i < 32 {
        table[i] = b'u';
        i += 1;
    }
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[8] = b'b';
    table[12] = b'f';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
}

static ESCAPES: [u8; 256] = escapes();

/// Makes room for a large value, and for the rest of the event as well: else the few bytes behind it double the memory.
pub(super) fn make_room(out: &mut Vec<u8>, len: usize) {
    if len > 64 << 10 {
        out.reserve(len + len / 16);
    }
}

/// Appends a JSON string as Jackson writes it in UTF-8: quotes, backslashes and control characters are escaped, and
/// characters beyond U+FFFF, as two surrogates.
pub fn write_str(out: &mut Vec<u8>, text: &[u8]) {
    write_escaped(out, text, true);
}

/// Appends a JSON string as Jackson writes it into a Java string: only quotes, backslashes and control characters are
/// escaped. That is what JSON within a value is made of.
pub(super) fn write_inner_str(out: &mut Vec<u8>, text: &[u8]) {
    write_escaped(out, text, false);
}

fn write_escaped(out: &mut Vec<u8>, text: &[u8], surrogates: bool) {
    make_room(out, text.len());
    out.push(b'"');
    let mut start = 0;
    for (i, &byte) in text.iter().enumerate() {
        let escape = ESCAPES[usize::from(byte)];
        if escape == 0 {
            continue;
        }
        if escape == BEYOND {
            let end = text.len().min(i + 4);
            let character = std::str::from_utf8(&text[i..end]).ok().and_then(|c| c.chars().next());
            if let Some(character) = character.filter(|_| surrogates) {
                out.extend_from_slice(&text[start..i]);
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let [high, low] = unit.to_be_bytes();
                    out.extend_from_slice(b"\\u");
                    out.extend_from_slice(&hex(high));
                    out.extend_from_slice(&hex(low));
                }
                start = end;
            }
            continue;
        }
        out.extend_from_slice(&text[start..i]);
        out.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            out.extend_from_slice(b"00");
            out.extend_from_slice(&hex(byte));
        }
        start = i + 1;
    }
    out.extend_from_slice(&text[start..]);
    out.push(b'"');
}

fn hex(byte: u8) -> [u8; 2] {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

/// Appends a single precision number as Java prints it; NaN and infinities as strings.
pub fn write_f32(out: &mut Vec<u8>, n: f32) {
    write_number(out, n.is_finite(), &java::float::float(n));
}

/// Appends a double precision number as Java prints it; NaN and infinities as strings.
pub fn write_f64(out: &mut Vec<u8>, n: f64) {
    write_number(out, n.is_finite(), &java::float::double(n));
}

fn write_number(out: &mut Vec<u8>, finite: bool, text: &[u8]) {
    if finite {
        out.extend_from_slice(text);
    } else {
        // Jackson quotes what is no JSON number.
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_none_in_json_are_strings() {
        for (n, text) in [(1.5, "1.5"), (f64::NAN, "\"NaN\""), (f64::NEG_INFINITY, "\"-Infinity\"")] {
            let mut out = Vec::new();
            write_f64(&mut out, n);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn strings_are_escaped_as_jackson_does() {
        let mut out = Vec::new();
        write_str(&mut out, "a\"b\\c\n\u{1}\u{1f}é\u{7f}/".as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\\\"b\\\\c\\n\\u0001\\u001Fé\u{7f}/\"");
        let mut out = Vec::new();
        write_str(&mut out, "é日😀a\u{10ffff}".as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), "\"é日\\uD83D\\uDE00a\\uDBFF\\uDFFF\"");
        let mut out = Vec::new();
        write_inner_str(&mut out, "é😀\"".as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), "\"é😀\\\"\"");
        // what is no UTF-8 stays
        let mut out = Vec::new();
        write_str(&mut out, b"\xF0\x9F");
        assert_eq!(out, b"\"\xF0\x9F\"");
    }

    #[test]
    fn hexadecimal_to_base64() {
        for (hex, text) in [
            ("", "\"\""),
            ("de", "\"3g==\""),
            ("dead", "\"3q0=\""),
            ("deadbe", "\"3q2+\""),
            ("deadbeef", "\"3q2+7w==\""),
        ] {
            let mut out = Vec::new();
            write_base64_of_hex(&mut out, hex.as_bytes());
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }
}
