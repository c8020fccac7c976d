//! Joins by time: within an interval, and with the version valid at a time.

use std::collections::BTreeMap;

use ahash::RandomState;
use hashbrown::HashMap;

use super::super::codec;
use super::super::error::EngineError;
use super::super::eval::{Evaluator, Input};
use super::super::plan::{IntervalJoin as IntervalSpec, JoinKind, TemporalJoin as TemporalSpec};
use super::super::row::{Change, Row, RowKind, Value};
use super::buffer::{Buffer, Waiting, key_time, row_time, time_key};
use super::row::failed;
use super::{Builder, Emitter, Operator};

fn fits(residual: Option<&Evaluator>, name: &str, left: &Row, right: &Row) -> Result<bool, EngineError> {
    match residual {
        Some(residual) => residual.is_true(Input::pair(left, right)).map_err(|error| failed(name, error)),
        None => Ok(true),
    }
}

fn has_null(row: &Row, keys: &[usize]) -> bool {
    keys.iter().any(|&column| row.get(column).is_none_or(Value::is_null))
}

/// `left.time + lower <= right.time <= left.time + upper`, over insert-only inputs.
///
/// When rows leave the cache, and so what a late row still meets, follows Flink's `TimeIntervalJoin`: rows are
/// removed by a timer half an interval after they cannot match any more, or when a later row finds them expired.
pub(super) struct IntervalJoin {
    name: String,
    spec: IntervalSpec,
    keys: [Vec<usize>; 2],
    residual: Option<Evaluator>,
    widths: [usize; 2],
    /// Rows of each input: by join key, then time; the mark says that the row has had a partner.
    caches: [Buffer; 2],
    /// Per input: the time up to which its rows have expired.
    expired: [i64; 2],
    /// Per input: when a join key's rows are to be cleaned next.
    timers: [HashMap<Vec<u8>, i64, RandomState>; 2],
    /// The same by time.
    queue: BTreeMap<(i64, usize), Vec<Vec<u8>>>,
    clock: std::sync::Arc<dyn super::super::graph::Clock>,
    now: i64,
}

impl IntervalJoin {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &IntervalSpec) -> Result<Self, EngineError> {
        let caches = [Buffer::new(builder.table("left")?)?, Buffer::new(builder.table("right")?)?];
        let mut join = Self {
            name: builder.node.name.clone(),
            keys: [spec.on.iter().map(|on| on.0).collect(), spec.on.iter().map(|on| on.1).collect()],
            residual: spec.residual.as_ref().map(|residual| builder.evaluator(residual)).transpose()?,
            widths: [builder.input(0)?.len(), builder.input(1)?.len()],
            spec: spec.clone(),
            caches,
            expired: [i64::MIN; 2],
            timers: [HashMap::default(), HashMap::default()],
            queue: BTreeMap::new(),
            clock: std::sync::Arc::clone(&builder.context.clock),
            now: i64::MIN,
        };
        for port in 0..2 {
            let mut earliest: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
            for (key, _) in join.caches.get(port).into_iter().flat_map(|cache| cache.from(&[])) {
                if let Some((key, rest)) = key.len().checked_sub(16).and_then(|at| key.split_at_checked(at)) {
                    earliest.entry(key.to_vec()).or_insert_with(|| key_time(rest));
                }
            }
            earliest.into_iter().for_each(|(key, time)| join.schedule(port, key, time));
        }
        Ok(join)
    }

    /// How long rows of an input wait for the other: of the left one the upper bound, of the right one the lower.
    fn reach(&self, port: usize) -> i64 {
        if port == 0 { self.spec.upper } else { -self.spec.lower }
    }

    fn expiration(&self, port: usize) -> i64 {
        if self.now == i64::MAX {
            i64::MAX
        } else {
            self.now.saturating_sub(self.reach(port)).saturating_sub(1)
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

    fn schedule(&mut self, port: usize, key: Vec<u8>, time: i64) {
        let pause = (self.reach(0) + self.reach(1)) / 2;
        let at = time.saturating_add(self.reach(port)).saturating_add(pause).saturating_add(1);
        if let Some(timers) = self.timers.get_mut(port) {
            timers.insert(key.clone(), at);
        }
        self.queue.entry((at, port)).or_default().push(key);
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
        let columns = self.keys.get(port).cloned().unwrap_or_default();
        if has_null(row, &columns) {
            if self.is_outer(port) {
                self.pad(port, row, out);
            }
            return Ok(());
        }
        if !self.spec.rowtime {
            self.now = self.clock.now();
        }
        let time = if self.spec.rowtime {
            row_time(row, if port == 0 { self.spec.left_time } else { self.spec.right_time })?
        } else {
            self.now
        };
        // Times of the other input that match.
        let (from, to) = if port == 0 {
            (time + self.spec.lower, time + self.spec.upper)
        } else {
            (time - self.spec.upper, time - self.spec.lower)
        };
        let mut key = Vec::new();
        codec::put_key(&mut key, row, &columns);
        let mut emitted = false;
        if self.expired.get(other).is_some_and(|&expired| expired < to) {
            let expiration = self.expiration(other);
            self.expired[other] = expiration;
            let candidates: Vec<(Vec<u8>, Waiting)> = self
                .caches
                .get(other)
                .map(|cache| {
                    cache.prefixed(&key).map(|(key, waiting)| (key.clone(), waiting.clone())).collect()
                })
                .unwrap_or_default();
            for (full, waiting) in candidates {
                let at = key_time(full.get(key.len()..).unwrap_or_default());
                let mut matched = waiting.mark;
                let (left, right) = if port == 0 { (row, &waiting.row) } else { (&waiting.row, row) };
                if at >= from && at <= to && fits(self.residual.as_ref(), &self.name, left, right)? {
                    out.row(RowKind::Insert, left.iter().chain(right.iter()).cloned().collect());
                    emitted = true;
                    matched = true;
                    if let Some(cache) = self.caches.get_mut(other) {
                        cache.mark(&full);
                    }
                }
                if at <= expiration {
                    if !matched && self.is_outer(other) {
                        self.pad(other, &waiting.row, out);
                    }
                    if let Some(cache) = self.caches.get_mut(other) {
                        cache.remove(&full);
                    }
                }
            }
        }
        if self.now < to {
            let full = [key.as_slice(), &time_key(time)].concat();
            let waiting = Waiting { kind: RowKind::Insert, mark: emitted, row: Row::clone(row) };
            if let Some(cache) = self.caches.get_mut(port) {
                cache.push(full, waiting);
            }
            if !self.timers.get(port).is_some_and(|timers| timers.contains_key(&key)) {
                self.schedule(port, key, time);
            }
        } else if !emitted && self.is_outer(port) {
            self.pad(port, row, out);
        }
        Ok(())
    }

    /// Runs the cleaning timers up to a time.
    fn clean(&mut self, now: i64, out: &mut Emitter) {
        self.now = now;
        while let Some(entry) = self.queue.first_entry() {
            let (at, port) = *entry.key();
            if at > now {
                break;
            }
            for key in entry.remove() {
                let expiration = self.expiration(port);
                self.expired[port] = expiration;
                let mut earliest = None;
                let rows: Vec<(Vec<u8>, Waiting)> = self
                    .caches
                    .get(port)
                    .map(|cache| {
                        cache.prefixed(&key).map(|(key, waiting)| (key.clone(), waiting.clone())).collect()
                    })
                    .unwrap_or_default();
                for (full, waiting) in rows {
                    let time = key_time(full.get(key.len()..).unwrap_or_default());
                    if time > expiration {
                        earliest.get_or_insert(time);
                        continue;
                    }
                    if !waiting.mark && self.is_outer(port) {
                        self.pad(port, &waiting.row, out);
                    }
                    if let Some(cache) = self.caches.get_mut(port) {
                        cache.remove(&full);
                    }
                }
                match earliest {
                    Some(time) => self.schedule(port, key, time),
                    None => {
                        if let Some(timers) = self.timers.get_mut(port) {
                            timers.remove(&key);
                        }
                    }
                }
            }
        }
    }
}

impl Operator for IntervalJoin {
    fn process(&mut self, port: usize, rows: &mut Vec<Change>, out: &mut Emitter) -> Result<(), EngineError> {
        for change in rows.drain(..) {
            self.change(port, &change.row, out)?;
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        if self.spec.rowtime {
            self.clean(watermark, out);
        }
        out.watermark(watermark);
        Ok(())
    }

    fn clock(&mut self, now: i64, out: &mut Emitter) -> Result<(), EngineError> {
        if !self.spec.rowtime {
            self.clean(now, out);
        }
        Ok(())
    }

    fn next_timer(&self) -> Option<i64> {
        if self.spec.rowtime { None } else { self.queue.first_key_value().map(|((at, _), _)| *at) }
    }
}

/// The version of the right row that was valid at the left row's time.
pub(super) struct TemporalJoin {
    name: String,
    spec: TemporalSpec,
    residual: Option<Evaluator>,
    left_keys: Vec<usize>,
    right_keys: Vec<usize>,
    right_width: usize,
    /// Left rows that wait for the watermark, by time.
    left: Buffer,
    /// Versions by key and time; a deletion is a version that is none.
    right: Buffer,
    /// Keys whose older versions can be forgotten when the watermark reaches a time.
    superseding: BTreeMap<i64, Vec<Vec<u8>>>,
}

impl TemporalJoin {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &TemporalSpec) -> Result<Self, EngineError> {
        Ok(Self {
            name: builder.node.name.clone(),
            residual: spec.residual.as_ref().map(|residual| builder.evaluator(residual)).transpose()?,
            left_keys: spec.on.iter().map(|on| on.0).collect(),
            right_keys: spec.on.iter().map(|on| on.1).collect(),
            right_width: builder.input(1)?.len(),
            left: Buffer::new(builder.table("left")?)?,
            right: Buffer::new(builder.table("right")?)?,
            superseding: BTreeMap::new(),
            spec: spec.clone(),
        })
    }

    /// The version of a key that is valid at a time.
    fn version(&self, key: &[u8], time: i64) -> Option<Row> {
        let upto = [key, &time_key(time)].concat();
        let versions = self
            .right
            .from(key)
            .take_while(|(known, _)| known.starts_with(key) && known.as_slice() <= upto.as_slice());
        let (_, last) = versions.last()?;
        last.kind.is_add().then(|| Row::clone(&last.row))
    }

    fn join(&self, waiting: &Waiting, time: i64, out: &mut Emitter) -> Result<(), EngineError> {
        let row = &waiting.row;
        let found = if has_null(row, &self.left_keys) {
            None
        } else {
            let mut key = Vec::new();
            codec::put_key(&mut key, row, &self.left_keys);
            match self.version(&key, time) {
                Some(version) if fits(self.residual.as_ref(), &self.name, row, &version)? => Some(version),
                _ => None,
            }
        };
        match found {
            Some(version) => out.row(waiting.kind, row.iter().chain(version.iter()).cloned().collect()),
            None if self.spec.kind == JoinKind::Left => {
                let nulls = std::iter::repeat_n(Value::Null, self.right_width);
                out.row(waiting.kind, row.iter().cloned().chain(nulls).collect());
            }
            None => {}
        }
        Ok(())
    }

    /// Forgets versions that are over: of each key the last one before the watermark stays.
    fn forget(&mut self, watermark: i64) {
        while let Some(entry) = self.superseding.first_entry() {
            if *entry.key() > watermark {
                break;
            }
            for key in entry.remove() {
                let upto = [key.as_slice(), &time_key(watermark.saturating_add(1))].concat();
                let of_key = self.right.prefixed(&key).map(|(known, _)| known);
                let mut over: Vec<Vec<u8>> = of_key.take_while(|known| **known < upto).cloned().collect();
                over.pop();
                over.iter().for_each(|known| {
                    self.right.remove(known);
                });
            }
        }
    }
}

impl Operator for TemporalJoin {
    fn process(
        &mut self,
        port: usize,
        rows: &mut Vec<Change>,
        _out: &mut Emitter,
    ) -> Result<(), EngineError> {
        for change in rows.drain(..) {
            let waiting = |change: Change| Waiting { kind: change.kind, mark: false, row: change.row };
            if port == 0 {
                let time = row_time(&change.row, self.spec.left_time)?;
                self.left.push(time_key(time).to_vec(), waiting(change));
            } else {
                let time = row_time(&change.row, self.spec.right_time)?;
                let mut key = Vec::new();
                codec::put_key(&mut key, &change.row, &self.right_keys);
                self.superseding.entry(time).or_default().push(key.clone());
                key.extend_from_slice(&time_key(time));
                self.right.put(key, waiting(change));
            }
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        while let Some(key) = self.left.first().filter(|key| key_time(key) <= watermark).map(<[u8]>::to_vec) {
            if let Some(waiting) = self.left.remove(&key) {
                self.join(&waiting, key_time(&key), out)?;
            }
        }
        self.forget(watermark);
        out.watermark(watermark);
        Ok(())
    }
}
