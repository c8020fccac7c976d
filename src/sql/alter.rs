//! ALTER TABLE: a table as its definition, changed, to be declared anew.

use super::ast::{self, AlterAction, CreateTable, Ident, Place};
use super::catalog::{ColumnKind, Table};
use super::error::{Span, SqlError, SqlResult};

/// The definition that makes the table.
fn definition(table: &Table, name: &Ident) -> CreateTable {
    let ident = |value: &str| Ident { value: value.to_owned(), span: name.span };
    let names = |columns: &[usize]| -> Vec<Ident> {
        columns.iter().filter_map(|c| table.columns.get(*c)).map(|c| ident(&c.col.name)).collect()
    };
    let columns = table
        .columns
        .iter()
        .map(|column| {
            let data_type = column.col.data_type.clone();
            let kind = match &column.kind {
                ColumnKind::Physical => ast::ColumnKind::Physical(data_type),
                ColumnKind::Metadata { key, virtual_ } => {
                    ast::ColumnKind::Metadata { data_type, key: Some(key.clone()), virtual_: *virtual_ }
                }
                ColumnKind::Computed(expr) => ast::ColumnKind::Computed(expr.clone()),
            };
            ast::ColumnDef { name: ident(&column.col.name), kind, comment: column.comment.clone() }
        })
        .collect();
    CreateTable {
        temporary: table.temporary,
        columns,
        watermark: table.watermark.as_ref().map(|(c, expr)| (names(&[*c]), expr.clone())),
        primary_key: names(&table.primary_key),
        comment: table.comment.clone(),
        partitioned: table.partitioned.iter().map(|p| ident(p)).collect(),
        options: table.options.iter().map(|(k, v)| (k.clone(), v.clone(), Span::default())).collect(),
        ..CreateTable::empty(name.clone())
    }
}

/// The definition of a table after these actions.
///
/// # Errors
/// Columns that are not there, or are there already; what others still need.
pub fn altered(table: &Table, name: &Ident, actions: &[AlterAction]) -> SqlResult<CreateTable> {
    let mut create = definition(table, name);
    for action in actions {
        match action {
            AlterAction::Column(column, modify, place) => {
                let there = find(&create, &column.name);
                let mut column = column.clone();
                let at = match (there, modify) {
                    (None, true) => return Err(unknown(&column.name)),
                    (Some(_), false) => {
                        return Err(SqlError::plan(
                            column.name.span,
                            format!(
                                "Try to add a column '{}' which already exists in the table.",
                                column.name.value
                            ),
                        ));
                    }
                    (Some(at), true) => {
                        let old = create.columns.remove(at);
                        column.comment = column.comment.or(old.comment);
                        at
                    }
                    (None, false) => create.columns.len(),
                };
                let at = match place {
                    Some(Place::First) => 0,
                    Some(Place::After(before)) => find(&create, before).ok_or_else(|| unknown(before))? + 1,
                    None => at,
                };
                create.columns.insert(at.min(create.columns.len()), column);
            }
            AlterAction::DropColumn(column) => {
                let at = find(&create, column).ok_or_else(|| unknown(column))?;
                let needed = |what: &str| {
                    SqlError::plan(column.span, format!("The column `{}` is used as {what}.", column.value))
                };
                if create.primary_key.iter().any(|key| key.value == column.value) {
                    return Err(needed("the primary key"));
                }
                if create
                    .watermark
                    .as_ref()
                    .is_some_and(|(path, _)| path.iter().any(|p| p.value == column.value))
                {
                    return Err(needed("watermark"));
                }
                create.columns.remove(at);
            }
            AlterAction::RenameColumn(from, to) => {
                if find(&create, to).is_some() {
                    return Err(SqlError::plan(
                        to.span,
                        format!("The column `{}` already existed in table schema.", to.value),
                    ));
                }
                let at = find(&create, from).ok_or_else(|| unknown(from))?;
                if let Some(column) = create.columns.get_mut(at) {
                    // what a metadata column reads is its old name
                    if let ast::ColumnKind::Metadata { key, .. } = &mut column.kind {
                        key.get_or_insert_with(|| from.value.clone());
                    }
                    column.name = to.clone();
                }
                for key in create.primary_key.iter_mut().filter(|key| key.value == from.value) {
                    *key = to.clone();
                }
            }
            AlterAction::Key(columns) => create.primary_key.clone_from(columns),
            AlterAction::DropKey => {
                if create.primary_key.is_empty() {
                    return Err(SqlError::plan(name.span, "The base table does not define any primary key."));
                }
                create.primary_key.clear();
            }
            AlterAction::Watermark(path, expr) => create.watermark = Some((path.clone(), expr.clone())),
            AlterAction::DropWatermark => {
                if create.watermark.is_none() {
                    return Err(SqlError::plan(
                        name.span,
                        "The base table does not define any watermark strategy.",
                    ));
                }
                create.watermark = None;
            }
        }
    }
    Ok(create)
}

fn find(create: &CreateTable, name: &Ident) -> Option<usize> {
    create.columns.iter().position(|column| column.name.value == name.value)
}

fn unknown(name: &Ident) -> Box<SqlError> {
    SqlError::plan(name.span, format!("The column `{}` does not exist in the base table.", name.value))
}
