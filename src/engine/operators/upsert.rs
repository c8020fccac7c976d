//! Operators that keep rows by key: changelog normalisation and the sink's materialiser.

use ahash::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use smallvec::SmallVec;

use super::super::codec::{self, CodecError, Reader};
use super::super::error::EngineError;
use super::super::plan::{NormalizeMode, OnConflict};
use super::super::print;
use super::super::row::{Change, Row, RowKind};
use super::super::types::Field;
use super::buffer::row_weight;
use super::{Builder, Emitter, Key, Operator};
use crate::state::{StateError, StateTable};

/// About what the list of a key takes in memory besides its rows.
const LIST_WEIGHT: usize = 120;

/// Rows of one key: one of them, as a rule.
pub(super) type Rows = SmallVec<[Row; 1]>;

/// A list of rows by key, as one entry of a state table; cached, written at a flush.
pub(super) struct RowLists {
    table: Box<dyn StateTable>,
    /// Bytes that may stay in memory over a flush.
    cached: usize,
    bytes: usize,
    /// Everything that the table has is in memory.
    complete: bool,
    cache: HashMap<Key, RowList, RandomState>,
    dirty: Vec<Key>,
}

struct RowList {
    rows: Rows,
    /// A mark of the operator's own, of the time between two flushes: see [`Listed::mark`].
    mark: u32,
    dirty: bool,
    /// The table has an entry for it.
    stored: bool,
    /// What it weighed when it was loaded or written.
    weight: usize,
}

/// The rows of a key, to be read and changed.
pub(super) struct Listed<'a> {
    key: &'a [u8],
    list: &'a mut RowList,
    dirty: &'a mut Vec<Key>,
}

impl Listed<'_> {
    /// The rows.
    pub(super) fn rows(&self) -> &[Row] {
        &self.list.rows
    }

    /// The rows, which are to be written.
    pub(super) fn change(&mut self) -> &mut Rows {
        if !std::mem::replace(&mut self.list.dirty, true) {
            self.dirty.push(Key::from_slice(self.key));
        }
        &mut self.list.rows
    }

    /// A number that is kept as long as the list is in memory; 0 at first.
    fn mark(&mut self) -> &mut u32 {
        &mut self.list.mark
    }
}

impl RowLists {
    /// Over a table, which may hold the rows of an earlier run.
    pub(super) fn new(mut table: Box<dyn StateTable>, cached: usize) -> Result<Self, EngineError> {
        let complete = table.is_empty()?;
        Ok(Self { table, cached, bytes: 0, complete, cache: HashMap::default(), dirty: Vec::new() })
    }

    /// The rows of a key.
    pub(super) fn get<'a>(&'a mut self, key: &'a [u8]) -> Result<Listed<'a>, EngineError> {
        let list = match self.cache.entry_ref(key) {
            EntryRef::Occupied(entry) => entry.into_mut(),
            EntryRef::Vacant(entry) => {
                let known = if self.complete { None } else { self.table.get(key)? };
                let stored = known.is_some();
                let mut rows = Rows::new();
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
                entry.insert(RowList { rows, mark: 0, dirty: false, stored, weight })
            }
        };
        Ok(Listed { key, list, dirty: &mut self.dirty })
    }

    pub(super) fn flush(&mut self) {
        let mut buffer = Vec::new();
        for key in self.dirty.drain(..) {
            let Some(list) = self.cache.get_mut(key.as_slice()) else { continue };
            list.dirty = false;
            let before = std::mem::replace(&mut list.weight, weight(&key, &list.rows));
            self.bytes = (self.bytes + list.weight).saturating_sub(before);
            if list.rows.is_empty() {
                if list.stored {
                    self.table.delete(&key);
                }
                self.bytes = self.bytes.saturating_sub(list.weight);
                self.cache.remove(key.as_slice());
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
    /// Mark of the keys of which a `-U` was handed on and whose `+U` is still to come. Both come from one record, so
    /// that no epoch ends between them: at each flush it becomes another number.
    announced: u32,
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
            announced: 1,
        })
    }

    fn upsert(&mut self, change: Change, out: &mut Vec<Change>) -> Result<(), EngineError> {
        self.buffer.clear();
        codec::put_key(&mut self.buffer, &change.row, &self.key);
        let mut listed = self.state.get(&self.buffer)?;
        let known = listed.rows().first().map(Row::clone);
        match (change.kind, known) {
            (RowKind::UpdateBefore, _) | (RowKind::Delete, None) => {}
            (RowKind::Delete, Some(known)) => {
                listed.change().clear();
                out.push(Change { kind: RowKind::Delete, row: known });
            }
            (_, None) => {
                listed.change().push(Row::clone(&change.row));
                out.push(Change { kind: RowKind::Insert, row: change.row });
            }
            (_, Some(known)) if known == change.row => {}
            (_, Some(known)) => {
                replace(listed.change(), &change.row);
                if self.update_before {
                    out.push(Change { kind: RowKind::UpdateBefore, row: known });
                }
                out.push(Change { kind: RowKind::UpdateAfter, row: change.row });
            }
        }
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
        let mut listed = self.state.get(&self.buffer)?;
        let known = listed.rows().first();
        // The input's old row, where it agrees with the one in state; else the one in state.
        let old = |given: &Row| match known {
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
                *listed.mark() = self.announced;
            }
            RowKind::Delete => {
                out.push(Change { kind: change.kind, row: old(&change.row) });
                listed.change().clear();
            }
            RowKind::Insert | RowKind::UpdateAfter => {
                let known = known.map(Row::clone);
                let announced = std::mem::take(listed.mark()) == self.announced;
                let mut kind = change.kind;
                // Without its -U it says what the row is now, not what it was: of an update, or read once more.
                if kind == RowKind::UpdateAfter && !announced {
                    match known {
                        Some(known) if known == change.row => return Ok(()),
                        Some(known) if self.update_before => {
                            out.push(Change { kind: RowKind::UpdateBefore, row: known });
                        }
                        Some(_) => {}
                        None => kind = RowKind::Insert,
                    }
                }
                replace(listed.change(), &change.row);
                out.push(Change { kind, row: change.row });
            }
        }
        Ok(())
    }
}

/// Puts one row in the place of all.
pub(super) fn replace(rows: &mut Rows, row: &Row) {
    rows.truncate(1);
    match rows.first_mut() {
        Some(first) => *first = Row::clone(row),
        None => rows.push(Row::clone(row)),
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
        self.announced = self.announced.wrapping_add(1).max(1);
        self.state.flush();
        Ok(())
    }
}

/// Keeps the live rows per key of a sink, in order of arrival (Flink's `SinkUpsertMaterializer`).
pub(super) struct Materialize {
    key: Vec<usize>,
    conflict: OnConflict,
    /// What tells rows apart: the input's upsert key, or all columns.
    input_key: Option<Vec<usize>>,
    schema: Vec<Field>,
    state: RowLists,
    buffer: Vec<u8>,
}

impl Materialize {
    pub(super) fn new(
        builder: &mut Builder<'_>,
        key: &[usize],
        conflict: OnConflict,
        input_key: Option<&[usize]>,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            key: key.to_vec(),
            conflict,
            input_key: input_key.map(<[usize]>::to_vec),
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

/// Whether two live rows are the same one: by the input's key, else by all columns.
fn same(one: &Row, other: &Row, key: Option<&[usize]>) -> bool {
    match key {
        Some(key) => key.iter().all(|&column| one.get(column) == other.get(column)),
        None => one == other,
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
            let mut listed = self.state.get(&self.buffer)?;
            let live = listed.rows();
            let deduplicate = self.conflict == OnConflict::Deduplicate;
            let input_key = self.input_key.as_deref();
            let known = live.iter().position(|row| same(row, &change.row, input_key));
            if change.kind.is_add() {
                let first = live.is_empty();
                if self.conflict == OnConflict::Error
                    && live.iter().any(|row| !same(row, &change.row, input_key))
                {
                    return Err(self.conflict_error(&change.row));
                }
                let live = listed.change();
                // A new version of a row that was not taken back is in its place, not beside it.
                let mut shown = first || deduplicate;
                match known.filter(|_| input_key.is_some()).and_then(|at| Some((at, live.get_mut(at)?))) {
                    Some((at, known)) if !deduplicate => {
                        *known = Row::clone(&change.row);
                        shown = at == 0;
                    }
                    Some((at, _)) => {
                        live.remove(at);
                        live.push(Row::clone(&change.row));
                    }
                    None => live.push(Row::clone(&change.row)),
                }
                let kind = if first { RowKind::Insert } else { RowKind::UpdateAfter };
                if shown {
                    out.push(Change { kind, row: change.row });
                }
            } else {
                let Some(at) = known else { continue };
                let live = listed.change();
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
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.state.flush();
        Ok(())
    }
}
