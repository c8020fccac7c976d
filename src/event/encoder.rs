//! Rows in, records out.

use std::sync::Arc;

use super::datum::Datum;
use super::flat::Shortcut;
use super::options::Converter;
use super::plan::{self, TablePlan};
use super::record::{Pipeline, Record};
use super::source::{SnapshotMarker, TransactionOrder};
use super::writer::{Change, Row, Writer};
use super::{EventError, EventOptions, SourceInfo, TransactionCounter};
use crate::log::Batch;
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

/// How the records of a table are made.
enum Way {
    /// From the row's bytes into the batch.
    Written,
    /// From the row's bytes, then through the pipeline for topic and headers.
    Forwarded,
    /// As whole records, through the pipeline.
    Whole,
}

/// Memory kept for what is written before it goes through the pipeline, in bytes.
const SCRATCH: usize = 1 << 20;

/// Makes Debezium's records from rows. One per connector; keeps scratch memory.
///
/// Rows are slices of columns in the order of the plan: for a stream that of the Relation message, for a
/// snapshot that of [`TableInfo::columns`] (generated columns included). All methods append to the batch and say
/// how many records that made; on an error the batch is as it was.
pub struct Encoder {
    pub(super) writer: Writer,
    pipeline: Option<Box<dyn Pipeline>>,
    /// What stands for the pipeline where a table's rows need no record as a whole.
    shortcut: Option<Shortcut>,
    /// What is written before it goes through the pipeline; empty between changes.
    scratch: Batch,
    counter: TransactionCounter,
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

    /// Writes rows straight from their bytes, where nothing in the pipeline needs them as whole records; both
    /// converters are JSON.
    pub fn shortcut(mut self, shortcut: Shortcut) -> Self {
        self.shortcut = Some(shortcut);
        self
    }

    fn flat(&self, mut plan: TablePlan) -> TablePlan {
        let flattening = self.shortcut.as_ref().and_then(|s| s.flattening.as_ref());
        plan.flat = flattening.and_then(|f| f.plan(&plan, &self.writer.value_json));
        plan
    }

    fn way(&self, plan: &TablePlan) -> Way {
        match (&self.pipeline, &self.shortcut) {
            (None, _) => Way::Written,
            (Some(_), Some(shortcut)) if plan.flat.is_some() || shortcut.flattening.is_none() => {
                if shortcut.forwards { Way::Forwarded } else { Way::Written }
            }
            _ => Way::Whole,
        }
    }

    fn build(options: EventOptions, pipeline: Option<Box<dyn Pipeline>>) -> Self {
        let schemas = super::special::Schemas::new(&options);
        Self {
            schemas,
            writer: Writer::new(Arc::new(options)),
            pipeline,
            shortcut: None,
            scratch: Batch::new(),
            counter: TransactionCounter::default(),
        }
    }

    /// The options.
    pub fn options(&self) -> &EventOptions {
        &self.writer.options
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
        plan::stream(&self.writer.options, relation, table, types).map(|plan| self.flat(plan))
    }

    /// The plan of a table's snapshot: rows hold all columns of the description, in its order.
    pub fn snapshot_plan(&self, table: &TableInfo, types: &TypeRegistry) -> Result<TablePlan, EventError> {
        plan::snapshot(&self.writer.options, table, types).map(|plan| self.flat(plan))
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
        if self.writer.options.skipped.create {
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
        if self.writer.options.skipped.update {
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
        if let (true, Some(old)) = (self.writer.options.skip_unchanged, old_columns) {
            let same = |wire: usize| after.get(wire) == old.get(wire).copied().unwrap_or(Column::Null);
            if plan.columns.iter().all(|c| same(c.wire)) {
                return Ok(0);
            }
        }
        let before = old_columns.map(Row::new);
        let changed = match (before, &plan.key) {
            (Some(before), Some(key)) => self.writer.keys_differ(key, before, after),
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
            if !self.writer.options.skipped.delete {
                self.write(plan, &delete, batch)?;
                if self.writer.options.tombstones {
                    self.tombstone(plan, &delete, batch)?;
                }
            }
            if self.writer.options.skipped.create {
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
        if self.writer.options.skipped.delete {
            return Ok(0);
        }
        let row = Row::new(old.columns());
        let change =
            Change { op: "d", before: Some(row), after: None, key: Some(row), key_header: None, source };
        let start = batch.len();
        self.write(plan, &change, batch)?;
        if self.writer.options.tombstones {
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
        if self.writer.options.skipped.truncate {
            return Ok(0);
        }
        let change = Change { op: "t", before: None, after: None, key: None, key_header: None, source };
        self.write(plan, &change, batch)?;
        Ok(1)
    }

    /// The order of this event, counted where transaction metadata is on.
    fn order(&mut self, table_id: &str, source: &SourceInfo<'_>) -> Option<TransactionOrder> {
        let counts = self.writer.options.transaction_metadata
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
        let way = self.way(plan);
        let Self { writer, pipeline, scratch, .. } = self;
        match (pipeline, way) {
            (Some(pipeline), Way::Whole) => {
                let record = writer.record(plan, change, order)?;
                run(pipeline.as_mut(), record, batch)
            }
            (Some(pipeline), Way::Forwarded) => {
                writer.write(plan, change, order, scratch)?;
                let null = plan.flat.as_ref().is_some_and(|flat| flat.leaves_null(change));
                forward(pipeline.as_mut(), scratch, null, batch)
            }
            _ => writer.write(plan, change, order, batch),
        }
    }

    fn tombstone(
        &mut self,
        plan: &TablePlan,
        change: &Change<'_, '_, '_>,
        batch: &mut Batch,
    ) -> Result<(), EventError> {
        let way = self.way(plan);
        let Self { writer, pipeline, scratch, .. } = self;
        match (pipeline, way) {
            (Some(pipeline), Way::Whole) => {
                let mut record = writer.record(plan, change, None)?;
                record.value = Datum::Null;
                record.value_schema = None;
                run(pipeline.as_mut(), record, batch)
            }
            (Some(pipeline), Way::Forwarded) => {
                writer.tombstone(plan, change, scratch);
                forward(pipeline.as_mut(), scratch, true, batch)
            }
            _ => {
                writer.tombstone(plan, change, batch);
                Ok(())
            }
        }
    }

    /// Has records counted that the pipeline leaves out because they could not be done.
    #[must_use]
    pub fn counting_skipped(mut self, counter: std::sync::Arc<std::sync::atomic::AtomicU64>) -> Self {
        if let Some(pipeline) = &mut self.pipeline {
            pipeline.count_skipped(counter);
        }
        self
    }

    /// Sends a record through the pipeline, or writes it as JSON.
    pub(super) fn process(&mut self, record: Record<'_>, batch: &mut Batch) -> Result<(), EventError> {
        match &mut self.pipeline {
            Some(pipeline) => run(pipeline.as_mut(), record, batch),
            None => {
                self.writer.converters().write(&record, batch);
                Ok(())
            }
        }
    }
}

fn run(pipeline: &mut dyn Pipeline, record: Record<'_>, batch: &mut Batch) -> Result<(), EventError> {
    let start = batch.len();
    pipeline.process(record, batch).inspect_err(|_| batch.truncate(start))
}

/// Sends what is written through the pipeline.
fn forward(
    pipeline: &mut dyn Pipeline,
    written: &mut Batch,
    null: bool,
    batch: &mut Batch,
) -> Result<(), EventError> {
    let start = batch.len();
    let result = written.iter().try_for_each(|record| pipeline.forward(&record, null, batch));
    written.clear();
    written.shrink(SCRATCH);
    result.inspect_err(|_| batch.truncate(start))
}

fn check(plan: &TablePlan, row: &[Column<'_>]) -> Result<(), EventError> {
    if row.len() == plan.width {
        return Ok(());
    }
    Err(EventError::ColumnCount { table: plan.table_id.clone(), expected: plan.width, found: row.len() })
}
