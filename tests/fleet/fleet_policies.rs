//! What each policy promises: never above the cap, never fewer instances for more work, and its own formula.

use std::time::Duration;

use proptest::prelude::*;
use rollcall::{
    fleet::{
        FleetRules, LearnedTimes,
        policy::{PolicyInput, target},
        scheduled,
    },
    settings::{Policy, Window},
};

use crate::fleet_support::script::{self, SECOND, Script};

fn rules(policy: Policy) -> FleetRules {
    FleetRules { policy, ..script::rules() }
}

fn ms(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

prop_compose! {
    fn any_rules()(
        policy in prop::sample::select(Policy::ALL.map(|(_, policy)| policy).to_vec()),
        jobs_per_instance in 1usize..50,
        target_latency in ms(100..200_000),
        billing_minimum in ms(0..90_000),
        threads in 1usize..8,
    ) -> FleetRules {
        FleetRules { jobs_per_instance, target_latency, billing_minimum, threads, ..rules(policy) }
    }
}

prop_compose! {
    fn any_input()(
        demand in 0u64..2000,
        (low, high) in (0u64..2000, 0u64..2000),
        previous in 0usize..50,
        cap in 0usize..50,
        running in 0usize..50,
        booting in prop::collection::vec((ms(0..60_000), 0usize..10), 0..5),
        startable in 0usize..50,
        (boot_cold, boot_warm, service) in (ms(1..90_000), ms(1..90_000), ms(0..20_000)),
    ) -> PolicyInput {
        let learned = LearnedTimes { boot_cold, boot_warm, service };
        // The current demand lies between the recent lowest and highest.
        let (low_demand, high_demand) = (low.min(demand), high.max(demand));
        PolicyInput { demand, low_demand, high_demand, previous, cap, running, booting, startable, adaptive: 0, learned, clock: Duration::ZERO }
    }
}

/// Returns the number of jobs done by `horizon`, if each thread takes one after the other as soon as its instance is
/// ready.
fn done_by(horizon: Duration, ready: &[Duration], threads: usize, service: Duration) -> u64 {
    let mut done = 0;
    for ready in ready {
        let mut at = *ready + service;
        while at <= horizon {
            done += threads as u64;
            at += service;
        }
    }
    done
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn no_policy_goes_above_the_cap(input in any_input(), rules in any_rules()) {
        prop_assert!(target(&input, &rules) <= input.cap);
    }

    #[test]
    fn more_work_never_means_fewer_instances(input in any_input(), rules in any_rules(), more in 1u64..500) {
        let busier = PolicyInput {
            demand: input.demand + more,
            low_demand: input.low_demand + more,
            high_demand: input.high_demand + more,
            ..input.clone()
        };
        prop_assert!(target(&busier, &rules) >= target(&input, &rules));
    }

    #[test]
    fn no_work_needs_no_instance(input in any_input(), rules in any_rules()) {
        let idle = PolicyInput { demand: 0, low_demand: 0, high_demand: 0, ..input };
        prop_assert_eq!(target(&idle, &rules), 0);
    }

    #[test]
    fn one_per_job_wants_the_smaller_of_demand_and_cap(input in any_input()) {
        prop_assert_eq!(target(&input, &rules(Policy::OnePerJob)), (input.demand as usize).min(input.cap));
    }

    #[test]
    fn backlog_follows_sustained_demand_and_otherwise_keeps_its_target(input in any_input(), rules in any_rules()) {
        let rules = FleetRules { policy: Policy::Backlog, ..rules };
        let want = |demand: u64| demand.div_ceil(rules.jobs_per_instance as u64) as usize;
        let wanted = target(&input, &rules);
        let (up, down) = (want(input.low_demand), want(input.high_demand));
        if input.previous < up {
            prop_assert_eq!(wanted, up.min(input.cap), "it rises to the target of the lowest recent demand");
        } else if input.previous > down {
            prop_assert_eq!(wanted, down.min(input.cap), "it falls to the target of the highest recent demand");
        } else {
            prop_assert_eq!(wanted, input.previous.min(input.cap), "it stays");
        }
        let steady = PolicyInput { low_demand: input.demand, high_demand: input.demand, ..input };
        prop_assert_eq!(target(&steady, &rules), want(steady.demand).min(steady.cap), "one instance per jobs_per_instance jobs");
    }

    /// Checks by brute force that the work is done in time with so many instances, and not with one fewer.
    #[test]
    fn deadline_wants_the_fewest_instances_that_finish_in_time(
        demand in 1u64..400,
        running in 0usize..6,
        mut booting in prop::collection::vec(ms(0..20_000), 0..6),
        warm in 0usize..2,
        boot in ms(1..15_000),
        service in ms(50..3000),
        threads in 1usize..4,
        target_latency in ms(1_000..90_000),
    ) {
        let rules = FleetRules { target_latency, threads, billing_minimum: Duration::ZERO, ..rules(Policy::Deadline) };
        booting.sort();
        let input = PolicyInput {
            demand,
            cap: 100_000,
            running,
            booting: booting.iter().map(|left| (*left, 1)).collect(),
            startable: if warm == 1 { 100_000 } else { 0 },
            // Equal, so that there is only one horizon.
            learned: LearnedTimes { boot_cold: boot, boot_warm: boot, service },
            ..PolicyInput::default()
        };
        let wanted = target(&input, &rules);
        // If no new instance could help in time, the instances that are started have half of the target latency, or a
        // job's time, to work.
        let horizon = target_latency.max(boot + (target_latency / 2).max(service));
        let ready = |n: usize| -> Vec<Duration> {
            let existing = std::iter::repeat_n(Duration::ZERO, running).chain(booting.iter().copied());
            existing.chain(std::iter::repeat(boot)).take(n).collect()
        };
        prop_assert!(done_by(horizon, &ready(wanted), threads, service) >= demand, "{wanted} finish");
        prop_assert!(done_by(horizon, &ready(wanted - 1), threads, service) < demand, "{} do not", wanted - 1);
    }

    #[test]
    fn deadline_wants_every_instance_that_adds_no_cost(input in any_input(), rules in any_rules()) {
        let rules = FleetRules { policy: Policy::Deadline, billing_minimum: 60 * SECOND, ..rules };
        let service = input.learned.service.max(Duration::from_millis(1));
        let work = service.as_secs_f64() * input.demand as f64 / rules.threads as f64;
        let filled = ((work + 1e-6) / 60.0).floor() as usize;
        prop_assert!(target(&input, &rules) + 1 >= filled.min(input.cap), "each would be busy for the whole billing minimum");
    }

    #[test]
    fn the_schedule_is_the_minimum_under_any_policy(input in any_input(), rules in any_rules(), minimum in 0usize..60) {
        let window: Window = format!("daily 00:00-24:00 {minimum}").parse().expect("a window");
        let scheduled = FleetRules { schedule: vec![window], ..rules.clone() };
        prop_assert_eq!(target(&input, &scheduled), target(&input, &rules).max(minimum).min(input.cap));
    }
}

#[test]
fn a_window_of_the_schedule_opens_at_its_minute() {
    let hour = Duration::from_secs(3600);
    let schedule = vec!["daily 00:05-00:06 2".parse().expect("a window")];
    let rules = FleetRules { schedule, poll_every: hour, describe_every: hour, ..rules(Policy::OnePerJob) };
    let mut script = Script::with(rules, &[]);
    script.run_until(310.0);
    assert_eq!(script.launches().iter().map(|(at, _, count)| (*at, *count)).collect::<Vec<_>>(), [(300.0, 2)]);
}

#[test]
fn deadline_plans_with_the_boot_time_of_the_instance_it_would_start() {
    let rules =
        FleetRules { target_latency: 10 * SECOND, threads: 1, billing_minimum: 60 * SECOND, ..rules(Policy::Deadline) };
    let learned = LearnedTimes { boot_cold: 25 * SECOND, boot_warm: 15 * SECOND, service: SECOND };
    let input = |demand, running, startable| PolicyInput {
        demand,
        cap: 19,
        running,
        startable,
        learned,
        ..PolicyInput::default()
    };
    assert_eq!(target(&input(1, 0, 0), &rules), 1);
    assert_eq!(target(&input(100, 0, 0), &rules), 19, "five each in the five seconds after the boot, so twenty");
    assert_eq!(target(&input(30, 0, 19), &rules), 6);
    assert_eq!(target(&input(20, 1, 19), &rules), 1, "the one that runs is done when another would be up");
    assert_eq!(target(&input(10, 1, 19), &rules), 1, "in time");
    assert_eq!(target(&input(31, 1, 19), &rules), 4, "eleven jobs are left for new ones, five each");
    // An overdue instance on its way does not count for ever.
    let late = PolicyInput { booting: vec![(60 * SECOND, 1)], ..input(1, 0, 0) };
    assert_eq!(target(&late, &rules), 2, "another is started in addition to the overdue one");
}

#[test]
fn the_schedule_opens_and_closes_by_day_and_hour() {
    let schedule = ["mon-fri 08:00-18:00 2", "mon 09:00-10:00 5", "sat 22:00-06:00 3"];
    let rules =
        FleetRules { schedule: schedule.map(|w| w.parse().expect("a window")).to_vec(), ..rules(Policy::OnePerJob) };
    // 24 November 2026 is a Tuesday.
    for (time, minimum) in [
        ("2026-11-23T07:59:59Z", 0),
        ("2026-11-23T08:00:00Z", 2),
        ("2026-11-23T09:30:00Z", 5), // the largest of those open
        ("2026-11-24T09:30:00Z", 2),
        ("2026-11-24T18:00:00Z", 0),
        ("2026-11-28T09:30:00Z", 0),
        ("2026-11-28T22:00:00Z", 3),
        ("2026-11-29T05:59:00Z", 3), // on from Saturday
        ("2026-11-29T06:00:00Z", 0),
        ("2026-11-29T22:30:00Z", 0),
    ] {
        let at = humantime::parse_rfc3339(time).expect("a time");
        let at = at.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        assert_eq!(scheduled(&rules.schedule, at), minimum, "{time}");
    }
}
