//! The embedded demo: temporary databases, sample workload, hops of a change on the screen, checks.

pub mod check;
pub mod databases;
mod hops;
pub mod postgres;
mod probe;
mod screen;
pub mod workload;

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use self::databases::Databases;
use self::probe::Probe;
use self::screen::Screen;
use self::workload::Workload;
use crate::error::{Error, Result};

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// A fixed workload, compared at the end; otherwise a live show.
    pub check: bool,
    /// Stop after this many changes on the source.
    pub changes: Option<u64>,
    /// URLs of source and target; temporary ones where not given.
    pub databases: Option<(String, String)>,
    /// Connector and pipeline run elsewhere.
    pub attach: bool,
    /// A temporary Kafka broker is the log.
    pub kafka: bool,
    /// The log's URL; a temporary embedded log where not given.
    pub log: Option<String>,
    /// Seed of the workload.
    pub seed: u64,
}

/// How long the target may take after the last change before it counts as different.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pause between the transactions of the live show.
const LIVE_PAUSE: Duration = Duration::from_millis(20);

/// Runs the demo until it is done or stopped by Ctrl-C, and removes what it made.
///
/// # Errors
/// When something cannot be started, when a part fails, or with `check` when the target differs.
pub async fn run(options: Options) -> Result<()> {
    let mut screen = Screen::new(!options.check);
    let databases = match &options.databases {
        Some((source, target)) => Databases::named(source, target)?,
        None => screen.step("PostgreSQL", Databases::temporary()).await?,
    };
    let (source, target) = databases.sessions().await?;
    let show = show(&options, &mut screen, &source, &target);
    tokio::select! {
        result = show => result,
        stopped = crate::cli::stop_signal() => stopped,
    }
}

async fn show(options: &Options, screen: &mut Screen, source: &Client, target: &Client) -> Result<()> {
    let mut workload = Workload::load(source, options.seed).await?;
    let begin = Instant::now();
    let changes = if options.check {
        run_fixed(options, screen, source, &mut workload).await?
    } else {
        run_live(options, screen, source, target, &mut workload).await?
    };
    if options.check { verify(screen, source, target, changes, begin).await } else { Ok(()) }
}

/// The fixed workload, as fast as the source takes it.
async fn run_fixed(
    options: &Options,
    screen: &mut Screen,
    source: &Client,
    workload: &mut Workload,
) -> Result<u64> {
    let wanted = options.changes.unwrap_or(20_000);
    let (mut changes, mut transactions) = (0, 0_u64);
    while changes < wanted {
        let transaction = workload.next_transaction();
        changes += workload::run(source, &transaction).await?;
        transactions += 1;
        screen.progress(changes, wanted);
    }
    screen.line(&format!("{changes} changes in {transactions} transactions are on the source"));
    Ok(changes)
}

/// The live show: a steady workload, and every second one change followed from hop to hop.
async fn run_live(
    options: &Options,
    screen: &mut Screen,
    source: &Client,
    target: &Client,
    workload: &mut Workload,
) -> Result<u64> {
    let mut probe = Probe::new(source, target).await?;
    let mut changes = 0;
    let mut next_probe = Instant::now();
    let begin = Instant::now();
    while options.changes.is_none_or(|wanted| changes < wanted) {
        let transaction = workload.next_transaction();
        changes += workload::run(source, &transaction).await?;
        if Instant::now() >= next_probe {
            let trace = probe.follow(source, target, None).await?;
            screen.trace(&trace);
            changes += 1;
            next_probe = Instant::now() + Duration::from_secs(1);
        }
        screen.summary(changes, begin.elapsed(), probe.latencies());
        tokio::time::sleep(LIVE_PAUSE).await;
    }
    probe.remove(source).await?;
    Ok(changes)
}

async fn verify(
    screen: &mut Screen,
    source: &Client,
    target: &Client,
    changes: u64,
    begin: Instant,
) -> Result<()> {
    let results = check::compare_until(source, target, PATIENCE).await?;
    let took = begin.elapsed();
    // Once more after a while: a row that was right may not go back.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let results = if results.iter().all(|r| r.mismatches == 0) {
        check::compare(source, target).await?
    } else {
        results
    };
    let (mut rows, mut mismatches) = (0, 0);
    for result in &results {
        rows += result.found;
        mismatches += result.mismatches;
        screen.line(&format!(
            "{}: {} rows, {} expected, {} mismatches",
            result.table, result.found, result.expected, result.mismatches
        ));
        for example in &result.examples {
            screen.line(&format!("  {example}"));
        }
    }
    screen.finish(&format!(
        "demo: {changes} source changes, {rows} target rows, {mismatches} mismatches, {:.1} s",
        took.as_secs_f64()
    ));
    if mismatches > 0 {
        return Err(Error::data("the target does not hold what the source says")
            .because(format!("{mismatches} rows are missing, too many or different")));
    }
    Ok(())
}
