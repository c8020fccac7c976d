//! A pull parser for JSON over a byte slice: no tree, and no allocation but for strings with escapes.

use std::borrow::Cow;

use memchr::memchr2;

use super::FormatError;

/// What the next value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// Nesting that no record of a table needs; guards the stack.
const MAX_DEPTH: u32 = 128;

/// Where the string whose inside begins here ends or has an escape.
fn quote_or_escape(inside: &[u8]) -> Option<usize> {
    // Most strings are short: the call of the wide search would cost more than they do.
    const NEAR: usize = 24;
    let near = inside.get(..NEAR).unwrap_or(inside);
    if let Some(at) = near.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        return Some(at);
    }
    let far = inside.get(near.len()..).unwrap_or_default();
    memchr2(b'"', b'\\', far).map(|at| near.len() + at)
}

/// Reads values one after the other. A caller looks with [`Parser::peek`] and takes the value with the method
/// that fits, or skips it.
#[derive(Debug)]
pub(super) struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

fn syntax(what: &'static str, at: usize) -> FormatError {
    FormatError::new(format!("not valid JSON: {what} at byte {at}"))
}

impl<'a> Parser<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let bytes = bytes.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map_err(|e| syntax("not UTF-8", e.valid_up_to()))?;
        Ok(Self { text, at: 0, depth: 0 })
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.byte() {
            self.at += 1;
        }
    }

    pub(super) fn peek(&mut self) -> Result<Kind, FormatError> {
        self.blank();
        match self.byte() {
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'n') => Ok(Kind::Null),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(_) => Err(syntax("unexpected character", self.at)),
            None => Err(syntax("unexpected end", self.at)),
        }
    }

    /// Fails where something other than blanks follows.
    #[cfg(test)]
    pub(super) fn end(&mut self) -> Result<(), FormatError> {
        self.blank();
        if self.at == self.text.len() { Ok(()) } else { Err(syntax("text after the value", self.at)) }
    }

    fn word(&mut self, word: &'static str) -> bool {
        let found = self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes()));
        if found {
            self.at += word.len();
        }
        found
    }

    pub(super) fn null(&mut self) -> Result<(), FormatError> {
        if self.word("null") { Ok(()) } else { Err(syntax("unknown word", self.at)) }
    }

    pub(super) fn bool(&mut self) -> Result<bool, FormatError> {
        if self.word("true") {
            Ok(true)
        } else if self.word("false") {
            Ok(false)
        } else {
            Err(syntax("unknown word", self.at))
        }
    }

    /// The text of a number, by JSON's grammar.
    pub(super) fn number(&mut self) -> Result<&'a str, FormatError> {
        let start = self.at;
        let digits = |p: &mut Self| {
            let from = p.at;
            while let Some(b'0'..=b'9') = p.byte() {
                p.at += 1;
            }
            if p.at == from { Err(syntax("a digit is missing", from)) } else { Ok(()) }
        };
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        let first = self.at;
        digits(self)?;
        if self.at - first > 1 && self.text.as_bytes().get(first) == Some(&b'0') {
            return Err(syntax("leading zero", first));
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            digits(self)?;
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    /// The text of a string; borrowed where it has no escapes.
    pub(super) fn string(&mut self) -> Result<Cow<'a, str>, FormatError> {
        let start = self.at + 1;
        let rest = self.text.as_bytes().get(start..).ok_or_else(|| syntax("unexpected end", start))?;
        let Some(first) = quote_or_escape(rest) else {
            return Err(syntax("a string does not end", self.at));
        };
        // Control characters are not legal in a string, but Jackson as Flink sets it up is the only reader that
        // minds, and no writer makes them: not looked for.
        if rest.get(first) == Some(&b'"') {
            self.at = start + first + 1;
            return Ok(Cow::Borrowed(self.text.get(start..start + first).unwrap_or_default()));
        }
        let mut out = String::with_capacity(first + 16);
        self.at = start;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let Some(next) = quote_or_escape(rest.as_bytes()) else {
                return Err(syntax("a string does not end", start));
            };
            out.push_str(rest.get(..next).unwrap_or_default());
            self.at += next + 1;
            if rest.as_bytes().get(next) == Some(&b'"') {
                return Ok(Cow::Owned(out));
            }
            self.escape(&mut out)?;
        }
    }

    /// One escape; the backslash is read.
    fn escape(&mut self, out: &mut String) -> Result<(), FormatError> {
        let at = self.at;
        let kind = self.byte().ok_or_else(|| syntax("unexpected end", at))?;
        self.at += 1;
        out.push(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.hex4()?;
                let code = if (0xD800..0xDC00).contains(&high) && self.word("\\u") {
                    let low = self.hex4()?;
                    if !(0xDC00..0xE000).contains(&low) {
                        return Err(syntax("half of a surrogate pair", at));
                    }
                    0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)
                } else {
                    high
                };
                char::from_u32(code).ok_or_else(|| syntax("half of a surrogate pair", at))?
            }
            _ => return Err(syntax("unknown escape", at)),
        });
        Ok(())
    }

    fn hex4(&mut self) -> Result<u32, FormatError> {
        let bad = || syntax("bad \\u escape", self.at);
        let hex = self.text.get(self.at..self.at + 4).ok_or_else(bad)?;
        if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let code = u32::from_str_radix(hex, 16).map_err(|_| bad())?;
        self.at += 4;
        Ok(code)
    }

    fn enter(&mut self) -> Result<(), FormatError> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(syntax("nested too deep", self.at)) } else { Ok(()) }
    }

    /// Reads an object: `member` is called after each key and must take or skip its value.
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        self.enter()?;
        self.blank();
        if self.byte() == Some(b'}') {
            self.at += 1;
            self.depth -= 1;
            return Ok(());
        }
        loop {
            self.blank();
            if self.byte() != Some(b'"') {
                return Err(syntax("a key is missing", self.at));
            }
            let key = self.string()?;
            self.blank();
            if self.byte() != Some(b':') {
                return Err(syntax("':' is missing", self.at));
            }
            self.at += 1;
            member(self, &key)?;
            self.blank();
            match self.byte() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    self.depth -= 1;
                    return Ok(());
                }
                _ => return Err(syntax("',' or '}' is missing", self.at)),
            }
        }
    }

    /// Reads an array: `element` must take or skip each value.
    pub(super) fn array(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        self.enter()?;
        self.blank();
        if self.byte() == Some(b']') {
            self.at += 1;
            self.depth -= 1;
            return Ok(());
        }
        loop {
            element(self)?;
            self.blank();
            match self.byte() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    self.depth -= 1;
                    return Ok(());
                }
                _ => return Err(syntax("',' or ']' is missing", self.at)),
            }
        }
    }

    /// Skips a value if it is this object, byte by byte. An object says itself where it ends, so what begins with
    /// the same bytes is the same.
    pub(super) fn skip_same(&mut self, object: &[u8]) -> bool {
        let same = !object.is_empty()
            && self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(object));
        if same {
            self.at += object.len();
        }
        same
    }

    /// Skips a value and gives its text.
    pub(super) fn skip(&mut self) -> Result<&'a str, FormatError> {
        let kind = self.peek()?;
        let start = self.at;
        match kind {
            Kind::Null => self.null()?,
            Kind::Bool => drop(self.bool()?),
            Kind::Number => drop(self.number()?),
            Kind::String => self.skip_string()?,
            Kind::Object | Kind::Array => self.skip_nested()?,
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    fn skip_string(&mut self) -> Result<(), FormatError> {
        let start = self.at;
        self.at += 1;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let Some(next) = quote_or_escape(rest) else {
                return Err(syntax("a string does not end", start));
            };
            if rest.get(next) == Some(&b'"') {
                self.at += next + 1;
                return Ok(());
            }
            self.at += next + 2;
        }
    }

    /// Skips an object or array by counting brackets outside strings: its inside is not checked further, so that
    /// the schema block of a message costs little.
    fn skip_nested(&mut self) -> Result<(), FormatError> {
        let start = self.at;
        let mut open = 0usize;
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.skip_string()?;
                    continue;
                }
                Some(b'{' | b'[') => open += 1,
                Some(b'}' | b']') => {
                    open -= 1;
                    if open == 0 {
                        self.at += 1;
                        return Ok(());
                    }
                }
                Some(_) => {}
                None => return Err(syntax("an object or array does not end", start)),
            }
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Rebuilds a tree, to compare with serde_json's.
    fn tree(p: &mut Parser<'_>) -> Result<serde_json::Value, FormatError> {
        use serde_json::Value;
        Ok(match p.peek()? {
            Kind::Null => {
                p.null()?;
                Value::Null
            }
            Kind::Bool => Value::Bool(p.bool()?),
            Kind::Number => serde_json::from_str(p.number()?).unwrap(),
            Kind::String => Value::String(p.string()?.into_owned()),
            Kind::Array => {
                let mut all = Vec::new();
                p.array(|p| {
                    all.push(tree(p)?);
                    Ok(())
                })?;
                Value::Array(all)
            }
            Kind::Object => {
                let mut all = serde_json::Map::new();
                p.object(|p, key| {
                    let key = key.to_owned();
                    all.insert(key, tree(p)?);
                    Ok(())
                })?;
                Value::Object(all)
            }
        })
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
            "[\"\\\\a\u{e9}\u{1F600}]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::hash_map(any::<String>(), inner, 0..4)
                    .prop_map(|m| serde_json::Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_serde_json_writes(value in json()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let mut p = Parser::new(text.as_bytes()).unwrap();
                prop_assert_eq!(tree(&mut p).unwrap(), value.clone());
                p.end().unwrap();
                let mut p = Parser::new(text.as_bytes()).unwrap();
                prop_assert_eq!(p.skip().unwrap(), text.as_str());
                p.end().unwrap();
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in "[\\[\\]{}\",:\\\\u0-9a-f\u{e9} -]{0,40}") {
            if let Ok(mut p) = Parser::new(bytes.as_bytes()) {
                let ours = tree(&mut p).and_then(|v| p.end().map(|()| v));
                if let Ok(theirs) = serde_json::from_str::<serde_json::Value>(&bytes) {
                    prop_assert_eq!(ours.ok(), Some(theirs));
                }
            }
            if let Ok(mut p) = Parser::new(bytes.as_bytes()) {
                let _ = p.skip();
            }
        }
    }

    #[test]
    fn the_same_object_is_skipped_whole() {
        let text = r#"{"a":{"b":"}"}} , 1"#;
        let mut p = Parser::new(text.as_bytes()).unwrap();
        assert!(!p.skip_same(b"") && !p.skip_same(br#"{"a":{"b":"]"}}"#));
        assert!(p.skip_same(br#"{"a":{"b":"}"}}"#));
        assert_eq!(p.byte(), Some(b' '));
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let text = "[".repeat(100_000);
        assert!(tree(&mut Parser::new(text.as_bytes()).unwrap()).is_err());
    }
}
