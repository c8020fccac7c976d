//! Which partition a record goes to: as Kafka's Java producer chooses, on both stores.
//!
//! Specified by `org.apache.kafka.clients.producer.internals.BuiltInPartitioner` and
//! `org.apache.kafka.common.utils.Utils.murmur2`.

/// Kafka's murmur2 (seed `0x9747b28c`), as a Java `int`.
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // Java's int arithmetic on the length wraps the same way.
    let length = u32::try_from(data.len() & 0xffff_ffff).unwrap_or(u32::MAX);
    let mut h = SEED ^ length;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut word = [0u8; 4];
        word.copy_from_slice(chunk);
        let mut k = u32::from_le_bytes(word);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^= h >> 15;
    i32::from_ne_bytes(h.to_ne_bytes())
}

/// The partition of a key among `partitions` (at least 1).
pub fn for_key(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// Spreads records without a key: one partition for a batch, the next one for the next batch (the Java
/// producer's sticky partitioning, with our batches).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sticky {
    turn: u32,
}

impl Sticky {
    /// The partition for the present batch.
    pub fn partition(self, partitions: i32) -> i32 {
        let count = u32::try_from(partitions.max(1)).unwrap_or(1);
        i32::try_from(self.turn % count).unwrap_or(0)
    }

    /// A new batch begins.
    pub fn next_batch(&mut self) {
        self.turn = self.turn.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_is_kafkas() {
        // The vectors of Kafka's own UtilsTest.testMurmur2.
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ] {
            assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
        }
        assert_eq!(murmur2(b"abc"), 479_470_107);
    }

    #[test]
    fn sticky_goes_round() {
        let mut sticky = Sticky::default();
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(sticky.partition(3));
            sticky.next_batch();
        }
        assert_eq!(seen, [0, 1, 2, 0]);
        assert_eq!(for_key(b"foobar", 1), 0);
    }
}
