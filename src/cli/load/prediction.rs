//! What the simulator predicts for the arrivals of a load.

use std::time::Duration;

use super::fleet::FleetResponse;
use crate::{
    cli::{report_page::Request, simulate::parameters},
    fleet::Policy,
    settings::{CloudKind, Settings},
    simulator::{ControllerKind, Parameters, Run, Service, Trace, simulate},
};

/// Seed of the random numbers.
const SEED: u64 = 1;
/// Time of a call on the embedded cloud, where nothing is far away.
const LOCAL_CALL: Duration = Duration::from_millis(1);
/// Time in which a process of the embedded cloud ends.
const LOCAL_STOP: Duration = Duration::from_millis(50);

/// Simulates the arrivals on a fleet that has the settings. The cloud has the boot and job times that the fleet had learned
/// after the load, and the controller plans with those that it had learned before.
pub(super) fn predict(settings: &Settings, before: &FleetResponse, after: &FleetResponse, uploads: &[Request]) -> Run {
    let parameters = learned(parameters(settings), settings.cloud.kind, before, after);
    let mut times: Vec<_> = uploads.iter().map(|upload| (upload.at, None)).collect();
    times.sort_unstable();
    let length = times.last().map_or(Duration::ZERO, |(at, _)| *at);
    let trace = Trace::new("the uploads", length, times, parameters.cloud.service, SEED);
    simulate(&parameters, ControllerKind::Fleet, &trace, SEED)
}

/// Returns the parameters with what is known of this fleet in place of assumptions.
fn learned(mut parameters: Parameters, cloud: CloudKind, before: &FleetResponse, after: &FleetResponse) -> Parameters {
    let Parameters { cloud: model, rules, .. } = &mut parameters;
    let policy = Policy::ALL.iter().find(|(name, _)| *name == before.policy);
    rules.policy = policy.map_or(rules.policy, |(_, policy)| *policy);
    rules.max_instances = before.max_instances;
    (rules.boot_cold, rules.boot_warm, rules.service_time) =
        (before.learned.boot_cold, before.learned.boot_warm, before.learned.service);
    (model.boot.cold, model.boot.warm) = (after.learned.boot_cold, after.learned.boot_warm);
    model.service = Service { median: after.learned.service, sigma: model.service.sigma };
    // The simulator begins without a running instance: those that ran are taken for stopped ones.
    model.warm = (before.counts.stopped + before.counts.running + before.counts.pending).min(before.max_instances);
    if cloud == CloudKind::Local {
        (model.call_latency, model.queue_latency) = (LOCAL_CALL, LOCAL_CALL);
        (model.describe_lag, model.count_lag, model.poll_delay) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        (model.stopping, model.shutting_down) = (LOCAL_STOP, LOCAL_STOP);
        (model.boot.slow_share, model.boot.pending_share) = (0.0, 1.0);
        model.linger = Duration::ZERO;
    }
    parameters
}
