//! Errors of the SQL front end: what is wrong, where in the text, and the remedy.

use std::fmt;

/// A place in the script: 1-based line and column (in characters), and how many characters to underline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Line, from 1; 0 where no place is known.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Characters to underline on that line, at least 1.
    pub length: u32,
}

impl Span {
    /// From the start of this span to the end of `other`, as far as they are on one line.
    #[must_use]
    pub fn to(self, other: Span) -> Span {
        if self.line == 0 {
            return other;
        }
        if other.line != self.line || other.column < self.column {
            return self;
        }
        Span { length: (other.column + other.length).saturating_sub(self.column).max(1), ..self }
    }
}

/// At which point Flink would refuse the script; the goldens count `ddl` and `plan` as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The text does not parse.
    Parse,
    /// It parses, but cannot be planned.
    Plan,
}

/// Why a script was refused.
#[derive(Clone, Debug, PartialEq)]
pub struct SqlError {
    /// What is wrong, in the words of the field.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to do about it.
    pub help: Option<String>,
    /// At which point.
    pub phase: Phase,
}

/// Result of the front end.
pub type SqlResult<T> = Result<T, Box<SqlError>>;

impl SqlError {
    /// A planning error.
    pub fn plan(span: Span, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { message: message.into(), span, help: None, phase: Phase::Plan })
    }

    /// A syntax error.
    pub fn parse(span: Span, message: impl Into<String>) -> Box<Self> {
        Box::new(Self { message: message.into(), span, help: None, phase: Phase::Parse })
    }

    /// The same with a remedy.
    #[must_use]
    pub fn help(mut self: Box<Self>, help: impl Into<String>) -> Box<Self> {
        self.help = Some(help.into());
        self
    }

    /// The same at this place, if it has none yet.
    #[must_use]
    pub fn at(mut self: Box<Self>, span: Span) -> Box<Self> {
        if self.span.line == 0 {
            self.span = span;
        }
        self
    }

    /// The message with line, column, the line of the script and a caret under the place.
    pub fn render(&self, script: &str, file: &str) -> String {
        let mut out = self.message.clone();
        if self.span.line > 0 {
            let Span { line, column, length } = self.span;
            let text = script.lines().nth(line as usize - 1).unwrap_or("");
            // a long line is cut to what fits a screen around the place
            let start = (column as usize).saturating_sub(60);
            let shown: String =
                text.chars().skip(start).take(110).map(|c| if c == '\t' { ' ' } else { c }).collect();
            let left = (column as usize).saturating_sub(1).saturating_sub(start);
            let under = (length as usize).clamp(1, 110_usize.saturating_sub(left).max(1));
            let number = line.to_string();
            let pad = " ".repeat(number.len());
            out.push_str(&format!(
                "\n{pad}--> {file}:{line}:{column}\n{pad} |\n{number} | {shown}\n{pad} | "
            ));
            out.push_str(&" ".repeat(left));
            out.push_str(&"^".repeat(under));
        }
        if let Some(help) = &self.help {
            out.push_str("\nhelp: ");
            out.push_str(help);
        }
        out
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.span.line > 0 {
            write!(f, "line {}, column {}: ", self.span.line, self.span.column)?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

impl std::error::Error for SqlError {}

/// The name most like `wanted` among `known`, if one is near enough to be meant.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = wanted.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&lower, &name.to_lowercase()), name))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let error =
            SqlError::plan(Span { line: 2, column: 8, length: 4 }, "Column 'nope' not found in any table")
                .help("did you mean 'name'?");
        assert_eq!(
            error.render("INSERT INTO x\nSELECT nope FROM a", "job.sql"),
            "Column 'nope' not found in any table\n --> job.sql:2:8\n  |\n2 | SELECT nope FROM a\n  |        ^^^^\nhelp: did you mean 'name'?"
        );
    }

    #[test]
    fn nearest_names() {
        assert_eq!(nearest("custmer", ["orders", "customer"]), Some("customer"));
        assert_eq!(nearest("zzz", ["orders", "customer"]), None);
    }
}
