use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::savepoint;
use super::*;

fn open(dir: &Path) -> Store {
    Store::open(dir, StoreOptions { cache_bytes: 256, ..StoreOptions::default() }).unwrap()
}

fn entries(table: &mut dyn StateTable, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    table
        .scan(prefix, &mut |k, v| {
            found.push((k.to_vec(), v.to_vec()));
            Ok(true)
        })
        .unwrap();
    found
}

fn head(store: &Store, epoch: u64) -> Head {
    Head { epoch, ..store.head().clone() }
}

#[test]
fn what_is_committed_is_there_after_a_restart_and_the_rest_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut a = store.table("a").unwrap();
    let mut b = store.table("b").unwrap();
    a.put(b"k", b"1");
    b.put(b"k", b"2");
    let mut first = head(&store, 1);
    first.inputs.insert("orders:0".into(), 42);
    store.commit(first.clone(), &[("pg", &[b"rows".to_vec()])]).unwrap();
    a.put(b"k", b"changed");
    a.put(b"x", b"new");
    b.delete(b"k");
    drop((a, b, store));

    let mut store = open(dir.path());
    assert_eq!(store.head(), &first);
    assert_eq!(store.outbox("pg").unwrap(), [b"rows".to_vec()]);
    // Opened in another order: names, not positions, tell tables apart.
    let mut b = store.table("b").unwrap();
    let mut a = store.table("a").unwrap();
    assert_eq!(a.get(b"k").unwrap().as_deref(), Some(&b"1"[..]));
    assert_eq!(a.get(b"x").unwrap(), None);
    assert_eq!(b.get(b"k").unwrap().as_deref(), Some(&b"2"[..]));
}

#[test]
fn a_newer_format_and_a_second_process_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let newer = Head { format: FORMAT + 1, ..Head::default() };
    store.commit(newer, &[]).unwrap();
    assert!(matches!(Store::open(dir.path(), StoreOptions::default()), Err(StateError::Locked { .. })));
    drop(store);
    assert!(matches!(
        Store::open(dir.path(), StoreOptions::default()),
        Err(StateError::Newer { found, known: FORMAT, .. }) if found == FORMAT + 1
    ));
}

#[test]
fn a_savepoint_holds_the_commit_that_was_frozen() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir.path().join("state"));
    let mut table = store.table("a").unwrap();
    table.put(b"k", b"old");
    store.commit(head(&store, 1), &[]).unwrap();
    let frozen = store.freeze();
    table.put(b"k", b"new");
    table.put(b"l", b"new");
    store.commit(head(&store, 2), &[]).unwrap();
    let file = dir.path().join("savepoint");
    savepoint::write(&frozen, "p", "SELECT 1", &file).unwrap();
    let restored = dir.path().join("restored");
    savepoint::restore(&file, &restored, |_| {}).unwrap();
    let mut store = open(&restored);
    let mut table = store.table("a").unwrap();
    assert_eq!(store.head().epoch, 1);
    assert_eq!(table.get(b"k").unwrap().as_deref(), Some(&b"old"[..]));
    assert_eq!(table.get(b"l").unwrap(), None);
}

#[test]
fn an_outbox_has_the_parts_of_the_last_epoch_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let parts = |texts: &[&str]| texts.iter().map(|t| t.as_bytes().to_vec()).collect::<Vec<_>>();
    for (epoch, texts) in [(1, &["a", "b", "c"][..]), (2, &["d"]), (3, &["e", "f"])] {
        store.commit(head(&store, epoch), &[("pg", &parts(texts)), ("pg-2", &parts(&["other"]))]).unwrap();
        drop(store);
        store = open(dir.path());
        assert_eq!(store.outbox("pg").unwrap(), parts(texts));
        assert_eq!(store.outbox("pg-2").unwrap(), parts(&["other"]));
    }
    assert!(store.outbox("none").unwrap().is_empty());
}

/// What is written can be restored, or is not written.
#[test]
fn a_savepoint_refuses_what_it_could_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir.path().join("state"));
    let file = dir.path().join("savepoint");
    store.table("a").unwrap().put(b"k", &vec![1; savepoint::LONGEST]);
    store.commit(head(&store, 1), &[]).unwrap();
    savepoint::write(&store.freeze(), "p", "SELECT 1", &file).unwrap();
    savepoint::restore(&file, &dir.path().join("restored"), |_| {}).unwrap();
    store.table("a").unwrap().put(b"k", &vec![1; savepoint::LONGEST + 1]);
    store.commit(head(&store, 2), &[]).unwrap();
    let before = std::fs::read(&file).unwrap();
    let error = savepoint::write(&store.freeze(), "p", "SELECT 1", &file).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    assert!(std::fs::read(&file).unwrap() == before);
}

#[test]
fn tables_that_nobody_opens_can_be_purged() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    for name in ["a", "b", "c"] {
        let mut table = store.table(name).unwrap();
        (0..10_u8).for_each(|key| table.put(&[key], &[key]));
    }
    store.commit(head(&store, 1), &[]).unwrap();
    drop(store);

    let mut store = open(dir.path());
    let mut b = store.table("b").unwrap();
    assert_eq!(store.purge().unwrap(), 2);
    assert_eq!(store.purge().unwrap(), 0);
    assert_eq!(b.get(&[9]).unwrap().as_deref(), Some(&[9][..]));
    drop((b, store));
    // A table of the same name is a new one.
    let mut store = open(dir.path());
    assert!(store.table("a").unwrap().is_empty().unwrap());
    assert!(!store.table("b").unwrap().is_empty().unwrap());
}

#[test]
fn the_greatest_of_several_values_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let (mut one, mut other) = (store.table("a").unwrap(), store.table("a").unwrap());
    one.put_greater(b"k", &[0, 7]).unwrap();
    other.put_greater(b"k", &[0, 5]).unwrap();
    assert_eq!(one.get(b"k").unwrap().as_deref(), Some(&[0, 7][..]));
    store.commit(head(&store, 1), &[]).unwrap();
    drop((one, other, store));
    // Of what is on disk only, too.
    let mut store = open(dir.path());
    let mut table = store.table("a").unwrap();
    table.put_greater(b"k", &[0, 6]).unwrap();
    assert_eq!(table.get(b"k").unwrap().as_deref(), Some(&[0, 7][..]));
    table.put_greater(b"k", &[1, 0]).unwrap();
    assert_eq!(table.get(b"k").unwrap().as_deref(), Some(&[1, 0][..]));
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Vec<u8>, Vec<u8>),
    Delete(u8, Vec<u8>),
    Commit,
    Reopen,
    /// What is there is compared by key, or by scans as well.
    Look(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let byte = || prop_oneof![6 => 0u8..3, 1 => Just(u8::MAX)];
    let key = || proptest::collection::vec(byte(), 0..4);
    prop_oneof![
        6 => (0u8..2, key(), proptest::collection::vec(any::<u8>(), 0..4)).prop_map(|(t, k, v)| Step::Put(t, k, v)),
        3 => (0u8..2, key()).prop_map(|(t, k)| Step::Delete(t, k)),
        1 => Just(Step::Commit),
        1 => Just(Step::Reopen),
        4 => any::<bool>().prop_map(Step::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Reads see uncommitted writes over committed ones, in both gets and scans, whatever the cache forgot; a
    /// reopen goes back to the last commit.
    #[test]
    fn behaves_as_a_map(steps in proptest::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut tables = [store.table("0").unwrap(), store.table("1").unwrap()];
        let mut model: [BTreeMap<Vec<u8>, Vec<u8>>; 2] = Default::default();
        let mut committed = model.clone();
        for step in steps.into_iter().chain([Step::Look(true)]) {
            let look = if let Step::Look(scan) = step { Some(scan) } else { None };
            match step {
                Step::Put(t, k, v) => {
                    tables[usize::from(t)].put(&k, &v);
                    model[usize::from(t)].insert(k, v);
                }
                Step::Delete(t, k) => {
                    tables[usize::from(t)].delete(&k);
                    model[usize::from(t)].remove(&k);
                }
                Step::Commit => {
                    let next = head(&store, store.head().epoch + 1);
                    store.commit(next, &[]).unwrap();
                    committed = model.clone();
                }
                Step::Reopen => {
                    drop(tables);
                    drop(store);
                    store = open(dir.path());
                    tables = [store.table("0").unwrap(), store.table("1").unwrap()];
                    model = committed.clone();
                }
                Step::Look(_) => {}
            }
            let Some(scan) = look else { continue };
            for (table, model) in tables.iter_mut().zip(&model) {
                for prefix in [&b""[..], &[1], &[2, 0]].iter().filter(|_| scan) {
                    let wanted: Vec<_> = model
                        .iter()
                        .filter(|(k, _)| k.starts_with(prefix))
                        .map(|(k, v)| (k.clone(), v.clone()))
                        .collect();
                    prop_assert_eq!(entries(table.as_mut(), prefix), wanted);
                }
                // Parts of a prefix, from keys that are there or not; also where no greater byte follows it.
                for (prefix, from) in
                    [(&b""[..], &[1][..]), (&[1], &[1, 0, 2]), (&[255], &[255]), (&[255], &[255, 1]), (&[2, 255], &[2, 255])]
                {
                    let wanted: Vec<_> =
                        model.range(from.to_vec()..).map(|(k, _)| k).filter(|k| k.starts_with(prefix)).collect();
                    let mut found = Vec::new();
                    table.scan_part(prefix, from, &mut |key, _| {
                        found.push(key.to_vec());
                        Ok(true)
                    }).unwrap();
                    prop_assert_eq!(found.iter().collect::<Vec<_>>(), wanted);
                }
                for key in [&b""[..], &[0], &[1, 1], &[2, 0, 1]] {
                    prop_assert_eq!(table.get(key).unwrap(), model.get(key).cloned());
                }
            }
        }
    }
}
