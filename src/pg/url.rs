//! Connection URLs: libpq's and pgjdbc's.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::config::{ChannelBinding, ConnectConfig, SslMode};
use crate::config::Secret;
use crate::error::{Error, Result};

/// See [`ConnectConfig::from_url`].
pub(super) fn parse(url: &str) -> Result<ConnectConfig> {
    let rest = url.strip_prefix("jdbc:").unwrap_or(url);
    let jdbc = rest.len() != url.len();
    let rest = rest
        .strip_prefix("postgresql:")
        .or_else(|| rest.strip_prefix("postgres:"))
        .ok_or_else(|| bad("it does not begin with postgresql:// or jdbc:postgresql://"))?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut config = ConnectConfig::default();
    match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let hosts = match authority.rsplit_once('@') {
                Some((login, hosts)) => {
                    let (user, password) = match login.split_once(':') {
                        Some((user, password)) => (user, Some(password)),
                        None => (login, None),
                    };
                    config.user = decode(user)?;
                    config.password = password.map(decode).transpose()?.map(Secret::new);
                    hosts
                }
                None => authority,
            };
            host_and_port(&mut config, hosts)?;
            config.dbname = decode(path)?;
        }
        // jdbc:postgresql:database
        None if jdbc => config.dbname = decode(rest.trim_start_matches('/'))?,
        None => return Err(bad("there is no // behind the scheme")),
    }
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parameter(&mut config, &decode(name)?, decode(value)?)?;
    }
    if config.user.is_empty() {
        config.user = std::env::var("USER").unwrap_or_else(|_| "postgres".to_owned());
    }
    if config.dbname.is_empty() {
        config.dbname.clone_from(&config.user);
    }
    Ok(config)
}

fn bad(why: &str) -> Error {
    Error::config("the database URL cannot be read")
        .because(why.to_owned())
        .next("write postgresql://USER@HOST:PORT/DATABASE or jdbc:postgresql://HOST:PORT/DATABASE")
}

fn decode(text: &str) -> Result<String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(|t| t.into_owned())
        .map_err(|_| bad("a percent-encoded part is not UTF-8"))
}

fn host_and_port(config: &mut ConnectConfig, text: &str) -> Result<()> {
    if text.contains(',') {
        return Err(Error::config("the database URL names several hosts")
            .because("one host at a time is supported")
            .next("name the primary, or an address that follows it"));
    }
    // Only what stands behind a bracket or the only colon can be a port.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if !host.is_empty() {
        config.host = decode(host)?;
    }
    if !port.is_empty() {
        config.port = port.parse().map_err(|_| bad("the port is not a number from 1 to 65535"))?;
    }
    Ok(())
}

fn seconds(name: &str, value: &str) -> Result<Option<Duration>> {
    let n: u64 = value.parse().map_err(|_| bad(&format!("{name} is not a number of seconds")))?;
    Ok((n > 0).then(|| Duration::from_secs(n)))
}

fn flag(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "" | "true" | "1" | "on" | "yes" => Ok(true),
        "false" | "0" | "off" | "no" => Ok(false),
        _ => Err(bad(&format!("{name} is neither true nor false"))),
    }
}

fn parameter(config: &mut ConnectConfig, name: &str, value: String) -> Result<()> {
    // What means "no limit" still gets one: a connection attempt that hangs for ever is a hang of ours.
    const NO_LIMIT: Duration = Duration::from_secs(120);
    match name {
        "user" => config.user = value,
        "password" => config.password = Some(Secret::new(value)),
        "host" => config.host = value,
        "port" => host_and_port(config, &format!(":{value}"))?,
        "dbname" => config.dbname = value,
        "sslmode" => config.ssl_mode = value.parse()?,
        // pgjdbc: `ssl=true` alone means verify-full.
        "ssl" if flag(name, &value)? => config.ssl_mode = SslMode::VerifyFull,
        "ssl" => {}
        "sslfactory" if value.ends_with("NonValidatingFactory") => config.ssl_mode = SslMode::Require,
        "sslrootcert" => config.ssl_root_cert = Some(value.into()),
        "sslcert" => config.ssl_cert = Some(value.into()),
        "sslkey" => config.ssl_key = Some(value.into()),
        "sslpassword" => config.ssl_password = Some(Secret::new(value)),
        "channel_binding" | "channelBinding" => {
            config.channel_binding = match value.as_str() {
                "disable" => ChannelBinding::Disable,
                "prefer" => ChannelBinding::Prefer,
                "require" => ChannelBinding::Require,
                _ => return Err(bad("channel_binding is none of disable, prefer, require")),
            };
        }
        "connect_timeout" | "connectTimeout" | "loginTimeout" => {
            config.connect_timeout = seconds(name, &value)?.unwrap_or(NO_LIMIT);
        }
        "application_name" | "ApplicationName" => config.application_name = value,
        "keepalives" | "tcpKeepAlive" => config.tcp_keepalive = flag(name, &value)?,
        "currentSchema" => config.parameters.push(("search_path".to_owned(), value)),
        "options" => config.parameters.push((name.to_owned(), value)),
        // Whatever else pgjdbc knows tunes the Java driver.
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libpq_urls() {
        let c = parse("postgresql://ann:p%40ss@db.example:6543/shop?sslmode=verify-full&application_name=x")
            .unwrap();
        assert_eq!((c.host.as_str(), c.port), ("db.example", 6543));
        assert_eq!((c.user.as_str(), c.dbname.as_str()), ("ann", "shop"));
        assert_eq!(c.password.as_ref().map(Secret::expose), Some("p@ss"));
        assert_eq!(c.ssl_mode, SslMode::VerifyFull);
        assert_eq!(c.application_name, "x");
        let c = parse("postgres://ann@[::1]/").unwrap();
        assert_eq!((c.host.as_str(), c.port, c.dbname.as_str()), ("::1", 5432, "ann"));
        let c = parse("postgresql://ann@/shop?host=/var/run/postgresql&port=5433").unwrap();
        assert_eq!((c.host.as_str(), c.port), ("/var/run/postgresql", 5433));
        let c = parse("postgresql://ann@%2Ftmp%2Fsock:5433/shop").unwrap();
        assert_eq!((c.host.as_str(), c.port), ("/tmp/sock", 5433));
        assert!(c.is_local());
    }

    #[test]
    fn jdbc_urls() {
        let c = parse("jdbc:postgresql://target:5432/shop?currentSchema=star&user=bob&password=x&ssl=true&prepareThreshold=0")
            .unwrap();
        assert_eq!((c.host.as_str(), c.dbname.as_str(), c.user.as_str()), ("target", "shop", "bob"));
        assert_eq!(c.parameters, [("search_path".to_owned(), "star".to_owned())]);
        assert_eq!(c.ssl_mode, SslMode::VerifyFull);
        assert_eq!(parse("jdbc:postgresql:shop").unwrap().dbname, "shop");
    }

    #[test]
    fn nonsense_is_refused_and_no_password_is_shown() {
        for url in [
            "mysql://x/y",
            "postgresql:x",
            "postgresql://u:secret@h:99999/d",
            "postgresql://u:secret@h/d?sslmode=maybe",
            "postgresql://u:secret@h,i/d",
            "postgresql://u:secret@h/d?connect_timeout=soon",
        ] {
            let error = parse(url).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let config = parse("postgresql://u:secret@h/d").unwrap();
        assert!(!format!("{config:?}").contains("secret"));
    }
}
