//! Log levels by logger name, as Kafka Connect's `/admin/loggers` shows and sets them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;

/// A logger's level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Level {
    /// ALL, TRACE, DEBUG, INFO, WARN, ERROR, FATAL or OFF.
    pub level: String,
    /// Milliseconds since 1970 of the last change by the API.
    pub last_modified: Option<u64>,
}

/// What applies a change to the running log output: a filter directive per logger.
pub type Apply = Box<dyn Fn(&BTreeMap<String, Level>) + Send + Sync>;

/// The levels in force.
pub struct Loggers {
    levels: Mutex<BTreeMap<String, Level>>,
    apply: Apply,
}

impl std::fmt::Debug for Loggers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loggers").field("levels", &self.levels).finish_non_exhaustive()
    }
}

const LEVELS: [&str; 8] = ["ALL", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "OFF"];
const ROOT: &str = "root";

/// The root logger is found in any case.
fn known_as(name: &str) -> &str {
    if name.eq_ignore_ascii_case(ROOT) { ROOT } else { name }
}

impl Loggers {
    /// Only the root logger, at this level.
    pub fn new(root: &str, apply: Apply) -> Self {
        let level = Level { level: root.to_owned(), last_modified: None };
        Self { levels: Mutex::new(BTreeMap::from([(ROOT.to_owned(), level)])), apply }
    }

    /// All loggers with a level of their own.
    pub fn all(&self) -> BTreeMap<String, Level> {
        self.levels.lock().clone()
    }

    /// One logger's level.
    pub fn get(&self, name: &str) -> Option<Level> {
        self.levels.lock().get(known_as(name)).cloned()
    }

    /// Sets a level (any case) for a logger and those below it that have one; `None` when there is no such
    /// level. Says which loggers changed: one that had the level already did not.
    pub fn set(&self, name: &str, level: &str) -> Option<Vec<String>> {
        let level = level.trim().to_ascii_uppercase();
        if !LEVELS.contains(&level.as_str()) {
            return None;
        }
        let name = known_as(name);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|d| d.as_millis());
        let entry = Level { level, last_modified: now.and_then(|n| u64::try_from(n).ok()) };
        let mut levels = self.levels.lock();
        if !levels.contains_key(name) {
            // A new logger has the level of the nearest above it.
            let above = std::iter::successors(name.rsplit_once('.'), |(above, _)| above.rsplit_once('.'))
                .find_map(|(above, _)| levels.get(above))
                .or_else(|| levels.get(ROOT));
            if let Some(above) = above.cloned() {
                levels.insert(name.to_owned(), Level { last_modified: None, ..above });
            }
        }
        let below = format!("{name}.");
        let mut changed = Vec::new();
        for (known, held) in levels.iter_mut() {
            let meant = name == ROOT || known == name || known.starts_with(&below);
            if meant && held.level != entry.level {
                held.clone_from(&entry);
                changed.push(known.clone());
            }
        }
        (self.apply)(&levels);
        Some(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_goes_to_the_logger_and_those_below() {
        let loggers = Loggers::new("INFO", Box::new(|_| {}));
        assert_eq!(loggers.set("a.b", "debug"), Some(vec!["a.b".to_owned()]));
        assert_eq!(loggers.set("a", "WARN"), Some(vec!["a".to_owned(), "a.b".to_owned()]));
        assert_eq!(loggers.get("a.b").unwrap().level, "WARN");
        assert_eq!(loggers.set("a", "LOUD"), None);
        assert_eq!(loggers.set("a", " warn "), Some(vec![]));
        // As its parent has it already: known from now on, and not changed.
        assert_eq!(loggers.set("b", "INFO"), Some(vec![]));
        assert_eq!(loggers.get("b"), Some(Level { level: "INFO".to_owned(), last_modified: None }));
        let all = ["a", "a.b", "b", "root"].map(str::to_owned).to_vec();
        assert_eq!(loggers.set("ROOT", "ALL"), Some(all));
        assert_eq!(loggers.get("Root").unwrap().level, "ALL");
    }
}
