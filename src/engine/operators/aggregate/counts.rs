//! How often values are in a group, and in which order they came: what DISTINCT, COLLECT, lists, and all that must
//! find an earlier value when one is taken back need.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as BTreeEntry;
use std::ops::Bound;

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

    /// The same with values that more was taken out of than came in, as a window has them of rows before it.
    fn signed(&mut self, call: u8) -> Result<Vec<(Value, Value)>, EngineError> {
        self.all(call)
    }

    /// Appends an item to a list. `number` is more than that of any item before.
    fn push(&mut self, list: List, number: u64, item: &Value) -> Result<(), EngineError>;

    /// Takes out the oldest item that is the same, if there is one.
    fn take(&mut self, list: List, item: &Value) -> Result<(), EngineError>;

    /// The oldest item of a list, or its newest.
    fn head(&mut self, list: List) -> Result<Option<Value>, EngineError>;

    /// The items of a list, the oldest first.
    fn items(&mut self, list: List) -> Result<Vec<Value>, EngineError>;
}

/// The list of a call's items.
#[derive(Clone, Copy)]
pub(in super::super) struct List {
    pub(in super::super) call: u8,
    /// Its head is the newest item. Nobody asks for the others.
    pub(in super::super) newest: bool,
    /// Items are taken out again.
    pub(in super::super) retract: bool,
    /// Items are rows; those with the same first value are the same.
    pub(in super::super) by_first: bool,
}

impl List {
    /// What items are told apart by.
    pub(super) fn identity(self, item: &Value) -> &Value {
        match item {
            Value::Row(parts) if self.by_first => parts.first().unwrap_or(&Value::Null),
            _ => item,
        }
    }

    /// The start of the keys of the items; those of counts go on with a value, which begins otherwise.
    fn items_key(self) -> [u8; 2] {
        [self.call, 0xfe]
    }

    fn item_key(self, number: u64) -> Vec<u8> {
        let number = if self.newest { !number } else { number };
        [self.items_key().as_slice(), &number.to_be_bytes()].concat()
    }

    /// The start of the keys under which the numbers of the items are found that are the same.
    fn numbers_key(self, item: &Value) -> Vec<u8> {
        let mut key = vec![self.call, 0xff];
        codec::put_key_value(&mut key, self.identity(item));
        key
    }
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
    /// The table has more entries of the group than so many.
    more_than: usize,
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
/// The same where all of them are needed for each result.
const LISTED: usize = if cfg!(test) { 8 } else { 1 << 16 };
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

    /// The entries whose keys begin so.
    fn under(&self, prefix: &[u8]) -> impl Iterator<Item = (&OrderedKey, &Entry)> {
        let end = behind(prefix).map_or(Bound::Unbounded, |end| Bound::Excluded(OrderedKey::new(&end)));
        let range = (Bound::Included(OrderedKey::new(prefix)), end);
        self.entries.range(range).filter(|(_, entry)| entry.count > 0)
    }
}

/// The least key behind all that begin so.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
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
        self.load(LOADED)?;
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

    /// Takes all counts of the group into memory, if they are not more than so many.
    fn load(&mut self, most: usize) -> Result<(), EngineError> {
        let Self { table, group, counts } = self;
        if counts.complete || counts.more_than >= most {
            return Ok(());
        }
        let mut loaded = Vec::new();
        table.scan(group, &mut |key, bytes| {
            let (count, value) = read(bytes)?;
            loaded.push((OrderedKey::new(key.get(group.len()..).unwrap_or_default()), count, value));
            Ok(loaded.len() <= most)
        })?;
        if loaded.len() > most {
            counts.more_than = most;
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

    /// Calls back with the entries whose keys begin so, in key order, until told to stop. At most so many are taken
    /// into memory.
    fn each(
        &mut self,
        prefix: &[u8],
        most: usize,
        mut take: impl FnMut(&[u8], i64, Value) -> bool,
    ) -> Result<(), EngineError> {
        self.load(most)?;
        let mut bytes = Vec::new();
        if self.counts.complete {
            for (key, entry) in self.counts.under(prefix) {
                bytes.clear();
                key.put(&mut bytes);
                if !take(&bytes, entry.count, entry.value.clone()) {
                    break;
                }
            }
            return Ok(());
        }
        self.counts.write(self.group, self.table);
        let prefix = self.key(prefix);
        let group = self.group.len();
        self.table.scan(&prefix, &mut |key, bytes| {
            let (count, value) = read(bytes)?;
            Ok(count <= 0 || take(key.get(group..).unwrap_or_default(), count, value))
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
        let Entry { count, stored, dirty, value: known } = entry.get_mut();
        let before = *count;
        if before == 0 {
            // The number of an item is given again in a group that had gone.
            *known = value.clone();
        }
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
        self.each(&[call], LOADED, |_, _, value| {
            found = Some(value);
            false
        })?;
        Ok(found)
    }

    fn all(&mut self, call: u8) -> Result<Vec<(Value, Value)>, EngineError> {
        let mut all = Vec::new();
        self.each(&[call], LOADED, |_, count, value| {
            all.push((value, Value::Int(count)));
            true
        })?;
        Ok(all)
    }

    fn push(&mut self, list: List, number: u64, item: &Value) -> Result<(), EngineError> {
        self.add(&list.item_key(number), item, 1)?;
        if list.retract {
            let key = [list.numbers_key(item).as_slice(), &number.to_be_bytes()].concat();
            self.add(&key, &Value::Null, 1)?;
        }
        Ok(())
    }

    fn take(&mut self, list: List, item: &Value) -> Result<(), EngineError> {
        let mut found = None;
        self.each(&list.numbers_key(item), LOADED, |key, _, _| {
            found = Some(key.to_vec());
            false
        })?;
        let Some(key) = found else { return Ok(()) };
        self.add(&key, &Value::Null, -1)?;
        let number = key.last_chunk::<8>().map_or(0, |number| u64::from_be_bytes(*number));
        let key = list.item_key(number);
        if self.add(&key, item, -1)?.0 <= 0 {
            // With a time to live it may have gone a moment earlier.
            self.add(&key, item, 1)?;
        }
        Ok(())
    }

    fn head(&mut self, list: List) -> Result<Option<Value>, EngineError> {
        let mut found = None;
        self.each(&list.items_key(), LOADED, |_, _, item| {
            found = Some(item);
            false
        })?;
        Ok(found)
    }

    fn items(&mut self, list: List) -> Result<Vec<Value>, EngineError> {
        let mut items = Vec::new();
        self.each(&list.items_key(), LISTED, |_, _, item| {
            items.push(item);
            true
        })?;
        Ok(items)
    }
}
