//! Slots and servers that are not what the offset was written for: each is named, nothing is skipped.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::capture::{Connector, ConnectorHandle, Env, Phase};
use millstream::config::ConnectorConfig;
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::log::{Log, OpenOptions};

use crate::capture::{config, read_topic};

pub(crate) fn server(settings: &[&str]) -> TemporaryPostgres {
    let settings = settings.iter().map(|s| (*s).to_owned()).collect();
    let server =
        TemporaryPostgres::start(&PostgresOptions { settings, ..PostgresOptions::default() }).unwrap();
    server.psql("postgres", "CREATE DATABASE shop").unwrap();
    server
        .psql("shop", "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'snapshot')")
        .unwrap();
    server
}

pub(crate) async fn log_at(dir: &Path) -> Arc<dyn Log> {
    millstream::log::open(&format!("file:{}", dir.display()), &OpenOptions::default()).await.unwrap()
}

pub(crate) fn start(
    server: &TemporaryPostgres,
    log: &Arc<dyn Log>,
    extra: &[(&str, &str)],
) -> ConnectorHandle {
    let config: ConnectorConfig = config(server, extra);
    let env = Env::new(Arc::clone(log), config.name());
    Connector::start(config, env).unwrap()
}

pub(crate) async fn caught_up(handle: &ConnectorHandle) {
    tokio::time::timeout(Duration::from_secs(30), handle.caught_up()).await.expect("in time").unwrap();
}

/// Runs until everything is in the log.
pub(crate) async fn run_through(server: &TemporaryPostgres, log: &Arc<dyn Log>, extra: &[(&str, &str)]) {
    let handle = start(server, log, extra);
    caught_up(&handle).await;
    handle.stop().await;
}

/// The screen of what it fails with.
pub(crate) async fn fails(server: &TemporaryPostgres, log: &Arc<dyn Log>, extra: &[(&str, &str)]) -> String {
    let handle = start(server, log, extra);
    let result =
        tokio::time::timeout(Duration::from_secs(20), handle.ended_by_itself()).await.expect("it fails");
    result.unwrap_err().screen()
}

/// `op id` of every event of the table.
pub(crate) async fn events(log: &Arc<dyn Log>) -> Vec<String> {
    let field = |r: &crate::capture::Seen| {
        let v = r.value.as_ref()?;
        Some(format!("{} {}", v["op"].as_str()?, r.key.as_ref()?["id"]))
    };
    read_topic(log, "s.public.t").await.iter().filter_map(field).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_dropped_or_made_anew_is_named_and_nothing_is_skipped() {
    let server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    run_through(&server, &log, &[]).await;
    server.psql("shop", "INSERT INTO t VALUES (2, 'lost')").unwrap();
    server.psql("shop", "SELECT pg_drop_replication_slot('debezium')").unwrap();
    let screen = fails(&server, &log, &[]).await;
    assert!(
        screen.contains("it was dropped") && screen.contains("millstream.lost.position=resnapshot"),
        "{screen}"
    );
    server.psql("shop", "SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')").unwrap();
    server.psql("shop", "INSERT INTO t VALUES (3, 'after')").unwrap();
    for strategy in ["no_validation", "trust_offset"] {
        let screen = fails(&server, &log, &[("offset.mismatch.strategy", strategy)]).await;
        assert!(screen.contains("dropped and made anew"), "{screen}");
    }
    assert_eq!(events(&log).await, ["r 1"]);
    // Knowingly: the gap is left out.
    run_through(&server, &log, &[("offset.mismatch.strategy", "trust_slot")]).await;
    assert_eq!(events(&log).await, ["r 1", "c 3"]);
    server.psql("shop", "SELECT pg_drop_replication_slot('debezium')").unwrap();
    run_through(&server, &log, &[("millstream.lost.position", "resnapshot")]).await;
    assert_eq!(events(&log).await, ["r 1", "c 3", "r 1", "r 2", "r 3"]);
    // Another cluster at the same address.
    let other = tokio::task::spawn_blocking(|| self::server(&[])).await.unwrap();
    other.psql("shop", "SELECT pg_create_logical_replication_slot('debezium', 'pgoutput')").unwrap();
    let screen = fails(&other, &log, &[]).await;
    assert!(screen.contains("another database cluster"), "{screen}");
}

/// An invalidated slot is recognised while streaming and at a start; the policy answers it.
#[tokio::test(flavor = "multi_thread")]
async fn an_invalidated_slot_is_named_at_once_and_the_policy_answers() {
    let server = tokio::task::spawn_blocking(|| {
        server(&["max_slot_wal_keep_size = '1MB'", "min_wal_size = '32MB'", "max_wal_size = '64MB'"])
    })
    .await
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    // Nobody moves this slot on.
    let extra = [("lsn.flush.mode", "manual"), ("status.update.interval.ms", "200")];
    let handle = start(&server, &log, &extra);
    caught_up(&handle).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while handle.status().slot.is_none_or(|slot| slot.safe_bytes.is_none()) {
        assert!(Instant::now() < deadline, "{:?}", handle.status().slot);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(handle.status().slot.unwrap().wal_status.as_deref(), Some("reserved"));
    for n in 0..4 {
        let sql = format!(
            "INSERT INTO t SELECT g, 'x' FROM generate_series({0}, {0} + 9) g; SELECT pg_switch_wal(); CHECKPOINT",
            100 + n * 10
        );
        for statement in sql.split(';') {
            server.psql("shop", statement).unwrap();
        }
    }
    let error =
        tokio::time::timeout(Duration::from_secs(20), handle.ended_by_itself()).await.unwrap().unwrap_err();
    let screen = error.screen();
    assert_eq!(handle.status().phase, Phase::Failed);
    assert!(screen.contains("max_slot_wal_keep_size") && screen.contains("\"debezium\""), "{screen}");
    drop(handle);
    let screen = fails(&server, &log, &extra).await;
    assert!(screen.contains("max_slot_wal_keep_size"), "{screen}");
    let handle = start(&server, &log, &[("millstream.lost.position", "resnapshot")]);
    caught_up(&handle).await;
    server.psql("shop", "INSERT INTO t VALUES (1000, 'streamed')").unwrap();
    while !events(&log).await.contains(&"c 1000".to_owned()) {
        assert!(Instant::now() < deadline + Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let reads = events(&log).await.iter().filter(|e| e.starts_with('r')).count();
    assert_eq!(reads, 1 + 41);
    handle.stop().await;
}

/// Takes a slot along, as failover tools do on servers before 17.
fn copy_slot(from: &TemporaryPostgres, to: &TemporaryPostgres, slot: &str) {
    from.psql("postgres", "CHECKPOINT").unwrap();
    let target = to.data_dir().join("pg_replslot");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(from.data_dir().join("pg_replslot").join(slot))
        .arg(target)
        .status()
        .unwrap();
    assert!(copied.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_is_followed_unless_it_lacks_what_is_in_the_log() {
    let (primary, mut standby) = tokio::task::spawn_blocking(|| {
        let primary = server(&[]);
        let standby = primary.standby(&[]).unwrap();
        (primary, standby)
    })
    .await
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (good, ahead) = (log_at(&dir.path().join("good")).await, log_at(&dir.path().join("ahead")).await);
    run_through(&primary, &good, &[("slot.name", "good")]).await;
    run_through(&primary, &ahead, &[("slot.name", "ahead")]).await;
    primary.psql("shop", "INSERT INTO t VALUES (2, 'before'); INSERT INTO t VALUES (3, 'unseen')").unwrap();
    run_through(&primary, &good, &[("slot.name", "good")]).await;
    let end = primary.psql("shop", "SELECT pg_current_wal_lsn()").unwrap();
    let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", end.trim());
    let deadline = Instant::now() + Duration::from_secs(20);
    while standby.psql("shop", &sql).unwrap().trim() != "t" {
        assert!(Instant::now() < deadline, "the standby does not follow");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    standby.stop(false).unwrap();
    for slot in ["good", "ahead"] {
        copy_slot(&primary, &standby, slot);
    }
    standby.boot().unwrap();
    standby.psql("shop", "SELECT pg_promote()").unwrap();
    standby.psql("shop", "INSERT INTO t VALUES (4, 'on the new primary')").unwrap();
    // The old primary goes on for a moment, and its changes are captured: nobody else will ever have them.
    primary.psql("shop", "INSERT INTO t VALUES (40, 'on the old primary')").unwrap();
    run_through(&primary, &ahead, &[("slot.name", "ahead")]).await;
    assert_eq!(events(&ahead).await, ["r 1", "c 2", "c 3", "c 40"]);
    drop(primary);

    run_through(&standby, &good, &[("slot.name", "good")]).await;
    assert_eq!(events(&good).await, ["r 1", "c 2", "c 3", "c 4"]);
    let offsets = millstream::capture::offsets::read_all(&good, "millstream-offsets", "c").await.unwrap();
    assert_eq!(offsets[0].1["millstream.timeline"], 2);
    // And on from there.
    standby.psql("shop", "INSERT INTO t VALUES (5, 'later')").unwrap();
    run_through(&standby, &good, &[("slot.name", "good")]).await;
    assert_eq!(events(&good).await, ["r 1", "c 2", "c 3", "c 4", "c 5"]);

    let screen = fails(&standby, &ahead, &[("slot.name", "ahead")]).await;
    assert!(screen.contains("promoted from timeline 1 to 2"), "{screen}");
    assert!(screen.contains("before the last change in the log"), "{screen}");
    assert_eq!(events(&ahead).await.len(), 4);
}

/// A quiet publication beside a busy database: the slot follows.
async fn idle_beside_a_busy_database(lasts: Duration) {
    let server = tokio::task::spawn_blocking(|| server(&[])).await.unwrap();
    server.psql("postgres", "CREATE DATABASE busy").unwrap();
    server.psql("busy", "CREATE TABLE noise (t text)").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = log_at(dir.path()).await;
    let handle = start(&server, &log, &[]);
    caught_up(&handle).await;
    let number = |sql: &str| server.psql("shop", sql).unwrap().trim().parse::<u64>().unwrap();
    let mut seen: Vec<(Instant, u64)> = Vec::new();
    let begun = Instant::now();
    let (mut worst, mut moved) = (0, 0);
    while begun.elapsed() < lasts {
        server
            .psql("busy", "INSERT INTO noise SELECT repeat('n', 200) FROM generate_series(1, 10000)")
            .unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (now, confirmed, restart) = (
            number("SELECT pg_current_wal_lsn() - '0/0'"),
            number("SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots"),
            number("SELECT restart_lsn - '0/0' FROM pg_replication_slots"),
        );
        seen.push((Instant::now(), now));
        worst = worst.max(now - confirmed);
        assert!(now - confirmed <= 32 << 20, "confirmed_flush_lsn is {} bytes behind", now - confirmed);
        // Two intervals of running-xacts records, and what a checkpoint on this machine may take.
        let before = Instant::now().checked_sub(Duration::from_secs(36));
        let bound = seen.iter().rev().find(|(at, _)| Some(*at) <= before).map(|(_, lsn)| *lsn);
        if let Some(bound) = bound {
            moved += 1;
            assert!(restart >= bound, "restart_lsn retains {} bytes", now - restart);
        }
    }
    println!(
        "{} looks, confirmed at most {worst} bytes behind, restart_lsn compared {moved} times",
        seen.len()
    );
    assert!(seen.last().unwrap().1 - seen[0].1 > 8 << 20, "the database was not busy");
    handle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_publication_does_not_hold_wal_back() {
    idle_beside_a_busy_database(Duration::from_secs(12)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn an_idle_publication_does_not_hold_wal_back_for_120_s() {
    idle_beside_a_busy_database(Duration::from_secs(120)).await;
}
