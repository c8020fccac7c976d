//! Runs Debezium cases: a PostgreSQL of its own for each, the real capture, the embedded log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use millstream::capture::{Connector, ConnectorHandle, Env, Phase};
use millstream::config::connector::ConnectorConfig;
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::log::embedded::EmbeddedLog;
use millstream::log::{Log, Position, TopicPartition, TopicSpec};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::form::{Headers, has_own_headers, plain_avro, to_json, with_headers};
use super::json::Json;
use super::mask::{self, Options};
use super::recording::{Recorded, RecordingLog};
use super::registry::Registry;
use super::{LEFT_OUT, Outcome, Selection, run_several};

const OFFSETS: &str = "golden-offsets";

/// Runs the selected cases.
pub fn run(selection: &Selection) -> Outcome {
    let cases = selection.cases("debezium");
    if cases.is_empty() {
        return Outcome::default();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // a case waits more than it works
    let registry = OnceLock::new();
    let start = || Registry::start();
    run_several("debezium", &cases, 3, |folder| {
        let mut case = Case::load(folder)?;
        if case.config.values().any(|v| v.contains("${REGISTRY}")) {
            case.registry = Some(registry.get_or_init(start).as_ref().map_err(Clone::clone)?);
        }
        let again = case.with_json_headers();
        let passed = case.run(&runtime)?;
        match again {
            // the same, with the other form of the headers
            Some(case) => case.run(&runtime).map_err(|e| format!("with header.converter=JsonConverter: {e}")),
            None => Ok(passed),
        }
    })
}

#[derive(Clone)]
struct Case<'r> {
    folder: PathBuf,
    /// What the suite's needs.txt says that not every server has: `xml`, or an extension.
    need: Option<String>,
    registry: Option<&'r Registry>,
    name: String,
    /// The form in which headers are compared.
    headers: Headers,
    config: BTreeMap<String, String>,
    setup: String,
    changes: String,
    expected: Vec<Json>,
    options: Options,
    case: Value,
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// The records of a JSON lines file.
fn lines(text: &str) -> Result<Vec<Json>, String> {
    text.split('\n')
        .enumerate()
        .filter(|(_, l)| !l.is_empty())
        .map(|(i, l)| Json::parse(l).map_err(|e| format!("line {}: {e}", i + 1)))
        .collect()
}

impl Case<'_> {
    fn load(folder: &Path) -> Result<Self, String> {
        let connector: Value = serde_json::from_str(&read(&folder.join("connector.json"))?)
            .map_err(|e| format!("connector.json: {e}"))?;
        let name = connector.get("name").and_then(Value::as_str).unwrap_or("golden").to_owned();
        let properties = connector.get("config").unwrap_or(&connector);
        let mut config = BTreeMap::new();
        for (key, value) in properties.as_object().ok_or("connector.json holds no object")? {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            config.insert(key.clone(), text);
        }
        let case: Value = match std::fs::read_to_string(folder.join("case.json")) {
            Ok(text) => serde_json::from_str(&text).map_err(|e| format!("case.json: {e}"))?,
            Err(_) => Value::Null,
        };
        let listed = folder.parent().map(|suite| suite.join("needs.txt"));
        let listed = listed.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
        Ok(Self {
            folder: folder.to_owned(),
            need: listed
                .lines()
                .filter_map(|l| l.split_once(' '))
                .find_map(|(case, need)| (case == super::name(folder)).then(|| need.to_owned())),
            registry: None,
            name,
            headers: Headers::Wire,
            config,
            setup: read(&folder.join("setup.sql"))?,
            changes: read(&folder.join("changes.sql")).unwrap_or_default(),
            expected: lines(&read(&folder.join("expected.jsonl"))?)?,
            options: Options::from_case(&case),
            case,
        })
    }

    /// The case with headers as JSON, where they are more than the connector's own and the case leaves their converter
    /// open.
    fn with_json_headers(&self) -> Option<Self> {
        let open = self.registry.is_none() && !self.config.contains_key("header.converter");
        if !open || !self.expected.iter().any(has_own_headers) {
            return None;
        }
        let mut again = Self { headers: Headers::Json, ..self.clone() };
        let class = "org.apache.kafka.connect.json.JsonConverter";
        again.config.insert("header.converter".into(), class.into());
        let schemas = self.config.get("value.converter.schemas.enable").map_or("true", String::as_str);
        again.config.insert("header.converter.schemas.enable".into(), schemas.into());
        Some(again)
    }

    fn run(mut self, runtime: &Runtime) -> Result<String, String> {
        let settings = PostgresOptions {
            settings: vec!["max_prepared_transactions = 10".into(), "autovacuum = off".into()],
            ..PostgresOptions::default()
        };
        // another process may take the free port before the server does
        let start = || TemporaryPostgres::start(&settings);
        let postgres = start().or_else(|_| start()).map_err(|e| e.screen())?;
        let work = tempfile::tempdir().map_err(|e| e.to_string())?;
        let database = self.config.get("database.dbname").cloned().unwrap_or_else(|| "golden".into());
        psql(&postgres, "postgres", &format!("CREATE DATABASE \"{database}\""))?;
        if let Some(need) = self.need.as_deref().filter(|need| !has(&postgres, &database, need)) {
            return Err(format!("{LEFT_OUT}this PostgreSQL has no {need} (needs.txt)"));
        }
        psql(&postgres, &database, &self.setup)?;
        let port = postgres.port().to_string();
        for value in self.config.values_mut() {
            *value = value
                .replace("${PGHOST}", "127.0.0.1")
                .replace("${PGPORT}", &port)
                .replace("${WORK}", &work.path().display().to_string())
                .replace("${REGISTRY}", self.registry.map_or("", |r| &r.url));
        }
        for (name, value) in [("database.hostname", "127.0.0.1"), ("database.port", port.as_str())] {
            self.config.insert(name.into(), value.into());
        }
        for (name, value) in [
            ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
            ("database.user", "postgres"),
            ("database.password", "x"),
            ("database.dbname", database.as_str()),
            ("plugin.name", "pgoutput"),
        ] {
            self.config.entry(name.into()).or_insert_with(|| value.into());
        }
        let embedded =
            runtime.block_on(async { EmbeddedLog::open(work.path().join("log")) }).map_err(|e| e.screen())?;
        let log = Arc::new(RecordingLog::new(Arc::new(embedded)));
        self.make_topics(runtime, &log)?;
        let mut session = Session {
            case: &self,
            postgres: &postgres,
            database,
            log: Arc::clone(&log),
            runtime,
            handle: None,
        };
        let ran = session.script();
        let stopped = session.stop();
        ran.and(stopped)?;
        self.check(runtime, &log)
    }

    /// Topics whose records name partitions above 0 must have them, as on a broker.
    fn make_topics(&self, runtime: &Runtime, log: &Arc<RecordingLog>) -> Result<(), String> {
        let mut partitions: BTreeMap<&str, i32> = BTreeMap::new();
        for r in &self.expected {
            let topic = r.get("topic").and_then(Json::as_str).unwrap_or("");
            let partition = r.get("partition").and_then(Json::as_i64).and_then(|p| i32::try_from(p).ok());
            let most = partitions.entry(topic).or_insert(0);
            *most = (*most).max(partition.unwrap_or(0));
        }
        for (topic, most) in partitions.into_iter().filter(|(_, most)| *most > 0) {
            let spec = TopicSpec::new(topic).partitions(most + 1);
            runtime.block_on(log.create_topic(&spec)).map_err(|e| e.screen())?;
        }
        Ok(())
    }

    /// The registry must hold the subjects of schemas.json, with the same versions in order.
    fn check_subjects(&self) -> Result<(), String> {
        let (Some(registry), Ok(text)) =
            (self.registry, std::fs::read_to_string(self.folder.join("schemas.json")))
        else {
            return Ok(());
        };
        let Json::Object(subjects) = Json::parse(&text)? else {
            return Err("schemas.json holds no object".into());
        };
        for (subject, versions) in subjects {
            let Json::Array(versions) = versions else { continue };
            let sorted = |list: &[Json]| list.iter().map(Json::sorted).collect::<Vec<_>>();
            let actual = registry.versions(&subject)?;
            if sorted(&versions) != sorted(&actual) {
                return Err(format!(
                    "subject {subject}: {} versions, or others, instead of {}",
                    actual.len(),
                    versions.len()
                ));
            }
        }
        Ok(())
    }

    fn check(&self, runtime: &Runtime, log: &Arc<RecordingLog>) -> Result<String, String> {
        let recorded: Vec<Recorded> = log.records().into_iter().filter(|r| r.topic != OFFSETS).collect();
        in_the_log(runtime, log, &recorded)?;
        let mut actual = Vec::with_capacity(recorded.len());
        let mut expected: Vec<Json> = self.expected.iter().map(|r| with_headers(r, self.headers)).collect();
        for record in &recorded {
            actual.push(to_json(record, self.registry, self.headers)?);
        }
        let broken = mask::relations(&actual);
        if self.registry.is_some() {
            // Avro schemas are JSON values: the order of an object's keys is free
            expected = expected.iter().map(plain_avro).collect();
            actual = actual.iter().map(plain_avro).collect();
            // recorded topic by topic, so transaction ids were numbered in that order
            actual.sort_by_key(|r| r.get("topic").and_then(Json::as_str).unwrap_or("").to_owned());
        }
        if let Some(dir) =
            std::env::var_os("MILLSTREAM_GOLDENS_OUT").filter(|_| self.headers == Headers::Wire)
        {
            let text: String = actual.iter().map(|r| format!("{r}\n")).collect();
            let path = Path::new(&dir).join(format!("{}.jsonl", self.name));
            std::fs::write(path, text).map_err(|e| e.to_string())?;
        }
        if let Some(difference) = mask::compare(&expected, &actual, &self.options) {
            return Err(difference);
        }
        if let Some(first) = broken.first() {
            return Err(format!("{} relations do not hold, first: record {first}", broken.len()));
        }
        self.check_subjects()?;
        if self.headers == Headers::Json {
            return Ok(format!("{} records", recorded.len()));
        }
        run_ids(&recorded, self.changes.matches("-- @start").count() + 1)?;
        Ok(format!("{} records", recorded.len()))
    }
}

fn psql(postgres: &TemporaryPostgres, database: &str, sql: &str) -> Result<String, String> {
    postgres.psql(database, sql).map(|t| t.trim().to_owned()).map_err(|e| e.screen())
}

/// Whether the server has the type `xml` (it has not where it was built without libxml), or an extension.
fn has(postgres: &TemporaryPostgres, database: &str, need: &str) -> bool {
    let extension = format!("SELECT 1 FROM pg_available_extensions WHERE name = '{need}'");
    let query = if need == "xml" { "SELECT '<a/>'::xml" } else { extension.as_str() };
    psql(postgres, database, query).is_ok_and(|found| !found.is_empty())
}

/// Signals server processes.
fn signal(which: &str, pids: &[&str]) {
    if !pids.is_empty() {
        let _ = std::process::Command::new("kill").arg(which).args(pids).status();
    }
}

/// A case under way.
struct Session<'c> {
    case: &'c Case<'c>,
    postgres: &'c TemporaryPostgres,
    database: String,
    log: Arc<RecordingLog>,
    runtime: &'c Runtime,
    handle: Option<ConnectorHandle>,
}

impl Session<'_> {
    fn script(&mut self) -> Result<(), String> {
        let mut config = self.case.config.clone();
        self.start(&config)?;
        let mut chunk = String::new();
        let changes = self.case.changes.clone();
        for line in changes.lines() {
            let Some(directive) =
                line.trim_start().strip_prefix("--").map(str::trim_start).and_then(|l| l.strip_prefix('@'))
            else {
                chunk.push_str(line);
                chunk.push('\n');
                continue;
            };
            self.flush(&mut chunk)?;
            let (word, argument) = directive.split_once(' ').unwrap_or((directive, ""));
            match word.trim() {
                "idle" => self.quiesce()?,
                "sleep" => {
                    let seconds: f64 = argument.trim().parse().map_err(|_| format!("@sleep {argument}"))?;
                    std::thread::sleep(Duration::from_secs_f64(seconds));
                }
                "stop" => {
                    self.quiesce()?;
                    self.stop()?;
                }
                "start" => {
                    for pair in argument.split_whitespace() {
                        let (name, value) = pair.split_once('=').ok_or("@start takes name=value")?;
                        config.insert(name.into(), value.into());
                    }
                    self.start(&config)?;
                }
                other => return Err(format!("unknown directive @{other}")),
            }
        }
        self.flush(&mut chunk)?;
        self.quiesce()
    }

    fn flush(&self, chunk: &mut String) -> Result<(), String> {
        let sql = std::mem::take(chunk);
        if sql.trim().is_empty() {
            return Ok(());
        }
        // Debezium looks at an idle stream every 500 ms (poll.interval.ms), so the recorded connector met a chunk's
        // changes, and the live catalog, after the chunk. Holding the stream gives the same order here.
        let held = psql(
            self.postgres,
            &self.database,
            "select active_pid from pg_replication_slots where active and database = current_database()",
        )?;
        let pids: Vec<&str> = held.lines().collect();
        signal("-STOP", &pids);
        let result = psql(self.postgres, &self.database, &sql).map(|_| ());
        signal("-CONT", &pids);
        result
    }

    fn no_streaming(&self) -> bool {
        self.case.case.get("no_streaming").and_then(Value::as_bool).unwrap_or(false)
    }

    fn may_fail(&self) -> bool {
        self.case.case.get("may_fail").and_then(Value::as_bool).unwrap_or(false)
    }

    fn idle(&self) -> Duration {
        // what Debezium needs 2 s for is done here within a commit of the log
        let recorded = self.case.case.get("idle_s").and_then(Value::as_f64).unwrap_or(2.0);
        Duration::from_secs_f64((recorded * 0.25).clamp(0.2, 2.0))
    }

    fn start(&mut self, config: &BTreeMap<String, String>) -> Result<(), String> {
        let config = ConnectorConfig::from_map(&self.case.name, config.clone()).map_err(|e| e.screen())?;
        let mut env = Env::new(Arc::clone(&self.log) as Arc<dyn Log>, &self.case.name);
        env.offsets_topic = OFFSETS.into();
        let guard = self.runtime.enter();
        self.handle = Some(Connector::start(config, env).map_err(|e| e.screen())?);
        drop(guard);
        let least = self.case.case.get("min_records").and_then(Value::as_u64).unwrap_or(0);
        let begun = Instant::now();
        loop {
            let Some(handle) = &self.handle else { return Err("not started".into()) };
            let status = handle.status();
            match status.phase {
                Phase::Failed => {
                    if self.may_fail() {
                        return Ok(());
                    }
                    return Err(format!("failed: {}", status.error.map(|e| e.screen()).unwrap_or_default()));
                }
                Phase::Streaming if !self.no_streaming() => return Ok(()),
                _ if self.no_streaming() && self.log.len() as u64 >= least => {
                    self.still();
                    if self.log.len() as u64 >= least {
                        return Ok(());
                    }
                }
                _ => {}
            }
            if begun.elapsed() > Duration::from_secs(30) {
                return Err(format!("does not start: {:?}", status.phase));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until no record has come for the idle time.
    fn still(&self) {
        let (idle, begun) = (self.idle(), Instant::now());
        let (mut count, mut since) = (self.log.len(), Instant::now());
        while since.elapsed() < idle && begun.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(20));
            let now = self.log.len();
            // heartbeats alone never end
            if now != count && self.case.options.compare != "distinct" {
                (count, since) = (now, Instant::now());
            }
        }
    }

    fn quiesce(&self) -> Result<(), String> {
        let target = psql(self.postgres, &self.database, "select pg_current_wal_lsn()")?;
        let begun = Instant::now();
        while !self.no_streaming() {
            if let Some(handle) = &self.handle {
                let status = handle.status();
                if status.phase == Phase::Failed {
                    if self.may_fail() {
                        break;
                    }
                    return Err(format!("failed: {}", status.error.map(|e| e.screen()).unwrap_or_default()));
                }
            }
            let sent = format!(
                "select coalesce(bool_or(sent_lsn >= '{target}'::pg_lsn), false) from pg_stat_replication"
            );
            if psql(self.postgres, &self.database, &sent)? == "t" {
                break;
            }
            if begun.elapsed() > Duration::from_secs(30) {
                return Err(format!("the stream does not reach {target}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.still();
        Ok(())
    }

    fn stop(&mut self) -> Result<(), String> {
        let Some(handle) = self.handle.take() else { return Ok(()) };
        let stopped = self
            .runtime
            .block_on(async { tokio::time::timeout(Duration::from_secs(15), handle.stop()).await });
        match stopped {
            Ok(_) => Ok(()),
            Err(_) => Err("does not stop within 15 s".into()),
        }
    }
}

/// What was committed must be what a reader finds, topic by topic.
fn in_the_log(runtime: &Runtime, log: &Arc<RecordingLog>, recorded: &[Recorded]) -> Result<(), String> {
    let mut topics: BTreeMap<&str, Vec<&Recorded>> = BTreeMap::new();
    for r in recorded {
        topics.entry(&r.topic).or_default().push(r);
    }
    runtime.block_on(async {
        for (topic, records) in topics {
            let mut reader = log.reader().await.map_err(|e| e.screen())?;
            let partitions =
                log.topic(topic).await.map_err(|e| e.screen())?.map_or(0, |t| t.partitions.len());
            for partition in 0..partitions {
                let at = TopicPartition::new(topic, i32::try_from(partition).unwrap_or(0));
                let start = log.resolve(&at, Position::Earliest).await.map_err(|e| e.screen())?;
                reader.assign(at, start).await.map_err(|e| e.screen())?;
            }
            let mut read = Vec::new();
            while read.len() < records.len() {
                let fetched = reader.poll(16 << 20, Duration::from_secs(2)).await.map_err(|e| e.screen())?;
                if fetched.is_empty() {
                    return Err(format!("topic {topic} holds {} of {} records", read.len(), records.len()));
                }
                read.extend(fetched.iter().map(|r| (r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec))));
            }
            let mut committed: Vec<_> = records.iter().map(|r| (r.key.clone(), r.value.clone())).collect();
            if partitions > 1 {
                read.sort();
                committed.sort();
            }
            if read != committed {
                return Err(format!("topic {topic} holds other records than were committed"));
            }
        }
        Ok(())
    })
}

/// One `runId` a run, a UUID v7.
fn run_ids(recorded: &[Recorded], runs: usize) -> Result<(), String> {
    let mut ids: Vec<String> = recorded
        .iter()
        .flat_map(|r| &r.headers)
        .filter(|(n, _)| n == "__debezium.context.runId")
        .map(|(_, v)| String::from_utf8_lossy(v.as_deref().unwrap_or_default()).into_owned())
        .collect();
    ids.dedup();
    let mut unique = ids.clone();
    unique.sort();
    unique.dedup();
    if unique.len() != ids.len() || unique.len() > runs {
        return Err(format!("{} run ids in {runs} runs, changing {} times", unique.len(), ids.len()));
    }
    match ids.iter().find(|id| id.len() != 36 || id.as_bytes().get(14) != Some(&b'7')) {
        Some(id) => Err(format!("run id {id} is not a UUID v7")),
        None => Ok(()),
    }
}
