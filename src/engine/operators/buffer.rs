//! Rows that wait for time: in memory, in key order, and in a state table.
//!
//! What waits is bounded by the query (a window's length, an interval, the watermark's delay), so all of it is
//! kept in memory; the table is written as rows come and go, and read when the job starts again.

use std::collections::BTreeMap;

use super::super::codec;
use super::super::error::EngineError;
use super::super::plan::SortKey;
use super::super::row::{Instant, Row, RowKind, Value};
use crate::state::{StateError, StateTable};

/// A row that waits, and what it did.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub kind: RowKind,
    /// A mark of the operator's own.
    pub mark: bool,
    pub row: Row,
}

/// Rows by key; keys end with a number that grows, so that equal keys keep the order of arrival.
pub(super) struct Buffer {
    table: Box<dyn StateTable>,
    rows: BTreeMap<Vec<u8>, Waiting>,
    sequence: u64,
}

impl Buffer {
    pub(super) fn new(mut table: Box<dyn StateTable>) -> Result<Self, EngineError> {
        let mut rows = BTreeMap::new();
        let mut sequence = 0;
        table.scan(&[], &mut |key, bytes| {
            let damaged =
                |what: &str| StateError::Corrupt { table: "waiting rows".to_owned(), what: what.to_owned() };
            let (&flags, row) = bytes.split_first().ok_or_else(|| damaged("an entry is empty"))?;
            let row = codec::get_row(row).map_err(|error| damaged(&error.to_string()))?;
            let kind = match flags >> 1 {
                0 => RowKind::Insert,
                1 => RowKind::UpdateBefore,
                2 => RowKind::UpdateAfter,
                _ => RowKind::Delete,
            };
            if let Some(Ok(number)) =
                key.last_chunk::<8>().map(|bytes| Ok::<_, StateError>(u64::from_be_bytes(*bytes)))
            {
                sequence = sequence.max(number + 1);
            }
            rows.insert(key.to_vec(), Waiting { kind, mark: flags & 1 == 1, row });
            Ok(true)
        })?;
        Ok(Self { table, rows, sequence })
    }

    fn write(&mut self, key: &[u8], waiting: &Waiting) {
        let mut bytes = vec![(waiting.kind as u8) << 1 | u8::from(waiting.mark)];
        codec::put_row(&mut bytes, &waiting.row);
        self.table.put(key, &bytes);
    }

    /// Adds a row under a key, behind those that are there; gives its full key.
    pub(super) fn push(&mut self, mut key: Vec<u8>, waiting: Waiting) -> Vec<u8> {
        key.extend_from_slice(&self.sequence.to_be_bytes());
        self.sequence += 1;
        self.write(&key, &waiting);
        self.rows.insert(key.clone(), waiting);
        key
    }

    /// Puts a row under exactly this key.
    pub(super) fn put(&mut self, key: Vec<u8>, waiting: Waiting) {
        self.write(&key, &waiting);
        self.rows.insert(key, waiting);
    }

    /// Sets a row's mark.
    pub(super) fn mark(&mut self, key: &[u8]) {
        if let Some(waiting) = self.rows.get_mut(key)
            && !waiting.mark
        {
            waiting.mark = true;
            let waiting = waiting.clone();
            self.write(key, &waiting);
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Waiting> {
        let waiting = self.rows.remove(key)?;
        self.table.delete(key);
        Some(waiting)
    }

    /// Rows from a key on, in order.
    pub(super) fn from<'a>(
        &'a self,
        key: &[u8],
    ) -> impl DoubleEndedIterator<Item = (&'a Vec<u8>, &'a Waiting)> {
        self.rows.range(key.to_vec()..)
    }

    /// Rows whose keys start with a prefix, in order.
    pub(super) fn prefixed<'a>(
        &'a self,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = (&'a Vec<u8>, &'a Waiting)> {
        self.from(prefix).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Takes out the rows whose keys start with a prefix.
    pub(super) fn drain(&mut self, prefix: &[u8]) -> Vec<(Vec<u8>, Waiting)> {
        let keys: Vec<Vec<u8>> = self.prefixed(prefix).map(|(key, _)| key.clone()).collect();
        keys.into_iter().filter_map(|key| self.remove(&key).map(|waiting| (key, waiting))).collect()
    }

    /// The first key.
    pub(super) fn first(&self) -> Option<&[u8]> {
        self.rows.first_key_value().map(|(key, _)| key.as_slice())
    }
}

/// A time as the start of a key.
pub(super) fn time_key(time: i64) -> [u8; 8] {
    (time.cast_unsigned() ^ 1 << 63).to_be_bytes()
}

/// The time at the start of a key.
pub(super) fn key_time(key: &[u8]) -> i64 {
    key.first_chunk::<8>().map_or(i64::MIN, |bytes| (u64::from_be_bytes(*bytes) ^ 1 << 63).cast_signed())
}

/// Appends a key that sorts rows as ORDER BY does.
pub(super) fn put_sort_key(out: &mut Vec<u8>, row: &[Value], order: &[SortKey]) {
    for key in order {
        let value = row.get(key.column).unwrap_or(&Value::Null);
        let start = out.len();
        codec::put_key_value(out, value);
        let bytes = out.get_mut(start..).unwrap_or_default();
        if key.descending {
            bytes.iter_mut().skip(1).for_each(|byte| *byte = !*byte);
        }
        if let Some(first) = bytes.first_mut() {
            *first = match (value.is_null(), key.nulls_first) {
                (false, _) => 1,
                (true, true) => 0,
                (true, false) => 2,
            };
        }
    }
}

/// The milliseconds of a row's time column; NULL there is an error.
pub(super) fn row_time(row: &[Value], column: usize) -> Result<i64, EngineError> {
    row.get(column).and_then(Value::as_millis).ok_or_else(|| {
        EngineError::Constraint(
            "RowTime field should not be null, please convert it to a non-null long value.".to_owned(),
        )
    })
}

/// A TIMESTAMP value of milliseconds.
pub(super) fn timestamp(millis: i64) -> Value {
    Value::Timestamp(Instant::from_millis(millis))
}
