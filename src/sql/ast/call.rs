//! Calls, their windows, and intervals.

use crate::engine::types::DataType;

use super::{Expr, Ident};

/// An interval literal.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// The text in quotes.
    pub text: String,
    /// A minus before the text.
    pub negative: bool,
    /// Leading unit, upper case.
    pub from: String,
    /// Precision of the leading unit.
    pub precision: Option<u32>,
    /// `TO` unit.
    pub to: Option<String>,
}

/// A function call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The function's name as written.
    pub name: Ident,
    /// Arguments.
    pub args: Vec<Expr>,
    /// `f(*)`.
    pub star: bool,
    /// `f(DISTINCT …)`.
    pub distinct: bool,
    /// `FILTER (WHERE …)`.
    pub filter: Option<Expr>,
    /// `OVER …`.
    pub over: Option<Over>,
    /// `RETURNING type` of JSON functions.
    pub returning: Option<DataType>,
}

/// `OVER name` or `OVER (…)`.
#[derive(Clone, Debug, PartialEq)]
pub enum Over {
    /// A window of the WINDOW clause.
    Named(Ident),
    /// An inline window.
    Spec(WindowSpec),
}

/// A window specification.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct WindowSpec {
    /// The named window that it starts from.
    pub base: Option<Ident>,
    /// PARTITION BY.
    pub partition: Vec<Expr>,
    /// ORDER BY.
    pub order: Vec<OrderItem>,
    /// The frame: ROWS (true) or RANGE, and the start bound.
    pub frame: Option<(bool, FrameStart)>,
}

/// Where a frame starts; frames end at the current row.
#[derive(Clone, Debug, PartialEq)]
pub enum FrameStart {
    /// UNBOUNDED PRECEDING.
    Unbounded,
    /// `n` rows or an interval back.
    Preceding(Box<Expr>),
    /// CURRENT ROW.
    Current,
}

/// An item of ORDER BY.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderItem {
    /// The expression.
    pub expr: Expr,
    /// DESC.
    pub descending: bool,
    /// NULLS FIRST / LAST.
    pub nulls_first: Option<bool>,
}
