//! What encoding an event asks of memory: nothing per row on the plain path, no more than two copies of a large value.
//! And what a join holds: not more than its share, however many rows its state has.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

use std::sync::Arc;

use millstream::engine::graph::{Environment, Graph, NoLookup, Output, SystemClock};
use millstream::engine::plan::{NodeId, Op};
use millstream::engine::row::{Change, RowKind, Value};
use millstream::log::Batch;
use millstream::pg::pgoutput::Column;
use millstream::sql::compile;
use millstream::state::store::StoreOptions;
use millstream::state::{Head, Store};

#[path = "../benches/support/events.rs"]
#[allow(dead_code, reason = "shared with benches/event.rs")]
mod events;

use events::{Counting, counted, encoder, inserts, most_held, not_held, table, updates_and_deletes};

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

/// Pairs that came out.
#[derive(Default)]
struct Pairs(usize);

impl Output for Pairs {
    fn rows(&mut self, _sink: NodeId, rows: &mut Vec<Change>) {
        self.0 += rows.len();
        rows.clear();
    }
}

/// All rows of an input without a join key have the same one: more than memory may hold.
#[test]
fn a_join_without_a_key_holds_a_part_of_its_rows() {
    const MIB: i64 = 1 << 20;
    const TEXT: usize = 8 << 10;
    const STORED: i64 = 240;
    let sql = "
        CREATE TABLE t (id BIGINT, v BIGINT, name STRING, PRIMARY KEY (id) NOT ENFORCED)
          WITH ('connector'='filesystem', 'path'='t', 'format'='debezium-json');
        CREATE TABLE u (id BIGINT, v BIGINT, name STRING, PRIMARY KEY (id) NOT ENFORCED)
          WITH ('connector'='filesystem', 'path'='u', 'format'='debezium-json');
        SELECT t.id, t.name, u.id FROM t JOIN u ON t.v > u.v;";
    let plan = compile(sql).unwrap().plan;
    let source = |name: &str| {
        let is_source = |op: &Op| matches!(op, Op::Source(table) if table.name == name);
        plan.nodes.iter().position(|node| is_source(&node.op)).unwrap()
    };
    let (t, u) = (source("t"), source("u"));
    let row = |source: NodeId, kind: RowKind, id: i64| {
        let value = |field: &str| match field {
            "name" if source == t => Value::str(&format!("{id:08}").repeat(TEXT / 8)),
            "name" => Value::str("u"),
            _ => Value::Int(id),
        };
        let columns = plan.nodes[source].schema.iter().map(|field| value(&field.name)).collect();
        Change::new(kind, columns)
    };
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions { durable: false, ..StoreOptions::default() };
    let mut store = Store::open(directory.path(), options).unwrap();
    let environment = Environment { clock: Arc::new(SystemClock), lookup: &mut NoLookup };
    let mut graph = Graph::build(&plan, &mut store, environment).unwrap();
    let mut pairs = Pairs::default();
    graph.start(&mut pairs).unwrap();
    let rows = STORED * MIB / TEXT as i64;
    let ((), most) = most_held(|| {
        for id in 0..rows {
            graph.push(t, &mut vec![row(t, RowKind::Insert, id)], &mut pairs).unwrap();
            if id % 1000 == 999 || id == rows - 1 {
                graph.flush().unwrap();
                let head = Head { epoch: store.head().epoch + 1, ..store.head().clone() };
                not_held(|| store.commit(head, &[])).unwrap();
            }
        }
        assert_eq!(pairs.0, 0);
        // It meets half of them.
        graph.push(u, &mut vec![row(u, RowKind::Insert, rows / 2 - 1)], &mut pairs).unwrap();
        assert_eq!(pairs.0, usize::try_from(rows / 2).unwrap());
        // And goes; so does one of the others.
        graph.push(u, &mut vec![row(u, RowKind::Delete, rows / 2 - 1)], &mut pairs).unwrap();
        graph.push(t, &mut vec![row(t, RowKind::Delete, rows - 1)], &mut pairs).unwrap();
        assert_eq!(pairs.0, usize::try_from(rows).unwrap());
        graph.flush().unwrap();
    });
    assert!(most < STORED / 3 * 2 * MIB, "{} MiB of {STORED} were in memory", most / MIB);
}
