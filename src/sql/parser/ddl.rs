//! CREATE TABLE.

use crate::sql::ast::{ColumnDef, ColumnKind, CreateTable, Ident};
use crate::sql::error::{SqlError, SqlResult};

use super::Parser;

impl Parser {
    /// After `CREATE [TEMPORARY] TABLE`.
    pub(super) fn create_table(&mut self, temporary: bool) -> SqlResult<CreateTable> {
        let if_not_exists = self.eat_words(&["IF", "NOT", "EXISTS"]);
        let name = self.table_name()?;
        let mut table = CreateTable { temporary, if_not_exists, ..CreateTable::empty(name) };
        if self.eat("(") {
            if !self.is(")") {
                self.list(|p| p.table_element(&mut table))?;
            }
            self.expect(")")?;
        }
        if self.eat_word("COMMENT") {
            table.comment = Some(self.string()?);
        }
        if self.eat_words(&["DISTRIBUTED", "INTO"]) {
            let _: u32 = self.unsigned()?;
            self.expect_word("BUCKETS")?;
        } else if self.eat_word("DISTRIBUTED") {
            self.expect_word("BY")?;
            let _ = self.eat_word("HASH") || self.eat_word("RANGE");
            self.in_parens(Self::ident)?;
            if self.eat_word("INTO") {
                let _: u32 = self.unsigned()?;
                self.expect_word("BUCKETS")?;
            }
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
                    options.push(format!("{how} {what}"));
                }
            }
            table.like = Some((source, options));
        } else if self.eat_word("AS") {
            table.query = Some(self.boxed_query()?);
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
        if self.eat_word("CONSTRAINT") {
            self.ident()?;
        }
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
            return set_key(table, columns, span);
        }
        let name = self.ident()?;
        if self.eat_word("AS") {
            let expr = self.expr()?;
            let comment = self.comment()?;
            table.columns.push(ColumnDef { name, kind: ColumnKind::Computed(expr), comment });
            return Ok(());
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
