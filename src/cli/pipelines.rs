//! `millstream pipelines`.

use super::GlobalArgs;
use crate::error::{Error, Result};

/// Arguments of `millstream pipelines`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// See [`Error`].
pub async fn run(_args: Args, _global: &GlobalArgs) -> Result<()> {
    Err(Error::internal("`millstream pipelines` is not part of this build"))
}
