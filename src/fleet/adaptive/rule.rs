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

/// Between two jobs, a worker needs this share of a job's time.
const OVERHEAD: f64 = 0.1;

impl Times {
    /// Returns the times with the pauses between two jobs.
    pub fn with_overhead(self) -> Self {
        Self { service: self.service * (1.0 + OVERHEAD), ..self }
    }
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

/// Returns how many instances there should be so that jobs begin in time, at most the cap: the fewest.
///
/// `waiting` are the jobs that no instance works on, in the order in which they came: for how long they have waited, and how
/// many came together. They are to begin `within` seconds after they came. By the time `L` that is left, an instance that is
/// up after `r` begins `c · ((L − r)/s + ½)` jobs. If one that is started now comes up too late, it is given `room`.
pub(super) fn in_time(
    waiting: impl Iterator<Item = (f64, f64)>,
    supply: Supply,
    times: &Times,
    within: f64,
    room: f64,
) -> usize {
    let present = supply.running + supply.booting;
    let begins = |left: f64, after: f64| (times.threads * ((left - after) / times.service + 0.5)).max(0.0);
    let by_present =
        |left: f64| supply.running as f64 * begins(left, 0.0) + supply.booting as f64 * begins(left, supply.boots_in);
    let (mut jobs, mut more) = (0.0, 0);
    for (age, count) in waiting {
        jobs += count;
        let left = within - age;
        let for_warm = left.max(times.warm + room);
        let missing = jobs - by_present(for_warm);
        if missing <= 0.0 {
            continue;
        }
        let warm = ((missing / begins(for_warm, times.warm)).ceil() as usize).min(supply.startable);
        let for_cold = left.max(times.cold + room);
        let missing = jobs - by_present(for_cold) - warm as f64 * begins(for_cold, times.warm);
        let cold = (missing / begins(for_cold, times.cold)).ceil().max(0.0) as usize;
        let is_short = warm == supply.startable;
        more = more.max(warm + if is_short { cold } else { 0 });
    }
    let least = usize::from(jobs > 0.0);
    (present + more).max(least).min(supply.cap)
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

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times =
        Times { cold: 25.0, warm: 15.0, unbilled: 6.0, stop: 20.0, service: 1.0, threads: 1.0, minimum: 60.0 };

    fn started(waiting: &[(f64, f64)], supply: Supply) -> usize {
        in_time(waiting.iter().copied(), Supply { cap: 19, ..supply }, &TIMES, 20.0, 4.0)
    }

    #[test]
    fn as_few_instances_as_begin_every_job_in_time() {
        let one = Supply { running: 1, startable: 19, ..Supply::default() };
        assert_eq!(started(&[(0.0, 20.0)], one), 1, "one instance begins twenty in 20 s");
        assert_eq!(started(&[(0.0, 26.0)], one), 2, "one that is up after 15 s begins five more");
        assert_eq!(started(&[(0.0, 26.0)], Supply { booting: 1, boots_in: 14.0, ..one }), 2, "it has been started");
        assert_eq!(started(&[(0.0, 32.0)], one), 4);
        assert_eq!(started(&[(10.0, 11.0), (0.0, 0.5)], one), 1);
        assert_eq!(
            started(&[(10.0, 22.0), (0.0, 0.5)], one),
            2,
            "for late ones, it is given four seconds in which to work"
        );
        assert_eq!(started(&[(0.0, 2000.0)], one), 19, "at most the cap");
    }

    #[test]
    fn stopped_instances_come_first_and_cold_ones_get_time_to_work() {
        let two = Supply { startable: 2, ..Supply::default() };
        assert_eq!(started(&[(0.0, 10.0)], two), 2);
        // The two begin 14.5 each by 29 s, and a cold one begins 4.5.
        assert_eq!(started(&[(0.0, 33.0)], two), 3);
        assert_eq!(started(&[(0.0, 34.0)], two), 4);
        assert_eq!(started(&[(0.0, 1.0)], Supply::default()), 1);
        assert_eq!(started(&[], two), 0);
    }
}
