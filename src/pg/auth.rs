//! Authentication: clear text, MD5, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677, 5929).

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{self, ScramSha256};
use postgres_protocol::message::frontend;

use super::config::ChannelBinding;
use super::error::{ServerError, StartError, protocol_error};
use super::wire::Wire;
use crate::error::Error;

type Outcome<T> = std::result::Result<T, StartError>;

/// Answers the server's requests until it says AuthenticationOk. `end_point` is what SCRAM can bind to.
pub(super) async fn authenticate(wire: &mut Wire, end_point: Option<Vec<u8>>) -> Outcome<()> {
    let mut bound = false;
    loop {
        let (code, data) = request(wire).await?;
        match code {
            0 => {
                if wire.config.channel_binding == ChannelBinding::Require && !bound {
                    return Err(unbound(wire).into());
                }
                return Ok(());
            }
            3 => {
                // As libpq and pgjdbc do; but somebody on the way can read it.
                if !wire.stream.is_encrypted() && !wire.config.is_local() {
                    tracing::warn!(
                        "the password goes to {} in clear text: use sslmode=require or scram-sha-256",
                        wire.config.describe()
                    );
                }
                let password = password(wire)?;
                answer_password(wire, password.as_bytes()).await?;
            }
            5 => {
                let salt = data.first_chunk::<4>().copied().ok_or_else(|| short(wire))?;
                let hash = md5_hash(wire.config.user.as_bytes(), password(wire)?.as_bytes(), salt);
                answer_password(wire, hash.as_bytes()).await?;
            }
            10 => bound = scram(wire, &data, end_point.clone()).await?,
            other => return Err(unsupported(wire, other).into()),
        }
    }
}

/// The next authentication request: its code and data.
async fn request(wire: &mut Wire) -> Outcome<(u32, Vec<u8>)> {
    loop {
        let frame = wire.frame().await?;
        match frame.tag {
            b'R' => {
                let (code, data) = frame.body.split_first_chunk::<4>().ok_or_else(|| short(wire))?;
                return Ok((u32::from_be_bytes(*code), data.to_vec()));
            }
            b'E' => return Err(StartError::Server(ServerError::from_body(&frame.body))),
            // NegotiateProtocolVersion and notices.
            b'N' | b'v' => {}
            other => return Err(wire.unexpected(other).into()),
        }
    }
}

async fn answer_password(wire: &mut Wire, password: &[u8]) -> Outcome<()> {
    let mut message = BytesMut::new();
    frontend::password_message(password, &mut message).map_err(|e| protocol_error(&wire.config, e))?;
    Ok(wire.send(&message).await?)
}

/// Runs SCRAM; returns whether it was bound to the TLS channel.
async fn scram(wire: &mut Wire, mechanisms: &[u8], end_point: Option<Vec<u8>>) -> Outcome<bool> {
    let offered = |name: &str| mechanisms.split(|b| *b == 0).any(|m| m == name.as_bytes());
    let plus = offered(sasl::SCRAM_SHA_256_PLUS);
    if !plus && !offered(sasl::SCRAM_SHA_256) {
        return Err(unsupported(wire, 10).into());
    }
    let wanted = wire.config.channel_binding;
    let end_point = end_point.filter(|_| wanted != ChannelBinding::Disable);
    let (binding, mechanism) = match end_point {
        Some(hash) if plus => (sasl::ChannelBinding::tls_server_end_point(hash), sasl::SCRAM_SHA_256_PLUS),
        // "We could, you did not offer": the server notices when somebody has taken its offer away.
        Some(_) => (sasl::ChannelBinding::unrequested(), sasl::SCRAM_SHA_256),
        None => (sasl::ChannelBinding::unsupported(), sasl::SCRAM_SHA_256),
    };
    let bound = mechanism == sasl::SCRAM_SHA_256_PLUS;
    if wanted == ChannelBinding::Require && !bound {
        return Err(unbound(wire).into());
    }
    let mut scram = ScramSha256::new(password(wire)?.as_bytes(), binding);
    let mut message = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut message)
        .map_err(|e| protocol_error(&wire.config, e))?;
    wire.send(&message).await?;
    let (11, challenge) = request(wire).await? else { return Err(short(wire).into()) };
    scram.update(&challenge).map_err(|e| protocol_error(&wire.config, e))?;
    let mut message = BytesMut::new();
    frontend::sasl_response(scram.message(), &mut message).map_err(|e| protocol_error(&wire.config, e))?;
    wire.send(&message).await?;
    let (12, verdict) = request(wire).await? else { return Err(short(wire).into()) };
    // The server proves that it knows the password too.
    scram.finish(&verdict).map_err(|e| {
        Error::refused(format!("{} could not prove that it knows the password", wire.config.describe()))
            .because(e)
            .next("something between here and the server may be listening in: check the address and use verify-full")
    })?;
    Ok(bound)
}

fn password(wire: &Wire) -> std::result::Result<String, Error> {
    match &wire.config.password {
        Some(password) => Ok(password.expose().to_owned()),
        None => Err(Error::config(format!("cannot log in to {}", wire.config.describe()))
            .because("the server asks for a password, and none is given")
            .next(
                "give a password (database.password in a connector, password in a URL or a table's options)",
            )),
    }
}

fn short(wire: &Wire) -> Error {
    protocol_error(&wire.config, "an authentication request is incomplete or out of order")
}

fn unbound(wire: &Wire) -> Error {
    Error::refused(format!("cannot log in to {}", wire.config.describe()))
        .because("channel_binding is require, and the server does not offer it on this connection")
        .next("use TLS and SCRAM-SHA-256 at the server, or channel_binding=prefer")
}

fn unsupported(wire: &Wire, code: u32) -> Error {
    let method = match code {
        2 => "Kerberos V5",
        7 | 8 => "GSSAPI",
        9 => "SSPI",
        10 => "an unknown SASL mechanism",
        _ => "an unknown method",
    };
    Error::refused(format!("cannot log in to {}", wire.config.describe()))
        .because(format!("the server asks for authentication by {method}, which is not supported"))
        .next("use scram-sha-256, md5, password, cert or trust in the server's pg_hba.conf")
}
