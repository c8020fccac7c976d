//! Which keys a state table cannot have: so that a key that is new costs no search on disk.

use ahash::RandomState;

use crate::state::{StateError, StateTable};

/// Words of 64 bits in a block: a key sets bits in one block only, which is one line of the processor's cache.
const BLOCK: usize = 8;
/// Bits that a key sets.
const BITS: u32 = 6;
/// Bits that the filter has for each key: about one of a hundred keys that are not there seems to be.
const BITS_A_KEY: usize = 10;
/// Entries that are looked at in one step.
const STEP: usize = if cfg!(test) { 3 } else { 256 };

/// What the filter knows.
#[derive(Debug, PartialEq)]
enum Knowledge {
    /// Nothing: it has not begun.
    None,
    /// The keys of the table up to this one, and those that came since it began.
    Upto(Vec<u8>),
    /// All keys.
    All,
    /// More keys have come than it can tell apart.
    Full,
    /// There are too many keys: it has given up.
    Never,
}

/// Appends the operator's key of an entry of the table to a buffer; of entries of other instances it appends none, and
/// gives `false`.
pub(super) type KeyOf<'a> = dyn FnMut(&[u8], &[u8], &mut Vec<u8>) -> Result<bool, StateError> + 'a;

/// A Bloom filter over the keys of a table. After a start it reads them a few at a time, when it is asked.
pub(super) struct KeyFilter {
    words: Vec<u64>,
    /// Bytes that it may take.
    most: usize,
    /// Keys that were noted, and those of them when all were known for the first time.
    keys: usize,
    first_keys: usize,
    knowledge: Knowledge,
    hasher: RandomState,
}

impl KeyFilter {
    /// One that takes no more than so many bytes, and knows nothing.
    pub(super) fn new(most: usize) -> Self {
        Self {
            words: Vec::new(),
            most: most.max(BLOCK * 8),
            keys: 0,
            first_keys: 0,
            knowledge: Knowledge::None,
            hasher: RandomState::default(),
        }
    }

    /// Begins with all keys that there are.
    pub(super) fn begin<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>) {
        self.clear(Knowledge::All);
        keys.for_each(|key| self.insert(key));
        self.first_keys = self.keys;
    }

    /// All keys that it was told of are in the table now. Where it is full of keys that have gone since, it begins
    /// anew.
    pub(super) fn renew(&mut self) {
        if self.knowledge == Knowledge::Full {
            if self.first_keys <= self.capacity() / 2 {
                self.clear(Knowledge::Upto(Vec::new()));
            } else {
                self.knowledge = Knowledge::Never;
                self.words = Vec::new();
            }
        }
    }

    fn capacity(&self) -> usize {
        self.words.len() * 64 / BITS_A_KEY
    }

    fn clear(&mut self, knowledge: Knowledge) {
        self.words.clear();
        self.words.resize(self.most / (BLOCK * 8) * BLOCK, 0);
        (self.keys, self.first_keys) = (0, usize::MAX);
        self.knowledge = knowledge;
    }

    /// The block of a key, and what picks the bits in it.
    fn place(&self, key: &[u8]) -> (usize, u64) {
        let hash = self.hasher.hash_one(key);
        let blocks = self.words.len() / BLOCK;
        let block = (u128::from(hash) * blocks as u128) >> 64;
        (usize::try_from(block).unwrap_or(0) * BLOCK, hash.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn bits(picks: u64) -> impl Iterator<Item = (usize, u64)> {
        (0..BITS).map(move |at| {
            let bit = (picks >> (at * 9)) & 511;
            (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
        })
    }

    /// Notes that the table has a key, or will.
    pub(super) fn insert(&mut self, key: &[u8]) {
        if !matches!(self.knowledge, Knowledge::Upto(_) | Knowledge::All) {
            return;
        }
        if self.keys >= self.capacity() {
            self.knowledge = Knowledge::Full;
            return;
        }
        let (block, picks) = self.place(key);
        let mut new = false;
        for (word, bit) in Self::bits(picks) {
            if let Some(word) = self.words.get_mut(block + word) {
                new |= *word & bit == 0;
                *word |= bit;
            }
        }
        self.keys += usize::from(new);
    }

    /// Whether it does not know all keys yet: a key that has rows in the table may have none where it will read on.
    pub(super) fn is_learning(&self) -> bool {
        matches!(self.knowledge, Knowledge::Upto(_))
    }

    /// Whether the table certainly does not have a key.
    pub(super) fn lacks(&self, key: &[u8]) -> bool {
        if self.knowledge != Knowledge::All {
            return false;
        }
        let (block, picks) = self.place(key);
        Self::bits(picks).any(|(word, bit)| self.words.get(block + word).is_some_and(|word| word & bit == 0))
    }

    /// Reads some more of the table's keys, if it does not know them all.
    pub(super) fn learn(
        &mut self,
        table: &mut dyn StateTable,
        key_of: &mut KeyOf<'_>,
    ) -> Result<(), StateError> {
        if self.knowledge == Knowledge::None {
            self.clear(Knowledge::Upto(Vec::new()));
        }
        let Knowledge::Upto(from) = &self.knowledge else { return Ok(()) };
        let (from, mut key, mut seen, mut next) = (from.clone(), Vec::new(), 0, None);
        let mut last = Vec::new();
        table.scan_from(&from, &mut |found, value| {
            if seen == STEP {
                next = Some(found.to_vec());
                return Ok(false);
            }
            seen += 1;
            key.clear();
            // Entries of one key stand together.
            if key_of(found, value, &mut key)? && key != last {
                self.insert(&key);
                last.clone_from(&key);
            }
            Ok(true)
        })?;
        if matches!(self.knowledge, Knowledge::Upto(_)) {
            self.knowledge = next.map_or(Knowledge::All, Knowledge::Upto);
            if self.knowledge == Knowledge::All {
                self.first_keys = self.keys;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{MemoryState, StateBackend};

    fn key(number: u32) -> [u8; 4] {
        number.to_be_bytes()
    }

    #[test]
    fn no_key_is_missed_and_few_others_are_found() {
        let mut filter = KeyFilter::new(16 << 10);
        let keys: Vec<_> = (0..10_000).map(key).collect();
        filter.begin(keys.iter().map(<[u8; 4]>::as_slice));
        assert!(keys.iter().all(|key| !filter.lacks(key)));
        let found = (10_000..20_000).filter(|&number| !filter.lacks(&key(number))).count();
        assert!(found < 400, "{found} of 10,000 keys that are not there");
    }

    #[test]
    fn it_gives_up_when_there_are_too_many() {
        let mut filter = KeyFilter::new(64);
        filter.begin([].into_iter());
        assert!(filter.lacks(&key(1)));
        (0..60).for_each(|number| filter.insert(&key(number)));
        assert!(!filter.lacks(&key(1_000_000)));
        // All of them have gone.
        filter.renew();
        let mut table = MemoryState::new().table("t").unwrap();
        filter.learn(table.as_mut(), &mut |_, _, _| Ok(true)).unwrap();
        assert!(filter.lacks(&key(1)));
        // They are there still.
        let keys: Vec<_> = (0..60).map(key).collect();
        filter.begin(keys.iter().map(<[u8; 4]>::as_slice));
        filter.renew();
        filter.learn(table.as_mut(), &mut |_, _, _| Ok(true)).unwrap();
        assert!(!filter.lacks(&key(1_000_000)));
    }

    #[test]
    fn after_a_start_it_reads_the_keys_bit_by_bit() {
        let mut table = MemoryState::new().table("t").unwrap();
        (0..10).for_each(|number| table.put(&[key(number).as_slice(), b"row"].concat(), &[]));
        let mut filter = KeyFilter::new(1 << 10);
        let mut key_of = |found: &[u8], _: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(&found[..4]);
            Ok(true)
        };
        for _ in 0..3 {
            filter.learn(table.as_mut(), &mut key_of).unwrap();
            assert!(!filter.lacks(&key(1_000_000)), "it does not know all keys yet");
        }
        filter.insert(&key(77));
        filter.learn(table.as_mut(), &mut key_of).unwrap();
        assert!((0..10).chain([77]).all(|number| !filter.lacks(&key(number))));
        assert!((100..200).any(|number| filter.lacks(&key(number))));
    }
}
