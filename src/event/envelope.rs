//! The envelope around a row: its schema, and the source and transaction blocks as JSON and as values.

use std::sync::Arc;

use super::datum::{Datum, Inline};
use super::encoder::VERSION;
use super::json;
use super::names;
use super::options::EventOptions;
use super::schema::{Field, Kind, Schema};
use super::source::{SnapshotMarker, SourceInfo, TransactionOrder};

/// What of the source block is the same in all of a connector's events.
pub(super) struct Source {
    connector: String,
    name: String,
    database: String,
    /// An unset snapshot marker is written as its default.
    null_is_default: bool,
    /// `,"source":{"version":…,"connector":…,"name":…,"ts_ms":`
    source_open: Vec<u8>,
    /// `,"db":…,"sequence":`
    source_db: Vec<u8>,
}

impl Source {
    pub fn new(options: &EventOptions, null_is_default: bool) -> Self {
        let mut source_open = b",\"source\":{\"version\":".to_vec();
        json::write_str(&mut source_open, VERSION.as_bytes());
        source_open.extend_from_slice(b",\"connector\":");
        json::write_str(&mut source_open, options.connector_name.as_bytes());
        source_open.extend_from_slice(b",\"name\":");
        json::write_str(&mut source_open, options.topic_prefix.as_bytes());
        source_open.extend_from_slice(b",\"ts_ms\":");
        let mut source_db = b",\"db\":".to_vec();
        json::write_str(&mut source_db, options.database.as_bytes());
        source_db.extend_from_slice(b",\"sequence\":");
        Self {
            connector: options.connector_name.clone(),
            name: options.topic_prefix.clone(),
            database: options.database.clone(),
            null_is_default,
            source_open,
            source_db,
        }
    }

    /// Appends `,"source":{…}`; `table` is [`super::TablePlan`]'s `source_table`.
    pub fn json_source(&self, out: &mut Vec<u8>, table: &[u8], source: &SourceInfo<'_>) {
        out.extend_from_slice(&self.source_open);
        number(out, source.ts_ns.div_euclid(1_000_000));
        out.extend_from_slice(b",\"snapshot\":");
        match source.snapshot.text() {
            Some(text) => {
                out.push(b'"');
                out.extend_from_slice(text.as_bytes());
                out.push(b'"');
            }
            None if self.null_is_default => out.extend_from_slice(b"\"false\""),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(&self.source_db);
        match source.lsn {
            Some(lsn) => {
                out.extend_from_slice(b"\"[");
                match source.last_commit_lsn {
                    Some(commit) => {
                        out.extend_from_slice(b"\\\"");
                        unsigned(out, Some(commit.as_u64()));
                        out.extend_from_slice(b"\\\"");
                    }
                    None => out.extend_from_slice(b"null"),
                }
                out.extend_from_slice(b",\\\"");
                unsigned(out, Some(lsn.as_u64()));
                out.extend_from_slice(b"\\\"]\"");
            }
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"ts_us\":");
        number(out, source.ts_ns.div_euclid(1000));
        out.extend_from_slice(b",\"ts_ns\":");
        number(out, source.ts_ns);
        out.extend_from_slice(table);
        unsigned(out, source.txid);
        out.extend_from_slice(b",\"lsn\":");
        // An incremental snapshot's row has a place in the stream (the sequence), but no LSN of its own.
        let own = source.lsn.filter(|_| source.snapshot != SnapshotMarker::Incremental);
        unsigned(out, own.map(|l| l.as_u64()));
        out.extend_from_slice(b",\"xmin\":");
        unsigned(out, source.xmin);
        out.extend_from_slice(b",\"origin\":");
        match source.origin {
            Some(origin) => json::write_str(out, origin.as_bytes()),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"origin_lsn\":");
        unsigned(out, source.origin_lsn.map(|l| l.as_u64()));
        out.push(b'}');
    }

    /// The block's field at this place of [`source_schema`].
    pub fn field<'s>(
        &'s self,
        at: usize,
        (schema, table): (&'s str, &'s str),
        source: &'s SourceInfo<'_>,
    ) -> Datum<'s> {
        let int = |n: Option<u64>| n.map_or(Datum::Null, |n| Datum::Int(n.cast_signed()));
        match at {
            0 => Datum::str(VERSION),
            1 => Datum::str(&self.connector),
            2 => Datum::str(&self.name),
            3 => Datum::Int(source.ts_ns.div_euclid(1_000_000)),
            4 => source.snapshot.text().map_or(Datum::Null, Datum::str),
            5 => Datum::str(&self.database),
            6 => sequence(source),
            7 => Datum::Int(source.ts_ns.div_euclid(1000)),
            8 => Datum::Int(source.ts_ns),
            9 => Datum::str(schema),
            10 => Datum::str(table),
            11 => int(source.txid),
            12 => {
                int(source.lsn.filter(|_| source.snapshot != SnapshotMarker::Incremental).map(|l| l.as_u64()))
            }
            13 => int(source.xmin),
            14 => source.origin.map_or(Datum::Null, Datum::str),
            _ => int(source.origin_lsn.map(|l| l.as_u64())),
        }
    }

    /// The block as a value.
    pub fn datum<'s>(&'s self, table: (&'s str, &'s str), source: &'s SourceInfo<'_>) -> Datum<'s> {
        Datum::Struct((0..SOURCE_FIELDS).map(|at| self.field(at, table, source)).collect())
    }
}

/// How many fields the source block has.
const SOURCE_FIELDS: usize = 16;

/// `[last commit LSN or null, LSN]` as text.
fn sequence(source: &SourceInfo<'_>) -> Datum<'static> {
    let Some(lsn) = source.lsn else { return Datum::Null };
    let mut text = Inline::new();
    let mut digits = itoa::Buffer::new();
    text.push(b'[');
    match source.last_commit_lsn {
        Some(commit) => {
            text.push(b'"');
            text.extend_from_slice(digits.format(commit.as_u64()).as_bytes());
            text.push(b'"');
        }
        None => text.extend_from_slice(b"null"),
    }
    text.extend_from_slice(b",\"");
    text.extend_from_slice(digits.format(lsn.as_u64()).as_bytes());
    text.extend_from_slice(b"\"]");
    Datum::Text(text)
}

pub(super) fn number(out: &mut Vec<u8>, n: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// A number Java holds as a signed long, or null.
fn unsigned(out: &mut Vec<u8>, n: Option<u64>) {
    match n {
        Some(n) => number(out, n.cast_signed()),
        None => out.extend_from_slice(b"null"),
    }
}

fn transaction_id(source: &SourceInfo<'_>) -> Option<(u64, u64)> {
    Some((source.txid?, source.lsn?.as_u64()))
}

pub(super) fn json_transaction(out: &mut Vec<u8>, source: &SourceInfo<'_>, order: Option<TransactionOrder>) {
    out.extend_from_slice(b",\"transaction\":");
    let (Some(order), Some((txid, lsn))) = (order, transaction_id(source)) else {
        return out.extend_from_slice(b"null");
    };
    out.extend_from_slice(b"{\"id\":\"");
    unsigned(out, Some(txid));
    out.push(b':');
    unsigned(out, Some(lsn));
    out.extend_from_slice(b"\",\"total_order\":");
    unsigned(out, Some(order.total));
    out.extend_from_slice(b",\"data_collection_order\":");
    unsigned(out, Some(order.data_collection));
    out.push(b'}');
}

/// The transaction block's field at this place of [`transaction_schema`]; null where the block is.
pub(super) fn transaction_field(
    at: usize,
    source: &SourceInfo<'_>,
    order: Option<TransactionOrder>,
) -> Datum<'static> {
    let (Some(order), Some((txid, lsn))) = (order, transaction_id(source)) else { return Datum::Null };
    match at {
        0 => {
            let mut text = Inline::new();
            let mut digits = itoa::Buffer::new();
            text.extend_from_slice(digits.format(txid).as_bytes());
            text.push(b':');
            text.extend_from_slice(digits.format(lsn).as_bytes());
            Datum::Text(text)
        }
        1 => Datum::Int(order.total.cast_signed()),
        _ => Datum::Int(order.data_collection.cast_signed()),
    }
}

/// The transaction block as a value.
pub(super) fn transaction_datum(source: &SourceInfo<'_>, order: Option<TransactionOrder>) -> Datum<'static> {
    if order.is_none() || transaction_id(source).is_none() {
        return Datum::Null;
    }
    Datum::Struct((0..3).map(|at| transaction_field(at, source, order)).collect())
}

/// The envelope around a row's schema.
pub(super) fn schema(options: &EventOptions, row: Arc<Schema>) -> Schema {
    let field = |name: &str, schema: Arc<Schema>| Field { name: name.into(), schema };
    let time = || Arc::new(Schema::new(Kind::Int64).optional());
    Schema::new(Kind::Struct(vec![
        field("before", Arc::clone(&row)),
        field("after", row),
        field("source", Arc::new(source_schema(options))),
        field("transaction", Arc::new(transaction_schema())),
        field("op", Arc::new(Schema::new(Kind::String))),
        field("ts_ms", time()),
        field("ts_us", time()),
        field("ts_ns", time()),
    ]))
}

/// The `source` block.
pub(super) fn source_schema(options: &EventOptions) -> Schema {
    let text = || Schema::new(Kind::String);
    let number = || Schema::new(Kind::Int64).optional();
    let name = names::adjust_schema("io.debezium.connector.postgresql.Source", options.schema_adjustment);
    Schema::structure([
        ("version", text()),
        ("connector", text()),
        ("name", text()),
        ("ts_ms", Schema::new(Kind::Int64)),
        (
            "snapshot",
            text()
                .optional()
                .named("io.debezium.data.Enum", 1)
                .parameter(
                    "allowed",
                    "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental",
                )
                .with_default(Datum::str("false")),
        ),
        ("db", text()),
        ("sequence", text().optional()),
        ("ts_us", number()),
        ("ts_ns", number()),
        ("schema", text()),
        ("table", text()),
        ("txId", number()),
        ("lsn", number()),
        ("xmin", number()),
        ("origin", text().optional()),
        ("origin_lsn", number()),
    ])
    .named(name, 1)
}

/// The `transaction` block.
pub(super) fn transaction_schema() -> Schema {
    Schema::structure([
        ("id", Schema::new(Kind::String)),
        ("total_order", Schema::new(Kind::Int64)),
        ("data_collection_order", Schema::new(Kind::Int64)),
    ])
    .optional()
    .named("event.block", 1)
}
