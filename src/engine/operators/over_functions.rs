//! The functions of an OVER window, whatever it is ordered by.

use super::super::error::EngineError;
use super::super::plan::AggregateCall;
use super::super::row::{Row, Value};
use super::Builder;
use super::aggregate::accumulator::{Accumulator, Accumulators, Call};
use super::aggregate::memory::MemoryCounts;

/// One function.
enum Function {
    Aggregate(Call),
    /// ROW_NUMBER; RANK and DENSE_RANK too: where Flink does not take them for a Top-N, both count the rows up to the
    /// last that is equal in the order.
    Number,
    /// Value, offset and default columns.
    Lag(Vec<usize>),
}

/// The functions of one window.
pub(super) struct Functions {
    all: Vec<Function>,
}

impl Functions {
    /// Resolves calls over the operator's input; `retract`: rows leave the frame again.
    pub(super) fn new(
        builder: &Builder<'_>,
        calls: &[AggregateCall],
        retract: bool,
    ) -> Result<Self, EngineError> {
        let function = |call: &AggregateCall| {
            Ok(match call.function {
                "ROW_NUMBER" | "RANK" | "DENSE_RANK" => Function::Number,
                "LAG" => Function::Lag(call.args.clone()),
                // They need rows that are still to come.
                "NTILE" | "LEAD" | "CUME_DIST" | "PERCENT_RANK" => {
                    return Err(EngineError::Plan(format!(
                        "{} Function is not supported in stream mode.",
                        call.function
                    )));
                }
                _ => Function::Aggregate(Call::new(call, builder.input(0)?, retract)?.of_frame()),
            })
        };
        Ok(Self { all: calls.iter().map(function).collect::<Result<_, EngineError>>()? })
    }

    /// The accumulators of a partition without rows.
    pub(super) fn accumulators(&self) -> Accumulators {
        let create = |function: &Function| match function {
            Function::Aggregate(call) => Some(call.create()),
            _ => None,
        };
        self.all.iter().filter_map(create).collect()
    }

    /// The arguments of each LAG.
    pub(super) fn lags(&self) -> impl Iterator<Item = &[usize]> {
        self.all.iter().filter_map(|function| match function {
            Function::Lag(args) => Some(args.as_slice()),
            _ => None,
        })
    }

    /// Takes a row into the frame, or out of it.
    pub(super) fn apply(
        &self,
        accumulators: &mut [Accumulator],
        counts: &mut MemoryCounts,
        row: &Row,
        add: bool,
    ) -> Result<(), EngineError> {
        let calls = (0..).zip(&self.all).filter_map(|(at, function)| match function {
            Function::Aggregate(call) => Some((at, call)),
            _ => None,
        });
        calls
            .zip(accumulators)
            .try_for_each(|((at, call), accumulator)| call.apply(at, accumulator, row, add, counts))
    }

    /// Appends the results for a frame of so many rows; `lag` gives those of each LAG in turn.
    pub(super) fn put_values(
        &self,
        out: &mut Vec<Value>,
        accumulators: &[Accumulator],
        counts: &mut MemoryCounts,
        rows: i64,
        mut lag: impl FnMut(&[usize]) -> Value,
    ) -> Result<(), EngineError> {
        let mut accumulators = accumulators.iter();
        for (at, function) in (0..).zip(&self.all) {
            out.push(match function {
                Function::Aggregate(call) => match accumulators.next() {
                    Some(accumulator) => call.value(at, accumulator, counts)?,
                    None => Value::Null,
                },
                Function::Number => Value::Int(rows),
                Function::Lag(args) => lag(args),
            });
        }
        Ok(())
    }
}
