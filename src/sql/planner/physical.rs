//! Operators for relations, with keys and the kinds of change they emit.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::expr::Expr;
use crate::engine::format::partitions;
use crate::engine::plan::{
    Deduplicate, Frame, Op, Over, Rank, RankFunction, SortedOver, TableColumn, TableRef, WindowRank,
};
use crate::engine::types::Field;
use crate::sql::catalog::{ColumnKind, Table};
use crate::sql::connectors::{SourceMode, source_mode};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::rel::{OverRel, RankRel, Rel, RelNode, TimeAttribute};
use crate::sql::types::{cast_to, columns_of};

use super::aggregate;
use super::join;
use super::keys::{self, Key};
use super::phys::{Context, Phys};

/// Chooses operators.
pub(super) fn physical(rel: Rel, context: &Context<'_>) -> SqlResult<Phys> {
    let roles: Vec<_> = rel.cols.iter().map(|col| col.role.clone()).collect();
    let mut out = operator(rel, context)?;
    // whether a window outlives the operator is settled
    out.cols.iter_mut().zip(roles).for_each(|(col, role)| col.role = role);
    Ok(out)
}

fn operator(rel: Rel, context: &Context<'_>) -> SqlResult<Phys> {
    let cols = rel.cols;
    match rel.node {
        RelNode::Scan(table, scanned, options) => Ok(scan(&table, &scanned, &options, cols)),
        RelNode::Values(rows) => Ok(Phys::append(Op::Values(rows), Vec::new(), cols)),
        RelNode::Project(input, exprs) => Ok(physical(*input, context)?.project(exprs, cols)),
        RelNode::Filter(input, predicate) => {
            let input = physical(*input, context)?;
            let mut out = Phys::over(Op::Filter(predicate), input);
            out.cols = cols;
            // a filter makes lone inserts and deletes of updates
            out.delete |= out.update;
            Ok(out)
        }
        RelNode::Watermark(input, rowtime, watermark) => {
            let mut out =
                Phys::over(Op::WatermarkAssigner { rowtime, watermark }, physical(*input, context)?);
            out.cols = cols;
            Ok(out)
        }
        RelNode::Join(join) => join::plan(*join, cols, context),
        RelNode::Aggregate(aggregate) => aggregate::plan(*aggregate, cols, context),
        RelNode::WindowTvf(input, window) => {
            let input = physical(*input, context)?;
            let mut out = Phys::over(Op::WindowTvf(window), input);
            out.cols = cols;
            out.unique.clear();
            out.upsert.clear();
            Ok(out)
        }
        RelNode::Over(over) => over_window(*over, cols, context),
        RelNode::Rank(r) => rank(*r, cols, context),
        RelNode::Union(inputs) => {
            let inputs = inputs.into_iter().map(|i| physical(i, context)).collect::<SqlResult<Vec<_>>>()?;
            let (update, delete) = (inputs.iter().any(|i| i.update), inputs.iter().any(|i| i.delete));
            Ok(Phys { update, delete, ..Phys::append(Op::Union, inputs, cols) })
        }
        RelNode::SetOp { intersect, all, left, right } => {
            let inputs = vec![physical(*left, context)?, physical(*right, context)?];
            let mut out = Phys::append(Op::SetOp { intersect, all }, inputs, cols);
            // one more row on the right may take one away
            out.delete = true;
            out.update = out.inputs.iter().any(|i| i.update);
            if !all {
                let key: Key = (0..out.cols.len()).collect();
                out.unique = vec![key.clone()];
                out.upsert = vec![key];
            }
            Ok(out)
        }
        RelNode::Sort { input, order, offset, limit } => {
            let input = physical(*input, context)?;
            match limit {
                Some(limit) => {
                    // the first rows that come stay the first
                    let stays = order.is_empty() && input.is_append();
                    let op = Op::Rank(Rank {
                        function: RankFunction::RowNumber,
                        partition: Vec::new(),
                        order,
                        from: offset + 1,
                        to: Some(offset.saturating_add(limit)),
                        emit_rank: false,
                        emit_update_before: true,
                        input_key: keys::best(&input.unique, &[]),
                    });
                    let mut out = Phys::over(op, input);
                    out.cols = cols;
                    // Flink derives no upsert key of a limit
                    out.upsert.clear();
                    if offset > 0 {
                        out.unique.clear();
                    }
                    (out.update, out.delete) = (!stays, !stays);
                    if limit == 0 {
                        let never = crate::sql::types::literal(
                            crate::engine::row::Value::Bool(false),
                            crate::engine::types::TypeKind::Boolean,
                        );
                        out.op = Op::Filter(never);
                    }
                    Ok(out)
                }
                None => {
                    let by_time = order.split_first().filter(|(first, _)| {
                        !first.descending
                            && input.cols.get(first.column).is_some_and(|c| c.time != TimeAttribute::None)
                    });
                    match by_time {
                        Some((first, _)) if input.cols.get(first.column).is_some_and(|c| c.time == TimeAttribute::Proctime) => Ok(input),
                        Some((first, then)) if offset == 0 => {
                            input.require_append("StreamPhysicalTemporalSort", Span::default())?;
                            let op = Op::TemporalSort { rowtime: first.column, then: then.to_vec() };
                            Ok(Phys::over(op, input))
                        }
                        _ if offset > 0 => Err(SqlError::plan(
                            Span::default(),
                            "FETCH is missed, which on streaming table is not supported currently.",
                        )
                        .help("add LIMIT n")),
                        _ if order.is_empty() => Err(SqlError::plan(Span::default(), "OFFSET without LIMIT is not supported on a stream")),
                        _ => Err(SqlError::plan(Span::default(), "Sort on a non-time-attribute field is not supported.")
                            .help("a stream has no end to sort at: add a LIMIT, or order by the event time, ascending")),
                    }
                }
            }
        }
        RelNode::Expand(input, rows) => {
            let mut out = Phys::over(Op::Expand(rows), physical(*input, context)?);
            out.cols = cols;
            out.unique.clear();
            out.upsert.clear();
            Ok(out)
        }
        RelNode::Unnest(input, unnest) => {
            let mut out = Phys::over(Op::Unnest(unnest), physical(*input, context)?);
            out.cols = cols;
            out.delete |= out.update;
            out.unique.clear();
            out.upsert.clear();
            Ok(out)
        }
    }
}

/// A table as the connector gets it.
pub(super) fn table_ref(
    table: &Table,
    columns: &[usize],
    hints: &BTreeMap<String, String>,
    cols: &[crate::sql::rel::Col],
) -> TableRef {
    let mut options = table.options.clone();
    options.extend(hints.clone());
    let in_path = options.get("connector").is_some_and(|c| c == "filesystem");
    if in_path && !table.partitioned.is_empty() {
        options.insert(partitions::OPTION.to_owned(), table.partitioned.join("/"));
    }
    let list = columns
        .iter()
        .zip(cols)
        .filter_map(|(index, col)| {
            let column = table.columns.get(*index)?;
            let metadata = match &column.kind {
                ColumnKind::Metadata { key, .. } => Some(key.clone()),
                // In the names of directories, not in the files.
                ColumnKind::Physical if in_path && table.partitioned.contains(&column.col.name) => {
                    Some(format!("{}{}", partitions::COLUMN, column.col.name))
                }
                _ => None,
            };
            Some(TableColumn {
                field: Field { name: column.col.name.clone(), data_type: col.data_type.clone() },
                metadata,
            })
        })
        .collect();
    let primary_key: Vec<usize> =
        table.primary_key.iter().filter_map(|key| columns.iter().position(|c| c == key)).collect();
    TableRef { name: table.name.clone(), options, columns: list, primary_key }
}

fn scan(
    table: &Table,
    scanned: &[usize],
    hints: &BTreeMap<String, String>,
    cols: Vec<crate::sql::rel::Col>,
) -> Phys {
    let mode = source_mode(table);
    let table_ref = table_ref(table, scanned, hints, &cols);
    let key = table_ref.primary_key.clone();
    let complete = !key.is_empty() && key.len() == table.primary_key.len();
    let changes = matches!(mode, SourceMode::Retract | SourceMode::Upsert);
    let keys = if complete { vec![key] } else { Vec::new() };
    Phys {
        op: Op::Source(table_ref),
        inputs: Vec::new(),
        cols,
        update: changes,
        delete: changes,
        unique: keys.clone(),
        upsert: keys,
        source: Some(mode),
    }
}

fn over_window(over: OverRel, cols: Vec<crate::sql::rel::Col>, context: &Context<'_>) -> SqlResult<Phys> {
    let OverRel { input, partition, order, frame, calls } = over;
    let input = physical(input, context)?;
    let refuse = |message: &str, help: &str| Err(SqlError::plan(Span::default(), message).help(help));
    let [key] = order.as_slice() else {
        return refuse(
            "The window can only be ordered by a single time column.",
            "OVER (… ORDER BY ts): one column, the event time or PROCTIME(); a filter on ROW_NUMBER makes a Top-N of any order",
        );
    };
    let attribute = input.cols.get(key.column).map_or(TimeAttribute::None, |c| c.time);
    if attribute == TimeAttribute::None && calls.iter().any(|call| call.function == "ROW_NUMBER") {
        return refuse(
            "Rank end is not specified. Currently rank only support TopN, which means the rank end must be specified.",
            "filter the number: WHERE rn <= 10",
        );
    }
    if key.descending {
        return refuse("The window can only be ordered in ASCENDING mode.", "order by the column, ascending");
    }
    if attribute == TimeAttribute::None {
        let peers = match frame {
            Frame::Range(None) => true,
            Frame::Rows(None) => false,
            _ => {
                return refuse(
                    "Non-time attribute sort is not supported for bounded OVER window.",
                    "begin the frame with UNBOUNDED PRECEDING, or order by the event time",
                );
            }
        };
        if calls.iter().any(|call| call.function == "LAG") {
            return refuse(
                "LAG takes a window that is ordered by a time attribute",
                "order by an event-time column (WATERMARK FOR …) or by PROCTIME()",
            );
        }
        let op = Op::SortedOver(SortedOver { partition, column: key.column, peers, calls });
        let mut out = Phys::over(op, input);
        (out.update, out.delete, out.cols) = (true, true, cols);
        return Ok(out);
    }
    let time = key.column;
    input.require_append("StreamPhysicalOverAggregate", Span::default())?;
    let op = Op::Over(Over { partition, time, rowtime: attribute == TimeAttribute::Rowtime, frame, calls });
    let mut out = Phys::over(op, input);
    out.cols = cols;
    Ok(out)
}

fn rank(rank: RankRel, cols: Vec<crate::sql::rel::Col>, context: &Context<'_>) -> SqlResult<Phys> {
    let RankRel { input, function, partition, order, from, to, emit_rank } = rank;
    let input = physical(input, context)?;
    if function != RankFunction::RowNumber {
        let name = if function == RankFunction::Rank { "RANK" } else { "DENSE_RANK" };
        let message = if aggregate::attached(&partition, &input.cols).is_some() {
            format!(
                "{name}() function is not supported on Window TopN currently, only ROW_NUMBER() is supported."
            )
        } else {
            format!("{name}() on streaming table is not supported currently")
        };
        return Err(SqlError::plan(Span::default(), message).help("ROW_NUMBER() is"));
    }
    let limit = to.unwrap_or(u64::MAX);
    // within a window: PARTITION BY window_start, window_end, …
    if let Some(window) = aggregate::attached(&partition, &input.cols) {
        let by_time = order
            .first()
            .and_then(|k| input.cols.get(k.column))
            .is_some_and(|c| c.time == TimeAttribute::Rowtime);
        let dedup =
            function == RankFunction::RowNumber && from == 1 && limit == 1 && order.len() == 1 && by_time;
        input.require_append(
            if dedup { "StreamPhysicalWindowDeduplicate" } else { "StreamPhysicalWindowRank" },
            Span::default(),
        )?;
        let last_wins = dedup && order.first().is_some_and(|k| k.descending);
        let partition = partition
            .into_iter()
            .filter(|c| input.cols.get(*c).is_some_and(|col| !aggregate::is_bound(col)))
            .collect();
        let op = Op::WindowRank(WindowRank {
            window,
            function,
            partition,
            order,
            from,
            to: limit,
            emit_rank,
            last_wins,
        });
        return Ok(Phys::append(op, vec![input], cols));
    }
    let first = order.first().copied();
    let attribute = first.and_then(|k| input.cols.get(k.column)).map_or(TimeAttribute::None, |c| c.time);
    if let (Some(first), TimeAttribute::Rowtime | TimeAttribute::Proctime) = (first, attribute)
        && function == RankFunction::RowNumber
        && from == 1
        && limit == 1
        && order.len() == 1
        && !emit_rank
        && input.is_append()
    {
        let op = Op::Deduplicate(Deduplicate {
            key: partition.clone(),
            time: first.column,
            rowtime: attribute == TimeAttribute::Rowtime,
            last: first.descending,
            emit_update_before: true,
        });
        let mut out = Phys::append(op, vec![input], cols);
        out.update = first.descending;
        keys::add(&mut out.unique, partition.clone());
        keys::add(&mut out.upsert, partition);
        return Ok(out);
    }
    let mut unique = Vec::new();
    let mut upsert = Vec::new();
    if limit == from && function == RankFunction::RowNumber {
        keys::add(&mut unique, partition.clone());
        keys::add(&mut upsert, partition.clone());
    }
    if emit_rank && function == RankFunction::RowNumber {
        let mut key = partition.clone();
        key.push(input.cols.len());
        keys::add(&mut unique, key.clone());
        keys::add(&mut upsert, key);
    }
    if !emit_rank {
        // With an offset a row comes to its new rank before it leaves the old one: it is there twice.
        if from == 1 || limit == from {
            input.unique.iter().for_each(|k| keys::add(&mut unique, k.clone()));
        }
        keys::distributed(&input.upsert, &partition).into_iter().for_each(|k| keys::add(&mut upsert, k));
    }
    let op = Op::Rank(Rank {
        function,
        partition,
        order,
        from,
        to,
        emit_rank,
        emit_update_before: true,
        input_key: keys::best(&input.unique, &[]),
    });
    let mut out = Phys::append(op, vec![input], cols);
    (out.update, out.delete, out.unique, out.upsert) = (true, true, unique, upsert);
    Ok(out)
}

/// Casts a relation's columns to a sink's types.
pub(super) fn cast_columns(input: Phys, wanted: &[(usize, crate::sql::rel::Col)]) -> Phys {
    let same = wanted.len() == input.cols.len()
        && wanted.iter().enumerate().all(|(i, (place, col))| {
            i == *place && input.cols.get(i).is_some_and(|c| c.data_type.kind == col.data_type.kind)
        });
    if same {
        return input;
    }
    let exprs: Vec<Expr> = wanted
        .iter()
        .map(|(place, col)| match input.cols.get(*place) {
            Some(from) => {
                cast_to(crate::sql::types::column(*place, from.data_type.clone()), &col.data_type.kind)
            }
            None => crate::sql::types::null_of(col.data_type.kind.clone()),
        })
        .collect();
    let cols = wanted.iter().map(|(_, col)| col.clone()).collect();
    input.project(exprs, cols)
}

/// Columns of an expression.
pub(super) fn used(expr: &Expr) -> BTreeSet<usize> {
    let mut out = BTreeSet::new();
    columns_of(expr, &mut out);
    out
}
