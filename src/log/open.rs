//! From a log's URL to a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Log;
use super::embedded::{EmbeddedLog, Purpose};
use super::kafka::KafkaLog;
use super::remote::RemoteLog;
use crate::config::AddressMap;
use crate::error::{Error, Kind, Result};

/// How a log is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Kafka client properties by their Java names, over those of the URL (`properties.*`, `producer.override.*`).
    pub properties: Vec<(String, String)>,
    /// Other addresses for brokers (`--connect-to`). They replace the addresses to begin with; what brokers then
    /// advertise must be reachable as it is.
    pub addresses: AddressMap,
    /// Data directories whose control sockets may lead to the process that holds an embedded log; the directory
    /// above the log's is asked in any case.
    pub data: Vec<PathBuf>,
    /// Opened by a tool that looks and lets go: a service that starts meanwhile waits for it, and a service that
    /// has just started is waited for until it answers.
    pub brief: bool,
}

/// How long a tool waits for the process that holds a log to answer: it may just be starting.
const STARTING: Duration = Duration::from_secs(3);

/// The log through the process that holds it.
async fn remote(dir: &Path, options: &OpenOptions) -> Option<RemoteLog> {
    let mut data = options.data.clone();
    let absolute = dir.canonicalize().ok()?;
    data.extend(absolute.parent().map(Path::to_owned));
    data.push(absolute);
    RemoteLog::find(dir, &data).await
}

/// Opens a log: `file:DIR` (embedded), `kafka://HOST:PORT[,HOST:PORT…]`, or `kafka:FILE` with Java client
/// properties.
///
/// An embedded log that another process holds is read through that process where it serves a control socket; it
/// cannot be written then.
///
/// # Errors
/// [`crate::Kind::Config`] for a URL of another form; whatever the store cannot be opened for.
pub async fn open(url: &str, options: &OpenOptions) -> Result<Arc<dyn Log>> {
    match url.split_once(':') {
        Some(("file", dir)) => {
            let dir = Path::new(dir.strip_prefix("//").unwrap_or(dir)).to_owned();
            let purpose = if options.brief { Purpose::Look } else { Purpose::Serve };
            let started = Instant::now();
            loop {
                let path = dir.clone();
                let opened = tokio::task::spawn_blocking(move || EmbeddedLog::open_to(&path, purpose)).await;
                match opened.map_err(|e| Error::internal("opening the log failed").with_source(e))? {
                    Ok(log) => return Ok(Arc::new(log)),
                    Err(error) if error.kind() == Kind::Fenced => {
                        if let Some(log) = remote(&dir, options).await {
                            return Ok(Arc::new(log));
                        }
                        if !options.brief || started.elapsed() >= STARTING {
                            return Err(error);
                        }
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Some(("kafka", rest)) => {
            Ok(Arc::new(KafkaLog::open(rest, &options.properties, &options.addresses).await?))
        }
        _ => Err(Error::config(format!("--log {url:?} is not a log"))
            .next("use file:DIR, kafka://HOST:PORT, or kafka:FILE with Kafka client properties")),
    }
}
