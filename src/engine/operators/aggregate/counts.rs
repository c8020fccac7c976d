//! How often values are in a group: what DISTINCT, COLLECT, and MIN and MAX under retraction need.

use std::collections::BTreeMap;

use super::super::super::codec::{self, CodecError, Reader};
use super::super::super::error::EngineError;
use super::super::super::row::Value;
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

/// Counts of one group in a state table, one entry a value: for groups that may have very many.
pub(in super::super) struct TableCounts<'a> {
    pub(in super::super) table: &'a mut dyn StateTable,
    /// Key of the group.
    pub(in super::super) group: &'a [u8],
}

impl TableCounts<'_> {
    fn key(&self, rest: &[u8]) -> Vec<u8> {
        [self.group, rest].concat()
    }

    /// Forgets all counts of the group.
    pub(in super::super) fn clear(&mut self) -> Result<(), EngineError> {
        let mut keys = Vec::new();
        self.table.scan(self.group, &mut |key, _| {
            keys.push(key.to_vec());
            Ok(true)
        })?;
        keys.iter().for_each(|key| self.table.delete(key));
        Ok(())
    }
}

impl Counts for TableCounts<'_> {
    fn add(&mut self, key: &[u8], value: &Value, delta: i64) -> Result<(i64, i64), EngineError> {
        let key = self.key(key);
        let before = match self.table.get(&key)? {
            Some(bytes) => read(&bytes)?.0,
            None => 0,
        };
        let after = before + delta;
        if after == 0 {
            self.table.delete(&key);
        } else {
            let mut bytes = Vec::new();
            codec::put_signed(&mut bytes, after);
            codec::put_value(&mut bytes, value);
            self.table.put(&key, &bytes);
        }
        Ok((before, after))
    }

    fn first(&mut self, call: u8) -> Result<Option<Value>, EngineError> {
        let prefix = self.key(&[call]);
        let mut found = None;
        self.table.scan(&prefix, &mut |_, bytes| {
            let (count, value) = read(bytes)?;
            if count > 0 {
                found = Some(value);
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }

    fn all(&mut self, call: u8) -> Result<Vec<(Value, Value)>, EngineError> {
        let prefix = self.key(&[call]);
        let mut all = Vec::new();
        self.table.scan(&prefix, &mut |_, bytes| {
            let (count, value) = read(bytes)?;
            if count > 0 {
                all.push((value, Value::Int(count)));
            }
            Ok(true)
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
