//! The bound against the least cost of small cases, which are enumerated.

use std::ops::Range;

use super::{
    demand::{Demand, Job, first_level, higher_level, segments},
    dual::bound,
    period::PeriodCost,
};
use crate::random::{Purpose, Random};

/// Prices of 1 per second, a minimum of 10 s, a boot of 3 s of which 2 s are billed, and disks at a tenth.
const PERIOD: PeriodCost = PeriodCost { instance: 1.0, disk: 0.1, minimum: 10.0, billed_boot: 2.0, boot: 3.0 };

/// Returns the least cost of serving the jobs, all of one second, at whole times, with the first waiting time allowed for
/// all but `exempt` of them.
fn least(arrivals: &[u32], wait: u32, exempt: usize) -> f64 {
    let mut best = f64::INFINITY;
    for skipped in 0..1_u32 << arrivals.len() {
        if skipped.count_ones() as usize == exempt.min(arrivals.len()) {
            let kept = |i: &usize| skipped >> i & 1 == 0;
            let arrivals: Vec<u32> = (0..arrivals.len()).filter(kept).map(|i| arrivals[i]).collect();
            begin(&arrivals, wait, &mut Vec::new(), &mut best);
        }
    }
    best
}

/// Enumerates when the jobs begin, in their order: with jobs of one length, no other order is cheaper.
fn begin(arrivals: &[u32], wait: u32, starts: &mut Vec<u32>, best: &mut f64) {
    let Some(arrival) = arrivals.get(starts.len()) else {
        assign(starts, 0, &mut Vec::new(), best);
        return;
    };
    for start in *arrival.max(starts.last().unwrap_or(&0))..=arrival + wait {
        starts.push(start);
        begin(arrivals, wait, starts, best);
        starts.pop();
    }
}

/// Enumerates which on-period each job is in. Returns early where the cost is no less than the best.
fn assign(starts: &[u32], next: usize, periods: &mut Vec<(u32, u32)>, best: &mut f64) {
    let cost: f64 = periods.iter().map(|(from, to)| PERIOD.cost(f64::from(to - from))).sum();
    if cost >= *best {
        return;
    }
    let Some(start) = starts.get(next).copied() else {
        *best = cost;
        return;
    };
    for i in 0..periods.len() {
        let (from, to) = periods[i];
        if to <= start {
            periods[i] = (from, start + 1);
            assign(starts, next + 1, periods, best);
            periods[i] = (from, to);
        }
    }
    periods.push((start, start + 1));
    assign(starts, next + 1, periods, best);
    periods.pop();
}

fn bound_of(arrivals: &[u32], wait: u32, exempt: usize) -> f64 {
    let jobs: Vec<Job> = arrivals.iter().map(|at| Job { at: f64::from(*at), service: 1.0 }).collect();
    bound(&jobs, f64::from(wait), 1.0, exempt, &PERIOD)
}

#[test]
fn the_bound_is_never_above_the_least_cost() {
    let mut random = Random::new(1, Purpose::Arrivals);
    let mut ratios = Vec::new();
    for case in 0..600 {
        let (jobs, span, wait) = (1 + random.below(7), [3, 12, 40, 90][case % 4], random.below(5) as u32);
        let exempt = random.below(3);
        let mut arrivals: Vec<u32> = (0..jobs).map(|_| random.below(span) as u32).collect();
        arrivals.sort_unstable();
        let (bound, least) = (bound_of(&arrivals, wait, exempt), least(&arrivals, wait, exempt));
        assert!(bound <= least + 1e-9, "{arrivals:?}, wait {wait}, exempt {exempt}: {bound} above {least}");
        if exempt == 0 {
            ratios.push(bound / least);
        }
    }
    let mean = ratios.iter().sum::<f64>() / ratios.len() as f64;
    assert!(mean > 0.85, "{mean}");
}

#[test]
fn the_bound_is_the_least_cost_of_simultaneous_and_of_isolated_jobs() {
    for arrivals in [&[5][..], &[5, 5, 5], &[0, 0, 0, 60, 60], &[0, 100, 200, 300, 400], &[0, 1, 2, 100, 101]] {
        for wait in 0..3 {
            let (bound, least) = (bound_of(arrivals, wait, 0), least(arrivals, wait, 0));
            // An isolated job costs a start with its minimum, and the disk for its boot and a second.
            let seconds_of_disk = 0.1 * arrivals.len() as f64;
            assert!(
                bound <= least + 1e-9 && bound >= least - seconds_of_disk - 1e-9,
                "{arrivals:?}, wait {wait}: {bound}, {least}"
            );
        }
    }
}

#[test]
fn a_long_time_with_a_job_every_other_second_costs_its_whole_length() {
    let arrivals: Vec<u32> = (0..500).map(|n| 2 * n).collect();
    let bound = bound_of(&arrivals, 0, 0);
    let stays_on = PERIOD.cost(2.0 * 499.0 + 1.0);
    assert!(bound <= stays_on + 1e-6 && bound > 0.995 * stays_on, "{bound}, {stays_on}");
}

#[test]
fn an_exemption_saves_the_dearest_job() {
    let arrivals = [0, 1, 2, 3, 100, 200, 201, 202];
    let [all, one, two] = [0, 1, 2].map(|exempt| bound_of(&arrivals, 0, exempt));
    let isolated = PERIOD.linear(1.0).start;
    assert!((all - one - isolated).abs() < 1.0, "{all}, {one}: the job at 100 costs {isolated}");
    assert!(one - two < isolated, "{one}, {two}");
}

#[test]
fn jobs_are_divided_only_where_none_of_them_can_run() {
    let jobs = [0.0, 10.0, 33.9, 60.0].map(|at| Job { at, service: 1.0 });
    // The first two cannot run between 13 s and 33.9 s, nor the third between 36.9 s and 60 s.
    assert_eq!(segments(&jobs, 2.0, 20.5), [0..2, 2..3, 3..4]);
    assert_eq!(segments(&jobs, 2.0, 21.0), [0..3, 3..4]);
    assert_eq!(segments(&jobs, 2.0, 24.0), [Range { start: 0, end: 4 }]);
    assert_eq!(segments(&jobs, 30.0, 20.5), [Range { start: 0, end: 4 }]);
    assert_eq!(segments(&[], 2.0, 21.0), []);
}

#[test]
fn a_level_is_needed_where_the_levels_below_cannot_do_the_work() {
    let at = |times: &[f64]| times.iter().map(|at| Job { at: *at, service: 1.0 }).collect::<Vec<_>>();
    let jobs = at(&[0.0, 0.0, 0.0, 0.0, 50.0, 50.0]);
    // Four seconds of work within three: one instance does three of them.
    assert_eq!(higher_level(&jobs, 2.0, 1.0), [Demand { latest: 3.0, end: 0.0, exempt: 1.0 }]);
    assert_eq!(higher_level(&jobs, 3.0, 1.0), []);
    // Within one second, the first four need four instances, and the last two need two.
    let demands = |below| higher_level(&jobs, 0.0, below).iter().map(|d| (d.end, d.exempt)).collect::<Vec<_>>();
    assert_eq!([1.0, 2.0, 3.0].map(demands), [vec![(0.0, 3.0), (50.0, 1.0)], vec![(0.0, 2.0)], vec![(0.0, 1.0)]]);
    assert_eq!(demands(4.0), []);
    assert_eq!(first_level(&at(&[7.0]), 2.0, 0.5), [Demand { latest: 9.0, end: 7.5, exempt: 1.0 }]);
}
