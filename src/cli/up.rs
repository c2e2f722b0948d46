//! `rollcall up`.

use std::{path::PathBuf, process::ExitCode};

use crate::{app, settings::Settings};

/// Serves until a signal. `config` is handed on to the workers.
pub fn run(settings: Settings, config: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    Ok(ExitCode::from(app::run(app::up(settings, config))? as u8))
}
