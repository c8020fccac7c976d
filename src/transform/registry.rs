//! A client of Confluent's schema registry API: enough to register a schema and keep its id.
//!
//! Blocking, with a time limit: a schema is registered once per version, between two records that cannot go out
//! without it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::ssl::{SslConnector, SslMethod};
use serde_json::{Value, json};

use super::config::Options;
use crate::event::EventError;

const TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json";

/// One address of a registry.
#[derive(Clone, Debug)]
struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
    path: String,
    user_info: Option<String>,
}

impl Endpoint {
    fn parse(url: &str) -> Option<Self> {
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
        let path = path.trim_end_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        Some(Self { tls, host: host.to_owned(), port, path, user_info })
    }
}

/// The registry of a converter.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    endpoints: Vec<Endpoint>,
    authorization: Option<String>,
    register: bool,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Registry {
    /// Reads `schema.registry.url` and what belongs to it.
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        own.required("schema.registry.url")?;
        let expected = "http://host:port or https://host:port, several by comma";
        let endpoints: Option<Vec<Endpoint>> =
            own.list("schema.registry.url").iter().map(|u| Endpoint::parse(u)).collect();
        let endpoints =
            endpoints.filter(|e| !e.is_empty()).ok_or_else(|| own.error("schema.registry.url", expected))?;
        let source = own.get("basic.auth.credentials.source").unwrap_or("URL");
        let user_info = match source {
            "USER_INFO" => Some(
                own.get("basic.auth.user.info")
                    .or_else(|| own.get("schema.registry.basic.auth.user.info"))
                    .ok_or_else(|| own.error("basic.auth.user.info", "user:password"))?
                    .to_owned(),
            ),
            _ => endpoints.iter().find_map(|e| e.user_info.clone()),
        };
        let authorization = match (user_info, own.get("bearer.auth.token")) {
            (Some(user), _) => Some(format!("Basic {}", STANDARD.encode(user))),
            (None, Some(token)) => Some(format!("Bearer {token}")),
            (None, None) => None,
        };
        Ok(Self { endpoints, authorization, register: own.flag("auto.register.schemas", true)? })
    }

    /// The id of a schema under a subject; registers it where that is allowed.
    pub(super) fn id(&self, subject: &str, schema: &str) -> Result<u32, String> {
        let name = percent_encoding::utf8_percent_encode(subject, percent_encoding::NON_ALPHANUMERIC);
        let path =
            if self.register { format!("/subjects/{name}/versions") } else { format!("/subjects/{name}") };
        let body = json!({ "schema": schema }).to_string();
        let mut last = String::new();
        for endpoint in &self.endpoints {
            match self.post(endpoint, &path, &body) {
                Ok((200..=299, answer)) => {
                    let id = answer.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
                    return id.ok_or_else(|| format!("the registry gave no id for subject {subject}"));
                }
                Ok((status, answer)) => {
                    let message = answer.get("message").and_then(Value::as_str).unwrap_or("no message");
                    return Err(format!("the registry refused subject {subject} with {status}: {message}"));
                }
                Err(e) => {
                    last = format!("the registry at {}:{} cannot be used: {e}", endpoint.host, endpoint.port)
                }
            }
        }
        Err(last)
    }

    fn post(&self, endpoint: &Endpoint, path: &str, body: &str) -> std::io::Result<(u16, Value)> {
        let address = (endpoint.host.as_str(), endpoint.port)
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| std::io::Error::other("the name has no address"))?;
        let tcp = TcpStream::connect_timeout(&address, TIMEOUT)?;
        tcp.set_read_timeout(Some(TIMEOUT))?;
        tcp.set_write_timeout(Some(TIMEOUT))?;
        let mut stream: Box<dyn Stream> = if endpoint.tls {
            let connector = SslConnector::builder(SslMethod::tls())?.build();
            Box::new(connector.connect(&endpoint.host, tcp).map_err(std::io::Error::other)?)
        } else {
            Box::new(tcp)
        };
        let mut head = format!(
            "POST {}{path} HTTP/1.1\r\nHost: {}:{}\r\nContent-Type: {ACCEPT}\r\nAccept: {ACCEPT}, application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n",
            endpoint.path,
            endpoint.host,
            endpoint.port,
            body.len()
        );
        if let Some(authorization) = &self.authorization {
            head.push_str("Authorization: ");
            head.push_str(authorization);
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        stream.flush()?;
        answer(&mut BufReader::new(stream))
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
    const LIMIT: u64 = 16 << 20;
    let mut body = Vec::new();
    if chunked {
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim().split(';').next().unwrap_or(""), 16)
                .map_err(|_| bad("chunk"))?;
            if size == 0 || size > LIMIT {
                break;
            }
            reader.by_ref().take(size).read_to_end(&mut body)?;
            line.clear();
            reader.read_line(&mut line)?;
        }
    } else {
        reader.take(length.unwrap_or(LIMIT)).read_to_end(&mut body)?;
    }
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_length_and_in_chunks() {
        let plain = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"id\":7}";
        assert_eq!(answer(&mut &plain[..]).unwrap(), (200, json!({"id": 7})));
        let chunks = b"HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\"id\r\n4\r\n\":7}\r\n0\r\n\r\n";
        assert_eq!(answer(&mut &chunks[..]).unwrap(), (409, json!({"id": 7})));
    }

    #[test]
    fn addresses() {
        let e = Endpoint::parse("http://user:pw@registry:8081/apis/ccompat/v7/").unwrap();
        assert_eq!((e.host.as_str(), e.port, e.path.as_str()), ("registry", 8081, "/apis/ccompat/v7"));
        assert_eq!(e.user_info.as_deref(), Some("user:pw"));
        assert!(Endpoint::parse("registry:8081").is_none());
    }
}
