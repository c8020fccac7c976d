//! Nothing slow holds up what it has no business with: a heartbeat's query the stream, a long read a stop, our idle
//! offset the server's shutdown, wide rows our memory.

use std::time::{Duration, Instant};

use millstream::capture::{ConnectorHandle, Phase};

use crate::capture::read_topic;
use crate::network::phase;
use crate::slot_identity::{caught_up, events, log_at, server, start};

async fn stopped_soon(handle: &ConnectorHandle) {
    let begun = Instant::now();
    handle.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "the stop took {:?}", begun.elapsed());
    assert_eq!(handle.status().phase, Phase::Stopped);
}

async fn until(what: &str, handle: &ConnectorHandle, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: {:?}", handle.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_slower_than_its_period() {
    let server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    let extra = [
        ("heartbeat.interval.ms", "200"),
        ("heartbeat.action.query", "SELECT pg_sleep(0.4)"),
        ("snapshot.mode", "no_data"),
    ];
    let handle = start(&server, &log, &extra);
    caught_up(&handle).await;
    // Heartbeats are under way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for id in 2..=6 {
        server.psql("shop", &format!("INSERT INTO t VALUES ({id}, 'x')")).unwrap();
        until("the change", &handle, async || events(&log).await.len() == id - 1).await;
    }
    stopped_soon(&handle).await;
}

/// The SELECT of a blocking snapshot takes a minute to its first row: that is no stall, and does not hold up a stop.
/// The next start begins it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocking_snapshot_that_is_slow() {
    let server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    server
        .psql(
            "shop",
            "CREATE TABLE signals (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data text)",
        )
        .unwrap();
    let extra = [("snapshot.mode", "no_data"), ("signal.data.collection", "public.signals")];
    let handle = start(&server, &log, &extra);
    caught_up(&handle).await;
    server
        .psql(
            "shop",
            r#"INSERT INTO signals VALUES ('slow', 'execute-snapshot', '{"data-collections": ["public.t"],
               "type": "blocking", "additional-conditions": [{"data-collection": "public.t",
               "filter": "SELECT t.* FROM t, pg_sleep(CASE WHEN EXISTS (SELECT 1 FROM t WHERE v = ''quick'') THEN 0 ELSE 60 END)"}]}')"#,
        )
        .unwrap();
    phase(&handle, Phase::Snapshot, Duration::from_secs(20)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stopped_soon(&handle).await;
    server.psql("shop", "UPDATE t SET v = 'quick'").unwrap();
    let handle = start(&server, &log, &extra);
    until("the snapshot and the change", &handle, async || events(&log).await.contains(&"u 1".to_owned()))
        .await;
    assert_eq!(events(&log).await, ["r 1", "u 1"]);
    stopped_soon(&handle).await;
}

/// A server that shuts down waits until its WAL is confirmed: it gets that at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_shuts_down() {
    let mut server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    server.psql("shop", "CREATE UNLOGGED TABLE noise (v text)").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    let handle = start(&server, &log, &[]);
    caught_up(&handle).await;
    for _ in 0..2 {
        server.psql("shop", "INSERT INTO t SELECT max(id) + 1, 'x' FROM t; SELECT txid_current()").unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.psql("shop", "CREATE TABLE more (id int); DROP TABLE more").unwrap();
        let begun = Instant::now();
        server = tokio::task::spawn_blocking(move || {
            server.stop(false).unwrap();
            server
        })
        .await
        .unwrap();
        let took = begun.elapsed();
        println!("the server has stopped after {took:?}");
        assert!(took < Duration::from_secs(6), "it took {took:?}");
        server.boot().unwrap();
        phase(&handle, Phase::Streaming, Duration::from_secs(30)).await;
    }
    stopped_soon(&handle).await;
}

/// Rows of megabytes: a chunk is bounded in bytes, each row comes once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_snapshot_of_wide_rows() {
    let server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    server
        .psql(
            "shop",
            "DELETE FROM t; INSERT INTO t SELECT g, repeat('w', 2000000) FROM generate_series(1, 14) g;
             INSERT INTO t SELECT g, 'narrow' FROM generate_series(15, 500) g;
             CREATE TABLE signals (id varchar(64) PRIMARY KEY, type varchar(32) NOT NULL, data text)",
        )
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    let extra = [
        ("snapshot.mode", "no_data"),
        ("signal.data.collection", "public.signals"),
        ("notification.enabled.channels", "sink"),
        ("notification.sink.topic.name", "told"),
    ];
    let handle = start(&server, &log, &extra);
    caught_up(&handle).await;
    server
        .psql(
            "shop",
            r#"INSERT INTO signals VALUES ('w', 'execute-snapshot', '{"data-collections": ["public.t"]}')"#,
        )
        .unwrap();
    until("all rows", &handle, async || events(&log).await.len() >= 500).await;
    let expected: Vec<String> = (1..=500).map(|id| format!("r {id}")).collect();
    assert_eq!(events(&log).await, expected);
    let told = read_topic(&log, "told").await;
    let chunks = told.iter().filter(|r| r.value.as_ref().is_some_and(|v| v["type"] == "IN_PROGRESS")).count();
    // 28 MB in chunks of at most 8 MiB, and the narrow ones in growing chunks behind.
    assert!(chunks >= 4, "{chunks} chunks");
    handle.stop().await;
}

/// Limits that an administrator has set for sessions and transactions are not meant for one that stands by.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_are_quiet_are_not_ended() {
    let server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    let limits = ["idle_session_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"];
    for limit in limits {
        let sql = format!("SELECT count(*) FROM pg_settings WHERE name = '{limit}'");
        if server.psql("shop", &sql).unwrap().trim() == "1" {
            server.psql("shop", &format!("ALTER ROLE postgres SET {limit} = '3s'")).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    let extra = [
        ("snapshot.select.statement.overrides", "public.t"),
        ("snapshot.select.statement.overrides.public.t", "SELECT t.* FROM t, pg_sleep(3.5)"),
    ];
    let handle = start(&server, &log, &extra);
    caught_up(&handle).await;
    tokio::time::sleep(Duration::from_millis(3500)).await;
    // Asks the catalog.
    server.psql("shop", "ALTER TABLE t ADD COLUMN x int; INSERT INTO t VALUES (2, 'x', 1)").unwrap();
    until("the change", &handle, async || events(&log).await == ["r 1", "c 2"]).await;
    assert_eq!(handle.status().counters.reconnects, 0);
    stopped_soon(&handle).await;
}

/// Of several readers of a snapshot one fails: the others, which may have hours to go, are not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_fails_with_its_first_reader() {
    let server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    server.psql("shop", "CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    let extra = [
        ("snapshot.max.threads", "2"),
        ("snapshot.select.statement.overrides", "public.t,public.u"),
        ("snapshot.select.statement.overrides.public.t", "SELECT t.* FROM t, pg_sleep(60)"),
        ("snapshot.select.statement.overrides.public.u", "SELECT id FROM u WHERE 1 / (id - 1) > 0"),
    ];
    let handle = start(&server, &log, &extra);
    let ended = tokio::time::timeout(Duration::from_secs(20), handle.ended_by_itself()).await;
    let screen = ended.expect("it ends with the first").unwrap_err().screen();
    assert!(screen.contains("public.u") && screen.contains("division by zero"), "{screen}");
}
