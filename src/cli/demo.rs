//! `millstream demo`.

use super::GlobalArgs;
use crate::demo;
use crate::error::{Error, Result};

/// Arguments of `millstream demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without options everything is temporary: a PostgreSQL server with a source and a target database, the log and \
the state. Ctrl-C stops it and removes what it made.

  millstream demo                      live: every second one change is followed from hop to hop
  millstream demo --check              20,000 changes, then the target is compared with the source
  millstream demo --check --kafka      the same through a temporary Kafka broker (needs Java and Maven)")]
pub struct Args {
    /// Run a fixed workload, compare the target with the source, and exit 1 if a row differs
    #[arg(long)]
    check: bool,

    /// Stop after this many changes on the source [default: 20000 with --check, else none]
    #[arg(long, value_name = "N")]
    changes: Option<u64>,

    /// Use this source database instead of a temporary one (as its owner; the sample data is loaded if missing)
    #[arg(long, value_name = "URL", requires = "target")]
    source: Option<String>,

    /// Use this target database instead of a temporary one (as its owner; the star schema is made if missing)
    #[arg(long, value_name = "URL", requires = "source")]
    target: Option<String>,

    /// The connector and the pipeline run elsewhere already: only change the source and look at the target
    #[arg(long, requires = "source")]
    attach: bool,

    /// Use a temporary Kafka broker as the log (needs Java and Maven)
    #[arg(long, conflicts_with = "attach")]
    kafka: bool,

    /// Seed of the workload: the same seed makes the same statements
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Runs the command.
///
/// # Errors
/// See [`Error`]; with `--check` also when the target differs from the source.
pub async fn run(args: Args, global: &GlobalArgs) -> Result<()> {
    if args.kafka && global.log.is_some() {
        return Err(Error::config("--kafka starts a temporary broker, and --log names a log")
            .next("use one of the two"));
    }
    let databases = args.source.zip(args.target);
    Box::pin(demo::run(demo::Options {
        check: args.check,
        changes: args.changes.or(args.check.then_some(20_000)),
        databases,
        attach: args.attach,
        kafka: args.kafka,
        log: global.log.clone(),
        seed: args.seed,
    }))
    .await
}
