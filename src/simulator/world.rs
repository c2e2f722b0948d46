//! The run: events of the cloud, the workers and the controller, one after the other on virtual time.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Contender, History, JobIndex, Report, Time, Trace,
    agenda::Agenda,
    controller::Controller,
    ec2::Machines,
    queue::SimQueue,
    random::{Purpose, Random},
    throttle::Throttle,
    usage::Usage,
    workers::Worker,
};
use crate::{
    fleet::{Action, Event, IdleStop, InstanceState},
    settings::{Prices, Settings, Simulate},
};

/// The controller is up for this long when the trace begins, and up to as long again: where a poll, a sweep or cron
/// stands then is a matter of chance.
const LEAD_IN: Time = Time::from_secs(30);
/// Each trace begins with this Monday (UTC), the first one after the Unix epoch: schedules go by it.
const MONDAY: Time = Time::from_secs(4 * 86_400);
/// A run is cut off so long after its trace: something is never answered, or never comes to rest.
const PATIENCE: Time = Time::from_secs(6 * 3600);

/// What can happen. `boot` is the machine's boot it belongs to: after another one it is void.
pub(super) enum What {
    Arrive(JobIndex),
    Visible(JobIndex),
    Answered {
        machine: usize,
        job: JobIndex,
    },
    /// The job's receive has run out after a crash.
    GivenBack(JobIndex),
    Finished {
        machine: usize,
        boot: u32,
        job: JobIndex,
    },
    Crashed {
        machine: usize,
        boot: u32,
    },
    IdleFor {
        machine: usize,
        boot: u32,
        since: Time,
    },
    Turn {
        machine: usize,
        boot: u32,
        to: InstanceState,
    },
    /// The instance is up; its worker is not yet.
    Booted {
        machine: usize,
        boot: u32,
    },
    Ready {
        machine: usize,
        boot: u32,
    },
    /// A worker's call to stop its instance arrives.
    StopSelf {
        machine: usize,
        boot: u32,
    },
    /// A controller's call arrives.
    Call(Action),
    /// Its answer is back.
    Answer(Event),
    /// The controller wanted to be woken; void if it has been asked since.
    Wake {
        asked: u64,
    },
}

/// What a run left.
pub struct Run {
    pub report: Report,
    pub history: History,
}

/// Everything that the simulated world holds.
pub(super) struct World<'a> {
    pub model: &'a Simulate,
    pub threads: usize,
    pub visibility: Time,
    pub idle_limits: Option<IdleStop>,
    trace: &'a Trace,
    pub agenda: Agenda<What>,
    controller: Box<dyn Controller>,
    /// Steps of the controller.
    asked: u64,
    pub queue: SimQueue,
    pub machines: Machines,
    pub throttle: Throttle,
    /// By machine, in a fixed order.
    pub workers: BTreeMap<usize, Worker>,
    /// Workers that have a thread free.
    pub free: BTreeSet<usize>,
    pub usage: Usage,
    history: History,
    /// When the trace begins.
    origin: Time,
    /// Uploads on their way to an answer, and those to come.
    waiting: u64,
    unanswered: usize,
    pub boots: Random,
    pub calls: Random,
    pub lags: Random,
    pub dispatch_rng: Random,
    pub faults: Random,
}

/// Runs `trace` against the settings' fleet, or against the yardstick. The same arguments give the same run.
pub fn simulate(settings: &Settings, contender: Contender, trace: &Trace, seed: u64) -> Run {
    let mut run = World::new(settings, contender, trace, seed).run(&settings.prices);
    run.report.policy = contender.name(settings);
    run.report.trace = trace.name.clone();
    run.report.seed = seed;
    run
}

impl<'a> World<'a> {
    fn new(settings: &'a Settings, contender: Contender, trace: &'a Trace, seed: u64) -> Self {
        let model = &settings.simulate;
        let stream = |purpose| Random::new(seed, purpose);
        let origin = LEAD_IN + stream(Purpose::Clock).up_to(LEAD_IN);
        let mut world = Self {
            model,
            threads: settings.worker.threads,
            visibility: settings.queue.visibility,
            idle_limits: contender.idle_limits(settings),
            trace,
            agenda: Agenda::new(),
            controller: contender.controller(settings, MONDAY - origin),
            asked: 0,
            queue: SimQueue::new(model.count_lag + LEAD_IN),
            machines: Machines::new(&settings.fleet.name_prefix),
            throttle: Throttle::of_ec2(),
            workers: BTreeMap::new(),
            free: BTreeSet::new(),
            usage: Usage::default(),
            history: History::new(trace.arrivals.len()),
            origin,
            waiting: 0,
            unanswered: trace.arrivals.len(),
            boots: stream(Purpose::Boots),
            calls: stream(Purpose::Calls),
            lags: stream(Purpose::Lags),
            dispatch_rng: stream(Purpose::Workers),
            faults: stream(Purpose::Faults),
        };
        for _ in 0..model.warm {
            let machine = world.machines.create("warm", Time::ZERO);
            world.machines.turn(machine, InstanceState::Stopped, Time::ZERO, &mut world.usage);
        }
        for (job, arrival) in trace.arrivals.iter().enumerate() {
            world.agenda.at(world.origin + arrival.at, What::Arrive(job));
        }
        world
    }

    fn run(mut self, prices: &Prices) -> Run {
        let trace_end = self.origin + self.trace.length;
        self.step(Event::Tick);
        while let Some(what) = self.agenda.next() {
            self.happen(what);
            let now = self.agenda.now();
            let counts =
                [InstanceState::Pending, InstanceState::Running, InstanceState::Stopping, InstanceState::Stopped];
            let counts = counts.map(|state| self.machines.count(state));
            self.history.sample(self.since_origin(now), self.queue.depth(), counts);
            let done = now >= trace_end && self.unanswered == 0;
            if done && self.machines.at_rest() || now >= trace_end + PATIENCE {
                break;
            }
        }
        let end = self.agenda.now();
        self.machines.settle_all(end, &mut self.usage);
        for worker in self.workers.values() {
            self.usage.calls.receive += worker.idle_polls(end);
        }
        self.history.end = self.since_origin(end);
        Run { report: Report::new(&self.history, &self.usage, prices), history: self.history }
    }

    fn since_origin(&self, at: Time) -> Time {
        at.saturating_sub(self.origin)
    }

    fn happen(&mut self, what: What) {
        let now = self.agenda.now();
        match what {
            What::Arrive(job) => {
                self.history.job(job).arrived = self.since_origin(now);
                self.waiting += 1;
                self.usage.calls.send += 1;
                self.agenda.after(self.model.queue_latency, What::Visible(job));
                if self.model.hints {
                    self.step(Event::Hint { waiting: self.waiting });
                }
            }
            What::Visible(job) => {
                self.queue.push(job, now);
                self.hand_out();
            }
            What::Answered { machine, job } => {
                self.waiting -= 1;
                self.unanswered -= 1;
                self.history.job(job).answered = Some(self.since_origin(now));
                let worker = self.machines.get(machine).id.clone();
                self.step(Event::Served { worker, jobs: 1, busy: self.service(job) });
            }
            What::GivenBack(job) => {
                self.queue.return_to_queue(job, now);
                self.hand_out();
            }
            What::Finished { machine, boot, job } => self.finished(machine, boot, job),
            What::Crashed { machine, boot } => self.crashed(machine, boot),
            What::IdleFor { machine, boot, since } => self.idle_for(machine, boot, since),
            What::Turn { machine, boot, to } => {
                if self.machines.get(machine).boots == boot {
                    self.turn(machine, to);
                }
            }
            What::Booted { machine, boot } => self.booted(machine, boot),
            What::Ready { machine, boot } => self.ready(machine, boot),
            What::StopSelf { machine, boot } => self.stop_self(machine, boot),
            What::Call(action) => self.call(action),
            What::Answer(event) => self.step(event),
            What::Wake { asked } => {
                if asked == self.asked {
                    self.step(Event::Tick);
                }
            }
        }
    }

    /// Asks the controller, makes the calls it wants, and plans to wake it.
    fn step(&mut self, event: Event) {
        let now = self.agenda.now();
        let step = self.controller.step(event, now);
        for action in step.actions {
            self.begin_call(action);
        }
        self.asked += 1;
        if let Some(at) = step.wake_at {
            self.agenda.at(at.since_start(), What::Wake { asked: self.asked });
        }
    }

    pub fn turn(&mut self, machine: usize, to: InstanceState) {
        self.machines.turn(machine, to, self.agenda.now(), &mut self.usage);
    }

    /// Plans what becomes of a boot.
    pub fn boot(&mut self, machine: usize, median: Time) {
        let boot = self.machines.boot(machine);
        self.turn(machine, InstanceState::Pending);
        let model = &self.model.boot;
        let slow = if self.boots.chance(model.slow_share) { model.slow_factor } else { 1.0 };
        let takes = self.boots.log_normal(median, model.sigma).mul_f64(slow);
        if self.faults.chance(self.model.faults.boot) {
            return; // pending for ever
        }
        let running = What::Turn { machine, boot, to: InstanceState::Running };
        self.agenda.after(takes.mul_f64(model.pending_share), running);
        self.agenda.after(takes, What::Booted { machine, boot });
    }

    /// A thread takes up a job.
    pub fn began(&mut self, job: JobIndex, at: Time) {
        self.history.job(job).began = Some(self.since_origin(at));
    }

    /// How long a job takes on a thread.
    pub fn service(&self, job: JobIndex) -> Time {
        self.trace.arrivals[job].service
    }
}
