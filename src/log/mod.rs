//! Topics: one trait, two stores.
//!
//! [`embedded`] is durable and belongs to one process; [`kafka`] is a Kafka cluster through librdkafka.
//! Both keep Kafka's model: topics with partitions, dense offsets (gaps are allowed: Kafka's control
//! records take offsets), timestamps in milliseconds, keys, values, headers, compaction and retention.

pub mod batch;
pub mod embedded;
pub mod kafka;
mod open;
pub mod partition;
pub mod record;
pub mod remote;
mod scan;
pub mod topic;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use batch::{Batch, TopicId};
pub use open::{OpenOptions, open};
pub use record::{Fetched, Record};
pub use scan::scan;
pub use topic::TopicDefaults;

use crate::error::Result;

/// Lies behind an error of [`LogWriter::commit`]: the topic does not take a record of this size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of {bytes} bytes is too large for topic {topic}")]
pub struct TooLarge {
    /// The topic.
    pub topic: String,
    /// Bytes of key and value.
    pub bytes: usize,
}

/// A topic's partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number from 0.
    pub partition: i32,
}

/// What a topic is made with; the configs are Kafka's (`cleanup.policy`, `retention.ms`, …).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Topic name, by Kafka's rules (`[a-zA-Z0-9._-]{1,249}`).
    pub name: String,
    /// Number of partitions; `None` takes the store's default (1 embedded, the broker's on Kafka).
    pub partitions: Option<i32>,
    /// Replication factor; `None` takes the broker's default. The embedded log ignores it.
    pub replication: Option<i16>,
    /// Topic configs.
    pub configs: BTreeMap<String, String>,
}

impl TopicSpec {
    /// With the store's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), partitions: None, replication: None, configs: BTreeMap::new() }
    }

    /// With a number of partitions.
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// With a topic config.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }

    /// A compacted topic.
    #[must_use]
    pub fn compacted(self) -> Self {
        self.config("cleanup.policy", "compact")
    }
}

impl TopicPartition {
    /// A partition of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Topic name.
    pub name: String,
    /// Earliest and end offset of each partition; the end is what a read_committed reader can reach.
    pub partitions: Vec<OffsetRange>,
    /// Topic configs that differ from the defaults.
    pub configs: BTreeMap<String, String>,
}

/// Offsets of a partition: records lie in `earliest..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    /// First offset still kept.
    pub earliest: i64,
    /// Offset after the last committed record.
    pub end: i64,
}

/// A place to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first record still kept.
    Earliest,
    /// After the last committed record.
    Latest,
    /// This offset.
    Offset(i64),
    /// The first record whose timestamp (ms since 1970) is at or after this.
    Timestamp(i64),
}

/// A store of topics. Cheap to clone behind an [`Arc`]; all methods may be called from any task.
#[async_trait]
pub trait Log: Send + Sync {
    /// What the store is, for messages: `file:DIR` or `kafka://host:port`.
    fn describe(&self) -> String;

    /// Makes a topic; says `false` where it existed (its partitions and configs are left alone then).
    async fn create_topic(&self, spec: &TopicSpec) -> Result<bool>;

    /// Names of all topics, sorted.
    async fn topics(&self) -> Result<Vec<String>>;

    /// One topic; `None` where it does not exist.
    async fn topic(&self, name: &str) -> Result<Option<TopicInfo>>;

    /// Where each partition of a topic ends, with what is written and not committed; nothing where it does not exist.
    /// Whatever was committed before the call lies before it, while [`OffsetRange::end`] may be held back on Kafka by
    /// the open transaction of another writer.
    async fn written_ends(&self, name: &str) -> Result<Vec<i64>> {
        Ok(self
            .topic(name)
            .await?
            .map_or_else(Vec::new, |info| info.partitions.iter().map(|p| p.end).collect()))
    }

    /// Removes a topic; says `false` where there was none.
    async fn delete_topic(&self, name: &str) -> Result<bool>;

    /// Turns a position into an offset. [`Position::Timestamp`] past the last record gives the end.
    async fn resolve(&self, at: &TopicPartition, position: Position) -> Result<i64>;

    /// What a consumer group has committed for a partition; `None` where it has nothing, or the store knows no groups.
    async fn group_offset(&self, _group: &str, _at: &TopicPartition) -> Result<Option<i64>> {
        Ok(None)
    }

    /// A writer whose batches are atomic. A second writer with the same `transactional_id` fences the first:
    /// whatever the first had not committed is gone and its next commit fails with [`crate::Kind::Fenced`].
    async fn writer(&self, transactional_id: &str) -> Result<Box<dyn LogWriter>>;

    /// A writer for at-least-once delivery, with less delay where exactness costs some: readers see a record as soon as
    /// it is durable. The last record of a batch is written when the others are durable; after a failure a batch
    /// may be there in part, or twice. It fences like [`Log::writer`], but is not fenced.
    async fn writer_at_least_once(&self, transactional_id: &str) -> Result<Box<dyn LogWriter>> {
        self.writer(transactional_id).await
    }

    /// A read_committed reader without partitions.
    async fn reader(&self) -> Result<Box<dyn LogReader>>;
}

/// Writes batches, each of them atomic and durable when `commit` returns.
#[async_trait]
pub trait LogWriter: Send {
    /// Appends all records of the batch in order, as one transaction, and makes them durable.
    ///
    /// The embedded log's readers see them when this returns; Kafka's a moment later (the coordinator answers
    /// before it has written the partitions' commit markers).
    ///
    /// A call that is dropped may still be committed: make a new writer then, and look what is there.
    ///
    /// Missing topics are made with `topic_defaults`. A record without partition gets murmur2(key) modulo
    /// partitions as Kafka's Java producer does, keyless ones go round. A record without timestamp gets the
    /// time of the append. The emptied batch comes back so that its memory is used again. On an error
    /// nothing of the batch is visible to readers.
    async fn commit(&mut self, batch: Batch) -> Result<Batch>;

    /// What to ask, while a commit takes long, for the last failure that the store met on its way.
    fn trouble(&self) -> Option<Box<dyn Fn() -> Option<String> + Send + Sync>> {
        None
    }

    /// What to make missing topics with.
    fn topic_defaults(&mut self, defaults: TopicDefaults);
}

/// Reads committed records of assigned partitions, in offset order in each.
#[async_trait]
pub trait LogReader: Send {
    /// Adds a partition, or moves an assigned one, to this offset.
    async fn assign(&mut self, at: TopicPartition, offset: i64) -> Result<()>;

    /// Removes a partition.
    async fn unassign(&mut self, at: &TopicPartition) -> Result<()>;

    /// Waits for records and returns up to about `max_bytes` of them; empty after `timeout`. A commit wakes
    /// it at once, there is no polling delay. What comes back may hold no record and still move
    /// [`Fetched::next_offsets`] (past Kafka's control records). Cancel-safe: a dropped call loses nothing.
    ///
    /// Fails with [`crate::Kind::Data`] where an assigned offset is no longer kept (never skips). A store that is away
    /// gives nothing: see [`Self::is_cut_off`].
    async fn poll(&mut self, max_bytes: usize, timeout: Duration) -> Result<Fetched>;

    /// Whether the store could not be reached at a time since the last call: to be asked where nothing comes. It may
    /// have come back since; whoever wants to know asks [`Log::topics`].
    fn is_cut_off(&mut self) -> bool {
        false
    }
}
