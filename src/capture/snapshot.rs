//! The initial snapshot: every captured table, row by row, in Debezium's order and with its markers.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio_postgres::Client;

use super::notify::Notifier;
use super::offset::{Offset, SlotBinding, SnapshotState};
use super::pump::Pump;
use super::run::Run;
use super::signal::Request;
use super::source;
use super::stream::now_ns;
use crate::config::connector::CaptureOptions;
use crate::error::{Error, Result};
use crate::event::{Encoder, SnapshotMarker, SourceInfo, TablePlan};
use crate::pg::catalog::{self, TableInfo, TableName, TypeRegistry};
use crate::pg::pgoutput::Column;
use crate::pg::snapshot::{CopyDecoder, CopyReader, SESSION_SETTINGS};
use crate::pg::{CreatedSlot, Ident, Literal, Lsn, Qualified, sql_error};

/// A row that waits for its marker: whether it is the last is known only when the next one comes, or none.
struct Waiting {
    line: Bytes,
    table: usize,
    first_in_table: bool,
    last_in_table: bool,
}

struct Snapshot<'s> {
    encoder: &'s mut Encoder,
    pump: &'s mut Pump,
    plans: Vec<TablePlan>,
    source: SourceInfo<'static>,
    decoder: CopyDecoder,
    waiting: Option<Waiting>,
    tables: usize,
}

/// Reads the snapshot into the pump and makes it durable. Gives the LSN it stands for: what commits from there
/// on is not in it.
pub(super) async fn read(
    run: &Run,
    types: &TypeRegistry,
    encoder: &mut Encoder,
    pump: &mut Pump,
    captured: &[TableName],
    exported: Option<&CreatedSlot>,
    binding: &SlotBinding,
) -> Result<Lsn> {
    let options = &run.options;
    let client = source::connect(&run.database, options, "Debezium Snapshot").await?;
    client
        .batch_execute(SESSION_SETTINGS)
        .await
        .map_err(|e| sql_error("cannot set up the snapshot's session", e))?;
    let (at, txid) = open(&client, options, captured, exported).await?;
    let began = now_ns() / 1000 * 1000;
    let mut offset = Offset::start(at, binding.clone());
    offset.snapshot = SnapshotState::Running;
    offset.ts_usec = began / 1000;
    offset.tx_id = txid;
    pump.offset = offset;
    // Said before the first row: whoever finds this, and no completed snapshot, begins again.
    pump.sync().await?;
    crate::failpoint!("capture.snapshot_begun");

    let source = SourceInfo {
        lsn: Some(at),
        last_commit_lsn: None,
        txid,
        ts_ns: began,
        snapshot: SnapshotMarker::True,
        ..SourceInfo::default()
    };
    let notifier = Notifier::new(options);
    notifier.initial(encoder, &mut pump.batch, "STARTED", &[])?;
    let own =
        |name: &str| options.snapshot_overrides.iter().find(|o| o.table == name).map(|o| o.select.clone());
    let tables = wanted(options, captured);
    tables_into(run, &client, types, encoder, pump, &tables, source, &own).await?;
    notifier.initial(encoder, &mut pump.batch, "COMPLETED", &[])?;
    // The session must live until here: its transaction is the snapshot.
    client
        .batch_execute("COMMIT")
        .await
        .map_err(|e| sql_error("cannot end the snapshot's transaction", e))?;
    pump.offset.snapshot = SnapshotState::Completed;
    pump.sync().await?;
    Ok(at)
}

/// A table's SELECT of its own, by `schema.table`.
type Own<'s> = dyn Fn(&str) -> Option<String> + Sync + 's;

/// Reads tables one after the other, marked as one snapshot.
#[allow(clippy::too_many_arguments)]
async fn tables_into(
    run: &Run,
    client: &Client,
    types: &TypeRegistry,
    encoder: &mut Encoder,
    pump: &mut Pump,
    names: &[TableName],
    source: SourceInfo<'static>,
    own: &Own<'_>,
) -> Result<()> {
    let options = &run.options;
    let oids: Vec<u32> = names.iter().map(|t| t.oid).collect();
    let tables = catalog::load_tables(client, &oids).await?;
    let mut plans = Vec::with_capacity(tables.len());
    for table in &tables {
        plans.push(encoder.snapshot_plan(table, types).map_err(super::run::unusable)?);
    }
    let all = names.iter().map(|t| format!("{}.{}", t.schema, t.name)).collect::<Vec<_>>().join(", ");
    let notifier = Notifier::new(options);
    let mut snapshot = Snapshot {
        encoder,
        pump,
        plans,
        source,
        decoder: CopyDecoder::new(),
        waiting: None,
        tables: tables.len(),
    };
    for (n, table) in tables.iter().enumerate() {
        let name = format!("{}.{}", table.schema, table.name);
        let data = [("data_collections", all.clone()), ("current_collection_in_progress", name.clone())];
        notifier.initial(snapshot.encoder, &mut snapshot.pump.batch, "IN_PROGRESS", &data)?;
        let columns = all_columns(table);
        let statement = match own(&name) {
            // By name: the user's statement may give the columns in another order.
            Some(own) => format!("SELECT {columns} FROM ({}) AS own", own.trim_end_matches(';')),
            None => format!("SELECT {columns} FROM {}", Qualified::new(&table.schema, &table.name)),
        };
        let rows = snapshot.table(client, n, &name, &statement).await?;
        run.status.snapshot_rows.fetch_add(rows, Ordering::Relaxed);
        tracing::info!(connector = options.name, table = name, rows, "table read");
        let data = [
            ("data_collections", all.clone()),
            ("scanned_collection", name),
            ("total_rows_scanned", rows.to_string()),
            ("status", "SUCCEEDED".to_owned()),
        ];
        notifier.initial(snapshot.encoder, &mut snapshot.pump.batch, "TABLE_SCAN_COMPLETED", &data)?;
    }
    snapshot.last().await
}

/// Where in the stream a blocking snapshot stands.
pub(super) struct Place {
    pub(super) lsn: Lsn,
    pub(super) last_commit: Option<Lsn>,
    pub(super) txid: Option<u64>,
}

/// Reads tables again while the stream waits (a blocking snapshot).
pub(super) async fn read_again(
    run: &Run,
    types: &TypeRegistry,
    encoder: &mut Encoder,
    pump: &mut Pump,
    tables: &[TableName],
    request: &Request,
    place: &Place,
) -> Result<()> {
    let options = &run.options;
    let client = source::connect(&run.database, options, "Debezium Snapshot").await?;
    client
        .batch_execute(SESSION_SETTINGS)
        .await
        .map_err(|e| sql_error("cannot set up the snapshot's session", e))?;
    open(&client, options, tables, None).await?;
    let source = SourceInfo {
        lsn: Some(place.lsn),
        last_commit_lsn: place.last_commit,
        txid: place.txid,
        ts_ns: now_ns() / 1000 * 1000,
        snapshot: SnapshotMarker::True,
        ..SourceInfo::default()
    };
    let own = |name: &str| request.filter(name).map(str::to_owned);
    tables_into(run, &client, types, encoder, pump, tables, source, &own).await?;
    client.batch_execute("COMMIT").await.map_err(|e| sql_error("cannot end the snapshot's transaction", e))
}

/// The tables to read, of those captured.
fn wanted(options: &CaptureOptions, captured: &[TableName]) -> Vec<TableName> {
    let all = options.snapshot_tables.is_empty();
    captured
        .iter()
        .filter(|t| all || options.snapshot_tables.matches(&format!("{}.{}", t.schema, t.name)))
        .cloned()
        .collect()
}

/// Opens the snapshot's transaction and gives its LSN and transaction id.
async fn open(
    client: &Client,
    options: &CaptureOptions,
    captured: &[TableName],
    exported: Option<&CreatedSlot>,
) -> Result<(Lsn, Option<u64>)> {
    let fail = |e| sql_error("cannot begin the snapshot's transaction", e);
    let begin = match exported {
        Some(CreatedSlot { snapshot_name: Some(name), .. }) => {
            format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT {}", Literal(name))
        }
        Some(_) => return Err(Error::internal("the new slot exported no snapshot")),
        None => format!("BEGIN ISOLATION LEVEL {}", options.snapshot_isolation),
    };
    client.batch_execute(&begin).await.map_err(fail)?;
    if options.snapshot_locks && !captured.is_empty() {
        let tables: Vec<String> =
            captured.iter().map(|t| Qualified::new(&t.schema, &t.name).to_string()).collect();
        let lock = format!(
            "SET LOCAL lock_timeout = {}; LOCK TABLE {} IN ACCESS SHARE MODE",
            options.snapshot_lock_timeout.as_millis(),
            tables.join(", ")
        );
        client.batch_execute(&lock).await.map_err(|e| sql_error("cannot lock the captured tables", e))?;
    }
    // A standby has no transaction ids to give.
    let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN 0 ELSE txid_current() & 4294967295 END";
    let row = client.query_one(sql, &[]).await;
    let txid = match row {
        Ok(row) => u64::try_from(row.get::<_, i64>(0)).ok(),
        // A read-only session may not take one either.
        Err(e) if e.as_db_error().is_some() && options.read_only => None,
        Err(e) => return Err(fail(e)),
    };
    let at = match exported {
        Some(slot) => slot.consistent_point,
        None => source::current_lsn(client).await?,
    };
    Ok((at, txid))
}

impl Snapshot<'_> {
    async fn table(&mut self, client: &Client, n: usize, name: &str, select: &str) -> Result<u64> {
        let named = |e: Error| {
            let mut error = Error::new(e.kind(), format!("cannot read table {name} for the snapshot"));
            if let Some(next) = e.next_step() {
                error = error.next(next.to_owned());
            }
            error.with_source(e)
        };
        let mut rows = CopyReader::start(client, select).await.map_err(named)?;
        let mut count = 0u64;
        while let Some(line) = rows.next_line().await.map_err(named)? {
            self.push(line, n, count == 0).await?;
            count += 1;
        }
        if let Some(waiting) = self.waiting.as_mut().filter(|w| w.table == n) {
            waiting.last_in_table = true;
        }
        Ok(count)
    }

    /// Takes a row; the one before it is encoded now that it is known not to be the last.
    async fn push(&mut self, line: Bytes, table: usize, first_in_table: bool) -> Result<()> {
        let waiting = Waiting { line, table, first_in_table, last_in_table: false };
        if let Some(before) = self.waiting.replace(waiting) {
            self.encode(&before, false)?;
        }
        if self.pump.is_full() {
            crate::failpoint!("capture.snapshot_batch");
            self.pump.flush().await?;
        }
        Ok(())
    }

    /// The very last row of the snapshot, whatever table it is of.
    async fn last(&mut self) -> Result<()> {
        if let Some(last) = self.waiting.take() {
            self.encode(&last, true)?;
        }
        Ok(())
    }

    fn encode(&mut self, waiting: &Waiting, last: bool) -> Result<()> {
        let first_table = waiting.table == 0;
        self.source.snapshot = if last || (waiting.last_in_table && waiting.table + 1 == self.tables) {
            SnapshotMarker::Last
        } else if waiting.first_in_table && first_table {
            SnapshotMarker::First
        } else if waiting.last_in_table {
            SnapshotMarker::LastInDataCollection
        } else if waiting.first_in_table {
            SnapshotMarker::FirstInDataCollection
        } else {
            SnapshotMarker::True
        };
        self.source.now_ns = now_ns();
        let Some(plan) = self.plans.get(waiting.table) else { return Ok(()) };
        let columns: SmallVec<[Column<'_>; 32]> = self.decoder.decode(&waiting.line)?.iter().collect();
        self.encoder.read(plan, &columns, &self.source, &mut self.pump.batch).map_err(|e| {
            Error::data(format!("a row of table {} cannot be made an event", plan.table_id())).because(e)
        })?;
        Ok(())
    }
}

/// All columns in the catalog's order.
fn all_columns(table: &TableInfo) -> String {
    table.columns.iter().map(|c| Ident(&c.name).to_string()).collect::<Vec<_>>().join(", ")
}
