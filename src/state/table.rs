//! One table of a [`super::Store`]: dirty entries of the epoch over a bounded cache over fjall.

use std::sync::Arc;

use fjall::Keyspace;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::dirty::Dirty;
use super::{StateError, StateTable, Visit};

pub(super) const PREFIX: usize = 4;

/// An entry or its known absence.
type Entry = Option<Box<[u8]>>;

/// What an entry costs besides its bytes: two boxes and a slot in the map.
const OVERHEAD: usize = 64;

/// A cache of two generations, which approximates LRU at the cost of one map operation: entries that were
/// touched lately are in `young`; when it holds half of the budget, it becomes `old`, and what was old and
/// untouched is forgotten.
#[derive(Debug, Default)]
struct CleanCache {
    young: HashMap<Box<[u8]>, Entry, ahash::RandomState>,
    old: HashMap<Box<[u8]>, Entry, ahash::RandomState>,
    young_bytes: usize,
    budget: usize,
}

impl CleanCache {
    fn get(&mut self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let copy = |entry: &Entry| entry.as_deref().map(<[u8]>::to_vec);
        if let Some(entry) = self.young.get(key) {
            return Some(copy(entry));
        }
        let (key, entry) = self.old.remove_entry(key)?;
        let found = copy(&entry);
        self.insert(key, entry);
        Some(found)
    }

    fn insert(&mut self, key: Box<[u8]>, entry: Entry) {
        self.young_bytes += key.len() + entry.as_ref().map_or(0, |v| v.len()) + OVERHEAD;
        self.young.insert(key, entry);
        if self.young_bytes > self.budget / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }

    fn remove(&mut self, key: &[u8]) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

/// The in-memory side of a table, shared between the operator's handle and the store that commits it.
#[derive(Debug)]
pub(super) struct Shared {
    prefix: [u8; PREFIX],
    dirty: Dirty,
    clean: CleanCache,
    /// Since the last commit entries were asked for that had not changed: whoever uses the table does not keep in
    /// memory what it wrote, so that it is worth to do that here.
    asked: bool,
}

impl Shared {
    pub(super) fn new(id: u32) -> Self {
        let prefix = id.to_be_bytes();
        Self { prefix, dirty: Dirty::new(prefix), clean: CleanCache::default(), asked: false }
    }

    /// Says how many bytes of clean entries may be kept.
    pub(super) fn set_cache(&mut self, bytes: usize) {
        self.clean.budget = bytes;
    }

    pub(super) fn dirty_bytes(&self) -> usize {
        self.dirty.weight()
    }

    /// Hands every dirty entry to `write`, with its full key.
    pub(super) fn for_each_dirty(&self, write: impl FnMut(&[u8], Option<&[u8]>)) {
        self.dirty.for_each(write);
    }

    /// The dirty entries are on disk now: they become clean ones.
    pub(super) fn committed(&mut self) {
        let Self { dirty, clean, asked, .. } = self;
        if std::mem::take(asked) {
            dirty.drain(|key, value| clean.insert(key.into(), value.map(Into::into)));
        } else {
            dirty.clear();
        }
    }

    /// An entry that is in memory.
    fn get(&mut self, key: &[u8]) -> Option<Option<Vec<u8>>> {
        if let Some(entry) = self.dirty.get(key) {
            return Some(entry.map(<[u8]>::to_vec));
        }
        self.asked = true;
        self.clean.get(key)
    }

    /// An entry, wherever it is; for changes that depend on it, which do not count as asking.
    fn read(&mut self, key: &[u8], data: &Keyspace) -> Result<Option<Vec<u8>>, StateError> {
        let asked = self.asked;
        let known = self.get(key);
        self.asked = asked;
        if let Some(entry) = known {
            return Ok(entry);
        }
        let stored = data.get(full_key(self.prefix, key)).map_err(|e| store_error(&e))?;
        Ok(stored.map(|value| value.to_vec()))
    }

    fn set(&mut self, key: &[u8], value: Option<&[u8]>) {
        self.clean.remove(key);
        self.dirty.set(key, value);
    }
}

fn full_key(prefix: [u8; PREFIX], key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(PREFIX + key.len());
    full.extend_from_slice(&prefix);
    full.extend_from_slice(key);
    full
}

/// An operator's handle on its table.
pub(super) struct Table {
    pub(super) shared: Arc<Mutex<Shared>>,
    pub(super) data: Keyspace,
    /// Full key of the lookup at hand; kept for its memory.
    pub(super) buffer: Vec<u8>,
}

fn store_error(error: &fjall::Error) -> StateError {
    StateError::Store(error.to_string())
}

impl StateTable for Table {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        let mut shared = self.shared.lock();
        if let Some(entry) = shared.get(key) {
            return Ok(entry);
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(&shared.prefix);
        self.buffer.extend_from_slice(key);
        // Others who use this table, for other keys, need not wait for the disk.
        drop(shared);
        let found = self.data.get(&self.buffer).map_err(|e| store_error(&e))?;
        let value = found.map(|v| v.to_vec());
        self.shared.lock().clean.insert(key.into(), value.as_deref().map(Into::into));
        Ok(value)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.shared.lock().set(key, Some(value));
    }

    fn delete(&mut self, key: &[u8]) {
        self.shared.lock().set(key, None);
    }

    fn scan_from(&mut self, from: &[u8], each: &mut Visit<'_>) -> Result<(), StateError> {
        let mut shared = self.shared.lock();
        shared.dirty.sort();
        // Ends where the next table begins.
        let end = u32::from_be_bytes(shared.prefix).saturating_add(1).to_be_bytes();
        let stored = self.data.range(full_key(shared.prefix, from)..end.to_vec());
        merge(&shared, from, &[], stored, each)
    }

    fn delete_if(&mut self, key: &[u8], test: &dyn Fn(&[u8]) -> bool) -> Result<(), StateError> {
        let mut shared = self.shared.lock();
        if shared.read(key, &self.data)?.is_some_and(|value| test(&value)) {
            shared.set(key, None);
        }
        Ok(())
    }

    fn put_greater(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let mut shared = self.shared.lock();
        if shared.read(key, &self.data)?.is_none_or(|known| known.as_slice() < value) {
            shared.set(key, Some(value));
        }
        Ok(())
    }

    // The database is told where the prefix ends: what was deleted behind it is not looked at.
    fn scan_part(&mut self, prefix: &[u8], from: &[u8], each: &mut Visit<'_>) -> Result<(), StateError> {
        let mut shared = self.shared.lock();
        shared.dirty.sort();
        let mut end = full_key(shared.prefix, prefix);
        // The least key behind all that start with the prefix. (The table's number is never the greatest.)
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        end.last_mut().into_iter().for_each(|last| *last += 1);
        let stored = self.data.range(full_key(shared.prefix, from)..end);
        merge(&shared, from, prefix, stored, each)
    }
}

/// Two sorted sequences as one: the dirty entries from a key on that have a prefix, and what is stored of the same
/// kind. Where both have a key, the dirty entry counts.
fn merge(
    shared: &Shared,
    from: &[u8],
    prefix: &[u8],
    mut stored: fjall::Iter,
    each: &mut Visit<'_>,
) -> Result<(), StateError> {
    let mut dirty = shared.dirty.from(from).take_while(|(key, _)| key.starts_with(prefix)).peekable();
    let mut next_stored = || -> Result<Option<fjall::KvPair>, StateError> {
        stored.next().map(|guard| guard.into_inner().map_err(|e| store_error(&e))).transpose()
    };
    let mut on_disk = next_stored()?;
    loop {
        let disk_key = on_disk.as_ref().map(|(key, _)| key.get(PREFIX..).unwrap_or_default());
        let take_dirty = match (dirty.peek(), disk_key) {
            (None, None) => return Ok(()),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some((key, _)), Some(disk)) => *key <= disk,
        };
        if take_dirty {
            let Some((key, entry)) = dirty.next() else { return Ok(()) };
            if disk_key == Some(key) {
                on_disk = next_stored()?;
            }
            if let Some(value) = entry
                && !each(key, value)?
            {
                return Ok(());
            }
        } else {
            if let Some((key, value)) = &on_disk
                && !each(key.get(PREFIX..).unwrap_or_default(), value)?
            {
                return Ok(());
            }
            on_disk = next_stored()?;
        }
    }
}
