//! What SHOW and DESCRIBE print: the columns and rows of Flink, in the frames of its clients.

use std::fmt::Write as _;

use super::ast::{Ident, Pattern, Show, ShowKind};
use super::catalog::{Catalog, Column, ColumnKind, Table, type_text};
use super::error::{SqlError, SqlResult};
use super::namespaces::Namespaces;
use super::unparse::{expression, full_type, literal, quoted};

/// Rows under heads, framed; `Empty set` where there are none.
pub(super) fn tableau(heads: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return "Empty set".to_owned();
    }
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(i, head)| {
            let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| width(cell));
            cells.max().unwrap_or(0).max(width(head))
        })
        .collect();
    let mut rule = String::from("+");
    for width in &widths {
        rule.push_str(&"-".repeat(width + 2));
        rule.push('+');
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut out = String::from("|");
        for (cell, width) in cells.zip(&widths) {
            let _ = write!(out, " {cell:>width$} |");
        }
        out
    };
    let mut out = format!("{rule}\n{}\n{rule}\n", line(&mut heads.iter().copied()));
    for row in rows {
        out.push_str(&line(&mut row.iter().map(String::as_str)));
        out.push('\n');
    }
    let _ = write!(out, "{rule}\n{} row{} in set", rows.len(), if rows.len() == 1 { "" } else { "s" });
    out
}

/// What a SHOW prints.
///
/// # Errors
/// Tables, databases and catalogs that are not there.
pub(super) fn show(show: &Show, catalog: &Catalog, namespaces: &Namespaces) -> SqlResult<String> {
    let takes = |name: &str| show.like.as_ref().is_none_or(|like| like.takes(name));
    let names = |head: &str, mut names: Vec<&str>| {
        names.retain(|name| takes(name));
        let rows: Vec<Vec<String>> = names.into_iter().map(|name| vec![name.to_owned()]).collect();
        tableau(&[head], &rows)
    };
    let tables = |views: bool| -> SqlResult<Vec<&str>> {
        let place = namespaces.place(show.from.as_deref())?;
        let kept = catalog.tables().filter(|t| t.place == place && (!views || t.view.is_some()));
        Ok(kept.map(|t| t.name.as_str()).collect())
    };
    let named = || show.from.as_deref().and_then(<[Ident]>::last);
    Ok(match show.kind {
        ShowKind::Tables => names("table name", tables(false)?),
        ShowKind::Views => names("view name", tables(true)?),
        ShowKind::Functions => {
            let mut all: Vec<String> = super::functions::names()
                .chain(super::functions::aggregates::NAMES.iter().copied())
                .filter(|name| name.starts_with(char::is_alphabetic))
                .map(str::to_lowercase)
                .filter(|name| takes(name))
                .collect();
            all.sort_unstable();
            all.dedup();
            let rows: Vec<Vec<String>> = all.into_iter().map(|name| vec![name]).collect();
            tableau(&["function name"], &rows)
        }
        ShowKind::Catalogs => names("catalog name", namespaces.catalogs()),
        ShowKind::CurrentCatalog => names("current catalog name", vec![namespaces.current().0]),
        ShowKind::Databases => names("database name", namespaces.databases(show.from.as_deref())?),
        ShowKind::CurrentDatabase => names("current database name", vec![namespaces.current().1]),
        ShowKind::Modules(false) => names("module name", vec!["core"]),
        ShowKind::Modules(true) => {
            tableau(&["module name", "used"], &[vec!["core".to_owned(), "TRUE".to_owned()]])
        }
        ShowKind::Nothing(head) => names(head, Vec::new()),
        ShowKind::Partitions => {
            let Some(name) = named() else { return Ok(String::new()) };
            let table = catalog.find(name).ok_or_else(|| {
                SqlError::plan(
                    name.span,
                    format!(
                        "Table (or view) default_database.{} does not exist in Catalog default_catalog.",
                        name.value
                    ),
                )
            })?;
            if table.partitioned.is_empty() {
                return Err(SqlError::plan(
                    name.span,
                    format!(
                        "Table default_database.{} in catalog default_catalog is not partitioned.",
                        name.value
                    ),
                ));
            }
            "Empty set".to_owned()
        }
        ShowKind::CreateTable | ShowKind::CreateView => {
            let Some(name) = named() else { return Ok(String::new()) };
            return show_create(name, show.kind == ShowKind::CreateView, catalog);
        }
        ShowKind::Columns => {
            let Some(name) = named() else { return Ok(String::new()) };
            return describe(name, catalog, show.like.as_ref());
        }
    })
}

/// The table of DESCRIBE, of the columns that are asked for.
///
/// # Errors
/// A table that is not there.
pub(super) fn describe(name: &Ident, catalog: &Catalog, like: Option<&Pattern>) -> SqlResult<String> {
    let Some(table) = catalog.find(name) else {
        let message = format!(
            "Tables or views with the identifier 'default_catalog.default_database.{}' doesn't exist.",
            name.value
        );
        return Err(catalog.suggest(name, SqlError::plan(name.span, message)));
    };
    let key: Vec<&str> =
        table.primary_key.iter().filter_map(|k| table.columns.get(*k)).map(|c| c.col.name.as_str()).collect();
    let kept: Vec<(usize, &Column)> = table
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| like.is_none_or(|like| like.takes(&column.col.name)))
        .collect();
    // the comments' column stands where there are any
    let comments = kept.iter().any(|(_, column)| column.comment.is_some());
    let rows: Vec<Vec<String>> = kept
        .into_iter()
        .map(|(i, column)| {
            let mut shown = column.col.clone();
            shown.data_type.nullable = true;
            let in_key = table.primary_key.contains(&i);
            let watermark = table.watermark.as_ref().filter(|(at, _)| *at == i);
            let mut row = vec![
                column.col.name.clone(),
                type_text(&shown),
                if column.col.data_type.nullable { "TRUE" } else { "FALSE" }.to_owned(),
                if in_key { format!("PRI({})", key.join(", ")) } else { String::new() },
                extras(column).unwrap_or_default(),
                watermark.map(|(_, expr)| expression(expr)).unwrap_or_default(),
            ];
            if comments {
                row.push(column.comment.clone().unwrap_or_default());
            }
            row
        })
        .collect();
    let mut heads = vec!["name", "type", "null", "key", "extras", "watermark"];
    if comments {
        heads.push("comment");
    }
    Ok(tableau(&heads, &rows))
}

/// What makes a column that is not physical.
fn extras(column: &Column) -> Option<String> {
    match &column.kind {
        ColumnKind::Physical => None,
        ColumnKind::Metadata { key, virtual_ } => {
            let mut out = "METADATA".to_owned();
            if *key != column.col.name {
                let _ = write!(out, " FROM {}", literal(key));
            }
            if *virtual_ {
                out.push_str(" VIRTUAL");
            }
            Some(out)
        }
        ColumnKind::Computed(expr) => Some(format!("AS {}", expression(expr))),
    }
}

fn show_create(name: &Ident, view: bool, catalog: &Catalog) -> SqlResult<String> {
    let (what, noun) = if view { ("VIEW", "View") } else { ("TABLE", "Table") };
    let path = format!("`default_catalog`.`default_database`.`{}`", name.value);
    let Some(table) = catalog.find(name) else {
        let message =
            format!("Could not execute SHOW CREATE {what}. {noun} with identifier {path} does not exist.");
        return Err(catalog.suggest(name, SqlError::plan(name.span, message)));
    };
    if table.view.is_some() != view {
        let (plural, is, other) = if view { ("views", "table", "TABLE") } else { ("tables", "view", "VIEW") };
        return Err(SqlError::plan(
            name.span,
            format!(
                "SHOW CREATE {what} is only supported for {plural}, but {path} is a {is}. Please use SHOW CREATE {other} instead."
            ),
        ));
    }
    Ok(create_text(&table))
}

/// The statement that makes a table or view; secrets are not among its options.
fn create_text(table: &Table) -> String {
    let temporary = if table.temporary { "TEMPORARY " } else { "" };
    let (catalog, database) = &table.place;
    let path = format!("{}.{}.{}", quoted(catalog), quoted(database), quoted(&table.name));
    let comment = |comment: &Option<String>, before: &str| {
        comment.as_ref().map(|c| format!("{before}COMMENT {}", literal(c))).unwrap_or_default()
    };
    if table.view.is_some() {
        let names: Vec<String> = table.columns.iter().map(|c| format!("  {}", quoted(&c.col.name))).collect();
        return format!(
            "CREATE {temporary}VIEW {path} (\n{}\n){}\nAS {}",
            names.join(",\n"),
            comment(&table.comment, "\n"),
            table.text
        );
    }
    let mut lines: Vec<String> = table
        .columns
        .iter()
        .map(|c| {
            let body = match (&c.kind, extras(c)) {
                (ColumnKind::Computed(_), Some(extras)) => extras,
                (_, Some(extras)) => format!("{} {extras}", full_type(&c.col.data_type)),
                (_, None) => full_type(&c.col.data_type),
            };
            format!("  {} {body}{}", quoted(&c.col.name), comment(&c.comment, " "))
        })
        .collect();
    let name = |at: &usize| table.columns.get(*at).map(|c| quoted(&c.col.name)).unwrap_or_default();
    if let Some((at, expr)) = &table.watermark {
        lines.push(format!("  WATERMARK FOR {} AS {}", name(at), expression(expr)));
    }
    if !table.primary_key.is_empty() {
        let names: Vec<String> = table.primary_key.iter().map(name).collect();
        let constraint = quoted(table.constraint.as_deref().unwrap_or("PK"));
        lines.push(format!("  CONSTRAINT {constraint} PRIMARY KEY ({}) NOT ENFORCED", names.join(", ")));
    }
    let mut out = format!("CREATE {temporary}TABLE {path} (\n{}\n)", lines.join(",\n"));
    out.push_str(&comment(&table.comment, "\n"));
    if let Some(distribution) = &table.distribution {
        let _ = write!(out, "\n{distribution}");
    }
    if !table.partitioned.is_empty() {
        let names: Vec<String> = table.partitioned.iter().map(|p| quoted(p)).collect();
        let _ = write!(out, "\nPARTITIONED BY ({})", names.join(", "));
    }
    if !table.options.is_empty() {
        let secret = |key: &str| key.contains("password") || key.contains("jaas") || key.contains("secret");
        let options: Vec<String> = table
            .options
            .iter()
            .map(|(key, value)| {
                let value = if secret(key) { "******".to_owned() } else { without_password(value) };
                format!("  {} = {}", literal(key), literal(&value))
            })
            .collect();
        let _ = write!(out, "\nWITH (\n{}\n)", options.join(",\n"));
    }
    out
}

/// A URL without the value of its parameter `password`.
fn without_password(url: &str) -> String {
    let parts = url.split_inclusive(['?', '&', ';']).map(|part| match part.split_once('=') {
        Some((name, value)) if name.to_ascii_lowercase().contains("password") => {
            let end = value.get(value.trim_end_matches(['?', '&', ';']).len()..).unwrap_or_default();
            format!("{name}=******{end}")
        }
        _ => part.to_owned(),
    });
    parts.collect()
}
