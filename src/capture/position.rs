//! Identity of events, and what a resumed stream leaves out: pure, no I/O.
//!
//! pgoutput sends whole transactions in the order of their commit records; a message outside a transaction
//! stands at its own LSN in that order. So (commit LSN, ordinal within the transaction) is a total order and
//! the same every time the WAL is decoded; the LSNs of rows are not: several rows may share one, and a
//! transaction that began early may commit late.

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
    /// From an offset of Debezium's: changes up to this LSN in the first transaction (of this id, where it
    /// is known) are in the log.
    pub through: Option<(Lsn, Option<u64>)>,
}

/// What to do with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// All of it is in the log.
    Skip,
    /// Its first changes are in the log.
    After(u64),
    /// Changes up to this LSN are in the log.
    Through(Lsn),
    /// Nothing of it is in the log.
    Whole,
}

impl Position {
    /// Nothing that commits at `start` or later is in the log.
    pub fn before(start: Lsn) -> Self {
        Self { commit: start, ordinal: 0, complete: false, through: None }
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
        match self.through.take() {
            // The first transaction after Debezium's last commit; if its offset named one, it is this one or
            // that one has been sent whole before.
            Some((lsn, known)) if known.is_none() || known == xid => Resume::Through(lsn),
            _ => Resume::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_are_left_out_by_commit_and_ordinal() {
        let mut p = Position { commit: Lsn(50), ordinal: 3, complete: false, through: None };
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
        let mut p = Position { through: Some((Lsn(70), Some(9))), ..Position::before(Lsn(50)) };
        assert_eq!(p.resume(Lsn(80), Some(9)), Resume::Through(Lsn(70)));
        assert_eq!(p.resume(Lsn(90), Some(10)), Resume::Whole);
        let mut p = Position { through: Some((Lsn(70), Some(9))), ..Position::before(Lsn(50)) };
        assert_eq!(p.resume(Lsn(80), Some(10)), Resume::Whole);
    }
}
