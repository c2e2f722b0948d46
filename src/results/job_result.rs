//! What is stored of a job under its id.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    clock::now_ms,
    cloud::{CloudError, CloudResult},
    job::{Failure, Job, JobId, Output, Reply},
};

/// The stored result of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobResult {
    /// The job's id.
    pub id: String,
    /// Sanitised file name of the payload.
    pub file: String,
    /// The status of the job.
    pub status: Status,
    /// The handler's output: JSON. Serialised as `recognition` for compatibility with existing
    /// results.
    #[serde(rename = "recognition")]
    pub output: Option<Box<RawValue>>,
    /// The text of the object in the output bucket, of results that are done; earlier releases did not store it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Why there is no output.
    pub failure: Option<Failure>,
    /// The instance that ran the job.
    pub worker: Option<String>,
    /// When the job was submitted, in milliseconds since the Unix epoch.
    pub submitted_ms: u64,
    /// When the job was done, in milliseconds since the Unix epoch.
    pub finished_ms: Option<u64>,
}

/// The status of a job, in the order in which a job moves through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = JobStatus)]
pub enum Status {
    /// Accepted and not done yet.
    Pending,
    /// Ended without an output.
    Failed,
    /// Done, with an output.
    Done,
    /// Deleted by a client: a tombstone. Nothing of the job is stored any more, even if it is done again.
    Deleted,
}

/// What is stored of a job under its id.
#[derive(Clone, Debug)]
pub enum Stored {
    /// Nothing.
    Absent,
    /// The tombstone of a deleted result, with the file name if its other objects may not all be deleted yet.
    Deleted(Option<String>),
    /// The result.
    Result(Box<JobResult>),
}

impl Stored {
    /// Returns the status; `None` if nothing is stored.
    pub(super) fn status(&self) -> Option<Status> {
        match self {
            Self::Absent => None,
            Self::Deleted(_) => Some(Status::Deleted),
            Self::Result(result) => Some(result.status),
        }
    }
}

impl JobResult {
    /// Returns the result as the reply to job `id`; `None` if the job is not finished.
    pub fn reply(self, id: JobId) -> Option<Reply> {
        let outcome = match (self.output, self.failure) {
            (Some(output), _) => Ok(Bytes::from(String::from(Box::<str>::from(output)))),
            (None, Some(failure)) => Err(failure),
            (None, None) => return None,
        };
        Some(Reply { id, outcome, worker: self.worker.unwrap_or_default(), worker_ms: 0.0 })
    }

    /// Returns the output of a job that is done; `None` if it is not, or was done by a release that did not store the
    /// summary.
    pub fn into_output(self) -> Option<Output> {
        let result = Bytes::from(String::from(Box::<str>::from(self.output?)));
        Some(Output { result, summary: self.summary? })
    }

    /// Returns the result of a job that has no output.
    pub(super) fn without_output(id: JobId, status: Status) -> Self {
        Self {
            id: id.to_string(),
            file: String::new(),
            status,
            output: None,
            summary: None,
            failure: None,
            worker: None,
            submitted_ms: 0,
            finished_ms: None,
        }
    }
}

/// Returns the result of a job that has ended.
pub(super) fn finished(job: &Job, worker: Option<&str>, outcome: Result<&Output, &Failure>) -> CloudResult<JobResult> {
    let output = outcome.ok().map(|output| serde_json::from_slice::<Box<RawValue>>(&output.result)).transpose();
    let output = output.map_err(|e| CloudError::Invalid(format!("the result of job {} is not JSON: {e}", job.id)))?;
    Ok(JobResult {
        id: job.id.to_string(),
        file: job.file.clone(),
        status: if output.is_some() { Status::Done } else { Status::Failed },
        output,
        summary: outcome.ok().map(|output| output.summary.clone()),
        failure: outcome.err().cloned(),
        worker: worker.map(str::to_owned),
        submitted_ms: job.submitted_ms,
        finished_ms: Some(now_ms()),
    })
}
