//! Java's regular expressions and their replacement texts.

use fancy_regex::{Captures, Regex};

/// A regular expression that matches whole texts.
#[derive(Clone, Debug)]
pub(crate) struct JavaRegex {
    regex: Regex,
}

impl JavaRegex {
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        Regex::new(&format!("^(?:{pattern})$"))
            .map(|regex| Self { regex })
            .map_err(|e| format!("a regular expression ({e})"))
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text).unwrap_or(false)
    }

    /// The replacement with its groups filled in, where the whole text matches.
    pub(crate) fn replace(&self, text: &str, replacement: &str) -> Option<String> {
        let captures = self.regex.captures(text).ok().flatten()?;
        Some(expand(&captures, replacement))
    }
}

/// `$1`, `${name}` and `\$`, as `Matcher.appendReplacement` reads them.
fn expand(captures: &Captures<'_>, replacement: &str) -> String {
    let mut out = String::new();
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            '$' if chars.peek() == Some(&'{') => {
                chars.next();
                let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                out.push_str(captures.name(&name).map_or("", |m| m.as_str()));
            }
            '$' => {
                let mut group = 0usize;
                let mut digits = 0;
                // further digits count only while such a group exists
                while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                    let next = group * 10 + usize::try_from(digit).unwrap_or(0);
                    if digits > 0 && next >= captures.len() {
                        break;
                    }
                    group = next;
                    digits += 1;
                    chars.next();
                }
                if digits == 0 {
                    out.push('$');
                } else {
                    out.push_str(captures.get(group).map_or("", |m| m.as_str()));
                }
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_filled_in() {
        let r = JavaRegex::new(r"([^.]+)\.([^.]+)\.([^.]+)").unwrap();
        assert_eq!(r.replace("a.b.c", "cdc_$3").as_deref(), Some("cdc_c"));
        assert_eq!(r.replace("a.b", "x"), None);
        let r = JavaRegex::new("(?<routedByValue>.*)").unwrap();
        assert_eq!(
            r.replace("order", "outbox.event.${routedByValue}").as_deref(),
            Some("outbox.event.order")
        );
        let r = JavaRegex::new("(.*)1(.*)").unwrap();
        assert_eq!(r.replace("a1b", r"\$$10$2").as_deref(), Some("$a0b"));
    }
}
