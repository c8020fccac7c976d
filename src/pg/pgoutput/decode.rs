//! The parser. Every byte is hostile: lengths are checked before they are used, nothing panics, and the only
//! allocations are those of Relation and Truncate messages (bounded by the message's own length).

use super::{Column, Message, OldTuple, Relation, RelationColumn, ReplicaIdentity, Tuple};
use crate::pg::Lsn;

/// Why a message is not a pgoutput message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends in the middle of a field.
    #[error("pgoutput message {0:?} ends too early")]
    Truncated(char),
    /// The message has bytes behind its last field.
    #[error("pgoutput message {0:?} has {1} bytes too many")]
    TrailingBytes(char, usize),
    /// The message's type is not known in protocol versions 1 and 2.
    #[error("unknown pgoutput message type {0:#04x}")]
    UnknownMessage(u8),
    /// A field holds a value that the protocol does not define.
    #[error("pgoutput message {message:?}: {field} is {value:#04x}, which the protocol does not define")]
    UnknownValue {
        /// Type of the message.
        message: char,
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u8,
    },
    /// A name is not UTF-8 (the session asks for `client_encoding=UTF8`).
    #[error("pgoutput message {0:?}: a name is not UTF-8")]
    NotUtf8(char),
    /// The message has no bytes.
    #[error("empty pgoutput message")]
    Empty,
}

/// A cursor over one message.
struct Reader<'a> {
    rest: &'a [u8],
    tag: char,
}

impl<'a> Reader<'a> {
    #[inline]
    fn truncated<T>(&self) -> Result<T, DecodeError> {
        Err(DecodeError::Truncated(self.tag))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => self.truncated(),
        }
    }

    #[inline]
    fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[b]| b)
    }

    #[inline]
    fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    #[inline]
    fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    #[inline]
    fn lsn(&mut self) -> Result<Lsn, DecodeError> {
        self.array().map(|b| Lsn(u64::from_be_bytes(b)))
    }

    #[inline]
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(len) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => self.truncated(),
        }
    }

    /// A length of four bytes and that many bytes.
    #[inline]
    fn counted(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.u32()?;
        match usize::try_from(len) {
            Ok(len) => self.bytes(len),
            Err(_) => self.truncated(),
        }
    }

    /// A string that ends with a NUL.
    fn string(&mut self) -> Result<&'a str, DecodeError> {
        let Some(end) = memchr::memchr(0, self.rest) else { return self.truncated() };
        let text = self.bytes(end)?;
        self.u8()?;
        std::str::from_utf8(text).map_err(|_| DecodeError::NotUtf8(self.tag))
    }

    fn unknown<T>(&self, field: &'static str, value: u8) -> Result<T, DecodeError> {
        Err(DecodeError::UnknownValue { message: self.tag, field, value })
    }

    /// A tuple: checks every column's length, so that iterating cannot fail.
    #[inline]
    fn tuple(&mut self) -> Result<Tuple<'a>, DecodeError> {
        let columns = self.u16()?;
        let start = self.rest;
        for _ in 0..columns {
            match self.u8()? {
                b'n' | b'u' => {}
                b't' | b'b' => {
                    self.counted()?;
                }
                other => return self.unknown("column kind", other),
            }
        }
        let len = start.len() - self.rest.len();
        Ok(Tuple { columns, bytes: start.get(..len).unwrap_or_default() })
    }

    fn relation(&mut self) -> Result<Relation, DecodeError> {
        let oid = self.u32()?;
        let schema = self.string()?;
        // An empty namespace is how the server writes pg_catalog.
        let schema = if schema.is_empty() { "pg_catalog" } else { schema }.to_owned();
        let name = self.string()?.to_owned();
        let identity = match self.u8()? {
            b'd' => ReplicaIdentity::Default,
            b'n' => ReplicaIdentity::Nothing,
            b'f' => ReplicaIdentity::Full,
            b'i' => ReplicaIdentity::Index,
            other => return self.unknown("replica identity", other),
        };
        let count = self.u16()?;
        // A column takes at least ten bytes: a hostile count cannot reserve more than the message holds.
        let mut columns = Vec::with_capacity(usize::from(count).min(self.rest.len() / 10));
        for _ in 0..count {
            let flags = self.u8()?;
            let name = self.string()?.to_owned();
            let type_oid = self.u32()?;
            let typmod = self.i32()?;
            columns.push(RelationColumn { in_identity: flags & 1 != 0, name, type_oid, typmod });
        }
        Ok(Relation { oid, schema, name, identity, columns })
    }
}

/// Parses one message. `in_stream` is true between [`Message::StreamStart`] and [`Message::StreamStop`]
/// (protocol 2+), where changes carry a transaction id, which this function drops: see [`parse_streamed`].
///
/// # Errors
/// When the bytes are not a message of protocol versions 1 or 2.
#[inline]
pub fn parse(bytes: &[u8], in_stream: bool) -> Result<Message<'_>, DecodeError> {
    decode(bytes, in_stream).map(|(_, message)| message)
}

/// Parses one message inside a streamed piece, with the id of the (sub)transaction that a change, relation or
/// type belongs to: a [`Message::StreamAbort`] of that id takes it back.
///
/// # Errors
/// When the bytes are not a message of protocol version 2.
#[inline]
pub fn parse_streamed(bytes: &[u8]) -> Result<(Option<u32>, Message<'_>), DecodeError> {
    decode(bytes, true)
}

#[inline]
fn decode(bytes: &[u8], in_stream: bool) -> Result<(Option<u32>, Message<'_>), DecodeError> {
    let Some((&tag, rest)) = bytes.split_first() else { return Err(DecodeError::Empty) };
    let mut r = Reader { rest, tag: char::from(tag) };
    let carries_xid = matches!(tag, b'I' | b'U' | b'D' | b'R' | b'Y' | b'T' | b'M');
    let xid = if in_stream && carries_xid { Some(r.u32()?) } else { None };
    let message = match tag {
        b'I' => insert(&mut r)?,
        b'U' => update(&mut r)?,
        b'D' => delete(&mut r)?,
        b'B' => Message::Begin { final_lsn: r.lsn()?, commit_ts: r.i64()?, xid: r.u32()? },
        b'C' => {
            let _flags = r.u8()?;
            Message::Commit { commit_lsn: r.lsn()?, end_lsn: r.lsn()?, commit_ts: r.i64()? }
        }
        b'O' => Message::Origin { lsn: r.lsn()?, name: r.string()? },
        b'R' => Message::Relation(r.relation()?),
        b'Y' => Message::Type { oid: r.u32()?, schema: r.string()?, name: r.string()? },
        b'T' => truncate(&mut r)?,
        b'M' => {
            let flags = r.u8()?;
            Message::LogicalMessage {
                transactional: flags & 1 != 0,
                lsn: r.lsn()?,
                prefix: r.string()?,
                content: r.counted()?,
            }
        }
        b'S' => Message::StreamStart { xid: r.u32()?, first: r.u8()? == 1 },
        b'E' => Message::StreamStop,
        b'c' => {
            let xid = r.u32()?;
            let _flags = r.u8()?;
            Message::StreamCommit { xid, commit_lsn: r.lsn()?, end_lsn: r.lsn()?, commit_ts: r.i64()? }
        }
        b'A' => Message::StreamAbort { xid: r.u32()?, subxid: r.u32()? },
        other => return Err(DecodeError::UnknownMessage(other)),
    };
    if r.rest.is_empty() { Ok((xid, message)) } else { Err(DecodeError::TrailingBytes(r.tag, r.rest.len())) }
}

#[inline]
fn insert<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = r.u32()?;
    match r.u8()? {
        b'N' => Ok(Message::Insert { relation, new: r.tuple()? }),
        other => r.unknown("tuple kind", other),
    }
}

#[inline]
fn update<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = r.u32()?;
    let mut kind = r.u8()?;
    let old = match kind {
        b'K' => Some(OldTuple::Key(r.tuple()?)),
        b'O' => Some(OldTuple::Full(r.tuple()?)),
        _ => None,
    };
    if old.is_some() {
        kind = r.u8()?;
    }
    match kind {
        b'N' => Ok(Message::Update { relation, old, new: r.tuple()? }),
        other => r.unknown("tuple kind", other),
    }
}

#[inline]
fn delete<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let relation = r.u32()?;
    let old = match r.u8()? {
        b'K' => OldTuple::Key(r.tuple()?),
        b'O' => OldTuple::Full(r.tuple()?),
        other => return r.unknown("tuple kind", other),
    };
    Ok(Message::Delete { relation, old })
}

fn truncate<'a>(r: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    let count = r.u32()?;
    let options = r.u8()?;
    let fits = usize::try_from(count).unwrap_or(usize::MAX).min(r.rest.len() / 4);
    let mut relations = Vec::with_capacity(fits);
    for _ in 0..count {
        relations.push(r.u32()?);
    }
    Ok(Message::Truncate { cascade: options & 1 != 0, restart_identity: options & 2 != 0, relations })
}

impl<'a> Tuple<'a> {
    /// How many columns it has.
    pub fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// Whether it has no columns.
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// The columns in wire order.
    #[inline]
    pub fn iter(&self) -> TupleIter<'a> {
        TupleIter { left: self.columns, rest: self.bytes }
    }
}

impl<'a> IntoIterator for Tuple<'a> {
    type Item = Column<'a>;
    type IntoIter = TupleIter<'a>;

    fn into_iter(self) -> TupleIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Tuple<'a> {
    type Item = Column<'a>;
    type IntoIter = TupleIter<'a>;

    fn into_iter(self) -> TupleIter<'a> {
        self.iter()
    }
}

impl<'a> OldTuple<'a> {
    /// The columns, whichever kind of old row it is.
    pub fn tuple(&self) -> Tuple<'a> {
        match self {
            Self::Key(tuple) | Self::Full(tuple) => *tuple,
        }
    }
}

/// Iterator over a tuple's columns.
#[derive(Clone, Debug)]
pub struct TupleIter<'a> {
    left: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for TupleIter<'a> {
    type Item = Column<'a>;

    #[inline]
    fn next(&mut self) -> Option<Column<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        // The parser has checked kinds and lengths; an end reached early would just end the iteration.
        let (&kind, rest) = self.rest.split_first()?;
        self.rest = rest;
        match kind {
            b'n' => return Some(Column::Null),
            b'u' => return Some(Column::Unchanged),
            _ => {}
        }
        let (len, rest) = self.rest.split_first_chunk::<4>()?;
        let len = usize::try_from(u32::from_be_bytes(*len)).ok()?;
        let (value, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some(if kind == b'b' { Column::Binary(value) } else { Column::Text(value) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (usize::from(self.left), Some(usize::from(self.left)))
    }
}

impl ExactSizeIterator for TupleIter<'_> {}
