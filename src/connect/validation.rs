//! Validation of configurations, in the words and the order of Kafka Connect's worker.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ApiError;
use super::model::{self, CONNECTOR_CLASS, Config};
use super::worker::{Worker, texts};
use crate::config::connector::validate::Checked;
use crate::config::connector::{self, ConnectorConfig, Problem, providers};
use crate::error::Error;
use crate::pg::ServerError;

/// The property that a failed connection is told at, as Debezium does.
const CONNECTION: &str = "database.hostname";

impl Worker {
    /// Validates a configuration property by property, and tries the connection.
    ///
    /// # Errors
    /// 400 where the plugin of the path and the configuration do not fit together.
    pub async fn validate(&self, plugin: &str, config: Config) -> Result<Value, ApiError> {
        let class = class_of(&config)?;
        // Connect compares ends of names, and takes them without `Connector` too.
        let short =
            |name: &str| name.strip_suffix("Connector").filter(|n| !n.is_empty()).unwrap_or(name).to_owned();
        if !short(class).ends_with(&short(plugin)) {
            return Err(ApiError::new(
                400,
                format!("Included connector type {class} does not match request type {plugin}"),
            ));
        }
        known(class)?;
        let checked = self.look(&config, true).await;
        Ok(super::plugins::config_infos(class, &checked))
    }

    /// Everything wrong with a configuration as one 400, in Connect's words.
    pub(super) async fn check(&self, config: &Config) -> Result<(), ApiError> {
        self.check_with(config, true).await
    }

    /// The same without asking the source, which may be away.
    pub(super) async fn check_alone(&self, config: &Config) -> Result<(), ApiError> {
        self.check_with(config, false).await
    }

    async fn check_with(&self, config: &Config, ask: bool) -> Result<(), ApiError> {
        known(class_of(config)?)?;
        let problems = connector::flatten(&self.look(config, ask).await);
        if problems.is_empty() {
            return Ok(());
        }
        let mut message = format!(
            "Connector configuration is invalid and contains the following {} error(s):",
            problems.len()
        );
        for problem in &problems {
            message.push('\n');
            message.push_str(&problem.message);
        }
        message.push_str(
            "\nYou can also find the above list of errors at the endpoint \
             `/connector-plugins/{connectorType}/config/validate`",
        );
        Err(ApiError::new(400, message))
    }

    /// Checks every property, then, to be asked, the connection where Debezium's own properties allow it.
    async fn look(&self, config: &Config, ask: bool) -> Vec<Checked> {
        let mut values = BTreeMap::new();
        let mut missing = Vec::new();
        for (name, text) in texts(config) {
            match providers::resolve(&name, &text) {
                Ok(value) => drop(values.insert(name, value)),
                // Looked at as it stands, and said.
                Err(error) => {
                    missing.push((name.clone(), error.to_string()));
                    values.insert(name, text);
                }
            }
        }
        let nulls: Vec<&str> =
            config.iter().filter(|(_, value)| value.is_null()).map(|(name, _)| name.as_str()).collect();
        let mut checked = connector::check(&values, &nulls);
        let wants =
            values.get("exactly.once.support").is_some_and(|v| v.trim().eq_ignore_ascii_case("required"));
        if wants && !self.env.topics.exactly_once_source_support {
            let without = "This worker does not have exactly-once source support enabled.";
            missing.push(("exactly.once.support".to_owned(), without.to_owned()));
        }
        for (name, message) in missing {
            if let Some(one) = checked.iter_mut().find(|c| c.name == name) {
                one.errors.push(message);
            }
        }
        let needed = |one: &Checked| {
            one.definition.as_ref().is_none_or(|d| {
                !d.group.as_deref().is_some_and(|g| connector::properties::CONNECT_GROUPS.contains(&g))
            })
        };
        if ask && checked.iter().filter(|c| needed(c)).all(|c| c.errors.is_empty()) {
            for problem in self.ask_database(&values).await {
                if let Some(one) = checked.iter_mut().find(|c| c.name == problem.property) {
                    one.errors.push(problem.message);
                }
            }
        }
        checked
    }

    /// Connects, and holds the configuration against what is there.
    async fn ask_database(&self, values: &BTreeMap<String, String>) -> Vec<Problem> {
        let name = values.get("name").map_or("validate", String::as_str);
        let config = ConnectorConfig::unchecked(name, values.clone());
        let limit = u64::try_from(config.number("connection.validation.timeout.ms")).unwrap_or(60_000);
        let limit = std::time::Duration::from_millis(limit);
        let asked = async {
            let client = self.connect(&config).await?;
            crate::capture::precheck::problems(&client, &config).await
        };
        let message = match tokio::time::timeout(limit, Box::pin(asked)).await {
            Ok(Ok(problems)) => return problems,
            Ok(Err(error)) => {
                tracing::warn!(connector = name, %error, "the source of a configuration cannot be asked");
                format!(
                    "Error while validating connector config: {}",
                    in_words_of_the_driver(&error, &config)
                )
            }
            Err(_) => format!("Connection validation timed out after {} ms", limit.as_millis()),
        };
        vec![Problem { property: CONNECTION.to_owned(), message }]
    }
}

/// What Debezium's database driver says of such a failure, where it says something of use.
fn in_words_of_the_driver(error: &Error, config: &ConnectorConfig) -> String {
    let (host, port) = (config.text("database.hostname"), config.text("database.port"));
    if !config.number("database.port").is_positive() || config.number("database.port") > 65_535 {
        return format!(
            "Unable to parse URL jdbc:postgresql://{host}:{port}/{}",
            config.text("database.dbname")
        );
    }
    if error.what().ends_with(" has no TLS") {
        return "The server does not support SSL.".to_owned();
    }
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if let Some(said) = inner.downcast_ref::<ServerError>() {
            // What ends a login is fatal, what ends a statement is not.
            let login = ["28", "3D", "53", "57"].iter().any(|class| said.code.starts_with(class));
            return format!("{}: {}", if login { "FATAL" } else { "ERROR" }, said.message);
        }
        if let Some(io) = inner.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return format!(
                "Connection to {host}:{port} refused. Check that the hostname and port are correct and that the \
                 postmaster is accepting TCP/IP connections."
            );
        }
        cause = inner.source();
    }
    error.to_string()
}

fn class_of(config: &Config) -> Result<&str, ApiError> {
    if let Some(class) = config.get("connector.class").and_then(Value::as_str) {
        return Ok(class);
    }
    // Connect prints the whole map here, passwords and all.
    let shown = model::masked(config);
    let pairs: Vec<String> =
        shown.iter().map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or("null"))).collect();
    Err(ApiError::new(400, format!("Connector config {{{}}} contains no connector type", pairs.join(", "))))
}

fn known(class: &str) -> Result<(), ApiError> {
    if super::is_connector_class(class) {
        return Ok(());
    }
    Err(ApiError::new(
        400,
        format!(
            "Failed to find any class that implements Connector and which name matches {class}, available connectors \
             are: {CONNECTOR_CLASS}"
        ),
    ))
}
