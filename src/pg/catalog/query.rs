//! The queries behind the catalog's types, over an ordinary session.

use std::collections::HashMap;

use tokio_postgres::{Client, Row};

use super::{ColumnInfo, PgType, TableInfo, TypeKind, TypeRegistry};
use crate::error::{Error, Result};
use crate::pg::Lsn;
use crate::pg::error::sql_error;
use crate::pg::pgoutput::ReplicaIdentity;

/// A table's name and OID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// OID.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
}

/// What a source must be to be captured from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// `server_version_num`.
    pub version: u32,
    /// `wal_level`.
    pub wal_level: String,
    /// The server is a standby.
    pub in_recovery: bool,
    /// The role may replicate: REPLICATION, superuser, or one of the roles that managed services have for it.
    pub may_replicate: bool,
    /// The role is a superuser.
    pub superuser: bool,
    /// `current_user`.
    pub user: String,
}

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// Output plugin; `None` for a physical slot.
    pub plugin: Option<String>,
    /// Database of a logical slot.
    pub database: Option<String>,
    /// A walsender uses it now.
    pub active: bool,
    /// The walsender's process.
    pub active_pid: Option<i32>,
    /// Oldest WAL it holds back.
    pub restart_lsn: Option<Lsn>,
    /// What its reader has confirmed.
    pub confirmed_flush_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved`, `lost` (server 13+).
    pub wal_status: Option<String>,
    /// Why the server has invalidated it: `rows_removed`, `wal_level_insufficient`, `idle_timeout`, … (17+).
    pub invalidation_reason: Option<String>,
    /// It is kept up on this standby by the primary, and cannot be read before a promotion (17+).
    pub synced: bool,
    /// Prepared transactions are sent when they are prepared (14+).
    pub two_phase: bool,
}

/// A publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicationInfo {
    /// FOR ALL TABLES.
    pub all_tables: bool,
    /// Its tables (`pg_publication_tables`: with all tables, or schemas, each of them), sorted.
    pub tables: Vec<(String, String)>,
    /// Which of `insert`, `update`, `delete`, `truncate` it publishes.
    pub publish: Vec<&'static str>,
    /// `publish_via_partition_root`.
    pub via_root: bool,
}

fn failed(what: &'static str) -> impl Fn(tokio_postgres::Error) -> Error {
    move |e| sql_error(what, e)
}

fn get<'r, T: tokio_postgres::types::FromSql<'r>>(row: &'r Row, column: &str) -> Result<T> {
    row.try_get(column).map_err(|e| sql_error("cannot read the server's catalog", e))
}

fn lsn(row: &Row, column: &str) -> Result<Option<Lsn>> {
    let text: Option<&str> = get(row, column)?;
    Ok(text.and_then(|t| t.parse().ok()))
}

/// All types of the database, as Debezium reads them: without the TOAST schema, enum labels in their order.
///
/// # Errors
/// When the session breaks.
pub async fn load_types(client: &Client) -> Result<TypeRegistry> {
    const SQL: &str = "
        SELECT t.oid, n.nspname::text AS schema, t.typname::text AS name, t.typtype::text AS kind,
               t.typdelim::text AS delimiter, t.typbasetype AS base, t.typtypmod AS typmod,
               CASE WHEN e.typarray = t.oid THEN e.oid END AS element,
               CASE WHEN t.typtype = 'e' THEN ARRAY(
                   SELECT l.enumlabel::text FROM pg_catalog.pg_enum l
                   WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder) END AS labels
        FROM pg_catalog.pg_type t
        JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
        LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem
        WHERE n.nspname <> 'pg_toast'
        ORDER BY t.oid";
    let rows = client.query(SQL, &[]).await.map_err(failed("cannot read the types of the database"))?;
    let mut registry = TypeRegistry::default();
    for row in &rows {
        let element: Option<u32> = get(row, "element")?;
        let kind: &str = get(row, "kind")?;
        let kind = match (element, kind) {
            (Some(element), _) => TypeKind::Array(element),
            (None, "b") => TypeKind::Base,
            (None, "e") => TypeKind::Enum(get::<Option<Vec<String>>>(row, "labels")?.unwrap_or_default()),
            (None, "d") => TypeKind::Domain { base: get(row, "base")?, typmod: get(row, "typmod")? },
            (None, "c") => TypeKind::Composite,
            (None, "r" | "m") => TypeKind::Range,
            _ => TypeKind::Other,
        };
        let delimiter: &str = get(row, "delimiter")?;
        registry.insert(PgType {
            oid: get(row, "oid")?,
            schema: get(row, "schema")?,
            name: get(row, "name")?,
            kind,
            delimiter: delimiter.bytes().next().unwrap_or(b','),
        });
    }
    Ok(registry)
}

/// All ordinary and partitioned tables, without the system's and temporary ones, by schema and name.
///
/// # Errors
/// When the session breaks.
pub async fn list_tables(client: &Client) -> Result<Vec<TableName>> {
    const SQL: &str = "
        SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
          AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
        ORDER BY 2, 3";
    let rows = client.query(SQL, &[]).await.map_err(failed("cannot list the tables of the database"))?;
    rows.iter()
        .map(|row| {
            Ok(TableName { oid: get(row, "oid")?, schema: get(row, "schema")?, name: get(row, "name")? })
        })
        .collect()
}

/// What the catalog says now of these tables, in the order of `oids`; tables that are gone are left out.
///
/// # Errors
/// When the session breaks.
pub async fn load_tables(client: &Client, oids: &[u32]) -> Result<Vec<TableInfo>> {
    // Without a primary key: the first unique index over plain columns only, as Debezium takes it from pgjdbc: the
    // clustered one first, then by name; partial ones too, and with the columns a unique index only includes.
    const TABLES: &str = "
        SELECT c.oid, n.nspname::text AS schema, c.relname::text AS name, c.relreplident::text AS identity,
               i.indisprimary AS is_primary, i.key
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN LATERAL (
            SELECT x.indisprimary, ARRAY(
                       SELECT a.attname::text
                       FROM unnest(x.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
                       JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = k.attnum
                       WHERE k.n <= x.indnkeyatts OR NOT x.indisprimary ORDER BY k.n) AS key
            FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class xc ON xc.oid = x.indexrelid
            WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid AND x.indexprs IS NULL
            ORDER BY x.indisprimary DESC, x.indisclustered DESC, xc.relname LIMIT 1) i ON true
        WHERE c.oid = ANY($1)";
    const COLUMNS: &str = "
        SELECT a.attrelid AS oid, a.attname::text AS name, a.attnum, a.atttypid AS type_oid,
               a.atttypmod AS typmod, a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) AS not_null,
               pg_catalog.pg_get_expr(d.adbin, d.adrelid) AS default_expr,
               a.attgenerated <> '' AS generated, a.attidentity <> '' AS identity,
               pg_catalog.col_description(a.attrelid, a.attnum) AS comment
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
        LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attrelid, a.attnum";
    if oids.is_empty() {
        return Ok(Vec::new());
    }
    let failed = failed("cannot read the tables' description");
    let (tables, columns) =
        futures_util::future::join(client.query(TABLES, &[&oids]), client.query(COLUMNS, &[&oids])).await;
    let mut columns_by_table: HashMap<u32, Vec<ColumnInfo>> = HashMap::new();
    for row in &columns.map_err(&failed)? {
        columns_by_table.entry(get(row, "oid")?).or_default().push(ColumnInfo {
            name: get(row, "name")?,
            attnum: get(row, "attnum")?,
            type_oid: get(row, "type_oid")?,
            typmod: get(row, "typmod")?,
            optional: !get::<bool>(row, "not_null")?,
            default_expr: get(row, "default_expr")?,
            generated: get(row, "generated")?,
            identity: get(row, "identity")?,
            comment: get(row, "comment")?,
        });
    }
    let mut found: HashMap<u32, TableInfo> = HashMap::new();
    for row in &tables.map_err(&failed)? {
        let oid: u32 = get(row, "oid")?;
        let identity = match get::<&str>(row, "identity")? {
            "n" => ReplicaIdentity::Nothing,
            "f" => ReplicaIdentity::Full,
            "i" => ReplicaIdentity::Index,
            _ => ReplicaIdentity::Default,
        };
        let table = TableInfo {
            oid,
            schema: get(row, "schema")?,
            name: get(row, "name")?,
            columns: columns_by_table.remove(&oid).unwrap_or_default(),
            key: get::<Option<Vec<String>>>(row, "key")?.unwrap_or_default(),
            key_is_primary: get::<Option<bool>>(row, "is_primary")?.unwrap_or(false),
            identity,
        };
        found.insert(oid, table);
    }
    Ok(oids.iter().filter_map(|oid| found.remove(oid)).collect())
}

/// What the server is and what this role may do there.
///
/// # Errors
/// When the session breaks.
pub async fn server_facts(client: &Client) -> Result<ServerFacts> {
    const SQL: &str = "
        SELECT current_setting('server_version_num')::int AS version, current_setting('wal_level') AS wal_level,
               pg_catalog.pg_is_in_recovery() AS in_recovery, current_user::text AS user,
               r.rolsuper AS superuser,
               r.rolsuper OR r.rolreplication OR EXISTS (
                   SELECT FROM pg_catalog.pg_roles g
                   WHERE g.rolname IN ('rds_superuser', 'rdsadmin', 'rdsrepladmin', 'rds_replication')
                     AND pg_catalog.pg_has_role(current_user, g.oid, 'MEMBER')) AS may_replicate
        FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";
    let row = client.query_one(SQL, &[]).await.map_err(failed("cannot read the server's settings"))?;
    Ok(ServerFacts {
        version: u32::try_from(get::<i32>(&row, "version")?).unwrap_or(0),
        wal_level: get(&row, "wal_level")?,
        in_recovery: get(&row, "in_recovery")?,
        may_replicate: get(&row, "may_replicate")?,
        superuser: get(&row, "superuser")?,
        user: get(&row, "user")?,
    })
}

impl ServerFacts {
    /// Whether changes can be captured here by this role.
    ///
    /// # Errors
    /// [`crate::Kind::Refused`] where `wal_level` is not `logical` or the role may not replicate.
    pub fn check_capture(&self) -> Result<()> {
        if self.wal_level != "logical" {
            return Err(Error::refused("the source does not write what logical replication needs")
                .because(format!("its wal_level is {}, not logical", self.wal_level))
                .next("ALTER SYSTEM SET wal_level = 'logical', and restart the server"));
        }
        if !self.may_replicate {
            let role = crate::pg::Ident(&self.user);
            return Err(Error::refused(format!("role {role} may not replicate"))
                .because("it has neither REPLICATION nor superuser rights")
                .next(format!(
                    "ALTER ROLE {role} REPLICATION (on Amazon RDS: GRANT rds_replication TO {role})"
                )));
        }
        Ok(())
    }
}

/// A replication slot; `None` when there is none of this name.
///
/// # Errors
/// When the session breaks.
pub async fn slot(client: &Client, name: &str) -> Result<Option<SlotInfo>> {
    const SQL: &str = "
        SELECT s.plugin::text AS plugin, s.database::text AS database, s.active, s.active_pid,
               s.restart_lsn::text AS restart_lsn, s.confirmed_flush_lsn::text AS confirmed_flush_lsn,
               to_jsonb(s) ->> 'wal_status' AS wal_status,
               to_jsonb(s) ->> 'invalidation_reason' AS invalidation_reason,
               coalesce((to_jsonb(s) ->> 'synced')::boolean, false) AS synced,
               coalesce((to_jsonb(s) ->> 'two_phase')::boolean, false) AS two_phase
        FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1::text";
    let row = client.query_opt(SQL, &[&name]).await.map_err(failed("cannot read the replication slots"))?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(SlotInfo {
        plugin: get(&row, "plugin")?,
        database: get(&row, "database")?,
        active: get(&row, "active")?,
        active_pid: get(&row, "active_pid")?,
        restart_lsn: lsn(&row, "restart_lsn")?,
        confirmed_flush_lsn: lsn(&row, "confirmed_flush_lsn")?,
        wal_status: get(&row, "wal_status")?,
        invalidation_reason: get(&row, "invalidation_reason")?,
        synced: get(&row, "synced")?,
        two_phase: get(&row, "two_phase")?,
    }))
}

/// A publication; `None` when there is none of this name.
///
/// # Errors
/// When the session breaks.
pub async fn publication(client: &Client, name: &str) -> Result<Option<PublicationInfo>> {
    const SQL: &str = "
        SELECT puballtables, pubinsert, pubupdate, pubdelete, pubtruncate,
               coalesce((to_jsonb(p) ->> 'pubviaroot')::boolean, false) AS via_root
        FROM pg_catalog.pg_publication p WHERE pubname = $1::text";
    const TABLES: &str = "
        SELECT schemaname::text AS schema, tablename::text AS name
        FROM pg_catalog.pg_publication_tables WHERE pubname = $1::text ORDER BY 1, 2";
    let failed = failed("cannot read the publications");
    let Some(row) = client.query_opt(SQL, &[&name]).await.map_err(&failed)? else { return Ok(None) };
    let mut publish = Vec::new();
    for (column, operation) in [
        ("pubinsert", "insert"),
        ("pubupdate", "update"),
        ("pubdelete", "delete"),
        ("pubtruncate", "truncate"),
    ] {
        if get(&row, column)? {
            publish.push(operation);
        }
    }
    let tables = client.query(TABLES, &[&name]).await.map_err(&failed)?;
    Ok(Some(PublicationInfo {
        all_tables: get(&row, "puballtables")?,
        tables: tables.iter().map(|t| Ok((get(t, "schema")?, get(t, "name")?))).collect::<Result<_>>()?,
        publish,
        via_root: get(&row, "via_root")?,
    }))
}
