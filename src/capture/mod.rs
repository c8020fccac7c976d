//! A connector's life: slot and publication, snapshot, streaming, offsets.

pub mod offset;
pub mod offsets;
pub mod position;
pub mod status;

pub use status::{ConnectorStatus, Counters, Phase};
