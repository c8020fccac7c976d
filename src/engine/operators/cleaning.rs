//! Partitions that are forgotten some time after their last row, by the clock.
//!
//! As Flink's cleanup timers do it: each row puts its partition's end off, but only where it would come too early, so
//! that few rows of many do.

use super::super::error::EngineError;
use super::super::row::{Row, RowKind};
use super::Builder;
use super::buffer::{Waiting, key_time, time_key};
use super::keyed::KeyedRows;
use super::share::behind_time;
use super::timed::TimedRows;

/// When partitions of a [`KeyedRows`] are forgotten. The time of each is its tag.
pub(super) struct Cleaning {
    /// How long a partition is kept behind its last row, in milliseconds.
    least: i64,
    most: i64,
    /// By time, then partition.
    ends: TimedRows,
}

fn end_key(at: i64, partition: &[u8]) -> Vec<u8> {
    [time_key(at).as_slice(), partition].concat()
}

impl Cleaning {
    /// Of partitions that are kept for so long at least, and at most.
    pub(super) fn new(builder: &mut Builder<'_>, least: i64, most: i64) -> Result<Self, EngineError> {
        Ok(Self { least, most, ends: TimedRows::new(builder, "cleaning", Box::new(behind_time))? })
    }

    /// Of partitions that live as long as `table.exec.state.ttl` says, where it says something: up to one and a half
    /// times as long, as in Flink.
    pub(super) fn by_ttl(builder: &mut Builder<'_>) -> Result<Option<Self>, EngineError> {
        builder.ttl(None).map(|ttl| Self::new(builder, ttl, ttl.saturating_mul(3) / 2)).transpose()
    }

    /// A row of a partition has come: puts off its end.
    pub(super) fn put_off(
        &mut self,
        key: &[u8],
        partitions: &mut KeyedRows,
        now: i64,
    ) -> Result<(), EngineError> {
        let known = partitions.get(key)?.tag();
        if known.is_some_and(|at| at >= now.saturating_add(self.least)) {
            return Ok(());
        }
        if let Some(at) = known {
            self.ends.remove(&end_key(at, key))?;
        }
        let at = now.saturating_add(self.most);
        partitions.edit(key)?.set_tag(Some(at));
        self.ends.put(end_key(at, key), Waiting::new(RowKind::Insert, Row::from([])));
        Ok(())
    }

    /// Takes a partition whose time has come.
    pub(super) fn pop_due(&mut self, now: i64) -> Result<Option<Vec<u8>>, EngineError> {
        let due = self.ends.pop(|key| key_time(key) <= now)?;
        Ok(due.map(|(key, _)| key.get(8..).unwrap_or_default().to_vec()))
    }

    /// When the next partition is forgotten.
    pub(super) fn next(&self) -> Option<i64> {
        self.ends.first().map(key_time)
    }

    /// Writes what changed into the table.
    pub(super) fn flush(&mut self) -> Result<(), EngineError> {
        self.ends.flush()
    }
}

/// Forgets the rows of a partition and when it was to be forgotten.
pub(super) fn forget(partitions: &mut KeyedRows, key: &[u8]) -> Result<(), EngineError> {
    let partition = partitions.edit(key)?;
    while partition.pop(|_| true).is_some() {}
    if partition.tag().is_some() {
        partition.set_tag(None);
    }
    Ok(())
}
