//! Topics on a Kafka cluster, through librdkafka.
//!
//! A batch is a Kafka transaction; readers are read_committed and assigned by offset: offsets live in our own
//! state, and no consumer group takes part. Calls of librdkafka that wait run on threads of their own.

mod client;
mod codes;
mod consumer;
pub(crate) mod jaas;
mod producer;
mod properties;
mod queue;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};

use self::client::{Context, kafka_error};
use self::codes::of_code;
pub use self::properties::ClientSettings;
use super::{Log, LogReader, LogWriter, OffsetRange, Position, TopicInfo, TopicPartition, TopicSpec};
use crate::config::AddressMap;
use crate::error::{Error, Result};

/// How long a question to the cluster may take.
const ASK: Duration = Duration::from_secs(15);
/// How long the first broker may take before its silence is looked into.
const FIRST: Duration = Duration::from_secs(3);
/// How long after its creation a topic may not be known everywhere.
const SETTLE: Duration = Duration::from_secs(3);
/// Topics of the brokers themselves.
const INTERNAL: &[&str] =
    &["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"];

/// A Kafka cluster.
#[derive(Clone)]
pub struct KafkaLog {
    inner: Arc<Inner>,
}

struct Inner {
    settings: ClientSettings,
    consumer: BaseConsumer<Context>,
    admin: AdminClient<Context>,
    context: Context,
}

impl KafkaLog {
    /// Connects to a cluster and asks it for its metadata, so that a wrong address is an error here.
    ///
    /// # Errors
    /// [`crate::Kind::Transient`] when no broker answers, [`crate::Kind::Refused`] when it refuses us,
    /// [`crate::Kind::Config`] for settings librdkafka does not take.
    pub async fn connect(settings: ClientSettings) -> Result<Self> {
        let context = Context::default();
        let admin = client::create(&settings.admin(), context.clone())?;
        let mut config = settings.consumer();
        config.set("isolation.level", "read_committed");
        let consumer = client::create(&config, context.clone())?;
        let log = Self { inner: Arc::new(Inner { settings, consumer, admin, context }) };
        log.ask(|inner| {
            let started = Instant::now();
            loop {
                match inner.consumer.fetch_metadata(Some("millstream-connection-check"), FIRST) {
                    Ok(_) => return Ok(()),
                    Err(_) if inner.hears().is_none() && started.elapsed() <= ASK => {}
                    // A refused connection or a name that does not exist need not be waited for.
                    Err(e) => return Err(inner.error("no Kafka broker answers", e)),
                }
            }
        })
        .await?;
        Ok(log)
    }

    /// Opens `kafka://…` or `kafka:FILE` with further Java client properties on top.
    ///
    /// # Errors
    /// As [`KafkaLog::connect`].
    pub async fn open(rest: &str, more: &[(String, String)], addresses: &AddressMap) -> Result<Self> {
        let (brokers, mut properties) = match rest.strip_prefix("//") {
            Some(brokers) => (Some(brokers.trim_end_matches('/')), Vec::new()),
            None => (None, properties::read_file(Path::new(rest))?),
        };
        // The log's own brokers count, whatever connector and SQL files say.
        properties.extend(more.iter().filter(|(name, _)| name != "bootstrap.servers").cloned());
        let mut settings = ClientSettings::from_java(&properties, addresses)?;
        if let Some(brokers) = brokers {
            settings.set_bootstrap(brokers, addresses)?;
        }
        if settings.bootstrap().is_empty() {
            return Err(Error::config(format!("bootstrap.servers is missing in {rest}")));
        }
        Self::connect(settings).await
    }

    async fn ask<R: Send + 'static>(
        &self,
        question: impl FnOnce(&Inner) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        let inner = Arc::clone(&self.inner);
        let asked = move || {
            let answer = question(&inner);
            if answer.is_ok() {
                inner.context.answered();
            }
            answer
        };
        let answer = tokio::task::spawn_blocking(asked).await;
        answer.map_err(|e| Error::internal("asking Kafka failed").with_source(e))?
    }

    /// Whether a topic exists.
    async fn topic_exists(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.ask(move |inner| inner.partitions(&name).map(|p| p.is_some())).await
    }

    async fn configs(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let options = AdminOptions::new().request_timeout(Some(ASK));
        let topic = ResourceSpecifier::Topic(name);
        let answer = self.inner.admin.describe_configs([&topic], &options).await;
        let resources =
            answer.map_err(|e| self.inner.error(&format!("cannot read the configs of topic {name}"), e))?;
        let mut configs = BTreeMap::new();
        for resource in resources {
            let resource = match resource {
                Ok(resource) => resource,
                // Reading configs needs a privilege of its own; without it they are not shown.
                Err(Code::TopicAuthorizationFailed) => continue,
                Err(code) => return Err(of_code(&format!("cannot read the configs of topic {name}"), code)),
            };
            for entry in resource.entries {
                if let (ConfigSource::DynamicTopic, Some(value)) = (entry.source, entry.value) {
                    configs.insert(entry.name, value);
                }
            }
        }
        Ok(configs)
    }
}

impl Inner {
    /// What has failed on the way, as far as librdkafka tells: its events are taken first, for nobody else does.
    fn hears(&self) -> Option<String> {
        for _ in 0..20 {
            let _ = self.consumer.poll(Duration::ZERO);
        }
        self.context.last_failure()
    }

    fn error(&self, what: &str, error: KafkaError) -> Error {
        let what = format!("{what} at {}", self.settings.bootstrap());
        let heard = self.hears();
        if let Some(reason) = self.context.denied() {
            return of_code(&what, Code::Authentication).because(reason);
        }
        let mut out = kafka_error(&what, &error);
        if out.is_transient()
            && let Some(reason) = heard
        {
            out = out
                .because(reason)
                .next("check the address, and that the broker runs; millstream tries again where it can");
        }
        out
    }

    fn partitions(&self, name: &str) -> Result<Option<usize>> {
        let what = format!("cannot describe topic {name}");
        let metadata = self.consumer.fetch_metadata(Some(name), ASK).map_err(|e| self.error(&what, e))?;
        let Some(topic) = metadata.topics().iter().find(|t| t.name() == name) else { return Ok(None) };
        match topic.error().map(Code::from) {
            None if topic.partitions().is_empty() => Ok(None),
            None | Some(Code::LeaderNotAvailable) => Ok(Some(topic.partitions().len())),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
            Some(code) => Err(of_code(&what, code)),
        }
    }

    /// Earliest offset and last stable offset.
    fn range(&self, at: &TopicPartition) -> Result<OffsetRange> {
        self.watermarks(&self.consumer, at)
    }

    /// The high watermarks, which open transactions do not hold back.
    fn written_ends(&self, name: &str) -> Result<Vec<i64>> {
        let mut config = self.settings.consumer();
        config.set("isolation.level", "read_uncommitted");
        let consumer: BaseConsumer<Context> = client::create(&config, self.context.clone())?;
        let ends = (0..self.partitions(name)?.unwrap_or(0)).map(|n| {
            let partition = i32::try_from(n).unwrap_or(i32::MAX);
            self.watermarks(&consumer, &TopicPartition::new(name, partition)).map(|range| range.end)
        });
        ends.collect()
    }

    fn watermarks(&self, consumer: &BaseConsumer<Context>, at: &TopicPartition) -> Result<OffsetRange> {
        let what = format!("cannot ask for the offsets of topic {}, partition {}", at.topic, at.partition);
        let started = Instant::now();
        loop {
            match consumer.fetch_watermarks(&at.topic, at.partition, ASK) {
                Ok((earliest, end)) => return Ok(OffsetRange { earliest, end }),
                // A topic made a moment ago: its leader has not taken office yet.
                Err(KafkaError::MetadataFetch(
                    Code::NotLeaderForPartition
                    | Code::LeaderNotAvailable
                    | Code::UnknownTopicOrPartition
                    | Code::UnknownPartition,
                )) if started.elapsed() < SETTLE => std::thread::sleep(Duration::from_millis(20)),
                Err(e) => return Err(self.error(&what, e)),
            }
        }
    }

    /// What a group has committed. The group is only asked: nobody joins it.
    fn committed(&self, group: &str, at: &TopicPartition) -> Result<Option<i64>> {
        let what = format!("cannot ask for the offsets of consumer group {group}");
        let mut config = self.settings.consumer();
        config.set("group.id", group);
        let consumer: BaseConsumer<Context> = client::create(&config, self.context.clone())?;
        let mut list = TopicPartitionList::new();
        list.add_partition(&at.topic, at.partition);
        let found = consumer.committed_offsets(list, ASK).map_err(|e| self.error(&what, e))?;
        Ok(found.elements().first().and_then(|e| e.offset().to_raw()).filter(|offset| *offset >= 0))
    }

    fn at_time(&self, at: &TopicPartition, timestamp: i64) -> Result<i64> {
        let what = format!("cannot look up a time in topic {}, partition {}", at.topic, at.partition);
        let mut times = TopicPartitionList::new();
        times
            .add_partition_offset(&at.topic, at.partition, Offset::Offset(timestamp.max(0)))
            .map_err(|e| self.error(&what, e))?;
        let found = self.consumer.offsets_for_times(times, ASK).map_err(|e| self.error(&what, e))?;
        let elements = found.elements();
        match elements.first().map(|e| (e.offset(), e.error())) {
            Some((Offset::Offset(offset), Ok(()))) => Ok(offset.min(self.range(at)?.end)),
            Some((_, Err(e))) => Err(self.error(&what, e)),
            _ => Ok(self.range(at)?.end),
        }
    }
}

/// Kafka's broker default would drop events after a week; ours are kept unless someone said otherwise.
fn with_retention(spec: &TopicSpec) -> TopicSpec {
    let mut spec = spec.clone();
    if !spec.configs.keys().any(|k| k.starts_with("retention.") || k == "cleanup.policy") {
        spec.configs.insert("retention.ms".into(), "-1".into());
    }
    spec
}

#[async_trait]
impl Log for KafkaLog {
    fn describe(&self) -> String {
        format!("kafka://{}", self.inner.settings.bootstrap())
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<bool> {
        super::topic::check_name(&spec.name)?;
        let spec = with_retention(spec);
        let replication = TopicReplication::Fixed(spec.replication.map_or(-1, i32::from));
        let mut topic = NewTopic::new(&spec.name, spec.partitions.unwrap_or(-1), replication);
        for (name, value) in &spec.configs {
            topic = topic.set(name, value);
        }
        let options = AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK));
        let what = format!("cannot make topic {}", spec.name);
        let results = self
            .inner
            .admin
            .create_topics([&topic], &options)
            .await
            .map_err(|e| self.inner.error(&what, e))?;
        match results.into_iter().next() {
            Some(Err((_, Code::TopicAlreadyExists))) => return Ok(false),
            Some(Err((_, code))) => return Err(of_code(&what, code)),
            Some(Ok(_)) | None => {}
        }
        // The controller has it; wait until brokers answer for it, so that what follows does not fail.
        for _ in 0..100 {
            let name = spec.name.clone();
            if self.ask(move |inner| inner.partitions(&name)).await?.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(true)
    }

    async fn topics(&self) -> Result<Vec<String>> {
        self.ask(|inner| {
            let metadata =
                inner.consumer.fetch_metadata(None, ASK).map_err(|e| inner.error("cannot list topics", e))?;
            let mut names: Vec<String> = metadata
                .topics()
                .iter()
                .map(|t| t.name().to_owned())
                .filter(|n| !INTERNAL.contains(&n.as_str()))
                .collect();
            names.sort();
            Ok(names)
        })
        .await
    }

    async fn topic(&self, name: &str) -> Result<Option<TopicInfo>> {
        let owned = name.to_owned();
        let partitions = self
            .ask(move |inner| {
                let Some(count) = inner.partitions(&owned)? else { return Ok(None) };
                let ranges = (0..count).map(|n| {
                    let partition = i32::try_from(n).unwrap_or(i32::MAX);
                    inner.range(&TopicPartition::new(owned.as_str(), partition))
                });
                ranges.collect::<Result<Vec<_>>>().map(Some)
            })
            .await?;
        let Some(partitions) = partitions else { return Ok(None) };
        Ok(Some(TopicInfo { name: name.to_owned(), partitions, configs: self.configs(name).await? }))
    }

    async fn written_ends(&self, name: &str) -> Result<Vec<i64>> {
        let name = name.to_owned();
        self.ask(move |inner| inner.written_ends(&name)).await
    }

    async fn delete_topic(&self, name: &str) -> Result<bool> {
        let options = AdminOptions::new().request_timeout(Some(ASK)).operation_timeout(Some(ASK));
        let what = format!("cannot delete topic {name}");
        let results = self
            .inner
            .admin
            .delete_topics(&[name], &options)
            .await
            .map_err(|e| self.inner.error(&what, e))?;
        match results.into_iter().next() {
            Some(Err((_, Code::UnknownTopicOrPartition))) => return Ok(false),
            Some(Err((_, code))) => return Err(of_code(&what, code)),
            Some(Ok(_)) | None => {}
        }
        for _ in 0..100 {
            let name = name.to_owned();
            if self.ask(move |inner| inner.partitions(&name)).await?.is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(true)
    }

    async fn resolve(&self, at: &TopicPartition, position: Position) -> Result<i64> {
        let at = at.clone();
        self.ask(move |inner| match position {
            Position::Offset(offset) => Ok(offset),
            Position::Earliest => inner.range(&at).map(|r| r.earliest),
            Position::Latest => inner.range(&at).map(|r| r.end),
            Position::Timestamp(timestamp) => inner.at_time(&at, timestamp),
        })
        .await
    }

    async fn group_offset(&self, group: &str, at: &TopicPartition) -> Result<Option<i64>> {
        let (group, at) = (group.to_owned(), at.clone());
        self.ask(move |inner| inner.committed(&group, &at)).await
    }

    async fn writer(&self, transactional_id: &str) -> Result<Box<dyn LogWriter>> {
        let writer =
            producer::KafkaWriter::start(self.clone(), &self.inner.settings, transactional_id, true).await?;
        Ok(Box::new(writer))
    }

    async fn writer_at_least_once(&self, transactional_id: &str) -> Result<Box<dyn LogWriter>> {
        // An exact writer of this name has its end.
        drop(self.writer(transactional_id).await?);
        let writer =
            producer::KafkaWriter::start(self.clone(), &self.inner.settings, transactional_id, false).await?;
        Ok(Box::new(writer))
    }

    async fn reader(&self) -> Result<Box<dyn LogReader>> {
        Ok(Box::new(consumer::KafkaReader::new(&self.inner.settings)?))
    }
}
