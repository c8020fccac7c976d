//! Disks of ours that are full: said, nothing lost, and healed by room.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::capture::{Connector, ConnectorHandle, Env, Phase};

use crate::capture::{config, read_topic};
use crate::network::phase;
use crate::slot_identity::{caught_up, log_at};

/// A small file system of its own.
struct Disk(PathBuf);

impl Disk {
    /// `None` where this user may not mount one: then the test is skipped, loudly.
    fn new(dir: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(dir).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir)
            .output();
        if mounted.is_ok_and(|o| o.status.success()) {
            return Some(Self(dir.to_owned()));
        }
        use std::io::Write as _;
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: only root may mount a small file system");
        None
    }

    /// Leaves no room.
    fn fill(&self) {
        let block = vec![7u8; 64 << 10];
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

async fn all(handle: &ConnectorHandle, log: &Arc<dyn millstream::log::Log>, rows: i64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let records = read_topic(log, "s.public.t").await;
        let ids: Vec<i64> = records.iter().map(|r| r.key.as_ref().unwrap()["id"].as_i64().unwrap()).collect();
        if ids.len() as i64 >= rows {
            assert_eq!(ids, (1..=rows).collect::<Vec<_>>());
            return;
        }
        assert!(Instant::now() < deadline, "{} of {rows}: {:?}", ids.len(), handle.status());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const ROWS: &str = "INSERT INTO t SELECT g, md5(g::text) || md5((g * 7)::text) FROM generate_series";

#[tokio::test(flavor = "multi_thread")]
async fn the_log_has_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::new(&dir.path().join("disk"), "24m") else { return };
    let server = crate::network::server().await;
    server.psql("shop", "ALTER TABLE t ADD v text").unwrap();
    let path = disk.0.join("log");
    let log = log_at(&path).await;
    let extra = [("snapshot.mode", "no_data"), ("retriable.restart.connector.wait.ms", "500")];
    let config = config(&server, &extra);
    let handle = Connector::start(config.clone(), Env::new(Arc::clone(&log), "c")).unwrap();
    caught_up(&handle).await;
    server.psql("shop", &format!("{ROWS}(1, 100) g")).unwrap();
    all(&handle, &log, 100).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let confirmed = || {
        let sql = "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots";
        server.psql("shop", sql).unwrap().trim().parse::<u64>().unwrap()
    };
    disk.fill();
    // What was durable before may still be on its way to the server.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = confirmed();
    server.psql("shop", &format!("{ROWS}(101, 6000) g")).unwrap();
    phase(&handle, Phase::Reconnecting, Duration::from_secs(20)).await;
    let screen = handle.status().error.unwrap().screen();
    assert!(screen.contains("No space left on device") && screen.contains("free disk space"), "{screen}");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_ne!(handle.status().phase, Phase::Failed, "{:?}", handle.status());
    assert_eq!(confirmed(), before, "the slot moves although nothing can be kept");
    let records = read_topic(&log, "s.public.t").await.len();
    assert!(records >= 100, "{records}");
    disk.make_room();
    phase(&handle, Phase::Streaming, Duration::from_secs(30)).await;
    all(&handle, &log, 6000).await;
    assert!(confirmed() > before);
    handle.stop().await;
    drop(handle);
    drop(log);
    // What is on the disk is sound: it is opened again, and the connector goes on.
    let log = log_at(&path).await;
    let handle = Connector::start(config, Env::new(Arc::clone(&log), "c")).unwrap();
    server.psql("shop", &format!("{ROWS}(6001, 6100) g")).unwrap();
    all(&handle, &log, 6100).await;
    handle.stop().await;
}

/// No room for the transactions that are kept until they commit: the server keeps them then.
#[tokio::test(flavor = "multi_thread")]
async fn large_transactions_have_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::new(&dir.path().join("spill"), "1m") else { return };
    let settings = vec!["logical_decoding_work_mem = '64kB'".to_owned()];
    let server = tokio::task::spawn_blocking(|| {
        let options = millstream::demo::postgres::PostgresOptions {
            settings,
            ..millstream::demo::postgres::PostgresOptions::default()
        };
        millstream::demo::postgres::TemporaryPostgres::start(&options).unwrap()
    })
    .await
    .unwrap();
    server.psql("postgres", "CREATE DATABASE shop").unwrap();
    server.psql("shop", "CREATE TABLE t (id int PRIMARY KEY, v text)").unwrap();
    let log = log_at(&dir.path().join("log")).await;
    let config = config(&server, &[("snapshot.mode", "no_data"), ("max.queue.size.in.bytes", "65536")]);
    let env = Env { spill: disk.0.clone(), ..Env::new(Arc::clone(&log), "c") };
    let handle = Connector::start(config, env).unwrap();
    caught_up(&handle).await;
    server.psql("shop", &format!("{ROWS}(1, 30000) g")).unwrap();
    all(&handle, &log, 30_000).await;
    server.psql("shop", "INSERT INTO t VALUES (30001, 'after')").unwrap();
    all(&handle, &log, 30_001).await;
    assert_eq!(handle.status().phase, Phase::Streaming);
    handle.stop().await;
    assert_eq!(std::fs::read_dir(&disk.0).unwrap().count(), 0, "a file is left behind");
}
