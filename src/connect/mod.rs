//! The worker: connectors, tasks, states, offsets topics, in Kafka Connect's semantics.
//!
//! Specified by Kafka Connect 4.3's distributed worker. Configurations, target states, statuses and offsets
//! lie in the log in Connect's own topic formats, so that a Connect cluster can take a connector over and
//! hand it back.

mod delete;
mod error;
mod held;
pub mod loggers;
pub mod model;
mod offsets;
pub mod plugins;
mod statuses;
pub mod store;
mod validation;
pub mod worker;

pub use error::ApiError;
pub use model::{ConnectorInfo, ConnectorState, State, TargetState, TaskState};
pub use worker::{Env, Worker};

/// The version of Kafka Connect whose API this is: clients switch features on by it.
pub use crate::config::connector::plugins::KAFKA_VERSION;

/// What `GET /` shows as the commit: this build's version.
pub const COMMIT: &str = concat!("millstream-", env!("CARGO_PKG_VERSION"));

/// Whether a class name means the PostgreSQL connector: Connect takes the full name, the simple name, and that
/// without `Connector`.
pub fn is_connector_class(name: &str) -> bool {
    matches!(name, model::CONNECTOR_CLASS | "PostgresConnector" | "Postgres")
}

/// The connector's version as the API shows it: Debezium's, whose behaviour it is. This build's own version is
/// the commit of `GET /`.
pub const VERSION: &str = crate::config::connector::plugins::DEBEZIUM_VERSION;
