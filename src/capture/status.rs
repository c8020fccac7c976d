//! What a connector does and how far it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::slot_watch::SlotHealth;
use crate::error::Error;
use crate::pg::Lsn;

/// Where a connector stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connecting and checking; nothing moves yet.
    Starting,
    /// The tables' content is being read.
    Snapshot,
    /// Changes flow as they commit.
    Streaming,
    /// The snapshot is done and the mode does not stream (`initial_only`).
    Idle,
    /// The connection to the database or the log broke; the next try follows by itself.
    Reconnecting,
    /// It cannot go on; the error says why.
    Failed,
    /// Stopped as asked.
    Stopped,
}

impl Phase {
    /// In capitals, as states are shown: `SNAPSHOT`, `STREAMING`, `RECONNECTING`, ….
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Snapshot => "SNAPSHOT",
            Self::Streaming => "STREAMING",
            Self::Idle => "IDLE",
            Self::Reconnecting => "RECONNECTING",
            Self::Failed => "FAILED",
            Self::Stopped => "STOPPED",
        }
    }

    /// Whether data moves, or would if there were any.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Snapshot | Self::Streaming | Self::Idle)
    }

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Stopped)
    }
}

/// Counts since the start of the connector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Changes that came from the stream, before filters.
    pub changes: u64,
    /// Transactions that came from the stream.
    pub transactions: u64,
    /// Inserts that came from the stream for captured tables.
    pub creates: u64,
    /// Updates that came from the stream for captured tables.
    pub updates: u64,
    /// Deletes that came from the stream for captured tables.
    pub deletes: u64,
    /// Changes of tables that are not captured.
    pub filtered: u64,
    /// Rows read in snapshots.
    pub snapshot_rows: u64,
    /// Records that are durable in the log, offset records left out.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Batches committed to the log.
    pub batches: u64,
    /// Changes without an event, by `event.processing.failure.handling.mode`.
    pub left_out: u64,
    /// Records that a transform or converter could not do, left out by `errors.tolerance=all`.
    pub skipped: u64,
    /// Times the connection was lost and came back.
    pub reconnects: u64,
    /// Bytes of streamed transactions that were written to files until their commit.
    pub spilled_bytes: u64,
}

/// How far a snapshot is. Shown as `2 of 5 tables, 1200 of about 3000 rows (40 %), about 12 s left`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// Tables it reads.
    pub tables: usize,
    /// Tables that are read.
    pub tables_done: usize,
    /// Rows read since it began, or went on.
    pub rows: u64,
    /// Rows there are, as the database's planner thinks; they may be more.
    pub estimate: u64,
    /// When it began, or went on.
    pub since: Instant,
    /// Rows read before, by the connector's counter.
    before: u64,
}

impl SnapshotStatus {
    pub(super) fn new(tables: usize, estimate: u64) -> Self {
        Self { tables, tables_done: 0, rows: 0, estimate, since: Instant::now(), before: 0 }
    }

    /// Share of the rows that is read, at most 1; `None` where nothing is known of the number.
    pub fn share(&self) -> Option<f64> {
        if self.estimate == 0 {
            return None;
        }
        // Only shown: precision does not matter.
        #[allow(clippy::cast_precision_loss)]
        Some((self.rows as f64 / self.estimate as f64).min(1.0))
    }

    /// Time left at the speed so far.
    pub fn left(&self) -> Option<Duration> {
        let share = self.share().filter(|s| *s > 0.0)?;
        Duration::try_from_secs_f64(self.since.elapsed().as_secs_f64() * (1.0 - share) / share).ok()
    }
}

impl std::fmt::Display for SnapshotStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} tables, {}", self.tables_done, self.tables, self.rows)?;
        match (self.share(), self.left()) {
            (Some(share), Some(left)) => write!(
                f,
                " of about {} rows ({:.0} %), about {} s left",
                self.estimate.max(self.rows),
                share * 100.0,
                left.as_secs()
            ),
            _ => write!(f, " rows"),
        }
    }
}

/// A look at a connector.
#[derive(Clone, Debug)]
pub struct ConnectorStatus {
    /// Where it stands.
    pub phase: Phase,
    /// What failed: with [`Phase::Failed`] for good, with [`Phase::Reconnecting`] for now.
    pub error: Option<Arc<Error>>,
    /// Whether everything that stood in the WAL when streaming began is durable in the log.
    pub caught_up: bool,
    /// End of the WAL at the server, as last heard.
    pub server_lsn: Lsn,
    /// Position up to which everything is durable in the log.
    pub durable_lsn: Lsn,
    /// Commit time of the last durable event, milliseconds since 1970; zero for none.
    pub last_event_ms: i64,
    /// What the server says of the slot; `None` before the first look, and where the slot is gone.
    pub slot: Option<SlotHealth>,
    /// Streamed transactions that are kept until they commit.
    pub held_transactions: u64,
    /// Bytes between the database and the log, and how many there may be.
    pub queue: (u64, u64),
    /// How far the snapshot under way is.
    pub snapshot: Option<SnapshotStatus>,
    /// Tables of the last snapshot that was taken to its end, and the time it took.
    pub snapshot_done: Option<(usize, Duration)>,
    /// What the last blocking snapshot could not read, and why.
    pub left: Option<String>,
    /// An incremental snapshot waits for `resume-snapshot`.
    pub snapshot_paused: bool,
    /// Counts.
    pub counters: Counters,
    /// Topics written to since the start.
    pub topics: Vec<String>,
}

#[derive(Clone, Debug)]
struct State {
    phase: Phase,
    error: Option<Arc<Error>>,
    caught_up: bool,
    /// The phase that goes on once a passing trouble has passed.
    meanwhile: Option<Phase>,
}

/// The driver's side of the status.
#[derive(Debug)]
pub(super) struct StatusCell {
    state: watch::Sender<State>,
    pub(super) changes: AtomicU64,
    pub(super) transactions: AtomicU64,
    pub(super) snapshot_rows: AtomicU64,
    creates: AtomicU64,
    updates: AtomicU64,
    deletes: AtomicU64,
    filtered: AtomicU64,
    queued: AtomicU64,
    pub(super) queue_limit: AtomicU64,
    pub(super) left_out: AtomicU64,
    /// Records that a transform or converter could not do, with `errors.tolerance=all`.
    pub(super) skipped: Arc<AtomicU64>,
    records: AtomicU64,
    bytes: AtomicU64,
    batches: AtomicU64,
    reconnects: AtomicU64,
    held_transactions: AtomicU64,
    spilled_bytes: AtomicU64,
    pub(super) server_lsn: AtomicU64,
    durable_lsn: AtomicU64,
    last_event_ms: AtomicU64,
    topics: Mutex<BTreeSet<Arc<str>>>,
    slot: Mutex<Option<SlotHealth>>,
    snapshot: Mutex<Option<SnapshotStatus>>,
    snapshot_done: Mutex<Option<(usize, Duration)>>,
    left: Mutex<Option<String>>,
    pub(super) snapshot_paused: AtomicBool,
    /// Turns of the streaming loop.
    pub(super) turns: AtomicU64,
    /// It was in a running phase before.
    moved: AtomicBool,
}

impl StatusCell {
    pub(super) fn new() -> Arc<Self> {
        let (state, _) =
            watch::channel(State { phase: Phase::Starting, error: None, caught_up: false, meanwhile: None });
        Arc::new(Self {
            state,
            changes: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            snapshot_rows: AtomicU64::new(0),
            creates: AtomicU64::new(0),
            updates: AtomicU64::new(0),
            deletes: AtomicU64::new(0),
            filtered: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            queue_limit: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            skipped: Arc::default(),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            held_transactions: AtomicU64::new(0),
            spilled_bytes: AtomicU64::new(0),
            server_lsn: AtomicU64::new(0),
            durable_lsn: AtomicU64::new(0),
            last_event_ms: AtomicU64::new(0),
            topics: Mutex::new(BTreeSet::new()),
            slot: Mutex::new(None),
            snapshot: Mutex::new(None),
            snapshot_done: Mutex::new(None),
            left: Mutex::new(None),
            snapshot_paused: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            moved: AtomicBool::new(false),
        })
    }

    pub(super) fn phase(&self, phase: Phase) {
        if phase.is_running() {
            self.moved.store(true, Ordering::Relaxed);
        }
        self.state.send_if_modified(|s| {
            let changed = s.phase != phase || s.error.is_some();
            s.meanwhile = None;
            s.phase = phase;
            s.error = None;
            changed
        });
    }

    /// A run begins. Where it is another try it stays what it was, with the cause, until data moves again.
    pub(super) fn starting(&self) {
        self.state.send_if_modified(|s| {
            s.meanwhile = None;
            if s.phase == Phase::Reconnecting || s.phase == Phase::Starting {
                return false;
            }
            (s.phase, s.error) = (Phase::Starting, None);
            true
        });
    }

    pub(super) fn failed(&self, phase: Phase, error: Arc<Error>) {
        if phase == Phase::Reconnecting {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        self.state.send_modify(|s| {
            s.phase = phase;
            s.error = Some(error);
            s.meanwhile = None;
        });
    }

    /// The log does not take what it is given, and is still being tried: nothing moves meanwhile.
    pub(super) fn trouble(&self, error: Error) {
        self.state.send_if_modified(|s| {
            if s.meanwhile.is_none() && !s.phase.is_running() {
                return false;
            }
            s.meanwhile.get_or_insert(s.phase);
            s.phase = Phase::Reconnecting;
            s.error = Some(Arc::new(error));
            true
        });
    }

    /// It has taken it.
    pub(super) fn recovered(&self) {
        self.state.send_if_modified(|s| match s.meanwhile.take() {
            Some(phase) => {
                (s.phase, s.error) = (phase, None);
                true
            }
            None => false,
        });
    }

    /// A number that changes as long as anything moves, or stands where it may: `None` where standing still for long
    /// is nothing bad.
    pub(super) fn pulse(&self) -> Option<u64> {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        match self.state.borrow().phase {
            Phase::Starting | Phase::Streaming => Some(
                get(&self.turns)
                    .wrapping_add(get(&self.changes))
                    .wrapping_add(get(&self.batches))
                    .wrapping_add(get(&self.snapshot_rows)),
            ),
            _ => None,
        }
    }

    /// Whether a batch has become durable.
    pub(super) fn has_committed(&self) -> bool {
        self.batches() > 0
    }

    /// Batches that have become durable.
    pub(super) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Whether it was in a running phase before.
    pub(super) fn has_moved(&self) -> bool {
        self.moved.load(Ordering::Relaxed)
    }

    pub(super) fn caught_up(&self) {
        self.state.send_if_modified(|s| !std::mem::replace(&mut s.caught_up, true));
    }

    pub(super) fn committed(&self, records: u64, bytes: u64, durable: Lsn, event_ms: Option<i64>) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.durable_lsn.fetch_max(durable.0, Ordering::Relaxed);
        if let Some(ms) = event_ms.and_then(|ms| u64::try_from(ms).ok()) {
            self.last_event_ms.store(ms, Ordering::Relaxed);
        }
    }

    /// What the slot looks like now.
    pub(super) fn slot(&self, health: Option<SlotHealth>) {
        *self.slot.lock() = health;
    }

    /// Streamed transactions under way, and bytes newly written to files.
    pub(super) fn spool(&self, held: usize, spilled: u64) {
        self.held_transactions.store(u64::try_from(held).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.spilled_bytes.fetch_add(spilled, Ordering::Relaxed);
    }

    pub(super) fn topic(&self, name: &str) {
        let mut topics = self.topics.lock();
        if !topics.contains(name) {
            topics.insert(Arc::from(name));
        }
    }

    /// A snapshot begins, goes on or ends.
    pub(super) fn snapshot(&self, snapshot: Option<SnapshotStatus>) {
        let before = self.snapshot_rows.load(Ordering::Relaxed);
        let ended =
            std::mem::replace(&mut *self.snapshot.lock(), snapshot.map(|s| SnapshotStatus { before, ..s }));
        if let Some(ended) = ended.filter(|s| s.tables_done >= s.tables) {
            *self.snapshot_done.lock() = Some((ended.tables, ended.since.elapsed()));
        }
    }

    /// A blocking snapshot has ended: what it could not read.
    pub(super) fn left_of_snapshot(&self, left: Option<String>) {
        *self.left.lock() = left;
    }

    /// A change, by what kind of message it came; `FILTERED` of a table that is not captured.
    pub(super) fn seen(&self, kind: &str) {
        let counter = match kind {
            "INSERT" => &self.creates,
            "UPDATE" => &self.updates,
            "DELETE" => &self.deletes,
            "FILTERED" => &self.filtered,
            _ => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes between the database and the log.
    pub(super) fn queued(&self, bytes: usize) {
        self.queued.store(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// One more of its tables is read.
    pub(super) fn snapshot_table_done(&self) {
        if let Some(snapshot) = self.snapshot.lock().as_mut() {
            snapshot.tables_done += 1;
        }
    }

    /// Forgets the topics written to so far.
    pub(super) fn forget_topics(&self) {
        self.topics.lock().clear();
    }

    pub(super) fn read(&self) -> ConnectorStatus {
        let state = self.state.borrow().clone();
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let mut snapshot = self.snapshot.lock().clone();
        if let Some(snapshot) = &mut snapshot {
            snapshot.rows = get(&self.snapshot_rows).saturating_sub(snapshot.before);
        }
        ConnectorStatus {
            phase: state.phase,
            error: state.error,
            caught_up: state.caught_up,
            server_lsn: Lsn(get(&self.server_lsn)),
            durable_lsn: Lsn(get(&self.durable_lsn)),
            last_event_ms: get(&self.last_event_ms).cast_signed(),
            slot: self.slot.lock().clone(),
            held_transactions: get(&self.held_transactions),
            queue: (get(&self.queued), get(&self.queue_limit)),
            snapshot,
            snapshot_done: *self.snapshot_done.lock(),
            left: self.left.lock().clone(),
            snapshot_paused: self.snapshot_paused.load(Ordering::Relaxed),
            counters: Counters {
                creates: get(&self.creates),
                updates: get(&self.updates),
                deletes: get(&self.deletes),
                filtered: get(&self.filtered),
                changes: get(&self.changes),
                transactions: get(&self.transactions),
                snapshot_rows: get(&self.snapshot_rows),
                left_out: get(&self.left_out),
                skipped: get(&self.skipped),
                records: get(&self.records),
                bytes: get(&self.bytes),
                batches: get(&self.batches),
                reconnects: get(&self.reconnects),
                spilled_bytes: get(&self.spilled_bytes),
            },
            topics: self.topics.lock().iter().map(|t| t.as_ref().to_owned()).collect(),
        }
    }

    /// Waits until the state satisfies a condition and gives phase and error.
    pub(super) async fn wait(
        &self,
        mut ready: impl FnMut(Phase, bool) -> bool,
    ) -> (Phase, Option<Arc<Error>>) {
        let mut watch = self.state.subscribe();
        // The sender lives in `self`: the channel cannot close while we wait.
        match watch.wait_for(|s| ready(s.phase, s.caught_up)).await {
            Ok(state) => (state.phase, state.error.clone()),
            Err(_) => (Phase::Stopped, None),
        }
    }

    pub(super) fn subscribe(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut watch = self.state.subscribe();
        async move {
            let _ = watch.changed().await;
        }
    }
}
