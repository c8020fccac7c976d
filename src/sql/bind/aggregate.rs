//! GROUP BY: group expressions, aggregate calls, grouping sets, group windows.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{AggregateCall, Window, WindowKind, WindowProperty};
use crate::engine::row::Value;
use crate::engine::types::{DataType, Field, TypeKind};
use crate::sql::ast::{self, ExprKind, GroupItem};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::functions::{self, aggregates};
use crate::sql::rel::{AggregateRel, Col, Rel, RelNode, TimeAttribute};
use crate::sql::types::{self, call, cast_to, column, literal};

use super::{Binder, Env};

/// Columns from here on stand for window properties until the aggregate is built.
pub(super) const PROPERTIES: usize = 1 << 30;

/// What an aggregation gathers while the select list is bound.
#[derive(Debug, Default)]
pub(in crate::sql) struct Aggregates {
    /// Group expressions over the input.
    pub groups: Vec<Expr>,
    /// Grouping sets: which groups each set has. Empty: one set of all.
    pub sets: Vec<Vec<bool>>,
    calls: Vec<Pending>,
    /// A group window over a time column.
    pub window: Option<(Window, TypeKind)>,
    properties: Vec<WindowProperty>,
}

#[derive(Clone, Debug, PartialEq)]
struct Pending {
    function: &'static str,
    args: Vec<Expr>,
    distinct: bool,
    filter: Option<Expr>,
    data_type: DataType,
}

impl Aggregates {
    fn base(&self) -> usize {
        self.groups.len() + usize::from(!self.sets.is_empty())
    }

    fn group_type(&self, index: usize) -> DataType {
        let data_type = self.groups.get(index).map_or(DataType::new(TypeKind::Null), |g| g.data_type.clone());
        let absent = self.sets.iter().any(|set| set.get(index) == Some(&false));
        let nullable = data_type.nullable || absent;
        data_type.with_nullable(nullable)
    }

    fn set_id(set: &[bool]) -> i64 {
        set.iter().fold(0, |id, present| id << 1 | i64::from(!present))
    }
}

impl Binder<'_> {
    /// Binds GROUP BY.
    pub(super) fn group_by(&self, items: &[GroupItem], env: Env<'_>) -> SqlResult<Aggregates> {
        let mut out = Aggregates::default();
        // every item gives a list of sets; the sets of all items multiply
        let mut sets: Vec<Vec<usize>> = vec![Vec::new()];
        let mut several = false;
        for item in items {
            if let GroupItem::Expr(expr) = item
                && self.group_window(expr, env, &mut out)?
            {
                continue;
            }
            let choices = self.group_sets(item, env, &mut out)?;
            several |= !matches!(item, GroupItem::Expr(_) | GroupItem::Tuple(_));
            sets = sets
                .iter()
                .flat_map(|set| choices.iter().map(move |choice| set.iter().chain(choice).copied().collect()))
                .collect();
        }
        if several {
            out.sets =
                sets.iter().map(|set| (0..out.groups.len()).map(|i| set.contains(&i)).collect()).collect();
        }
        Ok(out)
    }

    fn group_sets(&self, item: &GroupItem, env: Env<'_>, out: &mut Aggregates) -> SqlResult<Vec<Vec<usize>>> {
        let tuple = |exprs: &[ast::Expr], out: &mut Aggregates| -> SqlResult<Vec<usize>> {
            exprs
                .iter()
                .map(|expr| {
                    let bound = self.expr(expr, env)?;
                    if let Some(i) = out.groups.iter().position(|g| *g == bound) {
                        return Ok(i);
                    }
                    out.groups.push(bound);
                    Ok(out.groups.len() - 1)
                })
                .collect()
        };
        Ok(match item {
            GroupItem::Expr(expr) => vec![tuple(std::slice::from_ref(expr), out)?],
            GroupItem::Tuple(exprs) => vec![tuple(exprs, out)?],
            GroupItem::Sets(items) => {
                let mut sets = Vec::new();
                for item in items {
                    sets.extend(self.group_sets(item, env, out)?);
                }
                sets
            }
            GroupItem::Rollup(tuples) => {
                let tuples = tuples.iter().map(|t| tuple(t, out)).collect::<SqlResult<Vec<_>>>()?;
                (0..=tuples.len()).rev().map(|n| tuples.iter().take(n).flatten().copied().collect()).collect()
            }
            GroupItem::Cube(tuples) => {
                let tuples = tuples.iter().map(|t| tuple(t, out)).collect::<SqlResult<Vec<_>>>()?;
                if tuples.len() > 10 {
                    return Err(SqlError::plan(Span::default(), "CUBE of more than 10 columns"));
                }
                (0..1_u32 << tuples.len())
                    .map(|mask| {
                        let absent = |i: usize| mask >> (tuples.len() - 1 - i) & 1 == 1;
                        tuples
                            .iter()
                            .enumerate()
                            .filter(|(i, _)| !absent(*i))
                            .flat_map(|(_, t)| t.iter().copied())
                            .collect()
                    })
                    .collect()
            }
        })
    }

    /// `GROUP BY TUMBLE(ts, INTERVAL …)` and its brothers.
    fn group_window(&self, expr: &ast::Expr, env: Env<'_>, out: &mut Aggregates) -> SqlResult<bool> {
        let ExprKind::Call(call) = &expr.kind else { return Ok(false) };
        let name = call.name.value.to_uppercase();
        if !matches!(name.as_str(), "TUMBLE" | "HOP" | "SESSION") {
            return Ok(false);
        }
        if out.window.is_some() {
            return Err(SqlError::plan(
                expr.span,
                "Only a single window group function may be used in GROUP BY",
            ));
        }
        let Some((time, sizes)) = call.args.split_first() else {
            return Err(SqlError::plan(expr.span, format!("{name} takes a time attribute and intervals")));
        };
        let bound = self.expr(time, env)?;
        let time_col = match bound.node {
            ExprNode::Column(index) => {
                env.scope.cols.iter().find(|c| c.index == index && c.time != TimeAttribute::None)
            }
            _ => None,
        };
        let Some(time_col) = time_col else {
            return Err(SqlError::plan(
                time.span,
                format!(
                    "Window aggregate can only be defined over a time attribute column, but {} encountered.",
                    bound.data_type.kind
                ),
            )
            .help("declare WATERMARK FOR the column, or a computed column AS PROCTIME()"));
        };
        let sizes = sizes.iter().map(|size| self.interval_millis(size)).collect::<SqlResult<Vec<_>>>()?;
        let kind = match (name.as_str(), sizes.as_slice()) {
            ("TUMBLE", [size]) => WindowKind::Tumble { size: *size, offset: 0 },
            ("HOP", [slide, size]) => WindowKind::Hop { slide: *slide, size: *size, offset: 0 },
            ("SESSION", [gap]) => WindowKind::Session { gap: *gap, partition: Vec::new() },
            _ => {
                return Err(SqlError::plan(
                    expr.span,
                    format!("{name} does not take this number of intervals"),
                ));
            }
        };
        let window = Window { kind, time: time_col.index, rowtime: time_col.time == TimeAttribute::Rowtime };
        out.window = Some((window, time_col.data_type.kind.clone()));
        Ok(true)
    }

    /// A constant interval in milliseconds.
    pub(super) fn interval_millis(&self, expr: &ast::Expr) -> SqlResult<i64> {
        let scope = super::Scope::default();
        match self.expr(expr, Env::plain(&scope))? {
            Expr { node: ExprNode::Literal(Value::Interval(millis)), data_type }
                if data_type.kind == TypeKind::IntervalMillis =>
            {
                Ok(millis)
            }
            Expr { data_type, .. } if data_type.kind == TypeKind::IntervalMonths => Err(SqlError::plan(
                expr.span,
                "Window aggregate only support SECOND, MINUTE, HOUR, DAY as the time unit. MONTH and YEAR time unit are not supported yet.",
            )),
            _ => Err(SqlError::plan(
                expr.span,
                "a constant interval of days, hours, minutes or seconds is needed",
            )
            .help("for example INTERVAL '10' MINUTE")),
        }
    }

    /// Inside an aggregation: aggregate calls, group expressions, window properties.
    pub(super) fn grouped_expr(&self, ast: &ast::Expr, env: Env<'_>) -> SqlResult<Option<Expr>> {
        let Some(cell) = env.aggregates else { return Ok(None) };
        let plain = Env { aggregates: None, over: None, ..env };
        if let ExprKind::Call(call) = &ast.kind
            && call.over.is_none()
        {
            let name = call.name.value.to_uppercase();
            if let Some(function) = aggregates::canonical(&name) {
                return self.aggregate_call(function, call, plain, cell, ast.span).map(Some);
            }
            if matches!(name.as_str(), "GROUPING" | "GROUPING_ID") {
                return self.grouping(call, plain, &cell.borrow(), ast.span).map(Some);
            }
            if let Some(found) = window_property(&name, &mut cell.borrow_mut(), ast.span)? {
                return Ok(Some(found));
            }
        }
        let state = cell.borrow();
        match &ast.kind {
            ExprKind::Number(_)
            | ExprKind::Str(_)
            | ExprKind::Bool(_)
            | ExprKind::Null
            | ExprKind::Bytes(_) => Ok(None),
            ExprKind::Typed(..) | ExprKind::Interval(_) | ExprKind::Keyword(_) | ExprKind::Subquery(_) => {
                Ok(None)
            }
            _ => match self.expr(ast, plain) {
                Ok(bound) => match state.groups.iter().position(|g| *g == bound) {
                    Some(i) => Ok(Some(column(i, state.group_type(i)))),
                    None => match (&ast.kind, &bound.node) {
                        (ExprKind::Name(_), ExprNode::Column(index)) if *index < super::OUTER => {
                            let text = match &ast.kind {
                                ExprKind::Name(parts) => {
                                    parts.iter().map(|p| p.value.as_str()).collect::<Vec<_>>().join(".")
                                }
                                _ => String::new(),
                            };
                            Err(SqlError::plan(ast.span, format!("Expression '{text}' is not being grouped"))
                                .help(format!("put {text} into GROUP BY, or aggregate it: MAX({text})")))
                        }
                        _ => Ok(None),
                    },
                },
                Err(error) if matches!(ast.kind, ExprKind::Name(_)) => Err(error),
                Err(_) => Ok(None),
            },
        }
    }

    fn aggregate_call(
        &self,
        function: &'static str,
        ast_call: &ast::Call,
        plain: Env<'_>,
        cell: &std::cell::RefCell<Aggregates>,
        span: Span,
    ) -> SqlResult<Expr> {
        let plain = Env { clause: "an aggregate", ..plain };
        // JSON_OBJECTAGG and JSON_ARRAYAGG bring their NULL clause as first argument
        let (function, given) = match (function, ast_call.args.split_first()) {
            ("JSON_OBJECTAGG" | "JSON_ARRAYAGG", Some((clause, rest))) => {
                let absent = clause.kind == ExprKind::Keyword("ABSENT".to_owned());
                let name = match (function, absent) {
                    ("JSON_OBJECTAGG", true) => "JSON_OBJECTAGG_ABSENT_ON_NULL",
                    ("JSON_OBJECTAGG", false) => "JSON_OBJECTAGG_NULL_ON_NULL",
                    (_, true) => "JSON_ARRAYAGG_ABSENT_ON_NULL",
                    (_, false) => "JSON_ARRAYAGG_NULL_ON_NULL",
                };
                (name, rest)
            }
            _ => (function, ast_call.args.as_slice()),
        };
        if function == "COUNT" && given.len() > 1 && !ast_call.distinct {
            return Err(SqlError::plan(span, "We now only support the count of one field."));
        }
        let mut args = given.iter().map(|arg| self.expr(arg, plain)).collect::<SqlResult<Vec<_>>>()?;
        for arg in &mut args {
            if arg.data_type.kind == TypeKind::Null {
                *arg = types::null_of(TypeKind::Int);
            }
        }
        if ast_call.star && function != "COUNT" || !ast_call.star && args.is_empty() {
            return Err(functions::misfit(function, &args, &format!("{function}(<ANY>)"), span));
        }
        let filter = match &ast_call.filter {
            Some(filter) => {
                Some(functions::operators::clause("FILTER", self.expr(filter, plain)?, filter.span)?)
            }
            None => None,
        };
        let mut state = cell.borrow_mut();
        let grouped = !state.groups.is_empty() && state.sets.iter().all(|set| set.contains(&true))
            || state.window.is_some();
        let arg_types: Vec<DataType> = args.iter().map(|arg| arg.data_type.clone()).collect();
        let data_type = aggregates::result_type(function, &arg_types, grouped, filter.is_some(), span)?;
        // COUNT of what is never NULL is COUNT(*)
        if function == "COUNT" && !ast_call.distinct && args.iter().all(|a| !a.data_type.nullable) {
            args.clear();
        }
        let pending =
            Pending { function, args, distinct: ast_call.distinct, filter, data_type: data_type.clone() };
        let index = match state.calls.iter().position(|c| *c == pending) {
            Some(index) => index,
            None => {
                state.calls.push(pending);
                state.calls.len() - 1
            }
        };
        Ok(column(state.base() + index, data_type))
    }

    /// GROUPING(a), GROUPING_ID(a, b): which columns are rolled up, from the set's number.
    fn grouping(
        &self,
        ast_call: &ast::Call,
        plain: Env<'_>,
        state: &Aggregates,
        span: Span,
    ) -> SqlResult<Expr> {
        let mut indexes = Vec::new();
        for arg in &ast_call.args {
            let bound = self.expr(arg, plain)?;
            match state.groups.iter().position(|g| *g == bound) {
                Some(i) => indexes.push(i),
                None => {
                    return Err(SqlError::plan(
                        arg.span,
                        "Argument to GROUPING operator must be a grouped expression",
                    ));
                }
            }
        }
        let big = DataType::not_null(TypeKind::BigInt);
        let number = |n: i64| literal(Value::Int(n), TypeKind::BigInt);
        let mut branches = Vec::new();
        for set in &state.sets {
            let value = indexes.iter().fold(0, |v, i| v << 1 | i64::from(set.get(*i) == Some(&false)));
            let id = column(state.groups.len(), big.clone());
            let test = functions::operators::compare("=", id, number(Aggregates::set_id(set)), span)?;
            branches.push((test, number(value)));
        }
        match branches.pop() {
            None => Ok(number(0)),
            Some((_, last)) if branches.is_empty() => Ok(last),
            Some((_, last)) => Ok(functions::case(branches, last, big)),
        }
    }

    /// The aggregation itself; gives the relation and where placeholders of window properties went.
    pub(super) fn build_aggregate(&self, input: Rel, state: Aggregates) -> (Rel, usize) {
        let mut exprs: Vec<Expr> = state.groups.clone();
        let mut cols: Vec<Col> = Vec::new();
        for (i, group) in state.groups.iter().enumerate() {
            let mut col = match group.node {
                ExprNode::Column(index) => input.cols.get(index).cloned(),
                _ => None,
            }
            .unwrap_or_else(|| Col::new(format!("$g{i}"), group.data_type.clone()));
            col.data_type = group.data_type.clone();
            cols.push(col);
        }
        let add = |exprs: &mut Vec<Expr>, cols: &mut Vec<Col>, expr: &Expr| -> usize {
            if let Some(i) = exprs.iter().position(|e| e == expr) {
                return i;
            }
            let col = match expr.node {
                ExprNode::Column(index) => input.cols.get(index).cloned(),
                _ => None,
            };
            cols.push(col.unwrap_or_else(|| Col::new(format!("$f{}", exprs.len()), expr.data_type.clone())));
            exprs.push(expr.clone());
            exprs.len() - 1
        };
        let mut calls = Vec::new();
        for (i, pending) in state.calls.iter().enumerate() {
            let args = pending.args.iter().map(|arg| add(&mut exprs, &mut cols, arg)).collect();
            let filter = pending.filter.as_ref().map(|f| {
                let sure = cast_to(f.clone(), &TypeKind::Boolean);
                add(
                    &mut exprs,
                    &mut cols,
                    &call("IS TRUE", vec![sure], DataType::not_null(TypeKind::Boolean)),
                )
            });
            calls.push(AggregateCall {
                function: pending.function,
                args,
                distinct: pending.distinct,
                filter,
                output: Field { name: format!("$a{i}"), data_type: pending.data_type.clone() },
            });
        }
        let window = state.window.clone().map(|(mut window, kind)| {
            let time = column(window.time, DataType::new(kind.clone()));
            let time =
                input.cols.get(window.time).map_or(time, |col| column(window.time, col.data_type.clone()));
            window.time = add(&mut exprs, &mut cols, &time);
            (window, kind)
        });
        let grouped: Vec<usize> = (0..state.groups.len()).collect();
        let windowed = crate::sql::planner::is_windowed(&grouped, &cols);
        let mut out_cols: Vec<Col> = cols
            .iter()
            .take(state.groups.len())
            .enumerate()
            .map(|(i, col)| {
                let mut out = col.clone().materialized();
                out.data_type = state.group_type(i);
                // the time of the window that is grouped by stays a time attribute: windows may be cascaded
                if windowed && col.role.as_ref().is_some_and(|r| r.property == WindowProperty::Time) {
                    out.time = col.time;
                }
                out
            })
            .collect();
        let mut rel;
        let mut group: Vec<usize> = (0..state.groups.len()).collect();
        if state.sets.is_empty() {
            rel = input.project(exprs, cols);
        } else {
            // each input row once per set: absent groups are NULL, the set's number follows the groups
            let mut expanded = Vec::new();
            let pre = input.project(exprs, cols);
            for set in &state.sets {
                let mut row: Vec<Expr> = Vec::new();
                for (i, col) in pre.cols.iter().enumerate() {
                    if i < state.groups.len() && set.get(i) == Some(&false) {
                        row.push(types::null_of(col.data_type.kind.clone()));
                    } else {
                        row.push(pre.col(i));
                    }
                }
                row.push(literal(Value::Int(Aggregates::set_id(set)), TypeKind::BigInt));
                expanded.push(row);
            }
            let mut expand_cols: Vec<Col> = pre.cols.iter().cloned().map(Col::materialized).collect();
            for (i, col) in expand_cols.iter_mut().enumerate().take(state.groups.len()) {
                col.data_type = state.group_type(i);
                // a window's column that some sets lack is no window's column any more
                if state.sets.iter().any(|set| set.get(i) == Some(&false)) {
                    col.role = None;
                }
            }
            let id = Col::new("$e", DataType::not_null(TypeKind::BigInt));
            expand_cols.push(id.clone());
            group.push(expand_cols.len() - 1);
            out_cols.push(id);
            rel = Rel { node: RelNode::Expand(Box::new(pre), expanded), cols: expand_cols };
        }
        out_cols.extend(calls.iter().map(|c| Col::new(c.output.name.clone(), c.output.data_type.clone())));
        let properties_at = out_cols.len();
        let mut window_out = None;
        if let Some((window, kind)) = window {
            let ltz = matches!(kind, TypeKind::TimestampLtz(_));
            let rowtime = window.rowtime;
            let window = match window {
                Window { kind: WindowKind::Session { gap, .. }, time, rowtime } => {
                    Window { kind: WindowKind::Session { gap, partition: group.clone() }, time, rowtime }
                }
                other => other,
            };
            let info = std::sync::Arc::new(crate::sql::rel::WindowInfo { window: window.clone(), ltz });
            for property in &state.properties {
                let mut col = property_col(*property, &kind, rowtime);
                col.role = Some(crate::sql::rel::WindowRole {
                    property: *property,
                    window: std::sync::Arc::clone(&info),
                });
                out_cols.push(col);
            }
            window_out = Some((window, state.properties.clone()));
        }
        rel = Rel {
            node: RelNode::Aggregate(Box::new(AggregateRel {
                input: rel,
                group,
                calls,
                window: window_out,
                ttl: None,
            })),
            cols: out_cols,
        };
        (rel, properties_at)
    }
}

/// The column of a window property.
pub(super) fn property_col(property: WindowProperty, time: &TypeKind, rowtime: bool) -> Col {
    match property {
        WindowProperty::Start => Col::new("window_start", DataType::not_null(TypeKind::Timestamp(3))),
        WindowProperty::End => Col::new("window_end", DataType::not_null(TypeKind::Timestamp(3))),
        WindowProperty::Time => {
            let kind = match time {
                TypeKind::TimestampLtz(_) => TypeKind::TimestampLtz(3),
                _ => TypeKind::Timestamp(3),
            };
            let mut col = Col::new("window_time", DataType::not_null(kind));
            col.time = if rowtime { TimeAttribute::Rowtime } else { TimeAttribute::Proctime };
            col
        }
    }
}

/// `TUMBLE_START(…)` and the like.
fn window_property(name: &str, state: &mut Aggregates, span: Span) -> SqlResult<Option<Expr>> {
    let Some((prefix, suffix)) = name.split_once('_') else { return Ok(None) };
    if !matches!(prefix, "TUMBLE" | "HOP" | "SESSION") {
        return Ok(None);
    }
    let property = match suffix {
        "START" => WindowProperty::Start,
        "END" => WindowProperty::End,
        "ROWTIME" | "PROCTIME" => WindowProperty::Time,
        _ => return Ok(None),
    };
    let Some((window, kind)) = state.window.clone() else {
        return Err(SqlError::plan(span, format!("{name} needs GROUP BY {prefix}(…)")));
    };
    let index = match state.properties.iter().position(|p| *p == property) {
        Some(index) => index,
        None => {
            state.properties.push(property);
            state.properties.len() - 1
        }
    };
    Ok(Some(column(PROPERTIES + index, property_col(property, &kind, window.rowtime).data_type)))
}
