//! WHERE with subqueries: semi and anti joins, scalar subqueries, correlation.

use std::collections::BTreeSet;

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{AggregateCall, JoinKind};
use crate::engine::types::{DataType, Field, TypeKind};
use crate::sql::ast::{self, ExprKind};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::functions::operators;
use crate::sql::rel::{AggregateRel, Col, JoinRel, Rel, RelNode};
use crate::sql::types::{and_all, call, column, columns_of, conjuncts, rewrite};

use super::visit::visit;
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
    pub(super) fn condition(
        &self,
        mut rel: Rel,
        scope: &Scope,
        filter: &ast::Expr,
        outer: Option<&Scope>,
    ) -> SqlResult<Rel> {
        let mut parts = Vec::new();
        split(filter, &mut parts);
        let mut plain = Vec::new();
        let mut rest = Vec::new();
        for part in parts.iter().copied() {
            let mut nested = false;
            visit(part, &mut |e| {
                nested |=
                    matches!(e.kind, ExprKind::Subquery(_) | ExprKind::InQuery(..) | ExprKind::Exists(_))
            });
            if nested {
                rest.push(part);
            } else {
                let bound = self.expr(part, Env { outer, clause: "WHERE", ..Env::plain(scope) })?;
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
            rel = self.subquery_condition(rel, scope, part, outer)?;
        }
        Ok(rel)
    }

    fn subquery_condition(
        &self,
        rel: Rel,
        scope: &Scope,
        part: &ast::Expr,
        outer: Option<&Scope>,
    ) -> SqlResult<Rel> {
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
            let (inner, correlated, empty) = self.scalar(query, scope)?;
            let index = rel.cols.len();
            rel = self.join_scalar(rel, inner, correlated);
            let data_type =
                rel.cols.get(index).map_or(DataType::new(TypeKind::Null), |c| c.data_type.clone());
            scalars.push((std::ptr::from_ref(query) as usize, or_empty(column(index, data_type), empty)));
        }
        let bound =
            self.expr(part, Env { outer, scalars: &scalars, clause: "WHERE", ..Env::plain(scope) })?;
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
        if value.is_some()
            && inner.cols.len() != 1
            && !matches!(value.map(|v| &v.kind), Some(ExprKind::Row(_)))
        {
            return Err(SqlError::plan(span, "Values passed to IN operator must have compatible types")
                .help(format!("the query gives {} columns, one is compared", inner.cols.len())));
        }
        let width = left.cols.len();
        let (right, mut conditions) = decorrelate(inner, span)?;
        let shift = |expr: &Expr| {
            rewrite(expr, &|index, data_type| {
                let index = if index >= OUTER { index - OUTER } else { index + width };
                column(index, data_type.clone())
            })
        };
        conditions = conditions.iter().map(shift).collect();
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
        let cols = left.cols.clone();
        let join = JoinRel {
            left,
            right,
            kind,
            condition: and_all(conditions),
            system_time: None,
            ttl: [None; 2],
            span,
        };
        Ok(Rel { node: RelNode::Join(Box::new(join)), cols })
    }

    /// A subquery as a value: one column, one row; and how it depends on the query around.
    pub(super) fn scalar(&self, query: &ast::Query, scope: &Scope) -> SqlResult<Scalar> {
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
        let (mut inner, conditions) = decorrelate(inner, query.span)?;
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
        let calls = vec![AggregateCall {
            function: "SINGLE_VALUE",
            args: vec![0],
            distinct: false,
            filter: None,
            output,
        }];
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
        let conditions: Vec<Expr> = conditions
            .iter()
            .map(|expr| {
                rewrite(expr, &|index, data_type| {
                    column(if index >= OUTER { index - OUTER } else { index + width }, data_type.clone())
                })
            })
            .collect();
        let cols = Rel::join_cols(&left, &right, JoinKind::Left);
        let join = JoinRel {
            left,
            right,
            kind: JoinKind::Left,
            condition: and_all(conditions),
            system_time: None,
            ttl: [None; 2],
            span: Span::default(),
        };
        let rel = Rel { node: RelNode::Join(Box::new(join)), cols };
        if rel.cols.len() == width + 1 {
            return rel;
        }
        let exprs = (0..=width).map(|i| rel.col(i)).collect();
        let cols = rel.cols.iter().take(width + 1).cloned().collect();
        rel.project(exprs, cols)
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

fn is_global_aggregate(rel: &Rel) -> bool {
    match &rel.node {
        RelNode::Project(input, _) => is_global_aggregate(input),
        RelNode::Aggregate(aggregate) => aggregate.group.is_empty() && aggregate.window.is_none(),
        RelNode::Values(rows) => rows.len() == 1,
        _ => false,
    }
}

fn is_outer(expr: &Expr) -> bool {
    let mut columns = BTreeSet::new();
    columns_of(expr, &mut columns);
    columns.into_iter().any(|c| c >= OUTER)
}

/// Pulls conditions on the outer query out of a subquery: the relation with the columns they need at its end, and
/// the conditions over it.
pub(super) fn decorrelate(rel: Rel, span: Span) -> SqlResult<(Rel, Vec<Expr>)> {
    let unsupported = || {
        SqlError::plan(span, "a subquery that depends on the query around in this way is not supported")
            .help("write it as a join")
    };
    match rel.node {
        RelNode::Filter(input, predicate) => {
            let (input, mut pulled) = decorrelate(*input, span)?;
            let mut parts = Vec::new();
            conjuncts(predicate, &mut parts);
            let (outer, inner): (Vec<Expr>, Vec<Expr>) = parts.into_iter().partition(is_outer);
            pulled.extend(outer);
            Ok((
                match and_all(inner) {
                    Some(predicate) => input.filter(predicate),
                    None => input,
                },
                pulled,
            ))
        }
        RelNode::Project(input, mut exprs) => {
            if exprs.iter().any(is_outer) {
                return Err(unsupported());
            }
            let mut cols = rel.cols;
            let (input, pulled) = decorrelate(*input, span)?;
            if pulled.is_empty() {
                return Ok((input.project(exprs, cols), pulled));
            }
            let mut needed = BTreeSet::new();
            pulled.iter().for_each(|e| columns_of(e, &mut needed));
            let mut places = std::collections::BTreeMap::new();
            for index in needed.into_iter().filter(|i| *i < OUTER) {
                let wanted = input.col(index);
                let place = match exprs.iter().position(|e| *e == wanted) {
                    Some(place) => place,
                    None => {
                        if let Some(col) = input.cols.get(index) {
                            cols.push(col.clone());
                        }
                        exprs.push(wanted);
                        exprs.len() - 1
                    }
                };
                places.insert(index, place);
            }
            let pulled = moved(&pulled, &places);
            Ok((input.project(exprs, cols), pulled))
        }
        RelNode::Aggregate(aggregate) if aggregate.window.is_none() => {
            let AggregateRel { input, group, calls, window, ttl } = *aggregate;
            let (input, pulled) = decorrelate(input, span)?;
            if pulled.is_empty() {
                let node = RelNode::Aggregate(Box::new(AggregateRel { input, group, calls, window, ttl }));
                return Ok((Rel { node, cols: rel.cols }, pulled));
            }
            // equalities with the outer query become group keys
            let mut needed = BTreeSet::new();
            for condition in &pulled {
                if !matches!(&condition.node, ExprNode::Call { function: "=", .. }) {
                    return Err(unsupported());
                }
                columns_of(condition, &mut needed);
            }
            let needed: Vec<usize> = needed.into_iter().filter(|i| *i < OUTER).collect();
            let old_width = rel.cols.len();
            let mut all_groups = group.clone();
            let extra: Vec<usize> = needed.iter().copied().filter(|i| !group.contains(i)).collect();
            all_groups.extend(&extra);
            let mut cols: Vec<Col> = rel.cols.iter().take(group.len()).cloned().collect();
            cols.extend(extra.iter().filter_map(|i| input.cols.get(*i).cloned()));
            cols.extend(rel.cols.iter().skip(group.len()).cloned());
            let node = RelNode::Aggregate(Box::new(AggregateRel {
                input,
                group: all_groups.clone(),
                calls,
                window,
                ttl,
            }));
            let wide = Rel { node, cols };
            // the old columns in their old order, the new keys behind
            let mut exprs: Vec<Expr> =
                (0..old_width).map(|i| wide.col(if i < group.len() { i } else { i + extra.len() })).collect();
            let mut out_cols = rel.cols;
            let mut places = std::collections::BTreeMap::new();
            for index in needed {
                let at = all_groups.iter().position(|g| *g == index).unwrap_or(0);
                if at < group.len() {
                    places.insert(index, at);
                } else {
                    places.insert(index, exprs.len());
                    exprs.push(wide.col(at));
                    out_cols.push(
                        wide.cols
                            .get(at)
                            .cloned()
                            .unwrap_or_else(|| Col::new("$k", DataType::new(TypeKind::Null))),
                    );
                }
            }
            Ok((wide.project(exprs, out_cols), moved(&pulled, &places)))
        }
        // a join whose left side depends on the query around: EXISTS inside EXISTS
        RelNode::Join(join)
            if matches!(join.kind, JoinKind::Inner | JoinKind::Semi | JoinKind::Anti | JoinKind::Left)
                && join.system_time.is_none()
                && !join.condition.as_ref().is_some_and(is_outer)
                && !depends(&join.right)
                && depends(&join.left) =>
        {
            let JoinRel { left, right, kind, condition, system_time, ttl, span } = *join;
            let (old, width) = (left.cols.len(), right.cols.len());
            let (left, pulled) = decorrelate(left, span)?;
            let extra = left.cols.len() - old;
            let condition = condition.map(|condition| {
                rewrite(&condition, &|c, data_type| {
                    column(if c < old { c } else { c + extra }, data_type.clone())
                })
            });
            let cols = Rel::join_cols(&left, &right, kind);
            let join = JoinRel { left, right, kind, condition, system_time, ttl, span };
            let joined = Rel { node: RelNode::Join(Box::new(join)), cols };
            if extra == 0 || matches!(kind, JoinKind::Semi | JoinKind::Anti) {
                return Ok((joined, pulled));
            }
            // the columns that the conditions need go to the end
            let order: Vec<usize> =
                (0..old).chain(old + extra..old + extra + width).chain(old..old + extra).collect();
            let exprs = order.iter().map(|c| joined.col(*c)).collect();
            let cols = order.iter().filter_map(|c| joined.cols.get(*c).cloned()).collect();
            let places = order.iter().enumerate().map(|(to, from)| (*from, to)).collect();
            Ok((joined.project(exprs, cols), moved(&pulled, &places)))
        }
        node => {
            let rel = Rel { node, cols: rel.cols };
            if depends(&rel) { Err(unsupported()) } else { Ok((rel, Vec::new())) }
        }
    }
}

fn moved(conditions: &[Expr], places: &std::collections::BTreeMap<usize, usize>) -> Vec<Expr> {
    conditions
        .iter()
        .map(|expr| {
            rewrite(expr, &|index, data_type| {
                column(places.get(&index).copied().unwrap_or(index), data_type.clone())
            })
        })
        .collect()
}

/// Whether anything below refers to the query around.
fn depends(rel: &Rel) -> bool {
    match &rel.node {
        RelNode::Scan(..) | RelNode::Values(_) => false,
        RelNode::Project(input, exprs) => exprs.iter().any(is_outer) || depends(input),
        RelNode::Filter(input, predicate) => is_outer(predicate) || depends(input),
        RelNode::Watermark(input, ..) | RelNode::WindowTvf(input, _) => depends(input),
        RelNode::Join(join) => {
            join.condition.as_ref().is_some_and(is_outer) || depends(&join.left) || depends(&join.right)
        }
        RelNode::Aggregate(aggregate) => depends(&aggregate.input),
        RelNode::Over(over) => depends(&over.input),
        RelNode::Rank(rank) => depends(&rank.input),
        RelNode::Union(inputs) => inputs.iter().any(depends),
        RelNode::SetOp { left, right, .. } => depends(left) || depends(right),
        RelNode::Sort { input, .. } => depends(input),
        RelNode::Expand(input, rows) => rows.iter().flatten().any(is_outer) || depends(input),
        RelNode::Unnest { input, collection, .. } => is_outer(collection) || depends(input),
    }
}
