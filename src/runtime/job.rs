//! A file of Flink SQL, compiled and named: what `sql -f`, `run`, the demo and a replay start.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::sql::{Script, SqlError};

/// A compiled job with its name.
#[derive(Debug)]
pub struct Job {
    /// `SET 'pipeline.name'`, else the file's stem: its state is kept under it.
    pub name: String,
    /// What it does.
    pub script: Script,
    /// The text it was compiled from.
    pub text: String,
    /// The file it was read from.
    pub file: Option<PathBuf>,
}

impl Job {
    /// Reads and compiles a file.
    ///
    /// # Errors
    /// When the file cannot be read, or its text is not valid: with line, column and caret.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::config(format!("cannot read the SQL file {}", path.display())).with_source(e)
        })?;
        let job = Self::from_text(&text, &stem(path), &path.display().to_string())?;
        Ok(Self { file: Some(path.to_owned()), ..job })
    }

    /// Compiles a text; `name` is the job's where the text sets none, `origin` stands in messages.
    ///
    /// # Errors
    /// When the text is not valid: with line, column and caret.
    pub fn from_text(text: &str, name: &str, origin: &str) -> Result<Self> {
        let script = crate::sql::compile(text).map_err(|e| invalid(&e, text, origin))?;
        let name = script.pipeline_name.clone().unwrap_or_else(|| name.to_owned());
        Ok(Self { name, script, text: text.to_owned(), file: None })
    }

    /// Shows the planner's warnings.
    pub fn warn(&self) {
        for warning in &self.script.plan.warnings {
            tracing::warn!(pipeline = self.name, "{warning}");
        }
    }
}

/// The name of a job whose file is not valid, as far as that can be read: what the text sets, else the file's stem.
pub fn name_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let set = regex::Regex::new(r"(?im)^\s*SET\s+'pipeline\.name'\s*=\s*'((?:[^']|'')+)'");
    let named = set.ok().and_then(|set| Some(set.captures(&text)?.get(1)?.as_str().replace("''", "'")));
    named.unwrap_or_else(|| stem(path))
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "sql".into(), |s| s.to_string_lossy().into_owned())
}

fn invalid(error: &SqlError, text: &str, origin: &str) -> Error {
    Error::config(error.render(text, origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_named_by_its_text_or_its_file() {
        let text = "CREATE TABLE t (a INT) WITH ('connector'='datagen'); CREATE TABLE p (a INT) WITH \
                    ('connector'='print'); INSERT INTO p SELECT a FROM t;";
        assert_eq!(Job::from_text(text, "file", "file.sql").unwrap().name, "file");
        let named = format!("SET 'pipeline.name' = 'shop'; {text}");
        assert_eq!(Job::from_text(&named, "file", "file.sql").unwrap().name, "shop");
    }

    #[test]
    fn a_job_that_is_not_valid_has_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("orders.sql");
        for (text, name) in [
            ("SELECT FROM;", "orders"),
            ("-- SET 'pipeline.name' = 'old';\nSELECT FROM;", "orders"),
            ("CREATE x;\n set 'pipeline.name'='it''s';", "it's"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(Job::from_file(&path).is_err());
            assert_eq!(name_of(&path), name);
        }
        assert_eq!(name_of(&dir.path().join("gone.sql")), "gone");
    }

    #[test]
    fn a_fault_has_its_place() {
        let error = Job::from_text("SELECT\n  FROM;", "x", "x.sql").unwrap_err();
        assert!(error.screen().contains("x.sql:2:"), "{}", error.screen());
        assert!(error.screen().contains('^'), "{}", error.screen());
    }
}
