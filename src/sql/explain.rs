//! EXPLAIN: operators with their changelog modes, in Flink's style.

use std::fmt::Write as _;

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{ChangelogMode, JoinKind, NodeId, Op, Plan, WindowInput, WindowKind};
use crate::engine::row::Value;

use super::ast::Details;
use super::compile::SELECT_SINK;
use super::rel::Col;

/// The plan as text, a tree per sink, with the details that are asked for.
///
/// There are no costs to tell: operators are placed by rules alone.
pub fn explain(plan: &Plan, details: Details) -> String {
    let advice = if details.advice { " With Advice" } else { "" };
    let mut out = format!("== Optimized Physical Plan{advice} ==\n");
    let used: std::collections::HashSet<NodeId> =
        plan.nodes.iter().flat_map(|n| n.inputs.iter().copied()).collect();
    let mut first = true;
    for id in (0..plan.nodes.len()).filter(|id| !used.contains(id)) {
        if !first {
            out.push('\n');
        }
        first = false;
        // a bare query has no sink of its own
        let root = match plan.nodes.get(id) {
            Some(node) if matches!(&node.op, Op::Sink(table) if table.name == SELECT_SINK) => {
                node.inputs.first().copied().unwrap_or(id)
            }
            _ => id,
        };
        tree(plan, root, &mut String::new(), true, details.changelog, &mut out);
    }
    if details.advice && plan.warnings.is_empty() {
        out.push_str("\nNo available advice...\n");
    }
    for (i, warning) in plan.warnings.iter().enumerate() {
        let _ = if details.advice {
            writeln!(out, "\nadvice[{}]: [WARNING] {warning}", i + 1)
        } else {
            writeln!(out, "\nwarning: {warning}")
        };
    }
    if details.json {
        let _ = write!(out, "\n== Physical Execution Plan ==\n{}", json(plan));
    }
    out
}

/// A node's columns.
fn columns(plan: &Plan, id: NodeId) -> Vec<Col> {
    let fields = plan.nodes.get(id).map_or(&[] as &[_], |node| node.schema.as_slice());
    fields.iter().map(|f| Col::new(f.name.clone(), f.data_type.clone())).collect()
}

/// A node in words.
fn words(plan: &Plan, id: NodeId) -> String {
    let Some(node) = plan.nodes.get(id) else { return String::new() };
    let inputs: Vec<Vec<Col>> = node.inputs.iter().map(|input| columns(plan, *input)).collect();
    describe(&node.op, &columns(plan, id), &inputs)
}

/// The nodes as JSON, in the form of Flink's execution plans.
fn json(plan: &Plan) -> String {
    let nodes: Vec<serde_json::Value> = plan
        .nodes
        .iter()
        .enumerate()
        .map(|(id, node)| {
            let text = words(plan, id);
            let name = text.split('(').next().unwrap_or_default();
            let pact = match node.op {
                Op::Source(_) | Op::Values(_) => "Data Source",
                Op::Sink(_) => "Data Sink",
                _ => "Operator",
            };
            let mut out = serde_json::json!({
                "id": id + 1,
                "type": name,
                "pact": pact,
                "contents": text,
            });
            let before: Vec<serde_json::Value> = node
                .inputs
                .iter()
                .enumerate()
                .map(|(port, input)| {
                    let ship = if exchange(&node.op, port).is_some() { "HASH" } else { "FORWARD" };
                    serde_json::json!({ "id": input + 1, "ship_strategy": ship, "side": "second" })
                })
                .collect();
            if let (Some(fields), false) = (out.as_object_mut(), before.is_empty()) {
                fields.insert("predecessors".to_owned(), before.into());
            }
            out
        })
        .collect();
    serde_json::to_string_pretty(&serde_json::json!({ "nodes": nodes })).unwrap_or_default()
}

/// By which columns the rows of an input are brought together; none: all in one place.
fn exchange(op: &Op, port: usize) -> Option<Vec<usize>> {
    let side = |on: &[(usize, usize)]| on.iter().map(|(l, r)| if port == 0 { *l } else { *r }).collect();
    match op {
        Op::Join(join) => Some(side(&join.on)),
        Op::WindowJoin(join) => Some(side(&join.on)),
        Op::IntervalJoin(join) => Some(side(&join.on)),
        Op::TemporalJoin(join) => Some(side(&join.on)),
        Op::Aggregate(aggregate) => Some(aggregate.group.clone()),
        Op::WindowAggregate(aggregate) => Some(aggregate.group.clone()),
        Op::Normalize { key, .. } | Op::Materialize { key, .. } => Some(key.clone()),
        Op::Rank(rank) => Some(rank.partition.clone()),
        Op::WindowRank(rank) => Some(rank.partition.clone()),
        Op::Deduplicate(dedup) => Some(dedup.key.clone()),
        Op::Over(over) => Some(over.partition.clone()),
        Op::SortedOver(over) => Some(over.partition.clone()),
        Op::TemporalSort { .. } => Some(Vec::new()),
        _ => None,
    }
}

fn tree(plan: &Plan, id: NodeId, indent: &mut String, last: bool, with_modes: bool, out: &mut String) {
    let Some(node) = plan.nodes.get(id) else { return };
    let with_mode = |text: String, id: NodeId| {
        let Some(node) = plan.nodes.get(id).filter(|_| with_modes) else { return text };
        let sink = matches!(node.op, Op::Sink(_));
        let mode = if sink { "NONE".to_owned() } else { mode_text(&node.changelog) };
        match text.strip_suffix(')') {
            Some(open) => {
                format!("{open}{}changelogMode=[{mode}])", if open.ends_with('(') { "" } else { ", " })
            }
            None => format!("{text}(changelogMode=[{mode}])"),
        }
    };
    let line = |text: &str, indent: &str, last: bool, out: &mut String| {
        let _ = match indent.len().checked_sub(3) {
            None => writeln!(out, "{text}"),
            Some(before) => {
                let head = indent.get(..before).unwrap_or("");
                writeln!(out, "{head}{}{text}", if last { "+- " } else { ":- " })
            }
        };
    };
    line(&with_mode(words(plan, id), id), indent, last, out);
    let depth = indent.len();
    let count = node.inputs.len();
    for (i, input) in node.inputs.iter().enumerate() {
        let is_last = i + 1 == count;
        // the child's own branch takes three columns; below it a line goes on while brothers follow
        indent.push_str(if is_last { "   " } else { ":  " });
        let inner = indent.len();
        let mut below = is_last;
        if let Some(key) = exchange(&node.op, i) {
            let cols = columns(plan, *input);
            let how =
                if key.is_empty() { "single".to_owned() } else { format!("hash[{}]", list(&key, &cols)) };
            line(&with_mode(format!("Exchange(distribution=[{how}])"), *input), indent, is_last, out);
            indent.push_str("   ");
            below = true;
        }
        tree(plan, *input, indent, below, with_modes, out);
        indent.truncate(inner);
        indent.truncate(depth);
    }
}

/// `I,UB,UA,D`
pub fn mode_text(mode: &ChangelogMode) -> String {
    let mut out = vec!["I"];
    if mode.update_before {
        out.push("UB");
    }
    if mode.update_after {
        out.push("UA");
    }
    if mode.delete {
        out.push("D");
    }
    out.join(",")
}

fn list(columns: &[usize], cols: &[Col]) -> String {
    columns.iter().map(|c| name(*c, cols)).collect::<Vec<_>>().join(", ")
}

fn name(column: usize, cols: &[Col]) -> String {
    cols.get(column).map_or_else(|| format!("${column}"), |c| c.name.clone())
}

/// An operator in words.
pub fn describe(op: &Op, cols: &[Col], inputs: &[Vec<Col>]) -> String {
    let none: &[Col] = &[];
    let input = inputs.first().map_or(none, Vec::as_slice);
    let right = inputs.get(1).map_or(none, Vec::as_slice);
    let both: Vec<Col> = input.iter().chain(right).cloned().collect();
    let fields = cols.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
    let condition_with = |on: &[(usize, usize)], null_safe: &[bool], residual: &Option<Expr>| {
        let equality = |(at, (l, r)): (usize, &(usize, usize))| {
            let safe = null_safe.get(at).is_some_and(|safe| *safe);
            let operator = if safe { "IS NOT DISTINCT FROM" } else { "=" };
            format!("{operator}({}, {})", name(*l, input), name(*r, right))
        };
        let mut parts: Vec<String> = on.iter().enumerate().map(equality).collect();
        parts.extend(residual.iter().map(|e| expression(e, &both)));
        match parts.len() {
            0 => "true".to_owned(),
            1 => parts.concat(),
            _ => format!("AND({})", parts.join(", ")),
        }
    };
    let condition = |on: &[(usize, usize)], residual: &Option<Expr>| condition_with(on, &[], residual);
    match op {
        Op::Source(table) => format!(
            "TableSourceScan(table=[[default_catalog, default_database, {}]], fields=[{fields}])",
            table.name
        ),
        Op::Sink(table) => {
            format!("Sink(table=[default_catalog.default_database.{}], fields=[{fields}])", table.name)
        }
        Op::Filter(predicate) => format!("Calc(select=[{fields}], where=[{}])", expression(predicate, input)),
        Op::Project(exprs) => {
            let items: Vec<String> = exprs
                .iter()
                .zip(cols)
                .map(|(e, c)| {
                    let text = expression(e, input);
                    if text == c.name { text } else { format!("{text} AS {}", c.name) }
                })
                .collect();
            format!("Calc(select=[{}])", items.join(", "))
        }
        Op::Normalize { key, .. } => format!("ChangelogNormalize(key=[{}])", list(key, cols)),
        Op::DropUpdateBefore => "DropUpdateBefore()".to_owned(),
        Op::WatermarkAssigner { rowtime, watermark } => {
            format!(
                "WatermarkAssigner(rowtime=[{}], watermark=[{}])",
                name(*rowtime, cols),
                expression(watermark, input)
            )
        }
        Op::Join(join) => format!(
            "Join(joinType=[{}], where=[{}], select=[{fields}], leftInputSpec=[{}], rightInputSpec=[{}])",
            join_type(join.kind),
            condition_with(&join.on, &join.null_safe, &join.residual),
            key_spec(join.left_key.as_deref(), &join.on.iter().map(|(l, _)| *l).collect::<Vec<_>>()),
            key_spec(join.right_key.as_deref(), &join.on.iter().map(|(_, r)| *r).collect::<Vec<_>>())
        ),
        Op::Aggregate(aggregate) => {
            let calls = calls(&aggregate.calls, input);
            let group = if aggregate.group.is_empty() {
                String::new()
            } else {
                format!("groupBy=[{}], ", list(&aggregate.group, input))
            };
            let mut select: Vec<String> = aggregate.group.iter().map(|c| name(*c, input)).collect();
            select.extend(calls);
            format!("GroupAggregate({group}select=[{}])", select.join(", "))
        }
        Op::Union => format!("Union(all=[true], union=[{fields}])"),
        Op::Materialize { key, conflict, .. } => {
            format!("SinkUpsertMaterializer(key=[{}], conflictStrategy=[{conflict:?}])", list(key, cols))
        }
        Op::NotNull { columns, drop } => {
            format!("ConstraintEnforcer(NotNullEnforcer(fields=[{}]), drop=[{drop}])", list(columns, cols))
        }
        Op::Values(rows) => format!("Values(rows=[{}], fields=[{fields}])", rows.len()),
        Op::WindowTvf(window) => format!(
            "WindowTableFunction(window=[{}])",
            window_text(&WindowInput::Assign(window.clone()), input)
        ),
        Op::WindowAggregate(aggregate) => {
            let group = if aggregate.group.is_empty() {
                String::new()
            } else {
                format!("groupBy=[{}], ", list(&aggregate.group, input))
            };
            format!(
                "WindowAggregate({group}window=[{}], select=[{}])",
                window_text(&aggregate.window, input),
                calls(&aggregate.calls, input).join(", ")
            )
        }
        Op::WindowJoin(join) => format!(
            "WindowJoin(leftWindow=[{}], rightWindow=[{}], joinType=[{}], where=[{}], select=[{fields}])",
            window_text(&join.left, input),
            window_text(&join.right, right),
            join_type(join.kind),
            condition(&join.on, &join.residual)
        ),
        Op::WindowRank(rank) => format!(
            "WindowRank(window=[{}], rankRange=[rankStart={}, rankEnd={}], partitionBy=[{}], orderBy=[{}], select=[{fields}])",
            window_text(&rank.window, input),
            rank.from,
            rank.to,
            list(&rank.partition, input),
            order(&rank.order, input)
        ),
        Op::IntervalJoin(join) => format!(
            "IntervalJoin(joinType=[{}], windowBounds=[isRowTime={}, lowerBound={}, upperBound={}], where=[{}], select=[{fields}])",
            join_type(join.kind),
            join.rowtime,
            join.lower,
            join.upper,
            condition(&join.on, &join.residual)
        ),
        Op::TemporalJoin(join) => {
            format!(
                "TemporalJoin(joinType=[{}], where=[{}], select=[{fields}])",
                join_type(join.kind),
                condition(&join.on, &join.residual)
            )
        }
        Op::LookupJoin(join) => {
            let keys: Vec<String> = join
                .keys
                .iter()
                .map(|(c, e)| {
                    format!(
                        "{}={}",
                        join.table.columns.get(*c).map_or("?", |c| c.field.name.as_str()),
                        expression(e, input)
                    )
                })
                .collect();
            format!(
                "LookupJoin(table=[default_catalog.default_database.{}], joinType=[{}], lookup=[{}], select=[{fields}])",
                join.table.name,
                join_type(join.kind),
                keys.join(", ")
            )
        }
        Op::Rank(rank) => format!(
            "Rank(rankType=[{:?}], rankRange=[rankStart={}, rankEnd={}], partitionBy=[{}], orderBy=[{}], select=[{fields}])",
            rank.function,
            rank.from,
            rank.to.map_or("*".to_owned(), |n| n.to_string()),
            list(&rank.partition, input),
            order(&rank.order, input)
        ),
        Op::Deduplicate(dedup) => format!(
            "Deduplicate(keep=[{}], key=[{}], order=[{}])",
            if dedup.last { "LastRow" } else { "FirstRow" },
            list(&dedup.key, input),
            if dedup.rowtime { "ROWTIME" } else { "PROCTIME" }
        ),
        Op::TemporalSort { rowtime, .. } => format!("TemporalSort(orderBy=[{} ASC])", name(*rowtime, cols)),
        Op::Over(over) => format!(
            "OverAggregate(partitionBy=[{}], orderBy=[{} ASC], window=[{:?}], select=[{fields}])",
            list(&over.partition, input),
            name(over.time, input),
            over.frame
        ),
        Op::SortedOver(over) => format!(
            "OverAggregate(partitionBy=[{}], orderBy=[{} ASC], window=[{} BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW], select=[{fields}])",
            list(&over.partition, input),
            name(over.column, input),
            if over.peers { "RANGE" } else { "ROWS" }
        ),
        Op::Expand(rows) => format!("Expand(projects=[{}])", rows.len()),
        Op::Unnest(unnest) => format!(
            "Correlate(invocation=[UNNEST({})], select=[{fields}], joinType=[{}]{})",
            expression(&unnest.collection, input),
            if unnest.outer { "LEFT" } else { "INNER" },
            match &unnest.condition {
                Some(condition) => format!(", condition=[{}]", expression(condition, cols)),
                None => String::new(),
            }
        ),
        Op::SetOp { intersect, all } => {
            format!("{}(all=[{all}], select=[{fields}])", if *intersect { "Intersect" } else { "Minus" })
        }
    }
}

fn key_spec(key: Option<&[usize]>, on: &[usize]) -> &'static str {
    match key {
        None => "NoUniqueKey",
        Some(key) if key.iter().all(|c| on.contains(c)) => "JoinKeyContainsUniqueKey",
        Some(_) => "HasUniqueKey",
    }
}

fn join_type(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "InnerJoin",
        JoinKind::Left => "LeftOuterJoin",
        JoinKind::Right => "RightOuterJoin",
        JoinKind::Full => "FullOuterJoin",
        JoinKind::Semi => "LeftSemiJoin",
        JoinKind::Anti => "LeftAntiJoin",
    }
}

fn calls(calls: &[crate::engine::plan::AggregateCall], input: &[Col]) -> Vec<String> {
    calls
        .iter()
        .map(|c| {
            let args = if c.args.is_empty() { "*".to_owned() } else { list(&c.args, input) };
            let distinct = if c.distinct { "DISTINCT " } else { "" };
            let filter = c.filter.map(|f| format!(" FILTER {}", name(f, input))).unwrap_or_default();
            format!("{}({distinct}{args}){filter} AS {}", c.function, c.output.name)
        })
        .collect()
}

fn order(keys: &[crate::engine::plan::SortKey], input: &[Col]) -> String {
    keys.iter()
        .map(|k| format!("{} {}", name(k.column, input), if k.descending { "DESC" } else { "ASC" }))
        .collect::<Vec<_>>()
        .join(", ")
}

fn window_text(window: &WindowInput, input: &[Col]) -> String {
    match window {
        WindowInput::Assign(window) => {
            let time = name(window.time, input);
            match &window.kind {
                WindowKind::Tumble { size, .. } => format!("TUMBLE(time_col=[{time}], size=[{size} ms])"),
                WindowKind::Hop { slide, size, .. } => {
                    format!("HOP(time_col=[{time}], size=[{size} ms], slide=[{slide} ms])")
                }
                WindowKind::Cumulate { step, size, .. } => {
                    format!("CUMULATE(time_col=[{time}], max_size=[{size} ms], step=[{step} ms])")
                }
                WindowKind::Session { gap, partition } => {
                    format!(
                        "SESSION(time_col=[{time}], gap=[{gap} ms], partition keys=[{}])",
                        list(partition, input)
                    )
                }
            }
        }
        WindowInput::Attached { start, end, .. } => format!(
            "win_start=[{}], win_end=[{}]",
            start.map(|s| name(s, input)).unwrap_or_default(),
            name(*end, input)
        ),
    }
}

/// An expression over named columns.
pub fn expression(expr: &Expr, cols: &[Col]) -> String {
    match &expr.node {
        ExprNode::Column(c) => name(*c, cols),
        ExprNode::Literal(value) => match value {
            Value::Null => format!("null:{}", expr.data_type.kind),
            Value::Str(text) => format!("'{}'", text.replace('\'', "''")),
            Value::Bool(b) => b.to_string(),
            Value::Int(n) | Value::Interval(n) => n.to_string(),
            Value::Double(d) => d.to_string(),
            Value::Decimal(d) => {
                let digits = d.unscaled();
                if d.scale == 0 { digits.to_string() } else { format!("{digits}E-{}", d.scale) }
            }
            other => format!("{other:?}"),
        },
        ExprNode::Cast { input, lenient } => {
            format!(
                "{}({} AS {})",
                if *lenient { "TRY_CAST" } else { "CAST" },
                expression(input, cols),
                expr.data_type.kind
            )
        }
        ExprNode::Case { branches, otherwise } => {
            let mut parts: Vec<String> = Vec::new();
            for (condition, result) in branches {
                parts.push(expression(condition, cols));
                parts.push(expression(result, cols));
            }
            parts.push(expression(otherwise, cols));
            format!("CASE({})", parts.join(", "))
        }
        ExprNode::Call { function, args } => {
            let args: Vec<String> = args.iter().map(|a| expression(a, cols)).collect();
            format!("{function}({})", args.join(", "))
        }
        ExprNode::Field { input, index } => format!("{}.f{index}", expression(input, cols)),
    }
}
