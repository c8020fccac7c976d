//! What a source may have set up that a connector has to take as it is: replication origins, prepared transactions,
//! replica identities.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::log::Log;
use serde_json::Value;

use crate::capture::{Seen, read_topic};
use crate::slot_identity::{caught_up, events, fails, log_at, run_through, start};

async fn server(settings: &'static [&'static str]) -> TemporaryPostgres {
    tokio::task::spawn_blocking(|| {
        let settings = settings.iter().map(|s| (*s).to_owned()).collect();
        let server =
            TemporaryPostgres::start(&PostgresOptions { settings, ..PostgresOptions::default() }).unwrap();
        server.psql("postgres", "CREATE DATABASE shop").unwrap();
        server.psql("shop", "CREATE TABLE t (id int PRIMARY KEY, v text)").unwrap();
        server
    })
    .await
    .unwrap()
}

async fn records(log: &Arc<dyn Log>, at_least: usize) -> Vec<Seen> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let records = read_topic(log, "s.public.t").await;
        if records.len() >= at_least {
            return records;
        }
        assert!(Instant::now() < deadline, "{} of {at_least} records", records.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Changes that came to the source by replication say from where, also in transactions so large that the server would
/// send them before they commit; `origin=none` leaves them out.
#[tokio::test(flavor = "multi_thread")]
async fn replication_origins() {
    let server = server(&["logical_decoding_work_mem = '64kB'"]).await;
    server.psql("shop", "SELECT pg_replication_origin_create('elsewhere')").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(&dir.path().join("all")).await;
    let none = log_at(&dir.path().join("none")).await;
    let quiet = [("slot.name", "none"), ("slot.stream.params", "origin=none"), ("snapshot.mode", "no_data")];
    let has_filter =
        server.psql("shop", "SHOW server_version_num").unwrap().trim().parse::<u32>().unwrap() >= 160_000;
    let handle = start(&server, &log, &[("snapshot.mode", "no_data")]);
    caught_up(&handle).await;
    let filtered = has_filter.then(|| start(&server, &none, &quiet));
    if let Some(filtered) = &filtered {
        caught_up(filtered).await;
    }
    server
        .psql(
            "shop",
            "INSERT INTO t VALUES (1, 'local');
             SELECT pg_replication_origin_session_setup('elsewhere');
             INSERT INTO t VALUES (2, 'remote');
             BEGIN;
             SELECT pg_replication_origin_xact_setup('0/1234', '2020-01-01 00:00+00');
             INSERT INTO t SELECT g, repeat('r', 200) FROM generate_series(3, 3000) g;
             COMMIT;
             SELECT pg_replication_origin_session_reset();
             INSERT INTO t VALUES (3001, 'local')",
        )
        .unwrap();
    let records = records(&log, 3001).await;
    handle.stop().await;
    let origin = |n: usize| records[n].value.as_ref().unwrap()["source"]["origin"].clone();
    let ids: Vec<i64> = records.iter().map(|r| r.key.as_ref().unwrap()["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, (1..=3001).collect::<Vec<_>>());
    assert_eq!((origin(0), origin(3000)), (Value::Null, Value::Null));
    for n in [1, 2, 1500, 2999] {
        assert_eq!(origin(n), "elsewhere", "{}", n + 1);
    }
    let lsn = records[2].value.as_ref().unwrap()["source"]["origin_lsn"].clone();
    assert_eq!(lsn, 0x1234, "{:?}", records[2]);
    if let Some(filtered) = filtered {
        while events(&none).await.len() < 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(events(&none).await, ["c 1", "c 3001"]);
        filtered.stop().await;
    }
}

/// A prepared transaction comes when it commits, whole and once, also where the connector is started anew in between;
/// what is rolled back never comes; a slot that sends such transactions before is refused.
#[tokio::test(flavor = "multi_thread")]
async fn prepared_transactions() {
    let server = server(&["max_prepared_transactions = 5", "logical_decoding_work_mem = '64kB'"]).await;
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    let extra = [("snapshot.mode", "no_data")];
    let handle = start(&server, &log, &extra);
    caught_up(&handle).await;
    for sql in [
        "BEGIN; INSERT INTO t VALUES (1, 'kept'); PREPARE TRANSACTION 'kept'",
        "BEGIN; INSERT INTO t SELECT g, repeat('l', 200) FROM generate_series(10, 2000) g; PREPARE TRANSACTION 'large'",
        "BEGIN; INSERT INTO t VALUES (2, 'lost'); PREPARE TRANSACTION 'lost'",
        "INSERT INTO t VALUES (3, 'between')",
    ] {
        server.psql("shop", sql).unwrap();
    }
    assert_eq!(records(&log, 1).await.len(), 1);
    handle.stop().await;
    let handle = start(&server, &log, &extra);
    caught_up(&handle).await;
    for sql in [
        "COMMIT PREPARED 'kept'",
        "ROLLBACK PREPARED 'lost'",
        "COMMIT PREPARED 'large'",
        "INSERT INTO t VALUES (4, 'last')",
    ] {
        server.psql("shop", sql).unwrap();
    }
    let ids: Vec<i64> =
        records(&log, 1994).await.iter().map(|r| r.key.as_ref().unwrap()["id"].as_i64().unwrap()).collect();
    let expected: Vec<i64> = [3, 1].into_iter().chain(10..=2000).chain([4]).collect();
    assert_eq!(ids, expected);
    handle.stop().await;
    let version: u32 = server.psql("shop", "SHOW server_version_num").unwrap().trim().parse().unwrap();
    if version >= 140_000 {
        server
            .psql("shop", "SELECT pg_create_logical_replication_slot('early', 'pgoutput', false, true)")
            .unwrap();
        let other = log_at(&dir.path().join("other")).await;
        let screen = fails(&server, &other, &[("slot.name", "early")]).await;
        assert!(screen.contains("made with two_phase") && screen.contains("slot.name"), "{screen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_identities_are_set_at_the_start() {
    let server = server(&[]).await;
    server
        .psql("shop", "CREATE TABLE u (id int PRIMARY KEY, k int NOT NULL, CONSTRAINT u_k UNIQUE (k))")
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    let extra = [("replica.identity.autoset.values", "public.t:FULL,public.u:INDEX u_k")];
    run_through(&server, &log, &extra).await;
    let identity = |table: &str| {
        server.psql("shop", &format!("SELECT relreplident FROM pg_class WHERE relname = '{table}'")).unwrap()
    };
    assert_eq!((identity("t").trim(), identity("u").trim()), ("f", "i"));
    server.psql("shop", "INSERT INTO t VALUES (1, 'old'); UPDATE t SET v = 'new'").unwrap();
    run_through(&server, &log, &extra).await;
    let update = records(&log, 2).await.pop().unwrap().value.unwrap();
    assert_eq!(update["before"]["v"], "old", "{update}");
    // Two entries for one table are refused.
    let twice = [("replica.identity.autoset.values", "public.t:FULL,public.*:DEFAULT")];
    let screen = fails(&server, &log, &twice).await;
    assert!(screen.contains("two entries of replica.identity.autoset.values"), "{screen}");
}
