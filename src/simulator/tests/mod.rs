//! The simulated cloud, driven by a controller that follows a script.

mod adaptive;
mod calls;
mod following;
mod instances;
mod run;
mod workers;

use std::{cell::RefCell, collections::VecDeque, rc::Rc, time::Duration};

use super::{
    Arrival, Boot, CloudModel, Faults, History, Sample, Service, Time, Trace,
    controller::{Controller, Decision},
    simulation::Simulation,
    state::CloudState,
    usage::Usage,
};
use rollcall_fleet::{Action, Depth, Event, IdleStop, Instance};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Returns a cloud without faults, lags or randomness, except that the times of calls, stops and shutdowns vary.
fn model() -> CloudModel {
    CloudModel {
        boot: Boot { cold: s(25), warm: s(15), sigma: 0.0, slow_share: 0.0, slow_factor: 3.0, pending_share: 0.4 },
        service: Service { median: s(1), sigma: 0.0 },
        faults: Faults { capacity: 0.0, boot: 0.0, lost_answers: 0.0, crash: 0.0 },
        stopping: s(20),
        shutting_down: s(30),
        call_latency: ms(2),
        describe_lag: Duration::ZERO,
        count_lag: Duration::ZERO,
        queue_latency: ms(2),
        poll_delay: Duration::ZERO,
        cron: Duration::ZERO,
        worker_start: Duration::ZERO,
        hints: false,
        warm: 0,
        threads: 1,
        visibility: s(30),
        queue_quota: None,
        web_nodes: 1,
        linger: ms(20),
        name_prefix: "x-".to_owned(),
    }
}

/// Jobs of one second at the given times.
fn trace(length: u64, arrivals: &[Time]) -> Trace {
    let arrivals = arrivals.iter().map(|at| Arrival { at: *at, service: s(1) }).collect();
    Trace { name: "test".to_owned(), length: s(length), arrivals }
}

fn launch(count: usize) -> Action {
    Action::Launch { token: "token".to_owned(), count }
}

/// Sends each action at its time, and records what it receives.
struct Script {
    actions: VecDeque<(Time, Action)>,
    received: Rc<RefCell<Vec<(Time, Event)>>>,
}

impl Controller for Script {
    fn step(&mut self, event: Event, now: Time) -> Decision {
        self.received.borrow_mut().push((now, event));
        let mut actions = Vec::new();
        while let Some((_, action)) = self.actions.pop_front_if(|(at, _)| *at <= now) {
            actions.push(action);
        }
        Decision { actions, wake_at: self.actions.front().map(|(at, _)| *at) }
    }
}

/// The result of a run.
struct Outcome {
    history: History,
    usage: Usage,
    received: Vec<(Time, Event)>,
}

impl Outcome {
    /// Returns the sample that holds at `at`.
    fn at(&self, at: Time) -> Sample {
        self.history.samples.iter().rfind(|sample| sample.at <= at).copied().unwrap_or_default()
    }

    /// Returns when the condition first held.
    fn first(&self, condition: impl Fn(&Sample) -> bool) -> Time {
        self.history.samples.iter().find(|sample| condition(sample)).expect("the condition holds at some time").at
    }

    /// Returns the descriptions received, in order.
    fn described(&self) -> Vec<Vec<Instance>> {
        let described = self.received.iter().filter_map(|(_, event)| match event {
            Event::Described { result, .. } => Some(result.clone().expect("described")),
            _ => None,
        });
        described.collect()
    }

    /// Returns the depths of the queue that were read, in order.
    fn depths(&self) -> Vec<Depth> {
        let depths = self.received.iter().filter_map(|(_, event)| match event {
            Event::Depth(depth) => Some(depth.clone().expect("read")),
            _ => None,
        });
        depths.collect()
    }

    fn starts(&self) -> Vec<Time> {
        self.history.jobs.iter().map(|job| job.started_at.expect("the job was begun")).collect()
    }
}

/// Runs a script with workers that wait forever. The trace begins at virtual time zero.
fn run(model: &CloudModel, trace: &Trace, script: Vec<(Time, Action)>, seed: u64) -> Outcome {
    run_with_idle_stop(model, None, trace, script, seed)
}

fn run_with_idle_stop(
    model: &CloudModel,
    idle_stop: Option<IdleStop>,
    trace: &Trace,
    script: Vec<(Time, Action)>,
    seed: u64,
) -> Outcome {
    let received = Rc::default();
    let controller = Box::new(Script { actions: script.into(), received: Rc::clone(&received) });
    let cloud = CloudState::new(model, idle_stop, trace, Time::ZERO, seed);
    let (history, usage) = Simulation::new(cloud, controller).run();
    Outcome { history, usage, received: received.take() }
}
