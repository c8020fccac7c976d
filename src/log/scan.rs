//! Reading a stretch of a topic to its end.

use std::time::{Duration, Instant};

use super::{Log, Record, TopicPartition};
use crate::error::{Error, Result};

/// Bytes fetched at once.
const FETCH: usize = 1 << 20;
/// How long nothing may come. A transaction of another writer's that was left open holds back what is behind it
/// until the broker ends it: a minute by default, and the ten seconds after which brokers look at it.
const PATIENCE: Duration = Duration::from_secs(90);

/// Gives each committed record of a partition from `start` up to before `end`.
///
/// # Errors
/// When the log cannot be read; [`crate::Kind::Transient`] when the end does not come in 90 s.
pub async fn scan(
    log: &dyn Log,
    at: &TopicPartition,
    start: i64,
    end: i64,
    mut each: impl FnMut(Record<'_>) -> Result<()>,
) -> Result<()> {
    if start >= end {
        return Ok(());
    }
    let mut reader = log.reader().await?;
    reader.assign(at.clone(), start).await?;
    let (mut next, mut moved) = (start, Instant::now());
    while next < end {
        let fetched = reader.poll(FETCH, Duration::from_secs(1)).await?;
        for record in fetched.iter().filter(|r| r.offset < end) {
            each(record)?;
        }
        match fetched.next_offsets().iter().map(|(_, offset)| *offset).max() {
            Some(offset) if offset > next => (next, moved) = (offset, Instant::now()),
            _ if moved.elapsed() < PATIENCE => {}
            _ => {
                return Err(Error::transient(format!(
                    "cannot read {}-{} to its end at {}",
                    at.topic,
                    at.partition,
                    log.describe()
                ))
                .because(format!(
                    "no record between offsets {next} and {end} came within {} s",
                    PATIENCE.as_secs()
                )));
            }
        }
    }
    Ok(())
}
