//! The order in which a `java.util.HashMap` gives its entries, where Flink shows it: MAP_KEYS, UNNEST WITH ORDINALITY.

/// Sorts entries that were put one after the other, with texts as Flink holds them for keys, as the map gives them.
pub fn sort_by_text<T>(entries: &mut [T], key: impl Fn(&T) -> &str) {
    // twice as many buckets whenever three quarters are taken
    let mut buckets: u32 = 16;
    while entries.len() > (buckets as usize) / 4 * 3 {
        buckets = buckets.saturating_mul(2);
    }
    entries.sort_by_cached_key(|entry| {
        let hash = murmur3(key(entry).as_bytes(), 42);
        (hash ^ (hash >> 16)) & (buckets - 1)
    });
}

/// Flink's hash of bytes: Murmur3 of 32 bits, except that each byte behind the last whole word is mixed in alone.
fn murmur3(bytes: &[u8], seed: u32) -> u32 {
    let mix_k = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mix_h = |h: u32, k: u32| (h ^ k).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    let mut words = bytes.chunks_exact(4);
    let mut hash = seed;
    for word in words.by_ref() {
        let word = word.try_into().map_or(0, u32::from_le_bytes);
        hash = mix_h(hash, mix_k(word));
    }
    for byte in words.remainder() {
        // a Java byte has a sign
        hash = mix_h(hash, mix_k(i32::from(byte.cast_signed()).cast_unsigned()));
    }
    hash ^= u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    hash ^= hash >> 16;
    hash = hash.wrapping_mul(0x85eb_ca6b);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_in_the_order_of_the_map() {
        // recorded from Flink 2.3: MAP_KEYS of a MAP<STRING, INT> read from JSON
        let mut keys = vec!["b", "a"];
        sort_by_text(&mut keys, |key| key);
        assert_eq!(keys, ["a", "b"]);
    }
}
