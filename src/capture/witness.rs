//! Whether the server's WAL is the one that the log's content comes from.
//!
//! A server that was set back to a backup on the same timeline writes other transactions to places in the WAL
//! that are known already; its positions look like good ones. So a stream begins at the last transaction that is
//! in the log, where the slot still holds it, and has to show it.

use super::position::Stamp;
use crate::error::{Error, Result};
use crate::pg::Lsn;

/// What the stream has to show first, and what it showed.
#[derive(Debug, Default)]
pub(super) struct Witness {
    wanted: Option<(Lsn, Stamp)>,
    lacks: Option<Lsn>,
}

impl Witness {
    /// The transaction that has to come, by the LSN of its commit.
    pub(super) fn new(wanted: Option<(Lsn, Stamp)>) -> Self {
        Self { wanted, lacks: None }
    }

    /// Whether the transaction is still to come.
    pub(super) fn is_awaited(&self) -> bool {
        self.wanted.is_some()
    }

    /// The commit of the transaction that did not come.
    pub(super) fn lacks(&self) -> Option<Lsn> {
        self.lacks
    }

    /// Everything that commits before `lsn` has come.
    ///
    /// # Errors
    /// When the transaction should have come, and has not.
    pub(super) fn passed(&mut self, lsn: Lsn) -> Result<()> {
        match self.wanted {
            Some((commit, stamp)) if commit < lsn => self.miss(commit, stamp),
            _ => Ok(()),
        }
    }

    /// A transaction that commits at `commit` has come.
    ///
    /// # Errors
    /// When another one should have come there, or before.
    pub(super) fn begins(&mut self, commit: Lsn, stamp: Stamp) -> Result<()> {
        self.passed(commit)?;
        match self.wanted {
            Some((at, known)) if at == commit && known != stamp => self.miss(at, known),
            Some((at, _)) if at == commit => {
                self.wanted = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn miss(&mut self, commit: Lsn, stamp: Stamp) -> Result<()> {
        self.lacks = Some(commit);
        Err(Error::refused(format!(
            "the server's WAL does not hold transaction {} committed at {commit}, which is in the log",
            stamp.xid
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transaction_must_come_and_be_the_same() {
        let stamp = Stamp { xid: 7, ts_usec: 100 };
        let at = Lsn(50);
        let fresh = || Witness::new(Some((at, stamp)));
        let mut shown = fresh();
        assert!(shown.passed(at).is_ok() && shown.begins(Lsn(40), Stamp { xid: 6, ts_usec: 90 }).is_ok());
        assert!(shown.is_awaited());
        assert!(shown.begins(at, stamp).is_ok() && !shown.is_awaited());
        assert!(shown.begins(Lsn(60), Stamp { xid: 8, ts_usec: 0 }).is_ok() && shown.passed(Lsn(70)).is_ok());
        assert_eq!(shown.lacks(), None);
        // Another one at the same place, even with the same id; one behind it; nothing at all.
        for other in [Stamp { xid: 8, ..stamp }, Stamp { ts_usec: 101, ..stamp }] {
            let mut missed = fresh();
            assert!(missed.begins(at, other).is_err());
            assert_eq!(missed.lacks(), Some(at));
        }
        assert!(fresh().begins(Lsn(51), stamp).is_err());
        assert!(fresh().passed(Lsn(51)).is_err());
        assert!(Witness::default().passed(Lsn(51)).is_ok());
    }
}
