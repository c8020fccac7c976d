//! What a pipeline needs of the tables it writes.

use tokio_postgres::Client;

use super::Finding;
use crate::config::AddressMap;
use crate::engine::plan::TableRef;
use crate::error::Result;
use crate::pg::{Ident, Qualified, sql_error};
use crate::sink::postgres::{TargetName, connection, epoch_table};

/// Looks at the table behind a JDBC sink.
pub async fn examine(table: &TableRef, addresses: &AddressMap) -> Vec<Finding> {
    let mut out = Vec::new();
    let found = match connection(table, addresses.clone(), "millstream doctor".to_owned()) {
        Ok(found) => found,
        Err(error) => return vec![Finding::error("options", &error)],
    };
    let (config, name) = found;
    let client = match crate::pg::connect(&config).await {
        Ok(client) => client,
        Err(error) => return vec![Finding::error("connection", &error)],
    };
    out.push(Finding::good("connection", config.describe()));
    if let Err(error) = look(&client, table, name, &mut out).await {
        out.push(Finding::error("catalog", &error));
    }
    out
}

/// What a role may do with a table; `None` where it is not there.
struct Rights {
    there: Option<[bool; 4]>,
    usage: bool,
    create: bool,
}

async fn rights(client: &Client, name: Qualified<'_>) -> Result<Rights> {
    // By the catalog: to_regclass refuses to look into a schema that may not be used.
    const SQL: &str = "
        SELECT (SELECT c.oid FROM pg_class c WHERE c.relnamespace = n.oid AND c.relname = $2::text),
               has_schema_privilege(n.oid, 'USAGE'), has_schema_privilege(n.oid, 'CREATE')
        FROM pg_namespace n WHERE n.nspname = $1::text";
    const TABLE: &str = "
        SELECT has_table_privilege($1::oid, 'SELECT'), has_table_privilege($1::oid, 'INSERT'),
               has_table_privilege($1::oid, 'UPDATE'), has_table_privilege($1::oid, 'DELETE')";
    let failed = |e| sql_error("cannot ask for privileges", e);
    let schema = name.schema.unwrap_or_default();
    let Some(row) = client.query_opt(SQL, &[&schema, &name.name]).await.map_err(failed)? else {
        return Ok(Rights { there: None, usage: false, create: false });
    };
    let oid: Option<u32> = row.try_get(0).map_err(failed)?;
    let mut rights = Rights {
        there: None,
        usage: row.try_get(1).map_err(failed)?,
        create: row.try_get(2).map_err(failed)?,
    };
    if let Some(oid) = oid {
        let row = client.query_one(TABLE, &[&oid]).await.map_err(failed)?;
        let mut all = [false; 4];
        for (n, right) in all.iter_mut().enumerate() {
            *right = row.try_get(n).map_err(failed)?;
        }
        rights.there = Some(all);
    }
    Ok(rights)
}

async fn look(client: &Client, table: &TableRef, name: TargetName, out: &mut Vec<Finding>) -> Result<()> {
    let failed = |e| sql_error("cannot look at the target", e);
    let sql = "SELECT current_user::text, current_schema()::text, pg_is_in_recovery()";
    let row = client.query_one(sql, &[]).await.map_err(failed)?;
    let user: String = row.try_get(0).map_err(failed)?;
    let current: Option<String> = row.try_get(1).map_err(failed)?;
    if row.try_get(2).map_err(failed)? {
        out.push(
            Finding::problem("standby", "the server is a standby: it takes no writes")
                .next("use the primary's address"),
        );
    }
    let role = Ident(&user);
    let epoch_table = epoch_table(table, &name)?;
    let in_schema = |name: TargetName| TargetName { schema: name.schema.or(current.clone()), ..name };
    let (name, (epoch, ddl)) = (in_schema(name), (in_schema(epoch_table.0), epoch_table.1));
    let schema = name.schema.clone().unwrap_or_default();
    let target = rights(client, name.qualified()).await?;
    if !target.usage {
        out.push(
            Finding::problem(
                "schema",
                format!("role {role} may not use schema {}, or there is none", Ident(&schema)),
            )
            .sql(format!("CREATE SCHEMA IF NOT EXISTS {}", Ident(&schema)))
            .sql(format!("GRANT USAGE ON SCHEMA {} TO {role}", Ident(&schema)))
            .next("as the database's owner; then look again"),
        );
        return Ok(());
    }
    let makes = table.flag("millstream.create-table", true);
    let needed = ["SELECT", "INSERT", "UPDATE", "DELETE"];
    match target.there {
        Some(rights) => {
            let lacks: Vec<&str> =
                needed.iter().zip(rights).filter(|(_, has)| !has).map(|(right, _)| *right).collect();
            out.push(if lacks.is_empty() {
                Finding::good("table", format!("{} can be written", name.plain()))
            } else {
                Finding::problem(
                    "table",
                    format!("role {role} may not {} {}", lacks.join(", "), name.plain()),
                )
                .sql(format!("GRANT {} ON TABLE {} TO {role}", lacks.join(", "), name.qualified()))
                .next("as the table's owner")
            });
            key(client, table, &name, out).await?;
        }
        None if makes && target.create => {
            out.push(Finding::good("table", format!("{} is made at the start", name.plain())));
        }
        None => out.push(
            Finding::problem(
                "table",
                format!("{} does not exist, and the role may not make it", name.plain()),
            )
            .sql(format!("GRANT CREATE ON SCHEMA {} TO {role}", Ident(&schema)))
            .next("as the schema's owner; or make the table yourself"),
        ),
    }
    let fence = rights(client, epoch.qualified()).await?;
    let grant = format!("GRANT SELECT, INSERT, UPDATE ON TABLE {} TO {role}", epoch.qualified());
    out.push(match fence.there {
        Some([true, true, true, _]) => Finding::good("epochs", format!("{} keeps the epochs", epoch.plain())),
        Some(_) => Finding::problem("epochs", format!("role {role} may not write {}, which keeps epochs from being written twice", epoch.plain()))
            .sql(grant)
            .next("as the table's owner"),
        None if fence.create => Finding::good("epochs", format!("{} is made at the start", epoch.plain())),
        None => Finding::problem("epochs", format!("{}, which keeps epochs from being written twice, does not exist, and the role may not make it", epoch.plain()))
            .sql(ddl)
            .sql(grant)
            .next("as the schema's owner"),
    });
    Ok(())
}

/// Upserts need a unique key in the target.
async fn key(client: &Client, table: &TableRef, name: &TargetName, out: &mut Vec<Finding>) -> Result<()> {
    const SQL: &str = "
        SELECT ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid
                     AND a.attnum = ANY(i.indkey) ORDER BY 1)
        FROM pg_index i
        WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid";
    let mut wanted: Vec<&str> = table
        .primary_key
        .iter()
        .filter_map(|n| table.columns.get(*n))
        .map(|c| c.field.name.as_str())
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let columns = wanted.iter().map(|c| Ident(c).to_string()).collect::<Vec<_>>().join(", ");
    wanted.sort_unstable();
    let failed = |e| sql_error("cannot read the target's keys", e);
    for row in client.query(SQL, &[&name.qualified().to_string()]).await.map_err(failed)? {
        let unique: Vec<String> = row.try_get(0).map_err(failed)?;
        if unique.iter().map(String::as_str).eq(wanted.iter().copied()) {
            return Ok(());
        }
    }
    out.push(
        Finding::problem(
            "key",
            format!("{} has no unique key over ({columns}), which upserts need", name.plain()),
        )
        .sql(format!("ALTER TABLE {} ADD UNIQUE ({columns})", name.qualified()))
        .next("as the table's owner"),
    );
    Ok(())
}
