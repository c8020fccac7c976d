//! A partition's files: each holds the frames from its base offset on, and has a sparse index.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::frame::{FrameError, FrameHeader, HEADER};
use crate::error::{Error, Result};

/// One index entry for about this many bytes.
const INDEX_EVERY: u64 = 64 * 1024;

/// Where a frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Offset of the frame's first record.
    pub first: i64,
    /// Position of the frame in the file.
    pub position: u64,
    /// Greatest timestamp in the file before this frame.
    pub timestamp_before: i64,
}

/// A segment file. Bytes up to [`Segment::len`] are committed and never change.
#[derive(Debug)]
pub struct Segment {
    /// Offset the segment begins with.
    pub base: i64,
    /// Counts how often compaction has rewritten this range; part of the file name.
    pub generation: u32,
    /// The file.
    pub path: PathBuf,
    len: AtomicU64,
    last: AtomicI64,
    max_timestamp: AtomicI64,
    /// Something was appended since the last checkpoint.
    pub dirty: AtomicBool,
    index: Mutex<Option<Vec<IndexEntry>>>,
}

impl Segment {
    /// A segment with known contents. `index` is `None` when it has yet to be loaded.
    pub fn new(dir: &Path, base: i64, generation: u32, state: SegmentState) -> Self {
        let path = dir.join(match generation {
            0 => format!("{base:020}.log"),
            n => format!("{base:020}.{n}.log"),
        });
        let index = Mutex::new((state.len == 0).then(Vec::new));
        Self {
            base,
            generation,
            path,
            len: AtomicU64::new(state.len),
            last: AtomicI64::new(state.last),
            max_timestamp: AtomicI64::new(state.max_timestamp),
            dirty: AtomicBool::new(false),
            index,
        }
    }

    /// Committed bytes.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Offset of the last record as written (`base - 1` while empty).
    pub fn last(&self) -> i64 {
        self.last.load(Ordering::Acquire)
    }

    /// Greatest timestamp, `i64::MIN` while empty.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp.load(Ordering::Acquire)
    }

    /// What a manifest needs to know.
    pub fn state(&self) -> SegmentState {
        SegmentState { len: self.len(), last: self.last(), max_timestamp: self.max_timestamp() }
    }

    /// Takes an appended frame into index and counters: from now on readers see it.
    pub fn publish(&self, first: i64, last: i64, max_timestamp: i64, size: u64) {
        let position = self.len();
        if let Some(index) = self.index.lock().as_mut() {
            let due = index.last().is_none_or(|e| position >= e.position + INDEX_EVERY);
            if due {
                index.push(IndexEntry { first, position, timestamp_before: self.max_timestamp() });
            }
        }
        self.dirty.store(true, Ordering::Release);
        self.last.store(last, Ordering::Release);
        self.max_timestamp.fetch_max(max_timestamp, Ordering::AcqRel);
        self.len.store(position + size, Ordering::Release);
    }

    /// For compaction: the segment stands for offsets up to this one, also where the last are gone.
    pub fn covers_to(&self, last: i64) {
        self.last.fetch_max(last, Ordering::AcqRel);
    }

    /// The index entry at or before an offset. Reads the index, or the file, if it is not in memory.
    ///
    /// # Errors
    /// When the file cannot be read or holds damage.
    pub fn seek_offset(&self, offset: i64) -> Result<u64> {
        self.with_index(|index| {
            let after = index.partition_point(|e| e.first <= offset);
            after.checked_sub(1).and_then(|i| index.get(i)).map_or(0, |e| e.position)
        })
    }

    /// Where to look for the first record with a timestamp at or after `timestamp`.
    ///
    /// # Errors
    /// When the file cannot be read or holds damage.
    pub fn seek_time(&self, timestamp: i64) -> Result<u64> {
        self.with_index(|index| {
            let after = index.partition_point(|e| e.timestamp_before < timestamp);
            after.checked_sub(1).and_then(|i| index.get(i)).map_or(0, |e| e.position)
        })
    }

    fn with_index<R>(&self, read: impl FnOnce(&[IndexEntry]) -> R) -> Result<R> {
        let mut index = self.index.lock();
        if index.is_none() {
            *index = Some(match self.read_index_file() {
                Some(index) => index,
                None => self.scan()?,
            });
        }
        Ok(read(index.as_deref().unwrap_or_default()))
    }

    fn index_path(&self) -> PathBuf {
        self.path.with_extension("index")
    }

    /// Writes the index beside the segment. Only a help: a missing or damaged one is made again by reading the
    /// segment.
    ///
    /// # Errors
    /// Of the file system.
    pub fn write_index(&self) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        match self.index.lock().as_ref() {
            None => return Ok(()),
            Some(index) => {
                for e in index {
                    bytes.extend_from_slice(&e.first.to_le_bytes());
                    bytes.extend_from_slice(&e.position.to_le_bytes());
                    bytes.extend_from_slice(&e.timestamp_before.to_le_bytes());
                }
            }
        }
        // Bytes of the segment that it covers: an index of a shorter state must not be taken for the whole.
        bytes.extend_from_slice(&self.len().to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        File::create(self.index_path())?.write_all(&bytes)
    }

    fn read_index_file(&self) -> Option<Vec<IndexEntry>> {
        let bytes = std::fs::read(self.index_path()).ok()?;
        let (covered, crc) = bytes.split_last_chunk::<4>()?;
        if crc32c::crc32c(covered) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (entries, len) = covered.split_last_chunk::<8>()?;
        if u64::from_le_bytes(*len) != self.len() || entries.len() % 24 != 0 {
            return None;
        }
        let long = |b: &[u8]| b.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
        entries
            .chunks_exact(24)
            .map(|e| {
                Some(IndexEntry {
                    first: long(e)?.cast_signed(),
                    position: long(e.get(8..)?)?,
                    timestamp_before: long(e.get(16..)?)?.cast_signed(),
                })
            })
            .collect()
    }

    fn scan(&self) -> Result<Vec<IndexEntry>> {
        let file = self.open()?;
        let mut index: Vec<IndexEntry> = Vec::new();
        let mut timestamp = i64::MIN;
        let mut position = 0;
        let mut window = Window::default();
        while position < self.len() {
            let (header, _) = window
                .frame(&file, position, self.len(), 256 * 1024)
                .map_err(|e| self.corrupt(position, e))?;
            if index.last().is_none_or(|e| position >= e.position + INDEX_EVERY) {
                index.push(IndexEntry { first: header.first, position, timestamp_before: timestamp });
            }
            timestamp = timestamp.max(header.max_timestamp);
            position += header.size() as u64;
        }
        Ok(index)
    }

    /// Opens the file for reading.
    ///
    /// # Errors
    /// When it cannot be opened; [`std::io::ErrorKind::NotFound`] stays in the source (compaction or retention
    /// may have removed it a moment ago).
    pub fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(|e| {
            Error::data(format!("cannot open the log's file {}", self.path.display())).with_source(e)
        })
    }

    /// The error for damage found at a position.
    pub fn corrupt(&self, position: u64, error: WindowError) -> Error {
        match error {
            WindowError::Io(e) => {
                Error::transient(format!("cannot read {} at byte {position}", self.path.display())).with_source(e)
            }
            WindowError::Frame(e) => {
                Error::data(format!("the log's file {} is damaged at byte {position}", self.path.display()))
                    .because(e)
                    .next("check the disk; restore the data directory from a backup, or delete the topic and capture it again")
            }
        }
    }

    /// Removes segment and index from the disk.
    pub fn remove_files(&self) {
        // What stays behind is in no manifest and goes at the next start.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(self.index_path());
    }
}

/// What a manifest says of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentState {
    /// Committed bytes.
    pub len: u64,
    /// Offset of the last record as written.
    pub last: i64,
    /// Greatest timestamp.
    pub max_timestamp: i64,
}

impl SegmentState {
    /// Of a segment without records.
    pub fn empty(base: i64) -> Self {
        Self { len: 0, last: base - 1, max_timestamp: i64::MIN }
    }
}

/// Why a frame could not be read.
#[derive(Debug)]
pub enum WindowError {
    /// The file system.
    Io(std::io::Error),
    /// The bytes.
    Frame(FrameError),
}

/// A stretch of a file in memory, from which frames are taken in turn.
#[derive(Debug, Default)]
pub struct Window {
    bytes: Vec<u8>,
    start: u64,
}

impl Window {
    /// Forgets the bytes (the file is another one now).
    pub fn reset(&mut self) {
        self.bytes.clear();
        if self.bytes.capacity() > 4 << 20 {
            self.bytes = Vec::new();
        }
    }

    /// The verified frame at `position` of a file with `len` committed bytes; reads `ahead` bytes at once.
    ///
    /// # Errors
    /// Of the file system, or of the bytes.
    pub fn frame(
        &mut self,
        file: &File,
        position: u64,
        len: u64,
        ahead: usize,
    ) -> Result<(FrameHeader, &[u8]), WindowError> {
        self.fill(file, position, len, HEADER, ahead)?;
        let header =
            FrameHeader::parse(self.at(position)).ok_or(WindowError::Frame(FrameError::Truncated))?;
        if position.saturating_add(header.size() as u64) > len {
            return Err(WindowError::Frame(FrameError::Truncated));
        }
        self.fill(file, position, len, header.size(), ahead)?;
        let frame =
            self.at(position).get(..header.size()).ok_or(WindowError::Frame(FrameError::Truncated))?;
        header.verify(frame).map_err(WindowError::Frame)?;
        Ok((header, frame))
    }

    fn at(&self, position: u64) -> &[u8] {
        let skip = usize::try_from(position.wrapping_sub(self.start)).unwrap_or(usize::MAX);
        self.bytes.get(skip..).unwrap_or_default()
    }

    fn fill(
        &mut self,
        file: &File,
        position: u64,
        len: u64,
        need: usize,
        ahead: usize,
    ) -> Result<(), WindowError> {
        if position >= self.start && self.at(position).len() >= need {
            return Ok(());
        }
        let want = usize::try_from(len.saturating_sub(position)).unwrap_or(usize::MAX).min(need.max(ahead));
        self.bytes.resize(want, 0);
        self.start = position;
        let read = file.read_exact_at(&mut self.bytes, position);
        if let Err(e) = read {
            self.bytes.clear();
            return Err(match e.kind() {
                std::io::ErrorKind::UnexpectedEof => WindowError::Frame(FrameError::Truncated),
                _ => WindowError::Io(e),
            });
        }
        Ok(())
    }
}

/// Shared handle to a segment.
pub type SegmentRef = Arc<Segment>;
