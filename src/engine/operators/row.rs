//! Operators that look at one row at a time and keep nothing.

use super::super::error::{EngineError, EvalError};
use super::super::eval::{Evaluator, Input};
use super::super::expr::Expr;
use super::super::row::{Change, Row, RowKind, Value};
use super::{Builder, Emitter, Operator};

/// Adds to a failure of an expression what was computed: an operator's name, or better.
pub(super) fn failed(operator: &str, error: EvalError) -> EngineError {
    EngineError::Eval { operator: operator.to_owned(), error }
}

pub(super) struct Filter {
    predicate: Evaluator,
}

impl Filter {
    pub(super) fn new(builder: &Builder<'_>, predicate: &Expr) -> Result<Self, EngineError> {
        Ok(Self { predicate: builder.evaluator(predicate)? })
    }
}

impl Operator for Filter {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        let out = out.rows();
        for change in rows.drain(..) {
            match self.predicate.is_true(Input::row(&change.row)) {
                Ok(true) => out.push(change),
                Ok(false) => {}
                Err(error) => return Err(failed("a condition", error)),
            }
        }
        Ok(())
    }
}

/// Evaluates one row's columns; a failure says which.
pub(super) fn project(columns: &[Evaluator], input: Input<'_>) -> Result<Row, (usize, EvalError)> {
    let mut failure = None;
    // Collected through an iterator of known length: one allocation, that of the row.
    let row: Row = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            column.eval(input).unwrap_or_else(|error| {
                failure.get_or_insert((at, error));
                Value::Null
            })
        })
        .collect();
    failure.map_or(Ok(row), Err)
}

pub(super) struct Project {
    /// Of the columns.
    names: Vec<String>,
    columns: Vec<Evaluator>,
    /// The projection leaves rows as they are.
    identity: bool,
}

impl Project {
    pub(super) fn new(builder: &Builder<'_>, columns: &[Expr]) -> Result<Self, EngineError> {
        let columns =
            columns.iter().map(|column| builder.evaluator(column)).collect::<Result<Vec<_>, _>>()?;
        let identity = columns.len() == builder.input(0)?.len()
            && columns.iter().enumerate().all(|(at, column)| column.as_column() == Some(at));
        let names = builder.node.schema.iter().map(|field| field.name.clone()).collect();
        Ok(Self { names, columns, identity })
    }
}

impl Operator for Project {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        let out = out.rows();
        if self.identity {
            out.append(rows);
            return Ok(());
        }
        for change in rows.drain(..) {
            let row = project(&self.columns, Input::row(&change.row)).map_err(|(at, error)| {
                let name = self.names.get(at).map_or("", String::as_str);
                failed(&format!("column {name}"), error)
            })?;
            out.push(Change { kind: change.kind, row });
        }
        Ok(())
    }
}

pub(super) struct Union;

impl Operator for Union {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        out.rows().append(rows);
        Ok(())
    }
}

pub(super) struct DropUpdateBefore;

impl Operator for DropUpdateBefore {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        out.rows().extend(rows.drain(..).filter(|change| change.kind != RowKind::UpdateBefore));
        Ok(())
    }
}

/// Guards NOT NULL columns of a sink.
pub(super) struct NotNull {
    columns: Vec<(usize, String)>,
    drop: bool,
}

impl NotNull {
    pub(super) fn new(builder: &Builder<'_>, columns: &[usize], drop: bool) -> Self {
        let name = |&column: &usize| {
            (column, builder.node.schema.get(column).map(|field| field.name.clone()).unwrap_or_default())
        };
        Self { columns: columns.iter().map(name).collect(), drop }
    }
}

impl Operator for NotNull {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        let out = out.rows();
        for change in rows.drain(..) {
            let null =
                self.columns.iter().find(|(column, _)| change.row.get(*column).is_none_or(Value::is_null));
            match null {
                None => out.push(change),
                Some(_) if self.drop => {}
                Some((_, name)) => {
                    return Err(EngineError::Constraint(format!(
                        "Column '{name}' is NOT NULL, however, a null value is being written into it. You can set job \
                         configuration 'table.exec.sink.not-null-enforcer'='DROP' to suppress this exception and drop \
                         such records silently."
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Constant rows.
pub(super) struct Values {
    name: String,
    rows: Vec<Vec<Evaluator>>,
}

impl Values {
    pub(super) fn new(builder: &Builder<'_>, rows: &[Vec<Expr>]) -> Result<Self, EngineError> {
        let compile =
            |row: &Vec<Expr>| row.iter().map(|expr| builder.evaluator(expr)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            name: builder.node.name.clone(),
            rows: rows.iter().map(compile).collect::<Result<_, _>>()?,
        })
    }
}

impl Operator for Values {
    fn start(&mut self, first: bool, out: &mut Emitter) -> Result<(), EngineError> {
        if first {
            for row in &self.rows {
                let row = project(row, Input::row(&[])).map_err(|(_, error)| failed(&self.name, error))?;
                out.row(RowKind::Insert, row);
            }
        }
        out.watermark(i64::MAX);
        Ok(())
    }

    fn process(
        &mut self,
        _port: usize,
        _rows: &mut Vec<Change>,
        _out: &mut Emitter,
    ) -> Result<(), EngineError> {
        Ok(())
    }
}

/// Several projections of each row.
pub(super) struct Expand {
    name: String,
    projections: Vec<Vec<Evaluator>>,
}

impl Expand {
    pub(super) fn new(builder: &Builder<'_>, projections: &[Vec<Expr>]) -> Result<Self, EngineError> {
        let compile =
            |row: &Vec<Expr>| row.iter().map(|expr| builder.evaluator(expr)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            name: builder.node.name.clone(),
            projections: projections.iter().map(compile).collect::<Result<_, _>>()?,
        })
    }
}

impl Operator for Expand {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        let out = out.rows();
        for change in rows.drain(..) {
            for projection in &self.projections {
                let row = project(projection, Input::row(&change.row))
                    .map_err(|(_, error)| failed(&self.name, error))?;
                out.push(Change { kind: change.kind, row });
            }
        }
        Ok(())
    }
}
