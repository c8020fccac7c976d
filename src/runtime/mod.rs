//! From plan to running pipeline: sources, epochs, sinks, shutdown.
//!
//! ```text
//! source tasks ──records, bounded in bytes──▶ one thread: decode, graph, cut epochs ──outputs──▶ sink tasks
//!      ▲                                            │ one atomic batch an epoch                    │
//!     log                                         state                                         targets
//! ```
//! [`epoch`] holds the protocol's decisions, without I/O.

mod batching;
mod change;
mod datagen;
mod directory;
mod ending;
mod ends;
pub mod epoch;
mod failure;
pub mod host;
mod intake;
mod jdbc;
pub mod job;
mod local;
mod lookup;
mod options;
pub mod pipeline;
mod registries;
pub mod registry;
pub mod saved;
pub mod scratch;
mod source;
pub mod start;
pub mod status;
mod worker;
mod writer;

pub(crate) use change::forgets;
pub(crate) use ends::sink_names;
pub use pipeline::{Environment, Pipeline, PipelineControl, PipelineHandle};
pub use status::{Hop, Phase, PipelineStatus, SinkStatus, Skipped};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
