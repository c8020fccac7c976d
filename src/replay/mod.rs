//! Replay of past events into a live target.
//!
//! The query is computed anew in scratch state, from the first event to where the pipeline stands. For every
//! key of a sink that events of the range touched, the newest row, or its deletion, is then written through the
//! sink's fence while the pipeline stands still at exactly that point. So no row goes back, nothing is doubled,
//! and a second replay changes nothing. The pipeline goes on meanwhile; it is held only for the last stretch
//! and the write.

mod range;

use std::collections::BTreeMap;

use crate::engine::codec;
use crate::engine::plan::{Op, Plan};
use crate::engine::row::{Change, RowKind};
use crate::error::{Error, Result};
use crate::log::Log;
use crate::runtime::PipelineControl;
use crate::runtime::scratch::{Scratch, Take, keys_of};
use crate::sink::Output;
use crate::state::{StateError, StateTable};

pub use range::{Point, Range};

/// Rows written as one epoch.
const ROWS_PER_EPOCH: usize = 10_000;

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Nothing was written: it says what would be.
    pub dry_run: bool,
    /// Records that the query was computed from.
    pub records: u64,
    /// Records of the range.
    pub range: u64,
    /// Per sink: rows written and rows deleted.
    pub sinks: BTreeMap<String, Written>,
}

/// What a replay wrote to one sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Rows upserted.
    pub upserts: u64,
    /// Rows deleted.
    pub deletes: u64,
}

/// Replays a range of events through a running (or held) pipeline.
///
/// # Errors
/// Where the range is not one, where the log no longer holds what the query needs (naming it), where a sink has
/// no key; and whatever the pipeline or a target fails of.
pub async fn replay(pipeline: &PipelineControl, range: &Range) -> Result<Report> {
    let plan = pipeline.plan().as_ref();
    let keys = sink_keys(plan)?;
    let log = pipeline.environment().log.as_ref();
    if crate::runtime::forgets(plan) {
        return Err(Error::config(format!("pipeline {} cannot be replayed", pipeline.name()))
            .because(
                "its state expires (table.exec.state.ttl, STATE_TTL) by the time at which events were processed: computed anew, the \
                 query gives rows that the pipeline no longer has",
            )
            .next("start it anew with `millstream pipelines reset`, or leave the time to live out of queries that are to be replayed"));
    }
    let _alone = pipeline.replay_alone()?;
    let status = pipeline.status();
    let present = status.positions;
    if present.is_empty() {
        return Err(Error::config(format!("pipeline {} has read nothing yet", pipeline.name()))
            .next("there is nothing to replay: start it and let it catch up first"));
    }
    let begins = beginnings(plan, log, &present, &status.begins).await?;
    let bounds = range.bounds(log, &begins, &present).await?;

    let mut scratch = Scratch::open(plan, pipeline.environment()).await?;
    scratch.begin(begins);
    let mut touched = Touched::new(&mut scratch, keys)?;
    touched.mode = Mode::Ignore;
    touched = checked(scratch.advance(&bounds.from, touched).await?)?;
    let before = scratch.records();
    touched.mode = Mode::Collect;
    touched = checked(scratch.advance(&bounds.to, touched).await?)?;
    let in_range = scratch.records() - before;
    touched.mode = Mode::Follow;
    touched = checked(scratch.advance(&present, touched).await?)?;

    // The pipeline has gone on meanwhile: the rest is read while it stands still.
    let mut release = None;
    if !range.dry_run {
        // Before it is held: one that is given up in the midst of it must not stay so.
        release = Some(Release(pipeline));
        let held = pipeline.hold().await?;
        if let Some(new) = held.keys().find(|key| !present.contains_key(*key)) {
            let topic = new.split_once('/').map_or(new.as_str(), |(_, at)| at);
            return Err(Error::transient("the pipeline reads more than it did when the replay began")
                .because(format!("{topic} has appeared meanwhile; nothing was written"))
                .next("start the replay again"));
        }
        touched = checked(scratch.advance(&held, touched).await?)?;
    }
    let records = scratch.records();
    let mut report = Report { dry_run: range.dry_run, records, range: in_range, sinks: BTreeMap::new() };
    for (name, sink) in &mut touched.sinks {
        let mut written = Written::default();
        let mut rows = Vec::new();
        let mut chunks = Vec::new();
        sink.for_each(&mut |change| {
            if change.kind == RowKind::Delete {
                written.deletes += 1;
            } else {
                written.upserts += 1;
            }
            if range.dry_run {
                return;
            }
            rows.push(change);
            if rows.len() >= ROWS_PER_EPOCH {
                chunks.push(std::mem::take(&mut rows));
            }
        })?;
        chunks.push(rows);
        for changes in chunks.into_iter().filter(|c| !c.is_empty()) {
            pipeline.inject(vec![(name.clone(), Output { changes })]).await?;
        }
        report.sinks.insert(name.clone(), written);
    }
    drop(release);
    Ok(report)
}

/// Lets the pipeline go on, whatever happened.
struct Release<'a>(&'a PipelineControl);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        if !self.0.environment().held {
            self.0.release();
        }
    }
}

/// The key columns of each sink.
fn sink_keys(plan: &Plan) -> Result<BTreeMap<String, Vec<usize>>> {
    let mut keys = BTreeMap::new();
    for (_, name, table) in crate::runtime::sink_names(plan) {
        let connector = table.options.get("connector").map_or("", String::as_str);
        if matches!(connector, "print" | "blackhole") {
            continue;
        }
        if table.primary_key.is_empty() || !matches!(connector, "jdbc" | "upsert-kafka") {
            return Err(Error::config(format!("sink {name} cannot be replayed into"))
                .because("its table has no PRIMARY KEY, so rows that are written again would be doubled")
                .next("declare the PRIMARY KEY … NOT ENFORCED of the target, or start the pipeline anew"));
        }
        keys.insert(name, table.primary_key.clone());
    }
    Ok(keys)
}

/// Where each partition begins; fails where the log no longer holds what came first.
async fn beginnings(
    plan: &Plan,
    log: &dyn Log,
    present: &BTreeMap<String, i64>,
    begun: &BTreeMap<String, i64>,
) -> Result<BTreeMap<String, i64>> {
    let files = plan.nodes.iter().find_map(|node| match &node.op {
        Op::Source(table)
            if !table
                .options
                .get("connector")
                .is_some_and(|c| matches!(c.as_str(), "kafka" | "upsert-kafka")) =>
        {
            Some(&table.name)
        }
        _ => None,
    });
    if let Some(table) = files {
        return Err(Error::config(format!("table {table} reads no topic, and a replay reads topics"))
            .next("start the pipeline anew with `millstream pipelines reset`: it reads everything again"));
    }
    let mut begins = BTreeMap::new();
    for (key, topic, partition, _) in keys_of(present) {
        let gone = |why: String| {
            Error::data("the log no longer holds what this replay needs").because(why).next(
                "the query can only be computed from its first event: raise the topic's retention for the future; to \
                 take over what the source holds now, make a new snapshot and start the pipeline anew",
            )
        };
        let info = log.topic(&topic).await?;
        let info = info.ok_or_else(|| gone(format!("topic {topic} does not exist any more")))?;
        let range = usize::try_from(partition).ok().and_then(|p| info.partitions.get(p));
        let range =
            range.ok_or_else(|| gone(format!("topic {topic} has no partition {partition} any more")))?;
        let source = plan.nodes.iter().find_map(|node| match &node.op {
            Op::Source(table) if key.starts_with(&format!("{}/", node.name)) => Some(table),
            _ => None,
        });
        let option = |name: &str| source.and_then(|t| t.options.get(name)).map(String::as_str);
        let upsert = option("connector") == Some("upsert-kafka");
        if info.configs.get("cleanup.policy").is_some_and(|p| p.contains("compact")) && !upsert {
            return Err(gone(format!("topic {topic} is compacted: older changes of a key may be missing")));
        }
        let mode = option("scan.startup.mode");
        let begin = match begun.get(key) {
            Some(begin) => *begin,
            // A state of an earlier version does not say.
            None if upsert || mode == Some("earliest-offset") => 0,
            None => {
                return Err(Error::config(format!("where topic {topic} was read from is not known any more"))
                    .because("the pipeline's state was begun by an earlier version, which did not keep it")
                    .next(
                        "start the pipeline anew, or use 'scan.startup.mode' = 'earliest-offset' for pipelines that \
                         are to be replayed",
                    ));
            }
        };
        if range.earliest > begin {
            return Err(gone(format!(
                "topic {topic}, partition {partition}: offsets {begin} to {} are gone, the first kept is {}",
                range.earliest - 1,
                range.earliest
            )));
        }
        begins.insert(key.clone(), begin);
    }
    Ok(begins)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Before the range.
    Ignore,
    /// In the range: keys are taken in.
    Collect,
    /// Behind it: rows of known keys are brought up to date.
    Follow,
}

/// The newest row per touched key, in the scratch state.
struct Touched {
    mode: Mode,
    sinks: BTreeMap<String, TouchedSink>,
    failure: Option<StateError>,
}

struct TouchedSink {
    key: Vec<usize>,
    rows: Box<dyn StateTable>,
}

impl Touched {
    fn new(scratch: &mut Scratch, keys: BTreeMap<String, Vec<usize>>) -> Result<Self> {
        let mut sinks = BTreeMap::new();
        for (name, key) in keys {
            let rows = scratch.table(&format!("replay/{name}"))?;
            sinks.insert(name, TouchedSink { key, rows });
        }
        Ok(Self { mode: Mode::Ignore, sinks, failure: None })
    }
}

fn checked(mut touched: Touched) -> Result<Touched> {
    match touched.failure.take() {
        Some(error) => Err(Error::data("the scratch state failed").with_source(error)),
        None => Ok(touched),
    }
}

impl TouchedSink {
    fn put(&mut self, mode: Mode, change: &Change) -> Result<(), StateError> {
        let mut key = Vec::new();
        codec::put_key(&mut key, &change.row, &self.key);
        if mode == Mode::Follow && self.rows.get(&key)?.is_none() {
            return Ok(());
        }
        let mut value = vec![u8::from(change.kind.is_add())];
        codec::put_row(&mut value, &change.row);
        self.rows.put(&key, &value);
        Ok(())
    }

    fn for_each(&mut self, each: &mut dyn FnMut(Change)) -> Result<()> {
        let scanned = self.rows.scan(&[], &mut |_, value| {
            let damaged = |what: String| StateError::Corrupt { table: "replay".into(), what };
            let (add, row) = value.split_first().ok_or_else(|| damaged("empty".into()))?;
            let row = codec::get_row(row).map_err(|e| damaged(e.to_string()))?;
            let kind = if *add == 1 { RowKind::UpdateAfter } else { RowKind::Delete };
            each(Change { kind, row });
            Ok(true)
        });
        scanned.map_err(|e| Error::data("the scratch state failed").with_source(e))
    }
}

impl Take for Touched {
    fn take(&mut self, sink: &str, changes: &mut Vec<Change>) {
        if self.mode == Mode::Ignore {
            return;
        }
        let Some(sink) = self.sinks.get_mut(sink) else { return };
        for change in changes.iter() {
            if let Err(error) = sink.put(self.mode, change) {
                self.failure.get_or_insert(error);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
