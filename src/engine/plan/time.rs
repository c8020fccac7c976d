//! Operators that go by time: windows, intervals, versions.

use super::super::expr::Expr;
use super::{AggregateCall, JoinKind, RankFunction, SortKey};

/// A kind of window, sizes in milliseconds (or months where the type says so; never mixed).
#[derive(Clone, Debug, PartialEq)]
pub enum WindowKind {
    /// Fixed windows.
    Tumble {
        /// Length.
        size: i64,
        /// Shift of the grid.
        offset: i64,
    },
    /// Overlapping windows.
    Hop {
        /// Distance between starts.
        slide: i64,
        /// Length.
        size: i64,
        /// Shift of the grid.
        offset: i64,
    },
    /// Windows of one start that grow by steps.
    Cumulate {
        /// Growth.
        step: i64,
        /// Largest length.
        size: i64,
        /// Shift of the grid.
        offset: i64,
    },
    /// Windows that end after a gap without rows.
    Session {
        /// Gap.
        gap: i64,
        /// Columns by which sessions are kept apart.
        partition: Vec<usize>,
    },
}

/// Assigns windows by a time column.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Its kind.
    pub kind: WindowKind,
    /// The time attribute's column. TIMESTAMP_LTZ: windows align in the session time zone.
    pub time: usize,
    /// Event time; else processing time.
    pub rowtime: bool,
}

/// Where a row's window comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum WindowInput {
    /// From a time column.
    Assign(Window),
    /// Columns that hold it already: start, end (TIMESTAMP(3)).
    Attached {
        /// Start column.
        start: Option<usize>,
        /// End column.
        end: usize,
        /// Event time; else processing time.
        rowtime: bool,
        /// The time attribute was TIMESTAMP_LTZ: the bounds are wall clock in the session time zone.
        ltz: bool,
    },
}

/// A property of a window that its aggregate emits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowProperty {
    /// `window_start`.
    Start,
    /// `window_end`.
    End,
    /// `window_time` = end - 1 ms (TIMESTAMP or TIMESTAMP_LTZ as the time attribute).
    Time,
}

/// Aggregation per window. Late rows are dropped; updates of an open window retract.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowAggregate {
    /// Where the window comes from.
    pub window: WindowInput,
    /// Group columns (without the window's).
    pub group: Vec<usize>,
    /// Aggregates.
    pub calls: Vec<AggregateCall>,
    /// Window properties at the end of the output row.
    pub properties: Vec<WindowProperty>,
}

/// Join of two inputs that carry window columns.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowJoin {
    /// Its kind.
    pub kind: JoinKind,
    /// Equal columns (left, right), without the window's.
    pub on: Vec<(usize, usize)>,
    /// Further condition over left and right columns.
    pub residual: Option<Expr>,
    /// Window of the left input (always attached).
    pub left: WindowInput,
    /// Window of the right input (always attached).
    pub right: WindowInput,
}

/// Top-N within a window; insert-only.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowRank {
    /// The window (always attached).
    pub window: WindowInput,
    /// Rank function.
    pub function: RankFunction,
    /// PARTITION BY columns without the window's.
    pub partition: Vec<usize>,
    /// ORDER BY.
    pub order: Vec<SortKey>,
    /// First rank kept, from 1.
    pub from: u64,
    /// Last rank kept.
    pub to: u64,
    /// Whether the rank is a column of the output.
    pub emit_rank: bool,
    /// Deduplication by the time attribute, last row: of equal times the later arrival wins.
    pub last_wins: bool,
}

/// Join within an interval: `left_time + lower <= right_time <= left_time + upper`, milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct IntervalJoin {
    /// Inner, left, right or full.
    pub kind: JoinKind,
    /// Equal columns (left, right).
    pub on: Vec<(usize, usize)>,
    /// Further condition over left and right columns.
    pub residual: Option<Expr>,
    /// Time column of the left input.
    pub left_time: usize,
    /// Time column of the right input.
    pub right_time: usize,
    /// Lower bound of right_time - left_time.
    pub lower: i64,
    /// Upper bound of right_time - left_time.
    pub upper: i64,
    /// Event time; else processing time.
    pub rowtime: bool,
    /// Milliseconds that rows are kept beyond their time (`table.exec.interval-join.min-cleanup-interval`).
    pub pause: i64,
}

/// Event-time temporal join: the left row meets the right version valid at its time.
#[derive(Clone, Debug, PartialEq)]
pub struct TemporalJoin {
    /// Inner or left.
    pub kind: JoinKind,
    /// Equal columns (left, right); the right ones hold the versioned table's key.
    pub on: Vec<(usize, usize)>,
    /// Further condition over left and right columns.
    pub residual: Option<Expr>,
    /// Event-time column of the left input.
    pub left_time: usize,
    /// Event-time column of the right input (version's start).
    pub right_time: usize,
}

/// OVER windows over one partitioning and order.
#[derive(Clone, Debug, PartialEq)]
pub struct Over {
    /// PARTITION BY columns.
    pub partition: Vec<usize>,
    /// ORDER BY column, a time attribute, ascending.
    pub time: usize,
    /// Event time; else order of arrival.
    pub rowtime: bool,
    /// The frame.
    pub frame: Frame,
    /// Aggregates; also ROW_NUMBER, RANK, DENSE_RANK, LAG, LEAD, FIRST_VALUE, LAST_VALUE, NTILE.
    pub calls: Vec<AggregateCall>,
}

/// An OVER window from the first row on, ordered by a column that is no time attribute. Output is the input's columns,
/// then one per call, and changes as rows come and go before others.
#[derive(Clone, Debug, PartialEq)]
pub struct SortedOver {
    /// PARTITION BY columns.
    pub partition: Vec<usize>,
    /// ORDER BY column, ascending, NULL first.
    pub column: usize,
    /// Rows that are equal in the order share their results (RANGE); else they count one by one (ROWS).
    pub peers: bool,
    /// Aggregates; also ROW_NUMBER, RANK, DENSE_RANK.
    pub calls: Vec<AggregateCall>,
}

/// Frame of an OVER window; its end is always the current row (RANGE: with its peers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// RANGE, this many milliseconds back; `None`: unbounded.
    Range(Option<i64>),
    /// ROWS, this many rows back; `None`: unbounded.
    Rows(Option<u64>),
}
