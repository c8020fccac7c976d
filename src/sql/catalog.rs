//! Tables and views of a script.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::engine::types::DataType;

use super::ast;
use super::error::{Span, SqlError, SqlResult, nearest};
use super::rel::{Col, TimeAttribute};

/// A catalog and a database.
pub type Place = (String, String);

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
    /// The key's name.
    pub constraint: Option<String>,
    /// DISTRIBUTED BY, as written.
    pub distribution: Option<String>,
    /// WITH options.
    pub options: BTreeMap<String, String>,
    /// PARTITIONED BY.
    pub partitioned: Vec<String>,
    /// COMMENT.
    pub comment: Option<String>,
    /// A view's query.
    pub view: Option<Arc<ast::Query>>,
    /// A view's query as written.
    pub text: String,
    /// Where it belongs.
    pub place: Place,
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
    /// others even where no query reads them: the lines of `csv`, and the columns of a record's key. Or has to look at
    /// it though nobody reads it.
    pub fn is_positional(&self, index: usize) -> bool {
        let option = |name: &str| self.options.get(name).map(String::as_str);
        let Some(column) = self.columns.get(index) else { return false };
        if !matches!(column.kind, ColumnKind::Physical) {
            return false;
        }
        // What a generator makes of a column ends the job, and a field that is missing fails it, read or not.
        let whole = ["json.fail-on-missing-field", "value.json.fail-on-missing-field"];
        let watched = self.connector().ends_with("kafka")
            && whole.iter().any(|name| option(name).is_some_and(|v| v.eq_ignore_ascii_case("true")));
        if self.connector() == "datagen" || watched {
            return true;
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

/// The place of what names none.
pub fn default_place() -> Place {
    ("default_catalog".to_owned(), "default_database".to_owned())
}

/// All tables and views by name; temporary ones hide others of their name.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    tables: BTreeMap<String, Arc<Table>>,
    temporary: BTreeMap<String, Arc<Table>>,
}

/// What DROP is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Removal {
    /// VIEW.
    pub view: bool,
    /// TEMPORARY.
    pub temporary: bool,
    /// IF EXISTS.
    pub if_exists: bool,
}

impl Catalog {
    /// The table or view with this name.
    pub fn find(&self, name: &ast::Ident) -> Option<Arc<Table>> {
        self.temporary.get(&name.value).or_else(|| self.tables.get(&name.value)).map(Arc::clone)
    }

    /// The table or view with this name.
    ///
    /// # Errors
    /// When there is none; the nearest name is the remedy.
    pub fn table(&self, name: &ast::Ident) -> SqlResult<Arc<Table>> {
        self.find(name).ok_or_else(|| {
            // a name in another case is looked for, and not taken
            let near = self.tables().find(|table| table.name.eq_ignore_ascii_case(&name.value));
            let near = near.map_or_else(String::new, |table| {
                format!(" within 'default_catalog.default_database'; did you mean '{}'?", table.name)
            });
            let message = format!("Object '{}' not found{near}", name.value);
            self.suggest(name, SqlError::plan(name.span, message))
        })
    }

    /// The table that ALTER TABLE changes: no view, and no temporary one.
    ///
    /// # Errors
    /// When there is none.
    pub fn permanent(&self, name: &ast::Ident, view: bool) -> SqlResult<Arc<Table>> {
        let (verb, kind, other) = if view { ("VIEW", "View", "table") } else { ("TABLE", "Table", "view") };
        match self.tables.get(&name.value) {
            Some(table) if table.view.is_some() != view => {
                Err(SqlError::plan(name.span, format!("ALTER {verb} for a {other} is not allowed")))
            }
            Some(table) if !self.is_temporary(&name.value) => Ok(Arc::clone(table)),
            _ => {
                let path = format!("`default_catalog`.`default_database`.`{}`", name.value);
                let message =
                    format!("{kind} {path} doesn't exist or is a temporary {}.", kind.to_lowercase());
                Err(self.suggest(name, SqlError::plan(name.span, message)))
            }
        }
    }

    /// The error with the nearest name as its remedy.
    pub fn suggest(&self, name: &ast::Ident, error: Box<SqlError>) -> Box<SqlError> {
        let names = || self.tables().map(|table| table.name.as_str());
        match nearest(&name.value, names()) {
            Some(near) if near != name.value => error.help(format!("did you mean '{near}'?")),
            Some(_) => error,
            None if self.tables.is_empty() && self.temporary.is_empty() => {
                error.help("no table has been created yet: CREATE TABLE comes first")
            }
            None => {
                let names: Vec<&str> = names().take(12).collect();
                error.help(format!("known tables: {}", names.join(", ")))
            }
        }
    }

    /// Whether the name is that of a temporary table or view.
    pub fn is_temporary(&self, name: &str) -> bool {
        self.temporary.contains_key(name)
    }

    fn layer(&mut self, temporary: bool) -> &mut BTreeMap<String, Arc<Table>> {
        if temporary { &mut self.temporary } else { &mut self.tables }
    }

    /// Whether a table like this could be added: the name is free among those of its kind.
    pub fn contains(&self, name: &str, temporary: bool) -> bool {
        if temporary { &self.temporary } else { &self.tables }.contains_key(name)
    }

    /// Adds a table; a name that is taken is an error unless `if_not_exists`.
    pub fn add(&mut self, table: Table, if_not_exists: bool) -> SqlResult<()> {
        if self.contains(&table.name, table.temporary) {
            if if_not_exists {
                return Ok(());
            }
            let name = &table.name;
            let message = if table.temporary {
                format!("Temporary table '`default_catalog`.`default_database`.`{name}`' already exists")
            } else {
                format!(
                    "Could not execute CreateTable in path `default_catalog`.`default_database`.`{name}`: Table (or view) default_database.{name} already exists in Catalog default_catalog."
                )
            };
            return Err(
                SqlError::plan(table.span, message).help("DROP it first, or CREATE TABLE IF NOT EXISTS")
            );
        }
        self.replace(table);
        Ok(())
    }

    /// Replaces a table.
    pub fn replace(&mut self, table: Table) {
        self.layer(table.temporary).insert(table.name.clone(), Arc::new(table));
    }

    /// Takes a table out by its name.
    pub fn take(&mut self, name: &str, temporary: bool) {
        self.layer(temporary).remove(name);
    }

    /// Takes out the tables of a database.
    pub fn clear(&mut self, gone: impl Fn(&Place) -> bool) {
        self.tables.retain(|_, table| !gone(&table.place));
    }

    /// Removes a table or view.
    ///
    /// # Errors
    /// There is none, or a temporary one hides it.
    pub fn remove(&mut self, name: &ast::Ident, what: Removal) -> SqlResult<()> {
        let kind = if what.view { "view" } else { "table" };
        let is = |table: Option<&Arc<Table>>| table.is_some_and(|table| table.view.is_some() == what.view);
        let path = format!("default_catalog.default_database.{}", name.value);
        if what.temporary {
            if is(self.temporary.get(&name.value)) {
                self.temporary.remove(&name.value);
                return Ok(());
            }
            if what.if_exists {
                return Ok(());
            }
            let message = format!("Temporary table or view with identifier '{path}' does not exist.");
            return Err(self.suggest(name, SqlError::plan(name.span, message)));
        }
        if is(self.temporary.get(&name.value)) {
            // Flink wants the word TEMPORARY here
            return Err(SqlError::plan(
                name.span,
                format!(
                    "Temporary {kind} with identifier '`default_catalog`.`default_database`.`{}`' exists. Drop it first before removing the permanent {kind}.",
                    name.value
                ),
            )
            .help(format!("DROP TEMPORARY {}", kind.to_uppercase())));
        }
        let found = self.tables.get(&name.value);
        if is(found) {
            self.tables.remove(&name.value);
            return Ok(());
        }
        if what.if_exists {
            return Ok(());
        }
        let title = if what.view { "View" } else { "Table" };
        let message = format!("{title} with identifier '{path}' does not exist.");
        let error = SqlError::plan(name.span, message);
        Err(match (found.is_some(), what.view) {
            (true, true) => error.help("it is a table: DROP TABLE"),
            (true, false) => error.help("it is a view: DROP VIEW"),
            _ => self.suggest(name, error),
        })
    }

    /// All that are not hidden, by name.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        let mut all: BTreeMap<&str, &Arc<Table>> = BTreeMap::new();
        for (name, table) in self.tables.iter().chain(&self.temporary) {
            all.insert(name, table);
        }
        all.into_values()
    }
}
