//! OVER windows ordered by a column that is no time attribute, over any changelog.
//!
//! A row that comes or goes changes the results of the rows behind it, so the output is a changelog too. All rows
//! of a partition are kept, sorted; what was aggregated up to some of them is remembered, so that a row at the end
//! does not cost a walk over all rows before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;

use super::super::codec;
use super::super::error::EngineError;
use super::super::graph::Clock;
use super::super::plan::{SortKey, SortedOver as Spec};
use super::super::row::{Change, Row, RowKind, Value};
use super::aggregate::accumulator::Accumulators;
use super::aggregate::memory::MemoryCounts;
use super::buffer::{Waiting, put_sort_key};
use super::cleaning::{self, Cleaning};
use super::keyed::{KeyedRows, Partition};
use super::over_functions::Functions;
use super::{Builder, Emitter, Operator};

/// Rows between two remembered aggregates.
const STRIDE: usize = if cfg!(test) { 2 } else { 64 };

/// Remembered aggregates kept over a flush.
const CACHED: usize = if cfg!(test) { 2 } else { 1 << 16 };

/// Bytes behind a row's sort key that tell equal ones apart.
const SEQUENCE: usize = size_of::<u64>();

/// What has been aggregated from a partition's first row on.
#[derive(Clone)]
struct Running {
    accumulators: Accumulators,
    counts: MemoryCounts,
    rows: i64,
}

/// What a window computes.
struct Calls {
    functions: Functions,
    /// Rows that are equal in the order share the result (RANGE).
    peers: bool,
}

/// Aggregates, and the sort key up to and with which they are (none: of no row).
type Upto = (Option<Vec<u8>>, Running);

/// Rows with their results, by key.
type Results = BTreeMap<Vec<u8>, (Row, Vec<Value>)>;

impl Calls {
    fn start(&self) -> Running {
        let (accumulators, counts) = (self.functions.accumulators(), MemoryCounts::default());
        Running { accumulators, counts, rows: 0 }
    }

    fn add(&self, running: &mut Running, row: &Row) -> Result<(), EngineError> {
        running.rows += 1;
        self.functions.apply(&mut running.accumulators, &mut running.counts, row, true)
    }

    fn values(&self, running: &mut Running) -> Result<Vec<Value>, EngineError> {
        let Running { accumulators, counts, rows } = running;
        let mut values = Vec::new();
        self.functions.put_values(&mut values, accumulators, counts, *rows, |_| Value::Null)?;
        Ok(values)
    }

    /// The results of all rows whose sort key is not before `from`; the walk begins behind `upto`. `passed` is shown
    /// the aggregates behind each sort key.
    fn results(
        &self,
        rows: &Partition,
        (upto, mut running): Upto,
        from: &[u8],
        mut passed: impl FnMut(&[u8], &Running),
    ) -> Result<Results, EngineError> {
        let mut results = Results::new();
        let begin = upto.as_deref();
        let mut rows = rows
            .from(begin.unwrap_or_default())
            .skip_while(|(key, _)| begin == Some(sort_key(key)))
            .peekable();
        while let Some((first, _)) = rows.peek() {
            let group = sort_key(first).to_vec();
            let mut peers = Vec::new();
            while let Some((key, waiting)) = rows.next_if(|(key, _)| sort_key(key) == group) {
                self.add(&mut running, &waiting.row)?;
                if group.as_slice() >= from {
                    let values = if self.peers { Vec::new() } else { self.values(&mut running)? };
                    peers.push((key.clone(), (Row::clone(&waiting.row), values)));
                }
            }
            if self.peers && !peers.is_empty() {
                let values = self.values(&mut running)?;
                peers.iter_mut().for_each(|(_, (_, of_row))| of_row.clone_from(&values));
            }
            results.extend(peers);
            passed(&group, &running);
        }
        Ok(results)
    }
}

pub(super) struct SortedOver {
    partition: Vec<usize>,
    order: [SortKey; 1],
    calls: Calls,
    rows: KeyedRows,
    /// By partition and sort key: the aggregates of all rows up to and with that key.
    prefixes: HashMap<Vec<u8>, BTreeMap<Vec<u8>, Running>, RandomState>,
    remembered: usize,
    clock: Arc<dyn Clock>,
    /// A partition is forgotten as a whole.
    cleaning: Option<Cleaning>,
}

impl SortedOver {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        let functions = Functions::new(builder, &spec.calls, false)?;
        if functions.lags().next().is_some() {
            return Err(EngineError::Plan("LAG takes a window ordered by time".to_owned()));
        }
        Ok(Self {
            partition: spec.partition.clone(),
            order: [SortKey { column: spec.column, descending: false, nulls_first: true }],
            calls: Calls { functions, peers: spec.peers },
            rows: KeyedRows::new(builder, "rows")?,
            prefixes: HashMap::default(),
            remembered: 0,
            clock: Arc::clone(&builder.context.clock),
            cleaning: Cleaning::by_ttl(builder)?,
        })
    }

    /// Forgets the partitions whose time has come.
    fn clean(&mut self, now: i64) -> Result<(), EngineError> {
        while let Some(cleaning) = &mut self.cleaning
            && let Some(key) = cleaning.pop_due(now)?
        {
            cleaning::forget(&mut self.rows, &key)?;
            let prefixes = self.prefixes.remove(&key).map_or(0, |prefixes| prefixes.len());
            self.remembered = self.remembered.saturating_sub(prefixes);
        }
        Ok(())
    }

    fn change(&mut self, change: Change, out: &mut Vec<Change>) -> Result<(), EngineError> {
        let mut partition = Vec::new();
        codec::put_key(&mut partition, &change.row, &self.partition);
        let mut from = Vec::new();
        put_sort_key(&mut from, &change.row, &self.order);

        if let Some(cleaning) = &mut self.cleaning {
            cleaning.put_off(&partition, &mut self.rows, self.clock.now())?;
        }
        let rows = self.rows.edit(&partition)?;
        let goes = if change.kind.is_add() {
            None
        } else {
            let mut peers = rows.from(&from).take_while(|(key, _)| sort_key(key) == from);
            // none: a row that never came
            let Some((key, _)) = peers.find(|(_, waiting)| waiting.row == change.row) else { return Ok(()) };
            Some(key.clone())
        };

        let mut prefixes = self.prefixes.remove(&partition).unwrap_or_default();
        self.remembered = self.remembered.saturating_sub(prefixes.len());
        drop(prefixes.split_off(&from));
        let mut begin: Upto = match prefixes.last_key_value() {
            Some((key, running)) => (Some(key.clone()), running.clone()),
            None => (None, self.calls.start()),
        };
        // the first walk finds where the second begins
        let before = begin.clone();
        let old = self.calls.results(rows, before, &from, |key, running| {
            if key < from.as_slice() {
                begin = (Some(key.to_vec()), running.clone());
            }
        })?;
        match goes {
            Some(key) => drop(rows.remove(&key)),
            None => rows.push(from.clone(), Waiting::new(RowKind::Insert, change.row)),
        }
        let mut walked = 0_usize;
        let mut last = None;
        let new = self.calls.results(rows, begin, &from, |key, running| {
            walked += 1;
            if walked.is_multiple_of(STRIDE) {
                prefixes.insert(key.to_vec(), running.clone());
            }
            last = Some((key.to_vec(), running.clone()));
        })?;
        prefixes.extend(last);
        if prefixes.len() > 2 * (rows.len() / STRIDE + 2) {
            let most = prefixes.len();
            let mut at = 0;
            prefixes.retain(|_, _| {
                at += 1;
                at % 2 == 0 || at == most
            });
        }
        self.remembered += prefixes.len();
        self.prefixes.insert(partition, prefixes);
        emit(old, new, out);
        Ok(())
    }
}

/// A row's key without the number that tells equal ones apart.
fn sort_key(key: &[u8]) -> &[u8] {
    key.get(..key.len().saturating_sub(SEQUENCE)).unwrap_or_default()
}

/// What changed between two results of a partition's rows.
fn emit(mut old: Results, new: Results, out: &mut Vec<Change>) {
    let row = |row: &Row, values: Vec<Value>| row.iter().cloned().chain(values).collect::<Row>();
    let mut updates = Vec::new();
    for (key, (input, values)) in new {
        match old.remove(&key) {
            Some((_, before)) if before == values => {}
            Some((_, before)) => {
                updates.push(Change { kind: RowKind::UpdateBefore, row: row(&input, before) });
                updates.push(Change { kind: RowKind::UpdateAfter, row: row(&input, values) });
            }
            None => updates.push(Change { kind: RowKind::Insert, row: row(&input, values) }),
        }
    }
    // what is left of the old rows has gone
    out.extend(
        old.into_values().map(|(input, values)| Change { kind: RowKind::Delete, row: row(&input, values) }),
    );
    out.append(&mut updates);
}

impl Operator for SortedOver {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        self.clean(self.clock.now())?;
        for change in rows.drain(..) {
            self.change(change, out.rows())?;
        }
        Ok(())
    }

    fn clock(&mut self, now: i64, _out: &mut Emitter) -> Result<(), EngineError> {
        self.clean(now)
    }

    fn next_timer(&self) -> Option<i64> {
        self.cleaning.as_ref()?.next()
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.rows.flush();
        if let Some(cleaning) = &mut self.cleaning {
            cleaning.flush()?;
        }
        if self.remembered > CACHED {
            self.prefixes.clear();
            self.remembered = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::plan::{AggregateCall, Op, SortedOver};
    use super::super::super::testing::{ALL, PlanBuilder, Runner, lines, schema};

    /// `SUM(v) OVER (PARTITION BY k ORDER BY o)`.
    fn sums(peers: bool) -> Runner {
        let call = AggregateCall {
            function: "SUM",
            args: vec![2],
            distinct: false,
            filter: None,
            output: schema("s:int").remove(0),
        };
        let mut plan = PlanBuilder::default();
        let source = plan.source("k:int o:int v:int", ALL);
        let spec = SortedOver { partition: vec![0], column: 1, peers, calls: vec![call] };
        let over = plan.node(Op::SortedOver(spec), &[source], "k:int o:int v:int s:int", ALL);
        plan.sink(over, "k:int o:int v:int s:int");
        Runner::new(plan.plan)
    }

    #[test]
    fn rows_behind_a_change_get_new_results() {
        let mut runner = sums(true);
        assert_eq!(
            runner.feed("+I[1, 10, 1]\n+I[1, 30, 4]\n+I[2, 20, 9]\n+I[1, 20, 2]"),
            lines(
                "+I[1, 10, 1, 1]
                 +I[1, 30, 4, 5]
                 +I[2, 20, 9, 9]
                 +I[1, 20, 2, 3]
                 -U[1, 30, 4, 5]
                 +U[1, 30, 4, 7]"
            )
        );
        // equal ones share a result
        assert_eq!(runner.feed("+I[1, 30, 8]"), lines("-U[1, 30, 4, 7]\n+U[1, 30, 4, 15]\n+I[1, 30, 8, 15]"));
        assert_eq!(
            runner.feed("-D[1, 10, 1]"),
            lines(
                "-D[1, 10, 1, 1]
                 -U[1, 20, 2, 3]
                 +U[1, 20, 2, 2]
                 -U[1, 30, 4, 15]
                 +U[1, 30, 4, 14]
                 -U[1, 30, 8, 15]
                 +U[1, 30, 8, 14]"
            )
        );
        // a row that never came is not missed; NULL comes first
        assert_eq!(runner.feed("-D[1, 20, 7]"), "");
        assert_eq!(runner.feed("+I[1, null, null]"), lines("+I[1, null, null, null]"));
    }

    #[test]
    fn rows_count_one_by_one() {
        let mut runner = sums(false);
        assert_eq!(
            runner.feed("+I[1, 10, 1]\n+I[1, 10, 2]\n-U[1, 10, 1]"),
            lines(
                "+I[1, 10, 1, 1]
                 +I[1, 10, 2, 3]
                 -D[1, 10, 1, 1]
                 -U[1, 10, 2, 3]
                 +U[1, 10, 2, 2]"
            )
        );
    }
}
