//! `replica.identity.autoset.values`: sets the replica identity of captured tables at the connector's start.

use tokio_postgres::Client;

use crate::config::connector::CaptureOptions;
use crate::error::{Error, Result};
use crate::java::regex_list::RegexList;
use crate::pg::catalog::TableName;
use crate::pg::{Ident, Qualified, sql_error};

/// An entry: `tables:DEFAULT`, `FULL`, `NOTHING` or `INDEX name`.
struct Entry {
    tables: RegexList,
    /// As `ALTER TABLE … REPLICA IDENTITY` takes it.
    clause: String,
    /// `relreplident`, and the index's name for `i`.
    state: (char, String),
}

fn entries(text: &str) -> Result<Vec<Entry>> {
    let wrong = || Error::config(format!("replica.identity.autoset.values cannot be read: {text}"));
    let parts = text.split(',').map(str::trim).filter(|e| !e.is_empty());
    parts
        .map(|part| {
            let (tables, identity) = part.split_once(':').ok_or_else(wrong)?;
            let (word, index) = identity.split_once(' ').unwrap_or((identity, ""));
            let (clause, state) = match word.to_ascii_uppercase().as_str() {
                "DEFAULT" => ("DEFAULT".to_owned(), 'd'),
                "FULL" => ("FULL".to_owned(), 'f'),
                "NOTHING" => ("NOTHING".to_owned(), 'n'),
                "INDEX" => (format!("USING INDEX {}", Ident(index)), 'i'),
                _ => return Err(wrong()),
            };
            let tables = RegexList::parse(tables).map_err(|e| wrong().because(e))?;
            Ok(Entry { tables, clause, state: (state, index.to_owned()) })
        })
        .collect()
}

/// Sets the identities of the tables that an entry names and that have another. A table that this user may not alter
/// is said and left as it is, as in Debezium.
///
/// # Errors
/// When two entries name one table, or the session breaks.
pub(super) async fn set(client: &Client, options: &CaptureOptions, captured: &[TableName]) -> Result<()> {
    const SQL: &str = "
        SELECT c.relreplident::text AS state, coalesce(x.relname::text, '') AS index
        FROM pg_catalog.pg_class c
        LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisreplident
        LEFT JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        WHERE c.oid = $1";
    let Some(text) = &options.replica_identities else { return Ok(()) };
    let entries = entries(text)?;
    for table in captured {
        let name = format!("{}.{}", table.schema, table.name);
        let mut named = entries.iter().filter(|e| e.tables.matches(&name));
        let Some(entry) = named.next() else { continue };
        if named.next().is_some() {
            return Err(Error::config("two entries of replica.identity.autoset.values name one table")
                .because(name)
                .next("narrow the expressions, so that each table matches one"));
        }
        let failed = |e| sql_error(format!("cannot read the replica identity of {name}"), e);
        let Some(row) = client.query_opt(SQL, &[&table.oid]).await.map_err(failed)? else { continue };
        let (state, index): (String, String) = (row.get("state"), row.get("index"));
        let wanted = (entry.state.0.to_string(), entry.state.1.clone());
        if (state.as_str(), if state == "i" { index.as_str() } else { "" }) == (&wanted.0, &wanted.1) {
            continue;
        }
        let qualified = Qualified::new(&table.schema, &table.name);
        let sql = format!("ALTER TABLE {qualified} REPLICA IDENTITY {}", entry.clause);
        match client.batch_execute(&sql).await {
            Ok(()) => tracing::info!(
                connector = options.name,
                table = name,
                "replica identity set: {}",
                entry.clause
            ),
            Err(error) => {
                let error = sql_error(format!("cannot set the replica identity of {name}"), error);
                if error.is_transient() {
                    return Err(error);
                }
                tracing::warn!(connector = options.name, %error, "the table stays as it is");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_as_debezium_reads_them() {
        let entries = entries("public.a.*:full, s.b:INDEX b_key,").unwrap();
        let read: Vec<(&str, char)> = entries.iter().map(|e| (e.clause.as_str(), e.state.0)).collect();
        assert_eq!(read, [("FULL", 'f'), ("USING INDEX \"b_key\"", 'i')]);
        assert!(entries[0].tables.matches("public.abc") && !entries[0].tables.matches("public.b"));
        assert!(super::entries("public.a").is_err());
        assert!(super::entries("public.a:SOME").is_err());
    }
}
