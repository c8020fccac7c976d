//! What a connector needs of its source.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_postgres::Client;

use super::Finding;
use crate::config::ConnectorConfig;
use crate::config::connector::{CaptureOptions, PublicationMode};
use crate::error::Result;
use crate::pg::catalog::{self, ServerFacts, TableName};
use crate::pg::{ConnectConfig, Ident, Literal, Qualified, ReplicationClient, sql_error};

/// Clocks that differ by more than this make times in events misleading.
const CLOCK: Duration = Duration::from_secs(2);
/// A transaction that is open for longer holds up the making of a slot.
const LONG: i64 = 600;

/// Looks at a connector's source. `slots` are the slots of all connectors that are known.
pub async fn examine(config: &ConnectorConfig, database: &ConnectConfig, slots: &[String]) -> Vec<Finding> {
    let mut out = Vec::new();
    let options = match CaptureOptions::new(config) {
        Ok(options) => options,
        Err(error) => return vec![Finding::error("configuration", &error)],
    };
    for warning in config.warnings() {
        out.push(Finding::warning("configuration", warning.to_string()));
    }
    let client = match crate::pg::connect(&database.clone().with_application_name("millstream doctor")).await
    {
        Ok(client) => client,
        Err(error) => {
            out.push(Finding::error("connection", &error));
            return out;
        }
    };
    out.push(Finding::good("connection", database.describe()));
    if let Err(error) = look(&client, &options, database, slots, &mut out).await {
        out.push(Finding::error("catalog", &error));
    }
    out
}

async fn look(
    client: &Client,
    options: &CaptureOptions,
    database: &ConnectConfig,
    slots: &[String],
    out: &mut Vec<Finding>,
) -> Result<()> {
    let facts = catalog::server_facts(client).await?;
    server(&facts, out);
    out.push(clock(client).await?);
    if facts.may_replicate && facts.wal_level == "logical" {
        let replication = database.clone().with_application_name("millstream doctor");
        match ReplicationClient::connect(&replication).await {
            Ok(session) => {
                out.push(Finding::good("replication", "a replication session can be opened"));
                session.close().await;
            }
            Err(error) => out.push(Finding::error("replication", &error)),
        }
    }
    slot(client, options, out).await?;
    orphans(client, options, slots, out).await?;
    let all = catalog::list_tables(client).await?;
    let names: Vec<String> = all.iter().map(|table| format!("{}.{}", table.schema, table.name)).collect();
    for entry in options.tables.without_table(&names) {
        out.push(
            Finding::warning("tables", format!("no table matches the entry {entry} of table.include.list"))
                .next("expressions match schema.table as a whole; a table that is still to come is captured from the next start on"),
        );
    }
    let tables: Vec<TableName> = all
        .into_iter()
        .filter(|t| {
            options.tables.captures(&t.schema, &t.name) || options.tables.is_signal(&t.schema, &t.name)
        })
        .collect();
    if tables.is_empty() {
        out.push(Finding::problem("tables", "no table matches the connector's filters").next(
            "check schema.include.list and table.include.list: expressions match schema.table as a whole",
        ));
        return Ok(());
    }
    out.push(Finding::good("tables", format!("{} tables are captured", tables.len())));
    let described = describe(client, &tables).await?;
    privileges(options, &facts, &described, out);
    publication(client, options, &facts, &described, out).await?;
    identities(&described, out);
    Ok(())
}

fn server(facts: &ServerFacts, out: &mut Vec<Finding>) {
    let major = facts.version / 10_000;
    out.push(match major {
        ..10 => Finding::problem("version", format!("PostgreSQL {major} has no pgoutput"))
            .next("upgrade to 14 or newer"),
        10..14 => Finding::warning(
            "version",
            format!("PostgreSQL {major}: large transactions are not streamed, logical messages not sent"),
        )
        .next("everything works from PostgreSQL 14 on"),
        _ => Finding::good("version", format!("PostgreSQL {major}")),
    });
    out.push(if facts.wal_level == "logical" {
        Finding::good("wal_level", "wal_level is logical")
    } else {
        Finding::problem("wal_level", format!("wal_level is {}, not logical", facts.wal_level))
            .sql("ALTER SYSTEM SET wal_level = 'logical'")
            .next("as a superuser; then restart the server")
    });
    let role = Ident(&facts.user);
    out.push(if facts.may_replicate {
        Finding::good("role", format!("role {role} may replicate"))
    } else {
        Finding::problem("role", format!("role {role} may not replicate"))
            .sql(format!("ALTER ROLE {role} REPLICATION"))
            .next(format!("as a superuser (on Amazon RDS instead: GRANT rds_replication TO {role})"))
    });
    if facts.in_recovery && facts.version < 160_000 {
        out.push(
            Finding::problem(
                "standby",
                "the server is a standby, which decodes changes only from PostgreSQL 16 on",
            )
            .next("point the connector at the primary"),
        );
    }
}

async fn clock(client: &Client) -> Result<Finding> {
    let failed = |e| sql_error("cannot read the server's clock", e);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let before = now();
    let row = client
        .query_one("SELECT extract(epoch FROM clock_timestamp())::float8", &[])
        .await
        .map_err(failed)?;
    let theirs: f64 = row.try_get(0).map_err(failed)?;
    let apart = theirs - f64::midpoint(before, now());
    Ok(if apart.abs() > CLOCK.as_secs_f64() {
        Finding::warning("clock", format!("the server's clock is {apart:+.1} s off this machine's"))
            .next("set both by NTP: ts_ms and the shown lag depend on them")
    } else {
        Finding::good("clock", "the clocks agree")
    })
}

async fn number(client: &Client, what: &'static str, sql: &str) -> Result<i64> {
    let failed = |e| sql_error(what, e);
    client.query_one(sql, &[]).await.map_err(failed)?.try_get(0).map_err(failed)
}

async fn slot(client: &Client, options: &CaptureOptions, out: &mut Vec<Finding>) -> Result<()> {
    let name = &options.slot;
    let drop = format!("SELECT pg_drop_replication_slot({})", Literal(name));
    match catalog::slot(client, name).await? {
        Some(slot) if slot.plugin.as_deref() != Some("pgoutput") => out.push(
            Finding::problem("slot", format!("slot \"{name}\" was not made for pgoutput")).next("set slot.name to another name"),
        ),
        Some(slot) if slot.database.as_deref() != Some(options.database.as_str()) => out.push(
            Finding::problem("slot", format!("slot \"{name}\" belongs to database {}", slot.database.unwrap_or_default()))
                .next("set slot.name to another name"),
        ),
        Some(slot) if slot.wal_status.as_deref() == Some("lost") || slot.invalidation_reason.is_some() => out.push(
            Finding::problem("slot", format!("the server has invalidated slot \"{name}\": its changes are lost"))
                .sql(drop)
                .next("then read the tables again: millstream.lost.position=resnapshot or snapshot.mode=when_needed"),
        ),
        Some(slot) => {
            let used = if slot.active { ", a session reads from it now" } else { "" };
            out.push(Finding::good("slot", format!("slot \"{name}\" exists{used}")));
        }
        None => {
            let free = number(
                client,
                "cannot count the replication slots",
                "SELECT current_setting('max_replication_slots')::bigint - count(*) FROM pg_replication_slots",
            )
            .await?;
            out.push(if free > 0 {
                Finding::good("slot", format!("slot \"{name}\" is made at the start; {free} are free"))
            } else {
                Finding::problem("slot", "all replication slots are in use")
                    .sql("ALTER SYSTEM SET max_replication_slots = 20")
                    .next("as a superuser, then restart the server; or drop a slot that nobody reads")
            });
            let sql = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE xact_start < now() - interval '{LONG} s' \
                 AND backend_type = 'client backend'"
            );
            let long = number(client, "cannot look at the sessions", &sql).await?;
            if long > 0 {
                out.push(
                    Finding::warning("transactions", format!("{long} transactions are open for more than 10 minutes: a slot is made only when they have ended"))
                        .next("see pg_stat_activity, ordered by xact_start"),
                );
            }
        }
    }
    let senders = number(
        client,
        "cannot count the walsenders",
        "SELECT current_setting('max_wal_senders')::bigint - count(*) FROM pg_stat_replication",
    )
    .await?;
    out.push(if senders > 0 {
        Finding::good("walsenders", format!("{senders} walsenders are free"))
    } else {
        Finding::problem("walsenders", "all walsenders are in use")
            .sql("ALTER SYSTEM SET max_wal_senders = 20")
            .next("as a superuser, then restart the server")
    });
    let sql = "SELECT coalesce((SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'), -1)";
    let keep = number(client, "cannot read the server's settings", sql).await?;
    out.push(if keep < 0 {
        Finding::warning("disk", "nothing bounds the WAL that a slot holds back: a connector that is stopped for long fills the server's disk")
            .sql("ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'")
            .sql("SELECT pg_reload_conf()")
            .next("as a superuser, with what the disk has room for; a slot beyond it is given up, and said so")
    } else {
        Finding::good("disk", format!("a slot holds back at most {keep} MB of WAL"))
    });
    Ok(())
}

/// Slots of this database that nobody reads and no known connector names.
async fn orphans(
    client: &Client,
    options: &CaptureOptions,
    known: &[String],
    out: &mut Vec<Finding>,
) -> Result<()> {
    const SQL: &str = "
        SELECT slot_name::text, pg_size_pretty(
            (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END) - restart_lsn)
        FROM pg_replication_slots
        WHERE NOT active AND slot_type = 'logical' AND database = current_database() ORDER BY 1";
    let failed = |e| sql_error("cannot read the replication slots", e);
    for row in client.query(SQL, &[]).await.map_err(failed)? {
        let name: String = row.try_get(0).map_err(failed)?;
        let size: Option<String> = row.try_get(1).map_err(failed)?;
        if name != options.slot && !known.contains(&name) {
            out.push(
                Finding::warning(
                    "orphans",
                    format!(
                        "nobody reads slot \"{name}\", and no connector here names it; it holds back {}",
                        size.unwrap_or_else(|| "nothing any more".to_owned())
                    ),
                )
                .sql(format!("SELECT pg_drop_replication_slot({})", Literal(&name)))
                .next("if it belongs to nobody else: what it stands for is lost then"),
            );
        }
    }
    Ok(())
}

/// What counts of a captured table.
struct Described {
    schema: String,
    name: String,
    usage: bool,
    select: bool,
    insert: bool,
    owner: bool,
    identity: String,
    primary: bool,
    partitioned: bool,
    logged: bool,
}

impl Described {
    fn quoted(&self) -> Qualified<'_> {
        Qualified::new(&self.schema, &self.name)
    }
}

async fn describe(client: &Client, tables: &[TableName]) -> Result<Vec<Described>> {
    const SQL: &str = "
        SELECT n.nspname::text, c.relname::text, has_schema_privilege(n.oid, 'USAGE'),
               has_table_privilege(c.oid, 'SELECT'), has_table_privilege(c.oid, 'INSERT'),
               pg_has_role(c.relowner, 'USAGE'), c.relreplident::text,
               EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary),
               c.relkind = 'p', c.relpersistence = 'p'
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY($1) ORDER BY 1, 2";
    let oids: Vec<u32> = tables.iter().map(|t| t.oid).collect();
    let failed = |e| sql_error("cannot read the tables' description", e);
    let rows = client.query(SQL, &[&oids]).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            Ok(Described {
                schema: row.try_get(0).map_err(failed)?,
                name: row.try_get(1).map_err(failed)?,
                usage: row.try_get(2).map_err(failed)?,
                select: row.try_get(3).map_err(failed)?,
                insert: row.try_get(4).map_err(failed)?,
                owner: row.try_get(5).map_err(failed)?,
                identity: row.try_get(6).map_err(failed)?,
                primary: row.try_get(7).map_err(failed)?,
                partitioned: row.try_get(8).map_err(failed)?,
                logged: row.try_get(9).map_err(failed)?,
            })
        })
        .collect()
}

fn privileges(options: &CaptureOptions, facts: &ServerFacts, tables: &[Described], out: &mut Vec<Finding>) {
    let role = Ident(&facts.user);
    let mut schemas: Vec<&str> = tables.iter().filter(|t| !t.usage).map(|t| t.schema.as_str()).collect();
    schemas.dedup();
    let blind: Vec<&Described> = tables.iter().filter(|t| !t.select).collect();
    if schemas.is_empty() && blind.is_empty() {
        out.push(Finding::good("privileges", "the captured tables can be read"));
    } else {
        let mut finding = Finding::problem(
            "privileges",
            format!("role {role} may not read {} of the captured tables", blind.len().max(schemas.len())),
        )
        .next("as the tables' owner");
        for schema in schemas {
            finding = finding.sql(format!("GRANT USAGE ON SCHEMA {} TO {role}", Ident(schema)));
        }
        for table in blind {
            finding = finding.sql(format!("GRANT SELECT ON TABLE {} TO {role}", table.quoted()));
        }
        out.push(finding);
    }
    for table in tables.iter().filter(|t| options.tables.is_signal(&t.schema, &t.name)) {
        if !table.insert && !options.read_only {
            out.push(
                Finding::problem(
                    "signals",
                    format!(
                        "role {role} may not write into the signal table, which incremental snapshots need"
                    ),
                )
                .sql(format!("GRANT INSERT ON TABLE {} TO {role}", table.quoted()))
                .next("or set read.only=true"),
            );
        }
    }
    for table in tables.iter().filter(|t| !t.logged) {
        out.push(
            Finding::warning(
                "tables",
                format!("{} is unlogged: its changes are in no WAL and cannot be captured", table.quoted()),
            )
            .sql(format!("ALTER TABLE {} SET LOGGED", table.quoted())),
        );
    }
}

async fn publication(
    client: &Client,
    options: &CaptureOptions,
    facts: &ServerFacts,
    tables: &[Described],
    out: &mut Vec<Finding>,
) -> Result<()> {
    let name = Ident(&options.publication);
    let list =
        |tables: &[&Described]| tables.iter().map(|t| t.quoted().to_string()).collect::<Vec<_>>().join(", ");
    let all: Vec<&Described> = tables.iter().collect();
    let Some(publication) = catalog::publication(client, &options.publication).await? else {
        let sql = "SELECT CASE WHEN has_database_privilege(current_database(), 'CREATE') THEN 1::bigint ELSE 0::bigint END";
        let may_create = number(client, "cannot ask for privileges", sql).await? == 1;
        let makes_it = match options.publication_mode {
            PublicationMode::AllTables => facts.superuser,
            PublicationMode::Filtered => may_create && tables.iter().all(|t| t.owner),
            PublicationMode::NoTables => may_create,
            PublicationMode::Disabled => false,
        };
        out.push(if makes_it {
            Finding::good("publication", format!("publication {name} is made at the start"))
        } else {
            Finding::problem(
                "publication",
                format!("publication {name} does not exist, and the connector cannot make it"),
            )
            .sql(format!("CREATE PUBLICATION {name} FOR TABLE {}", list(&all)))
            .next("as the tables' owner; before the slot is made")
        });
        return Ok(());
    };
    if publication.all_tables && options.publication_mode == PublicationMode::Filtered {
        out.push(
            Finding::problem("publication", format!("publication {name} is FOR ALL TABLES, which publication.autocreate.mode=filtered cannot narrow"))
                .next("set publication.autocreate.mode=disabled, or name another publication"),
        );
        return Ok(());
    }
    let holds = |t: &Described| {
        // Without publish_via_partition_root the partitions are listed, not their root.
        (t.partitioned && !publication.via_root)
            || publication.tables.iter().any(|(schema, name)| *schema == t.schema && *name == t.name)
    };
    let missing: Vec<&Described> = tables.iter().filter(|t| !holds(t)).collect();
    let altered = options.publication_mode == PublicationMode::Filtered && tables.iter().all(|t| t.owner);
    out.push(if missing.is_empty() || altered {
        Finding::good("publication", format!("publication {name} holds the captured tables"))
    } else {
        let mut finding = Finding::problem(
            "publication",
            format!(
                "publication {name} lacks {} of the captured tables: their changes never come",
                missing.len()
            ),
        )
        .next("as the tables' owner");
        for table in missing {
            finding = finding.sql(format!("ALTER PUBLICATION {name} ADD TABLE {}", table.quoted()));
        }
        finding
    });
    let lacks: Vec<&str> =
        ["insert", "update", "delete"].into_iter().filter(|op| !publication.publish.contains(op)).collect();
    if !lacks.is_empty() && options.publish.is_none() {
        out.push(
            Finding::warning(
                "publication",
                format!("publication {name} does not publish {}", lacks.join(", ")),
            )
            .sql(format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate')"))
            .next("or name them in skipped.operations, if that is meant"),
        );
    }
    Ok(())
}

/// What old rows hold, and where the source itself refuses changes.
fn identities(tables: &[Described], out: &mut Vec<Finding>) {
    let (mut keys, mut full) = (0, 0);
    for table in tables {
        match table.identity.as_str() {
            "f" => full += 1,
            "i" => keys += 1,
            "d" if table.primary => keys += 1,
            _ => out.push(
                Finding::problem("identity", format!("{} has no replica identity (no primary key): once it is published, its UPDATE and DELETE fail at the source", table.quoted()))
                    .sql(format!("ALTER TABLE {} REPLICA IDENTITY FULL", table.quoted()))
                    .next("as its owner; better still: give it a primary key"),
            ),
        }
    }
    if keys > 0 {
        out.push(Finding::good(
            "identity",
            format!("{keys} tables identify rows by their key: `before` holds the key only"),
        ));
    }
    if full > 0 {
        out.push(Finding::good(
            "identity",
            format!("{full} tables have REPLICA IDENTITY FULL: `before` holds the whole row"),
        ));
    }
}
