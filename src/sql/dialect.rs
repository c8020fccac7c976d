//! Flink's lexical rules on sqlparser's tokenizer, and its reserved words.

use std::collections::HashSet;
use std::sync::OnceLock;

use sqlparser::dialect::Dialect;
use sqlparser::tokenizer::{Token as Raw, Tokenizer, Whitespace};

use super::error::{Span, SqlError, SqlResult};

/// Identifiers quoted with backticks; strings in single quotes, `''` inside, no backslash escapes.
#[derive(Debug)]
pub struct FlinkDialect;

impl Dialect for FlinkDialect {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }
}

/// A token of the script.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A keyword or an identifier; `quoted` ones are never keywords.
    Word {
        /// As written, without quotes.
        value: String,
        /// In backticks.
        quoted: bool,
    },
    /// A number as written.
    Number(String),
    /// A string literal, unescaped.
    Str(String),
    /// `X'…'`, its hexadecimal digits.
    Hex(String),
    /// Punctuation.
    Symbol(&'static str),
    /// `/*+ … */`, its inside.
    Hint(String),
    /// The end.
    End,
}

/// A token and its place.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The token.
    pub token: Token,
    /// Where it stands.
    pub span: Span,
}

/// Cuts a script into tokens; comments and blanks are left out, hints stay.
pub fn tokenize(script: &str) -> SqlResult<Vec<Placed>> {
    let dialect = FlinkDialect;
    let raw = Tokenizer::new(&dialect, script).tokenize_with_location().map_err(|e| {
        let span = Span {
            line: u32::try_from(e.location.line).unwrap_or(0),
            column: u32::try_from(e.location.column).unwrap_or(1).max(1),
            length: 1,
        };
        SqlError::parse(span, e.message)
    })?;
    let mut out = Vec::with_capacity(raw.len() / 2 + 1);
    let mut last = Span { line: 1, column: 1, length: 1 };
    for placed in raw {
        let start = placed.span.start;
        let end = placed.span.end;
        let line = u32::try_from(start.line).unwrap_or(0);
        let column = u32::try_from(start.column).unwrap_or(1);
        let length = if end.line == start.line { end.column.saturating_sub(start.column).max(1) } else { 1 };
        let span = Span { line, column, length: u32::try_from(length).unwrap_or(1) };
        let token = match placed.token {
            Raw::Whitespace(Whitespace::MultiLineComment(text)) => match text.strip_prefix('+') {
                Some(hint) => Token::Hint(hint.to_owned()),
                None => continue,
            },
            Raw::Whitespace(_) => continue,
            Raw::EOF => break,
            Raw::Word(word) => Token::Word { quoted: word.quote_style.is_some(), value: word.value },
            Raw::Number(text, _) => Token::Number(text),
            Raw::SingleQuotedString(text)
            | Raw::NationalStringLiteral(text)
            | Raw::UnicodeStringLiteral(text)
            | Raw::SingleQuotedByteStringLiteral(text)
            | Raw::SingleQuotedRawStringLiteral(text) => Token::Str(text),
            Raw::HexStringLiteral(text) => Token::Hex(text),
            Raw::ShiftRight => {
                // the end of ARRAY<ROW<…>>
                out.push(Placed { token: Token::Symbol(">"), span: Span { length: 1, ..span } });
                out.push(Placed {
                    token: Token::Symbol(">"),
                    span: Span { column: span.column + 1, length: 1, ..span },
                });
                continue;
            }
            Raw::DoubleQuotedString(text) => {
                return Err(SqlError::parse(
                    span,
                    format!("Lexical error: encountered \"{text}\" in double quotes"),
                )
                .help(format!("a name stands in backticks: `{text}`; a text in single quotes: '{text}'")));
            }
            other => match symbol(&other) {
                Some(text) => Token::Symbol(text),
                None => {
                    return Err(SqlError::parse(span, format!("Lexical error: encountered \"{other}\""))
                        .help("names with such characters stand in backticks: `a-b`"));
                }
            },
        };
        last = Span { column: span.column + span.length, length: 1, ..span };
        out.push(Placed { token, span });
    }
    out.push(Placed { token: Token::End, span: last });
    Ok(out)
}

fn symbol(token: &Raw) -> Option<&'static str> {
    Some(match token {
        Raw::Comma => ",",
        Raw::Eq => "=",
        Raw::Neq => "<>",
        Raw::Lt => "<",
        Raw::Gt => ">",
        Raw::LtEq => "<=",
        Raw::GtEq => ">=",
        Raw::Plus => "+",
        Raw::Minus => "-",
        Raw::Mul => "*",
        Raw::Div => "/",
        Raw::Mod => "%",
        Raw::StringConcat => "||",
        Raw::LParen => "(",
        Raw::RParen => ")",
        Raw::LBracket => "[",
        Raw::RBracket => "]",
        Raw::Period => ".",
        Raw::SemiColon => ";",
        Raw::Colon => ":",
        Raw::RArrow => "=>",
        Raw::LBrace => "{",
        Raw::RBrace => "}",
        _ => return None,
    })
}

/// Whether Flink refuses the word as an unquoted name.
pub fn is_reserved(word: &str) -> bool {
    static WORDS: OnceLock<HashSet<&'static str>> = OnceLock::new();
    WORDS
        .get_or_init(|| include_str!("reserved-words.txt").lines().collect())
        .contains(word.to_lowercase().as_str())
}
