//! The source database at a connector's start: checks, publication, slot.

use std::time::Duration;

use tokio_postgres::Client;

use super::decide::SlotState;
use super::identity::{ServerState, parse_history};
use super::offset::Offset;
use crate::config::connector::{CaptureOptions, PublicationMode};
use crate::error::{Error, Kind, Result};
use crate::pg::catalog::{self, TableName};
use crate::pg::{
    self, ConnectConfig, Ident, Literal, Lsn, Qualified, ReplicationClient, SystemIdentity, sql_error,
};

/// An ordinary session for the catalog, kept beside the stream.
pub(super) async fn connect(config: &ConnectConfig, options: &CaptureOptions, name: &str) -> Result<Client> {
    let client = pg::connect(&config.clone().with_application_name(name)).await?;
    // A quiet stream asks nothing for long. Servers before 14 do not know the second.
    let timeout = format!(
        "SET statement_timeout = {}; SELECT set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = \
         'idle_session_timeout'",
        options.query_timeout.as_millis()
    );
    client.batch_execute(&timeout).await.map_err(|e| sql_error("cannot set up a session", e))?;
    for statement in &options.initial_statements {
        client
            .batch_execute(statement)
            .await
            .map_err(|e| sql_error("a statement of database.initial.statements failed", e))?;
    }
    Ok(client)
}

/// The present end of the WAL.
pub(crate) async fn current_lsn(client: &Client) -> Result<Lsn> {
    // A standby that does not receive yet has replayed something; one that restores an archive receives nothing.
    let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) \
               ELSE pg_current_wal_lsn() END::text";
    let row = client.query_one(sql, &[]).await.map_err(|e| sql_error("cannot read the WAL position", e))?;
    let text: Option<String> = row.get(0);
    text.and_then(|t| t.parse().ok())
        .ok_or_else(|| Error::transient("the server does not say yet where its WAL ends"))
}

/// Longest time for a question to the catalog while the stream waits for the answer.
const ANSWER: Duration = Duration::from_secs(60);

/// Bounds a question to the server: one that is gone without a word must not hold up the stream.
pub(super) async fn answered<T>(question: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(ANSWER, question).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::transient("the source does not answer")
            .because(format!("no answer from the catalog within {} s", ANSWER.as_secs()))),
    }
}

/// Ends our own walsender of before, where it still holds the slot: the server may take up to
/// `wal_sender_timeout` to see that the connection behind it is dead.
pub(super) async fn end_walsender(client: &Client, slot: &str, pid: i32) {
    const SQL: &str = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
                       WHERE slot_name = $1::text AND active_pid = $2";
    let ended = tokio::time::timeout(Duration::from_secs(5), client.query(SQL, &[&slot, &pid])).await;
    if let Ok(Err(error)) = ended {
        tracing::debug!(slot, %error, "cannot end the walsender of before");
    }
}

/// What an offset is compared with.
pub(super) async fn identity(
    replication: &mut ReplicationClient,
    system: &SystemIdentity,
    offset: Option<&Offset>,
    lacks: Option<Lsn>,
) -> Result<ServerState> {
    let moved = offset.and_then(|o| o.binding.as_ref()).is_some_and(|b| b.timeline != system.timeline);
    let history = if moved { replication.timeline_history(system.timeline).await? } else { String::new() };
    Ok(ServerState {
        system: system.system_id.clone(),
        timeline: system.timeline,
        version: replication.server_version(),
        wal_end: system.position,
        history: parse_history(&history),
        lacks,
    })
}

/// The slot's state; `None` where it does not exist.
pub(super) async fn slot_state(client: &Client, options: &CaptureOptions) -> Result<Option<SlotState>> {
    let Some(slot) = catalog::slot(client, &options.slot).await? else { return Ok(None) };
    let other = |what: String| {
        Error::config(format!("replication slot \"{}\" cannot be used", options.slot))
            .because(what)
            .next("set slot.name to a name of this connector's own, or drop the slot")
    };
    if slot.plugin.as_deref() != Some("pgoutput") {
        return Err(other(match slot.plugin {
            None => "it is a physical slot".to_owned(),
            Some(plugin) => format!("it was made for the output plugin {plugin}, not pgoutput"),
        }));
    }
    if slot.database.as_deref() != Some(options.database.as_str()) {
        return Err(other(format!("it belongs to database {}", slot.database.unwrap_or_default())));
    }
    if slot.two_phase {
        return Err(other(
            "it was made with two_phase: it sends prepared transactions before they commit, and a change event says              that something has happened"
                .to_owned(),
        ));
    }
    let lost = slot.invalidation_reason.is_some() || slot.wal_status.as_deref() == Some("lost");
    if slot.confirmed_flush_lsn.is_none() && !lost {
        // It goes away with a session that was killed over it: waited for as for a slot in use.
        let in_use = pg::ServerError { code: "55006".to_owned(), ..pg::ServerError::default() };
        return Err(Error::new(Kind::Fenced, format!("replication slot \"{}\" is being made", options.slot))
            .because("the session that makes it has not finished, or has ended without the server noticing")
            .next("try again in a moment; see pg_replication_slots.active_pid")
            .with_source(in_use));
    }
    Ok(Some(SlotState {
        confirmed: slot.confirmed_flush_lsn.or(slot.restart_lsn).unwrap_or_default(),
        lost: match (slot.invalidation_reason, slot.wal_status.as_deref()) {
            (Some(reason), _) => Some(reason),
            (None, Some("lost")) => Some("its WAL exceeded max_slot_wal_keep_size".to_owned()),
            (None, _) => None,
        },
    }))
}

/// The captured ones, in the order of a snapshot.
pub(super) fn captured(options: &CaptureOptions, tables: &[TableName]) -> Result<Vec<TableName>> {
    let mut captured: Vec<TableName> =
        tables.iter().filter(|t| options.tables.captures(&t.schema, &t.name)).cloned().collect();
    captured.sort_by_cached_key(|t| options.tables.snapshot_order(&t.schema, &t.name));
    if let Some((max, fail)) = options.guardrail
        && captured.len() > max
    {
        let text = format!("{} tables are captured, guardrail.collections.max allows {max}", captured.len());
        if fail {
            return Err(Error::config(text).next("narrow table.include.list, or raise the limit"));
        }
        tracing::warn!("{text}");
    }
    Ok(captured)
}

/// Without the tables whose rows a snapshot reads through another captured one (`millstream.strict.values`): of a
/// partitioned table and its partitions those stay that the stream names, too.
pub(super) async fn without_duplicates(
    client: &Client,
    options: &CaptureOptions,
    captured: Vec<TableName>,
) -> Result<Vec<TableName>> {
    const SQL: &str = "
        SELECT DISTINCT CASE WHEN $2 THEN t.relid::oid ELSE c.oid END AS oid
        FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.pg_partition_tree(c.oid::regclass) t
        WHERE c.relkind = 'p' AND c.oid = ANY($1) AND t.relid::oid = ANY($1) AND t.relid::oid <> c.oid";
    let publication = catalog::publication(client, &options.publication).await?;
    let by_root = publication.map_or(options.publish_via_partition_root, |p| p.via_root);
    let oids: Vec<u32> = captured.iter().map(|t| t.oid).collect();
    let rows = client
        .query(SQL, &[&oids, &by_root])
        .await
        .map_err(|e| sql_error("cannot read which tables are partitions", e))?;
    let again: Vec<u32> = rows.iter().map(|row| row.get("oid")).collect();
    Ok(captured.into_iter().filter(|t| !again.contains(&t.oid)).collect())
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

/// Makes or checks the publication as `publication.autocreate.mode` says. Says whether it was made now.
pub(super) async fn publication(
    client: &Client,
    options: &CaptureOptions,
    tables: &[TableName],
) -> Result<bool> {
    match make_publication(client, options, tables).await {
        // Somebody was faster: what there is now counts.
        Err(error) if matches!(pg::sqlstate(&error), Some("42710" | "23505")) => {
            make_publication(client, options, tables).await
        }
        made => made,
    }
}

async fn make_publication(client: &Client, options: &CaptureOptions, tables: &[TableName]) -> Result<bool> {
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
    // How an existing publication differs from what the filters match.
    let mut differs = None;
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
                return Ok(false);
            }
            let held: Vec<&TableName> = tables.iter().filter(|t| present.contains(&t.oid)).collect();
            differs =
                Some(format!("it holds {}; the connector's filters match {}", list(&held), list(&wanted)));
            let mut sql = format!("ALTER PUBLICATION {} SET TABLE {}", Ident(name), list(&wanted));
            if let Some(publish) = publish.first() {
                sql = format!("{sql}; ALTER PUBLICATION {} SET ({publish})", Ident(name));
            }
            sql
        }
        (_, Some(_)) => return Ok(false),
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
        if let Some(differs) = differs {
            let why = error.cause().unwrap_or_default();
            error.because(format!("{differs}: {why}")).next(format!(
                "check table.include.list; or, as the publication's owner: {sql}; or set \
                 publication.autocreate.mode=disabled, and the publication stays as it is"
            ))
        } else if error.next_step().is_some() {
            error
        } else {
            error.next(
                "let an owner of the tables (FOR ALL TABLES: a superuser) make the publication, and set \
                 publication.autocreate.mode=disabled or filtered",
            )
        }
    })?;
    tracing::info!(publication = %name, "publication made or changed");
    Ok(all_tables.is_none())
}

/// A snapshot reads every captured table: whether it may is asked before anything is made.
pub(super) async fn check_readable(client: &Client, captured: &[TableName]) -> Result<()> {
    let oids: Vec<u32> = captured.iter().map(|t| t.oid).collect();
    let sql = "SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY($1) \
               AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))";
    let rows = client.query(sql, &[&oids]).await.map_err(|e| sql_error("cannot ask for privileges", e))?;
    let denied: Vec<u32> = rows.iter().map(|r| r.get(0)).collect();
    let denied: Vec<&TableName> = captured.iter().filter(|t| denied.contains(&t.oid)).collect();
    if denied.is_empty() {
        return Ok(());
    }
    Err(Error::refused("the captured tables cannot be read")
        .because(format!("the role has no SELECT on {}", list(&denied)))
        .next("GRANT USAGE ON SCHEMA … and GRANT SELECT ON … to the connector's role, or narrow table.include.list"))
}

/// Takes back what a failed first start has made: it would only hold WAL back.
pub(super) async fn undo(client: &Client, slot: Option<&str>, publication: Option<&str>) {
    let mut statements = Vec::new();
    if let Some(slot) = slot {
        statements.push(format!("SELECT pg_drop_replication_slot({})", Literal(slot)));
    }
    if let Some(publication) = publication {
        statements.push(format!("DROP PUBLICATION {}", Ident(publication)));
    }
    for sql in statements {
        if let Err(error) = client.batch_execute(&sql).await {
            tracing::warn!(%error, "cannot take back what the failed start has made: {sql}");
        }
    }
}
