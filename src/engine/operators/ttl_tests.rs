//! State that was not written for its time to live is as if it had never been.

use super::super::plan::{
    Aggregate, AggregateCall, Deduplicate, Join, JoinKind, NormalizeMode, Op, Rank, RankFunction, SortKey,
};
use super::super::testing::{ALL, INSERTS, PlanBuilder, Runner, lines, schema};

const ROW: &str = "k:int v:int";

/// One operator over inputs of keys and values. All state lives for a second, or as the operator itself says.
fn runner(op: Op, inputs: usize, columns: &str, ttl: &str) -> Runner {
    let mut plan = PlanBuilder::default();
    let sources: Vec<_> = (0..inputs).map(|_| plan.source(ROW, ALL)).collect();
    let node = plan.node(op, &sources, columns, ALL);
    plan.sink(node, columns);
    plan.plan.options.insert("table.exec.state.ttl".to_owned(), ttl.to_owned());
    Runner::new(plan.plan)
}

/// Feeds lines at a time, and ends the epoch.
fn at(runner: &mut Runner, millis: i64, feed: &str) -> String {
    runner.wait_until(millis);
    let out = runner.feed(feed);
    runner.flush();
    out
}

fn sums(ttl: Option<i64>) -> Op {
    let sum = AggregateCall {
        function: "SUM",
        args: vec![1],
        distinct: false,
        filter: None,
        output: schema("s:int").remove(0),
    };
    Op::Aggregate(Aggregate { group: vec![0], calls: vec![sum], emit_update_before: true, ttl })
}

#[test]
fn a_group_lives_as_long_as_it_is_written() {
    let mut sums = runner(sums(None), 1, "k:int s:int", "1 s");
    assert_eq!(at(&mut sums, 0, "+I[1, 5]"), lines("+I[1, 5]"));
    assert_eq!(at(&mut sums, 900, "+I[1, 3]"), lines("-U[1, 5]\n+U[1, 8]"));
    assert_eq!(at(&mut sums, 1800, "+I[1, 1]"), lines("-U[1, 8]\n+U[1, 9]"));
    assert_eq!(at(&mut sums, 2800, "+I[1, 7]"), lines("+I[1, 7]"));
    // What was taken in before cannot be taken out any more: it changes nothing once the group is gone.
    assert_eq!(at(&mut sums, 4000, "-D[1, 7]"), "");
}

#[test]
fn an_operator_may_have_a_time_of_its_own() {
    let mut for_ever = runner(sums(Some(0)), 1, "k:int s:int", "1 s");
    at(&mut for_ever, 0, "+I[1, 5]");
    assert_eq!(at(&mut for_ever, 86_400_000, "+I[1, 3]"), lines("-U[1, 5]\n+U[1, 8]"));
    let mut shorter = runner(sums(Some(100)), 1, "k:int s:int", "0");
    at(&mut shorter, 0, "+I[1, 5]");
    assert_eq!(at(&mut shorter, 100, "+I[1, 3]"), lines("+I[1, 3]"));
}

#[test]
fn the_sides_of_a_join_live_apart() {
    let join = |ttl| {
        let kind = JoinKind::Left;
        Op::Join(Join {
            kind,
            on: vec![(0, 0)],
            null_safe: Vec::new(),
            residual: None,
            left_key: None,
            right_key: None,
            ttl,
        })
    };
    let columns = "k:int v:int k2:int v2:int";
    let mut both = runner(join([None; 2]), 2, columns, "1 s");
    at(&mut both, 0, "0 +I[1, 10]\n1 +I[2, 20]");
    assert_eq!(at(&mut both, 1000, "1 +I[1, 11]\n0 +I[2, 21]"), lines("+I[2, 21, null, null]"));
    let mut left = runner(join([Some(1000), None]), 2, columns, "0");
    at(&mut left, 0, "0 +I[1, 10]\n1 +I[2, 20]");
    assert_eq!(at(&mut left, 5000, "1 +I[1, 11]\n0 +I[2, 21]"), lines("+I[2, 21, 2, 20]"));
}

#[test]
fn rows_by_key_and_ranks_start_anew() {
    let spec = Deduplicate { key: vec![0], time: 1, rowtime: false, last: true, emit_update_before: true };
    let mut last = runner(Op::Deduplicate(spec), 1, ROW, "1 s");
    at(&mut last, 0, "+I[1, 5]");
    assert_eq!(at(&mut last, 500, "+I[1, 6]"), lines("-U[1, 5]\n+U[1, 6]"));
    assert_eq!(at(&mut last, 1500, "+I[1, 7]"), lines("+I[1, 7]"));

    let normalize = Op::Normalize { key: vec![0], mode: NormalizeMode::Upsert };
    let mut upserts = runner(normalize, 1, ROW, "1 s");
    at(&mut upserts, 0, "+U[1, 5]");
    assert_eq!(at(&mut upserts, 999, "+U[1, 6]"), lines("-U[1, 5]\n+U[1, 6]"));
    assert_eq!(at(&mut upserts, 1999, "+U[1, 7]\n-D[2, 0]"), lines("+I[1, 7]"));

    let top = Rank {
        function: RankFunction::RowNumber,
        partition: vec![0],
        order: vec![SortKey { column: 1, descending: true, nulls_first: false }],
        from: 1,
        to: Some(1),
        emit_rank: false,
        emit_update_before: true,
        input_key: None,
    };
    let mut top = runner(Op::Rank(top), 1, ROW, "1 s");
    at(&mut top, 0, "+I[1, 9]");
    assert_eq!(at(&mut top, 500, "+I[1, 5]"), "");
    assert_eq!(at(&mut top, 1500, "+I[1, 7]"), lines("+I[1, 7]"));

    let mut both = runner(Op::SetOp { intersect: true, all: false }, 2, ROW, "1 s");
    at(&mut both, 0, "0 +I[1, 1]");
    assert_eq!(at(&mut both, 1000, "1 +I[1, 1]"), "");
}

#[test]
fn what_nobody_asks_for_goes_too() {
    let mut sums = runner(sums(None), 1, "k:int s:int", "1 s");
    let feed: String = (0..200).map(|k| format!("+I[{k}, 1]\n")).collect();
    at(&mut sums, 0, &feed);
    assert!(sums.state.len() >= 200);
    // A few other groups are written again and again.
    for round in 0..200 {
        at(&mut sums, 2000 + round, &format!("+I[{}, 1]", 1000 + round % 4));
    }
    assert!(sums.state.len() < 10, "{}", sums.state.len());
}

/// A first row by event time waits for the watermark longer than state lives.
#[test]
fn a_first_row_that_waits_long_comes_out_once() {
    let spec = Deduplicate { key: vec![0], time: 1, rowtime: true, last: false, emit_update_before: true };
    let mut plan = PlanBuilder::default();
    let source = plan.source("k:int ts:ts", INSERTS);
    let node = plan.node(Op::Deduplicate(spec), &[source], "k:int ts:ts", INSERTS);
    plan.sink(node, "k:int ts:ts");
    plan.plan.options.insert("table.exec.state.ttl".to_owned(), "1 s".to_owned());
    let mut first = Runner::new(plan.plan);
    assert_eq!(at(&mut first, 0, "+I[1, 10]"), "");
    first.wait_until(5000);
    first.watermark(source, 20_000);
    assert_eq!(first.take(), lines("+I[1, 1970-01-01T00:00:10]"));
    assert_eq!(at(&mut first, 5100, "+I[1, 30]"), "");
    first.watermark(source, 40_000);
    assert_eq!(first.take(), "");
}
