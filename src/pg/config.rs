//! Where and how to connect to a PostgreSQL server.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::config::address::Mapping;
use crate::config::{AddressMap, Secret};
use crate::error::Error;

/// How TLS is used, as libpq and pgjdbc name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// Plain first; TLS when the server asks for it.
    Allow,
    /// TLS when the server has it, else plain; certificates are not checked.
    #[default]
    Prefer,
    /// TLS or nothing; certificates are not checked.
    Require,
    /// TLS with a certificate from a trusted authority.
    VerifyCa,
    /// TLS with a trusted certificate made out to this host.
    VerifyFull,
}

impl SslMode {
    /// `disable`, `allow`, `prefer`, `require`, `verify-ca`, `verify-full`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether the server's certificate is checked.
    pub fn verifies(self) -> bool {
        self >= Self::VerifyCa
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SslMode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text.to_ascii_lowercase().replace('_', "-").as_str() {
            "disable" => Self::Disable,
            "allow" => Self::Allow,
            "prefer" => Self::Prefer,
            "require" | "required" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(Error::config(format!("sslmode \"{text}\" is not known"))
                    .next("use disable, allow, prefer, require, verify-ca or verify-full"));
            }
        })
    }
}

/// Whether SCRAM is bound to the TLS channel (`tls-server-end-point`, RFC 5929).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBinding {
    /// Never.
    Disable,
    /// When TLS is in use and the server offers it.
    #[default]
    Prefer,
    /// Always; a server that does not offer it is refused.
    Require,
}

/// Everything needed to open a session. `Debug` prints no password.
#[derive(Clone, Debug)]
pub struct ConnectConfig {
    /// Host name or address; a value that starts with `/` is a directory of Unix sockets.
    pub host: String,
    /// TCP port, also part of the Unix socket's name.
    pub port: u16,
    /// Role to log in as.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// Database.
    pub dbname: String,
    /// Use of TLS.
    pub ssl_mode: SslMode,
    /// File with the trusted authorities (PEM), or `system`. Without it: `~/.postgresql/root.crt`, else the
    /// system's authorities.
    pub ssl_root_cert: Option<PathBuf>,
    /// Client certificate (PEM or DER).
    pub ssl_cert: Option<PathBuf>,
    /// Client key (PEM or DER; PKCS#8, also encrypted, or traditional).
    pub ssl_key: Option<PathBuf>,
    /// Password of the client key.
    pub ssl_password: Option<Secret>,
    /// Binding of SCRAM to the TLS channel.
    pub channel_binding: ChannelBinding,
    /// Limit for one attempt: address resolution, TCP, TLS and authentication together.
    pub connect_timeout: Duration,
    /// Name shown in `pg_stat_activity`.
    pub application_name: String,
    /// TCP keepalive probes.
    pub tcp_keepalive: bool,
    /// Further run-time parameters for the session (`search_path`, …).
    pub parameters: Vec<(String, String)>,
    /// Other addresses (`--connect-to`).
    pub addresses: AddressMap,
}

impl Default for ConnectConfig {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            port: 5432,
            user: String::new(),
            password: None,
            dbname: String::new(),
            ssl_mode: SslMode::default(),
            ssl_root_cert: None,
            ssl_cert: None,
            ssl_key: None,
            ssl_password: None,
            channel_binding: ChannelBinding::default(),
            connect_timeout: Duration::from_secs(10),
            application_name: "millstream".to_owned(),
            tcp_keepalive: true,
            parameters: Vec::new(),
            addresses: AddressMap::default(),
        }
    }
}

impl ConnectConfig {
    /// The same configuration under another session name.
    #[must_use]
    pub fn with_application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    /// The same configuration with other addresses.
    #[must_use]
    pub fn with_addresses(mut self, addresses: AddressMap) -> Self {
        self.addresses = addresses;
        self
    }

    /// Where the socket really goes: [`Self::addresses`] applied.
    pub fn target(&self) -> (&str, u16) {
        self.addresses.resolve(&self.host, self.port)
    }

    /// One configuration for each place where the server may be: several where [`Self::addresses`] holds
    /// alternatives.
    pub fn places(&self) -> Vec<Self> {
        let at = |(host, port): (&str, u16)| {
            let pinned = Mapping {
                host: self.host.clone(),
                port: Some(self.port),
                to_host: host.to_owned(),
                to_port: Some(port),
            };
            self.clone().with_addresses(AddressMap::new(vec![pinned]))
        };
        let places: Vec<Self> = self.addresses.alternatives(&self.host, self.port).map(at).collect();
        if places.len() < 2 { vec![self.clone()] } else { places }
    }

    /// Whether the target is this machine: a Unix socket, `localhost` or a loopback address. A remote target
    /// with `prefer` deserves a warning.
    pub fn is_local(&self) -> bool {
        let (host, _) = self.target();
        host.starts_with('/')
            || host.eq_ignore_ascii_case("localhost")
            || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// `PostgreSQL at db:5432, database "shop", as "ann"`: for messages.
    pub fn describe(&self) -> String {
        let (host, port) = self.target();
        let by_map = if (host, port) == (self.host.as_str(), self.port) {
            String::new()
        } else {
            format!(" (for {}:{})", self.host, self.port)
        };
        format!("PostgreSQL at {host}:{port}{by_map}, database \"{}\", as \"{}\"", self.dbname, self.user)
    }

    /// Reads `postgresql://`, `postgres://` and `jdbc:postgresql://` URLs.
    ///
    /// Parameters are known by libpq's names (`application_name`, `connect_timeout`, `options`, …) and by
    /// pgjdbc's (`ApplicationName`, `connectTimeout`, `currentSchema`, `ssl`, `tcpKeepAlive`, …); those that
    /// change nothing here are left aside, as pgjdbc does.
    ///
    /// # Errors
    /// When it is not such a URL or a value cannot be read; the error shows neither password nor parameters.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        super::url::parse(url)
    }
}

impl FromStr for ConnectConfig {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::from_url(text)
    }
}
