//! The changes of an epoch on their way to a sink: reduced by key.

use std::collections::HashMap;

use crate::engine::row::{Change, RowKind, Value};

use super::{Output, Reduction};

/// Collects the changes of an epoch for one sink.
///
/// Reduction by key keeps the last change per key, as the JDBC sink's buffer of Flink does: a delete that is
/// followed by an insert of the same key is one upsert, so that readers of the target never see the row
/// vanish in between. Where each change is written, that holds of an update only, whose old row its new one follows.
#[derive(Debug)]
pub struct Collector {
    reduction: Reduction,
    changes: Vec<Change>,
    last: HashMap<Vec<u8>, Change, ahash::RandomState>,
    key: Vec<u8>,
    bytes: usize,
    /// Whether the last of `changes` is the old row of an update.
    before: bool,
}

/// About what a change takes where it is written out.
fn size(change: &Change) -> usize {
    fn of(value: &Value) -> usize {
        match value {
            Value::Str(text) => text.len() + 8,
            Value::Bytes(bytes) => bytes.len() + 8,
            Value::Array(items) => items.iter().map(of).sum(),
            Value::Row(items) => items.iter().map(of).sum(),
            Value::Map(entries) => entries.iter().map(|(key, value)| of(key) + of(value)).sum(),
            _ => 12,
        }
    }
    change.row.iter().map(of).sum()
}

impl Collector {
    /// An empty collector.
    pub fn new(reduction: Reduction) -> Self {
        Self {
            reduction,
            changes: Vec::new(),
            last: HashMap::default(),
            key: Vec::new(),
            bytes: 0,
            before: false,
        }
    }

    /// Adds a change. `encode_key` appends the memcomparable form of the key columns; it is called only where
    /// the sink has a key.
    pub fn push(&mut self, change: Change, encode_key: impl FnOnce(&Change, &[usize], &mut Vec<u8>)) {
        let columns = match &self.reduction {
            Reduction::ByKey(columns) => columns,
            Reduction::Each(columns) => {
                let same = |last: &Change| columns.iter().all(|c| last.row.get(*c) == change.row.get(*c));
                let follows = std::mem::replace(&mut self.before, change.kind == RowKind::UpdateBefore);
                if follows && change.kind.is_add() && self.changes.last().is_some_and(same) {
                    self.bytes = self.bytes.saturating_sub(self.changes.pop().as_ref().map_or(0, size));
                }
                let kind = if change.kind.is_add() { RowKind::UpdateAfter } else { RowKind::Delete };
                self.bytes += size(&change);
                self.changes.push(Change { kind, row: change.row });
                return;
            }
            Reduction::None => {
                self.bytes += size(&change);
                self.changes.push(change);
                return;
            }
        };
        // -U counts as a delete (so Flink's JDBC buffer): where its +U has the same key, that one comes later and
        // wins; where the key changed or a filter dropped the +U, the old row has to go.
        let kind = if change.kind.is_add() { RowKind::UpdateAfter } else { RowKind::Delete };
        let change = Change { kind, row: change.row };
        self.key.clear();
        encode_key(&change, columns, &mut self.key);
        self.bytes += size(&change);
        match self.last.get_mut(self.key.as_slice()) {
            Some(last) => {
                self.bytes = self.bytes.saturating_sub(size(last));
                *last = change;
            }
            None => {
                self.last.insert(self.key.clone(), change);
            }
        }
    }

    /// Number of changes that would be written.
    pub fn len(&self) -> usize {
        self.changes.len() + self.last.len()
    }

    /// About how many bytes they take where they are written out.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing would be written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The epoch's output; the collector is empty afterwards and keeps its memory.
    pub fn take(&mut self) -> Output {
        self.bytes = 0;
        self.before = false;
        if self.last.is_empty() {
            return Output { changes: std::mem::take(&mut self.changes) };
        }
        let mut sorted: Vec<(Vec<u8>, Change)> = self.last.drain().collect();
        sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Output { changes: sorted.into_iter().map(|(_, change)| change).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn change(kind: RowKind, id: i64, v: i64) -> Change {
        Change { kind, row: vec![Value::Int(id), Value::Int(v)].into() }
    }

    fn key(change: &Change, columns: &[usize], out: &mut Vec<u8>) {
        for column in columns {
            if let Value::Int(n) = change.row[*column] {
                out.extend_from_slice(&n.to_be_bytes());
            }
        }
    }

    #[test]
    fn the_last_change_of_a_key_wins() {
        let mut collector = Collector::new(Reduction::ByKey(vec![0]));
        for c in [
            change(RowKind::Insert, 2, 1),
            change(RowKind::Insert, 1, 1),
            change(RowKind::UpdateBefore, 1, 1),
            change(RowKind::UpdateAfter, 1, 2),
            change(RowKind::Delete, 2, 1),
            change(RowKind::Delete, 3, 7),
            change(RowKind::Insert, 3, 8),
        ] {
            collector.push(c, key);
        }
        assert_eq!((collector.len(), collector.bytes()), (3, 3 * 24));
        assert_eq!(
            collector.take().changes,
            [
                change(RowKind::UpdateAfter, 1, 2),
                change(RowKind::Delete, 2, 1),
                change(RowKind::UpdateAfter, 3, 8)
            ]
        );
        assert!(collector.is_empty() && collector.bytes() == 0);
    }

    #[test]
    fn each_change_of_a_key_but_the_old_rows_of_updates() {
        let mut collector = Collector::new(Reduction::Each(vec![0]));
        for (kind, id, v) in [
            (RowKind::Insert, 1, 1),
            (RowKind::UpdateBefore, 1, 1),
            (RowKind::UpdateAfter, 1, 2),
            (RowKind::UpdateBefore, 1, 2),
            (RowKind::UpdateAfter, 2, 2),
            (RowKind::Delete, 2, 2),
            (RowKind::Insert, 2, 3),
        ] {
            collector.push(change(kind, id, v), key);
        }
        let written: Vec<(RowKind, i64)> = collector
            .take()
            .changes
            .iter()
            .map(|c| (c.kind, if let Value::Int(v) = c.row[1] { v } else { 0 }))
            .collect();
        let (add, gone) = (RowKind::UpdateAfter, RowKind::Delete);
        assert_eq!(written, [(add, 1), (add, 2), (gone, 2), (add, 2), (gone, 2), (add, 3)]);
        assert_eq!(collector.bytes(), 0);
    }

    #[test]
    fn without_a_key_every_change_is_kept() {
        let mut collector = Collector::new(Reduction::None);
        for c in [change(RowKind::Insert, 1, 1), change(RowKind::UpdateBefore, 1, 1)] {
            collector.push(c, key);
        }
        assert_eq!(collector.take().changes.len(), 2);
    }
}
