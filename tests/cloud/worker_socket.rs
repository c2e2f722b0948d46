//! The socket of a parent process, and connections of workers to it, without the rest of Rollcall.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rollcall::cloud::{
    Compute, InstanceId,
    local::{Broker, Launcher, LocalCompute, SECRET_VARIABLE, SocketCloud, serve},
};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use rollcall_testing::wait_until;

/// Longest time until a shell has started, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A parent process.
pub struct Parent {
    pub broker: Arc<Broker>,
    compute: Arc<LocalCompute>,
    server: JoinHandle<()>,
    folder: TempDir,
}

impl Parent {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let broker = Arc::new(Broker::open(folder.path()).expect("a new broker"));
        // The instance writes its secret to a file, so that the test can connect in its place.
        let script = format!("printf %s \"${SECRET_VARIABLE}\" > {}/$2; exec sleep 600", folder.path().display());
        let launcher = Launcher {
            program: PathBuf::from("/bin/sh"),
            args: ["-c", &script, "worker"].map(Into::into).into(),
            name_prefix: "test-".into(),
        };
        let compute = LocalCompute::new(launcher);
        let server = serve(&folder.path().join("socket"), broker.clone(), compute.clone()).await.expect("a socket");
        Self { broker, compute, server: tokio::spawn(server), folder }
    }

    /// Launches an instance and returns its id and its secret.
    pub async fn instance(&self, token: &str) -> (InstanceId, String) {
        let id = self.compute.launch(token, 1).await.expect("launched").remove(0);
        let file = self.folder.path().join(&id.0);
        let read = || std::fs::read_to_string(&file).ok().filter(|secret| secret.len() == 32);
        wait_until("an instance has written its secret", START, async || read().is_some()).await;
        (id, read().expect("it was there just now"))
    }

    /// Launches an instance and connects as it.
    pub async fn connect(&self) -> SocketCloud {
        let (id, secret) = self.instance("test").await;
        self.connect_as(id, secret).await.expect("connected")
    }

    /// Connects as that instance with that secret.
    pub async fn connect_as(&self, id: InstanceId, secret: String) -> anyhow::Result<SocketCloud> {
        SocketCloud::connect(&self.folder.path().join("socket"), id, secret).await
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        self.server.abort();
    }
}
