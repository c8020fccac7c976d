//! Which events: `--from` and `--to`.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::log::{Log, Position, TopicPartition};
use crate::runtime::scratch::keys_of;

/// One end of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// The first event.
    Earliest,
    /// Where the pipeline stands.
    Present,
    /// The first event at or after this time, milliseconds since 1970.
    Time(i64),
    /// An offset of one partition.
    Offset {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
    },
}

impl FromStr for Point {
    type Err = Error;

    /// Reads `earliest`, `present`, a time (`2026-11-22T15:39:11Z`, `2026-11-22 15:39:11`, milliseconds since 1970)
    /// or `TOPIC:PARTITION:OFFSET`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "earliest" => return Ok(Self::Earliest),
            "present" | "latest" | "now" => return Ok(Self::Present),
            _ => {}
        }
        if let Ok(millis) = text.parse::<i64>() {
            return Ok(Self::Time(millis));
        }
        if let Some(millis) = time(text) {
            return Ok(Self::Time(millis));
        }
        let mut parts = text.rsplitn(3, ':');
        let offset = parts.next().and_then(|p| p.parse().ok());
        let partition = parts.next().and_then(|p| p.parse().ok());
        match (parts.next(), partition, offset) {
            (Some(topic), Some(partition), Some(offset)) if !topic.is_empty() => {
                Ok(Self::Offset { topic: topic.to_owned(), partition, offset })
            }
            _ => Err(Error::config(format!("{text:?} is no place in a log"))
                .next("write earliest, a time like 2026-11-22T15:39:11Z, or TOPIC:PARTITION:OFFSET")),
        }
    }
}

/// A time with or without zone (then UTC), as milliseconds since 1970.
pub fn time(text: &str) -> Option<i64> {
    if let Ok(at) = chrono::DateTime::parse_from_rfc3339(text) {
        return Some(at.timestamp_millis());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(at) = chrono::NaiveDateTime::parse_from_str(text, format) {
            return Some(at.and_utc().timestamp_millis());
        }
    }
    let day = chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
}

/// The events of a replay. Points with offsets concern their partitions only; where `from` holds nothing else,
/// other partitions are not in the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it begins; not empty.
    pub from: Vec<Point>,
    /// Where it ends; empty is [`Point::Present`].
    pub to: Vec<Point>,
    /// Only says what would be written: nothing is, and the pipeline is not held.
    pub dry_run: bool,
}

/// Offsets by position key.
pub(super) struct Bounds {
    pub(super) from: BTreeMap<String, i64>,
    pub(super) to: BTreeMap<String, i64>,
}

impl Range {
    pub(super) async fn bounds(
        &self,
        log: &dyn Log,
        begins: &BTreeMap<String, i64>,
        present: &BTreeMap<String, i64>,
    ) -> Result<Bounds> {
        for point in self.from.iter().chain(&self.to) {
            let Point::Offset { topic, partition, .. } = point else { continue };
            if !keys_of(present).any(|(_, t, p, _)| &t == topic && p == *partition) {
                let read: Vec<String> = keys_of(present).map(|(_, t, p, _)| format!("{t}:{p}")).collect();
                return Err(Error::config(format!(
                    "the pipeline does not read topic {topic}, partition {partition}"
                ))
                .because(format!("it reads {}", read.join(", "))));
            }
        }
        let mut bounds = Bounds { from: BTreeMap::new(), to: BTreeMap::new() };
        for (key, topic, partition, now) in keys_of(present) {
            let at = TopicPartition { topic: topic.as_str().into(), partition };
            let begin = begins.get(key).copied().unwrap_or(0);
            let from = place(log, &self.from, &at, begin, now, now).await?;
            let to = place(log, &self.to, &at, begin, now, now).await?;
            bounds.from.insert(key.clone(), from.min(to));
            bounds.to.insert(key.clone(), to);
        }
        if bounds.from == bounds.to {
            return Err(Error::config("there are no events in this range")
                .next("look at the times with `millstream topics read TOPIC`"));
        }
        Ok(bounds)
    }
}

/// The offset of one partition; a point of its own comes before one for all.
async fn place(
    log: &dyn Log,
    points: &[Point],
    at: &TopicPartition,
    begin: i64,
    present: i64,
    otherwise: i64,
) -> Result<i64> {
    let own = points.iter().find_map(|p| match p {
        Point::Offset { topic, partition, offset } if **topic == *at.topic && *partition == at.partition => {
            Some(*offset)
        }
        _ => None,
    });
    let offset = match (own, points.iter().find(|p| !matches!(p, Point::Offset { .. }))) {
        (Some(offset), _) => offset,
        (None, Some(Point::Earliest)) => begin,
        (None, Some(Point::Time(ms))) => log.resolve(at, Position::Timestamp(*ms)).await?,
        (None, Some(Point::Present)) => present,
        (None, _) => otherwise,
    };
    Ok(offset.clamp(begin, present.max(begin)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read() {
        let read = |text: &str| text.parse::<Point>();
        assert_eq!(read("earliest").unwrap(), Point::Earliest);
        assert_eq!(read("2024-01-01T10:00:01Z").unwrap(), Point::Time(1_704_103_201_000));
        assert_eq!(read("2024-01-01 10:00:01.5").unwrap(), Point::Time(1_704_103_201_500));
        assert_eq!(read("1704103201000").unwrap(), Point::Time(1_704_103_201_000));
        let offset = Point::Offset { topic: "db.shop.orders".into(), partition: 2, offset: 40 };
        assert_eq!(read("db.shop.orders:2:40").unwrap(), offset);
        assert!(read("yesterday").is_err());
        assert!(read("t:1:x").is_err());
    }
}
