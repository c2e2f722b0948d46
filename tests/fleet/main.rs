//! Decisions of the fleet and the simulator, on virtual time: no network, no worker process, no clock.

mod fleet_arrivals;
mod fleet_calls;
mod fleet_failed_boots;
mod fleet_histories;
mod fleet_instances;
mod fleet_learning;
mod fleet_policies;
mod fleet_refusals;
mod fleet_replay;
mod fleet_support;
mod fleet_uncertain;
mod fleet_versions;
mod simulate_cloud;
mod simulate_command;
mod simulate_determinism;
mod simulate_oracle;
mod simulate_policies;
mod simulate_report;
mod simulate_scale;
mod simulation;
mod tune;
