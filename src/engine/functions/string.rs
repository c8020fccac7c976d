//! Functions on strings. Positions count code points from 1.

use super::super::error::EvalError;
use super::super::row::Value;
use super::{Call, Scalar, printf};

pub(super) fn lookup(name: &str) -> Option<(Scalar, bool)> {
    Some(match name {
        "CHAR_LENGTH" => (|call| count(call.str(0)?.chars().count()), true),
        "UPPER" => (|call| Ok(Value::from(call.str(0)?.to_uppercase())), true),
        "LOWER" => (|call| Ok(Value::from(call.str(0)?.to_lowercase())), true),
        "INITCAP" => (initcap, true),
        "SUBSTRING" => (substring, true),
        "LEFT" => (left, true),
        "RIGHT" => (right, true),
        "POSITION" => (|call| position(call.str(1)?, call.str(0)?, 1, 1), true),
        "LOCATE" => (
            |call| {
                let from = if call.args.len() > 2 { call.int(2)? } else { 1 };
                position(call.str(1)?, call.str(0)?, from.max(1), 1)
            },
            true,
        ),
        "INSTR" => (instr, true),
        "TRIM" => (trim, true),
        "LTRIM" => (|call| trim_sides(call, true, false), true),
        "RTRIM" => (|call| trim_sides(call, false, true), true),
        "BTRIM" => (|call| trim_sides(call, true, true), true),
        "LPAD" => (|call| pad(call, true), true),
        "RPAD" => (|call| pad(call, false), true),
        "REPEAT" => (repeat, true),
        "REVERSE" => (|call| Ok(Value::from(call.str(0)?.chars().rev().collect::<String>())), true),
        "REPLACE" => (|call| Ok(Value::from(call.str(0)?.replace(call.str(1)?, call.str(2)?))), true),
        "OVERLAY" => (overlay, true),
        "TRANSLATE" => (translate, false),
        "CONCAT" | "||" => (concat, true),
        "CONCAT_WS" => (concat_ws, false),
        "SPLIT_INDEX" => (split_index, true),
        "SPLIT" => (split, true),
        "STARTSWITH" => (|call| starts(call, <[u8]>::starts_with), true),
        "ENDSWITH" => (|call| starts(call, <[u8]>::ends_with), true),
        // the first byte, signed as Java's bytes are
        "ASCII" => (
            |call| Ok(Value::Int(call.str(0)?.bytes().next().map_or(0, |b| i64::from(b.cast_signed())))),
            true,
        ),
        "CHR" => (chr, true),
        "IS_ALPHA" => (|call| all(call, char::is_alphabetic), false),
        "IS_DIGIT" => (|call| all(call, |c| c.is_numeric()), false),
        "IS_DECIMAL" => (is_decimal, false),
        "ELT" => (elt, false),
        "LIKE" => (like, true),
        "PRINTF" => (printf::printf, false),
        _ => return None,
    })
}

fn count(n: usize) -> Result<Value, EvalError> {
    i64::try_from(n).map(Value::Int).map_err(|_| EvalError::new("too long"))
}

fn as_count(n: i64) -> usize {
    usize::try_from(n).unwrap_or(0)
}

/// Code points `from..from + len`.
fn slice(text: &str, from: usize, len: usize) -> &str {
    let mut starts = text.char_indices().map(|(at, _)| at).skip(from);
    let Some(start) = starts.next() else { return "" };
    let end = if len == 0 { start } else { starts.nth(len - 1).unwrap_or(text.len()) };
    text.get(start..end).unwrap_or("")
}

fn initcap(call: &Call<'_>) -> Result<Value, EvalError> {
    let mut inside = false;
    let mut out = String::new();
    for c in call.str(0)?.chars() {
        // only ASCII letters count
        out.push(if inside { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() });
        inside = c.is_ascii_alphanumeric();
    }
    Ok(Value::from(out))
}

fn substring(call: &Call<'_>) -> Result<Value, EvalError> {
    let (text, position) = (call.str(0)?, call.int(1)?);
    let len = if call.args.len() > 2 { call.int(2)? } else { i64::MAX };
    if len < 0 {
        return Ok(Value::Null);
    }
    let start = if position < 0 {
        let from_end = text.chars().count();
        match from_end.checked_sub(usize::try_from(position.unsigned_abs()).unwrap_or(usize::MAX)) {
            Some(start) => start,
            None => return Ok(Value::str("")),
        }
    } else {
        as_count(position.max(1) - 1)
    };
    Ok(Value::str(slice(text, start, as_count(len))))
}

fn left(call: &Call<'_>) -> Result<Value, EvalError> {
    Ok(Value::str(slice(call.str(0)?, 0, as_count(call.int(1)?))))
}

fn right(call: &Call<'_>) -> Result<Value, EvalError> {
    let (text, wanted) = (call.str(0)?, as_count(call.int(1)?));
    Ok(Value::str(slice(text, text.chars().count().saturating_sub(wanted), wanted)))
}

/// The `nth` occurrence from position `from`; 0 where there is none.
fn position(text: &str, wanted: &str, from: i64, nth: i64) -> Result<Value, EvalError> {
    if from < 1 || nth < 1 {
        return Ok(Value::Int(0));
    }
    let Some(start) = text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(as_count(from - 1))
    else {
        return Ok(Value::Int(0));
    };
    let mut at = start;
    for found in 1..=nth {
        match text.get(at..).and_then(|rest| rest.find(wanted)) {
            Some(offset) => at += offset,
            None => return Ok(Value::Int(0)),
        }
        if found < nth {
            at += text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
        }
    }
    count(text.get(..at).map_or(0, |before| before.chars().count()) + 1)
}

fn instr(call: &Call<'_>) -> Result<Value, EvalError> {
    let from = if call.args.len() > 2 { call.int(2)? } else { 1 };
    let nth = if call.args.len() > 3 { call.int(3)? } else { 1 };
    if from >= 0 {
        return position(call.str(0)?, call.str(1)?, from, nth);
    }
    // from the end: occurrences that begin at or before that place, the last first
    let (text, wanted) = (call.str(0)?, call.str(1)?);
    let chars: Vec<char> = text.chars().collect();
    let wanted: Vec<char> = wanted.chars().collect();
    let back = usize::try_from(from.unsigned_abs()).unwrap_or(usize::MAX);
    let Some(start) = chars.len().checked_sub(back).filter(|_| nth > 0) else { return Ok(Value::Int(0)) };
    let found = (0..=start)
        .rev()
        .filter(|at| chars.get(*at..).is_some_and(|rest| rest.starts_with(&wanted)))
        .nth(as_count(nth - 1));
    count(found.map_or(0, |at| at + 1))
}

fn strip<'a>(text: &'a str, chars: &str, left: bool, right: bool) -> &'a str {
    let matches = |c: char| chars.contains(c);
    let text = if left { text.trim_start_matches(matches) } else { text };
    if right { text.trim_end_matches(matches) } else { text }
}

fn trim(call: &Call<'_>) -> Result<Value, EvalError> {
    let side = call.str(0)?;
    Ok(Value::str(strip(call.str(2)?, call.str(1)?, side != "TRAILING", side != "LEADING")))
}

fn trim_sides(call: &Call<'_>, left: bool, right: bool) -> Result<Value, EvalError> {
    let chars = if call.args.len() > 1 { call.str(1)? } else { " " };
    Ok(Value::str(strip(call.str(0)?, chars, left, right)))
}

/// Longest text that a function builds: Java's strings end there, too.
const LONGEST: usize = i32::MAX as usize;

fn pad(call: &Call<'_>, front: bool) -> Result<Value, EvalError> {
    let (text, len, pad) = (call.str(0)?, call.int(1)?, call.str(2)?);
    if len < 0 || pad.is_empty() {
        return Ok(Value::Null);
    }
    // the length is that of Java's strings, where some characters count twice
    let (len, have) = (as_count(len), text.encode_utf16().count());
    if len <= have {
        return Ok(Value::str(slice(text, 0, len)));
    }
    if len > LONGEST {
        return Err(EvalError::new("LPAD and RPAD: the length is too large"));
    }
    let fill = pad.chars().cycle().take(len - have);
    Ok(Value::from(if front {
        fill.chain(text.chars()).collect::<String>()
    } else {
        text.chars().chain(fill).collect::<String>()
    }))
}

fn repeat(call: &Call<'_>) -> Result<Value, EvalError> {
    let (text, times) = (call.str(0)?, as_count(call.int(1)?));
    if text.len().saturating_mul(times) > LONGEST {
        return Err(EvalError::new("REPEAT: the result is too long"));
    }
    Ok(Value::from(text.repeat(times)))
}

fn overlay(call: &Call<'_>) -> Result<Value, EvalError> {
    let (text, new, start) = (call.str(0)?, call.str(1)?, call.int(2)?);
    let have = text.chars().count();
    if start < 1 || as_count(start) > have {
        return Ok(call.arg(0).clone());
    }
    let len =
        if call.args.len() > 3 { call.int(3)? } else { i64::try_from(new.chars().count()).unwrap_or(0) };
    let start = as_count(start - 1);
    let tail = if len <= 0 { have } else { start.saturating_add(as_count(len)) };
    Ok(Value::from([slice(text, 0, start), new, slice(text, tail, have)].concat()))
}

fn translate(call: &Call<'_>) -> Result<Value, EvalError> {
    if call.arg(0).is_null() {
        return Ok(Value::Null);
    }
    // nothing to look for, or nothing to put in its place
    let text_or_none = |at: usize| if call.arg(at).is_null() { Ok("") } else { call.str(at) };
    let (from, to) = (text_or_none(1)?, text_or_none(2)?);
    let mapped = call.str(0)?.chars().filter_map(|c| match from.chars().position(|f| f == c) {
        Some(at) => to.chars().nth(at),
        None => Some(c),
    });
    Ok(Value::from(mapped.collect::<String>()))
}

fn concat(call: &Call<'_>) -> Result<Value, EvalError> {
    if let Value::Bytes(_) = call.arg(0) {
        let parts = call
            .args
            .iter()
            .filter_map(|arg| if let Value::Bytes(bytes) = arg { Some(&**bytes) } else { None });
        return Ok(Value::Bytes(parts.collect::<Vec<_>>().concat().into()));
    }
    let mut out = String::new();
    for at in 0..call.args.len() {
        out.push_str(call.str(at)?);
    }
    Ok(Value::from(out))
}

fn concat_ws(call: &Call<'_>) -> Result<Value, EvalError> {
    if call.arg(0).is_null() {
        return Ok(Value::Null);
    }
    let parts: Vec<&str> = call.args.iter().skip(1).filter_map(Value::as_str).collect();
    Ok(Value::from(parts.join(call.str(0)?)))
}

fn split_index(call: &Call<'_>) -> Result<Value, EvalError> {
    let (text, at) = (call.str(0)?, call.int(2)?);
    let separator = match call.arg(1) {
        Value::Int(code) => match u32::try_from(*code).ok().and_then(char::from_u32) {
            Some(c) => c.to_string(),
            None => return Ok(Value::Null),
        },
        _ => call.str(1)?.to_owned(),
    };
    if at < 0 || text.is_empty() {
        return Ok(Value::Null);
    }
    let part = if separator.is_empty() {
        text.split_whitespace().nth(as_count(at))
    } else {
        text.split(separator.as_str()).nth(as_count(at))
    };
    Ok(part.map_or(Value::Null, Value::str))
}

fn split(call: &Call<'_>) -> Result<Value, EvalError> {
    let (text, separator) = (call.str(0)?, call.str(1)?);
    Ok(Value::Array(if separator.is_empty() {
        text.chars().map(|c| Value::str(c.encode_utf8(&mut [0; 4]))).collect()
    } else {
        text.split(separator).map(Value::str).collect()
    }))
}

fn starts(call: &Call<'_>, test: fn(&[u8], &[u8]) -> bool) -> Result<Value, EvalError> {
    let bytes = |at: usize| match call.arg(at) {
        Value::Bytes(bytes) => Ok(&**bytes),
        _ => call.str(at).map(str::as_bytes),
    };
    Ok(Value::Bool(test(bytes(0)?, bytes(1)?)))
}

fn chr(call: &Call<'_>) -> Result<Value, EvalError> {
    let code = call.int(0)?;
    if code < 0 {
        return Ok(Value::str(""));
    }
    let code = u8::try_from(code.rem_euclid(256)).unwrap_or(0);
    Ok(Value::from(char::from(code).to_string()))
}

/// The first argument as text.
fn shown(call: &Call<'_>) -> Option<String> {
    match call.arg(0) {
        Value::Null => None,
        Value::Str(text) => Some(text.to_string()),
        other => {
            let mut text = String::new();
            super::super::print::value(&mut text, other, call.types.first()?);
            Some(text)
        }
    }
}

fn all(call: &Call<'_>, test: fn(char) -> bool) -> Result<Value, EvalError> {
    Ok(Value::Bool(shown(call).is_some_and(|text| !text.is_empty() && text.chars().all(test))))
}

fn is_decimal(call: &Call<'_>) -> Result<Value, EvalError> {
    let Some(text) = shown(call) else { return Ok(Value::Bool(false)) };
    let text = text.trim();
    let (text, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    if exponent.parse::<i32>().is_err() {
        return Ok(Value::Bool(false));
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    Ok(Value::Bool(is_digits(whole) && is_digits(fraction) && !(whole.is_empty() && fraction.is_empty())))
}

fn elt(call: &Call<'_>) -> Result<Value, EvalError> {
    if call.arg(0).is_null() {
        return Ok(Value::Null);
    }
    let at = call.int(0)?;
    Ok(if at < 1 { Value::Null } else { call.args.get(as_count(at)).cloned().unwrap_or(Value::Null) })
}

fn like(call: &Call<'_>) -> Result<Value, EvalError> {
    let escape = match call.args.len() {
        2 => None,
        _ => {
            let escape = call.str(2)?;
            let mut chars = escape.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => Some(c),
                _ => return Err(EvalError::new(format!("Invalid escape character '{escape}'"))),
            }
        }
    };
    matches(call.str(0)?, call.str(1)?, escape).map(Value::Bool)
}

/// Whether a text is like a pattern: greedy with one point of return, so without recursion or allocation.
pub(crate) fn matches(text: &str, pattern: &str, escape: Option<char>) -> Result<bool, EvalError> {
    enum Step {
        Any,
        One,
        Literal(char),
    }
    let step = |rest: &mut std::str::Chars<'_>| -> Result<Option<Step>, EvalError> {
        Ok(Some(match rest.next() {
            None => return Ok(None),
            Some(c) if Some(c) == escape => match rest.next() {
                Some(c) if c == '%' || c == '_' || Some(c) == escape => Step::Literal(c),
                _ => return Err(EvalError::new(format!("Invalid escape sequence '{pattern}'"))),
            },
            Some('%') => Step::Any,
            Some('_') => Step::One,
            Some(c) => Step::Literal(c),
        }))
    };
    let (mut text, mut rest) = (text.chars(), pattern.chars());
    // After the last `%`: where the pattern goes on, and the text it was tried on.
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let mut behind = rest.clone();
        let fits = match step(&mut behind)? {
            Some(Step::Any) => {
                rest = behind.clone();
                retry = Some((behind, text.clone()));
                continue;
            }
            Some(Step::One) => text.next().is_some(),
            Some(Step::Literal(c)) => {
                let mut ahead = text.clone();
                let same = ahead.next() == Some(c);
                if same {
                    text = ahead;
                }
                same
            }
            None => {
                if text.as_str().is_empty() {
                    return Ok(true);
                }
                false
            }
        };
        if fits {
            rest = behind;
            continue;
        }
        match &mut retry {
            None => return Ok(false),
            Some((pattern, tried)) => {
                if tried.next().is_none() {
                    return Ok(false);
                }
                rest = pattern.clone();
                text = tried.clone();
            }
        }
    }
}
