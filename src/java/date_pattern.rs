//! What Java's two notations of date patterns share (`SimpleDateFormat` and `DateTimeFormatter`): letters that
//! repeat, quoted text, and English names.

/// Months from January on.
pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Days from Monday on.
pub const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A part of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A pattern letter and how often it stands.
    Field(char, usize),
    /// Text that stands for itself.
    Text(&'a str),
}

/// Cuts a pattern into letters and quoted or other text; `None` where a quote is not closed.
pub fn parts(pattern: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(first) = rest.chars().next() {
        if first.is_ascii_alphabetic() {
            let count = rest.bytes().take_while(|&byte| char::from(byte) == first).count();
            parts.push(Part::Field(first, count));
            rest = rest.get(count..)?;
        } else if first == '\'' {
            let mut body = rest.get(1..)?;
            if let Some(after) = body.strip_prefix('\'') {
                parts.push(Part::Text("'"));
                rest = after;
                continue;
            }
            rest = loop {
                let (text, after) = body.split_once('\'')?;
                parts.push(Part::Text(text));
                match after.strip_prefix('\'') {
                    // two quotes within quoted text are one
                    Some(next) => {
                        parts.push(Part::Text("'"));
                        body = next;
                    }
                    None => break after,
                }
            };
        } else {
            parts.push(Part::Text(rest.get(..first.len_utf8())?));
            rest = rest.get(first.len_utf8()..)?;
        }
    }
    Some(parts)
}
