//! A script, from text to plan.

use std::collections::BTreeMap;

use crate::engine::expr::Expr;
use crate::engine::plan::{Op, Plan};
use crate::engine::types::DataType;

use super::ast::{self, Statement, StatementKind};
use super::bind::{Binder, declare_table, declare_view};
use super::catalog::{Catalog, Column, ColumnKind, Table, type_text};
use super::error::{SqlError, SqlResult};
use super::explain;
use super::namespaces::Namespaces;
use super::parser::parse_script;
use super::planner::{Emitter, plan_insert, warnings};
use super::rel::Col;

/// The name of the table that a bare SELECT prints to.
pub const SELECT_SINK: &str = "*anonymous*";

/// What to compile with.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// Options in force before the script's first SET.
    pub options: BTreeMap<String, String>,
}

/// A compiled script.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// All INSERTs, and bare SELECTs as print sinks, as one plan; sources are read once.
    pub plan: Plan,
    /// Tables and views at the end of the script.
    pub tables: Vec<TableInfo>,
    /// What EXPLAIN, SHOW, DESCRIBE and SET print, in order.
    pub outputs: Vec<String>,
    /// `SET 'pipeline.name'`.
    pub pipeline_name: Option<String>,
}

/// A table or view with its resolved types.
#[derive(Clone, Debug)]
pub struct TableInfo {
    /// Name.
    pub name: String,
    /// A view.
    pub view: bool,
    /// `name(column TYPE, …)`, time attributes marked.
    pub schema: String,
    /// Names of the primary key's columns.
    pub primary_key: Vec<String>,
    /// WITH options.
    pub options: BTreeMap<String, String>,
}

/// The state of a session: what statements before have left.
#[derive(Debug, Default)]
pub struct Session {
    catalog: Catalog,
    options: BTreeMap<String, String>,
    initial: BTreeMap<String, String>,
    emitter: Emitter,
    outputs: Vec<String>,
    namespaces: Namespaces,
    ended: bool,
}

/// Compiles a script.
///
/// # Errors
/// The first statement that Flink (or, in what we accept more, Millstream) would refuse, with its place.
pub fn compile(script: &str, options: &CompileOptions) -> SqlResult<Script> {
    on_a_deep_stack(|| {
        let statements = parse_script(script)?;
        let mut session = Session {
            options: options.options.clone(),
            initial: options.options.clone(),
            ..Session::default()
        };
        for statement in &statements {
            session.run(statement)?;
        }
        Ok(session.finish())
    })
}

/// The type of a scalar expression over a table's columns, and the bound expression.
///
/// # Errors
/// As [`compile`].
pub fn compile_expression(
    text: &str,
    columns: &[(String, DataType)],
    options: &BTreeMap<String, String>,
) -> SqlResult<Expr> {
    on_a_deep_stack(|| {
        let ast = super::parser::parse_expression(text)?;
        let catalog = Catalog::default();
        let binder = Binder::new(&catalog, options);
        let cols =
            columns.iter().map(|(name, data_type)| Col::new(name.clone(), data_type.clone())).collect();
        let rel = super::rel::Rel { node: super::rel::RelNode::Values(Vec::new()), cols };
        binder.scalar_expression(&ast, &rel)
    })
}

/// Deeply nested texts need more stack than a worker thread may have.
fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> SqlResult<T> + Send) -> SqlResult<T> {
    std::thread::scope(|scope| {
        match std::thread::Builder::new()
            .name("sql".to_owned())
            .stack_size(128 << 20)
            .spawn_scoped(scope, work)
        {
            Ok(handle) => handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => Err(SqlError::plan(
                super::error::Span::default(),
                format!("no thread for the planner: {error}"),
            )),
        }
    })
}

impl Session {
    /// Runs one statement.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn run(&mut self, statement: &Statement) -> SqlResult<()> {
        if self.ended {
            return Ok(());
        }
        match &statement.kind {
            StatementKind::CreateTable(create) => self.create_table(create, statement),
            StatementKind::CreateView { name, columns, temporary, if_not_exists, query } => {
                let mut table = declare_view(name, columns, query, &self.catalog, &self.options)?;
                table.temporary = *temporary;
                self.catalog.add(table, *if_not_exists)
            }
            StatementKind::Drop { name, view, temporary, if_exists } => {
                if *temporary && !*if_exists && !self.catalog.is_temporary(&name.value) {
                    return Err(SqlError::plan(
                        name.span,
                        format!(
                            "Temporary table or view with identifier 'default_catalog.default_database.{}' does not exist.",
                            name.value
                        ),
                    ));
                }
                self.catalog.remove(name, *view, *if_exists)
            }
            StatementKind::Namespace { verb, catalog, name, lenient } => {
                self.namespaces.run(verb, *catalog, name, *lenient)
            }
            StatementKind::ReplaceTable(create) => {
                self.catalog.remove(&create.name, false, true)?;
                self.create_table(create, statement)
            }
            StatementKind::AlterView { name, query } => {
                let view = declare_view(name, &[], query, &self.catalog, &self.options)?;
                self.catalog.remove(name, true, false)?;
                self.catalog.add(view, false)
            }
            StatementKind::AlterTable { name, set, reset, rename, actions } => {
                let mut table = (*self.catalog.table(name)?).clone();
                table.options.extend(set.iter().cloned());
                for key in reset {
                    table.options.remove(key);
                }
                if !actions.is_empty() {
                    let create = super::alter::altered(&table, name, actions)?;
                    table = declare_table(&create, &self.catalog, &self.options)?;
                }
                if let Some(new) = rename {
                    self.catalog.remove(name, table.view.is_some(), false)?;
                    table.name.clone_from(&new.value);
                    return self.catalog.add(table, false);
                }
                self.catalog.replace(table);
                Ok(())
            }
            StatementKind::Insert(insert) => self.insert(insert),
            StatementKind::StatementSet(inserts) => inserts.iter().try_for_each(|insert| self.insert(insert)),
            StatementKind::Query(query) => self.select(query, statement),
            StatementKind::Set(None) => {
                let lines: Vec<String> = self.options.iter().map(|(k, v)| format!("'{k}' = '{v}'")).collect();
                self.outputs.push(lines.join("\n"));
                Ok(())
            }
            StatementKind::Set(Some((key, value))) => {
                self.options.insert(key.clone(), value.clone());
                Ok(())
            }
            StatementKind::Reset(None) => {
                self.options.clone_from(&self.initial);
                Ok(())
            }
            StatementKind::Reset(Some(key)) => {
                self.options.remove(key);
                Ok(())
            }
            StatementKind::Explain { changelog, statement } => self.explain(*changelog, statement),
            StatementKind::Show(what, name) => self.show(what, name.as_ref()),
            StatementKind::Describe(name) => {
                let table = self.catalog.table(name)?;
                self.outputs.push(describe(&table));
                Ok(())
            }
            StatementKind::Ignored(what) => {
                if what == "QUIT" || what == "EXIT" {
                    self.ended = true;
                }
                Ok(())
            }
        }
    }

    fn create_table(&mut self, create: &ast::CreateTable, statement: &Statement) -> SqlResult<()> {
        let mut table = declare_table(create, &self.catalog, &self.options)?;
        if let Some(query) = &create.query {
            let rel = Binder::new(&self.catalog, &self.options).query(query)?;
            for col in rel.cols {
                if table.column(&col.name).is_none() {
                    table.columns.push(Column {
                        col: col.materialized(),
                        kind: ColumnKind::Physical,
                        comment: None,
                    });
                }
            }
        }
        self.catalog.add(table, create.if_not_exists)?;
        match &create.query {
            Some(query) => self.insert(&ast::Insert {
                table: create.name.clone(),
                columns: Vec::new(),
                hints: Vec::new(),
                query: (**query).clone(),
                conflict: None,
                span: statement.span,
            }),
            None => Ok(()),
        }
    }

    fn insert(&mut self, insert: &ast::Insert) -> SqlResult<()> {
        plan_insert(insert, &self.catalog, &self.options, &mut self.emitter)?;
        Ok(())
    }

    /// A bare SELECT prints its changes.
    fn select(&mut self, query: &ast::Query, statement: &Statement) -> SqlResult<()> {
        let rel = Binder::new(&self.catalog, &self.options).query(query)?;
        let columns = rel
            .cols
            .into_iter()
            .map(|col| {
                let mut col = col.materialized();
                col.data_type.nullable = true;
                Column { col, kind: ColumnKind::Physical, comment: None }
            })
            .collect();
        let name = ast::Ident { value: SELECT_SINK.to_owned(), span: statement.span };
        let table = Table {
            name: SELECT_SINK.to_owned(),
            columns,
            watermark: None,
            primary_key: Vec::new(),
            options: BTreeMap::from([("connector".to_owned(), "print".to_owned())]),
            partitioned: Vec::new(),
            comment: None,
            view: None,
            temporary: true,
            span: statement.span,
        };
        let mut catalog = self.catalog.clone();
        catalog.replace(table);
        let insert = ast::Insert {
            table: name,
            columns: Vec::new(),
            hints: Vec::new(),
            query: query.clone(),
            conflict: None,
            span: statement.span,
        };
        plan_insert(&insert, &catalog, &self.options, &mut self.emitter)?;
        Ok(())
    }

    fn explain(&mut self, changelog: bool, statement: &Statement) -> SqlResult<()> {
        // planned on its own, so that nothing runs
        let mut own =
            Session { catalog: self.catalog.clone(), options: self.options.clone(), ..Session::default() };
        own.run(statement)?;
        let mut plan = own.emitter.plan;
        plan.warnings.extend(warnings(&plan, &self.options));
        self.outputs.push(explain::explain(&plan, changelog));
        Ok(())
    }

    fn show(&mut self, what: &str, name: Option<&ast::Ident>) -> SqlResult<()> {
        let text = match (what, name) {
            ("TABLES", _) => self.names(|_| true),
            ("VIEWS", _) => self.names(|t| t.view.is_some()),
            ("FUNCTIONS" | "USER FUNCTIONS", _) => {
                let mut names: Vec<&str> = super::functions::names()
                    .chain(super::functions::aggregates::NAMES.iter().copied())
                    .collect();
                names.sort_unstable();
                names.join("\n")
            }
            ("CATALOGS" | "CURRENT CATALOG", _) => "default_catalog".to_owned(),
            ("DATABASES" | "CURRENT DATABASE", _) => "default_database".to_owned(),
            ("CREATE", Some(name)) => create_text(&*self.catalog.table(name)?),
            _ => String::new(),
        };
        self.outputs.push(text);
        Ok(())
    }

    fn names(&self, keep: impl Fn(&Table) -> bool) -> String {
        let names: Vec<&str> = self.catalog.tables().filter(|t| keep(t)).map(|t| t.name.as_str()).collect();
        names.join("\n")
    }

    /// The script's plan and tables.
    pub fn finish(self) -> Script {
        let mut plan = self.emitter.plan;
        plan.options.clone_from(&self.options);
        plan.warnings.extend(warnings(&plan, &self.options));
        plan.warnings.sort();
        plan.warnings.dedup();
        let tables = self
            .catalog
            .tables()
            .map(|t| TableInfo {
                name: t.name.clone(),
                view: t.view.is_some(),
                schema: t.schema_line(),
                primary_key: t
                    .primary_key
                    .iter()
                    .filter_map(|i| t.columns.get(*i))
                    .map(|c| c.col.name.clone())
                    .collect(),
                options: t.options.clone(),
            })
            .collect();
        let pipeline_name = self.options.get("pipeline.name").cloned();
        Script { plan, tables, outputs: self.outputs, pipeline_name }
    }
}

impl Script {
    /// Whether there is anything to run.
    pub fn has_sinks(&self) -> bool {
        self.plan.nodes.iter().any(|n| matches!(n.op, Op::Sink(_)))
    }
}

fn describe(table: &Table) -> String {
    let mut rows = vec![[
        "name".to_owned(),
        "type".to_owned(),
        "null".to_owned(),
        "key".to_owned(),
        "extras".to_owned(),
        "watermark".to_owned(),
    ]];
    for (i, column) in table.columns.iter().enumerate() {
        let extras = match &column.kind {
            ColumnKind::Physical => String::new(),
            ColumnKind::Metadata { key, virtual_ } => {
                format!("METADATA FROM '{key}'{}", if *virtual_ { " VIRTUAL" } else { "" })
            }
            ColumnKind::Computed(_) => "AS …".to_owned(),
        };
        let nullable = if column.col.data_type.nullable { "TRUE" } else { "FALSE" };
        let key = if table.primary_key.contains(&i) {
            let names: Vec<&str> = table
                .primary_key
                .iter()
                .filter_map(|k| table.columns.get(*k))
                .map(|c| c.col.name.as_str())
                .collect();
            format!("PRI({})", names.join(", "))
        } else {
            String::new()
        };
        let mark = if table.watermark.as_ref().is_some_and(|(w, _)| *w == i) { "yes" } else { "" };
        let mut shown = column.col.clone();
        shown.data_type.nullable = true;
        rows.push([
            column.col.name.clone(),
            type_text(&shown),
            nullable.to_owned(),
            key,
            extras,
            mark.to_owned(),
        ]);
    }
    let widths: Vec<usize> = (0..6)
        .map(|c| rows.iter().filter_map(|r| r.get(c)).map(|t| t.chars().count()).max().unwrap_or(0))
        .collect();
    let lines: Vec<String> = rows
        .iter()
        .map(|row| {
            row.iter()
                .zip(&widths)
                .map(|(t, w)| format!("{t:<w$}"))
                .collect::<Vec<_>>()
                .join(" | ")
                .trim_end()
                .to_owned()
        })
        .collect();
    lines.join("\n")
}

fn create_text(table: &Table) -> String {
    if table.view.is_some() {
        return format!("CREATE VIEW `{}` -- {}", table.name, table.schema_line());
    }
    let mut lines: Vec<String> = table
        .columns
        .iter()
        .map(|c| match &c.kind {
            ColumnKind::Physical => format!("  `{}` {}", c.col.name, c.col.data_type),
            ColumnKind::Metadata { key, virtual_ } => {
                format!(
                    "  `{}` {} METADATA FROM '{key}'{}",
                    c.col.name,
                    c.col.data_type,
                    if *virtual_ { " VIRTUAL" } else { "" }
                )
            }
            ColumnKind::Computed(_) => format!("  `{}` AS … -- {}", c.col.name, c.col.data_type),
        })
        .collect();
    if !table.primary_key.is_empty() {
        let names: Vec<String> = table
            .primary_key
            .iter()
            .filter_map(|k| table.columns.get(*k))
            .map(|c| format!("`{}`", c.col.name))
            .collect();
        lines.push(format!("  PRIMARY KEY ({}) NOT ENFORCED", names.join(", ")));
    }
    let secret = |key: &str| key.contains("password") || key.contains("jaas") || key.contains("secret");
    let shown =
        |key: &str, value: &str| if secret(key) { "******".to_owned() } else { without_password(value) };
    let options: Vec<String> =
        table.options.iter().map(|(k, v)| format!("  '{k}' = '{}'", shown(k, v))).collect();
    format!("CREATE TABLE `{}` (\n{}\n) WITH (\n{}\n)", table.name, lines.join(",\n"), options.join(",\n"))
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
