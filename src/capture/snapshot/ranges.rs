//! How tables are cut into ranges of their key, and what is known of a table before it is read.

use tokio_postgres::{Client, SimpleQueryMessage};

use super::progress::RangeProgress;
use crate::capture::keys::KeyColumns;
use crate::error::Result;
use crate::pg::catalog::TableInfo;
use crate::pg::{Ident, Literal, Qualified, sql_error};

/// A table below this many bytes is not cut.
const CUT_FROM: i64 = 256 << 10;

/// What is known of a table before it is read.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Bytes with TOAST and partitions; zero for what has none (views, foreign tables).
    pub(super) bytes: i64,
    /// Rows, as the planner thinks.
    pub(super) rows: u64,
    /// `pg_relation_filenode`.
    pub(super) file: Option<u32>,
}

/// Looks at a table and its statement.
pub(super) async fn facts(client: &Client, oid: u32, name: &str, select: &str) -> Result<Facts> {
    let fail = |e| sql_error(format!("cannot look at table {name} for the snapshot"), e);
    let sql = "SELECT pg_relation_filenode($1::oid), \
               (SELECT coalesce(sum(pg_table_size(relid)), 0)::int8 FROM pg_partition_tree($1::oid::regclass))";
    let row = client.query_one(sql, &[&oid]).await.map_err(fail)?;
    let answer = client.simple_query(&format!("EXPLAIN (FORMAT JSON) {select}")).await.map_err(fail)?;
    let mut text = String::new();
    for message in answer {
        if let SimpleQueryMessage::Row(row) = message {
            text.push_str(row.get(0).unwrap_or_default());
        }
    }
    let plan: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let rows = plan.get(0).and_then(|p| p.get("Plan")?.get("Plan Rows")?.as_u64()).unwrap_or(0);
    Ok(Facts { bytes: row.get(1), rows, file: row.get(0) })
}

/// Cuts a table into about `count` ranges of the key's first column.
pub(super) async fn cut(
    client: &Client,
    table: &TableInfo,
    key: &KeyColumns,
    facts: &Facts,
    count: usize,
) -> Result<Vec<RangeProgress>> {
    let mut bounds = Vec::new();
    if let Some(first) = key.names().first().filter(|_| count > 1 && facts.bytes >= CUT_FROM) {
        bounds = histogram(client, table, first, count).await?;
        if bounds.is_empty() && key.types(table).next().is_some_and(is_integer) {
            bounds = even(client, table, first, count).await?;
        }
        bounds.dedup();
    }
    let lows = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
    let highs = bounds.iter().cloned().map(Some).chain(std::iter::once(None));
    Ok(lows.zip(highs).map(|(low, high)| RangeProgress { low, high, parts: Vec::new() }).collect())
}

/// Whether a type's values are compared as their digits say: int2, int4, int8.
pub(in crate::capture) fn is_integer(type_oid: u32) -> bool {
    matches!(type_oid, 20 | 21 | 23)
}

/// Bounds from the column's statistics.
async fn histogram(client: &Client, table: &TableInfo, column: &str, count: usize) -> Result<Vec<String>> {
    let sql = "SELECT format_type(a.atttypid, a.atttypmod), s.histogram_bounds::text \
               FROM pg_stats s JOIN pg_attribute a ON a.attrelid = $1::oid AND a.attname = s.attname \
               WHERE s.schemaname = $2::text::name AND s.tablename = $3::text::name AND s.attname = $4::text::name \
               ORDER BY s.inherited DESC LIMIT 1";
    let fail =
        |e| sql_error(format!("cannot read the statistics of table {}.{}", table.schema, table.name), e);
    let row =
        client.query_opt(sql, &[&table.oid, &table.schema, &table.name, &column]).await.map_err(fail)?;
    let Some((kind, Some(text))) = row.map(|r| (r.get::<_, String>(0), r.get::<_, Option<String>>(1))) else {
        return Ok(Vec::new());
    };
    let sql = format!("SELECT unnest({}::{kind}[])::text", Literal(&text));
    let rows = client.query(&sql, &[]).await.map_err(fail)?;
    let all: Vec<String> = rows.iter().filter_map(|r| r.get(0)).collect();
    let step = all.len().saturating_sub(1);
    Ok((1..count).filter_map(|n| all.get(step * n / count)).filter(|_| step >= count).cloned().collect())
}

/// Bounds between the least and the greatest value.
async fn even(client: &Client, table: &TableInfo, column: &str, count: usize) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT min({0})::int8, max({0})::int8 FROM {1}",
        Ident(column),
        Qualified::new(&table.schema, &table.name)
    );
    let row = client
        .query_one(&sql, &[])
        .await
        .map_err(|e| sql_error(format!("cannot read the key of table {}.{}", table.schema, table.name), e))?;
    let (Some(least), Some(greatest)) = (row.get::<_, Option<i64>>(0), row.get::<_, Option<i64>>(1)) else {
        return Ok(Vec::new());
    };
    Ok(between(least, greatest, count).iter().map(i64::to_string).collect())
}

fn between(least: i64, greatest: i64, count: usize) -> Vec<i64> {
    let span = i128::from(greatest) - i128::from(least);
    let count = i128::try_from(count).unwrap_or(1);
    (1..count)
        .filter_map(|n| i64::try_from(i128::from(least) + span * n / count).ok())
        .filter(|_| span >= count)
        .collect()
}

/// The WHERE of what is left of a range, in key order; empty for all of a table.
pub(super) fn condition(key: &KeyColumns, range: &RangeProgress) -> String {
    let mut parts = Vec::new();
    if let Some(first) = key.names().first() {
        if let Some(low) = &range.low {
            parts.push(format!("{} > {}", Ident(first), Literal(low)));
        }
        if let Some(high) = &range.high {
            parts.push(format!("{} <= {}", Ident(first), Literal(high)));
        }
    }
    if let Some((Some(end), _)) = range.parts.last() {
        parts.push(key.compare(">", end));
    }
    let filter = if parts.is_empty() { String::new() } else { format!(" WHERE {}", parts.join(" AND ")) };
    format!("{filter} ORDER BY {}", key.list(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_cut_evenly() {
        assert_eq!(between(0, 100, 4), [25, 50, 75]);
        assert_eq!(between(1, 2, 4), Vec::<i64>::new());
        assert_eq!(between(i64::MIN, i64::MAX, 2), [-1]);
    }
}
