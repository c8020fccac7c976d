//! Watches a topic and the pipeline, so that a change can be told where it came by, and when.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use memchr::memmem;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::error::Result;
use crate::log::{Log, Position, Record, TopicPartition};
use crate::pg::Lsn;
use crate::runtime::Hop;

/// What is remembered of each kind.
const KEPT: usize = 4096;

/// An event of the watched key.
#[derive(Clone, Debug)]
pub(super) struct Event {
    /// The number in the watched column.
    pub(super) value: i64,
    /// Position of the change in the write-ahead log.
    pub(super) lsn: Lsn,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// When a reader of the topic had it.
    pub(super) at: SystemTime,
}

/// An epoch that is in the state, with the watched topic's next offsets.
#[derive(Clone, Debug)]
pub(super) struct Epoch {
    pub(super) number: u64,
    /// Partition and next offset.
    next: Vec<(i32, i64)>,
    pub(super) at: SystemTime,
}

#[derive(Debug, Default)]
struct Seen {
    events: VecDeque<Event>,
    epochs: VecDeque<Epoch>,
}

/// What to look for in the topic.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) topic: String,
    /// Bytes that the key of the watched record holds.
    pub(super) key: &'static str,
    /// Name of an integer column whose new value tells the changes apart.
    pub(super) column: &'static str,
}

/// Two tasks that watch; they end with this.
#[derive(Debug)]
pub(super) struct Hops {
    seen: Arc<Mutex<Seen>>,
    tasks: [JoinHandle<()>; 2],
}

impl Hops {
    /// Begins to watch the topic from its present end.
    ///
    /// # Errors
    /// When the topic cannot be read.
    pub(super) async fn watch(
        log: &Arc<dyn Log>,
        watched: Watched,
        mut pipeline: mpsc::Receiver<Hop>,
    ) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut reader = log.reader().await?;
        let partitions = log.topic(&watched.topic).await?.map_or(0, |t| t.partitions.len());
        for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
            let at = TopicPartition { topic: watched.topic.as_str().into(), partition };
            let end = log.resolve(&at, Position::Latest).await?;
            reader.assign(at, end).await?;
        }
        let suffix = format!("/{}/", watched.topic);
        let into = Arc::clone(&seen);
        let events = tokio::spawn(async move {
            // The show goes on without this hop when the topic cannot be read; the pipeline says why.
            while let Ok(fetched) = reader.poll(1 << 20, Duration::from_secs(1)).await {
                let found = fetched.iter().filter_map(|record| event(&record, &watched));
                let mut seen = into.lock();
                seen.events.extend(found);
                let surplus = seen.events.len().saturating_sub(KEPT);
                seen.events.drain(..surplus);
            }
        });
        let into = Arc::clone(&seen);
        let epochs = tokio::spawn(async move {
            while let Some(hop) = pipeline.recv().await {
                let Hop::State { epoch, positions, at } = hop else { continue };
                let next = positions
                    .iter()
                    .filter_map(|(input, next)| {
                        let (_, partition) = input.split_once(&suffix)?;
                        Some((partition.parse().ok()?, *next))
                    })
                    .collect();
                let mut seen = into.lock();
                seen.epochs.push_back(Epoch { number: epoch, next, at });
                let surplus = seen.epochs.len().saturating_sub(KEPT);
                seen.epochs.drain(..surplus);
            }
        });
        Ok(Self { seen, tasks: [events, epochs] })
    }

    /// The event with this number in the watched column, if it has come by.
    pub(super) fn event(&self, value: i64) -> Option<Event> {
        self.seen.lock().events.iter().find(|e| e.value == value).cloned()
    }

    /// The first epoch that holds this event, if it is in the state.
    pub(super) fn epoch_of(&self, event: &Event) -> Option<Epoch> {
        let past = |e: &&Epoch| e.next.iter().any(|(p, next)| *p == event.partition && *next > event.offset);
        self.seen.lock().epochs.iter().find(past).cloned()
    }
}

impl Drop for Hops {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Reads what the show needs out of a Debezium event, by its text: the row after, then the source block.
fn event(record: &Record<'_>, watched: &Watched) -> Option<Event> {
    memmem::find(record.key?, watched.key.as_bytes())?;
    let value = record.value?;
    let payload = value.get(memmem::find(value, b"\"payload\":").unwrap_or(0)..)?;
    let after = payload.get(memmem::find(payload, b"\"after\":")?..)?;
    let source = after.get(memmem::find(after, b"\"source\":{")?..)?;
    Some(Event {
        value: number(after, watched.column)?,
        lsn: Lsn(u64::try_from(number(source, "lsn")?).ok()?),
        partition: record.at.partition,
        offset: record.offset,
        at: SystemTime::now(),
    })
}

/// The integer behind the first `"name":` of a JSON text.
fn number(json: &[u8], name: &str) -> Option<i64> {
    let label = format!("\"{name}\":");
    let rest = json.get(memmem::find(json, label.as_bytes())? + label.len()..)?;
    let end = rest.iter().position(|b| !(b.is_ascii_digit() || *b == b'-')).unwrap_or(rest.len());
    std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_name() {
        let json = br#"{"after":{"id":7,"stock":-12},"source":{"lsn":99}}"#;
        assert_eq!(number(json, "stock"), Some(-12));
        assert_eq!(number(json, "lsn"), Some(99));
        assert_eq!(number(json, "id"), Some(7));
        assert_eq!(number(json, "none"), None);
    }
}
