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
    expr.for_each_part(&mut |part| visit(part, each));
}

/// Whether an expression has a subquery in it.
pub(super) fn has_subquery(expr: &ast::Expr) -> bool {
    let mut found = false;
    visit(expr, &mut |e| {
        found |= matches!(e.kind, ExprKind::Subquery(_) | ExprKind::InQuery(..) | ExprKind::Exists(_));
    });
    found
}

/// Whether an expression has a call with OVER in it.
pub(super) fn has_over(expr: &ast::Expr) -> bool {
    let mut found = false;
    visit(expr, &mut |e| found |= matches!(&e.kind, ExprKind::Call(call) if call.over.is_some()));
    found
}
