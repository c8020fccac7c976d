//! Configuration: `millstream.toml`, the environment, connector properties.
