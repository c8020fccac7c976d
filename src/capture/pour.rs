//! The loop that moves changes: from the stream, or from a streamed transaction that has committed, into
//! batches.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_postgres::Client;

use super::aside::{Aside, beat};
use super::channels::Channels;
use super::pump::Pump;
use super::run::{Ended, Run, stopped, unusable};
use super::source;
use super::spool::{Replay, Spool, SpoolError, Taken};
use super::stream::{Step, Stream, Table};
use crate::config::connector::LsnFlushMode;
use crate::error::{Error, Result};
use crate::pg::catalog::{self, TableInfo, TypeRegistry};
use crate::pg::pgoutput::{self, Relation};
use crate::pg::{Lsn, WalChunk, WalFrame, WalStream, XLogData};

/// How often time-driven work (idle offsets, heartbeats) is looked at.
const TICK: Duration = Duration::from_secs(1);

/// So many reads may go into one batch before anything else is looked at: a server that always has more must not
/// keep stops, confirmations and heartbeats waiting.
const AT_HAND: usize = 64;

/// What the changes pass through.
pub(super) struct Flow<'f> {
    pub(super) stream: &'f mut Stream,
    pub(super) pump: &'f mut Pump,
    pub(super) side: &'f Client,
    pub(super) types: &'f mut TypeRegistry,
    pub(super) aside: &'f mut Aside,
    /// Streamed transactions that have not committed.
    pub(super) spool: Spool,
    /// `server_version_num`.
    pub(super) version: u32,
    /// Signals from elsewhere than the signal table.
    pub(super) channels: Channels,
    /// Everything that commits before it has come.
    pub(super) reached: Lsn,
    /// What must be in the log for the connector to be caught up; taken once the stream is known to go on where
    /// the log ends.
    pub(super) target: Option<Lsn>,
}

impl Flow<'_> {
    /// Whether a chunk of an incremental snapshot is to be sent now.
    fn is_ripe(&self) -> bool {
        self.aside.incremental.is_ripe(self.reached)
            && !self.stream.in_transaction()
            && !self.spool.in_piece()
            && !self.pump.is_full()
    }
}

/// A committed streamed transaction, and what came behind its commit in the same read.
struct Pending {
    replay: Box<Replay>,
    behind: WalChunk,
}

/// How far a chunk was worked through.
enum Worked {
    /// To its end.
    Whole,
    /// Up to the commit of a streamed transaction, which is to be emitted first.
    Until(Pending),
    /// Up to something that needs the stream to begin again with protocol 1.
    Unsuited(SpoolError),
}

impl Run {
    /// Moves changes until the stop or an error.
    pub(super) async fn pour(&mut self, wal: &mut WalStream, flow: &mut Flow<'_>) -> Result<Ended> {
        let mut tick = tokio::time::interval_at(Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heartbeat = self.options.heartbeat.map(|period| {
            let mut beats = tokio::time::interval_at(Instant::now() + period, period);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beats
        });
        let mut stop = self.stop.clone();
        if flow.aside.blocking.is_some() {
            let lsn = Lsn(flow.pump.offset.lsn.0);
            self.block(lsn, flow.stream, flow.pump, flow.side, flow.types, flow.aside).await?;
        }
        if flow.aside.incremental.is_running() {
            self.chunk_anew(flow).await?;
        }
        flow.pump.offer().await?;
        let mut pending: Option<Pending> = None;
        loop {
            self.go_on(wal, flow);
            self.status.turns.fetch_add(1, Ordering::Relaxed);
            self.status.snapshot_paused.store(flow.aside.incremental.is_paused(), Ordering::Relaxed);
            if flow.aside.incremental.asks() {
                wal.acknowledger().ask();
            }
            let worked = tokio::select! {
                biased;
                () = stopped(&mut stop) => {
                    // Whole events and their offset: what is in the batch is consistent at every change.
                    flow.pump.flush().await?;
                    if flow.pump.in_flight() {
                        flow.pump.settle().await?;
                    }
                    return Ok(Ended::Stopped);
                }
                settled = flow.pump.settle(), if flow.pump.in_flight() => {
                    settled?;
                    flow.pump.offer().await?;
                    flow.pump.write_idle().await?;
                    continue;
                }
                _ = tick.tick() => {
                    let (held, spilled) = flow.spool.load();
                    self.status.spool(held, spilled);
                    if flow.aside.incremental.is_waiting() {
                        wal.acknowledger().ask();
                    }
                    if flow.aside.incremental.is_put_off() {
                        self.chunk_anew(flow).await?;
                    }
                    flow.pump.write_idle().await?;
                    continue;
                }
                () = beat(heartbeat.as_mut()), if heartbeat.is_some() => {
                    self.heartbeat(flow.stream, flow.pump, flow.side).await?;
                    // The next one is a whole period away: a query slower than that does not starve the stream.
                    if let Some(beats) = &mut heartbeat {
                        beats.reset();
                    }
                    continue;
                }
                arrived = flow.channels.next() => {
                    self.obey_aside(arrived, flow).await?;
                    continue;
                }
                () = std::future::ready(()), if pending.is_none() && flow.is_ripe() => {
                    self.chunk_passed(flow).await?;
                    tokio::task::yield_now().await;
                    Worked::Whole
                }
                () = std::future::ready(()), if pending.is_some() && !flow.pump.is_full() => {
                    let worked = match pending.take() {
                        Some(step) => self.emit(step, flow).await?,
                        None => Worked::Whole,
                    };
                    // Nothing here waits: others on this thread get their turn.
                    tokio::task::yield_now().await;
                    worked
                }
                chunk = wal.next_chunk(), if pending.is_none() && !flow.pump.is_full() => {
                    let mut worked = self.chunk(&chunk?, flow).await?;
                    // Whatever else has arrived meanwhile goes into the same batch, until one is on its way.
                    for _ in 1..AT_HAND {
                        let more = matches!(worked, Worked::Whole) && !flow.pump.is_full();
                        if !more || flow.pump.in_flight() {
                            break;
                        }
                        match wal.try_next_chunk()? {
                            Some(chunk) => worked = self.chunk(&chunk, flow).await?,
                            None => break,
                        }
                    }
                    worked
                }
            };
            match worked {
                Worked::Whole => {}
                Worked::Until(next) => pending = Some(next),
                Worked::Unsuited(why) => return self.go_back_to_protocol_1(&why, flow).await,
            }
            flow.pump.offer().await?;
        }
    }

    /// From when the stream is known to go on where the log ends, it is confirmed what the log holds.
    fn go_on(&self, wal: &WalStream, flow: &mut Flow<'_>) {
        if flow.target.is_none() || flow.stream.witness.is_awaited() {
            return;
        }
        if let Some(target) = flow.target.take() {
            if self.options.flush_mode != LsnFlushMode::Manual {
                flow.pump.acknowledger = Some(wal.acknowledger());
            }
            flow.pump.aim(target);
        }
    }

    /// The server sends what was not emitted once more, and large transactions only when they have committed.
    async fn go_back_to_protocol_1(&mut self, why: &SpoolError, flow: &mut Flow<'_>) -> Result<Ended> {
        if !matches!(why, SpoolError::Origin | SpoolError::Disk { .. }) {
            return Err(Error::transient("a streamed transaction cannot be kept").because(why));
        }
        tracing::warn!(
            connector = self.options.name,
            "large transactions are taken at their commit from now on (the server keeps them on its disk meanwhile): \
             {why}"
        );
        self.streaming = false;
        flow.pump.flush().await?;
        if flow.pump.in_flight() {
            flow.pump.settle().await?;
        }
        Ok(Ended::Again)
    }

    async fn chunk(&self, chunk: &WalChunk, flow: &mut Flow<'_>) -> Result<Worked> {
        let mut frames = chunk.iter();
        while let Some(frame) = frames.next() {
            match frame {
                WalFrame::Data(data) => {
                    self.status.server_lsn.fetch_max(data.wal_end.0, Ordering::Relaxed);
                    match flow.spool.take(&data) {
                        Ok(Taken::No) => self.data(&data, flow).await?,
                        Ok(Taken::Kept) => {}
                        Ok(Taken::Committed(replay)) => {
                            return Ok(Worked::Until(Pending { replay, behind: chunk.rest(&frames) }));
                        }
                        Err(why) => return Ok(Worked::Unsuited(why)),
                    }
                }
                WalFrame::Keepalive(keepalive) => {
                    self.status.server_lsn.fetch_max(keepalive.wal_end.0, Ordering::Relaxed);
                    // A streamed transaction that has not committed does not hold the position back: its commit
                    // is yet to come, and after a restart the server sends it from its beginning.
                    if !flow.stream.in_transaction() && !flow.spool.in_piece() {
                        flow.stream.witness.passed(keepalive.wal_end)?;
                        flow.reached = flow.reached.max(keepalive.wal_end);
                        flow.pump.idle(keepalive.wal_end, keepalive.asks).await?;
                    }
                }
            }
        }
        Ok(Worked::Whole)
    }

    /// Emits the next block of a streamed transaction as if it came whole.
    async fn emit(&self, mut pending: Pending, flow: &mut Flow<'_>) -> Result<Worked> {
        let replay = &mut pending.replay;
        let block = match replay.next_block() {
            Ok(block) => block,
            Err(why) => {
                return Err(Error::transient("a streamed transaction cannot be read back").because(why));
            }
        };
        // From 15 on a Begin goes with the first change, and a transaction without changes is not told of.
        let lazy = flow.version >= 150_000;
        if !replay.begun && !lazy {
            replay.begun = true;
            self.passed(replay.commit, flow.pump, flow.aside);
            flow.stream.begin(replay.begin, replay.commit, replay.commit_ts, replay.xid)?;
        }
        let Some(block) = block else {
            if replay.begun {
                flow.stream.commit(replay.end, flow.pump)?;
            }
            return self.chunk(&pending.behind, flow).await;
        };
        for (xid, data) in block.iter() {
            if !replay.stands(xid, data.payload) {
                continue;
            }
            if !replay.begun && !matches!(data.payload.first(), Some(b'R' | b'Y')) {
                replay.begun = true;
                self.passed(replay.commit, flow.pump, flow.aside);
                flow.stream.begin(data.wal_start, replay.commit, replay.commit_ts, replay.xid)?;
            }
            self.data(&data, flow).await?;
        }
        Ok(Worked::Until(pending))
    }

    /// Takes one message of protocol 1.
    async fn data(&self, data: &XLogData<'_>, flow: &mut Flow<'_>) -> Result<()> {
        if data.payload.first() == Some(&b'B')
            && let Ok(pgoutput::Message::Begin { final_lsn, .. }) = pgoutput::parse(data.payload, false)
        {
            // What commits before this has come.
            flow.reached = flow.reached.max(final_lsn);
            if flow.is_ripe() {
                self.chunk_passed(flow).await?;
            }
        }
        let Flow { stream, pump, side, types, aside, .. } = flow;
        if let Some(signal) = stream.signal(data) {
            let obeyed = self.obey(signal, data.wal_start, stream, pump, side, types, aside);
            self.unless_stopped(obeyed).await?;
        } else if aside.incremental.is_open()
            && let Ok(message) = pgoutput::parse(data.payload, false)
        {
            aside.incremental.observe(&message, stream.xid(), &stream.tables);
        }
        let verdict = self.verdict(data, stream.xid(), pump, side, aside).await?;
        if let Step::Describe(relation) = stream.message(data, verdict, pump)? {
            let table = source::answered(self.describe(relation, stream, side, types)).await?;
            if let Some(table) = table {
                aside.incremental.described(&table);
            }
        }
        if aside.blocking.is_some() {
            self.block(data.wal_start, stream, pump, side, types, aside).await?;
        }
        if pump.is_full() {
            crate::failpoint!("capture.mid_transaction");
            pump.flush().await?;
        }
        Ok(())
    }

    /// A Relation message: Debezium takes key, defaults and optionality from the live catalog at this moment. Gives the
    /// table as it is there.
    async fn describe(
        &self,
        relation: Relation,
        stream: &mut Stream,
        side: &Client,
        types: &mut TypeRegistry,
    ) -> Result<Option<TableInfo>> {
        crate::failpoint!("capture.relation");
        let oid = relation.oid;
        let is_signal = self.options.tables.is_signal(&relation.schema, &relation.name);
        if is_signal {
            stream.signal_table = Some(oid);
        }
        // Signals are events, too.
        let mut live = None;
        let plan = if is_signal || self.options.tables.captures(&relation.schema, &relation.name) {
            if relation.columns.iter().any(|c| types.get(c.type_oid).is_none()) {
                *types = catalog::load_types(side).await?;
            }
            let mut table = catalog::load_tables(side, &[oid]).await?.into_iter().next();
            let named = |schema: &str, name: &str| schema == relation.schema && name == relation.name;
            let renamed = !table.as_ref().is_some_and(|t| named(&t.schema, &t.name));
            if renamed && !stream.encoder.options().strict_values {
                // Debezium asks for the table by the name it had then: another one has it now, or none.
                let tables = catalog::list_tables(side).await?;
                let other = tables.iter().find(|t| named(&t.schema, &t.name)).map(|t| t.oid);
                table = match other {
                    Some(oid) => catalog::load_tables(side, &[oid]).await?.into_iter().next(),
                    None => None,
                };
            }
            let plan = stream.encoder.stream_plan(&relation, table.as_ref(), types).map_err(unusable)?;
            live = table;
            Some(plan)
        } else {
            None
        };
        let name = format!("{}.{}", relation.schema, relation.name);
        let columns = relation.columns.into_iter().map(|column| column.name).collect();
        let table = Table { plan, name, columns, truncate_said: false.into() };
        stream.describe(oid, table);
        Ok(live)
    }
}
