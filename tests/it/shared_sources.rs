//! INSERTs of one statement set that read different columns of a topic: its records are read and decoded once.

use crate::pipeline_failures::{World, kafka};

const ROWS: u64 = 50;

fn rows(from: u64) -> Vec<Vec<u8>> {
    let row = |n| format!(r#"{{"a":{n},"b":"b{n}","c":{{"x":{n},"y":"y"}},"unread":[1,2]}}"#).into_bytes();
    (from..from + ROWS).map(row).collect()
}

fn sql(inserts: &[&str]) -> String {
    let source = kafka("wide", "'format'='json'");
    let mut sql = format!(
        "CREATE TABLE wide (a INT, b STRING, c ROW<x INT, y STRING>, o BIGINT METADATA FROM 'offset') {source};
         CREATE TABLE p (line STRING) WITH ('connector'='print'); EXECUTE STATEMENT SET BEGIN "
    );
    for insert in inserts {
        sql.push_str(&format!("INSERT INTO p SELECT {insert} FROM wide;"));
    }
    sql + " END;"
}

const ALL: [&str; 4] =
    ["'a' || CAST(a AS STRING)", "b", "'c' || CAST(c.x AS STRING) || b", "'o' || CAST(o AS STRING)"];

fn printed(numbers: std::ops::Range<u64>, inserts: std::ops::Range<usize>) -> Vec<String> {
    let lines = |n: u64| [format!("a{n}"), format!("b{n}"), format!("c{n}b{n}"), format!("o{n}")];
    let of = |n| lines(n)[inserts.clone()].to_vec();
    numbers.flat_map(of).map(|line| format!("+I[{line}]")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_read_once_for_all_inserts() {
    let mut world = World::new().await;
    let send = |from| rows(from);
    let first = send(0);
    world.send("wide", &first.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
    let mut wanted = printed(0..ROWS, 0..4);

    let pipeline = world.start(&sql(&ALL)).await.unwrap();
    world.caught_up(&pipeline).await;
    assert_eq!(pipeline.status().records, ROWS);
    // Each has its own position, as if it had read alone.
    assert_eq!(pipeline.status().positions.values().collect::<Vec<_>>(), [&50; 4]);
    pipeline.stop().await.unwrap();
    wanted.sort();
    assert_eq!(world.printed(), wanted);

    // After a restart as well.
    let second = send(ROWS);
    world.send("wide", &second.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
    let pipeline = world.start(&sql(&ALL)).await.unwrap();
    world.caught_up(&pipeline).await;
    assert_eq!(pipeline.status().records, ROWS);
    pipeline.stop().await.unwrap();
    wanted.extend(printed(ROWS..2 * ROWS, 0..4));
    wanted.sort();
    assert_eq!(world.printed(), wanted);
}
