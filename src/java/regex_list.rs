//! Lists of regular expressions as Debezium's properties hold them.

use fancy_regex::Regex;

use super::{regex, regex_error};

/// A comma-separated list of Java regular expressions, each of them matched against the whole text and
/// without regard to case. A literal comma is written `\,`.
#[derive(Clone, Debug, Default)]
pub struct RegexList {
    patterns: Vec<Regex>,
}

/// An entry of a list that is not a regular expression.
#[derive(Debug, thiserror::Error)]
#[error("`{entry}` is not a regular expression: {cause}")]
pub struct InvalidRegex {
    /// As written.
    pub entry: String,
    /// What is wrong with it.
    pub cause: String,
}

impl RegexList {
    /// Parses a list; empty entries are left out.
    pub fn parse(list: &str) -> Result<Self, InvalidRegex> {
        let patterns = split(list).iter().map(|e| any_case(e)).collect::<Result<_, _>>()?;
        Ok(Self { patterns })
    }

    /// Whether the list has no entry.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The expressions in order.
    pub fn patterns(&self) -> &[Regex] {
        &self.patterns
    }

    /// Whether any expression matches the whole text. One that gives up (too much backtracking) does not.
    pub fn matches(&self, text: &str) -> bool {
        self.position(text).is_some()
    }

    /// The first expression that matches the whole text.
    pub fn position(&self, text: &str) -> Option<usize> {
        self.patterns.iter().position(|p| p.is_match(text).unwrap_or(false))
    }
}

/// One Java regular expression that must match a whole text, without regard to case.
pub fn any_case(entry: &str) -> Result<Regex, InvalidRegex> {
    compile("(?i)", entry)
}

/// One Java regular expression that must match a whole text as it is written.
pub fn whole(entry: &str) -> Result<Regex, InvalidRegex> {
    compile("", entry)
}

fn compile(flags: &str, entry: &str) -> Result<Regex, InvalidRegex> {
    let wrong = |cause: String| InvalidRegex { entry: entry.to_owned(), cause };
    let pattern =
        regex::translate(entry).ok_or_else(|| wrong(regex_error::error(entry).unwrap_or_default()))?;
    Regex::new(&format!("{flags}\\A(?:{pattern})\\z")).map_err(|e| wrong(e.to_string()))
}

/// Splits at commas that no backslash escapes; trims, and leaves out what is empty.
pub fn split(list: &str) -> Vec<String> {
    let mut entries = vec![String::new()];
    let mut escaped = false;
    for c in list.chars() {
        if c == ',' && !escaped {
            entries.push(String::new());
            continue;
        }
        if let Some(last) = entries.last_mut() {
            if c == ',' {
                // `\,` is a comma: the backslash is not part of the expression.
                last.pop();
            }
            last.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    entries.into_iter().map(|e| e.trim().to_owned()).filter(|e| !e.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_text_any_case_in_order() {
        let list = RegexList::parse(r"public\.a.*, INVENTORY.b, x\.\Qa+b\E ,,").unwrap();
        assert_eq!(list.patterns().len(), 3);
        assert_eq!(list.position("public.abc"), Some(0));
        assert_eq!(list.position("Inventory.B"), Some(1));
        assert_eq!(list.position("x.a+b"), Some(2));
        assert!(!list.matches("public.abc\n") || list.matches("public.abc"));
        assert!(!list.matches("my_public.a"));
        assert!(!list.matches("inventory.bb"));
    }

    #[test]
    fn escaped_commas_and_lookarounds() {
        let list = RegexList::parse(r"s\.t\,u,(?!s\.)x.*").unwrap();
        assert!(list.matches("s.t,u"));
        assert!(list.matches("xyz"));
        assert!(RegexList::parse(r"a\\,b").unwrap().matches("b"));
        let quantified = RegexList::parse(r"a{1\,2}").unwrap();
        assert!(quantified.matches("aa") && !quantified.matches("aaa"));
    }

    #[test]
    fn classes_are_of_ascii_as_in_java() {
        let list = RegexList::parse(r"public\.\w+, t[\d]\D\S").unwrap();
        assert!(list.matches("public.orders_1") && list.matches("T4xy"));
        assert!(!list.matches("public.größe") && !list.matches("t٣xy") && !list.matches("t4x "));
    }

    #[test]
    fn nonsense_is_named() {
        assert!(RegexList::parse("a,(b").unwrap_err().to_string().contains("(b"));
    }
}
