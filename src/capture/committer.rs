//! The task that commits batches while the next one is being encoded.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::status::StatusCell;
use crate::error::{Error, Result};
use crate::log::{Batch, LogWriter};
use crate::pg::Lsn;

/// A commit that takes longer is said.
const LONG: Duration = Duration::from_secs(3);

/// What a batch means once it is durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note {
    /// May be confirmed to the server.
    pub(super) durable: Lsn,
    /// Commit time of its last event, milliseconds since 1970.
    pub(super) event_ms: Option<i64>,
    /// Number of the batch's last transaction's commit LSN, for observers.
    pub(super) commit: Lsn,
}

/// A batch has become durable: for those who follow a change through the hops.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Events up to this commit LSN are durable.
    pub commit_lsn: Lsn,
    /// Records of the batch, the offset record left out.
    pub records: usize,
    /// When the commit returned.
    pub at: SystemTime,
}

struct Work {
    batch: Batch,
    note: Note,
}

/// At most one batch is being committed; the emptied one comes back.
pub(super) struct Committer {
    to: mpsc::Sender<Work>,
    from: mpsc::Receiver<Result<(Batch, Note)>>,
    task: JoinHandle<()>,
    in_flight: bool,
    failed: bool,
}

impl Committer {
    pub(super) fn spawn(
        mut writer: Box<dyn LogWriter>,
        status: Arc<StatusCell>,
        observer: Option<mpsc::Sender<Committed>>,
    ) -> Self {
        let (to, mut work) = mpsc::channel::<Work>(1);
        let (done, from) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            while let Some(Work { batch, note }) = work.recv().await {
                let records = batch.len().saturating_sub(1);
                let bytes = batch.bytes();
                let mut last = None;
                for record in batch.iter().take(records) {
                    if last != Some(record.topic_id) {
                        status.topic(record.topic);
                        last = Some(record.topic_id);
                    }
                }
                crate::failpoint!("capture.before_commit");
                let result = patiently(&mut *writer, batch, &status).await;
                crate::failpoint!("capture.after_commit");
                let failed = result.is_err();
                if !failed {
                    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
                    status.committed(count(records), count(bytes), note.durable, note.event_ms);
                    if let Some(observer) = &observer {
                        // An observer that lags misses something; it never holds up the events.
                        let _ = observer.try_send(Committed {
                            commit_lsn: note.commit,
                            records,
                            at: SystemTime::now(),
                        });
                    }
                }
                if done.send(result.map(|batch| (batch, note))).await.is_err() || failed {
                    return;
                }
            }
        });
        Self { to, from, task, in_flight: false, failed: false }
    }

    pub(super) fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// Whether the log has refused a batch: it takes none any more.
    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Hands over a batch; none may be in flight.
    pub(super) async fn send(&mut self, batch: Batch, note: Note) -> Result<()> {
        self.in_flight = true;
        self.to.send(Work { batch, note }).await.map_err(|_| ended())
    }

    /// Waits for the batch in flight. Cancel-safe.
    pub(super) async fn done(&mut self) -> Result<(Batch, Note)> {
        let result = self.from.recv().await.ok_or_else(ended).flatten();
        self.in_flight = false;
        self.failed |= result.is_err();
        result
    }

    /// Ends the task: a batch in flight is committed first.
    pub(super) async fn close(self) {
        drop(self.to);
        drop(self.from);
        let _ = self.task.await;
    }
}

/// Commits; while that takes long the status says so, for nothing moves meanwhile.
async fn patiently(writer: &mut dyn LogWriter, batch: Batch, status: &StatusCell) -> Result<Batch> {
    let reason = writer.trouble();
    let begun = Instant::now();
    let commit = writer.commit(batch);
    tokio::pin!(commit);
    loop {
        tokio::select! {
            biased;
            result = &mut commit => {
                status.recovered();
                return result;
            }
            () = tokio::time::sleep(LONG) => {
                let error = Error::transient("the log does not take a batch of events")
                    .because(match reason.as_ref().and_then(|reason| reason()) {
                        Some(reason) => format!("for {} s: {reason}", begun.elapsed().as_secs()),
                        None => format!("for {} s", begun.elapsed().as_secs()),
                    })
                    .next("nothing is lost; it goes on when the log answers");
                tracing::warn!(%error, "waiting for the log");
                status.trouble(error);
            }
        }
    }
}

fn ended() -> Error {
    Error::transient("the log's writer has ended")
}
