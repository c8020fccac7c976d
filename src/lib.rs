//! Millstream: change data capture in one process.
//!
//! PostgreSQL's logical replication comes in at one end, Debezium change events lie in a log in the
//! middle (Kafka, or the embedded one), streaming SQL in Flink's dialect runs over them with keyed
//! state, and upserts go out into a target database at the other end.
//!
//! Modules are named after the domain. `pg`, `event`, `engine`, `sql` and `state` know no topic, no
//! HTTP and no command line; `capture`, `transform`, `sink` and `runtime` stand on them and on `log`;
//! `connect`, `replay`, `server`, `cli` and `demo` stand on top.

pub mod capture;
pub mod cli;
pub mod config;
pub mod connect;
pub mod demo;
pub mod doctor;
pub mod engine;
pub mod error;
pub mod event;
pub mod failpoint;
pub mod java;
pub mod log;
pub mod pg;
pub mod replay;
pub mod runtime;
pub mod server;
pub mod sink;
pub mod sql;
pub mod state;
pub mod transform;

pub use error::{Error, Kind, Result};
