//! HTTP: REST, health, metrics, and the control socket.

pub mod control;
mod guard;
mod health;
mod metrics;
mod negotiation;
pub mod pipelines;
mod request;
pub mod rest;
mod tls;
pub mod topics;

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use openssl::ssl::SslAcceptor;
use tokio::net::TcpListener;

use crate::config::{Secret, settings};
use crate::error::{Error, Kind, Result};

/// Largest request body that is read; a connector's configuration is far below.
const MAX_BODY: usize = 1 << 20;

/// How long an address that is in use is waited for.
const IN_USE: std::time::Duration = std::time::Duration::from_secs(4);

/// The HTTP server's socket, and what it asks of those who come.
pub struct Http {
    listener: TcpListener,
    tls: Option<SslAcceptor>,
    token: Option<Secret>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Http").field(&self.url()).finish()
    }
}

/// Routes whose changes are made to their end, also for a client that hangs up meanwhile: a change that is dropped half
/// way leaves something halted that should run.
fn to_the_end(routes: Router) -> Router {
    routes.layer(from_fn(in_a_task))
}

async fn in_a_task(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    tokio::spawn(next.run(request)).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request's handler ended badly");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

/// Binds an address. One that is in use may be that of a predecessor that was killed and is still going away.
async fn bound(address: std::net::SocketAddr) -> std::io::Result<TcpListener> {
    let begun = std::time::Instant::now();
    let mut said = false;
    loop {
        match TcpListener::bind(address).await {
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse && begun.elapsed() < IN_USE => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!("{address} is in use: waiting up to {} s for it", IN_USE.as_secs());
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
            bound => return bound,
        }
    }
}

impl Http {
    /// Binds the address and reads certificate and key.
    ///
    /// # Errors
    /// When the address is taken or not this machine's, or a PEM file cannot be used.
    pub async fn bind(settings: &settings::Server) -> Result<Self> {
        let tls = match (&settings.certificate, &settings.key) {
            (Some(certificate), Some(key)) => Some(tls::acceptor(certificate, key)?),
            _ => None,
        };
        let address = settings.bind;
        let listener = bound(address).await.map_err(|e| {
            let kind = if e.kind() == std::io::ErrorKind::AddrInUse { Kind::Fenced } else { Kind::Config };
            Error::new(kind, format!("cannot listen on {address}"))
                .because(e)
                .next("stop what listens there, or set server.bind in millstream.toml to a free address")
        })?;
        Ok(Self { listener, tls, token: settings.token.clone() })
    }

    /// The URL it is reached by.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.listener.local_addr().map_or_else(|_| scheme.to_owned(), |at| format!("{scheme}://{at}"))
    }

    /// Serves until `stop` resolves, then lets open requests end.
    ///
    /// # Errors
    /// When the listener breaks.
    pub async fn serve(self, routes: Router, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        let mut routes = to_the_end(routes).layer(axum::extract::DefaultBodyLimit::max(MAX_BODY));
        if let Some(token) = self.token {
            routes = routes.layer(axum::middleware::from_fn_with_state(Arc::new(token), guard::bearer));
        }
        let served = match self.tls {
            None => axum::serve(self.listener, routes).with_graceful_shutdown(stop).await,
            Some(tls) => {
                let listener = tls::TlsListener::new(self.listener, tls);
                axum::serve(listener, routes).with_graceful_shutdown(stop).await
            }
        };
        served.map_err(|e| Error::internal("the HTTP server failed").with_source(e))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::routing::put;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;
    use tokio::sync::{Notify, mpsc};

    use super::*;

    /// What a handler says: that it was asked, and that it has come to its end.
    #[derive(Debug, PartialEq)]
    enum Said {
        Asked,
        Done,
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_is_made_to_its_end_though_the_client_hangs_up() {
        let (say, mut said) = mpsc::channel(4);
        let go_on = Arc::new(Notify::new());
        let waits = Arc::clone(&go_on);
        let handler = move || {
            let (say, waits) = (say.clone(), Arc::clone(&waits));
            async move {
                say.send(Said::Asked).await.unwrap();
                waits.notified().await;
                say.send(Said::Done).await.unwrap();
            }
        };
        let settings =
            settings::Server { bind: "127.0.0.1:0".parse().unwrap(), ..settings::Server::default() };
        let http = Http::bind(&settings).await.unwrap();
        let address = http.listener.local_addr().unwrap();
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let served = tokio::spawn(http.serve(Router::new().route("/", put(handler)), async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        }));
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"PUT / HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        assert_eq!(said.recv().await, Some(Said::Asked));
        drop(client);
        // The server closes the connection, and with it goes what it waits for.
        stop.send_replace(true);
        tokio::time::timeout(Duration::from_secs(20), served).await.unwrap().unwrap().unwrap();
        go_on.notify_one();
        let done = tokio::time::timeout(Duration::from_secs(20), said.recv()).await;
        assert_eq!(done.expect("it is heard of or gone"), Some(Said::Done));
    }
}
