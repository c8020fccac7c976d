//! The pipeline's thread, its ends: in order, after an error, and a savepoint of where it is.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::pipeline::copy_error;
use super::status::Phase;
use super::worker::{Event, STOP_PATIENCE, Sinks, Worker, engine_error, state_error};
use super::writer::SinkEvent;
use crate::error::{Error, Result};
use crate::sink::Output;
use crate::state::savepoint;

impl Worker {
    pub(super) fn finish(&mut self, phase: Phase) -> Result<Phase> {
        (0..self.sources.len()).for_each(|source| self.tell_absent(source, true));
        if phase == Phase::Finished && !std::mem::replace(&mut self.work.end_sent, true) {
            self.graph.end(&mut Sinks(&mut self.sinks)).map_err(engine_error)?;
            self.work.dirty |= self.sinks.iter().any(|s| !s.collector.is_empty());
        }
        self.wait_for_sinks()?;
        if self.work.dirty {
            self.cut(Vec::new())?;
            self.wait_for_sinks()?;
        }
        self.remember_written()?;
        if phase == Phase::Finished {
            self.sinks.iter().for_each(|slot| slot.watermark.store(i64::MAX, Ordering::Release));
        }
        Ok(phase)
    }

    /// What unfenced sinks have written is kept, so that a restart after an orderly end repeats nothing.
    pub(super) fn remember_written(&mut self) -> Result<()> {
        let mut head = self.store.head().clone();
        self.keep_sinks(&mut head);
        if head != *self.store.head() {
            self.store.commit(head, &[]).map_err(state_error)?;
        }
        Ok(())
    }

    /// Lets the sinks finish: files are closed, connections ended. Waits no longer than a stop does.
    pub(super) fn close_sinks(&mut self) {
        for slot in &mut self.sinks {
            slot.writes = None;
        }
        // A stop has so long for all of it.
        let last = Instant::now() + Duration::from_millis(500);
        let by = self.work.stop_by.map_or_else(|| Instant::now() + STOP_PATIENCE, |by| by.max(last));
        let mut open = self.sinks.len();
        while open > 0 {
            match self.events.recv_timeout(by.saturating_duration_since(Instant::now())) {
                Ok(Event::Sink(SinkEvent::Closed)) => open -= 1,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    /// Commits and writes what came before a record that cannot be read, so that the pipeline stands right before
    /// it; gives the error back.
    pub(super) fn leave_in_order(&mut self, error: Error) -> Error {
        let left =
            self.wait_for_sinks().and_then(|()| if self.work.dirty { self.cut(Vec::new()) } else { Ok(()) });
        if let Err(second) = left.and_then(|()| self.wait_for_sinks()).and_then(|()| self.remember_written())
        {
            tracing::warn!(%second, "while ending after an error");
        }
        error
    }

    /// Ends the epoch and has the state as it is then written to a file. The pipeline goes on meanwhile.
    pub(super) fn savepoint(
        &mut self,
        script: String,
        path: PathBuf,
        reply: oneshot::Sender<Result<u64>>,
    ) -> Result<()> {
        self.wait_for_sinks()?;
        if self.work.dirty {
            self.cut(Vec::new())?;
            self.wait_for_sinks()?;
        }
        self.remember_written()?;
        let (frozen, name) = (self.store.freeze(), self.shared.status().name);
        let write = move || {
            let written = savepoint::write(&frozen, &name, &script, &path);
            drop(frozen);
            // Whoever asked may have gone; the file is there.
            let _ = reply.send(written.map_err(state_error));
        };
        let thread = std::thread::Builder::new().name("savepoint".to_owned()).spawn(write);
        let thread =
            thread.map_err(|e| Error::transient("cannot start a thread for the savepoint").with_source(e))?;
        self.work.savepoints.retain(|thread| !thread.is_finished());
        self.work.savepoints.push(thread);
        Ok(())
    }

    /// Writes rows as an epoch of their own, while the pipeline is held. Where that fails the pipeline has failed, as of
    /// any other epoch: the state holds it, and the targets do not.
    pub(super) fn inject(
        &mut self,
        outputs: Vec<(String, Output)>,
        reply: oneshot::Sender<Result<()>>,
    ) -> Result<()> {
        let by_sink = match self.places(outputs) {
            Ok(by_sink) => by_sink,
            Err(error) => {
                // Nothing was done; whoever asked may have gone.
                let _ = reply.send(Err(error));
                return Ok(());
            }
        };
        let done =
            self.wait_for_sinks().and_then(|()| self.cut(by_sink)).and_then(|()| self.wait_for_sinks());
        let answer = match &done {
            Ok(()) => Ok(()),
            Err(error) => Err(copy_error(error)),
        };
        let _ = reply.send(answer);
        done
    }

    /// The places of sinks by their names.
    fn places(&self, outputs: Vec<(String, Output)>) -> Result<Vec<(usize, Output)>> {
        if !self.work.held {
            return Err(Error::internal(
                "rows can be written past the query only while the pipeline is held",
            ));
        }
        let place = |(name, output): (String, Output)| {
            let place = self.sinks.iter().position(|s| s.name == name);
            let missing = || Error::internal(format!("there is no sink {name}"));
            place.map(|place| (place, output)).ok_or_else(missing)
        };
        outputs.into_iter().map(place).collect()
    }

    /// Waits for savepoints that are being written: they use the state.
    pub(super) fn await_savepoints(&mut self) {
        for thread in self.work.savepoints.drain(..) {
            // What it has to say it has said.
            let _ = thread.join();
        }
    }
}
