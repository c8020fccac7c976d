//! The worker: holds connectors, runs them, and keeps what they are in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::model::{
    self, CONNECTOR_CLASS, Config, ConnectorInfo, ConnectorState, InstanceState, State, TargetState, TaskId,
    TaskState,
};
use super::store::Store;
use crate::capture::{self, Connector, ConnectorHandle, Phase, transactional_id};
use crate::config::connector::{self, ConnectorConfig, Problem};
use crate::config::{AddressMap, settings};
use crate::error::{Error, Kind, Result};
use crate::log::Log;

/// An answer of the API that is not the one asked for: Kafka Connect's `{"error_code","message"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status, also the `error_code`.
    pub status: u16,
    /// For a person.
    pub message: String,
}

impl ApiError {
    /// A new one.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn not_found(name: &str) -> Self {
        Self::new(404, format!("Connector {name} not found"))
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::Config | Kind::Data => 400,
            Kind::Fenced => 409,
            Kind::Transient | Kind::Refused | Kind::Stopped | Kind::Internal => 500,
        };
        Self::new(status, error.to_string())
    }
}

/// A connector that this worker holds.
#[derive(Debug)]
struct Held {
    config: Config,
    target: TargetState,
    handle: Option<ConnectorHandle>,
    /// Why it could not even be started.
    failed: Option<String>,
    /// Answer RESTARTING until the new run is under way.
    restarting: bool,
    /// Topics that were used before the last reset and are not shown any more.
    forgotten: BTreeSet<String>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    connectors: BTreeMap<String, Held>,
}

/// Runs connectors on one log.
#[derive(Debug)]
pub struct Worker {
    inner: Mutex<Inner>,
    env: Env,
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
        let worker = Arc::new(Self { inner: Mutex::new(Inner { store, connectors: BTreeMap::new() }), env });
        let mut inner = worker.inner.lock().await;
        for (name, stored) in stored {
            let mut held = Held::new(stored.config, stored.target);
            worker.bring_to_target(&name, &mut held);
            inner.connectors.insert(name, held);
        }
        drop(inner);
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
        inner.store.put_config(name, &config, &task_class()).await?;
        let mut held = Held::new(config, target);
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
            } else {
                config.insert(key, value);
            }
        }
        config.insert("name".to_owned(), Value::from(name));
        self.replace(name, &old, config).await
    }

    async fn replace(&self, name: &str, old: &Config, config: Config) -> Result<ConnectorInfo, ApiError> {
        self.check(&config).await?;
        let mut inner = self.inner.lock().await;
        let Inner { store, connectors } = &mut *inner;
        let held = connectors.get_mut(name).ok_or_else(|| ApiError::not_found(name))?;
        if held.config != *old {
            return Err(ApiError::new(
                409,
                "Cannot complete request momentarily due to stale configuration (typically caused by a concurrent \
                 config change)",
            ));
        }
        store.put_config(name, &config, &task_class()).await?;
        let changed = held.config != config;
        held.config = config;
        if changed {
            held.halt().await;
            self.bring_to_target(name, held);
        }
        Ok(held.info(name))
    }

    /// Removes a connector. Its offsets and its slot stay; the slot goes too where `drop_slot` says so.
    ///
    /// # Errors
    /// 404, or what the server says to dropping the slot.
    pub async fn delete(&self, name: &str, drop_slot: bool) -> Result<(), ApiError> {
        let mut inner = self.inner.lock().await;
        let Inner { store, connectors } = &mut *inner;
        let held = connectors.get_mut(name).ok_or_else(|| ApiError::not_found(name))?;
        held.halt().await;
        let config = ConnectorConfig::from_map(name, texts(&held.config))?;
        if drop_slot {
            self.drop_slot(&config).await?;
        } else {
            tracing::warn!(
                connector = name,
                slot = config.text("slot.name"),
                "the connector is deleted, its replication slot stays and holds back WAL until it is dropped"
            );
        }
        store.delete(name).await?;
        connectors.remove(name);
        Ok(())
    }

    /// Changes the state that a connector should be in.
    ///
    /// # Errors
    /// 404.
    pub async fn set_target(&self, name: &str, target: TargetState) -> Result<(), ApiError> {
        let mut inner = self.inner.lock().await;
        let Inner { store, connectors } = &mut *inner;
        let held = connectors
            .get_mut(name)
            .ok_or_else(|| ApiError::new(404, format!("Unknown connector {name}")))?;
        if held.target != target {
            store.put_target(name, target).await?;
            held.target = target;
        }
        match target {
            TargetState::Started => {
                if held.handle.is_none() {
                    self.bring_to_target(name, held);
                }
            }
            TargetState::Paused | TargetState::Stopped => {
                held.failed = None;
                held.halt().await;
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
        if restart_task {
            self.run_again(name, held).await?;
        }
        Ok(plan)
    }

    /// Starts one task again.
    ///
    /// # Errors
    /// 404.
    pub async fn restart_task(&self, name: &str, task: u32) -> Result<(), ApiError> {
        let mut inner = self.inner.lock().await;
        let held = inner
            .connectors
            .get_mut(name)
            .ok_or_else(|| ApiError::new(404, format!("Unknown connector: {name}")))?;
        if task != 0 || held.target == TargetState::Stopped {
            return Err(ApiError::new(404, format!("Unknown task: {name}-{task}")));
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
        let used = held.handle.as_ref().map(|handle| handle.status().topics).unwrap_or_default();
        used.into_iter().filter(|topic| !held.forgotten.contains(topic)).collect()
    }

    /// Forgets the topics used so far.
    ///
    /// # Errors
    /// 404.
    pub async fn reset_topics(&self, name: &str) -> Result<(), ApiError> {
        let mut inner = self.inner.lock().await;
        let held = inner.connectors.get_mut(name).ok_or_else(|| ApiError::not_found(name))?;
        if let Some(handle) = &held.handle {
            held.forgotten.extend(handle.status().topics);
        }
        Ok(())
    }

    /// Source partitions and offsets.
    ///
    /// # Errors
    /// 404.
    pub async fn offsets(&self, name: &str) -> Result<Vec<(Value, Value)>, ApiError> {
        if !self.inner.lock().await.connectors.contains_key(name) {
            return Err(ApiError::not_found(name));
        }
        let topic = &self.env.topics.offset_storage_topic;
        Ok(capture::offsets::read_all(&self.env.log, topic, name).await?)
    }

    /// Changes offsets (KIP-875) after looking whether the connector could continue there.
    ///
    /// # Errors
    /// 404; 400 unless the connector is stopped and all entries are sound.
    pub async fn alter_offsets(&self, name: &str, entries: Vec<Value>) -> Result<(), ApiError> {
        let config = self.stopped_config(name).await?;
        let mut changes = Vec::with_capacity(entries.len());
        for (number, entry) in entries.into_iter().enumerate() {
            let Value::Object(mut entry) = entry else {
                return Err(ApiError::new(400, format!("offsets[{number}] is not an object")));
            };
            let Some(Value::Object(partition)) = entry.remove("partition") else {
                return Err(ApiError::new(400, format!("offsets[{number}] has no 'partition' object")));
            };
            let expected = config.text("topic.prefix");
            if partition.len() != 1 || partition.get("server").and_then(Value::as_str) != Some(expected) {
                return Err(ApiError::new(
                    400,
                    format!(
                        "offsets[{number}]: the connector has the one partition {{\"server\":\"{expected}\"}}, not {}",
                        Value::Object(partition)
                    ),
                ));
            }
            let offset = match entry.remove("offset") {
                Some(Value::Null) => None,
                Some(Value::Object(offset)) => Some(offset),
                _ => {
                    return Err(ApiError::new(
                        400,
                        format!(
                            "offsets[{number}] has no 'offset': an object, or null to remove it, is expected"
                        ),
                    ));
                }
            };
            changes.push((partition, offset));
        }
        for (_, offset) in &changes {
            if let Some(offset) = offset {
                check_offset(offset)?;
            }
        }
        let changes: Vec<(Value, Option<Value>)> = changes
            .into_iter()
            .map(|(partition, offset)| (Value::Object(partition), offset.map(Value::Object)))
            .collect();
        let topic = &self.env.topics.offset_storage_topic;
        let writer = transactional_id(&self.env.topics.group_id, name);
        capture::offsets::write(&self.env.log, topic, &writer, name, &changes).await?;
        Ok(())
    }

    /// Removes all offsets.
    ///
    /// # Errors
    /// 404; 400 unless the connector is stopped.
    pub async fn reset_offsets(&self, name: &str) -> Result<(), ApiError> {
        self.stopped_config(name).await?;
        let topic = &self.env.topics.offset_storage_topic;
        let writer = transactional_id(&self.env.topics.group_id, name);
        capture::offsets::delete(&self.env.log, topic, &writer, name).await?;
        Ok(())
    }

    async fn stopped_config(&self, name: &str) -> Result<ConnectorConfig, ApiError> {
        let inner = self.inner.lock().await;
        let held = inner.connectors.get(name).ok_or_else(|| ApiError::not_found(name))?;
        if held.target != TargetState::Stopped {
            return Err(ApiError::new(
                400,
                format!(
                    "Connectors must be in the STOPPED state before their offsets can be modified. This can be done \
                     for the specified connector by issuing a 'PUT' request to the '/connectors/{name}/stop' endpoint"
                ),
            ));
        }
        Ok(ConnectorConfig::from_map(name, texts(&held.config))?)
    }

    /// Validates a configuration property by property, and tries the connection.
    ///
    /// # Errors
    /// 400 where the plugin of the path and the configuration do not fit together.
    pub async fn validate(&self, plugin: &str, config: Config) -> Result<Value, ApiError> {
        let class = config.get("connector.class").and_then(Value::as_str).ok_or_else(|| {
            ApiError::new(400, format!("Connector config {:?} contains no connector type", names(&config)))
        })?;
        if !same_class(class, plugin) {
            return Err(ApiError::new(
                400,
                format!("Included connector type {class} does not match request type {plugin}"),
            ));
        }
        let mut errors = connector::problems(&texts(&config));
        if errors.is_empty()
            && let Err(error) = self.try_connection(&config).await
        {
            errors.push(error);
        }
        Ok(super::plugins::config_infos(class, &config, &errors))
    }

    /// An ordinary session on a connector's source.
    async fn connect(&self, config: &ConnectorConfig) -> Result<tokio_postgres::Client> {
        let database = config.database(&self.env.addresses, self.env.tls)?;
        crate::pg::connect(&database).await
    }

    async fn drop_slot(&self, config: &ConnectorConfig) -> Result<()> {
        let slot = config.text("slot.name");
        let client = self.connect(config).await?;
        client
            .execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1",
                &[&slot],
            )
            .await
            .map_err(|e| crate::pg::sql_error(format!("cannot drop replication slot {slot}"), e))?;
        Ok(())
    }

    async fn try_connection(&self, config: &Config) -> Result<(), Problem> {
        let name = config.get("name").and_then(Value::as_str).unwrap_or("validate");
        let result = async {
            let config = ConnectorConfig::from_map(name, texts(config))?;
            self.connect(&config).await.map(drop)
        };
        Box::pin(result).await.map_err(|error| Problem {
            property: "database.hostname".to_owned(),
            message: format!("Error while validating connector config: {error}"),
        })
    }

    /// Everything wrong with a configuration as one 400, in Connect's words.
    async fn check(&self, config: &Config) -> Result<(), ApiError> {
        match config.get("connector.class").and_then(Value::as_str) {
            None => {
                let name = config.get("name").and_then(Value::as_str).unwrap_or_default();
                return Err(ApiError::new(
                    400,
                    format!("Connector config {{name={name}}} contains no connector type"),
                ));
            }
            Some(class) if !same_class(class, CONNECTOR_CLASS) => {
                return Err(ApiError::new(
                    400,
                    format!(
                        "Failed to find any class that implements Connector and which name matches {class}, available \
                         connectors are: {CONNECTOR_CLASS}"
                    ),
                ));
            }
            Some(_) => {}
        }
        let mut errors = connector::problems(&texts(config));
        if config.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
            errors.retain(|error| error.property != "name");
            let message = "Invalid value  for configuration name: String may not be empty".to_owned();
            errors.insert(0, Problem { property: "name".to_owned(), message });
        }
        if errors.is_empty()
            && let Err(error) = self.try_connection(config).await
        {
            errors.push(error);
        }
        if errors.is_empty() {
            return Ok(());
        }
        let mut message = format!(
            "Connector configuration is invalid and contains the following {} error(s):",
            errors.len()
        );
        for error in &errors {
            message.push('\n');
            message.push_str(&error.message);
        }
        message.push_str(
            "\nYou can also find the above list of errors at the endpoint \
             `/connector-plugins/{connectorType}/config/validate`",
        );
        Err(ApiError::new(400, message))
    }

    /// Starts what should run; a start that fails is the connector's state, not the caller's error.
    fn bring_to_target(&self, name: &str, held: &mut Held) {
        if held.target != TargetState::Started {
            return;
        }
        let start = || {
            let config = ConnectorConfig::from_map(name, texts(&held.config))?;
            let env = capture::Env {
                log: Arc::clone(&self.env.log),
                offsets_topic: self.env.topics.offset_storage_topic.clone(),
                // Connect's own: whoever takes the connector over fences the one who had it.
                transactional_id: transactional_id(&self.env.topics.group_id, name),
                addresses: self.env.addresses.clone(),
                tls: self.env.tls,
                spill: self.env.spill.clone(),
                observer: None,
                fail_fast: false,
            };
            Connector::start(config, env)
        };
        match start() {
            Ok(handle) => held.handle = Some(handle),
            Err(error) => held.failed = Some(error.to_string()),
        }
    }

    /// Stops all connectors, each cleanly. Their target states stay: the next start goes on.
    pub async fn shut_down(&self) {
        let mut inner = self.inner.lock().await;
        for held in inner.connectors.values_mut() {
            held.halt().await;
        }
    }
}

fn names(config: &Config) -> Vec<&String> {
    config.keys().collect()
}

/// Whether an offset has the fields and types that Debezium's offsets have.
fn check_offset(offset: &Map<String, Value>) -> Result<(), ApiError> {
    let number = |field: &str| match offset.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| {
            ApiError::new(400, format!("offset field '{field}' is {value}: a whole number is expected"))
        }),
    };
    let lsn = number("lsn")?;
    for field in ["lsn_proc", "lsn_commit", "txId", "ts_usec"] {
        number(field)?;
    }
    if lsn.is_none() {
        return Err(ApiError::new(
            400,
            "the offset has no 'lsn': the WAL position of the last event is expected",
        ));
    }
    Ok(())
}

fn task_class() -> String {
    format!("{CONNECTOR_CLASS}Task")
}

/// Property texts; a null property is one that is not set.
fn texts(config: &Config) -> BTreeMap<String, String> {
    config.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn same_class(given: &str, plugin: &str) -> bool {
    super::is_connector_class(given) && super::is_connector_class(plugin)
}

impl Held {
    fn new(config: Config, target: TargetState) -> Self {
        Self { config, target, handle: None, failed: None, restarting: false, forgotten: BTreeSet::new() }
    }

    fn info(&self, name: &str) -> ConnectorInfo {
        let tasks = if self.target == TargetState::Stopped {
            Vec::new()
        } else {
            vec![TaskId { connector: name.to_owned(), task: 0 }]
        };
        ConnectorInfo { name: name.to_owned(), config: model::masked(&self.config), tasks, kind: "source" }
    }

    fn status(&self, name: &str, worker_id: &str) -> ConnectorState {
        let (connector, task, trace) = match self.target {
            TargetState::Stopped => (State::Stopped, None, None),
            TargetState::Paused => (State::Paused, Some(State::Paused), None),
            TargetState::Started => {
                let status = self.handle.as_ref().map(ConnectorHandle::status);
                let error = status.as_ref().and_then(|s| s.error.as_ref().map(|e| e.screen()));
                match status.map(|s| s.phase) {
                    None => match &self.failed {
                        Some(trace) => (State::Running, Some(State::Failed), Some(trace.clone())),
                        None => (State::Unassigned, None, None),
                    },
                    Some(Phase::Failed) => (State::Running, Some(State::Failed), error),
                    Some(Phase::Starting) if self.restarting => {
                        (State::Restarting, Some(State::Restarting), None)
                    }
                    Some(Phase::Starting) => (State::Running, Some(State::Unassigned), None),
                    // Connect knows no name for it; the trace says why nothing moves.
                    Some(Phase::Reconnecting) => (State::Running, Some(State::Running), error),
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
            connector: state(connector, None),
            tasks: task
                .into_iter()
                .map(|task| TaskState { id: 0, state: state(task, trace.clone()) })
                .collect(),
            kind: "source",
        }
    }

    async fn halt(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.stop().await;
        }
    }
}
