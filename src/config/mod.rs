//! Configuration: `millstream.toml`, the environment, connector properties.

pub mod address;
pub mod connector;
pub mod secret;
pub mod settings;

pub use address::AddressMap;
pub use connector::ConnectorConfig;
pub use secret::Secret;
pub use settings::Settings;
