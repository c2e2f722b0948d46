//! The machines as they really are, their workers, and the queue of jobs.

use std::time::Duration;

use rollcall::{
    cloud::{InstanceId, InstanceState},
    fleet::Event,
};

use super::environment::{Environment, Ms, WorldEvent};

/// What the cloud shows of a machine: its state, and whether its latest boot has come up.
type Shown = (InstanceState, Option<bool>);

/// A machine.
pub struct Machine {
    pub id: InstanceId,
    pub token: String,
    pub state: InstanceState,
    boot: u32,
    /// Jobs in progress.
    busy: u32,
    /// It came up and does nothing.
    pub dead: bool,
    idle_since: Ms,
    /// When its latest boot began, and when it came up.
    pub booted: Ms,
    pub up_since: Option<Ms>,
    /// States, each with the time at which it began, and whether the latest boot had come up; `None`: no longer listed.
    past: Vec<(Ms, Option<Shown>)>,
}

impl Machine {
    /// Returns whether it was created before the version that is current at `at`.
    pub fn is_outdated(&self, at: Ms, upgrade: Option<Ms>) -> bool {
        upgrade.is_some_and(|upgrade| self.past[0].0 < upgrade && upgrade <= at)
    }

    /// Returns what the cloud showed at `at`.
    pub fn shown(&self, at: Ms) -> Option<Shown> {
        self.past.iter().rev().find(|(since, _)| *since <= at)?.1
    }
}

#[derive(Default)]
pub struct Cluster {
    pub machines: Vec<Machine>,
    pub visible: u32,
    pub in_flight: u32,
    /// Workers that were terminated while they worked.
    pub killed: Vec<InstanceId>,
    /// When each boot began.
    pub boots: Vec<Ms>,
}

impl Cluster {
    pub fn live(&self) -> usize {
        self.machines.iter().filter(|m| m.state.counts()).count()
    }

    pub fn stopped(&self) -> usize {
        self.machines.iter().filter(|m| m.state == InstanceState::Stopped).count()
    }

    /// Returns whether every job is done and every machine is terminated, or stopped and of the current version.
    pub fn at_rest(&self, env: &Environment) -> bool {
        let resting = |m: &Machine| match m.state {
            InstanceState::Terminated => true,
            InstanceState::Stopped => !m.is_outdated(env.now, env.plan.upgrade),
            _ => false,
        };
        self.visible + self.in_flight == 0 && self.machines.iter().all(resting)
    }

    fn set(&mut self, m: usize, state: InstanceState, env: &mut Environment) {
        let machine = &mut self.machines[m];
        machine.state = state;
        if state == InstanceState::Running {
            machine.up_since = Some(env.now);
        }
        let came_up = (state != InstanceState::Pending).then_some(machine.up_since.is_some());
        machine.past.push((env.now, Some((state, came_up))));
        env.log_line(|| format!("{} is {state:?}", machine.id));
        if env.plan.tells_changes {
            env.outbox.push(Event::Changed);
        }
    }

    // ------------------------------------------------------------ what the cloud does

    /// Creates a machine and boots it.
    pub fn create(&mut self, token: &str, env: &mut Environment) -> InstanceId {
        let m = self.machines.len();
        let id = InstanceId(format!("i-{m}"));
        self.machines.push(Machine {
            id: id.clone(),
            token: token.to_owned(),
            state: InstanceState::Pending,
            boot: 0,
            busy: 0,
            dead: false,
            idle_since: 0,
            booted: env.now,
            up_since: None,
            past: vec![(env.now, Some((InstanceState::Pending, None)))],
        });
        self.boot(m, env);
        id
    }

    /// Starts a stopped machine.
    pub fn restart(&mut self, m: usize, env: &mut Environment) {
        self.set(m, InstanceState::Pending, env);
        self.boot(m, env);
    }

    fn boot(&mut self, m: usize, env: &mut Environment) {
        let machine = &mut self.machines[m];
        machine.boot += 1;
        (machine.busy, machine.dead) = (0, false);
        (machine.booted, machine.up_since) = (env.now, None);
        let boot = machine.boot;
        let after = 1 + env.rng.below(env.plan.boot);
        self.boots.push(env.now);
        if env.plan.broken.as_ref().is_some_and(|broken| broken.contains(&env.now)) {
            env.count("failed boot");
            match env.rng.below(3) {
                0 => {} // it hangs
                1 => env.schedule(after, WorldEvent::Gone { machine: m }),
                _ => env.schedule(after, WorldEvent::PowerOff { machine: m, boot }),
            }
        } else if env.draw_fault(env.plan.faults.never_up) {
            env.count("never up");
            if env.rng.percent(50) {
                env.schedule(after, WorldEvent::Gone { machine: m }); // it ends by itself
            }
        } else {
            env.schedule(after, WorldEvent::Up { machine: m, boot });
        }
    }

    /// Terminates a machine. Its worker gets a signal and returns its jobs, which is in order if it is to be replaced.
    pub fn terminate(&mut self, m: usize, is_replaced: bool, env: &mut Environment) {
        let machine = &self.machines[m];
        if machine.busy > 0 && !machine.dead && !is_replaced {
            self.killed.push(machine.id.clone());
        }
        if machine.state.counts() {
            self.return_jobs(m, env);
            self.set(m, InstanceState::ShuttingDown, env);
            let down = env.rng.below(env.plan.stop_time + 1);
            env.schedule(down, WorldEvent::Gone { machine: m });
        }
    }

    /// Stops a machine whose worker has failed before it was ready.
    pub fn power_off(&mut self, m: usize, boot: u32, env: &mut Environment) {
        if self.machines[m].boot == boot && self.machines[m].state == InstanceState::Pending {
            self.set(m, InstanceState::Stopping, env);
            let down = env.rng.below(env.plan.stop_time + 1);
            env.schedule(down, WorldEvent::Down { machine: m, boot });
        }
    }

    pub fn gone(&mut self, m: usize, env: &mut Environment) {
        self.set(m, InstanceState::Terminated, env);
    }

    /// Ends a machine, which is then no longer listed.
    pub fn vanish(&mut self, m: usize, env: &mut Environment) {
        env.count("vanished");
        self.return_jobs(m, env);
        self.set(m, InstanceState::Terminated, env);
        if let Some(last) = self.machines[m].past.last_mut() {
            last.1 = None;
        }
    }

    pub fn down(&mut self, m: usize, boot: u32, env: &mut Environment) {
        if self.machines[m].boot == boot && self.machines[m].state == InstanceState::Stopping {
            self.set(m, InstanceState::Stopped, env);
        }
    }

    // ------------------------------------------------------------ what workers do

    pub fn arrive(&mut self, jobs: u32, env: &mut Environment) {
        self.visible += jobs;
        if self.machines.iter().any(|m| m.state == InstanceState::Stopping) {
            env.count("work during a drain");
        }
        self.hand_out(env);
        let waiting = u64::from(self.visible + self.in_flight);
        if env.rng.percent(70) {
            env.outbox.push(Event::Hint { waiting });
        }
    }

    fn hand_out(&mut self, env: &mut Environment) {
        let threads = env.plan.rules.threads as u32;
        for m in 0..self.machines.len() {
            let machine = &mut self.machines[m];
            while self.visible > 0 && machine.state == InstanceState::Running && machine.busy < threads && !machine.dead
            {
                self.visible -= 1;
                self.in_flight += 1;
                machine.busy += 1;
                let service = 1 + env.rng.below(env.plan.service);
                env.schedule(service, WorldEvent::Finish { machine: m, boot: machine.boot });
            }
        }
    }

    pub fn up(&mut self, m: usize, boot: u32, env: &mut Environment) {
        if self.machines[m].boot != boot || self.machines[m].state != InstanceState::Pending {
            return;
        }
        self.set(m, InstanceState::Running, env);
        let faults = env.plan.faults;
        if env.draw_fault(faults.comes_up_dead) {
            env.count("came up dead");
            self.machines[m].dead = true;
            return;
        }
        if env.draw_fault(faults.vanish) {
            let at = env.rng.below(5000);
            env.schedule(at, WorldEvent::Vanish { machine: m });
        }
        self.rest(m, env);
        self.hand_out(env);
    }

    pub fn finish(&mut self, m: usize, boot: u32, env: &mut Environment) {
        let machine = &mut self.machines[m];
        if machine.boot != boot || machine.busy == 0 {
            return;
        }
        machine.busy -= 1;
        self.in_flight -= 1;
        self.rest(m, env);
        self.hand_out(env);
        let worker = self.machines[m].id.clone();
        let busy = Duration::from_millis(env.plan.service / 2);
        env.outbox.push(Event::Served { worker, jobs: 1, busy });
    }

    fn rest(&mut self, m: usize, env: &mut Environment) {
        let machine = &mut self.machines[m];
        machine.idle_since = env.now;
        env.schedule(env.plan.idle, WorldEvent::Idle { machine: m, boot: machine.boot });
    }

    /// Stops the machine of a worker that has been idle for long enough.
    pub fn idle(&mut self, m: usize, boot: u32, env: &mut Environment) {
        let machine = &self.machines[m];
        let idle = machine.busy == 0 && machine.idle_since + env.plan.idle <= env.now;
        if machine.boot == boot && machine.state == InstanceState::Running && idle {
            self.set(m, InstanceState::Stopping, env);
            let down = env.rng.below(env.plan.stop_time + 1);
            if env.draw_fault(env.plan.faults.stop_stuck) {
                env.count("stop stuck");
            } else {
                env.schedule(down, WorldEvent::Down { machine: m, boot });
            }
        }
    }

    /// Returns the jobs of a machine that ends to the queue.
    fn return_jobs(&mut self, m: usize, env: &mut Environment) {
        let jobs = std::mem::take(&mut self.machines[m].busy);
        self.in_flight -= jobs;
        self.visible += jobs;
        if jobs > 0 {
            self.hand_out(env);
        }
    }
}
