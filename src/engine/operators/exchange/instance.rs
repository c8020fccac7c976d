//! One instance of an operator, and its thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::super::super::error::EngineError;
use super::super::super::row::Change;
use super::super::{ENOUGH, Emitter, Operator};

/// What an instance is to take in.
#[derive(Clone)]
pub(super) enum Item {
    /// A row of an input, and its number among all rows that came to the operator.
    Row { port: usize, change: Change, number: u64 },
    /// A watermark.
    Watermark(i64),
    /// The time of the processing-time clock.
    Clock(i64),
}

impl Item {
    /// The time that a watermark or the clock has reached. The clock reaches no timer where these are of event time.
    pub(super) fn reached(&self, timers: bool) -> i64 {
        match self {
            Self::Row { .. } => i64::MIN,
            Self::Clock(_) if timers => i64::MIN,
            Self::Watermark(reached) | Self::Clock(reached) => *reached,
        }
    }
}

/// What had come out when an item was done.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub rows: usize,
    pub timers: usize,
    pub watermark: Option<i64>,
}

/// One instance, what it has been given, and what it gave.
pub(super) struct Instance {
    pub operator: Box<dyn Operator>,
    pub items: VecDeque<Item>,
    pub failure: Option<EngineError>,
    pub emitter: Emitter,
    /// Of each item that is done.
    pub ends: Vec<End>,
    one: Vec<Change>,
}

impl Instance {
    pub(super) fn new(operator: Box<dyn Operator>) -> Self {
        Self {
            operator,
            items: VecDeque::new(),
            failure: None,
            emitter: Emitter::noting(),
            ends: Vec::new(),
            one: Vec::new(),
        }
    }

    /// Takes in one row, and gives what comes of it to the caller.
    pub(super) fn row(
        &mut self,
        port: usize,
        change: Change,
        number: u64,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        self.operator.number(number);
        self.one.clear();
        self.one.push(change);
        self.operator.process(port, &mut self.one, out)?;
        while self.operator.pending() {
            self.operator.process(port, &mut self.one, out)?;
        }
        Ok(())
    }

    /// Takes in what it has been given, up to the first failure or until much has come out.
    pub(super) fn work(&mut self) {
        if self.failure.is_some() {
            return;
        }
        let mut emitter = std::mem::take(&mut self.emitter);
        while emitter.len() < ENOUGH
            && let Some(item) = self.items.pop_front()
        {
            let done = match item {
                Item::Row { port, change, number } => self.row(port, change, number, &mut emitter),
                Item::Watermark(watermark) => self.operator.watermark(watermark, &mut emitter),
                Item::Clock(now) => self.operator.clock(now, &mut emitter),
            };
            if let Err(error) = done {
                self.failure = Some(error);
                break;
            }
            let rows = emitter.len();
            let Some(notes) = emitter.notes() else { break };
            self.ends.push(End { rows, timers: notes.timers.len(), watermark: notes.watermark.take() });
        }
        self.emitter = emitter;
    }
}

/// What an instance's thread is to do.
#[derive(Clone, Copy)]
pub(super) enum Job {
    /// Take in what was given.
    Work,
    /// Write what changed into the tables.
    Flush,
}

impl Job {
    pub(super) fn run(self, instance: &Mutex<Instance>) {
        let mut instance = instance.lock();
        match self {
            Self::Work => instance.work(),
            Self::Flush => instance.failure = instance.operator.flush().err(),
        }
    }
}

/// The thread of an instance. It ends, and with it the use of the tables, when this is dropped.
pub(super) struct Thread {
    jobs: Option<SyncSender<Job>>,
    done: Receiver<()>,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    pub(super) fn start(name: &str, instance: Arc<Mutex<Instance>>) -> Result<Self, EngineError> {
        let (jobs, jobs_in) = sync_channel::<Job>(1);
        let (done_out, done) = sync_channel::<()>(1);
        let work = move || {
            for job in jobs_in {
                job.run(&instance);
                if done_out.send(()).is_err() {
                    break;
                }
            }
        };
        let handle = std::thread::Builder::new()
            .name(name.chars().take(15).collect())
            .spawn(work)
            .map_err(|error| EngineError::Plan(format!("a thread for {name} cannot be started: {error}")))?;
        Ok(Self { jobs: Some(jobs), done, handle: Some(handle) })
    }

    pub(super) fn give(&self, job: Job) {
        // One that has panicked takes none: it is noticed when its end is waited for.
        let _ = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
    }

    /// Waits until the job is done; says whether it was.
    pub(super) fn wait(&self) -> bool {
        self.done.recv().is_ok()
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::row::{RowKind, Value};
    use super::*;

    struct Failing;

    impl Operator for Failing {
        fn process(
            &mut self,
            _port: usize,
            rows: &mut Vec<Change>,
            _out: &mut Emitter,
        ) -> Result<(), EngineError> {
            Err(EngineError::Plan(format!("{:?}", rows.first().map(|change| &change.row))))
        }
    }

    /// What it is given again is nothing new: another instance was not done.
    #[test]
    fn the_first_failure_counts() {
        let mut instance = Instance::new(Box::new(Failing));
        for number in 0..2 {
            let change = Change::new(RowKind::Insert, vec![Value::str(&format!("row {number}"))]);
            instance.items.push_back(Item::Row { port: 0, change, number });
        }
        instance.work();
        instance.work();
        assert!(instance.failure.is_some_and(|failure| failure.to_string().contains("row 0")));
        assert_eq!((instance.items.len(), instance.ends.len()), (1, 0));
    }
}
