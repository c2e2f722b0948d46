//! The baseline: a control loop that tracks the backlog per instance, like cluster autoscalers.
//!
//! Every 30 seconds it reads the queue and the instances, and wants ⌈(visible + in flight) / 5⌉ instances, at most the
//! cap. It launches missing instances immediately. It scales in only to the maximum that any poll of the last 300
//! seconds wanted: it terminates the newest instances, each of which finishes its jobs first. These are the defaults of
//! KEDA: `pollingInterval` 30, `cooldownPeriod` 300, `queueLength` 5. The loop keeps no stopped instances, and retries
//! a failed launch at the next poll.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::{
    Time,
    controller::{Controller, Decision},
};
use rollcall_fleet::{Action, Cause, Event, Instance, InstanceId, InstanceState};

const POLL_INTERVAL: Duration = Duration::from_secs(30);
const COOLDOWN: Duration = Duration::from_secs(300);
const JOBS_PER_INSTANCE: u64 = 5;
/// A launched instance that is still not described after this long is assumed not to exist.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(60);

/// The control loop; see the module.
pub struct CooldownLoop {
    cap: usize,
    next_poll: Time,
    generation: u64,
    /// The answer to the last read of the queue, until a decision uses it.
    demand: Option<u64>,
    instances: Vec<Instance>,
    /// The number of instances wanted at each poll of the last [`COOLDOWN`].
    wanted: VecDeque<(Time, usize)>,
    launches: u64,
    /// Instances launched and not yet described, with the time until which they count.
    undescribed: BTreeMap<InstanceId, Time>,
}

impl CooldownLoop {
    /// Creates the loop. `cap` is the maximum number of instances.
    pub fn new(cap: usize) -> Self {
        Self {
            cap,
            next_poll: Time::ZERO,
            generation: 0,
            demand: None,
            instances: Vec::new(),
            wanted: VecDeque::new(),
            launches: 0,
            undescribed: BTreeMap::new(),
        }
    }

    fn actions(&mut self, event: Event, now: Time) -> Vec<Action> {
        match event {
            Event::Depth(Ok(depth)) => self.demand = Some(depth.total()),
            Event::Described { result: Ok(instances), .. } => {
                self.undescribed.retain(|id, until| *until > now && instances.iter().all(|i| i.id != *id));
                self.instances = instances;
                return self.decide(now);
            }
            Event::Launched { result: Ok(ids), .. } => {
                self.undescribed.extend(ids.into_iter().map(|id| (id, now + LAUNCH_TIMEOUT)));
            }
            _ => {}
        }
        if now < self.next_poll {
            return Vec::new();
        }
        self.next_poll = now + POLL_INTERVAL;
        self.generation += 1;
        vec![Action::ReadDepth, Action::Describe { generation: self.generation }]
    }

    /// Decides once both answers of a poll have arrived.
    fn decide(&mut self, now: Time) -> Vec<Action> {
        let Some(demand) = self.demand.take() else { return Vec::new() };
        let wanted = usize::try_from(demand.div_ceil(JOBS_PER_INSTANCE)).unwrap_or(usize::MAX).min(self.cap);
        self.wanted.push_back((now, wanted));
        while self.wanted.front().is_some_and(|(at, _)| *at + COOLDOWN < now) {
            self.wanted.pop_front();
        }
        let target = self.wanted.iter().map(|(_, n)| *n).max().unwrap_or(0);
        let up = |i: &&Instance| matches!(i.state, InstanceState::Pending | InstanceState::Running);
        let mut live: Vec<&InstanceId> = self.instances.iter().filter(up).map(|i| &i.id).collect();
        let count = live.len() + self.undescribed.len();
        if target > count {
            self.launches += 1;
            return vec![Action::Launch { token: format!("loop-{}", self.launches), count: target - count }];
        }
        live.sort_unstable();
        let ids: Vec<InstanceId> = live.into_iter().rev().take(count - target).cloned().collect();
        if ids.is_empty() { Vec::new() } else { vec![Action::Terminate { ids, cause: Cause::Sweep }] }
    }
}

impl Controller for CooldownLoop {
    fn step(&mut self, event: Event, now: Time) -> Decision {
        let actions = self.actions(event, now);
        Decision { actions, wake_at: Some(self.next_poll) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollcall_fleet::Depth;

    /// The loop on a cloud that answers immediately, with the launched and terminated instances.
    struct Cluster {
        control: CooldownLoop,
        live: Vec<InstanceId>,
        created: usize,
    }

    impl Cluster {
        fn new(cap: usize) -> Self {
            Self { control: CooldownLoop::new(cap), live: Vec::new(), created: 0 }
        }

        /// Polls at `at` seconds with this number of jobs, and returns the resulting number of instances.
        fn poll(&mut self, at: u64, jobs: u64) -> usize {
            let now = Time::from_secs(at);
            let poll = self.control.step(Event::Tick, now);
            assert!(matches!(poll.actions[..], [Action::ReadDepth, Action::Describe { .. }]), "at {at}: {poll:?}");
            assert_eq!(poll.wake_at, Some(now + POLL_INTERVAL));
            let depth = Depth { visible: jobs / 2, in_flight: jobs - jobs / 2, delayed: 0 };
            assert_eq!(self.control.step(Event::Depth(Ok(depth)), now).actions, []);
            let described = self.live.iter().map(|id| instance(id, InstanceState::Running)).collect();
            for action in self.control.step(Event::Described { generation: 0, result: Ok(described) }, now).actions {
                match action {
                    Action::Launch { token, count } => {
                        assert!(count > 0, "at {at}");
                        let ids: Vec<_> = (self.created..self.created + count).map(id).collect();
                        self.created += count;
                        self.live.extend(ids.clone());
                        self.control.step(Event::Launched { token, result: Ok(ids) }, now);
                    }
                    Action::Terminate { ids, .. } => self.live.retain(|id| !ids.contains(id)),
                    other => panic!("{other:?}"),
                }
            }
            self.live.len()
        }
    }

    fn id(n: usize) -> InstanceId {
        InstanceId(format!("i-{n:03}"))
    }

    fn instance(id: &InstanceId, state: InstanceState) -> Instance {
        Instance {
            id: id.clone(),
            name: String::new(),
            state,
            token: String::new(),
            pid: None,
            reason: None,
            unresponsive: false,
            outdated: false,
            came_up: None,
        }
    }

    #[test]
    fn the_loop_wants_one_instance_per_five_jobs_up_to_the_cap() {
        for (jobs, instances) in [(0, 0), (1, 1), (5, 1), (6, 2), (35, 7), (36, 7), (1000, 7)] {
            assert_eq!(Cluster::new(7).poll(0, jobs), instances, "{jobs} jobs");
        }
    }

    #[test]
    fn the_loop_scales_out_at_once_and_in_after_the_cooldown_newest_first() {
        let mut cluster = Cluster::new(20);
        assert_eq!(cluster.poll(0, 20), 4);
        assert_eq!(cluster.poll(30, 50), 10);
        let after: Vec<usize> = (2..=12).map(|n| cluster.poll(30 * n, 15)).collect();
        assert_eq!(after, [10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 3], "ten wanted at 30 s hold until 330 s");
        assert_eq!(cluster.live, [id(0), id(1), id(2)]);
    }

    #[test]
    fn instances_that_are_not_described_yet_count_for_a_minute() {
        let mut control = CooldownLoop::new(20);
        let mut launched = |at: u64| {
            let now = Time::from_secs(at);
            control.step(Event::Tick, now);
            control.step(Event::Depth(Ok(Depth { visible: 10, in_flight: 0, delayed: 0 })), now);
            let decision = control.step(Event::Described { generation: 0, result: Ok(Vec::new()) }, now);
            let [Action::Launch { token, count }] = &decision.actions[..] else { return 0 };
            control.step(Event::Launched { token: token.clone(), result: Ok((0..*count).map(id).collect()) }, now);
            *count
        };
        assert_eq!([0, 30, 60].map(&mut launched), [2, 0, 2]);
    }

    #[test]
    fn a_failed_launch_is_retried_at_the_next_poll_and_stopped_instances_do_not_count() {
        let mut control = CooldownLoop::new(20);
        for poll in 0..2 {
            let now = POLL_INTERVAL * poll;
            control.step(Event::Tick, now);
            control.step(Event::Depth(Ok(Depth { visible: 3, in_flight: 0, delayed: 0 })), now);
            let described = vec![instance(&id(0), InstanceState::Stopped)];
            let decision = control.step(Event::Described { generation: 0, result: Ok(described) }, now);
            assert!(matches!(decision.actions[..], [Action::Launch { count: 1, .. }]), "{decision:?}");
            let Some(Action::Launch { token, .. }) = decision.actions.into_iter().next() else { continue };
            control.step(Event::Launched { token, result: Err(rollcall_fleet::CloudError::Throttled) }, now);
        }
    }
}
