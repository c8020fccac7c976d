//! Catalog queries: types and tables as the event encoder wants them.

use std::collections::HashMap;

use tokio_postgres::Client;

use crate::error::Result;
use crate::pg::catalog::{ColumnInfo, PgType, TableInfo, TypeKind, TypeRegistry};
use crate::pg::pgoutput::ReplicaIdentity;
use crate::pg::sql_error;

/// All types of the database.
pub(super) async fn load_types(client: &Client) -> Result<TypeRegistry> {
    let fail = |e| sql_error("cannot read the catalog of types", e);
    let mut labels: HashMap<u32, Vec<String>> = HashMap::new();
    let sql = "SELECT enumtypid, enumlabel::text FROM pg_enum ORDER BY enumtypid, enumsortorder";
    for row in client.query(sql, &[]).await.map_err(fail)? {
        labels.entry(row.get(0)).or_default().push(row.get(1));
    }
    let sql = "SELECT t.oid, n.nspname::text, t.typname::text, t.typtype::text, t.typbasetype, t.typtypmod, \
               t.typelem, t.typdelim::text, t.typcategory::text \
               FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname <> 'pg_toast'";
    let mut types = TypeRegistry::default();
    for row in client.query(sql, &[]).await.map_err(fail)? {
        let oid: u32 = row.get(0);
        let element: u32 = row.get(6);
        let kind = match row.get::<_, &str>(3) {
            "e" => TypeKind::Enum(labels.remove(&oid).unwrap_or_default()),
            "d" => TypeKind::Domain { base: row.get(4), typmod: row.get(5) },
            "c" => TypeKind::Composite,
            "r" | "m" => TypeKind::Range,
            "b" if row.get::<_, &str>(8) == "A" && element != 0 => TypeKind::Array(element),
            "b" => TypeKind::Base,
            _ => TypeKind::Other,
        };
        let delimiter = row.get::<_, &str>(7).bytes().next().unwrap_or(b',');
        types.insert(PgType { oid, schema: row.get(1), name: row.get(2), kind, delimiter });
    }
    Ok(types)
}

/// These tables as the catalog has them now; those that do not exist are left out.
pub(super) async fn load_tables(client: &Client, oids: &[u32]) -> Result<Vec<TableInfo>> {
    let fail = |e| sql_error("cannot read the catalog of tables", e);
    let oids = oids.to_vec();
    let sql = "SELECT c.oid, n.nspname::text, c.relname::text, c.relreplident::text \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY($1)";
    let mut tables: HashMap<u32, TableInfo> = HashMap::new();
    for row in client.query(sql, &[&oids]).await.map_err(fail)? {
        let identity = match row.get::<_, &str>(3) {
            "n" => ReplicaIdentity::Nothing,
            "f" => ReplicaIdentity::Full,
            "i" => ReplicaIdentity::Index,
            _ => ReplicaIdentity::Default,
        };
        let table = TableInfo {
            oid: row.get(0),
            schema: row.get(1),
            name: row.get(2),
            columns: Vec::new(),
            key: Vec::new(),
            key_is_primary: false,
            identity,
        };
        tables.insert(table.oid, table);
    }
    // A NOT NULL domain makes its columns required, as the JDBC driver says it.
    let sql = "SELECT a.attrelid, a.attname::text, a.attnum, a.atttypid, a.atttypmod, \
               NOT (a.attnotnull OR (t.typtype = 'd' AND t.typnotnull)), \
               CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END, \
               a.attgenerated <> '', a.attidentity <> '', col_description(a.attrelid, a.attnum) \
               FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
               LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
               WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attrelid, a.attnum";
    for row in client.query(sql, &[&oids]).await.map_err(fail)? {
        if let Some(table) = tables.get_mut(&row.get::<_, u32>(0)) {
            table.columns.push(ColumnInfo {
                name: row.get(1),
                attnum: row.get(2),
                type_oid: row.get(3),
                typmod: row.get(4),
                optional: row.get(5),
                default_expr: row.get(6),
                generated: row.get(7),
                identity: row.get(8),
                comment: row.get(9),
            });
        }
    }
    // The primary key; without one the first unique index by name whose parts are all plain columns.
    let sql = "SELECT i.indrelid, i.indisprimary, array_agg(a.attname::text ORDER BY k.n) \
               FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
               CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n) \
               LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0 \
               WHERE i.indrelid = ANY($1) AND i.indisunique AND i.indisvalid AND k.n <= i.indnkeyatts \
               GROUP BY i.indrelid, i.indisprimary, c.relname HAVING bool_and(k.attnum > 0) \
               ORDER BY i.indrelid, i.indisprimary DESC, c.relname";
    for row in client.query(sql, &[&oids]).await.map_err(fail)? {
        if let Some(table) = tables.get_mut(&row.get::<_, u32>(0)) {
            if table.key.is_empty() {
                table.key_is_primary = row.get(1);
                table.key = row.get(2);
            }
        }
    }
    let mut tables: Vec<TableInfo> = tables.into_values().collect();
    tables.sort_by_key(|t| oids.iter().position(|oid| *oid == t.oid));
    Ok(tables)
}
