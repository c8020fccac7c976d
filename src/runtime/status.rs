//! What a pipeline does and how far it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::Error;

/// Where a pipeline stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Opening state and sinks.
    Starting,
    /// Something it needs is not there yet (a topic); it looks again by itself.
    Waiting,
    /// Data moves, or would if there were any.
    Running,
    /// The log or a target cannot be reached; the next try follows by itself.
    Retrying,
    /// Held at an epoch's end while a replay writes.
    Held,
    /// All inputs were bounded and have been read.
    Finished,
    /// Stopped as asked.
    Stopped,
    /// It cannot go on; the error says why.
    Failed,
}

impl Phase {
    /// In capitals, as states are shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Waiting => "WAITING",
            Self::Running => "RUNNING",
            Self::Retrying => "RETRYING",
            Self::Held => "HELD",
            Self::Finished => "FINISHED",
            Self::Stopped => "STOPPED",
            Self::Failed => "FAILED",
        }
    }

    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Finished | Self::Stopped | Self::Failed)
    }
}

/// A sink's part of a status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkStatus {
    /// The sink's name.
    pub name: String,
    /// What it writes to.
    pub target: String,
    /// Last epoch of this sink that the target holds.
    pub epoch: u64,
    /// Last epoch of this sink in the state: above `epoch` while the target takes it.
    pub due: u64,
    /// Rows written since the start.
    pub rows: u64,
}

/// Records that a table left out (`ignore-parse-errors`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many since the start.
    pub records: u64,
    /// Where the last one was, and what was wrong with it.
    pub last: String,
}

/// A look at a pipeline.
#[derive(Clone, Debug)]
pub struct PipelineStatus {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub phase: Phase,
    /// Why it waits, retries or has failed: one text per cause.
    pub causes: Vec<String>,
    /// Epochs in the state.
    pub epoch: u64,
    /// Records read since the start.
    pub records: u64,
    /// Next offset per input, `SOURCE/TOPIC/PARTITION`, as in the state.
    pub positions: BTreeMap<String, i64>,
    /// Where the reading of each input began, by the same names, as far as the state knows.
    pub begins: BTreeMap<String, i64>,
    /// Newest record timestamp that is in the state, milliseconds since 1970.
    pub newest: Option<i64>,
    /// Records since the start that could not be read and were left out, by table, and why the last one was.
    pub skipped: BTreeMap<String, Skipped>,
    /// Sources that have not come to the end of what was in the log when they began.
    pub behind: BTreeSet<String>,
    /// Its sinks.
    pub sinks: Vec<SinkStatus>,
    /// Rows of the last start's warnings (of the planner, of options that are ignored).
    pub warnings: Vec<String>,
}

/// One hop of data through the pipeline, for those who watch.
#[derive(Clone, Debug)]
pub enum Hop {
    /// An epoch is in the state.
    State {
        /// Its number.
        epoch: u64,
        /// Next offsets of all inputs.
        positions: Arc<BTreeMap<String, i64>>,
        /// When it was durable.
        at: std::time::SystemTime,
    },
    /// A sink holds an epoch.
    Sink {
        /// Number of the pipeline's epoch.
        epoch: u64,
        /// The sink's name.
        sink: String,
        /// Rows written.
        rows: u64,
        /// When it was committed.
        at: std::time::SystemTime,
    },
}

#[derive(Debug)]
struct Inner {
    status: PipelineStatus,
    /// Causes by who has them.
    waiting: BTreeMap<String, String>,
    retrying: BTreeMap<String, String>,
    held: bool,
    started: bool,
    /// Epochs handed to sinks and not written yet, and records in an epoch that is not cut yet.
    busy: bool,
    last_work: Instant,
    failure: Option<Arc<Error>>,
    /// Where a failure is kept for those who ask later; `None`: nowhere.
    kept: Option<PathBuf>,
}

/// A failure without the value that a failed CAST quotes, as Flink does: whoever ran the pipeline sees it; what is kept,
/// logged and counted does not hold it.
fn masked(mut screen: String) -> String {
    // What stands before a value, and behind it.
    const QUOTES: [(&str, &str); 4] = [
        ("For input string: '", "'. "),
        ("Text '", "' could not be parsed"),
        ("Cannot parse '", "' as "),
        ("JSON_VALUE: ", " cannot be cast to "),
    ];
    for (before, behind) in QUOTES {
        let Some(begin) = screen.find(before).map(|at| at + before.len()) else { continue };
        // The value may hold what stands behind it.
        let end = screen.rfind(behind).filter(|end| *end >= begin);
        screen.replace_range(begin..end.unwrap_or(screen.len()), "…");
    }
    screen
}

/// The status as the pipeline's tasks share it.
#[derive(Debug)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// Changes whenever something may interest a waiter.
    version: watch::Sender<u64>,
}

impl Shared {
    pub(super) fn new(name: &str, warnings: Vec<String>) -> Self {
        let status = PipelineStatus {
            name: name.to_owned(),
            phase: Phase::Starting,
            causes: Vec::new(),
            epoch: 0,
            records: 0,
            positions: BTreeMap::new(),
            begins: BTreeMap::new(),
            newest: None,
            skipped: BTreeMap::new(),
            behind: BTreeSet::new(),
            sinks: Vec::new(),
            warnings,
        };
        let inner = Inner {
            status,
            waiting: BTreeMap::new(),
            retrying: BTreeMap::new(),
            held: false,
            started: false,
            busy: true,
            last_work: Instant::now(),
            failure: None,
            kept: None,
        };
        Self { inner: Mutex::new(inner), version: watch::Sender::new(0) }
    }

    /// Failures are kept in this file from now on; an older one is forgotten.
    pub(super) fn keep_failure(&self, file: PathBuf) {
        if let Err(error) = std::fs::remove_file(&file)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "cannot remove {}", file.display());
        }
        self.inner.lock().kept = Some(file);
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        {
            let mut inner = self.inner.lock();
            change(&mut inner);
            if !inner.status.phase.is_final() {
                inner.status.phase = if !inner.retrying.is_empty() {
                    Phase::Retrying
                } else if !inner.started {
                    Phase::Starting
                } else if !inner.waiting.is_empty() {
                    Phase::Waiting
                } else if inner.held {
                    Phase::Held
                } else {
                    Phase::Running
                };
                inner.status.causes =
                    inner.retrying.values().chain(inner.waiting.values()).cloned().collect();
            }
        }
        self.version.send_modify(|v| *v = v.wrapping_add(1));
    }

    pub(super) fn status(&self) -> PipelineStatus {
        self.inner.lock().status.clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(super) fn started(&self) {
        self.change(|s| s.started = true);
    }

    pub(super) fn held(&self, held: bool) {
        self.change(|s| s.held = held);
    }

    /// Somebody cannot go on for now; `None`: it can again.
    pub(super) fn retrying(&self, who: &str, cause: Option<String>) {
        self.change(|s| match cause {
            Some(cause) => drop(s.retrying.insert(who.to_owned(), cause)),
            None => drop(s.retrying.remove(who)),
        });
    }

    pub(super) fn waiting(&self, who: &str, cause: Option<String>) {
        self.change(|s| match cause {
            Some(cause) => drop(s.waiting.insert(who.to_owned(), cause)),
            None => drop(s.waiting.remove(who)),
        });
    }

    /// A source begins, or has read what was there when it began.
    pub(super) fn behind(&self, source: &str, behind: bool) {
        self.change(|s| {
            if behind {
                s.status.behind.insert(source.to_owned());
            } else {
                s.status.behind.remove(source);
            }
        });
    }

    pub(super) fn sinks(&self, sinks: Vec<SinkStatus>) {
        self.change(|s| s.status.sinks = sinks);
    }

    /// An epoch is in the state; `due`: the last epoch of each sink in it.
    pub(super) fn committed(
        &self,
        epoch: u64,
        positions: &BTreeMap<String, i64>,
        newest: Option<i64>,
        due: impl Iterator<Item = u64>,
    ) {
        self.change(|s| {
            s.status.epoch = epoch;
            for (sink, due) in s.status.sinks.iter_mut().zip(due) {
                sink.due = due;
            }
            s.status.positions.clone_from(positions);
            s.status.newest = newest.or(s.status.newest);
        });
    }

    pub(super) fn began(&self, begins: &BTreeMap<String, i64>) {
        self.change(|s| s.status.begins.clone_from(begins));
    }

    pub(super) fn written(&self, sink: usize, epoch: u64, rows: u64) {
        self.change(|s| {
            if let Some(sink) = s.status.sinks.get_mut(sink) {
                sink.epoch = epoch;
                sink.rows += rows;
            }
        });
    }

    /// Records came in.
    pub(super) fn work(&self, records: u64) {
        let mut inner = self.inner.lock();
        inner.status.records += records;
        inner.last_work = Instant::now();
        inner.busy = true;
    }

    /// Something that the user should know at the start.
    pub(super) fn warn(&self, warning: String) {
        self.change(|s| s.status.warnings.push(warning));
    }

    /// A record was left out.
    pub(super) fn skipped(&self, table: &str, why: &str) {
        let mut inner = self.inner.lock();
        let skipped = inner.status.skipped.entry(table.to_owned()).or_default();
        skipped.records += 1;
        why.clone_into(&mut skipped.last);
    }

    /// All that was read is in the sinks.
    pub(super) fn rest(&self) {
        self.change(|s| {
            s.busy = false;
            s.last_work = Instant::now();
        });
    }

    /// Since when nothing is under way; `None` while something is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let inner = self.inner.lock();
        let quiet = inner.started
            && !inner.busy
            && inner.status.behind.is_empty()
            && inner.waiting.is_empty()
            && inner.retrying.is_empty();
        quiet.then_some(inner.last_work)
    }

    /// The end. The first failure is kept.
    pub(super) fn finish(&self, phase: Phase, failure: Option<Error>) {
        self.change(|s| {
            if s.status.phase.is_final() {
                return;
            }
            s.status.phase = phase;
            s.status.causes = failure.iter().map(|failure| masked(failure.screen())).collect();
            if let (Some(file), Some(cause)) = (&s.kept, s.status.causes.first())
                && let Err(error) = std::fs::write(file, cause)
            {
                tracing::warn!(%error, "cannot write {}", file.display());
            }
            s.failure = failure.map(Arc::new);
        });
    }

    pub(super) fn failure(&self) -> Option<Arc<Error>> {
        self.inner.lock().failure.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn values_of_rows_are_not_kept() {
        let screen =
            "error: a\ncause: For input string: '41\n11'. 'x'. Invalid character found.\nnext:  mend";
        let wanted = "error: a\ncause: For input string: '…'. Invalid character found.\nnext:  mend";
        assert_eq!(masked(screen.to_owned()), wanted);
        assert_eq!(masked("error: b".to_owned()), "error: b");
        for (screen, wanted) in [
            ("c: Text '41' could not be parsed: Unable", "c: Text '…' could not be parsed: Unable"),
            ("c: Cannot parse '41' as BOOLEAN.", "c: Cannot parse '…' as BOOLEAN."),
            ("c: JSON_VALUE: 41 cannot be cast to INT", "c: JSON_VALUE: … cannot be cast to INT"),
        ] {
            assert_eq!(masked(screen.to_owned()), wanted);
        }
    }
}
