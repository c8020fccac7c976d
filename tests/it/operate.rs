//! Pipelines as an operator handles them: start, status, stop, reset, offsets and replay, through the process that
//! runs them and with it stopped.

use std::time::{Duration, Instant};

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::log::{Log, TopicSpec};

use crate::support::place::{ORDERS, Place, QUERY, TOTALS, create, delete};

#[test]
fn a_pipeline_of_its_own_process() {
    let place = Place::new();
    place.send(&(1..=20).map(|id| create(id, id)).collect::<Vec<_>>());
    let file = place.file("p.sql", &format!("{ORDERS}{TOTALS}{QUERY}"));
    let file = file.to_str().unwrap();
    let running = place.spawn(&["sql", "-f", file]);
    place.wait("p", "RUNNING", 20);
    assert!(place.ok(&["pipelines", "list"]).contains("RUNNING"));
    assert!(place.ok(&["offsets", "show", "p"]).contains("p: orders:0: next offset 20"));
    assert!(place.ok(&["pipelines", "start", "p"]).contains("running already"));

    // What would pull the state away from under it is refused, with the command that helps.
    for args in [["pipelines", "reset", "p"], ["offsets", "reset", "p"]] {
        assert!(place.refused(&args).contains("millstream pipelines stop p"), "{args:?}");
    }
    assert!(place.refused(&["sql", "-f", file]).contains("another process"));
    assert!(place.refused(&["pipelines", "status", "q"]).contains("known: p"));

    // Replays through its process, twice: the same rows, nothing doubled.
    let before = place.newest("totals");
    let end = place.ok(&["topics", "read", "totals", "--jsonl"]);
    let dry = place.json(&["replay", "p", "--from", "orders:0:0", "--to", "orders:0:2", "--dry-run"]);
    assert_eq!((&dry["dry_run"], &dry["sinks"]["totals"]["upserts"]), (&true.into(), &2.into()));
    assert_eq!(place.ok(&["topics", "read", "totals", "--jsonl"]), end, "nothing is written");
    for _ in 0..2 {
        let report = place.json(&["replay", "p", "--from", "orders:0:0", "--to", "orders:0:2"]);
        assert_eq!((&report["range"], &report["sinks"]["totals"]["upserts"]), (&2.into(), &2.into()));
        assert_eq!(place.newest("totals"), before);
    }
    assert!(place.refused(&["replay", "p", "--from", "nothing:0:1"]).contains("it reads orders:0"));
    assert!(place.refused(&["replay", "p", "--from", "2030-01-01T00:00:00Z"]).contains("no events"));

    // The answer to stop is given although its process ends of it.
    assert!(place.ok(&["pipelines", "stop", "p"]).contains("STOPPED"));
    assert!(running.ended());
    assert!(place.ok(&["pipelines", "stop", "p"]).contains("not running"));

    // It goes on where it stopped.
    place.send(&[delete(3, 3), create(21, 100)]);
    let running = place.spawn(&["pipelines", "start", "p"]);
    place.wait("p", "RUNNING", 22);
    let now = place.newest("totals");
    // Group 0: 3 + 6 + … + 18, less 3, and 100.
    assert!(now.values().any(|value| value.to_string().contains("160")), "{now:?}");
    assert!(place.ok(&["pipelines", "stop", "p"]).contains("STOPPED"));
    assert!(running.ended());

    // Another query needs another state, and the script that is refused is not kept.
    let changed = place.file("p2.sql", &format!("{ORDERS}{TOTALS}{}", QUERY.replace("SUM(v)", "MAX(v)")));
    let screen = place.refused(&["sql", "--name", "p", "-f", changed.to_str().unwrap()]);
    assert!(screen.contains("--fresh"), "{screen}");
    drop(place.spawn(&["pipelines", "start", "p"]));
    place.ok(&["offsets", "reset", "p"]);
    assert!(place.ok(&["pipelines", "status", "p"]).contains("epoch 0"));
    place.ok(&["sql", "--name", "p", "-f", changed.to_str().unwrap(), "--until-idle", "300ms"]);
    assert!(place.newest("totals").values().any(|v| v.to_string().contains("100")));
}

#[test]
fn pipelines_of_a_service() {
    let place = Place::new();
    place.send(&(1..=20).map(|id| create(id, id)).collect::<Vec<_>>());
    place.file("p.sql", &format!("{ORDERS}{TOTALS}{QUERY}"));
    place.file(
        "millstream.toml",
        &format!(
            "connectors = []\npipelines = [\"p.sql\"]\ndata = \"{}\"\n[server]\nbind = \"127.0.0.1:0\"\n",
            place.data().display()
        ),
    );
    let _service = place.spawn(&["run", "-c", "millstream.toml"]);
    place.wait("p", "RUNNING", 20);
    assert!(place.ok(&["pipelines", "stop", "p"]).contains("STOPPED"));
    assert!(place.ok(&["pipelines", "list"]).contains("STOPPED"));

    // A replay into the target of a stopped pipeline leaves it stopped.
    let before = place.newest("totals");
    let report = place.json(&["replay", "p", "--from", "earliest"]);
    assert_eq!(report["sinks"]["totals"]["upserts"], 3);
    assert_eq!(place.newest("totals"), before);
    assert!(place.ok(&["pipelines", "status", "p"]).contains("STOPPED"));

    // Start and reset within the service.
    place.ok(&["pipelines", "start", "p"]);
    place.wait("p", "RUNNING", 20);
    place.ok(&["pipelines", "stop", "p"]);
    place.ok(&["pipelines", "reset", "p"]);
    place.ok(&["pipelines", "start", "p"]);
    let status = place.wait("p", "RUNNING", 20);
    assert!(status["epoch"].as_u64().unwrap() < 5, "everything is computed anew: {status}");

    // A new one from a file; one with a fault is refused with its line.
    let second = place.file(
        "q.sql",
        &format!(
            "{ORDERS}{}INSERT INTO q SELECT id, v FROM orders WHERE v > 10;",
            TOTALS
                .replace("totals", "q")
                .replace("g INT, n BIGINT, total INT, PRIMARY KEY (g)", "id INT, v INT, PRIMARY KEY (id)")
        ),
    );
    place.ok(&["pipelines", "start", second.to_str().unwrap()]);
    place.wait("q", "RUNNING", 20);
    assert_eq!(place.newest("q").len(), 10);
    let faulty = place.file("f.sql", "SELECT\n FROM nothing;");
    assert!(place.refused(&["pipelines", "start", faulty.to_str().unwrap()]).contains("f.sql:2"));
}

#[test]
fn a_damaged_target_is_mended() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    server.psql("postgres", "CREATE DATABASE dw").unwrap();
    server.psql("dw", "CREATE TABLE totals (g int PRIMARY KEY, n bigint, total int)").unwrap();
    let place = Place::new();
    place.send(&(1..=30).map(|id| create(id, id)).collect::<Vec<_>>());
    let sink = format!(
        "CREATE TABLE totals (g INT, n BIGINT, total INT, PRIMARY KEY (g) NOT ENFORCED) WITH ('connector'='jdbc', \
         'url'='jdbc:postgresql://127.0.0.1:{}/dw', 'table-name'='totals', 'username'='postgres');",
        server.port()
    );
    let file = place.file("p.sql", &format!("{ORDERS}{sink}{QUERY}"));
    let rows = || server.psql("dw", "SELECT g, n, total FROM totals ORDER BY g").unwrap();
    let running = place.spawn(&["sql", "-f", file.to_str().unwrap()]);
    place.wait("p", "RUNNING", 30);
    let right = rows();
    assert_eq!(right.lines().count(), 3, "{right}");

    server.psql("dw", "DELETE FROM totals WHERE g = 1; UPDATE totals SET total = -1 WHERE g = 2").unwrap();
    let report = place.json(&["replay", "p", "--from", "earliest"]);
    assert_eq!(report["sinks"]["totals"]["upserts"], 3);
    assert_eq!(rows(), right);

    // With the pipeline stopped, and only the keys of a range: offset 0 is id 1, group 1.
    place.ok(&["pipelines", "stop", "p"]);
    assert!(running.ended());
    server.psql("dw", "UPDATE totals SET total = -1").unwrap();
    place.ok(&["replay", "p", "--from", "orders:0:0", "--to", "orders:0:1"]);
    let mended = rows();
    assert_eq!(mended.lines().filter(|line| line.contains("-1")).count(), 2, "{mended}");
    place.ok(&["replay", "p", "--from", "earliest"]);
    assert_eq!(rows(), right);
    place.ok(&["replay", "p", "--from", "earliest"]);
    assert_eq!(rows(), right);
}

#[test]
fn missing_history_is_refused_and_named() {
    let place = Place::new();
    let run = tokio::runtime::Runtime::new().unwrap();
    run.block_on(async {
        let spec = TopicSpec::new("orders").config("segment.bytes", "1000").config("retention.bytes", "2000");
        place.log().create_topic(&spec).await.unwrap();
    });
    // Not to be compressed: the segments have to grow.
    let noise = || format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
    let event = |id| create(id, 1).replace("\"op\"", &format!("\"x\":\"{}\",\"op\"", noise()));
    let all = |from: u32, to: u32| (from..=to).map(event).collect::<Vec<_>>();
    place.send(&all(1, 100));
    let file = place.file("p.sql", &format!("{ORDERS}{TOTALS}{QUERY}"));
    let file = file.to_str().unwrap();
    place.ok(&["sql", "-f", file, "--until-idle", "300ms"]);
    place.ok(&["replay", "p", "--from", "orders:0:90"]);
    for chunk in 0..20 {
        place.send(&all(1000 + chunk * 100, 1099 + chunk * 100));
        if chunk % 5 == 4 {
            place.ok(&["sql", "-f", file, "--until-idle", "100ms"]);
        }
    }
    run.block_on(async { place.log().clean(false).await.unwrap() });
    let before = place.newest("totals");
    let screen = place.refused(&["replay", "p", "--from", "orders:0:2000"]);
    assert!(screen.contains("offsets 0 to") && screen.contains("retention"), "{screen}");
    assert_eq!(place.newest("totals"), before, "a refused replay writes nothing");
    // The pipeline itself goes on.
    place.send(&all(5000, 5001));
    place.ok(&["sql", "-f", file, "--until-idle", "100ms"]);

    run.block_on(async { place.log().delete_topic("orders").await.unwrap() });
    assert!(place.refused(&["replay", "p", "--from", "earliest"]).contains("does not exist any more"));
}

#[test]
fn savepoints_are_gone_back_to() {
    let place = Place::new();
    place.send(&(1..=10).map(|id| create(id, id)).collect::<Vec<_>>());
    let file = place.file("p.sql", &format!("{ORDERS}{TOTALS}{QUERY}"));
    let running = place.spawn(&["sql", "-f", file.to_str().unwrap()]);
    place.wait("p", "RUNNING", 10);
    // Of a running pipeline, which goes on.
    assert!(place.ok(&["pipelines", "savepoint", "p", "ten.savepoint"]).contains("bytes of state"));
    place.ok(&["pipelines", "stop", "p"]);
    assert!(running.ended());
    place.send(&[create(11, 1000)]);
    place.ok(&["sql", "-f", file.to_str().unwrap(), "--until-idle", "200ms"]);
    let right = place.newest("totals");
    // Of a stopped one.
    place.ok(&["pipelines", "savepoint", "p", "eleven.savepoint"]);

    // Back to ten: it reads on from there and comes to the same result.
    assert!(place.ok(&["pipelines", "restore", "ten.savepoint"]).contains("pipelines start p"));
    assert!(place.ok(&["pipelines", "status", "p"]).contains("next offset 10"));
    let running = place.spawn(&["pipelines", "start", "p"]);
    place.wait("p", "RUNNING", 11);
    assert_eq!(place.newest("totals"), right);
    assert!(
        place.refused(&["pipelines", "restore", "ten.savepoint"]).contains("millstream pipelines stop p")
    );
    place.ok(&["pipelines", "stop", "p"]);
    assert!(running.ended());

    // A pipeline of another name, and a file that is damaged or none.
    place.ok(&["pipelines", "restore", "eleven.savepoint", "--name", "q"]);
    assert!(place.ok(&["pipelines", "status", "q"]).contains("next offset 11"));
    let bytes = std::fs::read(place.dir.path().join("eleven.savepoint")).unwrap();
    let mut damaged = bytes.clone();
    let last = damaged.len() - 50;
    damaged[last] ^= 1;
    place.file("damaged.savepoint", "");
    std::fs::write(place.dir.path().join("damaged.savepoint"), &damaged).unwrap();
    place.refused(&["pipelines", "restore", "damaged.savepoint", "--name", "q"]);
    std::fs::write(place.dir.path().join("damaged.savepoint"), &bytes[..bytes.len() - 7]).unwrap();
    place.refused(&["pipelines", "restore", "damaged.savepoint", "--name", "q"]);
    assert!(place.ok(&["pipelines", "status", "q"]).contains("next offset 11"), "nothing is taken away");
    assert!(place.refused(&["pipelines", "restore", "p.sql"]).contains("no savepoint"));
}

/// A pipeline into a topic, files and a table that are only ever appended to.
fn copies(place: &Place, server: &TemporaryPostgres, database: &str) -> String {
    server.psql("postgres", &format!("CREATE DATABASE {database}")).unwrap();
    server.psql(database, "CREATE TABLE copies (id int, v int)").unwrap();
    let table =
        |name: &str, options: String| format!("CREATE TABLE {name} (id INT, v INT) WITH ({options});");
    let tables = [
        table(
            "topic",
            "'connector'='kafka', 'topic'='copies', 'properties.bootstrap.servers'='kafka:9092', \
            'format'='json'"
                .into(),
        ),
        table(
            "files",
            format!(
                "'connector'='filesystem', 'path'='{}', 'format'='json'",
                place.dir.path().join("files").display()
            ),
        ),
        table(
            "target",
            format!(
                "'connector'='jdbc', 'url'='jdbc:postgresql://127.0.0.1:{}/{database}', \
            'table-name'='copies', 'username'='postgres'",
                server.port()
            ),
        ),
    ];
    let orders = ORDERS.replace("'debezium-json'", "'json'").replace(", PRIMARY KEY (id) NOT ENFORCED", "");
    let inserts =
        ["topic", "files", "target"].map(|to| format!("INSERT INTO {to} SELECT id, v FROM orders;"));
    format!("{orders}{} EXECUTE STATEMENT SET BEGIN {} END;", tables.concat(), inserts.concat())
}

/// How many rows each of [`copies`] holds.
fn copied(place: &Place, server: &TemporaryPostgres, database: &str) -> [usize; 3] {
    let files = std::fs::read_dir(place.dir.path().join("files")).unwrap();
    let lines = |path| std::fs::read_to_string(path).unwrap().lines().count();
    [
        place.ok(&["topics", "read", "copies", "--jsonl"]).lines().count(),
        files.map(|file| lines(file.unwrap().path())).sum(),
        server.psql(database, "SELECT count(*) FROM copies").unwrap().trim().parse().unwrap(),
    ]
}

fn plain(ids: std::ops::RangeInclusive<u32>) -> Vec<String> {
    ids.map(|id| format!(r#"{{"id":{id},"g":0,"v":{id}}}"#)).collect()
}

/// What is in the state and in no target when a savepoint is taken comes out of what is restored from it, once.
#[test]
fn a_savepoint_of_a_pipeline_that_died_lacks_nothing() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    // The last two: it dies once more while some targets of the restored state have the rows and the others do not.
    let points = ["pipeline.after_state", "sink.after_write", "recovery.replayed", "recovery.settling"];
    for (number, point) in points.into_iter().enumerate() {
        let (place, database) = (Place::new(), format!("d{number}"));
        place.send(&plain(1..=10));
        let file = place.file("p.sql", &copies(&place, &server, &database));
        let args = ["sql", "-f", file.to_str().unwrap(), "--until-idle", "200ms"];
        let die = |point: &str| {
            let failpoint = format!("{point}=abort");
            let died = place.command(&args).env("MILLSTREAM_FAILPOINTS", failpoint).output().unwrap();
            assert_eq!(died.status.code(), None, "{point}");
        };
        die(if point.starts_with("recovery") { "pipeline.after_state" } else { point });
        place.ok(&["pipelines", "savepoint", "p", "p.savepoint"]);
        place.ok(&["pipelines", "restore", "p.savepoint"]);
        if point.starts_with("recovery") {
            die(point);
        }
        place.ok(&args);
        assert_eq!(copied(&place, &server, &database), [10; 3], "{point}");
    }
}

/// A pipeline that was killed does not know in its state that its targets hold the last epoch; they do.
#[test]
fn a_savepoint_of_a_pipeline_that_was_killed_doubles_nothing() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let place = Place::new();
    place.send(&plain(1..=10));
    let file = place.file("p.sql", &copies(&place, &server, "d"));
    let args = ["sql", "-f", file.to_str().unwrap(), "--until-idle", "200ms"];
    let killed = place.spawn(&["sql", "-f", file.to_str().unwrap()]);
    place.wait("p", "RUNNING", 10);
    drop(killed);
    place.ok(&["pipelines", "savepoint", "p", "p.savepoint"]);
    place.ok(&["pipelines", "restore", "p.savepoint"]);
    // A savepoint of what was restored and never started knows no less.
    place.ok(&["pipelines", "savepoint", "p", "q.savepoint"]);
    place.ok(&["pipelines", "restore", "q.savepoint"]);
    place.ok(&args);
    assert_eq!(copied(&place, &server, "d"), [10; 3]);

    // The pipeline goes on with the state that the savepoint was taken of, before it is gone back to.
    place.send(&plain(11..=15));
    let killed = place.spawn(&["sql", "-f", file.to_str().unwrap()]);
    place.wait("p", "RUNNING", 15);
    drop(killed);
    place.ok(&["pipelines", "savepoint", "p", "p.savepoint"]);
    place.send(&plain(16..=16));
    place.ok(&args);
    place.ok(&["pipelines", "restore", "p.savepoint"]);
    place.ok(&args);
    assert_eq!(
        copied(&place, &server, "d"),
        [17; 3],
        "what came behind the savepoint is there twice, and no more"
    );
}

/// A reset or restore that dies leaves the old state or the new one; nothing starts in its midst.
#[test]
fn a_state_is_exchanged_whole() {
    let place = Place::new();
    place.send(&(1..=10).map(|id| create(id, id)).collect::<Vec<_>>());
    let file = place.file("p.sql", &format!("{ORDERS}{TOTALS}{QUERY}"));
    let args = ["sql", "-f", file.to_str().unwrap(), "--until-idle", "200ms"];
    place.ok(&args);
    place.ok(&["pipelines", "savepoint", "p", "p.savepoint"]);
    place.send(&[create(11, 11)]);
    place.ok(&args);
    let right = place.newest("totals");
    let at = |point: &str, args: &[&str]| {
        let mut command = place.command(args);
        command.env("MILLSTREAM_FAILPOINTS", point);
        command
    };
    for (point, command, after) in [
        ("state.exchange", &["pipelines", "restore", "p.savepoint"][..], "next offset 10"),
        ("state.exchanged", &["pipelines", "restore", "p.savepoint"], "next offset 10"),
        ("state.exchange", &["pipelines", "reset", "p"], "epoch 0"),
        ("state.exchanged", &["pipelines", "reset", "p"], "epoch 0"),
    ] {
        let died = at(&format!("{point}=abort"), command).output().unwrap();
        assert_eq!(died.status.code(), None, "{point} {command:?}");
        assert!(place.ok(&["pipelines", "status", "p"]).contains(after), "{point} {command:?}");
        place.ok(&args);
        assert_eq!(place.newest("totals"), right);
    }

    // While it runs, nobody else gets at the state.
    let mut resets = at("state.exchange=pause", &["pipelines", "reset", "p"]).spawn().unwrap();
    let aside = place.data().join("pipelines/p/state.old");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !aside.exists() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(place.refused(&args).contains("another process"));
    resets.kill().unwrap();
    resets.wait().unwrap();
    place.ok(&args);
    assert_eq!(place.newest("totals"), right);
}

/// A start that never reached its target has thrown nothing away.
#[test]
fn a_query_that_was_taken_back_finds_its_state() {
    let mut server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let place = Place::new();
    place.send(&(1..=10).map(|id| create(id, id)).collect::<Vec<_>>());
    let targets = ["counts", "maxima"].map(|name| {
        format!(
            "CREATE TABLE {name} (g INT, v BIGINT, PRIMARY KEY (g) NOT ENFORCED) WITH ('connector'='jdbc', \
             'url'='jdbc:postgresql://127.0.0.1:{}/postgres', 'table-name'='{name}', 'username'='postgres');",
            server.port()
        )
    });
    let tables = format!("{ORDERS}{}", targets.concat());
    let counts = "INSERT INTO counts SELECT g, COUNT(*) FROM orders GROUP BY g;";
    let maxima = "INSERT INTO maxima SELECT g, CAST(MAX(v) AS BIGINT) FROM orders GROUP BY g;";
    let both = format!("{tables} EXECUTE STATEMENT SET BEGIN {counts} {maxima} END;");
    let one = format!("{tables} EXECUTE STATEMENT SET BEGIN {counts} END;");
    let run = |sql: &str| {
        let file = place.file("p.sql", sql);
        let output = place.output(&["sql", "-f", file.to_str().unwrap(), "--until-idle", "200ms"]);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (done, screen) = run(&both);
    assert!(done, "{screen}");
    server.stop(true).unwrap();
    let (done, screen) = run(&one);
    assert!(!done && screen.contains("cannot reach"), "{screen}");
    server.boot().unwrap();
    place.send(&[delete(10, 10)]);
    let (done, screen) = run(&both);
    assert!(done, "{screen}");
    // Group 1 had 1, 4, 7 and 10.
    let found = server.psql("postgres", "SELECT v FROM maxima WHERE g = 1").unwrap();
    assert_eq!(found.trim(), "7");
}

#[test]
fn a_changed_query_keeps_what_still_fits() {
    let place = Place::new();
    place.send(&(1..=10).map(|id| create(id, id)).collect::<Vec<_>>());
    let run = |query: &str| {
        let file = place.file("p.sql", &format!("{ORDERS}{TOTALS}{query}"));
        place.output(&["sql", "-f", file.to_str().unwrap(), "--until-idle", "200ms"])
    };
    assert!(run(QUERY).status.success());
    // Behind the aggregate: the sums go on from their state, doubled on their way out.
    place.send(&[create(12, 100)]);
    let doubled = "INSERT INTO totals SELECT g, n, total * 2 FROM (SELECT g, COUNT(*) AS n, SUM(v) AS total FROM orders GROUP BY g);";
    let output = run(doubled);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.contains("state still fits"), "{errors}");
    // Group 0: 3 + 6 + 9 + 100, twice.
    let newest = place.newest("totals");
    assert!(newest.values().any(|v| v.to_string().contains("236")), "{newest:?}");
    // Before it: refused, with what is new.
    let output = run(&QUERY.replace("FROM orders", "FROM orders WHERE v > 5"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("aggregate over orders"), "{errors}");
    // A target more would lack what was written before.
    let more = TOTALS.replace("totals", "more");
    let both = format!(
        "{more} EXECUTE STATEMENT SET BEGIN {doubled} {} END;",
        QUERY.replace("INTO totals", "INTO more")
    );
    let output = run(&both);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{errors}");
    assert!(errors.contains("sink more is new") && errors.contains("--fresh"), "{errors}");
    // Nothing that was refused has left a trace.
    place.send(&[create(15, 1000)]);
    assert!(run(doubled).status.success());
    let newest = place.newest("totals");
    assert!(newest.values().any(|v| v.to_string().contains("2236")), "{newest:?}");
}

#[test]
fn mini_batches_wait_and_come_to_the_same() {
    let place = Place::new();
    place.send(&(1..=30).map(|id| create(id, id)).collect::<Vec<_>>());
    let batched = "SET 'table.exec.mini-batch.enabled' = 'true'; SET 'table.exec.mini-batch.allow-latency' = '300 ms'; \
                   SET 'table.exec.mini-batch.size' = '1000';";
    let file = place.file("p.sql", &format!("{batched}{ORDERS}{TOTALS}{QUERY}"));
    let begun = Instant::now();
    place.ok(&["sql", "-f", file.to_str().unwrap(), "--until-idle", "50ms"]);
    assert!(begun.elapsed() > Duration::from_millis(300), "it did not wait");
    assert_eq!(place.newest("totals").len(), 3);
    let file = place
        .file("w.sql", &format!("SET 'table.exec.mini-batch.enabled' = 'true'; {ORDERS}{TOTALS}{QUERY}"));
    assert!(place.refused(&["sql", "-f", file.to_str().unwrap()]).contains("allow-latency"));
}

#[test]
fn a_savepoint_goes_on_with_a_changed_query() {
    let place = Place::new();
    place.send(&(1..=10).map(|id| create(id, id)).collect::<Vec<_>>());
    let ttl = |time: &str| format!("SET 'table.exec.state.ttl' = '{time}';");
    let run = |ttl: &str, query: &str| {
        let file = place.file("p.sql", &format!("{ttl}{ORDERS}{TOTALS}{query}"));
        place.output(&["sql", "-f", file.to_str().unwrap(), "--until-idle", "200ms"])
    };
    assert!(run(&ttl("1 h"), QUERY).status.success());
    place.ok(&["pipelines", "savepoint", "p", "p.savepoint"]);
    place.send(&[create(12, 100)]);
    assert!(run(&ttl("1 h"), QUERY).status.success());

    // Back, with another time to live and another projection: both fit.
    place.ok(&["pipelines", "restore", "p.savepoint"]);
    let changed = "INSERT INTO totals SELECT g, n, total * 2 FROM (SELECT g, COUNT(*) AS n, SUM(v) AS total FROM orders GROUP BY g);";
    let output = run(&ttl("2 h"), changed);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.contains("state still fits"), "{errors}");
    // Group 0: 3 + 6 + 9 and what came behind the savepoint, twice.
    let newest = place.newest("totals");
    assert!(newest.values().any(|v| v.to_string().contains("236")), "{newest:?}");

    // State that is kept for ever has other entries; and one without the savepoint's operators is of no use.
    place.ok(&["pipelines", "restore", "p.savepoint"]);
    let errors = String::from_utf8(run("", QUERY).stderr).unwrap();
    assert!(errors.contains("kept for ever, and was given a time to live"), "{errors}");
    let errors = String::from_utf8(run(&ttl("1 h"), &QUERY.replace("SUM", "MAX")).stderr).unwrap();
    assert!(errors.contains("aggregate over orders") && errors.contains("--fresh"), "{errors}");
}

/// What cannot be bounded is said before it grows.
#[test]
fn state_without_bounds_is_told() {
    let place = Place::new();
    place.send(&[r#"{"id":1,"g":1,"v":1}"#.to_owned()]);
    let unbounded = "its state grows without bound";
    // Rows that only come; the rows of a table with a key are as many as the table has.
    let events = ORDERS.replace("debezium-json", "json").replace(", PRIMARY KEY (id) NOT ENFORCED", "");
    let explained =
        |set: &str, orders: &str| place.ok(&["sql", "-e", &format!("{set}{orders}{TOTALS}EXPLAIN {QUERY}")]);
    assert!(explained("", &events).contains(unbounded), "{}", explained("", &events));
    assert!(!explained("SET 'table.exec.state.ttl' = '1 d';", &events).contains(unbounded));
    assert!(!explained("", ORDERS).contains(unbounded));
    let file = place.file("p.sql", &format!("{events}{TOTALS}{QUERY}"));
    let output = place.output(&["sql", "-f", file.to_str().unwrap(), "--until-idle", "100ms"]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains(unbounded));
}
