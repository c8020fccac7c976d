//! The plan of a job: what the SQL planner hands to the engine and the runtime.

use std::collections::BTreeMap;

use super::expr::Expr;
use super::types::Field;

mod time;

pub use time::{
    Frame, IntervalJoin, Over, SortedOver, TemporalJoin, Window, WindowAggregate, WindowInput, WindowJoin,
    WindowKind, WindowProperty, WindowRank,
};

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
    /// Keeps the last row per key in state and makes a right changelog of what comes.
    Normalize {
        /// Key columns.
        key: Vec<usize>,
        /// What it makes of the input.
        mode: NormalizeMode,
    },
    /// Takes `-U` away: nobody behind needs it.
    DropUpdateBefore,
    /// Takes the watermark from a column's values: emits rows unchanged, then the watermark where it advanced.
    /// A NULL in the column is an error ("RowTime field should not be null").
    WatermarkAssigner {
        /// The event-time column (TIMESTAMP or TIMESTAMP_LTZ).
        rowtime: usize,
        /// The watermark, over the same row; NULL is ignored.
        watermark: Expr,
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
        /// What two live rows of one key mean.
        conflict: OnConflict,
        /// The input's upsert key, if it has one: a retraction takes back the row with this key, whatever its other
        /// columns say now.
        input_key: Option<Vec<usize>>,
    },
    /// Guards a sink's NOT NULL columns (`table.exec.sink.not-null-enforcer`).
    NotNull {
        /// Columns that may not be NULL; names stand in the schema.
        columns: Vec<usize>,
        /// Drop such rows instead of failing.
        drop: bool,
    },
    /// Constant rows, emitted once, at the start.
    Values(Vec<Vec<Expr>>),
    /// Appends `window_start`, `window_end` (TIMESTAMP(3)) and `window_time` to each row; in more windows, more rows.
    WindowTvf(Window),
    /// GROUP BY a window: output is the group columns, the aggregates, then the window's `properties`.
    WindowAggregate(WindowAggregate),
    /// Join of rows of the same window, emitted when the window closes.
    WindowJoin(WindowJoin),
    /// Top-N or deduplication within a window, emitted when the window closes.
    WindowRank(WindowRank),
    /// Join of two append-only streams within a time interval.
    IntervalJoin(IntervalJoin),
    /// Join with the version of the right table that was valid at the left row's event time.
    TemporalJoin(TemporalJoin),
    /// Join with a table of an outside database at processing time.
    LookupJoin(LookupJoin),
    /// ROW_NUMBER / RANK / DENSE_RANK with a limit on the rank; also ORDER BY … LIMIT.
    Rank(Rank),
    /// The first or last row per key by a time attribute (append-only input).
    Deduplicate(Deduplicate),
    /// Sorts by event time: rows are held until the watermark passes them.
    TemporalSort {
        /// The event-time column, ascending.
        rowtime: usize,
        /// Further columns.
        then: Vec<SortKey>,
    },
    /// OVER windows; output is the input's columns, then one per call.
    Over(Over),
    /// OVER windows by a column that is no time; output is the input's columns, then one per call.
    SortedOver(SortedOver),
    /// One output row per projection for each input row (grouping sets).
    Expand(Vec<Vec<Expr>>),
    /// UNNEST: the input's columns, then those of each element.
    Unnest(Unnest),
    /// INTERSECT / EXCEPT of two inputs with the same schema; NULLs are equal.
    SetOp {
        /// INTERSECT, or EXCEPT.
        intersect: bool,
        /// ALL: by multiplicity.
        all: bool,
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

impl TableRef {
    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// Whether an option is `true`.
    pub fn flag(&self, name: &str, default: bool) -> bool {
        super::options::flag(&self.options, name, default)
    }

    /// Whether the columns of the key are not among those of the value: `value.fields-include`.
    pub fn except_key(&self) -> bool {
        self.option("value.fields-include").is_some_and(|fields| fields.eq_ignore_ascii_case("EXCEPT_KEY"))
    }

    /// The table with those options only that decide what its rows are: another broker, password or start-up mode
    /// makes no other table, and state that was computed from it still fits.
    #[must_use]
    pub fn identity(&self) -> Self {
        let connector = self.option("connector").unwrap_or_default();
        Self {
            options: self
                .options
                .iter()
                .filter(|(name, _)| super::tables::says_rows(connector, name))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            ..self.clone()
        }
    }
}

impl Op {
    /// The operator with its tables' [`TableRef::identity`].
    #[must_use]
    pub fn identity(&self) -> Self {
        match self {
            Self::Source(table) => Self::Source(table.identity()),
            Self::Sink(table) => Self::Sink(table.identity()),
            Self::LookupJoin(join) => {
                Self::LookupJoin(LookupJoin { table: join.table.identity(), ..join.clone() })
            }
            // Whether state expires decides its form; when it does may change.
            Self::Join(join) => {
                Self::Join(Join { ttl: join.ttl.map(|ttl| ttl.map(i64::signum)), ..join.clone() })
            }
            Self::Aggregate(aggregate) => {
                Self::Aggregate(Aggregate { ttl: aggregate.ttl.map(i64::signum), ..aggregate.clone() })
            }
            other => other.clone(),
        }
    }

    /// Whether what it gives depends on rows it saw before: it holds state, or (a source) a position.
    pub fn is_stateful(&self) -> bool {
        !matches!(
            self,
            Self::Filter(_)
                | Self::Project(_)
                | Self::DropUpdateBefore
                | Self::Union
                | Self::NotNull { .. }
                | Self::LookupJoin(_)
                | Self::Expand(_)
                | Self::Unnest(_)
                | Self::Sink(_)
        )
    }
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
    /// Equal columns: (left index, right index). NULL never matches but where `null_safe` says so.
    pub on: Vec<(usize, usize)>,
    /// Per pair of `on` whether it is IS NOT DISTINCT FROM: NULL matches NULL. What is missing is `false`.
    pub null_safe: Vec<bool>,
    /// Further condition over left and right columns.
    pub residual: Option<Expr>,
    /// Unique keys of the inputs, where they have one (state then is keyed by it, not a counted multiset).
    pub left_key: Option<Vec<usize>>,
    /// See `left_key`.
    pub right_key: Option<Vec<usize>>,
    /// Milliseconds that the rows of each side are kept for after they were last written, in place of
    /// `table.exec.state.ttl`; 0: for ever.
    pub ttl: [Option<i64>; 2],
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
    /// Milliseconds that a group is kept for after it was last written, in place of `table.exec.state.ttl`; 0: for
    /// ever.
    pub ttl: Option<i64>,
}

/// One aggregate function call.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateCall {
    /// Canonical upper-case name: COUNT, SUM, AVG, MIN, MAX, STDDEV_POP, STDDEV_SAMP, VAR_POP, VAR_SAMP, LISTAGG
    /// (value, separator), FIRST_VALUE, LAST_VALUE, COLLECT, ARRAY_AGG, JSON_OBJECTAGG, JSON_ARRAYAGG, PERCENTILE
    /// (a DOUBLE, DOUBLE or ARRAY<DOUBLE>, frequency as BIGINT), SINGLE_VALUE (fails on a second row), in OVER also ROW_NUMBER, RANK, DENSE_RANK, LAG and LEAD (value, offset, default), …
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

/// What [`Op::Normalize`] does.
#[derive(Clone, Debug, PartialEq)]
pub enum NormalizeMode {
    /// Upserts (`+U` or `+I`, `-D`, no `-U`) become `+I`, `-U`/`+U`, `-D`; unchanged updates and deletes of unknown
    /// keys vanish (Flink's ChangelogNormalize).
    Upsert,
    /// A full changelog whose old rows may be missing or wrong (the default replica identity): where a `-U` or `-D`
    /// is missing, or differs from the row held in state in any of the `compare` columns, the row in state is
    /// retracted instead. All else passes as it is, duplicates and unchanged updates included; for a key that is
    /// not in state the input's own `-U`/`-D` passes.
    Complete {
        /// Columns that count in the comparison (the physical ones; metadata of `-U` is the new envelope's).
        compare: Vec<usize>,
    },
}

/// `ON CONFLICT DO …` of an INSERT, and the default of the sink materialiser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// The latest live row per key counts.
    Deduplicate,
    /// The first live row per key counts.
    Nothing,
    /// A second live, different row fails the job: "Primary key constraint violation …".
    Error,
}

/// One ORDER BY item. NULL is smallest: first ascending, last descending, unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// Column.
    pub column: usize,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST.
    pub nulls_first: bool,
}

/// Which rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankFunction {
    /// ROW_NUMBER.
    RowNumber,
    /// RANK.
    Rank,
    /// DENSE_RANK.
    DenseRank,
}

/// Top-N. Output is the input's columns, then the rank (BIGINT) if `emit_rank`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rank {
    /// Rank function.
    pub function: RankFunction,
    /// PARTITION BY columns.
    pub partition: Vec<usize>,
    /// ORDER BY.
    pub order: Vec<SortKey>,
    /// First rank kept, from 1.
    pub from: u64,
    /// Last rank kept; `None` without limit.
    pub to: Option<u64>,
    /// Whether the rank is a column of the output.
    pub emit_rank: bool,
    /// Whether `-U` is to be emitted.
    pub emit_update_before: bool,
    /// Unique key of the input, if it has one.
    pub input_key: Option<Vec<usize>>,
}

/// Join with an outside table; one input. Output is the input's columns, then the table's.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupJoin {
    /// Inner or left.
    pub kind: JoinKind,
    /// The table; `columns` are those of the output's right part.
    pub table: TableRef,
    /// (column of `table.columns`, value over the input row): all must be equal; NULL matches nothing.
    pub keys: Vec<(usize, Expr)>,
    /// Further condition over input and table columns.
    pub residual: Option<Expr>,
}

/// Deduplication on an append-only input.
#[derive(Clone, Debug, PartialEq)]
pub struct Deduplicate {
    /// Key columns; NULL is a key.
    pub key: Vec<usize>,
    /// Time column.
    pub time: usize,
    /// Event time; else order of arrival.
    pub rowtime: bool,
    /// Keep the last row (replaces on >=, emits updates); else the first (insert-only, by event time held until
    /// the watermark passes it).
    pub last: bool,
    /// Whether `-U` is to be emitted.
    pub emit_update_before: bool,
}

/// UNNEST of an array, map or multiset.
#[derive(Clone, Debug, PartialEq)]
pub struct Unnest {
    /// The collection, over the input row. An array of rows gives its fields as columns, a map key and value.
    pub collection: Expr,
    /// LEFT JOIN: rows without elements that meet the condition stay, padded with NULL.
    pub outer: bool,
    /// WITH ORDINALITY: position from 1 (INT) as the last column.
    pub ordinality: bool,
    /// ON, over the input row and the element's columns.
    pub condition: Option<Expr>,
}
