//! Kills capture at named points and at random times under load, restarts it, and compares source with what
//! the topics say, by content; no streamed event may be there twice for a read_committed reader.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::log::{Log, OpenOptions};
use serde_json::Value;

use crate::capture::read_topic;
use crate::support::kafka::broker;
use crate::support::millstream;

const SCHEMA: &str = "
    CREATE TABLE item (id int PRIMARY KEY, n int NOT NULL, note text);
    CREATE TABLE other (id bigserial PRIMARY KEY, item int, at timestamptz DEFAULT now());
    INSERT INTO item SELECT g, 0, repeat('x', 40) FROM generate_series(1, 2000) g;
    INSERT INTO other (item) SELECT g FROM generate_series(1, 200) g;";

/// One round of load: small transactions, several rows under one LSN, key changes, a large transaction, a
/// rollback, and two transactions that overlap.
fn round(n: u32) -> String {
    let base = 100_000 + n * 1000;
    let mut sql = String::new();
    for i in 0..15 {
        sql += &format!("UPDATE item SET n = n + 1 WHERE id = {};", 1 + (n * 15 + i) % 2000);
        sql += &format!("INSERT INTO other (item) VALUES ({i}), ({n});");
    }
    sql += &format!(
        "BEGIN; INSERT INTO item SELECT g, {n}, repeat('y', 100) FROM generate_series({base}, {base} + 159) g; \
         UPDATE item SET n = n + 7 WHERE id BETWEEN {base} AND {base} + 80; \
         UPDATE item SET id = id + 700 WHERE id BETWEEN {base} AND {base} + 5; COMMIT; \
         BEGIN; DELETE FROM item WHERE id BETWEEN {base} + 20 AND {base} + 40; ROLLBACK; \
         DELETE FROM item WHERE id BETWEEN {base} + 100 AND {base} + 599;"
    );
    sql
}

struct Case {
    server: Arc<TemporaryPostgres>,
    database: String,
    log_url: String,
    dir: tempfile::TempDir,
}

impl Case {
    fn new(server: &Arc<TemporaryPostgres>, database: &str, kafka: Option<&str>) -> Self {
        server.psql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
        server.psql(database, SCHEMA).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let log_url = match kafka {
            Some(url) => url.to_owned(),
            None => format!("file:{}", dir.path().join("log").display()),
        };
        let config = serde_json::json!({"name": format!("crash_{database}"), "config": {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "plugin.name": "pgoutput",
            "database.hostname": "127.0.0.1",
            "database.port": server.port().to_string(),
            "database.user": "postgres",
            "database.dbname": database,
            "topic.prefix": database,
            "slot.name": format!("slot_{database}"),
            "offsets.storage.topic": format!("offsets_{database}"),
            // Small batches: large transactions are cut in their middle.
            "max.queue.size.in.bytes": "65536",
            "key.converter.schemas.enable": "false",
            "value.converter.schemas.enable": "false",
        }});
        std::fs::write(dir.path().join("c.json"), config.to_string()).unwrap();
        Self { server: Arc::clone(server), database: database.to_owned(), log_url, dir }
    }

    fn spawn(&self, failpoints: &str, until_caught_up: bool) -> Child {
        let mut command = millstream();
        command.arg("--log").arg(&self.log_url).arg("capture").arg(self.dir.path().join("c.json"));
        if until_caught_up {
            command.arg("--until-caught-up");
        }
        let out =
            std::fs::File::options().create(true).append(true).open(self.dir.path().join("out.txt")).unwrap();
        command
            .env("MILLSTREAM_FAILPOINTS", failpoints)
            .stdout(Stdio::from(out.try_clone().unwrap()))
            .stderr(Stdio::from(out))
            .spawn()
            .unwrap()
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out.txt")).unwrap_or_default()
    }

    /// Runs until everything is in the log.
    fn finish(&self) {
        let mut child = self.spawn("", true);
        let deadline = Instant::now() + Duration::from_secs(60);
        let code = loop {
            if let Some(code) = child.try_wait().unwrap() {
                break code;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("not caught up in time:\n{}", self.output());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(code.success(), "{code}:\n{}", self.output());
    }

    fn load(&self, n: u32) {
        self.server.psql(&self.database, &round(n)).unwrap();
    }

    /// Compares, and gives the number of streamed events.
    async fn verify(&self) -> usize {
        let log = millstream::log::open(&self.log_url, &OpenOptions::default()).await.unwrap();
        if self.log_url.starts_with("kafka") {
            // The end that a read_committed reader sees moves a little after a commit returns.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        self.verify_table(&log, "item", "SELECT id, row_to_json(t) FROM (SELECT id, n, note FROM item) t")
            .await
            + self
                .verify_table(&log, "other", "SELECT id, row_to_json(t) FROM (SELECT id, item FROM other) t")
                .await
    }

    async fn verify_table(&self, log: &Arc<dyn Log>, table: &str, query: &str) -> usize {
        let records = read_topic(log, &format!("{}.public.{table}", self.database)).await;
        let mut state: BTreeMap<String, Value> = BTreeMap::new();
        let mut streamed: HashSet<String> = HashSet::new();
        let mut last_per_tx: HashMap<u64, u64> = HashMap::new();
        for record in &records {
            let id = record.key.as_ref().unwrap()["id"].to_string();
            let Some(value) = &record.value else { continue };
            let op = value["op"].as_str().unwrap();
            let source = &value["source"];
            if op != "r" {
                let identity = format!("{} {} {op} {id}", source["txId"], source["lsn"]);
                assert!(
                    streamed.insert(identity.clone()),
                    "{table}: streamed twice: {identity}\n{}",
                    self.output()
                );
                let (tx, lsn) = (source["txId"].as_u64().unwrap(), source["lsn"].as_u64().unwrap());
                let last = last_per_tx.insert(tx, lsn).unwrap_or(0);
                assert!(last <= lsn, "{table}: out of order within transaction {tx}");
            }
            match op {
                "d" => state.remove(&id),
                _ => {
                    let mut row = value["after"].clone();
                    if let Some(row) = row.as_object_mut() {
                        row.remove("at");
                    }
                    state.insert(id, row)
                }
            };
        }
        let rows = self.server.psql(&self.database, query).unwrap();
        let source: BTreeMap<String, Value> = rows
            .lines()
            .map(|l| l.split_once('|').unwrap())
            .map(|(id, row)| (id.to_owned(), serde_json::from_str(row).unwrap()))
            .collect();
        assert_eq!(state.len(), source.len(), "{table}: number of rows\n{}", self.output());
        for (id, row) in &source {
            assert_eq!(state.get(id), Some(row), "{table}: row {id}\n{}", self.output());
        }
        streamed.len()
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let slot = format!("slot_{}", self.database);
        let sql = format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active; \
             SELECT pg_sleep(0.1); \
             SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}'"
        );
        let _ = self.server.psql("postgres", &sql);
    }
}

/// Topics of earlier runs may still be on a broker that is not ours.
fn tag() -> String {
    format!("{:08x}", rand::random::<u32>())
}

fn server() -> Arc<TemporaryPostgres> {
    let settings = vec!["max_replication_slots = 30".to_owned(), "max_wal_senders = 30".to_owned()];
    Arc::new(TemporaryPostgres::start(&PostgresOptions { settings, ..PostgresOptions::default() }).unwrap())
}

/// Every failpoint of capture, and the hit at which it kills.
const POINTS: [(&str, u32); 11] = [
    ("capture.slot_created", 1),
    ("capture.snapshot_begun", 1),
    ("capture.snapshot_batch", 3),
    ("capture.snapshot_done", 1),
    ("capture.before_commit", 2),
    ("capture.before_commit", 140),
    ("capture.after_commit", 1),
    ("capture.after_commit", 161),
    ("capture.before_feedback", 3),
    ("capture.mid_transaction", 1),
    ("capture.mid_transaction", 9),
];

async fn killed_at_every_point(kafka: Option<&str>) {
    let server = server();
    for (n, (point, hit)) in POINTS.iter().enumerate() {
        let case = Case::new(&server, &format!("p{n}_{}", tag()), kafka);
        let mut child = case.spawn(&format!("{point}=abort@{hit}"), false);
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut rounds = 0;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{point}@{hit} was not reached:\n{}", case.output());
            }
            case.load(rounds);
            rounds += 1;
        }
        case.load(rounds);
        case.finish();
        let events = case.verify().await;
        println!(
            "killed at {point}@{hit}: {rounds} rounds of load, {events} streamed events, target = source"
        );
    }
}

async fn killed_at_random(kafka: Option<&str>) {
    let server = server();
    let case = Arc::new(Case::new(&server, &format!("random_{}", tag()), kafka));
    let done = Arc::new(AtomicBool::new(false));
    let load = std::thread::spawn({
        let (case, done) = (Arc::clone(&case), Arc::clone(&done));
        move || {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                case.load(n % 500);
                std::thread::sleep(Duration::from_millis(100));
                // The same keys again: gone in between.
                if n % 500 == 499 {
                    case.server.psql(&case.database, "DELETE FROM item WHERE id > 2000").unwrap();
                }
                n += 1;
            }
            n
        }
    });
    for kill in 0..12 {
        let mut child = case.spawn("", false);
        // A Kafka producer takes longer to begin.
        let (least, more) = if kafka.is_some() { (600, 2000) } else { (250, 1200) };
        let pause = least + rand::random::<u64>() % more;
        std::thread::sleep(Duration::from_millis(pause));
        assert!(child.try_wait().unwrap().is_none(), "kill {kill}: ended by itself:\n{}", case.output());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let rounds = load.join().unwrap();
    case.finish();
    let events = case.verify().await;
    println!("killed 12 times at random: {rounds} rounds of load, {events} streamed events, target = source");
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_killed_at_every_point() {
    killed_at_every_point(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_killed_at_random() {
    killed_at_random(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_killed_at_every_point() {
    if let Some(url) = broker() {
        killed_at_every_point(Some(&url)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_killed_at_random() {
    if let Some(url) = broker() {
        killed_at_random(Some(&url)).await;
    }
}
