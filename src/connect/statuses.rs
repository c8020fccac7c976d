//! The status topic: how connectors and tasks are, and which topics they use, in Kafka Connect's records.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::held::Held;
use super::model::{InstanceState, State};
use super::worker::{Inner, Worker};
use crate::capture::Phase;

/// How often changes are looked for.
const EVERY: Duration = Duration::from_millis(500);

/// Takes over what an earlier worker wrote: the topics that connectors used, and the records there are.
pub(super) fn restore(inner: &mut Inner, records: BTreeMap<String, Value>) {
    for record in records.values() {
        let Some(topic) = record.get("topic") else { continue };
        let text = |field: &str| topic.get(field).and_then(Value::as_str);
        if let (Some(name), Some(connector)) = (text("name"), text("connector"))
            && let Some(held) = inner.connectors.get_mut(connector)
        {
            held.topics.insert(name.to_owned());
        }
    }
    inner.published = records;
}

/// Writes what changed until the worker is gone.
pub(super) async fn publish(worker: Weak<Worker>) {
    let mut failing = false;
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(worker) = worker.upgrade() else { return };
        let Err(error) = publish_once(&worker).await else {
            failing = false;
            continue;
        };
        if worker.store.lock().await.is_taken_over() {
            tracing::error!(%error, "another worker of this group has taken over; statuses are not written any more");
            return;
        }
        if !std::mem::replace(&mut failing, true) {
            tracing::warn!(%error, "the status topic cannot be written");
        }
    }
}

/// Writes what changed since the last time.
pub(super) async fn publish_once(worker: &Worker) -> crate::error::Result<()> {
    let mut inner = worker.inner.lock().await;
    let Inner { connectors, published } = &mut *inner;
    let mut wanted = BTreeMap::new();
    for (name, held) in connectors.iter_mut() {
        say(name, held);
        records(name, held, &worker.env.worker_id, published, &mut wanted);
    }
    let mut changes: Vec<(String, Option<Value>)> = wanted
        .iter()
        .filter(|(key, value)| published.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), Some(value.clone())))
        .collect();
    changes.extend(published.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), None)));
    // Whoever asks meanwhile is answered.
    drop(inner);
    if changes.is_empty() {
        return Ok(());
    }
    worker.store.lock().await.put_statuses(&changes).await?;
    worker.inner.lock().await.published = wanted;
    Ok(())
}

/// Logs a change of a connector's phase.
fn say(name: &str, held: &mut Held) {
    let status = held.handle.as_ref().map(|handle| handle.status());
    let now = match &status {
        Some(status) => status.phase.name(),
        None if held.failed.is_some() => Phase::Failed.name(),
        None => Phase::Stopped.name(),
    };
    if std::mem::replace(&mut held.said, now) == now {
        return;
    }
    let cause = match &status {
        Some(status) => status.error.as_ref().map(|e| e.to_string()),
        None => held.failed.clone(),
    };
    let cause = cause.unwrap_or_default();
    if now == Phase::Failed.name() {
        tracing::error!(connector = name, cause, "connector {now}");
    } else if now == Phase::Reconnecting.name() {
        tracing::warn!(connector = name, cause, "connector {now}");
    } else {
        tracing::info!(connector = name, "connector {now}");
    }
}

fn records(
    name: &str,
    held: &Held,
    worker_id: &str,
    published: &BTreeMap<String, Value>,
    out: &mut BTreeMap<String, Value>,
) {
    let status = held.status(name, worker_id);
    let state = |state: &InstanceState| {
        json!({
            // A worker of Connect's reads these records, and knows no other names.
            "state": if state.state == State::Reconnecting { State::Running } else { state.state },
            "trace": state.trace,
            "worker_id": state.worker_id,
            "generation": 1,
            "version": state.version,
        })
    };
    out.insert(format!("status-connector-{name}"), state(&status.connector));
    for task in &status.tasks {
        out.insert(format!("status-task-{name}-{}", task.id), state(&task.state));
    }
    for topic in held.used_topics() {
        let key = format!("status-topic-{topic}:connector-{name}");
        // When it was first seen is kept.
        let record = published.get(&key).cloned().unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
            json!({ "topic": {
                "name": topic,
                "connector": name,
                "task": 0,
                "discoverTimestamp": u64::try_from(now).unwrap_or(u64::MAX),
            }})
        });
        out.insert(key, record);
    }
}
