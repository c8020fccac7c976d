//! The initial snapshot: every captured table, row by row, in Debezium's order and with its markers.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use smallvec::SmallVec;
use tokio_postgres::Client;

use super::offset::{Offset, SlotBinding, SnapshotState};
use super::pump::Pump;
use super::run::Run;
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

    let oids = wanted(options, captured);
    let tables = catalog::load_tables(&client, &oids).await?;
    let mut plans = Vec::with_capacity(tables.len());
    for table in &tables {
        plans.push(encoder.snapshot_plan(table, types).map_err(super::run::unusable)?);
    }
    let source = SourceInfo {
        lsn: Some(at),
        last_commit_lsn: None,
        txid,
        ts_ns: began,
        snapshot: SnapshotMarker::True,
        ..SourceInfo::default()
    };
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
        let rows = snapshot.table(&client, options, n, table).await?;
        run.status.snapshot_rows.fetch_add(rows, Ordering::Relaxed);
        tracing::info!(
            connector = options.name,
            table = format!("{}.{}", table.schema, table.name),
            rows,
            "table read"
        );
    }
    snapshot.last().await?;
    // The session must live until here: its transaction is the snapshot.
    client
        .batch_execute("COMMIT")
        .await
        .map_err(|e| sql_error("cannot end the snapshot's transaction", e))?;
    pump.offset.snapshot = SnapshotState::Completed;
    pump.sync().await?;
    Ok(at)
}

/// The tables to read, of those captured.
fn wanted(options: &CaptureOptions, captured: &[TableName]) -> Vec<u32> {
    let all = options.snapshot_tables.is_empty();
    captured
        .iter()
        .filter(|t| all || options.snapshot_tables.matches(&format!("{}.{}", t.schema, t.name)))
        .map(|t| t.oid)
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
    async fn table(
        &mut self,
        client: &Client,
        options: &CaptureOptions,
        n: usize,
        table: &TableInfo,
    ) -> Result<u64> {
        let name = format!("{}.{}", table.schema, table.name);
        let select = select(options, table, &name);
        let named = |e: Error| {
            let mut error = Error::new(e.kind(), format!("cannot read table {name} for the snapshot"));
            if let Some(next) = e.next_step() {
                error = error.next(next.to_owned());
            }
            error.with_source(e)
        };
        let mut rows = CopyReader::start(client, &select).await.map_err(named)?;
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

/// The SELECT of a table: all columns in the catalog's order, or the one the configuration gives.
fn select(options: &CaptureOptions, table: &TableInfo, name: &str) -> String {
    let columns: Vec<String> = table.columns.iter().map(|c| Ident(&c.name).to_string()).collect();
    let columns = columns.join(", ");
    match options.snapshot_overrides.iter().find(|o| o.table == name) {
        // By name: the user's statement may give the columns in another order.
        Some(own) => format!("SELECT {columns} FROM ({}) AS own", own.select),
        None => format!("SELECT {columns} FROM {}", Qualified::new(&table.schema, &table.name)),
    }
}
