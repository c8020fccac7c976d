//! `millstream run` with a source of its own, as an operator has it.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres, free_port};
use serde_json::{Value, json};

use super::{http, millstream};

/// A service on a data directory of its own, its source, and all that it prints.
pub struct Service {
    pub source: Arc<TemporaryPostgres>,
    pub dir: tempfile::TempDir,
    pub port: u16,
    child: Child,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How it is started.
#[derive(Clone, Copy, Default)]
pub struct Options<'o> {
    /// Of its log; `info` unless told.
    pub level: &'o str,
    /// More of `millstream.toml`.
    pub settings: &'o str,
    /// `connectors` of `millstream.toml`: none unless told.
    pub connectors: &'o str,
    /// The log's URL, where it is not in the data directory.
    pub log: Option<&'o str>,
    pub failpoints: &'o str,
}

fn spawn(dir: &Path, port: u16, options: &Options<'_>) -> Child {
    let settings = dir.join("millstream.toml");
    let more = options.settings;
    let connectors = if options.connectors.is_empty() { "[]" } else { options.connectors };
    let text =
        format!("connectors = {connectors}\npipelines = []\n[server]\nbind = '127.0.0.1:{port}'\n{more}\n");
    std::fs::write(&settings, text).unwrap();
    let out = std::fs::File::options().create(true).append(true).open(dir.join("out.txt")).unwrap();
    let mut command = millstream();
    command.args(["run", "-c"]).arg(&settings).arg("--data").arg(dir.join("data"));
    if let Some(log) = options.log {
        command.args(["--log", log]);
    }
    let level = if options.level.is_empty() { "info" } else { options.level };
    command
        .env("RUST_LOG", level)
        .env("MILLSTREAM_FAILPOINTS", options.failpoints)
        .stdin(Stdio::null())
        .stdout(Stdio::from(out.try_clone().unwrap()))
        .stderr(Stdio::from(out))
        .spawn()
        .unwrap()
}

impl Service {
    pub fn start(sql: &str) -> Self {
        Self::start_at("info", sql)
    }

    pub fn start_at(level: &str, sql: &str) -> Self {
        Self::start_with(&Options { level, ..Options::default() }, &PostgresOptions::default(), sql)
    }

    pub fn start_with(options: &Options<'_>, source: &PostgresOptions, sql: &str) -> Self {
        let source = TemporaryPostgres::start(source).unwrap();
        source.psql("postgres", "create database shop").unwrap();
        source.psql("shop", sql).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        let child = spawn(dir.path(), port, options);
        let service = Self { source: Arc::new(source), dir, port, child };
        service.until("it answers", || service.ask("GET", "/health", None).0 == 200);
        service
    }

    /// Kills it and starts it again on the same data.
    pub fn restart(&mut self, options: &Options<'_>) {
        self.kill();
        self.child = spawn(self.dir.path(), self.port, options);
    }

    /// As a crash ends it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// As an operator ends it. Gives the time that took.
    pub fn terminate(&mut self) -> Duration {
        let begun = Instant::now();
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it goes on\n{}", self.printed());
            std::thread::sleep(Duration::from_millis(20));
        }
        begun.elapsed()
    }

    /// Whether the process has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The source, to be stopped and started; nobody else may have it then.
    pub fn server(&mut self) -> &mut TemporaryPostgres {
        Arc::get_mut(&mut self.source).unwrap()
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn printed(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out.txt")).unwrap()
    }

    pub fn sql(&self, sql: &str) -> String {
        self.source.psql("shop", sql).unwrap()
    }

    /// Status and body of an answer, as texts.
    pub fn text(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, String) {
        let headers = [("Content-Type".to_owned(), "application/json".to_owned())];
        let body = body.map(Value::to_string);
        // A service that starts is not there yet.
        match http::request(self.port, method, path, &headers, body.as_deref().map(str::as_bytes)) {
            Ok(answer) => (answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
            Err(error) => (0, error.to_string()),
        }
    }

    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let (status, text) = self.text(method, path, body);
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    pub fn good(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub fn until(&self, what: &str, ready: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ready() {
            assert!(Instant::now() < deadline, "{what}: not within 30 s\n{}", self.printed());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn config(&self, name: &str, more: &[(&str, &str)]) -> Value {
        let mut config = json!({
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "database.hostname": "127.0.0.1",
            "database.port": self.source.port().to_string(),
            "database.user": "postgres",
            "database.dbname": "shop",
            "topic.prefix": name,
            "slot.name": name,
            "publication.name": format!("{name}_pub"),
            "publication.autocreate.mode": "filtered",
            "plugin.name": "pgoutput",
            "table.include.list": "public.items",
        });
        for (key, value) in more {
            config[*key] = json!(value);
        }
        config
    }

    pub fn create(&self, name: &str, more: &[(&str, &str)]) {
        let body = json!({ "name": name, "config": self.config(name, more) });
        let (status, answer) = self.ask("POST", "/connectors", Some(&body));
        assert_eq!(status, 201, "{answer}");
    }

    pub fn state(&self, name: &str) -> (String, String) {
        let (_, status) = self.ask("GET", &format!("/connectors/{name}/status"), None);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&status["connector"]["state"]), text(&status["tasks"][0]["state"]))
    }

    pub fn streams(&self, name: &str) {
        let labels = format!("connector=\"{name}\",state=\"STREAMING\"");
        self.until("it streams", || self.metric("millstream_connector_state", &labels) == Some(1.0));
    }

    /// A sample of `/metrics` by name and part of its labels.
    pub fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let (_, page) = self.text("GET", "/metrics", None);
        page.lines()
            .filter_map(|line| line.rsplit_once(' '))
            .find(|(sample, _)| sample.split('{').next() == Some(name) && sample.contains(labels))
            .and_then(|(_, value)| value.parse().ok())
    }

    /// Runs a command on the service's data directory (and the log there): everything that it prints.
    pub fn command(&self, args: &[&str]) -> String {
        let output = millstream()
            .arg("--data")
            .arg(self.data())
            .args(args)
            .env("RUST_LOG", "debug")
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!("{}{}", text(&output.stdout), text(&output.stderr))
    }

    /// Values of a topic's records.
    pub fn values(&self, topic: &str) -> Vec<Value> {
        let text = self.command(&["topics", "read", topic, "--jsonl"]);
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .map(|record| {
                let value: Value = serde_json::from_str(record["value"].as_str().unwrap_or("null")).unwrap();
                value.get("payload").cloned().unwrap_or(value)
            })
            .collect()
    }

    pub fn ids(&self, topic: &str) -> Vec<i64> {
        self.values(topic).iter().filter_map(|value| value["after"]["id"].as_i64()).collect()
    }
}
