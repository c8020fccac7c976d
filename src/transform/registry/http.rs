//! One request and its answer over HTTP/1.1, plain or with TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use openssl::ssl::SslConnector;
use serde_json::Value;

use super::tls::{handshake_failed, io_failed};

/// For a connection, and for a whole answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer in bytes, with its headers.
const LIMIT: u64 = 16 << 20;
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json";

/// One address of a registry.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    path: String,
    pub(super) user_info: Option<String>,
    /// Where the socket goes instead (`--connect-to`).
    pub(super) to: Option<(String, u16)>,
}

impl Endpoint {
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (tls, rest) = match url.trim().split_once("://")? {
            ("http", rest) => (false, rest),
            ("https", rest) => (true, rest),
            _ => return None,
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user_info, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user.to_owned()), address),
            None => (None, authority),
        };
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (address, if tls { 443 } else { 80 }),
        };
        if host.is_empty() {
            return None;
        }
        let user_info =
            user_info.map(|u| percent_encoding::percent_decode_str(&u).decode_utf8_lossy().into_owned());
        let path = path.trim_end_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        Some(Self { tls, host: host.to_owned(), port, path, user_info, to: None })
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nobody is there, or the connection broke off.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The server's certificate is not trusted, and why.
    #[error("its certificate is not trusted: {0}")]
    Untrusted(String),
    /// The server refused our certificate, or that there is none, and its word.
    #[error("it asks for a client certificate that it trusts: {0}")]
    Refused(String),
}

/// How requests are made.
#[derive(Clone)]
pub(super) struct Client {
    /// The header of that name.
    pub(super) authorization: Option<String>,
    pub(super) tls: Option<SslConnector>,
    /// `false` where `ssl.endpoint.identification.algorithm` is empty.
    pub(super) check_name: bool,
}

impl Client {
    /// A request (a POST where there is a body): status and JSON body of the answer.
    ///
    /// Takes its time: other tasks of a runtime's thread go on elsewhere meanwhile.
    pub(super) fn ask(
        &self,
        endpoint: &Endpoint,
        path: &str,
        body: Option<&str>,
    ) -> Result<(u16, Value), Failure> {
        let flavor = tokio::runtime::Handle::try_current().map(|runtime| runtime.runtime_flavor());
        if matches!(flavor, Ok(tokio::runtime::RuntimeFlavor::MultiThread)) {
            return tokio::task::block_in_place(|| self.exchange(endpoint, path, body));
        }
        self.exchange(endpoint, path, body)
    }

    fn exchange(&self, endpoint: &Endpoint, path: &str, body: Option<&str>) -> Result<(u16, Value), Failure> {
        let (host, port) = match &endpoint.to {
            Some((host, port)) => (host.as_str(), *port),
            None => (endpoint.host.as_str(), endpoint.port),
        };
        let tcp = connect((host, port))?;
        tcp.set_read_timeout(Some(TIMEOUT))?;
        tcp.set_write_timeout(Some(TIMEOUT))?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            Some(tls) if endpoint.tls => {
                let tls = tls.configure().map_err(std::io::Error::from)?.verify_hostname(self.check_name);
                Box::new(tls.connect(&endpoint.host, tcp).map_err(handshake_failed)?)
            }
            _ => Box::new(tcp),
        };
        let mut head = format!(
            "{} {}{path} HTTP/1.1\r\nHost: {}:{}\r\nAccept: {ACCEPT}, application/json\r\nConnection: close\r\n",
            if body.is_some() { "POST" } else { "GET" },
            endpoint.path,
            endpoint.host,
            endpoint.port,
        );
        if let Some(authorization) = &self.authorization {
            head.push_str(&format!("Authorization: {authorization}\r\n"));
        }
        if let Some(body) = body {
            head.push_str(&format!("Content-Type: {ACCEPT}\r\nContent-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        head.push_str(body.unwrap_or(""));
        stream.write_all(head.as_bytes()).and_then(|()| stream.flush()).map_err(io_failed)?;
        let bounded = Bounded { stream, left: LIMIT, until: Instant::now() + TIMEOUT };
        answer(&mut BufReader::new(bounded)).map_err(io_failed)
    }
}

/// A connection to the first of a name's addresses that takes it.
fn connect(name: (&str, u16)) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("the name has no address");
    for address in name.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(tcp) => return Ok(tcp),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// What a registry may send: so many bytes, until then.
struct Bounded<S> {
    stream: S,
    left: u64,
    until: Instant,
}

impl<S: Read> Read for Bounded<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if Instant::now() >= self.until {
            return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the answer takes too long"));
        }
        let read = self.stream.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            std::io::Error::other(format!(
                "the answer is longer than {LIMIT} bytes: is it a schema registry?"
            ))
        })?;
        Ok(read)
    }
}

/// Status and JSON body of an HTTP/1.1 answer.
fn answer(reader: &mut impl BufRead) -> std::io::Result<(u16, Value)> {
    let bad = |what: &str| std::io::Error::other(format!("the answer is not HTTP: {what}"));
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| bad("no status"))?;
    let (mut length, mut chunked) = (None, false);
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse::<u64>().ok(),
            "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim().split(';').next().unwrap_or(""), 16)
                .map_err(|_| bad("chunk"))?;
            if size == 0 {
                break;
            }
            reader.by_ref().take(size).read_to_end(&mut body)?;
            line.clear();
            reader.read_line(&mut line)?;
        }
    } else {
        reader.take(length.unwrap_or(u64::MAX)).read_to_end(&mut body)?;
    }
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_with_length_and_in_chunks() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"id\":7}";
        assert_eq!(answer(&mut &plain[..]).unwrap(), (200, json!({"id": 7})));
        let chunks = b"HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"id\r\n4\r\n\":7}\r\n0\r\n\r\n";
        assert_eq!(answer(&mut &chunks[..]).unwrap(), (409, json!({"id": 7})));
    }

    #[test]
    fn an_answer_without_end_is_refused() {
        let head = &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..];
        let chunk = b"4\r\n    \r\n".repeat(64);
        let endless = head.chain(std::io::repeat(b'x'));
        for stream in [
            Box::new(endless) as Box<dyn Read>,
            Box::new(std::io::repeat(b'x')),
            Box::new(head.chain(Again { text: chunk, at: 0 })),
        ] {
            let bounded = Bounded { stream, left: LIMIT, until: Instant::now() + TIMEOUT };
            let why = answer(&mut BufReader::new(bounded)).unwrap_err().to_string();
            assert!(why.contains("longer than"), "{why}");
        }
        let late = Bounded { stream: std::io::repeat(b'x'), left: LIMIT, until: Instant::now() };
        assert_eq!(answer(&mut BufReader::new(late)).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    }

    /// A text again and again.
    struct Again {
        text: Vec<u8>,
        at: usize,
    }

    impl Read for Again {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let read = self.text.get(self.at..).unwrap_or_default().read(buffer)?;
            self.at = (self.at + read) % self.text.len();
            Ok(read)
        }
    }

    #[test]
    fn every_address_of_a_name_is_tried() {
        // localhost is ::1 first where it has both
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(connect(("localhost", port)).is_ok());
        drop(listener);
        assert!(connect(("localhost", port)).is_err());
    }

    #[test]
    fn addresses() {
        let e = Endpoint::parse("http://user:p%40w@registry:8081/apis/ccompat/v7/").unwrap();
        assert_eq!((e.host.as_str(), e.port, e.path.as_str()), ("registry", 8081, "/apis/ccompat/v7"));
        assert_eq!(e.user_info.as_deref(), Some("user:p@w"));
        assert!(Endpoint::parse("registry:8081").is_none());
    }
}
