//! GROUP BY: regular, over windows attached to rows, over window functions directly below.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{
    Aggregate, AggregateCall, Op, Window, WindowAggregate, WindowInput, WindowKind, WindowProperty,
};
use crate::sql::error::SqlResult;
use crate::sql::rel::{AggregateRel, Col, Rel, RelNode, TimeAttribute};
use crate::sql::types::{column, rewrite};

use super::keys;
use super::phys::{Context, Phys};
use super::physical::{physical, used};

/// Whether a column is a window's start or end (its time is neither).
pub(super) fn is_bound(col: &Col) -> bool {
    col.role.as_ref().is_some_and(|r| matches!(r.property, WindowProperty::Start | WindowProperty::End))
}

/// The window that these columns hold, if start and end of one are among them.
pub(super) fn attached(columns: &[usize], cols: &[Col]) -> Option<WindowInput> {
    let find = |wanted: WindowProperty| {
        columns
            .iter()
            .copied()
            .find(|c| cols.get(*c).and_then(|col| col.role.as_ref()).is_some_and(|r| r.property == wanted))
    };
    let (start, end) = (find(WindowProperty::Start)?, find(WindowProperty::End)?);
    let (a, b) = (cols.get(start)?.role.as_ref()?, cols.get(end)?.role.as_ref()?);
    if a.window != b.window {
        return None;
    }
    Some(WindowInput::Attached {
        start: Some(start),
        end,
        rowtime: a.window.window.rowtime,
        ltz: a.window.ltz,
    })
}

/// Whether start and end of one window are among these columns.
pub fn is_windowed(columns: &[usize], cols: &[Col]) -> bool {
    attached(columns, cols).is_some()
}

pub(super) fn plan(aggregate: AggregateRel, cols: Vec<Col>, context: &Context<'_>) -> SqlResult<Phys> {
    if let Some((window, properties)) = aggregate.window {
        // GROUP BY TUMBLE(…): the window comes from the time column
        let AggregateRel { input, group, calls, .. } = aggregate;
        let input = physical(input, context)?;
        let op = Op::WindowAggregate(WindowAggregate {
            window: WindowInput::Assign(window),
            group,
            calls,
            properties,
        });
        return Ok(windowed(op, input, cols));
    }
    if let Some(window) = attached(&aggregate.group, &aggregate.input.cols) {
        return windows(aggregate, window, cols, context);
    }
    let AggregateRel { input, group, calls, ttl, .. } = aggregate;
    let input = physical(input, context)?;
    let (append, input_upsert) = (input.is_append(), input.upsert.clone());
    let distinct_only = calls.is_empty();
    let key: keys::Key = (0..group.len()).collect();
    let op = Op::Aggregate(Aggregate { group: group.clone(), calls, emit_update_before: true, ttl });
    let mut out = Phys::append(op, vec![input], cols);
    // DISTINCT over inserts only ever inserts; Flink counts it among the aggregations, which update
    out.update = !(append && distinct_only) || context.strict();
    out.delete = !append;
    out.unique = vec![key.clone()];
    out.upsert = vec![key];
    for smaller in keys::project(&input_upsert, &|c| group.iter().position(|g| *g == c)) {
        keys::add(&mut out.unique, smaller.clone());
        keys::add(&mut out.upsert, smaller);
    }
    Ok(out)
}

/// A window aggregate: inserts only, and no upsert key (as Flink derives none).
fn windowed(op: Op, input: Phys, cols: Vec<Col>) -> Phys {
    Phys::append(op, vec![input], cols)
}

/// GROUP BY window_start, window_end, …
fn windows(
    aggregate: AggregateRel,
    window: WindowInput,
    cols: Vec<Col>,
    context: &Context<'_>,
) -> SqlResult<Phys> {
    let AggregateRel { input, group, calls, .. } = aggregate;
    // window columns go out as properties; the rest is the group
    let role = |c: usize| input.cols.get(c).and_then(|col| col.role.as_ref()).map(|r| r.property);
    let mut plain: Vec<usize> = Vec::new();
    let mut properties: Vec<WindowProperty> = Vec::new();
    for c in &group {
        match role(*c) {
            Some(property) => {
                if !properties.contains(&property) {
                    properties.push(property);
                }
            }
            None => plain.push(*c),
        }
    }
    // old output column -> place in the operator's output
    let mut order = Vec::with_capacity(cols.len());
    for c in &group {
        order.push(match role(*c) {
            Some(property) => {
                plain.len() + calls.len() + properties.iter().position(|p| *p == property).unwrap_or(0)
            }
            None => plain.iter().position(|p| p == c).unwrap_or(0),
        });
    }
    order.extend((0..calls.len()).map(|i| plain.len() + i));
    let (input, window, group, calls) = match below(&input, &plain, &calls) {
        Some((input, window, group, calls)) => (input, WindowInput::Assign(window), group, calls),
        None => (input, window, plain, calls),
    };
    let input = physical(input, context)?;
    let mut op_cols: Vec<Col> =
        vec![
            Col::new("", crate::engine::types::DataType::new(crate::engine::types::TypeKind::Null));
            group.len() + calls.len() + properties.len()
        ];
    for (old, now) in order.iter().enumerate() {
        if let (Some(slot), Some(col)) = (op_cols.get_mut(*now), cols.get(old)) {
            *slot = col.clone();
            if col.role.as_ref().is_some_and(|r| r.property == WindowProperty::Time) {
                let rowtime = col.role.as_ref().is_some_and(|r| r.window.window.rowtime);
                slot.time = if rowtime { TimeAttribute::Rowtime } else { TimeAttribute::Proctime };
            }
        }
    }
    let op = Op::WindowAggregate(WindowAggregate { window, group, calls, properties });
    let out = windowed(op, input, op_cols);
    if order.iter().enumerate().all(|(i, o)| i == *o) && order.len() == out.cols.len() {
        return Ok(out);
    }
    let exprs =
        order.iter().filter_map(|i| out.cols.get(*i).map(|c| column(*i, c.data_type.clone()))).collect();
    let picked = order.iter().filter_map(|i| out.cols.get(*i).cloned()).collect();
    Ok(out.project(exprs, picked))
}

/// The window function below, with projections and filters between in terms of its input; `None` when the window's
/// columns are used between.
fn below(
    input: &Rel,
    group: &[usize],
    calls: &[AggregateCall],
) -> Option<(Rel, Window, Vec<usize>, Vec<AggregateCall>)> {
    let mut wanted: Vec<Expr> = group.iter().map(|c| input.col(*c)).collect();
    let mut add = |c: usize| -> usize {
        let expr = input.col(c);
        match wanted.iter().position(|w| *w == expr) {
            Some(place) => place,
            None => {
                wanted.push(expr);
                wanted.len() - 1
            }
        }
    };
    let group: Vec<usize> = group.iter().map(|c| add(*c)).collect();
    let calls: Vec<AggregateCall> = calls
        .iter()
        .map(|call| AggregateCall {
            args: call.args.iter().map(|c| add(*c)).collect(),
            filter: call.filter.map(&mut add),
            ..call.clone()
        })
        .collect();
    let mut filters: Vec<Expr> = Vec::new();
    let mut rel = input;
    loop {
        match &rel.node {
            RelNode::Project(inner, exprs) => {
                let substitute = |e: &Expr| {
                    rewrite(e, &|c, data_type| {
                        exprs.get(c).cloned().unwrap_or_else(|| column(c, data_type.clone()))
                    })
                };
                wanted = wanted.iter().map(substitute).collect();
                filters = filters.iter().map(substitute).collect();
                rel = inner;
            }
            RelNode::Filter(inner, predicate) => {
                filters.push(predicate.clone());
                rel = inner;
            }
            RelNode::WindowTvf(inner, window) => {
                let width = inner.cols.len();
                if wanted.iter().chain(&filters).any(|e| used(e).into_iter().any(|c| c >= width)) {
                    return None;
                }
                let session = matches!(window.kind, WindowKind::Session { .. });
                if session && !filters.is_empty() {
                    return None;
                }
                let mut window = window.clone();
                let time = inner.col(window.time);
                let time_place = match wanted.iter().position(|w| *w == time) {
                    Some(place) => place,
                    None => {
                        wanted.push(time);
                        wanted.len() - 1
                    }
                };
                window.time = time_place;
                if let WindowKind::Session { partition, .. } = &mut window.kind {
                    let mut places = Vec::new();
                    for c in partition.iter() {
                        let expr = inner.col(*c);
                        places.push(match wanted.iter().position(|w| *w == expr) {
                            Some(place) => place,
                            None => {
                                wanted.push(expr);
                                wanted.len() - 1
                            }
                        });
                    }
                    // sessions are kept apart by their own keys; the group must be the same
                    if places.iter().any(|p| !group.contains(p)) || group.iter().any(|g| !places.contains(g))
                    {
                        return None;
                    }
                    *partition = places;
                }
                let mut out = (**inner).clone();
                if let Some(predicate) = crate::sql::types::and_all(filters) {
                    out = out.filter(predicate);
                }
                let cols = wanted
                    .iter()
                    .enumerate()
                    .map(|(i, e)| match e.node {
                        ExprNode::Column(c) => out
                            .cols
                            .get(c)
                            .cloned()
                            .unwrap_or_else(|| Col::new(format!("$f{i}"), e.data_type.clone())),
                        _ => Col::new(format!("$f{i}"), e.data_type.clone()),
                    })
                    .collect();
                let identity = wanted.len() == out.cols.len()
                    && wanted
                        .iter()
                        .enumerate()
                        .all(|(i, e)| matches!(e.node, ExprNode::Column(c) if c == i));
                let out = if identity { out } else { out.project(wanted, cols) };
                return Some((out, window, group, calls));
            }
            _ => return None,
        }
    }
}
