//! A small model of the fleet: what the remembered arrivals would have cost with other thresholds.

use std::collections::VecDeque;

use super::{
    need::Need,
    rate::Rate,
    rule::{self, Load, Supply},
    thresholds::{Aim, Thresholds},
    world::{Outcome, World},
};

/// The most instances of the model. In a larger fleet, each stands for several.
pub(super) const MAX_UNITS: usize = 64;
/// How long a worker that need not stay waits for a job before it stops, in seconds.
pub(super) const SURPLUS_IDLE: f64 = 5.0;

/// A wait of `w` is late with the probability `1 / (1 + (target/w)^STEEPNESS)`: the model is not exact.
const STEEPNESS: f64 = 40.0;
/// The fractional part of the golden ratio: its multiples are spread evenly.
const GOLDEN: f64 = 0.618_033_988_749_895;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Booting,
    Running,
    Stopping,
    Stopped,
}

#[derive(Clone, Copy, Debug)]
struct Unit {
    state: State,
    /// When the state ends (booting, stopping), or began (running: when billing began).
    at: f64,
    created: f64,
    busy: u32,
    idle_since: f64,
}

/// The model's state.
#[derive(Clone, Debug)]
pub(super) struct Model {
    world: World,
    thresholds: Thresholds,
    /// Instances for which a unit stands.
    scale: f64,
    cap: usize,
    threads: u32,
    now: f64,
    weight: f64,
    units: Vec<Unit>,
    /// Units by state.
    counts: [usize; 4],
    /// Running units with a free thread.
    free: usize,
    /// Batches that wait: when they came, and how many are left.
    waiting: VecDeque<(f64, u32)>,
    waiting_jobs: u32,
    /// Jobs at work: when each ends, and on which unit. Service times are equal, so they end in order.
    working: VecDeque<(f64, usize)>,
    need: Need,
    rate: Rate,
    /// No instance can stop before this time.
    idle_due: f64,
    /// No boot or stop ends before this time.
    change_due: f64,
    sweep_due: f64,
    random: u64,
    boots: u32,
    outcome: Outcome,
}

impl Model {
    pub fn new(world: World, thresholds: Thresholds, start: f64) -> Self {
        let scale = world.cap.div_ceil(MAX_UNITS).max(1);
        let mut world = world;
        world.times.threads *= scale as f64;
        Self {
            thresholds: Thresholds {
                base: thresholds.base.div_ceil(scale),
                aim: match thresholds.aim {
                    Aim::Price { value, caution, hold } => {
                        Aim::Price { value: value / scale as f64, caution, hold: hold / scale as f64 }
                    }
                    Aim::Target { within, room, spare, extra } => {
                        Aim::Target { within, room, spare, extra: extra.div_ceil(scale) }
                    }
                },
                ..thresholds
            },
            scale: scale as f64,
            cap: (world.cap / scale).max(1),
            threads: world.times.threads as u32,
            now: start,
            weight: 1.0,
            units: Vec::new(),
            counts: [0; 4],
            free: 0,
            waiting: VecDeque::new(),
            waiting_jobs: 0,
            working: VecDeque::new(),
            need: Need::default(),
            rate: Rate::default(),
            idle_due: f64::INFINITY,
            change_due: f64::INFINITY,
            sweep_due: start + world.sweep_every,
            boots: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            outcome: Outcome::default(),
            world,
        }
    }

    /// Begins with running instances, and with as many stopped ones as are kept.
    pub fn running(mut self, instances: usize) -> Self {
        let units = ((instances as f64 / self.scale).round() as usize).min(self.cap);
        let stopped = match self.thresholds.aim {
            Aim::Price { .. } => 0,
            Aim::Target { spare, .. } => ((spare * self.cap as f64).ceil() as usize).saturating_sub(units),
        };
        let unit = Unit {
            state: State::Running,
            at: self.now - self.world.times.minimum,
            created: self.now,
            busy: 0,
            idle_since: self.now,
        };
        self.units = vec![unit; units];
        self.units.resize(units + stopped, Unit { state: State::Stopped, ..unit });
        (self.counts[State::Running as usize], self.free) = (units, units);
        self.counts[State::Stopped as usize] = stopped;
        self.need.set(self.now, units + stopped);
        self.need.set(self.now, 0);
        self.plan_stop();
        self
    }

    /// Processes arrivals at `at`, whose costs have the weight `weight`.
    pub fn arrive(&mut self, at: f64, jobs: u32, weight: f64) {
        self.advance(at, weight);
        self.rate.add(at, jobs);
        self.waiting.push_back((at, jobs));
        self.waiting_jobs += jobs;
        self.outcome.jobs += f64::from(jobs) * weight;
        self.assign();
        self.start_wanted();
        self.update_need();
    }

    /// Ends at `at` and returns what everything has cost.
    pub fn finish(mut self, at: f64) -> Outcome {
        self.advance(at, 1.0);
        for index in 0..self.units.len() {
            let unit = self.units[index];
            if unit.state == State::Running {
                self.outcome.billed += (at - unit.at).max(self.world.times.minimum);
            }
            self.outcome.disks += at - unit.created.max(0.0);
        }
        for (since, jobs) in &self.waiting {
            self.outcome.waited += (at - since) * f64::from(*jobs);
        }
        self.outcome.billed *= self.scale;
        self.outcome.disks *= self.scale;
        self.outcome
    }

    /// Returns what the arrivals have cost so far, at least.
    pub fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    fn advance(&mut self, to: f64, weight: f64) {
        self.weight = weight;
        loop {
            let done = self.working.front().map_or(f64::INFINITY, |(at, _)| *at);
            let next = done.min(self.change_due).min(self.idle_due).min(self.sweep_due);
            if next > to {
                break;
            }
            self.now = next.max(self.now);
            if next == done {
                self.finish_job();
            } else if next == self.change_due {
                self.change_states();
            } else if next == self.idle_due {
                self.stop_idle();
            } else {
                self.sweep(to);
            }
        }
        self.now = to;
    }

    fn finish_job(&mut self) {
        let Some((_, index)) = self.working.pop_front() else { return };
        let threads = self.threads;
        let unit = &mut self.units[index];
        self.free += usize::from(unit.busy == threads);
        unit.busy -= 1;
        if let Some((since, left)) = self.waiting.front_mut() {
            let since = *since;
            *left -= 1;
            if *left == 0 {
                self.waiting.pop_front();
            }
            self.waiting_jobs -= 1;
            unit.busy += 1;
            self.free -= usize::from(unit.busy == threads);
            self.begin(since, index);
            return self.update_need();
        }
        if unit.busy == 0 {
            unit.idle_since = self.now;
        }
        self.update_need();
        self.plan_stop();
    }

    fn begin(&mut self, since: f64, index: usize) {
        let waited = self.now - since;
        self.outcome.waited += waited * self.weight;
        if self.world.target_wait.is_finite() && waited > 0.0 {
            self.outcome.late += self.weight / (1.0 + (self.world.target_wait / waited).powf(STEEPNESS));
        }
        self.working.push_back((self.now + self.world.times.service, index));
    }

    /// Gives waiting jobs to free workers, each to a random one.
    fn assign(&mut self) {
        while self.waiting_jobs > 0 && self.free > 0 {
            let threads = self.threads;
            let free = |unit: &Unit| unit.state == State::Running && unit.busy < threads;
            let count = self.free;
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pick = (self.random >> 33) as usize % count;
            let Some((index, _)) = self.units.iter().enumerate().filter(|(_, unit)| free(unit)).nth(pick) else {
                return;
            };
            let Some((since, left)) = self.waiting.front_mut() else { return };
            let since = *since;
            *left -= 1;
            if *left == 0 {
                self.waiting.pop_front();
            }
            self.waiting_jobs -= 1;
            self.units[index].busy += 1;
            self.free -= usize::from(self.units[index].busy == threads);
            self.begin(since, index);
        }
    }

    fn set(&mut self, index: usize, to: State) {
        self.counts[self.units[index].state as usize] -= 1;
        self.counts[to as usize] += 1;
        self.units[index].state = to;
    }

    fn count(&self, state: State) -> usize {
        self.counts[state as usize]
    }

    fn start_wanted(&mut self) {
        let (running, booting) = (self.count(State::Running), self.count(State::Booting));
        let jobs = self.waiting_jobs + self.working.len() as u32;
        if self.waiting_jobs == 0 && running > 0 {
            return;
        }
        let left: f64 =
            self.units.iter().filter(|unit| unit.state == State::Booting).map(|unit| unit.at - self.now).sum();
        let startable = self.count(State::Stopped);
        let supply = Supply {
            running,
            booting,
            boots_in: if booting > 0 { left / booting as f64 } else { 0.0 },
            startable,
            cap: self.cap,
        };
        let wanted = match self.thresholds.aim {
            Aim::Price { value, caution, .. } => {
                let load = Load { jobs: f64::from(jobs), rate: self.rate.at(self.now, caution) };
                rule::wanted(load, supply, &self.world.times, value)
            }
            Aim::Target { within, room, .. } => {
                let waiting = self.waiting.iter().map(|(since, jobs)| (self.now - since, f64::from(*jobs)));
                rule::in_time(waiting, supply, &self.world.times, within, room)
            }
        };
        for _ in running + booting..wanted {
            let times = &self.world.times;
            let vary = self.world.spread.at((GOLDEN * f64::from(self.boots)).fract());
            self.boots += 1;
            if let Some(index) = self.units.iter().position(|unit| unit.state == State::Stopped) {
                let at = self.now + times.warm * vary;
                self.units[index].at = at;
                self.set(index, State::Booting);
                self.change_due = self.change_due.min(at);
            } else if self.units.len() < self.cap {
                let at = self.now + times.cold * vary;
                self.counts[State::Booting as usize] += 1;
                self.units.push(Unit { state: State::Booting, at, created: self.now, busy: 0, idle_since: 0.0 });
                self.change_due = self.change_due.min(at);
            }
        }
    }

    fn change_states(&mut self) {
        let now = self.now;
        let mut due = f64::INFINITY;
        let unbilled = self.world.times.unbilled;
        for index in 0..self.units.len() {
            let unit = &mut self.units[index];
            match unit.state {
                State::Booting if unit.at <= now => {
                    // Billed from some point of the boot on.
                    let boot = self.world.times.warm;
                    (unit.at, unit.idle_since) = (now - (boot - unbilled).max(0.0), now);
                    self.free += 1;
                    self.set(index, State::Running);
                }
                State::Stopping if unit.at <= now => self.set(index, State::Stopped),
                State::Booting | State::Stopping => due = due.min(unit.at),
                _ => {}
            }
        }
        self.change_due = due;
        self.assign();
        self.update_need();
        self.plan_stop();
    }

    fn update_need(&mut self) {
        let jobs = self.waiting_jobs + self.working.len() as u32;
        let present = self.count(State::Running) + self.count(State::Booting);
        self.need.set(self.now, self.thresholds.needed(f64::from(jobs), &self.world.times).min(present));
    }

    /// Returns when an idle unit can stop, as far as it is concerned.
    fn can_stop(&self, unit: &Unit) -> f64 {
        (unit.idle_since + SURPLUS_IDLE).max(unit.at + self.world.times.minimum)
    }

    /// Determines the earliest time at which an instance may stop.
    fn plan_stop(&mut self) {
        let idle = self.units.iter().filter(|unit| unit.state == State::Running && unit.busy == 0);
        let earliest = idle.map(|unit| self.can_stop(unit)).fold(f64::INFINITY, f64::min);
        let present = self.count(State::Running) + self.count(State::Booting);
        let due = if present <= self.need.current() || earliest == f64::INFINITY {
            f64::INFINITY
        } else {
            // Just after the window has ended.
            earliest.max(self.need.last(self.now, present) + self.thresholds.stays(present) + 1e-3)
        };
        self.idle_due = due.max(self.now + 1e-6);
    }

    fn stop_idle(&mut self) {
        let now = self.now;
        let present = self.count(State::Running) + self.count(State::Booting);
        if self.thresholds.staying(now, &self.need) < present {
            let idle = self.units.iter().enumerate().filter(|(_, unit)| unit.state == State::Running && unit.busy == 0);
            let idle = idle.filter(|(_, unit)| self.can_stop(unit) <= now);
            if let Some((index, _)) = idle.min_by(|(_, a), (_, b)| a.idle_since.total_cmp(&b.idle_since)) {
                let unit = &mut self.units[index];
                self.outcome.billed += (now - unit.at).max(self.world.times.minimum) * self.weight;
                unit.at = now + self.world.times.stop;
                self.change_due = self.change_due.min(unit.at);
                self.free -= 1;
                self.set(index, State::Stopping);
            }
        }
        self.plan_stop();
    }

    /// Terminates stopped instances beyond those that are kept. `to` is when the model will be changed next.
    fn sweep(&mut self, to: f64) {
        let present = self.count(State::Running) + self.count(State::Booting);
        let kept = self.thresholds.kept(self.now, &self.need, present, self.cap);
        let mut surplus = self.count(State::Stopped).saturating_sub(kept);
        while surplus > 0 {
            let Some(index) = self.units.iter().position(|unit| unit.state == State::Stopped) else { break };
            self.outcome.disks += (self.now - self.units[index].created) * self.weight;
            self.remove(index);
            surplus -= 1;
        }
        self.sweep_due += self.world.sweep_every;
        if self.units.is_empty() || (to - self.now > 50.0 * self.world.sweep_every && self.is_at_rest()) {
            self.sweep_due = self.next_sweep(to);
        }
    }

    fn is_at_rest(&self) -> bool {
        self.working.is_empty() && self.units.iter().all(|unit| unit.state == State::Stopped)
    }

    /// Returns the next sweep that can change anything, if nothing else changes before `to`.
    fn next_sweep(&self, to: f64) -> f64 {
        let every = self.world.sweep_every;
        let kept = self.need.within(self.now, self.thresholds.keep);
        let ends = if self.units.is_empty() {
            to
        } else {
            (self.need.last(self.now, kept.max(1)) + self.thresholds.keep).min(to)
        };
        self.sweep_due + ((ends - self.sweep_due) / every).ceil().max(0.0) * every
    }

    fn remove(&mut self, index: usize) {
        let last = self.units.len() - 1;
        self.counts[self.units[index].state as usize] -= 1;
        self.units.swap_remove(index);
        for (_, on) in &mut self.working {
            if *on == last {
                *on = index;
            }
        }
    }
}
