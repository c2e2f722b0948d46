//! How a worker makes known that its instance is ready: by tagging it, and over the status queue while EC2 refuses the tag
//! because too many instances are tagged. See `docs/adr/0039-ready-although-not-tagged.md`.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder, Retryable as _};

use crate::cloud::{CloudError, CloudResult};

/// Retries of a call that an instance makes about itself, about two minutes in total. The EC2 client itself does not
/// retry.
const RETRIES: usize = 7;
/// Longest pause between two announcements over the status queue. A controller that has just begun counts the boot as
/// failed if it learns of it only after `fleet.boot_timeout`.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(30);

/// Whether an instance is tagged as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tagged {
    Yes,
    /// It has been announced, and is to be tagged by [`tag_later`].
    NotYet,
}

/// Returns the pauses between attempts of a call that an instance makes about itself.
pub(super) fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default().with_jitter().with_max_times(RETRIES)
}

/// Returns whether the call may succeed later. EC2 is eventually consistent and does not know a new instance at first.
pub(super) fn is_transient(error: &CloudError) -> bool {
    error.retryable() || matches!(error, CloudError::NotFound(_))
}

/// Tags the instance by `tag`. If EC2 refuses that because too many calls are made, whatever failed before, the instance is
/// announced instead; without `announce`, or if that fails, the tag is tried again, with pauses.
///
/// # Errors
/// The last error of `tag`.
pub(super) async fn tag_or_announce<T, A>(tag: impl Fn() -> T, announce: Option<impl Fn() -> A>) -> CloudResult<Tagged>
where
    T: Future<Output = CloudResult<()>>,
    A: Future<Output = CloudResult<()>>,
{
    let passing = |error: &CloudError| is_transient(error) && *error != CloudError::Throttled;
    let first = (|| tag()).retry(backoff()).when(passing).await;
    if first != Err(CloudError::Throttled) {
        return first.map(|()| Tagged::Yes);
    }
    if let Some(announce) = announce
        && announce().await.is_ok()
    {
        return Ok(Tagged::NotYet);
    }
    tokio::time::sleep(ExponentialBuilder::default().with_jitter().build().next().unwrap_or_default()).await;
    (|| tag()).retry(backoff()).when(is_transient).await.map(|()| Tagged::Yes)
}

/// Tags the instance by `tag` however often EC2 refuses it, with pauses that double up to a minute, and announces until then
/// that it is ready, at least every [`ANNOUNCE_EVERY`].
pub(super) async fn tag_later<T, A>(tag: impl Fn() -> T, announce: impl Fn() -> A)
where
    T: Future<Output = CloudResult<()>>,
    A: Future<Output = CloudResult<()>>,
{
    let announce = async || {
        if let Err(error) = announce().await {
            tracing::warn!(%error, "the controller was not told that this worker is ready");
        }
    };
    for pause in ExponentialBuilder::default().with_jitter().without_max_times().build() {
        let mut left = pause;
        while left > ANNOUNCE_EVERY {
            tokio::time::sleep(ANNOUNCE_EVERY).await;
            announce().await;
            left -= ANNOUNCE_EVERY;
        }
        tokio::time::sleep(left).await;
        match tag().await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "this instance is not tagged as ready yet"),
        }
        announce().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, sync::Mutex};

    use tokio::time::Instant;

    use super::*;

    const THROTTLED: CloudResult<()> = Err(CloudError::Throttled);

    fn unknown() -> CloudResult<()> {
        Err(CloudError::NotFound("i-1".into()))
    }

    /// Calls that have these results, then succeed; and when they were made.
    struct Calls {
        results: Mutex<VecDeque<CloudResult<()>>>,
        made: Mutex<Vec<Instant>>,
    }

    impl Calls {
        fn new(results: impl IntoIterator<Item = CloudResult<()>>) -> Self {
            Self { results: Mutex::new(results.into_iter().collect()), made: Mutex::default() }
        }

        async fn call(&self) -> CloudResult<()> {
            self.made.lock().unwrap().push(Instant::now());
            self.results.lock().unwrap().pop_front().unwrap_or(Ok(()))
        }

        fn made(&self) -> usize {
            self.made.lock().unwrap().len()
        }

        fn gaps(&self) -> Vec<Duration> {
            self.made.lock().unwrap().windows(2).map(|pair| pair[1] - pair[0]).collect()
        }
    }

    async fn report(tags: &Calls, announcements: Option<&Calls>) -> CloudResult<Tagged> {
        tag_or_announce(|| tags.call(), announcements.map(|calls| || calls.call())).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_tag_that_is_throttled_after_another_failure_is_announced_and_not_given_up() {
        for failures in [vec![], vec![unknown()], vec![unknown(), Err(CloudError::Unavailable("x".into()))]] {
            let (n, announcements) = (failures.len(), Calls::new([]));
            let tags = Calls::new(failures.into_iter().chain([THROTTLED]));
            assert_eq!(report(&tags, Some(&announcements)).await, Ok(Tagged::NotYet));
            assert_eq!((tags.made(), announcements.made()), (n + 1, 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_tag_that_cannot_be_announced_is_tried_again_after_pauses() {
        let failed = Calls::new([Err(CloudError::Unavailable("x".into()))]);
        for announcements in [None, Some(&failed)] {
            let tags = Calls::new([unknown(), THROTTLED, THROTTLED, unknown(), THROTTLED]);
            assert_eq!(report(&tags, announcements).await, Ok(Tagged::Yes));
            assert_eq!(tags.made(), 6);
            assert!(tags.gaps().iter().all(|gap| *gap >= Duration::from_secs(1)), "{:?}", tags.gaps());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tag_that_is_denied_is_an_error() {
        let denied = || Err(CloudError::Denied("not you".into()));
        for results in [vec![denied()], vec![unknown(), denied()], vec![THROTTLED, denied()]] {
            let tags = Calls::new(results);
            assert_eq!(report(&tags, None).await, denied().map(|()| Tagged::Yes));
        }
    }

    /// A controller that begins at any time learns of the instance long before it would count its boot as failed.
    #[tokio::test(start_paused = true)]
    async fn an_instance_that_is_not_tagged_is_announced_every_half_minute() {
        let (tags, announcements) = (Calls::new(vec![THROTTLED; 20]), Calls::new([]));
        tag_later(|| tags.call(), || announcements.call()).await;
        assert_eq!(tags.made(), 21);
        let gaps = announcements.gaps();
        assert!(gaps.iter().all(|gap| *gap <= Duration::from_secs(30)), "{gaps:?}");
        let pause = *tags.gaps().last().unwrap();
        assert!(pause >= Duration::from_secs(60), "EC2 is called no more often: {pause:?}");
        assert!(ANNOUNCE_EVERY * 4 < crate::testing::settings().fleet.boot_timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn an_announcement_that_fails_does_not_end_the_tagging() {
        let failed = || Err(CloudError::Unavailable("x".into()));
        let (tags, announcements) = (Calls::new([THROTTLED, failed(), unknown()]), Calls::new([failed(), failed()]));
        tag_later(|| tags.call(), || announcements.call()).await;
        assert_eq!((tags.made(), announcements.made()), (4, 3));
    }

    #[test]
    fn an_instance_that_ec2_does_not_know_yet_is_a_transient_error() {
        assert!(is_transient(&CloudError::NotFound("i-1".into())));
        assert!(is_transient(&CloudError::Throttled));
        assert!(is_transient(&CloudError::Unavailable("x".into())));
        assert!(!is_transient(&CloudError::Denied("x".into())));
        assert!(!is_transient(&CloudError::Conflict("x".into())));
    }
}
