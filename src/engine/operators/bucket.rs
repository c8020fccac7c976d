//! Rows of one input of a join, by join key: a typed cache over a state table.
//!
//! A bucket holds the rows of one join key. In the table a row stands under join key and row identity (its
//! unique key, or all of it), so that a change writes one entry however many rows the key has.

use ahash::RandomState;
use hashbrown::HashMap;

use super::super::codec::{self, Reader};
use super::super::error::EngineError;
use super::super::row::Row;
use crate::state::{StateError, StateTable};

/// Rows kept in memory per join input; above it, buckets that were not used of late are forgotten at a flush.
pub(super) const CACHED_ROWS: usize = if cfg!(test) { 30 } else { 1 << 20 };
/// Buckets with more rows than this find rows by a hash index.
const INDEXED: usize = 16;

/// A row of a bucket.
pub(super) struct Entry {
    pub row: Row,
    /// How often it is in the input (1 with a unique key).
    pub count: u32,
    /// How many rows of the other input match it; kept where the join needs it.
    pub degree: u32,
    dirty: bool,
}

/// Rows of one join key.
#[derive(Default)]
pub(super) struct Bucket {
    pub entries: Vec<Entry>,
    index: Option<HashMap<Box<[u8]>, usize, RandomState>>,
    gone: Vec<Box<[u8]>>,
    dirty: bool,
    used: u32,
}

/// One input of a join.
pub(super) struct Side {
    table: Box<dyn StateTable>,
    buckets: HashMap<Box<[u8]>, Bucket, RandomState>,
    /// Keys of the buckets that changed since the last flush.
    dirty: Vec<Box<[u8]>>,
    /// Columns that tell rows apart; `None`: all of them, with a count.
    unique: Option<Vec<usize>>,
    /// Everything that the table has is in memory.
    complete: bool,
    /// Rows that may stay in memory over a flush.
    cached: usize,
    rows: usize,
    epoch: u32,
    buffer: Vec<u8>,
}

impl Side {
    pub(super) fn new(
        mut table: Box<dyn StateTable>,
        unique: Option<Vec<usize>>,
        cached: usize,
    ) -> Result<Self, EngineError> {
        let mut complete = true;
        table.scan(&[], &mut |_, _| {
            complete = false;
            Ok(false)
        })?;
        Ok(Self {
            table,
            buckets: HashMap::default(),
            dirty: Vec::new(),
            unique,
            cached,
            complete,
            rows: 0,
            epoch: 0,
            buffer: Vec::new(),
        })
    }

    /// The bucket of a join key, loaded if need be.
    pub(super) fn bucket(&mut self, key: &[u8]) -> Result<&mut Bucket, EngineError> {
        if !self.buckets.contains_key(key) {
            let mut bucket = Bucket::default();
            if !self.complete {
                let unique = &self.unique;
                self.table.scan(key, &mut |found, value| {
                    let damaged = |error: codec::CodecError| StateError::Corrupt {
                        table: "a join's input".to_owned(),
                        what: error.to_string(),
                    };
                    let mut reader = Reader::new(value);
                    let mut number = || -> Result<u32, StateError> {
                        let number = reader.varint().map_err(damaged)?;
                        u32::try_from(number).map_err(|_| damaged(codec::CodecError::Damaged("a count")))
                    };
                    let (count, degree) = (number()?, number()?);
                    let row = reader.row().map_err(damaged)?;
                    let identity = found.get(key.len()..).unwrap_or_default();
                    push(
                        &mut bucket,
                        unique.as_deref(),
                        Entry { row, count, degree, dirty: false },
                        identity.into(),
                    );
                    Ok(true)
                })?;
                self.rows += bucket.entries.len();
            }
            self.buckets.insert(key.into(), bucket);
        }
        let epoch = self.epoch;
        let bucket = self.buckets.get_mut(key);
        let bucket = bucket.ok_or_else(|| EngineError::Plan("a bucket was lost".to_owned()))?;
        bucket.used = epoch;
        Ok(bucket)
    }

    /// Sets the degree of an entry of a bucket that is in memory.
    pub(super) fn set_degree(&mut self, key: &[u8], at: usize, degree: u32) {
        let Some(bucket) = self.buckets.get_mut(key) else { return };
        if let Some(entry) = bucket.entries.get_mut(at) {
            entry.degree = degree;
            entry.dirty = true;
            if !std::mem::replace(&mut bucket.dirty, true) {
                self.dirty.push(key.into());
            }
        }
    }

    /// Adds a row: one more of it, or, with a unique key, in place of the one that was there.
    pub(super) fn add(&mut self, key: &[u8], row: &Row, degree: u32) -> Result<(), EngineError> {
        // Loaded while the unique key is in its place: the index of a large bucket is made by it.
        self.bucket(key)?;
        let unique = self.unique.take();
        let mut identity = std::mem::take(&mut self.buffer);
        identity.clear();
        let bucket = self.bucket(key)?;
        let mut added = 0;
        match find(bucket, unique.as_deref(), row, &mut identity) {
            Some(at) => {
                if let Some(entry) = bucket.entries.get_mut(at) {
                    if unique.is_some() {
                        entry.row = Row::clone(row);
                    } else {
                        entry.count = entry.count.saturating_add(1);
                    }
                    entry.degree = degree;
                    entry.dirty = true;
                }
            }
            None => {
                let entry = Entry { row: Row::clone(row), count: 1, degree, dirty: true };
                if bucket.index.is_some() {
                    self::identity(unique.as_deref(), row, &mut identity);
                }
                push(bucket, unique.as_deref(), entry, identity.as_slice().into());
                added = 1;
            }
        }
        if !std::mem::replace(&mut bucket.dirty, true) {
            self.dirty.push(key.into());
        }
        self.rows += added;
        self.unique = unique;
        self.buffer = identity;
        Ok(())
    }

    /// Takes a row out; one that is not there is ignored.
    pub(super) fn remove(&mut self, key: &[u8], row: &Row) -> Result<(), EngineError> {
        // Loaded while the unique key is in its place: the index of a large bucket is made by it.
        self.bucket(key)?;
        let unique = self.unique.take();
        let mut buffer = std::mem::take(&mut self.buffer);
        let bucket = self.bucket(key)?;
        let (mut removed, mut fresh) = (0, false);
        if let Some(at) = find(bucket, unique.as_deref(), row, &mut buffer) {
            fresh = !std::mem::replace(&mut bucket.dirty, true);
            match bucket.entries.get_mut(at) {
                Some(entry) if entry.count > 1 => {
                    entry.count -= 1;
                    entry.dirty = true;
                }
                _ => {
                    let entry = bucket.entries.swap_remove(at);
                    identity(unique.as_deref(), &entry.row, &mut buffer);
                    if let Some(index) = &mut bucket.index {
                        index.remove(buffer.as_slice());
                        if let Some(moved) = bucket.entries.get(at) {
                            let mut moved_identity = Vec::new();
                            identity(unique.as_deref(), &moved.row, &mut moved_identity);
                            index.insert(moved_identity.into_boxed_slice(), at);
                        }
                    }
                    bucket.gone.push(buffer.as_slice().into());
                    removed = 1;
                }
            }
        }
        if fresh {
            self.dirty.push(key.into());
        }
        self.rows = self.rows.saturating_sub(removed);
        self.unique = unique;
        self.buffer = buffer;
        Ok(())
    }

    /// Writes what changed, and forgets old buckets when there are many rows.
    pub(super) fn flush(&mut self) {
        let mut key_buffer = Vec::new();
        let mut value = Vec::new();
        let unique = self.unique.as_deref();
        for key in self.dirty.drain(..) {
            let Some(bucket) = self.buckets.get_mut(&key) else { continue };
            bucket.dirty = false;
            for gone in bucket.gone.drain(..) {
                key_buffer.clear();
                key_buffer.extend_from_slice(&key);
                key_buffer.extend_from_slice(&gone);
                self.table.delete(&key_buffer);
            }
            for entry in bucket.entries.iter_mut().filter(|entry| entry.dirty) {
                entry.dirty = false;
                identity(unique, &entry.row, &mut value);
                key_buffer.clear();
                key_buffer.extend_from_slice(&key);
                key_buffer.extend_from_slice(&value);
                value.clear();
                codec::put_varint(&mut value, u128::from(entry.count));
                codec::put_varint(&mut value, u128::from(entry.degree));
                codec::put_row(&mut value, &entry.row);
                self.table.put(&key_buffer, &value);
            }
        }
        if self.rows + self.buckets.len() > self.cached {
            let epoch = self.epoch;
            self.complete = false;
            self.buckets.retain(|_, bucket| bucket.used == epoch);
            self.rows = self.buckets.values().map(|bucket| bucket.entries.len()).sum();
            if self.rows + self.buckets.len() > self.cached {
                self.buckets.clear();
                self.rows = 0;
            }
        }
        self.epoch = self.epoch.wrapping_add(1);
    }
}

/// The bytes that tell a row from others of its join key.
fn identity(unique: Option<&[usize]>, row: &Row, out: &mut Vec<u8>) {
    out.clear();
    match unique {
        Some(columns) => codec::put_key(out, row, columns),
        None => row.iter().for_each(|value| codec::put_key_value(out, value)),
    }
}

fn push(bucket: &mut Bucket, unique: Option<&[usize]>, entry: Entry, identity: Box<[u8]>) {
    let at = bucket.entries.len();
    bucket.entries.push(entry);
    if let Some(index) = &mut bucket.index {
        index.insert(identity, at);
    } else if bucket.entries.len() > INDEXED {
        let mut index = HashMap::default();
        let mut buffer = Vec::new();
        for (at, entry) in bucket.entries.iter().enumerate() {
            self::identity(unique, &entry.row, &mut buffer);
            index.insert(buffer.as_slice().into(), at);
        }
        bucket.index = Some(index);
    }
}

fn find(bucket: &Bucket, unique: Option<&[usize]>, row: &Row, buffer: &mut Vec<u8>) -> Option<usize> {
    if let Some(index) = &bucket.index {
        identity(unique, row, buffer);
        return index.get(buffer.as_slice()).copied();
    }
    bucket.entries.iter().position(|entry| match unique {
        Some(columns) => columns.iter().all(|&column| entry.row.get(column) == row.get(column)),
        None => entry.row == *row,
    })
}
