//! `sink.partition-commit.*`: when a partition's directory gets the file that says that it is complete.

use std::time::{Duration, Instant};

use chrono::{NaiveDate, NaiveDateTime};

use crate::engine::format::Zone;
use crate::engine::format::partitions;
use crate::engine::options;
use crate::engine::plan::TableRef;
use crate::error::{Error, Result};

/// Rows that come all the time do not get a file and a commit each.
const LEAST: Duration = Duration::from_secs(1);

/// When and how partitions are committed. Rows that come to one later commit it again.
#[derive(Debug)]
pub(super) struct Commits {
    trigger: Trigger,
    delay: Duration,
    success_file: String,
}

#[derive(Debug)]
enum Trigger {
    /// So long after its first row that no commit has been of yet.
    ProcessTime,
    /// When the watermark is so far behind the time that its values name.
    PartitionTime { pattern: Option<String>, formatter: Option<String>, zone: Zone },
}

impl Commits {
    /// `None` where the table has no partitions, or no policy says what a commit is: then, as in Flink, nothing happens.
    pub(super) fn new(table: &TableRef) -> Result<Option<Self>> {
        let get = |name: &str| table.options.get(name).map(String::as_str);
        let wrong = |option: &str, why: String| {
            Error::config(format!("table {}: option '{option}' is wrong", table.name)).because(why)
        };
        const KIND: &str = "sink.partition-commit.policy.kind";
        let Some(kinds) = get(KIND) else { return Ok(None) };
        for kind in kinds.split(',').map(str::trim) {
            if kind != "success-file" {
                return Err(wrong(KIND, format!("policy '{kind}' is not supported"))
                    .next("use 'success-file': there is no metastore here, and no Java class"));
            }
        }
        const DELAY: &str = "sink.partition-commit.delay";
        let delay = get(DELAY).map_or(Some(0), options::millis).and_then(|ms| u64::try_from(ms).ok());
        let delay =
            delay.ok_or_else(|| wrong(DELAY, "it is no time".into()).next("write a time as 1 h or 30 s"))?;
        const TRIGGER: &str = "sink.partition-commit.trigger";
        let trigger = match get(TRIGGER).unwrap_or("process-time").to_ascii_lowercase().as_str() {
            "process-time" => Trigger::ProcessTime,
            "partition-time" => {
                const EXTRACTOR: &str = "partition.time-extractor.kind";
                if get(EXTRACTOR).is_some_and(|kind| kind != "default") {
                    return Err(wrong(EXTRACTOR, "only 'default' is supported".into())
                        .next("use 'partition.time-extractor.timestamp-pattern'"));
                }
                const ZONE: &str = "sink.partition-commit.watermark-time-zone";
                let zone = get(ZONE).unwrap_or("UTC");
                Trigger::PartitionTime {
                    pattern: get("partition.time-extractor.timestamp-pattern").map(str::to_owned),
                    formatter: get("partition.time-extractor.timestamp-formatter").map(str::to_owned),
                    zone: Zone::parse(zone)
                        .ok_or_else(|| wrong(ZONE, format!("unknown time zone {zone}")))?,
                }
            }
            other => {
                return Err(wrong(TRIGGER, format!("'{other}' is not one of its values"))
                    .next("use process-time or partition-time"));
            }
        };
        let success_file = get("sink.partition-commit.success-file.name").unwrap_or("_SUCCESS").to_owned();
        let all = Self { trigger, delay: Duration::from_millis(delay), success_file };
        Ok((!partitions::names(table).is_empty()).then_some(all))
    }

    pub(super) fn success_file(&self) -> &str {
        &self.success_file
    }

    /// Whether a partition that has rows since `since` is complete, with the watermark here; `i64::MAX`: at the end.
    ///
    /// # Errors
    /// Where no time can be read of its values.
    pub(super) fn is_due(&self, relative: &str, since: Instant, watermark: i64) -> Result<bool> {
        if watermark == i64::MAX {
            return Ok(true);
        }
        match &self.trigger {
            Trigger::ProcessTime => Ok(since.elapsed() >= self.delay.max(LEAST)),
            Trigger::PartitionTime { pattern, formatter, zone } => {
                let time = time_of(relative, pattern.as_deref(), formatter.as_deref()).ok_or_else(|| {
                    Error::config(format!("no time can be read of partition {relative}"))
                        .because("'sink.partition-commit.trigger' = 'partition-time' needs one")
                        .next("set 'partition.time-extractor.timestamp-pattern', such as '$dt $hour:00:00'")
                })?;
                let at = zone.instant(time.and_utc().timestamp_millis());
                let delay = i64::try_from(self.delay.as_millis()).unwrap_or(i64::MAX);
                Ok(watermark > at.saturating_add(delay) && since.elapsed() >= LEAST)
            }
        }
    }

    /// When to look again at a partition that has rows since then.
    pub(super) fn look_at(&self, since: Instant) -> Option<Instant> {
        /// The watermark is looked at so often.
        const LOOK: Duration = Duration::from_secs(1);
        match &self.trigger {
            Trigger::ProcessTime => since.checked_add(self.delay.max(LEAST)),
            Trigger::PartitionTime { .. } => Instant::now().checked_add(LOOK),
        }
    }
}

/// The time that a partition's values name: the pattern with `$column` replaced, or its first value.
fn time_of(relative: &str, pattern: Option<&str>, formatter: Option<&str>) -> Option<NaiveDateTime> {
    let values = partitions::values(relative);
    let text = match pattern {
        Some(pattern) => {
            // Longer names first: `$hour` is not `$h` with `our` behind it.
            let mut sorted: Vec<_> = values.iter().collect();
            sorted.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
            sorted
                .iter()
                .fold(pattern.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value))
        }
        None => values.first()?.1.clone(),
    };
    match formatter {
        Some(formatter) => parse(&text, formatter),
        None => parse(&text, "yyyy-M-d H:m:s").or_else(|| parse(&text, "yyyy-M-d")),
    }
}

/// Reads a time by a pattern of Java's `DateTimeFormatter`, of the letters y M d H m s; what is not in it is its least.
fn parse(text: &str, pattern: &str) -> Option<NaiveDateTime> {
    let mut rest = text;
    let mut fields = [0u32, 1, 1, 0, 0, 0];
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        let Some(field) = "yMdHms".find(if letter == 'u' { 'y' } else { letter }) else {
            if letter != '\'' {
                rest = rest.strip_prefix(letter)?;
            }
            continue;
        };
        let mut width = 1;
        while letters.next_if_eq(&letter).is_some() {
            width += 1;
        }
        let most = if width == 1 { 2 } else { width };
        let digits = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at_checked(digits).filter(|_| digits >= width)?;
        *fields.get_mut(field)? = number.parse().ok()?;
        rest = behind;
    }
    let [year, month, day, hour, minute, second] = fields;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    date.and_hms_opt(hour, minute, second).filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_name_times() {
        let of = |relative: &str, pattern, formatter| {
            time_of(relative, pattern, formatter).map(|time| time.to_string())
        };
        let day = Some("2026-03-01 00:00:00".to_owned());
        assert_eq!(of("dt=2026-03-01", None, None), day);
        assert_eq!(of("dt=2026-03-01/h=7", Some("$dt $h:00:00"), None), Some("2026-03-01 07:00:00".into()));
        assert_eq!(
            of("h=07/hour=20260301", Some("$hour $h"), Some("yyyyMMdd HH")),
            Some("2026-03-01 07:00:00".into())
        );
        assert_eq!(of("dt=2026%2D03%2D01", None, None), day);
        for bad in ["dt=yesterday", "dt=2026-13-01", "dt=2026-03-01x"] {
            assert_eq!(of(bad, None, None), None, "{bad}");
        }
    }
}
