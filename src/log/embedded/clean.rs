//! Retention and compaction of a partition's closed segments.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use md5::{Digest, Md5};

use super::frame::{FrameMeta, FrameWriter};
use super::maintain::Swap;
use super::records::{StoredRecord, Unpacked};
use super::segment::{Segment, SegmentRef, SegmentState, Window, WindowError};
use super::store::Partition;
use crate::error::Result;
use crate::log::topic::TopicConfig;

/// Compaction is worth it from so many new bytes on (and when they are at least as many as the compacted ones).
const LEAST_DIRTY: u64 = 1 << 20;
/// Keys that one pass of compaction remembers; what lies beyond is for the next pass.
const PASS_KEYS: usize = 500_000;
/// Read at once.
const AHEAD: usize = 256 * 1024;

/// What is to be done with a partition.
#[derive(Debug)]
pub enum Plan {
    /// Nothing.
    Nothing,
    /// Close the active segment; the next look does the rest.
    Roll,
    /// Take segments out.
    Swap(Swap),
    /// Compact these segments.
    Compact(Vec<SegmentRef>),
}

/// What `retention.ms` and `retention.bytes` ask for.
pub fn retention(config: &TopicConfig, partition: &Arc<Partition>, now: i64) -> Plan {
    if !config.delete || (config.retention_ms.is_none() && config.retention_bytes.is_none()) {
        return Plan::Nothing;
    }
    let view = partition.view.read();
    let expired = |s: &SegmentRef| {
        config.retention_ms.is_some_and(|keep| s.len() > 0 && s.max_timestamp() < now.saturating_sub(keep))
    };
    let Some((active, closed)) = view.segments.split_last() else { return Plan::Nothing };
    let mut total: u64 = view.segments.iter().map(|s| s.len()).sum();
    let mut removed = Vec::new();
    for segment in closed {
        let rest = total.saturating_sub(segment.len());
        // As Kafka: whole segments go while at least retention.bytes stay.
        if !expired(segment) && config.retention_bytes.is_none_or(|most| rest < most) {
            break;
        }
        total = rest;
        removed.push(Arc::clone(segment));
    }
    if removed.is_empty() {
        return if expired(active) { Plan::Roll } else { Plan::Nothing };
    }
    let start = view.segments.get(removed.len()).map_or(view.end, |s| s.base);
    Plan::Swap(Swap {
        partition: Arc::clone(partition),
        removed,
        added: Vec::new(),
        start,
        cleaned_to: view.cleaned_to,
    })
}

/// Whether a partition should be compacted now.
pub fn compaction(config: &TopicConfig, partition: &Arc<Partition>, force: bool) -> Plan {
    if !config.compact {
        return Plan::Nothing;
    }
    let view = partition.view.read();
    let dirty = |s: &&SegmentRef| s.len() > 0 && s.last() >= view.cleaned_to;
    let dirty_bytes: u64 = view.segments.iter().filter(dirty).map(|s| s.len()).sum();
    let clean_bytes: u64 = view.segments.iter().filter(|s| !dirty(s)).map(|s| s.len()).sum();
    if dirty_bytes == 0 || (!force && dirty_bytes < LEAST_DIRTY.max(clean_bytes)) {
        return Plan::Nothing;
    }
    let Some((active, closed)) = view.segments.split_last() else { return Plan::Nothing };
    let closed_dirty: u64 = closed.iter().filter(dirty).map(|s| s.len()).sum();
    if closed_dirty < active.len() {
        return Plan::Roll;
    }
    Plan::Compact(closed.iter().map(Arc::clone).collect())
}

type KeyHash = [u8; 16];

fn hash(key: &[u8]) -> KeyHash {
    // 128 bits, as Kafka's cleaner: two keys must never be taken for one.
    Md5::digest(key).into()
}

/// Rewrites closed segments without the records that a later one with the same key replaces, and without
/// tombstones older than `delete.retention.ms`. It calls `between` at every frame, for what must not wait,
/// and ends where that gives an error.
///
/// # Errors
/// Of the file system, or when a segment is damaged; nothing has changed then.
pub fn compact(
    config: &TopicConfig,
    partition: &Arc<Partition>,
    closed: &[SegmentRef],
    now: i64,
    between: &mut dyn FnMut() -> Result<()>,
) -> Result<Swap> {
    let cleaned_to = partition.view.read().cleaned_to;
    let mut latest: HashMap<KeyHash, i64> = HashMap::new();
    let mut seen_to = cleaned_to;
    for segment in closed.iter().filter(|s| s.last() >= cleaned_to) {
        if latest.len() >= PASS_KEYS {
            break;
        }
        for_each_frame(segment, |records, _| {
            between()?;
            for record in records {
                if let Some(key) = record.key.filter(|_| record.offset >= cleaned_to) {
                    latest.insert(hash(key), record.offset);
                }
            }
            Ok(())
        })?;
        seen_to = segment.last() + 1;
    }
    let horizon = now.saturating_sub(config.delete_retention_ms);
    let mut out = Output { partition, segment_bytes: config.segment_bytes, added: Vec::new(), open: None };
    let mut removed = Vec::new();
    for segment in closed.iter().filter(|s| s.base < seen_to) {
        for_each_frame(segment, |records, _| {
            between()?;
            for record in records {
                let replaced = record
                    .key
                    .is_some_and(|key| latest.get(&hash(key)).is_some_and(|newest| *newest > record.offset));
                let forgotten = record.value.is_none() && record.key.is_some() && record.timestamp < horizon;
                if !replaced && !forgotten {
                    out.writer(segment)?.push(record.offset, record.timestamp, record);
                }
            }
            out.flush(false)
        })?;
        removed.push(Arc::clone(segment));
        out.end_of(segment);
        if out.full() {
            out.flush(true)?;
            out.close()?;
        }
    }
    out.flush(true)?;
    out.close()?;
    Ok(Swap {
        partition: Arc::clone(partition),
        removed,
        added: out.added,
        start: i64::MIN,
        cleaned_to: seen_to,
    })
}

fn for_each_frame(
    segment: &SegmentRef,
    mut each: impl FnMut(&[StoredRecord<'_>], u64) -> Result<()>,
) -> Result<()> {
    let file = segment.open()?;
    let mut window = Window::default();
    let mut unpacked = Unpacked::default();
    let mut position = 0;
    while position < segment.len() {
        let (header, frame) =
            window.frame(&file, position, segment.len(), AHEAD).map_err(|e| segment.corrupt(position, e))?;
        let records = unpacked
            .records(header, frame)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| segment.corrupt(position, WindowError::Frame(e)))?;
        each(&records, position)?;
        position += header.size() as u64;
    }
    Ok(())
}

struct OpenOutput {
    file: std::fs::File,
    segment: SegmentRef,
    writer: FrameWriter,
    last: i64,
}

/// Writes compacted segments: small ones are joined up to `segment.bytes`.
struct Output<'a> {
    partition: &'a Arc<Partition>,
    segment_bytes: u64,
    added: Vec<SegmentRef>,
    open: Option<OpenOutput>,
}

impl Output<'_> {
    fn writer(&mut self, from: &SegmentRef) -> Result<&mut FrameWriter> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let state = SegmentState::empty(from.base);
                let segment = Segment::new(&self.partition.dir, from.base, from.generation + 1, state);
                let file = std::fs::File::create(&segment.path)
                    .map_err(|e| super::manifest::io("cannot make", &segment.path, e))?;
                OpenOutput {
                    file,
                    segment: Arc::new(segment),
                    writer: FrameWriter::default(),
                    last: from.base - 1,
                }
            }
        };
        Ok(&mut self.open.insert(open).writer)
    }

    /// Writes closed frames; with `all` also the open one.
    fn flush(&mut self, all: bool) -> Result<()> {
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        if !all && open.writer.parts().1.is_empty() {
            return Ok(());
        }
        let (bytes, frames) = open.writer.finish();
        open.file.write_all(bytes).map_err(|e| super::manifest::io("cannot write", &open.segment.path, e))?;
        for FrameMeta { first, last, max_timestamp, size, .. } in frames {
            open.segment.publish(*first, *last, *max_timestamp, *size as u64);
        }
        open.writer.clear();
        Ok(())
    }

    /// An input segment ends.
    fn end_of(&mut self, from: &SegmentRef) {
        if let Some(open) = self.open.as_mut() {
            open.last = from.last();
        }
    }

    fn full(&self) -> bool {
        self.open.as_ref().is_some_and(|o| o.segment.len() >= self.segment_bytes)
    }

    fn close(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        open.file.sync_all().map_err(|e| super::manifest::io("cannot sync", &open.segment.path, e))?;
        open.segment.covers_to(open.last);
        self.added.push(open.segment);
        Ok(())
    }
}
