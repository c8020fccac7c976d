//! Log levels by logger name, as Kafka Connect's `/admin/loggers` shows and sets them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;

/// A logger's level.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Level {
    /// TRACE, DEBUG, INFO, WARN, ERROR, FATAL or OFF.
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

const LEVELS: [&str; 7] = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "OFF"];

impl Loggers {
    /// Only the root logger, at this level.
    pub fn new(root: &str, apply: Apply) -> Self {
        let level = Level { level: root.to_owned(), last_modified: None };
        Self { levels: Mutex::new(BTreeMap::from([("root".to_owned(), level)])), apply }
    }

    /// All loggers with a level of their own.
    pub fn all(&self) -> BTreeMap<String, Level> {
        self.levels.lock().clone()
    }

    /// One logger's level.
    pub fn get(&self, name: &str) -> Option<Level> {
        self.levels.lock().get(name).cloned()
    }

    /// Sets a level (any case) for a logger and those below it that have one; `None` when there is no such
    /// level. Says which loggers changed.
    pub fn set(&self, name: &str, level: &str) -> Option<Vec<String>> {
        let level = level.to_ascii_uppercase();
        if !LEVELS.contains(&level.as_str()) {
            return None;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|d| d.as_millis());
        let entry = Level { level, last_modified: now.and_then(|n| u64::try_from(n).ok()) };
        let mut levels = self.levels.lock();
        let below = format!("{name}.");
        let mut changed: Vec<String> =
            levels.keys().filter(|k| *k == name || k.starts_with(&below)).cloned().collect();
        if !changed.iter().any(|c| c == name) {
            changed.push(name.to_owned());
            changed.sort();
        }
        for name in &changed {
            levels.insert(name.clone(), entry.clone());
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
    }
}
