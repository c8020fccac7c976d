//! One connector started twice, or two connectors on one slot: one of them goes on, the other one ends and says
//! why, and every event is in the topic once.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::capture::{Connector, ConnectorHandle, Env, Phase};
use millstream::config::ConnectorConfig;
use millstream::demo::postgres::TemporaryPostgres;
use millstream::log::{Log, OpenOptions};

use crate::capture::{config, read_topic};
use crate::network::Load;
use crate::slot_identity::{caught_up, log_at};
use crate::support::kafka::broker;
use crate::support::millstream;

/// A server with an empty table, a log, and names that no other test has.
struct Place {
    server: Arc<TemporaryPostgres>,
    log: Arc<dyn Log>,
    name: String,
    _dir: tempfile::TempDir,
}

impl Place {
    async fn new(kafka: Option<&str>) -> Self {
        let server = crate::network::server().await;
        let dir = tempfile::tempdir().unwrap();
        let log = match kafka {
            Some(url) => millstream::log::open(url, &OpenOptions::default()).await.unwrap(),
            None => log_at(dir.path()).await,
        };
        Self { server, log, name: format!("two{:08x}", rand::random::<u32>()), _dir: dir }
    }

    fn config(&self, extra: &[(&str, &str)]) -> ConnectorConfig {
        let offsets = format!("offsets-{}", self.name);
        let own = [
            ("topic.prefix", self.name.as_str()),
            ("snapshot.mode", "no_data"),
            ("offsets.storage.topic", &offsets),
            ("retriable.restart.connector.wait.ms", "500"),
        ];
        config(&self.server, &[&own[..], extra].concat())
    }

    fn id(&self) -> String {
        format!("writer-{}", self.name)
    }

    /// An instance of the connector, as a process of its own would run it.
    fn start(&self, extra: &[(&str, &str)]) -> ConnectorHandle {
        let mut env = Env::new(Arc::clone(&self.log), "c");
        env.transactional_id = self.id();
        Connector::start(self.config(extra), env).unwrap()
    }

    async fn ids(&self) -> Vec<i64> {
        let records = read_topic(&self.log, &format!("{}.public.t", self.name)).await;
        records.iter().map(|r| r.key.as_ref().unwrap()["id"].as_i64().unwrap()).collect()
    }

    /// Every row once, in order.
    async fn complete(&self, rows: u32) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.ids().await.len() < rows as usize && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(self.ids().await, (1..=i64::from(rows)).collect::<Vec<_>>());
    }
}

/// The screen of what a connector ends with.
async fn ends(handle: &ConnectorHandle, within: Duration) -> String {
    let ended = tokio::time::timeout(within, handle.ended_by_itself()).await;
    let screen = ended.unwrap_or_else(|_| panic!("it goes on: {:?}", handle.status())).unwrap_err().screen();
    assert_eq!(handle.status().phase, Phase::Failed);
    screen
}

async fn the_newer_one_takes_over(kafka: Option<&str>) {
    let place = Place::new(kafka).await;
    for busy in [true, false] {
        let first = place.start(&[]);
        caught_up(&first).await;
        let load = busy.then(|| Load::start(&place.server));
        if busy {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let second = place.start(&[]);
        let begun = Instant::now();
        let screen = ends(&first, Duration::from_secs(25)).await;
        assert!(screen.contains("connector c was taken over by another process"), "{screen}");
        assert!(screen.contains(&format!("/{}/", std::process::id())), "it is not said by whom: {screen}");
        caught_up(&second).await;
        println!("kafka {}, busy {busy}: taken over after {:?}", kafka.is_some(), begun.elapsed());
        crate::network::phase(&second, Phase::Streaming, Duration::from_secs(10)).await;
        match load {
            Some(load) => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let rows = load.end();
                place.complete(rows).await;
            }
            None => {
                let rows = place.ids().await.len() + 1;
                place.server.psql("shop", &format!("INSERT INTO t VALUES ({rows})")).unwrap();
                place.complete(u32::try_from(rows).unwrap()).await;
            }
        }
        second.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_one_takes_over_on_the_embedded_log() {
    the_newer_one_takes_over(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_one_takes_over_on_kafka() {
    let Some(url) = tokio::task::spawn_blocking(broker).await.unwrap() else { return };
    the_newer_one_takes_over(Some(&url)).await;
}

/// A Kafka broker fences a writer that stood still over its transaction: nobody else has the connector, and it goes
/// on by itself.
async fn a_fence_without_another_one_heals(kafka: Option<&str>) {
    let place = Place::new(kafka).await;
    let handle = place.start(&[]);
    caught_up(&handle).await;
    let load = Load::start(&place.server);
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(place.log.writer(&place.id()).await.unwrap());
    crate::network::phase(&handle, Phase::Reconnecting, Duration::from_secs(20)).await;
    crate::network::phase(&handle, Phase::Streaming, Duration::from_secs(30)).await;
    let rows = load.end();
    place.complete(rows).await;
    handle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_without_another_one_heals_on_the_embedded_log() {
    a_fence_without_another_one_heals(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_without_another_one_heals_on_kafka() {
    let Some(url) = tokio::task::spawn_blocking(broker).await.unwrap() else { return };
    a_fence_without_another_one_heals(Some(&url)).await;
}

/// Another connector on the same slot is told, and the one that has the slot does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn two_connectors_do_not_share_a_slot() {
    let place = Place::new(None).await;
    let first = place.start(&[]);
    caught_up(&first).await;
    let load = Load::start(&place.server);
    let extra = [("topic.prefix", "other"), ("slot.max.retries", "2"), ("slot.retry.delay.ms", "500")];
    let mut env = Env::new(Arc::clone(&place.log), "other");
    env.transactional_id = "other".to_owned();
    let second = Connector::start(place.config(&extra), env).unwrap();
    let screen = ends(&second, Duration::from_secs(20)).await;
    assert!(screen.contains("\"debezium\" is active"), "{screen}");
    assert!(screen.contains("give this connector a slot of its own"), "{screen}");
    let rows = load.end();
    place.complete(rows).await;
    assert_eq!(first.status().phase, Phase::Streaming);
    assert_eq!(first.status().counters.reconnects, 0);
    first.stop().await;
    assert!(place.log.topic("other.public.t").await.unwrap().is_none(), "the other one has written");
}

/// An embedded log belongs to one process: the second one is sent away, and the first does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_an_embedded_log_is_sent_away() {
    let place = Place::new(None).await;
    let dir = tempfile::tempdir().unwrap();
    let map: std::collections::BTreeMap<String, String> =
        place.config(&[]).iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let file = dir.path().join("c.json");
    std::fs::write(&file, serde_json::json!({"name": "c", "config": map}).to_string()).unwrap();
    let command = || {
        let mut command = millstream();
        command.current_dir(dir.path()).args(["--data", "data", "capture", "c.json"]).stdin(Stdio::null());
        command
    };
    let out = std::fs::File::create(dir.path().join("out.txt")).unwrap();
    let mut first = command().stdout(Stdio::from(out)).spawn().unwrap();
    let printed = || std::fs::read_to_string(dir.path().join("out.txt")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !printed().contains("STREAMING") {
        assert!(Instant::now() < deadline, "{}", printed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let second = command().output().unwrap();
    let screen = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{screen}");
    assert!(screen.contains("is held by another process"), "{screen}");
    assert!(screen.contains("next:") && screen.contains("stop the other process"), "{screen}");
    assert!(first.try_wait().unwrap().is_none(), "the first has ended: {}", printed());
    first.kill().unwrap();
    first.wait().unwrap();
}

/// A writer that is fenced while it takes the initial snapshot leaves the slot, which the offset in the log counts on, to
/// whoever goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_fenced_leaves_its_slot() {
    let place = Place::new(None).await;
    place.server.psql("shop", "INSERT INTO t SELECT generate_series(1, 800)").unwrap();
    let handle = place.start(&[
        ("snapshot.mode", "initial"),
        ("max.queue.size.in.bytes", "65536"),
        ("snapshot.select.statement.overrides", "public.t"),
        (
            "snapshot.select.statement.overrides.public.t",
            "SELECT id FROM t WHERE pg_sleep(0.004) IS NOT NULL",
        ),
    ]);
    let deadline = Instant::now() + Duration::from_secs(30);
    while place.ids().await.len() < 100 {
        assert!(Instant::now() < deadline, "{:?}", handle.status());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(place.log.writer(&place.id()).await.unwrap());
    crate::network::phase(&handle, Phase::Reconnecting, Duration::from_secs(20)).await;
    let slots = "SELECT count(*) FROM pg_replication_slots; SELECT count(*) FROM pg_publication";
    assert_eq!(place.server.psql("shop", slots).unwrap(), "1\n1\n");
    caught_up(&handle).await;
    place.complete(800).await;
    handle.stop().await;
}
