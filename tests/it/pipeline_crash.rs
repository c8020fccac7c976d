//! Kills the whole chain (connector, log, pipeline, in one process) at the pipeline's named points and at random
//! times under load, restarts it, and compares the target with queries on the source, by content.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millstream::demo::postgres::TemporaryPostgres;
use millstream::log::OpenOptions;
use rand::Rng as _;
use rand::rngs::StdRng;

use crate::crash::verify_table;
use crate::support::kafka::broker;
use crate::support::millstream;
use crate::support::postgres::{drop_slot, with_many_slots};

const SOURCE: &str = "
    CREATE TABLE item (id int PRIMARY KEY, n int NOT NULL, note text);
    ALTER TABLE item REPLICA IDENTITY FULL;
    -- The default replica identity: old rows are completed from state.
    CREATE TABLE other (id bigserial PRIMARY KEY, item int);
    INSERT INTO item SELECT g, 0, repeat('x', 40) FROM generate_series(1, 500) g;
    INSERT INTO other (item) SELECT g FROM generate_series(1, 100) g;";

const TARGET: &str = "
    CREATE TABLE copy (id int PRIMARY KEY, n int, note text);
    CREATE TABLE counts (bucket int PRIMARY KEY, items bigint, total bigint);
    CREATE TABLE joined (id bigint PRIMARY KEY, item int, n int);";

/// Target table, query on the target, query on the source.
const CHECKS: [(&str, &str, &str); 3] = [
    ("copy", "SELECT id, n, note FROM copy ORDER BY id", "SELECT id, n, note FROM item ORDER BY id"),
    (
        "counts",
        "SELECT bucket, items, total FROM counts ORDER BY bucket",
        "SELECT id % 50, count(*), sum(n) FROM item GROUP BY 1 ORDER BY 1",
    ),
    (
        "joined",
        "SELECT id, item, n FROM joined ORDER BY id",
        "SELECT o.id, o.item, i.n FROM other o LEFT JOIN item i ON i.id = o.item ORDER BY o.id",
    ),
];

fn pipeline(database: &str, port: u16) -> String {
    let source = |table: &str| {
        format!(
            "WITH ('connector'='kafka', 'topic'='{database}.public.{table}', 'scan.startup.mode'='earliest-offset', \
             'properties.bootstrap.servers'='kafka:9092', 'properties.group.id'='g', 'format'='debezium-json')"
        )
    };
    let sink = |table: &str| {
        format!(
            "WITH ('connector'='jdbc', 'url'='jdbc:postgresql://127.0.0.1:{port}/{database}_target', \
             'table-name'='{table}', 'username'='postgres')"
        )
    };
    format!(
        "SET 'pipeline.name' = '{database}';
         SET 'table.exec.sink.require-on-conflict' = 'false';
         CREATE TABLE item (id INT, n INT, note STRING, PRIMARY KEY (id) NOT ENFORCED) {};
         CREATE TABLE other (id BIGINT, item INT, PRIMARY KEY (id) NOT ENFORCED) {};
         CREATE TABLE copy (id INT, n INT, note STRING, PRIMARY KEY (id) NOT ENFORCED) {};
         CREATE TABLE counts (bucket INT, items BIGINT, total BIGINT, PRIMARY KEY (bucket) NOT ENFORCED) {};
         CREATE TABLE joined (id BIGINT, item INT, n INT, PRIMARY KEY (id) NOT ENFORCED) {};
         EXECUTE STATEMENT SET BEGIN
         INSERT INTO copy SELECT id, n, note FROM item;
         INSERT INTO counts SELECT MOD(id, 50), COUNT(*), SUM(CAST(n AS BIGINT)) FROM item GROUP BY MOD(id, 50);
         INSERT INTO joined SELECT o.id, o.item, i.n FROM other o LEFT JOIN item i ON o.item = i.id;
         END;",
        source("item"),
        source("other"),
        sink("copy"),
        sink("counts"),
        sink("joined")
    )
}

/// One round of load: small transactions, a large one, key changes, deletes, a rollback.
fn round(n: u32) -> String {
    let base = 10_000 + (n % 100) * 100;
    let mut sql = String::new();
    for i in 0..10 {
        sql += &format!("UPDATE item SET n = n + 1 WHERE id = {};", 1 + (n * 10 + i) % 500);
        sql += &format!("INSERT INTO other (item) VALUES ({i}), ({});", base + i);
        sql += &format!("UPDATE other SET item = {} WHERE id = {};", n % 500, 1 + (n + i) % 100);
    }
    sql += &format!(
        "BEGIN; INSERT INTO item SELECT g, {n}, repeat('y', 100) FROM generate_series({base}, {base} + 89) g \
             ON CONFLICT (id) DO NOTHING; \
         UPDATE item SET n = n + 7 WHERE id BETWEEN {base} AND {base} + 50; \
         UPDATE item SET id = id + 90000 WHERE id BETWEEN {base} AND {base} + 3; COMMIT; \
         BEGIN; DELETE FROM item WHERE id BETWEEN {base} AND {base} + 60; ROLLBACK; \
         DELETE FROM item WHERE id BETWEEN {base} + 40 AND {base} + 89; \
         DELETE FROM item WHERE id BETWEEN {base} + 90000 AND {base} + 90003; \
         DELETE FROM other WHERE id % 97 = {};",
        n % 97
    );
    sql
}

struct Case {
    server: Arc<TemporaryPostgres>,
    database: String,
    dir: tempfile::TempDir,
}

impl Case {
    fn new(server: &Arc<TemporaryPostgres>, database: &str, kafka: Option<&str>) -> Self {
        server.psql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
        server.psql("postgres", &format!("CREATE DATABASE {database}_target")).unwrap();
        server.psql(database, SOURCE).unwrap();
        server.psql(&format!("{database}_target"), TARGET).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let connector = serde_json::json!({"name": format!("crash_{database}"), "config": {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "plugin.name": "pgoutput",
            "database.hostname": "127.0.0.1",
            "database.port": server.port().to_string(),
            "database.user": "postgres",
            "database.dbname": database,
            "topic.prefix": database,
            "slot.name": format!("slot_{database}"),
            "tombstones.on.delete": "true",
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "key.converter.schemas.enable": "false",
            "value.converter.schemas.enable": "false",
        }});
        std::fs::write(dir.path().join("c.json"), connector.to_string()).unwrap();
        std::fs::write(dir.path().join("p.sql"), pipeline(database, server.port())).unwrap();
        let log = kafka.map(|broker| format!("log = \"{broker}\"\n")).unwrap_or_default();
        let settings = format!(
            "connectors = [\"c.json\"]\npipelines = [\"p.sql\"]\ndata = \"{}\"\n{log}[server]\nbind = \"127.0.0.1:0\"\n\
             [worker]\ngroup_id = \"{database}\"\nconfig_storage_topic = \"{database}-configs\"\n\
             offset_storage_topic = \"{database}-offsets\"\nstatus_storage_topic = \"{database}-status\"\n",
            dir.path().join("data").display()
        );
        std::fs::write(dir.path().join("millstream.toml"), settings).unwrap();
        Self { server: Arc::clone(server), database: database.to_owned(), dir }
    }

    fn spawn(&self, failpoints: &str) -> Child {
        let out =
            std::fs::File::options().create(true).append(true).open(self.dir.path().join("out.txt")).unwrap();
        millstream()
            .arg("run")
            .arg("-c")
            .arg(self.dir.path().join("millstream.toml"))
            .current_dir(self.dir.path())
            .env("MILLSTREAM_FAILPOINTS", failpoints)
            .stdout(Stdio::from(out.try_clone().unwrap()))
            .stderr(Stdio::from(out))
            .spawn()
            .unwrap()
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out.txt")).unwrap_or_default()
    }

    fn load(&self, n: u32) {
        self.server.psql(&self.database, &round(n)).unwrap();
    }

    /// Loads until the process dies of its failpoint.
    fn run_to_death(&self, failpoints: &str) -> u32 {
        let mut child = self.spawn(failpoints);
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut rounds = 0;
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{failpoints} was not reached:\n{}", self.output());
            }
            self.load(rounds);
            rounds += 1;
        }
        rounds
    }

    /// The first table that differs.
    fn difference(&self) -> Option<String> {
        CHECKS.iter().find_map(|(table, target, source)| {
            let found = self.server.psql(&format!("{}_target", self.database), target).unwrap();
            let wanted = self.server.psql(&self.database, source).unwrap();
            if found == wanted {
                return None;
            }
            let only = |a: &str, b: &str| {
                let known: std::collections::HashSet<&str> = b.lines().collect();
                a.lines().filter(|l| !known.contains(l)).take(5).collect::<Vec<_>>().join("; ")
            };
            Some(format!(
                "{table}: {} rows, {} wanted; only in the target: {}; only in the source: {}",
                found.lines().count(),
                wanted.lines().count(),
                only(&found, &wanted),
                only(&wanted, &found)
            ))
        })
    }

    /// Runs until the target holds what the source says, and stays so.
    fn finish(&self) {
        let mut child = self.spawn("");
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut difference = self.difference();
        while difference.is_some() {
            let ended = child.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let _ = child.kill();
                child.wait().unwrap();
                panic!("{} ({ended:?}):\n{}", difference.unwrap(), self.output());
            }
            std::thread::sleep(Duration::from_millis(50));
            difference = self.difference();
        }
        std::thread::sleep(Duration::from_millis(300));
        let difference = self.difference();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(difference, None, "a right row went back:\n{}", self.output());
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        drop_slot(&self.server, &format!("slot_{}", self.database));
    }
}

/// Where the process dies, start by start; afterwards it runs to the end.
const DEATHS: [&[&str]; 12] = [
    &["pipeline.before_state=abort@1"],
    &["pipeline.before_state=abort@15"],
    &["pipeline.after_state=abort@1"],
    &["pipeline.after_state=abort@12"],
    &["sink.before_write=abort@2"],
    &["sink.before_write=abort@20"],
    &["sink.after_write=abort@1"],
    &["sink.after_write=abort@23"],
    &["pipeline.sink_done=abort@8"],
    &["pipeline.after_state=abort@6", "recovery.token=abort@1"],
    &["pipeline.after_state=abort@6", "recovery.claimed=abort@2"],
    &["pipeline.after_state=abort@6", "recovery.replayed=abort@1"],
];

/// `short` names tell the databases of the two logs apart: topics on a shared broker bear them.
fn killed_at_every_point(short: &str, kafka: Option<&str>) {
    let server = with_many_slots();
    for (n, deaths) in DEATHS.iter().enumerate() {
        let case = Case::new(&server, &format!("{short}{n}"), kafka);
        let rounds: u32 = deaths.iter().map(|death| case.run_to_death(death)).sum();
        case.load(rounds);
        case.finish();
        println!("killed at {deaths:?}: {rounds} rounds of load, target = source");
    }
}

fn killed_at_random(short: &str, kafka: Option<&str>) {
    let server = with_many_slots();
    let case = Arc::new(Case::new(&server, &format!("{short}_random"), kafka));
    // The snapshot first: one that is killed starts anew, and what was deleted between the two has no event.
    case.finish();
    let done = Arc::new(AtomicBool::new(false));
    let load = std::thread::spawn({
        let (case, done) = (Arc::clone(&case), Arc::clone(&done));
        move || {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                case.load(n);
                n += 1;
            }
            n
        }
    });
    for kill in 0..10 {
        let mut child = case.spawn("");
        std::thread::sleep(Duration::from_millis(400 + rand::random::<u64>() % 1200));
        assert!(child.try_wait().unwrap().is_none(), "kill {kill}: ended by itself:\n{}", case.output());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    done.store(true, Ordering::Relaxed);
    let rounds = load.join().unwrap();
    case.finish();
    println!("killed 10 times at random: {rounds} rounds of load, target = source");
}

/// A round of `make chaos`: the chain dies at one of the points, at a random hit, and afterwards the topics hold
/// every event once and the target what the source says.
pub(crate) async fn chaos_round(server: &Arc<TemporaryPostgres>, kafka: Option<&str>, random: &mut StdRng) {
    let deaths = DEATHS[random.random_range(0..DEATHS.len())];
    let case = Case::new(server, &format!("{}x", short("ch")), kafka);
    let rounds: u32 = deaths.iter().map(|death| case.run_to_death(death)).sum();
    case.load(rounds);
    case.finish();
    let url = match kafka {
        Some(url) => url.to_owned(),
        None => format!("file:{}", case.dir.path().join("data/log").display()),
    };
    let log = millstream::log::open(&url, &OpenOptions::default()).await.unwrap();
    let mut events = 0;
    for table in [("item", "id"), ("other", "id")] {
        events += verify_table(server, &case.database, &log, table, || case.output()).await;
    }
    println!("killed at {deaths:?}: {rounds} rounds of load, {events} streamed, each once, target = source");
}

/// Names of databases, slots and topics differ from run to run: a broker given from outside keeps its topics.
fn short(prefix: &str) -> String {
    format!("{prefix}{:x}_", rand::random::<u32>())
}

#[test]
fn embedded_killed_at_every_point() {
    killed_at_every_point(&short("pe"), None);
}

#[test]
fn embedded_killed_at_random() {
    killed_at_random(&short("pr"), None);
}

#[test]
fn kafka_killed_at_every_point() {
    if let Some(broker) = broker() {
        killed_at_every_point(&short("ke"), Some(&broker));
    }
}

#[test]
fn kafka_killed_at_random() {
    if let Some(broker) = broker() {
        killed_at_random(&short("kr"), Some(&broker));
    }
}
