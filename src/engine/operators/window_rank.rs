//! Top-N of rows that carry their window; it comes out when the window is complete.

use std::collections::BTreeMap;

use super::super::codec;
use super::super::error::EngineError;
use super::super::plan::{RankFunction, WindowRank as Spec};
use super::super::row::{Change, RowKind, Value};
use super::buffer::{Waiting, key_time, put_sort_key, row_time, time_key};
use super::share::FindKey;
use super::timed::TimedRows;
use super::window_join::Columns;
use super::windowed::Windowed;
use super::{Builder, Emitter};

/// About what a group takes in memory besides its keys.
const GROUP_WEIGHT: usize = 120;

/// The rows of a window and partition.
#[derive(Default)]
struct Group {
    /// How many there are, at most as many as count.
    rows: u64,
    /// Key of the last one that counts, once there are so many.
    last: Option<Vec<u8>>,
}

/// The first rows of each window and partition: others are not kept.
pub(super) struct WindowRank {
    spec: Spec,
    window: Columns,
    /// Rows by window end, partition, order.
    rows: TimedRows,
    /// What is known of the groups, by window end and partition; of one that is not there the rows are looked at.
    groups: BTreeMap<Vec<u8>, Group>,
    bytes: usize,
    /// Bytes of groups that may stay in memory over a flush.
    cached: usize,
    watermark: i64,
}

impl WindowRank {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        if spec.function != RankFunction::RowNumber {
            return Err(EngineError::Plan(
                "RANK() and DENSE_RANK() within windows are not supported".to_owned(),
            ));
        }
        let columns = spec.partition.clone();
        let key_of_row: Box<FindKey> =
            Box::new(move |_, waiting, key| codec::put_key(key, &waiting.row, &columns));
        Ok(Self {
            spec: spec.clone(),
            window: Columns::new(builder, &spec.window)?,
            rows: TimedRows::new(builder, "rows", key_of_row)?,
            groups: BTreeMap::new(),
            bytes: 0,
            cached: builder.rows_cache(),
            watermark: i64::MIN,
        })
    }

    /// Counts the rows of a group, if that was not done.
    fn count(&mut self, group: &[u8]) -> Result<(), EngineError> {
        if self.groups.contains_key(group) {
            return Ok(());
        }
        let (mut known, to) = (Group::default(), self.spec.to);
        self.rows.keys(group, |key| {
            known.rows += 1;
            if known.rows == to {
                known.last = Some(key.to_vec());
            }
            known.rows < to
        })?;
        self.bytes += weight(group);
        self.groups.insert(group.to_vec(), known);
        Ok(())
    }

    /// Keeps a row of a group under a key, if it is among the first: then in place of the last of them, when there were
    /// enough.
    fn keep(&mut self, group: &[u8], mut key: Vec<u8>, waiting: Waiting) -> Result<(), EngineError> {
        let to = self.spec.to;
        if to == u64::MAX {
            self.rows.push(key, waiting);
            return Ok(());
        }
        self.count(group)?;
        let Some(known) = self.groups.get_mut(group) else { return Ok(()) };
        self.rows.number(&mut key);
        match &known.last {
            Some(last) if key > *last => {}
            Some(last) => {
                self.rows.put(key, waiting);
                self.rows.remove(last)?;
                known.last = self.rows.before(group, last)?;
            }
            None => {
                known.rows += 1;
                known.last = (to == 1).then(|| key.clone());
                let is_full = known.rows == to && known.last.is_none();
                self.rows.put(key, waiting);
                if is_full {
                    self.forget(group);
                }
            }
        }
        Ok(())
    }

    /// The group's rows are counted when the next one comes.
    fn forget(&mut self, group: &[u8]) {
        if self.groups.remove(group).is_some() {
            self.bytes = self.bytes.saturating_sub(weight(group));
        }
    }
}

fn weight(group: &[u8]) -> usize {
    GROUP_WEIGHT + 2 * group.len()
}

impl Windowed for WindowRank {
    fn collect(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        _out: &mut Emitter,
    ) -> Result<(), EngineError> {
        for change in rows.drain(..) {
            let end = row_time(&change.row, self.window.end)?;
            let late = self.window.rowtime && self.window.zone.fires_at(end) <= self.watermark;
            if late || self.spec.to == 0 {
                continue;
            }
            let mut group = time_key(end).to_vec();
            codec::put_key(&mut group, &change.row, &self.spec.partition);
            let mut key = group.clone();
            put_sort_key(&mut key, &change.row, &self.spec.order);
            // One row per sort key: the later one.
            if self.spec.last_wins && !self.rows.drain(&key)?.is_empty() {
                self.forget(&group);
            }
            self.keep(&group, key, Waiting::new(change.kind, change.row))?;
        }
        Ok(())
    }

    fn by_watermark(&self) -> bool {
        self.window.rowtime
    }

    fn fire(&mut self, reached: i64, out: &mut Emitter) -> Result<(), EngineError> {
        let zone = self.window.zone;
        let due = |key: &[u8]| zone.fires_at(key_time(key)) <= reached;
        let mut group: Vec<u8> = Vec::new();
        let mut rank: u64 = 0;
        while let Some((key, waiting)) = self.rows.pop(due)? {
            let mut of = key.get(..8).unwrap_or_default().to_vec();
            codec::put_key(&mut of, &waiting.row, &self.spec.partition);
            if of != group {
                out.order(&[&of]);
                group = of;
                rank = 0;
            }
            rank += 1;
            if rank >= self.spec.from && rank <= self.spec.to {
                let rank = i64::try_from(rank).unwrap_or(i64::MAX);
                let rank = self.spec.emit_rank.then_some(Value::Int(rank));
                out.row(RowKind::Insert, waiting.row.iter().cloned().chain(rank).collect());
            }
        }
        while let Some(first) = self.groups.first_entry().filter(|first| due(first.key().as_slice())) {
            self.bytes = self.bytes.saturating_sub(weight(first.key()));
            first.remove();
        }
        Ok(())
    }

    fn passed(&mut self, watermark: i64) {
        self.watermark = watermark;
    }

    fn next_end(&self) -> Option<i64> {
        self.rows.first().map(|key| self.window.zone.fires_at(key_time(key)))
    }

    fn write(&mut self) -> Result<(), EngineError> {
        if self.bytes > self.cached {
            self.groups.clear();
            self.bytes = 0;
        }
        self.rows.flush()
    }
}
