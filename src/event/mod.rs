//! Debezium change events: schemas, values, keys, source block, headers, tombstones.
//!
//! No topic client, no tokio: a table's description and wire tuples come in, records in a
//! [`crate::log::Batch`] go out. [`Encoder`] is the way in: make a [`TablePlan`] per relation version
//! (or per table of a snapshot), then hand it rows.
//!
//! A row's text is turned into a [`Datum`] by a converter chosen once per column ([`convert`]) and a
//! [`Datum`] into bytes by a converter of Kafka Connect's ([`json`]). Where a transform is configured, a whole
//! [`record::Record`] is built instead and goes through a [`record::Pipeline`].

pub mod avro;
pub mod columns;
pub mod convert;
pub mod datum;
pub mod defaults;
pub mod encoder;
mod envelope;
pub mod error;
pub mod flat;
mod java;
pub mod json;
pub mod names;
pub mod options;
pub mod plan;
mod properties;
pub mod protobuf;
pub mod record;
pub(crate) mod regex;
pub mod schema;
pub mod simple;
pub mod source;
pub mod special;
pub mod types;
mod writer;

pub use datum::Datum;
pub use encoder::Encoder;
pub use error::EventError;
pub use options::EventOptions;
pub use plan::TablePlan;
pub use schema::Schema;
pub use source::{SnapshotMarker, SourceInfo, TransactionCounter, TransactionOrder};
