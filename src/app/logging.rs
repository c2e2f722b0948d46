//! Logging.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

use crate::settings::{Log, LogFormat};

/// `info`, except for what these libraries log for their own developers, at each start and for each call to the parent.
/// An explicit filter shows it.
const QUIET_INFO: &str = "info,ort=warn,actix_server=warn,tarpc=warn";

/// Sends log lines to standard error, according to `log.level` and `log.format`. Called once per process.
///
/// # Errors
/// `log.level` is not a valid filter.
pub fn to_stderr(log: &Log) -> anyhow::Result<()> {
    let directives = if log.level == "info" { QUIET_INFO } else { &log.level };
    let filter = EnvFilter::try_new(directives).with_context(|| format!("log.level = {:?}", log.level))?;
    let colours = std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => subscriber.with_target(false).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}
