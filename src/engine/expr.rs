//! Typed expressions, as the binder writes them. All types are resolved and all casts explicit.

use super::row::Value;
use super::types::DataType;

/// An expression over one input row (of a join: the left columns, then the right ones).
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What it does.
    pub node: ExprNode,
    /// The type of its result.
    pub data_type: DataType,
}

/// The kinds of expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprNode {
    /// A column of the input by index.
    Column(usize),
    /// A constant.
    Literal(Value),
    /// CAST; the target type is the expression's type.
    Cast {
        /// What is cast.
        input: Box<Expr>,
        /// TRY_CAST: NULL instead of a failure.
        lenient: bool,
    },
    /// CASE WHEN … THEN … ELSE … END (a simple CASE is rewritten to comparisons).
    Case {
        /// Conditions and results.
        branches: Vec<(Expr, Expr)>,
        /// ELSE; a NULL literal where there is none.
        otherwise: Box<Expr>,
    },
    /// A scalar function or operator, by its canonical upper-case name in [`crate::engine`]'s function table:
    /// `+ - * / % = <> < <= > >= AND OR NOT IS NULL`, `UPPER`, `SUBSTRING`, … The binder has resolved the
    /// result type and cast the arguments to what the function takes.
    Call {
        /// Canonical name.
        function: &'static str,
        /// Arguments.
        args: Vec<Expr>,
    },
    /// ROW field access by index.
    Field {
        /// The row.
        input: Box<Expr>,
        /// Field index.
        index: usize,
    },
}

impl Expr {
    /// Whether a function is called anywhere in the expression.
    pub fn calls(&self, name: &str) -> bool {
        match &self.node {
            ExprNode::Column(_) | ExprNode::Literal(_) => false,
            ExprNode::Cast { input, .. } | ExprNode::Field { input, .. } => input.calls(name),
            ExprNode::Case { branches, otherwise } => {
                otherwise.calls(name)
                    || branches.iter().any(|(when, then)| when.calls(name) || then.calls(name))
            }
            ExprNode::Call { function, args } => *function == name || args.iter().any(|arg| arg.calls(name)),
        }
    }
}
