//! A lower bound of what any controller pays that holds a p99 of waiting, even one that knows every arrival.
//!
//! `docs/oracle.md` has the model, the bound and its proof; the names here are the same. The layers: what an on-period of
//! an instance costs at least (`period`); when how many instances must be on (`demand`); what covering that costs
//! (`cover`); and the best combination of multipliers (`dual`).

mod cover;
mod demand;
mod dual;
mod period;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{parameters::Parameters, queue_calls::MAX_BATCH, traces::Trace};
use demand::Job;
use period::PeriodCost;

/// Returns the least amount of money that any controller pays for this trace if all jobs are completed and at most one
/// in a hundred waits longer than `wait`, or less.
pub fn least_cost(parameters: &Parameters, trace: &Trace, wait: Duration) -> f64 {
    let jobs: Vec<Job> = trace
        .arrivals
        .iter()
        .map(|arrival| Job { at: arrival.at.as_secs_f64(), service: arrival.service.as_secs_f64() })
        .collect();
    let exempt = jobs.len() - (jobs.len() * 99).div_ceil(100);
    let period = PeriodCost::of(&parameters.cloud, &parameters.prices);
    let instances = dual::bound(&jobs, wait.as_secs_f64(), parameters.cloud.threads as f64, exempt, &period);
    instances + queue_cost(parameters, jobs.len())
}

/// Each job is sent, received and deleted, and so is its reply. Under a quota, calls to the request queue carry several
/// messages.
fn queue_cost(parameters: &Parameters, jobs: usize) -> f64 {
    let batch = if parameters.cloud.queue_quota.is_some() { MAX_BATCH } else { 1 };
    let calls = 3 * jobs + 3 * jobs.div_ceil(batch);
    calls as f64 / 1e6 * parameters.prices.queue_million_calls
}
