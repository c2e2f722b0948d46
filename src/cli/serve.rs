//! `rollcall serve`, `rollcall web` and `rollcall controller`: the roles on AWS that are not workers.

use std::process::ExitCode;

#[cfg(feature = "aws")]
use crate::app::{self, aws::Tiers};
use crate::settings::{CloudKind, Settings};

/// Arguments of each of the three commands.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Correct the attributes of existing queues instead of refusing to start
    #[arg(long)]
    fix: bool,
}

/// A role on AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Web tier and controller.
    Serve,
    /// Web tier alone.
    Web,
    /// Controller alone.
    Controller,
}

/// Runs the role until a signal ends it.
pub(super) fn run(settings: Settings, role: Role, args: Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        settings.cloud.kind == CloudKind::Aws,
        "this command needs cloud.kind = \"aws\"; on one machine, `rollcall up` runs everything"
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
    Err(super::aws_not_built_in())
}
