//! Changelogs as text for tests: a graph in, lines like `+I[1, ann]` in and out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::graph::{Clock, Environment, Graph, NoLookup, Output};
use super::plan::{ChangelogMode, Node, NodeId, Op, Plan, TableRef};
use super::print;
use super::row::{Change, Row, RowKind, Value};
use super::types::{DataType, Field, TypeKind};
use crate::state::{MemoryState, StateBackend};

/// Any kind of row.
pub(crate) const ALL: ChangelogMode = ChangelogMode { update_before: true, update_after: true, delete: true };
/// Only `+I`.
pub(crate) const INSERTS: ChangelogMode =
    ChangelogMode { update_before: false, update_after: false, delete: false };

/// Columns from `a:int b:string ts:timestamp`.
pub(crate) fn schema(text: &str) -> Vec<Field> {
    text.split_whitespace()
        .map(|column| {
            let (name, kind) = column.split_once(':').unwrap();
            let kind = match kind {
                "int" => TypeKind::Int,
                "bigint" => TypeKind::BigInt,
                "string" => DataType::string().kind,
                "double" => TypeKind::Double,
                "bool" => TypeKind::Boolean,
                "decimal" => TypeKind::Decimal(10, 2),
                "ts" => TypeKind::Timestamp(3),
                other => panic!("type {other}"),
            };
            Field { name: name.to_owned(), data_type: DataType::new(kind) }
        })
        .collect()
}

/// A value of a type from text; `ts` counts seconds since 1970.
fn value(text: &str, kind: &TypeKind) -> Value {
    match (text.trim(), kind) {
        ("null", _) => Value::Null,
        (text, TypeKind::Int | TypeKind::BigInt) => Value::Int(text.parse().unwrap()),
        (text, TypeKind::Double) => Value::Double(text.parse().unwrap()),
        (text, TypeKind::Boolean) => Value::Bool(text == "true"),
        (text, TypeKind::Decimal(_, scale)) => {
            Value::Decimal(super::functions::cast::parse_decimal(text, 38, *scale).unwrap().unwrap())
        }
        (text, TypeKind::Timestamp(_)) => {
            Value::Timestamp(super::row::Instant::from_millis((text.parse::<f64>().unwrap() * 1000.0) as i64))
        }
        (text, _) => Value::str(text),
    }
}

/// A change from `+I[1, ann]`.
pub(crate) fn change(text: &str, schema: &[Field]) -> Change {
    let (kind, rest) = text.trim().split_at(2);
    let kind = match kind {
        "+I" => RowKind::Insert,
        "-U" => RowKind::UpdateBefore,
        "+U" => RowKind::UpdateAfter,
        "-D" => RowKind::Delete,
        other => panic!("row kind {other}"),
    };
    let fields = rest.trim_start_matches('[').trim_end_matches(']').split(", ");
    let row: Vec<Value> =
        fields.zip(schema).map(|(text, field)| value(text, &field.data_type.kind)).collect();
    Change { kind, row: Row::from(row) }
}

/// Builds plans by hand.
#[derive(Default)]
pub(crate) struct PlanBuilder {
    pub(crate) plan: Plan,
}

impl PlanBuilder {
    pub(crate) fn node(
        &mut self,
        op: Op,
        inputs: &[NodeId],
        columns: &str,
        changelog: ChangelogMode,
    ) -> NodeId {
        let name = format!("node-{}", self.plan.nodes.len());
        self.plan.nodes.push(Node { op, inputs: inputs.to_vec(), schema: schema(columns), changelog, name });
        self.plan.nodes.len() - 1
    }

    fn table(name: &str) -> TableRef {
        TableRef {
            name: name.to_owned(),
            options: BTreeMap::new(),
            columns: Vec::new(),
            primary_key: Vec::new(),
        }
    }

    pub(crate) fn source(&mut self, columns: &str, changelog: ChangelogMode) -> NodeId {
        self.node(Op::Source(Self::table("source")), &[], columns, changelog)
    }

    pub(crate) fn sink(&mut self, input: NodeId, columns: &str) -> NodeId {
        self.node(Op::Sink(Self::table("sink")), &[input], columns, ALL)
    }
}

#[derive(Default)]
struct Collected {
    rows: Vec<(NodeId, Change)>,
}

impl Output for Collected {
    fn rows(&mut self, sink: NodeId, rows: &mut Vec<Change>) {
        self.rows.extend(rows.drain(..).map(|change| (sink, change)));
    }
}

/// When a [`Runner`]'s clock starts, milliseconds since 1970.
pub(crate) const NOW: i64 = 1_700_000_000_000;

/// Processing time that stands still unless it is moved.
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A running plan, fed and read as text.
pub(crate) struct Runner {
    plan: Plan,
    pub(crate) state: MemoryState,
    graph: Graph,
    collected: Collected,
    clock: Arc<TestClock>,
}

impl Runner {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut state = MemoryState::new();
        let clock = Arc::new(TestClock(AtomicI64::new(NOW)));
        let graph = Self::build(&plan, &mut state, &clock);
        let mut runner = Self { plan, state, graph, collected: Collected::default(), clock };
        runner.graph.start(&mut runner.collected).unwrap();
        runner
    }

    fn build(plan: &Plan, state: &mut dyn StateBackend, clock: &Arc<TestClock>) -> Graph {
        let clock = Arc::clone(clock);
        Graph::build(plan, state, Environment { clock, lookup: &mut NoLookup }).unwrap()
    }

    /// Flushes and starts anew from the state, as after a restart.
    pub(crate) fn restart(&mut self) {
        self.graph.flush().unwrap();
        self.graph = Self::build(&self.plan, &mut self.state, &self.clock);
        self.graph.start(&mut self.collected).unwrap();
    }

    /// As [`Runner::restart`], on this many threads from now on.
    pub(crate) fn restart_on(&mut self, threads: usize) {
        self.plan.options.insert("parallelism.default".to_owned(), threads.to_string());
        self.restart();
    }

    pub(crate) fn push(&mut self, source: NodeId, change: Change) {
        self.graph.push(source, &mut vec![change], &mut self.collected).unwrap();
    }

    /// Pushes a line to a partition of a source that has so many.
    pub(crate) fn push_partition(&mut self, source: NodeId, partition: u32, of: u32, line: &str) {
        self.graph.set_partitions(source, of);
        let change = change(line, &self.plan.nodes[source].schema);
        self.graph.push_partition(source, partition, &mut vec![change], &mut self.collected).unwrap();
    }

    /// Moves processing time on, to so many milliseconds behind [`NOW`].
    pub(crate) fn wait_until(&mut self, millis: i64) {
        self.clock.0.store(NOW + millis, Ordering::Relaxed);
        self.graph.advance_clock(NOW + millis, &mut self.collected).unwrap();
    }

    /// When a timer is due, in milliseconds behind [`NOW`].
    pub(crate) fn next_timer(&self) -> Option<i64> {
        self.graph.next_timer().map(|at| at - NOW)
    }

    /// Pushes changes together.
    pub(crate) fn push_all(&mut self, source: NodeId, changes: &mut Vec<Change>) {
        self.graph.push(source, changes, &mut self.collected).unwrap();
    }

    /// Ends an epoch without a restart.
    pub(crate) fn flush(&mut self) {
        self.graph.flush().unwrap();
    }

    /// A source's watermark, in milliseconds.
    pub(crate) fn watermark(&mut self, source: NodeId, watermark: i64) {
        self.graph.watermark(source, watermark, &mut self.collected).unwrap();
    }

    pub(crate) fn end(&mut self) {
        self.graph.end(&mut self.collected).unwrap();
    }

    /// Pushes lines `NODE +I[…]` (or `+I[…]` for node 0); returns what came out of the sink as lines.
    pub(crate) fn feed(&mut self, lines: &str) -> String {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (node, text) = match line.split_once(' ') {
                Some((node, text)) if node.parse::<usize>().is_ok() => (node.parse().unwrap(), text),
                _ => (0, line),
            };
            let change = change(text, &self.plan.nodes[node].schema);
            self.push(node, change);
        }
        self.take()
    }

    pub(crate) fn take(&mut self) -> String {
        let mut out = String::new();
        for (sink, change) in self.collected.rows.drain(..) {
            print::change(&mut out, &change, &self.plan.nodes[sink].schema);
            out.push('\n');
        }
        out
    }

    pub(crate) fn changes(&mut self) -> Vec<Change> {
        self.collected.rows.drain(..).map(|(_, change)| change).collect()
    }
}

/// Lines without the indentation of the test's source.
pub(crate) fn lines(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}
