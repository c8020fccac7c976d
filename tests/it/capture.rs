//! Capture end to end: a real PostgreSQL into the embedded log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream::capture::{Connector, ConnectorHandle, Env, Phase};
use millstream::config::ConnectorConfig;
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::log::{Log, OpenOptions, TopicPartition};
use serde_json::Value;

/// A record as the tests look at it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) key: Option<Value>,
    pub(crate) value: Option<Value>,
}

impl Seen {
    fn op(&self) -> &str {
        self.value.as_ref().and_then(|v| v["op"].as_str()).unwrap_or("-")
    }
}

/// All committed records of a topic, partition after partition.
pub(crate) async fn read_topic(log: &Arc<dyn Log>, topic: &str) -> Vec<Seen> {
    let mut seen = Vec::new();
    let Some(info) = log.topic(topic).await.unwrap() else { return seen };
    for (n, range) in info.partitions.iter().enumerate() {
        if range.earliest >= range.end {
            continue;
        }
        let at = TopicPartition { topic: Arc::from(topic), partition: i32::try_from(n).unwrap() };
        let mut reader = log.reader().await.unwrap();
        reader.assign(at, range.earliest).await.unwrap();
        let mut next = range.earliest;
        while next < range.end {
            let fetched = reader.poll(1 << 20, Duration::from_secs(10)).await.unwrap();
            for r in fetched.iter().filter(|r| r.offset < range.end) {
                let json = |b: Option<&[u8]>| b.map(|b| serde_json::from_slice(b).unwrap());
                seen.push(Seen { key: json(r.key), value: json(r.value) });
            }
            next = fetched.next_offsets().iter().map(|(_, o)| *o).max().unwrap_or(next);
        }
    }
    seen
}

pub(crate) fn config(server: &TemporaryPostgres, extra: &[(&str, &str)]) -> ConnectorConfig {
    let mut map: BTreeMap<String, String> = [
        ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
        ("plugin.name", "pgoutput"),
        ("database.hostname", "127.0.0.1"),
        ("database.user", "postgres"),
        ("database.dbname", "shop"),
        ("topic.prefix", "s"),
        ("key.converter.schemas.enable", "false"),
        ("value.converter.schemas.enable", "false"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    map.insert("database.port".into(), server.port().to_string());
    map.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
    ConnectorConfig::from_map("c", map).unwrap()
}

struct Setup {
    server: TemporaryPostgres,
    log: Arc<dyn Log>,
    _dir: tempfile::TempDir,
}

impl Setup {
    async fn new(sql: &str) -> Self {
        let server =
            tokio::task::spawn_blocking(|| TemporaryPostgres::start(&PostgresOptions::default()).unwrap())
                .await
                .unwrap();
        server.psql("postgres", "CREATE DATABASE shop").unwrap();
        server.psql("shop", sql).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file:{}", dir.path().join("log").display());
        let log = millstream::log::open(&url, &OpenOptions::default()).await.unwrap();
        Self { server, log, _dir: dir }
    }

    fn start(&self, extra: &[(&str, &str)]) -> ConnectorHandle {
        let config = config(&self.server, extra);
        let env = Env::new(Arc::clone(&self.log), config.name());
        Connector::start(config, env).unwrap()
    }

    fn sql(&self, sql: &str) {
        self.server.psql("shop", sql).unwrap();
    }

    async fn read(&self, topic: &str) -> Vec<Seen> {
        read_topic(&self.log, topic).await
    }

    /// Waits until a topic has at least so many records.
    async fn wait_for(&self, topic: &str, count: usize) -> Vec<Seen> {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let seen = self.read(topic).await;
            if seen.len() >= count {
                return seen;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{topic}: {} records, expected {count}",
                seen.len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn caught_up(handle: &ConnectorHandle) {
    tokio::time::timeout(Duration::from_secs(30), handle.caught_up())
        .await
        .expect("caught up in time")
        .unwrap();
}

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY);
    INSERT INTO a SELECT g, 'v' || g FROM generate_series(1, 3) g; INSERT INTO b VALUES (1);";

fn ops(seen: &[Seen]) -> String {
    seen.iter().map(Seen::op).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_then_stream_then_restart() {
    let setup = Setup::new(TABLES).await;
    let handle = setup.start(&[]);
    caught_up(&handle).await;
    let markers: Vec<String> = setup
        .read("s.public.a")
        .await
        .iter()
        .chain(&setup.read("s.public.b").await)
        .map(|r| r.value.as_ref().unwrap()["source"]["snapshot"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(markers, ["first", "true", "last_in_data_collection", "last"]);
    setup.sql("BEGIN; INSERT INTO a VALUES (10, 'x'); UPDATE a SET v = 'y' WHERE id = 10; DELETE FROM a WHERE id = 1; COMMIT");
    let seen = setup.wait_for("s.public.a", 7).await;
    assert_eq!(ops(&seen), "r r r c u d -");
    handle.stop().await;
    assert_eq!(handle.status().phase, Phase::Stopped);

    setup.sql("INSERT INTO a VALUES (11, 'while down'); UPDATE a SET id = 12 WHERE id = 11");
    let handle = setup.start(&[]);
    caught_up(&handle).await;
    assert_eq!(ops(&setup.read("s.public.a").await), "r r r c u d - c d - c");
    handle.stop().await;
    assert!(handle.status().error.is_none());
}
