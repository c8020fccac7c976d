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
        let mut routes = routes.layer(axum::extract::DefaultBodyLimit::max(MAX_BODY));
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
