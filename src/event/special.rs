//! Records that are not rows: logical messages, transaction boundaries, heartbeats, notifications.

use std::sync::Arc;

use super::convert::encode;
use super::datum::Datum;
use super::envelope;
use super::options::{BinaryMode, EventOptions};
use super::record::Record;
use super::schema::{Kind, Schema};
use super::source::SnapshotMarker;
use super::{Encoder, EventError, SourceInfo, java, names};
use crate::log::Batch;
use crate::pg::Lsn;

/// Schemas that do not depend on a table.
pub(super) struct Schemas {
    message_key: Arc<Schema>,
    message: Arc<Schema>,
    transaction_key: Arc<Schema>,
    transaction: Arc<Schema>,
    heartbeat_key: Arc<Schema>,
    heartbeat: Arc<Schema>,
    notification_key: Arc<Schema>,
    notification: Arc<Schema>,
}

impl Schemas {
    pub fn new(options: &EventOptions) -> Self {
        let text = || Schema::new(Kind::String);
        let long = || Schema::new(Kind::Int64);
        let name = |n: &str| names::adjust_schema(n, options.schema_adjustment);
        let content = if options.binary == BinaryMode::Bytes { Kind::Bytes } else { Kind::String };
        let message_block =
            Schema::structure([("prefix", text().optional()), ("content", Schema::new(content).optional())])
                .named(name("io.debezium.connector.postgresql.Message"), 1);
        let collection = Schema::structure([("data_collection", text()), ("event_count", long())])
            .optional()
            .named("event.collection", 1);
        let map = Schema::new(Kind::Map(text().into(), text().into())).optional();
        Self {
            message_key: Arc::new(
                Schema::structure([("prefix", text().optional())])
                    .named(name("io.debezium.connector.postgresql.MessageKey"), 1),
            ),
            message: Arc::new(
                Schema::structure([
                    ("op", text()),
                    ("ts_ms", long().optional()),
                    ("source", envelope::source_schema(options)),
                    ("transaction", envelope::transaction_schema()),
                    ("message", message_block),
                ])
                .named(name("io.debezium.connector.postgresql.MessageValue"), 1),
            ),
            transaction_key: Arc::new(
                Schema::structure([("id", text())])
                    .named(name("io.debezium.connector.common.TransactionMetadataKey"), 1),
            ),
            transaction: Arc::new(
                Schema::structure([
                    ("status", text()),
                    ("id", text()),
                    ("event_count", long().optional()),
                    ("data_collections", Schema::array(collection).optional()),
                    ("ts_ms", long()),
                ])
                .named(name("io.debezium.connector.common.TransactionMetadataValue"), 1),
            ),
            heartbeat_key: Arc::new(
                Schema::structure([("serverName", text())])
                    .named(name("io.debezium.connector.common.ServerNameKey"), 1),
            ),
            heartbeat: Arc::new(
                Schema::structure([("ts_ms", long())])
                    .named(name("io.debezium.connector.common.Heartbeat"), 1),
            ),
            notification_key: Arc::new(
                Schema::structure([("id", text())])
                    .named(name("io.debezium.connector.common.NotificationKey"), 1),
            ),
            notification: Arc::new(
                Schema::structure([
                    ("id", text()),
                    ("type", text()),
                    ("aggregate_type", text()),
                    ("additional_data", map),
                    ("timestamp", long()),
                ])
                .named(name("io.debezium.connector.common.Notification"), 1),
            ),
        }
    }
}

fn special<'a>(
    topic: String,
    key_schema: &Arc<Schema>,
    key: Datum<'a>,
    value_schema: &Arc<Schema>,
    value: Datum<'a>,
) -> Record<'a> {
    Record {
        topic,
        partition: None,
        timestamp: None,
        key_schema: Some(Arc::clone(key_schema)),
        key: Datum::Struct(vec![key]),
        value_schema: Some(Arc::clone(value_schema)),
        value,
        headers: Vec::new(),
    }
}

impl Encoder {
    /// A logical message (`pg_logical_emit_message`); none where the prefix is filtered out.
    pub fn message(
        &mut self,
        prefix: &str,
        content: &[u8],
        source: &SourceInfo<'_>,
        batch: &mut Batch,
    ) -> Result<usize, EventError> {
        let options = self.options();
        let wanted = match (&options.message_include, &options.message_exclude) {
            (Some(include), _) => include.matches(prefix),
            (None, Some(exclude)) => !exclude.matches(prefix),
            (None, None) => true,
        };
        if !wanted {
            return Ok(0);
        }
        let binary = options.binary;
        let topic = names::sanitize(&options.message_topic(), false);
        let metadata =
            options.transaction_metadata && source.snapshot == SnapshotMarker::No && source.txid.is_some();
        // Debezium counts a message under the name of a Java object; the prefix's topic stands for it here
        let order = metadata.then(|| self.transaction_mut().next("message"));
        let value = Datum::Struct(vec![
            Datum::str("m"),
            Datum::Int(source.now_ns.div_euclid(1_000_000)),
            self.writer.source.datum(("", ""), source).into_owned(),
            envelope::transaction_datum(source, order),
            Datum::Struct(vec![Datum::string(prefix), encode(content, binary)]),
        ]);
        let (key_schema, schema) = (Arc::clone(&self.schemas.message_key), Arc::clone(&self.schemas.message));
        self.process(special(topic, &key_schema, Datum::string(prefix), &schema, value), batch)?;
        Ok(1)
    }

    /// A transaction begins: counts start anew; with `provide.transaction.metadata` a BEGIN record. `lsn` is that of
    /// the first change, `ts_ms` the commit time.
    pub fn transaction_begin(
        &mut self,
        txid: u64,
        lsn: Lsn,
        ts_ms: i64,
        batch: &mut Batch,
    ) -> Result<usize, EventError> {
        self.transaction_mut().begin();
        if !self.options().transaction_metadata {
            return Ok(0);
        }
        self.boundary("BEGIN", txid, lsn, ts_ms, batch)
    }

    /// A transaction ends; `lsn` is that of the commit.
    pub fn transaction_end(
        &mut self,
        txid: u64,
        lsn: Lsn,
        ts_ms: i64,
        batch: &mut Batch,
    ) -> Result<usize, EventError> {
        if !self.options().transaction_metadata {
            return Ok(0);
        }
        self.boundary("END", txid, lsn, ts_ms, batch)
    }

    fn boundary(
        &mut self,
        status: &'static str,
        txid: u64,
        lsn: Lsn,
        ts_ms: i64,
        batch: &mut Batch,
    ) -> Result<usize, EventError> {
        let id = format!("{txid}:{}", lsn.as_u64());
        let (count, tables) = if status == "END" {
            let counter = self.transaction();
            let mut tables: Vec<&(String, u64)> = counter.tables().iter().collect();
            java::hash_map_order(&mut tables, |(name, _)| name);
            let tables = tables
                .into_iter()
                .map(|(name, n)| {
                    Datum::Struct(vec![Datum::string(name.as_str()), Datum::Int(n.cast_signed())])
                })
                .collect();
            (Datum::Int(counter.total().cast_signed()), Datum::Array(tables))
        } else {
            (Datum::Null, Datum::Null)
        };
        let value = Datum::Struct(vec![
            Datum::str(status),
            Datum::string(id.as_str()),
            count,
            tables,
            Datum::Int(ts_ms),
        ]);
        let topic = names::sanitize(&self.options().transaction_topic(), false);
        let (key_schema, schema) =
            (Arc::clone(&self.schemas.transaction_key), Arc::clone(&self.schemas.transaction));
        self.process(special(topic, &key_schema, Datum::string(id), &schema, value), batch)?;
        Ok(1)
    }

    /// A heartbeat, to partition 0.
    pub fn heartbeat(&mut self, now_ms: i64, batch: &mut Batch) -> Result<usize, EventError> {
        let topic = names::sanitize(&self.options().heartbeat_topic(), false);
        let server = Datum::string(self.options().topic_prefix.as_str());
        let (key_schema, schema) =
            (Arc::clone(&self.schemas.heartbeat_key), Arc::clone(&self.schemas.heartbeat));
        let mut record =
            special(topic, &key_schema, server, &schema, Datum::Struct(vec![Datum::Int(now_ms)]));
        record.partition = Some(0);
        self.process(record, batch)?;
        Ok(1)
    }

    /// A notification to the sink channel's topic; none where no topic is configured.
    pub fn notification(
        &mut self,
        id: &str,
        aggregate_type: &str,
        kind: &str,
        data: Option<&[(&str, String)]>,
        now_ms: i64,
        batch: &mut Batch,
    ) -> Result<usize, EventError> {
        let Some(topic) = self.options().notification_topic.clone() else { return Ok(0) };
        let data = match data {
            Some(pairs) => Datum::Map(
                pairs.iter().map(|(k, v)| (Datum::string(*k), Datum::string(v.as_str()))).collect(),
            ),
            None => Datum::Null,
        };
        let value = Datum::Struct(vec![
            Datum::string(id),
            Datum::string(kind),
            Datum::string(aggregate_type),
            data,
            Datum::Int(now_ms),
        ]);
        let (key_schema, schema) =
            (Arc::clone(&self.schemas.notification_key), Arc::clone(&self.schemas.notification));
        self.process(special(topic, &key_schema, Datum::string(id), &schema, value), batch)?;
        Ok(1)
    }
}
