//! Ordinary sessions: tokio-postgres over the same sockets, TLS and errors as replication.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{ChannelBinding as DriverBinding, SslMode as DriverSslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding as Binding, TlsConnect, TlsStream};

use super::config::{ChannelBinding, ConnectConfig};
use super::error::{ServerError, StartError, sql_error};
use super::net::{Stream, establish};
use crate::error::{Error, Result};

/// Opens a session for queries. Its I/O runs as a task of its own, which ends with the client. Of several places
/// where the server may be, the one that [`primary`] finds is taken.
///
/// # Errors
/// Unreachable server, refused login, TLS failure: each with cause and next step.
pub async fn connect(config: &ConnectConfig) -> Result<tokio_postgres::Client> {
    let config = &primary(config).await?;
    establish(config, |stream| Box::pin(log_in(config, stream))).await
}

/// Where the primary is among the places of a configuration; a standby, where no primary answers.
///
/// # Errors
/// When none of several places can be logged in to: the failure that may heal, if there is one.
pub async fn primary(config: &ConnectConfig) -> Result<ConnectConfig> {
    let mut places = config.places();
    if places.len() == 1 {
        return Ok(places.remove(0));
    }
    let (mut standby, mut failure): (Option<ConnectConfig>, Option<Error>) = (None, None);
    for place in places {
        let asked = async {
            let client = establish(&place, |stream| Box::pin(log_in(&place, stream))).await?;
            let failed = |e| sql_error("cannot ask whether the server is a standby", e);
            let row = client.query_one("SELECT pg_is_in_recovery()", &[]).await.map_err(failed)?;
            row.try_get::<_, bool>(0).map_err(failed)
        };
        match asked.await {
            Ok(false) => return Ok(place),
            Ok(true) => standby = standby.or(Some(place)),
            Err(error) if failure.as_ref().is_none_or(|f| !f.is_transient()) => failure = Some(error),
            Err(_) => {}
        }
    }
    match (standby, failure) {
        (Some(place), _) => Ok(place),
        (None, Some(failure)) => Err(failure),
        (None, None) => Ok(config.clone()),
    }
}

async fn log_in(
    config: &ConnectConfig,
    stream: Stream,
) -> std::result::Result<tokio_postgres::Client, StartError> {
    let end_point = stream.end_point();
    let (client, connection) = driver_config(config)
        .connect_raw(stream, Negotiated(end_point))
        .await
        .map_err(|e| start_error(config, e))?;
    let name = config.describe();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            // Whoever uses the client gets the error too; this is for the log.
            tracing::debug!(%error, "session with {name} ended");
        }
    });
    Ok(client)
}

fn driver_config(config: &ConnectConfig) -> tokio_postgres::Config {
    let mut driver = tokio_postgres::Config::new();
    driver.user(&config.user).dbname(&config.dbname).application_name(&config.application_name);
    if let Some(password) = &config.password {
        driver.password(password.expose());
    }
    driver.channel_binding(match config.channel_binding {
        ChannelBinding::Disable => DriverBinding::Disable,
        ChannelBinding::Prefer => DriverBinding::Prefer,
        ChannelBinding::Require => DriverBinding::Require,
    });
    let options: Vec<String> = config
        .parameters
        .iter()
        .map(|(name, value)| if name == "options" { value.clone() } else { option(name, value) })
        .collect();
    if !options.is_empty() {
        driver.options(options.join(" "));
    }
    // `establish` has done TLS already: the driver is to take the stream as it is.
    driver.ssl_mode(DriverSslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    driver
}

/// `-c name=value`, with the escapes of the `options` start-up parameter.
fn option(name: &str, value: &str) -> String {
    let mut out = format!("-c {name}=");
    for c in value.chars() {
        if c.is_whitespace() || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn start_error(config: &ConnectConfig, error: tokio_postgres::Error) -> StartError {
    if let Some(db) = error.as_db_error() {
        return StartError::Server(ServerError::from_db(db));
    }
    let what = format!("cannot log in to {}", config.describe());
    if config.password.is_none() && error.to_string().contains("configuration") {
        return StartError::Other(
            Error::config(what).because("the server asks for a password, and none is given").next(
                "give a password (database.password in a connector, password in a URL or a table's options)",
            ),
        );
    }
    let broken = error.is_closed()
        || std::error::Error::source(&error).is_some_and(|s| s.downcast_ref::<io::Error>().is_some());
    let out = if broken { Error::transient(what) } else { Error::refused(what) };
    StartError::Other(out.with_source(error))
}

/// Stands for the TLS that is done already, and tells the driver what SCRAM can bind to.
struct Negotiated(Option<Vec<u8>>);

/// The stream under the driver.
struct NegotiatedStream {
    stream: Stream,
    end_point: Option<Vec<u8>>,
}

impl TlsConnect<Stream> for Negotiated {
    type Stream = NegotiatedStream;
    type Error = Infallible;
    type Future = Ready<std::result::Result<NegotiatedStream, Infallible>>;

    fn connect(self, stream: Stream) -> Self::Future {
        ready(Ok(NegotiatedStream { stream, end_point: self.0 }))
    }
}

impl TlsStream for NegotiatedStream {
    fn channel_binding(&self) -> Binding {
        match &self.end_point {
            Some(hash) => Binding::tls_server_end_point(hash.clone()),
            None => Binding::none(),
        }
    }
}

impl AsyncRead for NegotiatedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for NegotiatedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
