//! What is measured of the fleet: decisions, requests for instances, and boots.

use metrics::{counter, histogram};

use crate::{
    cloud::metered::outcome,
    fleet::{Action, BootOutcome, Cause, Event, FleetCore},
};

/// Measures the steps of one core.
#[derive(Default)]
pub struct FleetMetrics {
    /// Number of the next decision that has not been counted.
    next_decision: u64,
}

impl FleetMetrics {
    /// Counts the instances of an answered request.
    pub fn event(&self, event: &Event) {
        let requested = |call: &'static str, outcome: &'static str, instances: usize| {
            let requests = counter!("rollcall_instance_requests_total", "call" => call, "outcome" => outcome);
            requests.increment(instances as u64);
        };
        match event {
            Event::Launched { result: Ok(ids), .. } => requested("launch", "ok", ids.len()),
            // How many were wanted is in the decision; at least one was not launched.
            Event::Launched { result, .. } => requested("launch", outcome(result), 1),
            Event::Started { results } => results.iter().for_each(|(_, result)| requested("start", outcome(result), 1)),
            Event::Terminated { results } => {
                results.iter().for_each(|(_, result)| requested("terminate", outcome(result), 1));
            }
            Event::Tick
            | Event::Hint { .. }
            | Event::Served { .. }
            | Event::Restored { .. }
            | Event::BootsRestored { .. }
            | Event::Changed
            | Event::Depth(_)
            | Event::Described { .. } => {}
        }
    }

    /// Counts the instances that an action terminates.
    pub fn action(&self, action: &Action) {
        if let Action::Terminate { ids, cause } = action {
            let terminations = counter!("rollcall_instance_terminations_total", "cause" => label(*cause));
            terminations.increment(ids.len() as u64);
        }
    }

    /// Counts the decisions and the boots of the latest step.
    pub fn stepped(&mut self, core: &FleetCore) {
        let new = core.decisions().iter().rev().take_while(|decision| decision.number >= self.next_decision);
        for decision in new {
            counter!("rollcall_fleet_decisions_total", "kind" => decision.kind.name()).increment(1);
        }
        if let Some(latest) = core.decisions().back() {
            self.next_decision = latest.number + 1;
        }
        for boot in core.boot_outcomes() {
            let (kind, took) = match boot {
                BootOutcome::Cold(took) => ("cold", took),
                BootOutcome::Warm(took) => ("warm", took),
                BootOutcome::Failed => {
                    counter!("rollcall_instance_boot_failures_total").increment(1);
                    continue;
                }
            };
            histogram!("rollcall_instance_boot_duration_seconds", "kind" => kind).record(took.as_secs_f64());
        }
    }
}

fn label(cause: Cause) -> &'static str {
    match cause {
        Cause::Sweep => "sweep",
        Cause::BootTimeout => "boot-timeout",
        Cause::StopTimeout => "stop-timeout",
        Cause::Silent => "silent",
        Cause::Unresponsive => "unresponsive",
        Cause::Outdated => "outdated",
        Cause::Unobserved => "again",
    }
}
