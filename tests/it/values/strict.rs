//! `millstream.strict.values`: what Debezium loses or changes comes whole, or is refused by table and column.

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::event::{Encoder, EventOptions, SourceInfo};
use millstream::log::Batch;
use millstream::pg::catalog::{list_tables, load_tables, load_types};
use millstream::pg::pgoutput::Column;
use millstream::pg::snapshot::{CopyDecoder, CopyReader, SESSION_SETTINGS};
use millstream::pg::{self, ConnectConfig};
use serde_json::Value;

use super::relation_of;

/// A value that Debezium loses or changes: the column's type, a literal, the time precision mode, what the event has
/// by default (`None`: the column is left out), and with strict values (`None`: an error).
type Lost = (&'static str, &'static str, &'static str, Option<&'static str>, Option<&'static str>);

/// All of them.
const LOST: [Lost; 20] = [
    ("date", "infinity", "adaptive", Some("-2147472692"), None),
    ("date", "-infinity", "isostring", Some("\"-5877611-06-22Z\""), Some("\"-infinity\"")),
    ("date", "infinity", "connect", Some("-2147472692"), None),
    ("timestamp", "infinity", "isostring", None, Some("\"infinity\"")),
    ("timestamp", "infinity", "adaptive", None, None),
    ("timestamp", "294276-12-31 23:59:59.999999", "adaptive", None, None),
    ("timestamp", "9999-01-01", "nanoseconds", Some("null"), None),
    ("timestamp", "9999-01-01", "adaptive", Some("253370764800000000"), Some("253370764800000000")),
    ("interval", "300000 years", "adaptive", Some("9223372036854775807"), None),
    ("interval", "1 month 0.000001 seconds", "adaptive", Some("2629800000001"), Some("2629800000001")),
    ("numeric(5,2)", "NaN", "adaptive", Some("null"), None),
    ("int4[]", "{{1,2},{3,4}}", "adaptive", Some("[null,null]"), None),
    ("mood[]", "{sad,NULL}", "adaptive", Some("null"), Some("[\"sad\",null]")),
    (
        "timestamp[]",
        "{1500-01-01 00:00:00.123456}",
        "isostring",
        None,
        Some("[\"1500-01-01T00:00:00.123456Z\"]"),
    ),
    ("xml[]", "{<a/>}", "adaptive", None, Some("[\"<a/>\"]")),
    ("bit[]", "{1,0}", "adaptive", Some("null"), Some("[true,false]")),
    ("int2vector", "1 2", "adaptive", Some("[]"), Some("[1,2]")),
    ("name", "streamed", "adaptive", Some("null"), Some("\"streamed\"")),
    ("xid", "7", "adaptive", None, Some("\"Nw==\"")),
    ("text", "as ever", "adaptive", Some("\"as ever\""), Some("\"as ever\"")),
];

fn strict_encoder(strict: &str, time: &str) -> Encoder {
    let properties = [
        ("topic.prefix", "p"),
        ("time.precision.mode", time),
        ("key.converter.schemas.enable", "false"),
        ("value.converter.schemas.enable", "false"),
        ("millstream.strict.values", strict),
    ];
    Encoder::new(EventOptions::from_properties(properties).unwrap()).unwrap()
}

#[tokio::test]
async fn strict_values_are_right_or_refused_by_table_and_column() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let config = ConnectConfig::from_url(&server.url("postgres")).unwrap();
    let client = pg::connect(&config).await.unwrap();
    client.batch_execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); SET xmloption = content").await.unwrap();
    for (i, (sql, literal, ..)) in LOST.iter().enumerate() {
        let made = format!(
            "CREATE TABLE t{i} (id int, c {sql}); INSERT INTO t{i} VALUES (1, {})",
            pg::Literal(literal)
        );
        client.batch_execute(&made).await.unwrap();
    }
    let types = load_types(&client).await.unwrap();
    let oids: Vec<u32> = list_tables(&client).await.unwrap().iter().map(|t| t.oid).collect();
    let tables = load_tables(&client, &oids).await.unwrap();
    client.batch_execute(SESSION_SETTINGS).await.unwrap();
    for (i, (sql, literal, time, default, strict)) in LOST.iter().enumerate() {
        let table = tables.iter().find(|t| t.name == format!("t{i}")).unwrap();
        let mut copy = CopyReader::start(&client, &format!("SELECT * FROM t{i}")).await.unwrap();
        let line = copy.next_line().await.unwrap().unwrap();
        let mut decoder = CopyDecoder::new();
        let row: Vec<Column<'_>> = decoder.decode(&line).unwrap().iter().collect();
        while copy.next_line().await.unwrap().is_some() {}
        let encoded = |strict: &str| {
            let mut encoder = strict_encoder(strict, time);
            let plan = encoder.stream_plan(&relation_of(table), Some(table), &types).unwrap();
            let mut batch = Batch::new();
            encoder.insert(&plan, &row, &SourceInfo::default(), &mut batch).map(|_| {
                let event: Value =
                    serde_json::from_slice(batch.iter().next().unwrap().value.unwrap()).unwrap();
                event["after"].get("c").map(Value::to_string)
            })
        };
        let left = encoded("false").unwrap();
        // what wraps or shifts is only said to be another value
        match default {
            Some(_) => assert_eq!(left.as_deref(), *default, "{sql} {literal}, default"),
            None => assert_ne!(left.as_deref(), *strict, "{sql} {literal}, default"),
        }
        match (strict, encoded("true")) {
            (Some(right), Ok(value)) => assert_eq!(value.as_deref(), Some(*right), "{sql} {literal}"),
            (None, Err(error)) => {
                let text = error.to_string();
                assert!(text.contains(&format!("column c of table public.t{i}")), "{text}");
            }
            (_, other) => panic!("{sql} {literal}: {other:?} instead of {strict:?}"),
        }
    }
}

#[tokio::test]
async fn an_unsent_value_is_refused_where_no_placeholder_can_tell_it() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let config = ConnectConfig::from_url(&server.url("postgres")).unwrap();
    let client = pg::connect(&config).await.unwrap();
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, a text, b text[], c int[])").await.unwrap();
    let types = load_types(&client).await.unwrap();
    let oids: Vec<u32> = list_tables(&client).await.unwrap().iter().map(|t| t.oid).collect();
    let tables = load_tables(&client, &oids).await.unwrap();
    for strict in ["false", "true"] {
        let mut encoder = strict_encoder(strict, "adaptive");
        let plan = encoder.stream_plan(&relation_of(&tables[0]), Some(&tables[0]), &types).unwrap();
        let mut batch = Batch::new();
        let known = [Column::Text(b"1"), Column::Unchanged, Column::Unchanged, Column::Text(b"{1}")];
        encoder.update(&plan, None, &known, &SourceInfo::default(), &mut batch).unwrap();
        let value = batch.iter().next().unwrap().value.unwrap().to_vec();
        let event: Value = serde_json::from_slice(&value).unwrap();
        let placeholder = "__debezium_unavailable_value";
        assert_eq!(event["after"]["a"], placeholder);
        assert_eq!(event["after"]["b"], serde_json::json!([placeholder]));
        let unknown = [Column::Text(b"1"), Column::Unchanged, Column::Unchanged, Column::Unchanged];
        let made = encoder.update(&plan, None, &unknown, &SourceInfo::default(), &mut batch);
        match strict {
            "true" => {
                let text = made.unwrap_err().to_string();
                assert!(
                    text.contains("column c of table public.t") && text.contains("REPLICA IDENTITY FULL")
                );
                assert_eq!(batch.len(), 1, "nothing is left of it");
            }
            _ => assert_eq!(made, Ok(1)),
        }
    }
}
