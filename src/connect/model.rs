//! The shapes of Kafka Connect's REST API and internal topics.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::capture::SnapshotStatus;

/// A connector's configuration: property names and text values; a null stands for "not set".
pub type Config = Map<String, Value>;

pub use crate::config::connector::CONNECTOR_CLASS;
use crate::config::connector::is_secret;

/// What stands in place of a secret in answers. Sent back in a PUT or PATCH it means "the one you hold".
pub const MASKED: &str = "********";

/// The configuration as it may be shown: secrets are replaced by [`MASKED`], references to a config provider
/// (`${…}`) stay, since they hold no secret.
pub fn masked(config: &Config) -> Config {
    config.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect()
}

fn shown(name: &str, value: &Value) -> Value {
    match value {
        Value::String(text) if is_secret(name) && !is_reference(text) => Value::from(MASKED),
        Value::String(text) => Value::from(without_password(text)),
        other => other.clone(),
    }
}

/// Whether all of a value is a reference to a config provider.
fn is_reference(text: &str) -> bool {
    text.strip_prefix("${")
        .and_then(|rest| rest.strip_suffix('}'))
        .is_some_and(|inner| inner.contains(':') && !inner.contains('}'))
}

/// A value that holds URLs, without the passwords in them (`http://user:password@registry`).
fn without_password(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after.find(['/', '?', '#', ',', ' ']).unwrap_or(after.len());
        let (authority, behind) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((login, host)) => {
                let user = login.split(':').next().unwrap_or_default();
                out.push_str(user);
                out.push_str(if login.contains(':') && !is_reference(login) { ":********@" } else { "@" });
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// Puts the secrets of the held configuration where the new one says [`MASKED`].
pub fn unmasked(mut new: Config, held: Option<&Config>) -> Config {
    for (name, value) in &mut new {
        if let Some(held) = held.and_then(|h| h.get(name))
            && shown(name, held) == *value
        {
            *value = held.clone();
        }
    }
    new
}

/// The state of a connector or a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// Not started yet.
    Unassigned,
    /// Data moves.
    Running,
    /// Halted, keeps its task.
    Paused,
    /// Halted, no task.
    Stopped,
    /// Failed for good; needs a restart.
    Failed,
    /// On its way to another run.
    Restarting,
    /// Nothing moves until a server is back; tried again all the time. Connect has no such state.
    Reconnecting,
}

/// The state a user wants a connector to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetState {
    /// Running.
    Started,
    /// Halted, task kept.
    Paused,
    /// Halted, no task.
    Stopped,
}

impl TargetState {
    /// As `initial_state` of a create request names it, in any case.
    pub fn from_initial(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "RUNNING" => Some(Self::Started),
            "PAUSED" => Some(Self::Paused),
            "STOPPED" => Some(Self::Stopped),
            _ => None,
        }
    }

    /// The record in the config topic: workers before 3.5 read `state` and know no STOPPED.
    pub fn to_record(self) -> Value {
        let (v1, v2) = match self {
            Self::Started => ("STARTED", "STARTED"),
            Self::Paused => ("PAUSED", "PAUSED"),
            Self::Stopped => ("PAUSED", "STOPPED"),
        };
        serde_json::json!({ "state": v1, "state.v2": v2 })
    }

    /// From a record of the config topic.
    pub fn from_record(record: &Value) -> Option<Self> {
        let text = record.get("state.v2").or_else(|| record.get("state"))?.as_str()?;
        match text {
            "STARTED" => Some(Self::Started),
            "PAUSED" => Some(Self::Paused),
            "STOPPED" => Some(Self::Stopped),
            _ => None,
        }
    }
}

/// `{"connector","task"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskId {
    /// Connector name.
    pub connector: String,
    /// Task number.
    pub task: u32,
}

/// Answer of `GET /connectors/NAME`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConnectorInfo {
    /// Name.
    pub name: String,
    /// Configuration, secrets masked.
    pub config: Config,
    /// Its tasks.
    pub tasks: Vec<TaskId>,
    /// `source`.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

/// State of the connector itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InstanceState {
    /// State.
    pub state: State,
    /// Address of the worker.
    pub worker_id: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Version of the connector.
    pub version: &'static str,
}

/// State of a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskState {
    /// Task number.
    pub id: u32,
    /// State.
    #[serde(flatten)]
    pub state: InstanceState,
    /// How far a snapshot under way is. Connect has no such field: shown where it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotState>,
    /// What an operator should look at although data moves. Connect has no such field: shown where it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// How far a snapshot under way is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnapshotState {
    /// Tables it reads.
    pub tables: usize,
    /// Tables that are read.
    pub tables_done: usize,
    /// Rows read since it began, or went on.
    pub rows: u64,
    /// Rows there are, as the database's planner thinks.
    pub rows_estimate: u64,
    /// Time left at the speed so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<u64>,
    /// The same in words.
    pub text: String,
}

impl From<&SnapshotStatus> for SnapshotState {
    fn from(status: &SnapshotStatus) -> Self {
        Self {
            tables: status.tables,
            tables_done: status.tables_done,
            rows: status.rows,
            rows_estimate: status.estimate,
            seconds_left: status.left().map(|left| left.as_secs()),
            text: status.to_string(),
        }
    }
}

/// Answer of `GET /connectors/NAME/status`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConnectorState {
    /// Name.
    pub name: String,
    /// The connector.
    pub connector: InstanceState,
    /// Its tasks.
    pub tasks: Vec<TaskState>,
    /// `source`.
    #[serde(rename = "type")]
    pub kind: &'static str,
}

impl ConnectorState {
    /// Only what Connect's answer has.
    #[must_use]
    pub fn as_connect(mut self) -> Self {
        for task in &mut self.tasks {
            (task.snapshot, task.warning) = (None, None);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Config {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect()
    }

    #[test]
    fn secrets_are_masked_and_come_back() {
        let held = config(&[("database.password", "s3cret"), ("database.user", "ann")]);
        let shown = masked(&held);
        assert_eq!(shown["database.password"], MASKED);
        assert_eq!(shown["database.user"], "ann");
        assert_eq!(unmasked(shown, Some(&held)), held);
        let provided = config(&[("database.password", "${env:PW}")]);
        assert_eq!(masked(&provided), provided);
        for text in ["${env:PW}-and-more", "${not closed", "${}", "${env:A}${env:B}"] {
            assert_eq!(
                masked(&config(&[("database.password", text)]))["database.password"],
                MASKED,
                "{text}"
            );
        }
        let url = "value.converter.schema.registry.url";
        let held = config(&[(url, "http://user:pa:ss@one:8081/x@y,https://two:8081,http://only@three")]);
        let shown = masked(&held);
        assert_eq!(shown[url], "http://user:********@one:8081/x@y,https://two:8081,http://only@three");
        assert_eq!(unmasked(shown, Some(&held)), held);
    }

    #[test]
    fn target_states_round_trip_through_their_record() {
        for state in [TargetState::Started, TargetState::Paused, TargetState::Stopped] {
            assert_eq!(TargetState::from_record(&state.to_record()), Some(state));
        }
        let old = serde_json::json!({"state": "PAUSED"});
        assert_eq!(TargetState::from_record(&old), Some(TargetState::Paused));
    }
}
