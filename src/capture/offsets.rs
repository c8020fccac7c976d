//! Reading and writing connector offsets in the offsets topic, in Kafka Connect's format.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::log::{Batch, Log, TopicPartition, TopicSpec};

/// Bytes fetched at once while a topic is read through.
const FETCH: usize = 1 << 20;
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
    for (n, range) in info.partitions.iter().enumerate() {
        let partition =
            TopicPartition { topic: Arc::from(topic), partition: i32::try_from(n).unwrap_or(i32::MAX) };
        let (mut end, mut stretch) = (range.end, STRETCH);
        while end > range.earliest {
            let start = (end - stretch).max(range.earliest);
            let mut found: Option<(i64, Option<Vec<u8>>)> = None;
            scan(log, &partition, start, end, |record| {
                if record.key == Some(key) {
                    found = Some((record.timestamp, record.value.map(<[u8]>::to_vec)));
                }
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
    for (n, range) in info.partitions.iter().enumerate() {
        let partition =
            TopicPartition { topic: Arc::from(topic), partition: i32::try_from(n).unwrap_or(i32::MAX) };
        scan(log, &partition, range.earliest, range.end, |record| {
            let Some(Ok(Value::Array(parts))) = record.key.map(serde_json::from_slice) else { return };
            let [Value::String(name), source] = parts.as_slice() else { return };
            if name == connector {
                let value = record.value.and_then(|v| serde_json::from_slice(v).ok());
                all.insert(source.to_string(), (source.clone(), value));
            }
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

pub(super) async fn scan(
    log: &Arc<dyn Log>,
    partition: &TopicPartition,
    start: i64,
    end: i64,
    mut each: impl FnMut(crate::log::Record<'_>),
) -> Result<()> {
    if start >= end {
        return Ok(());
    }
    let mut reader = log.reader().await?;
    reader.assign(partition.clone(), start).await?;
    let mut next = start;
    let mut silent = 0;
    while next < end {
        let fetched = reader.poll(FETCH, Duration::from_secs(1)).await?;
        for record in fetched.iter().filter(|r| r.offset < end) {
            each(record);
        }
        let moved = fetched.next_offsets().iter().map(|(_, offset)| *offset).max();
        match moved {
            Some(offset) if offset > next => {
                next = offset;
                silent = 0;
            }
            _ => silent += 1,
        }
        if silent > 30 {
            return Err(Error::transient(format!(
                "cannot read {}-{} to its end at {}",
                partition.topic,
                partition.partition,
                log.describe()
            ))
            .because(format!("no record between offsets {next} and {end} came within 30 s")));
        }
    }
    Ok(())
}
