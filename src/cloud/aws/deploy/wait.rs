//! Waiting for what AWS takes its time for.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cloud::CloudError;

/// The first pause and the longest: short waits end soon, long ones cost few calls.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// Looks again and again until `look` has something. A fault on the way there is not the end of what is waited for.
/// `None` when the time is over.
pub async fn until<T>(
    timeout: Duration,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let (began, mut pause) = (Instant::now(), FIRST);
    loop {
        match look().await {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(error) if error.downcast_ref().is_some_and(CloudError::retryable) => {
                tracing::warn!(error = format!("{error:#}"), "looking again");
            }
            Err(error) => return Err(error),
        }
        let left = timeout.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        sleep(pause.min(left)).await;
        pause = (pause * 5 / 4).min(LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_looks_past_faults_and_ends_with_its_time_or_an_error_that_stays() {
        let mut looks = 0;
        let found = until(LONGEST, async || {
            looks += 1;
            if looks < 3 { Err(CloudError::Throttled.into()) } else { Ok(Some(looks)) }
        });
        assert_eq!(found.await.unwrap(), Some(3));

        let began = Instant::now(); // of the paused clock
        assert_eq!(until(LONGEST, async || Ok(None::<()>)).await.unwrap(), None);
        assert_eq!(began.elapsed(), LONGEST);

        let denied = until(LONGEST, async || Err::<Option<()>, _>(CloudError::Denied("no".into()).into()));
        assert!(denied.await.is_err());
    }
}
