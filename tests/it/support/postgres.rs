//! PostgreSQL servers: of another version than the one that the tests run on, with room for many connectors, backups.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres, find_server_programs};

/// A server for many connectors at once.
pub fn with_many_slots() -> Arc<TemporaryPostgres> {
    let settings = vec!["max_replication_slots = 30".to_owned(), "max_wal_senders = 30".to_owned()];
    Arc::new(TemporaryPostgres::start(&PostgresOptions { settings, ..PostgresOptions::default() }).unwrap())
}

/// Takes a slot away, whoever reads it, so that the next case of the same server finds room.
pub fn drop_slot(server: &TemporaryPostgres, slot: &str) {
    let sql = format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}' AND active; \
         SELECT pg_sleep(0.1); \
         SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    let _ = server.psql("postgres", &sql);
}

/// The major version of the programs in a directory.
fn major(bin: &Path) -> Option<u32> {
    let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(2)?.split('.').next()?.parse().ok()
}

/// Programs of this version or a newer one: those that the tests run on, else fetched by scripts/postgres.sh.
/// `None` when they cannot be had: then the test is skipped, loudly, and with `CI=true` it fails.
pub fn at_least(version: u32) -> Option<PathBuf> {
    found(|found| found >= version).or_else(|| fetched(version))
}

/// Programs of this version; as [`at_least`].
pub fn exactly(version: u32) -> Option<PathBuf> {
    found(|found| found == version).or_else(|| fetched(version))
}

/// Those that the tests run on, if they suit.
fn found(suits: impl Fn(u32) -> bool) -> Option<PathBuf> {
    find_server_programs().ok().filter(|bin| major(bin).is_some_and(suits))
}

fn fetched(version: u32) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/postgres.sh");
    let output = Command::new(script).arg(version.to_string()).stderr(Stdio::inherit()).output();
    let bin = output
        .ok()
        .filter(|o| o.status.success())
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    if bin.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let text = format!("SKIPPED {test}: PostgreSQL {version} could not be had\n");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{text}");
        // Past the test harness, which shows nothing of a test that passes.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
    bin.map(PathBuf::from)
}

/// A copy of a stopped server's data directory, to be put back later: a backup.
pub struct Backup {
    of: PathBuf,
    copy: tempfile::TempDir,
}

impl Backup {
    /// Copies; the server must be stopped.
    pub fn take(server: &TemporaryPostgres) -> Self {
        let backup = Self { of: server.data_dir(), copy: tempfile::tempdir().unwrap() };
        copy(&backup.of, &backup.copy.path().join("data"));
        backup
    }

    /// Puts the copy in the place of what there is; the server must be stopped.
    pub fn restore(&self) {
        std::fs::remove_dir_all(&self.of).unwrap();
        copy(&self.copy.path().join("data"), &self.of);
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}
