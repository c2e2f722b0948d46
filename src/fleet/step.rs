//! Event and time in, actions out.

use super::policy::Policy;
use super::{Time, action::Action, calls::LOST, event::Event, instances::Role, policy, state::FleetCore};

impl FleetCore {
    /// Takes in an event and decides. `now` never goes back.
    pub fn step(&mut self, event: Event, now: Time) -> Vec<Action> {
        self.now = now.max(self.now);
        match event {
            Event::Tick => {}
            Event::Hint { waiting } => self.demand.hinted(self.now, waiting),
            Event::Served { worker, jobs, busy } => self.served(&worker, jobs, busy),
            Event::Changed => self.look_again(),
            Event::Depth(result) => {
                let asked = self.depth_call.asked.take().unwrap_or(self.now);
                match result {
                    Ok(depth) => self.demand.read(asked, depth, self.now),
                    Err(error) => self.event_log.record(self.now, "error", format!("queue depth not read: {error}")),
                }
            }
            Event::Described { generation, result } => {
                // An answer to an older question, overtaken by a newer one, is no news.
                if generation == self.generation
                    && let Some(asked) = self.describe_call.asked.take()
                {
                    match result {
                        Ok(instances) => self.observe(asked, instances),
                        Err(error) => {
                            self.event_log.record(self.now, "error", format!("instances not described: {error}"))
                        }
                    }
                }
            }
            Event::Launched { token, result } => {
                self.launched(&token, result);
                self.look_again();
            }
            Event::Started { results } => {
                self.started(results);
                self.look_again();
            }
            Event::Terminated { results } => {
                self.terminated(results);
                self.look_again();
            }
        }
        self.decide()
    }

    /// Describes as soon as may be.
    fn look_again(&mut self) {
        self.describe_call.due = self.now;
    }

    fn decide(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.depth_call.ready(self.now) {
            self.depth_call.ask(self.now, self.rules.poll_every);
            actions.push(Action::ReadDepth);
        }
        let known = self.known();
        self.target = policy::target(&known, &self.rules);
        if self.described_at.is_some() {
            self.time_out();
            self.retry_launches(&mut actions);
            self.retry_starts(&mut actions);
            self.terminate(&mut actions);
            self.grow(&mut actions);
        }
        if self.describe_call.ready(self.now) {
            self.describe_call.ask(self.now, self.describe_every());
            self.generation += 1;
            actions.push(Action::Describe { generation: self.generation });
        }
        actions
    }

    /// Until it is settled, the first launch waits for a description that was asked for late enough.
    fn describe_every(&self) -> Time {
        let every = self.rules.describe_every;
        match self.rules.describe_lag.checked_sub(self.now) {
            Some(left) if !left.is_zero() => left.min(every),
            _ => every,
        }
    }

    /// When a tick is wanted if nothing else happens; always later than the last step. What is decided on the evidence of
    /// a description or a reading needs none: the answer is an event.
    pub fn next_deadline(&self) -> Option<Time> {
        let (rules, turns, instances) = (&self.rules, &self.turns, &self.instances);
        let first = |role: Role| instances.of(role).next().map(|(since, _)| since);
        let launches = self.launches.0.values();
        let short = self.target > self.serving();

        let launch = launches
            .clone()
            .filter_map(|l| l.retry_at)
            .chain(short.then_some(turns.launch_after))
            .map(|at| at.max(turns.launch.next()));
        let lost = launches.filter_map(|l| l.calling.map(|since| since + LOST));
        let start = instances
            .of(Role::Starting)
            .filter_map(|(_, key)| instances.slot(key).start?.due())
            .chain(short.then_some(Time::ZERO))
            .map(|at| at.max(turns.start.next()));
        let overdue = first(Role::Starting).map(|asked| asked + rules.boot_timeout);
        let terminate = first(Role::Terminating)
            .into_iter()
            .chain(self.orphaned.values().copied())
            .chain([turns.next_sweep])
            .map(|at| at.max(turns.terminate.next()).max(turns.terminate_after));
        let windows = (rules.policy == Policy::Backlog).then(|| self.demand.changes_at());

        let waits = [self.depth_call.deadline(), self.describe_call.deadline()]
            .into_iter()
            .chain(launch)
            .chain(lost)
            .chain(start)
            .chain(overdue)
            .chain(terminate)
            .chain(windows.into_iter().flatten());
        waits.filter(|at| *at > self.now).min()
    }
}
