//! What the checks cost: at most, before they begin, and so far, while they are made.

use std::{collections::BTreeMap, time::Duration};

use super::check::Check;
use crate::settings::Prices;

/// Uploads that are sent at the same time while no worker runs. The fleet launches at most one worker for each.
pub(super) const BURST: usize = 4;
/// Probes: one for each role.
pub(super) const PROBES: usize = 2;
/// Bounds of the calls to queues and to S3 that an upload and a poll need, in all checks together.
const QUEUE_CALLS: f64 = 10_000.0;
const S3_CALLS: f64 = 1_000.0;
/// Price of a million PUT or LIST calls in US dollars, from AWS's price list for us-east-1; those of GET are cheaper.
const S3_MILLION_CALLS: f64 = 5.0;
/// What each start of an instance is billed for at least.
const MINIMUM: Duration = Duration::from_secs(60);
const HOUR: f64 = 3600.0;
const HOURS_OF_MONTH: f64 = 30.0 * 24.0;

/// Returns the price of instances that ran for so many hours altogether, with their disks.
fn instances(prices: &Prices, hours: f64) -> f64 {
    hours * (prices.instance_hour + prices.disk_gb * prices.disk_gb_month / HOURS_OF_MONTH)
}

fn calls(prices: &Prices) -> f64 {
    (QUEUE_CALLS * prices.queue_million_calls + S3_CALLS * S3_MILLION_CALLS) / 1e6
}

/// Returns what the checks cost at most if every wait takes as long as it may: the burst and the stop that follows with a
/// worker for each upload, the warm start and its stop with one worker, and the probes.
pub(super) fn most(prices: &Prices, timeout: Duration) -> f64 {
    let waits = 2 * BURST + 2 + PROBES;
    instances(prices, waits as f64 * timeout.max(MINIMUM).as_secs_f64() / HOUR) + calls(prices)
}

/// Judges the budget, in dollars, before anything is done.
pub(super) fn budget(prices: &Prices, timeout: Duration, budget: f64) -> Check {
    let most = most(prices, timeout);
    let expected = format!("at most ${budget:.2}");
    let seen = format!("${most:.4} if every wait takes {}", humantime::format_duration(timeout));
    let seen = format!("{seen}, at ${} for an hour of an instance (prices.instance_hour)", prices.instance_hour);
    if most <= budget {
        return Check::ok("budget", expected, seen);
    }
    Check::failed("budget", expected, seen, "nothing was done: allow more with --budget, or wait less with --timeout")
}

/// Judges the cost in the end.
pub(super) fn cost(spend: &Spend, prices: &Prices, budget: f64, now: Duration) -> Check {
    let (seconds, starts) = spend.billed(now);
    let dollars = spend.dollars(prices, now);
    let expected = format!("at most ${budget:.2}");
    let seen = format!("${dollars:.4}: {starts} starts of instances, billed for {:.0} s", seconds.as_secs_f64());
    if dollars <= budget {
        return Check::ok("cost", expected, seen);
    }
    Check::failed("cost", expected, seen, "the checks were ended: allow more with --budget, or look what is slow above")
}

/// What is spent.
#[derive(Clone, Debug, Default)]
pub(super) struct Spend {
    pub(super) workers: Usage,
    pub(super) probes: Usage,
}

impl Spend {
    /// Returns how long instances are billed for altogether, and how many starts there were.
    fn billed(&self, now: Duration) -> (Duration, usize) {
        let ((workers, starts), (probes, more)) = (self.workers.billed(now), self.probes.billed(now));
        (workers + probes, starts + more)
    }

    /// Returns the cost so far in dollars, with all calls.
    pub(super) fn dollars(&self, prices: &Prices, now: Duration) -> f64 {
        instances(prices, self.billed(now).0.as_secs_f64() / HOUR) + calls(prices)
    }
}

/// One time that an instance ran.
#[derive(Clone, Copy, Debug)]
struct Period {
    from: Duration,
    to: Duration,
}

/// Instances of a kind that were started while the checks were made, and how long they ran. Time is since the beginning.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    /// By instance: its periods, the last of which goes on if `running` has it.
    periods: BTreeMap<String, Vec<Period>>,
    /// Instances that are billed now, and whether since before the beginning.
    running: BTreeMap<String, bool>,
    has_begun: bool,
    most: usize,
}

impl Usage {
    /// Adds an observation: the instances that are billed at this time. Those of the first ran before, so what they cost is
    /// not counted.
    pub(super) fn observe(&mut self, billed: &[String], now: Duration) {
        let first = !std::mem::replace(&mut self.has_begun, true);
        self.running.retain(|id, _| billed.contains(id));
        for id in billed {
            let before = *self.running.entry(id.clone()).or_insert_with(|| {
                if !first {
                    self.periods.entry(id.clone()).or_default().push(Period { from: now, to: now });
                }
                first
            });
            if let Some(period) = self.periods.get_mut(id).filter(|_| !before).and_then(|periods| periods.last_mut()) {
                period.to = now;
            }
        }
        self.most = self.most.max(billed.len());
    }

    /// Returns the largest number of instances that were billed at the same time.
    pub(super) fn most_at_once(&self) -> usize {
        self.most
    }

    /// Returns how often an instance was started since the beginning.
    pub(super) fn starts(&self, id: &str) -> usize {
        self.periods.get(id).map_or(0, Vec::len)
    }

    /// Returns how often instances were started since the beginning.
    pub(super) fn all_starts(&self) -> usize {
        self.periods.values().map(Vec::len).sum()
    }

    /// Returns how long instances are billed for altogether, and how many starts there were.
    fn billed(&self, now: Duration) -> (Duration, usize) {
        let ends = |id: &str, index: usize, periods: &[Period]| {
            let goes_on = index + 1 == periods.len() && self.running.contains_key(id);
            if goes_on { now } else { periods[index].to }
        };
        let all = self.periods.iter().flat_map(|(id, periods)| {
            let time = move |n: usize| ends(id, n, periods).saturating_sub(periods[n].from).max(MINIMUM);
            (0..periods.len()).map(time)
        });
        (all.clone().sum(), all.count())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::Verdict, *};

    const PRICES: Prices = Prices { instance_hour: 0.09, disk_gb_month: 0.09, disk_gb: 80.0, queue_million_calls: 0.5 };

    fn ids(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_most_is_every_wait_at_its_limit_with_every_instance() {
        // 12 waits of 10 minutes are 2 hours, at 0.09 + 80 · 0.09 / 720 = 0.10 an hour; and 0.005 + 0.005 for calls.
        assert!((most(&PRICES, at(600)) - 0.21).abs() < 1e-9, "{}", most(&PRICES, at(600)));
        assert_eq!(budget(&PRICES, at(600), 0.22).verdict, Verdict::Ok);
        assert_eq!(budget(&PRICES, at(600), 0.20).verdict, Verdict::Failed);
        assert!(most(&PRICES, at(1)) == most(&PRICES, at(60)), "a start is billed for a minute");
    }

    #[test]
    fn instances_are_billed_for_a_minute_at_least_and_not_for_what_ran_before() {
        let mut spend = Usage::default();
        spend.observe(&ids(&["old"]), at(0));
        spend.observe(&ids(&["old", "a"]), at(10));
        spend.observe(&ids(&["old", "a", "b"]), at(100));
        spend.observe(&ids(&["b"]), at(110));
        assert_eq!(spend.billed(at(130)), (at(90 + 60), 2), "a ran for 90 seconds, b for less than a minute");
        assert_eq!(spend.billed(at(200)), (at(90 + 100), 2), "b goes on");
        assert_eq!(spend.most_at_once(), 3);
        // A warm start is another start, also of one that had run before.
        spend.observe(&ids(&["old", "a"]), at(300));
        assert_eq!((spend.starts("a"), spend.starts("old"), spend.starts("c")), (2, 1, 0));
        assert_eq!(spend.billed(at(310)), (at(90 + 60 + 60 + 60), 4), "b was last seen at 110");
        let spend = Spend { workers: spend, probes: Usage::default() };
        let dollars = spend.dollars(&PRICES, at(310));
        assert!((dollars - (270.0 / 3600.0 * 0.10 + 0.01)).abs() < 1e-9, "{dollars}");
        assert_eq!(cost(&spend, &PRICES, 0.01, at(310)).verdict, Verdict::Failed);
        assert_eq!(cost(&spend, &PRICES, 0.02, at(310)).verdict, Verdict::Ok);
    }
}
