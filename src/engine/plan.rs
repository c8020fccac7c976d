//! The plan of a job: what the SQL planner hands to the engine and the runtime.

use std::collections::BTreeMap;

use super::expr::Expr;
use super::types::Field;

/// Index of a node in [`Plan::nodes`].
pub type NodeId = usize;

/// A job: a graph of nodes, inputs before users.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The nodes in topological order.
    pub nodes: Vec<Node>,
    /// `SET` options in force.
    pub options: BTreeMap<String, String>,
    /// Warnings for the user (what a newer Flink would reject, unbounded state, …).
    pub warnings: Vec<String>,
}

/// A node of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it does.
    pub op: Op,
    /// Its inputs.
    pub inputs: Vec<NodeId>,
    /// Columns of its output (of a sink: of its table, physical and persisted metadata columns).
    pub schema: Vec<Field>,
    /// Row kinds its output holds.
    pub changelog: ChangelogMode,
    /// A name that is stable as long as the query is: state of the operator is kept under it.
    pub name: String,
}

/// Row kinds of an edge. Insert-only: `update_before`, `update_after` and `delete` are false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ChangelogMode {
    /// `-U` occurs.
    pub update_before: bool,
    /// `+U` occurs.
    pub update_after: bool,
    /// `-D` occurs.
    pub delete: bool,
}

/// Operators.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Reads a table; emits its physical and metadata columns.
    Source(TableRef),
    /// Keeps rows whose predicate is TRUE.
    Filter(Expr),
    /// Computes columns.
    Project(Vec<Expr>),
    /// Keeps the last row per key in state, gives what comes in a right changelog: `-U` before each `+U`, no
    /// unchanged updates, no deletes of unknown keys.
    Normalize {
        /// Key columns.
        key: Vec<usize>,
    },
    /// A regular join; both sides change, both are kept.
    Join(Join),
    /// GROUP BY.
    Aggregate(Aggregate),
    /// UNION ALL: inputs have the same schema.
    Union,
    /// Keeps the live rows per sink key and emits the last of them (Flink's SinkUpsertMaterializer).
    Materialize {
        /// Key columns.
        key: Vec<usize>,
    },
    /// Writes a table.
    Sink(TableRef),
}

/// A table as a connector needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct TableRef {
    /// Name in the catalog.
    pub name: String,
    /// WITH options.
    pub options: BTreeMap<String, String>,
    /// Columns that the connector reads or writes, in order; the node's schema has the same fields.
    pub columns: Vec<TableColumn>,
    /// Indexes (into `columns`) of the primary key.
    pub primary_key: Vec<usize>,
}

/// A column of a connector's table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableColumn {
    /// Name and declared type.
    pub field: Field,
    /// Metadata key, where it is a metadata column.
    pub metadata: Option<String>,
}

/// Which rows of a join survive without a partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// Only pairs.
    Inner,
    /// All of the left.
    Left,
    /// All of the right.
    Right,
    /// All of both.
    Full,
    /// Left rows with a partner; left columns only.
    Semi,
    /// Left rows without a partner; left columns only.
    Anti,
}

/// A regular join.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// Its kind.
    pub kind: JoinKind,
    /// Equal columns: (left index, right index). NULL never matches.
    pub on: Vec<(usize, usize)>,
    /// Further condition over left and right columns.
    pub residual: Option<Expr>,
    /// Unique keys of the inputs, where they have one (state then is keyed by it, not a counted multiset).
    pub left_key: Option<Vec<usize>>,
    /// See `left_key`.
    pub right_key: Option<Vec<usize>>,
}

/// GROUP BY: output is the group columns, then the aggregates.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// Group columns of the input; empty for a global aggregate.
    pub group: Vec<usize>,
    /// Aggregates.
    pub calls: Vec<AggregateCall>,
    /// Whether `-U` is to be emitted.
    pub emit_update_before: bool,
}

/// One aggregate function call.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateCall {
    /// Canonical upper-case name: COUNT, SUM, AVG, MIN, MAX, …
    pub function: &'static str,
    /// Argument columns of the input; empty for COUNT(*).
    pub args: Vec<usize>,
    /// DISTINCT.
    pub distinct: bool,
    /// FILTER (WHERE column): a boolean column of the input.
    pub filter: Option<usize>,
    /// Result.
    pub output: Field,
}
