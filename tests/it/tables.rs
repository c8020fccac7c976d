//! Tables on topics, on the embedded log and on a real Kafka: where scans begin and end, what metadata columns say,
//! which partitions are written, topics that appear, partitions that fall silent, records that cannot be read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millstream::log::{Batch, OpenOptions, TopicSpec, open};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use crate::support::kafka::broker;
use crate::support::place::Place;

/// A test on both logs; topics have names of their own.
fn both(test: impl Fn(&Place, &str)) {
    test(&Place::new(), "here");
    if let Some(url) = broker() {
        test(&Place::on_kafka(url), &format!("t{}", uuid::Uuid::new_v4().simple()));
    }
}

#[derive(Clone, Copy, Default)]
pub struct Sent<'a> {
    pub partition: i32,
    pub timestamp: i64,
    pub key: Option<&'a str>,
    pub value: &'a str,
    pub header: Option<(&'a str, &'a str)>,
}

/// Makes a topic and sends records to it, while no process of the place runs.
pub fn send(place: &Place, topic: &str, partitions: i32, records: &[Sent<'_>]) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let log = open(&place.url(), &OpenOptions::default()).await.unwrap();
        log.create_topic(&TopicSpec::new(topic).partitions(partitions)).await.unwrap();
        let mut writer = log.writer(&format!("test-{topic}")).await.unwrap();
        // One transaction: on Kafka its mark takes an offset and has the time of now.
        let mut batch = Batch::new();
        let id = batch.topic(topic);
        for sent in records {
            let mut record = batch.record(id);
            record.partition(sent.partition).timestamp(sent.timestamp);
            if let Some(key) = sent.key {
                record.key(|out| out.extend_from_slice(key.as_bytes()));
            }
            record.value(|out| out.extend_from_slice(sent.value.as_bytes()));
            if let Some((name, value)) = sent.header {
                record.header(name.as_bytes(), Some(value.as_bytes()));
            }
            record.finish();
        }
        if !records.is_empty() {
            writer.commit(batch).await.unwrap();
        }
        // On Kafka a commit shows a moment later.
        let read = async || {
            let info = log.topic(topic).await.unwrap().unwrap();
            info.partitions.iter().map(|range| range.end - range.earliest).sum::<i64>()
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while usize::try_from(read().await).unwrap() < records.len() {
            assert!(Instant::now() < deadline, "the records of {topic} do not show");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
}

pub fn with(topic: &str, options: &str) -> String {
    format!("WITH ('connector'='kafka', 'properties.bootstrap.servers'='k:1', 'topic'='{topic}'{options})")
}

/// Lines of a script's print sinks, sorted.
fn printed(place: &Place, sql: &str) -> Vec<String> {
    let text = place.ok(&["sql", "-e", sql, "--until-idle", "300ms"]);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// The records of a topic, once there are so many: on Kafka a transaction shows a moment after its commit.
fn records(place: &Place, topic: &str, count: usize) -> Vec<Value> {
    until(&format!("topic {topic} does not come to {count} records"), || {
        records_if(place, topic).filter(|found| found.len() >= count)
    })
}

/// Records of a topic that may not be there yet.
fn records_if(place: &Place, topic: &str) -> Option<Vec<Value>> {
    let output = place.output(&["topics", "read", topic, "--jsonl"]);
    let text = String::from_utf8(output.stdout).unwrap();
    output.status.success().then(|| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

/// Waits for something that a running process brings about.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn scans_begin_and_end_where_they_are_told() {
    both(|place, prefix| {
        let topic = format!("{prefix}-scan");
        let values: Vec<String> = (0..10).map(|id| format!("{{\"id\":{id}}}")).collect();
        // Even ids in partition 0, odd ones in 1; a second apart.
        let sent: Vec<Sent<'_>> = (0..10)
            .map(|id: i32| Sent {
                partition: id % 2,
                timestamp: 1_700_000_000_000 + i64::from(id) * 1000,
                value: &values[usize::try_from(id).unwrap()],
                ..Sent::default()
            })
            .collect();
        send(place, &topic, 2, &sent);
        let read = |options: &str| {
            let table = with(&topic, &format!(", 'format'='json', {options}"));
            let mut ids: Vec<i32> =
                printed(place, &format!("CREATE TABLE o (id INT) {table}; SELECT id FROM o;"))
                    .iter()
                    .map(|l| l.trim_start_matches("+I[").trim_end_matches(']').parse().unwrap())
                    .collect();
            ids.sort_unstable();
            ids
        };
        let all: Vec<i32> = (0..10).collect();
        assert_eq!(read("'scan.startup.mode'='earliest-offset'"), all);
        assert_eq!(read("'scan.startup.mode'='earliest-offset', 'scan.bounded.mode'='latest-offset'"), all);
        assert_eq!(read("'scan.startup.mode'='latest-offset'"), [0; 0]);
        assert_eq!(
            read("'scan.startup.mode'='timestamp', 'scan.startup.timestamp-millis'='1700000006000'"),
            [6, 7, 8, 9]
        );
        let ends = "'scan.bounded.mode'='timestamp', 'scan.bounded.timestamp-millis'='1700000003000'";
        assert_eq!(read(&format!("'scan.startup.mode'='earliest-offset', {ends}")), [0, 1, 2]);
        let offsets = |a: i32, b: i32| format!("partition:0,offset:{a};partition:1,offset:{b}");
        assert_eq!(
            read(&format!(
                "'scan.startup.mode'='specific-offsets', 'scan.startup.specific-offsets'='{}', \
                 'scan.bounded.mode'='specific-offsets', 'scan.bounded.specific-offsets'='{}'",
                offsets(2, 3),
                offsets(4, 5)
            )),
            [4, 6, 7, 9]
        );
        // A group without offsets: as the consumer's option says.
        let group = format!("'properties.group.id'='{prefix}-group', 'scan.startup.mode'='group-offsets'");
        assert_eq!(read(&format!("{group}, 'properties.auto.offset.reset'='earliest'")), all);
        assert_eq!(read(&format!("{group}, 'properties.auto.offset.reset'='latest'")), [0; 0]);
        if place.is_kafka() {
            // Another program has committed some.
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", place.url().trim_start_matches("kafka://"))
                .set("group.id", format!("{prefix}-group"))
                .create()
                .unwrap();
            let mut offsets = TopicPartitionList::new();
            for (partition, offset) in [(0, 3), (1, 4)] {
                offsets.add_partition_offset(&topic, partition, Offset::Offset(offset)).unwrap();
            }
            consumer.commit(&offsets, CommitMode::Sync).unwrap();
            assert_eq!(read(&group), [6, 8, 9]);
            let group_end = format!("{group}, 'scan.bounded.mode'='group-offsets'");
            let from_start = group_end
                .replace("'scan.startup.mode'='group-offsets'", "'scan.startup.mode'='earliest-offset'");
            assert_eq!(read(&from_start), [0, 1, 2, 3, 4, 5, 7]);
        }
    });
}

#[test]
fn metadata_is_read_and_written() {
    both(|place, prefix| {
        let (source, copy) = (format!("{prefix}-meta"), format!("{prefix}-copy"));
        let sent = [
            Sent {
                partition: 1,
                timestamp: 1_700_000_000_000,
                key: Some("{\"k\":\"x\"}"),
                value: "{\"v\":1}",
                header: Some(("h", "one")),
            },
            Sent {
                partition: 0,
                timestamp: 1_700_000_001_500,
                key: Some("{\"k\":null}"),
                value: "{\"v\":2}",
                header: None,
            },
            // Flink's format gives no row for a key that is not there, and so the record none.
            Sent { partition: 0, timestamp: 1_700_000_001_600, key: None, value: "{\"v\":3}", header: None },
        ];
        send(place, &source, 2, &sent);
        let formats = ", 'scan.startup.mode'='earliest-offset', 'key.format'='json', 'key.fields'='k_k', \
             'key.fields-prefix'='k_', 'value.format'='json', 'value.fields-include'='EXCEPT_KEY'";
        let columns = "k_k STRING, v INT, h MAP<STRING, BYTES> METADATA FROM 'headers', \
             ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', p INT METADATA FROM 'partition' VIRTUAL, \
             o BIGINT METADATA FROM 'offset' VIRTUAL, tt STRING METADATA FROM 'timestamp-type' VIRTUAL, \
             tn STRING METADATA FROM 'topic' VIRTUAL";
        let tables = format!(
            "CREATE TABLE s ({columns}) {}; CREATE TABLE c ({columns}) {};",
            with(&source, formats),
            with(&copy, formats)
        );
        let seen = "SELECT k_k, v, CAST(h['h'] AS STRING), ts, p, o, tt, tn FROM";
        let wanted = |topic: &str, partitions: [i32; 2], offsets: [i64; 2]| {
            vec![
                format!(
                    "+I[null, 2, null, 2023-11-14T22:13:21.500Z, {}, {}, CreateTime, {topic}]",
                    partitions[1], offsets[1]
                ),
                format!(
                    "+I[x, 1, one, 2023-11-14T22:13:20Z, {}, {}, CreateTime, {topic}]",
                    partitions[0], offsets[0]
                ),
            ]
        };
        assert_eq!(printed(place, &format!("{tables} {seen} s;")), wanted(&source, [1, 0], [0, 0]));
        printed(place, &format!("{tables} INSERT INTO c SELECT k_k, v, h, ts FROM s;"));
        assert_eq!(records(place, &copy, 2).len(), 2);
        let read = printed(place, &format!("{tables} SELECT k_k, v, CAST(h['h'] AS STRING), ts FROM c;"));
        assert_eq!(
            read,
            ["+I[null, 2, null, 2023-11-14T22:13:21.500Z]", "+I[x, 1, one, 2023-11-14T22:13:20Z]"]
        );
    });
}

#[test]
fn sinks_choose_partitions() {
    both(|place, prefix| {
        let written = |name: &str, options: &str| {
            let topic = format!("{prefix}-{name}");
            send(place, &topic, 3, &[]);
            let rows = (0..9).map(|n| format!("({n})")).collect::<Vec<_>>().join(", ");
            let table = with(&topic, &format!(", 'format'='json'{options}"));
            printed(place, &format!("CREATE TABLE t (id INT) {table}; INSERT INTO t VALUES {rows};"));
            let mut count = BTreeMap::new();
            for record in records(place, &topic, 9) {
                *count.entry(record["partition"].as_i64().unwrap()).or_insert(0) += 1;
            }
            count
        };
        assert_eq!(written("fixed", ", 'sink.partitioner'='fixed', 'sink.parallelism'='1'"), [(0, 9)].into());
        assert_eq!(
            written("turns", ", 'sink.partitioner'='round-robin', 'sink.delivery-guarantee'='none'"),
            [(0, 3), (1, 3), (2, 3)].into()
        );
        let once = ", 'sink.delivery-guarantee'='exactly-once', 'sink.transactional-id-prefix'='mine'";
        assert_eq!(written("default", once).values().sum::<i32>(), 9);
        // Equal keys lie in one partition, that of Kafka's own clients.
        let topic = format!("{prefix}-keyed");
        send(place, &topic, 3, &[]);
        let table = with(&topic, ", 'key.format'='raw', 'key.fields'='k', 'value.format'='json'");
        let rows = "('a', 1), ('b', 2), ('c', 3), ('a', 4), ('b', 5), ('c', 6)";
        printed(place, &format!("CREATE TABLE t (k STRING, v INT) {table}; INSERT INTO t VALUES {rows};"));
        let mut partitions: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for record in records(place, &topic, 6) {
            partitions
                .entry(record["key"].to_string())
                .or_default()
                .push(record["partition"].as_i64().unwrap());
        }
        for key in ["a", "b", "c"] {
            let found = partitions.iter().find(|(k, _)| k.contains(key)).map(|(_, p)| p.clone());
            let of_key = i64::from(millstream::log::partition::for_key(key.as_bytes(), 3));
            assert_eq!(found, Some(vec![of_key; 2]), "{key}");
        }
    });
}

#[test]
fn topics_that_appear_are_read_from_their_start() {
    let (place, prefix) = (&Place::new(), "here");
    send(place, &format!("{prefix}.one.x"), 1, &[Sent { value: "{\"id\":1}", ..Sent::default() }]);
    send(place, &format!("{prefix}.other"), 1, &[Sent { value: "{\"id\":9}", ..Sent::default() }]);
    let source = format!(
        "WITH ('connector'='kafka', 'properties.bootstrap.servers'='k:1', 'topic-pattern'='{}\\.(one|two)\\..*', \
             'format'='json', 'scan.startup.mode'='latest-offset', 'scan.topic-partition-discovery.interval'='100 ms')",
        prefix
    );
    let sink = with(&format!("{prefix}.all"), ", 'format'='json'");
    let writer = with(&format!("{prefix}.two.y"), ", 'format'='json'");
    // The new topic is written by the same process: the embedded log has one owner.
    let script = format!(
        "CREATE TABLE s (id INT) {source}; CREATE TABLE d (id INT) {sink}; CREATE TABLE w (id INT) {writer}; \
             CREATE TABLE g (id INT) WITH ('connector'='datagen', 'rows-per-second'='2', 'fields.id.kind'='sequence', \
             'fields.id.start'='100', 'fields.id.end'='103'); \
             EXECUTE STATEMENT SET BEGIN INSERT INTO d SELECT id FROM s; INSERT INTO w SELECT id FROM g; END;"
    );
    let file = place.file("pattern.sql", &script);
    let running = place.spawn(&["sql", "-f", file.to_str().unwrap()]);
    let ids = until("the new topic is not read", || {
        let found: Vec<i64> = records_if(place, &format!("{prefix}.all"))?
            .iter()
            .map(|r| match &r["value"] {
                Value::String(text) => serde_json::from_str::<Value>(text).unwrap()["id"].as_i64().unwrap(),
                value => value["id"].as_i64().unwrap(),
            })
            .collect();
        (found.len() >= 4).then_some(found)
    });
    // Not what was there before in topic one (latest-offset), all of what came in topic two.
    assert_eq!(ids, [100, 101, 102, 103]);
    place.ok(&["pipelines", "stop", "pattern"]);
    assert!(running.ended());
}

#[test]
fn a_silent_partition_holds_time_back_until_it_is_idle() {
    both(|place, prefix| {
        let topic = format!("{prefix}-idle");
        let sent: Vec<String> =
            (0..5).map(|n| format!("{{\"id\":{n},\"ts\":\"2024-01-01 00:00:{:02}\"}}", n * 10)).collect();
        let sent: Vec<Sent<'_>> = sent.iter().map(|value| Sent { value, ..Sent::default() }).collect();
        // All in partition 0 of two.
        send(place, &topic, 2, &sent);
        let sql = |set: &str, option: &str| {
            let table =
                with(&topic, &format!(", 'format'='json', 'scan.startup.mode'='earliest-offset'{option}"));
            format!(
                "{set} CREATE TABLE t (id INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) {table}; \
                 SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
                 GROUP BY window_start, window_end;"
            )
        };
        let count = |set: &str, option: &str| {
            place.ok(&["sql", "-e", &sql(set, option), "--until-idle", "1500ms"]).lines().count()
        };
        // Runs until so many windows are out.
        let comes_to = |windows: usize, set: &str, option: &str| {
            let _running = place.spawn(&["sql", "-e", &sql(set, option)]);
            let printed = || std::fs::read_to_string(place.dir.path().join("out.txt")).unwrap();
            until(&format!("{windows} windows are not printed"), || {
                (printed().lines().filter(|line| line.starts_with("+I[")).count() == windows).then_some(())
            });
        };
        assert_eq!(count("", ""), 0, "partition 1 may still give earlier rows");
        // The last row's window is not over.
        comes_to(4, "", ", 'scan.watermark.idle-timeout'='200 ms'");
        comes_to(4, "SET 'table.exec.source.idle-timeout' = '200 ms';", "");
        assert_eq!(
            count(
                "SET 'table.exec.source.idle-timeout' = '200 ms';",
                ", 'scan.watermark.idle-timeout'='0 ms'"
            ),
            0
        );
        // A scan that ends lets everything out.
        assert_eq!(count("", ", 'scan.bounded.mode'='latest-offset'"), 5);
    });
}

#[test]
fn what_cannot_be_read_is_named_or_kept_aside() {
    both(|place, prefix| {
        let topic = format!("{prefix}-bad");
        let sent = ["{\"id\":1}", "{broken", "{\"id\":2}"].map(|value| Sent {
            partition: 1,
            value,
            ..Sent::default()
        });
        send(place, &topic, 2, &sent);
        let scan =
            ", 'format'='json', 'scan.startup.mode'='earliest-offset', 'scan.bounded.mode'='latest-offset'";
        let sql = |options: &str| {
            format!(
                "CREATE TABLE t (id INT) {}; SELECT id FROM t;",
                with(&topic, &format!("{scan}{options}"))
            )
        };
        let screen = place.refused(&["sql", "-e", &sql("")]);
        assert!(screen.contains(&format!("topic {topic}, partition 1, offset 1")), "{screen}");
        let dead = format!("{prefix}-dead");
        let skipping =
            format!(", 'json.ignore-parse-errors'='true', 'millstream.dead-letter.topic'='{dead}'");
        assert_eq!(printed(place, &sql(&skipping)), ["+I[1]", "+I[2]"]);
        let kept = records(place, &dead, 1);
        assert_eq!(kept.len(), 1);
        assert!(
            kept[0].to_string().contains("{broken")
                && kept[0].to_string().contains("__connect.errors.offset")
        );

        // Nothing to read, or nothing that fits: said at once, with what to do.
        let missing = place.refused(&["sql", "-e", &sql("").replace(&topic, &format!("{prefix}-badd"))]);
        assert!(
            missing.contains("does not exist") && missing.contains(&format!("did you mean {topic}")),
            "{missing}"
        );
        let avro = sql(", 'avro-confluent.url'='http://127.0.0.1:9'")
            .replace("'format'='json'", "'format'='avro-confluent'");
        let screen = place.refused(&["sql", "-e", &avro]);
        assert!(screen.contains(&topic), "{screen}");
        let envelopes = sql("").replace("'format'='json'", "'format'='debezium-json'");
        let screen = place.refused(&["sql", "-e", &envelopes]);
        assert!(screen.contains(&format!("topic {topic}, partition 1, offset 0")), "{screen}");
    });
}
