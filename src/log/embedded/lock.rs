//! One process owns a log's directory.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::manifest::io;
use crate::error::{Error, Kind, Result};

/// The held lock; the operating system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock and writes this process's id into the file.
    ///
    /// # Errors
    /// [`Kind::Fenced`] with the owner's pid when another process holds it.
    pub fn take(dir: &Path) -> Result<Self> {
        let path = dir.join("lock");
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| io("cannot open", &path, e))?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    let owner = read_pid(&mut file);
                    // This process itself may be closing the log on another thread.
                    if owner == Some(std::process::id()) && started.elapsed() < Duration::from_secs(5) {
                        std::thread::sleep(Duration::from_millis(5));
                        continue;
                    }
                    return Err(owned(dir, owner));
                }
                Err(TryLockError::Error(e)) => return Err(io("cannot lock", &path, e)),
            }
        }
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
        written.map_err(|e| io("cannot write", &path, e))?;
        Ok(Self { _file: file })
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn owned(dir: &Path, pid: Option<u32>) -> Error {
    let what = format!("the log in {} is in use by another process", dir.display());
    match pid {
        Some(pid) => Error::new(Kind::Fenced, what)
            .because(format!("process {pid} holds it"))
            .next(format!("stop process {pid}, or use another directory with --log file:DIR")),
        None => Error::new(Kind::Fenced, what).next("stop it, or use another directory with --log file:DIR"),
    }
}
