//! When how many instances must be on, whatever the order in which the jobs are done.

use std::ops::Range;

/// A job. Times are in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    pub at: f64,
    pub service: f64,
}

/// A demand on the on-times of one level: some interval of them must begin by `latest` and end at `end` or later, unless
/// `exempt` jobs are exempted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    pub latest: f64,
    pub end: f64,
    pub exempt: f64,
}

/// Divides the jobs where, for at least `gap`, none of them can run.
pub fn segments(jobs: &[Job], wait: f64, gap: f64) -> Vec<Range<usize>> {
    let (mut segments, mut begin, mut free_from) = (Vec::new(), 0, f64::NEG_INFINITY);
    for (i, job) in jobs.iter().enumerate() {
        if i > begin && job.at - free_from >= gap {
            segments.push(begin..i);
            begin = i;
        }
        free_from = f64::max(free_from, job.at + wait + job.service);
    }
    if begin < jobs.len() {
        segments.push(begin..jobs.len());
    }
    segments
}

/// Returns the demands of the first level: each job needs an instance that is on when it begins, at the latest after
/// `wait`, and until it is done. No job is shorter than `shortest`.
pub fn first_level(jobs: &[Job], wait: f64, shortest: f64) -> Vec<Demand> {
    jobs.iter().map(|job| Demand { latest: job.at + wait, end: job.at + shortest, exempt: 1.0 }).collect()
}

/// Returns the demands of a level from the second on: times within which `level` instances must be on at least once,
/// because fewer cannot do the work. `below` is the number of jobs that the instances of the lower levels do at once.
///
/// Each is a range of consecutive jobs, and the time from the arrival of the first of them to the last moment at which
/// one of them may run; its work exceeds what the lower levels can do in that time. No job is in two ranges. Each range is
/// one of largest excess (Bentley, 1984: the maximum sum of a subarray, here of every one between restarts).
pub fn higher_level(jobs: &[Job], wait: f64, below: f64) -> Vec<Demand> {
    let mut demands = Vec::new();
    let (mut begin, mut work, mut until) = (0, 0.0, f64::NEG_INFINITY);
    // The best range that begins at `begin`: its excess, the end of its time, and its longest job.
    let mut best: Option<(f64, f64, f64)> = None;
    let mut longest: f64 = 0.0;
    let demand = |begin: usize, (excess, end, longest): (f64, f64, f64)| Demand {
        latest: end,
        end: jobs[begin].at,
        exempt: (excess / longest).ceil().max(1.0),
    };
    for (j, job) in jobs.iter().enumerate() {
        let last = job.at + wait + job.service;
        let excess = |work: f64, until: f64, from: f64| work - below * (until - from);
        let extended = excess(work + job.service, until.max(last), jobs[begin].at);
        let alone = excess(job.service, last, job.at);
        if j > begin && alone > extended {
            demands.extend(best.take().map(|best| demand(begin, best)));
            (begin, work, until, longest) = (j, 0.0, f64::NEG_INFINITY, 0.0);
        }
        work += job.service;
        until = until.max(last);
        longest = longest.max(job.service);
        let now = excess(work, until, jobs[begin].at);
        // Work that is exactly what the lower levels can do is no excess, whatever the rounding.
        if now > 1e-6 && best.is_none_or(|(excess, ..)| now > excess) {
            best = Some((now, until, longest));
        }
    }
    demands.extend(best.map(|best| demand(begin, best)));
    demands
}
