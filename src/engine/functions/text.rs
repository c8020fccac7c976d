//! Regular expressions (Java's flavour), hashes, encodings, URLs.

use std::cell::RefCell;
use std::rc::Rc;

use base64::Engine as _;
use fancy_regex::Regex;
use hashbrown::HashMap;
use openssl::hash::{MessageDigest, hash};

use super::super::error::EvalError;
use super::super::row::Value;
use super::{Call, Scalar};
use crate::java::regex;

pub(super) fn lookup(name: &str) -> Option<(Scalar, bool)> {
    Some(match name {
        "REGEXP" => (regexp, true),
        "REGEXP_REPLACE" => (regexp_replace, true),
        "REGEXP_EXTRACT" => (regexp_extract, true),
        "REGEXP_EXTRACT_ALL" => (regexp_extract_all, true),
        "REGEXP_COUNT" => (regexp_count, true),
        "REGEXP_SUBSTR" => (regexp_substr, true),
        "REGEXP_INSTR" => (regexp_instr, true),
        "SIMILAR" => (similar, true),
        "STR_TO_MAP" => (str_to_map, true),
        "MD5" => (|call| digest(call, MessageDigest::md5()), true),
        "SHA1" => (|call| digest(call, MessageDigest::sha1()), true),
        "SHA224" => (|call| digest(call, MessageDigest::sha224()), true),
        "SHA256" => (|call| digest(call, MessageDigest::sha256()), true),
        "SHA384" => (|call| digest(call, MessageDigest::sha384()), true),
        "SHA512" => (|call| digest(call, MessageDigest::sha512()), true),
        "SHA2" => (sha2, true),
        "HEX" => (hex, true),
        "UNHEX" => (unhex, true),
        "TO_BASE64" => {
            (|call| Ok(Value::from(base64::engine::general_purpose::STANDARD.encode(bytes(call, 0)?))), true)
        }
        "FROM_BASE64" => (from_base64, true),
        "ENCODE" => (encode, true),
        "DECODE" => (decode, true),
        "URL_ENCODE" => (url_encode, true),
        "URL_DECODE" => (url_decode, true),
        "PARSE_URL" => (parse_url, true),
        _ => return None,
    })
}

/// Patterns kept compiled per thread.
const KEPT: usize = 256;

thread_local! {
    static PATTERNS: RefCell<HashMap<String, Option<Rc<Regex>>, ahash::RandomState>> = RefCell::default();
}

/// A compiled pattern; `None` when it is no regular expression.
fn pattern(text: &str) -> Option<Rc<Regex>> {
    PATTERNS.with_borrow_mut(|patterns| {
        if let Some(known) = patterns.get(text) {
            return known.clone();
        }
        if patterns.len() >= KEPT {
            patterns.clear();
        }
        let compiled = regex::translate(text).and_then(|text| Regex::new(&text).ok()).map(Rc::new);
        patterns.insert(text.to_owned(), compiled.clone());
        compiled
    })
}

fn regexp(call: &Call<'_>) -> Result<Value, EvalError> {
    let (text, regex) = (call.str(0)?, call.str(1)?);
    let found =
        !regex.is_empty() && pattern(regex).is_some_and(|regex| regex.is_match(text).unwrap_or(false));
    Ok(Value::Bool(found))
}

fn regexp_replace(call: &Call<'_>) -> Result<Value, EvalError> {
    let (text, new) = (call.str(0)?, call.str(2)?);
    Ok(match pattern(call.str(1)?) {
        // what the engine gives up is NULL, as what Flink's function catches is
        Some(regex) => regex
            .try_replacen(text, 0, fancy_regex::NoExpand(new))
            .map_or(Value::Null, |replaced| Value::str(&replaced)),
        None => Value::Null,
    })
}

/// A group number; `None` outside of what the pattern has.
fn group(call: &Call<'_>, at: usize, default: usize) -> Option<usize> {
    if call.args.len() > at {
        call.int(at).ok().and_then(|group| usize::try_from(group).ok())
    } else {
        Some(default)
    }
}

fn regexp_extract(call: &Call<'_>) -> Result<Value, EvalError> {
    let text = call.str(0)?;
    let (Some(regex), Some(group)) = (pattern(call.str(1)?), group(call, 2, 0)) else {
        return Ok(Value::Null);
    };
    let captures = regex.captures(text).ok().flatten();
    Ok(captures
        .and_then(|captures| captures.get(group).map(|found| Value::str(found.as_str())))
        .unwrap_or(Value::Null))
}

fn regexp_extract_all(call: &Call<'_>) -> Result<Value, EvalError> {
    let text = call.str(0)?;
    let (Some(regex), Some(group)) = (pattern(call.str(1)?), group(call, 2, 1)) else {
        return Ok(Value::Null);
    };
    if group >= regex.captures_len() {
        return Ok(Value::Null);
    }
    let all = regex.captures_iter(text).filter_map(Result::ok);
    Ok(Value::Array(
        all.map(|found| found.get(group).map_or(Value::Null, |m| Value::str(m.as_str()))).collect(),
    ))
}

fn regexp_count(call: &Call<'_>) -> Result<Value, EvalError> {
    let Some(regex) = pattern(call.str(1)?) else { return Ok(Value::Null) };
    let count = regex.find_iter(call.str(0)?).filter_map(Result::ok).count();
    Ok(Value::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

fn regexp_substr(call: &Call<'_>) -> Result<Value, EvalError> {
    let text = call.str(0)?;
    let found = pattern(call.str(1)?)
        .and_then(|regex| regex.find(text).ok().flatten().map(|m| Value::str(m.as_str())));
    Ok(found.unwrap_or(Value::Null))
}

fn regexp_instr(call: &Call<'_>) -> Result<Value, EvalError> {
    let text = call.str(0)?;
    let Some(regex) = pattern(call.str(1)?) else { return Ok(Value::Null) };
    Ok(Value::Int(match regex.find(text).ok().flatten() {
        Some(found) => {
            // counted as Java counts: in UTF-16
            let before = text.get(..found.start()).map_or(0, |before| before.encode_utf16().count());
            i64::try_from(before + 1).unwrap_or(i64::MAX)
        }
        None => 0,
    }))
}

/// SIMILAR TO: SQL's wildcards in a regular expression that must match the whole text.
fn similar(call: &Call<'_>) -> Result<Value, EvalError> {
    let escape = if call.args.len() > 2 { call.str(2)?.chars().next() } else { None };
    let mut regex = String::from("^(?s:");
    let mut chars = call.str(1)?.chars();
    let mut bracket = false;
    while let Some(c) = chars.next() {
        match c {
            c if Some(c) == escape => {
                let next = chars.next().ok_or_else(|| EvalError::new("Invalid escape sequence"))?;
                regex.push_str(&fancy_regex::escape(next.encode_utf8(&mut [0; 4])));
            }
            '[' if bracket => {
                let name: String = chars.by_ref().take_while(|c| *c != ']').collect();
                // As Calcite has them.
                regex.push_str(match name.to_ascii_lowercase().as_str() {
                    ":alpha:" => "a-zA-Z",
                    ":upper:" => "A-Z",
                    ":lower:" => "a-z",
                    ":digit:" => "0-9",
                    ":alnum:" => "a-zA-Z0-9",
                    ":space:" => " ",
                    ":whitespace:" => r"\s",
                    _ => return Err(EvalError::new("SIMILAR TO: the pattern is not valid")),
                });
            }
            '[' | ']' => {
                bracket = c == '[';
                regex.push(c);
            }
            '%' if !bracket => regex.push_str(".*"),
            '_' if !bracket => regex.push('.'),
            // '^' keeps its meaning, as in Calcite
            '$' | '\\' if !bracket => {
                regex.push('\\');
                regex.push(c);
            }
            c => regex.push(c),
        }
    }
    regex.push_str(")$");
    let compiled = pattern(&regex).ok_or_else(|| EvalError::new("SIMILAR TO: the pattern is not valid"))?;
    Ok(Value::Bool(compiled.is_match(call.str(0)?).unwrap_or(false)))
}

/// Splits as Java's `String.split(regex)`: empty parts at the end are dropped.
fn java_split<'a>(text: &'a str, regex: &str) -> Vec<&'a str> {
    let mut parts: Vec<&str> = match pattern(regex) {
        Some(regex) => regex.split(text).filter_map(Result::ok).collect(),
        None => vec![text],
    };
    while parts.len() > 1 && parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    parts
}

fn str_to_map(call: &Call<'_>) -> Result<Value, EvalError> {
    let text = call.str(0)?;
    let (list, pair) = if call.args.len() > 2 { (call.str(1)?, call.str(2)?) } else { (",", "=") };
    let mut entries: Vec<(Value, Value)> = Vec::new();
    if text.is_empty() {
        return Ok(Value::Map(entries.into()));
    }
    for part in java_split(text, list) {
        let found =
            pattern(pair).and_then(|regex| regex.find(part).ok().flatten().map(|m| (m.start(), m.end())));
        let (key, value) = match found {
            Some((start, end)) => {
                (part.get(..start).unwrap_or(""), part.get(end..).map_or(Value::Null, Value::str))
            }
            None => (part, Value::Null),
        };
        let key = Value::str(key);
        match entries.iter_mut().find(|entry| entry.0 == key) {
            Some(entry) => entry.1 = value,
            None => entries.push((key, value)),
        }
    }
    Ok(Value::Map(entries.into()))
}

fn bytes<'a>(call: &Call<'a>, at: usize) -> Result<&'a [u8], EvalError> {
    match call.arg(at) {
        Value::Bytes(bytes) => Ok(bytes),
        _ => call.str(at).map(str::as_bytes),
    }
}

fn hex_text(bytes: &[u8], digits: &[u8; 16]) -> String {
    let digit = |n: u8| digits.get(usize::from(n & 15)).copied().map_or('0', char::from);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

fn digest(call: &Call<'_>, algorithm: MessageDigest) -> Result<Value, EvalError> {
    let digest = hash(algorithm, bytes(call, 0)?).map_err(|error| EvalError::new(error.to_string()))?;
    Ok(Value::from(hex_text(&digest, b"0123456789abcdef")))
}

fn sha2(call: &Call<'_>) -> Result<Value, EvalError> {
    match call.int(1)? {
        224 => digest(call, MessageDigest::sha224()),
        256 => digest(call, MessageDigest::sha256()),
        384 => digest(call, MessageDigest::sha384()),
        512 => digest(call, MessageDigest::sha512()),
        other => Err(EvalError::new(format!("Unsupported algorithm: SHA-{other}"))),
    }
}

fn hex(call: &Call<'_>) -> Result<Value, EvalError> {
    Ok(Value::from(match call.arg(0) {
        Value::Int(number) => format!("{number:X}"),
        _ => hex_text(bytes(call, 0)?, b"0123456789ABCDEF"),
    }))
}

fn unhex(call: &Call<'_>) -> Result<Value, EvalError> {
    let text = call.str(0)?;
    // Of an odd number of digits the first counts for nothing.
    let padded = if text.len() % 2 == 1 && text.is_ascii() {
        format!("00{}", text.get(1..).unwrap_or(""))
    } else {
        text.to_owned()
    };
    let digits: Option<Vec<u8>> =
        padded.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let Some(digits) = digits else { return Ok(Value::Null) };
    let pairs = digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit));
    Ok(Value::Bytes(pairs.collect()))
}

/// Padding may be missing, as in Java.
const LENIENT: base64::engine::GeneralPurpose = base64::engine::GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    base64::engine::GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

fn from_base64(call: &Call<'_>) -> Result<Value, EvalError> {
    let decoded = LENIENT.decode(bytes(call, 0)?);
    let decoded = decoded.map_err(|error| EvalError::new(format!("FROM_BASE64: {error}")))?;
    Ok(Value::str(&String::from_utf8_lossy(&decoded)))
}

fn charset(name: &str) -> Result<&'static str, EvalError> {
    Ok(match name.to_ascii_uppercase().as_str() {
        "UTF-8" | "UTF8" => "UTF-8",
        "US-ASCII" | "ASCII" => "US-ASCII",
        "ISO-8859-1" | "LATIN1" => "ISO-8859-1",
        "UTF-16" => "UTF-16",
        "UTF-16BE" => "UTF-16BE",
        "UTF-16LE" => "UTF-16LE",
        _ => return Err(EvalError::new(format!("Unsupported encoding: {name}"))),
    })
}

fn encode(call: &Call<'_>) -> Result<Value, EvalError> {
    let text = call.str(0)?;
    let narrow = |limit: u32| {
        text.chars()
            .map(move |c| u8::try_from(u32::from(c)).ok().filter(|_| u32::from(c) < limit).unwrap_or(b'?'))
    };
    Ok(Value::Bytes(match charset(call.str(1)?)? {
        "UTF-8" => text.as_bytes().into(),
        "US-ASCII" => narrow(128).collect(),
        "ISO-8859-1" => narrow(256).collect(),
        "UTF-16LE" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "UTF-16" => [0xfe, 0xff].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect(),
        _ => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    }))
}

fn decode(call: &Call<'_>) -> Result<Value, EvalError> {
    let bytes = bytes(call, 0)?;
    let wide = |bytes: &[u8], little: bool| {
        let units: Vec<u16> = bytes
            .chunks_exact(2)
            .filter_map(|pair| <[u8; 2]>::try_from(pair).ok())
            .map(|pair| if little { u16::from_le_bytes(pair) } else { u16::from_be_bytes(pair) })
            .collect();
        String::from_utf16_lossy(&units)
    };
    Ok(Value::from(match charset(call.str(1)?)? {
        "UTF-8" => String::from_utf8_lossy(bytes).into_owned(),
        "US-ASCII" => bytes.iter().map(|&b| if b < 128 { char::from(b) } else { '\u{fffd}' }).collect(),
        "ISO-8859-1" => bytes.iter().map(|&b| char::from(b)).collect(),
        "UTF-16LE" => wide(bytes, true),
        "UTF-16" => match bytes {
            [0xff, 0xfe, rest @ ..] => wide(rest, true),
            [0xfe, 0xff, rest @ ..] => wide(rest, false),
            _ => wide(bytes, false),
        },
        _ => wide(bytes, false),
    }))
}

fn url_encode(call: &Call<'_>) -> Result<Value, EvalError> {
    let mut out = String::new();
    for byte in call.str(0)?.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                out.push('%');
                out.push_str(&hex_text(&[byte], b"0123456789ABCDEF"));
            }
        }
    }
    Ok(Value::from(out))
}

fn url_decode(call: &Call<'_>) -> Result<Value, EvalError> {
    let text = call.str(0)?.replace('+', " ");
    let valid = text.match_indices('%').all(|(at, _)| {
        text.get(at + 1..at + 3).is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    });
    if !valid {
        return Ok(Value::Null);
    }
    Ok(Value::str(&percent_encoding::percent_decode_str(&text).decode_utf8_lossy()))
}

fn parse_url(call: &Call<'_>) -> Result<Value, EvalError> {
    let (url, part) = (call.str(0)?, call.str(1)?);
    let Some((protocol, rest)) = url.split_once(':') else { return Ok(Value::Null) };
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "http" | "https" | "ftp" | "file" | "jar" | "mailto")
        || (call.args.len() > 2 && part != "QUERY")
    {
        return Ok(Value::Null);
    }
    // without `//` there is no authority: all of it is the path
    let authorized = rest.starts_with("//");
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let (rest, reference) =
        rest.split_once('#').map_or((rest, None), |(rest, reference)| (rest, Some(reference)));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) =
        if authorized { rest.split_at(rest.find('/').unwrap_or(rest.len())) } else { ("", rest) };
    let (user, host) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let host = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let found = match part {
        "PROTOCOL" => Some(protocol),
        "HOST" => Some(host.to_owned()),
        "PATH" => Some(path.to_owned()),
        "QUERY" if call.args.len() > 2 => {
            let key = call.str(2)?;
            query
                .and_then(|query| {
                    query.split('&').find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key))
                })
                .map(|(_, value)| value.to_owned())
        }
        "QUERY" => query.map(str::to_owned),
        "REF" => reference.map(str::to_owned),
        "AUTHORITY" => Some(authority.to_owned()),
        "USERINFO" => user.map(str::to_owned),
        "FILE" => Some(query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))),
        _ => None,
    };
    Ok(found.map_or(Value::Null, Value::from))
}
