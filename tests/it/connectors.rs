//! Connectors and formats at run time, through the command line on the embedded log.

use serde_json::Value;

use crate::support::place::Place;

const KAFKA: &str =
    "'connector'='kafka', 'properties.bootstrap.servers'='kafka:9092', 'scan.startup.mode'='earliest-offset'";

/// Runs a script to its idleness and gives what print sinks printed.
fn run(place: &Place, name: &str, sql: &str) -> Vec<String> {
    let file = place.file(&format!("{name}.sql"), sql);
    let output = place.ok(&["sql", "-f", file.to_str().unwrap(), "--until-idle", "200ms"]);
    output.lines().map(str::to_owned).collect()
}

fn records(place: &Place, topic: &str) -> Vec<Value> {
    let text = place.ok(&["topics", "read", topic, "--jsonl"]);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn records_that_cannot_be_read() {
    let place = Place::new();
    let good = |id: u32| format!(r#"{{"id":{id},"v":1}}"#);
    place.send(&[good(1), good(2), "{broken".into(), good(3), "[1]".into(), good(4)]);
    let source = |options: &str| {
        format!(
            "CREATE TABLE o (id INT, v INT) WITH ({KAFKA}, 'topic'='orders', 'format'='json'{options}); \
             CREATE TABLE p (id INT, v INT) WITH ('connector'='print'); INSERT INTO p SELECT id, v FROM o;"
        )
    };

    // The default: it stops before the record, says which one it is, and has written what was before it.
    let file = place.file("strict.sql", &source(""));
    let output = place.output(&["sql", "-f", file.to_str().unwrap(), "--until-idle", "200ms"]);
    let screen = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{screen}");
    assert!(screen.contains("topic orders, partition 0, offset 2"), "{screen}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2);
    assert!(place.ok(&["pipelines", "status", "strict"]).contains("next offset 2"));

    // Skipped, counted, and kept elsewhere.
    let skip = ", 'json.ignore-parse-errors'='true', 'millstream.dead-letter.topic'='orders.dead'";
    let file = place.file("skip.sql", &source(skip));
    let running = place.spawn(&["sql", "-f", file.to_str().unwrap()]);
    let status = place.wait("skip", "RUNNING", 6);
    assert_eq!(status["skipped"]["o"]["records"], 2, "{status}");
    assert!(status["skipped"]["o"]["last"].as_str().unwrap().contains("offset 4"), "{status}");
    assert!(place.ok(&["pipelines", "status", "skip"]).contains("2 records could not be read"));
    place.ok(&["pipelines", "stop", "skip"]);
    assert!(running.ended());
    let dead = records(&place, "orders.dead");
    assert_eq!(dead.len(), 2);
    assert!(dead[0]["value"].to_string().contains("{broken"), "{}", dead[0]);
    let headers = dead[0]["headers"].to_string();
    assert!(headers.contains("__connect.errors.offset") && headers.contains("orders"), "{headers}");
    // A restart does not write them again.
    run(&place, "skip", &source(skip));
    assert_eq!(records(&place, "orders.dead").len(), 2);

    // For all tables of a script that skip.
    let all = format!(
        "SET 'millstream.dead-letter.topic' = 'all.dead'; {}",
        source(", 'json.ignore-parse-errors'='true'")
    );
    run(&place, "all", &all);
    assert_eq!(records(&place, "all.dead").len(), 2);
    let file = place.file("no.sql", &source(", 'millstream.dead-letter.topic'='x'"));
    assert!(place.refused(&["sql", "-f", file.to_str().unwrap()]).contains("ignore-parse-errors"));
}

#[test]
fn keys_headers_and_partitions_of_topics() {
    let place = Place::new();
    let columns = "id INT, name STRING, k_part STRING, h MAP<STRING, BYTES> METADATA FROM 'headers', \
                   ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', o BIGINT METADATA FROM 'offset' VIRTUAL, \
                   p INT METADATA FROM 'partition' VIRTUAL, tt STRING METADATA FROM 'timestamp-type' VIRTUAL, \
                   le INT METADATA FROM 'leader-epoch' VIRTUAL, tn STRING METADATA FROM 'topic' VIRTUAL";
    let table = |topic: &str, more: &str| {
        format!("CREATE TABLE t ({columns}) WITH ({KAFKA}, 'topic'='{topic}'{more});")
    };
    let print = "CREATE TABLE pr (a STRING) WITH ('connector'='print');";
    for (topic, formats) in [
        (
            "j",
            ", 'key.format'='json', 'key.fields'='k_part', 'key.fields-prefix'='k_', 'value.format'='json', 'value.fields-include'='EXCEPT_KEY'",
        ),
        (
            "c",
            ", 'key.format'='csv', 'key.fields'='id;k_part', 'value.format'='csv', 'value.fields-include'='ALL'",
        ),
        (
            "r",
            ", 'key.format'='raw', 'key.fields'='k_part', 'value.format'='json', 'sink.partitioner'='fixed'",
        ),
    ] {
        let formats =
            if topic == "c" { formats.replace("'ALL'", "'EXCEPT_KEY'") } else { formats.to_owned() };
        let table = table(topic, &formats);
        run(
            &place,
            &format!("w{topic}"),
            &format!(
                "{table} INSERT INTO t VALUES (1, 'a', 'x', MAP['one', CAST('1' AS BYTES)], TO_TIMESTAMP_LTZ(1700000000000, 3)), \
                 (2, 'b', 'y', MAP['two', CAST('2' AS BYTES)], TO_TIMESTAMP_LTZ(1700000001000, 3));"
            ),
        );
        let read = run(
            &place,
            &format!("r{topic}"),
            &format!(
                "{table} {print} INSERT INTO pr SELECT CONCAT_WS('/', CAST(id AS STRING), name, k_part, \
                 CAST(h['two'] AS STRING), CAST(o AS STRING), CAST(p AS STRING), tt, COALESCE(CAST(le AS STRING), 'none'), tn, \
                 DATE_FORMAT(ts, 'HH:mm:ss')) FROM t;"
            ),
        );
        assert_eq!(
            read,
            [
                format!("+I[1/a/x/0/0/CreateTime/none/{topic}/22:13:20]"),
                format!("+I[2/b/y/2/1/0/CreateTime/none/{topic}/22:13:21]")
            ]
        );
    }
    let json = records(&place, "j");
    assert!(
        json[0]["key"].to_string().contains("part") && !json[0]["key"].to_string().contains("k_part"),
        "{}",
        json[0]
    );
    assert!(!json[0]["value"].to_string().contains("part"), "{}", json[0]);

    let refused = |more: &str| {
        let text = format!("{} INSERT INTO t (id) VALUES (1);", table("j", more));
        place.refused(&["sql", "-e", &text])
    };
    assert!(refused(", 'format'='json', 'sink.partitioner'='com.example.Mine'").contains("round-robin"));
    assert!(
        refused(", 'format'='json', 'sink.delivery-guarantee'='exactly-once'")
            .contains("transactional-id-prefix")
    );
    assert!(
        refused(", 'format'='json', 'sink.delivery-garantee'='none'")
            .contains("did you mean 'sink.delivery-guarantee'")
    );
    assert!(refused(", 'key.format'='json', 'value.format'='json'").contains("key.fields"));
}

#[test]
fn where_scans_begin_and_end() {
    let place = Place::new();
    place.send(&(0..10).map(|id| format!(r#"{{"id":{id}}}"#)).collect::<Vec<_>>());
    let read = |options: &str| {
        let sql = format!(
            "CREATE TABLE o (id INT) WITH ('connector'='kafka', 'topic'='orders', 'properties.bootstrap.servers'='k:1', \
             'format'='json', {options}); SELECT id FROM o;"
        );
        let text = place.ok(&["sql", "-e", &sql, "--until-idle", "200ms"]);
        text.lines()
            .map(|l| l.trim_start_matches("+I[").trim_end_matches(']').parse::<i32>().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(read("'scan.startup.mode'='earliest-offset', 'scan.bounded.mode'='latest-offset'").len(), 10);
    assert_eq!(read("'scan.startup.mode'='latest-offset'"), [0; 0]);
    assert_eq!(read("'scan.startup.mode'='group-offsets', 'properties.auto.offset.reset'='latest'"), [0; 0]);
    assert_eq!(
        read(
            "'scan.startup.mode'='specific-offsets', 'scan.startup.specific-offsets'='partition:0,offset:7', \
             'scan.bounded.mode'='specific-offsets', 'scan.bounded.specific-offsets'='partition:0,offset:9'"
        ),
        [7, 8]
    );
    assert_eq!(read("'scan.startup.mode'='timestamp', 'scan.startup.timestamp-millis'='0'").len(), 10);
    assert_eq!(
        read("'scan.startup.mode'='timestamp', 'scan.startup.timestamp-millis'='4102444800000'"),
        [0; 0]
    );
    assert_eq!(
        read(
            "'scan.startup.mode'='earliest-offset', 'scan.bounded.mode'='timestamp', 'scan.bounded.timestamp-millis'='0'"
        ),
        [0; 0]
    );
}

#[test]
fn several_topics_and_a_pattern() {
    let place = Place::new();
    for n in 1..=3 {
        run(
            &place,
            &format!("w{n}"),
            &format!(
                "CREATE TABLE t (id INT) WITH ({KAFKA}, 'topic'='part-{n}', 'format'='json'); INSERT INTO t VALUES ({n});"
            ),
        );
    }
    let read = |topics: &str| {
        let sql =
            format!("CREATE TABLE t (id INT) WITH ({KAFKA}, {topics}, 'format'='json'); SELECT id FROM t;");
        let mut lines: Vec<String> =
            place.ok(&["sql", "-e", &sql, "--until-idle", "200ms"]).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(read("'topic'='part-1;part-3'"), ["+I[1]", "+I[3]"]);
    assert_eq!(read("'topic-pattern'='part-[12]'"), ["+I[1]", "+I[2]"]);
}

#[test]
fn generated_rows_files_and_a_restart() {
    let place = Place::new();
    let out = place.dir.path().join("files");
    let sql = format!(
        "CREATE TABLE g (id INT, name STRING, d DECIMAL(8, 2)) WITH ('connector'='datagen', 'number-of-rows'='500', \
         'rows-per-second'='100000', 'fields.id.kind'='sequence', 'fields.id.start'='1', 'fields.id.end'='1000', \
         'fields.name.length'='4'); \
         CREATE TABLE f (id INT, name STRING, d DECIMAL(8, 2)) WITH ('connector'='filesystem', 'path'='{0}', 'format'='csv'); \
         INSERT INTO f SELECT * FROM g;",
        out.display()
    );
    let count = || {
        let read = format!(
            "CREATE TABLE f (id INT, name STRING, d DECIMAL(8, 2)) WITH ('connector'='filesystem', 'path'='{}', \
             'format'='csv'); SELECT COUNT(*), COUNT(DISTINCT id), MIN(CHAR_LENGTH(name)), MAX(id) FROM f;",
            out.display()
        );
        place.ok(&["sql", "-e", &read]).lines().last().unwrap_or_default().to_owned()
    };
    run(&place, "g", &sql);
    assert!(count().contains("[500, 500, 4, 500]"), "{}", count());
    // What is finished is finished.
    run(&place, "g", &sql);
    assert!(count().contains("[500, 500, 4, 500]"), "{}", count());
}

/// Directories as Flink 2.3 names them, and back.
#[test]
fn partitioned_files() {
    let place = Place::new();
    let out = place.dir.path().join("files");
    let table = format!(
        "CREATE TABLE f (d DATE, id INT, s STRING, t TIMESTAMP(3)) PARTITIONED BY (s, d) WITH \
         ('connector'='filesystem', 'path'='{}', 'format'='csv');",
        out.display()
    );
    let values = "(DATE '2024-01-01', 1, 'a/b', TIMESTAMP '2024-01-01 00:00:00'), \
                  (DATE '2024-01-02', 2, 'x', CAST(NULL AS TIMESTAMP(3))), \
                  (CAST(NULL AS DATE), 3, '', TIMESTAMP '2024-01-01 10:20:30.5')";
    run(&place, "w", &format!("{table} INSERT INTO f VALUES {values};"));
    let file = |directory: &str| {
        let mut files = std::fs::read_dir(out.join(directory)).unwrap();
        std::fs::read_to_string(files.next().unwrap().unwrap().path()).unwrap()
    };
    assert_eq!(file("s=a%2Fb/d=19723"), "1,\"2024-01-01 00:00:00\"\n");
    assert_eq!(file("s=x/d=19724"), "2,\n");
    let mut read = run(&place, "r", &format!("{table} SELECT * FROM f;"));
    read.sort();
    assert_eq!(
        read,
        [
            "+I[2024-01-01, 1, a/b, 2024-01-01T00:00]",
            "+I[2024-01-02, 2, x, null]",
            "+I[null, 3, null, 2024-01-01T10:20:30.500]"
        ]
    );
    let mut read = run(&place, "s", &format!("{table} SELECT s, id FROM f WHERE d > DATE '2024-01-01';"));
    read.sort();
    assert_eq!(read, ["+I[x, 2]"]);

    // Other programs write dates; what is none is named with its file.
    let strange = out.join("s=y/d=2024-02-30");
    std::fs::create_dir_all(&strange).unwrap();
    std::fs::write(strange.join("part"), "9,\n").unwrap();
    let screen = place.refused(&["sql", "-e", &format!("{table} SELECT * FROM f;")]);
    assert!(screen.contains("column d") && screen.contains("d=2024-02-30"), "{screen}");
}

/// A schema registry: ids count from 1; answers as Confluent's.
fn registry() -> String {
    use std::io::{BufRead, BufReader, Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut schemas: Vec<String> = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut length) = (String::new(), 0);
            reader.read_line(&mut first).unwrap();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let answer = if first.starts_with("POST /subjects/") {
                let body: Value = serde_json::from_slice(&body).unwrap();
                let schema = body["schema"].as_str().unwrap().to_owned();
                let known = schemas.iter().position(|s| *s == schema).unwrap_or_else(|| {
                    schemas.push(schema);
                    schemas.len() - 1
                });
                serde_json::json!({"id": known + 1})
            } else {
                let id: usize = first.split(['/', ' ']).filter_map(|p| p.parse().ok()).next().unwrap();
                serde_json::json!({"schema": schemas[id - 1]})
            };
            let answer = answer.to_string();
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        }
    });
    url
}

#[test]
fn avro_with_a_registry() {
    let place = Place::new();
    let url = registry();
    let columns = "id INT, name STRING, amount DECIMAL(10, 2), at_ts TIMESTAMP_LTZ(3), tags ARRAY<STRING>";
    let values = "(1, 'a', 1.50, TO_TIMESTAMP_LTZ(1700000000000, 3), ARRAY['x']), \
                  (2, CAST(NULL AS STRING), -2.25, TO_TIMESTAMP_LTZ(1700000000001, 3), ARRAY['y', 'z'])";
    let plain = format!(
        "CREATE TABLE t ({columns}) WITH ({KAFKA}, 'topic'='plain', 'key.format'='avro-confluent', 'key.fields'='id', \
         'key.avro-confluent.url'='{url}', 'value.format'='avro-confluent', 'value.avro-confluent.url'='{url}');"
    );
    run(&place, "w", &format!("{plain} INSERT INTO t VALUES {values};"));
    let read = run(&place, "r", &format!("{plain} SELECT id, name, amount, at_ts, tags[1] FROM t;"));
    assert_eq!(
        read,
        ["+I[1, a, 1.50, 2023-11-14T22:13:20Z, x]", "+I[2, null, -2.25, 2023-11-14T22:13:20.001Z, y]"],
    );
    // Fewer columns, and one that the writer did not know.
    let other = plain.replace(columns, "more INT, name STRING, id BIGINT");
    assert_eq!(
        run(&place, "o", &format!("{other} SELECT * FROM t;")),
        ["+I[null, a, 1]", "+I[null, null, 2]"]
    );

    let changes = format!(
        "CREATE TABLE c (g INT, n BIGINT, PRIMARY KEY (g) NOT ENFORCED) WITH ({KAFKA}, 'topic'='changes', \
         'format'='debezium-avro-confluent', 'debezium-avro-confluent.url'='{url}');"
    );
    run(&place, "cw", &format!("{plain} {changes} INSERT INTO c SELECT 1, COUNT(*) FROM t;"));
    let read = run(&place, "cr", &format!("{changes} SELECT n FROM c;"));
    assert_eq!(read.last().map(String::as_str), Some("+I[2]"), "{read:?}");
    assert!(
        place
            .refused(&[
                "sql",
                "-e",
                &format!(
                    "{} SELECT * FROM t;",
                    plain.replace("'value.avro-confluent.url'", "'value.avro-confluent.uri'")
                )
            ])
            .contains("did you mean")
    );
}
