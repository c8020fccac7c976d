//! A real schema registry behind TLS: converters and tables with trust, client certificates and a login.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use millstream::config::AddressMap;
use millstream::event::record::Pipeline as _;
use millstream::log::Batch;
use millstream::transform::Chain;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::PKey;
use openssl::ssl::{HandshakeError, SslAcceptor, SslFiletype, SslMethod, SslVerifyMode};
use openssl::stack::Stack;
use openssl::x509::X509;

use super::registry::Registry;
use super::replication::Pki;
use super::transforms::records;
use crate::support::place::Place;

/// The name in the server's certificate; `--connect-to` leads from it to the test's port.
const URL: &str = "https://db.test:8443/apis/ccompat/v7";
const LOGIN: &str = "kc:p:w d";

/// What the front asks of its clients.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asks {
    Nothing,
    Certificate,
    Login,
}

/// Takes TLS off in front of a registry; gives its port.
fn front(pki: &Pki, registry: &Registry, asks: Asks) -> u16 {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate_chain_file(pki.path("server.crt")).unwrap();
    acceptor.set_private_key_file(pki.path("server.key"), SslFiletype::PEM).unwrap();
    if asks == Asks::Certificate {
        acceptor.set_ca_file(pki.path("ca.crt")).unwrap();
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    let acceptor = acceptor.build();
    let upstream = registry.url.split('/').nth(2).unwrap().to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let _ = pass(&acceptor, client, &upstream, asks);
        }
    });
    port
}

/// One request and its answer.
fn pass(acceptor: &SslAcceptor, client: TcpStream, upstream: &str, asks: Asks) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut client = match acceptor.accept(client) {
        Ok(client) => BufReader::new(client),
        Err(HandshakeError::Failure(mut stopped)) => {
            // What was sent meanwhile is read: a reset would take away the alert that says why.
            stopped.get_ref().shutdown(std::net::Shutdown::Write)?;
            return stopped.get_mut().read_to_end(&mut Vec::new()).map(drop);
        }
        Err(e) => return Err(std::io::Error::other(e)),
    };
    let mut request = String::new();
    let mut length = 0;
    while !request.ends_with("\r\n\r\n") && client.read_line(&mut request)? > 0 {
        let line = request.lines().next_back().unwrap_or("");
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    let mut answer = Vec::new();
    // base64 of LOGIN
    if asks == Asks::Login && !request.contains("\r\nAuthorization: Basic a2M6cDp3IGQ=\r\n") {
        let text = r#"{"error_code":40101,"message":"who are you"}"#;
        write!(answer, "HTTP/1.1 401 Unauthorized\r\nContent-Length: {}\r\n\r\n{text}", text.len())?;
    } else {
        let mut server = TcpStream::connect(upstream)?;
        server.write_all(request.as_bytes())?;
        server.write_all(&body)?;
        server.read_to_end(&mut answer)?;
    }
    client.get_mut().write_all(&answer)?;
    client.get_mut().shutdown().map(drop).map_err(std::io::Error::other)
}

fn chain(class: &str, port: u16, more: &[(&str, &str)]) -> Result<Chain, String> {
    let mut properties = vec![
        ("key.converter".to_owned(), "org.apache.kafka.connect.storage.StringConverter"),
        ("value.converter".to_owned(), class),
        ("value.converter.schema.registry.url".to_owned(), URL),
    ];
    properties.extend(more.iter().map(|(name, value)| (format!("value.converter.{name}"), *value)));
    let properties: Vec<(&str, &str)> = properties.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    let mut addresses = AddressMap::default();
    addresses.push(format!("db.test:8443=127.0.0.1:{port}").parse().unwrap());
    Chain::new(&properties, &addresses).map_err(|e| e.to_string())
}

const AVRO: &str = "io.confluent.connect.avro.AvroConverter";
const PROTOBUF: &str = "io.confluent.connect.protobuf.ProtobufConverter";

/// Writes some records and finds their schemas, asked without TLS, in the registry.
fn works(registry: &Registry, class: &str, port: u16, more: &[(&str, &str)]) {
    let mut chain = chain(class, port, more).unwrap();
    chain.ready().unwrap();
    let source =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/transforms/adaptive/records.jsonl");
    let mut written = 0;
    for mut record in records(&source).into_iter().take(20) {
        record.topic = format!("tls-{}-{}", class == AVRO, record.topic);
        let mut batch = Batch::new();
        if let Err(e) = chain.process(record, &mut batch) {
            assert!(e.to_string().contains("null in an array"), "{e}");
            continue;
        }
        let Some(bytes) = batch.iter().next().unwrap().value else { continue };
        if class == AVRO {
            registry.decode(bytes).unwrap();
        } else {
            let id = u32::from_be_bytes(bytes[1..5].try_into().unwrap());
            let answer = registry.get(&format!("/schemas/ids/{id}")).unwrap();
            assert_eq!(answer["schemaType"], "PROTOBUF");
        }
        written += 1;
    }
    assert!(written > 5, "{written}");
}

/// Why a connector does not start, and whether it is told to wait.
fn fails(port: u16, more: &[(&str, &str)]) -> (String, bool) {
    match chain(AVRO, port, more) {
        Err(cause) => (cause, false),
        Ok(chain) => {
            let error = chain.ready().unwrap_err();
            (error.to_string(), error.may_heal())
        }
    }
}

/// That it fails for good, and what it says.
#[track_caller]
fn says(port: u16, more: &[(&str, &str)], wanted: &[&str]) {
    let (cause, may_heal) = fails(port, more);
    assert!(!may_heal, "{cause}");
    for wanted in wanted {
        assert!(cause.contains(wanted), "{wanted}: {cause}");
    }
}

struct Files {
    pki: Pki,
    /// Certificate and locked key in one file.
    client: String,
    client_p12: String,
    trust_p12: String,
}

impl Files {
    fn new() -> Self {
        let pki = Pki::new();
        let read = |name: &str| std::fs::read_to_string(pki.path(name)).unwrap();
        let path = |name: &str| pki.path(name).to_str().unwrap().to_owned();
        std::fs::write(pki.path("client.pem"), read("client.locked") + &read("client.crt")).unwrap();
        let certificate = |name: &str| X509::from_pem(read(name).as_bytes()).unwrap();
        let key = PKey::private_key_from_pem(read("client.key").as_bytes()).unwrap();
        let client = Pkcs12::builder().pkey(&key).cert(&certificate("client.crt")).build2("pass").unwrap();
        std::fs::write(pki.path("client.p12"), client.to_der().unwrap()).unwrap();
        let mut authorities = Stack::new().unwrap();
        authorities.push(certificate("ca.crt")).unwrap();
        let trust = Pkcs12::builder().ca(authorities).build2("pass").unwrap();
        std::fs::write(pki.path("trust.p12"), trust.to_der().unwrap()).unwrap();
        let (client, client_p12, trust_p12) = (path("client.pem"), path("client.p12"), path("trust.p12"));
        Self { pki, client, client_p12, trust_p12 }
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.pki.path(name)).unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.pki.path(name).to_str().unwrap().to_owned()
    }
}

#[test]
fn a_registry_is_trusted_by_its_truststore_alone() {
    let registry = Registry::start().unwrap();
    let files = Files::new();
    let port = front(&files.pki, &registry, Asks::Nothing);
    let pem = ("schema.registry.ssl.truststore.type", "PEM");
    let location = "schema.registry.ssl.truststore.location";
    let inline = "schema.registry.ssl.truststore.certificates";
    let (ca, other, one_line) =
        (files.path("ca.crt"), files.path("other.crt"), files.text("ca.crt").replace('\n', " "));
    for class in [AVRO, PROTOBUF] {
        works(&registry, class, port, &[pem, (location, &ca)]);
        works(&registry, class, port, &[pem, (inline, &files.text("ca.crt"))]);
    }
    works(&registry, AVRO, port, &[pem, (inline, &one_line)]);
    works(&registry, AVRO, port, &[("ssl.truststore.location", &ca)]);
    // the server's own certificate, without who signed it
    works(&registry, AVRO, port, &[(location, &files.path("server.crt"))]);
    let password = ("schema.registry.ssl.truststore.password", "pass");
    works(
        &registry,
        AVRO,
        port,
        &[("schema.registry.ssl.truststore.type", "PKCS12"), (location, &files.trust_p12), password],
    );

    let untrusted = [
        "property value.converter.schema.registry.url",
        "https://db.test:8443",
        "certificate is not trusted",
        "value.converter.schema.registry.ssl.truststore.location",
    ];
    says(port, &[], &untrusted);
    says(port, &[pem, (location, &other)], &untrusted);
    says(port, &[(inline, &files.text("other.crt"))], &untrusted);
    says(port, &[(location, "/no/such.pem")], &["ssl.truststore.location", "/no/such.pem", "No such file"]);
    says(port, &[(location, &files.path("client.key"))], &["ssl.truststore.location", "no certificate"]);
    says(port, &[(location, &files.trust_p12)], &["ssl.truststore.location", "mac verify"]);
    says(port, &[(inline, "x")], &["ssl.truststore.certificates", "no certificate"]);
    let jks = files.path("trust.jks");
    std::fs::write(&jks, [0xFE, 0xED, 0xFE, 0xED, 0, 0, 0, 2]).unwrap();
    says(port, &[(location, &jks)], &["ssl.truststore.location", "keytool -importkeystore"]);

    // The name counts, unless it is told not to.
    let by_address = format!("https://127.0.0.1:{port}/apis/ccompat/v7");
    let start = |more: &[(&str, &str)]| {
        let mut all = vec![("value.converter", AVRO), ("value.converter.schema.registry.url", &by_address)];
        all.extend_from_slice(more);
        Chain::new(&all, &AddressMap::default()).unwrap().ready().map_err(|e| e.to_string())
    };
    let trust = ("value.converter.schema.registry.ssl.truststore.location", ca.as_str());
    let cause = start(&[trust]).unwrap_err();
    assert!(cause.contains("IP address mismatch"), "{cause}");
    start(&[trust, ("value.converter.schema.registry.ssl.endpoint.identification.algorithm", "")]).unwrap();

    tables(&registry, &files);
}

/// Tables share the client; their options are named as Flink names them.
fn tables(registry: &Registry, files: &Files) {
    let port = front(&files.pki, registry, Asks::Certificate);
    let place = Place::new();
    let to = format!("db.test:8443=127.0.0.1:{port}");
    let table = |options: &str| {
        format!(
            "CREATE TABLE t (id INT, name STRING) WITH ('connector'='kafka', 'topic'='secured', \
             'properties.bootstrap.servers'='k:1', 'scan.startup.mode'='earliest-offset', \
             'format'='avro-confluent', 'avro-confluent.url'='{URL}'{options});"
        )
    };
    let trust = format!(
        ", 'avro-confluent.ssl.truststore.location'='{}', 'avro-confluent.ssl.truststore.password'='pass'",
        files.trust_p12
    );
    let all = format!(
        "{trust}, 'avro-confluent.ssl.keystore.location'='{}', 'avro-confluent.ssl.keystore.password'='pass'",
        files.client_p12
    );
    let insert = "INSERT INTO t VALUES (1, 'one'), (2, 'two');";
    let run = |sql: &str| place.output(&["--connect-to", &to, "sql", "-e", sql, "--until-idle", "300ms"]);
    for (options, wanted) in [("", "ssl.truststore.location"), (trust.as_str(), "ssl.keystore.location")] {
        let output = run(&(table(options) + insert));
        let screen = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && screen.contains(wanted), "{wanted}: {screen}");
    }
    let output = run(&(table(&all) + insert));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let sink = "CREATE TABLE p (id INT, name STRING) WITH ('connector'='print');";
    let output = run(&(table(&all) + sink + "INSERT INTO p SELECT * FROM t;"));
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(printed.contains("+I[1, one]") && printed.contains("+I[2, two]"), "{printed}");
    assert_eq!(registry.versions("secured-value").unwrap().len(), 1);
}

#[test]
fn a_registry_asks_for_a_certificate_or_a_login() {
    let registry = Registry::start().unwrap();
    let files = Files::new();
    let port = front(&files.pki, &registry, Asks::Certificate);
    let (ca, key, crt) = (files.path("ca.crt"), files.text("client.key"), files.text("client.crt"));
    let trust = ("schema.registry.ssl.truststore.location", ca.as_str());
    let location = "schema.registry.ssl.keystore.location";
    let inline_key = ("schema.registry.ssl.keystore.key", key.as_str());
    let inline_crt = ("schema.registry.ssl.keystore.certificate.chain", crt.as_str());
    let pem = ("schema.registry.ssl.keystore.type", "PEM");
    let password = ("schema.registry.ssl.key.password", "open sesame");
    for class in [AVRO, PROTOBUF] {
        works(&registry, class, port, &[trust, pem, inline_key, inline_crt]);
        works(&registry, class, port, &[trust, pem, (location, &files.client), password]);
    }
    let p12 = (location, files.client_p12.as_str());
    works(&registry, AVRO, port, &[trust, p12, ("schema.registry.ssl.keystore.password", "pass")]);

    let refused =
        ["https://db.test:8443", "asks for a client certificate", "schema.registry.ssl.keystore.location"];
    says(port, &[trust], &refused);
    let (other_key, other_crt) = (files.path("server.key"), files.text("other.crt"));
    says(port, &[trust, (location, &files.client)], &["ssl.keystore.location", "ssl.key.password"]);
    says(port, &[trust, (location, &other_key)], &["ssl.keystore.location", "no certificate"]);
    says(port, &[trust, (location, &ca)], &["ssl.keystore.location", "no private key"]);
    says(port, &[trust, inline_key], &["ssl.keystore.certificate.chain"]);
    let mismatch = [trust, inline_key, ("schema.registry.ssl.keystore.certificate.chain", &other_crt)];
    says(port, &mismatch, &["ssl.keystore.certificate.chain", "mismatch"]);
    let (cause, _) = fails(port, &mismatch);
    assert!(!cause.contains("BEGIN"), "a key or certificate is shown: {cause}");

    let port = front(&files.pki, &registry, Asks::Login);
    let source = ("basic.auth.credentials.source", "USER_INFO");
    for class in [AVRO, PROTOBUF] {
        works(&registry, class, port, &[trust, source, ("basic.auth.user.info", LOGIN)]);
    }
    says(port, &[trust], &["401", "who are you", "basic.auth.user.info"]);
    says(port, &[trust, source, ("basic.auth.user.info", "kc:no")], &["401", "basic.auth.user.info"]);
}
