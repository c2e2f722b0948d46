//! What the core knows.

use std::collections::BTreeMap;

use super::{
    Time,
    intents::Intents,
    policy::{self, Known, Learned},
    rules::FleetRules,
    story::Story,
    view::{Counts, FleetView, InstanceView, StoryLine},
};
use crate::cloud::{Depth, Instance, InstanceId, InstanceState};

/// How long a learned quota is believed before the configured cap is tried again.
pub(super) const QUOTA_MEMORY: Time = Time::from_secs(300);

/// An instance as last described.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub instance: Instance,
    /// When it was first seen in this state.
    pub since: Time,
    /// Descriptions in a row that did not show it.
    pub missed: u32,
}

/// A call of which at most one is under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Call {
    pub asked: Option<Time>,
    pub due: Time,
    pub last: Option<Time>,
}

/// The controller's state. See the module.
#[derive(Clone, Debug)]
pub struct FleetCore {
    pub(super) rules: FleetRules,
    pub(super) epoch: u64,
    pub(super) sequence: u64,
    pub(super) now: Time,
    pub(super) observed: BTreeMap<InstanceId, Observed>,
    pub(super) intents: Intents,
    /// Nothing is launched before the cloud has been seen once.
    pub(super) described: bool,
    pub(super) depth: Depth,
    /// When the depth that is known was asked for.
    pub(super) depth_at: Time,
    pub(super) hint: Option<(Time, u64)>,
    pub(super) depth_call: Call,
    pub(super) describe_call: Call,
    pub(super) generation: u64,
    pub(super) next_sweep: Time,
    /// No launch before: cooldowns, and pauses after failures.
    pub(super) launch_after: Time,
    pub(super) launch_failures: u32,
    /// No termination before: pauses after failures.
    pub(super) terminate_after: Time,
    /// A cap that the cloud has taught, and until when it is believed.
    pub(super) quota: Option<(usize, Time)>,
    pub(super) story: Story,
}

impl FleetCore {
    /// A controller that knows nothing yet. `epoch` makes its launch tokens differ from those of other lives.
    pub fn new(rules: FleetRules, epoch: u64) -> Self {
        let next_sweep = rules.sweep_every;
        Self {
            rules,
            epoch,
            sequence: 0,
            now: Time::ZERO,
            observed: BTreeMap::new(),
            intents: Intents::default(),
            described: false,
            depth: Depth::default(),
            depth_at: Time::ZERO,
            hint: None,
            depth_call: Call::default(),
            describe_call: Call::default(),
            generation: 0,
            next_sweep,
            launch_after: Time::ZERO,
            launch_failures: 0,
            terminate_after: Time::ZERO,
            quota: None,
            story: Story::default(),
        }
    }

    /// Jobs known to exist. A hint counts until a depth that was asked for later is known.
    pub fn demand(&self) -> u64 {
        let hint = self.hint.filter(|(at, _)| *at >= self.depth_at).map_or(0, |(_, waiting)| waiting);
        self.depth.total().max(hint)
    }

    /// The cap now: the configured one, or a lower one that the cloud has taught.
    pub fn cap(&self) -> usize {
        let quota = self.quota.filter(|(_, until)| *until > self.now).map_or(usize::MAX, |(cap, _)| cap);
        self.rules.max_instances.min(quota)
    }

    /// Instances wanted now.
    pub fn target(&self) -> usize {
        let (demand, rules) = (self.demand(), &self.rules);
        let known = Known {
            demand,
            low_demand: demand,
            high_demand: demand,
            previous: 0,
            cap: self.cap(),
            running: self.count(InstanceState::Running),
            booting: vec![],
            startable: self.startable().len(),
            learned: Learned { boot_cold: rules.boot_cold, boot_warm: rules.boot_warm, service: rules.service_time },
            clock: rules.started_at + self.now,
        };
        policy::target(&known, rules)
    }

    pub(super) fn in_state(&self, state: InstanceState) -> impl Iterator<Item = (&InstanceId, &Observed)> {
        self.observed.iter().filter(move |(_, o)| o.instance.state == state)
    }

    pub(super) fn count(&self, state: InstanceState) -> usize {
        self.in_state(state).count()
    }

    /// Stopped instances that could be started: no start or termination is under way.
    pub(super) fn startable(&self) -> Vec<InstanceId> {
        self.in_state(InstanceState::Stopped)
            .map(|(id, _)| id)
            .filter(|id| !self.intents.starts.contains_key(*id) && !self.intents.terminations.contains_key(*id))
            .cloned()
            .collect()
    }

    /// Starts whose instance is not observed pending or running yet.
    pub(super) fn starting(&self) -> usize {
        let up = |id| {
            let state = self.observed.get(id).map(|o: &Observed| o.instance.state);
            matches!(state, Some(InstanceState::Pending | InstanceState::Running))
        };
        self.intents.starts.keys().filter(|id| !up(id)).count()
    }

    /// Instances that work or soon will.
    pub(super) fn serving(&self) -> usize {
        let leaving = |id: &InstanceId| self.intents.terminations.contains_key(id);
        let booting = self.in_state(InstanceState::Pending).filter(|(id, _)| !leaving(id)).count();
        booting + self.count(InstanceState::Running) + self.intents.launching() + self.starting()
    }

    /// Instances that count against the cap, those that may exist included.
    pub(super) fn live(&self) -> usize {
        self.observed.values().filter(|o| o.instance.state.counts()).count() + self.intents.launching()
    }

    /// What is shown of the fleet; `epoch_ms` is `now` as milliseconds since the Unix epoch.
    pub fn view(&self, now: Time, epoch_ms: u64) -> FleetView {
        let ms = |at: Time| epoch_ms.saturating_sub(now.saturating_sub(at).as_millis() as u64);
        let mut instances: Vec<InstanceView> = self
            .observed
            .values()
            .map(|Observed { instance, since, .. }| InstanceView {
                id: instance.id.0.clone(),
                name: instance.name.clone(),
                state: instance.state,
                pid: instance.pid,
                since_ms: ms(*since),
                reason: instance.reason.clone(),
            })
            .collect();
        instances.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
        FleetView {
            at_ms: epoch_ms,
            max_instances: self.cap(),
            policy: self.rules.policy.name().to_owned(),
            depth: self.depth,
            demand: self.demand(),
            target: self.target(),
            intents: self.intents.launching() + self.starting(),
            counts: Counts {
                pending: self.count(InstanceState::Pending),
                running: self.count(InstanceState::Running),
                stopping: self.count(InstanceState::Stopping),
                stopped: self.count(InstanceState::Stopped),
                shutting_down: self.count(InstanceState::ShuttingDown),
                terminated: self.count(InstanceState::Terminated),
            },
            instances,
            story: self
                .story
                .lines()
                .map(|line| StoryLine { at_ms: ms(line.at), kind: line.kind.to_owned(), text: line.text.clone() })
                .collect(),
        }
    }
}
