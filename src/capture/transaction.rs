//! The transaction that the stream is in.

use super::position::{Position, Resume, Stamp};
use crate::pg::Lsn;

/// A transaction under way.
pub(super) struct Transaction {
    pub(super) xid: u64,
    /// LSN of the Begin message: where Debezium says the transaction begins.
    pub(super) begin_lsn: Lsn,
    pub(super) commit: Lsn,
    pub(super) ts_ns: i64,
    /// Changes so far, as pgoutput sends them.
    pub(super) ordinal: u64,
    pub(super) resume: Resume,
    /// Number of its first change at the last LSN that an offset of Debezium's names.
    pub(super) first_at: Option<u64>,
    /// Whether its BEGIN record is written, or was before a restart.
    pub(super) begun: bool,
}

impl Transaction {
    /// After its last change, or after it as a whole.
    pub(super) fn position(&self, complete: bool) -> Position {
        let stamp = Stamp { xid: self.xid, ts_usec: self.ts_ns / 1000 };
        Position { commit: self.commit, ordinal: self.ordinal, complete, through: None, stamp: Some(stamp) }
    }

    /// Whether its change of this number and LSN is in the log from before the start.
    pub(super) fn knows(&self, ordinal: u64, lsn: Lsn) -> bool {
        match self.resume {
            Resume::Whole => false,
            Resume::Skip => true,
            Resume::After(n) => ordinal <= n,
            Resume::Through(through) => through.knows(ordinal, lsn, self.first_at),
        }
    }
}
