//! The embedded demo: temporary databases, sample workload, hops of a change on the screen, checks.

pub mod check;
pub mod databases;
mod hops;
pub mod kafka;
mod plant;
pub mod postgres;
mod probe;
mod screen;
pub mod workload;

use std::time::{Duration, Instant};

use self::databases::{Databases, Made, Sessions};
use self::hops::Hops;
use self::plant::Plant;
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

/// Resolves when the user wants an end.
type Stop = tokio::task::JoinHandle<Result<()>>;

/// Runs the demo until it is done or stopped by Ctrl-C, and removes what it made.
///
/// # Errors
/// When something cannot be started, when a part fails, or with `check` when the target differs.
pub async fn run(options: Options) -> Result<()> {
    let mut screen = Screen::new(!options.check);
    // A task, so that a Ctrl-C counts from the first moment on.
    let mut stop = tokio::spawn(crate::cli::stop_signal());
    let databases = match &options.databases {
        Some((source, target)) => Databases::named(source, target)?,
        None => screen.step("PostgreSQL with two databases", Databases::temporary()).await?,
    };
    let sessions = databases.sessions().await?;
    if options.attach {
        return tokio::select! {
            result = show(&options, &mut screen, &sessions, None) => result,
            stopped = &mut stop => stopped.unwrap_or(Ok(())),
        };
    }
    let made = screen.step("sample data", Made::prepare(&sessions)).await?;
    let result = Box::pin(run_parts(&options, &databases, &sessions, &mut screen, &mut stop)).await;
    let removed = if databases.server.is_none() { made.remove(&sessions).await } else { Ok(()) };
    // A temporary server takes all with it; stopping it blocks for a moment.
    let _ = tokio::task::spawn_blocking(move || drop(databases)).await;
    result.and(removed)
}

/// Starts log, connector and pipeline, runs the show over them, and stops them.
async fn run_parts(
    options: &Options,
    databases: &Databases,
    sessions: &Sessions,
    screen: &mut Screen,
    stop: &mut Stop,
) -> Result<()> {
    let mut plant = Plant::start(options, databases, screen).await?;
    let epochs = plant.hops.take();
    let work = async {
        plant.settle(screen).await?;
        let hops = match epochs {
            Some(epochs) if !options.check => Some(Hops::watch(&plant.log, probe::watched(), epochs).await?),
            _ => None,
        };
        show(options, screen, sessions, hops.as_ref()).await
    };
    let result = tokio::select! {
        result = Box::pin(work) => result,
        error = plant.failure() => Err(error),
        stopped = stop => stopped.unwrap_or(Ok(())),
    };
    screen.line("stopping");
    let stopped = plant.stop().await;
    result.and(stopped)
}

async fn show(
    options: &Options,
    screen: &mut Screen,
    sessions: &Sessions,
    hops: Option<&Hops>,
) -> Result<()> {
    let mut workload = Workload::load(&sessions.source, options.seed).await?;
    if options.check {
        let begin = Instant::now();
        let changes = run_fixed(options, screen, sessions, &mut workload).await?;
        verify(screen, sessions, changes, begin).await
    } else {
        run_live(options, screen, sessions, &mut workload, hops).await
    }
}

/// The fixed workload, as fast as the source takes it.
async fn run_fixed(
    options: &Options,
    screen: &mut Screen,
    sessions: &Sessions,
    workload: &mut Workload,
) -> Result<u64> {
    let wanted = options.changes.unwrap_or(20_000);
    let (mut changes, mut transactions) = (0, 0_u64);
    let begin = Instant::now();
    while changes < wanted {
        let transaction = workload.next_transaction();
        changes += workload::run(&sessions.source, &transaction).await?;
        transactions += 1;
        screen.progress(changes, wanted);
    }
    screen.line(&format!(
        "{:>8.3} s  {changes} changes in {transactions} transactions on the source",
        begin.elapsed().as_secs_f64()
    ));
    Ok(changes)
}

/// The live show: a steady workload, and every second one change followed from hop to hop.
async fn run_live(
    options: &Options,
    screen: &mut Screen,
    sessions: &Sessions,
    workload: &mut Workload,
    hops: Option<&Hops>,
) -> Result<()> {
    let mut probe = Probe::new(sessions).await?;
    let mut changes = 0;
    let begin = Instant::now();
    let mut next_probe = begin;
    while options.changes.is_none_or(|wanted| changes < wanted) {
        let transaction = workload.next_transaction();
        changes += workload::run(&sessions.source, &transaction).await?;
        if Instant::now() >= next_probe {
            let trace = probe.follow(sessions, hops).await?;
            screen.trace(&trace);
            changes += 1;
            next_probe = Instant::now() + Duration::from_secs(1);
        }
        screen.summary(changes, begin.elapsed(), probe.latencies());
        tokio::time::sleep(LIVE_PAUSE).await;
    }
    probe.remove(sessions).await
}

async fn verify(screen: &mut Screen, sessions: &Sessions, changes: u64, begin: Instant) -> Result<()> {
    let Sessions { source, target } = sessions;
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
    screen.closing(format!(
        "demo: {changes} source changes, {rows} target rows, {mismatches} mismatches, {:.1} s",
        took.as_secs_f64()
    ));
    if mismatches > 0 {
        return Err(Error::data("the target does not hold what the source says")
            .because(format!("{mismatches} rows are missing, too many or different")));
    }
    Ok(())
}
