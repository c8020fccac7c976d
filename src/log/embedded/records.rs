//! Reading the records of a frame (`frame` says how they are written).

use super::frame::{FrameError, FrameHeader, HEADER, RecordParts};

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

/// Room for the records of a compressed frame, kept from frame to frame.
#[derive(Debug, Default)]
pub struct Unpacked(Vec<u8>);

impl Unpacked {
    /// The records of a whole verified frame, header included.
    ///
    /// # Errors
    /// [`FrameError::Compressed`] when a compressed body is damaged.
    pub fn records<'a>(
        &'a mut self,
        header: FrameHeader,
        frame: &'a [u8],
    ) -> Result<Records<'a>, FrameError> {
        let body = frame.get(HEADER..header.size()).ok_or(FrameError::Truncated)?;
        if !header.compressed {
            return Ok(Records { body, header });
        }
        let (length, block) = body.split_first_chunk::<4>().ok_or(FrameError::Truncated)?;
        let length = u32::from_le_bytes(*length) as usize;
        // LZ4 makes at most 255 bytes of one: a length beyond that is damage, not a reason to take memory.
        if length > block.len().saturating_mul(255) {
            return Err(FrameError::Compressed(format!("{} bytes cannot become {length}", block.len())));
        }
        if self.0.len() < length || self.0.len() > length.saturating_mul(4).max(1 << 20) {
            self.0.resize(length, 0);
            self.0.shrink_to(length);
        }
        let room = self.0.get_mut(..length).unwrap_or_default();
        match lz4_flex::block::decompress_into(block, room) {
            Ok(n) if n == length => Ok(Records { body: self.0.get(..length).unwrap_or_default(), header }),
            Ok(n) => Err(FrameError::Compressed(format!("{n} bytes instead of {length}"))),
            Err(e) => Err(FrameError::Compressed(e.to_string())),
        }
    }
}

impl<'a> Records<'a> {
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

fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -((n & 1).cast_signed())
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
    use super::super::frame::FrameWriter;
    use super::*;
    use crate::log::Batch;

    fn frame(value: &[u8], records: i64) -> Vec<u8> {
        let mut batch = Batch::new();
        let topic = batch.topic("t");
        let mut r = batch.record(topic);
        r.value(|o| o.extend_from_slice(value));
        r.finish();
        let mut writer = FrameWriter::default();
        let record = batch.iter().next().unwrap();
        (0..records).for_each(|i| writer.push(i, 0, &record));
        writer.finish().0.to_vec()
    }

    #[test]
    fn repeated_text_is_packed_and_comes_back() {
        let value = br#"{"schema":{"type":"struct","fields":[{"type":"int32"}]},"payload":{"id":1}}"#;
        let bytes = frame(value, 500);
        let header = FrameHeader::parse(&bytes).unwrap();
        assert!(header.compressed && bytes.len() < 500 * value.len() / 5, "{} bytes", bytes.len());
        header.verify(&bytes).unwrap();
        let mut unpacked = Unpacked::default();
        let records: Vec<_> = unpacked.records(header, &bytes).unwrap().map(Result::unwrap).collect();
        assert_eq!(records.len(), 500);
        assert!(records.iter().enumerate().all(|(i, r)| r.offset == i as i64 && r.value == Some(&value[..])));
    }

    #[test]
    fn what_does_not_shrink_is_written_as_it_is() {
        let digest = |i: u32| <sha2::Sha256 as sha2::Digest>::digest(i.to_le_bytes());
        let noise: Vec<u8> = (0..128).flat_map(digest).collect();
        let bytes = frame(&noise, 1);
        assert!(!FrameHeader::parse(&bytes).unwrap().compressed);
    }

    #[test]
    fn hostile_blocks_never_panic() {
        let bytes = frame(&[7; 3000], 3);
        let header = FrameHeader::parse(&bytes).unwrap();
        assert!(header.compressed);
        let mut unpacked = Unpacked::default();
        for at in HEADER..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                // A checksum guards this in life; without it the result may be anything but a panic.
                let _ = unpacked.records(header, &damaged).map(Iterator::count);
            }
        }
        let mut huge = bytes.clone();
        huge[HEADER..HEADER + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(unpacked.records(header, &huge), Err(FrameError::Compressed(_))));
    }
}
