//! The pipelines that run in this process, by name: what the control socket and the REST API look into.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

use super::pipeline::{Inner, PipelineControl};

static RUNNING: LazyLock<Mutex<BTreeMap<String, Weak<Inner>>>> = LazyLock::new(Mutex::default);

pub(super) fn add(control: &PipelineControl) {
    RUNNING.lock().insert(control.name().to_owned(), Arc::downgrade(&control.inner));
}

/// The pipeline of this name whose handle lives, also when it has ended.
pub fn get(name: &str) -> Option<PipelineControl> {
    RUNNING.lock().get(name).and_then(Weak::upgrade).map(|inner| PipelineControl { inner })
}

/// All of them, by name.
pub fn all() -> Vec<PipelineControl> {
    let mut running = RUNNING.lock();
    running.retain(|_, inner| inner.strong_count() > 0);
    running.values().filter_map(Weak::upgrade).map(|inner| PipelineControl { inner }).collect()
}
