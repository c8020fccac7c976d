//! Row numbers with a limit become Top-N.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::RankFunction;
use crate::engine::row::Value;
use crate::sql::rel::{Col, OverRel, RankRel, Rel, RelNode, TimeAttribute};

/// What an OVER and the predicates on it were.
type Refused = Box<(OverRel, Vec<Expr>)>;

/// Makes a Top-N of an OVER with one ranking call and a limit on it; gives the predicates that are left.
///
/// # Errors
/// What it was given, when it is no Top-N.
pub(super) fn from_over(
    over: OverRel,
    predicates: Vec<Expr>,
    cols: Vec<Col>,
) -> Result<(Rel, Vec<Expr>), Refused> {
    let function = match over.calls.as_slice() {
        [call] => match call.function {
            "ROW_NUMBER" => RankFunction::RowNumber,
            "RANK" => RankFunction::Rank,
            "DENSE_RANK" => RankFunction::DenseRank,
            _ => return Err(Box::new((over, predicates))),
        },
        _ => return Err(Box::new((over, predicates))),
    };
    let rank = over.input.cols.len();
    let (mut from, mut to) = (1_i64, None::<i64>);
    let mut left = Vec::new();
    for p in &predicates {
        match bound(p, rank) {
            Some(("=", n)) => {
                from = from.max(n);
                to = Some(to.map_or(n, |t| t.min(n)));
            }
            Some(("<=", n)) => to = Some(to.map_or(n, |t| t.min(n))),
            Some(("<", n)) => to = Some(to.map_or(n - 1, |t| t.min(n - 1))),
            Some((">=", n)) => from = from.max(n),
            Some((">", n)) => from = from.max(n + 1),
            _ => left.push(p.clone()),
        }
    }
    let Some(to) = to else { return Err(Box::new((over, predicates))) };
    if to < from {
        // no row has such a number
        let never = crate::sql::types::literal(Value::Bool(false), crate::engine::types::TypeKind::Boolean);
        left.push(never);
    }
    let node = RelNode::Rank(Box::new(RankRel {
        input: over.input,
        function,
        partition: over.partition,
        order: over.order,
        from: u64::try_from(from).unwrap_or(1),
        to: Some(u64::try_from(to).unwrap_or(1).max(1)),
        emit_rank: true,
    }));
    Ok((Rel { node, cols }, left))
}

/// ROW_NUMBER by an order that is no order of time, with no constant limit on the number: every row has its rank.
///
/// # Errors
/// What it was given, when it is something else.
pub(super) fn unlimited(over: OverRel, predicates: &[Expr]) -> Result<RelNode, Box<OverRel>> {
    let rank = over.input.cols.len();
    let plain_order = over
        .order
        .first()
        .and_then(|key| over.input.cols.get(key.column))
        .is_some_and(|col| col.time == TimeAttribute::None);
    let numbering = matches!(over.calls.as_slice(), [call] if call.function == "ROW_NUMBER");
    let asked = predicates.iter().any(|p| bound(p, rank).is_some());
    if !numbering || !plain_order || asked {
        return Err(Box::new(over));
    }
    Ok(RelNode::Rank(Box::new(RankRel {
        input: over.input,
        function: RankFunction::RowNumber,
        partition: over.partition,
        order: over.order,
        from: 1,
        to: None,
        emit_rank: true,
    })))
}

/// `rank op constant`, either way round.
fn bound(predicate: &Expr, rank: usize) -> Option<(&'static str, i64)> {
    let ExprNode::Call { function, args } = &predicate.node else { return None };
    let [a, b] = args.as_slice() else { return None };
    let is_rank = |e: &Expr| {
        let mut e = e;
        while let ExprNode::Cast { input, .. } = &e.node {
            e = input;
        }
        matches!(e.node, ExprNode::Column(c) if c == rank)
    };
    let constant = |e: &Expr| {
        let mut e = e;
        while let ExprNode::Cast { input, .. } = &e.node {
            e = input;
        }
        match &e.node {
            ExprNode::Literal(Value::Int(n)) => Some(*n),
            _ => None,
        }
    };
    let op = match *function {
        op @ ("=" | "<" | "<=" | ">" | ">=") => op,
        _ => return None,
    };
    if is_rank(a) {
        return Some((op, constant(b)?));
    }
    if is_rank(b) {
        let turned = match op {
            "<" => ">",
            "<=" => ">=",
            ">" => "<",
            ">=" => "<=",
            other => other,
        };
        return Some((turned, constant(a)?));
    }
    None
}
