//! Erasure: deletes the results that tell of somebody, wherever they are.

use std::collections::HashSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use utoipa::ToSchema;

use super::{JobResult, ResultStore, Status, Stored, keys};
use crate::{
    cloud::{CloudError, CloudResult},
    job::JobId,
};

/// Results that are read at the same time.
const CONCURRENT: usize = 16;

/// Decides which results are erased.
pub trait Selection: Sync {
    /// Returns whether a result is, given its output (JSON).
    fn output(&self, output: &str) -> bool;

    /// Returns whether the result of a job without an output is, given its summary: a worker that died had stored it.
    fn summary(&self, summary: &str) -> bool;
}

/// How many objects were deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Erased {
    /// Results.
    pub results: usize,
    /// Payloads.
    pub images: usize,
    /// Summaries.
    pub labels: usize,
    /// Dead letters.
    pub dead_letters: usize,
}

/// What was deleted of one job.
struct Deleted {
    image: String,
    label: String,
    dead_letters: usize,
}

/// What was found under the id of a job.
struct Look {
    /// What was deleted, if it was selected.
    deleted: Option<Deleted>,
    /// Whether it can only be deleted from now on.
    is_final: bool,
}

impl ResultStore {
    /// Deletes the finished results that `selection` selects, as [`Self::delete`] does, and completes deletions that were
    /// interrupted. Reads only results that were last changed at `since_ms` (Unix epoch) or later and are not in `seen`.
    /// Adds to `seen` those that were read and will not change any more, except by deletion.
    ///
    /// # Errors
    /// Any error of the store; some results may have been deleted, and the call must be repeated.
    pub async fn erase(
        &self,
        since_ms: u64,
        seen: &mut HashSet<JobId>,
        selection: &dyn Selection,
    ) -> CloudResult<Erased> {
        let listed = self.store.list(&self.buckets.state, keys::RESULTS).await?;
        let recent = listed.into_iter().filter(|object| object.modified_ms >= since_ms);
        let ids = recent.filter_map(|object| keys::job_of_result(&object.key)).filter(|id| !seen.contains(id));
        let ids: Vec<JobId> = ids.collect();
        let looked = stream::iter(ids).map(async |id| self.erase_one(id, selection).await.map(|look| (id, look)));
        let looked: Vec<(JobId, Look)> = looked.buffer_unordered(CONCURRENT).try_collect().await?;

        seen.extend(looked.iter().filter(|(_, look)| look.is_final).map(|(id, _)| *id));
        let deleted: Vec<Deleted> = looked.into_iter().filter_map(|(_, look)| look.deleted).collect();
        // Without {id} in their templates, several jobs may share a key.
        let images: HashSet<&str> = deleted.iter().map(|job| job.image.as_str()).collect();
        let labels: HashSet<&str> = deleted.iter().map(|job| job.label.as_str()).collect();
        Ok(Erased {
            results: deleted.len(),
            images: images.len(),
            labels: labels.len(),
            dead_letters: deleted.iter().map(|job| job.dead_letters).sum(),
        })
    }

    async fn erase_one(&self, id: JobId, selection: &dyn Selection) -> CloudResult<Look> {
        let nothing = |is_final| Ok(Look { deleted: None, is_final });
        let result = match self.stored(id).await? {
            Stored::Result(result) => result,
            Stored::Deleted(Some(_)) => {
                self.delete(id).await?;
                return nothing(true);
            }
            Stored::Deleted(None) => return nothing(true),
            Stored::Absent => return nothing(false),
        };
        // A job that failed may be sent again.
        let is_final = result.status == Status::Done;
        let selected = match &result.output {
            Some(output) => selection.output(output.get()),
            None if result.status == Status::Failed => self.has_selected_summary(id, &result, selection).await?,
            None => false, // it is pending
        };
        if !selected {
            return nothing(is_final);
        }
        let dead_letters = self.dead_letter_keys(id).await?.len();
        let deleted = self.delete_if(id, |status| status == Some(result.status)).await?;
        let image = keys::input_key(&self.buckets, id, &result.file);
        let label = keys::output_key(&self.buckets, id, &result.file);
        Ok(Look { deleted: deleted.then_some(Deleted { image, label, dead_letters }), is_final: deleted })
    }

    async fn has_selected_summary(
        &self,
        id: JobId,
        result: &JobResult,
        selection: &dyn Selection,
    ) -> CloudResult<bool> {
        let key = keys::output_key(&self.buckets, id, &result.file);
        match self.store.get(&self.buckets.output, &key).await {
            Ok(summary) => Ok(std::str::from_utf8(&summary.bytes).is_ok_and(|summary| selection.summary(summary))),
            Err(CloudError::NotFound(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }
}

#[cfg(test)]
mod tests;
