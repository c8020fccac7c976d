//! A script, from text to plan.

use std::collections::BTreeMap;

use crate::engine::expr::Expr;
use crate::engine::plan::{Op, Plan};
use crate::engine::types::DataType;

use super::ast::{self, Statement, StatementKind};
use super::bind::{Binder, declare_table, declare_view};
use super::catalog::{Catalog, Column, ColumnKind, Place, Removal, Table, default_place};
use super::error::{SqlError, SqlResult};
use super::explain;
use super::listing;
use super::namespaces::{Change, Namespaces};
use super::parser::parse_script;
use super::planner::{Emitter, plan_insert, warnings};
use super::rel::{Col, TimeAttribute};
use super::settings;

/// The name of the table that a bare SELECT prints to.
pub const SELECT_SINK: &str = "*anonymous*";

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
    /// The text has no statement: blanks and comments at most.
    pub is_empty: bool,
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
    emitter: Emitter,
    outputs: Vec<String>,
    namespaces: Namespaces,
    ended: bool,
}

/// Compiles a script.
///
/// # Errors
/// The first statement that Flink (or, in what we accept more, Millstream) would refuse, with its place.
pub fn compile(script: &str) -> SqlResult<Script> {
    on_a_deep_stack(|| {
        let statements = parse_script(script)?;
        let mut session = Session::default();
        for statement in &statements {
            session.run(statement)?;
        }
        Ok(Script { is_empty: statements.is_empty(), ..session.finish() })
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
            StatementKind::CreateView {
                name,
                database,
                columns,
                temporary,
                if_not_exists,
                comment,
                query,
                text,
            } => {
                if *if_not_exists && self.catalog.contains(&name.value, *temporary) {
                    return Ok(());
                }
                let mut table = declare_view(name, columns, query, &self.catalog, &self.options)?;
                table.temporary = *temporary;
                table.comment.clone_from(comment);
                table.text.clone_from(text);
                self.add(table, database, *if_not_exists)
            }
            StatementKind::Drop { name, view, temporary, if_exists } => {
                let what = Removal { view: *view, temporary: *temporary, if_exists: *if_exists };
                self.catalog.remove(name, what)
            }
            StatementKind::Namespace { verb, catalog, name, lenient, cascade, options } => {
                if *verb == "CREATE" && *catalog {
                    catalog_type(name, options)?;
                }
                let tables = &self.catalog;
                let full = |place: &Place| tables.tables().any(|table| table.place == *place);
                let (catalog, lenient, cascade) = (*catalog, *lenient, *cascade);
                self.namespaces.run(&Change { verb, catalog, name, lenient, cascade, full: &full })?;
                if *verb == "DROP" && catalog {
                    self.catalog.clear(|(of, _)| *of == name.value);
                } else if *verb == "DROP" && cascade {
                    let (here, _) = self.namespaces.current();
                    self.catalog.clear(|(of, database)| of == here && *database == name.value);
                }
                Ok(())
            }
            StatementKind::ReplaceTable(create) => {
                let strict = crate::engine::options::strict(&self.options);
                if strict
                    && create.query.is_none()
                    && self.catalog.contains(&create.name.value, create.temporary)
                {
                    return Err(SqlError::plan(
                        create.name.span,
                        format!(
                            "Table (or view) default_database.{} already exists in Catalog default_catalog.",
                            create.name.value
                        ),
                    )
                    .help("CREATE OR REPLACE TABLE is followed by AS and a query; or DROP the table first"));
                }
                self.catalog.take(&create.name.value, create.temporary);
                self.create_table(create, statement)
            }
            StatementKind::AlterView { name, query, text } => {
                let old = self.catalog.permanent(name, true)?;
                let mut view = declare_view(name, &[], query, &self.catalog, &self.options)?;
                view.text.clone_from(text);
                view.comment.clone_from(&old.comment);
                view.place.clone_from(&old.place);
                self.catalog.replace(view);
                Ok(())
            }
            StatementKind::AlterTable { name, set, reset, rename, actions, view, if_exists } => {
                if *if_exists && !self.catalog.contains(&name.value, false) {
                    return Ok(());
                }
                let mut table = (*self.catalog.permanent(name, *view)?).clone();
                table.options.extend(set.iter().cloned());
                for key in reset {
                    table.options.remove(key);
                }
                if !actions.is_empty() {
                    let create = super::alter::altered(&table, name, actions)?;
                    let place = table.place;
                    table = declare_table(&create, &self.catalog, &self.options)?;
                    table.place = place;
                }
                if let Some(new) = rename {
                    table.name.clone_from(&new.value);
                    if self.catalog.contains(&new.value, false) {
                        return Err(SqlError::plan(
                            new.span,
                            format!(
                                "Table (or view) default_database.{} already exists in Catalog default_catalog.",
                                new.value
                            ),
                        ));
                    }
                    self.catalog.take(&name.value, false);
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
                if self.options.insert(key.clone(), value.clone()).as_ref() != Some(value) {
                    self.changed(key);
                }
                Ok(())
            }
            StatementKind::Reset(None) => {
                for key in std::mem::take(&mut self.options).into_keys() {
                    self.changed(&key);
                }
                Ok(())
            }
            StatementKind::Reset(Some(key)) => {
                if self.options.remove(key).is_some() {
                    self.changed(key);
                }
                Ok(())
            }
            StatementKind::Explain { details, statement } => self.explain(*details, statement),
            StatementKind::Show(show) => {
                self.outputs.push(listing::show(show, &self.catalog, &self.namespaces)?);
                Ok(())
            }
            StatementKind::Describe(name) => {
                self.outputs.push(listing::describe(name, &self.catalog, None)?);
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

    /// Says of a key that counts for the whole job that it was changed behind an INSERT.
    fn changed(&mut self, key: &str) {
        let inserts = self.emitter.plan.nodes.iter().any(|node| matches!(node.op, Op::Sink(_)));
        if inserts && settings::is_of_job(key) {
            self.emitter.plan.warnings.push(format!(
                "'{key}' is changed behind an INSERT: one job runs them all, and the last value counts for each"
            ));
        }
    }

    /// What statements have printed since the last call.
    pub fn take_outputs(&mut self) -> Vec<String> {
        std::mem::take(&mut self.outputs)
    }

    fn create_table(&mut self, create: &ast::CreateTable, statement: &Statement) -> SqlResult<()> {
        let there = create.if_not_exists && self.catalog.contains(&create.name.value, create.temporary);
        let mut written = Vec::new();
        let table = match &create.query {
            Some(query) => {
                let rel = Binder::new(&self.catalog, &self.options).query(query)?;
                let (merged, filled) = super::bind::with_query(create, &rel)?;
                if !there {
                    written = filled;
                }
                let mut table = declare_table(&merged, &self.catalog, &self.options)?;
                for column in &mut table.columns {
                    // an event time stays one
                    let of = rel.cols.iter().find(|col| col.name == column.col.name);
                    if of.is_some_and(|col| {
                        col.time == TimeAttribute::Rowtime && col.data_type == column.col.data_type
                    }) {
                        column.col.time = TimeAttribute::Rowtime;
                    }
                }
                table
            }
            None => declare_table(create, &self.catalog, &self.options)?,
        };
        self.add(table, &create.database, create.if_not_exists)?;
        match &create.query {
            Some(query) => self.insert(&ast::Insert {
                database: Vec::new(),
                table: create.name.clone(),
                columns: written,
                hints: Vec::new(),
                query: (**query).clone(),
                conflict: None,
                span: statement.span,
            }),
            None => Ok(()),
        }
    }

    /// Adds a table to the database that is named, else to the current one.
    fn add(&mut self, mut table: Table, database: &[ast::Ident], if_not_exists: bool) -> SqlResult<()> {
        table.place = self.namespaces.place(Some(database))?;
        self.catalog.add(table, if_not_exists)
    }

    fn insert(&mut self, insert: &ast::Insert) -> SqlResult<()> {
        if !insert.database.is_empty() {
            let place = self.namespaces.place(Some(&insert.database)).ok();
            let elsewhere = |table: &Table| !table.temporary && Some(&table.place) != place.as_ref();
            if place.is_none() || self.catalog.find(&insert.table).is_some_and(|table| elsewhere(&table)) {
                let (catalog, _) = self.namespaces.current();
                let path: Vec<&str> = insert.database.iter().map(|part| part.value.as_str()).collect();
                let path = match path.as_slice() {
                    [database] => format!("`{catalog}`.`{database}`"),
                    all => format!("`{}`", all.join("`.`")),
                };
                return Err(SqlError::plan(
                    insert.table.span,
                    format!(
                        "Cannot find table '{path}.`{}`' in any of the catalogs [{}], nor as a temporary table.",
                        insert.table.value,
                        self.namespaces.catalogs().join(", ")
                    ),
                ));
            }
        }
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
            constraint: None,
            distribution: None,
            options: BTreeMap::from([("connector".to_owned(), "print".to_owned())]),
            partitioned: Vec::new(),
            comment: None,
            view: None,
            text: String::new(),
            place: default_place(),
            temporary: true,
            span: statement.span,
        };
        let mut catalog = self.catalog.clone();
        catalog.replace(table);
        let insert = ast::Insert {
            database: Vec::new(),
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

    fn explain(&mut self, details: ast::Details, statement: &Statement) -> SqlResult<()> {
        // planned on its own, so that nothing runs
        let mut own =
            Session { catalog: self.catalog.clone(), options: self.options.clone(), ..Session::default() };
        own.run(statement)?;
        let mut plan = own.emitter.plan;
        plan.warnings.extend(warnings(&plan, &self.options));
        self.outputs.push(explain::explain(&plan, details));
        Ok(())
    }

    /// The script's plan and tables.
    pub fn finish(self) -> Script {
        let mut plan = self.emitter.plan;
        plan.options.clone_from(&self.options);
        plan.warnings.extend(warnings(&plan, &self.options));
        plan.warnings.extend(settings::warnings(&self.options));
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
        Script { plan, tables, outputs: self.outputs, pipeline_name, is_empty: false }
    }
}

/// A catalog lives as long as its script.
fn catalog_type(name: &ast::Ident, options: &[(String, String)]) -> SqlResult<()> {
    let message = match options.iter().find(|(key, _)| key == "type") {
        Some((_, kind)) if kind == "generic_in_memory" => return Ok(()),
        Some((_, kind)) => format!(
            "Could not find any factory for identifier '{kind}' that implements 'org.apache.flink.table.factories.CatalogFactory' in the classpath.\nAvailable factory identifiers are: generic_in_memory"
        ),
        None => "Catalog options do not contain an option key 'type' for discovering a catalog.".to_owned(),
    };
    let help = match options.iter().find(|(key, _)| key == "type").map(|(_, kind)| kind.as_str()) {
        Some("jdbc") => {
            "there is no catalog of a database's tables: declare each one that you use, CREATE TABLE t (…) WITH \
             ('connector'='jdbc', 'url'='jdbc:postgresql://…', 'table-name'='…')"
        }
        _ => {
            "tables are declared in the script: CREATE TABLE t (…) WITH ('connector'='…', …); a catalog of names only \
             is made by WITH ('type'='generic_in_memory')"
        }
    };
    Err(SqlError::plan(name.span, message).help(help))
}

impl Script {
    /// Whether there is anything to run.
    pub fn has_sinks(&self) -> bool {
        self.plan.nodes.iter().any(|n| matches!(n.op, Op::Sink(_)))
    }
}
