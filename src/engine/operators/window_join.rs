//! Joins of rows that carry their window; what belongs to a window comes out when it is complete.

use super::super::codec;
use super::super::error::EngineError;
use super::super::eval::{Evaluator, Input};
use super::super::plan::{JoinKind, WindowInput, WindowJoin as JoinSpec};
use super::super::row::{Change, Row, RowKind, Value};
use super::buffer::{Waiting, key_time, row_time, time_key};
use super::row::failed;
use super::time::Zone;
use super::timed::TimedRows;
use super::windowed::Windowed;
use super::{Builder, Emitter};

/// The window columns of an input.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub end: usize,
    pub zone: Zone,
    pub rowtime: bool,
}

impl Columns {
    pub(super) fn new(builder: &Builder<'_>, window: &WindowInput) -> Result<Self, EngineError> {
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

    /// Joins the first input's rows of a window and a join key, which stand under `group`.
    fn join(&mut self, group: &[u8], out: &mut Emitter) -> Result<(), EngineError> {
        let (end, join_key) = (group.get(..8).unwrap_or_default(), group.get(9..).unwrap_or_default());
        let mut partners = None;
        while let Some((_, Waiting { row, .. })) = self.rows.pop(|key| key.starts_with(group))? {
            // What has the key of one row has that of all.
            let partners = match &mut partners {
                Some(partners) => partners,
                None if self.has_null(0, &row) => partners.insert(Vec::new()),
                None => partners.insert(self.rows.drain(&[end, &[1], join_key].concat())?),
            };
            out.order(&[end, &[0], join_key]);
            let mut matched = false;
            for (_, partner) in partners {
                let fits = match &self.residual {
                    Some(residual) => residual
                        .is_true(Input::pair(&row, &partner.row))
                        .map_err(|error| failed(&self.name, error))?,
                    None => true,
                };
                if !fits {
                    continue;
                }
                matched = true;
                partner.mark = true;
                if matches!(self.kind, JoinKind::Semi | JoinKind::Anti) {
                    break;
                }
                out.row(RowKind::Insert, row.iter().chain(partner.row.iter()).cloned().collect());
            }
            let lone = match self.kind {
                JoinKind::Semi => matched,
                JoinKind::Anti | JoinKind::Left | JoinKind::Full => !matched,
                JoinKind::Inner | JoinKind::Right => false,
            };
            if lone {
                out.row(RowKind::Insert, self.padded(0, &row));
            }
        }
        // Those without a partner come out behind all rows of the first input.
        if self.keeps_right() {
            let alone = partners.into_iter().flatten().filter(|(_, partner)| !partner.mark);
            alone.for_each(|(key, partner)| self.rows.put(key, partner));
        }
        Ok(())
    }

    /// Whether rows of the second input survive without a partner.
    fn keeps_right(&self) -> bool {
        matches!(self.kind, JoinKind::Right | JoinKind::Full)
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
        // Of each window the first input's rows come first, those of one join key after the other; then those that are
        // left of the second.
        while let Some(key) = self.rows.first().filter(|key| zone.fires_at(key_time(key)) <= reached) {
            if key.get(8) == Some(&0) {
                let group = key.get(..key.len().saturating_sub(8)).unwrap_or_default().to_vec();
                self.join(&group, out)?;
            } else if let Some((key, waiting)) = self.rows.pop(|_| true)?
                && self.keeps_right()
            {
                out.order(&[key.get(..8).unwrap_or_default(), &[1], join_key(&key)]);
                out.row(RowKind::Insert, self.padded(1, &waiting.row));
            }
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
