//! What the core knows, and what follows from it.

use std::collections::BTreeMap;

use super::{
    Time,
    calls::{Read, TokenBucket},
    demand::Demand,
    depth::Depth,
    event_log::EventLog,
    explain::{Decision, Decisions, Inputs, Kind, Memory, unix_ms},
    instance::InstanceId,
    instances::{Boot, Instances, Role},
    launches::Launches,
    learned_times::{Learning, remaining},
    policy::{self, Known, Policy},
    rules::FleetRules,
};

/// How long a learned quota is believed before the configured cap is tried again.
pub(super) const QUOTA_MEMORY: Time = Time::from_secs(300);

/// Pauses and paces of the calls that change something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RateLimits {
    pub launch: TokenBucket,
    pub start: TokenBucket,
    pub terminate: TokenBucket,
    /// No launch before: cooldowns, and pauses after failures.
    pub launch_after: Time,
    pub launch_failures: u32,
    /// No termination before: pauses after failures.
    pub terminate_after: Time,
    pub terminate_failures: u32,
    pub next_sweep: Time,
}

/// The controller's state. See the module.
#[derive(Clone, Debug)]
pub struct FleetCore {
    pub(super) rules: FleetRules,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    pub(super) now: Time,
    pub(super) instances: Instances,
    pub(super) launches: Launches,
    /// Launched instances that never showed, being terminated in case they exist: when to call (again).
    pub(super) orphaned: BTreeMap<InstanceId, Time>,
    pub(super) demand: Demand,
    pub(super) learning: Learning,
    pub(super) depth_call: Read,
    pub(super) describe_call: Read,
    /// Number of the description asked for last.
    pub(super) generation: u64,
    /// When the last description that was taken in had been asked for.
    pub(super) described_at: Option<Time>,
    pub(super) turns: RateLimits,
    /// A cap that the cloud has taught, and until when it is believed.
    pub(super) quota: Option<(usize, Time)>,
    /// Instances wanted, as of the last step.
    pub(super) target: usize,
    pub(super) event_log: EventLog,
    pub(super) memory: Memory,
}

impl FleetCore {
    /// A controller that knows nothing yet. `epoch` makes its launch tokens differ from those of other lives.
    pub fn new(rules: FleetRules, epoch: u64) -> Self {
        let turns = RateLimits { next_sweep: rules.sweep_every, ..RateLimits::default() };
        Self {
            demand: Demand::new(rules.up_delay, rules.down_delay),
            learning: Learning::new(rules.boot_cold, rules.boot_warm, rules.service_time),
            rules,
            epoch,
            sequence: 0,
            now: Time::ZERO,
            instances: Instances::default(),
            launches: Launches::default(),
            orphaned: BTreeMap::new(),
            depth_call: Read::default(),
            describe_call: Read::default(),
            generation: 0,
            described_at: None,
            turns,
            quota: None,
            target: 0,
            event_log: EventLog::default(),
            memory: Memory::default(),
        }
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn rules(&self) -> &FleetRules {
        &self.rules
    }

    /// Keeps all decisions instead of the latest thousand.
    pub fn keep_all_decisions(&mut self) {
        self.memory.kept = usize::MAX;
    }

    /// The latest decisions.
    pub fn decisions(&self) -> &Decisions {
        &self.memory.decisions
    }

    /// Jobs known to exist.
    pub fn demand(&self) -> u64 {
        self.demand.jobs()
    }

    pub fn depth(&self) -> Depth {
        self.demand.depth
    }

    /// The cap now: the configured one, or a lower one that the cloud has taught.
    pub fn cap(&self) -> usize {
        let quota = self.quota.filter(|(_, until)| *until > self.now).map_or(usize::MAX, |(cap, _)| cap);
        self.rules.max_instances.min(quota)
    }

    /// Instances wanted, as of the last step.
    pub fn target(&self) -> usize {
        self.target
    }

    /// Instances that work or soon will.
    pub fn serving(&self) -> usize {
        let n = |role| self.instances.count(role);
        n(Role::Booting) + n(Role::Running) + n(Role::Starting) + self.launches.outstanding()
    }

    /// Instances that count against the cap, those that may exist included.
    pub fn live(&self) -> usize {
        self.instances.live() + self.launches.outstanding() + self.orphaned.len()
    }

    /// Whether what an earlier life of the controller asked for is sure to show.
    pub(super) fn settled(&self) -> bool {
        self.described_at.is_some_and(|asked| asked >= self.rules.describe_lag)
    }

    /// What the policy may know.
    pub(super) fn known(&mut self) -> Known {
        let (low_demand, high_demand) = self.demand.extremes(self.now);
        Known {
            demand: self.demand.jobs(),
            low_demand,
            high_demand,
            previous: self.target,
            cap: self.cap(),
            running: self.instances.count(Role::Running),
            booting: if self.rules.policy == Policy::Deadline { self.booting() } else { Vec::new() },
            startable: self.instances.count(Role::Startable),
            learned: self.learning.times(),
            clock: self.clock(),
        }
    }

    /// How long until those on their way serve; alike ones together.
    fn booting(&self) -> Vec<(Time, usize)> {
        let learned = self.learning.times();
        let left = |kind, asked| {
            let usual = match kind {
                Boot::Cold => learned.boot_cold,
                Boot::Warm => learned.boot_warm,
            };
            remaining(usual, self.now.saturating_sub(asked))
        };
        let seen = self.instances.of(Role::Booting).map(|(since, key)| {
            let (kind, asked) = self.instances.slot(key).boot.unwrap_or((Boot::Cold, since));
            (left(kind, asked), 1)
        });
        let starting = self.instances.of(Role::Starting).map(|(asked, _)| (left(Boot::Warm, asked), 1));
        let launching = self.launches.0.values().map(|l| (left(Boot::Cold, l.asked), l.outstanding()));
        let mut groups: Vec<(Time, usize)> = Vec::new();
        for (left, count) in seen.chain(starting).chain(launching) {
            match groups.last_mut() {
                Some((same, n)) if *same == left => *n += count,
                _ => groups.push((left, count)),
            }
        }
        groups
    }

    /// Stopping instances that will have stopped and started before a new one would be up.
    pub(super) fn soon_back(&self) -> usize {
        let (stop, learned) = (self.learning.stop(), self.learning.times());
        let Some(spare) = learned.boot_cold.checked_sub(learned.boot_warm) else { return 0 };
        let elapsed = |since| self.now.saturating_sub(since);
        self.instances.of(Role::Stopping).filter(|(since, _)| remaining(stop, elapsed(*since)) <= spare).count()
    }

    /// Time since the Unix epoch.
    fn clock(&self) -> Time {
        self.rules.started_at + self.now
    }

    fn inputs(&self) -> Inputs {
        Inputs {
            policy: self.rules.policy,
            depth: self.demand.depth,
            hint: self.demand.hint(),
            demand: self.demand.jobs(),
            cap: self.cap(),
            target: self.target,
            scheduled: policy::scheduled(&self.rules, self.clock()),
            counts: self.instances.counts(),
            launching: self.launches.outstanding(),
            starting: self.instances.count(Role::Starting),
            learned: self.learning.times(),
        }
    }

    /// Keeps a decision and tells it.
    pub(super) fn explain(&mut self, kind: Kind, instances: Vec<String>, count: usize, reason: String) {
        self.explain_launch(kind, instances, count, reason, None);
    }

    pub(super) fn explain_launch(
        &mut self,
        kind: Kind,
        instances: Vec<String>,
        count: usize,
        reason: String,
        token: Option<String>,
    ) {
        self.event_log.record(self.now, kind.name(), reason.clone());
        let at_ms = unix_ms(self.rules.started_at, self.now);
        let inputs = self.inputs();
        self.memory.keep(Decision { number: 0, at_ms, kind, instances, count, reason, inputs, token });
    }
}
