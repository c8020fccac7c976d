//! True streaming against micro-batches: the same query, the same events, latency and throughput of both.
//!
//! Events go into an embedded log and through a keyed aggregate into a compacted topic. First a backlog is drained,
//! then events come at a fixed rate, and the time from an event's commit to the commit of the row that it changed is
//! taken.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a benchmark ends at its first fault")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use millstream::log::embedded::EmbeddedLog;
use millstream::log::{Batch, Log, LogWriter};
use millstream::runtime::job::Job;
use millstream::runtime::{Environment, Hop, Pipeline};
use tokio::sync::mpsc;

const BACKLOG: u64 = 300_000;
const KEYS: u64 = 1_000;
/// Events a second of the measurements of latency, and for how long.
const RATES: [u64; 3] = [100, 2_000, 20_000];
const SECONDS: u64 = 3;

const SCRIPT: &str = "
    CREATE TABLE events (k BIGINT, v BIGINT) WITH ('connector'='kafka', 'topic'='events', 'format'='json',
        'properties.bootstrap.servers'='kafka:9092', 'scan.startup.mode'='earliest-offset');
    CREATE TABLE totals (k BIGINT, n BIGINT, v BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector'='upsert-kafka',
        'topic'='totals', 'properties.bootstrap.servers'='kafka:9092', 'key.format'='json', 'value.format'='json');
    INSERT INTO totals SELECT k, COUNT(*), SUM(v) FROM events GROUP BY k;";

struct Mode {
    name: &'static str,
    settings: &'static str,
}

const MODES: [Mode; 3] = [
    Mode { name: "streaming (default)", settings: "" },
    Mode {
        name: "mini-batch 100 ms",
        settings: "SET 'table.exec.mini-batch.enabled' = 'true'; SET 'table.exec.mini-batch.allow-latency' = '100 ms';
                   SET 'table.exec.mini-batch.size' = '50000';",
    },
    Mode {
        name: "mini-batch 1 s",
        settings: "SET 'table.exec.mini-batch.enabled' = 'true'; SET 'table.exec.mini-batch.allow-latency' = '1 s';
                   SET 'table.exec.mini-batch.size' = '50000';",
    },
];

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("latency and throughput of one keyed aggregate, {KEYS} keys, embedded log");
    println!(
        "{:<22} {:>14} {:>14}   latency p50 / p99 in ms at events a second",
        "mode", "drain, ev./s", "writes/event"
    );
    for mode in &MODES {
        let line = runtime.block_on(measure(mode));
        println!("{:<22} {line}", mode.name);
    }
}

async fn send(writer: &mut Box<dyn LogWriter>, from: u64, count: u64) {
    let mut batch = Batch::new();
    let topic = batch.topic("events");
    for n in from..from + count {
        let mut record = batch.record(topic);
        record.value(|out| {
            out.extend_from_slice(format!("{{\"k\":{},\"v\":{n}}}", n * 7919 % KEYS).as_bytes());
        });
        record.finish();
    }
    writer.commit(batch).await.unwrap();
}

async fn measure(mode: &Mode) -> String {
    let dir = tempfile::tempdir().unwrap();
    let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(dir.path().join("log")).unwrap());
    let mut writer = log.writer("bench").await.unwrap();
    for chunk in 0..BACKLOG / 10_000 {
        send(&mut writer, chunk * 10_000, 10_000).await;
    }
    let job = Job::from_text(&format!("{}{SCRIPT}", mode.settings), "bench", "bench").unwrap();
    let (watcher, mut hops) = mpsc::channel(1 << 16);
    let environment =
        Environment { watcher: Some(watcher), ..Environment::new(Arc::clone(&log), dir.path()) };
    let begun = Instant::now();
    let pipeline = Pipeline::start(&job.script.plan, &job.name, environment).await.unwrap();
    pipeline.caught_up(log.as_ref()).await.unwrap();
    #[allow(clippy::cast_precision_loss, reason = "numbers for people")]
    let drained = BACKLOG as f64 / begun.elapsed().as_secs_f64();
    let mut next = BACKLOG;
    let rows: u64 = pipeline.status().sinks.iter().map(|s| s.rows).sum();
    let mut columns = String::new();
    let mut latencies_of_rates = Vec::new();
    for rate in RATES {
        while hops.try_recv().is_ok() {}
        let latencies = latencies(&mut writer, &mut hops, &mut next, rate).await;
        latencies_of_rates.push((rate, latencies));
    }
    pipeline.stop().await.unwrap();
    #[allow(clippy::cast_precision_loss, reason = "numbers for people")]
    columns.push_str(&format!("{drained:>14.0} {:>14.3}  ", rows as f64 / BACKLOG as f64));
    for (rate, mut latencies) in latencies_of_rates {
        latencies.sort_unstable();
        let at = |percent: usize| {
            let place = (latencies.len() * percent / 100).min(latencies.len().saturating_sub(1));
            latencies.get(place).map_or(0.0, |l| l.as_secs_f64() * 1000.0)
        };
        columns.push_str(&format!("  {rate}: {:.1} / {:.1}", at(50), at(99)));
    }
    columns
}

/// Sends at a rate, and takes the time until the target holds what each event changed.
async fn latencies(
    writer: &mut Box<dyn LogWriter>,
    hops: &mut mpsc::Receiver<Hop>,
    next: &mut u64,
    rate: u64,
) -> Vec<Duration> {
    // At most a thousand commits a second.
    let per_commit = rate.div_ceil(1000);
    let pause = Duration::from_secs_f64(1.0 / (rate / per_commit).max(1) as f64);
    let total = rate * SECONDS;
    let first = *next;
    let mut sent: VecDeque<(u64, SystemTime)> = VecDeque::new();
    let mut epochs: VecDeque<(u64, u64)> = VecDeque::new();
    let mut latencies = Vec::new();
    let mut tick = tokio::time::interval(pause);
    let mut finished_by = None;
    while u64::try_from(latencies.len()).unwrap() < total {
        tokio::select! {
            _ = tick.tick(), if *next < first + total => {
                send(writer, *next, per_commit).await;
                let now = SystemTime::now();
                sent.extend((*next..*next + per_commit).map(|n| (n, now)));
                *next += per_commit;
                if *next >= first + total {
                    finished_by = Some(Instant::now() + Duration::from_secs(10));
                }
            }
            hop = hops.recv() => match hop {
                Some(Hop::State { epoch, positions, .. }) => {
                    let position = positions.values().next().copied().unwrap_or(0);
                    epochs.push_back((epoch, u64::try_from(position).unwrap_or(0)));
                }
                Some(Hop::Sink { epoch, at, .. }) => {
                    while let Some((state, position)) = epochs.front().copied() && state <= epoch {
                        epochs.pop_front();
                        while let Some((n, when)) = sent.front().copied() && n < position {
                            sent.pop_front();
                            latencies.push(at.duration_since(when).unwrap_or_default());
                        }
                    }
                }
                None => break,
            },
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
        if finished_by.is_some_and(|by| Instant::now() > by) {
            break;
        }
    }
    latencies
}
