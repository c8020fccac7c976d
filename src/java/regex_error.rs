//! The words in which Java says that a text is not a regular expression.
//!
//! Only what a person gets wrong: brackets, groups, quantifiers, escapes. What passes here may still be refused
//! by the engine that runs it, in its own words.

/// Java's `PatternSyntaxException` for a pattern: what, near which index, the pattern, and a caret.
pub fn error(pattern: &str) -> Option<String> {
    let mut scan = Scan { chars: pattern.chars().collect(), at: 0, depth: 0, groups: Vec::new() };
    let Fault { what, index } = scan.pattern().err()?;
    let mut text = format!("{what} near index {index}\n{pattern}");
    if index < scan.chars.len() {
        text.push('\n');
        text.push_str(&" ".repeat(index));
        text.push('^');
    }
    Some(text)
}

/// Most classes within classes.
const DEEPEST: usize = 250;

/// What is wrong and where, in characters.
struct Fault {
    what: String,
    index: usize,
}

fn fault<T>(what: impl Into<String>, index: usize) -> Result<T, Fault> {
    Err(Fault { what: what.into(), index })
}

/// What a quantifier may do here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing that could be repeated.
    Nothing,
    /// Something that can be.
    Atom,
    /// A quantifier: counts may follow it, signs may not.
    Quantifier,
}

struct Scan {
    chars: Vec<char>,
    at: usize,
    /// How deep in classes within classes.
    depth: usize,
    /// Names of groups so far.
    groups: Vec<String>,
}

impl Scan {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        self.at += usize::from(there);
        there
    }

    /// Takes characters while they fit.
    fn run(&mut self, fits: impl Fn(char) -> bool) -> String {
        let from = self.at;
        while self.peek().is_some_and(&fits) {
            self.at += 1;
        }
        self.chars.get(from..self.at).unwrap_or_default().iter().collect()
    }

    fn pattern(&mut self) -> Result<(), Fault> {
        let mut depth = 0_usize;
        let mut before = Before::Nothing;
        while let Some(c) = self.peek() {
            let start = self.at;
            self.at += 1;
            before = match c {
                '\\' => {
                    self.escape()?;
                    Before::Atom
                }
                '[' => {
                    self.class()?;
                    Before::Atom
                }
                '(' => {
                    depth += usize::from(self.group()?);
                    Before::Nothing
                }
                ')' if depth == 0 => return fault("Unmatched closing ')'", start.saturating_sub(1)),
                ')' => {
                    depth -= 1;
                    Before::Atom
                }
                '|' => Before::Nothing,
                '*' | '+' | '?' if before != Before::Atom => {
                    return fault(format!("Dangling meta character '{c}'"), start);
                }
                '*' | '+' | '?' => self.suffixed(),
                '{' if before != Before::Nothing && self.peek().is_some_and(|n| n.is_ascii_digit()) => {
                    self.count()?
                }
                '{' => return fault("Illegal repetition", self.at),
                _ => Before::Atom,
            };
        }
        if depth > 0 { fault("Unclosed group", self.at) } else { Ok(()) }
    }

    /// A quantifier's `?` (as few as possible) or `+` (no way back).
    fn suffixed(&mut self) -> Before {
        let _ = self.take('?') || self.take('+');
        Before::Quantifier
    }

    /// `{n}`, `{n,}` or `{n,m}`, after its opening brace.
    fn count(&mut self) -> Result<Before, Fault> {
        let least = self.number()?;
        let most = match self.take(',') {
            true if self.peek().is_some_and(|c| c.is_ascii_digit()) => Some(self.number()?),
            _ => None,
        };
        if self.peek() != Some('}') {
            return fault("Unclosed counted closure", self.at);
        }
        if most.is_some_and(|most| most < least) {
            return fault("Illegal repetition range", self.at);
        }
        self.at += 1;
        Ok(self.suffixed())
    }

    fn number(&mut self) -> Result<i32, Fault> {
        let mut number = 0_i32;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)).and_then(|d| i32::try_from(d).ok()) {
            number = match number.checked_mul(10).and_then(|n| n.checked_add(digit)) {
                Some(number) => number,
                None => return fault("Illegal repetition range", self.at),
            };
            self.at += 1;
        }
        Ok(number)
    }

    /// After an opening parenthesis; says whether a closing one belongs to it.
    fn group(&mut self) -> Result<bool, Fault> {
        if !self.take('?') {
            return Ok(true);
        }
        if [':', '=', '!', '>'].into_iter().any(|c| self.take(c)) {
            return Ok(true);
        }
        if self.take('<') {
            if self.take('=') || self.take('!') {
                return Ok(true);
            }
            if !self.peek().is_some_and(|c| c.is_ascii_alphabetic()) {
                return fault("capturing group name does not start with a Latin letter", self.at);
            }
            let name = self.run(|c| c.is_ascii_alphanumeric());
            if !self.take('>') {
                return fault("named capturing group is missing trailing '>'", self.at);
            }
            self.groups.push(name);
            return Ok(true);
        }
        self.run(|c| "idmsuxU-".contains(c));
        if self.take(')') {
            return Ok(false);
        }
        if self.take(':') { Ok(true) } else { fault("Unknown inline modifier", self.at) }
    }

    /// After a backslash; says whether it stands for several characters.
    fn escape(&mut self) -> Result<bool, Fault> {
        let at = self.at;
        let Some(c) = self.peek() else { return fault("Unexpected internal error", at) };
        self.at += 1;
        match c {
            'Q' => {
                while self.peek().is_some() {
                    if !self.take('\\') {
                        self.at += 1;
                    } else if self.take('E') {
                        break;
                    }
                }
                Ok(false)
            }
            'p' | 'P' => {
                if !self.take('{') {
                    self.at += 1;
                    return Ok(true);
                }
                let name = self.run(|c| c != '}');
                if self.peek().is_none() {
                    return fault("Unclosed character family", self.at.saturating_sub(1));
                }
                if !is_property(&name) {
                    return fault(format!("Unknown character property name {{{name}}}"), self.at);
                }
                self.at += 1;
                Ok(true)
            }
            'k' => {
                if !self.take('<') {
                    return fault("\\k is not followed by '<' for named capturing group", at);
                }
                let name = self.run(|c| c.is_ascii_alphanumeric());
                if !self.groups.contains(&name) {
                    return fault(format!("named capturing group <{name}> does not exist"), self.at);
                }
                self.at += 1;
                Ok(false)
            }
            'u' => self.hexadecimal(4, "Illegal Unicode escape sequence"),
            'x' if self.take('{') => {
                let digits = self.run(|c| c.is_ascii_hexdigit());
                if u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).is_none() {
                    let last = self.at.saturating_sub(1);
                    return fault("Hexadecimal codepoint is too big", last);
                }
                if self.take('}') {
                    Ok(false)
                } else {
                    fault("Unclosed hexadecimal escape sequence", self.at)
                }
            }
            'x' => self.hexadecimal(2, "Illegal hexadecimal escape sequence"),
            'c' if self.peek().is_none() => fault("Illegal control escape sequence", at),
            'c' => {
                self.at += 1;
                Ok(false)
            }
            '0' if self.run(|c| matches!(c, '0'..='7')).is_empty() => {
                fault("Illegal octal escape sequence", self.at)
            }
            'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'h' | 'H' | 'v' | 'V' => Ok(true),
            'a' | 'e' | 'f' | 'n' | 'r' | 't' | 'R' | 'X' | 'N' | 'b' | 'B' | 'A' | 'G' | 'z' | 'Z' => {
                // Names of characters and kinds of boundaries are left to the engine.
                if matches!(c, 'N' | 'b') && self.take('{') {
                    self.run(|c| c != '}');
                    self.at += 1;
                }
                Ok(false)
            }
            c if c.is_ascii_alphabetic() => fault("Illegal/unsupported escape sequence", at),
            _ => Ok(false),
        }
    }

    fn hexadecimal(&mut self, digits: usize, otherwise: &str) -> Result<bool, Fault> {
        for _ in 0..digits {
            if !self.peek().is_some_and(|c| c.is_ascii_hexdigit()) {
                return fault(otherwise, self.at);
            }
            self.at += 1;
        }
        Ok(false)
    }

    /// After the bracket that opens a class; classes may nest.
    fn class(&mut self) -> Result<(), Fault> {
        self.take('^');
        // A bracket that comes first stands for itself.
        let mut first = true;
        // What a range could begin with.
        let mut low: Option<char> = None;
        while let Some(c) = self.peek() {
            let start = self.at;
            self.at += 1;
            match c {
                ']' if !first => return Ok(()),
                '[' => {
                    // Java's own parser ends in a StackOverflowError some thousands deep.
                    if self.depth >= DEEPEST {
                        return fault("Character classes are nested too deep", start);
                    }
                    self.depth += 1;
                    self.class()?;
                    self.depth -= 1;
                    low = None;
                }
                '-' if low.is_some() && self.peek().is_some_and(|c| !matches!(c, ']' | '[')) => {
                    let high = self.peek();
                    self.at += 1;
                    let several = high == Some('\\') && self.escape()?;
                    let backwards = high.is_some_and(|h| h != '\\' && low.is_some_and(|l| h < l));
                    if several || backwards {
                        return fault("Illegal character range", self.at.saturating_sub(1));
                    }
                    low = None;
                }
                '\\' => {
                    let several = self.escape()?;
                    let last = self.chars.get(self.at.saturating_sub(1)).copied();
                    // Of an escape only a literal's place in the order is known.
                    low = last.filter(|c| !several && self.at == start + 2 && !c.is_ascii_alphanumeric());
                }
                c => low = Some(c),
            }
            first = false;
        }
        fault("Unclosed character class", self.chars.len().saturating_sub(1))
    }
}

/// Whether Java may know a property of characters: general categories, POSIX classes, `java…` methods, and what
/// a prefix or `=` says is a script, a block or a category.
fn is_property(name: &str) -> bool {
    const POSIX: [&str; 13] = [
        "Lower", "Upper", "ASCII", "Alpha", "Digit", "Alnum", "Punct", "Graph", "Print", "Blank", "Cntrl",
        "XDigit", "Space",
    ];
    let mut letters = name.chars();
    let category = letters.next().is_some_and(|c| "LMNPSZC".contains(c))
        && letters.next().is_none_or(|c| c.is_ascii_lowercase() || c == 'C')
        && letters.next().is_none();
    category
        || matches!(name, "L1" | "all" | "LD")
        || POSIX.contains(&name)
        || name.contains('=')
        || ["Is", "In", "java"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Answers of Java 17 by way of a Connect worker.
    #[test]
    fn as_java_says_it() {
        for (pattern, said) in [
            ("[", "Unclosed character class near index 0\n[\n^"),
            ("[]", "Unclosed character class near index 1\n[]\n ^"),
            ("[a[b]", "Unclosed character class near index 4\n[a[b]\n    ^"),
            ("[z-a]", "Illegal character range near index 3\n[z-a]\n   ^"),
            (r"[a-\d]", "Illegal character range near index 4\n[a-\\d]\n    ^"),
            ("(a", "Unclosed group near index 2\n(a"),
            ("((a)", "Unclosed group near index 4\n((a)"),
            ("(?<=a", "Unclosed group near index 5\n(?<=a"),
            ("a)", "Unmatched closing ')' near index 0\na)\n^"),
            ("(?<n", "named capturing group is missing trailing '>' near index 4\n(?<n"),
            (
                "(?<1>a)",
                "capturing group name does not start with a Latin letter near index 3\n(?<1>a)\n   ^",
            ),
            ("(?z)", "Unknown inline modifier near index 2\n(?z)\n  ^"),
            ("(?i", "Unknown inline modifier near index 3\n(?i"),
            ("(a)(?2)", "Unknown inline modifier near index 5\n(a)(?2)\n     ^"),
            (r"\k<x>", "named capturing group <x> does not exist near index 4\n\\k<x>\n    ^"),
            ("*a", "Dangling meta character '*' near index 0\n*a\n^"),
            ("a**", "Dangling meta character '*' near index 2\na**\n  ^"),
            ("a?+*", "Dangling meta character '*' near index 3\na?+*\n   ^"),
            ("a|*", "Dangling meta character '*' near index 2\na|*\n  ^"),
            ("(*)", "Dangling meta character '*' near index 1\n(*)\n ^"),
            ("a{1}*", "Dangling meta character '*' near index 4\na{1}*\n    ^"),
            ("a{", "Illegal repetition near index 2\na{"),
            ("a{x}", "Illegal repetition near index 2\na{x}\n  ^"),
            ("{", "Illegal repetition near index 1\n{"),
            ("a{2", "Unclosed counted closure near index 3\na{2"),
            ("a{1,x}", "Unclosed counted closure near index 4\na{1,x}\n    ^"),
            ("a{2,1}", "Illegal repetition range near index 5\na{2,1}\n     ^"),
            ("a{99999999999}", "Illegal repetition range near index 11\na{99999999999}\n           ^"),
            (r"\p{Foo}", "Unknown character property name {Foo} near index 6\n\\p{Foo}\n      ^"),
            (r"\u12", "Illegal Unicode escape sequence near index 4\n\\u12"),
            (r"\x4", "Illegal hexadecimal escape sequence near index 3\n\\x4"),
            (r"\x{110000}", "Hexadecimal codepoint is too big near index 8\n\\x{110000}\n        ^"),
            (r"\c", "Illegal control escape sequence near index 1\n\\c\n ^"),
            (r"\0", "Illegal octal escape sequence near index 2\n\\0"),
            (r"\y", "Illegal/unsupported escape sequence near index 1\n\\y\n ^"),
        ] {
            assert_eq!(error(pattern).as_deref(), Some(said), "{pattern}");
        }
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth: usize| format!("{}a{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(error(&nested(200)), None);
        assert!(error(&nested(100_000)).unwrap().starts_with("Character classes are nested too deep"));
        assert!(error(&"[".repeat(100_000)).is_some());
        assert!(error(&"(".repeat(100_000)).unwrap().starts_with("Unclosed group"));
    }

    #[test]
    fn what_is_right_passes() {
        for pattern in [
            "",
            "a.*",
            r"public\.(a|b)+?",
            "[a-z&&[^b]]",
            "[]a]",
            "[a-]",
            "[-a]",
            "[[:alpha:]]",
            r"[\d-z]",
            r"[\w.-]",
            "a{1,2}",
            "a{1}{2}",
            "a++",
            "a??",
            "^*",
            r"\Q[(\E",
            r"\Q[(",
            r"\Qa\b\E(x)",
            "(?<n>x)",
            r"(?<x>a)\k<x>",
            "(?i)y",
            "(?i:a)",
            "(?-i)a",
            "(?>a)",
            "(?<!a)b",
            "a|b",
            "(|a)",
            "()",
            "^$",
            "]",
            "}",
            r"\p{L}",
            r"\pL",
            r"\P{Lu}",
            r"\p{Alpha}",
            r"\p{IsLatin}",
            r"\x41",
            r"\x{41}",
            r"\u0041",
            r"\cA",
            r"\07",
            r"(a)\1",
            r"\R\h\v\z",
            r"\b{g}",
            r"\_\-",
            "日+",
        ] {
            assert_eq!(error(pattern), None, "{pattern}");
        }
    }
}
