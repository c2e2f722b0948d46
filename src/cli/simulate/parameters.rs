//! Maps the settings to the parameters of the simulator.

use std::time::Duration;

use crate::{
    fleet::IdleStop,
    settings::Settings,
    simulator::{Boot, CloudModel, Faults, Parameters, Prices, Service},
};

/// Returns the parameters that these settings describe.
pub fn parameters(settings: &Settings) -> Parameters {
    let (model, prices) = (&settings.simulate, &settings.prices);
    Parameters {
        cloud: CloudModel {
            boot: Boot {
                cold: model.boot.cold,
                warm: model.boot.warm,
                sigma: model.boot.sigma,
                slow_share: model.boot.slow_share,
                slow_factor: model.boot.slow_factor,
                pending_share: model.boot.pending_share,
            },
            service: Service { median: model.service, sigma: model.service_sigma },
            faults: Faults {
                capacity: model.faults.capacity,
                boot: model.faults.boot,
                lost_answers: model.faults.lost_answers,
                crash: model.faults.crash,
            },
            stopping: model.stopping,
            shutting_down: model.shutting_down,
            call_latency: model.call_latency,
            describe_lag: model.describe_lag,
            count_lag: model.count_lag,
            queue_latency: model.queue_latency,
            poll_delay: model.poll_delay,
            cron: model.cron,
            worker_start: model.worker_start,
            hints: model.hints,
            warm: model.warm,
            threads: settings.worker.threads,
            visibility: settings.queue.visibility,
            queue_quota: Some(model.queue_quota as f64).filter(|quota| *quota > 0.0),
            web_nodes: model.web_nodes,
            linger: settings.aws.linger,
            name_prefix: settings.fleet.name_prefix.clone(),
        },
        prices: Prices {
            instance_hour: prices.instance_hour,
            disk_gb_month: prices.disk_gb_month,
            disk_gb: prices.disk_gb,
            queue_million_calls: prices.queue_million_calls,
        },
        rules: settings.fleet_rules(Duration::ZERO),
        idle_stop: IdleStop { idle: settings.worker.idle_stop, billing_minimum: settings.fleet.billing_minimum },
    }
}
