//! The embedded log as its users and its crashes see it.

use std::time::Duration;

use super::*;
use crate::Kind;

fn batch(records: &[(&str, Option<&str>, Option<&str>)]) -> Batch {
    let mut batch = Batch::new();
    for (topic, key, value) in records {
        let topic = batch.topic(topic);
        let mut r = batch.record(topic);
        if let Some(key) = key {
            r.key(|o| o.extend_from_slice(key.as_bytes()));
        }
        if let Some(value) = value {
            r.value(|o| o.extend_from_slice(value.as_bytes()));
        }
        r.finish();
    }
    batch
}

async fn read_all(log: &EmbeddedLog, topic: &str) -> Vec<(i64, Option<String>, Option<String>)> {
    let Some(info) = log.topic(topic).await.unwrap() else { return Vec::new() };
    let mut out = Vec::new();
    for (partition, range) in info.partitions.iter().enumerate() {
        let mut reader = log.reader().await.unwrap();
        reader.assign(TopicPartition::new(topic, partition as i32), range.earliest).await.unwrap();
        let mut next = range.earliest;
        while next < range.end {
            let fetched = reader.poll(64 * 1024, Duration::from_secs(5)).await.unwrap();
            let text = |b: Option<&[u8]>| b.map(|b| String::from_utf8(b.to_vec()).unwrap());
            out.extend(fetched.iter().map(|r| (r.offset, text(r.key), text(r.value))));
            let (_, offset) = fetched.next_offsets().first().expect("records up to the end");
            next = *offset;
        }
    }
    out
}

#[tokio::test]
async fn batches_come_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path()).unwrap();
    let mut writer = log.writer("w").await.unwrap();
    for n in 0..100 {
        let v = format!("value {n}");
        let b = batch(&[("a", Some("k"), Some(&v)), ("b", None, Some(&v)), ("a", Some("dead"), None)]);
        assert!(writer.commit(b).await.unwrap().is_empty());
    }
    let before = (read_all(&log, "a").await, read_all(&log, "b").await);
    assert_eq!((before.0.len(), before.1.len()), (200, 100));
    assert_eq!(before.0[1], (1, Some("dead".into()), None));
    drop((log, writer));
    let log = EmbeddedLog::open(dir.path()).unwrap();
    assert_eq!((read_all(&log, "a").await, read_all(&log, "b").await), before);
    let mut writer = log.writer("w").await.unwrap();
    writer.commit(batch(&[("a", None, Some("more"))])).await.unwrap();
    assert_eq!(read_all(&log, "a").await.last().unwrap(), &(200, None, Some("more".into())));
}

#[tokio::test]
async fn a_second_writer_fences_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path()).unwrap();
    let mut first = log.writer("w").await.unwrap();
    first.commit(batch(&[("t", None, Some("1"))])).await.unwrap();
    let mut second = log.writer("w").await.unwrap();
    let error = first.commit(batch(&[("t", None, Some("2"))])).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    second.commit(batch(&[("t", None, Some("3"))])).await.unwrap();
    let values: Vec<_> = read_all(&log, "t").await.into_iter().map(|r| r.2.unwrap()).collect();
    assert_eq!(values, ["1", "3"]);
}

/// Copies a log's directory as a crash would leave it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_journal_cut_at_any_byte_leaves_whole_commits() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path()).unwrap();
    let mut writer = log.writer("w").await.unwrap();
    writer
        .commit(batch(&[("t", Some("a"), Some("first")), ("offsets", Some("o"), Some("1"))]))
        .await
        .unwrap();
    let journal = std::fs::read_dir(dir.path().join("journal")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::metadata(&journal).unwrap().len();
    writer
        .commit(batch(&[("t", Some("b"), Some("second")), ("offsets", Some("o"), Some("2"))]))
        .await
        .unwrap();
    let full = std::fs::metadata(&journal).unwrap().len();
    let crashed = tempfile::tempdir().unwrap();
    for cut in whole..=full {
        let at = crashed.path().join(cut.to_string());
        copy(dir.path(), &at);
        let file =
            std::fs::File::options().write(true).open(at.join("journal").join(journal.file_name().unwrap()));
        file.unwrap().set_len(cut).unwrap();
        let log = EmbeddedLog::open(&at).unwrap();
        let expected = if cut == full { 2 } else { 1 };
        let (events, offsets) = (read_all(&log, "t").await, read_all(&log, "offsets").await);
        assert_eq!((events.len(), offsets.len()), (expected, expected), "cut at {cut}");
        // It goes on from there.
        let mut writer = log.writer("w").await.unwrap();
        writer.commit(batch(&[("t", None, Some("next"))])).await.unwrap();
        assert_eq!(read_all(&log, "t").await.last().unwrap().0, expected as i64);
        drop((log, writer));
        std::fs::remove_dir_all(&at).unwrap();
    }
}

#[tokio::test]
async fn damage_to_committed_bytes_is_an_error_and_not_a_loss() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path()).unwrap();
    let mut writer = log.writer("w").await.unwrap();
    for _ in 0..3 {
        writer.commit(batch(&[("t", None, Some("a value of some length"))])).await.unwrap();
    }
    let crashed = tempfile::tempdir().unwrap();
    let at = crashed.path().join("x");
    copy(dir.path(), &at);
    let journal = std::fs::read_dir(at.join("journal")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&journal).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&journal, bytes).unwrap();
    let error = EmbeddedLog::open(&at).unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    assert!(error.what().contains("damaged at byte"), "{error}");

    drop((log, writer));
    let file = dir.path().join("topics/t/0/00000000000000000000.log");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let log = EmbeddedLog::open(dir.path()).unwrap();
    let mut reader = log.reader().await.unwrap();
    reader.assign(TopicPartition::new("t", 0), 0).await.unwrap();
    let error = reader.poll(1 << 20, Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
    assert!(error.what().contains("00000000000000000000.log is damaged at byte"), "{error}");
}

#[tokio::test]
async fn compaction_keeps_the_newest_of_each_key() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path()).unwrap();
    log.create_topic(&TopicSpec::new("c").compacted().config("delete.retention.ms", "0")).await.unwrap();
    let mut writer = log.writer("w").await.unwrap();
    for n in 0..500 {
        let (k, v) = (format!("k{}", n % 7), n.to_string());
        writer.commit(batch(&[("c", Some(&k), Some(&v))])).await.unwrap();
    }
    writer.commit(batch(&[("c", Some("k3"), None)])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(5)).await;
    // The active segment is closed by one turn and compacted by a later one, when the committer has closed it.
    for _ in 0..200 {
        log.clean(true).await.unwrap();
        if read_all(&log, "c").await.len() < 10 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let expected: Vec<_> = (493..500)
        .filter(|n| n % 7 != 3)
        .map(|n| (n as i64, Some(format!("k{}", n % 7)), Some(n.to_string())))
        .collect();
    assert_eq!(read_all(&log, "c").await, expected);
    assert_eq!(log.topic("c").await.unwrap().unwrap().partitions[0].end, 501);
    drop((log, writer));
    let log = EmbeddedLog::open(dir.path()).unwrap();
    assert_eq!(read_all(&log, "c").await, expected);
    let files = std::fs::read_dir(dir.path().join("topics/c/0")).unwrap();
    let bytes: u64 = files.map(|f| f.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 2000, "{bytes}");
}

/// Commits wait for checkpoints, so a pass over gigabytes has to let them through.
#[tokio::test]
async fn compaction_lets_others_through_and_ends_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path()).unwrap();
    log.create_topic(&TopicSpec::new("c").compacted()).await.unwrap();
    let mut writer = log.writer("w").await.unwrap();
    for n in 0..50 {
        writer.commit(batch(&[("c", Some("k"), Some(&n.to_string()))])).await.unwrap();
    }
    let topic = log.inner.shared.topic("c").unwrap();
    let partition = &topic.partitions[0];
    let segments = partition.view.read().segments.clone();
    let mut calls = 0;
    let mut between = || {
        calls += 1;
        Ok(())
    };
    super::clean::compact(&topic.config, partition, &segments, 0, &mut between).unwrap();
    assert!(calls >= 2 * 50, "{calls} calls for 50 frames that are read twice");
    let mut after = 3;
    let mut between = || {
        after -= 1;
        if after == 0 { Err(Error::internal("closed")) } else { Ok(()) }
    };
    assert!(super::clean::compact(&topic.config, partition, &segments, 0, &mut between).is_err());
    assert_eq!(after, 0);
}

#[tokio::test]
async fn retention_removes_whole_segments_and_readers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path()).unwrap();
    let spec = TopicSpec::new("r").config("segment.bytes", "65536").config("retention.bytes", "200000");
    log.create_topic(&spec).await.unwrap();
    let mut writer = log.writer("w").await.unwrap();
    // Retention counts bytes as they lie on the disk, so these must not shrink.
    let noise = |seed: u32| -> Vec<String> {
        (0..10u32)
            .map(|n| {
                let digest = |i: u32| {
                    md5::Digest::finalize(<md5::Md5 as md5::Digest>::new_with_prefix(
                        [seed, n, i].map(u32::to_le_bytes).concat(),
                    ))
                };
                let bytes: Vec<u8> = (0..48).flat_map(digest).collect();
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
            })
            .collect()
    };
    let mut slow = log.reader().await.unwrap();
    slow.assign(TopicPartition::new("r", 0), 0).await.unwrap();
    for round in 0..100 {
        let values = noise(round);
        let records: Vec<_> = values.iter().map(|v| ("r", None, Some(v.as_str()))).collect();
        writer.commit(batch(&records)).await.unwrap();
    }
    log.clean(false).await.unwrap();
    let range = log.topic("r").await.unwrap().unwrap().partitions[0];
    assert_eq!(range.end, 1000);
    assert!((700..820).contains(&range.earliest), "{range:?}");
    assert_eq!(read_all(&log, "r").await.first().unwrap().0, range.earliest);
    let error = slow.poll(1000, Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Data);
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path()).unwrap();
    // The lock belongs to the open file, so a second one stands for a second process; only the pid differs.
    std::fs::write(dir.path().join("lock"), "1\n").unwrap();
    let error = DirectoryLock::take(dir.path(), Purpose::Serve).unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    assert!(error.screen().contains("process 1 holds it"), "{}", error.screen());
    drop(log);
    EmbeddedLog::open(dir.path()).unwrap();
}

/// Files on which a disk has no room are imitated by a link to the device that is always full.
#[tokio::test]
async fn a_checkpoint_without_room_is_made_up_for() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path()).unwrap();
    log.create_topic(&TopicSpec::new("t").partitions(1)).await.unwrap();
    let mut writer = log.writer("w").await.unwrap();
    let journals = || super::journal::numbers(&log.inner.shared.journal_dir()).unwrap().len();
    let full = dir.path().join("manifest.new");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let mut most = 0;
    for n in 0..120 {
        if n == 60 {
            std::fs::remove_file(&full).unwrap();
        }
        let mut batch = Batch::new();
        let topic = batch.topic("t");
        let mut record = batch.record(topic);
        let mut bytes = vec![0; 1 << 20];
        rand::fill(&mut bytes[..]);
        record.value(|out| out.extend_from_slice(&bytes));
        record.finish();
        writer.commit(batch).await.unwrap();
        most = most.max(journals());
    }
    assert!(most >= 2, "no checkpoint was due");
    drop(writer);
    drop(log);
    let log = EmbeddedLog::open(dir.path()).unwrap();
    assert_eq!(log.topic("t").await.unwrap().unwrap().partitions[0].end, 120);
    assert_eq!(super::journal::numbers(&log.inner.shared.journal_dir()).unwrap().len(), 1);
}

/// A topic is deleted in steps, and a checkpoint may come between any two: while its files are under another name, it
/// is still among the topics.
#[tokio::test]
async fn a_checkpoint_beside_a_deletion() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(dir.path()).unwrap();
    let mut writer = log.writer("w").await.unwrap();
    writer.commit(batch(&[("gone", None, Some("x")), ("kept", None, Some("y"))])).await.unwrap();
    let shared = &log.inner.shared;
    let topic = shared.topic("gone").unwrap();
    topic.deleted.store(true, std::sync::atomic::Ordering::Release);
    let name = shared.topics_dir().join("gone");
    std::fs::rename(&name, shared.topics_dir().join("~deleted-1")).unwrap();
    super::maintain::sync_segments(shared).unwrap();
    // Where nobody has deleted it, files that are missing are no small matter.
    topic.deleted.store(false, std::sync::atomic::Ordering::Release);
    writer.commit(batch(&[("gone", None, Some("x"))])).await.unwrap();
    super::maintain::sync_segments(shared).unwrap_err();
    // In the end the checkpoints of a log that deletes topics under load are well.
    std::fs::rename(shared.topics_dir().join("~deleted-1"), &name).unwrap();
    log.delete_topic("gone").await.unwrap();
    writer.commit(batch(&[("kept", None, Some("z"))])).await.unwrap();
    drop((log, writer));
    let log = EmbeddedLog::open(dir.path()).unwrap();
    assert!(log.topic("gone").await.unwrap().is_none());
    assert_eq!(read_all(&log, "kept").await.len(), 2);
}
