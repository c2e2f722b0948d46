//! How many instances the jobs are worth now: the marginal value of one more.

/// What is known about instances and jobs. Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Times {
    /// From the request for a new instance until its worker takes jobs.
    pub cold: f64,
    /// From the start of a stopped instance until its worker takes jobs.
    pub warm: f64,
    /// The part of a boot that is not billed.
    pub unbilled: f64,
    /// From the moment an instance begins to stop until it can be started.
    pub stop: f64,
    /// One job on one thread.
    pub service: f64,
    /// Jobs that one instance works on at the same time.
    pub threads: f64,
    /// The minimum billed per start.
    pub minimum: f64,
}

/// The instances that there are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Supply {
    /// Instances at work.
    pub running: usize,
    /// Booting instances.
    pub booting: usize,
    /// Seconds until they are up, on average.
    pub boots_in: f64,
    /// Stopped instances that can be started.
    pub startable: usize,
    /// The most that are allowed.
    pub cap: usize,
}

/// The jobs that there are and that are expected.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    /// Jobs that wait or are worked on.
    pub jobs: f64,
    /// Arrivals per second.
    pub rate: f64,
}

/// For how long a backlog that does not shrink is counted, in seconds.
const HORIZON: f64 = 300.0;

/// Returns how many instances there should be, at most the cap. `value` is what a second of one job's waiting is worth,
/// in seconds of a running instance.
///
/// One more instance, which is up after `B`, shortens the time that the backlog `D` left at `B` waits. With `n` instances
/// of `c` threads and service time `s`, and arrivals at the rate `λ`, the backlog falls by `δ = n·c/s − λ` jobs per second,
/// so that its jobs wait `A(n) = D²/2δ − D·s/2` seconds in total. The next instance is worth its price if
/// `value · (A(n) − A(n + 1))` exceeds the time for which it will be billed, `max(minimum, B + D/δ)`.
///
/// Once the backlog is gone, jobs still wait for each other. In the steady state of a queue with `n` servers (M/G/c, by
/// Sakasegawa's approximation) one more is worth its price if `value · λ · (W(n) − W(n + 1))` exceeds one.
pub(super) fn wanted(load: Load, supply: Supply, times: &Times, value: f64) -> usize {
    if load.jobs < 0.5 || supply.cap == 0 {
        return 0;
    }
    let present = supply.running + supply.booting;
    let warm = present.saturating_add(supply.startable).min(supply.cap);
    let by_backlog = |from: usize, to: usize, boot: f64| {
        let left = backlog_after(boot, load, supply, times);
        last_worth(from, to, |n| {
            value * (area(left, n, load, times) - area(left, n + 1, load, times))
                > billed(left, n + 1, boot, load, times)
        })
    };
    let mut count = by_backlog(present.min(supply.cap), warm, times.warm);
    if count >= warm {
        count = by_backlog(count, supply.cap, times.cold);
    }
    count.max(steady(load, times, value, supply.cap)).max(1)
}

/// Returns the first number of instances from `from` on of which the next one is not worth its price, at most `to`.
fn last_worth(from: usize, to: usize, worth: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (from, to.max(from));
    while low < high {
        let middle = low + (high - low) / 2;
        if worth(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Returns the jobs that are left when an instance that is requested now comes up.
fn backlog_after(boot: f64, load: Load, supply: Supply, times: &Times) -> f64 {
    let per_instance = times.threads / times.service;
    let half_done = 0.5 * load.jobs.min(supply.running as f64 * times.threads);
    let work = supply.running as f64 * boot + supply.booting as f64 * (boot - supply.boots_in).max(0.0);
    (load.jobs - half_done + load.rate * boot - work * per_instance).max(0.0)
}

/// Returns the seconds that the backlog waits in total once `count` instances work.
fn area(left: f64, count: usize, load: Load, times: &Times) -> f64 {
    let falls = count as f64 * times.threads / times.service - load.rate;
    let lasts = lasts(left, falls);
    (left * lasts - falls * lasts * lasts / 2.0 - left * times.service / 2.0).max(0.0)
}

fn lasts(left: f64, falls: f64) -> f64 {
    if falls * HORIZON > left { left / falls } else { HORIZON }
}

fn billed(left: f64, count: usize, boot: f64, load: Load, times: &Times) -> f64 {
    let falls = count as f64 * times.threads / times.service - load.rate;
    (boot - times.unbilled + lasts(left, falls)).max(times.minimum)
}

/// Returns how many instances the rate of arrivals keeps worth their price.
fn steady(load: Load, times: &Times, value: f64, cap: usize) -> usize {
    let busy = load.rate * times.service / times.threads;
    let least = (busy * 1.02).ceil() as usize;
    if least >= cap {
        return cap;
    }
    let waits = |n: usize| {
        let use_ = busy / n as f64;
        let servers = n as f64 * times.threads;
        if n == 0 {
            return f64::INFINITY;
        }
        times.service * use_.powf((2.0 * (servers + 1.0)).sqrt() - 1.0) / (servers * (1.0 - use_)) / 2.0
    };
    last_worth(least.max(1), cap, |n| value * load.rate * (waits(n) - waits(n + 1)) > 1.0)
}
