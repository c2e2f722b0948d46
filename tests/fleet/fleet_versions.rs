//! Instances of an earlier version of the image or the settings are replaced without a loss of capacity.

use std::collections::BTreeMap;

use rollcall::{
    cloud::InstanceState,
    fleet::{Cause, FleetRules},
};

use crate::fleet_support::script::{SECOND, Script, rules};

use InstanceState::{Pending, Running, Stopped, Terminated};

/// Returns the instances that were terminated because of their version, in order.
fn replaced(script: &Script) -> Vec<String> {
    let all = script.terminations();
    let of = all.iter().filter(|(_, cause, _)| *cause == Cause::Outdated).flat_map(|(_, _, ids)| ids.clone());
    of.map(str::to_owned).collect()
}

/// Shows the instances of all launches that have not been shown yet in `state`, and returns how many there are.
fn show_launches(script: &mut Script, state: InstanceState) -> usize {
    let launches: BTreeMap<String, usize> =
        script.launches().into_iter().map(|(_, token, count)| (token.to_owned(), count)).collect();
    let mut shown = 0;
    for (token, count) in launches {
        let names: Vec<String> = (0..count).map(|n| format!("new-{token}-{n}")).collect();
        let ids: Vec<&str> = names.iter().map(String::as_str).collect();
        script.launched(&token, Ok(&ids));
        for name in &names {
            script.show_launched(name, state, &token);
            shown += 1;
        }
    }
    shown
}

#[test]
fn a_stopped_instance_of_an_earlier_version_is_never_started_and_is_terminated() {
    let mut script = Script::with(FleetRules { keep_stopped: 5, ..rules() }, &[Stopped, Stopped]);
    script.outdate(&["i-0"]);
    script.run_for(60.0);
    assert_eq!(replaced(&script), ["i-0"], "the other one is kept");
    script.show("i-0", Terminated);
    script.jobs(2);
    assert_eq!(script.starts().iter().map(|(_, ids)| ids.clone()).collect::<Vec<_>>(), [["i-1"]]);
    assert_eq!(script.launches().iter().map(|(_, _, count)| *count).sum::<usize>(), 1, "in place of the first");
}

#[test]
fn a_running_instance_is_replaced_when_one_more_runs_so_capacity_never_falls_short() {
    let mut script = Script::with(FleetRules { max_instances: 10, ..rules() }, &[Running, Running, Running]);
    script.jobs(3);
    script.outdate(&["i-0", "i-1", "i-2"]);
    script.run_for(3.0);
    assert!(replaced(&script).is_empty(), "not before another one runs");
    assert_eq!(show_launches(&mut script, Pending), 1);
    script.run_for(30.0);
    assert!(replaced(&script).is_empty());
    let mut seen = 0;
    for _ in 0..6 {
        show_launches(&mut script, Running);
        script.run_for(5.0);
        let gone = replaced(&script);
        assert!(gone.len() <= seen + 1, "one after another: {gone:?}");
        for name in gone.iter().skip(seen) {
            assert!(script.view().counts.running > 3, "{:?}", script.view().counts);
            script.show(name, Terminated);
        }
        seen = gone.len();
        script.run_for(5.0);
    }
    let mut gone = replaced(&script);
    gone.sort();
    assert_eq!(gone, ["i-0", "i-1", "i-2"]);
    assert_eq!(script.view().target, 3);
}

#[test]
fn a_version_that_does_not_come_up_replaces_nothing() {
    let rules = FleetRules { max_instances: 10, boot_timeout: 60 * SECOND, ..rules() };
    let mut script = Script::with(rules, &[Running, Running]);
    script.jobs(2);
    script.outdate(&["i-0", "i-1"]);
    for _ in 0..20 {
        show_launches(&mut script, Pending);
        script.run_for(65.0);
        let failed: Vec<String> = script
            .terminations()
            .iter()
            .filter(|(_, cause, _)| *cause == Cause::BootTimeout)
            .flat_map(|(_, _, ids)| ids.iter().map(|id| id.to_string()).collect::<Vec<_>>())
            .collect();
        for name in failed {
            script.show(&name, Terminated);
        }
    }
    assert!(replaced(&script).is_empty());
    assert!(script.launches().len() > 5, "it is tried again and again: {}", script.launches().len());
    assert_eq!(script.view().counts.running, 2);
}

#[test]
fn at_the_cap_one_instance_makes_room_for_its_successor_and_the_others_wait_for_it() {
    let rules = FleetRules { max_instances: 3, boot_timeout: 60 * SECOND, ..rules() };
    let mut script = Script::with(rules, &[Running, Running, Running]);
    script.jobs(9);
    script.outdate(&["i-0", "i-1", "i-2"]);
    script.run_for(5.0);
    let [first] = &replaced(&script)[..] else { panic!("one: {:?}", replaced(&script)) };
    script.show(first, Terminated);
    script.run_for(5.0);
    assert_eq!(show_launches(&mut script, Pending), 1);
    script.run_for(40.0);
    assert_eq!(replaced(&script).len(), 1, "not before its successor runs");
    show_launches(&mut script, Running);
    script.run_for(5.0);
    assert_eq!(replaced(&script).len(), 2);
    assert!(script.view().counts.running + script.view().counts.pending <= 3);
}

#[test]
fn an_idle_fleet_ends_its_earlier_version() {
    let mut script = Script::with(FleetRules { max_instances: 3, ..rules() }, &[Running]);
    script.outdate(&["i-0"]);
    script.run_for(10.0);
    assert_eq!(replaced(&script), ["i-0"]);
    assert!(script.launches().is_empty());
}

#[test]
fn one_in_four_instances_is_replaced_at_the_same_time() {
    let mut script = Script::with(FleetRules { max_instances: 10, ..rules() }, &[Running; 8]);
    script.jobs(2);
    script.outdate(&["i-0", "i-1", "i-2", "i-3", "i-4", "i-5", "i-6", "i-7"]);
    script.run_for(20.0);
    let first = replaced(&script);
    assert_eq!(first.len(), 2, "the others wait until these are gone: {first:?}");
    for name in &first {
        script.show(name, Terminated);
    }
    script.run_for(20.0);
    assert_eq!(replaced(&script).len(), 3, "then one in four of six");
}
