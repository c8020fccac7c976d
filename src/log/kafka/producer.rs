//! A writer whose batches are Kafka transactions, on a thread of its own; or plain records for at-least-once delivery.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode as Code;
use tokio::sync::oneshot;

use super::KafkaLog;
use super::client::{self, Context, Undelivered, kafka_error};
use super::codes::of_code;
use super::properties::ClientSettings;
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::log::batch::BatchRecord;
use crate::log::{Batch, Log, LogWriter, TooLarge, TopicDefaults};

/// One call of a transaction's step; it is called again until [`GIVE_UP`].
const STEP: Duration = Duration::from_secs(10);
/// A batch that the cluster has not taken for so long fails.
const GIVE_UP: Duration = Duration::from_secs(120);
/// A broker that starts may refuse a login that it takes a moment later.
const DENIED: Duration = Duration::from_secs(10);
/// A batch that is not taken for so long: perhaps a topic was deleted.
const LONG: Duration = Duration::from_secs(5);

struct Request {
    batch: Batch,
    reply: oneshot::Sender<Result<Batch>>,
}

/// A writer.
pub struct KafkaWriter {
    log: KafkaLog,
    requests: Sender<Request>,
    context: Context,
    defaults: TopicDefaults,
    known: HashSet<Arc<str>>,
}

impl KafkaWriter {
    /// Makes a producer. An exact one writes transactions and fences older ones with the same transactional id.
    ///
    /// # Errors
    /// When the cluster does not answer, or refuses the transactional id.
    pub async fn start(
        log: KafkaLog,
        settings: &ClientSettings,
        transactional_id: &str,
        exact: bool,
    ) -> Result<Self> {
        let mut config = settings.producer();
        if exact {
            config.set("transactional.id", transactional_id);
        }
        for (name, value) in [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("partitioner", "murmur2_random"),
            // Success is what commit_transaction says; only failures are worth an event each.
            ("delivery.report.only.error", "true"),
            ("enable.gapless.guarantee", "false"),
        ] {
            config.set(name, value);
        }
        for (name, value) in [
            // A transaction waits for its partitions anyway, and that gathers the records.
            ("linger.ms", "0"),
            ("batch.size", "524288"),
            ("batch.num.messages", "20000"),
            ("queue.buffering.max.messages", "500000"),
            ("queue.buffering.max.kbytes", "65536"),
            // The topic's max.message.bytes decides, not the client.
            ("message.max.bytes", "104857600"),
            ("compression.type", "lz4"),
            ("transaction.timeout.ms", "60000"),
            ("socket.nagle.disable", "true"),
            // A connection that is dead without a word is given up after this, not after a minute.
            ("socket.timeout.ms", "10000"),
            ("socket.connection.setup.timeout.ms", "10000"),
        ] {
            if config.get(name).is_none() {
                config.set(name, value);
            }
        }
        let context = Context::default();
        let producer: BaseProducer<Context> = client::create(&config, context.clone())?;
        let (requests, incoming) = channel();
        let (started, answer) = oneshot::channel();
        let id = transactional_id.to_owned();
        let shared = context.clone();
        std::thread::Builder::new()
            .name("kafka-write".into())
            .spawn(move || {
                let writer = Transactions { producer, context: shared, id, exact, dead: false };
                let result = if exact { writer.init() } else { Ok(()) };
                let ok = result.is_ok();
                if started.send(result).is_ok() && ok {
                    writer.run(&incoming);
                }
            })
            .map_err(|e| Error::transient("cannot start a thread for a Kafka producer").with_source(e))?;
        answer.await.map_err(|_| Error::internal("the Kafka producer ended"))??;
        Ok(Self { log, requests, context, defaults: TopicDefaults::default(), known: HashSet::new() })
    }

    /// A topic that was there when it was last written to, and is not any more.
    async fn deleted_topic(&self) -> Option<Error> {
        for topic in &self.known {
            if let Ok(false) = self.log.topic_exists(topic).await {
                return Some(
                    Error::transient(format!("topic {topic} was deleted"))
                        .because("it was there when it was last written to")
                        .next("it is made anew; what it held is gone from the log"),
                );
            }
        }
        None
    }

    async fn make_missing_topics(&mut self, batch: &Batch) -> Result<()> {
        let mut last = None;
        for record in batch.iter() {
            if last == Some(record.topic_id) {
                continue;
            }
            last = Some(record.topic_id);
            if !self.known.contains(record.topic) {
                if self.log.topic_exists(record.topic).await?
                    || !self.log.create_topic(&self.defaults.spec(record.topic)).await?
                {
                    tracing::debug!(topic = record.topic, "topic exists");
                }
                self.known.insert(Arc::from(record.topic));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl LogWriter for KafkaWriter {
    async fn commit(&mut self, batch: Batch) -> Result<Batch> {
        self.make_missing_topics(&batch).await?;
        let ended = || Error::internal("the Kafka producer ended");
        let (reply, mut answer) = oneshot::channel();
        self.requests.send(Request { batch, reply }).map_err(|_| ended())?;
        // librdkafka goes on trying to write to a topic that is gone. What it still writes is this transaction's, and
        // whoever makes the writer anew ends that.
        let result = loop {
            tokio::select! {
                biased;
                result = &mut answer => break result.map_err(|_| ended())?,
                () = tokio::time::sleep(LONG) => {}
            }
            tokio::select! {
                biased;
                result = &mut answer => break result.map_err(|_| ended())?,
                gone = self.deleted_topic() => if let Some(error) = gone {
                    break Err(error);
                },
            }
        };
        if result.is_err() {
            // A topic may have been deleted.
            self.known.clear();
        }
        result
    }

    fn trouble(&self) -> Option<Box<dyn Fn() -> Option<String> + Send + Sync>> {
        let context = self.context.clone();
        Some(Box::new(move || context.last_failure()))
    }

    fn topic_defaults(&mut self, defaults: TopicDefaults) {
        self.defaults = defaults;
    }
}

/// How an attempt at a transaction failed.
enum Failure {
    /// Nothing of it is visible; the same batch may be tried again.
    Again(Error),
    /// Nothing of it is visible, and trying again cannot help.
    Batch(Error),
    /// The producer can do no more.
    Producer(Error),
}

struct Transactions {
    producer: BaseProducer<Context>,
    context: Context,
    id: String,
    /// Whether a batch is a transaction.
    exact: bool,
    dead: bool,
}

impl Transactions {
    fn init(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            match self.producer.init_transactions(STEP) {
                Ok(()) => return Ok(()),
                Err(KafkaError::Transaction(e))
                    if e.is_retriable()
                        && started.elapsed() < GIVE_UP / 2
                        && self.denied(started).is_none() =>
                {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(e) => return Err(self.error("cannot start Kafka transactions", &e)),
            }
        }
    }

    fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(Request { mut batch, reply }) = requests.recv() {
            let result = self.commit(&batch);
            batch.clear();
            let _ = reply.send(result.map(|()| batch));
        }
    }

    /// The broker has refused the login, and that does not pass.
    fn denied(&self, since: Instant) -> Option<Error> {
        let reason = self.context.denied().filter(|_| since.elapsed() >= DENIED)?;
        Some(of_code("the Kafka broker refuses the login", Code::Authentication).because(reason))
    }

    fn error(&self, what: &str, error: &KafkaError) -> Error {
        if let Some(reason) = self.context.denied() {
            return of_code(what, Code::Authentication).because(reason);
        }
        let out = kafka_error(&format!("{what} (transactional id {})", self.id), error);
        match (out.kind(), self.context.last_failure()) {
            (Kind::Fenced, _) => out.because("a newer producer with the same transactional id has started"),
            (Kind::Transient, Some(reason)) => out.because(reason),
            _ => out,
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<()> {
        if self.dead {
            return Err(Error::new(Kind::Fenced, format!("the Kafka producer {} is at its end", self.id))
                .because("an earlier transaction failed for good"));
        }
        if batch.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let result =
                if self.exact { self.attempt(batch, started) } else { self.attempt_plain(batch, started) };
            match result {
                Ok(()) => {
                    self.context.answered();
                    return Ok(());
                }
                Err(Failure::Again(error)) if started.elapsed() < GIVE_UP => {
                    tracing::info!(%error, "a batch was not taken by Kafka and is written again");
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                Err(Failure::Again(error) | Failure::Batch(error)) => return Err(error),
                Err(Failure::Producer(error)) => {
                    self.dead = true;
                    return Err(error);
                }
            }
        }
    }

    fn attempt(&self, batch: &Batch, started: Instant) -> Result<(), Failure> {
        self.context.take_undelivered();
        self.producer.begin_transaction().map_err(|e| self.fatal("cannot begin a Kafka transaction", &e))?;
        for record in batch.iter() {
            self.send(&record).map_err(|(error, undelivered)| self.abort(&error, Some(undelivered)))?;
        }
        self.await_delivery(started);
        failpoint!("kafka.before_commit");
        loop {
            if let Some(error) = self.denied(started) {
                return Err(Failure::Producer(error));
            }
            let error = match self.producer.commit_transaction(STEP) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            let retriable = match &error {
                KafkaError::Transaction(e) if e.txn_requires_abort() => false,
                KafkaError::Transaction(e) => e.is_retriable(),
                // Records still wait to be sent.
                KafkaError::Flush(Code::OperationTimedOut) => true,
                _ => false,
            };
            // While it is retriable the outcome is unknown: only the same call may be made again.
            if !retriable || started.elapsed() > GIVE_UP {
                return Err(self.abort(&error, self.context.take_undelivered()));
            }
        }
    }

    /// Without a transaction: the last record goes when the others are there.
    fn attempt_plain(&self, batch: &Batch, started: Instant) -> Result<(), Failure> {
        self.context.take_undelivered();
        let last = batch.len().saturating_sub(1);
        for (number, record) in batch.iter().enumerate() {
            if number == last {
                self.delivered(started)?;
                crate::failpoint!("log.before_last_record");
            }
            self.send(&record).map_err(|(_, undelivered)| refused(undelivered))?;
        }
        self.delivered(started)
    }

    fn delivered(&self, started: Instant) -> Result<(), Failure> {
        self.await_delivery(started);
        if let Some(error) = self.denied(started) {
            return Err(Failure::Producer(error));
        }
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            let error = of_code("a Kafka producer failed", code);
            return Err(Failure::Producer(error.because(reason).next("the writer is made anew")));
        }
        match self.context.take_undelivered() {
            Some(undelivered) => Err(refused(undelivered)),
            None if self.producer.in_flight_count() == 0 => Ok(()),
            None => {
                let error = Error::transient("Kafka does not take what it is given")
                    .because(format!("for {} s", GIVE_UP.as_secs()));
                Err(Failure::Producer(error))
            }
        }
    }

    fn send(&self, record: &BatchRecord<'_>) -> Result<(), (KafkaError, Undelivered)> {
        let mut out: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(record.topic);
        out.partition = record.partition;
        out.timestamp = record.timestamp;
        out.key = record.key;
        out.payload = record.value;
        let headers = record.headers();
        if headers.len() > 0 {
            out.headers = Some(headers.fold(OwnedHeaders::new_with_capacity(4), |headers, (name, value)| {
                // Kafka's header names are UTF-8.
                headers.insert(Header { key: &String::from_utf8_lossy(name), value })
            }));
        }
        loop {
            match self.producer.send(out) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(5));
                    out = back;
                }
                Err((e, _)) => {
                    let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
                    let code = e.rdkafka_error_code().unwrap_or(Code::Fail);
                    let topic = record.topic.to_owned();
                    return Err((e, Undelivered { topic, size, code }));
                }
            }
        }
    }

    /// Waits until every record has been taken or has failed. The wait inside `commit_transaction` serves
    /// delivery reports in steps of 100 ms; only failures are reported here, so each commit would take that long.
    fn await_delivery(&self, started: Instant) {
        while self.producer.in_flight_count() > 0
            && started.elapsed() < GIVE_UP
            && self.denied(started).is_none()
        {
            self.producer.poll(Duration::from_millis(1));
        }
    }

    fn fatal(&self, what: &str, error: &KafkaError) -> Failure {
        Failure::Producer(self.error(what, error))
    }

    /// Takes a failed transaction back and says what that failure means.
    fn abort(&self, error: &KafkaError, undelivered: Option<Undelivered>) -> Failure {
        if let Some((code, reason)) = self.producer.client().fatal_error() {
            let what = format!("a Kafka transaction failed (transactional id {})", self.id);
            let fenced = of_code(&what, code);
            return Failure::Producer(match fenced.kind() {
                Kind::Fenced => fenced.because("a newer producer with the same transactional id has started"),
                _ => Error::transient(what).because(reason).next("the writer is made anew"),
            });
        }
        let begun = Instant::now();
        while let Err(e) = self.producer.abort_transaction(STEP) {
            self.producer.poll(Duration::ZERO);
            let again = matches!(&e, KafkaError::Transaction(e) if e.is_retriable());
            if !again || begun.elapsed() > GIVE_UP {
                return self.fatal("cannot abort a Kafka transaction", &e);
            }
        }
        self.producer.poll(Duration::ZERO);
        let undelivered = undelivered.or_else(|| self.context.take_undelivered());
        match undelivered {
            Some(undelivered) => refused(undelivered),
            None => Failure::Again(self.error("a Kafka transaction was aborted", error)),
        }
    }
}

/// What a record that was not taken means for its batch.
fn refused(undelivered: Undelivered) -> Failure {
    let Undelivered { topic, size, code } = undelivered;
    if code == Code::MessageSizeTooLarge {
        return Failure::Batch(
            of_code(&format!("a record of {size} bytes is too large for topic {topic}"), code)
                .next(format!(
                    "raise max.message.bytes of topic {topic} (and message.max.bytes of the brokers)"
                ))
                .with_source(TooLarge { topic, bytes: size }),
        );
    }
    let error = of_code(&format!("cannot write to topic {topic}"), code);
    if error.is_transient() || code == Code::UnknownTopicOrPartition {
        Failure::Again(error)
    } else {
        Failure::Batch(error)
    }
}
