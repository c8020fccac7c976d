//! A small random number generator whose numbers never change with a library's version.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound` (0 where the bound is 0).
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        // The upper half times the bound, shifted down, is below the bound.
        let upper = self.next() >> 32;
        u32::try_from((upper * u64::from(bound)) >> 32).unwrap_or(0)
    }

    /// A number in `low..=high`.
    pub(super) fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// An index of a slice of this length (0 where it is empty).
    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(u32::try_from(len).unwrap_or(u32::MAX))).unwrap_or(0)
    }

    /// One of these; the default where there are none.
    pub(super) fn pick<T: Clone + Default>(&mut self, choices: &[T]) -> T {
        let at = self.index(choices.len());
        choices.get(at).cloned().unwrap_or_default()
    }
}
