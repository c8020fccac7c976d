//! Statements.

use crate::engine::plan::OnConflict;
use crate::sql::ast::{Insert, Statement, StatementKind};
use crate::sql::dialect::{Placed, Token};
use crate::sql::error::{SqlError, SqlResult};

use super::Parser;

/// Words that a statement begins with.
const FIRST_WORDS: [&str; 14] = [
    "SELECT", "WITH", "CREATE", "DROP", "ALTER", "INSERT", "EXECUTE", "BEGIN", "SET", "RESET", "EXPLAIN",
    "SHOW", "DESCRIBE", "USE",
];

/// Whether a statement begins with this word.
pub(super) fn begins(word: &str) -> bool {
    FIRST_WORDS.iter().any(|first| first.eq_ignore_ascii_case(word))
}

impl Parser {
    /// One statement, without its semicolon.
    pub(super) fn statement(&mut self) -> SqlResult<Statement> {
        let span = self.span();
        let kind = self.deeper(Self::statement_kind)?;
        Ok(Statement { kind, span })
    }

    fn statement_kind(&mut self) -> SqlResult<StatementKind> {
        let word = match self.peek() {
            Token::Word { value, quoted: false } => value.to_uppercase(),
            Token::Symbol("(") => "SELECT".to_owned(),
            _ => return Err(self.unexpected(&["a statement"])),
        };
        match word.as_str() {
            "SELECT" | "WITH" | "VALUES" | "TABLE" => Ok(StatementKind::Query(self.boxed_query()?)),
            "CREATE" => {
                self.at += 1;
                self.create()
            }
            "DROP" => {
                self.at += 1;
                let temporary = self.eat_word("TEMPORARY");
                let system = temporary && self.eat_word("SYSTEM");
                let view = self.eat_word("VIEW");
                if !view && !self.eat_word("TABLE") {
                    if self.eat_word("FUNCTION") {
                        let if_exists = self.eat_words(&["IF", "EXISTS"]);
                        let name = self.table_name()?;
                        if !if_exists {
                            let name_ = &name.value;
                            let message = match (temporary, system) {
                                (true, true) => format!(
                                    "Could not drop temporary system function. A function named '{name_}' doesn't exist."
                                ),
                                (true, false) => format!(
                                    "Temporary catalog function `default_catalog`.`default_database`.`{name_}` doesn't exist"
                                ),
                                _ => format!(
                                    "Function default_database.{name_} does not exist in Catalog default_catalog."
                                ),
                            };
                            return Err(SqlError::plan(name.span, message));
                        }
                        return self.skip_statement("DROP");
                    }
                    if self.is_word("DATABASE") || self.is_word("CATALOG") {
                        return self.namespace("DROP");
                    }
                    return Err(self.unexpected(&["TABLE", "VIEW"]));
                }
                let if_exists = self.eat_words(&["IF", "EXISTS"]);
                Ok(StatementKind::Drop { name: self.table_name()?, view, temporary, if_exists })
            }
            "ALTER" => {
                self.at += 1;
                self.alter()
            }
            "INSERT" => Ok(StatementKind::Insert(Box::new(self.insert()?))),
            "EXECUTE" => {
                self.at += 1;
                if self.eat_words(&["STATEMENT", "SET"]) {
                    self.expect_word("BEGIN")?;
                    if self.is_word("END") {
                        return Err(self.unexpected(&["INSERT"]));
                    }
                    return self.statement_set();
                }
                if self.is_word("PLAN") {
                    return Err(SqlError::plan(
                        self.span(),
                        "EXECUTE PLAN is not supported: compiled plans are Flink's own",
                    )
                    .help("run the script itself"));
                }
                // EXECUTE INSERT … / EXECUTE SELECT …
                self.statement_kind()
            }
            "BEGIN" => {
                self.at += 1;
                self.expect_word("STATEMENT")?;
                self.expect_word("SET")?;
                self.expect(";")?;
                self.statement_set()
            }
            "SET" => {
                self.at += 1;
                if self.done() || self.is(";") {
                    return Ok(StatementKind::Set(None));
                }
                let from = self.at;
                let key = self.option_key()?;
                self.expect("=")?;
                let unquoted = !matches!(self.tokens.get(from), Some(Placed { token: Token::Str(_), .. }));
                if unquoted && !matches!(self.peek_at(1), Token::End | Token::Symbol(";")) {
                    let error = self.unexpected(&["a string in single quotes"]);
                    let from = self.at;
                    self.skip_statement("SET")?;
                    let value = self.text_since(from);
                    return Err(error.help(format!("quote both: SET '{key}' = '{value}'")));
                }
                let value = match self.next() {
                    Token::Str(text) | Token::Number(text) => text,
                    Token::Word { value, .. } => value,
                    _ => {
                        self.at -= 1;
                        return Err(self.unexpected(&["a string in single quotes"]));
                    }
                };
                Ok(StatementKind::Set(Some((key, value))))
            }
            "RESET" => {
                self.at += 1;
                if self.done() || self.is(";") {
                    return Ok(StatementKind::Reset(None));
                }
                Ok(StatementKind::Reset(Some(self.option_key()?)))
            }
            "EXPLAIN" => {
                self.at += 1;
                self.explain()
            }
            "SHOW" => self.show(),
            "DESCRIBE" | "DESC" => {
                self.at += 1;
                self.describe()
            }
            "UPDATE" | "DELETE" | "TRUNCATE" => Err(SqlError::plan(
                self.span(),
                format!("{word} statement is not supported for streaming mode now."),
            )
            .help("change the rows in the database; the stream follows")),
            "COMPILE" | "CALL" | "STOP" => Err(SqlError::plan(
                self.span(),
                format!("{word} is not supported: it belongs to a Flink cluster"),
            )),
            "USE" | "LOAD" | "UNLOAD" if self.is_word_at(1, "MODULES") || self.is_word_at(1, "MODULE") => {
                self.module()
            }
            "USE" => {
                self.at += 1;
                self.namespace("USE")
            }
            "ANALYZE" => {
                Err(SqlError::plan(self.span(), "ANALYZE TABLE is not supported for streaming mode now"))
            }
            "ADD" | "REMOVE" | "QUIT" | "EXIT" | "CLEAR" | "HELP" => self.skip_statement(&word),
            _ => {
                let error = self.unexpected(&["a statement"]);
                Err(match crate::sql::error::nearest(&word, FIRST_WORDS) {
                    Some(near) => error.help(format!("did you mean {near}?")),
                    None => error,
                })
            }
        }
    }

    /// USE MODULES, LOAD MODULE, UNLOAD MODULE: there is the core module only.
    fn module(&mut self) -> SqlResult<StatementKind> {
        let load = self.is_word("LOAD");
        let list = self.is_word("USE");
        self.at += 2;
        let names = if list { self.list(Self::ident)? } else { vec![self.ident()?] };
        if let Some(other) = names.iter().find(|name| name.value != "core") {
            let name = &other.value;
            return Err(SqlError::plan(
                other.span,
                if load {
                    format!(
                        "Could not find any factory for identifier '{name}' that implements 'org.apache.flink.table.factories.ModuleFactory' in the classpath.\nAvailable factory identifiers are: core"
                    )
                } else {
                    format!("No module with name '{name}' exists")
                },
            )
            .help("Flink's own functions are there without a module"));
        }
        self.skip_statement("MODULES")
    }

    /// A statement that changes nothing here.
    pub(super) fn skip_statement(&mut self, what: &str) -> SqlResult<StatementKind> {
        while !self.done() && !self.is(";") {
            self.at += 1;
        }
        Ok(StatementKind::Ignored(what.to_owned()))
    }

    /// `'key'`, or old style `key.with.dots`.
    fn option_key(&mut self) -> SqlResult<String> {
        if let Token::Str(_) = self.peek() {
            return self.string();
        }
        let mut key = String::new();
        loop {
            match self.peek() {
                Token::Word { value, .. } => key.push_str(value),
                Token::Number(text) => key.push_str(text),
                Token::Symbol(s @ ("." | "-")) => key.push_str(s),
                _ => break,
            }
            self.at += 1;
        }
        if key.is_empty() { Err(self.unexpected(&["an option's key in single quotes"])) } else { Ok(key) }
    }

    fn create(&mut self) -> SqlResult<StatementKind> {
        let span = self.span();
        let replace = self.eat_words(&["OR", "REPLACE"]);
        if self.is_word("MATERIALIZED") {
            return Err(SqlError::parse(span, "CREATE MATERIALIZED TABLE is not supported")
                .help("CREATE TABLE, and an INSERT INTO that runs all the time"));
        }
        if self.is_word("MODEL") {
            return Err(SqlError::parse(span, "CREATE MODEL is not supported"));
        }
        let temporary = self.eat_word("TEMPORARY");
        self.eat_word("SYSTEM");
        if self.eat_word("TABLE") {
            let table = self.create_table(temporary)?;
            if replace {
                return Ok(StatementKind::ReplaceTable(Box::new(table)));
            }
            return Ok(StatementKind::CreateTable(Box::new(table)));
        }
        // Flink parses CREATE OR REPLACE VIEW, and replaces nothing
        if self.eat_word("VIEW") {
            let if_not_exists = self.eat_words(&["IF", "NOT", "EXISTS"]);
            let (database, name) = self.placed_name()?;
            let columns = if self.is("(") { self.in_parens(Self::ident)? } else { Vec::new() };
            let comment = if self.eat_word("COMMENT") { Some(self.string()?) } else { None };
            self.expect_word("AS")?;
            let from = self.at;
            let query = self.boxed_query()?;
            let text = self.text_since(from);
            return Ok(StatementKind::CreateView {
                name,
                database,
                columns,
                temporary,
                if_not_exists,
                comment,
                query,
                text,
            });
        }
        if self.is_word("FUNCTION") {
            return Err(SqlError::parse(
                self.span(),
                "CREATE FUNCTION needs a JVM: user-defined functions are not supported",
            )
            .help("write the function as an expression, or keep that job on Flink"));
        }
        if self.is_word("DATABASE") || self.is_word("CATALOG") {
            return self.namespace("CREATE");
        }
        Err(self.unexpected(&["TABLE", "VIEW", "TEMPORARY"]))
    }

    /// CREATE, DROP or USE of a database or catalog.
    fn namespace(&mut self, verb: &'static str) -> SqlResult<StatementKind> {
        let catalog = self.eat_word("CATALOG");
        if !catalog {
            self.eat_word("DATABASE");
        }
        let lenient = self.eat_words(&["IF", "NOT", "EXISTS"]) || self.eat_words(&["IF", "EXISTS"]);
        let name = self.table_name()?;
        if self.eat_word("COMMENT") {
            self.string()?;
        }
        let mut options = Vec::new();
        if self.eat_word("WITH") {
            options = self.options()?.into_iter().map(|(key, value, _)| (key, value)).collect();
        }
        // a catalog is dropped with all it holds
        let cascade = !catalog && self.eat_word("CASCADE");
        if !cascade && !catalog {
            self.eat_word("RESTRICT");
        }
        Ok(StatementKind::Namespace { verb, catalog, name, lenient, cascade, options })
    }

    pub(super) fn statement_set(&mut self) -> SqlResult<StatementKind> {
        let mut inserts = Vec::new();
        loop {
            while self.eat(";") {}
            if self.eat_word("END") {
                return Ok(StatementKind::StatementSet(inserts));
            }
            if !self.is_word("INSERT") {
                return Err(self.unexpected(&["INSERT", "END"]));
            }
            inserts.push(self.insert()?);
            if !self.is(";") && !self.is_word("END") {
                return Err(self.unexpected(&["\";\""]));
            }
        }
    }

    fn insert(&mut self) -> SqlResult<Insert> {
        let span = self.span();
        self.expect_word("INSERT")?;
        if self.is_word("OVERWRITE") {
            let span = self.span();
            self.at += 1;
            let table = self.table_name()?;
            return Err(SqlError::plan(
                span,
                format!(
                    "INSERT OVERWRITE requires that the underlying DynamicTableSink of table 'default_catalog.default_database.{}' implements the SupportsOverwrite interface.",
                    table.value
                ),
            )
            .help("INSERT OVERWRITE is for bounded jobs; a stream is inserted INTO"));
        }
        self.expect_word("INTO")?;
        let (database, table) = self.placed_name()?;
        let hints = self.hints()?;
        if self.eat_word("PARTITION") {
            return Err(SqlError::parse(self.before(), "INSERT … PARTITION is not supported")
                .help("give the partition's columns in the query"));
        }
        let columns = if self.is("(")
            && !self.is_word_at(1, "SELECT")
            && !self.is_word_at(1, "WITH")
            && !self.is_at(1, "(")
        {
            self.in_parens(Self::ident)?
        } else {
            Vec::new()
        };
        let query = self.query()?;
        let mut conflict = None;
        if self.eat_words(&["ON", "CONFLICT"]) {
            self.expect_word("DO")?;
            conflict = Some(if self.eat_word("DEDUPLICATE") {
                OnConflict::Deduplicate
            } else if self.eat_word("NOTHING") {
                OnConflict::Nothing
            } else if self.eat_word("ERROR") {
                OnConflict::Error
            } else {
                return Err(self.unexpected(&["DEDUPLICATE", "NOTHING", "ERROR"]));
            });
        }
        Ok(Insert { database, table, columns, hints, query, conflict, span })
    }
}
