//! Kills capture at named steps and at random times under load, restarts it, and compares source with what the
//! topics say: by content, and row by row as a story that must make sense. No row is created twice, changed or
//! deleted while it is not there, and no streamed event comes twice, for a read_committed reader.
//!
//! Everything random comes from a seed, which is printed. `chaos` runs seeded rounds (`MILLSTREAM_CHAOS_ROUNDS`, 200
//! unless told) for at most `MILLSTREAM_CHAOS` seconds, 540 unless told; `MILLSTREAM_SEED=N` repeats one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream::demo::postgres::TemporaryPostgres;
use millstream::log::{Log, OpenOptions};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::capture::read_topic;
use crate::support::kafka::broker;
use crate::support::millstream;
use crate::support::postgres::{drop_slot, with_many_slots};

/// Keys of several types: integers are compared by capture itself, texts by the server.
const SCHEMA: &str = "
    CREATE TABLE item (id int PRIMARY KEY, n int NOT NULL, note text);
    CREATE TABLE named (a text COLLATE \"C\", b int, n int NOT NULL, PRIMARY KEY (a, b));
    CREATE TABLE other (id bigserial PRIMARY KEY, item int);
    INSERT INTO item SELECT g, 0, repeat('x', 500) FROM generate_series(1, 600) g;
    INSERT INTO named SELECT 'n' || g % 90, g, 0 FROM generate_series(1, 300) g;
    INSERT INTO other (item) SELECT g FROM generate_series(1, 60) g;
    ANALYZE;";

/// What is compared: table and its key.
const TABLES: [(&str, &str); 3] = [("item", "id"), ("named", "a || ',' || b"), ("other", "id")];

/// One round of load: small transactions, several rows under one LSN, key changes, a large transaction, a
/// rollback, deletes of rows a snapshot has read and of such as it has not.
fn round(n: u32) -> String {
    let base = 100_000 + n * 1000;
    let mut sql = String::new();
    for i in 0..6 {
        sql += &format!("UPDATE item SET n = n + 1 WHERE id = {};", 1 + (n * 61 + i * 83) % 600);
        sql += &format!("INSERT INTO other (item) VALUES ({i}), ({n});");
        sql += &format!("UPDATE named SET n = n + 1 WHERE b = {};", 1 + (n * 37 + i * 41) % 300);
    }
    sql += &format!(
        "BEGIN; INSERT INTO item SELECT g, {n}, repeat('y', 100) FROM generate_series({base}, {base} + 99) g; \
         UPDATE item SET n = n + 7 WHERE id BETWEEN {base} AND {base} + 50; \
         UPDATE item SET id = id + 700 WHERE id BETWEEN {base} AND {base} + 5; COMMIT; \
         BEGIN; DELETE FROM item WHERE id BETWEEN {base} + 10 AND {base} + 20; ROLLBACK; \
         DELETE FROM item WHERE id BETWEEN {base} + 60 AND {base} + 99; \
         UPDATE item SET id = 50000 - id WHERE id IN ({0}, {0} + 300, 50000 - {0}); \
         UPDATE named SET a = 'z' || a WHERE b = {0}; \
         DELETE FROM named WHERE b = {0} + 150; INSERT INTO named VALUES ('m{0}', {0} + 1000 + {n}, {n}) ON CONFLICT DO NOTHING; \
         DELETE FROM other WHERE id % 50 = {n} % 50 AND id < {n} * 10;",
        1 + n % 150
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
    fn new(server: &Arc<TemporaryPostgres>, kafka: Option<&str>, threads: usize) -> Self {
        // Topics of earlier runs may still be on a broker that is not ours.
        let database = format!("c{:08x}", rand::random::<u32>());
        server.psql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
        server.psql(&database, SCHEMA).unwrap();
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
            "snapshot.max.threads": threads.to_string(),
            // Small batches: tables and large transactions are cut in their middle.
            "max.queue.size.in.bytes": "65536",
            "key.converter.schemas.enable": "false",
            "value.converter.schemas.enable": "false",
        }});
        std::fs::write(dir.path().join("c.json"), config.to_string()).unwrap();
        Self { server: Arc::clone(server), database, log_url, dir }
    }

    fn spawn(&self, failpoints: &str, until_caught_up: bool) -> Child {
        let mut command = millstream();
        command.arg("--log").arg(&self.log_url).arg("--data").arg(self.dir.path().join("data"));
        command.arg("capture").arg(self.dir.path().join("c.json"));
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

    /// Runs until it is killed at `NAME[@HIT]`.
    fn killed(&self, point: &str) {
        let (name, hit) = point.split_once('@').unwrap_or((point, "1"));
        // With `+slow` the log takes its time.
        let (name, slow) = match name.strip_suffix("+slow") {
            Some(name) => (name, ";capture.before_commit=slow"),
            None => (name, ""),
        };
        let mut child = self.spawn(&format!("{name}=abort@{hit}{slow}"), false);
        let deadline = Instant::now() + Duration::from_secs(60);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{point} was not reached:\n{}", self.output());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
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
        self.server.psql(&self.database, &round(n % 800)).unwrap();
        if n % 800 == 799 {
            // The same keys again: gone in between.
            self.server.psql(&self.database, "DELETE FROM item WHERE id > 2000").unwrap();
        }
    }

    /// Load in the background until `done`; gives the number of rounds.
    fn load_until(self: &Arc<Self>, done: &Arc<AtomicBool>, first: u32) -> std::thread::JoinHandle<u32> {
        let (case, done) = (Arc::clone(self), Arc::clone(done));
        std::thread::spawn(move || {
            let mut n = first;
            while !done.load(Ordering::Relaxed) {
                case.load(n);
                n += 1;
                std::thread::sleep(Duration::from_millis(30));
            }
            n - first
        })
    }

    /// Compares, and gives the number of streamed events.
    async fn verify(&self) -> usize {
        let log = millstream::log::open(&self.log_url, &OpenOptions::default()).await.unwrap();
        if self.log_url.starts_with("kafka") {
            // The end that a read_committed reader sees moves a little after a commit returns.
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let mut streamed = 0;
        for (table, key) in TABLES {
            let output = || self.output();
            streamed += verify_table(&self.server, &self.database, &log, (table, key), output).await;
        }
        streamed
    }
}

/// Compares a topic with its source table: every streamed event once and in the order of its transaction, each one
/// fitting what was before, and the last of every key what the table holds. Gives the number of streamed events.
pub(crate) async fn verify_table(
    server: &TemporaryPostgres,
    database: &str,
    log: &Arc<dyn Log>,
    (table, key): (&str, &str),
    output: impl Fn() -> String,
) -> usize {
    let records = read_topic(log, &format!("{}.public.{table}", database)).await;
    let mut state: BTreeMap<String, Value> = BTreeMap::new();
    let mut streamed: HashSet<String> = HashSet::new();
    let mut last_per_tx: HashMap<u64, u64> = HashMap::new();
    for record in &records {
        let id = record.key.as_ref().unwrap().to_string();
        let Some(value) = &record.value else { continue };
        let op = value["op"].as_str().unwrap();
        let source = &value["source"];
        if op != "r" {
            let identity = format!("{} {} {op} {id}", source["txId"], source["lsn"]);
            assert!(streamed.insert(identity.clone()), "{table}: streamed twice: {identity}\n{}", output());
            let (tx, lsn) = (source["txId"].as_u64().unwrap(), source["lsn"].as_u64().unwrap());
            let last = last_per_tx.insert(tx, lsn).unwrap_or(0);
            assert!(last <= lsn, "{table}: out of order within transaction {tx}");
        }
        let before = match op {
            "d" => state.remove(&id),
            _ => state.insert(id.clone(), value["after"].clone()),
        };
        let fits = before.is_some() == matches!(op, "u" | "d");
        assert!(fits, "{table}: {op} of {id}, before: {before:?}, event: {value}\n{}", output());
        if let (Some(before), "u") = (before, op) {
            // Every update of the load counts, where there is a column for it.
            let (was, is) = (before["n"].as_i64(), value["after"]["n"].as_i64());
            assert!(was < is || is.is_none(), "{table}: {id} goes back: {value}");
        }
    }
    let query = format!("SELECT {key}, row_to_json(t) FROM {table} t");
    let rows = server.psql(database, &query).unwrap();
    let mut source: BTreeMap<String, Value> = BTreeMap::new();
    for line in rows.lines() {
        let (id, row) = line.split_once('|').unwrap();
        let key = match table {
            "named" => {
                let (a, b) = id.split_once(',').unwrap();
                serde_json::json!({"a": a, "b": b.parse::<i64>().unwrap()})
            }
            _ => serde_json::json!({"id": id.parse::<i64>().unwrap()}),
        };
        source.insert(key.to_string(), serde_json::from_str(row).unwrap());
    }
    for (id, row) in &source {
        assert_eq!(state.get(id), Some(row), "{table}: row {id}\n{}", output());
    }
    assert_eq!(state.len(), source.len(), "{table}: number of rows\n{}", output());
    streamed.len()
}

impl Drop for Case {
    fn drop(&mut self) {
        drop_slot(&self.server, &format!("slot_{}", self.database));
    }
}

/// The steps of a connector's life, the hits at which they kill, and the connections that read the snapshot. Several
/// in a row: killed, restarted, killed again.
const STEPS: &[(&[&str], usize)] = &[
    (&["capture.publication"], 1),
    (&["capture.slot_created"], 1),
    (&["capture.slot_created", "capture.slot_created"], 1),
    (&["capture.snapshot_begun"], 1),
    (&["capture.snapshot_row@1"], 1),
    (&["capture.snapshot_row@500", "capture.snapshot_row@50"], 1),
    (&["capture.snapshot_batch@1"], 1),
    (&["capture.snapshot_batch@4", "capture.snapshot_flushed@2", "capture.reconcile@100"], 1),
    (&["capture.snapshot_flushed@2", "capture.snapshot_table@1", "capture.reconciled"], 1),
    (&["capture.snapshot_batch@3", "capture.snapshot_batch@2", "capture.snapshot_completing"], 4),
    (&["capture.snapshot_flushed@6", "capture.reconcile@10"], 4),
    (&["capture.snapshot_row@300", "capture.snapshot_flushed@9", "capture.reconcile@40"], 4),
    (&["capture.snapshot_table@1", "capture.snapshot_begun", "capture.snapshot_completing"], 4),
    (&["capture.snapshot_table@2", "capture.snapshot_row@1"], 1),
    (&["capture.snapshot_completing"], 1),
    (&["capture.snapshot_done", "capture.stream_starting"], 1),
    (&["capture.stream_started"], 1),
    (&["capture.relation@2"], 1),
    (&["capture.mid_transaction@1"], 1),
    (&["capture.mid_transaction@5", "capture.mid_transaction@1"], 1),
    (&["capture.commit@20"], 1),
    (&["capture.hand_over@2"], 1),
    (&["capture.before_commit@2", "capture.after_commit@2"], 1),
    (&["capture.before_commit@30"], 1),
    (&["capture.after_commit@1"], 1),
    (&["capture.after_commit@35"], 1),
    (&["capture.before_feedback@3"], 1),
    (&["capture.after_feedback@3", "capture.after_feedback@1"], 1),
];

async fn killed_at(server: &Arc<TemporaryPostgres>, kafka: Option<&str>, points: &[&str], threads: usize) {
    let case = Arc::new(Case::new(server, kafka, threads));
    let done = Arc::new(AtomicBool::new(false));
    let load = case.load_until(&done, 0);
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        points.iter().for_each(|point| case.killed(point));
    }));
    done.store(true, Ordering::Relaxed);
    killed.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let rounds = load.join().unwrap();
    case.finish();
    let events = case.verify().await;
    let points = points.join(", ");
    println!(
        "killed at {points} ({threads} readers): {rounds} rounds of load, {events} streamed, target = source"
    );
}

/// Kills after random pauses.
async fn killed_at_random(server: &Arc<TemporaryPostgres>, kafka: Option<&str>, kills: usize, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let threads = random.random_range(1..=4);
    println!("seed {seed}: {kills} kills, {threads} readers");
    let case = Arc::new(Case::new(server, kafka, threads));
    let done = Arc::new(AtomicBool::new(false));
    let load = case.load_until(&done, random.random_range(0..800));
    for kill in 0..kills {
        let mut child = case.spawn("", false);
        // A Kafka producer takes longer to begin.
        let least = if kafka.is_some() { 300 } else { 60 };
        std::thread::sleep(Duration::from_millis(least + random.random_range(0..700)));
        let ended = child.try_wait().unwrap();
        if ended.is_some() {
            done.store(true, Ordering::Relaxed);
            panic!("kill {kill}: ended by itself:\n{}", case.output());
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let rounds = load.join().unwrap();
    case.finish();
    let events = case.verify().await;
    println!("seed {seed}: {rounds} rounds of load, {events} streamed, target = source");
}

fn seed() -> u64 {
    std::env::var("MILLSTREAM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random)
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_killed_at_every_step() {
    let server = with_many_slots();
    for (points, threads) in STEPS {
        killed_at(&server, None, points, *threads).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_killed_at_every_third_step() {
    let Some(url) = broker() else { return };
    let server = with_many_slots();
    for (points, threads) in STEPS.iter().skip(1).step_by(3) {
        killed_at(&server, Some(&url), points, *threads).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_killed_at_random() {
    killed_at_random(&with_many_slots(), None, 12, seed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_killed_at_random() {
    if let Some(url) = broker() {
        killed_at_random(&with_many_slots(), Some(&url), 10, seed()).await;
    }
}

/// A server that always has more to send keeps no confirmation waiting: its WAL would grow for as long.
#[tokio::test]
async fn a_backlog_is_confirmed_while_it_is_read() {
    let case = Case::new(&with_many_slots(), None, 1);
    case.finish();
    // In the log and not confirmed: the next stream has to show it before anything is.
    case.load(0);
    case.killed("capture.before_feedback");
    for _ in 0..20 {
        case.server.psql(&case.database, "UPDATE item SET n = n + 1").unwrap();
    }
    let all = 20 * 600;
    case.killed("capture.after_feedback+slow");
    let log = millstream::log::open(&case.log_url, &OpenOptions::default()).await.unwrap();
    let read = read_topic(&log, &format!("{}.public.item", case.database)).await.len();
    assert!(read < all / 2, "nothing was confirmed before {read} of {all} changes were in the log");
}

async fn chaos_round(server: &Arc<TemporaryPostgres>, url: Option<&str>, round: u64, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    // Kafka takes longer: every eighth round.
    let kafka = url.filter(|_| round % 8 == 7);
    if round % 8 == 3 {
        println!("seed {seed}: the whole chain");
        crate::pipeline_crash::chaos_round(server, kafka, &mut random).await;
    } else if random.random_bool(0.3) {
        killed_at_random(server, kafka, 2, seed).await;
    } else {
        let (points, threads) = STEPS[random.random_range(0..STEPS.len())];
        println!("seed {seed}:");
        killed_at(server, kafka, points, threads).await;
    }
}

/// `make chaos`: seeded rounds, several at a time, on both logs in turn, killed at random steps or at random times.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
#[ignore = "takes minutes: make chaos"]
async fn chaos() {
    let seconds = std::env::var("MILLSTREAM_CHAOS").ok().and_then(|s| s.parse().ok()).unwrap_or(540);
    let most = std::env::var("MILLSTREAM_CHAOS_ROUNDS").ok().and_then(|s| s.parse().ok()).unwrap_or(200);
    let (begun, limit) = (Instant::now(), Duration::from_secs(seconds));
    let url = broker();
    let server = with_many_slots();
    let (first, next) = (seed(), Arc::new(AtomicU64::new(0)));
    // A round waits more than it works.
    let several = (0..4).map(|_| {
        let (server, url, next) = (Arc::clone(&server), url.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            while begun.elapsed() < limit {
                let round = next.fetch_add(1, Ordering::Relaxed);
                if round >= most {
                    break;
                }
                chaos_round(&server, url.as_deref(), round, first.wrapping_add(round)).await;
            }
        })
    });
    let mut failures = 0;
    for worker in several.collect::<Vec<_>>() {
        failures += usize::from(worker.await.is_err());
    }
    let rounds = next.load(Ordering::Relaxed).min(most);
    assert_eq!(failures, 0, "{failures} rounds have failed, see their seeds above");
    println!("chaos: {rounds} rounds in {} s, none lost or doubled an event", begun.elapsed().as_secs());
}
