//! Reading whole tables: `COPY (SELECT …) TO STDOUT` in text format, whose values are written exactly as
//! pgoutput writes them, so that one codec serves both (PostgreSQL's documentation, "COPY", "Text Format").

use std::pin::Pin;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio_postgres::{Client, CopyOutStream};

use super::error::sql_error;
use super::pgoutput::Column;
use crate::error::{Error, Result};

/// Settings that make values look the same as in a replication session of ours; for the start of a session
/// that reads a snapshot.
pub const SESSION_SETTINGS: &str = "SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; \
     SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET bytea_output = 'hex'; SET statement_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0; \
     SELECT set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'";

/// A running COPY.
pub struct CopyReader {
    stream: Pin<Box<CopyOutStream>>,
}

impl std::fmt::Debug for CopyReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyReader").finish_non_exhaustive()
    }
}

impl CopyReader {
    /// Starts to read the rows of a query. The session must have [`SESSION_SETTINGS`], and, for a snapshot, be
    /// in a transaction with it.
    ///
    /// # Errors
    /// What the server reports (no such table, no privilege to read it).
    pub async fn start(client: &Client, select: &str) -> Result<Self> {
        let sql = format!("COPY ({select}) TO STDOUT");
        let stream = client.copy_out(&sql).await.map_err(|e| sql_error("cannot read the table", e))?;
        Ok(Self { stream: Box::pin(stream) })
    }

    /// The next row's line, still escaped: for a [`CopyDecoder`]. `None` at the end.
    ///
    /// # Errors
    /// What the server reports, or a lost connection.
    pub async fn next_line(&mut self) -> Result<Option<Bytes>> {
        match self.stream.next().await {
            Some(Ok(mut line)) => {
                if line.last() == Some(&b'\n') {
                    line.truncate(line.len() - 1);
                }
                Ok(Some(line))
            }
            Some(Err(e)) => Err(sql_error("cannot read the table", e)),
            None => Ok(None),
        }
    }
}

/// Splits lines of COPY text into columns; keeps its memory from row to row.
#[derive(Debug, Default)]
pub struct CopyDecoder {
    spans: Vec<Span>,
    unescaped: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Span {
    Null,
    /// A part of the line.
    Line(usize, usize),
    /// A part of the memory for unescaped values.
    Unescaped(usize, usize),
}

impl CopyDecoder {
    /// A decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// The columns of one line (without its newline).
    ///
    /// # Errors
    /// [`crate::Kind::Data`] when the line ends within an escape sequence.
    pub fn decode<'a>(&'a mut self, line: &'a [u8]) -> Result<CopyRow<'a>> {
        self.spans.clear();
        self.unescaped.clear();
        let mut start = 0;
        let mut escaped = false;
        for at in memchr::memchr2_iter(b'\t', b'\\', line) {
            if line.get(at) == Some(&b'\\') {
                escaped = true;
            } else {
                // A tab inside a value is written as \t, so this one ends the value.
                self.column(line, start, at, escaped)?;
                (start, escaped) = (at + 1, false);
            }
        }
        self.column(line, start, line.len(), escaped)?;
        Ok(CopyRow { line, spans: &self.spans, unescaped: &self.unescaped })
    }

    fn column(&mut self, line: &[u8], start: usize, end: usize, escaped: bool) -> Result<()> {
        let span = if escaped {
            let value = line.get(start..end).unwrap_or_default();
            if value == b"\\N" {
                Span::Null
            } else {
                let from = self.unescaped.len();
                unescape(value, &mut self.unescaped)?;
                Span::Unescaped(from, self.unescaped.len())
            }
        } else {
            Span::Line(start, end)
        };
        self.spans.push(span);
        Ok(())
    }
}

/// A row of a COPY.
#[derive(Clone, Copy, Debug)]
pub struct CopyRow<'a> {
    line: &'a [u8],
    spans: &'a [Span],
    unescaped: &'a [u8],
}

impl<'a> CopyRow<'a> {
    /// How many columns it has. (A query without columns gives one empty one.)
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether it has no columns.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Its columns: [`Column::Text`] or [`Column::Null`].
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Column<'a>> + 'a {
        let Self { line, unescaped, .. } = *self;
        self.spans.iter().map(move |span| match *span {
            Span::Null => Column::Null,
            Span::Line(start, end) => Column::Text(line.get(start..end).unwrap_or_default()),
            Span::Unescaped(start, end) => Column::Text(unescaped.get(start..end).unwrap_or_default()),
        })
    }
}

/// Takes the backslashes out of a value.
fn unescape(value: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let mut rest = value;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((&code, tail)) = escape.get(1..).and_then(<[u8]>::split_first) else {
            return Err(Error::data("a row of the snapshot ends within an escape sequence"));
        };
        rest = tail;
        match code {
            b'b' => out.push(0x08),
            b'f' => out.push(0x0C),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(0x0B),
            // The server writes no octal or hexadecimal escapes; everything else stands for itself.
            other => out.push(other),
        }
    }
    out.extend_from_slice(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(line: &[u8]) -> Vec<Option<Vec<u8>>> {
        let mut decoder = CopyDecoder::new();
        decoder.decode(b"left\\tover\t1").unwrap();
        let row = decoder.decode(line).unwrap();
        assert_eq!(row.len(), row.iter().count());
        row.iter()
            .map(|c| match c {
                Column::Text(text) => Some(text.to_vec()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn lines_are_split_and_unescaped() {
        let some = |t: &str| Some(t.as_bytes().to_vec());
        assert_eq!(columns(b"1\tab\t\\N\t"), [some("1"), some("ab"), None, some("")]);
        assert_eq!(columns(b"a\\tb\tc\\\\N\t\\\\N"), [some("a\tb"), some("c\\N"), some("\\N")]);
        assert_eq!(columns(b"\\n\\r\\b\\f\\v"), [some("\n\r\u{8}\u{c}\u{b}")]);
        assert_eq!(columns(b""), [some("")]);
        assert!(CopyDecoder::new().decode(b"x\\").is_err());
    }
}
