//! Keyed state: a small trait, and fjall with a write-back cache behind it.
//!
//! Operators change state in memory during an epoch; at its end the dirty entries of all operators, the
//! input offsets, the epoch number and the sinks' outboxes become one atomic batch on disk (design §1.4).

mod dirty;
pub mod head;
pub mod memory;
pub mod savepoint;
pub mod store;
mod table;

pub use head::{Head, OpenEpoch};
pub use memory::MemoryState;
pub use store::Store;

/// A failure of the state store.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another process has the state directory open.
    #[error("the state in {directory} is in use by another process")]
    Locked {
        /// The directory.
        directory: String,
    },
    /// The state was written by a newer version.
    #[error("the state in {directory} has format {found}; this version reads up to format {known}")]
    Newer {
        /// The directory.
        directory: String,
        /// Format of the files.
        found: u32,
        /// Newest format known here.
        known: u32,
    },
    /// The disk or the store's files.
    #[error("state store: {0}")]
    Store(String),
    /// An entry that cannot be decoded.
    #[error("state of {table}: {what}")]
    Corrupt {
        /// State table.
        table: String,
        /// What is wrong.
        what: String,
    },
}

/// Looks at an entry, key and value, and says whether to go on.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, StateError> + 'a;

/// One operator's table of keyed state: bytes by bytes, ordered by key.
pub trait StateTable: Send {
    /// The value of a key.
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>, StateError>;

    /// Sets a key.
    fn put(&mut self, key: &[u8], value: &[u8]);

    /// Removes a key.
    fn delete(&mut self, key: &[u8]);

    /// Removes a key if its value passes a test, as one step beside what others do who have the same table open.
    fn delete_if(&mut self, key: &[u8], test: &dyn Fn(&[u8]) -> bool) -> Result<(), StateError>;

    /// Sets a key whose value is less than this one or absent, as one step beside what others do who have the same
    /// table open.
    fn put_greater(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError>;

    /// Calls `each` with every entry from the key `from` on, in key order, until it says `false`.
    fn scan_from(&mut self, from: &[u8], each: &mut Visit<'_>) -> Result<(), StateError>;

    /// Whether there is no entry.
    fn is_empty(&mut self) -> Result<bool, StateError> {
        let mut empty = true;
        self.scan_from(&[], &mut |_, _| {
            empty = false;
            Ok(false)
        })?;
        Ok(empty)
    }

    /// As [`StateTable::scan_from`], of the entries whose key starts with `prefix`.
    fn scan(&mut self, prefix: &[u8], each: &mut Visit<'_>) -> Result<(), StateError> {
        self.scan_part(prefix, prefix, each)
    }

    /// As [`StateTable::scan`], from the key `from` on, which starts with the prefix.
    fn scan_part(&mut self, prefix: &[u8], from: &[u8], each: &mut Visit<'_>) -> Result<(), StateError> {
        self.scan_from(from, &mut |key, value| Ok(key.starts_with(prefix) && each(key, value)?))
    }
}

/// Opens state tables by name, for the time of one pipeline.
pub trait StateBackend {
    /// The table with this name (made when new).
    fn table(&mut self, name: &str) -> Result<Box<dyn StateTable>, StateError>;
}
