//! The Java clients' property names, translated for librdkafka by one table.
//!
//! `kafka:FILE`, SQL's `properties.*` and a connector's `producer.override.*` all hold what a Java client would
//! take (the reference is Kafka's own documentation of producer, consumer and admin configs); this is the only
//! place that knows librdkafka's names (its CONFIGURATION.md).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::jaas;
use crate::config::AddressMap;
use crate::error::{Error, Result};

/// Which clients a property is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Producer,
    Consumer,
}

/// How a property is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    /// Under the same name.
    Same,
    /// Under another name.
    Name(&'static str),
    /// In kilobytes, under another name.
    Kilobytes(&'static str),
    /// Java's class of the value decides nothing here.
    Nothing,
    /// Read with others together.
    Special,
}

const TABLE: &[(&str, Scope, To)] = &[
    ("bootstrap.servers", Scope::All, To::Special),
    ("client.id", Scope::All, To::Same),
    ("client.rack", Scope::Consumer, To::Same),
    ("client.dns.lookup", Scope::All, To::Same),
    ("security.protocol", Scope::All, To::Special),
    ("sasl.mechanism", Scope::All, To::Name("sasl.mechanisms")),
    ("sasl.jaas.config", Scope::All, To::Special),
    ("sasl.kerberos.service.name", Scope::All, To::Nothing),
    ("ssl.truststore.type", Scope::All, To::Special),
    ("ssl.truststore.location", Scope::All, To::Special),
    ("ssl.truststore.password", Scope::All, To::Special),
    ("ssl.truststore.certificates", Scope::All, To::Name("ssl.ca.pem")),
    ("ssl.keystore.type", Scope::All, To::Special),
    ("ssl.keystore.location", Scope::All, To::Special),
    ("ssl.keystore.password", Scope::All, To::Special),
    ("ssl.keystore.certificate.chain", Scope::All, To::Name("ssl.certificate.pem")),
    ("ssl.keystore.key", Scope::All, To::Name("ssl.key.pem")),
    ("ssl.key.password", Scope::All, To::Same),
    ("ssl.endpoint.identification.algorithm", Scope::All, To::Special),
    ("ssl.cipher.suites", Scope::All, To::Same),
    ("ssl.protocol", Scope::All, To::Nothing),
    ("ssl.enabled.protocols", Scope::All, To::Nothing),
    ("ssl.provider", Scope::All, To::Nothing),
    ("request.timeout.ms", Scope::Producer, To::Same),
    ("retry.backoff.ms", Scope::All, To::Same),
    ("retry.backoff.max.ms", Scope::All, To::Same),
    ("reconnect.backoff.ms", Scope::All, To::Same),
    ("reconnect.backoff.max.ms", Scope::All, To::Same),
    ("socket.connection.setup.timeout.ms", Scope::All, To::Same),
    ("connections.max.idle.ms", Scope::All, To::Same),
    ("metadata.max.age.ms", Scope::All, To::Same),
    ("receive.buffer.bytes", Scope::All, To::Name("socket.receive.buffer.bytes")),
    ("send.buffer.bytes", Scope::All, To::Name("socket.send.buffer.bytes")),
    ("acks", Scope::Producer, To::Special),
    ("enable.idempotence", Scope::Producer, To::Nothing),
    ("transactional.id", Scope::Producer, To::Nothing),
    ("transaction.timeout.ms", Scope::Producer, To::Same),
    ("compression.type", Scope::Producer, To::Same),
    ("linger.ms", Scope::Producer, To::Same),
    ("batch.size", Scope::Producer, To::Same),
    ("buffer.memory", Scope::Producer, To::Kilobytes("queue.buffering.max.kbytes")),
    ("max.request.size", Scope::Producer, To::Name("message.max.bytes")),
    ("max.in.flight.requests.per.connection", Scope::Producer, To::Same),
    ("delivery.timeout.ms", Scope::Producer, To::Same),
    ("retries", Scope::Producer, To::Same),
    ("max.block.ms", Scope::Producer, To::Nothing),
    ("partitioner.class", Scope::Producer, To::Nothing),
    ("fetch.min.bytes", Scope::Consumer, To::Same),
    ("fetch.max.bytes", Scope::Consumer, To::Same),
    ("fetch.max.wait.ms", Scope::Consumer, To::Name("fetch.wait.max.ms")),
    ("max.partition.fetch.bytes", Scope::Consumer, To::Same),
    ("group.id", Scope::Consumer, To::Same),
    ("check.crcs", Scope::Consumer, To::Same),
    ("isolation.level", Scope::Consumer, To::Nothing),
    ("auto.offset.reset", Scope::Consumer, To::Nothing),
    ("enable.auto.commit", Scope::Consumer, To::Nothing),
    ("auto.commit.interval.ms", Scope::Consumer, To::Nothing),
    ("max.poll.records", Scope::Consumer, To::Nothing),
    ("max.poll.interval.ms", Scope::Consumer, To::Nothing),
    ("session.timeout.ms", Scope::Consumer, To::Nothing),
    ("heartbeat.interval.ms", Scope::Consumer, To::Nothing),
    ("partition.assignment.strategy", Scope::Consumer, To::Nothing),
    ("partition.discovery.interval.ms", Scope::Consumer, To::Nothing),
    ("key.serializer", Scope::All, To::Nothing),
    ("value.serializer", Scope::All, To::Nothing),
    ("key.deserializer", Scope::All, To::Nothing),
    ("value.deserializer", Scope::All, To::Nothing),
    ("interceptor.classes", Scope::All, To::Nothing),
    ("metric.reporters", Scope::All, To::Nothing),
];

/// Client settings under librdkafka's names. `Debug` shows names only: values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientSettings {
    bootstrap: Vec<String>,
    all: BTreeMap<String, String>,
    producer: BTreeMap<String, String>,
    consumer: BTreeMap<String, String>,
}

impl fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSettings")
            .field("bootstrap", &self.bootstrap)
            .field("all", &self.all.keys())
            .field("producer", &self.producer.keys())
            .field("consumer", &self.consumer.keys())
            .finish()
    }
}

impl ClientSettings {
    /// Translates Java client properties; later ones win. Unknown ones are warned of and left out, as the Java
    /// clients do.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] for what librdkafka cannot do (a JKS store, Kerberos, OAuth), with the way out.
    pub fn from_java(properties: &[(String, String)], addresses: &AddressMap) -> Result<Self> {
        let java: BTreeMap<&str, &str> = properties.iter().map(|(n, v)| (n.trim(), v.trim())).collect();
        let mut out = Self::default();
        for (name, value) in &java {
            let Some((_, scope, to)) = TABLE.iter().find(|(known, ..)| known == name) else {
                tracing::warn!("Kafka client property {name} is not known and has no effect");
                continue;
            };
            let map = match scope {
                Scope::All => &mut out.all,
                Scope::Producer => &mut out.producer,
                Scope::Consumer => &mut out.consumer,
            };
            match to {
                To::Same => drop(map.insert((*name).to_owned(), (*value).to_owned())),
                To::Name(other) => drop(map.insert((*other).to_owned(), (*value).to_owned())),
                To::Kilobytes(other) => {
                    let bytes: u64 = value.parse().map_err(|_| {
                        Error::config(format!("Kafka client property {name} = {value:?} is not a number"))
                    })?;
                    map.insert((*other).to_owned(), (bytes / 1024).max(1).to_string());
                }
                To::Nothing | To::Special => {}
            }
        }
        let get = |name: &str| java.get(name).copied().filter(|v| !v.is_empty());
        out.bootstrap =
            get("bootstrap.servers").map(|list| brokers(list, addresses)).transpose()?.unwrap_or_default();
        if let Some(acks) = get("acks").filter(|a| !matches!(*a, "all" | "-1")) {
            return Err(Error::config(format!("Kafka client property acks = {acks:?} cannot be used"))
                .because("batches are Kafka transactions, which need acks=all")
                .next("remove acks, or set it to all"));
        }
        out.security(&get)?;
        out.stores(&get)?;
        Ok(out)
    }

    fn security<'a>(&mut self, get: &impl Fn(&str) -> Option<&'a str>) -> Result<()> {
        if let Some(protocol) = get("security.protocol") {
            self.all.insert("security.protocol".into(), protocol.to_ascii_lowercase());
        }
        let mechanism = get("sasl.mechanism").unwrap_or("");
        if mechanism.eq_ignore_ascii_case("GSSAPI") || mechanism.eq_ignore_ascii_case("OAUTHBEARER") {
            return Err(Error::config(format!("sasl.mechanism {mechanism} is not supported"))
                .because("PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are, and client certificates (security.protocol=SSL)")
                .next("use one of these mechanisms"));
        }
        if let Some(config) = get("sasl.jaas.config") {
            let login = jaas::parse(config)?;
            let insert = |map: &mut BTreeMap<String, String>, name: &str, value: Option<String>| {
                if let Some(value) = value {
                    map.insert(name.to_owned(), value);
                }
            };
            insert(&mut self.all, "sasl.username", login.username);
            insert(&mut self.all, "sasl.password", login.password);
        }
        if let Some(algorithm) = self.endpoint_identification(get) {
            self.all.insert("ssl.endpoint.identification.algorithm".into(), algorithm);
        }
        Ok(())
    }

    fn endpoint_identification<'a>(&self, get: &impl Fn(&str) -> Option<&'a str>) -> Option<String> {
        // An empty value switches the check off in Java; it is filtered out by `get` as nothing.
        get("ssl.endpoint.identification.algorithm").map(str::to_ascii_lowercase)
    }

    fn stores<'a>(&mut self, get: &impl Fn(&str) -> Option<&'a str>) -> Result<()> {
        if let Some(file) = get("ssl.truststore.location") {
            match store_type(get("ssl.truststore.type"), file) {
                StoreType::Pem => drop(self.all.insert("ssl.ca.location".into(), file.to_owned())),
                other => return Err(convert_truststore(file, other)),
            }
        }
        if let Some(file) = get("ssl.keystore.location") {
            match store_type(get("ssl.keystore.type"), file) {
                StoreType::Pem => {
                    self.all.insert("ssl.certificate.location".into(), file.to_owned());
                    self.all.insert("ssl.key.location".into(), file.to_owned());
                }
                StoreType::Pkcs12 => {
                    self.all.insert("ssl.keystore.location".into(), file.to_owned());
                    if let Some(password) = get("ssl.keystore.password") {
                        self.all.insert("ssl.keystore.password".into(), password.to_owned());
                    }
                }
                StoreType::Jks => return Err(convert_keystore(file)),
            }
        }
        Ok(())
    }

    /// The brokers to begin with.
    pub fn bootstrap(&self) -> String {
        self.bootstrap.join(",")
    }

    /// Sets the brokers.
    ///
    /// # Errors
    /// [`crate::Kind::Config`] when an entry is not `host:port`.
    pub fn set_bootstrap(&mut self, list: &str, addresses: &AddressMap) -> Result<()> {
        self.bootstrap = brokers(list, addresses)?;
        Ok(())
    }

    /// A librdkafka configuration for a producer.
    pub fn producer(&self) -> rdkafka::ClientConfig {
        self.config(&self.producer)
    }

    /// A librdkafka configuration for a consumer.
    pub fn consumer(&self) -> rdkafka::ClientConfig {
        self.config(&self.consumer)
    }

    /// A librdkafka configuration for administration.
    pub fn admin(&self) -> rdkafka::ClientConfig {
        self.config(&BTreeMap::new())
    }

    fn config(&self, more: &BTreeMap<String, String>) -> rdkafka::ClientConfig {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        config.set("client.id", "millstream");
        for (name, value) in self.all.iter().chain(more) {
            config.set(name, value);
        }
        config
    }
}

fn brokers(list: &str, addresses: &AddressMap) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for entry in list.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        // Java takes a listener's name in front too: PLAINTEXT://host:port.
        let bare = entry.split_once("://").map_or(entry, |(_, rest)| rest);
        let parsed = bare.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
        let Some((host, port)) = parsed.filter(|(host, _)| !host.is_empty()) else {
            return Err(Error::config(format!("Kafka broker {entry:?} is not HOST:PORT"))
                .next("write, for example, localhost:9092; several with commas"));
        };
        let bare_host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let (host, port) = addresses.resolve(bare_host, port);
        out.push(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") });
    }
    if out.is_empty() {
        return Err(
            Error::config("no Kafka broker is named").next("write, for example, kafka://localhost:9092")
        );
    }
    Ok(out)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoreType {
    Pem,
    Pkcs12,
    Jks,
}

fn store_type(named: Option<&str>, file: &str) -> StoreType {
    let by_name = match named.map(str::to_ascii_uppercase).as_deref() {
        Some("PEM") => Some(StoreType::Pem),
        Some("PKCS12") => Some(StoreType::Pkcs12),
        Some("JKS") => Some(StoreType::Jks),
        _ => None,
    };
    // Java's default is JKS, but keytool has written PKCS12 for years: the file knows better.
    by_name.unwrap_or_else(|| {
        let mut first = [0u8; 4];
        let read = std::fs::File::open(file).and_then(|mut f| std::io::Read::read_exact(&mut f, &mut first));
        let extension =
            Path::new(file).extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        match (read.is_ok(), first) {
            (true, [b'-', ..]) => StoreType::Pem,
            (true, [0x30, ..]) => StoreType::Pkcs12,
            (true, _) => StoreType::Jks,
            (false, _) => match extension.as_str() {
                "pem" | "crt" | "cer" => StoreType::Pem,
                "p12" | "pfx" => StoreType::Pkcs12,
                _ => StoreType::Jks,
            },
        }
    })
}

fn convert_truststore(file: &str, kind: StoreType) -> Error {
    let from = if kind == StoreType::Jks { "JKS" } else { "PKCS12" };
    Error::config(format!("the {from} truststore {file} cannot be read; a PEM file can"))
        .because("librdkafka takes certificate authorities as PEM")
        .next(format!(
            "keytool -list -rfc -keystore {file} > ca.pem, then set ssl.truststore.type=PEM and ssl.truststore.location=ca.pem"
        ))
}

fn convert_keystore(file: &str) -> Error {
    Error::config(format!("the JKS keystore {file} cannot be read; a PKCS12 or PEM file can"))
        .because("librdkafka takes a client's key as PKCS12 or PEM")
        .next(format!(
            "keytool -importkeystore -srckeystore {file} -destkeystore client.p12 -deststoretype PKCS12, then set ssl.keystore.type=PKCS12 and ssl.keystore.location=client.p12"
        ))
}

/// Reads a Java properties file (`java.util.Properties.load`).
///
/// # Errors
/// When it cannot be read.
pub fn read_file(path: &Path) -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::config(format!("cannot read the Kafka client properties {}", path.display()))
            .with_source(e)
            .next("--log kafka:FILE takes a file of properties, --log kafka://HOST:PORT a broker")
    })?;
    Ok(parse_properties(&text))
}

fn parse_properties(text: &str) -> Vec<(String, String)> {
    let mut out = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut line = line.trim_start().to_owned();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        while line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            line.pop();
            line.push_str(lines.next().unwrap_or("").trim_start());
        }
        let mut key = String::new();
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.peek().copied() {
            if matches!(c, '=' | ':') || c.is_whitespace() {
                break;
            }
            chars.next();
            key.push(if c == '\\' { unescape(&mut chars) } else { c });
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.next_if(|c| matches!(c, '=' | ':')).is_some() {
            while chars.next_if(|c| c.is_whitespace()).is_some() {}
        }
        let mut value = String::new();
        while let Some(c) = chars.next() {
            value.push(if c == '\\' { unescape(&mut chars) } else { c });
        }
        out.push((key, value));
    }
    out
}

fn unescape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> char {
    match chars.next() {
        Some('n') => '\n',
        Some('t') => '\t',
        Some('r') => '\r',
        Some('f') => '\u{c}',
        Some('u') => {
            let hex: String = (0..4).filter_map(|_| chars.next()).collect();
            u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
        }
        Some(other) => other,
        None => '\\',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn java(pairs: &[(&str, &str)]) -> Result<ClientSettings> {
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        ClientSettings::from_java(&pairs, &AddressMap::default())
    }

    #[test]
    fn javas_names_become_librdkafkas() {
        let settings = java(&[
            ("bootstrap.servers", "a:9092, SSL://b:9093"),
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            (
                "sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"ann\" password=\"s\\\"x\";",
            ),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", "/etc/ca.pem"),
            ("max.request.size", "5000000"),
            ("buffer.memory", "33554432"),
            ("fetch.max.wait.ms", "7"),
            ("key.serializer", "x"),
        ])
        .unwrap();
        let producer = settings.producer();
        for (name, value) in [
            ("bootstrap.servers", "a:9092,b:9093"),
            ("security.protocol", "sasl_ssl"),
            ("sasl.mechanisms", "SCRAM-SHA-512"),
            ("sasl.username", "ann"),
            ("sasl.password", "s\"x"),
            ("ssl.ca.location", "/etc/ca.pem"),
            ("message.max.bytes", "5000000"),
            ("queue.buffering.max.kbytes", "32768"),
        ] {
            assert_eq!(producer.get(name), Some(value), "{name}");
        }
        assert_eq!(producer.get("fetch.wait.max.ms"), None);
        assert_eq!(settings.consumer().get("fetch.wait.max.ms"), Some("7"));
        assert!(!format!("{settings:?}").contains("s\"x"));
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_the_way_out() {
        let screen = |pairs: &[(&str, &str)]| java(pairs).unwrap_err().screen();
        let jks = screen(&[("ssl.truststore.location", "/x/trust.jks")]);
        assert!(jks.contains("keytool -list -rfc -keystore /x/trust.jks"), "{jks}");
        assert!(screen(&[("ssl.keystore.location", "/x/k.jks")]).contains("-deststoretype PKCS12"));
        assert!(screen(&[("acks", "1")]).contains("acks=all"));
        assert!(screen(&[("sasl.mechanism", "GSSAPI")]).contains("not supported"));
        assert!(screen(&[("bootstrap.servers", "nonsense")]).contains("HOST:PORT"));
    }

    #[test]
    fn properties_files_are_javas() {
        let text = "# comment\n! too\na=1\nb : two words \\\n   more\n c\\:d\\u0041 = x\\ty\n\nempty=\n";
        let pairs = parse_properties(text);
        let pairs: Vec<_> = pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a", "1"), ("b", "two words more"), ("c:dA", "x\ty"), ("empty", "")]);
    }

    #[test]
    fn brokers_are_mapped() {
        let map = AddressMap::new(vec!["kafka:9092=127.0.0.1:19092".parse().unwrap()]);
        assert_eq!(brokers("kafka:9092,other:1", &map).unwrap(), ["127.0.0.1:19092", "other:1"]);
    }
}
