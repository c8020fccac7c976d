//! From plan to running threads: state, fences, recovery.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc, watch};

use super::batching::Batching;
use super::change;
use super::directory::StateDirectory;
use super::ends::{Input, NO_NODE, Opening, merged, open_sinks, source_slots};
use super::epoch::{self, Recovery, Refusal};
use super::lookup::Lookups;
use super::pipeline::{Environment, Inner, PipelineControl, PipelineHandle};
use super::registries::Registries;
use super::source::{READ_AHEAD, SourceTask};
use super::status::{Phase, Shared, SinkStatus};
use super::worker::{Event, SinkSlot, Work, Worker, engine_error, state_error};
use super::writer::{SinkTask, Write, write_through};
use crate::engine::format::FormatContext;
use crate::engine::graph::{self, Graph, SystemClock};
use crate::engine::plan::Plan;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::sink::output::Collector;
use crate::sink::{Fence, format_error, outbox};
use crate::state::store::StoreOptions;
use crate::state::{Head, OpenEpoch, Store};

/// The directory of a pipeline: its name with what file systems do not take replaced.
pub fn directory(data: &Path, pipeline: &str) -> PathBuf {
    const KEEP: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b' ');
    let name = percent_encoding::utf8_percent_encode(pipeline, KEEP).to_string();
    data.join("pipelines").join(name)
}

/// Where a pipeline's state lies.
pub fn state_directory(data: &Path, pipeline: &str) -> PathBuf {
    directory(data, pipeline).join("state")
}

/// What a plan computes, in short: two plans of one fingerprint go on with each other's state without a question.
/// Nodes are named by what they do (see [`change`]); where servers are is no part of it.
pub(crate) fn fingerprint(plan: &Plan) -> String {
    let mut digest = Sha256::new();
    for node in &plan.nodes {
        digest.update(node.name.as_bytes());
        digest.update([0]);
    }
    // When results are written is no part of what they are.
    let computes = |name: &str| {
        let timing = name.starts_with("table.exec.mini-batch.") || name == "table.exec.state.ttl";
        !timing && (name.starts_with("table.") || name == "millstream.compat.strict")
    };
    for (name, value) in plan.options.iter().filter(|(name, _)| computes(name)) {
        digest.update(format!("{name}={value}\0"));
    }
    if change::expires(plan) {
        digest.update(b"state expires");
    }
    digest.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// A pipeline whose plan, options and state are in order, before anything is asked of its targets.
struct Launch {
    name: String,
    environment: Environment,
    sinks: Vec<Opening>,
    sources: Vec<Input>,
    store: Store,
    graph: Graph,
    batching: Batching,
    /// Fingerprint and shape.
    plan: (String, BTreeMap<String, String>),
    events: std::sync::mpsc::Sender<Event>,
    events_in: std::sync::mpsc::Receiver<Event>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    /// Let go of last.
    directory: StateDirectory,
}

/// How long a patient start waits between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts a pipeline.
pub(super) async fn start(plan: &Plan, name: &str, environment: Environment) -> Result<PipelineHandle> {
    let format = format_context(plan, name, &environment)?;
    let batching = Batching::new(&plan.options)?;
    let sources = source_slots(plan, &format)?;
    let dead_letter_topics = sources.iter().filter_map(|input| input.dead_letter_topic.clone()).collect();
    let sinks = open_sinks(plan, name, &environment, &format, &dead_letter_topics)?;
    let shared = Arc::new(Shared::new(name, plan.warnings.clone()));
    let (stop, stopped) = watch::channel(false);
    let lookups = Lookups {
        runtime: tokio::runtime::Handle::current(),
        addresses: environment.addresses.clone(),
        format: format.clone(),
        shared: Arc::clone(&shared),
        stop: stopped,
    };
    let directory = {
        let (data, name) = (environment.data.clone(), name.to_owned());
        tokio::task::spawn_blocking(move || StateDirectory::take(&data, &name))
            .await
            .map_err(|e| Error::internal("opening the state failed").with_source(e))??
    };
    let (store, graph) = open_state(plan, directory.state(), !environment.ephemeral, lookups).await?;
    let sources = merged(sources, store.head(), &format)?;
    let fingerprint = fingerprint(plan);
    if let Some(warning) = change::check(store.head(), plan, &fingerprint, name)? {
        tracing::warn!(pipeline = name, "{warning}");
        shared.warn(warning);
    }
    // Only now: a script that is refused does not take the place of the one that the state was computed by.
    if let Some(script) = &environment.script {
        super::saved::save(&environment.data, name, script)?;
        shared.keep_failure(super::start::directory(&environment.data, name).join(super::saved::FAILURE));
    }

    let (events, events_in) = std::sync::mpsc::channel::<Event>();
    let inner = Inner {
        name: name.to_owned(),
        plan: Arc::new(plan.clone()),
        environment: environment.clone(),
        shared: Arc::clone(&shared),
        commands: events.clone(),
        stop: stop.clone(),
        replay: tokio::sync::Mutex::default(),
    };
    let patient = environment.patient;
    let launch = Launch {
        name: name.to_owned(),
        environment,
        sinks,
        sources,
        store,
        graph,
        batching,
        plan: (fingerprint, change::shape(plan)),
        events,
        events_in,
        shared: Arc::clone(&shared),
        stop,
        directory,
    };
    let handle = PipelineHandle::new(PipelineControl { inner: Arc::new(inner) });
    if patient {
        tokio::spawn(async move {
            if let Err(error) = launch.run(true).await {
                let stopped = error.kind() == Kind::Stopped;
                let (phase, failure) =
                    if stopped { (Phase::Stopped, None) } else { (Phase::Failed, Some(error)) };
                shared.finish(phase, failure);
            }
        });
    } else {
        launch.run(false).await?;
    }
    Ok(handle)
}

/// What formats need besides their tables.
pub(super) fn format_context(plan: &Plan, name: &str, environment: &Environment) -> Result<FormatContext> {
    let mut format = FormatContext::new(&plan.options).map_err(|e| format_error(name, e))?;
    format.registries = Some(Arc::new(Registries { addresses: environment.addresses.clone() }));
    Ok(format)
}

impl Launch {
    /// Brings state and targets together and starts the tasks and the thread. Patiently: targets that cannot be
    /// reached are tried again and again.
    async fn run(mut self, patient: bool) -> Result<()> {
        let writer = epoch::token(self.store.head());
        let mut stopped = self.stop.subscribe();
        let (mut moved, mut last) = (0, None);
        loop {
            let Self { store, sinks, plan, environment, shared, stop, .. } = &mut self;
            // Given up in its midst, it is done again at the next start, as after a crash.
            let recovered = tokio::select! {
                recovered = recover(store, sinks, plan, &writer, environment.fresh, shared, stop) => recovered,
                _ = stopped.wait_for(|stop| *stop) => return Err(stopped_early()),
            };
            match recovered {
                Ok(None) => break,
                // What a process committed right before it died may show a moment later (Kafka).
                Ok(Some(_)) if moved < 5 => moved += 1,
                Ok(Some(sink)) => {
                    return Err(Error::new(
                        Kind::Fenced,
                        format!("sink {sink}: another process took it while this one started"),
                    )
                    .next("stop the other process, then start this one again"));
                }
                Err(error) if patient && error.is_transient() => {
                    let screen = error.screen();
                    shared.retrying("start", Some(screen.clone()));
                    if last.as_ref() != Some(&screen) {
                        tracing::warn!(pipeline = self.name, %error, "a target cannot be reached, trying again");
                        last = Some(screen);
                    }
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                _ = stopped.wait_for(|stop| *stop) => return Err(stopped_early()),
            }
        }
        self.shared.retrying("start", None);
        // Only now that the state says which query it is of: one that goes back to the old query before finds all of
        // it.
        let purged = tokio::task::block_in_place(|| self.store.purge()).map_err(state_error)?;
        if purged > 0 {
            tracing::info!(
                pipeline = self.name,
                tables = purged,
                "deleted the state of operators that the query has no more"
            );
        }
        let head = self.store.head().clone();
        let sinks = self.sink_tasks(&head, &writer);
        self.shared.began(&head.begins);
        self.shared.committed(head.epoch, &head.inputs, None, std::iter::empty());
        self.shared.held(self.environment.held);
        self.source_tasks(&head);
        let Self {
            name,
            environment,
            sources,
            store,
            graph,
            events_in,
            shared,
            stop,
            batching,
            directory,
            ..
        } = self;
        let ended = stop.clone();
        let worker = Worker {
            batching,
            graph,
            work: Work::new(store.head(), environment.held),
            store,
            sources: sources.into_iter().map(|input| input.slot).collect(),
            sinks,
            events: events_in,
            shared: Arc::clone(&shared),
            stop,
            watcher: environment.watcher,
            _directory: directory,
        };
        std::thread::Builder::new()
            .name(format!("pipeline-{name}").chars().take(15).collect())
            .spawn(move || {
                // A panic must not look like a pipeline that runs.
                let run = std::panic::AssertUnwindSafe(|| worker.run());
                if std::panic::catch_unwind(run).is_err() {
                    ended.send_replace(true);
                    let error = Error::internal("the pipeline's thread panicked")
                        .next("nothing is lost: start the pipeline again; please report the message above");
                    shared.finish(Phase::Failed, Some(error));
                }
            })
            .map(drop)
            .map_err(|e| Error::transient("cannot start a thread for the pipeline").with_source(e))
    }

    fn sink_tasks(&mut self, head: &Head, writer: &str) -> Vec<SinkSlot> {
        let mut slots = Vec::new();
        let mut statuses = Vec::new();
        for (index, opening) in std::mem::take(&mut self.sinks).into_iter().enumerate() {
            let epoch = head.sinks.get(&opening.name).copied().unwrap_or(0);
            let target = opening.sink.describe();
            statuses.push(SinkStatus { name: opening.name.clone(), target, epoch, due: epoch, rows: 0 });
            let (writes, writes_in) = mpsc::unbounded_channel();
            let watermark = Arc::new(AtomicI64::new(i64::MIN));
            slots.push(SinkSlot {
                node: opening.node,
                name: opening.name.clone(),
                collector: Collector::new(opening.reduction),
                epoch,
                written: epoch,
                writes: Some(writes),
                watermark: Arc::clone(&watermark),
            });
            let task = SinkTask {
                index,
                name: opening.name,
                sink: opening.sink,
                writer: writer.to_owned(),
                writes: writes_in,
                events: self.events.clone(),
                shared: Arc::clone(&self.shared),
                stop: self.stop.subscribe(),
                watcher: self.environment.watcher.clone(),
                watermark,
            };
            tokio::spawn(task.run());
        }
        self.shared.sinks(statuses);
        slots
    }

    fn source_tasks(&self, head: &Head) {
        let room = Arc::new(Semaphore::new(READ_AHEAD));
        for (index, Input { slot, kind, definition, .. }) in self.sources.iter().enumerate() {
            self.shared.behind(&slot.name, true);
            let task = SourceTask {
                index,
                name: slot.name.clone(),
                table: slot.table.clone(),
                kind: kind.clone(),
                definition: Arc::clone(definition),
                addresses: self.environment.addresses.clone(),
                log: Arc::clone(&self.environment.log),
                positions: head.inputs.clone(),
                keys: head.keys.clone(),
                numbers: head.numbers.clone(),
                wait_for_topics: self.environment.wait_for_topics,
                room: Arc::clone(&room),
                events: self.events.clone(),
                shared: Arc::clone(&self.shared),
                stop: self.stop.subscribe(),
                until: None,
            };
            tokio::spawn(task.run());
        }
    }
}

fn stopped_early() -> Error {
    Error::new(Kind::Stopped, "stopped before the targets were reached")
}

/// Opens the state and builds the graph on it, off the async threads.
pub(super) async fn open_state(
    plan: &Plan,
    directory: &Path,
    durable: bool,
    mut lookups: Lookups,
) -> Result<(Store, Graph)> {
    let (plan, directory) = (plan.clone(), directory.to_owned());
    tokio::task::spawn_blocking(move || {
        let options = StoreOptions { durable, ..StoreOptions::default() };
        let mut store = Store::open_when_free(&directory, options).map_err(state_error)?;
        let environment = graph::Environment { clock: Arc::new(SystemClock), lookup: &mut lookups };
        let graph = Graph::build(&plan, &mut store, environment).map_err(engine_error)?;
        Ok((store, graph))
    })
    .await
    .map_err(|e| Error::internal("opening the state failed").with_source(e))?
}

/// Brings state and targets together: checks every fence, renews the writer's token, replays outboxes. Gives the
/// sink whose fence moved while it was looked at: then it is to be done again.
async fn recover(
    store: &mut Store,
    sinks: &mut [Opening],
    plan: &(String, BTreeMap<String, String>),
    writer: &str,
    fresh: bool,
    shared: &Shared,
    stop: &watch::Sender<bool>,
) -> Result<Option<String>> {
    let (fingerprint, nodes) = plan;
    let mut head = Head { plan: fingerprint.clone(), nodes: nodes.clone(), ..store.head().clone() };
    if fresh {
        head.takeover = true;
    }
    // First a look at all, so that a refusal changes nothing.
    let mut found: Vec<(Recovery, Option<Fence>)> = Vec::new();
    for opening in sinks.iter_mut() {
        if !opening.sink.is_fenced() {
            let open = head.open.contains_key(&opening.name);
            if !open && (head.takeover || !head.sinks.contains_key(&opening.name)) {
                opening.sink.begin().await?;
            }
            let behind = !open && head.written.get(&opening.name) < head.sinks.get(&opening.name);
            found.push((if behind { Recovery::Replay } else { Recovery::Continue }, None));
            continue;
        }
        let written = head.sinks.get(&opening.name).is_some_and(|epoch| *epoch > 0);
        opening.sink.expects_target(written && !head.takeover);
        let fence = opening.sink.fence().await?;
        let decision = match epoch::recover(&head, &opening.name, fence.as_ref()) {
            // Dead letters of an earlier life: they are only ever appended to.
            Err(Refusal::OtherWriter) if opening.node == NO_NODE && !written => Ok(Recovery::TakeOver),
            other => other,
        };
        let decision = decision.map_err(|refusal| {
            Error::new(Kind::Fenced, format!("sink {} ({}) may not be written", opening.name, opening.sink.describe()))
                .because(refusal.cause())
                .next(
                    "use the state directory that the target was written from; or `millstream pipelines reset NAME`, \
                     which computes everything anew from the log and writes it over what the target holds",
                )
        })?;
        found.push((decision, fence));
    }
    if !head.writers.iter().any(|w| w == writer) {
        head.writers.push(writer.to_owned());
    }
    for (opening, (decision, _)) in sinks.iter().zip(&found) {
        if *decision == Recovery::TakeOver {
            // What a savepoint held for it is in the target.
            head.sinks.remove(&opening.name);
            head.open.remove(&opening.name);
        }
    }
    commit(store, &head).await?;
    failpoint!("recovery.token");
    let again = Again { writer, shared, stop };
    for opening in sinks.iter_mut().filter(|opening| !opening.sink.is_fenced()) {
        again.settle(store, &mut head, opening).await?;
        if let Some(life) = opening.sink.life().await? {
            head.lives.insert(opening.name.clone(), life);
        }
    }
    for (opening, (decision, fence)) in sinks.iter_mut().zip(&found) {
        if !opening.sink.is_fenced() {
            continue;
        }
        let new = epoch::renewed(decision, fence.as_ref(), writer);
        if !opening.sink.claim(fence.as_ref(), &new).await? {
            return Ok(Some(opening.name.clone()));
        }
        head.tokens.insert(opening.name.clone(), writer.to_owned());
        failpoint!("recovery.claimed");
    }
    for (opening, (decision, _)) in sinks.iter_mut().zip(&found) {
        if !matches!(decision, Recovery::Replay | Recovery::TakeOverAndReplay) {
            continue;
        }
        let epoch = head.sinks.get(&opening.name).copied().unwrap_or(0);
        again.write(store, opening, epoch, head.epoch).await?;
        failpoint!("recovery.replayed");
    }
    head.writers = vec![writer.to_owned()];
    head.takeover = false;
    head.open.clear();
    head.written.clone_from(&head.sinks);
    commit(store, &head).await.map(|()| None)
}

/// Writes outboxes at a start.
struct Again<'a> {
    writer: &'a str,
    shared: &'a Shared,
    stop: &'a watch::Sender<bool>,
}

impl Again<'_> {
    async fn write(&self, store: &Store, opening: &mut Opening, epoch: u64, of: u64) -> Result<()> {
        let parts = store.outbox(&opening.name).map_err(state_error)?;
        let output = outbox::decode(&parts).ok_or_else(|| {
            Error::data(format!("the state's outbox of sink {} cannot be read", opening.name))
                .next("the epoch it held is lost: compute everything anew with `millstream pipelines reset`")
        })?;
        tracing::info!(sink = opening.name, epoch, "writing the last epoch again");
        let write = Write { epoch, of, output, watermark: i64::MIN };
        let mut stop = self.stop.subscribe();
        write_through(opening.sink.as_mut(), &opening.name, self.writer, &write, self.shared, &mut stop).await
    }

    /// A savepoint's epoch for a sink without a fence: it is written under the number that the target knows it by, where
    /// that is the target of then; in a life of its own where it is another. Then epochs count anew.
    async fn settle(&self, store: &mut Store, head: &mut Head, opening: &mut Opening) -> Result<()> {
        let Some(open) = head.open.get(&opening.name) else { return Ok(()) };
        let mut epoch = open.epoch;
        if open.life.is_none() || open.life != opening.sink.life().await? {
            opening.sink.begin().await?;
            epoch = 1;
            let open = OpenEpoch { epoch, writers: Vec::new(), life: opening.sink.life().await? };
            head.open.insert(opening.name.clone(), open);
            commit(store, head).await?;
        }
        failpoint!("recovery.settling");
        self.write(store, opening, epoch, head.epoch).await?;
        failpoint!("recovery.replayed");
        head.open.remove(&opening.name);
        head.sinks.remove(&opening.name);
        commit(store, head).await?;
        opening.sink.begin().await
    }
}

async fn commit(store: &mut Store, head: &Head) -> Result<()> {
    // A few hundred bytes and one sync.
    tokio::task::block_in_place(|| store.commit(head.clone(), &[])).map_err(state_error)
}
