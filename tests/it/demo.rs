//! The demo as a user runs it: the fixed workload, databases of one's own, and a clean end by Ctrl-C.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use millstream::demo::databases::{SOURCE_MIGRATIONS, SOURCE_SCHEMA, TARGET_MIGRATIONS};
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};

use crate::support::millstream;

/// The numbers of the closing line: changes, rows, mismatches.
fn closing_line(output: &Output) -> (u64, u64, u64) {
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().last().unwrap_or_default();
    let numbers: Vec<u64> = line
        .split(|c: char| !c.is_ascii_digit())
        .filter(|w| !w.is_empty())
        .filter_map(|w| w.parse().ok())
        .collect();
    assert!(line.starts_with("demo: ") && numbers.len() >= 3, "no closing line in:\n{text}\n{errors}");
    assert!(output.status.success(), "{text}\n{errors}");
    (numbers[0], numbers[1], numbers[2])
}

#[test]
fn the_target_equals_the_source_after_the_fixed_workload() {
    let output = millstream().args(["demo", "--check", "--changes", "1500"]).output().unwrap();
    let (changes, rows, mismatches) = closing_line(&output);
    assert!(changes >= 1500 && rows > 3000, "{changes} changes, {rows} rows");
    assert_eq!(mismatches, 0);
}

/// The files run as well where tables have the default replica identity: updates come without the old row then,
/// and the pipeline completes them from its state.
#[test]
fn the_default_replica_identity_is_enough() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    server.psql("postgres", "CREATE DATABASE classicmodels").unwrap();
    server.psql("postgres", "CREATE DATABASE warehouse").unwrap();
    for file in SOURCE_MIGRATIONS {
        server.psql("classicmodels", file.text).unwrap();
    }
    let default_identity = format!(
        "DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT oid FROM pg_class WHERE relkind = 'r' \
         AND relnamespace = '{SOURCE_SCHEMA}'::regnamespace LOOP \
         EXECUTE format('ALTER TABLE %s REPLICA IDENTITY DEFAULT', t); END LOOP; END $$"
    );
    server.psql("classicmodels", &default_identity).unwrap();
    for file in TARGET_MIGRATIONS {
        server.psql("warehouse", file.text).unwrap();
    }
    let output = millstream()
        .args(["demo", "--check", "--changes", "1500"])
        .args(["--source", &server.url("classicmodels"), "--target", &server.url("warehouse")])
        .output()
        .unwrap();
    let (changes, rows, mismatches) = closing_line(&output);
    assert!(changes >= 1500 && rows > 3000, "{changes} changes, {rows} rows");
    assert_eq!(mismatches, 0);
    // The slot is gone; the tables were there before and stay.
    let slots = server.psql("classicmodels", "SELECT count(*) FROM pg_replication_slots").unwrap();
    assert_eq!(slots.trim(), "0");
    server.psql("classicmodels", "SELECT 1 FROM classicmodels.orders LIMIT 1").unwrap();
}

#[test]
fn the_live_demo_shows_the_hops_and_ctrl_c_removes_everything() {
    let temporary = tempfile::Builder::new().prefix("millstream-it-").tempdir().unwrap();
    std::fs::set_permissions(temporary.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut child = millstream()
        .arg("demo")
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let (mut seen, mut text) = (Vec::new(), String::new());
    for line in stdout.lines() {
        let line = line.unwrap();
        text.push_str(&line);
        text.push('\n');
        for hop in ["source", "event", "state", "target"] {
            if line.contains(&format!("  {hop} ")) && !seen.contains(&hop) {
                seen.push(hop);
            }
        }
        if seen.len() == 4 {
            break;
        }
    }
    assert_eq!(seen, ["source", "event", "state", "target"], "{text}");
    let begin = Instant::now();
    // SAFETY: kill has no memory effects; the process is our child and has not been waited for.
    assert_eq!(unsafe { libc::kill(i32::try_from(child.id()).unwrap(), libc::SIGINT) }, 0);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}
