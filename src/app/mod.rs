//! Composition root: builds the ports, starts the actors and connects them. One file per role.
//!
//! | role | file | what runs |
//! |---|---|---|
//! | `rollcall up` | `up.rs` | a [`Cluster`] on this machine, and HTTP |
//! | `rollcall serve`, `web`, `controller` | `aws/` | the tiers of a cluster on AWS |
//! | `rollcall worker` | `worker.rs` | the actors of one instance |

#[cfg(feature = "aws")]
pub(crate) mod aws;
mod cluster;
mod housekeeping;
mod installation;
pub(crate) mod logging;
mod node;
mod ports;
pub(crate) mod queues;
mod serving;
mod shutdown;
mod system;
pub(crate) mod up;
mod watchdog;
mod worker;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use installation::Installation;

use crate::settings::{Int8, Layers, Machine, Settings, SettingsError};

pub use cluster::Cluster;
pub use logging::to_stderr as log_to_stderr;
#[cfg(feature = "aws")]
pub(crate) use shutdown::asked_to_end;
pub use system::{block_on, run};
pub use worker::{WorkerArgs, worker};

/// What was installed with this program; `None` in a checkout.
static INSTALLATION: LazyLock<Option<Installation>> =
    LazyLock::new(|| Installation::of(&std::env::current_exe().ok()?));

/// Returns the settings file that is used if no other is specified: that of an installed program, if it exists.
pub fn installed_settings() -> Option<PathBuf> {
    INSTALLATION.as_ref().map(|installation| installation.settings.clone()).filter(|path| path.exists())
}

/// Returns the environment variables that are text.
pub fn environment() -> HashMap<String, String> {
    let text = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((key.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Returns this machine, on which the "auto" of some settings depends.
pub fn machine() -> Machine {
    Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        int8: Int8::detect(),
        installed: INSTALLATION.as_ref().map(|installation| installation.assets.as_path()),
    }
}

/// Reads the settings: the defaults, then `file`, then the environment.
///
/// # Errors
/// The file cannot be read or parsed, or a setting is unknown or not allowed; the message names the origin of the
/// setting and what is allowed.
pub fn settings(file: Option<&Path>) -> Result<Settings, SettingsError> {
    Settings::from_layers(&Layers::load(file, environment())?, machine())
}
