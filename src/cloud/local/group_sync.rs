//! One sync of the file system for all who wait for one.

use std::{
    fs::File,
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{sync::Mutex, time::Instant};

/// Shortest time between the starts of two syncs: a sync costs the same for one file and for hundreds, and nobody who
/// waits here has a client waiting.
const PACE: Duration = Duration::from_millis(50);

/// See the module. `syncfs(2)`: writes what the file system of a folder holds in memory.
#[derive(Debug)]
pub struct GroupSync {
    folder: File,
    /// Syncs that have begun.
    begun: AtomicU64,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    /// Number and time of the last sync that succeeded.
    number: u64,
    at: Option<Instant>,
}

impl GroupSync {
    pub fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self { folder: File::open(folder)?, begun: AtomicU64::new(0), last: Mutex::default() })
    }

    /// Returns when a sync that began after this call has ended.
    pub async fn sync(&self) -> io::Result<()> {
        let begun = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if last.number > begun {
            return Ok(()); // somebody else's, begun while this call waited
        }
        if let Some(at) = last.at {
            tokio::time::sleep_until(at + PACE).await;
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let at = Instant::now();
        let folder = self.folder.try_clone()?;
        tokio::task::spawn_blocking(move || nix::unistd::syncfs(folder)).await.map_err(io::Error::other)??;
        *last = Last { number, at: Some(at) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn many_who_wait_share_few_syncs_and_each_gets_one_that_began_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let group = GroupSync::new(folder.path()).expect("opened");
        let each = (0..200).map(|_| async {
            let before = group.begun.load(Ordering::SeqCst);
            group.sync().await.expect("synced");
            assert!(group.last.lock().await.number > before);
        });
        join_all(each).await;
        // The first is alone; the others find at most one under way and share the next.
        assert!(group.begun.load(Ordering::SeqCst) <= 3, "{group:?}");
    }
}
