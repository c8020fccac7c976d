//! What a subquery takes from the query around: its conditions become those of a join.
//!
//! A column of the query around stands as [`OUTER`] and its place, one of the query around that as twice `OUTER` and
//! its place, and so on. Conditions of WHERE are pulled out of the subquery where that does not change its meaning;
//! elsewhere the subquery is computed for all the values that the query around has (its domain), and joined by them.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::JoinKind;
use crate::engine::types::{DataType, TypeKind};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::rel::{AggregateRel, Col, JoinRel, Rel, RelNode};
use crate::sql::types::{and_all, call, column, columns_of, conjuncts, rewrite, walk};

use super::{OUTER, Scope};

/// A subquery without what it took from the query around: its relation, with the columns that the conditions need at
/// its end, and the conditions over it (columns of the query around still stand from [`OUTER`] on).
pub(super) fn correlate(inner: Rel, left: &Rel, span: Span) -> SqlResult<(Rel, Vec<Expr>)> {
    match decorrelate(inner.clone(), span) {
        Err(error) if depends(&inner) => domain(inner, left, error),
        Ok((rel, mut conditions)) => {
            if conditions.iter().any(is_disjunctive) {
                known(&mut conditions, left);
            }
            Ok((rel, conditions))
        }
        other => other,
    }
}

/// Whether a column of the query around stands under an OR. Flink computes such a subquery for the values that the
/// query around has, and joins it by them with `=`: where one of these is NULL, the subquery is as good as empty.
fn is_disjunctive(condition: &Expr) -> bool {
    let mut found = false;
    walk(condition, &mut |e| {
        let alternative = match &e.node {
            ExprNode::Call { function, args } => match (*function, args.as_slice()) {
                ("OR" | "IS DISTINCT FROM" | "IS NOT DISTINCT FROM", _) => true,
                ("IN", [_, list @ ..]) => list.len() > 1 && list.iter().any(is_outer),
                ("NOT", [inner]) => matches!(&inner.node, ExprNode::Call { function: "AND", .. }),
                _ => false,
            },
            ExprNode::Case { .. } => e.data_type.kind == TypeKind::Boolean,
            _ => false,
        };
        found |= alternative && is_outer(e);
    });
    found
}

/// Asks that the columns of the query around that are named in the conditions are not NULL.
fn known(conditions: &mut Vec<Expr>, left: &Rel) {
    let mut used = BTreeSet::new();
    conditions.iter().for_each(|e| columns_of(e, &mut used));
    for index in used.into_iter().filter(|c| (OUTER..2 * OUTER).contains(c)) {
        let value = left.col(index - OUTER).data_type;
        if value.nullable {
            let value = vec![column(index, value)];
            conditions.push(call("IS NOT NULL", value, DataType::not_null(TypeKind::Boolean)));
        }
    }
}

/// As [`correlate`], where only conditions of equality will do.
pub(super) fn correlate_by_equality(inner: Rel, left: &Rel, span: Span) -> SqlResult<(Rel, Vec<Expr>)> {
    let (right, conditions) = correlate(inner.clone(), left, span)?;
    let equal = |e: &Expr| match &e.node {
        ExprNode::Call { function: "=" | "IS NOT DISTINCT FROM", .. } => true,
        ExprNode::Call { function: "IS NOT NULL", args } => {
            matches!(args.as_slice(), [Expr { node: ExprNode::Column(c), .. }] if *c >= OUTER)
        }
        _ => false,
    };
    if conditions.iter().all(equal) {
        return Ok((right, conditions));
    }
    let error =
        SqlError::plan(span, "a subquery in this place may depend on the query around by equality only")
            .help("move the condition to the top of WHERE, joined by AND");
    domain(inner, left, error)
}

/// As [`correlate_by_equality`], and what is compared are columns of the subquery: these columns.
pub(super) fn correlate_by_columns(
    inner: Rel,
    left: &Rel,
    span: Span,
) -> SqlResult<(Rel, Vec<Expr>, BTreeSet<usize>)> {
    let (right, conditions) = correlate_by_equality(inner.clone(), left, span)?;
    let own = |conditions: &[Expr]| {
        let mut used = BTreeSet::new();
        conditions.iter().for_each(|e| columns_of(e, &mut used));
        used.into_iter().filter(|c| *c < OUTER).collect::<BTreeSet<usize>>()
    };
    let plain = |e: &Expr| match &e.node {
        ExprNode::Call { args, .. } => {
            let column = |e: &Expr| matches!(e.node, ExprNode::Column(c) if c < OUTER);
            args.iter().any(column) || own(std::slice::from_ref(e)).is_empty()
        }
        _ => false,
    };
    if conditions.iter().all(plain) {
        let used = own(&conditions);
        return Ok((right, conditions, used));
    }
    let error =
        SqlError::plan(span, "a subquery in this place may depend on the query around by columns only");
    let (right, conditions) = domain(inner, left, error)?;
    let used = own(&conditions);
    Ok((right, conditions, used))
}

/// A condition of a subquery over both sides of the join: columns of the subquery go where `place` says.
pub(super) fn at_home(condition: &Expr, place: &dyn Fn(usize) -> usize) -> Expr {
    rewrite(condition, &|index, data_type| {
        column(if index >= OUTER { index - OUTER } else { place(index) }, data_type.clone())
    })
}

/// The scopes around a query whose query around is this one, innermost first.
pub(super) fn around(outer: Option<&Scope>) -> Vec<Vec<super::ScopeCol>> {
    match outer {
        Some(scope) => std::iter::once(scope.cols.clone()).chain(scope.around.iter().cloned()).collect(),
        None => Vec::new(),
    }
}

/// A join without more to say.
pub(super) fn plain_join(left: Rel, right: Rel, kind: JoinKind, conditions: Vec<Expr>, span: Span) -> Rel {
    let cols = Rel::join_cols(&left, &right, kind);
    let condition = and_all(conditions);
    let join = JoinRel { left, right, kind, condition, system_time: None, ttl: [None; 2], span };
    Rel { node: RelNode::Join(Box::new(join)), cols }
}

/// The values of the query around that a subquery is computed for.
struct Domain {
    /// Places in the query around.
    outer: Vec<usize>,
    /// The distinct values at these places.
    rel: Rel,
}

/// Computes the subquery for the domain; its columns stand at the end of the result.
fn domain(inner: Rel, left: &Rel, error: Box<SqlError>) -> SqlResult<(Rel, Vec<Expr>)> {
    let mut used = BTreeSet::new();
    collect(&inner, &mut used);
    let outer: Vec<usize> =
        used.into_iter().filter(|c| (OUTER..2 * OUTER).contains(c)).map(|c| c - OUTER).collect();
    if outer.iter().any(|c| *c >= left.cols.len()) {
        return Err(error);
    }
    let exprs: Vec<Expr> = outer.iter().map(|c| left.col(*c)).collect();
    let cols: Vec<Col> =
        outer.iter().filter_map(|c| left.cols.get(*c).cloned().map(Col::materialized)).collect();
    let input = left.clone().project(exprs, cols.clone());
    let group = (0..cols.len()).collect();
    let node = RelNode::Aggregate(Box::new(AggregateRel {
        input,
        group,
        calls: Vec::new(),
        window: None,
        ttl: None,
    }));
    let domain = Domain { outer, rel: Rel { node, cols } };
    let Some(rel) = domain.inject(inner) else { return Err(error) };
    let at = rel.cols.len() - domain.width();
    let conditions = domain
        .outer
        .iter()
        .enumerate()
        .map(|(i, c)| {
            let value = left.col(*c);
            let outer = column(c + OUTER, value.data_type.clone());
            equal(rel.col(at + i), outer)
        })
        .collect();
    Ok((rel, conditions))
}

/// As in Flink NULL is not a value that the query around has.
fn equal(a: Expr, b: Expr) -> Expr {
    let nullable = a.data_type.nullable || b.data_type.nullable;
    call("=", vec![a, b], DataType { kind: TypeKind::Boolean, nullable })
}

impl Domain {
    fn width(&self) -> usize {
        self.outer.len()
    }

    /// An expression over a relation that has the domain's columns from `at` on; its own columns go where `place` says.
    fn expr(&self, expr: &Expr, at: usize, place: &dyn Fn(usize) -> usize) -> Expr {
        rewrite(expr, &|index, data_type| {
            let index = if index < OUTER {
                place(index)
            } else if index < 2 * OUTER {
                at + self.outer.iter().position(|c| *c == index - OUTER).unwrap_or(0)
            } else {
                index - OUTER
            };
            column(index, data_type.clone())
        })
    }

    /// The relation's columns in another order.
    fn ordered(rel: Rel, order: impl Iterator<Item = usize>) -> Rel {
        let order: Vec<usize> = order.collect();
        let exprs = order.iter().map(|c| rel.col(*c)).collect();
        let cols = order.iter().filter_map(|c| rel.cols.get(*c).cloned()).collect();
        rel.project(exprs, cols)
    }

    /// The relation for each value of the domain, whose columns stand at the end. `None`: not known how.
    fn inject(&self, rel: Rel) -> Option<Rel> {
        let d = self.width();
        if !depends(&rel) {
            return Some(plain_join(rel, self.rel.clone(), JoinKind::Inner, Vec::new(), Span::default()));
        }
        let mut cols = rel.cols;
        match rel.node {
            RelNode::Filter(input, predicate) => {
                let at = input.cols.len();
                let input = self.inject(*input)?;
                Some(input.filter(self.expr(&predicate, at, &|c| c)))
            }
            RelNode::Project(input, exprs) => {
                let at = input.cols.len();
                let input = self.inject(*input)?;
                let mut exprs: Vec<Expr> = exprs.iter().map(|e| self.expr(e, at, &|c| c)).collect();
                exprs.extend((at..at + d).map(|c| input.col(c)));
                cols.extend(self.rel.cols.iter().cloned());
                Some(input.project(exprs, cols))
            }
            RelNode::Aggregate(aggregate) if aggregate.window.is_none() => {
                let AggregateRel { input, mut group, calls, window, ttl } = *aggregate;
                let (at, keys, width) = (input.cols.len(), group.len(), cols.len());
                let input = self.inject(input)?;
                group.extend(at..at + d);
                cols.splice(keys..keys, self.rel.cols.iter().cloned());
                let node = RelNode::Aggregate(Box::new(AggregateRel { input, group, calls, window, ttl }));
                let order = (0..keys).chain(keys + d..width + d).chain(keys..keys + d);
                Some(Self::ordered(Rel { node, cols }, order))
            }
            RelNode::Join(join) if join.system_time.is_none() => self.inject_join(*join),
            RelNode::Union(inputs) => {
                let inputs =
                    inputs.into_iter().map(|input| self.inject(input)).collect::<Option<Vec<_>>>()?;
                cols.extend(self.rel.cols.iter().cloned());
                Some(Rel { node: RelNode::Union(inputs), cols })
            }
            RelNode::SetOp { intersect, all, left, right } => {
                let (left, right) = (Box::new(self.inject(*left)?), Box::new(self.inject(*right)?));
                cols.extend(self.rel.cols.iter().cloned());
                Some(Rel { node: RelNode::SetOp { intersect, all, left, right }, cols })
            }
            RelNode::Unnest(input, mut unnest) => {
                let (at, width) = (input.cols.len(), cols.len());
                let input = self.inject(*input)?;
                unnest.collection = self.expr(&unnest.collection, at, &|c| c);
                let place = |c| if c < at { c } else { c + d };
                unnest.condition = unnest.condition.map(|condition| self.expr(&condition, at, &place));
                cols.splice(at..at, self.rel.cols.iter().cloned());
                let node = RelNode::Unnest(Box::new(input), unnest);
                let order = (0..at).chain(at + d..width + d).chain(at..at + d);
                Some(Self::ordered(Rel { node, cols }, order))
            }
            _ => None,
        }
    }

    fn inject_join(&self, join: JoinRel) -> Option<Rel> {
        let JoinRel { left, right, kind, condition, system_time: _, ttl, span } = join;
        if matches!(kind, JoinKind::Right | JoinKind::Full) {
            return None;
        }
        let d = self.width();
        let (l, r) = (left.cols.len(), right.cols.len());
        let both = depends(&right);
        let left = self.inject(left)?;
        let right = if both { self.inject(right)? } else { right };
        let mut conditions: Vec<Expr> =
            condition.iter().map(|e| self.expr(e, l, &|c| if c < l { c } else { c + d })).collect();
        if both {
            conditions.extend((0..d).map(|i| {
                let of_right = right.col(r + i);
                equal(left.col(l + i), column(l + d + r + i, of_right.data_type))
            }));
        }
        let mut joined = plain_join(left, right, kind, conditions, span);
        if let RelNode::Join(join) = &mut joined.node {
            join.ttl = ttl;
        }
        if matches!(kind, JoinKind::Semi | JoinKind::Anti) {
            return Some(joined);
        }
        Some(Self::ordered(joined, (0..l).chain(l + d..l + d + r).chain(l..l + d)))
    }
}

/// All columns that expressions of a relation name.
fn collect(rel: &Rel, out: &mut BTreeSet<usize>) {
    match &rel.node {
        RelNode::Scan(..) | RelNode::Values(_) => {}
        RelNode::Project(input, exprs) => {
            exprs.iter().for_each(|e| columns_of(e, out));
            collect(input, out);
        }
        RelNode::Filter(input, predicate) => {
            columns_of(predicate, out);
            collect(input, out);
        }
        RelNode::Watermark(input, ..) | RelNode::WindowTvf(input, _) => collect(input, out),
        RelNode::Join(join) => {
            join.condition.iter().for_each(|e| columns_of(e, out));
            collect(&join.left, out);
            collect(&join.right, out);
        }
        RelNode::Aggregate(aggregate) => collect(&aggregate.input, out),
        RelNode::Over(over) => collect(&over.input, out),
        RelNode::Rank(rank) => collect(&rank.input, out),
        RelNode::Union(inputs) => inputs.iter().for_each(|input| collect(input, out)),
        RelNode::SetOp { left, right, .. } => {
            collect(left, out);
            collect(right, out);
        }
        RelNode::Sort { input, .. } => collect(input, out),
        RelNode::Expand(input, rows) => {
            rows.iter().flatten().for_each(|e| columns_of(e, out));
            collect(input, out);
        }
        RelNode::Unnest(input, unnest) => {
            columns_of(&unnest.collection, out);
            unnest.condition.iter().for_each(|e| columns_of(e, out));
            collect(input, out);
        }
    }
}

fn is_outer(expr: &Expr) -> bool {
    let mut columns = BTreeSet::new();
    columns_of(expr, &mut columns);
    columns.into_iter().any(|c| c >= OUTER)
}

/// Pulls conditions on the outer query out of a subquery: the relation with the columns they need at its end, and
/// the conditions over it.
fn decorrelate(rel: Rel, span: Span) -> SqlResult<(Rel, Vec<Expr>)> {
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
            let mut places = BTreeMap::new();
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
            let mut places = BTreeMap::new();
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

fn moved(conditions: &[Expr], places: &BTreeMap<usize, usize>) -> Vec<Expr> {
    conditions
        .iter()
        .map(|expr| {
            rewrite(expr, &|index, data_type| {
                column(places.get(&index).copied().unwrap_or(index), data_type.clone())
            })
        })
        .collect()
}

/// Whether anything below refers to a query around.
fn depends(rel: &Rel) -> bool {
    let mut columns = BTreeSet::new();
    collect(rel, &mut columns);
    columns.last().is_some_and(|c| *c >= OUTER)
}
