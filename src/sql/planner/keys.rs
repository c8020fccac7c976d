//! Unique keys, and Flink's upsert keys: unique keys that survive the distribution of rows.

/// A set of columns.
pub type Key = Vec<usize>;

/// How many keys of a relation are remembered.
const LIMIT: usize = 6;

/// Adds a key, sorted, if it says something new.
pub fn add(keys: &mut Vec<Key>, mut key: Key) {
    key.sort_unstable();
    key.dedup();
    if keys.len() < LIMIT && !keys.contains(&key) {
        keys.push(key);
    }
}

/// Keys whose columns all survive a projection; `map` gives the new places of a column.
pub fn project(keys: &[Key], map: &dyn Fn(usize) -> Option<usize>) -> Vec<Key> {
    let mut out = Vec::new();
    for key in keys {
        if let Some(moved) = key.iter().map(|c| map(*c)).collect::<Option<Key>>() {
            add(&mut out, moved);
        }
    }
    out
}

/// Whether one of the keys lies within these columns.
pub fn within(keys: &[Key], columns: &[usize]) -> bool {
    keys.iter().any(|key| key.iter().all(|c| columns.contains(c)))
}

/// Keys that hold all of these columns: what is left of upsert keys when rows are distributed by the columns.
pub fn distributed(keys: &[Key], by: &[usize]) -> Vec<Key> {
    keys.iter().filter(|key| by.iter().all(|c| key.contains(c))).cloned().collect()
}

/// Keys of a join: those of one side where the other side has at most one partner, and all pairs.
pub fn join(
    left: &[Key],
    right: &[Key],
    left_on: &[usize],
    right_on: &[usize],
    (pads_left, pads_right): (bool, bool),
    width: usize,
    uniqueness: (&[Key], &[Key]),
) -> Vec<Key> {
    let mut out = Vec::new();
    let shifted: Vec<Key> = right.iter().map(|key| key.iter().map(|c| c + width).collect()).collect();
    if within(uniqueness.1, right_on) && !pads_left {
        left.iter().for_each(|key| add(&mut out, key.clone()));
    }
    if within(uniqueness.0, left_on) && !pads_right {
        shifted.iter().for_each(|key| add(&mut out, key.clone()));
    }
    for l in left {
        for r in &shifted {
            add(&mut out, l.iter().chain(r).copied().collect());
        }
    }
    out
}

/// The key that state is kept by: one within these columns, else the shortest.
pub fn best(keys: &[Key], preferred: &[usize]) -> Option<Key> {
    keys.iter()
        .filter(|key| key.iter().all(|c| preferred.contains(c)))
        .min_by_key(|key| key.len())
        .or_else(|| keys.iter().min_by_key(|key| key.len()))
        .cloned()
}

/// The key by which a join tells the rows of one join key apart: one within the join key, else one that new rows keep
/// when their old ones are not told, else any.
pub fn of_rows(unique: &[Key], upsert: &[Key], on: &[usize]) -> Option<Key> {
    if within(unique, on) {
        return best(unique, on);
    }
    best(&distributed(upsert, on), on).or_else(|| best(unique, on))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_join_key_are_told_apart_by_what_updates_keep() {
        let (code, whole) = (vec![3], vec![0, 1]);
        assert_eq!(of_rows(&[code.clone(), whole.clone()], std::slice::from_ref(&whole), &[0]), Some(whole));
        assert_eq!(of_rows(std::slice::from_ref(&code), &[], &[0]), Some(code.clone()));
        assert_eq!(of_rows(std::slice::from_ref(&code), &[], &[0, 3]), Some(code));
        assert_eq!(of_rows(&[], &[], &[0]), None);
    }

    #[test]
    fn a_foreign_key_join_loses_the_upsert_key_but_not_the_unique_one() {
        // orders(id, cust) join customers(id) on cust = id
        let (orders, customers) = (vec![vec![0]], vec![vec![0]]);
        let unique = join(&orders, &customers, &[1], &[0], (false, false), 2, (&orders, &customers));
        assert!(unique.contains(&vec![0]));
        let upsert = distributed(&orders, &[1]);
        let upsert = join(&upsert, &customers, &[1], &[0], (false, false), 2, (&orders, &customers));
        assert!(upsert.is_empty());
    }
}
