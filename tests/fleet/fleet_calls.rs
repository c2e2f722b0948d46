//! Calls to the cloud are bounded in time, and repeated when they are lost (docs/fleet.md).

use rollcall::{
    cloud::{CloudError, InstanceState},
    fleet::{Cause, Event, FleetRules},
};

use crate::fleet_support::script::{SECOND, Script, rules};

use InstanceState::{Running, Stopped, Stopping};

fn no_capacity() -> CloudError {
    CloudError::NoCapacity("none".into())
}

fn no_answer() -> CloudError {
    CloudError::Unavailable("no answer".into())
}

#[test]
fn reads_of_one_kind_are_50_ms_apart_however_many_events_arrive() {
    let mut script = Script::new(rules());
    for n in 0..400 {
        script.run_until(f64::from(n) * 0.005);
        script.event(Event::Changed);
        script.event(Event::Hint { waiting: 0 });
    }
    let reads = script.reads(false);
    assert!(reads.windows(2).all(|pair| pair[1] - pair[0] > 0.0499), "{reads:?}");
    assert!(reads.len() > 30, "they follow the changes: {reads:?}");
    assert_eq!(script.reads(true), [0.0, 1.0], "the queue is read each poll_every");
}

#[test]
fn at_most_one_read_of_a_kind_is_in_flight_and_is_retried_after_30_s() {
    let mut script = Script::new(rules());
    script.answers = false;
    for n in 0..70 {
        script.run_until(f64::from(n));
        script.event(Event::Changed);
    }
    assert_eq!(script.reads(false), [0.0, 30.0, 60.0]);
    assert_eq!(script.reads(true), [0.0, 30.0, 60.0]);
}

#[test]
fn an_overtaken_description_is_ignored() {
    let mut script = Script::with(rules(), &[Running]);
    script.answers = false;
    script.run_until(32.0);
    let described = |generation, instances| Event::Described { generation, result: Ok(instances) };
    let calls = script.reads(false).len() as u64;
    script.event(described(calls - 1, Vec::new()));
    script.event(described(calls, script.instances.clone()));
    script.event(described(calls, Vec::new()));
    assert_eq!(script.view().counts.running, 1);
    script.answers = true;
    script.run_for(5.0);
    assert_eq!(script.core.decisions().len(), 0);
}

#[test]
fn launches_are_limited_to_a_burst_of_five_and_then_two_per_second() {
    let mut script = Script::new(FleetRules { max_instances: 1000, ..rules() });
    for n in 0..300_u32 {
        script.run_until(1.0 + f64::from(n) * 0.01);
        script.event(Event::Hint { waiting: u64::from(n) });
    }
    let times: Vec<f64> = script.launches().iter().map(|(at, ..)| *at).collect();
    assert!(times[4] < 1.06 && times[5] >= 1.5, "{times:?}");
    assert_eq!(times.len(), 10, "five, and one each half second: {times:?}");
}

#[test]
fn starts_are_limited_to_a_burst_of_five_and_then_two_per_second() {
    let mut script = Script::with(FleetRules { max_instances: 1000, ..rules() }, &[Stopped; 400]);
    for n in 0..300_u32 {
        script.run_until(1.0 + f64::from(n) * 0.01);
        script.event(Event::Hint { waiting: u64::from(n) });
    }
    let times: Vec<f64> = script.starts().iter().map(|(at, _)| *at).collect();
    assert!(times[4] < 1.06 && times[5] >= 1.5, "{times:?}");
    assert_eq!(times.len(), 10, "{times:?}");
}

#[test]
fn terminations_are_limited_to_a_burst_of_five_and_then_two_per_second() {
    let sweeping = FleetRules { keep_stopped: 0, sweep_every: SECOND / 100, max_instances: 100, ..rules() };
    let mut script = Script::with(sweeping, &[Running; 100]);
    for n in 0..100 {
        script.run_until(1.0 + f64::from(n) * 0.03);
        script.show(&format!("i-{n}"), Stopped);
    }
    let times: Vec<f64> = script.terminations().iter().map(|(at, ..)| *at).collect();
    assert!(times.len() > 8 && times[5] - times[0] >= 0.5 && times[9] - times[0] >= 2.4, "{times:?}");
}

#[test]
fn launches_are_limited_to_1000_instances_per_call() {
    let mut script = Script::new(FleetRules { max_instances: 5000, ..rules() });
    script.jobs(2500);
    script.run_for(5.0);
    let sizes: Vec<usize> = script.launches().iter().map(|(.., count)| *count).collect();
    assert_eq!(sizes, [1000, 1000, 500]);
}

#[test]
fn starts_and_terminations_are_limited_to_1000_instances_per_call() {
    let large = FleetRules { max_instances: 5000, keep_stopped: 0, sweep_every: 60 * SECOND, ..rules() };
    let mut script = Script::with(large, &[Stopped; 2500]);
    script.run_until(60.0);
    let count = |all: &[usize]| (all.iter().sum::<usize>(), all.iter().max().copied());
    // Each call is answered, so that the next may follow.
    for _ in 0..5 {
        let ids = script.terminations().last().map(|(.., ids)| ids.len());
        assert!(ids.is_some());
        script.event(Event::Terminated { results: Vec::new() });
        script.run_for(1.0);
    }
    let sizes: Vec<usize> = script.terminations().iter().map(|(.., ids)| ids.len()).collect();
    assert_eq!(count(&sizes), (2500, Some(1000)), "{sizes:?}");

    let large = FleetRules { max_instances: 5000, keep_stopped: 5000, ..rules() };
    let mut script = Script::with(large, &[Stopped; 2500]);
    script.jobs(2500);
    for _ in 0..5 {
        script.event(Event::Started { results: Vec::new() });
        script.run_for(1.0);
    }
    let sizes: Vec<usize> = script.starts().iter().map(|(_, ids)| ids.len()).collect();
    assert_eq!(count(&sizes), (2500, Some(1000)), "{sizes:?}");
    assert!(script.launches().is_empty(), "the stopped ones are enough");
}

#[test]
fn orphaned_launches_are_terminated_in_batches_of_1000() {
    let mut script = Script::new(FleetRules { max_instances: 5000, boot_timeout: 60 * SECOND, ..rules() });
    script.jobs(1500);
    script.run_for(1.0);
    let launches: Vec<(String, usize)> =
        script.launches().into_iter().map(|(_, token, count)| (token.to_owned(), count)).collect();
    assert_eq!(launches.iter().map(|(_, count)| count).sum::<usize>(), 1500);
    for (token, count) in launches {
        let ids: Vec<String> = (0..count).map(|n| format!("i-{token}-{n}")).collect();
        script.launched(&token, Ok(&ids.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    script.jobs(0);
    script.run_for(61.0);
    script.event(Event::Terminated { results: Vec::new() });
    let sizes: Vec<usize> = script.terminations().iter().map(|(.., ids)| ids.len()).collect();
    assert_eq!(sizes, [1000, 500]);
}

#[test]
fn the_pause_after_failed_launches_doubles_from_half_a_second_to_a_minute() {
    let mut script = Script::new(rules());
    script.jobs(1);
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let (at, token) = script.launches().last().map(|(at, token, _)| (*at, (*token).to_owned())).expect("a launch");
        script.launched(&token, Err(no_capacity()));
        let failed = script.now();
        let before = script.launches().len();
        while script.launches().len() == before {
            script.run_for(0.1);
        }
        let next = script.launches().last().expect("a launch").0;
        assert!(next >= at);
        pauses.push(next - failed);
        script.run_until(next);
    }
    let expected = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0];
    assert!(pauses.iter().zip(expected).all(|(pause, wanted)| (pause - wanted).abs() < 0.11), "{pauses:?}");
    let token = script.launches().last().expect("a launch").1.to_owned();
    script.launched(&token, Ok(&["i-1"]));
    script.show_launched("i-1", Running, &token);
    script.jobs(2);
    let token = script.launches().last().expect("another launch").1.to_owned();
    script.launched(&token, Err(no_capacity()));
    let (failed, before) = (script.now(), script.launches().len());
    script.run_until(failed + 0.6);
    assert_eq!(script.launches().len(), before + 1, "a success begins anew");
}

#[test]
fn terminations_pause_after_a_failure() {
    let rules = FleetRules { keep_stopped: 0, sweep_every: SECOND / 10, ..rules() };
    let mut script = Script::with(rules, &[Stopped]);
    let mut times = Vec::new();
    script.run_until(0.1);
    for _ in 0..4 {
        times.push(script.terminations().last().expect("a termination").0);
        script.terminated("i-0", Err(CloudError::Throttled));
        let before = script.terminations().len();
        while script.terminations().len() == before {
            script.run_for(0.05);
        }
    }
    let pauses: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        pauses.iter().zip([0.5, 1.0, 2.0]).all(|(pause, least)| *pause >= least && *pause < least + 0.3),
        "{times:?}"
    );
}

#[test]
fn a_launch_without_an_answer_is_retried_with_the_same_token() {
    let mut script = Script::new(rules());
    script.jobs(2);
    let first = script.now();
    script.run_until(100.0);
    let launches = script.launches();
    assert!(launches.len() == 4 && launches.iter().all(|(_, token, count)| (*token, *count) == (launches[0].1, 2)));
    let times: Vec<f64> = launches.iter().map(|(at, ..)| at - launches[0].0).collect();
    assert_eq!(times, [0.0, 30.0, 60.0, 90.0], "from {first}");
    assert_eq!(script.core.live(), 2);
}

#[test]
fn a_launch_whose_answer_was_lost_is_retried_with_the_same_token() {
    let mut script = Script::new(rules());
    script.jobs(2);
    let token = script.launches()[0].1.to_owned();
    for error in [no_answer(), CloudError::Throttled, no_answer()] {
        let before = script.launches().len();
        script.launched(&token, Err(error));
        script.run_for(5.0);
        let launches = script.launches();
        assert_eq!(launches.len(), before + 1);
        assert_eq!((launches[before].1, launches[before].2), (token.as_str(), 2));
    }
    script.launched(&token, Ok(&["i-1", "i-2"]));
    script.run_for(100.0);
    assert_eq!(script.launches().len(), 4);
}

#[test]
fn a_start_without_an_answer_or_whose_answer_was_lost_is_retried() {
    let mut script = Script::with(rules(), &[Stopped]);
    script.jobs(1);
    let first = script.starts()[0].0;
    script.run_until(first + 31.0);
    assert_eq!(script.starts().iter().map(|(at, _)| at - first).collect::<Vec<_>>(), [0.0, 30.0]);
    script.started("i-0", Err(no_answer()));
    script.run_for(0.45);
    assert_eq!(script.starts().len(), 2);
    script.run_for(0.1);
    assert_eq!(script.starts().len(), 3);
    script.started("i-0", Err(CloudError::Throttled));
    script.run_for(1.05);
    assert_eq!(script.starts().len(), 4, "a second failure in a row pauses twice as long");
    assert!(script.launches().is_empty());
}

#[test]
fn an_accepted_termination_that_is_not_observed_is_retried() {
    let rules = FleetRules { boot_timeout: 60 * SECOND, describe_lag: 10 * SECOND, ..rules() };
    let mut script = Script::with(rules, &[Stopping]);
    script.run_until(61.0);
    assert_eq!(script.terminations(), [(60.0, Cause::StopTimeout, vec!["i-0"])]);
    script.terminated("i-0", Ok(()));
    script.run_until(150.0);
    let again: Vec<_> = script.terminations()[1..].to_vec();
    assert_eq!(again, [(100.0, Cause::Unobserved, vec!["i-0"]), (140.0, Cause::Unobserved, vec!["i-0"])]);
}
