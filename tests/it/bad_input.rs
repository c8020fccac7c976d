//! Records that cannot be read: named by topic, partition and offset, or left out and counted; and schema registries that
//! are away, that know a schema not, that refuse one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use millstream::log::Batch;
use millstream::runtime::Phase;
use tokio::net::TcpSocket;

use crate::pipeline_failures::{World, comes_to, kafka, says};

/// Answers every request with this status; 200 with a schema of one column, and its id.
struct Registry {
    status: Arc<AtomicU16>,
}

impl Registry {
    fn start(socket: TcpSocket) -> Self {
        let listener = socket.listen(64).unwrap().into_std().unwrap();
        listener.set_nonblocking(false).unwrap();
        let status = Arc::new(AtomicU16::new(200));
        let shared = Arc::clone(&status);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, shared.load(Ordering::Relaxed));
            }
        });
        Self { status }
    }
}

const SCHEMA: &str =
    r#"{\"type\":\"record\",\"name\":\"r\",\"fields\":[{\"name\":\"id\",\"type\":\"int\"}]}"#;

fn answer(mut stream: TcpStream, status: u16) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut request = [0; 16 << 10];
    let _ = stream.read(&mut request)?;
    let body = match status {
        200 => format!(r#"{{"id":1,"version":1,"subject":"s","schema":"{SCHEMA}"}}"#),
        404 => r#"{"error_code":40403,"message":"Schema not found"}"#.to_owned(),
        409 => r#"{"error_code":409,"message":"Schema being registered is incompatible"}"#.to_owned(),
        _ => r#"{"error_code":50003,"message":"Error while forwarding"}"#.to_owned(),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Avro with the schema's id, and `id` as its one field.
fn avro(id: u8) -> [u8; 6] {
    [0, 0, 0, 0, 1, id * 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_registry_that_is_away_is_waited_for() {
    // A port that is taken and refuses connections: nobody else gets it meanwhile.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let with = |topic: &str| {
        kafka(topic, &format!("'format'='avro-confluent', 'avro-confluent.url'='http://127.0.0.1:{port}'"))
    };
    let sql = format!(
        "CREATE TABLE s (id INT) {}; CREATE TABLE copy (id INT) {}; CREATE TABLE p (id INT) WITH ('connector'='print');
         EXECUTE STATEMENT SET BEGIN INSERT INTO copy SELECT id FROM s; INSERT INTO p SELECT id FROM s; END;",
        with("in"),
        with("out")
    );
    let mut world = World::new().await;
    world.send("in", &[&avro(1), &avro(2)]).await;
    let pipeline = world.start(&sql).await.unwrap();
    let cause = comes_to(&pipeline, Phase::Retrying).await;
    says("away", &cause, &["topic in, partition 0, offset 0", &port.to_string(), "next:"]);
    // It can be stopped meanwhile, and loses nothing.
    let begun = Instant::now();
    pipeline.stop().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let pipeline = world.start(&sql).await.unwrap();
    comes_to(&pipeline, Phase::Retrying).await;
    let registry = Registry::start(socket);
    registry.status.store(500, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(pipeline.status().phase, Phase::Retrying);
    registry.status.store(200, Ordering::Relaxed);
    world.caught_up(&pipeline).await;
    assert_eq!(world.printed(), ["+I[1]", "+I[2]"]);
    assert_eq!(pipeline.status().sinks[0].rows, 2);
    pipeline.stop().await.unwrap();

    // What it refuses, it refuses again.
    registry.status.store(404, Ordering::Relaxed);
    world.send("in", &[&avro(3)]).await;
    let pipeline = world.start(&sql).await.unwrap();
    let cause = comes_to(&pipeline, Phase::Failed).await;
    says("unknown id", &cause, &["topic in, partition 0, offset 2", "404", "next:"]);
    let insert = format!("CREATE TABLE copy (id INT) {}; INSERT INTO copy VALUES (1);", with("out"));
    registry.status.store(409, Ordering::Relaxed);
    let fresh = World::new().await;
    let pipeline = fresh.start(&insert).await.unwrap();
    let cause = comes_to(&pipeline, Phase::Failed).await;
    says("incompatible", &cause, &["copy", "409", "incompatible", "next:"]);
    // A sink waits for it as well.
    registry.status.store(503, Ordering::Relaxed);
    let fresh = World::new().await;
    let pipeline = fresh.start(&insert).await.unwrap();
    let cause = comes_to(&pipeline, Phase::Retrying).await;
    says("sink", &cause, &["copy", "503", "next:"]);
    registry.status.store(200, Ordering::Relaxed);
    comes_to(&pipeline, Phase::Finished).await;
}

/// A format, its table's columns, a record that can be read, and one that cannot; where parse errors are ignored it is
/// left out, or, as in Flink, its column is NULL.
type Case = (&'static str, &'static str, &'static [u8], &'static [u8]);

const ENVELOPE: &[u8] = br#"{"before":null,"after":{"id":1},"op":"c"}"#;

const CASES: &[Case] = &[
    ("'format'='json'", "id INT", br#"{"id":1}"#, br#"{"id":"#),
    ("'format'='json'", "id INT", br#"{"id":1}"#, br#"{"id":"canary"}"#),
    ("'format'='debezium-json'", "id INT", ENVELOPE, br#"{"id":1}"#),
    ("'format'='debezium-json'", "id INT", ENVELOPE, br#"{"before":null,"after":{"id":1},"op":"?"}"#),
    (
        "'format'='debezium-json', 'debezium-json.schema-include'='true'",
        "id INT",
        br#"{"schema":null,"payload":{"before":null,"after":{"id":1},"op":"c"}}"#,
        ENVELOPE,
    ),
    ("'format'='csv'", "id INT, name STRING", b"1,a", b"canary,a"),
    ("'format'='csv'", "id INT, name STRING", b"1,a", b"1,\"a"),
    ("'format'='raw'", "id INT", &[0, 0, 0, 1], &[1]),
    ("'format'='avro'", "id INT NOT NULL", &[2], &[]),
    ("'format'='avro-confluent', 'avro-confluent.url'='http://127.0.0.1:9'", "id INT", b"", b"canary"),
    (
        "'format'='debezium-avro-confluent', 'debezium-avro-confluent.url'='http://127.0.0.1:9'",
        "id INT",
        b"",
        b"canary",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_format_names_what_it_cannot_read() {
    for (number, (format, columns, good, bad)) in CASES.iter().enumerate() {
        let what = format!("{number}: {format}, {}", String::from_utf8_lossy(bad));
        let sql = |more: &str| {
            format!(
                "CREATE TABLE s ({columns}) {}; CREATE TABLE p (id INT) WITH ('connector'='print'); \
                 INSERT INTO p SELECT id FROM s;",
                kafka("in", &format!("{format}{more}"))
            )
        };
        let mut world = World::new().await;
        // Formats that need a registry have no record that can be read here.
        let all: Vec<&[u8]> = if good.is_empty() { vec![*bad] } else { vec![*good, *bad, *good] };
        world.send("in", &all).await;
        for _ in 0..2 {
            let pipeline = world.start(&sql("")).await.unwrap();
            let cause = comes_to(&pipeline, Phase::Failed).await;
            let at = format!("table s: cannot decode topic in, partition 0, offset {}", all.len() / 2);
            says(&what, &cause, &[&at, "cause:", "next:"]);
        }
        assert_eq!(world.printed().len(), all.len() / 2, "{what}");
        let name = format.split('\'').nth(3).unwrap();
        if !["json", "debezium-json", "csv"].contains(&name) {
            continue;
        }
        let world2 = World::new().await;
        let mut world = world2;
        world.send("in", &all).await;
        let pipeline = world.start(&sql(&format!(", '{name}.ignore-parse-errors'='true'"))).await.unwrap();
        world.caught_up(&pipeline).await;
        let status = pipeline.status();
        if world.printed().contains(&"+I[null]".to_owned()) {
            assert!(name != "debezium-json" && status.skipped.is_empty(), "{what}: {status:?}");
            assert!(bad.windows(6).any(|part| part == b"canary"), "{what}");
        } else {
            assert_eq!(status.skipped["s"].records, 1, "{what}: {status:?}");
            assert!(status.skipped["s"].last.contains("offset 1"), "{what}: {status:?}");
            assert_eq!(world.printed().len(), 2, "{what}");
        }
        pipeline.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_files_are_named_too() {
    let mut world = World::new().await;
    let mut batch = Batch::new();
    let topic = batch.topic("in");
    for key in [&b"{\"k\":1}"[..], b"canary"] {
        let mut record = batch.record(topic);
        record.key(|out| out.extend_from_slice(key));
        record.value(|out| out.extend_from_slice(b"{\"id\":1}"));
        record.finish();
    }
    world.writer().commit(batch).await.unwrap();
    let with = kafka(
        "in",
        "'key.format'='json', 'key.fields'='k', 'value.format'='json', 'value.fields-include'='EXCEPT_KEY'",
    );
    let sql = format!(
        "CREATE TABLE s (k INT, id INT) {with}; CREATE TABLE p (id INT) WITH ('connector'='print'); INSERT INTO p SELECT id FROM s;"
    );
    let upsert = "CREATE TABLE s (k INT, id INT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector'='upsert-kafka', 'topic'='in', \
         'properties.bootstrap.servers'='k:1', 'key.format'='json', 'value.format'='json', 'value.fields-include'='EXCEPT_KEY'); \
         CREATE TABLE p (id INT) WITH ('connector'='print'); INSERT INTO p SELECT id FROM s;";
    for sql in [sql.as_str(), upsert] {
        let other = World::beside(&world).await;
        let pipeline = other.start(sql).await.unwrap();
        let cause = comes_to(&pipeline, Phase::Failed).await;
        says(sql, &cause, &["cannot decode topic in, partition 0, offset 1", "next:"]);
    }
    let file = world.dir.path().join("lines.csv");
    std::fs::write(&file, "1\n2\ncanary\n4\n").unwrap();
    let sql = format!(
        "CREATE TABLE s (id INT) WITH ('connector'='filesystem', 'path'='{}', 'format'='csv'); \
         CREATE TABLE p (id INT) WITH ('connector'='print'); INSERT INTO p SELECT id FROM s;",
        file.display()
    );
    let pipeline = world.start(&sql).await.unwrap();
    let cause = comes_to(&pipeline, Phase::Failed).await;
    says("file", &cause, &["lines.csv", "record 3", "next:"]);
}
