//! The PostgreSQL sink beside a plain `COPY` of the same rows into the same table.
#![allow(missing_docs, clippy::panic, reason = "a benchmark")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::SinkExt as _;
use millstream::config::AddressMap;
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::engine::plan::{TableColumn, TableRef};
use millstream::engine::row::{Change, RowKind, Value};
use millstream::engine::types::{DataType, Field, TypeKind};
use millstream::pg::ConnectConfig;
use millstream::sink::postgres::PostgresSink;
use millstream::sink::{Fence, Output, Sink as _, SinkId};

type Failure = Box<dyn std::error::Error>;

fn table(url: &str) -> TableRef {
    let column = |name: &str, data_type: DataType| TableColumn {
        field: Field { name: name.to_owned(), data_type },
        metadata: None,
    };
    TableRef {
        name: "target".to_owned(),
        options: [("connector", "jdbc"), ("url", url), ("table-name", "target")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        columns: vec![
            column("id", DataType::not_null(TypeKind::BigInt)),
            column("n", DataType::new(TypeKind::BigInt)),
            column("s", DataType::string()),
            column("d", DataType::new(TypeKind::Double)),
        ],
        primary_key: vec![0],
    }
}

fn rows(first: i64, count: i64, version: i64) -> Output {
    let change = |id: i64| {
        let row = vec![
            Value::Int(id),
            Value::Int(id * 7 + version),
            Value::str("a text of thirty-seven bytes, or near"),
            Value::Double(id as f64 / 3.0),
        ];
        Change::new(RowKind::UpdateAfter, row)
    };
    Output { changes: (first..first + count).map(change).collect() }
}

fn copy_text(first: i64, count: i64) -> String {
    let mut text = String::new();
    for id in first..first + count {
        let _ =
            writeln!(text, "{id}\t{}\ta text of thirty-seven bytes, or near\t{}", id * 7, id as f64 / 3.0);
    }
    text
}

/// Runs `epochs` epochs through the sink and returns the time of the writes alone.
async fn write(
    server: &TemporaryPostgres,
    size: i64,
    epochs: u64,
    update: bool,
) -> Result<Duration, Failure> {
    let url = server.url("postgres");
    server.psql("postgres", "drop table if exists target; drop table if exists millstream_epoch")?;
    let id = SinkId { pipeline: "bench".to_owned(), sink: "target".to_owned() };
    let mut sink = PostgresSink::new(&table(&url), id, AddressMap::default())?;
    sink.fence().await?;
    sink.claim(None, &Fence { epoch: 0, writer: "w".to_owned() }).await?;
    let mut epoch = 0;
    if update {
        epoch = 1;
        sink.write(epoch, &rows(0, size, 0)).await?;
    }
    let mut spent = Duration::ZERO;
    for i in 0..epochs {
        let step = i64::try_from(i)?;
        let output = if update { rows(0, size, step + 1) } else { rows(step * size, size, 0) };
        epoch += 1;
        let start = Instant::now();
        sink.write(epoch, &output).await?;
        spent += start.elapsed();
    }
    Ok(spent)
}

async fn copy(server: &TemporaryPostgres, size: i64, times: u64) -> Result<Duration, Failure> {
    let client = millstream::pg::connect(&ConnectConfig::from_url(&server.url("postgres"))?).await?;
    client
        .batch_execute("drop table if exists target; create table target(id bigint primary key, n bigint, s text, d float8)")
        .await?;
    let mut spent = Duration::ZERO;
    for i in 0..times {
        let text = copy_text(i64::try_from(i)? * size, size);
        let start = Instant::now();
        let mut copy = Box::pin(client.copy_in("copy target from stdin").await?);
        copy.send(bytes::Bytes::from(text)).await?;
        copy.as_mut().finish().await?;
        spent += start.elapsed();
    }
    Ok(spent)
}

fn sink(c: &mut Criterion) {
    let Ok(server) = TemporaryPostgres::start(&PostgresOptions::default()) else {
        eprintln!("sink: no PostgreSQL server here, skipped");
        return;
    };
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
    else {
        return;
    };
    let mut group = c.benchmark_group("sink");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    let run = |result: Result<Duration, Failure>| result.unwrap_or_else(|e| panic!("{e}"));
    for size in [100, 1_000, 10_000] {
        group.throughput(Throughput::Elements(u64::try_from(size).unwrap_or(0)));
        group.bench_function(BenchmarkId::new("insert, rows an epoch", size), |b| {
            b.iter_custom(|n| run(runtime.block_on(write(&server, size, n, false))));
        });
        group.bench_function(BenchmarkId::new("update, rows an epoch", size), |b| {
            b.iter_custom(|n| run(runtime.block_on(write(&server, size, n, true))));
        });
        group.bench_function(BenchmarkId::new("plain COPY, rows", size), |b| {
            b.iter_custom(|n| run(runtime.block_on(copy(&server, size, n))));
        });
    }
    group.finish();
}

criterion_group!(benches, sink);
criterion_main!(benches);
