//! Transactions that the server streams before they commit (pgoutput protocol 2), kept until they do.
//!
//! A streamed transaction is emitted only when its commit arrives, from its first change to its last: so its
//! events, their order and their identity are the same as if it had never been streamed, and it makes no
//! difference when the server, after a restart, sends it the other way. What is rolled back leaves nothing.
//!
//! Above a byte budget the changes lie in files, which have no name any more once they are open: whatever ends
//! this process ends them too. Each block has a checksum; a damaged one makes the stream start again, for the
//! server still has everything.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::pg::pgoutput::{self, DecodeError, Message};
use crate::pg::{Lsn, XLogData};

/// A transaction that has a file writes its changes there in blocks of about this size, in bytes.
const BLOCK: usize = 512 << 10;
/// LSN, id of the (sub)transaction, length.
const HEADER: usize = 16;
/// Length and checksum before a block of the file.
const BLOCK_HEADER: usize = 8;

/// Why a streamed transaction cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpoolError {
    /// A message that is none, or stands where it cannot stand.
    #[error("{0}")]
    Message(#[from] DecodeError),
    /// A message outside of the pieces that protocol 2 allows.
    #[error("the server sent a message of a streamed transaction out of its place")]
    OutOfPlace,
    /// The disk refuses.
    #[error("{dir}: {error}")]
    Disk {
        /// The directory of the files.
        dir: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// A block is not what was written.
    #[error("a block in {0} is damaged")]
    Damaged(PathBuf),
    /// The transaction came to the source by replication, and only protocol 1 says from which position.
    #[error("the transaction has a replication origin, whose position only a transaction sent whole tells")]
    Origin,
}

/// What became of a message.
pub(super) enum Taken {
    /// It belongs to no streamed transaction.
    No,
    /// It is kept, or has done its work.
    Kept,
    /// Its transaction has committed.
    Committed(Box<Replay>),
}

/// A streamed transaction under way.
#[derive(Default)]
struct Held {
    /// Where its first piece begins.
    begin: Lsn,
    /// Changes that are not in the file.
    tail: Vec<u8>,
    file: Option<File>,
    /// Rolled back to a savepoint.
    aborted: HashSet<u32>,
}

/// All streamed transactions under way.
pub(super) struct Spool {
    dir: PathBuf,
    /// Bytes of changes in memory, all transactions together.
    budget: usize,
    held: HashMap<u32, Held>,
    /// The transaction whose piece is being received.
    current: Option<u32>,
    in_memory: usize,
    spilled: u64,
}

impl Spool {
    /// Keeps up to `budget` bytes in memory, the rest in files in `dir`.
    pub(super) fn new(dir: &Path, budget: usize) -> Self {
        Self { dir: dir.to_owned(), budget, held: HashMap::new(), current: None, in_memory: 0, spilled: 0 }
    }

    /// Whether a piece is being received.
    pub(super) fn in_piece(&self) -> bool {
        self.current.is_some()
    }

    /// Transactions under way, and bytes written to files since the last call.
    pub(super) fn load(&mut self) -> (usize, u64) {
        (self.held.len(), std::mem::take(&mut self.spilled))
    }

    /// Takes a message if it belongs to a streamed transaction.
    pub(super) fn take(&mut self, data: &XLogData<'_>) -> Result<Taken, SpoolError> {
        let Some((tag, rest)) = data.payload.split_first() else { return Ok(Taken::No) };
        match (tag, self.current) {
            (b'S' | b'E' | b'A' | b'c', _) => self.control(data),
            (_, None) => Ok(Taken::No),
            (b'I' | b'U' | b'D' | b'T' | b'R' | b'Y' | b'M', Some(top)) => {
                // Without the transaction id it is a message of protocol 1.
                let Some((xid, body)) = rest.split_first_chunk::<4>() else {
                    return Err(SpoolError::OutOfPlace);
                };
                self.keep(top, u32::from_be_bytes(*xid), data.wal_start, *tag, body)?;
                Ok(Taken::Kept)
            }
            (b'O', Some(_)) => Err(SpoolError::Origin),
            (_, Some(_)) => Err(SpoolError::OutOfPlace),
        }
    }

    fn control(&mut self, data: &XLogData<'_>) -> Result<Taken, SpoolError> {
        match pgoutput::parse(data.payload, false)? {
            Message::StreamStart { xid, first } => {
                if self.current.replace(xid).is_some() {
                    return Err(SpoolError::OutOfPlace);
                }
                if first {
                    self.forget(xid);
                    self.held.insert(xid, Held { begin: data.wal_start, ..Held::default() });
                } else if !self.held.contains_key(&xid) {
                    return Err(SpoolError::OutOfPlace);
                }
            }
            Message::StreamStop => {
                if self.current.take().is_none() {
                    return Err(SpoolError::OutOfPlace);
                }
            }
            Message::StreamAbort { xid, subxid } if xid == subxid => self.forget(xid),
            Message::StreamAbort { xid, subxid } => {
                if let Some(held) = self.held.get_mut(&xid) {
                    held.aborted.insert(subxid);
                }
            }
            Message::StreamCommit { xid, commit_lsn, end_lsn, commit_ts } => {
                let held = self.held.remove(&xid).ok_or(SpoolError::OutOfPlace)?;
                self.in_memory -= held.tail.len();
                let replay = Replay {
                    xid,
                    begin: held.begin,
                    commit: commit_lsn,
                    end: end_lsn,
                    commit_ts,
                    begun: false,
                    dir: self.dir.clone(),
                    aborted: held.aborted,
                    source: Source::new(held.file, held.tail).map_err(|error| self.disk(error))?,
                };
                return Ok(Taken::Committed(Box::new(replay)));
            }
            _ => return Err(SpoolError::OutOfPlace),
        }
        Ok(Taken::Kept)
    }

    fn forget(&mut self, xid: u32) {
        if let Some(held) = self.held.remove(&xid) {
            self.in_memory -= held.tail.len();
        }
    }

    fn keep(&mut self, top: u32, xid: u32, lsn: Lsn, tag: u8, body: &[u8]) -> Result<(), SpoolError> {
        let held = self.held.get_mut(&top).ok_or(SpoolError::OutOfPlace)?;
        let len = u32::try_from(body.len() + 1).map_err(|_| SpoolError::OutOfPlace)?;
        held.tail.extend_from_slice(&lsn.0.to_le_bytes());
        held.tail.extend_from_slice(&xid.to_le_bytes());
        held.tail.extend_from_slice(&len.to_le_bytes());
        held.tail.push(tag);
        held.tail.extend_from_slice(body);
        self.in_memory += HEADER + 1 + body.len();
        if held.file.is_some() && held.tail.len() >= BLOCK {
            self.spill(top)?;
        }
        while self.in_memory > self.budget {
            let largest = self.held.iter().max_by_key(|(_, held)| held.tail.len()).map(|(xid, _)| *xid);
            let Some(largest) = largest else { break };
            self.spill(largest)?;
        }
        Ok(())
    }

    /// Moves a transaction's changes from memory to its file.
    fn spill(&mut self, xid: u32) -> Result<(), SpoolError> {
        let Some(held) = self.held.get_mut(&xid) else { return Ok(()) };
        let written = (|| {
            let file = match &mut held.file {
                Some(file) => file,
                none => {
                    std::fs::create_dir_all(&self.dir)?;
                    none.insert(tempfile::tempfile_in(&self.dir)?)
                }
            };
            let len = u32::try_from(held.tail.len()).map_err(io::Error::other)?;
            let mut header = [0u8; BLOCK_HEADER];
            let (a, b) = header.split_at_mut(4);
            a.copy_from_slice(&len.to_le_bytes());
            b.copy_from_slice(&crc32c::crc32c(&held.tail).to_le_bytes());
            file.write_all(&header)?;
            file.write_all(&held.tail)
        })();
        if let Err(error) = written {
            return Err(self.disk(error));
        }
        self.in_memory -= held.tail.len();
        self.spilled += held.tail.len() as u64;
        held.tail.clear();
        held.tail.shrink_to(2 * BLOCK);
        Ok(())
    }

    fn disk(&self, error: io::Error) -> SpoolError {
        SpoolError::Disk { dir: self.dir.clone(), error }
    }
}

/// A committed transaction, to be emitted block by block.
pub(super) struct Replay {
    /// Its top-level id.
    pub(super) xid: u32,
    /// Where its first piece begins.
    pub(super) begin: Lsn,
    /// LSN of its commit record.
    pub(super) commit: Lsn,
    /// End of the transaction.
    pub(super) end: Lsn,
    /// Microseconds since 2000-01-01 UTC.
    pub(super) commit_ts: i64,
    /// A change of it has been emitted.
    pub(super) begun: bool,
    dir: PathBuf,
    aborted: HashSet<u32>,
    source: Source,
}

/// The blocks: those of the file, then what stayed in memory.
struct Source {
    file: Option<File>,
    tail: Option<Vec<u8>>,
}

impl Source {
    fn new(mut file: Option<File>, tail: Vec<u8>) -> io::Result<Self> {
        if let Some(file) = &mut file {
            file.seek(SeekFrom::Start(0))?;
        }
        Ok(Self { file, tail: Some(tail) })
    }

    /// The next block in `into`; false at the end.
    fn next(&mut self, into: &mut Vec<u8>) -> io::Result<bool> {
        into.clear();
        if let Some(file) = &mut self.file {
            let mut header = [0u8; BLOCK_HEADER];
            let mut got = 0;
            while let Some(rest) = header.get_mut(got..).filter(|rest| !rest.is_empty()) {
                match file.read(rest)? {
                    0 => break,
                    n => got += n,
                }
            }
            if got > 0 {
                let damaged = || io::Error::from(io::ErrorKind::InvalidData);
                let [a, b, c, d, e, f, g, h] = header;
                let len = u64::from(u32::from_le_bytes([a, b, c, d]));
                // The file's own length bounds what a damaged header can ask for.
                let read = Read::by_ref(file).take(len).read_to_end(into)?;
                let whole = got == BLOCK_HEADER && u64::try_from(read).is_ok_and(|read| read == len);
                if !whole || crc32c::crc32c(into) != u32::from_le_bytes([e, f, g, h]) {
                    return Err(damaged());
                }
                return Ok(true);
            }
            self.file = None;
        }
        match self.tail.take() {
            Some(tail) => {
                *into = tail;
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

impl Replay {
    /// Reads the next block; `None` at the end of the transaction.
    pub(super) fn next_block(&mut self) -> Result<Option<Block>, SpoolError> {
        let mut bytes = Vec::new();
        match self.source.next(&mut bytes) {
            Ok(true) => Ok(Some(Block { bytes })),
            Ok(false) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(SpoolError::Damaged(self.dir.clone())),
            Err(error) => Err(SpoolError::Disk { dir: self.dir.clone(), error }),
        }
    }

    /// Whether a message of this (sub)transaction is to be emitted. Descriptions of tables stay in force also
    /// where the savepoint before them was rolled back: the server sends them once.
    pub(super) fn stands(&self, xid: u32, payload: &[u8]) -> bool {
        self.aborted.is_empty()
            || !self.aborted.contains(&xid)
            || matches!(payload.first(), Some(b'R' | b'Y'))
    }
}

/// Messages in the form of protocol 1.
pub(super) struct Block {
    bytes: Vec<u8>,
}

impl Block {
    /// Id of the (sub)transaction, and the message with its LSN.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, XLogData<'_>)> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let (lsn, tail) = rest.split_first_chunk::<8>()?;
            let (xid, tail) = tail.split_first_chunk::<4>()?;
            let (len, tail) = tail.split_first_chunk::<4>()?;
            let (payload, tail) = tail.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
            rest = tail;
            let lsn = Lsn(u64::from_le_bytes(*lsn));
            Some((u32::from_le_bytes(*xid), XLogData { wal_start: lsn, wal_end: lsn, clock: 0, payload }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(lsn: u64, payload: &[u8]) -> XLogData<'_> {
        XLogData { wal_start: Lsn(lsn), wal_end: Lsn(lsn), clock: 0, payload }
    }

    fn start(xid: u32, first: bool) -> Vec<u8> {
        [&b"S"[..], &xid.to_be_bytes(), &[u8::from(first)]].concat()
    }

    fn insert(xid: u32, n: u32) -> Vec<u8> {
        let tuple = [&[0, 1, b't', 0, 0, 0, 4][..], &n.to_be_bytes()].concat();
        [&b"I"[..], &xid.to_be_bytes(), &7u32.to_be_bytes(), b"N", &tuple].concat()
    }

    fn abort(xid: u32, subxid: u32) -> Vec<u8> {
        [&b"A"[..], &xid.to_be_bytes(), &subxid.to_be_bytes()].concat()
    }

    fn commit(xid: u32) -> Vec<u8> {
        let times = [100u64.to_be_bytes(), 108u64.to_be_bytes(), 5u64.to_be_bytes()].concat();
        [&b"c"[..], &xid.to_be_bytes(), &[0], &times].concat()
    }

    fn feed(spool: &mut Spool, messages: &[Vec<u8>]) -> Option<Box<Replay>> {
        let mut committed = None;
        for (n, m) in messages.iter().enumerate() {
            if let Taken::Committed(replay) = spool.take(&message(n as u64, m)).unwrap() {
                committed = Some(replay);
            }
        }
        committed
    }

    fn values(replay: &mut Replay) -> Vec<u32> {
        let mut out = Vec::new();
        while let Some(block) = replay.next_block().unwrap() {
            for (xid, data) in block.iter() {
                if !replay.stands(xid, data.payload) {
                    continue;
                }
                let Ok(Message::Insert { new, .. }) = pgoutput::parse(data.payload, false) else { panic!() };
                let Some(pgoutput::Column::Text(text)) = new.iter().next() else { panic!() };
                out.push(u32::from_be_bytes(text.try_into().unwrap()));
            }
        }
        out
    }

    #[test]
    fn interleaved_transactions_come_back_in_order_from_memory_and_from_files() {
        let dir = tempfile::tempdir().unwrap();
        for budget in [1 << 20, 200, 0] {
            let mut spool = Spool::new(dir.path(), budget);
            let mut messages = Vec::new();
            for piece in 0..10u32 {
                for xid in [1, 2] {
                    messages.push(start(xid, piece == 0));
                    messages.extend((0..5).map(|n| insert(xid, xid * 1000 + piece * 5 + n)));
                    messages.push(vec![b'E']);
                }
            }
            assert!(feed(&mut spool, &messages).is_none());
            for xid in [2, 1] {
                let mut replay = feed(&mut spool, &[commit(xid)]).unwrap();
                assert_eq!((replay.commit, replay.end, replay.commit_ts), (Lsn(100), Lsn(108), 5));
                let expected: Vec<u32> = (0..50).map(|n| xid * 1000 + n).collect();
                assert_eq!(values(&mut replay), expected, "budget {budget}");
            }
            assert_eq!(spool.in_memory, 0);
            assert_eq!(spool.load().1 > 0, budget < 1 << 20);
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a file has a name");
        }
    }

    #[test]
    fn what_is_rolled_back_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(dir.path(), 100);
        let mut replay = feed(
            &mut spool,
            &[
                start(1, true),
                insert(1, 1),
                insert(11, 2),
                insert(12, 3),
                vec![b'E'],
                abort(1, 11),
                start(1, false),
                insert(13, 4),
                vec![b'E'],
                commit(1),
            ],
        )
        .unwrap();
        assert_eq!(values(&mut replay), [1, 3, 4]);
        assert!(feed(&mut spool, &[start(5, true), insert(5, 1), vec![b'E'], abort(5, 5)]).is_none());
        assert_eq!((spool.in_memory, spool.held.len()), (0, 0));
    }

    #[test]
    fn nonsense_and_damage_are_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(dir.path(), 0);
        assert!(spool.take(&message(1, b"E")).is_err());
        assert!(spool.take(&message(1, &commit(3))).is_err());
        assert!(spool.take(&message(1, &start(3, false))).is_err());
        let mut spool = Spool::new(dir.path(), 0);
        feed(&mut spool, &[start(1, true), insert(1, 1)]);
        assert!(spool.take(&message(1, b"I")).is_err());
        let file = spool.held.get_mut(&1).unwrap().file.as_mut().unwrap();
        file.seek(SeekFrom::Start(20)).unwrap();
        file.write_all(b"x").unwrap();
        let mut replay = feed(&mut spool, &[vec![b'E'], commit(1)]).unwrap();
        assert!(matches!(replay.next_block(), Err(SpoolError::Damaged(_))));
        // A directory cannot be made below a file.
        let blocked = dir.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let mut spool = Spool::new(&blocked.join("spill"), 0);
        feed(&mut spool, &[start(1, true)]);
        assert!(matches!(spool.take(&message(1, &insert(1, 1))), Err(SpoolError::Disk { .. })));
    }
}
