//! Records as a reader gets them: one arena per fetch, slices of it per record.

use std::ops::Range;
use std::sync::Arc;

use super::TopicPartition;

/// A record of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where it stands.
    pub at: &'a TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Key; `None` is a null.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The partition leader's epoch when it was written; the embedded log has no leaders.
    pub leader_epoch: Option<i32>,
    headers: &'a [(Range<usize>, Option<Range<usize>>)],
    arena: &'a [u8],
}

impl<'a> Record<'a> {
    /// Header names and values in order; a `None` value is a null.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let arena = self.arena;
        self.headers.iter().map(move |(n, v)| (&arena[n.clone()], v.clone().map(|v| &arena[v])))
    }
}

#[derive(Clone, Debug)]
struct Entry {
    at: u32,
    offset: i64,
    timestamp: i64,
    leader_epoch: Option<i32>,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
}

/// What one poll fetched.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    arena: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<(Range<usize>, Option<Range<usize>>)>,
    partitions: Vec<Arc<TopicPartition>>,
    next: Vec<(Arc<TopicPartition>, i64)>,
}

impl Fetched {
    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was fetched.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys, values and headers.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// The records: in offset order within each partition.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.entries.iter().map(move |e| Record {
            at: &self.partitions[e.at as usize],
            offset: e.offset,
            timestamp: e.timestamp,
            leader_epoch: e.leader_epoch,
            key: e.key.clone().map(|r| &self.arena[r]),
            value: e.value.clone().map(|r| &self.arena[r]),
            headers: &self.headers[e.headers.clone()],
            arena: &self.arena,
        })
    }

    /// For every partition that moved: the offset to read next, after the last record here or after what a
    /// store skipped (Kafka's control records).
    pub fn next_offsets(&self) -> &[(Arc<TopicPartition>, i64)] {
        &self.next
    }

    /// For stores: adds a record.
    pub fn push<'h>(
        &mut self,
        at: &Arc<TopicPartition>,
        offset: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        let at_id = match self.partitions.iter().rposition(|p| Arc::ptr_eq(p, at) || p == at) {
            Some(i) => i,
            None => {
                self.partitions.push(Arc::clone(at));
                self.partitions.len() - 1
            }
        };
        let key = key.map(|k| self.append(k));
        let value = value.map(|v| self.append(v));
        let first = self.headers.len();
        for (name, value) in headers {
            let name = self.append(name);
            let value = value.map(|v| self.append(v));
            self.headers.push((name, value));
        }
        let headers = first..self.headers.len();
        let at_id = u32::try_from(at_id).unwrap_or(u32::MAX);
        self.entries.push(Entry { at: at_id, offset, timestamp, leader_epoch: None, key, value, headers });
        self.moved(at, offset + 1);
    }

    /// For stores: the leader's epoch of the record that was added last.
    pub fn leader_epoch(&mut self, epoch: Option<i32>) {
        if let Some(last) = self.entries.last_mut() {
            last.leader_epoch = epoch;
        }
    }

    /// For stores: a partition's next offset moved on.
    pub fn moved(&mut self, at: &Arc<TopicPartition>, next: i64) {
        match self.next.iter_mut().rev().find(|(p, _)| Arc::ptr_eq(p, at) || p == at) {
            Some((_, offset)) => *offset = next,
            None => self.next.push((Arc::clone(at), next)),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        start..self.arena.len()
    }
}
