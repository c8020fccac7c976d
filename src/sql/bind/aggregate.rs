//! GROUP BY: group expressions, aggregate calls, grouping sets, group windows.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{Window, WindowKind, WindowProperty};
use crate::engine::row::Value;
use crate::engine::types::{DataType, TypeKind};
use crate::sql::ast::{self, ExprKind, GroupItem};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::functions::{self, aggregates};
use crate::sql::rel::TimeAttribute;
use crate::sql::types::{self, column, literal};

use super::aggregate_rel::property_col;
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
    /// Aggregate calls.
    pub(super) calls: Vec<Pending>,
    /// A group window over a time column.
    pub window: Option<(Window, TypeKind)>,
    /// Properties of the window that are asked for.
    pub(super) properties: Vec<WindowProperty>,
}

/// A call whose operator is not built yet.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::sql) struct Pending {
    pub(super) function: &'static str,
    pub(super) args: Vec<Expr>,
    pub(super) distinct: bool,
    pub(super) filter: Option<Expr>,
    pub(super) data_type: DataType,
}

impl Pending {
    /// Beside variances Flink makes SUM / COUNT of AVG, and the sum of small integers wraps in their type.
    pub(super) fn average_of_sum(&self) -> &'static str {
        match self.args.as_slice() {
            [arg] => aggregates::average_of_sum(self.function, &arg.data_type.kind),
            _ => self.function,
        }
    }
}

impl Aggregates {
    fn base(&self) -> usize {
        self.groups.len() + usize::from(!self.sets.is_empty())
    }

    pub(super) fn group_type(&self, index: usize) -> DataType {
        let data_type = self.groups.get(index).map_or(DataType::new(TypeKind::Null), |g| g.data_type.clone());
        let absent = self.sets.iter().any(|set| set.get(index) == Some(&false));
        let nullable = data_type.nullable || absent;
        data_type.with_nullable(nullable)
    }

    /// How many grouping sets before this one are equal to it: GROUP_ID().
    fn repeats(&self, index: usize) -> i64 {
        let set = self.sets.get(index);
        let before = self.sets.iter().take(index).filter(|other| Some(*other) == set).count();
        i64::try_from(before).unwrap_or(i64::MAX)
    }

    /// The number of a grouping set, which no other one has: which groups it lacks, before that its repetition.
    pub(super) fn set_id(&self, index: usize) -> i64 {
        let lacking = self.sets.get(index).into_iter().flatten();
        lacking.fold(self.repeats(index), |id, present| id << 1 | i64::from(!present))
    }

    /// A number by the grouping set that a row is of.
    fn by_set(&self, value: impl Fn(usize, &[bool]) -> i64, span: Span) -> SqlResult<Expr> {
        let big = DataType::not_null(TypeKind::BigInt);
        let number = |n: i64| literal(Value::Int(n), TypeKind::BigInt);
        let mut branches = Vec::new();
        for (index, set) in self.sets.iter().enumerate() {
            let id = column(self.groups.len(), big.clone());
            let test = functions::operators::compare("=", id, number(self.set_id(index)), span)?;
            branches.push((test, number(value(index, set))));
        }
        match branches.pop() {
            None => Ok(number(0)),
            Some((_, last)) if branches.iter().all(|(_, other)| *other == last) => Ok(last),
            Some((_, last)) => Ok(functions::case(branches, last, big)),
        }
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
                let sets = (0..=tuples.len()).rev();
                each_once(sets.map(|n| tuples.iter().take(n).flatten().copied().collect()))
            }
            GroupItem::Cube(tuples) => {
                let tuples = tuples.iter().map(|t| tuple(t, out)).collect::<SqlResult<Vec<_>>>()?;
                if tuples.len() > 10 {
                    return Err(SqlError::plan(Span::default(), "CUBE of more than 10 columns"));
                }
                each_once((0..1_u32 << tuples.len()).map(|mask| {
                    let absent = |i: usize| mask >> (tuples.len() - 1 - i) & 1 == 1;
                    tuples
                        .iter()
                        .enumerate()
                        .filter(|(i, _)| !absent(*i))
                        .flat_map(|(_, t)| t.iter().copied())
                        .collect()
                }))
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
        let temporal = matches!(bound.data_type.kind, TypeKind::Date | TypeKind::Time(_));
        if !temporal && !crate::sql::types::is_timestamp(&bound.data_type.kind) {
            let intervals = if name == "HOP" { 2 } else { 1 };
            let forms = format!("${name}(<DATETIME>{})", ", <DATETIME_INTERVAL>".repeat(intervals));
            return Err(functions::misfit(
                &format!("${name}"),
                std::slice::from_ref(&bound),
                &forms,
                time.span,
            ));
        }
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
                    format!(
                        "Invalid number of arguments to function '${name}'. Was expecting {} arguments",
                        if name == "HOP" { 3 } else { 2 }
                    ),
                ));
            }
        };
        if sizes.iter().any(|size| *size <= 0) {
            return Err(SqlError::plan(
                expr.span,
                match name.as_str() {
                    "TUMBLE" => "TumblingWindowAssigner parameters must satisfy size > 0",
                    "HOP" => "SlidingWindowAssigner parameters must satisfy slide > 0 and size > 0",
                    _ => "SessionWindowAssigner parameters must satisfy 0 < size",
                },
            ));
        }
        let window = Window { kind, time: time_col.index, rowtime: time_col.time == TimeAttribute::Rowtime };
        out.window = Some((window, time_col.data_type.kind.clone()));
        Ok(true)
    }

    fn is_window_property(&self, name: &str) -> bool {
        name.split_once('_').is_some_and(|(window, property)| {
            matches!(window, "TUMBLE" | "HOP" | "SESSION")
                && matches!(property, "START" | "END" | "ROWTIME" | "PROCTIME")
        })
    }

    /// `TUMBLE_START(…)` names the window of GROUP BY again: refuses another one.
    fn matching_window(
        &self,
        name: &str,
        call: &ast::Call,
        plain: Env<'_>,
        state: &Aggregates,
        span: Span,
    ) -> SqlResult<()> {
        let window = name.split_once('_').map_or(name, |(window, _)| window);
        let call =
            ast::Call { name: ast::Ident { value: window.to_owned(), span: call.name.span }, ..call.clone() };
        let expr = ast::Expr { kind: ExprKind::Call(Box::new(call)), span };
        let mut asked = Aggregates::default();
        self.group_window(&expr, plain, &mut asked)?;
        if state.window.is_some() && asked.window != state.window {
            return Err(SqlError::plan(
                span,
                format!(
                    "Call to auxiliary group function '{name}' must have matching call to group function '${window}' in GROUP BY clause"
                ),
            )
            .help(format!("give {name} the arguments that {window} has in GROUP BY")));
        }
        Ok(())
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
            if name == "GROUP_ID" && call.args.is_empty() {
                let state = cell.borrow();
                return state.by_set(|index, _| state.repeats(index), ast.span).map(Some);
            }
            if self.is_window_property(&name) {
                self.matching_window(&name, call, plain, &cell.borrow(), ast.span)?;
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
        if function == "COUNT" && given.len() > 1 && (self.strict() || !ast_call.distinct) {
            return Err(SqlError::plan(span, "We now only support the count of one field."));
        }
        let mut args = given.iter().map(|arg| self.expr(arg, plain)).collect::<SqlResult<Vec<_>>>()?;
        for arg in &mut args {
            self.typed(arg, span)?;
            if arg.data_type.kind == TypeKind::Null {
                *arg = types::null_of(TypeKind::Int);
            }
        }
        if ast_call.star && function != "COUNT" || !ast_call.star && args.is_empty() {
            if ast_call.star {
                return Err(SqlError::plan(span, "Unknown identifier '*'"));
            }
            let number = functions::signatures::wrong_number(function, 0, span);
            return Err(number
                .unwrap_or_else(|| functions::misfit(function, &args, &format!("{function}(<ANY>)"), span)));
        }
        let filter = match &ast_call.filter {
            Some(filter) => {
                let bound = self.expr(filter, plain).map_err(|mut error| {
                    if error.message.starts_with("Aggregate expressions cannot be nested") {
                        error.message = "FILTER must not contain aggregate expression".to_owned();
                    }
                    error
                })?;
                Some(functions::operators::clause("FILTER", bound, filter.span)?)
            }
            None => None,
        };
        if function == "APPROX_COUNT_DISTINCT" {
            return Err(SqlError::plan(
                span,
                "APPROX_COUNT_DISTINCT aggregate function does not support yet for streaming.",
            )
            .help("COUNT(DISTINCT …) is exact"));
        }
        let mut state = cell.borrow_mut();
        let grouped = !state.groups.is_empty() && state.sets.iter().all(|set| set.contains(&true))
            || state.window.is_some();
        args = aggregates::arguments(function, args, span)?;
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
        if ast_call.args.is_empty() {
            let name = ast_call.name.value.to_uppercase();
            return Err(SqlError::plan(
                span,
                format!("Invalid number of arguments to function '{name}'. Was expecting 1 arguments"),
            ));
        }
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
        let rolled_up =
            |_, set: &[bool]| indexes.iter().fold(0, |v, i| v << 1 | i64::from(set.get(*i) == Some(&false)));
        state.by_set(rolled_up, span)
    }
}

/// The sets of one CUBE or ROLLUP: what is equal among them stands once.
fn each_once(sets: impl Iterator<Item = Vec<usize>>) -> Vec<Vec<usize>> {
    let mut out: Vec<Vec<usize>> = Vec::new();
    for mut set in sets {
        set.sort_unstable();
        set.dedup();
        if !out.contains(&set) {
            out.push(set);
        }
    }
    out
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
