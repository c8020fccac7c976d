//! Chunks of a table, and the rows in the signal table around them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use tokio_postgres::Client;

use super::Tools;
use crate::capture::keys::{self, Key, KeyColumns, all_columns, name_of};
use crate::capture::stream::Table;
use crate::error::{Error, Result};
use crate::event::TablePlan;
use crate::pg::catalog::{self, TableInfo};
use crate::pg::snapshot::{CopyDecoder, CopyReader, SESSION_SETTINGS};
use crate::pg::{Literal, Qualified, sql_error};

/// A chunk ends with the row that makes it larger than this, bytes: it is kept in memory until the stream has passed.
const LARGE: usize = 8 << 20;
/// What rows that cannot be cut apart may hold, bytes.
const LARGEST: usize = 256 << 20;
/// The stream waits for a chunk: a table whose chunks take longer is left.
const LONGEST: Duration = Duration::from_secs(240);

/// A table that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) condition: Option<String>,
    /// Column to put the rows in order by, instead of the key.
    pub(super) surrogate: Option<String>,
}

impl Target {
    /// `schema.table`, or what else the signal says.
    pub(super) fn id(&self) -> String {
        if self.schema.is_empty() { self.name.clone() } else { format!("{}.{}", self.schema, self.name) }
    }
}

/// A row of a chunk.
pub(super) struct Row {
    /// Its key, by which the stream knows it; empty without one.
    pub(super) identity: Key,
    pub(super) line: Bytes,
}

/// The table that is being read.
pub(super) struct Scan {
    pub(super) table: TableInfo,
    pub(super) plan: TablePlan,
    /// What the rows are put in order by.
    key: KeyColumns,
    /// Several rows may have the same: a chunk then ends behind all of them.
    ties: bool,
    /// What tells rows apart.
    pub(super) identity: Option<KeyColumns>,
    /// The greatest key when the reading began: rows added behind it are in the stream.
    pub(super) max: Key,
    /// The last key read.
    pub(super) end: Option<Key>,
    /// The last key sent: a restart goes on behind it.
    pub(super) sent: Option<Key>,
    pub(super) rows: u64,
    /// Rows that a chunk may have, after one that was large in bytes.
    fit: i64,
    /// The table as the stream describes it, and where in its rows that stands by which rows are told apart.
    streamed: Option<(Arc<Table>, Option<Vec<usize>>)>,
    /// It lacked a column that it had a moment before.
    pub(super) altered: bool,
}

/// How a table's rows are put in order, and told apart.
struct Keyed {
    key: KeyColumns,
    ties: bool,
    identity: Option<KeyColumns>,
}

/// `Err`: why there is nothing to read, as notifications say it.
fn keyed(target: &Target, table: &TableInfo, plan: &TablePlan) -> std::result::Result<Keyed, &'static str> {
    // The events' key: the table's own, or what message.key.columns says.
    let named: Vec<String> =
        plan.key_columns().filter_map(|i| table.columns.get(i)).map(|c| c.name.clone()).collect();
    let own = KeyColumns::new(table, &table.key);
    let identity = own.clone().or_else(|| KeyColumns::new(table, &named));
    let (key, ties) = match &target.surrogate {
        Some(column) => (KeyColumns::new(table, std::slice::from_ref(column)), true),
        None if own.is_some() => (own, false),
        None => (identity.clone(), true),
    };
    match key {
        Some(key) => Ok(Keyed { key, ties, identity }),
        None if target.surrogate.is_some() => Err("SQL_EXCEPTION"),
        None => Err("NO_PRIMARY_KEY"),
    }
}

async fn plan(tools: &mut Tools<'_>, table: &TableInfo) -> Result<TablePlan> {
    // The table may be younger than the types that are known.
    let known = table.columns.iter().all(|c| tools.types.get(c.type_oid).is_some());
    let fresh = if known { None } else { Some(catalog::load_types(tools.client).await?) };
    let types = fresh.as_ref().unwrap_or(tools.types);
    tools.encoder.snapshot_plan(table, types).map_err(crate::capture::run::unusable)
}

impl Scan {
    /// Looks a table up and finds its greatest key. `Err` inside: why there is nothing to read, as notifications
    /// say it.
    pub(super) async fn begin(
        target: &Target,
        tools: &mut Tools<'_>,
        decoder: &mut CopyDecoder,
        resumed: Option<(Key, Option<Key>)>,
    ) -> Result<std::result::Result<Self, &'static str>> {
        if !tools.options.tables.captures(&target.schema, &target.name) {
            return Ok(Err("UNKNOWN_SCHEMA"));
        }
        let oid = catalog::list_tables(tools.client)
            .await?
            .into_iter()
            .find(|t| t.schema == target.schema && t.name == target.name)
            .map(|t| t.oid);
        let Some(oid) = oid else { return Ok(Err("UNKNOWN_SCHEMA")) };
        let Some(table) = catalog::load_tables(tools.client, &[oid]).await?.into_iter().next() else {
            return Ok(Err("UNKNOWN_SCHEMA"));
        };
        let plan = plan(tools, &table).await?;
        let Keyed { key, ties, identity } = match keyed(target, &table, &plan) {
            Ok(keyed) => keyed,
            Err(why) => return Ok(Err(why)),
        };
        let mut scan = Self {
            table,
            plan,
            key,
            ties,
            identity,
            max: Vec::new(),
            end: None,
            sent: None,
            rows: 0,
            fit: i64::MAX,
            streamed: None,
            altered: false,
        };
        if let Some((max, end)) = resumed.filter(|(max, _)| max.len() == scan.key.len()) {
            scan.max = max;
            scan.sent.clone_from(&end);
            scan.end = end;
            return Ok(Ok(scan));
        }
        let mut filter = vec![format!("ROW({}) IS NOT NULL", scan.key.list(""))];
        filter.extend(target.condition.as_ref().map(|c| format!("({c})")));
        let select = format!(
            "SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT 1",
            all_columns(&scan.table),
            name_of(&scan.table),
            filter.join(" AND "),
            scan.key.list(" DESC")
        );
        let found = async {
            let mut max = None;
            let mut reader = CopyReader::start(tools.client, &select).await?;
            while let Some(line) = reader.next_line().await? {
                max = Some(scan.key.of_line(decoder, &line)?);
            }
            Ok(max)
        };
        match found.await {
            Ok(Some(max)) => {
                scan.max = max;
                Ok(Ok(scan))
            }
            Ok(None) => Ok(Err("EMPTY")),
            Err(error) => sql_exception(target, tools, error),
        }
    }

    /// Looks at the table again, which may have been altered since the last chunk: this one is read as it is now.
    /// `Err` inside: why there is nothing to read any more.
    pub(super) async fn refresh(
        &mut self,
        target: &Target,
        tools: &mut Tools<'_>,
    ) -> Result<std::result::Result<(), &'static str>> {
        let table = catalog::load_tables(tools.client, &[self.table.oid]).await?.into_iter().next();
        let Some(table) = table else { return Ok(Err("UNKNOWN_SCHEMA")) };
        if table == self.table {
            return Ok(Ok(()));
        }
        let plan = plan(tools, &table).await?;
        match keyed(target, &table, &plan) {
            // The keys read so far are of the old one.
            Ok(Keyed { key, .. }) if key.names() != self.key.names() => Ok(Err("SQL_EXCEPTION")),
            Ok(Keyed { key, ties, identity }) => {
                (self.key, self.ties, self.identity) = (key, ties, identity);
                (self.table, self.plan, self.streamed) = (table, plan, None);
                Ok(Ok(()))
            }
            Err(why) => Ok(Err(why)),
        }
    }

    /// Places of what tells rows apart in rows of the stream, as it describes the table now.
    pub(super) fn places(&mut self, table: &Arc<Table>) -> Option<&[usize]> {
        if !self.streamed.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, table)) {
            let places = self.identity.as_ref().and_then(|identity| identity.places_in(&table.columns));
            self.streamed = Some((Arc::clone(table), places));
        }
        self.streamed.as_ref()?.1.as_deref()
    }

    /// A key for people and notifications.
    pub(super) fn shown(&self, key: &Key) -> String {
        keys::shown(key, self.key.types(&self.table))
    }

    /// The next rows.
    pub(super) async fn chunk(
        &mut self,
        client: &Client,
        limit: i64,
        target: &Target,
        decoder: &mut CopyDecoder,
    ) -> Result<Vec<Row>> {
        let limit = limit.min(self.fit);
        let mut conditions = vec![self.key.compare("<=", &self.max)];
        if let Some(end) = &self.end {
            conditions.insert(0, self.key.compare(">", end));
        }
        if let Some(condition) = &target.condition {
            conditions.push(format!("({condition})"));
        }
        let select = format!(
            "SELECT {} FROM {} WHERE {} ORDER BY {} FETCH FIRST {limit} ROWS {}",
            all_columns(&self.table),
            name_of(&self.table),
            conditions.join(" AND "),
            self.key.list(""),
            if self.ties { "WITH TIES" } else { "ONLY" }
        );
        let mut reader = CopyReader::start(client, &select).await?;
        let mut rows = Vec::new();
        let (mut bytes, mut dropped) = (0, false);
        while let Some(line) = reader.next_line().await? {
            bytes += line.len();
            // Rows of one key go together; others may come with the next chunk.
            let most = if self.ties { LARGEST } else { LARGE };
            if dropped || (bytes > most && !rows.is_empty()) {
                dropped = true;
                continue;
            }
            let identity = match &self.identity {
                Some(identity) => identity.of_line(decoder, &line)?,
                None => Key::new(),
            };
            rows.push(Row { identity, line });
        }
        if dropped && self.ties {
            return Err(Error::data(format!(
                "the rows of a chunk of {} hold more than {LARGEST} bytes",
                target.id()
            ))
            .because("the table is read by a key that several rows share, whose rows go together")
            .next("lower incremental.snapshot.chunk.size, or give the table a primary key"));
        }
        let read = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        self.fit = match dropped {
            true => read.max(1),
            // The rows behind may be smaller again.
            false if bytes < LARGE / 2 => self.fit.saturating_mul(2),
            false => self.fit,
        };
        if let Some(last) = rows.last() {
            self.end = Some(self.key.of_line(decoder, &last.line)?);
            self.rows += u64::try_from(rows.len()).unwrap_or(0);
        }
        Ok(rows)
    }
}

fn sql_exception(
    target: &Target,
    tools: &Tools<'_>,
    error: Error,
) -> Result<std::result::Result<Scan, &'static str>> {
    if !is_the_tables(&error) {
        return Err(error);
    }
    tracing::error!(connector = tools.options.name, table = target.id(), %error, "the incremental snapshot leaves this table");
    Ok(Err("SQL_EXCEPTION"))
}

/// The session's settings for reading rows.
pub(super) async fn set_up(client: &Client) -> Result<()> {
    let fail = |e| sql_error("cannot set up the snapshot's session", e);
    let bounded = format!("{SESSION_SETTINGS}; SET statement_timeout = {}", LONGEST.as_millis());
    client.batch_execute(&bounded).await.map_err(fail)
}

/// Whether the table is to be left over this error, for it would be the same again.
pub(super) fn is_the_tables(error: &Error) -> bool {
    // 57014: the statement took longer than it may, and the stream waits for it.
    !error.is_transient() || crate::pg::sqlstate(error) == Some("57014")
}

/// The rows in the signal table around a chunk.
pub(super) struct Mark {
    table: String,
    id: String,
    opened: String,
    /// The row that opens the window is deleted to close it.
    delete: bool,
}

impl Mark {
    /// Writes the first one.
    pub(super) async fn open(client: &Client, signal_table: &str, delete: bool) -> Result<Self> {
        let (schema, name) = signal_table.split_once('.').unwrap_or(("public", signal_table));
        let table = Qualified::new(schema, name).to_string();
        let id = uuid::Uuid::new_v4().to_string();
        let opened = Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true);
        let this = Self { table, id, opened, delete };
        let data = format!("{{\"openWindowTimestamp\": \"{}\"}}", this.opened);
        this.insert(client, "open", &data).await?;
        Ok(this)
    }

    /// Writes the second one, or deletes the first. Gives the id.
    pub(super) async fn close(self, client: &Client) -> Result<String> {
        if self.delete {
            let id = format!("{}-open", self.id);
            self.write(client, &format!("DELETE FROM {} WHERE id = {}", self.table, Literal(&id))).await?;
        } else {
            let closed = Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true);
            let data = format!(
                "{{\"openWindowTimestamp\": \"{}\", \"closeWindowTimestamp\": \"{closed}\"}}",
                self.opened
            );
            self.insert(client, "close", &data).await?;
        }
        Ok(self.id)
    }

    async fn insert(&self, client: &Client, what: &str, data: &str) -> Result<()> {
        let sql = format!(
            "INSERT INTO {} (id, type, data) VALUES ({}, {}, {})",
            self.table,
            Literal(&format!("{}-{what}", self.id)),
            Literal(&format!("snapshot-window-{what}")),
            Literal(data)
        );
        self.write(client, &sql).await
    }

    async fn write(&self, client: &Client, sql: &str) -> Result<()> {
        let fail = |e| sql_error(format!("cannot write into the signal table {}", self.table), e);
        // The stream waits for this, and need not wait for a standby: lost with the primary, the chunk is read again.
        let sql = format!("SET LOCAL synchronous_commit = local; {sql}");
        client.batch_execute(&sql).await.map_err(fail)
    }
}
