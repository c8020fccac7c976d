//! Queries: SELECT, FROM, joins, set operations.

use crate::sql::ast::{
    Alias, Expr, ExprKind, FrameStart, GroupItem, Ident, JoinCondition, JoinKind, OrderItem, Query, Select,
    SetExpr, TableExpr, WindowSpec,
};
use crate::sql::error::{SqlError, SqlResult};

use super::{Parser, Token};

/// Tables and queries of a query and all queries within it: each is one level of the plan.
const MAX_INPUTS: usize = 400;

impl Parser {
    /// `[WITH …] body [ORDER BY …] [LIMIT …]`.
    pub(super) fn query(&mut self) -> SqlResult<Query> {
        let expressions = std::mem::take(&mut self.expressions);
        if self.queries == 0 {
            self.inputs = 0;
        }
        self.queries += 1;
        let query = self.deeper(Self::query_inner);
        self.queries -= 1;
        self.expressions = expressions;
        query
    }

    fn input(&mut self) -> SqlResult<()> {
        self.inputs += 1;
        self.limit(self.inputs, MAX_INPUTS)
    }

    fn query_inner(&mut self) -> SqlResult<Query> {
        let span = self.span();
        let mut ctes = Vec::new();
        if self.eat_word("WITH") {
            if self.is_word("RECURSIVE") {
                return Err(SqlError::parse(self.span(), "WITH RECURSIVE is not supported on streams"));
            }
            ctes = self.list(|p| {
                let name = p.ident()?;
                let columns = if p.is("(") { p.in_parens(Self::ident)? } else { Vec::new() };
                p.expect_word("AS")?;
                p.expect("(")?;
                let query = p.query()?;
                p.expect(")")?;
                Ok((name, columns, query))
            })?;
        }
        let body = self.set_expr(0)?;
        let order = if self.eat_words(&["ORDER", "BY"]) { self.list(Self::order_item)? } else { Vec::new() };
        let (mut limit, mut offset) = (None, None);
        loop {
            if self.eat_word("LIMIT") {
                if !self.eat_word("ALL") {
                    limit = Some(self.unsigned()?);
                }
            } else if self.eat_word("OFFSET") {
                offset = Some(self.unsigned()?);
                let _ = self.eat_word("ROWS") || self.eat_word("ROW");
            } else if self.eat_word("FETCH") {
                let _ = self.eat_word("FIRST") || self.eat_word("NEXT");
                limit = Some(self.unsigned()?);
                let _ = self.eat_word("ROWS") || self.eat_word("ROW");
                self.expect_word("ONLY")?;
            } else {
                break;
            }
        }
        Ok(Query { ctes, body, order, offset, limit, span })
    }

    fn set_expr(&mut self, level: u8) -> SqlResult<SetExpr> {
        let mut left = self.set_operand()?;
        loop {
            self.input()?;
            let (op, strength) = if self.is_word("UNION") {
                ("UNION", 1)
            } else if self.is_word("MINUS") && (self.is_word_at(1, "SELECT") || self.is_word_at(1, "ALL")) {
                return Err(SqlError::parse(
                    self.span(),
                    "MINUS is not allowed under the current SQL conformance level",
                )
                .help("write EXCEPT"));
            } else if self.is_word("EXCEPT") {
                ("EXCEPT", 1)
            } else if self.is_word("INTERSECT") {
                ("INTERSECT", 2)
            } else {
                return Ok(left);
            };
            if strength <= level {
                return Ok(left);
            }
            let span = self.span();
            self.at += 1;
            let all = self.eat_word("ALL");
            if !all {
                self.eat_word("DISTINCT");
            }
            let right = self.deeper(|p| p.set_expr(strength))?;
            left = SetExpr::SetOp(op, all, Box::new(left), Box::new(right), span);
        }
    }

    fn set_operand(&mut self) -> SqlResult<SetExpr> {
        if self.eat("(") {
            let query = self.boxed_query()?;
            self.expect(")")?;
            return Ok(SetExpr::Query(query));
        }
        if self.eat_word("VALUES") {
            return Ok(SetExpr::Values(self.list(|p| {
                if p.eat_word("ROW") || p.is("(") { p.in_parens(Self::expr) } else { Ok(vec![p.expr()?]) }
            })?));
        }
        if self.is_word("TABLE") {
            let span = self.span();
            self.at += 1;
            let name = self.table_name()?;
            let star = Expr { kind: ExprKind::Wildcard(Vec::new()), span };
            return Ok(SetExpr::Select(Box::new(Select {
                distinct: false,
                hints: Vec::new(),
                items: vec![(star, None)],
                from: Some(TableExpr::Table {
                    name: vec![name],
                    hints: Vec::new(),
                    system_time: None,
                    alias: None,
                }),
                filter: None,
                group: None,
                having: None,
                qualify: None,
                windows: Vec::new(),
                span,
            })));
        }
        Ok(SetExpr::Select(Box::new(self.select()?)))
    }

    fn select(&mut self) -> SqlResult<Select> {
        let span = self.span();
        self.expect_word("SELECT")?;
        let hints = self.hints()?;
        let distinct = self.eat_word("DISTINCT");
        if !distinct {
            self.eat_word("ALL");
        }
        let items = self.list(Self::select_item)?;
        let from = if self.eat_word("FROM") {
            let mut table = self.table_expr()?;
            while self.is(",") {
                self.input()?;
                let span = self.span();
                self.at += 1;
                let right = self.table_expr()?;
                table = TableExpr::Join {
                    left: Box::new(table),
                    right: Box::new(right),
                    kind: JoinKind::Inner,
                    condition: JoinCondition::None,
                    span,
                };
            }
            Some(table)
        } else {
            None
        };
        let filter = if self.eat_word("WHERE") { Some(self.expr()?) } else { None };
        let group = if self.eat_words(&["GROUP", "BY"]) { Some(self.list(Self::group_item)?) } else { None };
        let having = if self.eat_word("HAVING") { Some(self.expr()?) } else { None };
        let windows = if self.eat_word("WINDOW") {
            self.list(|p| {
                let name = p.ident()?;
                p.expect_word("AS")?;
                p.expect("(")?;
                let spec = p.window_spec()?;
                p.expect(")")?;
                Ok((name, spec))
            })?
        } else {
            Vec::new()
        };
        let qualify = if self.eat_word("QUALIFY") { Some(self.expr()?) } else { None };
        Ok(Select { distinct, hints, items, from, filter, group, having, qualify, windows, span })
    }

    fn select_item(&mut self) -> SqlResult<(Expr, Option<Ident>)> {
        let span = self.span();
        if self.eat("*") {
            return Ok((Expr { kind: ExprKind::Wildcard(Vec::new()), span }, None));
        }
        // table.*, row.*, table.row.*
        let mut parts = 0;
        while matches!(self.peek_at(2 * parts), Token::Word { .. }) && self.is_at(2 * parts + 1, ".") {
            parts += 1;
        }
        if parts > 0 && self.is_at(2 * parts, "*") {
            let mut path = Vec::with_capacity(parts);
            for _ in 0..parts {
                path.push(self.ident()?);
                self.at += 1;
            }
            self.at += 1;
            return Ok((Expr { kind: ExprKind::Wildcard(path), span: span.to(self.before()) }, None));
        }
        let expr = self.expr()?;
        let alias = self.alias_name()?;
        Ok((expr, alias))
    }

    /// `AS name` or a bare name that is no keyword.
    fn alias_name(&mut self) -> SqlResult<Option<Ident>> {
        if self.eat_word("AS") {
            return Ok(Some(self.ident()?));
        }
        match self.peek() {
            crate::sql::dialect::Token::Word { value, quoted }
                if !*quoted && value.eq_ignore_ascii_case("MINUS") && self.is_word_at(1, "SELECT") =>
            {
                Ok(None)
            }
            crate::sql::dialect::Token::Word { value, quoted }
                if *quoted || !crate::sql::dialect::is_reserved(value) =>
            {
                Ok(Some(self.ident()?))
            }
            _ => Ok(None),
        }
    }

    fn table_alias(&mut self) -> SqlResult<Option<Alias>> {
        let Some(name) = self.alias_name()? else { return Ok(None) };
        let columns = if self.is("(") { self.in_parens(Self::ident)? } else { Vec::new() };
        Ok(Some(Alias { name, columns }))
    }

    fn group_item(&mut self) -> SqlResult<GroupItem> {
        if self.eat_words(&["GROUPING", "SETS"]) {
            return Ok(GroupItem::Sets(self.in_parens(Self::group_item)?));
        }
        if self.is_word("ROLLUP") && self.is_at(1, "(") {
            self.at += 1;
            return Ok(GroupItem::Rollup(self.in_parens(Self::group_tuple)?));
        }
        if self.is_word("CUBE") && self.is_at(1, "(") {
            self.at += 1;
            return Ok(GroupItem::Cube(self.in_parens(Self::group_tuple)?));
        }
        if self.is("(") && self.is_at(1, ")") {
            self.at += 2;
            return Ok(GroupItem::Tuple(Vec::new()));
        }
        let expr = self.expr()?;
        Ok(match expr.kind {
            ExprKind::Row(items) => GroupItem::Tuple(items),
            _ => GroupItem::Expr(expr),
        })
    }

    fn group_tuple(&mut self) -> SqlResult<Vec<Expr>> {
        let expr = self.expr()?;
        Ok(match expr.kind {
            ExprKind::Row(items) => items,
            _ => vec![expr],
        })
    }

    /// An item of ORDER BY.
    pub(super) fn order_item(&mut self) -> SqlResult<OrderItem> {
        let expr = self.expr()?;
        let descending = self.eat_word("DESC");
        if !descending {
            self.eat_word("ASC");
        }
        let nulls_first = if self.eat_words(&["NULLS", "FIRST"]) {
            Some(true)
        } else if self.eat_words(&["NULLS", "LAST"]) {
            Some(false)
        } else {
            None
        };
        Ok(OrderItem { expr, descending, nulls_first })
    }

    /// The inside of `OVER (…)`.
    pub(super) fn window_spec(&mut self) -> SqlResult<WindowSpec> {
        let mut spec = WindowSpec::default();
        let begins = ["PARTITION", "ORDER", "ROWS", "RANGE"].iter().any(|word| self.is_word(word));
        if !begins && !self.is(")") {
            spec.base = Some(self.ident()?);
        }
        if self.eat_words(&["PARTITION", "BY"]) {
            spec.partition = self.list(Self::expr)?;
        }
        if self.eat_words(&["ORDER", "BY"]) {
            spec.order = self.list(Self::order_item)?;
        }
        let rows = self.is_word("ROWS");
        if rows || self.is_word("RANGE") {
            self.at += 1;
            let between = self.eat_word("BETWEEN");
            let start = if self.eat_words(&["UNBOUNDED", "PRECEDING"]) {
                FrameStart::Unbounded
            } else if self.eat_words(&["CURRENT", "ROW"]) {
                FrameStart::Current
            } else {
                let bound = self.additive()?;
                if self.is_word("FOLLOWING") {
                    return Err(SqlError::plan(
                        self.span(),
                        "OVER RANGE FOLLOWING windows are not supported yet.",
                    ));
                }
                self.expect_word("PRECEDING")?;
                FrameStart::Preceding(Box::new(bound))
            };
            if between {
                self.expect_word("AND")?;
                if !self.eat_words(&["CURRENT", "ROW"]) {
                    return Err(SqlError::plan(
                        self.span(),
                        "OVER RANGE FOLLOWING windows are not supported yet.",
                    )
                    .help("end the frame with AND CURRENT ROW"));
                }
            }
            spec.frame = Some((rows, start));
        }
        Ok(spec)
    }

    /// A table with its joins.
    fn table_expr(&mut self) -> SqlResult<TableExpr> {
        let mut left = self.table_factor()?;
        loop {
            self.input()?;
            let span = self.span();
            let natural = self.is_word("NATURAL");
            if natural {
                self.at += 1;
            }
            let kind = if self.eat_words(&["CROSS", "JOIN"]) {
                let right = self.table_factor()?;
                left = TableExpr::Join {
                    left: Box::new(left),
                    right: Box::new(right),
                    kind: JoinKind::Inner,
                    condition: JoinCondition::None,
                    span,
                };
                continue;
            } else if self.eat_word("JOIN") || self.eat_words(&["INNER", "JOIN"]) {
                JoinKind::Inner
            } else if self.eat_words(&["LEFT", "JOIN"]) || self.eat_words(&["LEFT", "OUTER", "JOIN"]) {
                JoinKind::Left
            } else if self.eat_words(&["RIGHT", "JOIN"]) || self.eat_words(&["RIGHT", "OUTER", "JOIN"]) {
                JoinKind::Right
            } else if self.eat_words(&["FULL", "JOIN"]) || self.eat_words(&["FULL", "OUTER", "JOIN"]) {
                JoinKind::Full
            } else if natural {
                return Err(self.unexpected(&["JOIN"]));
            } else {
                return Ok(left);
            };
            let right = self.table_factor()?;
            let condition = if natural {
                JoinCondition::Natural
            } else if self.eat_word("ON") {
                JoinCondition::On(Box::new(self.expr()?))
            } else if self.eat_word("USING") {
                JoinCondition::Using(self.in_parens(Self::ident)?)
            } else if kind == JoinKind::Inner {
                JoinCondition::Missing
            } else {
                return Err(SqlError::parse(
                    span,
                    "INNER, LEFT, RIGHT or FULL join requires a condition (NATURAL keyword or ON or USING clause)",
                ));
            };
            left = TableExpr::Join { left: Box::new(left), right: Box::new(right), kind, condition, span };
        }
    }

    fn table_factor(&mut self) -> SqlResult<TableExpr> {
        self.deeper(Self::table_factor_inner)
    }

    fn table_factor_inner(&mut self) -> SqlResult<TableExpr> {
        let lateral = self.eat_word("LATERAL");
        if self.is_word("TABLE") && self.is_at(1, "(") {
            self.at += 2;
            let mut table =
                if self.is_word("UNNEST") { self.table_factor()? } else { self.window_function()? };
            self.expect(")")?;
            let outer = self.table_alias()?;
            if let TableExpr::Window { alias, .. } | TableExpr::Unnest { alias, .. } = &mut table {
                *alias = outer;
            }
            return Ok(table);
        }
        if self.is_window_call() {
            let mut table = self.window_function()?;
            let outer = self.table_alias()?;
            if let TableExpr::Window { alias, .. } = &mut table {
                *alias = outer;
            }
            return Ok(table);
        }
        if self.is_word("UNNEST") && self.is_at(1, "(") {
            self.at += 2;
            let expr = Box::new(self.expr()?);
            self.expect(")")?;
            let ordinality = self.eat_words(&["WITH", "ORDINALITY"]);
            return Ok(TableExpr::Unnest { expr, ordinality, alias: self.table_alias()? });
        }
        if self.eat("(") {
            if self.is_word("SELECT") || self.is_word("WITH") || self.is_word("VALUES") || self.is("(") {
                let at = self.at;
                match self.boxed_query() {
                    Ok(query) if self.is(")") => {
                        self.at += 1;
                        return Ok(TableExpr::Derived { query, lateral, alias: self.table_alias()? });
                    }
                    Ok(_)
                        if !matches!(
                            self.tokens.get(at).map(|t| &t.token),
                            Some(crate::sql::dialect::Token::Symbol("("))
                        ) =>
                    {
                        return Err(self.unexpected(&["\")\""]));
                    }
                    Err(error)
                        if !matches!(
                            self.tokens.get(at).map(|t| &t.token),
                            Some(crate::sql::dialect::Token::Symbol("("))
                        ) =>
                    {
                        return Err(error);
                    }
                    // `((a JOIN b …) JOIN c)`
                    _ => self.at = at,
                }
            }
            let inner = self.table_expr()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let mut name = vec![self.ident()?];
        while self.eat(".") {
            name.push(self.ident()?);
        }
        if self.is("(") {
            let name = name.last().map(|n| n.value.to_uppercase()).unwrap_or_default();
            return Err(SqlError::plan(self.before(), format!("the table function {name} is not supported")));
        }
        let hints = self.hints()?;
        let mut alias = None;
        let mut system_time = None;
        if self.is_word("MATCH_RECOGNIZE") && self.is_at(1, "(") {
            return Err(SqlError::plan(self.span(), "MATCH_RECOGNIZE is not supported")
                .help("patterns of two rows: LAG() OVER, or an interval join of the table with itself"));
        }
        if !self.is_word("FOR") {
            alias = self.table_alias()?;
        }
        if self.eat_words(&["FOR", "SYSTEM_TIME", "AS", "OF"]) {
            system_time = Some(Box::new(self.additive()?));
            if alias.is_none() {
                alias = self.table_alias()?;
            }
        }
        Ok(TableExpr::Table { name, hints, system_time, alias })
    }
}
