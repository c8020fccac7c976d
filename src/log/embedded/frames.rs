//! Fetched records as bytes, for the control socket: the partitions' frames, as they would lie in a file.
//!
//! Per partition: u32 length of the topic's name, the name, i32 partition, i64 next offset, u64 length of the
//! frames, the frames.

use std::sync::Arc;

use super::frame::{FrameHeader, FrameWriter, RecordParts};
use super::records::Unpacked;
use crate::log::{Fetched, Record, TopicPartition};

impl RecordParts for Record<'_> {
    fn key(&self) -> Option<&[u8]> {
        self.key
    }
    fn value(&self) -> Option<&[u8]> {
        self.value
    }
    fn headers(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        Record::headers(self)
    }
}

/// Writes what was fetched.
pub fn encode(fetched: &Fetched) -> Vec<u8> {
    let mut out = Vec::with_capacity(fetched.bytes() + 1024);
    let mut writer = FrameWriter::default();
    for (at, next) in fetched.next_offsets() {
        for record in fetched.iter().filter(|r| *r.at == **at) {
            writer.push(record.offset, record.timestamp, &record);
        }
        let (frames, _) = writer.finish();
        out.extend_from_slice(&u32::try_from(at.topic.len()).unwrap_or(0).to_le_bytes());
        out.extend_from_slice(at.topic.as_bytes());
        out.extend_from_slice(&at.partition.to_le_bytes());
        out.extend_from_slice(&next.to_le_bytes());
        out.extend_from_slice(&(frames.len() as u64).to_le_bytes());
        out.extend_from_slice(frames);
        writer.clear();
    }
    out
}

/// Reads what [`encode`] wrote; `None` when it is damaged.
pub fn decode(mut bytes: &[u8]) -> Option<Fetched> {
    let mut fetched = Fetched::default();
    let mut unpacked = Unpacked::default();
    while !bytes.is_empty() {
        let length = u32::from_le_bytes(*take::<4>(&mut bytes)?) as usize;
        let (name, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        let partition = i32::from_le_bytes(*take::<4>(&mut bytes)?);
        let next = i64::from_le_bytes(*take::<8>(&mut bytes)?);
        let size = usize::try_from(u64::from_le_bytes(*take::<8>(&mut bytes)?)).ok()?;
        let (mut frames, rest) = bytes.split_at_checked(size)?;
        bytes = rest;
        let at = Arc::new(TopicPartition::new(std::str::from_utf8(name).ok()?, partition));
        while !frames.is_empty() {
            let header = FrameHeader::parse(frames)?;
            header.verify(frames).ok()?;
            for record in unpacked.records(header, frames).ok()? {
                let r = record.ok()?;
                fetched.push(&at, r.offset, r.timestamp, r.key, r.value, r.headers());
            }
            frames = frames.get(header.size()..)?;
        }
        fetched.moved(&at, next);
    }
    Some(fetched)
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(taken)
}
