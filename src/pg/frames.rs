//! The frames of a stream, borrowed from the read that brought them.

use bytes::Bytes;

use super::Lsn;
use super::wire::{HEADER, frame_size};

/// A change message with where it stands in the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XLogData<'a> {
    /// Start of this message's WAL.
    pub wal_start: Lsn,
    /// End of the WAL at the server when it was sent.
    pub wal_end: Lsn,
    /// The server's clock then, microseconds since 2000-01-01 UTC.
    pub clock: i64,
    /// A pgoutput message: see [`super::pgoutput::parse`].
    pub payload: &'a [u8],
}

/// A sign of life of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Everything before this position has been sent or does not concern this stream. With nothing pending it
    /// may be confirmed, after an offset record with it is durable.
    pub wal_end: Lsn,
    /// The server's clock, microseconds since 2000-01-01 UTC.
    pub clock: i64,
    /// The server wants an answer: it is shutting down, or has not heard of us for long.
    pub asks: bool,
}

/// One message of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalFrame<'a> {
    /// A change.
    Data(XLogData<'a>),
    /// A sign of life; one that asks for an answer has been answered already.
    Keepalive(Keepalive),
}

/// Whole frames as they came in one read; checked, so that iterating cannot fail.
#[derive(Clone, Debug)]
pub struct WalChunk {
    pub(super) bytes: Bytes,
}

impl WalChunk {
    /// Its frames.
    pub fn iter(&self) -> WalFrames<'_> {
        WalFrames { rest: &self.bytes }
    }

    /// What `frames`, an iterator over this chunk, has not given yet.
    #[must_use]
    pub fn rest(&self, frames: &WalFrames<'_>) -> Self {
        Self { bytes: self.bytes.slice(self.bytes.len().saturating_sub(frames.rest.len())..) }
    }

    /// Its size in bytes, headers included.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl<'a> IntoIterator for &'a WalChunk {
    type Item = WalFrame<'a>;
    type IntoIter = WalFrames<'a>;

    fn into_iter(self) -> WalFrames<'a> {
        self.iter()
    }
}

/// Iterator over a chunk's frames.
#[derive(Clone, Debug)]
pub struct WalFrames<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for WalFrames<'a> {
    type Item = WalFrame<'a>;

    #[inline]
    fn next(&mut self) -> Option<WalFrame<'a>> {
        let total = frame_size(self.rest).ok()??;
        let (frame, rest) = self.rest.split_at_checked(total)?;
        self.rest = rest;
        decode(frame.get(HEADER..)?).map(|(frame, _)| frame)
    }
}

/// Reads a CopyData body; the flag says that the server asks for an answer.
#[inline]
pub(super) fn decode(body: &[u8]) -> Option<(WalFrame<'_>, bool)> {
    let (&kind, rest) = body.split_first()?;
    match kind {
        b'w' => {
            let (wal_start, rest) = rest.split_first_chunk::<8>()?;
            let (wal_end, rest) = rest.split_first_chunk::<8>()?;
            let (clock, payload) = rest.split_first_chunk::<8>()?;
            let data = XLogData {
                wal_start: Lsn(u64::from_be_bytes(*wal_start)),
                wal_end: Lsn(u64::from_be_bytes(*wal_end)),
                clock: i64::from_be_bytes(*clock),
                payload,
            };
            Some((WalFrame::Data(data), false))
        }
        b'k' => {
            let (wal_end, rest) = rest.split_first_chunk::<8>()?;
            let (clock, rest) = rest.split_first_chunk::<8>()?;
            let asks = *rest.first()? == 1;
            let (wal_end, clock) = (Lsn(u64::from_be_bytes(*wal_end)), i64::from_be_bytes(*clock));
            Some((WalFrame::Keepalive(Keepalive { wal_end, clock, asks }), asks))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_chunk() {
        let mut bytes = Vec::new();
        let mut body = vec![b'w'];
        for n in [7u64, 9, 11] {
            body.extend_from_slice(&n.to_be_bytes());
        }
        body.extend_from_slice(b"payload");
        let mut alive = vec![b'k'];
        alive.extend_from_slice(&13u64.to_be_bytes());
        alive.extend_from_slice(&15u64.to_be_bytes());
        alive.push(1);
        for body in [&body, &alive] {
            bytes.push(b'd');
            bytes.extend_from_slice(&(u32::try_from(body.len()).unwrap() + 4).to_be_bytes());
            bytes.extend_from_slice(body);
        }
        let chunk = WalChunk { bytes: bytes.into() };
        let frames: Vec<WalFrame<'_>> = chunk.iter().collect();
        assert_eq!(
            frames,
            [
                WalFrame::Data(XLogData {
                    wal_start: Lsn(7),
                    wal_end: Lsn(9),
                    clock: 11,
                    payload: b"payload"
                }),
                WalFrame::Keepalive(Keepalive { wal_end: Lsn(13), clock: 15, asks: true }),
            ]
        );
    }
}
