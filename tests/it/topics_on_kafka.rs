//! What only a real broker shows: topics and partitions that appear, leader epochs, and that no kill makes a reader see
//! a record that was not committed, or one twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::support::kafka::broker;
use crate::support::place::Place;
use crate::tables::{Sent, send, until, with};

fn config(place: &Place) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", place.url().trim_start_matches("kafka://"));
    config
}

/// Values of a topic of one partition up to its present end, as a consumer of this isolation level reads them.
fn values(place: &Place, topic: &str, isolation: &str) -> Vec<String> {
    let consumer: BaseConsumer = config(place)
        .set("group.id", "reader")
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&partitions).unwrap();
    let mut found = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match consumer.poll(Duration::from_secs(1)) {
            Some(Ok(message)) => found.push(String::from_utf8(message.payload().unwrap().to_vec()).unwrap()),
            Some(Err(KafkaError::PartitionEOF(_))) => return found,
            Some(Err(error)) => println!("{topic}: {error}"),
            None => {}
        }
        assert!(Instant::now() < deadline, "topic {topic} does not come to its end");
    }
}

/// Lines that a process of the place has printed so far.
fn lines(place: &Place) -> Vec<String> {
    let text = std::fs::read_to_string(place.dir.path().join("out.txt")).unwrap_or_default();
    let mut lines: Vec<String> =
        text.lines().filter(|line| line.starts_with("+I[")).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn topics_and_partitions_that_appear_are_read_from_their_start() {
    let Some(url) = broker() else { return };
    let place = Place::on_kafka(url);
    let prefix = format!("t{}", uuid::Uuid::new_v4().simple());
    let (a, b) = (format!("{prefix}.in.a"), format!("{prefix}.in.b"));
    let record = |value: &'static str, partition| [Sent { value, partition, ..Sent::default() }];
    send(&place, &a, 1, &record("{\"id\":1}", 0));
    send(&place, &format!("{prefix}.out"), 1, &record("{\"id\":9}", 0));
    let sql = format!(
        "CREATE TABLE s (id INT, p INT METADATA FROM 'partition' VIRTUAL, tn STRING METADATA FROM 'topic' VIRTUAL, \
         le INT METADATA FROM 'leader-epoch' VIRTUAL) WITH ('connector'='kafka', 'properties.bootstrap.servers'='k:1', \
         'topic-pattern'='{prefix}\\.in\\..*', 'format'='json', 'scan.startup.mode'='latest-offset', \
         'scan.topic-partition-discovery.interval'='100 ms'); SELECT id, p, tn, le >= 0 FROM s;"
    );
    let file = place.file("appear.sql", &sql);
    let running = place.spawn(&["sql", "-f", file.to_str().unwrap()]);
    let comes = |wanted: &[String]| {
        until(&format!("{wanted:?} is not printed"), || (lines(&place) == wanted).then_some(()));
    };
    // It has begun where the known topic ends once it stands there.
    until("the pipeline does not start", || {
        let status = place.output(&["--json", "pipelines", "status", "appear"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        (status["state"] == "RUNNING" && status["behind"] == serde_json::json!([])).then_some(())
    });
    let mut wanted = vec![format!("+I[2, 0, {b}, true]")];
    send(&place, &b, 1, &record("{\"id\":2}", 0));
    comes(&wanted);
    let admin: AdminClient<DefaultClientContext> = config(&place).create().unwrap();
    let (wanted_of_a, options) = ([NewPartitions::new(&a, 2)], AdminOptions::new());
    let grown = admin.create_partitions(&wanted_of_a, &options);
    tokio::runtime::Runtime::new().unwrap().block_on(grown).unwrap().pop().unwrap().unwrap();
    send(&place, &a, 2, &record("{\"id\":3}", 1));
    wanted.push(format!("+I[3, 1, {a}, true]"));
    comes(&wanted);
    place.ok(&["pipelines", "stop", "appear"]);
    assert!(running.ended());
}

/// What lies behind an open transaction is no end: `--until-idle` waits for it, and says what it waits for.
#[test]
fn an_open_transaction_is_waited_for() {
    let Some(url) = broker() else { return };
    let place = Place::on_kafka(url);
    let topic = format!("t{}", uuid::Uuid::new_v4().simple());
    let record = |value: &'static str| [Sent { value, ..Sent::default() }];
    send(&place, &topic, 1, &record("{\"id\":1}"));
    let open: BaseProducer = config(&place).set("transactional.id", &topic).create().unwrap();
    let patience = Duration::from_secs(30);
    open.init_transactions(patience).unwrap();
    open.begin_transaction().unwrap();
    open.send(BaseRecord::<str, str>::to(&topic).payload("{\"id\":2}")).unwrap();
    open.flush(patience).unwrap();
    let plain: BaseProducer = config(&place).create().unwrap();
    plain.send(BaseRecord::<str, str>::to(&topic).payload("{\"id\":3}")).unwrap();
    plain.flush(patience).unwrap();
    let from = with(&topic, ", 'format'='json', 'scan.startup.mode'='earliest-offset'");
    let file = place.file("p.sql", &format!("CREATE TABLE s (id INT) {from}; SELECT id FROM s;"));
    let running = place.spawn(&["sql", "-f", file.to_str().unwrap(), "--until-idle", "200ms"]);
    let waiting = until("it does not say what it waits for", || {
        let status = place.output(&["--json", "pipelines", "status", "p"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        (status["state"] == "WAITING").then(|| status["causes"][0].to_string())
    });
    let wanted = format!("topic {topic}, partition 0: a transaction that is not committed yet holds back");
    assert!(waiting.contains(&wanted), "{waiting}");
    assert_eq!(lines(&place), ["+I[1]"]);
    open.commit_transaction(patience).unwrap();
    assert!(running.ended());
    assert_eq!(lines(&place), ["+I[1]", "+I[2]", "+I[3]"]);
}

/// All three guarantees are kept as the strongest.
#[test]
fn no_kill_shows_a_record_twice_or_one_that_was_not_committed() {
    let Some(url) = broker() else { return };
    let prefix = format!("t{}", uuid::Uuid::new_v4().simple());
    let texts: Vec<String> = (0..2000).map(|id| format!("{{\"id\":{id}}}")).collect();
    let sent: Vec<Sent<'_>> = texts.iter().map(|value| Sent { value, ..Sent::default() }).collect();
    let source = format!("{prefix}-source");
    send(&Place::on_kafka(url.clone()), &source, 1, &sent);
    for guarantee in ["none", "at-least-once", "exactly-once"] {
        let place = Place::on_kafka(url.clone());
        let topic = format!("{prefix}-{guarantee}");
        send(&place, &topic, 1, &[]);
        let from = with(&source, ", 'format'='json', 'scan.startup.mode'='earliest-offset'");
        let to = with(
            &topic,
            &format!(
                ", 'format'='json', 'sink.delivery-guarantee'='{guarantee}', \
                 'sink.transactional-id-prefix'='{prefix}', 'properties.transaction.timeout.ms'='60000'"
            ),
        );
        let sql = format!(
            "SET 'pipeline.name' = '{topic}'; CREATE TABLE s (id INT) {from}; CREATE TABLE d (id INT) {to}; \
             INSERT INTO d SELECT id FROM s;"
        );
        let file = place.file("copy.sql", &sql);
        let args = ["sql", "-f", file.to_str().unwrap(), "--until-idle", "200ms"];
        // The first transaction of a start claims the fence; the epoch's is open with all its records when the process
        // dies. Then again, and when the target holds it and the state does not know.
        for death in ["kafka.before_commit=abort@2", "kafka.before_commit=abort@2", "sink.after_write=abort"]
        {
            let output = place.command(&args).env("MILLSTREAM_FAILPOINTS", death).output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), None, "{guarantee}, {death}: {errors}");
        }
        place.ok(&args);
        let once: BTreeMap<&String, usize> = texts.iter().map(|text| (text, 1)).collect();
        let count = |values: &[String]| {
            let mut count: BTreeMap<String, usize> = BTreeMap::new();
            values.iter().for_each(|value| *count.entry(value.clone()).or_default() += 1);
            count
        };
        // A transaction shows a moment after its commit.
        let committed = until(&format!("{guarantee}: not all records are there"), || {
            Some(values(&place, &topic, "read_committed")).filter(|found| found.len() >= texts.len())
        });
        let found = count(&committed);
        assert!(
            found.iter().map(|(value, n)| (value, *n)).eq(once),
            "{guarantee}: {} records, {} of them different",
            committed.len(),
            found.len()
        );
        // What died in its transaction is there for those who read everything.
        let all = values(&place, &topic, "read_uncommitted");
        assert!(all.len() >= 2 * texts.len(), "{guarantee}: {} records, nothing was torn", all.len());
    }
}
