//! A connector's life: slot and publication, snapshot, streaming, offsets.
//!
//! [`Connector::start`] runs a connector as a task of its own. Events and the offset record that belongs to
//! the last of them are one batch of the log; a change's identity is its commit LSN and its ordinal within
//! the transaction ([`position`]); the slot is confirmed only up to what is durable.

mod aside;
mod begin;
mod channels;
mod committer;
mod connector;
pub mod decide;
pub mod identity;
mod incremental;
mod keys;
mod notify;
pub mod offset;
pub mod offsets;
pub mod owner;
pub mod position;
mod pour;
pub(crate) mod precheck;
mod pump;
mod reconcile;
mod replica_identity;
mod run;
mod shown;
mod signal;
mod slot_watch;
mod snapshot;
mod source;
mod spool;
pub mod status;
mod stream;
mod takeover;
mod topics;
mod transaction;
mod witness;

pub use committer::Committed;
pub(crate) use connector::STOP;
pub use connector::{Connector, ConnectorHandle, Env, transactional_id};
pub use slot_watch::SlotHealth;
pub(crate) use source::current_lsn;
pub use status::{ConnectorStatus, Counters, Phase, SnapshotStatus};
