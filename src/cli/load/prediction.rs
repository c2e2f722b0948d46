//! What the simulator predicts for the arrivals of a load.

use std::time::Duration;

use super::fleet::FleetResponse;
use crate::{
    cli::{report_page::Request, simulate::parameters},
    fleet::{Counts, Policy},
    settings::{CloudKind, Settings},
    simulator::{ControllerKind, Parameters, Run, Service, Trace, simulate},
};

/// Seed of the random numbers.
const SEED: u64 = 1;
/// Time of a call on the embedded cloud, where nothing is far away.
const LOCAL_CALL: Duration = Duration::from_millis(1);
/// Time in which a process of the embedded cloud ends.
const LOCAL_STOP: Duration = Duration::from_millis(50);

/// Simulates the arrivals on a fleet that has the settings, and the boot and job times that this one has learned.
/// `before` is what there was when the load began.
pub(super) fn predict(settings: &Settings, fleet: &FleetResponse, before: Counts, uploads: &[Request]) -> Run {
    let parameters = learned(parameters(settings), settings.cloud.kind, fleet, before);
    let mut times: Vec<_> = uploads.iter().map(|upload| (upload.at, None)).collect();
    times.sort_unstable();
    let length = times.last().map_or(Duration::ZERO, |(at, _)| *at);
    let trace = Trace::new("the uploads", length, times, parameters.cloud.service, SEED);
    simulate(&parameters, ControllerKind::Fleet, &trace, SEED)
}

/// Returns the parameters with what is known of this fleet in place of assumptions.
fn learned(mut parameters: Parameters, cloud: CloudKind, fleet: &FleetResponse, before: Counts) -> Parameters {
    let Parameters { cloud: model, rules, .. } = &mut parameters;
    let policy = Policy::ALL.iter().find(|(name, _)| *name == fleet.policy);
    rules.policy = policy.map_or(rules.policy, |(_, policy)| *policy);
    rules.max_instances = fleet.max_instances;
    (rules.boot_cold, rules.boot_warm, rules.service_time) =
        (fleet.learned.boot_cold, fleet.learned.boot_warm, fleet.learned.service);
    model.boot.cold = fleet.learned.boot_cold;
    model.boot.warm = fleet.learned.boot_warm;
    model.service = Service { median: fleet.learned.service, sigma: model.service.sigma };
    // The simulator begins without a running instance: those that ran are taken for stopped ones.
    model.warm = (before.stopped + before.running + before.pending).min(fleet.max_instances);
    if cloud == CloudKind::Local {
        (model.call_latency, model.queue_latency) = (LOCAL_CALL, LOCAL_CALL);
        (model.describe_lag, model.count_lag, model.poll_delay) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        (model.stopping, model.shutting_down) = (LOCAL_STOP, LOCAL_STOP);
        (model.boot.slow_share, model.boot.pending_share) = (0.0, 1.0);
        model.linger = Duration::ZERO;
    }
    parameters
}
