//! CREATE TABLE.

use crate::sql::ast::{ColumnDef, ColumnKind, CreateTable, Ident};
use crate::sql::dialect::Token;
use crate::sql::error::{SqlError, SqlResult};

use super::Parser;

/// What other databases take behind a column's type.
pub(super) const OTHER_DATABASES: &[&str] =
    &["DEFAULT", "REFERENCES", "CHECK", "AUTO_INCREMENT", "GENERATED", "COLLATE", "UNSIGNED"];

impl Parser {
    /// After `CREATE [TEMPORARY] TABLE`.
    pub(super) fn create_table(&mut self, temporary: bool) -> SqlResult<CreateTable> {
        let if_not_exists = self.eat_words(&["IF", "NOT", "EXISTS"]);
        let (database, name) = self.placed_name()?;
        let mut table = CreateTable { database, temporary, if_not_exists, ..CreateTable::empty(name) };
        if self.eat("(") {
            // CREATE TABLE t (b, a) … AS query: names alone
            if matches!(self.peek(), Token::Word { .. }) && (self.is_at(1, ",") || self.is_at(1, ")")) {
                table.order = self.list(Self::ident)?;
            } else if !self.is(")") {
                self.list(|p| p.table_element(&mut table))?;
            }
            self.end_of_list()?;
        }
        if self.eat_word("COMMENT") {
            table.comment = Some(self.string()?);
        }
        if self.eat_words(&["DISTRIBUTED", "INTO"]) {
            let buckets: u32 = self.unsigned()?;
            self.expect_word("BUCKETS")?;
            table.distribution = Some(format!("DISTRIBUTED INTO {buckets} BUCKETS"));
        } else if self.eat_word("DISTRIBUTED") {
            self.expect_word("BY")?;
            let how = ["HASH", "RANGE"].into_iter().find(|word| self.eat_word(word)).unwrap_or("");
            let columns: Vec<String> =
                self.in_parens(Self::ident)?.iter().map(|c| format!("`{}`", c.value)).collect();
            let mut text = format!("DISTRIBUTED BY {how}({})", columns.join(", "));
            if self.eat_word("INTO") {
                let buckets: u32 = self.unsigned()?;
                self.expect_word("BUCKETS")?;
                text = format!("{text} INTO {buckets} BUCKETS");
            }
            table.distribution = Some(text);
        }
        if self.eat_words(&["PARTITIONED", "BY"]) {
            table.partitioned = self.in_parens(Self::ident)?;
        }
        if self.eat_word("WITH") {
            table.options = self.options()?;
        }
        if self.eat_word("LIKE") {
            let source = self.table_name()?;
            let mut options: Vec<String> = Vec::new();
            if self.eat("(") {
                while !self.eat(")") {
                    let span = self.span();
                    let mut word = |known: &[&'static str]| {
                        let found = known.iter().find(|word| self.eat_word(word));
                        found.copied().ok_or_else(|| self.unexpected(known))
                    };
                    let how = word(&["INCLUDING", "EXCLUDING", "OVERWRITING"])?;
                    let what = word(&[
                        "ALL",
                        "CONSTRAINTS",
                        "DISTRIBUTION",
                        "GENERATED",
                        "METADATA",
                        "OPTIONS",
                        "PARTITIONS",
                        "WATERMARKS",
                    ])?;
                    if options.iter().any(|option| option.ends_with(what)) {
                        let message = "Each like option feature can be declared only once.";
                        return Err(SqlError::plan(span.to(self.before()), message));
                    }
                    let whole = matches!(what, "ALL" | "CONSTRAINTS" | "DISTRIBUTION" | "PARTITIONS");
                    if how == "OVERWRITING" && whole {
                        let message = format!("Illegal merging strategy 'OVERWRITING' for '{what}' option.");
                        return Err(SqlError::plan(span.to(self.before()), message));
                    }
                    options.push(format!("{how} {what}"));
                }
            }
            table.like = Some((source, options));
        } else if self.eat_word("AS") {
            if table.temporary {
                return Err(SqlError::plan(
                    self.before(),
                    "CREATE TABLE AS SELECT syntax does not support to create temporary table yet.",
                ));
            }
            table.query = Some(self.boxed_query()?);
        }
        if table.query.is_none()
            && let Some(column) = table.order.first()
        {
            return Err(SqlError::parse(
                column.span,
                format!(
                    "the column '{}' has no type; only CREATE TABLE … AS takes names alone",
                    column.value
                ),
            ));
        }
        Ok(table)
    }

    /// A column, key or watermark.
    pub(super) fn table_element(&mut self, table: &mut CreateTable) -> SqlResult<()> {
        let span = self.span();
        if self.is_word("WATERMARK") && self.is_word_at(1, "FOR") {
            self.at += 2;
            let mut path = vec![self.ident()?];
            while self.eat(".") {
                path.push(self.ident()?);
            }
            self.expect_word("AS")?;
            let expr = self.expr()?;
            if table.watermark.is_some() {
                return Err(SqlError::parse(span, "Multiple WATERMARK declarations are not supported yet."));
            }
            table.watermark = Some((path, expr));
            return Ok(());
        }
        let constraint = if self.eat_word("CONSTRAINT") { Some(self.ident()?.value) } else { None };
        if self.is_word("PRIMARY") || self.is_word("UNIQUE") {
            let unique = self.eat_word("UNIQUE");
            if !unique {
                self.at += 1;
                self.expect_word("KEY")?;
            }
            let columns = self.in_parens(Self::ident)?;
            self.not_enforced(span)?;
            if unique {
                return Err(SqlError::parse(span, "UNIQUE constraint is not supported yet"));
            }
            table.constraint = constraint;
            return set_key(table, columns, span);
        }
        let name = self.ident()?;
        if self.eat_word("AS") {
            let expr = self.expr()?;
            let comment = self.comment()?;
            table.columns.push(ColumnDef { name, kind: ColumnKind::Computed(expr), comment });
            return Ok(());
        }
        if self.is_word("INTERVAL") {
            return Err(self.unexpected(&["an expression"]).help("intervals are no columns of tables"));
        }
        let mut data_type = self.data_type()?;
        if self.eat_word("METADATA") {
            let key = if self.eat_word("FROM") { Some(self.string()?) } else { None };
            let virtual_ = self.eat_word("VIRTUAL");
            let comment = self.comment()?;
            table.columns.push(ColumnDef {
                name,
                kind: ColumnKind::Metadata { data_type, key, virtual_ },
                comment,
            });
            return Ok(());
        }
        let key_at = self.span();
        if self.eat_word("CONSTRAINT") {
            table.constraint = Some(self.ident()?.value);
        }
        if self.eat_word("UNIQUE") {
            return Err(SqlError::parse(key_at, "UNIQUE constraint is not supported yet"));
        }
        if self.eat_words(&["PRIMARY", "KEY"]) {
            self.not_enforced(key_at)?;
            data_type.nullable = false;
            set_key(table, vec![name.clone()], key_at)?;
        }
        let comment = self.comment()?;
        table.columns.push(ColumnDef { name, kind: ColumnKind::Physical(data_type), comment });
        Ok(())
    }

    fn comment(&mut self) -> SqlResult<Option<String>> {
        if self.eat_word("COMMENT") { Ok(Some(self.string()?)) } else { Ok(None) }
    }

    fn not_enforced(&mut self, span: crate::sql::error::Span) -> SqlResult<()> {
        if self.eat_words(&["NOT", "ENFORCED"]) {
            return Ok(());
        }
        self.eat_word("ENFORCED");
        Err(SqlError::parse(
            span.to(self.before()),
            "Flink doesn't support ENFORCED mode for PRIMARY KEY constraint. ENFORCED/NOT ENFORCED controls if the \
             constraint checks are performed on the incoming/outgoing data. Flink does not own the data therefore the \
             only supported mode is the NOT ENFORCED mode",
        )
        .help("write PRIMARY KEY (…) NOT ENFORCED"))
    }
}

fn set_key(table: &mut CreateTable, columns: Vec<Ident>, span: crate::sql::error::Span) -> SqlResult<()> {
    if !table.primary_key.is_empty() {
        return Err(SqlError::parse(span, "Duplicate primary key definition"));
    }
    table.primary_key = columns;
    Ok(())
}
