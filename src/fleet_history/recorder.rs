//! Looks at the fleet every second, and keeps its history in a file.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle, time::Instant};

use super::{FleetHistory, Gauges, file, history::History};
use crate::{clock::now_ms, fleet::view::FleetView, settings::Prices};

/// Time between two looks.
const EVERY_MS: u64 = 1000;
/// Time between two writes of the file. A crash loses what was not written.
const KEEP_EVERY: Duration = Duration::from_secs(300);

/// A task that records the fleet of a node.
pub struct Recorder {
    history: FleetHistory,
    path: Option<PathBuf>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Continues the history in the file, if there is one, and records until [`Self::stop`].
    pub async fn start(
        history: FleetHistory,
        path: Option<PathBuf>,
        prices: Prices,
        fleet: watch::Receiver<Arc<FleetView>>,
    ) -> Self {
        if let Some(path) = path.clone() {
            // A panic while reading is reported by the panic hook, and leaves an empty history.
            let found = tokio::task::spawn_blocking(move || file::read(&path).map_err(|error| (path, error))).await;
            match found {
                Ok(Ok(Some(kept))) => history.with(|history| *history = History::restore(kept)),
                Ok(Err((path, error))) => {
                    let path = path.display();
                    tracing::warn!(%path, %error, "the history of the fleet cannot be read: it begins anew");
                }
                Ok(Ok(None)) | Err(_) => {}
            }
        }
        let task = tokio::spawn(record(history.clone(), path.clone(), prices, fleet));
        Self { history, path, task }
    }

    /// Ends the recording, and writes the file.
    pub async fn stop(self) {
        self.task.abort();
        if let Some(path) = self.path {
            keep(&self.history, path).await;
        }
    }
}

/// Records for as long as this future is polled.
async fn record(history: FleetHistory, path: Option<PathBuf>, prices: Prices, fleet: watch::Receiver<Arc<FleetView>>) {
    let mut kept = Instant::now();
    loop {
        // At the beginning of each second of the clock, so that each bucket has one look.
        let wait = EVERY_MS - now_ms() % EVERY_MS;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let view = fleet.borrow().clone();
        if view.at_ms > 0 {
            history.observe(now_ms(), Gauges::of(&view, &prices), &view.decisions);
        }
        if let Some(path) = &path
            && kept.elapsed() >= KEEP_EVERY
        {
            keep(&history, path.clone()).await;
            kept = Instant::now();
        }
    }
}

/// Writes the history into its file.
async fn keep(history: &FleetHistory, path: PathBuf) {
    let history = history.clone();
    let written = tokio::task::spawn_blocking(move || {
        let kept = history.with(|history| history.to_keep());
        file::write(&path, &kept).map_err(|error| (path, error))
    });
    if let Ok(Err((path, error))) = written.await {
        tracing::warn!(path = %path.display(), %error, "the history of the fleet was not written");
    }
}
