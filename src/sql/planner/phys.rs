//! An operator with what the planner knows of its output, and what planning depends on.

use std::collections::BTreeMap;

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::options;
use crate::engine::plan::Op;
use crate::sql::connectors::SourceMode;
use crate::sql::error::{Span, SqlError, SqlResult};

use super::keys::{self, Key};

/// What planning depends on.
pub struct Context<'a> {
    /// SET options.
    pub options: &'a BTreeMap<String, String>,
}

impl Context<'_> {
    /// Whether what Flink rejects is rejected.
    pub fn strict(&self) -> bool {
        options::strict(self.options)
    }

    /// A boolean option.
    pub fn flag(&self, key: &str, default: bool) -> bool {
        options::flag(self.options, key, default)
    }
}

/// An operator of the physical plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Phys {
    /// What it does; modes of `-U` are settled at the end.
    pub op: Op,
    /// Inputs.
    pub inputs: Vec<Phys>,
    /// Output columns.
    pub cols: Vec<crate::sql::rel::Col>,
    /// Emits updates.
    pub update: bool,
    /// Emits deletes.
    pub delete: bool,
    /// Unique keys.
    pub unique: Vec<Key>,
    /// Flink's upsert keys.
    pub upsert: Vec<Key>,
    /// How the source's changes come.
    pub source: Option<SourceMode>,
}

impl Phys {
    /// An operator whose output is as its input's: same columns, kinds and keys.
    pub(super) fn over(op: Op, input: Phys) -> Self {
        Self {
            op,
            cols: input.cols.clone(),
            update: input.update,
            delete: input.delete,
            unique: input.unique.clone(),
            upsert: input.upsert.clone(),
            inputs: vec![input],
            source: None,
        }
    }

    /// An insert-only operator without keys.
    pub(super) fn append(op: Op, inputs: Vec<Phys>, cols: Vec<crate::sql::rel::Col>) -> Self {
        Self {
            op,
            inputs,
            cols,
            update: false,
            delete: false,
            unique: Vec::new(),
            upsert: Vec::new(),
            source: None,
        }
    }

    /// Whether only inserts come.
    pub fn is_append(&self) -> bool {
        !self.update && !self.delete
    }

    /// The first operator below that makes updates or deletes, in words.
    pub(super) fn producer(&self) -> String {
        if let Some(below) = self.inputs.iter().find(|i| !i.is_append())
            && matches!(
                self.op,
                Op::Filter(_)
                    | Op::Project(_)
                    | Op::WatermarkAssigner { .. }
                    | Op::Union
                    | Op::WindowTvf(_)
                    | Op::LookupJoin(_)
                    | Op::Unnest(_)
            )
        {
            return below.producer();
        }
        crate::sql::explain::describe(
            &self.op,
            &self.cols,
            &self.inputs.iter().map(|i| i.cols.clone()).collect::<Vec<_>>(),
        )
    }

    /// Refuses updates: the operator takes inserts only.
    pub(super) fn require_append(&self, operator: &str, span: Span) -> SqlResult<()> {
        if self.is_append() {
            return Ok(());
        }
        Err(SqlError::plan(
            span,
            format!(
                "{operator} doesn't support consuming update and delete changes which is produced by node {}",
                self.producer()
            ),
        )
        .help("this operator works on append-only input; a regular join or GROUP BY takes updates"))
    }

    /// A projection on top; keys follow plain columns.
    pub(super) fn project(mut self, mut exprs: Vec<Expr>, cols: Vec<crate::sql::rel::Col>) -> Self {
        // columns only picked by the projection below are picked here
        if let Op::Project(below) = &self.op
            && below.iter().all(|e| matches!(e.node, ExprNode::Column(_)))
            && let Some(input) = self.inputs.pop()
        {
            exprs = exprs
                .iter()
                .map(|e| {
                    crate::sql::types::rewrite(e, &|c, data_type| {
                        below
                            .get(c)
                            .cloned()
                            .unwrap_or_else(|| crate::sql::types::column(c, data_type.clone()))
                    })
                })
                .collect();
            return input.project(exprs, cols);
        }
        let place = |column: usize| {
            exprs.iter().position(|e| {
                let mut e = e;
                // a CAST that only changes nullability or keeps the type keeps the key
                while let ExprNode::Cast { input, .. } = &e.node {
                    if input.data_type.kind != e.data_type.kind {
                        return false;
                    }
                    e = input;
                }
                matches!(e.node, ExprNode::Column(c) if c == column)
            })
        };
        Self {
            unique: keys::project(&self.unique, &place),
            upsert: keys::project(&self.upsert, &place),
            update: self.update,
            delete: self.delete,
            op: Op::Project(exprs),
            cols,
            inputs: vec![self],
            source: None,
        }
    }
}
