//! The filesystem connector as a sink: part files that grow epoch by epoch, appear whole, and hold each epoch once.
//!
//! A part file's name says what it holds: `part-PIPELINE-SINK-LIFE-FIRST-LAST`, the first and last epoch of a life of
//! the pipeline's state (a pipeline that is reset begins another one). While it grows it is hidden, and its name
//! ends with the number of bytes that count: `.part-…-BYTES.inprogress`. The name changes after the bytes are on
//! disk, so that what a crash left half written is cut off, and an epoch that comes again is known.
//!
//! A partitioned table's files lie in directories `k=v/…` (see [`partitions`]), each with its own part files.

mod commit;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{Output, Reduction, Sink, SinkId, format_error};
use crate::engine::format::{self, Encoder, FormatContext, partitions};
use crate::engine::options;
use crate::engine::plan::TableRef;
use crate::error::{Error, Result};
use commit::Commits;

/// Writes rows as lines of files in the table's `path`.
#[derive(Debug)]
pub struct FilesystemSink {
    directory: PathBuf,
    table: TableRef,
    sink: String,
    /// What the names of its files begin with.
    prefix: String,
    encoder: Encoder,
    rolling: Rolling,
    commits: Option<Commits>,
    watermark: i64,
    files: Option<Files>,
    /// When the directories are to be looked at for partitions to commit, where they were not yet.
    next_look: Instant,
}

/// After a look that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// When a part file ends: `sink.rolling-policy.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rolling {
    /// Bytes.
    size: u64,
    /// Time since its first row. A second here: rows are soon to be seen, and there are not too many files (30 min
    /// in Flink).
    interval: Duration,
}

impl Rolling {
    fn new(table: &TableRef) -> Result<Self> {
        const SIZE: &str = "sink.rolling-policy.file-size";
        const INTERVAL: &str = "sink.rolling-policy.rollover-interval";
        let read = |option: &str, read: fn(&str) -> Option<u64>, default: u64| {
            let Some(text) = table.options.get(option) else { return Ok(default) };
            read(text).filter(|n| *n > 0).ok_or_else(|| {
                Error::config(format!("table {}: option '{option}' is wrong", table.name))
                    .because(format!("'{text}' cannot be read"))
                    .next("write a size as 128MB, a time as 30 min")
            })
        };
        let millis = |text: &str| options::millis(text).and_then(|n| u64::try_from(n).ok());
        Ok(Self {
            size: read(SIZE, options::bytes, 128 << 20)?,
            interval: Duration::from_millis(read(INTERVAL, millis, 1000)?),
        })
    }
}

/// What the directories hold of this sink.
#[derive(Debug)]
struct Files {
    life: u64,
    /// By path below the table's; one with an empty path where the table is not partitioned.
    directories: BTreeMap<String, Directory>,
}

/// A partition's directory.
#[derive(Debug, Default)]
struct Directory {
    /// The last epoch that is written here.
    last: u64,
    growing: Option<Growing>,
    /// Since when there are rows that no commit of the partition has been of.
    pending: Option<Instant>,
}

/// The hidden file.
#[derive(Debug)]
struct Growing {
    file: File,
    path: PathBuf,
    first: u64,
    bytes: u64,
    since: Instant,
}

impl FilesystemSink {
    /// From the sink's table.
    ///
    /// # Errors
    /// Where `path` is missing or the format cannot be written.
    pub fn new(table: &TableRef, id: &SinkId, context: &FormatContext) -> Result<Self> {
        let path = table
            .options
            .get("path")
            .ok_or_else(|| Error::config(format!("table {}: option 'path' is missing", table.name)))?;
        let path = path.strip_prefix("file://").unwrap_or(path);
        let encoder = format::encoder(table, context).map_err(|e| format_error(&table.name, e))?;
        Ok(Self {
            directory: PathBuf::from(path),
            table: table.clone(),
            prefix: format!("part-{}-{}-", of_files(&id.pipeline), of_files(&id.sink)),
            sink: id.sink.clone(),
            encoder,
            rolling: Rolling::new(table)?,
            commits: Commits::new(table)?,
            watermark: i64::MIN,
            files: None,
            next_look: Instant::now(),
        })
    }

    /// Looks what the directory holds, and cuts off what a crash left half written: once, and after a failure.
    /// `anew`: epochs count from 1 again, and what is there is another life's.
    fn look(&mut self, anew: bool) -> Result<()> {
        let mut files = self.found().map_err(|e| self.failed(e))?;
        if anew && (files.life > 1 || !files.directories.is_empty()) {
            for (relative, directory) in &mut files.directories {
                self.roll(files.life, relative, directory)?;
            }
            files = Files { life: files.life + 1, directories: BTreeMap::new() };
            self.mark(files.life).map_err(|e| self.failed(e))?;
        }
        self.files = Some(files);
        Ok(())
    }

    fn found(&self) -> std::io::Result<Files> {
        std::fs::create_dir_all(&self.directory)?;
        let mut parts = Vec::new();
        self.walk("", partitions::names(&self.table).len(), &mut parts)?;
        let of_parts = parts.iter().map(|(part, ..)| part.life).max().unwrap_or(1);
        let life = self.marks()?.into_iter().map(|(life, _)| life).max().unwrap_or(1).max(of_parts);
        let mut files = Files { life, directories: BTreeMap::new() };
        for (part, relative, path) in parts {
            if part.life != life {
                if part.bytes.is_some() {
                    // Cut off first: what can be seen is what counts.
                    self.reopen(&part, &path)?;
                    let seen = Part { bytes: None, ..part }.name(&self.prefix);
                    std::fs::rename(path, self.directory.join(&relative).join(seen))?;
                }
                continue;
            }
            let directory = files.directories.entry(relative).or_default();
            directory.last = directory.last.max(part.last);
            if let Some(bytes) = part.bytes {
                let file = self.reopen(&part, &path)?;
                directory.growing =
                    Some(Growing { file, path, first: part.first, bytes, since: Instant::now() });
            }
        }
        if let Some(commits) = &self.commits {
            for (relative, directory) in &mut files.directories {
                let folder = self.directory.join(relative);
                if is_pending(&folder, commits.success_file())? {
                    directory.pending = Some(Instant::now());
                }
            }
        }
        Ok(files)
    }

    /// A hidden file without what lies behind the bytes that count.
    fn reopen(&self, part: &Part, path: &Path) -> std::io::Result<File> {
        let file = OpenOptions::new().append(true).open(path)?;
        file.set_len(part.bytes.unwrap_or(0))?;
        Ok(file)
    }

    /// This sink's files, in the table's directory and in those of its partitions.
    fn walk(
        &self,
        relative: &str,
        depth: usize,
        parts: &mut Vec<(Part, String, PathBuf)>,
    ) -> std::io::Result<()> {
        for entry in std::fs::read_dir(self.directory.join(relative))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if depth > 0 && name.contains('=') && entry.file_type()?.is_dir() {
                let below = if relative.is_empty() { name.to_owned() } else { format!("{relative}/{name}") };
                self.walk(&below, depth - 1, parts)?;
            } else if let Some(part) = Part::read(name, &self.prefix) {
                parts.push((part, relative.to_owned(), entry.path()));
            }
        }
        Ok(())
    }

    /// The files that say which life it is: a life's first epoch may be in the state and in no directory yet.
    fn marks(&self) -> std::io::Result<Vec<(u64, PathBuf)>> {
        let mut marks = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let life = name.to_str().and_then(|name| {
                name.strip_prefix('.')?
                    .strip_prefix(self.prefix.as_str())?
                    .strip_suffix(".life")?
                    .parse()
                    .ok()
            });
            marks.extend(life.map(|life| (life, entry.path())));
        }
        Ok(marks)
    }

    fn mark(&self, life: u64) -> std::io::Result<()> {
        let old = self.marks()?;
        File::create(self.directory.join(format!(".{}{life}.life", self.prefix)))?;
        File::open(&self.directory)?.sync_all()?;
        old.into_iter().try_for_each(|(_, path)| std::fs::remove_file(path))
    }

    fn write_epoch(&mut self, epoch: u64, output: &Output) -> Result<()> {
        let mut written: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for change in &output.changes {
            let wrong = |e| format_error(&self.sink, e);
            let relative = partitions::path(&self.table, &change.row).map_err(wrong)?;
            let bytes = written.entry(relative).or_default();
            if self.encoder.value(change, bytes).map_err(wrong)? {
                bytes.push(b'\n');
            }
        }
        if self.files.is_none() {
            self.look(false)?;
        }
        // After a failure nothing is known, and the directories are looked at again.
        let Some(mut files) = self.files.take() else { return Ok(()) };
        for (relative, bytes) in &written {
            let directory = files.directories.entry(relative.clone()).or_default();
            if epoch > directory.last {
                self.append(files.life, relative, directory, epoch, bytes).map_err(|e| self.failed(e))?;
            }
        }
        self.files = Some(files);
        self.roll_ripe()
    }

    /// Ends part files that have come to their size or their time.
    fn roll_ripe(&mut self) -> Result<()> {
        let Some(mut files) = self.files.take() else { return Ok(()) };
        let rolling = self.rolling;
        let ripe = |g: &Growing| g.bytes >= rolling.size || g.since.elapsed() >= rolling.interval;
        for (relative, directory) in &mut files.directories {
            if directory.growing.as_ref().is_some_and(ripe) {
                self.roll(files.life, relative, directory)?;
            }
        }
        self.files = Some(files);
        Ok(())
    }

    fn append(
        &self,
        life: u64,
        relative: &str,
        directory: &mut Directory,
        epoch: u64,
        bytes: &[u8],
    ) -> std::io::Result<()> {
        let folder = self.directory.join(relative);
        let path = |first: u64, last: u64, bytes: u64| {
            folder.join(Part { life, first, last, bytes: Some(bytes) }.name(&self.prefix))
        };
        let mut growing = match directory.growing.take() {
            Some(growing) => growing,
            None => {
                self.make(&folder)?;
                let path = path(epoch, directory.last, 0);
                Growing { file: File::create(&path)?, path, first: epoch, bytes: 0, since: Instant::now() }
            }
        };
        growing.file.write_all(bytes)?;
        growing.file.sync_data()?;
        growing.bytes += u64::try_from(bytes.len()).unwrap_or(0);
        let path = path(growing.first, epoch, growing.bytes);
        std::fs::rename(&growing.path, &path)?;
        growing.path = path;
        File::open(&folder)?.sync_all()?;
        directory.last = epoch;
        directory.pending.get_or_insert_with(Instant::now);
        directory.growing = Some(growing);
        Ok(())
    }

    /// Makes a partition's directory, for good.
    fn make(&self, folder: &Path) -> std::io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        std::fs::create_dir_all(folder)?;
        for above in folder.ancestors().skip(1).take_while(|above| above.starts_with(&self.directory)) {
            File::open(above)?.sync_all()?;
        }
        Ok(())
    }

    /// Ends a part file, so that it can be seen.
    fn roll(&self, life: u64, relative: &str, directory: &mut Directory) -> Result<()> {
        let Some(growing) = directory.growing.take() else { return Ok(()) };
        let part = Part { life, first: growing.first, last: directory.last, bytes: None };
        let folder = self.directory.join(relative);
        std::fs::rename(&growing.path, folder.join(part.name(&self.prefix)))
            .and_then(|()| File::open(&folder))
            .and_then(|folder| folder.sync_all())
            .map_err(|e| self.failed(e))
    }

    fn roll_now(&mut self) -> Result<()> {
        let Some(mut files) = self.files.take() else { return Ok(()) };
        for (relative, directory) in &mut files.directories {
            self.roll(files.life, relative, directory)?;
        }
        self.files = Some(files);
        Ok(())
    }

    /// Commits the partitions that are complete: their rows can be seen, and the file is there that says so.
    fn commit_due(&mut self) -> Result<()> {
        if self.commits.is_some() && self.files.is_none() {
            // What an earlier run has left.
            self.next_look = Instant::now() + LOOK_AGAIN;
            self.look(false)?;
        }
        let Some(commits) = &self.commits else { return Ok(()) };
        let Some(mut files) = self.files.take() else { return Ok(()) };
        for (relative, directory) in &mut files.directories {
            let Some(since) = directory.pending else { continue };
            if commits.is_due(relative, since, self.watermark)? {
                self.roll(files.life, relative, directory)?;
                let folder = self.directory.join(relative);
                File::create(folder.join(commits.success_file()))
                    .and_then(|file| file.sync_all())
                    .and_then(|()| File::open(&folder))
                    .and_then(|folder| folder.sync_all())
                    .map_err(|e| self.failed(e))?;
                directory.pending = None;
            }
        }
        self.files = Some(files);
        Ok(())
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::transient(format!("cannot write files in {}", self.directory.display())).with_source(error)
    }
}

/// Whether a partition's directory holds files that are newer than what says that it is complete.
fn is_pending(folder: &Path, success_file: &str) -> std::io::Result<bool> {
    let committed = match std::fs::metadata(folder.join(success_file)) {
        Ok(found) => found.modified()?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(e) => return Err(e),
    };
    for entry in std::fs::read_dir(folder)? {
        if entry?.metadata()?.modified()? > committed {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a file's name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    life: u64,
    first: u64,
    last: u64,
    /// While it grows.
    bytes: Option<u64>,
}

impl Part {
    fn name(&self, prefix: &str) -> String {
        let Self { life, first, last, bytes } = self;
        match bytes {
            // Readers of the directory skip names that begin with a dot.
            Some(bytes) => format!(".{prefix}{life}-{first}-{last}-{bytes}.inprogress"),
            None => format!("{prefix}{life}-{first:012}-{last:012}"),
        }
    }

    fn read(name: &str, prefix: &str) -> Option<Self> {
        let hidden = name.strip_prefix('.').and_then(|name| name.strip_suffix(".inprogress"));
        let numbers = hidden.unwrap_or(name).strip_prefix(prefix)?;
        let numbers = numbers.split('-').map(|n| n.parse().ok()).collect::<Option<Vec<u64>>>()?;
        match (numbers.as_slice(), hidden.is_some()) {
            (&[life, first, last, bytes], true) => Some(Self { life, first, last, bytes: Some(bytes) }),
            (&[life, first, last], false) => Some(Self { life, first, last, bytes: None }),
            _ => None,
        }
    }
}

/// A name with what file systems do not take replaced.
fn of_files(name: &str) -> String {
    const KEEP: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b' ');
    percent_encoding::utf8_percent_encode(name, KEEP).to_string()
}

#[async_trait]
impl Sink for FilesystemSink {
    fn describe(&self) -> String {
        format!("files in {}", self.directory.display())
    }

    fn reduction(&self) -> Reduction {
        Reduction::None
    }

    async fn begin(&mut self) -> Result<()> {
        tokio::task::block_in_place(|| self.look(true))
    }

    async fn life(&mut self) -> Result<Option<u64>> {
        if self.files.is_none() {
            tokio::task::block_in_place(|| self.look(false))?;
        }
        Ok(self.files.as_ref().map(|files| files.life))
    }

    async fn write(&mut self, epoch: u64, output: &Output) -> Result<()> {
        tokio::task::block_in_place(|| self.write_epoch(epoch, output))
    }

    fn reached(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
    }

    fn due(&self) -> Option<Instant> {
        let Some(files) = &self.files else { return self.commits.as_ref().map(|_| self.next_look) };
        let directories = files.directories.values();
        let roll = directories.clone().filter_map(|directory| Some(directory.growing.as_ref()?.since)).min();
        let roll = roll.and_then(|first| first.checked_add(self.rolling.interval));
        let pending = directories.filter_map(|directory| directory.pending).min();
        let commit = pending.and_then(|first| self.commits.as_ref()?.look_at(first));
        roll.into_iter().chain(commit).min()
    }

    async fn tend(&mut self) -> Result<()> {
        tokio::task::block_in_place(|| self.roll_ripe().and_then(|()| self.commit_due()))
    }

    async fn close(&mut self) -> Result<()> {
        tokio::task::block_in_place(|| self.roll_now().and_then(|()| self.commit_due()))
    }
}

#[cfg(test)]
#[path = "filesystem_tests.rs"]
mod tests;
