//! Rows in the order of a time: the earliest in memory, the rest in the state.
//!
//! A queue that may be far longer than memory. Keys begin with a time, so that what is due comes first. Rows
//! before `rest` are in memory; those from `rest` on are in the table only and are read a piece at a time.
//! A row that comes and goes between two flushes never reaches the table.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::super::error::EngineError;
use super::Builder;
use super::buffer::{Waiting, key_sequence};
use super::share::{FindKey, Own};
use crate::state::{StateError, StateTable};

/// Under the empty key: the next number of arrival.
const SEQUENCE: &[u8] = &[];
/// Less than every key of a row, more than [`SEQUENCE`].
const FIRST: &[u8] = &[0];

struct Slot {
    waiting: Waiting,
    /// The table has a row under the key.
    stored: bool,
    /// It differs from this one, or there is none.
    dirty: bool,
}

/// Whether there may be keys from `rest` on that start with a prefix.
fn may_have(rest: &[u8], prefix: &[u8]) -> bool {
    rest <= prefix || rest.starts_with(prefix)
}

/// Rows by keys that begin with a time.
pub(super) struct TimedRows {
    table: Box<dyn StateTable>,
    rows: BTreeMap<Vec<u8>, Slot>,
    /// The first key that only the table has; `None`: all rows are in memory.
    rest: Option<Vec<u8>>,
    /// Keys that are not in the table yet.
    fresh: Vec<Vec<u8>>,
    bytes: usize,
    /// Bytes that may stay in memory over a flush.
    cached: usize,
    /// Other entries of the table are other instances'.
    own: Own,
    sequence: u64,
    /// The first number of this run.
    first_sequence: u64,
    sequence_changed: bool,
}

impl TimedRows {
    /// Over a table of the operator, which may hold the rows of an earlier run. `find` finds the operator's key of an
    /// entry.
    pub(super) fn new(
        builder: &mut Builder<'_>,
        part: &str,
        find: Box<FindKey>,
    ) -> Result<Self, EngineError> {
        let mut table = builder.table(part)?;
        let stored = table.get(SEQUENCE)?.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let sequence = match stored {
            Some(sequence) => sequence,
            None => {
                let mut next = 0;
                table.scan_from(FIRST, &mut |key, _| {
                    next = next.max(key_sequence(key).map_or(0, |number| number.wrapping_add(1)));
                    Ok(true)
                })?;
                next
            }
        };
        let mut queue = Self {
            table,
            rows: BTreeMap::new(),
            rest: Some(FIRST.to_vec()),
            fresh: Vec::new(),
            bytes: 0,
            cached: builder.rows_cache(),
            own: Own::new(builder.share.clone(), find),
            sequence,
            first_sequence: sequence,
            sequence_changed: false,
        };
        queue.refill()?;
        Ok(queue)
    }

    /// Reads the next rows from the table when there is none in memory.
    fn refill(&mut self) -> Result<(), StateError> {
        while self.rows.is_empty()
            && let Some(from) = self.rest.take()
        {
            let Self { rows, bytes, rest, own, cached, .. } = self;
            self.table.scan_from(&from, &mut |key, value| {
                if *bytes > *cached / 2 {
                    *rest = Some(key.to_vec());
                    return Ok(false);
                }
                let waiting = Waiting::get(value)?;
                if !own.has(key, &waiting) {
                    return Ok(true);
                }
                *bytes += waiting.weight(key);
                rows.insert(key.to_vec(), Slot { waiting, stored: true, dirty: false });
                Ok(true)
            })?;
        }
        Ok(())
    }

    fn is_in_memory(&self, key: &[u8]) -> bool {
        self.rest.as_ref().is_none_or(|rest| key < rest.as_slice())
    }

    /// Says what number of arrival, counted from the start of this run, the next row has.
    pub(super) fn set_number(&mut self, number: u64) {
        self.sequence = self.first_sequence.wrapping_add(number);
    }

    /// Adds a row under a key, behind those that are there.
    pub(super) fn push(&mut self, mut key: Vec<u8>, waiting: Waiting) {
        self.number(&mut key);
        self.put(key, waiting);
    }

    /// Appends the next number of arrival to a key.
    pub(super) fn number(&mut self, key: &mut Vec<u8>) {
        key.extend_from_slice(&self.sequence.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence_changed = true;
    }

    /// Puts a row under exactly this key.
    pub(super) fn put(&mut self, key: Vec<u8>, waiting: Waiting) {
        if !self.is_in_memory(&key) {
            let mut bytes = Vec::new();
            waiting.put(&mut bytes);
            self.table.put(&key, &bytes);
            return;
        }
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

    fn removed(&mut self, key: &[u8], slot: Slot) -> Waiting {
        self.bytes = self.bytes.saturating_sub(slot.waiting.weight(key));
        if slot.stored {
            self.table.delete(key);
        }
        slot.waiting
    }

    /// Takes out the row with this key.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<Option<Waiting>, EngineError> {
        if !self.is_in_memory(key) {
            let found = self.table.get(key)?.map(|bytes| Waiting::get(&bytes)).transpose()?;
            self.table.delete(key);
            return Ok(found);
        }
        let found = self.rows.remove(key).map(|slot| self.removed(key, slot));
        self.refill()?;
        Ok(found)
    }

    /// The first key; all that is earlier is in memory.
    pub(super) fn first(&self) -> Option<&[u8]> {
        self.rows.first_key_value().map(|(key, _)| key.as_slice())
    }

    /// Takes out the first row if its key is `due`.
    pub(super) fn pop(
        &mut self,
        due: impl FnOnce(&[u8]) -> bool,
    ) -> Result<Option<(Vec<u8>, Waiting)>, EngineError> {
        let Some(entry) = self.rows.first_entry() else { return Ok(None) };
        if !due(entry.key()) {
            return Ok(None);
        }
        let (key, slot) = entry.remove_entry();
        let waiting = self.removed(&key, slot);
        self.refill()?;
        Ok(Some((key, waiting)))
    }

    /// Takes out all rows whose keys start with a prefix.
    pub(super) fn drain(&mut self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Waiting)>, EngineError> {
        let mut drained = Vec::new();
        while let Some(key) = self.first_prefixed(prefix) {
            drained.extend(self.remove(&key)?.map(|waiting| (key, waiting)));
        }
        // The rest is in the table only.
        let in_memory = drained.len();
        if let Some(rest) = self.rest.as_ref().filter(|rest| may_have(rest, prefix)) {
            let from = rest.as_slice().max(prefix);
            let own = &mut self.own;
            self.table.scan_part(prefix, from, &mut |key, bytes| {
                let waiting = Waiting::get(bytes)?;
                if own.has(key, &waiting) {
                    drained.push((key.to_vec(), waiting));
                }
                Ok(true)
            })?;
        }
        drained.iter().skip(in_memory).for_each(|(key, _)| self.table.delete(key));
        Ok(drained)
    }

    /// Calls `each` with the keys that start with a prefix, in order, until it says `false`.
    pub(super) fn keys(
        &mut self,
        prefix: &[u8],
        mut each: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), EngineError> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let keys = self.rows.range::<[u8], _>(from).map(|(key, _)| key.as_slice());
        for key in keys.take_while(|key| key.starts_with(prefix)) {
            if !each(key) {
                return Ok(());
            }
        }
        let Some(rest) = self.rest.as_ref().filter(|rest| may_have(rest, prefix)) else { return Ok(()) };
        let own = &mut self.own;
        self.table.scan_part(prefix, rest.as_slice().max(prefix), &mut |key, bytes| {
            Ok(!own.has(key, &Waiting::get(bytes)?) || each(key))
        })?;
        Ok(())
    }

    /// The last key before another of those that start with a prefix.
    pub(super) fn before(&mut self, prefix: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        if self.is_in_memory(key) {
            let before = (Bound::Included(prefix), Bound::Excluded(key));
            return Ok(self.rows.range::<[u8], _>(before).next_back().map(|(key, _)| key.clone()));
        }
        let mut last = None;
        self.keys(prefix, |found| {
            let before = found < key;
            if before {
                last = Some(found.to_vec());
            }
            before
        })?;
        Ok(last)
    }

    fn first_prefixed(&self, prefix: &[u8]) -> Option<Vec<u8>> {
        let mut from = self.rows.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
        from.next().map(|(key, _)| key).filter(|key| key.starts_with(prefix)).cloned()
    }

    /// Writes what changed into the table, and lets go of the latest rows when there are many.
    pub(super) fn flush(&mut self) -> Result<(), EngineError> {
        let mut bytes = Vec::new();
        for key in self.fresh.drain(..) {
            if let Some(slot) = self.rows.get_mut(&key)
                && slot.dirty
            {
                (slot.stored, slot.dirty) = (true, false);
                bytes.clear();
                slot.waiting.put(&mut bytes);
                self.table.put(&key, &bytes);
            }
        }
        if std::mem::take(&mut self.sequence_changed) {
            // Instances of the operator share it: the greatest number of them counts.
            self.table.put_greater(SEQUENCE, &self.sequence.to_be_bytes())?;
        }
        if self.bytes > self.cached {
            while self.bytes > self.cached / 2
                && self.rows.len() > 1
                && let Some((key, slot)) = self.rows.pop_last()
            {
                self.bytes = self.bytes.saturating_sub(slot.waiting.weight(&key));
                self.rest = Some(key);
            }
        }
        Ok(())
    }
}
