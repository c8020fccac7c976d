//! Tables that are read again beside the stream: what the stream says of a row is never set back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::capture::{Seen, Setup, caught_up, ops};
use crate::snapshots::{Place, wait};

/// Reads beside a stream of changes: what is known last of every key is what the table holds.
#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_snapshot_beside_changes_and_a_restart() {
    let setup = Setup::new(
        "CREATE TABLE item (id int PRIMARY KEY, v int);
         INSERT INTO item SELECT g, 0 FROM generate_series(1, 3000) g;
         CREATE TABLE signal (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data text);",
    )
    .await;
    let extra = [
        ("snapshot.mode", "no_data"),
        ("signal.data.collection", "public.signal"),
        ("table.include.list", "public.item"),
        ("incremental.snapshot.chunk.size", "200"),
    ];
    let handle = setup.start(&extra);
    caught_up(&handle).await;
    setup.sql(
        "INSERT INTO signal VALUES ('s', 'execute-snapshot', '{\"data-collections\": [\"public.item\"]}')",
    );
    let change = |n: i32| {
        setup.sql(&format!(
            "UPDATE item SET v = {n} WHERE id % 7 = {n} % 7; DELETE FROM item WHERE id = {n} * 50;
             UPDATE item SET id = id + 10000 WHERE id = {n} * 50 + 1;
             INSERT INTO item VALUES ({n} + 20000, {n}) ON CONFLICT DO NOTHING"
        ));
    };
    for n in 1..8 {
        change(n);
    }
    handle.stop().await;
    change(8);
    let handle = setup.start(&extra);
    for n in 9..30 {
        change(n);
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let offset =
            millstream::capture::offsets::read_all(&setup.log, "millstream-offsets", "c").await.unwrap();
        if offset[0].1.get("incremental_snapshot_collections").is_none() {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "still under way: {:?}", offset[0].1);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    setup.sql("INSERT INTO item VALUES (99999, 0)");
    let mut state: BTreeMap<i64, i64> = BTreeMap::new();
    let mut reads;
    loop {
        let seen = setup.read("s.public.item").await;
        state.clear();
        reads = 0;
        for record in &seen {
            let id = record.key.as_ref().unwrap()["id"].as_i64().unwrap();
            match &record.value {
                None => {}
                Some(v) if v["op"] == "d" => {
                    state.remove(&id);
                }
                Some(v) => {
                    reads += usize::from(v["op"] == "r");
                    state.insert(id, v["after"]["v"].as_i64().unwrap());
                }
            }
        }
        if state.contains_key(&99999) {
            break;
        }
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    handle.stop().await;
    let table: BTreeMap<i64, i64> = setup
        .server
        .psql("shop", "SELECT id, v FROM item")
        .unwrap()
        .lines()
        .map(|l| l.split_once('|').unwrap())
        .map(|(id, v)| (id.parse().unwrap(), v.parse().unwrap()))
        .collect();
    assert_eq!(state, table);
    assert!(reads > 500, "{reads} reads");
    let signals = setup.read("s.public.signal").await;
    assert!(signals.len() > 20, "the signal table's rows are events, too: {}", signals.len());
}

/// What is known last of every key.
fn last_of(seen: &[Seen]) -> BTreeMap<i64, Value> {
    let mut state = BTreeMap::new();
    for record in seen {
        let id = record.key.as_ref().unwrap()["id"].as_i64().unwrap();
        match &record.value {
            None => {}
            Some(v) if v["op"] == "d" => drop(state.remove(&id)),
            Some(v) => drop(state.insert(id, v["after"].clone())),
        }
    }
    state
}

/// Signals from a file and from a topic of the log; nothing is written to the database, and what the stream brings
/// meanwhile is neither lost nor undone.
#[tokio::test(flavor = "multi_thread")]
async fn incremental_snapshots_by_file_and_topic_without_writing() {
    let setup = Setup::new(
        "CREATE TABLE item (id int PRIMARY KEY, v int);
         INSERT INTO item SELECT g, 0 FROM generate_series(1, 500) g;
         CREATE TABLE more (id int PRIMARY KEY, v int); INSERT INTO more VALUES (1, 1), (2, 2);
         CREATE ROLE reader LOGIN REPLICATION; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
         CREATE PUBLICATION p FOR TABLE item, more",
    )
    .await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("signals.json");
    let extra = [
        ("database.user", "reader"),
        ("publication.name", "p"),
        ("publication.autocreate.mode", "disabled"),
        ("snapshot.mode", "no_data"),
        ("read.only", "true"),
        ("signal.enabled.channels", "file,kafka"),
        ("signal.file", file.to_str().unwrap()),
        ("signal.poll.interval.ms", "50"),
        ("incremental.snapshot.chunk.size", "50"),
    ];
    let handle = setup.start(&extra);
    caught_up(&handle).await;
    let signal = r#"{"id": "f1", "type": "execute-snapshot", "data": {"data-collections": ["public.item"]}}"#;
    std::fs::write(&file, format!("{signal}\n")).unwrap();
    for n in 1..20 {
        setup.sql(&format!(
            "UPDATE item SET v = {n} WHERE id % 11 = {n} % 11; DELETE FROM item WHERE id = {n} * 20;
             INSERT INTO item VALUES (1000 + {n}, {n})"
        ));
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(40);
    loop {
        let seen = setup.read("s.public.item").await;
        let reads = seen.iter().filter(|r| r.op() == "r").count();
        let table: BTreeMap<i64, Value> = setup
            .server
            .psql("shop", "SELECT id, row_to_json(item) FROM item")
            .unwrap()
            .lines()
            .map(|l| l.split_once('|').unwrap())
            .map(|(id, row)| (id.parse().unwrap(), serde_json::from_str(row).unwrap()))
            .collect();
        if last_of(&seen) == table {
            assert!(reads > 100, "{reads} reads");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{reads} reads; {:?}", handle.status());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(std::fs::read(&file).unwrap().is_empty(), "the signal is taken out of the file");

    let spec = millstream::log::TopicSpec {
        name: "s-signal".into(),
        partitions: Some(1),
        replication: None,
        configs: BTreeMap::new(),
    };
    setup.log.create_topic(&spec).await.unwrap();
    let send = async |key: &str, value: &str| {
        let mut writer = setup.log.writer("signaller").await.unwrap();
        let mut batch = millstream::log::Batch::new();
        let topic = batch.topic("s-signal");
        let mut record = batch.record(topic);
        record.key(|out| out.extend_from_slice(key.as_bytes()));
        record.value(|out| out.extend_from_slice(value.as_bytes()));
        record.finish();
        writer.commit(batch).await.unwrap();
    };
    let signal = r#"{"id": "t1", "type": "execute-snapshot", "data": {"data-collections": ["public.more"]}}"#;
    send("another", signal).await;
    send("s", signal).await;
    assert_eq!(ops(&setup.wait_for("s.public.more", 2).await), "r r");
    handle.stop().await;
    // The signal is not obeyed once more.
    let handle = setup.start(&extra);
    caught_up(&handle).await;
    setup.sql("INSERT INTO more VALUES (3, 3)");
    assert_eq!(ops(&setup.wait_for("s.public.more", 3).await), "r r c");
    handle.stop().await;
}

/// The stream shows a transaction that waits for a standby, and nobody sees it yet: what is read again meanwhile must
/// not set its rows back, whatever way it is read.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_again_waits_for_what_the_stream_has_shown() {
    for (by_table, kind) in [(true, "incremental"), (true, "blocking"), (false, "incremental")] {
        let place = Place::new(
            "CREATE TABLE item (id int PRIMARY KEY, v int); INSERT INTO item VALUES (1, 0), (2, 0);
             CREATE TABLE signals (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data text)",
            None,
        );
        let file = place.dir.path().join("signals.json");
        let by_file = [
            ("snapshot.mode", "no_data"),
            ("read.only", "true"),
            ("signal.enabled.channels", "file"),
            ("signal.file", file.to_str().unwrap()),
        ];
        let by_row = [("snapshot.mode", "no_data"), ("signal.data.collection", "public.signals")];
        let running = place.streaming(if by_table { &by_row } else { &by_file });
        let standby = |name: &str| {
            let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
            place.server.psql("postgres", &set).unwrap();
            place.server.psql("postgres", "SELECT pg_reload_conf()").unwrap();
            wait("the setting", || {
                place.server.psql("postgres", "SHOW synchronous_standby_names").unwrap().trim() == name
            });
        };
        standby("nobody");
        let ops = || -> Vec<(String, i64, i64)> {
            let of = |event: &Value| {
                let (op, row) = (event["op"].as_str().unwrap().to_owned(), &event["after"]);
                (op, row["id"].as_i64().unwrap(), row["v"].as_i64().unwrap())
            };
            place.beside("item").iter().map(of).collect()
        };
        let update = ("u".to_owned(), 1, 7);
        std::thread::scope(|scope| {
            let hidden =
                scope.spawn(|| place.server.psql(&place.name, "UPDATE item SET v = 7 WHERE id = 1").unwrap());
            wait("the update", || ops() == [update.clone()]);
            let data = format!(r#"{{"data-collections": ["public.item"], "type": "{kind}"}}"#);
            if by_table {
                // This one does not wait.
                let signal = format!(
                    "SET synchronous_commit = local; INSERT INTO signals VALUES ('s', 'execute-snapshot', '{data}')"
                );
                place.server.psql(&place.name, &signal).unwrap();
                if kind == "blocking" {
                    wait("that it waits", || place.output().contains("the blocking snapshot waits"));
                } else {
                    wait("the signal", || !place.beside("signals").is_empty());
                }
            } else {
                let text = format!(r#"{{"id": "f", "type": "execute-snapshot", "data": {data}}}"#);
                std::fs::write(&file, format!("{text}\n")).unwrap();
                wait("the signal", || std::fs::read(&file).unwrap().is_empty());
            }
            assert!(!hidden.is_finished(), "the transaction is still not visible");
            standby("");
        });
        wait("the rows", || ops().len() >= 3);
        let mut seen = ops();
        // A blocking snapshot reads a table as it lies.
        seen[1..].sort_unstable();
        let reads = [update, ("r".to_owned(), 1, 7), ("r".to_owned(), 2, 0)];
        assert_eq!(seen, reads, "{kind}, by a row: {by_table}");
        drop(running);
    }
}

/// A signal table whose trigger holds the second row of a chunk back: the chunk is read by then.
const HELD: &str = "CREATE TABLE signals (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data text);
     CREATE UNLOGGED TABLE held (yes boolean); INSERT INTO held VALUES (true);
     CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
       IF NEW.id LIKE '%-close' THEN
         WHILE EXISTS (SELECT 1 FROM held) LOOP PERFORM pg_sleep(0.05); END LOOP; END IF; RETURN NEW; END $$;
     CREATE TRIGGER hold BEFORE INSERT ON signals FOR EACH ROW EXECUTE FUNCTION hold();";

impl Place {
    /// Asks for the table, waits until a chunk is read and not yet sent, changes rows, and lets it go on.
    fn change_beside_a_chunk(&self, change: &str) {
        let signal = r#"INSERT INTO signals VALUES ('s', 'execute-snapshot', '{"data-collections": ["public.item"]}')"#;
        self.server.psql(&self.name, signal).unwrap();
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%-close%' AND state = 'active' AND pid <> pg_backend_pid()";
        wait("a chunk", || self.server.psql(&self.name, sleeps).unwrap().trim() == "1");
        self.server.psql(&self.name, &format!("{change}; DELETE FROM held")).unwrap();
    }
}

/// The stream has other columns than the table, in another order: rows are known by the names of their key.
#[test]
fn a_chunk_of_a_table_that_is_published_in_part() {
    let place = Place::new(
        &format!(
            "CREATE TABLE item (a text, id int PRIMARY KEY, c int); INSERT INTO item VALUES ('x', 1, 0), ('x', 2, 0), ('x', 3, 0);
             {HELD} CREATE PUBLICATION part FOR TABLE item (id, c), signals"
        ),
        None,
    );
    let extra = [
        ("snapshot.mode", "no_data"),
        ("signal.data.collection", "public.signals"),
        ("publication.name", "part"),
        ("publication.autocreate.mode", "disabled"),
    ];
    let running = place.streaming(&extra);
    place.change_beside_a_chunk("UPDATE item SET c = 7 WHERE id = 1; DELETE FROM item WHERE id = 2");
    let seen = || -> Vec<(String, Value)> {
        let row = |event: &Value| {
            let row = if event["op"] == "d" { &event["before"] } else { &event["after"] };
            (event["op"].as_str().unwrap().to_owned(), json!([row["id"], row["c"]]))
        };
        place.beside("item").iter().filter(|event| !event.is_null()).map(row).collect()
    };
    wait("the last row", || seen().iter().any(|(op, row)| op == "r" && row[0] == 3));
    let reads: Vec<_> = seen().into_iter().filter(|(op, _)| op == "r").collect();
    assert_eq!(reads, [("r".to_owned(), json!([3, 0]))], "{:?}", seen());
    drop(running);
}

/// A table that is altered while it is read again: rows that come after that have its new form.
#[test]
fn a_table_that_is_altered_while_it_is_read() {
    for (alter, form) in [
        ("ADD COLUMN x int DEFAULT 5", json!({"id": 3, "v": 0, "x": 5})),
        ("DROP COLUMN v", json!({"id": 3})),
        ("ALTER COLUMN v TYPE text", json!({"id": 3, "v": "0"})),
    ] {
        let place = Place::new(
            &format!(
                "CREATE TABLE item (id int PRIMARY KEY, v int); INSERT INTO item SELECT g, 0 FROM generate_series(1, 6) g;
                 ALTER TABLE item REPLICA IDENTITY FULL; {HELD}"
            ),
            None,
        );
        let extra = [
            ("snapshot.mode", "no_data"),
            ("signal.data.collection", "public.signals"),
            ("incremental.snapshot.chunk.size", "3"),
        ];
        let running = place.streaming(&extra);
        place.change_beside_a_chunk(&format!("ALTER TABLE item {alter}; DELETE FROM item WHERE id = 1"));
        let reads = || -> Vec<Value> {
            place
                .beside("item")
                .iter()
                .filter(|event| event["op"] == "r")
                .map(|event| event["after"].clone())
                .collect()
        };
        wait("the last row", || reads().iter().any(|row| row["id"] == 6));
        drop(running);
        let expected: Vec<Value> = (2..=6)
            .map(|id| {
                let mut row = form.clone();
                row["id"] = json!(id);
                row
            })
            .collect();
        assert_eq!(reads(), expected, "{alter}");
    }
}
