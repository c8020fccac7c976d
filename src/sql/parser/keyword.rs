//! Expressions that begin with a keyword.

use crate::sql::ast::{Expr, ExprKind, Interval};
use crate::sql::dialect::Token;
use crate::sql::error::{Span, SqlError, SqlResult};

use super::Parser;

impl Parser {
    /// Expressions that begin with a keyword; `None` when the word is a name or an ordinary function.
    pub(super) fn keyword_expr(&mut self, word: &str, span: Span) -> SqlResult<Option<Expr>> {
        let kind = match word {
            "NULL" => {
                self.at += 1;
                ExprKind::Null
            }
            "TRUE" | "FALSE" => {
                self.at += 1;
                ExprKind::Bool(word == "TRUE")
            }
            "DATE" | "TIME" | "TIMESTAMP" if matches!(self.peek_at(1), Token::Str(_)) => {
                self.at += 1;
                let keyword = if word == "DATE" {
                    "DATE"
                } else if word == "TIME" {
                    "TIME"
                } else {
                    "TIMESTAMP"
                };
                ExprKind::Typed(keyword, self.string()?)
            }
            "TIMESTAMP_LTZ" if matches!(self.peek_at(1), Token::Str(_)) => {
                return Err(self.unexpected(&["an expression"]));
            }
            "INTERVAL" => {
                self.at += 1;
                if !matches!(self.peek(), Token::Str(_)) && !self.is("-") && !self.is("+") {
                    // INTERVAL n DAY: so many units
                    let count = self.primary()?;
                    let from = self.unit()?;
                    let unit =
                        Interval { text: "1".to_owned(), negative: false, from, precision: None, to: None };
                    let span = span.to(self.before());
                    let unit = Expr { kind: ExprKind::Interval(unit), span };
                    return Ok(Some(Self::binary("*", count, unit)));
                }
                let negative = self.eat("-");
                let text = self.string()?;
                let from = self.unit()?;
                let precision = self.unit_precision()?;
                let to = if self.eat_word("TO") {
                    let to = self.unit()?;
                    self.unit_precision()?;
                    Some(to)
                } else {
                    None
                };
                ExprKind::Interval(Interval { text, negative, from, precision, to })
            }
            "CASE" => {
                self.at += 1;
                let operand = if self.is_word("WHEN") { None } else { Some(Box::new(self.expr()?)) };
                let mut branches = Vec::new();
                while self.eat_word("WHEN") {
                    let condition = self.expr()?;
                    self.expect_word("THEN")?;
                    branches.push((condition, self.expr()?));
                }
                if branches.is_empty() {
                    return Err(self.unexpected(&["WHEN"]));
                }
                let otherwise = if self.eat_word("ELSE") { Some(Box::new(self.expr()?)) } else { None };
                self.expect_word("END")?;
                ExprKind::Case { operand, branches, otherwise }
            }
            "CAST" | "TRY_CAST" if self.is_at(1, "(") => {
                self.at += 2;
                let inner = self.expr()?;
                self.expect_word("AS")?;
                let target = self.data_type()?;
                self.expect(")")?;
                ExprKind::Cast(Box::new(inner), target, word == "TRY_CAST")
            }
            "EXISTS" if self.is_at(1, "(") => {
                self.at += 2;
                let query = self.boxed_query()?;
                self.expect(")")?;
                ExprKind::Exists(query)
            }
            "ARRAY" | "MAP" if self.is_at(1, "[") => {
                self.at += 2;
                let items = if self.is("]") { Vec::new() } else { self.list(Self::expr)? };
                self.expect("]")?;
                return Ok(Some(self.simple_call(
                    if word == "ARRAY" { "ARRAY" } else { "MAP" },
                    span,
                    items,
                )));
            }
            "ROW" if self.is_at(1, "(") => {
                self.at += 1;
                ExprKind::Row(self.in_parens(Self::expr)?)
            }
            "CURRENT_TIMESTAMP" | "CURRENT_DATE" | "CURRENT_TIME" | "LOCALTIMESTAMP" | "LOCALTIME" => {
                self.at += 1;
                if self.eat("(") {
                    if !self.is(")") {
                        let _: u8 = self.unsigned()?;
                    }
                    self.expect(")")?;
                }
                return Ok(Some(self.simple_call(word, span, Vec::new())));
            }
            _ => return self.special_call(word, span),
        };
        Ok(Some(Expr { kind, span: span.to(self.before()) }))
    }

    /// Whether a unit of time stands here, as behind `(a - b)`.
    pub(super) fn at_unit(&self) -> bool {
        ["YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND"]
            .iter()
            .any(|unit| self.is_word(unit))
    }

    pub(super) fn unit_precision(&mut self) -> SqlResult<Option<u32>> {
        if !self.eat("(") {
            return Ok(None);
        }
        let precision = self.unsigned()?;
        if self.eat(",") {
            let _: u32 = self.unsigned()?;
        }
        self.expect(")")?;
        Ok(Some(precision))
    }
}

pub(super) fn hex(text: &str, span: Span) -> SqlResult<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return Err(SqlError::parse(span, "Binary literal string must contain an even number of hexits"));
    }
    bytes
        .chunks(2)
        .map(|pair| {
            std::str::from_utf8(pair).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or_else(
                || {
                    SqlError::parse(
                        span,
                        "Binary literal string must contain only characters '0' - '9', 'A' - 'F'",
                    )
                },
            )
        })
        .collect()
}
