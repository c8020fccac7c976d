//! Incremental snapshots: tables read again in chunks beside the stream, after Netflix's DBLog, as Debezium
//! does it with a signal table.
//!
//! Around the reading of a chunk two rows go into the signal table. Between those two in the stream lies the
//! moment of the reading: whatever the stream says of a row there is newer than, or the same as, what the
//! chunk holds, and takes the row out of it. What is left when the second row comes is sent as reads. A transaction
//! may stand before the first row and yet not be visible when the chunk is read: a chunk is only read when all is
//! visible that the stream has shown by then, and what comes later counts from the reading on.
//!
//! Where nothing may be written (`read.only`, or no signal table), each chunk is read under a snapshot of its own.
//! It waits until the stream has passed all that the snapshot has seen; what the stream says beyond that takes
//! rows out of it.

mod chunk;
mod stored;
mod window;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;
use tokio_postgres::Client;

use self::chunk::{Mark, Row, Scan, Target, set_up};
pub(super) use self::window::Streamed;
use self::window::{Bounds, Window};
use super::keys::Key;
use super::notify::{Notifier, as_in_schema, unordered};
use super::pump::Pump;
use super::reconcile::Seen;
use super::shown::Shown;
use super::signal::Request;
use super::snapshot;
use super::snapshot::progress::Past;
use super::stream::{Table, now_ns};
use crate::config::connector::CaptureOptions;
use crate::error::{Error, Result};
use crate::event::{Encoder, SnapshotMarker, SourceInfo};
use crate::java::regex_list::RegexList;
use crate::pg::catalog::{TableInfo, TypeRegistry};
use crate::pg::pgoutput::{Column, Message};
use crate::pg::snapshot::CopyDecoder;
use crate::pg::{Lsn, sql_error, sqlstate};

/// All incremental snapshots of a connector.
#[derive(Default)]
pub(super) struct Incremental {
    queue: VecDeque<Target>,
    correlation: Option<String>,
    scan: Option<Scan>,
    window: Option<Window>,
    paused: bool,
    decoder: CopyDecoder,
    /// Where the table at the front was when the connector stopped.
    resumed: Option<(Key, Option<Key>)>,
    /// A chunk waits for the stream to pass it, and the server was not asked how far it is.
    ask: bool,
    /// No snapshot saw all that the stream has shown: the next chunk is tried again later.
    put_off: bool,
    /// What is to be given up after the present chunk: these tables, or all.
    stops: Vec<Option<RegexList>>,
}

/// What reading a chunk needs.
pub(super) struct Tools<'t> {
    pub(super) client: &'t Client,
    pub(super) options: &'t CaptureOptions,
    pub(super) types: &'t TypeRegistry,
    pub(super) encoder: &'t mut Encoder,
    pub(super) shown: &'t mut Shown,
    pub(super) pump: &'t mut Pump,
    pub(super) notifier: &'t Notifier,
    pub(super) streamed: Streamed,
}

impl Incremental {
    /// Whether tables wait or are being read.
    pub(super) fn is_running(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether tables wait for `resume-snapshot`.
    pub(super) fn is_paused(&self) -> bool {
        self.paused && self.is_running()
    }

    /// Whether a window is open: what the stream says then counts.
    pub(super) fn is_open(&self) -> bool {
        self.window.as_ref().is_some_and(|w| !w.rows.is_empty())
    }

    /// Whether a chunk waits for the stream to come to some place, which `reached` says it has.
    pub(super) fn is_ripe(&self, reached: Lsn) -> bool {
        self.window.as_ref().is_some_and(|w| match w.bounds {
            Bounds::Rows { .. } => false,
            Bounds::Snapshot { until, .. } => until <= reached,
        })
    }

    /// Whether a chunk waits for the stream to come somewhere. On a quiet server it may have to be asked more than
    /// once: what it has written last it sends only when it has flushed it.
    pub(super) fn is_waiting(&self) -> bool {
        self.window.as_ref().is_some_and(|w| matches!(w.bounds, Bounds::Snapshot { .. }))
    }

    /// Whether the next chunk is to be tried again.
    pub(super) fn is_put_off(&self) -> bool {
        self.put_off
    }

    /// Whether the server is to be asked how far it is, for a new chunk.
    pub(super) fn asks(&mut self) -> bool {
        std::mem::take(&mut self.ask)
    }

    /// Sends a chunk that the stream has passed, and reads the next one.
    pub(super) async fn passed(&mut self, lsn: Lsn, tools: &mut Tools<'_>) -> Result<()> {
        self.emit(lsn, tools)?;
        if self.is_running() && !self.paused { self.next_chunk(tools).await } else { Ok(()) }
    }

    fn collections(&self) -> String {
        self.queue.iter().map(Target::id).collect::<Vec<_>>().join(",")
    }

    /// Adds tables, also such as wait already; begins where nothing is under way. Notifications go by the last signal.
    pub(super) async fn execute(
        &mut self,
        id: &str,
        request: &Request,
        mut captured: Vec<(String, String)>,
        tools: &mut Tools<'_>,
    ) -> Result<()> {
        let idle = self.queue.is_empty();
        as_in_schema(&mut captured);
        for pattern in &request.tables {
            let mut names: Vec<(String, String)> =
                captured.iter().filter(|(s, n)| pattern.matches(&format!("{s}.{n}"))).cloned().collect();
            if names.is_empty() {
                // Listed as it stands, and found to be unknown when its turn comes.
                let (schema, name) = pattern.text.split_once('.').unwrap_or(("", &pattern.text));
                names.push((schema.to_owned(), name.to_owned()));
            }
            for (schema, name) in names {
                let condition = request.filter(&format!("{schema}.{name}")).map(str::to_owned);
                let surrogate = request.surrogate.clone();
                self.queue.push_back(Target { schema, name, condition, surrogate });
            }
        }
        if !self.queue.is_empty() {
            self.correlation = Some(id.to_owned());
        }
        if !idle || self.queue.is_empty() {
            self.store(&mut tools.pump.offset);
            return Ok(());
        }
        self.paused = false;
        self.notify(tools, "STARTED", &[("data_collections", self.collections())])?;
        // Killed from here on, it begins again with the signal's own event in the log.
        self.store(&mut tools.pump.offset);
        self.next_chunk(tools).await
    }

    /// Gives up tables, once the present chunk is sent.
    pub(super) fn stop(&mut self, which: Option<RegexList>, tools: &mut Tools<'_>) -> Result<()> {
        self.stops.push(which);
        if self.window.is_none() { self.give_up(tools) } else { Ok(()) }
    }

    fn give_up(&mut self, tools: &mut Tools<'_>) -> Result<()> {
        for which in std::mem::take(&mut self.stops) {
            if self.queue.is_empty() {
                continue;
            }
            let front = self.queue.front().map(Target::id);
            let (gone, left): (VecDeque<Target>, VecDeque<Target>) = std::mem::take(&mut self.queue)
                .into_iter()
                .partition(|t| which.as_ref().is_none_or(|p| p.matches(&t.id())));
            self.queue = left;
            if self.queue.front().map(Target::id) != front {
                self.scan = None;
                self.resumed = None;
            }
            if self.queue.is_empty() {
                self.notify(tools, "COMPLETED", &[])?;
                self.correlation = None;
            }
            let gone = unordered(gone.iter().map(Target::id));
            self.notify(tools, "ABORTED", &[("data_collections", gone)])?;
            self.store(&mut tools.pump.offset);
        }
        Ok(())
    }

    /// Pauses after the present chunk.
    pub(super) fn pause(&mut self, tools: &mut Tools<'_>) -> Result<()> {
        if self.is_running() && !std::mem::replace(&mut self.paused, true) {
            self.notify(tools, "PAUSED", &[("data_collections", self.collections())])?;
            self.store(&mut tools.pump.offset);
        }
        Ok(())
    }

    /// Goes on after a pause.
    pub(super) async fn go_on(&mut self, tools: &mut Tools<'_>) -> Result<()> {
        if std::mem::replace(&mut self.paused, false) {
            self.notify(tools, "RESUMED", &[("data_collections", self.collections())])?;
            self.store(&mut tools.pump.offset);
        }
        self.restart(tools).await
    }

    /// Goes on after a restart.
    pub(super) async fn restart(&mut self, tools: &mut Tools<'_>) -> Result<()> {
        let free = self.is_running() && !self.paused && self.window.is_none();
        if free { self.next_chunk(tools).await } else { Ok(()) }
    }

    /// One of the connector's own rows of the signal table came by in the stream.
    pub(super) async fn window_row(
        &mut self,
        id: &str,
        deleted: bool,
        lsn: Lsn,
        tools: &mut Tools<'_>,
    ) -> Result<()> {
        let Some(Window { bounds: Bounds::Rows { id: own, open, .. }, .. }) = &mut self.window else {
            return Ok(());
        };
        match id.strip_prefix(own.as_str()) {
            // With `insert_delete` the same row closes the window by its deletion.
            Some("-open") if !deleted => *open = true,
            Some("-open" | "-close") => {
                self.emit(lsn, tools)?;
                if self.is_running() && !self.paused {
                    self.next_chunk(tools).await?;
                }
            }
            // Of another chunk, from before a restart.
            _ => {}
        }
        Ok(())
    }

    /// While a window is open: what the stream says of a row takes it out of the chunk.
    pub(super) fn observe(
        &mut self,
        message: &Message<'_>,
        xid: Option<u64>,
        tables: &HashMap<u32, Arc<Table>>,
    ) {
        let (Some(scan), Some(window)) = (&mut self.scan, &mut self.window) else { return };
        let oid = scan.table.oid;
        let places = tables.get(&oid).and_then(|table| scan.places(table));
        window.observe(oid, places, message, xid);
    }

    /// A table is described anew in the stream. A chunk that was read of its old form is given up, and read again.
    pub(super) fn described(&mut self, table: &TableInfo) {
        if let (Some(scan), Some(window)) = (&self.scan, &mut self.window)
            && scan.table.oid == table.oid
            && scan.table.columns != table.columns
        {
            window.rows.clear();
            window.again = true;
        }
    }

    /// Sends what is left of the chunk.
    fn emit(&mut self, lsn: Lsn, tools: &mut Tools<'_>) -> Result<()> {
        let Some(window) = self.window.take() else { return Ok(()) };
        let Some(scan) = &mut self.scan else { return self.give_up(tools) };
        if window.again {
            scan.end.clone_from(&scan.sent);
        } else {
            scan.sent.clone_from(&scan.end);
        }
        // Debezium sends it within the signal's transaction, whose later changes would then set rows back for a
        // moment. Here it comes behind that transaction, with the place it was read at.
        let at_once = matches!(window.bounds, Bounds::Snapshot { .. })
            && tools.streamed.transactions <= window.at.transactions + 1;
        if let Bounds::Snapshot { until, .. } = window.bounds {
            // The rows are of this WAL, of which the stream may have nothing.
            tools.pump.offset.content = tools.pump.offset.content.max(until);
        }
        let last_commit = if at_once { window.at.last_commit } else { tools.streamed.last_commit };
        for row in &window.rows {
            let now = now_ns();
            let source = SourceInfo {
                lsn: Some(lsn),
                last_commit_lsn: last_commit,
                ts_ns: now,
                now_ns: now,
                snapshot: SnapshotMarker::Incremental,
                ..SourceInfo::default()
            };
            let columns: SmallVec<[Column<'_>; 32]> = self.decoder.decode(&row.line)?.iter().collect();
            tools.encoder.read(&scan.plan, &columns, &source, &mut tools.pump.batch).map_err(|e| {
                Error::data(format!("a row of table {} cannot be made an event", scan.plan.table_id()))
                    .because(e)
            })?;
        }
        self.store(&mut tools.pump.offset);
        self.give_up(tools)
    }

    /// Reads the next chunk. It must see all that the stream has shown: older rows would set newer ones back.
    async fn next_chunk(&mut self, tools: &mut Tools<'_>) -> Result<()> {
        set_up(tools.client).await?;
        self.ask = true;
        let Some(seen) = tools.shown.visible(tools.client).await? else {
            self.put_off = true;
            return Ok(());
        };
        self.put_off = false;
        let (bounds, rows) = match tools.options.signal_table.as_ref() {
            Some(table) if tools.options.writes_signals() => {
                let mark = Mark::open(tools.client, table, tools.options.incremental_delete).await?;
                let rows = self.read(tools).await?;
                crate::failpoint!("capture.incremental_chunk");
                (Bounds::Rows { id: mark.close(tools.client).await?, open: false, seen }, rows)
            }
            _ => self.under_a_snapshot(tools).await?,
        };
        self.window = Some(Window { bounds, rows, at: tools.streamed, again: false });
        Ok(())
    }

    /// Reads the next chunk under a snapshot, and notes what that has seen.
    async fn under_a_snapshot(&mut self, tools: &mut Tools<'_>) -> Result<(Bounds, Vec<Row>)> {
        let fail = |e| sql_error("cannot begin the chunk's transaction", e);
        // Finding the greatest key may fail, and that would end the transaction.
        self.find(tools).await?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        tools.client.batch_execute(begin).await.map_err(fail)?;
        let read = async {
            let Past { seen, until } = snapshot::seen(tools.client).await?;
            let seen = seen.as_deref().and_then(Seen::parse);
            let seen = seen.ok_or_else(|| Error::internal("the server's snapshot cannot be read"))?;
            Ok((Bounds::Snapshot { seen, until }, self.read(tools).await?))
        };
        let read = read.await;
        tools.client.batch_execute("ROLLBACK").await.map_err(fail)?;
        read
    }

    /// Finds a table that has rows; those that have none, or cannot be read, are said and left.
    async fn find(&mut self, tools: &mut Tools<'_>) -> Result<()> {
        while self.scan.is_none()
            && let Some(target) = self.queue.front().cloned()
        {
            match Scan::begin(&target, tools, &mut self.decoder, self.resumed.take()).await? {
                Ok(scan) => self.scan = Some(scan),
                Err(why) => self.leave(tools, &target, 0, why)?,
            }
        }
        Ok(())
    }

    /// The next rows; none at the end of a table that is the last, and of one that cannot be read.
    async fn read(&mut self, tools: &mut Tools<'_>) -> Result<Vec<Row>> {
        loop {
            self.find(tools).await?;
            let (Some(target), Some(scan)) = (self.queue.front().cloned(), &mut self.scan) else {
                return Ok(Vec::new());
            };
            if let Err(why) = scan.refresh(&target, tools).await? {
                let count = scan.rows;
                self.leave(tools, &target, count, why)?;
                return Ok(Vec::new());
            }
            match scan.chunk(tools.client, tools.options.incremental_chunk, &target, &mut self.decoder).await
            {
                Ok(rows) if rows.is_empty() => {
                    let count = scan.rows;
                    self.leave(tools, &target, count, "SUCCEEDED")?;
                    if tools.options.writes_signals() {
                        continue;
                    }
                    // Looking for the next table may fail, which must not be in the chunk's transaction.
                    return Ok(rows);
                }
                Ok(rows) => {
                    scan.altered = false;
                    let (max, end) = (scan.shown(&scan.max), scan.end.as_ref().map(|end| scan.shown(end)));
                    let progress = [
                        ("data_collections", self.collections()),
                        ("current_collection_in_progress", target.id()),
                        ("maximum_key", max),
                        ("last_processed_key", end.unwrap_or_default()),
                    ];
                    self.notify(tools, "IN_PROGRESS", &progress)?;
                    return Ok(rows);
                }
                Err(error) if !chunk::is_the_tables(&error) => return Err(error),
                // It was altered just now: the next look shows how.
                Err(error)
                    if sqlstate(&error) == Some("42703") && !std::mem::replace(&mut scan.altered, true) =>
                {
                    return Ok(Vec::new());
                }
                // The next table may do; this one's trouble is not the stream's.
                Err(error) => {
                    tracing::error!(connector = tools.options.name, table = target.id(), %error, "the incremental snapshot leaves this table");
                    let count = scan.rows;
                    self.leave(tools, &target, count, "SQL_EXCEPTION")?;
                    return Ok(Vec::new());
                }
            }
        }
    }

    /// A table is done with.
    fn leave(&mut self, tools: &mut Tools<'_>, target: &Target, rows: u64, status: &str) -> Result<()> {
        self.scanned(tools, target, rows, status)?;
        self.queue.pop_front();
        self.scan = None;
        if self.queue.is_empty() {
            self.notify(tools, "COMPLETED", &[])?;
            self.correlation = None;
        }
        self.store(&mut tools.pump.offset);
        Ok(())
    }

    fn scanned(&self, tools: &mut Tools<'_>, target: &Target, rows: u64, status: &str) -> Result<()> {
        let data = [
            ("data_collections", self.collections()),
            ("scanned_collection", target.id()),
            ("total_rows_scanned", rows.to_string()),
            ("status", status.to_owned()),
        ];
        self.notify(tools, "TABLE_SCAN_COMPLETED", &data)
    }

    fn notify(&self, tools: &mut Tools<'_>, kind: &str, data: &[(&'static str, String)]) -> Result<()> {
        let id = self.correlation.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        tools.notifier.send(tools.encoder, &mut tools.pump.batch, &id, "Incremental Snapshot", kind, data)
    }
}
