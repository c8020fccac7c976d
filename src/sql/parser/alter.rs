//! ALTER TABLE, ALTER VIEW.

use crate::sql::ast::{AlterAction, CreateTable, Ident, Place, StatementKind};
use crate::sql::error::{SqlError, SqlResult};

use super::Parser;

impl Parser {
    /// After `ALTER`.
    pub(super) fn alter(&mut self) -> SqlResult<StatementKind> {
        if self.eat_word("VIEW") {
            let name = self.table_name()?;
            if self.eat_words(&["RENAME", "TO"]) {
                let rename = Some(self.table_name()?);
                let (set, reset, actions) = (Vec::new(), Vec::new(), Vec::new());
                let (view, if_exists) = (true, false);
                return Ok(StatementKind::AlterTable { name, set, reset, rename, actions, view, if_exists });
            }
            self.expect_word("AS")?;
            let from = self.at;
            let query = self.boxed_query()?;
            let text = self.text_since(from);
            return Ok(StatementKind::AlterView { name, query, text });
        }
        if self.eat_word("FUNCTION") {
            let if_exists = self.eat_words(&["IF", "EXISTS"]);
            let name = self.table_name()?;
            if if_exists {
                return self.skip_statement("ALTER");
            }
            let message = format!(
                "Function default_database.{} does not exist in Catalog default_catalog.",
                name.value
            );
            return Err(SqlError::plan(name.span, message));
        }
        for what in ["DATABASE", "CATALOG"] {
            if self.eat_word(what) {
                return self.skip_statement("ALTER");
            }
        }
        if self.is_word("MATERIALIZED") {
            return Err(SqlError::parse(self.span(), "materialized tables are not supported")
                .help("a table with an INSERT INTO that runs all the time is one"));
        }
        self.expect_word("TABLE")?;
        let if_exists = self.eat_words(&["IF", "EXISTS"]);
        let name = self.table_name()?;
        let (mut set, mut reset, mut rename, mut actions) = (Vec::new(), Vec::new(), None, Vec::new());
        if self.eat_word("SET") {
            set = self.options()?.into_iter().map(|(k, v, _)| (k, v)).collect();
        } else if self.eat_word("RESET") {
            let span = self.span();
            if self.is_at(1, ")") {
                return Err(SqlError::plan(span, "ALTER TABLE RESET does not support empty key"));
            }
            reset = self.in_parens(Self::string)?;
            if reset.iter().any(|key| key == "connector") {
                return Err(SqlError::plan(span, "ALTER TABLE RESET does not support changing 'connector'"));
            }
        } else if self.eat_words(&["RENAME", "TO"]) {
            rename = Some(self.table_name()?);
        } else if self.eat_word("RENAME") {
            let from = self.ident()?;
            self.expect_word("TO")?;
            actions.push(AlterAction::RenameColumn(from, self.ident()?));
        } else if self.eat_words(&["ADD", "PARTITION"]) {
            return Err(not_partitioned(&name));
        } else if self.eat_word("ADD") {
            actions = self.elements(&name, false)?;
        } else if self.eat_word("MODIFY") {
            actions = self.elements(&name, true)?;
        } else if self.eat_word("DROP") {
            if self.eat_words(&["PRIMARY", "KEY"]) {
                actions.push(AlterAction::DropKey);
            } else if self.eat_word("CONSTRAINT") {
                actions.push(AlterAction::DropConstraint(self.ident()?));
            } else if self.eat_word("WATERMARK") {
                actions.push(AlterAction::DropWatermark);
            } else if self.eat_word("DISTRIBUTION") {
                // how rows are spread is no matter here
            } else if self.eat_word("PARTITION") {
                return Err(not_partitioned(&name));
            } else {
                let columns = if self.is("(") { self.in_parens(Self::ident)? } else { vec![self.ident()?] };
                actions.extend(columns.into_iter().map(AlterAction::DropColumn));
            }
        } else {
            return Err(self.unexpected(&["SET", "RESET", "RENAME", "ADD", "MODIFY", "DROP"]));
        }
        Ok(StatementKind::AlterTable { name, set, reset, rename, actions, view: false, if_exists })
    }

    /// What follows ADD or MODIFY: an element, or several in parentheses.
    fn elements(&mut self, name: &Ident, modify: bool) -> SqlResult<Vec<AlterAction>> {
        let mut table = CreateTable::empty(name.clone());
        let mut places: Vec<Option<Place>> = Vec::new();
        let several = self.eat("(");
        loop {
            let before = table.columns.len();
            if self.eat_word("DISTRIBUTION") {
                self.expect_word("BY")?;
                let _ = self.eat_word("HASH") || self.eat_word("RANGE");
                self.in_parens(Self::ident)?;
                if self.eat_word("INTO") {
                    let _: u32 = self.unsigned()?;
                    self.expect_word("BUCKETS")?;
                }
            } else {
                self.table_element(&mut table)?;
            }
            if table.columns.len() > before {
                places.push(if self.eat_word("FIRST") {
                    Some(Place::First)
                } else if self.eat_word("AFTER") {
                    Some(Place::After(self.ident()?))
                } else {
                    None
                });
            }
            if !several || !self.eat(",") {
                break;
            }
        }
        if several {
            self.expect(")")?;
        }
        let mut actions: Vec<AlterAction> = table
            .columns
            .into_iter()
            .zip(places)
            .map(|(column, place)| AlterAction::Column(column, modify, place))
            .collect();
        if !table.primary_key.is_empty() {
            actions.push(AlterAction::Key { columns: table.primary_key, name: table.constraint, modify });
        }
        if let Some((path, expr)) = table.watermark {
            actions.push(AlterAction::Watermark { path, expr, modify });
        }
        Ok(actions)
    }
}

fn not_partitioned(name: &Ident) -> Box<SqlError> {
    SqlError::plan(
        name.span,
        format!("Table default_database.{} in catalog default_catalog is not partitioned.", name.value),
    )
    .help("partitions of files come and go with the rows that are written")
}
