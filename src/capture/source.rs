//! The source database at a connector's start: checks, publication, slot.

use tokio_postgres::Client;

use super::decide::SlotState;
use crate::config::connector::{CaptureOptions, PublicationMode};
use crate::error::{Error, Result};
use crate::pg::{self, ConnectConfig, Ident, Literal, Lsn, Qualified, sql_error};

/// A table by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableName {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
}

/// An ordinary session for the catalog, kept beside the stream.
pub(super) async fn connect(config: &ConnectConfig, options: &CaptureOptions, name: &str) -> Result<Client> {
    let client = pg::connect(&config.clone().with_application_name(name)).await?;
    let mut setup = format!(
        "SET statement_timeout = {}; SET idle_in_transaction_session_timeout = 0;",
        options.query_timeout.as_millis()
    );
    // Text in the form that pgoutput has it: the walsender decodes with the session's defaults for these.
    setup.push_str(
        "SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1; \
         SET TimeZone = 'UTC'; SET bytea_output = 'hex';",
    );
    client.batch_execute(&setup).await.map_err(|e| sql_error("cannot set up a session", e))?;
    for statement in &options.initial_statements {
        client
            .batch_execute(statement)
            .await
            .map_err(|e| sql_error("a statement of database.initial.statements failed", e))?;
    }
    Ok(client)
}

/// `wal_level` must be `logical`.
pub(super) async fn check_wal_level(client: &Client) -> Result<()> {
    let row = client
        .query_one("SELECT current_setting('wal_level')", &[])
        .await
        .map_err(|e| sql_error("cannot read wal_level", e))?;
    let level: String = row.get(0);
    if level == "logical" {
        return Ok(());
    }
    Err(Error::refused("the server does not write what logical replication needs")
        .because(format!("wal_level is {level}, not logical"))
        .next("ALTER SYSTEM SET wal_level = logical, then restart the server (managed services have a parameter for it)"))
}

/// The present end of the WAL.
pub(super) async fn current_lsn(client: &Client) -> Result<Lsn> {
    let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END::text";
    let row = client.query_one(sql, &[]).await.map_err(|e| sql_error("cannot read the WAL position", e))?;
    let text: Option<String> = row.get(0);
    text.and_then(|t| t.parse().ok())
        .ok_or_else(|| Error::internal("the server's WAL position cannot be read"))
}

/// The slot's state; `None` where it does not exist.
pub(super) async fn slot_state(client: &Client, options: &CaptureOptions) -> Result<Option<SlotState>> {
    let sql = "SELECT plugin::text, database::text, confirmed_flush_lsn::text, restart_lsn::text, \
               coalesce(to_jsonb(s) ->> 'wal_status', '') FROM pg_replication_slots s WHERE slot_name = $1::text";
    let row = client
        .query_opt(sql, &[&options.slot])
        .await
        .map_err(|e| sql_error(format!("cannot look up replication slot \"{}\"", options.slot), e))?;
    let Some(row) = row else { return Ok(None) };
    let plugin: Option<String> = row.get(0);
    let database: Option<String> = row.get(1);
    let other = |what: String| {
        Error::config(format!("replication slot \"{}\" cannot be used", options.slot))
            .because(what)
            .next("set slot.name to a name of this connector's own, or drop the slot")
    };
    if plugin.as_deref() != Some("pgoutput") {
        return Err(other(match plugin {
            None => "it is a physical slot".to_owned(),
            Some(plugin) => format!("it was made for the output plugin {plugin}, not pgoutput"),
        }));
    }
    if database.as_deref() != Some(options.database.as_str()) {
        return Err(other(format!("it belongs to database {}", database.unwrap_or_default())));
    }
    let lsn = |i: usize| row.get::<_, Option<String>>(i).and_then(|t| t.parse::<Lsn>().ok());
    let lost = row.get::<_, String>(4) == "lost";
    Ok(Some(SlotState { confirmed: lsn(2).or_else(|| lsn(3)).unwrap_or_default(), lost }))
}

/// All tables that can be captured, by name.
pub(super) async fn list_tables(client: &Client) -> Result<Vec<TableName>> {
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' \
               AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') \
               ORDER BY n.nspname, c.relname";
    let rows = client.query(sql, &[]).await.map_err(|e| sql_error("cannot list the tables", e))?;
    Ok(rows.iter().map(|r| TableName { oid: r.get(0), schema: r.get(1), name: r.get(2) }).collect())
}

/// The captured ones, in the order of a snapshot.
pub(super) fn captured(options: &CaptureOptions, tables: &[TableName]) -> Result<Vec<TableName>> {
    let mut captured: Vec<TableName> =
        tables.iter().filter(|t| options.tables.captures(&t.schema, &t.name)).cloned().collect();
    captured.sort_by_cached_key(|t| options.tables.snapshot_order(&t.schema, &t.name));
    if let Some((max, fail)) = options.guardrail {
        if captured.len() > max {
            let text =
                format!("{} tables are captured, guardrail.collections.max allows {max}", captured.len());
            if fail {
                return Err(Error::config(text).next("narrow table.include.list, or raise the limit"));
            }
            tracing::warn!("{text}");
        }
    }
    Ok(captured)
}

/// The tables a filtered publication holds: those captured, and the signal table.
fn published<'t>(options: &CaptureOptions, tables: &'t [TableName]) -> Vec<&'t TableName> {
    let filter = &options.tables;
    tables
        .iter()
        .filter(|t| filter.captures(&t.schema, &t.name) || filter.is_signal(&t.schema, &t.name))
        .collect()
}

fn list(tables: &[&TableName]) -> String {
    tables.iter().map(|t| Qualified::new(&t.schema, &t.name).to_string()).collect::<Vec<_>>().join(", ")
}

fn create(name: &str, tables: &str, parts: &[String]) -> String {
    let with = if parts.is_empty() { String::new() } else { format!(" WITH ({})", parts.join(", ")) };
    format!("CREATE PUBLICATION {}{tables}{with}", Ident(name))
}

/// Makes or checks the publication as `publication.autocreate.mode` says.
pub(super) async fn publication(
    client: &Client,
    options: &CaptureOptions,
    tables: &[TableName],
) -> Result<()> {
    let name = &options.publication;
    let row = client
        .query_opt("SELECT puballtables FROM pg_publication WHERE pubname = $1::text", &[name])
        .await
        .map_err(|e| sql_error(format!("cannot look up publication \"{name}\""), e))?;
    let all_tables: Option<bool> = row.map(|r| r.get(0));
    let publish: Vec<String> = options.publish.iter().map(|p| format!("publish = {}", Literal(p))).collect();
    let mut parts = publish.clone();
    if options.publish_via_partition_root {
        parts.insert(0, "publish_via_partition_root = true".to_owned());
    }
    let sql = match (options.publication_mode, all_tables) {
        (PublicationMode::Disabled, None) => {
            return Err(Error::refused(format!("publication \"{name}\" does not exist"))
                .because("publication.autocreate.mode=disabled: the connector does not make it")
                .next(format!("CREATE PUBLICATION {} FOR TABLE …, as the tables' owner", Ident(name))));
        }
        (PublicationMode::AllTables, None) => create(name, " FOR ALL TABLES", &parts),
        (PublicationMode::NoTables, None) => create(name, "", &parts),
        (PublicationMode::Filtered, None) => {
            let wanted = published(options, tables);
            if wanted.is_empty() {
                return Err(Error::config(format!("publication \"{name}\" would hold no table"))
                    .because("no table matches the connector's filters")
                    .next("check schema.include.list and table.include.list: expressions match schema.table as a whole"));
            }
            create(name, &format!(" FOR TABLE {}", list(&wanted)), &parts)
        }
        (PublicationMode::Filtered, Some(true)) => {
            return Err(Error::config(format!("publication \"{name}\" is FOR ALL TABLES"))
                .because("publication.autocreate.mode=filtered cannot narrow it")
                .next("drop it, name another publication, or set publication.autocreate.mode=disabled"));
        }
        (PublicationMode::Filtered, Some(false)) => {
            let sql = "SELECT r.prrelid FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid \
                       WHERE p.pubname = $1::text";
            let rows = client
                .query(sql, &[name])
                .await
                .map_err(|e| sql_error(format!("cannot read publication \"{name}\""), e))?;
            let mut present: Vec<u32> = rows.iter().map(|r| r.get(0)).collect();
            let wanted = published(options, tables);
            let mut oids: Vec<u32> = wanted.iter().map(|t| t.oid).collect();
            present.sort_unstable();
            oids.sort_unstable();
            if present == oids || wanted.is_empty() {
                return Ok(());
            }
            let mut sql = format!("ALTER PUBLICATION {} SET TABLE {}", Ident(name), list(&wanted));
            if let Some(publish) = publish.first() {
                sql = format!("{sql}; ALTER PUBLICATION {} SET ({publish})", Ident(name));
            }
            sql
        }
        (_, Some(_)) => return Ok(()),
    };
    let in_recovery = client
        .query_one("SELECT pg_is_in_recovery()", &[])
        .await
        .map_err(|e| sql_error("cannot ask whether the server is a standby", e))?;
    if in_recovery.get::<_, bool>(0) {
        return Err(Error::refused(format!("publication \"{name}\" has to be made or changed"))
            .because("the server is a standby")
            .next("make it on the primary"));
    }
    client.batch_execute(&sql).await.map_err(|e| {
        let error = sql_error(format!("cannot make or change publication \"{name}\""), e);
        if error.next_step().is_some() {
            error
        } else {
            error.next(
                "let an owner of the tables (FOR ALL TABLES: a superuser) make the publication, and set \
                 publication.autocreate.mode=disabled or filtered",
            )
        }
    })?;
    tracing::info!(publication = %name, "publication made or changed");
    Ok(())
}
