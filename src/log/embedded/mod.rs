//! The embedded log: durable topics in a directory that one process owns.
//!
//! A commit is one journal entry with one sync, whatever number of topics and partitions it writes to; commits
//! that wait together share it. Records lie in the partitions' own files (`frame`, `segment`), which readers
//! read by position, so that a topic's size is bounded by the disk and not by memory. After a crash at any
//! byte exactly the commits whose journal entry is whole are there (`recover`).

mod append;
mod clean;
mod committer;
mod frame;
pub mod frames;
mod journal;
mod lock;
mod maintain;
mod manifest;
mod reader;
mod records;
mod recover;
mod segment;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, LazyLock, Weak};
use std::thread::JoinHandle;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::committer::{Command, Commit, Committer};
use self::lock::DirectoryLock;
pub use self::lock::Purpose;
use self::maintain::Job;
use self::manifest::io;
use self::store::Shared;
use super::{
    Batch, Log, LogReader, LogWriter, Position, TopicDefaults, TopicInfo, TopicPartition, TopicSpec,
};
use crate::error::{Error, Result};

/// Logs that this process has open, so that opening one again gives the same.
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Inner>>>> = LazyLock::new(Mutex::default);

/// An open log; closed, with its state synced, when the last handle, writer and reader are gone.
#[derive(Debug)]
pub struct Inner {
    shared: Arc<Shared>,
    commands: Sender<Command>,
    jobs: SyncSender<Job>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: DirectoryLock,
}

impl Inner {
    fn open(dir: &Path, purpose: Purpose) -> Result<Self> {
        allow_many_files();
        let lock = DirectoryLock::take(dir, purpose)?;
        let manifest = manifest::read(dir)?;
        let shared = Arc::new(Shared::load(dir, manifest.as_ref())?);
        let journal = recover::recover(&shared, manifest)?;
        let (commands, commands_in) = channel();
        // The committer waits when two checkpoints are outstanding.
        let (jobs, jobs_in) = sync_channel(2);
        let committer = Committer::new(Arc::clone(&shared), journal, jobs.clone());
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(name.to_owned())
                .spawn(work)
                .map_err(|e| Error::transient("cannot start a thread of the log").with_source(e))
        };
        let (maintained, to_committer) = (Arc::clone(&shared), commands.clone());
        let threads = vec![
            spawn("log-commit", Box::new(move || committer.run(&commands_in)))?,
            spawn("log-maintain", Box::new(move || maintain::run(&maintained, &jobs_in, &to_committer)))?,
        ];
        Ok(Self { shared, commands, jobs, threads: Mutex::new(threads), _lock: lock })
    }

    async fn ask<R>(&self, command: impl FnOnce(oneshot::Sender<Result<R>>) -> Command) -> Result<R> {
        let (reply, answer) = oneshot::channel();
        let closed = || Error::internal(format!("the log in {} is closed", self.shared.dir.display()));
        self.commands.send(command(reply)).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Close);
        for thread in self.threads.get_mut().drain(..) {
            let _ = thread.join();
        }
    }
}

/// Each partition that is written keeps a file open: the usual soft limit of 1024 is too low for many tables.
fn allow_many_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read and write the struct that they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max.min(1 << 20);
            // Without it the limit stays as it was, and too many open files are an error when they happen.
            let _ = libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// A handle to an open embedded log.
#[derive(Clone, Debug)]
pub struct EmbeddedLog {
    inner: Arc<Inner>,
}

impl EmbeddedLog {
    /// Opens the log in a directory, making both if need be, and recovers it after a crash. A log that this
    /// process has open already is shared.
    ///
    /// # Errors
    /// [`crate::Kind::Fenced`] when another process owns it; [`crate::Kind::Data`] when committed data is damaged.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_to(dir.as_ref(), Purpose::Serve)
    }

    /// [`Self::open`] for a purpose: one that only looks steps aside for one that works.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_to(dir: &Path, purpose: Purpose) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|e| io("cannot make the log's directory", dir, e))?;
        let dir = dir.canonicalize().map_err(|e| io("cannot open", dir, e))?;
        let mut open = OPEN.lock();
        open.retain(|_, log| log.strong_count() > 0);
        if let Some(inner) = open.get(&dir).and_then(Weak::upgrade) {
            return Ok(Self { inner });
        }
        let inner = Arc::new(Inner::open(&dir, purpose)?);
        open.insert(dir, Arc::downgrade(&inner));
        Ok(Self { inner })
    }

    /// The log in a (canonical) directory, if this process has it open.
    pub fn opened(dir: &Path) -> Option<Self> {
        OPEN.lock().get(dir).and_then(Weak::upgrade).map(|inner| Self { inner })
    }

    /// Runs retention and compaction now instead of at their next turn; `force` compacts whatever holds
    /// anything that can go.
    ///
    /// # Errors
    /// When the log is closed.
    pub async fn clean(&self, force: bool) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let jobs = self.inner.jobs.clone();
        let sent = tokio::task::spawn_blocking(move || jobs.send(Job::Clean { force, reply })).await;
        if !matches!(sent, Ok(Ok(()))) || answer.await.is_err() {
            return Err(Error::internal("the log is closed"));
        }
        Ok(())
    }

    /// The log's directory.
    pub fn dir(&self) -> &Path {
        &self.inner.shared.dir
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    fn describe(&self) -> String {
        format!("file:{}", self.inner.shared.dir.display())
    }

    async fn create_topic(&self, spec: &TopicSpec) -> Result<bool> {
        let spec = spec.clone();
        self.inner.ask(|reply| Command::Create(spec, reply)).await
    }

    async fn topics(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> =
            self.inner.shared.topics.read().keys().map(ToString::to_string).collect();
        names.sort();
        Ok(names)
    }

    async fn topic(&self, name: &str) -> Result<Option<TopicInfo>> {
        Ok(self.inner.shared.topic(name).map(|t| TopicInfo {
            name: t.name.to_string(),
            partitions: t.partitions.iter().map(|p| p.view.read().range()).collect(),
            configs: t.configs.clone(),
        }))
    }

    async fn delete_topic(&self, name: &str) -> Result<bool> {
        let name = name.to_owned();
        self.inner.ask(|reply| Command::Delete(name, reply)).await
    }

    async fn resolve(&self, at: &TopicPartition, position: Position) -> Result<i64> {
        let (_, partition) = self.inner.shared.partition(at)?;
        let range = partition.view.read().range();
        match position {
            Position::Earliest => Ok(range.earliest),
            Position::Latest => Ok(range.end),
            Position::Offset(offset) => Ok(offset),
            Position::Timestamp(timestamp) => {
                let found =
                    tokio::task::spawn_blocking(move || reader::first_at(&partition, timestamp)).await;
                found.map_err(|e| Error::internal("reading the log failed").with_source(e))?
            }
        }
    }

    async fn writer(&self, transactional_id: &str) -> Result<Box<dyn LogWriter>> {
        let id: Arc<str> = Arc::from(transactional_id);
        let for_epoch = Arc::clone(&id);
        let epoch = self.inner.ask(|reply| Command::Writer(for_epoch, reply)).await?;
        Ok(Box::new(EmbeddedWriter { log: Arc::clone(&self.inner), id, epoch, defaults: Arc::default() }))
    }

    async fn reader(&self) -> Result<Box<dyn LogReader>> {
        Ok(Box::new(reader::EmbeddedReader::new(Arc::clone(&self.inner))))
    }
}

/// A writer of the embedded log.
#[derive(Debug)]
struct EmbeddedWriter {
    log: Arc<Inner>,
    id: Arc<str>,
    epoch: u64,
    defaults: Arc<TopicDefaults>,
}

#[async_trait]
impl LogWriter for EmbeddedWriter {
    async fn commit(&mut self, batch: Batch) -> Result<Batch> {
        let (id, epoch) = (Arc::clone(&self.id), self.epoch);
        let defaults = Arc::clone(&self.defaults);
        self.log.ask(|reply| Command::Commit(Commit { id, epoch, batch, defaults, reply })).await
    }

    fn topic_defaults(&mut self, defaults: TopicDefaults) {
        self.defaults = Arc::new(defaults);
    }
}
