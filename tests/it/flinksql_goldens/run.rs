//! Runs a job: records in arrival order through the graph, what sinks are handed as text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millstream::engine::EngineError;
use millstream::engine::format::{self, Encoder, FormatContext, Input};
use millstream::engine::graph::{Environment, Graph, Lookup, LookupProvider, Output, SystemClock};
use millstream::engine::plan::{NodeId, Op, Plan, TableRef};
use millstream::engine::print;
use millstream::engine::row::{Change, Row, Value};
use millstream::sql::{Script, compile};
use millstream::state::MemoryState;

use super::compare;

/// A record of `kafka.jsonl`.
#[derive(serde::Deserialize)]
struct Record<'a> {
    topic: String,
    #[serde(default)]
    partition: i32,
    #[serde(default)]
    timestamp: i64,
    #[serde(borrow)]
    key: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow)]
    value: Option<&'a serde_json::value::RawValue>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// JSON as its text, a JSON string as its content.
fn bytes(value: Option<&serde_json::value::RawValue>) -> Option<Vec<u8>> {
    let text = value?.get();
    if text == "null" {
        return None;
    }
    match serde_json::from_str::<String>(text) {
        Ok(content) => Some(content.into_bytes()),
        Err(_) => Some(text.as_bytes().to_vec()),
    }
}

struct Sink {
    name: String,
    node: NodeId,
    encoder: Option<Encoder>,
}

/// Collects lines.
struct Lines<'a> {
    plan: &'a Plan,
    sinks: Vec<Sink>,
    lines: Vec<String>,
}

impl Output for Lines<'_> {
    fn rows(&mut self, sink: NodeId, rows: &mut Vec<Change>) {
        let (Some(sink), Some(node)) =
            (self.sinks.iter().find(|s| s.node == sink), self.plan.nodes.get(sink))
        else {
            return;
        };
        for change in rows.drain(..) {
            let mut line = format!("{}> ", sink.name);
            match &sink.encoder {
                None => print::change(&mut line, &change, &node.schema),
                Some(encoder) => {
                    let (mut key, mut value) = (Vec::new(), Vec::new());
                    let has_key = encoder.key(&change, &mut key).expect("key");
                    let has_value = encoder.value(&change, &mut value).expect("value");
                    let text = |there: bool, bytes: Vec<u8>| {
                        if there { String::from_utf8_lossy(&bytes).into_owned() } else { "null".to_owned() }
                    };
                    line.push_str(&format!("key={} value={}", text(has_key, key), text(has_value, value)));
                }
            }
            self.lines.push(line);
        }
    }
}

/// Rows of `jdbc/TABLE.jsonl` for lookups.
struct Files {
    case: PathBuf,
    context: FormatContext,
}

struct FileLookup {
    rows: Vec<Row>,
    key: Vec<usize>,
}

impl Files {
    fn rows(&self, table: &TableRef) -> Result<Vec<Row>, String> {
        let name = table.options.get("table-name").cloned().unwrap_or_default();
        let path = self.case.join("jdbc").join(format!("{name}.jsonl"));
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut as_json = table.clone();
        as_json.options = BTreeMap::from([
            ("connector".to_owned(), "filesystem".to_owned()),
            ("format".to_owned(), "json".to_owned()),
        ]);
        as_json.primary_key.clear();
        let mut decoder = format::decoder(&as_json, &self.context).map_err(|e| e.to_string())?;
        let mut changes = Vec::new();
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            decoder
                .decode(&plain_input(line.as_bytes(), "jdbc", 0), &mut changes)
                .map_err(|e| e.to_string())?;
        }
        Ok(changes.into_iter().map(|c| c.row).collect())
    }
}

impl LookupProvider for Files {
    fn open(&mut self, table: &TableRef, key: &[usize]) -> Result<Box<dyn Lookup>, EngineError> {
        let rows = self.rows(table).map_err(EngineError::Plan)?;
        Ok(Box::new(FileLookup { rows, key: key.to_vec() }))
    }
}

impl Lookup for FileLookup {
    fn get(&mut self, key: &[Value]) -> Result<Vec<Row>, EngineError> {
        let matches = |row: &&Row| self.key.iter().zip(key).all(|(i, k)| row.get(*i) == Some(k));
        Ok(self.rows.iter().filter(matches).cloned().collect())
    }
}

fn plain_input<'a>(value: &'a [u8], topic: &'a str, offset: i64) -> Input<'a> {
    Input {
        value: Some(value),
        key: None,
        topic,
        partition: 0,
        offset,
        timestamp: 0,
        leader_epoch: None,
        headers: &[],
    }
}

/// Compiles and runs a job; the changelog with steps.
fn execute(case: &Path, script: &Script) -> Result<Vec<String>, String> {
    let plan = &script.plan;
    let context = FormatContext::new(&plan.options).map_err(|e| e.to_string())?;
    let mut lookup = Files { case: case.to_owned(), context: context.clone() };
    let mut state = MemoryState::new();
    let environment = Environment { clock: Arc::new(SystemClock), lookup: &mut lookup };
    let mut graph = Graph::build(plan, &mut state, environment).map_err(|e| e.to_string())?;
    let mut sinks = Vec::new();
    let mut sources = Vec::new();
    for (node, n) in plan.nodes.iter().enumerate() {
        match &n.op {
            Op::Sink(table) => {
                let connector = table.options.get("connector").map_or("", String::as_str);
                let encoder = if connector.contains("kafka") {
                    Some(format::encoder(table, &context).map_err(|e| e.to_string())?)
                } else {
                    None
                };
                let name = table.options.get("print-identifier").unwrap_or(&table.name).clone();
                sinks.push(Sink { name, node, encoder });
            }
            Op::Source(table) => sources.push((node, table)),
            _ => {}
        }
    }
    let mut out = Lines { plan, sinks, lines: Vec::new() };
    let stepped = case.join("kafka.jsonl").exists();
    if stepped {
        out.lines.push("# start".to_owned());
    }
    graph.start(&mut out).map_err(|e| e.to_string())?;
    let mut decoders = BTreeMap::new();
    for (node, table) in &sources {
        let connector = table.options.get("connector").map_or("", String::as_str);
        match connector {
            "filesystem" => {
                let path = table.options.get("path").cloned().unwrap_or_default();
                let text = std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
                let mut decoder = format::decoder(table, &context).map_err(|e| e.to_string())?;
                for (offset, line) in text.split('\n').enumerate() {
                    let last = offset + 1 == text.split('\n').count();
                    if line.is_empty() && (last || table.options.get("format").is_none_or(|f| f != "raw")) {
                        continue;
                    }
                    let mut changes = Vec::new();
                    let input = plain_input(line.as_bytes(), &path, i64::try_from(offset).unwrap_or(0));
                    decoder.decode(&input, &mut changes).map_err(|e| e.to_string())?;
                    push(&mut graph, *node, changes, &mut out)?;
                }
            }
            "jdbc" => {
                let files = Files { case: case.to_owned(), context: context.clone() };
                let rows = files.rows(table)?;
                let kind = millstream::engine::row::RowKind::Insert;
                push(
                    &mut graph,
                    *node,
                    rows.into_iter().map(|row| Change { kind, row }).collect(),
                    &mut out,
                )?;
            }
            _ => {
                decoders.insert(*node, format::decoder(table, &context).map_err(|e| e.to_string())?);
            }
        }
    }
    if stepped {
        let text = std::fs::read_to_string(case.join("kafka.jsonl")).map_err(|e| e.to_string())?;
        let mut offsets: BTreeMap<(String, i32), i64> = BTreeMap::new();
        for (step, line) in text.lines().enumerate() {
            let record: Record<'_> =
                serde_json::from_str(line).map_err(|e| format!("kafka.jsonl line {step}: {e}"))?;
            let offset = offsets.entry((record.topic.clone(), record.partition)).or_insert(0);
            let (key, value) = (bytes(record.key), bytes(record.value));
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                record.headers.iter().map(|(k, v)| (k.as_bytes(), Some(v.as_bytes()))).collect();
            out.lines.push(format!("# {step}"));
            for (node, table) in &sources {
                let topics = table.options.get("topic").map_or("", String::as_str);
                let Some(decoder) = decoders.get_mut(node) else { continue };
                if !topics.split(';').any(|t| t.trim() == record.topic) {
                    continue;
                }
                let input = Input {
                    value: value.as_deref(),
                    key: key.as_deref(),
                    topic: &record.topic,
                    partition: record.partition,
                    offset: *offset,
                    timestamp: record.timestamp,
                    leader_epoch: None,
                    headers: &headers,
                };
                let mut changes = Vec::new();
                decoder.decode(&input, &mut changes).map_err(|e| e.to_string())?;
                push(&mut graph, *node, changes, &mut out)?;
            }
            *offset += 1;
        }
        out.lines.push("# end".to_owned());
    }
    graph.end(&mut out).map_err(|e| e.to_string())?;
    Ok(out.lines)
}

fn push(
    graph: &mut Graph,
    node: NodeId,
    mut changes: Vec<Change>,
    out: &mut Lines<'_>,
) -> Result<(), String> {
    graph.push(node, &mut changes, out).map_err(|e| e.to_string())
}

/// Threads of keyed operators.
pub static THREADS: AtomicUsize = AtomicUsize::new(1);

fn script_of(case: &Path, job: &str) -> String {
    job.replace("${DIR}", &case.to_string_lossy())
}

fn compiled(case: &Path, job: &str, strict: bool) -> Result<Script, String> {
    let mut script = String::new();
    let threads = THREADS.load(Ordering::Relaxed);
    if threads > 1 {
        script.push_str(&format!("SET 'parallelism.default' = '{threads}'; "));
    }
    if strict {
        script.push_str("SET 'millstream.compat.strict' = 'true'; ");
    }
    script.push_str(&script_of(case, job));
    compile(&script).map_err(|e| e.render(&script, "job.sql"))
}

/// A case that runs.
pub fn job(case: &Path, job: &str) -> Result<(), String> {
    let script = compiled(case, job, false)?;
    schemas(case, &script)?;
    let have = execute(case, &script)?;
    let read = |name: &str| std::fs::read_to_string(case.join(name)).map_err(|e| format!("{name}: {e}"));
    let want: Vec<String> =
        read("expected.changelog")?.split('\n').filter(|l| !l.is_empty()).map(str::to_owned).collect();
    let mut keys = BTreeMap::new();
    for node in &script.plan.nodes {
        if let Op::Sink(table) = &node.op {
            keys.insert(table.name.clone(), table.primary_key.clone());
        }
    }
    if let Ok(dump) = std::env::var("FLINKSQL_DUMP") {
        std::fs::write(dump, have.join("\n")).map_err(|e| e.to_string())?;
    }
    compare::compare(compare::rule(job), &want, &have, &keys)
}

fn schemas(case: &Path, script: &Script) -> Result<(), String> {
    let want = std::fs::read_to_string(case.join("expected.schema")).map_err(|e| e.to_string())?;
    let have: Vec<&str> = script.tables.iter().map(|t| t.schema.as_str()).collect();
    for line in want.lines().filter(|l| !l.is_empty()) {
        if !have.contains(&line) {
            let name = line.split('(').next().unwrap_or("");
            let ours = have.iter().find(|l| l.split('(').next() == Some(name));
            return Err(format!("schema: want {line}, have {ours:?}"));
        }
    }
    Ok(())
}

/// A case that is refused, at the same point and for the same reason.
pub fn error(case: &Path, job: &str) -> Result<(), String> {
    let want = std::fs::read_to_string(case.join("expected.error")).map_err(|e| e.to_string())?;
    let phase = want.lines().find_map(|l| l.strip_prefix("phase:")).map_or("", str::trim);
    let (have, message) = match compiled(case, job, true) {
        Err(message) => ("plan", message),
        Ok(script) => match execute(case, &script) {
            Err(message) => ("run", message),
            Ok(lines) => return Err(format!("accepted; wrote {} lines", lines.len())),
        },
    };
    let wanted = if phase == "ddl" { "plan" } else { phase };
    if have != wanted {
        return Err(format!("refused in phase {have} instead of {wanted}: {message}"));
    }
    if compare::same_words(&want, &message) {
        Ok(())
    } else {
        Err(format!("the message has other words: {message}"))
    }
}
