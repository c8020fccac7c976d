//! A connector that a worker holds: what it should be, and how it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::model::{
    self, Config, ConnectorInfo, ConnectorState, InstanceState, SnapshotState, State, TargetState, TaskId,
    TaskState,
};
use super::worker::Sample;
use crate::capture::{ConnectorHandle, Phase, SlotHealth};

/// A connector that this worker holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) config: Config,
    /// What its task was configured with: as Connect has it, a connector that does not run configures none.
    pub(super) task_config: Config,
    pub(super) target: TargetState,
    pub(super) handle: Option<Arc<ConnectorHandle>>,
    /// Those that were made later have greater ones.
    pub(super) number: u64,
    /// How it differs from its file.
    pub(super) differs: Option<String>,
    /// Why it could not even be started.
    pub(super) failed: Option<String>,
    /// Answer RESTARTING until the new run is under way.
    pub(super) restarting: bool,
    /// Whether it has a task: a connector has one from its first start until it is stopped.
    pub(super) has_task: bool,
    /// Whether it had one before it was stopped.
    pub(super) had_task: bool,
    /// The phase that was logged last.
    pub(super) said: &'static str,
    /// Topics used by earlier runs, since the last reset.
    pub(super) topics: BTreeSet<String>,
}

impl Held {
    pub(super) fn new(config: Config, target: TargetState) -> Self {
        Self {
            task_config: config.clone(),
            config,
            target,
            handle: None,
            differs: None,
            number: 0,
            failed: None,
            restarting: false,
            has_task: target == TargetState::Started,
            had_task: false,
            said: Phase::Stopped.name(),
            topics: BTreeSet::new(),
        }
    }

    pub(super) fn info(&self, name: &str) -> ConnectorInfo {
        let task =
            (self.has_task && self.failed.is_none()).then(|| TaskId { connector: name.to_owned(), task: 0 });
        let tasks = task.into_iter().collect();
        ConnectorInfo { name: name.to_owned(), config: model::masked(&self.config), tasks, kind: "source" }
    }

    pub(super) fn status(&self, name: &str, worker_id: &str) -> ConnectorState {
        let (mut snapshot, mut warning) = (None, None);
        let (connector, task, trace) = match self.target {
            TargetState::Stopped => (State::Stopped, None, None),
            TargetState::Paused => (State::Paused, self.has_task.then_some(State::Paused), None),
            TargetState::Started => {
                let status = self.handle.as_ref().map(|handle| handle.status());
                let error = status.as_ref().and_then(|s| s.error.as_ref().map(|e| e.screen()));
                if let Some(status) = &status {
                    snapshot = status.snapshot.as_ref().map(SnapshotState::from);
                    let danger = status.slot.as_ref().and_then(SlotHealth::danger);
                    let danger = danger.map(|danger| format!("the replication slot is in danger: {danger}"));
                    let others = status.left.clone().into_iter().chain(self.differs.clone());
                    let all: Vec<String> = danger.into_iter().chain(others).collect();
                    warning = (!all.is_empty()).then(|| all.join("; "));
                }
                match status.map(|s| s.phase) {
                    // What cannot even start is the connector's failure, not a task's.
                    None => match &self.failed {
                        Some(_) => (State::Failed, None, None),
                        None => (State::Unassigned, None, None),
                    },
                    Some(Phase::Failed) => (State::Running, Some(State::Failed), error),
                    Some(Phase::Starting) if self.restarting => {
                        (State::Restarting, Some(State::Restarting), None)
                    }
                    Some(Phase::Starting | Phase::Stopped) => (State::Running, Some(State::Unassigned), None),
                    Some(Phase::Reconnecting) => (State::Running, Some(State::Reconnecting), error),
                    Some(_) => (State::Running, Some(State::Running), None),
                }
            }
        };
        let state = |state, trace| InstanceState {
            state,
            worker_id: worker_id.to_owned(),
            trace,
            version: super::VERSION,
        };
        ConnectorState {
            name: name.to_owned(),
            connector: state(connector, self.failed.clone().filter(|_| connector == State::Failed)),
            tasks: task
                .into_iter()
                .map(|task| TaskState {
                    id: 0,
                    state: state(task, trace.clone()),
                    snapshot: snapshot.clone(),
                    warning: warning.clone(),
                })
                .collect(),
            kind: "source",
        }
    }

    /// For metrics and health.
    pub(super) fn sample(&self, name: &str) -> Sample {
        let status = self.handle.as_ref().map(|handle| handle.status());
        let state = match (self.target, &status) {
            (TargetState::Paused, _) => "PAUSED",
            (TargetState::Stopped, _) => "STOPPED",
            (TargetState::Started, Some(status)) => status.phase.name(),
            (TargetState::Started, None) => Phase::Failed.name(),
        };
        Sample {
            name: name.to_owned(),
            server: self.config.get("topic.prefix").and_then(Value::as_str).unwrap_or_default().to_owned(),
            state,
            wanted: self.target == TargetState::Started,
            status,
        }
    }

    /// Topics used since the last reset.
    pub(super) fn used_topics(&self) -> BTreeSet<String> {
        let now = self.handle.as_ref().map(|handle| handle.status().topics).unwrap_or_default();
        self.topics.iter().cloned().chain(now).collect()
    }

    /// Whether it has a run that does something, or says why it does not.
    pub(super) fn has_run(&self) -> bool {
        self.handle.as_ref().is_some_and(|handle| handle.status().phase != Phase::Stopped)
    }

    /// Its run has ended.
    pub(super) fn ended(&mut self) {
        self.topics = self.used_topics();
        self.handle = None;
    }
}
