//! `millstream sql`.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::GlobalArgs;
use crate::error::{Error, Result};
use crate::runtime::job::Job;
use crate::runtime::{Environment, Phase, Pipeline, PipelineHandle, PipelineStatus};
use crate::server::control;

/// Arguments of `millstream sql`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Args {
    /// A file of Flink SQL (`-` reads standard input). The pipeline goes on where one of its name stopped.
    #[arg(short, long, value_name = "FILE.sql", group = "what")]
    pub file: Option<PathBuf>,

    /// Statements to run once; nothing is kept of them.
    #[arg(short, long, value_name = "SQL", group = "what")]
    pub execute: Option<String>,

    /// Stop when all sinks have committed and nothing came in for this time (`5s`, `500ms`, `1m`).
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub until_idle: Option<Duration>,

    /// Start anew: forget the pipeline's state and compute everything from the log again.
    #[arg(long)]
    pub fresh: bool,

    /// Wait for topics that do not exist yet instead of failing.
    #[arg(long)]
    pub wait_for_topics: bool,

    /// The pipeline's name; the script's 'pipeline.name' or the file's stem where not given.
    #[arg(long, value_name = "NAME", conflicts_with = "execute")]
    pub name: Option<String>,
}

/// Reads `5s`, `500ms`, `2m`, `1h`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let bad = || format!("{text:?} is not a duration: write 500ms, 5s, 2m or 1h");
    let number: f64 = digits.trim().parse().map_err(|_| bad())?;
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(bad()),
    };
    Duration::try_from_secs_f64(number * unit).map_err(|_| bad())
}

/// Runs the command.
///
/// # Errors
/// See [`Error`].
pub async fn run(args: Args, global: &GlobalArgs) -> Result<()> {
    let (text, shown, file) = match (&args.file, &args.execute) {
        (Some(file), _) if file == Path::new("-") => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|e| Error::config("cannot read standard input").with_source(e))?;
            (text, "standard input".to_owned(), file.clone())
        }
        (Some(file), _) => {
            let text = std::fs::read_to_string(file)
                .map_err(|e| Error::config(format!("cannot read {}", file.display())).with_source(e))?;
            (text, file.display().to_string(), file.clone())
        }
        (None, text) => (text.clone().unwrap_or_default(), "-e".to_owned(), PathBuf::new()),
    };
    let stem = file.file_stem().map_or_else(|| "pipeline".into(), |stem| stem.to_string_lossy());
    let job = Job::from_text(&text, &stem, &shown)?;
    if job.script.is_empty {
        return Err(Error::config(format!("{shown} has no statement")));
    }
    for output in &job.script.outputs {
        say!("{output}");
    }
    for warning in &job.script.plan.warnings {
        eprintln!("warning: {warning}");
    }
    if !job.script.has_sinks() {
        if job.script.outputs.is_empty() {
            eprintln!(
                "{shown} has neither INSERT INTO nor SELECT: nothing runs (tables are looked at where a query uses them)"
            );
        }
        return Ok(());
    }
    let log = global.open_log().await?;
    let mut environment = Environment::new(log, &global.data);
    environment.addresses = global.addresses()?;
    environment.wait_for_topics = args.wait_for_topics;
    environment.fresh = args.fresh;
    if args.execute.is_some() {
        let scratch = tempfile::tempdir()
            .map_err(|e| Error::config("cannot make a temporary directory").with_source(e))?;
        environment.data = scratch.path().to_owned();
        environment.ephemeral = true;
        let name = format!("e-{}", uuid::Uuid::new_v4().simple());
        let result = drive(Pipeline::start(&job.script.plan, &name, environment).await?, &args, global).await;
        drop(scratch);
        return result;
    }
    let name = args.name.clone().unwrap_or(job.name);
    environment.script = Some(text);
    // From the moment the log is held on, so that others who want to read it meanwhile find this process. Where
    // another one (a service with its own pipelines) serves the socket already, this pipeline is controlled by its
    // terminal alone.
    let socket = control::serve(&global.data, control::router()).await?;
    let result = match Pipeline::start(&job.script.plan, &name, environment).await {
        Ok(handle) => drive(handle, &args, global).await,
        Err(error) => Err(error),
    };
    if let Some(socket) = socket {
        socket.close().await;
    }
    result
}

/// Runs a started pipeline until its end, its idleness, or Ctrl-C.
async fn drive(handle: PipelineHandle, args: &Args, global: &GlobalArgs) -> Result<()> {
    let control = handle.control();
    let begun = std::time::Instant::now();
    let goes_on = control.status().epoch > 0;
    let ended = async {
        match args.until_idle {
            Some(quiet) => control.idle(quiet).await,
            None => control.wait().await.map(drop),
        }
    };
    let result = tokio::select! {
        result = ended => result,
        () = report(&handle, global.json) => Ok(()),
        stopped = super::stop_signal() => stopped,
    };
    let stopped = handle.stop().await;
    let result = result.and(stopped);
    if result.is_ok() && args.execute.is_none() {
        let status = control.status();
        eprintln!("{}", summary(&status, begun.elapsed(), global.json));
        let nothing = status.records == 0 && status.sinks.iter().all(|sink| sink.rows == 0);
        if goes_on && nothing && !global.json {
            eprintln!("it went on where it had stopped, and nothing was new: --fresh reads everything again");
        }
    }
    result
}

/// What a pipeline has done, in one line.
fn summary(status: &PipelineStatus, time: Duration, json: bool) -> String {
    if json {
        return crate::server::pipelines::status_json(status).to_string();
    }
    let sinks: Vec<String> =
        status.sinks.iter().map(|sink| format!("{} rows into {}", sink.rows, sink.name)).collect();
    let skipped: u64 = status.skipped.values().map(|skipped| skipped.records).sum();
    let skipped = if skipped > 0 { format!(" ({skipped} skipped)") } else { String::new() };
    format!(
        "{} {}: {} records read{skipped}, {}, epoch {}, {:.1} s",
        status.name,
        status.phase.name(),
        status.records,
        sinks.join(", "),
        status.epoch,
        time.as_secs_f64()
    )
}

/// Says on standard error when the pipeline's state changes; on a terminal also how far it is.
async fn report(handle: &PipelineHandle, json: bool) {
    let quiet = !std::io::stderr().is_terminal();
    let mut last: Option<(Phase, Vec<String>)> = None;
    let mut shown = std::time::Instant::now();
    loop {
        let status = handle.status();
        let now = (status.phase, status.causes.clone());
        let changed = last.as_ref() != Some(&now);
        let troubled = !matches!(status.phase, Phase::Running | Phase::Starting);
        let was_troubled = last.as_ref().is_some_and(|(p, _)| !matches!(p, Phase::Running | Phase::Starting));
        let progress = !quiet && shown.elapsed() >= Duration::from_secs(5);
        if (changed && (troubled || was_troubled)) || progress {
            shown = std::time::Instant::now();
            if json {
                eprintln!("{}", crate::server::pipelines::status_json(&status));
            } else {
                let rows: u64 = status.sinks.iter().map(|s| s.rows).sum();
                eprintln!(
                    "{} {}: epoch {}, {} records read, {rows} rows written",
                    status.name,
                    status.phase.name(),
                    status.epoch,
                    status.records
                );
                for cause in status.causes.iter().filter(|_| !status.phase.is_final()) {
                    eprintln!("  {}", cause.replace('\n', "\n  "));
                }
            }
        }
        last = Some(now);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_said_in_one_line() {
        let sinks = vec![crate::runtime::SinkStatus {
            name: "totals".into(),
            target: "topic totals".into(),
            epoch: 2,
            due: 2,
            rows: 7,
        }];
        let status = PipelineStatus {
            name: "p".into(),
            phase: Phase::Stopped,
            causes: Vec::new(),
            epoch: 2,
            records: 20,
            positions: std::collections::BTreeMap::new(),
            begins: std::collections::BTreeMap::new(),
            newest: None,
            skipped: std::collections::BTreeMap::new(),
            behind: std::collections::BTreeSet::new(),
            sinks,
            warnings: Vec::new(),
        };
        let line = summary(&status, Duration::from_millis(1_260), false);
        assert_eq!(line, "p STOPPED: 20 records read, 7 rows into totals, epoch 2, 1.3 s");
    }

    #[test]
    fn durations() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert!(duration("5 days").is_err());
        assert!(duration("-1s").is_err());
    }
}
