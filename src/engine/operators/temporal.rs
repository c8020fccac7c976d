//! Joins with the version that was valid at a time.

use super::super::codec;
use super::super::error::EngineError;
use super::super::eval::{Evaluator, Input};
use super::super::plan::{JoinKind, TemporalJoin as Spec};
use super::super::row::{Change, Row, RowKind, Value};
use super::buffer::{Waiting, key_time, row_time, time_key};
use super::keyed::KeyedRows;
use super::row::failed;
use super::share::{FindKey, behind_time};
use super::timed::TimedRows;
use super::{Builder, Emitter, Operator};

/// Whether a pair fulfils the further condition of a join.
pub(super) fn fits(
    residual: Option<&Evaluator>,
    name: &str,
    left: &Row,
    right: &Row,
) -> Result<bool, EngineError> {
    match residual {
        Some(residual) => residual.is_true(Input::pair(left, right)).map_err(|error| failed(name, error)),
        None => Ok(true),
    }
}

/// Whether one of a row's key columns is NULL.
pub(super) fn has_null(row: &Row, keys: &[usize]) -> bool {
    keys.iter().any(|&column| row.get(column).is_none_or(Value::is_null))
}

/// The version of the right row that was valid at the left row's time.
pub(super) struct TemporalJoin {
    name: String,
    spec: Spec,
    residual: Option<Evaluator>,
    left_keys: Vec<usize>,
    right_keys: Vec<usize>,
    right_width: usize,
    /// Left rows that wait for the watermark, by time.
    left: TimedRows,
    /// Versions by key, then time; a deletion is a version that is none.
    right: KeyedRows,
    /// Keys whose older versions can be forgotten when the watermark reaches a time: by time, then key.
    superseding: TimedRows,
}

impl TemporalJoin {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        let left_keys: Vec<usize> = spec.on.iter().map(|on| on.0).collect();
        let columns = left_keys.clone();
        let key_of_left: Box<FindKey> =
            Box::new(move |_, waiting, key| codec::put_key(key, &waiting.row, &columns));
        Ok(Self {
            name: builder.node.name.clone(),
            residual: spec.residual.as_ref().map(|residual| builder.evaluator(residual)).transpose()?,
            left_keys,
            right_keys: spec.on.iter().map(|on| on.1).collect(),
            right_width: builder.input(1)?.len(),
            left: TimedRows::new(builder, "left", key_of_left)?,
            right: KeyedRows::new(builder, "right")?,
            superseding: TimedRows::new(builder, "superseding", Box::new(behind_time))?,
            spec: spec.clone(),
        })
    }

    /// The version of a key that is valid at a time.
    fn version(&mut self, key: &[u8], time: i64) -> Result<Option<Row>, EngineError> {
        let versions = self.right.get(key)?;
        let found = versions.last_upto(&time_key(time)).map(|(_, version)| version);
        Ok(found.filter(|version| version.kind.is_add()).map(|version| Row::clone(&version.row)))
    }

    fn join(&mut self, waiting: &Waiting, time: i64, out: &mut Emitter) -> Result<(), EngineError> {
        let row = &waiting.row;
        let found = if has_null(row, &self.left_keys) {
            None
        } else {
            let mut key = Vec::new();
            codec::put_key(&mut key, row, &self.left_keys);
            match self.version(&key, time)? {
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
    fn forget(&mut self, watermark: i64) -> Result<(), EngineError> {
        while let Some((entry, _)) = self.superseding.pop(|key| key_time(key) <= watermark)? {
            let versions = self.right.edit(entry.get(8..).unwrap_or_default())?;
            let valid = versions.last_upto(&time_key(watermark)).map(|(at, _)| at.clone());
            while versions.pop(|at| valid.as_ref().is_some_and(|valid| at < valid.as_slice())).is_some() {}
        }
        Ok(())
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
            if port == 0 {
                let time = row_time(&change.row, self.spec.left_time)?;
                self.left.push(time_key(time).to_vec(), Waiting::new(change.kind, change.row));
            } else {
                let time = row_time(&change.row, self.spec.right_time)?;
                let mut key = Vec::new();
                codec::put_key(&mut key, &change.row, &self.right_keys);
                let versions = self.right.edit(&key)?;
                versions.put(time_key(time).to_vec(), Waiting::new(change.kind, change.row));
                let entry = [time_key(time).as_slice(), &key].concat();
                self.superseding.put(entry, Waiting::new(RowKind::Insert, Row::from([])));
            }
        }
        Ok(())
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        while let Some((key, waiting)) = self.left.pop(|key| key_time(key) <= watermark)? {
            out.order(&[&key]);
            self.join(&waiting, key_time(&key), out)?;
        }
        self.forget(watermark)?;
        out.watermark(watermark);
        Ok(())
    }

    fn number(&mut self, number: u64) {
        self.left.set_number(number);
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.left.flush()?;
        self.right.flush();
        self.superseding.flush()
    }
}
