//! Sources: tasks that read topics or files and hand what they read to the pipeline's thread, bounded in bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::options::{End, SourceKind, Startup, TopicOptions, Topics};
use super::status::Shared;
use crate::config::AddressMap;
use crate::engine::plan::TableRef;
use crate::error::{Error, Kind, Result};
use crate::log::{Fetched, Log, LogReader, Position, TopicPartition};

/// Bytes of records that all sources of a pipeline may have read and not processed.
pub(super) const READ_AHEAD: usize = 16 << 20;
/// Bytes that one poll asks for.
pub(super) const POLL_BYTES: usize = 1 << 20;
/// After so long without a record, what holds back the rest of what was there is looked for.
const QUIET: Duration = Duration::from_secs(2);
/// A topic that is gone is asked for once more after this time.
const SETTLE: Duration = Duration::from_secs(3);
/// How often topics are looked at where new partitions are not looked for.
const LOOK: Duration = Duration::from_secs(10);
/// A log that takes longer to answer is shown as away.
const ANSWER: Duration = Duration::from_secs(2);
const WAIT_FOR_TOPIC: Duration = Duration::from_millis(250);

/// What sources tell the pipeline's thread.
pub(super) enum SourceEvent {
    /// Records, and the room they take until they are processed.
    Records { source: usize, fetched: Fetched, permit: OwnedSemaphorePermit },
    /// All partitions that a source reads or has read, in an order that only grows, over restarts too; and where the
    /// reading of each begins. At the start, and when one appears.
    Partitions { source: usize, partitions: Vec<TopicPartition>, begin: Vec<(TopicPartition, i64)> },
    /// A bounded source has been read to its end.
    Ended { source: usize },
    /// A source cannot go on.
    Failed { error: Error },
}

/// The state's name of an input partition.
pub(super) fn position_key(source: &str, at: &TopicPartition) -> String {
    format!("{source}/{}/{}", at.topic, at.partition)
}

/// What a source task works with.
pub(super) struct SourceTask<E> {
    pub(super) index: usize,
    /// The plan node's name.
    pub(super) name: String,
    /// The table's name, for messages.
    pub(super) table: String,
    pub(super) kind: SourceKind,
    /// The table as its options have it.
    pub(super) definition: Arc<TableRef>,
    /// `--connect-to`.
    pub(super) addresses: AddressMap,
    pub(super) log: Arc<dyn Log>,
    /// Offsets of the state.
    pub(super) positions: BTreeMap<String, i64>,
    /// What was read of those that go by a key.
    pub(super) keys: BTreeMap<String, String>,
    /// Numbers of partitions in the state.
    pub(super) numbers: BTreeMap<String, u32>,
    pub(super) wait_for_topics: bool,
    pub(super) room: Arc<Semaphore>,
    pub(super) events: Sender<E>,
    pub(super) shared: Arc<Shared>,
    pub(super) stop: watch::Receiver<bool>,
    /// Set for a bounded look at the log: offsets to stop before, by [`position_key`]; partitions that are not in
    /// it are not read.
    pub(super) until: Option<BTreeMap<String, i64>>,
}

struct Assigned {
    next: i64,
    end: Option<i64>,
    /// The partition's end when it was assigned, with what was written and not committed; no further than `end`.
    present: i64,
}

impl<E: From<SourceEvent> + Send + 'static> SourceTask<E> {
    /// Runs until the end, a failure, or the stop.
    pub(super) async fn run(mut self) {
        let mut stop = self.stop.clone();
        let read = async {
            match self.kind.clone() {
                SourceKind::Topics(options) => self.topics(&options).await,
                SourceKind::Files { path, monitor, pattern } => {
                    self.files(Path::new(&path), monitor, pattern.as_ref()).await
                }
                SourceKind::Table => self.table().await,
                SourceKind::Generated(generator) => self.generate(&generator).await,
            }
        };
        let result = tokio::select! {
            result = read => result,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let event = match result {
            Ok(()) => {
                self.shared.behind(&self.name, false);
                SourceEvent::Ended { source: self.index }
            }
            Err(error) => SourceEvent::Failed { error },
        };
        self.send(event);
    }

    /// The thread on the other side has ended where this fails; then nobody needs the event.
    fn send(&self, event: SourceEvent) {
        let _ = self.events.send(E::from(event));
    }

    pub(super) async fn hand_over(&self, fetched: Fetched) -> Result<()> {
        // One fetch may be larger than the room (a record of many megabytes): it then takes all of it.
        let bytes = fetched.bytes().clamp(1, READ_AHEAD);
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.room)
            .acquire_many_owned(permits)
            .await
            .map_err(|e| Error::internal("the pipeline's read-ahead is closed").with_source(e))?;
        self.send(SourceEvent::Records { source: self.index, fetched, permit });
        Ok(())
    }

    /// Reads topics, through any number of lost connections.
    async fn topics(&mut self, options: &TopicOptions) -> Result<()> {
        let mut assigned: BTreeMap<TopicPartition, Assigned> = BTreeMap::new();
        let mut pause = Duration::from_millis(100);
        loop {
            match self.read_topics(options, &mut assigned, &mut pause).await {
                Err(error) if error.is_transient() => {
                    self.shared.retrying(&self.name, Some(error.screen()));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                other => return other,
            }
        }
    }

    async fn read_topics(
        &mut self,
        options: &TopicOptions,
        assigned: &mut BTreeMap<TopicPartition, Assigned>,
        pause: &mut Duration,
    ) -> Result<()> {
        let mut reader = self.log.reader().await?;
        for (at, partition) in assigned.iter() {
            reader.assign(at.clone(), partition.next).await?;
        }
        let mut looked = self.discover(options, assigned, reader.as_mut()).await?;
        let mut moved = std::time::Instant::now();
        let mut behind = true;
        loop {
            if behind && assigned.values().all(|p| p.next >= p.present) {
                behind = false;
                self.shared.behind(&self.name, false);
            }
            let bounded = self.until.is_some() || options.end != End::Never;
            if bounded && assigned.values().all(|p| p.end.is_some_and(|end| p.next >= end)) {
                return Ok(());
            }
            let fetched = reader.poll(POLL_BYTES, Duration::from_secs(1)).await.map_err(|e| self.lost(e))?;
            if behind && fetched.next_offsets().is_empty() && moved.elapsed() >= QUIET {
                let why = self.held_back(assigned).await?;
                if why.is_none() {
                    behind = false;
                    self.shared.behind(&self.name, false);
                }
                self.shared.waiting(&self.name, why);
                moved = std::time::Instant::now();
            }
            if fetched.next_offsets().is_empty() && reader.is_cut_off() {
                self.look_for_log().await?;
            }
            self.shared.retrying(&self.name, None);
            *pause = Duration::from_millis(100);
            if !fetched.next_offsets().is_empty() {
                if behind {
                    self.shared.waiting(&self.name, None);
                }
                moved = std::time::Instant::now();
                let mut done = Vec::new();
                for (at, next) in fetched.next_offsets() {
                    if let Some(partition) = assigned.get_mut(at.as_ref()) {
                        partition.next = *next;
                        if partition.end.is_some_and(|end| *next >= end) {
                            done.push(Arc::clone(at));
                        }
                    }
                }
                let fetched = if done.is_empty() { fetched } else { cut(&fetched, assigned) };
                self.hand_over(fetched).await?;
                for at in done {
                    reader.unassign(&at).await?;
                }
            }
            if self.until.is_none() && looked.elapsed() >= options.discovery.unwrap_or(LOOK) {
                looked = self.discover(options, assigned, reader.as_mut()).await?;
            }
        }
    }

    /// The log could not be reached at a time: says what is wrong, where it still is.
    async fn look_for_log(&self) -> Result<()> {
        let mut asked = std::pin::pin!(self.log.topics());
        match tokio::time::timeout(ANSWER, &mut asked).await {
            Ok(answer) => answer.map(drop),
            Err(_) => {
                let error = Error::transient(format!("{} does not answer", self.log.describe()))
                    .next("check the address, and that it runs; millstream tries again by itself");
                self.shared.retrying(&self.name, Some(error.screen()));
                asked.await.map(drop)
            }
        }
    }

    /// Why nothing comes though not all is read that was there: on Kafka an open transaction hides what lies behind
    /// its first record. `None`: what is left gives no record (marks of transactions, what compaction has removed).
    async fn held_back(&self, assigned: &BTreeMap<TopicPartition, Assigned>) -> Result<Option<String>> {
        let unread = assigned.iter().filter(|(_, p)| p.next < p.present);
        for topic in unread.map(|(at, _)| &at.topic).collect::<BTreeSet<_>>() {
            let Some(info) = self.log.topic(topic).await? else { continue };
            for (partition, range) in (0..).zip(&info.partitions) {
                let at = TopicPartition { topic: Arc::clone(topic), partition };
                if assigned.get(&at).is_some_and(|p| range.end < p.present) {
                    return Ok(Some(format!(
                        "table {}: topic {topic}, partition {partition}: a transaction that is not committed yet holds \
                         back the records from offset {} on",
                        self.table, range.end
                    )));
                }
            }
        }
        Ok(None)
    }

    /// An offset that the log no longer holds.
    fn lost(&self, error: Error) -> Error {
        if error.kind() == Kind::Refused && error.next_step().is_none() {
            return error.next(
                "a topic that was deleted and made anew is another one: take it out of the SQL, or start the pipeline \
                 anew with `millstream pipelines reset`",
            );
        }
        if error.kind() != Kind::Data {
            return error;
        }
        Error::data(format!("table {}: the log cannot be read on from where the pipeline stopped", self.table))
            .because(error)
            .next(
                "rows may be lost if it goes on elsewhere: raise the topic's retention, and start the pipeline anew \
                 with `millstream pipelines reset`",
            )
    }

    /// Assigns partitions that are not read yet; fails where a topic that is read has been deleted, or made anew.
    async fn discover(
        &mut self,
        options: &TopicOptions,
        assigned: &mut BTreeMap<TopicPartition, Assigned>,
        reader: &mut dyn LogReader,
    ) -> Result<std::time::Instant> {
        let first = assigned.is_empty();
        let mut found = Vec::new();
        // New partitions are not wanted; whether the known ones are still there is looked after all the same.
        let look_only = !first && options.discovery.is_none();
        let of_source = format!("{}/", self.name);
        // A pipeline that has run before begins where it stopped, also in what it has not seen yet.
        let resumed = self.positions.keys().any(|key| key.starts_with(&of_source));
        for name in self.topic_names(&options.topics, first).await? {
            let mut info = self.log.topic(&name).await?;
            if info.is_none()
                && matches!(options.topics, Topics::List(_))
                && assigned.keys().any(|at| *at.topic == *name)
            {
                // A broker that has just come back may not know all topics yet.
                tokio::time::sleep(SETTLE).await;
                info = self.log.topic(&name).await?;
                if info.is_none() {
                    return Err(self.lost(Error::refused(format!("topic {name} was deleted"))));
                }
            }
            let Some(info) = info else { continue };
            let topic: Arc<str> = Arc::from(name.as_str());
            let mut written = None;
            for (partition, range) in (0..).zip(&info.partitions) {
                let at = TopicPartition { topic: Arc::clone(&topic), partition };
                if let Some(known) = assigned.get(&at) {
                    if range.end < known.next
                        && self.written_end(&at).await?.is_some_and(|end| end < known.next)
                    {
                        return Err(self.lost(Error::data(format!(
                            "topic {name}, partition {partition}: it ends at offset {}, and offset {} was read",
                            range.end, known.next
                        ))));
                    }
                    continue;
                }
                if look_only {
                    continue;
                }
                let key = position_key(&self.name, &at);
                let end = match (&self.until, &options.end) {
                    (Some(until), _) => match until.get(&key) {
                        Some(end) => Some(*end),
                        None => continue,
                    },
                    (None, End::Never) => None,
                    (None, End::Latest) => Some(range.end),
                    (None, End::Group) => Some(self.of_group(options, &at).await?.unwrap_or(range.end)),
                    (None, End::Timestamp(ms)) => {
                        Some(self.log.resolve(&at, Position::Timestamp(*ms)).await?)
                    }
                    (None, End::Specific(ends)) => Some(ends.get(&partition).copied().unwrap_or(range.end)),
                };
                let next = match (self.positions.get(&key), &options.startup) {
                    (Some(offset), _) => *offset,
                    // A partition that appeared later is read from its start, or its first records were lost.
                    (None, _) if !first || resumed => range.earliest,
                    (None, Startup::At(position)) => self.log.resolve(&at, *position).await?,
                    (None, Startup::Group(otherwise)) => match self.of_group(options, &at).await? {
                        Some(offset) => offset,
                        None => self.log.resolve(&at, *otherwise).await?,
                    },
                    (None, Startup::Specific(offsets)) => {
                        offsets.get(&partition).copied().unwrap_or(range.earliest)
                    }
                };
                if next < range.earliest {
                    return Err(self.lost(Error::data(format!(
                        "topic {name}, partition {partition}: offset {next} is no longer kept, the first is {}",
                        range.earliest
                    ))));
                }
                let written = match &written {
                    Some(written) => written,
                    None => written.insert(self.log.written_ends(&name).await?),
                };
                let present = usize::try_from(partition).ok().and_then(|p| written.get(p)).copied();
                let present = present.unwrap_or(range.end).min(end.unwrap_or(i64::MAX));
                found.push((at, Assigned { next, end, present }));
            }
        }
        // Only when the look has gone well as a whole: the first one decides where each partition begins.
        if !found.is_empty() {
            let new: Vec<_> = found.iter().map(|(at, p)| (at.clone(), p.next, p.end)).collect();
            assigned.extend(found);
            number(&mut self.numbers, &self.name, assigned.keys());
            let begin = assigned.iter().map(|(at, p)| (at.clone(), p.next)).collect();
            let partitions = numbered(&self.numbers, &self.name);
            self.send(SourceEvent::Partitions { source: self.index, partitions, begin });
            for (at, next, end) in new {
                if end.is_none_or(|end| next < end) {
                    reader.assign(at, next).await?;
                }
            }
        }
        Ok(std::time::Instant::now())
    }

    /// Where a partition ends with what is not committed yet.
    async fn written_end(&self, at: &TopicPartition) -> Result<Option<i64>> {
        let ends = self.log.written_ends(&at.topic).await?;
        Ok(usize::try_from(at.partition).ok().and_then(|p| ends.get(p)).copied())
    }

    /// What the table's consumer group has committed.
    async fn of_group(&self, options: &TopicOptions, at: &TopicPartition) -> Result<Option<i64>> {
        match &options.group {
            Some(group) => self.log.group_offset(group, at).await,
            None => Ok(None),
        }
    }

    /// The topics to read. On the first look they must exist, or are waited for.
    async fn topic_names(&self, topics: &Topics, first: bool) -> Result<Vec<String>> {
        loop {
            let existing = self.log.topics().await?;
            let missing = match topics {
                Topics::List(list) => match list.iter().find(|t| !existing.contains(t)) {
                    Some(missing) if first => {
                        // Brokers do not list what may not be read: asked for it, they say so.
                        self.log.topic(missing).await?;
                        format!("topic {missing} does not exist")
                    }
                    _ => {
                        self.shared.waiting(&self.name, None);
                        return Ok(list.clone());
                    }
                },
                Topics::Pattern(pattern) => {
                    let found: Vec<String> =
                        existing.iter().filter(|t| pattern.is_match(t)).cloned().collect();
                    if !found.is_empty() || !first {
                        self.shared.waiting(&self.name, None);
                        return Ok(found);
                    }
                    format!("no topic matches {}", pattern.as_str())
                }
            };
            if !self.wait_for_topics {
                return Err(missing_topic(&self.table, &missing, topics, &existing, self.log.as_ref()));
            }
            self.shared.waiting(&self.name, Some(format!("table {}: {missing} yet", self.table)));
            tokio::time::sleep(WAIT_FOR_TOPIC).await;
        }
    }
}

/// Gives numbers to a source's partitions that have none yet, behind those that are known.
fn number<'a>(
    numbers: &mut BTreeMap<String, u32>,
    source: &str,
    partitions: impl Iterator<Item = &'a TopicPartition>,
) {
    let prefix = format!("{source}/");
    let known = numbers.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, number)| *number).max();
    let mut next = known.map_or(0, |number| number.saturating_add(1));
    for at in partitions {
        numbers.entry(position_key(source, at)).or_insert_with(|| {
            let number = next;
            next = next.saturating_add(1);
            number
        });
    }
}

/// A source's partitions in the order of their numbers, those that are gone too.
fn numbered(numbers: &BTreeMap<String, u32>, source: &str) -> Vec<TopicPartition> {
    let prefix = format!("{source}/");
    let mut all: Vec<(u32, TopicPartition)> = numbers
        .iter()
        .filter_map(|(key, number)| {
            let (topic, partition) = key.strip_prefix(&prefix)?.rsplit_once('/')?;
            Some((*number, TopicPartition::new(topic, partition.parse().ok()?)))
        })
        .collect();
    all.sort_by_key(|(number, _)| *number);
    all.into_iter().map(|(_, at)| at).collect()
}

/// Leaves out what lies at or behind a partition's end.
fn cut(fetched: &Fetched, assigned: &BTreeMap<TopicPartition, Assigned>) -> Fetched {
    let end = |at: &TopicPartition| assigned.get(at).and_then(|p| p.end).unwrap_or(i64::MAX);
    let mut kept = Fetched::default();
    let mut partitions: Vec<Arc<TopicPartition>> = Vec::new();
    for record in fetched.iter().filter(|r| r.offset < end(r.at)) {
        let at = match partitions.iter().find(|p| p.as_ref() == record.at) {
            Some(at) => Arc::clone(at),
            None => {
                let at = Arc::new(record.at.clone());
                partitions.push(Arc::clone(&at));
                at
            }
        };
        kept.push(&at, record.offset, record.timestamp, record.key, record.value, record.headers());
        kept.leader_epoch(record.leader_epoch);
    }
    for (at, next) in fetched.next_offsets() {
        kept.moved(at, (*next).min(end(at)));
    }
    kept
}

fn missing_topic(table: &str, what: &str, topics: &Topics, existing: &[String], log: &dyn Log) -> Error {
    let nearest = match topics {
        Topics::List(list) => list
            .iter()
            .filter(|t| !existing.contains(t))
            .flat_map(|wanted| existing.iter().map(move |t| (strsim::jaro_winkler(wanted, t), t)))
            .filter(|(score, _)| *score > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, t)| t.clone()),
        Topics::Pattern(_) => None,
    };
    let mut shown: Vec<&str> = existing.iter().map(String::as_str).collect();
    let more = shown.len().saturating_sub(20);
    shown.truncate(20);
    let mut cause = if shown.is_empty() {
        format!("{} has no topics", log.describe())
    } else {
        format!("{} has: {}", log.describe(), shown.join(", "))
    };
    if more > 0 {
        cause.push_str(&format!(" and {more} more"));
    }
    let error = Error::config(format!("table {table}: {what}")).because(cause);
    match nearest {
        Some(nearest) => error.next(format!("did you mean {nearest}?")),
        None => error.next("start the connector that writes it first, or correct 'topic' in the table"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_keep_their_numbers_over_restarts() {
        let at = TopicPartition::new;
        let mut numbers = BTreeMap::from([("other/a/0".to_owned(), 7)]);
        number(&mut numbers, "s", [at("a", 0), at("b", 0)].iter());
        // One more of the first topic, and none of the second: it was deleted.
        number(&mut numbers, "s", [at("a", 0), at("a", 1)].iter());
        assert_eq!(numbered(&numbers, "s"), [at("a", 0), at("b", 0), at("a", 1)]);
        assert_eq!(numbered(&numbers, "other").len(), 1);
    }
}
