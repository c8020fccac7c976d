//! OVER windows: aggregates of the rows up to each row, over insert-only inputs.
//!
//! By event time, rows wait for the watermark and come out in time order; rows of one time share a RANGE frame.
//! By processing time they come out at once. The order in which partitions come out at one watermark is Flink's.

use ahash::RandomState;
use hashbrown::{HashMap, HashSet};

use super::super::codec::{self, CodecError, Reader};
use super::super::error::EngineError;
use super::super::plan::{AggregateCall, Frame, Over as Spec};
use super::super::row::{Change, Row, RowKind, Value};
use super::aggregate::accumulator::{Accumulators, Call};
use super::aggregate::bytes;
use super::aggregate::counts::MemoryCounts;
use super::buffer::{Buffer, Waiting, key_time, row_time, time_key};
use super::timers::Timers;
use super::{Builder, Emitter, Operator};
use crate::state::{StateError, StateTable};

/// A function of an OVER window.
enum Function {
    Aggregate(Call),
    RowNumber,
    /// Value, offset and default columns.
    Lag(Vec<usize>),
}

impl Function {
    fn new(builder: &Builder<'_>, call: &AggregateCall, retract: bool) -> Result<Self, EngineError> {
        Ok(match call.function {
            "ROW_NUMBER" => Self::RowNumber,
            "LAG" => Self::Lag(call.args.clone()),
            "RANK" | "DENSE_RANK" | "NTILE" | "LEAD" | "CUME_DIST" | "PERCENT_RANK" => {
                return Err(EngineError::Plan(format!(
                    "{} in an OVER window is not supported on a stream",
                    call.function
                )));
            }
            _ => Self::Aggregate(Call::new(call, builder.input(0)?, retract)?),
        })
    }
}

/// What a partition has seen.
#[derive(Default)]
struct Partition {
    accumulators: Accumulators,
    counts: MemoryCounts,
    /// Rows in the frame.
    rows: i64,
    /// The last values of each LAG.
    lags: Vec<Vec<Value>>,
    dirty: bool,
}

pub(super) struct Over {
    spec: Spec,
    functions: Vec<Function>,
    clock: std::sync::Arc<dyn super::super::graph::Clock>,
    table: Box<dyn StateTable>,
    partitions: HashMap<Vec<u8>, Partition, RandomState>,
    /// Rows that wait for the watermark: by partition, then time.
    pending: Buffer,
    /// Rows of bounded frames: by partition, then time.
    frames: Buffer,
    timers: Timers<Vec<u8>>,
    /// The last of each partition's second timers.
    cleanups: HashMap<Vec<u8>, i64, RandomState>,
    /// Timers that are set, so that none is set twice.
    set: HashSet<(i64, Vec<u8>), RandomState>,
    watermark: i64,
}

impl Over {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        let retract = matches!(spec.frame, Frame::Range(Some(_)) | Frame::Rows(Some(_)));
        let functions = spec
            .calls
            .iter()
            .map(|call| Function::new(builder, call, retract))
            .collect::<Result<Vec<_>, _>>()?;
        let pending = Buffer::new(builder.table("pending")?)?;
        let frames = Buffer::new(builder.table("frames")?)?;
        let mut over = Self {
            spec: spec.clone(),
            functions,
            clock: std::sync::Arc::clone(&builder.context.clock),
            table: builder.table("partitions")?,
            partitions: HashMap::default(),
            pending,
            frames,
            timers: Timers::default(),
            cleanups: HashMap::default(),
            set: HashSet::default(),
            watermark: i64::MIN,
        };
        let waiting: Vec<(Vec<u8>, i64)> = over.pending.from(&[]).filter_map(|(key, _)| split(key)).collect();
        waiting.into_iter().for_each(|(partition, time)| over.schedule(partition, time));
        Ok(over)
    }

    /// Sets the timer of a row. Bounded RANGE frames have a second one behind it, at which Flink forgets the
    /// partition; here it only keeps the order of the timers the same.
    fn schedule(&mut self, partition: Vec<u8>, time: i64) {
        let bound = match self.spec.frame {
            Frame::Range(Some(bound)) => Some(bound),
            _ => None,
        };
        if self.set.insert((time, partition.clone())) {
            self.timers.push(time, partition.clone());
        }
        if let Some(bound) = bound
            && self
                .cleanups
                .get(&partition)
                .is_none_or(|&at| at < time.saturating_add(bound).saturating_add(1))
        {
            let at = time.saturating_add(bound.saturating_mul(3) / 2).saturating_add(1);
            if self.set.insert((at, partition.clone())) {
                self.timers.push(at, partition.clone());
            }
            self.cleanups.insert(partition, at);
        }
    }

    fn load(&mut self, key: &[u8]) -> Result<(), EngineError> {
        if self.partitions.contains_key(key) {
            return Ok(());
        }
        let lags = self.functions.iter().filter(|function| matches!(function, Function::Lag(_))).count();
        let calls = || {
            self.functions
                .iter()
                .filter_map(|f| if let Function::Aggregate(call) = f { Some(call) } else { None })
        };
        let mut partition = Partition {
            accumulators: calls().map(Call::create).collect(),
            lags: vec![Vec::new(); lags],
            ..Partition::default()
        };
        if let Some(bytes) = self.table.get(key)? {
            let damaged = |error: CodecError| StateError::Corrupt {
                table: "partitions of an OVER window".to_owned(),
                what: error.to_string(),
            };
            let mut reader = Reader::new(&bytes);
            partition.rows = reader.signed().map_err(damaged)?;
            for accumulator in &mut partition.accumulators {
                *accumulator = bytes::get(&mut reader).map_err(damaged)?;
            }
            for lag in &mut partition.lags {
                *lag = reader.row().map_err(damaged)?.to_vec();
            }
            partition.counts = MemoryCounts::get(&mut reader).map_err(damaged)?;
        }
        self.partitions.insert(key.to_vec(), partition);
        Ok(())
    }

    /// Takes a row into a partition's frame, or out of it.
    fn apply(&mut self, key: &[u8], row: &Row, add: bool) -> Result<(), EngineError> {
        let Some(partition) = self.partitions.get_mut(key) else { return Ok(()) };
        partition.dirty = true;
        partition.rows += if add { 1 } else { -1 };
        let mut accumulators = partition.accumulators.iter_mut();
        let mut lags = partition.lags.iter_mut();
        for (at, function) in (0..).zip(&self.functions) {
            match function {
                Function::Aggregate(call) => {
                    if let Some(accumulator) = accumulators.next() {
                        call.apply(at, accumulator, row, add, &mut partition.counts)?;
                    }
                }
                Function::Lag(args) => {
                    if let (Some(lag), true) = (lags.next(), add) {
                        lag.push(argument(args, 0, row).cloned().unwrap_or(Value::Null));
                        let keep = offset(args, row).saturating_add(1);
                        let over = lag.len().saturating_sub(keep);
                        lag.drain(..over);
                    }
                }
                Function::RowNumber => {}
            }
        }
        Ok(())
    }

    /// Emits a row with the values of its partition's frame.
    fn emit(&mut self, key: &[u8], row: &Row, out: &mut Emitter) -> Result<(), EngineError> {
        let Some(partition) = self.partitions.get_mut(key) else { return Ok(()) };
        let mut accumulators = partition.accumulators.iter();
        let mut lags = partition.lags.iter();
        let mut values: Vec<Value> = row.to_vec();
        for (at, function) in (0..).zip(&self.functions) {
            values.push(match function {
                Function::Aggregate(call) => match accumulators.next() {
                    Some(accumulator) => call.value(at, accumulator, &mut partition.counts)?,
                    None => Value::Null,
                },
                Function::RowNumber => Value::Int(partition.rows),
                Function::Lag(args) => {
                    let lag = lags.next().map(Vec::as_slice).unwrap_or_default();
                    match lag.len().checked_sub(offset(args, row).saturating_add(1)) {
                        Some(back) => lag.get(back).cloned().unwrap_or(Value::Null),
                        None => argument(args, 2, row).cloned().unwrap_or(Value::Null),
                    }
                }
            });
        }
        out.row(RowKind::Insert, Row::from(values));
        Ok(())
    }

    /// Rows of one partition and time, in order of arrival.
    fn fire(&mut self, key: &[u8], time: i64, rows: &[Row], out: &mut Emitter) -> Result<(), EngineError> {
        self.load(key)?;
        match self.spec.frame {
            Frame::Range(bound) => {
                for row in rows {
                    self.apply(key, row, true)?;
                }
                if let Some(bound) = bound {
                    self.keep(key, time, rows);
                    let from = [key, &time_key(time.saturating_sub(bound))].concat();
                    let gone: Vec<Vec<u8>> = self
                        .frames
                        .prefixed(key)
                        .map(|(known, _)| known.clone())
                        .take_while(|known| *known < from)
                        .collect();
                    self.retire(key, gone)?;
                }
                for row in rows {
                    self.emit(key, row, out)?;
                }
            }
            Frame::Rows(bound) => {
                for row in rows {
                    self.apply(key, row, true)?;
                    if let Some(bound) = bound {
                        self.keep(key, time, std::slice::from_ref(row));
                        let keep = usize::try_from(bound).unwrap_or(usize::MAX).saturating_add(1);
                        let known: Vec<Vec<u8>> =
                            self.frames.prefixed(key).map(|(known, _)| known.clone()).collect();
                        let over = known.len().saturating_sub(keep);
                        self.retire(key, known.into_iter().take(over).collect())?;
                    }
                    self.emit(key, row, out)?;
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, key: &[u8], time: i64, rows: &[Row]) {
        for row in rows {
            let full = [key, &time_key(time)].concat();
            self.frames.push(full, Waiting { kind: RowKind::Insert, mark: false, row: Row::clone(row) });
        }
    }

    fn retire(&mut self, key: &[u8], gone: Vec<Vec<u8>>) -> Result<(), EngineError> {
        for known in gone {
            if let Some(waiting) = self.frames.remove(&known) {
                self.apply(key, &waiting.row, false)?;
            }
        }
        Ok(())
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
        for change in rows.drain(..) {
            let mut key = Vec::new();
            codec::put_key(&mut key, &change.row, &self.spec.partition);
            if !self.spec.rowtime {
                let now = self.clock.now();
                self.fire(&key, now, &[change.row], out)?;
                continue;
            }
            let time = row_time(&change.row, self.spec.time)?;
            if time <= self.watermark {
                continue;
            }
            let full = [key.as_slice(), &time_key(time)].concat();
            self.pending.push(full, Waiting { kind: change.kind, mark: false, row: change.row });
            self.schedule(key, time);
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        self.watermark = watermark;
        if self.spec.rowtime {
            while let Some((at, key)) = self.timers.pop_due(watermark) {
                self.set.remove(&(at, key.clone()));
                if self.cleanups.get(&key).is_some_and(|&cleanup| cleanup <= at) {
                    self.cleanups.remove(&key);
                }
                loop {
                    let next = self.pending.prefixed(&key).next().and_then(|(full, _)| split(full));
                    let Some((_, time)) = next.filter(|(_, time)| *time <= at) else { break };
                    let drained = self.pending.drain(&[key.as_slice(), &time_key(time)].concat());
                    let rows: Vec<Row> = drained.into_iter().map(|(_, waiting)| waiting.row).collect();
                    self.fire(&key, time, &rows, out)?;
                }
            }
        }
        out.watermark(watermark);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        let mut bytes = Vec::new();
        for (key, partition) in self.partitions.iter_mut().filter(|(_, partition)| partition.dirty) {
            partition.dirty = false;
            bytes.clear();
            codec::put_signed(&mut bytes, partition.rows);
            partition.accumulators.iter().for_each(|accumulator| bytes::put(&mut bytes, accumulator));
            partition.lags.iter().for_each(|lag| codec::put_row(&mut bytes, lag));
            partition.counts.put(&mut bytes);
            self.table.put(key, &bytes);
        }
        // Clean ones come back from the table when they are needed.
        if self.partitions.len() > 1 << 16 {
            self.partitions.clear();
        }
        Ok(())
    }
}
