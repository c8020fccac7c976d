//! Sessions as rows, and aggregates that are merged.

use super::super::plan::{Op, Window, WindowKind};
use super::super::testing::{INSERTS, PlanBuilder, Runner, lines};

/// A late row counts where the session that it joins is still open, as SESSION's aggregates count it.
#[test]
fn a_late_row_joins_an_open_session() {
    let columns = "k:int ts:ts ws:ts we:ts wt:ts";
    let mut plan = PlanBuilder::default();
    let source = plan.source("k:int ts:ts", INSERTS);
    let kind = WindowKind::Session { gap: 10_000, partition: vec![0] };
    let window = Op::WindowTvf(Window { kind, time: 1, rowtime: true });
    let node = plan.node(window, &[source], columns, INSERTS);
    plan.sink(node, columns);
    let mut runner = Runner::new(plan.plan);
    runner.feed("+I[1, 100]");
    runner.watermark(source, 106_000);
    // [92, 102) has passed by itself, with the session it is [92, 110); 80 meets neither.
    runner.feed("+I[1, 92]\n+I[1, 80]\n+I[2, 92]");
    runner.watermark(source, 120_000);
    let end = "1970-01-01T00:01:50, 1970-01-01T00:01:49.999";
    assert_eq!(
        runner.take(),
        lines(&format!(
            "+I[1, 1970-01-01T00:01:32, 1970-01-01T00:01:32, {end}]
             +I[1, 1970-01-01T00:01:40, 1970-01-01T00:01:32, {end}]"
        ))
    );
}
