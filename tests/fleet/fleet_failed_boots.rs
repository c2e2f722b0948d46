//! Boots that end before a worker is ready are limited: after a few, one instance at a time is tried, with pauses that
//! double, and the first one that becomes ready ends that.

use std::time::Duration;

use rollcall::{
    cloud::{CloudError, InstanceState},
    fleet::{
        Action, Cause, Event, FleetRules, RememberedBoots, Timestamp,
        explain::Kind,
        view::{DegradedView, FleetView},
    },
};

use crate::fleet_support::script::{SECOND, Script, rules};

use InstanceState::{Pending, Running, Stopped, Stopping, Terminated};

/// How long each boot takes here until it has failed, in seconds.
const BOOT: f64 = 5.0;

/// What becomes of an instance whose boot fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    Terminated,
    PoweredOff,
    Hung,
}

/// A cloud in which every boot fails, and what it has done.
struct Broken {
    script: Script,
    failure: Failure,
    /// When each boot was requested, and how many instances booted.
    boots: Vec<(f64, usize)>,
    /// Number of calls that have been carried out.
    carried_out: usize,
}

impl Broken {
    fn new(script: Script, jobs: u64, failure: Failure) -> Self {
        let mut broken = Self { script, failure, boots: Vec::new(), carried_out: 0 };
        broken.script.jobs(jobs);
        broken
    }

    /// Lets the time pass, and carries out every call. Each boot fails.
    fn run_for(&mut self, seconds: f64) {
        let end = self.script.now() + seconds;
        while self.script.now() < end {
            let Some((at, action)) = self.script.calls.get(self.carried_out).cloned() else {
                self.script.run_for(1.0);
                continue;
            };
            self.carried_out += 1;
            let names: Vec<String> = match action {
                Action::Launch { token, count } => {
                    let names: Vec<String> = (0..count).map(|n| format!("new-{token}-{n}")).collect();
                    self.script.launched(&token, Ok(&texts(&names)));
                    names.iter().for_each(|name| self.script.show_launched(name, Pending, &token));
                    names
                }
                Action::Start { ids } => {
                    let names: Vec<String> = ids.into_iter().map(|id| id.0).collect();
                    names.iter().for_each(|name| self.script.started(name, Ok(())));
                    names.iter().for_each(|name| self.script.show(name, Pending));
                    names
                }
                Action::Terminate { ids, .. } => {
                    let names: Vec<String> = ids.into_iter().map(|id| id.0).collect();
                    self.script.fail_boots(&texts(&names), Terminated);
                    continue;
                }
                Action::ReadDepth | Action::Describe { .. } => continue,
            };
            self.boots.push((at, names.len()));
            let states: &[InstanceState] = match self.failure {
                Failure::Terminated => &[Terminated],
                Failure::PoweredOff => &[Stopping, Stopped],
                Failure::Hung => continue,
            };
            self.script.run_for(BOOT);
            states.iter().for_each(|state| self.script.fail_boots(&texts(&names), *state));
        }
    }

    /// Runs until another launch is requested, and returns its token and count.
    fn next_launch(&mut self, within: f64) -> (String, usize) {
        next_launch(&mut self.script, within)
    }

    /// Returns the pauses between the boots, without the time that each took.
    fn pauses(&self) -> Vec<f64> {
        let times = self.boots.windows(2).map(|pair| pair[1].0 - pair[0].0 - BOOT);
        times.map(|seconds| (seconds / 5.0).round() * 5.0).collect()
    }

    fn decisions(&self, kind: Kind) -> usize {
        self.script.core.decisions().iter().filter(|decision| decision.kind == kind).count()
    }
}

fn texts(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

/// Runs until a launch is requested after those so far, for at most `within` seconds, and returns its token and count.
fn next_launch(script: &mut Script, within: f64) -> (String, usize) {
    let (before, end) = (script.calls.len(), script.now() + within);
    while script.now() < end {
        script.run_for(0.5);
        let new = script.calls[before..].iter().find_map(|(_, action)| match action {
            Action::Launch { token, count } => Some((token.clone(), *count)),
            _ => None,
        });
        if let Some(launch) = new {
            return launch;
        }
    }
    panic!("no launch within {within} s");
}

#[test]
fn after_three_failed_boots_one_instance_is_tried_at_a_time_with_pauses_that_double() {
    let mut broken = Broken::new(Script::new(rules()), 1, Failure::Terminated);
    broken.run_for(3600.0);
    assert_eq!(broken.pauses()[..8], [0.0, 0.0, 30.0, 60.0, 120.0, 240.0, 480.0, 900.0]);
    assert!(broken.boots.iter().all(|(_, count)| *count == 1));
    let before = broken.boots.len();
    broken.run_for(3.0 * 3600.0);
    assert!(broken.boots.len() - before <= 3 * 4, "four an hour: {}", broken.boots.len() - before);
}

#[test]
fn many_failed_boots_at_once_are_followed_by_single_ones() {
    for failure in [Failure::Terminated, Failure::PoweredOff] {
        let mut broken = Broken::new(Script::new(rules()), 100, failure);
        broken.run_for(3600.0);
        assert_eq!(broken.boots[0].1, 10, "{failure:?}");
        assert!(broken.boots[1..].iter().all(|(_, count)| *count == 1), "{failure:?}: {:?}", broken.boots);
        assert_eq!(broken.pauses()[..3], [30.0, 60.0, 120.0], "{failure:?}");
    }
}

#[test]
fn an_instance_that_is_not_ready_in_time_is_a_failed_boot() {
    let rules = FleetRules { boot_timeout: 60 * SECOND, ..rules() };
    let mut broken = Broken::new(Script::new(rules), 1, Failure::Hung);
    broken.run_for(3600.0);
    let degraded = broken.script.view().degraded.expect("degraded");
    assert!(degraded.reason.ends_with("was not ready within fleet.boot_timeout"), "{}", degraded.reason);
    assert_eq!(degraded.failed_boots, broken.boots.len(), "each counts once");
    assert!(broken.boots.len() <= 10, "{}", broken.boots.len());
}

#[test]
fn from_five_failed_boots_on_the_fleet_is_degraded_until_an_instance_is_ready() {
    let mut broken = Broken::new(Script::new(rules()), 3, Failure::Terminated);
    broken.run_for(2.0);
    assert_eq!(broken.script.view().degraded, None, "three have failed");
    broken.run_for(200.0);
    let degraded = broken.script.view().degraded.expect("degraded");
    assert_eq!(degraded.failed_boots, broken.boots.iter().map(|(_, count)| count).sum::<usize>());
    assert!(degraded.reason.contains("ended before it was ready"), "{}", degraded.reason);
    assert_eq!((broken.decisions(Kind::Degraded), broken.decisions(Kind::Recovered)), (1, 0));

    let (token, count) = broken.next_launch(1000.0);
    let script = &mut broken.script;
    assert_eq!(script.view().degraded.expect("still").next_attempt_ms, None, "one is booting");
    assert_eq!(count, 1);
    script.launched(&token, Ok(&["good"]));
    script.show_launched("good", Pending, &token);
    assert!(script.view().degraded.is_some(), "it is not ready yet");
    script.show("good", Running);
    assert_eq!(script.view().degraded, None);
    script.run_for(1.0);
    assert_eq!(script.launches().last().map(|(_, _, count)| *count), Some(2), "the others follow at once");
    assert_eq!((broken.decisions(Kind::Degraded), broken.decisions(Kind::Recovered)), (1, 1));
}

#[test]
fn a_ready_instance_in_between_makes_failed_boots_not_consecutive() {
    let mut script = Script::new(rules());
    script.jobs(1);
    let mut token = script.launches()[0].1.to_owned();
    for n in 0..12 {
        let name = format!("i-{n}");
        script.launched(&token, Ok(&[&name]));
        script.show_launched(&name, Pending, &token);
        if n % 3 == 2 {
            script.show(&name, Running);
            script.show(&name, Terminated);
        } else {
            script.fail_boots(&[&name], Terminated);
        }
        token = script.launches().last().expect("a launch").1.to_owned();
        assert_eq!(script.launches().len(), n + 2, "it is replaced at once");
        script.run_for(1.0);
    }
    assert_eq!(script.view().degraded, None);
}

#[test]
fn refusals_and_interruptions_are_no_failed_boots() {
    let mut script = Script::new(rules());
    script.jobs(1);
    let mut token = script.launches()[0].1.to_owned();
    for _ in 0..12 {
        script.launched(&token, Err(CloudError::NoCapacity("none".into())));
        token = next_launch(&mut script, 61.0).0;
    }
    // The cloud ends instances that boot.
    for n in 0..12 {
        let name = format!("i-{n}");
        script.launched(&token, Ok(&[&name]));
        script.show_launched(&name, Pending, &token);
        script.show(&name, Terminated);
        let last = script.launches().last().expect("a launch").1.to_owned();
        assert_ne!(last, token, "it is replaced at once");
        token = last;
        script.run_for(1.0);
    }
    assert_eq!(script.view().degraded, None);
}

#[test]
fn terminations_by_the_fleet_are_no_failed_boots() {
    let rules = FleetRules { keep_stopped: 0, sweep_every: SECOND, ..rules() };
    let mut script = Script::with(rules, &[Stopped; 6]);
    script.outdate(&["i-0", "i-1", "i-2"]);
    script.run_for(10.0);
    assert!(script.terminations().len() >= 2, "the sweep and the new version");
    script.fail_boots(&["i-0", "i-1", "i-2", "i-3", "i-4", "i-5"], Terminated);
    script.run_for(10.0);
    script.jobs(3);
    assert_eq!((script.launches()[0].2, script.view().degraded), (3, None));
}

#[test]
fn an_attempt_that_is_refused_is_repeated_soon_although_boots_fail() {
    let mut broken = Broken::new(Script::new(rules()), 1, Failure::Terminated);
    broken.run_for(1000.0);
    let (token, _) = broken.next_launch(1000.0);
    broken.script.launched(&token, Err(CloudError::NoCapacity("none".into())));
    broken.next_launch(61.0);
}

#[test]
fn an_attempt_that_is_interrupted_is_followed_by_a_pause_because_it_is_billed() {
    let mut broken = Broken::new(Script::new(rules()), 1, Failure::Terminated);
    broken.run_for(600.0);
    let (token, _) = broken.next_launch(1000.0);
    let (script, begin) = (&mut broken.script, broken.boots.len());
    script.launched(&token, Ok(&["interrupted"]));
    script.show_launched("interrupted", Pending, &token);
    script.show("interrupted", Terminated);
    let before = script.now();
    next_launch(script, 1000.0);
    assert!(script.now() - before > 400.0, "the pause after {begin} boots: {}", script.now() - before);
}

#[test]
fn an_instance_that_becomes_ready_too_late_shows_nevertheless_that_boots_succeed() {
    let rules = FleetRules { boot_timeout: 60 * SECOND, max_instances: 5, ..rules() };
    let mut script = Script::new(rules);
    script.jobs(5);
    let token = script.launches()[0].1.to_owned();
    let names = ["a", "b", "c", "d", "e"];
    script.launched(&token, Ok(&names));
    names.iter().for_each(|name| script.show_launched(name, Pending, &token));
    script.run_for(62.0);
    assert_eq!(script.view().degraded.expect("degraded").failed_boots, 5);
    script.show("a", Running);
    assert_eq!(script.view().degraded, None);
}

#[test]
fn a_stopped_instance_whose_boots_fail_is_replaced_in_the_end() {
    let rules = FleetRules { max_instances: 1, sweep_every: 180 * SECOND, ..rules() };
    let mut broken = Broken::new(Script::new(rules), 1, Failure::PoweredOff);
    broken.run_for(3600.0);
    assert!(broken.script.launches().len() >= 2, "{:?}", broken.script.launches());
    let [(_, _, ids), ..] = &broken.script.terminations()[..] else { panic!("it is swept") };
    assert_eq!(ids.len(), 1);
}

#[test]
fn a_new_version_whose_boots_fail_is_tried_with_pauses_and_replaces_nothing() {
    let mut script = Script::with(FleetRules { max_instances: 10, ..rules() }, &[Running, Running]);
    script.jobs(2);
    script.outdate(&["i-0", "i-1"]);
    let mut broken = Broken::new(script, 2, Failure::Terminated);
    broken.run_for(3600.0);
    assert_eq!(broken.pauses()[..4], [0.0, 0.0, 30.0, 60.0]);
    assert!(broken.script.view().degraded.is_some());
    assert_eq!((broken.script.view().counts.running, broken.script.terminations().len()), (2, 0));
}

#[test]
fn an_instance_that_takes_too_long_and_cannot_be_terminated_does_not_prevent_further_attempts() {
    let mut script = Script::new(FleetRules { boot_timeout: 60 * SECOND, ..rules() });
    script.jobs(1);
    let (mut refused, mut launched) = (0, 0);
    while launched < 7 {
        assert!(script.now() < 3.0 * 3600.0, "{launched} launches");
        script.run_for(1.0);
        let launches: Vec<String> =
            script.launches()[launched..].iter().map(|(_, token, _)| (*token).to_owned()).collect();
        for token in launches {
            launched += 1;
            let name = format!("stuck-{launched}");
            script.launched(&token, Ok(&[&name]));
            script.show_launched(&name, Pending, &token);
        }
        // They are protected from termination, and stay pending.
        let all = script.terminations();
        let names = |(.., names): &(f64, Cause, Vec<&str>)| names.iter().map(|name| (*name).to_owned()).collect();
        let calls: Vec<Vec<String>> = all[refused..].iter().map(names).collect();
        refused += calls.len();
        for name in calls.into_iter().flatten() {
            script.terminated(&name, Err(CloudError::Invalid("protected".into())));
        }
    }
    assert!(refused > 0);
}

/// When the first controller of a test starts, in seconds since the Unix epoch.
const BEGAN: f64 = 1_000_000.0;

/// Starts a controller so many seconds after the first one, and lets it take over what another one has remembered.
fn successor(seconds: f64, boots: RememberedBoots) -> Script {
    let mut script = Script::new(FleetRules { started_at: Duration::from_secs_f64(BEGAN + seconds), ..rules() });
    script.event(Event::BootsRestored { boots });
    script
}

/// Returns the state of a degraded fleet whose controller started so many seconds after the first one.
fn degraded(script: &Script, seconds: f64) -> Option<DegradedView> {
    let now = Timestamp::new(Duration::from_secs_f64(script.now()));
    let unix_ms = (1000.0 * (BEGAN + seconds + script.now())) as u64;
    FleetView::new(&script.core, now, unix_ms).degraded
}

#[test]
fn a_new_controller_counts_failed_boots_on_and_waits_as_long_as_the_one_before_would() {
    let first = Script::new(FleetRules { started_at: Duration::from_secs_f64(BEGAN), ..rules() });
    let mut first = Broken::new(first, 20, Failure::Terminated);
    first.run_for(300.0);
    let (before, at) = (degraded(&first.script, 0.0).expect("degraded"), first.script.now());
    let boots = first.script.core.remembered_boots().expect("they are remembered");

    let next = successor(at, boots.clone());
    assert_eq!(degraded(&next, at).as_ref(), Some(&before), "it is degraded since then");
    let mut next = Broken::new(next, 20, Failure::Terminated);
    assert_eq!(next.decisions(Kind::Degraded), 1);
    next.run_for(3600.0);
    let left = before.next_attempt_ms.expect("a pause") as f64 / 1000.0 - BEGAN - at;
    assert!(left > 30.0 && (next.boots[0].0 - left).abs() < 1.0, "{left} s were left: {:?}", next.boots);
    assert!(next.boots.len() <= 6 && next.boots.iter().all(|(_, count)| *count == 1), "{:?}", next.boots);

    // A controller that was ended in order.
    let mut next = Broken::new(successor(at, boots.clone().with_attempt_at_once()), 20, Failure::Terminated);
    next.run_for(200.0);
    let [(when, 1)] = next.boots[..] else { panic!("one, and then the next pause: {:?}", next.boots) };
    assert!(when <= 1.0, "at once: {when}");

    // The clock was wrong by a day.
    let mut next = Broken::new(successor(at - 86_400.0, boots.clone()), 20, Failure::Terminated);
    next.run_for(15.0 * 60.0 + 1.0);
    assert_eq!(next.boots.len(), 1, "after the longest pause");

    let mut next = successor(at + 3600.0, boots);
    next.jobs(20);
    next.run_for(1.0);
    let [(_, token, 1)] = next.launches()[..] else { panic!("one: {:?}", next.launches()) };
    let token = token.to_owned();
    next.launched(&token, Ok(&["good"]));
    next.show_launched("good", Pending, &token);
    next.show("good", Running);
    next.run_for(1.0);
    assert_eq!(next.launches().last().map(|(.., count)| *count), Some(9), "the others follow");
    assert_eq!((degraded(&next, at + 3600.0), next.core.remembered_boots()), (None, None));
}
