//! Rows that wait for time, and the keys that they wait under.

use super::super::codec;
use super::super::error::EngineError;
use super::super::plan::SortKey;
use super::super::row::{Instant, Row, RowKind, Value};
use crate::state::StateError;

/// Bytes of waiting rows that one structure keeps in memory; more of them stay in the state only. Tiny in
/// tests, so that all of them go that way.
pub(super) const CACHED_BYTES: usize = if cfg!(test) { 1 << 10 } else { 16 << 20 };

/// A row that waits, and what it did.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waiting {
    pub kind: RowKind,
    /// A mark of the operator's own.
    pub mark: bool,
    pub row: Row,
}

impl Waiting {
    /// A row of a change.
    pub(super) fn new(kind: RowKind, row: Row) -> Self {
        Self { kind, mark: false, row }
    }

    /// Appends the row as the state keeps it.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push((self.kind as u8) << 1 | u8::from(self.mark));
        codec::put_row(out, &self.row);
    }

    /// The row of a state entry.
    pub(super) fn get(bytes: &[u8]) -> Result<Self, StateError> {
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
        Ok(Self { kind, mark: flags & 1 == 1, row })
    }

    /// About how many bytes it takes in memory under a key.
    pub(super) fn weight(&self, key: &[u8]) -> usize {
        96 + key.len() + row_weight(&self.row)
    }
}

/// About how many bytes a row takes in memory.
pub(super) fn row_weight(row: &[Value]) -> usize {
    let heap = |value: &Value| match value {
        Value::Str(text) => text.len() + 16,
        Value::Bytes(bytes) => bytes.len() + 16,
        Value::Array(items) | Value::Row(items) => row_weight(items),
        Value::Map(entries) => entries.len() * 64 + 16,
        _ => 0,
    };
    16 + row.iter().map(|value| size_of::<Value>() + heap(value)).sum::<usize>()
}

/// A time as the start of a key.
pub(super) fn time_key(time: i64) -> [u8; 8] {
    (time.cast_unsigned() ^ 1 << 63).to_be_bytes()
}

/// The time at the start of a key.
pub(super) fn key_time(key: &[u8]) -> i64 {
    key.first_chunk::<8>().map_or(i64::MIN, |bytes| (u64::from_be_bytes(*bytes) ^ 1 << 63).cast_signed())
}

/// The number at the end of a key, that keeps equal keys in order of arrival.
pub(super) fn key_sequence(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
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
