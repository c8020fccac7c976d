//! Window table functions and aggregation per window.

use std::collections::{BTreeMap, BTreeSet};

use super::super::codec::{self, CodecError, Reader};
use super::super::error::EngineError;
use super::super::plan::{Window, WindowAggregate as Spec, WindowInput, WindowKind, WindowProperty};
use super::super::row::{Change, Row, RowKind, Value};
use super::super::types::{Field, TypeKind};
use super::aggregate::accumulator::{Accumulators, Call};
use super::aggregate::bytes;
use super::aggregate::counts::MemoryCounts;
use super::buffer::{Buffer, Waiting, key_time, row_time, time_key, timestamp};
use super::time::{Span, Zone, assign};
use super::{Builder, Emitter, Operator};
use crate::state::{StateError, StateTable};

/// Whether a column of an input is TIMESTAMP_LTZ.
pub(super) fn is_ltz(input: &[Field], column: usize) -> bool {
    input.get(column).is_some_and(|field| matches!(field.data_type.kind, TypeKind::TimestampLtz(_)))
}

/// A session that is being put together: its partition, the keys of its rows, its span.
type OpenSession = (Vec<u8>, Vec<Vec<u8>>, Span);

/// Appends a row's windows. Sessions wait until they are complete.
pub(super) struct WindowTvf {
    window: Window,
    zone: Zone,
    clock: std::sync::Arc<dyn super::super::graph::Clock>,
    /// Rows of open sessions: by partition key, then time.
    sessions: Option<Buffer>,
    watermark: i64,
}

impl WindowTvf {
    pub(super) fn new(builder: &mut Builder<'_>, window: &Window) -> Result<Self, EngineError> {
        let session = matches!(window.kind, WindowKind::Session { .. });
        Ok(Self {
            window: window.clone(),
            zone: Zone { zone: builder.context.zone, ltz: is_ltz(builder.input(0)?, window.time) },
            clock: std::sync::Arc::clone(&builder.context.clock),
            sessions: if session { Some(Buffer::new(builder.table("sessions")?)?) } else { None },
            watermark: i64::MIN,
        })
    }

    fn windowed(&self, row: &Row, (start, end): Span) -> Row {
        let columns = [timestamp(start), timestamp(end), self.zone.window_time(end)];
        row.iter().cloned().chain(columns).collect()
    }

    /// Emits the sessions that are complete.
    fn fire_sessions(&mut self, watermark: i64, out: &mut Emitter) {
        let WindowKind::Session { gap, .. } = self.window.kind else { return };
        let Some(sessions) = &mut self.sessions else { return };
        // Rows of one partition follow each other; a gap between two ends a session.
        let mut complete: Vec<(Vec<Vec<u8>>, Span)> = Vec::new();
        let mut open: Option<OpenSession> = None;
        let mut close = |open: &mut Option<OpenSession>| {
            if let Some((_, keys, span)) = open.take()
                && self.zone.fires_at(span.1) <= watermark
            {
                complete.push((keys, span));
            }
        };
        for (key, _) in sessions.from(&[]) {
            let Some((partition, rest)) = key.len().checked_sub(16).and_then(|at| key.split_at_checked(at))
            else {
                continue;
            };
            let time = key_time(rest);
            match &mut open {
                Some((known, keys, span)) if known == partition && time <= span.1 => {
                    span.1 = span.1.max(time + gap);
                    keys.push(key.clone());
                }
                _ => {
                    close(&mut open);
                    open = Some((partition.to_vec(), vec![key.clone()], (time, time + gap)));
                }
            }
        }
        close(&mut open);
        complete.sort_by_key(|(_, span)| span.1);
        for (keys, span) in complete {
            for key in keys {
                if let Some(waiting) = self.sessions.as_mut().and_then(|sessions| sessions.remove(&key)) {
                    let row = self.windowed(&waiting.row, span);
                    out.row(waiting.kind, row);
                }
            }
        }
    }
}

impl Operator for WindowTvf {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        for change in rows.drain(..) {
            let time =
                if self.window.rowtime { row_time(&change.row, self.window.time)? } else { self.clock.now() };
            let local = self.zone.local(time);
            if let (Some(sessions), WindowKind::Session { partition, gap }) =
                (&mut self.sessions, &self.window.kind)
            {
                if self.zone.fires_at(local + gap) <= self.watermark {
                    continue;
                }
                let mut key = Vec::new();
                codec::put_key(&mut key, &change.row, partition);
                key.extend_from_slice(&time_key(local));
                sessions.push(key, Waiting { kind: change.kind, mark: false, row: change.row });
                continue;
            }
            for span in assign(&self.window.kind, local) {
                let row = self.windowed(&change.row, span);
                out.row(change.kind, row);
            }
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        self.watermark = watermark;
        self.fire_sessions(watermark, out);
        out.watermark(watermark);
        Ok(())
    }
}

/// What a window holds for one group.
#[derive(Clone)]
struct Pane {
    start: i64,
    rows: i64,
    group: Row,
    accumulators: Accumulators,
    counts: MemoryCounts,
}

/// Aggregates per window and group, emitted once, when the watermark (or the clock) reaches the window's end.
pub(super) struct WindowAggregate {
    spec: Spec,
    calls: Vec<Call>,
    zone: Zone,
    clock: std::sync::Arc<dyn super::super::graph::Clock>,
    table: Box<dyn StateTable>,
    /// Open windows by end, start and group key.
    panes: BTreeMap<Vec<u8>, Pane>,
    /// Sessions: by group key, then end and start.
    sessions: BTreeSet<Vec<u8>>,
    dirty: BTreeSet<Vec<u8>>,
    watermark: i64,
}

/// Bytes of the window in a pane's key.
const SPAN: usize = 16;

impl WindowAggregate {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        let mode = builder.input_mode(0);
        let session = matches!(&spec.window, WindowInput::Assign(window) if matches!(window.kind, WindowKind::Session { .. }));
        // Sessions that meet are merged: their counts must be there.
        let retract = mode.update_before || mode.delete || mode.update_after;
        let calls = spec
            .calls
            .iter()
            .map(|call| Call::new(call, builder.input(0)?, retract))
            .collect::<Result<Vec<_>, EngineError>>()?;
        let ltz = match &spec.window {
            WindowInput::Assign(window) => is_ltz(builder.input(0)?, window.time),
            WindowInput::Attached { ltz, .. } => *ltz,
        };
        let mut table = builder.table("windows")?;
        let mut panes = BTreeMap::new();
        table.scan(&[], &mut |key, bytes| {
            let pane = read_pane(bytes, calls.len()).map_err(|error| StateError::Corrupt {
                table: "windows".to_owned(),
                what: error.to_string(),
            })?;
            panes.insert(key.to_vec(), pane);
            Ok(true)
        })?;
        let sessions = if session { panes.keys().map(|key| turned(key)).collect() } else { BTreeSet::new() };
        Ok(Self {
            spec: spec.clone(),
            calls,
            zone: Zone { zone: builder.context.zone, ltz },
            clock: std::sync::Arc::clone(&builder.context.clock),
            table,
            panes,
            sessions,
            dirty: BTreeSet::new(),
            watermark: i64::MIN,
        })
    }

    fn rowtime(&self) -> bool {
        match &self.spec.window {
            WindowInput::Assign(window) => window.rowtime,
            WindowInput::Attached { rowtime, .. } => *rowtime,
        }
    }

    fn late(&self, end: i64) -> bool {
        self.rowtime() && self.zone.fires_at(end) <= self.watermark
    }

    fn change(&mut self, change: &Change) -> Result<(), EngineError> {
        let mut group = Vec::new();
        codec::put_key(&mut group, &change.row, &self.spec.group);
        let spans = match &self.spec.window {
            WindowInput::Attached { start, end, .. } => {
                let end = row_time(&change.row, *end)?;
                let start = start.and_then(|start| change.row.get(start)).and_then(Value::as_millis);
                smallvec::smallvec![(start.unwrap_or(end), end)]
            }
            WindowInput::Assign(window) => {
                let time =
                    if window.rowtime { row_time(&change.row, window.time)? } else { self.clock.now() };
                let local = self.zone.local(time);
                if let WindowKind::Session { gap, .. } = window.kind {
                    match self.session(&group, (local, local + gap))? {
                        Some(span) => smallvec::smallvec![span],
                        None => return Ok(()),
                    }
                } else {
                    assign(&window.kind, local)
                }
            }
        };
        for (start, end) in spans {
            if self.late(end) {
                continue;
            }
            let key = pane_key((start, end), &group);
            let pane = self.panes.entry(key.clone()).or_insert_with(|| Pane {
                start,
                rows: 0,
                group: self
                    .spec
                    .group
                    .iter()
                    .map(|&column| change.row.get(column).cloned().unwrap_or(Value::Null))
                    .collect(),
                accumulators: self.calls.iter().map(Call::create).collect(),
                counts: MemoryCounts::default(),
            });
            let add = change.kind.is_add();
            pane.rows += if add { 1 } else { -1 };
            for ((at, call), accumulator) in (0..).zip(&self.calls).zip(&mut pane.accumulators) {
                call.apply(at, accumulator, &change.row, add, &mut pane.counts)?;
            }
            self.dirty.insert(key);
        }
        Ok(())
    }

    /// Merges a row's session with those it meets; `None`: it is late.
    fn session(&mut self, group: &[u8], row: Span) -> Result<Option<Span>, EngineError> {
        let mut span = row;
        let mut merged: Vec<Vec<u8>> = Vec::new();
        for turned_key in self.sessions.range(group.to_vec()..).take_while(|key| key.starts_with(group)) {
            let Some(window) = turned_key.get(group.len()..).filter(|window| window.len() == SPAN) else {
                continue;
            };
            let (end, start) = (key_time(window), key_time(window.get(8..).unwrap_or_default()));
            if start <= span.1 && span.0 <= end {
                span = (span.0.min(start), span.1.max(end));
                merged.push(pane_key((start, end), group));
            }
        }
        if self.late(span.1) {
            return Ok(None);
        }
        let key = pane_key(span, group);
        if merged.first() == Some(&key) && merged.len() == 1 {
            return Ok(Some(span));
        }
        let mut whole: Option<Pane> = None;
        for old in merged {
            let Some(pane) = self.panes.remove(&old) else { continue };
            self.sessions.remove(&turned(&old));
            self.dirty.insert(old);
            match &mut whole {
                None => whole = Some(pane),
                Some(whole) => {
                    whole.rows += pane.rows;
                    for ((at, call), (into, from)) in
                        (0..).zip(&self.calls).zip(whole.accumulators.iter_mut().zip(pane.accumulators))
                    {
                        call.merge(at, into, &mut whole.counts, from, &pane.counts)?;
                    }
                }
            }
        }
        if let Some(mut pane) = whole {
            pane.start = span.0;
            self.panes.insert(key.clone(), pane);
            self.dirty.insert(key.clone());
        }
        self.sessions.insert(turned(&key));
        Ok(Some(span))
    }

    fn fire(&mut self, reached: i64, out: &mut Emitter) -> Result<(), EngineError> {
        while let Some(entry) = self.panes.first_entry() {
            let end = key_time(entry.key());
            if self.zone.fires_at(end) > reached {
                break;
            }
            let (key, mut pane) = entry.remove_entry();
            self.sessions.remove(&turned(&key));
            self.dirty.insert(key);
            if pane.rows == 0 {
                continue;
            }
            let mut values: Vec<Value> = pane.group.to_vec();
            for ((at, call), accumulator) in (0..).zip(&self.calls).zip(&pane.accumulators) {
                values.push(call.value(at, accumulator, &mut pane.counts)?);
            }
            values.extend(self.spec.properties.iter().map(|property| match property {
                WindowProperty::Start => timestamp(pane.start),
                WindowProperty::End => timestamp(end),
                WindowProperty::Time => self.zone.window_time(end),
            }));
            out.row(RowKind::Insert, Row::from(values));
        }
        Ok(())
    }
}

/// End, start, group key.
fn pane_key((start, end): Span, group: &[u8]) -> Vec<u8> {
    [time_key(end).as_slice(), &time_key(start), group].concat()
}

/// The same with the group key in front.
fn turned(key: &[u8]) -> Vec<u8> {
    let (span, group) = key.split_at_checked(SPAN).unwrap_or((key, &[]));
    [group, span].concat()
}

fn put_pane(out: &mut Vec<u8>, pane: &Pane) {
    codec::put_signed(out, pane.start);
    codec::put_signed(out, pane.rows);
    codec::put_row(out, &pane.group);
    pane.accumulators.iter().for_each(|accumulator| bytes::put(out, accumulator));
    pane.counts.put(out);
}

fn read_pane(bytes: &[u8], calls: usize) -> Result<Pane, CodecError> {
    let mut reader = Reader::new(bytes);
    Ok(Pane {
        start: reader.signed()?,
        rows: reader.signed()?,
        group: reader.row()?,
        accumulators: (0..calls).map(|_| bytes::get(&mut reader)).collect::<Result<_, _>>()?,
        counts: MemoryCounts::get(&mut reader)?,
    })
}

impl Operator for WindowAggregate {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        _out: &mut Emitter,
    ) -> Result<(), EngineError> {
        for change in rows.drain(..) {
            self.change(&change)?;
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        self.watermark = watermark;
        if self.rowtime() {
            self.fire(watermark, out)?;
        }
        out.watermark(watermark);
        Ok(())
    }

    fn clock(&mut self, now: i64, out: &mut Emitter) -> Result<(), EngineError> {
        if self.rowtime() { Ok(()) } else { self.fire(now, out) }
    }

    fn next_timer(&self) -> Option<i64> {
        if self.rowtime() {
            return None;
        }
        self.panes.first_key_value().map(|(key, _)| self.zone.fires_at(key_time(key)))
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        let mut bytes = Vec::new();
        for key in std::mem::take(&mut self.dirty) {
            match self.panes.get(&key) {
                Some(pane) => {
                    bytes.clear();
                    put_pane(&mut bytes, pane);
                    self.table.put(&key, &bytes);
                }
                None => self.table.delete(&key),
            }
        }
        Ok(())
    }
}
