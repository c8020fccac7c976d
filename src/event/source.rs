//! Where an event comes from: the `source` block and the `transaction` block.

use crate::pg::Lsn;

/// `source.snapshot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SnapshotMarker {
    /// Streamed: unset, which reads as the default `"false"`.
    #[default]
    No,
    /// Neither first nor last.
    True,
    /// First record of the snapshot.
    First,
    /// First record of a table.
    FirstInDataCollection,
    /// Last record of a table.
    LastInDataCollection,
    /// Last record of the snapshot.
    Last,
    /// From an incremental snapshot.
    Incremental,
}

impl SnapshotMarker {
    /// The text Debezium writes; `None` for streamed events.
    pub fn text(self) -> Option<&'static str> {
        Some(match self {
            Self::No => return None,
            Self::True => "true",
            Self::First => "first",
            Self::FirstInDataCollection => "first_in_data_collection",
            Self::LastInDataCollection => "last_in_data_collection",
            Self::Last => "last",
            Self::Incremental => "incremental",
        })
    }
}

/// What changes from event to event in the `source` and `transaction` blocks.
#[derive(Clone, Debug, Default)]
pub struct SourceInfo<'a> {
    /// LSN of the change; `None` in incremental snapshots.
    pub lsn: Option<Lsn>,
    /// LSN of the last commit seen before (`sequence[0]`); `None` until one was seen.
    pub last_commit_lsn: Option<Lsn>,
    /// Transaction id; `None` for non-transactional messages and incremental snapshots.
    pub txid: Option<u64>,
    /// Commit time (snapshot: when it began), nanoseconds since 1970 UTC.
    pub ts_ns: i64,
    /// Snapshot marker.
    pub snapshot: SnapshotMarker,
    /// `source.xmin`, with `xmin.fetch.interval.ms`.
    pub xmin: Option<u64>,
    /// Name of the replication origin.
    pub origin: Option<&'a str>,
    /// LSN at the origin.
    pub origin_lsn: Option<Lsn>,
    /// Order within the transaction, with `provide.transaction.metadata`.
    pub order: Option<TransactionOrder>,
    /// The connector's clock, nanoseconds since 1970 UTC: `ts_ms`, `ts_us`, `ts_ns` of the envelope.
    pub now_ns: i64,
}

/// Order of an event within its transaction, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionOrder {
    /// Among all events of the transaction.
    pub total: u64,
    /// Among those of the same table.
    pub data_collection: u64,
}

/// Counts the events of a transaction, by table: `total_order`, `data_collection_order`, and END's contents.
#[derive(Clone, Debug, Default)]
pub struct TransactionCounter {
    total: u64,
    tables: Vec<(String, u64)>,
}

impl TransactionCounter {
    /// A transaction begins.
    pub fn begin(&mut self) {
        self.total = 0;
        self.tables.clear();
    }

    /// Takes up a transaction in its middle: table names (`schema.table`) and their counts from the offset.
    pub fn resume(&mut self, counts: impl IntoIterator<Item = (String, u64)>) {
        self.begin();
        for (table, n) in counts {
            self.total += n;
            self.tables.push((table, n));
        }
    }

    /// An event of this table (`schema.table`).
    pub fn next(&mut self, table: &str) -> TransactionOrder {
        self.total += 1;
        let data_collection = match self.tables.iter_mut().find(|(t, _)| t == table) {
            Some((_, n)) => {
                *n += 1;
                *n
            }
            None => {
                self.tables.push((table.to_owned(), 1));
                1
            }
        };
        TransactionOrder { total: self.total, data_collection }
    }

    /// Events so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Events so far by table.
    pub fn tables(&self) -> &[(String, u64)] {
        &self.tables
    }
}
