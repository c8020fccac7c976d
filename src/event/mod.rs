//! Debezium change events: schemas, values, keys, source block, headers, tombstones.
//!
//! No topic client, no tokio: a table's description and wire tuples come in, records in a
//! [`crate::log::Batch`] go out.
