//! The streaming ETL examples of pipelines/etl, from the sample data to their targets: right by queries on the source,
//! and the same when the process is killed on the way.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use serde_json::Value;

use crate::support::millstream;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root(path)).unwrap()
}

/// The sample databases, and their events in an embedded log.
struct World {
    server: TemporaryPostgres,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
        let world = Self { server, dir: tempfile::tempdir().unwrap() };
        for (database, folder) in [
            ("telemetry", "source/telemetry"),
            ("registry", "source/registry"),
            ("warehouse", "target/telemetry"),
        ] {
            world.server.psql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
            let mut files: Vec<PathBuf> = std::fs::read_dir(root(&format!("migrations/{folder}")))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            files.sort();
            for file in files {
                world.server.psql(database, &std::fs::read_to_string(file).unwrap()).unwrap();
            }
        }
        let captured = world
            .command("log", "capture")
            .args(["capture", "--until-caught-up"])
            .arg(root("connectors/etl/register-telemetry.json"))
            .output()
            .unwrap();
        assert!(captured.status.success(), "{}", String::from_utf8_lossy(&captured.stderr));
        // The checks look at events and devices together, which no pipeline can do in one database.
        world.server.psql("telemetry", &text("migrations/source/registry/001_devices.sql")).unwrap();
        world
    }

    /// The binary on a log and a data directory of this world.
    fn command(&self, log: &str, data: &str) -> Command {
        let mut command = millstream();
        command.arg("--log").arg(format!("file:{}", self.dir.path().join(log).display()));
        command.arg("--data").arg(self.dir.path().join(data));
        for name in ["telemetry-db", "registry-db", "target-db"] {
            command.arg("--connect-to").arg(format!("{name}:5432=127.0.0.1:{}", self.server.port()));
        }
        command
    }

    fn sql(&self, log: &str, data: &str, pipeline: &str) -> Command {
        let mut command = self.command(log, data);
        command
            .args(["sql", "--until-idle", "500ms", "-f"])
            .arg(root(&format!("pipelines/etl/{pipeline}.sql")));
        command
    }

    fn copy_log(&self, to: &str) {
        let status = Command::new("cp")
            .arg("-r")
            .arg(self.dir.path().join("log"))
            .arg(self.dir.path().join(to))
            .status();
        assert!(status.unwrap().success());
    }

    fn run(&self, log: &str, data: &str, pipeline: &str) {
        let output = self.sql(log, data, pipeline).output().unwrap();
        assert!(output.status.success(), "{pipeline}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Dies at named points and of SIGKILL at random times, then runs to the end.
    fn run_killed(&self, log: &str, data: &str, pipeline: &str) {
        for failpoint in
            ["pipeline.after_state=abort@2", "sink.after_write=abort@1", "pipeline.before_state=abort@2"]
        {
            let status = self
                .sql(log, data, pipeline)
                .env("MILLSTREAM_FAILPOINTS", failpoint)
                .stderr(Stdio::null())
                .status();
            // All may have been read before the point is reached; then it has ended by itself.
            let _ = status.unwrap();
        }
        for kill in 0..3 {
            let mut child = self.sql(log, data, pipeline).stderr(Stdio::null()).spawn().unwrap();
            let until =
                Instant::now() + Duration::from_millis(150 + 250 * kill + rand::random::<u64>() % 200);
            while Instant::now() < until && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            child.wait().unwrap();
        }
        self.run(log, data, pipeline);
    }

    fn query(&self, database: &str, sql: &str) -> Vec<String> {
        self.server.psql(database, sql).unwrap().lines().map(str::to_owned).collect()
    }

    /// A target table, with the columns that the check names.
    fn target(&self, table: &str, columns: &str, order: &str) -> Vec<String> {
        self.query("warehouse", &format!("SELECT {columns} FROM telemetry.{table} ORDER BY {order}"))
    }
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

/// Runs a pipeline into a table, once in peace and once killed, against the query that says what it has to hold.
fn table(world: &World, pipeline: &str, table: &str, columns: &str, order: &str) {
    let wanted = world.query("telemetry", &text(&format!("migrations/check/telemetry/{table}.sql")));
    assert!(wanted.len() > 400, "{pipeline}: the check has {} rows", wanted.len());
    world.copy_log(&format!("log-{pipeline}"));
    let log = format!("log-{pipeline}");
    world.run(&log, &format!("{pipeline}-peace"), pipeline);
    same(pipeline, &world.target(table, columns, order), &wanted);
    world
        .server
        .psql("warehouse", &format!("DELETE FROM telemetry.{table}; DELETE FROM telemetry.millstream_epoch"))
        .unwrap();
    world.run_killed(&log, &format!("{pipeline}-killed"), pipeline);
    same(&format!("{pipeline}, killed"), &world.target(table, columns, order), &wanted);
}

#[test]
fn every_example_is_right_and_survives_kills() {
    let world = World::new();
    table(
        &world,
        "iot_enriched",
        "readings_enriched",
        "reading_id, device_id, serial, model, site, ts, temperature, humidity, battery, over_limit",
        "reading_id",
    );
    let columns =
        "user_id, session_start, session_end, clicks, pages, exports, active_seconds, seconds_a_click";
    table(&world, "user_sessions", "user_sessions", columns, "user_id, session_start");
    let columns = "user_id, window_start, window_end, clicks, acknowledged, readings, devices, max_temperature, over_limit";
    table(&world, "user_activity", "user_activity", columns, "user_id, window_start");
    rolling_statistics(&world);
}

/// A topic's records, as the check's rows.
fn statistics(world: &World, log: &str) -> Vec<String> {
    let output = world
        .command(log, "reader")
        .args(["topics", "read", "iot.rolling_statistics", "--jsonl"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut rows: Vec<(i64, String, String)> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).unwrap();
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
            (value["device_id"].as_i64().unwrap(), text("window_start"), row.join("|"))
        })
        .collect();
    rows.sort();
    rows.into_iter().map(|(_, _, row)| row).collect()
}

fn rolling_statistics(world: &World) {
    let wanted = world.query("telemetry", &text("migrations/check/telemetry/rolling_statistics.sql"));
    assert!(wanted.len() > 10_000);
    world.copy_log("log-peace");
    world.run("log-peace", "rolling-peace", "rolling_statistics");
    same("rolling_statistics", &statistics(world, "log-peace"), &wanted);
    world.copy_log("log-killed");
    world.run_killed("log-killed", "rolling-killed", "rolling_statistics");
    same("rolling_statistics, killed", &statistics(world, "log-killed"), &wanted);
}
