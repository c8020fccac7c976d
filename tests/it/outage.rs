//! What an operator sees through the running service when a database is away, when a connector cannot work, and
//! when one is deleted.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::capture::{Connector, Env, Phase};
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres, free_port};
use serde_json::{Value, json};

use crate::capture::config;
use crate::slot_identity::log_at;
use crate::support::{http, millstream};

/// `millstream run` with one connector.
struct Service {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    fn start(server: &TemporaryPostgres) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        let connector = json!({"name": "c", "config": {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "plugin.name": "pgoutput",
            "database.hostname": "127.0.0.1",
            "database.port": server.port().to_string(),
            "database.user": "postgres",
            "database.password": "canary-77aa",
            "database.dbname": "shop",
            "topic.prefix": "s",
            "slot.name": "of_c",
            "status.update.interval.ms": "200",
            "retriable.restart.connector.wait.ms": "500",
        }});
        std::fs::write(dir.path().join("c.json"), connector.to_string()).unwrap();
        let settings =
            format!("connectors = ['c.json']\npipelines = []\n[server]\nbind = '127.0.0.1:{port}'\n");
        std::fs::write(dir.path().join("millstream.toml"), settings).unwrap();
        let out = std::fs::File::create(dir.path().join("out.txt")).unwrap();
        let child = millstream()
            .current_dir(dir.path())
            .args(["--data", "data", "run", "-c", "millstream.toml"])
            .stdin(Stdio::null())
            .stdout(Stdio::from(out.try_clone().unwrap()))
            .stderr(Stdio::from(out))
            .spawn()
            .unwrap();
        Self { child, port, dir }
    }

    fn get(&self, path: &str) -> (u16, String) {
        match http::request(self.port, "GET", path, &[], None) {
            Ok(answer) => (answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
            Err(_) => (0, String::new()),
        }
    }

    fn task(&self) -> Value {
        let status: Value = serde_json::from_str(&self.get("/connectors/c/status").1).unwrap_or_default();
        status["tasks"][0].clone()
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds(self) {
            assert!(
                Instant::now() < deadline,
                "{what}: not in time; task: {}\n{}",
                self.task(),
                self.output()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("out.txt")).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> String {
        let output =
            millstream().current_dir(self.dir.path()).args(["--data", "data"]).args(args).output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }
}

fn server(hba: &[&str]) -> TemporaryPostgres {
    let hba = hba.iter().map(|line| (*line).to_owned()).collect();
    let server = TemporaryPostgres::start(&PostgresOptions { hba, ..PostgresOptions::default() }).unwrap();
    server.psql("postgres", "CREATE DATABASE shop").unwrap();
    server.psql("shop", "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").unwrap();
    server
}

#[test]
fn a_database_that_is_away_is_seen_with_its_cause_and_heals() {
    let mut server = server(&[]);
    let service = Service::start(&server);
    let streams = |service: &Service| {
        service.task()["state"] == "RUNNING"
            && service
                .get("/metrics")
                .1
                .contains("millstream_connector_state{connector=\"c\",state=\"STREAMING\"} 1")
    };
    service.until("streaming", streams);
    service.until("ready", |s| s.get("/health/ready").0 == 200);
    assert!(!service.get("/metrics").1.contains("millstream_connector_failure{"));
    server.stop(true).unwrap();
    service.until("RECONNECTING", |s| s.task()["state"] == "RECONNECTING");
    let task = service.task();
    assert!(task["trace"].as_str().unwrap().contains("127.0.0.1"), "{task}");
    let (status, ready) = service.get("/health/ready");
    assert_eq!(status, 503, "{ready}");
    assert_eq!(service.get("/health/live").0, 200);
    let metrics = service.get("/metrics").1;
    assert!(
        metrics.contains("millstream_connector_failure{connector=\"c\",cause=\"")
            && metrics.contains("millstream_connector_up{connector=\"c\"} 0"),
        "{metrics}"
    );
    let failure = metrics.lines().find(|l| l.starts_with("millstream_connector_failure{")).unwrap();
    assert!(failure.contains("127.0.0.1"), "{failure}");
    server.boot().unwrap();
    service.until("streaming again", streams);
    assert_eq!(service.get("/health/ready").0, 200);
    assert_eq!(service.task()["trace"], Value::Null);
    let metrics = service.get("/metrics").1;
    assert!(!metrics.contains("millstream_connector_failure{"), "{metrics}");
    assert!(!metrics.contains("millstream_connector_reconnects_total{connector=\"c\"} 0"), "{metrics}");
    // Said on the terminal, too, and nowhere with the password.
    let output = service.output();
    assert!(output.contains("RECONNECTING"), "{output}");
    assert!(
        !output.contains("canary") && !metrics.contains("canary") && !task.to_string().contains("canary")
    );
}

#[test]
fn a_deleted_connector_leaves_its_slot_and_says_so() {
    let server = server(&[]);
    let service = Service::start(&server);
    service.until("running", |s| s.task()["state"] == "RUNNING");
    let slots = || {
        let sql = "SELECT slot_name FROM pg_replication_slots WHERE NOT temporary";
        server.psql("shop", sql).unwrap().trim().to_owned()
    };
    service.until("the slot", |_| slots() == "of_c");
    let said = service.command(&["connectors", "delete", "c"]);
    assert!(said.contains("its replication slot stays and holds back WAL"), "{said}");
    assert_eq!(slots(), "of_c");
    // Nobody's slot any more: the doctor of another connector finds it, and says what removes it.
    let text = std::fs::read_to_string(service.dir.path().join("c.json")).unwrap();
    std::fs::write(service.dir.path().join("d.json"), text.replace("of_c", "of_d")).unwrap();
    let said = service.command(&["doctor", "d.json"]);
    assert!(said.contains("of_c") && said.contains("SELECT pg_drop_replication_slot('of_c');"), "{said}");
    // Again, and with its slot.
    let said = service.command(&["connectors", "create", "c.json"]);
    assert!(said.contains("created"), "{said}");
    service.until("running again", |s| s.task()["state"] == "RUNNING");
    let said = service.command(&["connectors", "delete", "c", "--drop-slot"]);
    assert!(said.contains("its slot too"), "{said}");
    service.until("no slot", |_| slots().is_empty());
    let said = service.command(&["doctor", "d.json"]);
    assert!(!said.contains("pg_drop_replication_slot"), "{said}");
}

/// What no retry mends ends at once, with the next step, and not after retries; what may heal does not end.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_heal_fails_at_once() {
    let server = tokio::task::spawn_blocking(|| {
        server(&["host all secretive all scram-sha-256", "host all barred all reject"])
    })
    .await
    .unwrap();
    server
        .psql(
            "shop",
            "CREATE ROLE secretive LOGIN REPLICATION PASSWORD 'right'; CREATE ROLE barred LOGIN REPLICATION;
             CREATE ROLE plain LOGIN; CREATE ROLE blind LOGIN REPLICATION; CREATE ROLE asleep NOLOGIN;
             CREATE PUBLICATION mine FOR TABLE t",
        )
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    let mine = [("publication.name", "mine"), ("publication.autocreate.mode", "disabled")];
    type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, &'a [&'a str]);
    let cases: [Case<'_>; 8] = [
        (
            "wrong password",
            vec![("database.user", "secretive"), ("database.password", "wrong-canary")],
            &["password authentication failed", "check the user and the password"],
        ),
        ("no password", vec![("database.user", "secretive")], &["password"]),
        ("pg_hba.conf", vec![("database.user", "barred")], &["pg_hba.conf"]),
        ("no login", vec![("database.user", "asleep")], &["not permitted to log in", "ALTER ROLE"]),
        ("no REPLICATION", vec![("database.user", "plain")], &["REPLICATION"]),
        (
            "no SELECT",
            [&[("database.user", "blind")], &mine[..]].concat(),
            &["no SELECT on \"public\".\"t\"", "GRANT"],
        ),
        (
            "no publication",
            vec![("publication.name", "nowhere"), ("publication.autocreate.mode", "disabled")],
            &["publication \"nowhere\" does not exist", "CREATE PUBLICATION"],
        ),
        (
            "no table",
            vec![("table.include.list", "public.missing"), ("publication.autocreate.mode", "filtered")],
            &["no table matches", "table.include.list"],
        ),
    ];
    for (what, extra, words) in cases {
        let config = config(&server, &extra);
        // As the service starts it: what may heal is tried again for ever.
        let handle = Connector::start(config, Env::new(Arc::clone(&log), "c")).unwrap();
        let begun = Instant::now();
        let ended = tokio::time::timeout(Duration::from_secs(20), handle.ended_by_itself()).await;
        let screen = ended.unwrap_or_else(|_| panic!("{what}: {:?}", handle.status())).unwrap_err().screen();
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}: after {:?}", begun.elapsed());
        assert_eq!(handle.status().phase, Phase::Failed, "{what}");
        assert_eq!(handle.status().counters.reconnects, 0, "{what}: it was tried again");
        for word in words {
            assert!(screen.contains(word), "{what}: {word} is missing in\n{screen}");
        }
        assert!(screen.contains("\nnext:"), "{what}: no next step in\n{screen}");
        assert!(!screen.contains("canary"), "{what}: {screen}");
    }
    // A table that loses its privilege, and a publication that goes, while the connector streams.
    let handle = Connector::start(config(&server, &mine), Env::new(Arc::clone(&log), "c")).unwrap();
    tokio::time::timeout(Duration::from_secs(30), handle.caught_up()).await.unwrap().unwrap();
    server.psql("shop", "DROP PUBLICATION mine").unwrap();
    server.psql("shop", "INSERT INTO t VALUES (2)").unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), handle.ended_by_itself()).await;
    let screen = ended.expect("it ends").unwrap_err().screen();
    // From 18 on the server only warns, in other words.
    assert!(screen.contains("publication \"mine\"") && screen.contains("does not exist"), "{screen}");
    assert!(screen.contains("\nnext:"), "{screen}");
}
