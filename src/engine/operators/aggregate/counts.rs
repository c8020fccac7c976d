//! How often values are in a group: what DISTINCT, COLLECT, and MIN and MAX under retraction need.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as BTreeEntry;

use super::super::super::codec::{self, CodecError, Reader};
use super::super::super::error::EngineError;
use super::super::super::row::Value;
use super::ordered::OrderedKey;
use crate::state::{StateError, StateTable};

/// Counts of values by key; the first byte of a key is the number of the aggregate call.
pub(in super::super) trait Counts {
    /// Changes a count; gives what it was and what it is.
    fn add(&mut self, key: &[u8], value: &Value, delta: i64) -> Result<(i64, i64), EngineError>;

    /// The value with the least key of a call whose count is above zero.
    fn first(&mut self, call: u8) -> Result<Option<Value>, EngineError>;

    /// All values of a call and their counts, in key order.
    fn all(&mut self, call: u8) -> Result<Vec<(Value, Value)>, EngineError>;
}

fn damaged(error: CodecError) -> StateError {
    StateError::Corrupt { table: "counts of an aggregate".to_owned(), what: error.to_string() }
}

fn read(bytes: &[u8]) -> Result<(i64, Value), StateError> {
    let mut reader = Reader::new(bytes);
    let count = reader.signed().map_err(damaged)?;
    Ok((count, reader.value().map_err(damaged)?))
}

/// The counts of one group that are in memory, over a state table with one entry a value: a group may have very many.
#[derive(Default)]
pub(in super::super) struct GroupCounts {
    entries: BTreeMap<OrderedKey, Entry>,
    /// Keys of entries that are to be written.
    fresh: Vec<OrderedKey>,
    /// What the table has of the group is in memory.
    complete: bool,
    /// The table has more than is taken into memory at once.
    large: bool,
    bytes: usize,
}

struct Entry {
    count: i64,
    value: Value,
    /// The table has an entry under the key.
    stored: bool,
    /// It differs from this one, or there is none.
    dirty: bool,
}

/// Entries of a group that are read together.
const LOADED: usize = if cfg!(test) { 4 } else { 4096 };
/// What an entry takes in memory besides its key.
const OVERHEAD: usize = 112;

impl GroupCounts {
    /// Of a group that the state does not have yet.
    pub(in super::super) fn of_new_group() -> Self {
        Self { complete: true, ..Self::default() }
    }

    /// About how many bytes it takes in memory.
    pub(in super::super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes what changed into the table.
    pub(in super::super) fn write(&mut self, group: &[u8], table: &mut dyn StateTable) {
        let mut full = group.to_vec();
        let mut bytes = Vec::new();
        for key in self.fresh.drain(..) {
            let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.dirty) else { continue };
            full.truncate(group.len());
            key.put(&mut full);
            if entry.count == 0 {
                if entry.stored {
                    table.delete(&full);
                }
                self.entries.remove(&key);
                self.bytes = self.bytes.saturating_sub(key.len() + OVERHEAD);
                continue;
            }
            (entry.stored, entry.dirty) = (true, false);
            bytes.clear();
            codec::put_signed(&mut bytes, entry.count);
            codec::put_value(&mut bytes, &entry.value);
            table.put(&full, &bytes);
        }
    }

    fn of_call(&self, call: u8) -> impl Iterator<Item = &Entry> {
        self.entries
            .range(OrderedKey::new(&[call])..)
            .take_while(move |(key, _)| key.first() == call)
            .map(|(_, entry)| entry)
            .filter(|entry| entry.count > 0)
    }
}

/// The counts of a group, to be used.
pub(in super::super) struct TableCounts<'a> {
    pub(in super::super) table: &'a mut dyn StateTable,
    /// Key of the group.
    pub(in super::super) group: &'a [u8],
    pub(in super::super) counts: &'a mut GroupCounts,
}

impl TableCounts<'_> {
    fn key(&self, rest: &[u8]) -> Vec<u8> {
        [self.group, rest].concat()
    }

    /// Forgets all counts of the group.
    pub(in super::super) fn clear(&mut self) -> Result<(), EngineError> {
        self.load()?;
        let Self { table, group, counts } = self;
        if counts.complete {
            for (key, entry) in &mut counts.entries {
                entry.count = 0;
                if !std::mem::replace(&mut entry.dirty, true) {
                    counts.fresh.push(key.clone());
                }
            }
            return Ok(());
        }
        let mut keys = Vec::new();
        table.scan(group, &mut |key, _| {
            keys.push(key.to_vec());
            Ok(true)
        })?;
        keys.iter().for_each(|key| table.delete(key));
        **counts = GroupCounts::of_new_group();
        Ok(())
    }

    /// Takes all counts of the group into memory, if they are not too many.
    fn load(&mut self) -> Result<(), EngineError> {
        let Self { table, group, counts } = self;
        if counts.complete || counts.large {
            return Ok(());
        }
        let mut loaded = Vec::new();
        table.scan(group, &mut |key, bytes| {
            let (count, value) = read(bytes)?;
            loaded.push((OrderedKey::new(key.get(group.len()..).unwrap_or_default()), count, value));
            Ok(loaded.len() <= LOADED)
        })?;
        if loaded.len() > LOADED {
            counts.large = true;
            return Ok(());
        }
        counts.complete = true;
        for (key, count, value) in loaded {
            let bytes = key.len() + OVERHEAD;
            counts.entries.entry(key).or_insert_with(|| {
                counts.bytes += bytes;
                Entry { count, value, stored: true, dirty: false }
            });
        }
        Ok(())
    }

    /// Calls back with what is counted of a call, in key order, until told to stop.
    fn each(&mut self, call: u8, mut take: impl FnMut(i64, Value) -> bool) -> Result<(), EngineError> {
        self.load()?;
        if self.counts.complete {
            for entry in self.counts.of_call(call) {
                if !take(entry.count, entry.value.clone()) {
                    break;
                }
            }
            return Ok(());
        }
        self.counts.write(self.group, self.table);
        let prefix = self.key(&[call]);
        self.table.scan(&prefix, &mut |_, bytes| {
            let (count, value) = read(bytes)?;
            Ok(count <= 0 || take(count, value))
        })?;
        Ok(())
    }
}

impl Counts for TableCounts<'_> {
    fn add(&mut self, key: &[u8], value: &Value, delta: i64) -> Result<(i64, i64), EngineError> {
        let counts = &mut *self.counts;
        let mut entry = match counts.entries.entry(OrderedKey::new(key)) {
            BTreeEntry::Occupied(entry) => entry,
            BTreeEntry::Vacant(entry) => {
                let stored =
                    if counts.complete { None } else { self.table.get(&[self.group, key].concat())? };
                let count = stored.as_deref().map(read).transpose()?.map_or(0, |(count, _)| count);
                counts.bytes += key.len() + OVERHEAD;
                entry.insert_entry(Entry {
                    count,
                    value: value.clone(),
                    stored: stored.is_some(),
                    dirty: false,
                })
            }
        };
        let Entry { count, stored, dirty, .. } = entry.get_mut();
        let before = *count;
        *count += delta;
        let after = *count;
        if after == 0 && !*stored {
            entry.remove();
            counts.bytes = counts.bytes.saturating_sub(key.len() + OVERHEAD);
        } else if !std::mem::replace(dirty, true) {
            counts.fresh.push(OrderedKey::new(key));
        }
        Ok((before, after))
    }

    fn first(&mut self, call: u8) -> Result<Option<Value>, EngineError> {
        let mut found = None;
        self.each(call, |_, value| {
            found = Some(value);
            false
        })?;
        Ok(found)
    }

    fn all(&mut self, call: u8) -> Result<Vec<(Value, Value)>, EngineError> {
        let mut all = Vec::new();
        self.each(call, |count, value| {
            all.push((value, Value::Int(count)));
            true
        })?;
        Ok(all)
    }
}

/// Counts in memory, beside the accumulators: for windows, which end.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct MemoryCounts {
    pub(in super::super) entries: BTreeMap<Vec<u8>, (i64, Value)>,
}

impl MemoryCounts {
    /// Appends the counts.
    pub(in super::super) fn put(&self, out: &mut Vec<u8>) {
        codec::put_varint(out, self.entries.len() as u128);
        for (key, (count, value)) in &self.entries {
            codec::put_varint(out, key.len() as u128);
            out.extend_from_slice(key);
            codec::put_signed(out, *count);
            codec::put_value(out, value);
        }
    }

    /// Reads counts.
    pub(in super::super) fn get(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut entries = BTreeMap::new();
        for _ in 0..reader.varint()? {
            let len = usize::try_from(reader.varint()?)
                .map_err(|_| CodecError::Damaged("a length is too large"))?;
            let key = reader.bytes(len)?.to_vec();
            let count = reader.signed()?;
            entries.insert(key, (count, reader.value()?));
        }
        Ok(Self { entries })
    }
}

impl Counts for MemoryCounts {
    fn add(&mut self, key: &[u8], value: &Value, delta: i64) -> Result<(i64, i64), EngineError> {
        let entry = self.entries.entry(key.to_vec()).or_insert_with(|| (0, value.clone()));
        let before = entry.0;
        entry.0 += delta;
        let after = entry.0;
        if after == 0 {
            self.entries.remove(key);
        }
        Ok((before, after))
    }

    fn first(&mut self, call: u8) -> Result<Option<Value>, EngineError> {
        let of_call = self.entries.range(vec![call]..).take_while(|(key, _)| key.first() == Some(&call));
        Ok(of_call.map(|(_, entry)| entry).find(|entry| entry.0 > 0).map(|entry| entry.1.clone()))
    }

    fn all(&mut self, call: u8) -> Result<Vec<(Value, Value)>, EngineError> {
        let of_call = self.entries.range(vec![call]..).take_while(|(key, _)| key.first() == Some(&call));
        Ok(of_call.filter(|(_, e)| e.0 > 0).map(|(_, e)| (e.1.clone(), Value::Int(e.0))).collect())
    }
}
