//! A run over time, in intervals of equal length.

use std::time::Duration;

use serde::Serialize;

use crate::simulator::{History, Sample};

/// Number of intervals: more cannot be told apart on a screen, and leave room to look closer.
const INTERVALS: usize = 1500;
/// Upper limits of the classes of the histogram grow by this factor: ten classes for each power of ten.
const CLASS_FACTOR: f64 = 1.258_925_411_794_167_3;

/// A request of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// When it was sent, since the start of the run.
    pub at: Duration,
    /// Time until its response; `None` if it failed.
    pub took: Option<Duration>,
}

/// A run over time: each list has one value per interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Timeline {
    /// Length of an interval in seconds.
    step_s: f64,
    /// End of the run in seconds since its start.
    end_s: f64,
    /// Most jobs that waited.
    waiting: Vec<u64>,
    /// Most jobs in flight.
    in_flight: Vec<u64>,
    /// Instances by state, when most of them were pending or running.
    pending: Vec<usize>,
    running: Vec<usize>,
    stopping: Vec<usize>,
    stopped: Vec<usize>,
    /// Requests that were sent.
    sent: Vec<u64>,
    /// Requests that were answered.
    answered: Vec<u64>,
    /// Requests that failed, when they were sent.
    failed: Vec<u64>,
    /// Time in seconds until the response of requests that were sent in the interval: median, 99th percentile, longest.
    p50: Vec<Option<f64>>,
    p99: Vec<Option<f64>>,
    longest: Vec<Option<f64>>,
    /// Classes of the time until the response: its upper limit in seconds, and how many requests are in it.
    classes: Vec<(f64, u64)>,
}

impl Timeline {
    /// Returns that of a simulated run, up to `end`.
    pub fn of_simulation(history: &History, end: Duration) -> Self {
        let requests = history
            .jobs
            .iter()
            .map(|job| Request { at: job.arrived, took: job.answered.map(|at| at.saturating_sub(job.arrived)) });
        Self::new(end, &history.samples, &requests.collect::<Vec<_>>())
    }

    /// Returns that of a run that ended at `end`. Each sample holds until the next; later ones are left out.
    pub fn new(end: Duration, samples: &[Sample], requests: &[Request]) -> Self {
        let step_s = (end.as_secs_f64() / INTERVALS as f64).max(1e-3);
        let count = ((end.as_secs_f64() / step_s).ceil() as usize).max(1);
        let interval = |at: Duration| ((at.as_secs_f64() / step_s) as usize).min(count - 1);
        let mut timeline = Self { step_s, end_s: rounded(end.as_secs_f64()), ..Self::default() };
        let seen = samples.partition_point(|sample| sample.at <= end);
        timeline.add_samples(&samples[..seen], count, interval);
        timeline.add_requests(requests, count, interval);
        timeline
    }

    fn add_samples(&mut self, samples: &[Sample], count: usize, interval: impl Fn(Duration) -> usize) {
        let mut last = Sample::default();
        let mut next = samples.iter().peekable();
        for n in 0..count {
            let mut most = last;
            while let Some(sample) = next.next_if(|sample| interval(sample.at) <= n) {
                let (waiting, in_flight) = (most.waiting.max(sample.waiting), most.in_flight.max(sample.in_flight));
                let busier = sample.pending + sample.running >= most.pending + most.running;
                most = Sample { waiting, in_flight, ..if busier { *sample } else { most } };
                last = *sample;
            }
            self.waiting.push(most.waiting);
            self.in_flight.push(most.in_flight);
            self.pending.push(most.pending);
            self.running.push(most.running);
            self.stopping.push(most.stopping);
            self.stopped.push(most.stopped);
        }
    }

    fn add_requests(&mut self, requests: &[Request], count: usize, interval: impl Fn(Duration) -> usize) {
        for list in [&mut self.sent, &mut self.answered, &mut self.failed] {
            *list = vec![0; count];
        }
        let mut latencies: Vec<Vec<Duration>> = vec![Vec::new(); count];
        let mut classes: std::collections::BTreeMap<i32, u64> = Default::default();
        for request in requests {
            self.sent[interval(request.at)] += 1;
            let Some(took) = request.took else {
                self.failed[interval(request.at)] += 1;
                continue;
            };
            self.answered[interval(request.at + took)] += 1;
            latencies[interval(request.at)].push(took);
            *classes.entry(took.as_secs_f64().max(1e-4).log(CLASS_FACTOR).ceil() as i32).or_default() += 1;
        }
        for times in &mut latencies {
            let [p50, p99, longest] = quantiles(times);
            self.p50.push(p50);
            self.p99.push(p99);
            self.longest.push(longest);
        }
        self.classes = classes.into_iter().map(|(n, many)| (rounded(CLASS_FACTOR.powi(n)), many)).collect();
    }
}

/// Returns median, 99th percentile and maximum in seconds, by nearest rank.
fn quantiles(times: &mut [Duration]) -> [Option<f64>; 3] {
    times.sort_unstable();
    let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).max(1) - 1);
    [50, 99, 100].map(|percent| at(percent).map(|time| rounded(time.as_secs_f64())))
}

/// Rounds to a tenth of a millisecond.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: u64, waiting: u64, running: usize) -> Sample {
        Sample { at: Duration::from_secs(at_s), waiting, running, ..Sample::default() }
    }

    #[test]
    fn no_peak_is_lost_and_each_value_holds_until_the_next() {
        let end = Duration::from_secs(15_000); // ten seconds per interval
        let samples = [sample(0, 1, 1), sample(100, 50, 3), sample(101, 2, 2), sample(14_000, 0, 0)];
        let timeline = Timeline::new(end, &samples, &[]);
        assert_eq!((timeline.step_s, timeline.waiting.len()), (10.0, INTERVALS));
        assert_eq!([9, 10, 11, 1399, 1400, 1401].map(|n| timeline.waiting[n]), [1, 50, 2, 2, 2, 0]);
        assert_eq!([9, 10, 11, 1399, 1400, 1401].map(|n| timeline.running[n]), [1, 3, 2, 2, 2, 0]);
    }

    #[test]
    fn every_request_is_counted_when_it_was_sent_and_when_it_was_answered() {
        let ms = Duration::from_millis;
        let request = |at, took: Option<u64>| Request { at: ms(at), took: took.map(ms) };
        let requests = [request(0, Some(100)), request(5, Some(4_000)), request(9_999, None), request(9_999, Some(50))];
        let timeline = Timeline::new(Duration::from_secs(10), &[], &requests);
        let sums = [&timeline.sent, &timeline.answered, &timeline.failed].map(|list| list.iter().sum::<u64>());
        assert_eq!(sums, [4, 3, 1]);
        assert_eq!((timeline.sent[0], timeline.answered[15], timeline.answered[1499]), (2, 1, 1));
        assert!(timeline.p50[0].is_some_and(|p50| (p50 - 0.1).abs() < 1e-3), "{:?}", timeline.p50[0]);
        assert!(timeline.longest[0].is_some_and(|longest| (longest - 4.0).abs() < 0.01));
        assert_eq!((timeline.p99[1], timeline.longest[1499].is_some()), (None, true));
        assert_eq!(timeline.classes.iter().map(|(_, many)| many).sum::<u64>(), 3);
        let [first, .., last] = timeline.classes[..] else { panic!("classes") };
        assert!((0.05..0.064).contains(&first.0) && (4.0..5.1).contains(&last.0), "{:?}", timeline.classes);
    }
}
