//! The promise that a result will be found under a job's id: the response 202, or 504 with an id.
//!
//! It is stored as a pending result, and only once the job is durable in the queue: nothing would ever finish a job that
//! was never queued, and a retry would take it for accepted. From then on a worker finishes the job, or the queue gives it
//! up and it is stored as failed (see [`ResultStore::bury`]).

use super::{ResultStore, Status};
use crate::{
    cloud::{CloudResult, Message, Queue},
    job::JobId,
};

/// Sends a job, and stores it as pending once it is durable. Returns the status that is stored then: nothing may be
/// promised if that is `Deleted`.
///
/// # Errors
/// Any error of the queue or the store. The job may have been sent; a retry with the same id is safe.
pub async fn accept(
    requests: &dyn Queue,
    results: &ResultStore,
    message: Message,
    id: JobId,
    file: String,
) -> CloudResult<Status> {
    requests.send_one(message).await?;
    results.store_pending(id, file).await
}

/// Makes a job durable that has been sent without waiting for that, and stores it as pending. Returns the status that is
/// stored then, as [`accept`] does.
///
/// # Errors
/// Any error of the queue or the store.
pub async fn promise_at_deadline(
    requests: &dyn Queue,
    results: &ResultStore,
    id: JobId,
    file: String,
) -> CloudResult<Status> {
    requests.flush().await?;
    results.store_pending(id, file).await
}
