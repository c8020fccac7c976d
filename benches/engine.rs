//! The operators alone: changes in, changes out, state in memory. Prints allocations per row first.

#![allow(clippy::panic, reason = "a benchmark ends at its first fault")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use millstream::engine::expr::{Expr, ExprNode};
use millstream::engine::graph::{Environment, Graph, NoLookup, Output, SystemClock};
use millstream::engine::plan::{
    Aggregate, AggregateCall, ChangelogMode, Join, JoinKind, Node, NodeId, Op, Plan, TableRef,
};
use millstream::engine::row::{Change, RowKind, Value};
use millstream::engine::types::{DataType, Field, TypeKind};
use millstream::state::MemoryState;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged; only a counter is added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROWS: i64 = 10_000;
const CHANGES: ChangelogMode = ChangelogMode { update_before: true, update_after: true, delete: true };

#[derive(Default)]
struct Count(usize);

impl Output for Count {
    fn rows(&mut self, _sink: NodeId, rows: &mut Vec<Change>) {
        self.0 += rows.len();
        rows.clear();
    }
}

fn fields(kinds: &[TypeKind]) -> Vec<Field> {
    let field = |(at, kind): (usize, &TypeKind)| Field {
        name: format!("c{at}"),
        data_type: DataType::new(kind.clone()),
    };
    kinds.iter().enumerate().map(field).collect()
}

fn table(name: &str) -> TableRef {
    TableRef { name: name.to_owned(), options: BTreeMap::new(), columns: Vec::new(), primary_key: Vec::new() }
}

/// Sources of three columns (BIGINT, BIGINT, STRING), one operator after the other, a sink.
fn plan(sources: usize, ops: Vec<(Op, Vec<TypeKind>)>) -> Plan {
    let columns = [TypeKind::BigInt, TypeKind::BigInt, DataType::string().kind];
    let mut plan = Plan::default();
    let mut add = |op: Op, inputs: Vec<NodeId>, schema: Vec<Field>| {
        let name = format!("node-{}", plan.nodes.len());
        plan.nodes.push(Node { op, inputs, schema, changelog: CHANGES, name });
        plan.nodes.len() - 1
    };
    let mut inputs: Vec<NodeId> = (0..sources)
        .map(|at| add(Op::Source(table(&format!("source{at}"))), Vec::new(), fields(&columns)))
        .collect();
    for (op, kinds) in ops {
        let node = add(op, inputs, fields(&kinds));
        inputs = vec![node];
    }
    add(Op::Sink(table("sink")), inputs, Vec::new());
    plan
}

fn expr(node: ExprNode, kind: TypeKind) -> Expr {
    Expr { node, data_type: DataType::new(kind) }
}

fn call(function: &'static str, args: Vec<Expr>, kind: TypeKind) -> Expr {
    expr(ExprNode::Call { function, args }, kind)
}

fn filter_project() -> Plan {
    let column = |at: usize| expr(ExprNode::Column(at), TypeKind::BigInt);
    let literal = |value: i64| expr(ExprNode::Literal(Value::Int(value)), TypeKind::BigInt);
    let remainder = call("%", vec![column(0), literal(10)], TypeKind::BigInt);
    let filter = Op::Filter(call("<", vec![remainder, literal(9)], TypeKind::Boolean));
    let text = expr(ExprNode::Column(2), DataType::string().kind);
    let sum = call("+", vec![column(0), column(1)], TypeKind::BigInt);
    let kinds = vec![TypeKind::BigInt, TypeKind::BigInt, DataType::string().kind];
    let columns = vec![TypeKind::BigInt, DataType::string().kind];
    plan(1, vec![(filter, kinds), (Op::Project(vec![sum, text]), columns)])
}

fn aggregate() -> Plan {
    let call = |function: &'static str, args: &[usize]| AggregateCall {
        function,
        args: args.to_vec(),
        distinct: false,
        filter: None,
        output: Field { name: function.to_owned(), data_type: DataType::new(TypeKind::BigInt) },
    };
    let calls = vec![call("COUNT", &[]), call("SUM", &[0]), call("AVG", &[0])];
    let spec = Aggregate { group: vec![1], calls, emit_update_before: false };
    plan(1, vec![(Op::Aggregate(spec), vec![TypeKind::BigInt; 4])])
}

fn join() -> Plan {
    let spec = Join {
        kind: JoinKind::Left,
        on: vec![(1, 0)],
        residual: None,
        left_key: Some(vec![0]),
        right_key: Some(vec![0]),
    };
    let text = || DataType::string().kind;
    let kinds = vec![TypeKind::BigInt, TypeKind::BigInt, text(), TypeKind::BigInt, TypeKind::BigInt, text()];
    plan(2, vec![(Op::Join(spec), kinds)])
}

fn rows(kind: RowKind, count: i64) -> Vec<Change> {
    (0..count)
        .map(|id| {
            Change::new(
                kind,
                vec![Value::Int(id), Value::Int(id % 1000), Value::str("a text of usual length")],
            )
        })
        .collect()
}

fn start(plan: &Plan) -> Graph {
    let mut state = MemoryState::new();
    let environment = Environment { clock: Arc::new(SystemClock), lookup: &mut NoLookup };
    match Graph::build(plan, &mut state, environment) {
        Ok(graph) => graph,
        Err(error) => panic!("{error}"),
    }
}

/// Inserts and then deletes all rows, so that every round starts from the same state.
fn round(graph: &mut Graph, source: NodeId, changes: &[Vec<Change>]) -> usize {
    let mut out = Count::default();
    for batch in changes {
        for chunk in batch.chunks(1000) {
            if let Err(error) = graph.push(source, &mut chunk.to_vec(), &mut out) {
                panic!("{error}");
            }
        }
    }
    out.0
}

fn bench(criterion: &mut Criterion) {
    let changes = [rows(RowKind::Insert, ROWS), rows(RowKind::Delete, ROWS)];
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(ROWS.unsigned_abs() * 2));
    for (name, plan) in [("filter_project", filter_project()), ("aggregate", aggregate()), ("join", join())] {
        let mut graph = start(&plan);
        if name == "join" {
            round(&mut graph, 1, &[rows(RowKind::Insert, 1000)]);
        }
        round(&mut graph, 0, &changes);
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        let out = round(&mut graph, 0, &changes);
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
        println!(
            "{name}: {out} changes out of {}, {:.2} allocations a row",
            ROWS * 2,
            allocations as f64 / (ROWS * 2) as f64
        );
        group.bench_function(name, |bencher| bencher.iter(|| black_box(round(&mut graph, 0, &changes))));
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
