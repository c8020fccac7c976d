//! The filesystem connector as a sink: part files that grow epoch by epoch, appear whole, and hold each epoch once.
//!
//! A part file's name says what it holds: `part-PIPELINE-SINK-LIFE-FIRST-LAST`, the first and last epoch of a life of
//! the pipeline's state (a pipeline that is reset begins another one). While it grows it is hidden, and its name
//! ends with the number of bytes that count: `.part-…-BYTES.inprogress`. The name changes after the bytes are on
//! disk, so that what a crash left half written is cut off, and an epoch that comes again is known.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{Output, Reduction, Sink, SinkId, format_error};
use crate::engine::format::{self, Encoder, FormatContext};
use crate::engine::options;
use crate::engine::plan::TableRef;
use crate::error::{Error, Result};

/// Writes rows as lines of files in the table's `path`.
#[derive(Debug)]
pub struct FilesystemSink {
    directory: PathBuf,
    sink: String,
    /// What the names of its files begin with.
    prefix: String,
    encoder: Encoder,
    rolling: Rolling,
    files: Option<Files>,
}

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

/// What the directory holds of this sink.
#[derive(Debug)]
struct Files {
    life: u64,
    /// The last epoch that is written.
    last: u64,
    growing: Option<Growing>,
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
            prefix: format!("part-{}-{}-", of_files(&id.pipeline), of_files(&id.sink)),
            sink: id.sink.clone(),
            encoder,
            rolling: Rolling::new(table)?,
            files: None,
        })
    }

    /// Looks what the directory holds, and cuts off what a crash left half written: once, and after a failure.
    /// `anew`: epochs count from 1 again, and what is there is another life's.
    fn look(&mut self, anew: bool) -> Result<()> {
        let mut files = self.found().map_err(|e| failed(&self.directory, e))?;
        if anew && (files.last > 0 || files.growing.is_some()) {
            let next = Files { life: files.life + 1, last: 0, growing: None };
            self.roll(&mut files)?;
            files = next;
        }
        self.files = Some(files);
        Ok(())
    }

    fn found(&self) -> std::io::Result<Files> {
        std::fs::create_dir_all(&self.directory)?;
        let mut parts = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            if let Some(part) = entry.file_name().to_str().and_then(|name| Part::read(name, &self.prefix)) {
                parts.push((part, entry.path()));
            }
        }
        let life = parts.iter().map(|(part, _)| part.life).max().unwrap_or(1);
        let mut files = Files { life, last: 0, growing: None };
        for (part, path) in parts {
            if let Some(bytes) = part.bytes {
                let file = OpenOptions::new().append(true).open(&path)?;
                file.set_len(bytes)?;
                if part.life == life {
                    files.growing =
                        Some(Growing { file, path, first: part.first, bytes, since: Instant::now() });
                } else {
                    std::fs::rename(
                        path,
                        self.directory.join(Part { bytes: None, ..part }.name(&self.prefix)),
                    )?;
                }
            }
            if part.life == life {
                files.last = files.last.max(part.last);
            }
        }
        Ok(files)
    }

    fn write_epoch(&mut self, epoch: u64, output: &Output) -> Result<()> {
        let mut bytes = Vec::new();
        for change in &output.changes {
            let written = self.encoder.value(change, &mut bytes).map_err(|e| format_error(&self.sink, e))?;
            if written {
                bytes.push(b'\n');
            }
        }
        if self.files.is_none() {
            self.look(false)?;
        }
        // After a failure nothing is known, and the directory is looked at again.
        let Some(mut files) = self.files.take() else { return Ok(()) };
        if epoch > files.last {
            self.append(&mut files, epoch, &bytes).map_err(|e| failed(&self.directory, e))?;
        }
        let rolling = self.rolling;
        if files
            .growing
            .as_ref()
            .is_some_and(|g| g.bytes >= rolling.size || g.since.elapsed() >= rolling.interval)
        {
            self.roll(&mut files)?;
        }
        self.files = Some(files);
        Ok(())
    }

    fn append(&self, files: &mut Files, epoch: u64, bytes: &[u8]) -> std::io::Result<()> {
        let life = files.life;
        let path = |first: u64, last: u64, bytes: u64| {
            self.directory.join(Part { life, first, last, bytes: Some(bytes) }.name(&self.prefix))
        };
        let mut growing = match files.growing.take() {
            Some(growing) => growing,
            None => {
                let path = path(epoch, files.last, 0);
                Growing { file: File::create(&path)?, path, first: epoch, bytes: 0, since: Instant::now() }
            }
        };
        growing.file.write_all(bytes)?;
        growing.file.sync_data()?;
        growing.bytes += u64::try_from(bytes.len()).unwrap_or(0);
        let path = path(growing.first, epoch, growing.bytes);
        std::fs::rename(&growing.path, &path)?;
        growing.path = path;
        File::open(&self.directory)?.sync_all()?;
        files.last = epoch;
        files.growing = Some(growing);
        Ok(())
    }

    /// Ends the part file, so that it can be seen.
    fn roll(&self, files: &mut Files) -> Result<()> {
        let Some(growing) = files.growing.take() else { return Ok(()) };
        let part = Part { life: files.life, first: growing.first, last: files.last, bytes: None };
        std::fs::rename(&growing.path, self.directory.join(part.name(&self.prefix)))
            .and_then(|()| File::open(&self.directory))
            .and_then(|directory| directory.sync_all())
            .map_err(|e| failed(&self.directory, e))
    }

    fn roll_now(&mut self) -> Result<()> {
        let Some(mut files) = self.files.take() else { return Ok(()) };
        self.roll(&mut files)?;
        self.files = Some(files);
        Ok(())
    }
}

fn failed(directory: &Path, error: std::io::Error) -> Error {
    Error::transient(format!("cannot write files in {}", directory.display())).with_source(error)
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

    async fn write(&mut self, epoch: u64, output: &Output) -> Result<()> {
        tokio::task::block_in_place(|| self.write_epoch(epoch, output))
    }

    fn due(&self) -> Option<Instant> {
        let growing = self.files.as_ref()?.growing.as_ref()?;
        growing.since.checked_add(self.rolling.interval)
    }

    async fn tend(&mut self) -> Result<()> {
        tokio::task::block_in_place(|| self.roll_now())
    }

    async fn close(&mut self) -> Result<()> {
        tokio::task::block_in_place(|| self.roll_now())
    }
}

#[cfg(test)]
#[path = "filesystem_tests.rs"]
mod tests;
