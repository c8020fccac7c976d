//! Window table functions.

use crate::sql::ast::{Expr, Ident, TableExpr};
use crate::sql::error::{SqlError, SqlResult};

use super::Parser;

impl Parser {
    /// Whether a window function stands here.
    pub(super) fn is_window_call(&self) -> bool {
        ["TUMBLE", "HOP", "CUMULATE", "SESSION"].iter().any(|name| self.is_word(name)) && self.is_at(1, "(")
    }

    /// `TUMBLE(TABLE t, DESCRIPTOR(ts), size [, offset])` and its brothers, positional or with `NAME =>`.
    pub(super) fn window_function(&mut self) -> SqlResult<TableExpr> {
        if !self.is_window_call() {
            // a function of a name that is not known
            if let crate::sql::dialect::Token::Word { value, .. } = self.peek()
                && self.is_at(1, "(")
                && !self.is_word_at(2, "TABLE")
                && !crate::sql::dialect::is_reserved(value)
            {
                let error =
                    SqlError::plan(self.span(), format!("No match found for function signature {value}"));
                return Err(error.help("table functions: TUMBLE, HOP, CUMULATE, SESSION, UNNEST"));
            }
            return Err(self.unexpected(&["TUMBLE", "HOP", "CUMULATE", "SESSION", "UNNEST"]));
        }
        let span = self.span();
        let crate::sql::dialect::Token::Word { value, .. } = self.next() else {
            return Err(self.unexpected(&["a window function"]));
        };
        let name = Ident { value: value.to_uppercase(), span };
        let (mut input, mut partition, mut time) = (None, Vec::new(), None);
        let mut sizes = Vec::new();
        let mut named: Vec<(String, Expr)> = Vec::new();
        self.expect("(")?;
        loop {
            let label = match self.peek() {
                crate::sql::dialect::Token::Word { value, .. } if self.is_at(1, "=>") => {
                    let label = value.to_uppercase();
                    self.at += 2;
                    Some(label)
                }
                _ => None,
            };
            if self.eat_word("DESCRIPTOR") {
                self.expect("(")?;
                time = Some(self.ident()?);
                self.expect(")")?;
            } else if input.is_none() && label.as_deref().is_none_or(|l| l == "DATA" || l == "INPUT") {
                input = Some(if self.eat_word("TABLE") {
                    if self.is("(") {
                        return Err(self
                            .unexpected(&["a name"])
                            .help("TABLE is followed by a name; a query stands in parentheses without it"));
                    } else {
                        let mut name = vec![self.ident()?];
                        while self.eat(".") {
                            name.push(self.ident()?);
                        }
                        TableExpr::Table { name, hints: self.hints()?, system_time: None, alias: None }
                    }
                } else if self.eat("(") {
                    let query = self.boxed_query()?;
                    self.expect(")")?;
                    TableExpr::Derived { query, lateral: false, alias: None }
                } else {
                    return Err(self.unexpected(&["TABLE"]));
                });
                if self.eat_words(&["PARTITION", "BY"]) {
                    partition = if self.is("(") { self.in_parens(Self::ident)? } else { vec![self.ident()?] };
                }
            } else {
                let expr = self.expr()?;
                match label {
                    Some(label) => named.push((label, expr)),
                    None => sizes.push(expr),
                }
            }
            if !self.eat(",") {
                break;
            }
        }
        self.expect(")")?;
        if !named.is_empty() {
            let order: &[&str] = match name.value.as_str() {
                "TUMBLE" => &["SIZE", "OFFSET"],
                "HOP" => &["SLIDE", "SIZE", "OFFSET"],
                "CUMULATE" => &["STEP", "SIZE", "OFFSET"],
                _ => &["GAP"],
            };
            for wanted in order {
                if let Some(i) = named.iter().position(|(label, _)| label == wanted) {
                    sizes.push(named.swap_remove(i).1);
                }
            }
        }
        let (Some(input), Some(time)) = (input, time) else {
            return Err(SqlError::parse(
                span,
                format!("{} takes a table, DESCRIPTOR(time column) and intervals", name.value),
            ));
        };
        Ok(TableExpr::Window { name, input: Box::new(input), partition, time, sizes, alias: None })
    }
}
