//! The operators. Each takes the changes of one input at a time and appends what comes out to an [`Emitter`].

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use smallvec::SmallVec;

use super::context::Context;
use super::error::EngineError;
use super::eval::Evaluator;
use super::expr::Expr;
use super::graph::LookupProvider;
use super::plan::{ChangelogMode, Node, Op, Plan, Window, WindowInput, WindowKind};
use super::row::{Change, Row};
use super::types::Field;
use crate::state::{StateBackend, StateTable};

mod aggregate;
mod bucket;
mod buffer;
mod cleaning;
mod deduplicate;
mod emitter;
mod exchange;
mod filter;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod idle_tests;
mod interval;
mod join;
mod keyed;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod memory_tests;
mod over;
mod over_functions;
mod over_sorted;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod over_tests;
mod pane;
mod rank;
mod ranked;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_wrap)]
mod restart_tests;
mod row;
mod session;
mod sets;
mod share;
mod side;
mod slices;
mod temporal;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::cast_possible_wrap)]
mod tests;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod thread_tests;
mod time;
mod timed;
mod timers;
mod ttl;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod ttl_tests;
mod upsert;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod upsert_tests;
mod window;
mod window_join;
mod window_rank;
#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod window_tests;
mod windowed;

pub(crate) use emitter::{Emitter, Message};
pub(crate) use exchange::may_defer;
pub(crate) use share::Share;

/// Bytes of a key, such as operators keep many of: those of a number, or two, need no memory of their own.
pub(crate) type Key = SmallVec<[u8; 23]>;

/// Rows that an operator collects, about, before it lets them be handed on.
const ENOUGH: usize = if cfg!(test) { 3 } else { 4096 };

/// A running operator.
pub(crate) trait Operator: Send {
    /// Once, before anything else, when the job starts with no state (`first`) or goes on.
    fn start(&mut self, _first: bool, _out: &mut Emitter) -> Result<(), EngineError> {
        Ok(())
    }

    /// The job goes on: this is the watermark that had been reached, `i64::MIN` before the first.
    fn resume(&mut self, _watermark: i64) {}

    /// Changes of input `port`; `rows` may be drained.
    fn process(&mut self, port: usize, rows: &mut Vec<Change>, out: &mut Emitter) -> Result<(), EngineError>;

    /// Whether [`Operator::process`] has stopped, so that what came out can be handed on: it is then called again
    /// with what it left of the rows.
    fn pending(&self) -> bool {
        false
    }

    /// The watermark of all inputs went up.
    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        out.watermark(watermark);
        Ok(())
    }

    /// The processing-time clock went on to this time, in milliseconds.
    fn clock(&mut self, _now: i64, _out: &mut Emitter) -> Result<(), EngineError> {
        Ok(())
    }

    /// When [`Operator::clock`] has something to do next.
    fn next_timer(&self) -> Option<i64> {
        None
    }

    /// The number, among all rows that come to the operator's instances, of the row that is processed next: where rows
    /// of several instances are put in the order in which they came.
    fn number(&mut self, _number: u64) {}

    /// Whether the state of other keys has a part in what a row of an input does, when this watermark has been reached.
    fn is_for_itself(&self, _port: usize, _row: &Row, _watermark: i64) -> bool {
        false
    }

    /// Whether the operator keeps what comes until [`Operator::settle`].
    fn defers(&self) -> bool {
        false
    }

    /// Nothing more is at hand: what was kept is to be done.
    fn settle(&mut self, _out: &mut Emitter) -> Result<(), EngineError> {
        Ok(())
    }

    /// Writes what changed in memory into the state tables.
    fn flush(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
}

/// What an operator is built from.
pub(crate) struct Builder<'a> {
    /// The job.
    pub plan: &'a Plan,
    /// The node.
    pub node: &'a Node,
    /// Session.
    pub context: &'a Context,
    /// State tables.
    pub state: &'a mut dyn StateBackend,
    /// Tables for lookup joins.
    pub lookup: &'a mut dyn LookupProvider,
    /// The partition that rows on their way come from.
    pub partition: &'a Arc<AtomicU32>,
    /// How many partitions the source above this node has.
    pub partitions: &'a Arc<AtomicU32>,
    /// Somebody below waits for watermarks.
    pub waits: bool,
    /// Bytes that each cache of state may keep in memory.
    pub cache: usize,
    /// The keys that the operator has.
    pub share: Share,
    /// The operator may keep what comes until [`Operator::settle`].
    pub defers: bool,
}

impl Builder<'_> {
    /// Compiles an expression of this node.
    pub(crate) fn evaluator(&self, expr: &Expr) -> Result<Evaluator, EngineError> {
        Evaluator::new(expr, self.context)
    }

    /// A state table of this node; `part` tells several apart.
    pub(crate) fn table(&mut self, part: &str) -> Result<Box<dyn StateTable>, EngineError> {
        Ok(self.state.table(&format!("{}/{part}", self.node.name))?)
    }

    /// How long entries live: as long as `table.exec.state.ttl` says, if the operator has no time of its own.
    pub(crate) fn ttl(&self, own: Option<i64>) -> Option<i64> {
        own.or(self.context.ttl).filter(|&ttl| ttl > 0)
    }

    /// A state table whose entries live as long as [`Self::ttl`] says.
    pub(crate) fn expiring_table(
        &mut self,
        part: &str,
        own: Option<i64>,
    ) -> Result<Box<dyn StateTable>, EngineError> {
        let table = self.table(part)?;
        Ok(match self.ttl(own) {
            Some(ttl) => Box::new(ttl::ExpiringTable::new(table, ttl, Arc::clone(&self.context.clock))),
            None => table,
        })
    }

    /// Bytes that a cache of this node's state keeps in memory over a flush; few in tests, so that everything comes
    /// back from the state.
    pub(crate) fn cache(&self) -> usize {
        if cfg!(test) { 1 << 10 } else { self.cache }
    }

    /// Bytes of rows that a structure in the order of time keeps in memory over a flush.
    pub(crate) fn rows_cache(&self) -> usize {
        buffer::CACHED_BYTES / self.share.instances()
    }

    /// The same of state that expires: with a time to live nothing stays, so that the table can say what has expired.
    pub(crate) fn cached(&self, own: Option<i64>) -> usize {
        if self.ttl(own).is_some() { 0 } else { self.cache() }
    }

    /// Columns of an input.
    pub(crate) fn input(&self, port: usize) -> Result<&[Field], EngineError> {
        let plan = self.plan;
        let input = self.node.inputs.get(port).and_then(|&input| plan.nodes.get(input));
        input
            .map(|node| node.schema.as_slice())
            .ok_or_else(|| EngineError::Plan(format!("{} lacks input {port}", self.node.name)))
    }

    /// Row kinds of an input.
    pub(crate) fn input_mode(&self, port: usize) -> ChangelogMode {
        let input = self.node.inputs.get(port).and_then(|&input| self.plan.nodes.get(input));
        input.map(|node| node.changelog).unwrap_or_default()
    }
}

/// Bytes of state that the caches of a job keep in memory together, about.
const CACHES: usize = 128 << 20;
/// The least that one of them keeps.
const LEAST_CACHE: usize = 4 << 20;

/// Each cache's share of memory.
pub(crate) fn cache_share(plan: &Plan) -> usize {
    let caches = |op: &Op| match op {
        Op::Join(_) => 2,
        Op::Aggregate(_) | Op::Normalize { .. } | Op::Materialize { .. } => 1,
        Op::Rank(_) | Op::Deduplicate(_) | Op::WindowAggregate(_) | Op::Over(_) => 1,
        _ => 0,
    };
    let caches: usize = plan.nodes.iter().map(|node| caches(&node.op)).sum();
    (CACHES / caches.max(1)).max(LEAST_CACHE)
}

/// Per node: whether an operator below it does something at a watermark. Where none does, watermarks need not cut
/// the rows into small batches.
pub(crate) fn waits_below(plan: &Plan) -> Vec<bool> {
    let mut waits = vec![false; plan.nodes.len()];
    for (id, node) in plan.nodes.iter().enumerate().rev() {
        let below = waits.get(id).copied().unwrap_or(true);
        let here = match &node.op {
            // Partitions of files are complete when time has passed them.
            Op::Sink(table) => {
                table.options.get("sink.partition-commit.trigger").is_some_and(|t| t == "partition-time")
            }
            Op::Source(_) | Op::Union | Op::DropUpdateBefore | Op::NotNull { .. } => false,
            Op::Values(_) | Op::SetOp { .. } | Op::Aggregate(_) | Op::Rank(_) | Op::SortedOver(_) => false,
            Op::Normalize { .. } | Op::Materialize { .. } => false,
            Op::Join(join) => join.residual.as_ref().is_some_and(asks_watermark),
            Op::Filter(predicate) => asks_watermark(predicate),
            Op::Project(columns) => columns.iter().any(asks_watermark),
            Op::Expand(projections) => projections.iter().flatten().any(asks_watermark),
            Op::Deduplicate(spec) => spec.rowtime && !spec.last,
            _ => true,
        };
        for &input in &node.inputs {
            if let Some(waits) = waits.get_mut(input) {
                *waits |= here || below;
            }
        }
    }
    waits
}

fn asks_watermark(expr: &Expr) -> bool {
    expr.calls("CURRENT_WATERMARK")
}

/// The operator of a node; where the job's parallelism asks for it, in several instances.
pub(crate) fn build(builder: &mut Builder<'_>) -> Result<Box<dyn Operator>, EngineError> {
    let parallelism = builder.context.parallelism;
    let keys = exchange::keys(&builder.node.op, builder.node.schema.len());
    match keys.filter(|_| parallelism > 1) {
        Some(keys) => Ok(Box::new(exchange::Exchange::new(builder, keys, parallelism)?)),
        None => build_one(builder),
    }
}

/// One instance of a node's operator.
fn build_one(builder: &mut Builder<'_>) -> Result<Box<dyn Operator>, EngineError> {
    let node = builder.node;
    Ok(match &node.op {
        Op::Filter(predicate) => Box::new(row::Filter::new(builder, predicate)?),
        Op::Project(columns) => Box::new(row::Project::new(builder, columns)?),
        Op::Union => Box::new(row::Union),
        Op::DropUpdateBefore => Box::new(row::DropUpdateBefore),
        Op::NotNull { columns, drop } => Box::new(row::NotNull::new(builder, columns, *drop)),
        Op::Values(rows) => Box::new(row::Values::new(builder, rows)?),
        Op::Expand(projections) => Box::new(row::Expand::new(builder, projections)?),
        Op::Join(join) => Box::new(join::Join::new(builder, join)?),
        Op::Aggregate(spec) => Box::new(aggregate::Aggregate::new(builder, spec)?),
        Op::Normalize { key, mode } => Box::new(upsert::Normalize::new(builder, key, mode)?),
        Op::Materialize { key, conflict, input_key } => {
            Box::new(upsert::Materialize::new(builder, key, *conflict, input_key.as_deref())?)
        }
        Op::WatermarkAssigner { rowtime, watermark } => {
            Box::new(time::WatermarkAssigner::new(builder, *rowtime, watermark)?)
        }
        Op::TemporalSort { rowtime, then } => Box::new(time::TemporalSort::new(builder, *rowtime, then)?),
        Op::WindowTvf(spec) => Box::new(window::WindowTvf::new(builder, spec)?),
        Op::WindowAggregate(spec) => match &spec.window {
            WindowInput::Assign(Window { kind: WindowKind::Session { gap, .. }, .. }) => {
                Box::new(session::SessionAggregate::new(builder, spec, *gap)?)
            }
            _ => Box::new(slices::WindowAggregate::new(builder, spec)?),
        },
        Op::Rank(spec) => Box::new(rank::Rank::new(builder, spec)?),
        Op::Deduplicate(spec) => Box::new(deduplicate::Deduplicate::new(builder, spec)?),
        Op::SetOp { intersect, all } => Box::new(sets::SetOp::new(builder, *intersect, *all)?),
        Op::Unnest(spec) => Box::new(sets::Unnest::new(builder, spec)?),
        Op::LookupJoin(spec) => Box::new(sets::LookupJoin::new(builder, spec)?),
        Op::WindowJoin(spec) => Box::new(window_join::WindowJoin::new(builder, spec)?),
        Op::WindowRank(spec) => Box::new(window_rank::WindowRank::new(builder, spec)?),
        Op::IntervalJoin(spec) => Box::new(interval::IntervalJoin::new(builder, spec)?),
        Op::TemporalJoin(spec) => Box::new(temporal::TemporalJoin::new(builder, spec)?),
        Op::Over(spec) => Box::new(over::Over::new(builder, spec)?),
        Op::SortedOver(spec) => Box::new(over_sorted::SortedOver::new(builder, spec)?),
        Op::Source(_) | Op::Sink(_) => {
            return Err(EngineError::Plan(format!("{} is no operator of the engine", node.name)));
        }
    })
}
