//! Which keys an instance of an operator has.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use ahash::RandomState;

use super::buffer::Waiting;

/// An instance's share of its operator's keys: those of one remainder of the hash. The instances have their state
/// tables in common; one that looks through a table leaves out what is not its own.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    place: usize,
    of: usize,
    hasher: RandomState,
    /// Two numbers that all instances see, of the operator's own; `i64::MIN` at first.
    pub seen_by_all: Arc<[AtomicI64; 2]>,
}

impl Share {
    /// All keys.
    pub(crate) fn whole() -> Self {
        Self {
            place: 0,
            of: 1,
            // The same in every run, so that a fault that depends on it can be found again.
            hasher: RandomState::with_seeds(11, 13, 17, 19),
            seen_by_all: Arc::new([const { AtomicI64::new(i64::MIN) }; 2]),
        }
    }

    /// The share of one of so many instances of the same operator.
    #[must_use]
    pub(crate) fn part(&self, place: usize, of: usize) -> Self {
        Self { place, of: of.max(1), ..self.clone() }
    }

    /// How many instances there are.
    pub(crate) fn instances(&self) -> usize {
        self.of
    }

    /// The place of the instance, of so many, that has a key.
    pub(crate) fn place_of(&self, key: &[u8], of: usize) -> usize {
        let instances = u64::try_from(of).unwrap_or(1).max(1);
        usize::try_from(self.hasher.hash_one(key) % instances).unwrap_or(0)
    }

    /// Whether the instance has a key.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        self.of == 1 || self.place_of(key, self.of) == self.place
    }
}

/// Appends the operator's key of an entry of a state table, which it finds in the entry's key or its row.
pub(super) type FindKey = dyn Fn(&[u8], &Waiting, &mut Vec<u8>) + Send;

/// Tells an instance's own entries in a table in which the entries are not ordered by the operator's key.
pub(super) struct Own {
    share: Share,
    find: Box<FindKey>,
    key: Vec<u8>,
}

impl Own {
    pub(super) fn new(share: Share, find: Box<FindKey>) -> Self {
        Self { share, find, key: Vec::new() }
    }

    /// Whether the instance has an entry.
    pub(super) fn has(&mut self, key: &[u8], waiting: &Waiting) -> bool {
        if self.share.instances() == 1 {
            return true;
        }
        self.key.clear();
        (self.find)(key, waiting, &mut self.key);
        self.share.has(&self.key)
    }
}

/// The operator's key stands in the entry's, behind a time.
pub(super) fn behind_time(key: &[u8], _: &Waiting, out: &mut Vec<u8>) {
    out.extend_from_slice(key.get(8..).unwrap_or_default());
}
