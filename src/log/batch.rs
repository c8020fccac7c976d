//! A batch of records in one arena: encoders write bytes straight into it, stores take slices from it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// A topic within one [`Batch`]; survives [`Batch::clear`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicId(u32);

impl TopicId {
    /// Its number: topics of a batch count from 0 in the order they were first asked for.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Debug)]
struct Entry {
    topic: TopicId,
    partition: i32,
    timestamp: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
}

#[derive(Clone, Debug)]
struct Header {
    name: Range<usize>,
    value: Option<Range<usize>>,
}

/// Records that are to be written as one transaction. Memory is kept when it is cleared.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<Header>,
    topics: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, TopicId>,
}

/// A record of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchRecord<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// The topic's id in this batch.
    pub topic_id: TopicId,
    /// Partition, where the writer of the record chose one.
    pub partition: Option<i32>,
    /// Milliseconds since 1970, where the writer of the record chose them.
    pub timestamp: Option<i64>,
    /// Key; `None` is a null.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    headers: &'a [Header],
    arena: &'a [u8],
}

impl<'a> BatchRecord<'a> {
    /// Header names and values in order; a `None` value is a null.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let arena = self.arena;
        self.headers.iter().map(move |h| (&arena[h.name.clone()], h.value.clone().map(|v| &arena[v])))
    }
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The id of a topic in this batch. Ask once per table, not per record.
    pub fn topic(&mut self, name: &str) -> TopicId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = TopicId(u32::try_from(self.topics.len()).unwrap_or(u32::MAX));
        let name: Arc<str> = Arc::from(name);
        self.topics.push(Arc::clone(&name));
        self.ids.insert(name, id);
        id
    }

    /// The name of a topic of this batch.
    pub fn topic_name(&self, id: TopicId) -> &str {
        &self.topics[id.0 as usize]
    }

    /// Starts a record. It becomes part of the batch with [`RecordBuilder::finish`]; dropped before, it leaves
    /// nothing behind.
    pub fn record(&mut self, topic: TopicId) -> RecordBuilder<'_> {
        let arena_start = self.arena.len();
        let headers_start = self.headers.len();
        RecordBuilder {
            entry: Entry {
                topic,
                partition: -1,
                timestamp: -1,
                key: None,
                value: None,
                headers: headers_start..headers_start,
            },
            batch: self,
            arena_start,
            finished: false,
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys, values and headers.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Removes all records from index `len` on (to give up a partly encoded change).
    pub fn truncate(&mut self, len: usize) {
        if let Some(first) = self.entries.get(len) {
            let arena = [
                first.key.as_ref().map(|r| r.start),
                first.value.as_ref().map(|r| r.start),
                self.headers
                    .get(first.headers.start)
                    .filter(|_| !first.headers.is_empty())
                    .map(|h| h.name.start),
            ]
            .into_iter()
            .flatten()
            .min();
            let headers = first.headers.start;
            if let Some(arena) = arena {
                self.arena.truncate(arena);
            }
            self.headers.truncate(headers);
            self.entries.truncate(len);
        }
    }

    /// Empties the batch and keeps its memory and topic ids.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
        self.headers.clear();
    }

    /// Gives back memory beyond `bytes` of an empty batch.
    pub fn shrink(&mut self, bytes: usize) {
        if self.entries.is_empty() {
            self.arena.shrink_to(bytes);
        }
    }

    /// The records in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = BatchRecord<'_>> {
        self.entries.iter().map(move |e| BatchRecord {
            topic: &self.topics[e.topic.0 as usize],
            topic_id: e.topic,
            partition: (e.partition >= 0).then_some(e.partition),
            timestamp: (e.timestamp >= 0).then_some(e.timestamp),
            key: e.key.clone().map(|r| &self.arena[r]),
            value: e.value.clone().map(|r| &self.arena[r]),
            headers: &self.headers[e.headers.clone()],
            arena: &self.arena,
        })
    }
}

/// A record being written. Key, value and headers may be written in any order.
#[derive(Debug)]
pub struct RecordBuilder<'b> {
    batch: &'b mut Batch,
    entry: Entry,
    arena_start: usize,
    finished: bool,
}

impl RecordBuilder<'_> {
    /// Sets the partition.
    pub fn partition(&mut self, partition: i32) -> &mut Self {
        self.entry.partition = partition;
        self
    }

    /// Sets the timestamp, milliseconds since 1970.
    pub fn timestamp(&mut self, ms: i64) -> &mut Self {
        self.entry.timestamp = ms;
        self
    }

    /// Writes the key: the closure appends its bytes. Not called: a null key.
    pub fn key<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let start = self.batch.arena.len();
        let result = write(&mut self.batch.arena);
        self.entry.key = Some(start..self.batch.arena.len());
        result
    }

    /// Writes the value: the closure appends its bytes. Not called: a tombstone.
    pub fn value<R>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let start = self.batch.arena.len();
        let result = write(&mut self.batch.arena);
        self.entry.value = Some(start..self.batch.arena.len());
        result
    }

    /// Adds a header.
    pub fn header(&mut self, name: &[u8], value: Option<&[u8]>) -> &mut Self {
        let arena = &mut self.batch.arena;
        let start = arena.len();
        arena.extend_from_slice(name);
        let middle = arena.len();
        let value = value.map(|v| {
            arena.extend_from_slice(v);
            middle..arena.len()
        });
        self.batch.headers.push(Header { name: start..middle, value });
        self.entry.headers.end = self.batch.headers.len();
        self
    }

    /// Makes the record part of the batch.
    pub fn finish(mut self) {
        self.finished = true;
        self.batch.entries.push(self.entry.clone());
    }
}

impl Drop for RecordBuilder<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.batch.arena.truncate(self.arena_start);
            self.batch.headers.truncate(self.entry.headers.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_written() {
        let mut batch = Batch::new();
        let t = batch.topic("a.b");
        let mut r = batch.record(t);
        r.key(|out| out.extend_from_slice(b"k"));
        r.value(|out| out.extend_from_slice(b"value"));
        r.header(b"h", Some(b"1")).header(b"n", None).timestamp(7).partition(3);
        r.finish();
        let mut dropped = batch.record(t);
        dropped.value(|out| out.extend_from_slice(b"never"));
        drop(dropped);
        batch.record(t).finish();

        let records: Vec<_> = batch.iter().collect();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].key, Some(&b"k"[..]));
        assert_eq!(records[0].value, Some(&b"value"[..]));
        assert_eq!(records[0].partition, Some(3));
        assert_eq!(records[0].timestamp, Some(7));
        let headers: Vec<_> = records[0].headers().collect();
        assert_eq!(headers, [(&b"h"[..], Some(&b"1"[..])), (&b"n"[..], None)]);
        assert_eq!((records[1].key, records[1].value, records[1].partition), (None, None, None));
    }

    #[test]
    fn truncate_gives_up_the_last_records() {
        let mut batch = Batch::new();
        let t = batch.topic("t");
        for n in 0..3u8 {
            let mut r = batch.record(t);
            r.header(b"h", Some(&[n]));
            r.value(|out| out.push(n));
            r.finish();
        }
        batch.truncate(1);
        assert_eq!((batch.len(), batch.bytes()), (1, 3));
    }
}
