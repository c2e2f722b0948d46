//! What the controller does with an instance in each state, and how many there may be (docs/fleet.md).

use std::time::Duration;

use rollcall::{
    cloud::{CloudError, Depth, InstanceId, InstanceState},
    fleet::{Cause, Event, FleetRules, explain::Kind},
};

use crate::fleet_support::script::{SECOND, Script, rules};

use InstanceState::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};

#[test]
fn a_pending_instance_counts_as_upcoming_capacity() {
    let mut script = Script::with(rules(), &[Pending, Running]);
    script.jobs(2);
    script.run_for(300.0);
    assert!(script.launches().is_empty() && script.starts().is_empty());
    assert_eq!(script.core.serving(), 2);
    script.jobs(3);
    assert_eq!(script.launches().len(), 1, "one more is needed");
}

#[test]
fn an_instance_that_does_not_run_within_boot_timeout_is_terminated() {
    let mut script = Script::with(FleetRules { boot_timeout: 60 * SECOND, ..rules() }, &[Pending, Running]);
    script.run_until(59.9);
    assert!(script.terminations().is_empty());
    script.run_until(61.1);
    assert_eq!(script.terminations(), [(60.0, Cause::BootTimeout, vec!["i-0"])]);
}

#[test]
fn an_instance_that_does_not_stop_within_boot_timeout_is_terminated() {
    let mut script = Script::with(FleetRules { boot_timeout: 60 * SECOND, ..rules() }, &[Stopping, Running]);
    script.run_until(59.9);
    assert!(script.terminations().is_empty());
    script.run_until(61.1);
    assert_eq!(script.terminations(), [(60.0, Cause::StopTimeout, vec!["i-0"])]);
}

#[test]
fn while_the_cloud_does_not_answer_nothing_is_given_up() {
    let rules = FleetRules { boot_timeout: 60 * SECOND, silent_timeout: Some(60 * SECOND), ..rules() };
    let mut script = Script::with(rules, &[Pending, Stopping, Running]);
    script.jobs(3);
    script.answers = false;
    script.run_until(3000.0);
    assert!(script.terminations().is_empty());
    script.answers = true;
    script.run_for(61.0);
    let causes: Vec<Cause> = script.terminations().iter().map(|(_, cause, _)| *cause).collect();
    for cause in [Cause::BootTimeout, Cause::StopTimeout, Cause::Silent] {
        assert_eq!(causes.iter().filter(|c| **c == cause).count(), 1, "{causes:?}");
    }
}

#[test]
fn an_instance_whose_worker_does_not_respond_is_terminated_and_replaced() {
    let mut script = Script::with(rules(), &[Running]);
    script.jobs(1);
    assert!(script.launches().is_empty(), "one worker is enough");
    script.respond("i-0", false);
    let terminations = script.terminations();
    assert_eq!(
        terminations.iter().map(|(_, cause, ids)| (*cause, ids.clone())).collect::<Vec<_>>(),
        [(Cause::Unresponsive, vec!["i-0"])]
    );
    assert_eq!(script.launches().len(), 1);
    let explained = script.core.decisions().iter().find(|d| d.kind == Kind::Terminate).expect("it is explained");
    assert_eq!(explained.reason, "terminate 1: the worker does not respond");
}

#[test]
fn a_running_instance_is_left_alone() {
    let mut script = Script::with(FleetRules { keep_stopped: 0, sweep_every: SECOND, ..rules() }, &[Running; 5]);
    script.jobs(1);
    script.run_for(20_000.0);
    script.jobs(0);
    script.run_for(20_000.0);
    assert!(script.terminations().is_empty(), "this controller does not see all replies: silent_timeout is off");
}

/// Returns when a worker that finishes its last job at 10 s is terminated, and the reason.
fn silent(rules: FleetRules, visible: u64) -> Option<(f64, String)> {
    let mut script = Script::with(FleetRules { silent_timeout: Some(60 * SECOND), ..rules }, &[Running]);
    script.jobs(visible);
    script.run_until(10.0);
    script.event(Event::Served { worker: InstanceId("i-0".into()), jobs: 1, busy: SECOND });
    script.run_until(1000.0);
    let (at, cause, ids) = script.terminations().first()?.clone();
    assert_eq!((cause, ids), (Cause::Silent, vec!["i-0"]));
    let explained = script.core.decisions().iter().find(|d| d.kind == Kind::Terminate).expect("it is explained");
    Some((at, explained.reason.clone()))
}

#[test]
fn a_worker_that_is_silent_while_jobs_wait_is_terminated() {
    let (at, reason) = silent(rules(), 1).expect("it is dead");
    assert_eq!((at, reason.as_str()), (70.0, "terminate 1: silent for 60 s while jobs waited"));
}

#[test]
fn a_worker_that_is_silent_long_after_it_should_have_stopped_is_terminated() {
    let idle = FleetRules { idle_stop: 30 * SECOND, billing_minimum: 20 * SECOND, ..rules() };
    let (at, reason) = silent(idle.clone(), 0).expect("it is dead");
    assert_eq!((at, reason.as_str()), (100.0, "terminate 1: silent for 90 s while the queue was empty"));
    let paid = FleetRules { billing_minimum: 50 * SECOND, ..idle };
    assert_eq!(silent(paid, 0).expect("it is dead").0, 120.0, "it does not stop within what is paid for");
}

#[test]
fn a_silent_worker_is_kept_unless_the_queue_stays_backlogged_or_empty() {
    let mut script = Script::with(FleetRules { silent_timeout: Some(60 * SECOND), ..rules() }, &[Running]);
    for _ in 0..20 {
        script.jobs(1);
        script.run_for(50.0);
        script.depth = Depth { in_flight: 1, ..Depth::default() };
        script.run_for(200.0);
    }
    assert!(script.terminations().is_empty());
}

#[test]
fn a_stopping_instance_is_awaited_if_it_will_be_back_sooner_than_a_new_one() {
    // Until a stop has been observed, it is assumed to take as long as a warm boot: 15 s. The start then takes 15 s,
    // and a new instance 25 s.
    let mut script = Script::with(rules(), &[Stopping]);
    script.run_until(4.0);
    script.jobs(1);
    assert_eq!(script.launches().len(), 0, "stopped in 10 s, up in 25 s");
    let mut script = Script::with(rules(), &[Stopping]);
    script.run_until(2.0);
    script.jobs(1);
    assert_eq!(script.launches().len(), 1, "stopped in 12 s, up in 27 s");
}

#[test]
fn a_stopping_instance_is_not_awaited_if_warm_boots_take_longer_than_cold_ones() {
    let mut script = Script::with(FleetRules { boot_cold: 10 * SECOND, ..rules() }, &[Stopping]);
    script.run_until(15.0);
    script.jobs(1);
    assert_eq!(script.launches().len(), 1);
}

#[test]
fn stopped_instances_are_started_latest_first_before_any_launch() {
    let mut script = Script::with(rules(), &[Running, Running, Running]);
    for name in ["i-2", "i-0", "i-1"] {
        script.run_for(5.0);
        script.show(name, Stopped);
    }
    script.jobs(2);
    assert_eq!(script.starts().iter().map(|(_, ids)| ids.clone()).collect::<Vec<_>>(), [["i-1", "i-0"]]);
    assert!(script.launches().is_empty());
    script.jobs(5);
    assert_eq!(script.starts()[1].1, ["i-2"]);
    assert_eq!(script.launches().iter().map(|(.., count)| *count).collect::<Vec<_>>(), [2], "the others are new");
}

#[test]
fn the_sweep_terminates_the_oldest_stopped_beyond_keep_stopped() {
    let rules = FleetRules { keep_stopped: 2, sweep_every: 60 * SECOND, ..rules() };
    let mut script = Script::with(rules, &[Running; 5]);
    for name in ["i-3", "i-0", "i-4", "i-1"] {
        script.run_for(5.0);
        script.show(name, Stopped);
    }
    script.run_until(59.0);
    assert!(script.terminations().is_empty());
    script.run_until(61.0);
    assert_eq!(script.terminations(), [(60.0, Cause::Sweep, vec!["i-3", "i-0"])]);
    for name in ["i-3", "i-0"] {
        script.terminated(name, Ok(()));
        script.show(name, Terminated);
    }
    script.show("i-2", Stopped);
    script.run_until(121.0);
    assert_eq!(script.terminations()[1..], [(120.0, Cause::Sweep, vec!["i-4"])], "every `sweep_every`");
}

/// Makes every start of the last call fail.
fn fail_starts(script: &mut Script) {
    let started: Vec<String> =
        script.starts().last().expect("a start").1.iter().map(|name| (*name).to_owned()).collect();
    for name in started {
        script.started(&name, Err(CloudError::NoCapacity("none".into())));
    }
}

#[test]
fn the_sweep_keeps_the_instances_that_are_needed() {
    let rules = FleetRules { keep_stopped: 0, sweep_every: 60 * SECOND, max_instances: 5, ..rules() };
    let mut script = Script::with(rules, &[Stopped; 5]);
    script.run_until(59.8);
    script.event(Event::Hint { waiting: 5 });
    fail_starts(&mut script);
    // Three are needed, and none can be started before the pause after the failure is over.
    script.event(Event::Hint { waiting: 3 });
    script.run_until(60.2);
    assert_eq!(script.terminations().iter().map(|(.., ids)| ids.len()).collect::<Vec<_>>(), [2]);
    let reason = &script.core.decisions().back().expect("it is explained").reason;
    assert_eq!(reason, "terminate 2: swept: 5 stopped, 3 kept (fleet.keep_stopped), 3 needed");
}

#[test]
fn the_sweep_keeps_no_instance_for_jobs_that_running_ones_serve() {
    let rules = FleetRules { keep_stopped: 0, sweep_every: 60 * SECOND, max_instances: 5, ..rules() };
    let mut script = Script::with(rules, &[Running, Running, Stopped, Stopped, Stopped]);
    script.depth = Depth { in_flight: 2, ..Depth::default() };
    script.run_until(60.2);
    assert_eq!(script.terminations().iter().map(|(.., ids)| ids.len()).collect::<Vec<_>>(), [3]);
}

#[test]
fn an_instance_is_swept_after_three_failed_starts_despite_keep_stopped() {
    for failures in [2, 3] {
        let rules = FleetRules { sweep_every: 60 * SECOND, max_instances: 1, ..rules() };
        let mut script = Script::with(rules, &[Stopped]);
        script.depth = Depth { visible: 1, ..Depth::default() };
        for n in 1..=failures {
            while script.starts().len() < n {
                script.run_for(0.1);
            }
            if n == failures {
                script.depth = Depth::default();
                script.run_for(1.1);
            }
            fail_starts(&mut script);
        }
        script.run_until(59.0);
        assert_eq!(script.starts().len(), failures);
        script.run_until(61.0);
        let swept = script.terminations().first().is_some_and(|(_, cause, _)| *cause == Cause::Sweep);
        assert_eq!(swept, failures == 3);
    }
}

#[test]
fn a_successful_start_resets_the_count_of_failed_starts() {
    let rules = FleetRules { sweep_every: 60 * SECOND, max_instances: 1, ..rules() };
    let mut script = Script::with(rules, &[Stopped]);
    for n in 1..=6 {
        script.depth = Depth { visible: 1, ..Depth::default() };
        while script.starts().len() < n {
            script.run_for(0.1);
        }
        if n % 3 == 0 {
            script.started("i-0", Ok(()));
            script.show("i-0", Running);
            script.depth = Depth::default();
            script.run_for(2.0);
            script.show("i-0", Stopped);
        } else {
            fail_starts(&mut script);
        }
    }
    script.run_until(130.0);
    assert!(script.terminations().is_empty());
}

fn token(script: &Script) -> String {
    script.launches().last().expect("a launch").1.to_owned()
}

#[test]
fn instances_shutting_down_or_terminated_do_not_count() {
    let rules = FleetRules { max_instances: 3, ..rules() };
    let mut script = Script::with(rules, &[ShuttingDown, Terminated, Running, Terminated]);
    assert_eq!((script.core.live(), script.core.serving()), (1, 1));
    script.jobs(9);
    assert_eq!(script.launches().iter().map(|(.., count)| *count).collect::<Vec<_>>(), [2], "up to the cap");
}

#[test]
fn live_and_intended_instances_count_against_the_cap() {
    let rules = FleetRules { max_instances: 6, ..rules() };
    let mut script = Script::with(rules, &[Pending, Stopping, Running, Stopped]);
    script.jobs(20);
    assert_eq!(script.launches().iter().map(|(.., count)| *count).collect::<Vec<_>>(), [2]);
    assert_eq!(script.core.live(), 6);
    script.run_for(25.0);
    assert_eq!(script.launches().len(), 1, "a launch that is not answered counts");
    let token = token(&script);
    script.launched(&token, Ok(&["i-8", "i-9"]));
    script.run_for(100.0);
    assert_eq!(script.launches().len(), 1, "launched instances that are not shown count");
}

/// Refuses every launch as a whole with which more than `fits` instances would be launched, for some seconds. Returns the counts of
/// the launches.
fn refuse_beyond(script: &mut Script, fits: usize) -> Vec<usize> {
    let (mut answered, mut launched) = (0, 0);
    for _ in 0..200 {
        let launches: Vec<(String, usize)> =
            script.launches().iter().map(|(_, token, count)| ((*token).to_owned(), *count)).collect();
        for (token, count) in &launches[answered..] {
            if launched + count > fits {
                script.launched(token, Err(CloudError::Quota("full".into())));
                continue;
            }
            let names: Vec<String> = (launched..launched + count).map(|n| format!("new-{n}")).collect();
            launched += count;
            script.launched(token, Ok(&names.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        answered = launches.len();
        script.run_for(0.05);
    }
    script.launches().iter().map(|(.., count)| *count).collect()
}

#[test]
fn a_quota_lowers_the_cap_for_five_minutes() {
    let mut script = Script::with(rules(), &[Running, Running]);
    script.jobs(4);
    let refused = script.now();
    assert_eq!(refuse_beyond(&mut script, 0), [2, 1]);
    assert_eq!(script.core.cap(), 2, "those that live fill it");
    script.run_until(refused + 299.0);
    assert_eq!(script.launches().len(), 2);
    script.run_until(refused + 312.0);
    assert_eq!((script.core.cap(), script.launches().len()), (10, 3));
}

#[test]
fn a_launch_that_exceeds_a_quota_as_a_whole_is_halved_until_it_fits_and_the_rest_of_the_quota_follows() {
    for (fits, launches) in [
        (9, &[10, 5, 2, 1, 1][..]),
        (5, &[10, 5, 2, 1]),
        (4, &[10, 5, 2, 1, 1]),
        (3, &[10, 5, 2, 1, 1]),
        (1, &[10, 5, 2, 1]),
    ] {
        let mut script = Script::new(rules());
        script.jobs(10);
        assert_eq!(refuse_beyond(&mut script, fits), launches, "a quota of {fits}");
        assert_eq!(script.core.cap(), fits);
    }
}

#[test]
fn a_quota_exhausted_by_others_leaves_a_cap_of_one() {
    let mut script = Script::new(rules());
    script.jobs(4);
    let counts = refuse_beyond(&mut script, 0);
    assert_eq!((script.core.cap(), &counts[..3]), (1, &[4, 2, 1][..]));
    assert!(counts[3..].iter().all(|count| *count == 1), "{counts:?}");
}

#[test]
fn launches_wait_for_their_cooldown_and_for_that_of_the_sweep() {
    let cooldown = FleetRules { launch_cooldown: 45 * SECOND, ..rules() };
    let mut script = Script::new(cooldown);
    script.jobs(1);
    let first = token(&script);
    script.launched(&first, Ok(&["i-0"]));
    script.jobs(2);
    script.run_until(100.0);
    let mut launches = script.launches();
    launches.dedup_by_key(|(_, token, _)| *token);
    let first = launches[0].0;
    assert_eq!(launches.iter().map(|(at, ..)| at - first).collect::<Vec<_>>(), [0.0, 45.0]);

    let sweeping = FleetRules {
        keep_stopped: 0,
        sweep_every: 60 * SECOND,
        sweep_cooldown: 7 * SECOND,
        poll_every: Duration::from_millis(500),
        ..rules()
    };
    let mut script = Script::with(sweeping, &[Stopped]);
    script.run_until(60.0);
    assert_eq!(script.terminations().len(), 1);
    script.depth = Depth { visible: 1, ..Depth::default() };
    script.run_until(80.0);
    assert_eq!(script.launches().iter().map(|(at, ..)| *at).collect::<Vec<_>>(), [67.0]);
}

#[test]
fn waiting_uploads_count_until_a_reading_newer_than_the_count_lag() {
    let mut script = Script::with(FleetRules { poll_every: 1000 * SECOND, ..rules() }, &[]);
    script.run_until(10.0);
    script.event(Event::Hint { waiting: 4 });
    assert_eq!(script.core.demand(), 4);
    let read = |script: &mut Script, at: f64| {
        script.run_until(at);
        script.core.demand()
    };
    assert_eq!(read(&mut script, 100.0), 4, "nothing was read since");
    let mut script = Script::with(rules(), &[]);
    script.run_until(10.0);
    script.event(Event::Hint { waiting: 4 });
    assert_eq!(read(&mut script, 15.5), 4, "the queue may not show them yet");
    assert_eq!(read(&mut script, 16.5), 0, "a reading that began five seconds later shows what is there");
    script.event(Event::Hint { waiting: 1 });
    script.jobs(3);
    assert_eq!(script.core.demand(), 3, "more are in the queue");
}
