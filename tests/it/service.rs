//! `millstream run` as a service: its REST API under many hands, offsets moved by hand, its metrics and health, what
//! its topics are made with, and that no secret leaves it.

use serde_json::{Value, json};

use crate::support::service::{Options, Service};

const TABLES: &str = "create table items (id int primary key, name text);
    insert into items values (1, 'a'), (2, 'b')";

#[test]
fn offsets_are_moved_by_hand_within_what_the_slot_holds() {
    let service = Service::start(TABLES);
    // Confirmed only what is committed with its offset; nothing moves the slot while it is stopped.
    service.create("o", &[("snapshot.mode", "no_data")]);
    service.streams("o");
    service.sql("insert into items values (10, 'x')");
    service.until("the first change is there", || service.ids("o.public.items") == [10]);
    service.good("PUT", "/connectors/o/stop", None);
    for id in 11..=13 {
        service.sql(&format!("insert into items values ({id}, 'x')"));
    }
    let wal = || service.sql("select (pg_current_wal_lsn() - '0/0')::bigint").trim().parse::<u64>().unwrap();
    let after_13 = wal();
    service.sql("insert into items values (14, 'x')");
    let confirmed = service
        .sql("select (confirmed_flush_lsn - '0/0')::bigint from pg_replication_slots")
        .trim()
        .parse::<u64>()
        .unwrap();
    let patch = |lsn: u64| {
        let offset = json!({ "lsn": lsn, "lsn_commit": lsn, "lsn_proc": lsn });
        let body = json!({ "offsets": [{ "partition": { "server": "o" }, "offset": offset }] });
        service.ask("PATCH", "/connectors/o/offsets", Some(&body))
    };
    let (status, answer) = patch(confirmed - 1);
    assert_eq!(status, 400);
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("lies before what replication slot o still holds"), "{message}");
    assert!(message.contains(&confirmed.to_string()), "{message}");
    let (status, answer) = patch(wal() + (1 << 30));
    assert!(status == 400 && answer["message"].as_str().unwrap().contains("current LSN"), "{answer}");

    // Later than what the slot confirms: what lies between is left out, what follows comes once.
    assert_eq!(patch(after_13).0, 200);
    let (_, offsets) = service.ask("GET", "/connectors/o/offsets", None);
    assert_eq!(offsets["offsets"][0]["offset"]["lsn"], after_13, "{offsets}");
    service.good("PUT", "/connectors/o/resume", None);
    service.until("it goes on", || service.ids("o.public.items").len() > 1);
    service.sql("insert into items values (15, 'x')");
    service.until("the next follows", || service.ids("o.public.items").contains(&15));
    assert_eq!(service.ids("o.public.items"), [10, 14, 15]);

    // Without an offset it begins anew where the slot stands.
    assert_eq!(service.ask("DELETE", "/connectors/o/offsets", None).0, 400);
    service.good("PUT", "/connectors/o/stop", None);
    service.good("DELETE", "/connectors/o/offsets", None);
    assert_eq!(service.good("GET", "/connectors/o/offsets", None), json!({ "offsets": [] }));
    service.good("PUT", "/connectors/o/resume", None);
    service.streams("o");
    service.sql("insert into items values (16, 'x')");
    service.until("it goes on", || service.ids("o.public.items").contains(&16));
}

#[test]
fn many_hands_on_one_connector() {
    let service = Service::start(TABLES);
    let config = |n: usize| service.config("m", &[("snapshot.mode", "no_data"), ("note", &n.to_string())]);
    std::thread::scope(|scope| {
        for worker in 0..6_usize {
            let (service, config) = (&service, &config);
            scope.spawn(move || {
                for round in 0..8_usize {
                    let (method, path, body) = match (worker + round) % 6 {
                        0 => ("PUT", "/connectors/m/config", Some(config(worker * 100 + round))),
                        1 => ("PATCH", "/connectors/m/config", Some(json!({ "note": round.to_string() }))),
                        2 => ("POST", "/connectors", Some(json!({ "name": "m", "config": config(round) }))),
                        3 => ("PUT", "/connectors/m/pause", None),
                        4 => ("POST", "/connectors/m/restart?includeTasks=true", None),
                        _ => ("DELETE", "/connectors/m", None),
                    };
                    let (status, answer) = service.ask(method, path, body.as_ref());
                    let known = matches!(status, 200 | 201 | 202 | 204 | 404 | 409);
                    assert!(known, "{method} {path}: {status} {answer}");
                }
            });
        }
    });
    // Whatever came last: it can be had, and it is what a service that starts again finds.
    let last = config(7777);
    let answer = service.good("PUT", "/connectors/m/config", Some(&last));
    service.good("PUT", "/connectors/m/resume", None);
    service.streams("m");
    assert_eq!(answer["config"]["note"], "7777");
    let listed = service.good("GET", "/connectors?expand=info&expand=status", None);
    assert_eq!(listed.as_object().unwrap().len(), 1);
    assert_eq!(listed["m"]["info"]["config"], answer["config"]);
    let stored = service.values("millstream-configs");
    let stored = stored.iter().rev().map(|record| &record["properties"]);
    let stored = stored.filter(|p| p.is_object()).find(|p| p.get("task.class").is_none());
    assert_eq!(stored.unwrap()["note"], "7777");
    assert!(!service.printed().contains("panicked"), "{}", service.printed());
}

#[test]
fn metrics_move_and_health_tells_the_truth() {
    let mut service = Service::start(TABLES);
    let ready = |service: &Service| service.ask("GET", "/health/ready", None).0;
    assert_eq!(ready(&service), 200);
    service.create("h", &[("status.update.interval.ms", "200"), ("heartbeat.interval.ms", "500")]);
    service.streams("h");
    service.until("it is ready", || ready(&service) == 200);
    let debezium = |service: &Service, name: &str, context: &str| {
        service.metric(&format!("debezium_metrics_{name}"), &format!("name=\"h\",context=\"{context}\""))
    };
    let seen = debezium(&service, "TotalNumberOfEventsSeen", "streaming").unwrap();
    service.sql("insert into items values (3, 'c'); update items set name = 'd' where id = 3; delete from items where id = 3");
    service.until("the changes are counted", || {
        debezium(&service, "TotalNumberOfEventsSeen", "streaming") == Some(seen + 3.0)
    });
    for (name, value) in [
        ("NumberOfCommittedTransactions", 1.0),
        ("TotalNumberOfCreateEventsSeen", 1.0),
        ("TotalNumberOfUpdateEventsSeen", 1.0),
        ("TotalNumberOfDeleteEventsSeen", 1.0),
        ("Connected", 1.0),
    ] {
        let there = debezium(&service, name, "streaming");
        assert!(there.is_some_and(|there| there >= value), "{name}: {there:?}");
    }
    for (name, value) in [
        ("SnapshotCompleted", 1.0),
        ("SnapshotRunning", 0.0),
        ("TotalNumberOfEventsSeen", 2.0),
        ("RemainingTableCount", 0.0),
    ] {
        assert_eq!(debezium(&service, name, "snapshot"), Some(value), "{name}");
    }
    for name in
        ["MilliSecondsBehindSource", "QueueTotalCapacity", "QueueRemainingCapacity", "MaxQueueSizeInBytes"]
    {
        assert!(debezium(&service, name, "streaming").is_some_and(|v| v >= 0.0), "{name}");
    }
    for name in ["millstream_slot_lag_bytes", "millstream_slot_lag_seconds", "millstream_slot_retained_bytes"]
    {
        service.until(name, || service.metric(name, "connector=\"h\"").is_some());
    }
    assert!(service.metric("millstream_connector_records_total", "connector=\"h\"").unwrap() >= 5.0);

    // The source goes, and comes back.
    service.server().stop(true).unwrap();
    service.until("it is not ready", || ready(&service) == 503);
    let (_, health) = service.ask("GET", "/health/ready", None);
    assert_eq!(health["not_running"][0]["connector"], "h", "{health}");
    assert_eq!(service.ask("GET", "/health/live", None).0, 200);
    let (_, status) = service.ask("GET", "/connectors/h/status", None);
    assert!(status["tasks"][0]["trace"].is_string(), "{status}");
    service.server().boot().unwrap();
    service.until("it is ready again", || ready(&service) == 200);
    service.sql("insert into items values (4, 'd')");
    service.until("changes flow again", || service.ids("h.public.items").contains(&4));
}

#[test]
fn topics_are_made_as_their_group_says() {
    let service = Service::start(
        "create table items (id int primary key); create table notes (id int primary key); \
        insert into items values (1); insert into notes values (1)",
    );
    let groups = [
        ("table.include.list", "public.*"),
        ("topic.creation.default.replication.factor", "1"),
        ("topic.creation.default.partitions", "3"),
        ("topic.creation.groups", "changes"),
        ("topic.creation.changes.include", "t[.]public[.].*"),
        ("topic.creation.changes.exclude", ".*notes"),
        ("topic.creation.changes.partitions", "2"),
        ("topic.creation.changes.cleanup.policy", "compact"),
    ];
    service.create("t", &groups);
    service.streams("t");
    let topic = |name: &str| {
        let text = service.command(&["--json", "topics", "describe", name]);
        let line = text.lines().find(|line| line.starts_with('{')).unwrap_or_default().to_owned();
        serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("{text}"))
    };
    let (items, notes) = (topic("t.public.items"), topic("t.public.notes"));
    assert_eq!(items["partitions"].as_array().map(Vec::len), Some(2), "{items}");
    assert_eq!(items["configs"]["cleanup.policy"], "compact", "{items}");
    assert_eq!(notes["partitions"].as_array().map(Vec::len), Some(3), "{notes}");

    // A mistake is the connector's failure, as in Connect, and says what is wrong.
    service.create("w", &[("topic.creation.groups", "x")]);
    service.until("it failed", || service.state("w") == ("FAILED".to_owned(), String::new()));
    let (_, status) = service.ask("GET", "/connectors/w/status", None);
    let trace = status["connector"]["trace"].as_str().unwrap();
    assert!(trace.contains("topic.creation.default.replication.factor"), "{trace}");
    let mended =
        [("topic.creation.default.replication.factor", "1"), ("topic.creation.default.partitions", "1")];
    service.good("PUT", "/connectors/w/config", Some(&service.config("w", &mended)));
    service.streams("w");
}

#[test]
fn records_that_cannot_be_done_are_left_out_where_that_is_tolerated() {
    let service = Service::start(TABLES);
    let cast = [
        ("transforms", "unwrap,number"),
        ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
        ("transforms.number.type", "org.apache.kafka.connect.transforms.Cast$Value"),
        ("transforms.number.spec", "name:int32"),
        ("value.converter.schemas.enable", "false"),
        ("value.converter", "JsonConverter"),
    ];
    service.create("strict", &cast);
    service.until("it fails", || service.state("strict").1 == "FAILED");
    let tolerant = [&cast[..], &[("errors.tolerance", "all"), ("errors.log.enable", "true")]].concat();
    service.create("e", &tolerant);
    service.streams("e");
    service.sql("insert into items values (3, '33'), (4, 'no number')");
    let values = || service.values("e.public.items");
    service.until("the good record is there", || !values().is_empty());
    assert_eq!(values(), [json!({ "id": 3, "name": 33 })]);
    service.until("the others are counted", || {
        service.metric("millstream_connector_skipped_total", "connector=\"e\"") == Some(3.0)
    });
    assert!(service.printed().contains("a record is left out"), "{}", service.printed());
}

/// Planted wherever a secret may stand.
const CANARY: &str = "kanarienvogel";

#[test]
fn secrets_leave_nowhere() {
    let service = Service::start_at("debug", TABLES);
    let secret = |place: &str| format!("{CANARY}-{place}");
    let mut out = String::new();
    let mut hear = |what: &str, text: String| {
        assert!(!text.contains(CANARY), "{what} tells a secret: {text}");
        out.push_str(&text);
    };
    let ask = |method: &str, path: &str, body: Value| service.text(method, path, Some(&body)).1;
    let jaas = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required password=\"{}\";",
        secret("jaas")
    );
    let places: [(&str, String); 9] = [
        ("database.password", secret("password")),
        ("database.sslpassword", secret("ssl")),
        ("producer.override.sasl.jaas.config", jaas),
        ("producer.override.ssl.keystore.password", secret("keystore")),
        ("signal.consumer.ssl.truststore.password", secret("truststore")),
        ("value.converter.basic.auth.user.info", format!("ann:{}", secret("registry"))),
        ("column.mask.hash.SHA-256.with.salt.kanarienvogel-salt", "shop.none".to_owned()),
        ("transforms.t.api.token", secret("token")),
        ("driver.secret", secret("driver")),
    ];
    let with = |more: &[(&str, &str)]| {
        let places: Vec<(&str, &str)> =
            places.iter().map(|(k, v)| (*k, v.as_str())).chain(more.iter().copied()).collect();
        service.config("s", &places)
    };
    // The name of a property that holds a salt is known to whoever sends it; nothing else may be.
    let unsalted = |text: String| text.replace("with.salt.kanarienvogel-salt", "with.salt.");

    // Refused in every way, and taken.
    let wrong = [
        with(&[("snapshot.mode", "sometimes"), ("tasks.max", "x")]),
        with(&[("database.port", "1")]),
        with(&[("database.dbname", "nowhere")]),
        with(&[("database.user", "nobody")]),
        with(&[("database.sslmode", "verify-full")]),
        with(&[("connector.class", "no.such.Class")]),
        with(&[("transforms", "t"), ("transforms.t.type", "no.such.Class")]),
        with(&[("value.converter", "io.confluent.connect.avro.AvroConverter")]),
    ];
    for config in &wrong {
        hear("a refusal", unsalted(ask("POST", "/connectors", json!({ "name": "s", "config": config }))));
        hear(
            "a validation",
            unsalted(ask("PUT", "/connector-plugins/Postgres/config/validate", config.clone())),
        );
        // What is not refused fails when it starts.
        hear("a status", service.text("GET", "/connectors/s/status", None).1);
        hear("an end", service.text("DELETE", "/connectors/s", None).1);
    }
    let mut classless = with(&[]);
    classless.as_object_mut().unwrap().remove("connector.class");
    hear("a refusal", unsalted(ask("POST", "/connectors", json!({ "name": "s", "config": classless }))));
    hear(
        "a mismatch",
        unsalted(ask("POST", "/connectors", json!({ "name": "other", "config": with(&[("name", "s")]) }))),
    );
    let (status, answer) =
        service.text("POST", "/connectors", Some(&json!({ "name": "s", "config": with(&[]) })));
    assert_eq!(status, 201, "{answer}");
    hear("the new connector", unsalted(answer));
    service.streams("s");
    for path in [
        "/connectors/s",
        "/connectors/s/config",
        "/connectors/s/tasks",
        "/connectors/s/status",
        "/metrics",
        "/connectors?expand=info&expand=status",
        "/connectors/s/offsets",
        "/health/ready",
        "/admin/loggers",
    ] {
        hear(path, unsalted(service.text("GET", path, None).1));
    }
    hear("a patch", unsalted(ask("PATCH", "/connectors/s/config", json!({ "tasks.max": "x" }))));
    hear("a patch", unsalted(ask("PATCH", "/connectors/s/config", json!({ "max.batch.size": "1000" }))));
    service.streams("s");

    // SQL with secrets in its options, right and wrong.
    let sql = |more: &str| {
        format!(
            "create table t (id int, primary key (id) not enforced) with ('connector' = 'jdbc', \
             'url' = 'jdbc:postgresql://127.0.0.1:1/shop?password={}', 'table-name' = 't', 'username' = 'u', \
             'password' = '{}'{more}); create table k (id int) with ('connector' = 'kafka', 'topic' = 'k', \
             'properties.bootstrap.servers' = 'x:1', 'format' = 'json', 'properties.sasl.jaas.config' = 'x {}', \
             'properties.ssl.key.password' = '{}', 'scan.startup.mode' = 'earliest-offset'); ",
            secret("url"),
            secret("jdbc"),
            secret("sqljaas"),
            secret("key")
        )
    };
    let file = service.dir.path().join("canary.sql");
    for (options, statement) in [
        ("", "insert into t select id from k"),
        (", 'no.such' = 'x'", "insert into t select id from k"),
        ("", "explain insert into t select id from k"),
        ("", "explain plan for select * from t"),
        ("", "insert into t select nothing from k"),
        ("", "show create table t"),
        ("", "describe t"),
        ("", "insert into t selec id from k"),
    ] {
        let text = format!("{}{statement};", sql(options));
        std::fs::write(&file, &text).unwrap();
        hear(statement, service.command(&["sql", "-f", file.to_str().unwrap(), "--until-idle", "100ms"]));
        hear(statement, ask("POST", "/pipelines", json!({ "name": "canary", "sql": text })));
    }
    hear("the pipelines", service.text("GET", "/pipelines", None).1);
    hear("a pipeline", service.text("GET", "/pipelines/canary", None).1);
    hear("a pipeline", service.command(&["pipelines", "status", "canary"]));

    // Commands.
    let connector = service.dir.path().join("canary.json");
    std::fs::write(&connector, json!({ "name": "d", "config": with(&[]) }).to_string()).unwrap();
    let connector = connector.to_str().unwrap().to_owned();
    let connector = connector.as_str();
    for args in [
        vec!["doctor", connector],
        vec!["grants", connector],
        vec!["connectors", "status", "s"],
        vec!["connectors", "list"],
        vec!["offsets", "show", "s"],
    ] {
        hear(args[0], unsalted(service.command(&args)));
    }
    hear("the service's log", unsalted(service.printed()));
    assert!(out.contains("********"), "nothing was asked for");
}

/// One source is away when the service starts: that connector waits for it, the others run; and a client that says half
/// a request and no more does not keep the service from its clean stop.
#[test]
fn a_start_without_a_source_and_a_stop_with_an_open_request() {
    use std::io::Write as _;
    let mut service = Service::start("create table items (id int primary key)");
    let config = service.config("filed", &[]);
    std::fs::write(service.dir.path().join("filed.json"), config.to_string()).unwrap();
    service.terminate();
    service.server().stop(true).unwrap();
    let options = Options { connectors: "['filed.json']", ..Options::default() };
    service.restart(&options);
    service.until("it waits for its source", || service.state("filed").1 == "RECONNECTING");
    service.server().boot().unwrap();
    service.streams("filed");
    let mut client = std::net::TcpStream::connect(("127.0.0.1", service.port)).unwrap();
    client.write_all(b"GET /connectors HTT").unwrap();
    service.until("it is heard", || service.ask("GET", "/connectors", None).0 == 200);
    let took = service.terminate();
    assert!(took < std::time::Duration::from_secs(8), "{took:?}");
    drop(client);
    let slots = "select count(*) from pg_replication_slots where active";
    assert_eq!(service.sql(slots).trim(), "0", "the connector was stopped");
    // What was changed over REST stays, while the file does not change, and the file counts once it does.
    service.restart(&options);
    service.streams("filed");
    service.good("PATCH", "/connectors/filed/config", Some(&json!({"poll.interval.ms": "77"})));
    service.restart(&options);
    service.streams("filed");
    let poll = || service.good("GET", "/connectors/filed/config", None)["poll.interval.ms"].clone();
    assert_eq!(poll(), "77");
    let (_, status) = service.ask("GET", "/connectors/filed/status?expand=progress", None);
    assert!(
        status["tasks"][0]["warning"].as_str().is_some_and(|text| text.contains("filed.json")),
        "{status}"
    );
    let changed = service.config("filed", &[("poll.interval.ms", "99")]);
    std::fs::write(service.dir.path().join("filed.json"), changed.to_string()).unwrap();
    service.restart(&options);
    service.streams("filed");
    let poll = || service.good("GET", "/connectors/filed/config", None)["poll.interval.ms"].clone();
    assert_eq!(poll(), "99");
}
