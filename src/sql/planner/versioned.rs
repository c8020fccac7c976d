//! FOR SYSTEM_TIME AS OF: event-time temporal joins and lookup joins.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{JoinKind, LookupJoin, Op, TemporalJoin};
use crate::sql::connectors::SourceMode;
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::rel::{Col, TimeAttribute};
use crate::sql::types::{and_all, column, rewrite};

use super::join::{Pair, Sides, narrowed, sides, widened, with_columns};
use super::keys;
use super::phys::Phys;

/// FOR SYSTEM_TIME AS OF: a lookup, or a versioned table.
pub(super) fn temporal(
    left: Phys,
    right: Phys,
    kind: JoinKind,
    parts: Vec<Expr>,
    time: usize,
    span: Span,
) -> SqlResult<Phys> {
    if !matches!(kind, JoinKind::Inner | JoinKind::Left) {
        return Err(SqlError::plan(
            span,
            format!(
                "Unknown join type {}: temporal joins are INNER JOIN and LEFT JOIN",
                format!("{kind:?}").to_uppercase()
            ),
        ));
    }
    let width = left.cols.len();
    let attribute = left.cols.get(time).map_or(TimeAttribute::None, |c| c.time);
    let mut cols = left.cols.clone();
    cols.extend(right.cols.iter().cloned().map(|mut c| {
        c.data_type.nullable |= kind == JoinKind::Left;
        c.materialized()
    }));
    let all = sides(parts, width, &["="]);
    if attribute == TimeAttribute::Proctime {
        return lookup(left, right, kind, all.on, all.rest, cols, span);
    }
    let Sides { on, rest } = all.with_keys(width);
    let right_time = right.cols.iter().position(|c| c.time == TimeAttribute::Rowtime);
    let (left, left_on) = with_columns(left, on.iter().map(|pair| &pair.left));
    let right_on: Vec<usize> = on
        .iter()
        .filter_map(|pair| match pair.right.node {
            ExprNode::Column(c) => Some(c),
            _ => None,
        })
        .collect();
    if right.unique.is_empty() {
        return Err(SqlError::plan(
            span,
            "Temporal Table Join requires primary key in versioned table, but no primary key can be found.",
        )
        .help("declare PRIMARY KEY (…) NOT ENFORCED on the versioned table"));
    }
    let Some(right_time) = right_time else {
        return Err(SqlError::plan(span, "Event-Time Temporal Table Join requires both primary key and row time attribute in versioned table, but no row time attribute can be found.")
            .help("declare a WATERMARK on the versioned table"));
    };
    if on.is_empty() {
        return Err(SqlError::plan(span, "Currently the join key in Temporal Table Join can not be empty.")
            .help("join on all columns of the versioned table's primary key: ON o.currency = r.currency"));
    }
    if right_on.len() != on.len() || !keys::within(&right.unique, &right_on) {
        return Err(SqlError::plan(
            span,
            "Temporal Table Join requires primary key in versioned table, but no primary key can be found in the equivalence condition.",
        )
        .help("join on all columns of the versioned table's primary key"));
    }
    let extra = left.cols.len() - width;
    let op = Op::TemporalJoin(TemporalJoin {
        kind,
        on: left_on.into_iter().zip(right_on).collect(),
        residual: and_all(rest).map(|e| widened(&e, width, extra)),
        left_time: time,
        right_time,
    });
    let right_width = right.cols.len();
    let left_width = left.cols.len();
    let (update, delete, unique) = (left.update, left.delete, left.unique.clone());
    let mut out_cols = left.cols.clone();
    out_cols.extend(cols.iter().skip(width).cloned());
    let mut out = Phys::append(op, vec![left, right], out_cols);
    (out.update, out.delete, out.unique, out.upsert) = (update, delete, unique.clone(), unique);
    Ok(narrowed(out, kind, cols, (width, right_width), left_width))
}

fn lookup(
    left: Phys,
    right: Phys,
    kind: JoinKind,
    on: Vec<Pair>,
    rest: Vec<Expr>,
    cols: Vec<Col>,
    span: Span,
) -> SqlResult<Phys> {
    // filters on the table alone are part of the condition
    let mut right = right;
    let width = left.cols.len();
    let mut residual = rest;
    while let Op::Filter(predicate) = &right.op {
        residual.push(rewrite(predicate, &|c, t| column(c + width, t.clone())));
        match right.inputs.pop() {
            Some(inner) => right = inner,
            None => break,
        }
    }
    let (Op::Source(table), Some(SourceMode::Lookup)) = (&right.op, right.source) else {
        return Err(SqlError::plan(span, "Processing-time temporal join is not supported yet.").help(
            "a lookup join works on a jdbc table; for a table of changes use a regular join, or event time",
        ));
    };
    let table = table.clone();
    let keys: Vec<(usize, Expr)> = on
        .iter()
        .filter_map(|pair| match pair.right.node {
            ExprNode::Column(c) => Some((c, pair.left.clone())),
            _ => None,
        })
        .collect();
    if keys.is_empty() || keys.len() != on.len() {
        return Err(SqlError::plan(
            span,
            format!(
                "Temporal table join requires an equality condition on fields of table [default_catalog.default_database.{}].",
                table.name
            ),
        )
        .help("join on a column of the looked-up table: ON o.product = p.id"));
    }
    let looked_up: Vec<usize> = keys.iter().map(|(c, _)| *c).collect();
    let single = keys::within(&right.unique, &looked_up);
    let op = Op::LookupJoin(LookupJoin { kind, table, keys, residual: and_all(residual) });
    let mut out = Phys::append(op, Vec::new(), cols);
    (out.update, out.delete) = (left.update, left.delete);
    if out.update {
        out.delete = true;
    }
    if single {
        (out.unique, out.upsert) = (left.unique.clone(), left.upsert.clone());
    }
    out.inputs.push(left);
    Ok(out)
}
