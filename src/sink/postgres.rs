//! The PostgreSQL sink: `'connector' = 'jdbc'`.
//!
//! An epoch is one transaction: the fence moves, rows that went are deleted, rows that came or changed are
//! upserted, each with one statement per 10,000 rows (`unnest` of one array per column, so that the statement's
//! text never changes). BEGIN, statements and COMMIT of an ordinary epoch travel together: one round trip.
//!
//! The table's options are those of Flink's JDBC connector (`url`, `table-name`, `username`, `password`; those
//! that tune its buffer and its retries change nothing here, since epochs decide when rows are written), and
//! `millstream.create-table` (`true`: a missing target table is made from the SQL schema) and
//! `millstream.epoch-table` (where the fence lies; `millstream_epoch` in the target's schema).

mod encode;
mod fence;
mod refused;
mod target;

use async_trait::async_trait;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement};

use super::{Fence, Output, Reduction, Sink, SinkId};
use crate::config::{AddressMap, Secret};
use crate::engine::plan::TableRef;
use crate::engine::row::{Row, RowKind, Value};
use crate::error::{Error, Kind, Result};
use crate::failpoint;
use crate::pg::{ConnectConfig, sql_error, sqlstate};

pub(crate) use encode::{ColumnParameter, OutOfRange, Wire};
use fence::Fences;
pub(crate) use target::TargetName;
use target::{Target, TargetColumn};

/// Most rows of one statement.
const MAX_ROWS: usize = 10_000;
/// Most bytes of strings in one statement, about: what is in memory a second time while it is sent.
const MAX_BYTES: usize = 8 << 20;

/// Writes a table of a PostgreSQL database, upserting by primary key (append-only without one).
#[derive(Debug)]
pub struct PostgresSink {
    id: SinkId,
    table: TableRef,
    config: ConnectConfig,
    name: TargetName,
    epoch_table: Option<TargetName>,
    create: bool,
    /// Epochs lie in the target: without it they are lost, and another one must not be made in its place.
    written: bool,
    /// The token that [`Sink::claim`] set.
    writer: Option<String>,
    session: Option<Session>,
}

/// An open connection with all that is prepared on it.
struct Session {
    client: Client,
    target: Target,
    fences: Fences,
    insert: Statement,
    delete: Option<Statement>,
    advance: Statement,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("target", &self.target).finish_non_exhaustive()
    }
}

impl PostgresSink {
    /// Reads the table's options; connects nowhere yet.
    ///
    /// # Errors
    /// [`Kind::Config`] where an option is missing or cannot be read.
    pub fn new(table: &TableRef, id: SinkId, addresses: AddressMap) -> Result<Self> {
        let option = |name: &str| table.options.get(name).map(String::as_str);
        let (config, name) = connection(table, addresses, format!("millstream {id}"))?;
        let create = table.flag("millstream.create-table", true);
        let epoch_table = option("millstream.epoch-table").map(TargetName::parse).transpose()?;
        let table = table.clone();
        Ok(Self { id, table, config, name, epoch_table, create, written: false, writer: None, session: None })
    }

    /// The open session, made when there is none or when its connection is gone.
    async fn session(&mut self) -> Result<&Session> {
        if self.session.as_ref().is_none_or(|s| s.client.is_closed()) {
            self.session = None;
            let client = crate::pg::connect(&self.config).await?;
            let create = self.create && !self.written;
            let target = Target::open(&client, &self.name, &self.table, create).await;
            let target = match target {
                Err(error) if self.written && target::is_missing(&error) => {
                    return Err(Error::data(format!("table {} is gone", self.name.plain()))
                        .because(format!("earlier epochs of {} were written to it", self.id))
                        .next(format!(
                            "put it back; or have everything computed and written anew: millstream pipelines reset {}",
                            self.id.pipeline
                        )));
                }
                target => target?,
            };
            let fences = Fences::new(&target.name, self.epoch_table.as_ref());
            fences.ensure(&client).await?;
            let session = prepare(client, target, fences).await?;
            self.session = Some(session);
        }
        self.session.as_ref().ok_or_else(|| Error::internal("a session was lost while it was opened"))
    }
}

/// The database and the table that a jdbc table's options name.
///
/// # Errors
/// [`Kind::Config`] where an option is missing or cannot be read.
pub(crate) fn connection(
    table: &TableRef,
    addresses: AddressMap,
    application: String,
) -> Result<(ConnectConfig, TargetName)> {
    let option = |name: &str| table.options.get(name).map(String::as_str);
    let needed = |name: &str| {
        option(name).ok_or_else(|| {
            Error::config(format!("table {}: option '{name}' is missing", table.name))
                .because("connector 'jdbc' needs 'url' and 'table-name'")
        })
    };
    let url = needed("url")?;
    if let Some(other) = url.strip_prefix("jdbc:").filter(|u| !u.starts_with("postgresql:")) {
        let product = other.split(':').next().unwrap_or_default();
        return Err(Error::config(format!("table {}: '{product}' databases are not supported", table.name))
            .next("use a jdbc:postgresql://HOST:PORT/DATABASE url"));
    }
    // What Flink hands to the driver; the URL's own come later, and count.
    let properties: String = table
        .options
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix("properties.")?, value)))
        .map(|(name, value)| format!("{name}={}&", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let url = format!("{base}?{properties}{query}");
    let mut config =
        ConnectConfig::from_url(&url)?.with_addresses(addresses).with_application_name(application);
    if let Some(user) = option("username") {
        config.user = user.to_owned();
    }
    if let Some(password) = option("password") {
        config.password = Some(Secret::from(password));
    }
    // What a wall clock means when it meets a timestamptz column.
    config.parameters.push(("TimeZone".to_owned(), "UTC".to_owned()));
    Ok((config, TargetName::parse(needed("table-name")?)?))
}

/// The fence table of a target with the statement that makes it: for those who have to prepare a database.
pub(crate) fn epoch_table(table: &TableRef, target: &TargetName) -> Result<(TargetName, String)> {
    let named =
        table.options.get("millstream.epoch-table").map(|text| TargetName::parse(text)).transpose()?;
    let fences = Fences::new(target, named.as_ref());
    Ok((fences.name().clone(), fences.ddl()))
}

async fn prepare(client: Client, target: Target, fences: Fences) -> Result<Session> {
    let failed = |e| sql_error(format!("cannot prepare to write table {}", target.name.plain()), e);
    let arrays = |columns: &mut dyn Iterator<Item = &TargetColumn>| -> Vec<Type> {
        columns.map(|c| c.wire.types().1).collect()
    };
    let types = arrays(&mut target.columns.iter());
    let insert = client.prepare_typed(&target.insert_sql(), &types).await.map_err(failed)?;
    let delete = if target.key.is_empty() {
        None
    } else {
        let types = arrays(&mut target.key_columns());
        Some(client.prepare_typed(&target.delete_sql(), &types).await.map_err(failed)?)
    };
    let types = [Type::TEXT, Type::TEXT, Type::INT8, Type::TEXT];
    let advance = client.prepare_typed(&fences.advance_sql(), &types).await.map_err(failed)?;
    Ok(Session { client, target, fences, insert, delete, advance })
}

/// One statement's worth of rows.
struct Piece<'a> {
    upsert: bool,
    rows: &'a [&'a Row],
}

/// A piece that only has to be sent.
struct Bound<'a> {
    statement: &'a Statement,
    parameters: Vec<ColumnParameter>,
}

impl Session {
    /// Everything about a piece that can fail on this side.
    fn bind(&self, piece: &Piece<'_>) -> Result<Bound<'_>> {
        let all: Vec<usize> = (0..self.target.columns.len()).collect();
        let (statement, columns) = match (&self.delete, piece.upsert) {
            (_, true) => (&self.insert, &all),
            (Some(delete), false) => (delete, &self.target.key),
            (None, false) => {
                return Err(Error::internal("a row is to be deleted from a table without a key"));
            }
        };
        let columns = columns.iter().filter_map(|i| Some((*i, self.target.columns.get(*i)?)));
        let parameters = columns.map(|(i, column)| {
            ColumnParameter::encode(column.wire, &column.data_type, i, piece.rows).map_err(|_| {
                Error::data(format!("cannot write to table {}", self.target.name.plain()))
                    .because(format!(
                        "column {} holds a value that PostgreSQL's {} has no room for",
                        column.name,
                        column.wire.types().0.name()
                    ))
                    .next("leave such values out or change them in the query (CASE, NULLIF, TRY_CAST), then start again")
            })
        });
        Ok(Bound { statement, parameters: parameters.collect::<Result<_>>()? })
    }

    async fn execute(&self, bound: &Bound<'_>) -> Result<()> {
        let parameters: Vec<&(dyn ToSql + Sync)> =
            bound.parameters.iter().map(|p| -> &(dyn ToSql + Sync) { p }).collect();
        let executed = self.client.execute(bound.statement, &parameters).await;
        // COMMIT may be on its way already: whether this epoch is there, only the fence knows.
        failpoint!("sink.rows_sent");
        executed.map(drop).map_err(|error| self.write_error(error))
    }

    fn write_error(&self, error: tokio_postgres::Error) -> Error {
        let error = sql_error(format!("cannot write to table {}", self.target.name.plain()), error);
        match error.next_step() {
            Some(_) => error,
            None => error.next(
                "mend the target or the query, then start the pipeline again: it goes on with this epoch",
            ),
        }
    }

    async fn simple(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|e| self.write_error(e))
    }

    async fn advance(&self, id: &SinkId, epoch: i64, writer: &str) -> Result<()> {
        let moved = self.client.query_one(&self.advance, &[&id.pipeline, &id.sink, &epoch, &writer]).await;
        let Err(error) = moved else { return Ok(()) };
        let error = self.write_error(error);
        if sqlstate(&error) != Some(fence::NOT_THERE) {
            return Err(error);
        }
        Err(Error::new(Kind::Fenced, format!("epoch {epoch} of {id} was not written"))
            .because(format!(
                "the target's epoch is not {}, or another writer has claimed it: {} holds what is there",
                epoch - 1,
                self.target.name.plain()
            ))
            .next(
                "make sure that only one process runs this pipeline; if its state was copied or restored, reset \
                 the pipeline (millstream pipelines reset)",
            ))
    }

    /// One transaction. An ordinary epoch is sent in one go; what comes after a statement that fails at the server
    /// does nothing, and COMMIT then rolls back. Nothing may fail on this side any more then.
    async fn write(&self, id: &SinkId, epoch: i64, writer: &str, pieces: &[Piece<'_>]) -> Result<()> {
        if let [first, second] = pieces {
            let (first, second) = (self.bind(first)?, self.bind(second)?);
            let (begin, advance, one, two, commit) = futures_util::future::join5(
                self.simple("BEGIN"),
                self.advance(id, epoch, writer),
                self.execute(&first),
                self.execute(&second),
                self.simple("COMMIT"),
            )
            .await;
            return begin.and(advance).and(one).and(two).and(commit);
        }
        if let [only] = pieces {
            let only = self.bind(only)?;
            let (begin, advance, one, commit) = futures_util::future::join4(
                self.simple("BEGIN"),
                self.advance(id, epoch, writer),
                self.execute(&only),
                self.simple("COMMIT"),
            )
            .await;
            return begin.and(advance).and(one).and(commit);
        }
        // A large epoch goes piece by piece, so that only one of them is in memory a second time.
        self.simple("BEGIN").await?;
        let written = async {
            self.advance(id, epoch, writer).await?;
            for piece in pieces {
                self.execute(&self.bind(piece)?).await?;
            }
            Ok(())
        };
        match written.await {
            Ok(()) => self.simple("COMMIT").await,
            Err(error) => {
                // The connection may be the reason; then the server rolls back by itself.
                let _ = self.client.batch_execute("ROLLBACK").await;
                Err(error)
            }
        }
    }
}

/// Whether a write failed in a way that a table gives which was altered or dropped since it was looked at.
fn table_has_changed(error: &Error) -> bool {
    sqlstate(error).is_some_and(|code| code.starts_with("42") || matches!(code, "0A000" | "23502"))
}

/// Cuts rows into pieces of bounded size.
fn cut<'a>(rows: &'a [&'a Row], upsert: bool, pieces: &mut Vec<Piece<'a>>) {
    let mut start = 0;
    let mut bytes = 0;
    for (i, row) in rows.iter().enumerate() {
        if i > start && (i - start >= MAX_ROWS || bytes >= MAX_BYTES) {
            pieces.push(Piece { upsert, rows: rows.get(start..i).unwrap_or_default() });
            (start, bytes) = (i, 0);
        }
        bytes += row.iter().map(size).sum::<usize>();
    }
    if start < rows.len() {
        pieces.push(Piece { upsert, rows: rows.get(start..).unwrap_or_default() });
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Str(text) => text.len() + 4,
        Value::Bytes(bytes) => bytes.len() + 4,
        Value::Array(items) => items.iter().map(size).sum(),
        _ => 12,
    }
}

#[async_trait]
impl Sink for PostgresSink {
    fn describe(&self) -> String {
        let (host, port) = self.config.target();
        format!("table {} at {host}:{port}/{}", self.name.plain(), self.config.dbname)
    }

    fn reduction(&self) -> Reduction {
        if self.table.primary_key.is_empty() {
            Reduction::None
        } else {
            Reduction::ByKey(self.table.primary_key.clone())
        }
    }

    fn is_fenced(&self) -> bool {
        true
    }

    fn expects_target(&mut self, written: bool) {
        self.written = written;
    }

    async fn fence(&mut self) -> Result<Option<Fence>> {
        let id = self.id.clone();
        let session = self.session().await?;
        session.fences.read(&session.client, &id).await
    }

    async fn claim(&mut self, expected: Option<&Fence>, new: &Fence) -> Result<bool> {
        let id = self.id.clone();
        let session = self.session().await?;
        let claimed = session.fences.claim(&session.client, &id, expected, new).await?;
        if claimed {
            self.writer = Some(new.writer.clone());
        }
        Ok(claimed)
    }

    async fn write(&mut self, epoch: u64, output: &Output) -> Result<()> {
        let writer = self.writer.clone();
        let writer =
            writer.ok_or_else(|| Error::internal("an epoch is to be written before its fence is claimed"))?;
        let (id, keyed) = (self.id.clone(), !self.table.primary_key.is_empty());
        let mut upserts: Vec<&Row> = Vec::with_capacity(output.changes.len());
        let mut deletes: Vec<&Row> = Vec::new();
        for change in &output.changes {
            match change.kind {
                RowKind::Insert | RowKind::UpdateAfter => upserts.push(&change.row),
                RowKind::Delete if keyed => deletes.push(&change.row),
                RowKind::UpdateBefore | RowKind::Delete => {
                    return Err(Error::config(format!("table {} has no PRIMARY KEY", self.table.name))
                        .because("the query changes and deletes rows, which needs a key to find them by")
                        .next("declare PRIMARY KEY (…) NOT ENFORCED on the sink table"));
                }
            }
        }
        let mut pieces = Vec::new();
        cut(&deletes, false, &mut pieces);
        cut(&upserts, true, &mut pieces);
        let mut written = self.session().await?.write(&id, fence::number(epoch)?, &writer, &pieces).await;
        if written.as_ref().is_err_and(table_has_changed) {
            // What no longer fits is said by table and column; what does was only prepared for the old one.
            self.written |= epoch > 1;
            self.session = None;
            written = self.session().await?.write(&id, fence::number(epoch)?, &writer, &pieces).await;
        }
        self.written |= written.is_ok();
        match written {
            // A connection that was lost in the midst of this epoch's transaction may have had it committed only now,
            // while this one waited for its lock.
            Err(error) if error.kind() == Kind::Fenced => {
                let session = self.session().await?;
                let found = session.fences.read(&session.client, &id).await?;
                let ours = found.is_some_and(|found| found.epoch == epoch && found.writer == writer);
                if ours { Ok(()) } else { Err(error) }
            }
            Err(error) => Err(match &self.session {
                Some(session) => session.name_columns(error).await,
                None => error,
            }),
            Ok(()) => Ok(()),
        }
    }

    async fn close(&mut self) -> Result<()> {
        // Dropping the client ends its connection task, which says goodbye to the server.
        self.session = None;
        Ok(())
    }
}
