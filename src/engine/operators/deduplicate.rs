//! Deduplication by time.

use super::super::codec;
use super::super::error::EngineError;
use super::super::plan::Deduplicate as Spec;
use super::super::row::{Change, Row, RowKind};
use super::buffer::{Waiting, key_time, row_time, time_key};
use super::share::behind_time;
use super::timed::TimedRows;
use super::upsert::{RowLists, replace};
use super::{Builder, Emitter, Operator};

/// The first or last row per key of an insert-only input.
pub(super) struct Deduplicate {
    spec: Spec,
    /// The row that counts; of a first row by event time that was emitted, also an empty row as a mark.
    rows: RowLists,
    /// First rows by event time that wait for the watermark: by time, then key.
    waiting: Option<TimedRows>,
    /// State has a time to live: unchanged rows are emitted too, so that what is behind stays alive.
    ttl: bool,
    watermark: i64,
}

impl Deduplicate {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        let waits = spec.rowtime && !spec.last;
        Ok(Self {
            spec: spec.clone(),
            rows: RowLists::new(builder.expiring_table("rows", None)?, builder.cached(None))?,
            ttl: builder.ttl(None).is_some(),
            waiting: if waits {
                Some(TimedRows::new(builder, "waiting", Box::new(behind_time))?)
            } else {
                None
            },
            watermark: i64::MIN,
        })
    }

    fn first_by_time(&mut self, key: &[u8], change: Change) -> Result<(), EngineError> {
        let time = row_time(&change.row, self.spec.time)?;
        let Some(waiting) = &mut self.waiting else { return Ok(()) };
        let mut listed = self.rows.get(key)?;
        // as in Flink, a row at the watermark itself is not late yet
        if time < self.watermark || listed.rows().len() > 1 {
            return Ok(());
        }
        if let Some(known) = listed.rows().first() {
            let known = row_time(known, self.spec.time)?;
            if known <= time {
                return Ok(());
            }
            waiting.remove(&[time_key(known).as_slice(), key].concat())?;
        }
        replace(listed.change(), &change.row);
        let full = [time_key(time).as_slice(), key].concat();
        waiting.put(full, Waiting::new(RowKind::Insert, change.row));
        Ok(())
    }
}

impl Operator for Deduplicate {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        let mut key = Vec::new();
        for change in rows.drain(..) {
            key.clear();
            codec::put_key(&mut key, &change.row, &self.spec.key);
            if self.waiting.is_some() {
                self.first_by_time(&key, change)?;
                continue;
            }
            let mut listed = self.rows.get(&key)?;
            match listed.rows().first().map(Row::clone) {
                None => out.row(RowKind::Insert, Row::clone(&change.row)),
                Some(_) if !self.spec.last => continue,
                Some(old) => {
                    if !self.spec.rowtime && !self.ttl && old == change.row {
                        continue;
                    }
                    let time = |row: &Row| row_time(row, self.spec.time);
                    if self.spec.rowtime && time(&change.row)? < time(&old)? {
                        continue;
                    }
                    if self.spec.emit_update_before {
                        out.row(RowKind::UpdateBefore, old);
                    }
                    out.row(RowKind::UpdateAfter, Row::clone(&change.row));
                }
            }
            replace(listed.change(), &change.row);
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        self.watermark = watermark;
        if let Some(waiting) = &mut self.waiting {
            while let Some((full, first)) = waiting.pop(|key| key_time(key) <= watermark)? {
                let key = full.get(8..).unwrap_or_default();
                // Both, since the row itself may have expired while it waited.
                let mut listed = self.rows.get(key)?;
                replace(listed.change(), &first.row);
                listed.change().push(Row::from([]));
                out.order(&[&full]);
                out.row(RowKind::Insert, first.row);
            }
        }
        out.watermark(watermark);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.rows.flush();
        if let Some(waiting) = &mut self.waiting {
            waiting.flush()?;
        }
        Ok(())
    }

    fn resume(&mut self, watermark: i64) {
        self.watermark = watermark;
    }
}
