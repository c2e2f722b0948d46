//! The search for the thresholds that would have been best.

use std::collections::BTreeMap;

use super::{
    history::{Batch, History},
    model::Model,
    thresholds::{COORDINATES, Limits, Point, Thresholds},
    world::{Outcome, World},
};

/// What outcomes are worth, in seconds of a running instance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Worth {
    /// A second of a disk.
    pub disk: f64,
    /// A second of one job's waiting.
    pub wait: f64,
    /// The share of jobs that may be late, if there is a target.
    pub late: Option<f64>,
}

impl Worth {
    /// Returns what an outcome costs at least, while it is not complete.
    fn least(&self, outcome: &Outcome) -> f64 {
        outcome.billed + self.disk * outcome.disks + self.wait * outcome.waited
    }

    /// Returns what an outcome costs. A share of late jobs beyond the permitted one costs more than anything else.
    fn cost(&self, outcome: &Outcome) -> f64 {
        let cost = self.least(outcome);
        match self.late {
            Some(permitted) => {
                let excess = (outcome.late / outcome.jobs.max(1e-9) - permitted).max(0.0);
                cost * (1.0 + LATE_FACTOR * excess)
            }
            None => cost,
        }
    }
}

/// A share of late jobs beyond the permitted one makes everything dearer by so many times.
const LATE_FACTOR: f64 = 300.0;
/// With a target, thresholds change only once so many jobs are remembered: one in a hundred matters.
const LEAST_JOBS: u64 = 300;
/// With a target, a point must be better than the present one by this fraction, and for each step by this one besides.
const TARGET_BETTER: f64 = 0.02;
const TARGET_DISTANCE: f64 = 0.004;
/// Arrivals that stand for what is possible before anything is known: a gap in seconds, and the jobs after it. The gaps are
/// spread evenly on a logarithmic scale.
const PRIOR: [(f64, u32); 15] = [
    (300.0, 1),
    (30.0, 3),
    (3000.0, 10),
    (120.0, 1),
    (9600.0, 30),
    (20.0, 2),
    (1200.0, 1),
    (60.0, 10),
    (6000.0, 150),
    (600.0, 30),
    (15.0, 1),
    (2400.0, 10),
    (180.0, 3),
    (20_000.0, 30),
    (900.0, 1),
];
/// Then streams of single jobs: the pause before, the mean gap in seconds, and how many.
const STREAMS: [(f64, f64, u32); 4] = [(1200.0, 1.0, 60), (300.0, 0.6, 60), (1800.0, 1.5, 60), (3600.0, 0.4, 240)];
/// The end is so many seconds later.
const TAIL: f64 = 14_400.0;
/// Without arrivals, points are compared again after this share of the time remembered, and after at least so many seconds.
const LULL_SHARE: f64 = 0.05;
const MIN_LULL: f64 = 300.0;
/// During so many rounds from the beginning or a change on, the effort is greater by this factor.
const YOUNG: u64 = 20;
const YOUNG_FACTOR: u32 = 4;
/// What one evaluation of the arrivals that are assumed counts as, in jobs.
const PRIOR_EFFORT: i64 = 500;
/// The most costs that are remembered.
const MAX_COSTS: usize = 1000;
/// The least weight of those arrivals, relative to what is remembered.
const PRIOR_WEIGHT: f64 = 0.12;
/// The number of batches of arrivals that weigh as much as those.
const PRIOR_BATCHES: f64 = 5.0;
/// The least fraction by which a point must be better for each step that it is away from the one at the beginning.
const DISTANCE: f64 = 0.001;
/// Fraction by which a point must be better than the present one.
const BETTER: f64 = 0.005;

/// One comparison of points: the coordinates one after the other, on the same arrivals.
#[derive(Clone, Debug)]
struct Round {
    world: World,
    limits: Limits,
    end: f64,
    range: std::ops::Range<u64>,
    coordinate: usize,
    /// The points that differ in this coordinate and have not been tried.
    points: Vec<Point>,
    under_way: Option<(Model, u64, Point)>,
    /// What the first point costs, with the arrivals that are remembered and with those that are assumed.
    first: Option<[f64; 2]>,
    best: (f64, Point),
    /// A point whose remembered arrivals have cost more cannot be better.
    limit: f64,
}

/// Searches step by step, with a bounded effort per step.
#[derive(Clone, Debug)]
pub(super) struct Tuning {
    point: Point,
    prior: Point,
    limits: Limits,
    half_life: f64,
    round: Option<Round>,
    /// The number that the history had reached when the last round began, and whether it has changed the point.
    last: (u64, bool),
    /// When the last round began.
    last_end: f64,
    rounds: u64,
    /// Up to this number of rounds, the effort is greater.
    young_until: u64,
    assumed: Assumed,
}

impl Tuning {
    pub fn new(point: Point, within: Option<f64>, half_life: f64) -> Self {
        Self {
            point,
            prior: point,
            limits: Limits::new(point, within, 0.0),
            half_life,
            round: None,
            last: (0, true),
            last_end: f64::NEG_INFINITY,
            rounds: 0,
            young_until: YOUNG,
            assumed: Assumed::default(),
        }
    }

    /// Returns the point at which the search began.
    pub fn prior(&self) -> Point {
        self.prior
    }

    pub fn point(&self) -> Point {
        self.point
    }

    /// Continues from another point.
    pub fn set_point(&mut self, point: Point) {
        (self.point, self.round) = (point, None);
    }

    /// Begins anew from the present point, with the effort of the beginning: what is remembered is no longer the same.
    pub fn restart(&mut self) {
        self.round = None;
        self.last.1 = true;
        self.last_end = f64::NEG_INFINITY;
        self.young_until = self.rounds + YOUNG;
    }

    /// Changes within how many seconds jobs are planned to begin, if there is a target.
    pub fn set_within(&mut self, within: Option<f64>) {
        self.limits.within = within;
    }

    /// Returns the number of completed rounds.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Returns the thresholds in force.
    pub fn thresholds(&self) -> Thresholds {
        self.point.thresholds(self.limits)
    }

    /// Models at most about `budget` jobs. `now` is in seconds since the Unix epoch.
    pub fn step(&mut self, history: &History, now: f64, world: World, worth: &Worth, budget: u32) {
        if worth.late.is_some() && history.jobs() < LEAST_JOBS {
            return;
        }
        if self.round.is_none() && !self.begin(history, now, world) {
            return;
        }
        let mut budget = i64::from(if self.rounds < self.young_until { YOUNG_FACTOR * budget } else { budget });
        while budget > 0 {
            let Some(round) = &mut self.round else { return };
            if round.under_way.is_none() {
                let Some(point) = self.next_point() else { return };
                let Some(round) = &mut self.round else { return };
                let (first, running) =
                    history.get(round.range.start).map_or((round.end, 0), |batch| (batch.at, batch.running));
                let model = Model::new(round.world, point.thresholds(round.limits), first).running(running as usize);
                round.under_way = Some((model, round.range.start, point));
                continue;
            }
            let Some((mut model, mut next, point)) = round.under_way.take() else { return };
            while budget > 0 && next < round.range.end {
                if let Some(Batch { at, jobs, .. }) = history.get(next) {
                    let weight = (-(round.end - at) / self.half_life).exp2();
                    model.arrive(at, jobs, weight);
                    budget -= i64::from(jobs) + 3;
                }
                next += 1;
            }
            let is_beaten = round.limit < worth.least(model.outcome());
            if next < round.range.end && !is_beaten {
                round.under_way = Some((model, next, point));
                return;
            }
            if is_beaten {
                continue;
            }
            let seen = worth.cost(&model.finish(round.end)).max(1e-9);
            let known = self.assumed.costs.len();
            // Arrivals of every kind would not tell how many of these jobs are late.
            let assumed = if worth.late.is_some() { 1.0 } else { self.assumed.cost(point, worth) };
            budget -= if self.assumed.costs.len() == known { 10 } else { PRIOR_EFFORT };
            let outcomes = [seen, assumed];
            let is_first = round.first.is_none();
            let [seen, assumed] = *round.first.get_or_insert(outcomes);
            let batches = (round.range.end - round.range.start) as f64;
            let prior_weight = PRIOR_WEIGHT + PRIOR_BATCHES / (PRIOR_BATCHES + batches);
            let distance = f64::from(self.prior.distance(point));
            let (better, step) =
                if worth.late.is_some() { (TARGET_BETTER, TARGET_DISTANCE) } else { (BETTER, DISTANCE) };
            let cost = outcomes[0] / seen + prior_weight * outcomes[1] / assumed + step * distance;
            if cost < round.best.0 - better {
                round.best = (cost, point);
                // What has cost more than this with the arrivals that are remembered cannot be better.
                round.limit = seen * (cost - if is_first { 0.0 } else { better });
            }
        }
    }

    fn begin(&mut self, history: &History, now: f64, world: World) -> bool {
        let range = history.range();
        let span = history.get(range.start).map_or(0.0, |first| now - first.at);
        let is_long = now - self.last_end > (LULL_SHARE * span).max(MIN_LULL);
        if range.end < self.last.0 + 2 && !self.last.1 && !is_long {
            return false;
        }
        self.last_end = now;
        self.limits = Limits::new(self.prior, self.limits.within, history.longest_gap());
        self.last = (range.end, false);
        self.assumed.update(world);
        let (points, best) = (vec![self.point], (f64::INFINITY, self.point));
        self.round = Some(Round {
            world,
            limits: self.limits,
            end: now,
            range,
            coordinate: 0,
            points,
            under_way: None,
            first: None,
            best,
            limit: f64::INFINITY,
        });
        true
    }

    /// Returns the next point to try, or ends the round.
    fn next_point(&mut self) -> Option<Point> {
        let round = self.round.as_mut()?;
        loop {
            while let Some(point) = round.points.pop() {
                if point.thresholds(round.limits) != self.point.thresholds(round.limits) || round.first.is_none() {
                    return Some(point);
                }
            }
            if round.best.1 != self.point {
                self.point = round.best.1;
                self.last.1 = true;
            }
            if round.coordinate == COORDINATES {
                self.round = None;
                self.rounds += 1;
                return None;
            }
            round.points = self.point.neighbours(round.coordinate, self.prior, round.limits.within.is_some());
            round.coordinate += 1;
        }
    }
}

/// What the arrivals that are assumed beforehand cost with each point, as far as that has been computed.
#[derive(Clone, Debug, Default)]
struct Assumed {
    world: Option<World>,
    costs: BTreeMap<Point, f64>,
}

impl Assumed {
    /// Takes over the learned times, if they have changed notably.
    fn update(&mut self, world: World) {
        if self.costs.len() > MAX_COSTS || self.world.is_none_or(|old| old.differs(&world)) {
            self.world = Some(world);
            self.costs.clear();
        }
    }

    fn cost(&mut self, point: Point, worth: &Worth) -> f64 {
        let Some(world) = self.world else { return 1.0 };
        *self.costs.entry(point).or_insert_with(|| {
            let mut model = Model::new(world, point.thresholds(Limits::NONE), 0.0);
            let mut at = 0.0;
            for (gap, jobs) in PRIOR {
                at += gap;
                model.arrive(at, jobs, 1.0);
            }
            for (pause, gap, jobs) in STREAMS {
                at += pause;
                for n in 0..jobs {
                    at += f64::from(n % 3) * gap;
                    model.arrive(at, 1, 1.0);
                }
            }
            worth.cost(&model.finish(at + TAIL)).max(1e-9)
        })
    }
}
