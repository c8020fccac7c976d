//! Operators that keep rows by key: changelog normalisation and the sink's materialiser.

use ahash::RandomState;
use hashbrown::HashMap;

use super::super::codec::{self, CodecError, Reader};
use super::super::error::EngineError;
use super::super::plan::{NormalizeMode, OnConflict};
use super::super::print;
use super::super::row::{Change, Row, RowKind};
use super::super::types::Field;
use super::{Builder, Emitter, Operator};
use crate::state::{StateError, StateTable};

/// Keys kept in memory per operator.
pub(super) const CACHED_KEYS: usize = if cfg!(test) { 2 } else { 1 << 18 };

/// A list of rows by key, as one entry of a state table; cached, written at a flush.
pub(super) struct RowLists {
    table: Box<dyn StateTable>,
    cached: usize,
    cache: HashMap<Box<[u8]>, (Vec<Row>, bool), RandomState>,
    dirty: Vec<Box<[u8]>>,
}

impl RowLists {
    pub(super) fn new(table: Box<dyn StateTable>, cached: usize) -> Self {
        Self { table, cached, cache: HashMap::default(), dirty: Vec::new() }
    }

    /// The rows of a key. Whoever changes them calls [`RowLists::changed`].
    pub(super) fn get(&mut self, key: &[u8]) -> Result<&mut Vec<Row>, EngineError> {
        if !self.cache.contains_key(key) {
            let mut rows = Vec::new();
            if let Some(bytes) = self.table.get(key)? {
                let damaged = |error: CodecError| StateError::Corrupt {
                    table: "rows by key".to_owned(),
                    what: error.to_string(),
                };
                let mut reader = Reader::new(&bytes);
                while !reader.is_empty() {
                    rows.push(reader.row().map_err(damaged)?);
                }
            }
            self.cache.insert(key.into(), (rows, false));
        }
        let entry = self.cache.get_mut(key);
        entry.map(|entry| &mut entry.0).ok_or_else(|| EngineError::Plan("rows of a key were lost".to_owned()))
    }

    /// Notes that the rows of a key are to be written.
    pub(super) fn changed(&mut self, key: &[u8]) {
        if let Some((_, dirty)) = self.cache.get_mut(key)
            && !std::mem::replace(dirty, true)
        {
            self.dirty.push(key.into());
        }
    }

    pub(super) fn flush(&mut self) {
        let mut buffer = Vec::new();
        for key in self.dirty.drain(..) {
            let Some((rows, dirty)) = self.cache.get_mut(&key) else { continue };
            *dirty = false;
            if rows.is_empty() {
                self.table.delete(&key);
                self.cache.remove(&key);
                continue;
            }
            buffer.clear();
            for row in rows.iter() {
                codec::put_row(&mut buffer, row);
            }
            self.table.put(&key, &buffer);
        }
        if self.cache.len() > self.cached {
            self.cache.clear();
        }
    }
}

/// Makes a right changelog of upserts, or of a changelog whose old rows cannot be trusted.
pub(super) struct Normalize {
    key: Vec<usize>,
    mode: NormalizeMode,
    update_before: bool,
    state: RowLists,
    buffer: Vec<u8>,
    /// Key of a `-U` that has been seen but not handed on: it goes with the `+U` behind it.
    pending: Option<Change>,
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
            state: RowLists::new(builder.expiring_table("rows")?, builder.cached(CACHED_KEYS)),
            buffer: Vec::new(),
            pending: None,
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
                self.pending = Some(change);
                return Ok(());
            }
            RowKind::Delete => {
                out.push(Change { kind: change.kind, row: old(&change.row) });
                rows.clear();
            }
            RowKind::Insert | RowKind::UpdateAfter => {
                let announced = self.pending.take().is_some_and(|before| {
                    self.key.iter().all(|&column| before.row.get(column) == change.row.get(column))
                });
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
            state: RowLists::new(builder.expiring_table("rows")?, builder.cached(CACHED_KEYS)),
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
