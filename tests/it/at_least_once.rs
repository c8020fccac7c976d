//! Delivery that is not exactly once: what is promised then, and that who requires more is refused.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use millstream::demo::postgres::PostgresOptions;
use millstream::log::OpenOptions;
use serde_json::json;

use crate::capture::read_topic;
use crate::support::kafka::broker;
use crate::support::service::{Options, Service};

const OFF: &str = "[worker]\nexactly_once_source_support = false";

/// Killed between the events and their offset, and at random, under load: nothing is lost, what comes once more comes
/// in the same order, and readers need not wait for a transaction's end.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_where_events_may_come_once_more() {
    let Some(url) = tokio::task::spawn_blocking(broker).await.unwrap() else { return };
    let name = format!("loose{:08x}", rand::random::<u32>());
    let settings = format!(
        "{OFF}\ngroup_id = '{name}'\nconfig_storage_topic = '{name}-configs'\noffset_storage_topic = '{name}-offsets'\n\
         status_storage_topic = '{name}-status'"
    );
    let mut options = Options { settings: &settings, log: Some(&url), ..Options::default() };
    let sql = "create table items (id int primary key)";
    let mut service = Service::start_with(&options, &PostgresOptions::default(), sql);
    service.create(&name, &[("snapshot.mode", "no_data")]);
    service.streams(&name);
    let (rows, stop) = (Arc::new(AtomicU32::new(0)), AtomicBool::new(false));
    let kills = ["log.before_last_record=abort@3", "", "log.before_last_record=abort@5", "", ""];
    let written = &rows;
    let source = Arc::clone(&service.source);
    std::thread::scope(|scope| {
        scope.spawn({
            let stop = &stop;
            move || {
                while !stop.load(Ordering::Relaxed) {
                    let n = written.load(Ordering::Relaxed);
                    let sql = format!("insert into items select generate_series({}, {})", n + 1, n + 10);
                    source.psql("shop", &sql).unwrap();
                    written.store(n + 10, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        for (number, failpoints) in (0u64..).zip(kills) {
            options.failpoints = failpoints;
            service.restart(&options);
            if failpoints.is_empty() {
                std::thread::sleep(Duration::from_millis(900 + 150 * number));
            } else {
                let deadline = Instant::now() + Duration::from_secs(40);
                while !service.has_ended() {
                    assert!(Instant::now() < deadline, "{failpoints}: {}", service.printed());
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    options.failpoints = "";
    service.restart(&options);
    let wanted = rows.load(Ordering::Relaxed) as usize;
    let log = millstream::log::open(&url, &OpenOptions::default()).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let ids = loop {
        let records = read_topic(&log, &format!("{name}.public.items")).await;
        let id =
            |r: &crate::capture::Seen| r.value.as_ref().unwrap()["payload"]["after"]["id"].as_i64().unwrap();
        let ids: Vec<i64> = records.iter().map(id).collect();
        if ids.iter().collect::<BTreeSet<_>>().len() >= wanted {
            break ids;
        }
        assert!(Instant::now() < deadline, "{} of {wanted}: {}", ids.len(), service.printed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let mut first = Vec::new();
    for id in &ids {
        // What is new follows what is known; what is known comes again from somewhere in it on.
        match first.last() {
            Some(last) if id <= last => {}
            last => {
                assert_eq!(*id, last.map_or(1, |last| last + 1), "out of order");
                first.push(*id);
            }
        }
    }
    assert_eq!(first.len(), wanted);
    assert!(ids.len() > wanted, "the kills between events and offset have repeated nothing");
    println!("{wanted} rows, {} of them more than once", ids.len() - wanted);
}

/// `exactly.once.support=required` where the worker has it off: refused when it is sent, and failed with the cause when
/// the worker changes under it.
#[test]
fn what_requires_more_is_refused() {
    let required = [("exactly.once.support", "required")];
    let sql = "create table items (id int primary key); insert into items values (1)";
    let off = Options { settings: OFF, ..Options::default() };
    let mut service = Service::start_with(&off, &PostgresOptions::default(), sql);
    let body = json!({ "name": "r", "config": service.config("r", &required) });
    let (status, answer) = service.ask("POST", "/connectors", Some(&body));
    assert_eq!(status, 400, "{answer}");
    let said = answer["message"].as_str().unwrap();
    assert!(said.contains("This worker does not have exactly-once source support enabled."), "{said}");
    assert_eq!(service.ask("GET", "/connectors", None).1, json!([]));

    service.restart(&Options::default());
    service.until("it answers", || service.ask("GET", "/health", None).0 == 200);
    service.create("r", &required);
    service.streams("r");
    service.restart(&off);
    service.until("it has failed", || service.state("r").0 == "FAILED");
    let (_, status) = service.ask("GET", "/connectors/r/status", None);
    let trace = status["connector"]["trace"].as_str().unwrap();
    assert!(trace.contains("exactly.once.support is required"), "{trace}");
    // Where it holds it goes on.
    service.restart(&Options::default());
    service.streams("r");
}
