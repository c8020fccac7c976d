//! The rows of one join key of an input of a join, in memory.

use ahash::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::super::codec::{self, CodecError, Reader};
use super::super::row::Row;
use super::Key;
use super::buffer::row_weight;
use crate::state::{StateError, StateTable};

/// Buckets with more rows than this find rows by a hash index.
const INDEXED: usize = 16;
/// About what a bucket takes in memory besides its key and its rows.
pub(super) const BUCKET_WEIGHT: usize = 160;
/// The same of an entry.
const ENTRY_WEIGHT: usize = 48;
/// The same of its place in the index.
const INDEX_WEIGHT: usize = 64;

/// A row of a bucket.
pub(super) struct Entry {
    pub row: Row,
    /// How often it is in the input (1 with a unique key); 0: it went since the last flush.
    pub count: u32,
    /// How many rows of the other input match it; kept where the join needs it.
    pub degree: u32,
    /// The table has an entry for it.
    stored: bool,
    /// It differs from this one, or there is none.
    dirty: bool,
}

/// How much of a bucket is in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Extent {
    /// Nothing: it is not known what the table has.
    Unread,
    /// All its rows.
    Whole,
    /// Nothing: it has more rows than are read to add one.
    Many,
    /// Nothing: it has more rows than memory has room for.
    Huge,
}

/// Rows of one join key.
pub(super) struct Bucket {
    pub entries: SmallVec<[Entry; 1]>,
    pub extent: Extent,
    index: Option<HashMap<Key, usize, RandomState>>,
    /// Places of the entries that changed since the last flush.
    changed: SmallVec<[usize; 2]>,
    /// The generation of the cache that it was used in.
    pub used: u32,
}

fn damaged(error: CodecError) -> StateError {
    StateError::Corrupt { table: "a join's input".to_owned(), what: error.to_string() }
}

fn number(reader: &mut Reader<'_>) -> Result<u32, StateError> {
    let number = reader.varint().map_err(damaged)?;
    u32::try_from(number).map_err(|_| damaged(CodecError::Damaged("a count")))
}

/// Count and degree of an entry of the table.
pub(super) fn read_counts(value: &[u8]) -> Result<(u32, u32), StateError> {
    let mut reader = Reader::new(value);
    Ok((number(&mut reader)?, number(&mut reader)?))
}

/// The row of an entry of the table.
pub(super) fn read_row(value: &[u8]) -> Result<Row, StateError> {
    Ok(Entry::read(value)?.row)
}

/// Appends an entry as the table has it.
pub(super) fn put_entry(out: &mut Vec<u8>, count: u32, degree: u32, row: &Row) {
    codec::put_varint(out, u128::from(count));
    codec::put_varint(out, u128::from(degree));
    codec::put_row(out, row);
}

impl Entry {
    /// An entry of the table.
    pub(super) fn read(value: &[u8]) -> Result<Self, StateError> {
        let mut reader = Reader::new(value);
        let (count, degree) = (number(&mut reader)?, number(&mut reader)?);
        let row = reader.row().map_err(damaged)?;
        Ok(Self { row, count, degree, stored: true, dirty: false })
    }
}

fn weight(row: &Row) -> usize {
    ENTRY_WEIGHT + row_weight(row)
}

/// The bytes that tell a row from others of its join key.
pub(super) fn put_identity(out: &mut Vec<u8>, unique: Option<&[usize]>, row: &Row) {
    match unique {
        Some(columns) => codec::put_key(out, row, columns),
        None => row.iter().for_each(|value| codec::put_key_value(out, value)),
    }
}

impl Bucket {
    /// One without rows in memory.
    pub(super) fn new(extent: Extent) -> Self {
        Self { entries: SmallVec::new(), extent, index: None, changed: SmallVec::new(), used: 0 }
    }

    /// About what it takes in memory besides its key.
    pub(super) fn weight(&self) -> usize {
        BUCKET_WEIGHT + self.entries.iter().map(|entry| self.entry_weight(&entry.row)).sum::<usize>()
    }

    /// About what a row takes in memory here.
    pub(super) fn entry_weight(&self, row: &Row) -> usize {
        weight(row) + if self.index.is_some() { INDEX_WEIGHT } else { 0 }
    }

    /// Whether nothing changed since the last flush.
    pub(super) fn is_clean(&self) -> bool {
        self.changed.is_empty()
    }

    /// Reads the rows of its key from the table, if they are no more than so many and take no more than so many bytes;
    /// gives the bytes.
    pub(super) fn load(
        &mut self,
        table: &mut dyn StateTable,
        key: &[u8],
        unique: Option<&[usize]>,
        (rows, most): (usize, usize),
    ) -> Result<usize, StateError> {
        let mut bytes = 0;
        self.extent = Extent::Whole;
        table.scan(key, &mut |found, value| {
            let entry = Entry::read(value)?;
            bytes += self.entry_weight(&entry.row);
            if self.entries.len() == rows || bytes > most {
                self.extent = if rows < usize::MAX { Extent::Many } else { Extent::Huge };
                return Ok(false);
            }
            self.push(unique, entry, found.get(key.len()..).unwrap_or_default());
            Ok(true)
        })?;
        if self.extent != Extent::Whole {
            *self = Self { used: self.used, ..Self::new(self.extent) };
            bytes = 0;
        }
        Ok(bytes)
    }

    /// Appends an entry, which is not there.
    fn push(&mut self, unique: Option<&[usize]>, entry: Entry, identity: &[u8]) {
        let at = self.entries.len();
        self.entries.push(entry);
        match &mut self.index {
            Some(index) => drop(index.insert(Key::from_slice(identity), at)),
            None if self.entries.len() > INDEXED => self.make_index(unique),
            None => {}
        }
    }

    fn make_index(&mut self, unique: Option<&[usize]>) {
        let mut index = HashMap::with_capacity_and_hasher(self.entries.len(), RandomState::default());
        let mut buffer = Vec::new();
        for (at, entry) in self.entries.iter().enumerate() {
            buffer.clear();
            put_identity(&mut buffer, unique, &entry.row);
            index.insert(Key::from_slice(&buffer), at);
        }
        self.index = Some(index);
    }

    /// Where a row is, or was before it went.
    pub(super) fn find(&self, unique: Option<&[usize]>, row: &Row, buffer: &mut Vec<u8>) -> Option<usize> {
        if let Some(index) = &self.index {
            buffer.clear();
            put_identity(buffer, unique, row);
            return index.get(buffer.as_slice()).copied();
        }
        self.entries.iter().position(|entry| match unique {
            Some(columns) => columns.iter().all(|&column| match (entry.row.get(column), row.get(column)) {
                (Some(known), Some(value)) => known.is_same(value),
                (known, value) => known == value,
            }),
            None => entry.row.iter().zip(row.iter()).all(|(known, value)| known.is_same(value)),
        })
    }

    /// Notes that the entry at a place is to be written.
    fn note(&mut self, at: usize) {
        if let Some(entry) = self.entries.get_mut(at)
            && !std::mem::replace(&mut entry.dirty, true)
        {
            self.changed.push(at);
        }
    }

    /// Sets the degree of the entry at a place; says whether that is the bucket's first change since the last flush.
    pub(super) fn set_degree(&mut self, at: usize, degree: u32) -> bool {
        let first = self.changed.is_empty();
        if let Some(entry) = self.entries.get_mut(at) {
            entry.degree = degree;
            self.note(at);
        }
        first && !self.changed.is_empty()
    }

    /// Takes the row at a place out once; says whether it was there.
    pub(super) fn take(&mut self, at: usize) -> bool {
        let Some(entry) = self.entries.get_mut(at).filter(|entry| entry.count > 0) else { return false };
        entry.count -= 1;
        self.note(at);
        true
    }

    /// Adds a row; gives the weight of the one whose place it took, and whether that was still there.
    pub(super) fn add(
        &mut self,
        unique: Option<&[usize]>,
        row: &Row,
        degree: u32,
        buffer: &mut Vec<u8>,
    ) -> (usize, bool) {
        let found = self.find(unique, row, buffer);
        let at = found.unwrap_or(self.entries.len());
        let (mut less, mut replaced) = (0, false);
        let indexed = self.index.is_some();
        match self.entries.get_mut(at) {
            Some(entry) => {
                less = weight(&entry.row) + if indexed { INDEX_WEIGHT } else { 0 };
                replaced = unique.is_some() && entry.count > 0;
                entry.count = if unique.is_some() { 1 } else { entry.count.saturating_add(1) };
                entry.row = Row::clone(row);
                entry.degree = degree;
            }
            None => {
                let entry = Entry { row: Row::clone(row), count: 1, degree, stored: false, dirty: false };
                // With an index the search has left the row's identity in the buffer.
                self.push(unique, entry, buffer);
            }
        }
        self.note(at);
        (less, replaced)
    }

    /// Writes the entries that changed under the join key in `full`; gives the weight of what is gone.
    pub(super) fn write(
        &mut self,
        unique: Option<&[usize]>,
        full: &mut Vec<u8>,
        table: &mut dyn StateTable,
    ) -> usize {
        let start = full.len();
        let mut value = Vec::new();
        let mut gone: SmallVec<[usize; 2]> = SmallVec::new();
        for at in self.changed.drain(..) {
            let Some(entry) = self.entries.get_mut(at) else { continue };
            entry.dirty = false;
            full.truncate(start);
            put_identity(full, unique, &entry.row);
            if entry.count > 0 {
                entry.stored = true;
                value.clear();
                put_entry(&mut value, entry.count, entry.degree, &entry.row);
                table.put(full, &value);
                continue;
            }
            if entry.stored {
                table.delete(full);
            }
            gone.push(at);
            if let Some(index) = &mut self.index {
                index.remove(full.get(start..).unwrap_or_default());
            }
        }
        // The last one first: the places of those before stay what they are.
        gone.sort_unstable_by(|left, right| right.cmp(left));
        let mut less = 0;
        for at in gone {
            let row = self.entries.swap_remove(at).row;
            less += self.entry_weight(&row);
            if let (Some(index), Some(moved)) = (&mut self.index, self.entries.get(at)) {
                full.truncate(start);
                put_identity(full, unique, &moved.row);
                index.insert(Key::from_slice(full.get(start..).unwrap_or_default()), at);
            }
        }
        less
    }
}
