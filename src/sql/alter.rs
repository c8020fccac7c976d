//! ALTER TABLE: a table as its definition, changed, to be declared anew.

use super::ast::{self, AlterAction, CreateTable, Expr, ExprKind, Ident, Place};
use super::catalog::{ColumnKind, Table};
use super::error::{Span, SqlError, SqlResult};
use super::unparse::{expression, quoted};

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
        constraint: table.constraint.clone(),
        distribution: table.distribution.clone(),
        comment: table.comment.clone(),
        partitioned: table.partitioned.iter().map(|p| ident(p)).collect(),
        options: table.options.iter().map(|(k, v)| (k.clone(), v.clone(), Span::default())).collect(),
        ..CreateTable::empty(name.clone())
    }
}

/// The definition of a table after these actions, which are of one statement.
///
/// # Errors
/// Columns that are not there, or are there already; what others still need.
pub fn altered(table: &Table, name: &Ident, actions: &[AlterAction]) -> SqlResult<CreateTable> {
    let mut create = definition(table, name);
    for action in actions {
        match action {
            AlterAction::Column(column, modify, place) => put_column(&mut create, column, *modify, place)?,
            AlterAction::DropColumn(column) => {
                let at = find(&create, column).ok_or_else(|| unknown(column))?;
                let dropped = |name: &str| {
                    actions.iter().any(|a| matches!(a, AlterAction::DropColumn(c) if c.value == name))
                };
                free(&create, column, &dropped)?;
                if create.primary_key.iter().any(|key| key.value == column.value) {
                    return Err(refused(
                        column,
                        format!("The column `{}` is used as the primary key.", column.value),
                    ));
                }
                if create.partitioned.iter().any(|part| part.value == column.value) {
                    return Err(refused(
                        column,
                        format!("The column `{}` is used as the partition keys.", column.value),
                    ));
                }
                create.columns.remove(at);
            }
            AlterAction::RenameColumn(from, to) => rename_column(&mut create, from, to)?,
            AlterAction::Key { columns, name, modify } => {
                match (create.primary_key.is_empty(), modify) {
                    (false, false) => {
                        let names: Vec<String> =
                            create.primary_key.iter().map(|key| quoted(&key.value)).collect();
                        return Err(refused(
                            columns.first().unwrap_or(&create.name),
                            format!(
                                "The current table has already defined the primary key constraint [{}]. You might want to drop it before adding a new one.",
                                names.join(", ")
                            ),
                        ));
                    }
                    (true, true) => {
                        return Err(refused(
                            columns.first().unwrap_or(&create.name),
                            "The current table does not define any primary key constraint. You might want to add a new one.",
                        ));
                    }
                    _ => {}
                }
                create.primary_key.clone_from(columns);
                create.constraint.clone_from(name);
            }
            AlterAction::DropKey => {
                if create.primary_key.is_empty() {
                    return Err(refused(name, "The current table does not define any primary key."));
                }
                create.primary_key.clear();
            }
            AlterAction::DropConstraint(constraint) => {
                if create.primary_key.is_empty() {
                    return Err(refused(constraint, "The current table does not define any primary key."));
                }
                match create.constraint_name() {
                    Some(own) if own != constraint.value => {
                        return Err(refused(
                            constraint,
                            format!(
                                "The current table does not define a primary key constraint named '{}'. Available constraint name: ['{own}'].",
                                constraint.value
                            ),
                        ));
                    }
                    _ => create.primary_key.clear(),
                }
            }
            AlterAction::Watermark { path, expr, modify } => {
                match (&create.watermark, modify) {
                    (Some((of, old)), false) => {
                        let of: Vec<String> = of.iter().map(|part| quoted(&part.value)).collect();
                        return Err(refused(
                            name,
                            format!(
                                "The current table has already defined the watermark strategy {} AS {}. You might want to drop it before adding a new one.",
                                of.join("."),
                                expression(old)
                            ),
                        ));
                    }
                    (None, true) => {
                        return Err(refused(
                            name,
                            "The current table does not define any watermark. You might want to add a new one.",
                        ));
                    }
                    _ => {}
                }
                create.watermark = Some((path.clone(), expr.clone()));
            }
            AlterAction::DropWatermark => {
                if create.watermark.is_none() {
                    return Err(refused(name, "The current table does not define any watermark strategy."));
                }
                create.watermark = None;
            }
        }
    }
    Ok(create)
}

fn put_column(
    create: &mut CreateTable,
    column: &ast::ColumnDef,
    modify: bool,
    place: &Option<Place>,
) -> SqlResult<()> {
    let mut column = column.clone();
    let name = &column.name.value;
    let at = match (find(create, &column.name), modify) {
        (None, true) => {
            return Err(refused(&column.name, format!("Column `{name}` does not exist in the table.")));
        }
        (Some(_), false) => {
            return Err(refused(&column.name, format!("Column `{name}` already exists in the table.")));
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
        Some(Place::After(before)) => {
            let missing =
                || format!("Referenced column `{}` by 'AFTER' does not exist in the table.", before.value);
            find(create, before).ok_or_else(|| refused(before, missing()))? + 1
        }
        None => at,
    };
    create.columns.insert(at.min(create.columns.len()), column);
    Ok(())
}

fn rename_column(create: &mut CreateTable, from: &Ident, to: &Ident) -> SqlResult<()> {
    let at = find(create, from).ok_or_else(|| unknown(from))?;
    if find(create, to).is_some() {
        return Err(refused(to, format!("The column `{}` already existed in table schema.", to.value)));
    }
    free(create, from, &|_| false)?;
    if let Some(column) = create.columns.get_mut(at) {
        // what a metadata column reads is its old name
        if let ast::ColumnKind::Metadata { key, .. } = &mut column.kind {
            key.get_or_insert_with(|| from.value.clone());
        }
        column.name = to.clone();
    }
    // the key keeps its name
    create.constraint = create.constraint_name();
    for name in create.primary_key.iter_mut().chain(&mut create.partitioned) {
        if name.value == from.value {
            *name = to.clone();
        }
    }
    Ok(())
}

/// A column that computed columns (other than these) or the watermark are made of stays as it is.
fn free(create: &CreateTable, column: &Ident, gone: &dyn Fn(&str) -> bool) -> SqlResult<()> {
    let mut users: Vec<String> = Vec::new();
    for other in &create.columns {
        if let ast::ColumnKind::Computed(expr) = &other.kind
            && !gone(&other.name.value)
            && mentions(expr, &column.value)
        {
            users.push(quoted(&other.name.value));
        }
    }
    if !users.is_empty() {
        return Err(refused(
            column,
            format!("The column `{}` is referenced by computed column {}.", column.value, users.join(", ")),
        ));
    }
    if let Some((path, expr)) = &create.watermark
        && (path.first().is_some_and(|part| part.value == column.value) || mentions(expr, &column.value))
    {
        return Err(refused(
            column,
            format!("The column `{}` is referenced by watermark expression.", column.value),
        ));
    }
    Ok(())
}

fn mentions(expr: &Expr, column: &str) -> bool {
    let mut open = vec![expr];
    while let Some(expr) = open.pop() {
        if let ExprKind::Name(parts) = &expr.kind
            && parts.first().is_some_and(|part| part.value == column)
        {
            return true;
        }
        expr.for_each_part(&mut |part| open.push(part));
    }
    false
}

fn find(create: &CreateTable, name: &Ident) -> Option<usize> {
    create.columns.iter().position(|column| column.name.value == name.value)
}

fn unknown(name: &Ident) -> Box<SqlError> {
    refused(name, format!("The column `{}` does not exist in the base table.", name.value))
}

fn refused(at: &Ident, reason: impl AsRef<str>) -> Box<SqlError> {
    SqlError::plan(at.span, format!("Failed to execute ALTER TABLE statement.\n{}", reason.as_ref()))
}
