//! Batches syncs of the file system: callers that wait at the same time share one.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

/// Shortest time between the starts of two syncs. A sync costs the same for one file and for hundreds, and no client
/// waits for it.
const MIN_INTERVAL: Duration = Duration::from_millis(200);

/// Syncs the file system of a folder; see the [module](self).
pub(super) struct GroupSync {
    sync: Arc<dyn Fn() -> io::Result<()> + Send + Sync>,
    /// Number of the last sync that has begun.
    begun: AtomicU64,
    /// Number of the last sync that has ended.
    ended: AtomicU64,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// When the last sync began.
    at: Option<Instant>,
    /// Number of the last sync that failed, or zero.
    failed: u64,
}

impl GroupSync {
    /// Prepares to sync the file system of a folder by `syncfs(2)`.
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let folder = File::open(folder)?;
        Ok(Self::with(move || Ok(nix::unistd::syncfs(&folder)?)))
    }

    fn with(sync: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { sync: Arc::new(sync), begun: AtomicU64::new(0), ended: AtomicU64::new(0), last: Mutex::default() }
    }

    /// Waits for the end of a sync that began after this call.
    ///
    /// # Errors
    /// That sync, or one that was under way at the time of the call, has failed. Linux reports a write error to only
    /// one of the two.
    pub(super) async fn sync(&self) -> io::Result<()> {
        let (ended, begun) = (self.ended.load(Ordering::SeqCst), self.begun.load(Ordering::SeqCst));
        let mut last = self.last.lock().await;
        if last.failed > ended {
            return Err(io::Error::other("a shared sync has failed"));
        }
        if self.ended.load(Ordering::SeqCst) > begun {
            return Ok(()); // another caller's sync, begun while this call waited
        }
        if let Some(at) = last.at {
            tokio::time::sleep_until(at + MIN_INTERVAL).await;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        last.at = Some(Instant::now());
        let sync = self.sync.clone();
        let result = tokio::task::spawn_blocking(move || sync()).await.map_err(io::Error::other).flatten();
        if result.is_err() {
            last.failed = number;
        }
        self.ended.store(number, Ordering::SeqCst);
        result
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn concurrent_callers_share_syncs_that_begin_after_their_calls() {
        let folder = tempfile::tempdir().expect("a folder");
        let group = GroupSync::new(folder.path()).expect("opened");
        let each = (0..200).map(|_| async {
            let before = group.begun.load(Ordering::SeqCst);
            group.sync().await.expect("synced");
            assert!(group.ended.load(Ordering::SeqCst) > before);
        });
        join_all(each).await;
        // The first is alone; the others find at most one under way and share the next.
        assert!(group.begun.load(Ordering::SeqCst) <= 3);
    }

    #[tokio::test]
    async fn a_failed_sync_is_reported_to_all_earlier_callers_and_to_no_later_one() {
        let tries = AtomicU64::new(0);
        let (all_called, wait) = std::sync::mpsc::sync_channel(1);
        let wait = std::sync::Mutex::new(wait);
        let group = GroupSync::with(move || match tries.fetch_add(1, Ordering::SeqCst) {
            0 => {
                wait.lock().expect("no panic").recv().expect("all have called");
                Err(io::Error::other("the disk is gone"))
            }
            _ => Ok(()),
        });
        let calls = join_all((0..20).map(|_| group.sync()));
        let (results, ()) = tokio::join!(calls, async { all_called.send(()).expect("the first sync waits") });
        assert!(results.iter().all(Result::is_err), "the system reports the error once: {results:?}");
        group.sync().await.expect("the next one succeeds");
    }
}
