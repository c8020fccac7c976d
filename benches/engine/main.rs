//! Queries through planner, operators and state on disk, without topics: events a second, the most memory, the
//! state's size, allocations a row, and what these are beside the first query's.
//!
//! `cargo bench --bench engine [-- --events N] [--threads N] [--state MIB] [WORD]`; `WORD` takes the queries whose
//! names hold it. With `--state` a join's state of that size is built, closed and opened again instead.

#![allow(clippy::panic, clippy::print_stdout, reason = "a benchmark prints, and ends at its first fault")]

use std::alloc::{GlobalAlloc, Layout};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use millstream::engine::graph::{Environment, Graph, NoLookup, Output, SystemClock};
use millstream::engine::plan::{NodeId, Op, Plan};
use millstream::engine::row::{Change, RowKind, Value};
use millstream::sql::compile;
use millstream::state::store::StoreOptions;
use millstream::state::{Head, Store};
use mimalloc::MiMalloc;

mod large;
mod nexmark;

use nexmark::{Generator, Table};

/// The allocator of the product, counted.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);
static MOST: AtomicI64 = AtomicI64::new(0);

fn count(bytes: i64) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    if live > MOST.load(Ordering::Relaxed) {
        MOST.store(live, Ordering::Relaxed);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

// SAFETY: every call goes to the allocator of the product unchanged; only counters are added.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        count(signed(layout.size()));
        // SAFETY: the caller's contract is passed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: the caller's contract is passed on.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        count(signed(size) - signed(layout.size()));
        // SAFETY: the caller's contract is passed on.
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Rows that go through the graph at once, and rows of an epoch.
const CHUNK: usize = 1024;
const EPOCH: usize = 64 * CHUNK;

#[derive(Default)]
struct Count(u64);

impl Output for Count {
    fn rows(&mut self, _sink: NodeId, rows: &mut Vec<Change>) {
        self.0 += rows.len() as u64;
        rows.clear();
    }
}

/// A query and the tables that it reads.
struct Bench {
    name: String,
    sql: String,
    input: Input,
}

/// What is fed.
#[derive(Clone, Copy)]
enum Input {
    Nexmark,
    /// Rows of a keyed table: inserts, then updates (`-U`, `+U`) of random keys; half of the rows to each source.
    Changes,
}

const KEYED: &str = "
CREATE TABLE t (id BIGINT, k BIGINT, v BIGINT, name STRING, PRIMARY KEY (id) NOT ENFORCED)
  WITH ('connector'='filesystem', 'path'='t', 'format'='debezium-json');
CREATE TABLE u (id BIGINT, k BIGINT, v BIGINT, name STRING, PRIMARY KEY (id) NOT ENFORCED)
  WITH ('connector'='filesystem', 'path'='u', 'format'='debezium-json');
";

fn benches() -> Vec<Bench> {
    let script = |tables: &str, query: &str| {
        format!("SET 'table.exec.sink.upsert-materialize' = 'NONE';\n{tables}\n{query};")
    };
    let keyed = |name: &str, query: &str| Bench {
        name: name.to_owned(),
        sql: script(KEYED, query),
        input: Input::Changes,
    };
    let of_bids = |name: &str, query: &str| Bench {
        name: name.to_owned(),
        sql: script(nexmark::TABLES, query),
        input: Input::Nexmark,
    };
    let mut all = vec![
        of_bids("filter and projection", "SELECT auction, price * 2, channel FROM bid WHERE price > 100000"),
        keyed("aggregate with retraction", "SELECT k, COUNT(*), SUM(v), AVG(v), MAX(v) FROM t GROUP BY k"),
        keyed("join of two tables", "SELECT t.id, t.name, u.name FROM t JOIN u ON t.id = u.id"),
        of_bids(
            "tumbling window",
            "SELECT auction, window_start, COUNT(*), MAX(price)
             FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND))
             GROUP BY auction, window_start, window_end",
        ),
    ];
    // By channel few rows come out whatever the ratio: what is left is the cost of a row. By auction every window gives
    // one for each of its auctions, of which a longer window has more.
    for (key, ratio) in
        ["channel", "auction"].into_iter().flat_map(|key| [1, 5, 20, 60].map(|ratio| (key, ratio)))
    {
        let query = format!(
            "SELECT {key}, window_start, COUNT(*), MAX(price)
             FROM TABLE(HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '1' SECOND, INTERVAL '{ratio}' SECOND))
             GROUP BY {key}, window_start, window_end"
        );
        all.push(of_bids(&format!("hopping by {key}, size/slide {ratio}"), &query));
    }
    all.extend(nexmark::QUERIES.iter().map(|(name, query)| of_bids(name, query)));
    all
}

/// Makes the next rows of the tables that a query reads.
struct Feed {
    input: Input,
    generator: Generator,
    /// Per table the columns that are read of it.
    columns: [Vec<String>; 3],
    random: u64,
    rows: Vec<Vec<Option<[i64; 2]>>>,
}

/// A reader of a table: its place among the tables, and its columns among those that are made.
struct Reader {
    node: NodeId,
    table: usize,
    columns: Vec<usize>,
    batch: Vec<Change>,
}

const KEYS: u64 = 100_000;

impl Feed {
    fn new(input: Input, plan: &Plan) -> (Self, Vec<Reader>) {
        let tables = match input {
            Input::Nexmark => ["person", "auction", "bid"],
            Input::Changes => ["t", "u", ""],
        };
        let mut columns: [Vec<String>; 3] = Default::default();
        let mut readers = Vec::new();
        for (node, source) in plan.nodes.iter().enumerate() {
            let Op::Source(of) = &source.op else { continue };
            let Some(table) = tables.iter().position(|table| of.name == *table) else { continue };
            let made = &mut columns[table];
            let mut place = |name: &String| {
                made.iter().position(|known| known == name).unwrap_or_else(|| {
                    made.push(name.clone());
                    made.len() - 1
                })
            };
            let columns = source.schema.iter().map(|field| place(&field.name)).collect();
            readers.push(Reader { node, table, columns, batch: Vec::new() });
        }
        let feed = Self {
            input,
            generator: Generator::new(),
            columns,
            random: 88_172_645_463_325_252,
            rows: vec![vec![None; usize::try_from(KEYS).unwrap_or_default()]; 2],
        };
        (feed, readers)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    /// One event: a row, or the two of an update. The number of the source counts from 0.
    fn event(&mut self, out: &mut [Vec<Change>; 3]) {
        match self.input {
            Input::Nexmark => {
                let (table, change) = self.generator.next(&self.columns);
                let at = match table {
                    Table::Person => 0,
                    Table::Auction => 1,
                    Table::Bid => 2,
                };
                if let Some(rows) = out.get_mut(at).filter(|_| !self.columns[at].is_empty()) {
                    rows.push(change);
                }
            }
            Input::Changes => {
                let second = !self.columns[1].is_empty() && self.below(2) == 1;
                let side = usize::from(second);
                let id = self.below(KEYS);
                let new = [0, 0].map(|_| i64::try_from(self.below(1000)).unwrap_or_default());
                let at = usize::try_from(id).unwrap_or_default();
                let old =
                    self.rows.get_mut(side).and_then(|rows| rows.get_mut(at)).and_then(|r| r.replace(new));
                let id = i64::try_from(id).unwrap_or_default();
                let row = |[k, v]: [i64; 2]| -> Vec<Value> {
                    let column = |name: &String| match name.as_str() {
                        "id" => Value::Int(id),
                        "k" => Value::Int(k),
                        "v" => Value::Int(v),
                        _ => Value::str("a text of usual length"),
                    };
                    self.columns[side].iter().map(column).collect()
                };
                let rows = &mut out[side];
                match old {
                    None => rows.push(Change::new(RowKind::Insert, row(new))),
                    Some(old) => {
                        rows.push(Change::new(RowKind::UpdateBefore, row(old)));
                        rows.push(Change::new(RowKind::UpdateAfter, row(new)));
                    }
                }
            }
        }
    }
}

/// Time on a processor since the start, of this thread and of the whole process. On a machine with other things to
/// do it says more than the clock.
fn processor() -> (std::time::Duration, std::time::Duration) {
    let thread = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = thread.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let process = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, in hundredths of a second: user and system time are fields 14 and 15.
    let fields = process.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11);
    let ticks: u64 = fields.take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    (std::time::Duration::from_nanos(nanos), std::time::Duration::from_millis(ticks * 10))
}

struct Result {
    rate: f64,
    memory: f64,
}

fn run(
    bench: &Bench,
    events: usize,
    threads: usize,
    first: Option<&Result>,
) -> std::result::Result<Result, String> {
    let sql = format!("SET 'parallelism.default' = '{threads}';\n{}", bench.sql);
    let script = compile(&sql).map_err(|error| error.to_string())?;
    let plan = script.plan;
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let options = StoreOptions { durable: false, ..StoreOptions::default() };
    let mut store = Store::open(dir.path(), options).map_err(|error| error.to_string())?;
    let environment = Environment { clock: Arc::new(SystemClock), lookup: &mut NoLookup };
    let mut graph = Graph::build(&plan, &mut store, environment).map_err(|error| error.to_string())?;
    let (mut feed, mut readers) = Feed::new(bench.input, &plan);
    let mut out = Count::default();
    graph.start(&mut out).map_err(|error| error.to_string())?;
    let mut batches: [Vec<Change>; 3] = Default::default();
    let (mut rows, mut allocations) = (0_u64, 0_u64);
    let (mut busy, mut own) = (std::time::Duration::ZERO, std::time::Duration::ZERO);
    let before_all = processor();
    let before = LIVE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let (mut left, mut of_epoch) = (events, 0);
    while left > 0 {
        let chunk = left.min(CHUNK);
        (0..chunk).for_each(|_| feed.event(&mut batches));
        left -= chunk;
        of_epoch += chunk;
        for reader in &mut readers {
            let Reader { table, columns, batch, .. } = reader;
            let project = |change: &Change| Change {
                kind: change.kind,
                row: columns.iter().map(|&column| change.row[column].clone()).collect(),
            };
            batch.extend(batches[*table].iter().map(project));
        }
        // What the generator costs is not counted.
        let (counted, (on_processor, _)) = (ALLOCATIONS.load(Ordering::Relaxed), processor());
        let started = Instant::now();
        for reader in &mut readers {
            rows += reader.batch.len() as u64;
            graph.push(reader.node, &mut reader.batch, &mut out).map_err(|error| error.to_string())?;
        }
        if of_epoch >= EPOCH || left == 0 {
            of_epoch = 0;
            graph.flush().map_err(|error| error.to_string())?;
            let head = Head { epoch: store.head().epoch + 1, ..store.head().clone() };
            store.commit(head, &[]).map_err(|error| error.to_string())?;
        }
        busy += started.elapsed();
        own += processor().0 - on_processor;
        batches.iter_mut().for_each(Vec::clear);
        allocations += ALLOCATIONS.load(Ordering::Relaxed) - counted;
    }
    let memory = (MOST.load(Ordering::Relaxed) - before).max(0) as f64 / f64::from(1 << 20);
    let state = store.disk_bytes() as f64 / f64::from(1 << 20);
    let rate = events as f64 / busy.as_secs_f64();
    let after_all = processor();
    let others = (after_all.1 - before_all.1).saturating_sub(after_all.0 - before_all.0);
    let per_processor = events as f64 / (own + others).as_secs_f64();
    let (of_rate, of_memory) =
        first.map_or((1.0, 1.0), |first| (rate / first.rate, memory / first.memory.max(0.1)));
    println!(
        "{:<32} {:>10.0} events/s {of_rate:>6.2}x, {per_processor:>10.0} a CPU s | {memory:>7.1} MiB {of_memory:>6.1}x | state {state:>6.1} MiB | \
         {:>5.1} allocations a row | {} rows out",
        bench.name,
        rate,
        allocations as f64 / rows.max(1) as f64,
        out.0,
    );
    Ok(Result { rate, memory })
}

fn main() {
    let (mut events, mut threads, mut state) = (2_000_000, 1, 0);
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--events" => events = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(events),
            "--threads" => threads = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(threads),
            "--state" => state = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1024),
            "--bench" => {}
            word => words.push(word.to_owned()),
        }
    }
    if state > 0 {
        return large::run(state).unwrap_or_else(|error| println!("the large state failed: {error}"));
    }
    println!(
        "{events} events a query, keyed operators on {threads} threads; memory is what the query has allocated at most, besides the generator"
    );
    let mut first = None;
    for bench in benches() {
        if !words.is_empty() && !words.iter().any(|word| bench.name.contains(word.as_str())) {
            continue;
        }
        match run(&bench, events, threads, first.as_ref()) {
            Ok(result) => {
                first.get_or_insert(result);
            }
            Err(error) => println!("{:<32} cannot run: {error}", bench.name),
        }
    }
}
