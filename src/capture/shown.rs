//! Transactions that the stream has shown and that a snapshot taken now may not see.
//!
//! A server sends a transaction when its commit record is written, and lets others see it a moment later; with
//! synchronous replication only when a standby has it, which may be long. Rows that are read meanwhile are older than
//! what the stream has said of them.

use std::collections::VecDeque;
use std::time::Duration;

use tokio_postgres::Client;

use super::reconcile::Seen;
use super::snapshot;
use super::snapshot::progress::Past;
use crate::error::{Error, Result};

/// So many are kept; those of sessions that wait for a standby are far fewer.
const MOST: usize = 1 << 16;
/// How often, and after what pauses, it is looked whether all of them are visible.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_millis(5);

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

    /// Waits a moment until a snapshot taken now sees all of them, as every later one will. Gives what it has seen;
    /// `None` when that takes longer.
    pub(super) async fn visible(&mut self, client: &Client) -> Result<Option<Seen>> {
        for n in 0..TRIES {
            if n > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let Past { seen, .. } = snapshot::seen(client).await?;
            let seen = seen.as_deref().and_then(Seen::parse);
            let seen = seen.ok_or_else(|| Error::internal("the server's snapshot cannot be read"))?;
            if self.is_in(&seen) {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    /// Whether a snapshot sees all of them. Those that it sees, later ones see too: they are forgotten.
    fn is_in(&mut self, seen: &Seen) -> bool {
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
