//! How long jobs have waited, and how late they may be.

use std::{collections::VecDeque, time::Duration};

/// Share of jobs that may wait for longer than the target: it is a 99th percentile.
const LATE: f64 = 0.01;
/// The share that is aimed at: chance must not lead beyond the other one.
const AIM: f64 = 0.5 * LATE;
/// Jobs after which older ones count half.
const HALF_LIFE: f64 = 3000.0;
/// The number of jobs of which the share that is aimed at is assumed to have been late before the first one.
const ASSUMED: f64 = 200.0;
/// The least and the greatest share that is permitted to the model.
const PERMITTED: [f64; 2] = [0.45 * LATE, 0.7 * LATE];
/// The share of the target within which jobs are planned to begin: at first, at least and at most.
const MARGIN: [f64; 3] = [0.6, 0.5, 0.8];
/// Jobs between two corrections of it.
const STEP: u64 = 100;
/// It becomes smaller if more jobs are late than the second share, and greater if fewer are than the first.
const BAND: [f64; 2] = [0.35 * LATE, 0.55 * LATE];
const SMALLER: f64 = 0.96;
const GREATER: f64 = 1.01;
/// Arrivals within this time, in seconds, are remembered together.
const TOGETHER: f64 = 0.5;
/// Most arrivals remembered until their jobs end.
const MAX: usize = 10_000;

/// Matches the ends of jobs with arrivals, first in, first out, and corrects by what happened what the model is permitted
/// (a proportional controller) and how early jobs are planned to begin (an integral one).
#[derive(Clone, Debug)]
pub(super) struct Waits {
    target: Option<f64>,
    arrivals: VecDeque<(f64, u32)>,
    jobs: f64,
    late: f64,
    since_step: u64,
    margin: f64,
}

impl Waits {
    pub fn new(target: Option<Duration>) -> Self {
        let target = target.map(|target| target.as_secs_f64());
        Self { target, arrivals: VecDeque::new(), jobs: ASSUMED, late: AIM * ASSUMED, since_step: 0, margin: MARGIN[0] }
    }

    /// Returns the share of jobs that may be late in the model, if there is a target.
    pub fn permitted(&self) -> Option<f64> {
        let [least, most] = PERMITTED;
        self.target.map(|_| (2.0 * AIM - self.late / self.jobs).clamp(least, most))
    }

    /// Returns within how many seconds after their arrival jobs are planned to begin, if there is a target.
    pub fn within(&self) -> Option<f64> {
        self.target.map(|target| self.margin * target)
    }

    /// Returns the share of jobs that were late, if there is a target.
    pub fn late_share(&self) -> Option<f64> {
        self.target.map(|_| self.late / self.jobs.max(1.0))
    }

    pub fn arrived(&mut self, now: f64, jobs: u32) {
        if self.target.is_some() {
            match self.arrivals.back_mut() {
                Some((first, count)) if now - *first < TOGETHER => *count = count.saturating_add(jobs),
                _ => self.arrivals.push_back((now, jobs)),
            }
            if self.arrivals.len() > MAX {
                self.arrivals.pop_front();
            }
        }
    }

    /// Iterates over `count` jobs, the latest that came, in the order in which they came: for how long they have waited, and
    /// how many came together.
    pub fn waiting(&self, now: f64, count: f64) -> impl Iterator<Item = (f64, f64)> {
        let known: f64 = self.arrivals.iter().map(|(_, jobs)| f64::from(*jobs)).sum();
        let (mut skip, more) = ((known - count).max(0.0), (count - known).max(0.0));
        let known = self.arrivals.iter().filter_map(move |(at, jobs)| {
            let (skipped, all) = (skip.min(f64::from(*jobs)), f64::from(*jobs));
            skip -= skipped;
            (all > skipped).then_some((now - at, all - skipped))
        });
        known.chain((more > 0.0).then_some((0.0, more)))
    }

    /// Forgets arrivals that cannot be waiting any longer.
    pub fn forget(&mut self) {
        self.arrivals.clear();
    }

    /// Records that jobs began at `began` and have ended.
    pub fn served(&mut self, began: f64, jobs: u64) {
        let Some(target) = self.target else { return };
        for _ in 0..jobs.min(MAX as u64) {
            let Some((arrived, left)) = self.arrivals.front_mut() else { return };
            let is_late = began - *arrived > target;
            *left -= 1;
            if *left == 0 {
                self.arrivals.pop_front();
            }
            let fade = 1.0 - 1.0 / HALF_LIFE;
            (self.jobs, self.late) = (self.jobs * fade + 1.0, self.late * fade + f64::from(u8::from(is_late)));
            self.since_step += 1;
            if self.since_step == STEP {
                self.since_step = 0;
                self.correct();
            }
        }
    }

    fn correct(&mut self) {
        let ([few, many], [_, least, most]) = (BAND, MARGIN);
        let factor = match self.late / self.jobs {
            share if share > many => SMALLER,
            share if share < few => GREATER,
            _ => 1.0,
        };
        self.margin = (self.margin * factor).clamp(least, most);
    }

    /// Returns what has been learned: the margin, jobs, and late ones of them.
    pub fn kept(&self) -> Option<[f64; 3]> {
        self.target.map(|_| [self.margin, self.jobs, self.late])
    }

    /// Takes over what has been learned.
    pub fn adopt(&mut self, [margin, jobs, late]: [f64; 3]) {
        let [_, least, most] = MARGIN;
        if (least..=most).contains(&margin) && jobs >= 1.0 && (0.0..=jobs).contains(&late) {
            (self.margin, self.jobs, self.late) = (margin, jobs, late);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_secs(30);

    #[test]
    fn late_jobs_tighten_what_the_model_is_permitted_and_punctual_ones_relax_it() {
        let mut waits = Waits::new(Some(TARGET));
        let serve = |waits: &mut Waits, wait: f64| {
            for n in 0..1000 {
                let at = f64::from(n);
                waits.arrived(at, 1);
                waits.served(at + wait, 1);
            }
            (waits.permitted().expect("a target"), waits.within().expect("a target"))
        };
        let relaxed = serve(&mut waits, 29.0);
        assert!(relaxed.0 > AIM && relaxed.1 > 30.0 * MARGIN[0] && waits.late_share() < Some(0.002), "{waits:?}");
        let tightened = serve(&mut waits, 31.0);
        assert!(tightened.0 < AIM && tightened.1 < relaxed.1 && waits.late_share() > Some(0.3), "{waits:?}");
        let mut next = Waits::new(Some(TARGET));
        next.adopt(waits.kept().expect("a target"));
        assert_eq!((next.permitted(), next.within()), (waits.permitted(), waits.within()));
        next.adopt([f64::NAN, 1.0, 2.0]);
        assert_eq!(next.within(), waits.within(), "what makes no sense is ignored");
        assert_eq!((Waits::new(None).permitted(), Waits::new(None).within()), (None, None));
    }

    #[test]
    fn the_latest_jobs_wait() {
        let mut waits = Waits::new(Some(TARGET));
        for (at, jobs) in [(0.0, 3), (0.2, 1), (5.0, 2)] {
            waits.arrived(at, jobs);
        }
        let of = |count: f64| waits.waiting(10.0, count).collect::<Vec<_>>();
        assert_eq!(of(6.0), [(10.0, 4.0), (5.0, 2.0)]);
        assert_eq!(of(3.0), [(10.0, 1.0), (5.0, 2.0)], "the first ones are worked on");
        assert_eq!(of(7.5), [(10.0, 4.0), (5.0, 2.0), (0.0, 1.5)], "of some, nobody has told");
        assert_eq!(of(0.0), []);
    }
}
