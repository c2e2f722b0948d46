//! The controllers' lease: of several controllers, only the holder acts.
//!
//! The lease is an object in the store, acquired and renewed by conditional writes. Clocks of different machines are
//! never compared: a standby acquires the lease once the object has not changed, by its own clock, for the duration of
//! the lease, and the holder stops acting before that much time has passed since its last successful renewal began.
//! Each holder has a higher epoch than its predecessor; the epoch is part of the token of every launch.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};

use super::{CloudError, CloudResult, ETag, ObjectStore, Precondition};
use crate::clock::now_ms;

/// The content of the lease object, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LeaseObject {
    holder: String,
    epoch: u64,
    /// Counts the renewals, which makes the bytes of each version, and therefore its tag, unique.
    renewal: u64,
    /// Whether the holder has released the lease: it can be acquired immediately.
    released: bool,
}

/// What a standby does about the lease.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Take { epoch: u64, when: Precondition },
    Wait,
}

/// The version that a standby saw last, and when it saw that version for the first time.
#[derive(Default)]
struct Observed(Option<(ETag, Instant)>);

impl Observed {
    /// Decides from the result of a read at `now`. `first_epoch` is the epoch if there is no object yet.
    fn decide(
        &mut self,
        found: Option<(ETag, LeaseObject)>,
        now: Instant,
        duration: Duration,
        first_epoch: u64,
    ) -> Decision {
        let Some((etag, object)) = found else {
            return Decision::Take { epoch: first_epoch, when: Precondition::Absent };
        };
        let since = match &self.0 {
            Some((seen, since)) if *seen == etag => *since,
            _ => now,
        };
        self.0 = Some((etag.clone(), since));
        if object.released || now.duration_since(since) >= duration {
            Decision::Take { epoch: object.epoch + 1, when: Precondition::Match(etag) }
        } else {
            Decision::Wait
        }
    }
}

/// A lease that this process can acquire. Cheap to clone.
#[derive(Clone)]
pub struct Lease {
    store: Arc<dyn ObjectStore>,
    bucket: String,
    key: String,
    holder: String,
    duration: Duration,
}

impl Lease {
    /// Creates a handle to the lease stored under `key` in `bucket`. `holder` identifies this process in logs and in
    /// the object. `duration` is how long others wait for a holder that has died.
    pub fn new(store: Arc<dyn ObjectStore>, bucket: &str, key: &str, holder: &str, duration: Duration) -> Self {
        Self { store, bucket: bucket.to_owned(), key: key.to_owned(), holder: holder.to_owned(), duration }
    }

    /// Waits until this process holds the lease. Errors of the store are logged and retried.
    pub async fn acquire(&self) -> Held {
        let mut observed = Observed::default();
        loop {
            match self.try_acquire(&mut observed).await {
                Ok(Some(held)) => return held,
                Ok(None) | Err(CloudError::Conflict(_)) => {}
                Err(error) => tracing::warn!(%error, "the lease cannot be read or acquired"),
            }
            sleep(self.duration / 6).await;
        }
    }

    /// Acquires the lease if it has no holder; returns `None` immediately if it has one, which may be dead.
    ///
    /// # Errors
    /// Any error of the store, and `Invalid` if the object is not a lease.
    pub async fn take_if_free(&self) -> CloudResult<Option<Held>> {
        match self.try_acquire(&mut Observed::default()).await {
            Err(CloudError::Conflict(_)) => Ok(None),
            result => result,
        }
    }

    async fn try_acquire(&self, observed: &mut Observed) -> CloudResult<Option<Held>> {
        let now = Instant::now();
        let Decision::Take { epoch, when } = observed.decide(self.read().await?, now, self.duration, now_ms()) else {
            return Ok(None);
        };
        let object = LeaseObject { holder: self.holder.clone(), epoch, renewal: 0, released: false };
        let renewed_at = Instant::now();
        let etag = self.write(&object, when).await?;
        tracing::info!(epoch, key = self.key, holder = self.holder, "lease acquired");
        Ok(Some(Held { lease: self.clone(), object, etag, renewed_at }))
    }

    async fn read(&self) -> CloudResult<Option<(ETag, LeaseObject)>> {
        match self.store.get(&self.bucket, &self.key).await {
            Ok(found) => {
                let object = serde_json::from_slice(&found.bytes).map_err(|e| {
                    CloudError::Invalid(format!("{}/{} is not a lease ({e}): delete it", self.bucket, self.key))
                })?;
                Ok(Some((found.etag, object)))
            }
            Err(CloudError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, object: &LeaseObject, when: Precondition) -> CloudResult<ETag> {
        let bytes = serde_json::to_vec(object).map_err(|e| CloudError::Invalid(e.to_string()))?;
        self.store.put(&self.bucket, &self.key, Bytes::from(bytes), when).await
    }
}

/// A lease held by this process.
pub struct Held {
    lease: Lease,
    object: LeaseObject,
    etag: ETag,
    /// When the last successful write began.
    renewed_at: Instant,
}

impl Held {
    /// Returns the epoch of this holder, which is higher than that of every earlier holder.
    pub fn epoch(&self) -> u64 {
        self.object.epoch
    }

    /// Returns when the holder must stop acting, with a margin for calls under way.
    fn deadline(&self) -> Instant {
        self.renewed_at + self.lease.duration * 5 / 6
    }

    /// Renews the lease periodically and returns when it is lost. Cancel safe.
    ///
    /// The lease is lost if another process has acquired it, or if the store has not confirmed a renewal in time. This
    /// returns before another process can acquire the lease, even if the store hangs.
    pub async fn lost(&mut self) {
        loop {
            sleep_until(self.renewed_at + self.lease.duration / 3).await;
            while let Err(error) = self.renew().await {
                tracing::warn!(%error, "the lease was not renewed");
                if !error.retryable() || Instant::now() >= self.deadline() {
                    return;
                }
                sleep(self.lease.duration / 12).await;
            }
        }
    }

    async fn renew(&mut self) -> CloudResult<()> {
        let (began, deadline) = (Instant::now(), self.deadline());
        let late = || CloudError::Unavailable("the store did not respond in time".into());
        tokio::time::timeout_at(deadline, self.replace(false)).await.map_err(|_| late())??;
        self.renewed_at = began;
        Ok(())
    }

    /// Replaces the object with its next version.
    ///
    /// A write whose result this holder has not seen (the response was lost, or the call was dropped) may have been
    /// applied. A conflict with such a version is not a real one: it has this holder's epoch, which no other process
    /// writes.
    async fn replace(&mut self, released: bool) -> CloudResult<()> {
        let mut object = LeaseObject { renewal: self.object.renewal + 1, released, ..self.object.clone() };
        let mut written = self.lease.write(&object, Precondition::Match(self.etag.clone())).await;
        if let Err(CloudError::Conflict(_)) = written
            && let Some((etag, found)) = self.lease.read().await?
            && (found.epoch, &found.holder) == (self.object.epoch, &self.object.holder)
        {
            object.renewal = found.renewal + 1; // so that the bytes differ from those in the store
            written = self.lease.write(&object, Precondition::Match(etag)).await;
        }
        (self.etag, self.object) = (written?, object);
        Ok(())
    }

    /// Releases the lease, so that the next holder need not wait for it to expire.
    pub async fn release(mut self) {
        if let Err(error) = self.replace(true).await {
            tracing::warn!(%error, "the lease was not released: others wait until it expires");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(30);

    fn version(tag: &str, epoch: u64, released: bool) -> Option<(ETag, LeaseObject)> {
        Some((ETag(tag.into()), LeaseObject { holder: "other".into(), epoch, renewal: 0, released }))
    }

    fn take(tag: &str, epoch: u64) -> Decision {
        Decision::Take { epoch, when: Precondition::Match(ETag(tag.into())) }
    }

    #[test]
    fn a_lease_without_a_holder_is_taken_at_once() {
        let now = Instant::now();
        assert_eq!(
            Observed::default().decide(None, now, DURATION, 1),
            Decision::Take { epoch: 1, when: Precondition::Absent }
        );
        assert_eq!(Observed::default().decide(version("a", 7, true), now, DURATION, 1), take("a", 8));
    }

    #[test]
    fn a_lease_is_taken_only_when_it_has_not_changed_for_its_whole_duration() {
        let (start, mut observed) = (Instant::now(), Observed::default());
        assert_eq!(observed.decide(version("a", 7, false), start, DURATION, 1), Decision::Wait);
        assert_eq!(observed.decide(version("a", 7, false), start + DURATION / 2, DURATION, 1), Decision::Wait);
        assert_eq!(
            observed.decide(version("b", 7, false), start + DURATION, DURATION, 1),
            Decision::Wait,
            "it was renewed"
        );
        assert_eq!(observed.decide(version("b", 7, false), start + DURATION * 3 / 2, DURATION, 1), Decision::Wait);
        assert_eq!(observed.decide(version("b", 7, false), start + DURATION * 2, DURATION, 1), take("b", 8));
    }
}
