//! The options of one transform, predicate or converter: properties under a prefix.

use crate::event::EventError;
use crate::java::regex_list;

/// Properties under `transforms.NAME.` (or another prefix), with typed access.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options<'p> {
    prefix: &'p str,
    all: &'p [(&'p str, &'p str)],
}

impl<'p> Options<'p> {
    pub(crate) fn new(prefix: &'p str, all: &'p [(&'p str, &'p str)]) -> Self {
        Self { prefix, all }
    }

    /// The value as written; `None` where it is not set.
    pub(crate) fn get(&self, name: &str) -> Option<&'p str> {
        let prefix = self.prefix;
        self.all.iter().find(|(n, _)| n.strip_prefix(prefix) == Some(name)).map(|(_, v)| *v)
    }

    /// The whole name of a property.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// What is said of a wrong value; it stands in it unless it may hold a secret.
    pub(crate) fn error(&self, name: &str, expected: impl Into<String>) -> EventError {
        let whole = self.name(name);
        let value = self.get(name).unwrap_or("");
        // an address may hold its user's password
        let hidden = crate::config::connector::is_secret(&whole) || value.contains('@');
        EventError::Option {
            value: if hidden { "(hidden)".to_owned() } else { value.to_owned() },
            name: whole,
            expected: expected.into(),
        }
    }

    pub(crate) fn required(&self, name: &str) -> Result<&'p str, EventError> {
        self.get(name).filter(|v| !v.is_empty()).ok_or_else(|| self.error(name, "a value"))
    }

    pub(crate) fn text(&self, name: &str, default: &str) -> String {
        self.get(name).unwrap_or(default).to_owned()
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool, EventError> {
        match self.get(name).map(str::trim) {
            None => Ok(default),
            Some(v) if v.eq_ignore_ascii_case("true") => Ok(true),
            Some(v) if v.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(self.error(name, "true or false")),
        }
    }

    /// A comma-separated list; empty where it is not set.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        self.get(name).map(regex_list::split).unwrap_or_default()
    }

    /// A comma-separated list as Kafka reads one: trimmed, with its empty items; empty where it is blank or not set.
    pub(crate) fn names(&self, name: &str) -> Vec<String> {
        match self.get(name).map(str::trim) {
            None | Some("") => Vec::new(),
            Some(list) => list.split(',').map(|n| n.trim().to_owned()).collect(),
        }
    }

    /// [`Options::names`] of which none may stand twice.
    pub(crate) fn distinct(&self, name: &str) -> Result<Vec<String>, EventError> {
        let names = self.names(name);
        if names.iter().enumerate().any(|(i, n)| names.iter().take(i).any(|m| m == n)) {
            return Err(self.error(name, "every value once"));
        }
        Ok(names)
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, EventError> {
        self.required(name)?.trim().parse().map_err(|_| self.error(name, "a number"))
    }

    /// One of these words, without regard to case.
    pub(crate) fn choice<T: Copy>(
        &self,
        name: &str,
        default: T,
        words: &[(&str, T)],
    ) -> Result<T, EventError> {
        let Some(value) = self.get(name).map(str::trim) else { return Ok(default) };
        words.iter().find(|(w, _)| w.eq_ignore_ascii_case(value)).map(|(_, t)| *t).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
            self.error(name, format!("one of {}", words.join(", ")))
        })
    }

    pub(crate) fn regex(&self, name: &str) -> Result<super::regex::JavaRegex, EventError> {
        super::regex::JavaRegex::new(self.required(name)?).map_err(|e| self.error(name, e))
    }
}
