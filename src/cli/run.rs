//! `millstream run`: the service.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;

use super::{GlobalArgs, change_tracing, stop_signal};
use crate::config::connector;
use crate::config::settings::Settings;
use crate::connect::loggers::{Level, Loggers};
use crate::connect::model::Config;
use crate::connect::{ApiError, Env, Worker};
use crate::error::{Error, Result};
use crate::runtime::Environment;
use crate::runtime::host::Host;
use crate::runtime::job::{self, Job};
use crate::server::{self, rest};

/// At a stop, how long open requests may take to end.
const OPEN_REQUESTS: Duration = Duration::from_secs(1);

/// Arguments of `millstream run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a settings file every connectors/*.json and pipelines/*.sql of the current directory runs, and the REST \
API listens on 127.0.0.1:8083.

Every setting can come from the environment: MILLSTREAM_SERVER__BIND=127.0.0.1:9000 sets `bind` of [server].")]
pub struct Args {
    /// Settings file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs connectors and pipelines until it is stopped.
///
/// # Errors
/// When a connector cannot be started, two pipelines have one name, or the HTTP server fails. A pipeline that cannot be
/// started, and a connector or pipeline that fails later, shows it in its state.
pub async fn run(args: Args, global: &GlobalArgs) -> Result<()> {
    let settings = Settings::of(args.config.as_deref())?;
    let base = args.config.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    let connectors = Settings::files(&base, &settings.connectors)?;
    let mut jobs: Vec<JobFile> = Vec::new();
    for path in Settings::files(&base, &settings.pipelines)? {
        let job = Job::from_file(&path);
        let name = job.as_ref().map_or_else(|_| job::name_of(&path), |job| job.name.clone());
        if let Some(other) = jobs.iter().find(|other| other.name == name) {
            return Err(Error::config(format!("two pipelines have the name {name}"))
                .because(format!("{} and {}", other.path.display(), path.display()))
                .next("give one of them another SET 'pipeline.name', or name the files in 'pipelines' one by one"));
        }
        jobs.push(JobFile { name, path, job });
    }
    let http = server::Http::bind(&settings.server).await?;
    let service = Box::pin(Service::start(&settings, global)).await?;
    tracing::info!(data = %service.data.display(), "millstream {}; API on {}", env!("CARGO_PKG_VERSION"), http.url());

    let (stop, stopped) = watch::channel(false);
    let api = rest::Api {
        worker: Arc::clone(&service.worker),
        loggers: Arc::new(Loggers::new("INFO", Box::new(apply_levels))),
    };
    let control = server::control::router().merge(rest::routes(api.clone()));
    // Another process may serve the data directory already; commands then go there.
    let control = server::control::serve(&service.data, control).await?;
    let http = tokio::spawn(http.serve(rest::routes(api).merge(server::pipelines::router()), ended(stopped)));

    let result = tokio::select! {
        result = Box::pin(service.run(&connectors, jobs)) => result,
        result = stop_signal() => result,
    };
    // A second owner may come once this one is gone: the API goes first, then what moves data.
    let _ = stop.send(true);
    let mut http = http;
    let served = match tokio::time::timeout(OPEN_REQUESTS, &mut http).await {
        Ok(served) => served.map_err(|e| Error::internal("the HTTP server failed").with_source(e))?,
        // A client that says nothing more must not keep what moves data from its clean stop.
        Err(_) => {
            http.abort();
            Ok(())
        }
    };
    service.stop().await;
    if let Some(control) = control {
        control.close().await;
    }
    result.and(served)
}

async fn ended(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone means the same as one that says so.
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// A pipeline's file, and what it compiled to.
struct JobFile {
    name: String,
    path: PathBuf,
    job: Result<Job>,
}

/// What runs.
struct Service {
    data: PathBuf,
    worker: Arc<Worker>,
    pipelines: Arc<Host>,
}

impl Service {
    async fn start(settings: &Settings, global: &GlobalArgs) -> Result<Self> {
        let global = global.clone().with(settings.clone());
        let log = global.open_log().await?;
        let addresses = global.addresses()?;
        let worker = Worker::start(Env {
            log: Arc::clone(&log),
            topics: settings.worker.clone(),
            addresses: addresses.clone(),
            tls: settings.security.tls,
            spill: global.data.join("spill"),
            worker_id: settings.server.bind.to_string(),
        })
        .await?;
        let pipelines = Host::new(Environment {
            addresses,
            wait_for_topics: true,
            patient: true,
            ..Environment::new(log, &global.data)
        });
        Ok(Self { data: global.data, worker, pipelines })
    }

    /// Brings up connectors and pipelines of the files; ends only with an error.
    async fn run(&self, connectors: &[PathBuf], jobs: Vec<JobFile>) -> Result<()> {
        let mut applied = Applied::read(&self.data);
        for path in connectors {
            let (name, config) = read_connector(path)?;
            let print = Applied::print(&config);
            if applied.is(&name, &print) && self.worker.keeps(&name, &config, path).await {
                continue;
            }
            let created = Box::pin(self.worker.declare(&name, config)).await.map_err(|e| refused(path, e))?;
            applied.note(&name, print)?;
            tracing::info!(connector = name, created, "connector from {}", path.display());
        }
        for JobFile { name, path, job } in jobs {
            match job {
                Ok(job) => Box::pin(self.pipelines.launch(&job)).await,
                Err(error) => self.pipelines.reject(&name, &path, error),
            }
        }
        std::future::pending().await
    }

    async fn stop(&self) {
        // Both wait for a log that is away: together they still end before an orchestrator kills the process.
        tokio::join!(self.pipelines.stop(), self.worker.shut_down());
    }
}

/// The connector files that were applied, by a fingerprint: one that has not changed since does not take back what the
/// REST API has changed meanwhile.
struct Applied {
    path: PathBuf,
    prints: std::collections::BTreeMap<String, String>,
}

impl Applied {
    fn read(data: &Path) -> Self {
        let path = data.join("connector-files.json");
        let text = std::fs::read(&path).unwrap_or_default();
        Self { prints: serde_json::from_slice(&text).unwrap_or_default(), path }
    }

    fn print(config: &Config) -> String {
        let sorted: std::collections::BTreeMap<_, _> = config.iter().collect();
        let text = serde_json::to_vec(&sorted).unwrap_or_default();
        openssl::sha::sha256(&text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn is(&self, name: &str, print: &str) -> bool {
        self.prints.get(name).is_some_and(|known| known == print)
    }

    fn note(&mut self, name: &str, print: String) -> Result<()> {
        self.prints.insert(name.to_owned(), print);
        let write = || {
            std::fs::create_dir_all(self.path.parent().unwrap_or(Path::new(".")))?;
            let text = serde_json::to_vec_pretty(&self.prints).map_err(std::io::Error::other)?;
            let new = self.path.with_extension("new");
            std::fs::write(&new, text)?;
            std::fs::rename(&new, &self.path)
        };
        write().map_err(|e| Error::config(format!("cannot write {}", self.path.display())).with_source(e))
    }
}

fn read_connector(path: &Path) -> Result<(String, Config)> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::config(format!("cannot read {}", path.display())).with_source(e))?;
    let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned());
    let (name, values) = connector::parse_json(&text, stem.as_deref()).map_err(|e| {
        Error::config(format!("{} is not a connector configuration", path.display())).with_source(e)
    })?;
    Ok((name, values.into_iter().map(|(key, value)| (key, Value::from(value))).collect()))
}

fn refused(path: &Path, error: ApiError) -> Error {
    Error::config(format!("the connector of {} cannot be started", path.display())).because(error.message)
}

/// Logger names are Connect's and Debezium's; the nearest parts of this program answer to them.
fn apply_levels(levels: &std::collections::BTreeMap<String, Level>) {
    let directive = |(name, level): (&String, &Level)| {
        let level = match level.level.as_str() {
            "OFF" => "off",
            "FATAL" | "ERROR" => "error",
            "WARN" => "warn",
            "DEBUG" => "debug",
            "TRACE" | "ALL" => "trace",
            _ => "info",
        };
        match name.as_str() {
            "root" => level.to_owned(),
            "io.debezium" => format!("millstream::capture={level},millstream::pg={level}"),
            "org.apache.kafka.connect" => format!("millstream::connect={level}"),
            "org.apache.kafka" => format!("millstream::log={level}"),
            other => format!("{}={level}", other.replace('.', "::")),
        }
    };
    let all: Vec<String> = levels.iter().map(directive).collect();
    change_tracing(&all.join(","));
}
