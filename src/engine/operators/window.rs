//! Window table functions.

use super::super::codec;
use super::super::error::EngineError;
use super::super::plan::{Window, WindowKind};
use super::super::row::{Change, Row, RowKind};
use super::super::types::{Field, TypeKind};
use super::buffer::{Waiting, key_sequence, key_time, row_time, time_key, timestamp};
use super::keyed::KeyedRows;
use super::share::behind_time;
use super::time::{Span, Zone, assign};
use super::timed::TimedRows;
use super::windowed::Windowed;
use super::{Builder, Emitter};

/// Whether a column of an input is TIMESTAMP_LTZ.
pub(super) fn is_ltz(input: &[Field], column: usize) -> bool {
    input.get(column).is_some_and(|field| matches!(field.data_type.kind, TypeKind::TimestampLtz(_)))
}

/// Appends a row's windows. Sessions wait until they are complete.
pub(super) struct WindowTvf {
    window: Window,
    zone: Zone,
    clock: std::sync::Arc<dyn super::super::graph::Clock>,
    sessions: Option<Sessions>,
    watermark: i64,
}

/// Rows of sessions that may still grow.
struct Sessions {
    gap: i64,
    partition: Vec<usize>,
    /// By partition, then time. The tag is what is known of the end of a partition's first session: it lasts so long at
    /// least.
    rows: KeyedRows,
    /// The same, by wall clock, then partition.
    ends: TimedRows,
}

fn end_key(end: i64, partition: &[u8]) -> Vec<u8> {
    [time_key(end).as_slice(), partition].concat()
}

impl Sessions {
    /// Takes in a row, and what it says of the end of the first session.
    fn add(&mut self, key: &[u8], time: i64, change: Change) -> Result<(), EngineError> {
        let rows = self.rows.edit(key)?;
        let first = rows.iter().next().map(|(key, _)| key_time(key));
        let end = time.saturating_add(self.gap);
        // Of a row that extends the first session nobody needs to know before that may have ended.
        let known = rows.tag().filter(|_| first.is_some_and(|first| end >= first));
        rows.push(time_key(time).to_vec(), Waiting::new(change.kind, change.row));
        if known.is_none() {
            if let Some(later) = rows.tag() {
                self.ends.remove(&end_key(later, key))?;
            }
            self.expect(key, end)?;
        }
        Ok(())
    }

    /// Says when a partition's first session may end.
    fn expect(&mut self, key: &[u8], end: i64) -> Result<(), EngineError> {
        self.rows.edit(key)?.set_tag(Some(end));
        self.ends.put(end_key(end, key), Waiting::new(RowKind::Insert, Row::from([])));
        Ok(())
    }

    /// The end of a partition's first session, of which it is known that it lasts until `known`: looks at the rows
    /// behind only, and no further than `enough` says.
    fn first_end(
        &mut self,
        key: &[u8],
        known: i64,
        enough: impl Fn(i64) -> bool,
    ) -> Result<i64, EngineError> {
        let rows = self.rows.get(key)?;
        let mut end = known;
        for (key, _) in rows.from(&time_key(known.saturating_sub(self.gap))) {
            let time = key_time(key);
            if time > end || enough(end) {
                break;
            }
            end = end.max(time.saturating_add(self.gap));
        }
        Ok(end)
    }
}

impl WindowTvf {
    pub(super) fn new(builder: &mut Builder<'_>, window: &Window) -> Result<Self, EngineError> {
        let sessions = match &window.kind {
            WindowKind::Session { gap, partition } => Some(Sessions {
                gap: *gap,
                partition: partition.clone(),
                rows: KeyedRows::new(builder, "sessions")?,
                ends: TimedRows::new(builder, "ends", Box::new(behind_time))?,
            }),
            _ => None,
        };
        Ok(Self {
            window: window.clone(),
            zone: Zone { zone: builder.context.zone, ltz: is_ltz(builder.input(0)?, window.time) },
            clock: std::sync::Arc::clone(&builder.context.clock),
            sessions,
            watermark: i64::MIN,
        })
    }
}

fn windowed(zone: Zone, row: &Row, (start, end): Span) -> Row {
    let columns = [timestamp(start), timestamp(end), zone.window_time(end)];
    row.iter().cloned().chain(columns).collect()
}

impl Windowed for WindowTvf {
    fn collect(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        for change in rows.drain(..) {
            let time =
                if self.window.rowtime { row_time(&change.row, self.window.time)? } else { self.clock.now() };
            let local = self.zone.local(time);
            if let Some(sessions) = &mut self.sessions {
                let mut key = Vec::new();
                codec::put_key(&mut key, &change.row, &sessions.partition);
                let end = local.saturating_add(sessions.gap);
                if self.window.rowtime && self.zone.fires_at(end) <= self.watermark {
                    // Late by itself: it counts where it joins a session that is still open, and that is the first.
                    let first = sessions.rows.get(&key)?.iter().next().map(|(key, _)| key_time(key));
                    if first.is_none_or(|first| end < first) {
                        continue;
                    }
                }
                sessions.add(&key, local, change)?;
                continue;
            }
            for span in assign(&self.window.kind, local) {
                let row = windowed(self.zone, &change.row, span);
                out.row(change.kind, row);
            }
        }
        Ok(())
    }

    fn by_watermark(&self) -> bool {
        self.window.rowtime
    }

    fn fire(&mut self, reached: i64, out: &mut Emitter) -> Result<(), EngineError> {
        let Self { sessions: Some(sessions), zone, .. } = self else { return Ok(()) };
        let is_due = |end: i64| zone.fires_at(end) <= reached;
        while let Some((due, _)) = sessions.ends.pop(|key| is_due(key_time(key)))? {
            let known = key_time(&due);
            let key = due.get(8..).unwrap_or_default();
            let end = sessions.first_end(key, known, |end| !is_due(end))?;
            if end != known {
                // In the order of their ends.
                sessions.expect(key, end)?;
                continue;
            }
            let rows = sessions.rows.edit(key)?;
            let Some(start) = rows.iter().next().map(|(key, _)| key_time(key)) else { continue };
            let mut session = Vec::new();
            while let Some(row) = rows.pop(|key| key_time(key) <= end) {
                session.push(row);
            }
            let next = rows.iter().next().map(|(key, _)| key_time(key));
            rows.set_tag(None);
            // As they came.
            session.sort_unstable_by_key(|(key, _)| key_sequence(key));
            out.order(&[&due]);
            for (_, waiting) in session {
                out.row(waiting.kind, windowed(*zone, &waiting.row, (start, end)));
            }
            if let Some(next) = next {
                sessions.expect(key, next.saturating_add(sessions.gap))?;
            }
        }
        Ok(())
    }

    fn passed(&mut self, watermark: i64) {
        self.watermark = watermark;
    }

    fn next_end(&self) -> Option<i64> {
        let end = self.sessions.as_ref()?.ends.first()?;
        Some(self.zone.fires_at(key_time(end)))
    }

    fn write(&mut self) -> Result<(), EngineError> {
        if let Some(sessions) = &mut self.sessions {
            sessions.rows.flush();
            sessions.ends.flush()?;
        }
        Ok(())
    }
}
