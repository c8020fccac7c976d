//! `millstream run`.

use super::GlobalArgs;
use crate::error::{Error, Result};

/// Arguments of `millstream run`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// See [`Error`].
pub async fn run(_args: Args, _global: &GlobalArgs) -> Result<()> {
    Err(Error::internal("`millstream run` is not part of this build"))
}
