//! `millstream doctor` and `millstream grants`: what they print mends what they find.

use std::path::Path;

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use serde_json::{Value, json};

use crate::support::millstream;

const SOURCE: &str = r#"
    CREATE SCHEMA "Shop's";
    CREATE TABLE public.a (id int PRIMARY KEY, v text);
    CREATE TABLE "Shop's"."we""ird; --" (id int, v text);
    CREATE TABLE public.signal (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data text);
    INSERT INTO public.a VALUES (1, 'one');"#;

const TARGET: &str = r#"CREATE SCHEMA star; CREATE TABLE star."out" (id int, v text)"#;

struct Case {
    server: TemporaryPostgres,
    dir: tempfile::TempDir,
}

impl Case {
    fn new(role: &str, writer: &str, settings: &[&str]) -> Self {
        let settings = settings.iter().map(|s| (*s).to_owned()).collect();
        let server =
            TemporaryPostgres::start(&PostgresOptions { settings, ..PostgresOptions::default() }).unwrap();
        for database in ["shop", "target"] {
            server.psql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
        }
        server.psql("shop", SOURCE).unwrap();
        server.psql("target", TARGET).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let connector = json!({"name": "c", "config": {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "plugin.name": "pgoutput",
            "database.hostname": "127.0.0.1",
            "database.port": server.port().to_string(),
            "database.user": role,
            "database.password": "canary-5f1c",
            "database.dbname": "shop",
            "key.converter.schemas.enable": "false",
            "value.converter.schemas.enable": "false",
            "topic.prefix": "s",
            "table.exclude.list": "public.signal",
            "signal.data.collection": "public.signal",
            "publication.name": "the \"one\"",
            "publication.autocreate.mode": "disabled",
        }});
        std::fs::write(dir.path().join("c.json"), connector.to_string()).unwrap();
        let sql = format!(
            "CREATE TABLE a (id INT, v STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'kafka',
               'topic' = 's.public.a', 'properties.bootstrap.servers' = 'b:9092',
               'scan.startup.mode' = 'earliest-offset', 'format' = 'debezium-json');
             CREATE TABLE o (id INT, v STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'jdbc',
               'url' = 'jdbc:postgresql://127.0.0.1:{}/target', 'table-name' = 'star.out', 'username' = '{writer}');
             INSERT INTO o SELECT id, v FROM a;",
            server.port()
        );
        std::fs::write(dir.path().join("p.sql"), sql).unwrap();
        Self { server, dir }
    }

    fn run(&self, args: &[&str]) -> (bool, String) {
        let path = |name: &str| self.dir.path().join(name);
        let output = millstream()
            .arg("--data")
            .arg(path("data"))
            .args(args)
            .args([path("c.json"), path("p.sql")])
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!text.contains("canary"), "the password is shown:\n{text}");
        if output.stdout.is_empty() {
            panic!("{text}");
        }
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    /// A command that succeeds.
    fn does(&self, args: &[&str]) {
        let mut command = millstream();
        command.arg("--data").arg(self.dir.path().join("data")).args(args).current_dir(self.dir.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn doctor(&self) -> (bool, Value) {
        let (well, out) = self.run(&["--json", "doctor"]);
        (well, serde_json::from_str(&out).unwrap())
    }
}

/// `check` of each finding that is not ok.
fn ill(report: &Value) -> Vec<String> {
    let mut checks = Vec::new();
    for part in report["parts"].as_array().unwrap() {
        for finding in part["findings"].as_array().unwrap() {
            if finding["level"] != "ok" {
                checks.push(format!(
                    "{} {}",
                    part["part"].as_str().unwrap(),
                    finding["check"].as_str().unwrap()
                ));
            }
        }
    }
    checks
}

/// Runs every statement of a report where it belongs.
fn mend(server: &TemporaryPostgres, report: &Value) {
    for part in report["parts"].as_array().unwrap() {
        let database = if part["part"] == "target" { "target" } else { "shop" };
        for finding in part["findings"].as_array().unwrap() {
            for statement in finding["sql"].as_array().unwrap() {
                let statement = statement.as_str().unwrap();
                server.psql(database, statement).unwrap_or_else(|e| panic!("{statement}: {e}"));
            }
        }
    }
}

#[test]
fn what_the_doctor_prints_mends_what_it_finds() {
    let settings = ["wal_level = replica", "max_replication_slots = 1", "max_wal_senders = 0"];
    let mut case = Case::new("cap", "writer", &settings);
    case.server.psql("postgres", "CREATE ROLE cap LOGIN; CREATE ROLE writer LOGIN").unwrap();
    case.server.psql("postgres", "SELECT pg_create_physical_replication_slot('in_the_way')").unwrap();
    case.server.psql("shop", "CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY)").unwrap();
    let (well, report) = case.doctor();
    assert!(!well);
    let mut checks = ill(&report);
    let (_, text) = case.run(&["doctor"]);
    assert!(text.contains("ALTER SYSTEM SET wal_level = 'logical';"), "{text}");
    let mut rounds = 0;
    let report = loop {
        let (_, report) = case.doctor();
        if ill(&report).is_empty() {
            break report;
        }
        rounds += 1;
        assert!(rounds < 5, "still ill: {report:#}");
        checks.extend(ill(&report));
        mend(&case.server, &report);
        case.server.stop(false).unwrap();
        case.server.boot().unwrap();
    };
    assert_eq!((&report["problems"], &report["warnings"]), (&json!(0), &json!(0)));
    for check in [
        "source wal_level",
        "source role",
        "source slot",
        "source walsenders",
        "source privileges",
        "source tables",
        "source publication",
        "source identity",
        "source signals",
        "source disk",
        "target schema",
        "target table",
        "target key",
        "target epochs",
    ] {
        assert!(checks.contains(&check.to_owned()), "{check} was never found: {checks:?}");
    }
    // And it is true: the connector starts as this role.
    let output = millstream()
        .args(["--data"])
        .arg(case.dir.path().join("data"))
        .args(["capture", "--until-caught-up"])
        .arg(case.dir.path().join("c.json"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A publication that is there and lacks something, and a slot that the server has given up.
#[test]
fn a_publication_and_a_slot_that_do_not_serve_are_mended() {
    let settings = ["max_slot_wal_keep_size = '1MB'", "min_wal_size = '32MB'", "max_wal_size = '64MB'"];
    let case = Case::new("postgres", "postgres", &settings);
    let sql = "CREATE PUBLICATION \"the \"\"one\"\"\" FOR TABLE a WITH (publish = 'insert');
        SELECT pg_create_logical_replication_slot('debezium', 'pgoutput');
        SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput');
        ALTER TABLE \"Shop's\".\"we\"\"ird; --\" REPLICA IDENTITY FULL";
    for statement in sql.split(";\n") {
        case.server.psql("shop", statement).unwrap();
    }
    let lost = "SELECT count(*) FROM pg_replication_slots WHERE wal_status = 'lost'";
    for _ in 0..8 {
        for statement in
            ["INSERT INTO public.a SELECT max(id) + 1 FROM a", "SELECT pg_switch_wal()", "CHECKPOINT"]
        {
            case.server.psql("shop", statement).unwrap();
        }
    }
    assert_eq!(case.server.psql("shop", lost).unwrap().trim(), "2");
    case.server.psql("target", "ALTER TABLE star.\"out\" ADD PRIMARY KEY (id)").unwrap();
    let (well, report) = case.doctor();
    assert!(!well);
    let mut checks = ill(&report);
    checks.sort();
    let expected = ["source orphans", "source publication", "source publication", "source slot"];
    assert_eq!(checks, expected, "{report:#}");
    mend(&case.server, &report);
    let (well, report) = case.doctor();
    assert!(well && ill(&report).is_empty(), "{report:#}");
}

#[test]
fn an_orphan_slot_is_listed_and_a_server_that_is_away_is_said() {
    let mut case = Case::new("postgres", "postgres", &[]);
    case.server.psql("shop", "SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')").unwrap();
    let (_, report) = case.doctor();
    let text = report.to_string();
    assert!(
        text.contains("forgotten") && text.contains("SELECT pg_drop_replication_slot('forgotten')"),
        "{text}"
    );
    case.server.stop(true).unwrap();
    let (well, report) = case.doctor();
    assert!(!well);
    let checks = ill(&report);
    assert!(checks.contains(&"source connection".to_owned()), "{checks:?}");
    assert!(checks.contains(&"target connection".to_owned()), "{checks:?}");
}

#[test]
fn the_grants_are_enough_and_can_be_run_again() {
    let case = Case::new("ca\"p", "wri''ter", &["max_slot_wal_keep_size = '1GB'"]);
    let admin = case.server.url("shop");
    let (well, sql) = case.run(&["grants", "--admin", &admin]);
    assert!(well, "{sql}");
    assert!(!sql.contains("SUPERUSER") && !sql.contains("ALL TABLES"), "{sql}");
    let (source, target) = sql.split_once("\n\n").unwrap();
    for _ in 0..2 {
        run_file(&case, "shop", source);
        run_file(&case, "target", target);
    }
    let (_, report) = case.doctor();
    // What is not a matter of grants: the table without a key, on either side.
    let mut checks = ill(&report);
    checks.sort();
    assert_eq!(checks, ["source identity", "target key"], "{report:#}");
    let role = case
        .server
        .psql("shop", "SELECT rolsuper, rolreplication FROM pg_roles WHERE rolname = 'ca\"p'")
        .unwrap();
    assert_eq!(role.trim(), "f|t");
    // With no more than that the roles do their work: rows come from the source to the target.
    case.server.psql("shop", "ALTER TABLE \"Shop's\".\"we\"\"ird; --\" REPLICA IDENTITY FULL").unwrap();
    case.server.psql("target", "ALTER TABLE star.\"out\" ADD PRIMARY KEY (id)").unwrap();
    case.does(&["capture", "--until-caught-up", "c.json"]);
    case.server.psql("shop", "INSERT INTO a VALUES (2, 'two'); UPDATE a SET v = 'uno' WHERE id = 1").unwrap();
    case.does(&["capture", "--until-caught-up", "c.json"]);
    case.does(&["sql", "-f", "p.sql", "--until-idle", "500ms"]);
    let rows = case.server.psql("target", "SELECT id, v FROM star.\"out\" ORDER BY id").unwrap();
    assert_eq!(rows, "1|uno\n2|two\n");
}

fn run_file(case: &Case, database: &str, sql: &str) {
    let file: &Path = &case.dir.path().join(format!("{database}.sql"));
    std::fs::write(file, sql).unwrap();
    // psql itself reads the backslash in the hint as text of a comment.
    case.server.psql_file(database, file).unwrap_or_else(|e| panic!("{e}\n{sql}"));
}
