//! What both logs promise, asked of both: the embedded one and a real Kafka broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::Kind;
use millstream::log::topic::TopicGroup;
use millstream::log::{
    Batch, Log, LogReader, OpenOptions, Position, TopicDefaults, TopicPartition, TopicSpec, open, partition,
};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::support::kafka::broker;

/// A record as it was read.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// A topic name that no other test and no earlier run has.
fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::now_v7().simple())
}

/// Adds a record with key and value.
fn add(batch: &mut Batch, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) {
    let topic = batch.topic(topic);
    let mut r = batch.record(topic);
    if let Some(key) = key {
        r.key(|o| o.extend_from_slice(key));
    }
    if let Some(value) = value {
        r.value(|o| o.extend_from_slice(value));
    }
    r.finish();
}

fn one(topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> Batch {
    let mut batch = Batch::new();
    add(&mut batch, topic, key, value);
    batch
}

async fn poll(reader: &mut dyn LogReader) -> Vec<Seen> {
    let fetched = reader.poll(1 << 20, Duration::from_secs(10)).await.unwrap();
    let own = |b: Option<&[u8]>| b.map(<[u8]>::to_vec);
    fetched
        .iter()
        .map(|r| Seen {
            partition: r.at.partition,
            offset: r.offset,
            timestamp: r.timestamp,
            key: own(r.key),
            value: own(r.value),
            headers: r.headers().map(|(n, v)| (n.to_vec(), own(v))).collect(),
        })
        .collect()
}

/// Kafka answers a commit before its records are visible: waits until the partitions hold at least so many.
async fn visible(log: &dyn Log, topic: &str, records: i64) -> Vec<Seen> {
    let started = Instant::now();
    loop {
        let info = log.topic(topic).await.unwrap().expect("the topic exists");
        if info.partitions.iter().map(|p| p.end).sum::<i64>() >= records {
            return read_all(log, topic).await;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{info:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Reads a whole topic until each partition's end, which `next_offsets` must reach exactly.
async fn read_all(log: &dyn Log, topic: &str) -> Vec<Seen> {
    let info = log.topic(topic).await.unwrap().expect("the topic exists");
    let mut out = Vec::new();
    for (partition, range) in info.partitions.iter().enumerate() {
        let at = TopicPartition::new(topic, i32::try_from(partition).unwrap());
        let mut reader = log.reader().await.unwrap();
        reader.assign(at.clone(), range.earliest).await.unwrap();
        let mut next = range.earliest;
        let started = Instant::now();
        while next < range.end {
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "{at:?} stops at {next}, ends at {}",
                range.end
            );
            let fetched = reader.poll(1 << 20, Duration::from_secs(1)).await.unwrap();
            let own = |b: Option<&[u8]>| b.map(<[u8]>::to_vec);
            out.extend(fetched.iter().map(|r| Seen {
                partition: r.at.partition,
                offset: r.offset,
                timestamp: r.timestamp,
                key: own(r.key),
                value: own(r.value),
                headers: r.headers().map(|(n, v)| (n.to_vec(), own(v))).collect(),
            }));
            if let Some((_, offset)) = fetched.next_offsets().last() {
                next = *offset;
            }
        }
        assert_eq!(next, range.end);
    }
    out
}

async fn records_keep_all_their_parts(log: Arc<dyn Log>) {
    let topic = unique("parts");
    let mut writer = log.writer(&unique("w")).await.unwrap();
    let mut batch = Batch::new();
    let id = batch.topic(&topic);
    let mut r = batch.record(id);
    r.key(|o| o.extend_from_slice(b"k"));
    r.value(|o| o.extend_from_slice("wert ä".as_bytes()));
    r.header(b"first", Some(b"1"))
        .header(b"nothing", None)
        .header(b"empty", Some(b""))
        .timestamp(1_600_000_000_123);
    r.finish();
    add(&mut batch, &topic, Some(b"k"), None);
    add(&mut batch, &topic, None, Some(b""));
    add(&mut batch, &topic, Some(b""), Some(b"x"));
    let before = now();
    let batch = writer.commit(batch).await.unwrap();
    assert!(batch.is_empty());
    let seen = visible(&*log, &topic, 4).await;
    assert_eq!(seen.iter().map(|s| s.offset).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(seen[0].timestamp, 1_600_000_000_123);
    assert_eq!(seen[0].value.as_deref(), Some("wert ä".as_bytes()));
    let headers = [
        (b"first".to_vec(), Some(b"1".to_vec())),
        (b"nothing".to_vec(), None),
        (b"empty".to_vec(), Some(Vec::new())),
    ];
    assert_eq!(seen[0].headers, headers);
    assert_eq!((seen[1].key.as_deref(), seen[1].value.as_deref()), (Some(&b"k"[..]), None));
    assert_eq!((seen[2].key.as_deref(), seen[2].value.as_deref()), (None, Some(&b""[..])));
    assert_eq!((seen[3].key.as_deref(), seen[3].value.as_deref()), (Some(&b""[..]), Some(&b"x"[..])));
    assert!((before - 1000..=now() + 1000).contains(&seen[1].timestamp), "{}", seen[1].timestamp);
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

async fn a_batch_is_one_write(log: Arc<dyn Log>) {
    let (events, offsets) = (unique("events"), unique("offsets"));
    log.create_topic(&TopicSpec::new(&offsets).partitions(1).compacted()).await.unwrap();
    let mut writer = log.writer(&unique("w")).await.unwrap();
    writer.topic_defaults(TopicSpec::new(&events).partitions(1).into());
    let mut batch = Batch::new();
    for n in 0..50u32 {
        for _ in 0..20 {
            add(&mut batch, &events, Some(b"k"), Some(&n.to_be_bytes()));
        }
        add(&mut batch, &offsets, Some(b"o"), Some(&n.to_be_bytes()));
        batch = writer.commit(batch).await.unwrap();
    }
    // What cannot be written leaves nothing behind: neither its events nor its offset.
    add(&mut batch, &events, None, Some(b"never"));
    let id = batch.topic(&offsets);
    let mut r = batch.record(id);
    r.key(|o| o.push(b'o'));
    r.partition(77);
    r.finish();
    let error = writer.commit(batch).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    let seen = visible(&*log, &events, 1000).await;
    assert_eq!(seen.len(), 1000);
    assert!(seen.iter().all(|s| s.value.as_deref() != Some(b"never")));
    assert_eq!(read_all(&*log, &offsets).await.len(), 50);
    // The writer goes on.
    let end = log.topic(&events).await.unwrap().unwrap().partitions[0].end;
    writer.commit(one(&events, None, Some(b"after"))).await.unwrap();
    assert_eq!(visible(&*log, &events, end + 1).await.last().unwrap().value.as_deref(), Some(&b"after"[..]));
}

async fn a_newer_writer_fences(log: Arc<dyn Log>) {
    let (topic, id) = (unique("fenced"), unique("w"));
    let mut first = log.writer(&id).await.unwrap();
    first.commit(one(&topic, None, Some(b"1"))).await.unwrap();
    let mut second = log.writer(&id).await.unwrap();
    let error = first.commit(one(&topic, None, Some(b"2"))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced, "{error}");
    assert_eq!(first.commit(one(&topic, None, Some(b"2"))).await.unwrap_err().kind(), Kind::Fenced);
    second.commit(one(&topic, None, Some(b"3"))).await.unwrap();
    // A reader gets what is committed and nothing else; Kafka's control records come between.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let values: Vec<_> = read_all(&*log, &topic).await.into_iter().map(|s| s.value.unwrap()).collect();
    assert_eq!(values, [b"1".to_vec(), b"3".to_vec()]);
}

/// At-least-once: nothing is missing, an exact writer of the same name has its end, and a batch that fails says why.
async fn writers_may_be_less_than_exact(log: Arc<dyn Log>) {
    let (topic, offsets, id) = (unique("loose"), unique("loose-offsets"), unique("w"));
    let mut exact = log.writer(&id).await.unwrap();
    let mut writer = log.writer_at_least_once(&id).await.unwrap();
    writer.topic_defaults(TopicSpec::new("").partitions(1).into());
    let error = exact.commit(one(&topic, None, Some(b"late"))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced, "{error}");
    let mut batch = Batch::new();
    for n in 0..20u32 {
        add(&mut batch, &topic, Some(b"k"), Some(&n.to_be_bytes()));
        add(&mut batch, &offsets, Some(b"o"), Some(&n.to_be_bytes()));
        batch = writer.commit(batch).await.unwrap();
    }
    assert_eq!(visible(&*log, &topic, 20).await.len(), 20);
    assert_eq!(read_all(&*log, &offsets).await.len(), 20);
    let id = batch.topic(&offsets);
    let mut r = batch.record(id);
    r.key(|o| o.push(b'o'));
    r.partition(77);
    r.finish();
    let error = writer.commit(batch).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    writer.commit(one(&topic, None, Some(b"after"))).await.unwrap();
    assert_eq!(visible(&*log, &topic, 21).await.len(), 21);
}

async fn missing_topics_are_made_as_their_group_says(log: Arc<dyn Log>) {
    let (changes, rest) = (unique("changes"), unique("rest"));
    let mut defaults = TopicDefaults::from(TopicSpec::new("").partitions(1));
    defaults.add(TopicGroup {
        include: fancy_regex::Regex::new("^changes").unwrap(),
        exclude: None,
        spec: TopicSpec::new("").partitions(3).compacted(),
    });
    let mut writer = log.writer(&unique("w")).await.unwrap();
    writer.topic_defaults(defaults);
    let mut batch = Batch::new();
    add(&mut batch, &changes, Some(b"k"), Some(b"1"));
    add(&mut batch, &rest, Some(b"k"), Some(b"1"));
    writer.commit(batch).await.unwrap();
    let (changes, rest) =
        (log.topic(&changes).await.unwrap().unwrap(), log.topic(&rest).await.unwrap().unwrap());
    assert_eq!((changes.partitions.len(), rest.partitions.len()), (3, 1));
    assert_eq!(changes.configs.get("cleanup.policy").map(String::as_str), Some("compact"));
    assert_eq!(rest.configs.get("cleanup.policy"), None);
}

async fn a_commit_wakes_a_waiting_reader(log: Arc<dyn Log>) {
    let topic = unique("tail");
    log.create_topic(&TopicSpec::new(&topic).partitions(1)).await.unwrap();
    let mut writer = log.writer(&unique("w")).await.unwrap();
    let mut reader = log.reader().await.unwrap();
    reader.assign(TopicPartition::new(topic.as_str(), 0), 0).await.unwrap();
    let mut slowest = Duration::ZERO;
    for n in 0..20u8 {
        let (sent, received) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_millis(60)).await;
                writer.commit(one(&topic, None, Some(&[n]))).await.unwrap();
                Instant::now()
            },
            async {
                loop {
                    let seen = poll(&mut *reader).await;
                    if let Some(last) = seen.last() {
                        assert_eq!(last.value.as_deref(), Some(&[n][..]));
                        return Instant::now();
                    }
                }
            }
        );
        if n > 0 {
            slowest = slowest.max(received.saturating_duration_since(sent));
        }
    }
    // Far below any polling interval worth the name, far above what a loaded machine adds.
    assert!(slowest < Duration::from_millis(400), "{slowest:?}");
    let empty = reader.poll(1000, Duration::from_millis(20)).await.unwrap();
    assert!(empty.is_empty());
}

async fn positions_are_resolved(log: Arc<dyn Log>) {
    let topic = unique("positions");
    log.create_topic(&TopicSpec::new(&topic).partitions(1)).await.unwrap();
    let mut writer = log.writer(&unique("w")).await.unwrap();
    let mut batch = Batch::new();
    let id = batch.topic(&topic);
    for n in 0..1000i64 {
        let mut r = batch.record(id);
        r.timestamp(1_700_000_000_000 + n * 10);
        r.value(|o| o.extend_from_slice(&[0; 500]));
        r.finish();
    }
    writer.commit(batch).await.unwrap();
    let at = TopicPartition::new(topic.as_str(), 0);
    visible(&*log, &topic, 1000).await;
    let end = log.topic(&topic).await.unwrap().unwrap().partitions[0].end;
    for (position, offset) in [
        (Position::Earliest, 0),
        (Position::Latest, end),
        (Position::Offset(17), 17),
        (Position::Timestamp(0), 0),
        (Position::Timestamp(1_700_000_000_000 + 5000), 500),
        (Position::Timestamp(1_700_000_000_000 + 5001), 501),
        (Position::Timestamp(1_800_000_000_000), end),
    ] {
        assert_eq!(log.resolve(&at, position).await.unwrap(), offset, "{position:?}");
    }
    let mut reader = log.reader().await.unwrap();
    reader.assign(at.clone(), 990).await.unwrap();
    assert_eq!(poll(&mut *reader).await.first().unwrap().offset, 990);
    reader.assign(at.clone(), 5).await.unwrap();
    assert_eq!(poll(&mut *reader).await.first().unwrap().offset, 5);
    reader.unassign(&at).await.unwrap();
    assert!(reader.poll(1000, Duration::from_millis(50)).await.unwrap().is_empty());
}

async fn keys_go_to_kafkas_partitions(log: Arc<dyn Log>) {
    let topic = unique("keys");
    log.create_topic(&TopicSpec::new(&topic).partitions(7)).await.unwrap();
    let mut writer = log.writer(&unique("w")).await.unwrap();
    let mut batch = Batch::new();
    for n in 0..200 {
        add(&mut batch, &topic, Some(format!("key {n}").as_bytes()), Some(b"v"));
    }
    writer.commit(batch).await.unwrap();
    let seen = visible(&*log, &topic, 200).await;
    assert_eq!(seen.len(), 200);
    for s in seen {
        assert_eq!(s.partition, partition::for_key(s.key.as_deref().unwrap(), 7));
    }
}

async fn topics_are_made_described_and_deleted(log: Arc<dyn Log>) {
    let topic = unique("admin");
    assert!(log.topic(&topic).await.unwrap().is_none());
    let spec = TopicSpec::new(&topic).partitions(3).compacted().config("delete.retention.ms", "1000");
    assert!(log.create_topic(&spec).await.unwrap());
    assert!(!log.create_topic(&spec).await.unwrap());
    let info = log.topic(&topic).await.unwrap().unwrap();
    assert_eq!(info.partitions.len(), 3);
    assert_eq!(info.configs, spec.configs);
    assert!(log.topics().await.unwrap().contains(&topic));
    assert!(log.delete_topic(&topic).await.unwrap());
    assert!(!log.delete_topic(&topic).await.unwrap());
    assert!(log.topic(&topic).await.unwrap().is_none());
    assert_eq!(log.create_topic(&TopicSpec::new("a b")).await.unwrap_err().kind(), Kind::Config);
}

async fn megabytes_are_fine(log: Arc<dyn Log>) {
    let topic = unique("large");
    log.create_topic(&TopicSpec::new(&topic).partitions(1).config("max.message.bytes", "20000000"))
        .await
        .unwrap();
    let mut writer = log.writer(&unique("w")).await.unwrap();
    let large: Vec<u8> = (0..8_000_000u32)
        .map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_be_bytes()[1])
        .collect();
    let mut batch = one(&topic, None, Some(b"small"));
    add(&mut batch, &topic, None, Some(&large));
    writer.commit(batch).await.unwrap();
    let seen = visible(&*log, &topic, 2).await;
    assert_eq!(seen[1].value.as_deref(), Some(large.as_slice()));
    let too_large = [large.as_slice(); 4].concat();
    let error = writer.commit(one(&topic, None, Some(&too_large))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Data, "{error}");
    assert!(error.to_string().contains(&topic) && error.to_string().contains("32000000"), "{error}");
}

async fn an_offset_that_is_gone_is_an_error(log: Arc<dyn Log>) {
    let topic = unique("gone");
    log.create_topic(&TopicSpec::new(&topic).partitions(1)).await.unwrap();
    let mut writer = log.writer(&unique("w")).await.unwrap();
    writer.commit(one(&topic, None, Some(b"x"))).await.unwrap();
    let mut reader = log.reader().await.unwrap();
    let at = TopicPartition::new(topic.as_str(), 0);
    let error = match reader.assign(at, 5000).await {
        Err(error) => error,
        Ok(()) => reader.poll(1000, Duration::from_secs(10)).await.unwrap_err(),
    };
    assert_eq!(error.kind(), Kind::Data, "{error}");
    assert!(error.to_string().contains("5000"), "{error}");
}

/// What was committed last is found though another writer's transaction is still open before it: offsets and fences
/// of many writers share a partition.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_hides_nothing_behind_it() {
    let Some(url) = tokio::task::spawn_blocking(broker).await.unwrap() else { return };
    let log = open(&url, &OpenOptions::default()).await.unwrap();
    let topic = unique("shared");
    log.create_topic(&TopicSpec::new(&topic).partitions(1)).await.unwrap();
    let mut writer = log.writer(&unique("w")).await.unwrap();
    writer.commit(one(&topic, Some(b"k"), Some(b"old"))).await.unwrap();
    let other: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", url.trim_start_matches("kafka://"))
        .set("transactional.id", unique("other"))
        .create()
        .unwrap();
    let wait = Duration::from_secs(20);
    other.init_transactions(wait).unwrap();
    other.begin_transaction().unwrap();
    other.send(BaseRecord::<[u8], [u8]>::to(&topic).partition(0).key(b"o").payload(b"open")).unwrap();
    other.flush(wait).unwrap();
    writer.commit(one(&topic, Some(b"k"), Some(b"new"))).await.unwrap();
    // It is held back for a reader, and the end that a reader sees with it.
    assert_eq!(log.topic(&topic).await.unwrap().unwrap().partitions[0].end, 2);
    let ends = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(2)).await;
        tokio::task::spawn_blocking(move || other.abort_transaction(wait).unwrap()).await.unwrap();
    });
    let newest = millstream::capture::offsets::read(&log, &topic, b"k").await.unwrap();
    assert_eq!(newest.as_deref(), Some(&b"new"[..]));
    ends.await.unwrap();
}

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                let url = format!("file:{}", dir.path().display());
                super::$name(super::open(&url, &super::OpenOptions::default()).await.unwrap()).await;
            })*
        }
        mod kafka {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let Some(url) = tokio::task::spawn_blocking(super::broker).await.unwrap() else { return };
                super::$name(super::open(&url, &super::OpenOptions::default()).await.unwrap()).await;
            })*
        }
    };
}

contract!(
    records_keep_all_their_parts,
    a_batch_is_one_write,
    a_newer_writer_fences,
    writers_may_be_less_than_exact,
    missing_topics_are_made_as_their_group_says,
    a_commit_wakes_a_waiting_reader,
    positions_are_resolved,
    keys_go_to_kafkas_partitions,
    topics_are_made_described_and_deleted,
    megabytes_are_fine,
    an_offset_that_is_gone_is_an_error,
);
