//! What instances gave, put together.

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use super::super::super::error::EngineError;
use super::super::super::row::Change;
use super::super::Emitter;
use super::super::emitter::Mark;
use super::super::timers::Timers;
use super::instance::{End, Instance};

/// What an instance gave, as it is taken over.
pub(super) struct Given<'a> {
    instance: MutexGuard<'a, Instance>,
    rows: std::vec::IntoIter<Change>,
    /// Rows and timers that have been taken.
    taken: usize,
    taken_timers: usize,
    ends: std::vec::IntoIter<End>,
    timers: std::vec::IntoIter<(i64, Box<[u8]>)>,
    marks: Vec<Mark>,
    keys: Vec<u8>,
    /// The mark of the next row.
    mark: usize,
}

impl<'a> Given<'a> {
    pub(super) fn take(instance: &'a Mutex<Instance>) -> Self {
        let mut instance = instance.lock();
        let rows =
            if instance.emitter.len() == 0 { Vec::new() } else { std::mem::take(instance.emitter.rows()) };
        let ends = std::mem::take(&mut instance.ends).into_iter();
        let notes = instance.emitter.notes().map(std::mem::take).unwrap_or_default();
        Self {
            instance,
            rows: rows.into_iter(),
            taken: 0,
            taken_timers: 0,
            ends,
            timers: notes.timers.into_iter(),
            marks: notes.marks,
            keys: notes.keys,
            mark: 0,
        }
    }

    /// Whether the instance has done its next item.
    fn is_ready(&mut self) -> Result<bool, EngineError> {
        if !self.ends.as_slice().is_empty() {
            return Ok(true);
        }
        self.instance.failure.take().map_or(Ok(false), Err)
    }

    fn hand_on(&mut self, end: usize, out: &mut Vec<Change>) {
        out.extend(self.rows.by_ref().take(end.saturating_sub(self.taken)));
        self.taken = end;
    }

    /// Hands on what came of the instance's next item, a row, if it is done.
    pub(super) fn hand_on_one(
        &mut self,
        timers: &mut Timers<Box<[u8]>>,
        out: &mut Emitter,
    ) -> Result<bool, EngineError> {
        let ready = self.is_ready()?;
        if let Some(end) = self.ends.next() {
            let set = self.timers.by_ref().take(end.timers.saturating_sub(self.taken_timers));
            set.for_each(|(time, key)| timers.push(time, key));
            self.taken_timers = end.timers;
            if end.rows > self.taken {
                self.hand_on(end.rows, out.rows());
            }
        }
        Ok(ready)
    }

    /// The key of the next row.
    fn key(&self) -> &[u8] {
        let mark = self.marks.get(self.mark).filter(|mark| mark.at <= self.taken);
        mark.and_then(|mark| self.keys.get(mark.key.clone())).unwrap_or_default()
    }

    /// Goes on to the last of the marks that the next row stands behind.
    fn find_mark(&mut self) {
        while self.marks.get(self.mark + 1).is_some_and(|next| next.at <= self.taken) {
            self.mark += 1;
        }
    }

    /// Hands on the rows of one key, at most up to an end.
    fn hand_on_key(&mut self, end: usize, out: &mut Vec<Change>) {
        let next = self.marks.iter().skip(self.mark).map(|mark| mark.at).find(|at| *at > self.taken);
        self.hand_on(next.map_or(end, |next| next.min(end)), out);
    }

    /// Gives back what was not taken.
    pub(super) fn leave(self) {
        let Self { mut instance, rows, taken, taken_timers, ends, timers, marks, keys, .. } = self;
        if !rows.as_slice().is_empty() {
            *instance.emitter.rows() = rows.collect();
            if let Some(notes) = instance.emitter.notes() {
                let marks = marks.into_iter();
                notes.marks = marks.map(|mark| Mark { at: mark.at.saturating_sub(taken), ..mark }).collect();
                notes.keys = keys;
            }
        }
        if let Some(notes) = instance.emitter.notes() {
            notes.timers = timers.collect();
        }
        let left = |end: End| End { rows: end.rows - taken, timers: end.timers - taken_timers, ..end };
        instance.ends = ends.map(left).collect();
    }
}

/// Hands on what came of a watermark, or a time of the clock, that all instances were given, if all have done it: in
/// the order of the timers that are due where there are any, else of the keys.
pub(super) fn hand_on_all(
    given: &mut [Given<'_>],
    timers: &mut Timers<Box<[u8]>>,
    reached: i64,
    out: &mut Emitter,
) -> Result<bool, EngineError> {
    for one in given.iter_mut() {
        if !one.is_ready()? {
            return Ok(false);
        }
    }
    let mut watermark = None;
    let mut left = Vec::new();
    for (at, one) in given.iter_mut().enumerate() {
        let Some(end) = one.ends.next() else { continue };
        watermark = watermark.or(end.watermark);
        if end.rows > one.taken {
            left.push((at, end.rows));
        }
    }
    let mut due: HashMap<Box<[u8]>, usize, RandomState> = HashMap::default();
    while let Some((_, key)) = timers.pop_due(reached) {
        let place = due.len();
        due.insert(key, place);
    }
    match left.as_slice() {
        [] => {}
        _ if !due.is_empty() => hand_on_by_timer(given, &left, &due, out.rows()),
        _ => hand_on_by_key(given, left, out.rows()),
    }
    if let Some(watermark) = watermark {
        out.watermark(watermark);
    }
    Ok(true)
}

fn hand_on_by_timer(
    given: &mut [Given<'_>],
    left: &[(usize, usize)],
    due: &HashMap<Box<[u8]>, usize, RandomState>,
    out: &mut Vec<Change>,
) {
    let mut parts: Vec<(usize, Vec<Change>)> = Vec::new();
    for &(at, end) in left {
        let Some(one) = given.get_mut(at) else { continue };
        while one.taken < end {
            one.find_mark();
            let place = due.get(one.key()).copied().unwrap_or(usize::MAX);
            let mut rows = Vec::new();
            one.hand_on_key(end, &mut rows);
            parts.push((place, rows));
        }
    }
    parts.sort_by_key(|(place, _)| *place);
    out.extend(parts.into_iter().flat_map(|(_, rows)| rows));
}

fn hand_on_by_key(given: &mut [Given<'_>], mut left: Vec<(usize, usize)>, out: &mut Vec<Change>) {
    while left.len() > 1 {
        given.iter_mut().for_each(Given::find_mark);
        let next = left.iter().enumerate().min_by_key(|(_, (at, _))| given.get(*at).map(Given::key));
        let Some((place, &(at, end))) = next else { return };
        if let Some(one) = given.get_mut(at) {
            one.hand_on_key(end, out);
            if one.taken == end {
                left.remove(place);
            }
        }
    }
    for (at, end) in left {
        given.get_mut(at).into_iter().for_each(|one| one.hand_on(end, out));
    }
}
