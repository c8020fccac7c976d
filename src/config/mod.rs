//! Configuration: `millstream.toml`, the environment, connector properties.

pub mod address;
pub mod secret;
pub mod settings;

pub use address::AddressMap;
pub use secret::Secret;
pub use settings::Settings;
