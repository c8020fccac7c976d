//! Incremental snapshots: tables read again in chunks beside the stream, after Netflix's DBLog, as Debezium
//! does it with a signal table.
//!
//! Around the reading of a chunk two rows go into the signal table. Between those two in the stream lies the
//! moment of the reading: whatever the stream says of a row there is newer than, or the same as, what the
//! chunk holds, and takes the row out of it. What is left when the second row comes is sent as reads.

use std::collections::VecDeque;

use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use smallvec::SmallVec;
use tokio_postgres::Client;

use super::keys::{self, Key, KeyColumns, all_columns, name_of, shown};
use super::notify::Notifier;
use super::offset::Offset;
use super::pump::Pump;
use super::signal::Request;
use super::stream::now_ns;
use crate::config::connector::CaptureOptions;
use crate::error::{Error, Result};
use crate::event::filter::Patterns;
use crate::event::{Encoder, SnapshotMarker, SourceInfo, TablePlan};
use crate::pg::catalog::{self, TableInfo, TypeRegistry};
use crate::pg::pgoutput::{Column, Message, OldTuple, Tuple};
use crate::pg::snapshot::{CopyDecoder, CopyReader, SESSION_SETTINGS};
use crate::pg::{Literal, Lsn, Qualified, sql_error};

const COLLECTIONS: &str = "incremental_snapshot_collections";
const CORRELATION: &str = "incremental_snapshot_correlation_id";
const PROGRESS: &str = "millstream.incremental";

/// A table that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    schema: String,
    name: String,
    condition: Option<String>,
}

impl Target {
    fn id(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// The table that is being read.
struct Scan {
    table: TableInfo,
    plan: TablePlan,
    key: KeyColumns,
    /// The greatest key when the reading began: rows added behind it are in the stream.
    max: Key,
    /// The last key read.
    end: Option<Key>,
    rows: u64,
}

/// A chunk between its two rows in the signal table.
struct Window {
    id: String,
    open: bool,
    rows: Vec<(Key, Bytes)>,
}

/// All incremental snapshots of a connector.
#[derive(Default)]
pub(super) struct Incremental {
    queue: VecDeque<Target>,
    correlation: Option<String>,
    scan: Option<Scan>,
    window: Option<Window>,
    paused: bool,
    decoder: CopyDecoder,
    /// Where the table at the front was when the connector stopped.
    resumed: Option<(Key, Option<Key>)>,
}

/// What reading a chunk needs.
pub(super) struct Tools<'t> {
    pub(super) client: &'t Client,
    pub(super) options: &'t CaptureOptions,
    pub(super) types: &'t TypeRegistry,
    pub(super) encoder: &'t mut Encoder,
    pub(super) pump: &'t mut Pump,
    pub(super) notifier: &'t Notifier,
}

impl Incremental {
    /// Takes up what the stored offset says was under way.
    pub(super) fn resume(offset: &Offset) -> Self {
        let mut this = Self::default();
        let Some(Value::String(text)) = offset.extra.get(COLLECTIONS) else { return this };
        let Ok(Value::Array(list)) = serde_json::from_str(text) else { return this };
        for item in list {
            let get = |name: &str| item.get(name).and_then(Value::as_str);
            let Some((schema, name)) =
                get("incremental_snapshot_collections_id").and_then(|id| id.split_once('.'))
            else {
                continue;
            };
            this.queue.push_back(Target {
                schema: schema.to_owned(),
                name: name.to_owned(),
                condition: get("incremental_snapshot_collections_additional_condition").map(str::to_owned),
            });
        }
        this.correlation = offset.extra.get(CORRELATION).and_then(Value::as_str).map(str::to_owned);
        if let Some(progress) = offset.extra.get(PROGRESS)
            && let Some(max) = progress.get("max").and_then(keys::from_json)
        {
            this.resumed = Some((max, progress.get("end").and_then(keys::from_json)));
        }
        this
    }

    /// Whether tables wait or are being read.
    pub(super) fn is_running(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether a window is open: what the stream says then counts.
    pub(super) fn is_open(&self) -> bool {
        self.window.as_ref().is_some_and(|w| w.open)
    }

    fn collections(&self) -> String {
        self.queue.iter().map(Target::id).collect::<Vec<_>>().join(",")
    }

    /// Adds tables; begins where nothing is under way.
    pub(super) async fn execute(
        &mut self,
        id: &str,
        request: &Request,
        captured: &[(String, String)],
        tools: &mut Tools<'_>,
    ) -> Result<()> {
        let idle = self.queue.is_empty();
        for pattern in &request.tables {
            for (schema, name) in captured.iter().filter(|(s, n)| pattern.matches(&format!("{s}.{n}"))) {
                let target = Target {
                    schema: schema.clone(),
                    name: name.clone(),
                    condition: request.filter(&format!("{schema}.{name}")).map(str::to_owned),
                };
                if !self.queue.iter().any(|t| t.id() == target.id()) {
                    self.queue.push_back(target);
                }
            }
        }
        if !idle || self.queue.is_empty() {
            return Ok(());
        }
        self.correlation = Some(id.to_owned());
        self.notify(tools, "STARTED", &[("data_collections", self.collections())])?;
        self.next_chunk(tools).await
    }

    /// Gives up tables.
    pub(super) fn stop(&mut self, which: Option<&Patterns>, tools: &mut Tools<'_>) -> Result<()> {
        let front = self.queue.front().map(Target::id);
        self.queue.retain(|t| which.is_some_and(|p| !p.matches(&t.id())));
        if self.queue.front().map(Target::id) != front {
            self.scan = None;
            self.window = None;
            self.resumed = None;
        }
        if self.queue.is_empty() && front.is_some() {
            self.notify(tools, "ABORTED", &[])?;
            self.correlation = None;
        }
        self.store(&mut tools.pump.offset);
        Ok(())
    }

    /// Pauses after the present chunk.
    pub(super) fn pause(&mut self, tools: &mut Tools<'_>) -> Result<()> {
        if self.is_running() && !std::mem::replace(&mut self.paused, true) {
            self.notify(tools, "PAUSED", &[("data_collections", self.collections())])?;
        }
        Ok(())
    }

    /// Goes on after a pause, or after a restart.
    pub(super) async fn go_on(&mut self, tools: &mut Tools<'_>) -> Result<()> {
        if std::mem::replace(&mut self.paused, false) {
            self.notify(tools, "RESUMED", &[("data_collections", self.collections())])?;
        }
        if self.is_running() && self.window.is_none() { self.next_chunk(tools).await } else { Ok(()) }
    }

    /// One of the connector's own rows of the signal table came by in the stream.
    pub(super) async fn window_row(
        &mut self,
        id: &str,
        last_commit: Option<Lsn>,
        lsn: Lsn,
        tools: &mut Tools<'_>,
    ) -> Result<()> {
        let Some(window) = &mut self.window else { return Ok(()) };
        match id.strip_prefix(window.id.as_str()) {
            Some("-open") => window.open = true,
            Some("-close") => {
                self.emit(last_commit, lsn, tools)?;
                if self.is_running() && !self.paused {
                    self.next_chunk(tools).await?;
                }
            }
            // Of another chunk, from before a restart.
            _ => {}
        }
        Ok(())
    }

    /// While a window is open: what the stream says of a row takes it out of the chunk.
    pub(super) fn observe(&mut self, message: &Message<'_>) {
        let (Some(scan), Some(window)) = (&self.scan, &mut self.window) else { return };
        let mut remove = |tuple: Tuple<'_>| {
            let columns: SmallVec<[Column<'_>; 32]> = tuple.iter().collect();
            window.rows.retain(|(key, _)| !scan.key.same(key, &columns));
        };
        match message {
            Message::Insert { relation, new } if *relation == scan.table.oid => remove(*new),
            Message::Update { relation, old, new } if *relation == scan.table.oid => {
                remove(*new);
                if let Some(old) = old {
                    remove(old.tuple());
                }
            }
            Message::Delete { relation, old: OldTuple::Key(t) | OldTuple::Full(t) }
                if *relation == scan.table.oid =>
            {
                remove(*t);
            }
            Message::Truncate { relations, .. } if relations.contains(&scan.table.oid) => window.rows.clear(),
            _ => {}
        }
    }

    /// Sends what is left of the chunk.
    fn emit(&mut self, last_commit: Option<Lsn>, lsn: Lsn, tools: &mut Tools<'_>) -> Result<()> {
        let Some(window) = self.window.take() else { return Ok(()) };
        let Some(scan) = &self.scan else { return Ok(()) };
        for (_, line) in &window.rows {
            let now = now_ns();
            let source = SourceInfo {
                lsn: Some(lsn),
                last_commit_lsn: last_commit,
                ts_ns: now,
                now_ns: now,
                snapshot: SnapshotMarker::Incremental,
                ..SourceInfo::default()
            };
            let columns: SmallVec<[Column<'_>; 32]> = self.decoder.decode(line)?.iter().collect();
            tools.encoder.read(&scan.plan, &columns, &source, &mut tools.pump.batch).map_err(|e| {
                Error::data(format!("a row of table {} cannot be made an event", scan.plan.table_id()))
                    .because(e)
            })?;
        }
        self.store(&mut tools.pump.offset);
        Ok(())
    }

    /// Reads the next chunk between its two rows in the signal table.
    async fn next_chunk(&mut self, tools: &mut Tools<'_>) -> Result<()> {
        let Some(signal_table) = &tools.options.signal_table else { return Ok(()) };
        let (schema, name) = signal_table.split_once('.').unwrap_or(("public", signal_table));
        let table = Qualified::new(schema, name).to_string();
        tools
            .client
            .batch_execute(SESSION_SETTINGS)
            .await
            .map_err(|e| sql_error("cannot set up the snapshot's session", e))?;
        let id = uuid::Uuid::new_v4().to_string();
        let opened = Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true);
        let data = format!("{{\"openWindowTimestamp\": \"{opened}\"}}");
        mark(tools.client, &table, &format!("{id}-open"), "snapshot-window-open", &data).await?;
        let mut rows = Vec::new();
        while let Some(target) = self.queue.front().cloned() {
            if self.scan.is_none() {
                match self.begin(&target, tools).await? {
                    Ok(scan) => self.scan = Some(scan),
                    Err(why) => {
                        self.scanned(tools, &target, 0, why)?;
                        self.queue.pop_front();
                        continue;
                    }
                }
            }
            let Some(scan) = &mut self.scan else { break };
            rows =
                read_chunk(tools.client, tools.options.incremental_chunk, &target, scan, &mut self.decoder)
                    .await?;
            if let Some((last, _)) = rows.last() {
                scan.end = Some(last.clone());
                scan.rows += u64::try_from(rows.len()).unwrap_or(0);
                let max = shown(&scan.max);
                let progress = [
                    ("data_collections", self.collections()),
                    ("current_collection_in_progress", target.id()),
                    ("maximum_key", max),
                    ("last_processed_key", shown(last)),
                ];
                self.notify(tools, "IN_PROGRESS", &progress)?;
                break;
            }
            let count = scan.rows;
            self.scanned(tools, &target, count, "SUCCEEDED")?;
            self.queue.pop_front();
            self.scan = None;
        }
        if self.queue.is_empty() {
            self.scan = None;
            self.notify(tools, "COMPLETED", &[])?;
            self.correlation = None;
            self.store(&mut tools.pump.offset);
        }
        crate::failpoint!("capture.incremental_chunk");
        let closed = Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true);
        let data =
            format!("{{\"openWindowTimestamp\": \"{opened}\", \"closeWindowTimestamp\": \"{closed}\"}}");
        mark(tools.client, &table, &format!("{id}-close"), "snapshot-window-close", &data).await?;
        self.window = Some(Window { id, open: false, rows });
        Ok(())
    }

    /// Looks a table up and finds its greatest key.
    async fn begin(
        &mut self,
        target: &Target,
        tools: &mut Tools<'_>,
    ) -> Result<std::result::Result<Scan, &'static str>> {
        let resumed = self.resumed.take();
        let oid = catalog::list_tables(tools.client)
            .await?
            .into_iter()
            .find(|t| t.schema == target.schema && t.name == target.name)
            .map(|t| t.oid);
        let Some(oid) = oid else { return Ok(Err("UNKNOWN_SCHEMA")) };
        let Some(table) = catalog::load_tables(tools.client, &[oid]).await?.into_iter().next() else {
            return Ok(Err("UNKNOWN_SCHEMA"));
        };
        let Some(key) = KeyColumns::new(&table, &table.key) else { return Ok(Err("NO_PRIMARY_KEY")) };
        let plan = tools.encoder.snapshot_plan(&table, tools.types).map_err(super::run::unusable)?;
        let mut scan = Scan { table, plan, key, max: Vec::new(), end: None, rows: 0 };
        if let Some((max, end)) = resumed.filter(|(max, _)| max.len() == scan.key.len()) {
            scan.max = max;
            scan.end = end;
            return Ok(Ok(scan));
        }
        let order = scan.key.list(" DESC");
        let condition = target.condition.as_ref().map_or(String::new(), |c| format!(" WHERE {c}"));
        let select = format!(
            "SELECT {} FROM {}{condition} ORDER BY {order} LIMIT 1",
            all_columns(&scan.table),
            name_of(&scan.table)
        );
        let mut reader = CopyReader::start(tools.client, &select).await?;
        let mut max = None;
        while let Some(line) = reader.next_line().await? {
            max = Some(scan.key.of_line(&mut self.decoder, &line)?);
        }
        match max {
            Some(max) => {
                scan.max = max;
                Ok(Ok(scan))
            }
            None => Ok(Err("EMPTY")),
        }
    }

    fn scanned(&self, tools: &mut Tools<'_>, target: &Target, rows: u64, status: &str) -> Result<()> {
        let data = [
            ("data_collections", self.collections()),
            ("scanned_collection", target.id()),
            ("total_rows_scanned", rows.to_string()),
            ("status", status.to_owned()),
        ];
        self.notify(tools, "TABLE_SCAN_COMPLETED", &data)
    }

    fn notify(&self, tools: &mut Tools<'_>, kind: &str, data: &[(&'static str, String)]) -> Result<()> {
        let id = self.correlation.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        tools.notifier.send(tools.encoder, &mut tools.pump.batch, &id, "Incremental Snapshot", kind, data)
    }

    /// What a restart needs, into the offset.
    fn store(&self, offset: &mut Offset) {
        for name in [COLLECTIONS, CORRELATION, PROGRESS] {
            offset.extra.remove(name);
        }
        if self.queue.is_empty() {
            return;
        }
        let list: Vec<Value> = self
            .queue
            .iter()
            .map(|t| {
                json!({
                    "incremental_snapshot_collections_id": t.id(),
                    "incremental_snapshot_collections_additional_condition": t.condition,
                    "incremental_snapshot_collections_surrogate_key": null,
                })
            })
            .collect();
        // As text, because Debezium holds it so.
        offset.extra.insert(COLLECTIONS.into(), json!(Value::Array(list).to_string()));
        if let Some(id) = &self.correlation {
            offset.extra.insert(CORRELATION.into(), json!(id));
        }
        if let Some(scan) = &self.scan {
            let mut progress = Map::new();
            progress.insert("max".into(), keys::to_json(&scan.max));
            if let Some(end) = &scan.end {
                progress.insert("end".into(), keys::to_json(end));
            }
            offset.extra.insert(PROGRESS.into(), Value::Object(progress));
        }
    }
}

async fn mark(client: &Client, table: &str, id: &str, kind: &str, data: &str) -> Result<()> {
    let sql = format!(
        "INSERT INTO {table} (id, type, data) VALUES ({}, {}, {})",
        Literal(id),
        Literal(kind),
        Literal(data)
    );
    client
        .batch_execute(&sql)
        .await
        .map_err(|e| sql_error(format!("cannot write into the signal table {table}"), e))
}

async fn read_chunk(
    client: &Client,
    limit: i64,
    target: &Target,
    scan: &Scan,
    decoder: &mut CopyDecoder,
) -> Result<Vec<(Key, Bytes)>> {
    let mut conditions = vec![scan.key.compare("<=", &scan.max)];
    if let Some(end) = &scan.end {
        conditions.insert(0, scan.key.compare(">", end));
    }
    if let Some(condition) = &target.condition {
        conditions.push(format!("({condition})"));
    }
    let select = format!(
        "SELECT {} FROM {} WHERE {} ORDER BY {} LIMIT {}",
        all_columns(&scan.table),
        name_of(&scan.table),
        conditions.join(" AND "),
        scan.key.list(""),
        limit
    );
    let mut reader = CopyReader::start(client, &select).await?;
    let mut rows = Vec::new();
    while let Some(line) = reader.next_line().await? {
        rows.push((scan.key.of_line(decoder, &line)?, line));
    }
    Ok(rows)
}
