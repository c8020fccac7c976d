//! The words in which Java says that a text is not a regular expression.
//!
//! Only what a person gets wrong: brackets, groups, quantifiers. What passes here may still be refused by the
//! engine that runs it, in its own words.

/// Java's `PatternSyntaxException` for a pattern: what, near which index, the pattern, and a caret.
pub fn error(pattern: &str) -> Option<String> {
    let (what, index) = scan(pattern)?;
    let length = pattern.chars().count();
    let mut text = format!("{what} near index {index}\n{pattern}");
    if index < length {
        text.push('\n');
        text.push_str(&" ".repeat(index));
        text.push('^');
    }
    Some(text)
}

/// What is wrong and where, in characters.
fn scan(pattern: &str) -> Option<(String, usize)> {
    let chars: Vec<char> = pattern.chars().collect();
    let end = chars.len();
    let at = |index: usize| chars.get(index).copied();
    let mut index = 0;
    let mut depth = 0_usize;
    // Whether a quantifier has something to repeat.
    let mut atom = false;
    while let Some(c) = at(index) {
        match c {
            '\\' => {
                match at(index + 1) {
                    None => return Some(("Unexpected internal error".to_owned(), end)),
                    Some('Q') => {
                        index += 2;
                        while index < end && !(at(index) == Some('\\') && at(index + 1) == Some('E')) {
                            index += 1;
                        }
                    }
                    Some(_) => {}
                }
                index += 2;
                atom = true;
                continue;
            }
            '[' => match class_end(&chars, index) {
                Some(close) => {
                    index = close;
                    atom = true;
                }
                None => return Some(("Unclosed character class".to_owned(), end.saturating_sub(1))),
            },
            '(' => {
                depth += 1;
                atom = false;
                if at(index + 1) == Some('?') {
                    index += 1;
                }
            }
            ')' if depth == 0 => {
                return Some(("Unmatched closing ')'".to_owned(), index.saturating_sub(1)));
            }
            ')' => {
                depth -= 1;
                atom = true;
            }
            '|' => atom = false,
            '*' | '+' | '?' if !atom => {
                return Some((format!("Dangling meta character '{c}'"), index));
            }
            '{' if !atom || !at(index + 1).is_some_and(|n| n.is_ascii_digit()) => {
                return Some(("Illegal repetition".to_owned(), index));
            }
            '{' => {
                while at(index).is_some_and(|n| n != '}') {
                    index += 1;
                }
                if index >= end {
                    return Some(("Unclosed counted closure".to_owned(), end));
                }
            }
            _ => atom = true,
        }
        index += 1;
    }
    (depth > 0).then(|| ("Unclosed group".to_owned(), end))
}

/// Where the character class that opens here is closed; classes may nest.
fn class_end(chars: &[char], open: usize) -> Option<usize> {
    let mut index = open + 1;
    if chars.get(index) == Some(&'^') {
        index += 1;
    }
    let first = index;
    let mut depth = 1;
    while let Some(c) = chars.get(index) {
        match c {
            '\\' => index += 1,
            '[' => depth += 1,
            // A bracket that comes first stands for itself.
            ']' if index != first => {
                depth -= 1;
                if depth == 0 {
                    return Some(index);
                }
            }
            _ => {}
        }
        index += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_java_says_it() {
        for (pattern, said) in [
            ("[", "Unclosed character class near index 0\n[\n^"),
            ("(a", "Unclosed group near index 2\n(a"),
            ("a)", "Unmatched closing ')' near index 0\na)\n^"),
            ("a{2", "Unclosed counted closure near index 3\na{2"),
            ("*a", "Dangling meta character '*' near index 0\n*a\n^"),
        ] {
            assert_eq!(error(pattern).as_deref(), Some(said), "{pattern}");
        }
    }

    #[test]
    fn what_is_right_passes() {
        for pattern in [
            "",
            "a.*",
            r"public\.(a|b)+?",
            "[a-z&&[^b]]",
            "[]a]",
            "a{1,2}",
            r"\Q[(\E",
            "(?<n>x)",
            "(?i)y",
            "a|b",
            "^$",
        ] {
            assert_eq!(error(pattern), None, "{pattern}");
        }
    }
}
