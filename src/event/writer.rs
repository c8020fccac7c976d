//! How one change becomes a record: as JSON straight from the row's bytes, or as a whole [`Record`] for what
//! transforms and other converters need.

use std::cell::Cell;
use std::sync::Arc;

use super::datum::Datum;
use super::envelope::{self, number};
use super::json::JsonOptions;
use super::plan::{ColumnPlan, KeyPlan, Lost, TablePlan, json_options};
use super::record::{Header, JsonConverters, Record};
use super::schema::{Kind, Schema};
use super::source::TransactionOrder;
use super::{EventError, EventOptions, SourceInfo, simple};
use crate::log::Batch;
use crate::log::batch::RecordBuilder;
use crate::pg::pgoutput::Column;

/// A row of which unchanged TOASTed values may be known from the old row.
#[derive(Clone, Copy)]
pub(super) struct Row<'r, 'a> {
    pub columns: &'r [Column<'a>],
    pub old: Option<&'r [Column<'a>]>,
}

impl<'r, 'a> Row<'r, 'a> {
    pub fn new(columns: &'r [Column<'a>]) -> Self {
        Self { columns, old: None }
    }

    pub fn get(&self, wire: usize) -> Column<'a> {
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
pub(super) struct Change<'c, 'r, 'a> {
    pub op: &'static str,
    pub before: Option<Row<'r, 'a>>,
    pub after: Option<Row<'r, 'a>>,
    pub key: Option<Row<'r, 'a>>,
    /// `__debezium.newkey` or `__debezium.oldkey` with the row the key comes from.
    pub key_header: Option<(&'static str, Row<'r, 'a>)>,
    pub source: &'c SourceInfo<'c>,
}

/// A header that every row's record has.
struct Standing {
    name: &'static str,
    text: String,
    /// As the header converter writes it.
    bytes: Vec<u8>,
}

/// Writes changes. Keeps scratch memory.
pub(super) struct Writer {
    pub options: Arc<EventOptions>,
    pub key_json: JsonOptions,
    pub value_json: JsonOptions,
    pub source: envelope::Source,
    headers: Vec<Standing>,
    text: Arc<Schema>,
    /// The column of the record being written that has no value.
    lost: Cell<Option<(String, Lost)>>,
    pub scratch: Vec<u8>,
    other: Vec<u8>,
}

impl Writer {
    pub fn new(options: Arc<EventOptions>) -> Self {
        let text = Arc::new(Schema::new(Kind::String));
        let mut headers = Vec::new();
        if options.extended_headers {
            for (name, value) in [
                ("__debezium.context.connectorLogicalName", &options.topic_prefix),
                ("__debezium.context.taskId", &options.task_id),
                ("__debezium.context.connectorName", &options.connector_name),
                ("__debezium.context.runId", &options.run_id),
            ] {
                let mut bytes = Vec::new();
                simple::header(&mut bytes, &text, &Datum::str(value), options.header_json.as_ref());
                headers.push(Standing { name, text: value.clone(), bytes });
            }
        }
        let value_json = json_options(&options.value_converter);
        Self {
            key_json: json_options(&options.key_converter),
            value_json,
            source: envelope::Source::new(&options, value_json.replace_null_with_default),
            options,
            headers,
            text,
            lost: Cell::new(None),
            scratch: Vec::new(),
            other: Vec::new(),
        }
    }

    /// Whether two rows have different keys.
    pub fn keys_differ(&mut self, key: &KeyPlan, a: Row<'_, '_>, b: Row<'_, '_>) -> bool {
        let Self { scratch: left, other: right, key_json, .. } = self;
        left.clear();
        right.clear();
        for column in &key.columns {
            // what cannot be converted fails when it is written
            let _ = column.write_json(left, a.get(column.wire), key_json);
            let _ = column.write_json(right, b.get(column.wire), key_json);
        }
        left != right
    }

    /// The converters, for records that come as values.
    pub fn converters(&self) -> JsonConverters {
        JsonConverters { key: self.key_json, value: self.value_json, header: self.options.header_json }
    }

    /// Appends the change as JSON.
    pub fn write(
        &mut self,
        plan: &TablePlan,
        change: &Change<'_, '_, '_>,
        order: Option<TransactionOrder>,
        batch: &mut Batch,
    ) -> Result<(), EventError> {
        if plan.flat.as_ref().is_some_and(|flat| !flat.keeps(change)) {
            return Ok(());
        }
        let start = batch.len();
        let topic = batch.topic(&plan.topic);
        let mut record = batch.record(topic);
        self.json_key(plan, change.key, &mut record);
        match &plan.flat {
            None => record.value(|out| self.json_value(out, plan, change, order)),
            Some(flat) if flat.is_null(change) => {}
            Some(flat) => record.value(|out| self.flat_value(out, plan, flat, change, order)),
        }
        self.json_headers(plan, change, &mut record);
        if let Some(flat) = &plan.flat {
            self.flat_headers(plan, flat, change, order, &mut record);
        }
        record.finish();
        match self.lost.take() {
            None => Ok(()),
            Some((column, lost)) => {
                batch.truncate(start);
                Err(lost_error(plan, column, lost))
            }
        }
    }

    /// Appends the tombstone of a delete.
    pub fn tombstone(&mut self, plan: &TablePlan, change: &Change<'_, '_, '_>, batch: &mut Batch) {
        if plan.flat.as_ref().is_some_and(|flat| !flat.keeps_tombstones()) {
            return;
        }
        let topic = batch.topic(&plan.topic);
        let mut record = batch.record(topic);
        self.json_key(plan, change.key, &mut record);
        self.json_headers(plan, change, &mut record);
        record.finish();
    }

    /// Remembers the last column that has no value.
    fn note(&self, column: &ColumnPlan, written: Result<(), Lost>) {
        if let Err(lost) = written {
            self.lost.set(Some((column.name.clone(), lost)));
        }
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
        for header in &self.headers {
            record.header(header.name.as_bytes(), Some(&header.bytes));
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
        self.source.json_source(out, &plan.source_table, change.source);
        envelope::json_transaction(out, change.source, order);
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
        self.columns(out, plan, row);
        out.push(b'}');
    }

    /// Appends a row's fields.
    pub fn columns(&self, out: &mut Vec<u8>, plan: &TablePlan, row: Row<'_, '_>) {
        for column in &plan.columns {
            out.extend_from_slice(&column.lead);
            self.note(column, column.write_json(out, row.get(column.wire), &self.value_json));
        }
    }

    /// The change as a whole record.
    pub fn record<'a>(
        &'a self,
        plan: &'a TablePlan,
        change: &Change<'a, '_, 'a>,
        order: Option<TransactionOrder>,
    ) -> Result<Record<'a>, EventError> {
        let bad = |(column, lost): (String, Lost)| lost_error(plan, column, lost);
        let row = |row: Option<Row<'_, 'a>>| match row {
            Some(row) => struct_datum(&plan.columns, row).map_err(bad),
            None => Ok(Datum::Null),
        };
        let key_value = |key: &KeyPlan, row: Row<'_, 'a>| key_datum(key, row).map_err(bad);
        let now = change.source.now_ns;
        let value = Datum::Struct(vec![
            row(change.before)?,
            row(change.after)?,
            self.source.datum((&plan.schema, &plan.table), change.source),
            envelope::transaction_datum(change.source, order),
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
        for header in &self.headers {
            headers.push(Header {
                name: header.name.into(),
                schema: Some(Arc::clone(&self.text)),
                value: Datum::str(&header.text),
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
}

fn lost_error(plan: &TablePlan, column: String, lost: Lost) -> EventError {
    let table = plan.table_id.clone();
    match lost {
        Lost::Unconvertible => EventError::Value { table, column },
        Lost::NotSent => EventError::NotSent { table, column },
    }
}

/// The struct of a key; otherwise the column that has no value.
fn key_datum<'a>(key: &KeyPlan, row: Row<'_, 'a>) -> Result<Datum<'a>, (String, Lost)> {
    struct_datum(&key.columns, row)
}

fn struct_datum<'a>(columns: &[ColumnPlan], row: Row<'_, 'a>) -> Result<Datum<'a>, (String, Lost)> {
    let fields = columns.iter().map(|c| c.datum(row.get(c.wire)).map_err(|lost| (c.name.clone(), lost)));
    fields.collect::<Result<Vec<_>, _>>().map(Datum::Struct)
}
