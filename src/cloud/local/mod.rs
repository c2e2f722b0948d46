//! The embedded cloud of one machine: a durable queue, files as objects, child processes as instances.

mod broker;
#[cfg(target_os = "linux")]
mod group_sync;
mod journal;
mod objects;
mod processes;
mod queue;
pub mod queue_index;
mod socket;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{Compute, ObjectStore, Queues};
use crate::settings::Settings;

pub use broker::Broker;
pub use objects::LocalObjects;
pub use processes::{Launcher, LocalCompute, SECRET_VARIABLE};
pub use socket::{SocketCloud, serve};

/// Longest path of a Unix socket (`sun_path` of unix(7), with its zero byte).
const MAX_SOCKET_PATH: usize = 107;
/// How long workers may take to end with their parent.
const END_LIMIT: Duration = Duration::from_secs(8);

/// All ports of one machine. One process a data folder.
pub struct LocalCloud {
    pub queues: Arc<dyn Queues>,
    pub objects: Arc<dyn ObjectStore>,
    pub compute: Arc<dyn Compute>,
    broker: Arc<Broker>,
    processes: Arc<LocalCompute>,
    server: JoinHandle<()>,
    socket: PathBuf,
    _short_folder: Option<TempDir>,
}

impl LocalCloud {
    /// Opens the data folder and starts to serve workers. They get the same configuration file.
    pub async fn open(settings: &Settings, config: Option<PathBuf>) -> anyhow::Result<Self> {
        let dir = &settings.local.data_dir;
        let objects = LocalObjects::open(dir).with_context(|| format!("cannot use {}", dir.display()))?;
        let broker = Arc::new(Broker::open(dir)?);
        objects.clean()?; // nobody else is here: the journal is ours

        let (socket, short_folder) = socket_path(dir)?;
        let mut args = vec!["worker".into(), "--socket".into(), socket.clone().into_os_string()];
        if let Some(config) = config {
            args.extend(["--config".into(), config.into_os_string()]);
        }
        let program = std::env::current_exe().context("path of this program")?;
        let processes = LocalCompute::new(Launcher { program, args, name_prefix: settings.fleet.name_prefix.clone() });
        let server = serve(&socket, broker.clone(), processes.clone()).await;
        let server = tokio::spawn(server.with_context(|| format!("cannot listen on {}", socket.display()))?);
        Ok(Self {
            queues: broker.clone(),
            broker,
            objects: Arc::new(objects),
            compute: Arc::new(processes.clone()),
            processes,
            server,
            socket,
            _short_folder: short_folder,
        })
    }

    /// Waits for the workers, which have been asked to end, writes what the queues still hold, and closes the socket.
    pub async fn close(self) {
        self.processes.all_ended(END_LIMIT).await;
        if let Err(error) = self.broker.flush().await {
            tracing::error!(%error, "jobs that were waited for when this ended may be lost");
        }
        self.server.abort();
        let _ = std::fs::remove_file(&self.socket); // the next start replaces it as well
    }
}

/// The socket in the data folder, or, where that path is too long, in a folder of its own.
fn socket_path(dir: &Path) -> anyhow::Result<(PathBuf, Option<TempDir>)> {
    let path = std::path::absolute(dir)?.join("rollcall.sock");
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok((path, None));
    }
    let folder = tempfile::Builder::new().prefix("rollcall-").tempdir()?;
    Ok((folder.path().join("rollcall.sock"), Some(folder)))
}

/// Makes this process die when the thread that started it does, whatever happens to the socket.
pub fn die_with_parent() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).context("PR_SET_PDEATHSIG")?;
    Ok(())
}
