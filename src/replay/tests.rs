use std::time::Duration;

use super::*;
use crate::Kind;
use crate::demo::postgres::{PostgresOptions, TemporaryPostgres};
use crate::log::{Position, TopicPartition};
use crate::runtime::testing::{World, create, plan, table, upsert_topic};
use crate::runtime::{Environment, Phase, Pipeline};

fn update(id: u32, old: &str, new: &str) -> String {
    format!(r#"{{"before":{{"id":{id},"name":"{old}"}},"after":{{"id":{id},"name":"{new}"}},"op":"u"}}"#)
}

fn range(from: &str, to: &[&str]) -> Range {
    Range {
        from: vec![from.parse().unwrap()],
        to: to.iter().map(|t| t.parse().unwrap()).collect(),
        dry_run: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn touched_keys_get_their_newest_row_and_others_are_left_alone() {
    let mut world = World::new().await;
    let plan = plan(&[upsert_topic()]);
    let delete = r#"{"before":{"id":3,"name":"c"},"after":null,"op":"d"}"#;
    world
        .send(&[
            &create(1, "a"),
            &create(2, "b"),
            &create(3, "c"),
            &update(2, "b", "b2"),
            delete,
            &create(4, "d"),
        ])
        .await;
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    let before = world.read("copy").await.len();

    let dry = Range { dry_run: true, ..range("orders:0:1", &["orders:0:3"]) };
    let report = replay(&pipeline, &dry).await.unwrap();
    assert_eq!((report.dry_run, report.sinks["copy"]), (true, Written { upserts: 1, deletes: 1 }));
    assert_eq!(world.read("copy").await.len(), before);

    // Offsets 1 and 2: keys 2 (updated later) and 3 (deleted later).
    let report = replay(&pipeline, &range("orders:0:1", &["orders:0:3"])).await.unwrap();
    assert_eq!((report.records, report.range), (6, 2));
    assert_eq!(report.sinks["copy"], Written { upserts: 1, deletes: 1 });
    assert_eq!(world.read("copy").await[before..], [r#"{"id":2,"name":"b2"}"#.to_owned(), "null".to_owned()]);

    // It goes on, and a second replay writes the same rows.
    world.send(&[&create(5, "e")]).await;
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    let again = replay(&pipeline, &range("orders:0:1", &["orders:0:3"])).await.unwrap();
    assert_eq!(again.sinks["copy"], Written { upserts: 1, deletes: 1 });
    pipeline.stop().await.unwrap();

    // With the pipeline stopped: it is started held for the time of the replay, and not read on.
    world.send(&[&create(6, "f")]).await;
    let held = Environment { held: true, ..world.environment() };
    let pipeline = Pipeline::start(&plan, "p", held).await.unwrap();
    let all = replay(&pipeline, &range("earliest", &[])).await.unwrap();
    assert_eq!(all.sinks["copy"], Written { upserts: 4, deletes: 1 });
    pipeline.stop().await.unwrap();
    let copy = world.read("copy").await;
    assert!(!copy.contains(&r#"{"id":6,"name":"f"}"#.to_owned()));
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    assert_eq!(world.read("copy").await.last().unwrap(), r#"{"id":6,"name":"f"}"#);
    pipeline.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_by_time_and_what_is_refused() {
    let mut world = World::new().await;
    let plan = plan(&[upsert_topic()]);
    world.send(&[&create(1, "a")]).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let middle = chrono::Utc::now().timestamp_millis();
    tokio::time::sleep(Duration::from_millis(20)).await;
    world.send(&[&create(2, "b")]).await;
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    let at = TopicPartition { topic: "orders".into(), partition: 0 };
    assert_eq!(world.log.resolve(&at, Position::Timestamp(middle)).await.unwrap(), 1);
    let report = replay(&pipeline, &range(&middle.to_string(), &[])).await.unwrap();
    assert_eq!(report.sinks["copy"], Written { upserts: 1, deletes: 0 });

    let error = replay(&pipeline, &range("nothing:0:1", &[])).await.unwrap_err();
    assert!(error.screen().contains("it reads orders:0"), "{error}");
    let far = i64::MAX.to_string();
    assert_eq!(replay(&pipeline, &range(&far, &[])).await.unwrap_err().kind(), Kind::Config);
    pipeline.stop().await.unwrap();
}

/// Holds a target's table from outside: no write comes through until it is dropped.
async fn lock(server: &TemporaryPostgres, table: &str) -> tokio_postgres::Client {
    let client = crate::pg::connect(&server.url("postgres").parse().unwrap()).await.unwrap();
    client.batch_execute(&format!("BEGIN; LOCK TABLE {table}")).await.unwrap();
    client
}

/// Whether somebody waits for the table.
async fn waits(client: &tokio_postgres::Client, table: &str) -> bool {
    let sql = format!("SELECT 1 FROM pg_locks WHERE relation = '{table}'::regclass AND NOT granted");
    !client.query(&sql, &[]).await.unwrap().is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_was_given_up_lets_the_pipeline_go_on() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let url = format!("jdbc:{}", server.url("postgres").replace("postgres@", ""));
    let target =
        table("t", &[("connector", "jdbc"), ("url", &url), ("table-name", "t"), ("username", "postgres")]);
    let plan = plan(&[target]);
    let mut world = World::new().await;
    world.send(&[&create(1, "a")]).await;
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    let all = range("earliest", &[]);

    // While it waits for the pipeline to come to the end of its epoch.
    let locked = lock(&server, "t").await;
    world.send(&[&create(2, "b")]).await;
    while !waits(&locked, "t").await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let given_up = tokio::time::timeout(Duration::from_millis(100), replay(&pipeline, &all)).await;
    assert!(given_up.is_err());
    drop(locked);
    world.send(&[&create(3, "c")]).await;
    let going_on = Duration::from_secs(20);
    tokio::time::timeout(going_on, pipeline.caught_up(world.log.as_ref())).await.unwrap().unwrap();

    // While it writes.
    let locked = lock(&server, "t").await;
    {
        let mut replaying = std::pin::pin!(replay(&pipeline, &all));
        loop {
            tokio::select! {
                report = &mut replaying => panic!("{report:?}"),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            if waits(&locked, "t").await {
                break;
            }
        }
    }
    world.send(&[&create(4, "d")]).await;
    drop(locked);
    tokio::time::timeout(going_on, pipeline.caught_up(world.log.as_ref())).await.unwrap().unwrap();
    assert_eq!(pipeline.status().phase, Phase::Running);
    assert_eq!(replay(&pipeline, &all).await.unwrap().sinks["t"], Written { upserts: 4, deletes: 0 });
    pipeline.stop().await.unwrap();
    assert_eq!(
        server.psql("postgres", "SELECT string_agg(name, '' ORDER BY id) FROM t").unwrap().trim(),
        "abcd"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_target_refuses_fails_the_pipeline() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let url = format!("jdbc:postgresql://127.0.0.1:{}/postgres", server.port());
    let target =
        table("t", &[("connector", "jdbc"), ("url", &url), ("table-name", "t"), ("username", "postgres")]);
    let plan = plan(&[target]);
    let mut world = World::new().await;
    world.send(&[&create(1, "a")]).await;
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    server.psql("postgres", "ALTER TABLE t ADD CHECK (id > 1) NOT VALID").unwrap();
    let all = range("earliest", &[]);
    let error = replay(&pipeline, &all).await.unwrap_err();
    assert!(error.screen().contains("t_id_check"), "{error}");
    // Not RUNNING without a word: what it was to write lies in its state.
    let failed = tokio::time::timeout(Duration::from_secs(20), pipeline.wait()).await.unwrap().unwrap_err();
    assert!(failed.screen().contains("t_id_check"), "{failed}");
    drop(pipeline);
    server.psql("postgres", "ALTER TABLE t DROP CONSTRAINT t_id_check; DELETE FROM t").unwrap();
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    assert_eq!(server.psql("postgres", "SELECT name FROM t").unwrap().trim(), "a");
    // One at a time.
    let alone = pipeline.replay_alone().unwrap();
    assert_eq!(replay(&pipeline, &all).await.unwrap_err().kind(), Kind::Refused);
    drop(alone);
    replay(&pipeline, &all).await.unwrap();
    pipeline.stop().await.unwrap();
}

/// From where the pipeline began, not from where its topics do.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_the_pipeline_is_not_replayed() {
    let mut world = World::new().await;
    let mut plan = plan(&[upsert_topic()]);
    let Op::Source(source) = &mut plan.nodes[0].op else { panic!() };
    source.options.remove("scan.startup.mode");
    source.options.insert("properties.auto.offset.reset".into(), "latest".into());
    world.send(&[&create(1, "old")]).await;
    let pipeline = Pipeline::start(&plan, "p", world.environment()).await.unwrap();
    pipeline.idle(Duration::from_millis(50)).await.unwrap();
    world.send(&[&create(2, "new")]).await;
    pipeline.caught_up(world.log.as_ref()).await.unwrap();
    let report = replay(&pipeline, &range("earliest", &[])).await.unwrap();
    assert_eq!((report.records, report.sinks["copy"].upserts), (1, 1));
    pipeline.stop().await.unwrap();
    // Rows of state that has expired are not brought back.
    plan.options.insert("table.exec.state.ttl".into(), "1 h".into());
    let fresh = Environment { fresh: true, ..world.environment() };
    let pipeline = Pipeline::start(&plan, "p", fresh).await.unwrap();
    let error = replay(&pipeline, &range("earliest", &[])).await.unwrap_err();
    assert!(error.screen().contains("expires"), "{error}");
    pipeline.stop().await.unwrap();
}
