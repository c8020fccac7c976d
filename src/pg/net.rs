//! Sockets: TCP, Unix and TLS behind one type, and the sslmode ladder that picks between them.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};

use super::config::{ConnectConfig, SslMode};
use super::error::{StartError, connection_lost};
use super::tls::{self, TlsTcpStream};
use crate::error::{Error, Result};

/// A connection to a server, encrypted or not.
#[derive(Debug)]
pub(super) enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsTcpStream>),
}

impl Stream {
    /// What SCRAM can bind to on this connection.
    pub(super) fn end_point(&self) -> Option<Vec<u8>> {
        match self {
            Self::Tls(stream) => tls::server_end_point(stream.ssl()),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Whether it is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

/// How one attempt uses TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    Plain,
    IfOffered,
    Tls,
}

/// The start of a session over a socket. Boxed: an async closure's future is not known to be `Send`.
pub(super) type Starting<'a, T> =
    Pin<Box<dyn Future<Output = std::result::Result<T, StartError>> + Send + 'a>>;

/// Connects and starts a session, going down the sslmode ladder; each attempt has `connect_timeout`.
pub(super) async fn establish<'a, T, F>(config: &'a ConnectConfig, start: F) -> Result<T>
where
    F: Fn(Stream) -> Starting<'a, T>,
{
    let unix = config.target().0.starts_with('/');
    let ladder: &[Rung] = match config.ssl_mode {
        // PostgreSQL has no TLS on Unix sockets: libpq ignores the mode there.
        _ if unix => &[Rung::Plain],
        SslMode::Disable => &[Rung::Plain],
        SslMode::Allow => &[Rung::Plain, Rung::Tls],
        SslMode::Prefer => &[Rung::IfOffered, Rung::Plain],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Rung::Tls],
    };
    let mut first_failure: Option<StartError> = None;
    for (i, rung) in ladder.iter().enumerate() {
        let attempt = async {
            let stream = dial(config, *rung).await?;
            let encrypted = stream.is_encrypted();
            start(stream).await.map_err(|e| (e, encrypted))
        };
        let outcome = match tokio::time::timeout(config.connect_timeout, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err((StartError::Other(timed_out(config)), false)),
        };
        match outcome {
            Ok(session) => return Ok(session),
            Err((error, encrypted)) => {
                // A plain attempt after a plain one would only repeat it.
                let repeats = *rung == Rung::IfOffered && !encrypted && !matches!(error, StartError::Tls(_));
                let last = i + 1 == ladder.len() || repeats || !error.other_rung_may_help();
                let error = match first_failure.take() {
                    // What the first, preferred way met explains more than that the fallback failed too.
                    Some(first) if last && error.other_rung_may_help() => first,
                    _ => error,
                };
                if last {
                    return Err(error.into_error(config));
                }
                first_failure = Some(error);
            }
        }
    }
    Err(Error::internal("the sslmode ladder has no rungs"))
}

type DialError = (StartError, bool);

/// Opens the socket and, where the rung asks for it, TLS.
async fn dial(config: &ConnectConfig, rung: Rung) -> std::result::Result<Stream, DialError> {
    let plain = |e: Error| (StartError::Other(e), false);
    let (host, port) = config.target();
    if host.starts_with('/') {
        let path = Path::new(host).join(format!(".s.PGSQL.{port}"));
        let stream = UnixStream::connect(&path).await.map_err(|e| plain(unreachable(config, e)))?;
        return Ok(Stream::Unix(stream));
    }
    let mut tcp = tcp(config, host, port).await.map_err(plain)?;
    if rung == Rung::Plain {
        return Ok(Stream::Tcp(tcp));
    }
    match ask_for_tls(&mut tcp).await.map_err(|e| plain(connection_lost(config, e)))? {
        b'S' => {
            let stream = tls::handshake(config, tcp).await.map_err(|e| (e, true))?;
            Ok(Stream::Tls(Box::new(stream)))
        }
        b'N' if rung == Rung::IfOffered => Ok(Stream::Tcp(tcp)),
        b'N' => Err(plain(
            Error::refused(format!("{} has no TLS", config.describe()))
                .because(format!("sslmode is {}, and the server answered that TLS is off", config.ssl_mode))
                .next("set ssl = on at the server, or another sslmode"),
        )),
        other => Err(plain(super::error::protocol_error(
            config,
            format!("its answer to the TLS request is {other:#04x}"),
        ))),
    }
}

/// Sends an SSLRequest and reads the one byte of the answer: not one more, so that nothing sent in plain text
/// can be taken for something that came through TLS (CVE-2021-23222).
async fn ask_for_tls(tcp: &mut TcpStream) -> io::Result<u8> {
    let mut request = bytes::BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut request);
    tcp.write_all(&request).await?;
    let mut answer = [0u8; 1];
    tcp.read_exact(&mut answer).await?;
    let [answer] = answer;
    Ok(answer)
}

/// A server that is gone without a word is noticed within a minute also where nobody sends: during a COPY, say. The
/// kernel's own times are hours.
fn keepalive() -> socket2::TcpKeepalive {
    let times = socket2::TcpKeepalive::new();
    times.with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3)
}

async fn tcp(config: &ConnectConfig, host: &str, port: u16) -> Result<TcpStream> {
    let addresses: Vec<_> = lookup_host((host, port)).await.map_err(|e| unreachable(config, e))?.collect();
    // One that drops what it is sent leaves time for the others.
    let shares = u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let share = config.connect_timeout / shares;
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let connected = async {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if config.tcp_keepalive {
                socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive())?;
            }
            let stream = tokio::time::timeout(share, socket.connect(address)).await.map_err(|_| {
                io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer"))
            })??;
            stream.set_nodelay(true)?;
            Ok::<_, io::Error>(stream)
        };
        match connected.await {
            Ok(stream) => return Ok(stream),
            Err(e) => failure = e,
        }
    }
    Err(unreachable(config, failure))
}

fn unreachable(config: &ConnectConfig, error: io::Error) -> Error {
    Error::transient(format!("cannot reach {}", config.describe()))
        .with_source(error)
        .next("check that the server runs and that host and port are right")
}

fn timed_out(config: &ConnectConfig) -> Error {
    Error::transient(format!("cannot reach {}", config.describe()))
        .because(format!("no session within {} s", config.connect_timeout.as_secs_f32()))
        .next("check host, port and firewalls, or raise the connect timeout")
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
            Self::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
            Self::Unix(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s.as_mut()).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_gone_is_noticed_within_a_minute() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let mut config =
            ConnectConfig { connect_timeout: Duration::from_secs(5), ..ConnectConfig::default() };
        let stream = tcp(&config, "127.0.0.1", port).await.unwrap();
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        let probes = socket.tcp_keepalive_interval().unwrap() * socket.tcp_keepalive_retries().unwrap();
        let noticed = socket.tcp_keepalive_time().unwrap() + probes;
        assert!(noticed <= Duration::from_secs(60), "after {noticed:?}");
        config.tcp_keepalive = false;
        let stream = tcp(&config, "127.0.0.1", port).await.unwrap();
        assert!(!socket2::SockRef::from(&stream).keepalive().unwrap());
    }
}
