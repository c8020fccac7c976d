//! Networks that fail between us and PostgreSQL, and between us and Kafka: said, healed, nothing lost or twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use millstream::capture::{Connector, ConnectorHandle, Env, Phase};
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::log::{Log, OpenOptions};

use crate::capture::{config, read_topic};
use crate::support::kafka;
use crate::support::proxy::{Mode, Proxy};

const FAULTS: [Mode; 4] = [Mode::Delay(Duration::from_millis(150)), Mode::Drop, Mode::Reset, Mode::HalfOpen];

/// Writes rows 1, 2, 3, … until it is told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU32>,
    thread: std::thread::JoinHandle<()>,
}

impl Load {
    pub(crate) fn start(server: &Arc<TemporaryPostgres>) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let thread = std::thread::spawn({
            let (server, stop, written) = (Arc::clone(server), Arc::clone(&stop), Arc::clone(&written));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let n = written.load(Ordering::Relaxed);
                    let sql = format!("INSERT INTO t SELECT g FROM generate_series({}, {}) g", n + 1, n + 20);
                    server.psql("shop", &sql).unwrap();
                    written.store(n + 20, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(30));
                }
            }
        });
        Self { stop, written, thread }
    }

    pub(crate) fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.written.load(Ordering::Relaxed)
    }
}

pub(crate) async fn server() -> Arc<TemporaryPostgres> {
    // The server gives up a silent client soon, and we a silent server after twice that.
    let settings = vec!["wal_sender_timeout = '2s'".to_owned()];
    let options = PostgresOptions { settings, ..PostgresOptions::default() };
    let server =
        tokio::task::spawn_blocking(move || TemporaryPostgres::start(&options).unwrap()).await.unwrap();
    server.psql("postgres", "CREATE DATABASE shop").unwrap();
    server.psql("shop", "CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    Arc::new(server)
}

pub(crate) async fn phase(handle: &ConnectorHandle, wanted: Phase, within: Duration) {
    let deadline = Instant::now() + within;
    while handle.status().phase != wanted {
        assert!(Instant::now() < deadline, "not {wanted:?}: {:?}", handle.status());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Each fault while rows are being written; afterwards every row is in the topic once.
async fn heals(
    server: Arc<TemporaryPostgres>,
    proxy: Proxy,
    handle: ConnectorHandle,
    log: Arc<dyn Log>,
    topic: &str,
) {
    let load = Load::start(&server);
    for fault in FAULTS {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let begun = Instant::now();
        proxy.set(fault);
        if matches!(fault, Mode::Delay(_)) {
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert_eq!(handle.status().phase, Phase::Streaming, "{:?}", handle.status());
            proxy.set(Mode::Pass);
            continue;
        }
        phase(&handle, Phase::Reconnecting, Duration::from_secs(40)).await;
        let error = handle.status().error.expect("a cause").screen();
        assert!(!error.is_empty());
        let said = begun.elapsed();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_ne!(handle.status().phase, Phase::Streaming, "{fault:?}");
        proxy.set(Mode::Pass);
        let begun = Instant::now();
        phase(&handle, Phase::Streaming, Duration::from_secs(150)).await;
        println!(
            "{fault:?}: said after {said:?}, healed after {:?}: {}",
            begun.elapsed(),
            error.replace('\n', " | ")
        );
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let written = load.end();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut ids: Vec<i64>;
    loop {
        let records = read_topic(&log, topic).await;
        ids = records.iter().map(|r| r.key.as_ref().unwrap()["id"].as_i64().unwrap()).collect();
        if ids.len() >= written as usize || Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let expected: Vec<i64> = (1..=i64::from(written)).collect();
    assert_eq!(ids.len(), expected.len());
    assert_eq!(ids, expected);
    assert!(handle.status().phase == Phase::Streaming);
    handle.stop().await;
    println!("{written} rows, each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn between_us_and_postgresql() {
    let server = server().await;
    let proxy = Proxy::start(0, server.port()).await;
    let dir = tempfile::tempdir().unwrap();
    let log: Arc<dyn Log> =
        millstream::log::open(&format!("file:{}", dir.path().display()), &OpenOptions::default())
            .await
            .unwrap();
    let port = proxy.port().to_string();
    let config = config(
        &server,
        &[
            ("database.port", &port),
            ("snapshot.mode", "no_data"),
            ("retriable.restart.connector.wait.ms", "500"),
        ],
    );
    let env = Env::new(Arc::clone(&log), config.name());
    let handle = Connector::start(config, env).unwrap();
    tokio::time::timeout(Duration::from_secs(30), handle.caught_up()).await.unwrap().unwrap();
    heals(server, proxy, handle, log, "s.public.t").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make soak"]
async fn between_us_and_kafka() {
    // The broker tells clients the proxy's address on this listener.
    let Some((direct, (inner, advertised))) = kafka::broker().zip(kafka::proxied()) else { return };
    let server = server().await;
    let proxy = Proxy::start(advertised, inner).await;
    let url = format!("kafka://127.0.0.1:{advertised}");
    let through = millstream::log::open(&url, &OpenOptions::default()).await.unwrap();
    let config = config(
        &server,
        &[
            ("topic.prefix", "net"),
            ("snapshot.mode", "no_data"),
            ("offsets.storage.topic", "net-offsets"),
            ("retriable.restart.connector.wait.ms", "500"),
        ],
    );
    let env = Env::new(through, "net");
    let handle = Connector::start(config, env).unwrap();
    tokio::time::timeout(Duration::from_secs(60), handle.caught_up()).await.unwrap().unwrap();
    let log = millstream::log::open(&direct, &OpenOptions::default()).await.unwrap();
    heals(server, proxy, handle, log, "net.public.t").await;
}
