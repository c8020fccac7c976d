//! One process owns a log's directory.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::manifest::io;
use crate::error::{Error, Kind, Result};

/// How long an opener waits for a holder that says it is brief.
const BRIEF: Duration = Duration::from_secs(10);
/// How long it waits for any other: one that has just taken the lock may not have said yet what it is, and one that
/// was told to end may be about to.
const ANY: Duration = Duration::from_secs(1);
/// What a brief holder writes behind its process id.
const MARK: &str = "brief";

/// What the log is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To work with it until the process ends. A brief holder is waited for.
    Serve,
    /// To look at it and let go: it must never keep a service from starting.
    Look,
}

/// The held lock; the operating system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock and writes this process's id into the file. To serve, a process that only looks at the log
    /// is waited for, since it lets go soon.
    ///
    /// # Errors
    /// [`Kind::Fenced`] with the owner's pid when another process holds it.
    pub fn take(dir: &Path, purpose: Purpose) -> Result<Self> {
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
                    let owner = Owner::read(&mut file);
                    let patience = match purpose {
                        // This process itself may be closing the log on another thread.
                        _ if owner.pid == Some(std::process::id()) => Duration::from_secs(5),
                        Purpose::Look => Duration::ZERO,
                        Purpose::Serve if owner.brief => BRIEF,
                        Purpose::Serve => ANY,
                    };
                    if started.elapsed() >= patience {
                        return Err(owned(dir, owner.pid));
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::Error(e)) => return Err(io("cannot lock", &path, e)),
            }
        }
        let mark = if purpose == Purpose::Look { MARK } else { "" };
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(format!("{} {mark}\n", std::process::id()).as_bytes()));
        written.map_err(|e| io("cannot write", &path, e))?;
        Ok(Self { _file: file })
    }
}

/// What the file says of the holder.
#[derive(Default)]
struct Owner {
    pid: Option<u32>,
    brief: bool,
}

impl Owner {
    fn read(file: &mut File) -> Self {
        let mut text = String::new();
        if file.rewind().and_then(|()| file.read_to_string(&mut text)).is_err() {
            return Self::default();
        }
        let mut words = text.split_whitespace();
        Self { pid: words.next().and_then(|word| word.parse().ok()), brief: words.next() == Some(MARK) }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Locks belong to open files, so a second one in this process stands for another process, but for its id.
    fn held_by(dir: &Path, text: &str) -> File {
        let mut file = File::create(dir.join("lock")).unwrap();
        file.try_lock().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn a_service_waits_for_one_that_only_looks() {
        let dir = tempfile::tempdir().unwrap();
        let looks = held_by(dir.path(), "1 brief\n");
        let at = dir.path().to_owned();
        let service =
            std::thread::spawn(move || DirectoryLock::take(&at, Purpose::Serve).map(|_| Instant::now()));
        // Longer than any other holder is waited for.
        std::thread::sleep(ANY + Duration::from_millis(200));
        let released = Instant::now();
        drop(looks);
        assert!(service.join().unwrap().unwrap() >= released);
    }

    #[test]
    fn a_service_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let _serves = held_by(dir.path(), "1 \n");
        for purpose in [Purpose::Look, Purpose::Serve] {
            let error = DirectoryLock::take(dir.path(), purpose).unwrap_err();
            assert_eq!(error.kind(), Kind::Fenced);
            assert!(error.screen().contains("process 1 holds it"), "{error}");
        }
    }
}
