//! `adaptive`: thresholds that are learned from the fleet's own traffic.
//!
//! `history` remembers the latest arrivals, and `model` computes what they would have cost with other `thresholds`. `tuning`
//! searches for the cheapest ones, a bounded part of the work with each event, and begins anew when `change` finds that the
//! arrivals have changed their nature. `rule` decides with them how many instances the jobs are worth, and `need` how many
//! stay. `docs/fleet.md` has the formulas and their sources.
//!
//! Times are seconds since the Unix epoch, so that what was learned stays valid when the controller restarts.

mod change;
mod history;
mod learned;
mod model;
mod need;
mod rate;
mod rule;
mod spread;
mod thresholds;
mod tuning;
mod waits;
mod world;

use std::{collections::VecDeque, time::Duration};

pub use self::learned::{LearnedThresholds, is_learned_state};
pub(super) use self::rule::{Supply, Times};
use self::{
    change::ChangeDetector,
    history::History,
    learned::Kept,
    need::Need,
    rate::Rate,
    rule::Load,
    spread::{Boots, Spread},
    thresholds::{Aim, Point, Thresholds},
    tuning::{Tuning, Worth},
    waits::Waits,
    world::World,
};
use super::{
    rules::{FleetRules, Policy},
    tracked::BootKind,
};

/// How long an idle worker waits for a job if its instance need not stay.
pub const SURPLUS_IDLE: Duration = Duration::from_secs(model::SURPLUS_IDLE as u64);
/// Jobs modelled per event.
const EFFORT: u32 = 128;
/// Jobs modelled before the first event.
const FIRST_EFFORT: u32 = 15_000;
/// Half-life of what is remembered, in seconds.
const HALF_LIFE: f64 = 4.0 * 86_400.0;
/// Boots remembered of each kind.
const BOOTS: usize = 15;
/// After this time without a report of this process, in seconds, the queue's depth counts.
const TOLD_FOR: f64 = 10.0;
/// With a target: what a second of one job's waiting is worth, in seconds of a running instance. Little, because only the
/// target matters.
const TARGET_WAIT: f64 = 0.1;

/// What the fleet has learned from its traffic.
#[derive(Clone, Debug)]
pub(super) struct Adaptive {
    tuning: Tuning,
    history: History,
    change: ChangeDetector,
    rate: Rate,
    need: Need,
    waits: Waits,
    /// Jobs in the queue or at work, as far as this process has been told.
    jobs: u64,
    /// When it was told last.
    told: f64,
    /// Instances at work, as of the last decision.
    running: usize,
    cold: VecDeque<f64>,
    warm: VecDeque<f64>,
    boots: Boots,
    worth: Worth,
}

impl Adaptive {
    /// Creates a learner that knows nothing. It begins with the thresholds that are best for arrivals of every kind.
    pub fn new(rules: &FleetRules) -> Self {
        let hour = rules.instance_hour.max(1e-9);
        let value = rules.wait_price / hour;
        let waits = Waits::new(rules.target_wait);
        let wait = if rules.target_wait.is_some() { TARGET_WAIT } else { value };
        let worth = Worth { disk: rules.disk_hour / hour, wait, late: waits.permitted() };
        let times = Times {
            cold: rules.boot_cold.as_secs_f64(),
            warm: rules.boot_warm.as_secs_f64(),
            unbilled: 0.0,
            stop: rules.boot_warm.as_secs_f64(),
            service: rules.service_time.as_secs_f64(),
            threads: rules.threads as f64,
            minimum: rules.billing_minimum.as_secs_f64(),
        };
        let within = waits.within();
        let prior = if within.is_some() { Point::target_prior() } else { Point::prior(value, worth.disk, &times) };
        let mut tuning = Tuning::new(prior, within, HALF_LIFE);
        let boots = Boots::new();
        let history = History::default();
        if rules.policy == Policy::Adaptive && within.is_none() {
            tuning.step(&history, 0.0, world(times, rules, rules.max_instances, &boots), &worth, FIRST_EFFORT);
        }
        Self {
            tuning,
            history,
            change: ChangeDetector::default(),
            rate: Rate::default(),
            need: Need::default(),
            waits,
            jobs: 0,
            told: f64::NEG_INFINITY,
            running: 0,
            cold: VecDeque::new(),
            warm: VecDeque::new(),
            boots,
            worth,
        }
    }

    /// Processes the number of uploads that wait in this process.
    pub fn hinted(&mut self, now: f64, waiting: u64) {
        if waiting > self.jobs {
            self.arrived(now, waiting - self.jobs);
        }
        (self.jobs, self.told) = (waiting, now);
    }

    /// Processes the end of jobs that took `busy` seconds each.
    pub fn served(&mut self, now: f64, jobs: u64, busy: f64) {
        (self.jobs, self.told) = (self.jobs.saturating_sub(jobs), now);
        self.waits.served(now - busy, jobs);
    }

    /// Processes the depth of the queue. It counts if this process has not been told about jobs for a while.
    pub fn counted(&mut self, now: f64, jobs: u64) {
        if now - self.told < TOLD_FOR {
            return;
        }
        if jobs > self.jobs {
            self.arrived(now, jobs - self.jobs);
        }
        if jobs == 0 {
            self.waits.forget();
        }
        self.jobs = jobs;
    }

    fn arrived(&mut self, now: f64, jobs: u64) {
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        self.history.add(now, jobs, u32::try_from(self.running).unwrap_or(u32::MAX));
        self.rate.add(now, jobs);
        if let Some(at) = self.change.add(now, jobs) {
            self.changed(at);
        }
        self.waits.arrived(now, jobs);
    }

    /// Forgets what came before the arrivals changed their nature. With a target, nothing is forgotten: one late job in a
    /// hundred can only be learned from many.
    fn changed(&mut self, at: f64) {
        if self.waits.within().is_none() {
            self.history.forget_before(at);
            self.need.forget_before(at);
            self.tuning.restart();
        }
    }

    /// Processes the first job of an instance that booted: `took` seconds from the request until its worker took a job.
    pub fn came_up(&mut self, kind: BootKind, took: f64) {
        let all = match kind {
            BootKind::Cold => &mut self.cold,
            BootKind::Warm => &mut self.warm,
        };
        if all.len() == BOOTS {
            all.pop_front();
        }
        all.push_back(took);
        if let Some(median) = self.boot(kind) {
            self.boots.add(took / median.max(1e-3));
        }
    }

    /// Returns the number of jobs to plan for.
    pub fn jobs(&self, now: f64, demand: u64) -> u64 {
        if now - self.told < TOLD_FOR { self.jobs } else { demand }
    }

    /// Returns whether this process is told about every upload, so that the queue need not be read often.
    pub fn is_told(&self) -> bool {
        self.told > f64::NEG_INFINITY
    }

    /// Decides how many instances there should be for so many jobs, and learns with a bounded effort.
    pub fn decide(&mut self, now: f64, jobs: u64, supply: Supply, times: &Times, rules: &FleetRules) -> usize {
        if let Some(at) = self.change.passed(now) {
            self.changed(at);
        }
        self.tuning.set_within(self.waits.within());
        let times = &if self.waits.within().is_some() { times.with_overhead() } else { *times };
        let needed = self.tuning.thresholds().needed(jobs as f64, times);
        self.need.set(now, needed.min(supply.running + supply.booting));
        self.worth.late = self.waits.permitted();
        self.tuning.step(&self.history, now, world(*times, rules, supply.cap, &self.boots), &self.worth, EFFORT);
        self.running = supply.running;
        let thresholds = self.tuning.thresholds();
        match thresholds.aim {
            Aim::Price { value, caution, .. } => {
                let load = Load { jobs: jobs as f64, rate: self.rate.at(now, caution) };
                rule::wanted(load, supply, times, value)
            }
            Aim::Target { within, room, .. } => {
                let waiting = (jobs as f64 - supply.running as f64 * times.threads).max(0.0);
                let wanted = rule::in_time(self.waits.waiting(now, waiting), supply, times, within, room);
                wanted.max(usize::from(jobs > 0))
            }
        }
    }

    fn thresholds(&self) -> Thresholds {
        self.tuning.thresholds()
    }

    /// Returns how many instances stay, whether they have a job or not.
    pub fn staying(&self, now: f64) -> usize {
        self.thresholds().staying(now, &self.need)
    }

    /// Returns the longest time that an idle worker waits for a job.
    pub fn longest_idle(&self) -> Duration {
        Duration::try_from_secs_f64(self.thresholds().stays(1)).unwrap_or(Duration::MAX).saturating_add(SURPLUS_IDLE)
    }

    /// Returns how many stopped instances are worth their disks, besides `present` ones that are not stopped.
    pub fn keep_stopped(&self, now: f64, present: usize, cap: usize) -> usize {
        self.thresholds().kept(now, &self.need, present, cap)
    }

    /// Returns the learned seconds until a worker takes jobs, if any boot has been observed.
    pub fn boot(&self, kind: BootKind) -> Option<f64> {
        let all = match kind {
            BootKind::Cold => &self.cold,
            BootKind::Warm => &self.warm,
        };
        let mut sorted: Vec<f64> = all.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    /// Returns what has been learned, for display. `present` instances are not stopped.
    pub fn learned(&self, now: f64, present: usize, cap: usize) -> LearnedThresholds {
        let thresholds = self.thresholds();
        let (wait_value, caution, within_s) = match thresholds.aim {
            Aim::Price { value, caution, .. } => (value, caution, None),
            Aim::Target { within, .. } => (0.0, 0.0, Some(within)),
        };
        LearnedThresholds {
            wait_value,
            caution,
            within_s,
            stay_s: thresholds.stay,
            base: thresholds.base,
            base_stay_s: thresholds.base_stay,
            keep_s: thresholds.keep,
            staying: self.staying(now),
            kept: self.keep_stopped(now, present, cap),
            arrivals: self.history.jobs(),
            comparisons: self.tuning.rounds(),
            late_share: self.waits.late_share(),
        }
    }

    /// Returns what has been learned, to be kept. Its size is bounded.
    pub fn kept(&self) -> String {
        let batches = self.history.iter().map(|batch| (batch.at, batch.jobs, batch.running));
        let mut kept = Kept::new([self.tuning.prior(), self.tuning.point()], [&self.cold, &self.warm], batches);
        (kept.ratios, kept.waits) = (self.boots.ratios().collect(), self.waits.kept());
        kept.encode()
    }

    /// Returns a number that changes whenever there is something new to keep.
    pub fn revision(&self) -> u64 {
        self.history.range().end + self.tuning.rounds()
    }

    /// Takes over what a predecessor has kept. Text that cannot be read is ignored, and so are arrivals of the future: the
    /// clock of the machine has been set.
    pub fn adopt(&mut self, now: f64, kept: &str) {
        let Some(kept) = Kept::decode(kept) else { return };
        [self.cold, self.warm] = kept.boots(BOOTS);
        for (at, jobs, running) in kept.batches().filter(|(at, ..)| *at <= now) {
            self.history.add(at, jobs, running);
            // The predecessor has forgotten what came before a change.
            self.change.add(at, jobs);
        }
        self.boots.extend(kept.ratios.iter().copied());
        if let Some(waits) = kept.waits.filter(|_| self.waits.within().is_some()) {
            self.waits.adopt(waits);
        }
        if kept.prior == self.tuning.prior() {
            self.tuning.set_point(kept.point);
        }
    }
}

fn world(times: Times, rules: &FleetRules, cap: usize, boots: &Boots) -> World {
    let target_wait = rules.target_wait.map_or(f64::INFINITY, |target| target.as_secs_f64());
    let spread = if rules.target_wait.is_some() { boots.spread() } else { Spread::NONE };
    World { times, cap, sweep_every: rules.sweep_every.as_secs_f64(), target_wait, spread }
}
