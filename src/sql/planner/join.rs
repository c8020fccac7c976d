//! Joins: which of the five it is.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{
    IntervalJoin, Join, JoinKind, LookupJoin, Op, TemporalJoin, WindowInput, WindowJoin, WindowProperty,
};
use crate::engine::types::{DataType, TypeKind};
use crate::sql::connectors::SourceMode;
use crate::sql::error::{SqlError, SqlResult};
use crate::sql::rel::{Col, JoinRel, TimeAttribute};
use crate::sql::types::{and_all, call, cast_to, column, conjuncts, rewrite};

use super::aggregate::attached;
use super::intervals;
use super::keys;
use super::phys::{Context, Phys};
use super::physical::{physical, used};

/// One side's view of the equalities.
struct Sides {
    on: Vec<(Expr, Expr)>,
    rest: Vec<Expr>,
}

fn shifted(expr: &Expr, by: usize) -> Expr {
    rewrite(expr, &|index, data_type| column(index.saturating_sub(by), data_type.clone()))
}

impl Sides {
    /// As keys of state, which are compared byte by byte: DECIMALs of different scale become one type, and what has
    /// none of 38 digits is compared row by row.
    fn with_keys(mut self, width: usize) -> Self {
        let (mut on, mut rest) = (Vec::with_capacity(self.on.len()), std::mem::take(&mut self.rest));
        for (left, right) in self.on {
            let (TypeKind::Decimal(p, s), TypeKind::Decimal(q, t)) =
                (&left.data_type.kind, &right.data_type.kind)
            else {
                on.push((left, right));
                continue;
            };
            if s == t {
                on.push((left, right));
                continue;
            }
            let scale = *s.max(t);
            let digits = p.saturating_sub(*s).max(q.saturating_sub(*t)).saturating_add(scale);
            if digits <= 38 {
                let both = TypeKind::Decimal(digits, scale);
                on.push((cast_to(left, &both), cast_to(right, &both)));
            } else {
                let right = rewrite(&right, &|index, data_type| column(index + width, data_type.clone()));
                rest.push(call("=", vec![left, right], DataType::new(TypeKind::Boolean)));
            }
        }
        Self { on, rest }
    }
}

/// Splits conjuncts into equalities between the sides and the rest.
fn sides(parts: Vec<Expr>, width: usize) -> Sides {
    let mut out = Sides { on: Vec::new(), rest: Vec::new() };
    for p in parts {
        if let ExprNode::Call { function: "=", args } = &p.node
            && let [a, b] = args.as_slice()
        {
            let (x, y) = (used(a), used(b));
            let left_only =
                |s: &std::collections::BTreeSet<usize>| !s.is_empty() && s.iter().all(|c| *c < width);
            let right_only =
                |s: &std::collections::BTreeSet<usize>| !s.is_empty() && s.iter().all(|c| *c >= width);
            if left_only(&x) && right_only(&y) {
                out.on.push((a.clone(), shifted(b, width)));
                continue;
            }
            if right_only(&x) && left_only(&y) {
                out.on.push((b.clone(), shifted(a, width)));
                continue;
            }
        }
        out.rest.push(p);
    }
    out
}

/// The side with these expressions as columns, and where they are.
fn with_columns(side: Phys, exprs: &[Expr]) -> (Phys, Vec<usize>) {
    let mut all: Vec<Expr> = (0..side.cols.len())
        .filter_map(|i| side.cols.get(i).map(|c| column(i, c.data_type.clone())))
        .collect();
    let mut cols = side.cols.clone();
    let width = all.len();
    let mut places = Vec::with_capacity(exprs.len());
    for expr in exprs {
        if let ExprNode::Column(c) = expr.node {
            places.push(c);
        } else if let Some(i) = all.iter().position(|e| e == expr) {
            places.push(i);
        } else {
            cols.push(Col::new(format!("$f{}", all.len()), expr.data_type.clone()));
            all.push(expr.clone());
            places.push(all.len() - 1);
        }
    }
    if all.len() == width { (side, places) } else { (side.project(all, cols), places) }
}

pub(super) fn plan(join: JoinRel, cols: Vec<Col>, context: &Context<'_>) -> SqlResult<Phys> {
    let JoinRel { left, right, kind, condition, system_time, ttl, span } = join;
    let width = left.cols.len();
    let right_width = right.cols.len();
    let mut both = left.cols.clone();
    both.extend(right.cols.iter().cloned());
    let mut parts = Vec::new();
    if let Some(condition) = condition {
        conjuncts(condition, &mut parts);
    }
    let left = physical(left, context)?;
    if let Some(time) = system_time {
        return temporal(left, physical(right, context)?, kind, parts, time, span);
    }
    let right = physical(right, context)?;
    // rows of the same window
    if let Some((window_parts, windows)) = window_equalities(&parts, &both, width) {
        left.require_append("StreamPhysicalWindowJoin", span)?;
        right.require_append("StreamPhysicalWindowJoin", span)?;
        let parts = parts.into_iter().filter(|p| !window_parts.contains(p)).collect();
        let Sides { on, rest } = sides(parts, width).with_keys(width);
        let (left, left_on) = with_columns(left, &on.iter().map(|(l, _)| l.clone()).collect::<Vec<_>>());
        let (right, right_on) = with_columns(right, &on.iter().map(|(_, r)| r.clone()).collect::<Vec<_>>());
        let extra = left.cols.len() - width;
        let op = Op::WindowJoin(WindowJoin {
            kind,
            on: left_on.into_iter().zip(right_on).collect(),
            residual: and_all(rest).map(|e| widened(&e, width, extra)),
            left: windows.0,
            right: windows.1,
        });
        return Ok(finish(op, left, right, kind, cols, (width, right_width), true));
    }
    // rows within an interval of time
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti)
        && let Some((bounds, rest)) = intervals::find(&parts, &both, width)
    {
        left.require_append("StreamPhysicalIntervalJoin", span)?;
        right.require_append("StreamPhysicalIntervalJoin", span)?;
        let Sides { on, rest } = sides(rest, width).with_keys(width);
        let (left, left_on) = with_columns(left, &on.iter().map(|(l, _)| l.clone()).collect::<Vec<_>>());
        let (right, right_on) = with_columns(right, &on.iter().map(|(_, r)| r.clone()).collect::<Vec<_>>());
        let extra = left.cols.len() - width;
        let op = Op::IntervalJoin(IntervalJoin {
            kind,
            on: left_on.into_iter().zip(right_on).collect(),
            residual: and_all(rest).map(|e| widened(&e, width, extra)),
            left_time: bounds.left,
            right_time: bounds.right,
            lower: bounds.lower,
            upper: bounds.upper,
            rowtime: bounds.rowtime,
            pause: context
                .options
                .get("table.exec.interval-join.min-cleanup-interval")
                .and_then(|text| crate::engine::options::millis(text))
                .unwrap_or(0),
        });
        return Ok(finish(op, left, right, kind, cols, (width, right_width), true));
    }
    let Sides { on, rest } = sides(parts, width).with_keys(width);
    let (left, left_on) = with_columns(left, &on.iter().map(|(l, _)| l.clone()).collect::<Vec<_>>());
    let (right, right_on) = with_columns(right, &on.iter().map(|(_, r)| r.clone()).collect::<Vec<_>>());
    let extra = left.cols.len() - width;
    let op = Op::Join(Join {
        kind,
        on: left_on.iter().copied().zip(right_on.iter().copied()).collect(),
        residual: and_all(rest).map(|e| widened(&e, width, extra)),
        left_key: keys::best(&left.unique, &left_on),
        right_key: keys::best(&right.unique, &right_on),
        ttl,
    });
    let pads = match kind {
        JoinKind::Left => (false, true),
        JoinKind::Right => (true, false),
        JoinKind::Full => (true, true),
        _ => (false, false),
    };
    let one_sided = matches!(kind, JoinKind::Semi | JoinKind::Anti);
    let left_width = left.cols.len();
    let left_upsert = keys::distributed(&left.upsert, &left_on);
    let right_upsert = keys::distributed(&right.upsert, &right_on);
    let (unique, upsert) = if one_sided {
        (left.unique.clone(), left_upsert)
    } else {
        let sure = (left.unique.as_slice(), right.unique.as_slice());
        (
            keys::join(&left.unique, &right.unique, &left_on, &right_on, pads, left_width, sure),
            keys::join(
                &left_upsert,
                &right_upsert,
                &left_on,
                &right_on,
                pads,
                left_width,
                (&left_upsert, &right_upsert),
            ),
        )
    };
    let append = left.is_append() && right.is_append();
    let mut out_cols: Vec<Col> = left.cols.iter().cloned().map(Col::materialized).collect();
    if !one_sided {
        out_cols.extend(right.cols.iter().cloned().map(Col::materialized));
    }
    let mut out = Phys::append(op, vec![left, right], out_cols);
    let padded = pads.0 || pads.1;
    out.update = !append && out.inputs.iter().any(|i| i.update);
    out.delete = !append || padded || kind == JoinKind::Anti;
    (out.unique, out.upsert) = (unique, upsert);
    Ok(narrowed(out, kind, cols, (width, right_width), left_width))
}

/// A condition over the sides when `extra` columns were put behind the left one.
fn widened(expr: &Expr, width: usize, extra: usize) -> Expr {
    rewrite(expr, &|index, data_type| {
        column(if index < width { index } else { index + extra }, data_type.clone())
    })
}

/// An insert-only join of two inputs, computed key columns taken away.
fn finish(
    op: Op,
    left: Phys,
    right: Phys,
    kind: JoinKind,
    cols: Vec<Col>,
    widths: (usize, usize),
    keep_time: bool,
) -> Phys {
    let left_width = left.cols.len();
    let mut out_cols = left.cols.clone();
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti) {
        out_cols.extend(right.cols.iter().cloned());
    }
    if !keep_time {
        out_cols = out_cols.into_iter().map(Col::materialized).collect();
    }
    let out = Phys::append(op, vec![left, right], out_cols);
    narrowed(out, kind, cols, widths, left_width)
}

/// Brings the columns to those of the relation: types padded, computed keys gone.
fn narrowed(
    mut out: Phys,
    kind: JoinKind,
    cols: Vec<Col>,
    (width, right_width): (usize, usize),
    left_width: usize,
) -> Phys {
    let one_sided = matches!(kind, JoinKind::Semi | JoinKind::Anti);
    let mut places: Vec<usize> = (0..width).collect();
    if !one_sided {
        places.extend((0..right_width).map(|i| left_width + i));
    }
    for (place, col) in places.iter().zip(&cols) {
        if let Some(slot) = out.cols.get_mut(*place) {
            slot.data_type = col.data_type.clone();
            slot.name.clone_from(&col.name);
        }
    }
    // computed columns may be NULL on the padded side
    if matches!(kind, JoinKind::Right | JoinKind::Full) {
        out.cols.iter_mut().take(left_width).for_each(|c| c.data_type.nullable = true);
    }
    if matches!(kind, JoinKind::Left | JoinKind::Full) {
        out.cols.iter_mut().skip(left_width).for_each(|c| c.data_type.nullable = true);
    }
    if places.len() == out.cols.len() {
        return out;
    }
    let exprs =
        places.iter().filter_map(|i| out.cols.get(*i).map(|c| column(*i, c.data_type.clone()))).collect();
    let picked = places.iter().filter_map(|i| out.cols.get(*i).cloned()).collect();
    out.project(exprs, picked)
}

/// The conjuncts that say "the same window", and the windows of both sides.
fn window_equalities(
    parts: &[Expr],
    cols: &[Col],
    width: usize,
) -> Option<(Vec<Expr>, (WindowInput, WindowInput))> {
    let mut found = Vec::new();
    let mut pairs = Vec::new();
    for p in parts {
        let ExprNode::Call { function: "=", args } = &p.node else { continue };
        let [a, b] = args.as_slice() else { continue };
        let (ExprNode::Column(x), ExprNode::Column(y)) = (&a.node, &b.node) else { continue };
        let (x, y) = if x < y { (*x, *y) } else { (*y, *x) };
        if x >= width || y < width {
            continue;
        }
        let (Some(l), Some(r)) = (cols.get(x)?.role.as_ref(), cols.get(y)?.role.as_ref()) else { continue };
        let same = l.property == r.property
            && matches!(l.property, WindowProperty::Start | WindowProperty::End)
            && same_kind(&l.window.window.kind, &r.window.window.kind)
            && l.window.window.rowtime == r.window.window.rowtime;
        if same {
            found.push(p.clone());
            pairs.push((l.property, x, y));
        }
    }
    let get = |wanted: WindowProperty| pairs.iter().find(|(p, ..)| *p == wanted);
    let (_, ls, rs) = get(WindowProperty::Start)?;
    let (_, le, re) = get(WindowProperty::End)?;
    let left = attached(&[*ls, *le], cols)?;
    let right_cols = cols.get(width..)?;
    let right = attached(&[rs - width, re - width], right_cols)?;
    Some((found, (left, right)))
}

fn same_kind(a: &crate::engine::plan::WindowKind, b: &crate::engine::plan::WindowKind) -> bool {
    use crate::engine::plan::WindowKind as W;
    match (a, b) {
        (W::Session { gap: x, .. }, W::Session { gap: y, .. }) => x == y,
        (a, b) => a == b,
    }
}

/// FOR SYSTEM_TIME AS OF: a lookup, or a versioned table.
fn temporal(
    left: Phys,
    right: Phys,
    kind: JoinKind,
    parts: Vec<Expr>,
    time: usize,
    span: crate::sql::error::Span,
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
    let all = sides(parts, width);
    if attribute == TimeAttribute::Proctime {
        return lookup(left, right, kind, all.on, all.rest, cols, span);
    }
    let Sides { on, rest } = all.with_keys(width);
    let right_time = right.cols.iter().position(|c| c.time == TimeAttribute::Rowtime);
    let (left, left_on) = with_columns(left, &on.iter().map(|(l, _)| l.clone()).collect::<Vec<_>>());
    let right_on: Vec<usize> = on
        .iter()
        .filter_map(|(_, r)| match r.node {
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
    on: Vec<(Expr, Expr)>,
    rest: Vec<Expr>,
    cols: Vec<Col>,
    span: crate::sql::error::Span,
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
        .filter_map(|(l, r)| match r.node {
            ExprNode::Column(c) => Some((c, l.clone())),
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
