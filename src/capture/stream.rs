//! From pgoutput messages to events: one transaction after the other, each change counted for its identity.

mod messages;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use smallvec::SmallVec;

use super::offset::SnapshotState;
use super::position::{Position, Resume, Stamp};
use super::pump::{Large, Pump};
use super::reconcile::Verdict;
use super::shown::Shown;
use super::signal::Signal;
use super::slot_watch::Xmin;
use super::status::StatusCell;
use super::transaction::Transaction;
use super::witness::Witness;
use crate::error::{Error, Result};
use crate::event::encoder::OldRow;
use crate::event::options::ProcessingFailure;
use crate::event::{Encoder, EventError, SnapshotMarker, SourceInfo, TablePlan};
use crate::pg::pgoutput::{self, Column, Message, OldTuple, Relation, Tuple};
use crate::pg::{Lsn, XLogData};

/// From this size on (bytes of one message) it is noted which column makes a change large: the log may not take
/// it, and then its name is what helps.
const LARGE: usize = 128 << 10;
/// Microseconds between 1970 and 2000.
const PG_EPOCH_US: i64 = 946_684_800_000_000;

/// Nanoseconds since 1970, UTC.
pub(super) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Columns of a row, borrowed from the chunk they came in.
type Row<'a> = SmallVec<[Column<'a>; 32]>;

/// What is known of a table of the publication.
pub(super) struct Table {
    /// How its rows are encoded; `None` where the filters leave it out.
    pub(super) plan: Option<TablePlan>,
    /// `schema.table`.
    pub(super) name: String,
    /// Names of its columns, in the order of the wire.
    pub(super) columns: Vec<String>,
    /// It was said that a TRUNCATE of it is left out.
    pub(super) truncate_said: AtomicBool,
}

/// What is to be done after a message before the next one.
pub(super) enum Step {
    /// Nothing.
    Go,
    /// Describe the table anew.
    Describe(Relation),
}

/// Turns messages into events in a [`Pump`]'s batch.
pub(super) struct Stream {
    pub(super) encoder: Encoder,
    pub(super) tables: HashMap<u32, Arc<Table>>,
    /// The table of the last change: most changes come in runs.
    last_table: Option<(u32, Arc<Table>)>,
    transaction: Option<Transaction>,
    /// What is in the log from before the start.
    resume: Position,
    /// The last transaction in the log, which the server has to show.
    pub(super) witness: Witness,
    pub(super) shown: Shown,
    /// `source.sequence[0]`.
    last_commit: Option<Lsn>,
    origin: Option<(String, Lsn)>,
    metadata: bool,
    /// `source.xmin`, with `xmin.fetch.interval.ms`.
    pub(super) xmin: Option<Xmin>,
    /// OID of the signal table, once it was described.
    pub(super) signal_table: Option<u32>,
    /// Deletions in it count (`incremental.snapshot.watermarking.strategy=insert_delete`).
    pub(super) deleted_signals: bool,
    status: Arc<StatusCell>,
}

fn undecodable(lsn: Lsn, error: &EventError) -> Error {
    let what = format!("the change at {lsn} cannot be made an event");
    if error.may_heal() { Error::transient(what) } else { Error::data(what) }.because(error)
}

impl Stream {
    pub(super) fn new(
        encoder: Encoder,
        resume: Position,
        witness: Witness,
        last_commit: Option<Lsn>,
        status: Arc<StatusCell>,
    ) -> Self {
        let metadata = encoder.options().transaction_metadata;
        Self {
            encoder,
            tables: HashMap::new(),
            last_table: None,
            transaction: None,
            resume,
            witness,
            shown: Shown::default(),
            last_commit,
            origin: None,
            metadata,
            xmin: None,
            signal_table: None,
            deleted_signals: false,
            status,
        }
    }

    /// Whether a transaction is under way.
    pub(super) fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// `source.sequence[0]`.
    pub(super) fn last_commit(&self) -> Option<Lsn> {
        self.last_commit
    }

    /// Transactions since the connector began.
    pub(super) fn transactions(&self) -> u64 {
        self.status.transactions.load(Ordering::Relaxed)
    }

    /// Id of the transaction under way.
    pub(super) fn xid(&self) -> Option<u64> {
        self.transaction.as_ref().map(|tx| tx.xid)
    }

    /// The signal in a message: a new row of the signal table that is not in the log yet.
    pub(super) fn signal(&self, data: &XLogData<'_>) -> Option<Signal> {
        let oid = self.signal_table?;
        let (tag, rest) = data.payload.split_first()?;
        if !matches!(tag, b'I' | b'D') || rest.get(..4) != Some(&oid.to_be_bytes()) {
            return None;
        }
        let tx = self.transaction.as_ref()?;
        if tx.knows(tx.ordinal + 1, data.wal_start) {
            return None;
        }
        let new = match pgoutput::parse(data.payload, false) {
            Ok(Message::Insert { new, .. }) => new,
            // With `insert_delete` a window ends with the deletion of the row that began it.
            Ok(Message::Delete { old: OldTuple::Key(old) | OldTuple::Full(old), .. })
                if self.deleted_signals =>
            {
                let Some(Column::Text(id)) = old.iter().next() else { return None };
                let id = String::from_utf8_lossy(id).into_owned();
                return Some(Signal { id, kind: "snapshot-window-close".to_owned(), data: None });
            }
            _ => return None,
        };
        let mut texts = new.iter().map(|column| match column {
            Column::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        });
        Some(Signal { id: texts.next()??, kind: texts.next()??, data: texts.next().flatten() })
    }

    /// Puts a description in place.
    pub(super) fn describe(&mut self, oid: u32, table: Table) {
        self.last_table = None;
        self.tables.insert(oid, Arc::new(table));
    }

    fn table(&mut self, oid: u32, lsn: Lsn) -> Result<Arc<Table>> {
        if let Some((last, table)) = &self.last_table
            && *last == oid
        {
            return Ok(Arc::clone(table));
        }
        let table = self.tables.get(&oid).ok_or_else(|| {
            Error::data(format!("the change at {lsn} belongs to a table that was not described (OID {oid})"))
        })?;
        self.last_table = Some((oid, Arc::clone(table)));
        Ok(Arc::clone(table))
    }

    /// Takes one message, or what the verdict leaves of it.
    pub(super) fn message(&mut self, data: &XLogData<'_>, verdict: Verdict, pump: &mut Pump) -> Result<Step> {
        let message = pgoutput::parse(data.payload, false).map_err(|e| {
            Error::data(format!("the replication message at {} cannot be read", data.wal_start)).because(e)
        })?;
        let lsn = data.wal_start;
        if verdict == Verdict::Nothing {
            if !self.enter(lsn, pump)? {
                self.advance_filtered(pump);
            }
            return Ok(Step::Go);
        }
        if data.payload.len() >= LARGE {
            self.note_large(&message, pump);
        }
        match message {
            Message::Update { relation, old: Some(old), .. } if verdict == Verdict::Old => {
                self.change(relation, lsn, pump, "DELETE", |e, plan, source, batch| match old {
                    OldTuple::Key(t) => e.delete(plan, OldRow::Key(&row(t)), source, batch),
                    OldTuple::Full(t) => e.delete(plan, OldRow::Full(&row(t)), source, batch),
                })?;
            }
            Message::Update { relation, new, .. } if verdict == Verdict::New => {
                self.change(relation, lsn, pump, "INSERT", |e, plan, source, batch| {
                    e.insert(plan, &row(new), source, batch)
                })?;
            }
            Message::Insert { relation, new } => {
                self.change(relation, lsn, pump, "INSERT", |e, plan, source, batch| {
                    e.insert(plan, &row(new), source, batch)
                })?
            }
            Message::Update { relation, old, new } => {
                self.change(relation, lsn, pump, "UPDATE", |e, plan, source, batch| {
                    let new = row(new);
                    match old {
                        None => e.update(plan, None, &new, source, batch),
                        Some(OldTuple::Key(t)) => {
                            e.update(plan, Some(OldRow::Key(&row(t))), &new, source, batch)
                        }
                        Some(OldTuple::Full(t)) => {
                            e.update(plan, Some(OldRow::Full(&row(t))), &new, source, batch)
                        }
                    }
                })?;
            }
            Message::Delete { relation, old } => {
                self.change(relation, lsn, pump, "DELETE", |e, plan, source, batch| match old {
                    OldTuple::Key(t) => e.delete(plan, OldRow::Key(&row(t)), source, batch),
                    OldTuple::Full(t) => e.delete(plan, OldRow::Full(&row(t)), source, batch),
                })?;
            }
            Message::Begin { final_lsn, commit_ts, xid } => self.begin(lsn, final_lsn, commit_ts, xid)?,
            Message::Commit { end_lsn, .. } => self.commit(end_lsn, pump)?,
            Message::Relation(relation) => return Ok(Step::Describe(relation)),
            Message::Origin { lsn, name } => self.origin = Some((name.to_owned(), lsn)),
            Message::Type { .. } => {}
            Message::Truncate { relations, .. } => self.truncate(&relations, lsn, pump)?,
            Message::LogicalMessage { transactional: true, prefix, content, .. } => {
                self.transactional_message(lsn, prefix, content, pump)?;
            }
            Message::LogicalMessage { transactional: false, prefix, content, .. } => {
                self.lone_message(lsn, prefix, content, pump)?;
            }
            Message::StreamStart { .. }
            | Message::StreamStop
            | Message::StreamCommit { .. }
            | Message::StreamAbort { .. } => {
                return Err(Error::data("a piece of a streamed transaction stands inside a transaction"));
            }
        }
        Ok(Step::Go)
    }

    /// Notes the largest value of a large change.
    fn note_large(&self, message: &Message<'_>, pump: &mut Pump) {
        let (relation, tuple) = match message {
            Message::Insert { relation, new } | Message::Update { relation, new, .. } => (relation, new),
            Message::Delete { relation, old: OldTuple::Key(old) | OldTuple::Full(old) } => (relation, old),
            _ => return,
        };
        let Some(table) = self.tables.get(relation) else { return };
        let Some(plan) = &table.plan else { return };
        let sizes = tuple.iter().map(|column| match column {
            Column::Text(bytes) | Column::Binary(bytes) => bytes.len(),
            Column::Null | Column::Unchanged => 0,
        });
        let Some((index, bytes)) = sizes.enumerate().max_by_key(|(_, bytes)| *bytes) else { return };
        pump.large.push(Large {
            topic: plan.topic().to_owned(),
            table: table.name.clone(),
            column: table.columns.get(index).cloned().unwrap_or_default(),
            bytes,
        });
    }

    /// A transaction begins, as a Begin message says it or as the commit of a streamed one does.
    ///
    /// # Errors
    /// When the last transaction in the log should have come instead.
    pub(super) fn begin(&mut self, lsn: Lsn, commit: Lsn, commit_ts: i64, xid: u32) -> Result<()> {
        let xid = u64::from(xid);
        let stamp = Stamp { xid, ts_usec: commit_ts.saturating_add(PG_EPOCH_US) };
        self.witness.begins(commit, stamp)?;
        self.shown.add(xid);
        let resume = self.resume.resume(commit, Some(xid));
        self.origin = None;
        self.transaction = Some(Transaction {
            xid,
            begin_lsn: lsn,
            commit,
            ts_ns: commit_ts.saturating_add(PG_EPOCH_US).saturating_mul(1000),
            ordinal: 0,
            resume,
            first_at: None,
            begun: resume != Resume::Whole,
        });
        self.encoder.transaction_mut().begin();
        Ok(())
    }

    /// Counts a change. Says whether it is in the log already; writes the BEGIN record before the first that
    /// is not. BEGIN goes with the first change so that no batch can end between them.
    fn enter(&mut self, lsn: Lsn, pump: &mut Pump) -> Result<bool> {
        let Some(tx) = &mut self.transaction else {
            return Err(Error::data(format!("the change at {lsn} stands outside a transaction")));
        };
        tx.ordinal += 1;
        self.status.changes.fetch_add(1, Ordering::Relaxed);
        if let Resume::Through(through) = &tx.resume
            && through.lsn == lsn
        {
            tx.first_at.get_or_insert(tx.ordinal);
        }
        let known = tx.knows(tx.ordinal, lsn);
        if !tx.begun && !known {
            tx.begun = true;
            if self.metadata {
                let (xid, begin, ms) = (tx.xid, tx.begin_lsn, tx.ts_ns / 1_000_000);
                self.encoder
                    .transaction_begin(xid, begin, ms, &mut pump.batch)
                    .map_err(|e| undecodable(lsn, &e))?;
            }
        }
        Ok(known)
    }

    /// The position moves behind the change that was just encoded.
    fn advance(&mut self, lsn: Lsn, kind: &'static str, pump: &mut Pump) {
        let Some(tx) = &self.transaction else { return };
        let offset = &mut pump.offset;
        offset.snapshot = SnapshotState::None;
        offset.position = tx.position(false);
        offset.content = offset.content.max(Lsn(tx.commit.0.saturating_add(1)));
        offset.lsn = lsn;
        offset.tx_id = Some(tx.xid);
        offset.ts_usec = tx.ts_ns / 1000;
        offset.message_type = Some(kind);
    }

    /// Encodes what one message says, unless it is in the log already. With transaction metadata it is encoded
    /// all the same and thrown away, so that the counts go on as they would have.
    fn encode(
        &mut self,
        lsn: Lsn,
        pump: &mut Pump,
        kind: &'static str,
        write: impl FnOnce(&mut Encoder, &SourceInfo<'_>, &mut crate::log::Batch) -> Result<usize, EventError>,
    ) -> Result<()> {
        let known = self.enter(lsn, pump)?;
        if known && !self.metadata {
            return Ok(());
        }
        let Some(tx) = &self.transaction else { return Ok(()) };
        if known && tx.resume == Resume::Skip {
            return Ok(());
        }
        let source = SourceInfo {
            lsn: Some(lsn),
            last_commit_lsn: self.last_commit,
            txid: Some(tx.xid),
            ts_ns: tx.ts_ns,
            snapshot: SnapshotMarker::No,
            xmin: self.xmin.as_ref().and_then(Xmin::get),
            origin: self.origin.as_ref().map(|(name, _)| name.as_str()),
            origin_lsn: self.origin.as_ref().map(|(_, lsn)| *lsn),
            order: None,
            now_ns: now_ns(),
        };
        let before = pump.batch.len();
        self.status.seen(kind);
        if let Err(e) = write(&mut self.encoder, &source, &mut pump.batch) {
            pump.batch.truncate(before);
            let error = undecodable(lsn, &e);
            match self.encoder.options().processing_failure {
                ProcessingFailure::Fail => return Err(error),
                ProcessingFailure::Warn => tracing::warn!("left out: {error}"),
                ProcessingFailure::Skip => tracing::debug!("left out: {error}"),
            }
            self.status.left_out.fetch_add(1, Ordering::Relaxed);
        }
        if known {
            pump.batch.truncate(before);
        } else {
            self.advance(lsn, kind, pump);
        }
        Ok(())
    }

    fn change(
        &mut self,
        oid: u32,
        lsn: Lsn,
        pump: &mut Pump,
        kind: &'static str,
        write: impl FnOnce(
            &mut Encoder,
            &TablePlan,
            &SourceInfo<'_>,
            &mut crate::log::Batch,
        ) -> Result<usize, EventError>,
    ) -> Result<()> {
        let table = self.table(oid, lsn)?;
        let Some(plan) = &table.plan else {
            self.status.seen("FILTERED");
            if !self.enter(lsn, pump)? {
                self.advance_filtered(pump);
            }
            return Ok(());
        };
        self.encode(lsn, pump, kind, |encoder, source, batch| write(encoder, plan, source, batch))
    }

    /// A change that the filters leave out has no event, but counts.
    fn advance_filtered(&mut self, pump: &mut Pump) {
        let Some(tx) = &self.transaction else { return };
        pump.offset.position = tx.position(false);
    }

    /// One message empties several tables: its events count as one change.
    fn truncate(&mut self, relations: &[u32], lsn: Lsn, pump: &mut Pump) -> Result<()> {
        let mut tables = SmallVec::<[Arc<Table>; 4]>::new();
        for oid in relations {
            tables.push(self.table(*oid, lsn)?);
        }
        self.encode(lsn, pump, "TRUNCATE", |encoder, source, batch| {
            let mut written = 0;
            for table in &tables {
                let Some(plan) = &table.plan else { continue };
                let events = encoder.truncate(plan, source, batch)?;
                if events == 0 && !table.truncate_said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        table = table.name,
                        "a TRUNCATE is left out, as skipped.operations says (t by default): rows that are gone at the \
                         source stay in the topic, and in targets that are kept from it; delete them there, or set \
                         skipped.operations=none where consumers know truncate events"
                    );
                }
                written += events;
            }
            Ok(written)
        })
    }

    /// The transaction under way ends at `end`.
    pub(super) fn commit(&mut self, end: Lsn, pump: &mut Pump) -> Result<()> {
        let Some(tx) = self.transaction.take() else {
            return Err(Error::data(format!("the commit at {end} ends no transaction")));
        };
        crate::failpoint!("capture.commit");
        self.status.transactions.fetch_add(1, Ordering::Relaxed);
        let offset = &mut pump.offset;
        offset.snapshot = SnapshotState::None;
        if tx.resume != Resume::Skip {
            if self.metadata {
                let ms = tx.ts_ns / 1_000_000;
                if !tx.begun {
                    self.encoder
                        .transaction_begin(tx.xid, tx.begin_lsn, ms, &mut pump.batch)
                        .map_err(|e| undecodable(end, &e))?;
                }
                self.encoder
                    .transaction_end(tx.xid, end, ms, &mut pump.batch)
                    .map_err(|e| undecodable(end, &e))?;
                offset.content = offset.content.max(end);
                offset.lsn = end;
                offset.tx_id = Some(tx.xid);
                offset.ts_usec = tx.ts_ns / 1000;
                offset.message_type = Some("COMMIT");
            }
            offset.position = tx.position(true);
        }
        offset.restart = offset.restart.max(end);
        // One that is sent once more does not take it back.
        offset.lsn_commit = offset.lsn_commit.max(Some(end));
        self.last_commit = self.last_commit.max(Some(end));
        Ok(())
    }
}

#[inline]
fn row(tuple: Tuple<'_>) -> Row<'_> {
    tuple.iter().collect()
}
