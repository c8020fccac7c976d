//! What a data directory knows of pipelines: script, state, and the way back to the start.

use std::path::{Path, PathBuf};

use super::directory::StateDirectory;
use super::start::directory;
use super::worker::state_error;
use crate::error::{Error, Kind, Result};
use crate::state::savepoint::{self, Savepoint};
use crate::state::store::StoreOptions;
use crate::state::{Head, OpenEpoch, StateError, Store};

const SCRIPT: &str = "pipeline.sql";
const NAME: &str = "name";
/// Why the last run ended, where it failed.
pub(super) const FAILURE: &str = "failure";

/// A pipeline that a data directory knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::config(format!("cannot use {}", path.display())).with_source(e)
}

/// Keeps the script of a pipeline that is about to run, for replays and restarts while it is stopped.
///
/// # Errors
/// What the file system says.
pub fn save(data: &Path, name: &str, script: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let dir = directory(data, name);
    std::fs::create_dir_all(&dir).map_err(|e| failed(&dir, e))?;
    for (file, content) in [(NAME, name), (SCRIPT, script)] {
        let path = dir.join(file);
        // Scripts hold passwords: nobody else reads them.
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options
            .open(&path)
            .and_then(|mut f| f.write_all(content.as_bytes()))
            .map_err(|e| failed(&path, e))?;
    }
    Ok(())
}

/// All pipelines of a data directory, by name.
///
/// # Errors
/// What the file system says.
pub fn list(data: &Path) -> Result<Vec<Saved>> {
    let parent = data.join("pipelines");
    let entries = match std::fs::read_dir(&parent) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(&parent, e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let directory = entry.map_err(|e| failed(&parent, e))?.path();
        if let Ok(name) = std::fs::read_to_string(directory.join(NAME)) {
            found.push(Saved { name, directory });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Finds a pipeline by name.
///
/// # Errors
/// [`crate::Kind::Config`] naming those that exist.
pub fn find(data: &Path, name: &str) -> Result<Saved> {
    let all = list(data)?;
    if let Some(found) = all.iter().find(|s| s.name == name) {
        return Ok(found.clone());
    }
    let names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
    let error = Error::config(format!("there is no pipeline {name} in {}", data.display()));
    Err(if names.is_empty() {
        error
            .because("no pipeline has run with this data directory")
            .next("run one with `millstream sql -f FILE.sql`")
    } else {
        error.because(format!("known: {}", names.join(", "))).next("check the name, and --data")
    })
}

/// The script that the pipeline ran last.
///
/// # Errors
/// What the file system says.
pub fn script(saved: &Saved) -> Result<String> {
    let path = saved.directory.join(SCRIPT);
    std::fs::read_to_string(&path).map_err(|e| failed(&path, e))
}

/// What a stopped pipeline's last run failed of; `None`: of nothing.
pub fn failure(saved: &Saved) -> Option<String> {
    std::fs::read_to_string(saved.directory.join(FAILURE)).ok().filter(|text| !text.is_empty())
}

/// The head of a stopped pipeline's state; `None` where another process has it open.
///
/// # Errors
/// What the state store says.
pub fn head(data: &Path, name: &str) -> Result<Option<Head>> {
    if !directory(data, name).exists() {
        return Ok(Some(Head::default()));
    }
    let Some(held) = StateDirectory::try_take(data, name)? else { return Ok(None) };
    if !held.state().exists() {
        return Ok(Some(Head::default()));
    }
    match Store::open(held.state(), StoreOptions::default()) {
        Ok(store) => Ok(Some(store.head().clone())),
        Err(StateError::Locked { .. }) => Ok(None),
        Err(error) => Err(state_error(error)),
    }
}

/// Throws a stopped pipeline's state away. At its next start it computes everything anew and takes the targets
/// over.
///
/// # Errors
/// [`crate::Kind::Fenced`] where it runs; what the file system says.
pub fn reset(data: &Path, name: &str) -> Result<()> {
    // Damaged state, or that of a newer version, may go.
    let held = take_stopped(data, name)?;
    held.replace(|new| {
        let mut store = Store::open(new, StoreOptions::default()).map_err(state_error)?;
        let head = Head { takeover: true, ..store.head().clone() };
        store.commit(head, &[]).map_err(state_error)
    })?;
    // Of a run that there is nothing of any more.
    let _ = std::fs::remove_file(directory(data, name).join(FAILURE));
    Ok(())
}

/// The right to the state of a pipeline that must not run.
fn take_stopped(data: &Path, name: &str) -> Result<StateDirectory> {
    StateDirectory::take(data, name).map_err(|error| match error.kind() {
        Kind::Fenced => error.next(format!("stop it first: `millstream pipelines stop {name}`")),
        _ => error,
    })
}

/// Writes a stopped pipeline's state to a file. `Ok(None)`: another process has it open. Gives the file's size in
/// bytes.
///
/// # Errors
/// Where there is no such pipeline, or what the disk says.
pub fn savepoint(data: &Path, name: &str, path: &Path) -> Result<Option<u64>> {
    let known = find(data, name)?;
    let script = script(&known)?;
    let held = match StateDirectory::take(data, name) {
        Err(error) if error.kind() == Kind::Fenced => return Ok(None),
        taken => taken?,
    };
    let store = Store::open(held.state(), StoreOptions::default()).map_err(state_error)?;
    savepoint::write(&store.freeze(), name, &script, path).map(Some).map_err(state_error)
}

/// Makes a pipeline of a savepoint, under its own or another name; a state of that name is replaced. At its next
/// start it reads on from where the savepoint was taken, and takes its targets over: rows that were written since
/// are written once more. An epoch that the savepoint does not know to be in its target is looked for there.
///
/// # Errors
/// [`crate::Kind::Fenced`] where a pipeline of the name runs; where the file is damaged. Then the state is as it was.
pub fn restore(data: &Path, path: &Path, name: Option<&str>) -> Result<Savepoint> {
    let savepoint = savepoint::look(path).map_err(|e| match e {
        newer @ StateError::Newer { .. } => state_error(newer),
        other => Error::config(format!("cannot read savepoint {}", path.display())).with_source(other),
    })?;
    let name = name.unwrap_or(&savepoint.name).to_owned();
    let renamed = name != savepoint.name;
    let held = take_stopped(data, &name)?;
    let adjust = |head: &mut Head| {
        // What targets hold is newer: their fences are taken over as by a pipeline that starts anew. Only what may be in
        // no target is still to be written, as the first epoch.
        head.takeover = true;
        let (writers, written) = (std::mem::take(&mut head.writers), std::mem::take(&mut head.written));
        let (tokens, lives) = (std::mem::take(&mut head.tokens), std::mem::take(&mut head.lives));
        head.sinks.retain(|sink, epoch| written.get(sink).is_none_or(|written| written < epoch));
        for (sink, epoch) in &mut head.sinks {
            let found = OpenEpoch {
                epoch: std::mem::replace(epoch, 1),
                writers: writers.iter().chain(tokens.get(sink)).cloned().collect(),
                life: lives.get(sink).copied(),
            };
            // That of a savepoint whose own restored state was never started stays as it is.
            let open = head.open.entry(sink.clone()).or_insert(found);
            if renamed {
                // Targets know a pipeline by its name.
                *open = OpenEpoch { epoch: open.epoch, ..OpenEpoch::default() };
            }
        }
        head.open.retain(|sink, _| head.sinks.contains_key(sink));
    };
    let mut savepoint = held.replace(|new| savepoint::restore(path, new, adjust).map_err(state_error))?;
    save(data, &name, &savepoint.script)?;
    savepoint.name = name;
    Ok(savepoint)
}
