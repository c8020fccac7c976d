//! Flink SQL: parse, catalog, bind, plan.
//!
//! Text in, a [`crate::engine::plan::Plan`] out; no I/O. The grammar is Flink 1.14 to 2.3's.

mod alter;
pub mod ast;
pub mod bind;
pub mod catalog;
pub mod compile;
pub mod connectors;
pub mod dialect;
pub mod error;
pub mod explain;
pub mod functions;
mod listing;
mod namespaces;
pub mod parser;
pub mod planner;
pub mod rel;
mod settings;
pub mod types;
mod unfit;
mod unparse;

pub use compile::{Script, TableInfo, compile, compile_expression};
pub use error::{Phase, Span, SqlError, SqlResult};

#[cfg(test)]
mod dialect_tests;
#[cfg(test)]
mod robust_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transcript_tests;
