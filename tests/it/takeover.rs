//! Offsets that the real Debezium wrote: a connector goes on from each of them at the right event.
//!
//! The recorded cases hold the offset of every event. The same changes are made on a server of our own; an offset
//! is written into the offsets topic as Debezium wrote it, with our server's LSNs in the place of the recorded
//! ones, beside the topics as they were then.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream::capture::{Connector, Env, offsets};
use millstream::config::ConnectorConfig;
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::log::{Batch, Log, OpenOptions};
use serde_json::{Value, json};

use crate::capture::{Seen, read_topic};

const OFFSETS_TOPIC: &str = "millstream-offsets";

/// A recorded event: where it went, and its source's LSN (none for a tombstone).
#[derive(Clone, Debug, PartialEq)]
struct Event {
    topic: String,
    key: Value,
    op: String,
    lsn: Option<u64>,
}

fn without_schema(value: &Value) -> Value {
    value.get("payload").unwrap_or(value).clone()
}

fn event(topic: &str, key: &Value, value: &Value) -> Event {
    let value = without_schema(value);
    Event {
        topic: topic.to_owned(),
        key: without_schema(key),
        op: value["op"].as_str().unwrap_or("tombstone").to_owned(),
        lsn: value["source"]["lsn"].as_u64(),
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

struct Case {
    dir: PathBuf,
    name: String,
    server: TemporaryPostgres,
    config: BTreeMap<String, String>,
}

impl Case {
    fn new(case: &str) -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/debezium").join(case);
        let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
        let connector = std::fs::read_to_string(dir.join("connector.json")).unwrap();
        let connector =
            connector.replace("${PGHOST}", "127.0.0.1").replace("${PGPORT}", &server.port().to_string());
        let (name, mut config) = millstream::config::connector::parse_json(&connector, None).unwrap();
        config.insert("snapshot.mode".into(), "no_data".into());
        config.insert("publication.autocreate.mode".into(), "disabled".into());
        config.insert("key.converter.schemas.enable".into(), "false".into());
        config.insert("value.converter.schemas.enable".into(), "false".into());
        Self { dir, name, server, config }
    }

    fn sql(&self, sql: &str) {
        self.server.psql(&self.config["database.dbname"], sql).unwrap();
    }

    /// Runs the connector on a log from what its offsets topic says, through a slot of its own.
    async fn run(&self, log: &Arc<dyn Log>) {
        let slot = self.config.get("slot.name").map_or("debezium", String::as_str);
        self.sql(&format!("select pg_copy_logical_replication_slot('base', '{slot}')"));
        let config = ConnectorConfig::from_map(&self.name, self.config.clone()).unwrap();
        let handle = Connector::start(config, Env::new(Arc::clone(log), &self.name)).unwrap();
        tokio::time::timeout(Duration::from_secs(30), handle.caught_up()).await.unwrap().unwrap();
        handle.stop().await;
        self.sql(&format!("select pg_drop_replication_slot('{slot}')"));
    }
}

async fn open(dir: &Path) -> Arc<dyn Log> {
    let url = format!("file:{}", dir.display());
    millstream::log::open(&url, &OpenOptions::default()).await.unwrap()
}

/// All events of a log's topics in the order of their LSNs; a tombstone stays behind its delete.
async fn events(log: &Arc<dyn Log>, topics: &[String]) -> Vec<(Event, Seen)> {
    let mut all = Vec::new();
    for topic in topics {
        let mut last = 0;
        for seen in read_topic(log, topic).await {
            let null = Value::Null;
            let event =
                event(topic, seen.key.as_ref().unwrap_or(&null), seen.value.as_ref().unwrap_or(&null));
            last = event.lsn.unwrap_or(last);
            all.push((last, event, seen));
        }
    }
    all.sort_by_key(|(lsn, _, _)| *lsn);
    all.into_iter().map(|(_, event, seen)| (event, seen)).collect()
}

async fn write_events<'e>(log: &Arc<dyn Log>, events: impl Iterator<Item = &'e (Event, Seen)>) {
    let mut writer = log.writer("earlier").await.unwrap();
    let mut batch = Batch::new();
    for (event, seen) in events {
        let topic = batch.topic(&event.topic);
        let mut record = batch.record(topic);
        if let Some(key) = &seen.key {
            record.key(|out| out.extend_from_slice(key.to_string().as_bytes()));
        }
        if let Some(value) = &seen.value {
            record.value(|out| out.extend_from_slice(value.to_string().as_bytes()));
        }
        record.finish();
    }
    writer.commit(batch).await.unwrap();
}

/// The offset with our LSNs and transaction ids; none where it names one that no event has.
fn translated(offset: &Value, lsns: &HashMap<u64, u64>, xids: &HashMap<u64, u64>) -> Option<Value> {
    let mut offset = offset.as_object()?.clone();
    for field in ["lsn", "lsn_proc", "lsn_commit"] {
        if let Some(old) = offset.get(field).and_then(Value::as_u64) {
            offset.insert(field.to_owned(), json!(lsns.get(&old)?));
        }
    }
    if let Some(old) = offset.get("txId").and_then(Value::as_u64) {
        offset.insert("txId".to_owned(), json!(xids.get(&old)?));
    }
    Some(Value::Object(offset))
}

/// Goes on from every n-th offset of a case; says from how many.
async fn goes_on(case: &str, every: usize) -> usize {
    let case = Case::new(case);
    let database = &case.config["database.dbname"];
    case.server.psql("postgres", &format!("create database {database}")).unwrap();
    case.sql(&std::fs::read_to_string(case.dir.join("setup.sql")).unwrap());
    let publication = case.config.get("publication.name").map_or("dbz_publication", String::as_str);
    case.sql(&format!(
        "create publication {publication} for all tables; \
         select pg_create_logical_replication_slot('base', 'pgoutput')"
    ));
    case.sql(&std::fs::read_to_string(case.dir.join("changes.sql")).unwrap());

    // What was recorded: the events of the stream, each with its offset.
    let recorded: Vec<(Event, Value, Value)> = lines(&case.dir.join("expected.jsonl"))
        .iter()
        .zip(lines(&case.dir.join("offsets.jsonl")))
        .filter(|(_, offset)| offset["offset"].get("messageType").is_some())
        .map(|(record, offset)| {
            let topic = record["topic"].as_str().unwrap();
            (event(topic, &record["key"], &record["value"]), record["value"].clone(), offset)
        })
        .collect();
    let mut topics: Vec<String> = recorded.iter().map(|(event, _, _)| event.topic.clone()).collect();
    topics.sort();
    topics.dedup();

    // The same events of our own server, from the beginning.
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir.path().join("all")).await;
    case.run(&log).await;
    let ours = events(&log, &topics).await;
    assert_eq!(ours.len(), recorded.len());
    // Theirs come as they were sent: what commits later may stand before it in the WAL. A tombstone has its delete's LSN.
    let sent_at = recorded.iter().scan(0, |last, (event, _, _)| {
        *last = event.lsn.unwrap_or(*last);
        Some(*last)
    });
    let mut sent: Vec<(u64, usize)> = sent_at.zip(0..).collect();
    sent.sort_by_key(|(lsn, _)| *lsn);
    let mut of_ours: Vec<usize> = vec![0; ours.len()];
    for (at, (_, number)) in sent.iter().enumerate() {
        of_ours[*number] = at;
    }
    let (mut lsns, mut xids) = (HashMap::new(), HashMap::new());
    for ((theirs, value, _), at) in recorded.iter().zip(&of_ours) {
        let (event, seen) = &ours[*at];
        assert_eq!((&theirs.topic, &theirs.key, &theirs.op), (&event.topic, &event.key, &event.op));
        let xid = |value: &Value| without_schema(value)["source"]["txId"].as_u64();
        if let (Some(theirs), Some(ours)) = (theirs.lsn, event.lsn) {
            lsns.insert(theirs, ours);
        }
        if let (Some(theirs), Some(ours)) = (xid(value), seen.value.as_ref().and_then(xid)) {
            xids.insert(theirs, ours);
        }
    }

    let mut tried = 0;
    for (number, (_, _, line)) in recorded.iter().enumerate() {
        // The events of one change have one offset: the last of them counts.
        if number % every > 0 || recorded.get(number + 1).is_some_and(|(_, _, next)| next == line) {
            continue;
        }
        let Some(offset) = translated(&line["offset"], &lsns, &xids) else { continue };
        let log = open(&dir.path().join(format!("from-{number}"))).await;
        write_events(&log, of_ours[..=number].iter().map(|at| &ours[*at])).await;
        let written = [(line["partition"].clone(), Some(offset))];
        offsets::write(&log, OFFSETS_TOPIC, "debezium", &case.name, &written).await.unwrap();
        case.run(&log).await;
        let seen: Vec<Event> = events(&log, &topics).await.into_iter().map(|(event, _)| event).collect();
        let all: Vec<Event> = ours.iter().map(|(event, _)| event.clone()).collect();
        assert_eq!(seen, all, "{}, after event {number}: {line}", case.name);
        tried += 1;
    }
    tried
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_table_with_every_kind_of_change() {
    assert_eq!(goes_on("01-tutorial-crud", 1).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_tables_of_every_replica_identity() {
    assert!(goes_on("12-replica-identity", 5).await > 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn within_transactions_and_of_messages() {
    assert!(goes_on("15-truncate-and-messages", 2).await > 3);
}
