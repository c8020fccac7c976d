//! Walks over expressions.

use super::{Expr, ExprKind, Over};

impl Expr {
    /// Calls `each` for the parts of the expression, in their order; not for subqueries.
    pub fn for_each_part<'e>(&'e self, each: &mut dyn FnMut(&'e Expr)) {
        match &self.kind {
            ExprKind::Unary(_, a)
            | ExprKind::Is(a, ..)
            | ExprKind::IsJson(a, ..)
            | ExprKind::Cast(a, ..)
            | ExprKind::Field(a, _)
            | ExprKind::InQuery(a, ..) => each(a),
            ExprKind::Binary(_, a, b) | ExprKind::IsDistinct(a, b, _) | ExprKind::Item(a, b) => {
                each(a);
                each(b);
            }
            ExprKind::Between { expr, low, high, .. } => [expr, low, high].into_iter().for_each(|e| each(e)),
            ExprKind::InList(a, list, _) => {
                each(a);
                list.iter().for_each(each);
            }
            ExprKind::Like { expr, pattern, escape, .. } => {
                each(expr);
                each(pattern);
                escape.iter().for_each(|e| each(e));
            }
            ExprKind::Case { operand, branches, otherwise } => {
                operand.iter().for_each(|e| each(e));
                for (condition, result) in branches {
                    each(condition);
                    each(result);
                }
                otherwise.iter().for_each(|e| each(e));
            }
            ExprKind::Call(call) => {
                call.args.iter().chain(&call.filter).for_each(&mut *each);
                if let Some(Over::Spec(spec)) = &call.over {
                    spec.partition.iter().for_each(&mut *each);
                    spec.order.iter().for_each(|o| each(&o.expr));
                }
            }
            ExprKind::Row(list) => list.iter().for_each(each),
            ExprKind::Overlaps(parts) => parts.iter().for_each(each),
            _ => {}
        }
    }

    /// How deep the tree is; not into subqueries.
    pub fn depth(&self) -> usize {
        let mut deepest = 0;
        // a loop, since the tree may be too deep for a recursion
        let mut open = vec![(self, 1)];
        while let Some((expr, depth)) = open.pop() {
            deepest = deepest.max(depth);
            expr.for_each_part(&mut |part| open.push((part, depth + 1)));
        }
        deepest
    }
}
