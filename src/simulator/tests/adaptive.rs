//! The policy `adaptive` on the simulated cloud.

use std::time::Duration;

use super::{model, s, trace};
use crate::{ControllerKind, Parameters, Prices, Report, Run, simulate};
use rollcall_fleet::{FleetRules, IdleStop, Policy};

const HOUR: u64 = 3600;

fn run(policy: Policy, goal: (f64, Option<Duration>), arrivals: &[Duration]) -> Report {
    simulated(policy, goal, arrivals).report
}

/// Simulates the policy with what an hour of waiting is worth, or a target.
pub fn simulated(policy: Policy, (wait_price, target_wait): (f64, Option<Duration>), arrivals: &[Duration]) -> Run {
    let rules = FleetRules {
        policy,
        max_instances: 19,
        launch_cooldown: s(0),
        sweep_every: s(180),
        keep_stopped: 5,
        sweep_cooldown: s(0),
        boot_timeout: s(300),
        poll_every: s(5),
        describe_every: s(15),
        describe_lag: s(15),
        silent_timeout: Some(s(300)),
        jobs_per_instance: 10,
        up_delay: s(0),
        down_delay: s(60),
        target_latency: s(5),
        boot_cold: s(25),
        boot_warm: s(15),
        service_time: s(1),
        billing_minimum: s(60),
        schedule: Vec::new(),
        threads: 1,
        idle_stop: s(90),
        wait_price,
        target_wait,
        instance_hour: 0.01,
        disk_hour: 0.001,
        started_at: Duration::ZERO,
    };
    let prices = Prices { instance_hour: 0.01, disk_gb_month: 0.09, disk_gb: 8.0, queue_million_calls: 0.5 };
    let idle_stop = IdleStop { idle: s(90), billing_minimum: s(60) };
    let cloud = crate::CloudModel { hints: true, ..model() };
    let length = arrivals.last().map_or(0, Duration::as_secs) + 100;
    let parameters = Parameters { cloud, prices, rules, idle_stop };
    simulate(&parameters, ControllerKind::Fleet, &trace(length, arrivals), 1)
}

#[test]
fn an_instance_stays_between_jobs_if_waiting_is_dear_and_stops_if_it_is_cheap() {
    let arrivals: Vec<Duration> = (1..216).map(|n| s(100 * n)).collect();
    let [dear, cheap] = [1.0, 0.001].map(|price| run(Policy::Adaptive, (price, None), &arrivals));
    assert!(dear.launches + dear.starts <= 3 && dear.wait_s.p90 < 1.0, "{dear:?}");
    assert!(cheap.launches + cheap.starts > 100 && cheap.billed_instance_s < 0.8 * dear.billed_instance_s, "{cheap:?}");
}

/// Bursts of forty jobs, ten minutes apart.
fn bursts(hours: std::ops::Range<u64>) -> impl Iterator<Item = Duration> {
    (hours.start * HOUR..hours.end * HOUR)
        .step_by(600)
        .flat_map(|at| (0..40).map(move |n| s(at) + Duration::from_millis(50 * n)))
}

#[test]
fn a_target_is_held_with_fewer_instance_hours_than_one_per_job() {
    let arrivals: Vec<Duration> = bursts(0..24).collect();
    let goal = (0.0, Some(s(30)));
    let report = run(Policy::Adaptive, goal, &arrivals);
    let other = run(Policy::OnePerJob, goal, &arrivals);
    assert!(report.completed == arrivals.len() && report.wait_s.p99 <= 30.0, "{report:?}");
    assert!(report.billed_instance_s < 0.5 * other.billed_instance_s, "{report:?} {other:?}");
}
