//! Decoding of Debezium's JSON into rows: events with and without their schema, and plain JSON.

#![allow(clippy::expect_used, reason = "a benchmark ends at its first fault")]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use millstream::engine::format::{FormatContext, Input, decoder};
use millstream::engine::plan::{TableColumn, TableRef};
use millstream::engine::types::{DataType, Field, TypeKind};

const COLUMNS: [(&str, TypeKind); 8] = [
    ("id", TypeKind::BigInt),
    ("customer", TypeKind::Int),
    ("status", TypeKind::Varchar(i32::MAX as u32)),
    ("amount", TypeKind::Decimal(12, 2)),
    ("weight", TypeKind::Double),
    ("paid", TypeKind::Boolean),
    ("created", TypeKind::BigInt),
    ("note", TypeKind::Varchar(i32::MAX as u32)),
];

fn row(id: u64) -> String {
    format!(
        r#"{{"id":{id},"customer":{},"status":"SHIPPED","amount":"{}.{:02}","weight":{}.5,"paid":true,"created":1732289951628964,"note":"the parcel was \"left\" at the door"}}"#,
        id % 1000,
        id % 9000,
        id % 100,
        id % 50
    )
}

fn schema() -> String {
    let field = |name: &str| {
        let columns: Vec<String> = COLUMNS
            .iter()
            .map(|(c, _)| format!(r#"{{"type":"string","optional":true,"field":"{c}"}}"#))
            .collect();
        format!(
            r#"{{"type":"struct","fields":[{}],"optional":true,"name":"shop.public.orders.Value","field":"{name}"}}"#,
            columns.join(",")
        )
    };
    let source: Vec<String> =
        (0..14).map(|n| format!(r#"{{"type":"string","optional":true,"field":"f{n}"}}"#)).collect();
    format!(
        r#"{{"type":"struct","fields":[{},{},{{"type":"struct","fields":[{}],"field":"source"}}],"name":"shop.public.orders.Envelope","version":2}}"#,
        field("before"),
        field("after"),
        source.join(",")
    )
}

fn envelope(id: u64) -> String {
    format!(
        r#"{{"before":{},"after":{},"source":{{"version":"3.6.3.Final","connector":"postgresql","name":"shop","ts_ms":1732289951628,"snapshot":"false","db":"shop","sequence":"[\"24023128\",\"24023128\"]","ts_us":1732289951628964,"ts_ns":1732289951628964000,"schema":"public","table":"orders","txId":777,"lsn":24023128,"xmin":null}},"transaction":null,"op":"u","ts_ms":1732289951700,"ts_us":1732289951700123,"ts_ns":1732289951700123456}}"#,
        row(id),
        row(id)
    )
}

fn decode(c: &mut Criterion, name: &str, options: &[(&str, &str)], messages: &[String]) {
    let table = TableRef {
        name: "orders".into(),
        options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        columns: COLUMNS
            .map(|(name, kind)| TableColumn {
                field: Field { name: name.into(), data_type: DataType::new(kind) },
                metadata: None,
            })
            .to_vec(),
        primary_key: vec![0],
    };
    let context = FormatContext::new(&BTreeMap::new()).expect("no options");
    let mut decoder = decoder(&table, &context).expect("a known format");
    let mut group = c.benchmark_group("json_decode");
    let bytes: usize = messages.iter().map(String::len).sum();
    println!("{name}: {} bytes an event", bytes / messages.len());
    group.throughput(Throughput::Elements(messages.len() as u64));
    group.bench_function(name, |b| {
        let mut out = Vec::new();
        b.iter(|| {
            for (offset, message) in (0..).zip(messages) {
                let input = Input {
                    value: Some(message.as_bytes()),
                    key: None,
                    topic: "shop.public.orders",
                    partition: 0,
                    offset,
                    timestamp: 0,
                    leader_epoch: None,
                    headers: &[],
                };
                decoder.decode(&input, &mut out).expect("valid messages");
            }
            black_box(&out);
            out.clear();
        });
    });
    group.finish();
}

fn benches(c: &mut Criterion) {
    let ids = 0..1000u64;
    let envelopes: Vec<String> = ids.clone().map(envelope).collect();
    let schema = schema();
    let with_schema: Vec<String> =
        envelopes.iter().map(|e| format!(r#"{{"schema":{schema},"payload":{e}}}"#)).collect();
    let rows: Vec<String> = ids.map(row).collect();
    let kafka = ("connector", "kafka");
    decode(c, "debezium", &[kafka, ("format", "debezium-json")], &envelopes);
    let include = ("debezium-json.schema-include", "true");
    decode(c, "debezium with schema", &[kafka, ("format", "debezium-json"), include], &with_schema);
    decode(c, "json", &[kafka, ("format", "json")], &rows);
}

criterion_group!(json_decode, benches);
criterion_main!(json_decode);
