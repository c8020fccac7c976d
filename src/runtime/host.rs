//! A process that runs any number of pipelines, and starts, stops and replays them on request.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::job::Job;
use super::pipeline::{Environment, Pipeline, PipelineControl, PipelineHandle};
use super::{registry, saved};
use crate::engine::plan::Plan;
use crate::error::{Error, Kind, Result};
use crate::replay::{Range, Report};

static CURRENT: Mutex<Weak<Host>> = Mutex::new(Weak::new());

/// Owns the pipelines of a service.
pub struct Host {
    environment: Environment,
    pipelines: Mutex<BTreeMap<String, PipelineHandle>>,
    /// The files that pipelines were started from.
    files: Mutex<BTreeMap<String, PathBuf>>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("data", &self.environment.data).finish_non_exhaustive()
    }
}

/// The host of this process, where it is a service.
pub fn current() -> Option<Arc<Host>> {
    CURRENT.lock().upgrade()
}

impl Host {
    /// Makes this process a host: pipelines run in `environment`, each with its own script.
    pub fn new(environment: Environment) -> Arc<Self> {
        let host = Arc::new(Self { environment, pipelines: Mutex::default(), files: Mutex::default() });
        *CURRENT.lock() = Arc::downgrade(&host);
        host
    }

    /// Starts a job, or goes on where one of this name stopped.
    ///
    /// # Errors
    /// As [`Pipeline::start`]; [`Kind::Config`] where a pipeline of this name runs here already.
    pub async fn start(&self, job: &Job, fresh: bool) -> Result<PipelineControl> {
        if registry::get(&job.name).is_some_and(|p| !p.status().phase.is_final()) {
            return Err(Error::config(format!("pipeline {} runs already", job.name))
                .next(format!("stop it first: `millstream pipelines stop {}`", job.name)));
        }
        job.warn();
        if let Some(file) = &job.file {
            self.files.lock().insert(job.name.clone(), file.clone());
        }
        let environment =
            Environment { script: Some(job.text.clone()), fresh, held: false, ..self.environment.clone() };
        let handle = Box::pin(Pipeline::start(&job.script.plan, &job.name, environment)).await?;
        let control = handle.control();
        tokio::spawn(tell(control.clone()));
        self.pipelines.lock().insert(job.name.clone(), handle);
        Ok(control)
    }

    /// Starts a job; one that cannot be started is FAILED, with its cause, and keeps nothing else from running.
    pub async fn launch(&self, job: &Job) {
        let Err(error) = self.start(job, false).await else { return };
        tracing::error!(pipeline = job.name, "FAILED: {}", error.screen());
        // Another one of this name goes on.
        if registry::get(&job.name).is_some_and(|p| !p.status().phase.is_final()) {
            return;
        }
        let failed = Pipeline::failed(&job.script.plan, &job.name, self.environment.clone(), error);
        self.pipelines.lock().insert(job.name.clone(), failed);
    }

    /// A file that is no valid job: its pipeline is FAILED with the place of the fault, and keeps nothing else from
    /// running. Once the file is mended, [`Self::resume`] starts it.
    pub fn reject(&self, name: &str, file: &Path, error: Error) {
        tracing::error!(pipeline = name, "FAILED: {}", error.screen());
        self.files.lock().insert(name.to_owned(), file.to_owned());
        let failed = Pipeline::failed(&Plan::default(), name, self.environment.clone(), error);
        self.pipelines.lock().insert(name.to_owned(), failed);
    }

    /// Starts a pipeline that the data directory knows: by its file as that is now, where this process started it
    /// from one, else by the script it ran last.
    ///
    /// # Errors
    /// [`Kind::Config`] where there is none of this name, or its file has become invalid; else as [`Self::start`].
    pub async fn resume(&self, name: &str) -> Result<PipelineControl> {
        let file = self.files.lock().get(name).cloned().filter(|file| file.is_file());
        let job = match file {
            Some(file) => {
                let mut job = Job::from_file(&file)?;
                name.clone_into(&mut job.name);
                job
            }
            None => self.known(name)?,
        };
        self.start(&job, false).await
    }

    /// Replays into the target of a pipeline that is stopped: it is started held, and stopped again.
    ///
    /// # Errors
    /// As [`crate::replay::replay`].
    pub async fn replay_stopped(&self, name: &str, range: &Range) -> Result<Report> {
        let job = self.known(name)?;
        let environment = Environment { held: true, patient: false, ..self.environment.clone() };
        replay_held(&job, environment, range).await
    }

    fn known(&self, name: &str) -> Result<Job> {
        let known = saved::find(&self.environment.data, name)?;
        let mut job = Job::from_text(&saved::script(&known)?, name, "the pipeline's script")?;
        name.clone_into(&mut job.name);
        Ok(job)
    }

    /// Stops all of them, at the same time: one that waits for its target holds up no other.
    pub async fn stop(&self) {
        let pipelines = std::mem::take(&mut *self.pipelines.lock());
        let stop = async |handle: PipelineHandle| {
            let failed = handle.status().phase == super::Phase::Failed;
            if let Err(error) = handle.stop().await
                && !failed
                && error.kind() != Kind::Stopped
            {
                tracing::warn!(%error, "a pipeline did not stop cleanly");
            }
        };
        futures_util::future::join_all(pipelines.into_values().map(stop)).await;
    }
}

/// Starts a stopped pipeline held, replays, and stops it again.
///
/// # Errors
/// As [`Pipeline::start`] and [`crate::replay::replay`].
pub async fn replay_held(job: &Job, environment: Environment, range: &Range) -> Result<Report> {
    let environment = Environment { held: true, ..environment };
    let handle = Box::pin(Pipeline::start(&job.script.plan, &job.name, environment)).await?;
    let result = crate::replay::replay(&handle, range).await;
    let stopped = handle.stop().await;
    let report = result?;
    stopped.map(|()| report)
}

/// Logs each state that a pipeline comes to, with its cause, until its end.
async fn tell(pipeline: PipelineControl) {
    let mut changes = pipeline.changes();
    let mut last = None;
    loop {
        let status = pipeline.status();
        if last != Some(status.phase) {
            let (name, state, cause) = (&status.name, status.phase.name(), status.causes.join("; "));
            match status.phase {
                super::Phase::Failed => tracing::error!(pipeline = name, cause, "{state}"),
                super::Phase::Retrying => tracing::warn!(pipeline = name, cause, "{state}"),
                super::Phase::Waiting => tracing::info!(pipeline = name, cause, "{state}"),
                _ => tracing::info!(pipeline = name, "{state}"),
            }
            last = Some(status.phase);
        }
        if status.phase.is_final() || changes.changed().await.is_err() {
            return;
        }
    }
}
