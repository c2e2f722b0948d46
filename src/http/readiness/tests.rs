use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use proptest::prelude::*;

use super::*;

/// What is checked, and how often it was.
#[derive(Default)]
struct Checked {
    calls: AtomicUsize,
    fails: Mutex<bool>,
}

impl Checked {
    fn fail(&self, fails: bool) {
        *self.fails.lock().unwrap() = fails;
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    async fn check(&self) -> CloudResult<()> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        if *self.fails.lock().unwrap() { Err(CloudError::Throttled) } else { Ok(()) }
    }
}

async fn get(readiness: &Readiness, checked: &Arc<Checked>) -> CloudResult<()> {
    let checked = checked.clone();
    readiness.get(Instant::now(), async move || checked.check().await).await
}

#[tokio::test(start_paused = true)]
async fn the_first_who_asks_waits_for_a_check() {
    let (readiness, checked) = (Readiness::default(), Arc::new(Checked::default()));
    checked.fail(true);
    assert_eq!(get(&readiness, &checked).await, Err(CloudError::Throttled));
}

#[tokio::test(start_paused = true)]
async fn one_check_is_made_for_all_who_ask_within_an_interval() {
    let (readiness, checked) = (Readiness::default(), Arc::new(Checked::default()));
    let start = Instant::now();
    for checks in 1..=3 {
        let at_once = join_all((0..50).map(|_| get(&readiness, &checked))).await;
        assert!(at_once.iter().all(Result::is_ok));
        for _ in 0..49 {
            tokio::time::advance(EVERY / 50).await;
            assert_eq!(get(&readiness, &checked).await, Ok(()));
        }
        assert_eq!(checked.calls(), checks);
        tokio::time::advance(start + EVERY * checks as u32 - Instant::now()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_takes_the_check_from_nobody() {
    let (readiness, checked) = (Readiness::default(), Arc::new(Checked::default()));
    for _ in 0..50 {
        assert_eq!(get(&readiness, &checked).now_or_never(), None, "it is under way");
    }
    assert_eq!(get(&readiness, &checked).await, Ok(()));
    assert_eq!(checked.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_has_failed_and_another_may_succeed() {
    let readiness = Readiness::default();
    let hangs = readiness.get(Instant::now(), std::future::pending);
    assert!(matches!(hangs.await, Err(CloudError::Unavailable(_))));
    tokio::time::advance(EVERY).await;
    assert_eq!(get(&readiness, &Arc::default()).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_has_failed_and_another_may_succeed() {
    let readiness = Readiness::default();
    let panics = readiness.get(Instant::now(), async || panic!("as asked"));
    assert!(matches!(panics.await, Err(CloudError::Unavailable(_))));
    tokio::time::advance(EVERY).await;
    assert_eq!(get(&readiness, &Arc::default()).await, Ok(()));
}

proptest! {
    /// Whoever asks, and whenever: checks are an interval apart, and an outage and its end are reported an interval after
    /// they begin.
    #[test]
    fn an_outage_and_its_end_are_reported_within_an_interval(
        asks in prop::collection::vec((0u64..8_000, any::<bool>()), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (readiness, checked) = (Readiness::default(), Arc::new(Checked::default()));
            let (mut changed, mut fails, start) = (Instant::now(), false, Instant::now());
            for (pause_ms, change) in asks {
                tokio::time::advance(Duration::from_millis(pause_ms)).await;
                if change {
                    (changed, fails) = (Instant::now(), !fails);
                    checked.fail(fails);
                }
                let reported = get(&readiness, &checked).await;
                if changed + EVERY <= Instant::now() {
                    prop_assert_eq!(reported.is_err(), fails);
                }
            }
            let intervals = (Instant::now() - start).as_millis() / EVERY.as_millis();
            prop_assert!(checked.calls() as u128 <= 1 + intervals);
            Ok(())
        })?;
    }
}

#[test]
fn a_check_ends_before_load_balancers_give_up_and_before_the_next_one() {
    let template = include_str!("../../../deploy/cloudformation.yaml");
    let wait = template.lines().find_map(|line| line.trim().strip_prefix("HealthCheckTimeoutSeconds: "));
    let wait = Duration::from_secs(wait.and_then(|seconds| seconds.parse().ok()).expect("in the template"));
    assert!(TIMEOUT < wait && TIMEOUT < EVERY);
}
