//! The golden cases: see `it/support/goldens`, `it/flinksql_goldens` and `it/connect_rest_goldens`.
//!
//! `cargo test --test goldens` runs all suites, `-- debezium/08` the cases whose suite and name hold the text.

#![allow(
    missing_docs,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test program; some of what it shares with tests/it is only used there"
)]

#[path = "it/connect_rest_goldens.rs"]
mod connect_rest_goldens;
#[path = "it/flinksql_goldens/mod.rs"]
mod flinksql_goldens;
#[path = "it/support/goldens/mod.rs"]
mod goldens;
#[path = "it/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use goldens::{Outcome, Selection};

fn main() -> ExitCode {
    let mut filters = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--list" => return ExitCode::SUCCESS,
            flag if flag.starts_with('-') => {}
            filter => filters.push(filter.to_owned()),
        }
    }
    let root = match std::env::var_os("MILLSTREAM_GOLDENS") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens"),
    };
    let wanted =
        |suite: &str| filters.is_empty() || filters.iter().any(|f| f.starts_with(suite) || !f.contains('/'));
    let debezium =
        goldens::debezium::run(&Selection { folder: root.join("debezium"), filters: filters.clone() });
    let mut flinksql = Outcome::default();
    let own = std::env::var_os("MILLSTREAM_GOLDENS").is_none();
    let mut on_threads = Outcome::default();
    if wanted("flinksql") {
        let names: Vec<String> =
            filters.iter().map(|f| f.trim_start_matches("flinksql/").to_owned()).collect();
        let (passed, failed) = flinksql_goldens::run_all(&root.join("flinksql"), &names, 1);
        flinksql = Outcome { passed, failed };
        if own {
            let (passed, failed) = flinksql_goldens::run_all(&root.join("flinksql"), &names, 3);
            on_threads = Outcome { passed, failed };
        }
    }
    let mut connect_rest = Outcome::default();
    if wanted("connect-rest") {
        let names: Vec<String> = filters
            .iter()
            .map(|f| f.trim_start_matches("connect-rest").trim_matches('/').to_owned())
            .collect();
        let (passed, failed) = connect_rest_goldens::run_all(&root.join("connect-rest"), &names);
        connect_rest = Outcome { passed, failed };
    }
    let suites = [("debezium", debezium), ("flinksql", flinksql), ("connect-rest", connect_rest)];
    if on_threads.passed + on_threads.failed > 0 {
        println!("flinksql jobs on 3 threads: {} passed, {} failed", on_threads.passed, on_threads.failed);
    }
    for (suite, outcome) in suites {
        println!("{suite} goldens: {} passed, {} failed", outcome.passed, outcome.failed);
    }
    // Of the project's own cases none may have gone missing unseen.
    let all = filters.is_empty() && own;
    let wrong = |outcome: &Outcome| outcome.failed > 0 || (all && outcome.passed == 0);
    if on_threads.failed > 0 || suites.iter().any(|(_, outcome)| wrong(outcome)) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
