//! WHERE with subqueries: semi and anti joins, scalar subqueries, correlation.

use std::collections::BTreeSet;

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{AggregateCall, JoinKind};
use crate::engine::row::Value;
use crate::engine::types::{DataType, Field, TypeKind};
use crate::sql::ast::{self, ExprKind};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::functions::operators;
use crate::sql::rel::{AggregateRel, Col, Rel, RelNode};
use crate::sql::types::{and_all, call, column, columns_of, literal, rewrite};

use super::correlate::{at_home, correlate, correlate_by_columns, plain_join};
use super::visit::{has_subquery, visit};
use super::{Binder, Env, OUTER, Scope};

/// A scalar subquery: its relation, how it depends on the query around, and its value where it finds nothing.
pub(super) type Scalar = (Rel, Vec<Expr>, Option<Expr>);

/// The value of a scalar subquery, or what it is without rows.
pub(super) fn or_empty(value: Expr, empty: Option<Expr>) -> Expr {
    match empty {
        Some(empty) => {
            let data_type = value.data_type.clone();
            call("COALESCE", vec![value, empty], data_type)
        }
        None => value,
    }
}

/// What an aggregation without groups gives of no rows, unless that is NULL.
fn empty_value(rel: &Rel) -> Option<Expr> {
    fn values(rel: &Rel) -> Option<Vec<Expr>> {
        match &rel.node {
            RelNode::Project(input, exprs) => {
                let below = values(input)?;
                Some(
                    exprs
                        .iter()
                        .map(|e| {
                            rewrite(e, &|c, t| below.get(c).cloned().unwrap_or_else(|| column(c, t.clone())))
                        })
                        .collect(),
                )
            }
            RelNode::Aggregate(aggregate) if aggregate.group.is_empty() && aggregate.window.is_none() => {
                Some(
                    aggregate
                        .calls
                        .iter()
                        .map(|call| match call.function {
                            "COUNT" => crate::sql::types::literal(
                                crate::engine::row::Value::Int(0),
                                TypeKind::BigInt,
                            ),
                            _ => crate::sql::types::null_of(call.output.data_type.kind.clone()),
                        })
                        .collect(),
                )
            }
            _ => None,
        }
    }
    let value = values(rel)?.into_iter().next()?;
    let mut columns = BTreeSet::new();
    columns_of(&value, &mut columns);
    let null = matches!(value.node, ExprNode::Literal(crate::engine::row::Value::Null));
    (columns.is_empty() && !null).then_some(value)
}

impl Binder<'_> {
    /// Applies WHERE.
    pub(super) fn condition(&self, mut rel: Rel, scope: &Scope, filter: &ast::Expr) -> SqlResult<Rel> {
        let parted;
        let filter = if has_subquery(filter) {
            parted = without_not(filter.clone(), false);
            &parted
        } else {
            filter
        };
        let mut parts = Vec::new();
        split(filter, &mut parts);
        let mut plain = Vec::new();
        let mut rest = Vec::new();
        for part in parts.iter().copied() {
            if has_subquery(part) {
                rest.push(part);
            } else {
                let bound = self.expr(part, Env { clause: "WHERE", ..Env::plain(scope) })?;
                if parts.len() > 1 && !matches!(bound.data_type.kind, TypeKind::Boolean | TypeKind::Null) {
                    return Err(SqlError::plan(
                        part.span,
                        format!(
                            "Cannot apply 'AND' to arguments of type '<{}> AND <BOOLEAN>'. Supported form(s): '<BOOLEAN> AND <BOOLEAN>'",
                            crate::sql::types::calcite(&bound.data_type.kind)
                        ),
                    ));
                }
                plain.push(operators::clause("WHERE", bound, part.span)?);
            }
        }
        if let Some(predicate) = and_all(plain) {
            rel = rel.filter(predicate);
        }
        for part in rest {
            rel = self.subquery_condition(rel, scope, part)?;
        }
        Ok(rel)
    }

    fn subquery_condition(&self, rel: Rel, scope: &Scope, part: &ast::Expr) -> SqlResult<Rel> {
        match &part.kind {
            ExprKind::Unary("NOT", inner) => match &inner.kind {
                ExprKind::Exists(query) => return self.semi(rel, scope, query, None, true, part.span),
                ExprKind::InQuery(value, query, negated) => {
                    return self.semi(rel, scope, query, Some(value), !negated, part.span);
                }
                _ => {}
            },
            ExprKind::Exists(query) => return self.semi(rel, scope, query, None, false, part.span),
            ExprKind::InQuery(value, query, negated) => {
                return self.semi(rel, scope, query, Some(value), *negated, part.span);
            }
            _ => {}
        }
        let mut queries: Vec<&ast::Query> = Vec::new();
        visit(part, &mut |e| {
            if let ExprKind::Subquery(query) = &e.kind {
                queries.push(query);
            }
        });
        let (mut rel, mut scalars) = self.memberships(rel, scope, part)?;
        for query in queries {
            let (inner, correlated, empty) = self.scalar(query, scope, &rel)?;
            let index = rel.cols.len();
            rel = self.join_scalar(rel, inner, correlated);
            let data_type =
                rel.cols.get(index).map_or(DataType::new(TypeKind::Null), |c| c.data_type.clone());
            scalars.push((std::ptr::from_ref(query) as usize, or_empty(column(index, data_type), empty)));
        }
        let bound = self.expr(part, Env { scalars: &scalars, clause: "WHERE", ..Env::plain(scope) })?;
        Ok(rel.filter(operators::clause("WHERE", bound, part.span)?))
    }

    /// `[NOT] EXISTS (query)`, `value [NOT] IN (query)`.
    fn semi(
        &self,
        left: Rel,
        scope: &Scope,
        query: &ast::Query,
        value: Option<&ast::Expr>,
        negated: bool,
        span: Span,
    ) -> SqlResult<Rel> {
        let inner = self.query_in(query, Some(scope))?;
        let compared = match value.map(|v| &v.kind) {
            Some(ExprKind::Row(items)) => items.len(),
            _ => 1,
        };
        if value.is_some() && inner.cols.len() != compared {
            return Err(SqlError::plan(span, "Values passed to IN operator must have compatible types")
                .help(format!("the query gives {} columns, {compared} are compared", inner.cols.len())));
        }
        let width = left.cols.len();
        let inner = if value.is_none() { for_exists(inner) } else { inner };
        if value.is_none() && is_global_aggregate(&inner) {
            // it has a row, come what may
            let always = literal(Value::Bool(!negated), TypeKind::Boolean);
            return Ok(if negated { left.filter(always) } else { left });
        }
        let (right, conditions) = correlate(inner, &left, span)?;
        let mut conditions: Vec<Expr> = conditions.iter().map(|e| at_home(e, &|c| c + width)).collect();
        if let Some(value) = value {
            let values: Vec<&ast::Expr> = match &value.kind {
                ExprKind::Row(items) => items.iter().collect(),
                _ => vec![value],
            };
            for (i, value) in values.into_iter().enumerate() {
                let value = self.expr(value, Env::plain(scope))?;
                let element = right.cols.get(i).map(|c| column(i + width, c.data_type.clone()));
                let element = element
                    .ok_or_else(|| SqlError::plan(span, "IN compares as many columns as the query has"))?;
                let mut test =
                    operators::compare("=", value.clone(), element.clone(), span).map_err(|mut error| {
                        if error.message.starts_with("implicit type conversion") {
                            error.message = format!(
                                "implicit type conversion between {} and {} is not supported on join's condition now",
                                crate::sql::types::calcite(&value.data_type.kind),
                                crate::sql::types::calcite(&element.data_type.kind)
                            );
                        }
                        error
                    })?;
                if negated {
                    // NOT IN: a NULL on either side is no proof of absence
                    for side in [value, element] {
                        if side.data_type.nullable {
                            let null = call("IS NULL", vec![side], DataType::not_null(TypeKind::Boolean));
                            test = operators::logic("OR", null, test, span)?;
                        }
                    }
                }
                conditions.push(test);
            }
        }
        let kind = if negated { JoinKind::Anti } else { JoinKind::Semi };
        Ok(plain_join(left, right, kind, conditions, span))
    }

    /// A subquery as a value: one column, one row; and how it depends on the query around.
    pub(super) fn scalar(&self, query: &ast::Query, scope: &Scope, left: &Rel) -> SqlResult<Scalar> {
        let inner = self.query_in(query, Some(scope))?;
        if inner.cols.len() != 1 {
            return Err(SqlError::plan(
                query.span,
                format!(
                    "Cannot apply '$SCALAR_QUERY' to arguments of type '$SCALAR_QUERY(<RECORDTYPE({})>)'. Supported form(s): '$SCALAR_QUERY(<RECORDTYPE(SINGLE FIELD)>)'",
                    inner
                        .cols
                        .iter()
                        .map(|c| format!("{} {}", crate::sql::types::calcite(&c.data_type.kind), c.name).to_uppercase())
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            )
            .help("a subquery as a value has one column"));
        }
        let single = is_global_aggregate(&inner);
        let empty = empty_value(&inner);
        let whole = inner.clone();
        let (mut inner, conditions) = correlate(inner, left, query.span)?;
        if !single && !conditions.is_empty() {
            return single_of_each(inner, conditions, whole, left, query.span);
        }
        if single || !conditions.is_empty() {
            // COUNT of no row is 0, where the join finds no group
            if let (false, Some(empty), Some(col)) = (conditions.is_empty(), empty, inner.cols.first_mut()) {
                col.role = None;
                return Ok((inner, conditions, Some(empty)));
            }
            return Ok((inner, conditions, None));
        }
        let data_type = inner
            .cols
            .first()
            .map_or(DataType::new(TypeKind::Null), |c| c.data_type.clone())
            .with_nullable(true);
        let output = Field { name: "EXPR$0".to_owned(), data_type: data_type.clone() };
        let calls = vec![single_value(output)];
        let node = RelNode::Aggregate(Box::new(AggregateRel {
            input: inner,
            group: Vec::new(),
            calls,
            window: None,
            ttl: None,
        }));
        Ok((Rel { node, cols: vec![Col::new("EXPR$0", data_type)] }, Vec::new(), None))
    }

    /// Joins a scalar subquery: its value becomes the last column.
    pub(super) fn join_scalar(&self, left: Rel, right: Rel, conditions: Vec<Expr>) -> Rel {
        let width = left.cols.len();
        let conditions = conditions.iter().map(|e| at_home(e, &|c| c + width)).collect();
        let rel = plain_join(left, right, JoinKind::Left, conditions, Span::default());
        if rel.cols.len() == width + 1 {
            return rel;
        }
        let exprs = (0..=width).map(|i| rel.col(i)).collect();
        let cols = rel.cols.iter().take(width + 1).cloned().collect();
        rel.project(exprs, cols)
    }
}

/// NOT over AND and OR goes to what they hold: under `NOT (a OR x IN (query))` stands `x NOT IN (query)`.
fn without_not(expr: ast::Expr, negated: bool) -> ast::Expr {
    let span = expr.span;
    let kind = match (expr.kind, negated) {
        (ExprKind::Unary("NOT", inner), _) => return without_not(*inner, !negated),
        (ExprKind::Binary(op @ ("AND" | "OR"), left, right), _) => {
            let op = match (op, negated) {
                ("AND", true) => "OR",
                (_, true) => "AND",
                (op, false) => op,
            };
            let (left, right) = (without_not(*left, negated), without_not(*right, negated));
            ExprKind::Binary(op, Box::new(left), Box::new(right))
        }
        (kind, true) => ExprKind::Unary("NOT", Box::new(ast::Expr { kind, span })),
        (kind, false) => kind,
    };
    ast::Expr { kind, span }
}

/// The one value for each row of the query around: a second one is an error, unless a key says that there is none.
fn single_of_each(
    inner: Rel,
    conditions: Vec<Expr>,
    whole: Rel,
    left: &Rel,
    span: Span,
) -> SqlResult<Scalar> {
    let equal = |e: &Expr| matches!(&e.node, ExprNode::Call { function: "=", .. });
    if conditions.iter().all(equal) {
        let mut used = BTreeSet::new();
        conditions.iter().for_each(|e| columns_of(e, &mut used));
        if is_unique_by(&inner, &used) {
            return Ok((inner, conditions, None));
        }
    }
    let (rel, conditions, keys) = correlate_by_columns(whole, left, span)?;
    let Some(value) = rel.cols.first().cloned() else { return Ok((rel, conditions, None)) };
    let keys: Vec<usize> = keys.into_iter().collect();
    let data_type = value.data_type.with_nullable(true);
    let output = Field { name: value.name.clone(), data_type: data_type.clone() };
    let calls = vec![single_value(output)];
    let mut cols: Vec<Col> =
        keys.iter().filter_map(|k| rel.cols.get(*k).cloned().map(Col::materialized)).collect();
    let key_cols = cols.clone();
    cols.push(Col::new(value.name.clone(), data_type.clone()));
    let group = keys.clone();
    let node =
        RelNode::Aggregate(Box::new(AggregateRel { input: rel, group, calls, window: None, ttl: None }));
    let grouped = Rel { node, cols };
    // the value first, then what it is found by
    let order = std::iter::once(keys.len()).chain(0..keys.len());
    let exprs = order.map(|c| grouped.col(c)).collect();
    let mut cols = vec![Col::new(value.name, data_type)];
    cols.extend(key_cols);
    let place = |c: usize| if c >= OUTER { c } else { keys.iter().position(|k| *k == c).unwrap_or(0) + 1 };
    let conditions = conditions.iter().map(|e| rewrite(e, &|c, t| column(place(c), t.clone()))).collect();
    Ok((grouped.project(exprs, cols), conditions, None))
}

/// Whether at most one row has the same values in these columns.
fn is_unique_by(rel: &Rel, columns: &BTreeSet<usize>) -> bool {
    match &rel.node {
        RelNode::Scan(table, scanned, _) => {
            let named = |key: &usize| {
                scanned.iter().position(|column| column == key).is_some_and(|at| columns.contains(&at))
            };
            !table.primary_key.is_empty() && table.primary_key.iter().all(named)
        }
        RelNode::Filter(input, _) | RelNode::Watermark(input, ..) => is_unique_by(input, columns),
        RelNode::Project(input, exprs) => {
            let below = columns.iter().filter_map(|c| match exprs.get(*c).map(|e| &e.node) {
                Some(ExprNode::Column(below)) => Some(*below),
                _ => None,
            });
            is_unique_by(input, &below.collect())
        }
        RelNode::Aggregate(aggregate) => {
            aggregate.window.is_none() && (0..aggregate.group.len()).all(|c| columns.contains(&c))
        }
        _ => false,
    }
}

/// A query of which there is a row whatever its tables hold: an aggregation without groups and HAVING.
pub(super) fn is_global_aggregate(rel: &Rel) -> bool {
    match &rel.node {
        RelNode::Project(input, _) => is_global_aggregate(input),
        RelNode::Aggregate(aggregate) => aggregate.group.is_empty() && aggregate.window.is_none(),
        RelNode::Values(rows) => rows.len() == 1,
        _ => false,
    }
}

/// The query under EXISTS without its order. A limit stays: under a query that depends on the one around Flink takes
/// it over all rows, which nobody means, and so it is refused.
pub(super) fn for_exists(rel: Rel) -> Rel {
    match rel.node {
        RelNode::Sort { input, offset: 0, limit: None, .. } => for_exists(*input),
        RelNode::Project(input, exprs) => {
            let node = RelNode::Project(Box::new(for_exists(*input)), exprs);
            Rel { node, cols: rel.cols }
        }
        node => Rel { node, cols: rel.cols },
    }
}

fn split<'e>(expr: &'e ast::Expr, out: &mut Vec<&'e ast::Expr>) {
    match &expr.kind {
        ExprKind::Binary("AND", left, right) => {
            split(left, out);
            split(right, out);
        }
        _ => out.push(expr),
    }
}

/// The first column's only value: more rows than one end the job.
fn single_value(output: Field) -> AggregateCall {
    AggregateCall { function: "SINGLE_VALUE", args: vec![0], distinct: false, filter: None, output }
}
