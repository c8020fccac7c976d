//! The bytes of a partition: frames of records, each with a checksum.
//!
//! A frame is what one commit wrote to one partition (large commits are cut into several). Numbers are
//! little-endian; `uv` is an unsigned LEB128 varint, `sv` the same of a zigzag number.
//!
//! ```text
//! 0  u32 length of the body      4  u32 crc32c of everything from byte 8 on
//! 8  i64 first offset           16  i64 last offset (of the frame as written; compaction leaves gaps)
//! 24 i64 base timestamp, ms     32  i64 greatest timestamp, ms       40 u32 number of records
//! 44 body: per record  uv length of the rest, uv offset - first, sv timestamp - base,
//!          uv 0 | 1+len key, uv 0 | 1+len value, uv headers, per header uv len name, uv 0 | 1+len value
//! ```
//!
//! When the highest bit of the number of records is set, the body is compressed: u32 length of the records, then
//! an LZ4 block of them. Change events repeat their schema and source blocks; what is not written need not be
//! synced either.

use crate::log::batch::BatchRecord;

/// Bytes before a frame's body.
pub const HEADER: usize = 44;

/// A frame is closed when its body has reached this size.
const TARGET_BODY: usize = 128 * 1024;

/// Smaller bodies are written as they are.
const COMPRESS_FROM: usize = 512;

/// So are larger ones (one large record each): compressing takes as much memory again.
const COMPRESS_TO: usize = 1 << 20;

/// The bit of the record count that says that the body is compressed.
const COMPRESSED: u32 = 1 << 31;

/// What is wrong with bytes that should be a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The bytes end before the frame does.
    #[error("the file ends within a frame")]
    Truncated,
    /// The checksum does not fit.
    #[error("the checksum does not match (stored {stored:08x}, computed {computed:08x})")]
    Checksum {
        /// What the frame says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A length or offset makes no sense.
    #[error("a record cannot be parsed: {0}")]
    Malformed(&'static str),
    /// The compressed body cannot be unpacked.
    #[error("a compressed frame cannot be unpacked: {0}")]
    Compressed(String),
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes after the header.
    pub body: usize,
    /// Checksum of the bytes from offset 8 on.
    pub crc: u32,
    /// Offset of the first record as written.
    pub first: i64,
    /// Offset of the last record as written.
    pub last: i64,
    /// Timestamp that the records' timestamps are relative to.
    pub base_timestamp: i64,
    /// Greatest timestamp.
    pub max_timestamp: i64,
    /// Number of records.
    pub count: u32,
    /// The body is an LZ4 block.
    pub compressed: bool,
}

impl FrameHeader {
    /// Reads a header; `None` when there are too few bytes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER>()?;
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| i64::from(word(at)) | (i64::from(word(at + 4)) << 32);
        Some(Self {
            body: word(0) as usize,
            crc: word(4),
            first: long(8),
            last: long(16),
            base_timestamp: long(24),
            max_timestamp: long(32),
            count: word(40) & !COMPRESSED,
            compressed: word(40) & COMPRESSED != 0,
        })
    }

    /// Bytes of the whole frame.
    pub fn size(&self) -> usize {
        HEADER + self.body
    }

    /// Checks the checksum of a whole frame.
    ///
    /// # Errors
    /// [`FrameError::Truncated`] or [`FrameError::Checksum`].
    pub fn verify(&self, frame: &[u8]) -> Result<(), FrameError> {
        let covered = frame.get(8..self.size()).ok_or(FrameError::Truncated)?;
        let computed = crc32c::crc32c(covered);
        if computed == self.crc { Ok(()) } else { Err(FrameError::Checksum { stored: self.crc, computed }) }
    }
}

/// Where a written frame lies in a [`FrameWriter`]'s bytes.
#[derive(Clone, Copy, Debug)]
pub struct FrameMeta {
    /// Position of the first byte.
    pub position: usize,
    /// Bytes.
    pub size: usize,
    /// Offset of the first record.
    pub first: i64,
    /// Offset of the last record.
    pub last: i64,
    /// Greatest timestamp.
    pub max_timestamp: i64,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    position: usize,
    first: i64,
    last: i64,
    base_timestamp: i64,
    max_timestamp: i64,
    count: u32,
}

/// Writes the records of one partition into frames. Memory is kept over [`FrameWriter::clear`].
#[derive(Debug, Default)]
pub struct FrameWriter {
    bytes: Vec<u8>,
    frames: Vec<FrameMeta>,
    open: Option<Open>,
    scratch: Vec<u8>,
    packed: Vec<u8>,
}

/// A record's parts as they are written: key, value, headers.
pub trait RecordParts {
    /// Key.
    fn key(&self) -> Option<&[u8]>;
    /// Value.
    fn value(&self) -> Option<&[u8]>;
    /// Calls `each` for every header in order; the first argument of the result is their number.
    fn headers(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)>;
}

impl RecordParts for BatchRecord<'_> {
    fn key(&self) -> Option<&[u8]> {
        self.key
    }
    fn value(&self) -> Option<&[u8]> {
        self.value
    }
    fn headers(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        BatchRecord::headers(self)
    }
}

impl FrameWriter {
    /// Empties it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.frames.clear();
        self.open = None;
    }

    /// Gives memory beyond `keep` bytes back; returns what is left.
    pub fn shrink(&mut self, keep: usize) -> usize {
        if self.bytes.capacity() > keep {
            self.bytes.shrink_to(keep);
        }
        if self.packed.capacity() > 2 * TARGET_BODY {
            self.packed = Vec::new();
        }
        self.bytes.capacity()
    }

    /// Appends a record; offsets must grow.
    pub fn push(&mut self, offset: i64, timestamp: i64, record: &impl RecordParts) {
        let mut open = match self.open {
            Some(open) => open,
            None => {
                let position = self.bytes.len();
                self.bytes.resize(position + HEADER, 0);
                Open {
                    position,
                    first: offset,
                    last: offset,
                    base_timestamp: timestamp,
                    max_timestamp: i64::MIN,
                    count: 0,
                }
            }
        };
        let out = &mut self.scratch;
        out.clear();
        put_uv(out, offset.abs_diff(open.first));
        put_sv(out, timestamp.wrapping_sub(open.base_timestamp));
        let headers = record.headers();
        let plain = headers.len() == 0;
        let optional = |part: Option<&[u8]>| part.map_or(0, |p| p.len() as u64 + 1);
        let key = optional(record.key());
        let value = optional(record.value());
        if plain {
            let size = out.len()
                + uv_len(key)
                + uv_len(value)
                + 1
                + record.key().map_or(0, <[u8]>::len)
                + record.value().map_or(0, <[u8]>::len);
            // At once: else the byte behind a large value would double the memory.
            self.bytes.reserve(size + 2 * HEADER);
            put_uv(&mut self.bytes, size as u64);
            self.bytes.extend_from_slice(out);
            put_part(&mut self.bytes, record.key());
            put_part(&mut self.bytes, record.value());
            self.bytes.push(0);
        } else {
            put_part(out, record.key());
            put_part(out, record.value());
            put_uv(out, headers.len() as u64);
            for (name, value) in headers {
                put_uv(out, name.len() as u64);
                out.extend_from_slice(name);
                put_part(out, value);
            }
            put_uv(&mut self.bytes, out.len() as u64);
            self.bytes.extend_from_slice(out);
        }
        open.last = offset;
        open.max_timestamp = open.max_timestamp.max(timestamp);
        open.count += 1;
        self.open = Some(open);
        if self.bytes.len() - open.position >= TARGET_BODY {
            self.close();
        }
    }

    /// Closes the open frame, if any, and returns all bytes and frames.
    pub fn finish(&mut self) -> (&[u8], &[FrameMeta]) {
        self.close();
        (&self.bytes, &self.frames)
    }

    /// Bytes and frames so far; the open frame is not among the frames.
    pub fn parts(&self) -> (&[u8], &[FrameMeta]) {
        (&self.bytes, &self.frames)
    }

    /// Replaces the bytes from `body` on by their LZ4 block where that saves an eighth or more.
    fn compress(&mut self, body: usize) -> bool {
        let plain = self.bytes.get(body..).unwrap_or_default();
        let Ok(length) = u32::try_from(plain.len()) else { return false };
        if !(COMPRESS_FROM..=COMPRESS_TO).contains(&plain.len()) {
            return false;
        }
        self.packed.resize(4 + lz4_flex::block::get_maximum_output_size(plain.len()), 0);
        let (head, block) = self.packed.split_at_mut(4);
        head.copy_from_slice(&length.to_le_bytes());
        match lz4_flex::block::compress_into(plain, block) {
            Ok(packed) if 4 + packed <= plain.len() - plain.len() / 8 => {
                self.bytes.truncate(body);
                self.bytes.extend_from_slice(self.packed.get(..4 + packed).unwrap_or_default());
                true
            }
            _ => false,
        }
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let compressed = self.compress(open.position + HEADER);
        let size = self.bytes.len() - open.position;
        let frame = &mut self.bytes[open.position..];
        // A frame holds at most one batch, whose size the committer bounds far below 4 GiB.
        let body = u32::try_from(size - HEADER).unwrap_or(u32::MAX);
        let count = open.count | if compressed { COMPRESSED } else { 0 };
        frame[0..4].copy_from_slice(&body.to_le_bytes());
        frame[8..16].copy_from_slice(&open.first.to_le_bytes());
        frame[16..24].copy_from_slice(&open.last.to_le_bytes());
        frame[24..32].copy_from_slice(&open.base_timestamp.to_le_bytes());
        frame[32..40].copy_from_slice(&open.max_timestamp.to_le_bytes());
        frame[40..44].copy_from_slice(&count.to_le_bytes());
        let crc = crc32c::crc32c(&frame[8..]);
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
        self.frames.push(FrameMeta {
            position: open.position,
            size,
            first: open.first,
            last: open.last,
            max_timestamp: open.max_timestamp,
        });
    }
}

fn uv_len(n: u64) -> usize {
    (64 - (n | 1).leading_zeros() as usize).div_ceil(7)
}

fn put_uv(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push((n & 0x7f) as u8);
}

fn put_sv(out: &mut Vec<u8>, n: i64) {
    put_uv(out, ((n << 1) ^ (n >> 63)).cast_unsigned());
}

fn put_part(out: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        None => out.push(0),
        Some(bytes) => {
            put_uv(out, bytes.len() as u64 + 1);
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::Unpacked;
    use super::*;
    use crate::log::Batch;

    #[test]
    fn records_survive_and_damage_is_seen() {
        let mut batch = Batch::new();
        let topic = batch.topic("t");
        let mut r = batch.record(topic);
        r.key(|o| o.extend_from_slice(b"key"));
        r.value(|o| o.extend_from_slice(&[7; 300]));
        r.finish();
        let mut r = batch.record(topic);
        r.header(b"h", Some(b"v")).header(b"null", None);
        r.finish();
        let mut writer = FrameWriter::default();
        for (i, record) in batch.iter().enumerate() {
            writer.push(1000 + i as i64 * 3, 50 - i as i64, &record);
        }
        let (bytes, frames) = writer.finish();
        assert_eq!((frames.len(), frames[0].size), (1, bytes.len()));
        let header = FrameHeader::parse(bytes).unwrap();
        header.verify(bytes).unwrap();
        assert_eq!((header.first, header.last, header.max_timestamp, header.count), (1000, 1003, 50, 2));
        let mut unpacked = Unpacked::default();
        let records: Vec<_> = unpacked.records(header, bytes).unwrap().map(|r| r.unwrap()).collect();
        assert_eq!((records[0].offset, records[0].timestamp), (1000, 50));
        assert_eq!(
            (records[0].key, records[0].value.map(<[u8]>::len), records[0].headers().count()),
            (Some(&b"key"[..]), Some(300), 0)
        );
        assert_eq!((records[1].offset, records[1].timestamp, records[1].key), (1003, 49, None));
        let headers: Vec<_> = records[1].headers().collect();
        assert_eq!(headers, [(&b"h"[..], Some(&b"v"[..])), (&b"null"[..], None)]);

        for i in 8..bytes.len() {
            let mut damaged = bytes.to_vec();
            damaged[i] ^= 1;
            assert!(header.verify(&damaged).is_err(), "byte {i}");
        }
        assert_eq!(header.verify(&bytes[..bytes.len() - 1]), Err(FrameError::Truncated));
    }

    #[test]
    fn large_commits_are_cut() {
        let mut batch = Batch::new();
        let topic = batch.topic("t");
        for _ in 0..10 {
            let mut r = batch.record(topic);
            r.value(|o| o.resize(o.len() + 50_000, 1));
            r.finish();
        }
        let mut writer = FrameWriter::default();
        for (i, record) in batch.iter().enumerate() {
            writer.push(i as i64, 0, &record);
        }
        let (_, frames) = writer.finish();
        let spans: Vec<_> = frames.iter().map(|f| (f.first, f.last)).collect();
        assert_eq!(spans, [(0, 2), (3, 5), (6, 8), (9, 9)]);
    }
}
