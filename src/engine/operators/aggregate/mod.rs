//! GROUP BY.

use ahash::RandomState;
use hashbrown::HashMap;

use super::super::codec::{self, CodecError, Reader};
use super::super::error::EngineError;
use super::super::plan::Aggregate as Spec;
use super::super::row::{Change, Row, RowKind, Value};
use super::{Builder, Emitter, Operator};
use crate::state::{StateError, StateTable};

pub(super) mod accumulator;
pub(super) mod bytes;
pub(super) mod counts;
mod result;

use accumulator::{Accumulators, Call};
use counts::{Counts, MemoryCounts, TableCounts};

/// Groups kept in memory per operator; few in tests, so that they come back from the state.
const CACHED_GROUPS: usize = if cfg!(test) { 2 } else { 1 << 18 };

struct Group {
    /// Rows in the group.
    rows: i64,
    accumulators: Accumulators,
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
    cached: usize,
    table: Box<dyn StateTable>,
    counts: Option<Box<dyn StateTable>>,
    cache: HashMap<Box<[u8]>, Group, RandomState>,
    dirty: Vec<Box<[u8]>>,
    key: Vec<u8>,
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
        let counts =
            if calls.iter().any(Call::has_counts) { Some(builder.expiring_table("counts")?) } else { None };
        Ok(Self {
            group: spec.group.clone(),
            calls,
            update_before: spec.emit_update_before,
            ttl: builder.context.ttl.is_some(),
            cached: builder.cached(CACHED_GROUPS),
            table: builder.expiring_table("groups")?,
            counts,
            cache: HashMap::default(),
            dirty: Vec::new(),
            key: Vec::new(),
        })
    }

    fn load(&mut self, key: &[u8], row: &Row) -> Result<(), EngineError> {
        if self.cache.contains_key(key) {
            return Ok(());
        }
        let mut group = Group {
            rows: 0,
            accumulators: self.calls.iter().map(Call::create).collect(),
            shown: None,
            dirty: false,
        };
        if let Some(bytes) = self.table.get(key)? {
            let damaged = |error: CodecError| StateError::Corrupt {
                table: "groups".to_owned(),
                what: error.to_string(),
            };
            let mut reader = Reader::new(&bytes);
            group.rows = reader.signed().map_err(damaged)?;
            for accumulator in &mut group.accumulators {
                *accumulator = bytes::get(&mut reader).map_err(damaged)?;
            }
            group.shown = Some(result(&self.group, &self.calls, self.counts.as_mut(), key, &group, row)?);
        }
        self.cache.insert(key.into(), group);
        Ok(())
    }

    fn change(&mut self, change: &Change, out: &mut Vec<Change>) -> Result<(), EngineError> {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        codec::put_key(&mut key, &change.row, &self.group);
        self.load(&key, &change.row)?;
        let add = change.kind.is_add();
        if let Some(group) = self.cache.get_mut(key.as_slice()) {
            if group.shown.is_none() && !add {
                // A retraction for a group that is not there.
                self.cache.remove(key.as_slice());
                self.key = key;
                return Ok(());
            }
            group.rows += if add { 1 } else { -1 };
            with_counts(self.counts.as_mut(), &key, |counts| {
                for ((at, call), accumulator) in (0..).zip(&self.calls).zip(&mut group.accumulators) {
                    call.apply(at, accumulator, &change.row, add, counts)?;
                }
                Ok(())
            })?;
            if !std::mem::replace(&mut group.dirty, true) {
                self.dirty.push(key.as_slice().into());
            }
            if group.rows <= 0 {
                if let Some(row) = group.shown.take() {
                    out.push(Change { kind: RowKind::Delete, row });
                }
                group.rows = 0;
                group.accumulators = self.calls.iter().map(Call::create).collect();
                if let Some(table) = &mut self.counts {
                    TableCounts { table: table.as_mut(), group: &key }.clear()?;
                }
            } else {
                let row = result(&self.group, &self.calls, self.counts.as_mut(), &key, group, &change.row)?;
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
            }
        }
        self.key = key;
        Ok(())
    }
}

fn with_counts<T>(
    table: Option<&mut Box<dyn StateTable>>,
    group: &[u8],
    run: impl FnOnce(&mut dyn Counts) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    match table {
        Some(table) => run(&mut TableCounts { table: table.as_mut(), group }),
        None => run(&mut MemoryCounts::default()),
    }
}

/// The group's columns, from any row of it, and its aggregates.
fn result(
    columns: &[usize],
    calls: &[Call],
    counts: Option<&mut Box<dyn StateTable>>,
    key: &[u8],
    group: &Group,
    row: &Row,
) -> Result<Row, EngineError> {
    with_counts(counts, key, |counts| {
        let mut failure = None;
        let keys = columns.iter().map(|&column| row.get(column).cloned().unwrap_or(Value::Null));
        let results = (0_u8..).zip(calls).zip(&group.accumulators).map(|((at, call), accumulator)| {
            call.value(at, accumulator, counts).unwrap_or_else(|error| {
                failure = Some(error);
                Value::Null
            })
        });
        let row: Row = keys.chain(results).collect();
        failure.map_or(Ok(row), Err)
    })
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
            let Some(group) = self.cache.get_mut(&key) else { continue };
            group.dirty = false;
            if group.shown.is_none() {
                self.table.delete(&key);
                self.cache.remove(&key);
                continue;
            }
            bytes.clear();
            codec::put_signed(&mut bytes, group.rows);
            for accumulator in &group.accumulators {
                bytes::put(&mut bytes, accumulator);
            }
            self.table.put(&key, &bytes);
        }
        if self.cache.len() > self.cached {
            self.cache.clear();
        }
        Ok(())
    }
}
