//! FROM: tables, joins, window functions, UNNEST.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::expr::ExprNode;
use crate::engine::plan::{JoinKind, Window, WindowKind, WindowProperty};
use crate::engine::types::{DataType, TypeKind};
use crate::sql::ast::{self, JoinCondition, TableExpr};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::functions::operators;
use crate::sql::rel::{Col, JoinRel, Rel, RelNode, TimeAttribute, WindowInfo, WindowRole};
use crate::sql::types::{and_all, column};

use super::aggregate_rel::property_col;
use super::select::renamed;
use super::{Binder, Env, OUTER, Scope};

impl Binder<'_> {
    /// Binds FROM: the relation and the names of its columns.
    pub(super) fn from(&self, table: &TableExpr, outer: Option<&Scope>) -> SqlResult<(Rel, Scope)> {
        match table {
            TableExpr::Table { name, hints, system_time, alias } => {
                if let Some(time) = system_time {
                    return Err(SqlError::plan(
                        time.span,
                        "FOR SYSTEM_TIME AS OF stands on the right side of a join",
                    )
                    .help("… FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON …"));
                }
                self.named(name, hints, alias.as_ref())
            }
            TableExpr::Derived { query, lateral, alias } => {
                if *lateral {
                    return Err(SqlError::plan(query.span, "LATERAL stands on the right side of a join"));
                }
                let rel = self.query_in(query, None)?;
                aliased(rel, alias.as_ref())
            }
            TableExpr::Window { name, input, partition, time, sizes, alias } => {
                let rel = self.window(name, input, partition, time, sizes)?;
                aliased(rel, alias.as_ref())
            }
            TableExpr::Unnest { expr, ordinality, alias } => {
                let one = Rel { node: RelNode::Values(vec![Vec::new()]), cols: Vec::new() };
                self.unnest(one, Scope::default(), expr, *ordinality, alias.as_ref(), false)
            }
            TableExpr::Join { left, right, kind, condition, span } => {
                let (left, left_scope) = self.from(left, outer)?;
                self.join(left, left_scope, right, *kind, condition, *span, outer)
            }
        }
    }

    /// A table, view or common table expression.
    fn named(
        &self,
        name: &[ast::Ident],
        hints: &[ast::Hint],
        alias: Option<&ast::Alias>,
    ) -> SqlResult<(Rel, Scope)> {
        let Some(last) = name.last() else {
            return Err(SqlError::plan(Span::default(), "a table's name is missing"));
        };
        let cte = match name {
            [single] => {
                self.ctes.borrow().iter().rev().find(|(n, _)| *n == single.value).map(|(_, rel)| rel.clone())
            }
            _ => None,
        };
        let rel = match cte {
            Some(rel) => rel,
            None => {
                let table = self.catalog.table(last)?;
                let mut options: BTreeMap<String, String> = BTreeMap::new();
                for hint in hints.iter().filter(|h| h.name == "OPTIONS") {
                    options.extend(hint.options.iter().cloned());
                }
                match &table.view {
                    Some(query) => {
                        if *self.depth.borrow() > 32 {
                            return Err(SqlError::plan(
                                last.span,
                                format!("view '{}' refers to itself", table.name),
                            ));
                        }
                        *self.depth.borrow_mut() += 1;
                        // a view sees the catalog, not the common table expressions of its user
                        let ctes = std::mem::take(&mut *self.ctes.borrow_mut());
                        let rel = self.query_in(query, None);
                        *self.ctes.borrow_mut() = ctes;
                        *self.depth.borrow_mut() -= 1;
                        let mut rel = rel.map_err(|e| {
                            SqlError::plan(last.span, format!("in view '{}': {}", table.name, e.message))
                        })?;
                        for (col, declared) in rel.cols.iter_mut().zip(&table.columns) {
                            col.name.clone_from(&declared.col.name);
                        }
                        rel
                    }
                    None => self.table_rel(&table, options, last.span)?,
                }
            }
        };
        match alias {
            Some(_) => aliased(rel, alias),
            None => {
                let scope = Scope::of(&rel, Some(&last.value));
                Ok((rel, scope))
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn join(
        &self,
        left: Rel,
        left_scope: Scope,
        right: &TableExpr,
        kind: ast::JoinKind,
        condition: &JoinCondition,
        span: Span,
        outer: Option<&Scope>,
    ) -> SqlResult<(Rel, Scope)> {
        let kind = match kind {
            ast::JoinKind::Inner => JoinKind::Inner,
            ast::JoinKind::Left => JoinKind::Left,
            ast::JoinKind::Right => JoinKind::Right,
            ast::JoinKind::Full => JoinKind::Full,
            ast::JoinKind::Semi => JoinKind::Semi,
            ast::JoinKind::Anti => JoinKind::Anti,
        };
        if let TableExpr::Unnest { expr, ordinality, alias } = right {
            let pad = match (kind, condition) {
                (JoinKind::Inner, JoinCondition::None) => false,
                (JoinKind::Inner, JoinCondition::On(on)) if on.kind == ast::ExprKind::Bool(true) => false,
                (JoinKind::Left, JoinCondition::On(on)) if on.kind == ast::ExprKind::Bool(true) => true,
                _ => {
                    return Err(SqlError::plan(
                        span,
                        "UNNEST is joined with CROSS JOIN or LEFT JOIN … ON TRUE",
                    ));
                }
            };
            return self.unnest(left, left_scope, expr, *ordinality, alias.as_ref(), pad);
        }
        if let TableExpr::Derived { query, lateral: true, alias } = right {
            let on = match condition {
                JoinCondition::None => None,
                JoinCondition::On(on) if on.kind == ast::ExprKind::Bool(true) => None,
                JoinCondition::On(on) => Some(&**on),
                _ => return Err(SqlError::plan(span, "LATERAL is joined with CROSS JOIN, or with ON")),
            };
            return self.lateral(left, left_scope, query, alias.as_ref(), kind, on, span);
        }
        let mut system_time = None;
        let (right, right_scope) = match right {
            TableExpr::Table { name, hints, system_time: Some(time), alias } => {
                let bound = self.expr(time, Env::plain(&left_scope))?;
                if !crate::sql::types::is_timestamp(&bound.data_type.kind) {
                    return Err(SqlError::plan(
                        time.span,
                        format!(
                            "The system time period specification expects Timestamp type but is '{}'",
                            crate::sql::types::family(&bound.data_type.kind)
                        ),
                    ));
                }
                let index = match bound.node {
                    ExprNode::Column(index)
                        if left.cols.get(index).is_some_and(|c| c.time != TimeAttribute::None) =>
                    {
                        index
                    }
                    _ => {
                        return Err(SqlError::plan(
                            time.span,
                            "Temporal table join currently only supports 'FOR SYSTEM_TIME AS OF' left table's time attribute field",
                        )
                        .help("declare a WATERMARK on the left table's column, or a computed column AS PROCTIME()"));
                    }
                };
                system_time = Some(index);
                self.named(name, hints, alias.as_ref())?
            }
            other => self.from(other, outer)?,
        };
        let width = left.cols.len();
        let mut scope = left_scope;
        let mut hidden = Vec::new();
        let using: Vec<ast::Ident> = match condition {
            JoinCondition::Using(columns) => columns.clone(),
            JoinCondition::Natural => scope
                .cols
                .iter()
                .filter(|l| !l.hidden && right_scope.cols.iter().any(|r| r.name == l.name))
                .map(|l| ast::Ident { value: l.name.clone(), span })
                .collect(),
            _ => Vec::new(),
        };
        let mut conditions = Vec::new();
        for name in &using {
            let l = scope.find(None, name)?.ok_or_else(|| scope.missing(None, name))?;
            let r = right_scope.find(None, name)?.ok_or_else(|| right_scope.missing(None, name))?;
            hidden.push(r.index + width);
            conditions.push(operators::compare(
                "=",
                column(l.index, l.data_type.clone()),
                column(r.index + width, r.data_type.clone()),
                name.span,
            )?);
        }
        let ttl = [self.ttl(&scope), self.ttl(&right_scope)];
        scope.cols.extend(right_scope.cols.into_iter().map(|mut col| {
            col.index += width;
            col.hidden |= hidden.contains(&col.index);
            col
        }));
        if let JoinCondition::On(on) = condition {
            let bound = self.expr(on, Env { outer, ..Env::plain(&scope) })?;
            conditions.push(operators::clause("ON", bound, on.span)?);
        }
        let cols = Rel::join_cols(&left, &right, kind);
        let join = JoinRel { left, right, kind, condition: and_all(conditions), system_time, ttl, span };
        let rel = Rel { node: RelNode::Join(Box::new(join)), cols };
        scope.refresh(&rel);
        Ok((rel, scope))
    }

    /// What the query's hint says of a table; nothing of several.
    pub(super) fn ttl(&self, scope: &Scope) -> Option<i64> {
        let mut tables = scope.tables();
        let first = tables.next()?;
        let single = tables.all(|table| table == first);
        self.ttls.borrow().last().and_then(|ttls| ttls.get(first).copied()).filter(|_| single)
    }

    /// `left [LEFT] JOIN LATERAL (query)`, the query depending on the left side by conditions of its WHERE.
    #[allow(clippy::too_many_arguments)]
    fn lateral(
        &self,
        left: Rel,
        left_scope: Scope,
        query: &ast::Query,
        alias: Option<&ast::Alias>,
        kind: JoinKind,
        on: Option<&ast::Expr>,
        span: Span,
    ) -> SqlResult<(Rel, Scope)> {
        if !matches!(kind, JoinKind::Inner | JoinKind::Left) {
            return Err(SqlError::plan(span, "LATERAL stands on the right side of an inner or left join"));
        }
        let inner = self.query_in(query, Some(&left_scope))?;
        let visible = inner.cols.len();
        // an aggregation without groups is joined as it is: as in Flink, a row on the left without rows for it has no
        // partner, and is kept by LEFT JOIN only
        let (right, conditions) = super::subquery::decorrelate(inner, span)?;
        let width = left.cols.len();
        let mut conditions: Vec<_> = conditions
            .iter()
            .map(|condition| {
                crate::sql::types::rewrite(condition, &|index, data_type| {
                    let index = if index >= OUTER { index - OUTER } else { index + width };
                    column(index, data_type.clone())
                })
            })
            .collect();
        let (shown, mut right_scope) = aliased(
            Rel {
                node: RelNode::Values(Vec::new()),
                cols: right.cols.iter().take(visible).cloned().collect(),
            },
            alias,
        )?;
        let mut right = right;
        for (col, named) in right.cols.iter_mut().zip(&shown.cols) {
            col.name.clone_from(&named.name);
        }
        right_scope.cols.iter_mut().for_each(|col| col.index += width);
        let mut scope = left_scope;
        scope.cols.extend(right_scope.cols);
        if let Some(on) = on {
            let bound = self.expr(on, Env::plain(&scope))?;
            conditions.push(operators::clause("ON", bound, on.span)?);
        }
        let cols = Rel::join_cols(&left, &right, kind);
        let join = JoinRel {
            left,
            right,
            kind,
            condition: and_all(conditions),
            system_time: None,
            ttl: [None; 2],
            span,
        };
        let rel = Rel { node: RelNode::Join(Box::new(join)), cols };
        let exprs = (0..width + visible).map(|i| rel.col(i)).collect();
        let cols = rel.cols.iter().take(width + visible).cloned().collect();
        let rel = rel.project(exprs, cols);
        scope.refresh(&rel);
        Ok((rel, scope))
    }

    fn unnest(
        &self,
        left: Rel,
        mut scope: Scope,
        expr: &ast::Expr,
        ordinality: bool,
        alias: Option<&ast::Alias>,
        outer: bool,
    ) -> SqlResult<(Rel, Scope)> {
        let collection = self.expr(expr, Env::plain(&scope))?;
        let fields: Vec<(String, DataType)> = match &collection.data_type.kind {
            TypeKind::Array(element) | TypeKind::Multiset(element) => match &element.kind {
                TypeKind::Row(fields) => {
                    fields.iter().map(|f| (f.name.clone(), f.data_type.clone())).collect()
                }
                _ => vec![("f0".to_owned(), (**element).clone())],
            },
            TypeKind::Map(key, value) => {
                vec![("f0".to_owned(), (**key).clone()), ("f1".to_owned(), (**value).clone())]
            }
            other => {
                return Err(SqlError::plan(
                    expr.span,
                    format!(
                        "Cannot apply 'UNNEST' to arguments of type 'UNNEST(<{}>)'. Supported form(s): 'UNNEST(<MULTISET>)' 'UNNEST(<ARRAY>)' 'UNNEST(<MAP>)'",
                        crate::sql::types::calcite(other)
                    ),
                ));
            }
        };
        let mut cols: Vec<Col> = fields.into_iter().map(|(name, t)| Col::new(name, t)).collect();
        if ordinality {
            cols.push(Col::new("ORDINALITY", DataType::not_null(TypeKind::Int)));
        }
        if outer {
            cols.iter_mut().for_each(|col| col.data_type.nullable = true);
        }
        if let Some(alias) = alias
            && !alias.columns.is_empty()
        {
            if alias.columns.len() != cols.len() {
                return Err(SqlError::plan(
                    alias.name.span,
                    format!(
                        "List of column aliases must have same degree as table; table has {} columns ({}), whereas alias list has {} columns",
                        cols.len(),
                        cols.iter().map(|c| format!("'{}'", c.name)).collect::<Vec<_>>().join(", "),
                        alias.columns.len(),
                    ),
                ));
            }
            for (col, name) in cols.iter_mut().zip(&alias.columns) {
                col.name.clone_from(&name.value);
            }
        }
        let width = left.cols.len();
        let right = Rel { node: RelNode::Values(Vec::new()), cols: cols.clone() };
        let mut right_scope = Scope::of(&right, alias.map(|a| a.name.value.as_str()));
        right_scope.cols.iter_mut().for_each(|col| col.index += width);
        scope.cols.extend(right_scope.cols);
        let mut all = left.cols.clone();
        all.extend(cols);
        let node = RelNode::Unnest { input: Box::new(left), collection, outer, ordinality };
        Ok((Rel { node, cols: all }, scope))
    }

    /// TUMBLE, HOP, CUMULATE, SESSION as table functions.
    fn window(
        &self,
        name: &ast::Ident,
        input: &TableExpr,
        partition: &[ast::Ident],
        time: &ast::Ident,
        sizes: &[ast::Expr],
    ) -> SqlResult<Rel> {
        let (rel, scope) = self.from(input, None)?;
        let time_col = scope.find(None, time)?.ok_or_else(|| {
            let missing = scope.missing(None, time);
            let mut error = SqlError::plan(time.span, format!("Unknown identifier '{}'", time.value));
            error.help = missing.help;
            error
        })?;
        if !crate::sql::types::is_timestamp(&time_col.data_type.kind) {
            return Err(SqlError::plan(
                time.span,
                format!(
                    "The window function {0}(TABLE table_name, DESCRIPTOR(timecol), datetime interval[, datetime interval]) requires the timecol to be TIMESTAMP or TIMESTAMP_LTZ, but is {1}.",
                    name.value,
                    crate::sql::types::calcite(&time_col.data_type.kind)
                ),
            )
            .help("the time column needs a type of time and a WATERMARK"));
        }
        if time_col.time == TimeAttribute::None {
            return Err(SqlError::plan(
                time.span,
                format!(
                    "The window function requires the timecol is a time attribute type, but is {}.",
                    time_col.data_type.kind
                ),
            )
            .help(format!(
                "declare it in CREATE TABLE: WATERMARK FOR {0} AS {0} - INTERVAL '5' SECOND",
                time.value
            )));
        }
        let partition = partition
            .iter()
            .map(|p| Ok(scope.find(None, p)?.ok_or_else(|| scope.missing(None, p))?.index))
            .collect::<SqlResult<Vec<_>>>()?;
        let millis = sizes.iter().map(|size| self.interval_millis(size)).collect::<SqlResult<Vec<_>>>()?;
        let offset = |i: usize| millis.get(i).copied().unwrap_or(0);
        let kind = match (name.value.as_str(), millis.as_slice()) {
            ("TUMBLE", [size] | [size, _]) => WindowKind::Tumble { size: *size, offset: offset(1) },
            ("HOP", [slide, size] | [slide, size, _]) => {
                if *slide > 0 && size % slide != 0 {
                    return Err(SqlError::plan(
                        name.span,
                        format!(
                            "HOP table function based aggregate requires size must be an integral multiple of slide, but got size {size} ms and slide {slide} ms"
                        ),
                    ));
                }
                WindowKind::Hop { slide: *slide, size: *size, offset: offset(2) }
            }
            ("CUMULATE", [step, size] | [step, size, _]) => {
                if *step > 0 && size % step != 0 {
                    return Err(SqlError::plan(
                        name.span,
                        format!(
                            "CUMULATE table function based aggregate requires maxSize must be an integral multiple of step, but got maxSize {size} ms and step {step} ms"
                        ),
                    ));
                }
                WindowKind::Cumulate { step: *step, size: *size, offset: offset(2) }
            }
            ("SESSION", [gap]) => WindowKind::Session { gap: *gap, partition: partition.clone() },
            _ => {
                return Err(SqlError::plan(
                    name.span,
                    format!(
                        "Invalid number of arguments to function '{}'. Was expecting {} arguments",
                        name.value,
                        if matches!(name.value.as_str(), "HOP" | "CUMULATE") { 4 } else { 3 }
                    ),
                )
                .help(match name.value.as_str() {
                    "TUMBLE" => "TUMBLE(TABLE t, DESCRIPTOR(ts), size [, offset])",
                    "HOP" => "HOP(TABLE t, DESCRIPTOR(ts), slide, size [, offset])",
                    "CUMULATE" => "CUMULATE(TABLE t, DESCRIPTOR(ts), step, size [, offset])",
                    _ => "SESSION(TABLE t [PARTITION BY k], DESCRIPTOR(ts), gap)",
                }));
            }
        };
        if millis.first().is_some_and(|size| *size <= 0)
            || millis.get(1).is_some_and(|size| *size <= 0 && name.value != "TUMBLE")
        {
            return Err(SqlError::plan(
                name.span,
                format!(
                    "{} table function based aggregate requires size to be positive, but got {} ms.",
                    name.value,
                    millis.iter().copied().find(|m| *m <= 0).unwrap_or(0)
                ),
            ));
        }
        let window = Window { kind, time: time_col.index, rowtime: time_col.time == TimeAttribute::Rowtime };
        let time_kind = time_col.data_type.kind.clone();
        let info = Arc::new(WindowInfo {
            window: window.clone(),
            ltz: matches!(time_kind, TypeKind::TimestampLtz(_)),
        });
        let mut cols = rel.cols.clone();
        for property in [WindowProperty::Start, WindowProperty::End, WindowProperty::Time] {
            let mut col = property_col(property, &time_kind, window.rowtime);
            col.role = Some(WindowRole { property, window: Arc::clone(&info) });
            cols.push(col);
        }
        Ok(Rel { node: RelNode::WindowTvf(Box::new(rel), window), cols })
    }
}

fn aliased(rel: Rel, alias: Option<&ast::Alias>) -> SqlResult<(Rel, Scope)> {
    let rel = match alias {
        Some(alias) => renamed(rel, &alias.columns, &alias.name)?,
        None => rel,
    };
    let scope = Scope::of(&rel, alias.map(|a| a.name.value.as_str()));
    Ok((rel, scope))
}
