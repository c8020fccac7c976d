//! Connector configurations: Kafka Connect JSON, checked against one table of properties.
//!
//! `{"name": …, "config": {…}}`, as one posts it to Kafka Connect, or the bare map. Values may hold config
//! providers ([`providers`]). What Debezium and Connect would refuse is refused in their words; what is
//! unknown is a warning, as in Connect.

mod database;
pub mod options;
pub mod plugin_options;
pub mod plugins;
pub mod properties;
pub mod providers;
pub mod rules;
pub mod table_filter;
pub mod validate;
pub mod versions;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde_json::Value;

pub use options::{
    CaptureOptions, LsnFlushMode, MismatchStrategy, PublicationMode, SignalChannels, SignalTopic,
    SnapshotMode,
};
pub use properties::{Property, PropertyType, Support};
pub use table_filter::TableFilter;

use crate::error::{Error, Result};

/// What Debezium's connector class is called.
pub const CONNECTOR_CLASS: &str = "io.debezium.connector.postgresql.PostgresConnector";

/// A connector's name and properties, checked and with config providers filled in. `Debug` shows no value.
#[derive(Clone)]
pub struct ConnectorConfig {
    name: String,
    values: BTreeMap<String, String>,
    warnings: Vec<String>,
}

impl fmt::Debug for ConnectorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectorConfig")
            .field("name", &self.name)
            .field("properties", &self.values.keys())
            .finish_non_exhaustive()
    }
}

/// A property with a value that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its name.
    pub property: String,
    /// What is wrong, in Debezium's or Connect's words where they have some.
    pub message: String,
}

/// Reads a connector file's text into a name and raw properties: numbers and booleans become text, as in
/// Connect; a null is left out. The name may stand outside, in the config, or come from `fallback_name`.
///
/// # Errors
/// When the text is not JSON of one of the two shapes (with line and column), or the two names differ.
pub fn parse_json(text: &str, fallback_name: Option<&str>) -> Result<(String, BTreeMap<String, String>)> {
    let wrong = |cause: String| {
        Error::config("the connector configuration cannot be read").because(cause).next(
            "write {\"name\": \"…\", \"config\": {\"connector.class\": …}} as for Kafka Connect's REST API",
        )
    };
    let value: Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let Value::Object(mut object) = value else { return Err(wrong("it is not a JSON object".to_owned())) };
    let outer_name = object.get("name").and_then(Value::as_str).map(str::to_owned);
    let map = match object.remove("config") {
        Some(Value::Object(config)) => config,
        Some(_) => return Err(wrong("\"config\" is not a JSON object".to_owned())),
        None => object,
    };
    let mut values = BTreeMap::new();
    for (key, value) in map {
        let text = match value {
            Value::Null => continue,
            Value::String(s) => s,
            Value::Bool(b) => b.to_string(),
            Value::Number(n) => n.to_string(),
            Value::Array(_) | Value::Object(_) => {
                return Err(wrong(format!("the value of {key} is a list or an object, not a text")));
            }
        };
        values.insert(key, text);
    }
    let inner_name = values.get("name").cloned();
    let name = match (outer_name, inner_name) {
        (Some(outer), Some(inner)) if outer != inner => {
            return Err(wrong(format!(
                "Connector name configuration ({inner}) doesn't match connector name in the URL ({outer})"
            )));
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => {
            fallback_name.map(str::to_owned).ok_or_else(|| wrong("there is no \"name\"".to_owned()))?
        }
    };
    values.insert("name".to_owned(), name.clone());
    Ok((name, values))
}

/// Checks properties one by one against the table, with the rules between them, and whether this has the
/// transforms, predicates and converters they name.
pub fn problems(values: &BTreeMap<String, String>) -> Vec<Problem> {
    flatten(&check(values, &[]))
}

/// The problems of a check, in its order.
pub fn flatten(checked: &[validate::Checked]) -> Vec<Problem> {
    let one = |property: &str, message: &String| Problem {
        property: property.to_owned(),
        message: message.clone(),
    };
    checked.iter().flat_map(|c| c.errors.iter().map(|e| one(&c.name, e))).collect()
}

/// [`validate::check`], and what is refused here for reasons of our own.
pub fn check(values: &BTreeMap<String, String>, nulls: &[&str]) -> Vec<validate::Checked> {
    let mut checked = validate::check(values, nulls);
    let mut own = own_problems(values);
    if own.is_empty() && checked.iter().all(|c| c.errors.is_empty()) {
        own.extend(missing_plugin(values));
    }
    for Problem { property, message } in own {
        match checked.iter_mut().find(|c| c.name == property) {
            Some(found) => found.errors.push(message),
            None => checked.push(validate::Checked::unknown(property, None, vec![message])),
        }
    }
    checked
}

/// A plugin that Kafka Connect would run and this does not: found by building what a connector's start builds
/// from its properties alone. An option that a plugin refuses only when it starts fails the start, as in Connect.
fn missing_plugin(values: &BTreeMap<String, String>) -> Option<Problem> {
    let mut values = values.clone();
    full_names(&mut values);
    let all = || values.iter().map(|(k, v)| (k.as_str(), v.as_str()));
    let built = crate::event::EventOptions::from_properties(all())
        .and_then(|options| crate::transform::encoder(options, all(), &crate::config::AddressMap::default()));
    match built.err()? {
        crate::event::EventError::Option { name, value, expected } if plugin_kind(&name).is_some() => {
            let message =
                format!("The '{name}' value is invalid: {value} is not supported here, expected {expected}");
            Some(Problem { property: name, message })
        }
        _ => None,
    }
}

/// What a property names the class of.
fn plugin_kind(name: &str) -> Option<plugins::Kind> {
    match name {
        "key.converter" | "value.converter" => Some(plugins::Kind::Converter),
        "header.converter" => Some(plugins::Kind::HeaderConverter),
        _ if !name.ends_with(".type") => None,
        _ if name.starts_with("transforms.") => Some(plugins::Kind::Transformation),
        _ if name.starts_with("predicates.") => Some(plugins::Kind::Predicate),
        _ => None,
    }
}

/// Puts the classes' full names where aliases stand.
fn full_names(values: &mut BTreeMap<String, String>) {
    for (name, value) in values {
        if let Some(kind) = plugin_kind(name)
            && let Some(plugin) = plugins::find(value.trim()).filter(|p| p.is(kind))
        {
            plugin.class.clone_into(value);
        }
    }
}

/// What Debezium takes and this does not.
fn own_problems(values: &BTreeMap<String, String>) -> Vec<Problem> {
    let mut found = Vec::new();
    let lower = |name: &str| values.get(name).map(|v| v.trim().to_ascii_lowercase()).unwrap_or_default();
    if lower("plugin.name") == "decoderbufs" {
        found.push(Problem {
            property: "plugin.name".to_owned(),
            message:
                "The 'plugin.name' value is invalid: decoderbufs needs an extension on the server and is not \
                      supported here; set plugin.name=pgoutput, which every PostgreSQL since 10 has"
                    .to_owned(),
        });
    }
    for name in ["snapshot.mode", "snapshot.locking.mode"] {
        // Without the class's name that is what is wrong.
        if lower(name) == "custom" && !lower(&format!("{name}.custom.name")).is_empty() {
            found.push(Problem {
                property: name.to_owned(),
                message: format!(
                    "The '{name}' value is invalid: custom runs a Java class, which is not supported here"
                ),
            });
        }
    }
    let class = values.get("connector.class").map(|c| c.rsplit('.').next().unwrap_or(c));
    if class.is_some_and(|c| !matches!(c, "PostgresConnector" | "Postgres")) {
        found.push(Problem {
            property: "connector.class".to_owned(),
            message: format!(
                "The 'connector.class' value is invalid: only {CONNECTOR_CLASS} runs here, not {}",
                values.get("connector.class").map_or("", String::as_str)
            ),
        });
    }
    found
}

impl ConnectorConfig {
    /// Reads a connector file.
    ///
    /// # Errors
    /// When the file cannot be read, is not of Connect's form, or a property's value is wrong: all wrong
    /// properties are named.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::config(format!("cannot read the connector file {}", path.display())).because(e)
        })?;
        let stem = path.file_stem().and_then(|s| s.to_str());
        Self::from_json(&text, stem)
    }

    /// Reads a connector configuration in JSON; see [`parse_json`].
    ///
    /// # Errors
    /// As [`ConnectorConfig::from_file`].
    pub fn from_json(text: &str, fallback_name: Option<&str>) -> Result<Self> {
        let (name, values) = parse_json(text, fallback_name)?;
        Self::from_map(&name, values)
    }

    /// Checks raw properties and fills in config providers.
    ///
    /// # Errors
    /// When a provider's value is missing or properties are wrong: all of them are named.
    pub fn from_map(name: &str, raw: BTreeMap<String, String>) -> Result<Self> {
        let mut values = BTreeMap::new();
        for (key, value) in raw {
            let value = providers::resolve(&key, &value)?;
            values.insert(key, value);
        }
        values.entry("name".to_owned()).or_insert_with(|| name.to_owned());
        let problems = problems(&values);
        if !problems.is_empty() {
            let list: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
            return Err(Error::config(format!(
                "connector {name} has {} wrong propert{}",
                problems.len(),
                if problems.len() == 1 { "y" } else { "ies" }
            ))
            .because(list.join("\n       "))
            .next("mend the connector's configuration"));
        }
        full_names(&mut values);
        let mut warnings = Vec::new();
        for (key, value) in &values {
            match properties::find(key) {
                None => warnings.push(match properties::nearest(key) {
                    Some(near) => {
                        format!("property {key} is unknown and has no effect; did you mean {near}?")
                    }
                    None => format!("property {key} is unknown and has no effect"),
                }),
                Some(p) if p.is_pattern() && p.name.starts_with("database.") => {
                    warnings.push(match properties::nearest(key) {
                        Some(near) => format!("property {key} has no effect here; did you mean {near}?"),
                        None => format!("property {key} has no effect here: there is no JDBC driver"),
                    });
                }
                Some(p) if p.support == Support::Ignored && p.default != Some(value.trim()) => {
                    warnings.push(format!("property {key} has no effect here: {}", p.doc));
                }
                Some(_) => {}
            }
        }
        Ok(Self { name: name.to_owned(), values, warnings })
    }

    /// Takes properties as they are: checked already, config providers filled in.
    pub(crate) fn unchecked(name: &str, values: BTreeMap<String, String>) -> Self {
        Self { name: name.to_owned(), values, warnings: Vec::new() }
    }

    /// The connector's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A property's value; the default of the table where none is given.
    pub fn get(&self, property: &str) -> Option<&str> {
        match self.values.get(property) {
            Some(v) => Some(v.trim()),
            None => properties::find(property).filter(|p| !p.is_pattern()).and_then(|p| p.default),
        }
    }

    /// Whether the property stands in the configuration itself.
    pub fn is_set(&self, property: &str) -> bool {
        self.values.contains_key(property)
    }

    /// A property's text, empty where there is none.
    pub fn text(&self, property: &str) -> &str {
        self.get(property).unwrap_or("")
    }

    /// A boolean property.
    pub fn flag(&self, property: &str) -> bool {
        self.text(property).eq_ignore_ascii_case("true")
    }

    /// A number; zero where there is none.
    pub fn number(&self, property: &str) -> i64 {
        self.text(property).parse().unwrap_or(0)
    }

    /// All properties given, by name. The values include secrets.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// What deserves a warning: unknown properties, and those without effect here.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Whether a property's value is a secret, by its type or by its name.
pub fn is_secret(property: &str) -> bool {
    if properties::find(property).is_some_and(|p| p.kind == PropertyType::Password) {
        return true;
    }
    let name = property.to_ascii_lowercase();
    [
        "secret",
        "password",
        "token",
        "sasl.jaas.config",
        "basic.auth.user.info",
        "credentials.json",
        "connectionstring",
        "ssl.keystore.key",
    ]
    .iter()
    .any(|suffix| name.ends_with(suffix))
        || name.contains(".with.salt.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> BTreeMap<String, String> {
        [
            ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
            ("database.hostname", "db"),
            ("database.user", "ann"),
            ("database.dbname", "shop"),
            ("topic.prefix", "s"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
    }

    #[test]
    fn both_shapes_are_read() {
        let (name, map) =
            parse_json(r#"{"name":"a","config":{"tasks.max":1,"x":true,"y":null}}"#, None).unwrap();
        assert_eq!(name, "a");
        assert_eq!(map.get("tasks.max").unwrap(), "1");
        assert_eq!(map.get("x").unwrap(), "true");
        assert!(!map.contains_key("y"));
        assert_eq!(parse_json(r#"{"topic.prefix":"p"}"#, Some("file")).unwrap().0, "file");
        assert!(parse_json("{", None).unwrap_err().screen().contains("line 1"));
        assert!(parse_json(r#"{"name":"a","config":{"name":"b"}}"#, None).is_err());
    }

    #[test]
    fn defaults_and_warnings() {
        let mut map = base();
        map.insert("database.sslmod".into(), "require".into());
        map.insert("snapshot.mod".into(), "initial".into());
        map.insert("poll.interval.ms".into(), "10".into());
        let config = ConnectorConfig::from_map("c", map).unwrap();
        assert_eq!(config.get("slot.name"), Some("debezium"));
        assert_eq!(config.number("database.port"), 5432);
        let warnings = config.warnings().join("\n");
        assert!(
            warnings.contains("database.sslmod has no effect here; did you mean database.sslmode?"),
            "{warnings}"
        );
        assert!(warnings.contains("snapshot.mod is unknown and has no effect; did you mean snapshot.mode?"));
        assert!(warnings.contains("poll.interval.ms has no effect here"));
        assert!(!format!("{config:?}").contains("ann"));
    }

    #[test]
    fn plugins_are_named_in_full_and_missing_ones_refused() {
        let mut map = base();
        map.insert("value.converter".into(), "Json".into());
        let config = ConnectorConfig::from_map("c", map.clone()).unwrap();
        assert_eq!(config.get("value.converter"), Some("org.apache.kafka.connect.json.JsonConverter"));
        map.insert("transforms".into(), "t".into());
        map.insert("transforms.t.type".into(), "io.debezium.transforms.openlineage.OpenLineage".into());
        let error = ConnectorConfig::from_map("c", map).unwrap_err().screen();
        assert!(error.contains("transforms.t.type") && error.contains("not supported here"), "{error}");
    }

    #[test]
    fn all_wrong_properties_are_named() {
        let mut map = base();
        map.remove("database.user");
        map.insert("plugin.name".into(), "decoderbufs".into());
        map.insert("table.include.list".into(), "a".into());
        map.insert("table.exclude.list".into(), "b".into());
        let error = ConnectorConfig::from_map("c", map).unwrap_err().screen();
        for name in ["database.user", "plugin.name", "table.exclude.list", "3 wrong properties"] {
            assert!(error.contains(name), "{name}: {error}");
        }
    }
}
