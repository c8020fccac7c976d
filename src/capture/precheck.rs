//! What a configuration says of tables, held against the live database: at a connector's start, and where a
//! configuration is created, changed or validated over REST.

use tokio_postgres::Client;

use super::source;
use crate::config::connector::{CaptureOptions, ConnectorConfig, Problem};
use crate::error::Result;
use crate::event::EventOptions;
use crate::event::options::KeyColumns;
use crate::pg::catalog::{self, TableInfo, TableName};

const KEY_COLUMNS: &str = "message.key.columns";

/// What is wrong with a configuration whose properties are right one by one. What cannot be known yet (a table
/// made later) is a warning in the log.
///
/// # Errors
/// When the database cannot be asked.
pub(crate) async fn problems(client: &Client, config: &ConnectorConfig) -> Result<Vec<Problem>> {
    // what is wrong without a look at the database fails the start, as in Connect
    let (Ok(events), Ok(options)) =
        (EventOptions::from_properties(config.iter()), CaptureOptions::new(config))
    else {
        return Ok(Vec::new());
    };
    if events.key_columns.is_empty() {
        return Ok(Vec::new());
    }
    let tables = catalog::list_tables(client).await?;
    let Ok(captured) = source::captured(&options, &tables) else { return Ok(Vec::new()) };
    Ok(key_columns(client, &events, &captured).await?.into_iter().collect())
}

/// The first column of `message.key.columns` that its table does not have.
///
/// # Errors
/// When the database cannot be asked.
pub(super) async fn key_columns(
    client: &Client,
    events: &EventOptions,
    captured: &[TableName],
) -> Result<Option<Problem>> {
    let of = |table: &TableName| {
        let id = format!("{}.{}", table.schema, table.name);
        events.key_columns.iter().position(|k| k.tables.matches(&id))
    };
    for (n, rule) in events.key_columns.iter().enumerate() {
        if !captured.iter().any(|t| of(t) == Some(n)) {
            let columns = rule.columns.join(",");
            tracing::warn!(
                "an entry of {KEY_COLUMNS} (columns {columns}) is for no table that is captured now"
            );
        }
    }
    let oids: Vec<u32> = captured.iter().filter(|t| of(t).is_some()).map(|t| t.oid).collect();
    let tables = if oids.is_empty() { Vec::new() } else { catalog::load_tables(client, &oids).await? };
    Ok(missing(&events.key_columns, &tables).map(|message| Problem { property: KEY_COLUMNS.into(), message }))
}

fn missing(rules: &[KeyColumns], tables: &[TableInfo]) -> Option<String> {
    tables.iter().find_map(|table| {
        let id = format!("{}.{}", table.schema, table.name);
        let rule = rules.iter().find(|k| k.tables.matches(&id))?;
        let column = rule.columns.iter().find(|c| !table.columns.iter().any(|t| t.name == **c))?;
        Some(format!(
            "The '{KEY_COLUMNS}' value is invalid: it names column {column}, which table {id} does not have"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::catalog::ColumnInfo;
    use crate::pg::pgoutput::ReplicaIdentity;

    fn table(name: &str, columns: &[&str]) -> TableInfo {
        let column = |name: &&str| ColumnInfo {
            name: (*name).to_owned(),
            attnum: 1,
            type_oid: 23,
            typmod: -1,
            optional: true,
            default_expr: None,
            generated: false,
            identity: false,
            comment: None,
        };
        TableInfo {
            oid: 1,
            schema: "public".into(),
            name: name.into(),
            columns: columns.iter().map(column).collect(),
            key: Vec::new(),
            key_is_primary: false,
            identity: ReplicaIdentity::Default,
        }
    }

    #[test]
    fn the_first_rule_that_fits_a_table_counts() {
        let properties =
            [("topic.prefix", "p"), (KEY_COLUMNS, "public.orders:id;(.*).orders:nope;public.o.*:x")];
        let rules = EventOptions::from_properties(properties).unwrap().key_columns;
        assert_eq!(missing(&rules, &[table("orders", &["id"]), table("o2", &["x"])]), None);
        let said = missing(&rules, &[table("o2", &["y"])]).unwrap();
        assert!(said.contains("column x") && said.contains("table public.o2"), "{said}");
    }
}
