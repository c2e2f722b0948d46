//! Boots and their distribution, and what is billed for them.

use super::*;
use rollcall_fleet::{Cause, InstanceId, InstanceState};

#[test]
fn a_boot_is_pending_then_running_then_ready() {
    for (warm, action, boot) in
        [(0, launch(1), 25.0), (1, Action::Start { ids: vec![InstanceId(format!("i-{:017x}", 0))] }, 15.0)]
    {
        let outcome = run(
            &CloudModel { warm, ..model() },
            &trace(10, &[s(0)]),
            vec![(s(0), action), (s(200), Action::ReadDepth)],
            1,
        );
        let (running, start) = (outcome.first(|sample| sample.running == 1), outcome.starts()[0]);
        assert!((0.4 * boot..0.4 * boot + 0.01).contains(&running.as_secs_f64()), "{running:?}");
        assert!((boot..boot + 0.01).contains(&start.as_secs_f64()), "{start:?}");
        assert_eq!(outcome.at(s(5)).pending, 1);
        let billed = outcome.usage.billed;
        assert_eq!(billed, outcome.history.end.saturating_sub(running), "pending is not billed");
    }
}

#[test]
fn boots_are_log_normal_around_their_median() {
    let spread = Boot { sigma: 0.3, pending_share: 1.0, ..model().boot };
    let outcome = run(&CloudModel { boot: spread, ..model() }, &trace(10, &[]), vec![(s(0), launch(1000))], 1);
    for (share, sigmas) in [(160, -1.0_f64), (500, 0.0), (840, 1.0)] {
        let at = outcome.first(|sample| sample.running >= share).as_secs_f64();
        let expected = 25.0 * (0.3 * sigmas).exp();
        assert!((at / expected - 1.0).abs() < 0.04, "{share} of 1000 after {at} s, expected {expected} s");
    }
}

#[test]
fn a_share_of_the_boots_is_slower() {
    let slow = Boot { slow_share: 0.25, slow_factor: 4.0, pending_share: 1.0, ..model().boot };
    let outcome = run(&CloudModel { boot: slow, ..model() }, &trace(10, &[]), vec![(s(0), launch(1000))], 1);
    assert!((710..790).contains(&outcome.at(s(99)).running), "{:?}", outcome.at(s(99)));
    assert_eq!((outcome.at(s(24)).running, outcome.at(s(101)).running), (0, 1000));
}

#[test]
fn a_failed_boot_stays_pending_until_it_is_terminated() {
    let faults = Faults { boot: 1.0, ..model().faults };
    let terminate = Action::Terminate { ids: vec![InstanceId(format!("i-{:017x}", 0))], cause: Cause::BootTimeout };
    let script = vec![(s(0), launch(1)), (s(500), terminate)];
    let outcome = run(&CloudModel { faults, ..model() }, &trace(10, &[s(0)]), script, 1);
    assert_eq!((outcome.at(s(499)).pending, outcome.history.peak), (1, 1));
    assert_eq!((outcome.usage.billed, outcome.usage.terminations), (Duration::ZERO, 1));
}

#[test]
fn stops_and_shutdowns_have_their_own_medians() {
    let launches = || vec![(s(0), launch(40))];
    let idle_stop = Some(IdleStop { idle: s(50), billing_minimum: s(0) });
    let outcome = run_with_idle_stop(&model(), idle_stop, &trace(10, &[]), launches(), 1);
    let [early, median, late] = [85, 95, 115].map(|at| outcome.at(s(at)).stopped);
    assert!(early == 0 && (10..=30).contains(&median) && late == 40, "{early}, {median}, {late}");

    let ids = (0..40).map(|n| InstanceId(format!("i-{n:017x}"))).collect();
    let terminate = Action::Terminate { ids, cause: Cause::Sweep };
    let describe = |at| (s(at), Action::Describe { generation: at });
    let script = [launches(), vec![(s(5), terminate)], [20, 35, 60].map(describe).into()].concat();
    let outcome = run(&model(), &trace(100, &[]), script, 1);
    let terminated =
        |instances: &Vec<Instance>| instances.iter().filter(|i| i.state == InstanceState::Terminated).count();
    let counts: Vec<usize> = outcome.described().iter().map(terminated).collect();
    assert!(matches!(counts[..], [0, 10..=30, 40]), "{counts:?}");
    assert_eq!(outcome.usage.terminations, 40);
}

#[test]
fn a_run_begins_with_the_stopped_instances_of_the_model() {
    let outcome = run(&CloudModel { warm: 4, ..model() }, &trace(3600, &[]), vec![(s(3600), Action::ReadDepth)], 1);
    assert_eq!((outcome.at(s(3600)).stopped, outcome.usage.launches), (4, 0));
    assert_eq!(outcome.usage.stopped.as_secs() / 60, 4 * 60, "their time counts from the start of the run");
    assert_eq!(outcome.usage.disk_time, outcome.usage.stopped);
}
