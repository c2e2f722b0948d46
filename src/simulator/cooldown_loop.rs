//! The yardstick: a control loop that tracks a backlog per instance, as autoscalers of clusters do it.
//!
//! Every 30 seconds it reads the queue and the instances. Wanted are ⌈(visible + in flight) / 5⌉, at least one while
//! there is demand, at most the cap. More are launched at once. Fewer only down to the most that any poll of the last 300
//! seconds wanted: what is above that is terminated, newest first, each after the job it has.
//! The numbers are the defaults of KEDA: `pollingInterval` 30, `cooldownPeriod` 300, `queueLength` 5. It keeps no stopped
//! instances, and gives a launch that failed another try at the next poll.

use std::collections::{BTreeMap, VecDeque};

use super::{Time, controller::Controller};
use crate::fleet::{Action, Cause, Event, Instance, InstanceId, InstanceState, Step, Timestamp};

const POLL: Time = Time::from_secs(30);
const COOLDOWN: Time = Time::from_secs(300);
const JOBS_PER_INSTANCE: u64 = 5;

/// See the module.
pub struct CooldownLoop {
    cap: usize,
    next_poll: Time,
    generation: u64,
    demand: Option<u64>,
    instances: Vec<Instance>,
    /// Wanted at each poll of the last [`COOLDOWN`].
    wanted: VecDeque<(Time, usize)>,
    launches: u64,
    /// Launched and not described yet, until when that is believed.
    unseen: BTreeMap<InstanceId, Time>,
}

impl CooldownLoop {
    pub fn new(cap: usize) -> Self {
        Self {
            cap,
            next_poll: Time::ZERO,
            generation: 0,
            demand: None,
            instances: Vec::new(),
            wanted: VecDeque::new(),
            launches: 0,
            unseen: BTreeMap::new(),
        }
    }

    fn act(&mut self, event: Event, now: Time) -> Vec<Action> {
        match event {
            Event::Depth(Ok(depth)) => self.demand = Some(depth.total()),
            Event::Described { result: Ok(instances), .. } => {
                self.unseen.retain(|id, until| *until > now && instances.iter().all(|i| i.id != *id));
                self.instances = instances;
                return self.decide(now);
            }
            Event::Launched { result: Ok(ids), .. } => {
                self.unseen.extend(ids.into_iter().map(|id| (id, now + POLL * 2)))
            }
            _ => {}
        }
        if now < self.next_poll {
            return Vec::new();
        }
        self.next_poll = now + POLL;
        self.generation += 1;
        vec![Action::ReadDepth, Action::Describe { generation: self.generation }]
    }

    /// After both answers of a poll.
    fn decide(&mut self, now: Time) -> Vec<Action> {
        let Some(demand) = self.demand.take() else { return Vec::new() };
        let desired = usize::try_from(demand.div_ceil(JOBS_PER_INSTANCE)).unwrap_or(usize::MAX).min(self.cap);
        self.wanted.push_back((now, desired));
        while self.wanted.front().is_some_and(|(at, _)| *at + COOLDOWN < now) {
            self.wanted.pop_front();
        }
        let target = self.wanted.iter().map(|(_, n)| *n).max().unwrap_or(0);
        let up = |i: &&Instance| matches!(i.state, InstanceState::Pending | InstanceState::Running);
        let mut live: Vec<&InstanceId> = self.instances.iter().filter(up).map(|i| &i.id).collect();
        let have = live.len() + self.unseen.len();
        if target > have {
            self.launches += 1;
            return vec![Action::Launch { token: format!("loop-{}", self.launches), count: target - have }];
        }
        live.sort_unstable();
        let ids: Vec<InstanceId> = live.into_iter().rev().take(have - target).cloned().collect();
        if ids.is_empty() { Vec::new() } else { vec![Action::Terminate { ids, cause: Cause::Sweep }] }
    }
}

impl Controller for CooldownLoop {
    fn step(&mut self, event: Event, now: Time) -> Step {
        let actions = self.act(event, now);
        Step { actions, wake_at: Some(Timestamp::new(self.next_poll)) }
    }
}
