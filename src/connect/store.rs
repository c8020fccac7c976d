//! The worker's topics: configurations, target states and statuses, as Kafka Connect's distributed worker
//! keeps them (compacted topics; JSON without schemas; keys are plain text).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::model::{Config, TargetState};
use crate::config::settings;
use crate::error::{Error, Kind, Result};
use crate::log::{Batch, Log, LogWriter, Position, TopicPartition, TopicSpec};

/// A write that takes longer before it is fenced has waited for a broker that was away.
const AWAY: Duration = Duration::from_secs(20);
/// Bytes to ask of a reader at a time.
const FETCH: usize = 1 << 20;

/// A connector as the config topic holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its configuration.
    pub config: Config,
    /// The state the user wants.
    pub target: TargetState,
    /// Whether it had a task when it was last written.
    pub has_task: bool,
}

/// Reads and writes the worker's topics.
pub struct Store {
    log: Arc<dyn Log>,
    topics: settings::Worker,
    /// Made anew after a failure: a producer that has failed once may be at its end.
    writer: Option<Box<dyn LogWriter>>,
    batch: Batch,
    /// The last write failed: a broker that was away may have fenced the writer meanwhile, for nobody's sake.
    failing: bool,
    /// Another worker of the group has the topics now.
    taken_over: bool,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("log", &self.log.describe()).finish_non_exhaustive()
    }
}

/// Makes a compacted topic unless it is there.
async fn ensure(log: &dyn Log, name: &str, partitions: i32) -> Result<()> {
    let spec = TopicSpec {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication: None,
        configs: BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]),
    };
    log.create_topic(&spec).await.map(|_| ())
}

/// Connect's leader writes its config topic under this transactional id.
fn writer_id(topics: &settings::Worker) -> String {
    format!("connect-cluster-{}", topics.group_id)
}

impl Store {
    /// Opens the topics, makes what is missing (Connect's partition counts: 1, 25, 5), and fences an earlier
    /// worker of the same group.
    ///
    /// # Errors
    /// When the log cannot be reached or a topic cannot be made.
    pub async fn open(log: Arc<dyn Log>, topics: settings::Worker) -> Result<Self> {
        ensure(log.as_ref(), &topics.config_storage_topic, 1).await?;
        ensure(log.as_ref(), &topics.offset_storage_topic, 25).await?;
        ensure(log.as_ref(), &topics.status_storage_topic, 5).await?;
        let writer = Some(log.writer(&writer_id(&topics)).await?);
        Ok(Self { log, topics, writer, batch: Batch::new(), failing: false, taken_over: false })
    }

    /// Whether another worker of the group has taken the topics over: nothing is written any more.
    pub fn is_taken_over(&self) -> bool {
        self.taken_over
    }

    /// The connectors of the config topic.
    ///
    /// # Errors
    /// When the topic cannot be read, or holds what no Connect worker writes.
    pub async fn connectors(&self) -> Result<BTreeMap<String, Stored>> {
        let mut found: BTreeMap<String, Stored> = BTreeMap::new();
        let mut targets: BTreeMap<String, TargetState> = BTreeMap::new();
        let mut with_task: BTreeMap<String, bool> = BTreeMap::new();
        for (key, value) in read_compacted(self.log.as_ref(), &self.topics.config_storage_topic).await? {
            let key = String::from_utf8_lossy(&key).into_owned();
            if let Some(name) = key.strip_prefix("connector-") {
                let Some(Value::Object(mut properties)) =
                    value.as_ref().and_then(|v| v.get("properties")).cloned()
                else {
                    continue;
                };
                properties.entry("name").or_insert_with(|| Value::from(name));
                let stored = Stored { config: properties, target: TargetState::Started, has_task: false };
                found.insert(name.to_owned(), stored);
            } else if let Some(name) = key.strip_prefix("commit-") {
                let tasks = value.as_ref().and_then(|v| v.get("tasks")?.as_u64());
                with_task.insert(name.to_owned(), tasks.is_some_and(|n| n > 0));
            } else if let Some(name) = key.strip_prefix("target-state-")
                && let Some(target) = value.as_ref().and_then(TargetState::from_record)
            {
                targets.insert(name.to_owned(), target);
            }
        }
        for (name, target) in targets {
            if let Some(stored) = found.get_mut(&name) {
                stored.target = target;
            }
        }
        for (name, has_task) in with_task {
            if let Some(stored) = found.get_mut(&name) {
                stored.has_task = has_task;
            }
        }
        Ok(found)
    }

    /// Writes a connector's configuration, its one task's where it has one, and the commit of both, as one
    /// batch.
    ///
    /// # Errors
    /// When the log refuses; nothing is written then.
    pub async fn put_config(&mut self, name: &str, config: &Config, task_class: Option<&str>) -> Result<()> {
        let mut records = vec![(format!("connector-{name}"), Some(json!({ "properties": config })))];
        records.extend(task_records(name, config, task_class));
        self.write(&records).await
    }

    /// Writes that a connector has its one task from now on, or none.
    ///
    /// # Errors
    /// When the log refuses; nothing is written then.
    pub async fn put_tasks(&mut self, name: &str, config: &Config, task_class: Option<&str>) -> Result<()> {
        self.write(&task_records(name, config, task_class)).await
    }

    /// Writes the state a user wants.
    ///
    /// # Errors
    /// When the log refuses.
    pub async fn put_target(&mut self, name: &str, target: TargetState) -> Result<()> {
        self.write(&[(format!("target-state-{name}"), Some(target.to_record()))]).await
    }

    /// Removes a connector: tombstones for its configuration and target state, as Connect writes them.
    /// Offsets are kept, as Connect keeps them.
    ///
    /// # Errors
    /// When the log refuses.
    pub async fn delete(&mut self, name: &str) -> Result<()> {
        self.write(&[(format!("connector-{name}"), None), (format!("target-state-{name}"), None)]).await
    }

    /// The records of the status topic.
    ///
    /// # Errors
    /// When the topic cannot be read, or holds what no Connect worker writes.
    pub async fn statuses(&self) -> Result<BTreeMap<String, Value>> {
        let all = read_compacted(self.log.as_ref(), &self.topics.status_storage_topic).await?;
        let text = |key: Vec<u8>| String::from_utf8_lossy(&key).into_owned();
        Ok(all.into_iter().filter_map(|(key, value)| Some((text(key), value?))).collect())
    }

    /// Writes records of the status topic, for a Connect cluster or a tool that reads it; none removes one.
    ///
    /// # Errors
    /// When the log refuses.
    pub async fn put_statuses(&mut self, records: &[(String, Option<Value>)]) -> Result<()> {
        let topic = self.topics.status_storage_topic.clone();
        self.write_to(&topic, records).await
    }

    async fn write(&mut self, records: &[(String, Option<Value>)]) -> Result<()> {
        let topic = self.topics.config_storage_topic.clone();
        self.write_to(&topic, records).await
    }

    async fn write_to(&mut self, topic: &str, records: &[(String, Option<Value>)]) -> Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        let topic = batch.topic(topic);
        for (key, value) in records {
            let mut record = batch.record(topic);
            record.key(|out| out.extend_from_slice(key.as_bytes()));
            if let Some(value) = value {
                record.value(|out| serde_json::to_writer(out, value)).map_err(|e| {
                    Error::internal("cannot write a record of the worker's topics").with_source(e)
                })?;
            }
            record.finish();
        }
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let (log, id) = (Arc::clone(&self.log), writer_id(&self.topics));
                log.writer(&id).await?
            }
        };
        let begun = Instant::now();
        match writer.commit(batch).await {
            Ok(batch) => {
                (self.batch, self.failing) = (batch, false);
                self.writer = Some(writer);
                Ok(())
            }
            Err(error) => {
                self.taken_over = error.kind() == Kind::Fenced && !self.failing && begun.elapsed() < AWAY;
                self.failing = true;
                if self.taken_over {
                    // It keeps saying so.
                    self.writer = Some(writer);
                }
                Err(error)
            }
        }
    }
}

fn task_records(name: &str, config: &Config, task_class: Option<&str>) -> Vec<(String, Option<Value>)> {
    let commit = |tasks: u32| (format!("commit-{name}"), Some(json!({ "tasks": tasks })));
    let Some(class) = task_class else { return vec![commit(0)] };
    let mut task = config.clone();
    task.insert("task.class".to_owned(), Value::from(class));
    vec![(format!("task-{name}-0"), Some(json!({ "properties": task }))), commit(1)]
}

/// The last value of every key of a topic of JSON records, from all partitions, in key order. Tombstoned keys
/// are left out.
///
/// # Errors
/// When the topic cannot be read, or a value is not JSON (topic, partition and offset are named).
pub async fn read_compacted(log: &dyn Log, topic: &str) -> Result<BTreeMap<Vec<u8>, Option<Value>>> {
    let mut last = BTreeMap::new();
    let Some(info) = log.topic(topic).await? else {
        return Ok(last);
    };
    let mut reader = log.reader().await?;
    let mut waiting: BTreeMap<TopicPartition, i64> = BTreeMap::new();
    for (number, range) in info.partitions.iter().enumerate() {
        if range.earliest < range.end {
            let partition = i32::try_from(number).map_err(|_| Error::internal("too many partitions"))?;
            let at = TopicPartition { topic: Arc::from(topic), partition };
            let from = log.resolve(&at, Position::Earliest).await?;
            waiting.insert(at.clone(), range.end);
            reader.assign(at, from).await?;
        }
    }
    let mut idle = 0;
    while !waiting.is_empty() {
        let fetched = reader.poll(FETCH, Duration::from_millis(500)).await?;
        idle = if fetched.next_offsets().is_empty() { idle + 1 } else { 0 };
        if idle > 60 {
            return Err(Error::new(Kind::Transient, format!("topic {topic} cannot be read to its end"))
                .because("no records came for 30 s"));
        }
        for record in fetched.iter() {
            let Some(key) = record.key else { continue };
            let Some(bytes) = record.value else {
                last.remove(key);
                continue;
            };
            let value = serde_json::from_slice(bytes).map_err(|e| {
                let at = record.at;
                Error::data(format!(
                    "topic {topic}, partition {}, offset {}: the value is not JSON",
                    at.partition, record.offset
                ))
                .with_source(e)
                .next("is another topic of this name in use? the worker's topics are named in [worker]")
            })?;
            last.insert(key.to_vec(), Some(value));
        }
        for (at, next) in fetched.next_offsets() {
            if waiting.get(at.as_ref()).is_some_and(|end| next >= end) {
                waiting.remove(at.as_ref());
            }
        }
    }
    Ok(last)
}
