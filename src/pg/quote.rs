//! The one quoting type for identifiers and literals in SQL and replication commands.

use std::fmt;

/// An SQL identifier; its `Display` writes it quoted: `"a""b"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ident<'a>(pub &'a str);

impl fmt::Display for Ident<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_doubled(f, self.0, '"')
    }
}

/// A name with an optional schema: `"schema"."table"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qualified<'a> {
    /// The schema; `None` leaves it to the search path.
    pub schema: Option<&'a str>,
    /// The object's name.
    pub name: &'a str,
}

impl<'a> Qualified<'a> {
    /// A name within a schema.
    pub fn new(schema: &'a str, name: &'a str) -> Self {
        Self { schema: Some(schema), name }
    }
}

impl fmt::Display for Qualified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = self.schema {
            write!(f, "{}.", Ident(schema))?;
        }
        Ident(self.name).fmt(f)
    }
}

/// An SQL string literal; its `Display` writes it quoted, with ` E'…'` where it holds a backslash, so that it
/// means the same whatever `standard_conforming_strings` says.
///
/// The replication grammar knows no `E'…'`, and a backslash there is just a character: use
/// [`ReplicationLiteral`] in replication commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal<'a>(pub &'a str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains('\\') {
            f.write_str(" E'")?;
            for c in self.0.chars() {
                match c {
                    '\'' => f.write_str("''")?,
                    '\\' => f.write_str("\\\\")?,
                    '\0' => {}
                    c => fmt::Write::write_char(f, c)?,
                }
            }
            return f.write_str("'");
        }
        write_doubled(f, self.0, '\'')
    }
}

/// A string literal of a replication command (`START_REPLICATION … (publication_names '…')`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicationLiteral<'a>(pub &'a str);

impl fmt::Display for ReplicationLiteral<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_doubled(f, self.0, '\'')
    }
}

/// Writes `text` between quotes, quotes inside doubled. A NUL cannot stand in a query at all (it would end the
/// message early), so it is left out.
fn write_doubled(f: &mut fmt::Formatter<'_>, text: &str, quote: char) -> fmt::Result {
    use fmt::Write as _;
    f.write_char(quote)?;
    for c in text.chars() {
        if c == '\0' {
            continue;
        }
        if c == quote {
            f.write_char(quote)?;
        }
        f.write_char(c)?;
    }
    f.write_char(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(Ident("a\"; drop").to_string(), "\"a\"\"; drop\"");
        assert_eq!(Qualified::new("S x", "t").to_string(), "\"S x\".\"t\"");
        assert_eq!(Literal("it's").to_string(), "'it''s'");
        assert_eq!(Literal("a\\'").to_string(), " E'a\\\\'''");
        assert_eq!(ReplicationLiteral("a\\'b").to_string(), "'a\\''b'");
        assert_eq!(Ident("nul\0byte").to_string(), "\"nulbyte\"");
    }
}
