//! Columns that nobody reads are not carried.

use std::collections::BTreeSet;

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{AggregateCall, JoinKind, SortKey, WindowKind};
use crate::sql::rel::{AggregateRel, Col, JoinRel, OverRel, RankRel, Rel, RelNode};
use crate::sql::types::{column, columns_of, rewrite};

type Needed = BTreeSet<usize>;

/// Where old columns are now.
struct Places(Vec<Option<usize>>);

impl Places {
    fn of(kept: &[usize], width: usize) -> Self {
        let mut places = vec![None; width];
        for (now, old) in kept.iter().enumerate() {
            if let Some(place) = places.get_mut(*old) {
                *place = Some(now);
            }
        }
        Self(places)
    }

    fn at(&self, old: usize) -> usize {
        self.0.get(old).copied().flatten().unwrap_or(0)
    }

    fn all(&self, old: &[usize]) -> Vec<usize> {
        old.iter().map(|i| self.at(*i)).collect()
    }

    fn expr(&self, expr: &Expr) -> Expr {
        rewrite(expr, &|index, data_type| column(self.at(index), data_type.clone()))
    }

    fn keys(&self, keys: &[SortKey]) -> Vec<SortKey> {
        keys.iter().map(|k| SortKey { column: self.at(k.column), ..*k }).collect()
    }

    fn calls(&self, calls: &[&AggregateCall]) -> Vec<AggregateCall> {
        calls
            .iter()
            .map(|c| AggregateCall {
                args: self.all(&c.args),
                filter: c.filter.map(|f| self.at(f)),
                ..(*c).clone()
            })
            .collect()
    }
}

/// Prunes a relation of which all columns are read.
pub(super) fn prune(rel: Rel) -> Rel {
    let all: Needed = (0..rel.cols.len()).collect();
    let width = rel.cols.len();
    let (rel, places) = keep(rel, &all);
    restore(rel, &places, width)
}

/// The relation with exactly the first `width` old columns in their order.
fn restore(rel: Rel, places: &Places, width: usize) -> Rel {
    let order: Vec<usize> = (0..width).map(|i| places.at(i)).collect();
    if order.len() == rel.cols.len() && order.iter().enumerate().all(|(i, o)| i == *o) {
        return rel;
    }
    let exprs = order.iter().map(|i| rel.col(*i)).collect();
    let cols = order.iter().filter_map(|i| rel.cols.get(*i).cloned()).collect();
    rel.project(exprs, cols)
}

/// The relation with at least the needed columns, and where they are.
fn keep(rel: Rel, needed: &Needed) -> (Rel, Places) {
    let width = rel.cols.len();
    let cols = rel.cols;
    let pick = |kept: &[usize]| -> Vec<Col> { kept.iter().filter_map(|i| cols.get(*i).cloned()).collect() };
    match rel.node {
        RelNode::Scan(table, scanned, options) => {
            let mut want = needed.clone();
            // the key stays: state is kept by it; and columns that a format finds by their place
            for (place, index) in scanned.iter().enumerate() {
                if table.primary_key.contains(index) || table.is_positional(*index) {
                    want.insert(place);
                }
            }
            if want.is_empty() {
                want.insert(0);
            }
            let kept: Vec<usize> = want.into_iter().filter(|i| *i < width).collect();
            let scanned = kept.iter().filter_map(|i| scanned.get(*i).copied()).collect();
            let rel = Rel { node: RelNode::Scan(table, scanned, options), cols: pick(&kept) };
            (rel, Places::of(&kept, width))
        }
        RelNode::Values(rows) => {
            let kept: Vec<usize> = needed.iter().copied().collect();
            let rows = rows
                .into_iter()
                .map(|row| kept.iter().filter_map(|i| row.get(*i).cloned()).collect())
                .collect();
            (Rel { node: RelNode::Values(rows), cols: pick(&kept) }, Places::of(&kept, width))
        }
        RelNode::Project(input, exprs) => {
            let kept: Vec<usize> = needed.iter().copied().collect();
            let exprs: Vec<Expr> = kept.iter().filter_map(|i| exprs.get(*i).cloned()).collect();
            let out_cols = pick(&kept);
            let (input, exprs) = merged(*input, exprs);
            let mut below = Needed::new();
            exprs.iter().for_each(|e| columns_of(e, &mut below));
            let (input, places) = keep(input, &below);
            let exprs: Vec<Expr> = exprs.iter().map(|e| places.expr(e)).collect();
            let identity = exprs.len() == input.cols.len()
                && exprs.iter().enumerate().all(|(i, e)| matches!(e.node, ExprNode::Column(c) if c == i));
            let rel = if identity && !matches!(input.node, RelNode::Watermark(..)) {
                // only names change
                Rel { node: input.node, cols: out_cols }
            } else {
                input.project(exprs, out_cols)
            };
            (rel, Places::of(&kept, width))
        }
        RelNode::Filter(input, predicate) => {
            let mut below = needed.clone();
            columns_of(&predicate, &mut below);
            let (input, places) = keep(*input, &below);
            let predicate = places.expr(&predicate);
            (input.filter(predicate), places)
        }
        RelNode::Watermark(input, index, expr) => {
            let mut below = needed.clone();
            below.insert(index);
            columns_of(&expr, &mut below);
            let (input, places) = keep(*input, &below);
            let mut out = input.cols.clone();
            let at = places.at(index);
            if let Some(col) = out.get_mut(at) {
                col.time = crate::sql::rel::TimeAttribute::Rowtime;
            }
            let expr = places.expr(&expr);
            (Rel { node: RelNode::Watermark(Box::new(input), at, expr), cols: out }, places)
        }
        RelNode::Join(join) => keep_join(*join, cols, needed),
        RelNode::Aggregate(aggregate) => {
            let AggregateRel { input, group, calls, window, ttl } = *aggregate;
            let first_call = group.len();
            let first_property = first_call + calls.len();
            let kept_calls: Vec<usize> =
                (0..calls.len()).filter(|i| needed.contains(&(first_call + i))).collect();
            let used: Vec<&AggregateCall> = kept_calls.iter().filter_map(|i| calls.get(*i)).collect();
            let mut below: Needed = group.iter().copied().collect();
            for call in &used {
                below.extend(call.args.iter().copied());
                below.extend(call.filter);
            }
            if let Some((window, _)) = &window {
                below.insert(window.time);
            }
            let (input, places) = keep(input, &below);
            let mut kept: Vec<usize> = (0..group.len()).collect();
            kept.extend(kept_calls.iter().map(|i| first_call + i));
            kept.extend(first_property..width);
            let calls = places.calls(&used);
            let window = window.map(|(mut window, properties)| {
                window.time = places.at(window.time);
                if let WindowKind::Session { partition, .. } = &mut window.kind {
                    *partition = places.all(partition);
                }
                (window, properties)
            });
            let group = places.all(&group);
            let node = RelNode::Aggregate(Box::new(AggregateRel { input, group, calls, window, ttl }));
            (Rel { node, cols: pick(&kept) }, Places::of(&kept, width))
        }
        RelNode::WindowTvf(input, mut window) => {
            let input_width = input.cols.len();
            let mut below: Needed = needed.iter().copied().filter(|i| *i < input_width).collect();
            below.insert(window.time);
            if let WindowKind::Session { partition, .. } = &window.kind {
                below.extend(partition);
            }
            let (input, places) = keep(*input, &below);
            window.time = places.at(window.time);
            if let WindowKind::Session { partition, .. } = &mut window.kind {
                *partition = places.all(partition);
            }
            let now = input.cols.len();
            let mut map = places.0;
            map.truncate(input_width);
            map.extend((0..3).map(|i| Some(now + i)));
            let mut out = input.cols.clone();
            out.extend(cols.iter().skip(input_width).cloned());
            (Rel { node: RelNode::WindowTvf(Box::new(input), window), cols: out }, Places(map))
        }
        RelNode::Over(over) => {
            let OverRel { input, partition, order, frame, calls } = *over;
            let input_width = input.cols.len();
            let kept_calls: Vec<usize> =
                (0..calls.len()).filter(|i| needed.contains(&(input_width + i))).collect();
            let used: Vec<&AggregateCall> = kept_calls.iter().filter_map(|i| calls.get(*i)).collect();
            let mut below: Needed = needed.iter().copied().filter(|i| *i < input_width).collect();
            if used.is_empty() {
                // nobody looks at what it computes
                let (input, mut places) = keep(input, &below);
                places.0.truncate(input_width);
                places.0.resize(width, None);
                return (input, places);
            }
            below.extend(&partition);
            below.extend(order.iter().map(|k| k.column));
            for call in &used {
                below.extend(call.args.iter().copied());
                below.extend(call.filter);
            }
            let (input, places) = keep(input, &below);
            let now = input.cols.len();
            let calls = places.calls(&used);
            let (partition, order) = (places.all(&partition), places.keys(&order));
            let mut map = places.0;
            map.truncate(input_width);
            map.resize(input_width, None);
            map.extend(
                (0..width - input_width).map(|i| kept_calls.iter().position(|k| *k == i).map(|p| now + p)),
            );
            let mut out = input.cols.clone();
            out.extend(kept_calls.iter().filter_map(|i| cols.get(input_width + i).cloned()));
            let over = OverRel { input, partition, order, frame, calls };
            (Rel { node: RelNode::Over(Box::new(over)), cols: out }, Places(map))
        }
        RelNode::Rank(rank) => {
            let RankRel { input, function, partition, order, from, to, emit_rank } = *rank;
            let input_width = input.cols.len();
            let mut below: Needed = needed.iter().copied().filter(|i| *i < input_width).collect();
            below.extend(&partition);
            below.extend(order.iter().map(|k| k.column));
            let emit_rank = emit_rank && needed.contains(&input_width);
            let (input, places) = keep(input, &below);
            let now = input.cols.len();
            let (partition, order) = (places.all(&partition), places.keys(&order));
            let mut map = places.0;
            map.resize(input_width, None);
            map.push(emit_rank.then_some(now));
            let mut out = input.cols.clone();
            if emit_rank {
                out.extend(cols.get(input_width).cloned());
            }
            let rank = RankRel { input, function, partition, order, from, to, emit_rank };
            (Rel { node: RelNode::Rank(Box::new(rank)), cols: out }, Places(map))
        }
        RelNode::Union(inputs) => {
            let kept: Vec<usize> = needed.iter().copied().collect();
            let inputs = inputs
                .into_iter()
                .map(|input| {
                    let (input, places) = keep(input, needed);
                    let order: Vec<usize> = kept.iter().map(|i| places.at(*i)).collect();
                    restore(input, &Places(order.into_iter().map(Some).collect()), kept.len())
                })
                .collect();
            (Rel { node: RelNode::Union(inputs), cols: pick(&kept) }, Places::of(&kept, width))
        }
        RelNode::SetOp { intersect, all, left, right } => {
            let (left, right) = (Box::new(prune(*left)), Box::new(prune(*right)));
            let kept: Vec<usize> = (0..width).collect();
            (Rel { node: RelNode::SetOp { intersect, all, left, right }, cols }, Places::of(&kept, width))
        }
        RelNode::Sort { input, order, offset, limit } => {
            let mut below = needed.clone();
            below.extend(order.iter().map(|k| k.column));
            let (input, places) = keep(*input, &below);
            let order = places.keys(&order);
            let cols = input.cols.clone();
            (Rel { node: RelNode::Sort { input: Box::new(input), order, offset, limit }, cols }, places)
        }
        RelNode::Expand(input, rows) => {
            let kept: Vec<usize> = needed.iter().copied().collect();
            let rows: Vec<Vec<Expr>> =
                rows.iter().map(|row| kept.iter().filter_map(|i| row.get(*i).cloned()).collect()).collect();
            let mut below = Needed::new();
            rows.iter().flatten().for_each(|e| columns_of(e, &mut below));
            let (input, places) = keep(*input, &below);
            let rows = rows.iter().map(|row| row.iter().map(|e| places.expr(e)).collect()).collect();
            (
                Rel { node: RelNode::Expand(Box::new(input), rows), cols: pick(&kept) },
                Places::of(&kept, width),
            )
        }
        RelNode::Unnest(input, mut unnest) => {
            let input_width = input.cols.len();
            let mut below: Needed = needed.iter().copied().filter(|i| *i < input_width).collect();
            columns_of(&unnest.collection, &mut below);
            if let Some(condition) = &unnest.condition {
                columns_of(condition, &mut below);
                below.retain(|i| *i < input_width);
            }
            let (input, places) = keep(*input, &below);
            let now = input.cols.len();
            unnest.collection = places.expr(&unnest.collection);
            let mut map = places.0;
            map.resize(input_width, None);
            map.extend((0..width - input_width).map(|i| Some(now + i)));
            let mut out = input.cols.clone();
            out.extend(cols.iter().skip(input_width).cloned());
            let places = Places(map);
            unnest.condition = unnest.condition.map(|condition| places.expr(&condition));
            (Rel { node: RelNode::Unnest(Box::new(input), unnest), cols: out }, places)
        }
    }
}

fn keep_join(join: JoinRel, cols: Vec<Col>, needed: &Needed) -> (Rel, Places) {
    let JoinRel { left, right, kind, condition, system_time, ttl, span } = join;
    let (left_width, right_width) = (left.cols.len(), right.cols.len());
    let mut below = needed.clone();
    if let Some(condition) = &condition {
        columns_of(condition, &mut below);
    }
    below.extend(system_time);
    let need_left: Needed = below.iter().copied().filter(|i| *i < left_width).collect();
    let mut need_right: Needed = below.iter().filter(|i| **i >= left_width).map(|i| i - left_width).collect();
    if system_time.is_some() {
        for (i, col) in right.cols.iter().enumerate() {
            if col.time != crate::sql::rel::TimeAttribute::None {
                need_right.insert(i);
            }
        }
    }
    let (left, left_places) = keep(left, &need_left);
    let (right, right_places) = keep(right, &need_right);
    let now_left = left.cols.len();
    let mut map: Vec<Option<usize>> = left_places.0;
    map.resize(left_width, None);
    let right_map: Vec<Option<usize>> =
        (0..right_width).map(|i| right_places.0.get(i).copied().flatten().map(|p| p + now_left)).collect();
    map.extend(right_map);
    let places = Places(map);
    let condition = condition.map(|c| places.expr(&c));
    let system_time = system_time.map(|t| places.at(t));
    // names may have been changed above the join
    let mut out = Rel::join_cols(&left, &right, kind);
    for (old, col) in cols.into_iter().enumerate() {
        if let Some(now) = places.0.get(old).copied().flatten()
            && let Some(slot) = out.get_mut(now)
        {
            slot.name = col.name;
        }
    }
    let one_sided = matches!(kind, JoinKind::Semi | JoinKind::Anti);
    let mut visible = places;
    if one_sided {
        visible.0.truncate(left_width);
    }
    let join = JoinRel { left, right, kind, condition, system_time, ttl, span };
    (Rel { node: RelNode::Join(Box::new(join)), cols: out }, visible)
}

/// Two projections in one, where nothing is computed twice.
fn merged(input: Rel, exprs: Vec<Expr>) -> (Rel, Vec<Expr>) {
    let RelNode::Project(below, inner) = input.node else { return (input, exprs) };
    let mut uses = vec![0_usize; inner.len()];
    for expr in &exprs {
        crate::sql::types::walk(expr, &mut |e| {
            if let ExprNode::Column(index) = e.node
                && let Some(count) = uses.get_mut(index)
            {
                *count += 1;
            }
        });
    }
    let cheap = inner
        .iter()
        .zip(&uses)
        .all(|(e, uses)| matches!(e.node, ExprNode::Column(_) | ExprNode::Literal(_)) || *uses <= 1);
    if !cheap {
        return (Rel { node: RelNode::Project(below, inner), cols: input.cols }, exprs);
    }
    let exprs = exprs
        .iter()
        .map(|e| {
            rewrite(e, &|index, data_type| {
                inner.get(index).cloned().unwrap_or_else(|| column(index, data_type.clone()))
            })
        })
        .collect();
    merged(*below, exprs)
}
