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
    pub(crate) fn op(&self) -> &str {
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

pub(crate) struct Setup {
    pub(crate) server: TemporaryPostgres,
    pub(crate) log: Arc<dyn Log>,
    _dir: tempfile::TempDir,
}

impl Setup {
    pub(crate) async fn new(sql: &str) -> Self {
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

    pub(crate) fn start(&self, extra: &[(&str, &str)]) -> ConnectorHandle {
        let config = config(&self.server, extra);
        let env = Env::new(Arc::clone(&self.log), config.name());
        Connector::start(config, env).unwrap()
    }

    pub(crate) fn sql(&self, sql: &str) {
        self.server.psql("shop", sql).unwrap();
    }

    pub(crate) async fn read(&self, topic: &str) -> Vec<Seen> {
        read_topic(&self.log, topic).await
    }

    /// Waits until a topic has at least so many records.
    pub(crate) async fn wait_for(&self, topic: &str, count: usize) -> Vec<Seen> {
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

pub(crate) async fn caught_up(handle: &ConnectorHandle) {
    tokio::time::timeout(Duration::from_secs(30), handle.caught_up())
        .await
        .expect("caught up in time")
        .unwrap();
}

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY);
    INSERT INTO a SELECT g, 'v' || g FROM generate_series(1, 3) g; INSERT INTO b VALUES (1);";

pub(crate) fn ops(seen: &[Seen]) -> String {
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

/// A connector that cannot start ends with one error that says what to do, and leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_said_and_nothing_is_left() {
    let setup = Setup::new(&format!(
        "{TABLES} CREATE ROLE plain LOGIN; CREATE ROLE blind LOGIN REPLICATION;
         CREATE PUBLICATION mine FOR TABLE a;"
    ))
    .await;
    let missing = setup.server.port() - 1;
    for (extra, words) in [
        (vec![("database.port", missing.to_string())], vec!["127.0.0.1", "refused"]),
        (vec![("database.dbname", "nowhere".into())], vec!["nowhere", "check the name of the database"]),
        (vec![("database.user", "nobody".into())], vec!["nobody"]),
        (vec![("database.user", "plain".into())], vec!["may not replicate", "REPLICATION"]),
        (
            vec![
                ("database.user", "blind".into()),
                ("publication.autocreate.mode", "disabled".into()),
                ("publication.name", "mine".into()),
            ],
            vec!["no SELECT on \"public\".\"a\"", "GRANT"],
        ),
        (vec![("database.user", "blind".into()), ("snapshot.mode", "no_data".into())], vec!["publication"]),
        (
            vec![("publication.autocreate.mode", "disabled".into())],
            vec!["dbz_publication", "CREATE PUBLICATION"],
        ),
        (
            vec![
                ("publication.autocreate.mode", "filtered".into()),
                ("table.include.list", "no.such".into()),
            ],
            vec!["no table matches"],
        ),
    ] {
        let extra: Vec<(&str, &str)> = extra.iter().map(|(k, v)| (*k, v.as_str())).collect();
        let config = config(&setup.server, &extra);
        let mut env = Env::new(Arc::clone(&setup.log), config.name());
        env.fail_fast = true;
        let handle = Connector::start(config, env).unwrap();
        let error = tokio::time::timeout(Duration::from_secs(20), handle.ended_by_itself())
            .await
            .unwrap()
            .unwrap_err();
        let screen = error.screen();
        for word in words {
            assert!(screen.contains(word), "{extra:?}: {word} is missing in\n{screen}");
        }
        assert!(screen.contains("\nnext:"), "{extra:?}: no next step in\n{screen}");
        let left = setup.server.psql("shop", "SELECT count(*) FROM pg_replication_slots; SELECT count(*) FROM pg_publication WHERE pubname <> 'mine'").unwrap();
        assert_eq!(left, "0\n0\n", "{extra:?}");
    }
    let handle = setup.start(&[]);
    caught_up(&handle).await;
    let config = config(&setup.server, &[]);
    let mut env = Env::new(Arc::clone(&setup.log), "other");
    env.fail_fast = true;
    env.offsets_topic = "others".to_owned();
    let second = Connector::start(config, env).unwrap();
    let error =
        tokio::time::timeout(Duration::from_secs(30), second.ended_by_itself()).await.unwrap().unwrap_err();
    assert!(error.screen().contains("another process reads from this slot"), "{}", error.screen());
    handle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_restart_heals() {
    let mut setup = Setup::new(TABLES).await;
    let handle = setup.start(&[]);
    caught_up(&handle).await;
    setup.sql("INSERT INTO b VALUES (2)");
    setup.wait_for("s.public.b", 2).await;
    for immediate in [false, true] {
        setup.server.stop(immediate).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while handle.status().phase != Phase::Reconnecting {
            assert!(std::time::Instant::now() < deadline, "{:?}", handle.status());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(handle.status().error.is_some());
        setup.server.boot().unwrap();
        setup.sql("INSERT INTO b SELECT max(id) + 1 FROM b");
    }
    let seen = setup.wait_for("s.public.b", 4).await;
    assert_eq!(ops(&seen), "r c c c");
    assert!(handle.status().counters.reconnects >= 2);
    handle.stop().await;
}

/// A quiet connector beside a busy neighbour: the slot moves on, and never past the stored offset.
#[tokio::test(flavor = "multi_thread")]
async fn the_slot_follows_keepalives_behind_the_offset() {
    let setup = Setup::new(&format!("{TABLES} CREATE TABLE noise (t text)")).await;
    let extra = [("table.include.list", "public.a"), ("publication.autocreate.mode", "filtered")];
    let handle = setup.start(&extra);
    caught_up(&handle).await;
    let confirmed = || -> millstream::pg::Lsn {
        let sql = "SELECT confirmed_flush_lsn FROM pg_replication_slots";
        setup.server.psql("shop", sql).unwrap().trim().parse().unwrap()
    };
    let before = confirmed();
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        setup.sql("INSERT INTO noise SELECT repeat('n', 200) FROM generate_series(1, 20000)");
        let now = confirmed();
        let offset =
            millstream::capture::offsets::read_all(&setup.log, "millstream-offsets", "c").await.unwrap();
        let stored = offset[0].1["millstream.restart_lsn"].as_u64().unwrap();
        // Read after the slot: the offset can only be further.
        assert!(now.as_u64() <= stored, "slot {now} ahead of offset {stored}");
        if now.as_u64() > before.as_u64() + (8 << 20) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the slot stays at {now}");
    }
    assert_eq!(handle.status().phase, Phase::Streaming);
    handle.stop().await;
    // Resumed from an idle offset: nothing again, nothing lost.
    setup.sql("INSERT INTO a VALUES (50, 'after idle')");
    let handle = setup.start(&extra);
    caught_up(&handle).await;
    assert_eq!(ops(&setup.read("s.public.a").await), "r r r c");
    handle.stop().await;
}

/// Several connections read ranges of a table and other tables under one snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_by_several_connections() {
    let setup = Setup::new(
        "CREATE TABLE item (id int PRIMARY KEY, v text);
         INSERT INTO item SELECT g * 3, repeat('x', 100) FROM generate_series(1, 8000) g;
         CREATE TABLE word (a text PRIMARY KEY, id int UNIQUE);
         INSERT INTO word SELECT md5(g::text) || repeat('y', 60), g FROM generate_series(1, 5000) g; ANALYZE word;
         CREATE TABLE nokey (id int); INSERT INTO nokey SELECT generate_series(1, 100); CREATE TABLE empty (id int PRIMARY KEY);",
    )
    .await;
    let handle = setup.start(&[("snapshot.max.threads", "4"), ("message.key.columns", "public.(.*):id")]);
    caught_up(&handle).await;
    let mut lasts = 0;
    for (table, count) in [("item", 8000), ("word", 5000), ("nokey", 100)] {
        let seen = setup.read(&format!("s.public.{table}")).await;
        let keys: std::collections::BTreeSet<String> =
            seen.iter().map(|r| r.key.as_ref().unwrap().to_string()).collect();
        assert_eq!((seen.len(), keys.len()), (count, count), "{table}");
        lasts += seen.iter().filter(|r| r.value.as_ref().unwrap()["source"]["snapshot"] == "last").count();
    }
    assert_eq!(lasts, 1);
    assert_eq!(handle.status().counters.snapshot_rows, 13_100);
    setup.sql("INSERT INTO item VALUES (1, 'streamed')");
    setup.wait_for("s.public.item", 8001).await;
    handle.stop().await;
}

/// With `millstream.strict.values` a snapshot reads each row of a partitioned table once; Debezium reads it through the
/// root and again through the partition.
#[tokio::test(flavor = "multi_thread")]
async fn a_strict_snapshot_reads_partitions_once() {
    let setup = Setup::new(
        "CREATE TABLE pt (id int, k int, PRIMARY KEY (id, k)) PARTITION BY RANGE (k);
         CREATE TABLE pt_1 PARTITION OF pt FOR VALUES FROM (0) TO (10);
         CREATE TABLE pt_2 PARTITION OF pt FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
         CREATE TABLE pt_2a PARTITION OF pt_2 DEFAULT;
         INSERT INTO pt VALUES (1, 1), (2, 2), (3, 12);",
    )
    .await;
    let topics = ["s.public.pt", "s.public.pt_1", "s.public.pt_2", "s.public.pt_2a"];
    for (root, strict, prefix, counts) in [
        ("false", "false", "a", [3, 2, 1, 1]),
        ("false", "true", "b", [0, 2, 0, 1]),
        ("true", "true", "c", [3, 0, 0, 0]),
    ] {
        let handle = setup.start(&[
            ("topic.prefix", prefix),
            ("slot.name", &format!("slot_{prefix}")),
            ("publication.name", &format!("pub_{prefix}")),
            ("publish.via.partition.root", root),
            ("millstream.strict.values", strict),
        ]);
        caught_up(&handle).await;
        for (topic, count) in topics.iter().zip(counts) {
            let seen = setup.read(&topic.replacen('s', prefix, 1)).await;
            assert_eq!(seen.len(), count, "{topic}, by root {root}, strict {strict}");
        }
        handle.stop().await;
    }
}
