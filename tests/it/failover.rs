//! Servers that change under a connector: failover with a slot that follows, backups put back, upgrades.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::capture::{Connector, ConnectorHandle, Env, Phase};
use millstream::config::AddressMap;
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::log::Log;

use crate::capture::config;
use crate::slot_identity::{caught_up, events, fails, log_at, run_through, server, start};
use crate::support::postgres::{self, Backup};

fn lsn(server: &TemporaryPostgres) -> u64 {
    server.psql("shop", "SELECT pg_current_wal_lsn() - '0/0'").unwrap().trim().parse().unwrap()
}

/// Where the stored offset is.
async fn restart(log: &Arc<dyn Log>) -> u64 {
    let offsets = millstream::capture::offsets::read_all(log, "millstream-offsets", "c").await.unwrap();
    offsets[0].1["millstream.restart_lsn"].as_u64().unwrap()
}

/// Writes until the WAL has left this position behind.
fn write_past(server: &TemporaryPostgres, position: u64, sql: &str) {
    while lsn(server) <= position {
        server.psql("shop", sql).unwrap();
        server.psql("shop", "SELECT pg_switch_wal()").unwrap();
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A backup is put back without recovery to another timeline (a copy of the disk): the server writes other
/// transactions where the log's came from, and nothing but the WAL itself tells it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_put_back_on_the_same_timeline_is_named() {
    let mut server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    run_through(&server, &log, &[]).await;
    server.psql("shop", "INSERT INTO t VALUES (2, 'kept')").unwrap();
    run_through(&server, &log, &[]).await;
    server.stop(false).unwrap();
    let backup = Backup::take(&server);
    server.boot().unwrap();
    server.psql("shop", "INSERT INTO t VALUES (3, 'lost by the backup')").unwrap();
    run_through(&server, &log, &[]).await;
    server.stop(false).unwrap();
    backup.restore();
    server.boot().unwrap();
    let screen = fails(&server, &log, &[]).await;
    assert!(screen.contains("restored from a backup"), "{screen}");
    // Once its WAL is past the offset, the position alone looks good.
    write_past(&server, restart(&log).await, "INSERT INTO t SELECT max(id) + 1, 'another' FROM t");
    let screen = fails(&server, &log, &[]).await;
    assert!(screen.contains("does not hold transaction"), "{screen}");
    assert!(screen.contains("restored from a backup") && screen.contains("resnapshot"), "{screen}");
    assert_eq!(events(&log).await, ["r 1", "c 2", "c 3"]);
    let rows: usize = server.psql("shop", "SELECT count(*) FROM t").unwrap().trim().parse().unwrap();
    run_through(&server, &log, &[("millstream.lost.position", "resnapshot")]).await;
    assert_eq!(events(&log).await.len(), 3 + rows);
    // And on from there, without the policy.
    server.psql("shop", "INSERT INTO t VALUES (1000, 'streamed')").unwrap();
    run_through(&server, &log, &[]).await;
    assert_eq!(events(&log).await.last().unwrap(), "c 1000");
}

/// A backup from after the last event, but from before the offset: nothing in the log is wrong, and nothing that
/// came since is skipped.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_holds_the_whole_log_is_gone_on_with() {
    let mut server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    server.psql("shop", "CREATE UNLOGGED TABLE noise (v text)").unwrap();
    let noise = "INSERT INTO noise VALUES ('n')";
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    run_through(&server, &log, &[]).await;
    server.psql("shop", "INSERT INTO t VALUES (2, 'kept')").unwrap();
    run_through(&server, &log, &[]).await;
    server.stop(false).unwrap();
    let backup = Backup::take(&server);
    server.boot().unwrap();
    write_past(&server, lsn(&server), noise);
    run_through(&server, &log, &[]).await;
    server.stop(false).unwrap();
    backup.restore();
    server.boot().unwrap();
    server.psql("shop", "INSERT INTO t VALUES (3, 'before the old offset')").unwrap();
    write_past(&server, restart(&log).await, noise);
    run_through(&server, &log, &[]).await;
    assert_eq!(events(&log).await, ["r 1", "c 2", "c 3"]);
}

/// pg_upgrade, or a dump into a newer server, makes another cluster.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_server_is_named() {
    let found =
        tokio::task::spawn_blocking(|| postgres::exactly(15).zip(postgres::exactly(17))).await.unwrap();
    let Some((old, new)) = found else { return };
    let with = |bin| {
        let server =
            TemporaryPostgres::start(&PostgresOptions { bin: Some(bin), ..PostgresOptions::default() });
        let server = server.unwrap();
        server.psql("postgres", "CREATE DATABASE shop").unwrap();
        server
            .psql("shop", "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a')")
            .unwrap();
        server
    };
    let (old, new) = tokio::task::spawn_blocking(move || (with(old), with(new))).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    run_through(&old, &log, &[]).await;
    let screen = fails(&new, &log, &[]).await;
    assert!(screen.contains("does not exist any more") || screen.contains("was upgraded"), "{screen}");
    // As the upgrade brings it along, or an administrator makes it before the new server is written to.
    new.psql("shop", "SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')").unwrap();
    new.psql("shop", "CREATE PUBLICATION dbz_publication FOR ALL TABLES").unwrap();
    let screen = fails(&new, &log, &[]).await;
    assert!(screen.contains("the server was upgraded from PostgreSQL 15 to 17"), "{screen}");
    assert!(screen.contains("offset.mismatch.strategy=trust_slot"), "{screen}");
    new.psql("shop", "SELECT pg_drop_replication_slot('debezium')").unwrap();
    new.psql("shop", "SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')").unwrap();
    new.psql("shop", "INSERT INTO t VALUES (2, 'on the new server')").unwrap();
    run_through(&new, &log, &[("offset.mismatch.strategy", "trust_slot")]).await;
    assert_eq!(events(&log).await, ["r 1", "c 2"]);
    run_through(&new, &log, &[]).await;
}

fn at_either(primary: &TemporaryPostgres, standby: &TemporaryPostgres) -> AddressMap {
    let mapping =
        |server: &TemporaryPostgres| format!("db:5432=127.0.0.1:{}", server.port()).parse().unwrap();
    AddressMap::new(vec![mapping(primary), mapping(standby)])
}

/// From 17 on the server itself takes a failover slot along to its standby: the primary dies, the standby is
/// promoted, and the connector goes on by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_slot_is_made_and_followed_without_a_human() {
    let Some(bin) = tokio::task::spawn_blocking(|| postgres::at_least(17)).await.unwrap() else { return };
    let (mut primary, standby) = tokio::task::spawn_blocking(move || {
        let primary =
            TemporaryPostgres::start(&PostgresOptions { bin: Some(bin), ..PostgresOptions::default() });
        let primary = primary.unwrap();
        primary
            .psql("postgres", "CREATE DATABASE shop; SELECT pg_create_physical_replication_slot('standby')")
            .unwrap();
        primary
            .psql("shop", "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'snapshot')")
            .unwrap();
        let standby = primary.standby(&[
            "primary_slot_name = 'standby'",
            "hot_standby_feedback = on",
            "sync_replication_slots = on",
        ]);
        (primary, standby.unwrap())
    })
    .await
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(Path::new(dir.path())).await;
    let config = config(
        &primary,
        &[
            ("database.hostname", "db"),
            ("database.port", "5432"),
            ("slot.failover", "true"),
            ("retriable.restart.connector.wait.ms", "500"),
        ],
    );
    let mut env = Env::new(Arc::clone(&log), config.name());
    env.addresses = at_either(&primary, &standby);
    let handle: ConnectorHandle = Connector::start(config, env).unwrap();
    caught_up(&handle).await;
    let failover = "SELECT failover FROM pg_replication_slots WHERE slot_name = 'debezium'";
    assert_eq!(primary.psql("shop", failover).unwrap().trim(), "t");
    // The standby takes the slot over once its own WAL is far enough.
    let mut id = 1;
    let synced =
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'debezium' AND synced AND NOT temporary";
    until("the slot on the standby", async || {
        id += 1;
        primary.psql("shop", &format!("INSERT INTO t VALUES ({id}, 'before')")).unwrap();
        primary.psql("shop", "SELECT pg_log_standby_snapshot()").unwrap();
        standby.psql("shop", synced).unwrap().trim() == "1"
    })
    .await;
    until("all events", async || events(&log).await.len() == id).await;
    let sql = format!("SELECT pg_last_wal_replay_lsn() - '0/0' >= {}", lsn(&primary));
    until("the standby", async || standby.psql("shop", &sql).unwrap().trim() == "t").await;
    tokio::task::spawn_blocking(move || primary.stop(true).unwrap()).await.unwrap();
    until("RECONNECTING", async || handle.status().phase == Phase::Reconnecting).await;
    // The standby alone is no primary yet.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_ne!(handle.status().phase, Phase::Failed, "{:?}", handle.status().error);
    standby.psql("shop", "SELECT pg_promote()").unwrap();
    let id = id + 1;
    standby.psql("shop", &format!("INSERT INTO t VALUES ({id}, 'on the new primary')")).unwrap();
    until("the new primary's event", async || events(&log).await.len() >= id).await;
    let mut expected = vec!["r 1".to_owned()];
    expected.extend((2..=id).map(|id| format!("c {id}")));
    assert_eq!(events(&log).await, expected);
    assert_eq!(handle.status().phase, Phase::Streaming);
    handle.stop().await;
    let offsets = millstream::capture::offsets::read_all(&log, "millstream-offsets", "c").await.unwrap();
    assert_eq!(offsets[0].1["millstream.timeline"], 2);
    // A start anew finds the promoted server, too.
    let handle = start(&standby, &log, &[("slot.failover", "true")]);
    caught_up(&handle).await;
    handle.stop().await;
    assert_eq!(events(&log).await, expected);
}
