//! `rollcall serve`, `rollcall web`, `rollcall controller`: the parts of a cluster on AWS that are not workers.

use std::process::ExitCode;

#[cfg(feature = "aws")]
use crate::app::{self, aws::Tiers};
use crate::settings::{CloudKind, Settings};

#[derive(clap::Args)]
pub struct Args {
    /// Put settings of queues that exist right instead of refusing them
    #[arg(long)]
    fix: bool,
}

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Serve,
    Web,
    Controller,
}

/// Serves until a signal.
pub fn run(settings: Settings, role: Role, args: Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        settings.cloud.kind == CloudKind::Aws,
        "this is for cloud.kind = \"aws\"; on one machine, `rollcall up` runs everything"
    );
    on_aws(settings, role, args)
}

#[cfg(feature = "aws")]
fn on_aws(settings: Settings, role: Role, args: Args) -> anyhow::Result<ExitCode> {
    let tiers = Tiers { web: role != Role::Controller, controller: role != Role::Web };
    Ok(ExitCode::from(app::run(app::aws::run(settings, tiers, args.fix))? as u8))
}

#[cfg(not(feature = "aws"))]
fn on_aws(_: Settings, _: Role, _: Args) -> anyhow::Result<ExitCode> {
    Err(super::without_aws())
}
