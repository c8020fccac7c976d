//! The streaming engine: values, rows, expressions, operators. Plain synchronous code: rows in, rows out.
//!
//! A stream is the changelog of a table: rows with a [`row::RowKind`]. A [`graph::Graph`] is made from a
//! [`plan`] that the SQL planner writes, keeps its state behind [`crate::state`]'s trait, and is driven by
//! `runtime` (or, step by step, by tests).

pub mod codec;
pub mod context;
pub mod error;
pub mod eval;
pub mod expr;
pub mod format;
pub mod functions;
pub mod graph;
mod operators;
pub mod options;
pub mod plan;
pub mod print;
pub mod row;
pub mod tables;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
pub(crate) mod testing;
pub mod types;
pub mod zone;

pub use error::{EngineError, EvalError};
