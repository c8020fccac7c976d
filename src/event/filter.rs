//! Lists of regular expressions as Debezium's filters hold them.

use fancy_regex::Regex;

use super::EventError;

/// A comma-separated list of Java regular expressions, each matched against the whole name without regard to case.
/// A literal comma is written `\,`.
#[derive(Clone, Debug)]
pub struct Patterns {
    patterns: Vec<Regex>,
    sources: Vec<String>,
}

impl Patterns {
    /// Reads the value of the property `name`.
    pub fn parse(name: &str, text: &str) -> Result<Self, EventError> {
        let mut patterns = Vec::new();
        let mut sources = Vec::new();
        for source in split(text) {
            let regex = Regex::new(&format!("(?i)^(?:{source})$")).map_err(|e| EventError::Option {
                name: name.into(),
                value: source.clone(),
                expected: format!("a regular expression ({e})"),
            })?;
            patterns.push(regex);
            sources.push(source);
        }
        Ok(Self { patterns, sources })
    }

    /// Whether one of them matches the whole text.
    pub fn matches(&self, text: &str) -> bool {
        self.position(text).is_some()
    }

    /// The first that matches the whole text.
    pub fn position(&self, text: &str) -> Option<usize> {
        self.patterns.iter().position(|p| p.is_match(text).unwrap_or(false))
    }

    /// The expressions as written.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }
}

/// Splits at commas that no backslash stands before; trims the parts.
pub fn split(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut part = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&',') => {
                chars.next();
                part.push(',');
            }
            ',' => parts.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    parts.push(part);
    parts.into_iter().map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchored_and_without_case() {
        let p = Patterns::parse("table.include.list", r"inventory.*, public\.a{1\,2}b").unwrap();
        assert!(p.matches("Inventory.orders"));
        assert!(p.matches("public.aab"));
        assert!(!p.matches("xinventory.orders"));
        assert!(!p.matches("public.aaab"));
    }

    #[test]
    fn a_wrong_expression_names_the_property() {
        let e = Patterns::parse("table.include.list", "a(").unwrap_err();
        assert!(e.to_string().contains("table.include.list"), "{e}");
    }
}
