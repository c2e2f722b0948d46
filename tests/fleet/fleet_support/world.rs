//! Simulates a small, faulty cloud on virtual time, generated from a seed. It drives a [`FleetCore`] and checks the
//! invariants after every event.

use std::time::Duration;

use rollcall::{
    cloud::{InstanceId, InstanceState},
    fleet::{Event, FleetCore, FleetRules, Policy, RememberedBoots, Timestamp, scheduled},
};

use super::{
    bugs::Bug,
    calls::Calls,
    cloud::Cloud,
    cluster::Cluster,
    environment::{Environment, Ms, WorldEvent},
    invariants::Invariants,
    plan::Plan,
};

/// A history that is not over by then is considered endless.
const LIMIT: Ms = 3_000_000;

/// What a controller received from its start to its end.
pub struct Recording {
    pub epoch: u64,
    pub rules: FleetRules,
    pub events: Vec<(Timestamp, Event)>,
    /// The controller at its end.
    pub core: FleetCore,
}

pub struct World {
    pub env: Environment,
    bug: Bug,
    pub cluster: Cluster,
    cloud: Cloud,
    pub calls: Calls,
    /// The controller's epoch; the first is 0.
    pub epoch: u64,
    /// What the controller that crashed had learned.
    learned: Option<String>,
    /// What the controller that crashed had counted.
    boots: Option<RememberedBoots>,
    pub core: Option<FleetCore>,
    pub started: Ms,
    pub wake_at: Option<Timestamp>,
    /// Number of steps of the core, over all epochs.
    steps: u32,
    invariants: Invariants,
    events: Vec<(Timestamp, Event)>,
    recordings: Vec<Recording>,
    recording: bool,
}

impl World {
    pub fn new(plan: Plan, bug: Bug) -> Self {
        let mut env = Environment::new(plan);
        for (at, jobs) in env.plan.arrivals.clone() {
            env.schedule(at, WorldEvent::Arrive { jobs });
        }
        for at in env.plan.crashes.clone() {
            env.schedule(at, WorldEvent::Crash);
        }
        env.schedule(0, WorldEvent::Start);
        Self {
            env,
            bug,
            cluster: Cluster::default(),
            cloud: Cloud::default(),
            calls: Calls::default(),
            epoch: 0,
            learned: None,
            boots: None,
            core: None,
            started: 0,
            wake_at: None,
            steps: 0,
            invariants: Invariants::default(),
            events: Vec::new(),
            recordings: Vec::new(),
            recording: false,
        }
    }

    /// Enables the readable log.
    pub fn logged(mut self) -> Self {
        self.env.log = Some(Vec::new());
        self
    }

    /// Runs to the end, or to the first violated invariant.
    pub fn run(&mut self) -> Result<(), String> {
        while !self.is_finished() {
            if self.env.now > LIMIT {
                return Err(Invariants::never_ends(self));
            }
            let wake = self.wake();
            self.probe(wake);
            match (self.env.next_at(), wake) {
                (Some(at), wake) if wake.is_none_or(|wake| at <= wake) => {
                    let Some(what) = self.env.next() else { continue };
                    self.apply(what);
                }
                (_, Some(wake)) => {
                    self.env.now = wake;
                    self.deliver(Event::Tick);
                }
                (_, None) => return Err(Invariants::never_ends(self)),
            }
            let mut invariants = std::mem::take(&mut self.invariants);
            let checked = invariants.check(self);
            self.invariants = invariants;
            checked?;
        }
        Ok(())
    }

    /// Runs to the end and returns what each controller received.
    pub fn record(mut self) -> Vec<Recording> {
        self.recording = true;
        self.run().expect("every invariant holds");
        self.end_recording();
        self.recordings
    }

    /// Returns whether everything planned has happened, every job is done, and the fleet is at rest.
    fn is_finished(&self) -> bool {
        let rules = &self.env.plan.rules;
        let clock = self.env.plan.rules.started_at + Duration::from_millis(self.env.now);
        self.env.next_at().is_none()
            && self.env.now >= self.env.plan.faults_end
            && scheduled(&rules.schedule, clock) == 0
            && self.cluster.at_rest(&self.env)
            && self.core.as_ref().is_some_and(|core| {
                let kept = core.learned_thresholds().map_or(rules.keep_stopped, |learned| learned.kept);
                core.demand() == 0 && self.cluster.stopped() <= kept
            })
    }

    /// Returns when the controller must be woken.
    fn wake(&self) -> Option<Ms> {
        self.core.as_ref()?;
        let wake_at = self.started + millis(self.wake_at?);
        Some(wake_at.max(self.env.now))
    }

    /// Steps a copy of the controller just before the next event or wake-up, and checks that it takes no action: it
    /// must have asked to be woken when time alone changes its decision. Sampled every 16 ms. Skipped for the policies deadline
    /// and adaptive, whose forecasts change continuously and are used at the next event.
    fn probe(&mut self, wake: Option<Ms>) {
        let Some(core) =
            self.core.as_ref().filter(|core| !matches!(core.rules().policy, Policy::Deadline | Policy::Adaptive))
        else {
            return;
        };
        let Some(next) = [self.env.next_at(), wake].into_iter().flatten().min() else { return };
        if next > self.env.now + 1 && self.env.now.is_multiple_of(16) {
            let at = Timestamp::new(Duration::from_millis(next - 1 - self.started));
            self.invariants.probed(at, &core.clone().step(Event::Tick, at));
        }
    }

    /// Steps the controller, and makes the calls that it requests.
    fn deliver(&mut self, event: Event) {
        let now = Timestamp::new(Duration::from_millis(self.env.now - self.started));
        let Some(core) = &mut self.core else { return };
        let shown = shown_running(&event);
        let event = self.bug.event(event);
        self.env.log_line(|| format!("event {}", brief(&event)));
        if self.recording {
            self.events.push((now, event.clone()));
        }
        let step = core.step(event, now);
        self.invariants.stepped(now, &step);
        if let Some(since) = core.degraded().map(|degraded| self.started + millis(degraded.since)) {
            self.env.count("degraded");
            self.invariants.degraded(since, &shown, &self.cluster, &self.env);
        }
        self.wake_at = self.bug.wake_at(step.wake_at);
        for action in self.bug.actions(step.actions, self.steps) {
            self.env.log_line(|| format!("  action {action:?}"));
            self.invariants.called(self.epoch, &action, &mut self.env);
            self.calls.make(self.epoch, action, &self.cloud, &mut self.env);
        }
        self.steps += 1;
        if self.env.plan.crash_steps.contains(&self.steps) {
            self.crash();
        }
    }

    fn start(&mut self) {
        let mut rules = self.bug.rules(&self.env.plan.rules);
        rules.started_at += Duration::from_millis(self.env.now);
        self.started = self.env.now;
        self.core = Some(FleetCore::new(rules, self.epoch));
        if let Some(mut state) = self.learned.take() {
            self.env.count("restored");
            if self.env.plan.damages_learned {
                self.env.count("damaged state");
                state = damaged(&state);
            }
            self.deliver(Event::Restored { state });
        }
        if let Some(boots) = self.boots.take() {
            self.env.count("boots restored");
            self.deliver(Event::BootsRestored { boots });
        }
        self.deliver(Event::Tick);
    }

    fn crash(&mut self) {
        let Some(core) = &self.core else { return };
        self.learned = core.learned_state().map(|(_, state)| state);
        self.boots = core.remembered_boots();
        self.env.count("crash");
        self.env.log_line(|| "the controller crashes".to_owned());
        self.end_recording();
        self.core = None;
        self.epoch += 1;
        let delay = self.env.rng.below(3000);
        self.env.schedule(delay, WorldEvent::Start);
    }

    fn end_recording(&mut self) {
        if let Some(core) = self.core.clone().filter(|_| self.recording) {
            let (rules, events) = (core.rules().clone(), std::mem::take(&mut self.events));
            self.recordings.push(Recording { epoch: self.epoch, rules, events, core });
        }
    }

    fn apply(&mut self, what: WorldEvent) {
        let (cluster, env) = (&mut self.cluster, &mut self.env);
        match what {
            WorldEvent::Arrive { jobs } => cluster.arrive(jobs, env),
            WorldEvent::Apply { call } => self.calls.apply(call, &mut self.cloud, cluster, env),
            WorldEvent::Respond { call } => env.outbox.extend(self.calls.answer(call, self.epoch)),
            WorldEvent::Up { machine, boot } => cluster.up(machine, boot, env),
            WorldEvent::Finish { machine, boot } => cluster.finish(machine, boot, env),
            WorldEvent::Idle { machine, boot } => cluster.idle(machine, boot, env),
            WorldEvent::Down { machine, boot } => cluster.down(machine, boot, env),
            WorldEvent::Gone { machine } => cluster.gone(machine, env),
            WorldEvent::PowerOff { machine, boot } => cluster.power_off(machine, boot, env),
            WorldEvent::Vanish { machine } => cluster.vanish(machine, env),
            WorldEvent::Crash => self.crash(),
            WorldEvent::Start => self.start(),
        }
        for event in std::mem::take(&mut self.env.outbox) {
            self.deliver(event);
        }
    }
}

/// Returns the ids of the instances that a description shows as running.
fn shown_running(event: &Event) -> Vec<InstanceId> {
    let Event::Described { result: Ok(instances), .. } = event else { return Vec::new() };
    let running = instances.iter().filter(|instance| instance.state == InstanceState::Running);
    running.map(|instance| instance.id.clone()).collect()
}

/// Returns the time since the controller's start, rounded up.
pub fn millis(at: Timestamp) -> Ms {
    at.since_start().as_nanos().div_ceil(1_000_000) as Ms
}

fn brief(event: &Event) -> String {
    match event {
        Event::Described { result: Ok(instances), .. } => {
            let states: Vec<String> = instances.iter().map(|i| format!("{} {:?}", i.id, i.state)).collect();
            format!("Described {states:?}")
        }
        event => format!("{event:?}"),
    }
}

/// Returns what a controller has learned, with thresholds that do not exist.
fn damaged(state: &str) -> String {
    let (before, rest) = state.split_once("\"point\":[").expect("thresholds");
    let (_, after) = rest.split_once(']').expect("a list");
    format!("{before}\"point\":[200,200,200,200,200,200,200]{after}")
}
