//! What a window, or a slice of windows, holds for one group.

use std::sync::Arc;

use super::super::codec::{self, CodecError, Reader};
use super::super::error::EngineError;
use super::super::graph::Clock;
use super::super::plan::{WindowAggregate as Spec, WindowInput, WindowProperty};
use super::super::row::{Change, Row, RowKind, Value};
use super::aggregate::accumulator::{Accumulators, Call};
use super::aggregate::bytes;
use super::aggregate::memory::MemoryCounts;
use super::buffer::{row_time, timestamp};
use super::time::{Span, Zone};
use super::window::is_ltz;
use super::{Builder, Emitter};
use crate::state::StateError;

/// Aggregates of the rows of one group in one window or slice.
#[derive(Clone)]
pub(super) struct Pane {
    /// Wall clock, milliseconds.
    pub span: Span,
    /// Rows added less rows taken out.
    pub rows: i64,
    group: Row,
    accumulators: Accumulators,
    counts: MemoryCounts,
}

impl Pane {
    /// Appends the pane as the state keeps it.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        codec::put_signed(out, self.span.0);
        codec::put_signed(out, self.span.1);
        codec::put_signed(out, self.rows);
        codec::put_row(out, &self.group);
        self.accumulators.iter().for_each(|accumulator| bytes::put(out, accumulator));
        self.counts.put(out);
    }

    fn read(reader: &mut Reader<'_>, calls: usize) -> Result<Self, CodecError> {
        Ok(Self {
            span: (reader.signed()?, reader.signed()?),
            rows: reader.signed()?,
            group: reader.row()?,
            accumulators: (0..calls).map(|_| bytes::get(reader)).collect::<Result<_, _>>()?,
            counts: MemoryCounts::get(reader)?,
        })
    }
}

/// What all kinds of window aggregation share: the aggregates, the time, and what comes out.
pub(super) struct Panes {
    group: Vec<usize>,
    properties: Vec<WindowProperty>,
    calls: Vec<Call>,
    pub zone: Zone,
    pub rowtime: bool,
    /// The time column, where the window is made from it.
    time: Option<usize>,
    clock: Arc<dyn Clock>,
}

impl Panes {
    pub(super) fn new(builder: &Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        let mode = builder.input_mode(0);
        let retract = mode.update_before || mode.delete || mode.update_after;
        let calls = spec
            .calls
            .iter()
            .map(|call| Call::new(call, builder.input(0)?, retract))
            .collect::<Result<Vec<_>, EngineError>>()?;
        let (ltz, rowtime, time) = match &spec.window {
            WindowInput::Assign(window) => {
                (is_ltz(builder.input(0)?, window.time), window.rowtime, Some(window.time))
            }
            WindowInput::Attached { ltz, rowtime, .. } => (*ltz, *rowtime, None),
        };
        Ok(Self {
            group: spec.group.clone(),
            properties: spec.properties.clone(),
            calls,
            zone: Zone { zone: builder.context.zone, ltz },
            rowtime,
            time,
            clock: Arc::clone(&builder.context.clock),
        })
    }

    /// Appends the key of a row's group.
    pub(super) fn put_group(&self, out: &mut Vec<u8>, row: &[Value]) {
        codec::put_key(out, row, &self.group);
    }

    /// The wall clock of a row.
    pub(super) fn local_time(&self, row: &[Value]) -> Result<i64, EngineError> {
        let time = match self.time {
            Some(column) if self.rowtime => row_time(row, column)?,
            _ => self.clock.now(),
        };
        Ok(self.zone.local(time))
    }

    /// A pane without rows for a row's group.
    pub(super) fn create(&self, span: Span, row: &[Value]) -> Pane {
        let column = |&column: &usize| row.get(column).cloned().unwrap_or(Value::Null);
        Pane {
            span,
            rows: 0,
            group: self.group.iter().map(column).collect(),
            accumulators: self.calls.iter().map(Call::create).collect(),
            counts: MemoryCounts::default(),
        }
    }

    /// Takes a change into a pane.
    pub(super) fn apply(&self, pane: &mut Pane, change: &Change) -> Result<(), EngineError> {
        let add = change.kind.is_add();
        pane.rows += if add { 1 } else { -1 };
        for ((at, call), accumulator) in (0..).zip(&self.calls).zip(&mut pane.accumulators) {
            call.apply(at, accumulator, &change.row, add, &mut pane.counts)?;
        }
        Ok(())
    }

    /// Adds a later pane of the same group.
    pub(super) fn merge(&self, into: &mut Pane, from: Pane) -> Result<(), EngineError> {
        into.rows += from.rows;
        let accumulators = into.accumulators.iter_mut().zip(from.accumulators);
        for ((at, call), (into_one, from_one)) in (0..).zip(&self.calls).zip(accumulators) {
            call.merge(at, into_one, &mut into.counts, from_one, &from.counts)?;
        }
        Ok(())
    }

    /// Emits the result of a window, if there are rows in it.
    pub(super) fn emit(&self, mut pane: Pane, out: &mut Emitter) -> Result<(), EngineError> {
        if pane.rows == 0 {
            return Ok(());
        }
        let mut values: Vec<Value> =
            Vec::with_capacity(pane.group.len() + self.calls.len() + self.properties.len());
        values.extend(pane.group.iter().cloned());
        for ((at, call), accumulator) in (0..).zip(&self.calls).zip(&pane.accumulators) {
            values.push(call.value(at, accumulator, &mut pane.counts)?);
        }
        let (start, end) = pane.span;
        values.extend(self.properties.iter().map(|property| match property {
            WindowProperty::Start => timestamp(start),
            WindowProperty::End => timestamp(end),
            WindowProperty::Time => self.zone.window_time(end),
        }));
        out.row(RowKind::Insert, Row::from(values));
        Ok(())
    }

    /// Reads the panes of a state entry.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<Vec<Pane>, StateError> {
        let damaged =
            |error: CodecError| StateError::Corrupt { table: "windows".to_owned(), what: error.to_string() };
        let mut reader = Reader::new(bytes);
        let mut panes = Vec::new();
        while !reader.is_empty() {
            panes.push(Pane::read(&mut reader, self.calls.len()).map_err(damaged)?);
        }
        Ok(panes)
    }

    /// Reads the pane of a state entry.
    pub(super) fn read_one(&self, bytes: &[u8]) -> Result<Pane, StateError> {
        let missing =
            || StateError::Corrupt { table: "windows".to_owned(), what: "an entry is empty".to_owned() };
        self.read(bytes)?.pop().ok_or_else(missing)
    }
}
