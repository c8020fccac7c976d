//! CREATE TABLE … LIKE and AS: what comes from the other table or from the query, and what the table's own
//! definition may say beside.

use crate::sql::ast::{self, Ident};
use crate::sql::catalog::{Catalog, ColumnKind, Table};
use crate::sql::error::{SqlError, SqlResult};
use crate::sql::rel::{Rel, TimeAttribute};
use crate::sql::types::assignable;

/// What is done with a feature of the other table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strategy {
    Including,
    Excluding,
    Overwriting,
}

/// The strategy of a feature: its own clause, else that of ALL, else Flink's default.
fn strategy(clauses: &[String], feature: &str) -> Strategy {
    let of = |what: &str| {
        clauses.iter().find_map(|clause| match clause.split_once(' ') {
            Some((verb, named)) if named == what => Some(match verb {
                "EXCLUDING" => Strategy::Excluding,
                "OVERWRITING" => Strategy::Overwriting,
                _ => Strategy::Including,
            }),
            _ => None,
        })
    };
    let default = if feature == "OPTIONS" { Strategy::Overwriting } else { Strategy::Including };
    of(feature).or_else(|| of("ALL")).unwrap_or(default)
}

/// Fills a table with what it takes from another one.
pub(super) fn take_over(
    table: &mut Table,
    create: &ast::CreateTable,
    name: &ast::Ident,
    clauses: &[String],
    catalog: &Catalog,
) -> SqlResult<()> {
    let refused = |what: &str| {
        SqlError::plan(
            name.span,
            format!(
                "Source table '`default_catalog`.`default_database`.`{}`' of the LIKE clause {what}, at line {}, column {}",
                name.value, name.span.line, name.span.column
            ),
        )
    };
    let Some(source) = catalog.find(name) else { return Err(refused("not found in the catalog")) };
    if source.view.is_some() {
        return Err(refused("can not be a VIEW"));
    }
    let of = |feature: &str| strategy(clauses, feature);
    let watermarks = of("WATERMARKS") != Strategy::Excluding;
    for column in &source.columns {
        let taken = match column.kind {
            ColumnKind::Physical => true,
            ColumnKind::Metadata { .. } => of("METADATA") != Strategy::Excluding,
            ColumnKind::Computed(_) => of("GENERATED") != Strategy::Excluding,
        };
        if taken {
            let mut column = column.clone();
            if column.col.time == TimeAttribute::Rowtime && (!watermarks || create.watermark.is_some()) {
                column.col.time = TimeAttribute::None;
            }
            table.columns.push(column);
        }
    }
    let place = |index: usize| {
        source.columns.get(index).and_then(|c| table.columns.iter().position(|t| t.col.name == c.col.name))
    };
    let key: Vec<usize> = source.primary_key.iter().filter_map(|i| place(*i)).collect();
    let watermark = source.watermark.as_ref().and_then(|(i, expr)| Some((place(*i)?, expr.clone())));
    if of("CONSTRAINTS") == Strategy::Including && !source.primary_key.is_empty() {
        if let Some(own) = create.primary_key.first() {
            return Err(SqlError::plan(
                own.span,
                "The base table already has a primary key. You might want to specify EXCLUDING CONSTRAINTS.",
            ));
        }
        table.primary_key = key;
        table.constraint.clone_from(&source.constraint);
    }
    if watermarks && let Some((at, expr)) = watermark {
        match &create.watermark {
            Some((own, _)) if of("WATERMARKS") == Strategy::Including => {
                let own = own.first().unwrap_or(&create.name);
                return Err(SqlError::plan(
                    own.span,
                    format!(
                        "There already exists a watermark spec for column '{}' in the base table. You might want to specify EXCLUDING WATERMARKS or OVERWRITING WATERMARKS.",
                        own.value
                    ),
                ));
            }
            Some(_) => {}
            None => table.watermark = Some((at, expr)),
        }
    }
    if of("OPTIONS") != Strategy::Excluding {
        let twice = create.options.iter().find(|(key, _, _)| source.options.contains_key(key));
        if let (Some((key, _, span)), Strategy::Including) = (twice, of("OPTIONS")) {
            let old = source.options.get(key).map_or("", String::as_str);
            return Err(SqlError::plan(
                *span,
                format!(
                    "There already exists an option ['{key}' -> '{old}']  in the base table. You might want to specify EXCLUDING OPTIONS or OVERWRITING OPTIONS."
                ),
            ));
        }
        table.options.clone_from(&source.options);
    }
    match create.partitioned.first() {
        Some(own) if of("PARTITIONS") != Strategy::Excluding && !source.partitioned.is_empty() => {
            return Err(SqlError::plan(
                own.span,
                "The base table already has partitions defined. You might want to specify EXCLUDING PARTITIONS.",
            ));
        }
        Some(_) => {}
        // Flink keeps them even EXCLUDING PARTITIONS
        None => table.partitioned.clone_from(&source.partitioned),
    }
    if of("DISTRIBUTION") != Strategy::Excluding && table.distribution.is_none() {
        table.distribution.clone_from(&source.distribution);
    }
    Ok(())
}

/// The column of the other table that an own definition stands for.
///
/// # Errors
/// A definition that may not replace the one there.
pub(super) fn replaced(table: &Table, def: &ast::ColumnDef, clauses: &[String]) -> SqlResult<Option<usize>> {
    let Some((at, old)) =
        table.columns.iter().enumerate().find(|(_, column)| column.col.name == def.name.value)
    else {
        return Ok(None);
    };
    let name = &def.name.value;
    let (feature, kind) = match (&old.kind, &def.kind) {
        (ColumnKind::Computed(_), ast::ColumnKind::Computed(_)) => ("GENERATED", "generated"),
        (ColumnKind::Metadata { .. }, ast::ColumnKind::Metadata { .. }) => ("METADATA", "metadata"),
        (_, ast::ColumnKind::Computed(_)) => {
            return Err(SqlError::plan(
                def.name.span,
                format!(
                    "A column named '{name}' already exists in the table. Duplicate columns exist in the compute column and regular column."
                ),
            ));
        }
        (_, ast::ColumnKind::Metadata { .. }) => {
            return Err(SqlError::plan(
                def.name.span,
                format!(
                    "A column named '{name}' already exists in the table. Duplicate columns exist in the metadata column and regular column."
                ),
            ));
        }
        _ => return Ok(None),
    };
    if strategy(clauses, feature) == Strategy::Overwriting {
        return Ok(Some(at));
    }
    Err(SqlError::plan(
        def.name.span,
        format!(
            "A {kind} column named '{name}' already exists in the base table. You might want to specify EXCLUDING {feature} or OVERWRITING {feature}."
        ),
    ))
}

/// CREATE TABLE … AS: the definition with the query's columns behind its own, and the columns that the query fills.
///
/// # Errors
/// Definitions that contradict the query.
pub fn with_query(create: &ast::CreateTable, rel: &Rel) -> SqlResult<(ast::CreateTable, Vec<Ident>)> {
    let mut out = create.clone();
    let ident = |name: &str| Ident { value: name.to_owned(), span: create.name.span };
    let filled: Vec<Ident> = rel.cols.iter().map(|col| ident(&col.name)).collect();
    let position = |name: &str| rel.cols.iter().position(|col| col.name == name);
    let mut taken: Vec<ast::ColumnDef> = rel
        .cols
        .iter()
        .map(|col| ast::ColumnDef {
            name: ident(&col.name),
            kind: ast::ColumnKind::Physical(col.clone().materialized().data_type),
            comment: None,
        })
        .collect();
    let mut own = Vec::new();
    for def in &create.columns {
        let name = &def.name;
        match (position(&name.value), &def.kind) {
            (None, _) => own.push(def.clone()),
            (Some(at), ast::ColumnKind::Physical(_) | ast::ColumnKind::Metadata { virtual_: false, .. }) => {
                if let (ast::ColumnKind::Physical(to), Some(from)) = (&def.kind, rel.cols.get(at))
                    && !assignable(&from.data_type.kind, &to.kind)
                {
                    return Err(SqlError::plan(
                        name.span,
                        format!(
                            "Incompatible types for sink column '{}' at position {}. The source column has type '{}', while the target column has type '{to}'.",
                            name.value,
                            at + 1,
                            from.data_type
                        ),
                    ));
                }
                if let Some(column) = taken.get_mut(at) {
                    *column = def.clone();
                }
            }
            (Some(_), _) => {
                return Err(SqlError::plan(
                    name.span,
                    format!(
                        "A column named '{}' already exists in the source schema. Computed and metadata columns cannot overwrite columns from source.",
                        name.value
                    ),
                ));
            }
        }
    }
    if !create.order.is_empty() {
        let mut ordered = Vec::new();
        for name in &create.order {
            let Some(column) = position(&name.value).and_then(|at| taken.get(at)) else {
                return Err(SqlError::plan(
                    name.span,
                    format!("Column '{}' not found in the source schema.", name.value),
                ));
            };
            ordered.push(ast::ColumnDef { name: name.clone(), ..column.clone() });
        }
        if ordered.len() != taken.len() {
            return Err(SqlError::plan(
                create.name.span,
                "The number of columns in the column list must match the number of columns in the source schema.",
            ));
        }
        taken = ordered;
    }
    own.extend(taken);
    out.columns = own;
    Ok((out, filled))
}
