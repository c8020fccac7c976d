//! Joins and Top-N of rows that carry their window; what belongs to a window comes out when it is complete.

use std::collections::BTreeMap;

use super::super::codec;
use super::super::error::EngineError;
use super::super::eval::{Evaluator, Input};
use super::super::plan::{
    JoinKind, RankFunction, WindowInput, WindowJoin as JoinSpec, WindowRank as RankSpec,
};
use super::super::row::{Change, Row, RowKind, Value};
use super::buffer::{Waiting, key_time, put_sort_key, row_time, time_key};
use super::row::failed;
use super::share::FindKey;
use super::time::Zone;
use super::timed::TimedRows;
use super::windowed::Windowed;
use super::{Builder, Emitter};

/// The window columns of an input.
#[derive(Clone, Copy)]
struct Columns {
    end: usize,
    zone: Zone,
    rowtime: bool,
}

impl Columns {
    fn new(builder: &Builder<'_>, window: &WindowInput) -> Result<Self, EngineError> {
        match window {
            WindowInput::Attached { end, rowtime, ltz, .. } => Ok(Self {
                end: *end,
                zone: Zone { zone: builder.context.zone, ltz: *ltz },
                rowtime: *rowtime,
            }),
            WindowInput::Assign(_) => {
                Err(EngineError::Plan("a window join or rank needs window columns".to_owned()))
            }
        }
    }
}

/// The join key of a waiting row: between window end and input, and the number of arrival.
fn join_key(key: &[u8]) -> &[u8] {
    key.get(9..key.len().saturating_sub(8)).unwrap_or_default()
}

/// Joins the rows of each window.
pub(super) struct WindowJoin {
    name: String,
    kind: JoinKind,
    keys: [Vec<usize>; 2],
    residual: Option<Evaluator>,
    windows: [Columns; 2],
    widths: [usize; 2],
    /// Rows by window end, input, join key.
    rows: TimedRows,
    watermark: i64,
}

impl WindowJoin {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &JoinSpec) -> Result<Self, EngineError> {
        Ok(Self {
            name: builder.node.name.clone(),
            kind: spec.kind,
            keys: [spec.on.iter().map(|on| on.0).collect(), spec.on.iter().map(|on| on.1).collect()],
            residual: spec.residual.as_ref().map(|residual| builder.evaluator(residual)).transpose()?,
            windows: [Columns::new(builder, &spec.left)?, Columns::new(builder, &spec.right)?],
            widths: [builder.input(0)?.len(), builder.input(1)?.len()],
            rows: TimedRows::new(
                builder,
                "rows",
                Box::new(|key, _, out| out.extend_from_slice(join_key(key))),
            )?,
            watermark: i64::MIN,
        })
    }

    fn padded(&self, port: usize, row: &Row) -> Row {
        let nulls = std::iter::repeat_n(Value::Null, self.widths.get(1 - port).copied().unwrap_or(0));
        match (self.kind, port) {
            (JoinKind::Semi | JoinKind::Anti, _) => Row::clone(row),
            (_, 0) => row.iter().cloned().chain(nulls).collect(),
            _ => nulls.chain(row.iter().cloned()).collect(),
        }
    }

    /// Joins the rows of the windows with one end.
    fn join(&self, end: i64, sides: &[Vec<(Vec<u8>, Row)>; 2], out: &mut Emitter) -> Result<(), EngineError> {
        let (end, [left, right]) = (time_key(end), sides);
        let mut by_key: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
        for (at, (key, row)) in right.iter().enumerate() {
            if !self.has_null(1, row) {
                by_key.entry(key).or_default().push(at);
            }
        }
        let mut matched_right = vec![false; right.len()];
        for (key, row) in left {
            out.order(&[&end, &[0], key]);
            let mut matched = false;
            let partners = if self.has_null(0, row) { None } else { by_key.get(key.as_slice()) };
            for &at in partners.into_iter().flatten() {
                let Some((_, partner)) = right.get(at) else { continue };
                let fits = match &self.residual {
                    Some(residual) => residual
                        .is_true(Input::pair(row, partner))
                        .map_err(|error| failed(&self.name, error))?,
                    None => true,
                };
                if !fits {
                    continue;
                }
                matched = true;
                if let Some(mark) = matched_right.get_mut(at) {
                    *mark = true;
                }
                if matches!(self.kind, JoinKind::Semi | JoinKind::Anti) {
                    break;
                }
                out.row(RowKind::Insert, row.iter().chain(partner.iter()).cloned().collect());
            }
            let lone = match self.kind {
                JoinKind::Semi => matched,
                JoinKind::Anti | JoinKind::Left | JoinKind::Full => !matched,
                JoinKind::Inner | JoinKind::Right => false,
            };
            if lone {
                out.row(RowKind::Insert, self.padded(0, row));
            }
        }
        if matches!(self.kind, JoinKind::Right | JoinKind::Full) {
            for ((key, row), _) in right.iter().zip(&matched_right).filter(|(_, matched)| !**matched) {
                out.order(&[&end, &[1], key]);
                out.row(RowKind::Insert, self.padded(1, row));
            }
        }
        Ok(())
    }

    fn has_null(&self, port: usize, row: &Row) -> bool {
        let mut keys = self.keys.get(port).into_iter().flatten();
        keys.any(|&column| row.get(column).is_none_or(Value::is_null))
    }
}

impl Windowed for WindowJoin {
    fn collect(
        &mut self,
        port: usize,
        rows: &mut Vec<Change>,
        _out: &mut Emitter,
    ) -> Result<(), EngineError> {
        let (Some(window), Some(keys)) = (self.windows.get(port), self.keys.get(port)) else { return Ok(()) };
        for change in rows.drain(..) {
            let end = row_time(&change.row, window.end)?;
            if window.rowtime && window.zone.fires_at(end) <= self.watermark {
                continue;
            }
            let mut key = time_key(end).to_vec();
            key.push(u8::from(port == 1));
            codec::put_key(&mut key, &change.row, keys);
            self.rows.push(key, Waiting::new(change.kind, change.row));
        }
        Ok(())
    }

    fn by_watermark(&self) -> bool {
        self.windows[0].rowtime
    }

    fn fire(&mut self, reached: i64, out: &mut Emitter) -> Result<(), EngineError> {
        let zone = self.windows[0].zone;
        while let Some(end) = self.rows.first().map(key_time).filter(|&end| zone.fires_at(end) <= reached) {
            let mut sides: [Vec<(Vec<u8>, Row)>; 2] = [Vec::new(), Vec::new()];
            for (key, waiting) in self.rows.drain(&time_key(end))? {
                let port = usize::from(key.get(8) == Some(&1));
                if let Some(side) = sides.get_mut(port) {
                    side.push((join_key(&key).to_vec(), waiting.row));
                }
            }
            self.join(end, &sides, out)?;
        }
        Ok(())
    }

    fn passed(&mut self, watermark: i64) {
        self.watermark = watermark;
    }

    fn next_end(&self) -> Option<i64> {
        self.rows.first().map(|key| self.windows[0].zone.fires_at(key_time(key)))
    }

    fn write(&mut self) -> Result<(), EngineError> {
        self.rows.flush()
    }
}

/// The first rows of each window and partition.
pub(super) struct WindowRank {
    spec: RankSpec,
    window: Columns,
    /// Rows by window end, partition, order.
    rows: TimedRows,
    watermark: i64,
}

impl WindowRank {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &RankSpec) -> Result<Self, EngineError> {
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
            watermark: i64::MIN,
        })
    }
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
            if self.window.rowtime && self.window.zone.fires_at(end) <= self.watermark {
                continue;
            }
            let mut key = time_key(end).to_vec();
            codec::put_key(&mut key, &change.row, &self.spec.partition);
            put_sort_key(&mut key, &change.row, &self.spec.order);
            if self.spec.last_wins {
                // One row per sort key: the later one.
                self.rows.drain(&key)?;
            }
            self.rows.push(key, Waiting::new(change.kind, change.row));
        }
        Ok(())
    }

    fn by_watermark(&self) -> bool {
        self.window.rowtime
    }

    fn fire(&mut self, reached: i64, out: &mut Emitter) -> Result<(), EngineError> {
        let zone = self.window.zone;
        while let Some(end) = self.rows.first().map(key_time).filter(|&end| zone.fires_at(end) <= reached) {
            let end = time_key(end);
            let mut partition: Vec<u8> = Vec::new();
            let mut rank: u64 = 0;
            for (_, waiting) in self.rows.drain(&end)? {
                let mut key = Vec::new();
                codec::put_key(&mut key, &waiting.row, &self.spec.partition);
                if key != partition || rank == 0 {
                    out.order(&[&end, &key]);
                    partition = key;
                    rank = 0;
                }
                rank += 1;
                if rank >= self.spec.from && rank <= self.spec.to {
                    let rank = i64::try_from(rank).unwrap_or(i64::MAX);
                    let rank = self.spec.emit_rank.then_some(Value::Int(rank));
                    out.row(RowKind::Insert, waiting.row.iter().cloned().chain(rank).collect());
                }
            }
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
        self.rows.flush()
    }
}
