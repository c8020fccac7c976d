//! Which operators keep the window that a row is in, as Flink has it: joins, Top-N and deduplication by window do, and
//! UNION ALL of equal windows; other joins, OVER and limits do not. An aggregation by window columns that are not kept
//! is a regular one: its rows change as often as its input does.

use crate::engine::expr::{Expr, ExprNode};
use crate::sql::rel::{AggregateRel, Col, JoinRel, RankRel, Rel, RelNode, WindowRole};
use crate::sql::types::conjuncts;

use super::aggregate::is_windowed;
use super::join::window_equalities;

/// Takes the roles of window columns away where the window does not outlive an operator.
pub(super) fn settle(rel: Rel) -> Rel {
    let Rel { node, mut cols } = rel;
    let node = match node {
        RelNode::Scan(..) | RelNode::Values(_) => node,
        RelNode::Project(input, exprs) => {
            let input = settle(*input);
            assign(&mut cols, exprs.iter().map(|expr| role(expr, &input.cols)));
            RelNode::Project(Box::new(input), exprs)
        }
        RelNode::Filter(input, predicate) => {
            let input = settle(*input);
            assign(&mut cols, roles(&input.cols));
            RelNode::Filter(Box::new(input), predicate)
        }
        RelNode::Watermark(input, column, watermark) => {
            let input = settle(*input);
            assign(&mut cols, roles(&input.cols));
            RelNode::Watermark(Box::new(input), column, watermark)
        }
        RelNode::WindowTvf(input, window) => {
            let input = settle(*input);
            // its own columns follow the input's
            for (col, role) in cols.iter_mut().zip(roles(&input.cols)) {
                col.role = role;
            }
            RelNode::WindowTvf(Box::new(input), window)
        }
        RelNode::Join(join) => {
            let join = JoinRel { left: settle(join.left), right: settle(join.right), ..*join };
            if by_window(&join) {
                assign(&mut cols, roles(&join.left.cols).chain(roles(&join.right.cols)));
            } else {
                assign(&mut cols, std::iter::empty());
            }
            RelNode::Join(Box::new(join))
        }
        RelNode::Aggregate(aggregate) => {
            let aggregate = AggregateRel { input: settle(aggregate.input), ..*aggregate };
            // the properties of GROUP BY TUMBLE(…) are its own
            if aggregate.window.is_none() {
                let below = &aggregate.input.cols;
                let kept = is_windowed(&aggregate.group, below);
                let groups = aggregate.group.iter().map(|c| below.get(*c)?.role.clone().filter(|_| kept));
                assign(&mut cols, groups);
            }
            RelNode::Aggregate(Box::new(aggregate))
        }
        RelNode::Over(mut over) => {
            over.input = settle(over.input);
            assign(&mut cols, std::iter::empty());
            RelNode::Over(over)
        }
        RelNode::Rank(rank) => {
            let rank = RankRel { input: settle(rank.input), ..*rank };
            let kept = is_windowed(&rank.partition, &rank.input.cols);
            assign(&mut cols, roles(&rank.input.cols).map(|role| role.filter(|_| kept)));
            RelNode::Rank(Box::new(rank))
        }
        RelNode::Union(inputs) => {
            let inputs: Vec<Rel> = inputs.into_iter().map(settle).collect();
            let (first, others) =
                inputs.split_first().map_or((&[][..], &[][..]), |(first, others)| (&first.cols, others));
            let common = first.iter().enumerate().map(|(i, col)| {
                let role = col.role.as_ref()?;
                let same = |other: &Rel| {
                    other
                        .cols
                        .get(i)
                        .and_then(|col| col.role.as_ref())
                        .is_some_and(|other| role.is_like(other))
                };
                others.iter().all(same).then(|| role.clone())
            });
            assign(&mut cols, common);
            RelNode::Union(inputs)
        }
        RelNode::SetOp { intersect, all, left, right } => {
            assign(&mut cols, std::iter::empty());
            RelNode::SetOp { intersect, all, left: Box::new(settle(*left)), right: Box::new(settle(*right)) }
        }
        RelNode::Sort { input, order, offset, limit } => {
            let input = settle(*input);
            assign(&mut cols, roles(&input.cols).map(|role| role.filter(|_| limit.is_none())));
            RelNode::Sort { input: Box::new(input), order, offset, limit }
        }
        RelNode::Expand(input, rows) => {
            let input = settle(*input);
            for (i, col) in cols.iter_mut().enumerate() {
                // a column that some sets lack is no window's any more
                let everywhere = |row: &Vec<Expr>| {
                    row.get(i).is_some_and(|expr| matches!(expr.node, ExprNode::Column(c) if c == i))
                };
                let kept = rows.iter().all(everywhere);
                col.role = input.cols.get(i).and_then(|col| col.role.clone()).filter(|_| kept);
            }
            RelNode::Expand(Box::new(input), rows)
        }
        RelNode::Unnest(input, unnest) => {
            let input = settle(*input);
            assign(&mut cols, roles(&input.cols));
            RelNode::Unnest(Box::new(input), unnest)
        }
    };
    Rel { node, cols }
}

/// Whether the rows of both sides are of one window.
fn by_window(join: &JoinRel) -> bool {
    let mut parts = Vec::new();
    if let (Some(condition), None) = (&join.condition, join.system_time) {
        conjuncts(condition.clone(), &mut parts);
    }
    let both: Vec<Col> = join.left.cols.iter().chain(&join.right.cols).cloned().collect();
    window_equalities(&parts, &both, join.left.cols.len()).is_some()
}

fn roles(cols: &[Col]) -> impl Iterator<Item = Option<WindowRole>> {
    cols.iter().map(|col| col.role.clone())
}

/// Gives the columns these roles; what has none left has none.
fn assign(cols: &mut [Col], roles: impl Iterator<Item = Option<WindowRole>>) {
    let all = roles.chain(std::iter::repeat(None));
    cols.iter_mut().zip(all).for_each(|(col, role)| col.role = role);
}

/// The role of a column that an expression passes on, also through a CAST to the type that it has.
pub(in crate::sql) fn role(expr: &Expr, input: &[Col]) -> Option<WindowRole> {
    match &expr.node {
        ExprNode::Column(index) => input.get(*index)?.role.clone(),
        ExprNode::Cast { input: inner, .. } if inner.data_type.kind == expr.data_type.kind => {
            role(inner, input)
        }
        _ => None,
    }
}
