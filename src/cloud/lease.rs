//! The controllers' lease: of several controllers, only the holder acts.
//!
//! The lease is an object in the store, acquired and renewed by conditional writes. Clocks of different machines are
//! never compared: a standby acquires the lease once the object has not changed, by its own clock, for the duration of
//! the lease, and the holder stops acting before that much time has passed since its last successful renewal began.
//! Each holder has a higher epoch than its predecessor; the epoch is part of the token of every launch.
//!
//! Processes may have ranks. A standby of a higher rank than the holder's claims the lease by writing its rank into the object. The
//! holder then stops acting and releases the lease, and standbys of lower ranks leave it to the claimant for its duration.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

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
    /// Rank of the holder; `None` if it is of a release that knows no ranks, and heeds no claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rank: Option<u64>,
    /// Rank of the standby that claims the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<u64>,
}

/// What a standby does about the lease.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Take { epoch: u64, when: Precondition },
    Claim { object: LeaseObject, when: Precondition },
    Wait,
}

/// What a process does with its rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rank {
    number: u64,
    /// Whether it may claim the lease of a holder of a lower rank.
    claims: bool,
}

/// How the time of a holder ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Another process has acquired the lease, or the store has not confirmed a renewal in time.
    Lost,
    /// A process of a higher rank claims it: the holder still has it, and releases it once it has stopped acting.
    Claimed,
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
        rank: Rank,
    ) -> Decision {
        let Some((etag, object)) = found else {
            return Decision::Take { epoch: first_epoch, when: Precondition::Absent };
        };
        let since = match &self.0 {
            Some((seen, since)) if *seen == etag => *since,
            _ => now,
        };
        self.0 = Some((etag.clone(), since));
        let claim = object.claim.unwrap_or(0);
        let is_below = object.rank.is_some_and(|holder| holder < rank.number) && claim < rank.number;
        if (object.released && claim <= rank.number) || now.duration_since(since) >= duration {
            Decision::Take { epoch: object.epoch + 1, when: Precondition::Match(etag) }
        } else if rank.claims && !object.released && is_below {
            Decision::Claim {
                object: LeaseObject { claim: Some(rank.number), ..object },
                when: Precondition::Match(etag),
            }
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
    rank: u64,
    /// Whether this process may claim the lease of a holder of a lower rank.
    claims: Option<watch::Receiver<bool>>,
}

impl Lease {
    /// Creates a handle to the lease stored under `key` in `bucket`. `holder` identifies this process in logs and in
    /// the object. `duration` is how long others wait for a holder that has died.
    pub fn new(store: Arc<dyn ObjectStore>, bucket: &str, key: &str, holder: &str, duration: Duration) -> Self {
        Self {
            store,
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            holder: holder.to_owned(),
            duration,
            rank: 0,
            claims: None,
        }
    }

    /// Gives this process a rank, by which it claims the lease while `claims` is `true`. Without one, its rank is 0.
    pub fn with_rank(self, rank: u64, claims: watch::Receiver<bool>) -> Self {
        Self { rank, claims: Some(claims), ..self }
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
        let rank = Rank { number: self.rank, claims: self.claims.as_ref().is_some_and(|claims| *claims.borrow()) };
        let (epoch, when) = match observed.decide(self.read().await?, now, self.duration, now_ms(), rank) {
            Decision::Take { epoch, when } => (epoch, when),
            Decision::Claim { object, when } => {
                self.write(&object, when).await?;
                tracing::info!(rank = self.rank, key = self.key, holder = object.holder, "lease claimed");
                return Ok(None);
            }
            Decision::Wait => return Ok(None),
        };
        let (holder, rank) = (self.holder.clone(), Some(self.rank));
        let object = LeaseObject { holder, epoch, renewal: 0, released: false, rank, claim: None };
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

/// Conflicts in a row with own writes and with claims, of which there is one of each at most.
const MAX_CONFLICTS: usize = 3;

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

    /// Renews the lease periodically and returns when it is lost or claimed. Cancel safe.
    ///
    /// This returns before another process can acquire the lease, even if the store hangs.
    pub async fn ended(&mut self) -> Ending {
        loop {
            sleep_until(self.renewed_at + self.lease.duration / 3).await;
            while let Err(error) = self.renew().await {
                tracing::warn!(%error, "the lease was not renewed");
                if !error.retryable() || Instant::now() >= self.deadline() {
                    return Ending::Lost;
                }
                sleep(self.lease.duration / 12).await;
            }
            if self.object.claim.is_some_and(|claim| claim > self.lease.rank) {
                return Ending::Claimed;
            }
        }
    }

    async fn renew(&mut self) -> CloudResult<()> {
        let late = || CloudError::Unavailable("the store did not respond in time".into());
        tokio::time::timeout_at(self.deadline(), self.regain()).await.map_err(|_| late())?
    }

    /// Renews the lease, also after it was lost, unless another process has taken it meanwhile.
    ///
    /// # Errors
    /// `Conflict` if another process has taken or deleted it. Any other error of the store.
    pub async fn regain(&mut self) -> CloudResult<()> {
        let began = Instant::now();
        self.replace(false).await?;
        self.renewed_at = began;
        Ok(())
    }

    /// Replaces the object with its next version.
    ///
    /// A write whose result this holder has not seen (the response was lost, or the call was dropped) may have been
    /// applied, or may still be. A conflict with such a version is not a real one: it has this holder's epoch, with which other processes write only
    /// claims.
    async fn replace(&mut self, released: bool) -> CloudResult<()> {
        let mut object = LeaseObject { renewal: self.object.renewal + 1, released, ..self.object.clone() };
        let mut written = self.lease.write(&object, Precondition::Match(self.etag.clone())).await;
        for _ in 0..MAX_CONFLICTS {
            if let Err(CloudError::Conflict(_)) = written
                && let Some((etag, found)) = self.lease.read().await?
                && (found.epoch, &found.holder) == (self.object.epoch, &self.object.holder)
            {
                object.renewal = found.renewal + 1; // so that the bytes differ from those in the store
                object.claim = found.claim;
                written = self.lease.write(&object, Precondition::Match(etag)).await;
            } else {
                break;
            }
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
        Some((
            ETag(tag.into()),
            LeaseObject { holder: "other".into(), epoch, renewal: 0, released, rank: None, claim: None },
        ))
    }

    fn take(tag: &str, epoch: u64) -> Decision {
        Decision::Take { epoch, when: Precondition::Match(ETag(tag.into())) }
    }

    #[test]
    fn a_lease_without_a_holder_is_taken_at_once() {
        let now = Instant::now();
        assert_eq!(
            Observed::default().decide(None, now, DURATION, 1, Rank::default()),
            Decision::Take { epoch: 1, when: Precondition::Absent }
        );
        assert_eq!(Observed::default().decide(version("a", 7, true), now, DURATION, 1, Rank::default()), take("a", 8));
    }

    #[test]
    fn a_lease_is_taken_only_when_it_has_not_changed_for_its_whole_duration() {
        let (start, mut observed) = (Instant::now(), Observed::default());
        assert_eq!(observed.decide(version("a", 7, false), start, DURATION, 1, Rank::default()), Decision::Wait);
        assert_eq!(
            observed.decide(version("a", 7, false), start + DURATION / 2, DURATION, 1, Rank::default()),
            Decision::Wait
        );
        assert_eq!(
            observed.decide(version("b", 7, false), start + DURATION, DURATION, 1, Rank::default()),
            Decision::Wait,
            "it was renewed"
        );
        assert_eq!(
            observed.decide(version("b", 7, false), start + DURATION * 3 / 2, DURATION, 1, Rank::default()),
            Decision::Wait
        );
        assert_eq!(
            observed.decide(version("b", 7, false), start + DURATION * 2, DURATION, 1, Rank::default()),
            take("b", 8)
        );
    }

    fn of_rank(rank: Option<u64>, claim: Option<u64>, released: bool) -> Option<(ETag, LeaseObject)> {
        let (etag, object) = version("a", 7, released)?;
        Some((etag, LeaseObject { rank, claim, ..object }))
    }

    #[test]
    fn a_higher_rank_claims_the_lease_once_and_is_the_first_to_take_what_is_released() {
        let now = Instant::now();
        let decide =
            |found, number, claims| Observed::default().decide(found, now, DURATION, 1, Rank { number, claims });
        let claim = Decision::Claim {
            object: of_rank(Some(2), Some(3), false).expect("an object").1,
            when: Precondition::Match(ETag("a".into())),
        };
        assert_eq!(decide(of_rank(Some(2), None, false), 3, true), claim);
        assert_eq!(decide(of_rank(Some(2), Some(1), false), 3, true), claim, "a lower claim");
        assert_eq!(decide(of_rank(Some(2), None, false), 3, false), Decision::Wait, "it may not");
        assert_eq!(decide(of_rank(Some(2), Some(3), false), 3, true), Decision::Wait, "it has, or another of its rank");
        assert_eq!(decide(of_rank(Some(2), None, false), 2, true), Decision::Wait, "of the same rank");
        assert_eq!(decide(of_rank(None, None, false), 3, true), Decision::Wait, "an earlier release heeds no claim");
        assert_eq!(decide(of_rank(Some(2), Some(3), true), 3, true), take("a", 8));
        assert_eq!(decide(of_rank(Some(2), None, true), 1, false), take("a", 8), "released for all");
        // What is left to a claimant is taken if nobody does for the whole duration.
        let mut observed = Observed::default();
        let mut low =
            |at| observed.decide(of_rank(Some(2), Some(3), true), at, DURATION, 1, Rank { number: 2, claims: true });
        assert_eq!(low(now), Decision::Wait);
        assert_eq!(low(now + DURATION / 2), Decision::Wait);
        assert_eq!(low(now + DURATION), take("a", 8));
    }

    #[test]
    fn objects_of_releases_without_ranks_are_read_and_keep_their_form() {
        let text = r#"{"holder":"h","epoch":3,"renewal":1,"released":false}"#;
        let object: LeaseObject = serde_json::from_str(text).expect("an object");
        assert_eq!((object.rank, object.claim), (None, None));
        assert_eq!(serde_json::to_string(&object).expect("JSON"), text);
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_learns_of_a_claim_and_the_claimant_follows_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store: Arc<dyn ObjectStore> =
            Arc::new(crate::cloud::local::LocalObjects::open(folder.path()).expect("a store"));
        let (claims, claim) = watch::channel(false);
        let lease = |holder: &str, rank| {
            Lease::new(store.clone(), "state", "lease", holder, DURATION).with_rank(rank, claim.clone())
        };
        let (low, high) = (lease("low", 1), lease("high", 2));
        let mut held = low.acquire().await;
        let epoch = held.epoch();
        let next = tokio::spawn(async move { high.acquire().await });
        let ended = tokio::time::timeout(5 * DURATION, held.ended()).await;
        assert!(ended.is_err(), "the higher rank is not ready");
        claims.send_replace(true);
        assert_eq!(held.ended().await, Ending::Claimed);
        assert!(!next.is_finished(), "the holder has not released it");
        held.release().await;
        let again = tokio::spawn(async move { low.acquire().await });
        let mut next = next.await.expect("no panic");
        assert_eq!(next.epoch(), epoch + 1);
        assert!(tokio::time::timeout(5 * DURATION, next.ended()).await.is_err(), "nobody claims it back");
        next.release().await;
        assert_eq!(again.await.expect("no panic").epoch(), epoch + 2, "released without a claim");
    }
}
