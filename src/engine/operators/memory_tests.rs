//! A key, or an input without one, may have more rows than memory has room for: what operators read of their state
//! for a row does not grow with the rows that are there, and what is read by need is read in pieces.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::expr::{Expr, ExprNode};
use super::super::graph::{Environment, Graph, NoLookup, Output, SystemClock};
use super::super::plan::{
    Join, JoinKind, NodeId, Op, Plan, Rank, RankFunction, SortKey, WindowInput, WindowJoin, WindowRank,
};
use super::super::row::{Change, RowKind, Value};
use super::super::testing::{ALL, PlanBuilder, change, schema};
use super::super::types::{DataType, TypeKind};
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
    state: MemoryState,
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
        Self { plan, graph, out, reads, state: state.state }
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
        self.count(|counting| counting.push(node, row))
    }

    /// The same of a watermark of all inputs, in seconds.
    fn watermark(&mut self, at: i64) -> (Vec<Change>, usize, usize) {
        self.count(|Self { graph, out, .. }| {
            for source in graph.sources().to_vec() {
                graph.watermark(source, at * 1000, out).unwrap();
            }
        })
    }

    fn count(&mut self, run: impl FnOnce(&mut Self)) -> (Vec<Change>, usize, usize) {
        self.out.0.clear();
        self.reads.all.store(0, Ordering::Relaxed);
        self.reads.most.store(0, Ordering::Relaxed);
        run(self);
        self.graph.flush().unwrap();
        let (all, most) = (self.reads.all.load(Ordering::Relaxed), self.reads.most.load(Ordering::Relaxed));
        (std::mem::take(&mut self.out.0), all, most)
    }
}

/// `left.v > (SELECT …)`, or all rows of one key.
fn join(kind: JoinKind, on: Vec<(usize, usize)>, keyed: bool) -> Counting {
    let key = keyed.then(|| vec![0]);
    let spec = Join {
        kind,
        on,
        null_safe: Vec::new(),
        residual: None,
        left_key: key.clone(),
        right_key: key,
        ttl: [None; 2],
    };
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

fn attached() -> WindowInput {
    WindowInput::Attached { start: None, end: 2, rowtime: true, ltz: false }
}

#[test]
fn a_window_keeps_its_first_rows_only() {
    for descending in [false, true] {
        let spec = WindowRank {
            window: attached(),
            function: RankFunction::RowNumber,
            partition: vec![1],
            order: vec![SortKey { column: 0, descending, nulls_first: false }],
            from: 1,
            to: 3,
            emit_rank: true,
            last_wins: false,
        };
        let mut rank =
            Counting::new(Op::WindowRank(spec), &["id:int k:int we:ts"], "id:int k:int we:ts rn:bigint");
        for epoch in [1, 50, ROWS] {
            let rows = |from| (from..from + ROWS).map(|id| format!("+I[{id}, {}, {epoch}000]", id % 2));
            rank.fill(0, rows(0), epoch);
            rank.graph.flush().unwrap();
            // Those of two partitions, and what the operator keeps besides.
            let kept = rank.state.len();
            assert!(kept < SOME, "{descending} {epoch}: {kept} entries");
            let (out, ..) = rank.watermark(i64::try_from(epoch).unwrap() * 1000);
            let first = if descending { [398, 396, 394, 399, 397, 395] } else { [0, 2, 4, 1, 3, 5] };
            let ids: Vec<_> = out.iter().map(|change| change.row.first().cloned()).collect();
            assert_eq!(ids, first.map(|id| Some(Value::Int(id))), "{descending} {epoch}");
        }
    }
}

#[test]
fn a_window_is_joined_key_by_key() {
    for kind in
        [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti]
    {
        let spec = WindowJoin { kind, on: vec![(1, 1)], residual: None, left: attached(), right: attached() };
        let row = "id:int k:int we:ts";
        let semi = matches!(kind, JoinKind::Semi | JoinKind::Anti);
        let both = "id:int k:int we:ts id2:int k2:int we2:ts";
        let mut join = Counting::new(Op::WindowJoin(spec), &[row, row], if semi { row } else { both });
        // Of 100 keys, 75 have rows on both sides, and 25 on either.
        join.fill(0, (0..ROWS).map(|id| format!("+I[{id}, {}, 5]", id % 100)), 100);
        join.fill(1, (0..ROWS).map(|id| format!("+I[{id}, {}, 5]", 25 + id % 100)), 100);
        let (out, all, most) = join.watermark(10);
        let (pairs, alone) = (75 * 16, 25 * 4);
        let expected = match kind {
            JoinKind::Inner => pairs,
            JoinKind::Left | JoinKind::Right => pairs + alone,
            JoinKind::Full => pairs + 2 * alone,
            JoinKind::Semi => 75 * 4,
            JoinKind::Anti => alone,
        };
        assert_eq!(out.len(), expected, "{kind:?}");
        assert!(all > ROWS && most < SOME, "{kind:?}: {most} of {all} entries at once");
    }
}

/// What is not joined yet waits in the state: it is there still when the first pair fails.
#[test]
fn a_window_that_is_joined_is_not_in_memory_as_a_whole() {
    let data_type = DataType::new(TypeKind::Int);
    let number = |number| Expr { node: ExprNode::Literal(Value::Int(number)), data_type: data_type.clone() };
    let args = vec![number(1), number(0)];
    let fails = Expr { node: ExprNode::Call { function: "/", args }, data_type: data_type.clone() };
    let row = "id:int k:int we:ts";
    let spec = WindowJoin {
        kind: JoinKind::Inner,
        on: vec![(1, 1)],
        residual: Some(fails),
        left: attached(),
        right: attached(),
    };
    let columns = "id:int k:int we:ts id2:int k2:int we2:ts";
    let mut join = Counting::new(Op::WindowJoin(spec), &[row, row], columns);
    for source in [0, 1] {
        join.fill(source, (0..ROWS).map(|id| format!("+I[{id}, {}, 5]", id % 100)), 100);
    }
    join.graph.watermark(0, 10_000, &mut join.out).unwrap();
    assert!(join.graph.watermark(1, 10_000, &mut join.out).is_err());
    let left = join.state.len();
    assert!(left > ROWS, "{left} entries are left");
}
