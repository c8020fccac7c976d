//! Tables and views of a script.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::engine::types::DataType;

use super::ast;
use super::error::{Span, SqlError, SqlResult, nearest};
use super::rel::{Col, TimeAttribute};

/// A table or a view.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// Name.
    pub name: String,
    /// Columns as declared; of a view, as derived.
    pub columns: Vec<Column>,
    /// Event-time column and its watermark.
    pub watermark: Option<(usize, ast::Expr)>,
    /// Primary key columns.
    pub primary_key: Vec<usize>,
    /// WITH options.
    pub options: BTreeMap<String, String>,
    /// PARTITIONED BY.
    pub partitioned: Vec<String>,
    /// COMMENT.
    pub comment: Option<String>,
    /// A view's query.
    pub view: Option<Arc<ast::Query>>,
    /// CREATE TEMPORARY.
    pub temporary: bool,
    /// Where it was made.
    pub span: Span,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// Name, type, time attribute.
    pub col: Col,
    /// Kind.
    pub kind: ColumnKind,
    /// COMMENT.
    pub comment: Option<String>,
}

/// Kinds of column.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnKind {
    /// In the data.
    Physical,
    /// From the connector or format.
    Metadata {
        /// Its key.
        key: String,
        /// Not written.
        virtual_: bool,
    },
    /// Computed from others.
    Computed(ast::Expr),
}

impl Table {
    /// Columns that an INSERT writes: physical and persisted metadata ones.
    pub fn sink_columns(&self) -> Vec<usize> {
        self.indexes(|kind| match kind {
            ColumnKind::Physical => true,
            ColumnKind::Metadata { virtual_, .. } => !virtual_,
            ColumnKind::Computed(_) => false,
        })
    }

    /// Columns that a scan reads: physical and metadata ones.
    pub fn scan_columns(&self) -> Vec<usize> {
        self.indexes(|kind| !matches!(kind, ColumnKind::Computed(_)))
    }

    fn indexes(&self, keep: impl Fn(&ColumnKind) -> bool) -> Vec<usize> {
        self.columns.iter().enumerate().filter(|(_, c)| keep(&c.kind)).map(|(i, _)| i).collect()
    }

    /// The column with this name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.col.name == name)
    }

    /// `connector` option.
    pub fn connector(&self) -> &str {
        self.options.get("connector").map_or("", String::as_str)
    }

    /// Whether the reader of records finds the column by its place among all columns, so that it has to know the
    /// others even where no query reads them: the lines of `csv`, and the columns of a record's key.
    pub fn is_positional(&self, index: usize) -> bool {
        let option = |name: &str| self.options.get(name).map(String::as_str);
        let Some(column) = self.columns.get(index) else { return false };
        if !matches!(column.kind, ColumnKind::Physical) {
            return false;
        }
        let by_place = |format: &str| matches!(format, "csv" | "raw" | "avro");
        let in_key =
            option("key.fields").is_some_and(|names| names.split(';').any(|n| n.trim() == column.col.name));
        self.format().is_some_and(by_place) || in_key
    }

    /// Value format, under either of its names.
    pub fn format(&self) -> Option<&str> {
        self.options.get("format").or_else(|| self.options.get("value.format")).map(String::as_str)
    }

    /// `name(column TYPE, …)` with resolved types, as the goldens' `expected.schema` writes it.
    pub fn schema_line(&self) -> String {
        let mut out = format!("{}(", self.name);
        for (i, column) in self.columns.iter().enumerate() {
            let _ = write!(
                out,
                "{}{} {}",
                if i > 0 { ", " } else { "" },
                column.col.name,
                type_text(&column.col)
            );
        }
        out.push(')');
        out
    }
}

/// A column's type with its time attribute.
pub fn type_text(col: &Col) -> String {
    let mark = match col.time {
        TimeAttribute::None => "",
        TimeAttribute::Rowtime => " *ROWTIME*",
        TimeAttribute::Proctime => " *PROCTIME*",
    };
    format!("{}{mark}", col.data_type)
}

/// Nullability made explicit for keys.
pub fn not_null(data_type: &DataType) -> DataType {
    data_type.clone().with_nullable(false)
}

/// All tables and views by name.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    tables: BTreeMap<String, Arc<Table>>,
}

impl Catalog {
    /// The table or view with this name.
    ///
    /// # Errors
    /// When there is none; the nearest name is the remedy.
    pub fn table(&self, name: &ast::Ident) -> SqlResult<Arc<Table>> {
        if let Some(table) = self.tables.get(&name.value) {
            return Ok(Arc::clone(table));
        }
        let error = SqlError::plan(name.span, format!("Object '{}' not found", name.value));
        Err(match nearest(&name.value, self.tables.keys().map(String::as_str)) {
            Some(near) => error.help(format!("did you mean '{near}'?")),
            None if self.tables.is_empty() => {
                error.help("no table has been created yet: CREATE TABLE comes first")
            }
            None => {
                let names: Vec<&str> = self.tables.keys().map(String::as_str).take(12).collect();
                error.help(format!("known tables: {}", names.join(", ")))
            }
        })
    }

    /// Whether the name is that of a temporary table or view.
    pub fn is_temporary(&self, name: &str) -> bool {
        self.tables.get(name).is_some_and(|table| table.temporary)
    }

    /// Whether the name is taken.
    pub fn contains(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    /// Adds a table; a name that is taken is an error unless `if_not_exists`.
    pub fn add(&mut self, table: Table, if_not_exists: bool) -> SqlResult<()> {
        if self.tables.contains_key(&table.name) {
            if if_not_exists {
                return Ok(());
            }
            return Err(SqlError::plan(
                table.span,
                format!("Could not execute CreateTable in path `default_catalog`.`default_database`.`{0}`: Table (or view) default_catalog.default_database.{0} already exists in Catalog.", table.name),
            )
            .help("DROP it first, or CREATE TABLE IF NOT EXISTS"));
        }
        self.tables.insert(table.name.clone(), Arc::new(table));
        Ok(())
    }

    /// Replaces a table.
    pub fn replace(&mut self, table: Table) {
        self.tables.insert(table.name.clone(), Arc::new(table));
    }

    /// Removes a table or view.
    pub fn remove(&mut self, name: &ast::Ident, view: bool, if_exists: bool) -> SqlResult<()> {
        match self.tables.get(&name.value) {
            Some(table) if table.view.is_some() == view => {
                self.tables.remove(&name.value);
                Ok(())
            }
            _ if if_exists => Ok(()),
            other => {
                let what = if view { "View" } else { "Table" };
                let error = SqlError::plan(
                    name.span,
                    format!(
                        "{what} with identifier 'default_catalog.default_database.{}' does not exist.",
                        name.value
                    ),
                );
                Err(match (other.is_some(), view) {
                    (true, true) => error.help("it is a table: DROP TABLE"),
                    (true, false) => error.help("it is a view: DROP VIEW"),
                    _ => match nearest(&name.value, self.tables.keys().map(String::as_str)) {
                        Some(near) => error.help(format!("did you mean '{near}'?")),
                        None => error,
                    },
                })
            }
        }
    }

    /// All, by name.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.values()
    }
}
