//! What encoding an event asks of memory: nothing per row on the plain path, no more than two copies of a large value.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

use millstream::log::Batch;
use millstream::pg::pgoutput::Column;

#[path = "../benches/support/events.rs"]
#[allow(dead_code, reason = "shared with benches/event.rs")]
mod events;

use events::{Counting, counted, encoder, inserts, table, updates_and_deletes};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROWS: u64 = 50;

#[test]
fn rows_as_json_need_no_allocation() {
    for format in ["json", "json-schemas", "json-unwrap", "json-unwrap-rewrite"] {
        for columns in [5, 20, 200] {
            let (info, types, row) = table(columns);
            let mut encoder = encoder(format);
            let plan = encoder.snapshot_plan(&info, &types).unwrap();
            for run in [inserts, updates_and_deletes] {
                let mut batch = Batch::new();
                run(&mut encoder, &plan, &row, ROWS, &mut batch);
                let records = batch.len();
                let ((), counts) = counted(|| run(&mut encoder, &plan, &row, ROWS, &mut batch));
                assert!(records >= ROWS as usize && batch.len() == records);
                assert_eq!(counts.allocations, 0, "{format}, {columns} columns: {counts:?}");
            }
        }
    }
}

/// A chain that looks at neither key nor value asks for a record's list of headers, however wide the row is.
#[test]
fn rows_behind_a_router_need_one_allocation_per_record() {
    for format in ["json-route", "json-unwrap-route"] {
        for columns in [5, 200] {
            let (info, types, row) = table(columns);
            let mut encoder = encoder(format);
            let plan = encoder.snapshot_plan(&info, &types).unwrap();
            for run in [inserts, updates_and_deletes] {
                let mut batch = Batch::new();
                run(&mut encoder, &plan, &row, ROWS, &mut batch);
                assert!(batch.iter().all(|r| r.topic == "lake.public.orders"), "{format}");
                let records = batch.len() as u64;
                let ((), counts) = counted(|| run(&mut encoder, &plan, &row, ROWS, &mut batch));
                assert!(records >= ROWS && counts.allocations <= records, "{format}, {columns}: {counts:?}");
            }
        }
    }
}

#[test]
fn the_counter_counts() {
    let (text, counts) = counted(|| "x".repeat(1000));
    assert_eq!((text.len(), counts.allocations, counts.bytes), (1000, 1, 1000));
    // a record as a whole is not free
    let (info, types, row) = table(5);
    let mut encoder = encoder("avro");
    let plan = encoder.snapshot_plan(&info, &types).unwrap();
    let mut batch = Batch::new();
    inserts(&mut encoder, &plan, &row, ROWS, &mut batch);
    let ((), counts) = counted(|| inserts(&mut encoder, &plan, &row, ROWS, &mut batch));
    assert!((ROWS..ROWS * 40).contains(&counts.allocations), "{counts:?}");
}

/// The copies of a value: the one off the wire, which is there already, and what encoding asks for.
#[test]
fn a_large_text_is_copied_no_more_than_twice() {
    const MIB: usize = 1 << 20;
    let mut text = "a large text with \"quotes\" now and then, ".repeat(MIB / 40);
    text.truncate(MIB);
    for format in ["json", "json-schemas", "json-unwrap", "avro"] {
        let (info, types, mut row) = table(20);
        row[1] = Column::Text(text.as_bytes());
        let mut encoder = encoder(format);
        let plan = encoder.snapshot_plan(&info, &types).unwrap();
        let mut batch = Batch::new();
        let ((), counts) = counted(|| inserts(&mut encoder, &plan, &row, 1, &mut batch));
        assert!(batch.bytes() > MIB, "{format}");
        assert!(counts.bytes < 2 * MIB as u64, "{format}: {counts:?}");
        // the next one finds the memory there
        let ((), counts) = counted(|| inserts(&mut encoder, &plan, &row, 1, &mut batch));
        assert!(counts.bytes < MIB as u64 / 16, "{format}: {counts:?}");
    }
}
