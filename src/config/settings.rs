//! `millstream.toml` and the environment: the settings of `millstream run`.
//!
//! Every key may also come from the environment as `MILLSTREAM_SECTION__KEY` (two underscores between the
//! levels), which wins over the file; options of the command line win over both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

use super::Secret;
use crate::error::{Error, Result};

/// Settings of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Globs of connector files (Kafka Connect JSON), relative to the file that names them.
    pub connectors: Vec<String>,
    /// Globs of pipeline files (Flink SQL), relative to the file that names them.
    pub pipelines: Vec<String>,
    /// The log's URL, as `--log`.
    pub log: Option<String>,
    /// The data directory, as `--data`.
    pub data: Option<PathBuf>,
    /// Other addresses for names in connector and SQL files, as `--connect-to`.
    pub connect_to: Vec<String>,
    /// The worker's identity and storage topics, under Kafka Connect's names.
    pub worker: Worker,
    /// REST, health and metrics.
    pub server: Server,
    /// Transport security of database connections.
    pub security: Security,
}

/// The worker, as Kafka Connect's distributed worker is configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Worker {
    /// Kafka Connect's `group.id`.
    pub group_id: String,
    /// Kafka Connect's `config.storage.topic`.
    pub config_storage_topic: String,
    /// Kafka Connect's `offset.storage.topic`.
    pub offset_storage_topic: String,
    /// Kafka Connect's `status.storage.topic`.
    pub status_storage_topic: String,
    /// Kafka Connect's `exactly.once.source.support`, on by default. Without it events are visible sooner, and a failure
    /// may write some once more.
    pub exactly_once_source_support: bool,
}

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Where to listen. Anything but loopback needs a token and TLS, or `allow_insecure`.
    pub bind: SocketAddr,
    /// Says in so many words that an address other than loopback is served without TLS or without a token.
    pub allow_insecure: bool,
    /// What clients have to send as `Authorization: Bearer …`; `/health` answers without it.
    #[serde(skip_serializing)]
    pub token: Option<Secret>,
    /// The server's certificate and its chain, a PEM file; with it the server speaks TLS only.
    pub certificate: Option<PathBuf>,
    /// The certificate's private key, a PEM file.
    pub key: Option<PathBuf>,
}

/// Transport security.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// What an unnamed `sslmode` means.
    pub tls: TlsDefault,
}

/// What an `sslmode` means that a file does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsDefault {
    /// `prefer`, as Debezium and pgjdbc take it; a warning when the host is remote.
    #[default]
    Prefer,
    /// `verify-full`.
    Required,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connectors: vec!["connectors/*.json".to_owned()],
            pipelines: vec!["pipelines/*.sql".to_owned()],
            log: None,
            data: None,
            connect_to: Vec::new(),
            worker: Worker::default(),
            server: Server::default(),
            security: Security::default(),
        }
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self {
            group_id: "millstream".to_owned(),
            exactly_once_source_support: true,
            config_storage_topic: "millstream-configs".to_owned(),
            offset_storage_topic: "millstream-offsets".to_owned(),
            status_storage_topic: "millstream-status".to_owned(),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 8083)),
            allow_insecure: false,
            token: None,
            certificate: None,
            key: None,
        }
    }
}

impl Settings {
    /// Reads a file (none: the defaults) and the environment.
    ///
    /// # Errors
    /// When the file cannot be read, a key is unknown, or a value is of the wrong type: the text names the
    /// key and where it came from.
    pub fn load(file: Option<&Path>) -> Result<Self> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if !file.is_file() {
                return Err(Error::config(format!("there is no settings file {}", file.display()))
                    .next("name an existing file with -c, or leave -c out to use the defaults"));
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        // MILLSTREAM_LOG and MILLSTREAM_DATA are read by the command line, MILLSTREAM_TEST_… by the tests.
        figment =
            figment.merge(Env::prefixed("MILLSTREAM_").filter(|key| key.as_str().contains("__")).split("__"));
        let settings: Self = figment.extract().map_err(|e| {
            let origin = file.map_or_else(|| "the environment".to_owned(), |f| f.display().to_string());
            Error::config(format!("the settings in {origin} are not valid")).because(e)
        })?;
        settings.check()?;
        Ok(settings)
    }

    /// Of the file given, else of `millstream.toml` where there is one here, else the defaults.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of(file: Option<&Path>) -> Result<Self> {
        let here = Path::new("millstream.toml");
        Self::load(file.or_else(|| here.is_file().then_some(here)))
    }

    fn check(&self) -> Result<()> {
        let server = &self.server;
        if server.certificate.is_some() != server.key.is_some() {
            return Err(Error::config("server.certificate and server.key belong together")
                .because("only one of them is set")
                .next("name both PEM files, or neither"));
        }
        if server.token.as_ref().is_some_and(Secret::is_empty) {
            return Err(
                Error::config("server.token is empty").next("set a long random text, or leave it out")
            );
        }
        let missing = match (&server.token, &server.certificate) {
            (Some(_), Some(_)) => return Ok(()),
            (None, None) => "has no TLS and no token",
            (None, Some(_)) => "has no token",
            (Some(_), None) => "has no TLS",
        };
        if !server.bind.ip().is_loopback() && !server.allow_insecure {
            return Err(Error::config(format!(
                "server.bind is {}, which other machines can reach",
                server.bind
            ))
            .because(format!("the server {missing}, and its API can change connectors"))
            .next(
                "set server.token, server.certificate and server.key; or bind to 127.0.0.1; or set \
                 server.allow_insecure = true where the network keeps others out",
            ));
        }
        Ok(())
    }

    /// The files that a list of globs names, sorted, relative globs taken from `base`.
    ///
    /// # Errors
    /// When a pattern is not a glob, or a pattern without wildcards names no file.
    pub fn files(base: &Path, globs: &[String]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for pattern in globs {
            let full = base.join(pattern);
            let full = full.to_string_lossy();
            let paths = glob::glob(&full)
                .map_err(|e| Error::config(format!("{pattern} is not a file pattern")).with_source(e))?;
            let before = files.len();
            files.extend(paths.flatten().filter(|p| p.is_file()));
            if files.len() == before && !pattern.contains(['*', '?', '[']) {
                return Err(Error::config(format!("there is no file {full}")));
            }
        }
        files.sort();
        files.dedup();
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("millstream.toml");
        std::fs::write(&file, text).unwrap();
        Settings::load(Some(&file))
    }

    #[test]
    fn a_file_overrides_defaults() {
        let settings =
            parse("connectors = ['a/*.json']\n[worker]\ngroup_id = 'g'\n[security]\ntls = 'required'")
                .unwrap();
        assert_eq!(settings.connectors, ["a/*.json"]);
        assert_eq!(settings.worker.group_id, "g");
        assert_eq!(settings.security.tls, TlsDefault::Required);
        assert_eq!(settings.worker.offset_storage_topic, "millstream-offsets");
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = parse("conectors = []").unwrap_err();
        assert!(error.to_string().contains("conectors"), "{error}");
    }

    #[test]
    fn a_wide_bind_needs_consent() {
        assert!(parse("[server]\nbind = '0.0.0.0:8083'").is_err());
        assert!(parse("[server]\nbind = '0.0.0.0:8083'\nallow_insecure = true").is_ok());
        let wide = "[server]\nbind = '0.0.0.0:8083'\ntoken = 'x'";
        assert!(parse(wide).unwrap_err().screen().contains("has no TLS,"));
        assert!(parse(&format!("{wide}\ncertificate = 'c.pem'\nkey = 'k.pem'")).is_ok());
        assert!(parse(&format!("{wide}\ncertificate = 'c.pem'")).is_err());
        assert!(parse("[server]\ntoken = ''").is_err());
    }

    #[test]
    fn a_token_is_not_printed() {
        let settings = parse("[server]\ntoken = 'canary'").unwrap();
        assert!(!format!("{settings:?}").contains("canary"));
        assert!(!serde_json::to_string(&settings).unwrap().contains("canary"));
    }
}
