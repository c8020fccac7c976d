//! Counts and lists in memory, beside the accumulators: for windows, which end.

use std::collections::{BTreeMap, VecDeque};

use super::super::super::codec::{self, CodecError, Reader};
use super::super::super::error::EngineError;
use super::super::super::row::Value;
use super::counts::{Counts, List};

/// The counts and lists of one group in one window.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in super::super) struct MemoryCounts {
    pub(in super::super) entries: BTreeMap<Vec<u8>, (i64, Value)>,
    /// The lists of calls, the oldest item first.
    pub(in super::super) lists: BTreeMap<u8, VecDeque<Value>>,
}

impl MemoryCounts {
    /// Appends the counts.
    pub(in super::super) fn put(&self, out: &mut Vec<u8>) {
        let lists = self.lists.iter().filter(|(_, items)| !items.is_empty());
        codec::put_varint(out, (self.entries.len() + lists.clone().count()) as u128);
        // No count is 0.
        for (call, items) in lists {
            codec::put_varint(out, 1);
            out.push(*call);
            codec::put_signed(out, 0);
            codec::put_value(out, &Value::Array(items.iter().cloned().collect()));
        }
        for (key, (count, value)) in &self.entries {
            codec::put_varint(out, key.len() as u128);
            out.extend_from_slice(key);
            codec::put_signed(out, *count);
            codec::put_value(out, value);
        }
    }

    /// Reads counts.
    pub(in super::super) fn get(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (mut entries, mut lists) = (BTreeMap::new(), BTreeMap::new());
        for _ in 0..reader.varint()? {
            let len = usize::try_from(reader.varint()?)
                .map_err(|_| CodecError::Damaged("a length is too large"))?;
            let key = reader.bytes(len)?.to_vec();
            let count = reader.signed()?;
            match (count, key.as_slice(), reader.value()?) {
                (0, [call], Value::Array(items)) => {
                    drop(lists.insert(*call, items.iter().cloned().collect()))
                }
                (_, _, value) => drop(entries.insert(key, (count, value))),
            }
        }
        Ok(Self { entries, lists })
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

    fn signed(&mut self, call: u8) -> Result<Vec<(Value, Value)>, EngineError> {
        let of_call = self.entries.range(vec![call]..).take_while(|(key, _)| key.first() == Some(&call));
        Ok(of_call.map(|(_, e)| (e.1.clone(), Value::Int(e.0))).collect())
    }

    fn push(&mut self, list: List, _number: u64, item: &Value) -> Result<(), EngineError> {
        self.lists.entry(list.call).or_default().push_back(item.clone());
        Ok(())
    }

    fn take(&mut self, list: List, item: &Value) -> Result<(), EngineError> {
        let Some(items) = self.lists.get_mut(&list.call) else { return Ok(()) };
        let identity = list.identity(item);
        if let Some(at) = items.iter().position(|known| list.identity(known).is_same(identity)) {
            items.remove(at);
        }
        Ok(())
    }

    fn head(&mut self, list: List) -> Result<Option<Value>, EngineError> {
        let items = self.lists.get(&list.call);
        Ok(items.and_then(|items| if list.newest { items.back() } else { items.front() }).cloned())
    }

    fn items(&mut self, list: List) -> Result<Vec<Value>, EngineError> {
        Ok(self.lists.get(&list.call).into_iter().flatten().cloned().collect())
    }
}
