//! What a history is made of, drawn from its seed: arrivals, crashes, delays, faults and rules.

use std::{ops::Range, time::Duration};

use rollcall::{
    fleet::FleetRules,
    settings::{Policy, Window},
};

use super::{environment::Ms, rng::Rng};

/// Fault probabilities in percent, until the plan's [`Plan::faults_end`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The call or its answer is lost.
    pub lost: u32,
    /// Of these: the controller does not even learn that there is no answer.
    pub unanswered: u32,
    pub throttled: u32,
    pub no_capacity: u32,
    pub partial: u32,
    pub never_up: u32,
    pub comes_up_dead: u32,
    pub vanish: u32,
    pub stop_stuck: u32,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub arrivals: Vec<(Ms, u32)>,
    pub crashes: Vec<Ms>,
    /// The controller also crashes right after these steps, with its calls under way.
    pub crash_steps: Vec<u32>,
    /// What a controller has learned is damaged before the next one reads it.
    pub damages_learned: bool,
    pub faults: Faults,
    /// No fault begins from here on.
    pub faults_end: Ms,
    /// Longest time until a call is carried out, and until a description shows it.
    pub call_delay: Ms,
    pub staleness: Ms,
    pub boot: Ms,
    pub service: Ms,
    pub idle: Ms,
    pub stop_time: Ms,
    pub quota: Option<usize>,
    /// The cloud reports changes.
    pub tells_changes: bool,
    /// When there is a new version of the image.
    pub upgrade: Option<Ms>,
    /// When every boot fails.
    pub broken: Option<Range<Ms>>,
    pub rules: FleetRules,
}

/// Noon on a Sunday, as time since the Unix epoch.
const NOON: Duration = Duration::from_secs(3 * 86_400 + 43_200);

/// Returns a window that opens at noon or a minute later, for a minute.
fn schedule(rng: &mut Rng, cap: usize) -> Vec<Window> {
    let minimum = 1 + rng.below(cap as u64 + 1);
    let window = if rng.percent(50) { "sun 12:00-12:01" } else { "daily 12:01-12:02" };
    vec![format!("{window} {minimum}").parse().expect("a window")]
}

/// Returns bursts at any time and, in some plans, a series of single jobs in quick succession.
fn arrivals(rng: &mut Rng, faults_end: Ms) -> Vec<(Ms, u32)> {
    let mut all: Vec<(Ms, u32)> =
        (0..1 + rng.below(7)).map(|_| (rng.below(faults_end), 1 + rng.below(8) as u32)).collect();
    if rng.percent(20) {
        let (begin, gap) = (rng.below(faults_end), 1 + rng.below(60));
        all.extend((0..12).map(|n| (begin + n * gap, 1)));
    }
    all
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let faults_end = 5_000 + rng.below(25_000);
        let arrivals = arrivals(&mut rng, faults_end);
        let crashes = (0..rng.below(4).saturating_sub(1)).map(|_| rng.below(faults_end)).collect();
        let crash_steps = (0..rng.below(4).saturating_sub(1)).map(|_| rng.below(60) as u32).collect();
        let mut chance = |percent: u64| if rng.percent(40) { rng.below(percent) as u32 } else { 0 };
        let faults = Faults {
            lost: chance(50),
            unanswered: chance(60),
            throttled: chance(40),
            no_capacity: chance(60),
            partial: chance(80),
            never_up: chance(40),
            comes_up_dead: chance(30),
            vanish: chance(30),
            stop_stuck: chance(30),
        };
        let slow = if rng.percent(30) { 5000 } else { 1500 };
        let call_delay = rng.below(slow);
        let staleness = if rng.percent(60) { rng.below(6000) } else { 0 };
        // In some plans, machines boot faster than calls are carried out.
        let slowest = if rng.percent(20) { 300 } else { 8000 };
        let (boot, service, idle) = (1 + rng.below(slowest), 1 + rng.below(2000), 300 + rng.below(5000));
        let lag = Duration::from_millis(call_delay + staleness);
        let large = if rng.percent(20) { 14 } else { 5 };
        let cap = 1 + rng.below(large) as usize;
        let second = Duration::from_secs(1);
        let rules = FleetRules {
            policy: [Policy::OnePerJob, Policy::Backlog, Policy::Deadline, Policy::Adaptive][rng.below(4) as usize],
            max_instances: cap,
            launch_cooldown: second * if rng.percent(20) { rng.below(4) as u32 } else { 0 },
            sweep_every: second * (1 + rng.below(8) as u32),
            keep_stopped: if rng.percent(50) { 0 } else { rng.below(cap as u64 + 1) as usize },
            sweep_cooldown: second * if rng.percent(20) { rng.below(3) as u32 } else { 0 },
            // Longer than any boot with its calls and the lag of descriptions.
            boot_timeout: 20 * second,
            poll_every: second * (2 + rng.below(6) as u32),
            describe_every: second * (1 + rng.below(8) as u32),
            describe_lag: lag,
            silent_timeout: Some(20 * second),
            jobs_per_instance: 1 + rng.below(3) as usize,
            up_delay: second * rng.below(3) as u32,
            down_delay: second * rng.below(8) as u32,
            target_latency: second * (1 + rng.below(20) as u32),
            boot_cold: 5 * second,
            boot_warm: 3 * second,
            service_time: second,
            billing_minimum: second * if rng.percent(50) { 60 } else { 0 },
            schedule: Vec::new(),
            threads: 1,
            idle_stop: Duration::from_millis(idle),
            wait_price: 0.1,
            target_wait: None,
            instance_hour: 0.01,
            disk_hour: 0.001,
            started_at: Duration::ZERO,
        };
        let mut rules = rules;
        let mut faults = faults;
        if rules.policy == Policy::Adaptive && seed.is_multiple_of(2) {
            rules.target_wait = Some(second * (1 + (seed / 2 % 30) as u32));
        }
        if rng.percent(25) {
            // The controller does not see replies, so it cannot distinguish a dead worker from a living one.
            (rules.silent_timeout, faults.comes_up_dead) = (None, 0);
        }
        if rng.percent(25) {
            rules.threads = 2 + rng.below(3) as usize;
        }
        if rng.percent(15) {
            rules.schedule = schedule(&mut rng, cap);
            rules.started_at = NOON + Duration::from_secs(rng.below(60));
        }
        let stop_time = rng.below(4000);
        let quota = rng.percent(20).then(|| rng.below(cap as u64 + 1) as usize);
        let tells_changes = rng.percent(20);
        let upgrade = rng.percent(25).then(|| rng.below(faults_end));
        let broken = rng.percent(15).then(|| {
            let begin = rng.below(faults_end);
            begin..begin + rng.below(400_000)
        });
        Self {
            seed,
            arrivals,
            crashes,
            crash_steps,
            damages_learned: seed % 5 == 1,
            faults,
            faults_end,
            call_delay,
            staleness,
            boot,
            service,
            idle,
            stop_time,
            quota,
            tells_changes,
            upgrade,
            broken,
            rules,
        }
    }

    /// Returns simpler plans, each with something removed.
    pub fn simpler(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut plan = self.clone();
            change(&mut plan);
            if format!("{plan:?}") != format!("{self:?}") {
                all.push(plan);
            }
        };
        with(&|p| p.upgrade = None);
        with(&|p| p.broken = None);
        with(&|p| {
            p.broken = p.broken.clone().map(|broken| broken.start..broken.start + (broken.end - broken.start) / 2);
        });
        for n in 0..self.arrivals.len() {
            with(&|p| {
                p.arrivals.remove(n);
            });
            with(&|p| p.arrivals[n].1 = 1);
        }
        for n in 0..self.crashes.len() {
            with(&|p| {
                p.crashes.remove(n);
            });
        }
        with(&|p| p.damages_learned = false);
        for n in 0..self.crash_steps.len() {
            with(&|p| {
                p.crash_steps.remove(n);
            });
        }
        with(&|p| p.faults.lost = 0);
        with(&|p| p.faults.unanswered = 0);
        with(&|p| p.faults.throttled = 0);
        with(&|p| p.faults.no_capacity = 0);
        with(&|p| p.faults.partial = 0);
        with(&|p| p.faults.never_up = 0);
        with(&|p| p.faults.comes_up_dead = 0);
        with(&|p| p.faults.vanish = 0);
        with(&|p| p.faults.stop_stuck = 0);
        with(&|p| p.staleness = 0);
        with(&|p| p.call_delay = 0);
        with(&|p| p.quota = None);
        with(&|p| p.rules.launch_cooldown = Duration::ZERO);
        with(&|p| p.rules.sweep_cooldown = Duration::ZERO);
        with(&|p| p.rules.policy = Policy::OnePerJob);
        with(&|p| p.rules.schedule.clear());
        with(&|p| p.rules.threads = 1);
        all
    }
}
