//! From a log's URL to a store.

use std::path::Path;
use std::sync::Arc;

use super::Log;
use super::embedded::EmbeddedLog;
use super::kafka::KafkaLog;
use crate::config::AddressMap;
use crate::error::{Error, Result};

/// How a log is opened.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Kafka client properties by their Java names, over those of the URL (`properties.*`, `producer.override.*`).
    pub properties: Vec<(String, String)>,
    /// Other addresses for brokers (`--connect-to`). They replace the addresses to begin with; what brokers then
    /// advertise must be reachable as it is.
    pub addresses: AddressMap,
}

/// Opens a log: `file:DIR` (embedded), `kafka://HOST:PORT[,HOST:PORT…]`, or `kafka:FILE` with Java client
/// properties.
///
/// # Errors
/// [`crate::Kind::Config`] for a URL of another form; whatever the store cannot be opened for.
pub async fn open(url: &str, options: &OpenOptions) -> Result<Arc<dyn Log>> {
    match url.split_once(':') {
        Some(("file", dir)) => {
            let dir = Path::new(dir.strip_prefix("//").unwrap_or(dir)).to_owned();
            let opened = tokio::task::spawn_blocking(move || EmbeddedLog::open(dir)).await;
            let log = opened.map_err(|e| Error::internal("opening the log failed").with_source(e))??;
            Ok(Arc::new(log))
        }
        Some(("kafka", rest)) => {
            Ok(Arc::new(KafkaLog::open(rest, &options.properties, &options.addresses).await?))
        }
        _ => Err(Error::config(format!("--log {url:?} is not a log"))
            .next("use file:DIR, kafka://HOST:PORT, or kafka:FILE with Kafka client properties")),
    }
}
