//! The background thread: checkpoints, retention, compaction.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::clean::{self, Plan};
use super::committer::{Command, now_ms};
use super::journal;
use super::manifest::{self, Manifest};
use super::segment::SegmentRef;
use super::store::{Partition, Shared};
use crate::error::Error;

/// How often retention and compaction look round.
const TICK: Duration = Duration::from_secs(10);

/// Work for the maintenance thread.
#[derive(Debug)]
pub enum Job {
    /// Make everything up to this manifest durable, then drop what only older manifests needed.
    Checkpoint {
        /// The state to make durable.
        manifest: Manifest,
        /// Segments that it no longer names.
        remove: Vec<SegmentRef>,
        /// It holds the last [`Swap`].
        swapped: bool,
    },
    /// Look for work of retention and compaction now; `force` compacts whatever can be compacted.
    Clean {
        /// Compact also what is not worth it yet.
        force: bool,
        /// Told when it is done.
        reply: oneshot::Sender<()>,
    },
    /// End.
    Close,
}

/// Replaces segments of a partition.
#[derive(Debug)]
pub struct Swap {
    /// The partition.
    pub partition: Arc<Partition>,
    /// Segments to take out.
    pub removed: Vec<SegmentRef>,
    /// Segments to put in.
    pub added: Vec<SegmentRef>,
    /// The partition's first offset is at least this from now on.
    pub start: i64,
    /// Compaction has seen everything before this offset.
    pub cleaned_to: i64,
}

/// Runs until [`Job::Close`].
pub fn run(shared: &Arc<Shared>, jobs: &Receiver<Job>, commands: &Sender<Command>) {
    let maintenance = Maintenance { shared, jobs, commands, left: RefCell::default() };
    let mut next = Instant::now() + TICK;
    loop {
        match jobs.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Job::Close) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Job::Checkpoint { manifest, remove, .. }) => maintenance.checkpoint(&manifest, &remove),
            Ok(Job::Clean { force, reply }) => {
                let closed = maintenance.clean(force);
                let _ = reply.send(());
                if closed {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                if maintenance.clean(false) {
                    return;
                }
                next = Instant::now() + TICK;
            }
        }
    }
}

struct Maintenance<'a> {
    shared: &'a Arc<Shared>,
    jobs: &'a Receiver<Job>,
    commands: &'a Sender<Command>,
    /// Segments that only a checkpoint for which the disk had no room would have made superfluous.
    left: RefCell<Vec<SegmentRef>>,
}

impl Maintenance<'_> {
    fn checkpoint(&self, manifest: &Manifest, remove: &[SegmentRef]) {
        let fail = |e: std::io::Error| {
            let cause = format!("a checkpoint failed: {e}");
            tracing::error!(dir = %self.shared.dir.display(), cause, "the log takes no more commits");
            *self.shared.failed.write() = Some(cause);
        };
        if let Err(e) = sync_segments(self.shared) {
            // After a failed sync nobody knows what the disk holds.
            return fail(e);
        }
        self.left.borrow_mut().extend(remove.iter().map(Arc::clone));
        match manifest::write(&self.shared.dir, manifest) {
            Ok(()) => {}
            Err(e) if manifest::is_full(&e) => {
                // The old one still stands, with the journal behind it.
                tracing::warn!(dir = %self.shared.dir.display(), "no room for a checkpoint of the log: the next one does its work");
                return;
            }
            Err(e) => return fail(e),
        }
        for segment in self.left.take() {
            segment.remove_files();
        }
        let dir = self.shared.journal_dir();
        for number in journal::numbers(&dir).unwrap_or_default() {
            if number < manifest.journal {
                // What stays is removed at the next start.
                let _ = std::fs::remove_file(journal::path(&dir, number));
            }
        }
    }

    /// Looks at all partitions; `true` when the log was closed meanwhile.
    fn clean(&self, force: bool) -> bool {
        for (topic, partition) in self.shared.all_partitions() {
            if topic.deleted.load(Ordering::Acquire) || self.shared.failed.read().is_some() {
                continue;
            }
            for plan in [
                clean::retention(&topic.config, &partition, now_ms()),
                clean::compaction(&topic.config, &partition, force),
            ] {
                let swap = match plan {
                    Plan::Nothing => continue,
                    Plan::Roll => {
                        let roll = Command::Roll(partition.at.topic.to_string(), partition.at.partition);
                        if self.commands.send(roll).is_err() {
                            return true;
                        }
                        continue;
                    }
                    Plan::Swap(swap) => swap,
                    Plan::Compact(segments) => {
                        // Commits wait for checkpoints: those go on meanwhile.
                        let mut closed = false;
                        let mut between = || {
                            closed = self.serve_waiting();
                            if closed { Err(Error::internal("the log is closed")) } else { Ok(()) }
                        };
                        let compacted =
                            clean::compact(&topic.config, &partition, &segments, now_ms(), &mut between);
                        if closed {
                            return true;
                        }
                        match compacted {
                            Ok(swap) => swap,
                            Err(error) => {
                                tracing::warn!(topic = %topic.name, %error, "compaction failed; it is tried again");
                                continue;
                            }
                        }
                    }
                };
                if self.commands.send(Command::Swap(swap)).is_err() || self.await_swap() {
                    return true;
                }
            }
        }
        false
    }

    /// Serves what waits already; `true` when the log was closed.
    fn serve_waiting(&self) -> bool {
        loop {
            match self.jobs.try_recv() {
                Ok(Job::Checkpoint { manifest, remove, .. }) => self.checkpoint(&manifest, &remove),
                Ok(Job::Clean { reply, .. }) => {
                    let _ = reply.send(());
                }
                Ok(Job::Close) | Err(TryRecvError::Disconnected) => return true,
                Err(TryRecvError::Empty) => return false,
            }
        }
    }

    /// Serves checkpoints until the one with our swap; `true` when the log was closed.
    fn await_swap(&self) -> bool {
        loop {
            match self.jobs.recv() {
                Ok(Job::Checkpoint { manifest, remove, swapped }) => {
                    self.checkpoint(&manifest, &remove);
                    if swapped {
                        return false;
                    }
                }
                Ok(Job::Clean { reply, .. }) => {
                    let _ = reply.send(());
                }
                Ok(Job::Close) | Err(_) => return true,
            }
            if self.shared.failed.read().is_some() {
                return false;
            }
        }
    }
}

/// Makes all segments durable that were written to.
///
/// # Errors
/// Of the file system.
pub fn sync_segments(shared: &Shared) -> std::io::Result<()> {
    for (topic, partition) in shared.all_partitions() {
        let dirty: Vec<SegmentRef> = {
            let view = partition.view.read();
            view.segments.iter().filter(|s| s.dirty.swap(false, Ordering::AcqRel)).map(Arc::clone).collect()
        };
        let sync = || -> std::io::Result<()> {
            for segment in &dirty {
                std::fs::File::open(&segment.path)?.sync_all()?;
                // Only a help, which is checked where it is read.
                if let Err(error) = segment.write_index() {
                    tracing::debug!(segment = %segment.path.display(), %error, "no index is written");
                }
            }
            if dirty.is_empty() { Ok(()) } else { manifest::sync_dir(&partition.dir) }
        };
        match sync() {
            Err(_) if topic.deleted.load(Ordering::Acquire) => {}
            other => other?,
        }
    }
    Ok(())
}
