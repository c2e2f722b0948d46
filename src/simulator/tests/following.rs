//! How soon the policy `adaptive` follows arrivals that change their nature.

use std::time::Duration;

use rollcall_fleet::Policy;

use super::{adaptive::simulated, s};
use crate::{Service, Trace};

const DAY: Duration = Duration::from_secs(86_400);
/// What happens within this time after the change does not count.
const NOTICED: Duration = Duration::from_secs(3600);
/// Of [`simulated`].
const INSTANCE_HOUR: f64 = 0.01;
const DISK_HOUR: f64 = 0.001;
/// The number of seeds for which the table is printed as well.
const TABLE_SEEDS: Option<&str> = option_env!("ROLLCALL_CHANGE_SEEDS");

#[derive(Clone, Copy, Debug, PartialEq)]
enum Nature {
    Bursts,
    Singles,
}

use Nature::{Bursts, Singles};

/// Returns the day of the trace `shift` that is of this nature.
fn day(nature: Nature, seed: u64) -> Vec<Duration> {
    let trace = Trace::named("shift", Service { median: s(1), sigma: 0.0 }, seed).expect("a trace");
    let (first, second): (Vec<_>, Vec<_>) =
        trace.arrivals.iter().map(|arrival| arrival.at).partition(|arrived| *arrived < DAY);
    let close = first.windows(2).filter(|pair| pair[1] - pair[0] < Duration::from_millis(300)).count();
    let first_is = if close > first.len() / 2 { Bursts } else { Singles };
    if nature == first_is { first } else { second.into_iter().map(|arrived| arrived - DAY).collect() }
}

/// Returns what the second day costs together with its waiting, without the time in which a change is noticed. The first
/// day, if there is one, is of another seed.
fn second_day(first: Option<Nature>, second: Nature, wait_price: f64, seed: u64) -> f64 {
    let first = first.map_or_else(Vec::new, |nature| day(nature, seed + 5000));
    let arrivals: Vec<_> = first.into_iter().chain(day(second, seed).into_iter().map(|at| at + DAY)).collect();
    let history = simulated(Policy::Adaptive, (wait_price, None), &arrivals).history;
    let from = DAY + NOTICED;
    let ends = history.samples.iter().skip(1).map(|sample| sample.at).chain([history.end]);
    let costs = history.samples.iter().zip(ends).map(|(sample, end)| {
        let hours = end.saturating_sub(sample.at.max(from)).as_secs_f64() / 3600.0;
        let disks = sample.pending + sample.running + sample.stopping + sample.stopped;
        hours * (INSTANCE_HOUR * sample.running as f64 + DISK_HOUR * disks as f64)
    });
    let waits = history.jobs.iter().filter(|job| job.arrived >= from);
    let waited: f64 = waits.map(|job| (job.started_at.expect("done") - job.arrived).as_secs_f64() / 3600.0).sum();
    costs.sum::<f64>() + wait_price * waited
}

/// Returns how many times as much the second day costs as it does a controller that begins with it.
fn ratio(first: Nature, second: Nature, wait_price: f64, seed: u64) -> f64 {
    second_day(Some(first), second, wait_price, seed) / second_day(None, second, wait_price, seed)
}

#[test]
fn an_hour_after_a_change_what_was_before_costs_nothing() {
    if let Some(seeds) = TABLE_SEEDS {
        print_table(seeds.parse().expect("a number of seeds"));
    }
    for (first, second, wait_price) in [(Bursts, Singles, 1.0), (Singles, Bursts, 0.01)] {
        let ratio = ratio(first, second, wait_price, 1);
        assert!(ratio < 1.05, "{first:?}, then {second:?}, at {wait_price}: {ratio}");
    }
}

/// Prints the table of docs/fleet.md, which takes minutes.
fn print_table(seeds: u64) {
    for (first, second) in [(Singles, Bursts), (Bursts, Singles)] {
        for wait_price in [0.01, 0.1, 1.0] {
            let of = |first| {
                (2001..2001 + seeds).map(|seed| second_day(first, second, wait_price, seed)).collect::<Vec<_>>()
            };
            let changed = of(Some(first));
            let compared = [None, Some(second)].map(|known| {
                let mut all: Vec<f64> = changed.iter().zip(of(known)).map(|(cost, other)| cost / other).collect();
                all.sort_by(f64::total_cmp);
                let close = all.iter().filter(|ratio| **ratio <= 1.05).count();
                format!("{:.2} | {close} of {seeds}", all[all.len() / 2])
            });
            println!("| {first:?}, then {second:?} | {wait_price} | {} |", compared.join(" | "));
        }
    }
}
