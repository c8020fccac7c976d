//! Identity of events, and what a resumed stream leaves out: pure, no I/O.
//!
//! pgoutput sends whole transactions in the order of their commit records; a message outside a transaction
//! stands at its own LSN in that order. So (commit LSN, ordinal within the transaction) is a total order and
//! the same every time the WAL is decoded; the LSNs of rows are not: several rows may share one, and a
//! transaction that began early may commit late.

use std::cmp::Ordering;

use crate::pg::Lsn;

/// Up to where events are in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// LSN of the commit record of the last transaction of which something is in the log (or of a message
    /// outside a transaction). Everything that commits before is in the log.
    pub commit: Lsn,
    /// Number of that transaction's changes that are in the log, counted as pgoutput sends them, before
    /// filters.
    pub ordinal: u64,
    /// Whether the whole transaction is in the log, with what closes it.
    pub complete: bool,
    /// From an offset of Debezium's: what of the first transaction is in the log.
    pub through: Option<Through>,
    /// What tells that transaction from another one at the same place; none where the position names no
    /// transaction.
    pub stamp: Option<Stamp>,
}

/// A transaction's marks besides its place in the WAL. A server that was set back to a backup writes other
/// transactions to the places that it had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its id.
    pub xid: u64,
    /// Commit time, microseconds since 1970.
    pub ts_usec: i64,
}

/// What of a transaction an offset of Debezium's says to be in the log: it names the last change by LSN alone,
/// which several rows of one COPY share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Through {
    /// LSN of the last change that is in the log.
    pub lsn: Lsn,
    /// The transaction, where it is known.
    pub xid: Option<u64>,
    /// How many of its changes at that very LSN are in the log; none for all of them.
    pub at_lsn: Option<u64>,
}

impl Through {
    /// Whether the change of this number and LSN is in the log. `first` keeps the number of the first one at the
    /// last LSN, as they come in order.
    pub fn knows(&self, ordinal: u64, lsn: Lsn, first: Option<u64>) -> bool {
        match (lsn.cmp(&self.lsn), self.at_lsn) {
            (Ordering::Less, _) | (Ordering::Equal, None) => true,
            (Ordering::Equal, Some(count)) => ordinal < first.unwrap_or(ordinal).saturating_add(count),
            (Ordering::Greater, _) => false,
        }
    }
}

/// What to do with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// All of it is in the log.
    Skip,
    /// Its first changes are in the log.
    After(u64),
    /// Changes up to an LSN are in the log.
    Through(Through),
    /// Nothing of it is in the log.
    Whole,
}

impl Position {
    /// Nothing that commits at `start` or later is in the log.
    pub fn before(start: Lsn) -> Self {
        Self { commit: start, ordinal: 0, complete: false, through: None, stamp: None }
    }

    /// What of a transaction with this commit LSN (a message outside a transaction: its own) is to be left
    /// out.
    pub fn resume(&mut self, commit: Lsn, xid: Option<u64>) -> Resume {
        if commit < self.commit {
            return Resume::Skip;
        }
        if commit == self.commit {
            return match (self.complete, self.ordinal) {
                (true, _) => Resume::Skip,
                (false, 0) => self.resume_through(xid),
                (false, n) => Resume::After(n),
            };
        }
        self.resume_through(xid)
    }

    fn resume_through(&mut self, xid: Option<u64>) -> Resume {
        if xid.is_none() && self.through.is_some_and(|through| through.xid.is_some()) {
            // A message outside of transactions, which may come before the one that is named.
            return Resume::Whole;
        }
        match self.through.take() {
            // The first transaction after Debezium's last commit; if its offset named one, it is this one or
            // that one has been sent whole before.
            Some(through) if through.xid.is_none() || through.xid == xid => Resume::Through(through),
            _ => Resume::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_left_out_by_commit_and_ordinal() {
        let mut p = Position { commit: Lsn(50), ordinal: 3, complete: false, through: None, stamp: None };
        assert_eq!(p.resume(Lsn(40), Some(1)), Resume::Skip);
        assert_eq!(p.resume(Lsn(50), Some(2)), Resume::After(3));
        assert_eq!(p.resume(Lsn(60), Some(3)), Resume::Whole);
        p.complete = true;
        assert_eq!(p.resume(Lsn(50), Some(2)), Resume::Skip);
        let mut start = Position::before(Lsn(50));
        assert_eq!(start.resume(Lsn(50), Some(2)), Resume::Whole);
    }

    #[test]
    fn an_offset_of_debezium_names_an_lsn_once() {
        let through = Through { lsn: Lsn(70), xid: Some(9), at_lsn: Some(2) };
        let mut p = Position { through: Some(through), ..Position::before(Lsn(50)) };
        assert_eq!(p.resume(Lsn(75), None), Resume::Whole);
        assert_eq!(p.resume(Lsn(80), Some(9)), Resume::Through(through));
        assert_eq!(p.resume(Lsn(90), Some(10)), Resume::Whole);
        let mut p = Position { through: Some(through), ..Position::before(Lsn(50)) };
        assert_eq!(p.resume(Lsn(80), Some(10)), Resume::Whole);
    }

    #[test]
    fn rows_of_one_lsn_are_told_apart_by_their_count() {
        let through = Through { lsn: Lsn(70), xid: Some(9), at_lsn: Some(2) };
        assert!(through.knows(3, Lsn(60), None));
        let known: Vec<u64> = (4..8).filter(|n| through.knows(*n, Lsn(70), Some(4))).collect();
        assert_eq!(known, [4, 5]);
        assert!(!through.knows(8, Lsn(80), Some(4)));
        assert!(Through { at_lsn: None, ..through }.knows(7, Lsn(70), Some(4)));
        assert!(!Through { at_lsn: Some(0), ..through }.knows(4, Lsn(70), Some(4)));
    }
}
