//! Promises that cannot be kept, because their jobs are lost.

use std::collections::HashSet;

use super::{JobResult, ResultStore, Status, Step, Stored, keys};
use crate::{
    clock::now_ms,
    cloud::CloudResult,
    job::{Failure, FailureKind, JobId},
};

impl ResultStore {
    /// Stores as failed, for this reason, each pending job that is not among `queued`, the jobs in the queues. Returns the ids and file
    /// names of the lost ones. No job may be submitted or done at the same time.
    ///
    /// # Errors
    /// Any error of the store; the next call goes on.
    pub async fn fail_lost(&self, queued: &HashSet<JobId>, why: &str) -> CloudResult<Vec<(JobId, String)>> {
        let mut lost = Vec::new();
        for object in self.store.list(&self.buckets.state, keys::RESULTS).await? {
            let Some(id) = keys::job_of_result(&object.key).filter(|id| !queued.contains(id)) else { continue };
            let Stored::Result(pending) = self.stored(id).await? else { continue };
            if pending.status != Status::Pending {
                continue;
            }
            let failure = Failure::new(FailureKind::Internal, why);
            let failed = JobResult {
                status: Status::Failed,
                failure: Some(failure),
                finished_ms: Some(now_ms()),
                ..*pending.clone()
            };
            if self.advance(id, Step::Fail, Vec::new(), &failed).await?.is_none() {
                lost.push((id, pending.file));
            }
        }
        self.flush().await?;
        Ok(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{job::Output, testing::World};

    #[tokio::test]
    async fn pending_jobs_that_no_queue_holds_are_stored_as_failed() {
        let world = World::new().await;
        for id in [1, 2] {
            world.results.store_pending(JobId(id), format!("{id}.txt")).await.expect("stored");
        }
        let output = Output::json(&"x", "x").expect("JSON");
        world.results.store_output(&world.job(3, "x"), "x".into(), &output, "i-1").await.expect("stored");

        let lost = world.results.fail_lost(&HashSet::from([JobId(1)]), "lost").await;
        assert_eq!(lost, Ok(vec![(JobId(2), "2.txt".to_owned())]));
        let mut statuses = Vec::new();
        for id in 1..=3 {
            statuses.push(world.results.get(JobId(id)).await.expect("read").expect("a result").status);
        }
        assert_eq!(statuses, [Status::Pending, Status::Failed, Status::Done]);
        assert_eq!(world.results.fail_lost(&HashSet::from([JobId(1)]), "lost").await, Ok(Vec::new()));
    }
}
