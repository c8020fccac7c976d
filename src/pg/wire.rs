//! The frontend/backend protocol, as far as replication sessions and COPY need it.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::auth;
use super::config::ConnectConfig;
use super::error::{ServerError, StartError, connection_lost, protocol_error, server_error};
use super::net::{Stream, establish};
use crate::error::{Error, Result};

/// Free space kept for one read: what a busy walsender has ready comes in one system call.
pub(super) const READ_SIZE: usize = 256 * 1024;
/// PostgreSQL's own limit of a message (`MaxAllocSize`) and a little.
const MAX_FRAME: usize = 0x4000_0000;
/// Tag, and the length that counts itself.
pub(super) const HEADER: usize = 5;

/// One message of the server.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) tag: u8,
    pub(super) body: Bytes,
}

/// A row of a simple query: text or NULL.
pub(super) type TextRow = Vec<Option<String>>;

/// A session spoken to in the simple query protocol.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) stream: Stream,
    pub(super) read: BytesMut,
    pub(super) config: ConnectConfig,
    /// The server's process behind the session (BackendKeyData).
    pub(super) backend: i32,
    /// `server_version_num`, as far as `server_version` tells it: 150012 for 15.12.
    pub(super) server_version: u32,
}

/// Settings under which values look the same whatever the server's and the role's defaults are; the event
/// encoder relies on them.
const SESSION: [(&str, &str); 6] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
];

impl Wire {
    /// Opens a session; with `replication` as a walsender of the database.
    pub(super) async fn connect(config: &ConnectConfig, replication: bool) -> Result<Self> {
        establish(config, |stream| Box::pin(Self::start(config, stream, replication))).await
    }

    async fn start(
        config: &ConnectConfig,
        stream: Stream,
        replication: bool,
    ) -> std::result::Result<Self, StartError> {
        let end_point = stream.end_point();
        let mut wire =
            Self { stream, read: BytesMut::new(), config: config.clone(), backend: 0, server_version: 0 };
        let mut parameters: Vec<(&str, &str)> = vec![
            ("user", &config.user),
            ("database", &config.dbname),
            ("application_name", &config.application_name),
        ];
        if replication {
            parameters.push(("replication", "database"));
        }
        parameters.extend(SESSION);
        parameters.extend(config.parameters.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        let mut message = BytesMut::new();
        frontend::startup_message(parameters, &mut message).map_err(|e| invalid(config, e))?;
        wire.send(&message).await?;
        auth::authenticate(&mut wire, end_point).await?;
        loop {
            let frame = wire.frame().await?;
            match frame.tag {
                b'S' => {
                    if let Some(version) = parameter(&frame.body, b"server_version") {
                        wire.server_version = version_number(version);
                    }
                }
                b'K' => {
                    wire.backend = frame.body.first_chunk::<4>().map_or(0, |pid| i32::from_be_bytes(*pid));
                }
                b'N' => {}
                b'Z' => return Ok(wire),
                b'E' => return Err(StartError::Server(ServerError::from_body(&frame.body))),
                other => return Err(wire.unexpected(other).into()),
            }
        }
    }

    /// Sends bytes that are whole messages.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|e| connection_lost(&self.config, e))
    }

    /// The next message. Cancel-safe: bytes read stay in the buffer.
    pub(super) async fn frame(&mut self) -> Result<Frame> {
        loop {
            if let Some(total) = self.buffered_frame()? {
                let mut bytes = self.read.split_to(total).freeze();
                let tag = bytes.first().copied().unwrap_or_default();
                bytes.advance(HEADER);
                return Ok(Frame { tag, body: bytes });
            }
            self.fill().await?;
        }
    }

    /// Size of the message at the front of the buffer, header included, when all of it is there.
    fn buffered_frame(&self) -> Result<Option<usize>> {
        match frame_size(&self.read) {
            Ok(Some(total)) if self.read.len() >= total => Ok(Some(total)),
            Ok(_) => Ok(None),
            Err(why) => Err(protocol_error(&self.config, why)),
        }
    }

    /// Reads what there is into the buffer. Cancel-safe.
    pub(super) async fn fill(&mut self) -> Result<()> {
        reserve(&mut self.read);
        match self.stream.read_buf(&mut self.read).await {
            Ok(0) => Err(connection_lost(&self.config, std::io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(e) => Err(connection_lost(&self.config, e)),
        }
    }

    /// Sends a query without reading an answer.
    pub(super) async fn send_query(&mut self, sql: &str) -> Result<()> {
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message).map_err(|e| invalid(&self.config, e))?;
        self.send(&message).await
    }

    /// Runs statements and returns all rows; `what` names them in errors (`cannot …`).
    pub(super) async fn query(&mut self, what: &str, sql: &str) -> Result<Vec<TextRow>> {
        self.send_query(sql).await?;
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            let frame = self.frame().await?;
            match frame.tag {
                b'D' => rows.push(text_row(&frame.body).map_err(|e| protocol_error(&self.config, e))?),
                b'E' => {
                    let error = ServerError::from_body(&frame.body);
                    failure = Some(server_error(format!("{what} ({})", self.config.describe()), error));
                }
                b'Z' => {
                    return match failure {
                        Some(error) => Err(error),
                        None => Ok(rows),
                    };
                }
                b'T' | b'C' | b'I' | b'N' | b'S' | b'A' => {}
                other => return Err(self.unexpected(other)),
            }
        }
    }

    pub(super) fn unexpected(&self, tag: u8) -> Error {
        protocol_error(
            &self.config,
            format!("message {:?} came where none of this kind can come", char::from(tag)),
        )
    }

    /// Says goodbye and closes the socket; what fails here is of no interest any more.
    pub(super) async fn terminate(mut self) {
        let goodbye = async {
            let mut message = BytesMut::new();
            frontend::terminate(&mut message);
            let _ = self.stream.write_all(&message).await;
            let _ = self.stream.shutdown().await;
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), goodbye).await;
    }
}

fn invalid(config: &ConnectConfig, error: std::io::Error) -> Error {
    Error::config(format!("cannot speak to {}", config.describe())).because(error)
}

/// Size of the message whose header stands at the front, header included; `None` when the header is not whole.
#[inline]
pub(super) fn frame_size(bytes: &[u8]) -> std::result::Result<Option<usize>, &'static str> {
    let Some((_, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((len, _)) = rest.split_first_chunk::<4>() else { return Ok(None) };
    match usize::try_from(u32::from_be_bytes(*len)) {
        Ok(len @ 4..=MAX_FRAME) => Ok(Some(len + 1)),
        _ => Err("a message's length is out of bounds"),
    }
}

/// Makes room for the next read. A large message grows the buffer with the bytes that have really come, never
/// with what its header claims alone.
pub(super) fn reserve(read: &mut BytesMut) {
    let missing = match frame_size(read) {
        Ok(Some(total)) => total.saturating_sub(read.len()),
        _ => 0,
    };
    let room = missing.clamp(READ_SIZE, read.len().max(READ_SIZE));
    read.reserve(room);
}

/// A ParameterStatus's value, when it is this parameter's.
fn parameter<'a>(body: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let mut parts = body.split(|b| *b == 0);
    if parts.next()? != name {
        return None;
    }
    std::str::from_utf8(parts.next()?).ok()
}

/// `15.12 (Debian …)` as 150012, `17beta1` as 170000; 0 when it cannot be read.
fn version_number(text: &str) -> u32 {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let major = numbers.next().unwrap_or(0);
    let minor = if text.get(..5).is_some_and(|t| t.contains('.')) { numbers.next().unwrap_or(0) } else { 0 };
    major.saturating_mul(10_000).saturating_add(minor.min(9_999))
}

/// A DataRow's columns.
fn text_row(body: &[u8]) -> std::result::Result<TextRow, &'static str> {
    const SHORT: &str = "a DataRow ends too early";
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or(SHORT)?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (len, tail) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
        rest = tail;
        let len = i32::from_be_bytes(*len);
        if len < 0 {
            row.push(None);
            continue;
        }
        let len = usize::try_from(len).map_err(|_| SHORT)?;
        let (value, tail) = rest.split_at_checked(len).ok_or(SHORT)?;
        rest = tail;
        row.push(Some(String::from_utf8_lossy(value).into_owned()));
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version_number("15.12 (Debian 15.12-0+deb12u2)"), 150_012);
        assert_eq!(version_number("17beta1"), 170_000);
        assert_eq!(version_number(""), 0);
    }

    #[test]
    fn hostile_lengths_are_refused_and_do_not_reserve() {
        assert!(frame_size(&[b'd', 0, 0, 0, 3]).is_err());
        assert!(frame_size(&[b'd', 0xFF, 0xFF, 0xFF, 0xFF]).is_err());
        assert_eq!(frame_size(&[b'd', 0, 0]), Ok(None));
        let mut read = BytesMut::from(&[b'd', 0x3F, 0xFF, 0xFF, 0xFF][..]);
        reserve(&mut read);
        assert!(read.capacity() < 4 * READ_SIZE, "{}", read.capacity());
    }

    #[test]
    fn rows() {
        let body = [0, 2, 0, 0, 0, 2, b'o', b'k', 0xFF, 0xFF, 0xFF, 0xFF];
        assert_eq!(text_row(&body).unwrap(), [Some("ok".to_owned()), None]);
        assert!(text_row(&body[..7]).is_err());
    }
}
