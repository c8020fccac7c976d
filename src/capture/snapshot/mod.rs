//! The initial snapshot: every captured table, row by row, in Debezium's order and with its markers; and blocking
//! snapshots, which read tables again while the stream waits.
//!
//! [`progress`] is what a killed snapshot goes on from, [`rows`] turns rows into events, [`ranges`] cuts tables,
//! [`parallel`] reads with several connections.

mod parallel;
pub(super) mod progress;
mod ranges;
mod rows;

use tokio_postgres::Client;

use self::progress::{FIELD, Past, Progress};
pub(super) use self::ranges::is_integer;
use self::rows::{Rows, Table};
use super::keys::{all_columns, name_of};
use super::notify::{Notifier, unordered};
use super::offset::{Offset, SlotBinding, SnapshotState};
use super::pump::Pump;
use super::run::Run;
use super::signal::Request;
use super::source;
use super::status::SnapshotStatus;
use super::stream::now_ns;
use crate::config::connector::CaptureOptions;
use crate::error::{Error, Result};
use crate::event::{Encoder, SnapshotMarker, SourceInfo};
use crate::pg::catalog::{self, TableName, TypeRegistry};
use crate::pg::snapshot::SESSION_SETTINGS;
use crate::pg::{CreatedSlot, Literal, Lsn, Qualified, sql_error};

/// What an initial snapshot stands on.
pub(super) enum Basis<'s> {
    /// A new slot's exported snapshot.
    Slot(&'s CreatedSlot),
    /// A killed snapshot's slot, which still holds what came since: what is left is read under a new snapshot.
    Killed(Progress),
    /// An ordinary transaction; nothing is streamed afterwards.
    Transaction,
}

/// What the offset says of a snapshot under way.
pub(super) fn under_way(offset: &Offset) -> Option<Progress> {
    Progress::from_value(offset.extra.get(FIELD)?)
}

/// Reads the snapshot into the pump and makes it durable. Gives the LSN it stands for: what commits from there
/// on is not in it.
pub(super) async fn read(
    run: &Run,
    types: &TypeRegistry,
    encoder: &mut Encoder,
    pump: &mut Pump,
    captured: &[TableName],
    basis: Basis<'_>,
    binding: &SlotBinding,
) -> Result<Lsn> {
    let options = &run.options;
    let client = session(run).await?;
    let exported = match &basis {
        Basis::Slot(slot) => Some(*slot),
        Basis::Killed(_) | Basis::Transaction => None,
    };
    let exact = !matches!(basis, Basis::Transaction);
    let (mut at, txid) = open(&client, options, captured, exported, exact).await?;
    let (progress, resumed) = match basis {
        Basis::Killed(mut progress) => {
            progress.snapshots.push(seen(&client).await?);
            // What is read now is of later WAL than the stream begins with.
            pump.offset.content = pump.offset.content.max(at);
            at = pump.offset.restart;
            (Some(progress), true)
        }
        Basis::Slot(_) => (Some(Progress::new()), false),
        Basis::Transaction => (Some(Progress::new()), false),
    };
    let notifier = Notifier::new(options);
    notifier.initial(encoder, &mut pump.batch, "STARTED", &[])?;
    if resumed {
        pump.flush().await?;
    } else {
        let mut offset = Offset::start(at, binding.clone());
        offset.snapshot = SnapshotState::Running;
        offset.ts_usec = now_ns() / 1000;
        offset.tx_id = txid;
        if let Some(progress) = &progress {
            offset.extra.insert(FIELD.to_owned(), progress.to_value());
        }
        pump.offset = offset;
        // Said before the first row: whoever finds this knows that a snapshot is to be finished.
        pump.sync().await?;
    }
    crate::failpoint!("capture.snapshot_begun");

    let source = SourceInfo {
        lsn: Some(at),
        last_commit_lsn: None,
        txid: pump.offset.tx_id,
        ts_ns: pump.offset.ts_usec * 1000,
        snapshot: SnapshotMarker::True,
        ..SourceInfo::default()
    };
    let own =
        |name: &str| options.snapshot_overrides.iter().find(|o| o.table == name).map(|o| o.select.clone());
    let tables = wanted(options, captured);
    let all = listed(options, captured, |name| is_wanted(options, name));
    let read = tables_into(run, &client, types, encoder, pump, &tables, source, &own, progress, all).await;
    let progress = match read {
        Ok((progress, _)) => progress,
        Err(error) => {
            if !error.is_transient() {
                // Of what is in the batch it is not noted how far it reaches.
                pump.batch.truncate(0);
                notifier.initial(encoder, &mut pump.batch, "ABORTED", &[])?;
                // Where the log is what failed it cannot be told there either.
                if pump.flush().await.is_ok() && pump.in_flight() {
                    let _ = pump.settle().await;
                }
            }
            return Err(error);
        }
    };
    notifier.initial(encoder, &mut pump.batch, "COMPLETED", &[])?;
    // The session must live until here: its transaction is the snapshot.
    client
        .batch_execute("COMMIT")
        .await
        .map_err(|e| sql_error("cannot end the snapshot's transaction", e))?;
    pump.offset.extra.remove(FIELD);
    if let Some(mut progress) = progress
        && progress.reduce()
    {
        pump.offset.extra.insert(FIELD.to_owned(), progress.to_value());
    }
    pump.offset.snapshot = SnapshotState::Completed;
    crate::failpoint!("capture.snapshot_completing");
    pump.sync().await?;
    run.status.snapshot(None);
    Ok(at)
}

/// A table's SELECT of its own, by `schema.table`.
type Own<'s> = dyn Fn(&str) -> Option<String> + Sync + 's;

/// Tables that a blocking snapshot has left, each with its reason.
pub(super) type Left = Vec<(String, Error)>;

/// Does something for one table. In a blocking snapshot a failure that is the table's own leaves the transaction as it
/// was, so that the next table can be read.
async fn guarded<T>(
    client: &Client,
    initial: bool,
    work: impl Future<Output = Result<T>>,
) -> Result<std::result::Result<T, Error>> {
    if initial {
        return work.await.map(Ok);
    }
    let fail = |e| sql_error("cannot set a savepoint for the snapshot", e);
    client.batch_execute("SAVEPOINT millstream_table").await.map_err(fail)?;
    let done = work.await;
    let end = match &done {
        Ok(_) => "RELEASE SAVEPOINT millstream_table",
        Err(error) if !error.is_transient() => {
            "ROLLBACK TO SAVEPOINT millstream_table; RELEASE SAVEPOINT millstream_table"
        }
        Err(_) => return done.map(Ok),
    };
    client.batch_execute(end).await.map_err(fail)?;
    Ok(done)
}

/// Reads tables, marked as one snapshot. An initial one fails with the first table that cannot be read; a blocking one
/// leaves it.
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
    progress: Option<Progress>,
    all: String,
) -> Result<(Option<Progress>, Left)> {
    let options = &run.options;
    let oids: Vec<u32> = names.iter().map(|t| t.oid).collect();
    let infos = catalog::load_tables(client, &oids).await?;
    let these = unordered(names.iter().map(|t| format!("{}.{}", t.schema, t.name)));
    let mut rows = Rows::new(run, encoder, pump, source, progress, (these, all));
    let mut estimate = 0;
    let initial = rows.is_initial();
    for info in infos {
        let name = format!("{}.{}", info.schema, info.name);
        let columns = all_columns(&info);
        let own = own(&name);
        let is_own = own.is_some();
        let select = match own {
            // By name: the user's statement may give the columns in another order.
            Some(own) => format!("SELECT {columns} FROM ({}) AS own", own.trim_end().trim_end_matches(';')),
            None => format!("SELECT {columns} FROM {}", name_of(&info)),
        };
        let plan = rows.encoder.snapshot_plan(&info, types).map_err(super::run::unusable)?;
        match guarded(client, initial, ranges::facts(client, info.oid, &name, &select)).await? {
            Ok(facts) => {
                estimate += facts.rows;
                rows.add(Table::new(info, plan, name, select, is_own, facts));
            }
            Err(error) => rows.leave(name, 0, error)?,
        }
    }
    run.status.snapshot(Some(SnapshotStatus::new(rows.tables.len(), estimate)));
    if options.snapshot_threads > 1 && rows.is_initial() {
        rows.parallel = true;
        parallel::read(run, client, &mut rows).await?;
    } else {
        for n in 0..rows.tables.len() {
            if let Err(error) = guarded(client, initial, rows.table(client, n)).await? {
                rows.leave_begun(n, error)?;
            }
        }
    }
    rows.last().await
}

/// A session for reading rows.
async fn session(run: &Run) -> Result<Client> {
    let client = source::connect(&run.database, &run.options, "Debezium Snapshot").await?;
    client
        .batch_execute(SESSION_SETTINGS)
        .await
        .map_err(|e| sql_error("cannot set up the snapshot's session", e))?;
    Ok(client)
}

/// Where in the stream a blocking snapshot stands.
pub(super) struct Place {
    pub(super) lsn: Lsn,
    pub(super) last_commit: Option<Lsn>,
    pub(super) txid: Option<u64>,
}

/// Reads tables again while the stream waits (a blocking snapshot). Gives those that could not be read.
pub(super) async fn read_again(
    run: &Run,
    types: &TypeRegistry,
    encoder: &mut Encoder,
    pump: &mut Pump,
    captured: &[TableName],
    request: &Request,
    place: &Place,
) -> Result<Left> {
    let options = &run.options;
    let client = session(run).await?;
    let asked = |name: &str| request.tables.iter().any(|p| p.matches(name));
    let tables: Vec<TableName> = captured
        .iter()
        .filter(|t| {
            !options.tables.is_signal(&t.schema, &t.name) && asked(&format!("{}.{}", t.schema, t.name))
        })
        .cloned()
        .collect();
    let (at, _) = open(&client, options, &tables, None, false).await?;
    // A standby that has not received this WAL cannot be gone on with.
    pump.offset.content = pump.offset.content.max(at);
    let source = SourceInfo {
        lsn: Some(place.lsn),
        last_commit_lsn: place.last_commit,
        txid: place.txid,
        ts_ns: now_ns() / 1000 * 1000,
        snapshot: SnapshotMarker::True,
        ..SourceInfo::default()
    };
    let own = |name: &str| request.filter(name).map(str::to_owned);
    let notifier = Notifier::new(options);
    notifier.initial(encoder, &mut pump.batch, "STARTED", &[])?;
    let all = listed(options, captured, asked);
    let (_, left) = tables_into(run, &client, types, encoder, pump, &tables, source, &own, None, all).await?;
    // Below repeatable read later statements see more.
    pump.offset.content = pump.offset.content.max(source::current_lsn(&client).await?);
    if left.is_empty() {
        notifier.initial(encoder, &mut pump.batch, "COMPLETED", &[])?;
    } else {
        let names = left.iter().map(|(table, _)| table.as_str()).collect::<Vec<_>>().join(",");
        notifier.initial(encoder, &mut pump.batch, "ABORTED", &[("data_collections", names)])?;
    }
    client
        .batch_execute("COMMIT")
        .await
        .map_err(|e| sql_error("cannot end the snapshot's transaction", e))?;
    Ok(left)
}

/// The captured tables and the signal table, in the order of a snapshot, as notifications list them.
fn listed(options: &CaptureOptions, captured: &[TableName], asked: impl Fn(&str) -> bool) -> String {
    let mut names: Vec<(&str, &str)> =
        captured.iter().map(|t| (t.schema.as_str(), t.name.as_str())).collect();
    if let Some(signal) = options.signal_table.as_deref().and_then(|name| name.split_once('.'))
        && !names.contains(&signal)
    {
        names.push(signal);
    }
    names.sort_by_cached_key(|(schema, name)| options.tables.snapshot_order(schema, name));
    let names = names.iter().map(|(schema, name)| format!("{schema}.{name}"));
    names.filter(|name| asked(name)).collect::<Vec<_>>().join(",")
}

/// `snapshot.include.collection.list`.
fn is_wanted(options: &CaptureOptions, name: &str) -> bool {
    options.snapshot_tables.is_empty() || options.snapshot_tables.matches(name)
}

/// The tables to read, of those captured. Signals are never read again.
fn wanted(options: &CaptureOptions, captured: &[TableName]) -> Vec<TableName> {
    captured
        .iter()
        .filter(|t| !options.tables.is_signal(&t.schema, &t.name))
        .filter(|t| is_wanted(options, &format!("{}.{}", t.schema, t.name)))
        .cloned()
        .collect()
}

/// Opens the snapshot's transaction and gives its LSN and transaction id. `exact`: one snapshot for all statements,
/// whatever isolation the configuration asks for.
async fn open(
    client: &Client,
    options: &CaptureOptions,
    captured: &[TableName],
    exported: Option<&CreatedSlot>,
    exact: bool,
) -> Result<(Lsn, Option<u64>)> {
    let fail = |e| sql_error("cannot begin the snapshot's transaction", e);
    let begin = match exported {
        Some(CreatedSlot { snapshot_name: Some(name), .. }) => {
            format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT {}", Literal(name))
        }
        Some(_) => return Err(Error::internal("the new slot exported no snapshot")),
        None if exact => "BEGIN ISOLATION LEVEL REPEATABLE READ".to_owned(),
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

/// What the transaction's snapshot has seen. The LSN is read after the snapshot was taken: what commits behind it
/// was not seen.
pub(super) async fn seen(client: &Client) -> Result<Past> {
    let sql = "SELECT txid_current_snapshot()::text, (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
               ELSE pg_current_wal_insert_lsn() END)::text";
    let row = client.query_one(sql, &[]).await.map_err(|e| sql_error("cannot read the snapshot", e))?;
    let (seen, until): (String, Option<String>) = (row.get(0), row.get(1));
    let until = until.and_then(|t| t.parse().ok());
    let until = until.ok_or_else(|| Error::internal("the server's WAL position cannot be read"))?;
    Ok(Past { seen: Some(seen), until })
}
