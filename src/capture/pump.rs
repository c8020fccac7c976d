//! Batches on their way into the log: one is filled while the one before is committed, and each carries the
//! offset record that belongs to its last event.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::committer::{Committer, Note};
use super::offset::{Offset, SnapshotState};
use super::owner::Owner;
use super::position::Position;
use super::status::StatusCell;
use crate::error::{Error, Result};
use crate::log::{Batch, TooLarge};
use crate::pg::{Acknowledger, Lsn};

/// An offset that only moved on without events is written at most this often …
const IDLE_INTERVAL: Duration = Duration::from_secs(10);
/// … unless this much WAL has gone by.
const IDLE_BYTES: u64 = 8 << 20;
/// … or the server asks, and then at most this often.
const ASKED_INTERVAL: Duration = Duration::from_secs(1);

/// A change whose record the log may find too large.
#[derive(Clone, Debug)]
pub(super) struct Large {
    /// Topic of its record.
    pub(super) topic: String,
    /// `schema.table`.
    pub(super) table: String,
    /// The largest value's column.
    pub(super) column: String,
    /// That value's size.
    pub(super) bytes: usize,
}

pub(super) struct Pump {
    /// Large changes among the events of `batch`.
    pub(super) large: Vec<Large>,
    /// Those of the batch in flight.
    large_in_flight: Vec<Large>,
    /// Events that are not handed over yet.
    pub(super) batch: Batch,
    /// Position after the last event of `batch`.
    pub(super) offset: Offset,
    spare: Option<Batch>,
    committer: Committer,
    offsets_topic: String,
    offset_key: Vec<u8>,
    offset_bytes: Vec<u8>,
    owner: Owner,
    status: Arc<StatusCell>,
    /// Where to confirm; `None` before streaming and when something else moves the slot on.
    pub(super) acknowledger: Option<Acknowledger>,
    /// What must be durable for the connector to be caught up.
    target: Option<Lsn>,
    cut: usize,
    /// Bytes of the batch in flight.
    handed: usize,
    written: (Lsn, Instant),
    /// The server has asked how far we are: one that shuts down waits until all of its WAL is confirmed.
    asked: bool,
}

impl Pump {
    pub(super) fn new(
        committer: Committer,
        offset: Offset,
        offsets_topic: &str,
        offset_key: Vec<u8>,
        owner: Owner,
        status: Arc<StatusCell>,
        queue_bytes: usize,
    ) -> Self {
        let written = (offset.restart, Instant::now());
        // Two batches and what is in the sockets share the bound.
        let cut = (queue_bytes / 4).clamp(16 << 10, 4 << 20);
        status.queue_limit.store(u64::try_from(2 * cut).unwrap_or(u64::MAX), Ordering::Relaxed);
        Self {
            large: Vec::new(),
            large_in_flight: Vec::new(),
            batch: Batch::new(),
            offset,
            spare: Some(Batch::new()),
            committer,
            offsets_topic: offsets_topic.to_owned(),
            offset_key,
            offset_bytes: Vec::new(),
            owner,
            status,
            acknowledger: None,
            target: None,
            cut,
            handed: 0,
            written,
            asked: false,
        }
    }

    /// Whether the batch is large enough to go on its own.
    pub(super) fn is_full(&self) -> bool {
        self.batch.bytes() >= self.cut
    }

    /// Whether little would still go into the batch.
    pub(super) fn is_half_full(&self) -> bool {
        self.batch.bytes() >= self.cut / 2
    }

    /// Whether a batch is being committed.
    pub(super) fn in_flight(&self) -> bool {
        self.committer.in_flight()
    }

    /// Whether the log has refused a batch: a failure that follows is not that of what was to be written.
    pub(super) fn has_failed(&self) -> bool {
        self.committer.has_failed()
    }

    /// Sets what must be durable for the connector to be caught up.
    pub(super) fn aim(&mut self, target: Lsn) {
        if self.batch.is_empty() && !self.in_flight() && self.offset.restart >= target {
            // Nothing has happened since the offset was written, and perhaps nothing ever will.
            self.status.caught_up();
        } else {
            self.target = Some(target);
        }
    }

    /// Waits for the batch in flight and confirms it. Cancel-safe.
    pub(super) async fn settle(&mut self) -> Result<()> {
        let (mut batch, note) = self.committer.done().await.map_err(|e| self.name_large(e))?;
        // A batch that one large value has made large does not keep that memory.
        batch.shrink(4 * self.cut);
        self.spare = Some(batch);
        self.handed = 0;
        self.status.queued(self.batch.bytes());
        self.large_in_flight.clear();
        if let Some(acknowledger) = &self.acknowledger {
            crate::failpoint!("capture.before_feedback");
            acknowledger.flushed(note.durable);
            crate::failpoint!("capture.after_feedback");
        }
        if self.target.is_some_and(|target| note.durable >= target) {
            self.target = None;
            self.status.caught_up();
        }
        Ok(())
    }

    /// Says of a record that the log finds too large which table and column it comes from.
    fn name_large(&self, error: Error) -> Error {
        let too_large = std::error::Error::source(&error).and_then(|e| e.downcast_ref::<TooLarge>());
        let Some(too_large) = too_large else { return error };
        let of_topic = self.large_in_flight.iter().filter(|large| large.topic == too_large.topic);
        let Some(large) = of_topic.max_by_key(|large| large.bytes) else { return error };
        Error::data(format!(
            "a row of table {} does not fit into topic {}: its column \"{}\" holds {} bytes, the record {} bytes",
            large.table, large.topic, large.column, large.bytes, too_large.bytes
        ))
        .because(error.cause().unwrap_or_default())
        .next(format!(
            "raise max.message.bytes of topic {0} (a Kafka broker's message.max.bytes too; for topics that are still \
             to be made: topic.creation.default.max.message.bytes in the connector), or leave the column out: \
             column.exclude.list={1}.{2}",
            large.topic, large.table, large.column
        ))
    }

    /// Hands over what there is if nothing is in flight.
    pub(super) async fn offer(&mut self) -> Result<()> {
        self.status.queued(self.handed.saturating_add(self.batch.bytes()));
        if !self.batch.is_empty() && !self.in_flight() {
            self.hand_over().await?;
        }
        Ok(())
    }

    /// Hands over what there is, after the batch in flight.
    pub(super) async fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if self.in_flight() {
            self.settle().await?;
        }
        self.hand_over().await
    }

    /// Hands over events, if any, and the offset in any case, and waits until they are durable.
    pub(super) async fn sync(&mut self) -> Result<()> {
        if self.in_flight() {
            self.settle().await?;
        }
        self.hand_over().await?;
        self.settle().await
    }

    /// The server has sent everything before `wal_end` and nothing is under way.
    pub(super) async fn idle(&mut self, wal_end: Lsn, asks: bool) -> Result<()> {
        self.asked |= asks;
        if wal_end > self.offset.restart {
            self.offset.restart = wal_end;
            if self.offset.position.commit < wal_end {
                // The position stays at the last transaction, which a server can be asked to show; only that of
                // another's offset ends here, with what it says of a transaction that has passed.
                if self.offset.position.through.is_some() {
                    self.offset.position = Position::before(wal_end);
                }
                self.offset.lsn = self.offset.lsn.max(wal_end);
                self.offset.lsn_commit = Some(wal_end);
                self.offset.snapshot = SnapshotState::None;
            }
        }
        self.write_idle().await
    }

    /// Writes an offset that moved on without events, when it is time to.
    pub(super) async fn write_idle(&mut self) -> Result<()> {
        let restart = self.offset.restart;
        if restart <= self.written.0 || !self.batch.is_empty() || self.in_flight() {
            return Ok(());
        }
        let since = self.written.1.elapsed();
        let due = since >= IDLE_INTERVAL
            || (self.asked && since >= ASKED_INTERVAL)
            || restart.0 - self.written.0.0 >= IDLE_BYTES
            || self.target.is_some_and(|target| restart >= target);
        if due {
            crate::failpoint!("capture.idle_offset");
            self.hand_over().await
        } else {
            Ok(())
        }
    }

    /// Appends the offset record and sends the batch off; nothing may be in flight.
    async fn hand_over(&mut self) -> Result<()> {
        crate::failpoint!("capture.hand_over");
        self.offset_bytes.clear();
        self.offset.owner = Some(self.owner.clone());
        self.offset.write(&mut self.offset_bytes);
        let topic = self.batch.topic(&self.offsets_topic);
        let mut record = self.batch.record(topic);
        record.key(|out| out.extend_from_slice(&self.offset_key));
        record.value(|out| out.extend_from_slice(&self.offset_bytes));
        record.finish();
        let events = self.batch.len() > 1;
        let note = Note {
            durable: self.offset.restart,
            event_ms: events.then_some(self.offset.ts_usec / 1000),
            commit: self.offset.position.commit,
        };
        let next = self.spare.take().unwrap_or_default();
        let batch = std::mem::replace(&mut self.batch, next);
        self.handed = batch.bytes();
        std::mem::swap(&mut self.large, &mut self.large_in_flight);
        self.written = (self.offset.restart, Instant::now());
        self.asked = false;
        self.committer.send(batch, note).await
    }

    /// Ends: what was handed over is committed, what was not is given up.
    pub(super) async fn close(self) {
        self.committer.close().await;
    }
}
