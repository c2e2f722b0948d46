//! The embedded cloud of one machine: a durable queue, files as objects, child processes as instances.

mod broker;
mod clock;
pub(crate) mod format;
#[cfg(target_os = "linux")]
mod group_sync;
mod journal;
mod objects;
mod processes;
mod queue;
pub mod queue_index;
mod socket;
#[cfg(target_os = "linux")]
mod unnamed_file;
mod usage;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    //! What the fuzz targets run here.
    pub(crate) use super::{
        journal::fuzzing::{damaged_file, seeds as damaged_file_seeds},
        socket::fuzzing::{MEMORY as FRAMES_MEMORY, frames, seeds as frames_seeds},
    };
}

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{
    Compute, ObjectStore, Queue, Queues,
    headroom::{Headroom, Limits},
};
use crate::settings::Settings;

pub use broker::{Broker, queued_jobs, queues_in_use, repair_queues};
pub use journal::Repair;
pub use objects::LocalObjects;
pub(crate) use objects::UNFINISHED;
pub use processes::{Launcher, LocalCompute, SECRET_VARIABLE, TOKEN_VARIABLE};
pub use socket::{SocketCloud, serve};
pub use usage::free_bytes;

/// Longest path of a Unix socket in bytes: `sun_path` of unix(7) without its terminating null byte.
const MAX_SOCKET_PATH: usize = 107;
/// How long workers may take to end with their parent.
const END_LIMIT: Duration = Duration::from_secs(8);

/// All ports of one machine. Only one process can have a data folder open.
pub struct LocalCloud {
    /// The embedded queues.
    pub queues: Arc<dyn Queues>,
    /// Files as objects.
    pub objects: Arc<dyn ObjectStore>,
    /// Worker processes as instances.
    pub compute: Arc<dyn Compute>,
    files: LocalObjects,
    broker: Arc<Broker>,
    processes: Arc<LocalCompute>,
    server: JoinHandle<()>,
    socket: PathBuf,
    _short_folder: Option<TempDir>,
}

impl LocalCloud {
    /// Opens the data folder and starts to serve workers, which are started with the same configuration file.
    ///
    /// # Errors
    /// The data folder is in use by another process or cannot be used, or the socket cannot be opened.
    pub async fn open(settings: &Settings, config: Option<PathBuf>) -> anyhow::Result<Self> {
        let dir = &settings.local.data_dir;
        let objects = LocalObjects::open(dir).with_context(|| format!("cannot use {}", dir.display()))?;
        let broker = Arc::new(Broker::open(dir)?);
        // No other process is using the folder, because this one has the journal open.
        objects.remove_unfinished()?;
        format::mark_folder(dir)?;

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
            objects: Arc::new(objects.clone()),
            files: objects,
            compute: Arc::new(processes.clone()),
            processes,
            server,
            socket,
            _short_folder: short_folder,
        })
    }

    /// Starts to compare the jobs of the request queue and the bytes on the disk with the limits of the settings.
    pub async fn headroom(settings: &Settings, requests: Arc<dyn Queue>) -> Headroom {
        let limits = Limits {
            max_jobs: settings.queue.max_jobs,
            max_bytes: settings.local.max_bytes,
            min_free: settings.local.min_free,
        };
        usage::monitor(settings.local.data_dir.clone(), limits, requests).await
    }

    /// Returns the queues with what only the embedded cloud has.
    pub(crate) fn broker(&self) -> Arc<Broker> {
        self.broker.clone()
    }

    /// Returns the objects with what only files have.
    pub(crate) fn files(&self) -> LocalObjects {
        self.files.clone()
    }

    /// Resolves when the queues' file turns out to be damaged, with what to do about it. Nothing works any more then.
    pub fn damaged(&self) -> impl Future<Output = String> + use<> {
        self.broker.damaged()
    }

    /// Waits for the workers, which have been asked to end, writes what is buffered, and closes the socket.
    pub async fn close(self) {
        self.processes.all_ended(END_LIMIT).await;
        if let Err(error) = self.broker.flush().await {
            tracing::error!(%error, "buffered jobs may be lost");
        }
        self.server.abort();
        let _ = self.server.await; // aborted
        let _ = std::fs::remove_file(&self.socket); // the next start replaces it otherwise
    }
}

/// Returns the path of the socket: in the data folder, or, where that path is too long, in a temporary folder.
fn socket_path(dir: &Path) -> anyhow::Result<(PathBuf, Option<TempDir>)> {
    let path = std::path::absolute(dir)?.join("rollcall.sock");
    if path.as_os_str().len() <= MAX_SOCKET_PATH {
        return Ok((path, None));
    }
    let folder = tempfile::Builder::new().prefix("rollcall-").tempdir()?;
    Ok((folder.path().join("rollcall.sock"), Some(folder)))
}

/// Makes the system kill this process when the thread that started it ends. Linux only; no effect elsewhere.
///
/// # Errors
/// The system refuses.
pub fn die_with_parent() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).context("PR_SET_PDEATHSIG")?;
    Ok(())
}
