//! Rows of one input of a join, by join key: a typed cache over a state table.
//!
//! A bucket holds the rows of one join key. In the table a row stands under join key and row identity (its
//! unique key, or all of it), so that a change writes one entry however many rows the key has.

use ahash::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use smallvec::SmallVec;

use super::super::codec::{self, CodecError, Reader};
use super::super::error::EngineError;
use super::super::row::Row;
use super::buffer::row_weight;
use super::filter::KeyFilter;
use super::{Builder, Key, Share};
use crate::state::{StateError, StateTable};

/// The part of the cache that the filter of keys may take besides.
const FILTER: usize = 8;
/// Buckets with more rows than this find rows by a hash index.
const INDEXED: usize = 16;
/// About what a bucket takes in memory besides its key and its rows.
const BUCKET_WEIGHT: usize = 160;
/// The same of an entry.
const ENTRY_WEIGHT: usize = 48;

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

/// Rows of one join key.
#[derive(Default)]
pub(super) struct Bucket {
    pub entries: SmallVec<[Entry; 1]>,
    index: Option<HashMap<Key, usize, RandomState>>,
    /// Places of the entries that changed since the last flush.
    changed: SmallVec<[usize; 2]>,
    /// The generation of the cache that it was used in.
    used: u32,
}

/// The buckets that are in memory, and the table.
struct Buckets {
    table: Box<dyn StateTable>,
    map: HashMap<Key, Bucket, RandomState>,
    /// Everything that the table has is in memory.
    complete: bool,
    /// Otherwise: the keys that the table cannot have.
    filter: KeyFilter,
    /// Columns of the join key.
    columns: Vec<usize>,
    share: Share,
    bytes: usize,
    generation: u32,
    /// The generation began when half of the memory was taken.
    half_full: bool,
}

/// One input of a join.
pub(super) struct Side {
    buckets: Buckets,
    /// Keys of the buckets that changed since the last flush.
    dirty: Vec<Key>,
    /// Columns that tell rows apart; `None`: all of them, with a count.
    unique: Option<Vec<usize>>,
    /// Bytes that may stay in memory over a flush.
    cached: usize,
    buffer: Vec<u8>,
}

fn damaged(error: CodecError) -> StateError {
    StateError::Corrupt { table: "a join's input".to_owned(), what: error.to_string() }
}

/// Count, degree and row of an entry.
fn read(value: &[u8]) -> Result<(u32, u32, Row), StateError> {
    let mut reader = Reader::new(value);
    let mut number = || -> Result<u32, StateError> {
        let number = reader.varint().map_err(damaged)?;
        u32::try_from(number).map_err(|_| damaged(CodecError::Damaged("a count")))
    };
    Ok((number()?, number()?, reader.row().map_err(damaged)?))
}

fn weight(row: &Row) -> usize {
    ENTRY_WEIGHT + row_weight(row)
}

impl Buckets {
    /// The bucket of a join key, loaded if need be.
    fn get(&mut self, key: &[u8], unique: Option<&[usize]>) -> Result<&mut Bucket, EngineError> {
        let bucket = match self.map.entry_ref(key) {
            EntryRef::Occupied(entry) => entry.into_mut(),
            EntryRef::Vacant(entry) => {
                let mut bucket = Bucket::default();
                self.bytes += BUCKET_WEIGHT + key.len();
                if !self.complete && !self.filter.lacks(key) {
                    let Self { columns, share, bytes, .. } = self;
                    self.filter.learn(self.table.as_mut(), &mut |_, value, key| {
                        codec::put_key(key, &read(value)?.2, columns);
                        Ok(share.has(key))
                    })?;
                    self.table.scan(key, &mut |found, value| {
                        let (count, degree, row) = read(value)?;
                        *bytes += weight(&row);
                        let identity = found.get(key.len()..).unwrap_or_default();
                        bucket.push(
                            unique,
                            Entry { row, count, degree, stored: true, dirty: false },
                            identity,
                        );
                        Ok(true)
                    })?;
                }
                entry.insert(bucket)
            }
        };
        bucket.used = self.generation;
        Ok(bucket)
    }

    /// Keeps to so many bytes: what was not used since half of them were taken is forgotten first.
    fn shrink(&mut self, most: usize) {
        self.filter.renew();
        if self.bytes <= most {
            if self.bytes > most / 2 && !self.half_full {
                self.half_full = true;
                self.generation = self.generation.wrapping_add(1);
            }
            return;
        }
        self.half_full = false;
        if std::mem::take(&mut self.complete) {
            self.filter.begin(self.map.keys().map(Key::as_slice));
        }
        let generation = self.generation;
        self.map.retain(|_, bucket| bucket.used == generation);
        self.bytes = self.map.iter().map(|(key, bucket)| key.len() + bucket.weight()).sum();
        if self.bytes > most / 4 * 3 {
            self.map.clear();
            self.bytes = 0;
        }
    }
}

impl Side {
    /// Over a state table of the operator, of rows with this join key; they live as long as `ttl` says.
    pub(super) fn new(
        builder: &mut Builder<'_>,
        part: &str,
        columns: Vec<usize>,
        unique: Option<Vec<usize>>,
        ttl: Option<i64>,
    ) -> Result<Self, EngineError> {
        let (mut table, cached) = (builder.expiring_table(part, ttl)?, builder.cached(ttl));
        let complete = table.is_empty()?;
        let buckets = Buckets {
            table,
            map: HashMap::default(),
            complete,
            filter: KeyFilter::new(builder.cache() / FILTER),
            columns,
            share: builder.share.clone(),
            bytes: 0,
            generation: 0,
            half_full: false,
        };
        Ok(Self { buckets, dirty: Vec::new(), unique, cached, buffer: Vec::new() })
    }

    /// The bucket of a join key, loaded if need be. Whoever changes an entry calls [`Side::changed`].
    pub(super) fn bucket(&mut self, key: &[u8]) -> Result<&mut Bucket, EngineError> {
        self.buckets.get(key, self.unique.as_deref())
    }

    /// Notes that a bucket has its first change since the last flush.
    pub(super) fn changed(&mut self, key: &[u8]) {
        self.dirty.push(Key::from_slice(key));
    }

    /// Adds a row: one more of it, or, with a unique key, in place of the one that was there; says whether there was
    /// one.
    pub(super) fn add(&mut self, key: &[u8], row: &Row, degree: u32) -> Result<bool, EngineError> {
        let unique = self.unique.as_deref();
        let bucket = self.buckets.get(key, unique)?;
        if bucket.changed.is_empty() {
            self.dirty.push(Key::from_slice(key));
        }
        let first = bucket.entries.is_empty();
        let (less, replaced) = bucket.add(unique, row, degree, &mut self.buffer);
        let filter = &mut self.buckets.filter;
        if !self.buckets.complete && (first || filter.is_learning()) {
            filter.insert(key);
        }
        self.buckets.bytes = (self.buckets.bytes + weight(row)).saturating_sub(less);
        Ok(replaced)
    }

    /// Takes a row out; one that is not there is ignored.
    pub(super) fn remove(&mut self, key: &[u8], row: &Row) -> Result<(), EngineError> {
        let unique = self.unique.as_deref();
        let bucket = self.buckets.get(key, unique)?;
        let first = bucket.changed.is_empty();
        let Some(at) = bucket.find(unique, row, &mut self.buffer) else { return Ok(()) };
        if let Some(entry) = bucket.entries.get_mut(at).filter(|entry| entry.count > 0) {
            entry.count -= 1;
            bucket.note(at);
            if first {
                self.dirty.push(Key::from_slice(key));
            }
        }
        Ok(())
    }

    /// Writes what changed, and forgets what was not used of late when there is much in memory.
    pub(super) fn flush(&mut self) {
        let unique = self.unique.as_deref();
        let mut full = Vec::new();
        for key in self.dirty.drain(..) {
            let Some(bucket) = self.buckets.map.get_mut(key.as_slice()) else { continue };
            full.clear();
            full.extend_from_slice(&key);
            let less = bucket.write(unique, &mut full, self.buckets.table.as_mut());
            self.buckets.bytes = self.buckets.bytes.saturating_sub(less);
        }
        self.buckets.shrink(self.cached);
    }
}

/// The bytes that tell a row from others of its join key.
fn put_identity(out: &mut Vec<u8>, unique: Option<&[usize]>, row: &Row) {
    match unique {
        Some(columns) => codec::put_key(out, row, columns),
        None => row.iter().for_each(|value| codec::put_key_value(out, value)),
    }
}

impl Bucket {
    fn weight(&self) -> usize {
        BUCKET_WEIGHT + self.entries.iter().map(|entry| weight(&entry.row)).sum::<usize>()
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
    fn find(&self, unique: Option<&[usize]>, row: &Row, buffer: &mut Vec<u8>) -> Option<usize> {
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

    /// Adds a row; gives the weight of the one whose place it took, and whether that was still there.
    fn add(
        &mut self,
        unique: Option<&[usize]>,
        row: &Row,
        degree: u32,
        buffer: &mut Vec<u8>,
    ) -> (usize, bool) {
        let found = self.find(unique, row, buffer);
        let at = found.unwrap_or(self.entries.len());
        let (mut less, mut replaced) = (0, false);
        match self.entries.get_mut(at) {
            Some(entry) => {
                less = weight(&entry.row);
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
    fn write(&mut self, unique: Option<&[usize]>, full: &mut Vec<u8>, table: &mut dyn StateTable) -> usize {
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
                codec::put_varint(&mut value, u128::from(entry.count));
                codec::put_varint(&mut value, u128::from(entry.degree));
                codec::put_row(&mut value, &entry.row);
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
            less += weight(&self.entries.swap_remove(at).row);
            if let (Some(index), Some(moved)) = (&mut self.index, self.entries.get(at)) {
                full.truncate(start);
                put_identity(full, unique, &moved.row);
                index.insert(Key::from_slice(full.get(start..).unwrap_or_default()), at);
            }
        }
        less
    }
}
