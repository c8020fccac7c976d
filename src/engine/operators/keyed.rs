//! Rows of partitions, sorted within each: a bounded cache over a state table.
//!
//! In the table a row stands under the partition's key and its own. A partition is read as a whole when it is
//! used; after a flush those that were not used of late are forgotten when there are many rows.

use std::collections::BTreeMap;
use std::ops::Bound;

use ahash::RandomState;
use hashbrown::HashMap;

use super::super::error::EngineError;
use super::Builder;
use super::buffer::{Waiting, key_sequence};
use crate::state::{StateError, StateTable};

struct Slot {
    waiting: Waiting,
    /// The table has a row under the key.
    stored: bool,
    /// It differs from this one, or there is none.
    dirty: bool,
}

/// The rows of one partition.
#[derive(Default)]
pub(super) struct Partition {
    rows: BTreeMap<Vec<u8>, Slot>,
    tag: Option<i64>,
    tag_changed: bool,
    /// Keys of rows that are to be written.
    fresh: Vec<Vec<u8>>,
    /// Keys that the table has and the partition had not when they were noted.
    gone: Vec<Vec<u8>>,
    sequence: u64,
    bytes: usize,
    counted: usize,
    used: u32,
    changed: bool,
}

impl Partition {
    /// Rows from a key on, in order.
    pub(super) fn from<'a>(
        &'a self,
        key: &[u8],
    ) -> impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Waiting)> {
        self.rows
            .range::<[u8], _>((Bound::Included(key), Bound::Unbounded))
            .map(|(key, slot)| (key, &slot.waiting))
    }

    /// All rows, in order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (&Vec<u8>, &Waiting)> {
        self.rows.iter().map(|(key, slot)| (key, &slot.waiting))
    }

    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The last row that is not behind a key.
    pub(super) fn last_upto(&self, key: &[u8]) -> Option<(&Vec<u8>, &Waiting)> {
        self.rows
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .map(|(key, slot)| (key, &slot.waiting))
    }

    /// A number of the operator's own that is kept with the partition.
    pub(super) fn tag(&self) -> Option<i64> {
        self.tag
    }

    /// Sets the number.
    pub(super) fn set_tag(&mut self, tag: Option<i64>) {
        self.tag = tag;
        self.tag_changed = true;
    }

    /// Adds a row under a key, behind those that are there.
    pub(super) fn push(&mut self, mut key: Vec<u8>, waiting: Waiting) {
        key.extend_from_slice(&self.sequence.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        self.put(key, waiting);
    }

    /// Puts a row under exactly this key.
    pub(super) fn put(&mut self, key: Vec<u8>, waiting: Waiting) {
        self.bytes += waiting.weight(&key);
        let known = self.rows.insert(key.clone(), Slot { waiting, stored: false, dirty: true });
        if let Some(known) = known {
            self.bytes = self.bytes.saturating_sub(known.waiting.weight(&key));
            if let Some(slot) = self.rows.get_mut(&key) {
                slot.stored = known.stored;
            }
            if known.dirty {
                return;
            }
        }
        self.fresh.push(key);
    }

    /// Takes out a row.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Waiting> {
        let (key, slot) = self.rows.remove_entry(key)?;
        Some(self.removed(key, slot))
    }

    /// Takes out the first row if its key fits.
    pub(super) fn pop(&mut self, fits: impl FnOnce(&[u8]) -> bool) -> Option<(Vec<u8>, Waiting)> {
        let entry = self.rows.first_entry().filter(|entry| fits(entry.key()))?;
        let (key, slot) = entry.remove_entry();
        Some((key.clone(), self.removed(key, slot)))
    }

    fn removed(&mut self, key: Vec<u8>, slot: Slot) -> Waiting {
        self.bytes = self.bytes.saturating_sub(slot.waiting.weight(&key));
        if slot.stored {
            self.gone.push(key);
        }
        slot.waiting
    }

    /// Sets a row's mark.
    pub(super) fn mark(&mut self, key: &[u8]) {
        if let Some(slot) = self.rows.get_mut(key)
            && !slot.waiting.mark
        {
            slot.waiting.mark = true;
            if !std::mem::replace(&mut slot.dirty, true) {
                self.fresh.push(key.to_vec());
            }
        }
    }

    /// Writes what changed under the partition's key.
    fn write(&mut self, key: &[u8], table: &mut dyn StateTable) {
        let mut full = key.to_vec();
        let mut value = Vec::new();
        for rest in self.gone.drain(..) {
            full.truncate(key.len());
            full.extend_from_slice(&rest);
            table.delete(&full);
        }
        if std::mem::take(&mut self.tag_changed) {
            match self.tag {
                Some(tag) => table.put(key, &tag.to_be_bytes()),
                None => table.delete(key),
            }
        }
        for rest in self.fresh.drain(..) {
            // One that was taken out since is not there; one that came again stands in the list twice.
            let Some(slot) = self.rows.get_mut(&rest).filter(|slot| slot.dirty) else { continue };
            (slot.stored, slot.dirty) = (true, false);
            full.truncate(key.len());
            full.extend_from_slice(&rest);
            value.clear();
            slot.waiting.put(&mut value);
            table.put(&full, &value);
        }
    }
}

/// Rows by partition.
pub(super) struct KeyedRows {
    table: Box<dyn StateTable>,
    partitions: HashMap<Box<[u8]>, Partition, RandomState>,
    changed: Vec<Box<[u8]>>,
    /// Everything that the table has is in memory.
    complete: bool,
    bytes: usize,
    /// Bytes that may stay in memory over a flush.
    cached: usize,
    epoch: u32,
}

impl KeyedRows {
    /// Over a table of the operator, which may hold the rows of an earlier run.
    pub(super) fn new(builder: &mut Builder<'_>, part: &str) -> Result<Self, EngineError> {
        let mut table = builder.table(part)?;
        let complete = table.is_empty()?;
        Ok(Self {
            table,
            partitions: HashMap::default(),
            changed: Vec::new(),
            complete,
            bytes: 0,
            cached: builder.rows_cache(),
            epoch: 0,
        })
    }

    /// A partition, to look at.
    pub(super) fn get(&mut self, key: &[u8]) -> Result<&mut Partition, EngineError> {
        if !self.partitions.contains_key(key) {
            let mut partition = Partition::default();
            if !self.complete {
                self.table.scan(key, &mut |found, value| {
                    let rest = found.get(key.len()..).unwrap_or_default();
                    if rest.is_empty() {
                        partition.tag = value.try_into().ok().map(i64::from_be_bytes);
                        return Ok(true);
                    }
                    let waiting = Waiting::get(value)?;
                    partition.bytes += waiting.weight(rest);
                    if let Some(number) = key_sequence(rest) {
                        partition.sequence = partition.sequence.max(number.wrapping_add(1));
                    }
                    partition.rows.insert(rest.to_vec(), Slot { waiting, stored: true, dirty: false });
                    Ok::<_, StateError>(true)
                })?;
                partition.counted = partition.bytes;
                self.bytes += partition.bytes;
            }
            self.partitions.insert(key.into(), partition);
        }
        let partition = self.partitions.get_mut(key);
        let partition =
            partition.ok_or_else(|| EngineError::Plan("rows of a partition were lost".to_owned()))?;
        partition.used = self.epoch;
        Ok(partition)
    }

    /// A partition, to change.
    pub(super) fn edit(&mut self, key: &[u8]) -> Result<&mut Partition, EngineError> {
        let partition = self.get(key)?;
        if !std::mem::replace(&mut partition.changed, true) {
            self.changed.push(key.into());
        }
        // Found once more: the list of changed keys had to be borrowed in between.
        self.get(key)
    }

    /// Calls `each` with the full key of every row in the table and in memory that is stored: at a start.
    pub(super) fn for_each_key(&mut self, mut each: impl FnMut(&[u8])) -> Result<(), EngineError> {
        self.table.scan(&[], &mut |key, _| {
            each(key);
            Ok(true)
        })?;
        Ok(())
    }

    /// Writes what changed, and forgets partitions when there are many rows.
    pub(super) fn flush(&mut self) {
        for key in self.changed.drain(..) {
            let Some(partition) = self.partitions.get_mut(&key) else { continue };
            partition.changed = false;
            partition.write(&key, self.table.as_mut());
            self.bytes = (self.bytes + partition.bytes).saturating_sub(partition.counted);
            partition.counted = partition.bytes;
            if partition.rows.is_empty() && partition.tag.is_none() {
                self.bytes = self.bytes.saturating_sub(partition.counted);
                self.partitions.remove(&key);
            }
        }
        if self.bytes + self.partitions.len() * 128 > self.cached {
            self.complete = false;
            let epoch = self.epoch;
            self.partitions.retain(|_, partition| partition.used == epoch);
            self.bytes = self.partitions.values().map(|partition| partition.bytes).sum();
            if self.bytes + self.partitions.len() * 128 > self.cached {
                self.partitions.clear();
                self.bytes = 0;
            }
        }
        self.epoch = self.epoch.wrapping_add(1);
    }
}
