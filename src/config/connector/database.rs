//! From `database.*` properties to a connection.

use std::path::PathBuf;

use super::ConnectorConfig;
use crate::config::settings::TlsDefault;
use crate::config::{AddressMap, Secret};
use crate::error::{Error, Result};
use crate::pg::{ConnectConfig, SslMode};

impl ConnectorConfig {
    /// How to reach the source. `tls` says what it means when the configuration names no `database.sslmode`.
    ///
    /// # Errors
    /// When port or sslmode cannot be read.
    pub fn database(&self, addresses: &AddressMap, tls: TlsDefault) -> Result<ConnectConfig> {
        let port = u16::try_from(self.number("database.port")).map_err(|_| {
            Error::config(format!("database.port={} is not a port", self.text("database.port")))
        })?;
        let mut ssl_mode: SslMode = if self.is_set("database.sslmode") {
            self.text("database.sslmode").parse()?
        } else {
            match tls {
                TlsDefault::Prefer => SslMode::Prefer,
                TlsDefault::Required => SslMode::VerifyFull,
            }
        };
        if self.text("database.sslfactory").ends_with("NonValidatingFactory") {
            ssl_mode = SslMode::Require;
        }
        let path = |property: &str| Some(self.text(property)).filter(|p| !p.is_empty()).map(PathBuf::from);
        let secret = |property: &str| self.get(property).filter(|p| !p.is_empty()).map(Secret::from);
        let config = ConnectConfig {
            host: self.text("database.hostname").to_owned(),
            port,
            user: self.text("database.user").to_owned(),
            password: secret("database.password"),
            dbname: self.text("database.dbname").to_owned(),
            ssl_mode,
            ssl_root_cert: path("database.sslrootcert"),
            ssl_cert: path("database.sslcert"),
            ssl_key: path("database.sslkey"),
            ssl_password: secret("database.sslpassword"),
            tcp_keepalive: self.flag("database.tcpKeepAlive"),
            addresses: addresses.clone(),
            ..ConnectConfig::default()
        };
        Ok(config)
    }
}
