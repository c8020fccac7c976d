//! Definitions of tables, and their changes.

use crate::engine::types::DataType;
use crate::sql::error::Span;

use super::{Expr, Ident, Query};

/// CREATE TABLE.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTable {
    /// Name.
    pub name: Ident,
    /// `[catalog.]database` before the name.
    pub database: Vec<Ident>,
    /// TEMPORARY.
    pub temporary: bool,
    /// IF NOT EXISTS.
    pub if_not_exists: bool,
    /// Columns.
    pub columns: Vec<ColumnDef>,
    /// WATERMARK FOR column AS expression.
    pub watermark: Option<(Vec<Ident>, Expr)>,
    /// PRIMARY KEY.
    pub primary_key: Vec<Ident>,
    /// CONSTRAINT name of the key.
    pub constraint: Option<String>,
    /// Columns of CREATE TABLE (a, b) AS query: the query's, in another order.
    pub order: Vec<Ident>,
    /// DISTRIBUTED BY, as SHOW CREATE TABLE writes it.
    pub distribution: Option<String>,
    /// COMMENT.
    pub comment: Option<String>,
    /// PARTITIONED BY.
    pub partitioned: Vec<Ident>,
    /// WITH options, in order.
    pub options: Vec<(String, String, Span)>,
    /// LIKE table (options…).
    pub like: Option<(Ident, Vec<String>)>,
    /// AS query.
    pub query: Option<Box<Query>>,
}

impl CreateTable {
    /// A table of this name without anything.
    pub fn empty(name: Ident) -> Self {
        Self {
            name,
            database: Vec::new(),
            temporary: false,
            if_not_exists: false,
            columns: Vec::new(),
            watermark: None,
            primary_key: Vec::new(),
            constraint: None,
            order: Vec::new(),
            distribution: None,
            comment: None,
            partitioned: Vec::new(),
            options: Vec::new(),
            like: None,
            query: None,
        }
    }
}

/// A change of a table's columns, key or watermark.
#[derive(Clone, Debug, PartialEq)]
pub enum AlterAction {
    /// ADD column (true: MODIFY), and where it stands.
    Column(ColumnDef, bool, Option<Place>),
    /// DROP columns.
    DropColumn(Ident),
    /// RENAME column TO name.
    RenameColumn(Ident, Ident),
    /// ADD or MODIFY PRIMARY KEY.
    Key {
        /// Its columns.
        columns: Vec<Ident>,
        /// CONSTRAINT name.
        name: Option<String>,
        /// MODIFY.
        modify: bool,
    },
    /// DROP PRIMARY KEY.
    DropKey,
    /// DROP CONSTRAINT name.
    DropConstraint(Ident),
    /// ADD or MODIFY WATERMARK.
    Watermark {
        /// The column.
        path: Vec<Ident>,
        /// Its watermark.
        expr: Expr,
        /// MODIFY.
        modify: bool,
    },
    /// DROP WATERMARK.
    DropWatermark,
}

/// Where a column is put.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// FIRST.
    First,
    /// AFTER column.
    After(Ident),
}

/// A column of CREATE TABLE.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnDef {
    /// Name.
    pub name: Ident,
    /// What it is.
    pub kind: ColumnKind,
    /// COMMENT.
    pub comment: Option<String>,
}

/// Kinds of column.
#[derive(Clone, Debug, PartialEq)]
pub enum ColumnKind {
    /// In the data.
    Physical(DataType),
    /// METADATA [FROM key] [VIRTUAL].
    Metadata {
        /// Declared type.
        data_type: DataType,
        /// The connector's key; the column's name by default.
        key: Option<String>,
        /// Not written by sinks.
        virtual_: bool,
    },
    /// `AS expression`.
    Computed(Expr),
}
