//! Aggregation per session: windows that rows make, extend and join.

use ahash::RandomState;
use hashbrown::HashMap;

use super::super::error::EngineError;
use super::super::plan::WindowAggregate as Spec;
use super::super::row::{Change, Row, RowKind};
use super::buffer::{Waiting, key_time, time_key};
use super::pane::{Pane, Panes};
use super::share::behind_time;
use super::time::Span;
use super::timed::TimedRows;
use super::windowed::Windowed;
use super::{Builder, Emitter};
use crate::state::StateTable;

/// About what a group takes in memory besides its key and twice what it takes in the state.
const GROUP_WEIGHT: usize = 200;

/// The open sessions of a group, by time.
#[derive(Default)]
struct Group {
    sessions: Vec<Pane>,
    dirty: bool,
    /// What it weighed when it was read or written.
    weight: usize,
}

/// Aggregates per session and group, emitted once, when the watermark (or the clock) reaches the session's end.
pub(super) struct SessionAggregate {
    panes: Panes,
    gap: i64,
    /// The open sessions of each group, as one entry.
    table: Box<dyn StateTable>,
    cache: HashMap<Box<[u8]>, Group, RandomState>,
    dirty: Vec<Box<[u8]>>,
    /// Bytes that may stay in memory over a flush, and those that are there.
    cached: usize,
    bytes: usize,
    /// Ends of the open sessions: by end, then group key.
    ends: TimedRows,
    watermark: i64,
}

fn end_key(end: i64, group: &[u8]) -> Vec<u8> {
    [time_key(end).as_slice(), group].concat()
}

impl SessionAggregate {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec, gap: i64) -> Result<Self, EngineError> {
        Ok(Self {
            panes: Panes::new(builder, spec)?,
            gap,
            table: builder.table("sessions")?,
            cache: HashMap::default(),
            dirty: Vec::new(),
            cached: builder.cache(),
            bytes: 0,
            ends: TimedRows::new(builder, "ends", Box::new(behind_time))?,
            watermark: i64::MIN,
        })
    }

    fn edit(&mut self, key: &[u8]) -> Result<&mut Vec<Pane>, EngineError> {
        if !self.cache.contains_key(key) {
            let (sessions, stored) = match self.table.get(key)? {
                Some(bytes) => (self.panes.read(&bytes)?, bytes.len()),
                None => (Vec::new(), 0),
            };
            let weight = GROUP_WEIGHT + key.len() + 2 * stored;
            self.bytes += weight;
            self.cache.insert(key.into(), Group { sessions, dirty: false, weight });
        }
        let group = self.cache.get_mut(key);
        let group = group.ok_or_else(|| EngineError::Plan("a group's sessions were lost".to_owned()))?;
        if !std::mem::replace(&mut group.dirty, true) {
            self.dirty.push(key.into());
        }
        Ok(&mut group.sessions)
    }

    fn is_late(&self, end: i64) -> bool {
        self.panes.rowtime && self.panes.zone.fires_at(end) <= self.watermark
    }

    fn change(&mut self, change: &Change) -> Result<(), EngineError> {
        let mut key = Vec::new();
        self.panes.put_group(&mut key, &change.row);
        let time = self.panes.local_time(&change.row)?;
        let mut span: Span = (time, time.saturating_add(self.gap));
        // The sessions that the row's own meets become one with it; their ends touch or overlap.
        let known = self.edit(&key)?;
        let meets = |pane: &Pane, span: Span| pane.span.0 <= span.1 && span.0 <= pane.span.1;
        let first = known.partition_point(|pane| pane.span.1 < span.0);
        let mut count = 0;
        while let Some(pane) = known.get(first + count).filter(|pane| meets(pane, span)) {
            span = (span.0.min(pane.span.0), span.1.max(pane.span.1));
            count += 1;
        }
        if self.is_late(span.1) {
            return Ok(());
        }
        let mut met = self.edit(&key)?.splice(first..first + count, []).collect::<Vec<_>>().into_iter();
        let mut pane = match met.next() {
            Some(pane) => {
                if pane.span.1 != span.1 {
                    self.ends.remove(&end_key(pane.span.1, &key))?;
                }
                pane
            }
            None => self.panes.create(span, &change.row),
        };
        for other in met {
            if other.span.1 != span.1 {
                self.ends.remove(&end_key(other.span.1, &key))?;
            }
            self.panes.merge(&mut pane, other)?;
        }
        pane.span = span;
        self.panes.apply(&mut pane, change)?;
        self.edit(&key)?.insert(first, pane);
        self.ends.put(end_key(span.1, &key), Waiting::new(RowKind::Insert, Row::from([])));
        Ok(())
    }
}

impl Windowed for SessionAggregate {
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
        let zone = self.panes.zone;
        while let Some((key, _)) = self.ends.pop(|key| zone.fires_at(key_time(key)) <= reached)? {
            let end = key_time(&key);
            let known = self.edit(key.get(8..).unwrap_or_default())?;
            let Some(at) = known.iter().position(|pane| pane.span.1 == end) else { continue };
            let pane = known.remove(at);
            out.order(&[&key]);
            self.panes.emit(pane, out)?;
        }
        Ok(())
    }

    fn passed(&mut self, watermark: i64) {
        self.watermark = watermark;
    }

    fn next_end(&self) -> Option<i64> {
        self.ends.first().map(|key| self.panes.zone.fires_at(key_time(key)))
    }

    fn write(&mut self) -> Result<(), EngineError> {
        self.ends.flush()?;
        let mut bytes = Vec::new();
        for key in self.dirty.drain(..) {
            let Some(group) = self.cache.get_mut(&key) else { continue };
            group.dirty = false;
            if group.sessions.is_empty() {
                self.table.delete(&key);
                self.bytes = self.bytes.saturating_sub(group.weight);
                self.cache.remove(&key);
                continue;
            }
            bytes.clear();
            group.sessions.iter().for_each(|pane| pane.put(&mut bytes));
            self.table.put(&key, &bytes);
            let weight = GROUP_WEIGHT + key.len() + 2 * bytes.len();
            let before = std::mem::replace(&mut group.weight, weight);
            self.bytes = (self.bytes + weight).saturating_sub(before);
        }
        if self.bytes > self.cached {
            self.cache.clear();
            self.bytes = 0;
        }
        Ok(())
    }
}
