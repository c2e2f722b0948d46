//! How long jobs have waited, and how late they may be.

use std::{collections::VecDeque, time::Duration};

/// Share of jobs that may wait for longer than the target: it is a 99th percentile.
const LATE: f64 = 0.01;
/// The share that is permitted to the model at first.
const FIRST: f64 = LATE;
/// Jobs after which older ones count half.
const HALF_LIFE: f64 = 2000.0;
/// Jobs between two corrections.
const STEP: u64 = 200;
/// Most arrivals remembered until their jobs end.
const MAX: usize = 10_000;

/// Matches the ends of jobs with arrivals, first in, first out, and corrects what the model is permitted by what happened:
/// an integral controller.
#[derive(Clone, Debug)]
pub(super) struct Waits {
    target: Option<f64>,
    arrivals: VecDeque<(f64, u32)>,
    jobs: f64,
    late: f64,
    since_step: u64,
    permitted: f64,
}

impl Waits {
    pub fn new(target: Option<Duration>) -> Self {
        let target = target.map(|target| target.as_secs_f64());
        Self { target, arrivals: VecDeque::new(), jobs: 0.0, late: 0.0, since_step: 0, permitted: FIRST }
    }

    /// Returns the share of jobs that may be late in the model, if there is a target.
    pub fn permitted(&self) -> Option<f64> {
        self.target.map(|_| self.permitted)
    }

    /// Returns the share of jobs that were late, if there is a target.
    pub fn late_share(&self) -> Option<f64> {
        self.target.map(|_| self.late / self.jobs.max(1.0))
    }

    pub fn arrived(&mut self, now: f64, jobs: u32) {
        if self.target.is_some() {
            self.arrivals.push_back((now, jobs));
            if self.arrivals.len() > MAX {
                self.arrivals.pop_front();
            }
        }
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
        }
        if self.since_step >= STEP {
            self.since_step = 0;
            let share = self.late / self.jobs;
            let factor = if share > 0.7 * LATE {
                0.7
            } else if share < 0.4 * LATE {
                1.1
            } else {
                1.0
            };
            self.permitted = (self.permitted * factor).clamp(LATE / 50.0, 4.0 * LATE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_jobs_tighten_what_the_model_is_permitted_and_punctual_ones_relax_it() {
        let mut waits = Waits::new(Some(Duration::from_secs(30)));
        let serve = |waits: &mut Waits, wait: f64| {
            for n in 0..1000 {
                let at = f64::from(n);
                waits.arrived(at, 1);
                waits.served(at + wait, 1);
            }
            waits.permitted().expect("a target")
        };
        let relaxed = serve(&mut waits, 29.0);
        assert!(relaxed > FIRST && waits.late_share() == Some(0.0), "{waits:?}");
        let tightened = serve(&mut waits, 31.0);
        assert!(tightened < FIRST && waits.late_share() > Some(0.3), "{waits:?}");
        assert_eq!(Waits::new(None).permitted(), None);
    }
}
