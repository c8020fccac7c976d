//! Conversations with a real Kafka Connect worker, asked again of `millstream run`.
//!
//! A file holds steps: a request and its recorded answer, a wait, or SQL on the source. What is masked and what
//! "equal" means is said in the README beside the files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres, free_port};
use serde_json::Value;

use crate::support::http;
use crate::support::millstream;

/// Conversations that are held at the same time.
const AT_ONCE: usize = 4;

const MASKED: [&str; 12] = [
    "worker_id",
    "version",
    "commit",
    "kafka_cluster_id",
    "trace",
    "last_modified",
    "database.password",
    "documentation",
    "display_name",
    "group",
    "order",
    "order_in_group",
];

fn mask(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let secret = map.get("name").and_then(Value::as_str) == Some("database.password");
            map.into_iter()
                .map(|(key, value)| {
                    let hide = MASKED.contains(&key.as_str()) || key == "width" || (secret && key == "value");
                    let value = if hide && !value.is_null() { Value::from("#") } else { mask(value) };
                    (key, value)
                })
                .collect()
        }
        Value::Array(list) => list.into_iter().map(mask).collect(),
        other => other,
    }
}

fn subset(want: &Value, got: &Value) -> bool {
    match (want, got) {
        (Value::Object(want), Value::Object(got)) => {
            want.iter().all(|(key, value)| got.get(key).is_some_and(|other| subset(value, other)))
        }
        (Value::Array(want), Value::Array(got)) => want.iter().all(|w| got.iter().any(|g| subset(w, g))),
        _ => want == got,
    }
}

/// `a.0.b` within a value.
fn dig<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, part| match value {
        Value::Array(list) => list.get(part.parse::<usize>().ok()?),
        Value::Object(map) => map.get(part),
        _ => None,
    })
}

struct Server {
    child: Child,
    port: u16,
    _data: tempfile::TempDir,
}

impl Server {
    fn start() -> Result<Self, String> {
        let data = tempfile::tempdir().map_err(|e| e.to_string())?;
        let port = free_port().map_err(|e| e.to_string())?;
        let settings = data.path().join("millstream.toml");
        let text = format!("connectors = []\npipelines = []\n[server]\nbind = '127.0.0.1:{port}'\n");
        std::fs::write(&settings, text).map_err(|e| e.to_string())?;
        let mut command: Command = millstream();
        let child = command
            .arg("run")
            .arg("-c")
            .arg(&settings)
            .arg("--data")
            .arg(data.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let server = Self { child, port, _data: data };
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if http::request(port, "GET", "/health", &[], None).is_ok_and(|a| a.status == 200) {
                return Ok(server);
            }
            if Instant::now() > end {
                return Err("millstream run did not answer within 20 s".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A stopped server is no fault here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Conversation<'a> {
    server: &'a Server,
    source: &'a TemporaryPostgres,
}

impl Conversation<'_> {
    fn fill(&self, text: &str) -> String {
        text.replace("${PGHOST}", "127.0.0.1").replace("${PGPORT}", &self.source.port().to_string())
    }

    fn unfill(&self, text: &str) -> String {
        text.replace(&self.source.port().to_string(), "${PGPORT}").replace("127.0.0.1", "${PGHOST}")
    }

    fn ask(&self, step: &Value) -> Result<(u16, Option<String>, Value), String> {
        let line = step["do"].as_str().ok_or("a step without a request")?;
        let (method, path) = line.split_once(' ').ok_or("a request without a path")?;
        let body = match (step.get("raw"), step.get("body")) {
            (Some(raw), _) => Some(self.fill(raw.as_str().unwrap_or_default())),
            (None, Some(body)) => Some(self.fill(&body.to_string())),
            _ => None,
        };
        let mut headers: Vec<(String, String)> = step
            .get("headers")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))
            .collect();
        if body.is_some() && !headers.iter().any(|(k, _)| k.eq_ignore_ascii_case("content-type")) {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        let path = self.fill(path);
        let answer =
            http::request(self.server.port, method, &path, &headers, body.as_deref().map(str::as_bytes))
                .map_err(|e| e.to_string())?;
        let text = self.unfill(&String::from_utf8_lossy(&answer.body));
        let value = if text.is_empty() {
            Value::Null
        } else {
            // Compared by its type alone, as the recorder does.
            let kind = answer.content_type.unwrap_or_default();
            let kind = kind.split(';').next().unwrap_or_default();
            serde_json::from_str(&text).unwrap_or_else(|_| serde_json::json!({ "not json": kind }))
        };
        let location = answer.location.map(|l| match l.find("://") {
            Some(at) => l[at + 3..].find('/').map_or(String::new(), |slash| l[at + 3 + slash..].to_owned()),
            None => l,
        });
        Ok((answer.status, location, value))
    }

    fn until(&self, step: &Value) -> Result<(), String> {
        let seconds = step.get("seconds").and_then(Value::as_u64).unwrap_or(60);
        let end = Instant::now() + Duration::from_secs(seconds);
        let request = serde_json::json!({ "do": step["until"] });
        let wanted = step["is"].as_object().ok_or("a wait without a condition")?;
        let mut last = Value::Null;
        while Instant::now() < end {
            if let Ok((_, _, answer)) = self.ask(&request) {
                if wanted.iter().all(|(path, value)| dig(&answer, path) == Some(value)) {
                    return Ok(());
                }
                last = answer;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(format!("{} did not become {}: {last}", step["until"], step["is"]))
    }

    /// What is wrong with the answer to a step; `None` when it is right.
    fn check(&self, step: &Value) -> Result<Option<String>, String> {
        let (status, location, answer) = self.ask(step)?;
        let answer = mask(answer);
        let recorded = step["status"].as_u64().unwrap_or(0);
        let want = step.get("better").and_then(Value::as_u64).unwrap_or(recorded);
        let how = step.get("compare").and_then(Value::as_str).unwrap_or("exact");
        let mut good =
            u64::from(status) == want && location.as_deref() == step.get("location").and_then(Value::as_str);
        if how == "status" || step.get("better").is_some() {
            let is_error = answer.get("error_code").is_some() && answer.get("message").is_some();
            good &= status < 400 || is_error;
        } else if how == "subset" {
            good &= subset(&step["answer"], &answer);
        } else {
            good &= answer == step["answer"];
        }
        let short = |value: &Value| value.to_string().chars().take(600).collect::<String>();
        Ok((!good).then(|| {
            format!(
                "{}: {status} {} instead of {want} {}",
                step["do"],
                short(&answer),
                short(&step["answer"])
            )
        }))
    }
}

/// Runs one file: requests that were answered right, and what was wrong.
fn run_file(file: &Path, setup: &str) -> Result<(usize, Vec<String>), String> {
    // Slots belong to the cluster, and the conversations use the same names: a cluster each.
    let source = &TemporaryPostgres::start(&PostgresOptions::default()).map_err(|e| e.to_string())?;
    let database = "shop";
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let document: Value = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
    let steps = document["steps"].as_array().ok_or_else(|| format!("{}: no steps", file.display()))?;
    source.psql("postgres", &format!("create database {database}")).map_err(|e| e.to_string())?;
    source.psql(database, setup).map_err(|e| e.to_string())?;
    let server = Server::start()?;
    let conversation = Conversation { server: &server, source };
    let (mut passed, mut wrong) = (0, Vec::new());
    for (number, step) in steps.iter().enumerate() {
        if step.get("until").is_some() {
            if let Err(error) = conversation.until(step) {
                wrong.push(format!("step {number}: {error}"));
            }
        } else if let Some(sql) = step.get("sql").and_then(Value::as_str) {
            source.psql(database, sql).map_err(|e| e.to_string())?;
        } else {
            match conversation.check(step) {
                Ok(None) => passed += 1,
                Ok(Some(fault)) => wrong.push(format!("step {number}: {fault}")),
                Err(error) => wrong.push(format!("step {number}: {error}")),
            }
        }
    }
    Ok((passed, wrong))
}

/// Runs the conversations of a folder whose names start with one of `names` (none: all), a line each; returns
/// requests passed and failed.
pub fn run_all(dir: &Path, names: &[String]) -> (usize, usize) {
    let wanted = |path: &Path| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        names.is_empty() || names.iter().any(|n| stem.starts_with(n.as_str()))
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "json") && wanted(path))
        .collect();
    files.sort();
    if files.is_empty() {
        return (0, 0);
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/connect-rest");
    let setup = [dir, &own]
        .iter()
        .find_map(|d| std::fs::read_to_string(d.join("setup.sql")).ok())
        .unwrap_or_default();
    // Most of a conversation is waiting.
    let next = std::sync::atomic::AtomicUsize::new(0);
    let results = std::sync::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let result = run_file(file, &setup);
                    results.lock().unwrap().insert(file, result);
                }
            });
        }
    });
    let (mut passed, mut failed) = (0, 0);
    for (file, result) in results.into_inner().unwrap() {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        match result {
            Ok((good, wrong)) => {
                passed += good;
                failed += wrong.len();
                println!(
                    "{} {name}: {good} requests passed, {} failed",
                    if wrong.is_empty() { "ok  " } else { "FAIL" },
                    wrong.len()
                );
                for fault in wrong {
                    println!("       {fault}");
                }
            }
            Err(error) => {
                failed += 1;
                println!("FAIL {name}: {error}");
            }
        }
    }
    (passed, failed)
}
