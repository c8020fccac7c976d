//! Runs an operator on several threads: every row goes to the instance that its key belongs to.
//!
//! The instances share the operator's state tables, each using the keys that are its own, so that a job may go on
//! with another number of them. What comes out is put together in the order of the rows that went in: results
//! are the same, row by row, whatever the parallelism.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use ahash::RandomState;
use parking_lot::Mutex;

use super::super::codec;
use super::super::error::EngineError;
use super::super::plan::Op;
use super::super::row::{Change, Row};
use super::{Builder, ENOUGH, Emitter, Operator};

/// Of fewer rows than this for each instance it is not worth to wake other threads.
const WORTHWHILE: usize = if cfg!(test) { 2 } else { 64 };

/// The key columns of each input of an operator that keeps its state by key and gives what a row makes at once;
/// `None` of all others.
pub(super) fn keys(op: &Op, width: usize) -> Option<Vec<Vec<usize>>> {
    let keys = match op {
        Op::Join(join) => {
            vec![join.on.iter().map(|on| on.0).collect(), join.on.iter().map(|on| on.1).collect()]
        }
        Op::Aggregate(spec) => vec![spec.group.clone()],
        Op::Normalize { key, .. } | Op::Materialize { key, .. } => vec![key.clone()],
        Op::Rank(spec) => vec![spec.partition.clone()],
        Op::Deduplicate(spec) if spec.last || !spec.rowtime => vec![spec.key.clone()],
        Op::SetOp { .. } => vec![(0..width).collect(); 2],
        Op::Over(spec) if !spec.rowtime => vec![spec.partition.clone()],
        Op::SortedOver(spec) => vec![spec.partition.clone()],
        _ => return None,
    };
    keys.iter().all(|columns: &Vec<usize>| !columns.is_empty()).then_some(keys)
}

/// One instance, and the rows that it has been given.
struct Instance {
    operator: Box<dyn Operator>,
    rows: Vec<Change>,
    emitter: Emitter,
    /// Per row: how many changes had come out when it was done.
    ends: Vec<usize>,
    one: Vec<Change>,
    failure: Option<EngineError>,
}

impl Instance {
    /// Takes in one row.
    fn row(&mut self, port: usize, change: Change, out: &mut Emitter) -> Result<(), EngineError> {
        self.one.clear();
        self.one.push(change);
        self.operator.process(port, &mut self.one, out)
    }

    fn run(&mut self, job: Job) {
        match job {
            Job::Rows { port } => {
                let mut rows = std::mem::take(&mut self.rows).into_iter();
                let mut emitter = std::mem::take(&mut self.emitter);
                while emitter.rows().len() < ENOUGH
                    && let Some(change) = rows.next()
                {
                    if let Err(error) = self.row(port, change, &mut emitter) {
                        self.failure = Some(error);
                        break;
                    }
                    self.ends.push(emitter.rows().len());
                }
                (self.rows, self.emitter) = (rows.collect(), emitter);
            }
            Job::Flush => self.failure = self.operator.flush().err(),
        }
    }
}

/// What an instance's thread is to do.
#[derive(Clone, Copy)]
enum Job {
    /// Take in the rows that were given, which are of this input.
    Rows { port: usize },
    /// Write what changed into the tables.
    Flush,
}

/// The thread of an instance. It ends, and with it the use of the tables, when this is dropped.
struct Thread {
    jobs: Option<SyncSender<Job>>,
    done: Receiver<()>,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    fn start(name: &str, instance: Arc<Mutex<Instance>>) -> Result<Self, EngineError> {
        let (jobs, jobs_in) = sync_channel::<Job>(1);
        let (done_out, done) = sync_channel::<()>(1);
        let work = move || {
            for job in jobs_in {
                instance.lock().run(job);
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

    fn give(&self, job: Job) {
        // One that has panicked takes none: it is noticed when its end is waited for.
        let _ = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
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

/// An operator in several instances, the first of them on the caller's thread.
pub(super) struct Exchange {
    name: String,
    keys: Vec<Vec<usize>>,
    instances: Vec<Arc<Mutex<Instance>>>,
    /// Of all instances but the first.
    threads: Vec<Thread>,
    hasher: RandomState,
    key: Vec<u8>,
    /// The instance of each row at hand whose results have not been handed on.
    places: Vec<usize>,
    /// The input that these rows are of.
    port: usize,
    /// Rows of a small batch are still to be taken in.
    left: bool,
}

impl Exchange {
    pub(super) fn new(
        builder: &mut Builder<'_>,
        keys: Vec<Vec<usize>>,
        parallelism: usize,
    ) -> Result<Self, EngineError> {
        let cache = builder.cache;
        builder.cache = cache / parallelism;
        let instances = (0..parallelism)
            .map(|_| {
                Ok(Arc::new(Mutex::new(Instance {
                    operator: super::build_one(builder)?,
                    rows: Vec::new(),
                    emitter: Emitter::default(),
                    ends: Vec::new(),
                    one: Vec::new(),
                    failure: None,
                })))
            })
            .collect::<Result<Vec<_>, EngineError>>();
        builder.cache = cache;
        let instances = instances?;
        let name = builder.node.name.clone();
        let threads = instances
            .iter()
            .skip(1)
            .map(|instance| Thread::start(&name, Arc::clone(instance)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name,
            keys,
            instances,
            threads,
            // The same in every run, so that a fault that depends on it can be found again.
            hasher: RandomState::with_seeds(11, 13, 17, 19),
            key: Vec::new(),
            places: Vec::new(),
            port: 0,
            left: false,
        })
    }

    fn place(&mut self, port: usize, row: &Row) -> usize {
        self.key.clear();
        codec::put_key(&mut self.key, row, self.keys.get(port).map(Vec::as_slice).unwrap_or_default());
        let hash = self.hasher.hash_one(self.key.as_slice());
        let instances = u64::try_from(self.instances.len()).unwrap_or(1).max(1);
        usize::try_from(hash % instances).unwrap_or(0)
    }

    /// Lets all instances do a job at the same time.
    fn run(&self, job: Job) -> Result<(), EngineError> {
        self.threads.iter().for_each(|thread| thread.give(job));
        if let Some(first) = self.instances.first() {
            first.lock().run(job);
        }
        let mut ended = true;
        for thread in &self.threads {
            ended &= thread.done.recv().is_ok();
        }
        if ended {
            return Ok(());
        }
        Err(EngineError::Plan(format!("a thread of {} panicked; what it said is in the log", self.name)))
    }

    fn each(
        &self,
        mut call: impl FnMut(&mut dyn Operator) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.instances.iter().try_for_each(|instance| call(instance.lock().operator.as_mut()))
    }

    /// Lets the instances go on with their rows, and takes over what they gave, in the order of the rows: up to the
    /// first row whose instance has stopped because it gave much. Of several failures the first row's counts.
    fn go_on(&mut self, out: &mut Vec<Change>) -> Result<(), EngineError> {
        self.run(Job::Rows { port: self.port })?;
        let mut given: Vec<_> = self
            .instances
            .iter()
            .map(|instance| {
                let mut instance = instance.lock();
                let changes = std::mem::take(instance.emitter.rows()).into_iter();
                let ends = std::mem::take(&mut instance.ends).into_iter();
                (instance, changes, ends, 0)
            })
            .collect();
        let mut taken = 0;
        for &place in &self.places {
            let Some((instance, changes, ends, before)) = given.get_mut(place) else { break };
            let Some(end) = ends.next() else {
                if let Some(failure) = instance.failure.take() {
                    return Err(failure);
                }
                break;
            };
            out.extend(changes.by_ref().take(end - *before));
            *before = end;
            taken += 1;
        }
        if taken == 0 {
            return Err(EngineError::Plan(format!("a row of {} was lost", self.name)));
        }
        self.places.drain(..taken);
        for (mut instance, changes, ends, before) in given {
            *instance.emitter.rows() = changes.collect();
            instance.ends = ends.map(|end| end - before).collect();
        }
        Ok(())
    }
}

impl Operator for Exchange {
    fn start(&mut self, first: bool, out: &mut Emitter) -> Result<(), EngineError> {
        self.each(|operator| operator.start(first, out))
    }

    fn resume(&mut self, watermark: i64) {
        self.instances.iter().for_each(|instance| instance.lock().operator.resume(watermark));
    }

    fn process(&mut self, port: usize, rows: &mut Vec<Change>, out: &mut Emitter) -> Result<(), EngineError> {
        if !self.places.is_empty() {
            return self.go_on(out.rows());
        }
        if rows.len() < WORTHWHILE * self.instances.len() {
            let mut done = 0;
            for change in rows.iter() {
                let place = self.place(port, &change.row);
                if let Some(instance) = self.instances.get(place) {
                    instance.lock().row(port, change.clone(), out)?;
                }
                done += 1;
                if out.rows().len() >= ENOUGH {
                    break;
                }
            }
            rows.drain(..done);
            self.left = !rows.is_empty();
            return Ok(());
        }
        self.left = false;
        self.port = port;
        for change in rows.iter() {
            let place = self.place(port, &change.row);
            self.places.push(place);
        }
        {
            let mut instances: Vec<_> = self.instances.iter().map(|instance| instance.lock()).collect();
            for (change, &place) in rows.drain(..).zip(&self.places) {
                if let Some(instance) = instances.get_mut(place) {
                    instance.rows.push(change);
                }
            }
        }
        self.go_on(out.rows())
    }

    fn pending(&self) -> bool {
        self.left || !self.places.is_empty()
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        // Nothing comes out of these operators at a watermark but itself.
        let mut none = Emitter::default();
        self.each(|operator| operator.watermark(watermark, &mut none))?;
        out.watermark(watermark);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.run(Job::Flush)?;
        self.instances.iter().try_for_each(|instance| instance.lock().failure.take().map_or(Ok(()), Err))
    }
}
