//! A client of Confluent's schema registry API: enough to register a schema and keep its id.
//!
//! Blocking, with a time limit: a schema is registered once per version, between two records that cannot go out
//! without it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use serde_json::{Value, json};

use super::config::Options;
use crate::config::AddressMap;
use crate::event::EventError;
use crate::log::kafka::jaas;

const TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json";
/// How the cause of a failure that may heal begins; see [`unavailable`].
const UNAVAILABLE: &str = "the schema registry cannot be used: ";

/// Whether a converter's failure is one of the registry's that may heal by itself.
pub(crate) fn unavailable(cause: &str) -> bool {
    cause.starts_with(UNAVAILABLE)
}

/// How a subject is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    strategy: Strategy,
    side: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    Topic,
    Record,
    TopicRecord,
}

impl Subject {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        let name = if key { "key.subject.name.strategy" } else { "value.subject.name.strategy" };
        let strategy = match own.get(name).map(|s| s.rsplit('.').next().unwrap_or(s)) {
            None | Some("TopicNameStrategy") => Strategy::Topic,
            Some("RecordNameStrategy") => Strategy::Record,
            Some("TopicRecordNameStrategy") => Strategy::TopicRecord,
            Some(_) => {
                let names = "TopicNameStrategy, RecordNameStrategy or TopicRecordNameStrategy";
                return Err(own.error(name, names));
            }
        };
        Ok(Self { strategy, side: if key { "key" } else { "value" } })
    }

    /// The subject of a record type on a topic; `None` for what is no record.
    ///
    /// # Errors
    /// Something that is no record, where subjects are named after records.
    pub(super) fn of(&self, topic: &str, record: Option<&str>) -> Result<String, String> {
        let side = self.side;
        match (self.strategy, record) {
            (Strategy::Topic, _) => Ok(format!("{topic}-{side}")),
            (Strategy::Record, Some(record)) => Ok(record.to_owned()),
            (Strategy::TopicRecord, Some(record)) => Ok(format!("{topic}-{record}")),
            (_, None) => Err(format!(
                "{side}.subject.name.strategy names subjects after records, and this {side} is no record"
            )),
        }
    }
}

/// One address of a registry.
#[derive(Clone, Debug)]
struct Endpoint {
    tls: bool,
    host: String,
    port: u16,
    path: String,
    user_info: Option<String>,
    /// Where the socket goes instead (`--connect-to`).
    to: Option<(String, u16)>,
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
        let user_info =
            user_info.map(|u| percent_encoding::percent_decode_str(&u).decode_utf8_lossy().into_owned());
        let path = path.trim_end_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        Some(Self { tls, host: host.to_owned(), port, path, user_info, to: None })
    }
}

/// What the registry does with a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Registers it.
    Register,
    /// Looks it up; it must be there.
    Find,
    /// Takes the subject's latest schema, whatever it is.
    Latest,
}

/// The registry of a converter.
#[derive(Clone)]
pub(crate) struct Registry {
    /// The property with its addresses.
    property: String,
    endpoints: Vec<Endpoint>,
    authorization: Option<String>,
    mode: Mode,
    normalize: bool,
    tls: Option<SslConnector>,
    /// `false` where `ssl.endpoint.identification.algorithm` is empty.
    check_name: bool,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// TLS by `schema.registry.ssl.*` (or `ssl.*`): PEM files.
fn tls(own: &Options<'_>) -> Result<SslConnector, EventError> {
    let find = |name: &str| -> Option<(String, String)> {
        [format!("schema.registry.ssl.{name}"), format!("ssl.{name}")]
            .into_iter()
            .find_map(|n| own.get(&n).filter(|v| !v.is_empty()).map(|v| (n, v.to_owned())))
    };
    let failed =
        |name: &str, e: &dyn std::fmt::Display| own.error(name, format!("a file that can be used ({e})"));
    let mut builder =
        SslConnector::builder(SslMethod::tls()).map_err(|e| failed("schema.registry.url", &e))?;
    for kind in ["truststore.type", "keystore.type"] {
        if let Some((name, _)) = find(kind).filter(|(_, v)| !v.eq_ignore_ascii_case("PEM")) {
            let convert = "keytool -importkeystore -deststoretype PKCS12, then openssl pkcs12 -nodes";
            return Err(own.error(&name, format!("PEM (a Java key store becomes one by {convert})")));
        }
    }
    if let Some((name, path)) = find("truststore.location") {
        builder.set_ca_file(&path).map_err(|e| failed(&name, &e))?;
    }
    if let Some((name, path)) = find("keystore.location") {
        builder.set_certificate_chain_file(&path).map_err(|e| failed(&name, &e))?;
        builder.set_private_key_file(&path, SslFiletype::PEM).map_err(|e| failed(&name, &e))?;
    }
    Ok(builder.build())
}

impl Registry {
    /// Reads `schema.registry.url` and what belongs to it.
    pub(super) fn new(own: &Options<'_>, addresses: &AddressMap) -> Result<Self, EventError> {
        own.required("schema.registry.url")?;
        let expected = "http://host:port or https://host:port, several by comma";
        let endpoints: Option<Vec<Endpoint>> =
            own.names("schema.registry.url").iter().map(|u| Endpoint::parse(u)).collect();
        let mut endpoints =
            endpoints.filter(|e| !e.is_empty()).ok_or_else(|| own.error("schema.registry.url", expected))?;
        for endpoint in &mut endpoints {
            let (host, port) = addresses.resolve(&endpoint.host, endpoint.port);
            endpoint.to = Some((host.to_owned(), port));
        }
        let either = |name: &str| {
            own.get(name).or_else(|| own.get(&format!("schema.registry.{name}"))).filter(|v| !v.is_empty())
        };
        for name in ["proxy.host", "schema.registry.proxy.host"] {
            if own.get(name).is_some_and(|v| !v.trim().is_empty()) {
                return Err(own.error(name, "nothing: the registry is asked without a proxy"));
            }
        }
        if own.get("use.schema.id").is_some_and(|v| v.trim() != "-1") {
            return Err(
                own.error("use.schema.id", "-1; use.latest.version=true takes a schema that is there")
            );
        }
        for name in ["max.schemas.per.subject", "schemas.cache.config"] {
            if own.get(name).is_some_and(|v| v.trim().parse::<i32>().is_err()) {
                return Err(own.error(name, "a number"));
            }
        }
        let user_info = match either("basic.auth.credentials.source").unwrap_or("URL") {
            "SASL_INHERIT" => {
                let name = "sasl.jaas.config";
                let login = jaas::parse(own.get(name).unwrap_or("")).unwrap_or_default();
                let (Some(user), Some(password)) = (login.username, login.password) else {
                    let shape = "a login module with username=\"…\" and password=\"…\"";
                    return Err(EventError::Option {
                        name: own.name(name),
                        value: "(hidden)".into(),
                        expected: shape.into(),
                    });
                };
                Some(format!("{user}:{password}"))
            }
            "USER_INFO" => Some(
                either("basic.auth.user.info")
                    .ok_or_else(|| own.error("basic.auth.user.info", "user:password"))?
                    .to_owned(),
            ),
            "URL" => endpoints.iter().find_map(|e| e.user_info.clone()),
            _ => return Err(own.error("basic.auth.credentials.source", "URL, USER_INFO or SASL_INHERIT")),
        };
        let token = match either("bearer.auth.credentials.source") {
            None | Some("STATIC_TOKEN") => either("bearer.auth.token"),
            Some(_) => return Err(own.error("bearer.auth.credentials.source", "STATIC_TOKEN")),
        };
        let authorization = match (user_info, token) {
            (Some(user), _) => Some(format!("Basic {}", STANDARD.encode(user))),
            (None, Some(token)) => Some(format!("Bearer {token}")),
            (None, None) => None,
        };
        let mode = match (own.flag("auto.register.schemas", true)?, own.flag("use.latest.version", false)?) {
            (true, _) => Mode::Register,
            (false, true) => Mode::Latest,
            (false, false) => Mode::Find,
        };
        let normalize = own.flag("normalize.schemas", false)?;
        let tls = if endpoints.iter().any(|e| e.tls) { Some(tls(own)?) } else { None };
        let check_name = !["schema.registry.ssl.", "ssl."]
            .iter()
            .filter_map(|prefix| own.get(&format!("{prefix}endpoint.identification.algorithm")))
            .any(|algorithm| algorithm.trim().is_empty());
        let property = own.name("schema.registry.url");
        Ok(Self { property, endpoints, authorization, mode, normalize, tls, check_name })
    }

    /// The id of a schema under a subject; registers it where that is allowed. `kind` is the schema's type where it is
    /// not Avro.
    ///
    /// # Errors
    /// With the cause; see [`unavailable`].
    pub(crate) fn id(&self, subject: &str, schema: &str, kind: Option<&str>) -> Result<u32, String> {
        let name = percent_encoding::utf8_percent_encode(subject, percent_encoding::NON_ALPHANUMERIC);
        let mut path = match self.mode {
            Mode::Register => format!("/subjects/{name}/versions"),
            Mode::Find => format!("/subjects/{name}"),
            Mode::Latest => format!("/subjects/{name}/versions/latest"),
        };
        if self.normalize && self.mode != Mode::Latest {
            path.push_str("?normalize=true");
        }
        let body = match (self.mode, kind) {
            (Mode::Latest, _) => None,
            (_, None) => Some(json!({ "schema": schema }).to_string()),
            (_, Some(kind)) => Some(json!({ "schema": schema, "schemaType": kind }).to_string()),
        };
        let mut last = String::new();
        for endpoint in &self.endpoints {
            let at = format!("{}:{}", endpoint.host, endpoint.port);
            match self.ask(endpoint, &path, body.as_deref()) {
                Ok((200..=299, answer)) => {
                    if self.mode == Mode::Latest {
                        let latest = answer.get("schema").and_then(Value::as_str).unwrap_or("");
                        if !writes_alike(schema, latest, kind.is_none()) {
                            return Err(format!(
                                "use.latest.version: the latest schema of subject {subject} is not the one of these \
                                 records; they are written as {schema}"
                            ));
                        }
                    }
                    let id = answer.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
                    return id.ok_or_else(|| format!("the registry gave no id for subject {subject}"));
                }
                Ok((status @ (429 | 500..=599), answer)) => {
                    last = format!("{UNAVAILABLE}{at} answered {status}: {}", message(&answer));
                }
                Ok((status @ 409, answer)) => {
                    let why = message(&answer);
                    return Err(format!(
                        "the schema of subject {subject} is not compatible with an earlier one ({status}: {why}); \
                         change the subject's compatibility level, or the table back"
                    ));
                }
                Ok((status, answer)) => {
                    let why = message(&answer);
                    let hint = match (status, self.mode) {
                        (404, Mode::Find) => "; auto.register.schemas is false and the schema is not there",
                        (401 | 403, _) => "; see basic.auth.credentials.source and basic.auth.user.info",
                        _ => "",
                    };
                    return Err(format!("the registry refused subject {subject} ({status}: {why}){hint}"));
                }
                Err(e) => last = format!("{UNAVAILABLE}{at} (schema.registry.url): {e}"),
            }
        }
        Err(last)
    }

    /// The registry of a table's format: urls by comma, `user:password`, a bearer token. `None` where a url is none.
    pub(crate) fn of_table(
        urls: &str,
        user_info: Option<&str>,
        bearer: Option<&str>,
        addresses: &AddressMap,
    ) -> Option<Self> {
        let mut endpoints = urls.split(',').map(Endpoint::parse).collect::<Option<Vec<_>>>()?;
        for endpoint in &mut endpoints {
            let (host, port) = addresses.resolve(&endpoint.host, endpoint.port);
            endpoint.to = Some((host.to_owned(), port));
        }
        let own = endpoints.iter().find_map(|e| e.user_info.clone());
        let authorization = match (user_info.map(str::to_owned).or(own), bearer) {
            (Some(user), _) => Some(format!("Basic {}", STANDARD.encode(user))),
            (None, Some(token)) => Some(format!("Bearer {token}")),
            (None, None) => None,
        };
        let tls = if endpoints.iter().any(|e| e.tls) {
            Some(SslConnector::builder(SslMethod::tls()).ok()?.build())
        } else {
            None
        };
        let property = "schema.registry.url".to_owned();
        Some(Self {
            property,
            endpoints,
            authorization,
            mode: Mode::Register,
            normalize: false,
            tls,
            check_name: true,
        })
    }

    /// The schema of an id, as JSON text.
    ///
    /// # Errors
    /// With the cause; see [`unavailable`].
    pub(crate) fn schema(&self, id: u32) -> Result<String, String> {
        let mut last = String::new();
        for endpoint in &self.endpoints {
            let at = format!("{}:{}", endpoint.host, endpoint.port);
            match self.ask(endpoint, &format!("/schemas/ids/{id}"), None) {
                Ok((200..=299, answer)) => {
                    let schema = answer.get("schema").and_then(Value::as_str);
                    return schema
                        .map(str::to_owned)
                        .ok_or_else(|| format!("the registry gave no schema {id}"));
                }
                Ok((status @ (429 | 500..=599), answer)) => {
                    last = format!("{UNAVAILABLE}{at} answered {status}: {}", message(&answer));
                }
                Ok((status, answer)) => {
                    return Err(format!("the registry refused schema {id} ({status}: {})", message(&answer)));
                }
                Err(e) => last = format!("{UNAVAILABLE}{at}: {e}"),
            }
        }
        Err(last)
    }

    /// Whether one of the addresses answers, and takes the credentials.
    ///
    /// # Errors
    /// [`EventError::Registry`].
    pub(super) fn ready(&self) -> Result<(), EventError> {
        let failed = |cause: String, may_heal| {
            Err(EventError::Registry { property: self.property.clone(), cause, may_heal })
        };
        let mut last = String::new();
        for endpoint in &self.endpoints {
            let at = format!("{}:{}", endpoint.host, endpoint.port);
            match self.ask(endpoint, "/config", None) {
                Ok((401, answer)) => {
                    let why = message(&answer);
                    let hint = "see basic.auth.credentials.source and basic.auth.user.info";
                    return failed(format!("the registry at {at} refuses us (401: {why}); {hint}"), false);
                }
                Ok((status @ 500..=599, answer)) => {
                    last = format!("{UNAVAILABLE}{at} answered {status}: {}", message(&answer));
                }
                Ok(_) => return Ok(()),
                Err(e) => last = format!("{UNAVAILABLE}{at}: {e}"),
            }
        }
        failed(last, true)
    }

    fn ask(&self, endpoint: &Endpoint, path: &str, body: Option<&str>) -> std::io::Result<(u16, Value)> {
        let (host, port) = match &endpoint.to {
            Some((host, port)) => (host.as_str(), *port),
            None => (endpoint.host.as_str(), endpoint.port),
        };
        let address = (host, port)
            .to_socket_addrs()?
            .next()
            .ok_or_else(|| std::io::Error::other("the name has no address"))?;
        let tcp = TcpStream::connect_timeout(&address, TIMEOUT)?;
        tcp.set_read_timeout(Some(TIMEOUT))?;
        tcp.set_write_timeout(Some(TIMEOUT))?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            Some(tls) if endpoint.tls => {
                let tls = tls.configure()?.verify_hostname(self.check_name);
                Box::new(tls.connect(&endpoint.host, tcp).map_err(std::io::Error::other)?)
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
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.unwrap_or("").as_bytes())?;
        stream.flush()?;
        answer(&mut BufReader::new(stream))
    }
}

/// Whether what one schema writes is what the other reads: the same but for what does not show in the bytes.
fn writes_alike(one: &str, other: &str, avro: bool) -> bool {
    let lines =
        |text: &str| text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    if !avro {
        let (one, other): (Vec<String>, Vec<String>) = (lines(one), lines(other));
        return one == other;
    }
    match (serde_json::from_str(one), serde_json::from_str(other)) {
        (Ok(mut one), Ok(mut other)) => {
            bare(&mut one);
            bare(&mut other);
            one == other
        }
        _ => false,
    }
}

/// Leaves of an Avro schema what decides on the bytes.
fn bare(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|k, _| {
                let aside = ["doc", "aliases", "default", "order", "logicalType", "precision", "scale"];
                !aside.contains(&k.as_str()) && !k.starts_with("connect.")
            });
            map.values_mut().for_each(bare);
            // {"type": "int"} is "int"
            if let (1, Some(Value::String(_))) = (map.len(), map.get("type")) {
                if let Some(ty) = map.get_mut("type").map(Value::take) {
                    *schema = ty;
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(bare),
        _ => {}
    }
}

fn message(answer: &Value) -> &str {
    answer.get("message").and_then(Value::as_str).unwrap_or("no message")
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
        let e = Endpoint::parse("http://user:p%40w@registry:8081/apis/ccompat/v7/").unwrap();
        assert_eq!((e.host.as_str(), e.port, e.path.as_str()), ("registry", 8081, "/apis/ccompat/v7"));
        assert_eq!(e.user_info.as_deref(), Some("user:p@w"));
        assert!(Endpoint::parse("registry:8081").is_none());
    }

    /// Serves one request with this answer and gives what was asked.
    fn serve(reply: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://kc:pw@{}/api", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 4096];
            let n = stream.read(&mut asked).unwrap();
            asked.truncate(n);
            stream.write_all(reply.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (url, served)
    }

    fn registry(url: &str, more: &[(&str, &str)]) -> Registry {
        let mut all = vec![("value.converter.schema.registry.url", url)];
        all.extend_from_slice(more);
        Registry::new(&Options::new("value.converter.", &all), &AddressMap::default()).unwrap()
    }

    #[test]
    fn a_schema_is_registered_under_its_subject_with_the_credentials_of_the_address() {
        let (url, served) = serve("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{\"id\":42}");
        assert_eq!(registry(&url, &[]).id("t-value", "\"string\"", None), Ok(42));
        let asked = served.join().unwrap();
        assert!(asked.starts_with("POST /api/subjects/t%2Dvalue/versions HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("Authorization: Basic a2M6cHc=\r\n"), "{asked}");
    }

    #[test]
    fn the_latest_schema_is_taken_where_nothing_is_registered() {
        let (url, served) = serve("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"id\":3}");
        let latest = [
            ("value.converter.auto.register.schemas", "false"),
            ("value.converter.use.latest.version", "true"),
        ];
        assert_eq!(registry(&url, &latest).id("t-value", "\"string\"", None), Ok(3));
        assert!(served.join().unwrap().starts_with("GET /api/subjects/t%2Dvalue/versions/latest "));
    }

    #[test]
    fn a_registry_is_looked_for_at_start() {
        let (url, _served) = serve("HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}");
        assert_eq!(registry(&url, &[]).ready(), Ok(()));
        let (url, _served) = serve("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}");
        let refused = registry(&url, &[]).ready().unwrap_err();
        assert!(!refused.may_heal() && refused.to_string().contains("basic.auth.user.info"), "{refused}");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let away = registry(&format!("http://127.0.0.1:{port}"), &[]).ready().unwrap_err();
        assert!(away.may_heal(), "{away}");
        assert!(away.to_string().starts_with("property value.converter.schema.registry.url: "), "{away}");
    }

    #[test]
    fn a_latest_schema_must_write_what_ours_does() {
        let ours = r#"{"type":"record","name":"V","fields":[{"name":"a","type":{"type":"int","connect.type":"int16"}}],"connect.name":"V"}"#;
        let alike = r#"{"type":"record","doc":"x","name":"V","fields":[{"name":"a","type":"int","doc":"y","default":3}]}"#;
        let other =
            r#"{"type":"record","name":"V","fields":[{"name":"b","type":"int"},{"name":"a","type":"int"}]}"#;
        assert!(writes_alike(ours, alike, true) && !writes_alike(ours, other, true));
        assert!(writes_alike("message A {\n}\n", "message A {\n\n  }", false));
    }

    #[test]
    fn credentials_come_from_where_the_source_says() {
        let head = |more: &[(&str, &str)]| {
            let mut all = vec![("value.converter.schema.registry.url", "http://kc:pw@h:1")];
            all.extend_from_slice(more);
            let made = Registry::new(&Options::new("value.converter.", &all), &AddressMap::default());
            made.map(|r| r.authorization).map_err(|e| e.to_string())
        };
        let basic = |text: &str| Ok(Some(format!("Basic {}", STANDARD.encode(text))));
        let source = "value.converter.basic.auth.credentials.source";
        assert_eq!(head(&[]), basic("kc:pw"));
        let info = ("value.converter.basic.auth.user.info", "a:b");
        assert_eq!(head(&[(source, "USER_INFO"), info]), basic("a:b"));
        let jaas = "x.PlainLoginModule required username=\"u\" password=\"p\";";
        assert_eq!(
            head(&[(source, "SASL_INHERIT"), ("value.converter.sasl.jaas.config", jaas)]),
            basic("u:p")
        );
        let missing = head(&[(source, "SASL_INHERIT")]).unwrap_err();
        assert!(missing.contains("value.converter.sasl.jaas.config"), "{missing}");
        assert!(head(&[(source, "OTHER")]).unwrap_err().contains("SASL_INHERIT"));
    }

    #[test]
    fn what_may_heal_is_told_from_what_may_not() {
        let (url, _served) =
            serve("HTTP/1.1 409 Conflict\r\nContent-Length: 17\r\n\r\n{\"message\":\"old\"}");
        let refused = registry(&url, &[]).id("t-value", "\"int\"", None).unwrap_err();
        assert!(refused.contains("not compatible") && refused.contains("old") && !unavailable(&refused));
        let (url, _served) = serve("HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}");
        assert!(unavailable(&registry(&url, &[]).id("t-value", "\"int\"", None).unwrap_err()));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let nobody = registry(&format!("http://127.0.0.1:{port}"), &[]);
        assert!(unavailable(&nobody.id("t-value", "\"int\"", None).unwrap_err()));
    }
}
