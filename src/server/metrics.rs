//! `GET /metrics`: all names of metrics, in Prometheus' text format.
//!
//! Read from the states at the time of the request; nothing is counted twice. `millstream_*` are our own names.
//! `debezium_metrics_*` are those that the JMX exporter gives Debezium's, so that existing dashboards work; their
//! `name` is the connector's `topic.prefix`.

use std::fmt::{Display, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::rest::Api;
use crate::capture::{ConnectorStatus, Phase};
use crate::connect::worker::Sample;
use crate::runtime::{Phase as PipelinePhase, PipelineStatus, registry};

/// Answers with everything there is to measure.
pub(super) async fn metrics(State(api): State<Api>) -> Response {
    let connectors = api.worker.samples().await;
    let pipelines: Vec<PipelineStatus> = registry::all().iter().map(|p| p.status()).collect();
    let text = render(&connectors, &pipelines, now_ms());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// A page under way.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // A String takes everything.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (number, (label, text)) in labels.iter().enumerate() {
            self.0.push(if number == 0 { '{' } else { ',' });
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{label}=\"{text}\"");
        }
        let end = if labels.is_empty() { " " } else { "} " };
        let _ = writeln!(self.0, "{end}{value}");
    }
}

/// One of our metrics of a connector: name, help, value.
struct OfConnector {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    value: fn(&ConnectorStatus, i64) -> Option<f64>,
}

// Prometheus knows doubles only: above 2^53 they are inexact, and that is accepted there.
#[allow(clippy::cast_precision_loss, reason = "the format's own precision")]
fn number(n: u64) -> Option<f64> {
    Some(n as f64)
}

#[allow(clippy::cast_precision_loss, reason = "the format's own precision")]
fn signed(n: i64) -> f64 {
    n as f64
}

/// WAL between the server's end and what is durable in the log.
fn behind(s: &ConnectorStatus) -> u64 {
    s.server_lsn.as_u64().saturating_sub(s.durable_lsn.as_u64())
}

/// Age of the last durable event; none before the first.
fn last_event_age(s: &ConnectorStatus, now: i64) -> Option<i64> {
    (s.last_event_ms > 0).then(|| now.saturating_sub(s.last_event_ms).max(0))
}

/// How far the log is behind the source: nothing where it has all of the WAL that was heard of.
fn lag(s: &ConnectorStatus, now: i64) -> Option<i64> {
    if behind(s) == 0 { Some(0) } else { last_event_age(s, now) }
}

const CONNECTOR: &[OfConnector] = &[
    OfConnector {
        name: "millstream_connector_up",
        kind: Kind::Gauge,
        help: "Whether data moves, or would if there were any.",
        value: |s, _| Some(f64::from(u8::from(s.phase.is_running()))),
    },
    OfConnector {
        name: "millstream_connector_caught_up",
        kind: Kind::Gauge,
        help: "Whether everything that stood in the WAL when streaming began is in the log.",
        value: |s, _| Some(f64::from(u8::from(s.caught_up))),
    },
    OfConnector {
        name: "millstream_connector_changes_total",
        kind: Kind::Counter,
        help: "Changes received from the stream, before filters.",
        value: |s, _| number(s.counters.changes),
    },
    OfConnector {
        name: "millstream_connector_transactions_total",
        kind: Kind::Counter,
        help: "Transactions received from the stream.",
        value: |s, _| number(s.counters.transactions),
    },
    OfConnector {
        name: "millstream_connector_snapshot_rows_total",
        kind: Kind::Counter,
        help: "Rows read in snapshots.",
        value: |s, _| number(s.counters.snapshot_rows),
    },
    OfConnector {
        name: "millstream_connector_records_total",
        kind: Kind::Counter,
        help: "Records durable in the log.",
        value: |s, _| number(s.counters.records),
    },
    OfConnector {
        name: "millstream_connector_bytes_total",
        kind: Kind::Counter,
        help: "Bytes of the records durable in the log.",
        value: |s, _| number(s.counters.bytes),
    },
    OfConnector {
        name: "millstream_connector_batches_total",
        kind: Kind::Counter,
        help: "Batches committed to the log.",
        value: |s, _| number(s.counters.batches),
    },
    OfConnector {
        name: "millstream_connector_left_out_total",
        kind: Kind::Counter,
        help: "Changes without an event, by event.processing.failure.handling.mode.",
        value: |s, _| number(s.counters.left_out),
    },
    OfConnector {
        name: "millstream_connector_skipped_total",
        kind: Kind::Counter,
        help: "Records that a transform or converter could not do, left out by errors.tolerance=all.",
        value: |s, _| number(s.counters.skipped),
    },
    OfConnector {
        name: "millstream_connector_reconnects_total",
        kind: Kind::Counter,
        help: "Times the connection to the database or the log was lost.",
        value: |s, _| number(s.counters.reconnects),
    },
    OfConnector {
        name: "millstream_connector_spilled_bytes_total",
        kind: Kind::Counter,
        help: "Bytes of streamed transactions written to files until their commit.",
        value: |s, _| number(s.counters.spilled_bytes),
    },
    OfConnector {
        name: "millstream_connector_held_transactions",
        kind: Kind::Gauge,
        help: "Streamed transactions that are kept until they commit.",
        value: |s, _| number(s.held_transactions),
    },
    OfConnector {
        name: "millstream_connector_server_lsn",
        kind: Kind::Gauge,
        help: "End of the WAL at the server, as last heard.",
        value: |s, _| number(s.server_lsn.as_u64()),
    },
    OfConnector {
        name: "millstream_connector_durable_lsn",
        kind: Kind::Gauge,
        help: "Position up to which everything is durable in the log.",
        value: |s, _| number(s.durable_lsn.as_u64()),
    },
    OfConnector {
        name: "millstream_connector_behind_bytes",
        kind: Kind::Gauge,
        help: "WAL between the server's end and what is durable in the log.",
        value: |s, _| number(behind(s)),
    },
    OfConnector {
        name: "millstream_connector_lag_seconds",
        kind: Kind::Gauge,
        help: "Age of the last event in the log; 0 where the log has all of the WAL heard of.",
        value: |s, now| lag(s, now).map(|ms| signed(ms) / 1000.0),
    },
    OfConnector {
        name: "millstream_snapshot_tables",
        kind: Kind::Gauge,
        help: "Tables of the snapshot under way.",
        value: |s, _| number(u64::try_from(s.snapshot.as_ref()?.tables).ok()?),
    },
    OfConnector {
        name: "millstream_snapshot_tables_done",
        kind: Kind::Gauge,
        help: "Tables of the snapshot under way that are read.",
        value: |s, _| number(u64::try_from(s.snapshot.as_ref()?.tables_done).ok()?),
    },
    OfConnector {
        name: "millstream_snapshot_rows",
        kind: Kind::Gauge,
        help: "Rows read by the snapshot under way.",
        value: |s, _| number(s.snapshot.as_ref()?.rows),
    },
    OfConnector {
        name: "millstream_snapshot_rows_estimate",
        kind: Kind::Gauge,
        help: "Rows there are for the snapshot under way, as the planner thinks.",
        value: |s, _| number(s.snapshot.as_ref()?.estimate),
    },
    OfConnector {
        name: "millstream_snapshot_seconds_left",
        kind: Kind::Gauge,
        help: "Time that the snapshot under way still takes at its speed so far.",
        value: |s, _| Some(s.snapshot.as_ref()?.left()?.as_secs_f64()),
    },
    OfConnector {
        name: "millstream_slot_lag_bytes",
        kind: Kind::Gauge,
        help: "WAL that the replication slot has not confirmed.",
        value: |s, _| number(s.slot.as_ref()?.lag_bytes),
    },
    OfConnector {
        name: "millstream_slot_lag_seconds",
        kind: Kind::Gauge,
        help: "How long ago the WAL ended where the slot is confirmed now.",
        value: |s, _| Some(s.slot.as_ref()?.lag.as_secs_f64()),
    },
    OfConnector {
        name: "millstream_slot_retained_bytes",
        kind: Kind::Gauge,
        help: "WAL that the replication slot keeps from being removed.",
        value: |s, _| number(s.slot.as_ref()?.retained_bytes),
    },
    OfConnector {
        name: "millstream_slot_safe_bytes",
        kind: Kind::Gauge,
        help: "WAL until the server gives up the slot (safe_wal_size).",
        value: |s, _| number(s.slot.as_ref()?.safe_bytes?),
    },
    OfConnector {
        name: "millstream_slot_full_in_seconds",
        kind: Kind::Gauge,
        help: "Time until the slot is given up, or the disk is full, if the slot stood still.",
        value: |s, _| Some(s.slot.as_ref()?.full_in?.as_secs_f64()),
    },
    OfConnector {
        name: "millstream_source_wal_bytes_per_second",
        kind: Kind::Gauge,
        help: "WAL that the server writes.",
        value: |s, _| Some(s.slot.as_ref()?.wal_per_second),
    },
];

/// Reads a figure from a connector's state and the present time (ms since 1970).
type Figure = fn(&ConnectorStatus, i64) -> f64;

/// What Debezium's `max.queue.size` is by default. The queue here is bounded in bytes: its free share is told in the
/// unit that dashboards know.
const RECORDS: i64 = 8192;

fn free_share(s: &ConnectorStatus) -> f64 {
    let (used, limit) = (number(s.queue.0).unwrap_or_default(), number(s.queue.1).unwrap_or_default());
    if limit > 0.0 { (1.0 - used / limit).max(0.0) } else { 1.0 }
}

/// Debezium's attributes, with the context they belong to.
const DEBEZIUM: &[(&str, &str, Figure)] = &[
    ("Connected", "streaming", |s, _| f64::from(u8::from(s.phase == Phase::Streaming))),
    ("MilliSecondsBehindSource", "streaming", |s, now| lag(s, now).map_or(-1.0, signed)),
    ("MilliSecondsSinceLastEvent", "streaming", |s, now| last_event_age(s, now).map_or(-1.0, signed)),
    ("TotalNumberOfEventsSeen", "streaming", |s, _| number(s.counters.changes).unwrap_or_default()),
    ("TotalNumberOfCreateEventsSeen", "streaming", |s, _| number(s.counters.creates).unwrap_or_default()),
    ("TotalNumberOfUpdateEventsSeen", "streaming", |s, _| number(s.counters.updates).unwrap_or_default()),
    ("TotalNumberOfDeleteEventsSeen", "streaming", |s, _| number(s.counters.deletes).unwrap_or_default()),
    ("NumberOfEventsFiltered", "streaming", |s, _| number(s.counters.filtered).unwrap_or_default()),
    ("NumberOfErroneousEvents", "streaming", |s, _| {
        number(s.counters.left_out + s.counters.skipped).unwrap_or_default()
    }),
    ("QueueTotalCapacity", "streaming", |_, _| signed(RECORDS)),
    ("QueueRemainingCapacity", "streaming", |s, _| free_share(s) * signed(RECORDS)),
    ("MaxQueueSizeInBytes", "streaming", |s, _| number(s.queue.1).unwrap_or_default()),
    ("CurrentQueueSizeInBytes", "streaming", |s, _| number(s.queue.0).unwrap_or_default()),
    ("NumberOfCommittedTransactions", "streaming", |s, _| {
        number(s.counters.transactions).unwrap_or_default()
    }),
    ("SnapshotRunning", "snapshot", |s, _| f64::from(u8::from(s.phase == Phase::Snapshot))),
    ("SnapshotCompleted", "snapshot", |s, _| {
        f64::from(u8::from(matches!(s.phase, Phase::Streaming | Phase::Idle)))
    }),
    ("TotalNumberOfEventsSeen", "snapshot", |s, _| number(s.counters.snapshot_rows).unwrap_or_default()),
    ("TotalTableCount", "snapshot", |s, _| match s.snapshot_done {
        Some((all, _)) if s.snapshot.is_none() => number(u64::try_from(all).unwrap_or(0)).unwrap_or_default(),
        _ => tables(s, |t| t.tables),
    }),
    ("SnapshotPaused", "snapshot", |s, _| f64::from(u8::from(s.snapshot_paused))),
    ("SnapshotAborted", "snapshot", |s, _| {
        f64::from(u8::from(s.phase == Phase::Failed && s.snapshot.is_some()))
    }),
    ("SnapshotDurationInSeconds", "snapshot", |s, _| match (&s.snapshot, s.snapshot_done) {
        (Some(running), _) => running.since.elapsed().as_secs_f64().floor(),
        (None, Some((_, took))) => took.as_secs_f64().floor(),
        (None, None) => 0.0,
    }),
    ("QueueTotalCapacity", "snapshot", |_, _| signed(RECORDS)),
    ("QueueRemainingCapacity", "snapshot", |s, _| free_share(s) * signed(RECORDS)),
    ("RemainingTableCount", "snapshot", |s, _| tables(s, |t| t.tables.saturating_sub(t.tables_done))),
];

fn tables(s: &ConnectorStatus, count: fn(&crate::capture::SnapshotStatus) -> usize) -> f64 {
    s.snapshot.as_ref().and_then(|t| number(u64::try_from(count(t)).ok()?)).unwrap_or_default()
}

/// The page.
fn render(connectors: &[Sample], pipelines: &[PipelineStatus], now: i64) -> String {
    let mut page = Page(String::with_capacity(8 << 10));
    page.family("millstream_info", Kind::Gauge, "This build.");
    page.sample("millstream_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.family("millstream_connectors", Kind::Gauge, "Connectors of this worker.");
    page.sample("millstream_connectors", &[], connectors.len());
    if !connectors.is_empty() {
        page.family("millstream_connector_state", Kind::Gauge, "1 for the state a connector is in.");
        for c in connectors {
            let labels = [("connector", c.name.as_str()), ("state", c.state)];
            page.sample("millstream_connector_state", &labels, 1);
        }
    }
    let running: Vec<(&Sample, &ConnectorStatus)> =
        connectors.iter().filter_map(|c| Some((c, c.status.as_ref()?))).collect();
    let failures: Vec<(&str, String)> =
        running.iter().filter_map(|(c, s)| Some((c.name.as_str(), s.error.as_ref()?.to_string()))).collect();
    if !failures.is_empty() {
        page.family(
            "millstream_connector_failure",
            Kind::Gauge,
            "1 while a failure keeps a connector from moving.",
        );
        for (name, cause) in &failures {
            page.sample("millstream_connector_failure", &[("connector", *name), ("cause", cause)], 1);
        }
    }
    for metric in CONNECTOR {
        let mut named = false;
        for (c, status) in &running {
            let Some(value) = (metric.value)(status, now) else { continue };
            if !std::mem::replace(&mut named, true) {
                page.family(metric.name, metric.kind, metric.help);
            }
            page.sample(metric.name, &[("connector", &c.name)], value);
        }
    }
    let statuses: Vec<(&str, &str)> = running
        .iter()
        .filter_map(|(c, s)| Some((c.name.as_str(), s.slot.as_ref()?.wal_status.as_deref()?)))
        .collect();
    if !statuses.is_empty() {
        page.family("millstream_slot_wal_status", Kind::Gauge, "1 for the slot's wal_status.");
        for (name, status) in statuses {
            page.sample("millstream_slot_wal_status", &[("connector", name), ("wal_status", status)], 1);
        }
    }
    debezium(&mut page, &running, now);
    of_pipelines(&mut page, pipelines, now);
    page.0
}

fn debezium(page: &mut Page, running: &[(&Sample, &ConnectorStatus)], now: i64) {
    let mut done: Vec<&str> = Vec::new();
    for (attribute, _, _) in DEBEZIUM {
        if running.is_empty() || done.contains(attribute) {
            continue;
        }
        done.push(attribute);
        let name = format!("debezium_metrics_{attribute}");
        page.family(&name, Kind::Gauge, "As the JMX exporter names Debezium's attribute.");
        for (_, context, value) in DEBEZIUM.iter().filter(|(other, _, _)| other == attribute) {
            for (c, status) in running {
                let labels = [("plugin", "postgres"), ("name", c.server.as_str()), ("context", context)];
                page.sample(&name, &labels, value(status, now));
            }
        }
    }
}

fn of_pipelines(page: &mut Page, pipelines: &[PipelineStatus], now: i64) {
    if pipelines.is_empty() {
        return;
    }
    page.family("millstream_pipeline_state", Kind::Gauge, "1 for the state a pipeline is in.");
    for p in pipelines {
        let labels = [("pipeline", p.name.as_str()), ("state", p.phase.name())];
        page.sample("millstream_pipeline_state", &labels, 1);
    }
    let troubled = |p: &&PipelineStatus| matches!(p.phase, PipelinePhase::Retrying | PipelinePhase::Failed);
    if pipelines.iter().any(|p| troubled(&p)) {
        page.family(
            "millstream_pipeline_failure",
            Kind::Gauge,
            "1 while a failure keeps a pipeline from moving.",
        );
    }
    for p in pipelines.iter().filter(troubled) {
        // What failed; the causes below it may change from try to try.
        let cause = p.causes.iter().filter_map(|cause| cause.lines().next()).collect::<Vec<_>>().join("; ");
        page.sample("millstream_pipeline_failure", &[("pipeline", &p.name), ("cause", &cause)], 1);
    }
    if pipelines.iter().any(|p| !p.skipped.is_empty()) {
        page.family(
            "millstream_pipeline_skipped_total",
            Kind::Counter,
            "Records since the start that could not be read and were left out (ignore-parse-errors).",
        );
    }
    for (p, (table, skipped)) in pipelines.iter().flat_map(|p| p.skipped.iter().map(move |s| (p, s))) {
        let labels = [("pipeline", p.name.as_str()), ("table", table)];
        page.sample("millstream_pipeline_skipped_total", &labels, skipped.records);
    }
    page.family("millstream_pipeline_epoch", Kind::Gauge, "Last epoch in the state.");
    for p in pipelines {
        page.sample("millstream_pipeline_epoch", &[("pipeline", &p.name)], p.epoch);
    }
    page.family("millstream_pipeline_records_total", Kind::Counter, "Records read since the start.");
    for p in pipelines {
        page.sample("millstream_pipeline_records_total", &[("pipeline", &p.name)], p.records);
    }
    page.family(
        "millstream_pipeline_newest_record_age_seconds",
        Kind::Gauge,
        "Age of the newest record that is in the state.",
    );
    for p in pipelines {
        if let Some(newest) = p.newest {
            let age = signed(now.saturating_sub(newest).max(0)) / 1000.0;
            page.sample("millstream_pipeline_newest_record_age_seconds", &[("pipeline", &p.name)], age);
        }
    }
    page.family("millstream_sink_epoch", Kind::Gauge, "Last epoch that the target holds.");
    for (p, s) in pipelines.iter().flat_map(|p| p.sinks.iter().map(move |s| (p, s))) {
        page.sample("millstream_sink_epoch", &[("pipeline", &p.name), ("sink", &s.name)], s.epoch);
    }
    page.family("millstream_sink_rows_total", Kind::Counter, "Rows written to the target since the start.");
    for (p, s) in pipelines.iter().flat_map(|p| p.sinks.iter().map(move |s| (p, s))) {
        page.sample("millstream_sink_rows_total", &[("pipeline", &p.name), ("sink", &s.name)], s.rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_of_prometheus_form() {
        let mut names: Vec<&str> = CONNECTOR.iter().map(|m| m.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
        for metric in CONNECTOR {
            assert_eq!(
                matches!(metric.kind, Kind::Counter),
                metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn labels_are_escaped() {
        let mut page = Page(String::new());
        page.sample("x", &[("a", "q\"\\\n")], 1);
        assert_eq!(page.0, "x{a=\"q\\\"\\\\\\n\"} 1\n");
        let stopped = Sample {
            name: "c".to_owned(),
            server: "s".to_owned(),
            state: "STOPPED",
            wanted: false,
            status: None,
        };
        let text = render(&[stopped], &[], 0);
        assert!(text.contains("millstream_connector_state{connector=\"c\",state=\"STOPPED\"} 1\n"), "{text}");
        assert!(!text.contains("debezium_metrics"), "{text}");
    }
}
