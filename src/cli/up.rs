//! `rollcall up`.

use std::{path::PathBuf, process::ExitCode};

use crate::{
    app,
    settings::{CloudKind, Settings},
};

/// Serves until a signal. `config` is handed on to the workers.
pub fn run(settings: Settings, config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let local = settings.cloud.kind == CloudKind::Local;
    anyhow::ensure!(local, "cloud.kind is \"aws\": start `rollcall serve` for it, or unset it for this machine alone");
    Ok(ExitCode::from(app::run(app::up::up(settings, config))? as u8))
}
