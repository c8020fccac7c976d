//! OVER windows: aggregates of the rows up to each row, over insert-only inputs.
//!
//! By event time, rows wait for the watermark and come out in time order; rows of one time share a RANGE frame.
//! By processing time they come out at once. The order in which partitions come out at one watermark is Flink's.

use ahash::RandomState;
use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::super::codec::{self, CodecError, Reader};
use super::super::error::EngineError;
use super::super::plan::{Frame, Over as Spec};
use super::super::row::{Change, Row, RowKind, Value};
use super::aggregate::accumulator::Accumulators;
use super::aggregate::bytes;
use super::aggregate::memory::MemoryCounts;
use super::buffer::{Waiting, key_time, row_time, time_key};
use super::cleaning::{self, Cleaning};
use super::keyed::KeyedRows;
use super::over_functions::Functions;
use super::timers::Timers;
use super::{Builder, Emitter, Operator};
use crate::state::{StateError, StateTable};

/// About what a partition takes in memory besides its key and twice what it takes in the state.
const PARTITION_WEIGHT: usize = 320;

/// What a partition has seen.
#[derive(Default)]
struct Partition {
    accumulators: Accumulators,
    counts: MemoryCounts,
    /// Rows in the frame.
    rows: i64,
    /// Of a bounded frame: the time of the last rows that came out; earlier rows are late.
    fired: i64,
    /// The last values of each LAG.
    lags: Vec<Vec<Value>>,
    dirty: bool,
    /// What it weighed when it was read or written.
    weight: usize,
}

pub(super) struct Over {
    spec: Spec,
    functions: Functions,
    clock: std::sync::Arc<dyn super::super::graph::Clock>,
    table: Box<dyn StateTable>,
    partitions: HashMap<Vec<u8>, Partition, RandomState>,
    /// Bytes that may stay in memory over a flush, and those that are there.
    cached: usize,
    bytes: usize,
    /// Partitions that changed since the last flush.
    dirty: Vec<Vec<u8>>,
    /// Rows that wait for the watermark, by time.
    pending: KeyedRows,
    /// Rows of bounded frames, by time.
    frames: KeyedRows,
    timers: Timers<Vec<u8>>,
    /// The last of each partition's second timers; the table has the same.
    cleanups: HashMap<Vec<u8>, i64, RandomState>,
    stored_cleanups: Box<dyn StateTable>,
    /// What is forgotten by the clock: all but RANGE frames of event time, which go by the watermark.
    cleaning: Option<Cleaning>,
    /// Timers that are set, so that none is set twice.
    set: HashSet<(i64, Vec<u8>), RandomState>,
    watermark: i64,
}

impl Over {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        let retract = matches!(spec.frame, Frame::Range(Some(_)) | Frame::Rows(Some(_)));
        let functions = Functions::new(builder, &spec.calls, retract)?;
        let pending = KeyedRows::new(builder, "pending")?;
        let frames = KeyedRows::new(builder, "frames")?;
        let cleaning = match spec.frame {
            Frame::Range(Some(_)) if spec.rowtime => None,
            Frame::Range(Some(bound)) => {
                let most = (bound.saturating_mul(3) / 2).saturating_add(1);
                Some(Cleaning::new(builder, bound.saturating_add(1), most)?)
            }
            _ => Cleaning::by_ttl(builder)?,
        };
        let mut over = Self {
            spec: spec.clone(),
            functions,
            clock: std::sync::Arc::clone(&builder.context.clock),
            table: builder.table("partitions")?,
            partitions: HashMap::default(),
            cached: builder.cache(),
            bytes: 0,
            dirty: Vec::new(),
            pending,
            frames,
            timers: Timers::default(),
            cleanups: HashMap::default(),
            stored_cleanups: builder.table("cleanups")?,
            cleaning,
            set: HashSet::default(),
            watermark: i64::MIN,
        };
        let share = builder.share.clone();
        over.stored_cleanups.scan(&[], &mut |key, time| {
            if share.has(key) {
                over.cleanups.insert(key.to_vec(), key_time(time));
            }
            Ok(true)
        })?;
        let mut waiting: Vec<(Vec<u8>, i64)> = Vec::new();
        let own = |found: &(Vec<u8>, i64)| share.has(&found.0);
        over.pending.for_each_key(|key| waiting.extend(split(key).filter(own)))?;
        over.set.extend(waiting.into_iter().map(|(partition, time)| (time, partition)));
        over.set.extend(over.cleanups.iter().map(|(partition, &at)| (at, partition.clone())));
        let mut set: Vec<_> = over.set.iter().cloned().collect();
        set.sort_unstable();
        set.into_iter().for_each(|(time, partition)| over.timers.push(time, partition));
        Ok(over)
    }

    fn set_timer(&mut self, time: i64, partition: &[u8], out: &mut Emitter) {
        if self.set.insert((time, partition.to_vec())) {
            self.timers.push(time, partition.to_vec());
            out.timer(time, partition);
        }
    }

    /// Sets the timer of a row. Bounded RANGE frames have a second one behind it, at which the partition is
    /// forgotten, as in Flink.
    fn schedule(&mut self, partition: Vec<u8>, time: i64, out: &mut Emitter) -> Result<(), EngineError> {
        let bound = match self.spec.frame {
            Frame::Range(Some(bound)) => Some(bound),
            _ => None,
        };
        self.set_timer(time, &partition, out);
        let Some(bound) = bound else { return Ok(()) };
        let known = self.cleanups.get(&partition).copied();
        if known.is_none_or(|at| at < time.saturating_add(bound).saturating_add(1)) {
            let at = time.saturating_add(bound.saturating_mul(3) / 2).saturating_add(1);
            self.set_timer(at, &partition, out);
            self.stored_cleanups.put(&partition, &time_key(at));
            // The one before stays, and makes late what comes behind it.
            if let Some(known) = known {
                let nothing = Waiting { kind: RowKind::Insert, mark: true, row: Row::from([]) };
                self.pending.edit(&partition)?.push(time_key(known).to_vec(), nothing);
            }
            self.cleanups.insert(partition, at);
        }
        Ok(())
    }

    fn load(&mut self, key: &[u8]) -> Result<(), EngineError> {
        if self.partitions.contains_key(key) {
            return Ok(());
        }
        let mut partition = Partition {
            accumulators: self.functions.accumulators(),
            lags: vec![Vec::new(); self.functions.lags().count()],
            ..Partition::default()
        };
        if let Some(bytes) = self.table.get(key)? {
            let damaged = |error: CodecError| StateError::Corrupt {
                table: "partitions of an OVER window".to_owned(),
                what: error.to_string(),
            };
            let mut reader = Reader::new(&bytes);
            partition.rows = reader.signed().map_err(damaged)?;
            partition.fired = reader.signed().map_err(damaged)?;
            for accumulator in &mut partition.accumulators {
                *accumulator = bytes::get(&mut reader).map_err(damaged)?;
            }
            for lag in &mut partition.lags {
                *lag = reader.row().map_err(damaged)?.to_vec();
            }
            partition.counts = MemoryCounts::get(&mut reader).map_err(damaged)?;
            partition.weight = 2 * bytes.len();
        }
        partition.weight += PARTITION_WEIGHT + key.len();
        self.bytes += partition.weight;
        self.partitions.insert(key.to_vec(), partition);
        Ok(())
    }

    /// Takes a row into a partition's frame, or out of it.
    fn apply(&mut self, key: &[u8], row: &Row, add: bool) -> Result<(), EngineError> {
        let Some(partition) = self.partitions.get_mut(key) else { return Ok(()) };
        if !std::mem::replace(&mut partition.dirty, true) {
            self.dirty.push(key.to_vec());
        }
        partition.rows += if add { 1 } else { -1 };
        self.functions.apply(&mut partition.accumulators, &mut partition.counts, row, add)?;
        for (lag, args) in partition.lags.iter_mut().zip(self.functions.lags()).filter(|_| add) {
            lag.push(argument(args, 0, row).cloned().unwrap_or(Value::Null));
            let keep = offset(args, row).saturating_add(1);
            let over = lag.len().saturating_sub(keep);
            lag.drain(..over);
        }
        Ok(())
    }

    /// Emits a row with the values of its partition's frame.
    fn emit(&mut self, key: &[u8], row: &Row, out: &mut Emitter) -> Result<(), EngineError> {
        let Some(partition) = self.partitions.get_mut(key) else { return Ok(()) };
        let Partition { accumulators, counts, lags, rows, .. } = partition;
        let mut lags = lags.iter();
        let mut values: Vec<Value> = row.to_vec();
        self.functions.put_values(&mut values, accumulators, counts, *rows, |args| {
            let lag = lags.next().map(Vec::as_slice).unwrap_or_default();
            let back = lag.len().checked_sub(offset(args, row).saturating_add(1));
            // The default also stands for a NULL that is there, as in Flink.
            let value = back.and_then(|back| lag.get(back)).filter(|value| !value.is_null());
            value.or_else(|| argument(args, 2, row)).cloned().unwrap_or(Value::Null)
        })?;
        out.row(RowKind::Insert, Row::from(values));
        Ok(())
    }

    /// Rows of one partition and time, in order of arrival.
    fn fire(&mut self, key: &[u8], time: i64, rows: &[Row], out: &mut Emitter) -> Result<(), EngineError> {
        self.load(key)?;
        if let Some(partition) = self.partitions.get_mut(key) {
            partition.fired = time;
            if !std::mem::replace(&mut partition.dirty, true) {
                self.dirty.push(key.to_vec());
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        match self.spec.frame {
            Frame::Range(bound) => {
                // What leaves the frame goes first: sums of floating-point numbers depend on it.
                if let Some(bound) = bound {
                    let from = time.saturating_sub(bound);
                    while self.retire(key, |known, _| key_time(known) < from)? {}
                    self.keep(key, time, rows)?;
                }
                for row in rows {
                    self.apply(key, row, true)?;
                }
                for row in rows {
                    self.emit(key, row, out)?;
                }
            }
            Frame::Rows(bound) => {
                for row in rows {
                    if let Some(bound) = bound {
                        let keep = usize::try_from(bound).unwrap_or(usize::MAX);
                        while self.retire(key, |_, rows| rows > keep)? {}
                        self.keep(key, time, std::slice::from_ref(row))?;
                    }
                    self.apply(key, row, true)?;
                    self.emit(key, row, out)?;
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, key: &[u8], time: i64, rows: &[Row]) -> Result<(), EngineError> {
        let frame = self.frames.edit(key)?;
        for row in rows {
            frame.push(time_key(time).to_vec(), Waiting::new(RowKind::Insert, Row::clone(row)));
        }
        Ok(())
    }

    /// Takes the frame's first row out if its key and the number of rows say so.
    fn retire(&mut self, key: &[u8], gone: impl FnOnce(&[u8], usize) -> bool) -> Result<bool, EngineError> {
        let frame = self.frames.edit(key)?;
        let rows = frame.len();
        let Some((_, waiting)) = frame.pop(|at| gone(at, rows)) else { return Ok(false) };
        self.apply(key, &waiting.row, false)?;
        Ok(true)
    }

    /// Forgets a partition.
    fn forget(&mut self, key: &[u8]) -> Result<(), EngineError> {
        cleaning::forget(&mut self.frames, key)?;
        let weight = self.partitions.remove(key).map_or(0, |partition| partition.weight);
        self.bytes = self.bytes.saturating_sub(weight);
        self.table.delete(key);
        Ok(())
    }

    /// Forgets the partitions whose time has come, unless rows of them wait for the watermark.
    fn clean(&mut self, now: i64) -> Result<(), EngineError> {
        while let Some(cleaning) = &mut self.cleaning
            && let Some(key) = cleaning.pop_due(now)?
        {
            if self.pending.get(&key)?.len() == 0 {
                self.forget(&key)?;
            } else {
                self.frames.edit(&key)?.set_tag(None);
                cleaning.put_off(&key, &mut self.frames, now)?;
            }
        }
        Ok(())
    }

    /// Whether a row comes too late. Bounded frames look at what has come out of the partition, as Flink's do,
    /// and so take rows that are behind the watermark but not behind the partition's last result.
    fn is_late(&mut self, key: &[u8], time: i64) -> Result<bool, EngineError> {
        match self.spec.frame {
            Frame::Range(None) | Frame::Rows(None) => Ok(time <= self.watermark),
            Frame::Range(Some(_)) | Frame::Rows(Some(_)) => {
                self.load(key)?;
                Ok(self.partitions.get(key).is_some_and(|partition| time <= partition.fired))
            }
        }
    }
}

fn argument<'a>(args: &[usize], at: usize, row: &'a Row) -> Option<&'a Value> {
    args.get(at).and_then(|&column| row.get(column))
}

/// How many rows LAG looks back.
fn offset(args: &[usize], row: &Row) -> usize {
    argument(args, 1, row)
        .and_then(Value::as_int)
        .and_then(|offset| usize::try_from(offset).ok())
        .unwrap_or(1)
}

/// Partition and time of a waiting row's key.
fn split(key: &[u8]) -> Option<(Vec<u8>, i64)> {
    let (partition, rest) = key.split_at_checked(key.len().checked_sub(16)?)?;
    Some((partition.to_vec(), key_time(rest)))
}

impl Operator for Over {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        if self.cleaning.is_some() {
            self.clean(self.clock.now())?;
        }
        for change in rows.drain(..) {
            let mut key = Vec::new();
            codec::put_key(&mut key, &change.row, &self.spec.partition);
            if let Some(cleaning) = &mut self.cleaning {
                cleaning.put_off(&key, &mut self.frames, self.clock.now())?;
            }
            if !self.spec.rowtime {
                let now = self.clock.now();
                self.fire(&key, now, &[change.row], out)?;
                continue;
            }
            let time = row_time(&change.row, self.spec.time)?;
            if self.is_late(&key, time)? {
                continue;
            }
            self.pending.edit(&key)?.push(time_key(time).to_vec(), Waiting::new(change.kind, change.row));
            self.schedule(key, time, out)?;
        }
        Ok(())
    }

    fn start(&mut self, _first: bool, out: &mut Emitter) -> Result<(), EngineError> {
        self.set.iter().for_each(|(time, partition)| out.timer(*time, partition));
        Ok(())
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        self.watermark = watermark;
        if self.spec.rowtime {
            while let Some((at, key)) = self.timers.pop_due(watermark) {
                self.set.remove(&(at, key.clone()));
                if self.cleanups.get(&key).is_some_and(|&cleanup| cleanup <= at) {
                    self.cleanups.remove(&key);
                    self.stored_cleanups.delete(&key);
                    self.forget(&key)?;
                    continue;
                }
                loop {
                    let pending = self.pending.edit(&key)?;
                    let Some(time) = pending.iter().next().map(|(key, _)| key_time(key)) else { break };
                    if time > at {
                        break;
                    }
                    let mut rows: SmallVec<[Row; 4]> = SmallVec::new();
                    while let Some((_, waiting)) = pending.pop(|key| key_time(key) == time) {
                        if !waiting.mark {
                            rows.push(waiting.row);
                        }
                    }
                    out.order_by_timer(at, &key);
                    self.fire(&key, time, &rows, out)?;
                }
            }
        }
        out.watermark(watermark);
        Ok(())
    }

    fn resume(&mut self, watermark: i64) {
        self.watermark = watermark;
    }

    fn clock(&mut self, now: i64, _out: &mut Emitter) -> Result<(), EngineError> {
        self.clean(now)
    }

    fn next_timer(&self) -> Option<i64> {
        self.cleaning.as_ref()?.next()
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.pending.flush();
        self.frames.flush();
        if let Some(cleaning) = &mut self.cleaning {
            cleaning.flush()?;
        }
        let mut bytes = Vec::new();
        for key in self.dirty.drain(..) {
            let Some(partition) = self.partitions.get_mut(&key).filter(|partition| partition.dirty) else {
                continue;
            };
            partition.dirty = false;
            bytes.clear();
            codec::put_signed(&mut bytes, partition.rows);
            codec::put_signed(&mut bytes, partition.fired);
            partition.accumulators.iter().for_each(|accumulator| bytes::put(&mut bytes, accumulator));
            partition.lags.iter().for_each(|lag| codec::put_row(&mut bytes, lag));
            partition.counts.put(&mut bytes);
            self.table.put(&key, &bytes);
            let weight = PARTITION_WEIGHT + key.len() + 2 * bytes.len();
            let before = std::mem::replace(&mut partition.weight, weight);
            self.bytes = (self.bytes + weight).saturating_sub(before);
        }
        // Clean ones come back from the table when they are needed.
        if self.bytes > self.cached {
            self.partitions.clear();
            self.bytes = 0;
        }
        Ok(())
    }
}
