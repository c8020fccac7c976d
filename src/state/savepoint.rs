//! Savepoints: the state of a pipeline in one file, to be kept, copied, and gone back to.
//!
//! ```text
//! "millstream savepoint 1\n"
//! header: length (u32 LE), JSON {"name","script","head"}
//! entries of keyspaces meta and data: keyspace (1 byte: m, d), key length (u32 LE), value length (u32 LE), key, value
//! end: one byte 0, SHA-256 of all before
//! ```

use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::store::{Frozen, Store, StoreOptions};
use super::{Head, StateError};

const MAGIC: &[u8] = b"millstream savepoint 1\n";
/// Longest key or value: a damaged length is not to take all memory.
pub(super) const LONGEST: usize = if cfg!(test) { 1 << 16 } else { 1 << 30 };

/// What a savepoint is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Savepoint {
    /// The pipeline's name.
    pub name: String,
    /// Its script.
    pub script: String,
    /// The head of its state.
    pub head: Head,
}

struct Hashing<T> {
    inner: T,
    digest: Sha256,
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.digest.update(bytes.get(..read).unwrap_or_default());
        Ok(read)
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> StateError + '_ {
    move |e| StateError::Store(format!("{}: {e}", path.display()))
}

fn corrupt(what: &str) -> StateError {
    StateError::Corrupt { table: "savepoint".into(), what: what.into() }
}

/// Writes a commit of a store to a file; the file is there whole, or not at all. Gives its size in bytes.
///
/// # Errors
/// What the store or the disk says.
pub fn write(frozen: &Frozen, name: &str, script: &str, path: &Path) -> Result<u64, StateError> {
    let io = failed(path);
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(&io)?;
    let file = tempfile::NamedTempFile::new_in(parent).map_err(&io)?;
    let mut out = Hashing { inner: std::io::BufWriter::with_capacity(1 << 20, file), digest: Sha256::new() };
    let savepoint =
        Savepoint { name: name.to_owned(), script: script.to_owned(), head: frozen.head().clone() };
    let header = serde_json::to_vec(&savepoint).map_err(|e| corrupt(&e.to_string()))?;
    out.write_all(MAGIC).map_err(&io)?;
    put(&mut out, &header).map_err(&io)?;
    frozen.for_each(&mut |keyspace, key, value| {
        let write = || {
            out.write_all(&[keyspace])?;
            for part in [key, value] {
                put_length(&mut out, part)?;
            }
            out.write_all(key)?;
            out.write_all(value)
        };
        let mut write = write;
        write().map_err(&io)
    })?;
    out.write_all(&[0]).map_err(&io)?;
    let Hashing { mut inner, digest } = out;
    inner.write_all(&digest.finalize()).map_err(&io)?;
    let file = inner.into_inner().map_err(|e| io(e.into_error()))?;
    file.as_file().sync_all().map_err(&io)?;
    let size = file.as_file().metadata().map_err(&io)?.len();
    file.persist(path).map_err(|e| io(e.error))?;
    std::fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(&io)?;
    Ok(size)
}

fn put(out: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    put_length(out, bytes)?;
    out.write_all(bytes)
}

/// Of bytes that can be read back.
fn put_length(out: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= LONGEST);
    let too_long = || format!("an entry of {} bytes is too long for a savepoint", bytes.len());
    out.write_all(&length.ok_or_else(|| std::io::Error::other(too_long()))?.to_le_bytes())
}

fn length(input: &mut impl Read) -> std::io::Result<usize> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    let length = usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
    if length > LONGEST { Err(std::io::Error::other("a length that cannot be")) } else { Ok(length) }
}

fn take(input: &mut impl Read, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(u64::try_from(length).unwrap_or(0)).read_to_end(&mut bytes)?;
    if bytes.len() == length { Ok(bytes) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

/// Reads what a savepoint is of, without its entries.
///
/// # Errors
/// Where the file is none, or of a newer version.
pub fn look(path: &Path) -> Result<Savepoint, StateError> {
    let file = std::fs::File::open(path).map_err(failed(path))?;
    header(&mut std::io::BufReader::new(file), path)
}

fn header(input: &mut impl Read, path: &Path) -> Result<Savepoint, StateError> {
    let io = failed(path);
    let magic = take(input, MAGIC.len()).map_err(&io)?;
    if magic != MAGIC {
        return Err(if magic.starts_with(b"millstream savepoint ") {
            StateError::Newer { directory: path.display().to_string(), found: 2, known: 1 }
        } else {
            corrupt(&format!("{} is no savepoint", path.display()))
        });
    }
    let length = length(input).map_err(&io)?;
    let header = take(input, length).map_err(&io)?;
    serde_json::from_slice(&header).map_err(|e| corrupt(&e.to_string()))
}

/// Makes a state directory, which must not hold a state, from a savepoint; `adjust` changes its head.
///
/// # Errors
/// Where the file is damaged (then the directory is left unusable and has to go), or what the disk says.
pub fn restore(
    path: &Path,
    directory: &Path,
    adjust: impl FnOnce(&mut Head),
) -> Result<Savepoint, StateError> {
    let io = failed(path);
    let file = std::fs::File::open(path).map_err(&io)?;
    let mut input =
        Hashing { inner: std::io::BufReader::with_capacity(1 << 20, file), digest: Sha256::new() };
    let mut savepoint = header(&mut input, path)?;
    let mut store = Store::open(directory, StoreOptions::default())?;
    if store.head().epoch > 0 || !store.head().plan.is_empty() {
        return Err(StateError::Store(format!("{} holds a state already", directory.display())));
    }
    loop {
        let keyspace = take(&mut input, 1).map_err(&io)?;
        let Some(keyspace) = keyspace.first().copied().filter(|k| *k != 0) else { break };
        let (key, value) = (length(&mut input).map_err(&io)?, length(&mut input).map_err(&io)?);
        let (key, value) = (take(&mut input, key).map_err(&io)?, take(&mut input, value).map_err(&io)?);
        store.put_raw(keyspace, &key, &value)?;
    }
    let Hashing { mut inner, digest } = input;
    let written = take(&mut inner, 32).map_err(&io)?;
    if written != digest.finalize().as_slice() {
        return Err(corrupt("the checksum is wrong: the file is damaged"));
    }
    adjust(&mut savepoint.head);
    store.commit(savepoint.head.clone(), &[])?;
    Ok(savepoint)
}
