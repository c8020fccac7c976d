//! TLS for the HTTP server.

use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslAcceptor, SslFiletype, SslMethod};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_openssl::SslStream;

use crate::error::{Error, Result};

/// Handshakes under way at once; more wait in the kernel's queue.
const HANDSHAKES: usize = 64;
/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Reads certificate chain and key (PEM): TLS 1.2 and 1.3, as Mozilla's intermediate recommendation.
///
/// # Errors
/// When a file cannot be read, or the key is not the certificate's.
pub(super) fn acceptor(certificate: &Path, key: &Path) -> Result<SslAcceptor> {
    let refused = |what: &str, path: &Path, e: ErrorStack| {
        Error::config(format!("cannot use the {what} {}", path.display()))
            .because(e)
            .next("server.certificate and server.key name PEM files that belong together")
    };
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())
        .map_err(|e| refused("TLS library for", certificate, e))?;
    builder.set_certificate_chain_file(certificate).map_err(|e| refused("certificate", certificate, e))?;
    builder.set_private_key_file(key, SslFiletype::PEM).map_err(|e| refused("key", key, e))?;
    builder.check_private_key().map_err(|e| refused("key", key, e))?;
    Ok(builder.build())
}

/// Connections whose handshake is done. A slow client delays no other.
#[derive(Debug)]
pub(super) struct TlsListener {
    ready: mpsc::Receiver<(SslStream<TcpStream>, SocketAddr)>,
    address: std::io::Result<SocketAddr>,
    accepting: tokio::task::JoinHandle<()>,
}

impl TlsListener {
    pub(super) fn new(listener: TcpListener, tls: SslAcceptor) -> Self {
        let address = listener.local_addr();
        let (done, ready) = mpsc::channel(HANDSHAKES);
        Self { ready, address, accepting: tokio::spawn(accept(listener, tls, done)) }
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    mut listener: TcpListener,
    tls: SslAcceptor,
    done: mpsc::Sender<(SslStream<TcpStream>, SocketAddr)>,
) {
    let limit = Arc::new(Semaphore::new(HANDSHAKES));
    while let Ok(permit) = Arc::clone(&limit).acquire_owned().await {
        // axum's own accept waits out errors such as too many open files.
        let (stream, address) = axum::serve::Listener::accept(&mut listener).await;
        let (done, ssl) = (done.clone(), Ssl::new(tls.context()));
        tokio::spawn(async move {
            let _permit = permit;
            let Ok(mut stream) = ssl.and_then(|ssl| SslStream::new(ssl, stream)) else { return };
            match tokio::time::timeout(HANDSHAKE, Pin::new(&mut stream).accept()).await {
                Ok(Ok(())) => drop(done.send((stream, address)).await),
                Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
            }
        });
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = SslStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The accepting task ends only with this listener.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        match &self.address {
            Ok(address) => Ok(*address),
            Err(e) => Err(std::io::Error::new(e.kind(), e.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use openssl::asn1::Asn1Time;
    use openssl::pkey::{PKey, Private};
    use openssl::ssl::{SslConnector, SslVerifyMode};
    use openssl::x509::{X509, X509NameBuilder};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::Http;
    use super::*;
    use crate::config::settings;

    fn key() -> PKey<Private> {
        PKey::from_rsa(openssl::rsa::Rsa::generate(2048).unwrap()).unwrap()
    }

    fn certificate(key: &PKey<Private>) -> X509 {
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", "localhost").unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        builder.sign(key, openssl::hash::MessageDigest::sha256()).unwrap();
        builder.build()
    }

    async fn request(address: SocketAddr, head: &str) -> String {
        let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
        connector.set_verify(SslVerifyMode::NONE);
        let ssl = connector.build().configure().unwrap().into_ssl("localhost").unwrap();
        let mut stream = SslStream::new(ssl, TcpStream::connect(address).await.unwrap()).unwrap();
        Pin::new(&mut stream).connect().await.unwrap();
        stream.write_all(format!("GET / HTTP/1.0\r\n{head}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A server may close without a closing alert; what was read counts.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn tls_and_token_are_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let (chain, pem) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
        let private = key();
        std::fs::write(&chain, certificate(&private).to_pem().unwrap()).unwrap();
        std::fs::write(&pem, key().private_key_to_pem_pkcs8().unwrap()).unwrap();
        let mut settings = settings::Server {
            bind: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: Some("t0ken".into()),
            certificate: Some(chain),
            key: Some(pem.clone()),
            ..settings::Server::default()
        };
        let error = Http::bind(&settings).await.unwrap_err();
        assert!(error.what().contains("k.pem"), "another certificate's key: {error}");

        std::fs::write(&pem, private.private_key_to_pem_pkcs8().unwrap()).unwrap();
        settings.token = Some("t0ken".into());
        let http = Http::bind(&settings).await.unwrap();
        assert!(http.url().starts_with("https://127.0.0.1:"));
        let address = http.listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let routes = axum::Router::new().route("/", axum::routing::get(|| async { "hello" }));
        let server = tokio::spawn(http.serve(routes, async {
            let _ = stopped.await;
        }));
        assert!(request(address, "").await.starts_with("HTTP/1.0 401"));
        let answer = request(address, "Authorization: Bearer t0ken\r\n").await;
        assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("hello"), "{answer}");
        // Someone who speaks no TLS, or nothing at all, does not keep others out.
        let mut silent = TcpStream::connect(address).await.unwrap();
        silent.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let _idle = TcpStream::connect(address).await.unwrap();
        assert!(request(address, "Authorization: Bearer t0ken\r\n").await.ends_with("hello"));
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}
