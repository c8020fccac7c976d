//! The command line: one file a command.
//!
//! Exit codes: 0 done, 1 failed, 2 usage. SIGTERM is Ctrl-C: a clean stop.

/// A line on standard output. Where its reader has gone (`| head`) there is nothing left to say.
macro_rules! say {
    ($($text:tt)*) => {
        drop(std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($text)*))))
    };
}

pub mod capture;
pub mod connectors;
pub mod demo;
pub mod doctor;
pub mod grants;
pub mod offsets;
pub mod pipelines;
pub mod replay;
pub mod run;
pub mod sql;
pub mod topics;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use tracing_subscriber::EnvFilter;

use crate::config::AddressMap;
use crate::error::{Error, Result};
use crate::log::{Log, OpenOptions};

/// Change data capture in one process: PostgreSQL changes become Debezium events in a log (Kafka or
/// embedded), streaming SQL (Flink's dialect) runs over them, and the results are upserted into a target
/// database.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Start with `millstream demo`: it needs nothing but PostgreSQL's programs on this machine."
)]
struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// The data directory where none is named.
const DATA: &str = "millstream-data";

/// Options that every command takes.
#[derive(Clone, Debug, Args)]
pub struct GlobalArgs {
    /// Where topics live: kafka://host:9092 (several brokers by comma), kafka:FILE with the properties of a
    /// Kafka client, or file:DIR for the embedded log. Overrides the bootstrap servers in connector and SQL
    /// files. [default: file:DATA/log]
    #[arg(long, global = true, value_name = "URL", env = "MILLSTREAM_LOG", help_heading = "Global options")]
    pub log: Option<String>,

    /// The data directory: state of pipelines, and the embedded log.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MILLSTREAM_DATA",
        default_value = DATA,
        help_heading = "Global options"
    )]
    pub data: PathBuf,

    /// Use another address for a database, broker or registry named in connector and SQL files, as curl's
    /// option of this name does (repeatable; of several for one database the primary is looked for).
    #[arg(long, global = true, value_name = "HOST:PORT=HOST:PORT", help_heading = "Global options")]
    pub connect_to: Vec<String>,

    /// Print JSON for machines.
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,

    /// Log more (-v: what is done, -vv: in detail). RUST_LOG is honoured too.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

impl GlobalArgs {
    /// With what the service's `millstream.toml` here says of log, data directory and addresses, where the command line
    /// says nothing: for commands that look after what the service runs.
    ///
    /// # Errors
    /// Where the file is not valid.
    pub fn of_service(self) -> Result<Self> {
        Ok(self.with(crate::config::settings::Settings::of(None)?))
    }

    /// With what settings say, where the command line says nothing; addresses of both.
    fn with(self, settings: crate::config::settings::Settings) -> Self {
        let data = settings.data.filter(|_| self.data == Path::new(DATA)).unwrap_or(self.data);
        let connect_to = [self.connect_to, settings.connect_to].concat();
        Self { log: self.log.or(settings.log), data, connect_to, ..self }
    }

    /// The log's URL: as given, else the embedded log in the data directory.
    pub fn log_url(&self) -> String {
        self.log.clone().unwrap_or_else(|| format!("file:{}", self.data.join("log").display()))
    }

    /// The replacements of `--connect-to`.
    ///
    /// # Errors
    /// When one is not `HOST:PORT=HOST:PORT`.
    pub fn addresses(&self) -> Result<AddressMap> {
        let mappings = self.connect_to.iter().map(|text| text.parse()).collect::<Result<Vec<_>>>()?;
        Ok(AddressMap::new(mappings))
    }

    /// Opens the log of [`Self::log_url`] to work with it.
    ///
    /// # Errors
    /// When it cannot be opened: see [`crate::log::open`].
    pub async fn open_log(&self) -> Result<Arc<dyn Log>> {
        self.log(false).await
    }

    /// Opens the log of [`Self::log_url`] for a moment, to look at it.
    ///
    /// # Errors
    /// When it cannot be opened: see [`crate::log::open`].
    pub async fn look_at_log(&self) -> Result<Arc<dyn Log>> {
        self.log(true).await
    }

    async fn log(&self, brief: bool) -> Result<Arc<dyn Log>> {
        let options = OpenOptions {
            addresses: self.addresses()?,
            data: vec![self.data.clone()],
            brief,
            ..OpenOptions::default()
        };
        crate::log::open(&self.log_url(), &options).await
    }
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one, made once")]
enum Command {
    /// Show the whole product on this machine: temporary databases, one connector, one pipeline
    Demo(demo::Args),
    /// Run the service: all connectors and pipelines of a folder
    Run(run::Args),
    /// Run one connector in the foreground: PostgreSQL changes into topics
    Capture(capture::Args),
    /// Run a file of Flink SQL, or one statement
    Sql(sql::Args),
    /// List, describe and read topics
    Topics(topics::Args),
    /// List and control the connectors of a running service
    Connectors(connectors::Args),
    /// List and control pipelines
    Pipelines(pipelines::Args),
    /// Show and reset the offsets of connectors and pipelines
    Offsets(offsets::Args),
    /// Mend a live target from past events
    Replay(replay::Args),
    /// Look at source, log and target before a start, and say what mends each finding
    Doctor(doctor::Args),
    /// Print the least SQL that the capture and target roles need
    Grants(grants::Args),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Parses the command line, runs the command and returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let code = error.exit_code();
            // A closed pipe while printing help is not worth a word.
            let _ = error.print();
            return ExitCode::from(u8::try_from(code).unwrap_or(2));
        }
    };
    start_tracing(cli.global.verbose, matches!(cli.command, Command::Run(_)));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Error::internal("cannot start the runtime").with_source(error)),
    };
    let result = runtime.block_on(dispatch(cli));
    // Blocking helpers (a librdkafka poll, a psql child) must not hold up the end of the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn dispatch(cli: Cli) -> Result<()> {
    let global = cli.global;
    match cli.command {
        Command::Demo(args) => Box::pin(demo::run(args, &global)).await,
        Command::Run(args) => Box::pin(run::run(args, &global)).await,
        Command::Capture(args) => Box::pin(capture::run(args, &global)).await,
        Command::Sql(args) => Box::pin(sql::run(args, &global)).await,
        Command::Topics(args) => Box::pin(topics::run(args, &global.of_service()?)).await,
        Command::Connectors(args) => Box::pin(connectors::run(args, &global.of_service()?)).await,
        Command::Pipelines(args) => Box::pin(pipelines::run(args, &global.of_service()?)).await,
        Command::Offsets(args) => Box::pin(offsets::run(args, &global.of_service()?)).await,
        Command::Replay(args) => Box::pin(replay::run(args, &global.of_service()?)).await,
        Command::Doctor(args) => Box::pin(doctor::run(args, &global)).await,
        Command::Grants(args) => Box::pin(grants::run(args, &global)).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "millstream", &mut std::io::stdout());
            Ok(())
        }
    }
}

fn fail(error: &Error) -> ExitCode {
    let mut stderr = std::io::stderr().lock();
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(stderr, "{}", error.screen());
    ExitCode::from(1)
}

type FilterHandle = tracing_subscriber::reload::Handle<EnvFilter, tracing_subscriber::Registry>;

/// The filter of the log output, once it is set up; its level can change while the program runs.
static FILTER: OnceLock<FilterHandle> = OnceLock::new();

/// A service says what it does without being asked; other commands only warn.
fn start_tracing(verbose: u8, service: bool) {
    use tracing_subscriber::layer::SubscriberExt;
    use tracing_subscriber::util::SubscriberInitExt;
    let default = match verbose {
        0 if !service => "warn",
        0 | 1 => "millstream=info,warn",
        _ => "millstream=debug,info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
    let output = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // A second start within one process (tests) keeps the first subscriber.
    if tracing_subscriber::registry().with(filter).with(output).try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
}

/// Puts another filter in force (`directive,directive,…` as in `RUST_LOG`).
fn change_tracing(directives: &str) {
    if let Some(handle) = FILTER.get()
        && let Err(error) = handle.reload(EnvFilter::new(directives))
    {
        tracing::warn!(%error, "the log level cannot be changed");
    }
}

/// Resolves at the first Ctrl-C or SIGTERM.
///
/// # Errors
/// When the signal handlers cannot be set.
pub async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let set = |kind| signal(kind).map_err(|e| Error::internal("cannot set a signal handler").with_source(e));
    let mut interrupt = set(SignalKind::interrupt())?;
    let mut terminate = set(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
