//! Rows of a snapshot on their way to events, with Debezium's markers, and what the offset says of them.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio_postgres::Client;

use super::Left;
use super::progress::{FIELD, Progress, RangeProgress, TableProgress};
use super::ranges::{self, Facts};
use crate::capture::keys::KeyColumns;
use crate::capture::notify::Notifier;
use crate::capture::pump::Pump;
use crate::capture::run::Run;
use crate::capture::stream::now_ns;
use crate::error::{Error, Result};
use crate::event::{Encoder, SnapshotMarker, SourceInfo, TablePlan};
use crate::pg::catalog::TableInfo;
use crate::pg::pgoutput::Column;
use crate::pg::snapshot::{CopyDecoder, CopyReader};

/// A table up to this size is tried as it lies, in one batch; what was read in vain is at most this.
const WHOLE: i64 = 64 << 20;
/// How often progress is logged.
const SAY: Duration = Duration::from_secs(5);

/// A table of the snapshot.
pub(super) struct Table {
    pub(super) info: TableInfo,
    pub(super) plan: TablePlan,
    /// `schema.table`.
    pub(super) name: String,
    /// What it can be cut by.
    pub(super) key: Option<KeyColumns>,
    /// Without condition and order.
    pub(super) select: String,
    /// A statement of the user's.
    pub(super) own: bool,
    pub(super) facts: Facts,
    /// Rows so far.
    pub(super) rows: u64,
    /// Events of its rows are in the log or in the batch.
    pub(super) started: bool,
    /// By range: the last row whose event is in the batch, since the offset was last noted.
    pub(super) ends: Vec<Option<Bytes>>,
    /// Its place in what is noted.
    pub(super) entry: usize,
}

impl Table {
    pub(super) fn new(
        info: TableInfo,
        plan: TablePlan,
        name: String,
        select: String,
        own: bool,
        facts: Facts,
    ) -> Self {
        let key = KeyColumns::unique(&info);
        Self {
            info,
            plan,
            name,
            key,
            select,
            own,
            facts,
            rows: 0,
            started: false,
            ends: Vec::new(),
            entry: 0,
        }
    }
}

/// How a table is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As it lies, as Debezium does, and all of it in one batch of the log: there is no half of it.
    Whole,
    /// In the order of its key, to go on after any row.
    Ordered,
    /// As it lies, in many batches: killed, it starts again.
    Plain,
}

/// A row that waits for its marker: whether it is the last is known only when the next one comes, or none.
struct Waiting {
    line: Bytes,
    table: usize,
    range: usize,
    first_in_table: bool,
    last_in_table: bool,
}

/// The rows of a snapshot.
pub(super) struct Rows<'s> {
    pub(super) run: &'s Run,
    pub(super) encoder: &'s mut Encoder,
    pump: &'s mut Pump,
    pub(super) tables: Vec<Table>,
    source: SourceInfo<'static>,
    decoder: CopyDecoder,
    waiting: Option<Waiting>,
    /// `None` for what always starts again.
    progress: Option<Progress>,
    notifier: Notifier,
    /// Several connections read.
    pub(super) parallel: bool,
    /// For notifications: the tables that are read, and all that are captured.
    these: String,
    all: String,
    said: Instant,
    /// What a blocking snapshot goes on without.
    left: Left,
}

impl<'s> Rows<'s> {
    pub(super) fn new(
        run: &'s Run,
        encoder: &'s mut Encoder,
        pump: &'s mut Pump,
        source: SourceInfo<'static>,
        progress: Option<Progress>,
        (these, all): (String, String),
    ) -> Self {
        Self {
            run,
            encoder,
            pump,
            tables: Vec::new(),
            source,
            decoder: CopyDecoder::new(),
            waiting: None,
            progress,
            notifier: Notifier::new(&run.options),
            parallel: false,
            these,
            all,
            said: Instant::now(),
            left: Left::new(),
        }
    }

    pub(super) fn add(&mut self, mut table: Table) {
        if let Some(progress) = &mut self.progress {
            table.entry = progress.table(&table.name);
            if let Some(entry) = progress.tables.get_mut(table.entry) {
                entry.own = table.own;
            }
        }
        self.tables.push(table);
    }

    /// Whether it is the initial snapshot, which goes on where it was killed.
    pub(super) fn is_initial(&self) -> bool {
        self.progress.is_some()
    }

    fn get(&mut self, n: usize) -> Result<&mut Table> {
        self.tables.get_mut(n).ok_or_else(|| Error::internal("a row of a table that is not read"))
    }

    fn entry(&mut self, n: usize) -> Option<&mut TableProgress> {
        let at = self.tables.get(n)?.entry;
        self.progress.as_mut()?.tables.get_mut(at)
    }

    /// Takes a table up; `false` where it is done already.
    pub(super) fn begin(&mut self, n: usize) -> Result<bool> {
        let table = self.get(n)?;
        let (name, file, keyed) = (table.name.clone(), table.facts.file, table.key.is_some());
        let key = table.key.as_ref().map(|k| k.names().to_vec()).unwrap_or_default();
        let current = self.progress.as_ref().map_or(0, Progress::current);
        if let Some(entry) = self.entry(n) {
            if entry.done {
                self.run.status.snapshot_table_done();
                return Ok(false);
            }
            if entry.begun && (!keyed || entry.file != file || entry.key != key) {
                let why = if !keyed {
                    "it has no unique not-null key"
                } else if entry.key != key {
                    "its key is another one now"
                } else {
                    "it was rewritten or emptied meanwhile"
                };
                entry.again = true;
                entry.ranges.clear();
                tracing::warn!(
                    table = name,
                    "the snapshot was interrupted in this table, which is read again from its start: {why}"
                );
            }
            if !entry.begun || entry.again {
                entry.whole = current;
            }
            entry.file = file;
            entry.key = key;
        }
        Ok(true)
    }

    /// Says that a table's turn has come.
    pub(super) fn announce(&mut self, n: usize) -> Result<()> {
        let name = self.get(n)?.name.clone();
        let data = [("data_collections", self.these.clone()), ("current_collection_in_progress", name)];
        self.notifier.initial(self.encoder, &mut self.pump.batch, "IN_PROGRESS", &data)
    }

    /// Says that a connection has begun with a range of a table, or ended it.
    pub(super) fn announce_range(&mut self, n: usize, range: usize, ended: bool) -> Result<()> {
        let table = self.get(n)?;
        let (name, count, rows) = (table.name.clone(), table.ends.len(), table.rows);
        let mut data = vec![("chunk_index", range.to_string()), ("total_chunks", count.to_string())];
        if ended {
            data.extend([
                ("data_collections", self.all.clone()),
                ("scanned_collection", name),
                ("status", "SUCCEEDED".to_owned()),
            ]);
        } else {
            data.extend([("current_collection_in_progress", name), ("total_rows_scanned", rows.to_string())]);
        }
        let kind = if ended { "TABLE_CHUNK_COMPLETED" } else { "TABLE_CHUNK_IN_PROGRESS" };
        self.notifier.initial(self.encoder, &mut self.pump.batch, kind, &data)
    }

    /// Reads a table over one connection.
    pub(super) async fn table(&mut self, client: &Client, n: usize) -> Result<()> {
        if !self.begin(n)? {
            return Ok(());
        }
        self.announce(n)?;
        let table = self.get(n)?;
        let (keyed, small) = (table.key.is_some(), table.facts.bytes <= WHOLE);
        let way = match self.entry(n) {
            Some(entry) if keyed && small && entry.ranges.is_empty() => Way::Whole,
            Some(_) if keyed => Way::Ordered,
            _ => Way::Plain,
        };
        if way == Way::Whole && self.as_it_lies(client, n, true).await? {
            return self.end(n);
        }
        if way == Way::Plain {
            self.as_it_lies(client, n, false).await?;
        } else {
            self.set_ranges(n, vec![RangeProgress::default()])?;
            for range in 0..self.get(n)?.ends.len() {
                self.range(client, n, range).await?;
            }
        }
        self.end(n)
    }

    /// Takes over ranges, where none are under way, and makes room for their ends.
    pub(super) fn set_ranges(&mut self, n: usize, ranges: Vec<RangeProgress>) -> Result<()> {
        let count = match self.entry(n) {
            Some(entry) => {
                if entry.ranges.is_empty() {
                    entry.ranges = ranges;
                }
                entry.ranges.len()
            }
            None => ranges.len(),
        };
        self.get(n)?.ends = vec![None; count];
        Ok(())
    }

    /// A table's statement for what is left of a range.
    pub(super) fn statement(&mut self, n: usize, range: usize) -> Result<String> {
        let range = self.entry(n).and_then(|e| e.ranges.get(range)).cloned().unwrap_or_default();
        let table = self.get(n)?;
        let rest = table.key.as_ref().map_or(String::new(), |key| ranges::condition(key, &range));
        Ok(format!("{}{rest}", table.select))
    }

    /// Reads a table as it lies. `atomic`: without ending a batch; where that is too much what was encoded is given
    /// up, and `false` comes back.
    async fn as_it_lies(&mut self, client: &Client, n: usize, atomic: bool) -> Result<bool> {
        let (name, select) = (self.get(n)?.name.clone(), self.get(n)?.select.clone());
        let named = |e: Error| unreadable(&name, e);
        let mut rows = CopyReader::start(client, &select).await.map_err(named)?;
        let mut mark = 0;
        let mut count = 0u64;
        while let Some(line) = rows.next_line().await.map_err(named)? {
            self.take(line, n, 0)?;
            count += 1;
            if count == 1 {
                // The table before has its last row in; of this one nothing is.
                if self.pump.is_half_full() {
                    self.flush().await?;
                }
                mark = self.pump.batch.len();
            } else if self.pump.is_full() && !atomic {
                self.flush().await?;
            } else if self.pump.is_full() {
                self.pump.batch.truncate(mark);
                self.waiting = None;
                let table = self.get(n)?;
                (table.rows, table.started) = (0, false);
                self.run.status.snapshot_rows.fetch_sub(count - 1, Ordering::Relaxed);
                while rows.next_line().await.map_err(named)?.is_some() {}
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn range(&mut self, client: &Client, n: usize, range: usize) -> Result<()> {
        let name = self.get(n)?.name.clone();
        let named = |e: Error| unreadable(&name, e);
        let select = self.statement(n, range)?;
        let mut rows = CopyReader::start(client, &select).await.map_err(named)?;
        while let Some(line) = rows.next_line().await.map_err(named)? {
            self.take(line, n, range)?;
            self.flush_full().await?;
        }
        Ok(())
    }

    /// Takes a row; the one before it is encoded now that it is known not to be the last.
    pub(super) fn take(&mut self, line: Bytes, table: usize, range: usize) -> Result<()> {
        let rows = &mut self.get(table)?.rows;
        *rows += 1;
        let first_in_table = *rows == 1 && !self.entry(table).is_some_and(|e| e.begun && !e.again);
        let waiting = Waiting { line, table, range, first_in_table, last_in_table: false };
        match self.waiting.replace(waiting) {
            Some(before) => self.encode(before, false),
            None => Ok(()),
        }
    }

    /// Hands the batch over once it is large enough.
    pub(super) async fn flush_full(&mut self) -> Result<()> {
        if self.pump.is_full() { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        self.note()?;
        crate::failpoint!("capture.snapshot_batch");
        self.pump.flush().await?;
        crate::failpoint!("capture.snapshot_flushed");
        if self.said.elapsed() >= SAY {
            self.said = Instant::now();
            if let Some(snapshot) = self.run.status.read().snapshot {
                tracing::info!(connector = self.run.options.name, "snapshot: {snapshot}");
            }
        }
        Ok(())
    }

    /// Says in the offset how far the batch reaches.
    fn note(&mut self) -> Result<()> {
        let Some(progress) = &mut self.progress else { return Ok(()) };
        let current = progress.current();
        for table in &mut self.tables {
            let Some(entry) = progress.tables.get_mut(table.entry) else { continue };
            entry.begun |= table.started;
            let Some(key) = &table.key else { continue };
            for (range, line) in entry.ranges.iter_mut().zip(&mut table.ends) {
                let Some(line) = line.take() else { continue };
                let end = Some(key.of_line(&mut self.decoder, &line)?);
                match range.parts.last_mut() {
                    Some(part) if part.1 == current => part.0 = end,
                    _ => range.parts.push((end, current)),
                }
            }
        }
        self.pump.offset.extra.insert(FIELD.to_owned(), progress.to_value());
        Ok(())
    }

    /// A table has no more rows.
    pub(super) fn end(&mut self, n: usize) -> Result<()> {
        match self.waiting.as_mut().filter(|w| w.table == n) {
            Some(waiting) => waiting.last_in_table = true,
            None => self.done(n),
        }
        crate::failpoint!("capture.snapshot_table");
        let (rows, name) = (self.get(n)?.rows, self.get(n)?.name.clone());
        self.run.status.snapshot_table_done();
        tracing::info!(connector = self.run.options.name, table = name, rows, "table read");
        self.scanned(name, rows, "SUCCEEDED")
    }

    fn scanned(&mut self, name: String, rows: u64, status: &str) -> Result<()> {
        let data = [
            ("data_collections", self.all.clone()),
            ("scanned_collection", name),
            ("total_rows_scanned", rows.to_string()),
            ("status", status.to_owned()),
        ];
        self.notifier.initial(self.encoder, &mut self.pump.batch, "TABLE_SCAN_COMPLETED", &data)
    }

    /// A table that cannot be read is left.
    pub(super) fn leave(&mut self, name: String, rows: u64, error: Error) -> Result<()> {
        tracing::error!(connector = self.run.options.name, table = name, rows, %error, "the snapshot leaves this table");
        self.scanned(name.clone(), rows, "SQL_EXCEPTION")?;
        self.left.push((name, error));
        Ok(())
    }

    /// The same of one that may have been read in part.
    pub(super) fn leave_begun(&mut self, n: usize, error: Error) -> Result<()> {
        // That is no table's trouble.
        if self.pump.has_failed() {
            return Err(error);
        }
        let table = self.get(n)?;
        let (name, rows) = (table.name.clone(), table.rows);
        self.waiting.take_if(|w| w.table == n);
        self.leave(name, rows, error)
    }

    /// All rows of a table are in the batch, or before it.
    fn done(&mut self, n: usize) {
        let current = self.progress.as_ref().map_or(0, Progress::current);
        if let Some(table) = self.tables.get_mut(n) {
            table.ends.clear();
        }
        let Some(entry) = self.entry(n) else { return };
        entry.done = true;
        for range in &mut entry.ranges {
            match range.parts.last_mut() {
                Some(part) if part.1 == current => part.0 = None,
                _ => range.parts.push((None, current)),
            }
        }
        if entry.ranges.iter().flat_map(|r| &r.parts).all(|(_, under)| *under == 0) {
            // Nothing that the stream would have to know.
            entry.ranges.clear();
            entry.key.clear();
        }
    }

    /// The very last row of the snapshot, whatever table it is of. Gives what was noted, and what was left.
    pub(super) async fn last(mut self) -> Result<(Option<Progress>, Left)> {
        if let Some(last) = self.waiting.take() {
            self.encode(last, true)?;
        }
        self.flush_full().await?;
        Ok((self.progress, self.left))
    }

    fn encode(&mut self, waiting: Waiting, last: bool) -> Result<()> {
        // Tables that are read at the same time have no first one.
        let first_table = waiting.table == 0 && !(self.run.options.snapshot_whole && self.parallel);
        let last_table = waiting.table + 1 == self.tables.len();
        self.source.snapshot = if last || (waiting.last_in_table && last_table) {
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
        let Some(table) = self.tables.get_mut(waiting.table) else { return Ok(()) };
        {
            let columns: SmallVec<[Column<'_>; 32]> = self.decoder.decode(&waiting.line)?.iter().collect();
            self.encoder.read(&table.plan, &columns, &self.source, &mut self.pump.batch).map_err(|e| {
                Error::data(format!("a row of table {} cannot be made an event", table.name)).because(e)
            })?;
        }
        self.run.status.snapshot_rows.fetch_add(1, Ordering::Relaxed);
        crate::failpoint!("capture.snapshot_row");
        table.started = true;
        if let Some(end) = table.ends.get_mut(waiting.range) {
            *end = Some(waiting.line);
        }
        if waiting.last_in_table {
            self.done(waiting.table);
        }
        Ok(())
    }
}

pub(super) fn unreadable(table: &str, e: Error) -> Error {
    let mut error = Error::new(e.kind(), format!("cannot read table {table} for the snapshot"));
    if let Some(next) = e.next_step() {
        error = error.next(next.to_owned());
    }
    error.with_source(e)
}
