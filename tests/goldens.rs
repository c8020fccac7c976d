//! The golden cases: see `it/support/goldens`.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test program")]

#[path = "it/support/goldens/mod.rs"]
mod goldens;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use goldens::{Outcome, Selection};

/// Debezium cases that issues have asked for so far.
const DEBEZIUM: &[&str] = &["01", "02", "06", "08", "12", "13", "39", "40", "43", "49"];

fn main() -> ExitCode {
    let mut all = false;
    let mut filters = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--all" => all = true,
            "--list" => return ExitCode::SUCCESS,
            flag if flag.starts_with('-') => {}
            filter => filters.push(filter.to_owned()),
        }
    }
    let root = match std::env::var_os("MILLSTREAM_GOLDENS") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens"),
    };
    let select = |suite: &str, gate: &'static [&'static str]| Selection {
        folder: root.join(suite),
        gate: (!all).then_some(gate),
        filters: filters.clone(),
    };
    let suites = [
        ("debezium", goldens::debezium::run(&select("debezium", DEBEZIUM))),
        ("flinksql", Outcome::default()),
        ("connect-rest", goldens::not_built(&select("connect-rest", &[]))),
    ];
    for (suite, outcome) in suites {
        println!("{suite} goldens: {} passed, {} failed", outcome.passed, outcome.failed);
    }
    if suites.iter().any(|(_, o)| o.failed > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
