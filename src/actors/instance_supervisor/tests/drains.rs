//! How a worker ends: idle, by a signal, or because the cloud reclaims its instance.

use super::*;

fn spot(at_ms: Option<u64>) -> Interruption {
    Interruption { reason: "spot".into(), at_ms }
}

impl Cloud {
    /// Announces that it will reclaim the instance.
    fn announce(&self, at_ms: Option<u64>) {
        *self.notice.lock().expect("no panic") = Some(spot(at_ms));
    }
}

#[test]
fn an_idle_worker_stops_its_instance_and_ends() {
    let cloud = Arc::new(Cloud::default());
    let asked = cloud.clone();
    let code = run(async move {
        let world = World::new().await;
        start(&world, asked, Duration::from_millis(50)).await;
        Box::leak(Box::new(world));
    });
    assert_eq!((code, *cloud.stops.lock().expect("no panic")), (0, 1));
}

#[test]
fn an_interruption_notice_drains_the_worker() {
    let cloud = Arc::new(Cloud { notice: Mutex::new(Some(spot(None))), ..Cloud::default() });
    let asked = cloud.clone();
    let code = run(async move {
        let world = World::new().await;
        start(&world, asked, Duration::from_secs(60)).await;
        Box::leak(Box::new(world));
    });
    assert_eq!((code, *cloud.stops.lock().expect("no panic")), (0, 1));
}

#[test]
fn an_interruption_notice_lets_the_job_in_flight_finish() {
    let cloud = Arc::<Cloud>::default();
    let asked = cloud.clone();
    let code = run(async move {
        let world = World::new().await;
        let worker = start(&world, asked.clone(), Duration::from_secs(60)).await;
        world.send(&world.job(1, "x")).await;
        depth(&*world.requests, 0, 1).await;
        world.send(&world.job(2, "y")).await;
        asked.announce(None);
        wait_until("the notice is read", TIMEOUT, async || *asked.noticed.lock().expect("no panic") > 0).await;
        tokio::task::yield_now().await; // the worker hears of it before its job ends
        depth(&*world.requests, 1, 1).await;
        worker.gate.open();
        depth(&*world.requests, 1, 0).await;
        assert!(world.results.get(JobId(1)).await.expect("read").is_some(), "its result is kept");
        Box::leak(Box::new(world));
    });
    assert_eq!((code, *cloud.stops.lock().expect("no panic")), (0, 1));
}

#[test]
fn a_job_that_outlasts_the_drain_returns_to_the_queue_before_the_instance_stops() {
    let cloud = Arc::<Cloud>::default();
    let asked = cloud.clone();
    let code = run(async move {
        let world = World::new().await;
        let drain = Duration::from_millis(200);
        let worker = start_draining(&world, asked, Duration::from_secs(60), 1, drain).await;
        world.send(&world.job(1, "x")).await;
        depth(&*world.requests, 0, 1).await;
        worker.end.tell(End(EndReason::Interrupted(spot(None))));
        depth(&*world.requests, 1, 0).await; // for others, although its thread is still busy
        assert!(world.results.get(JobId(1)).await.expect("read").is_none());
        Box::leak(Box::new(world));
    });
    assert_eq!((code, *cloud.stops.lock().expect("no panic")), (0, 1));
}

/// Such a drain would otherwise last for an hour.
#[test]
fn a_drain_after_a_notice_ends_before_the_cloud_reclaims_the_instance() {
    assert_eq!(returned_after_a_notice(None), (0, 1));
}

#[test]
fn a_notice_during_another_drain_shortens_it() {
    assert_eq!(returned_after_a_notice(Some(EndReason::Signal)), (0, 1));
}

/// Has a worker whose job does not end drain for a reason, if there is one, and announces that its instance is reclaimed so
/// soon that no time is left for the job. Returns when the job is in the queue again: the exit code of the worker, and how
/// often it has stopped its instance.
fn returned_after_a_notice(reason: Option<EndReason>) -> (i32, usize) {
    let cloud = Arc::<Cloud>::default();
    let asked = cloud.clone();
    let code = run(async move {
        let world = World::new().await;
        let drain = Duration::from_secs(3_600);
        let worker = start_draining(&world, asked.clone(), Duration::from_secs(60), 1, drain).await;
        world.send(&world.job(1, "x")).await;
        depth(&*world.requests, 0, 1).await;
        if let Some(reason) = reason {
            worker.end.tell(End(reason));
        }
        asked.announce(Some(now_ms() + 15_000));
        // Without the time of the notice, it would be 100 seconds.
        wait_until("the job is in the queue again", TIMEOUT, async || {
            world.requests.depth().await.expect("a depth").visible == 1
        })
        .await;
        assert!(world.results.get(JobId(1)).await.expect("read").is_none());
        Box::leak(Box::new(world));
    });
    (code, *cloud.stops.lock().expect("no panic"))
}

/// The jobs are done, so there is nothing to return to the queue while the cloud stops the instance.
#[test]
fn a_stop_may_take_longer_than_a_drain() {
    let takes = Duration::from_secs(20) + RETURN_TIMEOUT * 2;
    let cloud = Arc::new(Cloud { stop_takes: Some(takes), ..Cloud::default() });
    let asked = cloud.clone();
    let code = run(async move {
        let world = World::new().await;
        start_draining(&world, asked, Duration::from_millis(50), 1, Duration::from_secs(20)).await;
        Box::leak(Box::new(world));
    });
    assert_eq!((code, *cloud.stops.lock().expect("no panic")), (0, 1));
}

#[test]
fn a_worker_that_starts_after_the_notice_ends_at_once() {
    let cloud = Arc::new(Cloud { notice: Mutex::new(Some(spot(None))), ..Cloud::default() });
    let asked = cloud.clone();
    let began = Arc::new(Mutex::new(None));
    let code = run({
        let began = began.clone();
        async move {
            let world = World::new().await;
            tokio::time::pause();
            *began.lock().expect("no panic") = Some(Instant::now());
            start(&world, asked, Duration::from_secs(60)).await;
            Box::leak(Box::new(world));
        }
    });
    let stopped = *cloud.stopped_at.lock().expect("no panic");
    let took = stopped.expect("it stopped") - began.lock().expect("no panic").expect("it began");
    assert!(took < INTERRUPTION_EVERY, "after {took:?} of the paused clock");
    assert_eq!((code, *cloud.stops.lock().expect("no panic")), (0, 1));
}

#[test]
fn the_machine_is_powered_off_after_a_stop_that_failed() {
    let cloud = Arc::new(Cloud { refuses: true, ..Cloud::default() });
    let code = run(async move {
        let world = World::new().await;
        start(&world, cloud, Duration::from_millis(50)).await;
        Box::leak(Box::new(world));
    });
    assert_eq!(code, EXIT_UNAVAILABLE);
    // On this code, the systemd unit powers off the machine instead of restarting the worker.
    let unit = include_str!("../../../../deploy/rollcall-worker.service");
    assert!(unit.lines().any(|line| line == format!("RestartPreventExitStatus={EXIT_UNAVAILABLE}")));
    assert!(unit.lines().any(|line| line == "FailureAction=poweroff"));
}
