//! Whether queue and store can be reached, which is found out at most once in an interval, however many ask: each check
//! costs calls, and anybody may ask.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::time::{Instant, timeout};

use crate::cloud::{CloudError, CloudResult};

/// How long a check counts, from its beginning. Whoever asks later waits for another one.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// A check that takes longer has failed. Load balancers wait for 4 s (`HealthCheckTimeoutSeconds` in
/// `deploy/cloudformation.yaml`).
const TIMEOUT: Duration = Duration::from_secs(3);

/// A check, which may still be under way.
struct Check {
    began: Instant,
    result: Shared<BoxFuture<'static, CloudResult<()>>>,
}

/// Checks queue and store if somebody asks. Of several who ask at the same time, the first one's check counts for all.
#[derive(Default)]
pub(super) struct Readiness(Mutex<Option<Check>>);

impl Readiness {
    /// Returns the result of the last check, or of the one that is under way, or of a new one by `check` if the last one
    /// began at least [`EVERY`] before `now`.
    ///
    /// # Errors
    /// Any error of `check`, which is logged, or `Unavailable` if it takes too long.
    pub async fn get<F>(&self, now: Instant, check: impl FnOnce() -> F) -> CloudResult<()>
    where
        F: Future<Output = CloudResult<()>> + Send + 'static,
    {
        let result = {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match &*last {
                Some(last) if !is_due(last.began, now) => last.result.clone(),
                _ => last.insert(Check { began: now, result: start(check()) }).result.clone(),
            }
        };
        result.await
    }
}

/// Returns whether another check is due after one that has begun at `began`.
fn is_due(began: Instant, now: Instant) -> bool {
    now.saturating_duration_since(began) >= EVERY
}

/// Starts a check that goes on if those who wait for it do not.
fn start(check: impl Future<Output = CloudResult<()>> + Send + 'static) -> Shared<BoxFuture<'static, CloudResult<()>>> {
    let check = tokio::spawn(async {
        let checked = timeout(TIMEOUT, check).await;
        let checked = checked.unwrap_or_else(|_| Err(CloudError::Unavailable(format!("no response in {TIMEOUT:?}"))));
        checked.inspect_err(|error| tracing::warn!(%error, "not ready: queue or store cannot be reached"))
    });
    let ended = |error| CloudError::Unavailable(format!("the check has ended: {error}"));
    check.map(move |checked| checked.unwrap_or_else(|error| Err(ended(error)))).boxed().shared()
}

#[cfg(test)]
mod tests;
