//! Rows in, records out.

use std::sync::Arc;

use super::datum::Datum;
use super::json::{self, JsonOptions};
use super::options::Converter;
use super::plan::{self, ColumnPlan, KeyPlan, TablePlan, json_options};
use super::record::{Header, Pipeline, Record};
use super::schema::{Kind, Schema};
use super::source::{SnapshotMarker, TransactionOrder};
use super::{EventError, EventOptions, SourceInfo, TransactionCounter, simple};
use crate::log::Batch;
use crate::log::batch::RecordBuilder;
use crate::pg::catalog::{TableInfo, TypeRegistry};
use crate::pg::pgoutput::{Column, Relation};

/// What Debezium writes into `source.version`; ours is our own.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// An old row as the server sent it.
#[derive(Clone, Copy, Debug)]
pub enum OldRow<'r, 'a> {
    /// Only the replica identity's columns are set (`K`).
    Key(&'r [Column<'a>]),
    /// The whole row (`O`).
    Full(&'r [Column<'a>]),
}

impl<'r, 'a> OldRow<'r, 'a> {
    fn columns(self) -> &'r [Column<'a>] {
        match self {
            OldRow::Key(row) | OldRow::Full(row) => row,
        }
    }
}

/// A row of which unchanged TOASTed values may be known from the old row.
#[derive(Clone, Copy)]
struct Row<'r, 'a> {
    columns: &'r [Column<'a>],
    old: Option<&'r [Column<'a>]>,
}

impl<'r, 'a> Row<'r, 'a> {
    fn new(columns: &'r [Column<'a>]) -> Self {
        Self { columns, old: None }
    }

    fn get(&self, wire: usize) -> Column<'a> {
        match self.columns.get(wire) {
            Some(Column::Unchanged) => match self.old.and_then(|old| old.get(wire)) {
                Some(Column::Null) | None => Column::Unchanged,
                Some(known) => *known,
            },
            Some(column) => *column,
            None => Column::Null,
        }
    }
}

/// One change to write.
struct Change<'c, 'r, 'a> {
    op: &'static str,
    before: Option<Row<'r, 'a>>,
    after: Option<Row<'r, 'a>>,
    key: Option<Row<'r, 'a>>,
    /// `__debezium.newkey` or `__debezium.oldkey` with the row the key comes from.
    key_header: Option<(&'static str, Row<'r, 'a>)>,
    source: &'c SourceInfo<'c>,
}

/// Makes Debezium's records from rows. One per connector; keeps scratch memory.
///
/// Rows are slices of columns in the order of the plan: for a stream that of the Relation message, for a
/// snapshot that of [`TableInfo::columns`] (generated columns included). All methods append to the batch and say
/// how many records that made; on an error the batch is as it was.
pub struct Encoder {
    options: Arc<EventOptions>,
    pipeline: Option<Box<dyn Pipeline>>,
    key_json: JsonOptions,
    value_json: JsonOptions,
    /// Name and bytes of the headers every row record has.
    headers: Vec<(&'static str, String, Vec<u8>)>,
    /// `"source":{"version":…,"connector":…,"name":…,"ts_ms":`
    source_open: Vec<u8>,
    /// `,"db":…,"sequence":`
    source_db: Vec<u8>,
    counter: TransactionCounter,
    /// The column of the record being written whose value is missing.
    unconvertible: std::cell::Cell<Option<String>>,
    scratch: Vec<u8>,
    other: Vec<u8>,
    pub(super) schemas: super::special::Schemas,
}

impl Encoder {
    /// An encoder whose converters are JSON, without transforms.
    pub fn new(options: EventOptions) -> Result<Self, EventError> {
        for (name, converter) in
            [("key.converter", &options.key_converter), ("value.converter", &options.value_converter)]
        {
            if let Converter::Other(class) = converter {
                return Err(EventError::Option {
                    name: name.into(),
                    value: class.clone(),
                    expected: "org.apache.kafka.connect.json.JsonConverter".into(),
                });
            }
        }
        Ok(Self::build(options, None))
    }

    /// An encoder whose records all go through a pipeline (transforms, other converters): see
    /// [`crate::transform::encoder`].
    pub fn with_pipeline(options: EventOptions, pipeline: Box<dyn Pipeline>) -> Self {
        Self::build(options, Some(pipeline))
    }

    /// Whether what every record needs outside of the program is there; see [`Pipeline::ready`].
    ///
    /// # Errors
    /// [`EventError::Registry`].
    pub fn ready(&self) -> Result<(), EventError> {
        self.pipeline.as_ref().map_or(Ok(()), |pipeline| pipeline.ready())
    }

    fn build(options: EventOptions, pipeline: Option<Box<dyn Pipeline>>) -> Self {
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
        let mut headers = Vec::new();
        if options.extended_headers {
            for (name, value) in [
                ("__debezium.context.connectorLogicalName", &options.topic_prefix),
                ("__debezium.context.taskId", &options.task_id),
                ("__debezium.context.connectorName", &options.connector_name),
                ("__debezium.context.runId", &options.run_id),
            ] {
                let mut bytes = Vec::new();
                let schema = Schema::new(Kind::String);
                simple::header(&mut bytes, &schema, &Datum::str(value), options.header_json.as_ref());
                headers.push((name, value.clone(), bytes));
            }
        }
        Self {
            key_json: json_options(&options.key_converter),
            value_json: json_options(&options.value_converter),
            schemas: super::special::Schemas::new(&options),
            options: Arc::new(options),
            pipeline,
            headers,
            source_open,
            source_db,
            counter: TransactionCounter::default(),
            unconvertible: std::cell::Cell::new(None),
            scratch: Vec::new(),
            other: Vec::new(),
        }
    }

    /// The options.
    pub fn options(&self) -> &EventOptions {
        &self.options
    }

    /// The counts of the running transaction, for the offset record.
    pub fn transaction(&self) -> &TransactionCounter {
        &self.counter
    }

    /// The counts of the running transaction, to take them up from an offset record.
    pub fn transaction_mut(&mut self) -> &mut TransactionCounter {
        &mut self.counter
    }

    /// The plan of a table as a Relation message describes it. `table` is the live catalog's description: key,
    /// defaults and optionality come from there, as Debezium takes them; without one (dropped since) there is no key.
    pub fn stream_plan(
        &self,
        relation: &Relation,
        table: Option<&TableInfo>,
        types: &TypeRegistry,
    ) -> Result<TablePlan, EventError> {
        plan::stream(&self.options, relation, table, types)
    }

    /// The plan of a table's snapshot: rows hold all columns of the description, in its order.
    pub fn snapshot_plan(&self, table: &TableInfo, types: &TypeRegistry) -> Result<TablePlan, EventError> {
        plan::snapshot(&self.options, table, types)
    }

    /// A row of a snapshot (`r`).
    pub fn read(
        &mut self,
        plan: &TablePlan,
        row: &[Column<'_>],
        source: &SourceInfo<'_>,
        batch: &mut Batch,
    ) -> Result<usize, EventError> {
        check(plan, row)?;
        let row = Row::new(row);
        let change =
            Change { op: "r", before: None, after: Some(row), key: Some(row), key_header: None, source };
        self.write(plan, &change, batch)?;
        Ok(1)
    }

    /// An inserted row (`c`).
    pub fn insert(
        &mut self,
        plan: &TablePlan,
        new: &[Column<'_>],
        source: &SourceInfo<'_>,
        batch: &mut Batch,
    ) -> Result<usize, EventError> {
        check(plan, new)?;
        if self.options.skipped.create {
            return Ok(0);
        }
        let row = Row::new(new);
        let change =
            Change { op: "c", before: None, after: Some(row), key: Some(row), key_header: None, source };
        self.write(plan, &change, batch)?;
        Ok(1)
    }

    /// A changed row (`u`); where the key changed: delete, tombstone, create, with headers that name the other key.
    pub fn update(
        &mut self,
        plan: &TablePlan,
        old: Option<OldRow<'_, '_>>,
        new: &[Column<'_>],
        source: &SourceInfo<'_>,
        batch: &mut Batch,
    ) -> Result<usize, EventError> {
        check(plan, new)?;
        if self.options.skipped.update {
            return Ok(0);
        }
        let old_columns = old.map(OldRow::columns);
        if let Some(columns) = old_columns {
            check(plan, columns)?;
        }
        let full = match old {
            Some(OldRow::Full(columns)) => Some(columns),
            _ => None,
        };
        let after = Row { columns: new, old: full };
        if let (true, Some(old)) = (self.options.skip_unchanged, old_columns) {
            let same = |wire: usize| after.get(wire) == old.get(wire).copied().unwrap_or(Column::Null);
            if plan.columns.iter().all(|c| same(c.wire)) {
                return Ok(0);
            }
        }
        let before = old_columns.map(Row::new);
        let changed = match (before, &plan.key) {
            (Some(before), Some(key)) => self.keys_differ(key, before, after),
            _ => false,
        };
        let Some(before) = before.filter(|_| changed) else {
            let change =
                Change { op: "u", before, after: Some(after), key: Some(after), key_header: None, source };
            self.write(plan, &change, batch)?;
            return Ok(1);
        };
        let start = batch.len();
        let mut run = || -> Result<(), EventError> {
            let key_header = Some(("__debezium.newkey", after));
            let delete =
                Change { op: "d", before: Some(before), after: None, key: Some(before), key_header, source };
            if !self.options.skipped.delete {
                self.write(plan, &delete, batch)?;
                if self.options.tombstones {
                    self.tombstone(plan, &delete, batch)?;
                }
            }
            if self.options.skipped.create {
                return Ok(());
            }
            let key_header = Some(("__debezium.oldkey", before));
            let create =
                Change { op: "c", before: None, after: Some(after), key: Some(after), key_header, source };
            self.write(plan, &create, batch)
        };
        match run() {
            Ok(()) => Ok(batch.len() - start),
            Err(e) => {
                batch.truncate(start);
                Err(e)
            }
        }
    }

    /// A removed row (`d`) and its tombstone.
    pub fn delete(
        &mut self,
        plan: &TablePlan,
        old: OldRow<'_, '_>,
        source: &SourceInfo<'_>,
        batch: &mut Batch,
    ) -> Result<usize, EventError> {
        check(plan, old.columns())?;
        if self.options.skipped.delete {
            return Ok(0);
        }
        let row = Row::new(old.columns());
        let change =
            Change { op: "d", before: Some(row), after: None, key: Some(row), key_header: None, source };
        let start = batch.len();
        self.write(plan, &change, batch)?;
        if self.options.tombstones {
            self.tombstone(plan, &change, batch).inspect_err(|_| batch.truncate(start))?;
        }
        Ok(batch.len() - start)
    }

    /// An emptied table (`t`): no key, no rows. Skipped by default (`skipped.operations=t`).
    pub fn truncate(
        &mut self,
        plan: &TablePlan,
        source: &SourceInfo<'_>,
        batch: &mut Batch,
    ) -> Result<usize, EventError> {
        if self.options.skipped.truncate {
            return Ok(0);
        }
        let change = Change { op: "t", before: None, after: None, key: None, key_header: None, source };
        self.write(plan, &change, batch)?;
        Ok(1)
    }

    fn keys_differ(&mut self, key: &KeyPlan, a: Row<'_, '_>, b: Row<'_, '_>) -> bool {
        let mut left = std::mem::take(&mut self.scratch);
        let mut right = std::mem::take(&mut self.other);
        left.clear();
        right.clear();
        for column in &key.columns {
            // what cannot be converted fails when it is written
            let _ = column.write_json(&mut left, a.get(column.wire), &self.key_json);
            let _ = column.write_json(&mut right, b.get(column.wire), &self.key_json);
        }
        let differ = left != right;
        (self.scratch, self.other) = (left, right);
        differ
    }

    /// The order of this event, counted where transaction metadata is on.
    fn order(&mut self, table_id: &str, source: &SourceInfo<'_>) -> Option<TransactionOrder> {
        let counts = self.options.transaction_metadata
            && source.snapshot == SnapshotMarker::No
            && source.txid.is_some();
        counts.then(|| self.counter.next(table_id))
    }

    fn write(
        &mut self,
        plan: &TablePlan,
        change: &Change<'_, '_, '_>,
        batch: &mut Batch,
    ) -> Result<(), EventError> {
        let order = self.order(&plan.table_id, change.source);
        if self.pipeline.is_some() {
            let record = self.record(plan, change, order)?;
            return self.process(record, batch);
        }
        let start = batch.len();
        let topic = batch.topic(&plan.topic);
        let mut record = batch.record(topic);
        self.json_key(plan, change.key, &mut record);
        record.value(|out| self.json_value(out, plan, change, order));
        self.json_headers(plan, change, &mut record);
        record.finish();
        match self.unconvertible.take() {
            None => Ok(()),
            Some(column) => {
                batch.truncate(start);
                Err(EventError::Value { table: plan.table_id.clone(), column })
            }
        }
    }

    /// Remembers the first column whose value is missing.
    fn note(&self, column: &ColumnPlan, written: bool) {
        if !written {
            self.unconvertible.set(Some(column.name.clone()));
        }
    }

    fn tombstone(
        &mut self,
        plan: &TablePlan,
        change: &Change<'_, '_, '_>,
        batch: &mut Batch,
    ) -> Result<(), EventError> {
        if self.pipeline.is_some() {
            let mut record = self.record(plan, change, None)?;
            record.value = Datum::Null;
            record.value_schema = None;
            return self.process(record, batch);
        }
        let topic = batch.topic(&plan.topic);
        let mut record = batch.record(topic);
        self.json_key(plan, change.key, &mut record);
        self.json_headers(plan, change, &mut record);
        record.finish();
        Ok(())
    }

    fn json_key(&self, plan: &TablePlan, row: Option<Row<'_, '_>>, record: &mut RecordBuilder<'_>) {
        let (Some(key), Some(row)) = (&plan.key, row) else { return };
        record.key(|out| {
            out.extend_from_slice(&key.open);
            out.push(b'{');
            for column in &key.columns {
                out.extend_from_slice(&column.lead);
                self.note(column, column.write_json(out, row.get(column.wire), &self.key_json));
            }
            out.push(b'}');
            if !key.open.is_empty() {
                out.push(b'}');
            }
        });
    }

    fn json_headers(
        &mut self,
        plan: &TablePlan,
        change: &Change<'_, '_, '_>,
        record: &mut RecordBuilder<'_>,
    ) {
        if let (Some((name, row)), Some(key)) = (change.key_header, &plan.key) {
            let mut bytes = std::mem::take(&mut self.scratch);
            bytes.clear();
            let datum = key_datum(key, row).unwrap_or(Datum::Null);
            simple::header(&mut bytes, &key.schema, &datum, self.options.header_json.as_ref());
            record.header(name.as_bytes(), Some(&bytes));
            self.scratch = bytes;
        }
        for (name, _, bytes) in &self.headers {
            record.header(name.as_bytes(), Some(bytes));
        }
    }

    fn json_value(
        &self,
        out: &mut Vec<u8>,
        plan: &TablePlan,
        change: &Change<'_, '_, '_>,
        order: Option<TransactionOrder>,
    ) {
        out.extend_from_slice(&plan.open);
        out.extend_from_slice(b"{\"before\":");
        self.json_row(out, plan, change.before);
        out.extend_from_slice(b",\"after\":");
        self.json_row(out, plan, change.after);
        self.json_source(out, &plan.source_table, change.source);
        json_transaction(out, change.source, order);
        out.extend_from_slice(b",\"op\":\"");
        out.extend_from_slice(change.op.as_bytes());
        out.extend_from_slice(b"\",\"ts_ms\":");
        let now = change.source.now_ns;
        number(out, now.div_euclid(1_000_000));
        out.extend_from_slice(b",\"ts_us\":");
        number(out, now.div_euclid(1000));
        out.extend_from_slice(b",\"ts_ns\":");
        number(out, now);
        out.push(b'}');
        if !plan.open.is_empty() {
            out.push(b'}');
        }
    }

    fn json_row(&self, out: &mut Vec<u8>, plan: &TablePlan, row: Option<Row<'_, '_>>) {
        let Some(row) = row else { return out.extend_from_slice(b"null") };
        out.push(b'{');
        for column in &plan.columns {
            out.extend_from_slice(&column.lead);
            self.note(column, column.write_json(out, row.get(column.wire), &self.value_json));
        }
        out.push(b'}');
    }

    fn json_source(&self, out: &mut Vec<u8>, table: &[u8], source: &SourceInfo<'_>) {
        out.extend_from_slice(&self.source_open);
        number(out, source.ts_ns.div_euclid(1_000_000));
        out.extend_from_slice(b",\"snapshot\":");
        match source.snapshot.text() {
            Some(text) => {
                out.push(b'"');
                out.extend_from_slice(text.as_bytes());
                out.push(b'"');
            }
            None if self.value_json.replace_null_with_default => out.extend_from_slice(b"\"false\""),
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

    fn record<'a>(
        &self,
        plan: &TablePlan,
        change: &Change<'_, '_, 'a>,
        order: Option<TransactionOrder>,
    ) -> Result<Record<'a>, EventError> {
        let bad = |column: String| EventError::Value { table: plan.table_id.clone(), column };
        let row = |row: Option<Row<'_, 'a>>| match row {
            Some(row) => struct_datum(&plan.columns, row).map_err(bad),
            None => Ok(Datum::Null),
        };
        let key_value = |key: &KeyPlan, row: Row<'_, 'a>| key_datum(key, row).map_err(bad);
        let now = change.source.now_ns;
        let value = Datum::Struct(vec![
            row(change.before)?,
            row(change.after)?,
            self.source_datum(&plan.schema, &plan.table, change.source),
            transaction_datum(change.source, order),
            Datum::str(change.op),
            Datum::Int(now.div_euclid(1_000_000)),
            Datum::Int(now.div_euclid(1000)),
            Datum::Int(now),
        ]);
        let (key_schema, key) = match (&plan.key, change.key) {
            (Some(key), Some(row)) => (Some(Arc::clone(&key.schema)), key_value(key, row)?),
            _ => (None, Datum::Null),
        };
        let mut headers = Vec::with_capacity(5);
        if let (Some((name, row)), Some(key)) = (change.key_header, &plan.key) {
            headers.push(Header {
                name: name.into(),
                schema: Some(Arc::clone(&key.schema)),
                value: key_value(key, row)?,
            });
        }
        for (name, value, _) in &self.headers {
            headers.push(Header {
                name: (*name).into(),
                schema: Some(Arc::clone(&self.schemas.text)),
                value: Datum::string(value.as_str()),
            });
        }
        Ok(Record {
            topic: plan.topic.clone(),
            partition: None,
            timestamp: None,
            key_schema,
            key,
            value_schema: Some(Arc::clone(&plan.envelope)),
            value,
            headers,
        })
    }

    /// The `source` block as a value.
    pub(super) fn source_datum(&self, schema: &str, table: &str, source: &SourceInfo<'_>) -> Datum<'static> {
        let int = |n: Option<u64>| n.map_or(Datum::Null, |n| Datum::Int(n.cast_signed()));
        Datum::Struct(vec![
            Datum::str(VERSION),
            Datum::string(self.options.connector_name.as_str()),
            Datum::string(self.options.topic_prefix.as_str()),
            Datum::Int(source.ts_ns.div_euclid(1_000_000)),
            source.snapshot.text().map_or(Datum::Null, Datum::str),
            Datum::string(self.options.database.as_str()),
            match source.lsn {
                Some(lsn) => Datum::string(match source.last_commit_lsn {
                    Some(commit) => format!("[\"{}\",\"{}\"]", commit.as_u64(), lsn.as_u64()),
                    None => format!("[null,\"{}\"]", lsn.as_u64()),
                }),
                None => Datum::Null,
            },
            Datum::Int(source.ts_ns.div_euclid(1000)),
            Datum::Int(source.ts_ns),
            Datum::string(schema),
            Datum::string(table),
            int(source.txid),
            int(source.lsn.filter(|_| source.snapshot != SnapshotMarker::Incremental).map(|l| l.as_u64())),
            int(source.xmin),
            source.origin.map_or(Datum::Null, Datum::string),
            int(source.origin_lsn.map(|l| l.as_u64())),
        ])
    }

    /// Sends a record through the pipeline, or writes it as JSON.
    pub(super) fn process(&mut self, record: Record<'_>, batch: &mut Batch) -> Result<(), EventError> {
        match &mut self.pipeline {
            Some(pipeline) => {
                let start = batch.len();
                pipeline.process(record, batch).inspect_err(|_| batch.truncate(start))
            }
            None => {
                let json = super::record::JsonConverters {
                    key: self.key_json,
                    value: self.value_json,
                    header: self.options.header_json,
                };
                json.write(&record, batch);
                Ok(())
            }
        }
    }
}

/// The struct of a key; the column whose value cannot be converted otherwise.
fn key_datum<'a>(key: &KeyPlan, row: Row<'_, 'a>) -> Result<Datum<'a>, String> {
    struct_datum(&key.columns, row)
}

fn struct_datum<'a>(columns: &[ColumnPlan], row: Row<'_, 'a>) -> Result<Datum<'a>, String> {
    let fields = columns.iter().map(|c| c.datum(row.get(c.wire)).map_err(|_| c.name.clone()));
    fields.collect::<Result<Vec<_>, _>>().map(Datum::Struct)
}

fn check(plan: &TablePlan, row: &[Column<'_>]) -> Result<(), EventError> {
    if row.len() == plan.width {
        return Ok(());
    }
    Err(EventError::ColumnCount { table: plan.table_id.clone(), expected: plan.width, found: row.len() })
}

fn number(out: &mut Vec<u8>, n: i64) {
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

fn json_transaction(out: &mut Vec<u8>, source: &SourceInfo<'_>, order: Option<TransactionOrder>) {
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

pub(super) fn transaction_datum(source: &SourceInfo<'_>, order: Option<TransactionOrder>) -> Datum<'static> {
    let (Some(order), Some((txid, lsn))) = (order, transaction_id(source)) else { return Datum::Null };
    Datum::Struct(vec![
        Datum::string(format!("{txid}:{lsn}")),
        Datum::Int(order.total.cast_signed()),
        Datum::Int(order.data_collection.cast_signed()),
    ])
}
