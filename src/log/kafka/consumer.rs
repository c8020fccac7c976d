//! A read_committed reader over assigned partitions.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, Context, kafka_error};
use super::codes::of_code;
use super::properties::ClientSettings;
use super::queue::{ConsumerQueue, RawMessage};
use crate::error::{Error, Result};
use crate::log::{Fetched, LogReader, TopicPartition};

#[derive(Debug)]
struct Assigned {
    at: Arc<TopicPartition>,
    next: i64,
}

/// A reader of a Kafka cluster.
pub struct KafkaReader {
    queue: ConsumerQueue,
    assigned: Vec<Assigned>,
    failed: Option<Error>,
    context: Context,
}

impl KafkaReader {
    /// A reader without partitions.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] for settings librdkafka does not take.
    pub fn new(settings: &ClientSettings) -> Result<Self> {
        let mut config = settings.consumer();
        // librdkafka has the queue only with a group id; nothing is ever committed to it, and nobody joins it.
        if config.get("group.id").is_none() {
            config.set("group.id", "millstream");
        }
        for (name, value) in [
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // A lost offset must be an error: going on elsewhere would be a silent gap.
            ("auto.offset.reset", "error"),
            // The batch call would count the event as a record in the position that we rely on.
            ("enable.partition.eof", "false"),
        ] {
            config.set(name, value);
        }
        for (name, value) in [
            ("fetch.wait.max.ms", "100"),
            ("queued.max.messages.kbytes", "32768"),
            // The default waits a second once the queue above was full.
            ("fetch.queue.backoff.ms", "5"),
            ("fetch.error.backoff.ms", "100"),
        ] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        let context = Context::default();
        let consumer: BaseConsumer<Context> = client::create(&config, context.clone())?;
        let queue = ConsumerQueue::new(consumer)
            .ok_or_else(|| Error::internal("librdkafka gave no consumer queue"))?;
        Ok(Self { queue, assigned: Vec::new(), failed: None, context })
    }

    fn with_consumer<R>(
        &self,
        at: &TopicPartition,
        call: impl FnOnce(&BaseConsumer<Context>) -> rdkafka::error::KafkaResult<R>,
    ) -> Result<R> {
        let consumer =
            self.queue.consumer().ok_or_else(|| Error::internal("the Kafka consumer is closed"))?;
        call(consumer).map_err(|e| {
            kafka_error(&format!("cannot assign topic {}, partition {}", at.topic, at.partition), &e)
        })
    }

    /// Takes what waits, up to about `max_bytes`.
    fn take(&mut self, max_bytes: usize) -> Fetched {
        let mut fetched = Fetched::default();
        let Self { queue, assigned, failed, .. } = self;
        let mut last = 0;
        loop {
            let more = queue.drain(|message| {
                let error = take_one(&message, assigned, &mut last, &mut fetched);
                if let Some(error) = error {
                    failed.get_or_insert(error);
                }
            });
            if fetched.bytes() >= max_bytes || failed.is_some() {
                return fetched;
            }
            if !more {
                break;
            }
        }
        self.pass_control_records(&mut fetched);
        fetched
    }

    /// Transactions end with a record that is never delivered; librdkafka's position has passed it.
    fn pass_control_records(&mut self, fetched: &mut Fetched) {
        let Some(Ok(positions)) = self.queue.consumer().map(Consumer::position) else { return };
        for element in positions.elements() {
            let Offset::Offset(position) = element.offset() else { continue };
            let found = self
                .assigned
                .iter_mut()
                .find(|a| a.at.partition == element.partition() && *a.at.topic == *element.topic());
            if let Some(a) = found.filter(|a| a.next < position) {
                a.next = position;
                fetched.moved(&a.at, position);
            }
        }
    }
}

fn take_one(
    message: &RawMessage<'_>,
    assigned: &mut [Assigned],
    last: &mut usize,
    fetched: &mut Fetched,
) -> Option<Error> {
    let (topic, partition) = (message.topic(), message.partition());
    let is = |a: &Assigned| a.at.partition == partition && a.at.topic.as_bytes() == topic;
    if !assigned.get(*last).is_some_and(is) {
        *last = assigned.iter().position(is).unwrap_or(usize::MAX);
    }
    let found = assigned.get_mut(*last);
    let what = || {
        let topic = String::from_utf8_lossy(topic);
        format!("cannot read topic {topic}, partition {partition}")
    };
    match (message.error(), found) {
        (None, Some(a)) => {
            // Left over from before an assignment was moved.
            if message.offset() >= a.next {
                a.next = message.offset() + 1;
                let (key, value, headers) = (message.key(), message.value(), message.headers());
                fetched.push(&a.at, message.offset(), message.timestamp(), key, value, headers);
                fetched.leader_epoch(message.leader_epoch());
            }
            None
        }
        (Some(Code::AutoOffsetReset | Code::OffsetOutOfRange), Some(a)) => Some(
            Error::data(format!("offset {} of topic {}, partition {partition} is not in the log", a.next, a.at.topic))
                .because("the broker no longer keeps it, or the topic was made anew")
                .next("read from the earliest offset if what was removed is not needed; retention.ms and retention.bytes of the topic say how long records are kept"),
        ),
        (Some(code @ (Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)), Some(_)) => {
            Some(of_code(&what(), code).next("millstream topics list shows the topics that exist"))
        }
        (Some(code @ (Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed)), _) => {
            Some(of_code(&what(), code))
        }
        (Some(code @ (Code::BadMessage | Code::InvalidRecord)), Some(_)) => Some(Error::data(what()).because(code)),
        (Some(code), _) => {
            // A broker that is away comes back; librdkafka goes on by itself.
            tracing::info!("Kafka reader: {code}");
            None
        }
        (None, None) => None,
    }
}

#[async_trait]
impl LogReader for KafkaReader {
    async fn assign(&mut self, at: TopicPartition, offset: i64) -> Result<()> {
        self.unassign(&at).await?;
        let mut list = TopicPartitionList::new();
        self.with_consumer(&at, |c| {
            list.add_partition_offset(&at.topic, at.partition, Offset::Offset(offset))?;
            c.incremental_assign(&list)
        })?;
        self.assigned.push(Assigned { at: Arc::new(at), next: offset });
        Ok(())
    }

    async fn unassign(&mut self, at: &TopicPartition) -> Result<()> {
        let Some(index) = self.assigned.iter().position(|a| *a.at == *at) else { return Ok(()) };
        let mut list = TopicPartitionList::new();
        list.add_partition(&at.topic, at.partition);
        self.with_consumer(at, |c| c.incremental_unassign(&list))?;
        self.assigned.swap_remove(index);
        Ok(())
    }

    fn is_cut_off(&mut self) -> bool {
        self.queue.events(&self.context);
        self.context.take_unreachable()
    }

    async fn poll(&mut self, max_bytes: usize, timeout: Duration) -> Result<Fetched> {
        let deadline = tokio::time::Instant::now() + timeout;
        let notify = self.queue.notify();
        loop {
            let fetched = self.take(max_bytes);
            if !fetched.is_empty() || !fetched.next_offsets().is_empty() {
                return Ok(fetched);
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if tokio::time::timeout_at(deadline, notify.notified()).await.is_err() {
                return Ok(fetched);
            }
        }
    }
}
