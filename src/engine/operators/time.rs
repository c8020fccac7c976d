//! Watermarks, windows on the time line, and sorting by time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use smallvec::SmallVec;

use super::super::error::EngineError;
use super::super::eval::{Evaluator, Input};
use super::super::expr::Expr;
use super::super::functions::time::{to_instant_late, to_local};
use super::super::plan::{SortKey, WindowKind};
use super::super::row::{Change, Value};
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
    table: Box<dyn StateTable>,
}

impl WatermarkAssigner {
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
        let known = partitions.max(partition + 1);
        if self.greatest.len() < known {
            self.greatest.resize(known, i64::MIN);
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
                if !self.waits {
                    continue;
                }
                let least = self.greatest.iter().copied().min().unwrap_or(i64::MIN);
                if least > self.emitted {
                    self.emitted = least;
                    out.watermark(least);
                }
            }
        }
        Ok(())
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
    pub(super) zone: chrono_tz::Tz,
    pub(super) ltz: bool,
}

impl Zone {
    /// Wall clock of a time.
    pub(super) fn local(self, millis: i64) -> i64 {
        if self.ltz { to_local(millis, self.zone) } else { millis }
    }

    /// The watermark at which a window with this end is complete.
    pub(super) fn fires_at(self, end: i64) -> i64 {
        if self.ltz { to_instant_late(end - 1, self.zone) } else { end - 1 }
    }

    /// `window_time` of a window: its last millisecond, as the time attribute's type.
    pub(super) fn window_time(self, end: i64) -> Value {
        if self.ltz {
            let millis = super::super::functions::time::to_instant(end - 1, self.zone);
            Value::TimestampLtz(super::super::row::Instant::from_millis(millis))
        } else {
            super::buffer::timestamp(end - 1)
        }
    }
}

/// The windows of a wall-clock time; of a session, the row's own.
pub(super) fn assign(kind: &WindowKind, time: i64) -> SmallVec<[Span; 4]> {
    let floor = |offset: i64, unit: i64| time - (time - offset).rem_euclid(unit.max(1));
    let mut spans = SmallVec::new();
    match kind {
        WindowKind::Tumble { size, offset } => {
            let start = floor(*offset, *size);
            spans.push((start, start + size));
        }
        WindowKind::Hop { slide, size, offset } => {
            let mut start = floor(*offset, *slide);
            while start > time - size {
                spans.push((start, start + size));
                start -= (*slide).max(1);
            }
        }
        WindowKind::Cumulate { step, size, offset } => {
            let start = floor(*offset, *size);
            let step = (*step).max(1);
            let mut end = start + ((time - start) / step + 1) * step;
            while end <= start + size {
                spans.push((start, end));
                end += step;
            }
        }
        WindowKind::Session { gap, .. } => spans.push((time, time + gap)),
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
            rows: TimedRows::new(builder.table("rows")?)?,
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
        self.rows.flush();
        if let Some(fired) = self.fired {
            self.progress.put(FIRED, &time_key(fired));
        }
        Ok(())
    }
}
