//! State that lives in memory only: for tests, expressions and bounded jobs.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{StateBackend, StateError, StateTable, Visit};

type Entries = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

/// State tables in memory. A table that is opened twice is the same table.
#[derive(Clone, Debug, Default)]
pub struct MemoryState {
    tables: BTreeMap<String, Entries>,
}

impl MemoryState {
    /// No tables yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries in all tables.
    pub fn len(&self) -> usize {
        self.tables.values().map(|t| t.lock().len()).sum()
    }

    /// Bytes of the longest entry.
    #[cfg(test)]
    pub(crate) fn longest(&self) -> usize {
        let of_table =
            |table: &Entries| table.lock().iter().map(|(key, value)| key.len() + value.len()).max();
        self.tables.values().filter_map(of_table).max().unwrap_or_default()
    }

    /// Whether no table has an entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl StateBackend for MemoryState {
    fn table(&mut self, name: &str) -> Result<Box<dyn StateTable>, StateError> {
        let entries = self.tables.entry(name.to_owned()).or_default();
        Ok(Box::new(MemoryTable { entries: Arc::clone(entries) }))
    }
}

struct MemoryTable {
    entries: Entries,
}

impl StateTable for MemoryTable {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        Ok(self.entries.lock().get(key).cloned())
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.entries.lock().insert(key.to_vec(), value.to_vec());
    }

    fn delete(&mut self, key: &[u8]) {
        self.entries.lock().remove(key);
    }

    fn delete_if(&mut self, key: &[u8], test: &dyn Fn(&[u8]) -> bool) -> Result<(), StateError> {
        let mut entries = self.entries.lock();
        if entries.get(key).is_some_and(|value| test(value)) {
            entries.remove(key);
        }
        Ok(())
    }

    fn put_greater(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let mut entries = self.entries.lock();
        if entries.get(key).is_none_or(|known| known.as_slice() < value) {
            entries.insert(key.to_vec(), value.to_vec());
        }
        Ok(())
    }

    fn scan_from(&mut self, from: &[u8], each: &mut Visit<'_>) -> Result<(), StateError> {
        let entries = self.entries.lock();
        for (key, value) in entries.range::<[u8], _>((Bound::Included(from), Bound::Unbounded)) {
            if !each(key, value)? {
                break;
            }
        }
        Ok(())
    }
}
