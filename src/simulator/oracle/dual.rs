//! Combines the levels of all segments, with the multipliers that give the highest bound.

use super::{
    cover::{Paid, cover},
    demand::{Demand, Job, first_level, higher_level, segments},
    period::PeriodCost,
};

/// Weights of the billed minimum that are tried for each segment.
const THETAS: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
/// Loads, in instances, from which on time is charged to the work: those that are tried for each segment.
const DENSE: [f64; 5] = [f64::INFINITY, 2.5, 1.2, 0.6, 0.0];
/// Length of the intervals in which the load is computed.
const BIN: f64 = 30.0;
/// Prices of an exempted job that are tried for each level, relative to a start with its whole minimum.
const PRICES: [f64; 14] = [0.0, 0.01, 0.03, 0.07, 0.12, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9, 1.0, 1.5];
/// Rounds of coordinate ascent over the levels' prices.
const ROUNDS: usize = 3;

/// What the segments share.
struct Assumptions<'a> {
    wait: f64,
    threads: f64,
    /// The shortest job.
    shortest: f64,
    /// Price of exempting a job from the work.
    work_price: f64,
    period: &'a PeriodCost,
}

/// One segment under one choice of its multipliers: the cost of its work, and that of each level by price.
struct Choice {
    work: f64,
    levels: Vec<[f64; PRICES.len()]>,
}

/// Returns the bound for instances and disks. At most `exempt` jobs wait longer than `wait`; an instance runs `threads`
/// jobs at once.
pub fn bound(jobs: &[Job], wait: f64, threads: f64, exempt: usize, period: &PeriodCost) -> f64 {
    let mut services: Vec<f64> = jobs.iter().map(|job| job.service).collect();
    services.sort_by(f64::total_cmp);
    let Some(shortest) = services.first().copied() else { return 0.0 };
    // The best price is that of the longest job that is not exempted, at the highest rate.
    let longest = services.len() - 1 - exempt.min(services.len() - 1);
    let work_price = if exempt == 0 { f64::INFINITY } else { period.linear(0.0).rate / threads * services[longest] };
    let assumptions = Assumptions { wait, threads, shortest, work_price, period };
    let ranges = segments(jobs, wait, period.decisive_gap());
    let segments: Vec<Vec<Choice>> = ranges.into_iter().map(|range| choices(&jobs[range], &assumptions)).collect();
    let exempt = exempt as f64;
    let paid_for_work = if exempt > 0.0 { work_price * exempt } else { 0.0 };
    let with = best_prices(&segments, 1.0, period.linear(1.0).start * exempt) - paid_for_work;
    let without = best_prices(&segments, 0.0, period.linear(1.0).start * exempt);
    with.max(without).max(0.0)
}

/// Returns the highest value that coordinate ascent over the levels' prices finds. `work` is the weight of the work, and
/// `paid` what a level pays for its exemptions at a price of 1.
fn best_prices(segments: &[Vec<Choice>], work: f64, paid: f64) -> f64 {
    let levels = segments.iter().flatten().map(|choice| choice.levels.len()).max().unwrap_or(0);
    let value = |prices: &[usize]| {
        let of = |choice: &Choice| {
            let levels = choice.levels.iter().zip(prices).map(|(costs, price)| costs[*price]);
            work * choice.work + levels.sum::<f64>()
        };
        let best = segments.iter().map(|choices| choices.iter().map(of).fold(0.0, f64::max));
        best.sum::<f64>() - prices.iter().map(|price| PRICES[*price] * paid).sum::<f64>()
    };
    let mut prices = vec![PRICES.len() / 2; levels];
    for level in (0..levels).cycle().take(levels * ROUNDS) {
        let with = |price: usize| {
            let mut prices = prices.clone();
            prices[level] = price;
            value(&prices)
        };
        let best = (0..PRICES.len()).map(|price| (with(price), price)).max_by(|a, b| a.0.total_cmp(&b.0));
        prices[level] = best.map_or(prices[level], |(_, price)| price);
    }
    value(&prices)
}

/// Computes a segment for each choice of its multipliers.
fn choices(jobs: &[Job], a: &Assumptions<'_>) -> Vec<Choice> {
    let mut levels = vec![first_level(jobs, a.wait, a.shortest)];
    loop {
        let demands = higher_level(jobs, a.wait, levels.len() as f64 * a.threads);
        if demands.is_empty() {
            break;
        }
        levels.push(demands);
    }
    let mut charged: Vec<ChargedToWork> = Vec::new();
    for dense in DENSE {
        let next = ChargedToWork::new(jobs, a, dense);
        if charged.iter().all(|earlier| earlier.times != next.times) {
            charged.push(next);
        }
    }
    let unit = a.period.linear(1.0).start;
    let mut choices = Vec::new();
    for charged in &charged {
        let paid: Vec<Vec<Paid>> = levels.iter().map(|demands| charged.paid(demands)).collect();
        let work: Vec<f64> = charged.work(jobs, a.wait).collect();
        for theta in THETAS {
            let cost = a.period.linear(theta);
            let work = work.iter().map(|work| (cost.rate / a.threads * work).min(a.work_price)).sum();
            let of_level = |paid: &Vec<Paid>| PRICES.map(|price| cover(paid, cost, price * unit));
            choices.push(Choice { work, levels: paid.iter().map(of_level).collect() });
        }
    }
    choices
}

/// The times in which on time is charged to the work that is done, and not to its length.
struct ChargedToWork {
    /// In order, disjoint.
    times: Vec<(f64, f64)>,
}

impl ChargedToWork {
    /// Chooses the times in which at least `dense` instances are busy, on average over [`BIN`].
    fn new(jobs: &[Job], a: &Assumptions<'_>, dense: f64) -> Self {
        if dense == 0.0 {
            return Self { times: vec![(f64::NEG_INFINITY, f64::INFINITY)] };
        }
        let mut times: Vec<(f64, f64)> = Vec::new();
        let start = jobs.first().map_or(0.0, |job| job.at);
        for bin in jobs.chunk_by(|one, next| ((one.at - start) / BIN) as u64 == ((next.at - start) / BIN) as u64) {
            let work: f64 = bin.iter().map(|job| job.service).sum();
            if work / a.threads < dense * BIN {
                continue;
            }
            let from = start + ((bin[0].at - start) / BIN).floor() * BIN;
            let to = bin.iter().map(|job| job.at + a.wait + job.service).fold(from, f64::max);
            match times.last_mut() {
                Some(last) if last.1 >= from => last.1 = last.1.max(to),
                _ => times.push((from, to)),
            }
        }
        Self { times }
    }

    /// Returns the work of each job whose every possible time is charged to work.
    fn work(&self, jobs: &[Job], wait: f64) -> impl Iterator<Item = f64> {
        let of = move |job: &Job| {
            let next = self.times.partition_point(|(from, _)| *from <= job.at);
            let inside = next > 0 && self.times[next - 1].1 >= job.at + wait + job.service;
            if inside { job.service } else { 0.0 }
        };
        jobs.iter().map(of)
    }

    /// Returns how much time before `at` is not charged to work. Only differences have a meaning.
    fn unpaid_before(&self, at: f64) -> f64 {
        let charged = self.times.iter().take_while(|(from, _)| *from < at).map(|(from, to)| to.min(at) - from);
        if self.times.first().is_some_and(|(from, _)| from.is_infinite()) { 0.0 } else { at - charged.sum::<f64>() }
    }

    fn paid(&self, demands: &[Demand]) -> Vec<Paid> {
        let of = |demand: &Demand| Paid {
            demand: *demand,
            before_latest: self.unpaid_before(demand.latest),
            before_end: self.unpaid_before(demand.end),
        };
        demands.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: PeriodCost = PeriodCost { instance: 1.0, disk: 0.1, minimum: 10.0, billed_boot: 2.0, boot: 3.0 };

    #[test]
    fn only_work_whose_every_time_is_charged_counts() {
        // One job per second for 30 s, then one that may run after the charged time.
        let jobs: Vec<Job> = (0..30).chain([33]).map(|at| Job { at: f64::from(at), service: 1.0 }).collect();
        let a = Assumptions { wait: 4.0, threads: 1.0, shortest: 1.0, work_price: f64::INFINITY, period: &PERIOD };
        let charged = ChargedToWork::new(&jobs, &a, 0.9);
        assert_eq!(charged.times, [(0.0, 34.0)]);
        assert_eq!(charged.work(&jobs, 4.0).sum::<f64>(), 30.0, "the last job may run from 33 s to 38 s");
        assert_eq!([-1.0, 10.0, 40.0].map(|at| charged.unpaid_before(at)), [-1.0, 0.0, 6.0]);
        assert_eq!(ChargedToWork::new(&jobs, &a, 1.1).times, []);
        assert_eq!(ChargedToWork::new(&jobs, &a, 0.0).work(&jobs, 4.0).sum::<f64>(), 31.0);
    }

    #[test]
    fn many_busy_instances_cost_their_work() {
        let service = |n: u32| if n.is_multiple_of(100) { 20.0 } else { 1.0 };
        let jobs: Vec<Job> = (0..5_000).map(|n| Job { at: f64::from(n / 10), service: service(n) }).collect();
        let work: f64 = jobs.iter().map(|job| job.service).sum();
        let rate = PERIOD.linear(0.0).rate;
        let all = bound(&jobs, 3.0, 1.0, 0, &PERIOD);
        assert!(all > rate * work && all < 1.02 * rate * work, "{all} for {work} s");
        // The 50 jobs of 20 s may be exempt, and no others.
        let less = bound(&jobs, 3.0, 1.0, 50, &PERIOD);
        assert!(less > rate * (work - 1_000.0) * 0.99 && less < rate * (work - 1_000.0) * 1.02, "{less}");
    }
}
