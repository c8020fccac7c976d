//! The graph of a running query.
//!
//! Synchronous and deterministic: [`Graph::push`] carries the changes of a source through all operators before
//! it returns. What reaches a sink goes to the caller's [`Output`]. State that changed stays in memory until
//! [`Graph::flush`], which the runtime calls at the end of an epoch, before it commits the state store.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use super::context::Context;
use super::error::EngineError;
use super::operators::{self, Emitter, Message, Operator};
use super::plan::{NodeId, Op, Plan, TableRef};
use super::row::{Change, Row, Value};
use crate::state::{StateBackend, StateTable};

/// Takes what reaches the sinks.
pub trait Output {
    /// Changes for the sink at this node, in order; drained by the callee. May be called several times per push.
    fn rows(&mut self, sink: NodeId, rows: &mut Vec<Change>);
}

/// Tells processing time.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970.
    fn now(&self) -> i64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> i64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Answers lookup joins.
pub trait LookupProvider {
    /// A way to ask `table` for the rows whose `key` columns (indexes into `table.columns`) have given values.
    fn open(&mut self, table: &TableRef, key: &[usize]) -> Result<Box<dyn Lookup>, EngineError>;
}

/// A table that lookup joins ask.
pub trait Lookup: Send {
    /// Told the keys of a batch of rows before [`Self::get`] is called for each of them, so that they can be asked
    /// for together. Keys may repeat and may hold NULLs, which match nothing.
    fn prepare(&mut self, keys: &[Vec<Value>]) -> Result<(), EngineError> {
        let _ = keys;
        Ok(())
    }

    /// Rows whose key columns equal `key` (no NULL in it); columns as in the [`TableRef`].
    fn get(&mut self, key: &[Value]) -> Result<Vec<Row>, EngineError>;
}

/// For jobs without lookup joins.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLookup;

impl LookupProvider for NoLookup {
    fn open(&mut self, table: &TableRef, _key: &[usize]) -> Result<Box<dyn Lookup>, EngineError> {
        Err(EngineError::Plan(format!("table `{}` cannot be looked up here", table.name)))
    }
}

/// What a graph needs besides plan and state.
pub struct Environment<'a> {
    /// Processing time.
    pub clock: Arc<dyn Clock>,
    /// Tables for lookup joins.
    pub lookup: &'a mut dyn LookupProvider,
}

enum Kind {
    Source,
    Operator(Box<dyn Operator>),
    Sink,
}

struct Slot {
    name: String,
    kind: Kind,
    /// Users: (node, input port).
    users: Vec<(NodeId, usize)>,
    /// Watermark per input port (a source: one).
    watermarks: Vec<i64>,
    /// The least of them, of those inputs that are not idle.
    watermark: i64,
    /// Inputs that give nothing for the time being.
    idle: Vec<bool>,
    /// The same for the node's expressions (`CURRENT_WATERMARK`).
    visible: Arc<AtomicI64>,
    /// Partitions of the source that this node reads, or is.
    partitions: Arc<AtomicU32>,
    emitter: Emitter,
}

/// A running query.
pub struct Graph {
    slots: Vec<Slot>,
    sources: Vec<NodeId>,
    sinks: Vec<NodeId>,
    /// Watermarks and the mark that the job has started.
    progress: Box<dyn StateTable>,
    progress_changed: bool,
    started: bool,
    partition: Arc<AtomicU32>,
    /// Operators that keep what comes until nothing more is at hand.
    deferring: Vec<NodeId>,
}

const PROGRESS: &str = "engine-progress";
const STARTED: &[u8] = b"started";

impl Graph {
    /// Builds the operators of a plan over its state, which may hold an earlier run's.
    ///
    /// Errors: an operator or function that the engine does not have, state that cannot be read.
    pub fn build(
        plan: &Plan,
        state: &mut dyn StateBackend,
        environment: Environment<'_>,
    ) -> Result<Self, EngineError> {
        let context = Context::new(&plan.options, Arc::clone(&environment.clock))?;
        let mut progress = state.table(PROGRESS)?;
        let mut slots: Vec<Slot> = Vec::with_capacity(plan.nodes.len());
        let (mut sources, mut sinks) = (Vec::new(), Vec::new());
        let partition = Arc::new(AtomicU32::new(0));
        let waits = operators::waits_below(plan);
        let may_defer = operators::may_defer(plan);
        let mut deferring = Vec::new();
        let cache = operators::cache_share(plan);
        for (id, node) in plan.nodes.iter().enumerate() {
            let visible = Arc::new(AtomicI64::new(i64::MIN));
            let context = context.with_watermark(Arc::clone(&visible));
            let above = node.inputs.first().and_then(|&input| slots.get(input));
            let partitions =
                above.map_or_else(|| Arc::new(AtomicU32::new(1)), |slot: &Slot| Arc::clone(&slot.partitions));
            let kind = match &node.op {
                Op::Source(_) => {
                    sources.push(id);
                    Kind::Source
                }
                Op::Sink(_) => {
                    sinks.push(id);
                    Kind::Sink
                }
                _ => {
                    let mut builder = operators::Builder {
                        plan,
                        node,
                        context: &context,
                        state,
                        lookup: environment.lookup,
                        partition: &partition,
                        partitions: &partitions,
                        cache,
                        waits: waits.get(id).copied().unwrap_or(true),
                        share: operators::Share::whole(),
                        defers: may_defer.get(id).copied().unwrap_or(false),
                    };
                    let operator = operators::build(&mut builder)?;
                    if operator.defers() {
                        deferring.push(id);
                    }
                    Kind::Operator(operator)
                }
            };
            for (port, &input) in node.inputs.iter().enumerate() {
                let slot = slots.get_mut(input).ok_or_else(|| {
                    EngineError::Plan(format!("node {id} reads node {input}, which is not before it"))
                })?;
                slot.users.push((id, port));
            }
            let mut reached = |key: Vec<u8>| -> Result<i64, EngineError> {
                let bytes = progress.get(&key)?.and_then(|bytes| bytes.try_into().ok());
                Ok(bytes.map_or(i64::MIN, i64::from_be_bytes))
            };
            let watermarks = (0..node.inputs.len().max(1))
                .map(|port| reached(port_key(&node.name, port)))
                .collect::<Result<Vec<_>, _>>()?;
            // The least of the inputs' or, where one of them was idle, what had been reached without it: windows
            // that came out then stay closed.
            let least = watermarks.iter().copied().min().unwrap_or(i64::MIN);
            let watermark = least.max(reached(node_key(&node.name))?);
            visible.store(watermark, Ordering::Relaxed);
            let mut kind = kind;
            if let Kind::Operator(operator) = &mut kind {
                operator.resume(watermark);
            }
            slots.push(Slot {
                idle: vec![false; watermarks.len()],
                name: node.name.clone(),
                kind,
                users: Vec::new(),
                watermarks,
                watermark,
                visible,
                partitions,
                emitter: Emitter::default(),
            });
        }
        let started = progress.get(STARTED)?.is_some();
        Ok(Self { slots, sources, sinks, progress, progress_changed: false, started, partition, deferring })
    }

    /// The nodes that read tables.
    pub fn sources(&self) -> &[NodeId] {
        &self.sources
    }

    /// The nodes that write tables.
    pub fn sinks(&self) -> &[NodeId] {
        &self.sinks
    }

    /// Starts the job: constant rows come out, once in the life of its state.
    pub fn start(&mut self, out: &mut dyn Output) -> Result<(), EngineError> {
        let first = !self.started;
        for slot in &mut self.slots {
            if let Kind::Operator(operator) = &mut slot.kind {
                operator.start(first, &mut slot.emitter)?;
            }
        }
        // All have started before the first row reaches one.
        for id in 0..self.slots.len() {
            self.finish(id, out)?;
            self.settle(out)?;
        }
        if first {
            self.progress.put(STARTED, &[1]);
            self.started = true;
        }
        Ok(())
    }

    /// Carries changes of a source through the graph. `rows` is drained.
    pub fn push(
        &mut self,
        source: NodeId,
        rows: &mut Vec<Change>,
        out: &mut dyn Output,
    ) -> Result<(), EngineError> {
        if !rows.is_empty() {
            self.deliver(source, 0, Message::Rows(std::mem::take(rows)), out)?;
        }
        self.settle(out)
    }

    /// As [`Graph::push`], of rows of one partition (from 0) of the source: a table's watermark is the least of
    /// its partitions' (see [`Graph::set_partitions`]), so that reading them one after the other makes no row late.
    pub fn push_partition(
        &mut self,
        source: NodeId,
        partition: u32,
        rows: &mut Vec<Change>,
        out: &mut dyn Output,
    ) -> Result<(), EngineError> {
        self.partition.store(partition, Ordering::Relaxed);
        let pushed = self.push(source, rows, out);
        self.partition.store(0, Ordering::Relaxed);
        pushed
    }

    /// How many partitions a source has (1 if this is never called).
    pub fn set_partitions(&mut self, source: NodeId, partitions: u32) {
        if let Some(slot) = self.slots.get(source) {
            slot.partitions.store(partitions.max(1), Ordering::Relaxed);
        }
    }

    /// A source's watermark, where the source itself knows it; `i64::MAX` when it has ended. (The watermarks of
    /// `WATERMARK FOR` clauses are made inside the graph.)
    pub fn watermark(
        &mut self,
        source: NodeId,
        watermark: i64,
        out: &mut dyn Output,
    ) -> Result<(), EngineError> {
        self.deliver(source, 0, Message::Watermark(watermark), out)?;
        self.settle(out)
    }

    /// All sources have ended: what waits for time comes out.
    pub fn end(&mut self, out: &mut dyn Output) -> Result<(), EngineError> {
        for source in self.sources.clone() {
            self.watermark(source, i64::MAX, out)?;
        }
        Ok(())
    }

    /// Processing time has come to `now` (milliseconds): fires timers that are due, of all operators in the order of
    /// their times, however late it is. A table that became idle long ago does not hold back one that has just done so.
    pub fn advance_clock(&mut self, now: i64, out: &mut dyn Output) -> Result<(), EngineError> {
        let mut last = i64::MIN;
        while let Some(at) = self.next_timer().filter(|at| (last + 1..now).contains(at)) {
            self.fire(at, out)?;
            last = at;
        }
        self.fire(now, out)
    }

    fn fire(&mut self, now: i64, out: &mut dyn Output) -> Result<(), EngineError> {
        for id in 0..self.slots.len() {
            self.call(id, out, |operator, emitter| operator.clock(now, emitter))?;
            self.settle(out)?;
        }
        Ok(())
    }

    /// When [`Graph::advance_clock`] has something to do next, milliseconds since 1970.
    pub fn next_timer(&self) -> Option<i64> {
        self.slots
            .iter()
            .filter_map(
                |slot| if let Kind::Operator(operator) = &slot.kind { operator.next_timer() } else { None },
            )
            .min()
    }

    /// The watermark that has reached a node, `i64::MIN` before the first.
    pub fn current_watermark(&self, node: NodeId) -> i64 {
        self.slots.get(node).map_or(i64::MIN, |slot| slot.watermark)
    }

    /// Writes all state that changed into the state tables.
    pub fn flush(&mut self) -> Result<(), EngineError> {
        for slot in &mut self.slots {
            if let Kind::Operator(operator) = &mut slot.kind {
                operator.flush()?;
            }
        }
        if std::mem::take(&mut self.progress_changed) {
            let progress = &mut self.progress;
            // The end of an input is not kept: a later run may read more.
            let mut keep = |key: Vec<u8>, watermark: i64| {
                if watermark > i64::MIN && watermark < i64::MAX {
                    progress.put(&key, &watermark.to_be_bytes());
                }
            };
            for slot in &self.slots {
                let ports = slot.watermarks.iter().enumerate();
                ports.for_each(|(port, &watermark)| keep(port_key(&slot.name, port), watermark));
                keep(node_key(&slot.name), slot.watermark);
            }
        }
        Ok(())
    }

    fn call(
        &mut self,
        id: NodeId,
        out: &mut dyn Output,
        run: impl FnOnce(&mut dyn Operator, &mut Emitter) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let Some(slot) = self.slots.get_mut(id) else { return Ok(()) };
        let Kind::Operator(operator) = &mut slot.kind else { return Ok(()) };
        run(operator.as_mut(), &mut slot.emitter)?;
        self.finish(id, out)
    }

    /// Hands on what an operator gave, and lets it go on until it is done.
    fn finish(&mut self, id: NodeId, out: &mut dyn Output) -> Result<(), EngineError> {
        self.forward(id, out)?;
        while let Some(Slot { kind: Kind::Operator(operator), emitter, .. }) = self.slots.get_mut(id)
            && operator.pending()
        {
            operator.process(0, &mut Vec::new(), emitter)?;
            self.forward(id, out)?;
        }
        Ok(())
    }

    /// Lets the operators that have kept what came do it, those before others first.
    fn settle(&mut self, out: &mut dyn Output) -> Result<(), EngineError> {
        for at in 0..self.deferring.len() {
            if let Some(&id) = self.deferring.get(at) {
                self.call(id, out, |operator, emitter| operator.settle(emitter))?;
            }
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        id: NodeId,
        port: usize,
        message: Message,
        out: &mut dyn Output,
    ) -> Result<(), EngineError> {
        let Some(slot) = self.slots.get_mut(id) else { return Ok(()) };
        match message {
            Message::Rows(mut rows) => {
                match &mut slot.kind {
                    Kind::Source => return self.pass(id, Message::Rows(rows), out),
                    Kind::Sink => {
                        out.rows(id, &mut rows);
                        return Ok(());
                    }
                    Kind::Operator(_) => {}
                }
                while let Some(Slot { kind: Kind::Operator(operator), emitter, .. }) = self.slots.get_mut(id)
                {
                    operator.process(port, &mut rows, emitter)?;
                    if !operator.pending() {
                        emitter.recycle(rows);
                        break;
                    }
                    self.forward(id, out)?;
                }
                self.forward(id, out)
            }
            Message::Watermark(watermark) => {
                let Some(known) = slot.watermarks.get_mut(port) else { return Ok(()) };
                if watermark <= *known {
                    return Ok(());
                }
                *known = watermark;
                self.advance(id, out)
            }
            Message::Idle(idle) => {
                if self.deferring.contains(&id) {
                    self.call(id, out, |operator, emitter| operator.settle(emitter))?;
                }
                let Some(slot) = self.slots.get_mut(id) else { return Ok(()) };
                let Some(known) = slot.idle.get_mut(port) else { return Ok(()) };
                *known = idle;
                // As long as one input is not idle, the node is not.
                let others_idle = slot.idle.iter().enumerate().all(|(at, idle)| at == port || *idle);
                self.advance(id, out)?;
                if others_idle { self.pass(id, Message::Idle(idle), out) } else { Ok(()) }
            }
        }
    }

    /// Raises a node's watermark to what its inputs allow.
    fn advance(&mut self, id: NodeId, out: &mut dyn Output) -> Result<(), EngineError> {
        let Some(slot) = self.slots.get_mut(id) else { return Ok(()) };
        let active = slot.watermarks.iter().zip(&slot.idle).filter(|(_, idle)| !**idle);
        let Some(least) = active.map(|(watermark, _)| *watermark).min() else { return Ok(()) };
        if least <= slot.watermark {
            return Ok(());
        }
        slot.watermark = least;
        slot.visible.store(least, Ordering::Relaxed);
        self.progress_changed = true;
        match &mut slot.kind {
            Kind::Source => self.pass(id, Message::Watermark(least), out),
            Kind::Sink => Ok(()),
            Kind::Operator(operator) => {
                operator.watermark(least, &mut slot.emitter)?;
                self.finish(id, out)
            }
        }
    }

    fn forward(&mut self, id: NodeId, out: &mut dyn Output) -> Result<(), EngineError> {
        let Some(slot) = self.slots.get_mut(id) else { return Ok(()) };
        for message in slot.emitter.take() {
            self.pass(id, message, out)?;
        }
        Ok(())
    }

    /// Hands a message of a node to its users.
    fn pass(&mut self, id: NodeId, message: Message, out: &mut dyn Output) -> Result<(), EngineError> {
        let users = self.slots.get(id).map_or(0, |slot| slot.users.len());
        let user = |graph: &Self, at: usize| graph.slots.get(id).and_then(|slot| slot.users.get(at).copied());
        for at in 0..users.saturating_sub(1) {
            if let Some((node, port)) = user(self, at) {
                let copy = match &message {
                    Message::Rows(rows) => Message::Rows(rows.clone()),
                    Message::Watermark(watermark) => Message::Watermark(*watermark),
                    Message::Idle(idle) => Message::Idle(*idle),
                };
                self.deliver(node, port, copy, out)?;
            }
        }
        match user(self, users.saturating_sub(1)) {
            Some((node, port)) => self.deliver(node, port, message, out),
            None => Ok(()),
        }
    }
}

/// Key of the watermark that an input of a node has reached.
fn port_key(name: &str, port: usize) -> Vec<u8> {
    format!("watermark/{name}/{port}").into_bytes()
}

/// Key of the watermark that a node has reached.
fn node_key(name: &str) -> Vec<u8> {
    format!("reached/{name}").into_bytes()
}
