//! A key, or an input without one, may have more rows than memory has room for: what operators read of their state
//! for a row does not grow with the rows that are there, and what is read by need is read in pieces.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::graph::{Environment, Graph, NoLookup, Output, SystemClock};
use super::super::plan::{Join, JoinKind, NodeId, Op, Plan, Rank, RankFunction, SortKey};
use super::super::row::{Change, RowKind};
use super::super::testing::{ALL, PlanBuilder, change, schema};
use crate::state::{MemoryState, StateBackend, StateError, StateTable, Visit};

/// Rows of a bucket, or a partition.
const ROWS: usize = 400;
/// Entries that may be read for a row, or at once: some, not a good part of them.
const SOME: usize = 24;

/// Entries that were read from the tables.
#[derive(Default)]
struct Reads {
    all: AtomicUsize,
    /// By the longest scan.
    most: AtomicUsize,
}

/// State that counts what is read.
struct Counted {
    state: MemoryState,
    reads: Arc<Reads>,
}

struct CountedTable {
    table: Box<dyn StateTable>,
    reads: Arc<Reads>,
}

impl StateBackend for Counted {
    fn table(&mut self, name: &str) -> Result<Box<dyn StateTable>, StateError> {
        Ok(Box::new(CountedTable { table: self.state.table(name)?, reads: Arc::clone(&self.reads) }))
    }
}

impl StateTable for CountedTable {
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError> {
        self.reads.all.fetch_add(1, Ordering::Relaxed);
        self.table.get(key)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        self.table.put(key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        self.table.delete(key);
    }

    fn delete_if(&mut self, key: &[u8], test: &dyn Fn(&[u8]) -> bool) -> Result<(), StateError> {
        self.table.delete_if(key, test)
    }

    fn put_greater(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.table.put_greater(key, value)
    }

    fn scan_from(&mut self, from: &[u8], each: &mut Visit<'_>) -> Result<(), StateError> {
        let mut seen = 0;
        self.table.scan_from(from, &mut |key, value| {
            seen += 1;
            each(key, value)
        })?;
        self.reads.all.fetch_add(seen, Ordering::Relaxed);
        self.reads.most.fetch_max(seen, Ordering::Relaxed);
        Ok(())
    }
}

#[derive(Default)]
struct Collected(Vec<Change>);

impl Output for Collected {
    fn rows(&mut self, _sink: NodeId, rows: &mut Vec<Change>) {
        self.0.append(rows);
    }
}

/// A running plan over counted state.
struct Counting {
    plan: Plan,
    graph: Graph,
    out: Collected,
    reads: Arc<Reads>,
}

impl Counting {
    fn new(op: Op, inputs: &[&str], columns: &str) -> Self {
        let mut plan = PlanBuilder::default();
        let sources: Vec<NodeId> = inputs.iter().map(|columns| plan.source(columns, ALL)).collect();
        let node = plan.node(op, &sources, columns, ALL);
        plan.sink(node, columns);
        let plan = plan.plan;
        let reads = Arc::new(Reads::default());
        let mut state = Counted { state: MemoryState::new(), reads: Arc::clone(&reads) };
        let environment = Environment { clock: Arc::new(SystemClock), lookup: &mut NoLookup };
        let mut graph = Graph::build(&plan, &mut state, environment).unwrap();
        let mut out = Collected::default();
        graph.start(&mut out).unwrap();
        Self { plan, graph, out, reads }
    }

    /// Takes rows in, in epochs of so many.
    fn fill(&mut self, node: NodeId, rows: impl Iterator<Item = String>, epoch: usize) {
        for (at, row) in rows.enumerate() {
            self.push(node, &row);
            if at % epoch == epoch - 1 {
                self.graph.flush().unwrap();
            }
        }
    }

    fn push(&mut self, node: NodeId, row: &str) {
        let row = change(row, &self.plan.nodes[node].schema);
        self.graph.push(node, &mut vec![row], &mut self.out).unwrap();
    }

    /// What comes of a row, an epoch of its own, and what is read for it: in all, and at once.
    fn one(&mut self, node: NodeId, row: &str) -> (Vec<Change>, usize, usize) {
        self.out.0.clear();
        self.reads.all.store(0, Ordering::Relaxed);
        self.reads.most.store(0, Ordering::Relaxed);
        self.push(node, row);
        self.graph.flush().unwrap();
        let (all, most) = (self.reads.all.load(Ordering::Relaxed), self.reads.most.load(Ordering::Relaxed));
        (std::mem::take(&mut self.out.0), all, most)
    }
}

/// `left.v > (SELECT …)`, or all rows of one key.
fn join(kind: JoinKind, on: Vec<(usize, usize)>, keyed: bool) -> Counting {
    let key = keyed.then(|| vec![0]);
    let spec = Join { kind, on, residual: None, left_key: key.clone(), right_key: key, ttl: [None; 2] };
    let semi = matches!(kind, JoinKind::Semi | JoinKind::Anti);
    let columns = if semi { "id:int k:int" } else { "id:int k:int id2:int k2:int" };
    assert!(schema(columns).len() > 1);
    Counting::new(Op::Join(spec), &["id:int k:int", "id:int k:int"], columns)
}

#[test]
fn a_row_of_a_join_reads_no_others_of_its_input() {
    for (on, keyed) in [(vec![], true), (vec![], false), (vec![(1, 1)], true), (vec![(1, 1)], false)] {
        for kind in [JoinKind::Inner, JoinKind::Full, JoinKind::Semi, JoinKind::Anti] {
            let mut join = join(kind, on.clone(), keyed);
            for epoch in [1, 100, ROWS] {
                join.fill(0, (0..ROWS).map(|id| format!("+I[{id}, 7]")), epoch);
                join.graph.flush().unwrap();
                for row in ["+I[9999, 7]", "-D[9999, 7]", "-D[1, 7]", "+I[1, 7]"] {
                    let (_, all, _) = join.one(0, row);
                    assert!(all < SOME, "{kind:?} {on:?} {keyed} {epoch}: {all} entries for {row}");
                }
                join.fill(0, (0..ROWS).map(|id| format!("-D[{id}, 7]")), epoch);
            }
        }
    }
}

#[test]
fn a_row_of_a_join_meets_a_large_bucket_in_pieces() {
    for (on, keyed) in [(vec![], true), (vec![(1, 1)], false)] {
        for (kind, first) in [
            (JoinKind::Inner, ROWS),
            (JoinKind::Right, ROWS),
            (JoinKind::Full, 2 * ROWS),
            (JoinKind::Semi, ROWS),
            (JoinKind::Anti, ROWS),
        ] {
            let mut join = join(kind, on.clone(), keyed);
            join.fill(0, (0..ROWS).map(|id| format!("+I[{id}, 7]")), 100);
            // The first and the last partner of all of them; one between makes pairs only.
            let semi = matches!(kind, JoinKind::Semi | JoinKind::Anti);
            let between = if semi { 0 } else { ROWS };
            let rows =
                [("+I[1, 7]", first), ("+I[2, 7]", between), ("-D[1, 7]", between), ("-D[2, 7]", first)];
            for (row, expected) in rows {
                let (out, all, most) = join.one(1, row);
                assert_eq!(out.len(), expected, "{kind:?} {on:?}: {row}");
                assert!(
                    all >= ROWS && most < SOME,
                    "{kind:?} {on:?}: {most} of {all} entries at once for {row}"
                );
            }
            let (out, ..) = join.one(0, "+I[3, 7]");
            let lone = matches!(kind, JoinKind::Full | JoinKind::Anti);
            assert_eq!(out.len(), usize::from(lone));
            assert!(out.iter().all(|change| change.kind != RowKind::Delete));
        }
    }
}

/// The first rows of all, by the greatest `k`.
fn top(from: u64, to: u64, emit_rank: bool) -> Counting {
    let spec = Rank {
        function: RankFunction::RowNumber,
        partition: Vec::new(),
        order: vec![SortKey { column: 1, descending: true, nulls_first: false }],
        from,
        to: Some(to),
        emit_rank,
        emit_update_before: true,
        input_key: Some(vec![0]),
    };
    let columns = if emit_rank { "id:int k:int rn:bigint" } else { "id:int k:int" };
    Counting::new(Op::Rank(spec), &["id:int k:int"], columns)
}

#[test]
fn a_row_of_a_top_n_reads_the_first_ones_only() {
    for (from, emit_rank) in [(1, false), (1, true), (3, false)] {
        for epoch in [1, 100, ROWS] {
            let mut top = top(from, 4, emit_rank);
            top.fill(0, (0..ROWS).map(|id| format!("+I[{id}, {id}]")), epoch);
            top.graph.flush().unwrap();
            // One behind them, one before them, and the first of all, again and again.
            let mut rows = vec!["-D[7, 7]".to_owned(), "+I[7, 7]".into(), "+I[900, 900]".into()];
            rows.push("-D[900, 900]".into());
            rows.extend((0..20).map(|at| format!("-D[{}, {}]", ROWS - 1 - at, ROWS - 1 - at)));
            for row in rows {
                let (out, all, _) = top.one(0, &row);
                assert!(all < SOME, "{from} {emit_rank} {epoch}: {all} entries for {row}");
                assert_eq!(out.is_empty(), row.ends_with("[7, 7]"), "{row}: {out:?}");
            }
        }
    }
}
