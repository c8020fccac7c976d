//! Aggregates that keep a list of values, with rows that come and go.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::super::plan::{Aggregate, AggregateCall, Op};
use super::super::super::row::{Change, RowKind, Value};
use super::super::super::testing::{ALL, PlanBuilder, Runner, lines, schema};
use super::super::super::types::{DataType, TypeKind};

fn lists() -> Runner {
    let call = |function, kind: TypeKind| {
        let mut output = schema("x:int").remove(0);
        output.data_type = DataType::new(kind);
        AggregateCall { function, args: vec![1], distinct: false, filter: None, output }
    };
    let calls = vec![
        call("FIRST_VALUE", TypeKind::Int),
        call("LAST_VALUE", TypeKind::Int),
        call("ARRAY_AGG", TypeKind::Array(Box::new(DataType::new(TypeKind::Int)))),
    ];
    let mut plan = PlanBuilder::default();
    let source = plan.source("k:int v:int", ALL);
    let spec = Aggregate { group: vec![0], calls, emit_update_before: true, ttl: None };
    // The last column's type is not looked at.
    let columns = "k:int f:int l:int a:int";
    let node = plan.node(Op::Aggregate(spec), &[source], columns, ALL);
    plan.sink(node, columns);
    Runner::new(plan.plan)
}

/// The values of a group, in the order in which they came.
type Model = BTreeMap<i64, (i64, Vec<Value>)>;

/// As in Flink, of equal values the oldest goes first; FIRST_VALUE and LAST_VALUE pass over NULL.
fn apply(model: &mut Model, k: i64, v: &Value, add: bool) {
    if !add && !model.contains_key(&k) {
        return;
    }
    let (rows, values) = model.entry(k).or_default();
    if add {
        *rows += 1;
        values.push(v.clone());
    } else {
        *rows -= 1;
        if let Some(at) = values.iter().position(|value| value == v) {
            values.remove(at);
        }
    }
    if *rows == 0 {
        model.remove(&k);
    }
}

fn expected(k: i64, values: &[Value]) -> Vec<Value> {
    let first = values.iter().find(|value| !value.is_null()).cloned().unwrap_or(Value::Null);
    let last = values.iter().rev().find(|value| !value.is_null()).cloned().unwrap_or(Value::Null);
    let all = if values.is_empty() { Value::Null } else { Value::Array(values.into()) };
    vec![Value::Int(k), first, last, all]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn values_go_as_they_came(
        steps in prop::collection::vec((0..14_u8, 0..2_i64, prop::option::weighted(0.8, 0..5_i64)), 1..160),
    ) {
        let mut runner = lists();
        let (mut model, mut shown) = (Model::new(), BTreeMap::new());
        for (what, k, v) in steps {
            let v = v.map_or(Value::Null, Value::Int);
            let row = vec![Value::Int(k), v.clone()];
            match what {
                0 => runner.restart(),
                1 => runner.flush(),
                // Also rows that never came.
                2..6 => {
                    runner.push(0, Change::new(RowKind::Delete, row));
                    apply(&mut model, k, &v, false);
                }
                _ => {
                    runner.push(0, Change::new(RowKind::Insert, row));
                    apply(&mut model, k, &v, true);
                }
            }
            for change in runner.changes() {
                let Value::Int(k) = change.row[0] else { continue };
                if change.kind.is_add() {
                    shown.insert(k, change.row.to_vec());
                } else if change.kind == RowKind::Delete {
                    shown.remove(&k);
                }
            }
            let model: BTreeMap<_, _> = model.iter().map(|(k, (_, values))| (*k, expected(*k, values))).collect();
            prop_assert_eq!(&shown, &model);
        }
    }
}

/// However many values a group has, a change writes some of them only.
#[test]
fn a_list_is_no_single_entry_of_the_state() {
    let mut runner = lists();
    let feed: String = (0..500).map(|v| format!("+I[1, {v}]\n")).collect();
    runner.feed(&feed);
    runner.restart();
    let longest = runner.state.longest();
    assert!(longest < 100, "{longest} bytes");
    for v in [0, 499] {
        runner.push(0, Change::new(RowKind::Delete, vec![Value::Int(1), Value::Int(v)]));
    }
    let row = runner.changes().pop().unwrap().row;
    assert_eq!((&row[1], &row[2]), (&Value::Int(1), &Value::Int(498)));
    // Nothing is left of a group that has gone.
    let feed: String = (1..499).map(|v| format!("-D[1, {v}]\n")).collect();
    runner.feed(&feed);
    runner.flush();
    assert_eq!(runner.state.len(), 1, "the mark that the job has started");
    assert_eq!(runner.feed("-D[1, 1]"), lines(""));
}
