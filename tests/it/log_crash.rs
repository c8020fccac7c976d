//! The embedded log under SIGKILL: whatever a commit confirmed is there, and nothing of what it did not is half there.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use millstream::log::embedded::EmbeddedLog;
use millstream::log::{Batch, Log, Position, TopicPartition, TopicSpec};

const CHILD: &str = "MILLSTREAM_TEST_LOG_CHILD";

fn spec() -> TopicSpec {
    // Small segments, so that kills fall into rolls, checkpoints and compactions too.
    TopicSpec::new("").partitions(3).config("segment.bytes", "200000")
}

/// Not a test of its own: the process that is killed. Writes numbered batches over three partitions with an offset
/// record each, and prints a number when its commit is confirmed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the killed process of the test below"]
async fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let log = EmbeddedLog::open(dir).unwrap();
    let next = committed(&log).await.map_or(0, |n| n + 1);
    let mut writer = log.writer("w").await.unwrap();
    writer.topic_defaults(spec().into());
    let mut batch = Batch::new();
    let cleaner = log.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(7)).await;
            cleaner.clean(true).await.unwrap();
        }
    });
    for n in next.. {
        let (events, offsets) = (batch.topic("events"), batch.topic("offsets"));
        for i in 0..n % 40 {
            let mut r = batch.record(events);
            r.key(|o| o.extend_from_slice(&i.to_be_bytes()));
            r.value(|o| {
                o.extend_from_slice(
                    format!("{n}:{i}:{}", "x".repeat(usize::try_from(n % 700).unwrap())).as_bytes(),
                )
            });
            r.finish();
        }
        let mut r = batch.record(offsets);
        r.key(|o| o.extend_from_slice(b"offset"));
        r.partition(0);
        r.value(|o| o.extend_from_slice(&n.to_be_bytes()));
        r.finish();
        batch = writer.commit(batch).await.unwrap();
        println!("committed {n}");
    }
}

/// The number in the newest offset record.
async fn committed(log: &EmbeddedLog) -> Option<u64> {
    let at = TopicPartition::new("offsets", 0);
    log.topic("offsets").await.unwrap()?;
    let end = log.resolve(&at, Position::Latest).await.unwrap();
    let mut reader = log.reader().await.unwrap();
    reader.assign(at, log.topic("offsets").await.unwrap()?.partitions[0].earliest).await.unwrap();
    let (mut next, mut newest) = (0, None);
    while next < end {
        let fetched = reader.poll(1 << 20, Duration::from_secs(5)).await.unwrap();
        newest = fetched
            .iter()
            .last()
            .map(|r| u64::from_be_bytes(r.value.unwrap().try_into().unwrap()))
            .or(newest);
        next = fetched.next_offsets().last().unwrap().1;
    }
    newest
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_time_it_holds_exactly_the_committed_batches() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = EmbeddedLog::open(dir.path()).unwrap();
        log.create_topic(&TopicSpec::new("offsets").compacted().config("segment.bytes", "65536"))
            .await
            .unwrap();
    }
    let mut confirmed = None;
    for round in 0..8u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "log_crash::child", "--ignored", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let lines = std::thread::spawn(move || {
            let numbers = out.lines().map_while(Result::ok);
            // The harness prints "test … " before the first line.
            numbers.filter_map(|l| l.rsplit_once("committed ")?.1.parse::<u64>().ok()).last()
        });
        tokio::time::sleep(Duration::from_millis(400 + round * 137)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        confirmed = lines.join().unwrap().or(confirmed);

        let log = EmbeddedLog::open(dir.path()).unwrap();
        let last = committed(&log).await;
        assert!(last >= confirmed, "round {round}: {last:?} after {confirmed:?} was confirmed");
        let Some(last) = last else { continue };
        let mut seen = std::collections::BTreeSet::new();
        let info = log.topic("events").await.unwrap().unwrap();
        for (partition, range) in info.partitions.iter().enumerate() {
            let mut reader = log.reader().await.unwrap();
            let at = TopicPartition::new("events", i32::try_from(partition).unwrap());
            reader.assign(at, range.earliest).await.unwrap();
            let mut next = range.earliest;
            while next < range.end {
                let fetched = reader.poll(1 << 20, Duration::from_secs(5)).await.unwrap();
                for r in fetched.iter() {
                    let text = std::str::from_utf8(r.value.unwrap()).unwrap();
                    let mut parts = text.split(':');
                    let n: u64 = parts.next().unwrap().parse().unwrap();
                    let i: u64 = parts.next().unwrap().parse().unwrap();
                    assert_eq!(parts.next().unwrap().len() as u64, n % 700);
                    assert!(seen.insert((n, i)), "round {round}: {n}:{i} twice");
                }
                next = fetched.next_offsets().last().unwrap().1;
            }
        }
        let expected = (0..=last).flat_map(|n| (0..n % 40).map(move |i| (n, i)));
        assert!(
            seen.iter().copied().eq(expected),
            "round {round}: {} records up to batch {last}",
            seen.len()
        );
    }
    assert!(confirmed > Some(100), "{confirmed:?}");
}
