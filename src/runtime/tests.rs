use std::time::Duration;

use async_trait::async_trait;

use super::testing::{World, create, plan, table, upsert_topic};
use super::*;
use crate::Kind;
use crate::demo::postgres::{PostgresOptions, TemporaryPostgres};
use crate::engine::plan::Op;
use crate::log::{Log, LogReader, LogWriter, Position, TopicInfo, TopicPartition, TopicSpec};

#[tokio::test(flavor = "multi_thread")]
async fn changes_go_from_topic_to_sinks_and_a_restart_goes_on() {
    let mut world = World::new().await;
    let plan = plan(&[upsert_topic(), table("out", &[("connector", "print"), ("print-identifier", "out")])]);
    world.send(&[&create(1, "a"), &create(2, "b")]).await;
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    assert_eq!(world.read("copy").await, [r#"{"id":1,"name":"a"}"#, r#"{"id":2,"name":"b"}"#]);
    world.send(&[r#"{"before":{"id":2,"name":"b"},"after":null,"op":"d"}"#]).await;
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    assert_eq!(pipeline.status().phase, Phase::Running);
    pipeline.stop().await.unwrap();

    world.send(&[&create(3, "c")]).await;
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    assert_eq!(pipeline.status().records, 1);
    pipeline.stop().await.unwrap();
    let copied = [r#"{"id":1,"name":"a"}"#, r#"{"id":2,"name":"b"}"#, "null", r#"{"id":3,"name":"c"}"#];
    assert_eq!(world.read("copy").await, copied);
    let printed = ["out> +I[1, a]", "out> +I[2, b]", "out> -D[2, b]", "out> +I[3, c]"];
    assert_eq!(*world.printed.lock(), printed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_decoded_stops_it_right_there() {
    let mut world = World::new().await;
    let plan = plan(&[upsert_topic()]);
    world.send(&[&create(1, "a"), r#"{"id":2}"#, &create(3, "c")]).await;
    for _ in 0..2 {
        let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
        let error = pipeline.wait().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Data);
        assert!(error.what().contains("topic orders, partition 0, offset 1"), "{error}");
        assert_eq!(pipeline.status().phase, Phase::Failed);
        assert_eq!(world.read("copy").await, [r#"{"id":1,"name":"a"}"#]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_an_error_or_is_waited_for() {
    let mut world = World::new().await;
    let plan = plan(&[table("out", &[("connector", "print")])]);
    world.log.create_topic(&crate::log::TopicSpec::new("order")).await.unwrap();
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    let error = pipeline.wait().await.unwrap_err();
    assert!(error.screen().contains("topic orders does not exist"), "{error}");
    assert!(error.screen().contains("did you mean order?"), "{error}");
    drop(pipeline);

    let environment = Environment { wait_for_topics: true, ..world.environment() };
    let pipeline = Pipeline::start(&plan, "p", environment).await.unwrap();
    while pipeline.status().phase != Phase::Waiting {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(pipeline.status().causes[0].contains("orders"));
    world.send(&[&create(1, "a")]).await;
    pipeline.idle(Duration::from_millis(400)).await.unwrap();
    assert_eq!(*world.printed.lock(), ["+I[1, a]"]);
    pipeline.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_and_new_states_do_not_write_over_a_target() {
    let mut world = World::new().await;
    let plan = plan(&[upsert_topic()]);
    world.send(&[&create(1, "a")]).await;
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    let second = Pipeline::start(&plan, "p", world.environment()).await.unwrap_err();
    assert!(second.screen().contains("in use"), "{second}");
    pipeline.stop().await.unwrap();

    // A data directory that knows nothing of the target.
    let other = tempfile::tempdir().unwrap();
    let elsewhere = Environment { data: other.path().into(), ..world.environment() };
    let error = Pipeline::start(&plan, "p", elsewhere.clone()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    assert!(error.screen().contains("pipelines reset"), "{error}");
    // Asked for, it takes the target over, and then the first directory is the stale one.
    let fresh = Environment { fresh: true, ..elsewhere };
    let pipeline = Pipeline::start(&plan, "p", fresh).await.unwrap();
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    pipeline.stop().await.unwrap();
    assert_eq!(world.read("copy").await, [r#"{"id":1,"name":"a"}"#, r#"{"id":1,"name":"a"}"#]);
    let error = Pipeline::start(&plan, "p", world.environment()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_query_does_not_read_the_state() {
    let mut world = World::new().await;
    world.send(&[&create(1, "a")]).await;
    let first = plan(&[table("out", &[("connector", "print")])]);
    Pipeline::start(&first, "p", world.environment()).await.unwrap().stop().await.unwrap();
    let second = plan(&[upsert_topic()]);
    let error = Pipeline::start(&second, "p", world.environment()).await.unwrap_err();
    assert!(error.screen().contains("the SQL has changed"), "{error}");
    // Another address or password is no other query.
    let mut moved = first.clone();
    let Op::Source(table) = &mut moved.nodes[0].op else { panic!() };
    table.options.insert("properties.bootstrap.servers".into(), "elsewhere:9092".into());
    Pipeline::start(&moved, "p", world.environment()).await.unwrap().stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bounded_inputs_finish() {
    let mut world = World::new().await;
    world.send(&[&create(1, "a"), &create(2, "b")]).await;
    let mut plan = plan(&[table("out", &[("connector", "print")])]);
    let Op::Source(source) = &mut plan.nodes[0].op else { panic!() };
    source.options.insert("scan.bounded.mode".into(), "latest-offset".into());
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    assert_eq!(pipeline.wait().await.unwrap(), Phase::Finished);
    assert_eq!(world.printed.lock().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_start_waits_for_its_target() {
    let mut world = World::new().await;
    let free = crate::demo::postgres::free_port().unwrap();
    let url = format!("jdbc:postgresql://127.0.0.1:{free}/postgres");
    let target =
        table("t", &[("connector", "jdbc"), ("url", &url), ("table-name", "t"), ("username", "postgres")]);
    let plan = plan(&[target]);
    world.send(&[&create(1, "a")]).await;
    let error = Pipeline::start(&plan, "p", world.environment()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Transient, "{error}");
    let patient = Environment { patient: true, ..world.environment() };
    let pipeline = Pipeline::start(&plan, "p", patient).await.unwrap();
    while pipeline.status().phase != Phase::Retrying {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(pipeline.status().causes[0].contains(&free.to_string()), "{:?}", pipeline.status().causes);
    pipeline.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_began_is_kept_though_nothing_came() {
    let mut world = World::new().await;
    let mut plan = plan(&[table("out", &[("connector", "print")])]);
    let Op::Source(source) = &mut plan.nodes[0].op else { panic!() };
    source.options.insert("scan.startup.mode".into(), "latest-offset".into());
    world.send(&[&create(1, "a")]).await;
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    pipeline.idle(Duration::from_millis(50)).await.unwrap();
    let control = pipeline.control();
    pipeline.stop().await.unwrap();
    assert_eq!(control.status().positions.values().collect::<Vec<_>>(), [&1]);
    // While it is down.
    world.send(&[&create(2, "b")]).await;
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    pipeline.stop().await.unwrap();
    assert_eq!(*world.printed.lock(), ["+I[2, b]"]);
}

/// A start that writes what an interrupted run left, into a table that somebody else holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_for_its_target_can_be_stopped() {
    let mut server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let url = format!("jdbc:postgresql://127.0.0.1:{}/postgres", server.port());
    let target =
        table("t", &[("connector", "jdbc"), ("url", &url), ("table-name", "t"), ("username", "postgres")]);
    let plan = plan(&[target]);
    let mut world = World::new().await;
    world.send(&[&create(1, "a")]).await;
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    server.stop(true).unwrap();
    world.send(&[&create(2, "b")]).await;
    while pipeline.status().phase != Phase::Retrying {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    pipeline.stop().await.unwrap();

    server.boot().unwrap();
    let database = crate::pg::connect(&server.url("postgres").parse().unwrap()).await.unwrap();
    database.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    let patient = Environment { patient: true, ..world.environment() };
    let pipeline = Pipeline::start(&plan, "p", patient).await.unwrap();
    let waits = "SELECT 1 FROM pg_locks WHERE relation = 't'::regclass AND NOT granted";
    while database.query(waits, &[]).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(pipeline.status().phase, Phase::Starting);
    let control = pipeline.control();
    pipeline.stop().await.unwrap();
    assert_eq!(control.status().phase, Phase::Stopped);
    // What it left is written by the next one.
    database.batch_execute("COMMIT").await.unwrap();
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    pipeline.stop().await.unwrap();
    assert_eq!(
        server.psql("postgres", "SELECT string_agg(name, '' ORDER BY id) FROM t").unwrap().trim(),
        "ab"
    );
}

/// Records that give very many rows come out in more than one epoch, and each row once.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_gives_very_many_rows_is_several_epochs() {
    let mut world = World::new().await;
    let (records, each) = (300, 1_000);
    let numbers: Vec<String> = (0..each).map(|n| n.to_string()).collect();
    let record = format!("{{\"id\":1,\"n\":[{}]}}", numbers.join(","));
    world.send(&vec![record.as_str(); records]).await;
    let sql = "CREATE TABLE orders (id INT, n ARRAY<INT>) WITH ('connector'='kafka', 'topic'='orders', \
        'properties.bootstrap.servers'='k:1', 'format'='json', 'scan.startup.mode'='earliest-offset', \
        'scan.bounded.mode'='latest-offset'); CREATE TABLE nowhere (id INT, n INT) WITH ('connector'='blackhole'); \
        INSERT INTO nowhere SELECT id, x FROM orders CROSS JOIN UNNEST(n) AS u (x);";
    let job = job::Job::from_text(sql, "p", "the test").unwrap();
    let (watcher, mut hops) = tokio::sync::mpsc::channel(1_000);
    let environment = Environment { watcher: Some(watcher), ..world.environment() };
    let pipeline = Pipeline::start(&job.script.plan, "p", environment).await.unwrap();
    assert_eq!(pipeline.wait().await.unwrap(), Phase::Finished);
    let (mut epochs, mut places) = (Vec::new(), Vec::new());
    while let Ok(hop) = hops.try_recv() {
        match hop {
            Hop::State { positions, .. } => places.extend(positions.values().copied()),
            Hop::Sink { rows, .. } => epochs.push(rows),
        }
    }
    assert_eq!(epochs.iter().sum::<u64>(), 300_000);
    assert!(epochs.len() > 2 && epochs.iter().all(|rows| *rows < 150_000), "{epochs:?}");
    assert!(places.iter().any(|next| *next > 0 && *next < 300), "{places:?}");
}

/// A log that once does not answer where a partition begins.
struct Hiccup {
    log: std::sync::Arc<dyn Log>,
    asked: std::sync::atomic::AtomicU32,
}

#[async_trait]
impl Log for Hiccup {
    fn describe(&self) -> String {
        self.log.describe()
    }

    async fn create_topic(&self, spec: &TopicSpec) -> crate::Result<bool> {
        self.log.create_topic(spec).await
    }

    async fn topics(&self) -> crate::Result<Vec<String>> {
        self.log.topics().await
    }

    async fn topic(&self, name: &str) -> crate::Result<Option<TopicInfo>> {
        self.log.topic(name).await
    }

    async fn delete_topic(&self, name: &str) -> crate::Result<bool> {
        self.log.delete_topic(name).await
    }

    async fn resolve(&self, at: &TopicPartition, position: Position) -> crate::Result<i64> {
        match self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            1 => Err(crate::Error::transient("a leader is being elected")),
            _ => self.log.resolve(at, position).await,
        }
    }

    async fn writer(&self, transactional_id: &str) -> crate::Result<Box<dyn LogWriter>> {
        self.log.writer(transactional_id).await
    }

    async fn reader(&self) -> crate::Result<Box<dyn LogReader>> {
        self.log.reader().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hiccup_in_the_first_look_changes_no_beginning() {
    let mut world = World::new().await;
    world.log.create_topic(&TopicSpec::new("orders").partitions(2)).await.unwrap();
    // Without keys they go round.
    world.send(&[&create(1, "a"), &create(2, "b"), &create(3, "c"), &create(4, "d")]).await;
    let log = std::sync::Arc::clone(&world.log);
    let log = std::sync::Arc::new(Hiccup { log, asked: std::sync::atomic::AtomicU32::new(0) });
    let mut plan = plan(&[table("out", &[("connector", "print")])]);
    let Op::Source(source) = &mut plan.nodes[0].op else { panic!() };
    source.options.insert("scan.startup.mode".into(), "latest-offset".into());
    let environment = Environment { log: std::sync::Arc::clone(&log) as _, ..world.environment() };
    let pipeline = Pipeline::start(&plan, "p", environment).await.unwrap();
    pipeline.idle(Duration::from_millis(100)).await.unwrap();
    assert!(log.asked.load(std::sync::atomic::Ordering::Relaxed) >= 3, "it was not asked again");
    assert_eq!(pipeline.status().begins.len(), 2);
    pipeline.stop().await.unwrap();
    assert!(world.printed.lock().is_empty(), "{:?}", world.printed.lock());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_topic_may_go_and_come_again() {
    let mut world = World::new().await;
    let options = |dead: Option<&str>| {
        let mut plan = plan(&[table("out", &[("connector", "print")])]);
        let Op::Source(source) = &mut plan.nodes[0].op else { panic!() };
        source.options.insert("debezium-json.ignore-parse-errors".into(), "true".into());
        source.options.extend(dead.map(|topic| ("millstream.dead-letter.topic".into(), topic.into())));
        plan
    };
    for (round, dead) in
        [Some("dead"), None, Some("other"), Some("dead"), None, Some("dead")].iter().enumerate()
    {
        world.send(&["{broken", &create(1, "a")]).await;
        let pipeline = Pipeline::start(&options(*dead), "p", world.environment()).await;
        let pipeline = pipeline.unwrap_or_else(|error| panic!("{round}: {error}"));
        pipeline.caught_up(world.log.as_ref()).await.unwrap();
        pipeline.stop().await.unwrap();
        if round == 2 {
            // Another life: what it left in the topic is nobody's epoch any more.
            super::saved::reset(world.dir.path(), "p").unwrap();
        }
    }
    assert_eq!(world.printed.lock().len(), 3 + 6);
}

/// Versions of a row are what temporal joins with a topic look for; a batch and a buffer are for fewer writes.
#[tokio::test(flavor = "multi_thread")]
async fn an_upsert_topic_has_every_version_unless_fewer_writes_are_asked_for() {
    const BATCH: &str = "SET 'table.exec.mini-batch.enabled'='true'; SET 'table.exec.mini-batch.size'='100'; \
        SET 'table.exec.mini-batch.allow-latency'='1 s';";
    const BUFFER: &str = ", 'sink.buffer-flush.max-rows'='10', 'sink.buffer-flush.interval'='1 s'";
    for (settings, options, records) in [("", "", 3), (BATCH, "", 2), ("", BUFFER, 2)] {
        let world = World::new().await;
        let sql = format!(
            "{settings} CREATE TABLE rates (cur STRING, rate INT, PRIMARY KEY (cur) NOT ENFORCED) WITH ( \
             'connector'='upsert-kafka', 'topic'='copy', 'properties.bootstrap.servers'='x', 'key.format'='json', \
             'value.format'='json'{options}); \
             INSERT INTO rates VALUES ('EUR', 1), ('EUR', 2), ('USD', 3);"
        );
        let job = job::Job::from_text(&sql, "p", "the test").unwrap();
        let pipeline = Pipeline::start(&job.script.plan, "p", world.environment()).await.unwrap();
        assert_eq!(pipeline.wait().await.unwrap(), Phase::Finished);
        let written = world.read("copy").await;
        assert_eq!(written.len(), records, "{settings}{options}: {written:?}");
    }
}

/// As in Flink a generator's columns are made whether the query reads them or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_is_not_read_ends_the_job() {
    let world = World::new().await;
    let sql = "CREATE TABLE g (id INT, name STRING) WITH ('connector'='datagen', 'fields.id.kind'='sequence', \
        'fields.id.start'='1', 'fields.id.end'='3'); CREATE TABLE o (name STRING) WITH ('connector'='print'); \
        INSERT INTO o SELECT name FROM g;";
    let job = job::Job::from_text(sql, "p", "the test").unwrap();
    let pipeline = Pipeline::start(&job.script.plan, "p", world.environment()).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), pipeline.wait()).await.unwrap();
    assert_eq!((ended.unwrap(), world.printed.lock().len()), (Phase::Finished, 3));
}

/// A line end within quotes is none, and those of Windows are none of the value.
#[tokio::test(flavor = "multi_thread")]
async fn lines_of_files() {
    let world = World::new().await;
    let read = async |format: &str, columns: &str, text: &str| {
        let file = world.dir.path().join("lines.txt");
        std::fs::write(&file, text).unwrap();
        let sql = format!(
            "CREATE TABLE f ({columns}) WITH ('connector'='filesystem', 'path'='{}', {format}); \
             CREATE TABLE o ({columns}) WITH ('connector'='print'); INSERT INTO o SELECT * FROM f;",
            file.display()
        );
        let job = job::Job::from_text(&sql, "p", "the test").unwrap();
        let fresh = Environment { fresh: true, ..world.environment() };
        let pipeline = Pipeline::start(&job.script.plan, "p", fresh).await.unwrap();
        assert_eq!(pipeline.wait().await.unwrap(), Phase::Finished);
        std::mem::take(&mut *world.printed.lock())
    };
    let text = "1,\"two\nlines \"\"said\"\" \"\r\n2,5\" pipe\r\n3,\"x\"";
    let rows = read("'format'='csv'", "id INT, t STRING", text).await;
    assert_eq!(rows, ["+I[1, two\nlines \"said\" ]", "+I[2, 5\" pipe]", "+I[3, x]"]);
    let rows = read("'format'='csv'", "id INT, t STRING", "1,\"a\r\nb\r\n\"\r\n2,c\r\n").await;
    assert_eq!(rows, ["+I[1, a\r\nb\r\n]", "+I[2, c]"]);
    let text = "1\u{1}\"two\nlines\"\n2\u{1}c\n";
    let rows = read("'format'='csv', 'csv.field-delimiter'='\\u0001'", "id INT, t STRING", text).await;
    assert_eq!(rows, ["+I[1, two\nlines]", "+I[2, c]"]);
    let rows = read("'format'='raw'", "t STRING", "a\r\nb\nc\r").await;
    assert_eq!(rows, ["+I[a]", "+I[b]", "+I[c\r]"]);
}

/// A partition gets its file when it is complete, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_files_are_committed() {
    let mut world = World::new().await;
    let out = world.dir.path().join("out");
    let sql = |bounded: &str, options: &str| {
        format!(
            "CREATE TABLE orders (id INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector'='kafka', 'topic'='orders', \
             'properties.bootstrap.servers'='k:1', 'format'='json', 'scan.startup.mode'='earliest-offset'{bounded}); \
             CREATE TABLE files (id INT, dt STRING, h STRING) PARTITIONED BY (dt, h) WITH ('connector'='filesystem', \
             'path'='{}', 'format'='csv', 'sink.rolling-policy.rollover-interval'='1 h', \
             'sink.partition-commit.policy.kind'='success-file'{options}); \
             INSERT INTO files SELECT id, DATE_FORMAT(ts, 'yyyy-MM-dd'), DATE_FORMAT(ts, 'HH') FROM orders;",
            out.display()
        )
    };
    let event = |id: u32, time: &str| format!(r#"{{"id":{id},"ts":"2026-03-01 {time}"}}"#);
    let committed = |hour: &str| {
        let folder = out.join("dt=2026-03-01").join(format!("h={hour}"));
        let names = std::fs::read_dir(&folder).into_iter().flatten();
        let names: Vec<String> = names.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        let done = names.iter().any(|name| name == "_SUCCESS");
        // What it says is complete can be read.
        assert!(!done || names.iter().any(|name| name.starts_with("part-")), "{names:?}");
        done
    };
    let start = async |sql: String, world: &World| {
        let job = job::Job::from_text(&sql, "p", "the test").unwrap();
        Pipeline::start(&job.script.plan, "p", world.environment()).await.unwrap()
    };
    let by_time = ", 'sink.partition-commit.trigger'='partition-time', 'sink.partition-commit.delay'='1 h', \
                   'partition.time-extractor.timestamp-pattern'='$dt $h:00:00'";
    world.send(&[&event(1, "07:10:00"), &event(2, "08:00:00")]).await;
    let pipeline = start(sql("", by_time), &world).await;
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // The watermark is at the end of the first hour, not behind it.
    assert!(!committed("07") && !committed("08"));
    world.send(&[&event(3, "08:00:01")]).await;
    let begun = std::time::Instant::now();
    while !committed("07") {
        assert!(begun.elapsed() < Duration::from_secs(20), "not committed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!committed("08"));
    pipeline.stop().await.unwrap();
    assert!(!committed("08"));
    // At the end all of it is there.
    let pipeline = start(sql(", 'scan.bounded.mode'='latest-offset'", by_time), &world).await;
    assert_eq!(pipeline.wait().await.unwrap(), Phase::Finished);
    let begun = std::time::Instant::now();
    while !committed("08") {
        assert!(begun.elapsed() < Duration::from_secs(20), "not committed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // By the clock.
    world.send(&[&event(4, "09:00:00")]).await;
    let pipeline = start(sql("", ", 'sink.partition-commit.delay'='1 s'"), &world).await;
    let begun = std::time::Instant::now();
    while !committed("09") {
        assert!(begun.elapsed() < Duration::from_secs(20), "not committed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(900));
    pipeline.stop().await.unwrap();
    for (options, wanted) in [
        (", 'sink.partition-commit.policy.kind'='metastore,success-file'", "metastore"),
        (", 'sink.partition-commit.trigger'='now'", "process-time, partition-time"),
        (", 'sink.partition-commit.delay'='soon'", "2 h"),
    ] {
        let sql = sql("", options).replacen(
            "'sink.partition-commit.policy.kind'='success-file', 'sink.partition-commit.policy.kind'",
            "'sink.partition-commit.policy.kind'",
            1,
        );
        let error = match job::Job::from_text(&sql, "q", "the test") {
            Ok(job) => Pipeline::start(&job.script.plan, "q", world.environment()).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(error.screen().contains(wanted), "{error}");
    }
}
