//! Whether the arrivals have changed their nature.

use std::collections::VecDeque;

/// Arrivals with shorter gaps than this, in seconds, are one cluster.
const TOGETHER: f64 = 10.0;
/// A cluster ends after so many seconds, so that a stream is a sequence of clusters.
const LONGEST: f64 = 60.0;
/// Limits of the classes of the gap before a cluster, in seconds, and of its number of jobs.
const LIMITS: [[f64; CLASSES - 1]; 2] = [[TOGETHER, 30.0, 120.0, 480.0, 1920.0], [2.0, 6.0, 18.0, 54.0, 162.0]];
/// Number of classes of each of the two.
const CLASSES: usize = 6;
/// Most clusters remembered.
const MOST: usize = 2048;
/// How many of the latest clusters are compared with the earlier ones.
const LATEST: [usize; 14] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128];
/// The arrivals have changed if that makes what was seen more probable by this factor, as a natural logarithm.
const EVIDENCE: f64 = 14.0;

/// How many clusters there were of each class of gaps, and of each class of sizes.
type ClassCounts = [[u32; CLASSES]; 2];

#[derive(Clone, Copy, Debug)]
struct ArrivalCluster {
    /// When its first job came.
    at: f64,
    classes: [usize; 2],
}

/// Compares the latest clusters of arrivals with the earlier ones, by the gap before a cluster and by its size.
#[derive(Clone, Debug, Default)]
pub(super) struct ChangeDetector {
    clusters: VecDeque<ArrivalCluster>,
    counts: ClassCounts,
    /// The cluster that goes on: when its first job came, the gap before it, and its number of jobs.
    open: Option<(f64, Option<f64>, u32)>,
    /// When the latest job came.
    last: Option<f64>,
}

impl ChangeDetector {
    /// Records arrivals. Returns when the arrivals changed their nature, if the clusters that have ended show that.
    pub fn add(&mut self, at: f64, jobs: u32) -> Option<f64> {
        let changed_at = self.passed(at);
        match &mut self.open {
            Some((_, _, count)) => *count = count.saturating_add(jobs),
            None => self.open = Some((at, self.last.map(|last| at - last), jobs)),
        }
        self.last = Some(at);
        changed_at
    }

    /// Ends the cluster that is over at `now`, and returns the same as [`Self::add`]. What came earlier is forgotten then.
    pub fn passed(&mut self, now: f64) -> Option<f64> {
        let (at, gap, count) = self.open?;
        if now - self.last? < TOGETHER && now - at < LONGEST {
            return None;
        }
        self.open = None;
        // Before the first one there is no gap.
        let values = [gap?, f64::from(count)];
        let class = |kind: usize| LIMITS[kind].partition_point(|limit| *limit <= values[kind]);
        self.push(ArrivalCluster { at, classes: [class(0), class(1)] });
        let changed_at = self.changed_at()?;
        while self.clusters.front().is_some_and(|cluster| cluster.at < changed_at) {
            self.pop();
        }
        Some(changed_at)
    }

    fn push(&mut self, cluster: ArrivalCluster) {
        if self.clusters.len() == MOST {
            self.pop();
        }
        for (counts, class) in self.counts.iter_mut().zip(cluster.classes) {
            counts[class] += 1;
        }
        self.clusters.push_back(cluster);
    }

    fn pop(&mut self) {
        if let Some(cluster) = self.clusters.pop_front() {
            for (counts, class) in self.counts.iter_mut().zip(cluster.classes) {
                counts[class] -= 1;
            }
        }
    }

    /// Returns when the change was, of those that have the greatest evidence, if that is enough.
    fn changed_at(&self) -> Option<f64> {
        let unchanged = log_probability(&self.counts);
        let (mut late, mut early) = (ClassCounts::default(), self.counts);
        let (mut best, mut seen) = ((EVIDENCE, None), 0);
        for latest in LATEST.into_iter().take_while(|latest| *latest < self.clusters.len()) {
            let more = self.clusters.range(self.clusters.len() - latest..self.clusters.len() - seen);
            for (kind, class) in more.flat_map(|cluster| cluster.classes.into_iter().enumerate()) {
                late[kind][class] += 1;
                early[kind][class] -= 1;
            }
            seen = latest;
            let evidence = log_probability(&late) + log_probability(&early) - unchanged;
            if evidence > best.0 {
                best = (evidence, Some(self.clusters[self.clusters.len() - latest].at));
            }
        }
        best.1
    }
}

/// Returns the logarithm of the probability of a sequence with these counts if nothing is known about the shares of the
/// classes: the estimator of Krichevsky and Trofimov.
fn log_probability(counts: &ClassCounts) -> f64 {
    let of = |counts: &[u32; CLASSES]| {
        let (all, half) = (counts.iter().sum::<u32>(), CLASSES as f64 / 2.0);
        let seen = counts.iter().filter(|count| **count > 0);
        let each = seen.map(|count| log_gamma(f64::from(*count) + 0.5) - 0.5 * std::f64::consts::PI.ln());
        each.sum::<f64>() - log_gamma(f64::from(all) + half) + log_gamma(half)
    };
    counts.iter().map(of).sum()
}

/// Returns the logarithm of the gamma function, by Stirling's series.
fn log_gamma(x: f64) -> f64 {
    let (mut x, mut below) = (x, 1.0);
    while x < 8.0 {
        below *= x;
        x += 1.0;
    }
    let half_log_tau = 0.5 * std::f64::consts::TAU.ln();
    (x - 0.5) * x.ln() - x + half_log_tau + 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) - below.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gaps that are exponentially distributed: their quantiles, in an order that does not repeat.
    fn gap(number: u32, mean: f64) -> f64 {
        let quantile = (f64::from(number) * 0.618_033_988_749_895).fract();
        -mean * (1.0 - quantile).ln()
    }

    /// Adds single jobs from `at` on, and returns when the last one came, with the changes that were found.
    fn singles(change: &mut ChangeDetector, at: f64, count: u32) -> (f64, Vec<f64>) {
        let (mut at, mut found) = (at, Vec::new());
        for n in 0..count {
            at += gap(n + 1, 40.0);
            found.extend(change.add(at, 1));
        }
        (at, found)
    }

    /// The same with bursts of 20 to 60 jobs within seconds.
    fn bursts(change: &mut ChangeDetector, at: f64, count: u32) -> (f64, Vec<f64>) {
        let (mut at, mut found) = (at, Vec::new());
        for n in 0..count {
            at += gap(n + 1, 900.0);
            for job in 0..20 + n * 7 % 41 {
                found.extend(change.add(at + f64::from(job) * 0.05, 1));
            }
            at += 60.0;
            found.extend(change.passed(at));
        }
        (at, found)
    }

    #[test]
    fn the_gamma_function_of_whole_and_half_numbers_is_known() {
        let half = std::f64::consts::PI.sqrt();
        for (x, expected) in [(0.5, half), (1.0, 1.0), (1.5, half / 2.0), (5.0, 24.0), (11.0, 3_628_800.0)] {
            assert!((log_gamma(x) - f64::ln(expected)).abs() < 1e-6, "{x}: {}", log_gamma(x));
        }
    }

    #[test]
    fn bursts_after_single_jobs_are_a_change_once_the_second_has_come() {
        let mut change = ChangeDetector::default();
        let (at, found) = singles(&mut change, 0.0, 1000);
        assert!(found.is_empty(), "chance is no change");
        let (last, found) = bursts(&mut change, at, 2);
        let [changed_at] = found[..] else { panic!("one change: {found:?}") };
        assert!(at < changed_at && changed_at <= last, "{at}, {changed_at}, {last}");
        assert!(bursts(&mut change, last, 200).1.is_empty(), "it is not found again");
    }

    #[test]
    fn single_jobs_after_bursts_are_a_change_within_minutes() {
        let mut change = ChangeDetector::default();
        let (at, found) = bursts(&mut change, 0.0, 200);
        assert!(found.is_empty(), "chance is no change");
        let (_, found) = singles(&mut change, at, 1000);
        let [changed_at] = found[..] else { panic!("one change: {found:?}") };
        assert!(changed_at > at && changed_at < at + 300.0, "{at}, {changed_at}");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut change = ChangeDetector::default();
        for n in 0..10_000 {
            assert_eq!(change.add(100.0 * f64::from(n), 1), None);
        }
        let counted: u32 = change.counts[0].iter().sum();
        assert_eq!((change.clusters.len(), counted), (MOST, MOST as u32));
    }
}
