//! A log that remembers the order in which records of all topics were committed: the expected records have one
//! order over all topics, which a log of topics does not keep.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use millstream::Result;
use millstream::log::{
    Batch, Log, LogReader, LogWriter, Position, TopicDefaults, TopicInfo, TopicPartition, TopicSpec,
};

/// A committed record.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub topic: String,
    pub partition: Option<i32>,
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

type Records = Arc<Mutex<Vec<Recorded>>>;

/// Passes everything on to a real log.
pub struct RecordingLog {
    inner: Arc<dyn Log>,
    records: Records,
}

impl RecordingLog {
    pub fn new(inner: Arc<dyn Log>) -> Self {
        Self { inner, records: Records::default() }
    }

    pub fn records(&self) -> Vec<Recorded> {
        self.records.lock().unwrap().clone()
    }

    pub fn len(&self) -> usize {
        self.records.lock().unwrap().len()
    }
}

#[async_trait]
impl Log for RecordingLog {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<bool> {
        self.inner.create_topic(spec).await
    }

    async fn topics(&self) -> Result<Vec<String>> {
        self.inner.topics().await
    }

    async fn topic(&self, name: &str) -> Result<Option<TopicInfo>> {
        self.inner.topic(name).await
    }

    async fn delete_topic(&self, name: &str) -> Result<bool> {
        self.inner.delete_topic(name).await
    }

    async fn resolve(&self, at: &TopicPartition, position: Position) -> Result<i64> {
        self.inner.resolve(at, position).await
    }

    async fn writer(&self, transactional_id: &str) -> Result<Box<dyn LogWriter>> {
        let inner = self.inner.writer(transactional_id).await?;
        Ok(Box::new(RecordingWriter { inner, records: Arc::clone(&self.records) }))
    }

    async fn reader(&self) -> Result<Box<dyn LogReader>> {
        self.inner.reader().await
    }
}

struct RecordingWriter {
    inner: Box<dyn LogWriter>,
    records: Records,
}

#[async_trait]
impl LogWriter for RecordingWriter {
    async fn commit(&mut self, batch: Batch) -> Result<Batch> {
        let copies: Vec<Recorded> = batch
            .iter()
            .map(|r| Recorded {
                topic: r.topic.to_owned(),
                partition: r.partition,
                timestamp: r.timestamp,
                key: r.key.map(<[u8]>::to_vec),
                value: r.value.map(<[u8]>::to_vec),
                headers: r
                    .headers()
                    .map(|(n, v)| (String::from_utf8_lossy(n).into_owned(), v.map(<[u8]>::to_vec)))
                    .collect(),
            })
            .collect();
        let batch = self.inner.commit(batch).await?;
        self.records.lock().unwrap().extend(copies);
        Ok(batch)
    }

    fn topic_defaults(&mut self, defaults: TopicDefaults) {
        self.inner.topic_defaults(defaults);
    }
}
