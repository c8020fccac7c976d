//! Configuration: `millstream.toml`, the environment, connector properties.

pub mod settings;

pub use settings::Settings;
