//! `millstream capture`.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::GlobalArgs;
use crate::capture::{Connector, ConnectorHandle, Env, Phase, SnapshotStatus};
use crate::config::ConnectorConfig;
use crate::error::Result;
use crate::server::control;

/// How often progress is shown.
const PROGRESS: Duration = Duration::from_secs(5);
/// How often a bar on a terminal moves.
const BAR: Duration = Duration::from_millis(200);
/// A snapshot that takes longer than this has one.
const LONG: Duration = Duration::from_secs(2);
/// A clean stop takes at most this long.
const STOP: Duration = Duration::from_secs(10);

/// Arguments of `millstream capture`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The connector's configuration: Kafka Connect JSON, {"name": …, "config": {…}} or the bare map.
    #[arg(value_name = "FILE.json")]
    pub file: PathBuf,

    /// Stop when everything that stood in the WAL at the start of streaming is durable in the log.
    #[arg(long)]
    pub until_caught_up: bool,
}

/// Runs the command: one connector in the foreground, until Ctrl-C or until it has caught up.
///
/// # Errors
/// A configuration that cannot be used, a log that cannot be opened, or what the connector failed with.
pub async fn run(args: Args, global: &GlobalArgs) -> Result<()> {
    let config = ConnectorConfig::from_file(&args.file)?;
    let options = crate::log::OpenOptions {
        properties: config
            .iter()
            .filter_map(|(k, v)| Some((k.strip_prefix("producer.override.")?.to_owned(), v.to_owned())))
            .collect(),
        addresses: global.addresses()?,
        data: vec![global.data.clone()],
        brief: false,
    };
    let log = crate::log::open(&global.log_url(), &options).await?;
    let mut env = Env::new(log, config.name());
    env.addresses = global.addresses()?;
    env.fail_fast = true;
    env.spill = global.data.join("spill");
    for warning in config.warnings() {
        eprintln!("warning: {warning}");
    }
    // So that `millstream topics` reads the log while it is held here.
    let _control = control::serve(&global.data, control::router()).await?;
    let handle = Connector::start(config, env)?;
    let result = tokio::select! {
        result = watch(&handle, args.until_caught_up, global.json) => result,
        stopped = super::stop_signal() => stopped,
    };
    if tokio::time::timeout(STOP, handle.stop()).await.is_err() {
        tracing::warn!(
            "the connector did not stop within {} s; what was not durable comes again",
            STOP.as_secs()
        );
    }
    report(&handle, global.json);
    result
}

async fn watch(handle: &ConnectorHandle, until_caught_up: bool, json: bool) -> Result<()> {
    let mut last = Instant::now();
    let mut phase = None;
    let mut bar = SnapshotBar::new(!json && std::io::stderr().is_terminal());
    loop {
        let changed = handle.changed();
        let status = handle.status();
        // The last line, with the final state, is written when the connector has stopped.
        bar.show(status.snapshot.as_ref());
        if phase != Some(status.phase) && !status.phase.is_final() {
            phase = Some(status.phase);
            report(handle, json);
            if let (Phase::Reconnecting, Some(error)) = (status.phase, &status.error) {
                eprintln!("{}", error.screen());
            }
        }
        if until_caught_up && status.caught_up {
            return Ok(());
        }
        if status.phase.is_final() {
            return handle.ended_by_itself().await;
        }
        let quiet = bar.possible && status.phase == Phase::Snapshot;
        let next = if quiet { BAR } else { PROGRESS.saturating_sub(last.elapsed()) };
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep(next) => {
                if !quiet {
                    last = Instant::now();
                    report(handle, json);
                }
            }
        }
    }
}

/// How far a long snapshot is, on the last line of a terminal.
struct SnapshotBar {
    possible: bool,
    bar: Option<ProgressBar>,
}

impl SnapshotBar {
    fn new(possible: bool) -> Self {
        Self { possible, bar: None }
    }

    fn show(&mut self, snapshot: Option<&SnapshotStatus>) {
        let Some(snapshot) = snapshot.filter(|s| self.possible && s.since.elapsed() >= LONG) else {
            if let Some(bar) = self.bar.take() {
                bar.finish_and_clear();
            }
            return;
        };
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("[{bar:12}] {wide_msg}") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        bar.set_length(snapshot.estimate.max(snapshot.rows));
        bar.set_position(snapshot.rows);
        bar.set_message(snapshot.to_string());
    }
}

/// A line of progress on standard output.
fn report(handle: &ConnectorHandle, json: bool) {
    let s = handle.status();
    let line = if json {
        serde_json::json!({
            "connector": handle.name(),
            "state": s.phase.name(),
            "caught_up": s.caught_up,
            "error": s.error.as_ref().map(ToString::to_string),
            "snapshot": s.snapshot.as_ref().map(ToString::to_string),
            "snapshot_rows": s.counters.snapshot_rows,
            "changes": s.counters.changes,
            "transactions": s.counters.transactions,
            "records": s.counters.records,
            "bytes": s.counters.bytes,
            "durable_lsn": s.durable_lsn.to_string(),
            "server_lsn": s.server_lsn.to_string(),
        })
        .to_string()
    } else {
        format!(
            "{} {}: {} rows read, {} changes, {} records in the log, durable up to {}{}",
            handle.name(),
            s.phase.name(),
            s.counters.snapshot_rows,
            s.counters.changes,
            s.counters.records,
            s.durable_lsn,
            if s.caught_up {
                ", caught up".to_owned()
            } else {
                s.snapshot.map_or_else(String::new, |snapshot| format!("; snapshot: {snapshot}"))
            }
        )
    };
    let _ = writeln!(std::io::stdout(), "{line}");
}
