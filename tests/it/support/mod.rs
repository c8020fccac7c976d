//! What several capabilities need.

pub mod http;
pub mod kafka;
pub mod place;
pub mod postgres;
pub mod proxy;
pub mod service;

use std::process::Command;

/// The `millstream` binary of this build, with the environment of the tests' caller cleaned of its settings.
pub fn millstream() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    for name in ["MILLSTREAM_LOG", "MILLSTREAM_DATA", "MILLSTREAM_FAILPOINTS", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}
