//! `rollcall aws`: makes the image, the stack, and takes both away.

#[cfg(feature = "aws")]
pub use commands::{Args, run};
#[cfg(not(feature = "aws"))]
pub use without::{Args, run};

#[cfg(feature = "aws")]
mod commands;

#[cfg(not(feature = "aws"))]
mod without {
    use std::path::PathBuf;

    use crate::settings::Settings;

    /// Whatever is asked, the answer is how to build it.
    #[derive(clap::Args)]
    #[command(disable_help_flag = true)]
    pub struct Args {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        _rest: Vec<String>,
    }

    pub async fn run(_: Args, _: &Settings, _: Option<PathBuf>) -> anyhow::Result<()> {
        Err(super::super::without_aws())
    }
}
