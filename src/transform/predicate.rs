//! Kafka Connect's predicates.

use super::config::Options;
use super::regex::JavaRegex;
use crate::event::EventError;
use crate::event::record::Record;

/// A condition on a record.
#[derive(Clone, Debug)]
pub(super) enum Predicate {
    /// `TopicNameMatches`.
    Topic(Box<JavaRegex>),
    /// `HasHeaderKey`.
    Header(String),
    /// `RecordIsTombstone`.
    Tombstone,
}

impl Predicate {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        let class = own.required("type")?;
        match class.strip_prefix("org.apache.kafka.connect.transforms.predicates.") {
            Some("TopicNameMatches") => Ok(Self::Topic(Box::new(own.regex("pattern")?))),
            Some("HasHeaderKey") => Ok(Self::Header(own.required("name")?.to_owned())),
            Some("RecordIsTombstone") => Ok(Self::Tombstone),
            _ => Err(own.error(
                "type",
                "org.apache.kafka.connect.transforms.predicates.TopicNameMatches, …HasHeaderKey or \
                 …RecordIsTombstone",
            )),
        }
    }

    pub(super) fn test(&self, record: &Record<'_>) -> bool {
        match self {
            Self::Topic(regex) => regex.matches(&record.topic),
            Self::Header(name) => record.headers.iter().any(|h| h.name == *name),
            Self::Tombstone => record.value.is_null(),
        }
    }
}
