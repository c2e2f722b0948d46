//! Expiry: faces are not kept for ever.

use super::{LONGEST_RETENTION_MS, ResultStore, Status, Stored, is_expired, keys};
use crate::cloud::{CloudError, CloudResult};

impl ResultStore {
    /// Returns when the newest result was last changed, in milliseconds since the Unix epoch by the clock of the store;
    /// `None` if there is none.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn newest_ms(&self) -> CloudResult<Option<u64>> {
        let results = self.store.list(&self.buckets.state, keys::RESULTS).await?;
        Ok(results.into_iter().map(|object| object.modified_ms).max())
    }

    /// Deletes finished results that were last changed before `before_ms` (Unix epoch), with their images, labels and
    /// dead letters, and returns how many. A result of a job that may still be in a queue stays, and so does its
    /// payload. Tombstones are deleted once no queue can hold their job. What belongs to no result is for
    /// [`Self::orphans`].
    ///
    /// # Errors
    /// Any error of the store; the next call goes on.
    pub async fn expire(&self, before_ms: u64, now_ms: u64) -> CloudResult<usize> {
        let state = &self.buckets.state;
        let unqueued_ms = now_ms.saturating_sub(LONGEST_RETENTION_MS).min(before_ms);
        let mut expired = 0;
        for object in self.store.list(state, keys::RESULTS).await? {
            let Some(id) = keys::job_of_result(&object.key).filter(|_| object.modified_ms < before_ms) else {
                continue;
            };
            match self.stored(id).await? {
                Stored::Deleted(None) if object.modified_ms < unqueued_ms => {
                    self.store.delete(state, &object.key).await?;
                }
                Stored::Deleted(None) | Stored::Absent => {}
                Stored::Result(result) if result.status == Status::Pending && !is_expired(&result, now_ms) => {}
                Stored::Result(_) | Stored::Deleted(Some(_)) => match self.delete(id).await {
                    Ok(deleted) => expired += usize::from(deleted),
                    Err(CloudError::Conflict(_)) => {} // it is pending
                    Err(other) => return Err(other),
                },
            }
        }
        Ok(expired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::now_ms,
        cloud::{ObjectStore as _, Precondition},
        job::{Failure, FailureKind, Job, JobId, Output, Retention},
        testing::World,
    };

    const DAY_MS: u64 = 24 * 3600 * 1000;

    #[tokio::test]
    async fn finished_results_expire_and_pending_ones_stay() {
        let world = World::new().await;
        for id in [1, 2] {
            let output = Output { result: "{}".into(), summary: "no face".into() };
            let job = world.job(id, "photo");
            world.results.store_output(&job, "photo".into(), &output, "i-1").await.expect("stored");
        }
        world.results.flush().await.expect("durable");
        let payload = world.results.store_payload(JobId(4), Retention::Keep, "a.txt", "large".into()).await;
        let dead = Job { payload: payload.expect("stored"), ..world.job(4, "") };
        let failure = Failure::new(FailureKind::Internal, "given up");
        assert_eq!(world.results.bury(&dead, "message".into(), &failure).await, Ok(true));
        world.results.store_pending(JobId(3), "c.txt".into()).await.expect("stored");
        let (now, later) = (now_ms(), now_ms() + 30 * DAY_MS);
        assert_eq!(world.results.expire(now - DAY_MS, now).await, Ok(0), "they are younger than a day");
        assert_eq!(world.results.expire(now + DAY_MS, now + DAY_MS).await, Ok(3));
        assert!(world.results.get(JobId(1)).await.expect("read").is_none());
        assert!(world.results.get(JobId(3)).await.expect("read").is_some(), "its job may be in the queue");
        let stored = &world.settings.store;
        for (bucket, prefix) in [(&stored.input, ""), (&stored.output, ""), (&stored.state, keys::DEAD_LETTERS)] {
            assert_eq!(world.objects.list(bucket, prefix).await, Ok(Vec::new()), "{bucket}/{prefix}");
        }
        assert_eq!(
            world.objects.list(&stored.state, keys::RESULTS).await.expect("listed").len(),
            4,
            "three tombstones"
        );
        world.results.expire(later, later).await.expect("tombstones");
        assert_eq!(world.objects.list(&stored.state, keys::RESULTS).await.expect("listed").len(), 1);

        // Pending since 1970, so no queue holds its job any more.
        let key = keys::result_key(JobId(3));
        let mut pending: serde_json::Value =
            serde_json::from_slice(&world.objects.get(&stored.state, &key).await.expect("read").bytes).expect("JSON");
        pending["submitted_ms"] = 1.into();
        let bytes = pending.to_string().into();
        world.objects.put(&stored.state, &key, bytes, Precondition::Always).await.expect("put");
        assert_eq!(world.results.expire(later, later).await, Ok(1));
        world.results.expire(later, later).await.expect("its tombstone");
        let left = world.objects.list(&stored.state, keys::RESULTS).await.expect("listed");
        assert_eq!(left, Vec::new(), "nothing is left of any");
    }
}
