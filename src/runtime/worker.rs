//! The pipeline's thread: decodes, computes, cuts epochs.
//!
//! It is one thread with one queue of events, so that everything about an epoch happens in one order. While
//! sinks write epoch N it computes N+1; N+1 is committed to the state only when all of them hold N. An epoch
//! is cut as soon as nothing waits to be read, so that at low rates every change goes through at once; under
//! load epochs grow to what is read while the sinks write the one before.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::batching::Batching;
use super::directory::StateDirectory;
pub(super) use super::failure::{closed, engine_error, state_error};
use super::source::SourceEvent;
use super::status::{Hop, Phase, Shared};
use super::writer::{SinkEvent, Write};
use crate::engine::codec;
use crate::engine::format::Decoder;
use crate::engine::graph::{Graph, Output as GraphOutput};
use crate::engine::plan::NodeId;
use crate::engine::row::Change;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::log::TopicPartition;
use crate::sink::output::Collector;
use crate::sink::{Output, outbox};
use crate::state::{Head, Store};

/// An epoch is cut after this time even while there is more to read.
const MAX_DELAY: Duration = Duration::from_millis(30);
/// Beyond one of these an epoch is cut as soon as the sinks are ready, and nothing is read until then.
const MAX_RECORD_BYTES: usize = 32 << 20;
const MAX_STATE_BYTES: usize = 128 << 20;
const MAX_OUTPUT_ROWS: usize = 100_000;
const MAX_OUTPUT_BYTES: usize = 32 << 20;
/// Changes that go through the graph at once.
pub(super) const CHUNK: usize = 1024;
/// So many of them at first: what comes of one is not known yet.
const FIRST_PIECE: usize = 32;
/// How long a stop waits for targets.
pub(super) const STOP_PATIENCE: Duration = Duration::from_secs(8);

/// What comes to the thread.
pub(super) enum Event {
    Source(SourceEvent),
    Sink(SinkEvent),
    Command(Command),
}

impl From<SourceEvent> for Event {
    fn from(event: SourceEvent) -> Self {
        Self::Source(event)
    }
}

impl From<SinkEvent> for Event {
    fn from(event: SinkEvent) -> Self {
        Self::Sink(event)
    }
}

/// What a handle asks of the thread.
pub(super) enum Command {
    /// End cleanly: commit what was read, write it, stop.
    Stop,
    /// Finish the epoch, wait for the sinks, and stand still; answers with the input offsets.
    Hold(oneshot::Sender<BTreeMap<String, i64>>),
    /// While held: write these outputs (by sink) as an epoch of their own.
    Inject(Vec<(String, Output)>, oneshot::Sender<Result<()>>),
    /// Go on.
    Release,
    /// Finish the epoch, and write the state to a file: script, path; answers with its size in bytes.
    Savepoint(String, PathBuf, oneshot::Sender<Result<u64>>),
}

pub(super) struct SourceSlot {
    pub(super) node: NodeId,
    /// The node's name.
    pub(super) name: String,
    /// Its columns among those that the decoder gives; `None`: all of them.
    pub(super) columns: Option<Vec<usize>>,
    /// Other nodes of the same table, which get the same records.
    pub(super) beside: Vec<Reader>,
    /// The table's name.
    pub(super) table: String,
    pub(super) decoder: Box<dyn Decoder>,
    /// Its topics are files, its offsets their lines.
    pub(super) of_files: bool,
    /// The keys of its records say where it goes on.
    pub(super) by_key: bool,
    /// The partitions it reads; a place in it is the graph's number of the partition.
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) ended: bool,
    /// Where records go that its format skips, by the sink's name.
    pub(super) dead_letters: Option<String>,
}

/// A source's node that another one reads for.
pub(super) struct Reader {
    pub(super) node: NodeId,
    pub(super) name: String,
    pub(super) columns: Option<Vec<usize>>,
}

impl SourceSlot {
    /// All nodes that get its records, with what they get of them.
    pub(super) fn readers(&self) -> impl Iterator<Item = (NodeId, Option<&[usize]>)> {
        let beside = self.beside.iter().map(|reader| (reader.node, reader.columns.as_deref()));
        std::iter::once((self.node, self.columns.as_deref())).chain(beside)
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.readers().map(|(node, _)| node)
    }

    /// Their names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.beside.iter().map(|reader| reader.name.as_str()))
    }

    /// The graph's number of a partition.
    pub(super) fn number(&self, at: &TopicPartition) -> u32 {
        let place = self.partitions.iter().position(|p| p == at).unwrap_or(0);
        u32::try_from(place).unwrap_or(0)
    }

    /// Takes over which partitions there are; says how many.
    pub(super) fn set_partitions(&mut self, partitions: Vec<TopicPartition>) -> u32 {
        self.partitions = partitions;
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }
}

pub(super) struct SinkSlot {
    pub(super) node: NodeId,
    pub(super) name: String,
    pub(super) collector: Collector,
    /// The sink's last epoch in the state.
    pub(super) epoch: u64,
    /// The last one that the target is known to hold.
    pub(super) written: u64,
    /// `None` at the end.
    pub(super) writes: Option<mpsc::UnboundedSender<Write>>,
    /// How far time has come, for a sink that has no rows under way.
    pub(super) watermark: Arc<AtomicI64>,
}

pub(super) struct Worker {
    pub(super) batching: Batching,
    pub(super) graph: Graph,
    pub(super) store: Store,
    pub(super) sources: Vec<SourceSlot>,
    pub(super) sinks: Vec<SinkSlot>,
    pub(super) events: Receiver<Event>,
    pub(super) shared: Arc<Shared>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) watcher: Option<mpsc::Sender<Hop>>,
    pub(super) work: Work,
    /// Let go of last.
    pub(super) _directory: StateDirectory,
}

/// The part of a worker that changes with each epoch.
#[derive(Default)]
pub(super) struct Work {
    pub(super) positions: BTreeMap<String, i64>,
    /// Keys of the last records of inputs that go by them; without columns at the end of those that have none.
    pub(super) keys: BTreeMap<String, String>,
    /// Numbers of input partitions.
    pub(super) numbers: BTreeMap<String, u32>,
    /// Where the reading of input partitions began.
    pub(super) begins: BTreeMap<String, i64>,
    /// Events put off while sinks were waited for or the pipeline was held.
    pub(super) deferred: VecDeque<Event>,
    /// Something is to be committed.
    pub(super) dirty: bool,
    pub(super) since: Option<Instant>,
    pub(super) record_bytes: usize,
    /// Changes that go through the graph at once.
    pub(super) piece: usize,
    pub(super) records: u64,
    pub(super) newest: Option<i64>,
    pub(super) in_flight: usize,
    pub(super) held: bool,
    pub(super) stop_by: Option<Instant>,
    pub(super) end_sent: bool,
    /// Threads that write savepoints; they use the state.
    pub(super) savepoints: Vec<std::thread::JoinHandle<()>>,
}

impl Work {
    pub(super) fn new(head: &Head, held: bool) -> Self {
        let (positions, numbers, begins) = (head.inputs.clone(), head.numbers.clone(), head.begins.clone());
        let keys = head.keys.clone();
        Self { positions, keys, numbers, begins, held, piece: FIRST_PIECE, ..Self::default() }
    }

    /// Of `given` changes came so many rows and bytes: the next piece is smaller where that was much, so that an epoch
    /// can end between two, and grows slowly, since nobody knows what the next ones give.
    pub(super) fn measure(&mut self, given: usize, (rows, bytes): (usize, usize)) {
        let each = |came: usize| (came / given.max(1)).max(1);
        let fits = (MAX_OUTPUT_ROWS / 4 / each(rows)).min(MAX_OUTPUT_BYTES / 4 / each(bytes));
        self.piece = fits.min(self.piece.saturating_mul(2)).clamp(1, CHUNK);
    }
}

/// Collects what the graph emits.
pub(super) struct Sinks<'a>(pub(super) &'a mut [SinkSlot]);

impl GraphOutput for Sinks<'_> {
    fn rows(&mut self, sink: NodeId, rows: &mut Vec<Change>) {
        let Some(slot) = self.0.iter_mut().find(|s| s.node == sink) else {
            rows.clear();
            return;
        };
        for change in rows.drain(..) {
            slot.collector.push(change, |change, columns, key| codec::put_key(key, &change.row, columns));
        }
    }
}

impl Worker {
    /// Runs to the end: finished, stopped, or failed.
    pub(super) fn run(mut self) {
        self.shared.started();
        let result = self.work();
        let _ = self.stop.send(true);
        let (phase, failure) = match result {
            Ok(phase) => (phase, None),
            Err(error)
                if error.kind() == Kind::Stopped && (self.work.stop_by.is_some() || *self.stop.borrow()) =>
            {
                (Phase::Stopped, None)
            }
            Err(error) => (Phase::Failed, Some(error)),
        };
        self.close_sinks();
        self.await_savepoints();
        // Dropped first: the state's directory is free when the end is seen.
        let shared = Arc::clone(&self.shared);
        drop(self);
        shared.finish(phase, failure);
    }

    fn work(&mut self) -> Result<Phase> {
        self.graph.start(&mut Sinks(&mut self.sinks)).map_err(engine_error)?;
        self.work.dirty = self.sinks.iter().any(|s| !s.collector.is_empty());
        loop {
            self.fire_timers()?;
            let Some(event) = self.next_event()? else {
                if self.ended() {
                    return self.finish(Phase::Finished);
                }
                continue;
            };
            match event {
                Event::Source(event) => self.source_event(event)?,
                Event::Sink(event) => self.sink_event(event)?,
                Event::Command(command) => self.command(command)?,
            }
            if self.work.stop_by.is_some() {
                return self.finish(Phase::Stopped);
            }
            if self.due() {
                self.wait_for_sinks()?;
                self.cut(Vec::new())?;
            }
        }
    }

    /// The next event; `None` after a wait without one, or where everything has ended. Cuts the epoch before it
    /// waits.
    fn next_event(&mut self) -> Result<Option<Event>> {
        // Held, it still does as it is told.
        let next = match self.work.held {
            false => self.work.deferred.pop_front(),
            true => {
                let command = self.work.deferred.iter().position(|event| matches!(event, Event::Command(_)));
                command.and_then(|place| self.work.deferred.remove(place))
            }
        };
        if next.is_some() {
            return Ok(next);
        }
        match self.events.try_recv() {
            Ok(event) => return Ok(Some(event)),
            Err(TryRecvError::Disconnected) => return Err(closed()),
            Err(TryRecvError::Empty) => {}
        }
        let mut ripe = None;
        if self.work.in_flight == 0 && !self.work.held {
            if self.work.dirty {
                ripe = self.ripe_in();
                if ripe.is_none() {
                    self.cut(Vec::new())?;
                    return Ok(None);
                }
            } else {
                self.shared.rest();
                if self.ended() {
                    return Ok(None);
                }
            }
        }
        let now = crate::engine::graph::Clock::now(&crate::engine::graph::SystemClock);
        let wait = match self.graph.next_timer().filter(|_| !self.work.held) {
            Some(at) => Duration::from_millis(u64::try_from((at - now).max(0)).unwrap_or(0)),
            None => Duration::from_secs(3600),
        };
        match self.events.recv_timeout(ripe.map_or(wait, |ripe| ripe.min(wait))) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(closed()),
        }
    }

    /// How long the epoch may wait for more, by the mini-batch options; `None`: it is cut now that nothing waits to
    /// be read. Nothing more comes where all sources have ended.
    fn ripe_in(&self) -> Option<Duration> {
        let latency = self.batching.latency?;
        let more = self.work.records < self.batching.records && !self.sources.iter().all(|s| s.ended);
        let waited = self.work.since.map_or(latency, |since| since.elapsed());
        latency.checked_sub(waited).filter(|left| more && !left.is_zero())
    }

    /// Whether all sources have ended and everything they gave is written.
    fn ended(&self) -> bool {
        self.sources.iter().all(|s| s.ended)
            && !self.work.dirty
            && self.work.in_flight == 0
            && self.work.deferred.is_empty()
    }

    /// Rows that wait for the end of the epoch, and about how many bytes they are.
    pub(super) fn collected(&self) -> (usize, usize) {
        let of = |(rows, bytes), s: &SinkSlot| (rows + s.collector.len(), bytes + s.collector.bytes());
        self.sinks.iter().fold((0, 0), of)
    }

    /// Whether what was collected is as much as an epoch may hold.
    pub(super) fn is_full(&self) -> bool {
        let (rows, bytes) = self.collected();
        rows >= MAX_OUTPUT_ROWS || bytes >= MAX_OUTPUT_BYTES
    }

    fn due(&self) -> bool {
        let work = &self.work;
        if !work.dirty {
            return false;
        }
        let full = work.record_bytes >= MAX_RECORD_BYTES
            || self.is_full()
            || self.store.dirty_bytes() >= MAX_STATE_BYTES;
        let delay = self.batching.latency.unwrap_or(MAX_DELAY);
        let ripe = work.since.is_some_and(|s| s.elapsed() >= delay) || work.records >= self.batching.records;
        full || (work.in_flight == 0 && ripe)
    }

    pub(super) fn touch(&mut self) {
        self.work.dirty = true;
        self.work.since.get_or_insert_with(Instant::now);
    }

    fn fire_timers(&mut self) -> Result<()> {
        let now = crate::engine::graph::Clock::now(&crate::engine::graph::SystemClock);
        // What was put off while sinks were waited for is older than this moment: a partition whose rows lie there is
        // not idle.
        let put_off = !self.work.deferred.is_empty();
        if !self.work.held && !put_off && self.graph.next_timer().is_some_and(|at| at <= now) {
            self.graph.advance_clock(now, &mut Sinks(&mut self.sinks)).map_err(engine_error)?;
            self.touch();
        }
        Ok(())
    }

    pub(super) fn sink_event(&mut self, event: SinkEvent) -> Result<()> {
        match event {
            SinkEvent::Written { sink, epoch } => {
                self.work.in_flight = self.work.in_flight.saturating_sub(1);
                if let Some(slot) = self.sinks.get_mut(sink) {
                    slot.written = epoch;
                }
                failpoint!("pipeline.sink_done");
                Ok(())
            }
            SinkEvent::Failed { error } => Err(error),
            SinkEvent::Closed => Err(closed()),
        }
    }

    pub(super) fn command(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Stop => {
                self.work.stop_by.get_or_insert_with(|| Instant::now() + STOP_PATIENCE);
                let _ = self.stop.send(true);
                Ok(())
            }
            Command::Hold(reply) => {
                self.wait_for_sinks()?;
                if self.work.dirty {
                    self.cut(Vec::new())?;
                    self.wait_for_sinks()?;
                }
                self.work.held = true;
                self.shared.held(true);
                // Nobody waits any more: then nobody will release either.
                if reply.send(self.work.positions.clone()).is_err() {
                    self.release();
                }
                Ok(())
            }
            Command::Inject(outputs, reply) => self.inject(outputs, reply),
            Command::Release => {
                self.release();
                Ok(())
            }
            Command::Savepoint(script, path, reply) => self.savepoint(script, path, reply),
        }
    }

    fn release(&mut self) {
        self.work.held = false;
        self.shared.held(false);
    }

    /// Takes events until all sinks hold the epoch that they write; others are put off.
    pub(super) fn wait_for_sinks(&mut self) -> Result<()> {
        while self.work.in_flight > 0 {
            let wait = match self.work.stop_by {
                Some(at) => at.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            match self.events.recv_timeout(wait) {
                Ok(event) => self.put_off(event)?,
                Err(RecvTimeoutError::Timeout) if self.work.stop_by.is_none() => {}
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Error::new(Kind::Stopped, "a target did not take the last epoch in time"));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(closed()),
            }
        }
        Ok(())
    }

    /// Ends the epoch: commits it and hands its output to the sinks. All sinks hold the one before.
    ///
    /// `injected` replaces what the query gave, of which there is none then.
    pub(super) fn cut(&mut self, injected: Vec<(usize, Output)>) -> Result<()> {
        self.graph.flush().map_err(engine_error)?;
        let mut outputs: Vec<(usize, Output)> = injected;
        if outputs.is_empty() {
            outputs.extend(
                self.sinks
                    .iter_mut()
                    .enumerate()
                    .filter(|(_, s)| !s.collector.is_empty())
                    .map(|(i, s)| (i, s.collector.take())),
            );
        }
        outputs.retain(|(_, output)| !output.changes.is_empty());
        let mut outboxes = Vec::with_capacity(outputs.len());
        for (sink, output) in &outputs {
            outboxes.push(outbox::encode(output)?);
            if let Some(slot) = self.sinks.get_mut(*sink) {
                slot.epoch += 1;
            }
        }
        let head = self.head();
        let epoch = head.epoch;
        let named: Vec<(&str, &[Vec<u8>])> = outputs
            .iter()
            .zip(&outboxes)
            .filter_map(|((sink, _), parts)| Some((self.sinks.get(*sink)?.name.as_str(), parts.as_slice())))
            .collect();
        let has_output = !outputs.is_empty();
        if has_output {
            failpoint!("pipeline.before_state");
        }
        self.store.commit(head, &named).map_err(state_error)?;
        if has_output {
            failpoint!("pipeline.after_state");
        }
        let work = &mut self.work;
        (work.dirty, work.since, work.record_bytes, work.records) = (false, None, 0, 0);
        self.shared.committed(epoch, &work.positions, work.newest, self.sinks.iter().map(|s| s.epoch));
        if let Some(watcher) = &self.watcher {
            // Whoever watches too slowly misses hops.
            let positions = Arc::new(work.positions.clone());
            let _ = watcher.try_send(Hop::State { epoch, positions, at: std::time::SystemTime::now() });
        }
        let with_rows: Vec<usize> = outputs.iter().map(|(sink, _)| *sink).collect();
        for (_, slot) in self.sinks.iter().enumerate().filter(|(sink, _)| !with_rows.contains(sink)) {
            slot.watermark.store(self.graph.current_watermark(slot.node), Ordering::Release);
        }
        for (sink, output) in outputs {
            let Some(slot) = self.sinks.get(sink) else { continue };
            let watermark = self.graph.current_watermark(slot.node);
            let write = Write { epoch: slot.epoch, of: epoch, output, watermark };
            slot.writes.as_ref().and_then(|writes| writes.send(write).ok()).ok_or_else(closed)?;
            self.work.in_flight += 1;
        }
        Ok(())
    }

    fn head(&self) -> Head {
        let mut head = self.store.head().clone();
        head.epoch += 1;
        head.inputs.clone_from(&self.work.positions);
        head.keys.clone_from(&self.work.keys);
        head.numbers.clone_from(&self.work.numbers);
        head.begins.clone_from(&self.work.begins);
        self.keep_sinks(&mut head);
        head
    }

    pub(super) fn keep_sinks(&self, head: &mut Head) {
        for slot in &self.sinks {
            // A sink without output yet stays at 0 implicitly.
            if slot.epoch > 0 {
                head.sinks.insert(slot.name.clone(), slot.epoch);
            }
            head.written.insert(slot.name.clone(), slot.written);
        }
    }
}
