//! `rollcall up`: runs everything on one machine.

use std::{path::PathBuf, process::ExitCode};

use crate::{
    app,
    settings::{CloudKind, Settings},
};

/// Runs until a signal ends it. Workers receive the same configuration file.
pub(super) fn run(settings: Settings, config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let local = settings.cloud.kind == CloudKind::Local;
    anyhow::ensure!(
        local,
        "cloud.kind is \"aws\": start `rollcall serve`, or unset cloud.kind to run on this machine alone"
    );
    Ok(ExitCode::from(app::run(app::up::up(settings, config))? as u8))
}
