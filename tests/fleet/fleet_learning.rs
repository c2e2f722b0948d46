//! What the controller learns, and how it explains itself (docs/fleet.md).

use std::time::Duration;

use rollcall::{
    cloud::{CloudError, Depth, InstanceId, InstanceState},
    fleet::{
        BootOutcome, Event, FleetRules,
        explain::{Decision, Kind},
    },
    settings::Policy,
};

use crate::fleet_support::script::{SECOND, Script, rules};

use InstanceState::{Pending, Running, Stopped, Stopping, Terminated};

/// Returns whether a time is as expected, within a tolerance for the interval between two descriptions.
fn close(time: Duration, expected: Duration) -> bool {
    time.abs_diff(expected) <= SECOND / 5
}

/// Launches and starts an instance, with the given times until it runs.
fn boots(cold: u32, warm: u32) -> Script {
    let mut script = Script::new(rules());
    script.run_until(10.0);
    script.jobs(1);
    let (at, token) = script.launches().last().map(|(at, token, _)| (*at, (*token).to_owned())).expect("a launch");
    script.launched(&token, Ok(&["i-0"]));
    script.run_until(at + 1.0);
    script.show_launched("i-0", Pending, &token);
    script.run_until(at + f64::from(cold));
    script.show_launched("i-0", Running, &token);
    script.depth = Depth::default();
    script.run_for(20.0);
    script.show("i-0", Stopping);
    script.run_for(7.0);
    script.show("i-0", Stopped);
    script.run_for(20.0);
    script.jobs(1);
    let at = script.starts().last().expect("a start").0;
    script.started("i-0", Ok(()));
    script.run_until(at + 1.0);
    script.show("i-0", Pending);
    script.run_until(at + f64::from(warm));
    script.show("i-0", Running);
    script
}

#[test]
fn boot_times_are_learned_per_kind_from_request_to_running() {
    // The median of one observation and two priors is a prior, or lies between them.
    let learned = boots(60, 5).view().learned;
    assert_eq!((learned.boot_cold, learned.boot_warm), (25 * SECOND, 15 * SECOND), "one boot does not move the plan");
    let mut script = Script::new(FleetRules { max_instances: 3, ..rules() });
    script.jobs(3);
    let token = script.launches()[0].1.to_owned();
    script.launched(&token, Ok(&["i-0", "i-1", "i-2"]));
    let requested = script.launches()[0].0;
    for (n, name) in ["i-0", "i-1", "i-2"].into_iter().enumerate() {
        script.run_until(requested + 30.0 + n as f64);
        script.show_launched(name, Running, &token);
    }
    assert!(close(script.view().learned.boot_cold, 31 * SECOND));
    assert_eq!(script.view().learned.boot_warm, 15 * SECOND);

    script.depth = Depth::default();
    script.run_for(1.1);
    for name in ["i-0", "i-1", "i-2"] {
        script.show(name, Stopped);
    }
    script.run_for(5.0);
    script.jobs(3);
    let requested = script.starts()[0].0;
    for (n, name) in ["i-0", "i-1", "i-2"].into_iter().enumerate() {
        script.run_until(requested + 4.0 + n as f64);
        script.show(name, Pending);
        script.show(name, Running);
    }
    assert!(close(script.view().learned.boot_warm, 5 * SECOND));
    assert!(close(script.view().learned.boot_cold, 31 * SECOND));
}

#[test]
fn stops_are_learned_from_stopping_to_stopped() {
    // Stops take 40 s, so a stopping instance is not worth waiting for until 30 s have passed.
    let waits = |seconds: f64| {
        let mut script = Script::with(rules(), &[Stopping; 3]);
        script.run_until(40.0);
        for n in 0..3 {
            script.show(&format!("i-{n}"), Stopped);
            script.show(&format!("i-{n}"), Terminated);
        }
        script.show("i-4", Running);
        script.run_until(100.0);
        script.show("i-4", Stopping);
        script.run_for(seconds);
        script.jobs(1);
        script.launches().is_empty()
    };
    assert!(!waits(20.0));
    assert!(waits(32.0));
}

#[test]
fn the_service_time_is_learned_from_replies() {
    let mut script = Script::with(rules(), &[Running]);
    for _ in 0..1000 {
        let worker = InstanceId("i-0".into());
        script.event(Event::Served { worker, jobs: 2, busy: 6 * SECOND });
    }
    let service = script.view().learned.service;
    assert!(close(service, 3 * SECOND), "{service:?}");
}

#[test]
fn deadline_counts_booting_instances_and_expects_overdue_ones_to_be_late() {
    let deadline = FleetRules { policy: Policy::Deadline, target_latency: 30 * SECOND, ..rules() };
    // 30 jobs within 30 s, on instances that boot in 25 s: the horizon is 40 s, and two instances do 15 jobs each.
    let mut script = Script::new(deadline);
    script.jobs(30);
    assert_eq!(script.core.target(), 2);
    let token = script.launches()[0].1.to_owned();
    script.launched(&token, Ok(&["i-0", "i-1"]));
    script.show_launched("i-0", Pending, &token);
    script.show_launched("i-1", Pending, &token);
    script.run_until(25.0);
    assert_eq!((script.core.target(), script.launches().len()), (1, 1), "they are about to run");
    script.run_until(49.0);
    assert_eq!(script.launches().len(), 1);
    script.run_until(53.0);
    assert_eq!(script.launches().len(), 2, "they are so late that they would not finish");
}

#[test]
fn deadline_counts_unobserved_launches_with_their_remaining_boot_time() {
    let lag = 100 * SECOND;
    let rules = FleetRules { policy: Policy::Deadline, target_latency: 30 * SECOND, describe_lag: lag, ..rules() };
    let mut script = Script::new(rules);
    script.run_until(105.0);
    script.jobs(30);
    let (launched, token, count) = script.launches()[0];
    let token = token.to_owned();
    assert_eq!(count, 2);
    script.launched(&token, Ok(&["i-0", "i-1"]));
    script.run_until(launched + 20.0);
    // They will run in 5 of the 40 s, and then do 35 jobs each; at their launch they would have done 15 each.
    script.jobs(60);
    assert_eq!((script.core.target(), script.launches().len()), (2, 1));
}

fn of(script: &Script, kind: Kind) -> Vec<&Decision> {
    script.core.decisions().iter().map(|d| &**d).filter(|d| d.kind == kind).collect()
}

#[test]
fn every_change_of_the_fleet_is_explained_with_its_inputs() {
    let explained = FleetRules {
        sweep_every: 200 * SECOND,
        keep_stopped: 0,
        started_at: Duration::from_secs(1_000),
        schedule: vec!["daily 00:00-24:00 1".parse().expect("a window")],
        ..rules()
    };
    let mut script = Script::with(explained, &[Running, Running, Stopped]);
    script.run_until(10.0);
    script.jobs(5);
    let token = script.launches()[0].1.to_owned();
    script.launched(&token, Ok(&["i-8", "i-9"]));
    script.show("i-1", Stopping);
    script.show("i-0", Terminated);
    script.depth = Depth { in_flight: 1, ..Depth::default() };
    script.show("i-1", Stopped);
    script.run_until(201.0);

    let [start, ..] = of(&script, Kind::Start)[..] else { panic!("no start") };
    assert_eq!((start.instances.as_slice(), start.count, start.number), (["i-2".to_owned()].as_slice(), 1, 0));
    assert!(
        start
            .reason
            .starts_with("start 1: demand 5, target 5 by one-per-job, cap 10; 0 pending, 2 running, 0 requested")
    );
    assert_eq!((start.inputs.demand, start.inputs.target, start.inputs.scheduled), (5, 5, 1));
    assert_eq!((start.inputs.counts.running, start.inputs.starting, start.inputs.launching), (2, 0, 0));

    let [launch, ..] = of(&script, Kind::Launch)[..] else { panic!("no launch") };
    assert_eq!(launch.token.as_deref(), Some(token.as_str()));
    assert_eq!(launch.instances, ["i-8", "i-9"], "they are named once the cloud has answered");
    assert_eq!((launch.inputs.starting, launch.inputs.launching, launch.inputs.depth.visible), (1, 0, 5));
    assert!(launch.reason.contains("1 requested"), "{}", launch.reason);
    assert_eq!(launch.at_ms, 1_000_000 + (script.launches()[0].0 * 1000.0) as u64);

    let [stop] = of(&script, Kind::Stop)[..] else { panic!("one stop, though it was seen stopping and stopped") };
    assert_eq!(stop.instances, ["i-1"]);
    assert!(stop.reason.contains("worker.idle_stop") && stop.reason.contains("5s"), "{}", stop.reason);
    let [lost] = of(&script, Kind::Lost)[..] else { panic!("one loss") };
    assert_eq!(
        (lost.instances.as_slice(), lost.reason.as_str()),
        (["i-0".to_owned()].as_slice(), "i-0 ended unexpectedly")
    );
    for terminate in of(&script, Kind::Terminate) {
        assert!(terminate.reason.contains("(fleet.keep_stopped)"), "{}", terminate.reason);
    }
    let numbers: Vec<u64> = script.core.decisions().iter().map(|d| d.number).collect();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_requested_termination_is_not_a_loss() {
    let mut script = Script::with(FleetRules { keep_stopped: 0, sweep_every: 10 * SECOND, ..rules() }, &[Stopped]);
    script.run_until(10.0);
    script.show("i-0", Terminated);
    assert!(of(&script, Kind::Lost).is_empty());
    let [terminate] = of(&script, Kind::Terminate)[..] else { panic!("one termination") };
    assert_eq!(terminate.reason, "terminate 1: swept: 1 stopped, 0 kept (fleet.keep_stopped), 0 needed");
}

#[test]
fn the_latest_1000_decisions_are_kept_unless_all_are_requested() {
    for (all, kept) in [(false, 1000), (true, 1200)] {
        let mut script = Script::with(rules(), &[Running]);
        if all {
            script.core.keep_all_decisions();
        }
        for _ in 0..1200 {
            script.show("i-0", Stopped);
            script.show("i-0", Running);
        }
        assert_eq!(script.core.decisions().len(), kept);
        assert_eq!(script.core.decisions().back().map(|d| d.number), Some(1199));
    }
}

#[test]
fn the_view_shows_instances_by_name_and_the_latest_activities() {
    let mut script = Script::new(rules());
    for name in ["app-10", "app-9", "app-2"] {
        script.show(name, Running);
    }
    script.run_until(100.5);
    script.show("app-9", Stopped);
    script.launched("no-such-token", Err(CloudError::Throttled));
    script.run_until(103.0);
    let view =
        rollcall::fleet::view::FleetView::new(&script.core, rollcall::fleet::Timestamp::new(103 * SECOND), 1_000_000);
    let names: Vec<&str> = view.instances.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["app-2", "app-9", "app-10"]);
    assert_eq!((view.instances[1].state, view.instances[1].since_ms), (Stopped, 997_500));
    assert_eq!((view.counts.running, view.counts.stopped, view.max_instances), (2, 1, 10));
    let last = view.events.last().expect("an activity");
    assert_eq!((last.kind.as_str(), last.text.as_str(), last.at_ms), ("error", "launch failed: throttled", 997_550));
    let state = &view.events[view.events.len() - 3];
    assert_eq!((state.kind.as_str(), state.text.as_str()), ("state", "app-9 running → stopped"));
    for _ in 0..300 {
        script.show("app-9", Running);
        script.show("app-9", Stopped);
    }
    assert_eq!(script.view().events.len(), 500);
    script.launched("no-such-token", Err(CloudError::Throttled));
    script.launched("no-such-token", Err(CloudError::Throttled));
    assert_ne!(script.view().events[498].kind, "error", "what repeats the last is left out");
}

#[test]
fn each_boot_is_shown_once_with_how_it_ended() {
    let [BootOutcome::Cold(cold), BootOutcome::Warm(warm)] = boots(40, 12).boots[..] else { panic!("two boots") };
    assert!(close(cold, 40 * SECOND) && close(warm, 12 * SECOND), "{cold:?}, {warm:?}");

    let mut script = Script::new(rules());
    script.run_until(10.0);
    script.jobs(2);
    let (_, token, count) = script.launches()[0];
    let (token, count) = (token.to_owned(), count);
    assert_eq!(count, 2);
    script.launched(&token, Ok(&["a", "b"]));
    script.show_launched("a", Pending, &token);
    script.show_launched("b", Pending, &token);
    script.depth = Depth::default();
    script.fail_boots(&["a"], Terminated);
    script.show_launched("b", Running, &token);
    script.run_for(20.0);
    let failed = script.boots.iter().filter(|boot| **boot == BootOutcome::Failed).count();
    assert_eq!((failed, script.boots.len()), (1, 2), "{:?}", script.boots);
}
