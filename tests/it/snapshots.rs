//! Snapshots that are killed and go on, signals that outlive a kill, and tables that are added later.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::log::{Batch, Log, OpenOptions, TopicSpec};
use serde_json::{Value, json};

use crate::capture::{Seen, read_topic};
use crate::support::http;
use crate::support::kafka::broker;
use crate::support::millstream;

/// A database, and the program beside it.
pub(crate) struct Place {
    pub(crate) server: TemporaryPostgres,
    pub(crate) dir: tempfile::TempDir,
    /// Topics' prefix, slot, database.
    pub(crate) name: String,
    log_url: String,
}

/// Killed when it goes out of scope.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something is so.
pub(crate) fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(40);
    while !is() {
        assert!(Instant::now() < deadline, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(30));
    }
}

impl Place {
    pub(crate) fn new(sql: &str, log_url: Option<String>) -> Self {
        let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
        let name = format!("s{:08x}", rand::random::<u32>());
        server.psql("postgres", &format!("CREATE DATABASE {name}")).unwrap();
        server.psql(&name, sql).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let log_url = log_url.unwrap_or_else(|| format!("file:{}", dir.path().join("log").display()));
        Self { server, dir, name, log_url }
    }

    fn config(&self, extra: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut map: BTreeMap<String, String> = [
            ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
            ("plugin.name", "pgoutput"),
            ("database.hostname", "127.0.0.1"),
            ("database.port", &self.server.port().to_string()),
            ("database.user", "postgres"),
            ("database.dbname", &self.name),
            ("topic.prefix", &self.name),
            ("slot.name", &self.name),
            ("offsets.storage.topic", &format!("offsets_{}", self.name)),
            ("key.converter.schemas.enable", "false"),
            ("value.converter.schemas.enable", "false"),
            ("signal.poll.interval.ms", "50"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        map.extend(extra.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        map
    }

    /// `millstream capture` with these properties.
    pub(crate) fn capture(&self, extra: &[(&str, &str)], failpoints: &str, until_caught_up: bool) -> Running {
        let file = self.dir.path().join("c.json");
        let config = json!({ "name": self.name, "config": self.config(extra) });
        std::fs::write(&file, config.to_string()).unwrap();
        let mut args = vec!["capture", file.to_str().unwrap()];
        if until_caught_up {
            args.push("--until-caught-up");
        }
        self.spawn(&args, failpoints)
    }

    fn spawn(&self, args: &[&str], failpoints: &str) -> Running {
        let mut command = millstream();
        command.arg("--log").arg(&self.log_url).arg("--data").arg(self.dir.path().join("data")).args(args);
        command.env("MILLSTREAM_FAILPOINTS", failpoints);
        let out = std::fs::File::options().create(true).append(true).open(self.dir.path().join("out.txt"));
        let out = out.unwrap();
        Running(
            command
                .stdout(Stdio::from(out.try_clone().unwrap()))
                .stderr(Stdio::from(out))
                .current_dir(self.dir.path())
                .spawn()
                .unwrap(),
        )
    }

    /// Runs it until it streams: before that, whoever looks into the log may hold it.
    pub(crate) fn streaming(&self, extra: &[(&str, &str)]) -> Running {
        let before = self.output().matches(" STREAMING: ").count();
        let running = self.capture(extra, "", false);
        wait("streaming", || self.output().matches(" STREAMING: ").count() > before);
        running
    }

    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out.txt")).unwrap_or_default()
    }

    /// Runs it until it kills itself at a failpoint.
    fn killed(&self, extra: &[(&str, &str)], failpoint: &str) {
        let mut child = self.capture(extra, failpoint, false);
        wait(failpoint, || child.0.try_wait().unwrap().is_some());
    }

    /// Runs it until everything is in the log.
    pub(crate) fn finish(&self, extra: &[(&str, &str)]) {
        let mut child = self.capture(extra, "", true);
        wait("caught up", || child.0.try_wait().unwrap().is_some());
        assert!(child.0.wait().unwrap().success(), "{}", self.output());
    }

    async fn read(&self, table: &str) -> Vec<Seen> {
        let log = millstream::log::open(&self.log_url, &OpenOptions::default()).await.unwrap();
        read_topic(&log, &format!("{}.public.{table}", self.name)).await
    }

    /// The same while the program holds the log.
    pub(crate) fn beside(&self, table: &str) -> Vec<Value> {
        let topic = format!("{}.public.{table}", self.name);
        let mut command = millstream();
        command.arg("--log").arg(&self.log_url).arg("--data").arg(self.dir.path().join("data"));
        let read = command.args(["topics", "read", &topic, "--jsonl"]).output().unwrap();
        // The topic is not there before its first record.
        let values = String::from_utf8(read.stdout).unwrap();
        values
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .map(|record| serde_json::from_str(record["value"].as_str().unwrap_or("null")).unwrap())
            .collect()
    }
}

fn after(seen: &Seen) -> &Value {
    &seen.value.as_ref().unwrap()["after"]
}

/// A table without a key is read again from its start, and that is said; one with a key goes on, also where a
/// statement of the user reads it, and then no row comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_on_and_what_starts_again() {
    let place = Place::new(
        "CREATE TABLE keyed (id int PRIMARY KEY, v text, n int);
         INSERT INTO keyed SELECT g, repeat('k', 60), g % 10 FROM generate_series(1, 4000) g;
         ALTER TABLE keyed ALTER v SET STORAGE PLAIN;
         CREATE TABLE nokey (id int, v text);
         INSERT INTO nokey SELECT g, repeat('n', 60) FROM generate_series(1, 3000) g; ANALYZE",
        None,
    );
    let extra = [
        ("max.queue.size.in.bytes", "65536"),
        ("snapshot.select.statement.overrides", "public.keyed"),
        (
            "snapshot.select.statement.overrides.public.keyed",
            "SELECT v, n + 100 AS n, id FROM keyed WHERE n > 4;",
        ),
    ];
    for failpoint in ["capture.snapshot_flushed=abort@8", "capture.snapshot_flushed=abort@5"] {
        place.killed(&extra, failpoint);
    }
    // Seen by the snapshots to come; the statement shows only one of them.
    place.server.psql(&place.name, "INSERT INTO keyed VALUES (5000, 'x', 1), (5001, 'x', 9)").unwrap();
    let half = place.read("keyed").await.len();
    assert!((100..2000).contains(&half), "killed in the table with a key: {half} rows");
    // Killed in the other table.
    place.killed(&extra, "capture.snapshot_row=abort@4000");
    let begun = place.read("nokey").await.len();
    assert!((100..3000).contains(&begun), "killed in the table without a key: {begun} rows");
    place.finish(&extra);

    let (keyed, streamed): (Vec<Seen>, Vec<Seen>) =
        place.read("keyed").await.into_iter().partition(|r| r.value.as_ref().unwrap()["op"] == "r");
    let ids = |rows: &[Seen]| -> Vec<i64> { rows.iter().map(|r| after(r)["id"].as_i64().unwrap()).collect() };
    let mut wanted: Vec<i64> = (1..=4000).filter(|g| g % 10 > 4).collect();
    wanted.push(5001);
    assert_eq!(ids(&keyed), wanted, "each row once, in the order of the key");
    assert!(keyed.iter().all(|r| after(r)["n"].as_i64().unwrap() > 104));
    assert_eq!(ids(&streamed), [5000, 5001], "what the statement leaves out is in the stream");
    let nokey = place.read("nokey").await;
    let ids = ids(&nokey);
    assert_eq!(ids.len(), begun + 3000);
    assert_eq!(ids[begun..], (1..=3000).collect::<Vec<i64>>());
    let said = "read again from its start: it has no unique not-null key";
    let output = place.output();
    assert!(output.lines().any(|l| l.contains("public.nokey") && l.contains(said)), "{output}");
    assert!(!output.lines().any(|l| l.contains("public.keyed") && l.contains("from its start")), "{output}");
}

/// Killed after a commit or while a chunk is read, with one more signal while a chunk waits: each chunk is sent once.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_outlive_a_kill() {
    let place = Place::new(
        "CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item SELECT generate_series(1, 6);
         CREATE TABLE more (id int PRIMARY KEY); INSERT INTO more VALUES (1), (2);
         CREATE TABLE signals (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data text)",
        None,
    );
    let extra = [
        ("snapshot.mode", "no_data"),
        ("signal.data.collection", "public.signals"),
        ("incremental.snapshot.chunk.size", "1"),
    ];
    place.finish(&extra);
    let kills = [
        "capture.after_commit=abort@1",
        "capture.incremental_chunk=abort@2",
        "capture.incremental_chunk=abort@4",
        "capture.incremental_chunk=abort@7",
    ];
    for (round, failpoint) in (1..).zip(kills) {
        let signal = |table: &str| {
            format!(
                "INSERT INTO signals VALUES ('{table}{round}', 'execute-snapshot', \
                 '{{\"data-collections\": [\"public.{table}\"]}}');"
            )
        };
        let sql = format!("BEGIN; {} {} COMMIT", signal("item"), signal("more"));
        place.server.psql(&place.name, &sql).unwrap();
        place.killed(&extra, failpoint);
        let running = place.streaming(&extra);
        wait("the second table", || place.beside("more").len() >= 2 * round);
        drop(running);
        let mut ids: Vec<i64> =
            place.read("item").await.iter().map(|r| after(r)["id"].as_i64().unwrap()).collect();
        ids.sort_unstable();
        let wanted: Vec<i64> = (1..=6).flat_map(|id| std::iter::repeat_n(id, round)).collect();
        assert_eq!(ids, wanted, "round {round}\n{}", place.output());
    }
}

/// A signal of a file that was read, but not obeyed before the kill, is obeyed after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_of_a_file_outlives_a_kill() {
    let place = Place::new("CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (1), (2)", None);
    let file = place.dir.path().join("signals.json");
    let extra = [
        ("snapshot.mode", "no_data"),
        ("read.only", "true"),
        ("signal.enabled.channels", "file"),
        ("signal.file", file.to_str().unwrap()),
    ];
    let text = r#"{"id": "f", "type": "execute-snapshot", "data": {"data-collections": ["public.item"]}}"#;
    let write = |path: &Path| std::fs::write(path, format!("{text}\n")).unwrap();
    place.finish(&extra);
    write(&file);
    place.killed(&extra, "capture.signal_obeyed=abort@1");
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), text, "it is still there");
    let running = place.streaming(&extra);
    wait("the rows", || place.beside("item").len() >= 2);
    wait("the empty file", || std::fs::read(&file).unwrap().is_empty());
    drop(running);
    let rows: Vec<i64> = place.read("item").await.iter().map(|r| after(r)["id"].as_i64().unwrap()).collect();
    assert!(rows.starts_with(&[1, 2]), "{rows:?}");
}

/// Rows that were read ahead of the stream are of WAL that a standby may not have received: the offset says so, also
/// where the connector is killed before the stream goes on.
#[tokio::test(flavor = "multi_thread")]
async fn rows_ahead_of_the_stream_count_as_content() {
    let place = Place::new(
        "CREATE TABLE item (id int PRIMARY KEY, v text); INSERT INTO item SELECT g, repeat('x', 60) FROM generate_series(1, 3000) g;
         ALTER TABLE item ALTER v SET STORAGE PLAIN; CREATE TABLE noise (v text)",
        None,
    );
    let file = place.dir.path().join("signals.json");
    let extra = [
        ("max.queue.size.in.bytes", "65536"),
        ("table.include.list", "public.item"),
        ("publication.autocreate.mode", "filtered"),
        ("signal.enabled.channels", "file"),
        ("signal.file", file.to_str().unwrap()),
        ("read.only", "true"),
    ];
    let content = async || -> millstream::pg::Lsn {
        let log = millstream::log::open(&place.log_url, &OpenOptions::default()).await.unwrap();
        let topic = format!("offsets_{}", place.name);
        let all = millstream::capture::offsets::read_all(&log, &topic, &place.name).await.unwrap();
        let lsn = &all[0].1["millstream.content_lsn"];
        millstream::pg::Lsn(lsn.as_u64().unwrap())
    };
    let written = || -> millstream::pg::Lsn {
        place.server.psql(&place.name, "INSERT INTO noise VALUES ('n')").unwrap();
        place.server.psql(&place.name, "SELECT pg_current_wal_lsn()").unwrap().trim().parse().unwrap()
    };
    place.killed(&extra, "capture.snapshot_row=abort@2000");
    let before = written();
    assert!(content().await < before);
    place.killed(&extra, "capture.snapshot_done=abort@1");
    assert!(content().await >= before, "of a snapshot that goes on");

    for kind in ["blocking", "incremental"] {
        place.finish(&extra);
        let before = written();
        assert!(content().await < before);
        let signal = json!({
            "id": kind, "type": "execute-snapshot", "data": {"data-collections": ["public.item"], "type": kind}
        });
        std::fs::write(&file, format!("{signal}\n")).unwrap();
        let rows = place.read("item").await.len();
        let running = place.streaming(&extra);
        wait("the rows", || place.beside("item").len() == rows + 3000);
        wait("the end", || std::fs::read(&file).unwrap().is_empty());
        drop(running);
        assert!(content().await >= before, "of one that is {kind}");
    }
}

/// Signals from a topic of a real broker: each is obeyed once, also over a restart, those for others not at all.
#[tokio::test(flavor = "multi_thread")]
async fn signals_from_a_topic_of_kafka() {
    let Some(url) = broker() else { return };
    let sql = "CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (1), (2)";
    let place = Place::new(sql, Some(url.clone()));
    let topic = format!("{}-orders", place.name);
    let servers = url.strip_prefix("kafka://").unwrap().to_owned();
    let extra = [
        ("snapshot.mode", "no_data"),
        ("read.only", "true"),
        ("signal.enabled.channels", "kafka"),
        ("signal.kafka.topic", topic.as_str()),
        ("signal.kafka.bootstrap.servers", servers.as_str()),
        ("signal.consumer.security.protocol", "PLAINTEXT"),
    ];
    let log = millstream::log::open(&url, &OpenOptions::default()).await.unwrap();
    let spec =
        TopicSpec { name: topic.clone(), partitions: Some(1), replication: None, configs: BTreeMap::new() };
    log.create_topic(&spec).await.unwrap();
    let mut writer = log.writer(&format!("{}-signaller", place.name)).await.unwrap();
    let mut send = async |key: &str, text: &str| {
        let mut batch = Batch::new();
        let topic = batch.topic(&topic);
        let mut record = batch.record(topic);
        record.key(|out| out.extend_from_slice(key.as_bytes()));
        record.value(|out| out.extend_from_slice(text.as_bytes()));
        record.finish();
        writer.commit(batch).await.unwrap();
    };
    let order = r#"{"id": "k", "type": "execute-snapshot", "data": {"data-collections": ["public.item"]}}"#;
    let log: Arc<dyn Log> = Arc::clone(&log);
    let table = format!("{}.public.item", place.name);
    let count = async |wanted: usize| {
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            let seen = read_topic(&log, &table).await;
            if seen.len() >= wanted {
                break seen.len();
            }
            assert!(Instant::now() < deadline, "{} of {wanted}\n{}", seen.len(), place.output());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let running = place.capture(&extra, "", false);
    send("somebody else", order).await;
    send(&place.name, "no signal").await;
    send(&place.name, order).await;
    assert_eq!(count(2).await, 2);
    drop(running);
    send(&place.name, order).await;
    let _running = place.capture(&extra, "", false);
    assert_eq!(count(4).await, 4);
    place.server.psql(&place.name, "INSERT INTO item VALUES (3)").unwrap();
    assert_eq!(count(5).await, 5, "no signal is obeyed twice");
}

/// `PUT` of a configuration with one more table, then a signal: the table's changes come from the moment of the
/// restart on, what it held before by the incremental snapshot; the other table's stream has no gap.
#[test]
fn a_table_is_added_to_a_running_connector() {
    let place = Place::new(
        "CREATE TABLE first (id int PRIMARY KEY); INSERT INTO first VALUES (1);
         CREATE TABLE added (id int PRIMARY KEY); INSERT INTO added SELECT generate_series(1, 50);
         CREATE TABLE signals (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data text)",
        None,
    );
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = place.dir.path().join("millstream.toml");
    std::fs::write(
        &file,
        format!("connectors = []\npipelines = []\n[server]\nbind = \"127.0.0.1:{port}\"\n"),
    )
    .unwrap();
    let _running = place.spawn(&["run", "-c", file.to_str().unwrap()], "");
    let put = |tables: &str| {
        let config = place.config(&[
            ("publication.autocreate.mode", "filtered"),
            ("table.include.list", tables),
            ("signal.data.collection", "public.signals"),
        ]);
        let body = serde_json::to_vec(&config).unwrap();
        let headers = [("Content-Type".to_owned(), "application/json".to_owned())];
        http::request(port, "PUT", "/connectors/c/config", &headers, Some(&body)).map(|a| a.status)
    };
    wait("the service", || matches!(put("public.first"), Ok(200 | 201)));
    let count = |table: &str| place.beside(table).len();
    wait("the first table", || count("first") == 1);
    let (written, stop) = (AtomicUsize::new(1), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // The other table's stream goes on all the while.
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let next = written.load(Ordering::Relaxed) + 1;
                place.server.psql(&place.name, &format!("INSERT INTO first VALUES ({next})")).unwrap();
                written.store(next, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let _ends = Ends(&stop);
        assert_eq!(put("public.first,public.added").unwrap(), 200);
        let tables = "SELECT count(*) FROM pg_publication_tables WHERE tablename = 'added'";
        wait("the publication", || place.server.psql(&place.name, tables).unwrap().trim() == "1");
        place.server.psql(&place.name, "INSERT INTO added VALUES (51)").unwrap();
        wait("changes of the added table", || count("added") == 1);
        let signal = "INSERT INTO signals VALUES ('a', 'execute-snapshot', '{\"data-collections\": [\"public.added\"]}')";
        place.server.psql(&place.name, signal).unwrap();
        wait("what the added table held", || count("added") == 52);
    });
    let written = written.into_inner();
    wait("all of the first table", || count("first") >= written);
    let ids = |table: &str| -> Vec<i64> {
        place.beside(table).iter().filter_map(|r| r["after"]["id"].as_i64()).collect()
    };
    assert_eq!(ids("first"), (1..=i64::try_from(written).unwrap()).collect::<Vec<_>>(), "{}", place.output());
    assert_eq!(ids("added").into_iter().collect::<std::collections::BTreeSet<_>>(), (1..=51).collect());
}

/// Sets it when the scope ends, however it ends.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
