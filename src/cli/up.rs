//! `rollcall up`.

use std::{path::PathBuf, process::ExitCode};

use actix_rt::SystemRunner;

use crate::{app, settings::Settings};

/// Serves until a signal. `config` is handed on to the workers.
pub fn run(system: SystemRunner, settings: Settings, config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    system.block_on(app::up(settings, config))?;
    Ok(ExitCode::from(system.run_with_code()? as u8))
}
