//! PostgreSQL's array text.

use std::borrow::Cow;

use super::{Conv, Unconvertible};
use crate::event::datum::Datum;

/// An element of the outermost dimension.
enum Element<'a> {
    Null,
    Value(Cow<'a, [u8]>),
    /// A nested array: Debezium cannot hold it.
    Nested,
}

/// What becomes of elements that cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// Null: those of more dimensions and those that cannot be converted.
    Lenient,
    /// A null, an element of more dimensions or one that cannot be read makes the whole array unconvertible (enums).
    NullIsFatal,
    /// The whole array is unconvertible; a null is a null.
    Strict,
}

/// Converts `{a,"b c",NULL}`. A NaN among numerics always makes the whole array unconvertible.
pub(super) fn convert<'a>(
    text: &'a [u8],
    element: &Conv,
    delimiter: u8,
    elements: Elements,
) -> Result<Datum<'a>, Unconvertible> {
    let mut out = Vec::new();
    let start = match text.first() {
        // explicit bounds: [0:2]={…}
        Some(b'[') => memchr::memchr(b'=', text).ok_or(Unconvertible)? + 1,
        _ => 0,
    };
    let mut parser = Parser { text, at: start, delimiter };
    parser.open()?;
    while let Some(item) = parser.next()? {
        out.push(match item {
            Element::Null | Element::Nested if elements == Elements::NullIsFatal => {
                return Err(Unconvertible);
            }
            Element::Nested if elements == Elements::Strict => return Err(Unconvertible),
            Element::Null | Element::Nested => Datum::Null,
            Element::Value(text) => {
                let converted = match text {
                    Cow::Borrowed(text) => element.convert(text),
                    Cow::Owned(text) => element.convert(&text).map(Datum::into_owned),
                };
                match converted {
                    Ok(datum) => datum,
                    Err(e) if elements != Elements::Lenient || matches!(element, Conv::FiniteNumeric(_)) => {
                        return Err(e);
                    }
                    Err(_) => Datum::Null,
                }
            }
        });
    }
    Ok(Datum::Array(out))
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    delimiter: u8,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn open(&mut self) -> Result<(), Unconvertible> {
        if self.peek() != Some(b'{') {
            return Err(Unconvertible);
        }
        self.at += 1;
        Ok(())
    }

    fn next(&mut self) -> Result<Option<Element<'a>>, Unconvertible> {
        match self.peek() {
            Some(b'}') => {
                self.at += 1;
                return Ok(None);
            }
            Some(d) if d == self.delimiter => self.at += 1,
            _ => {}
        }
        match self.peek().ok_or(Unconvertible)? {
            b'{' => {
                self.skip_nested()?;
                Ok(Some(Element::Nested))
            }
            b'"' => self.quoted().map(|v| Some(Element::Value(v))),
            _ => {
                let start = self.at;
                let mut escaped = false;
                while let Some(b) = self.peek() {
                    if b == b'\\' {
                        escaped = true;
                        self.at += 1;
                    } else if b == self.delimiter || b == b'}' {
                        break;
                    }
                    self.at += 1;
                }
                let raw = self.text.get(start..self.at).ok_or(Unconvertible)?;
                Ok(Some(if raw == b"NULL" {
                    Element::Null
                } else if escaped {
                    Element::Value(Cow::Owned(unescape(raw)))
                } else {
                    Element::Value(Cow::Borrowed(raw))
                }))
            }
        }
    }

    fn quoted(&mut self) -> Result<Cow<'a, [u8]>, Unconvertible> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            match self.peek().ok_or(Unconvertible)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
        let raw = self.text.get(start..self.at).ok_or(Unconvertible)?;
        self.at += 1;
        Ok(if escaped { Cow::Owned(unescape(raw)) } else { Cow::Borrowed(raw) })
    }

    fn skip_nested(&mut self) -> Result<(), Unconvertible> {
        let mut depth = 0usize;
        loop {
            match self.peek().ok_or(Unconvertible)? {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                b'"' => {
                    self.quoted()?;
                    continue;
                }
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

fn unescape(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter();
    while let Some(b) = bytes.next() {
        match b {
            b'\\' => out.extend(bytes.next()),
            b => out.push(*b),
        }
    }
    out
}

/// Debezium's stand-in for an unchanged TOASTed array, chosen by the element's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toast {
    /// None: the value is null.
    Null,
    /// The placeholder's bytes as numbers.
    Numbers,
    /// One element, the placeholder.
    One,
    /// One UUID made from the placeholder.
    Uuid,
}

pub(super) fn placeholder(element: &Conv, toast: Toast, placeholder: &[u8]) -> Option<Datum<'static>> {
    match toast {
        Toast::Null => None,
        Toast::Numbers => {
            Some(Datum::Array(placeholder.iter().map(|b| Datum::Int(i64::from(b.cast_signed()))).collect()))
        }
        Toast::One => Some(Datum::Array(vec![element.placeholder(placeholder)?])),
        Toast::Uuid => Some(Datum::Array(vec![Datum::string(name_uuid(placeholder))])),
    }
}

/// Java's `UUID.nameUUIDFromBytes`: version 3 without a namespace.
fn name_uuid(bytes: &[u8]) -> String {
    use md5::Digest as _;
    let digest: [u8; 16] = md5::Md5::digest(bytes).into();
    uuid::Builder::from_md5_bytes(digest).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Datum<'_> {
        convert(text.as_bytes(), &Conv::Text, b',', Elements::Lenient).unwrap()
    }

    #[test]
    fn uuid_of_bytes() {
        assert_eq!(name_uuid(&[0xDE, 0xAD, 0xBE, 0xEF]), "2f249230-a8e7-32bf-a005-ccd2679259ec");
    }

    #[test]
    fn elements() {
        let s = |t: &str| Datum::string(t);
        assert_eq!(
            texts(r#"{a,NULL,"NULL","with,comma","with\"quote","{brace}",""}"#).into_owned(),
            Datum::Array(vec![
                s("a"),
                Datum::Null,
                s("NULL"),
                s("with,comma"),
                s("with\"quote"),
                s("{brace}"),
                s("")
            ])
        );
        assert_eq!(texts("{}"), Datum::Array(vec![]));
        assert_eq!(texts("[0:1]={x,y}").into_owned(), Datum::Array(vec![s("x"), s("y")]));
        let two = convert(b"{{1,2},{3,4}}", &Conv::Int, b',', Elements::Lenient).unwrap();
        assert_eq!(two, Datum::Array(vec![Datum::Null, Datum::Null]));
        assert!(convert(b"{1,2", &Conv::Int, b',', Elements::Lenient).is_err());
        assert!(convert(b"{red,NULL}", &Conv::Text, b',', Elements::NullIsFatal).is_err());
        assert!(convert(b"{{1,2},{3,4}}", &Conv::Int, b',', Elements::Strict).is_err());
        assert!(convert(b"{1,x}", &Conv::Int, b',', Elements::Strict).is_err());
        let null = convert(b"{1,NULL}", &Conv::Int, b',', Elements::Strict);
        assert_eq!(null, Ok(Datum::Array(vec![Datum::Int(1), Datum::Null])));
    }
}
