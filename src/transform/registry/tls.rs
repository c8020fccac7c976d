//! TLS to a registry by the properties that Java's clients have for it: `schema.registry.ssl.*`, or `ssl.*`.
//!
//! Stores are PEM (a file, or the text itself) or PKCS12. What a truststore holds is trusted and nothing else; without
//! one, the system's authorities are.

use openssl::pkcs12::Pkcs12;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{HandshakeError, SslConnector, SslConnectorBuilder, SslMethod};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509VerifyResult};

use super::super::config::Options;
use super::http::Failure;
use crate::event::EventError;

/// How a file begins that Java wrote as JKS.
const JKS: [u8; 4] = [0xFE, 0xED, 0xFE, 0xED];
/// How DER begins, which PKCS12 is.
const DER: u8 = 0x30;

/// A property that is set, under either of its names.
fn find<'p>(own: &Options<'p>, name: &str) -> Option<(String, &'p str)> {
    [format!("schema.registry.ssl.{name}"), format!("ssl.{name}")].into_iter().find_map(|name| {
        let value = own.get(&name).filter(|value| !value.is_empty())?;
        Some((name, value))
    })
}

/// What the properties say of trust and of the client's own certificate.
///
/// # Errors
/// A store that cannot be used, by the name of its property.
pub(super) fn connector(own: &Options<'_>) -> Result<SslConnector, EventError> {
    for kind in ["truststore.type", "keystore.type"] {
        let readable = |v: &str| v.eq_ignore_ascii_case("PEM") || v.eq_ignore_ascii_case("PKCS12");
        if let Some((name, _)) = find(own, kind).filter(|(_, v)| !readable(v)) {
            return Err(own.error(&name, format!("PEM or PKCS12 ({CONVERT})")));
        }
    }
    let mut builder = SslConnector::builder(SslMethod::tls_client())
        .map_err(|e| own.error("schema.registry.url", format!("an address that needs no TLS ({e})")))?;
    // Texts come before files, as in Kafka's clients; they are not repeated in messages, keys are among them.
    let hidden = |name: &str, cause: String| EventError::Option {
        name: own.name(name),
        value: "(hidden)".into(),
        expected: format!("PEM that can be used ({cause})"),
    };
    let unusable = |name: &str, cause: String| {
        own.error(name, format!("a PEM or PKCS12 file that can be used ({cause})"))
    };
    let password = |name: &str| find(own, name).map_or("", |(_, v)| v);
    if let Some((name, text)) = find(own, "truststore.certificates") {
        let done = certificates(broken_up(text).as_bytes()).and_then(|all| trust(&mut builder, all));
        done.map_err(|e| hidden(&name, e))?;
    } else if let Some((name, path)) = find(own, "truststore.location") {
        let done = Store::read(path, password("truststore.password"), None)
            .and_then(|store| trust(&mut builder, store.certificates));
        done.map_err(|e| unusable(&name, e))?;
    }
    let key_password = find(own, "key.password").map(|(_, v)| v);
    if let Some((name, text)) = find(own, "keystore.key") {
        let key = private_key(broken_up(text).as_bytes(), key_password.unwrap_or(""))
            .map_err(|e| hidden(&name, e))?;
        let chain = "keystore.certificate.chain";
        let Some((name, text)) = find(own, chain) else {
            return Err(own.error(&format!("schema.registry.ssl.{chain}"), "the key's certificate"));
        };
        let done = certificates(broken_up(text).as_bytes()).and_then(|all| present(&mut builder, &key, all));
        done.map_err(|e| hidden(&name, e))?;
    } else if let Some((name, path)) = find(own, "keystore.location") {
        let done = Store::read(path, password("keystore.password"), key_password).and_then(|store| {
            let key = store.key.ok_or("no private key is in it")?;
            present(&mut builder, &key, store.certificates)
        });
        done.map_err(|e| unusable(&name, e))?;
    }
    Ok(builder.build())
}

const CONVERT: &str = "a JKS file becomes PKCS12 by keytool -importkeystore -deststoretype PKCS12";

/// What is in a file.
struct Store {
    /// That of the key first.
    certificates: Vec<X509>,
    key: Option<PKey<Private>>,
}

impl Store {
    /// `key_password` is that of a key in PEM; the file's own is taken where it has none.
    fn read(path: &str, password: &str, key_password: Option<&str>) -> Result<Self, String> {
        let bytes = std::fs::read(path).map_err(|e| e.to_string())?;
        if bytes.starts_with(&JKS) {
            return Err(CONVERT.to_owned());
        }
        if bytes.first() == Some(&DER) {
            let parsed = Pkcs12::from_der(&bytes).and_then(|store| store.parse2(password));
            let parsed = parsed.map_err(|e| e.to_string())?;
            let others = parsed.ca.into_iter().flatten();
            return Ok(Self {
                certificates: parsed.cert.into_iter().chain(others).collect(),
                key: parsed.pkey,
            });
        }
        let has_key = bytes.windows(12).any(|part| part == b"PRIVATE KEY-");
        let key = has_key.then(|| private_key(&bytes, key_password.unwrap_or(password))).transpose()?;
        Ok(Self { certificates: certificates(&bytes)?, key })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<X509>, String> {
    X509::stack_from_pem(pem).map_err(|e| e.to_string())
}

/// A password is always given: without one a terminal would be asked.
fn private_key(pem: &[u8], password: &str) -> Result<PKey<Private>, String> {
    PKey::private_key_from_pem_passphrase(pem, password.as_bytes())
        .map_err(|e| format!("the key cannot be read, see ssl.key.password: {e}"))
}

fn trust(builder: &mut SslConnectorBuilder, all: Vec<X509>) -> Result<(), String> {
    if all.is_empty() {
        return Err("no certificate is in it".to_owned());
    }
    let set = || {
        let mut store = X509StoreBuilder::new()?;
        for certificate in all {
            store.add_cert(certificate)?;
        }
        // As in Java, a server's own certificate may be trusted too, without who signed it.
        store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        builder.set_cert_store(store.build());
        Ok(())
    };
    set().map_err(|e: openssl::error::ErrorStack| e.to_string())
}

fn present(builder: &mut SslConnectorBuilder, key: &PKey<Private>, all: Vec<X509>) -> Result<(), String> {
    let mut all = all.into_iter();
    let own = all.next().ok_or("no certificate is in it")?;
    let set = || {
        builder.set_certificate(&own)?;
        for certificate in all {
            builder.add_extra_chain_cert(certificate)?;
        }
        builder.set_private_key(key)?;
        builder.check_private_key()
    };
    set().map_err(|e: openssl::error::ErrorStack| e.to_string())
}

/// PEM in one line, as properties hold it, in lines again.
fn broken_up(pem: &str) -> std::borrow::Cow<'_, str> {
    if pem.trim().contains('\n') {
        return pem.into();
    }
    let mut out = String::new();
    // By turns: nothing, what begins, its body, what ends.
    for (n, part) in pem.split("-----").enumerate() {
        match n % 4 {
            1 | 3 => out.push_str(&format!("-----{}-----\n", part.trim())),
            2 => {
                let body: Vec<char> = part.chars().filter(|c| !c.is_whitespace()).collect();
                for line in body.chunks(64) {
                    out.extend(line);
                    out.push('\n');
                }
            }
            _ => {}
        }
    }
    out.into()
}

/// A handshake that did not succeed: what is wrong with the certificate, where it is that.
pub(super) fn handshake_failed<S: std::fmt::Debug>(error: HandshakeError<S>) -> Failure {
    match error {
        HandshakeError::Failure(stopped) => match stopped.ssl().verify_result() {
            X509VerifyResult::OK => io_failed(std::io::Error::other(stopped.into_error())),
            verdict => Failure::Untrusted(verdict.error_string().to_owned()),
        },
        HandshakeError::SetupFailure(e) => Failure::Io(std::io::Error::other(e)),
        HandshakeError::WouldBlock(_) => Failure::Io(std::io::ErrorKind::TimedOut.into()),
    }
}

/// An error of a connection: the server's word that it wants another certificate is told from the others. It may come
/// after the handshake (TLS 1.3).
pub(super) fn io_failed(error: std::io::Error) -> Failure {
    let tls = error.get_ref().and_then(|e| e.downcast_ref::<openssl::ssl::Error>());
    let reasons = tls.and_then(openssl::ssl::Error::ssl_error).map(openssl::error::ErrorStack::errors);
    let of_certificate = |reason: &str| {
        let alert = reason.contains("alert");
        alert && ["certificate", "unknown ca", "handshake failure"].iter().any(|what| reason.contains(what))
    };
    match reasons.unwrap_or_default().iter().filter_map(|e| e.reason()).find(|r| of_certificate(r)) {
        Some(reason) => Failure::Refused(reason.to_owned()),
        None => Failure::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_pem_again() {
        let key = PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap();
        let pem = String::from_utf8(key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        assert_eq!(broken_up(&pem), pem);
        assert_eq!(broken_up(&pem.replace('\n', " ")), pem);
        assert_eq!(broken_up(&pem.replace('\n', "")), pem);
    }
}
