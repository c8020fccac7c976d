//! Watermarks, windows on the time line, and sorting by time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;

use super::super::error::EngineError;
use super::super::eval::{Evaluator, Input};
use super::super::expr::Expr;
use super::super::graph::Clock;
use super::super::plan::{Op, SortKey, WindowKind};
use super::super::row::{Change, Value};
use super::super::zone;
use super::buffer::{Waiting, key_time, put_sort_key, row_time, time_key};
use super::row::failed;
use super::timed::TimedRows;
use super::{Builder, Emitter, Operator};
use crate::state::StateTable;

/// Makes the watermark of a source from its rows; per partition, the least of them counts.
pub(super) struct WatermarkAssigner {
    name: String,
    rowtime: usize,
    watermark: Evaluator,
    /// The partition that the rows at hand come from, and how many the source has.
    partition: Arc<AtomicU32>,
    partitions: Arc<AtomicU32>,
    /// The greatest watermark of each partition; kept over restarts, since a partition may be quiet for long.
    greatest: Vec<i64>,
    emitted: i64,
    /// Somebody waits for watermarks.
    waits: bool,
    idle: Option<Idleness>,
    table: Box<dyn StateTable>,
}

/// Which partitions have given nothing for so long that watermarks do not wait for them (`table.exec.source.idle-timeout`,
/// or the table's `scan.watermark.idle-timeout`).
struct Idleness {
    timeout: i64,
    clock: Arc<dyn Clock>,
    started: i64,
    /// When each partition gave its last row; `None`: it is idle.
    active: Vec<Option<i64>>,
    /// All of them are, and it was said.
    said: bool,
}

impl Idleness {
    fn new(builder: &Builder<'_>) -> Result<Option<Self>, EngineError> {
        // Only projections and filters stand between a table and its watermark.
        let plan = builder.plan;
        let mut node = builder.node;
        while !matches!(node.op, Op::Source(_))
            && let Some(above) = node.inputs.first().and_then(|&input| plan.nodes.get(input))
        {
            node = above;
        }
        let own = if let Op::Source(table) = &node.op { table.options.get(OF_TABLE) } else { None };
        let Some(text) = own.or_else(|| plan.options.get(OF_JOB)) else { return Ok(None) };
        let timeout = super::super::options::millis(text)
            .ok_or_else(|| EngineError::Plan(format!("'{text}' is no duration for an idle timeout")))?;
        let clock = Arc::clone(&builder.context.clock);
        let started = clock.now();
        Ok((timeout > 0).then_some(Self { timeout, clock, started, active: Vec::new(), said: false }))
    }

    /// A partition gives rows; says whether all were idle before.
    fn touch(&mut self, partition: usize, partitions: usize) -> bool {
        let now = self.clock.now();
        self.know(partitions);
        if let Some(active) = self.active.get_mut(partition) {
            *active = Some(now);
        }
        std::mem::take(&mut self.said)
    }

    fn know(&mut self, partitions: usize) {
        if self.active.len() < partitions {
            self.active.resize(partitions, Some(self.started));
        }
    }

    /// Time has come to `now`; makes the partition idle that is silent for longest (of several the one that is behind),
    /// if there is one, and says so. Asked again for the next: however late this is called, each counts until it is
    /// its turn.
    fn look(&mut self, now: i64, greatest: &[i64]) -> bool {
        let late = now.saturating_sub(self.timeout);
        let silent = self.active.iter().enumerate().filter_map(|(partition, at)| {
            at.filter(|at| *at <= late).map(|at| (at, greatest.get(partition), partition))
        });
        let Some((.., partition)) = silent.min() else { return false };
        self.active.get_mut(partition).is_some_and(|active| active.take().is_some())
    }

    fn next_timer(&self) -> Option<i64> {
        self.active.iter().flatten().min().map(|at| at.saturating_add(self.timeout))
    }
}

const OF_TABLE: &str = "scan.watermark.idle-timeout";
const OF_JOB: &str = "table.exec.source.idle-timeout";

impl WatermarkAssigner {
    /// Emits the least watermark of the partitions that count, where it has grown.
    fn emit(&mut self, out: &mut Emitter) {
        let is_idle = |at: usize| {
            self.idle.as_ref().is_some_and(|idle| idle.active.get(at).is_some_and(Option::is_none))
        };
        let active = self.greatest.iter().enumerate().filter(|(at, _)| !is_idle(*at));
        if let Some(least) = active.map(|(_, time)| *time).min()
            && least > self.emitted
        {
            self.emitted = least;
            out.watermark(least);
        }
    }

    fn know(&mut self, partitions: usize) {
        if self.greatest.len() < partitions {
            self.greatest.resize(partitions, i64::MIN);
        }
        if let Some(idle) = &mut self.idle {
            idle.know(partitions);
        }
    }

    pub(super) fn new(
        builder: &mut Builder<'_>,
        rowtime: usize,
        watermark: &Expr,
    ) -> Result<Self, EngineError> {
        let mut table = builder.table("partitions")?;
        let mut greatest = Vec::new();
        table.scan(&[], &mut |_, time| {
            greatest.push(key_time(time));
            Ok(true)
        })?;
        Ok(Self {
            name: builder.node.name.clone(),
            rowtime,
            watermark: builder.evaluator(watermark)?,
            partition: Arc::clone(builder.partition),
            partitions: Arc::clone(builder.partitions),
            greatest,
            emitted: i64::MIN,
            waits: builder.waits,
            idle: if builder.waits { Idleness::new(builder)? } else { None },
            table,
        })
    }
}

impl Operator for WatermarkAssigner {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        let partition = usize::try_from(self.partition.load(Ordering::Relaxed)).unwrap_or(0);
        let partitions = usize::try_from(self.partitions.load(Ordering::Relaxed)).unwrap_or(1);
        self.know(partitions.max(partition + 1));
        if self.idle.as_mut().is_some_and(|idle| idle.touch(partition, partitions)) {
            out.idle(false);
        }
        for change in rows.drain(..) {
            row_time(&change.row, self.rowtime)?;
            let value =
                self.watermark.eval(Input::row(&change.row)).map_err(|error| failed(&self.name, error))?;
            out.rows().push(change);
            if let (Some(time), Some(greatest)) = (value.as_millis(), self.greatest.get_mut(partition))
                && time > *greatest
            {
                *greatest = time;
                if self.waits {
                    self.emit(out);
                }
            }
        }
        Ok(())
    }

    fn clock(&mut self, now: i64, out: &mut Emitter) -> Result<(), EngineError> {
        self.know(usize::try_from(self.partitions.load(Ordering::Relaxed)).unwrap_or(1));
        while self.idle.as_mut().is_some_and(|idle| idle.look(now, &self.greatest)) {
            self.emit(out);
            if let Some(idle) = &mut self.idle
                && idle.active.iter().all(Option::is_none)
            {
                idle.said = true;
                out.idle(true);
            }
        }
        Ok(())
    }

    fn next_timer(&self) -> Option<i64> {
        let idle = self.idle.as_ref()?;
        // Before the first row the partitions are not known.
        if idle.active.is_empty() {
            Some(idle.started.saturating_add(idle.timeout))
        } else {
            idle.next_timer()
        }
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        // Only the end of the source: until then the rows tell the time.
        if watermark == i64::MAX {
            out.watermark(watermark);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        for (partition, &time) in (0_u32..).zip(&self.greatest) {
            self.table.put(&partition.to_be_bytes(), &time_key(time));
        }
        Ok(())
    }
}

/// Start and end of a window: wall clock, milliseconds.
pub(super) type Span = (i64, i64);

/// How a time becomes windows: TIMESTAMP_LTZ in the session's zone.
#[derive(Clone, Copy)]
pub(super) struct Zone {
    pub(super) zone: zone::Zone,
    pub(super) ltz: bool,
}

impl Zone {
    /// Wall clock of a time.
    pub(super) fn local(self, millis: i64) -> i64 {
        if self.ltz { self.zone.local(millis) } else { millis }
    }

    /// The watermark at which a window with this end is complete.
    pub(super) fn fires_at(self, end: i64) -> i64 {
        let last = end.saturating_sub(1);
        if self.ltz { self.zone.instant_late(last) } else { last }
    }

    /// `window_time` of a window: its last millisecond, as the time attribute's type.
    pub(super) fn window_time(self, end: i64) -> Value {
        if self.ltz {
            let millis = self.zone.instant(end - 1);
            Value::TimestampLtz(super::super::row::Instant::from_millis(millis))
        } else {
            super::buffer::timestamp(end - 1)
        }
    }
}

/// The last of the times that lie a multiple of `unit` from `offset` and not behind a time.
pub(super) fn floor(time: i64, offset: i64, unit: i64) -> i64 {
    time.saturating_sub(time.saturating_sub(offset).rem_euclid(unit.max(1)))
}

/// The windows of a wall-clock time; of a session, the row's own.
pub(super) fn assign(kind: &WindowKind, time: i64) -> SmallVec<[Span; 4]> {
    let floor = |offset: i64, unit: i64| floor(time, offset, unit);
    let mut spans = SmallVec::new();
    match kind {
        WindowKind::Tumble { size, offset } => {
            let start = floor(*offset, *size);
            spans.push((start, start.saturating_add(*size)));
        }
        WindowKind::Hop { slide, size, offset } => {
            let mut start = floor(*offset, *slide);
            while start > time.saturating_sub(*size) {
                spans.push((start, start.saturating_add(*size)));
                start = start.saturating_sub((*slide).max(1));
            }
        }
        WindowKind::Cumulate { step, size, offset } => {
            let start = floor(*offset, *size);
            let step = (*step).max(1);
            let last = start.saturating_add(*size);
            let mut end = floor(start, step).saturating_add(step);
            while end <= last {
                spans.push((start, end));
                let Some(next) = end.checked_add(step) else { break };
                end = next;
            }
        }
        WindowKind::Session { gap, .. } => spans.push((time, time.saturating_add(*gap))),
    }
    spans
}

/// Holds rows until the watermark passes them, then emits them in order.
pub(super) struct TemporalSort {
    rowtime: usize,
    then: Vec<SortKey>,
    rows: TimedRows,
    /// The time of the last row that came out, kept under [`FIRED`]: earlier rows are late. A row that is only
    /// behind the watermark is not, as in Flink.
    fired: Option<i64>,
    progress: Box<dyn StateTable>,
}

const FIRED: &[u8] = b"fired";

impl TemporalSort {
    pub(super) fn new(
        builder: &mut Builder<'_>,
        rowtime: usize,
        then: &[SortKey],
    ) -> Result<Self, EngineError> {
        let mut progress = builder.table("progress")?;
        let fired = progress.get(FIRED)?.map(|bytes| key_time(&bytes));
        Ok(Self {
            rowtime,
            then: then.to_vec(),
            rows: TimedRows::new(builder, "rows", Box::new(|_, _, _| {}))?,
            fired,
            progress,
        })
    }
}

impl Operator for TemporalSort {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        _out: &mut Emitter,
    ) -> Result<(), EngineError> {
        for change in rows.drain(..) {
            let time = row_time(&change.row, self.rowtime)?;
            if self.fired.is_some_and(|fired| time <= fired) {
                continue;
            }
            let mut key = time_key(time).to_vec();
            put_sort_key(&mut key, &change.row, &self.then);
            self.rows.push(key, Waiting::new(change.kind, change.row));
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        while let Some((key, waiting)) = self.rows.pop(|key| key_time(key) <= watermark)? {
            self.fired = Some(key_time(&key));
            out.row(waiting.kind, waiting.row);
        }
        out.watermark(watermark);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.rows.flush()?;
        if let Some(fired) = self.fired {
            self.progress.put(FIRED, &time_key(fired));
        }
        Ok(())
    }
}
