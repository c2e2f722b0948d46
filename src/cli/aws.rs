//! `rollcall aws`: sets up a cluster on AWS, shows and verifies it, and takes it down.

#[cfg(feature = "aws")]
pub use commands::{Args, run};
#[cfg(not(feature = "aws"))]
pub use without::{Args, run};

#[cfg(feature = "aws")]
mod commands;
#[cfg(feature = "aws")]
mod logs;
#[cfg(feature = "aws")]
mod status;
#[cfg(feature = "aws")]
mod verify;

#[cfg(not(feature = "aws"))]
mod without {
    use std::{path::PathBuf, process::ExitCode};

    use crate::{app::queues::aws_not_built_in, settings::Settings};

    /// Accepts any arguments.
    #[derive(clap::Args)]
    #[command(disable_help_flag = true)]
    pub struct Args {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        _rest: Vec<String>,
    }

    /// Returns the error that says how to build this program for AWS.
    pub async fn run(_: Args, _: &Settings, _: Option<PathBuf>) -> anyhow::Result<ExitCode> {
        Err(aws_not_built_in())
    }
}
