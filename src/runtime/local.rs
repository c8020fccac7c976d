//! Sources that are no topics: files, tables of a database, made-up rows. Each is one partition (a file: its own)
//! whose offsets count lines or rows.

use std::collections::BTreeSet;
use std::io::{BufRead, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::datagen::Generator;
use super::jdbc::{OutsideTable, ScanKey};
use super::options::Pattern;
use super::source::{POLL_BYTES, SourceEvent, SourceTask, position_key};
use crate::engine::format::csv::Framing;
use crate::engine::format::{FILE_SIZE, partitions};
use crate::error::{Error, Result};
use crate::log::{Fetched, TopicPartition};
use crate::sink::format_error;

impl<E: From<SourceEvent> + Send + 'static> SourceTask<E> {
    /// The only partition of an input that is no topic, and how many of its records the state holds.
    fn only_partition(&self) -> (Arc<TopicPartition>, i64) {
        let at = Arc::new(TopicPartition::new(self.table.as_str(), 0));
        let done = self.positions.get(&position_key(&self.name, &at)).copied().unwrap_or(0);
        (at, done)
    }

    /// Reads a table of a database once, through any number of lost connections: in the order of its key, behind the last
    /// one that was read.
    pub(super) async fn table(&self) -> Result<()> {
        let (at, mut done) = self.only_partition();
        let kept = self.keys.get(&position_key(&self.name, &at));
        let mut last = kept.and_then(|text| ScanKey::read(text));
        let mut pause = Duration::from_millis(100);
        loop {
            match self.read_table(&at, &mut done, &mut last).await {
                Err(error) if error.is_transient() => {
                    self.shared.retrying(&self.name, Some(error.screen()));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                other => {
                    self.shared.retrying(&self.name, None);
                    return other;
                }
            }
        }
    }

    /// `done` and `last`: how many rows were handed over, and the key of the last one.
    async fn read_table(
        &self,
        at: &Arc<TopicPartition>,
        done: &mut i64,
        last: &mut Option<ScanKey>,
    ) -> Result<()> {
        if last.as_ref().is_some_and(ScanKey::is_end) {
            return Ok(());
        }
        let outside = OutsideTable::new(&self.definition, &self.addresses)?;
        let client = crate::pg::connect(&outside.config).await?;
        let found = outside.find(&client).await?;
        let behind = last.clone();
        let sql = found.scan(&outside.table, behind.as_ref()).filter(|_| *done == 0 || behind.is_some());
        let Some(sql) = sql else {
            return Err(Error::refused(format!(
                "table {}: {} cannot be read on behind the {done} rows that were read",
                outside.table.name,
                outside.describe()
            ))
            .because("it has no primary key that was there when they were read, so nobody knows which rows they are")
            .next(
                "give the table a primary key, or nothing interrupts its reading; then start the pipeline anew with \
                 `millstream pipelines reset`, which reads all of it and writes all rows once more",
            ));
        };
        let parameters = behind.iter().flat_map(ScanKey::values).collect::<Vec<_>>();
        let rows = client.query_raw(&sql, parameters).await.map_err(|e| outside.failed(e))?;
        let mut rows = std::pin::pin!(rows);
        let (mut fetched, mut next, mut key) = (Fetched::default(), *done, behind);
        loop {
            let row = rows.next().await.transpose().map_err(|e| outside.failed(e))?;
            let ended = row.is_none();
            if let Some(row) = row {
                let json: &str = row.try_get(0).map_err(|e| outside.failed(e))?;
                key = found.key(&row).map_err(|e| outside.failed(e))?;
                let text = key.as_ref().map(ScanKey::text);
                let headers = std::iter::empty::<(&[u8], Option<&[u8]>)>();
                fetched.push(at, next, 0, text.as_deref().map(str::as_bytes), Some(json.as_bytes()), headers);
                next += 1;
            }
            if !fetched.is_empty() && (ended || fetched.bytes() >= POLL_BYTES) {
                self.hand_over(std::mem::take(&mut fetched)).await?;
                *done = next;
                last.clone_from(&key);
            }
            if ended {
                return Ok(());
            }
        }
    }

    /// Makes rows at the rate that is asked for.
    pub(super) async fn generate(&self, generator: &Generator) -> Result<()> {
        /// Slices of a second.
        const SLICES: u64 = 20;
        let (at, first) = self.only_partition();
        let begun = std::time::Instant::now();
        let mut next = first;
        // Rows that are still to come are nothing that was there at the start.
        self.shared.behind(&self.name, generator.rows.is_some());
        loop {
            let elapsed = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            let due = generator.rate.saturating_mul(elapsed + 1000 / SLICES) / 1000;
            let due = first.saturating_add(i64::try_from(due).unwrap_or(i64::MAX));
            let end = generator.rows.unwrap_or(i64::MAX);
            let mut fetched = Fetched::default();
            let now = chrono::Utc::now().timestamp_millis();
            let mut json = String::new();
            while next < due.min(end) && fetched.bytes() < POLL_BYTES {
                json.clear();
                generator.row(next, now, &mut json);
                let headers = std::iter::empty::<(&[u8], Option<&[u8]>)>();
                fetched.push(&at, next, now, None, Some(json.as_bytes()), headers);
                next += 1;
            }
            if !fetched.is_empty() {
                self.hand_over(fetched).await?;
            }
            if next >= end {
                return Ok(());
            }
            if next >= due {
                tokio::time::sleep(Duration::from_millis(1000 / SLICES)).await;
            }
        }
    }

    /// Reads the lines of files in the order of their names, each file once; then looks for new files, where that
    /// is asked for.
    pub(super) async fn files(
        &self,
        path: &Path,
        monitor: Option<Duration>,
        pattern: Option<&Pattern>,
    ) -> Result<()> {
        let failed = |e: std::io::Error| {
            Error::config(format!("table {}: cannot read {}", self.table, path.display())).with_source(e)
        };
        let mut seen: BTreeSet<PathBuf> = BTreeSet::new();
        loop {
            for file in list_files(path, partitions::names(&self.definition).len()).map_err(failed)? {
                let fits = pattern.is_none_or(|p| p.0.is_match(&file.to_string_lossy()));
                if fits && seen.insert(file.clone()) {
                    self.file(&file).await?;
                }
            }
            let Some(interval) = monitor else { return Ok(()) };
            self.shared.behind(&self.name, false);
            tokio::time::sleep(interval.max(Duration::from_millis(10))).await;
        }
    }

    async fn file(&self, file: &Path) -> Result<()> {
        partitions::check(&self.definition, &file.to_string_lossy())
            .map_err(|e| format_error(&self.table, e).because(file.display()))?;
        let failed = |e: std::io::Error| {
            Error::config(format!("table {}: cannot read {}", self.table, file.display())).with_source(e)
        };
        let at = Arc::new(TopicPartition { topic: Arc::from(file.to_string_lossy()), partition: 0 });
        let done = self.positions.get(&position_key(&self.name, &at)).copied().unwrap_or(0);
        let opened = std::fs::File::open(file).map_err(failed)?;
        let about = opened.metadata().map_err(failed)?;
        let size = about.len().to_string();
        let modified = about.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        let modified = modified.map_or(0, |t| i64::try_from(t.as_millis()).unwrap_or(0));
        let mut framing = Framing::of(&self.definition).map_err(|e| format_error(&self.table, e))?;
        let mut lines = std::io::BufReader::with_capacity(1 << 16, opened);
        let mut offset = 0i64;
        let mut ended = false;
        while !ended {
            let mut fetched = Fetched::default();
            while fetched.bytes() < POLL_BYTES && !ended {
                let mut line = Vec::new();
                if read_line(&mut lines, &mut line).map_err(failed)? == 0 {
                    ended = true;
                    break;
                }
                let mut whole = line.pop_if(|end| *end == b'\n').is_some();
                if let Some(framing) = &mut framing {
                    let mut open = framing.is_open(&line, false);
                    while open && whole && line.len() <= LONGEST {
                        let known = line.len();
                        line.push(b'\n');
                        if read_line(&mut lines, &mut line).map_err(failed)? == 0 {
                            break;
                        }
                        whole = line.pop_if(|end| *end == b'\n').is_some();
                        open = framing.is_open(line.get(known..).unwrap_or_default(), true);
                    }
                }
                if line.len() > LONGEST {
                    let next = if framing.is_some() {
                        "look for a quote that is not closed, or set 'csv.disable-quote-character'"
                    } else {
                        "write a record a line, with line ends between them"
                    };
                    return Err(Error::data(format!(
                        "table {}: cannot read {}, record {}",
                        self.table,
                        file.display(),
                        offset + 1
                    ))
                    .because(format!("it does not end within {} MiB", LONGEST >> 20))
                    .next(next));
                }
                if whole {
                    // Lines of Windows, as Flink reads them.
                    line.pop_if(|end| *end == b'\r');
                }
                if offset >= done {
                    let headers = [(FILE_SIZE.as_bytes(), Some(size.as_bytes()))];
                    fetched.push(&at, offset, modified, None, Some(&line), headers.into_iter());
                }
                offset += 1;
            }
            if !fetched.is_empty() {
                self.hand_over(fetched).await?;
            }
        }
        Ok(())
    }
}

/// Bytes of a record of a file.
const LONGEST: usize = 64 << 20;

/// Reads a line with its end; what is longer than a record may be is cut behind that.
fn read_line(lines: &mut impl BufRead, record: &mut Vec<u8>) -> std::io::Result<usize> {
    let most = u64::try_from(LONGEST.saturating_sub(record.len())).unwrap_or(0) + 1;
    lines.take(most).read_until(b'\n', record)
}

/// The files of a path: itself, or what a directory and those in it hold but for hidden files, by name. Those of a
/// partitioned table lie so many directories `k=v` below it.
fn list_files(path: &Path, depth: usize) -> std::io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(path)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with(['.', '_']) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() && (depth == 0 || name.to_string_lossy().contains('=')) {
            files.extend(list_files(&entry.path(), depth.saturating_sub(1))?);
        } else if kind.is_file() && depth == 0 {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
