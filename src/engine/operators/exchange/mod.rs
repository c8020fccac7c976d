//! Runs an operator on several threads: every row goes to the instance that its key belongs to, every watermark to
//! all of them.
//!
//! The instances share the operator's state tables, each using the keys that are its own, so that a job may go on
//! with another number of them. What comes out is put together in the order of what went in: first what came of the
//! first row, and so on. What comes of a watermark (complete windows, say) is put in the order that the operator
//! notes ([`Emitter::order`]). So results are the same, whatever the parallelism.
//!
//! A watermark may come behind every row. So that there is something to share out, rows and watermarks are collected
//! as long as the graph has more of them at hand, where nothing can tell (see [`may_defer`]).

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::super::codec;
use super::super::error::EngineError;
use super::super::plan::Op;
use super::super::row::{Change, Row};
use super::share::Share;
use super::timers::Timers;
use super::{Builder, ENOUGH, Emitter, Operator};

mod given;
mod instance;
mod keys;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use given::{Given, hand_on_all};
use instance::{Instance, Item, Job, Thread};
pub(super) use keys::keys;
pub(crate) use keys::may_defer;

/// Of fewer rows than this for each instance it is not worth to wake other threads.
const WORTHWHILE: usize = if cfg!(test) { 2 } else { 64 };
/// Most rows and watermarks that are collected.
const COLLECTED: usize = if cfg!(test) { 40 } else { 16_384 };

/// What has come in.
enum Input {
    Row(usize, Change),
    Watermark(i64),
    Clock(i64),
}

/// Who was given an item.
#[derive(Clone, Copy)]
enum Place {
    One(usize),
    /// All, of a watermark or a time.
    All(i64),
}

/// How rows are shared out.
struct Router {
    keys: Vec<Vec<usize>>,
    share: Share,
    instances: usize,
    key: Vec<u8>,
}

impl Router {
    fn place(&mut self, port: usize, row: &Row) -> usize {
        self.key.clear();
        codec::put_key(&mut self.key, row, self.keys.get(port).map(Vec::as_slice).unwrap_or_default());
        self.share.place_of(&self.key, self.instances)
    }
}

/// An operator in several instances, the first of them on the caller's thread.
pub(super) struct Exchange {
    name: String,
    router: Router,
    instances: Vec<Arc<Mutex<Instance>>>,
    /// Of all instances but the first.
    threads: Vec<Thread>,
    /// What has not been given to an instance.
    input: VecDeque<Input>,
    /// Of what was given, and has not been handed on.
    places: VecDeque<Place>,
    /// Rows that have been given to instances.
    rows: u64,
    /// The last watermark that was given to them.
    watermark: i64,
    /// The timers of all instances, where the operator notes them.
    timers: Timers<Box<[u8]>>,
    /// It does.
    notes_timers: bool,
    /// Collects while the graph has more.
    defers: bool,
    /// What is at hand is being worked on.
    running: bool,
}

impl Exchange {
    pub(super) fn new(
        builder: &mut Builder<'_>,
        keys: Vec<Vec<usize>>,
        parallelism: usize,
    ) -> Result<Self, EngineError> {
        let (cache, share) = (builder.cache, Share::whole());
        builder.cache = cache / parallelism;
        let instances = (0..parallelism)
            .map(|place| {
                builder.share = share.part(place, parallelism);
                Ok(Arc::new(Mutex::new(Instance::new(super::build_one(builder)?))))
            })
            .collect::<Result<Vec<_>, EngineError>>();
        (builder.cache, builder.share) = (cache, share.clone());
        let instances = instances?;
        let name = builder.node.name.clone();
        let threads = instances
            .iter()
            .skip(1)
            .map(|instance| Thread::start(&name, Arc::clone(instance)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name,
            router: Router { keys, share, instances: instances.len(), key: Vec::new() },
            instances,
            threads,
            input: VecDeque::new(),
            places: VecDeque::new(),
            rows: 0,
            watermark: i64::MIN,
            timers: Timers::default(),
            notes_timers: matches!(&builder.node.op, Op::Over(spec) if spec.rowtime),
            defers: builder.defers,
            running: false,
        })
    }

    /// Lets all instances do a job at the same time.
    fn run(&self, job: Job) -> Result<(), EngineError> {
        self.threads.iter().for_each(|thread| thread.give(job));
        if let Some(first) = self.instances.first() {
            job.run(first);
        }
        let mut ended = true;
        for thread in &self.threads {
            ended &= thread.wait();
        }
        if ended {
            return Ok(());
        }
        Err(EngineError::Plan(format!("a thread of {} panicked; what it said is in the log", self.name)))
    }

    /// Takes over what the instances gave, in the order of what they were given: up to the first item that is not
    /// done, because its instance has stopped when it had given much. Of several failures the first item's counts.
    fn hand_on(&mut self, out: &mut Emitter) -> Result<(), EngineError> {
        let mut given: Vec<Given<'_>> = self.instances.iter().map(|instance| Given::take(instance)).collect();
        let before = self.places.len();
        while let Some(place) = self.places.front() {
            let done = match *place {
                Place::One(at) => match given.get_mut(at) {
                    Some(one) => one.hand_on_one(&mut self.timers, out)?,
                    None => false,
                },
                Place::All(reached) => hand_on_all(&mut given, &mut self.timers, reached, out)?,
            };
            if !done {
                break;
            }
            self.places.pop_front();
        }
        if self.places.len() == before {
            return Err(EngineError::Plan(format!("a row of {} was lost", self.name)));
        }
        given.into_iter().for_each(Given::leave);
        Ok(())
    }

    /// Gives the instances what has come in: up to a row that may be taken in only when all before it is done.
    fn share_out(&mut self) {
        let Self { instances, input, places, router, notes_timers, .. } = self;
        let mut instances: Vec<_> = instances.iter().map(|instance| instance.lock()).collect();
        while let Some(next) = input.pop_front() {
            let item = match next {
                Input::Row(port, change) => {
                    let place = router.place(port, &change.row);
                    let Some(instance) = instances.get_mut(place) else { continue };
                    if instance.operator.is_for_itself(port, &change.row, self.watermark) {
                        input.push_front(Input::Row(port, change));
                        return;
                    }
                    instance.items.push_back(Item::Row { port, change, number: self.rows });
                    self.rows = self.rows.wrapping_add(1);
                    places.push_back(Place::One(place));
                    continue;
                }
                Input::Watermark(watermark) => {
                    self.watermark = watermark;
                    Item::Watermark(watermark)
                }
                Input::Clock(now) => Item::Clock(now),
            };
            instances.iter_mut().for_each(|instance| instance.items.push_back(item.clone()));
            places.push_back(Place::All(item.reached(*notes_timers)));
        }
    }

    /// Whether it is a row that may be taken in only when all before it is done.
    fn is_for_itself(&mut self, input: &Input) -> bool {
        let Input::Row(port, change) = input else { return false };
        let place = self.router.place(*port, &change.row);
        let instance = self.instances.get(place).map(|instance| instance.lock());
        instance.is_some_and(|instance| instance.operator.is_for_itself(*port, &change.row, self.watermark))
    }

    /// Takes in on the caller's thread what is not worth to wake the others: a little, or the first rows that are each
    /// for itself.
    fn take_in(&mut self, out: &mut Emitter) -> Result<(), EngineError> {
        let few = self.input.len() < WORTHWHILE * self.instances.len();
        while out.len() < ENOUGH
            && let Some(input) = self.input.pop_front()
        {
            if !few && !self.is_for_itself(&input) {
                self.input.push_front(input);
                self.share_out();
                return Ok(());
            }
            let item = match input {
                Input::Row(port, change) => {
                    let place = self.router.place(port, &change.row);
                    let Some(instance) = self.instances.get(place) else { continue };
                    let number = self.rows;
                    self.rows = self.rows.wrapping_add(1);
                    if !self.notes_timers {
                        instance.lock().row(port, change, number, out)?;
                        continue;
                    }
                    let mut instance = instance.lock();
                    instance.items.push_back(Item::Row { port, change, number });
                    instance.work();
                    drop(instance);
                    self.places.push_back(Place::One(place));
                    self.hand_on(out)?;
                    continue;
                }
                Input::Watermark(watermark) => {
                    self.watermark = watermark;
                    Item::Watermark(watermark)
                }
                Input::Clock(now) => Item::Clock(now),
            };
            for instance in &self.instances {
                let mut instance = instance.lock();
                instance.items.push_back(item.clone());
                instance.work();
            }
            self.places.push_back(Place::All(item.reached(self.notes_timers)));
            self.hand_on(out)?;
        }
        Ok(())
    }

    /// Goes on with what has come in, until it is done or much has come out.
    fn go_on(&mut self, out: &mut Emitter) -> Result<(), EngineError> {
        if self.places.is_empty() {
            self.take_in(out)?;
        }
        if !self.places.is_empty() {
            self.run(Job::Work)?;
            self.hand_on(out)?;
        }
        self.running = !self.places.is_empty() || !self.input.is_empty();
        Ok(())
    }

    /// Something has come in.
    fn begin(&mut self, out: &mut Emitter) -> Result<(), EngineError> {
        if self.defers && self.input.len() < COLLECTED { Ok(()) } else { self.go_on(out) }
    }
}

impl Operator for Exchange {
    fn start(&mut self, first: bool, _out: &mut Emitter) -> Result<(), EngineError> {
        let mut timers = Vec::new();
        for instance in &self.instances {
            let mut noting = Emitter::noting();
            instance.lock().operator.start(first, &mut noting)?;
            timers.extend(noting.notes().map(std::mem::take).into_iter().flat_map(|notes| notes.timers));
        }
        // In the order of their keys, as one instance finds them in its table.
        timers.sort_by(|(_, left), (_, right)| left.cmp(right));
        timers.into_iter().for_each(|(time, key)| self.timers.push(time, key));
        Ok(())
    }

    fn resume(&mut self, watermark: i64) {
        self.watermark = watermark;
        self.instances.iter().for_each(|instance| instance.lock().operator.resume(watermark));
    }

    fn process(&mut self, port: usize, rows: &mut Vec<Change>, out: &mut Emitter) -> Result<(), EngineError> {
        if self.running {
            return self.go_on(out);
        }
        self.input.extend(rows.drain(..).map(|change| Input::Row(port, change)));
        self.begin(out)
    }

    fn pending(&self) -> bool {
        self.running
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        self.input.push_back(Input::Watermark(watermark));
        self.begin(out)
    }

    fn clock(&mut self, now: i64, out: &mut Emitter) -> Result<(), EngineError> {
        self.input.push_back(Input::Clock(now));
        self.begin(out)
    }

    fn next_timer(&self) -> Option<i64> {
        self.instances.iter().filter_map(|instance| instance.lock().operator.next_timer()).min()
    }

    fn defers(&self) -> bool {
        self.defers
    }

    fn settle(&mut self, out: &mut Emitter) -> Result<(), EngineError> {
        if self.input.is_empty() { Ok(()) } else { self.go_on(out) }
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.run(Job::Flush)?;
        self.instances.iter().try_for_each(|instance| instance.lock().failure.take().map_or(Ok(()), Err))
    }
}
