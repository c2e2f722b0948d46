//! Uncertain operations hold capacity until the cloud must have shown their outcome (ADR 12).

use std::time::Duration;

use rollcall::{
    cloud::{CloudError, InstanceState},
    fleet::{Cause, FleetRules},
};

use crate::fleet_support::script::{SECOND, Script, rules};

use InstanceState::{Pending, Running, Stopped, Stopping};

fn no_answer() -> CloudError {
    CloudError::Unavailable("no answer".into())
}

/// Returns the rules for a cloud that shows everything within 10 s.
fn lagging() -> FleetRules {
    FleetRules { describe_lag: 10 * SECOND, max_instances: 2, ..rules() }
}

/// Returns a controller that has just requested two instances, at a time when everything that its predecessors
/// requested must have been shown.
fn launching(rules: FleetRules) -> (Script, String) {
    let mut script = Script::new(rules);
    script.run_until(20.0);
    script.jobs(2);
    let launches = script.launches();
    let token = launches[0].1.to_owned();
    assert_eq!((launches.len(), launches[0].2), (1, 2));
    (script, token)
}

#[test]
fn a_launch_holds_capacity_until_it_is_refused() {
    let (mut script, token) = launching(lagging());
    assert_eq!((script.core.live(), script.core.serving()), (2, 2));
    script.launched(&token, Err(CloudError::NoCapacity("none".into())));
    assert_eq!(script.core.live(), 0);
    script.run_for(1.0);
    assert_ne!(script.launches().last().expect("another launch").1, token, "with a token of its own");
}

#[test]
fn a_launch_refused_after_a_lost_answer_holds_capacity_while_it_may_exist() {
    for (lag, patience) in [(10, 30.0), (40, 40.0)] {
        let mut script = Script::new(FleetRules { describe_lag: lag * SECOND, ..lagging() });
        script.run_until(50.0);
        script.jobs(2);
        let token = script.launches()[0].1.to_owned();
        script.launched(&token, Err(no_answer()));
        let lost = script.now();
        script.run_for(0.6);
        assert_eq!(script.launches().len(), 2);
        script.launched(&token, Err(CloudError::NoCapacity("none".into())));
        assert_eq!(script.core.live(), 2, "the first call may have been carried out");
        script.run_until(lost + patience - 0.1);
        assert_eq!((script.core.live(), script.launches().len()), (2, 2));
        script.run_until(lost + patience + 1.2);
        let launches = script.launches();
        assert!(launches.len() == 3 && launches[2].1 != token, "it has come to nothing: {launches:?}");
    }
}

#[test]
fn an_observed_instance_takes_the_place_of_its_launch() {
    let (mut script, token) = launching(lagging());
    script.show_launched("i-1", Pending, &token);
    assert_eq!(script.core.live(), 2, "one shows and one may come");
    script.launched(&token, Ok(&["i-1", "i-2"]));
    assert_eq!(script.core.live(), 2);
    script.show_launched("i-2", Pending, &token);
    assert_eq!((script.core.live(), script.view().intents), (2, 0));
    script.run_for(200.0);
    assert_eq!(script.launches().len(), 1);
}

#[test]
fn a_partial_launch_leaves_room_for_another() {
    let (mut script, token) = launching(lagging());
    script.launched(&token, Ok(&["i-1"]));
    assert_eq!(script.core.live(), 1);
    let answered = script.now();
    script.run_for(0.45);
    assert_eq!(script.launches().len(), 1, "after a pause");
    script.run_for(0.1);
    let (at, _, count) = script.launches()[1];
    assert_eq!((at - answered, count), (0.5, 1));
}

#[test]
fn orphaned_launches_hold_capacity_until_their_termination_is_confirmed() {
    let (mut script, token) = launching(FleetRules { boot_timeout: 60 * SECOND, ..lagging() });
    script.launched(&token, Ok(&["i-1", "i-2"]));
    let answered = script.now();
    script.run_until(answered + 59.0);
    assert!(script.terminations().is_empty());
    script.run_until(answered + 61.5);
    assert_eq!(script.terminations()[0].1, Cause::Unobserved);
    assert_eq!(script.terminations()[0].2, ["i-1", "i-2"]);
    assert_eq!((script.core.live(), script.core.serving()), (2, 0), "they may exist");
    script.run_for(5.0);
    assert_eq!(script.launches().len(), 1, "so none may be launched in their places");
    script.terminated("i-1", Ok(()));
    assert_eq!(script.core.live(), 2, "the other launches one");
    assert_eq!(script.launches().last().expect("a launch").2, 1);
    script.terminated("i-2", Err(no_answer()));
    let failed = script.now();
    let terminations = script.terminations().len();
    script.run_until(failed + 1.9);
    assert_eq!(script.terminations().len(), terminations);
    script.run_until(failed + 2.1);
    assert_eq!(script.terminations()[terminations].2, ["i-2"], "it is called again");
    script.terminated("i-2", Err(CloudError::NotFound("i-2".into())));
    script.run_for(1.0);
    assert_eq!(script.launches().iter().map(|(.., count)| count).sum::<usize>(), 4, "both places are free");
    script.run_for(100.0);
    assert_eq!(script.terminations().len(), terminations + 1);
}

#[test]
fn an_orphaned_launch_that_is_observed_late_is_adopted() {
    let (mut script, token) = launching(FleetRules { boot_timeout: 60 * SECOND, ..lagging() });
    script.launched(&token, Ok(&["i-1", "i-2"]));
    script.run_for(62.0);
    script.show_launched("i-1", Running, &token);
    assert_eq!(script.core.live(), 2);
    assert_eq!(script.view().counts.running, 1);
    script.terminated("i-2", Ok(()));
    script.run_for(300.0);
    let again: Vec<_> = script.terminations()[1..].iter().map(|(.., ids)| ids.clone()).collect();
    assert!(again.iter().all(|ids| !ids.contains(&"i-1")), "{again:?}");
}

#[test]
fn an_instance_missing_from_descriptions_holds_capacity_for_describe_lag() {
    let mut script = Script::with(lagging(), &[Running, Running]);
    script.run_until(20.0);
    script.jobs(2);
    script.hide("i-0");
    let hidden = script.now();
    script.run_until(hidden + 1.5);
    assert_eq!((script.core.live(), script.core.serving()), (2, 2), "a list may lag");
    script.run_until(hidden + 3.5);
    assert_eq!((script.core.live(), script.core.serving()), (2, 1), "three descriptions without it: it does not serve");
    script.run_until(hidden + 9.0);
    assert_eq!(script.launches().len(), 0, "it may exist");
    script.run_until(hidden + 12.0);
    assert_eq!(script.launches().iter().map(|(.., count)| *count).collect::<Vec<_>>(), [1]);
    let lost = &script.core.decisions()[0];
    assert_eq!((lost.kind.name(), lost.instances.as_slice()), ("lost", ["i-0".to_owned()].as_slice()));
}

#[test]
fn an_instance_that_reappears_counts_as_before() {
    let mut script = Script::with(lagging(), &[Running, Running]);
    script.run_until(20.0);
    let shown = script.instances.clone();
    for _ in 0..10 {
        script.hide("i-0");
        script.run_for(4.0);
        assert_eq!(script.core.serving(), 1);
        script.instances.clone_from(&shown);
        script.run_for(4.0);
        assert_eq!((script.core.live(), script.core.serving()), (2, 2));
    }
    assert_eq!(script.core.decisions().len(), 0);
}

#[test]
fn an_instance_is_swept_when_it_has_been_stopped_for_describe_lag() {
    let rules = FleetRules { keep_stopped: 0, sweep_every: SECOND, ..lagging() };
    let mut script = Script::with(rules, &[Running]);
    script.run_until(30.0);
    script.show("i-0", Stopped);
    script.run_until(39.9);
    assert!(script.terminations().is_empty(), "an older description may show what has been started since");
    script.run_until(42.0);
    let (at, cause, ids) = script.terminations()[0].clone();
    assert!((40.0..=42.0).contains(&at) && cause == Cause::Sweep && ids == ["i-0"], "{at}");
}

#[test]
fn an_instance_whose_start_was_given_up_is_swept_only_after_describe_lag() {
    let rules = FleetRules { keep_stopped: 0, sweep_every: SECOND, ..lagging() };
    let mut script = Script::with(rules, &[Running]);
    script.run_until(20.0);
    script.jobs(1);
    script.show("i-0", Stopped);
    script.run_for(5.0);
    assert_eq!(script.starts().len(), 1);
    script.depth.visible = 0;
    script.run_for(1.0);
    script.started("i-0", Err(CloudError::NoCapacity("none".into())));
    let given_up = script.now();
    script.run_until(given_up + 9.0);
    assert!(script.terminations().is_empty(), "it may yet have been started");
    script.run_until(given_up + 12.0);
    assert_eq!(script.terminations().len(), 1);
}

/// Returns a controller with one stopped instance, whose termination by the sweep was just answered with `error`.
fn sweep_answered(error: CloudError) -> Script {
    let rules = FleetRules { keep_stopped: 0, sweep_every: 10 * SECOND, ..rules() };
    let mut script = Script::with(rules, &[Stopped]);
    script.run_until(10.0);
    assert_eq!(script.terminations(), [(10.0, Cause::Sweep, vec!["i-0"])]);
    script.terminated("i-0", Err(error));
    script.depth.visible = 1;
    script
}

#[test]
fn an_instance_with_a_pending_termination_is_not_started() {
    let mut script = sweep_answered(no_answer());
    script.run_until(10.4);
    assert_eq!(script.terminations().len(), 1);
    script.run_until(10.6);
    assert_eq!(script.terminations()[1], (10.5, Cause::Unobserved, vec!["i-0"]), "the termination is called again");
    script.terminated("i-0", Err(CloudError::Throttled));
    script.run_until(120.0);
    assert!(script.starts().is_empty(), "it may be terminated at work");
    assert_eq!(script.launches()[0].2, 1, "another serves the job");
    assert!(script.terminations().len() > 2 && script.core.live() == 2);
}

#[test]
fn an_instance_whose_termination_was_definitely_refused_is_started() {
    let mut script = sweep_answered(CloudError::Throttled);
    script.run_until(15.0);
    assert!(script.starts().len() == 1 && script.launches().is_empty());
}

#[test]
fn an_instance_started_despite_a_pending_termination_is_left_alone() {
    let mut script = sweep_answered(no_answer());
    script.show("i-0", Running);
    script.run_until(300.0);
    assert_eq!(script.terminations().len(), 1);
    assert_eq!(script.core.serving(), 1);
}

#[test]
fn the_termination_of_a_dead_worker_is_retried_while_its_instance_runs() {
    let rules = FleetRules { silent_timeout: Some(20 * SECOND), ..rules() };
    let mut script = Script::with(rules, &[Running]);
    script.jobs(1);
    script.run_until(25.0);
    assert_eq!(script.terminations()[0].1, Cause::Silent);
    script.terminated("i-0", Err(no_answer()));
    script.run_for(1.0);
    assert_eq!(script.terminations()[1].1, Cause::Unobserved);
    assert_eq!((script.core.serving(), script.launches().len()), (1, 1), "another serves");
}

#[test]
fn an_accepted_start_that_is_unobserved_after_describe_lag_has_failed() {
    let mut script = Script::with(lagging(), &[Stopped]);
    script.run_until(20.0);
    script.jobs(1);
    script.started("i-0", Ok(()));
    let accepted = script.now();
    script.run_until(accepted + 9.5);
    assert_eq!((script.core.serving(), script.starts().len()), (1, 1), "three descriptions are not enough");
    script.run_until(accepted + 11.5);
    assert!(script.launches().len() == 1, "another is launched, before the start is tried again");
    script.depth.visible = 2;
    script.run_until(accepted + 20.0);
    assert_eq!(script.starts().len(), 2);
}

#[test]
fn an_unaccepted_start_is_given_up_after_boot_timeout_unless_in_flight() {
    let rules = FleetRules { boot_timeout: 40 * SECOND, describe_lag: Duration::ZERO, ..rules() };
    let mut script = Script::with(rules, &[Stopped]);
    script.jobs(1);
    let requested = script.starts()[0].0;
    script.run_until(requested + 50.0);
    assert_eq!(script.core.serving(), 1, "the second call is under way");
    assert!(script.launches().is_empty());
    script.started("i-0", Err(no_answer()));
    script.run_for(0.2);
    assert_eq!(script.launches().len(), 1, "it is given up, and another serves");
}

#[test]
fn a_start_is_not_given_up_while_the_cloud_does_not_answer() {
    let rules = FleetRules { boot_timeout: 40 * SECOND, describe_lag: Duration::ZERO, ..rules() };
    let mut script = Script::with(rules, &[Stopped]);
    script.jobs(1);
    let requested = script.starts()[0].0;
    script.answers = false;
    script.run_until(requested + 50.0);
    script.started("i-0", Err(no_answer()));
    script.run_for(0.2);
    assert_eq!((script.core.serving(), script.launches().len()), (1, 0), "it may have been carried out unseen");
    script.answers = true;
    script.run_for(60.0);
    script.started("i-0", Err(no_answer()));
    script.run_for(0.2);
    assert_eq!(script.launches().len(), 1, "it is given up, and another serves");
}

#[test]
fn new_controllers_start_instances_at_once_but_launch_after_describe_lag() {
    let rules = FleetRules { keep_stopped: 0, sweep_every: SECOND, max_instances: 5, ..lagging() };
    let mut script = Script::new(rules);
    script.show("i-0", Stopped);
    script.depth.visible = 3;
    script.run_until(2.0);
    assert_eq!(script.starts().len(), 1);
    script.show("i-1", Stopping);
    script.show("i-1", Stopped);
    script.depth.visible = 0;
    script.run_until(3.0);
    script.depth.visible = 5;
    script.run_until(9.99);
    assert!(script.launches().is_empty() && script.terminations().is_empty());
    script.run_until(11.0);
    assert_eq!(script.launches()[0].0, 10.0, "a description is called for as soon as it shows them");
}

#[test]
fn a_new_controller_sweeps_only_after_describe_lag() {
    let mut script = Script::new(FleetRules { keep_stopped: 0, sweep_every: SECOND, max_instances: 5, ..lagging() });
    script.show("i-0", Stopped);
    script.run_until(9.99);
    assert!(script.terminations().is_empty());
    script.run_until(12.0);
    assert_eq!(script.terminations().len(), 1);
}

#[test]
fn instances_of_earlier_controllers_belong_to_the_fleet() {
    let mut script = Script::new(lagging());
    script.show_launched("i-7", Running, "another-epoch");
    script.jobs(1);
    script.run_for(60.0);
    assert!(script.launches().is_empty() && script.core.serving() == 1);
}
