//! Operators give the same results on several threads as on one, and may go on with another number of them after a
//! restart: random changelogs, batches and watermarks.

use proptest::prelude::*;

use super::super::codec;
use super::super::expr::{Expr, ExprNode};
use super::super::plan::{JoinKind, Node, NodeId, Op, Plan};
use super::super::row::{Change, Instant, RowKind, Value};
use super::super::testing::{Runner, schema};
use super::super::types::{DataType, TypeKind};
use super::Share;
use super::restart_tests::{self, Case, Step, Tables, cases, changes, step};

/// How far the watermarks of [`assigned`] are behind the latest row, in milliseconds.
const BEHIND: i64 = 4000;

/// The same with tables that make their watermarks of their rows: one behind every later row.
fn assigned(case: &Case) -> Option<(Plan, Vec<NodeId>)> {
    let mut plan = Plan { nodes: Vec::new(), ..case.plan.clone() };
    let mut places = Vec::new();
    let mut sources = Vec::new();
    for node in &case.plan.nodes {
        let mut node = node.clone();
        node.inputs.iter_mut().for_each(|input| *input = places[*input]);
        plan.nodes.push(node.clone());
        let mut place = plan.nodes.len() - 1;
        if matches!(node.op, Op::Source(_)) {
            sources.push(place);
            let time = Expr { node: ExprNode::Column(3), data_type: node.schema.get(3)?.data_type.clone() };
            let data_type = DataType::new(TypeKind::IntervalMillis);
            let behind = Expr { node: ExprNode::Literal(Value::Interval(BEHIND)), data_type };
            let data_type = schema("ts:ts").remove(0).data_type;
            let watermark =
                Expr { node: ExprNode::Call { function: "-", args: vec![time, behind] }, data_type };
            node.op = Op::WatermarkAssigner { rowtime: 3, watermark };
            node.inputs = vec![place];
            node.name = format!("{} watermark", node.name);
            plan.nodes.push(node);
            place += 1;
        }
        places.push(place);
    }
    Some((plan, sources))
}

/// What comes out up to each watermark and each end of an epoch, on one thread or, after each restart, on another
/// number of them. Rows of one source that stand together are pushed together.
fn run_on(case: &Case, steps: &[Step], threads: &[usize]) -> Vec<String> {
    let mut runner = Runner::new(case.plan.clone());
    let mut threads = threads.iter().cycle();
    let mut restart = |runner: &mut Runner| runner.restart_on(*threads.next().unwrap());
    restart(&mut runner);
    let mut tables = Tables::default();
    let (mut source, mut batch) = (case.sources[0], Vec::new());
    let mut out = Vec::new();
    for step in steps {
        if let Some((of, more)) = changes(case, &mut tables, step) {
            if of != source {
                runner.push_all(source, &mut batch);
                source = of;
            }
            batch.extend(more);
            continue;
        }
        runner.push_all(source, &mut batch);
        match step {
            Step::Watermark { port, at } => {
                runner.watermark(case.sources[port % case.sources.len()], at * 1000);
            }
            Step::Flush => {
                // The clock says nothing about event time.
                runner.wait_until(0);
                runner.flush();
            }
            _ => restart(&mut runner),
        }
        out.push(runner.take());
    }
    runner.push_all(source, &mut batch);
    out.push(runner.take());
    runner.end();
    out.push(runner.take());
    // Of one row, the partners in the order of the memory or of the state.
    if case.plan.nodes.iter().any(|node| matches!(node.op, Op::Join(_))) {
        for lines in &mut out {
            let mut sorted: Vec<&str> = lines.lines().collect();
            sorted.sort_unstable();
            *lines = sorted.join("\n");
        }
    }
    out
}

/// What differs on several threads.
fn differences(case: &Case, name: &str, steps: &[Step]) -> Vec<String> {
    let one = run_on(case, steps, &[1]);
    let mut differences = Vec::new();
    for threads in [&[2][..], &[4, 1, 3]] {
        let several = run_on(case, steps, threads);
        if let Some(at) = one.iter().zip(&several).position(|(one, several)| one != several) {
            let (one, several) = (&one[at], &several[at]);
            differences.push(format!("{name} on {threads:?}, step {at}: {one} became {several}"));
        }
    }
    differences
}

fn is_keyed(case: &Case) -> bool {
    case.plan.nodes.iter().any(|node| super::exchange::keys(&node.op, node.schema.len()).is_some())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn threads_change_nothing(steps in prop::collection::vec(step(), 1..160)) {
        let keyed = cases().into_iter().filter(|(_, case)| is_keyed(case));
        let differences: Vec<String> =
            keyed.flat_map(|(name, case)| differences(&case, &name, &steps)).collect();
        prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
    }

    /// With a watermark behind almost every row; most rows are in time.
    #[test]
    fn threads_change_nothing_between_watermarks(
        mut steps in prop::collection::vec(step(), 1..160),
        pace in 1..6_i64,
    ) {
        for (step, index) in steps.iter_mut().zip(0_i64..) {
            if let Step::Row { at, .. } = step {
                *at = index / pace + *at % 9;
            }
        }
        let mut found = Vec::new();
        for (name, case) in cases().into_iter().filter(|(_, case)| is_keyed(case)) {
            if let Some((plan, sources)) = assigned(&case) {
                found.extend(differences(&Case { plan, sources, ..case }, &name, &steps));
            }
        }
        prop_assert!(found.is_empty(), "{}", found.join("\n"));
    }
}

/// All operators that keep state by key are among those that are tested.
#[test]
fn windows_and_joins_in_time_have_keys() {
    let cases = cases();
    for name in ["over Range(None)", "interval Full", "temporal left", "window join Inner", "window rank"] {
        assert!(cases.get(name).is_some_and(is_keyed), "{name}");
    }
}

/// Keys of an instance of two.
fn key_of(place: usize) -> i64 {
    let has = |key: &i64| {
        let mut bytes = Vec::new();
        codec::put_key(&mut bytes, &[Value::Int(*key)], &[0]);
        Share::whole().place_of(&bytes, 2) == place
    };
    (0..).find(has).unwrap()
}

/// What rows of an interval join find expired depends on whether any row before them, of whatever key, has noticed
/// that time went on: the instance of a late row must not be ahead of those of the others.
#[test]
fn a_late_row_waits_for_the_rows_of_other_keys() {
    let case = restart_tests::interval(JoinKind::Inner, -2000, 1000, 10_000);
    let row = |id: i64, k: i64, at: i64| {
        let at = Value::Timestamp(Instant::from_millis(at * 1000));
        Change::new(RowKind::Insert, vec![Value::Int(id), Value::Int(k), Value::Null, at])
    };
    let (first, second) = (key_of(0), key_of(1));
    for threads in [1, 2] {
        for others in [0, 400] {
            let mut runner = Runner::new(case.plan.clone());
            runner.restart_on(threads);
            runner.push(case.sources[1], row(1, first, 10));
            case.sources.iter().for_each(|&source| runner.watermark(source, 15_000));
            let mut rows: Vec<Change> = (0..others).map(|id| row(id, second, 15)).collect();
            rows.push(row(2, first, 10));
            runner.push_all(case.sources[0], &mut rows);
            let pairs = runner.take().lines().count();
            assert_eq!(pairs, usize::from(others == 0), "{others} rows before, on {threads} threads");
        }
    }
}

/// Constant rows come out at the start, and wait for time beside those of a table.
#[test]
fn constant_rows_are_in_order_on_several_threads() {
    let over = cases().remove("over Range(None)").unwrap();
    let [source, node, sink] = <[Node; 3]>::try_from(over.plan.nodes.clone()).unwrap();
    for rotated in 0..12_i64 {
        let outputs = [1, 3].map(|threads| {
            let keys = (0..12).map(|key| (key * 5 + rotated) % 12);
            let row = |key: i64| {
                let at = Value::Timestamp(Instant::from_millis(5000));
                let values = [Value::Int(key), Value::Int(key), Value::Int(1), at];
                let types = source.schema.iter().map(|field| field.data_type.clone());
                let literal = |(value, data_type)| Expr { node: ExprNode::Literal(value), data_type };
                values.into_iter().zip(types).map(literal).collect::<Vec<_>>()
            };
            let mut values = Node { op: Op::Values(keys.map(row).collect()), ..source.clone() };
            values.name = "values".to_owned();
            let mut union = Node { op: Op::Union, inputs: vec![0, 1], ..source.clone() };
            union.name = "union".to_owned();
            let nodes = vec![
                values,
                source.clone(),
                union,
                Node { inputs: vec![2], ..node.clone() },
                Node { inputs: vec![3], ..sink.clone() },
            ];
            let mut plan = Plan { nodes, ..over.plan.clone() };
            plan.options.insert("parallelism.default".to_owned(), threads.to_string());
            let mut runner = Runner::new(plan);
            runner.watermark(1, 9000);
            runner.take()
        });
        assert_eq!(outputs[0].lines().count(), 12);
        assert_eq!(outputs[0], outputs[1]);
    }
}
