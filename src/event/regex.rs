//! Java's regular expressions and their replacement texts.

use fancy_regex::{Captures, Regex};

use crate::java::{regex, regex_error};

/// A regular expression that matches whole texts.
#[derive(Clone, Debug)]
pub(crate) struct JavaRegex {
    whole: Regex,
    /// The same, anywhere in a text: `Matcher.replaceFirst` searches anew after `matches`.
    first: Regex,
}

impl JavaRegex {
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let wrong = |cause: String| format!("a regular expression ({cause})");
        let pattern = regex::translate(pattern)
            .ok_or_else(|| wrong(regex_error::error(pattern).unwrap_or_default()))?;
        let compile = |pattern: &str| Regex::new(pattern).map_err(|e| wrong(e.to_string()));
        Ok(Self { first: compile(&pattern)?, whole: compile(&format!("^(?:{pattern})$"))? })
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        self.whole.is_match(text).unwrap_or(false)
    }

    /// The text with its first match replaced, where the whole text matches.
    ///
    /// # Errors
    /// Where the replacement names a group the expression does not have.
    pub(crate) fn replace(&self, text: &str, replacement: &str) -> Result<Option<String>, String> {
        if !self.matches(text) {
            return Ok(None);
        }
        let Some(captures) = self.first.captures(text).ok().flatten() else { return Ok(None) };
        let Some(found) = captures.get(0) else { return Ok(None) };
        let mut out = text.get(..found.start()).unwrap_or("").to_owned();
        expand(&captures, replacement, &mut out)?;
        out.push_str(text.get(found.end()..).unwrap_or(""));
        Ok(Some(out))
    }
}

/// `$1`, `${name}` and `\$`, as `Matcher.appendReplacement` reads them.
fn expand(captures: &Captures<'_>, replacement: &str, out: &mut String) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("the replacement {replacement}: {what}"));
    let mut chars = replacement.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c) => out.push(c),
                None => return wrong("nothing after a backslash"),
            },
            '$' if chars.peek() == Some(&'{') => {
                chars.next();
                let name: String = chars.by_ref().take_while(|c| *c != '}').collect();
                match captures.name(&name) {
                    Some(group) => out.push_str(group.as_str()),
                    None => return wrong("no such group, or it matched nothing"),
                }
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
                    return wrong("no group after $");
                }
                if group >= captures.len() {
                    return wrong("no such group");
                }
                out.push_str(captures.get(group).map_or("", |m| m.as_str()));
            }
            c => out.push(c),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_filled_in() {
        let replaced =
            |pattern: &str, text: &str, to: &str| JavaRegex::new(pattern).unwrap().replace(text, to);
        assert_eq!(replaced(r"([^.]+)\.([^.]+)\.([^.]+)", "a.b.c", "cdc_$3"), Ok(Some("cdc_c".into())));
        assert_eq!(replaced(r"([^.]+)\.([^.]+)\.([^.]+)", "a.b", "x"), Ok(None));
        assert_eq!(
            replaced("(?<routedByValue>.*)", "order", "outbox.event.${routedByValue}"),
            Ok(Some("outbox.event.order".into()))
        );
        assert_eq!(replaced("(.*)1(.*)", "a1b", r"\$$10$2"), Ok(Some("$a0b".into())));
    }

    #[test]
    fn a_group_that_is_not_there_is_an_error() {
        let regex = JavaRegex::new("(a)(?<n>b)").unwrap();
        for replacement in ["$3", "$", "${m}", "x\\"] {
            assert!(regex.replace("ab", replacement).is_err(), "{replacement}");
        }
    }

    #[test]
    fn the_first_match_is_replaced_once_the_whole_text_matches() {
        assert_eq!(JavaRegex::new("a.*?").unwrap().replace("abc", "x"), Ok(Some("xbc".into())));
    }
}
