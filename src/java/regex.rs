//! Regular expressions of Java in the words of the crate that runs them.

/// What `\h` stands for within a class.
const BLANK: &str = r" \t\x{A0}\x{1680}\x{180e}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}";

/// A pattern of `java.util.regex.Pattern` as one of `fancy_regex`. `None`: Java refuses it.
pub fn translate(pattern: &str) -> Option<String> {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    // how deep in [classes]
    let mut class = 0_usize;
    let groups = groups(pattern);
    while let Some(c) = rest.chars().next() {
        let tail = rest.get(c.len_utf8()..).unwrap_or("");
        match c {
            '\\' => rest = escape(&mut out, tail, class > 0, groups)?,
            '[' => {
                class += 1;
                out.push('[');
                rest = tail;
                // `[:` begins no POSIX name in Java; said twice, the colon does not here either
                if rest.starts_with(':') {
                    out.push(':');
                }
            }
            ']' if class > 0 => {
                class -= 1;
                out.push(']');
                rest = tail;
            }
            '{' if class == 0 => {
                // only a count may stand in braces
                if out.is_empty() || !tail.starts_with(|c: char| c.is_ascii_digit()) {
                    return None;
                }
                out.push('{');
                rest = tail;
            }
            c => {
                out.push(c);
                rest = tail;
            }
        }
    }
    Some(out)
}

/// How many groups a pattern counts.
fn groups(pattern: &str) -> u32 {
    let (mut count, mut escaped) = (0, false);
    let bytes = pattern.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let next = |n: usize| bytes.get(at + n).copied();
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' if next(1) != Some(b'?') => count += 1,
            b'(' if next(2) == Some(b'<') && !matches!(next(3), Some(b'=' | b'!')) => count += 1,
            _ => {}
        }
    }
    count
}

/// What stands behind a backslash; gives what follows it.
fn escape<'p>(out: &mut String, tail: &'p str, in_class: bool, groups: u32) -> Option<&'p str> {
    let c = tail.chars().next()?;
    let after = tail.get(c.len_utf8()..).unwrap_or("");
    match c {
        'h' if in_class => out.push_str(BLANK),
        'h' => out.push_str(&format!("[{BLANK}]")),
        'H' if !in_class => out.push_str(&format!("[^{BLANK}]")),
        // Java's are of ASCII, the crate's of Unicode
        'd' | 'D' | 'w' | 'W' | 's' | 'S' => {
            let members = match c.to_ascii_lowercase() {
                'd' => "0-9",
                'w' => "A-Za-z0-9_",
                _ => r" \t\n\x0B\x0C\r",
            };
            match (c.is_ascii_uppercase(), in_class) {
                (false, true) => out.push_str(members),
                (false, false) => out.push_str(&format!("[{members}]")),
                (true, _) => out.push_str(&format!("[^{members}]")),
            }
        }
        'R' if !in_class => out.push_str(r"(?:\r\n|[\n\x0B\x0C\r\x{85}\x{2028}\x{2029}])"),
        '0' => {
            let most = if after.starts_with(['0', '1', '2', '3']) { 3 } else { 2 };
            let count = after.bytes().take(most).take_while(|b| (b'0'..=b'7').contains(b)).count();
            let code = u32::from_str_radix(after.get(..count)?, 8).ok()?;
            out.push_str(&format!(r"\x{{{code:x}}}"));
            return after.get(count..);
        }
        'c' => {
            let letter = after.chars().next()?;
            out.push_str(&format!(r"\x{{{:x}}}", u32::from(letter) ^ 64));
            return after.get(letter.len_utf8()..);
        }
        'Q' => {
            let (quoted, after) = after.split_once(r"\E").unwrap_or((after, ""));
            out.push_str(&fancy_regex::escape(quoted));
            return Some(after);
        }
        '1'..='9' if !in_class && c.to_digit(10).is_some_and(|n| n > groups) => {
            // a group that is not there matches nothing
            out.push_str("(?!)");
        }
        'p' | 'P' | 'x' | 'N' if after.starts_with('{') => {
            let end = after.find('}')? + 1;
            out.push('\\');
            out.push(c);
            out.push_str(after.get(..end)?);
            return after.get(end..);
        }
        c => {
            out.push('\\');
            out.push(c);
        }
    }
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn what_java_has_and_the_crate_has_not() {
        let is = |java: &str, ours: &str| assert_eq!(translate(java).as_deref(), Some(ours), "{java}");
        is("a+(b)\\1", "a+(b)\\1");
        is("\\0110", "\\x{48}");
        is("\\cA", "\\x{1}");
        is("\\Qa.b\\Ec", "a\\.bc");
        is("\\9", "(?!)");
        is("a{2,3}\\p{Alpha}\\x{41}", "a{2,3}\\p{Alpha}\\x{41}");
        is("[[:alpha:]]+", "[[::alpha:]]+");
        is("[a{]", "[a{]");
        is(r"\d\W[\s\D]", r"[0-9][^A-Za-z0-9_][ \t\n\x0B\x0C\r[^0-9]]");
        for refused in ["a{", "{", "{1}", "a\\"] {
            assert_eq!(translate(refused), None, "{refused}");
        }
    }
}
