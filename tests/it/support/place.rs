//! A data directory as an operator has it, the commands on it, and a small pipeline.

use std::path::PathBuf;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use millstream::log::embedded::EmbeddedLog;
use millstream::log::{Batch, Log};
use serde_json::Value;

use super::millstream;

/// A data directory, and commands on it.
pub struct Place {
    pub dir: tempfile::TempDir,
    /// The log, where it is not the one in the data directory.
    url: Option<String>,
}

/// Killed when it goes out of scope.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// Waits for an end that is near.
    pub fn ended(mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the process does not end");
    }
}

pub fn create(id: u32, v: u32) -> String {
    format!(r#"{{"before":null,"after":{{"id":{id},"g":{},"v":{v}}},"op":"c"}}"#, id % 3)
}

pub fn delete(id: u32, v: u32) -> String {
    format!(r#"{{"before":{{"id":{id},"g":{},"v":{v}}},"after":null,"op":"d"}}"#, id % 3)
}

pub const ORDERS: &str = "CREATE TABLE orders (id INT, g INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', \
    'topic'='orders', 'properties.bootstrap.servers'='kafka:9092', 'format'='debezium-json', \
    'scan.startup.mode'='earliest-offset');";

pub const TOTALS: &str = "CREATE TABLE totals (g INT, n BIGINT, total INT, PRIMARY KEY (g) NOT ENFORCED) WITH \
    ('connector'='upsert-kafka', 'topic'='totals', 'properties.bootstrap.servers'='kafka:9092', 'key.format'='json', \
    'value.format'='json');";

pub const QUERY: &str = "INSERT INTO totals SELECT g, COUNT(*), SUM(v) FROM orders GROUP BY g;";

impl Place {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), url: None }
    }

    /// On a Kafka cluster, whose topics others use as well.
    pub fn on_kafka(url: String) -> Self {
        Self { url: Some(url), ..Self::new() }
    }

    pub fn is_kafka(&self) -> bool {
        self.url.is_some()
    }

    /// The log's URL.
    pub fn url(&self) -> String {
        self.url.clone().unwrap_or_else(|| format!("file:{}", self.data().join("log").display()))
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = millstream();
        command.arg("--data").arg(self.data()).current_dir(self.dir.path());
        if let Some(url) = &self.url {
            command.args(["--log", url]);
        }
        command.args(args);
        command
    }

    pub fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Standard output of a command that succeeds.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.output(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The screen of a command that fails.
    pub fn refused(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    pub fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[&["--json"], args].concat())).unwrap()
    }

    pub fn spawn(&self, args: &[&str]) -> Running {
        let out = std::fs::File::create(self.dir.path().join("out.txt")).unwrap();
        let mut command = self.command(args);
        Running(
            command.stdout(Stdio::from(out.try_clone().unwrap())).stderr(Stdio::from(out)).spawn().unwrap(),
        )
    }

    pub fn log(&self) -> EmbeddedLog {
        EmbeddedLog::open(self.data().join("log")).unwrap()
    }

    /// Appends events to the topic, while no process runs.
    pub fn send(&self, values: &[String]) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let log = self.log();
            let mut writer = log.writer("test").await.unwrap();
            let mut batch = Batch::new();
            let topic = batch.topic("orders");
            for value in values {
                let mut record = batch.record(topic);
                record.value(|out| out.extend_from_slice(value.as_bytes()));
                record.finish();
            }
            writer.commit(batch).await.unwrap();
        });
    }

    /// Waits until the pipeline is in this state, has read up to this offset, and its targets hold all of it.
    pub fn wait(&self, name: &str, state: &str, offset: i64) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let output = self.output(&["--json", "pipelines", "status", name]);
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let read = status["positions"]
                .as_object()
                .is_some_and(|p| p.values().all(|o| o == offset) && !p.is_empty());
            let written = status["sinks"]
                .as_array()
                .is_some_and(|sinks| sinks.iter().all(|sink| sink["epoch"] == sink["due"]));
            if status["state"] == state && read && written {
                return status;
            }
            let out = std::fs::read_to_string(self.dir.path().join("out.txt")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{state} at {offset} is not reached: {status}\n{out}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The newest value per key of a compacted topic.
    pub fn newest(&self, topic: &str) -> std::collections::BTreeMap<String, Value> {
        let mut newest = std::collections::BTreeMap::new();
        for line in self.ok(&["topics", "read", topic, "--jsonl"]).lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            newest.insert(record["key"].to_string(), record["value"].clone());
        }
        newest
    }
}
