//! The pipeline's thread, the side of its inputs: records become changes and go through the graph.

use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use super::jdbc::ScanKey;
use super::source::{SourceEvent, position_key};
use super::worker::{CHUNK, Command, Event, Sinks, SourceSlot, Worker, closed, engine_error};
use crate::engine::format::{FormatError, Input};
use crate::engine::row::{Change, Value};
use crate::error::{Error, Kind, Result};
use crate::log::{Fetched, TopicPartition};
use crate::sink::dead_letter;

pub(super) fn decode_error(slot: &SourceSlot, at: &TopicPartition, offset: i64, error: FormatError) -> Error {
    let column = error.column.as_ref().map(|c| format!(", column {c}")).unwrap_or_default();
    let kind = if error.transient { Kind::Transient } else { Kind::Data };
    let place = match slot.of_files {
        true => format!("{}, record {}", at.topic, offset.saturating_add(1)),
        false => format!("topic {}, partition {}, offset {offset}", at.topic, at.partition),
    };
    let outer =
        Error::new(kind, format!("table {}: cannot decode {place}{column}", slot.table)).because(error.what);
    let look = match slot.of_files {
        true => String::new(),
        false => format!(
            "; look at it: millstream topics read {} --partition {} --from {offset} --max 1",
            at.topic, at.partition
        ),
    };
    outer.next(error.next.map_or_else(
        || {
            format!(
                "the pipeline stands before this record, and nothing behind it was read{look}; json, csv and \
                 debezium-json leave such records out with 'FORMAT.ignore-parse-errors' = 'true' in the table, and \
                 'millstream.dead-letter.topic' keeps them"
            )
        },
        Into::into,
    ))
}

/// How long the first try again waits for what a record needs from outside; each waits twice as long, up to
/// [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A change with these columns.
fn project(change: &Change, columns: &[usize]) -> Change {
    let row = columns.iter().map(|column| change.row.get(*column).cloned().unwrap_or(Value::Null)).collect();
    Change { kind: change.kind, row }
}

impl Worker {
    /// Shows what a record waits for, and waits a while; `false`: the pipeline is to stop. Called again until it is
    /// there.
    fn wait_for_outside(&mut self, who: &str, error: &Error, pause: &mut Duration) -> Result<bool> {
        tracing::warn!(%error, "trying again");
        self.shared.retrying(who, Some(error.screen()));
        let until = Instant::now() + *pause;
        while self.work.stop_by.is_none() {
            match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(event) => self.put_off(event)?,
                Err(RecvTimeoutError::Timeout) => {
                    *pause = (*pause * 2).min(LAST_PAUSE);
                    return Ok(true);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(closed()),
            }
        }
        Ok(false)
    }

    /// Something comes while something else is waited for: only what cannot wait is done.
    pub(super) fn put_off(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Sink(event) => self.sink_event(event),
            Event::Command(command @ (Command::Stop | Command::Release)) => self.command(command),
            other => {
                self.work.deferred.push_back(other);
                Ok(())
            }
        }
    }

    pub(super) fn source_event(&mut self, event: SourceEvent) -> Result<()> {
        if self.work.held {
            self.work.deferred.push_back(Event::Source(event));
            return Ok(());
        }
        match event {
            SourceEvent::Records { source, fetched, permit } => {
                let records = u64::try_from(fetched.len()).unwrap_or(0);
                self.shared.work(records);
                self.work.records += records;
                self.touch();
                self.work.record_bytes += fetched.bytes();
                let result = self.records(source, &fetched);
                drop(permit);
                result
            }
            SourceEvent::Partitions { source, partitions, begin } => {
                let Some(slot) = self.sources.get_mut(source) else { return Ok(()) };
                let (known, numbered) = (self.work.positions.len(), self.work.numbers.len());
                for name in slot.names() {
                    for (at, next) in &begin {
                        let key = position_key(name, at);
                        if !self.work.positions.contains_key(&key) {
                            self.work.begins.insert(key.clone(), *next);
                            self.work.positions.insert(key, *next);
                        }
                    }
                    for (number, at) in (0..).zip(&partitions) {
                        self.work.numbers.insert(position_key(name, at), number);
                    }
                }
                let count = slot.set_partitions(partitions);
                slot.nodes().for_each(|node| self.graph.set_partitions(node, count));
                // Where it began is kept even if nothing comes: a restart must not begin later.
                if self.work.positions.len() > known || self.work.numbers.len() > numbered {
                    self.shared.began(&self.work.begins);
                    self.touch();
                }
                Ok(())
            }
            SourceEvent::Ended { source } => {
                self.tell_absent(source, true);
                if let Some(slot) = self.sources.get_mut(source) {
                    slot.ended = true;
                    if slot.by_key {
                        // Without a key nobody could tell at the next start that this was the end.
                        let of_slot = format!("{}/", slot.name);
                        for input in self.work.positions.keys().filter(|input| input.starts_with(&of_slot)) {
                            self.work.keys.entry(input.clone()).or_insert_with(|| ScanKey::default().text());
                        }
                    }
                    for node in slot.nodes() {
                        self.graph
                            .watermark(node, i64::MAX, &mut Sinks(&mut self.sinks))
                            .map_err(engine_error)?;
                    }
                    self.touch();
                }
                Ok(())
            }
            // A source that fails gives nothing more; what it gave before is kept.
            SourceEvent::Failed { error } => Err(self.leave_in_order(error)),
        }
    }

    fn records(&mut self, source: usize, fetched: &Fetched) -> Result<()> {
        let mut changes = Vec::with_capacity(CHUNK.min(fetched.len() * 2));
        // The first record of the chunk.
        let mut first: Option<(&TopicPartition, i64)> = None;
        let mut last = 0;
        for (index, record) in fetched.iter().enumerate() {
            if let Some((at, _)) = first
                && (changes.len() >= self.work.piece || at != record.at)
            {
                self.push(source, &mut changes, first.take(), last)?;
                if self.is_full() {
                    // What this fetch gives is more than one epoch may hold: it ends here.
                    self.move_behind(source, fetched, index);
                    self.wait_for_sinks()?;
                    self.cut(Vec::new())?;
                    self.touch();
                }
            }
            let Some(slot) = self.sources.get(source) else { return Ok(()) };
            let headers: Vec<_> =
                if slot.decoder.wants_headers() { record.headers().collect() } else { Vec::new() };
            let input = Input {
                value: record.value,
                key: record.key,
                topic: &record.at.topic,
                partition: record.at.partition,
                offset: record.offset,
                timestamp: record.timestamp,
                leader_epoch: record.leader_epoch,
                headers: &headers,
            };
            let mut pause = FIRST_PAUSE;
            let decoded = loop {
                let Some(slot) = self.sources.get_mut(source) else { return Ok(()) };
                let Err(error) = slot.decoder.decode(&input, &mut changes) else { break Ok(()) };
                let error = decode_error(slot, record.at, record.offset, error);
                if !error.is_transient() {
                    break Err(error);
                }
                let table = slot.table.clone();
                if !self.wait_for_outside(&table, &error, &mut pause)? {
                    break Err(Error::new(Kind::Stopped, "stopped before a record could be read"));
                }
            };
            if let Err(error) = decoded {
                self.push(source, &mut changes, first, last)?;
                // What came before it in this fetch is in the state, of whatever partition.
                self.move_behind(source, fetched, index);
                self.move_to(source, record.at, record.offset);
                return Err(self.leave_in_order(error));
            }
            let Some(slot) = self.sources.get_mut(source) else { return Ok(()) };
            if pause > FIRST_PAUSE {
                self.shared.retrying(&slot.table, None);
            }
            if slot.decoder.skips()
                && let Some(error) = slot.decoder.take_skipped()
            {
                let error = decode_error(slot, record.at, record.offset, error);
                tracing::debug!(%error, "skipped");
                let why = error
                    .cause()
                    .map_or_else(|| error.what().to_owned(), |c| format!("{}: {c}", error.what()));
                self.shared.skipped(&slot.table, &why);
                let dead_letters = slot.dead_letters.as_deref();
                if let Some(sink) = self.sinks.iter_mut().find(|s| Some(s.name.as_str()) == dead_letters) {
                    sink.collector.push(dead_letter::change(&record, &why), |_, _, _| {});
                }
            }
            first.get_or_insert((record.at, record.offset));
            last = record.offset;
            if record.timestamp > 0 {
                self.work.newest = self.work.newest.max(Some(record.timestamp));
            }
        }
        self.push(source, &mut changes, first, last)?;
        self.tell_absent(source, false);
        self.keep_key(source, fetched, fetched.len());
        for (at, next) in fetched.next_offsets() {
            self.move_to(source, at, *next);
        }
        Ok(())
    }

    /// Warns of columns that no record has had.
    pub(super) fn tell_absent(&mut self, source: usize, ended: bool) {
        if let Some(slot) = self.sources.get_mut(source)
            && let Some(absent) = slot.decoder.take_absent(ended)
        {
            let warning = format!("table {}: {absent}", slot.table);
            tracing::warn!("{warning}");
            self.shared.warn(warning);
        }
    }

    /// The first `count` records of a fetch are done with.
    fn move_behind(&mut self, source: usize, fetched: &Fetched, count: usize) {
        for done in fetched.iter().take(count) {
            self.move_to(source, done.at, done.offset + 1);
        }
        self.keep_key(source, fetched, count);
    }

    /// Where an input goes by keys, that of the last of these records counts: all are of one partition.
    fn keep_key(&mut self, source: usize, fetched: &Fetched, count: usize) {
        let Some(slot) = self.sources.get(source).filter(|slot| slot.by_key) else { return };
        let last = count.checked_sub(1).and_then(|last| fetched.iter().nth(last));
        if let Some((done, key)) = last.and_then(|done| Some((done, done.key?))) {
            let key = String::from_utf8_lossy(key).into_owned();
            self.work.keys.insert(position_key(&slot.name, done.at), key);
        }
    }

    fn move_to(&mut self, source: usize, at: &TopicPartition, next: i64) {
        let Some(slot) = self.sources.get(source) else { return };
        for name in slot.names() {
            self.work.positions.insert(position_key(name, at), next);
        }
    }

    fn push(
        &mut self,
        source: usize,
        changes: &mut Vec<Change>,
        first: Option<(&TopicPartition, i64)>,
        last: i64,
    ) -> Result<()> {
        let Some(slot) = self.sources.get(source) else { return Ok(()) };
        let Some((at, offset)) = first else { return Ok(()) };
        let (table, number) = (slot.table.clone(), slot.number(at));
        let (given, before) = (changes.len(), self.collected());
        let mut pushed = Ok(());
        if slot.beside.is_empty() {
            pushed = self.graph.push_partition(slot.node, number, changes, &mut Sinks(&mut self.sinks));
        } else {
            for (node, columns) in slot.readers() {
                let mut own = match columns {
                    Some(columns) => changes.iter().map(|change| project(change, columns)).collect(),
                    None => changes.clone(),
                };
                pushed = self.graph.push_partition(node, number, &mut own, &mut Sinks(&mut self.sinks));
                if pushed.is_err() {
                    break;
                }
            }
            changes.clear();
        }
        let after = self.collected();
        self.work.measure(given, (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)));
        pushed.map_err(|error| {
            // State has changed in memory only: the epoch is given up with it.
            let failure = engine_error(error);
            let next = failure.next_step().map(str::to_owned);
            let located = Error::new(
                failure.kind(),
                format!(
                    "table {table}: {}, between offsets {offset} and {last} of topic {}, partition {}",
                    failure.what(),
                    at.topic,
                    at.partition
                ),
            )
            .because(failure.cause().unwrap_or_default());
            match next {
                Some(next) => located.next(next),
                None => located,
            }
        })
    }
}
