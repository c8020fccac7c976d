//! Names to columns, texts to types: the syntax tree becomes a logical plan.

pub(super) mod aggregate;
mod aggregate_rel;
mod correlate;
pub(super) mod expr;
mod from;
mod items;
mod lateral;
mod like;
mod literal;
mod membership;
mod over;
mod select;
mod subquery;
mod table;
mod visit;

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::engine::expr::Expr;
use crate::engine::types::{DataType, TypeKind};

use super::ast;
use super::catalog::Catalog;
use super::error::{SqlError, SqlResult, nearest};
use super::rel::{Rel, TimeAttribute};

pub(in crate::sql) use items::check_hint;
pub use like::with_query;
pub use table::{declare_table, declare_view};

/// Columns from here on stand for columns of the query around (correlated subqueries), from twice here on for those of
/// the one around that, and so on.
pub(super) const OUTER: usize = 1 << 40;

/// Binds queries against a catalog.
pub struct Binder<'a> {
    /// Tables and views.
    pub catalog: &'a Catalog,
    /// SET options.
    pub options: &'a BTreeMap<String, String>,
    /// Common table expressions in scope, innermost last.
    ctes: RefCell<Vec<(String, Rel)>>,
    /// Views being expanded, against circles.
    depth: RefCell<usize>,
    /// What the hints `STATE_TTL` of the queries around say: milliseconds by table, innermost last.
    ttls: RefCell<Vec<BTreeMap<String, i64>>>,
    /// Column aliases seen, so that warnings can name them.
    pub warnings: RefCell<Vec<String>>,
}

/// A column that an expression can name.
#[derive(Clone, Debug)]
pub(super) struct ScopeCol {
    pub table: Option<String>,
    pub name: String,
    pub index: usize,
    pub data_type: DataType,
    pub time: TimeAttribute,
    /// Hidden from `*` and from unqualified names (the right column of USING).
    pub hidden: bool,
}

/// The columns of FROM.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    pub cols: Vec<ScopeCol>,
    /// The columns of the queries around, innermost first.
    pub around: Vec<Vec<ScopeCol>>,
}

/// What an expression may refer to.
#[derive(Clone, Copy)]
pub(super) struct Env<'e> {
    pub scope: &'e Scope,
    pub scalars: &'e [(usize, Expr)],
    pub aggregates: Option<&'e RefCell<aggregate::Aggregates>>,
    pub over: Option<&'e RefCell<over::Overs>>,
    pub windows: &'e [(ast::Ident, ast::WindowSpec)],
    /// What is being bound, for messages.
    pub clause: &'static str,
}

impl<'e> Env<'e> {
    /// Columns only.
    pub fn plain(scope: &'e Scope) -> Self {
        Self { scope, scalars: &[], aggregates: None, over: None, windows: &[], clause: "this" }
    }
}

impl Scope {
    /// A scope of all columns of a relation under one name.
    pub fn of(rel: &Rel, table: Option<&str>) -> Self {
        let cols = rel
            .cols
            .iter()
            .enumerate()
            .map(|(index, col)| ScopeCol {
                table: table.map(str::to_owned),
                name: col.name.clone(),
                index,
                data_type: col.data_type.clone(),
                time: col.time,
                hidden: false,
            })
            .collect();
        Self { cols, around: Vec::new() }
    }

    /// Takes types and positions anew from the relation (after a join that pads).
    fn refresh(&mut self, rel: &Rel) {
        for col in &mut self.cols {
            if let Some(now) = rel.cols.get(col.index) {
                col.data_type = now.data_type.clone();
                col.time = now.time;
            }
        }
    }

    fn tables(&self) -> impl Iterator<Item = &str> {
        self.cols.iter().filter_map(|col| col.table.as_deref())
    }

    /// The column of `[table.]name`; `None` when there is none, an error when there are two.
    pub fn find(&self, table: Option<&str>, name: &ast::Ident) -> SqlResult<Option<&ScopeCol>> {
        let mut found = self.cols.iter().filter(|col| {
            col.name == name.value && table.map_or(!col.hidden, |table| col.table.as_deref() == Some(table))
        });
        let first = found.next();
        if let (Some(one), Some(other)) = (first, found.next()) {
            let error = SqlError::plan(name.span, format!("Column '{}' is ambiguous", name.value));
            let of = |col: &ScopeCol| format!("{}.{}", col.table.as_deref().unwrap_or("t"), name.value);
            return Err(error.help(format!("say of which table: {} or {}", of(one), of(other))));
        }
        Ok(first)
    }

    /// The error for a column that is not there.
    pub fn missing(&self, table: Option<&ast::Ident>, name: &ast::Ident) -> Box<SqlError> {
        match table {
            Some(table) if !self.tables().any(|t| t == table.value) => {
                let error = SqlError::plan(table.span, format!("Table '{}' not found", table.value));
                match nearest(&table.value, self.tables()) {
                    Some(near) => error.help(format!("did you mean '{near}'?")),
                    None => error,
                }
            }
            _ => {
                let wanted = table.map(|t| t.value.as_str());
                let place = match wanted {
                    Some(table) => format!("in table '{table}'"),
                    None => "in any table".to_owned(),
                };
                let names: Vec<&str> = self
                    .cols
                    .iter()
                    .filter(|col| wanted.is_none() || col.table.as_deref() == wanted)
                    .map(|col| col.name.as_str())
                    .collect();
                let error = SqlError::plan(name.span, format!("Column '{}' not found {place}", name.value));
                match nearest(&name.value, names.iter().copied()) {
                    Some(near) => error.help(format!("did you mean '{near}'?")),
                    None => error.help(format!(
                        "known columns: {}",
                        names.iter().take(16).copied().collect::<Vec<_>>().join(", ")
                    )),
                }
            }
        }
    }
}

impl<'a> Binder<'a> {
    /// A binder over this catalog and these options.
    pub fn new(catalog: &'a Catalog, options: &'a BTreeMap<String, String>) -> Self {
        Self {
            catalog,
            options,
            ctes: RefCell::new(Vec::new()),
            depth: RefCell::new(0),
            ttls: RefCell::new(Vec::new()),
            warnings: RefCell::new(Vec::new()),
        }
    }
}

impl Binder<'_> {
    /// Whether what Flink refuses is refused though it could be run.
    pub(super) fn strict(&self) -> bool {
        crate::engine::options::strict(self.options)
    }

    /// With `millstream.compat.strict`, refuses NULL without a type where Flink wants one.
    fn typed(&self, expr: &Expr, span: super::error::Span) -> SqlResult<()> {
        if self.strict() && expr.data_type.kind == TypeKind::Null {
            return Err(SqlError::plan(span, "Illegal use of 'NULL'").help("CAST(NULL AS type) gives it one"));
        }
        Ok(())
    }

    /// Binds one expression over a relation's columns.
    pub fn scalar_expression(&self, ast: &ast::Expr, rel: &Rel) -> SqlResult<crate::engine::expr::Expr> {
        let scope = Scope::of(rel, Some("t"));
        self.expr(ast, Env::plain(&scope))
    }
}
