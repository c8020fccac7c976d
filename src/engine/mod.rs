//! The streaming engine: values, rows, expressions, operators. Plain synchronous code: rows in, rows out.
//!
//! A stream is the changelog of a table: rows with a [`row::RowKind`]. Operators are made from a
//! [`plan`] that the SQL planner writes, keep their state behind [`crate::state`]'s trait, and are driven
//! by `runtime` (or, step by step, by tests).

pub mod expr;
pub mod format;
pub mod plan;
pub mod row;
pub mod types;
