//! The least cost of a trace (docs/oracle.md) is below what any policy pays for it.

use crate::simulation::settings;
use rollcall::{
    cli::simulate::parameters,
    settings::{Policy, Settings},
    simulator::{ControllerKind, Trace, simulate},
};

/// Runs every policy on a trace, and returns how many times the least cost each has cost, if every request was answered.
fn distances(trace: &str, seed: u64, keys: &[(&str, &str)]) -> Vec<(String, f64)> {
    let policies =
        Policy::ALL.into_iter().map(|(name, policy)| (name, policy.name())).filter(|(name, own)| name == own);
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
        Some((name.to_owned(), report.distance()?))
    };
    policies.map(|(name, _)| name).chain([ControllerKind::COOLDOWN_LOOP]).filter_map(of).collect()
}

#[test]
fn no_policy_costs_less_than_the_least_cost_at_its_own_p99() {
    for trace in Trace::NAMES.into_iter().chain(["report-1", "report-100", "steady-5-600"]) {
        let all = distances(trace, 1, &[]);
        assert!(all.len() > 3, "{trace}: {all:?}");
        for (policy, distance) in all {
            assert!(distance >= 1.0, "{policy} on {trace}: {distance} of the least cost");
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
        for trace in ["on-off", "gamma-dense", "periodic"] {
            for (policy, distance) in distances(trace, 3, keys) {
                assert!(distance >= 1.0, "{policy} on {trace} with {keys:?}: {distance} of the least cost");
            }
        }
    }
}
