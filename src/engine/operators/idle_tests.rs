//! Watermarks do not wait for partitions and tables that give nothing for the time that an option names.

use super::super::expr::{Expr, ExprNode};
use super::super::plan::{
    JoinKind, NodeId, Op, Window, WindowAggregate, WindowInput, WindowJoin, WindowKind, WindowProperty,
};
use super::super::testing::{INSERTS, PlanBuilder, Runner, lines, schema};

const ROW: &str = "k:int ts:ts";

/// A table with options of its own; its watermark is the greatest time of a partition.
fn source(plan: &mut PlanBuilder, options: &[(&str, &str)]) -> NodeId {
    let source = plan.source(ROW, INSERTS);
    if let Op::Source(table) = &mut plan.plan.nodes[source].op {
        table.options.extend(options.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    }
    let watermark = Expr { node: ExprNode::Column(1), data_type: schema(ROW).remove(1).data_type };
    plan.node(Op::WatermarkAssigner { rowtime: 1, watermark }, &[source], ROW, INSERTS)
}

/// Rows per window of ten seconds, of the union of tables.
fn windows(options: &[(&str, &str)], tables: &[&[(&str, &str)]]) -> Runner {
    let mut plan = PlanBuilder::default();
    let inputs: Vec<NodeId> = tables.iter().map(|options| source(&mut plan, options)).collect();
    let union = plan.node(Op::Union, &inputs, ROW, INSERTS);
    let spec = WindowAggregate {
        window: WindowInput::Assign(Window {
            kind: WindowKind::Tumble { size: 10_000, offset: 0 },
            time: 1,
            rowtime: true,
        }),
        group: vec![0],
        calls: Vec::new(),
        properties: vec![WindowProperty::Start],
    };
    let columns = "k:int ws:ts";
    let node = plan.node(Op::WindowAggregate(spec), &[union], columns, INSERTS);
    plan.sink(node, columns);
    plan.plan.options.extend(options.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    Runner::new(plan.plan)
}

const FIRST_WINDOW: &str = "+I[1, 1970-01-01T00:00]";

#[test]
fn a_quiet_partition_holds_the_watermark_until_it_is_idle() {
    let mut runner = windows(&[("table.exec.source.idle-timeout", "1 s")], &[&[]]);
    runner.push_partition(0, 0, 2, "+I[1, 1]");
    runner.push_partition(0, 1, 2, "+I[1, 2]");
    runner.wait_until(900);
    runner.push_partition(0, 0, 2, "+I[2, 12]");
    assert_eq!(runner.take(), "", "partition 1 may still give rows of the first window");
    assert_eq!(runner.next_timer(), Some(1000));
    runner.wait_until(1000);
    assert_eq!(runner.take(), lines(FIRST_WINDOW));
    // It comes back: what it gives of the closed window is late, and watermarks wait for it again.
    runner.push_partition(0, 1, 2, "+I[3, 3]");
    runner.push_partition(0, 0, 2, "+I[2, 25]");
    assert_eq!(runner.take(), "");
    runner.push_partition(0, 1, 2, "+I[3, 26]");
    assert_eq!(runner.take(), lines("+I[2, 1970-01-01T00:00:10]"));
}

#[test]
fn a_table_of_which_all_partitions_are_idle_holds_nobody_up() {
    let mut runner = windows(&[], &[&[("scan.watermark.idle-timeout", "1 s")], &[]]);
    runner.push_partition(2, 0, 1, "+I[1, 1]");
    runner.push_partition(2, 0, 1, "+I[1, 11]");
    assert_eq!(runner.take(), "", "the first table has given nothing yet");
    runner.wait_until(1000);
    assert_eq!(runner.take(), lines(FIRST_WINDOW));
    runner.push_partition(0, 0, 1, "+I[5, 12]");
    runner.push_partition(2, 0, 1, "+I[1, 30]");
    assert_eq!(runner.take(), "", "the first table is back, at 12 s");
    runner.wait_until(1900);
    assert_eq!(runner.take(), "");
    runner.wait_until(2000);
    assert_eq!(runner.take(), lines("+I[1, 1970-01-01T00:00:10]\n+I[5, 1970-01-01T00:00:10]"));
}

#[test]
fn without_the_option_watermarks_wait_for_ever() {
    let mut runner = windows(&[], &[&[]]);
    runner.push_partition(0, 0, 2, "+I[1, 1]");
    runner.push_partition(0, 0, 2, "+I[1, 100]");
    runner.wait_until(86_400_000);
    assert_eq!((runner.take().as_str(), runner.next_timer()), ("", None));
}

#[test]
fn what_was_reached_without_an_idle_table_is_not_forgotten_at_a_restart() {
    let mut plan = PlanBuilder::default();
    let windowed = "k:int ts:ts ws:ts we:ts wt:ts";
    let tumble = || Window { kind: WindowKind::Tumble { size: 10_000, offset: 0 }, time: 1, rowtime: true };
    let tables: [&[(&str, &str)]; 2] = [&[], &[("scan.watermark.idle-timeout", "1 s")]];
    let inputs: Vec<NodeId> = tables
        .iter()
        .map(|options| {
            let table = source(&mut plan, options);
            plan.node(Op::WindowTvf(tumble()), &[table], windowed, INSERTS)
        })
        .collect();
    let window = || WindowInput::Attached { start: Some(2), end: 3, rowtime: true, ltz: false };
    let (kind, on) = (JoinKind::Anti, vec![(0, 0)]);
    let join = WindowJoin { kind, on, residual: None, left: window(), right: window() };
    let node = plan.node(Op::WindowJoin(join), &inputs, windowed, INSERTS);
    plan.sink(node, windowed);
    let mut runner = Runner::new(plan.plan);
    runner.push_partition(0, 0, 1, "+I[1, 1]");
    runner.push_partition(0, 0, 1, "+I[2, 12]");
    assert_eq!(runner.take(), "", "the second table has given nothing yet");
    runner.wait_until(1000);
    let window = "1970-01-01T00:00, 1970-01-01T00:00:10, 1970-01-01T00:00:09.999";
    assert_eq!(runner.take(), format!("+I[1, 1970-01-01T00:00:01, {window}]\n"));

    runner.restart();
    runner.push_partition(0, 0, 1, "+I[3, 3]");
    runner.push_partition(0, 0, 1, "+I[4, 25]");
    runner.wait_until(2000);
    let window = "1970-01-01T00:00:10, 1970-01-01T00:00:20, 1970-01-01T00:00:19.999";
    assert_eq!(runner.take(), format!("+I[2, 1970-01-01T00:00:12, {window}]\n"), "row 3 is late");
}

/// A process that stands still for a while finds everything idle at once: as if it had looked in time.
#[test]
fn what_is_silent_for_longest_is_idle_first() {
    let option = ("table.exec.source.idle-timeout", "1 s");
    let mut runner = windows(&[option], &[&[]]);
    runner.push_partition(0, 0, 2, "+I[1, 1]");
    runner.push_partition(0, 0, 2, "+I[2, 12]");
    runner.wait_until(60_000);
    assert_eq!(runner.take(), lines(FIRST_WINDOW));

    let mut runner = windows(&[option], &[&[], &[]]);
    runner.wait_until(10);
    runner.push_partition(0, 0, 1, "+I[1, 1]");
    runner.push_partition(0, 0, 1, "+I[2, 12]");
    runner.wait_until(60_000);
    assert_eq!(runner.take(), lines(FIRST_WINDOW));
}
