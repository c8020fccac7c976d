//! Filters go down to where their columns come from; filters on a row number make a Top-N.

use std::collections::BTreeSet;

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::JoinKind;
use crate::sql::rel::{AggregateRel, JoinRel, OverRel, RankRel, Rel, RelNode, TimeAttribute};
use crate::sql::types::{and_all, column, columns_of, conjuncts, rewrite, walk};

use super::{rank, strong};

/// Whether evaluating it twice may give two values.
pub(super) fn is_volatile(expr: &Expr) -> bool {
    let mut found = false;
    walk(expr, &mut |e| {
        if let ExprNode::Call { function, .. } = &e.node {
            found |= matches!(
                *function,
                "RAND"
                    | "RAND_INTEGER"
                    | "UUID"
                    | "PROCTIME"
                    | "CURRENT_TIMESTAMP"
                    | "CURRENT_ROW_TIMESTAMP"
                    | "LOCALTIMESTAMP"
                    | "LOCALTIME"
                    | "CURRENT_DATE"
                    | "CURRENT_WATERMARK"
            );
        }
    });
    found
}

fn all_columns(expr: &Expr, test: impl Fn(usize) -> bool) -> bool {
    let mut columns = BTreeSet::new();
    columns_of(expr, &mut columns);
    columns.into_iter().all(test)
}

fn shifted(expr: &Expr, by: usize) -> Expr {
    rewrite(expr, &|index, data_type| column(index - by, data_type.clone()))
}

fn wrap(rel: Rel, predicates: Vec<Expr>) -> Rel {
    match and_all(predicates) {
        Some(predicate) => rel.filter(predicate),
        None => rel,
    }
}

/// Pushes these predicates, and all filters below, as far down as they go. What stands below is asked first: a filter
/// may keep rows away from another one that would fail on them.
pub(super) fn push(rel: Rel, mut predicates: Vec<Expr>) -> Rel {
    let cols = rel.cols;
    match rel.node {
        RelNode::Filter(input, predicate) => {
            let mut all = Vec::new();
            conjuncts(predicate, &mut all);
            all.append(&mut predicates);
            push(*input, all)
        }
        RelNode::Project(input, exprs) => {
            let (down, stay): (Vec<Expr>, Vec<Expr>) = predicates.into_iter().partition(|p| {
                !is_volatile(p) && all_columns(p, |c| exprs.get(c).is_some_and(|e| !is_volatile(e)))
            });
            let down = down
                .iter()
                .map(|p| {
                    rewrite(p, &|index, data_type| {
                        exprs.get(index).cloned().unwrap_or_else(|| column(index, data_type.clone()))
                    })
                })
                .collect();
            let input = push(*input, down);
            wrap(input.project(exprs, cols), stay)
        }
        RelNode::Join(join) => push_join(*join, cols, predicates),
        RelNode::Aggregate(aggregate) => {
            let AggregateRel { input, group, calls, window, ttl } = *aggregate;
            let (down, stay): (Vec<Expr>, Vec<Expr>) = predicates.into_iter().partition(|p| {
                !group.is_empty()
                    && !is_volatile(p)
                    && all_columns(p, |c| {
                        c < group.len() && cols.get(c).is_some_and(|col| col.role.is_none())
                    })
            });
            let down = down
                .iter()
                .map(|p| {
                    rewrite(p, &|index, data_type| {
                        column(group.get(index).copied().unwrap_or(0), data_type.clone())
                    })
                })
                .collect();
            let input = push(input, down);
            let node = RelNode::Aggregate(Box::new(AggregateRel { input, group, calls, window, ttl }));
            wrap(Rel { node, cols }, stay)
        }
        RelNode::WindowTvf(input, window) => {
            let width = input.cols.len();
            let session = matches!(window.kind, crate::engine::plan::WindowKind::Session { .. });
            let (down, stay): (Vec<Expr>, Vec<Expr>) = predicates
                .into_iter()
                .partition(|p| !session && !is_volatile(p) && all_columns(p, |c| c < width));
            let input = push(*input, down);
            wrap(Rel { node: RelNode::WindowTvf(Box::new(input), window), cols }, stay)
        }
        RelNode::Over(over) => {
            let OverRel { input, partition, order, frame, calls } = *over;
            let (down, stay): (Vec<Expr>, Vec<Expr>) = predicates.into_iter().partition(|p| {
                !is_volatile(p) && !partition.is_empty() && all_columns(p, |c| partition.contains(&c))
            });
            let over = OverRel { input: push(input, down), partition, order, frame, calls };
            match rank::from_over(over, stay, cols.clone()) {
                Ok((rel, stay)) => wrap(rel, stay),
                Err(refused) => {
                    let (over, stay) = *refused;
                    match rank::unlimited(over, &stay) {
                        Ok(node) => wrap(Rel { node, cols }, stay),
                        Err(over) => wrap(Rel { node: RelNode::Over(over), cols }, stay),
                    }
                }
            }
        }
        RelNode::Rank(rank) => {
            let RankRel { input, function, partition, order, from, to, emit_rank } = *rank;
            let input = push(input, Vec::new());
            let rank = RankRel { input, function, partition, order, from, to, emit_rank };
            wrap(Rel { node: RelNode::Rank(Box::new(rank)), cols }, predicates)
        }
        RelNode::Union(inputs) => {
            let (down, stay): (Vec<Expr>, Vec<Expr>) = predicates.into_iter().partition(|p| !is_volatile(p));
            let inputs = inputs.into_iter().map(|input| push(input, down.clone())).collect();
            wrap(Rel { node: RelNode::Union(inputs), cols }, stay)
        }
        RelNode::SetOp { intersect, all, left, right } => {
            let (left, right) = (Box::new(push(*left, Vec::new())), Box::new(push(*right, Vec::new())));
            wrap(Rel { node: RelNode::SetOp { intersect, all, left, right }, cols }, predicates)
        }
        RelNode::Unnest(input, unnest) => {
            let width = input.cols.len();
            let (down, stay): (Vec<Expr>, Vec<Expr>) =
                predicates.into_iter().partition(|p| !is_volatile(p) && all_columns(p, |c| c < width));
            let input = Box::new(push(*input, down));
            wrap(Rel { node: RelNode::Unnest(input, unnest), cols }, stay)
        }
        RelNode::Sort { input, order, offset, limit } => {
            let input = Box::new(push(*input, Vec::new()));
            wrap(Rel { node: RelNode::Sort { input, order, offset, limit }, cols }, predicates)
        }
        RelNode::Expand(input, rows) => {
            let input = Box::new(push(*input, Vec::new()));
            wrap(Rel { node: RelNode::Expand(input, rows), cols }, predicates)
        }
        RelNode::Watermark(input, index, expr) => {
            // a row that a filter drops still moves the watermark
            let input = Box::new(push(*input, Vec::new()));
            wrap(Rel { node: RelNode::Watermark(input, index, expr), cols }, predicates)
        }
        node @ (RelNode::Scan(..) | RelNode::Values(_)) => wrap(Rel { node, cols }, predicates),
    }
}

fn push_join(join: JoinRel, cols: Vec<crate::sql::rel::Col>, predicates: Vec<Expr>) -> Rel {
    let JoinRel { left, right, kind, condition, system_time, ttl, span } = join;
    let width = left.cols.len();
    let versioned = system_time
        .and_then(|time| left.cols.get(time))
        .is_some_and(|time| time.time == TimeAttribute::Rowtime);
    let kind = if versioned { kind } else { strong::simplified(kind, &predicates, width) };
    let one_sided = matches!(kind, JoinKind::Semi | JoinKind::Anti);
    let (mut to_left, mut to_right, mut on, mut stay) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut own = Vec::new();
    if let Some(condition) = condition {
        conjuncts(condition, &mut own);
    }
    for p in own {
        let movable = !is_volatile(&p) && system_time.is_none();
        let mut used = BTreeSet::new();
        columns_of(&p, &mut used);
        let is_left = !used.is_empty() && used.iter().all(|c| *c < width);
        let is_right = !used.is_empty() && used.iter().all(|c| *c >= width);
        match kind {
            JoinKind::Inner | JoinKind::Right | JoinKind::Semi if movable && is_left => to_left.push(p),
            JoinKind::Inner | JoinKind::Left | JoinKind::Semi | JoinKind::Anti if movable && is_right => {
                to_right.push(shifted(&p, width));
            }
            _ => on.push(p),
        }
    }
    for p in predicates {
        let movable = !is_volatile(&p);
        let is_left = all_columns(&p, |c| c < width);
        let is_right = !one_sided && all_columns(&p, |c| c >= width);
        match kind {
            JoinKind::Inner | JoinKind::Left | JoinKind::Semi | JoinKind::Anti if movable && is_left => {
                to_left.push(p)
            }
            JoinKind::Inner | JoinKind::Right if movable && is_right && system_time.is_none() => {
                to_right.push(shifted(&p, width));
            }
            JoinKind::Inner if movable && system_time.is_none() => on.push(p),
            _ => stay.push(p),
        }
    }
    // literal TRUE joins everything
    on.retain(|p| !matches!(p.node, ExprNode::Literal(crate::engine::row::Value::Bool(true))));
    let left = push(left, to_left);
    let right = push(right, to_right);
    let join = JoinRel { left, right, kind, condition: and_all(on), system_time, ttl, span };
    wrap(Rel { node: RelNode::Join(Box::new(join)), cols }, stay)
}
