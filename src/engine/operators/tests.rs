//! Operators as text: changelogs in, changelogs out.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::graph::{Environment, Graph, NoLookup, Output, SystemClock};
use super::super::plan::{
    Aggregate, AggregateCall, ChangelogMode, Join, JoinKind, NodeId, NormalizeMode, OnConflict, Op, Rank,
    RankFunction, SortKey,
};
use super::super::row::{Change, RowKind, Value};
use super::super::testing::{ALL, INSERTS, PlanBuilder, Runner, lines, schema};
use crate::state::MemoryState;

fn aggregate(function: &'static str, args: &[usize], kind: &str) -> AggregateCall {
    AggregateCall {
        function,
        args: args.to_vec(),
        distinct: false,
        filter: None,
        output: schema(&format!("x:{kind}")).remove(0),
    }
}

fn grouped() -> Runner {
    let mut plan = PlanBuilder::default();
    let source = plan.source("g:string v:int", ALL);
    let calls = vec![
        aggregate("COUNT", &[], "bigint"),
        aggregate("SUM", &[1], "int"),
        aggregate("MIN", &[1], "int"),
        aggregate("MAX", &[1], "int"),
        AggregateCall { distinct: true, ..aggregate("COUNT", &[1], "bigint") },
    ];
    let columns = "g:string n:bigint s:int mn:int mx:int d:bigint";
    let spec = Aggregate { group: vec![0], calls, emit_update_before: true, ttl: None };
    let node = plan.node(Op::Aggregate(spec), &[source], columns, ALL);
    plan.sink(node, columns);
    Runner::new(plan.plan)
}

#[test]
fn groups_retract_and_end() {
    let mut runner = grouped();
    assert_eq!(
        runner.feed("+I[a, 5]\n+I[a, 3]\n-D[a, 5]\n-U[a, 3]\n+U[a, 4]\n+I[null, 1]\n+I[a, null]"),
        lines(
            "+I[a, 1, 5, 5, 5, 1]
             -U[a, 1, 5, 5, 5, 1]
             +U[a, 2, 8, 3, 5, 2]
             -U[a, 2, 8, 3, 5, 2]
             +U[a, 1, 3, 3, 3, 1]
             -D[a, 1, 3, 3, 3, 1]
             +I[a, 1, 4, 4, 4, 1]
             +I[null, 1, 1, 1, 1, 1]
             -U[a, 1, 4, 4, 4, 1]
             +U[a, 2, 4, 4, 4, 1]"
        )
    );
}

#[test]
fn groups_outlive_a_restart() {
    let mut runner = grouped();
    runner.feed("+I[a, 5]\n+I[a, 3]\n+I[b, 1]\n-D[b, 1]");
    runner.restart();
    assert_eq!(
        runner.feed("-D[a, 5]\n+I[b, 2]"),
        lines(
            "-U[a, 2, 8, 3, 5, 2]
             +U[a, 1, 3, 3, 3, 1]
             +I[b, 1, 2, 2, 2, 1]"
        )
    );
}

fn joined(kind: JoinKind, keyed: bool) -> Runner {
    let mut plan = PlanBuilder::default();
    let left = plan.source("id:int k:int", ALL);
    let right = plan.source("k:int name:string", ALL);
    let key = |columns: &[usize]| keyed.then(|| columns.to_vec());
    let join = Join {
        kind,
        on: vec![(1, 0)],
        null_safe: Vec::new(),
        residual: None,
        left_key: key(&[0]),
        right_key: key(&[0]),
        ttl: [None; 2],
    };
    let columns = match kind {
        JoinKind::Semi | JoinKind::Anti => "id:int k:int",
        _ => "id:int k:int rk:int name:string",
    };
    let node = plan.node(Op::Join(join), &[left, right], columns, ALL);
    plan.sink(node, columns);
    Runner::new(plan.plan)
}

#[test]
fn left_join_pads_and_restores() {
    let mut runner = joined(JoinKind::Left, true);
    assert_eq!(
        runner.feed("0 +I[1, 10]\n1 +I[10, ann]\n0 +I[4, null]\n1 -U[10, ann]\n1 +U[10, anna]\n0 -D[1, 10]"),
        lines(
            "+I[1, 10, null, null]
             -D[1, 10, null, null]
             +I[1, 10, 10, ann]
             +I[4, null, null, null]
             -U[1, 10, 10, ann]
             +I[1, 10, null, null]
             -D[1, 10, null, null]
             +I[1, 10, 10, anna]
             -D[1, 10, 10, anna]"
        )
    );
}

/// IS NOT DISTINCT FROM is a key as `=` is: what it does not match is not looked at.
#[test]
fn null_meets_null_in_a_null_safe_key() {
    let mut plan = PlanBuilder::default();
    let (left, right) = (plan.source("id:int k:int", ALL), plan.source("k:int name:string", ALL));
    let (kind, on, null_safe) = (JoinKind::Left, vec![(1, 0)], vec![true]);
    let join = Join { kind, on, null_safe, residual: None, left_key: None, right_key: None, ttl: [None; 2] };
    let node = plan.node(Op::Join(join), &[left, right], "id:int k:int rk:int name:string", ALL);
    plan.sink(node, "id:int k:int rk:int name:string");
    let mut runner = Runner::new(plan.plan);
    assert_eq!(
        runner.feed("0 +I[1, null]\n1 +I[10, ann]\n1 +I[null, bob]\n0 +I[2, 10]"),
        lines(
            "+I[1, null, null, null]
             -D[1, null, null, null]
             +I[1, null, null, bob]
             +I[2, 10, 10, ann]"
        )
    );
    runner.restart();
    assert_eq!(
        runner.feed("0 +I[3, null]\n1 -D[null, bob]"),
        lines(
            "+I[3, null, null, bob]
             -D[1, null, null, bob]
             +I[1, null, null, null]
             -D[3, null, null, bob]
             +I[3, null, null, null]"
        )
    );
}

#[test]
fn not_a_number_is_found_again() {
    let mut plan = PlanBuilder::default();
    let source = plan.source("g:int v:double", ALL);
    let calls = vec![aggregate("MAX", &[1], "double")];
    let spec = Aggregate { group: vec![0], calls, emit_update_before: false, ttl: None };
    let node = plan.node(Op::Aggregate(spec), &[source], "g:int mx:double", ALL);
    plan.sink(node, "g:int mx:double");
    let mut greatest = Runner::new(plan.plan);
    assert_eq!(
        greatest.feed("+I[1, 1]\n+I[1, NaN]\n-D[1, NaN]"),
        lines("+I[1, 1.0]\n+U[1, NaN]\n+U[1, 1.0]")
    );

    let mut plan = PlanBuilder::default();
    let left = plan.source("k:int v:double", ALL);
    let right = plan.source("k:int", ALL);
    let (kind, on) = (JoinKind::Left, vec![(0, 0)]);
    let join = Join {
        kind,
        on,
        null_safe: Vec::new(),
        residual: None,
        left_key: None,
        right_key: None,
        ttl: [None; 2],
    };
    let node = plan.node(Op::Join(join), &[left, right], "k:int v:double rk:int", ALL);
    plan.sink(node, "k:int v:double rk:int");
    assert_eq!(
        Runner::new(plan.plan).feed("0 +I[1, NaN]\n0 -D[1, NaN]\n0 +I[1, 2]\n1 +I[1]"),
        lines(
            "+I[1, NaN, null]
             -D[1, NaN, null]
             +I[1, 2.0, null]
             -D[1, 2.0, null]
             +I[1, 2.0, 1]"
        )
    );
}

/// Updates of a unique key may come without their old rows.
#[test]
fn an_update_without_its_old_row_is_no_further_partner() {
    let changes = "0 +I[1, 10]\n1 +I[10, ann]\n1 +U[10, anna]\n1 -D[10, anna]\n1 +I[10, bob]";
    assert_eq!(
        joined(JoinKind::Left, true).feed(changes),
        lines(
            "+I[1, 10, null, null]
             -D[1, 10, null, null]
             +I[1, 10, 10, ann]
             +I[1, 10, 10, anna]
             -D[1, 10, 10, anna]
             +I[1, 10, null, null]
             -D[1, 10, null, null]
             +I[1, 10, 10, bob]"
        )
    );
    assert_eq!(joined(JoinKind::Semi, true).feed(changes), lines("+I[1, 10]\n-D[1, 10]\n+I[1, 10]"));
    assert_eq!(
        joined(JoinKind::Anti, true).feed(changes),
        lines("+I[1, 10]\n-D[1, 10]\n+I[1, 10]\n-D[1, 10]")
    );
}

/// Notes how many rows come at once.
#[derive(Default)]
struct Batches {
    largest: usize,
    rows: Vec<Change>,
}

impl Output for Batches {
    fn rows(&mut self, _sink: NodeId, rows: &mut Vec<Change>) {
        self.largest = self.largest.max(rows.len());
        self.rows.append(rows);
    }
}

#[test]
fn rows_with_many_partners_come_out_in_pieces() {
    let mut results = Vec::new();
    for threads in ["1", "3"] {
        let mut plan = PlanBuilder::default();
        let sources = [plan.source("id:int k:int", ALL), plan.source("id:int k:int", ALL)];
        let (on, kind) = (vec![(1, 1)], JoinKind::Inner);
        let join = Join {
            kind,
            on,
            null_safe: Vec::new(),
            residual: None,
            left_key: None,
            right_key: None,
            ttl: [None; 2],
        };
        let columns = "id:int k:int id2:int k2:int";
        let node = plan.node(Op::Join(join), &sources, columns, ALL);
        plan.sink(node, columns);
        plan.plan.options.insert("parallelism.default".to_owned(), threads.to_owned());
        let environment = Environment { clock: Arc::new(SystemClock), lookup: &mut NoLookup };
        let mut graph = Graph::build(&plan.plan, &mut MemoryState::new(), environment).unwrap();
        let mut out = Batches::default();
        let row = |id: i64| Change::new(RowKind::Insert, vec![Value::Int(id), Value::Int(id % 4)]);
        graph.push(sources[0], &mut (0..40).map(row).collect(), &mut out).unwrap();
        // Of one row, as on a small batch, and of many.
        graph.push(sources[1], &mut (0..5).map(row).collect(), &mut out).unwrap();
        graph.push(sources[1], &mut (5..80).map(row).collect(), &mut out).unwrap();
        assert_eq!(out.rows.len(), 800);
        assert!(out.largest <= 3 * 14, "{} rows at once on {threads} threads", out.largest);
        results.push(out.rows);
    }
    assert_eq!(results.first(), results.last());
}

/// The partition of a group may be an aggregate of it, and change.
#[test]
fn a_rank_over_an_aggregate_leaves_nothing_in_the_old_partition() {
    let mut plan = PlanBuilder::default();
    let source = plan.source("uid:int cat:int", INSERTS);
    let calls = vec![aggregate("COUNT", &[], "bigint"), aggregate("MAX", &[1], "int")];
    let spec = Aggregate { group: vec![0], calls, emit_update_before: true, ttl: None };
    let columns = "uid:int c:bigint m:int";
    let groups = plan.node(Op::Aggregate(spec), &[source], columns, ALL);
    let rank = Rank {
        function: RankFunction::RowNumber,
        partition: vec![2],
        order: vec![SortKey { column: 1, descending: true, nulls_first: false }],
        from: 1,
        to: Some(3),
        emit_rank: false,
        emit_update_before: true,
        input_key: Some(vec![0]),
    };
    let node = plan.node(Op::Rank(rank), &[groups], columns, ALL);
    plan.sink(node, columns);
    assert_eq!(
        Runner::new(plan.plan).feed("+I[1, 1]\n+I[1, 2]"),
        lines("+I[1, 1, 1]\n-D[1, 1, 1]\n+I[1, 2, 2]")
    );
}

#[test]
fn inner_join_passes_the_kind_of_the_change() {
    let mut runner = joined(JoinKind::Inner, true);
    assert_eq!(
        runner.feed("0 +I[1, 10]\n1 +I[10, ann]\n1 -U[10, ann]\n1 +U[10, anna]\n1 -D[10, anna]"),
        lines("+I[1, 10, 10, ann]\n-U[1, 10, 10, ann]\n+U[1, 10, 10, anna]\n-D[1, 10, 10, anna]")
    );
}

#[test]
fn normalize_makes_a_changelog_of_upserts() {
    let mut plan = PlanBuilder::default();
    let source = plan.source("k:int v:string", ALL);
    let op = Op::Normalize { key: vec![0], mode: NormalizeMode::Upsert };
    let node = plan.node(op, &[source], "k:int v:string", ALL);
    plan.sink(node, "k:int v:string");
    let mut runner = Runner::new(plan.plan);
    assert_eq!(
        runner.feed("+U[1, a]\n+U[1, a]\n+I[1, b]\n-D[2, null]\n-D[1, null]"),
        lines("+I[1, a]\n-U[1, a]\n+U[1, b]\n-D[1, b]")
    );
}

#[test]
fn what_a_snapshot_reads_again_counts_once() {
    let mut plan = PlanBuilder::default();
    let source = plan.source("k:int v:string", ALL);
    let op = Op::Normalize { key: vec![0], mode: NormalizeMode::Complete { compare: vec![0, 1] } };
    let node = plan.node(op, &[source], "k:int v:string", ALL);
    plan.sink(node, "k:int v:string");
    let mut runner = Runner::new(plan.plan);
    // +U alone is what a decoder makes of op r: the first snapshot, a change, the second snapshot
    assert_eq!(
        runner.feed("+U[1, a]\n+U[2, b]\n-U[1, a]\n+U[1, c]\n+U[1, c]\n+U[2, d]\n+U[3, e]"),
        lines("+I[1, a]\n+I[2, b]\n-U[1, a]\n+U[1, c]\n-U[2, b]\n+U[2, d]\n+I[3, e]")
    );
}

#[test]
fn materializer_shows_the_last_live_row() {
    let mut plan = PlanBuilder::default();
    let source = plan.source("k:int v:string", ALL);
    let op = Op::Materialize { key: vec![0], conflict: OnConflict::Deduplicate, input_key: None };
    let node = plan.node(op, &[source], "k:int v:string", ALL);
    plan.sink(node, "k:int v:string");
    let mut runner = Runner::new(plan.plan);
    assert_eq!(
        runner.feed("+I[1, a]\n+I[1, b]\n-D[1, a]\n+I[1, c]\n-D[1, c]\n-D[1, b]\n-D[1, x]"),
        lines("+I[1, a]\n+U[1, b]\n+U[1, c]\n+U[1, b]\n-D[1, b]")
    );
}

/// Applies a changelog; fails on a retraction of a row that is not there.
fn materialize(changes: &[Change]) -> BTreeMap<String, i64> {
    let mut table = BTreeMap::new();
    for change in changes {
        let count = table.entry(format!("{:?}", change.row)).or_insert(0);
        *count += if change.kind.is_add() { 1 } else { -1 };
        assert!(*count >= 0, "a row was retracted that is not there: {change:?}");
    }
    table.retain(|_, count| *count != 0);
    table
}

/// A random but consistent changelog of a table (id, key): what the table holds at the end, and how it came.
#[derive(Clone, Debug)]
struct Step {
    side: usize,
    id: i64,
    key: Option<i64>,
    delete: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0..2_usize, 0..4_i64, prop::option::weighted(0.9, 0..3_i64), any::<bool>());
    prop::collection::vec(step.prop_map(|(side, id, key, delete)| Step { side, id, key, delete }), 0..40)
}

fn int(value: Option<i64>) -> Value {
    value.map_or(Value::Null, Value::Int)
}

/// Feeds the steps; returns both tables at the end.
fn run(
    runner: &mut Runner,
    sources: [NodeId; 2],
    steps: &[Step],
    restart_at: usize,
) -> [BTreeMap<i64, Option<i64>>; 2] {
    let mut tables = [BTreeMap::new(), BTreeMap::new()];
    for (at, step) in steps.iter().enumerate() {
        if at == restart_at {
            runner.restart();
        }
        let source = sources[step.side];
        let row = |key: Option<i64>| {
            // Left (id, k); right (k, id).
            if step.side == 0 {
                vec![Value::Int(step.id), int(key)]
            } else {
                vec![int(key), Value::Int(step.id)]
            }
        };
        let table = &mut tables[step.side];
        match (table.get(&step.id).copied(), step.delete) {
            (Some(old), true) => {
                table.remove(&step.id);
                runner.push(source, Change::new(RowKind::Delete, row(old)));
            }
            (None, true) => {}
            (Some(old), false) => {
                table.insert(step.id, step.key);
                runner.push(source, Change::new(RowKind::UpdateBefore, row(old)));
                runner.push(source, Change::new(RowKind::UpdateAfter, row(step.key)));
            }
            (None, false) => {
                table.insert(step.id, step.key);
                runner.push(source, Change::new(RowKind::Insert, row(step.key)));
            }
        }
    }
    tables
}

/// The join of two tables, all at once.
fn batch_join(kind: JoinKind, [left, right]: &[BTreeMap<i64, Option<i64>>; 2]) -> BTreeMap<String, i64> {
    let mut rows = Vec::new();
    let pair = |l: Option<(i64, Option<i64>)>, r: Option<(i64, Option<i64>)>| {
        let left = l.map_or([Value::Null, Value::Null], |(id, key)| [Value::Int(id), int(key)]);
        let right = r.map_or([Value::Null, Value::Null], |(id, key)| [int(key), Value::Int(id)]);
        left.into_iter().chain(right).collect::<Vec<_>>()
    };
    let meets = |l: Option<i64>, r: Option<i64>| l.is_some() && l == r;
    for (&id, &key) in left {
        let partners: Vec<_> = right.iter().filter(|(_, other)| meets(key, **other)).collect();
        match kind {
            JoinKind::Semi | JoinKind::Anti => {
                if partners.is_empty() == (kind == JoinKind::Anti) {
                    rows.push(vec![Value::Int(id), int(key)]);
                }
                continue;
            }
            _ => {}
        }
        rows.extend(
            partners.iter().map(|(other, other_key)| pair(Some((id, key)), Some((**other, **other_key)))),
        );
        if partners.is_empty() && matches!(kind, JoinKind::Left | JoinKind::Full) {
            rows.push(pair(Some((id, key)), None));
        }
    }
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        for (&id, &key) in right {
            if !left.values().any(|&other| meets(other, key)) {
                rows.push(pair(None, Some((id, key))));
            }
        }
    }
    materialize(&rows.into_iter().map(|row| Change::new(RowKind::Insert, row)).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn joins_equal_the_batch_result(
        steps in steps(),
        kind in prop::sample::select(vec![
            JoinKind::Inner, JoinKind::Left, JoinKind::Right, JoinKind::Full, JoinKind::Semi, JoinKind::Anti,
        ]),
        keyed in any::<bool>(),
        restart_at in 0..40_usize,
    ) {
        let mut plan = PlanBuilder::default();
        let left = plan.source("id:int k:int", ALL);
        let right = plan.source("k:int id:int", ALL);
        let join = Join {
            kind,
            on: vec![(1, 0)],
            null_safe: Vec::new(),
            residual: None,
            left_key: keyed.then(|| vec![0]),
            right_key: keyed.then(|| vec![1]),
            ttl: [None; 2],
        };
        let columns = if matches!(kind, JoinKind::Semi | JoinKind::Anti) { "id:int k:int" } else { "id:int k:int rk:int rid:int" };
        let node = plan.node(Op::Join(join), &[left, right], columns, ALL);
        plan.sink(node, columns);
        let mut runner = Runner::new(plan.plan);
        let tables = run(&mut runner, [left, right], &steps, restart_at);
        prop_assert_eq!(materialize(&runner.changes()), batch_join(kind, &tables));
    }

    #[test]
    fn aggregates_equal_the_batch_result(steps in steps(), restart_at in 0..40_usize) {
        let mut plan = PlanBuilder::default();
        let source = plan.source("id:int k:int", ALL);
        let calls = vec![
            aggregate("COUNT", &[], "bigint"),
            aggregate("SUM", &[0], "int"),
            aggregate("MIN", &[0], "int"),
            aggregate("MAX", &[0], "int"),
            AggregateCall { distinct: true, ..aggregate("SUM", &[0], "int") },
        ];
        let columns = "k:int n:bigint s:int mn:int mx:int ds:int";
        let node = plan.node(
            Op::Aggregate(Aggregate { group: vec![1], calls, emit_update_before: true, ttl: None }),
            &[source],
            columns,
            ALL,
        );
        plan.sink(node, columns);
        let mut runner = Runner::new(plan.plan);
        let steps: Vec<Step> = steps.into_iter().map(|step| Step { side: 0, ..step }).collect();
        let [table, _] = run(&mut runner, [source, source], &steps, restart_at);
        let mut groups: BTreeMap<Option<i64>, Vec<i64>> = BTreeMap::new();
        table.iter().for_each(|(&id, &key)| groups.entry(key).or_default().push(id));
        let expected: Vec<Change> = groups
            .into_iter()
            .map(|(key, ids)| {
                let sum = ids.iter().sum::<i64>();
                let row = vec![
                    int(key),
                    Value::Int(ids.len() as i64),
                    Value::Int(sum),
                    int(ids.iter().min().copied()),
                    int(ids.iter().max().copied()),
                    Value::Int(sum),
                ];
                Change::new(RowKind::Insert, row)
            })
            .collect();
        prop_assert_eq!(materialize(&runner.changes()), materialize(&expected));
    }
}

#[test]
fn a_mode_is_insert_only_by_default() {
    assert_eq!(ChangelogMode::default(), super::super::testing::INSERTS);
}
