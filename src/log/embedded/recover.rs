//! From what a crash left to a consistent log: manifest, then the journal's whole entries.

use std::collections::HashMap;
use std::sync::Arc;

use super::append::Appender;
use super::journal::{self, Journal};
use super::maintain::sync_segments;
use super::manifest::{self, Manifest, io};
use super::store::{Shared, Topic};
use crate::error::{Error, Result};

/// Applies the journal, writes a new manifest and starts a new journal file.
///
/// # Errors
/// Of the file system, or when committed entries are damaged.
pub fn recover(shared: &Shared, manifest: Option<Manifest>) -> Result<Journal> {
    let dir = shared.journal_dir();
    std::fs::create_dir_all(&dir).map_err(|e| io("cannot make", &dir, e))?;
    let numbers = journal::numbers(&dir).map_err(|e| io("cannot read", &dir, e))?;
    let (from, mut sequence) = manifest.as_ref().map_or((0, 1), |m| (m.journal, m.sequence));
    let (old, new): (Vec<u64>, Vec<u64>) = numbers.into_iter().partition(|n| *n < from);
    let mut state = Replay {
        topics: shared.topics.read().values().map(|t| (t.id, Arc::clone(t))).collect(),
        appenders: HashMap::new(),
    };
    for (i, number) in new.iter().enumerate() {
        if *number != from + i as u64 {
            return Err(Error::data(format!(
                "the log in {} lacks journal file {}",
                shared.dir.display(),
                from + i as u64
            ))
            .next("restore the data directory from a backup"));
        }
        let last = i + 1 == new.len();
        sequence = state.file(shared, *number, sequence, last)?;
    }
    let next = new.last().map_or(from, |n| n + 1);
    sync_segments(shared).map_err(|e| io("cannot sync the files of", &shared.dir, e))?;
    let journal =
        Journal::create(&dir, next, sequence).map_err(|e| io("cannot make a journal file in", &dir, e))?;
    manifest::write(&shared.dir, &shared.manifest(next, sequence))
        .map_err(|e| io("cannot write the manifest in", &shared.dir, e))?;
    for number in old.into_iter().chain(new) {
        let path = journal::path(&dir, number);
        std::fs::remove_file(&path).map_err(|e| io("cannot remove", &path, e))?;
    }
    Ok(journal)
}

struct Replay {
    topics: HashMap<u64, Arc<Topic>>,
    appenders: HashMap<(u64, u32), Appender>,
}

impl Replay {
    /// Applies one file; returns the next sequence number.
    fn file(&mut self, shared: &Shared, number: u64, mut sequence: u64, last: bool) -> Result<u64> {
        let path = journal::path(&shared.journal_dir(), number);
        let bytes = std::fs::read(&path).map_err(|e| io("cannot read", &path, e))?;
        let damaged = |position: usize, why: &str| {
            Error::data(format!("the log's file {} is damaged at byte {position}", path.display()))
                .because(why.to_owned())
                .next("restore the data directory from a backup")
        };
        let mut position = 0;
        while position < bytes.len() {
            let rest = bytes.get(position..).unwrap_or_default();
            let Some(entry) = journal::parse(rest, sequence) else {
                if !last || journal::holds_later_entry(rest, sequence) {
                    return Err(damaged(position, "a committed entry is not whole, but later ones are"));
                }
                tracing::info!(
                    file = %path.display(), position, bytes = rest.len(),
                    "the journal ends with a commit that was not finished; it is dropped"
                );
                break;
            };
            for section in &entry.sections {
                // A topic that was deleted since: its records are gone with it.
                let Some(topic) = self.topics.get(&section.topic) else { continue };
                let appender = match self.appenders.entry((section.topic, section.partition)) {
                    std::collections::hash_map::Entry::Occupied(e) => e.into_mut(),
                    std::collections::hash_map::Entry::Vacant(e) => {
                        let Some(partition) = topic.partitions.get(section.partition as usize) else {
                            return Err(damaged(position, "it names a partition that does not exist"));
                        };
                        e.insert(Appender::new(partition, topic.config.segment_bytes))
                    }
                };
                let applied = appender.apply(section.bytes, &section.frames);
                if !applied.map_err(|e| io("cannot write", &appender.partition.dir, e))? {
                    return Err(damaged(position, "its offsets do not follow those before"));
                }
            }
            sequence += 1;
            position += entry.size;
        }
        Ok(sequence)
    }
}
