//! A script for single situations: a cloud that answers reads at once, and whose instances a test sets.

use std::time::Duration;

use rollcall::{
    cloud::{CloudResult, Depth, Instance, InstanceId, InstanceState},
    fleet::{Action, BootOutcome, Cause, Event, FleetCore, FleetRules, Timestamp, view::FleetView},
    settings::Policy,
};

pub const SECOND: Duration = Duration::from_secs(1);

/// Returns rules under which nothing happens by itself: no timeout, sweep or cooldown that a test does not set.
pub fn rules() -> FleetRules {
    FleetRules {
        policy: Policy::OnePerJob,
        max_instances: 10,
        launch_cooldown: Duration::ZERO,
        sweep_every: 100_000 * SECOND,
        keep_stopped: 10,
        sweep_cooldown: Duration::ZERO,
        boot_timeout: 10_000 * SECOND,
        poll_every: SECOND,
        describe_every: SECOND,
        describe_lag: Duration::ZERO,
        silent_timeout: None,
        jobs_per_instance: 1,
        up_delay: Duration::ZERO,
        down_delay: Duration::ZERO,
        target_latency: 10 * SECOND,
        boot_cold: 25 * SECOND,
        boot_warm: 15 * SECOND,
        service_time: SECOND,
        billing_minimum: Duration::ZERO,
        schedule: Vec::new(),
        threads: 1,
        idle_stop: 5 * SECOND,
        wait_price: 0.1,
        target_wait: None,
        instance_hour: 0.01,
        disk_hour: 0.001,
        started_at: Duration::ZERO,
    }
}

pub fn id(name: &str) -> InstanceId {
    InstanceId(name.to_owned())
}

pub struct Script {
    pub core: FleetCore,
    now: Timestamp,
    wake_at: Option<Timestamp>,
    /// What a description shows.
    pub instances: Vec<Instance>,
    pub depth: Depth,
    /// Whether descriptions and readings of the queue are answered.
    pub answers: bool,
    /// Every call with the time at which it was made, in seconds.
    pub calls: Vec<(f64, Action)>,
    /// How boots have ended.
    pub boots: Vec<BootOutcome>,
}

impl Script {
    /// Creates a controller that has just started and has received nothing.
    pub fn new(rules: FleetRules) -> Self {
        Self {
            core: FleetCore::new(rules, 1),
            now: Timestamp::START,
            wake_at: Some(Timestamp::START),
            instances: Vec::new(),
            depth: Depth::default(),
            answers: true,
            calls: Vec::new(),
            boots: Vec::new(),
        }
    }

    /// Creates a controller that has just seen `states`, of instances `i-0`, `i-1` and so on.
    pub fn with(rules: FleetRules, states: &[InstanceState]) -> Self {
        let mut script = Self::new(rules);
        for (n, state) in states.iter().enumerate() {
            script.set(&format!("i-{n}"), *state, "");
        }
        script.run_for(0.0);
        script
    }

    pub fn now(&self) -> f64 {
        self.now.since_start().as_secs_f64()
    }

    pub fn view(&self) -> FleetView {
        FleetView::new(&self.core, self.now, 0)
    }

    /// Passes an event to the core now, and answers its reads.
    pub fn event(&mut self, event: Event) {
        let step = self.core.step(event, self.now);
        self.wake_at = step.wake_at;
        self.boots.extend(self.core.boot_outcomes());
        assert!(step.wake_at.is_none_or(|at| at > self.now), "{step:?} at {:?}", self.now);
        let at = self.now();
        self.calls.extend(step.actions.iter().map(|action| (at, action.clone())));
        for action in step.actions {
            match action {
                Action::ReadDepth if self.answers => self.event(Event::Depth(Ok(self.depth))),
                Action::Describe { generation } if self.answers => {
                    let result = Ok(self.instances.clone());
                    self.event(Event::Described { generation, result });
                }
                _ => {}
            }
        }
    }

    /// Advances the time, and wakes the core when it has requested it.
    pub fn run_until(&mut self, seconds: f64) {
        let end = Timestamp::new(Duration::from_secs_f64(seconds));
        while let Some(at) = self.wake_at.filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.event(Event::Tick);
        }
        self.now = end.max(self.now);
    }

    pub fn run_for(&mut self, seconds: f64) {
        self.run_until(self.now() + seconds);
    }

    fn set(&mut self, name: &str, state: InstanceState, token: &str) {
        match self.instances.iter_mut().find(|i| i.id.0 == name) {
            Some(instance) => instance.state = state,
            None => self.instances.push(Instance {
                id: id(name),
                name: name.to_owned(),
                state,
                token: token.to_owned(),
                pid: None,
                reason: None,
                unresponsive: false,
                outdated: false,
                came_up: None,
            }),
        }
    }

    /// Reports a change of the cloud, and advances the time until it is described.
    fn changed(&mut self) {
        self.event(Event::Changed);
        self.run_for(0.05);
    }

    /// Makes the cloud show an instance in `state` from now on.
    pub fn show(&mut self, name: &str, state: InstanceState) {
        self.show_launched(name, state, "");
    }

    /// Makes the cloud show an instance in `state`, which a launch with `token` created, from now on.
    pub fn show_launched(&mut self, name: &str, state: InstanceState, token: &str) {
        self.set(name, state, token);
        self.changed();
    }

    /// Makes the cloud show from now on that the boots of these instances have ended, in `state`, before their workers were
    /// ready.
    pub fn fail_boots(&mut self, names: &[&str], state: InstanceState) {
        for instance in self.instances.iter_mut().filter(|i| names.contains(&i.id.0.as_str())) {
            (instance.state, instance.came_up) = (state, Some(false));
        }
        self.changed();
    }

    /// Makes the cloud show from now on that the worker of a running instance responds or does not.
    pub fn respond(&mut self, name: &str, responds: bool) {
        let mut named = self.instances.iter_mut().filter(|i| i.id.0 == name);
        named.next().expect("an instance of this name").unresponsive = !responds;
        self.changed();
    }

    /// Makes the cloud show from now on that these instances were launched from an earlier version.
    pub fn outdate(&mut self, names: &[&str]) {
        for instance in self.instances.iter_mut().filter(|i| names.contains(&i.id.0.as_str())) {
            instance.outdated = true;
        }
        self.changed();
    }

    /// Makes the cloud no longer show an instance.
    pub fn hide(&mut self, name: &str) {
        self.instances.retain(|i| i.id.0 != name);
        self.changed();
    }

    /// Makes this many jobs wait in the queue from now on.
    pub fn jobs(&mut self, visible: u64) {
        self.depth = Depth { visible, ..Depth::default() };
        self.run_for(1.0);
    }

    pub fn launched(&mut self, token: &str, result: CloudResult<&[&str]>) {
        let result = result.map(|ids| ids.iter().map(|name| id(name)).collect());
        self.event(Event::Launched { token: token.to_owned(), result });
    }

    pub fn started(&mut self, name: &str, result: CloudResult<()>) {
        self.event(Event::Started { results: vec![(id(name), result)] });
    }

    pub fn terminated(&mut self, name: &str, result: CloudResult<()>) {
        self.event(Event::Terminated { results: vec![(id(name), result)] });
    }

    /// Returns the launches so far: when, token, count.
    pub fn launches(&self) -> Vec<(f64, &str, usize)> {
        let mut all = Vec::new();
        for (at, action) in &self.calls {
            if let Action::Launch { token, count } = action {
                all.push((*at, token.as_str(), *count));
            }
        }
        all
    }

    /// Returns the starts so far: when, and which instances.
    pub fn starts(&self) -> Vec<(f64, Vec<&str>)> {
        let mut all = Vec::new();
        for (at, action) in &self.calls {
            if let Action::Start { ids } = action {
                all.push((*at, ids.iter().map(|id| id.0.as_str()).collect()));
            }
        }
        all
    }

    /// Returns the terminations so far: when, why, and which instances.
    pub fn terminations(&self) -> Vec<(f64, Cause, Vec<&str>)> {
        let mut all = Vec::new();
        for (at, action) in &self.calls {
            if let Action::Terminate { ids, cause } = action {
                all.push((*at, *cause, ids.iter().map(|id| id.0.as_str()).collect()));
            }
        }
        all
    }

    /// Returns the times of the reads of one kind.
    pub fn reads(&self, depth: bool) -> Vec<f64> {
        let wanted = |action: &Action| match action {
            Action::ReadDepth => depth,
            Action::Describe { .. } => !depth,
            _ => false,
        };
        self.calls.iter().filter(|(_, action)| wanted(action)).map(|(at, _)| *at).collect()
    }
}
