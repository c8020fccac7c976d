//! Operators that keep rows by key: changelog normalisation and the sink's materialiser.

use ahash::RandomState;
use hashbrown::hash_map::EntryRef;
use hashbrown::{HashMap, HashSet};

use super::super::codec::{self, CodecError, Reader};
use super::super::error::EngineError;
use super::super::plan::{NormalizeMode, OnConflict};
use super::super::print;
use super::super::row::{Change, Row, RowKind};
use super::super::types::Field;
use super::buffer::row_weight;
use super::{Builder, Emitter, Operator};
use crate::state::{StateError, StateTable};

/// About what the list of a key takes in memory besides its rows.
const LIST_WEIGHT: usize = 120;

/// A list of rows by key, as one entry of a state table; cached, written at a flush.
pub(super) struct RowLists {
    table: Box<dyn StateTable>,
    /// Bytes that may stay in memory over a flush.
    cached: usize,
    bytes: usize,
    /// Everything that the table has is in memory.
    complete: bool,
    cache: HashMap<Box<[u8]>, RowList, RandomState>,
    dirty: Vec<Box<[u8]>>,
}

struct RowList {
    rows: Vec<Row>,
    dirty: bool,
    /// The table has an entry for it.
    stored: bool,
    /// What it weighed when it was loaded or written.
    weight: usize,
}

impl RowLists {
    /// Over a table, which may hold the rows of an earlier run.
    pub(super) fn new(mut table: Box<dyn StateTable>, cached: usize) -> Result<Self, EngineError> {
        let complete = table.is_empty()?;
        Ok(Self { table, cached, bytes: 0, complete, cache: HashMap::default(), dirty: Vec::new() })
    }

    /// The rows of a key. Whoever changes them calls [`RowLists::changed`].
    pub(super) fn get(&mut self, key: &[u8]) -> Result<&mut Vec<Row>, EngineError> {
        let list = match self.cache.entry_ref(key) {
            EntryRef::Occupied(entry) => entry.into_mut(),
            EntryRef::Vacant(entry) => {
                let known = if self.complete { None } else { self.table.get(key)? };
                let stored = known.is_some();
                let mut rows = Vec::new();
                if let Some(bytes) = known {
                    let damaged = |error: CodecError| StateError::Corrupt {
                        table: "rows by key".to_owned(),
                        what: error.to_string(),
                    };
                    let mut reader = Reader::new(&bytes);
                    while !reader.is_empty() {
                        rows.push(reader.row().map_err(damaged)?);
                    }
                }
                let weight = weight(key, &rows);
                self.bytes += weight;
                entry.insert(RowList { rows, dirty: false, stored, weight })
            }
        };
        Ok(&mut list.rows)
    }

    /// Notes that the rows of a key are to be written.
    pub(super) fn changed(&mut self, key: &[u8]) {
        if let Some(list) = self.cache.get_mut(key)
            && !std::mem::replace(&mut list.dirty, true)
        {
            self.dirty.push(key.into());
        }
    }

    pub(super) fn flush(&mut self) {
        let mut buffer = Vec::new();
        for key in self.dirty.drain(..) {
            let Some(list) = self.cache.get_mut(&key) else { continue };
            list.dirty = false;
            let before = std::mem::replace(&mut list.weight, weight(&key, &list.rows));
            self.bytes = (self.bytes + list.weight).saturating_sub(before);
            if list.rows.is_empty() {
                if list.stored {
                    self.table.delete(&key);
                }
                self.bytes = self.bytes.saturating_sub(list.weight);
                self.cache.remove(&key);
                continue;
            }
            list.stored = true;
            buffer.clear();
            for row in &list.rows {
                codec::put_row(&mut buffer, row);
            }
            self.table.put(&key, &buffer);
        }
        if self.bytes > self.cached {
            self.complete = false;
            self.cache.clear();
            self.bytes = 0;
        }
    }
}

fn weight(key: &[u8], rows: &[Row]) -> usize {
    LIST_WEIGHT + key.len() + rows.iter().map(|row| row_weight(row)).sum::<usize>()
}

/// Makes a right changelog of upserts, or of a changelog whose old rows cannot be trusted.
pub(super) struct Normalize {
    key: Vec<usize>,
    mode: NormalizeMode,
    update_before: bool,
    state: RowLists,
    buffer: Vec<u8>,
    /// Keys of which a `-U` was handed on and whose `+U` is still to come. Both come from one record, so that no
    /// epoch ends between them.
    pending: HashSet<Box<[u8]>, RandomState>,
}

impl Normalize {
    pub(super) fn new(
        builder: &mut Builder<'_>,
        key: &[usize],
        mode: &NormalizeMode,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            key: key.to_vec(),
            mode: mode.clone(),
            update_before: builder.node.changelog.update_before,
            state: RowLists::new(builder.expiring_table("rows", None)?, builder.cached(None))?,
            buffer: Vec::new(),
            pending: HashSet::default(),
        })
    }

    fn upsert(&mut self, change: Change, out: &mut Vec<Change>) -> Result<(), EngineError> {
        self.buffer.clear();
        codec::put_key(&mut self.buffer, &change.row, &self.key);
        let rows = self.state.get(&self.buffer)?;
        let known = rows.first().map(Row::clone);
        match (change.kind, known) {
            (RowKind::UpdateBefore, _) | (RowKind::Delete, None) => return Ok(()),
            (RowKind::Delete, Some(known)) => {
                rows.clear();
                out.push(Change { kind: RowKind::Delete, row: known });
            }
            (_, None) => {
                rows.push(Row::clone(&change.row));
                out.push(Change { kind: RowKind::Insert, row: change.row });
            }
            (_, Some(known)) if known == change.row => return Ok(()),
            (_, Some(known)) => {
                rows.clear();
                rows.push(Row::clone(&change.row));
                if self.update_before {
                    out.push(Change { kind: RowKind::UpdateBefore, row: known });
                }
                out.push(Change { kind: RowKind::UpdateAfter, row: change.row });
            }
        }
        self.state.changed(&self.buffer);
        Ok(())
    }

    fn complete(
        &mut self,
        change: Change,
        compare: &[usize],
        out: &mut Vec<Change>,
    ) -> Result<(), EngineError> {
        self.buffer.clear();
        codec::put_key(&mut self.buffer, &change.row, &self.key);
        let rows = self.state.get(&self.buffer)?;
        let known = rows.first().map(Row::clone);
        // The input's old row, where it agrees with the one in state; else the one in state.
        let old = |given: &Row| match &known {
            Some(known) if compare.iter().any(|&column| known.get(column) != given.get(column)) => {
                Row::clone(known)
            }
            _ => Row::clone(given),
        };
        match change.kind {
            RowKind::UpdateBefore => {
                if self.update_before {
                    out.push(Change { kind: change.kind, row: old(&change.row) });
                }
                self.pending.insert(self.buffer.as_slice().into());
                return Ok(());
            }
            RowKind::Delete => {
                out.push(Change { kind: change.kind, row: old(&change.row) });
                rows.clear();
            }
            RowKind::Insert | RowKind::UpdateAfter => {
                let announced = self.pending.remove(self.buffer.as_slice());
                if change.kind == RowKind::UpdateAfter
                    && !announced
                    && self.update_before
                    && let Some(known) = known
                {
                    out.push(Change { kind: RowKind::UpdateBefore, row: known });
                }
                rows.clear();
                rows.push(Row::clone(&change.row));
                out.push(change);
            }
        }
        self.state.changed(&self.buffer);
        Ok(())
    }
}

impl Operator for Normalize {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        let out = out.rows();
        let mode = self.mode.clone();
        for change in rows.drain(..) {
            match &mode {
                NormalizeMode::Upsert => self.upsert(change, out)?,
                NormalizeMode::Complete { compare } => self.complete(change, compare, out)?,
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.pending.clear();
        self.state.flush();
        Ok(())
    }
}

/// Keeps the live rows per key of a sink, in order of arrival (Flink's `SinkUpsertMaterializer`).
pub(super) struct Materialize {
    key: Vec<usize>,
    conflict: OnConflict,
    schema: Vec<Field>,
    state: RowLists,
    buffer: Vec<u8>,
}

impl Materialize {
    pub(super) fn new(
        builder: &mut Builder<'_>,
        key: &[usize],
        conflict: OnConflict,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            key: key.to_vec(),
            conflict,
            schema: builder.node.schema.clone(),
            state: RowLists::new(builder.expiring_table("rows", None)?, builder.cached(None))?,
            buffer: Vec::new(),
        })
    }

    fn conflict_error(&self, row: &Row) -> EngineError {
        let names: Vec<_> = self
            .key
            .iter()
            .filter_map(|&column| self.schema.get(column))
            .map(|field| field.name.as_str())
            .collect();
        let mut text = String::new();
        for (at, &column) in self.key.iter().enumerate() {
            if at > 0 {
                text.push_str(", ");
            }
            if let (Some(value), Some(field)) = (row.get(column), self.schema.get(column)) {
                print::value(&mut text, value, &field.data_type);
            }
        }
        EngineError::Constraint(format!(
            "Primary key constraint violation: multiple distinct records with the same primary key detected. Conflicting \
             key: [{}={text}]. Use ON CONFLICT DO NOTHING to keep the first record.",
            names.join(", ")
        ))
    }
}

impl Operator for Materialize {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        let out = out.rows();
        for change in rows.drain(..) {
            self.buffer.clear();
            codec::put_key(&mut self.buffer, &change.row, &self.key);
            let live = self.state.get(&self.buffer)?;
            let deduplicate = self.conflict == OnConflict::Deduplicate;
            if change.kind.is_add() {
                let first = live.is_empty();
                if !first && self.conflict == OnConflict::Error && live.iter().any(|row| *row != change.row) {
                    return Err(self.conflict_error(&change.row));
                }
                live.push(Row::clone(&change.row));
                if first {
                    out.push(Change { kind: RowKind::Insert, row: change.row });
                } else if deduplicate {
                    out.push(Change { kind: RowKind::UpdateAfter, row: change.row });
                }
            } else {
                let Some(at) = live.iter().position(|row| *row == change.row) else { continue };
                live.remove(at);
                // The row that the sink shows: the last one, or the first with DO NOTHING.
                let shown = if deduplicate { at == live.len() } else { at == 0 };
                let next = if deduplicate { live.last() } else { live.first() };
                match next {
                    None => out.push(Change { kind: RowKind::Delete, row: change.row }),
                    Some(next) if shown => {
                        out.push(Change { kind: RowKind::UpdateAfter, row: Row::clone(next) })
                    }
                    Some(_) => {}
                }
            }
            self.state.changed(&self.buffer);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.state.flush();
        Ok(())
    }
}
