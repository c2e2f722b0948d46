//! Orphans: payloads and summaries that belong to no result and to no job in the queue.
//!
//! A process that is killed leaves them: a web node that has stored a payload and not yet sent the job, or a worker that
//! has stored some objects of a job. The job itself may be lost when the parent dies, if no result has been promised.

use std::collections::{BTreeMap, HashSet};

use super::{ResultStore, Status, keys};
use crate::{
    cloud::{CloudResult, ObjectInfo},
    job::JobId,
};

/// Results up to this size in bytes are read, because they may be tombstones, which have no output.
const TOMBSTONE: u64 = 512;

/// An object that belongs to no result and to no job in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Orphan {
    /// The job that it was stored for.
    pub id: JobId,
    /// Its bucket.
    pub bucket: String,
    /// The object, which is another one once it has been put again.
    pub object: ObjectInfo,
}

impl ResultStore {
    /// Deletes orphans, and returns how many objects were deleted. `queued` are the jobs in the queues. Nothing else may
    /// use the store at the same time.
    ///
    /// # Errors
    /// Same as [`Self::orphans`].
    pub async fn sweep_orphans(&self, queued: &HashSet<JobId>) -> CloudResult<usize> {
        let orphans = self.orphans(queued).await?;
        for orphan in &orphans {
            self.store.delete(&orphan.bucket, &orphan.object.key).await?;
        }
        Ok(orphans.len())
    }

    /// Returns the orphans. `queued` are the jobs in the queues. If the store is in use, some may be of jobs that are
    /// just being submitted: see [`Suspects`](super::suspects::Suspects).
    ///
    /// Objects whose key does not tell their job, because its template lacks `{id}`, are left out.
    ///
    /// Images and labels are left out, too, if there is no result at all: results may be elsewhere then.
    ///
    /// # Errors
    /// Any error of the store.
    pub async fn orphans(&self, queued: &HashSet<JobId>) -> CloudResult<Vec<Orphan>> {
        let state = &self.buckets.state;
        let mut results = BTreeMap::new();
        for object in self.store.list(state, keys::RESULTS).await? {
            results.extend(keys::job_of_result(&object.key).map(|id| (id, object.size)));
        }
        let mut candidates = Vec::new();
        for (bucket, template) in
            [(&self.buckets.input, &*self.buckets.input_key), (&self.buckets.output, &*self.buckets.output_key)]
        {
            for object in self.store.list(bucket, "").await? {
                candidates.extend(keys::job_of(template, &object.key).map(|id| (id, bucket, object)));
            }
        }
        if results.is_empty() && !candidates.is_empty() {
            tracing::warn!("there are images and no results at all: is store.state = {state:?} right?");
            candidates.clear();
        }
        for object in self.store.list(state, keys::CLAIMS).await? {
            candidates.extend(keys::job_of_claim(&object.key).map(|id| (id, state, object)));
        }

        let mut orphans = Vec::new();
        for (id, bucket, object) in candidates {
            let has_result = match results.get(&id) {
                None => false,
                Some(size) if *size > TOMBSTONE => true,
                Some(_) => self.stored(id).await?.status() != Some(Status::Deleted),
            };
            if !has_result && !queued.contains(&id) {
                orphans.push(Orphan { id, bucket: bucket.clone(), object });
            }
        }
        Ok(orphans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        job::{Failure, FailureKind, Job, Output, Retention},
        testing::World,
    };

    async fn store_payload(world: &World, id: u128, retention: Retention) -> Job {
        let stored = world.results.store_payload(JobId(id), retention, "a.txt", "large".into()).await;
        Job { payload: stored.expect("stored"), ..world.job(id, "") }
    }

    #[tokio::test]
    async fn objects_without_a_result_or_a_queued_job_are_deleted() {
        let world = World::new().await;
        let output = Output::json(&"x", "x").expect("JSON");
        world.results.store_output(&world.job(1, "x"), "x".into(), &output, "i-1").await.expect("stored");
        store_payload(&world, 2, Retention::Keep).await;
        store_payload(&world, 3, Retention::Discard).await;
        let dead = store_payload(&world, 4, Retention::Keep).await;
        let failure = Failure::new(FailureKind::Internal, "given up");
        world.results.bury(&dead, "message".into(), &failure).await.expect("buried");
        world.results.store_pending(JobId(5), "a.txt".into()).await.expect("stored");
        store_payload(&world, 5, Retention::Keep).await;
        let kept = world.everything().await;

        let orphan = store_payload(&world, 6, Retention::Keep).await;
        store_payload(&world, 7, Retention::Discard).await;
        world.results.delete(JobId(8)).await.expect("deleted");
        let with_tombstone = world.everything().await;
        store_payload(&world, 8, Retention::Keep).await;
        let (bucket, key) = (&world.settings.store.output, keys::output_key(&world.settings.store, orphan.id, "a.txt"));
        let put = world.results.store.put(bucket, &key, "x".into(), crate::cloud::Precondition::Always).await;
        put.expect("put");

        let queued = HashSet::from([JobId(2), JobId(3)]);
        assert_eq!(world.results.sweep_orphans(&queued).await, Ok(4));
        let after = world.everything().await;
        assert_eq!(
            (after.len(), &after),
            (
                kept.len() + 1,
                &with_tombstone
                    .into_iter()
                    .filter(|path| { !path.contains(&JobId(6).to_string()) && !path.contains(&JobId(7).to_string()) })
                    .collect()
            )
        );
        assert_eq!(world.results.sweep_orphans(&queued).await, Ok(0));
    }

    #[tokio::test]
    async fn no_image_is_deleted_if_there_are_no_results_at_all() {
        let world = World::new().await;
        store_payload(&world, 2, Retention::Discard).await;
        assert_eq!(world.results.sweep_orphans(&HashSet::new()).await, Ok(1), "nobody has uploaded yet");
        store_payload(&world, 1, Retention::Keep).await;
        store_payload(&world, 2, Retention::Discard).await;
        assert_eq!(world.results.sweep_orphans(&HashSet::new()).await, Ok(1), "what nothing is kept of is no result");
        assert_eq!(world.everything().await.len(), 1);
    }

    #[tokio::test]
    async fn claims_are_deleted_even_if_there_are_no_results_at_all() {
        let world = World::new().await;
        for id in [1, 2] {
            store_payload(&world, id, Retention::Discard).await;
        }
        assert_eq!(world.results.sweep_orphans(&HashSet::from([JobId(1)])).await, Ok(1));
        assert_eq!(world.keys(&world.settings.store.state).await, [keys::claim_key(JobId(1))]);
    }

    #[tokio::test]
    async fn objects_whose_key_does_not_tell_their_job_are_left_alone() {
        let world = World::new().await;
        let bucket = &world.settings.store.input;
        world.results.store_pending(JobId(1), "a.txt".into()).await.expect("stored");
        for key in
            ["photo.jpg", "folder/photo.jpg", "d41d8cd98f00b204e9800998ecf8427e.jpg", "d41d8cd98f00b204e9800998ec/x"]
        {
            let put = world.results.store.put(bucket, key, "x".into(), crate::cloud::Precondition::Always).await;
            put.expect("put");
        }
        assert_eq!(world.results.sweep_orphans(&HashSet::new()).await, Ok(0));
    }
}
