//! The directory of a pipeline's state: who may use it, and how one state takes the place of another.
//!
//! ```text
//! lock        locked by whoever runs the pipeline, looks at its state or changes it
//! state       the state
//! state.new   one that is to take its place, while it is made
//! state.old   the one before, while it is deleted
//! ```
//! A new state is complete before the old one is moved aside: where a crash has left no `state`, it is `state.new`.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::start::{directory, state_directory};
use super::worker::state_error;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::state::StateError;

/// How long whoever only looks at a state, or is about to end, is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// The right to a pipeline's state, until it is dropped. The operating system lets go of it when a process ends, however
/// it ends.
#[derive(Debug)]
pub(super) struct StateDirectory {
    state: PathBuf,
    _lock: File,
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |e| Error::config(format!("cannot use {}", path.display())).with_source(e)
}

impl StateDirectory {
    /// Takes it, and brings to its end what a crash has interrupted. Blocks for up to two seconds.
    ///
    /// # Errors
    /// [`crate::Kind::Fenced`] where another process has it; what the file system says.
    pub(super) fn take(data: &Path, pipeline: &str) -> Result<Self> {
        let until = Instant::now() + PATIENCE;
        loop {
            match Self::try_take(data, pipeline)? {
                Some(taken) => return Ok(taken),
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
                None => {
                    let directory = state_directory(data, pipeline).display().to_string();
                    return Err(state_error(StateError::Locked { directory }));
                }
            }
        }
    }

    /// As [`Self::take`], at once; `None`: another process has it.
    pub(super) fn try_take(data: &Path, pipeline: &str) -> Result<Option<Self>> {
        let directory = directory(data, pipeline);
        std::fs::create_dir_all(&directory).map_err(failed(&directory))?;
        let path = directory.join("lock");
        let file =
            File::options().create(true).write(true).truncate(false).open(&path).map_err(failed(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(failed(&path)(e)),
        }
        let taken = Self { state: state_directory(data, pipeline), _lock: file };
        taken.mend()?;
        Ok(Some(taken))
    }

    /// Where the state lies; there may be none yet.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.state.with_extension(extension)
    }

    /// Puts what `make` makes in a directory, which does not exist yet, in the place of the state. Where that fails, or
    /// the process dies, the state is the old one or the new one.
    pub(super) fn replace<T>(&self, make: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let (new, old) = (self.beside("new"), self.beside("old"));
        let made = make(&new).inspect_err(|_| {
            // What is left of it is of no use; what cannot be deleted now is at the next time.
            let _ = remove(&new);
        })?;
        self.sync()?;
        if self.state.exists() {
            rename(&self.state, &old)?;
            self.sync()?;
        }
        failpoint!("state.exchange");
        rename(&new, &self.state)?;
        self.sync()?;
        failpoint!("state.exchanged");
        // At the next time, if not now.
        let _ = remove(&old);
        Ok(made)
    }

    fn mend(&self) -> Result<()> {
        let (new, old) = (self.beside("new"), self.beside("old"));
        if !self.state.exists() && old.exists() {
            rename(if new.exists() { &new } else { &old }, &self.state)?;
            self.sync()?;
        }
        remove(&new)?;
        remove(&old)
    }

    fn sync(&self) -> Result<()> {
        let parent = self.state.parent().unwrap_or(Path::new("."));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed(parent))
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(failed(from))
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(taken: &StateDirectory) -> Option<String> {
        std::fs::read_to_string(taken.state().join("text")).ok()
    }

    fn make(text: &'static str) -> impl FnOnce(&Path) -> Result<()> {
        move |new| {
            std::fs::create_dir(new).unwrap();
            std::fs::write(new.join("text"), text).map_err(failed(new))
        }
    }

    #[test]
    fn one_has_it_at_a_time() {
        let data = tempfile::tempdir().unwrap();
        let held = StateDirectory::take(data.path(), "p").unwrap();
        assert!(StateDirectory::try_take(data.path(), "p").unwrap().is_none());
        assert!(StateDirectory::try_take(data.path(), "q").unwrap().is_some());
        assert_eq!(StateDirectory::take(data.path(), "p").unwrap_err().kind(), crate::Kind::Fenced);
        drop(held);
        assert!(StateDirectory::try_take(data.path(), "p").unwrap().is_some());
    }

    #[test]
    fn a_state_takes_the_place_of_another_or_does_not() {
        let data = tempfile::tempdir().unwrap();
        let taken = StateDirectory::take(data.path(), "p").unwrap();
        taken.replace(make("first")).unwrap();
        taken.replace(make("second")).unwrap();
        assert_eq!(text(&taken).as_deref(), Some("second"));
        let fails = |new: &Path| {
            make("third")(new).unwrap();
            Err::<(), _>(Error::config("damaged"))
        };
        assert!(taken.replace(fails).is_err());
        assert_eq!(text(&taken).as_deref(), Some("second"));
        let left: Vec<_> = std::fs::read_dir(directory(data.path(), "p")).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn what_a_crash_has_interrupted_is_brought_to_its_end() {
        // What there is, what it becomes.
        for (there, wanted) in [
            (&["state", "state.new"][..], Some("state")),
            (&["state.old", "state.new"], Some("state.new")),
            (&["state", "state.old"], Some("state")),
            (&["state.old"], Some("state.old")),
            // One that was to be the first: whoever made it was told nothing.
            (&["state.new"], None),
            (&[], None),
        ] {
            let data = tempfile::tempdir().unwrap();
            let directory = directory(data.path(), "p");
            for name in there {
                std::fs::create_dir_all(directory.join(name)).unwrap();
                std::fs::write(directory.join(name).join("text"), name).unwrap();
            }
            let taken = StateDirectory::take(data.path(), "p").unwrap();
            assert_eq!(text(&taken).as_deref(), wanted, "{there:?}");
            let left = std::fs::read_dir(&directory).unwrap().count();
            assert_eq!(left, 1 + usize::from(wanted.is_some()), "{there:?}");
        }
    }
}
