//! Keys that are compared often.

/// Bytes at the start of a key that are compared as numbers.
const HEAD: usize = 23;

/// A key in a sorted map: ordered as its bytes are, but compared without looking elsewhere in memory if it is short.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OrderedKey {
    /// The first bytes, then how many they are: of two keys that differ by zeros at the end the shorter is less.
    head: [u64; 3],
    /// All others.
    rest: Box<[u8]>,
}

impl OrderedKey {
    /// Of bytes.
    pub(super) fn new(key: &[u8]) -> Self {
        let (start, rest) = key.split_at_checked(HEAD).unwrap_or((key, &[]));
        let mut head = [0; HEAD + 1];
        head.iter_mut().zip(start).for_each(|(to, from)| *to = *from);
        // One more where others follow.
        head[HEAD] = u8::try_from(start.len()).unwrap_or(u8::MAX) + u8::from(!rest.is_empty());
        let (words, _) = head.as_chunks::<8>();
        let word = |at: usize| words.get(at).map_or(0, |word| u64::from_be_bytes(*word));
        Self { head: [word(0), word(1), word(2)], rest: rest.into() }
    }

    /// Number of bytes.
    pub(super) fn len(&self) -> usize {
        usize::from(self.head[2].to_be_bytes()[7]).min(HEAD) + self.rest.len()
    }

    /// Appends the bytes.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let start = out.len();
        self.head.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
        out.truncate(start + self.len().min(HEAD));
        out.extend_from_slice(&self.rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_are_ordered_as_their_bytes(
            left in proptest::collection::vec(0_u8..2, 0..26),
            right in proptest::collection::vec(0_u8..2, 0..26),
            same in 0_usize..26,
        ) {
            // Long common starts are rare by chance.
            let mut right = right;
            right.iter_mut().zip(&left).take(same).for_each(|(to, from)| *to = *from);
            let (a, b) = (OrderedKey::new(&left), OrderedKey::new(&right));
            prop_assert_eq!(a.cmp(&b), left.cmp(&right));
            let mut back = vec![7];
            a.put(&mut back);
            prop_assert_eq!(&back[1..], left.as_slice());
            prop_assert_eq!(a.len(), left.len());
        }
    }
}
