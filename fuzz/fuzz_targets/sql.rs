//! Any text as a script: parser, binder and planner give a plan or an error with a place, never a panic.
//!
//! Tables stand before the text, so that what is bound is more than errors about missing names.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream::sql::compile;

const TABLES: &str = "
CREATE TABLE a (id BIGINT, name STRING, amount DECIMAL(12, 2), ts TIMESTAMP(3), d DATE, tags ARRAY<STRING>,
    m MAP<STRING, INT>, r ROW<x INT, y STRING>, p AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
    PRIMARY KEY (id) NOT ENFORCED)
WITH ('connector' = 'kafka', 'topic' = 'a', 'properties.bootstrap.servers' = 'x:1', 'format' = 'debezium-json');
CREATE TABLE b (id BIGINT, k STRING, v DOUBLE, flag BOOLEAN, seen TIMESTAMP_LTZ(3), t TIME)
WITH ('connector' = 'kafka', 'topic' = 'b', 'properties.bootstrap.servers' = 'x:1', 'format' = 'json');
CREATE TABLE s (id BIGINT, v STRING, PRIMARY KEY (id) NOT ENFORCED)
WITH ('connector' = 'upsert-kafka', 'topic' = 's', 'properties.bootstrap.servers' = 'x:1',
    'key.format' = 'json', 'value.format' = 'json');
";

fuzz_target!(init: {
    compile(&format!("{TABLES} SELECT a.id, b.v FROM a JOIN b ON a.id = b.id;"))
        .expect("the tables are right, or nothing behind them is reached");
}, |bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(error) = compile(text) {
        std::hint::black_box(error.render(text, "fuzz.sql"));
    }
    let script = format!("{TABLES}{text}");
    if let Err(error) = compile(&script) {
        std::hint::black_box(error.render(&script, "fuzz.sql"));
    }
});
