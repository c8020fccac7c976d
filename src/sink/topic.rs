//! The kafka and upsert-kafka connectors as sinks: records and fence in one transaction of the log.
//!
//! Fences of all pipelines lie in one compacted topic, [`FENCES`]: key `PIPELINE/SINK`, value
//! `{"epoch":N,"writer":"TOKEN"}`. The writer's transactional id is the sink's, so that an older process is
//! fenced by the log as well.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::open::SinkContext;
use super::{Fence, Output, Reduction, Sink, SinkId, format_error};
use crate::engine::format::{self, Encoder};
use crate::engine::options;
use crate::engine::plan::TableRef;
use crate::engine::row::Value;
use crate::error::{Error, Kind, Result};
use crate::log::{Batch, Log, LogWriter, TopicPartition, TopicSpec, scan};

/// The topic of fences.
pub const FENCES: &str = "millstream-epochs";

#[derive(Serialize, Deserialize)]
struct FenceRecord {
    epoch: u64,
    writer: String,
}

/// Writes changes of a table as records of a topic.
pub struct TopicSink {
    log: Arc<dyn Log>,
    id: SinkId,
    topic: String,
    encoder: Encoder,
    reduction: Reduction,
    timestamp: Option<usize>,
    headers: Option<usize>,
    partitioner: Partitioner,
    transactional_id: String,
    spec: TopicSpec,
    writer: Option<Box<dyn LogWriter>>,
    batch: Batch,
    claimed: Option<Fence>,
}

/// `sink.partitioner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Partitioner {
    /// By the key's hash; records without a key in turn, batch by batch.
    Default,
    /// All records of this writer to one partition.
    Fixed,
    /// In turn, whatever the key is.
    RoundRobin {
        /// Partitions of the topic, once they are known.
        partitions: i32,
        next: i32,
    },
}

impl Partitioner {
    fn new(table: &TableRef) -> Result<Self> {
        match table.options.get("sink.partitioner").map(String::as_str) {
            None | Some("default") => Ok(Self::Default),
            Some("fixed") => Ok(Self::Fixed),
            Some("round-robin") => Ok(Self::RoundRobin { partitions: 0, next: 0 }),
            Some(other) => Err(Error::config(format!(
                "table {}: option 'sink.partitioner' is wrong",
                table.name
            ))
            .because(format!(
                "'{other}' is none of default, fixed, round-robin; classes of Java cannot be loaded"
            ))
            .next("use one of the three, or 'key.fields' with the default: equal keys go to one partition")),
        }
    }

    fn next(&mut self) -> Option<i32> {
        match self {
            Self::Default => None,
            Self::Fixed => Some(0),
            Self::RoundRobin { partitions, next } => {
                let chosen = *next;
                *next = (*next + 1).checked_rem(*partitions).unwrap_or(0);
                Some(chosen)
            }
        }
    }
}

/// Every epoch is one transaction with its fence: what Flink calls exactly-once. The weaker guarantees are taken
/// and surpassed. Gives the prefix of the transactional id.
fn transactional_prefix(table: &TableRef) -> Result<Option<&str>> {
    let option = |name: &str| table.options.get(name).map(String::as_str);
    let guarantee = option("sink.delivery-guarantee").or(option("sink.semantic"));
    let prefix = option("sink.transactional-id-prefix");
    let wrong = |why: &str| {
        Error::config(format!("table {}: option 'sink.delivery-guarantee' is wrong", table.name)).because(why)
    };
    match guarantee.map(str::to_ascii_lowercase).as_deref() {
        None | Some("none" | "at-least-once") => Ok(prefix),
        Some("exactly-once") if prefix.is_some() || option("sink.semantic").is_some() => Ok(prefix),
        Some("exactly-once") => Err(wrong("exactly-once needs 'sink.transactional-id-prefix'")
            .next("add 'sink.transactional-id-prefix' = 'a name of this job'")),
        Some(other) => Err(wrong(&format!("'{other}' is none of none, at-least-once, exactly-once"))),
    }
}

/// Whether `sink.buffer-flush.max-rows` and `sink.buffer-flush.interval` are both set, and not to 0.
fn is_buffered(table: &TableRef) -> bool {
    let option =
        |name: &str, read: fn(&str) -> Option<i64>| table.option(name).and_then(read).unwrap_or(0) > 0;
    option("sink.buffer-flush.max-rows", |text| text.trim().parse().ok())
        && option("sink.buffer-flush.interval", options::millis)
}

impl TopicSink {
    /// From the sink's table.
    ///
    /// # Errors
    /// Where the topic is missing or not one, or the format cannot be written.
    pub fn new(table: &TableRef, id: SinkId, context: &SinkContext) -> Result<Self> {
        let topic = table
            .options
            .get("topic")
            .ok_or_else(|| Error::config(format!("table {}: option 'topic' is missing", table.name)))?;
        if topic.contains(';') {
            return Err(Error::config(format!("table {}: a sink writes one topic", table.name))
                .because("option 'topic' holds a list"));
        }
        let upsert = table.options.get("connector").is_some_and(|c| c == "upsert-kafka");
        let encoder = format::encoder(table, &context.format).map_err(|e| format_error(&table.name, e))?;
        let mut spec = TopicSpec {
            name: topic.clone(),
            partitions: None,
            replication: None,
            configs: std::collections::BTreeMap::new(),
        };
        if upsert {
            spec.configs.insert("cleanup.policy".into(), "compact".into());
        }
        // As in Flink: a batch or a buffer is for fewer writes; else each version of a row is written, which temporal
        // joins with the topic look for.
        let reduction = match (upsert, context.mini_batch || is_buffered(table)) {
            (false, _) => Reduction::None,
            (true, true) => Reduction::ByKey(table.primary_key.clone()),
            (true, false) => Reduction::Each(table.primary_key.clone()),
        };
        let metadata = |key: &str| table.columns.iter().position(|c| c.metadata.as_deref() == Some(key));
        let timestamp = metadata("timestamp");
        let prefix = transactional_prefix(table)?.unwrap_or("millstream");
        Ok(Self {
            headers: metadata("headers"),
            partitioner: Partitioner::new(table)?,
            transactional_id: format!("{prefix}-{id}"),
            log: Arc::clone(&context.log),
            id,
            topic: topic.clone(),
            encoder,
            reduction,
            timestamp,
            spec,
            writer: None,
            batch: Batch::new(),
            claimed: None,
        })
    }

    fn push_fence(&mut self, fence: &Fence) -> Result<()> {
        let record = FenceRecord { epoch: fence.epoch, writer: fence.writer.clone() };
        let value = serde_json::to_vec(&record)
            .map_err(|e| Error::internal("cannot write a fence").with_source(e))?;
        let topic = self.batch.topic(FENCES);
        let key = self.id.to_string();
        let mut record = self.batch.record(topic);
        record.partition(0);
        record.key(|out| out.extend_from_slice(key.as_bytes()));
        record.value(|out| out.extend_from_slice(&value));
        record.finish();
        Ok(())
    }

    /// Commits the batch. A writer that failed is given up: the next call makes a new one.
    async fn commit(&mut self) -> Result<()> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.log.writer(&self.transactional_id).await?,
        };
        self.batch = writer.commit(std::mem::take(&mut self.batch)).await?;
        self.writer = Some(writer);
        Ok(())
    }
}

/// Makes the sink's topic and the topic of fences where they are missing.
async fn prepare(log: &dyn Log, spec: &TopicSpec) -> Result<()> {
    log.create_topic(spec).await?;
    let fences = TopicSpec {
        name: FENCES.into(),
        partitions: Some(1),
        replication: None,
        configs: [("cleanup.policy".into(), "compact".into())].into(),
    };
    log.create_topic(&fences).await?;
    Ok(())
}

/// The newest value of a key in the topic of fences.
async fn read_fence(log: &dyn Log, key: &str) -> Result<Option<Fence>> {
    let Some(info) = log.topic(FENCES).await? else { return Ok(None) };
    let mut found: Option<FenceRecord> = None;
    // All sinks write here: a transaction of another one's must not hide what is behind it.
    let ends = log.written_ends(FENCES).await?;
    for ((partition, range), end) in (0..).zip(&info.partitions).zip(ends) {
        scan(log, &TopicPartition::new(FENCES, partition), range.earliest, end, |record| {
            if record.key == Some(key.as_bytes()) {
                found = record.value.map(serde_json::from_slice).transpose().map_err(|e| {
                    Error::data(format!("topic {FENCES}, offset {}: not a fence", record.offset))
                        .with_source(e)
                })?;
            }
            Ok(())
        })
        .await?;
    }
    Ok(found.map(|record| Fence { epoch: record.epoch, writer: record.writer }))
}

/// Whether somebody's transaction on the fences is open.
async fn is_open(log: &dyn Log) -> Result<bool> {
    let Some(info) = log.topic(FENCES).await? else { return Ok(false) };
    let ends = log.written_ends(FENCES).await?;
    Ok(info.partitions.iter().zip(ends).any(|(range, end)| range.end < end))
}

#[async_trait]
impl Sink for TopicSink {
    fn describe(&self) -> String {
        format!("topic {} in {}", self.topic, self.log.describe())
    }

    fn reduction(&self) -> Reduction {
        self.reduction.clone()
    }

    fn is_fenced(&self) -> bool {
        true
    }

    async fn fence(&mut self) -> Result<Option<Fence>> {
        prepare(self.log.as_ref(), &self.spec).await?;
        // After a broken write, or where a process was killed in one: a new writer under the same id ends whatever
        // transaction hangs, so that what is read next is final and need not be waited for.
        if self.claimed.is_some() || is_open(self.log.as_ref()).await? {
            self.writer = Some(self.log.writer(&self.transactional_id).await?);
        }
        let found = read_fence(self.log.as_ref(), &self.id.to_string()).await?;
        // A write whose answer was lost may have been made.
        if let (Some(claimed), Some(found)) = (&mut self.claimed, &found)
            && claimed.writer == found.writer
        {
            claimed.epoch = found.epoch;
        }
        Ok(found)
    }

    async fn claim(&mut self, expected: Option<&Fence>, new: &Fence) -> Result<bool> {
        prepare(self.log.as_ref(), &self.spec).await?;
        // First the writer, which fences an older process; then the look at the fence is final.
        self.writer = Some(self.log.writer(&self.transactional_id).await?);
        if let Partitioner::RoundRobin { partitions, .. } = &mut self.partitioner {
            let info = self.log.topic(&self.topic).await?;
            *partitions = info.and_then(|i| i32::try_from(i.partitions.len()).ok()).unwrap_or(1);
        }
        if read_fence(self.log.as_ref(), &self.id.to_string()).await?.as_ref() != expected {
            return Ok(false);
        }
        self.batch.clear();
        self.push_fence(new)?;
        self.commit().await?;
        self.claimed = Some(new.clone());
        Ok(true)
    }

    async fn write(&mut self, epoch: u64, output: &Output) -> Result<()> {
        let Some(claimed) = self.claimed.clone() else {
            return Err(Error::internal(format!("sink {} writes before it has claimed its fence", self.id)));
        };
        if claimed.epoch + 1 != epoch {
            return Err(Error::new(Kind::Fenced, format!("sink {} is at epoch {}", self.id, claimed.epoch))
                .because(format!("epoch {epoch} was to be written")));
        }
        if !self.encoder.is_ready() {
            let prepared = tokio::task::block_in_place(|| self.encoder.prepare());
            prepared.map_err(|e| format_error(&self.id.sink, e))?;
        }
        self.batch.clear();
        let topic = self.batch.topic(&self.topic);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for change in &output.changes {
            key.clear();
            value.clear();
            let failed = |e| format_error(&self.id.sink, e);
            let keyed = self.encoder.key(change, &mut key).map_err(failed)?;
            let valued = self.encoder.value(change, &mut value).map_err(failed)?;
            let mut record = self.batch.record(topic);
            if keyed {
                record.key(|out| out.extend_from_slice(&key));
            }
            if valued {
                record.value(|out| out.extend_from_slice(&value));
            }
            if let Some(Value::Timestamp(at) | Value::TimestampLtz(at)) =
                self.timestamp.and_then(|column| change.row.get(column))
            {
                record.timestamp(at.millis);
            }
            if let Some(Value::Map(headers)) = self.headers.and_then(|column| change.row.get(column)) {
                for (name, value) in headers.iter() {
                    let value = match value {
                        Value::Bytes(bytes) => Some(bytes.as_ref()),
                        _ => None,
                    };
                    record.header(name.as_str().unwrap_or_default().as_bytes(), value);
                }
            }
            if let Some(partition) = self.partitioner.next() {
                record.partition(partition);
            }
            record.finish();
        }
        let fence = Fence { epoch, writer: claimed.writer };
        self.push_fence(&fence)?;
        self.commit().await?;
        self.claimed = Some(fence);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::embedded::EmbeddedLog;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_epoch_whose_answer_was_lost_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(dir.path().join("log")).unwrap());
        let context = SinkContext {
            log,
            addresses: crate::config::address::AddressMap::default(),
            print: crate::sink::print::PrintTarget::Terminal,
            format: format::FormatContext::new(&std::collections::BTreeMap::new()).unwrap(),
            mini_batch: false,
        };
        let id = SinkId { pipeline: "p".into(), sink: "copy".into() };
        let mut sink = TopicSink::new(&crate::runtime::testing::upsert_topic(), id, &context).unwrap();
        let token = |epoch| Fence { epoch, writer: "w".into() };
        let nothing = Output { changes: Vec::new() };
        assert_eq!(sink.fence().await.unwrap(), None);
        assert!(sink.claim(None, &token(0)).await.unwrap());
        sink.write(1, &nothing).await.unwrap();
        sink.claimed = Some(token(0));
        assert_eq!(sink.fence().await.unwrap(), Some(token(1)));
        sink.write(2, &nothing).await.unwrap();
    }
}
