//! The planner: logical plans are simplified, operators chosen, changelog modes settled.

mod aggregate;
mod bounds;
mod changelog;
mod identity;
mod intervals;
mod join;
mod keys;
mod phys;
mod physical;
mod prune;
mod pushdown;
mod rank;
mod refused;
mod sink;
mod strong;
mod versioned;
mod windows;

pub use aggregate::is_windowed;
pub use bounds::warnings;
pub use changelog::{Emitter, kind};
pub use phys::{Context, Phys};
pub use sink::plan_insert;
pub(in crate::sql) use windows::role;

use super::error::SqlResult;
use super::rel::Rel;

/// A query's logical plan, simplified, as a tree of operators.
pub fn plan_query(rel: Rel, context: &Context<'_>) -> SqlResult<Phys> {
    let rel = pushdown::push(rel, Vec::new());
    let rel = windows::settle(prune::prune(rel));
    physical::physical(rel, context)
}
