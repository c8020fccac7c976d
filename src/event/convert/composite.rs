//! Values with parts: hstore, geometric types, vectors.

use std::borrow::Cow;

use super::super::datum::{Datum, unhex};
use super::super::options::HstoreMode;
use super::super::{java, json};

/// `"a"=>"1", "b"=>NULL`.
pub(super) fn hstore(text: &str, mode: HstoreMode) -> Option<Datum<'static>> {
    let mut pairs = hstore_pairs(text)?;
    // Debezium goes through a HashMap
    java::hash_map_order(&mut pairs, |(key, _)| key);
    Some(match mode {
        HstoreMode::Json => {
            let mut out = vec![b'{'];
            for (i, (k, v)) in pairs.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                json::write_inner_str(&mut out, k.as_bytes());
                out.push(b':');
                match v {
                    Some(v) => json::write_inner_str(&mut out, v.as_bytes()),
                    None => out.extend_from_slice(b"null"),
                }
            }
            out.push(b'}');
            Datum::string(String::from_utf8(out).ok()?)
        }
        HstoreMode::Map => Datum::Map(
            pairs
                .into_iter()
                .map(|(k, v)| (Datum::string(k), v.map_or(Datum::Null, Datum::string)))
                .collect(),
        ),
    })
}

fn hstore_pairs(text: &str) -> Option<Vec<(String, Option<String>)>> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = quoted(rest)?;
        let after = after.trim_start().strip_prefix("=>")?.trim_start();
        let (value, after) = match after.strip_prefix("NULL") {
            Some(after) => (None, after),
            None => {
                let (v, after) = quoted(after)?;
                (Some(v), after)
            }
        };
        pairs.push((key, value));
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    Some(pairs)
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let mut out = String::new();
    let mut chars = body.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((out, &body[i + 1..])),
            '\\' => out.push(chars.next()?.1),
            c => out.push(c),
        }
    }
    None
}

/// `(1.5,-2)`.
pub(super) fn point(text: &str) -> Option<Datum<'static>> {
    let (x, y) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    Some(make_point(x.trim().parse().ok()?, y.trim().parse().ok()?))
}

/// The struct of a point, with its little-endian WKB.
pub(super) fn make_point(x: f64, y: f64) -> Datum<'static> {
    let mut wkb = vec![1, 1, 0, 0, 0];
    wkb.extend_from_slice(&x.to_le_bytes());
    wkb.extend_from_slice(&y.to_le_bytes());
    Datum::Struct(vec![Datum::F64(x), Datum::F64(y), Datum::Bytes(Cow::Owned(wkb)), Datum::Null])
}

/// PostGIS' hexadecimal EWKB: the bytes and the SRID in them.
pub(super) fn geometry(text: &[u8]) -> Option<Datum<'static>> {
    if text.len() < 10 || !text.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let wkb = unhex(text);
    let little = wkb.first() == Some(&1);
    let word = |at: usize| -> Option<u32> {
        let bytes: [u8; 4] = wkb.get(at..at + 4)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let srid = if word(1)? & 0x2000_0000 != 0 { Datum::Int(i64::from(word(5)?)) } else { Datum::Null };
    Some(Datum::Struct(vec![Datum::Bytes(Cow::Owned(wkb)), srid]))
}

/// Debezium's stand-in for a missing geometry: an empty collection.
pub(super) fn empty_geometry() -> Datum<'static> {
    Datum::Struct(vec![Datum::Bytes(Cow::Borrowed(&[1, 7, 0, 0, 0, 0, 0, 0, 0])), Datum::Null])
}

/// A geometric value as pgjdbc prints it: every number as a Java double.
pub(super) fn geometric(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 2);
    let mut at = 0;
    let numeric = |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E');
    while at < text.len() {
        let len = text[at..].iter().take_while(|b| numeric(b)).count();
        if len == 0 {
            out.push(text[at]);
            at += 1;
            continue;
        }
        let token = &text[at..at + len];
        match std::str::from_utf8(token).ok().and_then(|t| t.parse::<f64>().ok()) {
            Some(n) => json::write_f64(&mut out, n),
            None => out.extend_from_slice(token),
        }
        at += len;
    }
    out
}

/// `[1,2.5,3]`.
pub(super) fn vector(text: &str, half: bool) -> Option<Datum<'static>> {
    let body = text.strip_prefix('[')?.strip_suffix(']')?;
    let items = body.split(',').filter(|t| !t.is_empty()).map(|t| {
        let t = t.trim();
        if half { t.parse().ok().map(Datum::F32) } else { t.parse().ok().map(Datum::F64) }
    });
    items.collect::<Option<Vec<_>>>().map(Datum::Array)
}

/// `{1:1.5,3:2}/5`.
pub(super) fn sparse_vector(text: &str) -> Option<Datum<'static>> {
    let (body, dimensions) = text.rsplit_once('/')?;
    let body = body.strip_prefix('{')?.strip_suffix('}')?;
    let pairs = body.split(',').filter(|t| !t.is_empty()).map(|pair| {
        let (i, n) = pair.split_once(':')?;
        Some((Datum::Int(i.trim().parse().ok()?), Datum::F64(n.trim().parse().ok()?)))
    });
    let map = pairs.collect::<Option<Vec<_>>>()?;
    Some(Datum::Struct(vec![Datum::Int(dimensions.trim().parse().ok()?), Datum::Map(map)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hstore_as_json() {
        assert_eq!(
            hstore(r#""a"=>"1", "b"=>NULL, "c d"=>"x\"y""#, HstoreMode::Json),
            Some(Datum::string(r#"{"a":"1","b":null,"c d":"x\"y"}"#))
        );
        assert_eq!(hstore("", HstoreMode::Json), Some(Datum::string("{}")));
    }

    #[test]
    fn geometric_texts() {
        assert_eq!(geometric(b"{1,2,3}"), b"{1.0,2.0,3.0}");
        assert_eq!(geometric(b"<(1,1),5>"), b"<(1.0,1.0),5.0>");
        assert_eq!(geometric(b"[(0,0),(1,1)]"), b"[(0.0,0.0),(1.0,1.0)]");
    }
}
