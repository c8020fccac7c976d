//! The sink's materializer and Top-N in front of sinks by key.

use std::collections::{BTreeMap, BTreeSet};

use super::super::plan::{ChangelogMode, OnConflict, Op, Rank, RankFunction, SortKey};
use super::super::row::{Change, Row, RowKind, Value};
use super::super::testing::{ALL, INSERTS, PlanBuilder, Runner, lines};

const ROW: &str = "name:string id:int at:int";

/// Keeps rows by name; they are of a table by id, and carry a time that is another one at each change.
fn by_name(conflict: OnConflict, input_key: Option<Vec<usize>>) -> Runner {
    let mut plan = PlanBuilder::default();
    let source = plan.source(ROW, ALL);
    let node = plan.node(Op::Materialize { key: vec![0], conflict, input_key }, &[source], ROW, ALL);
    plan.sink(node, ROW);
    Runner::new(plan.plan)
}

#[test]
fn a_row_is_taken_back_by_the_inputs_key() {
    let mut runner = by_name(OnConflict::Deduplicate, Some(vec![1]));
    assert_eq!(
        runner.feed("+I[A, 1, 10]\n-U[A, 1, 11]\n+U[B, 1, 11]"),
        lines("+I[A, 1, 10]\n-D[A, 1, 11]\n+I[B, 1, 11]")
    );
    // Two rows of one name: each goes by its own key, and the one that is left comes back.
    assert_eq!(
        runner.feed("+I[B, 2, 12]\n-D[B, 2, 13]\n-D[B, 1, 14]"),
        lines("+U[B, 2, 12]\n+U[B, 1, 11]\n-D[B, 1, 14]")
    );
    // A version whose old one was not taken back stands in its place.
    assert_eq!(
        runner.feed("+I[C, 1, 20]\n+I[C, 2, 21]\n+U[C, 1, 22]\n-D[C, 1, 23]\n-D[C, 2, 24]"),
        lines("+I[C, 1, 20]\n+U[C, 2, 21]\n+U[C, 1, 22]\n+U[C, 2, 21]\n-D[C, 2, 24]")
    );
}

#[test]
fn conflicts_are_between_rows_of_other_keys() {
    let mut runner = by_name(OnConflict::Nothing, Some(vec![1]));
    assert_eq!(
        runner.feed("+I[A, 1, 10]\n+I[A, 2, 11]\n+U[A, 2, 12]\n+U[A, 1, 13]\n-D[A, 1, 14]\n-D[A, 2, 15]"),
        lines("+I[A, 1, 10]\n+U[A, 1, 13]\n+U[A, 2, 12]\n-D[A, 2, 15]")
    );
    let mut runner = by_name(OnConflict::Error, Some(vec![1]));
    assert_eq!(
        runner.feed("+I[A, 1, 10]\n+U[A, 1, 11]\n-D[A, 1, 12]"),
        lines("+I[A, 1, 10]\n+U[A, 1, 11]\n-D[A, 1, 12]")
    );
}

/// The second and the third of each group by value, for a sink by (group, id) that is told no old rows.
#[test]
fn what_leaves_a_top_n_with_an_offset_is_deleted() {
    let row = "g:int id:int v:int";
    let mut plan = PlanBuilder::default();
    let source = plan.source(row, ALL);
    let rank = Rank {
        function: RankFunction::RowNumber,
        partition: vec![0],
        order: vec![SortKey { column: 2, descending: false, nulls_first: false }],
        from: 2,
        to: Some(3),
        emit_rank: false,
        emit_update_before: false,
        input_key: Some(vec![1]),
    };
    let node = plan.node(Op::Rank(rank), &[source], row, ALL);
    plan.sink(node, row);
    let mut runner = Runner::new(plan.plan);
    assert_eq!(
        runner.feed("+I[1, 1, 10]\n+I[1, 2, 20]\n+I[1, 3, 30]\n+I[1, 4, 40]\n-D[1, 2, 20]"),
        lines("+I[1, 2, 20]\n+I[1, 3, 30]\n-D[1, 2, 20]\n+I[1, 4, 40]")
    );
}

/// The rows that enter and leave the first ranks are those of the whole order, whatever comes and goes.
#[test]
fn a_top_n_is_the_start_of_the_whole_order() {
    let row = "id:int v:int";
    for (inserts, input_key) in [(true, None), (false, None), (false, Some(vec![0]))] {
        let mut plan = PlanBuilder::default();
        let mode = match (inserts, &input_key) {
            (true, _) => INSERTS,
            // Known by its key: no old rows come.
            (false, Some(_)) => ChangelogMode { update_before: false, ..ALL },
            (false, None) => ALL,
        };
        let source = plan.source(row, mode);
        let rank = Rank {
            function: RankFunction::RowNumber,
            partition: Vec::new(),
            order: vec![SortKey { column: 1, descending: false, nulls_first: false }],
            from: 1,
            to: Some(4),
            emit_rank: false,
            emit_update_before: true,
            input_key: input_key.clone(),
        };
        let node = plan.node(Op::Rank(rank), &[source], row, ALL);
        plan.sink(node, row);
        let mut runner = Runner::new(plan.plan);
        let (mut table, mut shown) = (BTreeMap::new(), BTreeSet::new());
        let mut random = 7_u64;
        for step in 0..600_i64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = if inserts { step } else { i64::try_from(random >> 40).unwrap() % 12 };
            // No two values are the same, so that the order is known.
            let value = i64::try_from(random >> 34).unwrap() % 1000 * 1000 + step;
            let change = |kind, value| Change::new(kind, vec![Value::Int(id), Value::Int(value)]);
            let known: Option<i64> = if inserts { None } else { table.remove(&id) };
            if let Some(known) = known
                && (input_key.is_none() || step % 3 == 0)
            {
                runner.push(source, change(RowKind::Delete, known));
            }
            if known.is_none() || step % 3 != 0 {
                let kind = if inserts { RowKind::Insert } else { RowKind::UpdateAfter };
                runner.push(source, change(kind, value));
                table.insert(id, value);
            }
            if step % 97 == 0 {
                runner.restart();
            }
            for change in runner.changes() {
                let row = format!("{:?}", change.row);
                let changed = if change.kind.is_add() { shown.insert(row) } else { shown.remove(&row) };
                assert!(changed, "step {step}: {change:?}");
            }
            let mut all: Vec<_> = table.iter().map(|(id, value)| (*value, *id)).collect();
            all.sort_unstable();
            let first = all.iter().take(4);
            let wanted: BTreeSet<_> =
                first.map(|(value, id)| format!("{:?}", change_row(*id, *value))).collect();
            assert_eq!(shown, wanted, "step {step}, {inserts} {input_key:?}");
        }
    }
}

fn change_row(id: i64, value: i64) -> Row {
    Row::from(vec![Value::Int(id), Value::Int(value)])
}
