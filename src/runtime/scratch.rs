//! A second run of a query, beside the pipeline: in state of its own that is thrown away, over a part of the
//! log that ends where the caller says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use tokio::sync::{Semaphore, watch};

use super::ends::{Input, sink_names, source_slots};
use super::intake::decode_error;
use super::lookup::Lookups;
use super::options::SourceKind;
use super::pipeline::Environment;
use super::source::{READ_AHEAD, SourceEvent, SourceTask};
use super::start::{format_context, open_state};
use super::status::Shared;
use super::worker::{CHUNK, SourceSlot, engine_error, state_error};
use crate::engine::format;
use crate::engine::graph::{Graph, Output as GraphOutput};
use crate::engine::plan::{NodeId, Plan, TableRef};
use crate::engine::row::Change;
use crate::error::{Error, Result};
use crate::log::Fetched;
use crate::state::{Head, StateBackend, StateTable, Store};

/// Bytes of changed state after which it goes to disk.
const FLUSH_BYTES: usize = 32 << 20;

/// A query on its way through the log.
pub(crate) struct Scratch {
    core: Option<Core>,
    /// Node names, what is read, tables.
    sources: Vec<(String, SourceKind, Arc<TableRef>)>,
    environment: Environment,
    positions: BTreeMap<String, i64>,
    /// What looked-up tables wait on: nobody stops a scratch run but by dropping it.
    _stop: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

/// What moves to the computing thread and back.
struct Core {
    graph: Graph,
    store: Store,
    slots: Vec<SourceSlot>,
    /// Sink nodes and names.
    sinks: Vec<(NodeId, String)>,
    started: bool,
    records: u64,
}

/// Takes what the query gives for a sink; may keep entries in the scratch state.
pub(crate) trait Take: Send {
    /// Changes for the sink of this name, in order.
    fn take(&mut self, sink: &str, changes: &mut Vec<Change>);
}

struct Emitted<'a> {
    sinks: &'a [(NodeId, String)],
    take: &'a mut dyn Take,
}

impl GraphOutput for Emitted<'_> {
    fn rows(&mut self, sink: NodeId, rows: &mut Vec<Change>) {
        if let Some((_, name)) = self.sinks.iter().find(|(node, _)| *node == sink) {
            self.take.take(name, rows);
        }
        rows.clear();
    }
}

impl Scratch {
    /// An empty state for the plan, in a temporary directory beside the pipelines.
    pub(crate) async fn open(plan: &Plan, environment: &Environment) -> Result<Self> {
        let format = format_context(plan, "the query", environment)?;
        let parent = environment.data.join("pipelines");
        let dir = std::fs::create_dir_all(&parent)
            .and_then(|()| tempfile::Builder::new().prefix(".scratch-").tempdir_in(&parent))
            .map_err(|e| {
                Error::config(format!("cannot make a directory for scratch state in {}", parent.display()))
                    .with_source(e)
            })?;
        // Looked-up rows are those of now: what they were at the time of an event, nobody knows.
        let (stop, stopped) = watch::channel(false);
        let lookups = Lookups {
            runtime: tokio::runtime::Handle::current(),
            addresses: environment.addresses.clone(),
            format: format.clone(),
            shared: Arc::new(Shared::new("scratch", Vec::new())),
            stop: stopped,
        };
        let (store, graph) = open_state(plan, dir.path(), false, lookups).await?;
        let (mut slots, mut sources) = (Vec::new(), Vec::new());
        for Input { slot, kind, definition, .. } in source_slots(plan, &format)? {
            sources.push((slot.name.clone(), kind, definition));
            slots.push(slot);
        }
        let sinks = sink_names(plan).into_iter().map(|(node, name, _)| (node, name)).collect();
        let core = Core { graph, store, slots, sinks, started: false, records: 0 };
        Ok(Self {
            core: Some(core),
            sources,
            environment: environment.clone(),
            positions: BTreeMap::new(),
            _stop: stop,
            _dir: dir,
        })
    }

    /// A table of the scratch state.
    pub(crate) fn table(&mut self, name: &str) -> Result<Box<dyn StateTable>> {
        self.core.as_mut().ok_or_else(lost)?.store.table(name).map_err(state_error)
    }

    /// Records read so far.
    pub(crate) fn records(&self) -> u64 {
        self.core.as_ref().map_or(0, |c| c.records)
    }

    /// Begins partitions at these offsets; those that are not named begin where their table's options say.
    pub(crate) fn begin(&mut self, positions: BTreeMap<String, i64>) {
        self.positions = positions;
    }

    /// Reads on to these offsets (by position key; partitions without one are not read) and hands on what the
    /// query gives.
    pub(crate) async fn advance<T: Take + 'static>(
        &mut self,
        to: &BTreeMap<String, i64>,
        take: T,
    ) -> Result<T> {
        let (events, events_in) = std::sync::mpsc::channel::<SourceEvent>();
        let (stop, stopped) = watch::channel(false);
        let room = Arc::new(Semaphore::new(READ_AHEAD));
        let shared = Arc::new(Shared::new("scratch", Vec::new()));
        for (index, (name, kind, definition)) in self.sources.iter().enumerate() {
            let task = SourceTask {
                index,
                name: name.clone(),
                table: definition.name.clone(),
                kind: kind.clone(),
                definition: Arc::clone(definition),
                addresses: self.environment.addresses.clone(),
                log: Arc::clone(&self.environment.log),
                positions: self.positions.clone(),
                keys: BTreeMap::new(),
                numbers: BTreeMap::new(),
                wait_for_topics: false,
                room: Arc::clone(&room),
                events: events.clone(),
                shared: Arc::clone(&shared),
                stop: stopped.clone(),
                until: Some(to.clone()),
            };
            tokio::spawn(task.run());
        }
        drop(events);
        let mut core = self.core.take().ok_or_else(lost)?;
        let mut take = take;
        let run = move || {
            let result = core.run(&events_in, &mut take);
            (core, take, result)
        };
        let ended = tokio::task::spawn_blocking(run).await;
        let _ = stop.send(true);
        let (core, take, result) =
            ended.map_err(|e| Error::internal("the scratch run failed").with_source(e))?;
        self.core = Some(core);
        result?;
        for (key, offset) in to {
            self.positions.insert(key.clone(), *offset);
        }
        Ok(take)
    }
}

impl Core {
    fn run(&mut self, events: &Receiver<SourceEvent>, take: &mut dyn Take) -> Result<()> {
        if !std::mem::replace(&mut self.started, true) {
            self.graph.start(&mut Emitted { sinks: &self.sinks, take }).map_err(engine_error)?;
        }
        let mut open = self.slots.len();
        while open > 0 {
            match events.recv() {
                Ok(SourceEvent::Records { source, fetched, permit }) => {
                    self.records(source, &fetched, take)?;
                    drop(permit);
                }
                Ok(SourceEvent::Partitions { source, partitions, .. }) => {
                    if let Some(slot) = self.slots.get_mut(source) {
                        let count = slot.set_partitions(partitions);
                        self.graph.set_partitions(slot.node, count);
                    }
                }
                Ok(SourceEvent::Ended { .. }) => open -= 1,
                Ok(SourceEvent::Failed { error }) => return Err(error),
                Err(_) => return Err(lost()),
            }
            if self.store.dirty_bytes() >= FLUSH_BYTES {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        self.graph.flush().map_err(engine_error)?;
        let head = Head { epoch: self.store.head().epoch + 1, ..self.store.head().clone() };
        self.store.commit(head, &[]).map_err(state_error)
    }

    fn records(&mut self, source: usize, fetched: &Fetched, take: &mut dyn Take) -> Result<()> {
        let mut changes = Vec::new();
        let mut number = 0;
        for record in fetched.iter() {
            let Some(slot) = self.slots.get_mut(source) else { return Ok(()) };
            let (node, own) = (slot.node, slot.number(record.at));
            if own != number || changes.len() >= CHUNK {
                let mut out = Emitted { sinks: &self.sinks, take };
                self.graph.push_partition(node, number, &mut changes, &mut out).map_err(engine_error)?;
                number = own;
            }
            let headers: Vec<_> =
                if slot.decoder.wants_headers() { record.headers().collect() } else { Vec::new() };
            let input = format::Input {
                value: record.value,
                key: record.key,
                topic: &record.at.topic,
                partition: record.at.partition,
                offset: record.offset,
                timestamp: record.timestamp,
                leader_epoch: record.leader_epoch,
                headers: &headers,
            };
            slot.decoder
                .decode(&input, &mut changes)
                .map_err(|e| decode_error(slot, record.at, record.offset, e))?;
            self.records += 1;
        }
        let Some(slot) = self.slots.get(source) else { return Ok(()) };
        let mut out = Emitted { sinks: &self.sinks, take };
        self.graph.push_partition(slot.node, number, &mut changes, &mut out).map_err(engine_error)
    }
}

fn lost() -> Error {
    Error::internal("the scratch run ended before its inputs")
}

/// The position keys of a plan's sources for the partitions that exist: key, topic, partition.
pub(crate) fn keys_of(
    positions: &BTreeMap<String, i64>,
) -> impl Iterator<Item = (&String, String, i32, i64)> {
    positions.iter().filter_map(|(key, offset)| {
        let mut parts = key.rsplitn(3, '/');
        let partition = parts.next()?.parse().ok()?;
        let topic = parts.next()?.to_owned();
        Some((key, topic, partition, *offset))
    })
}
