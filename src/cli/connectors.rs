//! `millstream connectors`.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::GlobalArgs;
use crate::config::connector::parse_json;
use crate::error::{Error, Kind, Result};
use crate::server::control::{self, Answer, segment};

/// Arguments of `millstream connectors`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
These commands speak to the `millstream run` that holds the data directory (--data). The same can be done over \
HTTP with Kafka Connect's REST API, by default on 127.0.0.1:8083.")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the connectors with their states
    List,
    /// Show a connector's state, and why it failed
    Status {
        /// The connector's name; all without one
        name: Option<String>,
    },
    /// Make a connector, or change it, from a file with Kafka Connect's JSON
    Create {
        /// Connector file: {"name": …, "config": {…}}
        file: PathBuf,
    },
    /// Halt a connector; its task is kept
    Pause {
        /// The connector's name
        name: String,
    },
    /// Let a paused or stopped connector run again
    Resume {
        /// The connector's name
        name: String,
    },
    /// Halt a connector and give its task up: its offsets can be changed then
    Stop {
        /// The connector's name
        name: String,
    },
    /// Start a connector again, after a failure say
    Restart {
        /// The connector's name
        name: String,
    },
    /// Delete a connector; its topics, its offsets and its replication slot stay
    Delete {
        /// The connector's name
        name: String,
        /// Drop the replication slot too: else it holds back WAL on the source until somebody does
        #[arg(long)]
        drop_slot: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// When no service runs on the data directory, and whatever the service answers.
pub async fn run(args: Args, global: &GlobalArgs) -> Result<()> {
    match args.command {
        Command::List => all(global, |name, status| say!("{name:<30} {}", state(status))).await,
        Command::Status { name: Some(name) } => status(global, &name).await,
        Command::Status { name: None } => all(global, show).await,
        Command::Create { file } => create(global, &file).await,
        Command::Pause { name } => act(global, "PUT", &name, "/pause", "paused").await,
        Command::Resume { name } => act(global, "PUT", &name, "/resume", "resumed").await,
        Command::Stop { name } => act(global, "PUT", &name, "/stop", "stopped").await,
        Command::Restart { name } => {
            act(global, "POST", &name, "/restart?includeTasks=true", "restarted").await
        }
        Command::Delete { name, drop_slot } => {
            let (query, done) = if drop_slot {
                ("?dropSlot=true", "deleted, its slot too")
            } else {
                ("", "deleted; its replication slot stays and holds back WAL until it is dropped")
            };
            act(global, "DELETE", &name, query, done).await
        }
    }
}

/// All connectors, each as a line or more.
async fn all(global: &GlobalArgs, show: impl Fn(&str, &Value)) -> Result<()> {
    let all = ask(global, "GET", "/connectors?expand=status&expand=progress", None).await?.json()?;
    if global.json {
        say!("{all}");
        return Ok(());
    }
    let connectors = all.as_object().cloned().unwrap_or_default();
    if connectors.is_empty() {
        say!("no connectors; make one with `millstream connectors create FILE`");
    }
    for (name, entry) in &connectors {
        show(name, entry.get("status").unwrap_or(&Value::Null));
    }
    Ok(())
}

async fn status(global: &GlobalArgs, name: &str) -> Result<()> {
    let status = ask(global, "GET", &format!("/connectors/{}/status?expand=progress", segment(name)), None)
        .await?
        .json()?;
    if global.json {
        say!("{status}");
    } else {
        show(name, &status);
    }
    Ok(())
}

/// A connector's state, and its cause where there is one.
fn show(name: &str, status: &Value) {
    say!("{name}: {}", state(status));
    let trace = status.pointer("/tasks/0/trace").or_else(|| status.pointer("/connector/trace"));
    if let Some(trace) = trace.and_then(Value::as_str) {
        say!("{trace}");
    }
    for (field, what) in [("/tasks/0/snapshot/text", "snapshot"), ("/tasks/0/warning", "warning")] {
        if let Some(text) = status.pointer(field).and_then(Value::as_str) {
            say!("{what}: {text}");
        }
    }
}

/// The task's state where there is one: it is what moves data.
fn state(status: &Value) -> &str {
    status
        .pointer("/tasks/0/state")
        .or_else(|| status.pointer("/connector/state"))
        .and_then(Value::as_str)
        .unwrap_or("UNKNOWN")
}

async fn create(global: &GlobalArgs, file: &std::path::Path) -> Result<()> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| Error::config(format!("cannot read {}", file.display())).with_source(e))?;
    let stem = file.file_stem().map(|s| s.to_string_lossy().into_owned());
    let (name, config) = parse_json(&text, stem.as_deref())?;
    let answer =
        ask(global, "PUT", &format!("/connectors/{}/config", segment(&name)), Some(&json!(config))).await?;
    if global.json {
        say!("{}", answer.json()?);
    } else {
        say!("{name} {}", if answer.status == 201 { "created" } else { "changed" });
    }
    Ok(())
}

async fn act(global: &GlobalArgs, method: &str, name: &str, rest: &str, done: &str) -> Result<()> {
    ask(global, method, &format!("/connectors/{}{rest}", segment(name)), None).await?;
    if !global.json {
        say!("{name} {done}");
    }
    Ok(())
}

/// Asks the service; an error answer becomes an error.
async fn ask(global: &GlobalArgs, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
    let answer = control::request(&global.data, method, path, body).await?.ok_or_else(|| {
        Error::new(Kind::Refused, format!("no service runs on the data directory {}", global.data.display()))
            .next("start one with `millstream run`, or name its directory with --data")
    })?;
    if answer.status < 400 {
        return Ok(answer);
    }
    let message = serde_json::from_slice::<Value>(&answer.body)
        .ok()
        .and_then(|v| v.get("message").and_then(Value::as_str).map(str::to_owned))
        .unwrap_or_else(|| format!("HTTP {}", answer.status));
    Err(Error::refused("the service refuses").because(message))
}
