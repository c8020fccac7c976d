//! Event encode: rows of 5, 20 and 200 columns to Debezium records; JSON with and without schemas, Avro bodies,
//! and JSON behind one `ExtractNewRecordState`. Allocations per row are printed before the timings.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream::config::AddressMap;
use millstream::event::record::{Pipeline, Record};
use millstream::event::{Encoder, EventError, EventOptions, SourceInfo, TablePlan, avro};
use millstream::log::Batch;
use millstream::pg::Lsn;
use millstream::pg::catalog::{ColumnInfo, PgType, TableInfo, TypeKind, TypeRegistry};
use millstream::pg::pgoutput::{Column, ReplicaIdentity};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on to the system allocator unchanged; counting has no effect on memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is ours.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's contract is ours.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// OID, name, modifier and a value's text: the types of an ordinary table, in turn.
const TYPES: [(u32, &str, i32, &[u8]); 8] = [
    (23, "int4", -1, b"1234567"),
    (25, "text", -1, b"some text with a \"quote\" in it"),
    (1700, "numeric", (12 << 16 | 2) + 4, b"12345.67"),
    (1114, "timestamp", -1, b"2026-11-22 18:30:00.123456"),
    (1184, "timestamptz", -1, b"2026-11-22 18:30:00.123456+00"),
    (16, "bool", -1, b"t"),
    (20, "int8", -1, b"9223372036854775807"),
    (1082, "date", -1, b"2026-11-22"),
];

fn table(columns: usize) -> (TableInfo, TypeRegistry, Vec<Column<'static>>) {
    let mut types = TypeRegistry::default();
    let mut infos = Vec::new();
    let mut row = Vec::new();
    for n in 0..columns {
        let (oid, name, typmod, text) = TYPES[n % TYPES.len()];
        types.insert(PgType {
            oid,
            schema: "pg_catalog".into(),
            name: name.into(),
            kind: TypeKind::Base,
            delimiter: b',',
        });
        infos.push(ColumnInfo {
            name: format!("column_{n}"),
            attnum: i16::try_from(n + 1).unwrap(),
            type_oid: oid,
            typmod,
            optional: n > 0,
            default_expr: None,
            generated: false,
            identity: false,
            comment: None,
        });
        row.push(Column::Text(text));
    }
    let info = TableInfo {
        oid: 1,
        schema: "public".into(),
        name: "orders".into(),
        columns: infos,
        key: vec!["column_0".into()],
        key_is_primary: true,
        identity: ReplicaIdentity::Default,
    };
    (info, types, row)
}

/// Writes the value's Avro body, as the Avro converter does once a schema has its id.
struct AvroBodies;

impl Pipeline for AvroBodies {
    fn process(&mut self, record: Record<'_>, batch: &mut Batch) -> Result<(), EventError> {
        let topic = batch.topic(&record.topic);
        let mut out = batch.record(topic);
        if let Some(schema) = &record.value_schema {
            out.value(|bytes| avro::write(bytes, schema, &record.value)).expect("the value fits");
        }
        out.finish();
        Ok(())
    }
}

fn encoder(name: &str) -> Encoder {
    let mut properties = vec![("topic.prefix", "bench"), ("database.dbname", "bench")];
    match name {
        "json" => properties
            .extend([("key.converter.schemas.enable", "false"), ("value.converter.schemas.enable", "false")]),
        "json-unwrap" => properties.extend([
            ("key.converter.schemas.enable", "false"),
            ("value.converter.schemas.enable", "false"),
            ("transforms", "unwrap"),
            ("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"),
        ]),
        _ => {}
    }
    let mut options = EventOptions::from_properties(properties.iter().copied()).unwrap();
    options.run_id = "01a2022a-c35a-7763-ba44-784ffeb3969c".into();
    match name {
        "avro" => Encoder::with_pipeline(options, Box::new(AvroBodies)),
        _ => millstream::transform::encoder(options, properties.iter().copied(), &AddressMap::default())
            .unwrap(),
    }
}

fn rows(encoder: &mut Encoder, plan: &TablePlan, row: &[Column<'_>], n: u64, batch: &mut Batch) {
    batch.clear();
    for i in 0..n {
        let source = SourceInfo {
            lsn: Some(Lsn(26_000_000 + i)),
            last_commit_lsn: Some(Lsn(26_000_000)),
            txid: Some(731),
            ts_ns: 1_795_332_687_131_902_000,
            now_ns: 1_795_332_687_332_542_986,
            ..SourceInfo::default()
        };
        encoder.insert(plan, row, &source, batch).expect("the row fits");
    }
}

fn encode(c: &mut Criterion) {
    const ROWS: u64 = 1000;
    for name in ["json", "json-schemas", "json-unwrap", "avro"] {
        let mut group = c.benchmark_group(format!("event/{name}"));
        for columns in [5, 20, 200] {
            let (info, types, row) = table(columns);
            let mut encoder = encoder(name);
            let plan = encoder.snapshot_plan(&info, &types).unwrap();
            let mut batch = Batch::new();
            rows(&mut encoder, &plan, &row, ROWS, &mut batch);
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            rows(&mut encoder, &plan, &row, ROWS, &mut batch);
            let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
            println!(
                "event/{name}/{columns}: {} allocations in {ROWS} rows, {} bytes a row",
                allocations,
                u64::try_from(batch.bytes()).unwrap() / ROWS
            );
            group.throughput(Throughput::Elements(ROWS));
            group.bench_with_input(BenchmarkId::from_parameter(columns), &row, |b, row| {
                b.iter(|| {
                    rows(&mut encoder, &plan, row, ROWS, &mut batch);
                    black_box(batch.bytes())
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, encode);
criterion_main!(benches);
