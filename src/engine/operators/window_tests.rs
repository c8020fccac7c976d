//! Sessions as rows, and aggregates that are merged.

use super::super::plan::{
    AggregateCall, Op, Window, WindowAggregate, WindowInput, WindowKind, WindowProperty,
};
use super::super::testing::{INSERTS, PlanBuilder, Runner, lines, schema};

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
