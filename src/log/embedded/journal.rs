//! The commit journal: what makes a commit over several partitions atomic with one fsync.
//!
//! A commit's frames are written to the partitions' files (unsynced, unseen) and, as one entry, to the journal,
//! which is synced. After a crash the partitions' files are cut back to the last manifest and the journal's
//! entries since then are applied again, up to the first entry that is not whole.
//!
//! ```text
//! entry: u32 magic  u32 crc32c of what follows up to the data  u64 sequence  u32 number of sections
//!        per section: u64 topic id  u32 partition  u64 length of its data
//!        data: per section the frames, as in the partition's file (they have checksums of their own)
//! ```

use std::fs::File;
use std::io::{IoSlice, Write};
use std::path::{Path, PathBuf};

use super::frame::{FrameHeader, FrameMeta};

const MAGIC: u32 = 0x4d53_4a31;
const FIXED: usize = 20;
const SECTION: usize = 20;

/// A section to write: the frames of one partition.
#[derive(Clone, Copy, Debug)]
pub struct SectionRef<'a> {
    /// The topic's id.
    pub topic: u64,
    /// Partition number.
    pub partition: u32,
    /// Its frames.
    pub bytes: &'a [u8],
}

/// The journal file that is written to.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    file: File,
    number: u64,
    len: u64,
    next_sequence: u64,
    sync_failed: bool,
}

/// Path of a journal file.
pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.wal"))
}

/// Numbers of the journal files in a directory, ascending.
///
/// # Errors
/// Of the file system.
pub fn numbers(dir: &Path) -> std::io::Result<Vec<u64>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        if let Some(number) = name.to_str().and_then(|n| n.strip_suffix(".wal")).and_then(|n| n.parse().ok())
        {
            out.push(number);
        }
    }
    out.sort_unstable();
    Ok(out)
}

impl Journal {
    /// Starts journal file `number`, empty.
    ///
    /// # Errors
    /// Of the file system.
    pub fn create(dir: &Path, number: u64, next_sequence: u64) -> std::io::Result<Self> {
        let file = File::options().create(true).write(true).truncate(true).open(path(dir, number))?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(Self { dir: dir.to_owned(), file, number, len: 0, next_sequence, sync_failed: false })
    }

    /// This file's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes in this file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Goes on with the next file; returns the sequence number its first entry will have.
    ///
    /// # Errors
    /// Of the file system; this file stays in use then.
    pub fn rotate(&mut self) -> std::io::Result<u64> {
        *self = Self::create(&self.dir, self.number + 1, self.next_sequence)?;
        Ok(self.next_sequence)
    }

    /// Writes an entry and makes it durable.
    ///
    /// # Errors
    /// Of the file system; [`Journal::undo`] cuts off what was written.
    pub fn append(&mut self, sections: &[SectionRef<'_>]) -> std::io::Result<()> {
        let mut head = Vec::with_capacity(FIXED + sections.len() * SECTION);
        head.extend_from_slice(&MAGIC.to_le_bytes());
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(&self.next_sequence.to_le_bytes());
        head.extend_from_slice(&u32::try_from(sections.len()).unwrap_or(u32::MAX).to_le_bytes());
        for s in sections {
            head.extend_from_slice(&s.topic.to_le_bytes());
            head.extend_from_slice(&s.partition.to_le_bytes());
            head.extend_from_slice(&(s.bytes.len() as u64).to_le_bytes());
        }
        let crc = crc32c::crc32c(&head[8..]);
        head[4..8].copy_from_slice(&crc.to_le_bytes());
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(sections.len() + 1);
        slices.push(IoSlice::new(&head));
        slices.extend(sections.iter().map(|s| IoSlice::new(s.bytes)));
        let size: usize = head.len() + sections.iter().map(|s| s.bytes.len()).sum::<usize>();
        write_all(&mut self.file, &mut slices)?;
        if let Err(e) = self.file.sync_data() {
            self.sync_failed = true;
            return Err(e);
        }
        self.len += size as u64;
        self.next_sequence += 1;
        Ok(())
    }

    /// Cuts off an entry whose writing failed.
    ///
    /// # Errors
    /// Of the file system, or when the sync was what failed (what is on the disk is unknown then): nobody may
    /// write to the journal any more.
    pub fn undo(&mut self) -> std::io::Result<()> {
        use std::io::{Seek, SeekFrom};
        if self.sync_failed {
            return Err(std::io::Error::other("fsync failed"));
        }
        self.file.set_len(self.len)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        self.file.sync_all()
    }
}

fn write_all(file: &mut File, mut slices: &mut [IoSlice<'_>]) -> std::io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        // At most IOV_MAX slices in one call.
        let some = slices.len().min(1000);
        match file.write_vectored(&slices[..some]) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut slices, n),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// A section that was read: the frames of one partition.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    /// The topic's id.
    pub topic: u64,
    /// Partition number.
    pub partition: u32,
    /// Its frames.
    pub bytes: &'a [u8],
    /// Where each frame lies in the bytes.
    pub frames: Vec<FrameMeta>,
}

/// One whole entry.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Its sections.
    pub sections: Vec<Section<'a>>,
    /// Bytes of the entry.
    pub size: usize,
}

/// Parses the entry at the start of `bytes`; `None` when there is no whole one with this sequence number.
pub fn parse(bytes: &[u8], sequence: u64) -> Option<Entry<'_>> {
    let (found, sections, head) = parse_head(bytes)?;
    if found != sequence {
        return None;
    }
    let mut position = head;
    let mut out = Vec::with_capacity(sections.len());
    for (topic, partition, len) in sections {
        let end = position.checked_add(usize::try_from(len).ok()?)?;
        let data = bytes.get(position..end)?;
        out.push(Section { topic, partition, bytes: data, frames: frames(data)? });
        position = end;
    }
    Some(Entry { sections: out, size: position })
}

type Head = (u64, Vec<(u64, u32, u64)>, usize);

fn parse_head(bytes: &[u8]) -> Option<Head> {
    let word = |at: usize| bytes.get(at..)?.first_chunk::<4>().map(|b| u32::from_le_bytes(*b));
    let long = |at: usize| bytes.get(at..)?.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
    if word(0)? != MAGIC {
        return None;
    }
    let count = word(16)? as usize;
    let head = count.checked_mul(SECTION)?.checked_add(FIXED)?;
    if crc32c::crc32c(bytes.get(8..head)?) != word(4)? {
        return None;
    }
    let sections = (0..count)
        .map(|i| {
            let at = FIXED + i * SECTION;
            Some((long(at)?, word(at + 8)?, long(at + 12)?))
        })
        .collect::<Option<Vec<_>>>()?;
    Some((long(8)?, sections, head))
}

/// Whether a whole entry with a later sequence number follows in the bytes: then what is damaged before it was
/// committed, and is not the torn end that a crash leaves.
pub fn holds_later_entry(bytes: &[u8], sequence: u64) -> bool {
    let magic = MAGIC.to_le_bytes();
    memchr::memmem::find_iter(bytes, &magic).filter_map(|at| bytes.get(at..)).any(|rest| {
        parse_head(rest).is_some_and(|(found, ..)| found > sequence && parse(rest, found).is_some())
    })
}

fn frames(data: &[u8]) -> Option<Vec<FrameMeta>> {
    let mut out = Vec::new();
    let mut position = 0;
    while position < data.len() {
        let rest = data.get(position..)?;
        let header = FrameHeader::parse(rest)?;
        header.verify(rest).ok()?;
        out.push(FrameMeta {
            position,
            size: header.size(),
            first: header.first,
            last: header.last,
            max_timestamp: header.max_timestamp,
        });
        position += header.size();
    }
    Some(out)
}
