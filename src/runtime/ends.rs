//! The tables of a plan as what reads and writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pipeline::Environment;
use super::worker::{Reader, SourceSlot};
use super::{jdbc, options};
use crate::engine::format::{self, FormatContext};
use crate::engine::plan::{Op, Plan, TableRef};
use crate::error::{Error, Result};
use crate::sink::open::{SinkContext, open};
use crate::sink::{Reduction, Sink, SinkId, dead_letter, format_error};
use crate::state::Head;

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
        mini_batch: crate::engine::options::flag(&plan.options, "table.exec.mini-batch.enabled", false),
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
            columns: None,
            beside: Vec::new(),
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

/// Sources of one table that read different columns of it (each INSERT of a statement set has its own) become one that
/// reads and decodes a record once, where all of them stand at the same place: earlier versions, whose sources each read
/// for themselves, may have left them at different ones.
pub(super) fn merged(inputs: Vec<Input>, head: &Head, format: &FormatContext) -> Result<Vec<Input>> {
    let mut merged: Vec<Input> = Vec::new();
    for input in inputs {
        let topics = matches!(input.kind, options::SourceKind::Topics(_));
        let first = merged.iter_mut().find(|first| {
            let (a, b) = (&first.definition, &input.definition);
            topics
                && (&a.name, &a.options) == (&b.name, &b.options)
                && place(&head.inputs, &first.slot.name) == place(&head.inputs, &input.slot.name)
                && place(&head.numbers, &first.slot.name) == place(&head.numbers, &input.slot.name)
        });
        let Some(first) = first else {
            merged.push(input);
            continue;
        };
        let mut all = TableRef::clone(&first.definition);
        let own = all.columns.len();
        let places = input.definition.columns.iter().map(|column| {
            all.columns.iter().position(|known| known == column).unwrap_or_else(|| {
                all.columns.push(column.clone());
                all.columns.len() - 1
            })
        });
        let columns = Some(places.collect());
        if all.columns.len() > own {
            first.slot.columns.get_or_insert_with(|| (0..own).collect());
            first.slot.decoder = format::decoder(&all, format).map_err(|e| format_error(&all.name, e))?;
            first.definition = Arc::new(all);
        }
        first.slot.beside.push(Reader { node: input.slot.node, name: input.slot.name, columns });
    }
    Ok(merged)
}

/// What the state says of a source's partitions.
fn place<'a, T>(all: &'a BTreeMap<String, T>, source: &str) -> BTreeMap<&'a str, &'a T> {
    let of = |(key, value): (&'a String, &'a T)| Some((key.strip_prefix(source)?.strip_prefix('/')?, value));
    all.iter().filter_map(of).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::job::Job;

    #[test]
    fn sources_of_one_table_read_together_where_they_stand_together() {
        let sql = "CREATE TABLE t (a INT, b INT, c INT) WITH ('connector'='kafka', 'topic'='t', \
                   'properties.bootstrap.servers'='k:1', 'format'='json');
                   CREATE TABLE p (x INT) WITH ('connector'='print');
                   EXECUTE STATEMENT SET BEGIN
                   INSERT INTO p SELECT a FROM t; INSERT INTO p SELECT b + c FROM t; INSERT INTO p SELECT b FROM t;
                   INSERT INTO p SELECT c FROM t /*+ OPTIONS('scan.startup.mode'='earliest-offset') */; END;";
        let plan = Job::from_text(sql, "p", "the test").unwrap().script.plan;
        let format = FormatContext::new(&plan.options).unwrap();
        let names: Vec<String> =
            source_slots(&plan, &format).unwrap().into_iter().map(|input| input.slot.name).collect();
        assert_eq!(names.len(), 4);
        let read = |offsets: &[(usize, i64)]| {
            let inputs =
                offsets.iter().map(|(source, at)| (format!("{}/t/0", names[*source]), *at)).collect();
            let head = Head { inputs, ..Head::default() };
            let merged = merged(source_slots(&plan, &format).unwrap(), &head, &format).unwrap();
            merged.iter().map(|input| input.slot.names().count()).collect::<Vec<_>>()
        };
        // Other options make another source.
        assert_eq!(read(&[]), [3, 1]);
        assert_eq!(read(&[(0, 5), (1, 5), (2, 5), (3, 5)]), [3, 1]);
        assert_eq!(read(&[(0, 5), (1, 6), (2, 5)]), [2, 1, 1]);
        assert_eq!(read(&[(0, 5), (1, 5)]), [2, 1, 1]);

        let all = merged(source_slots(&plan, &format).unwrap(), &Head::default(), &format).unwrap();
        let first = all.first().unwrap();
        let columns: Vec<&str> = first.definition.columns.iter().map(|c| c.field.name.as_str()).collect();
        assert_eq!(columns, ["a", "b", "c"]);
        let beside: Vec<_> = first.slot.beside.iter().map(|reader| reader.columns.clone()).collect();
        assert_eq!(first.slot.columns, Some(vec![0]));
        assert_eq!(beside, [Some(vec![1, 2]), Some(vec![1])]);
    }
}
