//! A pipeline's state on disk: one fjall database, one atomic batch per epoch.
//!
//! ```text
//! keyspace data   table id (u32 BE) | key          -> value          operators' tables
//! keyspace meta   head                             -> Head as JSON
//!                 table/NAME                       -> table id (u32 BE)
//!                 outbox/SINK                      -> output of the sink's last epoch, its first part
//!                 outbox/SINK | 0 | part (u32 BE)  -> the parts behind it
//! ```
//! The database is at all times exactly the last committed epoch: recovery is opening it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use parking_lot::Mutex;

use super::head::FORMAT;
use super::table::{Shared, Table};
use super::{Head, StateBackend, StateError, StateTable};

const HEAD: &[u8] = b"head";
const TABLE: &str = "table/";
const OUTBOX: &str = "outbox/";
/// How long a start waits for the state's lock.
const PATIENCE: Duration = Duration::from_secs(2);
/// Entries that are deleted together.
const PURGED: usize = if cfg!(test) { 3 } else { 10_000 };

/// Takes an entry: keyspace, key, value.
pub(super) type EachEntry<'a> = dyn FnMut(u8, &[u8], &[u8]) -> Result<(), StateError> + 'a;

/// How a [`Store`] uses memory and the disk.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// Bytes of clean entries that the tables keep in memory together. Those that were read from the disk, and, of
    /// tables that are read again, those that were written.
    pub cache_bytes: usize,
    /// Bytes of blocks of files that the database keeps in memory.
    pub block_cache_bytes: u64,
    /// Whether a commit is on disk when it returns. Only state that nobody will open again goes without.
    pub durable: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20, block_cache_bytes: 32 << 20, durable: true }
    }
}

/// The state of one pipeline.
pub struct Store {
    directory: PathBuf,
    options: StoreOptions,
    db: Database,
    data: Keyspace,
    meta: Keyspace,
    head: Head,
    ids: BTreeMap<String, u32>,
    new_ids: Vec<(String, u32)>,
    tables: BTreeMap<u32, Arc<Mutex<Shared>>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("directory", &self.directory).field("head", &self.head).finish()
    }
}

impl Store {
    /// Opens the state in a directory, or makes an empty one there.
    ///
    /// # Errors
    /// [`StateError::Locked`], [`StateError::Newer`], or what the disk says.
    pub fn open(directory: &Path, options: StoreOptions) -> Result<Self, StateError> {
        let failed = |error: fjall::Error| match error {
            fjall::Error::Locked => StateError::Locked { directory: directory.display().to_string() },
            other => StateError::Store(format!("{}: {other}", directory.display())),
        };
        std::fs::create_dir_all(directory)
            .map_err(|e| StateError::Store(format!("{}: {e}", directory.display())))?;
        let db = Database::builder(directory)
            .cache_size(options.block_cache_bytes)
            .worker_threads(1)
            // Bounds what a restart has to replay.
            .max_journaling_size(64 << 20)
            .open()
            .map_err(failed)?;
        let data = db
            .keyspace("data", || KeyspaceCreateOptions::default().max_memtable_size(16 << 20))
            .map_err(failed)?;
        let meta = db
            .keyspace("meta", || KeyspaceCreateOptions::default().max_memtable_size(4 << 20))
            .map_err(failed)?;
        let head = match meta.get(HEAD).map_err(failed)? {
            Some(bytes) => read_head(directory, &bytes)?,
            None => Head { format: FORMAT, ..Head::default() },
        };
        let mut ids = BTreeMap::new();
        for entry in meta.prefix(TABLE) {
            let (key, value) = entry.into_inner().map_err(failed)?;
            let corrupt = |what: &str| StateError::Corrupt { table: "meta".into(), what: what.into() };
            let name = std::str::from_utf8(key.get(TABLE.len()..).unwrap_or_default())
                .map_err(|_| corrupt("a table's name is not UTF-8"))?;
            let id: [u8; 4] =
                value.as_ref().try_into().map_err(|_| corrupt("a table's id has not four bytes"))?;
            ids.insert(name.to_owned(), u32::from_be_bytes(id));
        }
        Ok(Self {
            directory: directory.to_owned(),
            options,
            db,
            data,
            meta,
            head,
            ids,
            new_ids: Vec::new(),
            tables: BTreeMap::new(),
        })
    }

    /// As [`Self::open`], and waits a little where another process has the state open: one that only looks into it,
    /// or is about to end. Blocks for up to two seconds.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_when_free(directory: &Path, options: StoreOptions) -> Result<Self, StateError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match Self::open(directory, options) {
                Err(StateError::Locked { .. }) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                opened => return opened,
            }
        }
    }

    /// The head as of the last commit; the default one (epoch 0, no writers) where nothing was committed.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Bytes of changed entries that wait for the commit.
    pub fn dirty_bytes(&self) -> usize {
        self.tables.values().map(|t| t.lock().dirty_bytes()).sum()
    }

    /// Commits all changed entries, the head and the outboxes (in parts) of the sinks that this epoch has output for,
    /// as one batch, and returns when it is on disk.
    ///
    /// # Errors
    /// What the disk says. Then nothing of the batch may be relied on, and the store must be opened anew.
    pub fn commit(&mut self, head: Head, outboxes: &[(&str, &[Vec<u8>])]) -> Result<(), StateError> {
        let failed = |e: fjall::Error| StateError::Store(e.to_string());
        let mode = if self.options.durable { Some(PersistMode::SyncAll) } else { None };
        let mut batch = self.db.batch().durability(mode);
        for table in self.tables.values() {
            table.lock().for_each_dirty(|key, value| match value {
                Some(value) => batch.insert(&self.data, key, value),
                None => batch.remove(&self.data, key),
            });
        }
        for (name, id) in self.new_ids.drain(..) {
            batch.insert(&self.meta, format!("{TABLE}{name}"), id.to_be_bytes());
        }
        for (sink, parts) in outboxes {
            let mut number = 0;
            for part in *parts {
                batch.insert(&self.meta, outbox_key(sink, number), part.as_slice());
                number += 1;
            }
            // Of an epoch before that had more.
            while number > 0 && self.meta.contains_key(outbox_key(sink, number)).map_err(failed)? {
                batch.remove(&self.meta, outbox_key(sink, number));
                number += 1;
            }
        }
        let bytes = serde_json::to_vec(&head)
            .map_err(|e| StateError::Store(format!("cannot write the head: {e}")))?;
        batch.insert(&self.meta, HEAD, bytes);
        batch.commit().map_err(failed)?;
        for table in self.tables.values() {
            table.lock().committed();
        }
        self.head = head;
        Ok(())
    }

    /// The parts of the output of a sink's last epoch, as they were committed.
    ///
    /// # Errors
    /// What the disk says.
    pub fn outbox(&self, sink: &str) -> Result<Vec<Vec<u8>>, StateError> {
        let mut parts = Vec::new();
        for number in 0.. {
            let part =
                self.meta.get(outbox_key(sink, number)).map_err(|e| StateError::Store(e.to_string()))?;
            let Some(part) = part else { break };
            parts.push(part.to_vec());
        }
        Ok(parts)
    }

    /// The last commit, to be read while others are made.
    pub fn freeze(&self) -> Frozen {
        Frozen {
            head: self.head.clone(),
            snapshot: self.db.snapshot(),
            data: self.data.clone(),
            meta: self.meta.clone(),
        }
    }

    /// Deletes the tables that nobody has opened since the store was: operators that the query does not have any
    /// more. Gives their number. What is interrupted is done at the next call.
    ///
    /// # Errors
    /// What the disk says.
    pub fn purge(&mut self) -> Result<usize, StateError> {
        let failed = |e: fjall::Error| StateError::Store(e.to_string());
        let unused: Vec<(String, u32)> = self
            .ids
            .iter()
            .filter(|(_, id)| !self.tables.contains_key(id))
            .map(|(name, id)| (name.clone(), *id))
            .collect();
        for (name, id) in &unused {
            loop {
                let mut batch = self.db.batch();
                for entry in self.data.prefix(id.to_be_bytes()).take(PURGED) {
                    let (key, _) = entry.into_inner().map_err(failed)?;
                    batch.remove(&self.data, key);
                }
                let rest = batch.len() == PURGED;
                if !rest {
                    // The name goes last: until then the table is known to be unused.
                    batch.remove(&self.meta, format!("{TABLE}{name}"));
                }
                batch.commit().map_err(failed)?;
                if !rest {
                    break;
                }
            }
            self.ids.remove(name);
        }
        Ok(unused.len())
    }

    /// Writes an entry of [`Frozen::for_each`]; nothing may be read from the store before it is opened anew.
    pub(super) fn put_raw(&mut self, keyspace: u8, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let keyspace = if keyspace == b'm' { &self.meta } else { &self.data };
        keyspace.insert(key, value).map_err(|e| StateError::Store(e.to_string()))
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.db.disk_space().unwrap_or(0)
    }
}

/// A commit of a store, as it stays while the store goes on.
pub struct Frozen {
    head: Head,
    snapshot: fjall::Snapshot,
    data: Keyspace,
    meta: Keyspace,
}

impl std::fmt::Debug for Frozen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frozen").field("head", &self.head).finish_non_exhaustive()
    }
}

impl Frozen {
    /// The head of the commit.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Calls back with every entry: keyspace (`m` or `d`), key, value.
    pub(super) fn for_each(&self, each: &mut EachEntry<'_>) -> Result<(), StateError> {
        let failed = |e: fjall::Error| StateError::Store(e.to_string());
        for (name, keyspace) in [(b'm', &self.meta), (b'd', &self.data)] {
            for entry in self.snapshot.iter(keyspace) {
                let (key, value) = entry.into_inner().map_err(failed)?;
                each(name, &key, &value)?;
            }
        }
        Ok(())
    }
}

fn outbox_key(sink: &str, part: u32) -> Vec<u8> {
    let mut key = format!("{OUTBOX}{sink}").into_bytes();
    if part > 0 {
        key.push(0);
        key.extend_from_slice(&part.to_be_bytes());
    }
    key
}

fn read_head(directory: &Path, bytes: &[u8]) -> Result<Head, StateError> {
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let corrupt = |e: serde_json::Error| StateError::Corrupt { table: "meta".into(), what: e.to_string() };
    // The format first: a newer head may not fit the struct at all.
    let Format { format } = serde_json::from_slice(bytes).map_err(corrupt)?;
    if format > FORMAT {
        return Err(StateError::Newer {
            directory: directory.display().to_string(),
            found: format,
            known: FORMAT,
        });
    }
    serde_json::from_slice(bytes).map_err(corrupt)
}

impl StateBackend for Store {
    fn table(&mut self, name: &str) -> Result<Box<dyn StateTable>, StateError> {
        let id = match self.ids.get(name) {
            Some(id) => *id,
            None => {
                let id = self.ids.values().max().map_or(0, |max| max + 1);
                self.ids.insert(name.to_owned(), id);
                self.new_ids.push((name.to_owned(), id));
                id
            }
        };
        let shared = self.tables.entry(id).or_insert_with(|| Arc::new(Mutex::new(Shared::new(id))));
        let shared = Arc::clone(shared);
        let share = self.options.cache_bytes / self.tables.len();
        self.tables.values().for_each(|table| table.lock().set_cache(share));
        Ok(Box::new(Table { shared, data: self.data.clone(), buffer: Vec::new() }))
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
