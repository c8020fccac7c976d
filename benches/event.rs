//! Event encode: rows of 5, 20 and 200 columns to Debezium records; JSON with and without schemas, Avro bodies,
//! and JSON behind one `ExtractNewRecordState`. Rows and bytes per second and allocations per row are printed side by
//! side before the timings.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream::log::Batch;

#[path = "support/events.rs"]
#[allow(dead_code, reason = "shared with tests/allocations.rs")]
mod events;

use events::{Counting, FORMATS, counted, encoder, inserts, table};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROWS: u64 = 1000;
const COLUMNS: [usize; 3] = [5, 20, 200];

/// All formats over the same rows in one run.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn side_by_side() {
    println!(
        "{:<22}{:>8}{:>12}{:>12}{:>12}{:>18}",
        "format", "columns", "rows/s", "MB/s", "bytes/row", "allocations/row"
    );
    for columns in COLUMNS {
        for format in FORMATS {
            let (info, types, row) = table(columns);
            let mut encoder = encoder(format);
            let plan = encoder.snapshot_plan(&info, &types).unwrap();
            let mut batch = Batch::new();
            inserts(&mut encoder, &plan, &row, ROWS, &mut batch);
            let ((), counts) = counted(|| inserts(&mut encoder, &plan, &row, ROWS, &mut batch));
            let bytes = batch.bytes() as f64 / ROWS as f64;
            let (begun, mut rows) = (Instant::now(), 0u64);
            while begun.elapsed() < Duration::from_millis(700) {
                inserts(&mut encoder, &plan, &row, ROWS, &mut batch);
                rows += ROWS;
            }
            let rate = rows as f64 / begun.elapsed().as_secs_f64();
            println!(
                "{format:<22}{columns:>8}{rate:>12.0}{:>12.0}{bytes:>12.0}{:>18.2}",
                rate * bytes / 1e6,
                counts.allocations as f64 / ROWS as f64
            );
        }
    }
}

fn encode(c: &mut Criterion) {
    side_by_side();
    for format in FORMATS {
        let mut group = c.benchmark_group(format!("event/{format}"));
        for columns in COLUMNS {
            let (info, types, row) = table(columns);
            let mut encoder = encoder(format);
            let plan = encoder.snapshot_plan(&info, &types).unwrap();
            let mut batch = Batch::new();
            group.throughput(Throughput::Elements(ROWS));
            group.bench_with_input(BenchmarkId::from_parameter(columns), &row, |b, row| {
                b.iter(|| {
                    inserts(&mut encoder, &plan, row, ROWS, &mut batch);
                    black_box(batch.bytes())
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, encode);
criterion_main!(benches);
