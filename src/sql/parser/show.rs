//! SHOW, DESCRIBE and EXPLAIN.

use crate::sql::ast::{Details, Pattern, Show, ShowKind, Statement, StatementKind};
use crate::sql::error::{SqlError, SqlResult};

use super::Parser;

impl Parser {
    /// From `SHOW` on.
    pub(super) fn show(&mut self) -> SqlResult<StatementKind> {
        let start = self.span();
        self.at += 1;
        let kind = [
            (&["TABLES"] as &[&str], ShowKind::Tables),
            (&["VIEWS"], ShowKind::Views),
            (&["MATERIALIZED", "TABLES"], ShowKind::Nothing("table name")),
            (&["FUNCTIONS"], ShowKind::Functions),
            (&["USER", "FUNCTIONS"], ShowKind::Nothing("function name")),
            (&["PROCEDURES"], ShowKind::Nothing("procedure name")),
            (&["MODELS"], ShowKind::Nothing("model name")),
            (&["CATALOGS"], ShowKind::Catalogs),
            (&["CURRENT", "CATALOG"], ShowKind::CurrentCatalog),
            (&["DATABASES"], ShowKind::Databases),
            (&["CURRENT", "DATABASE"], ShowKind::CurrentDatabase),
            (&["JOBS"], ShowKind::Nothing("job id")),
            (&["JARS"], ShowKind::Nothing("jars")),
            (&["MODULES"], ShowKind::Modules(false)),
            (&["FULL", "MODULES"], ShowKind::Modules(true)),
            (&["PARTITIONS"], ShowKind::Partitions),
            (&["CREATE", "TABLE"], ShowKind::CreateTable),
            (&["CREATE", "VIEW"], ShowKind::CreateView),
            (&["COLUMNS"], ShowKind::Columns),
        ]
        .into_iter()
        .find_map(|(words, kind)| self.eat_words(words).then_some(kind));
        let Some(kind) = kind else {
            if self.is_word("CREATE") {
                self.at += 1;
                return Err(self.unexpected(&["TABLE", "VIEW"]));
            }
            return Err(SqlError::parse(
                start,
                format!(
                    "Incorrect syntax near the keyword 'SHOW' at line {}, column {}. Was expecting: SHOW TABLES, VIEWS, COLUMNS, CREATE TABLE, CREATE VIEW, FUNCTIONS, CATALOGS, DATABASES, …",
                    start.line, start.column
                ),
            ));
        };
        let named = matches!(kind, ShowKind::CreateTable | ShowKind::CreateView | ShowKind::Partitions);
        let from = if named || self.eat_word("FROM") || self.eat_word("IN") {
            Some(self.path()?)
        } else if kind == ShowKind::Columns {
            return Err(self.unexpected(&["FROM", "IN"]));
        } else {
            None
        };
        let negated = self.eat_word("NOT");
        let like = if negated || self.is_word("LIKE") || self.is_word("ILIKE") {
            // tables are looked for by the very letters, Flink knows no ILIKE for them
            let lenient = matches!(kind, ShowKind::Functions) && self.eat_word("ILIKE");
            if !lenient {
                self.expect_word("LIKE")?;
            }
            Some(Pattern { negated, text: self.string()?, any_case: lenient })
        } else {
            None
        };
        Ok(StatementKind::Show(Box::new(Show { kind, from, like })))
    }

    /// After `DESCRIBE` or `DESC`.
    pub(super) fn describe(&mut self) -> SqlResult<StatementKind> {
        let words_of_others = ["CATALOG", "DATABASE", "FUNCTION", "JOB"];
        if let Some(what) = words_of_others.into_iter().find(|word| self.is_word(word))
            && !self.is_at(1, ";")
            && self.peek_at(1) != &crate::sql::dialect::Token::End
        {
            return Err(SqlError::plan(self.span(), format!("DESCRIBE {what} is not supported"))
                .help("tables and views are described: DESCRIBE name"));
        }
        self.eat_word("EXTENDED");
        Ok(StatementKind::Describe(self.table_name()?))
    }

    /// After `EXPLAIN`.
    pub(super) fn explain(&mut self) -> SqlResult<StatementKind> {
        let mut details = Details::default();
        if !self.eat_words(&["PLAN", "FOR"]) {
            loop {
                let detail = if self.eat_word("CHANGELOG_MODE") {
                    &mut details.changelog
                } else if self.eat_word("ESTIMATED_COST") {
                    &mut details.cost
                } else if self.eat_word("JSON_EXECUTION_PLAN") {
                    &mut details.json
                } else if self.eat_word("PLAN_ADVICE") {
                    &mut details.advice
                } else {
                    break;
                };
                if std::mem::replace(detail, true) {
                    return Err(SqlError::parse(self.before(), "Duplicate EXPLAIN DETAIL is not allowed."));
                }
                if !self.eat(",") {
                    break;
                }
            }
        }
        let span = self.span();
        self.eat_word("EXECUTE");
        if self.eat_words(&["STATEMENT", "SET"]) {
            self.expect_word("BEGIN")?;
            let kind = self.statement_set()?;
            return Ok(StatementKind::Explain { details, statement: Box::new(Statement { kind, span }) });
        }
        let statement = self.statement()?;
        match &statement.kind {
            StatementKind::Query(_) | StatementKind::Insert(_) => {}
            StatementKind::CreateTable(create) | StatementKind::ReplaceTable(create)
                if create.query.is_some() => {}
            StatementKind::CreateTable(_) | StatementKind::ReplaceTable(_) => {
                return Err(SqlError::parse(
                    span,
                    "Unsupported CREATE OR REPLACE statement for EXPLAIN. The statement must define a query using the AS clause (i.e. CTAS/RTAS statements).",
                ));
            }
            _ => {
                return Err(SqlError::parse(
                    span,
                    format!(
                        "Incorrect syntax at line {}, column {}: EXPLAIN takes a query, an INSERT or a statement set",
                        span.line, span.column
                    ),
                ));
            }
        }
        Ok(StatementKind::Explain { details, statement: Box::new(statement) })
    }
}
