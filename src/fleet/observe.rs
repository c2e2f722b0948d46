//! Taking in what the cloud shows, and what workers say.

use super::{
    Time,
    calls::LOST,
    explain::Kind,
    instance::{Instance, InstanceId, InstanceState},
    instances::{Boot, Key, MISSED, Role, Slot},
    state::FleetCore,
};

/// A start has come to nothing when so many later descriptions still show the instance stopped.
const STILL_STOPPED: u32 = 3;

impl FleetCore {
    /// A worker has finished jobs: that is how long they take, and a sign of life.
    pub(super) fn served(&mut self, worker: &InstanceId, jobs: u64, busy: Time) {
        self.learning.served(jobs, busy);
        let now = self.now;
        if let Some(key) = self.instances.key(worker) {
            self.instances.update(key, |slot| slot.heard = now);
        }
    }

    /// A description that was asked for at `asked`.
    pub(super) fn observe(&mut self, asked: Time, described: Vec<Instance>) {
        let number = self.generation;
        let shown = described.len();
        let known = self.instances.len();
        let mut new = 0;
        for (key, instance) in self.instances.compare(number, described) {
            match key {
                Some(key) => self.observe_known(asked, number, key, instance),
                None => {
                    new += 1;
                    self.observe_new(number, instance);
                }
            }
        }
        if shown - new < known {
            self.miss(asked, number);
        }
        self.drop_doubts(asked);
        self.launches.settle();
        self.described_at = Some(asked);
        if self.quota.is_some_and(|(_, until)| until <= self.now) {
            self.quota = None;
        }
    }

    fn observe_new(&mut self, number: u64, instance: Instance) {
        // With no launch of that token it comes from an earlier life of the controller, and is ours all the same.
        let boot = self.launches.0.get_mut(&instance.token).map(|launch| {
            launch.saw(&instance.id);
            (Boot::Cold, launch.asked)
        });
        self.orphaned.remove(&instance.id);
        let slot = Slot {
            since: self.now,
            shown: number,
            missed: None,
            boot,
            start: None,
            termination: None,
            heard: Time::ZERO,
            failed_starts: 0,
            start_after: Time::ZERO,
            doubt: Time::ZERO,
            instance,
        };
        self.tell_change(None, &slot.instance);
        let key = self.instances.add(slot);
        self.learn_boot(key);
    }

    fn observe_known(&mut self, asked: Time, number: u64, key: Key, instance: Instance) {
        let now = self.now;
        let (state, before) = (instance.state, self.instances.slot(key).instance.state);
        let wanted = self.instances.slot(key).termination.is_some();
        if state != before {
            self.tell_change(Some(before), &instance);
            self.learn_stop(key, before, state);
        }
        let mut came_to_nothing = false;
        let mut ended = None;
        self.instances.update(key, |slot| {
            let back = slot.missed.take().is_some();
            slot.shown = number;
            if state != before {
                slot.since = now;
            }
            match (&mut slot.start, state) {
                (Some(start), InstanceState::Stopped) => {
                    if start.calling.is_none() && start.answered.is_some_and(|at| at < asked) {
                        start.still_stopped += 1;
                    }
                    came_to_nothing = start.still_stopped >= STILL_STOPPED;
                }
                (start, _) => *start = None, // it shows
            }
            // Somebody has started what was to be terminated: it may be at work.
            if state == InstanceState::Running && slot.termination.is_some_and(|t| !t.though_running) {
                slot.termination = None;
            }
            if state != before || back {
                ended = ended_by_itself(before, state).filter(|_| !wanted && state != before);
            }
            slot.instance = instance;
        });
        // Only when the cloud has had time to show a start is it sure to have come to nothing.
        let sure = self.instances.slot(key).start.and_then(|s| s.answered);
        if came_to_nothing && sure.is_some_and(|at| at + self.rules.describe_lag <= asked) {
            self.start_failed(key);
        }
        self.learn_boot(key);
        if let Some(kind) = ended {
            self.explain_end(key, kind);
        }
    }

    fn explain_end(&mut self, key: Key, kind: Kind) {
        let instance = &self.instances.slot(key).instance;
        let (id, name) = (instance.id.0.clone(), instance.name.clone());
        let cloud = instance.reason.as_ref().map_or_else(String::new, |r| format!(" ({r})"));
        let reason = match kind {
            Kind::Stop => {
                let idle = humantime::format_duration(self.rules.idle_stop);
                format!("{name} stopped{cloud}: a worker stops itself after {idle} without a job (worker.idle_stop)")
            }
            _ => format!("{name} ended without being asked{cloud}"),
        };
        self.explain(kind, vec![id], 1, reason);
    }

    /// Known instances that were not shown. A list may lag, so they keep their places under the cap for a while.
    fn miss(&mut self, asked: Time, number: u64) {
        for key in self.instances.not_shown(number) {
            self.instances.update(key, |slot| {
                let (times, first) = slot.missed.unwrap_or((0, asked));
                slot.missed = Some((times + 1, first));
            });
            let slot = self.instances.slot(key);
            let Some((times, first)) = slot.missed else { continue };
            if times >= MISSED && first + self.rules.describe_lag <= asked {
                let instance = slot.instance.clone();
                self.instances.forget(key);
                if instance.state.counts() {
                    let text = format!("{} is not shown by the cloud any more", instance.name);
                    self.explain(Kind::Lost, vec![instance.id.0], 1, text);
                }
            }
        }
    }

    /// Launches that were refused after an answer had been lost: they have come to nothing when the cloud has had time to
    /// show them.
    fn drop_doubts(&mut self, asked: Time) {
        let patience = LOST.max(self.rules.describe_lag);
        self.launches.0.retain(|_, launch| !(launch.abandoned && launch.doubt.is_none_or(|at| at + patience <= asked)));
    }

    fn learn_boot(&mut self, key: Key) {
        let slot = self.instances.slot(key);
        let Some((kind, asked)) = slot.boot else { return };
        match slot.instance.state {
            InstanceState::Pending | InstanceState::Stopped if slot.role() != Role::Missing => {}
            InstanceState::Running => {
                self.learning.booted(kind, self.now.saturating_sub(asked));
                self.instances.update(key, |slot| (slot.boot, slot.failed_starts) = (None, 0));
            }
            _ => self.instances.update(key, |slot| slot.boot = None),
        }
    }

    fn learn_stop(&mut self, key: Key, before: InstanceState, state: InstanceState) {
        if (before, state) == (InstanceState::Stopping, InstanceState::Stopped) {
            self.learning.stopped(self.now.saturating_sub(self.instances.slot(key).since));
        }
    }

    fn tell_change(&mut self, before: Option<InstanceState>, instance: &Instance) {
        let word = |state: InstanceState| format!("{state:?}").to_lowercase();
        let from = before.map_or_else(String::new, |old| format!("{} → ", word(old)));
        let reason = instance.reason.as_ref().map_or_else(String::new, |r| format!(" ({r})"));
        self.event_log.record(self.now, "state", format!("{} {from}{}{reason}", instance.name, word(instance.state)));
    }
}

/// What an instance did that nobody here had asked for.
fn ended_by_itself(before: InstanceState, now: InstanceState) -> Option<Kind> {
    use InstanceState::{Pending, Running, ShuttingDown, Stopped, Stopping, Terminated};
    match (before, now) {
        (Pending | Running, Stopping | Stopped) => Some(Kind::Stop),
        (Pending | Running | Stopping | Stopped, ShuttingDown | Terminated) => Some(Kind::Lost),
        _ => None,
    }
}
