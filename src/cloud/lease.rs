//! Who of several controllers acts: a lease in the object store, taken and renewed by conditional writes.
//!
//! No two clocks are compared. A contender takes a lease whose object has not changed for the lease's whole time by its
//! own clock; the holder gives up before that time has passed since its last renewal began. Each taking raises the epoch,
//! which goes into the tokens of everything that the holder asks for.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, sleep_until};

use super::{CloudError, CloudResult, ETag, ObjectStore, Precondition};
use crate::clock::now_ms;

/// What the object says, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    holder: String,
    epoch: u64,
    /// Makes each version's bytes, and so its tag, its own.
    renewal: u64,
    /// Given up: anybody may take it at once.
    released: bool,
}

/// What a contender does about the lease as it found it.
#[derive(Debug, PartialEq, Eq)]
enum Move {
    Take { epoch: u64, when: Precondition },
    Wait,
}

/// The version that a contender has seen, and since when.
#[derive(Default)]
struct Seen(Option<(ETag, Instant)>);

impl Seen {
    /// Pure: `now` is when `present` was asked for, `first` the epoch of a lease that nobody has had.
    fn judge(&mut self, present: Option<(ETag, Record)>, now: Instant, time: Duration, first: u64) -> Move {
        let Some((etag, record)) = present else { return Move::Take { epoch: first, when: Precondition::Absent } };
        let since = match &self.0 {
            Some((seen, since)) if *seen == etag => *since,
            _ => now,
        };
        self.0 = Some((etag.clone(), since));
        if record.released || now.duration_since(since) >= time {
            Move::Take { epoch: record.epoch + 1, when: Precondition::Match(etag) }
        } else {
            Move::Wait
        }
    }
}

/// A lease that may be taken. See the module.
#[derive(Clone)]
pub struct Lease {
    store: Arc<dyn ObjectStore>,
    bucket: String,
    key: String,
    holder: String,
    time: Duration,
}

impl Lease {
    /// `holder` names this process, for people. `time`: how long a holder that has died is waited for.
    pub fn new(store: Arc<dyn ObjectStore>, bucket: &str, key: &str, holder: &str, time: Duration) -> Self {
        Self { store, bucket: bucket.to_owned(), key: key.to_owned(), holder: holder.to_owned(), time }
    }

    /// Waits until this process holds the lease.
    pub async fn acquire(&self) -> Held {
        let mut seen = Seen::default();
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(Some(held)) => return held,
                Ok(None) | Err(CloudError::Conflict(_)) => {}
                Err(error) => tracing::warn!(%error, "lease cannot be read or taken"),
            }
            sleep(self.time / 6).await;
        }
    }

    /// Takes the lease if nobody has it, without waiting for it to run out.
    pub async fn take_if_free(&self) -> CloudResult<Option<Held>> {
        match self.try_acquire(&mut Seen::default()).await {
            Err(CloudError::Conflict(_)) => Ok(None),
            result => result,
        }
    }

    async fn try_acquire(&self, seen: &mut Seen) -> CloudResult<Option<Held>> {
        let asked = Instant::now();
        let Move::Take { epoch, when } = seen.judge(self.read().await?, asked, self.time, now_ms()) else {
            return Ok(None);
        };
        let record = Record { holder: self.holder.clone(), epoch, renewal: 0, released: false };
        let began = Instant::now();
        let etag = self.write(&record, when).await?;
        tracing::info!(epoch, key = self.key, holder = self.holder, "lease taken");
        Ok(Some(Held { lease: self.clone(), record, etag, began }))
    }

    async fn read(&self) -> CloudResult<Option<(ETag, Record)>> {
        match self.store.get(&self.bucket, &self.key).await {
            Ok(object) => {
                let record = serde_json::from_slice(&object.bytes);
                let record = record.map_err(|e| {
                    CloudError::Invalid(format!("{}/{} is no lease ({e}): delete it", self.bucket, self.key))
                })?;
                Ok(Some((object.etag, record)))
            }
            Err(CloudError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, record: &Record, when: Precondition) -> CloudResult<ETag> {
        let bytes = serde_json::to_vec(record).map_err(|e| CloudError::Invalid(e.to_string()))?;
        self.store.put(&self.bucket, &self.key, Bytes::from(bytes), when).await
    }
}

/// A lease that is held.
pub struct Held {
    lease: Lease,
    record: Record,
    etag: ETag,
    /// When the last write that succeeded began.
    began: Instant,
}

impl Held {
    /// Higher than that of any holder before.
    pub fn epoch(&self) -> u64 {
        self.record.epoch
    }

    /// When the lease must be taken for lost, with a margin for what is under way.
    fn ends(&self) -> Instant {
        self.began + self.lease.time * 5 / 6
    }

    /// Renews the lease until it is lost. May be dropped and called again.
    pub async fn lost(&mut self) {
        loop {
            sleep_until(self.began + self.lease.time / 3).await;
            while let Err(error) = self.renew().await {
                tracing::warn!(%error, "lease not renewed");
                if !error.retryable() || Instant::now() >= self.ends() {
                    return;
                }
                sleep(self.lease.time / 12).await;
            }
        }
    }

    async fn renew(&mut self) -> CloudResult<()> {
        let began = Instant::now();
        let record = Record { renewal: self.record.renewal + 1, ..self.record.clone() };
        let write = self.lease.write(&record, Precondition::Match(self.etag.clone()));
        let late = || CloudError::Unavailable("no answer from the store in time".into());
        self.etag = tokio::time::timeout_at(self.ends(), write).await.map_err(|_| late())??;
        (self.record, self.began) = (record, began);
        Ok(())
    }

    /// Gives the lease up, so that another need not wait.
    pub async fn release(self) {
        let record = Record { released: true, renewal: self.record.renewal + 1, ..self.record };
        if let Err(error) = self.lease.write(&record, Precondition::Match(self.etag)).await {
            tracing::warn!(%error, "lease not given up: it has to run out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(30);

    fn version(tag: &str, epoch: u64, released: bool) -> Option<(ETag, Record)> {
        Some((ETag(tag.into()), Record { holder: "other".into(), epoch, renewal: 0, released }))
    }

    fn take(tag: &str, epoch: u64) -> Move {
        Move::Take { epoch, when: Precondition::Match(ETag(tag.into())) }
    }

    #[test]
    fn a_lease_that_nobody_has_is_taken_at_once() {
        let now = Instant::now();
        assert_eq!(Seen::default().judge(None, now, TIME, 1), Move::Take { epoch: 1, when: Precondition::Absent });
        assert_eq!(Seen::default().judge(version("a", 7, true), now, TIME, 1), take("a", 8));
    }

    #[test]
    fn a_lease_is_left_alone_until_it_has_not_changed_for_its_whole_time() {
        let (start, mut seen) = (Instant::now(), Seen::default());
        assert_eq!(seen.judge(version("a", 7, false), start, TIME, 1), Move::Wait);
        assert_eq!(seen.judge(version("a", 7, false), start + TIME / 2, TIME, 1), Move::Wait);
        assert_eq!(seen.judge(version("b", 7, false), start + TIME, TIME, 1), Move::Wait, "it was renewed");
        assert_eq!(seen.judge(version("b", 7, false), start + TIME * 3 / 2, TIME, 1), Move::Wait);
        assert_eq!(seen.judge(version("b", 7, false), start + TIME * 2, TIME, 1), take("b", 8));
    }
}
