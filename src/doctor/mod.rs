//! `millstream doctor` and `millstream grants`: what stands in the way of a start, and the SQL that mends it.
//!
//! Nothing here changes anything: source, log and target are only asked.

pub mod grants;
mod source;
mod target;

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

pub use source::examine as source;
pub use target::examine as target;

use crate::error::Error;
use crate::log::Log;

/// How a finding is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// Works, but will hurt.
    Warning,
    /// A start fails, or data is lost.
    Problem,
}

impl Level {
    /// `ok`, `warning`, `problem`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How it is meant.
    pub level: Level,
    /// What was looked at, in one word: `wal_level`, `privileges`, ….
    pub check: &'static str,
    /// What was found.
    pub text: String,
    /// Statements that mend it, each whole, in this order.
    pub sql: Vec<String>,
    /// What else there is to do: who runs the statements, a restart, ….
    pub next: Option<String>,
}

impl Finding {
    fn new(level: Level, check: &'static str, text: impl Into<String>) -> Self {
        Self { level, check, text: text.into(), sql: Vec::new(), next: None }
    }

    fn good(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Good, check, text)
    }

    fn warning(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Warning, check, text)
    }

    fn problem(check: &'static str, text: impl Into<String>) -> Self {
        Self::new(Level::Problem, check, text)
    }

    fn sql(mut self, statement: impl Into<String>) -> Self {
        self.sql.push(statement.into());
        self
    }

    fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    fn error(check: &'static str, error: &Error) -> Self {
        let mut text = error.what().to_owned();
        if let Some(cause) = error.cause() {
            text = format!("{text}: {cause}");
        }
        let finding = Self::problem(check, text);
        match error.next_step() {
            Some(next) => finding.next(next),
            None => finding,
        }
    }
}

/// What was found at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// `source`, `log`, `target`.
    pub part: &'static str,
    /// Which one: a file, a URL.
    pub subject: String,
    /// In the order of the looks.
    pub findings: Vec<Finding>,
}

impl Part {
    /// For a machine.
    pub fn to_json(&self) -> Value {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|f| {
                json!({ "level": f.level.name(), "check": f.check, "text": f.text, "sql": f.sql, "next": f.next })
            })
            .collect();
        json!({ "part": self.part, "subject": self.subject, "findings": findings })
    }

    /// For a person.
    pub fn to_text(&self) -> String {
        let mut out = format!("{}: {}\n", self.part, self.subject);
        for f in &self.findings {
            out.push_str(&format!("  {:<8} {}\n", f.level.name(), f.text));
            for statement in &f.sql {
                out.push_str(&format!("           {statement};\n"));
            }
            if let Some(next) = &f.next {
                out.push_str(&format!("           -> {next}\n"));
            }
        }
        out
    }
}

/// Looks at the log. `log` is how opening it went, `dir` the directory of an embedded one.
pub async fn log(log: &Result<Arc<dyn Log>, Error>, dir: Option<&Path>) -> Vec<Finding> {
    let mut out = Vec::new();
    match log {
        Err(error) => out.push(Finding::error("log", error)),
        Ok(log) => match log.topics().await {
            Ok(topics) => {
                out.push(Finding::good("log", format!("it answers and holds {} topics", topics.len())))
            }
            Err(error) => out.push(Finding::error("log", &error)),
        },
    }
    if let Some(dir) = dir {
        out.push(free_space(dir));
    }
    out
}

/// What there is to say of an embedded log that the first start makes.
pub fn new_log(dir: &Path) -> Vec<Finding> {
    vec![Finding::good("log", "it is made at the start"), free_space(dir)]
}

/// Free space where the directory is, or will be.
fn free_space(dir: &Path) -> Finding {
    use std::os::unix::ffi::OsStrExt as _;
    const LITTLE: u64 = 1 << 30;
    let there = dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("."));
    let there = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let unknown = || Finding::warning("disk", format!("free space at {} cannot be read", there.display()));
    let Ok(path) = std::ffi::CString::new(there.as_os_str().as_bytes()) else { return unknown() };
    // SAFETY: statvfs is plain old data, for which all zeroes is a valid value.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a NUL-ended string and `stat` is a place of the right type; both outlive the call.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) } != 0 {
        return unknown();
    }
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let text = format!("{} MiB are free at {}", free >> 20, there.display());
    if free < LITTLE {
        Finding::warning("disk", text).next("free space, or put the data directory elsewhere (--data)")
    } else {
        Finding::good("disk", text)
    }
}
