//! What goes on beside the stream: signals, incremental and blocking snapshots, heartbeats.

use std::time::Duration;

use tokio_postgres::Client;

use super::channels::{Arrived, Channels};
use super::incremental::{Incremental, Streamed, Tools};
use super::notify::Notifier;
use super::offset::Offset;
use super::pour::Flow;
use super::pump::Pump;
use super::reconcile::{Reconciler, Verdict};
use super::run::{Run, stopped, unusable};
use super::shown::Shown;
use super::signal::{Command, Request, Signal};
use super::status::Phase;
use super::stream::{Stream, now_ns};
use super::{snapshot, source};
use crate::config::connector::CaptureOptions;
use crate::error::{Error, Kind, Result};
use crate::pg::catalog::{self, TypeRegistry};
use crate::pg::pgoutput::{self, Message};
use crate::pg::{Lsn, XLogData, sql_error};

/// What goes on beside the stream.
pub(super) struct Aside {
    pub(super) incremental: Incremental,
    pub(super) notifier: Notifier,
    /// A blocking snapshot that begins after the present message.
    pub(super) blocking: Option<(Signal, Request)>,
    /// What an interrupted snapshot leaves out of the stream.
    pub(super) reconcile: Option<Reconciler>,
}

/// In the offset: the signal of a blocking snapshot under way.
const BLOCKING: &str = "millstream.blocking";

pub(super) fn blocking_under_way(offset: &Offset) -> Option<(Signal, Request)> {
    let stored = offset.extra.get(BLOCKING)?;
    let text = |name: &str| stored.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    let signal = Signal { id: text("id")?, kind: text("type")?, data: text("data") };
    match signal.command() {
        Ok(Command::Blocking(request)) => Some((signal, request)),
        _ => None,
    }
}

pub(super) fn tools<'t>(
    options: &'t CaptureOptions,
    client: &'t Client,
    types: &'t TypeRegistry,
    stream: &'t mut Stream,
    pump: &'t mut Pump,
    notifier: &'t Notifier,
) -> Tools<'t> {
    let streamed = Streamed { last_commit: stream.last_commit(), transactions: stream.transactions() };
    let Stream { encoder, shown, .. } = stream;
    Tools { client, options, types, encoder, shown, pump, notifier, streamed }
}

pub(super) async fn beat(beats: Option<&mut tokio::time::Interval>) {
    match beats {
        Some(beats) => {
            beats.tick().await;
        }
        None => std::future::pending().await,
    }
}

fn why(error: &Error) -> String {
    error.cause().unwrap_or_else(|| error.what().to_owned())
}

impl Run {
    /// Does what a signal asks for, before its own event.
    #[allow(clippy::too_many_arguments)]
    pub(super) async fn obey(
        &self,
        signal: Signal,
        lsn: Lsn,
        stream: &mut Stream,
        pump: &mut Pump,
        side: &Client,
        types: &TypeRegistry,
        aside: &mut Aside,
    ) -> Result<()> {
        let command = match signal.command() {
            Ok(command) => command,
            Err(why) => {
                tracing::warn!(connector = self.options.name, signal = signal.id, "signal ignored: {why}");
                return Ok(());
            }
        };
        tracing::debug!(connector = self.options.name, id = signal.id, "signal {}", signal.kind);
        if let Command::Log(message) = &command {
            let offset = pump.offset.to_value().to_string();
            tracing::info!(connector = self.options.name, "{}", message.replace("{}", &offset));
            return Ok(());
        }
        let mut tools = tools(&self.options, side, types, stream, pump, &aside.notifier);
        match command {
            Command::Log(_) => Ok(()),
            Command::Window(closes) => {
                aside.incremental.window_row(&signal.id, closes, lsn, &mut tools).await
            }
            Command::Incremental(request) => {
                let captured = source::captured(&self.options, &catalog::list_tables(side).await?)?;
                let captured = captured.into_iter().map(|t| (t.schema, t.name)).collect();
                aside.incremental.execute(&signal.id, &request, captured, &mut tools).await
            }
            Command::Stop(which) => aside.incremental.stop(which, &mut tools),
            Command::Pause => aside.incremental.pause(&mut tools),
            Command::Resume => aside.incremental.go_on(&mut tools).await,
            Command::Blocking(request) => {
                aside.blocking = Some((signal, request));
                Ok(())
            }
        }
    }

    /// Does what a signal asks for that came beside the stream. It is durable, a blocking snapshot done, when this
    /// returns.
    pub(super) async fn obey_aside(&self, arrived: Arrived, flow: &mut Flow<'_>) -> Result<()> {
        let Arrived { signal, next, done } = arrived;
        let lsn = flow.pump.offset.lsn;
        if !matches!(signal.command(), Ok(Command::Window(_))) {
            let obeyed = self.obey(signal, lsn, flow.stream, flow.pump, flow.side, flow.types, flow.aside);
            self.unless_stopped(obeyed).await?;
        }
        if let Some(next) = next {
            Channels::note(&mut flow.pump.offset, next);
        }
        if flow.aside.blocking.is_some() {
            self.block(lsn, flow.stream, flow.pump, flow.side, flow.types, flow.aside).await?;
        } else {
            flow.pump.sync().await?;
        }
        crate::failpoint!("capture.signal_obeyed");
        if let Some(done) = done {
            // Nobody is left to hear it when the connector ends.
            let _ = done.send(());
        }
        Ok(())
    }

    /// Sends a chunk that the stream has passed, and reads the next one.
    pub(super) async fn chunk_passed(&self, flow: &mut Flow<'_>) -> Result<()> {
        let lsn = flow.pump.offset.lsn;
        let Flow { stream, pump, side, types, aside, .. } = flow;
        let mut tools = tools(&self.options, side, types, stream, pump, &aside.notifier);
        self.unless_stopped(aside.incremental.passed(lsn, &mut tools)).await
    }

    /// Reads the next chunk where none is under way.
    pub(super) async fn chunk_anew(&self, flow: &mut Flow<'_>) -> Result<()> {
        let Flow { stream, pump, side, types, aside, .. } = flow;
        let mut tools = tools(&self.options, side, types, stream, pump, &aside.notifier);
        self.unless_stopped(aside.incremental.restart(&mut tools)).await
    }

    /// Ends with the stop, whatever the server is asked for: what is under way then is begun again at the next start,
    /// from the offset, on sessions of its own.
    pub(super) async fn unless_stopped<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stopped(&mut stop) => Err(Error::new(Kind::Stopped, "a stop was asked for")),
            done = work => done,
        }
    }

    /// What of a message goes on, after a snapshot that was interrupted.
    pub(super) async fn verdict(
        &self,
        data: &XLogData<'_>,
        xid: Option<u64>,
        pump: &mut Pump,
        side: &Client,
        aside: &mut Aside,
    ) -> Result<Verdict> {
        let Some(reconcile) = &mut aside.reconcile else { return Ok(Verdict::All) };
        crate::failpoint!("capture.reconcile");
        // What cannot be read is for the stream to say.
        let Ok(message) = pgoutput::parse(data.payload, false) else { return Ok(Verdict::All) };
        match &message {
            Message::Relation(relation) => reconcile.describe(relation),
            Message::Begin { final_lsn, .. } => self.passed(*final_lsn, pump, aside),
            _ => {
                if let Some(xid) = xid {
                    return reconcile.judge(&message, xid, side).await;
                }
            }
        }
        Ok(Verdict::All)
    }

    /// A transaction begins that commits there: from the last snapshot on nothing is left out.
    pub(super) fn passed(&self, commit: Lsn, pump: &mut Pump, aside: &mut Aside) {
        if aside.reconcile.as_ref().is_some_and(|r| r.is_past(commit)) {
            crate::failpoint!("capture.reconciled");
            tracing::info!(connector = self.options.name, "the stream is past the interrupted snapshot");
            aside.reconcile = None;
            Reconciler::forget(&mut pump.offset);
        }
    }

    /// A blocking snapshot: the stream waits behind the signal's event. Until it is done the offset says so,
    /// and a restart begins it again.
    pub(super) async fn block(
        &self,
        lsn: Lsn,
        stream: &mut Stream,
        pump: &mut Pump,
        side: &Client,
        types: &TypeRegistry,
        aside: &mut Aside,
    ) -> Result<()> {
        let Some((signal, request)) = aside.blocking.take() else { return Ok(()) };
        let under_way = serde_json::json!({ "id": signal.id, "type": signal.kind, "data": signal.data });
        pump.offset.extra.insert(BLOCKING.to_owned(), under_way);
        let captured = source::captured(&self.options, &catalog::list_tables(side).await?)?;
        let place = snapshot::Place {
            lsn,
            last_commit: stream.last_commit(),
            txid: stream.xid().or(pump.offset.tx_id),
        };
        // Its first row may take long: the stream waits, and nothing hangs.
        self.status.phase(Phase::Snapshot);
        // Rows that are older than what the stream has shown would set newer ones back.
        self.unless_stopped(self.all_visible(&mut stream.shown, side)).await?;
        let read = snapshot::read_again(self, types, &mut stream.encoder, pump, &captured, &request, &place);
        let read = self.unless_stopped(read).await;
        self.status.phase(Phase::Streaming);
        let left = match read {
            Ok(left) => (!left.is_empty()).then(|| {
                let each = left.iter().map(|(table, error)| format!("{table} ({})", why(error)));
                format!("left out {}", each.collect::<Vec<_>>().join(", "))
            }),
            // A log that takes no more keeps the stream from going on as well.
            Err(error) if error.is_transient() || error.kind() == Kind::Stopped || pump.has_failed() => {
                return Err(error);
            }
            // What the signal asks for cannot be had; the stream can.
            Err(error) => {
                aside.notifier.initial(&mut stream.encoder, &mut pump.batch, "ABORTED", &[])?;
                Some(format!("was given up ({})", why(&error)))
            }
        };
        let left = left.map(|left| {
            format!(
                "the blocking snapshot \"{}\" {left}; signal execute-snapshot for that once more",
                signal.id
            )
        });
        if let Some(left) = &left {
            tracing::error!(connector = self.options.name, "the stream goes on: {left}");
        }
        self.status.left_of_snapshot(left);
        self.status.snapshot(None);
        pump.offset.extra.remove(BLOCKING);
        pump.sync().await
    }

    /// Waits until everybody sees what the stream has shown.
    async fn all_visible(&self, shown: &mut Shown, side: &Client) -> Result<()> {
        let mut waits = false;
        while shown.visible(side).await?.is_none() {
            if !std::mem::replace(&mut waits, true) {
                tracing::warn!(
                    connector = self.options.name,
                    "the blocking snapshot waits: transactions that the stream has shown are not visible yet; does the \
                     server wait for a synchronous standby?"
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    pub(super) async fn heartbeat(&self, stream: &mut Stream, pump: &mut Pump, side: &Client) -> Result<()> {
        if let Some(sql) = &self.options.heartbeat_query
            && let Err(error) = source::answered(async {
                let failed = |e| sql_error("heartbeat.action.query failed", e);
                side.batch_execute(sql).await.map_err(failed)
            })
            .await
        {
            let fatal = matches!(crate::pg::sqlstate(&error), Some("57P01" | "42P01"));
            if fatal || error.is_transient() {
                return Err(error);
            }
            tracing::warn!(connector = self.options.name, %error, "the heartbeat goes on");
        }
        stream.encoder.heartbeat(now_ns() / 1_000_000, &mut pump.batch).map_err(unusable)?;
        pump.offer().await
    }
}
