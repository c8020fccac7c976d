//! Scalar expressions, by precedence.

use crate::sql::ast::{Alias, Expr, ExprKind, Ident, Query, Select, SetExpr, TableExpr};
use crate::sql::dialect::{Token, is_reserved};
use crate::sql::error::{Span, SqlError, SqlResult};

use super::Parser;
use super::keyword::hex;

/// Conditions joined by AND or OR.
const MAX_CONDITIONS: usize = 10_000;

/// Operands of one chain: such trees grow to the left, and everything behind walks them by recursion.
const MAX_OPERANDS: usize = 250;

/// How deep the tree of an expression may be, chains within chains included.
const MAX_TREE: usize = 300;

impl Parser {
    /// An expression.
    pub(super) fn expr(&mut self) -> SqlResult<Expr> {
        self.expressions += 1;
        let parsed = self.deeper(Self::or_expr);
        self.expressions -= 1;
        let expr = parsed?;
        if self.expressions == 0 && expr.depth() > MAX_TREE {
            return Err(SqlError::parse(expr.span, "the expression nests too deep"));
        }
        Ok(expr)
    }

    pub(super) fn binary(op: &'static str, left: Expr, right: Expr) -> Expr {
        let span = left.span.to(right.span);
        Expr { kind: ExprKind::Binary(op, Box::new(left), Box::new(right)), span }
    }

    fn or_expr(&mut self) -> SqlResult<Expr> {
        let mut operands = vec![self.and_expr()?];
        while self.eat_word("OR") {
            operands.push(self.and_expr()?);
            self.limit(operands.len(), MAX_CONDITIONS)?;
        }
        Ok(Self::balanced("OR", operands))
    }

    fn and_expr(&mut self) -> SqlResult<Expr> {
        let mut operands = vec![self.not_expr()?];
        while self.eat_word("AND") {
            operands.push(self.not_expr()?);
            self.limit(operands.len(), MAX_CONDITIONS)?;
        }
        Ok(Self::balanced("AND", operands))
    }

    /// Conditions as a tree of little depth, in their order.
    fn balanced(op: &'static str, mut operands: Vec<Expr>) -> Expr {
        while operands.len() > 1 {
            let mut next = Vec::with_capacity(operands.len().div_ceil(2));
            let mut rest = operands.into_iter();
            while let Some(left) = rest.next() {
                next.push(match rest.next() {
                    Some(right) => Self::binary(op, left, right),
                    None => left,
                });
            }
            operands = next;
        }
        operands.pop().unwrap_or(Expr { kind: ExprKind::Bool(true), span: Span::default() })
    }

    /// Refuses chains that are too long.
    pub(super) fn limit(&self, operands: usize, most: usize) -> SqlResult<()> {
        // chains within chains add up
        let most = if self.depth > 6 && most == MAX_OPERANDS { 50 } else { most };
        if operands > most {
            return Err(SqlError::parse(self.span(), format!("an expression of more than {most} operands")));
        }
        Ok(())
    }

    fn not_expr(&mut self) -> SqlResult<Expr> {
        let span = self.span();
        if self.eat_word("NOT") {
            let inner = self.deeper(Self::not_expr)?;
            let span = span.to(inner.span);
            return Ok(Expr { kind: ExprKind::Unary("NOT", Box::new(inner)), span });
        }
        self.predicate()
    }

    fn predicate(&mut self) -> SqlResult<Expr> {
        let mut left = self.additive()?;
        let mut operands = 0;
        loop {
            operands += 1;
            self.limit(operands, MAX_OPERANDS)?;
            let span = left.span;
            let boxed = |e: Expr| Box::new(e);
            if let Token::Symbol(op @ ("=" | "<>" | "<" | "<=" | ">" | ">=")) = *self.peek() {
                self.at += 1;
                // `!=`, which Flink has not
                let op = if op == "<>" && self.text_since(self.at - 1).starts_with('!') { "!=" } else { op };
                if self.is_word("ANY") || self.is_word("ALL") || self.is_word("SOME") {
                    let all = self.is_word("ALL");
                    self.at += 1;
                    self.expect("(")?;
                    let query = self.boxed_query()?;
                    self.expect(")")?;
                    left = self.quantified(left, op, all, query, span);
                    continue;
                }
                let right = self.additive()?;
                left = Self::binary(op, left, right);
                continue;
            }
            if self.eat_word("IS") {
                let negated = self.eat_word("NOT");
                let kind = if self.eat_words(&["DISTINCT", "FROM"]) {
                    let right = self.additive()?;
                    ExprKind::IsDistinct(boxed(left), boxed(right), negated)
                } else if self.eat_word("JSON") {
                    let what = ["VALUE", "OBJECT", "ARRAY", "SCALAR"].into_iter().find(|w| self.eat_word(w));
                    ExprKind::IsJson(boxed(left), what.unwrap_or("VALUE"), negated)
                } else if let Some(what) =
                    ["NULL", "TRUE", "FALSE", "UNKNOWN"].into_iter().find(|w| self.eat_word(w))
                {
                    ExprKind::Is(boxed(left), what, negated)
                } else {
                    return Err(self.unexpected(&[
                        "NULL",
                        "TRUE",
                        "FALSE",
                        "UNKNOWN",
                        "DISTINCT FROM",
                        "JSON",
                    ]));
                };
                left = Expr { kind, span: span.to(self.before()) };
                continue;
            }
            if self.eat_word("OVERLAPS") {
                let right = self.additive()?;
                let (ExprKind::Row(a), ExprKind::Row(b)) = (left.kind, right.kind) else {
                    return Err(SqlError::parse(
                        span,
                        "OVERLAPS compares two pairs: (start, end) OVERLAPS (start, end)",
                    ));
                };
                let parts: Result<[Expr; 4], _> = a.into_iter().chain(b).collect::<Vec<_>>().try_into();
                let Ok(parts) = parts else {
                    return Err(SqlError::parse(
                        span,
                        "OVERLAPS compares two pairs: (start, end) OVERLAPS (start, end)",
                    ));
                };
                left = Expr { kind: ExprKind::Overlaps(Box::new(parts)), span: span.to(self.before()) };
                continue;
            }
            let negated = self.is_word("NOT")
                && ["BETWEEN", "IN", "LIKE", "SIMILAR"].iter().any(|word| self.is_word_at(1, word));
            if negated {
                self.at += 1;
            }
            let kind = if self.eat_word("BETWEEN") {
                let symmetric = self.eat_word("SYMMETRIC");
                self.eat_word("ASYMMETRIC");
                let low = boxed(self.additive()?);
                self.expect_word("AND")?;
                let high = boxed(self.additive()?);
                ExprKind::Between { expr: boxed(left), low, high, negated, symmetric }
            } else if self.eat_word("IN") {
                self.expect("(")?;
                if self.is_word("SELECT") || self.is_word("WITH") || self.is_word("VALUES") {
                    let query = self.boxed_query()?;
                    self.expect(")")?;
                    ExprKind::InQuery(boxed(left), query, negated)
                } else {
                    let list = self.list(Self::expr)?;
                    self.expect(")")?;
                    ExprKind::InList(boxed(left), list, negated)
                }
            } else if self.is_word("LIKE") || (self.is_word("SIMILAR") && self.is_word_at(1, "TO")) {
                let similar = self.eat_words(&["SIMILAR", "TO"]);
                if !similar {
                    self.at += 1;
                }
                let pattern = boxed(self.additive()?);
                let escape = if self.eat_word("ESCAPE") { Some(boxed(self.additive()?)) } else { None };
                ExprKind::Like { expr: boxed(left), pattern, escape, similar, negated }
            } else {
                return Ok(left);
            };
            left = Expr { kind, span: span.to(self.before()) };
        }
    }

    /// `value op ANY (query)` and `value op ALL (query)`, by IN and EXISTS.
    fn quantified(&self, value: Expr, op: &'static str, all: bool, query: Box<Query>, span: Span) -> Expr {
        let span = span.to(self.before());
        let make = |kind| Expr { kind, span };
        if (op, all) == ("=", false) || (op, all) == ("<>", true) {
            return make(ExprKind::InQuery(Box::new(value), query, all));
        }
        // a row that is no proof of it: for ANY one that fits is looked for, for ALL one that does not
        let ident = |name: &str| Ident { value: name.to_owned(), span };
        let (table, element) = (ident("$q"), ident("$e"));
        let named = make(ExprKind::Name(vec![table.clone(), element.clone()]));
        let test = make(ExprKind::Binary(op, Box::new(value), Box::new(named)));
        let filter = if all { make(ExprKind::Is(Box::new(test), "TRUE", true)) } else { test };
        let alias = Some(Alias { name: table, columns: vec![element] });
        let select = Select {
            distinct: false,
            hints: Vec::new(),
            items: vec![(make(ExprKind::Number("1".to_owned())), None)],
            from: Some(TableExpr::Derived { query, lateral: false, alias }),
            filter: Some(filter),
            group: None,
            having: None,
            qualify: None,
            windows: Vec::new(),
            span,
        };
        let body = SetExpr::Select(Box::new(select));
        let exists = Query { ctes: Vec::new(), body, order: Vec::new(), offset: None, limit: None, span };
        let exists = make(ExprKind::Exists(Box::new(exists)));
        if all { make(ExprKind::Unary("NOT", Box::new(exists))) } else { exists }
    }

    /// `+ - ||` and what binds tighter.
    pub(super) fn additive(&mut self) -> SqlResult<Expr> {
        let mut left = self.multiplicative()?;
        let mut operands = 1;
        while let Token::Symbol(op @ ("+" | "-" | "||")) = *self.peek() {
            self.at += 1;
            operands += 1;
            self.limit(operands, MAX_OPERANDS)?;
            left = Self::binary(op, left, self.multiplicative()?);
        }
        Ok(left)
    }

    fn multiplicative(&mut self) -> SqlResult<Expr> {
        let mut left = self.unary()?;
        let mut operands = 1;
        while let Token::Symbol(op @ ("*" | "/" | "%")) = *self.peek() {
            self.at += 1;
            operands += 1;
            self.limit(operands, MAX_OPERANDS)?;
            left = Self::binary(op, left, self.unary()?);
        }
        Ok(left)
    }

    fn unary(&mut self) -> SqlResult<Expr> {
        let span = self.span();
        if let Token::Symbol(op @ ("-" | "+")) = *self.peek() {
            self.at += 1;
            let inner = self.deeper(Self::unary)?;
            let span = span.to(inner.span);
            return Ok(match (op, inner.kind) {
                ("-", ExprKind::Number(text)) if !text.starts_with('-') => {
                    Expr { kind: ExprKind::Number(format!("-{text}")), span }
                }
                (op, kind) => {
                    Expr { kind: ExprKind::Unary(op, Box::new(Expr { kind, span: inner.span })), span }
                }
            });
        }
        let mut base = self.primary()?;
        let mut operands = 0;
        loop {
            operands += 1;
            self.limit(operands, MAX_OPERANDS)?;
            if self.eat("[") {
                let index = self.expr()?;
                self.expect("]")?;
                let span = base.span.to(self.before());
                base = Expr { kind: ExprKind::Item(Box::new(base), Box::new(index)), span };
            } else if self.is(".") && !matches!(base.kind, ExprKind::Number(_)) {
                self.at += 1;
                let field = self.field_name()?;
                let span = base.span.to(field.span);
                base = Expr { kind: ExprKind::Field(Box::new(base), field), span };
            } else {
                return Ok(base);
            }
        }
    }

    /// A field after a dot: any word.
    fn field_name(&mut self) -> SqlResult<Ident> {
        self.ident()
    }

    pub(super) fn primary(&mut self) -> SqlResult<Expr> {
        let span = self.span();
        let token = self.peek().clone();
        let kind = match token {
            Token::Number(text) => {
                self.at += 1;
                ExprKind::Number(text)
            }
            Token::Str(mut text) => {
                self.at += 1;
                // adjacent literals are one
                while let Token::Str(more) = self.peek() {
                    text.push_str(more);
                    self.at += 1;
                }
                ExprKind::Str(text)
            }
            Token::Hex(text) => {
                self.at += 1;
                ExprKind::Bytes(hex(&text, span)?)
            }
            Token::Symbol("(") => {
                self.at += 1;
                if self.is_word("SELECT") || self.is_word("WITH") || self.is_word("VALUES") {
                    let query = self.boxed_query()?;
                    self.expect(")")?;
                    ExprKind::Subquery(query)
                } else {
                    let mut items = self.list(Self::expr)?;
                    self.expect(")")?;
                    if items.len() == 1 {
                        let inner = items.remove(0);
                        // (a - b) DAY TO SECOND: the difference as an interval
                        if let ExprKind::Binary("-", left, right) = &inner.kind
                            && self.at_unit()
                        {
                            let unit = self.unit()?;
                            if self.eat_word("TO") {
                                self.unit()?;
                            }
                            let months = matches!(unit.as_str(), "YEAR" | "QUARTER" | "MONTH");
                            let name = if months { "MINUS_MONTHS" } else { "MINUS_MILLIS" };
                            return Ok(self.simple_call(
                                name,
                                span,
                                vec![(**left).clone(), (**right).clone()],
                            ));
                        }
                        return Ok(Expr { kind: inner.kind, span: span.to(self.before()) });
                    }
                    ExprKind::Row(items)
                }
            }
            Token::Word { value, quoted } => {
                if !quoted {
                    let upper = value.to_uppercase();
                    if let Some(expr) = self.keyword_expr(&upper, span)? {
                        return Ok(expr);
                    }
                }
                if self.is_at(1, "(") {
                    return self.call();
                }
                if !quoted && is_reserved(&value) {
                    return Err(self.unexpected(&["an expression"]));
                }
                let mut parts = vec![self.ident()?];
                while self.is(".") && matches!(self.peek_at(1), Token::Word { .. }) {
                    self.at += 1;
                    parts.push(self.field_name()?);
                }
                ExprKind::Name(parts)
            }
            _ => return Err(self.unexpected(&["an expression"])),
        };
        Ok(Expr { kind, span: span.to(self.before()) })
    }
}
