//! What an epoch has changed in a table.
//!
//! Keys and values lie one behind the other in one piece of memory under a hash table, so that a change allocates
//! nothing. Only for a scan the keys are put in order, and kept so until the epoch is written.

use std::collections::BTreeSet;
use std::ops::Bound;

use ahash::RandomState;
use hashbrown::HashTable;

/// What an entry costs besides its bytes.
const OVERHEAD: usize = 56;

/// Changed entries, or their known absence.
#[derive(Debug)]
pub(super) struct Dirty {
    slots: HashTable<Slot>,
    hasher: RandomState,
    /// Stands in front of every key, so that a key can be written as it lies here.
    prefix: [u8; super::table::PREFIX],
    bytes: Vec<u8>,
    /// All keys; kept from the first scan on.
    order: Option<BTreeSet<Box<[u8]>>>,
}

/// Where an entry lies.
#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u64,
    /// Start and end, with the prefix.
    key: (usize, usize),
    /// Start and end; `None`: the entry was deleted.
    value: Option<(usize, usize)>,
}

fn part(bytes: &[u8], (start, end): (usize, usize)) -> &[u8] {
    bytes.get(start..end).unwrap_or_default()
}

impl Slot {
    fn is_at(&self, bytes: &[u8], key: &[u8]) -> bool {
        part(bytes, self.key).get(super::table::PREFIX..) == Some(key)
    }
}

impl Dirty {
    pub(super) fn new(prefix: [u8; super::table::PREFIX]) -> Self {
        Self { slots: HashTable::new(), hasher: RandomState::new(), prefix, bytes: Vec::new(), order: None }
    }

    /// Bytes in memory, about.
    pub(super) fn weight(&self) -> usize {
        self.bytes.len() + self.slots.len() * OVERHEAD
    }

    /// The entry of a key: `None`: it has not changed; `Some(None)`: it is gone.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        if self.slots.is_empty() {
            return None;
        }
        let slot = self.slots.find(self.hasher.hash_one(key), |slot| slot.is_at(&self.bytes, key))?;
        Some(slot.value.map(|value| part(&self.bytes, value)))
    }

    /// Sets or deletes the entry of a key.
    pub(super) fn set(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Self { slots, hasher, prefix, bytes, order } = self;
        let hash = hasher.hash_one(key);
        if let Some(slot) = slots.find_mut(hash, |slot| slot.is_at(bytes, key)) {
            slot.value = match (value, slot.value) {
                (None, _) => None,
                // In place of the one that was there.
                (Some(value), Some((start, end))) if value.len() <= end - start => {
                    let end = start + value.len();
                    if let Some(place) = bytes.get_mut(start..end) {
                        place.copy_from_slice(value);
                    }
                    Some((start, end))
                }
                (Some(value), _) => Some(append(bytes, value)),
            };
            return;
        }
        let start = bytes.len();
        bytes.extend_from_slice(prefix);
        let (_, end) = append(bytes, key);
        let value = value.map(|value| append(bytes, value));
        slots.insert_unique(hash, Slot { hash, key: (start, end), value }, |slot| slot.hash);
        if let Some(order) = order {
            order.insert(key.into());
        }
    }

    /// Calls back with every entry, its key with the prefix, those with near keys near each other: a store with sorted
    /// tables takes them faster so.
    pub(super) fn for_each(&self, mut write: impl FnMut(&[u8], Option<&[u8]>)) {
        let mut slots: Vec<(u128, &Slot)> = self.slots.iter().map(|slot| (self.rank(slot), slot)).collect();
        slots.sort_unstable_by_key(|(rank, _)| *rank);
        for (_, slot) in slots {
            write(part(&self.bytes, slot.key), slot.value.map(|value| part(&self.bytes, value)));
        }
    }

    /// A key without the prefix.
    fn own_key(&self, slot: &Slot) -> &[u8] {
        part(&self.bytes, slot.key).get(super::table::PREFIX..).unwrap_or_default()
    }

    /// The first bytes of a key as a number.
    fn rank(&self, slot: &Slot) -> u128 {
        let mut first = [0; 16];
        first.iter_mut().zip(self.own_key(slot)).for_each(|(to, from)| *to = *from);
        u128::from_be_bytes(first)
    }

    /// The same with the keys' own bytes; then nothing is dirty any more.
    pub(super) fn drain(&mut self, mut take: impl FnMut(&[u8], Option<&[u8]>)) {
        for slot in &self.slots {
            take(self.own_key(slot), slot.value.map(|value| part(&self.bytes, value)));
        }
        self.clear();
    }

    /// Forgets all entries, and memory that a usual epoch does not need.
    pub(super) fn clear(&mut self) {
        let used = self.bytes.len();
        if used < self.bytes.capacity() / 4 {
            self.bytes.shrink_to(used * 2);
            self.slots.shrink_to(self.slots.len() * 2, |slot| slot.hash);
        }
        self.slots.clear();
        self.bytes.clear();
        self.order = None;
    }

    /// Puts the keys in order, for [`Dirty::from`].
    pub(super) fn sort(&mut self) {
        if self.order.is_none() && !self.slots.is_empty() {
            self.order = Some(self.slots.iter().map(|slot| self.own_key(slot).into()).collect());
        }
    }

    /// Entries from a key on, in order. The keys must have been sorted.
    pub(super) fn from<'a>(&'a self, key: &[u8]) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let keys = self.order.as_ref();
        let keys = keys.map(|keys| keys.range::<[u8], _>((Bound::Included(key), Bound::Unbounded)));
        keys.into_iter().flatten().map(|key| (key.as_ref(), self.get(key).flatten()))
    }
}

fn append(bytes: &mut Vec<u8>, more: &[u8]) -> (usize, usize) {
    let start = bytes.len();
    bytes.extend_from_slice(more);
    (start, bytes.len())
}
