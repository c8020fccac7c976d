//! The order in which Java's hash tables give their keys.

/// Place of a string in a table of so many buckets, a power of two.
pub fn bucket(key: &str, buckets: usize) -> usize {
    let hash = key.encode_utf16().fold(0u32, |h, c| h.wrapping_mul(31).wrapping_add(u32::from(c)));
    usize::try_from(hash ^ (hash >> 16)).unwrap_or(0) & buckets.saturating_sub(1)
}

/// The keys of a `HashMap` that was copied from another, as Kafka Connect copies what it holds: the copy is as small as
/// it can be. Keys that share a bucket come as the first map gave them.
pub fn copied<T: AsRef<str>>(keys: &mut [T]) {
    let mut first = 16;
    while keys.len() * 4 > first * 3 {
        first *= 2;
    }
    keys.sort_by_key(|key| bucket(key.as_ref(), first));
    let copy = (keys.len() * 4 / 3 + 1).next_power_of_two();
    keys.sort_by_key(|key| bucket(key.as_ref(), copy));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_javas_order() {
        // Recorded of Kafka Connect.
        let mut names = ["100%", "back\\slash", "ctl", "sl/ash", ".", ".."];
        copied(&mut names);
        assert_eq!(names, ["..", "100%", "sl/ash", "back\\slash", "ctl", "."]);
    }
}
