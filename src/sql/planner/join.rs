//! Joins: which of the five it is.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{IntervalJoin, Join, JoinKind, Op, WindowInput, WindowJoin, WindowProperty};
use crate::engine::types::{DataType, TypeKind};
use crate::sql::error::SqlResult;
use crate::sql::rel::{Col, JoinRel};
use crate::sql::types::{and_all, call, cast_to, column, conjuncts, is_approximate, rewrite};

use super::aggregate::attached;
use super::intervals;
use super::keys;
use super::phys::{Context, Phys};
use super::physical::{physical, used};
use super::versioned;

/// The function of a pair of columns in which NULL matches NULL.
const NULL_SAFE: &str = "IS NOT DISTINCT FROM";

/// An expression of each side: rows match where they are equal.
pub(super) struct Pair {
    pub left: Expr,
    pub right: Expr,
    /// `=`, or [`NULL_SAFE`].
    function: &'static str,
}

/// One side's view of the equalities.
pub(super) struct Sides {
    pub on: Vec<Pair>,
    pub rest: Vec<Expr>,
}

fn shifted(expr: &Expr, by: usize) -> Expr {
    rewrite(expr, &|index, data_type| column(index.saturating_sub(by), data_type.clone()))
}

impl Sides {
    /// As keys of state, which are compared byte by byte: DECIMALs of different scale become one type, and what has
    /// none of 38 digits is compared row by row. FLOAT and DOUBLE meet in the type of the left side.
    pub(super) fn with_keys(mut self, width: usize) -> Self {
        let (mut on, mut rest) = (Vec::with_capacity(self.on.len()), std::mem::take(&mut self.rest));
        for Pair { left, mut right, function } in self.on {
            if is_approximate(&left.data_type.kind) && is_approximate(&right.data_type.kind) {
                right = cast_to(right, &left.data_type.kind);
            }
            let (TypeKind::Decimal(p, s), TypeKind::Decimal(q, t)) =
                (&left.data_type.kind, &right.data_type.kind)
            else {
                on.push(Pair { left, right, function });
                continue;
            };
            if s == t {
                on.push(Pair { left, right, function });
                continue;
            }
            let scale = *s.max(t);
            let digits = p.saturating_sub(*s).max(q.saturating_sub(*t)).saturating_add(scale);
            if digits <= 38 {
                let both = TypeKind::Decimal(digits, scale);
                on.push(Pair { left: cast_to(left, &both), right: cast_to(right, &both), function });
            } else {
                let right = rewrite(&right, &|index, data_type| column(index + width, data_type.clone()));
                rest.push(call(function, vec![left, right], DataType::new(TypeKind::Boolean)));
            }
        }
        Self { on, rest }
    }

    /// Both sides with the columns of the equalities, where these are, and the rest of the condition over them.
    fn placed(self, left: Phys, right: Phys) -> Placed {
        let width = left.cols.len();
        let (left, left_on) = with_columns(left, self.on.iter().map(|pair| &pair.left));
        let (right, right_on) = with_columns(right, self.on.iter().map(|pair| &pair.right));
        let extra = left.cols.len() - width;
        let residual = and_all(self.rest).map(|e| widened(&e, width, extra));
        Placed { left, right, left_on, right_on, residual }
    }
}

/// The sides of a join with columns to compare.
struct Placed {
    left: Phys,
    right: Phys,
    left_on: Vec<usize>,
    right_on: Vec<usize>,
    residual: Option<Expr>,
}

impl Placed {
    fn on(&self) -> Vec<(usize, usize)> {
        self.left_on.iter().copied().zip(self.right_on.iter().copied()).collect()
    }
}

/// `a = b OR (a IS NULL AND b IS NULL)` says [`NULL_SAFE`].
fn null_safe(e: Expr) -> Expr {
    fn two<'e>(e: &'e Expr, name: &str) -> Option<[&'e Expr; 2]> {
        match &e.node {
            ExprNode::Call { function, args } if *function == name => match args.as_slice() {
                [a, b] => Some([a, b]),
                _ => None,
            },
            _ => None,
        }
    }
    let null = |e: &Expr, of: &Expr| match &e.node {
        ExprNode::Call { function: "IS NULL", args } => args.first() == Some(of),
        _ => false,
    };
    let says = |equal: &Expr, nulls: &Expr| {
        let ([a, b], [c, d]) = (two(equal, "=")?, two(nulls, "AND")?);
        let both = null(c, a) && null(d, b) || null(c, b) && null(d, a);
        both.then(|| call(NULL_SAFE, vec![a.clone(), b.clone()], DataType::not_null(TypeKind::Boolean)))
    };
    let found = two(&e, "OR").and_then(|[x, y]| says(x, y).or_else(|| says(y, x)));
    found.unwrap_or(e)
}

/// Splits conjuncts into equalities between the sides, by these functions, and the rest.
pub(super) fn sides(parts: Vec<Expr>, width: usize, functions: &[&str]) -> Sides {
    let mut out = Sides { on: Vec::new(), rest: Vec::new() };
    for p in parts {
        let p = if functions.contains(&NULL_SAFE) { null_safe(p) } else { p };
        if let ExprNode::Call { function, args } = &p.node
            && functions.contains(function)
            && let [a, b] = args.as_slice()
        {
            let (x, y) = (used(a), used(b));
            let left_only =
                |s: &std::collections::BTreeSet<usize>| !s.is_empty() && s.iter().all(|c| *c < width);
            let right_only =
                |s: &std::collections::BTreeSet<usize>| !s.is_empty() && s.iter().all(|c| *c >= width);
            if left_only(&x) && right_only(&y) {
                out.on.push(Pair { left: a.clone(), right: shifted(b, width), function });
                continue;
            }
            if right_only(&x) && left_only(&y) {
                out.on.push(Pair { left: b.clone(), right: shifted(a, width), function });
                continue;
            }
        }
        out.rest.push(p);
    }
    out
}

/// The side with these expressions as columns, and where they are.
pub(super) fn with_columns<'e>(side: Phys, exprs: impl Iterator<Item = &'e Expr>) -> (Phys, Vec<usize>) {
    let mut all: Vec<Expr> = (0..side.cols.len())
        .filter_map(|i| side.cols.get(i).map(|c| column(i, c.data_type.clone())))
        .collect();
    let mut cols = side.cols.clone();
    let width = all.len();
    let mut places = Vec::new();
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
        return versioned::temporal(left, physical(right, context)?, kind, parts, time, span);
    }
    let right = physical(right, context)?;
    // rows of the same window
    if let Some((window_parts, windows)) = window_equalities(&parts, &both, width) {
        left.require_append("StreamPhysicalWindowJoin", span)?;
        right.require_append("StreamPhysicalWindowJoin", span)?;
        let parts = parts.into_iter().filter(|p| !window_parts.contains(p)).collect();
        let placed = sides(parts, width, &["="]).with_keys(width).placed(left, right);
        let op = Op::WindowJoin(WindowJoin {
            kind,
            on: placed.on(),
            residual: placed.residual,
            left: windows.0,
            right: windows.1,
        });
        return Ok(finish(op, placed.left, placed.right, kind, cols, (width, right_width), true));
    }
    // rows within an interval of time
    if !matches!(kind, JoinKind::Semi | JoinKind::Anti)
        && let Some((bounds, rest)) = intervals::find(&parts, &both, width)
    {
        left.require_append("StreamPhysicalIntervalJoin", span)?;
        right.require_append("StreamPhysicalIntervalJoin", span)?;
        let placed = sides(rest, width, &["="]).with_keys(width).placed(left, right);
        let op = Op::IntervalJoin(IntervalJoin {
            kind,
            on: placed.on(),
            residual: placed.residual,
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
        return Ok(finish(op, placed.left, placed.right, kind, cols, (width, right_width), true));
    }
    let sides = sides(parts, width, &["=", NULL_SAFE]).with_keys(width);
    let null_safe = sides.on.iter().map(|pair| pair.function == NULL_SAFE).collect();
    let placed = sides.placed(left, right);
    let on = placed.on();
    let Placed { left, right, left_on, right_on, residual } = placed;
    let op = Op::Join(Join {
        kind,
        on,
        null_safe,
        residual,
        left_key: keys::of_rows(&left.unique, &left.upsert, &left_on),
        right_key: keys::of_rows(&right.unique, &right.upsert, &right_on),
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
pub(super) fn widened(expr: &Expr, width: usize, extra: usize) -> Expr {
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
pub(super) fn narrowed(
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
pub(super) fn window_equalities(
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
