//! Time bounds between two time attributes: what makes a join an interval join.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::row::Value;
use crate::engine::types::TypeKind;
use crate::sql::rel::{Col, TimeAttribute};

/// Bounds of `right time - left time`, in milliseconds, inclusive.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bounds {
    pub left: usize,
    pub right: usize,
    pub lower: i64,
    pub upper: i64,
    pub rowtime: bool,
}

/// Finds the bounds among the conjuncts; gives those that are left. Columns of the right side start at `width`.
pub(super) fn find(conjuncts: &[Expr], cols: &[Col], width: usize) -> Option<(Bounds, Vec<Expr>)> {
    let mut pair: Option<(usize, usize)> = None;
    let (mut lower, mut upper) = (None::<i64>, None::<i64>);
    let mut rest = Vec::new();
    for p in conjuncts {
        let Some((op, left, right, shift)) = bound(p, cols, width) else {
            rest.push(p.clone());
            continue;
        };
        if pair.is_some_and(|found| found != (left, right)) {
            rest.push(p.clone());
            continue;
        }
        pair = Some((left, right));
        // right - left op shift
        let (low, high) = match op {
            "=" => (Some(shift), Some(shift)),
            ">=" => (Some(shift), None),
            ">" => (Some(shift + 1), None),
            "<=" => (None, Some(shift)),
            _ => (None, Some(shift - 1)),
        };
        if let Some(low) = low {
            lower = Some(lower.map_or(low, |l| l.max(low)));
        }
        if let Some(high) = high {
            upper = Some(upper.map_or(high, |u| u.min(high)));
        }
    }
    let ((left, right), lower, upper) = (pair?, lower?, upper?);
    let rowtime = cols.get(left).is_some_and(|c| c.time == TimeAttribute::Rowtime);
    Some((Bounds { left, right: right - width, lower, upper, rowtime }, rest))
}

/// `x op y` with a left and a right time attribute, each plus a constant, as `right - left op shift`.
fn bound(p: &Expr, cols: &[Col], width: usize) -> Option<(&'static str, usize, usize, i64)> {
    let ExprNode::Call { function, args } = &p.node else { return None };
    let op = match *function {
        op @ ("=" | "<" | "<=" | ">" | ">=") => op,
        _ => return None,
    };
    let [a, b] = args.as_slice() else { return None };
    let ((x, dx), (y, dy)) = (time(a)?, time(b)?);
    let (tx, ty) = (cols.get(x)?.time, cols.get(y)?.time);
    if tx == TimeAttribute::None || tx != ty || (x < width) == (y < width) {
        return None;
    }
    if x >= width {
        // right + dx op left + dy
        Some((op, y, x, dy - dx))
    } else {
        // left + dx op right + dy: right + dy op' left + dx
        let turned = match op {
            "<" => ">",
            "<=" => ">=",
            ">" => "<",
            ">=" => "<=",
            other => other,
        };
        Some((turned, x, y, dx - dy))
    }
}

/// A column plus or minus constant intervals.
fn time(expr: &Expr) -> Option<(usize, i64)> {
    match &expr.node {
        ExprNode::Column(c) => Some((*c, 0)),
        ExprNode::Cast { input, .. }
            if matches!(
                (&input.data_type.kind, &expr.data_type.kind),
                (TypeKind::Timestamp(_), TypeKind::Timestamp(_))
                    | (TypeKind::TimestampLtz(_), TypeKind::TimestampLtz(_))
            ) =>
        {
            time(input)
        }
        ExprNode::Call { function: op @ ("+" | "-"), args } => {
            let [base, interval] = args.as_slice() else { return None };
            let (column, shift) = time(base)?;
            let ExprNode::Literal(Value::Interval(millis)) = &interval.node else { return None };
            if interval.data_type.kind != TypeKind::IntervalMillis {
                return None;
            }
            Some((column, if *op == "+" { shift + millis } else { shift - millis }))
        }
        _ => None,
    }
}
