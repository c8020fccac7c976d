//! HTTP: REST, health, metrics, and the control socket.

pub mod control;
pub mod pipelines;
pub mod rest;

use std::future::Future;
use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;

use crate::error::{Error, Kind, Result};

/// Largest request body that is read; a connector's configuration is far below.
const MAX_BODY: usize = 1 << 20;

/// Binds the address of the HTTP server.
///
/// # Errors
/// When the address is taken or not this machine's.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        let kind = if e.kind() == std::io::ErrorKind::AddrInUse { Kind::Fenced } else { Kind::Config };
        Error::new(kind, format!("cannot listen on {address}"))
            .because(e)
            .next("stop what listens there, or set server.bind in millstream.toml to a free address")
    })
}

/// Serves until `stop` resolves, then lets open requests end.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let routes = routes.layer(axum::extract::DefaultBodyLimit::max(MAX_BODY));
    axum::serve(listener, routes)
        .with_graceful_shutdown(stop)
        .await
        .map_err(|e| Error::internal("the HTTP server failed").with_source(e))
}
pub mod topics;
