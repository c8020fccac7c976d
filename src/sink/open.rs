//! From a sink's table to its connector.

use std::sync::Arc;

use super::filesystem::FilesystemSink;
use super::postgres::PostgresSink;
use super::print::{BlackholeSink, PrintSink, PrintTarget};
use super::topic::TopicSink;
use super::{Sink, SinkId};
use crate::config::address::AddressMap;
use crate::engine::format::FormatContext;
use crate::engine::plan::TableRef;
use crate::error::{Error, Result};
use crate::log::Log;

/// What sinks are made with.
#[derive(Clone)]
pub struct SinkContext {
    /// Where topics live.
    pub log: Arc<dyn Log>,
    /// `--connect-to`.
    pub addresses: AddressMap,
    /// Where print sinks write.
    pub print: PrintTarget,
    /// Session time zone and strictness.
    pub format: FormatContext,
    /// `table.exec.mini-batch.enabled`.
    pub mini_batch: bool,
}

/// Makes the sink of a table, without connecting anywhere.
///
/// # Errors
/// Where the connector is unknown or its options are wrong.
pub fn open(table: &TableRef, id: SinkId, context: &SinkContext) -> Result<Box<dyn Sink>> {
    let connector = table.options.get("connector").map_or("", String::as_str);
    match connector {
        "kafka" | "upsert-kafka" => Ok(Box::new(TopicSink::new(table, id, context)?)),
        "print" => {
            let schema = table.columns.iter().map(|c| c.field.clone()).collect();
            Ok(Box::new(PrintSink::new(&table.options, schema, context.print.clone())))
        }
        "blackhole" => Ok(Box::new(BlackholeSink)),
        "filesystem" => Ok(Box::new(FilesystemSink::new(table, &id, &context.format)?)),
        "jdbc" => Ok(Box::new(PostgresSink::new(table, id, context.addresses.clone())?)),
        other => Err(Error::config(format!("table {}: connector '{other}' cannot be written", table.name))
            .next("use one of: jdbc, kafka, upsert-kafka, filesystem, print, blackhole")),
    }
}
