//! The running parts of the demo: the log, one connector, one pipeline.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::databases::{Databases, SOURCE_SCHEMA};
use super::kafka::TemporaryKafka;
use super::screen::Screen;
use super::{Options, PATIENCE};
use crate::capture::{Connector, ConnectorHandle, Env};
use crate::config::address::Mapping;
use crate::config::{AddressMap, ConnectorConfig};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::runtime::job::Job;
use crate::runtime::{Environment, Hop, Pipeline, PipelineHandle};

const CONNECTOR: &str = include_str!("../../connectors/register-classicmodels.json");
const PIPELINE: &str = include_str!("../../pipelines/star_schema.sql");

/// Topic of the demo's connector positions, away from a service's own.
const OFFSETS_TOPIC: &str = "millstream-demo-offsets";

/// Log, connector and pipeline, running.
pub(super) struct Plant {
    pub(super) log: Arc<dyn Log>,
    pub(super) connector: ConnectorHandle,
    pub(super) pipeline: PipelineHandle,
    /// Hops of the pipeline's epochs; taken by the live show.
    pub(super) hops: Option<mpsc::Receiver<Hop>>,
    /// Whether the log is the user's, so that our topics have to be taken away again.
    foreign_log: bool,
    // Dropped last: the directory of log and state, and the broker.
    _data: tempfile::TempDir,
    _broker: Option<TemporaryKafka>,
}

impl Plant {
    /// Starts all.
    ///
    /// # Errors
    /// When a part does not start.
    pub(super) async fn start(options: &Options, databases: &Databases, screen: &Screen) -> Result<Self> {
        let data = tempfile::Builder::new()
            .prefix("millstream-demo-")
            .tempdir()
            .map_err(|e| Error::config("cannot make a temporary directory").with_source(e))?;
        let broker = match options.kafka {
            true => Some(screen.step("Kafka: a temporary broker", start_kafka()).await?),
            false => None,
        };
        let url = match (&options.log, &broker) {
            (_, Some(broker)) => broker.url(),
            (Some(url), None) => url.clone(),
            (None, None) => format!("file:{}", data.path().join("log").display()),
        };
        let log = crate::log::open(&url, &crate::log::OpenOptions::default()).await?;
        let foreign_log = options.log.is_some();
        if foreign_log {
            refuse_used_log(&log).await?;
        }
        let addresses = addresses(databases);
        let connector = start_connector(&log, databases, &addresses)?;
        let (watcher, hops) = mpsc::channel(1024);
        let pipeline = match start_pipeline(&log, data.path(), databases, &addresses, watcher).await {
            Ok(pipeline) => pipeline,
            Err(error) => {
                // Before the directory goes away under it.
                connector.stop().await;
                return Err(error);
            }
        };
        Ok(Self { log, connector, pipeline, hops: Some(hops), foreign_log, _data: data, _broker: broker })
    }

    /// Waits until the connector streams and the target has what the snapshot found.
    ///
    /// # Errors
    /// When a part fails.
    pub(super) async fn settle(&self, screen: &Screen) -> Result<()> {
        screen.step("connector: snapshot into topics, then streaming", self.streaming()).await?;
        screen.step("pipeline: snapshot into the target", self.caught_up()).await
    }

    async fn streaming(&self) -> Result<()> {
        tokio::select! {
            result = self.connector.streaming() => result,
            error = self.failure() => Err(error),
        }
    }

    /// Waits until the target has what is in the log.
    pub(super) async fn caught_up(&self) -> Result<()> {
        tokio::select! {
            result = self.pipeline.caught_up(self.log.as_ref()) => result,
            error = self.failure() => Err(error),
            () = tokio::time::sleep(PATIENCE) => {
                let status = self.pipeline.status();
                Err(Error::data(format!("the pipeline did not get through within {} s", PATIENCE.as_secs()))
                    .because(format!("it is {} {}", status.phase.name(), status.causes.join("; "))))
            }
        }
    }

    /// Resolves when connector or pipeline end by themselves; the demo cannot go on then.
    pub(super) async fn failure(&self) -> Error {
        let ended = |what: &str, result: Result<()>| match result {
            Ok(()) => Error::internal(format!("the {what} ended by itself")),
            Err(error) => error,
        };
        tokio::select! {
            result = self.connector.ended_by_itself() => ended("connector", result),
            result = self.pipeline.wait() => ended("pipeline", result.map(drop)),
        }
    }

    /// Stops all parts and takes away what is left in a log of the user.
    ///
    /// # Errors
    /// When a part did not stop cleanly.
    pub(super) async fn stop(self) -> Result<()> {
        self.connector.stop().await;
        self.pipeline.stop().await?;
        if self.foreign_log {
            for topic in our_topics(&self.log).await? {
                self.log.delete_topic(&topic).await?;
            }
        }
        Ok(())
    }
}

async fn start_kafka() -> Result<TemporaryKafka> {
    let started = tokio::task::spawn_blocking(TemporaryKafka::start).await;
    started.map_err(|e| Error::internal("starting Kafka failed").with_source(e))?
}

/// The files name the services of docker-compose.yml; here they are elsewhere.
fn addresses(databases: &Databases) -> AddressMap {
    let mut map = AddressMap::default();
    for (host, config) in [("source-db", &databases.source), ("target-db", &databases.target)] {
        map.push(Mapping {
            host: host.to_owned(),
            port: Some(5432),
            to_host: config.host.clone(),
            to_port: Some(config.port),
        });
    }
    map
}

fn start_connector(
    log: &Arc<dyn Log>,
    databases: &Databases,
    addresses: &AddressMap,
) -> Result<ConnectorHandle> {
    let (name, mut properties) = crate::config::connector::parse_json(CONNECTOR, None)?;
    // The user's database may have another name than the sample's.
    properties.insert("database.dbname".to_owned(), databases.source.dbname.clone());
    let config = ConnectorConfig::from_map(&name, properties)?;
    let mut env = Env::new(Arc::clone(log), &name);
    OFFSETS_TOPIC.clone_into(&mut env.offsets_topic);
    env.addresses = addresses.clone();
    Connector::start(config, env)
}

async fn start_pipeline(
    log: &Arc<dyn Log>,
    data: &std::path::Path,
    databases: &Databases,
    addresses: &AddressMap,
    watcher: mpsc::Sender<Hop>,
) -> Result<PipelineHandle> {
    let text = PIPELINE
        .replace("target-db:5432/warehouse'", &format!("target-db:5432/{}'", databases.target.dbname));
    let job = Job::from_text(&text, "star_schema", "pipelines/star_schema.sql")?;
    let mut environment = Environment::new(Arc::clone(log), data);
    environment.addresses = addresses.clone();
    environment.wait_for_topics = true;
    environment.watcher = Some(watcher);
    Pipeline::start(&job.script.plan, &job.name, environment).await
}

async fn our_topics(log: &Arc<dyn Log>) -> Result<Vec<String>> {
    let prefix = format!("dbserver1.{SOURCE_SCHEMA}.");
    Ok(log.topics().await?.into_iter().filter(|t| t.starts_with(&prefix) || t == OFFSETS_TOPIC).collect())
}

async fn refuse_used_log(log: &Arc<dyn Log>) -> Result<()> {
    let topics = our_topics(log).await?;
    if topics.is_empty() {
        return Ok(());
    }
    Err(Error::config(format!("the log {} holds topics of the demo already", log.describe()))
        .because(topics.join(", "))
        .next("name another log, or delete these topics if nobody needs them"))
}
