//! `deadline`: the fewest instances that finish the backlog in time.

use std::time::Duration;

use super::input::{PolicyInput, saturating};
use crate::rules::FleetRules;

/// Returns the number of jobs, each taking `service`, that `threads` threads finish within `within`.
fn jobs(within: Duration, service: Duration, threads: u64) -> u64 {
    u64::try_from(within.as_nanos() / service.as_nanos()).unwrap_or(u64::MAX).saturating_mul(threads)
}

/// Returns the fewest instances that finish the backlog in time. Let `s` be the service time, `c` the threads per
/// instance, `L` the target latency and `D` the demand. An instance that will be running after `r` (0 if it already is)
/// finishes `jobs(H, r) = c · floor((H − r) / s)` jobs within the horizon `H`.
///
/// `target` is the smallest number of instances, taken in the order running, booting (soonest first), stopped, new,
/// whose jobs reach `D`. If the stopped ones are not enough, they too are counted with the cold boot, so the target
/// may be a few instances too high.
///
/// The horizon is `L`, unless instances that must be started boot too slowly for that. They then get half of `L`, or
/// the time of one job, to work: `H = max(L, boot + max(L/2, s))`, with the warm boot if stopped instances are enough
/// and the cold boot otherwise. From zero, the backlog is therefore finished within `max(L/2, s)` of the first boot,
/// and no instance is started that would come up after the work is done.
///
/// A start is billed for at least `billing_minimum` (EC2: 60 s). The backlog keeps
/// `floor(D · s / (c · billing_minimum))` instances busy for that long. That many cost no more than fewer would, so the
/// target is at least that number.
pub fn target(input: &PolicyInput, rules: &FleetRules) -> usize {
    if input.demand == 0 {
        return 0;
    }
    let service = input.learned.service.max(Duration::from_millis(1));
    let threads = rules.threads.max(1) as u64;
    let room = (rules.target_latency / 2).max(service);
    let horizon = |boot: Duration| rules.target_latency.max(boot + room);
    let (warm, cold) = (input.learned.boot_warm, input.learned.boot_cold);

    let with_warm = plan(input, horizon(warm), warm, service, threads);
    let have = input.running + input.booting.iter().map(|(_, n)| n).sum::<usize>();
    let wanted = if with_warm <= have.saturating_add(input.startable) {
        with_warm
    } else {
        // Too few are stopped: the rest are new and take a cold boot. The stopped ones are needed in any case.
        plan(input, horizon(cold).max(horizon(warm)), cold, service, threads).max(have.saturating_add(input.startable))
    };
    wanted.max(filled(input.demand, service, threads, rules.billing_minimum)).min(input.cap)
}

/// Returns the number of instances that finish the demand within `horizon`: first running and booting ones, then others
/// that boot in `boot`.
fn plan(input: &PolicyInput, horizon: Duration, boot: Duration, service: Duration, threads: u64) -> usize {
    let mut left = input.demand;
    let mut count = 0usize;
    let mut take = |each: u64, available: usize, count: &mut usize| {
        let needed = if each == 0 { available } else { saturating(left.div_ceil(each)).min(available) };
        left = left.saturating_sub(each.saturating_mul(needed as u64));
        *count = count.saturating_add(needed);
        left == 0
    };
    if take(jobs(horizon, service, threads).max(threads), input.running, &mut count) {
        return count;
    }
    let mut booting = input.booting.clone();
    booting.sort_unstable();
    for (remaining, available) in booting {
        if take(jobs(horizon.saturating_sub(remaining), service, threads), available, &mut count) {
            return count;
        }
    }
    take(jobs(horizon.saturating_sub(boot), service, threads).max(threads), usize::MAX, &mut count);
    count
}

/// Returns the number of instances that `demand` keeps busy for the whole minimum billed per start.
fn filled(demand: u64, service: Duration, threads: u64, minimum: Duration) -> usize {
    if minimum.is_zero() {
        return 0;
    }
    let work = u128::from(demand) * service.as_nanos() / u128::from(threads);
    usize::try_from(work / minimum.as_nanos()).unwrap_or(usize::MAX)
}
