//! The worker: holds connectors, runs them, and keeps what they are in the log.

use std::collections::BTreeMap;
use std::sync::Arc;

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

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) store: Store,
    pub(super) connectors: BTreeMap<String, Held>,
    /// Records of the status topic as they were last written.
    pub(super) published: BTreeMap<String, Value>,
}

/// Runs connectors on one log.
#[derive(Debug)]
pub struct Worker {
    pub(super) inner: Mutex<Inner>,
    pub(super) env: Env,
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
        let inner = Inner { store, connectors: BTreeMap::new(), published: BTreeMap::new() };
        let worker = Arc::new(Self { inner: Mutex::new(inner), env });
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

    /// Names of all connectors.
    pub async fn names(&self) -> Vec<String> {
        self.inner.lock().await.connectors.keys().cloned().collect()
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
        let mut inner = self.inner.lock().await;
        if inner.connectors.contains_key(name) {
            return Err(ApiError::new(409, format!("Connector {name} already exists")));
        }
        if target != TargetState::Started {
            inner.store.put_target(name, target).await?;
        }
        let mut held = Held::new(config, target);
        inner.store.put_config(name, &held.config, held.has_task.then(task_class).as_deref()).await?;
        // Connect answers before the task is there.
        let mut info = held.info(name);
        info.tasks.clear();
        self.bring_to_target(name, &mut held);
        inner.connectors.insert(name.to_owned(), held);
        Ok(info)
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
        let mut inner = self.inner.lock().await;
        let Inner { store, connectors, .. } = &mut *inner;
        let held = connectors.get_mut(name).ok_or_else(|| ApiError::not_found(name))?;
        if held.config != *old {
            return Err(ApiError::new(
                409,
                "Cannot complete request momentarily due to stale configuration (typically caused by a concurrent \
                 config change)",
            ));
        }
        store.put_config(name, &config, held.has_task.then(task_class).as_deref()).await?;
        let changed = held.config != config;
        held.config = config;
        if changed {
            held.halt().await;
            self.bring_to_target(name, held);
        }
        Ok(held.info(name))
    }

    /// Changes the state that a connector should be in.
    ///
    /// # Errors
    /// 404.
    pub async fn set_target(&self, name: &str, target: TargetState) -> Result<(), ApiError> {
        let mut inner = self.inner.lock().await;
        let Inner { store, connectors, .. } = &mut *inner;
        let held = connectors
            .get_mut(name)
            .ok_or_else(|| ApiError::new(404, format!("Unknown connector {name}")))?;
        if held.target != target {
            store.put_target(name, target).await?;
            held.target = target;
        }
        match target {
            TargetState::Started => {
                if !held.has_task {
                    store.put_tasks(name, &held.config, Some(&task_class())).await?;
                    held.has_task = true;
                }
                if held.handle.is_none() {
                    self.bring_to_target(name, held);
                }
            }
            TargetState::Paused | TargetState::Stopped => {
                held.failed = None;
                held.halt().await;
                if target == TargetState::Stopped && held.has_task {
                    (held.has_task, held.had_task) = (false, true);
                    store.put_tasks(name, &held.config, None).await?;
                }
            }
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
        let mut inner = self.inner.lock().await;
        let held = inner
            .connectors
            .get_mut(name)
            .ok_or_else(|| ApiError::new(404, format!("Unknown connector: {name}")))?;
        let mut plan = held.status(name, &self.env.worker_id);
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
        if restart_task || plan.connector.state == State::Restarting && held.failed.is_some() {
            self.run_again(name, held).await?;
        }
        Ok(plan)
    }

    /// Starts one task again.
    ///
    /// # Errors
    /// 404; 409 for a task that was given up.
    pub async fn restart_task(&self, name: &str, task: i32) -> Result<(), ApiError> {
        let mut inner = self.inner.lock().await;
        let held = inner
            .connectors
            .get_mut(name)
            .ok_or_else(|| ApiError::new(404, format!("Unknown connector: {name}")))?;
        if task != 0 || !(held.has_task || held.had_task) {
            return Err(ApiError::new(404, format!("Unknown task: {name}-{task}")));
        }
        if !held.has_task {
            return Err(ApiError::new(
                409,
                format!("Task {name}-{task} is not running: the connector is stopped; resume it first"),
            ));
        }
        self.run_again(name, held).await
    }

    async fn run_again(&self, name: &str, held: &mut Held) -> Result<(), ApiError> {
        held.halt().await;
        held.failed = None;
        held.restarting = true;
        self.bring_to_target(name, held);
        Ok(())
    }

    /// A connector's tasks with their configurations.
    ///
    /// # Errors
    /// 404.
    pub async fn tasks(&self, name: &str) -> Result<Vec<Value>, ApiError> {
        let inner = self.inner.lock().await;
        let held = inner.connectors.get(name).ok_or_else(|| ApiError::not_found(name))?;
        let mut config = model::masked(&held.config);
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
        if held.target != TargetState::Started {
            return;
        }
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
            Ok(handle) => (held.handle, held.failed) = (Some(handle), None),
            Err(error) => held.failed = Some(error.to_string()),
        }
    }

    /// Stops all connectors, each cleanly. Their target states stay: the next start goes on.
    pub async fn shut_down(&self) {
        let mut inner = self.inner.lock().await;
        for held in inner.connectors.values_mut() {
            held.halt().await;
        }
        drop(inner);
        if let Err(error) = statuses::publish_once(self).await {
            tracing::warn!(%error, "the status topic cannot be written");
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
