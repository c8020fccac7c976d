//! Function calls, and those with a syntax of their own.

use crate::sql::ast::{Call, Expr, ExprKind, Ident, Over};
use crate::sql::dialect::Token;
use crate::sql::error::{Span, SqlError, SqlResult};

use super::Parser;

impl Parser {
    /// A call that the parser itself writes.
    pub(super) fn simple_call(&self, name: &str, span: Span, args: Vec<Expr>) -> Expr {
        let span = span.to(self.before());
        let name = Ident { value: name.to_owned(), span };
        let call =
            Call { name, args, star: false, distinct: false, filter: None, over: None, returning: None };
        Expr { kind: ExprKind::Call(Box::new(call)), span }
    }

    fn keyword(&self, word: &str) -> Expr {
        Expr { kind: ExprKind::Keyword(word.to_owned()), span: self.before() }
    }

    fn null(&self) -> Expr {
        Expr { kind: ExprKind::Null, span: self.before() }
    }

    /// `name([DISTINCT] args) [FILTER …] [OVER …]`.
    pub(super) fn call(&mut self) -> SqlResult<Expr> {
        let span = self.span();
        let Token::Word { value, .. } = self.next() else {
            return Err(self.unexpected(&["a function"]));
        };
        let name = Ident { value, span };
        self.expect("(")?;
        let star = self.eat("*");
        let mut distinct = false;
        let mut args = Vec::new();
        if !star && !self.is(")") {
            distinct = self.eat_word("DISTINCT");
            if !distinct {
                self.eat_word("ALL");
            }
            args = self.list(Self::expr)?;
            if self.eat_words(&["ORDER", "BY"]) {
                return Err(SqlError::plan(
                    self.before(),
                    "ORDER BY inside an aggregate is not supported on streams",
                ));
            }
        }
        self.expect(")")?;
        self.call_tail(Call { name, args, star, distinct, filter: None, over: None, returning: None }, span)
    }

    /// What may follow the arguments.
    fn call_tail(&mut self, mut call: Call, span: Span) -> SqlResult<Expr> {
        if self.is_words_ahead(&["RESPECT", "NULLS"]) || self.is_words_ahead(&["IGNORE", "NULLS"]) {
            return Err(SqlError::plan(self.span(), "RESPECT NULLS and IGNORE NULLS are not supported"));
        }
        if self.is_word("WITHIN") && self.is_word_at(1, "GROUP") {
            return Err(SqlError::plan(self.span(), "WITHIN GROUP is not supported on streams"));
        }
        if self.is_word("FILTER") && self.is_at(1, "(") {
            self.at += 2;
            self.expect_word("WHERE")?;
            call.filter = Some(self.expr()?);
            self.expect(")")?;
        }
        if self.eat_word("OVER") {
            call.over = Some(if self.eat("(") {
                let spec = self.window_spec()?;
                self.expect(")")?;
                Over::Spec(spec)
            } else {
                Over::Named(self.ident()?)
            });
        }
        Ok(Expr { kind: ExprKind::Call(Box::new(call)), span: span.to(self.before()) })
    }

    fn is_words_ahead(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(i, word)| self.is_word_at(i, word))
    }

    /// A unit of time as an argument.
    fn time_frame(&mut self) -> SqlResult<String> {
        let unit = self.unit();
        match (unit, self.peek()) {
            (Err(error), crate::sql::dialect::Token::Word { value, .. })
                if !crate::sql::dialect::is_reserved(value) =>
            {
                let message = format!("'{value}' is not a valid time frame");
                Err(SqlError::plan(error.span, message).help("YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, …"))
            }
            (unit, _) => unit,
        }
    }

    /// Calls with a syntax of their own; `None` when the word is not one of them.
    pub(super) fn special_call(&mut self, word: &str, span: Span) -> SqlResult<Option<Expr>> {
        if !self.is_at(1, "(") {
            return Ok(None);
        }
        let args = match word {
            "EXTRACT" => {
                self.at += 2;
                let unit = self.time_frame()?;
                let unit = self.keyword(&unit);
                self.expect_word("FROM")?;
                vec![unit, self.expr()?]
            }
            "FLOOR" | "CEIL" | "CEILING" => {
                self.at += 2;
                let inner = self.expr()?;
                let floor = word == "FLOOR";
                if self.eat_word("TO") {
                    let unit = self.time_frame()?;
                    let unit = self.keyword(&unit);
                    self.expect(")")?;
                    let name = if floor { "FLOOR_TO" } else { "CEIL_TO" };
                    return Ok(Some(self.simple_call(name, span, vec![unit, inner])));
                }
                self.expect(")")?;
                return Ok(Some(self.simple_call(if floor { "FLOOR" } else { "CEIL" }, span, vec![inner])));
            }
            "TIMESTAMPDIFF" | "TIMESTAMPADD" => {
                self.at += 2;
                let unit = self.time_frame()?;
                let mut args = vec![self.keyword(&unit)];
                for _ in 0..2 {
                    self.expect(",")?;
                    args.push(self.expr()?);
                }
                args
            }
            "TRIM" => {
                self.at += 2;
                let mut flag = "BOTH";
                for candidate in ["BOTH", "LEADING", "TRAILING"] {
                    if self.eat_word(candidate) {
                        flag = candidate;
                    }
                }
                let flag = self.keyword(flag);
                let blank = Expr { kind: ExprKind::Str(" ".to_owned()), span };
                if self.eat_word("FROM") {
                    vec![flag, blank, self.expr()?]
                } else {
                    let first = self.expr()?;
                    if self.eat_word("FROM") {
                        vec![flag, first, self.expr()?]
                    } else {
                        vec![flag, blank, first]
                    }
                }
            }
            "POSITION" => {
                self.at += 2;
                let needle = self.additive()?;
                self.expect_word("IN")?;
                vec![needle, self.expr()?]
            }
            "OVERLAY" => {
                self.at += 2;
                let mut args = vec![self.expr()?];
                if self.eat_word("PLACING") {
                    args.push(self.expr()?);
                    self.expect_word("FROM")?;
                    args.push(self.expr()?);
                    if self.eat_word("FOR") {
                        args.push(self.expr()?);
                    }
                } else {
                    while self.eat(",") {
                        args.push(self.expr()?);
                    }
                }
                args
            }
            "SUBSTRING" => {
                self.at += 2;
                let mut args = vec![self.expr()?];
                if self.eat_word("FROM") {
                    args.push(self.expr()?);
                    if self.eat_word("FOR") {
                        args.push(self.expr()?);
                    }
                } else {
                    while self.eat(",") {
                        args.push(self.expr()?);
                    }
                }
                args
            }
            "JSON_VALUE" | "JSON_QUERY" | "JSON_EXISTS" => return self.json_path_call(word, span).map(Some),
            "JSON_OBJECT" | "JSON_OBJECTAGG" | "JSON_ARRAY" | "JSON_ARRAYAGG" => {
                return self.json_constructor(word, span).map(Some);
            }
            _ => return Ok(None),
        };
        self.expect(")")?;
        Ok(Some(self.simple_call(word, span, args)))
    }

    /// `JSON_VALUE(j, path [RETURNING t] [… ON EMPTY] [… ON ERROR])` and the like.
    fn json_path_call(&mut self, word: &str, span: Span) -> SqlResult<Expr> {
        self.at += 2;
        let mut args = vec![self.expr()?];
        self.expect(",")?;
        args.push(self.expr()?);
        let returning = if self.eat_word("RETURNING") { Some(self.data_type()?) } else { None };
        if word == "JSON_EXISTS" {
            let behaviour = ["TRUE", "FALSE", "UNKNOWN", "ERROR"].into_iter().find(|w| self.eat_word(w));
            if behaviour.is_some() {
                self.expect_word("ON")?;
                self.expect_word("ERROR")?;
            }
            args.push(self.keyword(behaviour.unwrap_or("FALSE")));
        } else {
            if word == "JSON_QUERY" {
                let mut wrapper = "WITHOUT";
                if self.eat_word("WITHOUT") {
                    self.eat_word("ARRAY");
                    self.expect_word("WRAPPER")?;
                } else if self.eat_word("WITH") {
                    wrapper = if self.eat_word("CONDITIONAL") { "CONDITIONAL" } else { "UNCONDITIONAL" };
                    self.eat_word("UNCONDITIONAL");
                    self.eat_word("ARRAY");
                    self.expect_word("WRAPPER")?;
                }
                args.push(self.keyword(wrapper));
            }
            let mut empty = ("NULL".to_owned(), self.null());
            let mut error = ("NULL".to_owned(), self.null());
            loop {
                let behaviour = if self.eat_words(&["NULL", "ON"]) {
                    ("NULL".to_owned(), self.null())
                } else if self.eat_words(&["ERROR", "ON"]) {
                    ("ERROR".to_owned(), self.null())
                } else if word == "JSON_QUERY" && self.eat_words(&["EMPTY", "ARRAY", "ON"]) {
                    ("EMPTY ARRAY".to_owned(), self.null())
                } else if word == "JSON_QUERY" && self.eat_words(&["EMPTY", "OBJECT", "ON"]) {
                    ("EMPTY OBJECT".to_owned(), self.null())
                } else if word == "JSON_VALUE" && self.eat_word("DEFAULT") {
                    let value = self.additive()?;
                    self.expect_word("ON")?;
                    ("DEFAULT".to_owned(), value)
                } else {
                    break;
                };
                if self.eat_word("EMPTY") {
                    empty = behaviour;
                } else {
                    self.expect_word("ERROR")?;
                    error = behaviour;
                }
            }
            for (behaviour, default) in [empty, error] {
                args.push(self.keyword(&behaviour));
                if word == "JSON_VALUE" {
                    args.push(default);
                }
            }
        }
        self.expect(")")?;
        let span = span.to(self.before());
        let name = Ident { value: word.to_owned(), span };
        let call = Call { name, args, star: false, distinct: false, filter: None, over: None, returning };
        Ok(Expr { kind: ExprKind::Call(Box::new(call)), span })
    }

    /// `JSON_OBJECT([KEY] k VALUE v, … [NULL | ABSENT ON NULL])`, `JSON_ARRAY(v, … […])` and their aggregates.
    fn json_constructor(&mut self, word: &str, span: Span) -> SqlResult<Expr> {
        self.at += 2;
        let object = word.starts_with("JSON_OBJECT");
        let mut behaviour = if object { "NULL" } else { "ABSENT" };
        let mut args = Vec::new();
        if !self.is(")") {
            loop {
                if self.json_null_clause(&mut behaviour) {
                    break;
                }
                if object {
                    if self.is_word("KEY") && !self.is_at(1, "VALUE") && !self.is_word_at(1, "VALUE") {
                        self.at += 1;
                    }
                    args.push(self.additive()?);
                    if !self.eat_word("VALUE") && !self.eat(":") {
                        self.expect(",")?;
                    }
                }
                args.push(self.expr()?);
                if !self.eat(",") {
                    self.json_null_clause(&mut behaviour);
                    break;
                }
            }
        }
        self.expect(")")?;
        args.insert(0, self.keyword(behaviour));
        let name = Ident { value: word.to_owned(), span };
        self.call_tail(
            Call { name, args, star: false, distinct: false, filter: None, over: None, returning: None },
            span,
        )
    }

    fn json_null_clause(&mut self, behaviour: &mut &'static str) -> bool {
        if self.eat_words(&["NULL", "ON", "NULL"]) {
            *behaviour = "NULL";
        } else if self.eat_words(&["ABSENT", "ON", "NULL"]) {
            *behaviour = "ABSENT";
        } else {
            return false;
        }
        true
    }
}
