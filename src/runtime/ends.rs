//! The tables of a plan as what reads and writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pipeline::Environment;
use super::worker::SourceSlot;
use super::{jdbc, options};
use crate::engine::format::{self, FormatContext};
use crate::engine::plan::{Op, Plan, TableRef};
use crate::error::{Error, Result};
use crate::sink::open::{SinkContext, open};
use crate::sink::{Reduction, Sink, SinkId, dead_letter, format_error};

/// A source: its slot in the thread, and what its task reads.
pub(super) struct Input {
    pub(super) slot: SourceSlot,
    pub(super) kind: options::SourceKind,
    pub(super) definition: Arc<TableRef>,
    pub(super) dead_letter_topic: Option<String>,
}

/// A sink on its way from the plan to its task.
pub(super) struct Opening {
    pub(super) node: usize,
    pub(super) name: String,
    pub(super) sink: Box<dyn Sink>,
    pub(super) reduction: Reduction,
}

/// In the place of a node: no node of the graph writes the sink.
pub(super) const NO_NODE: usize = usize::MAX;

/// Names for the sinks of a plan: the table's, with a number where it is written more than once.
pub(crate) fn sink_names(plan: &Plan) -> Vec<(usize, String, &TableRef)> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names = Vec::new();
    for (node, table) in plan.nodes.iter().enumerate().filter_map(|(i, n)| match &n.op {
        Op::Sink(table) => Some((i, table)),
        _ => None,
    }) {
        let count = seen.entry(table.name.as_str()).or_default();
        *count += 1;
        let name = if *count == 1 { table.name.clone() } else { format!("{}-{count}", table.name) };
        names.push((node, name, table));
    }
    names
}

pub(super) fn open_sinks(
    plan: &Plan,
    pipeline: &str,
    environment: &Environment,
    format: &FormatContext,
    dead_letter_topics: &BTreeSet<String>,
) -> Result<Vec<Opening>> {
    let context = SinkContext {
        log: Arc::clone(&environment.log),
        addresses: environment.addresses.clone(),
        print: environment.print.clone(),
        format: format.clone(),
    };
    let opening = |node: usize, name: String, table: &TableRef| {
        let id = SinkId { pipeline: pipeline.to_owned(), sink: name.clone() };
        let sink = open(table, id, &context)?;
        let reduction = sink.reduction();
        Ok(Opening { node, name, sink, reduction })
    };
    let mut sinks = sink_names(plan)
        .into_iter()
        .map(|(node, name, table)| opening(node, name, table))
        .collect::<Result<Vec<_>>>()?;
    for topic in dead_letter_topics {
        let table = dead_letter::table(topic);
        sinks.push(opening(NO_NODE, table.name.clone(), &table)?);
    }
    Ok(sinks)
}

pub(super) fn source_slots(plan: &Plan, format: &FormatContext) -> Result<Vec<Input>> {
    let mut slots = Vec::new();
    for (node, (source, table)) in plan.nodes.iter().enumerate().filter_map(|(i, n)| match &n.op {
        Op::Source(table) => Some((i, (n, table))),
        _ => None,
    }) {
        let kind = options::source(table)?;
        let decoder = match &kind {
            options::SourceKind::Table | options::SourceKind::Generated(_) => jdbc::decoder(table, format)?,
            _ => format::decoder(table, format).map_err(|e| format_error(&table.name, e))?,
        };
        let dead_letters = dead_letters(table, plan, decoder.skips())?;
        let slot = SourceSlot {
            dead_letters: dead_letters.map(dead_letter::sink_name),
            node,
            name: source.name.clone(),
            table: table.name.clone(),
            decoder,
            by_key: matches!(kind, options::SourceKind::Table),
            of_files: matches!(kind, options::SourceKind::Files { .. }),
            partitions: Vec::new(),
            ended: false,
        };
        slots.push(Input {
            slot,
            kind,
            definition: Arc::new(table.clone()),
            dead_letter_topic: dead_letters.map(str::to_owned),
        });
    }
    Ok(slots)
}

/// The topic for what a source's format skips: its own option, or that of all tables.
fn dead_letters<'a>(table: &'a TableRef, plan: &'a Plan, skips: bool) -> Result<Option<&'a str>> {
    let own = table.options.get(dead_letter::OPTION);
    if own.is_some() && !skips {
        return Err(Error::config(format!("table {}: '{}' has no effect", table.name, dead_letter::OPTION))
            .because("a record that cannot be read stops the pipeline, unless the format's 'ignore-parse-errors' is 'true'")
            .next("add 'FORMAT.ignore-parse-errors' = 'true' to the table (json, csv, debezium-json)"));
    }
    Ok(own.or_else(|| plan.options.get(dead_letter::OPTION)).filter(|_| skips).map(String::as_str))
}
