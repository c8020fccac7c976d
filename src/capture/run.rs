//! One life of a connector between two connections: start, snapshot, stream, until it stops or breaks.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::Client;

use super::aside::{Aside, blocking_under_way};
use super::begin::{Beginning, Made};
use super::channels::Channels;
use super::committer::Committer;
use super::connector::Env;
use super::decide::{Start, decide};
use super::incremental::Incremental;
use super::notify::Notifier;
use super::offset::{self, Offset, SlotBinding};
use super::owner::{self, Owner};
use super::pour::Flow;
use super::pump::Pump;
use super::reconcile::Reconciler;
use super::source;
use super::spool::Spool;
use super::status::{Phase, StatusCell};
use super::stream::Stream;
use super::witness::Witness;
use super::{offsets, precheck, replica_identity, slot_watch};
use crate::config::ConnectorConfig;
use crate::config::connector::CaptureOptions;
use crate::error::{Error, Kind, Result};
use crate::event::{Encoder, EventError, EventOptions};
use crate::log::{LogWriter, TopicDefaults};
use crate::pg::catalog::{self, TableName, TypeRegistry};
use crate::pg::{self, ConnectConfig, Lsn, ReplicationClient, StartOptions, SystemIdentity};

/// How long everything before slot and snapshot may take; each step has limits of its own.
const PREPARE: Duration = Duration::from_secs(240);

/// A run that ended in order.
pub(super) enum Ended {
    /// As asked.
    Stopped,
    /// To be begun again at once in another way.
    Again,
}

/// A connector's fixed parts.
pub(super) struct Run {
    pub(super) config: ConnectorConfig,
    pub(super) options: CaptureOptions,
    /// What topics are made with.
    pub(super) topics: TopicDefaults,
    /// Where the configuration says that the database is, with alternatives.
    pub(super) given: ConnectConfig,
    /// Where it is in this run.
    pub(super) database: ConnectConfig,
    pub(super) env: Env,
    pub(super) status: Arc<StatusCell>,
    pub(super) stop: watch::Receiver<bool>,
    /// Whether large transactions may be streamed; no longer once one came that does not bear it.
    pub(super) streaming: bool,
    /// The server's process behind the last stream.
    pub(super) walsender: Option<i32>,
    /// This start's name, as its offsets say it.
    pub(super) owner: String,
    /// An offset says that name, or did.
    pub(super) claimed: bool,
    /// What the last stream has shown to be missing in the server's WAL: the commit of a transaction in the log.
    pub(super) lacks: Option<Lsn>,
}

/// What a run has open.
pub(super) struct Session {
    pub(super) side: Client,
    pub(super) replication: ReplicationClient,
    pub(super) system: SystemIdentity,
    pub(super) tables: Vec<TableName>,
    pub(super) types: TypeRegistry,
    pub(super) offset: Option<Offset>,
    pub(super) start: Start,
    pub(super) in_recovery: bool,
}

pub(super) fn unusable(error: EventError) -> Error {
    Error::config("the connector's configuration cannot be used").because(error)
}

/// Waits for the stop; a handle that is gone is one.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await.is_ok();
}

impl Run {
    /// One run. Transient errors are for the supervisor.
    pub(super) async fn once(&mut self) -> Result<Ended> {
        self.status.starting();
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stopped(&mut stop) => Ok(Ended::Stopped),
            started = tokio::time::timeout(PREPARE, self.prepare()) => {
                let (writer, session) = started.map_err(|_| {
                    Error::transient("source and log do not answer").because(format!("for {} s", PREPARE.as_secs()))
                })??;
                Box::pin(self.live(writer, session)).await
            }
        }
    }

    /// Whether an offset was written in this start's name.
    pub(super) fn has_claimed(&self) -> bool {
        self.claimed || self.status.has_committed()
    }

    /// Whether the connector, if it was this start's, still is: asked before its writer is opened, which would end
    /// that of whoever has it now, and once more when nobody else can write.
    async fn check_owner(&self, topic: &str, key: &[u8]) -> Result<()> {
        if !self.has_claimed() {
            return Ok(());
        }
        let stored = offsets::read(&self.env.log, topic, key).await?;
        let stored = stored.and_then(|bytes| Offset::read(&bytes).ok());
        owner::check(&self.options.name, &self.owner, stored.as_ref())
    }

    fn offsets_topic(&self) -> &str {
        self.options.offsets_topic.as_deref().unwrap_or(&self.env.offsets_topic)
    }

    /// Opens everything and decides how to begin. Nothing is changed on the server yet.
    async fn prepare(&mut self) -> Result<(Box<dyn LogWriter>, Session)> {
        // One server for all sessions of a run, also while a failover is under way.
        self.database = pg::primary(&self.given).await?;
        let options = &self.options;
        let side = source::connect(&self.database, options, "Debezium General").await?;
        let facts = catalog::server_facts(&side).await?;
        facts.check_capture()?;
        // The writer comes first: it fences a task of this connector that still runs somewhere, so that the
        // offset read next is the last there will be.
        let topic = self.offsets_topic();
        let key = offset::key(&options.name, &options.topic_prefix);
        self.check_owner(topic, &key).await?;
        let id = &self.env.transactional_id;
        let mut writer = match self.env.exactly_once {
            true => self.env.log.writer(id).await?,
            false => self.env.log.writer_at_least_once(id).await?,
        };
        writer.topic_defaults(self.topics.clone());
        self.env.log.create_topic(&offsets::topic_spec(topic)).await?;
        let stored = offsets::read(&self.env.log, topic, &key).await?;
        let offset = match &stored {
            None => None,
            Some(bytes) => Some(Offset::read(bytes).map_err(|e| {
                Error::data(format!("the stored offset of connector {} cannot be used", options.name))
                    .because(e)
                    .next(format!("millstream offsets show {0}; millstream offsets reset {0}", options.name))
            })?),
        };
        if self.has_claimed() {
            owner::check(&options.name, &self.owner, offset.as_ref())?;
        }
        let database = self.database.clone().with_application_name("Debezium Streaming");
        let mut replication = ReplicationClient::connect(&database).await?;
        let system = replication.identify_system().await?;
        if let Some(stored) = &stored {
            let owner = Owner { name: self.owner.clone(), walsender: replication.backend_pid() };
            owner::claim(&mut *writer, topic, &key, stored, &owner).await?;
            self.claimed = true;
        }
        // The one before cannot write any more, but may not have seen it, or its server not that it is gone.
        if let Some(before) = offset.as_ref().and_then(|o| o.owner.as_ref()).filter(|o| o.name != self.owner)
        {
            source::end_walsender(&side, &options.slot, before.walsender).await;
        }
        let slot = source::slot_state(&side, options).await?;
        // What a session that was just ending has confirmed meanwhile, the server need not send again.
        let lacks = self.lacks.filter(|commit| slot.as_ref().is_some_and(|slot| slot.confirmed <= *commit));
        let server = source::identity(&mut replication, &system, offset.as_ref(), lacks).await?;
        if let Some(offset) = offset.as_ref().filter(|o| facts.in_recovery && server.wal_end < o.restart) {
            return Err(Error::transient("the standby has not received what the stored offset stands for")
                .because(format!("it is at {}, the offset at {}", server.wal_end, offset.restart))
                .next("wait until it has caught up, or point the connector at the primary"));
        }
        let start = decide(
            options.snapshot_mode,
            options.mismatch,
            options.resnapshot,
            offset.as_ref(),
            &options.slot,
            slot.as_ref(),
            &server,
        )?;
        let tables = catalog::list_tables(&side).await?;
        let types = catalog::load_types(&side).await?;
        Ok((
            writer,
            Session {
                side,
                replication,
                system,
                tables,
                types,
                offset,
                start,
                in_recovery: facts.in_recovery,
            },
        ))
    }

    fn encoder(&self) -> Result<Encoder> {
        let mut options = EventOptions::from_properties(self.config.iter()).map_err(unusable)?;
        options.run_id = uuid::Uuid::now_v7().to_string();
        let encoder =
            crate::transform::encoder(options, self.config.iter(), &self.env.addresses).map_err(unusable);
        encoder.map(|encoder| encoder.counting_skipped(Arc::clone(&self.status.skipped)))
    }

    /// From the decision to the end of the run.
    async fn live(&mut self, writer: Box<dyn LogWriter>, mut session: Session) -> Result<Ended> {
        let options = &self.options;
        let mut encoder = self.encoder()?;
        let mut captured = source::captured(options, &session.tables)?;
        if encoder.options().strict_values && matches!(session.start, Start::Snapshot(_)) {
            captured = source::without_duplicates(&session.side, options, captured).await?;
        }
        let names: Vec<String> =
            session.tables.iter().map(|table| format!("{}.{}", table.schema, table.name)).collect();
        for entry in options.tables.without_table(&names) {
            tracing::warn!(
                connector = options.name,
                "no table matches the entry {entry} of table.include.list"
            );
        }
        if captured.is_empty() {
            tracing::warn!(connector = options.name, "no table matches the connector's filters");
        }
        let events = EventOptions::from_properties(self.config.iter()).map_err(unusable)?;
        if let Some(problem) = precheck::key_columns(&session.side, &events, &captured).await? {
            return Err(
                Error::config("the connector's configuration cannot be used").because(problem.message)
            );
        }
        encoder.ready()?;
        if matches!(session.start, Start::Snapshot(_)) {
            source::check_readable(&session.side, &captured).await?;
        }
        let mut made = Made::default();
        let committed = self.status.batches();
        if options.snapshot_mode.streams() {
            // Before the slot: old WAL is decoded with the catalog of its time.
            made.publication = source::publication(&session.side, options, &session.tables).await?;
            replica_identity::set(&session.side, options, &captured).await?;
            crate::failpoint!("capture.publication");
        }
        let binding = SlotBinding {
            system: session.system.system_id.clone(),
            timeline: session.system.timeline,
            slot: options.slot.clone(),
            version: session.replication.server_version(),
        };
        let committer = Committer::spawn(writer, Arc::clone(&self.status), self.env.observer.clone());
        let mut pump = Pump::new(
            committer,
            session.offset.clone().unwrap_or_else(|| Offset::start(Lsn::ZERO, binding.clone())),
            self.offsets_topic(),
            offset::key(&options.name, &options.topic_prefix),
            Owner { name: self.owner.clone(), walsender: session.replication.backend_pid() },
            Arc::clone(&self.status),
            options.queue_bytes,
        );
        pump.offset.binding = Some(binding.clone());
        let mut stop = self.stop.clone();
        let begun = tokio::select! {
            biased;
            () = stopped(&mut stop) => None,
            begun = self.begin(&mut session, &mut encoder, &mut pump, &captured, &binding, &mut made) => Some(begun),
        };
        let result = match begun {
            // A snapshot that is stopped starts again.
            None => Ok(Ended::Stopped),
            Some(Ok(Some(beginning))) => Box::pin(self.stream(session, encoder, &mut pump, beginning)).await,
            Some(Ok(None)) => self.rest(&mut pump).await,
            Some(Err(e)) => {
                // What the log knows of, another one may have taken over, or a later start goes on with.
                let is_final = matches!(e.kind(), Kind::Config | Kind::Refused | Kind::Data);
                if is_final && self.status.batches() == committed {
                    let slot = made.slot.then_some(self.options.slot.as_str());
                    let publication = made.publication.then_some(self.options.publication.as_str());
                    source::undo(&session.side, slot, publication).await;
                }
                Err(e)
            }
        };
        pump.close().await;
        result
    }

    /// Nothing to stream: waits for the stop.
    async fn rest(&mut self, pump: &mut Pump) -> Result<Ended> {
        if pump.in_flight() {
            pump.settle().await?;
        }
        self.status.caught_up();
        self.status.phase(Phase::Idle);
        stopped(&mut self.stop).await;
        Ok(Ended::Stopped)
    }

    async fn stream(
        &mut self,
        session: Session,
        mut encoder: Encoder,
        pump: &mut Pump,
        beginning: Beginning,
    ) -> Result<Ended> {
        let Session { side, replication, mut types, .. } = session;
        let options = self.options.clone();
        let Beginning { from, position, witness } = beginning;
        let target = source::current_lsn(&side).await?;
        if let Some((_, counts)) = pump.offset.transaction.take() {
            encoder.transaction_mut().resume(counts);
        }
        let mut start = StartOptions::new(&options.slot, &options.publication, from);
        start.status_interval = options.status_interval;
        start.origin = options
            .slot_stream_params
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("origin"))
            .map(|(_, value)| value.clone());
        // Large transactions come while they run, so that the server need not keep them on its disk; the change
        // events are the same.
        let streaming = self.streaming && options.streaming && replication.server_version() >= 140_000;
        if streaming {
            (start.proto_version, start.streaming) = (2, true);
        }
        let version = replication.server_version();
        crate::failpoint!("capture.stream_starting");
        if let Some(pid) = self.walsender.replace(replication.backend_pid()) {
            source::end_walsender(&side, &options.slot, pid).await;
        }
        let mut wal = replication.start(&start).await?;
        crate::failpoint!("capture.stream_started");
        let mut aside = Aside {
            incremental: Incremental::resume(&pump.offset),
            notifier: Notifier::new(&options),
            blocking: blocking_under_way(&pump.offset),
            reconcile: Reconciler::resume(&pump.offset),
        };
        let last_commit = pump.offset.lsn_commit;
        let witness = Witness::new(witness);
        let mut stream = Stream::new(encoder, position, witness, last_commit, Arc::clone(&self.status));
        self.status.phase(Phase::Streaming);
        let spool = Spool::new(&self.env.spill, options.queue_bytes / 2);
        let _watch = slot_watch::watch(&self.database, &options, &self.status);
        if !options.xmin_interval.is_zero() {
            stream.xmin = Some(slot_watch::Xmin::watch(&side, &self.database, &options).await?);
        }
        let channels = Channels::start(self, &pump.offset);
        stream.deleted_signals = options.incremental_delete;
        let mut flow = Flow {
            stream: &mut stream,
            pump,
            side: &side,
            types: &mut types,
            aside: &mut aside,
            spool,
            version,
            channels,
            reached: Lsn::ZERO,
            target: Some(target),
        };
        let result = self.pour(&mut wal, &mut flow).await;
        match result {
            Err(error) if stream.witness.lacks().is_some() => {
                // What is done about it is decided at a start.
                tracing::debug!(connector = options.name, %error, "the stream ends");
                self.lacks = stream.witness.lacks();
                Ok(Ended::Again)
            }
            Ok(ended) => {
                wal.stop().await;
                if options.slot_drop_on_stop && matches!(ended, Ended::Stopped) {
                    self.drop_slot().await;
                }
                Ok(ended)
            }
            Err(e) => Err(e),
        }
    }

    /// `slot.drop.on.stop`.
    async fn drop_slot(&self) {
        let dropped = async {
            let database = self.database.clone().with_application_name("Debezium Drop Slot");
            let mut client = ReplicationClient::connect(&database).await?;
            client.drop_slot(&self.options.slot, true).await
        };
        if let Err(error) = dropped.await {
            tracing::warn!(connector = self.options.name, %error, "slot.drop.on.stop: the slot stays");
        }
    }
}
