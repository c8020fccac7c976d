//! Validation of configurations, in the words and the order of Kafka Connect's worker.

use std::collections::BTreeMap;

use serde_json::Value;

use super::ApiError;
use super::model::{CONNECTOR_CLASS, Config};
use super::worker::{Worker, texts};
use crate::config::connector::validate::Checked;
use crate::config::connector::{self, ConnectorConfig, Problem, providers};

/// The property that a failed connection is told at, as Debezium does.
const CONNECTION: &str = "database.hostname";

impl Worker {
    /// Validates a configuration property by property, and tries the connection.
    ///
    /// # Errors
    /// 400 where the plugin of the path and the configuration do not fit together.
    pub async fn validate(&self, plugin: &str, config: Config) -> Result<Value, ApiError> {
        let class = class_of(&config)?;
        // Connect compares the last parts of the two names, or the whole ones.
        let simple = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
        let fits = class == plugin
            || simple(class) == simple(plugin)
            || simple(class).strip_suffix("Connector") == Some(&simple(plugin));
        if !fits {
            return Err(ApiError::new(
                400,
                format!("Included connector type {class} does not match request type {plugin}"),
            ));
        }
        known(class)?;
        let checked = self.look(&config).await;
        Ok(super::plugins::config_infos(class, &checked))
    }

    /// Everything wrong with a configuration as one 400, in Connect's words.
    pub(super) async fn check(&self, config: &Config) -> Result<(), ApiError> {
        known(class_of(config)?)?;
        let problems = connector::flatten(&self.look(config).await);
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

    /// Checks every property, then the connection where Debezium's own properties allow it.
    async fn look(&self, config: &Config) -> Vec<Checked> {
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
        let mut checked = connector::check(&values);
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
        if checked.iter().filter(|c| needed(c)).all(|c| c.errors.is_empty()) {
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
            Ok(Err(error)) => format!("Error while validating connector config: {error}"),
            Err(_) => format!("Connection validation timed out after {} ms", limit.as_millis()),
        };
        vec![Problem { property: CONNECTION.to_owned(), message }]
    }
}

fn class_of(config: &Config) -> Result<&str, ApiError> {
    if let Some(class) = config.get("connector.class").and_then(Value::as_str) {
        return Ok(class);
    }
    // Connect prints the whole map here, passwords and all; the names are enough.
    let message = match config.get("name").and_then(Value::as_str) {
        Some(name) if config.len() == 1 => {
            format!("Connector config {{name={name}}} contains no connector type")
        }
        _ => {
            let names: Vec<&str> = config.keys().map(String::as_str).collect();
            format!("Connector config {{{}}} contains no connector type", names.join(", "))
        }
    };
    Err(ApiError::new(400, message))
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
