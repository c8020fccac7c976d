//! A chunk that waits for the stream to pass it, and what the stream takes out of it.

use smallvec::SmallVec;

use super::chunk::Row;
use crate::capture::keys::is_at;
use crate::capture::reconcile::Seen;
use crate::pg::Lsn;
use crate::pg::pgoutput::{Column, Message, OldTuple, Tuple};

/// A chunk that waits.
pub(super) struct Window {
    pub(super) bounds: Bounds,
    pub(super) rows: Vec<Row>,
    /// Where the stream was when they were read.
    pub(super) at: Streamed,
    /// They are of a form that the table has no more.
    pub(super) again: bool,
}

/// Where the stream is.
#[derive(Clone, Copy, Debug)]
pub(in crate::capture) struct Streamed {
    /// `source.sequence[0]`.
    pub(in crate::capture) last_commit: Option<Lsn>,
    /// Transactions so far.
    pub(in crate::capture) transactions: u64,
}

/// What a chunk is held against.
pub(super) enum Bounds {
    /// The stream between two rows of the signal table, and what was not visible when the chunk was read though it
    /// stands before them.
    Rows { id: String, open: bool, seen: Seen },
    /// What the chunk's snapshot has not seen, until the stream is past it.
    Snapshot { seen: Seen, until: Lsn },
}

impl Bounds {
    /// Whether the chunk holds what this transaction of the stream did.
    fn has(&self, xid: Option<u64>) -> bool {
        match self {
            Self::Rows { open: true, .. } => false,
            Self::Rows { seen, .. } | Self::Snapshot { seen, .. } => xid.is_some_and(|xid| seen.has(xid)),
        }
    }
}

impl Window {
    /// What the stream says of a row of the table takes it out; `places` are those of its key.
    pub(super) fn observe(
        &mut self,
        oid: u32,
        places: Option<&[usize]>,
        message: &Message<'_>,
        xid: Option<u64>,
    ) {
        if self.bounds.has(xid) {
            return;
        }
        let mut remove = |tuple: Tuple<'_>| {
            let Some(places) = places else { return };
            let columns: SmallVec<[Column<'_>; 32]> = tuple.iter().collect();
            self.rows.retain(|row| !is_at(&row.identity, places, &columns));
        };
        match message {
            Message::Insert { relation, new } if *relation == oid => remove(*new),
            Message::Update { relation, old, new } if *relation == oid => {
                remove(*new);
                if let Some(old) = old {
                    remove(old.tuple());
                }
            }
            Message::Delete { relation, old: OldTuple::Key(t) | OldTuple::Full(t) } if *relation == oid => {
                remove(*t);
            }
            Message::Truncate { relations, .. } if relations.contains(&oid) => self.rows.clear(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_chunk_did_not_see_counts_before_its_window_opens() {
        let seen = Seen::parse("12:20:12,15").unwrap();
        let bounds = |open| Bounds::Rows { id: "w".to_owned(), open, seen: seen.clone() };
        let has = |open| [11, 12, 14, 25].map(|xid| bounds(open).has(Some(xid)));
        assert_eq!(has(false), [true, false, true, false]);
        assert_eq!(has(true), [false; 4], "whatever stands in the window is newer, or the same");
        assert!(!bounds(false).has(None));
    }
}
