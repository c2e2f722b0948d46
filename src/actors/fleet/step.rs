//! Event and time in, actions out.

use std::collections::BTreeSet;

use super::{
    Time,
    action::{Action, Cause},
    event::Event,
    intents::{Launch, Start},
    state::{Call, FleetCore},
};
use crate::cloud::{InstanceId, InstanceState};

/// Shortest time between two calls of one kind, whatever happens.
const GAP: Time = Time::from_millis(50);
/// A call that is not answered within this is taken for lost.
const LOST: Time = Time::from_secs(30);

impl Call {
    /// Whether to call now.
    fn ready(&self, now: Time) -> bool {
        let free = self.asked.is_none_or(|asked| asked + LOST <= now);
        free && self.due <= now && self.last.is_none_or(|last| last + GAP <= now)
    }

    fn ask(&mut self, now: Time, every: Time) {
        *self = Self { asked: Some(now), due: now + every, last: Some(now) };
    }

    /// When [`Self::ready`] will be true if nothing else happens.
    fn deadline(&self) -> Time {
        let free = self.asked.map_or(Time::ZERO, |asked| asked + LOST);
        self.due.max(free).max(self.last.map_or(Time::ZERO, |last| last + GAP))
    }
}

impl FleetCore {
    /// Takes in an event and decides. `now` never goes back.
    pub fn step(&mut self, event: Event, now: Time) -> Vec<Action> {
        self.now = now.max(self.now);
        match event {
            Event::Tick => {}
            Event::Hint { waiting } => self.hint = Some((self.now, waiting)),
            Event::Served { .. } => {}
            Event::Changed => self.describe_call.due = self.now,
            Event::Depth(result) => {
                let asked = self.depth_call.asked.take().unwrap_or(self.now);
                match result {
                    Ok(depth) => (self.depth, self.depth_at) = (depth, asked),
                    Err(error) => self.story.tell(self.now, "error", format!("queue depth not read: {error}")),
                }
            }
            Event::Described { generation, result } => {
                // An answer to an older question, overtaken by a newer one, is no news.
                if generation == self.generation
                    && let Some(asked) = self.describe_call.asked.take()
                {
                    match result {
                        Ok(instances) => self.observe(asked, instances),
                        Err(error) => self.story.tell(self.now, "error", format!("instances not described: {error}")),
                    }
                }
            }
            Event::Launched { token, result } => {
                self.launched(&token, result);
                self.describe_call.due = self.now;
            }
            Event::Started { results } => {
                self.started(results);
                self.describe_call.due = self.now;
            }
            Event::Terminated { results } => {
                self.terminated(results);
                self.describe_call.due = self.now;
            }
        }
        self.decide()
    }

    fn decide(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.depth_call.ready(self.now) {
            self.depth_call.ask(self.now, self.rules.poll_every);
            actions.push(Action::ReadDepth);
        }
        if self.described {
            self.give_up_lost(&mut actions);
            self.retry(&mut actions);
            self.sweep(&mut actions);
            self.grow(&mut actions);
        }
        if self.describe_call.ready(self.now) {
            self.describe_call.ask(self.now, self.rules.describe_every);
            self.generation += 1;
            actions.push(Action::Describe { generation: self.generation });
        }
        actions
    }

    /// Terminates what did not boot, and forgets launched instances that never showed.
    fn give_up_lost(&mut self, actions: &mut Vec<Action>) {
        let timeout = self.rules.boot_timeout;
        let mut ids = if self.terminate_after <= self.now { self.overdue() } else { Vec::new() };
        self.intents.launches.retain(|_, launch| {
            let given_up = launch.answered && launch.asked + timeout <= self.now;
            if given_up {
                ids.extend(launch.unseen.iter().cloned()); // should they exist after all
            }
            !given_up
        });
        self.intents.starts.retain(|_, start| start.calling || start.asked + timeout > self.now);
        if !ids.is_empty() {
            let text = format!("terminate {}: not ready after {} s", ids.len(), timeout.as_secs());
            self.story.tell(self.now, "terminate", text);
            self.terminate(ids, Cause::BootTimeout, actions);
        }
    }

    /// Calls again where the answer was lost: with the same token, so that nothing is launched twice.
    fn retry(&mut self, actions: &mut Vec<Action>) {
        let now = self.now;
        for (token, launch) in &mut self.intents.launches {
            if launch.retry_at.is_some_and(|at| at <= now) {
                (launch.retry_at, launch.calling) = (None, true);
                actions.push(Action::Launch { token: token.clone(), count: launch.count });
            }
        }
        let mut ids = Vec::new();
        for (id, start) in &mut self.intents.starts {
            if start.retry_at.is_some_and(|at| at <= now) {
                (start.retry_at, start.calling) = (None, true);
                ids.push(id.clone());
            }
        }
        if !ids.is_empty() {
            actions.push(Action::Start { ids });
        }
    }

    fn sweep(&mut self, actions: &mut Vec<Action>) {
        if self.now < self.next_sweep || self.now < self.terminate_after {
            return;
        }
        self.next_sweep = self.now + self.rules.sweep_every;
        let ids = self.sweepable();
        if !ids.is_empty() {
            let stopped = self.count(InstanceState::Stopped);
            let text = format!("terminate {} of {stopped} stopped, keep {}", ids.len(), self.rules.keep_stopped);
            self.story.tell(self.now, "sweep", text);
            self.launch_after = self.launch_after.max(self.now + self.rules.sweep_cooldown);
            self.terminate(ids, Cause::Sweep, actions);
        }
    }

    fn terminate(&mut self, ids: Vec<InstanceId>, cause: Cause, actions: &mut Vec<Action>) {
        self.intents.terminations.extend(ids.iter().map(|id| (id.clone(), self.now)));
        actions.push(Action::Terminate { ids, cause });
    }

    /// Starts stopped instances, then launches new ones, until there are as many as wanted or allowed.
    fn grow(&mut self, actions: &mut Vec<Action>) {
        let wanted = self.target().saturating_sub(self.serving());
        if wanted == 0 {
            return;
        }
        let known = self.numbers();
        let ids: Vec<InstanceId> = self.startable().into_iter().take(wanted).collect();
        let wanted = wanted - ids.len();
        if !ids.is_empty() {
            self.story.tell(self.now, "start", format!("start {}: {known}", ids.len()));
            let start = |id: &InstanceId| {
                let start = Start { asked: self.now, calling: true, retry_at: None, failures: 0, still_stopped: 0 };
                (id.clone(), start)
            };
            self.intents.starts.extend(ids.iter().map(start));
            actions.push(Action::Start { ids });
        }
        // A stopping instance takes its place under the cap: it will be startable soon.
        let room = self.cap().saturating_sub(self.live());
        let count = wanted.min(room);
        if count > 0 && self.now >= self.launch_after {
            self.story.tell(self.now, "launch", format!("launch {count}: {known}"));
            self.sequence += 1;
            let token = format!("{:x}-{:x}", self.epoch, self.sequence);
            let launch = Launch {
                count,
                asked: self.now,
                calling: true,
                retry_at: None,
                failures: 0,
                unseen: BTreeSet::new(),
                answered: false,
                seen: BTreeSet::new(),
            };
            self.intents.launches.insert(token.clone(), launch);
            self.launch_after = self.now + self.rules.launch_cooldown;
            actions.push(Action::Launch { token, count });
        }
    }

    /// What a decision was made on.
    fn numbers(&self) -> String {
        format!(
            "demand {}, cap {}, {} pending + {} running + {} asked for, {} stopping, {} stopped",
            self.demand(),
            self.cap(),
            self.count(InstanceState::Pending),
            self.count(InstanceState::Running),
            self.intents.launching() + self.starting(),
            self.count(InstanceState::Stopping),
            self.count(InstanceState::Stopped),
        )
    }

    /// When a tick is wanted if nothing else happens; always later than the last step.
    pub fn next_deadline(&self) -> Option<Time> {
        let launches = self.intents.launches.values();
        let booting = self.in_state(InstanceState::Pending).map(|(_, o)| o.since + self.rules.boot_timeout);
        let waits = [self.depth_call.deadline(), self.describe_call.deadline(), self.next_sweep]
            .into_iter()
            .chain((self.target() > self.serving()).then_some(self.launch_after))
            .chain(launches.clone().filter_map(|l| l.retry_at))
            .chain(launches.map(|l| l.asked + self.rules.boot_timeout))
            .chain(self.intents.starts.values().filter_map(|s| s.retry_at))
            .chain(booting);
        waits.filter(|at| *at > self.now).min()
    }
}
