//! Which conditions are never TRUE for the NULLs of an outer join: they make it an inner one.
//!
//! The functions and forms are those for which Flink's planner does the same (Calcite's `Strong`), no more: whether
//! a join is an outer one shows in the kinds of the rows that it sends. So IN over several constants, and several
//! comparisons of one column with constants that make a range, leave the join as it is.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::JoinKind;
use crate::engine::row::Value;

/// The kind of a join under these conditions of WHERE; `width` columns are of the left side.
pub(super) fn simplified(kind: JoinKind, conditions: &[Expr], width: usize) -> JoinKind {
    let parts: Vec<&Expr> = conditions.iter().collect();
    let left = || Padded(&|c| c < width).refused_by_all_of(&parts);
    let right = || Padded(&|c| c >= width).refused_by_all_of(&parts);
    match kind {
        JoinKind::Left if right() => JoinKind::Inner,
        JoinKind::Right if left() => JoinKind::Inner,
        JoinKind::Full => match (left(), right()) {
            (true, true) => JoinKind::Inner,
            (true, false) => JoinKind::Left,
            (false, true) => JoinKind::Right,
            (false, false) => JoinKind::Full,
        },
        other => other,
    }
}

/// How a column is compared with constants.
#[derive(Clone, Copy, PartialEq)]
enum Range {
    Point,
    Above,
    Below,
    Unequal,
    Many,
}

/// Says of a column whether it is one of those that are all NULL.
struct Padded<'a>(&'a dyn Fn(usize) -> bool);

impl Padded<'_> {
    /// Whether the conjunction of these is never TRUE.
    fn refused_by_all_of(&self, parts: &[&Expr]) -> bool {
        let mut flat = Vec::new();
        parts.iter().for_each(|part| operands(part, "AND", &mut flat));
        let ranges: Vec<Option<(usize, Range)>> = flat.iter().map(|part| range(part)).collect();
        // comparisons of one column are one condition: a point, or a bound, or what says nothing here
        let plain = |column: usize| {
            let of_column: Vec<Range> =
                ranges.iter().flatten().filter(|(c, _)| *c == column).map(|(_, r)| *r).collect();
            of_column.contains(&Range::Point)
                || of_column.iter().all(|r| *r == Range::Above)
                || of_column.iter().all(|r| *r == Range::Below)
                || of_column == [Range::Unequal]
        };
        flat.iter().zip(&ranges).any(|(part, range)| {
            let column = range.map(|(c, _)| c).or_else(|| known(part));
            column.is_none_or(plain) && self.not_true(part)
        })
    }

    /// Whether it is never TRUE.
    fn not_true(&self, expr: &Expr) -> bool {
        match &expr.node {
            ExprNode::Literal(value) => matches!(value, Value::Null | Value::Bool(false)),
            ExprNode::Case { branches, otherwise } => {
                branches.iter().all(|(when, then)| self.not_true(when) || self.not_true(then))
                    && self.not_true(otherwise)
            }
            ExprNode::Call { function, args } => match (*function, args.as_slice()) {
                ("AND", _) => self.refused_by_all_of(&[expr]),
                ("OR", _) => {
                    let mut flat = Vec::new();
                    operands(expr, "OR", &mut flat);
                    flat.iter().all(|part| !repeated(part, &flat) && self.not_true(part))
                }
                ("NOT", [inner]) => self.not_false(inner),
                ("IS NOT NULL" | "IS NOT UNKNOWN", [inner]) => self.null(inner),
                ("IS TRUE", [inner]) => self.not_true(inner),
                ("IS FALSE", [inner]) => self.not_false(inner),
                ("IS NOT DISTINCT FROM", [a, b]) => {
                    (is_known(a) && self.null(b)) || (is_known(b) && self.null(a))
                }
                ("IN", [value, list @ ..]) => {
                    list.iter().filter(|item| is_literal(item)).count() < 2
                        && (self.null(value) || list.iter().all(|item| self.null(item)))
                }
                _ => self.null(expr),
            },
            _ => self.null(expr),
        }
    }

    /// Whether it is never FALSE: its NOT is never TRUE.
    fn not_false(&self, expr: &Expr) -> bool {
        let ExprNode::Call { function, args } = &expr.node else { return self.null(expr) };
        match (*function, args.as_slice()) {
            // NOT over AND is OR over NOT, and the other way round
            ("AND", _) => {
                let mut flat = Vec::new();
                operands(expr, "AND", &mut flat);
                flat.iter().all(|part| !repeated(part, &flat) && self.not_false(part))
            }
            ("OR", _) => {
                let mut flat = Vec::new();
                operands(expr, "OR", &mut flat);
                flat.iter().any(|part| !repeated(part, &flat) && self.not_false(part))
            }
            ("NOT", [inner]) => self.not_true(inner),
            ("IS NULL" | "IS UNKNOWN", [inner]) => self.null(inner),
            ("IN", [value, list @ ..]) => {
                list.iter().filter(|item| is_literal(item)).count() < 2 && self.null(value)
            }
            _ => self.null(expr),
        }
    }

    /// Whether it is always NULL.
    fn null(&self, expr: &Expr) -> bool {
        match &expr.node {
            ExprNode::Column(column) => (self.0)(*column),
            ExprNode::Literal(value) => matches!(value, Value::Null),
            ExprNode::Cast { input, lenient } => !lenient && self.null(input),
            ExprNode::Case { branches, otherwise } => {
                branches.iter().all(|(when, then)| self.not_true(when) || self.null(then))
                    && self.null(otherwise)
            }
            ExprNode::Field { .. } => false,
            ExprNode::Call { function, args } => {
                let strict = matches!(
                    *function,
                    "=" | "<>"
                        | "<"
                        | "<="
                        | ">"
                        | ">="
                        | "+"
                        | "-"
                        | "*"
                        | "/"
                        | "NEGATE"
                        | "NOT"
                        | "LIKE"
                        | "SIMILAR"
                        | "TRIM"
                        | "CEIL"
                        | "FLOOR"
                        | "EXTRACT"
                        | "TIMESTAMPADD"
                        | "TIMESTAMPDIFF"
                );
                strict && args.iter().any(|arg| self.null(arg))
            }
        }
    }
}

/// The operands of a chain of AND or OR.
fn operands<'e>(expr: &'e Expr, operator: &str, out: &mut Vec<&'e Expr>) {
    match &expr.node {
        ExprNode::Call { function, args } if *function == operator => {
            args.iter().for_each(|arg| operands(arg, operator, out));
        }
        _ => out.push(expr),
    }
}

fn is_literal(expr: &Expr) -> bool {
    match &expr.node {
        ExprNode::Literal(_) => true,
        ExprNode::Cast { input, .. } => is_literal(input),
        _ => false,
    }
}

fn is_known(expr: &Expr) -> bool {
    matches!(&expr.node, ExprNode::Literal(value) if !matches!(value, Value::Null))
}

/// The column of a comparison with constants.
fn range(expr: &Expr) -> Option<(usize, Range)> {
    let ExprNode::Call { function, args } = &expr.node else { return None };
    let (first, rest) = args.split_first()?;
    let (column, reversed) = match (&first.node, rest) {
        (ExprNode::Column(column), rest) if !rest.is_empty() && rest.iter().all(is_literal) => {
            (*column, false)
        }
        (_, [Expr { node: ExprNode::Column(column), .. }]) if is_literal(first) => (*column, true),
        _ => return None,
    };
    let range = match (*function, reversed) {
        ("=", _) => Range::Point,
        (">" | ">=", false) | ("<" | "<=", true) => Range::Above,
        ("<" | "<=", false) | (">" | ">=", true) => Range::Below,
        ("IN", false) if rest.len() == 1 => Range::Point,
        ("IN", false) => Range::Many,
        ("<>", _) => Range::Unequal,
        _ => return None,
    };
    Some((column, range))
}

/// The column that is said to be not NULL.
fn known(expr: &Expr) -> Option<usize> {
    let ExprNode::Call { function, args } = &expr.node else { return None };
    match (*function, args.as_slice()) {
        ("IS NOT NULL", [Expr { node: ExprNode::Column(column), .. }]) => Some(*column),
        ("NOT", [Expr { node: ExprNode::Call { function: "IS NULL", args }, .. }]) => match args.as_slice() {
            [Expr { node: ExprNode::Column(column), .. }] => Some(*column),
            _ => None,
        },
        _ => None,
    }
}

/// Whether another of the parts compares the same column with constants.
fn repeated(part: &Expr, parts: &[&Expr]) -> bool {
    range(part).is_some_and(|(column, _)| {
        parts.iter().filter(|other| range(other).is_some_and(|(c, _)| c == column)).count() > 1
    })
}
