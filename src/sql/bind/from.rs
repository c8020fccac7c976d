//! FROM: tables, joins, window functions, UNNEST.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{JoinKind, Window, WindowKind, WindowProperty};
use crate::engine::types::TypeKind;
use crate::sql::ast::{self, JoinCondition, TableExpr};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::functions::{self, operators};
use crate::sql::rel::{Col, JoinRel, Rel, RelNode, TimeAttribute, WindowInfo, WindowRole};
use crate::sql::types::{and_all, column};

use super::aggregate_rel::property_col;
use super::correlate::around;
use super::items::check_hint;
use super::select::renamed;
use super::visit::has_subquery;
use super::{Binder, Env, Scope, ScopeCol};

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
                // what it takes of the query around is its own subquery's; tables beside it are not seen
                let rel = self.query_in(query, outer)?;
                aliased(rel, alias.as_ref())
            }
            TableExpr::Window { name, input, partition, time, sizes, alias } => {
                let rel = self.window(name, input, partition, time, sizes)?;
                aliased(rel, alias.as_ref())
            }
            TableExpr::Unnest { expr, ordinality, alias } => {
                let one = Rel { node: RelNode::Values(vec![Vec::new()]), cols: Vec::new() };
                let scope = Scope { cols: Vec::new(), around: around(outer) };
                self.unnest(one, scope, expr, *ordinality, alias.as_ref(), false, None)
            }
            TableExpr::Join { left, right, kind, condition, span } => {
                let (left, mut left_scope) = self.from(left, outer)?;
                left_scope.around = around(outer);
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
                let mut found = self.catalog.table(last);
                if let Err(error) = &mut found
                    && (name.len() > 1 || *self.depth.borrow() > 0)
                    && !error.message.contains(" within ")
                {
                    // a path is looked for where it points to
                    error.message.push_str(" within 'default_catalog.default_database'");
                }
                let table = found?;
                if let [.., database, _] = name
                    && database.value != table.place.1
                {
                    return Err(SqlError::plan(
                        database.span,
                        format!("Object '{}' not found", database.value),
                    )
                    .help(format!("'{}' belongs to {}.{}", table.name, table.place.0, table.place.1)));
                }
                let mut options: BTreeMap<String, String> = BTreeMap::new();
                for hint in hints {
                    check_hint(hint, last.span)?;
                    if hint.name == "OPTIONS" {
                        options.extend(hint.options.iter().cloned());
                    }
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
        if self.strict() && *condition == JoinCondition::Missing {
            return Err(SqlError::plan(
                span,
                "INNER, LEFT, RIGHT or FULL join requires a condition (NATURAL keyword or ON or USING clause)",
            ));
        }
        let kind = match kind {
            ast::JoinKind::Inner => JoinKind::Inner,
            ast::JoinKind::Left => JoinKind::Left,
            ast::JoinKind::Right => JoinKind::Right,
            ast::JoinKind::Full => JoinKind::Full,
            ast::JoinKind::Semi => JoinKind::Semi,
            ast::JoinKind::Anti => JoinKind::Anti,
        };
        if let TableExpr::Unnest { expr, ordinality, alias } = right {
            let on = match condition {
                JoinCondition::None | JoinCondition::Missing if kind == JoinKind::Inner => None,
                JoinCondition::On(on) if on.kind == ast::ExprKind::Bool(true) => None,
                JoinCondition::On(on) => Some(&**on),
                JoinCondition::Missing => {
                    return Err(SqlError::plan(
                        span,
                        "INNER, LEFT, RIGHT or FULL join requires a condition (NATURAL keyword or ON or USING clause)",
                    )
                    .help("LEFT JOIN UNNEST(…) AS t(x) ON TRUE"));
                }
                _ => return Err(SqlError::plan(span, "UNNEST is joined with CROSS JOIN, or with ON")),
            };
            let outer = match kind {
                JoinKind::Inner => false,
                JoinKind::Left => true,
                _ => {
                    return Err(SqlError::plan(
                        span,
                        format!("Unknown join type {}", format!("{kind:?}").to_uppercase()),
                    )
                    .help("UNNEST stands on the right side of CROSS JOIN, JOIN and LEFT JOIN"));
                }
            };
            return self.unnest(left, left_scope, expr, *ordinality, alias.as_ref(), outer, on);
        }
        if let TableExpr::Derived { query, lateral: true, alias } = right {
            let on = match condition {
                JoinCondition::None | JoinCondition::Missing => None,
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
        if let Some(name) = right_scope.tables().find(|name| left_scope.tables().any(|l| l == *name)) {
            return Err(SqlError::plan(span, format!("Duplicate relation name '{name}' in FROM clause"))
                .help("give one of them another name: … JOIN t AS t2 ON …"));
        }
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
        let mut common = Vec::new();
        for name in &using {
            let l = scope.find(None, name)?.ok_or_else(|| scope.missing(None, name))?;
            let r = right_scope.find(None, name)?.ok_or_else(|| right_scope.missing(None, name))?;
            // a common column belongs to both sides of NATURAL JOIN in Flink, and cannot be named alone
            if !(self.strict() && *condition == JoinCondition::Natural) {
                hidden.push(r.index + width);
                common.push((l.index, r.index + width));
            }
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
        let late = match condition {
            JoinCondition::On(on) if kind == JoinKind::Inner && system_time.is_none() && has_subquery(on) => {
                Some(on)
            }
            _ => None,
        };
        if let (JoinCondition::On(on), None) = (condition, late) {
            let bound = self.expr(on, Env::plain(&scope))?;
            conditions.push(operators::clause("ON", bound, on.span)?);
        }
        let cols = Rel::join_cols(&left, &right, kind);
        let join = JoinRel { left, right, kind, condition: and_all(conditions), system_time, ttl, span };
        let mut rel = Rel { node: RelNode::Join(Box::new(join)), cols };
        scope.refresh(&rel);
        if matches!(kind, JoinKind::Right | JoinKind::Full) {
            rel = common_columns(rel, &mut scope, &common, kind, span)?;
        }
        if let Some(on) = late {
            // as WHERE has it: what the subqueries add stays behind the columns of the join
            rel = self.condition(rel, &scope, on)?;
        }
        Ok((rel, scope))
    }

    /// What the query's hint says of a table; nothing of several.
    pub(super) fn ttl(&self, scope: &Scope) -> Option<i64> {
        let mut tables = scope.tables();
        let first = tables.next()?;
        let single = tables.all(|table| table == first);
        self.ttls.borrow().last().and_then(|ttls| ttls.get(first).copied()).filter(|_| single)
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
        let partition_at = partition.first().map(|p| p.span);
        let partition = partition
            .iter()
            .map(|p| Ok(scope.find(None, p)?.ok_or_else(|| scope.missing(None, p))?.index))
            .collect::<SqlResult<Vec<_>>>()?;
        let millis = sizes.iter().map(|size| self.interval_millis(size)).collect::<SqlResult<Vec<_>>>()?;
        let offset = |i: usize| millis.get(i).copied().unwrap_or(0);
        let kind = match (name.value.as_str(), millis.as_slice()) {
            ("TUMBLE", [size] | [size, _]) => WindowKind::Tumble { size: *size, offset: offset(1) },
            ("HOP", [slide, size] | [slide, size, _]) => {
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
        if let WindowKind::Tumble { size, offset } = &kind
            && *size > 0
            && offset.saturating_abs() >= *size
        {
            return Err(SqlError::plan(
                name.span,
                format!(
                    "TUMBLE table function parameters must satisfy abs(offset) < size, but got size {size} ms and offset {offset} ms."
                ),
            ));
        }
        if !matches!(kind, WindowKind::Session { .. })
            && let Some(column) = partition_at
        {
            return Err(SqlError::plan(
                column,
                format!(
                    "Only tables with set semantics may be partitioned. Invalid PARTITION BY clause in the 0-th operand of table function '{}'",
                    name.value
                ),
            )
            .help("SESSION takes PARTITION BY; the others are grouped: GROUP BY key, window_start, window_end"));
        }
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

/// The columns of USING where the left side may be missing: the column by its name alone is that of the side that is
/// there, by the name of a table that of the table.
fn common_columns(
    rel: Rel,
    scope: &mut Scope,
    common: &[(usize, usize)],
    kind: JoinKind,
    span: Span,
) -> SqlResult<Rel> {
    let mut exprs: Vec<Expr> = (0..rel.cols.len()).map(|i| rel.col(i)).collect();
    let mut cols = rel.cols.clone();
    let width = cols.len();
    for (left, right) in common {
        let Some(place) = scope.cols.iter().position(|col| col.index == *left && !col.hidden) else {
            continue;
        };
        let Some(named) = scope.cols.get_mut(place) else { continue };
        named.hidden = true;
        let (l, r) = (rel.col(*left), rel.col(*right));
        let mut visible = ScopeCol { table: None, hidden: false, ..named.clone() };
        if kind == JoinKind::Right && l.data_type.kind == r.data_type.kind {
            visible.index = *right;
            visible.data_type = r.data_type;
            visible.time = rel.cols.get(*right).map_or(TimeAttribute::None, |col| col.time);
        } else {
            let either = functions::resolve("COALESCE", vec![l, r], None, span)?;
            visible.index = exprs.len();
            visible.data_type = either.data_type.clone();
            visible.time = TimeAttribute::None;
            cols.push(Col::new(visible.name.clone(), either.data_type.clone()));
            exprs.push(either);
        }
        scope.cols.insert(place, visible);
    }
    Ok(if exprs.len() == width { rel } else { rel.project(exprs, cols) })
}

pub(super) fn aliased(rel: Rel, alias: Option<&ast::Alias>) -> SqlResult<(Rel, Scope)> {
    let rel = match alias {
        Some(alias) if !alias.columns.is_empty() && alias.columns.len() != rel.cols.len() => {
            let names: Vec<String> = rel.cols.iter().map(|col| format!("'{}'", col.name)).collect();
            return Err(SqlError::plan(
                alias.name.span,
                format!(
                    "List of column aliases must have same degree as table; table has {} columns ({}), whereas alias list has {} columns",
                    names.len(),
                    names.join(", "),
                    alias.columns.len()
                ),
            ));
        }
        Some(alias) => renamed(rel, &alias.columns, &alias.name)?,
        None => rel,
    };
    let scope = Scope::of(&rel, alias.map(|a| a.name.value.as_str()));
    Ok((rel, scope))
}
