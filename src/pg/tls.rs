//! TLS with OpenSSL: the same library as librdkafka's, so that one stack is patched and configured.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslConnector, SslMethod, SslRef, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509VerifyResult};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::config::{ConnectConfig, SslMode};
use super::error::StartError;
use crate::error::{Error, Result};

/// An encrypted TCP connection. OpenSSL reads a five-byte header before each record: the buffer below it saves
/// the system calls.
pub(super) type TlsTcpStream = SslStream<BufReader<TcpStream>>;

/// Does the handshake on a connection whose server has agreed to TLS.
pub(super) async fn handshake(
    config: &ConnectConfig,
    tcp: TcpStream,
) -> std::result::Result<TlsTcpStream, StartError> {
    let ssl = client(config)?;
    let failed = |e: openssl::error::ErrorStack| {
        StartError::Tls(Error::internal("cannot set up a TLS connection").with_source(e))
    };
    let mut stream = SslStream::new(ssl, BufReader::with_capacity(64 * 1024, tcp)).map_err(failed)?;
    if let Err(error) = Pin::new(&mut stream).connect().await {
        let verdict = stream.ssl().verify_result();
        return Err(StartError::Tls(handshake_failed(config, &error, verdict)));
    }
    Ok(stream)
}

fn handshake_failed(config: &ConnectConfig, error: &openssl::ssl::Error, verdict: X509VerifyResult) -> Error {
    let what = format!("TLS handshake with {} failed", config.describe());
    if config.ssl_mode.verifies() && verdict != X509VerifyResult::OK {
        let cause = format!("the server's certificate was refused: {}", verdict.error_string());
        let next = if config.ssl_mode == SslMode::VerifyFull {
            "check that the certificate names this host and that sslrootcert holds the authority that signed it"
        } else {
            "check that sslrootcert holds the authority that signed the server's certificate"
        };
        return Error::refused(what).because(cause).next(next);
    }
    if error.io_error().is_some() {
        return Error::transient(what).because(error);
    }
    Error::refused(what)
        .because(error)
        .next("check sslmode, sslcert and sslkey against what the server asks for")
}

/// A client side of TLS for this configuration.
fn client(config: &ConnectConfig) -> Result<Ssl> {
    let internal = |e: openssl::error::ErrorStack| Error::internal("cannot set up TLS").with_source(e);
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(internal)?;
    if config.ssl_mode.verifies() {
        builder.set_verify(SslVerifyMode::PEER);
        if let Some(path) = root_cert(config) {
            let mut store = X509StoreBuilder::new().map_err(internal)?;
            for authority in authorities(&path)? {
                store.add_cert(authority).map_err(internal)?;
            }
            builder.set_cert_store(store.build());
        }
    } else {
        builder.set_verify(SslVerifyMode::NONE);
    }
    client_certificate(config, &mut builder)?;
    let mut configuration = builder.build().configure().map_err(internal)?;
    configuration.set_verify_hostname(config.ssl_mode == SslMode::VerifyFull);
    // Server name indication carries names only.
    let is_address = config.host.parse::<std::net::IpAddr>().is_ok();
    configuration.set_use_server_name_indication(!is_address);
    configuration.into_ssl(&config.host).map_err(internal)
}

/// The file of authorities: the one named, or libpq's default place when there is one. `system` and none at all
/// mean the system's authorities.
fn root_cert(config: &ConnectConfig) -> Option<PathBuf> {
    match &config.ssl_root_cert {
        Some(path) if path.as_os_str() == "system" => None,
        Some(path) => Some(path.clone()),
        None => {
            let path = PathBuf::from(std::env::var_os("HOME")?).join(".postgresql/root.crt");
            path.is_file().then_some(path)
        }
    }
}

fn read(path: &Path, property: &str) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| {
        Error::config(format!("cannot read {property} {}", path.display()))
            .with_source(e)
            .next("check the path and the file's permissions")
    })
}

fn unreadable(path: &Path, property: &str, why: &str) -> Error {
    Error::config(format!("{property} {} cannot be used", path.display())).because(why.to_owned())
}

fn authorities(path: &Path) -> Result<Vec<X509>> {
    let bytes = read(path, "sslrootcert")?;
    let found = X509::stack_from_pem(&bytes)
        .ok()
        .filter(|certs| !certs.is_empty())
        .or_else(|| X509::from_der(&bytes).ok().map(|cert| vec![cert]));
    found.ok_or_else(|| unreadable(path, "sslrootcert", "it holds no certificate in PEM or DER form"))
}

fn client_certificate(config: &ConnectConfig, builder: &mut openssl::ssl::SslConnectorBuilder) -> Result<()> {
    let Some(cert_path) = &config.ssl_cert else { return Ok(()) };
    let Some(key_path) = &config.ssl_key else {
        return Err(Error::config("sslcert is given without sslkey").next("give both, or neither"));
    };
    let bytes = read(cert_path, "sslcert")?;
    let chain = X509::stack_from_pem(&bytes)
        .ok()
        .filter(|certs| !certs.is_empty())
        .or_else(|| X509::from_der(&bytes).ok().map(|cert| vec![cert]))
        .ok_or_else(|| unreadable(cert_path, "sslcert", "it holds no certificate in PEM or DER form"))?;
    let key = private_key(config, key_path)?;
    let mut chain = chain.into_iter();
    let wrong = |e: openssl::error::ErrorStack| {
        Error::config("the client certificate cannot be used")
            .with_source(e)
            .next("check that sslkey is the key of sslcert")
    };
    if let Some(leaf) = chain.next() {
        builder.set_certificate(&leaf).map_err(wrong)?;
    }
    for intermediate in chain {
        builder.add_extra_chain_cert(intermediate).map_err(wrong)?;
    }
    builder.set_private_key(&key).map_err(wrong)?;
    builder.check_private_key().map_err(wrong)
}

fn private_key(config: &ConnectConfig, path: &Path) -> Result<PKey<Private>> {
    let bytes = read(path, "sslkey")?;
    // An empty passphrase keeps OpenSSL from asking for one on the terminal.
    let password = config.ssl_password.as_ref().map(|p| p.expose().as_bytes()).unwrap_or_default();
    PKey::private_key_from_pem_passphrase(&bytes, password)
        .or_else(|_| PKey::private_key_from_der(&bytes))
        .or_else(|_| PKey::private_key_from_pkcs8_passphrase(&bytes, password))
        .map_err(|_| {
            unreadable(
                path,
                "sslkey",
                "it is not a private key in PEM or DER form, or sslpassword does not open it",
            )
        })
}

/// What SCRAM binds to (RFC 5929, `tls-server-end-point`): a hash of the server's certificate.
pub(super) fn server_end_point(ssl: &SslRef) -> Option<Vec<u8>> {
    let certificate = ssl.peer_certificate()?;
    let algorithms = certificate.signature_algorithm().object().nid().signature_algorithms()?;
    let digest = match algorithms.digest {
        Nid::MD5 | Nid::SHA1 => MessageDigest::sha256(),
        other => MessageDigest::from_nid(other)?,
    };
    certificate.digest(digest).ok().map(|d| d.to_vec())
}
