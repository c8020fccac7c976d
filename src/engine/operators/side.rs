//! One input of a join: its rows by join key, of which those used of late are in memory.
//!
//! A bucket holds the rows of one join key. In the table a row stands under join key and row identity (its
//! unique key, or all of it), so that a change writes one entry however many rows the key has; and reads one, where
//! the key has so many that its bucket is not in memory. A bucket that is too large for memory is met in pieces.

use ahash::RandomState;
use hashbrown::HashMap;

use super::super::codec;
use super::super::error::EngineError;
use super::super::row::Row;
use super::bucket::{BUCKET_WEIGHT, Bucket, Entry, Extent, put_entry, put_identity, read_counts, read_row};
use super::filter::KeyFilter;
use super::{Builder, Key, Share};
use crate::state::StateTable;

/// The part of the cache that the filter of keys may take besides.
const FILTER: usize = 8;
/// Most rows of a bucket that are read to add one to it: of larger ones only that row is read.
const FEW: usize = if cfg!(test) { 2 } else { 32 };
/// Bytes of rows that are read at a time of a bucket that is too large for memory.
const PIECE: usize = if cfg!(test) { 512 } else { 256 << 10 };

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
    /// Bytes of the largest bucket that is held in memory.
    largest: usize,
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
    /// Bytes that may stay in memory over a flush, and those that may be there before one.
    cached: usize,
    most: usize,
    buffer: Vec<u8>,
    value: Vec<u8>,
}

/// Rows of a bucket that is too large for memory.
pub(super) struct Piece {
    pub bucket: Bucket,
    /// About what its rows take in memory.
    pub bytes: usize,
    /// Where the next piece begins.
    pub next: Option<Vec<u8>>,
}

impl Buckets {
    /// The bucket of a join key. It is loaded if need be: to meet `all` its rows, if memory has room for it; else if it
    /// has few.
    fn get(&mut self, key: &[u8], unique: Option<&[usize]>, all: bool) -> Result<&mut Bucket, EngineError> {
        let Self { table, map, filter, columns, share, bytes, .. } = self;
        let bucket = map.entry_ref(key).or_insert_with(|| {
            *bytes += BUCKET_WEIGHT + key.len();
            let is_new = self.complete || filter.lacks(key);
            Bucket::new(if is_new { Extent::Whole } else { Extent::Unread })
        });
        bucket.used = self.generation;
        let limits = if all { (usize::MAX, self.largest) } else { (FEW, self.largest) };
        if bucket.extent == Extent::Unread || (all && bucket.extent == Extent::Many) {
            filter.learn(table.as_mut(), &mut |_, value, key| {
                codec::put_key(key, &read_row(value)?, columns);
                Ok(share.has(key))
            })?;
            *bytes += bucket.load(table.as_mut(), key, unique, limits)?;
        }
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
        self.keep(|bucket| bucket.used == generation);
        if self.bytes > most / 4 * 3 {
            let largest = self.largest;
            // Which ones are too large is kept: that cost much to find out.
            self.keep(|bucket| {
                if bucket.weight() > largest {
                    *bucket = Bucket::new(Extent::Huge);
                    bucket.used = generation;
                }
                bucket.extent == Extent::Huge
            });
        }
        if self.bytes > self.largest {
            self.keep(|_| false);
        }
    }

    fn keep(&mut self, mut test: impl FnMut(&mut Bucket) -> bool) {
        self.map.retain(|_, bucket| test(bucket));
        self.bytes = self.map.iter().map(|(key, bucket)| key.len() + bucket.weight()).sum();
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
        let cache = builder.cache();
        let buckets = Buckets {
            table,
            map: HashMap::default(),
            complete,
            filter: KeyFilter::new(cache / FILTER),
            columns,
            share: builder.share.clone(),
            bytes: 0,
            largest: cache / 4 * 3,
            generation: 0,
            half_full: false,
        };
        let most = cache + cache / 2;
        Ok(Self { buckets, dirty: Vec::new(), unique, cached, most, buffer: Vec::new(), value: Vec::new() })
    }

    /// Lets go of what is in memory when it has become much before the epoch ends.
    pub(super) fn relieve(&mut self) {
        if self.buckets.bytes > self.most {
            self.flush();
        }
    }

    /// All rows of a join key, loaded if need be; `None` if they are too large for memory: see [`Side::piece`].
    /// Whoever changes an entry calls [`Side::changed`].
    pub(super) fn bucket(&mut self, key: &[u8]) -> Result<Option<&mut Bucket>, EngineError> {
        let bucket = self.buckets.get(key, self.unique.as_deref(), true)?;
        Ok(Some(bucket).filter(|bucket| bucket.extent == Extent::Whole))
    }

    /// Notes that a bucket has its first change since the last flush.
    pub(super) fn changed(&mut self, key: &[u8]) {
        self.dirty.push(Key::from_slice(key));
    }

    /// Rows of a bucket that is too large for memory, from a key of the table on: the join key, then [`Piece::next`].
    pub(super) fn piece(&mut self, key: &[u8], from: &[u8]) -> Result<Piece, EngineError> {
        let mut piece = Piece { bucket: Bucket::new(Extent::Whole), bytes: 0, next: None };
        self.buckets.table.scan_part(key, from, &mut |found, value| {
            if piece.bytes >= PIECE {
                piece.next = Some(found.to_vec());
                return Ok(false);
            }
            let entry = Entry::read(value)?;
            piece.bytes += piece.bucket.entry_weight(&entry.row);
            piece.bucket.entries.push(entry);
            Ok(true)
        })?;
        Ok(piece)
    }

    /// Writes what changed in a piece.
    pub(super) fn write(&mut self, key: &[u8], piece: &mut Bucket) {
        self.buffer.clear();
        self.buffer.extend_from_slice(key);
        piece.write(self.unique.as_deref(), &mut self.buffer, self.buckets.table.as_mut());
    }

    /// Notes how many bytes all pieces of a bucket had: it may have become small enough.
    pub(super) fn measured(&mut self, key: &[u8], bytes: usize) {
        if bytes < self.buckets.largest / 2
            && let Some(bucket) = self.buckets.map.get_mut(key)
        {
            bucket.extent = Extent::Many;
        }
    }

    /// Whether adding a row would take the place of one: with a unique key.
    pub(super) fn has(&mut self, key: &[u8], row: &Row) -> Result<bool, EngineError> {
        let Some(unique) = self.unique.as_deref() else { return Ok(false) };
        let bucket = self.buckets.get(key, Some(unique), false)?;
        if bucket.extent != Extent::Whole {
            return Ok(self.stored(key, row)?.is_some());
        }
        let at = bucket.find(Some(unique), row, &mut self.buffer);
        Ok(at.and_then(|at| bucket.entries.get(at)).is_some_and(|entry| entry.count > 0))
    }

    /// Adds a row: one more of it, or, with a unique key, in place of the one that was there; says whether there was
    /// one.
    pub(super) fn add(&mut self, key: &[u8], row: &Row, degree: u32) -> Result<bool, EngineError> {
        let unique = self.unique.as_deref();
        let bucket = self.buckets.get(key, unique, false)?;
        if bucket.extent != Extent::Whole {
            return self.add_to_table(key, row, degree);
        }
        if bucket.is_clean() {
            self.dirty.push(Key::from_slice(key));
        }
        let first = bucket.entries.is_empty();
        let (less, replaced) = bucket.add(unique, row, degree, &mut self.buffer);
        let more = bucket.entry_weight(row);
        let filter = &mut self.buckets.filter;
        if !self.buckets.complete && (first || filter.is_learning()) {
            filter.insert(key);
        }
        self.buckets.bytes = (self.buckets.bytes + more).saturating_sub(less);
        Ok(replaced)
    }

    /// Takes a row out; one that is not there is ignored.
    pub(super) fn remove(&mut self, key: &[u8], row: &Row) -> Result<(), EngineError> {
        let unique = self.unique.as_deref();
        let bucket = self.buckets.get(key, unique, false)?;
        if bucket.extent != Extent::Whole {
            return self.remove_from_table(key, row);
        }
        let first = bucket.is_clean();
        let Some(at) = bucket.find(unique, row, &mut self.buffer) else { return Ok(()) };
        if bucket.take(at) && first {
            self.dirty.push(Key::from_slice(key));
        }
        Ok(())
    }

    /// Count and degree of a row in the table, whose key is then in the buffer.
    fn stored(&mut self, key: &[u8], row: &Row) -> Result<Option<(u32, u32)>, EngineError> {
        self.buffer.clear();
        self.buffer.extend_from_slice(key);
        put_identity(&mut self.buffer, self.unique.as_deref(), row);
        let value = self.buckets.table.get(&self.buffer)?;
        Ok(value.map(|value| read_counts(&value)).transpose()?)
    }

    fn put(&mut self, count: u32, degree: u32, row: &Row) {
        self.value.clear();
        put_entry(&mut self.value, count, degree, row);
        self.buckets.table.put(&self.buffer, &self.value);
    }

    fn add_to_table(&mut self, key: &[u8], row: &Row, degree: u32) -> Result<bool, EngineError> {
        let known = self.stored(key, row)?;
        let count = match known {
            Some((count, _)) if self.unique.is_none() => count.saturating_add(1),
            _ => 1,
        };
        self.put(count, degree, row);
        let filter = &mut self.buckets.filter;
        if filter.is_learning() || filter.lacks(key) {
            filter.insert(key);
        }
        Ok(known.is_some() && self.unique.is_some())
    }

    fn remove_from_table(&mut self, key: &[u8], row: &Row) -> Result<(), EngineError> {
        match self.stored(key, row)? {
            Some((count, degree)) if count > 1 => self.put(count - 1, degree, row),
            Some(_) => self.buckets.table.delete(&self.buffer),
            None => {}
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
