//! INTERSECT, EXCEPT, UNNEST, and lookup joins.

use super::super::codec::{self, Reader};
use super::super::error::EngineError;
use super::super::eval::{Evaluator, Input};
use super::super::graph::Lookup;
use super::super::plan::{JoinKind, LookupJoin as LookupSpec, Unnest as UnnestSpec};
use super::super::row::{Change, Row, RowKind, Value};
use super::row::failed;
use super::{Builder, Emitter, Operator};
use crate::state::{StateError, StateTable};

/// Counts of equal rows of both inputs.
pub(super) struct SetOp {
    intersect: bool,
    all: bool,
    table: Box<dyn StateTable>,
    key: Vec<u8>,
}

impl SetOp {
    pub(super) fn new(builder: &mut Builder<'_>, intersect: bool, all: bool) -> Result<Self, EngineError> {
        Ok(Self { intersect, all, table: builder.expiring_table("counts", None)?, key: Vec::new() })
    }

    /// How often a row with these counts is in the result.
    fn copies(&self, left: i64, right: i64) -> i64 {
        match (self.intersect, self.all) {
            (true, true) => left.min(right).max(0),
            (true, false) => i64::from(left > 0 && right > 0),
            (false, true) => (left - right.max(0)).max(0),
            (false, false) => i64::from(left > 0 && right <= 0),
        }
    }
}

impl Operator for SetOp {
    fn process(&mut self, port: usize, rows: &mut Vec<Change>, out: &mut Emitter) -> Result<(), EngineError> {
        for change in rows.drain(..) {
            self.key.clear();
            change.row.iter().for_each(|value| codec::put_key_value(&mut self.key, value));
            let (mut left, mut right) = match self.table.get(&self.key)? {
                Some(bytes) => {
                    let mut reader = Reader::new(&bytes);
                    let mut count = || {
                        reader.signed().map_err(|error| StateError::Corrupt {
                            table: "counts of a set operation".to_owned(),
                            what: error.to_string(),
                        })
                    };
                    (count()?, count()?)
                }
                None => (0, 0),
            };
            let before = self.copies(left, right);
            *(if port == 0 { &mut left } else { &mut right }) += if change.kind.is_add() { 1 } else { -1 };
            let after = self.copies(left, right);
            if left == 0 && right == 0 {
                self.table.delete(&self.key);
            } else {
                let mut bytes = Vec::new();
                codec::put_signed(&mut bytes, left);
                codec::put_signed(&mut bytes, right);
                self.table.put(&self.key, &bytes);
            }
            let kind = if after > before { RowKind::Insert } else { RowKind::Delete };
            for _ in 0..(after - before).abs() {
                out.row(kind, Row::clone(&change.row));
            }
        }
        Ok(())
    }
}

/// One row per element of a collection.
pub(super) struct Unnest {
    name: String,
    collection: Evaluator,
    outer: bool,
    ordinality: bool,
    condition: Option<Evaluator>,
    /// Columns that an element gives.
    width: usize,
}

impl Unnest {
    pub(super) fn new(builder: &Builder<'_>, spec: &UnnestSpec) -> Result<Self, EngineError> {
        let width = builder.node.schema.len().saturating_sub(builder.input(0)?.len());
        Ok(Self {
            name: builder.node.name.clone(),
            collection: builder.evaluator(&spec.collection)?,
            outer: spec.outer,
            ordinality: spec.ordinality,
            condition: spec.condition.as_ref().map(|condition| builder.evaluator(condition)).transpose()?,
            width: width.saturating_sub(usize::from(spec.ordinality)),
        })
    }

    /// The row with an element's columns; position 0: with none.
    fn row(&self, change: &Change, mut element: Vec<Value>, position: i64) -> Row {
        element.resize(self.width, Value::Null);
        let position = if position == 0 { Value::Null } else { Value::Int(position) };
        let position = self.ordinality.then_some(position);
        change.row.iter().cloned().chain(element).chain(position).collect()
    }

    /// Hands on a row with an element, if it meets the condition; says whether it does.
    fn emit(
        &self,
        change: &Change,
        element: Vec<Value>,
        position: i64,
        out: &mut Vec<Change>,
    ) -> Result<bool, EngineError> {
        let row = self.row(change, element, position);
        if let Some(condition) = &self.condition
            && !condition.is_true(Input::row(&row)).map_err(|error| failed(&self.name, error))?
        {
            return Ok(false);
        }
        out.push(Change { kind: change.kind, row });
        Ok(true)
    }
}

impl Operator for Unnest {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        let out = out.rows();
        for change in rows.drain(..) {
            let collection =
                self.collection.eval(Input::row(&change.row)).map_err(|error| failed(&self.name, error))?;
            let (mut position, mut joined) = (0, false);
            match &collection {
                Value::Array(items) => {
                    for item in items.iter() {
                        position += 1;
                        let element = match item {
                            // An element of an array of rows gives its fields.
                            Value::Row(fields) => fields.to_vec(),
                            Value::Null => Vec::new(),
                            item => vec![item.clone()],
                        };
                        joined |= self.emit(&change, element, position, out)?;
                    }
                }
                Value::Map(entries) => {
                    for (key, value) in entries.iter() {
                        // A multiset: the element as often as it is in it.
                        let multiset = self.width == 1;
                        let times = if multiset { value.as_int().unwrap_or(1) } else { 1 };
                        for _ in 0..times {
                            position += 1;
                            let element =
                                if multiset { vec![key.clone()] } else { vec![key.clone(), value.clone()] };
                            joined |= self.emit(&change, element, position, out)?;
                        }
                    }
                }
                _ => {}
            }
            if !joined && self.outer {
                out.push(Change { kind: change.kind, row: self.row(&change, Vec::new(), 0) });
            }
        }
        Ok(())
    }
}

/// Asks an outside table for each row; retractions ask again.
pub(super) struct LookupJoin {
    name: String,
    outer: bool,
    keys: Vec<Evaluator>,
    residual: Option<Evaluator>,
    lookup: Box<dyn Lookup>,
    width: usize,
}

impl LookupJoin {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &LookupSpec) -> Result<Self, EngineError> {
        let columns: Vec<usize> = spec.keys.iter().map(|(column, _)| *column).collect();
        Ok(Self {
            name: builder.node.name.clone(),
            outer: spec.kind == JoinKind::Left,
            keys: spec.keys.iter().map(|(_, key)| builder.evaluator(key)).collect::<Result<_, _>>()?,
            residual: spec.residual.as_ref().map(|residual| builder.evaluator(residual)).transpose()?,
            lookup: builder.lookup.open(&spec.table, &columns)?,
            width: spec.table.columns.len(),
        })
    }
}

impl Operator for LookupJoin {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        let out = out.rows();
        let keys = rows
            .iter()
            .map(|change| self.keys.iter().map(|key| key.eval(Input::row(&change.row))).collect())
            .collect::<Result<Vec<Vec<Value>>, _>>()
            .map_err(|error| failed(&self.name, error))?;
        self.lookup.prepare(&keys)?;
        for (change, key) in rows.drain(..).zip(keys) {
            let found = if key.iter().any(Value::is_null) { Vec::new() } else { self.lookup.get(&key)? };
            let mut matched = false;
            for right in found {
                let pair = Input::pair(&change.row, &right);
                let fits = match &self.residual {
                    Some(residual) => residual.is_true(pair).map_err(|error| failed(&self.name, error))?,
                    None => true,
                };
                if fits {
                    matched = true;
                    let row = change.row.iter().chain(right.iter()).cloned().collect();
                    out.push(Change { kind: change.kind, row });
                }
            }
            if !matched && self.outer {
                let nulls = std::iter::repeat_n(Value::Null, self.width);
                out.push(Change {
                    kind: change.kind,
                    row: change.row.iter().cloned().chain(nulls).collect(),
                });
            }
        }
        Ok(())
    }
}
