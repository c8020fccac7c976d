//! CREATE TABLE and CREATE VIEW into catalog entries, and tables into relations.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::expr::ExprNode;
use crate::engine::types::TypeKind;
use crate::sql::ast;
use crate::sql::catalog::{Catalog, Column, ColumnKind, Table, default_place};
use crate::sql::connectors;
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::rel::{Col, Rel, RelNode, TimeAttribute};
use crate::sql::types::cast_to;

use super::select::projected;
use super::{Binder, Env, Scope};

/// Makes a catalog entry of CREATE TABLE.
pub fn declare_table(
    create: &ast::CreateTable,
    catalog: &Catalog,
    options: &BTreeMap<String, String>,
) -> SqlResult<Table> {
    let mut table = Table {
        name: create.name.value.clone(),
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        constraint: create.constraint_name(),
        distribution: create.distribution.clone(),
        options: BTreeMap::new(),
        partitioned: create.partitioned.iter().map(|p| p.value.clone()).collect(),
        comment: create.comment.clone(),
        view: None,
        text: String::new(),
        place: default_place(),
        temporary: create.temporary,
        span: create.name.span,
    };
    if let Some((source, clauses)) = &create.like {
        super::like::take_over(&mut table, create, source, clauses, catalog)?;
    }
    for (key, value, _) in &create.options {
        table.options.insert(key.clone(), value.clone());
    }
    let inherited: Vec<String> = table.columns.iter().map(|c| c.col.name.clone()).collect();
    let mut computed = Vec::new();
    for def in &create.columns {
        let replaced = match &create.like {
            Some((_, clauses)) => super::like::replaced(&table, def, clauses)?,
            None => None,
        };
        if replaced.is_none() && table.column(&def.name.value).is_some() {
            return Err(SqlError::plan(
                def.name.span,
                if inherited.contains(&def.name.value) {
                    format!("A column named '{}' already exists in the base table.", def.name.value)
                } else {
                    format!("A regular Column named '{}' already exists in the table.", def.name.value)
                },
            ));
        }
        let (kind, data_type) = match &def.kind {
            ast::ColumnKind::Physical(data_type) => (ColumnKind::Physical, data_type.clone()),
            ast::ColumnKind::Metadata { data_type, key, virtual_ } => {
                let key = key.clone().unwrap_or_else(|| def.name.value.clone());
                (ColumnKind::Metadata { key, virtual_: *virtual_ }, data_type.clone())
            }
            ast::ColumnKind::Computed(expr) => {
                computed.push((replaced.unwrap_or(table.columns.len()), expr.clone()));
                (ColumnKind::Computed(expr.clone()), crate::engine::types::DataType::new(TypeKind::Null))
            }
        };
        let column =
            Column { col: Col::new(def.name.value.clone(), data_type), kind, comment: def.comment.clone() };
        match replaced.and_then(|at| table.columns.get_mut(at)) {
            Some(old) => *old = column,
            None => table.columns.push(column),
        }
    }
    if !create.primary_key.is_empty() {
        table.primary_key.clear();
    }
    for name in &create.primary_key {
        let Some(index) = table.column(&name.value) else {
            let error = SqlError::plan(
                name.span,
                format!(
                    "Primary key column '{}' is not defined in the schema at line {}, column {}",
                    name.value, name.span.line, name.span.column
                ),
            );
            let names = table.columns.iter().map(|c| c.col.name.as_str());
            return Err(match crate::sql::error::nearest(&name.value, names) {
                Some(near) => error.help(format!("did you mean '{near}'?")),
                None => error,
            });
        };
        let column = table.columns.get_mut(index);
        if let Some(column) = column {
            if !matches!(column.kind, ColumnKind::Physical) {
                return Err(SqlError::plan(
                    name.span,
                    format!(
                        "Could not create a PRIMARY KEY with column '{}' at line {}, column {}.\nA PRIMARY KEY constraint must be declared on physical columns.",
                        name.value, name.span.line, name.span.column
                    ),
                ));
            }
            if inherited.contains(&name.value) && column.col.data_type.nullable {
                return Err(SqlError::plan(
                    name.span,
                    format!(
                        "Invalid primary key '{}'. Column '{}' is nullable.",
                        create.constraint_name().unwrap_or_default(),
                        name.value
                    ),
                ));
            }
            column.col.data_type.nullable = false;
        }
        if table.primary_key.contains(&index) {
            let names: Vec<&str> = create.primary_key.iter().map(|n| n.value.as_str()).collect();
            return Err(SqlError::plan(
                name.span,
                format!(
                    "Invalid primary key 'PK_{}'. A primary key must not contain duplicate columns. Found: [{}]",
                    names.join("_"),
                    name.value
                ),
            ));
        }
        table.primary_key.push(index);
    }
    for partition in &create.partitioned {
        if table.column(&partition.value).is_none() {
            let names: Vec<String> = table.columns.iter().map(|c| format!("'{}'", c.col.name)).collect();
            return Err(SqlError::plan(
                partition.span,
                format!(
                    "Partition column '{}' not defined in the table schema. Available columns: [{}]",
                    partition.value,
                    names.join(", ")
                ),
            ));
        }
    }
    // computed columns see the physical and metadata ones
    let binder = Binder::new(catalog, options);
    let base = scan_scope(&table);
    for (index, expr) in computed {
        let bound = binder.expr(&expr, Env::plain(&base)).map_err(unknown)?;
        let base_rel = Rel {
            node: RelNode::Values(Vec::new()),
            cols: table.columns.iter().map(|c| c.col.clone()).collect(),
        };
        if let Some(column) = table.columns.get_mut(index) {
            column.col = projected(&bound, &base_rel, column.col.name.clone());
        }
    }
    if let Some((path, expr)) = &create.watermark {
        let Some(name) = path.first() else {
            return Err(SqlError::plan(expr.span, "WATERMARK FOR a column"));
        };
        if path.len() > 1 && table.column(&name.value).is_some() {
            let parts: Vec<&str> = path.iter().map(|part| part.value.as_str()).collect();
            let names: Vec<&str> = table.columns.iter().map(|c| c.col.name.as_str()).collect();
            return Err(SqlError::plan(
                name.span,
                format!(
                    "Invalid column name '{}' for rowtime attribute in watermark declaration. Available columns are: [{}]",
                    parts.join("."),
                    names.join(", ")
                ),
            )
            .help("compute it: ts AS row.ts, WATERMARK FOR ts AS …"));
        }
        let Some(index) = table.column(&name.value).filter(|_| path.len() == 1) else {
            return Err(SqlError::plan(
                name.span,
                format!(
                    "The rowtime attribute field '{}' is not defined in the table schema, at line {}, column {}",
                    name.value, name.span.line, name.span.column
                ),
            ));
        };
        let kind = table.columns.get(index).map(|c| c.col.data_type.kind.clone()).unwrap_or(TypeKind::Null);
        if !matches!(kind, TypeKind::Timestamp(0..=3) | TypeKind::TimestampLtz(0..=3)) {
            return Err(SqlError::plan(
                name.span,
                format!("Invalid data type of time field for watermark definition. The field must be of type TIMESTAMP(p) or TIMESTAMP_LTZ(p), the supported precision 'p' is from 0 to 3, but the time field type is {kind}"),
            )
            .help("declare it TIMESTAMP(3), or compute it: ts AS TO_TIMESTAMP_LTZ(millis, 3)"));
        }
        if table.columns.get(index).is_some_and(|c| c.col.time == TimeAttribute::Proctime) {
            return Err(SqlError::plan(
                name.span,
                "A watermark can not be defined for a processing-time attribute.",
            ));
        }
        let cols: Vec<Col> = table.columns.iter().map(|c| c.col.clone()).collect();
        let scope = Scope::of(&Rel { node: RelNode::Values(Vec::new()), cols }, Some(&table.name));
        let bound = binder.expr(expr, Env::plain(&scope)).map_err(unknown)?;
        if !matches!(bound.data_type.kind, TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_)) {
            return Err(SqlError::plan(
                expr.span,
                format!(
                    "Invalid data type of expression for watermark definition. The field must be of type TIMESTAMP(p) or TIMESTAMP_LTZ(p), the supported precision 'p' is from 0 to 3, but the watermark expression type is {}",
                    bound.data_type
                ),
            ));
        }
        if let Some(column) = table.columns.get_mut(index) {
            column.col.time = TimeAttribute::Rowtime;
        }
        table.watermark = Some((index, expr.clone()));
    }
    if table.columns.is_empty() && create.query.is_none() {
        return Err(SqlError::plan(create.name.span, format!("table '{}' has no columns", table.name)));
    }
    Ok(table)
}

/// Makes a catalog entry of CREATE VIEW.
pub fn declare_view(
    name: &ast::Ident,
    columns: &[ast::Ident],
    query: &ast::Query,
    catalog: &Catalog,
    options: &BTreeMap<String, String>,
) -> SqlResult<Table> {
    if columns.is_empty() {
        unique_columns(query)?;
    } else if let Some((_, twice)) =
        columns.iter().enumerate().find(|(i, c)| columns.iter().take(*i).any(|b| b.value == c.value))
    {
        return Err(defined_twice(twice));
    }
    let rel = Binder::new(catalog, options).query(query)?;
    let rel = super::select::renamed(rel, columns, name)?;
    Ok(Table {
        name: name.value.clone(),
        columns: rel
            .cols
            .into_iter()
            .map(|col| Column { col, kind: ColumnKind::Physical, comment: None })
            .collect(),
        watermark: None,
        primary_key: Vec::new(),
        constraint: None,
        distribution: None,
        options: BTreeMap::new(),
        partitioned: Vec::new(),
        comment: None,
        view: Some(Arc::new(query.clone())),
        text: String::new(),
        place: default_place(),
        temporary: false,
        span: name.span,
    })
}

/// A view's columns have names of their own.
fn unique_columns(query: &ast::Query) -> SqlResult<()> {
    let ast::SetExpr::Select(select) = &query.body else { return Ok(()) };
    let mut names: Vec<&str> = Vec::new();
    for (expr, alias) in &select.items {
        let name = match (alias, &expr.kind) {
            (Some(alias), _) => alias,
            (None, ast::ExprKind::Name(parts)) => match parts.last() {
                Some(last) => last,
                None => continue,
            },
            _ => continue,
        };
        if names.contains(&name.value.as_str()) {
            return Err(defined_twice(name));
        }
        names.push(&name.value);
    }
    Ok(())
}

fn defined_twice(name: &ast::Ident) -> Box<SqlError> {
    SqlError::plan(
        name.span,
        format!(
            "A column with the same name `{}` has been defined at line {}, column {}.",
            name.value, name.span.line, name.span.column
        ),
    )
    .help("give it another name: AS …")
}

/// Physical and metadata columns at their places in the table.
fn scan_scope(table: &Table) -> Scope {
    let cols: Vec<Col> = table.columns.iter().map(|c| c.col.clone()).collect();
    let mut scope = Scope::of(&Rel { node: RelNode::Values(Vec::new()), cols }, Some(&table.name));
    scope.cols.retain(|col| {
        table.columns.get(col.index).is_some_and(|c| !matches!(c.kind, ColumnKind::Computed(_)))
    });
    scope
}

impl Binder<'_> {
    /// A table as a relation: scan, computed columns, watermark.
    pub(super) fn table_rel(
        &self,
        table: &Arc<Table>,
        hints: BTreeMap<String, String>,
        span: Span,
    ) -> SqlResult<Rel> {
        let mut table = Arc::clone(table);
        if !hints.is_empty() {
            let mut own = (*table).clone();
            own.options.extend(hints.clone());
            table = Arc::new(own);
        }
        connectors::check_options(&table, false, span)?;
        connectors::check_metadata(&table, false, span)?;
        let scanned = table.scan_columns();
        let mut cols = Vec::new();
        for index in &scanned {
            let Some(column) = table.columns.get(*index) else { continue };
            let data_type = match &column.kind {
                ColumnKind::Metadata { key, .. } => {
                    connectors::metadata_type(&table, key).unwrap_or_else(|| column.col.data_type.clone())
                }
                _ => column.col.data_type.clone(),
            };
            cols.push(Col::new(column.col.name.clone(), data_type));
        }
        let scan = Rel { node: RelNode::Scan(Arc::clone(&table), scanned.clone(), hints), cols };
        // computed columns see declared types: metadata is cast first
        let declared = |index: usize| {
            let place = scanned.iter().position(|i| *i == index)?;
            let column = table.columns.get(index)?;
            let mut expr = cast_to(scan.col(place), &column.col.data_type.kind);
            // the declared nullability holds
            expr.data_type.nullable = column.col.data_type.nullable;
            Some(expr)
        };
        let base = scan_scope(&table);
        let mut exprs = Vec::new();
        let mut out = Vec::new();
        for (index, column) in table.columns.iter().enumerate() {
            let expr = match &column.kind {
                ColumnKind::Computed(expr) => {
                    let bound = self.expr(expr, Env::plain(&base))?;
                    crate::sql::types::rewrite(&bound, &|i, data_type| {
                        declared(i).unwrap_or_else(|| crate::sql::types::column(i, data_type.clone()))
                    })
                }
                _ => match declared(index) {
                    Some(expr) => expr,
                    None => continue,
                },
            };
            let mut col = column.col.clone();
            if col.time == TimeAttribute::Rowtime {
                col.time = TimeAttribute::None;
            }
            exprs.push(expr);
            out.push(col);
        }
        let plain = exprs.len() == scan.cols.len()
            && exprs.iter().enumerate().all(|(i, e)| matches!(e.node, ExprNode::Column(c) if c == i));
        let mut rel = if plain { Rel { cols: out, ..scan } } else { scan.project(exprs, out) };
        if let Some((index, expr)) = &table.watermark {
            let scope = Scope::of(&rel, Some(&table.name));
            let bound = self.expr(expr, Env::plain(&scope))?;
            let mut cols = rel.cols.clone();
            if let Some(col) = cols.get_mut(*index) {
                col.time = TimeAttribute::Rowtime;
            }
            rel = Rel { node: RelNode::Watermark(Box::new(rel), *index, bound), cols };
        }
        Ok(rel)
    }
}

/// In a table's definition Flink calls a column that is not there an unknown identifier.
fn unknown(mut error: Box<SqlError>) -> Box<SqlError> {
    if let Some(name) = error.message.strip_prefix("Column '").and_then(|rest| rest.split('\'').next()) {
        error.message = format!("Unknown identifier '{name}'");
    }
    error
}
