//! Topic names and topic configs, by Kafka's rules.

use std::collections::BTreeMap;

use fancy_regex::Regex;

use super::TopicSpec;
use crate::error::{Error, Result};

/// Checks a topic name (`org.apache.kafka.common.internals.Topic.validate`).
///
/// # Errors
/// [`crate::Kind::Config`] with the rule that is broken.
pub fn check_name(name: &str) -> Result<()> {
    let fault = if name.is_empty() {
        "it is empty"
    } else if name == "." || name == ".." {
        "it is '.' or '..'"
    } else if name.len() > 249 {
        "it has more than 249 characters"
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        "only ASCII letters, digits, '.', '_' and '-' are allowed"
    } else {
        return Ok(());
    };
    Err(Error::config(format!("topic name {name:?} is not valid")).because(fault))
}

/// The topic configs that the embedded log acts on. Others are kept and shown, as Kafka would need them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicConfig {
    /// `cleanup.policy` holds `compact`.
    pub compact: bool,
    /// `cleanup.policy` holds `delete`.
    pub delete: bool,
    /// `retention.ms`; `None` keeps for ever (the default here; Kafka's is a week).
    pub retention_ms: Option<i64>,
    /// `retention.bytes` per partition; `None` is no bound.
    pub retention_bytes: Option<u64>,
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `delete.retention.ms`: how long compaction keeps tombstones.
    pub delete_retention_ms: i64,
    /// `max.message.bytes`; `None` is no bound.
    pub max_message_bytes: Option<u64>,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            compact: false,
            delete: true,
            retention_ms: None,
            retention_bytes: None,
            segment_bytes: 128 << 20,
            delete_retention_ms: 86_400_000,
            max_message_bytes: None,
        }
    }
}

impl TopicConfig {
    /// Reads Kafka's names and values.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] naming the config, its value and what is allowed.
    pub fn parse(configs: &BTreeMap<String, String>) -> Result<Self> {
        let mut out = Self::default();
        for (name, value) in configs {
            let value = value.trim();
            match name.as_str() {
                "cleanup.policy" => {
                    (out.compact, out.delete) = (false, false);
                    for policy in value.split(',').map(str::trim) {
                        match policy {
                            "compact" => out.compact = true,
                            "delete" => out.delete = true,
                            _ => return Err(bad(name, value, "compact, delete, or both with a comma")),
                        }
                    }
                }
                "retention.ms" => out.retention_ms = number(name, value, -1)?.filter(|n| *n >= 0),
                "retention.bytes" => out.retention_bytes = unsigned(name, value, -1)?,
                "segment.bytes" => {
                    // Below a megabyte (Kafka 4's own lower bound) files become more than data.
                    out.segment_bytes = unsigned(name, value, 1)?.unwrap_or(out.segment_bytes).max(64 << 10);
                }
                "delete.retention.ms" => {
                    out.delete_retention_ms = number(name, value, 0)?.unwrap_or(out.delete_retention_ms);
                }
                "max.message.bytes" => out.max_message_bytes = unsigned(name, value, 0)?,
                _ => {}
            }
        }
        Ok(out)
    }
}

/// Topics that are made alike, by their names.
#[derive(Clone, Debug)]
pub struct TopicGroup {
    /// Names that belong to it.
    pub include: Regex,
    /// Of these, names that do not.
    pub exclude: Option<Regex>,
    /// What they are made with; its name is of no meaning.
    pub spec: TopicSpec,
}

impl TopicGroup {
    fn takes(&self, topic: &str) -> bool {
        // An expression that gives up (too much backtracking) does not match.
        let fits = |regex: &Regex| regex.is_match(topic).unwrap_or(false);
        fits(&self.include) && !self.exclude.as_ref().is_some_and(fits)
    }
}

/// What a writer makes missing topics with.
#[derive(Clone, Debug, Default)]
pub struct TopicDefaults {
    groups: Vec<TopicGroup>,
    rest: Option<TopicSpec>,
}

impl From<TopicSpec> for TopicDefaults {
    /// All topics alike.
    fn from(spec: TopicSpec) -> Self {
        Self { groups: Vec::new(), rest: Some(spec) }
    }
}

impl TopicDefaults {
    /// Adds a group; of two that take a topic the one that came first decides.
    pub fn add(&mut self, group: TopicGroup) {
        self.groups.push(group);
    }

    /// What to make a topic with.
    pub fn spec(&self, name: &str) -> TopicSpec {
        let group = self.groups.iter().find(|group| group.takes(name)).map(|group| &group.spec);
        let mut spec = group.or(self.rest.as_ref()).cloned().unwrap_or_else(|| TopicSpec::new(name));
        name.clone_into(&mut spec.name);
        spec
    }
}

fn number(name: &str, value: &str, least: i64) -> Result<Option<i64>> {
    match value.parse::<i64>() {
        Ok(n) if n >= least => Ok(Some(n)),
        _ => Err(bad(name, value, &format!("a whole number from {least} on"))),
    }
}

fn unsigned(name: &str, value: &str, least: i64) -> Result<Option<u64>> {
    Ok(number(name, value, least)?.and_then(|n| u64::try_from(n).ok()))
}

fn bad(name: &str, value: &str, allowed: &str) -> Error {
    Error::config(format!("topic config {name} = {value:?} is not valid"))
        .because(format!("allowed: {allowed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        for good in ["a", "shop.public.orders", "A-b_c.9", &"x".repeat(249)] {
            check_name(good).unwrap();
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn configs_are_read() {
        let parse = |pairs: &[(&str, &str)]| {
            TopicConfig::parse(&pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect())
        };
        let c =
            parse(&[("cleanup.policy", "compact,delete"), ("retention.ms", "-1"), ("retention.bytes", "9")])
                .unwrap();
        assert_eq!((c.compact, c.delete, c.retention_ms, c.retention_bytes), (true, true, None, Some(9)));
        assert!(parse(&[("cleanup.policy", "shred")]).is_err());
        assert!(parse(&[("retention.ms", "soon")]).is_err());
        assert_eq!(parse(&[("min.insync.replicas", "2")]).unwrap(), TopicConfig::default());
    }
}
