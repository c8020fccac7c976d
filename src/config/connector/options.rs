//! The properties that steer the capture driver, typed.

use std::time::Duration;

use super::{ConnectorConfig, TableFilter};
use crate::error::{Error, Result};
use crate::java::regex_list::{self, RegexList};

/// `snapshot.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotMode {
    /// At every start.
    Always,
    /// When there is no offset.
    Initial,
    /// As `Initial`, without streaming afterwards.
    InitialOnly,
    /// Never.
    NoData,
    /// As `Initial`, and when the stored position is lost.
    WhenNeeded,
    /// By the properties under `snapshot.mode.configuration.based`.
    ConfigurationBased {
        /// Read the content.
        data: bool,
        /// Stream.
        stream: bool,
        /// Read again when the position is lost.
        on_data_error: bool,
    },
}

impl SnapshotMode {
    /// Whether the connector streams.
    pub fn streams(self) -> bool {
        match self {
            Self::InitialOnly => false,
            Self::ConfigurationBased { stream, .. } => stream,
            _ => true,
        }
    }

    /// Whether the content is read where no offset is stored.
    pub fn snapshots_without_offset(self) -> bool {
        match self {
            Self::NoData => false,
            Self::ConfigurationBased { data, .. } => data,
            _ => true,
        }
    }

    /// Whether the content is read at every start.
    pub fn snapshots_always(self) -> bool {
        matches!(self, Self::Always | Self::ConfigurationBased { data: true, .. })
    }

    /// Whether a lost position is answered by a new snapshot instead of a failure.
    pub fn snapshots_when_lost(self) -> bool {
        matches!(self, Self::WhenNeeded | Self::ConfigurationBased { on_data_error: true, .. })
    }
}

/// `publication.autocreate.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicationMode {
    /// `FOR ALL TABLES`.
    AllTables,
    /// Never made; it must exist.
    Disabled,
    /// `FOR TABLE` with the captured tables.
    Filtered,
    /// Without tables.
    NoTables,
}

/// `lsn.flush.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LsnFlushMode {
    /// After events and offset are durable.
    Connector,
    /// Never; somebody else moves the slot on.
    Manual,
    /// As `Connector`; keepalive positions too (they always are confirmed here, offset first).
    ConnectorAndDriver,
}

/// `offset.mismatch.strategy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MismatchStrategy {
    /// Nothing is moved; a slot that is ahead of the offset is an error that says so.
    NoValidation,
    /// A slot that is behind is advanced to the offset; one that is ahead is an error.
    TrustOffset,
    /// Start where the slot is.
    TrustSlot,
    /// Start at whichever is further.
    TrustGreaterLsn,
}

/// Where signals come from.
#[derive(Clone, Debug)]
pub struct SignalChannels {
    /// The signal table.
    pub source: bool,
    /// A topic.
    pub kafka: Option<SignalTopic>,
    /// `signal.file`.
    pub file: Option<std::path::PathBuf>,
    /// `signal.poll.interval.ms`: how often the others are looked at.
    pub poll: Duration,
}

/// The topic of the signal channel `kafka`.
#[derive(Clone, Debug)]
pub struct SignalTopic {
    /// `signal.kafka.topic`; its partition 0 is read.
    pub topic: String,
    /// `signal.kafka.bootstrap.servers`; without it the topic is in the connector's own log.
    pub bootstrap: Option<String>,
    /// `signal.consumer.*`: client properties by their Java names. The values may be secrets.
    pub properties: Vec<(String, crate::config::Secret)>,
}

impl SignalChannels {
    fn new(config: &ConnectorConfig) -> Self {
        let channels = config.text("signal.enabled.channels").to_ascii_lowercase();
        let enabled = |name: &str| channels.split(',').any(|c| c.trim() == name);
        let topic = || SignalTopic {
            topic: filled(config.text("signal.kafka.topic"))
                .unwrap_or_else(|| format!("{}-signal", config.text("topic.prefix"))),
            bootstrap: filled(config.text("signal.kafka.bootstrap.servers")),
            properties: config
                .iter()
                .filter_map(|(k, v)| Some((k.strip_prefix("signal.consumer.")?.to_owned(), v.into())))
                .collect(),
        };
        Self {
            source: enabled("source"),
            kafka: enabled("kafka").then(topic),
            file: enabled("file").then(|| config.text("signal.file").into()),
            poll: millis(config, "signal.poll.interval.ms").max(Duration::from_millis(10)),
        }
    }
}

/// A table's `SELECT` of its own in the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectOverride {
    /// `schema.table`.
    pub table: String,
    /// The statement.
    pub select: String,
}

/// What the capture driver needs to know.
#[derive(Clone, Debug)]
pub struct CaptureOptions {
    /// Connector name; part of the offset key.
    pub name: String,
    /// `topic.prefix`; the offset's partition.
    pub topic_prefix: String,
    /// `database.dbname`.
    pub database: String,
    /// `slot.name`.
    pub slot: String,
    /// `slot.drop.on.stop`.
    pub slot_drop_on_stop: bool,
    /// `slot.failover`.
    pub slot_failover: bool,
    /// `slot.stream.params`.
    pub slot_stream_params: Vec<(String, String)>,
    /// `slot.max.retries`.
    pub slot_max_retries: u32,
    /// `slot.retry.delay.ms`.
    pub slot_retry_delay: Duration,
    /// `publication.name`.
    pub publication: String,
    /// `publication.autocreate.mode`.
    pub publication_mode: PublicationMode,
    /// `publish.via.partition.root`.
    pub publish_via_partition_root: bool,
    /// What a publication publishes, where `skipped.operations` is set: `insert, update, …`.
    pub publish: Option<String>,
    /// `replica.identity.autoset.values`, as written.
    pub replica_identities: Option<String>,
    /// `xmin.fetch.interval.ms`; zero for never.
    pub xmin_interval: Duration,
    /// `status.update.interval.ms`.
    pub status_interval: Duration,
    /// `lsn.flush.mode`.
    pub flush_mode: LsnFlushMode,
    /// `offset.mismatch.strategy`.
    pub mismatch: MismatchStrategy,
    /// `millstream.lost.position=resnapshot`.
    pub resnapshot: bool,
    /// `snapshot.mode`.
    pub snapshot_mode: SnapshotMode,
    /// `snapshot.include.collection.list`; empty for all captured tables.
    pub snapshot_tables: RegexList,
    /// `snapshot.select.statement.overrides`.
    pub snapshot_overrides: Vec<SelectOverride>,
    /// `snapshot.delay.ms`.
    pub snapshot_delay: Duration,
    /// `streaming.delay.ms`.
    pub streaming_delay: Duration,
    /// `snapshot.isolation.mode` as SQL.
    pub snapshot_isolation: &'static str,
    /// `snapshot.locking.mode=shared`.
    pub snapshot_locks: bool,
    /// `snapshot.lock.timeout.ms`.
    pub snapshot_lock_timeout: Duration,
    /// `snapshot.max.threads`: connections that read the initial snapshot.
    pub snapshot_threads: usize,
    /// `snapshot.max.threads.multiplier`: ranges per table and connection.
    pub snapshot_chunks: usize,
    /// `legacy.snapshot.max.threads`: tables are not cut into ranges.
    pub snapshot_whole: bool,
    /// `snapshot.fetch.size`: rows that a connection hands over at once.
    pub snapshot_fetch: Option<usize>,
    /// Captured tables.
    pub tables: TableFilter,
    /// `signal.data.collection`.
    pub signal_table: Option<String>,
    /// `read.only`.
    pub read_only: bool,
    /// `database.initial.statements`.
    pub initial_statements: Vec<String>,
    /// `database.query.timeout.ms`; zero for none.
    pub query_timeout: Duration,
    /// `guardrail.collections.max`, and whether more is a failure.
    pub guardrail: Option<(usize, bool)>,
    /// `heartbeat.interval.ms`.
    pub heartbeat: Option<Duration>,
    /// `heartbeat.action.query`.
    pub heartbeat_query: Option<String>,
    /// `errors.max.retries`; `None` for ever.
    pub max_retries: Option<u32>,
    /// `retriable.restart.connector.wait.ms`.
    pub retry_wait: Duration,
    /// `max.queue.size.in.bytes`, with our default: bytes between the database and the log.
    pub queue_bytes: usize,
    /// `millstream.transaction.streaming`.
    pub streaming: bool,
    /// `offsets.storage.topic`.
    pub offsets_topic: Option<String>,
    /// `notification.enabled.channels`: into a topic, into the program's log.
    pub notify: (bool, bool),
    /// `incremental.snapshot.chunk.size`.
    pub incremental_chunk: i64,
    /// `incremental.snapshot.watermarking.strategy=insert_delete`.
    pub incremental_delete: bool,
    /// `signal.enabled.channels`, and what the channels besides the signal table need.
    pub signals: SignalChannels,
}

fn millis(config: &ConnectorConfig, property: &str) -> Duration {
    Duration::from_millis(u64::try_from(config.number(property)).unwrap_or(0))
}

fn list(config: &ConnectorConfig, property: &str) -> Result<RegexList> {
    RegexList::parse(config.text(property))
        .map_err(|e| Error::config(format!("connector property {property} cannot be read")).because(e))
}

fn filled(text: &str) -> Option<String> {
    Some(text.trim()).filter(|t| !t.is_empty()).map(str::to_owned)
}

impl CaptureOptions {
    /// Whether chunks of incremental snapshots are marked by rows in the signal table.
    pub fn writes_signals(&self) -> bool {
        self.signal_table.is_some() && !self.read_only
    }

    /// Reads them from a checked configuration.
    ///
    /// # Errors
    /// When a value cannot be read.
    pub fn new(config: &ConnectorConfig) -> Result<Self> {
        let lower = |property: &str| config.text(property).to_ascii_lowercase();
        let unsupported =
            |property: &str| Error::config(format!("{property}={} is not supported", config.text(property)));
        let based = |p: &str| config.flag(&format!("snapshot.mode.configuration.based.{p}"));
        let snapshot_mode = match lower("snapshot.mode").as_str() {
            "always" => SnapshotMode::Always,
            "initial" => SnapshotMode::Initial,
            "initial_only" => SnapshotMode::InitialOnly,
            "no_data" => SnapshotMode::NoData,
            "when_needed" => SnapshotMode::WhenNeeded,
            "configuration_based" => SnapshotMode::ConfigurationBased {
                data: based("snapshot.data"),
                stream: based("start.stream"),
                on_data_error: based("snapshot.on.data.error"),
            },
            _ => return Err(unsupported("snapshot.mode")),
        };
        let flush_mode = match lower("lsn.flush.mode").as_str() {
            "" if !config.flag("flush.lsn.source") => LsnFlushMode::Manual,
            "" | "connector" => LsnFlushMode::Connector,
            "manual" => LsnFlushMode::Manual,
            "connector_and_driver" => LsnFlushMode::ConnectorAndDriver,
            _ => return Err(unsupported("lsn.flush.mode")),
        };
        let count = |property: &str| usize::try_from(config.number(property)).ok().filter(|n| *n > 0);
        let signal_table = filled(config.text("signal.data.collection"));
        let heartbeat = millis(config, "heartbeat.interval.ms");
        let retries = config.number("errors.max.retries");
        let queue = config.number("max.queue.size.in.bytes");
        let guardrail = usize::try_from(config.number("guardrail.collections.max")).unwrap_or(0);
        let channels = lower("notification.enabled.channels");
        let channel = |name: &str| channels.split(',').any(|c| c.trim() == name);
        Ok(Self {
            name: config.name().to_owned(),
            topic_prefix: config.text("topic.prefix").to_owned(),
            database: config.text("database.dbname").to_owned(),
            slot: config.text("slot.name").to_owned(),
            slot_drop_on_stop: config.flag("slot.drop.on.stop"),
            slot_failover: config.flag("slot.failover"),
            slot_stream_params: config
                .text("slot.stream.params")
                .split(';')
                .filter_map(|p| p.split_once('='))
                .map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()))
                .collect(),
            slot_max_retries: u32::try_from(config.number("slot.max.retries")).unwrap_or(0),
            slot_retry_delay: millis(config, "slot.retry.delay.ms"),
            publication: config.text("publication.name").to_owned(),
            publication_mode: match lower("publication.autocreate.mode").as_str() {
                "all_tables" => PublicationMode::AllTables,
                "disabled" => PublicationMode::Disabled,
                "filtered" => PublicationMode::Filtered,
                "no_tables" => PublicationMode::NoTables,
                _ => return Err(unsupported("publication.autocreate.mode")),
            },
            publish_via_partition_root: config.flag("publish.via.partition.root"),
            publish: config.is_set("skipped.operations").then(|| publish(config.text("skipped.operations"))),
            replica_identities: Some(config.text("replica.identity.autoset.values").to_owned())
                .filter(|text| !text.trim().is_empty()),
            xmin_interval: millis(config, "xmin.fetch.interval.ms"),
            status_interval: millis(config, "status.update.interval.ms"),
            flush_mode,
            mismatch: match lower("offset.mismatch.strategy").as_str() {
                "trust_offset" => MismatchStrategy::TrustOffset,
                "trust_slot" => MismatchStrategy::TrustSlot,
                "trust_greater_lsn" => MismatchStrategy::TrustGreaterLsn,
                _ => MismatchStrategy::NoValidation,
            },
            resnapshot: lower("millstream.lost.position") == "resnapshot",
            snapshot_mode,
            snapshot_tables: list(config, "snapshot.include.collection.list")?,
            snapshot_overrides: overrides(config)?,
            snapshot_delay: millis(config, "snapshot.delay.ms"),
            streaming_delay: millis(config, "streaming.delay.ms"),
            snapshot_isolation: match lower("snapshot.isolation.mode").as_str() {
                "repeatable_read" => "REPEATABLE READ",
                "read_committed" => "READ COMMITTED",
                "read_uncommitted" => "READ UNCOMMITTED",
                _ => "SERIALIZABLE, READ ONLY, DEFERRABLE",
            },
            snapshot_locks: lower("snapshot.locking.mode") == "shared",
            snapshot_lock_timeout: millis(config, "snapshot.lock.timeout.ms"),
            snapshot_threads: count("snapshot.max.threads").unwrap_or(1),
            snapshot_chunks: count("snapshot.max.threads.multiplier").unwrap_or(1),
            snapshot_whole: config.flag("legacy.snapshot.max.threads"),
            snapshot_fetch: config
                .is_set("snapshot.fetch.size")
                .then(|| count("snapshot.fetch.size"))
                .flatten(),
            tables: TableFilter {
                schema_include: list(config, "schema.include.list")?,
                schema_exclude: list(config, "schema.exclude.list")?,
                table_include: list(config, "table.include.list")?,
                table_entries: crate::java::regex_list::split(config.text("table.include.list")),
                table_exclude: list(config, "table.exclude.list")?,
                signal: signal_table.clone(),
            },
            signal_table,
            read_only: config.flag("read.only"),
            initial_statements: statements(config.text("database.initial.statements")),
            query_timeout: millis(config, "database.query.timeout.ms"),
            guardrail: (guardrail > 0)
                .then(|| (guardrail, lower("guardrail.collections.limit.action") == "fail")),
            heartbeat: (!heartbeat.is_zero()).then_some(heartbeat),
            heartbeat_query: filled(config.text("heartbeat.action.query")),
            max_retries: u32::try_from(retries).ok(),
            retry_wait: millis(config, "retriable.restart.connector.wait.ms"),
            queue_bytes: usize::try_from(queue).ok().filter(|q| *q > 0).unwrap_or(8 << 20).max(64 << 10),
            streaming: config.flag("millstream.transaction.streaming"),
            offsets_topic: filled(config.text("offsets.storage.topic")),
            notify: (channel("sink"), channel("log")),
            incremental_chunk: config.number("incremental.snapshot.chunk.size").max(1),
            incremental_delete: lower("incremental.snapshot.watermarking.strategy") == "insert_delete",
            signals: SignalChannels::new(config),
        })
    }
}

/// `publish = '…'` of a publication, where `skipped.operations` is set.
fn publish(skipped: &str) -> String {
    let skipped: Vec<String> = skipped.split(',').map(|s| s.trim().to_ascii_lowercase()).collect();
    [("c", "insert"), ("u", "update"), ("d", "delete"), ("t", "truncate")]
        .iter()
        .filter(|(op, _)| !skipped.iter().any(|s| s == op))
        .map(|(_, name)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn overrides(config: &ConnectorConfig) -> Result<Vec<SelectOverride>> {
    let property = "snapshot.select.statement.overrides";
    regex_list::split(config.text(property))
        .into_iter()
        .map(|table| {
            let name = format!("{property}.{table}");
            match filled(config.text(&name)) {
                Some(select) => Ok(SelectOverride { table, select: select.trim_end_matches(';').to_owned() }),
                None => {
                    Err(Error::config(format!("{property} names {table}, but there is no property {name}")))
                }
            }
        })
        .collect()
}

/// Splits at semicolons; two of them stand for one.
fn statements(text: &str) -> Vec<String> {
    text.replace(";;", "\u{0}")
        .split(';')
        .map(|s| s.replace('\u{0}', ";").trim().to_owned())
        .filter(|s| !s.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn options(extra: &[(&str, &str)]) -> Result<CaptureOptions> {
        let mut map: BTreeMap<String, String> = [
            ("connector.class", "PostgresConnector"),
            ("database.hostname", "db"),
            ("database.user", "ann"),
            ("database.dbname", "shop"),
            ("topic.prefix", "s"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        map.extend(extra.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        CaptureOptions::new(&ConnectorConfig::from_map("c", map)?)
    }

    #[test]
    fn filters_and_snapshot_order() {
        let o =
            options(&[("table.include.list", r"public\.b.*,public\.a"), ("schema.exclude.list", "internal")])
                .unwrap();
        assert!(o.tables.captures("public", "a") && o.tables.captures("public", "bb"));
        assert!(!o.tables.captures("public", "c") && !o.tables.captures("pg_catalog", "a"));
        let mut names = ["a", "b2", "b1"];
        names.sort_by_key(|t| o.tables.snapshot_order("public", t));
        assert_eq!(names, ["b1", "b2", "a"]);
    }

    #[test]
    fn skipped_operations_shape_the_publication() {
        assert_eq!(options(&[]).unwrap().publish, None);
        let o = options(&[("skipped.operations", "u,t")]).unwrap();
        assert_eq!(o.publish.as_deref(), Some("insert, delete"));
        assert_eq!(options(&[("skipped.operations", "none")]).unwrap().publish.unwrap().len(), 32);
    }

    #[test]
    fn overrides_need_their_statement() {
        let p = "snapshot.select.statement.overrides";
        assert!(options(&[(p, "public.a")]).unwrap_err().screen().contains("overrides.public.a"));
        let o = options(&[(p, "public.a"), (&format!("{p}.public.a"), "SELECT 1;")]).unwrap();
        assert_eq!(o.snapshot_overrides[0].select, "SELECT 1");
        assert_eq!(statements("a;;b; c;"), ["a;b", "c"]);
    }
}
