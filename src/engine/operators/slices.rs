//! Aggregation per fixed window, by slices.
//!
//! A slice is the longest span that every window holds wholly or not at all. A row goes into the one slice of
//! its time, however many windows overlap there; a window is put together from its slices when it is complete.
//! So the cost of a row does not grow with size / slide, nor does the state.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use smallvec::SmallVec;

use super::super::error::EngineError;
use super::super::plan::{WindowAggregate as Spec, WindowInput, WindowKind};
use super::super::row::{Change, Value};
use super::buffer::{key_time, row_time, time_key};
use super::pane::{Pane, Panes};
use super::share::Share;
use super::time::{Span, floor};
use super::windowed::Windowed;
use super::{Builder, Emitter};
use crate::state::StateTable;

/// About what a pane takes in memory besides its key and twice what it takes in the state.
const PANE_WEIGHT: usize = 240;
/// Under this key of the progress table: the end of the last window that came out.
const FIRED: &[u8] = b"fired";

/// How windows lie on the time line.
#[derive(Clone, Copy, Debug)]
enum Grid {
    /// Windows that start every `slide` and are `size` long; slices of `slice`.
    Hop { slide: i64, size: i64, offset: i64, slice: i64 },
    /// Windows from multiples of `size`, that grow by `step`.
    Cumulate { step: i64, size: i64, offset: i64 },
    /// Rows carry their window: it is its only slice.
    Attached { start: Option<usize>, end: usize },
}

fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

impl Grid {
    fn new(window: &WindowInput) -> Result<Self, EngineError> {
        Ok(match window {
            WindowInput::Attached { start, end, .. } => Self::Attached { start: *start, end: *end },
            WindowInput::Assign(window) => match window.kind {
                WindowKind::Tumble { size, offset } => Self::Hop { slide: size, size, offset, slice: size },
                WindowKind::Hop { slide, size, offset } => {
                    Self::Hop { slide, size, offset, slice: gcd(size, slide) }
                }
                WindowKind::Cumulate { step, size, offset } => Self::Cumulate { step, size, offset },
                WindowKind::Session { .. } => {
                    return Err(EngineError::Plan("a session has no slices".to_owned()));
                }
            },
        })
    }

    /// The slice of a wall-clock time.
    fn slice(self, time: i64) -> Span {
        match self {
            Self::Hop { offset, slice, .. } => {
                let start = floor(time, offset, slice);
                (start, start.saturating_add(slice))
            }
            Self::Cumulate { step, offset, .. } => {
                let start = floor(time, offset, step);
                (start, start.saturating_add(step))
            }
            Self::Attached { .. } => (time, time),
        }
    }

    /// The end of the first window behind a time that holds a slice.
    fn first_end(self, (start, end): Span, behind: i64) -> Option<i64> {
        match self {
            Self::Hop { slide, size, offset, .. } => {
                let slide = slide.max(1);
                // Windows start at the latest with the slice, and at the earliest so that they still hold it.
                let last = floor(start, offset, slide).saturating_add(size);
                let before = end.saturating_sub(size).saturating_add(slide - 1);
                let earliest = floor(before, offset, slide).saturating_add(size);
                let first = if behind < earliest {
                    earliest
                } else {
                    floor(behind.saturating_sub(size), offset, slide)
                        .saturating_add(size.saturating_add(slide))
                };
                (first <= last && first >= end && first > behind).then_some(first)
            }
            Self::Cumulate { step, size, offset } => {
                let last = floor(start, offset, size).saturating_add(size);
                let first = if behind < end { end } else { floor(behind, offset, step).saturating_add(step) };
                (first <= last && first > behind).then_some(first)
            }
            Self::Attached { .. } => (behind < end).then_some(end),
        }
    }

    /// The start of the window with an end.
    fn start(self, end: i64) -> i64 {
        match self {
            Self::Hop { size, .. } => end.saturating_sub(size),
            Self::Cumulate { size, offset, .. } => floor(end - 1, offset, size),
            Self::Attached { .. } => end,
        }
    }
}

struct Slot {
    pane: Pane,
    /// The table has an entry under the key.
    stored: bool,
    dirty: bool,
    /// What it weighed when it was read or written.
    weight: usize,
}

/// Aggregates per fixed window and group, emitted once, when the watermark (or the clock) reaches its end.
pub(super) struct WindowAggregate {
    panes: Panes,
    grid: Grid,
    table: Box<dyn StateTable>,
    /// The slices that have panes: end, start.
    slices: BTreeSet<Span>,
    /// The same in the state.
    stored_slices: Box<dyn StateTable>,
    /// The groups that are this instance's own.
    share: Share,
    progress: Box<dyn StateTable>,
    /// Panes by slice, then group key.
    cache: BTreeMap<Vec<u8>, Slot>,
    dirty: Vec<Vec<u8>>,
    /// Everything that the table has is in memory.
    complete: bool,
    /// Bytes that may stay in memory over a flush, and those that are there.
    cached: usize,
    bytes: usize,
    /// The end of the last window that came out.
    fired: i64,
    /// The end of the next one.
    next: Option<i64>,
    watermark: i64,
}

/// A slice as the start of a key: its end, its start.
fn slice_key((start, end): Span) -> [u8; 16] {
    let mut key = [0; 16];
    let (first, second) = key.split_at_mut(8);
    first.copy_from_slice(&time_key(end));
    second.copy_from_slice(&time_key(start));
    key
}

impl WindowAggregate {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        let mut stored_slices = builder.table("slices")?;
        let mut slices = BTreeSet::new();
        stored_slices.scan(&[], &mut |key, _| {
            slices.insert((key_time(key), key_time(key.get(8..).unwrap_or_default())));
            Ok(true)
        })?;
        let mut progress = builder.table("progress")?;
        let fired = progress.get(FIRED)?.map_or(i64::MIN, |bytes| key_time(&bytes));
        Ok(Self {
            panes: Panes::new(builder, spec)?,
            grid: Grid::new(&spec.window)?,
            table: builder.table("windows")?,
            complete: slices.is_empty(),
            cached: builder.cache(),
            bytes: 0,
            slices,
            stored_slices,
            share: builder.share.clone(),
            progress,
            cache: BTreeMap::new(),
            dirty: Vec::new(),
            fired,
            next: None,
            watermark: i64::MIN,
        })
    }

    /// The first window that holds a slice and has not come out, and could not have.
    fn unfired(&self, slice: Span) -> Option<i64> {
        let mut behind = self.fired;
        loop {
            let end = self.grid.first_end(slice, behind)?;
            if !self.panes.rowtime || self.panes.zone.fires_at(end) > self.watermark {
                return Some(end);
            }
            behind = end;
        }
    }

    fn change(&mut self, change: &Change) -> Result<(), EngineError> {
        let slice = match self.grid {
            Grid::Attached { start, end } => {
                let end = row_time(&change.row, end)?;
                let start = start.and_then(|start| change.row.get(start)).and_then(Value::as_millis);
                (start.unwrap_or(end), end)
            }
            grid => {
                let time = self.panes.local_time(&change.row)?;
                // A clock that was set back, or another machine's, makes no row late.
                grid.slice(if self.panes.rowtime { time } else { time.max(self.fired) })
            }
        };
        // Late for all of its windows.
        let Some(first) = self.unfired(slice) else { return Ok(()) };
        if self.slices.insert((slice.1, slice.0)) {
            self.stored_slices.put(&slice_key(slice), &[]);
        }
        if self.next.is_none_or(|next| first < next) {
            self.next = Some(first);
        }
        let mut key = Vec::with_capacity(48);
        key.extend_from_slice(&slice_key(slice));
        self.panes.put_group(&mut key, &change.row);
        if let Some(slot) = self.cache.get_mut(&key) {
            self.panes.apply(&mut slot.pane, change)?;
            if !std::mem::replace(&mut slot.dirty, true) {
                self.dirty.push(key);
            }
            return Ok(());
        }
        let known = if self.complete { None } else { self.table.get(&key)? };
        let stored = known.is_some();
        let weight = PANE_WEIGHT + key.len() + 2 * known.as_ref().map_or(0, Vec::len);
        self.bytes += weight;
        let mut pane = match known {
            Some(bytes) => self.panes.read_one(&bytes)?,
            None => self.panes.create(slice, &change.row),
        };
        self.panes.apply(&mut pane, change)?;
        self.dirty.push(key.clone());
        self.cache.insert(key, Slot { pane, stored, dirty: true, weight });
        Ok(())
    }

    /// Finds the window that comes out next: the first one of the first slice that has any, since of two slices the
    /// earlier one's windows do not end later.
    fn find_next(&mut self) {
        self.next = self.slices.iter().find_map(|&(end, start)| self.unfired((start, end)));
    }

    fn emit(&mut self, end: i64, slices: &[Span], out: &mut Emitter) -> Result<(), EngineError> {
        let Self { panes, grid, table, cache, complete, share, .. } = self;
        let mut source = if *complete { Stored::Memory(cache) } else { Stored::Table(table.as_mut(), share) };
        let last = time_key(end);
        // Rows that carry windows of one end and several starts: each is a window of its own.
        if matches!(grid, Grid::Attached { .. }) {
            for &slice in slices {
                source.each_pane(panes, slice, &mut |group, pane| {
                    out.order(&[&last, &time_key(slice.0), group]);
                    panes.emit(pane, out)
                })?;
            }
            return Ok(());
        }
        let span = (grid.start(end), end);
        if let [slice] = slices {
            return source.each_pane(panes, *slice, &mut |group, mut pane| {
                out.order(&[&last, group]);
                pane.span = span;
                panes.emit(pane, out)
            });
        }
        let mut groups: BTreeMap<Vec<u8>, Pane> = BTreeMap::new();
        for &slice in slices {
            source.each_pane(panes, slice, &mut |group, pane| {
                match groups.get_mut(group) {
                    Some(whole) => panes.merge(whole, pane)?,
                    None => {
                        groups.insert(group.to_vec(), pane);
                    }
                }
                Ok(())
            })?;
        }
        groups.into_iter().try_for_each(|(group, mut pane)| {
            out.order(&[&last, &group]);
            pane.span = span;
            panes.emit(pane, out)
        })
    }

    /// Forgets a slice that no window needs any more.
    fn forget(&mut self, slice: Span) -> Result<(), EngineError> {
        let prefix = slice_key(slice);
        self.slices.remove(&(slice.1, slice.0));
        self.stored_slices.delete(&prefix);
        let of_slice = self
            .cache
            .range::<[u8], _>((Bound::Included(prefix.as_slice()), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&prefix));
        let mut keys: Vec<(Vec<u8>, bool)> = of_slice.map(|(key, slot)| (key.clone(), slot.stored)).collect();
        for (key, _) in &keys {
            let weight = self.cache.remove(key).map_or(0, |slot| slot.weight);
            self.bytes = self.bytes.saturating_sub(weight);
        }
        if !self.complete {
            keys.clear();
            let share = &self.share;
            self.table.scan(&prefix, &mut |key, _| {
                if share.has(key.get(prefix.len()..).unwrap_or_default()) {
                    keys.push((key.to_vec(), true));
                }
                Ok(true)
            })?;
        }
        keys.iter().filter(|(_, stored)| *stored).for_each(|(key, _)| self.table.delete(key));
        Ok(())
    }

    /// Writes the panes that changed into the table.
    fn write_dirty(&mut self) {
        let mut bytes = Vec::new();
        for key in self.dirty.drain(..) {
            let Some(slot) = self.cache.get_mut(&key).filter(|slot| slot.dirty) else { continue };
            (slot.stored, slot.dirty) = (true, false);
            bytes.clear();
            slot.pane.put(&mut bytes);
            self.table.put(&key, &bytes);
            let weight = PANE_WEIGHT + key.len() + 2 * bytes.len();
            let before = std::mem::replace(&mut slot.weight, weight);
            self.bytes = (self.bytes + weight).saturating_sub(before);
        }
    }
}

impl Windowed for WindowAggregate {
    fn collect(
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

    fn by_watermark(&self) -> bool {
        self.panes.rowtime
    }

    fn fire(&mut self, reached: i64, out: &mut Emitter) -> Result<(), EngineError> {
        while let Some(end) = self.next.filter(|&end| self.panes.zone.fires_at(end) <= reached) {
            // A window's slices end behind its start; there may be very many others.
            let within = (self.grid.start(end), i64::MIN)..=(end, i64::MAX);
            let slices: SmallVec<[Span; 8]> = self
                .slices
                .range(within)
                .map(|&(end, start)| (start, end))
                .filter(|&slice| self.grid.first_end(slice, end - 1) == Some(end))
                .collect();
            self.fired = self.fired.max(end);
            if !self.complete {
                // All of the slices' panes are read from the table then.
                self.write_dirty();
            }
            self.emit(end, &slices, out)?;
            for slice in slices {
                if self.grid.first_end(slice, end).is_none() {
                    self.forget(slice)?;
                }
            }
            self.find_next();
        }
        Ok(())
    }

    fn passed(&mut self, watermark: i64) {
        self.watermark = watermark;
    }

    fn resumed(&mut self) {
        self.find_next();
    }

    fn next_end(&self) -> Option<i64> {
        self.next.map(|end| self.panes.zone.fires_at(end))
    }

    fn write(&mut self) -> Result<(), EngineError> {
        self.write_dirty();
        if self.fired > i64::MIN {
            self.progress.put_greater(FIRED, &time_key(self.fired))?;
        }
        if self.bytes > self.cached {
            self.complete = false;
            self.cache.clear();
            self.bytes = 0;
        }
        Ok(())
    }
}

/// Takes a pane of a group.
type Take<'a> = dyn FnMut(&[u8], Pane) -> Result<(), EngineError> + 'a;

/// Where the panes of a slice are read from.
enum Stored<'a> {
    Memory(&'a BTreeMap<Vec<u8>, Slot>),
    Table(&'a mut dyn StateTable, &'a Share),
}

impl Stored<'_> {
    /// Hands on the panes of a slice, by group.
    fn each_pane(&mut self, panes: &Panes, slice: Span, each: &mut Take<'_>) -> Result<(), EngineError> {
        let prefix = slice_key(slice);
        match self {
            Self::Memory(cache) => {
                let from = (Bound::Included(prefix.as_slice()), Bound::Unbounded);
                let of_slice = cache.range::<[u8], _>(from).take_while(|(key, _)| key.starts_with(&prefix));
                for (key, slot) in of_slice {
                    each(key.get(prefix.len()..).unwrap_or_default(), slot.pane.clone())?;
                }
                Ok(())
            }
            Self::Table(table, share) => {
                let mut failure = None;
                table.scan(&prefix, &mut |key, bytes| {
                    let group = key.get(prefix.len()..).unwrap_or_default();
                    if !share.has(group) {
                        return Ok(true);
                    }
                    let done = each(group, panes.read_one(bytes)?);
                    Ok(done.map_err(|error| failure = Some(error)).is_ok())
                })?;
                failure.map_or(Ok(()), Err)
            }
        }
    }
}
