//! The WITH options of source tables, as far as the runtime reads them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::datagen::Generator;
use crate::engine::plan::TableRef;
use crate::error::{Error, Result};
use crate::log::Position;

/// Where a source reads.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SourceKind {
    /// Topics of the log.
    Topics(TopicOptions),
    /// Lines of a file, or of all files in a directory.
    Files {
        /// The path, without `file://`.
        path: String,
        /// Look for new files at this interval; `None`: what is there at the start is all.
        monitor: Option<Duration>,
        /// Only files whose whole path matches.
        pattern: Option<Pattern>,
    },
    /// A table of a database, read once.
    Table,
    /// Made-up rows.
    Generated(Box<Generator>),
}

/// A regular expression; equal where its text is.
#[derive(Clone, Debug)]
pub(super) struct Pattern(pub(super) regex::Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// Which topics.
#[derive(Clone, Debug)]
pub(super) enum Topics {
    /// These.
    List(Vec<String>),
    /// All whose whole name matches.
    Pattern(regex::Regex),
}

impl PartialEq for Topics {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Pattern(a), Self::Pattern(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// Where to begin in a topic that the state knows no offset of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Startup {
    At(Position),
    /// What the consumer group `properties.group.id` has committed; where it has nothing, the position.
    Group(Position),
    /// `scan.startup.specific-offsets`, by partition; others begin at the earliest.
    Specific(BTreeMap<i32, i64>),
}

/// Where a bounded scan ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Never,
    /// At the topic's end as it is when the pipeline starts.
    Latest,
    Timestamp(i64),
    /// What the consumer group has committed; where it has nothing, the topic's end.
    Group,
    Specific(BTreeMap<i32, i64>),
}

/// Options of the kafka and upsert-kafka connectors.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TopicOptions {
    pub(super) topics: Topics,
    pub(super) startup: Startup,
    pub(super) end: End,
    /// How often new partitions and topics are looked for; `None`: never again.
    pub(super) discovery: Option<Duration>,
    /// `properties.group.id`.
    pub(super) group: Option<String>,
}

/// A duration as Flink writes them.
pub(super) fn duration(text: &str) -> std::result::Result<Duration, String> {
    crate::engine::options::millis(text)
        .and_then(|millis| u64::try_from(millis).ok())
        .map(Duration::from_millis)
        .ok_or_else(|| format!("'{text}' is not a duration: write 500ms, 10s, 1min, 2h or 1d"))
}

fn wrong(table: &TableRef, option: &str, why: impl std::fmt::Display) -> Error {
    Error::config(format!("table {}: option '{option}' is wrong", table.name)).because(why)
}

/// Reads the options of a source table.
pub(super) fn source(table: &TableRef) -> Result<SourceKind> {
    let get = |option: &str| table.options.get(option).map(String::as_str);
    match get("connector").unwrap_or_default() {
        "kafka" => Ok(SourceKind::Topics(TopicOptions {
            topics: topics(table)?,
            startup: startup(table)?,
            end: end(table)?,
            discovery: discovery(table)?,
            group: get("properties.group.id").map(str::to_owned),
        })),
        "upsert-kafka" => Ok(SourceKind::Topics(TopicOptions {
            topics: topics(table)?,
            startup: Startup::At(Position::Earliest),
            end: end(table)?,
            discovery: discovery(table)?,
            group: get("properties.group.id").map(str::to_owned),
        })),
        "filesystem" => {
            let path = get("path")
                .ok_or_else(|| Error::config(format!("table {}: option 'path' is missing", table.name)))?;
            let monitor = "source.monitor-interval";
            let monitor =
                get(monitor).map(|t| duration(t).map_err(|why| wrong(table, monitor, why))).transpose()?;
            let option = "source.path.regex-pattern";
            let pattern = get(option)
                .map(|p| regex::Regex::new(&format!("^(?:{p})$")).map_err(|e| wrong(table, option, e)))
                .transpose()?;
            Ok(SourceKind::Files {
                path: path.strip_prefix("file://").unwrap_or(path).to_owned(),
                monitor,
                pattern: pattern.map(Pattern),
            })
        }
        "jdbc" => Ok(SourceKind::Table),
        "datagen" => Ok(SourceKind::Generated(Box::new(Generator::new(table)?))),
        other => Err(Error::config(format!("table {}: connector '{other}' cannot be read", table.name))
            .next("use one of: kafka, upsert-kafka, filesystem, jdbc, datagen")),
    }
}

fn topics(table: &TableRef) -> Result<Topics> {
    match (table.options.get("topic"), table.options.get("topic-pattern")) {
        (Some(list), None) => {
            let list: Vec<String> =
                list.split(';').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect();
            if list.is_empty() {
                Err(wrong(table, "topic", "it names no topic"))
            } else {
                Ok(Topics::List(list))
            }
        }
        (None, Some(pattern)) => regex::Regex::new(&format!("^(?:{pattern})$"))
            .map(Topics::Pattern)
            .map_err(|e| wrong(table, "topic-pattern", e)),
        (Some(_), Some(_)) => {
            Err(wrong(table, "topic-pattern", "'topic' is set too, and only one of the two may be"))
        }
        (None, None) => Err(Error::config(format!("table {}: option 'topic' is missing", table.name))),
    }
}

fn number(table: &TableRef, option: &str) -> Result<i64> {
    let text = table
        .options
        .get(option)
        .ok_or_else(|| Error::config(format!("table {}: option '{option}' is missing", table.name)))?;
    text.trim().parse().map_err(|_| wrong(table, option, format!("'{text}' is not a whole number")))
}

/// `partition:0,offset:42;partition:1,offset:300`.
fn specific(table: &TableRef, option: &str) -> Result<BTreeMap<i32, i64>> {
    let text = table
        .options
        .get(option)
        .ok_or_else(|| Error::config(format!("table {}: option '{option}' is missing", table.name)))?;
    let bad = || wrong(table, option, "write partition:0,offset:42;partition:1,offset:300");
    text.split(';')
        .filter(|part| !part.trim().is_empty())
        .map(|part| {
            let (partition, offset) = part.trim().split_once(',').ok_or_else(bad)?;
            let partition = partition.trim().strip_prefix("partition:").and_then(|p| p.parse().ok());
            let offset = offset.trim().strip_prefix("offset:").and_then(|o| o.parse().ok());
            partition.zip(offset).ok_or_else(bad)
        })
        .collect()
}

/// `scan.topic-partition-discovery.interval`: 10 s here (5 min in Flink); 0 turns it off.
fn discovery(table: &TableRef) -> Result<Option<Duration>> {
    let option = "scan.topic-partition-discovery.interval";
    let Some(text) = table.options.get(option) else { return Ok(Some(Duration::from_secs(10))) };
    let interval = duration(text).map_err(|why| wrong(table, option, why))?;
    Ok((!interval.is_zero()).then_some(interval))
}

fn startup(table: &TableRef) -> Result<Startup> {
    let get = |option: &str| table.options.get(option).map(String::as_str);
    Ok(Startup::At(match get("scan.startup.mode").unwrap_or("group-offsets").to_ascii_lowercase().as_str() {
        "earliest-offset" => Position::Earliest,
        "latest-offset" => Position::Latest,
        "timestamp" => Position::Timestamp(number(table, "scan.startup.timestamp-millis")?),
        "specific-offsets" => {
            return specific(table, "scan.startup.specific-offsets").map(Startup::Specific);
        }
        // Offsets live in our state: a group has some only where another program has committed them.
        "group-offsets" => {
            let otherwise = match get("properties.auto.offset.reset") {
                Some("latest") => Position::Latest,
                _ => Position::Earliest,
            };
            return Ok(Startup::Group(otherwise));
        }
        other => {
            return Err(wrong(table, "scan.startup.mode", format!("'{other}' is not one of its values"))
                .next("use earliest-offset, latest-offset, group-offsets, timestamp or specific-offsets"));
        }
    }))
}

fn end(table: &TableRef) -> Result<End> {
    let mode = table.option("scan.bounded.mode").unwrap_or("unbounded").to_ascii_lowercase();
    Ok(match mode.as_str() {
        "unbounded" => End::Never,
        "latest-offset" => End::Latest,
        "group-offsets" => End::Group,
        "timestamp" => End::Timestamp(number(table, "scan.bounded.timestamp-millis")?),
        "specific-offsets" => End::Specific(specific(table, "scan.bounded.specific-offsets")?),
        other => {
            return Err(wrong(table, "scan.bounded.mode", format!("'{other}' is not one of its values"))
                .next("use unbounded, latest-offset, group-offsets, timestamp or specific-offsets"));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(options: &[(&str, &str)]) -> TableRef {
        TableRef {
            name: "t".into(),
            options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            columns: Vec::new(),
            primary_key: Vec::new(),
        }
    }

    #[test]
    fn kafka_options() {
        let read = |options: &[(&str, &str)]| {
            let mut all = vec![("connector", "kafka"), ("topic", "a;b")];
            all.extend_from_slice(options);
            source(&table(&all))
        };
        let SourceKind::Topics(options) = read(&[]).unwrap() else { panic!() };
        assert_eq!(options.topics, Topics::List(vec!["a".into(), "b".into()]));
        assert_eq!(options.startup, Startup::Group(Position::Earliest));
        assert_eq!(options.end, End::Never);
        let specific = "partition:0,offset:42;partition:1,offset:300";
        let SourceKind::Topics(options) =
            read(&[("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", specific)])
                .unwrap()
        else {
            panic!()
        };
        assert_eq!(options.startup, Startup::Specific([(0, 42), (1, 300)].into()));
        assert!(read(&[("scan.startup.mode", "first")]).is_err());
        assert!(read(&[("topic-pattern", "x.*")]).is_err());
        assert!(read(&[("scan.startup.mode", "timestamp")]).is_err());
    }
}
