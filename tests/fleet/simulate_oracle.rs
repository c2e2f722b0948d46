//! The least cost of a trace (docs/oracle.md) is below what any policy pays for it.

use crate::simulation::settings;
use rollcall::{
    cli::simulate::parameters,
    settings::Settings,
    simulator::{ControllerKind, Trace, simulate},
};

/// Runs every policy on a trace, and returns how many times the least cost each has cost.
fn distances(trace: &str, seed: u64, keys: &[(&str, &str)]) -> Vec<(String, f64)> {
    let policies = rollcall::settings::Policy::ALL.map(|(name, _)| name);
    let of = |name: &str| {
        let kind = match name {
            ControllerKind::COOLDOWN_LOOP => ControllerKind::CooldownLoop,
            _ => ControllerKind::Fleet,
        };
        let policy = [("fleet.policy", name)];
        let settings: Settings =
            settings(None, &[if kind == ControllerKind::Fleet { &policy[..] } else { &[] }, keys].concat());
        let parameters = parameters(&settings);
        let trace = Trace::named(trace, parameters.cloud.service, seed).expect("a trace");
        let report = simulate(&parameters, kind, &trace, seed).report.with_least_cost(&parameters, &trace);
        assert_eq!(report.completed, report.requests, "{name} on {}, seed {seed}", report.trace);
        let distance = report.distance().expect("a bound");
        if std::env::var_os("ROLLCALL_SHOW_DISTANCES").is_some() {
            println!(
                "{:13} {name:14} p99 {:6.2} cost {:.4} least {:.4} ratio {distance:.2}",
                report.trace,
                report.wait_s.p99,
                report.cost,
                report.least_cost.unwrap_or_default()
            );
        }
        (name.to_owned(), distance)
    };
    policies.into_iter().chain([ControllerKind::COOLDOWN_LOOP]).map(of).collect()
}

#[test]
fn no_policy_costs_less_than_the_least_cost_at_its_own_p99() {
    for trace in Trace::NAMES.into_iter().chain(["report-1", "report-100", "steady-5-600"]) {
        for seed in 1..=2 {
            for (policy, distance) in distances(trace, seed, &[]) {
                assert!(distance >= 1.0, "{policy} on {trace}, seed {seed}: {distance} of the least cost");
            }
        }
    }
}

#[test]
fn the_least_cost_holds_in_other_clouds() {
    let clouds: [&[(&str, &str)]; 4] = [
        &[("worker.threads", "4"), ("simulate.service", "3s")],
        &[("simulate.boot_sigma", "0.6"), ("simulate.pending_share", "0"), ("simulate.worker_start", "20s")],
        &[("simulate.crashes", "0.02"), ("simulate.boot_failures", "0.1"), ("simulate.capacity_errors", "0.2")],
        &[("simulate.queue_quota", "1000"), ("prices.disk_gb", "500"), ("simulate.service_sigma", "1.0")],
    ];
    for keys in clouds {
        for trace in ["bursty", "on-off", "gamma-dense", "periodic"] {
            for (policy, distance) in distances(trace, 3, keys) {
                assert!(distance >= 1.0, "{policy} on {trace} with {keys:?}: {distance} of the least cost");
            }
        }
    }
}
