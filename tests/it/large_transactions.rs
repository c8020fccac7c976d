//! Large transactions: streamed while they run, kept until they commit, and the same events as ever.

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::capture::{Connector, ConnectorHandle, Env, Phase};
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::log::{Log, OpenOptions};
use serde_json::{Value, json};

use crate::capture::{config, read_topic};
use crate::support::millstream;

fn server(settings: &[&str]) -> TemporaryPostgres {
    let mut all = vec!["logical_decoding_work_mem = '64kB'".to_owned()];
    all.extend(settings.iter().map(|s| (*s).to_owned()));
    let server =
        TemporaryPostgres::start(&PostgresOptions { settings: all, ..PostgresOptions::default() }).unwrap();
    server.psql("postgres", "CREATE DATABASE shop").unwrap();
    server
}

async fn log_at(dir: &Path) -> Arc<dyn Log> {
    millstream::log::open(&format!("file:{}", dir.display()), &OpenOptions::default()).await.unwrap()
}

async fn caught_up(handle: &ConnectorHandle) {
    tokio::time::timeout(Duration::from_secs(60), handle.caught_up()).await.expect("in time").unwrap();
}

/// What the server says of a slot: transactions streamed to it.
fn streamed(server: &TemporaryPostgres, slot: &str) -> u64 {
    let sql = format!("SELECT stream_txns FROM pg_stat_replication_slots WHERE slot_name = '{slot}'");
    server.psql("shop", &sql).unwrap().trim().parse().unwrap()
}

const TABLES: &str =
    "CREATE TABLE big (id int PRIMARY KEY, v text, w int); CREATE TABLE small (id int PRIMARY KEY);
    CREATE TABLE hidden (id int, v text); ALTER TABLE big REPLICA IDENTITY FULL;";

/// Many rows, whatever is rolled back, a change of the table's shape, other transactions in between.
async fn workload(server: &TemporaryPostgres) {
    let connect = || async {
        let (client, connection) =
            tokio_postgres::connect(&server.url("shop"), tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    };
    let (a, b) = (connect().await, connect().await);
    let rows = |from: i32, to: i32| {
        format!("INSERT INTO big SELECT g, repeat('x', 40), g FROM generate_series({from}, {to}) g;")
    };
    a.batch_execute(&format!("BEGIN; {}", rows(1, 3000))).await.unwrap();
    b.batch_execute("INSERT INTO small VALUES (1)").await.unwrap();
    a.batch_execute(&format!("SAVEPOINT s; {} ROLLBACK TO s;", rows(5000, 8000))).await.unwrap();
    b.batch_execute(&format!("BEGIN; {}", rows(20_000, 23_000))).await.unwrap();
    a.batch_execute(
        "SAVEPOINT t; UPDATE big SET w = 7 WHERE id <= 1500; DELETE FROM big WHERE id = 3; RELEASE t",
    )
    .await
    .unwrap();
    // The next statement waits for whoever else writes to the table.
    b.batch_execute("ROLLBACK").await.unwrap();
    a.batch_execute(
        "SELECT pg_logical_emit_message(true, 'note', 'inside');
         SELECT pg_logical_emit_message(false, 'note', 'at once');
         SAVEPOINT u; ALTER TABLE small ADD COLUMN gone int; INSERT INTO small VALUES (77, 1); ROLLBACK TO u;
         ALTER TABLE big ADD COLUMN extra int DEFAULT 5; UPDATE big SET extra = 6 WHERE id > 2000 AND id < 20000;",
    )
    .await
    .unwrap_or_else(|e| panic!("{e:?}"));
    a.batch_execute("UPDATE big SET id = id + 100000 WHERE id = 9; TRUNCATE small; COMMIT").await.unwrap();
    b.batch_execute("INSERT INTO small VALUES (2); INSERT INTO big VALUES (30000, 'after', 1, 1)")
        .await
        .unwrap();
    b.batch_execute(&format!(
        "BEGIN; {} PREPARE TRANSACTION 'kept';",
        rows(40_000, 42_000).replace("g FROM", "g, 1 FROM")
    ))
    .await
    .unwrap();
    b.batch_execute("INSERT INTO small VALUES (3)").await.unwrap();
    b.batch_execute("COMMIT PREPARED 'kept'").await.unwrap();
    b.batch_execute(&format!(
        "BEGIN; {} PREPARE TRANSACTION 'lost';",
        rows(50_000, 52_000).replace("g FROM", "g, 1 FROM")
    ))
    .await
    .unwrap();
    b.batch_execute("ROLLBACK PREPARED 'lost'").await.unwrap();
    b.batch_execute("INSERT INTO hidden SELECT g, repeat('h', 100) FROM generate_series(1, 5000) g")
        .await
        .unwrap();
    b.batch_execute("INSERT INTO small VALUES (4)").await.unwrap();
}

/// Everything but the time at which we looked.
async fn events(log: &Arc<dyn Log>, topics: &[&str]) -> Vec<(String, Option<Value>, Option<Value>)> {
    let mut all = Vec::new();
    for topic in topics {
        for record in read_topic(log, topic).await {
            let mut value = record.value;
            if let Some(map) = value.as_mut().and_then(Value::as_object_mut) {
                for field in ["ts_ms", "ts_us", "ts_ns"] {
                    // The transaction topic's is the commit's.
                    if !topic.ends_with("transaction") {
                        map.remove(field);
                    }
                }
                if map.get("op") == Some(&json!("m")) {
                    // A message outside a transaction has no other time than ours.
                    map["source"].as_object_mut().unwrap().retain(|k, _| !k.starts_with("ts_"));
                }
            }
            all.push(((*topic).to_owned(), record.key, value));
        }
    }
    all
}

const TOPICS: [&str; 4] = ["s.public.big", "s.public.small", "s.message", "s.transaction"];

fn connector(server: &TemporaryPostgres, log: &Arc<dyn Log>, slot: &str, streaming: bool) -> ConnectorHandle {
    let config = config(server, &properties(slot, if streaming { "true" } else { "false" }));
    let env = Env::new(Arc::clone(log), config.name());
    Connector::start(config, env).unwrap()
}

fn properties<'a>(slot: &'a str, streaming: &'a str) -> [(&'static str, &'a str); 8] {
    [
        ("slot.name", slot),
        ("millstream.transaction.streaming", streaming),
        ("snapshot.mode", "no_data"),
        ("publication.autocreate.mode", "filtered"),
        ("table.include.list", "public.big,public.small"),
        ("provide.transaction.metadata", "true"),
        // Little memory: the streamed transactions lie in files, and batches end inside of transactions.
        ("max.queue.size.in.bytes", "65536"),
        ("tombstones.on.delete", "true"),
    ]
}

/// The same workload by protocol 1, streamed, and streamed and whole by turns with a kill in between.
#[tokio::test(flavor = "multi_thread")]
async fn streamed_transactions_give_the_events_of_protocol_1() {
    let server = tokio::task::spawn_blocking(|| server(&["max_prepared_transactions = 5"])).await.unwrap();
    server.psql("shop", TABLES).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (plain, pieces) = (log_at(&dir.path().join("plain")).await, log_at(&dir.path().join("pieces")).await);
    let handles = [connector(&server, &plain, "plain", false), connector(&server, &pieces, "pieces", true)];
    for handle in &handles {
        caught_up(handle).await;
    }
    // A third one begins here and is killed and changed over later.
    let third = Killed::new(&server, dir.path());
    third.run(true, "", true);
    workload(&server).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    let last = |events: &[(String, Option<Value>, Option<Value>)]| {
        events.iter().filter(|(t, _, v)| t == "s.public.small" && v.is_some()).count()
    };
    let (mut expected, mut got) = (Vec::new(), Vec::new());
    while last(&expected) < 4 || last(&got) < 4 {
        assert!(Instant::now() < deadline, "{} and {} events", expected.len(), got.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
        expected = events(&plain, &TOPICS).await;
        got = events(&pieces, &TOPICS).await;
    }
    for handle in handles {
        handle.stop().await;
    }
    // The topics were read one after the other while they grew.
    (expected, got) = (events(&plain, &TOPICS).await, events(&pieces, &TOPICS).await);
    // From 18 on a server does not send one that it knows to be rolled back.
    let version: u32 = server.psql("shop", "SHOW server_version_num").unwrap().trim().parse().unwrap();
    let least = if version >= 180_000 { 3 } else { 4 };
    assert!(streamed(&server, "pieces") >= least, "{}", streamed(&server, "pieces"));
    assert_eq!(streamed(&server, "plain"), 0);
    assert!(expected.len() > 7000, "{}", expected.len());
    same(&got, &expected);

    for (n, streaming) in [(2, true), (3, false), (2, true), (4, false)] {
        third.run(streaming, &format!("capture.mid_transaction=abort@{n}"), false);
    }
    third.run(true, "", true);
    let log = log_at(&dir.path().join("killed/log")).await;
    same(&events(&log, &TOPICS).await, &expected);
}

fn same(got: &[(String, Option<Value>, Option<Value>)], expected: &[(String, Option<Value>, Option<Value>)]) {
    for (n, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got, expected, "event {n}");
    }
    assert_eq!(got.len(), expected.len());
}

/// A connector in a process of its own.
struct Killed {
    dir: std::path::PathBuf,
    port: u16,
}

impl Killed {
    fn new(server: &TemporaryPostgres, dir: &Path) -> Self {
        let dir = dir.join("killed");
        std::fs::create_dir_all(&dir).unwrap();
        Self { dir, port: server.port() }
    }

    fn spawn(&self, extra: &[(&str, &str)], failpoints: &str, until_caught_up: bool) -> Child {
        let mut map = serde_json::Map::new();
        for (k, v) in [
            ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
            ("plugin.name", "pgoutput"),
            ("database.hostname", "127.0.0.1"),
            ("database.user", "postgres"),
            ("database.dbname", "shop"),
            ("topic.prefix", "s"),
            ("key.converter.schemas.enable", "false"),
            ("value.converter.schemas.enable", "false"),
        ]
        .iter()
        .chain(extra)
        {
            map.insert((*k).to_owned(), Value::from(*v));
        }
        map.insert("database.port".into(), Value::from(self.port.to_string()));
        let file = self.dir.join("c.json");
        std::fs::write(&file, json!({"name": "killed", "config": map}).to_string()).unwrap();
        let out = std::fs::File::options().create(true).append(true).open(self.dir.join("out.txt")).unwrap();
        let mut command = millstream();
        command.arg("--data").arg(&self.dir).arg("capture").arg(file);
        if until_caught_up {
            command.arg("--until-caught-up");
        }
        command
            .env("MILLSTREAM_FAILPOINTS", failpoints)
            .stdout(Stdio::from(out.try_clone().unwrap()))
            .stderr(Stdio::from(out))
            .spawn()
            .unwrap()
    }

    /// Waits for its end; gives the most memory it took, in KiB.
    fn wait(&self, mut child: Child, within: Duration, well: bool) -> u64 {
        let deadline = Instant::now() + within;
        let mut most = 0;
        loop {
            most = most.max(peak(child.id()));
            if let Some(code) = child.try_wait().unwrap() {
                assert_eq!(code.success(), well, "{code}\n{}", self.output());
                return most;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("not in time:\n{}", self.output());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn run(&self, streaming: bool, failpoints: &str, well: bool) {
        let extra = properties("killed", if streaming { "true" } else { "false" });
        let child = self.spawn(&extra, failpoints, true);
        self.wait(child, Duration::from_secs(60), well);
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.dir.join("out.txt")).unwrap_or_default()
    }
}

/// The most memory that a process has taken, KiB: `VmHWM` without the pages of its executable, which the kernel
/// may drop at any time and of which a build without optimisation has many.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0)
    };
    field("VmHWM:").saturating_sub(field("RssFile:"))
}

/// One transaction with `rows` rows and then one with `values` values of 16 MiB, under a ceiling.
async fn under_the_ceiling(rows: u64, values: u64, within: Duration) {
    let server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    server
        .psql("shop", "CREATE TABLE t (id bigint PRIMARY KEY, v text); CREATE TABLE doc (id int PRIMARY KEY, body text)")
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let case = Killed::new(&server, dir.path());
    let extra = [("slot.name", "ceiling"), ("snapshot.mode", "no_data")];
    case.wait(case.spawn(&extra, "", true), Duration::from_secs(60), true);
    // Behind a session that streams: the transactions come while they run.
    let running = case.spawn(&extra, "", false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    server
        .psql("shop", &format!("INSERT INTO t SELECT g, 'row ' || g FROM generate_series(1, {rows}) g"))
        .unwrap();
    server
        .psql(
            "shop",
            &format!("INSERT INTO doc SELECT g, repeat(md5(g::text), 512 * 1024) FROM generate_series(1, {values}) g"),
        )
        .unwrap();
    let wal = "SELECT pg_current_wal_lsn() - '0/0', confirmed_flush_lsn - '0/0' FROM pg_replication_slots";
    let deadline = Instant::now() + within;
    let mut most = 0;
    loop {
        most = most.max(peak(running.id()));
        let text = server.psql("shop", wal).unwrap();
        let (end, confirmed) = text.trim().split_once('|').unwrap();
        if confirmed.parse::<u64>().unwrap() >= end.parse::<u64>().unwrap() {
            break;
        }
        assert!(Instant::now() < deadline, "at {confirmed} of {end}\n{}", case.output());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(streamed(&server, "ceiling") >= 1);
    let mut running = running;
    running.kill().unwrap();
    running.wait().unwrap();
    println!("{rows} rows and {values} values of 16 MiB: at most {} MiB of memory", most / 1024);
    assert!(most < 256 << 10, "{most} KiB");
    assert_eq!(std::fs::read_dir(case.dir.join("spill")).unwrap().count(), 0, "a file is left behind");
    let log = log_at(&case.dir.join("log")).await;
    let count = |topic: &str| {
        let log = Arc::clone(&log);
        let topic = topic.to_owned();
        async move {
            let info = log.topic(&topic).await.unwrap().unwrap();
            info.partitions.iter().map(|p| u64::try_from(p.end - p.earliest).unwrap()).sum::<u64>()
        }
    };
    assert_eq!(count("s.public.t").await, rows);
    assert_eq!(count("s.public.doc").await, values);
    for (n, record) in read_topic(&log, "s.public.doc").await.iter().enumerate() {
        let body = record.value.as_ref().unwrap()["after"]["body"].as_str().unwrap();
        assert_eq!(body.len(), 16 << 20, "document {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_transactions_and_values_under_a_ceiling() {
    under_the_ceiling(60_000, 3, Duration::from_secs(100)).await;
}

/// `cargo test --test it five_million -- --ignored`: minutes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn five_million_rows_and_200_mib_of_values_under_a_ceiling() {
    under_the_ceiling(5_000_000, 13, Duration::from_secs(1500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_log_does_not_take_is_named() {
    let server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    server.psql("shop", "CREATE TABLE doc (id int PRIMARY KEY, title text, body text)").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    let extra = [
        ("snapshot.mode", "no_data"),
        ("topic.creation.default.partitions", "-1"),
        ("topic.creation.default.replication.factor", "-1"),
        ("topic.creation.default.max.message.bytes", "1000000"),
    ];
    let config = config(&server, &extra);
    let env = Env::new(Arc::clone(&log), config.name());
    let handle = Connector::start(config, env).unwrap();
    caught_up(&handle).await;
    server
        .psql("shop", "INSERT INTO doc VALUES (1, 'small', 'x'); INSERT INTO doc VALUES (2, 't', repeat('secret', 300000))")
        .unwrap();
    let error =
        tokio::time::timeout(Duration::from_secs(20), handle.ended_by_itself()).await.unwrap().unwrap_err();
    assert_eq!(handle.status().phase, Phase::Failed);
    let screen = error.screen();
    for words in ["public.doc", "\"body\"", "1800000 bytes", "max.message.bytes", "s.public.doc"] {
        assert!(screen.contains(words), "{words} is missing in\n{screen}");
    }
    assert!(!screen.contains("secretsecret"), "{screen}");
    // Nothing of the batch is in the topic twice or half, and what came before is there.
    assert_eq!(read_topic(&log, "s.public.doc").await.len(), 1);
    handle.stop().await;
    // The same in a snapshot, whose end the log cannot be told of either.
    let more = "INSERT INTO doc SELECT g, 't', repeat('secret', 300000) FROM generate_series(3, 6) g";
    server.psql("shop", more).unwrap();
    let told = [
        ("snapshot.mode", "initial"),
        ("topic.prefix", "again"),
        ("slot.name", "again"),
        ("notification.enabled.channels", "sink"),
        ("notification.sink.topic.name", "told"),
    ];
    let config = crate::capture::config(&server, &[&extra[1..], &told[..]].concat());
    let handle = Connector::start(config, Env::new(Arc::clone(&log), "again")).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), handle.ended_by_itself()).await;
    let screen = ended.expect("it is not tried for ever").unwrap_err().screen();
    assert!(screen.contains("topic again.public.doc") && screen.contains("max.message.bytes"), "{screen}");
    // And in a snapshot that is asked for, which the stream cannot go on without.
    server
        .psql("shop", "CREATE TABLE signals (id varchar(64) PRIMARY KEY, type varchar(32), data text)")
        .unwrap();
    let asked =
        [("topic.prefix", "asked"), ("slot.name", "asked"), ("signal.data.collection", "public.signals")];
    let config = crate::capture::config(&server, &[&extra[..], &asked[..]].concat());
    let handle = Connector::start(config, Env::new(Arc::clone(&log), "asked")).unwrap();
    caught_up(&handle).await;
    let signal = r#"{"type": "blocking", "data-collections": ["public.doc"]}"#;
    server
        .psql("shop", &format!("INSERT INTO signals VALUES ('b', 'execute-snapshot', '{signal}')"))
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), handle.ended_by_itself()).await;
    let screen = ended.expect("it is not tried for ever").unwrap_err().screen();
    assert!(screen.contains("topic asked.public.doc") && screen.contains("max.message.bytes"), "{screen}");
}
