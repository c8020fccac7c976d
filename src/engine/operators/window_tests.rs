//! Sessions as rows, and aggregates that are merged.

use proptest::prelude::*;

use super::super::plan::{
    AggregateCall, Op, Window, WindowAggregate, WindowInput, WindowKind, WindowProperty,
};
use super::super::row::{Change, Instant, RowKind, Value};
use super::super::testing::{INSERTS, PlanBuilder, Runner, lines, schema};

/// Rows with their sessions, by `k`, of a gap of ten seconds.
fn sessions() -> (Runner, usize) {
    let columns = "k:int ts:ts ws:ts we:ts wt:ts";
    let mut plan = PlanBuilder::default();
    let source = plan.source("k:int ts:ts", INSERTS);
    let kind = WindowKind::Session { gap: GAP * 1000, partition: vec![0] };
    let window = Op::WindowTvf(Window { kind, time: 1, rowtime: true });
    let node = plan.node(window, &[source], columns, INSERTS);
    plan.sink(node, columns);
    (Runner::new(plan.plan), source)
}

/// In seconds.
const GAP: i64 = 10;

/// A late row counts where the session that it joins is still open, as SESSION's aggregates count it.
#[test]
fn a_late_row_joins_an_open_session() {
    let (mut runner, source) = sessions();
    runner.feed("+I[1, 100]");
    runner.watermark(source, 106_000);
    // [92, 102) has passed by itself, with the session it is [92, 110); 80 meets neither.
    runner.feed("+I[1, 92]\n+I[1, 80]\n+I[2, 92]");
    runner.watermark(source, 120_000);
    let end = "1970-01-01T00:01:50, 1970-01-01T00:01:49.999";
    assert_eq!(
        runner.take(),
        lines(&format!(
            "+I[1, 1970-01-01T00:01:40, 1970-01-01T00:01:32, {end}]
             +I[1, 1970-01-01T00:01:32, 1970-01-01T00:01:32, {end}]"
        ))
    );
}

/// The state has one entry for the end of a session, however long it is, and what comes out is as if each session were
/// looked at by itself.
#[test]
fn a_long_session_has_one_end() {
    let (mut runner, source) = sessions();
    for at in 0..200 {
        runner.feed(&format!("+I[1, {}]", at * GAP));
    }
    runner.flush();
    let entries = runner.state.len();
    assert!(entries < 215, "{entries}");
    runner.watermark(source, 200 * GAP * 1000);
    assert_eq!(runner.take().lines().count(), 200);
}

/// Key, time, and number of arrival.
type Arrived = (i64, i64, i64);

/// A session as its definition has it: key, start, end, and the rows.
type Session = (i64, i64, i64, Vec<Arrived>);

/// The sessions that rows make, in order of their ends and keys; the rows of each as they came.
fn model(rows: &[Arrived]) -> Vec<Session> {
    let mut sorted = rows.to_vec();
    sorted.sort_unstable();
    let mut sessions: Vec<Session> = Vec::new();
    for row in sorted {
        let (k, at, _) = row;
        match sessions.last_mut() {
            Some((key, _, end, rows)) if *key == k && at <= *end => {
                *end = at + GAP;
                rows.push(row);
            }
            _ => sessions.push((k, at, at + GAP, vec![row])),
        }
    }
    sessions.iter_mut().for_each(|(.., rows)| rows.sort_unstable_by_key(|(.., number)| *number));
    sessions.sort_by_key(|(k, _, end, _)| (*end, *k));
    sessions
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn rows_come_out_with_their_sessions(
        steps in prop::collection::vec((0..10_u8, 0..3_i64, -20..60_i64), 1..120),
        pace in 0..4_i64,
    ) {
        let (mut runner, source) = sessions();
        let (mut open, mut watermark) = (Vec::new(), i64::MIN);
        for ((what, k, at), number) in steps.into_iter().zip(0_i64..) {
            let at = at + number * pace;
            let mut expected = Vec::new();
            match what {
                0 => runner.restart_on(if k == 0 { 1 } else { 3 }),
                1 => runner.flush(),
                2 | 3 => {
                    watermark = watermark.max(at * 1000);
                    runner.watermark(source, at * 1000);
                    let (done, left): (Vec<_>, Vec<_>) =
                        model(&open).into_iter().partition(|(_, _, end, _)| end * 1000 - 1 <= watermark);
                    expected = done;
                    open = left.into_iter().flat_map(|(.., rows)| rows).collect();
                }
                _ => {
                    runner.feed(&format!("+I[{k}, {at}]"));
                    let row = (k, at, number);
                    open.push(row);
                    let sessions = model(&open);
                    let of_row = sessions.iter().find(|(.., rows)| rows.contains(&row));
                    if of_row.is_some_and(|(_, _, end, _)| end * 1000 - 1 <= watermark) {
                        open.retain(|other| *other != row);
                    }
                }
            }
            let seconds = |at: i64| Value::Timestamp(Instant::from_millis(at * 1000));
            let found: Vec<Vec<Value>> = runner.changes().iter().map(|change| change.row[..4].to_vec()).collect();
            let expected: Vec<Vec<Value>> = expected
                .iter()
                .flat_map(|(k, start, end, rows)| {
                    let row = |at: i64| vec![Value::Int(*k), seconds(at), seconds(*start), seconds(*end)];
                    rows.iter().map(move |(_, at, _)| row(*at))
                })
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn distinct_lists_keep_their_separator_in_windows_of_slices() {
    let row = "x:string sep:string ts:ts";
    let columns = "l:string we:ts";
    let mut plan = PlanBuilder::default();
    let source = plan.source(row, INSERTS);
    let call = AggregateCall {
        function: "LISTAGG",
        args: vec![0, 1],
        distinct: true,
        filter: None,
        output: schema("l:string").remove(0),
    };
    let spec = WindowAggregate {
        window: WindowInput::Assign(Window {
            kind: WindowKind::Hop { slide: 5000, size: 10_000, offset: 0 },
            time: 2,
            rowtime: true,
        }),
        group: vec![],
        calls: vec![call],
        properties: vec![WindowProperty::End],
    };
    let node = plan.node(Op::WindowAggregate(spec), &[source], columns, INSERTS);
    plan.sink(node, columns);
    let mut runner = Runner::new(plan.plan);
    runner.feed("+I[a, ;, 11]\n+I[b, ;, 16]\n+I[a, ;, 16]\n+I[c, ;, 17]");
    runner.watermark(source, 20_000);
    assert_eq!(runner.take(), lines("+I[a, 1970-01-01T00:00:15]\n+I[a;b;c, 1970-01-01T00:00:20]"));
}

/// No time that a column can hold makes a window that never ends, or a number that is too large.
#[test]
fn times_at_the_ends_of_their_range_have_windows() {
    for kind in [
        WindowKind::Tumble { size: 7000, offset: -3000 },
        WindowKind::Hop { slide: 2000, size: 7000, offset: 1000 },
        WindowKind::Cumulate { step: 2000, size: 8000, offset: 0 },
        WindowKind::Session { gap: 7000, partition: vec![0] },
    ] {
        let window = Window { kind, time: 1, rowtime: true };
        let spec = WindowAggregate {
            window: WindowInput::Assign(window.clone()),
            group: vec![0],
            calls: vec![],
            properties: vec![WindowProperty::Start, WindowProperty::End, WindowProperty::Time],
        };
        for op in [Op::WindowTvf(window), Op::WindowAggregate(spec)] {
            let mut plan = PlanBuilder::default();
            let source = plan.source("k:int ts:ts", INSERTS);
            let node = plan.node(op, &[source], "k:int ws:ts we:ts wt:ts", INSERTS);
            plan.sink(node, "k:int ws:ts we:ts wt:ts");
            let mut runner = Runner::new(plan.plan);
            for watermark in [i64::MIN, i64::MIN + 1, -1, i64::MAX - 1] {
                runner.watermark(source, watermark);
                for time in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 8000, i64::MAX] {
                    let row = vec![Value::Int(1), Value::Timestamp(Instant::from_millis(time))];
                    runner.push(source, Change::new(RowKind::Insert, row));
                }
            }
            runner.end();
            assert!(!runner.changes().is_empty());
        }
    }
}

#[test]
fn a_clock_that_is_set_back_loses_no_rows() {
    let count = AggregateCall {
        function: "COUNT",
        args: vec![],
        distinct: false,
        filter: None,
        output: schema("n:bigint").remove(0),
    };
    let kind = WindowKind::Tumble { size: 10_000, offset: 0 };
    let spec = WindowAggregate {
        window: WindowInput::Assign(Window { kind, time: 1, rowtime: false }),
        group: vec![0],
        calls: vec![count],
        properties: vec![],
    };
    let mut plan = PlanBuilder::default();
    let source = plan.source("k:int ts:ts", INSERTS);
    let node = plan.node(Op::WindowAggregate(spec), &[source], "k:int n:bigint", INSERTS);
    plan.sink(node, "k:int n:bigint");
    let mut runner = Runner::new(plan.plan);
    runner.wait_until(5000);
    runner.feed("+I[1, 0]");
    runner.wait_until(10_000);
    assert_eq!(runner.take(), lines("+I[1, 1]"));
    runner.wait_until(8000);
    runner.feed("+I[1, 0]\n+I[1, 0]");
    runner.restart();
    runner.wait_until(12_000);
    runner.feed("+I[1, 0]");
    runner.wait_until(20_000);
    assert_eq!(runner.take(), lines("+I[1, 3]"));
}
