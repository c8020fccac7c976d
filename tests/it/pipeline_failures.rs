//! What happens to a running pipeline when something that it needs goes away, changes, refuses it or sends what cannot
//! be read: a named state with its cause and next step, where the user looks; and what can heal by itself does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::log::{Batch, Log, LogWriter, OpenOptions, TopicSpec};
use millstream::runtime::job::Job;
use millstream::runtime::{Environment, Phase, Pipeline, PipelineHandle};
use millstream::sink::print::PrintTarget;

use crate::support::kafka::{USER, broker, guarded, proxied};
use crate::support::place::Place;
use crate::support::proxy::{Mode, Proxy};

/// A log, a data directory, and what pipelines print.
pub struct World {
    pub dir: tempfile::TempDir,
    pub log: Arc<dyn Log>,
    writer: Box<dyn LogWriter>,
    printed: Arc<parking_lot::Mutex<Vec<String>>>,
}

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file:{}", dir.path().join("log").display());
        Self::on(&url, dir).await
    }

    pub async fn on(url: &str, dir: tempfile::TempDir) -> Self {
        let log = millstream::log::open(url, &OpenOptions::default()).await.unwrap();
        let writer = log.writer(&format!("test-{}", uuid::Uuid::new_v4())).await.unwrap();
        Self { dir, log, writer, printed: Arc::default() }
    }

    /// Another data directory on the same log.
    pub async fn beside(other: &Self) -> Self {
        let writer = other.log.writer("beside").await.unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            log: Arc::clone(&other.log),
            writer,
            printed: Arc::default(),
        }
    }

    pub fn writer(&mut self) -> &mut dyn LogWriter {
        self.writer.as_mut()
    }

    pub async fn send(&mut self, topic: &str, values: &[&[u8]]) {
        let mut batch = Batch::new();
        let id = batch.topic(topic);
        for value in values {
            let mut record = batch.record(id);
            record.partition(0).value(|out| out.extend_from_slice(value));
            record.finish();
        }
        self.writer.commit(batch).await.unwrap();
    }

    pub fn environment(&self) -> Environment {
        let print = PrintTarget::Capture(Arc::clone(&self.printed));
        Environment { print, ..Environment::new(Arc::clone(&self.log), self.dir.path()) }
    }

    pub async fn start(&self, sql: &str) -> millstream::Result<PipelineHandle> {
        let job = Job::from_text(sql, "p", "the test").unwrap();
        Pipeline::start(&job.script.plan, "p", self.environment()).await
    }

    pub async fn caught_up(&self, pipeline: &PipelineHandle) {
        let caught_up = pipeline.caught_up(self.log.as_ref());
        let within = tokio::time::timeout(Duration::from_secs(60), caught_up).await;
        within.unwrap_or_else(|_| panic!("{:?}", pipeline.status())).unwrap();
    }

    pub fn printed(&self) -> Vec<String> {
        let mut lines = self.printed.lock().clone();
        lines.sort();
        lines
    }
}

/// Waits for a state; gives its cause.
pub async fn comes_to(pipeline: &PipelineHandle, phase: Phase) -> String {
    let begun = Instant::now();
    loop {
        let status = pipeline.status();
        if status.phase == phase {
            println!("{} after {:?}: {:?}", phase.name(), begun.elapsed(), status.causes);
            return status.causes.join("\n");
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "not {}: {status:?}", phase.name());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn says(what: &str, cause: &str, words: &[&str]) {
    for word in words {
        assert!(cause.contains(word), "{what}: {word} is missing in\n{cause}");
    }
    assert!(!cause.contains("canary"), "{what}: {cause}");
}

fn create_text(id: u32) -> String {
    format!(r#"{{"before":null,"after":{{"id":{id},"g":{}}},"op":"c"}}"#, id % 2)
}

fn create(id: u32) -> Vec<u8> {
    create_text(id).into_bytes()
}

fn postgres(hba: &[&str]) -> TemporaryPostgres {
    let hba = hba.iter().map(|line| (*line).to_owned()).collect();
    TemporaryPostgres::start(&PostgresOptions { hba, ..PostgresOptions::default() }).unwrap()
}

fn jdbc(server: &TemporaryPostgres, table: &str, more: &str) -> String {
    format!(
        "WITH ('connector'='jdbc', 'url'='jdbc:postgresql://127.0.0.1:{}/postgres', 'table-name'='{table}', \
         'username'='postgres'{more})",
        server.port()
    )
}

pub fn kafka(topic: &str, format: &str) -> String {
    format!(
        "WITH ('connector'='kafka', 'topic'='{topic}', 'properties.bootstrap.servers'='k:1', \
         'scan.startup.mode'='earliest-offset', {format})"
    )
}

fn orders() -> String {
    format!(
        "CREATE TABLE orders (id INT, g INT, p AS PROCTIME(), PRIMARY KEY (id) NOT ENFORCED) {};",
        kafka("orders", "'format'='debezium-json'")
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_and_a_lookup_that_are_away_come_back() {
    let (mut target, mut lookup) = (postgres(&[]), postgres(&[]));
    lookup
        .psql(
            "postgres",
            "CREATE TABLE dim (g int, name text); INSERT INTO dim VALUES (0, 'even'), (1, 'odd')",
        )
        .unwrap();
    let mut world = World::new().await;
    let sql = format!(
        "{} CREATE TABLE dim (g INT, name STRING) {};
         CREATE TABLE out_t (id INT, name STRING, PRIMARY KEY (id) NOT ENFORCED) {};
         INSERT INTO out_t SELECT o.id, d.name FROM orders AS o
         JOIN dim FOR SYSTEM_TIME AS OF o.p AS d ON o.g = d.g;",
        orders(),
        jdbc(&lookup, "dim", ""),
        jdbc(&target, "out_t", "")
    );
    world.send("orders", &[&create(1)]).await;
    let pipeline = world.start(&sql).await.unwrap();
    world.caught_up(&pipeline).await;

    target.stop(true).unwrap();
    world.send("orders", &[&create(2)]).await;
    let cause = comes_to(&pipeline, Phase::Retrying).await;
    says("target", &cause, &[&target.port().to_string(), "next:"]);
    target.boot().unwrap();
    world.caught_up(&pipeline).await;
    assert_eq!(pipeline.status().phase, Phase::Running);

    lookup.stop(true).unwrap();
    world.send("orders", &[&create(3)]).await;
    let cause = comes_to(&pipeline, Phase::Retrying).await;
    says("lookup", &cause, &[&lookup.port().to_string(), "next:"]);
    // Stopped meanwhile, it stops; and it goes on where it was.
    pipeline.stop().await.unwrap();
    let pipeline = world.start(&sql).await.unwrap();
    comes_to(&pipeline, Phase::Retrying).await;
    lookup.boot().unwrap();
    world.caught_up(&pipeline).await;

    // One that is away when the pipeline starts: said at once.
    pipeline.stop().await.unwrap();
    target.stop(true).unwrap();
    let error = world.start(&sql).await.unwrap_err();
    says("start", &error.screen(), &[&target.port().to_string(), "next:"]);
    target.boot().unwrap();
    world.send("orders", &[&create(4)]).await;
    let pipeline = world.start(&sql).await.unwrap();
    world.caught_up(&pipeline).await;
    pipeline.stop().await.unwrap();
    let rows = target.psql("postgres", "SELECT string_agg(id || name, ' ' ORDER BY id) FROM out_t").unwrap();
    assert_eq!(rows.trim(), "1odd 2even 3odd 4even");
}

/// A FULL cache has a ceiling, at its first reading and when the table has grown since.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_too_large_to_be_kept_in_memory() {
    let server = postgres(&[]);
    server
        .psql(
            "postgres",
            "CREATE TABLE dim (g int, name text);
             INSERT INTO dim SELECT n, repeat('canary', 100) FROM generate_series(0, 99) n",
        )
        .unwrap();
    let mut world = World::new().await;
    let sql = |most: &str| {
        let full = format!(
            ", 'lookup.cache'='FULL', 'lookup.full-cache.periodic-reload.interval'='10 ms', \
             'millstream.lookup.full-cache.max-bytes'='{most}'"
        );
        format!(
            "{} CREATE TABLE dim (g INT, name STRING) {};
             CREATE TABLE p (id INT, n INT) WITH ('connector'='print');
             INSERT INTO p SELECT o.id, CHAR_LENGTH(d.name) FROM orders AS o
             JOIN dim FOR SYSTEM_TIME AS OF o.p AS d ON o.g = d.g;",
            orders(),
            jdbc(&server, "dim", &full),
        )
    };
    world.send("orders", &[&create(1)]).await;
    let pipeline = world.start(&sql("64 kb")).await.unwrap();
    let cause = comes_to(&pipeline, Phase::Failed).await;
    says("too large", &cause, &["table dim", "PARTIAL", "65536", "millstream.lookup.full-cache.max-bytes"]);
    drop(pipeline);

    let pipeline = world.start(&sql("1 mb")).await.unwrap();
    world.caught_up(&pipeline).await;
    assert_eq!(world.printed(), ["+I[1, 600]"]);
    server
        .psql("postgres", "INSERT INTO dim SELECT n, repeat('canary', 100) FROM generate_series(100, 999) n")
        .unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.send("orders", &[&create(2)]).await;
    let cause = comes_to(&pipeline, Phase::Failed).await;
    says("grown", &cause, &["table dim", "PARTIAL", "1048576"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_table_that_changes() {
    let server = postgres(&[]);
    let mut id = 0;
    let sql = format!(
        "{} CREATE TABLE t (id INT, g INT, PRIMARY KEY (id) NOT ENFORCED) {};
         INSERT INTO t SELECT id, g FROM orders;",
        orders(),
        jdbc(&server, "t", "")
    );
    let mut world = World::new().await;
    let mut next = async |world: &mut World| {
        id += 1;
        world.send("orders", &[&create(id)]).await;
    };
    next(&mut world).await;
    let pipeline = world.start(&sql).await.unwrap();
    world.caught_up(&pipeline).await;
    // What does not concern it does not stop it.
    for change in [
        "ALTER TABLE t ADD COLUMN more text",
        "ALTER TABLE t ALTER COLUMN g TYPE bigint",
        "ALTER TABLE t ADD COLUMN def int NOT NULL DEFAULT 7",
        "TRUNCATE t",
    ] {
        server.psql("postgres", change).unwrap();
        next(&mut world).await;
        world.caught_up(&pipeline).await;
    }
    pipeline.stop().await.unwrap();
    for (change, back, words) in [
        (
            "ALTER TABLE t RENAME COLUMN g TO h",
            "ALTER TABLE t RENAME COLUMN h TO g",
            &["table public.t does not fit", "column g", "the nearest is h"][..],
        ),
        (
            "ALTER TABLE t ALTER COLUMN g TYPE date USING '2000-01-01'",
            "ALTER TABLE t ALTER COLUMN g TYPE int USING 0",
            &["g is date there, and INT in the SQL"],
        ),
        (
            "ALTER TABLE t ADD COLUMN must text NOT NULL DEFAULT ''; ALTER TABLE t ALTER COLUMN must DROP DEFAULT",
            "ALTER TABLE t DROP COLUMN must",
            &["must"],
        ),
        (
            "ALTER TABLE t ADD CHECK (id < 0) NOT VALID",
            "ALTER TABLE t DROP CONSTRAINT t_id_check",
            &["t_id_check"],
        ),
        ("ALTER TABLE t DROP CONSTRAINT t_pkey", "ALTER TABLE t ADD PRIMARY KEY (id)", &["primary key"]),
        ("REVOKE ALL ON t FROM writer", "GRANT ALL ON t TO writer", &["permission denied", "GRANT"]),
        (
            "ALTER TABLE t RENAME TO gone",
            "ALTER TABLE gone RENAME TO t",
            &["table t is gone", "millstream pipelines reset p"],
        ),
    ] {
        if change.starts_with("REVOKE") {
            server
                .psql(
                    "postgres",
                    "CREATE ROLE writer LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO writer",
                )
                .unwrap();
        }
        let sql = if change.starts_with("REVOKE") {
            sql.replace("'username'='postgres'", "'username'='writer'")
        } else {
            sql.clone()
        };
        let pipeline = world.start(&sql).await.unwrap();
        world.caught_up(&pipeline).await;
        server.psql("postgres", change).unwrap();
        next(&mut world).await;
        let cause = comes_to(&pipeline, Phase::Failed).await;
        says(change, &cause, words);
        says(change, &cause, &["next:"]);
        server.psql("postgres", back).unwrap();
        let pipeline = world.start(&sql).await.unwrap();
        world.caught_up(&pipeline).await;
        pipeline.stop().await.unwrap();
    }
    let rows = server.psql("postgres", "SELECT count(*), max(id) FROM t").unwrap();
    // TRUNCATE came before the fifth row and with it.
    assert_eq!(rows.trim(), "8|12");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_changes() {
    let server = postgres(&["host all writer all scram-sha-256"]);
    server
        .psql(
            "postgres",
            "CREATE ROLE writer LOGIN PASSWORD 'canary-old'; GRANT CREATE ON SCHEMA public TO writer",
        )
        .unwrap();
    let sql = format!(
        "{} CREATE TABLE t (id INT, g INT, PRIMARY KEY (id) NOT ENFORCED) {};
         INSERT INTO t SELECT id, g FROM orders;",
        orders(),
        jdbc(&server, "t", ", 'password'='canary-old'")
            .replace("'username'='postgres'", "'username'='writer'")
    );
    let mut world = World::new().await;
    world.send("orders", &[&create(1)]).await;
    let pipeline = world.start(&sql).await.unwrap();
    world.caught_up(&pipeline).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'writer'";
    server.psql("postgres", &format!("ALTER ROLE writer PASSWORD 'canary-new'; {end}")).unwrap();
    world.send("orders", &[&create(2)]).await;
    let cause = comes_to(&pipeline, Phase::Failed).await;
    says("password", &cause, &["password authentication failed", "check the user and the password"]);
    let error = world.start(&sql).await.unwrap_err();
    says("start", &error.screen(), &["password authentication failed", "check the user and the password"]);
    // With the new one it goes on: where a target is and how it is reached is no part of a query.
    let pipeline = world.start(&sql.replace("canary-old", "canary-new")).await.unwrap();
    world.caught_up(&pipeline).await;
    pipeline.stop().await.unwrap();
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM t").unwrap().trim(), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_and_topics_that_are_refused_or_deleted() {
    let Some(url) = tokio::task::spawn_blocking(broker).await.unwrap() else { return };
    let topic = format!("f{}", uuid::Uuid::new_v4().simple());
    let sql = format!(
        "CREATE TABLE s (id INT) {}; CREATE TABLE o (id INT) WITH ('connector'='print'); INSERT INTO o SELECT id FROM s;",
        kafka(&topic, "'format'='json', 'scan.topic-partition-discovery.interval'='500 ms'")
    );
    let mut world = World::on(&url, tempfile::tempdir().unwrap()).await;
    world.log.create_topic(&TopicSpec::new(&topic).partitions(1)).await.unwrap();
    world.send(&topic, &[b"{\"id\":1}"]).await;
    if let Some((inner, advertised)) = proxied() {
        let proxy = Proxy::start(advertised, inner).await;
        let through =
            World::on(&format!("kafka://127.0.0.1:{}", proxy.port()), tempfile::tempdir().unwrap()).await;
        let pipeline = through.start(&sql).await.unwrap();
        through.caught_up(&pipeline).await;
        proxy.set(Mode::Drop);
        let cause = comes_to(&pipeline, Phase::Retrying).await;
        says("broker", &cause, &["kafka://127.0.0.1", &proxy.port().to_string(), "next:"]);
        proxy.set(Mode::Pass);
        world.send(&topic, &[b"{\"id\":2}"]).await;
        comes_to(&pipeline, Phase::Running).await;
        through.caught_up(&pipeline).await;
        assert_eq!(through.printed(), ["+I[1]", "+I[2]"]);
        pipeline.stop().await.unwrap();
    }
    // A topic that somebody deletes.
    let pipeline = world.start(&sql).await.unwrap();
    world.caught_up(&pipeline).await;
    world.log.delete_topic(&topic).await.unwrap();
    let cause = comes_to(&pipeline, Phase::Failed).await;
    says("deleted", &cause, &[&topic, "next:"]);
    // One that may not be read.
    let Some(port) = guarded() else { return };
    world.log.create_topic(&TopicSpec::new(&topic).partitions(1)).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let properties = dir.path().join("client.properties");
    let login = |password: &str| {
        let text = format!(
            "bootstrap.servers=127.0.0.1:{port}\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n\
             sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"{}\" \
             password=\"{password}\";\n",
            USER.0
        );
        std::fs::write(&properties, text).unwrap();
        let url = format!("kafka:{}", properties.display());
        Place::on_kafka(url).refused(&["sql", "-e", &sql])
    };
    let screen = tokio::task::block_in_place(|| login("wrong-canary"));
    println!("{screen}");
    says("login", &screen, &["check sasl.mechanism, and user and password"]);
    let screen = tokio::task::block_in_place(|| login(USER.1));
    println!("{screen}");
    says("acl", &screen, &[&topic, "kafka-acls"]);
}

/// Topics of the embedded log.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_deleted_while_it_is_read() {
    let mut world = World::new().await;
    world.send("orders", &[&create(1)]).await;
    let sql = format!("{} SELECT id FROM orders;", orders());
    let pipeline = world.start(&sql).await.unwrap();
    world.caught_up(&pipeline).await;
    world.log.delete_topic("orders").await.unwrap();
    let cause = comes_to(&pipeline, Phase::Failed).await;
    says("deleted", &cause, &["orders", "next:"]);
}

/// A service with a pipeline that has failed, one that may not start, and one that leaves records out.
#[test]
fn what_an_operator_sees() {
    let place = Place::new();
    place.send(&[create_text(1), "{broken".into(), create_text(2)]);
    let port = millstream::demo::postgres::free_port().unwrap();
    let lenient = "'format'='debezium-json', 'debezium-json.ignore-parse-errors'='true'";
    let pipeline = |name: &str, format: &str, query: &str| {
        let table = orders().replace("'format'='debezium-json'", format);
        let sql = format!(
            "{table} CREATE TABLE o (a BIGINT) WITH ('connector'='print'); INSERT INTO o SELECT {query} FROM orders;"
        );
        place.file(&format!("{name}.sql"), &sql);
    };
    pipeline("strict", "'format'='debezium-json'", "id");
    pipeline("lenient", lenient, "id");
    pipeline("changed", lenient, "COUNT(*)");
    place.ok(&["sql", "-f", "changed.sql", "--until-idle", "100ms"]);
    pipeline("changed", lenient, "SUM(id)");
    let settings = format!(
        "connectors = []\npipelines = ['*.sql']\ndata = '{}'\n[server]\nbind = '127.0.0.1:{port}'\n",
        place.data().display()
    );
    place.file("millstream.toml", &settings);
    let service = place.spawn(&["run", "-c", "millstream.toml"]);
    let status = |name: &str, state: &str| {
        crate::tables::until(&format!("{name} is not {state}"), || {
            let output = place.output(&["--json", "pipelines", "status", name]);
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            (status["state"] == state).then_some(status)
        })
    };
    let strict = status("strict", "FAILED")["causes"][0].to_string();
    says("strict", &strict, &["topic orders, partition 0, offset 1", "next:"]);
    says("changed", &status("changed", "FAILED")["causes"][0].to_string(), &["the SQL has changed", "next:"]);
    crate::tables::until("the bad record is not counted", || {
        (status("lenient", "RUNNING")["skipped"]["orders"]["records"] == 1).then_some(())
    });
    let get = |path: &str| {
        let answer = crate::support::http::request(port, "GET", path, &[], None).unwrap();
        (answer.status, String::from_utf8_lossy(&answer.body).into_owned())
    };
    let (code, ready) = get("/health/ready");
    assert!(code == 503 && ready.contains("strict") && ready.contains("changed"), "{code} {ready}");
    let metrics = get("/metrics").1;
    for line in [
        "millstream_pipeline_failure{pipeline=\"strict\",cause=\"",
        "millstream_pipeline_failure{pipeline=\"changed\",cause=\"",
        "millstream_pipeline_skipped_total{pipeline=\"lenient\",table=\"orders\"} 1",
        "millstream_pipeline_state{pipeline=\"lenient\",state=\"RUNNING\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    // Said where it was started, too, and still known when the process has gone.
    let screen = std::fs::read_to_string(place.dir.path().join("out.txt")).unwrap();
    says("terminal", &screen, &["offset 1", "the SQL has changed"]);
    drop(service);
    // Two of one name are a mistake in the files.
    let copy = std::fs::read_to_string(place.dir.path().join("lenient.sql")).unwrap();
    for name in ["one.sql", "two.sql"] {
        place.file(name, &format!("SET 'pipeline.name' = 'same'; {copy}"));
    }
    let screen = place.refused(&["run", "-c", "millstream.toml"]);
    says("names", &screen, &["two pipelines have the name same", "one.sql", "two.sql", "next:"]);
    let listed = place.ok(&["pipelines", "list"]);
    says("list", &listed, &["strict", "FAILED", "offset 1"]);
    says("status", &place.ok(&["pipelines", "status", "strict"]), &["FAILED", "offset 1", "next:"]);
    assert!(place.ok(&["pipelines", "status", "lenient"]).contains("STOPPED"));
}
