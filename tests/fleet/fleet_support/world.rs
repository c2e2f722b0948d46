//! A small cloud on virtual time, with everything that goes wrong in one, drawn from a seed. It drives a [`FleetCore`]
//! and watches over what the core promises, at every step.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use rollcall::{
    cloud::{CloudError, CloudResult, Depth, Instance, InstanceId, InstanceState},
    fleet::{Action, Event, FleetCore, FleetRules, Timestamp},
};

use super::{
    bugs::Bug,
    plan::{Plan, Rng},
    watch::Watch,
};

/// Milliseconds of virtual time.
pub type Ms = u64;

/// A history that is not over by then never ends.
const LIMIT: Ms = 3_000_000;

/// A machine as it is.
pub struct Machine {
    pub id: InstanceId,
    token: String,
    pub state: InstanceState,
    /// Changes with each boot, so that what was planned for the last one does not happen to this one.
    boot: u32,
    pub busy: bool,
    /// It came up and does nothing.
    pub dead: bool,
    idle_since: Ms,
    /// States with the times they began; `None`: not listed any more.
    past: Vec<(Ms, Option<InstanceState>)>,
}

/// What will happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Arrive(u32),
    Apply(usize),
    Answer(usize),
    Up(usize, u32),
    Finish(usize, u32),
    Idle(usize, u32),
    Down(usize, u32),
    Gone(usize),
    Vanish(usize),
    Crash,
    Restart,
}

/// A call of one controller epoch.
struct Call {
    life: u64,
    action: Action,
    asked: Ms,
    /// The answer is lost, though the call is carried out (or not).
    lost: Option<bool>,
    result: Option<Event>,
}

pub struct World {
    pub now: Ms,
    pub plan: Plan,
    rng: Rng,
    bug: Bug,
    pub machines: Vec<Machine>,
    pub visible: u32,
    pub in_flight: u32,
    agenda: BinaryHeap<Reverse<(Ms, u64, Happening)>>,
    sequence: u64,
    calls: Vec<Call>,
    /// Launches asked for and not carried out, by token.
    pub may_come: BTreeMap<String, usize>,
    by_token: BTreeMap<String, Vec<usize>>,
    life: u64,
    core: Option<FleetCore>,
    wake_at: Option<Timestamp>,
    started: Ms,
    steps: u32,
    pub watch: Watch,
    /// Every event that the controller's last life heard, with its time, if they are kept.
    pub heard: Vec<(Timestamp, Event)>,
    keep_heard: bool,
    /// What happened, in words, if it is told.
    pub events: Option<Vec<String>>,
}

impl World {
    pub fn new(plan: Plan, bug: Bug) -> Self {
        let mut world = Self {
            now: 0,
            rng: Rng::new(plan.seed ^ 0x9e37_79b9_7f4a_7c15),
            bug,
            machines: Vec::new(),
            visible: 0,
            in_flight: 0,
            agenda: BinaryHeap::new(),
            sequence: 0,
            calls: Vec::new(),
            may_come: BTreeMap::new(),
            by_token: BTreeMap::new(),
            life: 0,
            core: None,
            wake_at: None,
            started: 0,
            steps: 0,
            watch: Watch::default(),
            heard: Vec::new(),
            keep_heard: false,
            events: None,
            plan,
        };
        for (at, jobs) in world.plan.arrivals.clone() {
            world.later(at, Happening::Arrive(jobs));
        }
        for at in world.plan.crashes.clone() {
            world.later(at, Happening::Crash);
        }
        world.later(0, Happening::Restart);
        world
    }

    /// Keeps what the controller receives.
    pub fn keeping(mut self) -> Self {
        self.keep_heard = true;
        self
    }

    /// Keeps what happens, in words.
    pub fn telling(mut self) -> Self {
        self.events = Some(Vec::new());
        self
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(events) = &mut self.events {
            events.push(format!("{:>7} ms  {}", self.now, what()));
        }
    }

    pub fn core(&self) -> Option<&FleetCore> {
        self.core.as_ref()
    }

    pub fn rules(&self) -> FleetRules {
        self.bug.rules(&self.plan.rules)
    }

    /// Runs to the end, or to the first broken promise.
    pub fn run(&mut self) -> Result<(), String> {
        while !self.over() {
            if self.now > LIMIT {
                return Err(self.watch.never_ends(self));
            }
            let wake = self.wake();
            let next = self.agenda.peek().map(|Reverse((at, ..))| *at);
            match (next, wake) {
                (Some(at), wake) if wake.is_none_or(|w| at <= w) => {
                    let Some(Reverse((at, _, what))) = self.agenda.pop() else { continue };
                    self.now = self.now.max(at);
                    self.happen(what);
                }
                (_, Some(wake)) => {
                    self.now = wake;
                    self.tell(Event::Tick);
                }
                (_, None) => return Err(self.watch.never_ends(self)),
            }
            let mut watch = std::mem::take(&mut self.watch);
            let checked = watch.check(self);
            self.watch = watch;
            checked?;
        }
        Ok(())
    }

    /// Everything planned has happened, every job is done, and nothing is up or in between.
    fn over(&self) -> bool {
        let kept = self.machines.iter().filter(|m| m.state == InstanceState::Stopped).count();
        self.agenda.is_empty()
            && self.now >= self.plan.calm
            && self.visible + self.in_flight == 0
            && kept <= self.plan.rules.keep_stopped
            && self.machines.iter().all(|m| matches!(m.state, InstanceState::Stopped | InstanceState::Terminated))
            && self.core.as_ref().is_some_and(|core| core.demand() == 0)
    }

    fn later(&mut self, delay: Ms, what: Happening) {
        self.sequence += 1;
        self.agenda.push(Reverse((self.now + delay, self.sequence, what)));
    }

    fn wake(&self) -> Option<Ms> {
        if self.bug == Bug::NoTicks {
            return None;
        }
        self.core.as_ref()?;
        Some((self.started + self.wake_at?.since_start().as_nanos().div_ceil(1_000_000) as Ms).max(self.now))
    }

    /// The controller receives of something and its actions go out.
    fn tell(&mut self, event: Event) {
        let now = Timestamp::new(Duration::from_millis(self.now - self.started));
        let Some(core) = &mut self.core else { return };
        let event = self.bug.event(event);
        if self.keep_heard {
            self.heard.push((now, event.clone()));
        }
        let told = self.events.is_some().then(|| brief(&event));
        let step = core.step(event, now);
        self.wake_at = step.wake_at;
        if let Some(told) = told {
            self.say(|| format!("core receives {told}"));
        }
        for action in self.bug.actions(step.actions, self.sequence) {
            self.say(|| format!("  core says {action:?}"));
            self.ask(action);
        }
        self.steps += 1;
        self.watch.saw("step");
        if self.plan.crash_steps.contains(&self.steps) {
            self.crash();
        }
    }

    fn crash(&mut self) {
        if self.core.take().is_some() {
            self.watch.saw("crash");
            self.say(|| "the controller crashes".to_owned());
            self.life += 1;
            let delay = self.rng.below(3000);
            self.later(delay, Happening::Restart);
        }
    }

    fn trouble(&mut self, percent: u32) -> bool {
        self.now < self.plan.calm && self.rng.percent(percent)
    }

    fn ask(&mut self, action: Action) {
        self.watch.called(self.life, self.now, &action);
        if let Action::Launch { token, count } = &action
            && !self.by_token.contains_key(token)
        {
            self.may_come.insert(token.clone(), *count);
        }
        let lossy = self.plan.faults.lost;
        let lost = self.trouble(lossy).then(|| self.rng.percent(50));
        match lost {
            Some(true) => self.watch.saw("answer lost"),
            Some(false) => self.watch.saw("call lost"),
            None => {}
        }
        let call = self.calls.len();
        self.calls.push(Call { life: self.life, action, asked: self.now, lost, result: None });
        let apply = self.rng.below(self.plan.call_delay + 1);
        // The answer of a lost call may come before the call is carried out.
        let answer = if lost.is_some() { self.rng.below(self.plan.call_delay + 1) } else { apply };
        self.later(apply, Happening::Apply(call));
        self.later(answer, Happening::Answer(call));
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrive(jobs) => {
                self.visible += jobs;
                if self.machines.iter().any(|m| m.state == InstanceState::Stopping) {
                    self.watch.saw("work during a drain");
                }
                self.hand_out();
                let waiting = u64::from(self.visible + self.in_flight);
                if self.rng.percent(70) {
                    self.tell(Event::Hint { waiting });
                }
            }
            Happening::Apply(call) => self.apply(call),
            Happening::Answer(call) => self.answer(call),
            Happening::Up(m, boot) => self.up(m, boot),
            Happening::Finish(m, boot) => self.finish(m, boot),
            Happening::Idle(m, boot) => self.idle(m, boot),
            Happening::Down(m, boot) => {
                if self.machines[m].boot == boot && self.machines[m].state == InstanceState::Stopping {
                    self.set(m, InstanceState::Stopped);
                }
            }
            Happening::Gone(m) => self.set(m, InstanceState::Terminated),
            Happening::Vanish(m) => {
                self.watch.saw("vanished");
                self.lose_job(m);
                self.set(m, InstanceState::Terminated);
                if let Some(last) = self.machines[m].past.last_mut() {
                    last.1 = None;
                }
            }
            Happening::Crash => self.crash(),
            Happening::Restart => {
                let epoch = self.bug.epoch(self.life);
                self.started = self.now;
                self.core = Some(FleetCore::new(self.rules(), epoch));
                self.heard.clear();
                self.tell(Event::Tick);
            }
        }
    }

    fn set(&mut self, m: usize, state: InstanceState) {
        let machine = &mut self.machines[m];
        machine.state = state;
        machine.past.push((self.now, Some(state)));
        let id = machine.id.clone();
        self.say(|| format!("{id} is {state:?}"));
        if self.plan.tells_changes && self.core.is_some() {
            self.tell(Event::Changed);
        }
    }

    // ------------------------------------------------------------ workers

    fn hand_out(&mut self) {
        for m in 0..self.machines.len() {
            let machine = &self.machines[m];
            if self.visible > 0 && machine.state == InstanceState::Running && !machine.busy && !machine.dead {
                self.visible -= 1;
                self.in_flight += 1;
                self.machines[m].busy = true;
                let (service, boot) = (1 + self.rng.below(self.plan.service), self.machines[m].boot);
                self.later(service, Happening::Finish(m, boot));
            }
        }
    }

    fn rest(&mut self, m: usize) {
        self.machines[m].idle_since = self.now;
        let boot = self.machines[m].boot;
        self.later(self.plan.idle, Happening::Idle(m, boot));
    }

    fn up(&mut self, m: usize, boot: u32) {
        if self.machines[m].boot != boot || self.machines[m].state != InstanceState::Pending {
            return;
        }
        self.set(m, InstanceState::Running);
        let (vanish, die) = (self.plan.faults.vanish, self.plan.faults.comes_up_dead);
        if self.trouble(die) {
            self.watch.saw("came up dead");
            self.machines[m].dead = true;
            return;
        }
        if self.trouble(vanish) {
            let at = self.rng.below(5000);
            self.later(at, Happening::Vanish(m));
        }
        self.rest(m);
        self.hand_out();
    }

    fn finish(&mut self, m: usize, boot: u32) {
        if self.machines[m].boot != boot || !self.machines[m].busy {
            return;
        }
        self.machines[m].busy = false;
        self.in_flight -= 1;
        self.rest(m);
        self.hand_out();
        let worker = self.machines[m].id.clone();
        let busy = Duration::from_millis(self.plan.service / 2);
        self.tell(Event::Served { worker, jobs: 1, busy });
    }

    fn idle(&mut self, m: usize, boot: u32) {
        let machine = &self.machines[m];
        let since = machine.idle_since + self.plan.idle <= self.now;
        if machine.boot == boot && machine.state == InstanceState::Running && !machine.busy && since {
            self.set(m, InstanceState::Stopping);
            let down = self.rng.below(self.plan.stop_time + 1);
            let stuck = self.plan.faults.stop_stuck;
            if self.trouble(stuck) {
                self.watch.saw("stop stuck");
            } else {
                self.later(down, Happening::Down(m, boot));
            }
        }
    }

    /// The job of a machine that goes away is delivered again.
    fn lose_job(&mut self, m: usize) {
        if std::mem::take(&mut self.machines[m].busy) {
            self.in_flight -= 1;
            self.visible += 1;
            self.hand_out();
        }
    }

    // ------------------------------------------------------------ calls

    fn answer(&mut self, call: usize) {
        let Call { life, action, lost, .. } = &self.calls[call];
        if *life != self.life || self.core.is_none() {
            return;
        }
        let gone = || CloudError::Unavailable("no answer".into());
        let event = match (lost, action) {
            (None, _) => self.calls[call].result.take(),
            (Some(_), Action::ReadDepth) => Some(Event::Depth(Err(gone()))),
            (Some(_), Action::Describe { generation }) => {
                Some(Event::Described { generation: *generation, result: Err(gone()) })
            }
            (Some(_), Action::Launch { token, .. }) => {
                Some(Event::Launched { token: token.clone(), result: Err(gone()) })
            }
            (Some(_), Action::Start { ids }) => {
                Some(Event::Started { results: ids.iter().map(|id| (id.clone(), Err(gone()))).collect() })
            }
            (Some(_), Action::Terminate { ids, .. }) => {
                Some(Event::Terminated { results: ids.iter().map(|id| (id.clone(), Err(gone()))).collect() })
            }
        };
        if let Some(event) = event {
            self.tell(event);
        }
    }

    fn apply(&mut self, call: usize) {
        let (action, lost, asked) = {
            let call = &self.calls[call];
            (call.action.clone(), call.lost, call.asked)
        };
        if let Action::Launch { token, .. } = &action {
            let others =
                |c: &Call| matches!(&c.action, Action::Launch { token: t, .. } if t == token) && c.asked > asked;
            if !self.calls.iter().any(others) {
                self.may_come.remove(token);
            }
        }
        if lost == Some(false) {
            return; // it never arrived
        }
        let result = match action {
            Action::ReadDepth => {
                let (visible, in_flight) = (self.visible.into(), self.in_flight.into());
                Event::Depth(Ok(Depth { visible, in_flight, delayed: 0 }))
            }
            Action::Describe { generation } => Event::Described { generation, result: Ok(self.picture()) },
            Action::Launch { token, count } => {
                let result = self.launch(&token, count);
                Event::Launched { token, result }
            }
            Action::Start { ids } => {
                let results = ids.into_iter().map(|id| (id.clone(), self.start(&id))).collect();
                Event::Started { results }
            }
            Action::Terminate { ids, .. } => {
                let results = ids.into_iter().map(|id| (id.clone(), self.terminate(&id))).collect();
                Event::Terminated { results }
            }
        };
        self.calls[call].result = Some(result);
    }

    /// The machines as they were some time ago.
    fn picture(&mut self) -> Vec<Instance> {
        let at = self.now - self.rng.below(self.plan.staleness + 1).min(self.now);
        let instance = |m: &Machine| {
            let state = m.past.iter().rev().find(|(since, _)| *since <= at)?.1?;
            Some(Instance {
                id: m.id.clone(),
                name: m.id.0.clone(),
                state,
                token: m.token.clone(),
                pid: None,
                reason: None,
            })
        };
        self.machines.iter().filter_map(instance).collect()
    }

    fn find(&self, id: &InstanceId) -> CloudResult<usize> {
        self.machines.iter().position(|m| m.id == *id).ok_or_else(|| CloudError::NotFound(id.to_string()))
    }

    pub fn live(&self) -> usize {
        self.machines.iter().filter(|m| m.state.counts()).count()
    }

    fn launch(&mut self, token: &str, count: usize) -> CloudResult<Vec<InstanceId>> {
        if let Some(made) = self.by_token.get(token) {
            return Ok(made.iter().map(|m| self.machines[*m].id.clone()).collect());
        }
        let faults = self.plan.faults;
        if self.trouble(faults.throttled) {
            self.watch.saw("throttled");
            return Err(CloudError::Throttled);
        }
        if self.trouble(faults.no_capacity) {
            self.watch.saw("no capacity");
            return Err(CloudError::NoCapacity("none".into()));
        }
        let mut count = count;
        if self.now < self.plan.calm {
            if let Some(quota) = self.plan.quota
                && self.live() + count > quota
            {
                self.watch.saw("quota");
                return Err(CloudError::Quota("full".into()));
            }
            if count > 1 && self.rng.percent(faults.partial) {
                self.watch.saw("in part");
                count = 1 + self.rng.below(count as u64 - 1) as usize;
            }
        }
        let first = self.machines.len();
        for n in first..first + count {
            self.machines.push(Machine {
                id: InstanceId(format!("i-{n}")),
                token: token.to_owned(),
                state: InstanceState::Pending,
                boot: 0,
                busy: false,
                dead: false,
                idle_since: 0,
                past: vec![(self.now, Some(InstanceState::Pending))],
            });
            self.boot(n);
        }
        self.may_come.remove(token);
        self.by_token.insert(token.to_owned(), (first..first + count).collect());
        Ok((first..first + count).map(|m| self.machines[m].id.clone()).collect())
    }

    fn boot(&mut self, m: usize) {
        let faults = self.plan.faults;
        self.machines[m].boot += 1;
        let (boot, dead) = (self.machines[m].boot, false);
        (self.machines[m].busy, self.machines[m].dead) = (false, dead);
        let after = 1 + self.rng.below(self.plan.boot);
        if self.trouble(faults.never_up) {
            self.watch.saw("never up");
            if self.rng.percent(50) {
                self.later(after, Happening::Gone(m)); // it ends by itself
            }
        } else {
            self.later(after, Happening::Up(m, boot));
        }
    }

    fn start(&mut self, id: &InstanceId) -> CloudResult<()> {
        let m = self.find(id)?;
        match self.machines[m].state {
            InstanceState::Pending | InstanceState::Running => Ok(()),
            InstanceState::Stopped => {
                let faults = self.plan.faults;
                if self.trouble(faults.no_capacity) {
                    return Err(CloudError::NoCapacity("none".into()));
                }
                if self.trouble(faults.throttled) {
                    return Err(CloudError::Throttled);
                }
                self.set(m, InstanceState::Pending);
                self.boot(m);
                Ok(())
            }
            state => Err(CloudError::Conflict(format!("{state:?}"))),
        }
    }

    fn terminate(&mut self, id: &InstanceId) -> CloudResult<()> {
        let m = self.find(id)?;
        let throttled = self.plan.faults.throttled;
        if self.trouble(throttled) {
            return Err(CloudError::Throttled);
        }
        if self.machines[m].busy && !self.machines[m].dead {
            self.watch.killed.push(id.clone());
        }
        if self.machines[m].state.counts() {
            self.lose_job(m);
            self.set(m, InstanceState::ShuttingDown);
            let down = self.rng.below(self.plan.stop_time + 1);
            self.later(down, Happening::Gone(m));
        }
        Ok(())
    }
}

fn brief(event: &Event) -> String {
    match event {
        Event::Described { result: Ok(instances), .. } => {
            let states: Vec<String> = instances.iter().map(|i| format!("{} {:?}", i.id, i.state)).collect();
            format!("a picture: {states:?}")
        }
        event => format!("{event:?}"),
    }
}
