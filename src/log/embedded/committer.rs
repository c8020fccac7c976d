//! The one thread that changes the log: it takes the commits that wait, writes them as one journal entry with one
//! sync (group commit), and lets readers see them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::append::Appender;
use super::frame::FrameWriter;
use super::journal::{Journal, SectionRef};
use super::maintain::{Job, Swap};
use super::store::{Shared, Topic};
use crate::error::{Error, Kind, Result};
use crate::log::TopicDefaults;
use crate::log::partition::{Sticky, for_key};
use crate::log::{Batch, TooLarge, TopicSpec};

/// A journal file is closed at this size; so much is applied again after a crash.
const JOURNAL_BYTES: u64 = 32 << 20;
/// No more commits are put into one entry when it has this size.
const GROUP_BYTES: usize = 16 << 20;
/// Memory of the encoders that is kept from commit to commit.
const KEEP_BYTES: usize = 4 << 20;
/// A batch larger than this is refused: the journal counts a section's bytes in 32 bits, with room to spare.
const MAX_BATCH: usize = 1 << 30;

/// A batch to commit.
#[derive(Debug)]
pub struct Commit {
    /// The writer's transactional id.
    pub id: Arc<str>,
    /// The writer's epoch.
    pub epoch: u64,
    /// What to write.
    pub batch: Batch,
    /// What to make missing topics with.
    pub defaults: Arc<TopicDefaults>,
    /// Gets the emptied batch.
    pub reply: oneshot::Sender<Result<Batch>>,
}

/// What the committer is asked for.
#[derive(Debug)]
pub enum Command {
    /// Write a batch.
    Commit(Commit),
    /// Give a new writer its epoch; older ones with this id are fenced.
    Writer(Arc<str>, oneshot::Sender<Result<u64>>),
    /// Make a topic.
    Create(TopicSpec, oneshot::Sender<Result<bool>>),
    /// Remove a topic.
    Delete(String, oneshot::Sender<Result<bool>>),
    /// From maintenance: close the active segment of a partition (topic, partition), if it holds anything.
    Roll(String, i32),
    /// From maintenance: replace segments.
    Swap(Swap),
    /// Checkpoint and end.
    Close,
}

#[derive(Debug)]
struct Slot {
    topic: u64,
    number: u32,
    appender: Appender,
    writer: FrameWriter,
    used: bool,
}

/// The state of the committer's thread.
#[derive(Debug)]
pub struct Committer {
    shared: Arc<Shared>,
    journal: Journal,
    jobs: SyncSender<Job>,
    epochs: HashMap<Arc<str>, u64>,
    slots: Vec<Slot>,
    by_partition: HashMap<(u64, u32), usize>,
    sticky: Sticky,
    /// What checkpoints were to remove, and whether they held a swap, for which the disk had no room.
    put_off: (Vec<super::segment::SegmentRef>, bool),
}

impl Committer {
    /// Over a recovered log.
    pub fn new(shared: Arc<Shared>, journal: Journal, jobs: SyncSender<Job>) -> Self {
        Self {
            shared,
            journal,
            jobs,
            epochs: HashMap::new(),
            slots: Vec::new(),
            by_partition: HashMap::new(),
            sticky: Sticky::default(),
            put_off: Default::default(),
        }
    }

    /// Serves commands until [`Command::Close`], or until nobody can send any more.
    pub fn run(mut self, commands: &Receiver<Command>) {
        let mut group = Vec::new();
        let mut waiting = None;
        loop {
            let Some(command) = waiting.take().or_else(|| commands.recv().ok()) else { break };
            match command {
                Command::Commit(commit) => {
                    let mut bytes = commit.batch.bytes();
                    group.push(commit);
                    while bytes < GROUP_BYTES {
                        match commands.try_recv() {
                            Ok(Command::Commit(commit)) => {
                                bytes += commit.batch.bytes();
                                group.push(commit);
                            }
                            Ok(other) => {
                                waiting = Some(other);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.commit(&mut group);
                }
                Command::Writer(id, reply) => {
                    let epoch = self.epochs.entry(id).or_insert(0);
                    *epoch += 1;
                    let _ = reply.send(Ok(*epoch));
                }
                Command::Create(spec, reply) => {
                    let _ = reply.send(self.create(&spec));
                }
                Command::Delete(name, reply) => {
                    let _ = reply.send(self.delete(&name));
                }
                Command::Roll(topic, partition) => self.roll(&topic, partition),
                Command::Swap(swap) => self.swap(swap),
                Command::Close => break,
            }
            if self.journal.len() >= JOURNAL_BYTES {
                self.checkpoint(Vec::new(), false);
            }
        }
        self.checkpoint(Vec::new(), false);
        let _ = self.jobs.send(Job::Close);
    }

    fn healthy(&self) -> Result<()> {
        match self.shared.failed.read().as_ref() {
            None => Ok(()),
            Some(cause) => Err(Error::transient(format!(
                "the log in {} takes no more commits",
                self.shared.dir.display()
            ))
            .because(cause)
            .next("mend the cause (disk space, disk errors), then restart millstream")),
        }
    }

    fn fail(&self, cause: String) {
        tracing::error!(dir = %self.shared.dir.display(), cause, "the log takes no more commits");
        *self.shared.failed.write() = Some(cause);
    }

    fn create(&mut self, spec: &TopicSpec) -> Result<bool> {
        self.healthy()?;
        if self.shared.topic(&spec.name).is_some() {
            return Ok(false);
        }
        self.shared.add_topic(spec)?;
        self.shared.commits.send_modify(|n| *n += 1);
        Ok(true)
    }

    fn delete(&mut self, name: &str) -> Result<bool> {
        self.healthy()?;
        let Some(topic) = self.shared.remove_topic(name)? else { return Ok(false) };
        self.slots.retain(|s| s.topic != topic.id);
        self.by_partition = self.slots.iter().enumerate().map(|(i, s)| ((s.topic, s.number), i)).collect();
        self.shared.commits.send_modify(|n| *n += 1);
        Ok(true)
    }

    fn commit(&mut self, group: &mut Vec<Commit>) {
        let mut done = Vec::with_capacity(group.len());
        for commit in group.drain(..) {
            match self.encode(&commit) {
                Ok(()) => done.push((commit.batch, commit.reply)),
                Err(error) => {
                    let _ = commit.reply.send(Err(error));
                }
            }
        }
        let result = self.write();
        self.shared.commits.send_modify(|n| *n += 1);
        match result {
            Ok(()) => {
                for (mut batch, reply) in done {
                    batch.clear();
                    // A writer that gave up waiting has its answer when it asks again.
                    let _ = reply.send(Ok(batch));
                }
            }
            Err(error) => {
                for (_, reply) in done {
                    let error = Error::new(error.kind(), error.what().to_owned())
                        .because(error.cause().unwrap_or_default())
                        .next("free disk space or mend the disk, then try again");
                    let _ = reply.send(Err(error));
                }
            }
        }
    }

    /// Checks a commit and puts its records into the partitions' encoders; on an error nothing of it is there.
    fn encode(&mut self, commit: &Commit) -> Result<()> {
        self.healthy()?;
        if self.epochs.get(&commit.id) != Some(&commit.epoch) {
            return Err(Error::new(Kind::Fenced, format!("writer {} was fenced", commit.id))
                .because("a newer writer with the same transactional id has started"));
        }
        if commit.batch.bytes() > MAX_BATCH {
            return Err(Error::data(format!(
                "a batch of {} bytes is too large for the log",
                commit.batch.bytes()
            ))
            .because("at most 1 GiB is written at once"));
        }
        let mut topics: Vec<Option<Arc<Topic>>> = Vec::new();
        for record in commit.batch.iter() {
            let index = record.topic_id.index();
            if topics.len() <= index {
                topics.resize(index + 1, None);
            }
            let Some(slot) = topics.get_mut(index) else { continue };
            let topic = match slot {
                Some(topic) => &*topic,
                None => {
                    let topic = match self.shared.topic(record.topic) {
                        Some(topic) => topic,
                        None => self.shared.add_topic(&commit.defaults.spec(record.topic))?,
                    };
                    &*slot.insert(topic)
                }
            };
            let size = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            if let Some(most) = topic.config.max_message_bytes.filter(|most| size as u64 > *most) {
                return Err(Error::data(format!(
                    "a record of {size} bytes is too large for topic {}",
                    topic.name
                ))
                .because(format!("max.message.bytes of the topic is {most}"))
                .next("raise max.message.bytes of the topic")
                .with_source(TooLarge { topic: topic.name.to_string(), bytes: size }));
            }
            if record.partition.is_some_and(|p| usize::try_from(p).is_ok_and(|p| p >= topic.partitions.len()))
            {
                return Err(Error::data(format!(
                    "topic {} has {} partitions; a record names partition {}",
                    topic.name,
                    topic.partitions.len(),
                    record.partition.unwrap_or_default()
                )));
            }
        }
        let now = now_ms();
        let sticky = self.sticky;
        self.sticky.next_batch();
        let mut last: Option<(u64, u32, usize)> = None;
        for record in commit.batch.iter() {
            let Some(Some(topic)) = topics.get(record.topic_id.index()) else { continue };
            let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            let partition = match (record.partition, record.key) {
                (Some(partition), _) => partition,
                (None, Some(key)) => for_key(key, count),
                (None, None) => sticky.partition(count),
            };
            let number = u32::try_from(partition).unwrap_or(0);
            // Neighbours mostly go to the same partition.
            let index = match last {
                Some((id, partition, index)) if id == topic.id && partition == number => index,
                _ => match self.slot(topic, number) {
                    Some(index) => index,
                    None => continue,
                },
            };
            last = Some((topic.id, number, index));
            let Some(slot) = self.slots.get_mut(index) else { continue };
            slot.used = true;
            let offset = slot.appender.take_offset();
            slot.writer.push(offset, record.timestamp.unwrap_or(now), &record);
        }
        Ok(())
    }

    /// The index of a partition's slot, made if need be; `None` when there is no such partition.
    fn slot(&mut self, topic: &Topic, number: u32) -> Option<usize> {
        Some(match self.by_partition.get(&(topic.id, number)) {
            Some(index) => *index,
            None => {
                let partition = topic.partitions.get(number as usize)?;
                let appender = Appender::new(partition, topic.config.segment_bytes);
                let writer = FrameWriter::default();
                self.slots.push(Slot { topic: topic.id, number, appender, writer, used: false });
                self.by_partition.insert((topic.id, number), self.slots.len() - 1);
                self.slots.len() - 1
            }
        })
    }

    /// Writes all encoded frames, makes them durable and visible, or takes all of them back.
    fn write(&mut self) -> Result<()> {
        let mut written = Ok(());
        let mut any = false;
        for slot in self.slots.iter_mut().filter(|s| s.used) {
            any = true;
            let (bytes, frames) = slot.writer.finish();
            written = slot.appender.stage(bytes, frames);
            if written.is_err() {
                break;
            }
        }
        if !any {
            return Ok(());
        }
        if written.is_ok() {
            let used = self.slots.iter().filter(|s| s.used);
            let sections: Vec<SectionRef<'_>> = used
                .map(|s| SectionRef { topic: s.topic, partition: s.number, bytes: s.writer.parts().0 })
                .collect();
            written = self.journal.append(&sections);
            if written.is_err()
                && let Err(e) = self.journal.undo()
            {
                // After a failed sync nobody knows what is on the disk.
                self.fail(format!("the journal could not be repaired after a failed write: {e}"));
            }
        }
        let ok = written.is_ok();
        let mut kept = 0;
        for slot in self.slots.iter_mut().filter(|s| s.used) {
            slot.used = false;
            if ok {
                slot.appender.publish();
            } else if let Err(e) = slot.appender.take_back() {
                tracing::warn!(partition = ?slot.appender.partition.at, error = %e, "could not shorten a file after a failed write");
            }
            slot.writer.clear();
            kept += slot.writer.shrink(KEEP_BYTES.saturating_sub(kept));
        }
        written.map_err(|e| super::manifest::io("cannot write a commit to the log in", &self.shared.dir, e))
    }

    fn roll(&mut self, topic: &str, partition: i32) {
        let Some(topic) = self.shared.topic(topic) else { return };
        let index = u32::try_from(partition).ok().and_then(|n| self.slot(&topic, n));
        if let Some(slot) = index.and_then(|i| self.slots.get_mut(i)) {
            slot.appender.roll_if_used();
        }
    }

    fn swap(&mut self, swap: Swap) {
        let Swap { partition, removed, added, start, cleaned_to } = swap;
        {
            let mut view = partition.view.write();
            view.segments.retain(|s| !removed.iter().any(|r| Arc::ptr_eq(r, s)));
            view.segments.extend(added);
            view.segments.sort_by_key(|s| s.base);
            view.start = view.start.max(start);
            view.cleaned_to = view.cleaned_to.max(cleaned_to);
        }
        self.checkpoint(removed, true);
    }

    /// Starts a new journal file and has everything before it synced in the background.
    fn checkpoint(&mut self, remove: Vec<super::segment::SegmentRef>, swapped: bool) {
        if self.healthy().is_err() {
            return;
        }
        match self.journal.rotate() {
            Ok(sequence) => {
                let (earlier, swapped_earlier) = std::mem::take(&mut self.put_off);
                let (remove, swapped) = ([remove, earlier].concat(), swapped || swapped_earlier);
                let manifest = self.shared.manifest(self.journal.number(), sequence);
                // Waits when maintenance is far behind: that is what bounds the journal.
                let _ = self.jobs.send(Job::Checkpoint { manifest, remove, swapped });
            }
            Err(e) if super::manifest::is_full(&e) => {
                tracing::warn!(dir = %self.shared.dir.display(), "no room for a new journal file: the old one goes on");
                self.put_off.0.extend(remove);
                self.put_off.1 |= swapped;
            }
            Err(e) => self.fail(format!("the journal could not go on with a new file: {e}")),
        }
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
