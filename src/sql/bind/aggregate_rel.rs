//! The aggregation that a query's GROUP BY and calls come to.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{AggregateCall, Window, WindowKind, WindowProperty};
use crate::engine::row::Value;
use crate::engine::types::{DataType, Field, TypeKind};
use crate::sql::rel::{AggregateRel, Col, Rel, RelNode, TimeAttribute, WindowInfo, WindowRole};
use crate::sql::types::{self, call, cast_to, column, literal};

use super::Binder;
use super::aggregate::{Aggregates, Pending};

impl Binder<'_> {
    /// The aggregation itself; gives the relation and where placeholders of window properties went.
    pub(super) fn build_aggregate(&self, input: Rel, state: Aggregates) -> (Rel, usize) {
        let mut exprs: Vec<Expr> = state.groups.clone();
        let mut cols: Vec<Col> = Vec::new();
        for (i, group) in state.groups.iter().enumerate() {
            let mut col = match group.node {
                ExprNode::Column(index) => input.cols.get(index).cloned(),
                _ => None,
            }
            .unwrap_or_else(|| Col::new(format!("$g{i}"), group.data_type.clone()));
            col.data_type = group.data_type.clone();
            cols.push(col);
        }
        let add = |exprs: &mut Vec<Expr>, cols: &mut Vec<Col>, expr: &Expr| -> usize {
            // grouping sets take the value of an absent group away: an argument is a column of its own then
            let own = if state.sets.is_empty() { 0 } else { state.groups.len() };
            if let Some(i) = exprs.iter().skip(own).position(|e| e == expr) {
                return i + own;
            }
            let col = match expr.node {
                ExprNode::Column(index) => input.cols.get(index).cloned(),
                _ => None,
            };
            cols.push(col.unwrap_or_else(|| Col::new(format!("$f{}", exprs.len()), expr.data_type.clone())));
            exprs.push(expr.clone());
            exprs.len() - 1
        };
        let mut calls = Vec::new();
        let moments =
            |call: &Pending| call.function.starts_with("STDDEV") || call.function.starts_with("VAR_");
        let reduced = state.calls.iter().any(moments);
        for (i, pending) in state.calls.iter().enumerate() {
            let args = pending.args.iter().map(|arg| add(&mut exprs, &mut cols, arg)).collect();
            let filter = pending.filter.as_ref().map(|f| {
                let sure = cast_to(f.clone(), &TypeKind::Boolean);
                add(
                    &mut exprs,
                    &mut cols,
                    &call("IS TRUE", vec![sure], DataType::not_null(TypeKind::Boolean)),
                )
            });
            calls.push(AggregateCall {
                function: if reduced { pending.average_of_sum() } else { pending.function },
                args,
                distinct: pending.distinct,
                filter,
                output: Field { name: format!("$a{i}"), data_type: pending.data_type.clone() },
            });
        }
        let window = state.window.clone().map(|(mut window, kind)| {
            let time = column(window.time, DataType::new(kind.clone()));
            let time =
                input.cols.get(window.time).map_or(time, |col| column(window.time, col.data_type.clone()));
            window.time = add(&mut exprs, &mut cols, &time);
            (window, kind)
        });
        let grouped: Vec<usize> = (0..state.groups.len()).collect();
        let windowed = crate::sql::planner::is_windowed(&grouped, &cols);
        let mut out_cols: Vec<Col> = cols
            .iter()
            .take(state.groups.len())
            .enumerate()
            .map(|(i, col)| {
                let mut out = col.clone().materialized();
                out.data_type = state.group_type(i);
                // the time of the window that is grouped by stays a time attribute: windows may be cascaded
                if windowed && col.role.as_ref().is_some_and(|r| r.property == WindowProperty::Time) {
                    out.time = col.time;
                }
                out
            })
            .collect();
        let mut rel;
        let mut group: Vec<usize> = (0..state.groups.len()).collect();
        if state.sets.is_empty() {
            rel = input.project(exprs, cols);
        } else {
            // each input row once per set: absent groups are NULL, the set's number follows the groups
            let mut expanded = Vec::new();
            let pre = input.project(exprs, cols);
            for (index, set) in state.sets.iter().enumerate() {
                let mut row: Vec<Expr> = Vec::new();
                for (i, col) in pre.cols.iter().enumerate() {
                    if i < state.groups.len() && set.get(i) == Some(&false) {
                        row.push(types::null_of(col.data_type.kind.clone()));
                    } else {
                        row.push(pre.col(i));
                    }
                }
                row.push(literal(Value::Int(state.set_id(index)), TypeKind::BigInt));
                expanded.push(row);
            }
            let mut expand_cols: Vec<Col> = pre.cols.iter().cloned().map(Col::materialized).collect();
            for (i, col) in expand_cols.iter_mut().enumerate().take(state.groups.len()) {
                col.data_type = state.group_type(i);
                // a window's column that some sets lack is no window's column any more
                if state.sets.iter().any(|set| set.get(i) == Some(&false)) {
                    col.role = None;
                }
            }
            let id = Col::new("$e", DataType::not_null(TypeKind::BigInt));
            expand_cols.push(id.clone());
            group.push(expand_cols.len() - 1);
            out_cols.push(id);
            rel = Rel { node: RelNode::Expand(Box::new(pre), expanded), cols: expand_cols };
        }
        out_cols.extend(calls.iter().map(|c| Col::new(c.output.name.clone(), c.output.data_type.clone())));
        let properties_at = out_cols.len();
        let mut window_out = None;
        if let Some((window, kind)) = window {
            let ltz = matches!(kind, TypeKind::TimestampLtz(_));
            let rowtime = window.rowtime;
            let window = match window {
                Window { kind: WindowKind::Session { gap, .. }, time, rowtime } => {
                    Window { kind: WindowKind::Session { gap, partition: group.clone() }, time, rowtime }
                }
                other => other,
            };
            let info = std::sync::Arc::new(WindowInfo { window: window.clone(), ltz });
            for property in &state.properties {
                let mut col = property_col(*property, &kind, rowtime);
                col.role = Some(WindowRole { property: *property, window: std::sync::Arc::clone(&info) });
                out_cols.push(col);
            }
            window_out = Some((window, state.properties.clone()));
        }
        rel = Rel {
            node: RelNode::Aggregate(Box::new(AggregateRel {
                input: rel,
                group,
                calls,
                window: window_out,
                ttl: None,
            })),
            cols: out_cols,
        };
        (rel, properties_at)
    }
}

/// The column of a window property.
pub(super) fn property_col(property: WindowProperty, time: &TypeKind, rowtime: bool) -> Col {
    match property {
        WindowProperty::Start => Col::new("window_start", DataType::not_null(TypeKind::Timestamp(3))),
        WindowProperty::End => Col::new("window_end", DataType::not_null(TypeKind::Timestamp(3))),
        WindowProperty::Time => {
            let kind = match time {
                TypeKind::TimestampLtz(_) => TypeKind::TimestampLtz(3),
                _ => TypeKind::Timestamp(3),
            };
            let mut col = Col::new("window_time", DataType::not_null(kind));
            col.time = if rowtime { TimeAttribute::Rowtime } else { TimeAttribute::Proctime };
            col
        }
    }
}
