//! Sink tasks: each writes the epochs of one sink, through lost connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::epoch::{Outcome, outcome};
use super::status::{Hop, Shared};
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::sink::{Output, Sink};

/// An epoch's output for one sink.
pub(super) struct Write {
    /// The sink's own epoch.
    pub(super) epoch: u64,
    /// The pipeline's, for those who watch.
    pub(super) of: u64,
    pub(super) output: Output,
    /// All rows up to here are in it or were before it.
    pub(super) watermark: i64,
}

/// What sinks tell the pipeline's thread.
pub(super) enum SinkEvent {
    /// The target holds the epoch.
    Written { sink: usize, epoch: u64 },
    /// The sink cannot go on.
    Failed { error: Error },
    /// Everything that it was given is done with; nothing comes after it.
    Closed,
}

/// What a sink task works with.
pub(super) struct SinkTask<E> {
    pub(super) index: usize,
    pub(super) name: String,
    pub(super) sink: Box<dyn Sink>,
    pub(super) writer: String,
    pub(super) writes: mpsc::UnboundedReceiver<Write>,
    pub(super) events: Sender<E>,
    pub(super) shared: Arc<Shared>,
    pub(super) stop: watch::Receiver<bool>,
    pub(super) watcher: Option<mpsc::Sender<Hop>>,
    /// How far time has come since, without rows for this sink.
    pub(super) watermark: Arc<AtomicI64>,
}

impl<E: From<SinkEvent> + Send + 'static> SinkTask<E> {
    /// Runs until the pipeline's thread has ended.
    pub(super) async fn run(mut self) {
        while let Some(write) = self.next().await {
            let rows = u64::try_from(write.output.changes.len()).unwrap_or(u64::MAX);
            let result = write_through(
                self.sink.as_mut(),
                &self.name,
                &self.writer,
                &write,
                &self.shared,
                &mut self.stop,
            )
            .await;
            let event = match result {
                Ok(()) => {
                    self.sink.reached(write.watermark);
                    if let Some(watcher) = &self.watcher {
                        // Whoever watches too slowly misses hops.
                        let at = std::time::SystemTime::now();
                        let hop = Hop::Sink { epoch: write.of, sink: self.name.clone(), rows, at };
                        let _ = watcher.try_send(hop);
                    }
                    self.shared.written(self.index, write.epoch, rows);
                    SinkEvent::Written { sink: self.index, epoch: write.epoch }
                }
                Err(error) => SinkEvent::Failed { error },
            };
            let _ = self.events.send(E::from(event));
        }
        self.sink.reached(self.watermark.load(Ordering::Acquire));
        if let Err(error) = self.sink.close().await {
            tracing::warn!(sink = self.name, %error, "closing");
        }
        let _ = self.events.send(E::from(SinkEvent::Closed));
    }

    /// The next epoch to write; tends the sink while there is none.
    async fn next(&mut self) -> Option<Write> {
        loop {
            let Some(due) = self.sink.due() else { return self.writes.recv().await };
            tokio::select! {
                write = self.writes.recv() => return write,
                () = tokio::time::sleep_until(due.into()) => {
                    self.sink.reached(self.watermark.load(Ordering::Acquire));
                    // The next write tries it again.
                    if let Err(error) = self.sink.tend().await {
                        tracing::warn!(sink = self.name, %error, "between two epochs");
                    }
                }
            }
        }
    }
}

/// Writes an epoch, again and again while the failure may heal. What an interrupted write has done is asked of
/// the fence.
pub(super) async fn write_through(
    sink: &mut dyn Sink,
    name: &str,
    writer: &str,
    write: &Write,
    shared: &Shared,
    stop: &mut watch::Receiver<bool>,
) -> Result<()> {
    let mut pause = Duration::from_millis(50);
    failpoint!("sink.before_write");
    let mut result = sink.write(write.epoch, &write.output).await;
    loop {
        match result {
            Ok(()) => {
                failpoint!("sink.after_write");
                shared.retrying(name, None);
                return Ok(());
            }
            Err(error) if error.is_transient() => {
                tracing::warn!(sink = name, %error, "the target cannot be written, trying again");
                shared.retrying(name, Some(error.screen()));
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => {
                return Err(Error::new(Kind::Stopped, format!("sink {name} was stopped while it could not write"))
                    .next("nothing is lost: the epoch is written at the next start"));
            }
        }
        pause = (pause * 2).min(Duration::from_secs(5));
        result = again(sink, name, writer, write).await;
    }
}

async fn again(sink: &mut dyn Sink, name: &str, writer: &str, write: &Write) -> Result<()> {
    if !sink.is_fenced() {
        return sink.write(write.epoch, &write.output).await;
    }
    let fence = sink.fence().await?;
    match outcome(fence.as_ref(), write.epoch, writer) {
        Outcome::Written => Ok(()),
        Outcome::Missing => sink.write(write.epoch, &write.output).await,
        Outcome::Fenced => Err(Error::new(Kind::Fenced, format!("sink {name}: another process writes the target now"))
            .because(format!(
                "its fence is at {fence:?}, epoch {} of writer {writer} was to be written",
                write.epoch
            ))
            .next("stop the other process, then start this pipeline again; `millstream pipelines status` shows both")),
    }
}
