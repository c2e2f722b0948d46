//! Polling for operations that take AWS a while.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cloud::CloudError;

/// First pause between two polls.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause between two polls.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Polls until `poll` returns a value, with growing pauses. Returns `None` after `timeout`.
///
/// # Errors
/// The first error of `poll` that is not a retryable [`CloudError`].
pub(super) async fn until<T>(
    timeout: Duration,
    mut poll: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let (started_at, mut pause) = (Instant::now(), FIRST_PAUSE);
    loop {
        match poll().await {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(error) if error.downcast_ref().is_some_and(CloudError::retryable) => {
                tracing::warn!(error = format!("{error:#}"), "polling again");
            }
            Err(error) => return Err(error),
        }
        let left = timeout.saturating_sub(started_at.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        sleep(pause.min(left)).await;
        pause = (pause * 5 / 4).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn polling_retries_retryable_errors_and_ends_on_value_timeout_or_error() {
        let mut polls = 0;
        let found = until(LONGEST_PAUSE, async || {
            polls += 1;
            if polls < 3 { Err(CloudError::Throttled.into()) } else { Ok(Some(polls)) }
        });
        assert_eq!(found.await.unwrap(), Some(3));

        let started_at = Instant::now(); // of the paused clock
        assert_eq!(until(LONGEST_PAUSE, async || Ok(None::<()>)).await.unwrap(), None);
        assert_eq!(started_at.elapsed(), LONGEST_PAUSE);

        let denied = until(LONGEST_PAUSE, async || Err::<Option<()>, _>(CloudError::Denied("no".into()).into()));
        assert!(denied.await.is_err());
    }
}
