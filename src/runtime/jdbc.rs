//! PostgreSQL tables as inputs: read once by a scan, or asked by lookup joins.
//!
//! Rows come as JSON objects that the server makes, so that one reader, that of the json format, knows how SQL
//! types are read. A scan has the order of the table's own key, and goes on behind the last one read after a restart.

use std::fmt::Write as _;

use tokio_postgres::Client;

use crate::config::AddressMap;
use crate::engine::format::{self, Decoder, FormatContext, Input};
use crate::engine::plan::TableRef;
use crate::engine::row::{Change, Row};
use crate::engine::types::{DataType, TypeKind};
use crate::error::{Error, Result};
use crate::pg::{ConnectConfig, Ident, Qualified, sql_error};
use crate::sink::format_error;
use crate::sink::postgres::{TargetName, connection};

/// A table in a database, as its WITH options name it.
#[derive(Clone, Debug)]
pub(super) struct OutsideTable {
    pub(super) table: TableRef,
    pub(super) config: ConnectConfig,
    name: TargetName,
}

/// What the database says of it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Quoted, with its schema.
    from: String,
    /// Per column of the table: its name there, quoted, and its type.
    columns: Vec<(String, String)>,
    /// The columns of its primary key, or of another unique index without nulls: names, and types. Rows are told apart by
    /// what the database makes sure of, not by what the SQL says is a key.
    key: Vec<(String, String)>,
}

/// How far a scan has come: the key of the last row that was read, column by column, as text. Without columns: to the
/// end of a table that has no key.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(super) struct ScanKey(Vec<(String, String)>);

impl ScanKey {
    /// As it is kept in the state.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn is_end(&self) -> bool {
        self.0.is_empty()
    }

    /// The parameters of [`Found::scan`].
    pub(super) fn values(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|(_, value)| value.as_str())
    }
}

impl OutsideTable {
    pub(super) fn new(table: &TableRef, addresses: &AddressMap) -> Result<Self> {
        let (mut config, name) = connection(table, addresses.clone(), format!("millstream {}", table.name))?;
        // Times come as text: in UTC, and not in the style that a role was given.
        for (parameter, value) in [("DateStyle", "ISO"), ("extra_float_digits", "1")] {
            config.parameters.push((parameter.to_owned(), value.to_owned()));
        }
        Ok(Self { table: table.clone(), config, name })
    }

    /// For messages.
    pub(super) fn describe(&self) -> String {
        format!("table {} at {}", self.name.plain(), self.config.describe())
    }

    /// Looks the table up in the catalog.
    pub(super) async fn find(&self, client: &Client) -> Result<Found> {
        const TABLE: &str = "
            SELECT c.oid, n.nspname::text, c.relname::text
            FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname::text IN ($1, lower($1))
              AND CASE WHEN $2::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid)
                       ELSE n.nspname::text IN ($2, lower($2)) END
            ORDER BY c.relname::text = $1 DESC, n.nspname::text = $2 DESC LIMIT 1";
        const COLUMNS: &str = "
            SELECT attname::text, pg_catalog.format_type(atttypid, -1) FROM pg_catalog.pg_attribute
            WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
        const KEY: &str = "
            SELECT a.attname::text, pg_catalog.format_type(a.atttypid, -1)
            FROM pg_catalog.pg_index i, unnest(i.indkey) WITH ORDINALITY k(attnum, place)
              JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum
            WHERE a.attrelid = $1 AND k.place <= i.indnkeyatts AND i.indexrelid =
              (SELECT u.indexrelid FROM pg_catalog.pg_index u
               WHERE u.indrelid = $1 AND u.indisunique AND u.indisvalid AND u.indpred IS NULL AND u.indexprs IS NULL
                 AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute n
                                 WHERE n.attrelid = $1 AND n.attnum = ANY (u.indkey) AND NOT n.attnotnull)
               ORDER BY u.indisprimary DESC, u.indnatts, u.indexrelid LIMIT 1)
            ORDER BY k.place";
        let failed = |e| sql_error(format!("cannot look for {}", self.describe()), e);
        let row = client.query_opt(TABLE, &[&self.name.table, &self.name.schema]).await.map_err(failed)?;
        let Some(row) = row else {
            return Err(Error::config(format!(
                "table {}: {} does not exist",
                self.table.name,
                self.describe()
            ))
            .next("check 'table-name' and the database in 'url'; the role needs USAGE on the schema"));
        };
        let oid: u32 = row.try_get(0).map_err(failed)?;
        let (schema, name): (String, String) =
            (row.try_get(1).map_err(failed)?, row.try_get(2).map_err(failed)?);
        let mut known: Vec<(String, String)> = Vec::new();
        for row in client.query(COLUMNS, &[&oid]).await.map_err(failed)? {
            known.push((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?));
        }
        let mut columns = Vec::new();
        for column in &self.table.columns {
            let wanted = &column.field.name;
            let found = known
                .iter()
                .find(|(name, _)| name == wanted)
                .or_else(|| known.iter().find(|(name, _)| *name == wanted.to_lowercase()));
            let Some((name, kind)) = found else {
                let names: Vec<&str> = known.iter().map(|(n, _)| n.as_str()).collect();
                return Err(Error::config(format!(
                    "table {}: column {wanted} is not in {}",
                    self.table.name,
                    self.describe()
                ))
                .because(format!("it has: {}", names.join(", ")))
                .next("give the column the name it has there"));
            };
            columns.push((Ident(name).to_string(), kind.clone()));
        }
        let mut key: Vec<(String, String)> = Vec::new();
        for row in client.query(KEY, &[&oid]).await.map_err(failed)? {
            key.push((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?));
        }
        let from = Qualified { schema: Some(&schema), name: &name }.to_string();
        Ok(Found { from, columns, key })
    }

    /// Reads the JSON objects of [`Found`].
    pub(super) fn decoder(&self, context: &FormatContext) -> Result<Box<dyn Decoder>> {
        decoder(&self.table, context)
    }

    pub(super) fn failed(&self, error: tokio_postgres::Error) -> Error {
        sql_error(format!("table {}: {} cannot be read", self.table.name, self.describe()), error)
    }
}

/// The decoder of rows as JSON objects with ISO times, whatever connector the table names.
pub(super) fn decoder(table: &TableRef, context: &FormatContext) -> Result<Box<dyn Decoder>> {
    let options =
        [("connector", "kafka"), ("format", "json"), ("json.timestamp-format.standard", "ISO-8601")];
    let table = TableRef {
        options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        primary_key: Vec::new(),
        ..table.clone()
    };
    format::decoder(&table, context).map_err(|e| format_error(&table.name, e))
}

/// Reads one row.
pub(super) fn read_row(decoder: &mut dyn Decoder, table: &str, json: &str) -> Result<Row> {
    let mut changes: Vec<Change> = Vec::with_capacity(1);
    let input = Input {
        value: Some(json.as_bytes()),
        key: None,
        topic: table,
        partition: 0,
        offset: 0,
        timestamp: 0,
        leader_epoch: None,
        headers: &[],
    };
    decoder.decode(&input, &mut changes).map_err(|e| {
        let column = e.column.as_ref().map(|c| format!(", column {c}")).unwrap_or_default();
        Error::data(format!("table {table}: a row of the database cannot be read{column}")).because(e.what)
    })?;
    let change = changes.pop().ok_or_else(|| Error::internal("a row of JSON gave no row"))?;
    Ok(change.row)
}

impl Found {
    /// The columns of relation `t` under the names of the SQL table, as the JSON reader wants them.
    fn select_list(&self, table: &TableRef) -> String {
        let mut list = String::new();
        for (i, (column, (name, kind))) in table.columns.iter().zip(&self.columns).enumerate() {
            if i > 0 {
                list.push_str(", ");
            }
            let _ = write!(
                list,
                "{} AS {}",
                value(name, kind, &column.field.data_type),
                Ident(&column.field.name)
            );
        }
        list
    }

    /// All rows as JSON, in any order.
    pub(super) fn all(&self, table: &TableRef) -> String {
        format!(
            "SELECT (SELECT row_to_json(r)::text FROM (SELECT {}) r) FROM {} t",
            self.select_list(table),
            self.from
        )
    }

    /// Rows as JSON and, where the table has a key, its columns as text: all in the key's order, or those behind a key that
    /// is given as parameters. `None`: that key is not the table's.
    pub(super) fn scan(&self, table: &TableRef, behind: Option<&ScanKey>) -> Option<String> {
        let mut sql = String::from("SELECT (SELECT row_to_json(r)::text FROM (SELECT ");
        sql.push_str(&self.select_list(table));
        sql.push_str(") r)");
        let names: Vec<String> = self.key.iter().map(|(name, _)| format!("t.{}", Ident(name))).collect();
        for name in &names {
            let _ = write!(sql, ", {name}::text");
        }
        let _ = write!(sql, " FROM {} t", self.from);
        if let Some(ScanKey(values)) = behind {
            let known: Vec<&String> = values.iter().map(|(name, _)| name).collect();
            if known.is_empty() || known != self.key.iter().map(|(name, _)| name).collect::<Vec<_>>() {
                return None;
            }
            let last = (1..).zip(&self.key).map(|(i, (_, kind))| format!("${i}::text::{kind}"));
            let _ = write!(sql, " WHERE ({}) > ({})", names.join(", "), last.collect::<Vec<_>>().join(", "));
        }
        if !names.is_empty() {
            let _ = write!(sql, " ORDER BY {}", names.join(", "));
        }
        Some(sql)
    }

    /// The key of a row of [`Self::scan`]; `None`: the table has none.
    pub(super) fn key(&self, row: &tokio_postgres::Row) -> Result<Option<ScanKey>, tokio_postgres::Error> {
        let value = |(i, (name, _)): (usize, &(String, String))| Ok((name.clone(), row.try_get(i)?));
        let values = (1..).zip(&self.key).map(value).collect::<Result<Vec<_>, _>>()?;
        Ok((!values.is_empty()).then_some(ScanKey(values)))
    }

    /// Numbers of keys and their rows as JSON; parameters are one array per key column, of these types.
    pub(super) fn lookup(&self, table: &TableRef, key: &[usize], types: &[&str]) -> String {
        let arrays: Vec<String> = (1..).zip(types).map(|(i, t)| format!("${i}::{t}[]")).collect();
        let names: Vec<String> = (1..=types.len()).map(|i| format!("k{i}")).collect();
        let on: Vec<String> = key
            .iter()
            .zip(&names)
            .zip(types)
            .filter_map(|((column, name), sent)| {
                let (column, kind) = self.columns.get(*column)?;
                // Text is compared with whatever the column is (uuid, an enum, …): cast on the key's side, so that
                // an index on the column serves.
                let cast =
                    if *sent == "text" && kind != "text" { format!("::{kind}") } else { String::new() };
                Some(format!("t.{column} = k.{name}{cast}"))
            })
            .collect();
        format!(
            "SELECT k.n, (SELECT row_to_json(r)::text FROM (SELECT {}) r) \
             FROM unnest({}) WITH ORDINALITY AS k({}, n) JOIN {} t ON {}",
            self.select_list(table),
            arrays.join(", "),
            names.join(", "),
            self.from,
            on.join(" AND ")
        )
    }
}

/// A column as a value whose JSON form is the one that its SQL type is read from.
fn value(name: &str, kind: &str, data_type: &DataType) -> String {
    match &data_type.kind {
        // With its spaces, as events have it and Flink reads it.
        TypeKind::Varchar(_) | TypeKind::Char(_) if kind == "bpchar" => format!("t.{name}"),
        TypeKind::Varchar(_) | TypeKind::Char(_) => format!("t.{name}::text"),
        TypeKind::Binary(_) | TypeKind::Varbinary(_) => {
            format!("translate(encode(t.{name}, 'base64'), E'\\n', '')")
        }
        TypeKind::Date => format!("t.{name}::date"),
        TypeKind::Time(_) => format!("t.{name}::time"),
        TypeKind::Timestamp(_) => format!("t.{name}::timestamp"),
        TypeKind::TimestampLtz(_) => {
            format!("to_char(t.{name} AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
        }
        _ => format!("t.{name}"),
    }
}
