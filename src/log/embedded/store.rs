//! What committer, readers and maintenance share: the topics and what of them is committed.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use tokio::sync::watch;

use super::manifest::{self, Manifest, PartitionState, SegmentEntry, TopicFile, io};
use super::segment::{Segment, SegmentRef, SegmentState};
use crate::error::{Error, Result};
use crate::log::topic::TopicConfig;
use crate::log::{OffsetRange, TopicPartition, TopicSpec};

/// A topic.
#[derive(Debug)]
pub struct Topic {
    /// Random id.
    pub id: u64,
    /// Name.
    pub name: Arc<str>,
    /// Configs as given.
    pub configs: BTreeMap<String, String>,
    /// Those acted on.
    pub config: TopicConfig,
    /// Partitions by number.
    pub partitions: Vec<Arc<Partition>>,
    /// Set when the topic is removed: readers that hold it fail.
    pub deleted: AtomicBool,
}

/// A partition.
#[derive(Debug)]
pub struct Partition {
    /// Topic and number.
    pub at: Arc<TopicPartition>,
    /// Its directory.
    pub dir: PathBuf,
    /// What is committed.
    pub view: RwLock<View>,
}

/// What of a partition is committed. Only the committer changes it.
#[derive(Debug)]
pub struct View {
    /// First offset kept.
    pub start: i64,
    /// Offset of the next record.
    pub end: i64,
    /// Compaction has seen everything before this offset.
    pub cleaned_to: i64,
    /// Files by base offset; never empty; the last one is appended to.
    pub segments: Vec<SegmentRef>,
}

impl View {
    /// The segment that holds an offset, or would.
    pub fn segment_at(&self, offset: i64) -> Option<&SegmentRef> {
        let after = self.segments.partition_point(|s| s.base <= offset);
        self.segments.get(after.saturating_sub(1))
    }

    /// The segment after this one.
    pub fn segment_after(&self, base: i64) -> Option<&SegmentRef> {
        self.segments.get(self.segments.partition_point(|s| s.base <= base))
    }

    /// Earliest and end offset.
    pub fn range(&self) -> OffsetRange {
        OffsetRange { earliest: self.start, end: self.end }
    }

    /// For the manifest.
    pub fn state(&self) -> PartitionState {
        let segments = self
            .segments
            .iter()
            .map(|s| {
                let SegmentState { len, last, max_timestamp } = s.state();
                SegmentEntry { base: s.base, generation: s.generation, len, last, max_timestamp }
            })
            .collect();
        PartitionState { start: self.start, next: self.end, cleaned_to: self.cleaned_to, segments }
    }
}

impl Partition {
    fn open(topic_dir: &Path, topic: &Arc<str>, number: u32, state: Option<&PartitionState>) -> Self {
        let dir = topic_dir.join(number.to_string());
        let at = Arc::new(TopicPartition {
            topic: Arc::clone(topic),
            partition: i32::try_from(number).unwrap_or(i32::MAX),
        });
        let mut view = View { start: 0, end: 0, cleaned_to: 0, segments: Vec::new() };
        if let Some(state) = state {
            view.start = state.start;
            view.end = state.next;
            view.cleaned_to = state.cleaned_to;
            view.segments.extend(state.segments.iter().map(|s| {
                let known = SegmentState { len: s.len, last: s.last, max_timestamp: s.max_timestamp };
                Arc::new(Segment::new(&dir, s.base, s.generation, known))
            }));
        }
        if view.segments.is_empty() {
            view.segments.push(Arc::new(Segment::new(&dir, view.end, 0, SegmentState::empty(view.end))));
        }
        Self { at, dir, view: RwLock::new(view) }
    }

    /// Removes what no manifest knows and cuts the last segment back to what the manifest says.
    fn restore_files(&self) -> Result<()> {
        let view = self.view.read();
        let known: Vec<&Path> = view.segments.iter().map(|s| s.path.as_path()).collect();
        std::fs::create_dir_all(&self.dir).map_err(|e| io("cannot make", &self.dir, e))?;
        let entries = std::fs::read_dir(&self.dir).map_err(|e| io("cannot read", &self.dir, e))?;
        for entry in entries {
            let path = entry.map_err(|e| io("cannot read", &self.dir, e))?.path();
            if !known.contains(&path.with_extension("log").as_path()) {
                std::fs::remove_file(&path).map_err(|e| io("cannot remove", &path, e))?;
            }
        }
        for (i, segment) in view.segments.iter().enumerate() {
            let found = match std::fs::metadata(&segment.path) {
                Ok(metadata) => metadata.len(),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && segment.len() == 0 => 0,
                Err(e) => {
                    return Err(Error::data(format!("the log's file {} is missing", segment.path.display()))
                        .with_source(e));
                }
            };
            if found < segment.len() {
                return Err(Error::data(format!("the log's file {} is too short", segment.path.display()))
                    .because(format!("it has {found} bytes, {} were committed", segment.len()))
                    .next(
                        "restore the data directory from a backup, or delete the topic and capture it again",
                    ));
            }
            if found > segment.len() && i + 1 == view.segments.len() {
                let file = std::fs::File::options().write(true).open(&segment.path);
                file.and_then(|f| f.set_len(segment.len()))
                    .map_err(|e| io("cannot shorten", &segment.path, e))?;
            }
        }
        if let Some(active) = view.segments.last() {
            active.seek_offset(0)?;
        }
        Ok(())
    }
}

/// What all parts of an open log share.
#[derive(Debug)]
pub struct Shared {
    /// The log's directory.
    pub dir: PathBuf,
    /// Topics by name.
    pub topics: RwLock<HashMap<Arc<str>, Arc<Topic>>>,
    /// Counts commits; wakes readers.
    pub commits: watch::Sender<u64>,
    /// Why no more commits are taken, if so.
    pub failed: RwLock<Option<String>>,
}

impl Shared {
    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().get(name).map(Arc::clone)
    }

    /// A partition, or why not.
    ///
    /// # Errors
    /// [`crate::Kind::Refused`] when topic or partition do not exist.
    pub fn partition(&self, at: &TopicPartition) -> Result<(Arc<Topic>, Arc<Partition>)> {
        let topic = self.topic(&at.topic).ok_or_else(|| self.unknown_topic(&at.topic))?;
        let partition =
            usize::try_from(at.partition).ok().and_then(|n| topic.partitions.get(n)).map(Arc::clone);
        match partition {
            Some(partition) => Ok((topic, partition)),
            None => Err(Error::refused(format!("topic {} has no partition {}", at.topic, at.partition))
                .because(format!("it has {} partitions, from 0 on", topic.partitions.len()))),
        }
    }

    /// The error for a topic that is not there, with the nearest name.
    pub fn unknown_topic(&self, name: &str) -> Error {
        let error = Error::refused(format!("topic {name} does not exist in file:{}", self.dir.display()));
        let topics = self.topics.read();
        let near = topics.keys().min_by_key(|t| strsim::damerau_levenshtein(t, name));
        match near.filter(|t| strsim::damerau_levenshtein(t, name) <= 2 + name.len() / 4) {
            Some(near) => error.next(format!("did you mean {near}?")),
            None => error.next("millstream topics list shows those that exist"),
        }
    }

    /// Directory of the topics.
    pub fn topics_dir(&self) -> PathBuf {
        self.dir.join("topics")
    }

    /// Directory of the journal.
    pub fn journal_dir(&self) -> PathBuf {
        self.dir.join("journal")
    }

    /// The state of all partitions; the caller must be the committer.
    pub fn manifest(&self, journal: u64, sequence: u64) -> Manifest {
        let topics = self.topics.read();
        let topics = topics
            .values()
            .map(|t| (t.id, t.partitions.iter().map(|p| p.view.read().state()).collect()))
            .collect();
        Manifest { version: manifest::VERSION, journal, sequence, topics }
    }

    /// All partitions with their topics.
    pub fn all_partitions(&self) -> Vec<(Arc<Topic>, Arc<Partition>)> {
        let topics = self.topics.read();
        topics.values().flat_map(|t| t.partitions.iter().map(|p| (Arc::clone(t), Arc::clone(p)))).collect()
    }

    /// Makes a topic's files and takes it in; the caller must be the committer.
    ///
    /// # Errors
    /// Of the file system.
    pub fn add_topic(&self, spec: &TopicSpec) -> Result<Arc<Topic>> {
        crate::log::topic::check_name(&spec.name)?;
        let config = TopicConfig::parse(&spec.configs)?;
        let partitions = u32::try_from(spec.partitions.unwrap_or(1))
            .ok()
            .filter(|n| (1..=100_000).contains(n))
            .ok_or_else(|| Error::config(format!("topic {} cannot have that many partitions", spec.name)))?;
        let file = TopicFile {
            id: rand::random(),
            name: spec.name.clone(),
            partitions,
            configs: spec.configs.clone(),
        };
        let dir = self.topics_dir();
        // '~' is in no topic name.
        let temporary = dir.join(format!("~new-{:016x}", file.id));
        let make = || -> std::io::Result<()> {
            for number in 0..partitions {
                std::fs::create_dir_all(temporary.join(number.to_string()))?;
            }
            let json = serde_json::to_vec_pretty(&file).map_err(std::io::Error::other)?;
            manifest::write_durably(&temporary, "topic.json", &json)?;
            std::fs::rename(&temporary, dir.join(&spec.name))?;
            manifest::sync_dir(&dir)
        };
        make().map_err(|e| io("cannot make topic directory", &dir.join(&spec.name), e))?;
        let topic = Arc::new(open_topic(&dir.join(&spec.name), file, config, None));
        self.topics.write().insert(Arc::clone(&topic.name), Arc::clone(&topic));
        Ok(topic)
    }

    /// Takes a topic out and its files away; the caller must be the committer.
    ///
    /// # Errors
    /// Of the file system.
    pub fn remove_topic(&self, name: &str) -> Result<Option<Arc<Topic>>> {
        let Some(topic) = self.topic(name) else { return Ok(None) };
        let dir = self.topics_dir();
        let trash = dir.join(format!("~deleted-{:016x}", topic.id));
        // First: a checkpoint that runs meanwhile does not find the files any more, and must know why.
        topic.deleted.store(true, Ordering::Release);
        let hide = std::fs::rename(dir.join(name), &trash).and_then(|()| manifest::sync_dir(&dir));
        if let Err(e) = hide {
            topic.deleted.store(!dir.join(name).exists(), Ordering::Release);
            return Err(io("cannot remove", &dir.join(name), e));
        }
        self.topics.write().remove(name);
        // What stays behind goes at the next start.
        let _ = std::fs::remove_dir_all(&trash);
        Ok(Some(topic))
    }

    /// Reads the topics of a directory in the state of a manifest.
    ///
    /// # Errors
    /// Of the file system, or when a committed file is missing or too short.
    pub fn load(dir: &Path, manifest: Option<&Manifest>) -> Result<Self> {
        let topics_dir = dir.join("topics");
        std::fs::create_dir_all(&topics_dir).map_err(|e| io("cannot make", &topics_dir, e))?;
        let mut topics = HashMap::new();
        let entries = std::fs::read_dir(&topics_dir).map_err(|e| io("cannot read", &topics_dir, e))?;
        for entry in entries {
            let path = entry.map_err(|e| io("cannot read", &topics_dir, e))?.path();
            if path.file_name().is_some_and(|n| n.as_encoded_bytes().first() == Some(&b'~')) {
                std::fs::remove_dir_all(&path).map_err(|e| io("cannot remove", &path, e))?;
                continue;
            }
            let json_path = path.join("topic.json");
            let json = std::fs::read(&json_path).map_err(|e| io("cannot read", &json_path, e))?;
            let file: TopicFile = serde_json::from_slice(&json).map_err(|e| {
                Error::data(format!("the log's file {} is damaged", json_path.display())).because(e)
            })?;
            let config = TopicConfig::parse(&file.configs)?;
            let states = manifest.and_then(|m| m.topics.get(&file.id));
            let topic = open_topic(&path, file, config, states.map(Vec::as_slice));
            for partition in &topic.partitions {
                partition.restore_files()?;
            }
            topics.insert(Arc::clone(&topic.name), Arc::new(topic));
        }
        Ok(Self {
            dir: dir.to_owned(),
            topics: RwLock::new(topics),
            commits: watch::Sender::new(0),
            failed: RwLock::new(None),
        })
    }
}

fn open_topic(dir: &Path, file: TopicFile, config: TopicConfig, states: Option<&[PartitionState]>) -> Topic {
    let name: Arc<str> = Arc::from(file.name);
    let partitions = (0..file.partitions)
        .map(|n| {
            let state = usize::try_from(n).ok().and_then(|n| states?.get(n));
            Arc::new(Partition::open(dir, &name, n, state))
        })
        .collect();
    Topic { id: file.id, name, configs: file.configs, config, partitions, deleted: AtomicBool::new(false) }
}
