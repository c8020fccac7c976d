//! State that grows as long as the job runs.

use std::collections::BTreeMap;

use crate::engine::plan::{AggregateCall, Frame, LookupJoin, NodeId, Op, Over, Plan, TableRef};
use crate::engine::tables::{self, Effect};
use crate::sql::connectors;

/// Where records that cannot be read go.
const DEAD_LETTERS: &str = "millstream.dead-letter.topic";

/// A sentence for each option of a source that has no effect, and for each operator that keeps something of every
/// row of an endless, append-only input.
///
/// Tables of changes are not such inputs: what is kept of them is as large as the table.
pub fn warnings(plan: &Plan, options: &BTreeMap<String, String>) -> Vec<String> {
    let mut out = without_effect(plan);
    let skips = |table: &TableRef| {
        let mut flags = table.options.keys().filter(|name| name.ends_with(".ignore-parse-errors"));
        flags.any(|name| table.flag(name, false))
    };
    let mut read = plan.nodes.iter().filter_map(|node| match &node.op {
        Op::Source(table) => Some(table),
        _ => None,
    });
    if options.contains_key(DEAD_LETTERS) && !read.any(skips) {
        out.push(format!(
            "SET '{DEAD_LETTERS}' has no effect: a record that cannot be read stops the pipeline, unless a table says \
             'FORMAT.ignore-parse-errors' = 'true'"
        ));
    }
    let ttl = options.get("table.exec.state.ttl").map(|ttl| ttl.trim().to_owned()).unwrap_or_default();
    let forever = ttl.chars().take_while(char::is_ascii_digit).all(|digit| digit == '0');
    if !forever {
        return out;
    }
    let mut endless = vec![false; plan.nodes.len()];
    for (id, node) in plan.nodes.iter().enumerate() {
        let input = |i: usize| node.inputs.get(i).is_some_and(|n| endless.get(*n) == Some(&true));
        let columns = |of: &[usize], side: usize| -> String {
            let schema = node.inputs.get(side).and_then(|n| plan.nodes.get(*n)).map(|n| n.schema.as_slice());
            let names = of.iter().filter_map(|c| schema.and_then(|s| s.get(*c))).map(|f| f.name.as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        let what = match &node.op {
            Op::Join(join) => {
                let sides: Vec<String> = (0..2)
                    .zip(join.ttl)
                    .filter(|(side, ttl)| input(*side) && !ttl.is_some_and(|ttl| ttl > 0))
                    .map(|(side, _)| sources(plan, node.inputs.get(side)))
                    .collect();
                (!sides.is_empty()).then(|| format!("the join keeps every row of {}", sides.join(" and of ")))
            }
            Op::Aggregate(aggregate)
                if input(0) && !aggregate.group.is_empty() && aggregate.ttl.is_none_or(|ttl| ttl <= 0) =>
            {
                Some(format!(
                    "GROUP BY keeps a row for every value of ({}) in {}",
                    columns(&aggregate.group, 0),
                    sources(plan, node.inputs.first())
                ))
            }
            Op::Deduplicate(dedup) if input(0) => Some(format!(
                "the deduplication keeps a row for every value of ({}) in {}",
                columns(&dedup.key, 0),
                sources(plan, node.inputs.first())
            )),
            Op::SetOp { .. } if input(0) || input(1) => {
                Some(format!("INTERSECT and EXCEPT keep every row of {}", sources(plan, node.inputs.first())))
            }
            Op::Over(over) if input(0) => over_keeps(over).map(|what| {
                let keys = if over.partition.is_empty() {
                    String::new()
                } else {
                    format!(" for every value of ({})", columns(&over.partition, 0))
                };
                format!("OVER keeps {what}{keys} in {}", sources(plan, node.inputs.first()))
            }),
            Op::SortedOver(_) if input(0) => Some(format!(
                "OVER, ordered by what is no time, keeps every row of {}",
                sources(plan, node.inputs.first())
            )),
            _ => None,
        };
        if let Some(what) = what {
            out.push(format!(
                "{what}: its state grows without bound. SET 'table.exec.state.ttl' = '7 d' lets it forget what was \
                 not written for so long, or use a window, an interval join or a temporal join"
            ));
        }
        let mark = match &node.op {
            Op::Source(table) => connectors::is_endless(table) && !node.changelog.update_after,
            // one row per group, or rows of a table: they change, and do not only come
            Op::Aggregate(_) | Op::Deduplicate(_) | Op::Rank(_) | Op::Values(_) => false,
            _ => (0..node.inputs.len()).any(input) && !node.changelog.update_after,
        };
        if let Some(slot) = endless.get_mut(id) {
            *slot = mark;
        }
    }
    out
}

/// What an OVER window ordered by time keeps for good: RANGE frames with a bound empty as time goes.
fn over_keeps(over: &Over) -> Option<String> {
    let keeps_values = |call: &AggregateCall| {
        const LISTS: [&str; 4] = ["LISTAGG", "STRING_AGG", "COLLECT", "ARRAY_AGG"];
        call.distinct || LISTS.contains(&call.function) || call.function.starts_with("JSON_")
    };
    match over.frame {
        Frame::Range(Some(_)) => None,
        Frame::Range(None) | Frame::Rows(None) if over.calls.iter().any(keeps_values) => {
            Some("every value that it aggregates".to_owned())
        }
        _ if over.partition.is_empty() => None,
        Frame::Range(None) | Frame::Rows(None) => Some("what it has aggregated".to_owned()),
        Frame::Rows(Some(rows)) => Some(format!("the last {rows} rows")),
    }
}

/// Tables with options of Flink that have no effect here.
fn without_effect(plan: &Plan) -> Vec<String> {
    let mut out = Vec::new();
    for node in &plan.nodes {
        let (Op::Source(table) | Op::Sink(table) | Op::LookupJoin(LookupJoin { table, .. })) = &node.op
        else {
            continue;
        };
        let connector = table.option("connector").unwrap_or_default();
        for name in table.options.keys() {
            if let Some(Effect::Without(why)) = tables::find(connector, name).map(|option| option.effect) {
                out.push(format!("table {}: '{name}' has no effect: {why}", table.name));
            }
        }
    }
    out
}

/// The tables below a node.
fn sources(plan: &Plan, node: Option<&NodeId>) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut open: Vec<NodeId> = node.copied().into_iter().collect();
    while let Some(id) = open.pop() {
        let Some(node) = plan.nodes.get(id) else { continue };
        if let Op::Source(table) = &node.op {
            names.push(&table.name);
        }
        open.extend(&node.inputs);
    }
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}
