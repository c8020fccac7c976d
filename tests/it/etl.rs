//! The five streaming ETL examples of `pipelines/`, from their sample data to their targets, on both logs: right by
//! queries on the source, and the same when the process dies on the way, at named points and at any.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use millstream::demo::check::compare;
use millstream::demo::databases::{Databases, SOURCE_MIGRATIONS, Sessions, TARGET_MIGRATIONS, migrate};
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::demo::workload::{self, Workload};
use millstream::log::{OpenOptions, open};
use serde_json::Value;

use crate::support::kafka::broker;
use crate::support::millstream;

/// Topics that connectors and pipelines of the examples write.
const TOPICS: [&str; 3] = ["telemetry.", "dbserver1.classicmodels.", STATISTICS];
const STATISTICS: &str = "iot.rolling_statistics";
/// Transactions on the source of the star schema, behind its snapshot.
const TRANSACTIONS: usize = 150;

/// Where processes die, one start after the other. At the end of each list the pipeline is killed at some moment, and
/// then runs to its end.
///
/// Each start gets to its point however few epochs there are: the first list dies before the first epoch is in the
/// state, between state and target, and when the target holds what the state does not know yet.
const DEATHS: [&[&str]; 2] = [
    &["pipeline.before_state=abort", "pipeline.after_state=abort", "sink.after_write=abort"],
    // Within the target's transaction: when the rows are sent, and COMMIT perhaps.
    &["pipeline.after_state=abort", IN_TRANSACTION],
];
const IN_TRANSACTION: &str = "sink.rows_sent=abort";
/// As above for a topic on Kafka, whose first transaction of a start claims the fence.
const IN_KAFKA_TRANSACTION: &str = "kafka.before_commit=abort@2";

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root(path)).unwrap()
}

/// The sample databases, and their events in a log.
struct World {
    server: TemporaryPostgres,
    dir: tempfile::TempDir,
    log: String,
    kafka: bool,
    tokio: tokio::runtime::Runtime,
    sessions: Sessions,
}

impl World {
    /// On the log of this URL; an embedded one without.
    fn new(kafka: Option<String>) -> Self {
        let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (database, folders) in [
            ("telemetry", &["source/telemetry"][..]),
            ("registry", &["source/registry"]),
            ("warehouse", &["target/telemetry"]),
            ("classicmodels", &[]),
        ] {
            server.psql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
            for folder in folders {
                for file in sql_files(&format!("migrations/{folder}")) {
                    server.psql(database, &std::fs::read_to_string(file).unwrap()).unwrap();
                }
            }
        }
        let tokio = tokio::runtime::Runtime::new().unwrap();
        let sessions = tokio.block_on(async {
            let named = Databases::named(&server.url("classicmodels"), &server.url("warehouse")).unwrap();
            let sessions = named.sessions().await.unwrap();
            migrate(&sessions.source, SOURCE_MIGRATIONS).await.unwrap();
            migrate(&sessions.target, TARGET_MIGRATIONS).await.unwrap();
            sessions
        });
        let log = kafka.clone().unwrap_or_else(|| format!("file:{}", dir.path().join("log").display()));
        let world = Self { server, dir, log, kafka: kafka.is_some(), tokio, sessions };
        if world.kafka {
            world.remove_topics();
        }
        world.capture("connectors/etl/register-telemetry.json");
        world.capture("connectors/register-classicmodels.json");
        world.tokio.block_on(async {
            let mut load = Workload::load(&world.sessions.source, 7).await.unwrap();
            for _ in 0..TRANSACTIONS {
                workload::run(&world.sessions.source, &load.next_transaction()).await.unwrap();
            }
        });
        world.capture("connectors/register-classicmodels.json");
        // The checks look at events and devices together, which no pipeline can do in one database.
        world.server.psql("telemetry", &text("migrations/source/registry/001_devices.sql")).unwrap();
        world
    }

    /// What an earlier run has left on a broker that outlives it.
    fn remove_topics(&self) {
        self.tokio.block_on(async {
            let log = open(&self.log, &OpenOptions::default()).await.unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            loop {
                let mut left = log.topics().await.unwrap();
                left.retain(|topic| TOPICS.iter().any(|own| topic.starts_with(own)));
                if left.is_empty() {
                    return;
                }
                assert!(Instant::now() < deadline, "{left:?} do not go");
                for topic in left {
                    // Perhaps on its way out already.
                    let _ = log.delete_topic(&topic).await;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }

    /// Reads a source up to its present end. The connector's name is of this world: offsets are kept under it.
    fn capture(&self, file: &str) {
        let mut connector: Value = serde_json::from_str(&text(file)).unwrap();
        let unique = self.dir.path().file_name().unwrap().to_string_lossy().into_owned();
        connector["name"] = format!("{}{unique}", connector["name"].as_str().unwrap()).into();
        let path = self.dir.path().join("connector.json");
        std::fs::write(&path, connector.to_string()).unwrap();
        let output =
            self.command("capture").args(["capture", "--until-caught-up"]).arg(path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The binary on the log, with a data directory of this world.
    fn command(&self, data: &str) -> Command {
        let mut command = millstream();
        command.arg("--log").arg(&self.log).arg("--data").arg(self.dir.path().join(data));
        for name in ["telemetry-db", "registry-db", "source-db", "target-db"] {
            command.arg("--connect-to").arg(format!("{name}:5432=127.0.0.1:{}", self.server.port()));
        }
        command.stdin(Stdio::null());
        command
    }

    /// A run of a pipeline under a name of its own: each has its own state and its own fence.
    fn sql(&self, run: &str, pipeline: &str) -> Command {
        let mut command = self.command(run);
        let name = format!("{run}-{}", self.dir.path().display());
        command.args(["sql", "--until-idle", "500ms", "--name", &name, "-f"]);
        command.arg(root(&format!("pipelines/{pipeline}.sql")));
        command
    }

    fn run(&self, run: &str, pipeline: &str) {
        let output = self.sql(run, pipeline).output().unwrap();
        assert!(output.status.success(), "{run}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Dies at each of these points, start by start, then of SIGKILL at some moment, and runs to the end.
    fn run_killed(&self, run: &str, pipeline: &str, deaths: &[&str]) {
        for death in deaths {
            let output = self.sql(run, pipeline).env("MILLSTREAM_FAILPOINTS", death).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{run}, {death}: {errors}");
        }
        let mut child = self.sql(run, pipeline).stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + Duration::from_millis(100 + rand::random::<u64>() % 700);
        while Instant::now() < until && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = child.kill();
        child.wait().unwrap();
        self.run(run, pipeline);
    }

    /// In peace, then with each list of deaths; `clear` empties the target, `check` says what is wrong with it.
    fn every_way(
        &self,
        pipeline: &str,
        topic: bool,
        mut clear: impl FnMut(&Self),
        check: impl Fn(&Self, &str),
    ) {
        let name = pipeline.rsplit('/').next().unwrap();
        self.run(&format!("{name}-peace"), pipeline);
        check(self, &format!("{name}, in peace"));
        for (n, deaths) in DEATHS.iter().enumerate() {
            clear(self);
            let deaths: Vec<&str> = deaths
                .iter()
                .filter_map(|death| match (*death, topic, self.kafka) {
                    (IN_TRANSACTION, true, true) => Some(IN_KAFKA_TRANSACTION),
                    // One write of the embedded log is one append: tests/it/log_crash.rs.
                    (IN_TRANSACTION, true, false) => None,
                    (death, ..) => Some(death),
                })
                .collect();
            self.run_killed(&format!("{name}-{n}"), pipeline, &deaths);
            check(self, &format!("{name}, killed at {deaths:?}"));
        }
    }

    fn query(&self, database: &str, sql: &str) -> Vec<String> {
        self.server.psql(database, sql).unwrap().lines().map(str::to_owned).collect()
    }
}

fn sql_files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root(folder)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn same(what: &str, found: &[String], wanted: &[String]) {
    let differ = found.iter().zip(wanted).position(|(a, b)| a != b);
    let at = differ.unwrap_or(found.len().min(wanted.len()));
    assert!(
        found == wanted,
        "{what}: {} rows, {} wanted; first difference at {at}: found {:?}, wanted {:?}",
        found.len(),
        wanted.len(),
        found.get(at),
        wanted.get(at)
    );
}

/// A pipeline into a table, against the query that says what it has to hold.
fn table(world: &World, table: &str, pipeline: &str, columns: &str, order: &str) {
    let wanted = world.query("telemetry", &text(&format!("migrations/check/telemetry/{table}.sql")));
    assert!(wanted.len() > 400, "{pipeline}: the check has {} rows", wanted.len());
    world.every_way(
        pipeline,
        false,
        |world| drop(world.server.psql("warehouse", &format!("DELETE FROM telemetry.{table}")).unwrap()),
        |world, what| {
            let sql = format!("SELECT {columns} FROM telemetry.{table} ORDER BY {order}");
            same(what, &world.query("warehouse", &sql), &wanted);
        },
    );
}

fn tables(world: &World) {
    table(
        world,
        "readings_enriched",
        "etl/iot_enriched",
        "reading_id, device_id, serial, model, site, ts, temperature, humidity, battery, over_limit",
        "reading_id",
    );
    let columns =
        "user_id, session_start, session_end, clicks, pages, exports, active_seconds, seconds_a_click";
    table(world, "user_sessions", "etl/user_sessions", columns, "user_id, session_start");
    let columns = "user_id, window_start, window_end, clicks, acknowledged, readings, devices, max_temperature, over_limit";
    table(world, "user_activity", "etl/user_activity", columns, "user_id, window_start");
}

/// Three tables, from events that update and delete as well.
fn star_schema(world: &World) {
    let tables = "dim_customers, dim_products, fact_orders";
    world.every_way(
        "star_schema",
        false,
        |world| {
            let sql = format!("SET search_path TO classicmodels_star_schema; TRUNCATE {tables}");
            world.server.psql("warehouse", &sql).unwrap();
        },
        |world, what| {
            let Sessions { source, target } = &world.sessions;
            let results = world.tokio.block_on(compare(source, target)).unwrap();
            for result in &results {
                assert_eq!(result.mismatches, 0, "{what}: {}: {:?}", result.table, result.examples);
            }
            assert!(results.iter().map(|r| r.found).sum::<usize>() > 3000, "{what}: {results:?}");
        },
    );
}

/// The records of the statistics' topic behind these offsets, as the check's rows, and the offsets behind them.
fn statistics(world: &World, from: &BTreeMap<i64, i64>) -> (Vec<String>, BTreeMap<i64, i64>) {
    let output = world.command("reader").args(["topics", "read", STATISTICS, "--jsonl"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut behind = from.clone();
    let mut rows: Vec<(i64, String, String)> = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let (partition, offset) = (record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap());
        if from.get(&partition).is_some_and(|from| offset < *from) {
            continue;
        }
        behind.insert(partition, offset + 1);
        let value: Value = match &record["value"] {
            Value::String(text) => serde_json::from_str(text).unwrap(),
            value => value.clone(),
        };
        let number = |name: &str, digits: usize| match &value[name] {
            Value::Null => String::new(),
            number => format!("{:.digits$}", number.as_f64().unwrap()),
        };
        let text = |name: &str| value[name].as_str().unwrap().to_owned();
        let row = [
            value["device_id"].to_string(),
            text("window_start"),
            text("window_end"),
            value["readings"].to_string(),
            number("avg_temperature", 3),
            number("min_temperature", 2),
            number("max_temperature", 2),
            number("avg_humidity", 3),
            value["min_battery"].to_string(),
        ];
        rows.push((value["device_id"].as_i64().unwrap(), text("window_start"), row.join("|")));
    }
    rows.sort();
    (rows.into_iter().map(|(_, _, row)| row).collect(), behind)
}

/// A topic instead of a table: whatever is doubled stays to be seen.
fn rolling_statistics(world: &World) {
    let wanted = world.query("telemetry", &text("migrations/check/telemetry/rolling_statistics.sql"));
    assert!(wanted.len() > 10_000);
    let from = std::cell::RefCell::new(BTreeMap::new());
    world.every_way(
        "etl/rolling_statistics",
        true,
        |world| {
            let behind = statistics(world, &from.borrow()).1;
            from.replace(behind);
        },
        |world, what| {
            // On Kafka the last transaction shows a moment after its commit.
            let deadline = Instant::now() + Duration::from_secs(30);
            let mut found = statistics(world, &from.borrow()).0;
            while found.len() < wanted.len() && Instant::now() < deadline {
                found = statistics(world, &from.borrow()).0;
            }
            same(what, &found, &wanted);
        },
    );
}

#[test]
fn every_example_is_right_and_survives_kills() {
    let world = World::new(None);
    star_schema(&world);
    tables(&world);
    rolling_statistics(&world);
}

#[test]
fn every_example_is_right_and_survives_kills_on_kafka() {
    if let Some(url) = broker() {
        let world = World::new(Some(url));
        star_schema(&world);
        tables(&world);
        rolling_statistics(&world);
    }
}
