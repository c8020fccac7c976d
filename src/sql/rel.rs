//! The logical plan: relations with typed columns, before operators are chosen.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::expr::Expr;
use crate::engine::plan::{
    AggregateCall, Frame, JoinKind, RankFunction, SortKey, Unnest, Window, WindowProperty,
};
use crate::engine::types::DataType;

use super::catalog::Table;

/// Whether a column is a time attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimeAttribute {
    /// A plain column.
    #[default]
    None,
    /// Event time: a watermark follows it.
    Rowtime,
    /// Processing time.
    Proctime,
}

/// What a column says about a row's window.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowRole {
    /// Start, end or time.
    pub property: WindowProperty,
    /// The window function it comes from.
    pub window: Arc<WindowInfo>,
}

impl WindowRole {
    /// Whether both say the same of equal windows, whatever column the time of each stands in.
    pub fn is_like(&self, other: &Self) -> bool {
        let (a, b) = (&self.window, &other.window);
        self.property == other.property
            && a.window.kind == b.window.kind
            && a.window.rowtime == b.window.rowtime
            && a.ltz == b.ltz
    }
}

/// A window function's properties that outlive its node.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowInfo {
    /// The assignment.
    pub window: Window,
    /// The time attribute was TIMESTAMP_LTZ.
    pub ltz: bool,
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq)]
pub struct Col {
    /// Name.
    pub name: String,
    /// Type.
    pub data_type: DataType,
    /// Time attribute.
    pub time: TimeAttribute,
    /// Window property.
    pub role: Option<WindowRole>,
}

impl Col {
    /// A plain column.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), data_type, time: TimeAttribute::None, role: None }
    }

    /// The column with its time attribute gone, as aggregates and regular joins give it on.
    #[must_use]
    pub fn materialized(mut self) -> Self {
        self.time = TimeAttribute::None;
        self
    }
}

/// A relation.
#[derive(Clone, Debug, PartialEq)]
pub struct Rel {
    /// What makes it.
    pub node: RelNode,
    /// Its columns.
    pub cols: Vec<Col>,
}

/// Kinds of relation.
#[derive(Clone, Debug, PartialEq)]
pub enum RelNode {
    /// Physical and metadata columns of a table, by their index in the table; options of hints on top.
    Scan(Arc<Table>, Vec<usize>, BTreeMap<String, String>),
    /// Constant rows.
    Values(Vec<Vec<Expr>>),
    /// Computed columns.
    Project(Box<Rel>, Vec<Expr>),
    /// Rows for which the predicate is TRUE.
    Filter(Box<Rel>, Expr),
    /// Event time.
    Watermark(Box<Rel>, usize, Expr),
    /// A join; condition over the columns of both.
    Join(Box<JoinRel>),
    /// GROUP BY.
    Aggregate(Box<AggregateRel>),
    /// A window function.
    WindowTvf(Box<Rel>, Window),
    /// OVER.
    Over(Box<OverRel>),
    /// Top-N.
    Rank(Box<RankRel>),
    /// UNION ALL.
    Union(Vec<Rel>),
    /// INTERSECT, EXCEPT.
    SetOp {
        /// INTERSECT.
        intersect: bool,
        /// ALL.
        all: bool,
        /// Left.
        left: Box<Rel>,
        /// Right.
        right: Box<Rel>,
    },
    /// ORDER BY, OFFSET, LIMIT.
    Sort {
        /// Input.
        input: Box<Rel>,
        /// Order.
        order: Vec<SortKey>,
        /// OFFSET.
        offset: u64,
        /// LIMIT.
        limit: Option<u64>,
    },
    /// Grouping sets.
    Expand(Box<Rel>, Vec<Vec<Expr>>),
    /// UNNEST: input columns, then elements'.
    Unnest(Box<Rel>, Unnest),
}

/// A join.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinRel {
    /// Left side.
    pub left: Rel,
    /// Right side.
    pub right: Rel,
    /// Kind.
    pub kind: JoinKind,
    /// Condition over left and right columns.
    pub condition: Option<Expr>,
    /// FOR SYSTEM_TIME AS OF this column of the left side.
    pub system_time: Option<usize>,
    /// Milliseconds that the rows of each side are kept for, where a hint `STATE_TTL` says so.
    pub ttl: [Option<i64>; 2],
    /// Where it stands in the text.
    pub span: super::error::Span,
}

/// GROUP BY.
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateRel {
    /// Input.
    pub input: Rel,
    /// Group columns.
    pub group: Vec<usize>,
    /// Calls.
    pub calls: Vec<AggregateCall>,
    /// A group window (`GROUP BY TUMBLE(…)`) and the properties it adds at the end.
    pub window: Option<(Window, Vec<WindowProperty>)>,
    /// Milliseconds that a group is kept for, where a hint `STATE_TTL` says so.
    pub ttl: Option<i64>,
}

/// OVER.
#[derive(Clone, Debug, PartialEq)]
pub struct OverRel {
    /// Input.
    pub input: Rel,
    /// PARTITION BY.
    pub partition: Vec<usize>,
    /// ORDER BY.
    pub order: Vec<SortKey>,
    /// Frame.
    pub frame: Frame,
    /// Calls; their output columns follow the input's.
    pub calls: Vec<AggregateCall>,
}

/// Top-N.
#[derive(Clone, Debug, PartialEq)]
pub struct RankRel {
    /// Input.
    pub input: Rel,
    /// Function.
    pub function: RankFunction,
    /// PARTITION BY.
    pub partition: Vec<usize>,
    /// ORDER BY.
    pub order: Vec<SortKey>,
    /// First rank.
    pub from: u64,
    /// Last rank.
    pub to: Option<u64>,
    /// The rank is the last column.
    pub emit_rank: bool,
}

impl Rel {
    /// A projection with these columns.
    pub fn project(self, exprs: Vec<Expr>, cols: Vec<Col>) -> Self {
        Self { node: RelNode::Project(Box::new(self), exprs), cols }
    }

    /// A filter.
    pub fn filter(self, predicate: Expr) -> Self {
        let cols = self.cols.clone();
        Self { node: RelNode::Filter(Box::new(self), predicate), cols }
    }

    /// A reference to a column.
    pub fn col(&self, index: usize) -> Expr {
        let data_type = self
            .cols
            .get(index)
            .map_or_else(|| DataType::new(crate::engine::types::TypeKind::Null), |col| col.data_type.clone());
        super::types::column(index, data_type)
    }

    /// Columns of a join's output.
    pub fn join_cols(left: &Rel, right: &Rel, kind: JoinKind) -> Vec<Col> {
        let pad = |cols: &[Col], pad: bool| {
            cols.iter()
                .cloned()
                .map(move |mut col| {
                    if pad {
                        col.data_type.nullable = true;
                    }
                    col
                })
                .collect::<Vec<_>>()
        };
        let mut cols = pad(&left.cols, matches!(kind, JoinKind::Right | JoinKind::Full));
        if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
            cols.extend(pad(&right.cols, matches!(kind, JoinKind::Left | JoinKind::Full)));
        }
        cols
    }
}
