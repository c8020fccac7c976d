//! The sink's materializer and Top-N in front of sinks by key.

use std::collections::BTreeMap;

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

/// The ranks that count are those of the whole order, whatever comes and goes, and however they are shown.
#[test]
fn a_top_n_is_a_part_of_the_whole_order() {
    for (inserts, input_key) in [(true, None), (false, None), (false, Some(vec![0]))] {
        for (from, to) in [(1, 4), (1, 1), (2, 4), (5, 7)] {
            for (emit_rank, emit_update_before) in
                [(false, true), (false, false), (true, true), (true, false)]
            {
                let rank = Rank {
                    function: RankFunction::RowNumber,
                    partition: Vec::new(),
                    order: vec![SortKey { column: 1, descending: false, nulls_first: false }],
                    from,
                    to: Some(to),
                    emit_rank,
                    emit_update_before,
                    input_key: input_key.clone(),
                };
                ranks_are_those_of_the_whole_order(rank, inserts);
            }
        }
    }
}

fn ranks_are_those_of_the_whole_order(rank: Rank, inserts: bool) {
    let row = "id:int v:int";
    let mut plan = PlanBuilder::default();
    let mode = match (inserts, &rank.input_key) {
        (true, _) => INSERTS,
        // Known by its key: no old rows come.
        (false, Some(_)) => ChangelogMode { update_before: false, ..ALL },
        (false, None) => ALL,
    };
    let source = plan.source(row, mode);
    let columns = if rank.emit_rank { "id:int v:int rn:bigint" } else { row };
    let node = plan.node(Op::Rank(rank.clone()), &[source], columns, ALL);
    plan.sink(node, columns);
    let mut runner = Runner::new(plan.plan);
    let (mut table, mut shown) = (BTreeMap::new(), BTreeMap::new());
    let mut random = 7_u64;
    for step in 0..300_i64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = if inserts { step } else { i64::try_from(random >> 40).unwrap() % 40 };
        // No two values are the same, so that the order is known.
        let value = i64::try_from(random >> 34).unwrap() % 1000 * 1000 + step;
        let change = |kind, value| Change::new(kind, vec![Value::Int(id), Value::Int(value)]);
        let known: Option<i64> = if inserts { None } else { table.remove(&id) };
        if let Some(known) = known
            && (rank.input_key.is_none() || step % 3 == 0)
        {
            runner.push(source, change(RowKind::Delete, known));
        }
        if known.is_none() || step % 3 != 0 {
            let kind = if inserts { RowKind::Insert } else { RowKind::UpdateAfter };
            runner.push(source, change(kind, value));
            table.insert(id, value);
        }
        match step % 97 {
            0 => runner.restart(),
            50 | 60 => runner.flush(),
            _ => {}
        }
        for change in runner.changes() {
            let row = format!("{:?}", change.row);
            // By rank, or by row: with an offset a row comes to its new rank before it leaves the old one.
            let place = if rank.emit_rank { format!("{:?}", change.row.last()) } else { row.clone() };
            let rows: &mut Vec<String> = shown.entry(place).or_default();
            // A rank's new row takes the place of the old one, where that is not taken back.
            if change.kind == RowKind::UpdateAfter && rank.emit_rank && !rank.emit_update_before {
                assert!(rows.pop().is_some(), "step {step}: {change:?}");
            }
            if change.kind.is_add() {
                rows.push(row);
            } else {
                assert_eq!(rows.pop(), Some(row), "step {step}: {change:?}");
            }
        }
        let mut all: Vec<_> = table.iter().map(|(id, value)| (*value, *id)).collect();
        all.sort_unstable();
        let numbers = usize::try_from(rank.from).unwrap() - 1..usize::try_from(rank.to.unwrap()).unwrap();
        let mut wanted = Vec::new();
        for (at, (value, id)) in all.iter().enumerate().filter(|(at, _)| numbers.contains(at)) {
            let mut row = vec![Value::Int(*id), Value::Int(*value)];
            row.extend(rank.emit_rank.then(|| Value::Int(i64::try_from(at).unwrap() + 1)));
            wanted.push(format!("{:?}", Row::from(row)));
        }
        wanted.sort_unstable();
        let mut rows: Vec<String> = shown.values().flatten().cloned().collect();
        rows.sort_unstable();
        assert_eq!(rows, wanted, "step {step}, {inserts} {rank:?}");
    }
}
