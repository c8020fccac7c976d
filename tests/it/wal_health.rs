//! What an operator sees of a slot that falls behind and of a snapshot under way: in REST, metrics and the command line.

use millstream::demo::postgres::PostgresOptions;
use serde_json::json;

use crate::support::service::{Options, Service};

fn page(service: &Service) -> String {
    service.text("GET", "/metrics", None).1
}

/// A slot that nobody moves on, beside a server that bounds what slots may hold: every state of it is shown, with the
/// time that is left; when it is lost the connector stops and says so, and the policy answers.
#[test]
fn a_slot_is_followed_from_reserved_to_lost() {
    let bounds = ["max_slot_wal_keep_size = '160MB'", "min_wal_size = '32MB'", "max_wal_size = '48MB'"];
    let settings = bounds.iter().map(|s| (*s).to_owned()).collect();
    let source = PostgresOptions { settings, ..PostgresOptions::default() };
    let sql = "create table items (id serial primary key, v text); insert into items (v) values ('a'); \
               create unlogged table noise (v text)";
    let service = Service::start_with(&Options::default(), &source, sql);
    let slow = [("lsn.flush.mode", "manual"), ("status.update.interval.ms", "200")];
    service.create("w", &slow);
    service.streams("w");
    let shown = |state: &str| page(&service).contains(&format!("wal_status=\"{state}\"}} 1"));
    service.until("reserved", || shown("reserved"));
    service.until("how much is left", || service.metric("millstream_slot_safe_bytes", "\"w\"").is_some());
    assert_eq!(
        service.ask("GET", "/connectors/w/status?expand=progress", None).1["tasks"][0]["warning"],
        json!(null)
    );
    let write = || {
        service.sql("insert into items (v) values ('x')");
        service.sql("select pg_switch_wal()");
    };
    let warning = || {
        let (_, status) = service.ask("GET", "/connectors/w/status?expand=progress", None);
        status["tasks"][0]["warning"].as_str().unwrap_or_default().to_owned()
    };
    // More than max_wal_size, less than may be kept.
    (0..5).for_each(|_| write());
    service.until("extended", || shown("extended"));
    service.until("the time that is left", || {
        service.metric("millstream_slot_full_in_seconds", "\"w\"").is_some_and(|left| left < 3600.0)
    });
    service.until("the warning", || warning().contains("the replication slot is in danger"));
    assert!(service.command(&["connectors", "status", "w"]).contains("warning: "), "not on the command line");
    // The server gives WAL up at checkpoints: none comes by itself now.
    service.sql("alter system set max_wal_size = '10GB'");
    service.sql("select pg_reload_conf()");
    service.sql("checkpoint");
    service.until("unreserved", || {
        write();
        shown("unreserved")
    });
    service.until("what that means", || warning().contains("goes with the next checkpoint"));
    service.sql("checkpoint");
    service.until("it has failed", || service.state("w").1 == "FAILED");
    let (_, status) = service.ask("GET", "/connectors/w/status?expand=progress", None);
    let trace = status["tasks"][0]["trace"].as_str().unwrap().to_owned();
    assert!(
        trace.contains("max_slot_wal_keep_size") && trace.contains("millstream.lost.position=resnapshot"),
        "{trace}"
    );
    assert!(service.printed().contains("the replication slot is in danger"), "{}", service.printed());
    // The policy, without anything else.
    let rows = service.sql("select count(*) from items").trim().parse::<usize>().unwrap();
    let before = service.ids("w.public.items").len();
    let mended = service.config("w", &[("millstream.lost.position", "resnapshot")]);
    service.good("PUT", "/connectors/w/config", Some(&mended));
    service.streams("w");
    service.until("all rows again", || service.ids("w.public.items").len() == before + rows);
    service.until("reserved again", || shown("reserved"));
}

/// A snapshot of many rows says how far it is, wherever an operator looks.
#[test]
fn a_snapshot_says_how_far_it_is() {
    let sql = "create table items (id int primary key, v text); insert into items select g, repeat('x', 100) from \
               generate_series(1, 200000) g; create table more (id int primary key); analyze";
    let service = Service::start(sql);
    service.create("p", &[("table.include.list", "public.items,public.more")]);
    let mut seen = json!(null);
    service.until("a snapshot under way", || {
        let (_, status) = service.ask("GET", "/connectors/p/status?expand=progress", None);
        seen_rows(&status).is_some_and(|rows| rows > 0) || status["tasks"][0]["state"] == "FAILED"
    });
    for _ in 0..200 {
        let (_, status) = service.ask("GET", "/connectors/p/status?expand=progress", None);
        if seen_rows(&status).is_none() {
            break;
        }
        let page = page(&service);
        if page.contains("millstream_snapshot_rows_estimate{connector=\"p\"}") {
            assert!(page.contains("millstream_snapshot_tables{connector=\"p\"} 2"), "{page}");
        }
        seen = status["tasks"][0]["snapshot"].clone();
        // Connect's own answer has no more than Connect's.
        let (_, plain) = service.ask("GET", "/connectors/p/status", None);
        assert_eq!(plain["tasks"][0]["snapshot"], json!(null), "{plain}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(seen["tables"], 2, "{seen}");
    // The planner thinks that an empty table has a row.
    assert!(seen["rows_estimate"].as_u64().is_some_and(|rows| (200_000..200_100).contains(&rows)), "{seen}");
    assert!(seen["text"].as_str().unwrap().contains("of about 2000"), "{seen}");
    assert!(seen["seconds_left"].is_u64(), "{seen}");
    service.streams("p");
    let (_, status) = service.ask("GET", "/connectors/p/status?expand=progress", None);
    assert_eq!(status["tasks"][0]["snapshot"], json!(null), "{status}");
}

fn seen_rows(status: &serde_json::Value) -> Option<u64> {
    status["tasks"][0]["snapshot"]["rows"].as_u64()
}

/// A table that a blocking snapshot cannot read, be it at once or in the middle, is named wherever an operator looks,
/// the others are read, and the stream goes on.
#[test]
fn a_blocking_snapshot_goes_on_without_a_table() {
    let tables = ["a_well", "b_column", "c_middle", "d_well"];
    let mut sql =
        "create table signals (id varchar(64) primary key, type varchar(32) not null, data text);".to_owned();
    for table in tables {
        sql +=
            &format!("create table {table} (id int primary key); insert into {table} values (1), (2), (3);");
    }
    let service = Service::start(&sql);
    let list = tables.map(|table| format!("public.{table}")).join(",");
    service.create(
        "b",
        &[
            ("table.include.list", &list),
            ("snapshot.mode", "no_data"),
            ("signal.data.collection", "public.signals"),
            ("notification.enabled.channels", "sink"),
            ("notification.sink.topic.name", "told"),
        ],
    );
    service.streams("b");
    let warning =
        || service.ask("GET", "/connectors/b/status?expand=progress", None).1["tasks"][0]["warning"].clone();
    let signal = |id: &str, conditions: &serde_json::Value| {
        let data = json!({
            "data-collections": ["public..*"], "type": "blocking", "additional-conditions": conditions,
        });
        let data = data.to_string().replace('\'', "''");
        service.sql(&format!("insert into signals values ('{id}', 'execute-snapshot', '{data}')"));
    };
    let filter =
        |table: &str, sql: &str| json!({"data-collection": format!("public.{table}"), "filter": sql});
    signal(
        "first",
        &json!([
            filter("b_column", "select id from b_column where no_such = 1"),
            filter("c_middle", "select id from c_middle where 1 / (3 - id) > -1 order by id"),
        ]),
    );
    service.until("what is left is said", || warning().is_string());
    let said = warning().as_str().unwrap().to_owned();
    for words in [
        "\"first\"",
        "public.b_column (",
        "no_such",
        "public.c_middle (",
        "division by zero",
        "execute-snapshot",
    ] {
        assert!(said.contains(words), "{words} is not in: {said}");
    }
    assert!(!said.contains("well"), "{said}");
    assert!(
        service.printed().contains("public.c_middle (")
            && service.command(&["connectors", "status", "b"]).contains(&said)
    );
    // The status may say it before the events and the notifications are committed; the last of these is the end.
    service
        .until("its end is told", || service.values("told").iter().any(|record| record["type"] == "ABORTED"));
    let ids = |table: &str| service.ids(&format!("b.public.{table}"));
    assert_eq!((ids("a_well"), ids("d_well")), (vec![1, 2, 3], vec![1, 2, 3]));
    let told = service.values("told");
    let told: Vec<String> = told
        .iter()
        .filter_map(|record| {
            let (kind, data) = (record["type"].as_str()?, &record["additional_data"]);
            match kind {
                "TABLE_SCAN_COMPLETED" => {
                    Some(format!("{} {}", data["scanned_collection"].as_str()?, data["status"].as_str()?))
                }
                "ABORTED" | "COMPLETED" => Some(format!("{kind} {}", data["data_collections"])),
                _ => None,
            }
        })
        .collect();
    let expected = [
        "public.b_column SQL_EXCEPTION",
        "public.a_well SUCCEEDED",
        "public.c_middle SQL_EXCEPTION",
        "public.d_well SUCCEEDED",
        "ABORTED \"public.b_column,public.c_middle\"",
    ];
    assert_eq!(told, expected);
    service.sql("insert into b_column values (4)");
    service.until("the stream goes on", || ids("b_column") == [4]);
    signal("second", &json!([]));
    let all = |table: &str| ids(table).len() >= if table == "b_column" { 5 } else { 3 };
    service.until("all of them", || tables.iter().all(|table| all(table)));
    service.until("all is well", || warning().is_null());
    assert_eq!(ids("b_column"), [4, 1, 2, 3, 4]);
}

/// A source that is away does not keep a connector from being deleted, nor others from being asked; its slot cannot be
/// dropped then, which is said, and nothing is half done.
#[test]
fn deleting_does_not_wait_for_a_source_that_is_away() {
    let mut service = Service::start("create table items (id int primary key)");
    service.create("a", &[]);
    service.streams("a");
    service.server().stop(true).unwrap();
    let begun = std::time::Instant::now();
    let (status, answer) = service.ask("DELETE", "/connectors/a?dropSlot=true", None);
    assert!(status >= 400 && begun.elapsed().as_secs() < 20, "{status} {answer} after {:?}", begun.elapsed());
    let said = answer["message"].as_str().unwrap();
    assert!(said.contains("the connector is not deleted"), "{said}");
    assert_eq!(service.ask("GET", "/connectors", None).1, json!(["a"]));
    service.until("it waits for its source", || service.state("a").1 == "RECONNECTING");
    service.server().boot().unwrap();
    service.streams("a");
    assert_eq!(service.ask("DELETE", "/connectors/a?dropSlot=true", None).0, 204);
    assert_eq!(service.sql("select count(*) from pg_replication_slots").trim(), "0");
    service.create("b", &[]);
    service.streams("b");
    service.server().stop(true).unwrap();
    assert_eq!(service.ask("DELETE", "/connectors/b", None).0, 204);
    assert_eq!(service.ask("GET", "/connectors", None).1, json!([]));
}

/// An incremental snapshot that was paused says so until it is told to go on, over a restart as well.
#[test]
fn a_paused_snapshot_says_so() {
    let sql = "create table items (id int primary key); insert into items select generate_series(1, 3000);
               create table signals (id varchar(64) primary key, type varchar(32) not null, data text)";
    let service = Service::start(sql);
    let settings = [
        ("table.include.list", "public.items"),
        ("snapshot.mode", "no_data"),
        ("signal.data.collection", "public.signals"),
        ("incremental.snapshot.chunk.size", "10"),
    ];
    service.create("p", &settings);
    service.streams("p");
    let says = |value: f64| {
        service.metric("debezium_metrics_SnapshotPaused", "name=\"p\",context=\"snapshot\"") == Some(value)
    };
    assert!(says(0.0), "{}", page(&service));
    // In one transaction, so that it is paused before it can be through.
    service.sql(
        "begin; insert into signals values ('a', 'execute-snapshot', '{\"data-collections\": [\"public.items\"]}');
         insert into signals values ('b', 'pause-snapshot', '{}'); commit",
    );
    service.until("a paused snapshot", || says(1.0));
    assert_eq!(service.ask("POST", "/connectors/p/restart?includeTasks=true", None).0, 202);
    service.streams("p");
    service.until("a snapshot that is paused still", || says(1.0));
    service.sql("insert into signals values ('c', 'resume-snapshot', '{}')");
    service.until("a snapshot that goes on", || says(0.0));
}
