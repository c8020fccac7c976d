//! INSERT INTO: columns, types, keys and changes must fit the sink.

use std::collections::BTreeMap;

use crate::engine::plan::{ChangelogMode, NodeId, OnConflict, Op};
use crate::sql::ast;
use crate::sql::bind::{Binder, check_hint};
use crate::sql::catalog::{Catalog, ColumnKind, Table};
use crate::sql::connectors::{self, SinkMode, sink_mode};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::rel::{Col, TimeAttribute};
use crate::sql::settings;
use crate::sql::types;

use super::changelog::Emitter;
use super::keys;
use super::phys::{Context, Phys};
use super::physical::{cast_columns, table_ref};
use super::refused::refused_by_flink;

/// Plans an INSERT into the emitter's plan; gives the sink's node.
pub fn plan_insert(
    insert: &ast::Insert,
    catalog: &Catalog,
    options: &BTreeMap<String, String>,
    emitter: &mut Emitter,
) -> SqlResult<NodeId> {
    let context = Context { options };
    let binder = Binder::new(catalog, options);
    let mut table = (*catalog.table(&insert.table).map_err(|error| {
        let help = error.help.clone();
        let mut out = SqlError::plan(
            insert.table.span,
            format!(
                "Cannot find table '`default_catalog`.`default_database`.`{}`' in any of the catalogs [default_catalog], nor as a temporary table.",
                insert.table.value
            ),
        );
        out.help = help;
        out
    })?)
    .clone();
    if table.view.is_some() {
        return Err(SqlError::plan(
            insert.table.span,
            format!("'{}' is a view: rows are inserted into tables", table.name),
        ));
    }
    for hint in &insert.hints {
        check_hint(hint, insert.table.span)?;
        if hint.name == "OPTIONS" {
            table.options.extend(hint.options.iter().cloned());
        }
    }
    settings::check(options, insert.span)?;
    let rel = binder.query(&insert.query)?;
    emitter.plan.warnings.append(&mut binder.warnings.borrow_mut());
    if context.strict() {
        refused_by_flink(insert, &rel, &table, sink_mode(&table))?;
    }
    let query_cols = rel.cols.clone();
    let wanted = match_columns(insert, &table, &query_cols)?;
    connectors::check_options(&table, true, insert.table.span)?;
    connectors::check_metadata(&table, true, insert.table.span)?;
    let query = super::plan_query(rel, &context).map_err(|e| e.at(insert.query.span))?;
    check_rowtimes(&query.cols, &table, insert.span)?;
    let input = cast_columns(query, &wanted);
    let sink_columns = table.sink_columns();
    let native: Vec<(usize, Col)> = sink_columns
        .iter()
        .enumerate()
        .filter_map(|(i, c)| {
            let column = table.columns.get(*c)?;
            let mut col = column.col.clone().materialized();
            if let ColumnKind::Metadata { key, .. } = &column.kind
                && let Some(native) = connectors::metadata_type(&table, key)
            {
                col.data_type.kind = native.kind;
            }
            Some((i, col))
        })
        .collect();
    let input = cast_columns(input, &native);
    let input_cols = input.cols.clone();
    let target = table_ref(
        &table,
        &sink_columns,
        &BTreeMap::new(),
        &native.iter().map(|(_, c)| c.clone()).collect::<Vec<_>>(),
    );
    let mode = sink_mode(&table);
    check_changes(&table, mode, &input, insert.span)?;
    emitter.options(context.strict(), context.flag("table.exec.source.cdc-events-duplicate", false));
    let key = target.primary_key.clone();
    let materialize = materializer(insert, &table, mode, &key, &input, &context, emitter)?;
    // a sink that takes all kinds gets old rows; an upsert sink only where its key is not the query's
    let old = match mode {
        SinkMode::All => true,
        SinkMode::Upsert => materialize.is_some() || !emitter.can_omit(&input),
        SinkMode::Append => false,
    };
    let first_new = emitter.plan.nodes.len();
    let mut node = emitter.emit(&input, old);
    let changes = ChangelogMode {
        update_before: old && input.update,
        update_after: input.update,
        delete: input.delete,
    };
    let nullable: Vec<usize> = native
        .iter()
        .enumerate()
        .filter(|(i, (_, col))| {
            !col.data_type.nullable && input_cols.get(*i).is_some_and(|c| c.data_type.nullable)
        })
        .map(|(i, _)| i)
        .collect();
    // errors name the sink's columns
    let sink_cols: Vec<Col> = native.iter().map(|(_, c)| c.clone()).collect();
    let mut changes = changes;
    if !nullable.is_empty() {
        let drop =
            options.get("table.exec.sink.not-null-enforcer").is_some_and(|v| v.eq_ignore_ascii_case("DROP"));
        node = emitter.node(Op::NotNull { columns: nullable, drop }, vec![node], &sink_cols, changes);
    }
    if let Some(conflict) = materialize {
        changes = ChangelogMode { update_before: false, update_after: true, delete: changes.delete };
        let op = Op::Materialize { key, conflict, input_key: materializer_key(&input) };
        node = emitter.node(op, vec![node], &sink_cols, changes);
    }
    let sink = emitter.node(Op::Sink(target), vec![node], &sink_cols, changes);
    let fresh = emitter.plan.nodes.get(first_new..).unwrap_or_default();
    check_formats(fresh, options, insert.span)?;
    Ok(sink)
}

/// The formats of tables that are read and written take their options.
fn check_formats(
    nodes: &[crate::engine::plan::Node],
    options: &BTreeMap<String, String>,
    span: Span,
) -> SqlResult<()> {
    use crate::engine::format;
    let Ok(context) = format::FormatContext::new(options) else { return Ok(()) };
    for node in nodes {
        let (Op::Source(table) | Op::Sink(table)) = &node.op else { continue };
        let option = |key: &str| table.options.get(key).map(String::as_str);
        let connector = option("connector").unwrap_or("");
        let format = option("value.format").or(option("format")).unwrap_or("");
        if !matches!(connector, "kafka" | "upsert-kafka" | "filesystem")
            || !matches!(format, "json" | "csv" | "raw" | "debezium-json")
        {
            continue;
        }
        let checked = match &node.op {
            Op::Source(_) => format::decoder(table, &context).map(|_| ()),
            _ => format::encoder(table, &context).map(|_| ()),
        };
        if let Err(error) = checked {
            return Err(SqlError::plan(span, error.to_string()));
        }
    }
    Ok(())
}

/// For each column that the sink writes: where it comes from in the query (none: NULL), and its type.
fn match_columns(insert: &ast::Insert, table: &Table, query: &[Col]) -> SqlResult<Vec<(usize, Col)>> {
    let sink_columns = table.sink_columns();
    let mut targets = Vec::new();
    for name in &insert.columns {
        let found = table.column(&name.value).filter(|i| sink_columns.contains(i));
        let Some(index) = found else {
            let names: Vec<&str> = sink_columns
                .iter()
                .filter_map(|i| table.columns.get(*i))
                .map(|c| c.col.name.as_str())
                .collect();
            let error = SqlError::plan(name.span, format!("Unknown target column '{}'", name.value));
            return Err(match crate::sql::error::nearest(&name.value, names.iter().copied()) {
                Some(near) => error.help(format!("did you mean '{near}'?")),
                None => error.help(format!("columns of '{}': {}", table.name, names.join(", "))),
            });
        };
        if targets.contains(&index) {
            return Err(SqlError::plan(
                name.span,
                format!("Target column '{}' is assigned more than once", name.value),
            ));
        }
        targets.push(index);
    }
    if insert.columns.is_empty() {
        targets.clone_from(&sink_columns);
    }
    let mismatch = |cause: String, span: Span| {
        let list = |cols: Vec<(String, String)>| {
            cols.iter().map(|(n, t)| format!("{n}: {t}")).collect::<Vec<_>>().join(", ")
        };
        let query_schema = list(query.iter().map(|c| (c.name.clone(), c.data_type.to_string())).collect());
        let sink_schema = list(
            targets
                .iter()
                .filter_map(|i| table.columns.get(*i))
                .map(|c| (c.col.name.clone(), c.col.data_type.to_string()))
                .collect(),
        );
        SqlError::plan(
            span,
            format!(
                "Column types of query result and sink for 'default_catalog.default_database.{}' do not match.\nCause: {cause}\n\nQuery schema: [{query_schema}]\nSink schema:  [{sink_schema}]",
                table.name
            ),
        )
    };
    if targets.len() != query.len() {
        return Err(mismatch("Different number of columns.".to_owned(), insert.query.span).help(format!(
            "the query has {} columns, the sink takes {}",
            query.len(),
            targets.len()
        )));
    }
    let mut out = Vec::new();
    for index in &sink_columns {
        let Some(column) = table.columns.get(*index) else { continue };
        let place = targets.iter().position(|t| t == index);
        match place.and_then(|p| Some((p, query.get(p)?))) {
            Some((place, from)) => {
                if !types::assignable(&from.data_type.kind, &column.col.data_type.kind) {
                    return Err(mismatch(
                        format!(
                            "Incompatible types for sink column '{}' at position {}.",
                            column.col.name,
                            place + 1
                        ),
                        insert.query.span,
                    )
                    .help(format!("CAST the query's column to {}", column.col.data_type.kind)));
                }
                out.push((place, column.col.clone().materialized()));
            }
            None => {
                if !column.col.data_type.nullable {
                    return Err(SqlError::plan(
                        insert.table.span,
                        format!("Column '{}' has no default value and does not allow NULLs", column.col.name),
                    ));
                }
                out.push((usize::MAX, column.col.clone().materialized()));
            }
        }
    }
    Ok(out)
}

/// One event time at most goes into a sink.
fn check_rowtimes(cols: &[Col], table: &Table, span: Span) -> SqlResult<()> {
    let names: Vec<&str> =
        cols.iter().filter(|c| c.time == TimeAttribute::Rowtime).map(|c| c.name.as_str()).collect();
    if names.len() < 2 {
        return Ok(());
    }
    Err(SqlError::plan(
        span,
        format!(
            "The query contains more than one rowtime attribute column [{}] for writing into table 'default_catalog.default_database.{}'.\nPlease select the column that should be used as the event-time timestamp for the table sink by casting all other columns to regular TIMESTAMP or TIMESTAMP_LTZ.",
            names.join(", "),
            table.name
        ),
    )
    .help("CAST(ts AS TIMESTAMP(3)) makes a plain column of an event time"))
}

fn check_changes(table: &Table, mode: SinkMode, input: &Phys, span: Span) -> SqlResult<()> {
    if mode != SinkMode::Append || input.is_append() {
        return Ok(());
    }
    if table.connector() == "jdbc" {
        return Err(SqlError::plan(
            span,
            "please declare primary key for sink table when query contains update/delete record.",
        )
        .help(format!("CREATE TABLE {} (…, PRIMARY KEY (…) NOT ENFORCED)", table.name)));
    }
    let changes = match (input.update, input.delete) {
        (true, true) => "update and delete",
        (true, false) => "update",
        _ => "delete",
    };
    Err(SqlError::plan(
        span,
        format!(
            "Table sink 'default_catalog.default_database.{}' doesn't support consuming {changes} changes which is produced by node {}",
            table.name,
            input.producer()
        ),
    )
    .help("write changes to 'upsert-kafka', to 'jdbc' with a PRIMARY KEY, or in the format 'debezium-json'"))
}

/// The key by which the materializer finds a row that is retracted: Flink's smallest upsert key of the input. One
/// that two rows may have for a moment, as behind a Top-N with an offset, tells no rows apart.
fn materializer_key(input: &Phys) -> Option<keys::Key> {
    let known = input.upsert.iter().filter(|key| !key.is_empty() && keys::within(&input.unique, key));
    known.min_by_key(|key| (key.len(), *key)).cloned()
}

/// Whether rows must be kept per sink key, and what a conflict means.
fn materializer(
    insert: &ast::Insert,
    table: &Table,
    mode: SinkMode,
    key: &[usize],
    input: &Phys,
    context: &Context<'_>,
    emitter: &mut Emitter,
) -> SqlResult<Option<OnConflict>> {
    if mode != SinkMode::Upsert || key.is_empty() {
        return Ok(None);
    }
    let setting = context.options.get("table.exec.sink.upsert-materialize").map(|v| v.to_uppercase());
    match setting.as_deref() {
        Some("NONE") => return Ok(None),
        Some("FORCE") => return Ok(Some(insert.conflict.unwrap_or(OnConflict::Deduplicate))),
        _ => {}
    }
    if keys::within(&input.upsert, key) {
        return Ok(None);
    }
    if let Some(conflict) = insert.conflict {
        return Ok(Some(conflict));
    }
    if context.flag("table.exec.sink.require-on-conflict", true) {
        let names = |columns: &[usize]| {
            columns
                .iter()
                .filter_map(|c| input.cols.get(*c))
                .map(|c| c.name.clone())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let sink_names: Vec<String> = table
            .primary_key
            .iter()
            .filter_map(|i| table.columns.get(*i))
            .map(|c| c.col.name.clone())
            .collect();
        let upsert = input.upsert.first().map(|k| format!("[{}]", names(k))).unwrap_or_default();
        let message = format!(
            "The query has an upsert key that differs from the primary key of the sink table 'default_catalog.default_database.{}'. Primary key: [{}], upsert key: {upsert}. This can lead to non-deterministic results when multiple records with different upsert keys map to the same primary key. Please specify an ON CONFLICT clause to define how conflicts should be handled: ON CONFLICT DO DEDUPLICATE (update to the latest record, state intensive, since we need to keep the entire history), or ON CONFLICT DO ERROR (fail on conflict), or ON CONFLICT DO NOTHING (keep first record).",
            table.name,
            sink_names.join(", ")
        );
        if context.strict() {
            return Err(SqlError::plan(insert.span, message)
                .help("or SET 'table.exec.sink.require-on-conflict' = 'false';"));
        }
        emitter.plan.warnings.push(format!(
            "line {}: INSERT INTO {}: Flink 2.3 would reject this without ON CONFLICT or SET 'table.exec.sink.require-on-conflict' = 'false' (the sink's key [{}] is not the query's upsert key); accepted as Flink up to 2.2 does",
            insert.span.line,
            table.name,
            sink_names.join(", ")
        ));
    }
    Ok(Some(OnConflict::Deduplicate))
}
