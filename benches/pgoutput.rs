//! Decoding pgoutput: messages per second and bytes per second, from bytes to borrowed columns.
#![allow(missing_docs, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use millstream::pg::pgoutput::{Message, parse};
use millstream::pg::snapshot::CopyDecoder;

/// An Insert of `columns` text values of `width` bytes.
fn insert(columns: u16, width: usize) -> Vec<u8> {
    let mut bytes = vec![b'I', 0, 0, 64, 0, b'N'];
    bytes.extend_from_slice(&columns.to_be_bytes());
    for i in 0..columns {
        if i % 7 == 6 {
            bytes.push(b'n');
            continue;
        }
        bytes.push(b't');
        bytes.extend_from_slice(&u32::try_from(width).unwrap_or(u32::MAX).to_be_bytes());
        bytes.extend(std::iter::repeat_n(b'x', width));
    }
    bytes
}

fn columns(message: &Message<'_>) -> usize {
    match message {
        Message::Insert { new, .. } => new.iter().map(|c| usize::from(black_box(c) != c)).sum(),
        _ => 0,
    }
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("pgoutput");
    for (name, count, width) in
        [("4 columns", 4, 8), ("10 columns", 10, 12), ("40 columns", 40, 12), ("large text", 4, 4000)]
    {
        let bytes = insert(count, width);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("insert, {name}"), |b| {
            b.iter(|| match parse(black_box(&bytes), false) {
                Ok(message) => columns(&message),
                Err(_) => 0,
            });
        });
    }
    group.finish();

    let mut group = c.benchmark_group("copy");
    for (name, line) in [
        (
            "plain",
            "4711\tOnline Diecast Creations Co.\tNashua\tNH\tUSA\t114200.00\t2026-01-01 10:00:00\t\\N\t17\tt",
        ),
        (
            "escaped",
            "4711\tOnline\\tDiecast\\\\Creations\\nCo.\tNashua\tNH\tUSA\t114200.00\t2026-01-01\t\\N\t17\tt",
        ),
    ] {
        group.throughput(Throughput::Bytes(line.len() as u64));
        let mut decoder = CopyDecoder::new();
        group.bench_function(format!("row, 10 columns, {name}"), |b| {
            b.iter(|| decoder.decode(black_box(line.as_bytes())).map_or(0, |row| row.iter().count()));
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
