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

use crate::log::batch::BatchRecord;

/// Bytes before a frame's body.
pub const HEADER: usize = 44;

/// A frame is closed when its body has reached this size.
const TARGET_BODY: usize = 128 * 1024;

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
            count: word(40),
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

    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        let size = self.bytes.len() - open.position;
        let frame = &mut self.bytes[open.position..];
        // A frame holds at most one batch, whose size the committer bounds far below 4 GiB.
        let body = u32::try_from(size - HEADER).unwrap_or(u32::MAX);
        frame[0..4].copy_from_slice(&body.to_le_bytes());
        frame[8..16].copy_from_slice(&open.first.to_le_bytes());
        frame[16..24].copy_from_slice(&open.last.to_le_bytes());
        frame[24..32].copy_from_slice(&open.base_timestamp.to_le_bytes());
        frame[32..40].copy_from_slice(&open.max_timestamp.to_le_bytes());
        frame[40..44].copy_from_slice(&open.count.to_le_bytes());
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

/// A record within a frame's body.
#[derive(Clone, Copy, Debug)]
pub struct StoredRecord<'a> {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub value: Option<&'a [u8]>,
    headers: &'a [u8],
    header_count: usize,
}

impl<'a> StoredRecord<'a> {
    /// Header names and values; the bytes were checked when the record was read.
    pub fn headers(&self) -> Headers<'a> {
        Headers { bytes: self.headers, left: self.header_count }
    }
}

impl RecordParts for StoredRecord<'_> {
    fn key(&self) -> Option<&[u8]> {
        self.key
    }
    fn value(&self) -> Option<&[u8]> {
        self.value
    }
    fn headers(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        StoredRecord::headers(self)
    }
}

/// Iterator over a stored record's headers.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let length = take_uv(&mut self.bytes)?;
        let name = take(&mut self.bytes, length)?;
        let value = take_part(&mut self.bytes)?;
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// The records of a verified frame.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    body: &'a [u8],
    header: FrameHeader,
}

impl<'a> Records<'a> {
    /// Over the whole frame, header included.
    pub fn new(header: FrameHeader, frame: &'a [u8]) -> Self {
        Self { body: frame.get(HEADER..header.size()).unwrap_or_default(), header }
    }

    fn read(&mut self) -> Option<StoredRecord<'a>> {
        let size = take_uv(&mut self.body)?;
        let mut record = take(&mut self.body, size)?;
        let delta = take_uv(&mut record)?;
        let timestamp = take_uv(&mut record)?;
        let key = take_part(&mut record)?;
        let value = take_part(&mut record)?;
        let header_count = usize::try_from(take_uv(&mut record)?).ok().filter(|n| *n <= record.len())?;
        let headers = record;
        // Every header is walked once here, so that a damaged one is an error and not a missing one.
        if header_count > 0 && (Headers { bytes: headers, left: header_count }).count() != header_count {
            return None;
        }
        Some(StoredRecord {
            offset: self.header.first.checked_add(i64::try_from(delta).ok()?)?,
            timestamp: self.header.base_timestamp.wrapping_add(unzigzag(timestamp)),
            key,
            value,
            headers,
            header_count,
        })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<StoredRecord<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.body.is_empty() {
            return None;
        }
        let record = self.read().ok_or(FrameError::Malformed("a length reaches beyond the frame"));
        if record.is_err() {
            self.body = &[];
        }
        Some(record)
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

fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -((n & 1).cast_signed())
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

fn take_uv(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

fn take_part<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match take_uv(bytes)? {
        0 => Some(None),
        n => take(bytes, n - 1).map(Some),
    }
}

#[cfg(test)]
mod tests {
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
        let records: Vec<_> = Records::new(header, bytes).map(|r| r.unwrap()).collect();
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
