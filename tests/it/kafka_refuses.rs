//! What a Kafka broker refuses for good fails at once and says what to do; what it loses is made anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::Kind;
use millstream::capture::{Connector, Env, Phase};
use millstream::log::{Batch, Log, LogWriter, OpenOptions};

use crate::capture::{config, read_topic};
use crate::slot_identity::{caught_up, server};
use crate::support::kafka::{USER, broker, guarded};

/// Opens the broker's guarded listener.
async fn login(port: u16, password: &str) -> millstream::Result<Arc<dyn Log>> {
    let jaas = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{}\" password=\"{password}\";",
        USER.0
    );
    let properties =
        [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "PLAIN"), ("sasl.jaas.config", &jaas)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
    let options = OpenOptions { properties, ..OpenOptions::default() };
    millstream::log::open(&format!("kafka://127.0.0.1:{port}"), &options).await
}

async fn write(writer: &mut dyn LogWriter, topic: &str) -> millstream::Error {
    let mut batch = Batch::new();
    let topic = batch.topic(topic);
    let mut record = batch.record(topic);
    record.value(|out| out.extend_from_slice(b"x"));
    record.finish();
    writer.commit(batch).await.expect_err("it is refused")
}

fn is_refused(error: &millstream::Error, word: &str) {
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert!(error.next_step().is_some_and(|next| next.contains(word)), "{error}");
    assert!(!error.to_string().contains("canary"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_and_privileges() {
    let Some(url) = tokio::task::spawn_blocking(broker).await.unwrap() else { return };
    let Some(port) = guarded() else { return };
    let begun = Instant::now();
    is_refused(&login(port, "wrong-canary").await.err().unwrap(), "password");
    let log = login(port, USER.1).await.unwrap();
    is_refused(&log.writer("not mine").await.err().unwrap(), "kafka-acls");
    let all = millstream::log::open(&url, &OpenOptions::default()).await.unwrap();
    let topic = format!("closed-{:08x}", rand::random::<u32>());
    all.create_topic(&millstream::log::TopicSpec::new(&topic)).await.unwrap();
    is_refused(&log.create_topic(&millstream::log::TopicSpec::new("other")).await.unwrap_err(), "kafka-acls");
    is_refused(&log.topic(&topic).await.unwrap_err(), "kafka-acls");

    // A connector ends at once, with the same words, as a service runs it.
    let server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    for exactly_once in [true, false] {
        let config = config(&server, &[]);
        let env = Env { exactly_once, ..Env::new(Arc::clone(&log), "closed") };
        let handle = Connector::start(config, env).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(20), handle.ended_by_itself()).await;
        is_refused(&ended.expect("it ends").unwrap_err(), "kafka-acls");
        assert_eq!((handle.status().phase, handle.status().counters.reconnects), (Phase::Failed, 0));
    }
    println!("all refused within {:?}", begun.elapsed());
}

/// A topic that somebody deletes under a connector is made anew: what comes then is in it, and the connector says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_under_a_connector() {
    let Some(url) = tokio::task::spawn_blocking(broker).await.unwrap() else { return };
    let log = millstream::log::open(&url, &OpenOptions::default()).await.unwrap();
    let name = format!("gone{:08x}", rand::random::<u32>());
    let server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    let offsets = format!("{name}-offsets");
    let config = config(&server, &[("topic.prefix", &name), ("offsets.storage.topic", &offsets)]);
    let handle = Connector::start(config, Env::new(Arc::clone(&log), &name)).unwrap();
    caught_up(&handle).await;
    let topic = format!("{name}.public.t");
    assert!(log.delete_topic(&topic).await.unwrap());
    server.psql("shop", "INSERT INTO t VALUES (2, 'new')").unwrap();
    let begun = Instant::now();
    loop {
        let records = read_topic(&log, &topic).await;
        if !records.is_empty() {
            let ids: Vec<_> = records.iter().map(|r| r.key.as_ref().unwrap()["id"].as_i64()).collect();
            assert_eq!(ids, [Some(2)]);
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", handle.status());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("made anew after {:?}", begun.elapsed());
    handle.stop().await;
}

/// A writer that may not write says so for a batch, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_may_not_be_written() {
    let Some(url) = tokio::task::spawn_blocking(broker).await.unwrap() else { return };
    let Some(port) = guarded() else { return };
    let all = millstream::log::open(&url, &OpenOptions::default()).await.unwrap();
    let topic = format!("closed-{:08x}", rand::random::<u32>());
    all.create_topic(&millstream::log::TopicSpec::new(&topic)).await.unwrap();
    // A topic that only takes records with a key.
    let compacted = format!("compacted-{:08x}", rand::random::<u32>());
    let spec = millstream::log::TopicSpec::new(&compacted).config("cleanup.policy", "compact");
    all.create_topic(&spec).await.unwrap();
    let mut writer = all.writer(&format!("w-{topic}")).await.unwrap();
    let error = write(&mut *writer, &compacted).await;
    assert_eq!(error.kind(), Kind::Data, "{error}");
    assert!(error.to_string().contains(&compacted) && error.to_string().contains("without a key"), "{error}");
    let log = login(port, USER.1).await.unwrap();
    if let Ok(mut writer) = log.writer_at_least_once("not mine").await {
        is_refused(&write(&mut *writer, &topic).await, "kafka-acls");
    }
}
