//! State that is forgotten some time after it was last written (`table.exec.state.ttl`).

use std::sync::Arc;

use super::super::graph::Clock;
use crate::state::{StateError, StateTable, Visit};

const STAMP: usize = 8;
/// After so many reads and writes a few entries are looked at, so that what nobody asks for goes as well.
const PAUSE: u32 = 64;
const SWEPT: usize = 128;

/// A table whose entries carry the time of their last write; older ones are as good as absent.
pub(super) struct ExpiringTable {
    table: Box<dyn StateTable>,
    ttl: i64,
    clock: Arc<dyn Clock>,
    calls: u32,
    /// Where the sweep goes on.
    cursor: Vec<u8>,
    buffer: Vec<u8>,
}

fn stamp(value: &[u8]) -> Option<(i64, &[u8])> {
    let (stamp, rest) = value.split_first_chunk::<STAMP>()?;
    Some((i64::from_be_bytes(*stamp), rest))
}

impl ExpiringTable {
    pub(super) fn new(table: Box<dyn StateTable>, ttl: i64, clock: Arc<dyn Clock>) -> Self {
        Self { table, ttl, clock, calls: 0, cursor: Vec::new(), buffer: Vec::new() }
    }

    /// Entries that were written at this time or earlier have expired.
    fn limit(&self) -> i64 {
        self.clock.now().saturating_sub(self.ttl)
    }

    /// Looks at some entries, from where it stopped, and removes those that have expired.
    fn sweep(&mut self) -> Result<(), StateError> {
        self.calls = self.calls.wrapping_add(1);
        if !self.calls.is_multiple_of(PAUSE) {
            return Ok(());
        }
        let limit = self.limit();
        let (mut expired, mut seen) = (Vec::new(), 0);
        let mut next = Vec::new();
        self.table.scan_from(&self.cursor, &mut |key, value| {
            if seen == SWEPT {
                next = key.to_vec();
                return Ok(false);
            }
            seen += 1;
            if stamp(value).is_none_or(|(at, _)| at <= limit) {
                expired.push(key.to_vec());
            }
            Ok(true)
        })?;
        self.cursor = next;
        // Another instance of the operator may have written the entry since.
        let test = |value: &[u8]| stamp(value).is_none_or(|(at, _)| at <= limit);
        expired.iter().try_for_each(|key| self.table.delete_if(key, &test))
    }
}

impl StateTable for ExpiringTable {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.sweep()?;
        let Some(mut value) = self.table.get(key)? else { return Ok(None) };
        let limit = self.limit();
        if stamp(&value).is_none_or(|(at, _)| at <= limit) {
            self.table.delete(key);
            return Ok(None);
        }
        value.drain(..STAMP);
        Ok(Some(value))
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&self.clock.now().to_be_bytes());
        self.buffer.extend_from_slice(value);
        self.table.put(key, &self.buffer);
    }

    fn delete(&mut self, key: &[u8]) {
        self.table.delete(key);
    }

    fn delete_if(&mut self, key: &[u8], test: &dyn Fn(&[u8]) -> bool) -> Result<(), StateError> {
        self.table.delete_if(key, &|value| stamp(value).is_none_or(|(_, value)| test(value)))
    }

    fn put_greater(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        if self.get(key)?.is_none_or(|known| known.as_slice() < value) {
            self.put(key, value);
        }
        Ok(())
    }

    fn scan_from(&mut self, from: &[u8], each: &mut Visit<'_>) -> Result<(), StateError> {
        let limit = self.limit();
        self.table.scan_from(from, &mut |key, value| match stamp(value) {
            Some((at, value)) if at > limit => each(key, value),
            _ => Ok(true),
        })
    }

    fn scan_part(&mut self, prefix: &[u8], from: &[u8], each: &mut Visit<'_>) -> Result<(), StateError> {
        let limit = self.limit();
        self.table.scan_part(prefix, from, &mut |key, value| match stamp(value) {
            Some((at, value)) if at > limit => each(key, value),
            _ => Ok(true),
        })
    }

    fn scan(&mut self, prefix: &[u8], each: &mut Visit<'_>) -> Result<(), StateError> {
        self.sweep()?;
        let limit = self.limit();
        self.table.scan(prefix, &mut |key, value| match stamp(value) {
            Some((at, value)) if at > limit => each(key, value),
            _ => Ok(true),
        })
    }
}
