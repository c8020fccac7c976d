//! Part files: what can be seen of them, and that an epoch that comes again is written once.

use super::*;
use crate::engine::plan::TableColumn;
use crate::engine::row::{Change, RowKind, Value};
use crate::engine::types::{DataType, Field, TypeKind};

fn sink(directory: &Path, options: &[(&str, &str)]) -> FilesystemSink {
    let path = directory.display().to_string();
    let all = [("connector", "filesystem"), ("path", &path), ("format", "csv")];
    let table = TableRef {
        name: "t".into(),
        options: all.iter().chain(options).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        columns: vec![TableColumn {
            field: Field { name: "id".into(), data_type: DataType::new(TypeKind::Int) },
            metadata: None,
        }],
        primary_key: Vec::new(),
    };
    let context = FormatContext::new(&std::collections::BTreeMap::new()).unwrap();
    FilesystemSink::new(&table, &SinkId { pipeline: "a/b".into(), sink: "t".into() }, &context).unwrap()
}

fn rows(numbers: &[i64]) -> Output {
    let change = |n: &i64| Change { kind: RowKind::Insert, row: vec![Value::Int(*n)].into() };
    Output { changes: numbers.iter().map(change).collect() }
}

/// Files that readers see, with their lines.
fn seen(directory: &Path) -> Vec<(String, String)> {
    let mut found: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
        })
        .filter(|(name, _)| !name.starts_with('.'))
        .map(|(name, text)| (name, text.lines().collect::<Vec<_>>().join(" ")))
        .collect();
    found.sort();
    found
}

fn lines(directory: &Path) -> Vec<String> {
    seen(directory).into_iter().map(|(_, text)| text).collect()
}

const SLOW: &[(&str, &str)] = &[("sink.rolling-policy.rollover-interval", "30 min")];

#[test]
fn a_part_file_grows_unseen_and_holds_each_epoch_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = sink(dir.path(), SLOW);
    first.look(true).unwrap();
    first.write_epoch(1, &rows(&[1, 2])).unwrap();
    first.write_epoch(2, &rows(&[3])).unwrap();
    assert_eq!(seen(dir.path()), []);

    // The process dies in the midst of epoch 3: bytes without the name that counts them.
    drop(first);
    let hidden = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    OpenOptions::new().append(true).open(&hidden).unwrap().write_all(b"4\n5").unwrap();
    let mut second = sink(dir.path(), SLOW);
    second.write_epoch(2, &rows(&[3])).unwrap();
    second.write_epoch(3, &rows(&[4])).unwrap();
    second.roll_now().unwrap();
    assert_eq!(seen(dir.path()), [("part-a%2Fb-t-1-000000000001-000000000003".into(), "1 2 3 4".into())]);

    // Again after the file has ended.
    let mut third = sink(dir.path(), SLOW);
    third.write_epoch(3, &rows(&[4])).unwrap();
    third.write_epoch(4, &rows(&[5])).unwrap();
    third.roll_now().unwrap();
    assert_eq!(lines(dir.path()), ["1 2 3 4", "5"]);
}

#[test]
fn a_state_that_begins_anew_writes_files_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = sink(dir.path(), SLOW);
    old.look(true).unwrap();
    old.write_epoch(1, &rows(&[1])).unwrap();
    drop(old);
    let mut new = sink(dir.path(), SLOW);
    new.look(true).unwrap();
    // What the old one wrote can be seen; the same number is another epoch.
    assert_eq!(lines(dir.path()), ["1"]);
    new.write_epoch(1, &rows(&[7])).unwrap();
    new.roll_now().unwrap();
    assert_eq!(lines(dir.path()), ["1", "7"]);
}

/// The new state's first epoch is in the state, and the process dies before it is in a file.
#[test]
fn a_new_life_is_known_before_its_first_epoch_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = sink(dir.path(), SLOW);
    old.look(true).unwrap();
    old.write_epoch(1, &rows(&[1])).unwrap();
    old.write_epoch(2, &rows(&[2])).unwrap();
    drop(old);
    sink(dir.path(), SLOW).look(true).unwrap();
    let mut recovered = sink(dir.path(), SLOW);
    recovered.write_epoch(1, &rows(&[7])).unwrap();
    recovered.roll_now().unwrap();
    assert_eq!(lines(dir.path()), ["1 2", "7"]);
}

#[test]
fn files_of_a_partitioned_table_lie_in_directories_of_their_values() {
    let dir = tempfile::tempdir().unwrap();
    let new = || {
        let mut sink = sink(dir.path(), SLOW);
        sink.table.options.insert(partitions::OPTION.into(), "id".into());
        sink
    };
    let mut first = new();
    first.look(true).unwrap();
    first.write_epoch(1, &rows(&[1, 2, 1])).unwrap();
    first.write_epoch(2, &rows(&[2])).unwrap();
    drop(first);
    // Epoch 3 is written in one directory when the process dies; epoch 2 comes again.
    let mut half = new();
    half.write_epoch(3, &rows(&[1])).unwrap();
    drop(half);
    let mut second = new();
    second.write_epoch(3, &rows(&[1, 3])).unwrap();
    second.roll_now().unwrap();
    assert_eq!(lines(&dir.path().join("id=1")), ["1 1 1"]);
    assert_eq!(lines(&dir.path().join("id=2")), ["2 2"]);
    assert_eq!(lines(&dir.path().join("id=3")), ["3"]);
}

#[test]
fn files_end_by_size_and_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let small: Vec<_> = SLOW.iter().copied().chain([("sink.rolling-policy.file-size", "4 b")]).collect();
    let mut by_size = sink(dir.path(), &small);
    for n in 1..=4 {
        by_size.write_epoch(n, &rows(&[i64::try_from(n).unwrap()])).unwrap();
    }
    assert_eq!(lines(dir.path()), ["1 2", "3 4"]);

    let dir = tempfile::tempdir().unwrap();
    let mut by_time = sink(dir.path(), &[("sink.rolling-policy.rollover-interval", "20 ms")]);
    by_time.write_epoch(1, &rows(&[1])).unwrap();
    assert!(by_time.due().is_some());
    std::thread::sleep(Duration::from_millis(30));
    by_time.write_epoch(2, &rows(&[2])).unwrap();
    assert!(by_time.due().is_none());
    assert_eq!(lines(dir.path()), ["1 2"]);

    let table = |option: &str, value: &str| {
        let mut table = TableRef {
            name: "t".into(),
            options: Default::default(),
            columns: Vec::new(),
            primary_key: Vec::new(),
        };
        table.options.insert(option.into(), value.into());
        Rolling::new(&table).is_err()
    };
    assert!(table("sink.rolling-policy.file-size", "much"));
    assert!(table("sink.rolling-policy.rollover-interval", "0"));
}
