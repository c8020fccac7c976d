//! Transactions that the stream has shown and that a snapshot taken now may not see.
//!
//! A server sends a transaction when its commit record is written, and lets others see it a moment later; with
//! synchronous replication only when a standby has it, which may be long. Rows that are read meanwhile are older than
//! what the stream has said of them.

use std::collections::VecDeque;

use super::reconcile::Seen;

/// So many are kept; those of sessions that wait for a standby are far fewer.
const MOST: usize = 1 << 16;

/// The last transactions that came.
#[derive(Debug, Default)]
pub(super) struct Shown {
    xids: VecDeque<u64>,
}

impl Shown {
    /// A transaction has come.
    pub(super) fn add(&mut self, xid: u64) {
        if self.xids.len() >= MOST {
            self.xids.pop_front();
        }
        self.xids.push_back(xid);
    }

    /// Whether a snapshot sees all of them. Those that it sees, later ones see too: they are forgotten.
    pub(super) fn is_in(&mut self, seen: &Seen) -> bool {
        self.xids.retain(|xid| !seen.has(*xid));
        self.xids.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_lacks_one_is_too_old() {
        let mut shown = Shown::default();
        (10..20).for_each(|xid| shown.add(xid));
        assert!(!shown.is_in(&Seen::parse("12:30:12,25").unwrap()), "12 is not visible yet");
        assert!(shown.is_in(&Seen::parse("25:30:25").unwrap()));
        shown.add(40);
        assert!(!shown.is_in(&Seen::parse("25:30:25").unwrap()));
    }
}
