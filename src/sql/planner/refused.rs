//! What Flink refuses though it could be run: refused with `millstream.compat.strict`.

use crate::engine::plan::OnConflict;
use crate::sql::ast;
use crate::sql::catalog::Table;
use crate::sql::connectors::SinkMode;
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::rel::{Rel, RelNode};

/// What Flink refuses and this planner could run.
pub(super) fn refused_by_flink(
    insert: &ast::Insert,
    rel: &Rel,
    table: &Table,
    mode: SinkMode,
) -> SqlResult<()> {
    let null = crate::engine::types::TypeKind::Null;
    if rel.cols.iter().any(|col| col.data_type.kind == null) {
        return Err(SqlError::plan(insert.query.span, "Illegal use of 'NULL'")
            .help("CAST(NULL AS type) gives it one"));
    }
    // these say of themselves what they are asked for
    let any = table.options.get("connector").is_some_and(|c| matches!(c.as_str(), "print" | "blackhole"));
    if insert.conflict.is_some() && mode != SinkMode::Upsert && !any {
        let why = match mode {
            SinkMode::Append => "only accepts INSERT (append-only) changes",
            _ => "requires UPDATE_BEFORE (retract mode)",
        };
        return Err(SqlError::plan(
            insert.span,
            format!(
                "ON CONFLICT clause is only allowed for upsert sinks. The sink 'default_catalog.default_database.{}' is not an upsert sink because it {why}.",
                table.name
            ),
        ));
    }
    let rule = match insert.conflict {
        Some(OnConflict::Nothing) => Some("NOTHING"),
        Some(OnConflict::Error) => Some("ERROR"),
        _ => None,
    };
    let mut timeless = Vec::new();
    sources_without_watermark(rel, false, &mut timeless);
    if let (Some(rule), false) = (rule, timeless.is_empty()) {
        timeless.sort_unstable();
        timeless.dedup();
        return Err(SqlError::plan(
            insert.span,
            format!(
                "ON CONFLICT DO {rule} requires all source tables to define watermarks, but the following source(s) do not: {}. Please add a WATERMARK declaration to these tables.",
                timeless.join(", ")
            ),
        ));
    }
    unordered_ranks(rel, insert.query.span)?;
    if over_windows(rel) > 1 {
        return Err(SqlError::plan(
            insert.query.span,
            "Over Agg: Unsupported use of OVER windows. All aggregates must be computed on the same window. please re-check the over window statement.",
        )
        .help("compute one of them in a query around"));
    }
    Ok(())
}

/// Refuses a ranking function whose window has no order.
fn unordered_ranks(rel: &Rel, span: Span) -> SqlResult<()> {
    if let RelNode::Over(over) = &rel.node
        && over.order.is_empty()
        && over.calls.iter().any(|call| matches!(call.function, "ROW_NUMBER" | "RANK" | "DENSE_RANK"))
    {
        return Err(SqlError::plan(
            span,
            "Over Agg: The window rank function requires order by clause with non-constant fields. please re-check the over window statement.",
        ));
    }
    inputs(rel).into_iter().try_for_each(|input| unordered_ranks(input, span))
}

fn inputs(rel: &Rel) -> Vec<&Rel> {
    match &rel.node {
        RelNode::Scan(..) | RelNode::Values(_) => Vec::new(),
        RelNode::Watermark(input, ..)
        | RelNode::Project(input, _)
        | RelNode::Filter(input, _)
        | RelNode::WindowTvf(input, _)
        | RelNode::Expand(input, _)
        | RelNode::Sort { input, .. }
        | RelNode::Unnest(input, _) => vec![input],
        RelNode::Aggregate(aggregate) => vec![&aggregate.input],
        RelNode::Over(over) => vec![&over.input],
        RelNode::Rank(rank) => vec![&rank.input],
        RelNode::Union(inputs) => inputs.iter().collect(),
        RelNode::Join(join) => vec![&join.left, &join.right],
        RelNode::SetOp { left, right, .. } => vec![left, right],
    }
}

/// The tables of a query that have no watermark.
fn sources_without_watermark(rel: &Rel, watermark: bool, out: &mut Vec<String>) {
    match &rel.node {
        RelNode::Scan(table, ..) => {
            if !watermark {
                out.push(format!("default_catalog.default_database.{}", table.name));
            }
        }
        RelNode::Watermark(input, ..) => sources_without_watermark(input, true, out),
        _ => inputs(rel).into_iter().for_each(|input| sources_without_watermark(input, watermark, out)),
    }
}

/// OVER operators that one SELECT has put on top of each other.
fn over_windows(rel: &Rel) -> usize {
    match &rel.node {
        RelNode::Project(input, exprs)
            // a projection of columns alone is a query around
            if !matches!(input.node, RelNode::Project(..)) && !exprs.is_empty() =>
        {
            over_windows(input)
        }
        RelNode::Over(over) => 1 + match &over.input.node {
            RelNode::Over(_) => over_windows(&over.input),
            _ => 0,
        },
        _ => 0,
    }
}
