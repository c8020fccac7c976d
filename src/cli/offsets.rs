//! `millstream offsets`.

use serde_json::{Value, json};

use super::GlobalArgs;
use crate::capture::{offsets, transactional_id};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::runtime::saved;

/// Arguments of `millstream offsets`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show how far a connector has read its database, or a pipeline its topics
    Show {
        /// The connector's or the pipeline's name
        name: String,
        /// The topic of connectors' offsets
        #[arg(long, value_name = "TOPIC")]
        offsets_topic: Option<String>,
    },
    /// Forget it (stopped): a connector makes a new snapshot, a pipeline computes everything anew
    Reset {
        /// The connector's or the pipeline's name
        name: String,
        /// The topic of connectors' offsets
        #[arg(long, value_name = "TOPIC")]
        offsets_topic: Option<String>,
    },
}

fn topic(given: Option<String>) -> Result<String> {
    match given {
        Some(topic) => Ok(topic),
        None => Ok(Settings::of(None)?.worker.offset_storage_topic),
    }
}

/// Runs the command.
///
/// # Errors
/// See [`Error`].
pub async fn run(args: Args, global: &GlobalArgs) -> Result<()> {
    match args.command {
        Command::Show { name, offsets_topic } => {
            if saved::find(&global.data, &name).is_ok() {
                let status = super::pipelines::status(global, &name).await?;
                show_pipeline(&name, &status, global.json);
                return Ok(());
            }
            let log = global.look_at_log().await?;
            let found = offsets::read_all(&log, &topic(offsets_topic)?, &name).await?;
            if found.is_empty() {
                return Err(unknown(global, &name));
            }
            for (partition, offset) in found {
                if global.json {
                    say!("{}", json!({"connector": name, "partition": partition, "offset": offset}));
                } else {
                    say!("{name}: {partition}\n  {offset}");
                }
            }
            Ok(())
        }
        Command::Reset { name, offsets_topic } => {
            if saved::find(&global.data, &name).is_ok() {
                saved::reset(&global.data, &name)?;
                say!("pipeline {name}: its next start computes everything anew and takes its targets over");
                return Ok(());
            }
            let group = Settings::of(None)?.worker.group_id;
            let topic = topic(offsets_topic)?;
            let log = global.look_at_log().await?;
            if offsets::read_all(&log, &topic, &name).await?.is_empty() {
                return Err(unknown(global, &name));
            }
            offsets::delete(&log, &topic, &transactional_id(&group, &name), &name).await?;
            say!("connector {name}: its offsets are gone; its next start makes a new snapshot");
            Ok(())
        }
    }
}

fn unknown(global: &GlobalArgs, name: &str) -> Error {
    Error::config(format!("no pipeline and no connector {name} has offsets"))
        .because(format!("looked in {} and in {}", global.data.display(), global.log_url()))
        .next("check the name, --data and --log; `millstream pipelines list` and `millstream topics list` show what is there")
}

fn show_pipeline(name: &str, status: &Value, as_json: bool) {
    let positions = status.get("positions").cloned().unwrap_or_default();
    if as_json {
        say!("{}", json!({"pipeline": name, "positions": positions}));
        return;
    }
    for (input, offset) in positions.as_object().into_iter().flatten() {
        say!("{name}: {}: next offset {offset}", readable(input));
    }
}

/// A position's key without the hash in the source's name, as `--from` of a replay takes it: `orders:0`.
pub(super) fn readable(input: &str) -> String {
    let at = input.split_once('/').map_or(input, |(_, at)| at);
    match at.rsplit_once('/') {
        Some((topic, partition)) => format!("{topic}:{partition}"),
        None => at.to_owned(),
    }
}
