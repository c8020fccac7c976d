//! Which thread takes in what.

use std::thread::ThreadId;

use super::super::super::row::{RowKind, Value};
use super::*;

/// Its rows may be taken in only when all before them are done.
struct Alone(Arc<Mutex<Vec<ThreadId>>>);

impl Operator for Alone {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        _out: &mut Emitter,
    ) -> Result<(), EngineError> {
        self.0.lock().extend(rows.drain(..).map(|_| std::thread::current().id()));
        Ok(())
    }

    fn is_for_itself(&self, _port: usize, _row: &Row, _watermark: i64) -> bool {
        true
    }
}

/// There is nothing to share out: no other thread is woken for them.
#[test]
fn rows_that_are_for_themselves_stay_on_the_callers_thread() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let instances: Vec<_> =
        (0..3).map(|_| Arc::new(Mutex::new(Instance::new(Box::new(Alone(Arc::clone(&seen))))))).collect();
    let threads =
        instances.iter().skip(1).map(|one| Thread::start("alone", Arc::clone(one)).unwrap()).collect();
    let mut exchange = Exchange {
        name: "alone".to_owned(),
        router: Router { keys: vec![vec![0]], share: Share::whole(), instances: 3, key: Vec::new() },
        instances,
        threads,
        input: VecDeque::new(),
        places: VecDeque::new(),
        rows: 0,
        watermark: i64::MIN,
        timers: Timers::default(),
        notes_timers: false,
        defers: false,
        running: false,
    };
    let mut rows = (0..400).map(|key| Change::new(RowKind::Insert, vec![Value::Int(key)])).collect();
    let mut out = Emitter::default();
    exchange.process(0, &mut rows, &mut out).unwrap();
    while exchange.pending() {
        exchange.process(0, &mut rows, &mut out).unwrap();
    }
    let seen = seen.lock();
    assert_eq!(seen.len(), 400);
    assert!(seen.iter().all(|thread| *thread == std::thread::current().id()));
}
