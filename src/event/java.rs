//! What of Java's class library shows in Debezium's events.

/// `String.hashCode()`.
pub(super) fn string_hash(text: &str) -> u32 {
    text.encode_utf16().fold(0u32, |h, unit| h.wrapping_mul(31).wrapping_add(u32::from(unit)))
}

/// Brings entries into the order in which a `java.util.HashMap<String, …>` made by putting them one after the other
/// gives them out: by bucket of its table, within a bucket as they came.
pub(super) fn hash_map_order<T>(entries: &mut [T], key: impl Fn(&T) -> &str) {
    let mut table = 16usize;
    while entries.len() > table / 4 * 3 {
        table *= 2;
    }
    let mask = u32::try_from(table - 1).unwrap_or(u32::MAX);
    entries.sort_by_key(|entry| {
        let hash = string_hash(key(entry));
        (hash ^ (hash >> 16)) & mask
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_hash_map() {
        // as Debezium 3.6.3 writes this hstore
        let mut keys = ["e", "n", "q", "k k"];
        hash_map_order(&mut keys, |k| k);
        assert_eq!(keys, ["q", "e", "k k", "n"]);
        assert_eq!(string_hash("hello"), 99_162_322);
    }
}
