//! Recorded cases of Debezium, Flink and Kafka Connect: the specification where a document is silent.
//!
//! `make goldens` runs all of them, and so does `make test`. `MILLSTREAM_GOLDENS=DIR` takes `DIR/debezium`, `DIR/flinksql` and `DIR/connect-rest` instead. The three closing lines stand last.

pub mod debezium;
mod form;
pub mod json;
pub mod mask;
pub mod recording;
pub mod registry;

use std::path::{Path, PathBuf};
use std::time::Instant;

/// How a suite ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub passed: usize,
    pub failed: usize,
}

/// Which cases are to run.
pub struct Selection {
    /// The suite's folder; may be missing.
    pub folder: PathBuf,
    /// Only cases of which `suite/case` contains one of these; all where it is empty.
    pub filters: Vec<String>,
}

impl Selection {
    /// The case folders, sorted by name.
    pub fn cases(&self, suite: &str) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let mut cases: Vec<PathBuf> = entries
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.is_dir() && self.wants(suite, &name(p)))
            .collect();
        cases.sort();
        cases
    }

    fn wants(&self, suite: &str, case: &str) -> bool {
        let full = format!("{suite}/{case}");
        self.filters.is_empty() || self.filters.iter().any(|f| full.contains(f.as_str()))
    }
}

/// The last part of a path.
pub fn name(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// How the error of a case begins that this server cannot run: neither passed nor failed.
pub const LEFT_OUT: &str = "left out: ";

/// Runs one case and says how it went (nothing where it is left out), in a line.
fn run_one(
    suite: &str,
    case: &Path,
    run: &impl Fn(&Path) -> Result<String, String>,
) -> (Option<bool>, String) {
    let start = Instant::now();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(case)))
        .unwrap_or_else(|_| Err("panicked".into()));
    let seconds = start.elapsed().as_secs_f64();
    match result {
        Ok(what) => (Some(true), format!("{suite} {}: ok ({what}, {seconds:.1} s)", name(case))),
        Err(why) if why.starts_with(LEFT_OUT) => (None, format!("{suite} {}: {why}", name(case))),
        Err(why) => (Some(false), format!("{suite} {}: FAILED ({seconds:.1} s): {why}", name(case))),
    }
}

/// Runs cases, several at a time, and prints a line for each in their order.
pub fn run_several(
    suite: &str,
    cases: &[PathBuf],
    at_once: usize,
    run: impl Fn(&Path) -> Result<String, String> + Sync,
) -> Outcome {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let done = std::sync::Mutex::new((0, vec![None; cases.len()]));
    let outcome = std::sync::Mutex::new(Outcome::default());
    std::thread::scope(|scope| {
        for _ in 0..at_once.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { return };
                    let (passed, line) = run_one(suite, case, &run);
                    let mut outcome = outcome.lock().unwrap();
                    match passed {
                        Some(true) => outcome.passed += 1,
                        Some(false) => outcome.failed += 1,
                        None => {}
                    }
                    let mut done = done.lock().unwrap();
                    done.1[at] = Some(line);
                    while let Some(Some(line)) = done.1.get(done.0) {
                        println!("{line}");
                        done.0 += 1;
                    }
                }
            });
        }
    });
    outcome.into_inner().unwrap()
}
