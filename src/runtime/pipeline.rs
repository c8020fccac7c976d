//! A running pipeline, as its owner sees it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::registry;
use super::start;
use super::status::{Hop, Phase, PipelineStatus, Shared};
use super::worker::{Command, Event};
use crate::config::address::AddressMap;
use crate::engine::plan::Plan;
use crate::error::{Error, Kind, Result};
use crate::log::Log;
use crate::sink::Output;
use crate::sink::print::PrintTarget;

/// What a pipeline runs in.
#[derive(Clone)]
pub struct Environment {
    /// Where topics live; overrides the bootstrap servers in the SQL.
    pub log: Arc<dyn Log>,
    /// The data directory: state lies in `pipelines/NAME/state` within it.
    pub data: PathBuf,
    /// `--connect-to`.
    pub addresses: AddressMap,
    /// Where print sinks write.
    pub print: PrintTarget,
    /// Wait for topics that do not exist yet (a connector beside it will make them) instead of failing.
    pub wait_for_topics: bool,
    /// Start anew: earlier state is removed, and the targets are taken over.
    pub fresh: bool,
    /// Keep no state: `data` is a temporary directory, and nothing is synced to disk.
    pub ephemeral: bool,
    /// The script to keep beside the state, for replays and restarts while the pipeline is stopped.
    pub script: Option<String>,
    /// Return before the targets are reached, and try again as long as they cannot be (for services).
    pub patient: bool,
    /// Start held: nothing is read until [`PipelineControl::release`] (for a replay with the pipeline stopped).
    pub held: bool,
    /// Gets the hops of each epoch, as far as it keeps up.
    pub watcher: Option<mpsc::Sender<Hop>>,
}

impl Environment {
    /// With this log and data directory, and nothing special.
    pub fn new(log: Arc<dyn Log>, data: impl Into<PathBuf>) -> Self {
        Self {
            log,
            data: data.into(),
            addresses: AddressMap::default(),
            print: PrintTarget::Terminal,
            wait_for_topics: false,
            fresh: false,
            ephemeral: false,
            script: None,
            patient: false,
            held: false,
            watcher: None,
        }
    }
}

/// Starts pipelines.
#[derive(Clone, Copy, Debug)]
pub struct Pipeline;

impl Pipeline {
    /// Starts a pipeline, or goes on where one of this name stopped; returns when its sinks are reached and what
    /// an interrupted run left is written.
    ///
    /// # Errors
    /// Where the plan, an option or a target does not fit ([`Kind::Config`], [`Kind::Refused`]); where state and
    /// target do not belong together or another process has them ([`Kind::Fenced`]); where a target cannot be
    /// reached ([`Kind::Transient`]: the caller may try again).
    pub async fn start(plan: &Plan, name: &str, environment: Environment) -> Result<PipelineHandle> {
        if environment.fresh {
            let (data, name) = (environment.data.clone(), name.to_owned());
            let reset = tokio::task::spawn_blocking(move || super::saved::reset(&data, &name));
            reset.await.map_err(|e| Error::internal("removing the state failed").with_source(e))??;
        }
        start::start(plan, name, environment).await
    }

    /// A pipeline that has failed before it could start, for those who ask after it.
    pub(super) fn failed(plan: &Plan, name: &str, environment: Environment, error: Error) -> PipelineHandle {
        let shared = Arc::new(Shared::new(name, plan.warnings.clone()));
        shared.finish(Phase::Failed, Some(error));
        let inner = Inner {
            name: name.to_owned(),
            plan: Arc::new(plan.clone()),
            environment,
            shared,
            commands: std::sync::mpsc::channel().0,
            stop: watch::Sender::new(true),
            replay: tokio::sync::Mutex::default(),
        };
        PipelineHandle::new(PipelineControl { inner: Arc::new(inner) })
    }
}

/// A running pipeline, owned: dropping the handle stops it without waiting.
#[derive(Debug)]
pub struct PipelineHandle {
    control: PipelineControl,
}

impl PipelineHandle {
    pub(super) fn new(control: PipelineControl) -> Self {
        registry::add(&control);
        Self { control }
    }

    /// A way to look at it and to speak to it that does not own it.
    pub fn control(&self) -> PipelineControl {
        self.control.clone()
    }

    /// Stops it cleanly: what was read is committed and written, within about eight seconds.
    ///
    /// # Errors
    /// What the pipeline failed of.
    pub async fn stop(self) -> Result<()> {
        self.control.stop().await
    }
}

impl std::ops::Deref for PipelineHandle {
    type Target = PipelineControl;

    fn deref(&self) -> &PipelineControl {
        &self.control
    }
}

impl Drop for PipelineHandle {
    fn drop(&mut self) {
        self.control.ask_to_stop();
    }
}

/// A running pipeline as those see it who do not own it.
#[derive(Clone, Debug)]
pub struct PipelineControl {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) name: String,
    pub(super) plan: Arc<Plan>,
    pub(super) environment: Environment,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Sender<Event>,
    pub(super) stop: watch::Sender<bool>,
    /// Held by the replay that writes.
    pub(super) replay: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("name", &self.name).finish_non_exhaustive()
    }
}

impl PipelineControl {
    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What it runs.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.inner.plan
    }

    /// What it runs in.
    pub fn environment(&self) -> &Environment {
        &self.inner.environment
    }

    /// Where it stands.
    pub fn status(&self) -> PipelineStatus {
        self.inner.shared.status()
    }

    /// Changes whenever the status may have.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.shared.subscribe()
    }

    /// Waits for the end, whoever asks for it.
    ///
    /// # Errors
    /// What the pipeline failed of.
    pub async fn wait(&self) -> Result<Phase> {
        let mut changes = self.inner.shared.subscribe();
        loop {
            let phase = self.inner.shared.status().phase;
            if phase.is_final() {
                return match self.inner.shared.failure() {
                    Some(failure) => Err(copy_error(&failure)),
                    None => Ok(phase),
                };
            }
            if changes.changed().await.is_err() {
                return Err(Error::internal("the pipeline has gone"));
            }
        }
    }

    /// Waits until every sink has committed all that was read and nothing came in for `quiet`; or for the end.
    ///
    /// # Errors
    /// What the pipeline failed of.
    pub async fn idle(&self, quiet: Duration) -> Result<()> {
        let mut changes = self.inner.shared.subscribe();
        loop {
            if self.inner.shared.status().phase.is_final() {
                return self.wait().await.map(drop);
            }
            let left = self.inner.shared.idle_since().map(|since| quiet.saturating_sub(since.elapsed()));
            match left {
                Some(Duration::ZERO) => return Ok(()),
                left => {
                    let pause = left.unwrap_or(quiet).max(Duration::from_millis(1));
                    let _ = tokio::time::timeout(pause, changes.changed()).await;
                }
            }
        }
    }

    /// Waits until everything that is in the log now is in the sinks (for sources that are read already).
    ///
    /// # Errors
    /// What the pipeline failed of, or what the log says.
    pub async fn caught_up(&self, log: &dyn Log) -> Result<()> {
        let mut ends: BTreeMap<String, i64> = BTreeMap::new();
        for name in log.topics().await? {
            let Some(info) = log.topic(&name).await? else { continue };
            for (partition, range) in info.partitions.iter().enumerate() {
                if range.end > range.earliest {
                    ends.insert(format!("{name}/{partition}"), range.end);
                }
            }
        }
        let from_the_start = topics_read_from_the_start(&self.inner.plan);
        let mut changes = self.inner.shared.subscribe();
        loop {
            let status = self.inner.shared.status();
            if status.phase.is_final() {
                return self.wait().await.map(drop);
            }
            // Right after the start no partition has a position yet: that is not "caught up".
            let unread = ends.keys().any(|partition| {
                let topic = partition.rsplit_once('/').map_or("", |(topic, _)| topic);
                from_the_start.contains(topic)
                    && !status
                        .positions
                        .keys()
                        .any(|key| key.split_once('/').is_some_and(|(_, p)| p == partition))
            });
            let behind = unread
                || status.positions.iter().any(|(key, next)| {
                    let (source, partition) = key.split_once('/').unwrap_or_default();
                    // The state also keeps where those stood that the query has no more.
                    self.inner.plan.nodes.iter().any(|node| node.name == source)
                        && ends.get(partition).is_some_and(|end| next < end)
                });
            if !behind && self.inner.shared.idle_since().is_some() {
                return Ok(());
            }
            let _ = tokio::time::timeout(Duration::from_millis(200), changes.changed()).await;
        }
    }

    /// Stops it cleanly, within about eight seconds.
    ///
    /// # Errors
    /// What the pipeline failed of; [`Kind::Stopped`] where it does not end in time.
    pub async fn stop(&self) -> Result<()> {
        self.ask_to_stop();
        match tokio::time::timeout(Duration::from_secs(10), self.wait()).await {
            Ok(result) => result.map(drop),
            Err(_) => {
                Err(Error::new(Kind::Stopped, format!("pipeline {} did not stop in time", self.name())))
            }
        }
    }

    fn ask_to_stop(&self) {
        // The thread may have ended already: then there is nobody to tell. One that still waits for its targets
        // listens to the other.
        let _ = self.inner.commands.send(Event::Command(Command::Stop));
        self.inner.stop.send_replace(true);
    }

    /// The right to replay, until it is dropped.
    ///
    /// # Errors
    /// Where another replay has it: each would let the pipeline go on under the other.
    pub(crate) fn replay_alone(&self) -> Result<tokio::sync::MutexGuard<'_, ()>> {
        self.inner.replay.try_lock().map_err(|_| {
            Error::new(Kind::Refused, format!("a replay of pipeline {} runs already", self.name()))
                .next("wait until it is done, then try again")
        })
    }

    /// Lets it finish its epoch and stand still; gives the input offsets it stands at.
    pub(crate) async fn hold(&self) -> Result<BTreeMap<String, i64>> {
        self.ask(Command::Hold).await
    }

    /// Writes rows as an epoch of their own while it is held.
    pub(crate) async fn inject(&self, outputs: Vec<(String, Output)>) -> Result<()> {
        self.ask(|reply| Command::Inject(outputs, reply)).await?
    }

    /// Writes its state, as of an epoch that all targets hold, to a file; it stands still meanwhile. Gives the file's
    /// size in bytes.
    ///
    /// # Errors
    /// Where it is not running, or the file cannot be written.
    pub async fn savepoint(&self, path: PathBuf) -> Result<u64> {
        let known = super::saved::find(&self.inner.environment.data, self.name())?;
        let script = super::saved::script(&known)?;
        self.ask(|reply| Command::Savepoint(script, path, reply)).await?
    }

    /// Lets it go on.
    pub(crate) fn release(&self) {
        let _ = self.inner.commands.send(Event::Command(Command::Release));
    }

    async fn ask<R>(&self, command: impl FnOnce(oneshot::Sender<R>) -> Command) -> Result<R> {
        let (reply, answer) = oneshot::channel();
        let gone = || Error::new(Kind::Stopped, format!("pipeline {} is not running", self.name()));
        self.inner.commands.send(Event::Command(command(reply))).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// Topics whose every partition gets a position as soon as it holds a record.
fn topics_read_from_the_start(plan: &Plan) -> std::collections::BTreeSet<&str> {
    let option = |table: &'_ crate::engine::plan::TableRef, name: &str, value: &str| {
        table.options.get(name).is_some_and(|v| v == value)
    };
    plan.nodes
        .iter()
        .filter_map(|node| match &node.op {
            crate::engine::plan::Op::Source(table) => Some(table),
            _ => None,
        })
        .filter(|table| {
            option(table, "connector", "upsert-kafka")
                || option(table, "scan.startup.mode", "earliest-offset")
        })
        .filter_map(|table| table.options.get("topic"))
        .flat_map(|topics| topics.split(';').map(str::trim))
        .collect()
}

/// An error's parts as a new one: the pipeline keeps its own.
pub(super) fn copy_error(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), error.what().to_owned());
    if let Some(cause) = error.cause() {
        copy = copy.because(cause);
    }
    match error.next_step() {
        Some(next) => copy.next(next.to_owned()),
        None => copy,
    }
}
