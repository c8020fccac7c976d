//! Rows of `COPY … TO STDOUT` in text format: the same text as pgoutput's, so one decoder serves both.

use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio_postgres::{Client, CopyOutStream};

use crate::error::{Error, Result};
use crate::pg::pgoutput::Column;
use crate::pg::sql_error;

/// A running `COPY`.
pub(super) struct CopyRows {
    stream: Pin<Box<CopyOutStream>>,
    what: String,
    /// What of the last message is not read yet.
    rest: Bytes,
}

impl CopyRows {
    /// Starts reading what a SELECT gives.
    pub(super) async fn start(client: &Client, what: String, select: &str) -> Result<Self> {
        let stream = client
            .copy_out(&format!("COPY ({select}) TO STDOUT"))
            .await
            .map_err(|e| sql_error(what.clone(), e))?;
        Ok(Self { stream: Box::pin(stream), what, rest: Bytes::new() })
    }

    /// The next row's line without its newline.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest) {
                let mut line = self.rest.split_to(end + 1);
                line.truncate(end);
                return Ok(Some(line));
            }
            match self.stream.next().await {
                None if self.rest.is_empty() => return Ok(None),
                None => return Err(Error::data(format!("{}: the last row is cut off", self.what))),
                Some(Err(e)) => return Err(sql_error(self.what.clone(), e)),
                Some(Ok(bytes)) if self.rest.is_empty() => self.rest = bytes,
                Some(Ok(bytes)) => {
                    let mut joined = Vec::with_capacity(self.rest.len() + bytes.len());
                    joined.extend_from_slice(&self.rest);
                    joined.extend_from_slice(&bytes);
                    self.rest = joined.into();
                }
            }
        }
    }
}

/// A row's values with the escapes taken out; keeps its memory.
#[derive(Default)]
pub(super) struct CopyRow {
    bytes: Vec<u8>,
    columns: Vec<Option<Range<usize>>>,
}

impl CopyRow {
    /// Reads a line.
    pub(super) fn read(&mut self, line: &[u8]) {
        self.bytes.clear();
        self.columns.clear();
        for field in line.split(|b| *b == b'\t') {
            if field == b"\\N" {
                self.columns.push(None);
                continue;
            }
            let start = self.bytes.len();
            let mut rest = field;
            while let Some(at) = memchr::memchr(b'\\', rest) {
                let (plain, escaped) = rest.split_at(at);
                self.bytes.extend_from_slice(plain);
                let Some((byte, tail)) = escaped.get(1..).and_then(<[u8]>::split_first) else {
                    rest = &[];
                    break;
                };
                self.bytes.push(match byte {
                    b'b' => 0x08,
                    b'f' => 0x0c,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'v' => 0x0b,
                    other => *other,
                });
                rest = tail;
            }
            self.bytes.extend_from_slice(rest);
            self.columns.push(Some(start..self.bytes.len()));
        }
    }

    /// The columns in order.
    pub(super) fn columns(&self) -> impl ExactSizeIterator<Item = Column<'_>> {
        self.columns.iter().map(|range| match range {
            None => Column::Null,
            Some(range) => Column::Text(self.bytes.get(range.clone()).unwrap_or_default()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_and_nulls() {
        let mut row = CopyRow::default();
        row.read(b"1\t\\N\t\ta\\tb\\\\c\\nd\t\\\\N");
        let columns: Vec<Column<'_>> = row.columns().collect();
        assert_eq!(
            columns,
            [
                Column::Text(b"1"),
                Column::Null,
                Column::Text(b""),
                Column::Text(b"a\tb\\c\nd"),
                Column::Text(b"\\N")
            ]
        );
    }
}
