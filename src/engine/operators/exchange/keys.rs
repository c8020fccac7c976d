//! Which operators run in several instances, and by which keys.

use super::super::super::expr::Expr;
use super::super::super::plan::{Op, Plan, WindowKind};
use super::super::asks_watermark;

/// The key columns of each input of an operator that keeps its state by key; `None` of all others.
pub(in super::super) fn keys(op: &Op, width: usize) -> Option<Vec<Vec<usize>>> {
    let both = |on: &[(usize, usize)]| {
        vec![on.iter().map(|on| on.0).collect(), on.iter().map(|on| on.1).collect::<Vec<_>>()]
    };
    let keys = match op {
        Op::Join(join) => both(&join.on),
        Op::WindowJoin(join) => both(&join.on),
        Op::IntervalJoin(join) => both(&join.on),
        Op::TemporalJoin(join) => both(&join.on),
        Op::Aggregate(spec) => vec![spec.group.clone()],
        Op::WindowAggregate(spec) => vec![spec.group.clone()],
        Op::WindowTvf(window) => match &window.kind {
            WindowKind::Session { partition, .. } => vec![partition.clone()],
            // Rows pass through.
            _ => return None,
        },
        Op::Normalize { key, .. } | Op::Materialize { key, .. } => vec![key.clone()],
        Op::Rank(spec) => vec![spec.partition.clone()],
        Op::WindowRank(spec) => vec![spec.partition.clone()],
        Op::Deduplicate(spec) => vec![spec.key.clone()],
        Op::SetOp { .. } => vec![(0..width).collect(); 2],
        Op::Over(spec) => vec![spec.partition.clone()],
        Op::SortedOver(spec) => vec![spec.partition.clone()],
        _ => return None,
    };
    keys.iter().all(|columns: &Vec<usize>| !columns.is_empty()).then_some(keys)
}

/// Per node: whether it may collect what comes to it and hand on its results when the graph has nothing else to do.
/// Everything behind it must hear of a source through this node alone: otherwise rows that went another way would
/// come there earlier than without threads. And it must not ask for the watermark, which is then ahead of the rows.
pub(crate) fn may_defer(plan: &Plan) -> Vec<bool> {
    let count = plan.nodes.len();
    // The nodes that have no input, above each node.
    let mut roots: Vec<Vec<bool>> = Vec::with_capacity(count);
    for (id, node) in plan.nodes.iter().enumerate() {
        let mut own = vec![false; count];
        if let Some(own) = own.get_mut(id).filter(|_| node.inputs.is_empty()) {
            *own = true;
        }
        for above in node.inputs.iter().filter_map(|&input| roots.get(input)) {
            own.iter_mut().zip(above).for_each(|(own, above)| *own |= above);
        }
        roots.push(own);
    }
    let share_root = |one: usize, other: usize| {
        let (one, other) = (roots.get(one), roots.get(other));
        one.into_iter().flatten().zip(other.into_iter().flatten()).any(|(one, other)| *one && *other)
    };
    (0..count)
        .map(|id| {
            let mut behind = vec![false; count];
            plan.nodes.iter().enumerate().skip(id).all(|(at, node)| {
                let through = |&input: &usize| behind.get(input) == Some(&true);
                let is_behind = at == id || node.inputs.iter().any(through);
                let others = || node.inputs.iter().filter(|input| !through(input));
                let alone = at == id || !is_behind || others().all(|&input| !share_root(id, input));
                if let Some(behind) = behind.get_mut(at) {
                    *behind = is_behind;
                }
                alone && !(at == id && asks(&node.op))
            })
        })
        .collect()
}

fn asks(op: &Op) -> bool {
    let residual: Option<&Expr> = match op {
        Op::Join(join) => join.residual.as_ref(),
        Op::WindowJoin(join) => join.residual.as_ref(),
        Op::IntervalJoin(join) => join.residual.as_ref(),
        Op::TemporalJoin(join) => join.residual.as_ref(),
        _ => None,
    };
    residual.is_some_and(asks_watermark)
}
