//! Window table functions.

use super::super::codec;
use super::super::error::EngineError;
use super::super::plan::{Window, WindowKind};
use super::super::row::{Change, Row, RowKind};
use super::super::types::{Field, TypeKind};
use super::buffer::{Waiting, key_time, row_time, time_key, timestamp};
use super::keyed::{KeyedRows, Partition};
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
    /// By partition, then time.
    rows: KeyedRows,
    /// When a session may be complete: a gap behind each row, by wall clock, then partition.
    ends: TimedRows,
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

/// Where the session ends that a row of this time is in: behind the rows that follow, up to the first gap.
fn session_end(rows: &Partition, time: i64, gap: i64) -> i64 {
    let mut end = time.saturating_add(gap);
    for (key, _) in rows.from(&time_key(time)) {
        let next = key_time(key);
        if next > end {
            break;
        }
        end = end.max(next.saturating_add(gap));
    }
    end
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
                let end = local.saturating_add(sessions.gap);
                let mut key = Vec::new();
                codec::put_key(&mut key, &change.row, &sessions.partition);
                if self.window.rowtime && self.zone.fires_at(end) <= self.watermark {
                    // Late by itself: it counts where it joins a session that is still open.
                    let end = session_end(sessions.rows.get(&key)?, local, sessions.gap);
                    if self.zone.fires_at(end) <= self.watermark {
                        continue;
                    }
                }
                let rows = sessions.rows.edit(&key)?;
                rows.push(time_key(local).to_vec(), Waiting::new(change.kind, change.row));
                let end = [time_key(end).as_slice(), &key].concat();
                sessions.ends.put(end, Waiting::new(RowKind::Insert, Row::from([])));
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
        while let Some((key, _)) = sessions.ends.pop(|key| zone.fires_at(key_time(key)) <= reached)? {
            out.order(&[&key]);
            let rows = sessions.rows.edit(key.get(8..).unwrap_or_default())?;
            // The first session of the partition: up to the first gap.
            loop {
                let Some(start) = rows.iter().next().map(|(key, _)| key_time(key)) else { break };
                let mut end = start.saturating_add(sessions.gap);
                for (key, _) in rows.iter() {
                    let time = key_time(key);
                    if time > end {
                        break;
                    }
                    end = end.max(time.saturating_add(sessions.gap));
                }
                if zone.fires_at(end) > reached {
                    break;
                }
                while let Some((_, waiting)) = rows.pop(|key| key_time(key) < end) {
                    out.row(waiting.kind, windowed(*zone, &waiting.row, (start, end)));
                }
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
