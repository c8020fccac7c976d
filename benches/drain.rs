//! Backlog drain: `millstream capture` into the embedded log beside `pg_recvlogical` (pgoutput, protocol 1, to
//! /dev/null) on the same WAL of the same server, one after the other, each from a slot of its own.
//!
//! `cargo bench --bench drain -- --changes 500000 --runs 2`. Prints the time of the whole process (start
//! included), the ratio to the limit, CPU time per million changes and peak memory.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Five changes a transaction: what pgbench does, and a row of ten columns.
const CHANGES_PER_TRANSACTION: u64 = 5;

const SCHEMA: &str = "
    CREATE TABLE branches(bid int PRIMARY KEY, bbalance int, filler char(88));
    CREATE TABLE tellers(tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
    CREATE TABLE accounts(aid int PRIMARY KEY, bid int, abalance int, filler char(84));
    CREATE TABLE history(tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
    CREATE TABLE wide(id bigint PRIMARY KEY, a int, b text, c numeric(12,2), d timestamptz, e boolean,
                      f float8, g text, h date, i uuid);
    INSERT INTO branches SELECT g, 0, '' FROM generate_series(1, 10) g;
    INSERT INTO tellers SELECT g, g % 10 + 1, 0, '' FROM generate_series(1, 100) g;
    INSERT INTO accounts SELECT g, g % 10 + 1, 0, '' FROM generate_series(1, 100000) g;
    CREATE PUBLICATION p FOR ALL TABLES;
    CREATE PROCEDURE work(n int) LANGUAGE plpgsql AS $$
    DECLARE a int; t int; b int;
    BEGIN
      FOR i IN 1..n LOOP
        a := i * 7919 % 100000 + 1; t := i % 100 + 1; b := i % 10 + 1;
        UPDATE accounts SET abalance = abalance + 1 WHERE aid = a;
        UPDATE tellers SET tbalance = tbalance + 1 WHERE tid = t;
        UPDATE branches SET bbalance = bbalance + 1 WHERE bid = b;
        INSERT INTO history VALUES (t, b, a, 1, clock_timestamp(), '');
        INSERT INTO wide VALUES (i, i * 3, 'a text of some length ' || i, i * 0.37, clock_timestamp(), i % 2 = 0,
                                 i / 7.0, repeat('x', i % 50), date '2026-01-01' + i % 1000,
                                 md5(i::text)::uuid);
        COMMIT;
      END LOOP;
    END $$;";

/// What one process took.
struct Run {
    wall: Duration,
    cpu: Duration,
    peak_mib: u64,
}

fn main() {
    // `cargo test --benches` runs this without `--bench`: only that it links is of interest then.
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|a| a == "--bench") {
        return;
    }
    let number = |name: &str, default: u64| {
        let at = arguments.iter().position(|a| a == name);
        at.and_then(|i| arguments.get(i + 1)).and_then(|v| v.parse().ok()).unwrap_or(default)
    };
    if let Err(error) = bench(number("--changes", 500_000), number("--runs", 3)) {
        eprintln!("drain: {error}");
        std::process::exit(1);
    }
}

fn bench(changes: u64, runs: u64) -> Result<()> {
    let server = TemporaryPostgres::start(&PostgresOptions {
        settings: [
            "max_wal_size = 8GB",
            "checkpoint_timeout = 1h",
            "autovacuum = off",
            "synchronous_commit = off",
        ]
        .map(str::to_owned)
        .to_vec(),
        ..PostgresOptions::default()
    })?;
    server.psql("postgres", SCHEMA)?;
    for run in 0..runs {
        for name in ["limit", "json", "schemas"] {
            let sql = format!("SELECT pg_create_logical_replication_slot('{name}{run}', 'pgoutput')");
            server.psql("postgres", &sql)?;
        }
    }
    let start = server.psql("postgres", "SELECT pg_current_wal_insert_lsn()")?;
    server.psql("postgres", &format!("CALL work({})", changes / CHANGES_PER_TRANSACTION))?;
    let end = server.psql("postgres", "SELECT pg_current_wal_flush_lsn()")?.trim().to_owned();
    let size = server.psql("postgres", &format!("SELECT pg_wal_lsn_diff('{end}', '{}')", start.trim()))?;
    let mib = size.trim().parse::<f64>().unwrap_or(0.0) / f64::from(1 << 20);
    println!(
        "drain: {changes} changes in {} transactions, {mib:.0} MiB of WAL",
        changes / CHANGES_PER_TRANSACTION
    );
    println!(
        "{:<34}{:>8}{:>12}{:>9}{:>16}{:>10}",
        "", "s", "changes/s", "ratio", "CPU s/million", "peak MiB"
    );
    for run in 0..runs {
        let limit = measure(&mut pg_recvlogical(&server, &format!("limit{run}"), &end))?;
        print("pg_recvlogical to /dev/null", &limit, &limit, changes);
        for (name, schemas) in [("json", "false"), ("schemas", "true")] {
            let dir = tempfile::tempdir()?;
            let mut command = capture(&server, dir.path(), &format!("{name}{run}"), schemas)?;
            let ours = measure(&mut command)?;
            print(&format!("millstream capture, schemas {schemas}"), &ours, &limit, changes);
        }
    }
    Ok(())
}

fn pg_recvlogical(server: &TemporaryPostgres, slot: &str, end: &str) -> Command {
    let mut command = Command::new(server.bin_dir().join("pg_recvlogical"));
    command
        .args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-U", "postgres", "-d", "postgres"])
        .args([
            "-S",
            slot,
            "--start",
            "--no-loop",
            "-o",
            "proto_version=1",
            "-o",
            "publication_names=p",
            "-E",
            end,
            "-f",
            "/dev/null",
        ]);
    command
}

fn capture(server: &TemporaryPostgres, dir: &Path, slot: &str, schemas: &str) -> Result<Command> {
    let config = serde_json::json!({
        "name": slot,
        "config": {
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "plugin.name": "pgoutput",
            "database.hostname": "127.0.0.1",
            "database.port": server.port().to_string(),
            "database.user": "postgres",
            "database.dbname": "postgres",
            "topic.prefix": "bench",
            "slot.name": slot,
            "publication.name": "p",
            "snapshot.mode": "no_data",
            "key.converter.schemas.enable": schemas,
            "value.converter.schemas.enable": schemas,
        }
    });
    let file = dir.join("connector.json");
    std::fs::write(&file, config.to_string())?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command
        .arg("--log")
        .arg(format!("file:{}", dir.join("log").display()))
        .arg("capture")
        .arg(&file)
        .arg("--until-caught-up");
    Ok(command)
}

/// Runs a program to its end; time and memory as the system counted them.
fn measure(command: &mut Command) -> Result<Run> {
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let pid = i32::try_from(child.id())?;
    let mut status = 0;
    // SAFETY: rusage is plain integers, for which zero is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables of the right type; the child is ours and not yet waited for.
    let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
    let wall = start.elapsed();
    if waited != pid || status != 0 {
        let mut text = String::new();
        if let Some(mut stderr) = child.stderr {
            std::io::Read::read_to_string(&mut stderr, &mut text)?;
        }
        return Err(format!("{command:?} failed with status {status}: {text}").into());
    }
    let time = |t: libc::timeval| {
        Duration::from_secs(u64::try_from(t.tv_sec).unwrap_or(0))
            + Duration::from_micros(u64::try_from(t.tv_usec).unwrap_or(0))
    };
    Ok(Run {
        wall,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        peak_mib: u64::try_from(usage.ru_maxrss).unwrap_or(0) / 1024,
    })
}

fn print(name: &str, run: &Run, limit: &Run, changes: u64) {
    let count = changes as f64;
    let seconds = run.wall.as_secs_f64();
    println!(
        "{name:<34}{seconds:>8.2}{:>12.0}{:>9.2}{:>16.2}{:>10}",
        count / seconds,
        limit.wall.as_secs_f64() / seconds,
        run.cpu.as_secs_f64() / count * 1e6,
        run.peak_mib
    );
}
