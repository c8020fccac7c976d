//! Walks over syntax trees.

use crate::sql::ast::{self, ExprKind};
use crate::sql::functions::aggregates;

/// Whether an expression holds an aggregate call of this query.
pub(super) fn has_aggregate(expr: &ast::Expr) -> bool {
    let mut found = false;
    visit(expr, &mut |e| {
        if let ExprKind::Call(call) = &e.kind
            && call.over.is_none()
            && aggregates::canonical(&call.name.value).is_some()
        {
            found = true;
        }
    });
    found
}

/// Calls `each` for the expression and its parts; not inside subqueries.
pub(super) fn visit<'e>(expr: &'e ast::Expr, each: &mut dyn FnMut(&'e ast::Expr)) {
    each(expr);
    let mut all = |list: &[&'e ast::Expr]| list.iter().for_each(|e| visit(e, each));
    match &expr.kind {
        ExprKind::Unary(_, a)
        | ExprKind::Is(a, ..)
        | ExprKind::IsJson(a, ..)
        | ExprKind::Cast(a, ..)
        | ExprKind::Field(a, _) => {
            all(&[a]);
        }
        ExprKind::Binary(_, a, b) | ExprKind::IsDistinct(a, b, _) | ExprKind::Item(a, b) => all(&[a, b]),
        ExprKind::Between { expr, low, high, .. } => all(&[expr, low, high]),
        ExprKind::InList(a, list, _) => {
            all(&[a]);
            list.iter().for_each(|e| visit(e, each));
        }
        ExprKind::InQuery(a, ..) => all(&[a]),
        ExprKind::Like { expr, pattern, escape, .. } => {
            all(&[expr, pattern]);
            escape.iter().for_each(|e| visit(e, each));
        }
        ExprKind::Case { operand, branches, otherwise } => {
            operand.iter().for_each(|e| visit(e, each));
            for (condition, result) in branches {
                visit(condition, each);
                visit(result, each);
            }
            otherwise.iter().for_each(|e| visit(e, each));
        }
        ExprKind::Call(call) => {
            call.args.iter().for_each(|e| visit(e, each));
            call.filter.iter().for_each(|e| visit(e, each));
            if let Some(ast::Over::Spec(spec)) = &call.over {
                spec.partition.iter().for_each(|e| visit(e, each));
                spec.order.iter().for_each(|o| visit(&o.expr, each));
            }
        }
        ExprKind::Row(list) => list.iter().for_each(|e| visit(e, each)),
        ExprKind::Overlaps(parts) => parts.iter().for_each(|e| visit(e, each)),
        _ => {}
    }
}
