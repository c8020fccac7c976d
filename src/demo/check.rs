//! Compares the target with what it must hold, asked of the source.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::databases::{CHECKS, SqlFile, TARGET_SCHEMA};
use crate::error::{Error, Result};
use crate::pg::quote::{Ident, Qualified};

/// How a table compares.
#[derive(Clone, Debug)]
pub struct TableResult {
    /// The target table.
    pub table: String,
    /// Rows it must hold.
    pub expected: usize,
    /// Rows it holds.
    pub found: usize,
    /// Rows that are missing, too many or different; one that differs counts once.
    pub mismatches: usize,
    /// A few of them: the key, and what is wrong. No other values.
    pub examples: Vec<String>,
}

/// Compares all tables once.
///
/// # Errors
/// When a query fails on either side.
pub async fn compare(source: &Client, target: &Client) -> Result<Vec<TableResult>> {
    let mut results = Vec::new();
    for check in CHECKS {
        results.push(compare_table(source, target, check).await?);
    }
    Ok(results)
}

/// Compares until there is no difference, or until the time is over; the last comparison is returned.
///
/// # Errors
/// When a query fails on either side.
pub async fn compare_until(source: &Client, target: &Client, patience: Duration) -> Result<Vec<TableResult>> {
    let end = Instant::now() + patience;
    loop {
        let results = compare(source, target).await?;
        if results.iter().all(|r| r.mismatches == 0) || Instant::now() >= end {
            return Ok(results);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn compare_table(source: &Client, target: &Client, check: &SqlFile) -> Result<TableResult> {
    let table = check.name.trim_end_matches(".sql");
    let failed = |e: tokio_postgres::Error| {
        let text = e.as_db_error().map_or_else(|| e.to_string(), |d| d.message().to_owned());
        Error::refused(format!("cannot compare table {table}")).because(text)
    };
    let statement = source.prepare(check.text).await.map_err(failed)?;
    let columns: Vec<String> = statement.columns().iter().map(|c| c.name().to_owned()).collect();
    let names: Vec<String> = columns.iter().map(|c| Ident(c).to_string()).collect();
    let key = primary_key(target, table).await?;
    let key: Vec<usize> = key.iter().filter_map(|k| columns.iter().position(|c| c == k)).collect();
    let query = format!("SELECT {} FROM {}", names.join(", "), Qualified::new(TARGET_SCHEMA, table));
    let expected = rows(&source.simple_query(check.text).await.map_err(failed)?);
    let found = rows(&target.simple_query(&query).await.map_err(failed)?);
    Ok(differences(table, &columns, &key, expected, found))
}

async fn primary_key(target: &Client, table: &str) -> Result<Vec<String>> {
    let query = "SELECT a.attname::text FROM pg_index i \
        JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey) \
        WHERE i.indisprimary AND n.nspname = $1 AND c.relname = $2 ORDER BY a.attnum";
    let rows = target
        .query(query, &[&TARGET_SCHEMA, &table])
        .await
        .map_err(|e| Error::refused(format!("cannot read the key of table {table}")).with_source(e))?;
    Ok(rows.iter().filter_map(|r| r.try_get(0).ok()).collect())
}

/// A row as the server's text.
type Row = Vec<Option<String>>;

fn rows(messages: &[SimpleQueryMessage]) -> Vec<Row> {
    let text = |row: &SimpleQueryRow| (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect();
    messages
        .iter()
        .filter_map(|m| if let SimpleQueryMessage::Row(row) = m { Some(text(row)) } else { None })
        .collect()
}

fn differences(
    table: &str,
    columns: &[String],
    key: &[usize],
    expected: Vec<Row>,
    found: Vec<Row>,
) -> TableResult {
    let mut result = TableResult {
        table: table.to_owned(),
        expected: expected.len(),
        found: found.len(),
        mismatches: 0,
        examples: Vec::new(),
    };
    let key_of = |row: &Row| -> Row { key.iter().map(|i| row.get(*i).cloned().flatten()).collect() };
    let mut wrong = |key: &Row, what: String| {
        result.mismatches += 1;
        if result.examples.len() < 5 {
            let key: Vec<&str> = key.iter().map(|k| k.as_deref().unwrap_or("null")).collect();
            result.examples.push(format!("{table}({}): {what}", key.join(", ")));
        }
    };
    let mut by_key: BTreeMap<Row, Row> = BTreeMap::new();
    for row in found {
        let key = key_of(&row);
        if by_key.insert(key.clone(), row).is_some() {
            wrong(&key, "there twice".to_owned());
        }
    }
    for row in expected {
        let key = key_of(&row);
        match by_key.remove(&key) {
            None => wrong(&key, "missing in the target".to_owned()),
            Some(found) if found != row => {
                let differ: Vec<&str> = columns
                    .iter()
                    .zip(row.iter().zip(&found))
                    .filter(|(_, (a, b))| a != b)
                    .map(|(c, _)| c.as_str())
                    .collect();
                wrong(&key, format!("differs in {}", differ.join(", ")));
            }
            Some(_) => {}
        }
    }
    for key in by_key.keys() {
        wrong(key, "not on the source".to_owned());
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &[&str]) -> Row {
        fields.iter().map(|f| if *f == "null" { None } else { Some((*f).to_owned()) }).collect()
    }

    #[test]
    fn every_kind_of_difference_counts_once() {
        let columns = ["id".to_owned(), "name".to_owned()];
        let expected = vec![row(&["1", "a"]), row(&["2", "b"]), row(&["3", "c"]), row(&["4", "null"])];
        let found = vec![row(&["1", "a"]), row(&["2", "x"]), row(&["4", ""]), row(&["5", "e"])];
        let result = differences("t", &columns, &[0], expected.clone(), found);
        assert_eq!(result.mismatches, 4);
        assert_eq!(
            result.examples,
            [
                "t(2): differs in name",
                "t(3): missing in the target",
                "t(4): differs in name",
                "t(5): not on the source"
            ]
        );
        assert_eq!(differences("t", &columns, &[0], expected.clone(), expected).mismatches, 0);
    }
}
