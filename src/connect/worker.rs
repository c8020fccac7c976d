//! The worker: holds connectors, runs them, and keeps what they are in the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::ApiError;
use super::held::Held;
use super::model::{self, CONNECTOR_CLASS, Config, ConnectorInfo, ConnectorState, State, TargetState};
use super::statuses;
use super::store::Store;
use crate::capture::{self, Connector, ConnectorStatus, Phase, transactional_id};
use crate::config::connector::ConnectorConfig;
use crate::config::{AddressMap, settings};
use crate::error::{Error, Result};
use crate::log::Log;

/// At a stop, how long the status topic may take to be written.
const LAST_STATUSES: Duration = Duration::from_secs(2);

/// At a stop, how long the connectors may take: an orchestrator gives the process 10 s for all.
const LAST_RUNS: Duration = Duration::from_secs(6);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) connectors: BTreeMap<String, Held>,
    /// Records of the status topic as they were last written.
    pub(super) published: BTreeMap<String, Value>,
}

/// Runs connectors on one log.
#[derive(Debug)]
pub struct Worker {
    /// Held for moments only, never while something is waited for: whoever asks how things are is answered.
    pub(super) inner: Mutex<Inner>,
    /// Held by whoever changes what connectors are or whether they run, to the end of it.
    pub(super) edits: Mutex<()>,
    /// Held while something is written, which takes long when the log is away.
    pub(super) store: Mutex<Store>,
    pub(super) env: Env,
    /// The process ends: a change that is still under way starts nothing.
    closing: AtomicBool,
}

/// A look at a connector, for metrics and health.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Name.
    pub name: String,
    /// `topic.prefix`.
    pub server: String,
    /// Its phase, or PAUSED or STOPPED.
    pub state: &'static str,
    /// Whether it should run.
    pub wanted: bool,
    /// Of its run, where it has one.
    pub status: Option<ConnectorStatus>,
}

/// What a worker runs in.
#[derive(Clone)]
pub struct Env {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Names of the worker's topics.
    pub topics: settings::Worker,
    /// `--connect-to`.
    pub addresses: AddressMap,
    /// What a missing `database.sslmode` means.
    pub tls: settings::TlsDefault,
    /// Where streamed transactions lie that do not fit into memory.
    pub spill: std::path::PathBuf,
    /// `host:port` of the REST server; names the worker in statuses.
    pub worker_id: String,
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env").field("log", &self.log.describe()).field("worker_id", &self.worker_id).finish()
    }
}

impl Worker {
    /// Opens the worker's topics and starts the connectors that they hold.
    ///
    /// # Errors
    /// When the log cannot be reached.
    pub async fn start(env: Env) -> Result<Arc<Self>> {
        let store = Store::open(Arc::clone(&env.log), env.topics.clone()).await?;
        let stored = store.connectors().await?;
        let records = store.statuses().await?;
        let inner = Inner { connectors: BTreeMap::new(), published: BTreeMap::new() };
        let (inner, edits, store) = (Mutex::new(inner), Mutex::new(()), Mutex::new(store));
        let worker = Arc::new(Self { inner, edits, store, env, closing: AtomicBool::new(false) });
        let mut inner = worker.inner.lock().await;
        for (name, stored) in stored {
            let mut held = Held::new(stored.config, stored.target);
            held.has_task |= stored.has_task && stored.target != TargetState::Stopped;
            worker.bring_to_target(&name, &mut held);
            inner.connectors.insert(name, held);
        }
        statuses::restore(&mut inner, records);
        drop(inner);
        tokio::spawn(statuses::publish(Arc::downgrade(&worker)));
        Ok(worker)
    }

    /// An id of the log for `GET /`.
    pub fn cluster_id(&self) -> String {
        self.env.log.describe()
    }

    /// Names of all connectors, in the order in which Connect lists them.
    pub async fn names(&self) -> Vec<String> {
        let inner = self.inner.lock().await;
        let mut all: Vec<(&String, &Held)> = inner.connectors.iter().collect();
        all.sort_by_key(|(_, held)| held.number);
        let mut names: Vec<String> = all.into_iter().map(|(name, _)| name.clone()).collect();
        crate::java::hash::copied(&mut names);
        names
    }

    /// What a connector is.
    ///
    /// # Errors
    /// 404.
    pub async fn info(&self, name: &str) -> Result<ConnectorInfo, ApiError> {
        let inner = self.inner.lock().await;
        inner.connectors.get(name).map(|held| held.info(name)).ok_or_else(|| ApiError::not_found(name))
    }

    /// How all connectors are, for metrics and health.
    pub async fn samples(&self) -> Vec<Sample> {
        let inner = self.inner.lock().await;
        inner.connectors.iter().map(|(name, held)| held.sample(name)).collect()
    }

    /// How a connector is.
    ///
    /// # Errors
    /// 404.
    pub async fn status(&self, name: &str) -> Result<ConnectorState, ApiError> {
        let mut inner = self.inner.lock().await;
        let held = inner
            .connectors
            .get_mut(name)
            .ok_or_else(|| ApiError::new(404, format!("No status found for connector {name}")))?;
        if held.restarting && held.handle.as_ref().is_none_or(|h| h.status().phase != Phase::Starting) {
            held.restarting = false;
        }
        Ok(held.status(name, &self.env.worker_id))
    }

    /// Makes a connector.
    ///
    /// # Errors
    /// 400 for an invalid configuration, 409 where the name is taken.
    pub async fn create(
        &self,
        name: &str,
        mut config: Config,
        target: TargetState,
    ) -> Result<ConnectorInfo, ApiError> {
        if let Some(other) = config.get("name").and_then(Value::as_str)
            && other != name
        {
            return Err(ApiError::new(
                400,
                format!(
                    "Connector name configuration ({other}) doesn't match connector name in the URL ({name})"
                ),
            ));
        }
        config.insert("name".to_owned(), Value::from(name));
        let config = model::unmasked(config, None);
        // As Connect does it: an invalid configuration is the first thing to say, also of a name that is taken.
        self.check(&config).await?;
        self.create_checked(name, config, target).await
    }

    async fn create_checked(
        &self,
        name: &str,
        config: Config,
        target: TargetState,
    ) -> Result<ConnectorInfo, ApiError> {
        let _edits = self.edits.lock().await;
        if self.inner.lock().await.connectors.contains_key(name) {
            return Err(ApiError::new(409, format!("Connector {name} already exists")));
        }
        let mut held = Held::new(config, target);
        let mut store = self.store.lock().await;
        if target != TargetState::Started {
            store.put_target(name, target).await?;
        }
        store.put_config(name, &held.config, held.has_task.then(task_class).as_deref()).await?;
        drop(store);
        // Connect answers before the task is there.
        let mut info = held.info(name);
        info.tasks.clear();
        self.bring_to_target(name, &mut held);
        let mut inner = self.inner.lock().await;
        held.number = inner.connectors.values().map(|held| held.number + 1).max().unwrap_or(0);
        inner.connectors.insert(name.to_owned(), held);
        Ok(info)
    }

    /// Whether a connector stays as it is beside a file of its that was applied before: where the REST API has changed
    /// it since, that is said.
    pub async fn keeps(&self, name: &str, file: &Config, path: &std::path::Path) -> bool {
        let mut inner = self.inner.lock().await;
        let Some(held) = inner.connectors.get_mut(name) else { return false };
        let mut file = file.clone();
        file.insert("name".to_owned(), Value::from(name));
        if held.config != file {
            let text = format!(
                "it was changed over the REST API since {} was applied: that stays until the file changes",
                path.display()
            );
            tracing::warn!(connector = name, "{text}");
            held.differs = Some(text);
        }
        true
    }

    /// Takes a connector of a file: one that is held already is changed, and only a wrong configuration is an error. A
    /// source that is away now is the connector's state.
    ///
    /// # Errors
    /// 400 for an invalid configuration.
    pub async fn declare(&self, name: &str, mut config: Config) -> Result<bool, ApiError> {
        config.insert("name".to_owned(), Value::from(name));
        let old = self.inner.lock().await.connectors.get(name).map(|held| held.config.clone());
        let config = model::unmasked(config, old.as_ref());
        self.check_alone(&config).await?;
        match old {
            None => self.create_checked(name, config, TargetState::Started).await.map(|_| true),
            Some(old) if old == config => Ok(false),
            Some(old) => self.replace_checked(name, &old, config).await.map(|_| false),
        }
    }

    /// Makes or changes a connector; says whether it was made.
    ///
    /// # Errors
    /// 400 for an invalid configuration.
    pub async fn put_config(&self, name: &str, config: Config) -> Result<(bool, ConnectorInfo), ApiError> {
        let held = self.inner.lock().await.connectors.get(name).map(|held| held.config.clone());
        let Some(old) = held else {
            return self.create(name, config, TargetState::Started).await.map(|info| (true, info));
        };
        let mut config = model::unmasked(config, Some(&old));
        if let Some(other) = config.get("name").and_then(Value::as_str)
            && other != name
        {
            return Err(ApiError::new(
                400,
                format!(
                    "Connector name configuration ({other}) doesn't match connector name in the URL ({name})"
                ),
            ));
        }
        config.insert("name".to_owned(), Value::from(name));
        self.replace(name, &old, config).await.map(|info| (false, info))
    }

    /// Changes some properties; a null removes one.
    ///
    /// # Errors
    /// 404, or 400 for an invalid result.
    pub async fn patch_config(&self, name: &str, patch: Config) -> Result<ConnectorInfo, ApiError> {
        let old = {
            let inner = self.inner.lock().await;
            inner
                .connectors
                .get(name)
                .map(|held| held.config.clone())
                .ok_or_else(|| ApiError::not_found(name))?
        };
        let mut config = old.clone();
        for (key, value) in model::unmasked(patch, Some(&old)) {
            if value.is_null() {
                config.remove(&key);
            } else if key != "name" {
                config.insert(key, value);
            }
        }
        self.replace(name, &old, config).await
    }

    async fn replace(&self, name: &str, old: &Config, config: Config) -> Result<ConnectorInfo, ApiError> {
        self.check(&config).await?;
        self.replace_checked(name, old, config).await
    }

    async fn replace_checked(
        &self,
        name: &str,
        old: &Config,
        config: Config,
    ) -> Result<ConnectorInfo, ApiError> {
        let _edits = self.edits.lock().await;
        let (same, has_task) = {
            let inner = self.inner.lock().await;
            let held = inner.connectors.get(name).ok_or_else(|| ApiError::not_found(name))?;
            (held.config == *old, held.has_task)
        };
        if !same {
            return Err(ApiError::new(
                409,
                "Cannot complete request momentarily due to stale configuration (typically caused by a concurrent \
                 config change)",
            ));
        }
        self.store.lock().await.put_config(name, &config, has_task.then(task_class).as_deref()).await?;
        let changed = config != *old;
        if changed {
            self.halt(name).await;
        }
        let mut inner = self.inner.lock().await;
        let held = inner.connectors.get_mut(name).ok_or_else(|| ApiError::not_found(name))?;
        held.config = config;
        held.differs = None;
        if changed {
            self.bring_to_target(name, held);
        }
        Ok(held.info(name))
    }

    /// Ends a connector's run, cleanly. Others are answered meanwhile.
    pub(super) async fn halt(&self, name: &str) {
        self.halt_within(name, capture::STOP).await;
    }

    async fn halt_within(&self, name: &str, limit: Duration) {
        let handle = self.inner.lock().await.connectors.get(name).and_then(|held| held.handle.clone());
        if let Some(handle) = handle {
            handle.stop_within(limit).await;
        }
        if let Some(held) = self.inner.lock().await.connectors.get_mut(name) {
            held.ended();
        }
    }

    /// Changes the state that a connector should be in.
    ///
    /// # Errors
    /// 404.
    pub async fn set_target(&self, name: &str, target: TargetState) -> Result<(), ApiError> {
        let _edits = self.edits.lock().await;
        let unknown = || ApiError::new(404, format!("Unknown connector {name}"));
        let (config, before, has_task) = {
            let inner = self.inner.lock().await;
            let held = inner.connectors.get(name).ok_or_else(unknown)?;
            (held.config.clone(), held.target, held.has_task)
        };
        if before != target {
            self.store.lock().await.put_target(name, target).await?;
            if let Some(held) = self.inner.lock().await.connectors.get_mut(name) {
                held.target = target;
            }
        }
        if target == TargetState::Started {
            if !has_task {
                self.store.lock().await.put_tasks(name, &config, Some(&task_class())).await?;
            }
            let mut inner = self.inner.lock().await;
            let held = inner.connectors.get_mut(name).ok_or_else(unknown)?;
            held.has_task = true;
            if !held.has_run() {
                self.bring_to_target(name, held);
            }
            return Ok(());
        }
        if let Some(held) = self.inner.lock().await.connectors.get_mut(name) {
            held.failed = None;
        }
        self.halt(name).await;
        if target == TargetState::Stopped && has_task {
            if let Some(held) = self.inner.lock().await.connectors.get_mut(name) {
                (held.has_task, held.had_task) = (false, true);
            }
            self.store.lock().await.put_tasks(name, &config, None).await?;
        }
        Ok(())
    }

    /// Starts a connector again; the answer is the plan: what restarts says RESTARTING.
    ///
    /// # Errors
    /// 404.
    pub async fn restart(
        &self,
        name: &str,
        include_tasks: bool,
        only_failed: bool,
    ) -> Result<ConnectorState, ApiError> {
        let _edits = self.edits.lock().await;
        let (mut plan, failed) = {
            let inner = self.inner.lock().await;
            let held = inner
                .connectors
                .get(name)
                .ok_or_else(|| ApiError::new(404, format!("Unknown connector: {name}")))?;
            (held.status(name, &self.env.worker_id), held.failed.is_some())
        };
        if !only_failed || plan.connector.state == State::Failed {
            plan.connector.state = State::Restarting;
        }
        let mut restart_task = false;
        for task in &mut plan.tasks {
            if include_tasks && (!only_failed || task.state.state == State::Failed) {
                task.state.state = State::Restarting;
                restart_task = true;
            }
        }
        // The connector instance of Debezium holds nothing: only its task is worth a new start. A plain
        // restart of a running connector leaves its task alone, as Connect does.
        if restart_task || plan.connector.state == State::Restarting && failed {
            self.run_again(name).await;
        }
        Ok(plan)
    }

    /// Starts one task again.
    ///
    /// # Errors
    /// 404; 409 for a task that was given up.
    pub async fn restart_task(&self, name: &str, task: i32) -> Result<(), ApiError> {
        let _edits = self.edits.lock().await;
        let (has_task, had_task) = {
            let inner = self.inner.lock().await;
            let held = inner
                .connectors
                .get(name)
                .ok_or_else(|| ApiError::new(404, format!("Unknown connector: {name}")))?;
            (held.has_task, held.had_task)
        };
        if task != 0 || !(has_task || had_task) {
            return Err(ApiError::new(404, format!("Unknown task: {name}-{task}")));
        }
        if !has_task {
            return Err(ApiError::new(
                409,
                format!("Task {name}-{task} is not running: the connector is stopped; resume it first"),
            ));
        }
        self.run_again(name).await;
        Ok(())
    }

    /// The caller holds the edits.
    async fn run_again(&self, name: &str) {
        self.halt(name).await;
        if let Some(held) = self.inner.lock().await.connectors.get_mut(name) {
            held.failed = None;
            held.restarting = true;
            self.bring_to_target(name, held);
        }
    }

    /// A connector's tasks with their configurations.
    ///
    /// # Errors
    /// 404.
    pub async fn tasks(&self, name: &str) -> Result<Vec<Value>, ApiError> {
        let inner = self.inner.lock().await;
        let held = inner.connectors.get(name).ok_or_else(|| ApiError::not_found(name))?;
        let mut config = model::masked(&held.task_config);
        config.insert("task.class".to_owned(), Value::from(task_class()));
        Ok(held.info(name).tasks.into_iter().map(|id| json!({ "id": id, "config": config })).collect())
    }

    /// Topics a connector has written to since the last reset; none for an unknown one.
    pub async fn topics(&self, name: &str) -> Vec<String> {
        let inner = self.inner.lock().await;
        let Some(held) = inner.connectors.get(name) else { return Vec::new() };
        held.used_topics().into_iter().collect()
    }

    /// Forgets the topics used so far; of an unknown connector there are none.
    pub async fn reset_topics(&self, name: &str) {
        let mut inner = self.inner.lock().await;
        let Some(held) = inner.connectors.get_mut(name) else { return };
        held.topics.clear();
        if let Some(handle) = &held.handle {
            handle.forget_topics();
        }
    }

    /// An ordinary session on a connector's source.
    pub(super) async fn connect(&self, config: &ConnectorConfig) -> Result<tokio_postgres::Client> {
        let database = config.database(&self.env.addresses, self.env.tls)?;
        crate::pg::connect(&database).await
    }

    /// Starts what should run; a start that fails is the connector's state, not the caller's error.
    pub(super) fn bring_to_target(&self, name: &str, held: &mut Held) {
        if held.target != TargetState::Started || self.closing.load(Ordering::Acquire) {
            return;
        }
        held.task_config.clone_from(&held.config);
        let start = || {
            let config = ConnectorConfig::from_map(name, texts(&held.config))?;
            let exactly_once = self.env.topics.exactly_once_source_support;
            if !exactly_once && config.text("exactly.once.support").eq_ignore_ascii_case("required") {
                return Err(Error::config(format!("connector {name} cannot run on this worker"))
                    .because("exactly.once.support is required, and the worker has it switched off")
                    .next("set exactly_once_source_support = true under [worker], or exactly.once.support=requested"));
            }
            let env = capture::Env {
                log: Arc::clone(&self.env.log),
                offsets_topic: self.env.topics.offset_storage_topic.clone(),
                // Connect's own: whoever takes the connector over fences the one who had it.
                transactional_id: transactional_id(&self.env.topics.group_id, name),
                exactly_once,
                addresses: self.env.addresses.clone(),
                tls: self.env.tls,
                spill: self.env.spill.clone(),
                observer: None,
                fail_fast: false,
            };
            Connector::start(config, env)
        };
        match start() {
            Ok(handle) => (held.handle, held.failed) = (Some(Arc::new(handle)), None),
            Err(error) => held.failed = Some(error.to_string()),
        }
    }

    /// Stops all connectors at once, each cleanly. Their target states stay: the next start goes on.
    pub async fn shut_down(&self) {
        self.closing.store(true, Ordering::Release);
        let names = self.names().await;
        futures_util::future::join_all(names.iter().map(|name| self.halt_within(name, LAST_RUNS))).await;
        match tokio::time::timeout(LAST_STATUSES, statuses::publish_once(self)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the status topic cannot be written"),
            Err(_) => tracing::warn!("the log does not take the last statuses"),
        }
    }
}

pub(super) fn task_class() -> String {
    format!("{CONNECTOR_CLASS}Task")
}

/// Property texts; a null property is one that is not set.
pub(super) fn texts(config: &Config) -> BTreeMap<String, String> {
    config.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}
