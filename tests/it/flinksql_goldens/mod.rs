//! The Flink SQL golden cases, through the real planner, engine and formats.
//!
//! `tests/goldens/flinksql/README.md` says what a case is and how it is compared.

#![allow(clippy::expect_used, clippy::panic, reason = "a test program")]

mod compare;
mod exprs;
mod run;

use std::path::Path;

/// Runs all cases of a folder whose names hold one of the filters, keyed operators on so many threads; one line a
/// case.
pub fn run_all(folder: &Path, filters: &[String], threads: usize) -> (usize, usize) {
    run::THREADS.store(threads, std::sync::atomic::Ordering::Relaxed);
    let on = if threads > 1 { format!(" on {threads} threads") } else { String::new() };
    let (mut passed, mut failed) = (0, 0);
    let Ok(entries) = std::fs::read_dir(folder) else { return (0, 0) };
    let mut cases: Vec<_> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    cases.sort();
    for case in cases {
        let name = case.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if !filters.is_empty() && !filters.iter().any(|f| name.contains(f.as_str())) {
            continue;
        }
        let outcome = if case.join("exprs.txt").exists() {
            if threads > 1 {
                continue;
            }
            exprs::run(&case)
        } else if case.join("job.sql").exists() {
            run_job(&case)
        } else {
            continue;
        };
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("flinksql {name}{on}: ok");
            }
            Err(why) => {
                failed += 1;
                println!("flinksql {name}{on}: FAILED: {why}");
            }
        }
    }
    (passed, failed)
}

/// A case may panic; that is a failure of the case, not of the run.
fn run_job(case: &Path) -> Result<(), String> {
    let case = case.to_owned();
    let run = std::thread::Builder::new().stack_size(64 << 20).spawn(move || {
        let job = std::fs::read_to_string(case.join("job.sql")).map_err(|e| e.to_string())?;
        if compare::rule(&job) == "error" { run::error(&case, &job) } else { run::job(&case, &job) }
    });
    match run.map(std::thread::JoinHandle::join) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err("panic".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
