//! What OVER windows keep of partitions that give nothing more.

use super::super::plan::{AggregateCall, Frame, NodeId, Op, Over, SortedOver};
use super::super::testing::{ALL, INSERTS, PlanBuilder, Runner, lines, schema};

const ROW: &str = "k:int v:int ts:ts";
const RESULT: &str = "k:int v:int ts:ts s:int";

/// The sum of `v` over the rows of `k`.
fn runner(op: impl FnOnce(Vec<AggregateCall>) -> Op, ttl: &str) -> (Runner, NodeId) {
    let output = schema("s:int").remove(0);
    let sum = AggregateCall { function: "SUM", args: vec![1], distinct: false, filter: None, output };
    let op = op(vec![sum]);
    let mode = if matches!(op, Op::SortedOver(_)) { ALL } else { INSERTS };
    let mut plan = PlanBuilder::default();
    let source = plan.source(ROW, mode);
    let node = plan.node(op, &[source], RESULT, mode);
    plan.sink(node, RESULT);
    plan.plan.options.insert("table.exec.state.ttl".to_owned(), ttl.to_owned());
    (Runner::new(plan.plan), source)
}

fn over(frame: Frame, rowtime: bool, ttl: &str) -> (Runner, NodeId) {
    runner(|calls| Op::Over(Over { partition: vec![0], time: 2, rowtime, frame, calls }), ttl)
}

/// Pushes `[key, value, seconds]` at a time of the clock; the sums that come out.
fn sums(runner: &mut Runner, millis: i64, feed: &str) -> Vec<String> {
    runner.wait_until(millis);
    let out = runner.feed(feed);
    last_columns(&out)
}

fn last_columns(out: &str) -> Vec<String> {
    out.lines().map(|line| line.trim_end_matches(']').rsplit(", ").next().unwrap().to_owned()).collect()
}

/// Every way to go on: on one thread and on three, with the state in memory or not.
fn each_way(test: impl Fn(&mut dyn FnMut(&mut Runner))) {
    test(&mut |_| {});
    test(&mut |runner| runner.flush());
    test(&mut |runner| runner.restart());
    test(&mut |runner| runner.restart_on(3));
}

#[test]
fn a_frame_by_the_clock_is_forgotten_when_it_is_empty() {
    each_way(|pause| {
        let (mut over, _) = over(Frame::Range(Some(2000)), false, "0");
        let keys: String = (2..80).map(|k| format!("+I[{k}, 1, 0]\n")).collect();
        sums(&mut over, 0, &keys);
        assert_eq!(sums(&mut over, 0, "+I[1, 5, 0]"), ["5"]);
        pause(&mut over);
        assert_eq!(over.next_timer(), Some(3001));
        assert_eq!(sums(&mut over, 2000, "+I[1, 3, 0]"), ["8"], "as long as the frame");
        pause(&mut over);
        assert_eq!(sums(&mut over, 2001, "+I[1, 1, 0]"), ["4"]);
        over.flush();
        let full = over.state.len();
        over.wait_until(3001);
        over.flush();
        assert!(over.state.len() < 10 && full > 100, "{} of {full} entries", over.state.len());
        pause(&mut over);
        assert_eq!(over.next_timer(), Some(5001), "put off by the row at 2.000");
        assert_eq!(sums(&mut over, 4001, "+I[1, 1, 0]"), ["2"]);
    });
}

/// As in Flink, between one and one and a half times as long as `table.exec.state.ttl` says.
#[test]
fn frames_without_a_bound_in_time_live_as_long_as_state_does() {
    for (frame, second) in [(Frame::Range(None), "8"), (Frame::Rows(None), "8"), (Frame::Rows(Some(1)), "8")]
    {
        each_way(|pause| {
            let (mut over, _) = over(frame, false, "1 s");
            assert_eq!(sums(&mut over, 0, "+I[1, 5, 0]\n+I[2, 1, 0]"), ["5", "1"]);
            pause(&mut over);
            assert_eq!(sums(&mut over, 900, "+I[1, 3, 0]"), [second]);
            pause(&mut over);
            assert_eq!(sums(&mut over, 1500, "+I[2, 1, 0]"), ["1"]);
            assert_eq!(over.next_timer(), Some(2400));
            over.wait_until(2400);
            pause(&mut over);
            assert_eq!(sums(&mut over, 2450, "+I[1, 7, 0]"), ["7"]);
            over.wait_until(10_000);
            over.flush();
            assert!(over.state.len() < 4, "{}", over.state.len());
        });
    }
}

/// Rows wait for the watermark for as long as it takes; what has come out is forgotten.
#[test]
fn rows_that_wait_for_the_watermark_keep_their_partition() {
    for frame in [Frame::Range(None), Frame::Rows(None), Frame::Rows(Some(1))] {
        each_way(|pause| {
            let (mut over, source) = over(frame, true, "1 s");
            sums(&mut over, 0, "+I[1, 5, 10]\n+I[1, 3, 20]");
            over.watermark(source, 15_000);
            assert_eq!(last_columns(&over.take()), ["5"]);
            pause(&mut over);
            over.wait_until(60_000);
            pause(&mut over);
            over.watermark(source, 25_000);
            assert_eq!(last_columns(&over.take()), ["8"]);
            over.wait_until(61_000);
            over.wait_until(120_000);
            pause(&mut over);
            sums(&mut over, 120_000, "+I[1, 1, 30]");
            over.watermark(source, 40_000);
            assert_eq!(last_columns(&over.take()), ["1"]);
            over.wait_until(240_000);
            over.flush();
            assert!(over.state.len() < 8, "{}", over.state.len());
        });
    }
}

#[test]
fn rows_in_the_order_of_a_value_live_as_long_as_state_does() {
    each_way(|pause| {
        let spec = |calls| Op::SortedOver(SortedOver { partition: vec![0], column: 2, peers: true, calls });
        let (mut over, _) = runner(spec, "1 s");
        sums(&mut over, 0, "+I[1, 5, 10]\n+I[2, 5, 10]");
        pause(&mut over);
        assert_eq!(sums(&mut over, 900, "+I[1, 3, 20]"), ["8"]);
        pause(&mut over);
        assert_eq!(sums(&mut over, 1500, "+I[2, 3, 20]"), ["3"]);
        pause(&mut over);
        // What has been forgotten cannot go any more.
        assert_eq!(sums(&mut over, 2450, "-D[1, 5, 10]\n+I[1, 7, 5]"), ["7"]);
        over.wait_until(10_000);
        over.flush();
        assert!(over.state.len() < 3, "{}", over.state.len());
    });
}

#[test]
fn state_without_a_time_to_live_stays() {
    let (mut over, _) = over(Frame::Rows(None), false, "0");
    sums(&mut over, 0, "+I[1, 5, 0]");
    assert_eq!(over.next_timer(), None);
    assert_eq!(lines(&over.feed("+I[1, 1, 0]")), lines("+I[1, 1, 1970-01-01T00:00, 6]"));
}

/// Counts the rows of two seconds up to each row, by `k`.
fn counts() -> Runner {
    let mut plan = PlanBuilder::default();
    let source = plan.source("k:int ts:ts", INSERTS);
    let output = schema("n:bigint").remove(0);
    let count = AggregateCall { function: "COUNT", args: vec![], distinct: false, filter: None, output };
    let frame = Frame::Range(Some(2000));
    let spec = Over { partition: vec![0], time: 1, rowtime: true, frame, calls: vec![count] };
    let columns = "k:int ts:ts n:bigint";
    let node = plan.node(Op::Over(spec), &[source], columns, INSERTS);
    plan.sink(node, columns);
    Runner::new(plan.plan)
}

/// In Flink the timer that was to clean a partition, and was put off by a later row, fires all the same: rows
/// behind it are late from then on. Rows before it are not, though they are behind the watermark.
#[test]
fn a_cleaning_that_was_put_off_makes_rows_late() {
    for restart in [false, true] {
        let mut runner = counts();
        // The first row's cleaning is due at 4.001; the second puts it off to 9.001.
        runner.feed("+I[1, 1]\n+I[1, 6]");
        runner.watermark(0, 3500);
        assert_eq!(runner.take(), lines("+I[1, 1970-01-01T00:00:01, 1]"));
        if restart {
            runner.restart();
        }
        runner.feed("+I[1, 2]");
        runner.watermark(0, 4500);
        assert_eq!(runner.take(), lines("+I[1, 1970-01-01T00:00:02, 2]"), "not behind the last result");
        runner.feed("+I[1, 3]\n+I[1, 4.2]");
        runner.watermark(0, 7000);
        assert_eq!(
            runner.take(),
            lines("+I[1, 1970-01-01T00:00:04.200, 1]\n+I[1, 1970-01-01T00:00:06, 2]"),
            "3 is behind the cleaning that was put off"
        );
        // When the partition has been cleaned, nothing is known of what has come out.
        runner.watermark(0, 20_000);
        runner.feed("+I[1, 5]");
        runner.watermark(0, 21_000);
        assert_eq!(runner.take(), lines("+I[1, 1970-01-01T00:00:05, 1]"));
    }
}
