//! Reading committed records from the partitions' files.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::Inner;
use super::records::Unpacked;
use super::segment::{SegmentRef, Window, WindowError};
use super::store::{Partition, Topic};
use crate::error::{Error, Result};
use crate::log::{Fetched, LogReader, TopicPartition};

/// Read at once.
const AHEAD: usize = 512 * 1024;
/// What was written so lately is in the page cache: it is read on the spot, without a hop to another thread.
const WARM: u64 = 4 << 20;

#[derive(Debug)]
struct Cursor {
    segment: SegmentRef,
    file: File,
    position: u64,
    window: Window,
    unpacked: Unpacked,
}

#[derive(Debug)]
struct Assigned {
    topic: Arc<Topic>,
    partition: Arc<Partition>,
    offset: i64,
    cursor: Option<Cursor>,
}

/// A reader of the embedded log.
#[derive(Debug)]
pub struct EmbeddedReader {
    log: Arc<Inner>,
    commits: watch::Receiver<u64>,
    assigned: Vec<Assigned>,
    turn: usize,
}

impl EmbeddedReader {
    /// A reader without partitions.
    pub fn new(log: Arc<Inner>) -> Self {
        let commits = log.shared.commits.subscribe();
        Self { log, commits, assigned: Vec::new(), turn: 0 }
    }

    /// Whether any partition has something to read, or is in error; and whether all of that is warm.
    fn ready(&self) -> (bool, bool) {
        let mut ready = false;
        let mut warm = true;
        for a in &self.assigned {
            let view = a.partition.view.read();
            if a.offset == view.end && !a.topic.deleted.load(Ordering::Acquire) {
                continue;
            }
            ready = true;
            warm &= match (&a.cursor, view.segments.last()) {
                (Some(c), Some(last)) => Arc::ptr_eq(&c.segment, last) && c.position + WARM > last.len(),
                (None, Some(last)) => a.offset >= last.base && last.len() < WARM,
                _ => false,
            };
        }
        (ready, warm)
    }
}

#[async_trait]
impl LogReader for EmbeddedReader {
    async fn assign(&mut self, at: TopicPartition, offset: i64) -> Result<()> {
        let (topic, partition) = self.log.shared.partition(&at)?;
        check_range(&partition, offset)?;
        self.assigned.retain(|a| *a.partition.at != at);
        self.assigned.push(Assigned { topic, partition, offset, cursor: None });
        Ok(())
    }

    async fn unassign(&mut self, at: &TopicPartition) -> Result<()> {
        self.assigned.retain(|a| *a.partition.at != *at);
        Ok(())
    }

    async fn poll(&mut self, max_bytes: usize, timeout: Duration) -> Result<Fetched> {
        let deadline = tokio::time::Instant::now() + timeout;
        loop {
            // Before looking: a commit after the look then wakes us.
            self.commits.borrow_and_update();
            let (ready, warm) = self.ready();
            if ready {
                self.turn = self.turn.wrapping_add(1);
                let turn = self.turn;
                if warm {
                    return read(&mut self.assigned, turn, max_bytes);
                }
                // Dropped while it reads, this future loses the cursors, which are made again, and no offset.
                let mut work: Vec<Assigned> = self
                    .assigned
                    .iter_mut()
                    .map(|a| Assigned {
                        topic: Arc::clone(&a.topic),
                        partition: Arc::clone(&a.partition),
                        offset: a.offset,
                        cursor: a.cursor.take(),
                    })
                    .collect();
                let task = tokio::task::spawn_blocking(move || {
                    let fetched = read(&mut work, turn, max_bytes);
                    (work, fetched)
                });
                let (work, fetched) =
                    task.await.map_err(|e| Error::internal("reading the log failed").with_source(e))?;
                let fetched = fetched?;
                self.assigned = work;
                return Ok(fetched);
            }
            match tokio::time::timeout_at(deadline, self.commits.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Ok(Fetched::default()),
            }
        }
    }
}

/// The first offset whose record has this timestamp or a later one; the end when there is none.
///
/// # Errors
/// When the log cannot be read.
pub fn first_at(partition: &Partition, timestamp: i64) -> Result<i64> {
    loop {
        let (segments, end) = {
            let view = partition.view.read();
            (view.segments.clone(), view.end)
        };
        let Some(segment) = segments.iter().find(|s| s.len() > 0 && s.max_timestamp() >= timestamp) else {
            return Ok(end);
        };
        let found = first_in(segment, timestamp);
        match found {
            Ok(Some(offset)) => return Ok(offset),
            // It has gone a moment ago: look again.
            other if !partition.view.read().segments.iter().any(|s| Arc::ptr_eq(s, segment)) => drop(other),
            Ok(None) => return Ok(end),
            Err(error) => return Err(error),
        }
    }
}

fn first_in(segment: &SegmentRef, timestamp: i64) -> Result<Option<i64>> {
    let mut position = segment.seek_time(timestamp)?;
    let file = segment.open()?;
    let mut window = Window::default();
    let mut unpacked = Unpacked::default();
    while position < segment.len() {
        let (header, frame) =
            window.frame(&file, position, segment.len(), AHEAD).map_err(|e| segment.corrupt(position, e))?;
        if header.max_timestamp >= timestamp {
            let corrupt = |e| segment.corrupt(position, WindowError::Frame(e));
            for record in unpacked.records(header, frame).map_err(corrupt)? {
                let record = record.map_err(corrupt)?;
                if record.timestamp >= timestamp {
                    return Ok(Some(record.offset));
                }
            }
        }
        position += header.size() as u64;
    }
    Ok(None)
}

fn check_range(partition: &Partition, offset: i64) -> Result<()> {
    let range = partition.view.read().range();
    if (range.earliest..=range.end).contains(&offset) {
        return Ok(());
    }
    let TopicPartition { topic, partition } = &*partition.at;
    Err(Error::data(format!("offset {offset} of topic {topic}, partition {partition} is not in the log"))
        .because(format!("offsets {} to {} are there", range.earliest, range.end))
        .next("read from the earliest offset if what was removed is not needed; retention.ms and retention.bytes of the topic say how long records are kept"))
}

/// Reads about `max_bytes` from the partitions in turn.
fn read(assigned: &mut [Assigned], turn: usize, max_bytes: usize) -> Result<Fetched> {
    let mut fetched = Fetched::default();
    let count = assigned.len().max(1);
    let share = (max_bytes / count).max(64 * 1024);
    loop {
        let mut moved = false;
        for i in 0..count {
            if fetched.bytes() >= max_bytes && !fetched.is_empty() {
                return Ok(fetched);
            }
            if let Some(a) = assigned.get_mut((turn + i) % count) {
                let limit = fetched.bytes().saturating_add(share).min(max_bytes);
                moved |= a.read(&mut fetched, limit)?;
            }
        }
        if !moved {
            return Ok(fetched);
        }
    }
}

impl Assigned {
    /// Reads frames until `limit` bytes are fetched or the partition's end is reached.
    fn read(&mut self, fetched: &mut Fetched, limit: usize) -> Result<bool> {
        if self.topic.deleted.load(Ordering::Acquire) {
            return Err(Error::refused(format!("topic {} was deleted", self.topic.name)));
        }
        let before = self.offset;
        while self.seek()? {
            let Some(cursor) = self.cursor.as_mut() else { break };
            let ahead = AHEAD.min(limit.saturating_sub(fetched.bytes()).max(16 * 1024));
            let len = cursor.segment.len();
            let (header, frame) = cursor
                .window
                .frame(&cursor.file, cursor.position, len, ahead)
                .map_err(|e| cursor.segment.corrupt(cursor.position, e))?;
            let corrupt = |e| cursor.segment.corrupt(cursor.position, WindowError::Frame(e));
            for record in cursor.unpacked.records(header, frame).map_err(corrupt)? {
                let record = record.map_err(corrupt)?;
                if record.offset >= self.offset {
                    fetched.push(
                        &self.partition.at,
                        record.offset,
                        record.timestamp,
                        record.key,
                        record.value,
                        record.headers(),
                    );
                }
            }
            cursor.position += header.size() as u64;
            if header.last >= self.offset {
                self.offset = header.last + 1;
            }
            if fetched.bytes() >= limit {
                break;
            }
        }
        if self.offset != before {
            fetched.moved(&self.partition.at, self.offset);
        }
        Ok(self.offset != before)
    }

    /// Puts the cursor on the next frame; `false` at the partition's end.
    fn seek(&mut self) -> Result<bool> {
        for _ in 0..4 {
            let (next, fresh) = {
                let view = self.partition.view.read();
                let known = |s: &SegmentRef| view.segment_at(s.base).is_some_and(|v| Arc::ptr_eq(v, s));
                let next = match &self.cursor {
                    Some(c) if c.position < c.segment.len() => return Ok(true),
                    Some(c) if known(&c.segment) => (view.segment_after(c.segment.base), false),
                    // Compaction replaced the segment; what follows is looked up by offset.
                    _ if self.offset < view.start || self.offset > view.end => {
                        drop(view);
                        check_range(&self.partition, self.offset)?;
                        continue;
                    }
                    _ => (view.segment_at(self.offset), true),
                };
                match next {
                    (Some(segment), fresh) if segment.len() > 0 && self.offset < view.end => {
                        (Arc::clone(segment), fresh)
                    }
                    // Nothing more is kept up to the end, even where offsets are missing before it.
                    _ => {
                        self.offset = view.end;
                        return Ok(false);
                    }
                }
            };
            let found = if fresh { next.seek_offset(self.offset) } else { Ok(0) };
            match found.and_then(|position| Ok((position, next.open()?))) {
                Ok((position, file)) => {
                    let mut window = self.cursor.take().map(|c| c.window).unwrap_or_default();
                    window.reset();
                    self.cursor =
                        Some(Cursor { segment: next, file, position, window, unpacked: Unpacked::default() });
                    return Ok(true);
                }
                Err(error) => {
                    // Compaction or retention may have taken the file a moment ago: look again.
                    self.cursor = None;
                    let still = self.partition.view.read().segments.iter().any(|s| Arc::ptr_eq(s, &next));
                    if still {
                        return Err(error);
                    }
                }
            }
        }
        Err(Error::transient(format!("the files of {:?} change too fast to be read", self.partition.at)))
    }
}
