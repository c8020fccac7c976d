//! Values of every type, generated, with PostgreSQL as the oracle: what the encoder makes of the text the server
//! sends is compared with what the server says of the same value by another path (arithmetic on epochs, `encode`,
//! `to_json`, `array_to_json`, `hstore_to_json`).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::event::{Encoder, EventOptions, SourceInfo};
use millstream::log::Batch;
use millstream::pg::catalog::{ColumnInfo, TableInfo, list_tables, load_tables, load_types};
use millstream::pg::pgoutput::{Column, Relation, RelationColumn, ReplicaIdentity};
use millstream::pg::snapshot::{CopyDecoder, CopyReader, SESSION_SETTINGS};
use millstream::pg::{self, ConnectConfig};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use self::kinds::{MODES, Read, kinds};

mod kinds;
mod strict;

/// Rows of generated values.
const ROWS: usize = 120;

/// The unscaled value in base64 at a scale, as PostgreSQL prints a numeric.
fn decimal(base64: &str, scale: usize) -> String {
    let n = num_bigint::BigInt::from_signed_bytes_be(&STANDARD.decode(base64).unwrap());
    let sign = if n.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    let digits = format!("{:0>width$}", n.magnitude().to_string(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// The event's value in the form the server's is in.
fn read(value: &Value, said: &Value, how: Read) -> (Value, Value) {
    if let (Value::Array(values), Value::Array(saids), false) =
        (value, said, matches!(how, Read::Plain | Read::Point | Read::Document))
    {
        assert_eq!(values.len(), saids.len());
        let pairs = values.iter().zip(saids).map(|(v, s)| read(v, s, how));
        let (values, saids): (Vec<Value>, Vec<Value>) = pairs.unzip();
        return (values.into(), saids.into());
    }
    if value.is_null() || said.is_null() {
        return (value.clone(), said.clone());
    }
    let float = |v: &Value| match v {
        Value::String(text) => text.parse::<f64>().unwrap(),
        v => v.as_f64().unwrap(),
    };
    let value = match how {
        Read::Plain => value.clone(),
        Read::Document => serde_json::from_str(value.as_str().unwrap()).unwrap(),
        Read::Decimal(scale) => decimal(value.as_str().unwrap(), scale).into(),
        Read::Variable => {
            let scale = usize::try_from(value["scale"].as_u64().unwrap()).unwrap();
            decimal(value["value"].as_str().unwrap(), scale).into()
        }
        Read::Bits => {
            let bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
            let bits: String = bytes.iter().rev().map(|b| format!("{b:08b}")).collect();
            bits.trim_start_matches('0').into()
        }
        Read::Double => {
            let (value, said) = (float(value), float(said));
            // serde_json does not always read the nearest number
            let near = (value - said).abs() <= (said.abs() * 4.0 * f64::EPSILON).max(f64::MIN_POSITIVE);
            let same = value == said || near || (value.is_nan() && said.is_nan());
            return (Value::Bool(same), Value::Bool(true));
        }
        Read::Single => {
            #[allow(clippy::cast_possible_truncation, reason = "the number is one of single precision")]
            let (value, said) = (float(value) as f32, float(said) as f32);
            return (Value::Bool(value == said || (value.is_nan() && said.is_nan())), Value::Bool(true));
        }
        Read::Point => {
            let wkb = STANDARD.decode(value["wkb"].as_str().unwrap()).unwrap();
            assert_eq!(wkb[..5], [1, 1, 0, 0, 0]);
            let number = |at: usize| f64::from_le_bytes(wkb[at..at + 8].try_into().unwrap());
            let same = value["x"].as_f64() == Some(number(5)) && value["y"].as_f64() == Some(number(13));
            let said = said[0].as_f64() == Some(number(5)) && said[1].as_f64() == Some(number(13));
            return (Value::Bool(same && said), Value::Bool(true));
        }
    };
    (value, said.clone())
}

fn quoted(value: Option<&String>) -> String {
    value.map_or("NULL".to_owned(), |v| pg::Literal(v).to_string())
}

#[tokio::test]
async fn generated_values_are_what_the_server_says_they_are() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let config = ConnectConfig::from_url(&server.url("postgres")).unwrap();
    let client = pg::connect(&config).await.unwrap();
    let kinds = kinds();
    let columns: Vec<String> = kinds.iter().enumerate().map(|(i, k)| format!("c{i} {}", k.sql)).collect();
    client
        .batch_execute(&format!(
            "CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('sad', 'ok, fine', 'hap\"py');
             CREATE TYPE pair AS (a int, b text); CREATE DOMAIN price AS numeric(8,2);
             CREATE DOMAIN price_of AS price; SET timezone = 'UTC'; SET lc_monetary = 'C'; SET xmloption = content;
             CREATE TABLE v (id int PRIMARY KEY, {})",
            columns.join(", ")
        ))
        .await
        .unwrap();
    let seed = std::env::var("MILLSTREAM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(7u8);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut insert = String::new();
    for id in 0..ROWS {
        let row = kinds.iter().map(|k| {
            let values = proptest::option::weighted(0.9, k.values.clone());
            quoted(values.new_tree(&mut runner).unwrap().current().as_ref())
        });
        writeln!(insert, "INSERT INTO v VALUES ({id}, {});", row.collect::<Vec<_>>().join(", ")).unwrap();
    }
    client.batch_execute(&insert).await.unwrap();

    let types = load_types(&client).await.unwrap();
    let oids: Vec<u32> = list_tables(&client).await.unwrap().iter().map(|t| t.oid).collect();
    let table = load_tables(&client, &oids).await.unwrap().into_iter().find(|t| t.name == "v").unwrap();
    client.batch_execute(SESSION_SETTINGS).await.unwrap();
    let mut copy = CopyReader::start(&client, "SELECT * FROM v ORDER BY id").await.unwrap();
    let mut lines = Vec::new();
    while let Some(line) = copy.next_line().await.unwrap() {
        lines.push(line);
    }
    assert_eq!(lines.len(), ROWS);
    let relation = relation_of(&table);
    let oracle = pg::connect(&config).await.unwrap();
    oracle
        .batch_execute("SET timezone = 'UTC'; SET lc_monetary = 'C'; SET extra_float_digits = 1")
        .await
        .unwrap();
    let mut wrong = Vec::new();
    for mode in &MODES {
        let said: Vec<(String, Read)> = kinds.iter().map(|k| (k.said)(mode)).collect();
        let list = said.iter().enumerate().map(|(i, (expression, _))| {
            format!("(SELECT CASE WHEN c IS NULL THEN NULL ELSE {expression} END::text FROM (SELECT v.c{i}) AS one(c))")
        });
        let sql = format!("SELECT {} FROM v ORDER BY id", list.collect::<Vec<_>>().join(", "));
        let answers = oracle.query(&sql, &[]).await.unwrap();
        let properties = [
            ("topic.prefix", "p"),
            ("decimal.handling.mode", mode.decimal),
            ("time.precision.mode", mode.time),
            ("binary.handling.mode", mode.binary),
            ("interval.handling.mode", mode.interval),
            ("hstore.handling.mode", mode.hstore),
            ("key.converter.schemas.enable", "false"),
            ("value.converter.schemas.enable", "false"),
            ("millstream.strict.values", "true"),
        ];
        let mut encoder = Encoder::new(EventOptions::from_properties(properties).unwrap()).unwrap();
        for streamed in [false, true] {
            let plan = match streamed {
                true => encoder.stream_plan(&relation, Some(&table), &types).unwrap(),
                false => encoder.snapshot_plan(&table, &types).unwrap(),
            };
            let mut decoder = CopyDecoder::new();
            for (line, answer) in lines.iter().zip(&answers) {
                let row: Vec<Column<'_>> = decoder.decode(line).unwrap().iter().collect();
                let mut batch = Batch::new();
                encoder.insert(&plan, &row, &SourceInfo::default(), &mut batch).unwrap();
                let event: Value =
                    serde_json::from_slice(batch.iter().next().unwrap().value.unwrap()).unwrap();
                let after = &event["after"];
                for (i, (kind, (_, how))) in kinds.iter().zip(&said).enumerate() {
                    let said: Option<&str> = answer.get(i);
                    let said = said.map_or(Value::Null, |s| serde_json::from_str(s).unwrap());
                    let value =
                        after.get(format!("c{i}")).unwrap_or_else(|| panic!("{} is missing", kind.sql));
                    let (ours, theirs) = read(value, &said, *how);
                    if ours != theirs {
                        wrong.push(format!(
                            "{} (time {}, decimal {}, binary {}, streamed {streamed}): {value}, the server says {said}",
                            kind.sql, mode.time, mode.decimal, mode.binary
                        ));
                    }
                }
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "seed {seed}: {} differ, among them\n{}", wrong.len(), {
        let mut seen = std::collections::HashSet::new();
        wrong.retain(|w| seen.insert(w.split(':').next().unwrap_or("").to_owned()));
        wrong.join("\n")
    });
}

fn relation_of(table: &TableInfo) -> Relation {
    let column = |c: &ColumnInfo| RelationColumn {
        in_identity: c.name == "id",
        name: c.name.clone(),
        type_oid: c.type_oid,
        typmod: c.typmod,
    };
    Relation {
        oid: table.oid,
        schema: table.schema.clone(),
        name: table.name.clone(),
        identity: ReplicaIdentity::Default,
        columns: table.columns.iter().map(column).collect(),
    }
}
