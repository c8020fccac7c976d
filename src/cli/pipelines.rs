//! `millstream pipelines`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::GlobalArgs;
use crate::error::{Error, Result};
use crate::runtime::job::Job;
use crate::runtime::saved;
use crate::server::control::{self, segment};
use crate::state::Head;

/// How long a process that is starting may take to serve its control socket.
const PATIENCE: Duration = Duration::from_secs(3);

/// Arguments of `millstream pipelines`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the pipelines of the data directory, running or not
    List,
    /// Show where a pipeline stands: state, cause, inputs, sinks
    Status {
        /// The pipeline's name
        name: String,
    },
    /// Run a stopped pipeline again from where it stopped: in the running service, else in the foreground
    Start {
        /// The pipeline's name, or a file of SQL to run as a new one
        #[arg(value_name = "NAME|FILE.sql")]
        name: String,
    },
    /// Stop a running pipeline cleanly
    Stop {
        /// The pipeline's name
        name: String,
    },
    /// Write a pipeline's state to a file, running or stopped
    Savepoint {
        /// The pipeline's name
        name: String,
        /// The file
        file: PathBuf,
    },
    /// Make a stopped or new pipeline of a savepoint: at its next start it reads on from there
    Restore {
        /// The file
        file: PathBuf,
        /// Another name than that of the pipeline the savepoint was taken of
        #[arg(long)]
        name: Option<String>,
    },
    /// Forget a stopped pipeline's state: at its next start it computes everything anew
    Reset {
        /// The pipeline's name
        name: String,
    },
}

/// Runs the command.
///
/// # Errors
/// See [`Error`].
pub async fn run(args: Args, global: &GlobalArgs) -> Result<()> {
    match args.command {
        Command::List => list(global).await,
        Command::Status { name } => {
            let status = status(global, &name).await?;
            show(&status, global.json);
            Ok(())
        }
        Command::Start { name } => start(global, &name).await,
        Command::Stop { name } => {
            let path = format!("/pipelines/{}/stop", segment(&name));
            let Some(answer) = control::request(&global.data, "POST", &path, None).await? else {
                saved::find(&global.data, &name)?;
                say!("{name} is not running");
                return Ok(());
            };
            show(&answer.json()?, global.json);
            Ok(())
        }
        Command::Savepoint { name, file } => savepoint(global, &name, &file).await,
        Command::Restore { file, name } => {
            let savepoint = saved::restore(&global.data, &file, name.as_deref())?;
            if global.json {
                say!("{}", json!({"name": savepoint.name, "epoch": savepoint.head.epoch}));
            } else {
                say!(
                    "{0} is restored at epoch {1}: `millstream pipelines start {0}` reads on from there, and writes \
                     what was written since once more",
                    savepoint.name,
                    savepoint.head.epoch
                );
            }
            Ok(())
        }
        Command::Reset { name } => {
            saved::find(&global.data, &name)?;
            saved::reset(&global.data, &name)?;
            say!(
                "{name} starts anew: its next start computes everything from the log and takes its targets over"
            );
            Ok(())
        }
    }
}

async fn savepoint(global: &GlobalArgs, name: &str, file: &Path) -> Result<()> {
    let path = std::path::absolute(file)
        .map_err(|e| Error::config(format!("cannot use {}", file.display())).with_source(e))?;
    let route = format!("/pipelines/{}/savepoint", segment(name));
    let running = control::request(&global.data, "POST", &route, Some(&json!({"path": path}))).await?;
    let bytes = match running.filter(|answer| answer.status != 404) {
        Some(answer) => answer.json()?.get("bytes").and_then(Value::as_u64).unwrap_or(0),
        None => saved::savepoint(&global.data, name, &path)?.ok_or_else(|| runs_elsewhere(name))?,
    };
    if global.json {
        say!("{}", json!({"pipeline": name, "path": path, "bytes": bytes}));
    } else {
        say!("{name}: {bytes} bytes of state in {}", path.display());
    }
    Ok(())
}

async fn list(global: &GlobalArgs) -> Result<()> {
    let running = match control::request(&global.data, "GET", "/pipelines", None).await? {
        Some(answer) => answer.json()?.as_array().cloned().unwrap_or_default(),
        None => Vec::new(),
    };
    let mut all = running.clone();
    for known in saved::list(&global.data)? {
        if !running.iter().any(|r| r.get("name").and_then(Value::as_str) == Some(known.name.as_str())) {
            all.push(match saved::head(&global.data, &known.name) {
                Ok(head) => stopped(&known, head),
                Err(error) => {
                    json!({"name": known.name, "state": "UNKNOWN", "causes": [error.screen()], "epoch": 0})
                }
            });
        }
    }
    if global.json {
        say!("{}", Value::Array(all));
    } else if all.is_empty() {
        say!("no pipelines in {}", global.data.display());
    } else {
        for status in &all {
            say!(
                "{:<30} {:<9} epoch {}",
                text(status, "name"),
                text(status, "state"),
                status.get("epoch").and_then(Value::as_u64).unwrap_or(0)
            );
            // What is wrong; `status` says the rest.
            let cause = status.pointer("/causes/0").and_then(Value::as_str).and_then(|c| c.lines().next());
            if let Some(cause) = cause {
                say!("  {cause}");
            }
        }
    }
    Ok(())
}

/// Where a pipeline stands, from its process or from its state.
pub(super) async fn status(global: &GlobalArgs, name: &str) -> Result<Value> {
    let path = format!("/pipelines/{}", segment(name));
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = control::request(&global.data, "GET", &path, None).await?
            && answer.status != 404
        {
            return answer.json();
        }
        let known = saved::find(&global.data, name)?;
        // A process that has the state open and no socket yet is starting, or about to end.
        match saved::head(&global.data, name)? {
            None if Instant::now() < until => tokio::time::sleep(Duration::from_millis(50)).await,
            head => return Ok(stopped(&known, head)),
        }
    }
}

/// A pipeline that answers on no socket, by its state; `None`: another process has that open.
fn stopped(known: &saved::Saved, head: Option<Head>) -> Value {
    let name = &known.name;
    let failure = saved::failure(known);
    match head {
        Some(head) => json!({
            "name": name,
            "state": if failure.is_some() { "FAILED" } else { "STOPPED" },
            "causes": failure.into_iter().collect::<Vec<_>>(),
            "epoch": head.epoch,
            "positions": head.inputs,
            "sinks": head.sinks.iter().map(|(s, e)| json!({"name": s, "epoch": e})).collect::<Vec<_>>(),
        }),
        None => json!({
            "name": name,
            "state": "RUNNING",
            "causes": ["it runs in a process that serves no control socket"],
            "epoch": 0,
            "positions": {},
            "sinks": [],
        }),
    }
}

async fn start(global: &GlobalArgs, name: &str) -> Result<()> {
    let path = std::path::Path::new(name);
    let is_file = path.extension().is_some_and(|e| e == "sql") && path.is_file();
    let request = if is_file {
        // Compiled here first: an error shows the file's name and line.
        let job = Job::from_file(path)?;
        (String::from("/pipelines"), Some(json!({"name": job.name, "sql": job.text})))
    } else {
        (format!("/pipelines/{}/start", segment(name)), None)
    };
    if !is_file {
        let route = format!("/pipelines/{}", segment(name));
        match control::request(&global.data, "GET", &route, None).await? {
            Some(answer) if answer.status == 200 => {
                let state = text(&answer.json()?, "state");
                if !matches!(state.as_str(), "STOPPED" | "FAILED" | "FINISHED") {
                    say!("{name} is running already ({state})");
                    return Ok(());
                }
            }
            // A service knows those of its files as well that never ran.
            _ => drop(saved::find(&global.data, name)?),
        }
    }
    // A process that runs one pipeline only (409) starts no others.
    if let Some(answer) = control::request(&global.data, "POST", &request.0, request.1.as_ref()).await?
        && answer.status != 409
    {
        show(&answer.json()?, global.json);
        return Ok(());
    }
    let (file, name) = match is_file {
        true => (path.to_owned(), None),
        false => (saved::find(&global.data, name)?.directory.join("pipeline.sql"), Some(name.to_owned())),
    };
    let args = super::sql::Args {
        file: Some(file),
        execute: None,
        until_idle: None,
        fresh: false,
        wait_for_topics: false,
        name,
    };
    Box::pin(super::sql::run(args, global)).await
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn show(status: &Value, as_json: bool) {
    if as_json {
        say!("{status}");
        return;
    }
    say!("{}: {}", text(status, "name"), text(status, "state"));
    let list = |key: &str| status.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    for cause in list("causes") {
        say!("  {}", cause.as_str().unwrap_or_default().replace('\n', "\n  "));
    }
    say!("  epoch {}", status.get("epoch").and_then(Value::as_u64).unwrap_or(0));
    if let Some(positions) = status.get("positions").and_then(Value::as_object) {
        for (input, offset) in positions {
            say!("  input {}: next offset {offset}", super::offsets::readable(input));
        }
    }
    for (table, skipped) in status.get("skipped").and_then(Value::as_object).into_iter().flatten() {
        say!(
            "  table {table}: {} records could not be read and were left out, the last: {}",
            skipped.get("records").and_then(Value::as_u64).unwrap_or(0),
            text(skipped, "last")
        );
    }
    for sink in list("sinks") {
        let target = text(&sink, "target");
        let rows = sink.get("rows").and_then(Value::as_u64);
        say!(
            "  sink {}: epoch {}{}{}",
            text(&sink, "name"),
            sink.get("epoch").and_then(Value::as_u64).unwrap_or(0),
            rows.map(|r| format!(", {r} rows since the start")).unwrap_or_default(),
            if target.is_empty() { String::new() } else { format!(", {target}") },
        );
    }
}

/// The error for a command that needs the pipeline's process.
pub(super) fn runs_elsewhere(name: &str) -> Error {
    Error::new(
        crate::Kind::Fenced,
        format!("pipeline {name} runs in a process that serves no control socket"),
    )
    .next("stop that process, then try again")
}
