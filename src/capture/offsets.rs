//! Reading and writing connector offsets in the offsets topic, in Kafka Connect's format.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::error::Result;
use crate::log::{Batch, Log, TopicPartition, TopicSpec, scan};

/// First stretch that is looked at from the end of a partition, in records.
const STRETCH: i64 = 1000;

/// What the offsets topic is made with, where it does not exist.
pub fn topic_spec(name: &str) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        partitions: None,
        replication: None,
        configs: [("cleanup.policy".to_owned(), "compact".to_owned())].into(),
    }
}

/// The newest value of one key; `None` where there is none or it was deleted.
///
/// Each partition is searched from its end in growing stretches, so that a topic that is not compacted yet
/// does not make a start slow.
///
/// # Errors
/// When the log cannot be read.
pub async fn read(log: &Arc<dyn Log>, topic: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some(info) = log.topic(topic).await? else { return Ok(None) };
    let mut newest: Option<(i64, Option<Vec<u8>>)> = None;
    // Other connectors write here, too: a transaction of theirs must not hide what is behind it.
    let ends = log.written_ends(topic).await?;
    for ((n, range), end) in (0..).zip(&info.partitions).zip(ends) {
        let partition = TopicPartition::new(topic, n);
        let (mut end, mut stretch) = (end, STRETCH);
        while end > range.earliest {
            let start = (end - stretch).max(range.earliest);
            let mut found: Option<(i64, Option<Vec<u8>>)> = None;
            scan(&**log, &partition, start, end, |record| {
                if record.key == Some(key) {
                    found = Some((record.timestamp, record.value.map(<[u8]>::to_vec)));
                }
                Ok(())
            })
            .await?;
            if let Some(found) = found {
                if newest.as_ref().is_none_or(|(ts, _)| *ts <= found.0) {
                    newest = Some(found);
                }
                break;
            }
            end = start;
            stretch *= 4;
        }
    }
    Ok(newest.and_then(|(_, value)| value))
}

/// All offsets of a connector: source partition and offset as JSON, deleted ones left out.
///
/// # Errors
/// When the log cannot be read.
pub async fn read_all(log: &Arc<dyn Log>, topic: &str, connector: &str) -> Result<Vec<(Value, Value)>> {
    let mut all: BTreeMap<String, (Value, Option<Value>)> = BTreeMap::new();
    let Some(info) = log.topic(topic).await? else { return Ok(Vec::new()) };
    let ends = log.written_ends(topic).await?;
    for ((n, range), end) in (0..).zip(&info.partitions).zip(ends) {
        scan(&**log, &TopicPartition::new(topic, n), range.earliest, end, |record| {
            let Some(Ok(Value::Array(parts))) = record.key.map(serde_json::from_slice) else { return Ok(()) };
            let [Value::String(name), source] = parts.as_slice() else { return Ok(()) };
            if name == connector {
                let value = record.value.and_then(|v| serde_json::from_slice(v).ok());
                all.insert(source.to_string(), (source.clone(), value));
            }
            Ok(())
        })
        .await?;
    }
    Ok(all.into_values().filter_map(|(source, value)| Some((source, value?))).collect())
}

/// Writes offsets of a stopped connector; a `None` deletes. `transactional_id` is the connector's own, so
/// that a task of it that still runs somewhere is fenced.
///
/// # Errors
/// When the log refuses the write.
pub async fn write(
    log: &Arc<dyn Log>,
    topic: &str,
    transactional_id: &str,
    connector: &str,
    offsets: &[(Value, Option<Value>)],
) -> Result<()> {
    log.create_topic(&topic_spec(topic)).await?;
    let mut writer = log.writer(transactional_id).await?;
    let mut batch = Batch::new();
    let id = batch.topic(topic);
    for (source, value) in offsets {
        let mut record = batch.record(id);
        let key = serde_json::json!([connector, source]).to_string();
        record.key(|out| out.extend_from_slice(key.as_bytes()));
        if let Some(value) = value {
            let value = value.to_string();
            record.value(|out| out.extend_from_slice(value.as_bytes()));
        }
        record.finish();
    }
    writer.commit(batch).await?;
    Ok(())
}

/// Deletes all offsets of a stopped connector.
///
/// # Errors
/// When the log cannot be read or refuses the write.
pub async fn delete(log: &Arc<dyn Log>, topic: &str, transactional_id: &str, connector: &str) -> Result<()> {
    let known = read_all(log, topic, connector).await?;
    if known.is_empty() {
        return Ok(());
    }
    let gone: Vec<(Value, Option<Value>)> = known.into_iter().map(|(source, _)| (source, None)).collect();
    write(log, topic, transactional_id, connector, &gone).await
}
