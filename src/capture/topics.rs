//! What a connector's topics are made with: `topic.creation.*`, as Kafka Connect understands it (KIP-158).

use std::collections::BTreeMap;

use fancy_regex::Regex;

use crate::config::ConnectorConfig;
use crate::config::connector::properties::PropertyType;
use crate::config::connector::rules;
use crate::error::{Error, Result};
use crate::java::{regex_error, regex_list};
use crate::log::TopicSpec;
use crate::log::topic::{TopicDefaults, TopicGroup};

const PREFIX: &str = "topic.creation.";
const DEFAULT: &str = "default";
/// A group's properties that are no topic configs.
const OWN: [&str; 4] = ["include", "exclude", "partitions", "replication.factor"];

/// Reads the groups. Without any such property the log's own defaults hold.
///
/// # Errors
/// In Connect's words; as there, they come when the connector starts.
pub(super) fn defaults(config: &ConnectorConfig) -> Result<TopicDefaults> {
    if !config.iter().any(|(name, _)| name.starts_with(PREFIX)) {
        return Ok(TopicDefaults::default());
    }
    let of_default = |property: &str| required(config, &format!("{PREFIX}{DEFAULT}.{property}"));
    let replication = replication(config, DEFAULT, of_default("replication.factor")?)?;
    let partitions = partitions(config, DEFAULT, of_default("partitions")?)?;
    let mut defaults = TopicDefaults::from(spec(config, DEFAULT, partitions, replication));
    for name in config.text("topic.creation.groups").split(',').map(str::trim) {
        if name.is_empty() || name == DEFAULT {
            continue;
        }
        let (replication, partitions) =
            (self::replication(config, name, replication)?, self::partitions(config, name, partitions)?);
        let spec = spec(config, name, partitions, replication);
        if let Some(include) = pattern(config, name, "include")? {
            defaults.add(TopicGroup { include, exclude: pattern(config, name, "exclude")?, spec });
        }
    }
    Ok(defaults)
}

fn spec(config: &ConnectorConfig, group: &str, partitions: i64, replication: i64) -> TopicSpec {
    let prefix = format!("{PREFIX}{group}.");
    let configs: BTreeMap<String, String> = config
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?, value)))
        .filter(|(name, _)| !OWN.contains(name))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    TopicSpec {
        name: String::new(),
        // -1 is the broker's default.
        partitions: i32::try_from(partitions).ok().filter(|n| *n > 0),
        replication: i16::try_from(replication).ok().filter(|n| *n > 0),
        configs,
    }
}

fn refused(what: String) -> Error {
    Error::config(what).next("mend the connector's topic.creation properties")
}

fn required(config: &ConnectorConfig, property: &str) -> Result<i64> {
    // The value is read by whoever checks it; here only that there is one.
    match config.is_set(property) {
        true => Ok(-1),
        false => {
            Err(refused(format!("Missing required configuration \"{property}\" which has no default value.")))
        }
    }
}

fn number(
    config: &ConnectorConfig,
    group: &str,
    property: &str,
    kind: PropertyType,
    otherwise: i64,
    rule: &str,
) -> Result<i64> {
    let name = format!("{PREFIX}{group}.{property}");
    if !config.is_set(&name) {
        return Ok(otherwise);
    }
    let text = config.text(&name);
    rules::parse(kind, text)
        .map_err(|why| refused(format!("Invalid value {text} for configuration {name}: {why}")))?;
    match text.parse::<i64>() {
        Ok(n) if n == -1 || n > 0 => Ok(n),
        _ => Err(refused(format!("Invalid value {text} for configuration {property}: {rule}"))),
    }
}

fn replication(config: &ConnectorConfig, group: &str, otherwise: i64) -> Result<i64> {
    let rule = "Replication factor must be positive and not larger than the number of brokers in the Kafka cluster, or \
                -1 to use the broker's default";
    number(config, group, "replication.factor", PropertyType::Short, otherwise, rule)
}

fn partitions(config: &ConnectorConfig, group: &str, otherwise: i64) -> Result<i64> {
    let rule = "Number of partitions must be positive, or -1 to use the broker's default";
    number(config, group, "partitions", PropertyType::Int, otherwise, rule)
}

/// The expressions of a list as one that matches whole names; none for an empty list.
fn pattern(config: &ConnectorConfig, group: &str, property: &str) -> Result<Option<Regex>> {
    let list = config.text(&format!("{PREFIX}{group}.{property}"));
    let entries: Vec<&str> = list.split(',').map(str::trim).filter(|e| !e.is_empty()).collect();
    if entries.is_empty() {
        return Ok(None);
    }
    let all = entries.join("|");
    let wrong = |why: String| {
        refused(format!(
            "Invalid value [{}] for configuration {property}: Syntax error in regular expression: {why}",
            entries.join(", ")
        ))
    };
    match regex_error::error(&all) {
        Some(why) => Err(wrong(why)),
        None => regex_list::whole(&all).map(Some).map_err(|e| wrong(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(properties: &[(&str, &str)]) -> Result<TopicDefaults> {
        let all = [("name", "c")].iter().chain(properties);
        let all = all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        defaults(&ConnectorConfig::unchecked("c", all))
    }

    const BASE: [(&str, &str); 2] =
        [("topic.creation.default.replication.factor", "1"), ("topic.creation.default.partitions", "3")];

    fn with(more: &[(&str, &str)]) -> Result<TopicDefaults> {
        read(&BASE.iter().chain(more).copied().collect::<Vec<_>>())
    }

    #[test]
    fn the_first_group_that_takes_a_topic_decides() {
        let defaults = with(&[
            ("topic.creation.groups", "a,default, b"),
            ("topic.creation.a.include", "shop\\..*"),
            ("topic.creation.a.exclude", ".*_log,.*_tmp"),
            ("topic.creation.a.partitions", "5"),
            ("topic.creation.a.replication.factor", "-1"),
            ("topic.creation.b.include", "Shop.*,shop.*"),
            ("topic.creation.b.cleanup.policy", "compact"),
            ("topic.creation.default.retention.ms", "9"),
        ])
        .unwrap();
        let of = |topic: &str| {
            let spec = defaults.spec(topic);
            assert_eq!(spec.name, topic);
            let configs: Vec<String> = spec.configs.iter().map(|(k, v)| format!("{k}={v}")).collect();
            (spec.partitions, spec.replication, configs.join(","))
        };
        assert_eq!(of("shop.public.items"), (Some(5), None, String::new()));
        // A group takes numbers from the default one, and no topic configs.
        assert_eq!(of("shop.public.items_log"), (Some(3), Some(1), "cleanup.policy=compact".to_owned()));
        assert_eq!(of("SHOP.public.items"), (Some(3), Some(1), "retention.ms=9".to_owned()));
        assert_eq!(read(&[]).unwrap().spec("x"), TopicSpec::new("x"));
    }

    #[test]
    fn mistakes_are_told_in_connects_words() {
        let said =
            |result: Result<TopicDefaults>| result.err().map(|e| e.what().to_owned()).unwrap_or_default();
        assert_eq!(
            said(read(&[("topic.creation.groups", "g")])),
            "Missing required configuration \"topic.creation.default.replication.factor\" which has no default value."
        );
        let number = ("topic.creation.default.replication.factor", "x");
        assert_eq!(
            said(read(&[number, BASE[1]])),
            "Invalid value x for configuration topic.creation.default.replication.factor: Not a number of type SHORT"
        );
        let group = ("topic.creation.groups", "g");
        assert_eq!(
            said(with(&[group, ("topic.creation.g.partitions", "0")])),
            "Invalid value 0 for configuration partitions: Number of partitions must be positive, or -1 to use the \
             broker's default"
        );
        assert_eq!(
            said(with(&[group, ("topic.creation.g.include", "(")])),
            "Invalid value [(] for configuration include: Syntax error in regular expression: Unclosed group near \
             index 1\n("
        );
        assert_eq!(said(with(&[group])), "");
    }
}
