//! Records of a topic as they may come: every format's decoder gives rows, an error, or nothing, never a panic.
//!
//! The first byte picks the format; the rest is the record's value and, for the key, the value once more.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use millstream::engine::format::{Decoder, FormatContext, Input, decoder};
use millstream::engine::plan::Op;
use millstream::sql::compile;

const COLUMNS: &str = "id BIGINT, name STRING, amount DECIMAL(12, 2), ts TIMESTAMP(3), seen TIMESTAMP_LTZ(3), d DATE, \
    t TIME, f DOUBLE, flag BOOLEAN, b BYTES, tags ARRAY<STRING>, m MAP<STRING, INT>, r ROW<x INT, y ARRAY<INT>>";

const FORMATS: [&str; 6] = [
    "'format' = 'debezium-json'",
    "'format' = 'debezium-json', 'debezium-json.schema-include' = 'true'",
    "'format' = 'json'",
    "'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601', 'json.ignore-parse-errors' = 'true'",
    "'format' = 'csv', 'csv.allow-comments' = 'true', 'csv.null-literal' = 'null'",
    "'format' = 'raw'",
];

fn decoders() -> Vec<Box<dyn Decoder>> {
    let context = FormatContext::new(&Default::default()).expect("UTC is known");
    FORMATS
        .iter()
        .map(|format| {
            let columns = match *format {
                "'format' = 'raw'" => "line STRING",
                csv if csv.contains("'csv'") => "id BIGINT, name STRING, amount DECIMAL(12, 2), ts TIMESTAMP(3), f DOUBLE",
                _ => COLUMNS,
            };
            let script = format!(
                "CREATE TABLE t ({columns}) WITH ('connector' = 'kafka', 'topic' = 't', \
                 'properties.bootstrap.servers' = 'x:1', {format}); SELECT * FROM t;"
            );
            let script = compile(&script).expect("the script is right");
            let table = script.plan.nodes.iter().find_map(|node| match &node.op {
                Op::Source(table) => Some(table),
                _ => None,
            });
            decoder(table.expect("there is a source"), &context).expect("the format is known")
        })
        .collect()
}

thread_local! {
    static DECODERS: RefCell<Vec<Box<dyn Decoder>>> = RefCell::new(decoders());
}

fuzz_target!(|bytes: &[u8]| {
    let [format, value @ ..] = bytes else { return };
    DECODERS.with_borrow_mut(|decoders| {
        let format = usize::from(*format) % decoders.len();
        let input = Input {
            value: Some(value),
            key: Some(value),
            topic: "t",
            partition: 0,
            offset: 0,
            timestamp: 0,
            leader_epoch: None,
headers: &[],
        };
        let mut rows = Vec::new();
        if decoders[format].decode(&input, &mut rows).is_err() {
            assert!(rows.is_empty(), "an error leaves nothing behind");
        }
    });
});
