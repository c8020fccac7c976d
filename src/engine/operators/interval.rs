//! Joins of two insert-only inputs within an interval of time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::super::codec;
use super::super::error::EngineError;
use super::super::eval::Evaluator;
use super::super::graph::Clock;
use super::super::plan::{IntervalJoin as Spec, JoinKind};
use super::super::row::{Change, Row, RowKind, Value};
use super::buffer::{Waiting, key_time, row_time, time_key};
use super::keyed::KeyedRows;
use super::temporal::{fits, has_null};
use super::timed::TimedRows;
use super::{Builder, Emitter, Operator};
use crate::state::StateTable;

/// `left.time + lower <= right.time <= left.time + upper`, over insert-only inputs.
///
/// When rows leave the cache, and so what a late row still meets, follows Flink's `TimeIntervalJoin`: rows are
/// removed by a timer when they cannot match any more (or `pause` later), or when a later row finds them expired.
pub(super) struct IntervalJoin {
    name: String,
    spec: Spec,
    keys: [Vec<usize>; 2],
    residual: Option<Evaluator>,
    widths: [usize; 2],
    /// Rows of each input by join key, then time; the mark says that the row has had a partner, the tag of a key
    /// when its rows are to be cleaned next.
    caches: [KeyedRows; 2],
    /// The cleaning times: by time, input, join key.
    timers: TimedRows,
    /// Per input: the time up to which its rows have expired. All instances of the operator see it, since Flink has
    /// one for all keys.
    expired: Arc<[AtomicI64; 2]>,
    progress: Box<dyn StateTable>,
    clock: Arc<dyn Clock>,
    now: i64,
}

/// A timer's join key stands behind its time and its input.
fn key_of_timer(timer: &[u8], _: &Waiting, key: &mut Vec<u8>) {
    key.extend_from_slice(timer.get(9..).unwrap_or_default());
}

const EXPIRED: [&[u8]; 2] = [b"expired-left", b"expired-right"];

impl IntervalJoin {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        let mut progress = builder.table("progress")?;
        let expired = Arc::clone(&builder.share.seen_by_all);
        for (expired, name) in expired.iter().zip(EXPIRED) {
            if let Some(bytes) = progress.get(name)? {
                expired.store(key_time(&bytes), Ordering::Relaxed);
            }
        }
        Ok(Self {
            name: builder.node.name.clone(),
            keys: [spec.on.iter().map(|on| on.0).collect(), spec.on.iter().map(|on| on.1).collect()],
            residual: spec.residual.as_ref().map(|residual| builder.evaluator(residual)).transpose()?,
            widths: [builder.input(0)?.len(), builder.input(1)?.len()],
            spec: spec.clone(),
            caches: [KeyedRows::new(builder, "left")?, KeyedRows::new(builder, "right")?],
            timers: TimedRows::new(builder, "timers", Box::new(key_of_timer))?,
            expired,
            progress,
            clock: Arc::clone(&builder.context.clock),
            // Flink's first time, before any watermark.
            now: 0,
        })
    }

    /// How long rows of an input wait for the other: of the left one the upper bound, of the right one the lower.
    fn reach(&self, port: usize) -> i64 {
        if port == 0 { self.spec.upper } else { -self.spec.lower }
    }

    /// The time up to which an input's rows have expired at `now`.
    fn expiration(&self, port: usize, now: i64) -> i64 {
        if now == i64::MAX { i64::MAX } else { now.saturating_sub(self.reach(port)).saturating_sub(1) }
    }

    /// Notes that an input's rows have expired up to a time, which never goes back.
    fn expire(&self, port: usize, expiration: i64) {
        if let Some(expired) = self.expired.get(port) {
            expired.fetch_max(expiration, Ordering::Relaxed);
        }
    }

    /// The time of a row by its time column.
    fn time(&self, port: usize, row: &Row) -> Result<i64, EngineError> {
        row_time(row, if port == 0 { self.spec.left_time } else { self.spec.right_time })
    }

    /// Times of the other input that match one of an input.
    fn range(&self, port: usize, time: i64) -> (i64, i64) {
        if port == 0 {
            (time.saturating_add(self.spec.lower), time.saturating_add(self.spec.upper))
        } else {
            (time.saturating_sub(self.spec.upper), time.saturating_sub(self.spec.lower))
        }
    }

    fn is_outer(&self, port: usize) -> bool {
        match self.spec.kind {
            JoinKind::Full => true,
            JoinKind::Left => port == 0,
            JoinKind::Right => port == 1,
            _ => false,
        }
    }

    /// Sets the time at which a key's rows are cleaned, from the time of its first one.
    fn schedule(&mut self, port: usize, key: &[u8], time: i64) -> Result<(), EngineError> {
        let at = time.saturating_add(self.reach(port)).saturating_add(self.spec.pause).saturating_add(1);
        if let Some(cache) = self.caches.get_mut(port) {
            cache.edit(key)?.set_tag(Some(at));
        }
        let timer = [time_key(at).as_slice(), &[u8::from(port == 1)], key].concat();
        self.timers.put(timer, Waiting::new(RowKind::Insert, Row::from([])));
        Ok(())
    }

    fn pad(&self, port: usize, row: &Row, out: &mut Emitter) {
        let nulls = std::iter::repeat_n(Value::Null, self.widths.get(1 - port).copied().unwrap_or(0));
        let row = if port == 0 {
            row.iter().cloned().chain(nulls).collect()
        } else {
            nulls.chain(row.iter().cloned()).collect()
        };
        out.row(RowKind::Insert, row);
    }

    fn change(&mut self, port: usize, row: &Row, out: &mut Emitter) -> Result<(), EngineError> {
        let other = 1 - port;
        let mut key = Vec::new();
        let columns = self.keys.get(port).map(Vec::as_slice).unwrap_or_default();
        // a NULL in the key meets nobody, but waits as the others do
        let lone = has_null(row, columns);
        if lone && !self.is_outer(port) {
            return Ok(());
        }
        codec::put_key(&mut key, row, columns);
        if !self.spec.rowtime {
            self.now = self.clock.now();
        }
        let time = if self.spec.rowtime { self.time(port, row)? } else { self.now };
        let (from, to) = self.range(port, time);
        let mut emitted = false;
        let expiration = self.expiration(other, self.now);
        // What has expired by now decides where that was not noted yet; other instances may have gone on from there.
        let expired = self.expired.get(other).map_or(i64::MIN, |expired| expired.load(Ordering::Relaxed));
        if expiration < to || expired < to {
            self.expire(other, expiration);
            let range = if lone { (i64::MAX, i64::MIN) } else { (from, to) };
            emitted = self.meet(port, &key, row, range, expiration, out)?;
        }
        if self.now < to {
            let Some(cache) = self.caches.get_mut(port) else { return Ok(()) };
            let rows = cache.edit(&key)?;
            rows.push(
                time_key(time).to_vec(),
                Waiting { kind: RowKind::Insert, mark: emitted, row: Row::clone(row) },
            );
            if rows.tag().is_none() {
                self.schedule(port, &key, time)?;
            }
        } else if !emitted && self.is_outer(port) {
            self.pad(port, row, out);
        }
        Ok(())
    }

    /// Joins a row with the other input's rows of a range of times, and removes those of them that have expired;
    /// says whether there was a partner.
    fn meet(
        &mut self,
        port: usize,
        key: &[u8],
        row: &Row,
        (from, to): (i64, i64),
        expiration: i64,
        out: &mut Emitter,
    ) -> Result<bool, EngineError> {
        let other = 1 - port;
        let Some(cache) = self.caches.get_mut(other) else { return Ok(false) };
        let mut emitted = false;
        let (mut met, mut gone): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
        let mut lone: Vec<Row> = Vec::new();
        let outer = matches!(
            (self.spec.kind, other),
            (JoinKind::Full, _) | (JoinKind::Left, 0) | (JoinKind::Right, 1)
        );
        let rows = cache.get(key)?;
        // What has expired comes first; then what lies in the range, without what is between them.
        let expired = rows.iter().take_while(|(at, _)| key_time(at) <= expiration);
        let start = time_key(from.max(expiration.saturating_add(1)));
        let live = rows.from(&start).take_while(|(at, _)| expiration < i64::MAX && key_time(at) <= to);
        for (at, waiting) in expired.chain(live) {
            let time = key_time(at);
            let mut matched = waiting.mark;
            let (left, right) = if port == 0 { (row, &waiting.row) } else { (&waiting.row, row) };
            if time >= from && time <= to && fits(self.residual.as_ref(), &self.name, left, right)? {
                out.row(RowKind::Insert, left.iter().chain(right.iter()).cloned().collect());
                emitted = true;
                if !matched {
                    met.push(at.clone());
                }
                matched = true;
            }
            if time <= expiration {
                if !matched && outer {
                    lone.push(Row::clone(&waiting.row));
                }
                gone.push(at.clone());
            }
        }
        if !met.is_empty() || !gone.is_empty() {
            let rows = cache.edit(key)?;
            met.iter().for_each(|at| rows.mark(at));
            for at in &gone {
                rows.remove(at);
            }
        }
        for row in &lone {
            self.pad(other, row, out);
        }
        Ok(emitted)
    }

    /// Runs the cleaning timers up to a time.
    fn clean(&mut self, now: i64, out: &mut Emitter) -> Result<(), EngineError> {
        self.now = now;
        while let Some((timer, _)) = self.timers.pop(|timer| key_time(timer) <= now)? {
            let port = usize::from(timer.get(8) == Some(&1));
            let key = timer.get(9..).unwrap_or_default();
            let expiration = self.expiration(port, now);
            self.expire(port, expiration);
            out.order(&[&timer]);
            let outer = self.is_outer(port);
            let Some(cache) = self.caches.get_mut(port) else { return Ok(()) };
            let rows = cache.edit(key)?;
            let mut lone = Vec::new();
            while let Some((_, waiting)) = rows.pop(|at| key_time(at) <= expiration) {
                if outer && !waiting.mark {
                    lone.push(waiting.row);
                }
            }
            let earliest = rows.iter().next().map(|(at, _)| key_time(at));
            if earliest.is_none() {
                rows.set_tag(None);
            }
            for row in &lone {
                self.pad(port, row, out);
            }
            if let Some(time) = earliest {
                self.schedule(port, key, time)?;
            }
        }
        Ok(())
    }
}

impl Operator for IntervalJoin {
    fn process(&mut self, port: usize, rows: &mut Vec<Change>, out: &mut Emitter) -> Result<(), EngineError> {
        for change in rows.drain(..) {
            self.change(port, &change.row, out)?;
        }
        Ok(())
    }

    fn resume(&mut self, watermark: i64) {
        self.now = watermark.max(0);
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        if !self.spec.rowtime {
            out.watermark(watermark);
            return Ok(());
        }
        self.clean(watermark, out)?;
        // a row may come out as long after its time as rows wait for the other input
        let delay = self.reach(0).max(self.reach(1));
        out.watermark(if watermark == i64::MAX { watermark } else { watermark.saturating_sub(delay) });
        Ok(())
    }

    fn clock(&mut self, now: i64, out: &mut Emitter) -> Result<(), EngineError> {
        if self.spec.rowtime { Ok(()) } else { self.clean(now, out) }
    }

    fn next_timer(&self) -> Option<i64> {
        if self.spec.rowtime { None } else { self.timers.first().map(key_time) }
    }

    /// A row that comes so late that all its partners have expired meets those that nobody has found to be so.
    fn is_for_itself(&self, port: usize, row: &Row, watermark: i64) -> bool {
        self.spec.rowtime
            && self
                .time(port, row)
                .is_ok_and(|time| self.expiration(1 - port, watermark.max(0)) >= self.range(port, time).1)
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.caches.iter_mut().for_each(KeyedRows::flush);
        self.timers.flush()?;
        for (expired, name) in self.expired.iter().zip(EXPIRED) {
            let expired = expired.load(Ordering::Relaxed);
            // The end of an input is not kept: a later run may read more.
            if expired > i64::MIN && expired < i64::MAX {
                self.progress.put(name, &time_key(expired));
            }
        }
        Ok(())
    }
}
