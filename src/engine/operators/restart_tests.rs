//! Every operator that keeps state gives the same results when the job stops at any epoch and goes on from its
//! state: random changelogs, with and without interruptions. Caches are tiny in tests, so that an epoch that
//! ends without a restart also makes the operators read their state back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::plan::{
    Aggregate, AggregateCall, Deduplicate, Frame, IntervalJoin, Join, JoinKind, NodeId, NormalizeMode,
    OnConflict, Op, Over, Plan, Rank, RankFunction, SortKey, SortedOver, TemporalJoin, Window,
    WindowAggregate, WindowInput, WindowJoin, WindowKind, WindowProperty, WindowRank,
};
use super::super::row::{Change, Instant, RowKind, Value};
use super::super::testing::{ALL, INSERTS, PlanBuilder, Runner, schema};

const ROW: &str = "id:int k:int v:int ts:ts";
const WINDOWED: &str = "id:int k:int v:int ts:ts ws:ts we:ts wt:ts";

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// The row with this id comes, changes or goes.
    Row { port: usize, id: i64, k: Option<i64>, v: Option<i64>, at: i64, delete: bool },
    /// A source's watermark, in seconds.
    Watermark { port: usize, at: i64 },
    /// The epoch ends here.
    Flush,
    /// The job stops here and goes on from its state.
    Restart,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let key = || prop::option::weighted(0.9, 0..4_i64);
    let row = (0..2_usize, 0..24_i64, key(), prop::option::weighted(0.9, 0..6_i64), 0..40_i64, any::<bool>());
    prop_oneof![
        12 => row.prop_map(|(port, id, k, v, at, delete)| Step::Row { port, id, k, v, at, delete }),
        2 => (0..2_usize, 0..40_i64).prop_map(|(port, at)| Step::Watermark { port, at }),
        2 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ]
}

/// One operator over one or two sources.
pub(super) struct Case {
    pub plan: Plan,
    pub sources: Vec<NodeId>,
    /// Its input has inserts only.
    pub inserts: bool,
    /// Results of one step come in any order.
    pub unordered: bool,
}

fn case(op: Op, inputs: usize, inserts: bool, columns: &str) -> Case {
    let mode = if inserts { INSERTS } else { ALL };
    let mut plan = PlanBuilder::default();
    let sources: Vec<NodeId> = (0..inputs).map(|_| plan.source(ROW, mode)).collect();
    let node = plan.node(op, &sources, columns, ALL);
    plan.sink(node, columns);
    Case { plan: plan.plan, sources, inserts, unordered: false }
}

fn call(function: &'static str, args: &[usize], kind: &str) -> AggregateCall {
    AggregateCall {
        function,
        args: args.to_vec(),
        distinct: false,
        filter: None,
        output: schema(&format!("x:{kind}")).remove(0),
    }
}

fn calls() -> Vec<AggregateCall> {
    vec![
        call("COUNT", &[], "bigint"),
        call("SUM", &[2], "int"),
        call("MIN", &[2], "int"),
        call("MAX", &[2], "int"),
        AggregateCall { distinct: true, ..call("COUNT", &[2], "bigint") },
        call("FIRST_VALUE", &[2], "int"),
        call("LAST_VALUE", &[2], "int"),
    ]
}

const CALLS: &str = "n:bigint s:int mn:int mx:int d:bigint f:int l:int";

fn columns(parts: &[&str]) -> String {
    // Names must differ in nothing but be there.
    parts.join(" ")
}

fn aggregate() -> Case {
    let spec = Aggregate { group: vec![1], calls: calls(), emit_update_before: true, ttl: None };
    case(Op::Aggregate(spec), 1, false, &columns(&["k:int", CALLS]))
}

fn join(kind: JoinKind, keyed: bool) -> Case {
    let key = keyed.then(|| vec![0]);
    let spec = Join {
        kind,
        on: vec![(1, 1)],
        null_safe: Vec::new(),
        residual: None,
        left_key: key.clone(),
        right_key: key,
        ttl: [None; 2],
    };
    let both = columns(&[ROW, "id2:int k2:int v2:int ts2:ts"]);
    let columns = if matches!(kind, JoinKind::Semi | JoinKind::Anti) { ROW } else { &both };
    Case { unordered: true, ..case(Op::Join(spec), 2, false, columns) }
}

fn rank(from: u64, to: Option<u64>, emit_rank: bool, inserts: bool) -> Case {
    let order = vec![SortKey { column: 2, descending: true, nulls_first: false }];
    let spec = Rank {
        function: RankFunction::RowNumber,
        partition: vec![1],
        order,
        from,
        to,
        emit_rank,
        emit_update_before: true,
        input_key: Some(vec![0]),
    };
    let ranked = columns(&[ROW, "rn:bigint"]);
    case(Op::Rank(spec), 1, inserts, if emit_rank { &ranked } else { ROW })
}

fn deduplicate(rowtime: bool, last: bool) -> Case {
    let spec = Deduplicate { key: vec![1], time: 3, rowtime, last, emit_update_before: true };
    case(Op::Deduplicate(spec), 1, true, ROW)
}

fn window(kind: WindowKind, inserts: bool) -> Case {
    let spec = WindowAggregate {
        window: WindowInput::Assign(Window { kind, time: 3, rowtime: true }),
        group: vec![1],
        calls: calls(),
        properties: vec![WindowProperty::Start, WindowProperty::End],
    };
    case(Op::WindowAggregate(spec), 1, inserts, &columns(&["k:int", CALLS, "ws:ts we:ts"]))
}

fn over(frame: Frame) -> Case {
    let mut all = calls();
    all.extend([
        call("ROW_NUMBER", &[], "bigint"),
        call("RANK", &[], "bigint"),
        call("DENSE_RANK", &[], "bigint"),
        call("LAG", &[2], "int"),
    ]);
    let spec = Over { partition: vec![1], time: 3, rowtime: true, frame, calls: all };
    let columns = columns(&[ROW, CALLS, "rn:bigint r:bigint dr:bigint lag:int"]);
    // Of one time, partitions come out as the heap of timers gives them, which is another one after a restart.
    Case { unordered: true, ..case(Op::Over(spec), 1, true, &columns) }
}

fn sorted_over(peers: bool) -> Case {
    let mut all = calls();
    all.extend([
        call("ROW_NUMBER", &[], "bigint"),
        call("RANK", &[], "bigint"),
        call("DENSE_RANK", &[], "bigint"),
    ]);
    let spec = SortedOver { partition: vec![1], column: 2, peers, calls: all };
    let columns = columns(&[ROW, CALLS, "rn:bigint r:bigint dr:bigint"]);
    case(Op::SortedOver(spec), 1, false, &columns)
}

pub(super) fn interval(kind: JoinKind, lower: i64, upper: i64, pause: i64) -> Case {
    let spec = IntervalJoin {
        kind,
        on: vec![(1, 1)],
        residual: None,
        left_time: 3,
        right_time: 3,
        lower,
        upper,
        rowtime: true,
        pause,
    };
    case(Op::IntervalJoin(spec), 2, true, &columns(&[ROW, "id2:int k2:int v2:int ts2:ts"]))
}

fn temporal(kind: JoinKind) -> Case {
    let spec = TemporalJoin { kind, on: vec![(1, 1)], residual: None, left_time: 3, right_time: 3 };
    let mut plan = PlanBuilder::default();
    let left = plan.source(ROW, INSERTS);
    let right = plan.source(ROW, INSERTS);
    let columns = columns(&[ROW, "id2:int k2:int v2:int ts2:ts"]);
    let node = plan.node(Op::TemporalJoin(spec), &[left, right], &columns, INSERTS);
    plan.sink(node, &columns);
    Case { plan: plan.plan, sources: vec![left, right], inserts: true, unordered: false }
}

fn tvf() -> Window {
    Window { kind: WindowKind::Tumble { size: 5000, offset: 0 }, time: 3, rowtime: true }
}

fn attached() -> WindowInput {
    WindowInput::Attached { start: Some(4), end: 5, rowtime: true, ltz: false }
}

fn window_join(kind: JoinKind) -> Case {
    let mut plan = PlanBuilder::default();
    let sources: Vec<NodeId> = (0..2).map(|_| plan.source(ROW, INSERTS)).collect();
    let inputs: Vec<NodeId> =
        sources.iter().map(|&source| plan.node(Op::WindowTvf(tvf()), &[source], WINDOWED, INSERTS)).collect();
    let spec = WindowJoin { kind, on: vec![(1, 1)], residual: None, left: attached(), right: attached() };
    let both = columns(&[WINDOWED, "id2:int k2:int v2:int ts2:ts ws2:ts we2:ts wt2:ts"]);
    let columns = if matches!(kind, JoinKind::Semi | JoinKind::Anti) { WINDOWED } else { &both };
    let node = plan.node(Op::WindowJoin(spec), &inputs, columns, INSERTS);
    plan.sink(node, columns);
    Case { plan: plan.plan, sources, inserts: true, unordered: false }
}

fn window_rank(last_wins: bool) -> Case {
    let mut plan = PlanBuilder::default();
    let source = plan.source(ROW, INSERTS);
    let input = plan.node(Op::WindowTvf(tvf()), &[source], WINDOWED, INSERTS);
    let spec = WindowRank {
        window: attached(),
        function: RankFunction::RowNumber,
        partition: vec![1],
        order: vec![SortKey { column: 3, descending: true, nulls_first: false }],
        from: 1,
        to: 2,
        emit_rank: true,
        last_wins,
    };
    let columns = columns(&[WINDOWED, "rn:bigint"]);
    let node = plan.node(Op::WindowRank(spec), &[input], &columns, INSERTS);
    plan.sink(node, &columns);
    Case { plan: plan.plan, sources: vec![source], inserts: true, unordered: false }
}

/// Rows of windows beside the first of them: two ways from one table to a join.
fn ranked_and_all() -> Case {
    let mut case = window_rank(false);
    let nodes = &mut case.plan.nodes;
    nodes.pop();
    let (all, ranked) = (nodes.len() - 2, nodes.len() - 1);
    let mut plan = PlanBuilder { plan: case.plan };
    let spec = WindowJoin {
        kind: JoinKind::Left,
        on: vec![(2, 2)],
        residual: None,
        left: attached(),
        right: attached(),
    };
    let columns = columns(&[WINDOWED, "id2:int k2:int v2:int ts2:ts ws2:ts we2:ts wt2:ts rn:bigint"]);
    let node = plan.node(Op::WindowJoin(spec), &[all, ranked], &columns, INSERTS);
    plan.sink(node, &columns);
    Case { plan: plan.plan, ..case }
}

fn session_tvf() -> Case {
    let kind = WindowKind::Session { gap: 3000, partition: vec![1] };
    case(Op::WindowTvf(Window { kind, time: 3, rowtime: true }), 1, true, WINDOWED)
}

pub(super) fn cases() -> BTreeMap<String, Case> {
    let mut cases = BTreeMap::new();
    let mut add = |name: String, case: Case| {
        cases.insert(name, case);
    };
    add("aggregate".into(), aggregate());
    for kind in
        [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti]
    {
        add(format!("join {kind:?} by key"), join(kind, true));
        add(format!("join {kind:?} by row"), join(kind, false));
        add(format!("window join {kind:?}"), window_join(kind));
    }
    for (from, to, emit_rank, inserts) in [
        (1, Some(3), true, false),
        (1, Some(3), false, false),
        (2, Some(3), false, false),
        (1, None, true, false),
        (1, Some(2), true, true),
        (1, Some(2), false, true),
        (2, Some(3), true, true),
    ] {
        add(format!("rank {from} {to:?} {emit_rank} {inserts}"), rank(from, to, emit_rank, inserts));
        let mut of_all = rank(from, to, emit_rank, inserts);
        if let Some(Op::Rank(spec)) = of_all.plan.nodes.get_mut(1).map(|node| &mut node.op) {
            spec.partition.clear();
        }
        add(format!("rank of all {from} {to:?} {emit_rank} {inserts}"), of_all);
    }
    for (rowtime, last) in [(false, false), (false, true), (true, false), (true, true)] {
        add(format!("deduplicate {rowtime} {last}"), deduplicate(rowtime, last));
    }
    for inserts in [true, false] {
        for kind in [
            WindowKind::Tumble { size: 5000, offset: 1000 },
            WindowKind::Hop { slide: 2000, size: 6000, offset: 0 },
            WindowKind::Hop { slide: 4000, size: 6000, offset: 0 },
            WindowKind::Hop { slide: 6000, size: 4000, offset: -1000 },
            WindowKind::Cumulate { step: 2000, size: 8000, offset: 0 },
            WindowKind::Session { gap: 2000, partition: vec![1] },
        ] {
            add(format!("window {kind:?} {inserts}"), window(kind, inserts));
        }
    }
    for frame in [Frame::Range(None), Frame::Range(Some(5000)), Frame::Rows(None), Frame::Rows(Some(2))] {
        add(format!("over {frame:?}"), over(frame));
    }
    for peers in [false, true] {
        add(format!("sorted over {peers}"), sorted_over(peers));
    }
    for kind in [JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full] {
        add(format!("interval {kind:?}"), interval(kind, -3000, 4000, 0));
        add(format!("interval before {kind:?}"), interval(kind, -6000, -1000, 0));
        add(format!("interval with a pause {kind:?}"), interval(kind, -2000, 1000, 4000));
    }
    add("temporal inner".into(), temporal(JoinKind::Inner));
    add("temporal left".into(), temporal(JoinKind::Left));
    add("window rank".into(), window_rank(false));
    add("window deduplicate".into(), window_rank(true));
    add("session rows".into(), session_tvf());
    add("windows and their first rows".into(), ranked_and_all());
    for (intersect, all) in [(false, false), (false, true), (true, false), (true, true)] {
        let op = Op::SetOp { intersect, all };
        // Rows of both sides meet where they are equal: of few values.
        add(format!("set {intersect} {all}"), case(op, 2, false, ROW));
    }
    add("normalize upserts".into(), case(normalize(NormalizeMode::Upsert), 1, false, ROW));
    let complete = NormalizeMode::Complete { compare: vec![0, 1, 2, 3] };
    add("normalize changes".into(), case(normalize(complete), 1, false, ROW));
    for conflict in [OnConflict::Deduplicate, OnConflict::Nothing] {
        for input_key in [None, Some(vec![0])] {
            let name = format!("materialize {conflict:?} {input_key:?}");
            add(name, case(Op::Materialize { key: vec![1], conflict, input_key }, 1, false, ROW));
        }
    }
    let then = vec![SortKey { column: 2, descending: true, nulls_first: false }];
    add("sort".into(), case(Op::TemporalSort { rowtime: 3, then }, 1, true, ROW));
    cases
}

fn normalize(mode: NormalizeMode) -> Op {
    Op::Normalize { key: vec![0], mode }
}

fn row(id: i64, k: Option<i64>, v: Option<i64>, at: i64) -> Vec<Value> {
    let int = |value: Option<i64>| value.map_or(Value::Null, Value::Int);
    vec![Value::Int(id), int(k), int(v), Value::Timestamp(Instant::from_millis(at * 1000))]
}

/// Rows of the inputs as tables, from which changes are made.
pub(super) type Tables = [BTreeMap<i64, Vec<Value>>; 2];

/// The changes of a step, and the source that they are of.
pub(super) fn changes(case: &Case, tables: &mut Tables, step: &Step) -> Option<(NodeId, Vec<Change>)> {
    let Step::Row { port, id, k, v, at, delete } = step else { return None };
    let port = port % case.sources.len();
    let new = row(*id, *k, *v, *at);
    let changes = if case.inserts {
        vec![Change::new(RowKind::Insert, new)]
    } else {
        let old = tables[port].remove(id);
        if !delete {
            tables[port].insert(*id, new.clone());
        }
        match (old, delete) {
            (Some(old), true) => vec![Change::new(RowKind::Delete, old)],
            (None, true) => Vec::new(),
            (Some(old), false) => {
                vec![Change::new(RowKind::UpdateBefore, old), Change::new(RowKind::UpdateAfter, new)]
            }
            (None, false) => vec![Change::new(RowKind::Insert, new)],
        }
    };
    Some((case.sources[port], changes))
}

/// What comes out, step by step.
fn run(case: &Case, steps: &[Step], interrupted: bool) -> Vec<String> {
    let mut runner = Runner::new(case.plan.clone());
    let mut tables = Tables::default();
    let mut out = Vec::new();
    for step in steps {
        match step {
            Step::Row { .. } => {
                let (source, changes) = changes(case, &mut tables, step).unwrap_or_default();
                changes.into_iter().for_each(|change| runner.push(source, change));
            }
            Step::Watermark { port, at } => {
                runner.watermark(case.sources[port % case.sources.len()], at * 1000);
            }
            Step::Flush if interrupted => runner.flush(),
            Step::Restart if interrupted => runner.restart(),
            Step::Flush | Step::Restart => {}
        }
        out.push(runner.take());
    }
    runner.end();
    out.push(runner.take());
    if case.unordered {
        for lines in &mut out {
            let mut sorted: Vec<&str> = lines.lines().collect();
            sorted.sort_unstable();
            *lines = sorted.join("\n");
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn interruptions_change_nothing(steps in prop::collection::vec(step(), 1..160)) {
        let mut differences = Vec::new();
        for (name, case) in cases() {
            let (whole, parts) = (run(&case, &steps, false), run(&case, &steps, true));
            let at = whole.iter().zip(&parts).position(|(whole, parts)| whole != parts);
            if let Some(at) = at {
                differences.push(format!("{name}, step {at}: {} became {}", whole[at], parts[at]));
            }
        }
        prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
    }
}

/// The filter of a side's keys reads on behind rows of a key whose other rows have come since.
#[test]
fn a_key_that_changes_while_the_filter_learns_is_found() {
    let row = |port, id, k, delete| Step::Row { port, id, k: Some(k), v: Some(1), at: 1, delete };
    let mut steps: Vec<Step> = [4, 0, 1, 2].map(|id| row(0, id, 0, false)).to_vec();
    steps.extend([row(0, 19, 1, false), row(0, 9, 3, false), row(0, 13, 1, false), Step::Restart]);
    steps.extend([row(1, 9, 3, false), row(0, 9, 3, true), row(1, 0, 0, false), row(0, 7, 3, false)]);
    steps.extend([Step::Flush, row(0, 20, 1, false), Step::Flush, row(1, 9, 3, true)]);
    for case in [join(JoinKind::Inner, true), join(JoinKind::Full, false)] {
        assert_eq!(run(&case, &steps, false), run(&case, &steps, true));
    }
}
