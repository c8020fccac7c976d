//! Rows, encoders and an allocator that counts, for the benchmark of events and the test of their allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use millstream::config::AddressMap;
use millstream::event::encoder::OldRow;
use millstream::event::record::{Pipeline, Record};
use millstream::event::{Encoder, EventError, EventOptions, SourceInfo, TablePlan, avro};
use millstream::log::Batch;
use millstream::pg::Lsn;
use millstream::pg::catalog::{ColumnInfo, PgType, TableInfo, TypeKind, TypeRegistry};
use millstream::pg::pgoutput::{Column, ReplicaIdentity};

/// The system's allocator; counts what each thread asks for.
pub struct Counting;

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { allocations: 0, bytes: 0 }) };
    /// Bytes that it holds, and the most so far.
    static HELD: Cell<(i64, i64)> = const { Cell::new((0, 0)) };
}

/// Allocations (growing counts, too) and bytes asked for.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    pub allocations: u64,
    pub bytes: u64,
}

fn count(bytes: usize) {
    // a thread that is ending has no counts any more
    let _ = COUNTS.try_with(|counts| {
        let Counts { allocations, bytes: before } = counts.get();
        counts.set(Counts { allocations: allocations + 1, bytes: before + bytes as u64 });
    });
}

fn hold(bytes: usize, sign: i64) {
    let _ = HELD.try_with(|held| {
        let (now, most) = held.get();
        let now = now + sign * bytes as i64;
        held.set((now, most.max(now)));
    });
}

// SAFETY: every call is passed on to the system allocator unchanged; counting has no effect on memory, and its
// thread-local needs neither allocation nor destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        hold(layout.size(), 1);
        // SAFETY: the caller's contract is ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        hold(layout.size(), -1);
        // SAFETY: the caller's contract is ours.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        hold(size, 1);
        hold(layout.size(), -1);
        // SAFETY: the caller's contract is ours.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

/// What this thread asked for while it did something.
pub fn counted<R>(run: impl FnOnce() -> R) -> (R, Counts) {
    let before = COUNTS.with(Cell::get);
    let result = run();
    let after = COUNTS.with(Cell::get);
    let counts =
        Counts { allocations: after.allocations - before.allocations, bytes: after.bytes - before.bytes };
    (result, counts)
}

/// The most bytes that this thread held, besides those from before, while it did something.
pub fn most_held<R>(run: impl FnOnce() -> R) -> (R, i64) {
    HELD.with(|held| held.set((0, 0)));
    let result = run();
    (result, HELD.with(Cell::get).1)
}

/// Does something that does not count for [`most_held`]: other threads free what it allocates.
pub fn not_held<R>(run: impl FnOnce() -> R) -> R {
    let before = HELD.with(Cell::get);
    let result = run();
    HELD.with(|held| held.set(before));
    result
}

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

/// A table of so many columns, and a row of it.
pub fn table(columns: usize) -> (TableInfo, TypeRegistry, Vec<Column<'static>>) {
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

/// The formats: JSON with and without schemas, behind one `ExtractNewRecordState` (as it is, and with more fields), and
/// Avro bodies.
pub const FORMATS: [&str; 5] = ["json", "json-schemas", "json-unwrap", "json-unwrap-rewrite", "avro"];

/// The encoder of a format.
pub fn encoder(format: &str) -> Encoder {
    let mut properties = vec![("topic.prefix", "bench"), ("database.dbname", "bench")];
    if matches!(format, "json" | "json-unwrap") {
        properties
            .extend([("key.converter.schemas.enable", "false"), ("value.converter.schemas.enable", "false")]);
    }
    if format.starts_with("json-unwrap") {
        properties.push(("transforms.unwrap.type", "io.debezium.transforms.ExtractNewRecordState"));
        if format != "json-unwrap-route" {
            properties.push(("transforms", "unwrap"));
        }
    }
    if let Some(transforms) = match format {
        "json-route" => Some("route"),
        "json-unwrap-route" => Some("unwrap,route"),
        _ => None,
    } {
        properties.extend([
            ("transforms", transforms),
            ("transforms.route.type", "org.apache.kafka.connect.transforms.RegexRouter"),
            ("transforms.route.regex", "bench\\.(.*)"),
            ("transforms.route.replacement", "lake.$1"),
        ]);
    }
    if format == "json-unwrap-rewrite" {
        properties.extend([
            ("transforms.unwrap.delete.tombstone.handling.mode", "rewrite"),
            ("transforms.unwrap.add.fields", "op,table,lsn,source.ts_ms,txId"),
            ("transforms.unwrap.add.headers", "db,op"),
        ]);
    }
    let mut options = EventOptions::from_properties(properties.iter().copied()).expect("they are right");
    options.run_id = "01a2022a-c35a-7763-ba44-784ffeb3969c".into();
    match format {
        "avro" => Encoder::with_pipeline(options, Box::new(AvroBodies)),
        _ => millstream::transform::encoder(options, properties.iter().copied(), &AddressMap::default())
            .expect("they are right"),
    }
}

fn source(i: u64) -> SourceInfo<'static> {
    SourceInfo {
        lsn: Some(Lsn(26_000_000 + i)),
        last_commit_lsn: Some(Lsn(26_000_000)),
        txid: Some(731),
        ts_ns: 1_795_332_687_131_902_000,
        now_ns: 1_795_332_687_332_542_986,
        ..SourceInfo::default()
    }
}

/// Inserts a row `n` times into an emptied batch.
pub fn inserts(encoder: &mut Encoder, plan: &TablePlan, row: &[Column<'_>], n: u64, batch: &mut Batch) {
    batch.clear();
    for i in 0..n {
        encoder.insert(plan, row, &source(i), batch).expect("the row fits");
    }
}

/// Changes and deletes a row `n` times, in an emptied batch.
pub fn updates_and_deletes(
    encoder: &mut Encoder,
    plan: &TablePlan,
    row: &[Column<'_>],
    n: u64,
    batch: &mut Batch,
) {
    batch.clear();
    for i in 0..n {
        encoder.update(plan, Some(OldRow::Full(row)), row, &source(i), batch).expect("the row fits");
        encoder.delete(plan, OldRow::Full(row), &source(i), batch).expect("the row fits");
    }
}
