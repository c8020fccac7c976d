//! State larger than its caches: how fast it grows, what it takes in memory, how long a restart takes.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream::engine::graph::{Environment, Graph, NoLookup, SystemClock};
use millstream::engine::plan::{Op, Plan};
use millstream::engine::row::{Change, RowKind, Value};
use millstream::sql::compile;
use millstream::state::store::StoreOptions;
use millstream::state::{Head, Store};

use super::{CHUNK, Count, EPOCH, KEYED};

const QUERY: &str = "SELECT t.id, t.name, u.name FROM t JOIN u ON t.id = u.id";
/// Bytes of text in a row; of random letters, so that files do not shrink much.
const TEXT: usize = 240;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// What the process holds in memory now, in MiB, and at most so far.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let kib = |name: &str| line(name).and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    (kib("VmRSS:").unwrap_or(0) / 1024, kib("VmHWM:").unwrap_or(0) / 1024)
}

fn open(plan: &Plan, directory: &Path) -> Result<(Store, Graph), String> {
    let options = StoreOptions { durable: false, ..StoreOptions::default() };
    let mut store = Store::open(directory, options).map_err(text)?;
    let environment = Environment { clock: Arc::new(SystemClock), lookup: &mut NoLookup };
    let graph = Graph::build(plan, &mut store, environment).map_err(text)?;
    Ok((store, graph))
}

fn commit(store: &mut Store, graph: &mut Graph) -> Result<(), String> {
    graph.flush().map_err(text)?;
    let head = Head { epoch: store.head().epoch + 1, ..store.head().clone() };
    store.commit(head, &[]).map_err(text)
}

struct Rows {
    random: u64,
}

impl Rows {
    fn below(&mut self, limit: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % limit
    }

    fn row(&mut self, plan: &Plan, source: usize, id: i64) -> Change {
        let mut name = String::with_capacity(TEXT);
        while name.len() < TEXT {
            let letters = self.below(u64::MAX);
            name.extend(letters.to_be_bytes().map(|byte| char::from(b'a' + byte % 26)));
        }
        let value = |field: &str| if field == "name" { Value::str(&name) } else { Value::Int(id) };
        let columns = plan.nodes[source].schema.iter().map(|field| value(&field.name)).collect();
        Change::new(RowKind::Insert, columns)
    }
}

/// Fills the state of a join with about so many MiB, starts anew from it, and asks for keys all over it.
pub fn run(mib: u64) -> Result<(), String> {
    let sql = format!("SET 'table.exec.sink.upsert-materialize' = 'NONE';\n{KEYED}\n{QUERY};");
    let plan = compile(&sql).map_err(text)?.plan;
    let source = |name: &str| {
        let node = plan.nodes.iter().position(|n| matches!(&n.op, Op::Source(t) if t.name == name));
        node.ok_or_else(|| format!("the plan does not read {name}"))
    };
    let (left, right) = (source("t")?, source("u")?);
    let directory = tempfile::tempdir().map_err(text)?;
    let (mut store, mut graph) = open(&plan, directory.path())?;
    let mut out = Count::default();
    graph.start(&mut out).map_err(text)?;
    let (before, _) = resident();
    let mut rows = Rows { random: 88_172_645_463_325_252 };
    let wanted = i64::try_from((mib << 20) / (TEXT as u64 + 60)).map_err(text)?;
    let (mut id, mut busy) = (0, Duration::ZERO);
    while id < wanted {
        // Inserts only, in random order of keys: nothing of them is in a cache when it is asked for.
        let mut batch: Vec<Change> = (0..CHUNK as i64)
            .map(|n| rows.row(&plan, left, (id + n).wrapping_mul(7_368_787) % wanted))
            .collect();
        id += batch.len() as i64;
        let started = Instant::now();
        graph.push(left, &mut batch, &mut out).map_err(text)?;
        if usize::try_from(id).is_ok_and(|id| id.is_multiple_of(EPOCH)) || id >= wanted {
            commit(&mut store, &mut graph)?;
        }
        busy += started.elapsed();
    }
    let (now, most) = resident();
    println!(
        "{mib} MiB of rows into a join: {:.0} rows/s, state {} MiB on disk, memory {now} MiB, at most {most} MiB, \
         {before} MiB before",
        wanted as f64 / busy.as_secs_f64(),
        store.disk_bytes() >> 20,
    );
    drop(graph);
    drop(store);
    let started = Instant::now();
    let (mut store, mut graph) = open(&plan, directory.path())?;
    graph.start(&mut out).map_err(text)?;
    let opened = started.elapsed();
    let before = out.0;
    let id = i64::try_from(rows.below(wanted.unsigned_abs())).map_err(text)?;
    let mut first = vec![rows.row(&plan, right, id)];
    graph.push(right, &mut first, &mut out).map_err(text)?;
    println!(
        "restart: open after {opened:.2?}, first result ({}) after {:.2?}",
        out.0 - before,
        started.elapsed()
    );
    let asked = 100_000;
    let mut busy = Duration::ZERO;
    for start in (0..asked).step_by(CHUNK) {
        let count = CHUNK.min(asked - start);
        let mut batch: Vec<Change> = (0..count)
            .map(|_| {
                let id = rows.below(wanted.unsigned_abs());
                rows.row(&plan, right, i64::try_from(id).unwrap_or_default())
            })
            .collect();
        let started = Instant::now();
        graph.push(right, &mut batch, &mut out).map_err(text)?;
        if start % EPOCH == 0 {
            commit(&mut store, &mut graph)?;
        }
        busy += started.elapsed();
    }
    let (now, most) = resident();
    println!(
        "{asked} rows of random keys against it: {:.0} rows/s, memory {now} MiB, at most {most} MiB",
        asked as f64 / busy.as_secs_f64()
    );
    // Old rows come from the state, new ones take their places: all over it, again and again.
    for part in ["first", "second", "third"] {
        let mut busy = Duration::ZERO;
        for start in (0..asked).step_by(CHUNK) {
            let mut batch: Vec<Change> = (0..CHUNK.min(asked - start))
                .map(|_| {
                    let id = rows.below(wanted.unsigned_abs());
                    let mut change = rows.row(&plan, left, i64::try_from(id).unwrap_or_default());
                    change.kind = RowKind::UpdateAfter;
                    change
                })
                .collect();
            let started = Instant::now();
            graph.push(left, &mut batch, &mut out).map_err(text)?;
            if start % EPOCH == 0 {
                commit(&mut store, &mut graph)?;
            }
            busy += started.elapsed();
        }
        let (now, most) = resident();
        println!(
            "{part} {asked} updates at random keys: {:.0} rows/s, state {} MiB on disk, memory {now} MiB, at most {most} MiB",
            asked as f64 / busy.as_secs_f64(),
            store.disk_bytes() >> 20,
        );
    }
    Ok(())
}
