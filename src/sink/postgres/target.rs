//! The target table: what the catalog says of it, whether the SQL schema fits, and the DDL that makes it.

use std::fmt::Write as _;

use tokio_postgres::Client;

use super::encode::Wire;
use crate::engine::plan::TableRef;
use crate::engine::types::{DataType, TypeKind};
use crate::error::{Error, Result};
use crate::pg::{Ident, Qualified, sql_error};

/// `[schema.]table`, each part plain or in double quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetName {
    pub(crate) schema: Option<String>,
    pub(crate) table: String,
}

impl TargetName {
    /// Reads a `table-name` option.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut parts = vec![String::new()];
        let mut quoted = false;
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    parts.last_mut().map(|p| p.push('"')).unwrap_or_default();
                }
                '"' => quoted = !quoted,
                '.' if !quoted => parts.push(String::new()),
                c => parts.last_mut().map(|p| p.push(c)).unwrap_or_default(),
            }
        }
        let bad = quoted || parts.iter().any(String::is_empty);
        match (bad, parts.pop(), parts.pop(), parts.pop()) {
            (false, Some(table), schema, None) => Ok(Self { schema, table }),
            _ => Err(Error::config(format!("'table-name' = '{text}' is not the name of a table"))
                .next("write 'table' or 'schema.table'")),
        }
    }

    pub(crate) fn qualified(&self) -> Qualified<'_> {
        Qualified { schema: self.schema.as_deref(), name: &self.table }
    }

    /// For messages: without quotes.
    pub(crate) fn plain(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{schema}.{}", self.table),
            None => self.table.clone(),
        }
    }
}

/// A column that is written.
#[derive(Clone, Debug)]
pub(super) struct TargetColumn {
    /// Its name in the target.
    pub(super) name: String,
    pub(super) wire: Wire,
    pub(super) data_type: DataType,
    /// The target's type without modifier, where the values sent have another type.
    pub(super) cast: Option<String>,
}

/// The target table, checked.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: TargetName,
    /// In the order of the sink's row.
    pub(super) columns: Vec<TargetColumn>,
    /// Indexes of the key's columns.
    pub(super) key: Vec<usize>,
}

/// A column as the catalog has it.
#[derive(Clone, Debug)]
struct CatalogColumn {
    name: String,
    attnum: i16,
    /// Base type of a domain, else the type itself.
    oid: u32,
    is_enum: bool,
    is_array: bool,
    /// Without modifier: what a value can be cast to without being cut.
    bare: String,
    /// As `\d` shows it.
    shown: String,
    /// NOT NULL without a default.
    needed: bool,
}

/// Finds the table; `None` where there is none. The name is taken as written, else in lower case, as
/// PostgreSQL folds what is not quoted.
async fn find(client: &Client, name: &TargetName) -> Result<Option<(u32, TargetName)>> {
    const SQL: &str = "
        SELECT c.oid, n.nspname::text, c.relname::text
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND c.relname::text IN ($1, lower($1))
          AND CASE WHEN $2::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid)
                   ELSE n.nspname::text IN ($2, lower($2)) END
        ORDER BY c.relname::text = $1 DESC, n.nspname::text = $2 DESC LIMIT 1";
    let failed = |e| sql_error(format!("cannot look for table {}", name.plain()), e);
    let row = client.query_opt(SQL, &[&name.table, &name.schema]).await.map_err(failed)?;
    let Some(row) = row else { return Ok(None) };
    let found =
        TargetName { schema: Some(row.try_get(1).map_err(failed)?), table: row.try_get(2).map_err(failed)? };
    Ok(Some((row.try_get(0).map_err(failed)?, found)))
}

async fn columns(client: &Client, oid: u32) -> Result<Vec<CatalogColumn>> {
    const SQL: &str = "
        SELECT a.attname::text, a.attnum, b.oid, b.typtype = 'e', b.typelem <> 0 AND b.typlen = -1,
               pg_catalog.format_type(b.oid, -1), pg_catalog.format_type(a.atttypid, a.atttypmod),
               a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        JOIN pg_catalog.pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
        WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    let failed = |e| sql_error("cannot read the target table's columns", e);
    let rows = client.query(SQL, &[&oid]).await.map_err(failed)?;
    let column = |row: &tokio_postgres::Row| {
        Ok(CatalogColumn {
            name: row.try_get(0)?,
            attnum: row.try_get(1)?,
            oid: row.try_get(2)?,
            is_enum: row.try_get(3)?,
            is_array: row.try_get(4)?,
            bare: row.try_get(5)?,
            shown: row.try_get(6)?,
            needed: row.try_get(7)?,
        })
    };
    rows.iter().map(|row| column(row).map_err(failed)).collect()
}

/// Whether a unique index (not partial, not of expressions) stands on exactly these columns: what
/// `ON CONFLICT` needs.
async fn has_unique_index(client: &Client, oid: u32, attnums: &[i16]) -> Result<bool> {
    const SQL: &str = "
        SELECT EXISTS (
            SELECT FROM pg_catalog.pg_index x
            WHERE x.indrelid = $1 AND x.indisunique AND x.indisvalid AND x.indimmediate
              AND x.indexprs IS NULL AND x.indpred IS NULL AND x.indnkeyatts = cardinality($2::int2[])
              AND (x.indkey::int2[])[0:x.indnkeyatts - 1] <@ $2::int2[]
              AND $2::int2[] <@ (x.indkey::int2[])[0:x.indnkeyatts - 1])";
    let failed = |e| sql_error("cannot read the target table's indexes", e);
    client.query_one(SQL, &[&oid, &attnums]).await.and_then(|row| row.try_get(0)).map_err(failed)
}

impl Target {
    /// Looks at the target table and checks that the sink's columns fit; makes the table when it is missing and
    /// `create` allows it.
    pub(super) async fn open(
        client: &Client,
        name: &TargetName,
        table: &TableRef,
        create: bool,
    ) -> Result<Self> {
        let found = match find(client, name).await? {
            Some(found) => found,
            None if create => {
                let sql = create_table(name, table)?;
                client.batch_execute(&sql).await.map_err(|e| {
                    sql_error(format!("table {} does not exist and cannot be created", name.plain()), e)
                })?;
                tracing::info!("created table {} for sink table {}", name.plain(), table.name);
                find(client, name).await?.ok_or_else(|| missing(name, table))?
            }
            None => return Err(missing(name, table)),
        };
        let (oid, name) = found;
        let catalog = columns(client, oid).await?;
        let (target, attnums) = fit(name, table, &catalog)?;
        if !attnums.is_empty() && !has_unique_index(client, oid, &attnums).await? {
            let key: Vec<&str> = target.key_columns().map(|c| c.name.as_str()).collect();
            let key = key.join(", ");
            return Err(Error::config(format!(
                "table {} has no primary key or unique index on ({key})",
                target.name.plain()
            ))
            .because(format!("the PRIMARY KEY of sink table {} is what rows are written by", table.name))
            .next(format!(
                "ALTER TABLE {} ADD PRIMARY KEY ({key}), or change the SQL",
                target.name.qualified()
            )));
        }
        Ok(target)
    }

    pub(super) fn key_columns(&self) -> impl Iterator<Item = &TargetColumn> + Clone {
        self.key.iter().filter_map(|i| self.columns.get(*i))
    }

    /// `INSERT … SELECT … FROM unnest($1, …)`, with `ON CONFLICT` where there is a key.
    pub(super) fn insert_sql(&self) -> String {
        let names: Vec<String> = self.columns.iter().map(|c| Ident(&c.name).to_string()).collect();
        let mut sql = format!("INSERT INTO {} ({}) SELECT ", self.name.qualified(), names.join(", "));
        unnest(&mut sql, self.columns.iter());
        if !self.key.is_empty() {
            let key: Vec<String> = self.key_columns().map(|c| Ident(&c.name).to_string()).collect();
            let _ = write!(sql, " ON CONFLICT ({}) DO ", key.join(", "));
            let rest: Vec<String> = (0..self.columns.len())
                .filter(|i| !self.key.contains(i))
                .filter_map(|i| names.get(i))
                .map(|name| format!("{name} = excluded.{name}"))
                .collect();
            if rest.is_empty() {
                sql.push_str("NOTHING");
            } else {
                let _ = write!(sql, "UPDATE SET {}", rest.join(", "));
            }
        }
        sql
    }

    /// `DELETE … USING unnest($1, …)` by key.
    pub(super) fn delete_sql(&self) -> String {
        let mut sql = format!("DELETE FROM {} AS t USING (SELECT ", self.name.qualified());
        unnest(&mut sql, self.key_columns());
        let names: Vec<String> = (0..self.key.len()).map(|i| format!("k{i}")).collect();
        let _ = write!(sql, ") AS d({}) WHERE ", names.join(", "));
        for (i, column) in self.key_columns().enumerate() {
            let and = if i > 0 { " AND " } else { "" };
            let _ = write!(sql, "{and}t.{} = d.k{i}", Ident(&column.name));
        }
        sql
    }
}

/// `u.c0, u.c1::uuid FROM unnest($1, $2) AS u(c0, c1)`
fn unnest<'a>(sql: &mut String, columns: impl Iterator<Item = &'a TargetColumn> + Clone) {
    let list = |item: &dyn Fn(usize, &TargetColumn) -> String| {
        columns.clone().enumerate().map(|(i, c)| item(i, c)).collect::<Vec<_>>().join(", ")
    };
    let values = list(&|i, c| match &c.cast {
        Some(cast) => format!("u.c{i}::{cast}"),
        None => format!("u.c{i}"),
    });
    let arrays = list(&|i, _| format!("${}", i + 1));
    let names = list(&|i, _| format!("c{i}"));
    let _ = write!(sql, "{values} FROM unnest({arrays}) AS u({names})");
}

/// The table is not there.
#[derive(Debug, thiserror::Error)]
#[error("there is no such table")]
struct Missing;

pub(super) fn is_missing(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Missing>())
}

fn missing(name: &TargetName, table: &TableRef) -> Error {
    Error::config(format!("table {} does not exist", name.plain()))
        .with_source(Missing)
        .because(format!("sink table {} is to be written there", table.name))
        .next("create it, correct 'table-name' or currentSchema, or leave 'millstream.create-table' on")
}

/// Matches the sink's columns with the target's; collects all that does not fit into one error.
fn fit(name: TargetName, table: &TableRef, catalog: &[CatalogColumn]) -> Result<(Target, Vec<i16>)> {
    let mut columns = Vec::new();
    let mut attnums = Vec::new();
    let mut used = Vec::new();
    let mut problems = Vec::new();
    for (i, column) in table.columns.iter().enumerate() {
        let field = &column.field;
        let lower = field.name.to_lowercase();
        let found = catalog
            .iter()
            .find(|c| c.name == field.name)
            .or_else(|| catalog.iter().find(|c| c.name == lower));
        let Some(found) = found else {
            problems.push(format!(
                "it has no column {} (of type {}){}",
                field.name,
                field.data_type.kind,
                nearest(&field.name, catalog)
            ));
            continue;
        };
        used.push(found.attnum);
        if table.primary_key.contains(&i) {
            attnums.push(found.attnum);
        }
        match Wire::of(&field.data_type.kind).filter(|wire| accepts(*wire, &field.data_type.kind, found)) {
            Some(wire) => columns.push(TargetColumn {
                name: found.name.clone(),
                wire,
                data_type: field.data_type.clone(),
                cast: (wire.types().0.oid() != found.oid).then(|| found.bare.clone()),
            }),
            None => problems.push(format!(
                "column {} is {} there, and {} in the SQL",
                found.name, found.shown, field.data_type.kind
            )),
        }
    }
    for column in catalog.iter().filter(|c| c.needed && !used.contains(&c.attnum)) {
        problems.push(format!(
            "its column {} ({}) is NOT NULL without a default, and the SQL does not write it",
            column.name, column.shown
        ));
    }
    if !problems.is_empty() {
        return Err(Error::config(format!("table {} does not fit sink table {}", name.plain(), table.name))
            .because(problems.join("; "))
            .next("change the CREATE TABLE in the SQL (and CAST in the query), or alter the target table"));
    }
    Ok((Target { name, columns, key: table.primary_key.clone() }, attnums))
}

fn nearest(name: &str, catalog: &[CatalogColumn]) -> String {
    let best = catalog.iter().map(|c| (strsim::damerau_levenshtein(name, &c.name), &c.name)).min();
    match best {
        Some((distance, near)) if distance <= 2.max(name.len() / 3) => format!("; the nearest is {near}"),
        _ => String::new(),
    }
}

/// Whether a column of the target takes these values: within one family of types PostgreSQL's assignment casts
/// decide (and refuse what is too large at run time, as they do for Flink).
fn accepts(wire: Wire, kind: &TypeKind, column: &CatalogColumn) -> bool {
    const BOOL: u32 = 16;
    const BYTEA: u32 = 17;
    const TIME: u32 = 1083;
    const NUMBERS: [u32; 6] = [20, 21, 23, 700, 701, 1700];
    const TEXTS: [u32; 4] = [25, 1043, 1042, 19];
    // Types without a counterpart in Flink that are written as text and cast: uuid, json, jsonb, xml, inet, cidr,
    // macaddr, macaddr8.
    const AS_TEXT: [u32; 8] = [2950, 114, 3802, 142, 869, 650, 829, 774];
    const DATE: u32 = 1082;
    const STAMPS: [u32; 2] = [1114, 1184];
    let oid = column.oid;
    match wire {
        Wire::Bool => oid == BOOL,
        Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Float4 | Wire::Float8 | Wire::Numeric => {
            NUMBERS.contains(&oid)
        }
        Wire::Text => {
            TEXTS.contains(&oid)
                || AS_TEXT.contains(&oid)
                || column.is_enum
                || column.bare.ends_with("citext")
        }
        Wire::Bytea => oid == BYTEA,
        Wire::Date => oid == DATE || STAMPS.contains(&oid),
        Wire::Time => oid == TIME,
        Wire::Timestamp | Wire::Timestamptz => STAMPS.contains(&oid),
        Wire::ArrayText => {
            let TypeKind::Array(element) = kind else { return false };
            let element = Wire::of(&element.kind).map(|wire| wire.types().1.oid());
            // Same family of elements: the exact array type, or text where PostgreSQL has its varieties.
            column.is_array && (element == Some(oid) || (element == Some(1009) && matches!(oid, 1015 | 1014)))
        }
    }
}

/// The type that a created table gets for a type of the SQL schema.
fn created_type(data_type: &DataType) -> Option<String> {
    let fine = |p: &u8| (*p).min(6);
    Some(match &data_type.kind {
        TypeKind::Boolean => "boolean".to_owned(),
        TypeKind::TinyInt | TypeKind::SmallInt => "smallint".to_owned(),
        TypeKind::Int => "integer".to_owned(),
        TypeKind::BigInt => "bigint".to_owned(),
        TypeKind::Float => "real".to_owned(),
        TypeKind::Double => "double precision".to_owned(),
        TypeKind::Decimal(p, s) => format!("numeric({p},{s})"),
        TypeKind::Char(n) => format!("char({n})"),
        // PostgreSQL's longest varchar; STRING is far beyond it.
        TypeKind::Varchar(n) if *n > 10_485_760 => "text".to_owned(),
        TypeKind::Varchar(n) => format!("varchar({n})"),
        TypeKind::Binary(_) | TypeKind::Varbinary(_) => "bytea".to_owned(),
        TypeKind::Date => "date".to_owned(),
        TypeKind::Time(p) => format!("time({})", fine(p)),
        TypeKind::Timestamp(p) => format!("timestamp({})", fine(p)),
        TypeKind::TimestampLtz(p) => format!("timestamptz({})", fine(p)),
        TypeKind::Array(element) => format!("{}[]", created_type(element)?),
        _ => return None,
    })
}

fn create_table(name: &TargetName, table: &TableRef) -> Result<String> {
    let mut sql = format!("CREATE TABLE IF NOT EXISTS {} (", name.qualified());
    for (i, column) in table.columns.iter().enumerate() {
        let field = &column.field;
        let Some(data_type) = created_type(&field.data_type) else {
            return Err(Error::config(format!(
                "table {} cannot be created: column {} is {}, which PostgreSQL has no type for",
                name.plain(),
                field.name,
                field.data_type.kind
            ))
            .next("CAST the column to another type, to STRING for example"));
        };
        let comma = if i > 0 { ", " } else { "" };
        let not_null = if field.data_type.nullable { "" } else { " NOT NULL" };
        let _ = write!(sql, "{comma}{} {data_type}{not_null}", Ident(&field.name));
    }
    if !table.primary_key.is_empty() {
        let key: Vec<String> = table
            .primary_key
            .iter()
            .filter_map(|i| table.columns.get(*i))
            .map(|c| Ident(&c.field.name).to_string())
            .collect();
        let _ = write!(sql, ", PRIMARY KEY ({})", key.join(", "));
    }
    sql.push(')');
    Ok(sql)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name = |t: &str| TargetName::parse(t).map(|n| n.qualified().to_string());
        assert_eq!(name("orders").unwrap(), "\"orders\"");
        assert_eq!(name("star.orders").unwrap(), "\"star\".\"orders\"");
        assert_eq!(name("\"S.x\".\"a\"\"b\"").unwrap(), "\"S.x\".\"a\"\"b\"");
        for bad in ["", "a.", "a.b.c", "\"a"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
