//! A parent's socket, and connections of workers to it, without a whole Rollcall.

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
        // An instance that tells its secret, so that the test can say hello in its place.
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

    /// Launches an instance and connects as it.
    pub async fn connect(&self) -> SocketCloud {
        let id = self.compute.launch("test", 1).await.expect("launched").remove(0);
        let secret = self.secret(&id).await;
        SocketCloud::connect(&self.folder.path().join("socket"), id, secret).await.expect("connected")
    }

    async fn secret(&self, id: &InstanceId) -> String {
        let file = self.folder.path().join(&id.0);
        let read = || std::fs::read_to_string(&file).ok().filter(|secret| secret.len() == 32);
        wait_until("an instance tells its secret", START, async || read().is_some()).await;
        read().expect("it was there just now")
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        self.server.abort();
    }
}
