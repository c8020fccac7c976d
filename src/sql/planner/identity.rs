//! What an operator is known by in state: a text that says what it computes, the same in every version.
//!
//! State is found by node names, which are hashes of these texts and of the inputs' names. Everything that changes
//! what an operator keeps or emits stands in it; addresses, passwords and start positions do not ([`Op::identity`]
//! takes them away), so that a moved broker leaves the state usable. A change of this file is a change of the state's format: the test below fails.

use std::fmt::Write as _;

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{
    AggregateCall, Frame, JoinKind, NormalizeMode, OnConflict, Op, RankFunction, SortKey, TableRef, Window,
    WindowInput, WindowKind, WindowProperty,
};
use crate::engine::row::Value;

use super::changelog::kind;

/// The text of an operator.
pub(super) fn text(op: &Op) -> String {
    let mut out = String::from(kind(op));
    write_op(&mut out, op);
    out
}

fn list<T: std::fmt::Display>(out: &mut String, name: &str, items: impl IntoIterator<Item = T>) {
    let _ = write!(out, " {name}[");
    for (i, item) in items.into_iter().enumerate() {
        let _ = write!(out, "{}{item}", if i > 0 { "," } else { "" });
    }
    out.push(']');
}

fn expires(ttl: i64) -> &'static str {
    if ttl > 0 { "yes" } else { "no" }
}

fn exprs<'e>(out: &mut String, name: &str, items: impl IntoIterator<Item = &'e Expr>) {
    list(out, name, items.into_iter().map(expr));
}

fn write_op(out: &mut String, op: &Op) {
    match op {
        Op::Source(t) | Op::Sink(t) => table(out, t),
        Op::Filter(predicate) => exprs(out, "where", [predicate]),
        Op::Project(columns) => exprs(out, "to", columns),
        Op::Normalize { key, mode } => {
            list(out, "key", key);
            match mode {
                NormalizeMode::Upsert => out.push_str(" upsert"),
                NormalizeMode::Complete { compare } => list(out, "complete", compare),
            }
        }
        Op::DropUpdateBefore | Op::Union => {}
        Op::WatermarkAssigner { rowtime, watermark } => {
            list(out, "rowtime", [rowtime]);
            exprs(out, "as", [watermark]);
        }
        Op::Join(join) => {
            joined(out, join.kind, &join.on, join.residual.as_ref());
            // Not said where there is none: the state of such a join keeps its name.
            if join.null_safe.contains(&true) {
                list(out, "null-safe", &join.null_safe);
            }
            list(out, "left", join.left_key.iter().flatten());
            list(out, "right", join.right_key.iter().flatten());
            // What expires is stored in another form.
            if join.ttl != [None; 2] {
                list(out, "expires", join.ttl.map(|ttl| ttl.map_or("as all", expires)));
            }
        }
        Op::Aggregate(aggregate) => {
            list(out, "group", &aggregate.group);
            calls(out, &aggregate.calls);
            if let Some(ttl) = aggregate.ttl {
                list(out, "expires", [expires(ttl)]);
            }
        }
        Op::Materialize { key, conflict, input_key } => {
            list(out, "key", key);
            // Not said where there is none: the state of such a sink keeps its name.
            if let Some(input_key) = input_key {
                list(out, "of", input_key);
            }
            out.push_str(match conflict {
                OnConflict::Deduplicate => " deduplicate",
                OnConflict::Nothing => " nothing",
                OnConflict::Error => " error",
            });
        }
        Op::NotNull { columns, drop } => {
            list(out, "columns", columns);
            list(out, "drop", [drop]);
        }
        Op::Values(rows) | Op::Expand(rows) => rows.iter().for_each(|row| exprs(out, "row", row)),
        Op::WindowTvf(w) => window(out, w),
        Op::WindowAggregate(aggregate) => {
            window_input(out, &aggregate.window);
            list(out, "group", &aggregate.group);
            calls(out, &aggregate.calls);
            list(
                out,
                "properties",
                aggregate.properties.iter().map(|property| match property {
                    WindowProperty::Start => "start",
                    WindowProperty::End => "end",
                    WindowProperty::Time => "time",
                }),
            );
        }
        Op::WindowJoin(join) => {
            joined(out, join.kind, &join.on, join.residual.as_ref());
            window_input(out, &join.left);
            window_input(out, &join.right);
        }
        Op::WindowRank(rank) => {
            window_input(out, &rank.window);
            ranked(out, rank.function, &rank.partition, &rank.order);
            list(out, "from", [rank.from, rank.to]);
            list(out, "emit", [rank.emit_rank, rank.last_wins]);
        }
        Op::IntervalJoin(join) => {
            joined(out, join.kind, &join.on, join.residual.as_ref());
            list(out, "times", [join.left_time, join.right_time]);
            list(out, "bounds", [join.lower, join.upper]);
            list(out, "rowtime", [join.rowtime]);
        }
        Op::TemporalJoin(join) => {
            joined(out, join.kind, &join.on, join.residual.as_ref());
            list(out, "times", [join.left_time, join.right_time]);
        }
        Op::LookupJoin(join) => {
            joined(out, join.kind, &[], join.residual.as_ref());
            table(out, &join.table);
            list(out, "keys", join.keys.iter().map(|(column, value)| format!("{column}={}", expr(value))));
        }
        Op::Rank(rank) => {
            ranked(out, rank.function, &rank.partition, &rank.order);
            list(out, "from", [rank.from, rank.to.unwrap_or(0)]);
            list(out, "emit", [rank.emit_rank]);
            list(out, "key", rank.input_key.iter().flatten());
        }
        Op::Deduplicate(dedup) => {
            list(out, "key", &dedup.key);
            list(out, "time", [dedup.time]);
            list(out, "rowtime", [dedup.rowtime, dedup.last]);
        }
        Op::TemporalSort { rowtime, then } => {
            list(out, "rowtime", [rowtime]);
            list(out, "then", then.iter().map(sort_key));
        }
        Op::Over(over) => {
            list(out, "partition", &over.partition);
            list(out, "time", [over.time]);
            list(out, "rowtime", [over.rowtime]);
            match over.frame {
                Frame::Range(bound) => list(out, "range", bound),
                Frame::Rows(bound) => list(out, "rows", bound),
            }
            calls(out, &over.calls);
        }
        Op::SortedOver(over) => {
            list(out, "partition", &over.partition);
            list(out, "column", [over.column]);
            list(out, "peers", [over.peers]);
            calls(out, &over.calls);
        }
        Op::Unnest(unnest) => {
            exprs(out, "of", [&unnest.collection]);
            list(out, "outer", [unnest.outer, unnest.ordinality]);
            // Not said where there is none: names stay.
            if unnest.condition.is_some() {
                exprs(out, "on", &unnest.condition);
            }
        }
        Op::SetOp { intersect, all } => list(out, "intersect", [intersect, all]),
    }
}

fn table(out: &mut String, table: &TableRef) {
    let _ = write!(out, " '{}'", table.name);
    list(out, "with", table.options.iter().map(|(key, value)| format!("{key}={value}")));
    list(
        out,
        "columns",
        table.columns.iter().map(|column| {
            let key = column.metadata.as_deref().map(|key| format!(" from {key}")).unwrap_or_default();
            format!("{} {}{key}", column.field.name, column.field.data_type)
        }),
    );
    list(out, "key", &table.primary_key);
}

fn joined(out: &mut String, kind: JoinKind, on: &[(usize, usize)], residual: Option<&Expr>) {
    out.push_str(match kind {
        JoinKind::Inner => " inner",
        JoinKind::Left => " left",
        JoinKind::Right => " right",
        JoinKind::Full => " full",
        JoinKind::Semi => " semi",
        JoinKind::Anti => " anti",
    });
    list(out, "on", on.iter().map(|(left, right)| format!("{left}={right}")));
    exprs(out, "and", residual);
}

fn calls(out: &mut String, calls: &[AggregateCall]) {
    list(
        out,
        "calls",
        calls.iter().map(|call| {
            let mut text = format!("{}{}", if call.distinct { "distinct " } else { "" }, call.function);
            list(&mut text, "of", &call.args);
            list(&mut text, "where", call.filter);
            let _ = write!(text, " {}", call.output.data_type);
            text
        }),
    );
}

fn ranked(out: &mut String, function: RankFunction, partition: &[usize], order: &[SortKey]) {
    out.push_str(match function {
        RankFunction::RowNumber => " row-number",
        RankFunction::Rank => " rank",
        RankFunction::DenseRank => " dense-rank",
    });
    list(out, "partition", partition);
    list(out, "order", order.iter().map(sort_key));
}

fn sort_key(key: &SortKey) -> String {
    let direction = if key.descending { "desc" } else { "asc" };
    format!("{} {direction} nulls {}", key.column, if key.nulls_first { "first" } else { "last" })
}

fn window(out: &mut String, window: &Window) {
    match &window.kind {
        WindowKind::Tumble { size, offset } => list(out, "tumble", [size, offset]),
        WindowKind::Hop { slide, size, offset } => list(out, "hop", [slide, size, offset]),
        WindowKind::Cumulate { step, size, offset } => list(out, "cumulate", [step, size, offset]),
        WindowKind::Session { gap, partition } => {
            list(out, "session", [gap]);
            list(out, "by", partition);
        }
    }
    list(out, "time", [window.time]);
    list(out, "rowtime", [window.rowtime]);
}

fn window_input(out: &mut String, input: &WindowInput) {
    match input {
        WindowInput::Assign(assigned) => window(out, assigned),
        WindowInput::Attached { start, end, rowtime, ltz } => {
            list(out, "start", start);
            list(out, "end", [end]);
            list(out, "rowtime", [rowtime, ltz]);
        }
    }
}

fn expr(expr: &Expr) -> String {
    let mut out = String::new();
    write_expr(&mut out, expr);
    out
}

fn write_expr(out: &mut String, e: &Expr) {
    match &e.node {
        ExprNode::Column(index) => {
            let _ = write!(out, "${index}");
        }
        ExprNode::Literal(value) => {
            value_text(out, value);
            let _ = write!(out, ":{}", e.data_type);
        }
        ExprNode::Cast { input, lenient } => {
            out.push_str(if *lenient { "try-cast(" } else { "cast(" });
            write_expr(out, input);
            let _ = write!(out, " as {})", e.data_type);
        }
        ExprNode::Case { branches, otherwise } => {
            out.push_str("case(");
            for (condition, result) in branches {
                write_expr(out, condition);
                out.push('?');
                write_expr(out, result);
                out.push(';');
            }
            write_expr(out, otherwise);
            out.push(')');
        }
        ExprNode::Call { function, args } => {
            out.push_str(function);
            out.push('(');
            for (i, arg) in args.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_expr(out, arg);
            }
            let _ = write!(out, "):{}", e.data_type);
        }
        ExprNode::Field { input, index } => {
            write_expr(out, input);
            let _ = write!(out, ".{index}");
        }
    }
}

/// A constant, quoted where it is text.
fn value_text(out: &mut String, value: &Value) {
    match value {
        Value::Str(text) => {
            let _ = write!(out, "'{}'", text.replace('\'', "''"));
        }
        other => {
            let null = crate::engine::types::DataType::new(crate::engine::types::TypeKind::Null);
            crate::engine::print::value(out, other, &null);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::sql::compile;

    const SCRIPT: &str = "CREATE TABLE o (id INT, c INT, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='o', 'properties.bootstrap.servers'='SERVER', 'scan.startup.mode'='earliest-offset', 'format'='debezium-json');
CREATE TABLE p (c INT, n BIGINT, s INT) WITH ('connector'='print');
INSERT INTO p SELECT c, COUNT(*), SUM(v * 2) FROM o WHERE v > 3 GROUP BY c;";

    fn names(server: &str) -> Vec<String> {
        let script = compile(&SCRIPT.replace("SERVER", server)).unwrap();
        script.plan.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// These names stand in state directories: another one means that state is not found any more.
    #[test]
    fn names_of_operators_stay() {
        assert_eq!(names("a:9092"), names("b:9092"));
        assert_eq!(
            names("a:9092").join(" "),
            "source-22f18f493986833b normalize-112ae834a9ab07db filter-d14c782a94ff4dc8 \
             project-6fda27fe65f8a00f aggregate-6f019e5415e55a68 sink-ade69b349d6045de"
        );
    }
}
