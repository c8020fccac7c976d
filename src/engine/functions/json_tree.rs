//! A small JSON tree for the JSON functions: numbers keep their text, so that no digit is lost.

use ahash::AHashMap;

use super::json::write_string;

/// Names of an object are looked for one after the other up to this number of them.
const FEW_NAMES: usize = 32;
/// Deepest nesting that is read.
const MAX_DEPTH: u32 = 256;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    Array(Vec<Json>),
    /// By name; of a name that occurs twice the last value counts.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses a text that holds one value.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value(0)?;
        parser.blanks();
        if parser.at == text.len() { Ok(value) } else { Err(parser.unexpected()) }
    }

    /// Parses the first value of a text; what follows it is not looked at.
    pub(crate) fn parse_first(text: &str) -> Result<Self, String> {
        Parser { text, at: 0 }.value(0)
    }

    /// Whether it is neither array nor object.
    pub(crate) fn is_scalar(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// Writes it without blanks, names sorted.
    pub(crate) fn write(&self, out: &mut String) {
        self.write_numbers(out, false);
    }

    /// As [`Self::write`], with the digits of numbers as they were read.
    pub(crate) fn write_exact(&self, out: &mut String) {
        self.write_numbers(out, true);
    }

    fn write_numbers(&self, out: &mut String, exact: bool) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Self::Number(digits) if exact => out.push_str(digits),
            Self::Number(digits) => out.push_str(&java_number(digits)),
            Self::String(text) => write_string(out, text),
            Self::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write_numbers(out, exact);
                }
                out.push(']');
            }
            Self::Object(entries) => {
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_by(|left, right| left.0.cmp(&right.0));
                out.push('{');
                for (at, (name, item)) in sorted.into_iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_string(out, name);
                    out.push(':');
                    item.write_numbers(out, exact);
                }
                out.push('}');
            }
        }
    }

    /// A scalar as the text of a string; `None` for null, arrays and objects.
    pub(crate) fn scalar_text(&self) -> Option<String> {
        match self {
            Self::Bool(truth) => Some(truth.to_string()),
            Self::Number(digits) => Some(java_number(digits)),
            Self::String(text) => Some(text.clone()),
            _ => None,
        }
    }
}

/// A number as Java's `BigDecimal.toString` writes it: `1e3` is `1E+3`.
fn java_number(digits: &str) -> String {
    let Some((mantissa, exponent)) = digits.split_once(['e', 'E']) else { return digits.to_owned() };
    let Ok(exponent) = exponent.parse::<i64>() else { return digits.to_owned() };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let joined = format!("{whole}{fraction}");
    let unscaled = match joined.trim_start_matches('0') {
        "" => "0",
        significant => significant,
    };
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let Some(scale) = length(fraction).checked_sub(exponent) else { return digits.to_owned() };
    let adjusted = length(unscaled) - 1 - scale;
    if scale >= 0 && adjusted >= -6 {
        let scale = usize::try_from(scale).unwrap_or(0);
        let missing = (scale + 1).saturating_sub(unscaled.len());
        let padded = format!("{}{unscaled}", "0".repeat(missing));
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        let point = if fraction.is_empty() { "" } else { "." };
        return format!("{sign}{whole}{point}{fraction}");
    }
    let (first, rest) = unscaled.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{point}{rest}E{adjusted:+}")
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn unexpected(&self) -> String {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) => {
                format!("Unexpected character ('{c}' (code {})) at column {}", u32::from(c), self.at + 1)
            }
            None => "Unexpected end-of-input".to_owned(),
        }
    }

    fn take(&mut self, word: &str) -> Result<(), String> {
        if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(word)) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn value(&mut self, depth: u32) -> Result<Json, String> {
        if depth > MAX_DEPTH {
            return Err("nested too deep".to_owned());
        }
        self.blanks();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => {
                self.at += 1;
                let mut items = Vec::new();
                self.blanks();
                if self.peek() == Some(b']') {
                    self.at += 1;
                    return Ok(Json::Array(items));
                }
                loop {
                    items.push(self.value(depth + 1)?);
                    self.blanks();
                    match self.peek() {
                        Some(b',') => self.at += 1,
                        Some(b']') => {
                            self.at += 1;
                            return Ok(Json::Array(items));
                        }
                        _ => return Err(self.unexpected()),
                    }
                }
            }
            Some(b'"') => self.string().map(Json::String),
            Some(b't') => self.take("true").map(|()| Json::Bool(true)),
            Some(b'f') => self.take("false").map(|()| Json::Bool(false)),
            Some(b'n') => self.take("null").map(|()| Json::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.unexpected()),
        }
    }

    fn object(&mut self, depth: u32) -> Result<Json, String> {
        self.at += 1;
        let mut entries: Vec<(String, Json)> = Vec::new();
        let mut places: AHashMap<String, usize> = AHashMap::new();
        self.blanks();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Json::Object(entries));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(format!("{}: was expecting double-quote to start field name", self.unexpected()));
            }
            let name = self.string()?;
            self.blanks();
            self.take(":")?;
            let value = self.value(depth + 1)?;
            let place = if entries.len() <= FEW_NAMES {
                entries.iter().position(|entry| entry.0 == name)
            } else {
                places.get(&name).copied()
            };
            match place.and_then(|place| entries.get_mut(place)) {
                Some(entry) => entry.1 = value,
                None => {
                    if entries.len() == FEW_NAMES {
                        places.extend(entries.iter().enumerate().map(|(i, entry)| (entry.0.clone(), i)));
                    }
                    if entries.len() >= FEW_NAMES {
                        places.insert(name.clone(), entries.len());
                    }
                    entries.push((name, value));
                }
            }
            self.blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Json::Object(entries));
                }
                _ => return Err(self.unexpected()),
            }
        }
    }

    fn number(&mut self) -> Result<Json, String> {
        let start = self.at;
        let digits = |parser: &mut Self| {
            let from = parser.at;
            while parser.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                parser.at += 1;
            }
            if parser.at > from { Ok(()) } else { Err(parser.unexpected()) }
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
            if self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
                return Err("Invalid numeric value: Leading zeroes not allowed".to_owned());
            }
        } else {
            digits(self)?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self)?;
        }
        Ok(Json::Number(self.text.get(start..self.at).unwrap_or("0").to_owned()))
    }

    fn string(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = self.text.get(self.at..).unwrap_or("");
            let plain =
                rest.find(|c: char| c == '"' || c == '\\' || u32::from(c) < 0x20).unwrap_or(rest.len());
            out.push_str(rest.get(..plain).unwrap_or(""));
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escaped = self.peek().ok_or_else(|| self.unexpected())?;
                    self.at += 1;
                    out.push(match escaped {
                        b'"' | b'\\' | b'/' => char::from(escaped),
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        b't' => '\t',
                        b'u' => self.unicode()?,
                        _ => return Err(self.unexpected()),
                    });
                }
                _ => return Err(self.unexpected()),
            }
        }
    }

    fn hex4(&mut self) -> Result<u32, String> {
        let digits = self.text.get(self.at..self.at + 4).ok_or_else(|| self.unexpected())?;
        let unit = u32::from_str_radix(digits, 16).map_err(|_| self.unexpected())?;
        self.at += 4;
        Ok(unit)
    }

    fn unicode(&mut self) -> Result<char, String> {
        let first = self.hex4()?;
        if (0xd800..0xdc00).contains(&first) && self.take("\\u").is_ok() {
            let second = self.hex4()?;
            let code = 0x10000 + ((first - 0xd800) << 10) + (second.wrapping_sub(0xdc00) & 0x3ff);
            return Ok(char::from_u32(code).unwrap_or('\u{fffd}'));
        }
        Ok(char::from_u32(first).unwrap_or('\u{fffd}'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_length_are_written() {
        let long = "1".repeat(70_000);
        assert_eq!(java_number(&format!("0.{long}e0")), format!("0.{long}"));
        assert_eq!(java_number("5e-3"), "0.005");
    }

    #[test]
    fn the_last_value_of_a_name_counts_among_many_names_too() {
        for count in [3, FEW_NAMES, FEW_NAMES + 1, 100] {
            let members: Vec<String> = (0..2 * count).map(|i| format!("\"n{}\":{i}", i % count)).collect();
            let Ok(Json::Object(entries)) = Json::parse(&format!("{{{}}}", members.join(","))) else {
                panic!("an object");
            };
            assert_eq!(entries.len(), count);
            for (i, (name, value)) in entries.iter().enumerate() {
                assert_eq!((name, value), (&format!("n{i}"), &Json::Number((i + count).to_string())));
            }
        }
    }
}
