//! GROUP BY.

use ahash::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;

use super::super::codec::{self, CodecError, Reader};
use super::super::error::EngineError;
use super::super::plan::Aggregate as Spec;
use super::super::row::{Change, Row, RowKind, Value};
use super::{Builder, Emitter, Key, Operator};
use crate::state::{StateError, StateTable};

pub(super) mod accumulator;
pub(super) mod bytes;
pub(super) mod counts;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod list_tests;
pub(super) mod memory;
mod ordered;
mod percentile;
mod result;

use accumulator::{Accumulators, Call};
use counts::{Counts, GroupCounts, TableCounts};
use memory::MemoryCounts;

/// About what a group takes in memory besides its key, its counts and twice what it takes in the state.
const GROUP_WEIGHT: usize = 240;

struct Group {
    /// Rows in the group.
    rows: i64,
    accumulators: Accumulators,
    counts: GroupCounts,
    /// What it weighed when it was loaded or written.
    weight: usize,
    /// The row that was emitted last; `None` before the first.
    shown: Option<Row>,
    dirty: bool,
}

/// Aggregates per group, with one or two changes out for each change in.
pub(super) struct Aggregate {
    group: Vec<usize>,
    calls: Vec<Call>,
    update_before: bool,
    /// State has a time to live: unchanged results are emitted too, so that what is behind stays alive.
    ttl: bool,
    /// Bytes that may stay in memory over a flush, and those that are there.
    cached: usize,
    bytes: usize,
    stored: Stored,
    /// Every group that the state has is in memory.
    complete: bool,
    cache: HashMap<Key, Group, RandomState>,
    dirty: Vec<Key>,
    key: Vec<u8>,
}

/// The state of the groups.
struct Stored {
    groups: Box<dyn StateTable>,
    counts: Option<Box<dyn StateTable>>,
}

impl Aggregate {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        let mode = builder.input_mode(0);
        let retract = mode.update_before || mode.delete || mode.update_after;
        let calls = spec
            .calls
            .iter()
            .map(|call| Call::new(call, builder.input(0)?, retract))
            .collect::<Result<Vec<_>, EngineError>>()?;
        if calls.len() > usize::from(u8::MAX) {
            return Err(EngineError::Plan("more than 255 aggregates in one GROUP BY".to_owned()));
        }
        let counts = if calls.iter().any(Call::has_counts) {
            Some(builder.expiring_table("counts", spec.ttl)?)
        } else {
            None
        };
        let mut groups = builder.expiring_table("groups", spec.ttl)?;
        let complete = groups.is_empty()?;
        Ok(Self {
            group: spec.group.clone(),
            calls,
            update_before: spec.emit_update_before,
            ttl: builder.ttl(spec.ttl).is_some(),
            cached: builder.cached(spec.ttl),
            bytes: 0,
            stored: Stored { groups, counts },
            complete,
            cache: HashMap::default(),
            dirty: Vec::new(),
            key: Vec::new(),
        })
    }

    fn change(&mut self, change: &Change, out: &mut Vec<Change>) -> Result<(), EngineError> {
        self.key.clear();
        codec::put_key(&mut self.key, &change.row, &self.group);
        let key = self.key.as_slice();
        let add = change.kind.is_add();
        let group = match self.cache.entry_ref(key) {
            EntryRef::Occupied(entry) => entry.into_mut(),
            EntryRef::Vacant(entry) => {
                let known = if self.complete { None } else { self.stored.groups.get(key)? };
                let mut group = Group {
                    rows: 0,
                    accumulators: self.calls.iter().map(Call::create).collect(),
                    counts: if known.is_some() {
                        GroupCounts::default()
                    } else {
                        GroupCounts::of_new_group()
                    },
                    weight: GROUP_WEIGHT + key.len() + 2 * known.as_ref().map_or(0, Vec::len),
                    shown: None,
                    dirty: false,
                };
                match known {
                    Some(bytes) => {
                        group.read(&bytes)?;
                        let shown =
                            group.result(&self.group, &self.calls, &mut self.stored, key, &change.row)?;
                        group.shown = Some(shown);
                    }
                    // A retraction for a group that is not there.
                    None if !add => return Ok(()),
                    None => {}
                }
                self.bytes += group.weight;
                entry.insert(group)
            }
        };
        if group.shown.is_none() && !add {
            return Ok(());
        }
        group.rows += if add { 1 } else { -1 };
        let Group { accumulators, counts, .. } = group;
        self.stored.with_counts(counts, key, |counts| {
            for ((at, call), accumulator) in (0..).zip(&self.calls).zip(accumulators) {
                call.apply(at, accumulator, &change.row, add, counts)?;
            }
            Ok(())
        })?;
        if !std::mem::replace(&mut group.dirty, true) {
            self.dirty.push(Key::from_slice(key));
        }
        if group.rows <= 0 {
            if let Some(row) = group.shown.take() {
                out.push(Change { kind: RowKind::Delete, row });
            }
            group.rows = 0;
            group.accumulators = self.calls.iter().map(Call::create).collect();
            if let Some(table) = &mut self.stored.counts {
                TableCounts { table: table.as_mut(), group: key, counts: &mut group.counts }.clear()?;
            }
            return Ok(());
        }
        let row = group.result(&self.group, &self.calls, &mut self.stored, key, &change.row)?;
        match group.shown.replace(Row::clone(&row)) {
            None => out.push(Change { kind: RowKind::Insert, row }),
            Some(before) if before == row && !self.ttl => {}
            Some(before) => {
                if self.update_before {
                    out.push(Change { kind: RowKind::UpdateBefore, row: before });
                }
                out.push(Change { kind: RowKind::UpdateAfter, row });
            }
        }
        Ok(())
    }
}

impl Stored {
    fn with_counts<T>(
        &mut self,
        counts: &mut GroupCounts,
        group: &[u8],
        run: impl FnOnce(&mut dyn Counts) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        match &mut self.counts {
            Some(table) => run(&mut TableCounts { table: table.as_mut(), group, counts }),
            None => run(&mut MemoryCounts::default()),
        }
    }
}

impl Group {
    /// Takes over the state of the group.
    fn read(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        let damaged =
            |error: CodecError| StateError::Corrupt { table: "groups".to_owned(), what: error.to_string() };
        let mut reader = Reader::new(bytes);
        self.rows = reader.signed().map_err(damaged)?;
        for accumulator in &mut self.accumulators {
            *accumulator = bytes::get(&mut reader).map_err(damaged)?;
        }
        Ok(())
    }

    /// The group's columns, from any row of it, and its aggregates.
    fn result(
        &mut self,
        columns: &[usize],
        calls: &[Call],
        stored: &mut Stored,
        key: &[u8],
        row: &Row,
    ) -> Result<Row, EngineError> {
        let Self { accumulators, counts, .. } = self;
        stored.with_counts(counts, key, |counts| {
            let mut failure = None;
            let keys = columns.iter().map(|&column| row.get(column).cloned().unwrap_or(Value::Null));
            let results = (0_u8..).zip(calls).zip(&*accumulators).map(|((at, call), accumulator)| {
                call.value(at, accumulator, counts).unwrap_or_else(|error| {
                    failure = Some(error);
                    Value::Null
                })
            });
            let row: Row = keys.chain(results).collect();
            failure.map_or(Ok(row), Err)
        })
    }
}

impl Operator for Aggregate {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        let out = out.rows();
        for change in rows.drain(..) {
            self.change(&change, out)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        let mut bytes = Vec::new();
        for key in self.dirty.drain(..) {
            let Some(group) = self.cache.get_mut(key.as_slice()) else { continue };
            group.dirty = false;
            if let Some(table) = &mut self.stored.counts {
                group.counts.write(&key, table.as_mut());
            }
            if group.shown.is_none() {
                self.stored.groups.delete(&key);
                self.bytes = self.bytes.saturating_sub(group.weight);
                self.cache.remove(key.as_slice());
                continue;
            }
            bytes.clear();
            codec::put_signed(&mut bytes, group.rows);
            for accumulator in &group.accumulators {
                bytes::put(&mut bytes, accumulator);
            }
            self.stored.groups.put(&key, &bytes);
            let weight = GROUP_WEIGHT + key.len() + 2 * bytes.len() + group.counts.bytes();
            let before = std::mem::replace(&mut group.weight, weight);
            self.bytes = (self.bytes + weight).saturating_sub(before);
        }
        if self.bytes > self.cached {
            self.cache.clear();
            self.bytes = 0;
            self.complete = false;
        }
        Ok(())
    }
}
