//! `millstream replay`.

use serde_json::{Value, json};

use super::GlobalArgs;
use crate::error::Result;
use crate::replay::{Point, Range};
use crate::runtime::host::replay_held;
use crate::runtime::job::Job;
use crate::runtime::{Environment, saved};
use crate::server::control::{self, segment};

/// Arguments of `millstream replay`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: millstream replay star_schema --from 2026-11-22T10:00:00Z --to 2026-11-22T11:00:00Z\n\
                  computes the query anew from the first event and writes, for every key that events of that hour \
                  touched, its newest row (or deletes it). Running it twice changes nothing."
)]
pub struct Args {
    /// The pipeline's name
    pub pipeline: String,

    /// Where the range of events begins: earliest, a time, or TOPIC:PARTITION:OFFSET (repeatable)
    #[arg(long, required = true, value_name = "POINT", value_parser = point, num_args = 1..)]
    pub from: Vec<Point>,

    /// Where it ends (exclusive); where the pipeline stands, if not given
    #[arg(long, value_name = "POINT", value_parser = point, num_args = 1..)]
    pub to: Vec<Point>,

    /// Only say how many rows would be written
    #[arg(long)]
    pub dry_run: bool,
}

fn point(text: &str) -> Result<Point, String> {
    text.parse().map_err(|e: crate::Error| e.to_string())
}

fn text(point: &Point) -> String {
    match point {
        Point::Earliest => "earliest".into(),
        Point::Present => "present".into(),
        Point::Time(ms) => ms.to_string(),
        Point::Offset { topic, partition, offset } => format!("{topic}:{partition}:{offset}"),
    }
}

/// Runs the command: through the pipeline's process, or with the pipeline stopped.
///
/// # Errors
/// See [`crate::Error`].
pub async fn run(args: Args, global: &GlobalArgs) -> Result<()> {
    let path = format!("/pipelines/{}/replay", segment(&args.pipeline));
    let body = json!({
        "from": args.from.iter().map(text).collect::<Vec<_>>(),
        "to": args.to.iter().map(text).collect::<Vec<_>>(),
        "dry_run": args.dry_run,
    });
    if let Some(answer) = control::request(&global.data, "POST", &path, Some(&body)).await?
        && answer.status != 404
    {
        show(&args.pipeline, &answer.json()?, global.json);
        return Ok(());
    }
    let known = saved::find(&global.data, &args.pipeline)?;
    if saved::head(&global.data, &args.pipeline)?.is_none() {
        return Err(super::pipelines::runs_elsewhere(&args.pipeline));
    }
    let mut job = Job::from_text(&saved::script(&known)?, &args.pipeline, "the pipeline's script")?;
    args.pipeline.clone_into(&mut job.name);
    let mut environment = Environment::new(global.open_log().await?, &global.data);
    environment.addresses = global.addresses()?;
    let range = Range { from: args.from, to: args.to, dry_run: args.dry_run };
    let report = replay_held(&job, environment, &range).await?;
    show(&args.pipeline, &json!(report), global.json);
    Ok(())
}

fn show(pipeline: &str, report: &Value, as_json: bool) {
    if as_json {
        say!("{report}");
        return;
    }
    let number = |of: &Value, key: &str| of.get(key).and_then(Value::as_u64).unwrap_or(0);
    let dry = report.get("dry_run").and_then(Value::as_bool).unwrap_or(false);
    let (replayed, would_be) = if dry { ("looked at", " would be") } else { ("replayed", "") };
    say!(
        "{pipeline}: {} events of the range {replayed} ({} read)",
        number(report, "range"),
        number(report, "records")
    );
    for (sink, written) in report.get("sinks").and_then(Value::as_object).into_iter().flatten() {
        say!(
            "  {sink}: {} rows{would_be} written, {} deleted",
            number(written, "upserts"),
            number(written, "deletes")
        );
    }
}
