//! What lies in the log's directory, and the manifest: the state the journal goes on from.
//!
//! ```text
//! DIR/lock                 held by the process that owns the log; its pid
//! DIR/manifest             checksum, then JSON: per partition its segments and their lengths; first journal to apply
//! DIR/journal/N.wal        commits since the manifest
//! DIR/topics/NAME/topic.json                       id, partitions, configs
//! DIR/topics/NAME/PARTITION/BASE[.GENERATION].log  frames from offset BASE on, and an .index beside
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The directory's format; raised when an older binary could not read it.
pub const VERSION: u32 = 1;

/// The state of all partitions at a point of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// The first journal file with commits that are not in here.
    pub journal: u64,
    /// Sequence number of that file's first entry.
    pub sequence: u64,
    /// By topic id, then by partition number.
    pub topics: BTreeMap<u64, Vec<PartitionState>>,
}

/// The state of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    /// First offset kept.
    pub start: i64,
    /// Offset of the next record.
    pub next: i64,
    /// Compaction has seen everything before this offset.
    #[serde(default)]
    pub cleaned_to: i64,
    /// Its files, by base offset.
    pub segments: Vec<SegmentEntry>,
}

/// A file of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// Base offset.
    pub base: i64,
    /// How often it was rewritten.
    #[serde(default)]
    pub generation: u32,
    /// Bytes.
    pub len: u64,
    /// Last offset.
    pub last: i64,
    /// Greatest timestamp.
    pub max_timestamp: i64,
}

/// A topic's own file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicFile {
    /// Random, so that a topic made again under the same name is another one.
    pub id: u64,
    /// Topic name.
    pub name: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Configs as given.
    pub configs: BTreeMap<String, String>,
}

/// Reads the manifest; `None` where there is none.
///
/// # Errors
/// When it is damaged, or was written by a newer version.
pub fn read(dir: &Path) -> Result<Option<Manifest>> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let path = dir.join("manifest");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io("cannot read", &path, e)),
    };
    let damaged = || {
        Error::data(format!("the log's manifest {} is damaged", path.display()))
            .next("restore the data directory from a backup")
    };
    let (crc, json) = text.split_once('\n').ok_or_else(damaged)?;
    if u32::from_str_radix(crc, 16).ok() != Some(crc32c::crc32c(json.as_bytes())) {
        return Err(damaged().because("its checksum does not match"));
    }
    let Version { version } = serde_json::from_str(json).map_err(|e| damaged().because(e))?;
    if version > VERSION {
        return Err(Error::config(format!("the log in {} is of format {version}", dir.display()))
            .because(format!("this version of millstream knows formats up to {VERSION}"))
            .next("use the version of millstream that wrote it, or a newer one"));
    }
    serde_json::from_str(json).map(Some).map_err(|e| damaged().because(e))
}

/// Replaces the manifest durably.
///
/// # Errors
/// Of the file system; the old one is in force then.
pub fn write(dir: &Path, manifest: &Manifest) -> std::io::Result<()> {
    let json = serde_json::to_string(manifest).map_err(std::io::Error::other)?;
    let text = format!("{:08x}\n{json}", crc32c::crc32c(json.as_bytes()));
    write_durably(dir, "manifest", text.as_bytes())
}

/// Writes a file so that after a crash it is there as a whole, or the old one is.
///
/// # Errors
/// Of the file system.
pub fn write_durably(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, dir.join(name))?;
    sync_dir(dir)
}

/// Makes renames and new names in a directory durable.
///
/// # Errors
/// Of the file system.
pub fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether it is room that lacks.
pub fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// A file system's error with what was tried.
pub fn io(what: &str, path: &Path, error: std::io::Error) -> Error {
    let text = format!("{what} {}", path.display());
    match error.kind() {
        _ if is_full(&error) => Error::transient(text).with_source(error).next("free disk space"),
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            Error::config(text).with_source(error).next("give the user who runs millstream write access")
        }
        _ => Error::transient(text).with_source(error),
    }
}
